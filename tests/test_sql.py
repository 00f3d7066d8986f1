"""SQL over snapshots: names, shadowing, errors with the user's own text, the sandbox, attached connections."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fsvc
from fsvc.errors import Corruption, FsvcError, InvalidRevision, InvalidUse, NotAllowed, NotFound
from fsvc.format.index import unpack_meta
from fsvc.query.addresses import find


@pytest.fixture
def repo(tmp_path: Path) -> fsvc.Repository:
    repository = fsvc.init(tmp_path / "repo")
    for factor in (1.0, 2.0):
        table = pa.table({"id": list(range(1000)), "balance": [i * factor for i in range(1000)]})
        repository.commit({"customers": table, 'odd "name"': table.slice(0, 3)}, key="id", message="m")
    repository.tag("release/1.0", "main~1")
    return repository


def certain(text: str) -> list[str]:
    return [mention.text for mention in find(text).mentions if mention.certain]


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("from a@v3, b@~2 join c@release/1.0-x^ using (k)", ["a@v3", "b@~2", "c@release/1.0-x^"]),
        ("  from a@main{2026-11-01 10:00Z}~1", ["a@main{2026-11-01 10:00Z}~1"]),
        ("select a@v3.balance, a@v3.* from a@v3", ["a@v3"] * 3),
        ('from "odd ""name"""@v3', ['odd "name"@v3']),
        ("from date@v1", ["date@v1"]),
        ("from é@ü", ["é@ü"]),
        ("from a@v3--x\n, b@v2/*y*/;", ["a@v3", "b@v2"]),
        ("select @x, a @b, c <@ d, e @> f, g@-5", []),
        ("select 'a@v1', $$ a@v1 $$, e'\\'a@v1' -- a@v1\n /* a@v1 */", []),
        ("select t.a@v1", []),
    ],
)
def test_addresses_are_found(text: str, addresses: list[str]) -> None:
    assert certain(text) == addresses


PIECES = st.sampled_from(
    [
        "'it''s a@v1'",
        "-- a@v1\n",
        "/* a@v1 */",
        "$$ a@v1 $$",
        '"a@v1"',
        "select ",
        " @x ",
        "a.b",
        " <@ ",
        "é",
        "1.5",
    ]
)


@given(st.lists(st.tuples(PIECES, st.booleans()), max_size=12))
def test_nothing_but_addresses_is_touched(pieces: list[tuple[str, bool]]) -> None:
    text = "".join(piece + (" , zz@v7 , " if address else " ") for piece, address in pieces)
    query = find(text)
    assert query.sql == text.replace("zz@v7", '"zz@v7"')
    assert certain(text) == ["zz@v7"] * sum(address for _, address in pieces)
    for mention in query.mentions:
        if mention.certain:
            assert text[mention.start : mention.end] == "zz@v7"


@given(st.text(max_size=80))
def test_any_text_is_looked_through(text: str) -> None:
    query = find(text)
    assert all(0 <= query.place(offset) <= len(text) for offset in range(len(query.sql)))


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select sum(balance) from customers", [(999000.0,)]),
        ("select sum(balance) from customers@v1", [(499500.0,)]),
        ("select sum(b.balance - a.balance) from customers@v1 a join Customers b using (id)", [(499500.0,)]),
        ("select (select max(balance) from customers@~1), max(balance) from customers", [(999.0, 1998.0)]),
        ("select max(balance) from customers@release/1.0 union all select max(balance) from customers order by 1",
         [(999.0,), (1998.0,)]),
        ('select count(*) from "odd ""name"""@v1', [(3,)]),
        ('select count(*) from "customers@v1"', [(1000,)]),
        ("with customers as (select 7 x) select x from customers", [(7,)]),
        ("with c as (from customers@v1) select max(c.balance) from c", [(999.0,)]),
        ("create table customers as select 5 x; from customers", [(5,)]),
        ("select customers@v1.balance from customers@v1 where id = 3", [(3.0,)]),
        ("select fsvc_row from customers where id = 998", [(998,)]),
    ],
)  # fmt: skip
def test_queries(repo: fsvc.Repository, query: str, rows: list[tuple[Any, ...]]) -> None:
    assert repo.sql(query).fetchall() == rows


def test_parameters_and_tables(repo: fsvc.Repository) -> None:
    assert repo.sql("select count(*) from customers@v1 where id < $n", {"n": 5}).fetchall() == [(5,)]
    assert repo.sql("select count(*) from customers@v1 where id < ?", [5]).fetchall() == [(5,)]
    mine = pa.table({"id": [1, 2]})
    found = repo.sql("select sum(c.balance) from mine join customers c using (id)", tables={"mine": mine})
    assert found.fetchall() == [(6.0,)]
    old = repo.snapshot("customers@v1")
    assert repo.sql("select max(balance) from customers", tables={"customers": old}).fetchall() == [(999.0,)]


