"""Hostile input: each kind gets an error of the right class, nothing is written, and nothing leaks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3

import fsvc.format.canonical
from fsvc.engine.files import commit_key
from fsvc.engine.store import Store, create
from fsvc.errors import (
    Corruption,
    FsvcError,
    InvalidName,
    InvalidUse,
    NotAllowed,
    NotFound,
    UnknownFormat,
    UnreadableInput,
    UnsupportedData,
)
from fsvc.format import commit as commits
from fsvc.format import index, strictjson
from fsvc.format import manifest as manifests
from fsvc.format.canonical import Identity
from fsvc.repository import Repository, init, open_repository
from fsvc.storage.memory import MemoryStorage

TABLE = pa.table({"x": [1, 2, 3]})


def fresh() -> MemoryStorage:
    storage = MemoryStorage()
    create(storage, time="2026-11-01T00:00:00.000000Z")
    return storage


def opened(storage: MemoryStorage) -> Repository:
    return Repository(Store(storage), author="Test")


def files(storage: MemoryStorage) -> dict[str, bytes]:
    return {entry.key: storage.get(entry.key) for entry in storage.list("")}


NAMES = {
    "parent directory": "../x",
    "absolute path": "/etc/passwd",
    "backslash": "..\\x",
    "nul": "a\0b",
    "device of Windows": "CON",
    "device with a suffix": "nul.txt",
    "decomposed letters": "e\u0301",
    "new line": "a\nb",
    "escape sequence": "\x1b[31mred",
    "text that runs backwards": "a\u202eb",
    "invisible": "a\u200bb",
    "lone surrogate": "\ud800",
    "option": "-rf",
    "empty": "",
    "version": "v3",
    "long": "x" * 201,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names(name: str) -> None:
    storage = fresh()
    before = files(storage)
    for attempt in (
        lambda: opened(storage).commit({name: TABLE}, message="m"),
        lambda: opened(storage).commit({"x": TABLE}, message="m", branch=name or "/"),
        lambda: opened(storage).commit({"x": TABLE}, message="m", tag=name),
    ):
        with pytest.raises(InvalidName) as caught:
            attempt()
        assert caught.value.message.isprintable(), "a name must not reach the terminal as it is"
    assert files(storage) == before


def test_names_that_are_twins_where_case_does_not_count() -> None:
    storage = fresh()
    opened(storage).commit({"customers": TABLE}, message="m")
    before = files(storage)
    with pytest.raises(InvalidUse, match="only in case"):
        opened(storage).commit({"Customers": TABLE}, message="m")
    assert files(storage) == before


QUOTED = ["a'b", 'a"b', "a; drop table x; --", "x' or '1'='1", "a`b", "$(id)", "%s"]


@pytest.mark.parametrize("name", QUOTED)
def test_names_of_sql_inject_nothing(name: str) -> None:
    repository = opened(fresh())
    repository.commit({name: TABLE, "other": pa.table({"x": [42]})}, message="m")
    quoted = '"' + name.replace('"', '""') + '"'
    assert repository.sql(f"select sum(x) from {quoted}").fetchall() == [(6,)]
    assert repository.snapshot(name).relation().fetchall() == [(1,), (2,), (3,)]
    assert repository.sql("select x from other").fetchall() == [(42,)]


@pytest.mark.parametrize("column", ['"; drop', "a'b", "\x1b[31m", "../x", "x\ny", ""])
def test_names_of_columns_are_data(column: str) -> None:
    repository = opened(fresh())
    table = pa.table({column: [1, 2], "key": [1, 2]})
    try:
        repository.commit({"t": table}, message="m", key="key")
    except UnsupportedData:
        return  # said at commit, in words
    assert repository.snapshot("t").to_arrow().equals(table)
    assert repository.snapshot("t").relation().columns == [column or "C0", "key"]


@pytest.mark.parametrize(
    "query",
    ["copy (select 1) to '/tmp/x'", "select 1; select 2", "attach 'x.db'", "select * from '/etc/passwd'"],
)
def test_queries_of_others_reach_nothing_else(query: str) -> None:
    with pytest.raises((NotAllowed, NotFound, InvalidUse)):
        opened(fresh()).sql(query, sandbox=True)


MANIFESTS: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[:-1],
    "empty": lambda data: b"",
    "deep nesting": lambda data: _with_header(data, b"[" * 200_000),
    "duplicate keys": lambda data: _with_header(data, b'{"format":1,"format":1}'),
    "not a number": lambda data: _with_header(data, b'{"format":NaN}'),
    "huge integer": lambda data: _with_header(data, b'{"format":' + b"9" * 100_000 + b"}"),
    "huge header": lambda data: data[:8] + b"\xff" * 8 + data[16:],
    "huge counts": lambda data: data[:12] + b"\xff" * 12 + data[24:],
}


def _with_header(data: bytes, header: bytes) -> bytes:
    old = int.from_bytes(data[8:12], "little")
    start = manifests._HEAD.size
    return data[:8] + len(header).to_bytes(4, "little") + data[12:start] + header + data[start + old :]


@pytest.mark.parametrize("how", MANIFESTS.values(), ids=MANIFESTS)
def test_manifests(how: Callable[[bytes], bytes]) -> None:
    repository = opened(fresh())
    good = repository.commit({"t": TABLE}, message="m").snapshot("t").manifest.encoded
    with pytest.raises(Corruption):
        manifests.parse(how(good), what="the manifest")


def test_a_manifest_of_an_unknown_version() -> None:
    good = opened(fresh()).commit({"t": TABLE}, message="m").snapshot("t").manifest.encoded
    assert b'"format":1' in good
    with pytest.raises(UnknownFormat):
        manifests.parse(good.replace(b'"format":1', b'"format":2'), what="the manifest")


@pytest.mark.parametrize("required", [["time-travel"], "x", [1], {"a": 1}])
def test_a_repository_that_needs_what_is_not_known(required: object) -> None:
    storage = fresh()
    value = strictjson.unseal(storage.get("repository.json"), what="it")
    storage.delete("repository.json")
    storage.put_if_absent("repository.json", strictjson.seal({**value, "required": required}))
    with pytest.raises((UnknownFormat, Corruption)):
        opened(storage)


def test_commits_that_are_their_own_ancestors(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hash gives a cycle, so one is damage; verification would end even if a hash did."""
    storage = fresh()
    one = opened(storage).commit({"t": TABLE}, message="one").id
    two = opened(storage).commit({"t": pa.table({"x": [4]})}, message="two").id
    value = json.loads(storage.get(commit_key(one)))
    storage.delete(commit_key(one))
    storage.put_if_absent(commit_key(one), strictjson.dumps({**value, "parents": [two]}))
    with pytest.raises(Corruption):
        opened(storage).log()
    assert not opened(storage).verify().ok
    real = commits.parse

    def believing(data: bytes, commit: str, *, what: str) -> commits.CommitRecord:
        return real(data, blake3(data).hexdigest(), what=what)

    monkeypatch.setattr(commits, "parse", believing)
    assert opened(storage).verify().counts.commits == 2


