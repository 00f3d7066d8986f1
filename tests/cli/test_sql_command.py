"""``fsvc sql``: formats, limits, parameters, files, errors with the user's own text, and what it ends with."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from fsvc.query import interrupts

ROWS = "select id, name from customers@v1 order by id"


def test_a_table_is_aligned_and_says_what_was_cut(history: Any, place: Path) -> None:
    ran = history("sql", "select id, name, amount from customers@v1 where id < 2")
    assert ran.out.splitlines() == ["id  name  amount", " 0  null     0.0", " 1  n1      0.25"]
    assert ran.err == ""
    cut = history("sql", "from customers", "--limit", "3", "--max-columns", "2")
    assert len(cut.out.splitlines()) == 4 and "amount" not in cut.out
    assert "1 more column: --max-columns shows more" in cut.err
    assert "more rows than 3: --limit shows more, -o writes all" in cut.err
    long = history("sql", "from range(200)")
    assert len(long.out.splitlines()) == 101 and "more rows than 100" in long.err
    assert history("sql", "from range(200)", "--limit", "200").err == ""
    assert history("sql", "from customers", "--limit", "0").out.split() == ["id", "name", "amount"]


def test_csv_and_json_come_whole_on_standard_output(history: Any) -> None:
    csv = history("sql", ROWS, "--format", "csv").out.splitlines()
    assert csv[:3] == ['"id","name"', "0,", '1,"n1"'] and len(csv) == 11
    lines = [json.loads(line) for line in history("sql", ROWS, "--format", "json").out.splitlines()]
    assert lines[:2] == [{"id": 0, "name": None}, {"id": 1, "name": "n1"}] and len(lines) == 10
    document = history("sql", ROWS, "--json", "--limit", "4").document
    assert document["rows"] == lines[:4] and document["more_rows"] is True
    assert document["columns"] == [{"name": "id", "type": "BIGINT"}, {"name": "name", "type": "VARCHAR"}]
    assert history("sql", "select 1 a, 2 a", "--json").document["rows"] == [{"a": 1, "a_1": 2}]


def test_json_says_every_kind_of_value(history: Any) -> None:
    query = (
        "select 'q\"\\ é' s, 1.5::float f, 'nan'::double n, null x, true b, date '2026-01-02' d, [1, null] l,"
        " {'k': 'v'} o, 1.10::decimal(5, 2) c, '\\xAA'::blob r, timestamp '2026-01-02 03:04:05' t"
    )
    (row,) = history("sql", query, "--json").document["rows"]
    assert row == {
        "s": 'q"\\ é',
        "f": 1.5,
        "n": "nan",
        "x": None,
        "b": True,
        "d": "2026-01-02",
        "l": [1, None],
        "o": {"k": "v"},
        "c": "1.10",
        "r": {"base64": "qg=="},
        "t": "2026-01-02 03:04:05.000000",
    }


@pytest.mark.parametrize("name", ["o.parquet", "o.arrow", "o.csv", "o.json", "o.tsv"])
def test_files_are_written_whole_or_not_at_all(history: Any, place: Path, name: str) -> None:
    assert history("sql", ROWS, "-o", name).out.startswith(f"{name}: 10 rows, ")
    path = place / name
    if name == "o.parquet":
        found = pq.read_table(path).to_pylist()
    elif name == "o.arrow":
        found = feather.read_table(path).to_pylist()
    elif name == "o.json":
        found = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        cells = [line.split("\t" if name == "o.tsv" else ",") for line in path.read_text().splitlines()[1:]]
        found = [{"id": int(i), "name": name.strip('"') or None} for i, name in cells]
    assert found == [{"id": i, "name": f"n{i}" if i % 3 else None} for i in range(10)]
    before = path.read_bytes()
    assert "is there already" in history("sql", "select 1", "-o", name, code=5).err
    # An error that comes while rows do leaves the old file, and nothing else.
    failing = "select case when i > 99000 then error('half way') else i end from range(100000) t(i)"
    assert "half way" in history("sql", failing, "-o", name, "--force", code=2).err
    assert path.read_bytes() == before
    assert not [
        left for left in place.iterdir() if left.name.startswith((".", name)) and ".part" in left.name
    ]
    history("sql", "select 1 one", "-o", name, "--force")
    assert path.read_bytes() != before


def test_what_cannot_be_written_is_said(history: Any, place: Path) -> None:
    assert "there is no directory" in history("sql", ROWS, "-o", "nowhere/o.csv", code=2).err
    assert "is a directory" in history("sql", ROWS, "-o", ".", "--format", "csv", code=2).err
    assert "no suffix" in history("sql", ROWS, "-o", "o.what", code=2).err
    assert "for people" in history("sql", ROWS, "-o", "o.csv", "--format", "table", code=2).err
    assert "standard output" in history("sql", ROWS, "--format", "parquet", code=2).err
    if os.geteuid():
        (place / "closed").mkdir(mode=0o500)
        assert "permission denied" in history("sql", ROWS, "-o", "closed/o.csv", code=1).err


def test_parameters_bind_by_name_and_in_order(history: Any, place: Path) -> None:
    def ids(query: str, *given: str) -> list[int]:
        words = [word for text in given for word in ("--param", text)]
        return [row["id"] for row in history("sql", query, *words, "--json").document["rows"]]

    assert ids("select id from customers where id < $n order by 1", "n=2") == [0, 1]
    assert ids("select id from customers where name = ? or id = ? order by 1", "n4", "7") == [4, 7]
    assert ids("select id from customers where name = $who", 'who="n4"') == [4]
    assert ids(
        "select id from customers where name is not distinct from $x order by id limit 1", "x=null"
    ) == [0]
    assert ids("select id from customers where name = $x", "x=' or 1=1 --") == []
    (place / "q.sql").write_text("\ufeffselect id from customers where id = $n", encoding="utf-8")
    found = history("sql", "-f", "q.sql", "--param", "n=3", "--json").document["rows"]
    assert found == [{"id": 3}]
    assert "given twice" in history("sql", "select $a", "--param", "a=1", "--param", "a=2", code=2).err
    assert "has no name" in history("sql", "select $a", "--param", "a=1", "--param", "2", code=2).err
    assert "parameters: n" in history("sql", "select $n", code=2).err
    assert "cannot be read" in history("sql", "-f", "none.sql", code=1).err
    assert "a query is wanted" in history("sql", code=2).err


@pytest.fixture
def odd(fsvc: Any, place: Path) -> Any:
    """Feature sets whose names SQL would not take, or would take for something else."""
    fsvc("init")
    for name in ('say "hi"', "select", "order", "a[1]", "x-y"):
        pq.write_table(pa.table({"id": [1, 2], "from": [10, 20], "a[b": [5, 6]}), place / "t.parquet")
        fsvc("commit", f"{name}=t.parquet", "--key", "id", "-m", "m")
    return fsvc


def test_any_name_can_be_asked_for(odd: Any) -> None:
    for name, written in {
        'say "hi"': '"say ""hi"""',
        "select": '"select"',
        "order": "order",
        "a[1]": '"a[1]"',
        "x-y": '"x-y"',
    }.items():
        for revision in ("@v1", "@main"):
            query = f'select "from", "a[b" from {written}{revision} where id = 2'
            rows = odd("sql", query, "--json").document["rows"]
            assert rows == [{"from": 20, "a[b": 6}], (name, revision)
    assert odd("sql", 'select max("from") m from "x-y"', "--json").document["rows"] == [{"m": 20}]


