"""``fsvc checkout``."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

import fsvc as library


def test_a_snapshot_is_written_as_it_was(history, table):
    document = history("checkout", "customers@v1", "-o", "old.parquet", "--json").document
    assert document["written"] is True and document["bytes"] == Path("old.parquet").stat().st_size
    assert pq.read_table("old.parquet").equals(table)
    assert library.identify("old.parquet", key="id").id == document["snapshot"]


def test_without_a_path_the_file_has_the_name(history, place, table, monkeypatch):
    empty = place / "sub"
    empty.mkdir()
    monkeypatch.chdir(empty)
    history("checkout", "customers@v1")
    assert pq.read_table("customers.parquet").equals(table)
    history("checkout", "customers@v1", "--format", "arrow")
    with pa.ipc.open_file("customers.arrow") as reader:
        assert reader.read_all().equals(table)
    history("checkout", "customers@v1", "-o", str(place / "sub"), "--format", "csv")
    assert pc.read_csv("customers.csv").column_names == ["id", "name", "amount"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("x.pq", "parquet"), ("x.feather", "arrow"), ("x.arrows", "arrow"), ("x.TSV", "csv"), ("x", "parquet")],
)
def test_the_suffix_says_the_format(history, name, kind):
    assert history("checkout", "customers@v1", "-o", name, "--json").document["format"] == kind
    if kind != "csv":
        assert library.identify(name, key="id").id == library.open().snapshot("customers@v1").id
    else:
        assert Path(name).read_text().splitlines()[1].count("\t") == 2


def test_nothing_that_differs_is_overwritten(history, table):
    history("checkout", "customers@v1", "-o", "old.parquet")
    again = history("checkout", "customers@v1", "-o", "old.parquet", "--json").document
    assert again["written"] is False
    before = Path("old.parquet").read_bytes()
    ran = history("checkout", "customers@v2", "-o", "old.parquet", code=5)
    assert "--force" in ran.err and Path("old.parquet").read_bytes() == before
    history("checkout", "customers@v2", "-o", "old.parquet", "--force")
    assert not pq.read_table("old.parquet").equals(table)
    Path("note.parquet").write_text("mine")
    history("checkout", "customers@v2", "-o", "note.parquet", code=5)
    assert Path("note.parquet").read_text() == "mine"


@pytest.mark.parametrize("name", ["some.parquet", "some.arrow"])
def test_columns_and_rows_can_be_chosen_and_stay_exact(history, name):
    table = pa.table(
        {
            "k": pa.array(range(200_000), pa.int32()),
            "view": pa.array([f"s{i % 7}" for i in range(200_000)], pa.string_view()),
            "kind": pa.array([f"k{i % 5}" for i in range(200_000)]).dictionary_encode(),
            "big": pa.array(range(200_000), pa.decimal256(60, 3)),
        }
    )
    with pa.ipc.new_file("t.arrow", table.schema) as writer:
        writer.write_table(table)
    history("commit", "t.arrow", "-m", "m")
    history(
        "checkout",
        "t",
        "-o",
        name,
        "--columns",
        "big,view,kind",
        "--where",
        "k % 70000 = 69999 or k < 2 -- all",
    )
    found = _read(name)
    assert found.schema.names == ["big", "view", "kind"]
    assert found.schema.field("view").type == pa.string_view()
    for column in found.schema.names:
        values = table[column].to_pylist()
        assert found[column].to_pylist() == [values[row] for row in (0, 1, 69_999, 139_999)]


def _read(name: str) -> pa.Table:
    from fsvc.sources import open_source

    with open_source(name) as source:
        return pa.Table.from_batches(source.batches(), source.schema)


def test_no_row_may_match(history):
    history("checkout", "customers", "-o", "none.parquet", "--where", "id < 0")
    assert pq.read_table("none.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["customers", "-o", "-"], 2, "standard output"),
        (["customers", "-o", "x.xlsx"], 2, "no suffix that says a format"),
        (["customers", "-o", "no/x.parquet"], 2, "there is no directory"),
        (["customers", "-o", "x.parquet", "--where", "id >"], 2, "cannot be used"),
        (["customers", "-o", "x.parquet", "--where", "nope = 1"], 2, "cannot be used"),
        (["customers", "-o", "x.parquet", "--columns", "ids"], 4, "did you mean 'id'?"),
        (["customers@v7", "-o", "x.parquet"], 4, "newest"),
        (["t1", "-o", "x.parquet"], 2, "for one feature set"),
    ],
)
def test_what_cannot_be_checked_out(history, words, code, why):
    ran = history("checkout", *words, code=code)
    assert why in ran.err
    assert not list(Path().glob("x.*")) and not list(Path().glob(".*.part"))


def test_a_revision_fills_the_workspace(history, table):
    ran = history("checkout", "t1", "--json").document
    assert "customers.parquet" in ran["written"]
    assert pq.read_table("customers.parquet").equals(table)
    assert history("checkout", "t1").out.startswith("all files are as in ")


def test_a_revision_needs_a_workspace(history, place, tmp_path, monkeypatch):
    bare = str(place / ".fsvc" / "repository")
    monkeypatch.chdir(tmp_path)
    assert "not a workspace" in history("--repo", bare, "checkout", "main", code=4).err
    history("--repo", bare, "checkout", "customers@v1", "-o", str(tmp_path / "x.parquet"))


def test_a_file_that_holds_the_snapshot_already_does_not_become_the_working_file(history):
    tracked = {"rates.csv": "rates"}
    for _ in range(2):
        history("checkout", "rates@v1")
        files = history("status", "--all", "--json").document["files"]
        assert tracked.items() <= {file["path"]: file["feature_set"] for file in files}.items()
