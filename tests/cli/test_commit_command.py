"""``fsvc commit`` and ``fsvc init``."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fsvc as library


def test_init_makes_workspaces_and_bare_repositories(fsvc, place, monkeypatch):
    made = fsvc("init", "--json").document
    assert made["workspace"] == str(place) and made["branch"] == "main"
    assert library.open().project == made["project"]
    assert fsvc("init", code=5).out == ""
    bare = place.parent / "bare"
    document = fsvc("init", str(bare), "--json").document
    assert document["workspace"] is None and document["repository"] == str(bare)
    other = place.parent / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    assert fsvc("init", "--attach", str(bare), "--json").document["project"] == document["project"]
    assert fsvc("init", "x", "--attach", "y", code=2).err
    assert "as its argument" in fsvc("--repo", "x", "init", code=2).err


def test_a_commit_says_what_changed(fsvc, table):
    fsvc("init")
    pq.write_table(table, "customers.parquet")
    first = fsvc("commit", "customers.parquet", "--key", "id", "-m", "first")
    assert "customers v1  new: 10 rows, 3 columns" in first.out
    assert first.err == ""
    more = pa.concat_tables([table, table.set_column(0, "id", pa.array(range(10, 20)))])
    pq.write_table(more.append_column("extra", pa.nulls(20, pa.int8())), "customers.parquet")
    done = fsvc("commit", "customers.parquet", "-m", "more", "--json").document
    assert done["created"] is True
    assert done["versions"] == {"customers": 2} and done["branches"] == ["main"]
    change = done["changes"]["customers"]
    assert (change["rows_before"], change["rows"], change["columns_added"]) == (10, 20, ["extra"])
    assert done["id"] == library.open().head().id
    assert library.open().snapshot("customers").key == ("id",)


def test_nothing_changed_is_no_error_and_no_commit(history):
    before = history("log", "--json").document
    ran = history("commit", "customers.parquet", "-m", "again")
    assert ran.out.startswith("nothing changed: ")
    assert history("commit", "customers.parquet", "-m", "again", "--json").document["created"] is False
    assert history("log", "--json").document == before
    assert (
        history("commit", "customers.parquet", "-m", "again", "--allow-empty", "--json").document["created"]
        is True
    )


def test_a_dry_run_commits_nothing(history, table):
    before = history("log", "--json").document
    pq.write_table(table.drop_columns("name"), "customers.parquet")
    assert (
        "would commit customers v3  1 column removed (name)"
        in history("commit", "customers.parquet", "--dry-run").out
    )
    planned = history("commit", "customers.parquet", "--dry-run", "--json").document
    assert history("log", "--json").document == before
    assert planned["dry_run"] is True and planned["versions"]["customers"] == 3
    made = history("commit", "customers.parquet", "-m", "m", "--json").document
    assert made["changes"] == planned["changes"]
    assert library.open().snapshot("customers").id == planned["snapshots"]["customers"]
    assert history("commit", "customers.parquet", "--dry-run").out == "nothing would change\n"


def test_names_come_from_files_options_and_what_is_tracked(fsvc, place, table):
    fsvc("init")
    pq.write_table(table, "a.parquet")
    (place / "b.csv").write_text("x\n1\n")
    folder = place / "parts"
    folder.mkdir()
    for i in range(2):
        pq.write_table(table.slice(5 * i, 5), folder / f"{i}.parquet")
    done = fsvc(
        "commit", "other=a.parquet", "b.csv", "parts", "glob=parts/*.parquet", "-m", "m", "--json"
    ).document
    assert done["versions"] == {"other": 1, "b": 1, "parts": 1, "glob": 1}
    ids = {name: library.open().snapshot(name).id for name in ("other", "parts", "glob")}
    assert len(set(ids.values())) == 1
    assert list(fsvc("commit", "a.parquet", "--name", "third", "-m", "m", "--json").document["changes"]) == [
        "third"
    ]
    pq.write_table(table.slice(1), "a.parquet")
    # The file was last committed as this one.
    assert list(fsvc("commit", "a.parquet", "-m", "m", "--json").document["changes"]) == ["third"]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["a.parquet"], 2, "needs a message"),
        (["a.parquet", "-m", "  "], 2, "needs a message"),
        (["-m", "m"], 2, "missing argument"),
        (["-", "-m", "m"], 2, "standard input"),
        (["x=-", "-m", "m"], 2, "standard input"),
        (["a.parquet", "a=a.parquet", "-m", "m"], 2, "would both be feature set 'a'"),
        (["a.parquet", "b.parquet", "--name", "x", "-m", "m"], 2, "--name is for one path"),
        (["*.parquet", "-m", "m"], 2, "gives no name"),
        (["no.parquet", "-m", "m"], 1, "does not exist"),
        (["a/b=a.parquet", "-m", "m"], 1, "does not exist"),
        (["v3=a.parquet", "-m", "m"], 2, "cannot be called 'v3'"),
        (["a.parquet", "--key", "nope", "-m", "m"], 1, "nope"),
        (["a.parquet", "--key", "name", "-m", "m"], 1, "name"),
        (["a.parquet", "--key", "id,,", "-m", "m"], 1, "id,"),
        (["a.parquet", "--key", "id, ,name", "-m", "m"], 2, "empty name"),
        (["a.parquet", "--meta", "x", "-m", "m"], 2, "--meta KEY=VALUE"),
        (["a.parquet", "--meta", "x=1", "--meta", "x=2", "-m", "m"], 2, "twice"),
        (["a.parquet", "--tag", "v1", "-m", "m"], 2, "v1"),
        (["a.parquet", "--threads", "0", "-m", "m"], 2, "threads"),
    ],
)
def test_what_cannot_be_committed(fsvc, table, words, code, why):
    fsvc("init")
    pq.write_table(table, "a.parquet")
    ran = fsvc("commit", *words, code=code)
    assert why in ran.err + ran.out
    assert fsvc("log", "--json").document == {"commits": []}


def test_options_reach_the_commit(fsvc, table):
    fsvc("init")
    pq.write_table(table.take(list(reversed(range(10)))), "a.parquet")
    done = fsvc(
        "commit", "a.parquet", "-m", "one", "-m", "two", "--meta", "a=b=c", "--meta", "d=", "--tag", "t/1",
        "--branch", "side", "--sort-by", "id", "--key", "id", "--threads", "1", "--json",
    ).document  # fmt: skip
    assert done["message"] == "one\n\ntwo"
    assert done["metadata"] == {"a": "b=c", "d": ""}
    assert (done["branches"], done["tags"]) == (["side"], ["t/1"])
    snapshot = library.open().snapshot("a@side")
    assert snapshot.key == ("id",) and snapshot.to_arrow().equals(table)
    dropped = fsvc("commit", "a.parquet", "-m", "no key", "--branch", "side", "--key", "", "--json").document
    assert dropped["created"] is True
    assert library.open().snapshot("a@side").key == ()


def test_a_branch_that_is_not_there_is_not_begun_by_a_slip(fsvc, table):
    fsvc("init")
    pq.write_table(table, "a.parquet")
    fsvc("commit", "a.parquet", "-m", "one")
    ran = fsvc("commit", "a.parquet", "-m", "two", "--branch", "mian", code=4)
    assert "'mian'" in ran.err
    assert "did you mean 'main'?" in ran.err
    assert list(library.open().branches()) == ["main"]


def test_types_found_in_text_are_told_on_stderr(fsvc, place):
    fsvc("init")
    (place / "t.csv").write_text("when,n,who\n2026-01-02,1,\x1b[31m\n")
    ran = fsvc("commit", "t.csv", "-m", "m", "--json")
    assert json.loads(ran.out)["created"] is True
    assert ran.err == "t.csv was read as date32[day]: when; int64: n; string: who\n"


def test_working_files_are_recorded(history):
    files = {entry["path"]: entry for entry in history("status", "--all", "--json").document["files"]}
    assert files["customers.parquet"]["state"] == files["rates.csv"]["state"] == "unchanged"
