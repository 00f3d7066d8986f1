"""Repacking and merging index files: nothing that was committed changes, whoever is at work and whenever it stops."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from crash import CrashState, Recording, Unsynced, after_crashes, crash_states, recorded
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from test_concurrency import at_once
from test_patches import changed, features
from wall import Clock, Wall, hang
from wholeness import assert_whole, contents, new, opened, reopened, small
from writer import Task, Writer

from fsvc.engine import compaction, objects, repack
from fsvc.engine.clock import timestamp
from fsvc.engine.committing import CommitDraft
from fsvc.engine.condemned import GRACE_SECONDS, Lists, condemn
from fsvc.engine.objects import PackWriter
from fsvc.errors import Corruption, FsvcError, StorageError
from fsvc.format import index
from fsvc.repository import Repository
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from fsvc.storage.contract import Data

Count = Callable[[str, int], None]


def files(repository: Repository, prefix: str) -> list[str]:
    return sorted(repository.store.storage.keys(prefix))


def versions(repository: Repository, count: int, rows: int = 2_000) -> list[pa.Table]:
    """Commit versions of a table, some with rows appended, as full chunks, patches and extensions; give them."""
    tables = [features(rows)]
    for number in range(count):
        if number:
            more = features(40).set_column(0, "id", pa.array(np.arange(40) + 10**6 + 100 * number))
            grown = pa.concat_tables([tables[-1], more]).unify_dictionaries().combine_chunks()
            tables.append(grown if number % 3 == 0 else changed(tables[-1], number, 0.1))
        repository.commit({"t": tables[-1]}, key="id", message=str(number), threads=1)
    return tables


def assert_versions(repository: Repository, tables: list[pa.Table]) -> None:
    for number, table in enumerate(tables):
        assert repository.snapshot(f"t@v{number + 1}").to_arrow().equals(table)


# -- repack ----------------------------------------------------------------------------------------


def test_a_repack_changes_nothing_but_files(tmp_path: Path) -> None:
    clock = Clock()
    storage = MemoryStorage(clock=clock)
    repository = new(storage)
    tables = versions(repository, 12)
    ids = [commit.id for commit in repository.log()]
    reader = opened(storage)
    assert_versions(reader, tables[:1])
    packs = files(repository, "packs/")
    planned = repository.repack(dry_run=True)
    assert planned.dry_run and planned.packs_before == 12 and files(repository, "packs/") == packs
    done = repository.repack()
    assert (done.packs_before, done.packs_after, done.index_files_after) == (12, 1, 1)
    assert done.waiting_bytes > 0 == done.freed_bytes
    assert set(files(repository, "packs/")) > set(packs)  # nobody who reads them is disturbed
    assert_versions(reader, tables)
    clock.now += GRACE_SECONDS - 1
    assert repository.repack().freed_bytes == 0
    clock.now += 2
    assert repository.repack().freed_bytes >= done.waiting_bytes
    assert len(files(repository, "packs/")) == 1 and not set(files(repository, "packs/")) & set(packs)
    assert not files(repository, "condemned/")
    # Entries that were looked up long ago lead to the copies; so does everything else.
    for one in (reader, opened(storage)):
        assert_versions(one, tables)
        assert [commit.id for commit in one.log()] == ids
        assert_whole(one)
    assert repository.repack().rewritten == 0
    clock.now += GRACE_SECONDS + 1
    repository.repack()
    assert not files(repository, "dead/")
    repository.snapshot("t@v9").write_parquet(tmp_path / "9.parquet")


def test_what_others_condemned_is_not_said_to_wait_for_a_repack() -> None:
    storage = MemoryStorage()
    repository = new(storage)
    versions(repository, 3)
    condemn(storage, files(repository, "packs/")[:1], purpose="gc", grace=GRACE_SECONDS, time="")
    assert opened(storage).repack(dry_run=True).waiting_bytes == 0


class ReadOnly(MemoryStorage):
    """Takes nothing any more, and gives nothing up."""

    def put_if_absent(self, key: str, data: Data) -> None:
        raise StorageError(f"cannot write {key}")

    def delete(self, key: str) -> None:
        raise StorageError(f"cannot delete {key}")


def test_that_nothing_can_be_written_is_what_is_told() -> None:
    repository = new(MemoryStorage())
    versions(repository, 3)
    storage = ReadOnly()
    for key in files(repository, ""):
        MemoryStorage.put_if_absent(storage, key, repository.store.storage.get(key))
    with pytest.raises(StorageError, match="cannot write packs/"):
        opened(storage).repack()


def test_without_a_grace_space_is_free_at_once() -> None:
    repository = new(MemoryStorage())
    tables = versions(repository, 6)
    before = sum(entry.size for entry in repository.store.storage.list("packs/"))
    done = repository.repack(grace=0)
    assert done.waiting_bytes == 0 and done.freed_bytes >= before
    assert len(files(repository, "packs/")) == 1
    assert_versions(opened(repository.store.storage), tables)
    assert_whole(repository)
    done = repository.repack(grace=0)
    assert (done.rewritten, done.freed_bytes, done.packs_after) == (0, 0, 1)


def test_what_is_smaller_as_a_patch_becomes_one(tmp_path: Path) -> None:
    clock = Clock()
    storage = MemoryStorage(clock=clock)
    repository = new(storage)
    table = features(6_000)
    repository.commit({"t": table}, key="id", message="base")
    repository.branch("topic")
    ours = changed(table, 1)
    repository.commit({"t": ours}, message="ours")
    names = table["name"].to_pylist()
    names[7] = "another"
    repository.commit({"t": table.set_column(4, "name", pa.array(names))}, branch="topic", message="theirs")
    flagged = table.append_column("score", pa.array(np.random.default_rng(1).random(6_000)))
    repository.commit({"u": flagged}, key="id", message="another")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "fsvc.engine.patching._WORTH", 0.0
        )  # as if it could not be patched when it was committed
        scored = flagged.set_column(5, "score", changed_scores(flagged))
        repository.commit({"u": scored}, message="stored whole")
    merged = repository.merge("topic", message="merged")
    entry = repository.store.objects.find(repository.snapshot("u").manifest.identity(5, 0).address)[0]
    assert entry is not None and entry.meta[0] == index.FULL
    before = [(commit.id, [s.id for s in commit.snapshots()]) for commit in repository.log()]
    done = repository.repack(grace=0)
    assert done.reformed >= 1 and done.bytes_after < 0.9 * done.bytes_before
    again = opened(storage)
    entry = again.store.objects.find(again.snapshot("u").manifest.identity(5, 0).address)[0]
    assert entry is not None and entry.meta[0] == index.PATCH
    assert [(commit.id, [s.id for s in commit.snapshots()]) for commit in again.log()] == before
    assert again.snapshot("u@main").to_arrow().equals(scored)
    assert again.snapshot("u@main~1").to_arrow().equals(scored)
    assert again.snapshot("t@v1").to_arrow().equals(table)
    assert again.snapshot("t@v2").to_arrow().equals(ours)
    assert again.resolve().id == merged.id
    assert_whole(again)
    again.snapshot("u").write_parquet(tmp_path / "u.parquet")
    assert again.repack(grace=0).rewritten == 0


def changed_scores(table: pa.Table) -> pa.Array:
    scores = table["score"].to_numpy().copy()
    scores[::100] += 1
    return pa.array(scores)


def test_a_damaged_object_is_not_copied_and_its_pack_stays(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    repository = new(LocalStorage(root, create=True))
    tables = versions(repository, 5)
    (entry,) = [
        entry for table in repository.store.objects.tables() for entry in table.entries()
        if entry.meta[0] == index.PATCH
    ][:1]  # fmt: skip
    path = root / "packs" / f"{entry.pack}.pack"
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[entry.offset + entry.length // 2] ^= 1
    path.write_bytes(data)
    done = opened(LocalStorage(root)).repack(grace=0)
    assert done.damaged == (entry.pack,)
    assert path.exists() and len(list((root / "packs").iterdir())) == 2
    again = opened(LocalStorage(root))
    assert again.snapshot("t@v1").to_arrow().equals(tables[0])
    assert {damage.kind for damage in again.verify().damages} == {"object", "pack"}
    data[entry.offset + entry.length // 2] ^= 1
    path.write_bytes(data)
    assert_versions(opened(LocalStorage(root)), tables)


def test_an_interrupted_repack_takes_its_packs_back(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = new(MemoryStorage())
    tables = versions(repository, 6)
    before = files(repository, "")
    monkeypatch.setattr(objects, "PACK_BYTES", 2_000)

    def interrupt(phase: str, done: int, total: int | None) -> None:
        if total and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repository.repack(progress=interrupt)
    assert files(repository, "") == before
    assert_versions(repository, tables)


def test_a_pack_does_not_get_the_name_of_one_that_was_condemned() -> None:
    clock = Clock()
    storage = MemoryStorage(clock=clock)
    repository = new(storage)
    repository.commit({"a": small(1)}, message="m", threads=1)
    repository.commit({"a": small(2)}, message="m", threads=1)
    (first, _) = sorted(files(repository, "packs/"), key=storage.age)
    repository.repack()
    clock.now += GRACE_SECONDS + 1
    repository.repack()
    assert first not in files(repository, "packs/")
    # The same table again would make the same pack; the name is still on the list of the dead.
    again = opened(storage)
    again.commit({"b": small(3)}, message="m", threads=1)
    entries = [entry for table in again.store.objects.tables() for entry in table.entries()]

    def pack(taken: set[str]) -> str:
        writer = PackWriter(MemoryStorage(), taken=taken)
        for entry in entries:
            data = again.store.objects.stored(entry)
            writer.add(index.Identity(entry.address, entry.digest), entry.meta, [data])
        (name,) = {entry.pack for entry in writer.finish()}
        return name

    assert pack(set()) == pack(set())
    assert pack({pack(set())}) not in (pack(set()), pack({pack(set())}))


def test_a_commit_from_before_a_repack_keeps_what_it_stands_on() -> None:
    clock = Clock()
    storage = MemoryStorage(clock=clock)
    repository = new(storage)
    tables = versions(repository, 4)
    table = changed(tables[-1], 99)
    drafts = [opened(storage).draft({"t": table}, key="id", branch="main") for _ in range(2)]
    repository.repack()
    drafts[0].publish(message="young", author="ann")
    clock.now += GRACE_SECONDS + 1
    repository.repack()
    assert_versions(opened(storage), [*tables, table])
    assert_whole(opened(storage))


@pytest.mark.parametrize("decided", [False, True])
def test_a_commit_that_took_longer_than_the_grace_is_made_again_or_calls_the_list_off(decided: bool) -> None:
    clock = Clock()
    storage = MemoryStorage(clock=clock)
    repository = new(storage)
    tables = versions(repository, 4)
    table = changed(tables[-1], 99)
    draft = opened(storage).draft({"t": table}, key="id", branch="main")
    repository.repack()
    clock.now += GRACE_SECONDS + 1
    if decided:
        repository.repack()
        with pytest.raises(StorageError, match="is gone"):
            draft.publish(message="late", author="ann")
        opened(storage).commit({"t": table}, message="again")
    else:
        draft.publish(message="late", author="ann")
        repository.repack()
    assert_versions(opened(storage), [*tables, table])
    assert_whole(opened(storage))


def test_a_commit_that_took_for_days_does_not_bring_back_what_index_files_said() -> None:
    clock = Clock()
    storage = MemoryStorage(clock=clock)
    repository = new(storage)
    tables = versions(repository, 3)
    repository.repack()
    clock.now += GRACE_SECONDS
    # The index file that it has seen names the packs of before the repack as well.
    (seen,) = storage.keys("index/")
    draft = opened(storage).draft({"u": tables[-1]}, key="id", branch="other")
    repository.repack()
    clock.now += GRACE_SECONDS + 1
    repository.repack()
    assert not list(storage.keys("dead/"))
    draft.publish(message="late", author="ann")
    assert seen not in set(storage.keys("index/"))
    assert_versions(opened(storage), tables)
    assert_whole(opened(storage))
    repository.commit({"t": changed(tables[-1], 5)}, message="next")


def test_a_commit_whose_own_packs_were_lost_is_not_published() -> None:
    storage = MemoryStorage()
    repository = new(storage)
    (table,) = versions(repository, 1)
    before = set(storage.keys("packs/"))
    draft = opened(storage).draft({"t": changed(table, 1)}, key="id", branch="main")
    draft.settle(timestamp())
    for key in set(storage.keys("packs/")) - before:
        storage.delete(key)
    with pytest.raises(Corruption, match="is missing"):
        draft.publish(message="m", author="ann")
    assert_versions(opened(storage), [table])


# -- index files -----------------------------------------------------------------------------------


def test_commits_merge_index_files(count: Count) -> None:
    storage = MemoryStorage()
    repository = new(storage)
    for number in range(150):
        repository.commit({"a": small(number)}, message="m", threads=1)
    most = compaction._FILES * 4
    assert len(files(repository, "index/")) < most
    assert len(repository.store.objects.files()) < most
    fresh = opened(storage)
    assert fresh.stats().objects == len(
        {entry.address for table in fresh.store.objects.tables() for entry in table.entries()}
    )
    assert_whole(fresh)


def test_writers_who_merge_at_once_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_FILES", 2)
    storage = MemoryStorage()
    new(storage)

    def commits(me: int) -> list[str]:
        mine = opened(storage)
        return [mine.commit({f"s{me}": small(me * 10 + i)}, message="m", threads=1).id for i in range(8)]

    made = at_once(*(lambda me=me: commits(me) for me in range(5)))
    assert not [outcome for outcome in made if isinstance(outcome, FsvcError)]
    assert_whole(opened(storage))


class Vanishing(MemoryStorage):
    """Merges the index at the moment when a reader has listed it."""

    other: Callable[[], object] | None = None

    def keys(self, prefix: str) -> Iterator[str]:
        found = list(super().keys(prefix))
        if prefix == "index/" and self.other is not None:
            other, self.other = self.other, None
            other()
        return iter(found)


@pytest.mark.parametrize("ask", ["read", "verify"])
def test_readers_find_what_was_merged_while_they_looked(ask: str) -> None:
    storage = Vanishing()
    repository = new(storage)
    tables = versions(repository, 5)

    def merge_all() -> None:
        compaction.merge(repository.store, repository.store.objects.files())
        assert compaction.delete_covered(repository.store) >= 5

    reader = opened(storage)
    storage.other = merge_all
    if ask == "verify":
        report = reader.verify()
        assert report.ok and report.counts.index_files == 1
    assert_versions(reader, tables)
    assert len(files(repository, "index/")) == 1


def test_of_two_merged_files_that_say_the_same_one_stays() -> None:
    storage = MemoryStorage()
    repository = new(storage)
    tables = versions(repository, 4)
    one, other = opened(storage), opened(storage)
    compaction.merge(one.store, one.store.objects.files())
    plain = index.merge_tables(list(other.store.objects.files().values()))
    storage.put_batch({f"index/{index.table_id(plain)}.idx": plain})
    for each in (one, other):
        each.store.objects.refresh()
    compaction.delete_covered(one.store)
    compaction.delete_covered(other.store)
    assert len(files(repository, "index/")) == 1
    assert_versions(opened(storage), tables)


# -- crashes ---------------------------------------------------------------------------------------


def _whole(root: Path, tables: list[pa.Table], *, deep: bool = True) -> None:
    """Check what a crash left: every version is there, and all of it is whole."""
    repository = reopened(root)
    report = repository.verify(deep=deep)
    assert report.ok, [str(damage) for damage in report.damages]
    assert repository.resolve().versions == {"t": len(tables)}
    assert_versions(repository, tables)


def _age(root: Path) -> None:
    """Make condemned files old."""
    for path in [*(root / "repository").glob("condemned/*"), *(root / "repository").glob("dead/*")]:
        os.utime(path, (time.time() - 2 * GRACE_SECONDS,) * 2)


def _start(root: Path) -> list[pa.Table]:
    root.mkdir()
    return versions(new(LocalStorage(root / "repository", create=True, system=Unsynced())), 4, 60)


def _merge(repository: Repository) -> None:
    compaction.merge(repository.store, repository.store.objects.files())
    compaction.delete_covered(repository.store)


WORK: dict[str, Callable[[LocalStorage, Recording], object]] = {
    "a merge": lambda storage, _: _merge(opened(storage)),
    "a repack": lambda storage, _: opened(storage).repack(),
    "a repack that deletes": lambda storage, _: opened(storage).repack(grace=0),
}


def _crash(light_path: Path, what: str, *, every: bool) -> int:
    root = light_path / "disk"
    tables = _start(root)
    more = changed(tables[-1], 50, 0.1)

    def check(state: CrashState) -> None:
        left = state.path / "repository"
        _whole(left, tables)
        reopened(left).repack(grace=0)
        reopened(left).commit({"t": more}, message="m", threads=1)
        _age(state.path)
        reopened(left).repack(grace=0)
        _whole(left, [*tables, more])

    return after_crashes(recorded(root, WORK[what]), light_path / "scratch", check, every=every)


@pytest.mark.parametrize("what", WORK)
def test_a_crash_at_any_point_loses_nothing(light_path: Path, what: str, count: Count) -> None:
    states = _crash(light_path, what, every=False)
    assert states > 3
    count(f"crash states of {what} reopened, repacked and committed to, all whole", states)


@pytest.mark.soak
@pytest.mark.parametrize("what", WORK)
def test_every_crash_state_is_whole(light_path: Path, what: str, count: Count) -> None:
    states = _crash(light_path, what, every=True)
    count(f"crash states of {what} reopened, repacked and committed to, all whole", states)


def test_a_recovery_that_crashes_too_loses_nothing(light_path: Path, count: Count) -> None:
    root = light_path / "disk"
    tables = _start(root)
    work, states = WORK["a repack that deletes"], 0

    def check(left: CrashState) -> None:
        _whole(left.path / "repository", tables, deep=False)
        reopened(left.path / "repository").repack(grace=0)
        _whole(left.path / "repository", tables)

    def again(state: CrashState) -> None:
        nonlocal states
        second = light_path / "second"
        shutil.rmtree(second, ignore_errors=True)
        shutil.copytree(state.path, second)
        inner = recorded(second, work)
        states += after_crashes(inner, light_path / "scratch2", check, every=False, some=lambda n: n % 7 == 3)

    outer = recorded(root, work)
    after_crashes(outer, light_path / "scratch", again, every=False, some=lambda n: n % 12 == 5)
    assert states > 2
    count("crash states of a repack after a crash of a repack, all whole", states)


class DeletesFirst(LocalStorage):
    """Deletes a pack before the list that decides it is dead, and its successor, are there."""

    def put_if_absent(self, key: str, data: Data) -> None:
        if key.startswith("condemned/"):
            for other in list(self.keys("packs/")):
                if f'"{other}"'.encode() in b"".join([data] if isinstance(data, bytes) else list(data)):  # type: ignore[arg-type]
                    self.delete(other)
        super().put_if_absent(key, data)


def test_a_planted_fault_is_found(light_path: Path) -> None:
    root = light_path / "disk"
    tables = _start(root)
    recording = Recording(root)
    opened(DeletesFirst(root / "repository", system=recording)).repack()
    problems = []
    for state in crash_states(recording, light_path / "scratch"):
        try:
            _whole(state.path / "repository", tables)
        except (AssertionError, FsvcError) as error:
            problems.append(str(error))
    assert problems


# -- any order of things ---------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """Commits, drafts that stay open, repacks, merges and time that passes, against a list of tables."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        Wall.show(self.clock, tick=1)
        self.storage = MemoryStorage(clock=self.clock)
        self.repository = new(self.storage)
        self.readers = [opened(self.storage)]
        self.tables: dict[str, pa.Table] = {}
        self.drafts: list[tuple[CommitDraft, str, pa.Table]] = []
        self.current: dict[str, pa.Table] = {}
        self.number = 0

    def table(self, name: str, edit: int) -> pa.Table:
        self.number += 1
        old = self.current.get(name)
        if old is None or edit == 0:
            return features(60 + self.number)
        if edit == 1:
            more = features(10).set_column(0, "id", pa.array(np.arange(10) + 10**6 + 100 * self.number))
            return pa.concat_tables([old, more]).unify_dictionaries().combine_chunks()
        if edit == 2 and len(old) > 40:
            keep = np.ones(len(old), bool)
            keep[np.random.default_rng(self.number).integers(0, len(old), 5)] = False
            return old.filter(pa.array(keep)).combine_chunks()
        return changed(old, self.number, 0.05)

    @rule(name=st.sampled_from("ab"), edit=st.integers(0, 4))
    def commit(self, name: str, edit: int) -> None:
        table = self.table(name, edit)
        made = self.repository.commit({name: table}, key="id", message="m", threads=1)
        self.tables[f"{name}@{made.id}"] = self.current[name] = table

    @rule(name=st.sampled_from("cd"), edit=st.integers(0, 4))
    def draft(self, name: str, edit: int) -> None:
        table = self.table(name, edit)
        self.drafts.append((opened(self.storage).draft({name: table}, key="id", branch=f"b{self.number}",
                            threads=1), name, table))  # fmt: skip

    @rule()
    def publish(self) -> None:
        if self.drafts:
            draft, name, table = self.drafts.pop(0)
            try:
                made = draft.publish(message="m", author="ann")
            except StorageError as error:
                assert "is gone" in str(error)
                return
            self.tables[f"{name}@{made.commit}"] = table

    @rule(hours=st.sampled_from((1, 11, 13, 25)))
    def wait(self, hours: int) -> None:
        self.clock.now += hours * 3600

    @rule(fresh=st.booleans())
    def repack(self, fresh: bool) -> None:
        done = (opened(self.storage) if fresh else self.repository).repack()
        assert not done.damaged

    @rule()
    def merge(self) -> None:
        store = opened(self.storage).store
        if len(store.objects.files()) > 1:
            compaction.merge(store, store.objects.files())
            compaction.delete_covered(store)

    @rule()
    def reopen(self) -> None:
        self.repository = opened(self.storage)

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        if self.tables:
            name = data.draw(st.sampled_from(sorted(self.tables)))
            for reader in (self.repository, opened(self.storage)):
                assert reader.snapshot(name).to_arrow().equals(self.tables[name])

    @invariant()
    def what_is_dead_is_not_needed(self) -> None:
        if hasattr(self, "storage"):
            lists = Lists(self.storage)
            lists.refresh()
            assert lists.dead_packs.isdisjoint(lists.condemned_packs)

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            repository = opened(self.storage)
            report = repository.verify(deep=True)
            assert report.ok, [str(damage) for damage in report.damages]
            for name, table in self.tables.items():
                assert repository.snapshot(name).to_arrow().equals(table)