@pytest.mark.parametrize(
    ("query", "error", "message", "marks"),
    [
        ("select\n balanc from customers@v1", NotFound, "no column 'balanc' (line 2, column 2)", " balanc"),
        ("from custmers", NotFound, "no table or feature set 'custmers' (line 1, column 6)", "from custmers"),
        ("from custmers@v1", NotFound, "no feature set 'custmers'", "from custmers@v1"),
        ("from customers@v9", NotFound, "no customers@v9", "from customers@v9"),
        ("from customers@v09", InvalidRevision, "'v09' is not a version", "from customers@v09"),
        ("select 1 form customers@v1", InvalidUse, 'near "customers@v1" (line 1, column 15)', "customers@v1"),
        ("", InvalidUse, "empty", None),
        ("\ud800", InvalidUse, "Unicode", None),
    ],
)
def test_errors_show_the_users_own_text(
    repo: fsvc.Repository, query: str, error: type[Exception], message: str, marks: str | None
) -> None:
    with pytest.raises(error) as caught:
        repo.sql(query)
    assert message in str(caught.value)
    assert marks is None or marks in caught.value.__notes__[0].splitlines()[0]


def test_a_feature_set_whose_name_is_a_value_is_not_found_and_it_is_said_why(repo: fsvc.Repository) -> None:
    with pytest.raises(NotFound) as caught:
        repo.sql("from query_table('customers')")
    assert caught.value.hint == "'customers' is found where the query names it as a table: FROM customers"


@pytest.mark.parametrize(
    "query",
    [
        "from read_text('{file}')",
        "from read_csv('{file}')",
        "from glob('{file}')",
        "copy (select 1) to '{out}'",
        "with a as (copy (select 1 x) to '{out}') select 1",
        "attach '{out}'",
        "install httpfs",
        "set threads = 1",
        "select 1; select 2",
        "create table x (i int)",
        "explain select 1",
        "select count(*) from range(10000000) a, range(10000000) b",
        "from range(1000000000)",
        "select list(range) from range(1000000000)",
    ],
)
def test_a_sandbox_holds(repo: fsvc.Repository, tmp_path: Path, query: str) -> None:
    file, out = tmp_path / "secret.csv", tmp_path / "out.csv"
    file.write_text("secret\n1\n")
    with pytest.raises(NotAllowed):
        repo.sql(query.format(file=file, out=out), sandbox=fsvc.Sandbox(memory=100, seconds=0.5))
    assert not out.exists()


def test_a_sandbox_knows_no_environment_files_or_variables(repo: fsvc.Repository, tmp_path: Path) -> None:
    local = pa.table({"x": [1]})
    assert local.num_rows == 1
    (tmp_path / "f.csv").write_text("a\n1\n")
    for query in ("from local", "select getenv('HOME')", f"from '{tmp_path}/f.csv'"):
        with pytest.raises((NotFound, InvalidUse, NotAllowed)):
            repo.sql(query, sandbox=True)
    assert repo.sql("select count(*) from customers@v1", sandbox=True).fetchall() == [(1000,)]
    with pytest.raises(NotFound):
        repo.sql("from local")


def test_an_attached_connection_has_the_names(repo: fsvc.Repository) -> None:
    with duckdb.connect() as connection:
        assert fsvc.attach(connection, repo) is connection
        assert connection.sql("select max(balance) from fsvc('customers@v1')").fetchall() == [(999.0,)]
        assert connection.sql("select max(balance) from customers").fetchall() == [(1998.0,)]
        connection.execute("create table customers as select 5 x")
        assert connection.sql("from customers").fetchall() == [(5,)]
        assert connection.sql("select count(*) from fsvc.customers").fetchall() == [(1000,)]
        repo.commit({"customers": pa.table({"id": [1], "balance": [7.0]})}, message="m")
        fsvc.attach(connection, repo)
        assert connection.sql("select max(balance) from fsvc.customers").fetchall() == [(7.0,)]