def test_strings_comments_and_operators_stay_as_they_are(history: Any) -> None:
    query = "select 'customers@v9' s, /* customers@v9 */ @ (-5) a, [1] <@ [1, 2] c -- customers@v9"
    assert history("sql", query, "--json").document["rows"] == [{"s": "customers@v9", "a": 5, "c": True}]


def test_revisions_of_every_kind(history: Any, place: Path) -> None:
    (newest, *_, oldest) = history("log", "--json").document["commits"]
    for revision, expected in {
        "v1": 2.25,
        "v2": 9.0,
        "main": 9.0,
        "main~1": 2.25,
        "~2": 2.25,
        "^": 2.25,
        "t1": 2.25,
        oldest["id"]: 2.25,
        oldest["id"][:12]: 2.25,
        f"{{{newest['time']}}}": 9.0,
        "main{2999-01-01T00:00Z}": 9.0,
    }.items():
        found = history("sql", f"select max(amount) m from customers@{revision}", "--json").document["rows"]
        assert found == [{"m": expected}], revision
    assert "was not there at" in history("sql", "from customers@{2001-01-01T00:00Z}", code=4).err


def test_a_prefix_of_several_commits_is_refused(history: Any, place: Path) -> None:
    table = pa.table({"id": [1]})
    for number in range(40):
        pq.write_table(pa.table({"id": [number]}), place / "n.parquet")
        history("commit", "n.parquet", "-m", f"{number}")
    assert table.num_rows == 1
    ids = [commit["id"] for commit in history("log", "--json").document["commits"]]
    shared = next(
        one[:length]
        for length in (8, 7, 6, 5, 4, 3, 2, 1)
        for one in ids
        if sum(other.startswith(one[:length]) for other in ids) > 1 and not one[:length].isdigit()
    )
    ran = history("sql", f"from n@{shared}", code=None)
    assert ran.code in (2, 4) and shared in ran.err and "^" in ran.err