def test_any_order_of_commits_repacks_and_merges(monkeypatch: pytest.MonkeyPatch, count: Count) -> None:
    monkeypatch.setattr(compaction, "_FILES", 3)
    hang(monkeypatch)
    run_state_machine_as_test(Machine, settings=settings(max_examples=12, stateful_step_count=25))
    count("sequences of 25 commits, repacks and merges compared with a model", 12)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_any_order_of_commits_repacks_and_merges_for_long(
    monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    monkeypatch.setattr(compaction, "_FILES", 3)
    hang(monkeypatch)
    run_state_machine_as_test(Machine, settings=settings(max_examples=2_000, stateful_step_count=50))
    count("sequences of 50 commits, repacks and merges compared with a model", 2_000)


# -- processes -------------------------------------------------------------------------------------


def test_processes_repack_while_others_commit_and_read(tmp_path: Path, count: Count) -> None:
    repository = new(LocalStorage(tmp_path / "repository", create=True))
    root = repository.location
    first = repository.commit({"base": small(0)}, message="m").id
    with Writer() as one, Writer() as two, Writer() as three, Writer() as four:
        writers = [one, two, three, four]
        one.start(Task(root, ("a",), "a", commits=25))
        two.start(Task(root, ("b",), "b", commits=25))
        three.start(Task(root, (), "c", commits=6, repack=True))
        four.start(Task(root, (), "d", commits=6, repack=True))
        for _ in range(20):
            assert opened(LocalStorage(root)).snapshot(f"base@{first}").to_arrow().equals(small(0))
        assert [writer.end() for writer in writers] == [0] * 4
    made = [commit for writer in writers for commit, _ in writer.committed]
    assert len(made) == 50
    assert_whole(opened(LocalStorage(root)))
    _age(tmp_path)
    assert opened(LocalStorage(root)).repack(grace=0).damaged == ()
    last = opened(LocalStorage(root))
    assert_whole(last)
    assert {commit for commit, _, _ in contents(last)} >= {first, *made}
    count("commits of processes while others repacked, all whole", len(made))


def test_a_repack_of_a_repository_without_objects() -> None:
    done = new(MemoryStorage()).repack()
    assert (done.packs_before, done.packs_after, done.rewritten) == (0, 0, 0)
    assert repack.Repacked.__doc__
