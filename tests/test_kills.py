"""Writers that are killed or interrupted lose nothing that was acknowledged, and never block the next one."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wholeness import new, opened
from writer import Task, Writer

from fsvc.engine import history
from fsvc.storage.local import LocalStorage

Count = Callable[[str, int], None]


@pytest.fixture
def two_writers() -> Iterator[list[Writer]]:
    with Writer() as one, Writer() as other:
        yield [one, other]


def check(root: Path, writers: list[Writer], *, most_unacknowledged: int) -> int:
    """Check a repository that several writers have left; give how many commits they were told of."""
    repository = opened(LocalStorage(root))
    report = repository.verify(deep=True)
    assert report.ok, [str(damage) for damage in report.damages]
    found = list(history.first_parents(repository.store, history.head(repository.store, "main")))
    times = Counter(commit for commit, _ in found)
    marks = Counter(record.metadata["mark"] for _, record in found)
    acknowledged = {commit for writer in writers for commit, _ in writer.committed}
    assert [commit for commit in acknowledged if times[commit] != 1] == []  # none is lost
    assert [mark for mark, number in marks.items() if number != 1] == []  # none was made twice
    assert len(found) - len(acknowledged) <= most_unacknowledged
    for writer in writers:
        for ours, theirs in writer.conflicts:
            assert repository.store.has_commit(ours)
            assert times[ours] == 0 and times[theirs] == 1
    entries = repository.store.refs.log("heads", "main")
    assert [entry.commit for entry in entries] == [commit for commit, _ in found]
    assert [entry.sequence for entry in entries] == list(range(len(found), 0, -1))
    return len(acknowledged)


def kill_writers(root: Path, writers: list[Writer], kills: int, chance: random.Random) -> int:
    """Kill two writers of one branch at random moments; then each must get through at once."""
    new(LocalStorage(root, create=True))
    for writer in writers:
        writer.committed.clear()
        writer.conflicts.clear()
    for number in range(kills):
        for name, writer in zip("ab", writers, strict=True):
            if writer.pid is None:
                writer.start(Task(str(root), (name, "shared"), f"{name}{number}"))
        time.sleep(chance.uniform(0, 0.05))
        chance.choice(writers).stop(signal.SIGKILL)
    for writer in writers:
        if writer.pid is not None:
            writer.stop(signal.SIGKILL)
    for name, writer in zip("ab", writers, strict=True):
        before = len(writer.committed)
        started = time.monotonic()
        writer.start(Task(str(root), (name,), f"{name}-last", commits=1))
        assert writer.end() == 0
        assert time.monotonic() - started < 20
        assert len(writer.committed) == before + 1
    return check(root, writers, most_unacknowledged=kills + 1)


def test_a_killed_writer_loses_nothing(tmp_path: Path, two_writers: list[Writer], count: Count) -> None:
    for number in range(4):
        acknowledged = kill_writers(tmp_path / str(number), two_writers, 25, random.Random(number))
        assert acknowledged > 2
        count("kills at random moments, no acknowledged commit lost", 25)
        count("commits acknowledged by writers that were killed, all there once", acknowledged)


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_thousands_of_killed_writers_lose_nothing(
    light_path: Path, two_writers: list[Writer], count: Count
) -> None:
    for number in range(400):
        root = light_path / str(number)
        acknowledged = kill_writers(root, two_writers, 25, random.Random(1000 + number))
        count("kills at random moments, no acknowledged commit lost", 25)
        count("commits acknowledged by writers that were killed, all there once", acknowledged)


def test_a_writer_killed_before_each_of_its_operations_loses_nothing(
    tmp_path: Path, two_writers: list[Writer], count: Count
) -> None:
    killed, other = two_writers
    root = str(tmp_path / "repository")
    new(LocalStorage(root, create=True))
    kills = 0
    for operation in range(1, 500):
        mark = f"k{operation}"
        killed.start(Task(root, ("a", "b"), mark, commits=1, together=True, kill_at=operation))
        if killed.end() == 0:
            break  # it had no more operations than that
        kills += 1
        if operation % 7 == 0:
            other.start(Task(root, ("a",), f"o{operation}", commits=1))
            assert other.end() == 0
    assert kills > 20
    assert len(other.committed) == kills // 7 and len(killed.committed) == 1
    check(tmp_path / "repository", two_writers, most_unacknowledged=kills)
    count("kills before an operation of a commit, nothing lost", kills)


def test_an_interrupted_writer_loses_nothing_and_can_go_on(
    tmp_path: Path, two_writers: list[Writer], count: Count
) -> None:
    chance = random.Random(5)
    root = tmp_path / "repository"
    new(LocalStorage(root, create=True))
    interrupted = two_writers[0]
    interrupts = 0
    for number in range(3):
        interrupted.start(Task(str(root), ("a", "b"), f"i{number}"))
        interrupted.wait("committed")
        for _ in range(10):
            time.sleep(chance.uniform(0, 0.02))
            interrupted.send(signal.SIGINT)
            interrupted.wait("interrupted")
            interrupts += 1
        interrupted.wait("committed")  # the same process goes on committing
        interrupted.stop(signal.SIGKILL)
    check(root, [interrupted], most_unacknowledged=interrupts + 3)
    count("interrupts of a commit, nothing lost", interrupts)
