"""Repair: every class of stored thing is damaged or lost, and comes back from a copy, or from the table itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test
from test_repack import Machine
from wall import hang
from wholeness import new, opened

from fsvc.engine import compaction
from fsvc.engine.clock import timestamp
from fsvc.engine.files import commit_key, manifest_key, pack_key
from fsvc.engine.store import Store, create
from fsvc.errors import Corruption, FsvcError, StorageError, UnreadableInput
from fsvc.repository import Repository
from fsvc.storage.memory import MemoryStorage

Count = Callable[[str, int], None]

CLASSES = ["commits/", "manifests/", "index/", "packs/"]


def table(version: int) -> pa.Table:
    """A keyed table of which each version changes a few cells, so that patches and extensions are stored."""
    rows = 800 + 40 * version
    value = np.random.default_rng(1).random(rows)
    value[: version * 5] = version
    return pa.table(
        {
            "id": np.arange(rows),
            "value": value,
            "kind": pa.array(["a", "b", "c", "d"] * (rows // 4)).dictionary_encode(),
        }
    )


def fill(repository: Repository) -> None:
    for version in range(4):
        repository.commit({"customers": table(version)}, message=f"v{version}", key="id")
    repository.commit({"rates": pa.table({"x": [1.5, None]})}, message="rates")
    repository.tag("t", "main~1")


def memory() -> MemoryStorage:
    storage = MemoryStorage()
    create(storage, time="2026-11-01T00:00:00.000000Z")
    return storage


def copy(storage: MemoryStorage) -> MemoryStorage:
    other = MemoryStorage()
    for entry in storage.list(""):
        other.put_if_absent(entry.key, storage.get(entry.key))
    return other


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "flipped": flipped,
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "extended": lambda data: data + b"\0",
    "lost": lambda data: None,
}


def damage(storage: MemoryStorage, prefix: str, how: str) -> dict[str, bytes]:
    """Damage every file of a class; what they are now, by key."""
    now = {}
    for key in sorted(storage.keys(prefix)):
        data = DAMAGES[how](storage.get(key))
        storage.delete(key)
        if data is not None:
            storage.put_if_absent(key, data)
            now[key] = data
    return now


@pytest.fixture(scope="module")
def original() -> MemoryStorage:
    storage = memory()
    fill(opened(storage))
    assert any(table.depths().any() for table in Store(storage).objects.tables()), "there are patches"
    return storage


def check_content(repository: Repository) -> None:
    for version in range(4):
        assert repository.snapshot(f"customers@v{version + 1}").to_arrow().equals(table(version))


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("prefix", CLASSES)
def test_a_class_of_files_comes_back_from_a_copy(original: MemoryStorage, prefix: str, how: str) -> None:
    storage = copy(original)
    was = damage(storage, prefix, how)
    assert not opened(storage).verify().ok
    repaired = opened(storage).repair(opened(copy(original)), deep=True)
    assert repaired.ok, repaired.report.damages
    assert repaired.restored and not repaired.broken
    assert opened(storage).verify(deep=True).ok
    check_content(opened(storage))
    kept = [storage.get(key) for key in storage.keys("quarantine/")]
    assert sorted(kept) == sorted(was.values()), "what was replaced is kept, to the byte"
    again = opened(storage).repair(opened(copy(original)))
    assert again.ok and not again.restored and not again.quarantined


@pytest.mark.parametrize("how", DAMAGES)
def test_everything_comes_back_from_a_copy_at_once(original: MemoryStorage, how: str) -> None:
    storage = copy(original)
    for prefix in CLASSES:
        damage(storage, prefix, how)
    assert opened(storage).repair(opened(copy(original)), deep=True).ok
    check_content(opened(storage))


@pytest.mark.parametrize("how", DAMAGES)
def test_objects_come_back_from_a_repository_that_stores_them_otherwise(
    original: MemoryStorage, how: str
) -> None:
    storage, other = copy(original), memory()
    for version in reversed(range(4)):  # another history: other packs, other patches, other commits
        opened(other).commit({f"x{version}": table(version)}, message="m", key="id")
    opened(other).commit({"x": pa.table({"x": [1.5, None]})}, message="m")
    damage(storage, "packs/", how)
    damage(storage, "manifests/", how)
    repaired = opened(storage).repair(opened(other), deep=True)
    assert repaired.ok, repaired.report.damages
    check_content(opened(storage))
    opened(storage).commit({"customers": table(5)}, message="and on", key="id")
    assert opened(storage).snapshot("customers@v5").to_arrow().equals(table(5))
    assert opened(storage).verify(deep=True).ok


@pytest.mark.parametrize("how", DAMAGES)
def test_index_files_are_made_anew_from_packs_alone(original: MemoryStorage, how: str) -> None:
    storage = copy(original)
    damage(storage, "index/", how)
    repaired = opened(storage).repair()
    assert repaired.ok, repaired.report.damages
    check_content(opened(storage))


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty"])
def test_an_index_file_that_is_made_anew_may_have_the_name_of_the_damaged_one(how: str) -> None:
    storage = memory()
    opened(storage).commit({"customers": table(0)}, message="m", key="id")
    damage(storage, "index/", how)
    repaired = opened(storage).repair()
    assert repaired.ok and repaired.quarantined
    assert opened(storage).snapshot("customers").to_arrow().equals(table(0))


def test_what_is_sound_in_a_damaged_pack_is_kept_and_what_is_lost_is_told(original: MemoryStorage) -> None:
    storage = copy(original)
    address = opened(storage).snapshot("customers@v4").manifest.addresses([1])[:16]
    entry = opened(storage).store.objects.find(address)[0]
    assert entry is not None
    key = pack_key(entry.pack)
    data = bytearray(storage.get(key))
    data[entry.offset] ^= 1
    storage.delete(key)
    storage.put_if_absent(key, bytes(data))
    repaired = opened(storage).repair()
    assert not repaired.ok
    assert [(d.kind, d.name, d.problem) for d in repaired.report.damages] == [
        ("object", entry.address.hex(), "missing")
    ]
    assert any(label.startswith("customers@") and "(main" in label for label in repaired.broken)
    assert any(label.startswith("rates@") for label in repaired.whole)
    # The next attempt, with a source, goes on from there.
    assert opened(storage).repair(opened(copy(original)), deep=True).ok
    check_content(opened(storage))


def test_another_table_gives_nothing(original: MemoryStorage, tmp_path: Path) -> None:
    storage = copy(original)
    damage(storage, "packs/", "lost")
    pq.write_table(pa.table({"id": [1, 2], "value": [0.5, 1.0]}), tmp_path / "t.parquet")
    repaired = opened(storage).repair(tmp_path / "t.parquet")
    assert not repaired.ok and not repaired.restored


def test_a_file_gives_its_rows_back_where_the_newest_entry_of_a_branch_is_damaged_too(
    original: MemoryStorage, tmp_path: Path
) -> None:
    storage = copy(original)
    damage(storage, "packs/", "lost")
    key = max(storage.keys("refs/heads/main/"))
    data = flipped(storage.get(key))
    storage.delete(key)
    storage.put_if_absent(key, data)
    pq.write_table(table(3), tmp_path / "t.parquet")
    repaired = opened(storage).repair(tmp_path / "t.parquet")
    assert any(name.startswith("object ") for name in repaired.restored)
    assert "ref" in {damage.kind for damage in repaired.report.damages}


def test_damaged_entries_of_refs_are_left_and_told(original: MemoryStorage) -> None:
    storage = copy(original)
    key = "refs/heads/main/0000000002.json"
    data = flipped(storage.get(key))
    storage.delete(key)
    storage.put_if_absent(key, data)
    repaired = opened(storage).repair(opened(copy(original)))
    assert [damage.kind for damage in repaired.report.damages] == ["ref"]
    assert storage.get(key) == data


def test_a_source_that_is_damaged_too_is_not_believed(original: MemoryStorage) -> None:
    storage, other = copy(original), copy(original)
    for prefix in CLASSES:
        damage(storage, prefix, "flipped")
        damage(other, prefix, "flipped")
    repaired = opened(storage).repair(opened(other), opened(copy(original)))
    assert repaired.ok
    check_content(opened(storage))


class Killed(BaseException):
    """The process ends here."""


class Mortal(MemoryStorage):
    """A store whose process is killed before the change number ``last``."""

    def __init__(self, items: MemoryStorage, last: int) -> None:
        super().__init__()
        for entry in items.list(""):
            super().put_if_absent(entry.key, items.get(entry.key))
        self.left = last

    def _live(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1

    def put_if_absent(self, key, data):  # type: ignore[no-untyped-def]
        self._live()
        super().put_if_absent(key, data)

    def put_batch(self, items):  # type: ignore[no-untyped-def]
        for key in items:
            self._live()
            super().put_batch({key: items[key]})

    def delete(self, key: str) -> None:
        self._live()
        super().delete(key)


def test_a_repair_that_is_killed_anywhere_loses_nothing_and_is_done_again(original: MemoryStorage) -> None:
    broken = copy(original)
    for prefix in CLASSES:
        key = min(broken.keys(prefix))
        data = flipped(broken.get(key))
        broken.delete(key)
        broken.put_if_absent(key, data)
    before = {broken.get(entry.key) for entry in broken.list("")}
    other = memory()
    for version in range(4):
        opened(other).commit({"x": table(version)}, message="m", key="id")
    for entry in original.list("commits/"):
        other.put_if_absent(entry.key, original.get(entry.key))
    points = 0
    while True:
        storage = Mortal(broken, points)
        try:
            opened(storage).repair(opened(other))
        except Killed:
            points += 1
        else:
            break
        storage.left = -1
        held = {storage.get(entry.key) for entry in storage.list("")}
        assert before <= held, f"bytes are gone after {points} changes"
        repaired = opened(storage).repair(opened(other), deep=True)
        assert repaired.ok, (points, repaired.report.damages)
        check_content(opened(storage))
    assert points > 10


def test_what_is_written_is_read_back_before_anything_is_put_aside(original: MemoryStorage) -> None:
    class Lying(MemoryStorage):
        def put_if_absent(self, key, data):  # type: ignore[no-untyped-def]
            if key.startswith("commits/") and self.lies:
                data = flipped(bytes(data) if isinstance(data, bytes) else b"".join(data))
            super().put_if_absent(key, data)

        lies = False

    storage = Lying()
    for entry in original.list(""):
        storage.put_if_absent(entry.key, original.get(entry.key))
    damage(storage, "commits/", "flipped")
    storage.lies = True
    with pytest.raises(StorageError, match="reads as something else"):
        opened(storage).repair(opened(copy(original)))
    with pytest.raises(UnreadableInput):
        opened(storage).repair("s3://nowhere")


# -- writing where something is damaged --------------------------------------------------------------


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "extended"])
def test_a_commit_of_what_a_damaged_manifest_said_can_be_read(original: MemoryStorage, how: str) -> None:
    storage = copy(original)
    key = manifest_key(opened(storage).snapshot("customers@v1").id)
    data = DAMAGES[how](storage.get(key))
    assert data is not None
    storage.delete(key)
    storage.put_if_absent(key, data)
    opened(storage).commit({"again": table(0)}, message="m", key="id")
    assert opened(storage).snapshot("again").to_arrow().equals(table(0))
    assert opened(storage).snapshot("customers@v1").to_arrow().equals(table(0))


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "extended"])
def test_a_pack_is_not_taken_for_a_damaged_one_of_its_name(how: str) -> None:
    storage = memory()
    draft = opened(storage).draft({"customers": table(0)}, key="id", branch="main")
    draft.settle(timestamp())
    damage(storage, "index/", "lost")
    damage(storage, "packs/", how)
    opened(storage).commit({"customers": table(0)}, message="m", key="id")
    assert opened(storage).snapshot("customers").to_arrow().equals(table(0))


def test_a_commit_that_needs_a_lost_pack_says_that_it_is_damage(original: MemoryStorage) -> None:
    storage = copy(original)
    damage(storage, "packs/", "lost")
    with pytest.raises(Corruption, match="uses again, is missing"):
        opened(storage).commit({"again": table(0)}, message="m", key="id")
    assert opened(storage).repair(opened(copy(original))).ok
    opened(storage).commit({"again": table(0)}, message="m", key="id")


# -- any order of things ---------------------------------------------------------------------------


class Damaging(Machine):
    """Commits, repacks, collections and time that passes while files are damaged; a second repository has it all too.

    Whatever is damaged: what is read is right, or an error of fsvc; nobody makes it worse; and a repair from the
    second repository, which stores the same in packs of its own, brings everything back.
    """

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.donor = new(MemoryStorage(clock=self.clock))
        self.harmed = False

    def may_fail(self) -> AbstractContextManager[None]:
        return suppress(FsvcError) if self.harmed else nullcontext()

    @rule(name=st.sampled_from("ab"), edit=st.integers(0, 4))
    def commit(self, name: str, edit: int) -> None:
        table = self.table(name, edit)
        time = f"2026-11-02T00:00:00.{self.number:06d}Z"
        with self.may_fail():
            made = opened(self.storage).commit({name: table}, key="id", message="m", time=time, threads=1)
            self.donor.commit({name: table}, key="id", message="m", time=time, threads=1)
            key = commit_key(made.id)
            self.donor.store.storage.put_batch({key: self.storage.get(key)})
            self.tables[f"{name}@{made.id}"] = self.current[name] = table

    @rule()
    def draft(self) -> None:
        """None here: the second repository would not have it."""

    publish = merge = reopen = draft

    @rule(
        prefix=st.sampled_from(CLASSES),
        which=st.integers(0, 99),
        how=st.sampled_from([*sorted(DAMAGES), "swapped"]),
    )
    def harm(self, prefix: str, which: int, how: str) -> None:
        keys = sorted(self.storage.keys(prefix))
        if not keys:
            return
        key, other = keys[which % len(keys)], keys[(which + 1) % len(keys)]
        was = self.storage.get(key)
        now = self.storage.get(other) if how == "swapped" else DAMAGES[how](was) if was else None
        self.storage.delete(key)
        if now is not None:
            self.storage.put_if_absent(key, now)
        self.harmed = True

    @rule()
    def repack(self) -> None:
        with self.may_fail():
            opened(self.storage).repack()

    @rule()
    def collect(self) -> None:
        with self.may_fail():
            opened(self.storage).gc(delete=True)

    @rule()
    def repack_the_other(self) -> None:
        assert not self.donor.repack(grace=0).damaged

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        if self.tables:
            name = data.draw(st.sampled_from(sorted(self.tables)))
            with self.may_fail():
                assert opened(self.storage).snapshot(name).to_arrow().equals(self.tables[name])

    @rule()
    def repair_alone(self) -> None:
        done = opened(self.storage).repair()
        assert done.ok or self.harmed

    @rule()
    def repair(self) -> None:
        done = opened(self.storage).repair(self.donor, deep=True)
        assert done.ok, [str(damage) for damage in done.report.damages]
        self.harmed = False

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            self.repair()
            super().teardown()


def _damaging(monkeypatch: pytest.MonkeyPatch, sequences: int, steps: int) -> None:
    monkeypatch.setattr(compaction, "_FILES", 3)
    hang(monkeypatch)
    run_state_machine_as_test(Damaging, settings=settings(max_examples=sequences, stateful_step_count=steps))


def test_any_order_of_damages_and_repairs(monkeypatch: pytest.MonkeyPatch, count: Count) -> None:
    _damaging(monkeypatch, 12, 25)
    count("sequences of 25 commits, damages and repairs compared with a model", 12)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_any_order_of_damages_and_repairs_for_long(monkeypatch: pytest.MonkeyPatch, count: Count) -> None:
    _damaging(monkeypatch, 2_000, 50)
    count("sequences of 50 commits, damages and repairs compared with a model", 2_000)
