"""The contract of storage, run over every backend."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from faulty import FaultyStorage
from hypothesis import given
from hypothesis import strategies as st

from fsvc.errors import Corruption, InvalidUse, KeyAbsent, KeyExists, StorageError
from fsvc.storage.contract import Entry, Storage, check_key, check_prefix
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage
from fsvc.storage.overlay import OverlayStorage
from fsvc.storage.system import System


class NoUnnamedFiles(System):
    """A file system that lacks O_TMPFILE."""

    def open_unnamed(self, directory: int) -> int:
        raise OSError(95, "Operation not supported")


class NoProc(System):
    """A system where unnamed files open, but cannot be named since /proc is not mounted."""

    def link_unnamed(self, file: int, directory: int, name: str) -> None:
        raise FileNotFoundError(2, "No such file or directory")


class NoHardLinks(NoUnnamedFiles):
    """A file system without hard links, such as exFAT."""

    def link(self, directory: int, temporary: str, name: str) -> None:
        raise PermissionError(1, "Operation not permitted")


BACKENDS: dict[str, Callable[[Path], Storage]] = {
    "local": lambda path: LocalStorage(path / "store", create=True),
    "local without unnamed files": lambda path: LocalStorage(
        path / "store", create=True, system=NoUnnamedFiles()
    ),
    "local without proc": lambda path: LocalStorage(path / "store", create=True, system=NoProc()),
    "local without links": lambda path: LocalStorage(path / "store", create=True, system=NoHardLinks()),
    "memory": lambda path: MemoryStorage(),
    "overlay": lambda path: OverlayStorage(MemoryStorage(), MemoryStorage()),
    "faulty": lambda path: FaultyStorage(MemoryStorage(), delay=0.0005),
}


@pytest.fixture(params=list(BACKENDS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    yield BACKENDS[request.param](tmp_path)


def test_what_was_put_is_got(store: Storage) -> None:
    for size in (0, 1, 4096, 1_000_003):
        data = random.Random(size).randbytes(size)
        store.put_if_absent(f"packs/{size}.pack", data)
        assert store.get(f"packs/{size}.pack") == data
        assert store.size(f"packs/{size}.pack") == size
        assert type(store.get(f"packs/{size}.pack")) is bytes


def test_any_buffer_and_sequence_of_buffers_is_taken(store: Storage) -> None:
    numbers = np.arange(12, dtype="<i4").reshape(3, 4)
    store.put_if_absent(
        "a", [b"one", bytearray(b"two"), b"", memoryview(b"three"), pa.py_buffer(b"four"), numbers]
    )
    assert store.get("a") == b"onetwothreefour" + numbers.tobytes()
    store.put_if_absent("b", pa.py_buffer(b"four"))
    assert store.get("b") == b"four"
    store.put_if_absent("c", [b"%d," % i for i in range(5000)])
    assert store.get("c") == b"".join(b"%d," % i for i in range(5000))
    store.put_if_absent("d", [])
    assert store.get("d") == b""


def test_buffers_are_copied_not_kept(store: Storage) -> None:
    data = bytearray(b"before")
    store.put_if_absent("a", data)
    store.put_batch({"b": data})
    data[:] = b"after!"
    assert store.get("a") == store.get("b") == b"before"


@pytest.mark.parametrize("data", ["text", 5, None, [1, 2], np.arange(10)[::2]], ids=repr)
def test_what_is_no_buffer_is_refused(store: Storage, data: object) -> None:
    with pytest.raises(InvalidUse):
        store.put_if_absent("a", data)  # type: ignore[arg-type]
    assert list(store.list("")) == []


def test_a_key_is_written_once(store: Storage) -> None:
    store.put_if_absent("refs/1.json", b"first")
    for data in (b"second", b"first", b""):
        with pytest.raises(KeyExists, match=re.escape("refs/1.json")):
            store.put_if_absent("refs/1.json", data)
    assert store.get("refs/1.json") == b"first"
    assert list(store.list("")) == [Entry("refs/1.json", 5)]


def test_of_many_writers_exactly_one_wins(store: Storage) -> None:
    for round_ in range(5):
        outcomes: dict[int, str] = {}
        start = threading.Barrier(8)

        def write(
            me: int,
            key: str = f"race/{round_}",
            outcomes: dict[int, str] = outcomes,
            start: threading.Barrier = start,
        ) -> None:
            start.wait()
            try:
                store.put_if_absent(key, [b"%d" % me] * 2000)
                outcomes[me] = "won"
            except KeyExists:
                outcomes[me] = "lost"

        threads = [threading.Thread(target=write, args=(me,)) for me in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [me for me, outcome in outcomes.items() if outcome == "won"]
        assert len(outcomes) == 8 and len(winners) == 1
        assert store.get(f"race/{round_}") == b"%d" % winners[0] * 2000


def test_a_range_is_exact(store: Storage) -> None:
    data = random.Random(1).randbytes(10_000)
    store.put_if_absent("p/a", data)
    for start, length in ((0, 10_000), (0, 0), (10_000, 0), (17, 4000), (9_999, 1)):
        for _ in range(2):
            part = store.get_range("p/a", start, length)
            assert type(part) is bytes and part == data[start : start + length]
    assert store.get_range("p/a", np.int64(5), np.int64(6)) == data[5:11]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, 10_001), (10_000, 1), (9_990, 11), (2**63, 1), (2**80, 1), (0, 2**50), (10_001, 0)],
)
def test_a_range_beyond_the_end_is_corruption(store: Storage, start: int, length: int) -> None:
    store.put_if_absent("p/a", bytes(10_000))
    with pytest.raises(Corruption, match="p/a .* is truncated"):
        store.get_range("p/a", start, length)


@pytest.mark.parametrize(("start", "length"), [(-1, 5), (0, -1), (-3, -3)])
def test_a_negative_range_is_refused(store: Storage, start: int, length: int) -> None:
    store.put_if_absent("p/a", b"0123456789")
    with pytest.raises(InvalidUse):
        store.get_range("p/a", start, length)


def test_an_absent_key_is_named(store: Storage) -> None:
    store.put_if_absent("a/b", b"x")
    for call in (store.get, store.size, store.age, lambda key: store.get_range(key, 0, 0)):
        for key in ("nothing", "a", "a/c", "a/b/c"):
            with pytest.raises(KeyAbsent, match=re.escape(key)):
                call(key)


def test_a_batch_is_written_and_leaves_what_exists(store: Storage) -> None:
    store.put_if_absent("objects/aa/1", b"old")
    items = {f"objects/{n % 7:02x}/{n}": b"%d" % n for n in range(150)} | {"top": b"", "objects/aa/1": b"new"}
    store.put_batch(items)
    store.put_batch(items)
    store.put_batch({})
    assert store.get("objects/aa/1") == b"old"
    assert {e.key: store.get(e.key) for e in store.list("")} == {**items, "objects/aa/1": b"old"}


def test_a_batch_with_a_bad_key_writes_nothing(store: Storage) -> None:
    with pytest.raises(InvalidUse):
        store.put_batch({"good": b"1", "../bad": b"2"})
    assert list(store.list("")) == []


def test_listing_takes_directories_only(store: Storage) -> None:
    keys = {"ab": 1, "a/b": 2, "a/bc": 3, "a/b2/c": 4, "abc/d": 5, "z": 6}
    for key, size in keys.items():
        store.put_if_absent(key, bytes(size))

    def listed(prefix: str) -> set[tuple[str, int]]:
        found = [(e.key, e.size) for e in store.list(prefix)]
        assert sorted(store.keys(prefix)) == sorted(key for key, _ in found)
        assert len(found) == len(set(found))
        return set(found)

    assert listed("") == set(keys.items())
    assert listed("a/") == {("a/b", 2), ("a/bc", 3), ("a/b2/c", 4)}
    assert listed("a/b2/") == {("a/b2/c", 4)}
    assert listed("nothing/") == listed("z/") == set()
    for prefix in ("a", "a/b", "/", "../", "a//", "a/../", ".x/"):
        with pytest.raises(InvalidUse):
            list(store.list(prefix))


def test_keys_may_come_and_go_during_a_listing(store: Storage) -> None:
    for n in range(300):
        store.put_if_absent(f"k/{n:03d}", b"x")
    seen = set()
    for entry in store.list("k/"):
        seen.add(entry.key)
        number = int(entry.key[-3:])
        if number >= 150:
            store.delete(entry.key)
    assert seen >= {f"k/{n:03d}" for n in range(150)}
    assert {e.key for e in store.list("k/")} == {f"k/{n:03d}" for n in range(150)} | (
        {f"k/{n:03d}" for n in range(150, 300)} - seen
    )


def test_what_was_deleted_is_absent_and_can_be_written_again(store: Storage) -> None:
    store.put_if_absent("a/b", b"first")
    assert store.get_range("a/b", 0, 5) == b"first"
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/there")
    with pytest.raises(KeyAbsent):
        store.get("a/b")
    with pytest.raises(KeyAbsent):
        store.get_range("a/b", 0, 5)
    assert list(store.list("")) == []
    store.put_if_absent("a/b", b"second")
    assert store.get_range("a/b", 0, 6) == b"second"


def test_age_counts_from_the_writing(store: Storage) -> None:
    store.put_if_absent("a", b"x")
    first = store.age("a")
    threading.Event().wait(0.05)
    assert 0 <= first < 5
    assert 0.02 < store.age("a") - first < 5


BAD_KEYS = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "a/./b", ".hidden", "a/.tmp-1", "a b", "a\\b", "a\0b",
    "a\n", "é", "a:b", "a*", "x" * 256, "/".join(["x" * 200] * 5), "a?b", "~", "C:",
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_bad_key_is_refused_everywhere(store: Storage, key: str) -> None:
    for call in (store.get, store.size, store.age, store.delete, lambda key: store.get_range(key, 0, 1)):
        with pytest.raises(InvalidUse):
            call(key)
    with pytest.raises(InvalidUse):
        store.put_if_absent(key, b"x")
    with pytest.raises(InvalidUse):
        store.put_batch({key: b"x"})


def test_all_that_may_be_in_a_key_can_be_stored(store: Storage) -> None:
    keys = ["%41%2f", "-x", "_", "a.b-c_d%", "0000000001.json", "x" * 255, "A.b", "a/b/c/d/e/f/g/h/i/j"]
    for key in keys:
        store.put_if_absent(key, key.encode())
    assert {e.key: store.get(e.key) for e in store.list("")} == {key: key.encode() for key in keys}


def test_the_location_says_where(store: Storage) -> None:
    assert store.location


@given(st.text())
def test_a_key_is_safe_or_refused(key: str) -> None:
    try:
        check_key(key)
    except InvalidUse:
        return
    assert re.fullmatch(r"[A-Za-z0-9._%/-]+", key) and len(key) <= 900
    assert all(part and not part.startswith(".") and len(part) <= 255 for part in key.split("/"))
    check_prefix(key + "/")


def test_faults_are_dealt_out_as_planned() -> None:
    store = FaultyStorage(MemoryStorage(), seed=3)
    store.plan("fail", "lose", "none", "fail")
    with pytest.raises(StorageError, match="did nothing"):
        store.put_if_absent("a", b"1")
    assert not list(store.list(""))
    with pytest.raises(StorageError, match="was lost"):
        store.put_if_absent("a", b"1")
    assert store.get("a") == b"1"
    store.put_if_absent("b", b"2")
    with pytest.raises(StorageError, match="batch"):
        store.put_batch({f"c/{n}": b"" for n in range(100)})
    assert 0 < len(list(store.list("c/"))) < 100
    assert store.counts["fail"] == store.counts["lose"] == store.counts["partly"] == 1


def test_shares_of_faults_come_about() -> None:
    store = FaultyStorage(MemoryStorage(), fail=0.2, lose=0.3, fail_reads=0.5)
    for n in range(1000):
        try:
            store.put_if_absent(f"{n}", b"")
        except StorageError:
            pass
    assert 150 < store.counts["fail"] < 250 and 250 < store.counts["lose"] < 350
    assert len(list(store.inner.list(""))) == 1000 - store.counts["fail"]
    with pytest.raises(StorageError, match="did not answer"):
        for _ in range(100):
            store.size("0")


def test_an_overlay_reads_what_lies_below_and_never_writes_there() -> None:
    below = MemoryStorage()
    below.put_if_absent("a/x", b"below")
    before = [(entry.key, entry.size) for entry in below.list("")]
    over = OverlayStorage(below, MemoryStorage())
    assert over.get("a/x") == b"below" and over.get_range("a/x", 1, 3) == b"elo" and over.size("a/x") == 5
    with pytest.raises(KeyExists):
        over.put_if_absent("a/x", b"above")
    over.put_batch({"a/x": b"above", "a/y": b"above"})
    assert over.get("a/x") == b"below" and over.get("a/y") == b"above"
    assert sorted(over.list("a/"), key=lambda entry: entry.key) == [Entry("a/x", 5), Entry("a/y", 5)]
    with pytest.raises(InvalidUse):
        over.delete("a/x")
    over.delete("a/y")
    assert [entry.key for entry in over.list("")] == ["a/x"]
    assert [(entry.key, entry.size) for entry in below.list("")] == before