def test_only_the_columns_that_a_query_names_are_read(
    repo: fsvc.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsvc.engine.objects import Objects

    read: list[int] = []
    original = Objects.read

    def counted(self: Objects, entry: Any) -> Any:
        read.append(entry.length)
        return original(self, entry)

    monkeypatch.setattr(Objects, "read", counted)
    repo.sql("select max(id) from customers@v1 where id > 5").fetchall()
    assert len(read) == 1
    read.clear()
    repo.sql("select * from customers@v1 where id > 5000").fetchall()
    assert read == []
    plan = repo.sql("explain select id from customers@v1 where id > 5").fetchall()[0][1]
    assert "balance" not in plan
    assert "Filters" in plan


def test_damage_is_named(repo: fsvc.Repository) -> None:
    for pack in Path(repo.location).glob("packs/*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(bytes(pack.stat().st_size))
    answer = repo.ask("select sum(balance) from customers@v1")
    with pytest.raises(Corruption):
        list(answer.rows()[1])


def test_threads_that_share_an_open_file_do_not_move_each_other(repo: fsvc.Repository) -> None:
    """DuckDB's threads do: each seeks and then reads, and another one may come in between."""
    from fsvc.query.filesystem import SnapshotFileSystem

    file = SnapshotFileSystem(repo).open("customers@v1")
    whole = file.read()
    assert file.seek(-4, 2) == len(whole) - 4

    def elsewhere() -> None:
        file.seek(0)
        assert file.read(4) == whole[:4]

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert file.read() == whole[-4:] == b"PAR1"


def test_a_result_can_be_read_when_nobody_holds_the_query_any_more(repo: fsvc.Repository) -> None:
    """The second feature set is opened only when the first one has been read."""
    from fsvc.query.connection import Session

    query = "select * from customers@v1 union all select * from customers@v2"
    assert repo.ask(query, light=True).session.shared, "such a query has no need of a database of its own"
    reader = repo.sql(query).to_arrow_reader(100)
    gc.collect()
    assert sum(batch.num_rows for batch in reader) == 2000
    del reader
    gc.collect()
    assert Session.light().paths == []


def test_queries_do_not_see_what_others_have_made(repo: fsvc.Repository) -> None:
    first = repo.sql("from customers@v1")
    mine = repo.sql("from mine", tables={"mine": pa.table({"x": [1]})})
    with pytest.raises(NotFound):
        repo.sql("from mine")
    with pytest.raises(duckdb.CatalogException):
        mine.query("mine", 'from "customers@v1"')
    assert (len(first.fetchall()), mine.fetchall()) == (1000, [(1,)])


def test_errors_while_rows_come_say_where(repo: fsvc.Repository) -> None:
    answer = repo.ask("select id,\n cast('x' || id as int) from customers@v1")
    with pytest.raises(InvalidUse) as caught:
        list(answer.rows()[1])
    assert "(line 2, column 2)" in str(caught.value)
    assert "cast('x' || id as int)" in caught.value.__notes__[0]


def test_no_memory_is_no_fault_of_a_sandbox(repo: fsvc.Repository) -> None:
    answer = repo.ask("select list(range), range % 100000 from range(30000000) group by 2")
    answer.session.connection.execute("SET memory_limit = '30MB'")
    answer.session.connection.execute("SET temp_directory = ''")
    with pytest.raises(FsvcError, match="needs more memory than there is") as caught:
        list(answer.rows()[1])
    assert not isinstance(caught.value, NotAllowed)


AT_EXIT = """
import atexit, sys
import duckdb, fsvc
location = sys.argv[1]
connection = duckdb.connect()
atexit.register(lambda: print(connection.sql("select 1 + 1").fetchall()))
repo = fsvc.open(location)
fsvc.attach(connection, repo)
print(connection.sql("select count(*) from customers").fetchall())
held = repo.sql("from customers@v1")
print(len(held.fetchall()))
reader = repo.sql("from customers@v2").to_arrow_reader(10)
reader.read_next_batch()
relation = repo.snapshot("customers@v1").relation()
"""


def test_a_process_that_asked_ends_without_noise(repo: fsvc.Repository) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, repo.location], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n") == ["[(1000,)]", "1000", "[(2,)]", ""]


def test_a_query_reads_the_bytes_of_its_columns_and_groups_only(tmp_path: Path) -> None:
    from fsvc.engine.virtual import VirtualFile

    repository = fsvc.init(tmp_path / "wide")
    columns = {f"c{i}": [float(i * row) for row in range(200_000)] for i in range(6)}
    repository.commit({"t": pa.table({"id": range(200_000), **columns})}, key="id", message="m")
    reader = repository.snapshot("t").reader
    groups = len(reader.manifest.rows)
    assert groups > 1
    read: list[tuple[int, int]] = []
    original = VirtualFile.read_at

    def counted(self: VirtualFile, position: int, length: int) -> bytes:
        read.append((position, length))
        return original(self, position, length)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VirtualFile, "read_at", counted)
        relation = repository.sql("select max(c4), max(c5) from t where id < 1000")
        read.clear()
        relation.fetchall()
    stored = {
        (column, group): sum(
            leaf.length for leaf in unpack_meta(reader.entries([column])[0][group].meta)
        )
        for column in (0, 5, 6)
        for group in range(groups)
    }  # fmt: skip
    # Neighbouring columns are read apart, and groups that cannot hold the ids not at all.
    assert sorted(length for _, length in read if length in stored.values()) == sorted(
        stored[column, 0] for column in (0, 5, 6)
    )
    assert sum(length for _, length in read) < sum(stored[column, 0] for column in (0, 5, 6)) + (1 << 18)