def test_errors_show_the_users_own_text_and_the_place(history: Any) -> None:
    ran = history("sql", "select id,\n  amoun from customers@v1", code=4)
    assert ran.err.splitlines() == [
        "fsvc: there is no column 'amoun' (line 2, column 3)",
        "    amoun from customers@v1",
        "    ^^^^^",
        "hint: did you mean 'amount'?",
    ]
    error = history("sql", "select id,\n  amoun from customers@v1", "--json", code=4).document["error"]
    assert error["kind"] == "NotFound" and "(line 2, column 3)" in error["message"]
    assert error["hint"] == "did you mean 'amount'?"
    assert error["notes"] == ["    amoun from customers@v1", "    ^^^^^"]
    late = history("sql", "select name::int from customers@v1 where id = 1", code=2)
    assert (
        "'n1'" in late.err and "(line 1, column 12)" in late.err and "name::int from customers@v1" in late.err
    )
    assert "did you mean 'customers'?" in history("sql", "from custmers", code=4).err
    assert "the newest on main is customers@v2" in history("sql", "from customers@v7", code=4).err
    assert "syntax error" in history("sql", "selec 1", code=2).err
    assert "does not change them" in history("sql", "delete from customers", code=2).err


def test_types_that_do_not_go_together_are_named_with_their_place(fsvc: Any, place: Path) -> None:
    fsvc("init")
    for values in ([1, 2], ["one", "two"]):
        pq.write_table(pa.table({"id": [1, 2], "a": values}), place / "t.parquet")
        fsvc("commit", "t.parquet", "--key", "id", "-m", "m")
    ran = fsvc("sql", "select a.a + b.a from t@v1 a join t@v2 b using (id)", code=2)
    assert "'one'" in ran.err or "No function matches" in ran.err or "no function matches" in ran.err
    assert "from t@v1 a join t@v2 b using (id)" in ran.err


def test_the_sandbox_of_the_command_line(history: Any, place: Path) -> None:
    (place / "secret.csv").write_text("a\n1\n")
    found = history("sql", "select count(*) n from customers@v1", "--sandbox", "--json").document["rows"]
    assert found == [{"n": 10}]
    for query in (
        "from 'secret.csv'",
        "copy (select 1) to 'out.csv'",
        "with a as (copy (select 1) to 'out.csv') select 1",
    ):
        assert history("sql", query, "--sandbox", code=None).code in (1, 4)
    assert not (place / "out.csv").exists()
    slow = "select count(*) from range(10000000) a, range(10000000) b"
    assert "more than 0.2 s" in history("sql", slow, "--sandbox", "--timeout", "0.2", code=1).err
    assert "add --sandbox" in history("sql", "select 1", "--timeout", "1", code=2).err


ENDLESS = "select count(*) from range(10000000) a, range(10000000) b"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system has no such limit")
@pytest.mark.parametrize("value", ["repeat('x', 2000000000)", "format('{:>1900000000}', 1)"])
def test_one_value_in_the_sandbox_takes_no_more_memory_than_a_query_may(history: Any, value: str) -> None:
    """DuckDB does not count what its functions make, so the process is bounded."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    failed = history("sql", f"select length({value})", "--sandbox", "--memory", "100", code=1)
    assert "more memory than it may take" in failed.err
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_ctrl_c_ends_a_query_with_130(history: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = threading.Thread

    class Interrupting(started):
        """A thread that sends this process Ctrl-C before it works."""

        def run(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            super().run()

    monkeypatch.setattr(interrupts.threading, "Thread", Interrupting)
    ran = history("sql", ENDLESS, code=130)
    assert "interrupted; the repository is whole" in ran.err
    error = history("sql", ENDLESS, "--json", "-o", "o.csv", code=130).document["error"]
    assert error["kind"] == "Interrupted"
    assert not (place / "o.csv").exists()


def test_a_reader_that_goes_away_is_no_error(history: Any, place: Path) -> None:
    command = [sys.executable, "-c", "from fsvc.cli import main; main.main()", "sql"]
    query = [*command, "from range(3000000)", "--format", "csv"]
    with subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == b'"range"\n'
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 141
