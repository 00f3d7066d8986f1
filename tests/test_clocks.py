"""Clocks that jump, forward and back by years: nothing that is in use is deleted, and history keeps its order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from crash import Unsynced
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from test_gc import Collecting, lose
from test_patches import changed, features
from wall import Clock, Wall, hang
from wholeness import assert_whole, new, opened, reopened

from fsvc.engine import compaction, pins
from fsvc.engine.clock import timestamp
from fsvc.engine.collection import GC_GRACE_SECONDS
from fsvc.errors import StorageError
from fsvc.repository import Repository
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage

Count = Callable[[str, int], None]

YEAR = 365 * 24 * 3600
JUMPS = (-30 * YEAR, -YEAR, -15 * 24 * 3600, -3600, 7 * 24 * 3600, 15 * 24 * 3600, YEAR, 30 * YEAR)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the wall: what commits and refs write, and by what a store in memory tells ages."""
    hang(monkeypatch)
    return Wall.clock


def assert_in_order(repository: Repository) -> None:
    """Every log is in the order of the graph, whatever the times say: children come before their parents."""
    for branch, head in repository.branches().items():
        log = repository.log(revision=branch)
        place = {commit.id: number for number, commit in enumerate(log)}
        assert log[0].id == head and len(place) == len(log)
        for commit in log:
            assert all(place[parent] > place[commit.id] for parent in commit.parents)


class Jumping(Collecting):
    """Commits, drafts, deletions and collections, pins, and a clock that goes where it likes."""

    @initialize()
    def begin(self) -> None:
        super().begin()
        Wall.show(self.clock)

    @rule(seconds=st.sampled_from(JUMPS))
    def jump(self, seconds: int) -> None:
        self.clock.now = min(max(self.clock.now + seconds, -50 * YEAR), 100 * YEAR)

    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        branches = sorted(self.repository.branches())
        if branches:
            branch = data.draw(st.sampled_from(branches))
            commit = self.repository.resolve(branch)
            signer = pins.Signer("ann", timestamp())
            reference = commit.snapshots()[0].reference
            pins.begin(self.repository.store, {"train": reference}, signer, model=f"m-{commit.id[:20]}")

    @invariant()
    def in_order(self) -> None:
        if hasattr(self, "repository"):
            assert_in_order(opened(self.storage))


@pytest.mark.usefixtures("clock")
def test_any_order_of_things_with_a_clock_that_jumps(monkeypatch: pytest.MonkeyPatch, count: Count) -> None:
    monkeypatch.setattr(compaction, "_FILES", 3)
    run_state_machine_as_test(Jumping, settings=settings(max_examples=15, stateful_step_count=25))
    count("sequences of 25 operations under a clock that jumps compared with a model", 15)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
@pytest.mark.usefixtures("clock")
def test_any_order_of_things_with_a_clock_that_jumps_for_long(
    monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    monkeypatch.setattr(compaction, "_FILES", 3)
    run_state_machine_as_test(Jumping, settings=settings(max_examples=2_000, stateful_step_count=60))
    count("sequences of 60 operations under a clock that jumps compared with a model", 2_000)


@pytest.mark.parametrize("jump", JUMPS)
def test_a_commit_that_is_being_made_when_the_clock_jumps(clock: Clock, jump: int) -> None:
    storage = MemoryStorage(clock=clock)
    repository = new(storage)
    base = features(3_000)
    repository.commit({"t": base}, key="id", message="1", threads=1)
    gone = changed(base, 3)
    lose(opened(storage).draft({"u": gone}, key="id", branch="main", threads=1))
    more = features(10).set_column(0, "id", pa.array(range(10**6, 10**6 + 10)))
    table = pa.concat_tables([changed(base, 4), more]).unify_dictionaries().combine_chunks()
    draft = opened(storage).draft(
        {"t": table, "w": gone}, key={"t": "id", "w": "id"}, branch="main", threads=1
    )
    for _ in range(3):
        clock.now += jump
        opened(storage).gc(delete=True)
        opened(storage).repack()
    try:
        draft.publish(message="2", author="ann")
    except StorageError as error:
        assert "is gone" in str(error)
        repository = opened(storage)
        repository.commit({"t": table, "w": gone}, key={"t": "id", "w": "id"}, message="2")
    for _ in range(3):
        clock.now += abs(jump) + GC_GRACE_SECONDS
        opened(storage).gc(delete=True)
        opened(storage).repack()
    after = opened(storage)
    assert after.snapshot("t").to_arrow().equals(table) and after.snapshot("t@v1").to_arrow().equals(base)
    assert after.snapshot("w").to_arrow().equals(gone)
    assert_whole(after)
    assert_in_order(after)


def test_a_branch_at_a_time_is_what_its_log_says_last(clock: Clock) -> None:
    repository = new(MemoryStorage(clock=clock))
    for number, years in enumerate((0, 4, -1, 2)):
        clock.now = years * YEAR
        repository.commit({"t": features(10 + number)}, message=str(number), threads=1)
    assert [commit.message for commit in repository.log()] == ["3", "2", "1", "0"]
    assert [commit.versions["t"] for commit in repository.log()] == [4, 3, 2, 1]
    found = {year: repository.resolve(f"main{{{year}-01-01}}").message for year in (2026, 2028, 2029, 2032)}
    assert found == {2026: "2", 2028: "2", 2029: "3", 2032: "3"}


@pytest.fixture
def used(light_path: Path) -> Path:
    """A repository in a directory, with a branch that is deleted, and garbage."""
    root = light_path / "repository"
    repository = new(LocalStorage(root, create=True, system=Unsynced()))
    repository.commit({"t": features(500)}, key="id", message="1")
    repository.commit({"t": changed(features(500), 2)}, branch="dev", message="2")
    repository.tag("gold", "dev")
    repository.delete_branch("dev")
    lose(reopened(root).draft({"u": features(800)}, key="id", branch="main", threads=1))
    return root


def _keys(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("year", [1970, 2100])
def test_files_that_were_written_by_a_wrong_clock(used: Path, year: int) -> None:
    when = (year - 1970) * YEAR
    for _ in range(3):
        for path in _keys(used):
            os.utime(path, (when, when))
        before = set(_keys(used))
        reopened(used).gc(delete=True)
        reopened(used).repack()
        if year == 2100:
            gone = before - set(_keys(used))
            assert all(path.parent.name == "index" for path in gone), "what has no age yet is not deleted"
        repository = reopened(used)
        assert repository.snapshot("t@gold").to_arrow().equals(changed(features(500), 2))
        assert repository.snapshot("t").to_arrow().equals(features(500))
        assert_whole(repository)