def test_xxh3_twins_are_refused_by_name_in_commit_and_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = fresh()
    first = opened(storage).commit({"t": TABLE}, message="m")
    taken = first.snapshot("t").manifest.identity(0, 0).address
    real = fsvc.format.canonical.identify

    def forged(array: pa.Array, field: pa.Field) -> Identity:
        return Identity(taken, real(array, field).digest)

    before = files(storage)
    monkeypatch.setattr("fsvc.engine.writing.identify", forged)
    with pytest.raises(UnsupportedData, match=r"column 'price'.*forged hash collision"):
        opened(storage).commit({"u": pa.table({"price": [7, 8]})}, message="m")
    assert files(storage) == before
    # And where the twin came in from elsewhere: stored by somebody who did not look.
    other = fresh()
    opened(other).commit({"u": pa.table({"price": [7, 8]})}, message="m")
    for key, data in files(other).items():
        if key.startswith(("packs/", "index/", "manifests/", "commits/")):
            storage.put_batch({key: data})
    opened(storage).branch("with-twin", opened(other).resolve().id)
    monkeypatch.undo()
    report = opened(storage).verify(deep=True)
    assert not report.ok
    assert taken.hex() in {damage.name for damage in report.damages}
    with pytest.raises(Corruption):
        opened(storage).snapshot("u@with-twin").to_arrow()


def test_a_small_parquet_file_that_is_half_a_gigabyte_takes_little_memory(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bomb.parquet"
    rows = 1 << 26
    pq.write_table(
        pa.table({"x": np.zeros(rows, np.int64)}),
        path,
        row_group_size=rows,
        compression="zstd",
        data_page_size=1 << 30,
        write_batch_size=rows,
        max_rows_per_page=rows,
    )
    assert path.stat().st_size < 100_000
    program = (
        "import resource, sys, fsvc\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "commit = fsvc.init(sys.argv[1]).commit({'t': sys.argv[2]}, message='m')\n"
        "print(commit.snapshot('t').num_rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "r", path], capture_output=True, text=True, check=True
    )
    found, kibibytes = map(int, run.stdout.split())
    assert found == rows
    assert kibibytes < 300 << 10, "no more than a few groups at a time"


def test_a_stored_object_that_claims_to_be_huge() -> None:
    claim = index.write_table(
        [index.Entry(b"a" * 16, b"d" * 32, "ab" * 32, 8, 1 << 62, 0, index.pack_meta([]))]
    )
    storage = fresh()
    storage.put_if_absent(f"index/{index.table_id(claim)}.idx", claim)
    entry = opened(storage).store.objects.find(b"a" * 16)[0]
    assert entry is not None
    storage.put_if_absent(f"packs/{entry.pack}.pack", b"short")
    with pytest.raises(Corruption):
        opened(storage).store.objects.read(entry)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "location",
    [
        f"s3://key:{SECRET}@bucket/x",
        f"https://user:{SECRET}@host/x?token={SECRET}",
        f"postgres://u:{SECRET}@h/d",
    ],
)
def test_secrets_in_locations_are_not_shown(location: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    for attempt in (
        lambda: init(location),
        lambda: open_repository(location),
        lambda: init(tmp_path / "r").commit({"t": location}, message="m"),
        lambda: open_repository(tmp_path / "r").repair(location),
    ):
        with pytest.raises(FsvcError) as caught:
            attempt()
        assert SECRET not in f"{caught.value} {caught.value.hint} {caught.value!r}"


def test_what_is_no_table_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    repository = init(tmp_path / "r")
    for name, data in (
        ("a.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1"),
        ("b.arrow", b"ARROW1\0\0" + b"\xff" * 99),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableInput):
            repository.commit({"t": tmp_path / name}, message="m")
    assert repository.head() is None
