"""What a review found: each test fails on the code as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from blake3 import blake3
from memory import memory_repository

from fsvc.drafting import identify
from fsvc.engine import virtual
from fsvc.engine.files import pack_key
from fsvc.engine.objects import PackWriter
from fsvc.engine.store import Store
from fsvc.engine.virtual import Layout, compact_parts
from fsvc.errors import Corruption, StorageError, UnsupportedData
from fsvc.format import manifest as manifests
from fsvc.format.canonical import Identity
from fsvc.format.index import FULL, Entry
from fsvc.format.pages import ChunkPages
from fsvc.format.stored import from_stored
from fsvc.query.filesystem import SnapshotFileSystem
from fsvc.repository import Repository
from fsvc.storage.memory import MemoryStorage


def noise(rows: int, seed: int = 1) -> pa.Array:
    """Numbers that do not compress."""
    return pa.array(np.random.default_rng(seed).integers(0, 1 << 60, rows))


# -- what is refused does not depend on what is stored --------------------------------------------


def test_text_that_is_not_utf8_is_refused_where_its_bytes_are_stored() -> None:
    repository = memory_repository()
    raw = pa.array([b"\xff\xfe", b"ok"])
    text = pa.StringArray.from_buffers(2, *raw.buffers()[1:])
    repository.commit({"bytes": pa.table({"a": raw})}, message="m")
    with pytest.raises(UnsupportedData, match="not UTF-8"):
        repository.commit({"text": pa.table({"a": text})}, message="m")
    with pytest.raises(UnsupportedData, match="not UTF-8"):
        identify(pa.table({"a": text}))
    with pytest.raises(UnsupportedData, match="not UTF-8"):
        repository.commit({"bytes": pa.table({"a": text})}, message="the parent's column is none of text")


class Batches:
    """An object that says one schema and hands out another."""

    schema = pa.schema([("a", pa.float32()), ("b", pa.float32())])

    def __init__(self, **columns: pa.Array) -> None:
        self._columns = columns

    def to_batches(self) -> list[pa.RecordBatch]:
        return [pa.record_batch(self._columns)]


@pytest.mark.parametrize(
    "columns",
    [
        {"b": pa.array([1.0], pa.float32()), "a": pa.array([2.0], pa.float32())},
        {"a": pa.array([0.1], pa.float64()), "b": pa.array([2.0], pa.float32())},
        {"a": pa.array(["1.5"]), "b": pa.array([2.0], pa.float32())},
        {"a": pa.array([1.0], pa.float32())},
    ],
    ids=["other order", "wider", "text", "too few"],
)
def test_batches_that_are_not_of_their_schema_are_refused(columns: dict[str, pa.Array]) -> None:
    with pytest.raises(UnsupportedData, match="batch of the source"):
        memory_repository().commit({"a": Batches(**columns)}, message="m")


def test_booleans_without_a_buffer() -> None:
    nothing = pa.Array.from_buffers(pa.bool_(), 0, [None, None])
    bare = pa.ListArray.from_arrays(pa.array([0, 0, 0], pa.int32()), nothing)
    assert identify(pa.table({"a": bare})).id == identify(pa.table({"a": pa.array([[], []], bare.type)})).id


# -- memory ---------------------------------------------------------------------------------------


def test_the_keys_of_a_stream_do_not_stay_in_memory() -> None:
    rows, batches = 65_536, 60
    schema = pa.schema([("k", pa.int64()), ("v", pa.float64())])

    def stream() -> Iterator[pa.RecordBatch]:
        for i in range(batches):
            batch = pa.record_batch(
                [pa.array(np.arange(i * rows, (i + 1) * rows)), pa.array(np.zeros(rows))], schema=schema
            )
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, schema) as writer:
                writer.write_batch(batch)
            # One buffer holds all of the batch, as it does when it is read from a file.
            yield pa.ipc.open_stream(sink.getvalue()).read_next_batch()

    held: list[int] = []
    before = pa.total_allocated_bytes()
    memory_repository().commit(
        {"a": pa.RecordBatchReader.from_batches(schema, stream())},
        message="m",
        key="k",
        threads=2,
        progress=lambda *_: held.append(pa.total_allocated_bytes() - before),
    )
    assert max(held) < 20 * rows * 16


def test_a_copy_of_large_objects_reads_only_a_few_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "_AHEAD_BYTES", 4000)
    lock = threading.Lock()
    read = copied = most = 0

    class Objects:
        def read(self, _: Any) -> ChunkPages:
            nonlocal read, most
            with lock:
                read += 1
                most = max(most, read - copied)
            return ChunkPages((), (bytes(1000),))

    entry = Entry(b"", b"", "", 0, 1000, 0, bytes((FULL,)))
    where = Layout(tuple(range(100)), (1000,) * 100, (entry,) * 100, 0, b"end")
    objects: Any = Objects()
    parts = list[Any]()
    for part in compact_parts(objects, where):
        parts.append(part)
        with lock:
            copied = len(parts) - 1
    assert len(parts) == 102 and 1 < most <= 6


# -- storing --------------------------------------------------------------------------------------


def test_committing_again_what_was_lost_brings_it_back() -> None:
    repository = memory_repository()
    table = pa.table({"a": noise(10_000)})
    repository.commit({"a": table}, message="m")
    storage = repository.store.storage
    for entry in [*storage.list("index/")]:
        storage.delete(entry.key)
    repository = Repository(Store(storage))
    with pytest.raises(Corruption):
        repository.snapshot("a").to_arrow()
    assert not repository.commit({"a": table}, message="m").created
    for seen in (repository, Repository(Store(storage))):
        assert seen.snapshot("a").to_arrow() == table


@pytest.mark.parametrize("how", ["flipped", "lost"])
def test_rows_are_appended_to_a_damaged_object(how: str) -> None:
    repository = memory_repository()
    repository.commit({"a": pa.table({"a": noise(10_000)})}, message="m")
    storage: Any = repository.store.storage
    entry = repository.snapshot("a").reader.entries([0])[0][0]
    data = bytearray(storage.get(pack_key(entry.pack)))
    data[entry.offset + entry.length // 2] ^= 1
    storage.delete(pack_key(entry.pack))
    if how == "flipped":
        storage.put_if_absent(pack_key(entry.pack), bytes(data))
    longer = pa.table({"a": noise(10_500)})
    repository.commit({"a": longer}, message="m")
    assert repository.snapshot("a").to_arrow().equals(longer)


def test_no_object_is_lost_after_a_pack_could_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsvc.engine.objects.PACK_BYTES", 100)

    class Failing(MemoryStorage):
        failed = False

        def put_if_absent(self, key: str, data: Any) -> None:
            if not self.failed:
                self.failed = True
                raise StorageError("the disk is full")
            super().put_if_absent(key, data)

    packs = PackWriter(Failing())
    for i in range(10):
        try:
            packs.add(Identity(bytes([i]) * 16, bytes(32)), b"\1\0\0", [bytes(60)])
        except StorageError:
            pass
    with pytest.raises(StorageError):
        packs.finish()
    packs.abandon()


@pytest.mark.parametrize("size", [300_000, 3_000_000, 12_000_000])
def test_a_small_change_of_a_large_manifest_is_stored_as_a_small_one(size: int) -> None:
    chance = np.random.default_rng(0)
    old = chance.bytes(size)
    changed = bytearray(old)
    for at in range(0, size, size // 10):
        changed[at : at + 48] = chance.bytes(48)
    new = b"some more at the front" + bytes(changed)
    file = manifests.compress(new, ("ab" * 32, old, 0))
    assert len(file) < size / 100
    stored = manifests.read_stored(file, what="it")
    assert manifests.decompress(stored, old, blake3(new).hexdigest(), what="it") == new


# -- reading --------------------------------------------------------------------------------------


def test_a_query_sees_one_snapshot_whatever_is_committed_meanwhile() -> None:
    repository = memory_repository()

    def commit(seed: int) -> None:
        values = np.random.default_rng(seed).integers(0, 1 << (20 + seed), 3000)
        repository.commit({"a": pa.table({"x": values, "y": values + 1})}, message="m")

    class Restless(SnapshotFileSystem):
        """Before each look at a path there is another commit."""

        looks = 0

        def _serve(self, path: str) -> Any:
            self.looks += 1
            commit(self.looks)
            return super()._serve(path)

    commit(0)
    connection = duckdb.connect()
    try:
        files = Restless(repository=repository)
        connection.register_filesystem(files)
        query = "select count(*), min(y - x), max(y - x) from read_parquet('fsvc://a@main.parquet')"
        for _ in range(3):
            assert connection.execute(query).fetchall() == [(3000, 1, 1)]
        assert files.looks >= 3
        newest = repository.snapshot("a")
        assert files.glob("fsvc://a.parquet") == [f"a@{newest.commit.id}.parquet"]
        assert files.glob("fsvc://nothing") == []
    finally:
        connection.close()


# -- categories -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_categories_of_another_batch_that_differ_only_in_the_sign_of_zero(kind: pa.DataType) -> None:
    """To Arrow 0.0 and -0.0 are equal: the second was dropped, and its values came back as nulls."""
    zeros = [
        pa.DictionaryArray.from_arrays(
            pa.array([0, None, 0], pa.int8()), pa.array([np.float16(zero)]).cast(kind)
        )
        for zero in (0.0, -0.0)
    ]
    repository = memory_repository()
    repository.commit({"a": pa.table({"x": pa.chunked_array(zeros)})}, message="m")
    found = repository.snapshot("a").to_arrow()["x"].cast(kind).to_pylist()
    assert [None if value is None else str(float(value)) for value in found] == [
        "0.0", None, "0.0", "-0.0", None, "-0.0",
    ]  # fmt: skip


def test_a_value_that_is_no_category_is_not_given_back_as_null() -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    with pytest.raises(Corruption, match="not among its categories"):
        from_stored(pa.array(["a", "c"]), kind, {"x": pa.array(["a", "b"])}, "x")


def test_packs_below_a_reused_object_are_looked_at_again() -> None:
    repo = memory_repository()
    table = pa.table({"id": range(2000), "x": np.random.default_rng(0).random(2000)})
    repo.commit({"t": table.slice(0, 1900)}, message="first", key="id")
    repo.commit({"t": table}, message="appended")
    draft = repo.draft({"copy": table})
    packs = {entry.key for entry in repo.store.storage.list("packs/")}
    assert {f"packs/{name}.pack" for name in draft.sink.reused()[0]} == packs
    assert len(packs) == 2
    draft.abandon()
