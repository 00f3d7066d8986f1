"""``fsvc log``, ``show``, ``ls``, ``head``, ``hash``, ``verify`` and ``stats``."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fsvc as library
from fsvc.cli.describing import change_text


def test_log_is_one_line_per_commit(history):
    lines = history("log").out.splitlines()
    assert len(lines) == 3
    assert (
        "(main)" in lines[0]
        and "new amounts" in lines[0]
        and "customers v2: 1 column changed (amount)" in lines[0]
    )
    assert "(tag t1)" in lines[1] and "with a body" not in "".join(lines)
    assert "Ada" in lines[2] and "ada@example.org" not in lines[2]


def test_log_of_a_feature_set_begins_where_it_is_told(history):
    def messages(*words):
        return [
            commit["message"].splitlines()[0]
            for commit in history("log", "--json", *words).document["commits"]
        ]

    assert messages() == ["new amounts", "rates", "first"]
    assert messages("customers") == ["new amounts", "first"]
    assert messages("customers@t1") == messages("customers", "--at", "main~1") == ["first"]
    assert messages("-n", "1") == ["new amounts"]
    assert messages("rates") == ["rates"]
    assert "did you mean 'customers'?" in history("log", "customer", code=4).err
    assert "fsvc log --at t1" in history("log", "t1", code=4).err
    assert history("log", "-n", "0", code=2).err


def test_log_documents_say_everything(history):
    newest = history("log", "--json").document["commits"][0]
    assert set(newest) == {
        "id", "parents", "author", "time", "message", "metadata", "branches", "tags", "models", "versions",
        "changes", "expired",
    }  # fmt: skip
    assert newest["versions"] == {"customers": 2, "rates": 1}
    assert newest["message"] == "new amounts\n\nwith a body"


def test_the_long_log_has_whole_messages(history):
    text = history("log", "--long").out
    assert "    with a body" in text and f"commit {library.open().head().id} (main)" in text


def test_graphs_leave_out_what_is_not_asked_for(history):
    history("tag", "t2")
    assert [line[0] for line in history("log", "--graph").out.splitlines()] == ["*", "*", "*"]
    assert history("log", "--graph", "customers").out.count("*") == 2
    assert history("log", "--graph", "--long").out.splitlines()[1].startswith("| author")


def test_an_empty_log(fsvc):
    fsvc("init")
    assert fsvc("log").out == "" and "nothing is committed yet" in fsvc("log").err
    assert fsvc("log", "--json").document == {"commits": []}
    assert fsvc("ls", "--json").document == {"commit": None, "feature_sets": []}
    assert fsvc("show", code=4).err


def test_showing_a_commit(history):
    assert history("show").out == history("show", "main").out
    text = history("show", "t1").out
    assert "source=bank" in text and "rates" in text and "unchanged: customers v1" in text
    assert history("show", "t1", "--json").document["metadata"] == {"source": "bank"}
    commit = library.open().head().id
    assert history("show", commit[:10], "--json").document["id"] == commit


def test_showing_a_snapshot(history):
    shown = history("show", "customers@v1", "--json").document
    assert (shown["name"], shown["version"], shown["rows"], shown["key"]) == ("customers", 1, 10, ["id"])
    columns = {column["name"]: column for column in shown["schema"]}
    assert (columns["id"]["min"], columns["id"]["max"], columns["id"]["nulls"]) == (0, 9, 0)
    assert columns["name"]["nulls"] == 4 and columns["name"]["type"] == "string"
    newer = {column["name"]: column for column in history("show", "customers", "--json").document["schema"]}
    assert newer["id"]["digest"] == columns["id"]["digest"]
    assert newer["amount"]["digest"] != columns["amount"]["digest"]
    text = history("show", "customers@v1").out
    assert shown["snapshot"] in text and "10 rows in 1 row group" in text


def test_statistics_belong_to_their_columns_whatever_the_names(fsvc):
    fsvc("init")
    table = pa.table(
        {
            "a": pa.array([{"b": 7, "c": "x"}, None]),
            "a.b": [1, None],
            "kinds": pa.array(["u", "v"]).dictionary_encode(),
            "nothing": pa.nulls(2),
            "f": [math.nan, 1.0],
        }
    )
    pq.write_table(table, "t.parquet")
    fsvc("commit", "t.parquet", "-m", "m")
    columns = {column["name"]: column for column in fsvc("show", "t", "--json").document["schema"]}
    assert (columns["a.b"]["nulls"], columns["a.b"]["min"], columns["a.b"]["max"]) == (1, 1, 1)
    assert columns["a"]["min"] is None and columns["a"]["nulls"] is None
    assert columns["f"]["min"] is None


def test_unknown_things_suggest_the_nearest(history):
    assert "did you mean 'main'?" in history("show", "mian", code=4).err
    assert "did you mean 'main'?" in history("show", "mian~1", code=4).err
    gone = history("show", "main~9", code=4).err
    assert "too far" in gone and "did you mean" not in gone
    assert "did you mean 'customers'?" in history("show", "customer@v1", code=4).err
    assert history("show", "v1", code=2).err
    assert "the newest on main is customers@v2" in history("head", "customers@v9", code=4).err
    assert "NAME@t1" in history("head", "t1", code=4).err


def test_ls(history):
    sets = {one["name"]: one for one in history("ls", "--json").document["feature_sets"]}
    assert sets["customers"]["version"] == 2 and sets["rates"]["rows"] == 2
    assert [one["version"] for one in history("ls", "t1", "--json").document["feature_sets"]] == [1, 1]
    assert history("ls").out.splitlines()[0].split() == [
        "NAME",
        "VERSION",
        "ROWS",
        "COLUMNS",
        "SNAPSHOT",
        "KEY",
    ]


def test_head_prints_rows(history):
    ran = history("head", "customers@v1", "-n", "2")
    assert ran.out.splitlines() == ["id  name  amount", " 0  null     0.0", " 1  n1      0.25"]
    assert ran.err == "... 8 more rows\n"
    document = history("head", "customers@v1", "-n", "2", "--columns", "amount,id", "--json").document
    assert document["rows"] == [{"amount": 0.0, "id": 0}, {"amount": 0.25, "id": 1}]
    assert history("head", "customers@v1", "--columns", "amuont", code=4).err
    assert history("head", "customers", "-n", "0", "--json").document["rows"] == []


def test_head_takes_every_kind_of_value(fsvc):
    fsvc("init")
    far = 2**62
    table = pa.table(
        {
            "nan": [math.nan],
            "inf": [-math.inf],
            "ns": pa.array([1], pa.timestamp("ns", "UTC")),
            "far": pa.array([far], pa.timestamp("us")),
            "day": [datetime.date(2026, 1, 2)],
            "span": pa.array([1], pa.duration("ns")),
            "dec": [decimal.Decimal("1.50")],
            "raw": [b"\x00\xff"],
            "nest": pa.array([{"a": [1, None], "b": "\x1b"}]),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
            "kind": pa.array(["k"]).dictionary_encode(),
            "esc\x1b": ["\x1b[2J"],
            "none": pa.nulls(1),
        }
    )
    with pa.ipc.new_file("t.arrow", table.schema) as writer:
        writer.write_table(table)
    fsvc("commit", "t.arrow", "-m", "m")
    ran = fsvc("head", "t")
    assert "\x1b" not in ran.out
    row = fsvc("head", "t", "--json").document["rows"][0]
    assert (row["nan"], row["inf"], row["dec"], row["raw"]) == ("nan", "-inf", "1.50", {"base64": "AP8="})
    assert row["ns"].startswith("1970-01-01 00:00:00.000000001")
    assert row["nest"] == {"a": [1, None], "b": "\x1b"} and row["kind"] == "k" and row["none"] is None
    json.dumps(row, allow_nan=False)
    assert fsvc("show", "t").out and fsvc("show", "t", "--json").document["rows"] == 1


def test_hash_needs_no_repository_and_knows_no_format(fsvc, table):
    pq.write_table(table, "a.parquet")
    pq.write_table(table, "b.parquet", compression="gzip", row_group_size=3)
    lines = fsvc("hash", "a.parquet", "b.parquet", "--key", "id").out.splitlines()
    assert lines[0].split()[0] == lines[1].split()[0] == library.identify(table, key="id").id
    assert lines[0].endswith("  a.parquet")
    assert fsvc("hash", "a.parquet", "--json").document["files"][0]["snapshot"] == library.identify(table).id
    assert fsvc("hash", "no.parquet", code=1).err


def test_hash_tells_what_commit_made(history):
    made = history("show", "customers", "--json").document["snapshot"]
    assert (
        history("hash", "customers.parquet", "--key", "id", "--json").document["files"][0]["snapshot"] == made
    )


def test_verify_finds_damage_and_says_so_in_its_exit_code(history, place):
    assert "no damage found" in history("verify").out
    assert history("verify", "--deep", "--json").document["counts"]["proven"] > 0
    pack = max((place / ".fsvc" / "repository" / "packs").rglob("*.*"), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[40] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    ran = history("verify", "--json", code=6)
    assert ran.document["ok"] is False and ran.document["damages"]
    assert "customers@" in json.dumps(ran.document["damages"])
    assert "damaged" in history("verify", code=6).out


def test_reading_damage_is_corruption(history, place):
    for pack in (place / ".fsvc" / "repository" / "packs").rglob("*.*"):
        data = bytearray(pack.read_bytes())
        data[8 : len(data) // 2] = bytes(len(data) // 2 - 8)
        pack.chmod(0o644)
        pack.write_bytes(data)
    history("head", "customers", code=6)
    history("checkout", "customers", "-o", "x.parquet", code=6)
    history("checkout", "customers", "-o", "x.parquet", "--where", "amount > 1", code=6)
    assert not Path("x.parquet").exists()


def test_stats(history):
    found = history("stats", "--json").document
    assert found["commits"] == 3 and set(found["feature_sets"]) == {"customers", "rates"}
    assert found["feature_sets"]["customers"]["versions"] == 2
    assert "customers" in history("stats").out


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rows": 5, "columns": 2}, "new: 5 rows, 2 columns"),
        ({"rows": 5, "rows_before": 6, "columns": 1, "columns_changed": ["a"]}, "-1 row"),
        ({"rows": 5, "rows_before": 5, "columns": 9, "columns_changed": list("abcde")},
         "5 columns changed (a, b, c, ...)"),
        ({"rows": 5, "rows_before": 5, "columns": 9, "columns_retyped": ["a"], "columns_changed": ["a"]},
         "1 column retyped (a)"),
        ({"rows": 5, "rows_before": 5, "columns_changed": []}, "metadata, key or order changed"),
        ({}, "changed"),
    ],
)  # fmt: skip
def test_changes_in_words(change, text):
    assert change_text(change) == text
