"""A crash at any point of any operation leaves the old state or the new one, whole, and ready for the next.

Every file operation of a run is recorded; every state that a disk may be in after a crash between two of
them, with the last write absent, torn or zeroed, is made, opened, verified, read, and committed to again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from crash import Recording, crash_states
from wholeness import Refs, assert_whole, contents, new, opened, refs, reopened, small

import fsvc
from fsvc.engine import history
from fsvc.engine.writing import NewObjects
from fsvc.repository import Repository
from fsvc.storage.contract import Storage
from fsvc.storage.local import LocalStorage

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fsvc.storage.contract import Data

Counter = Callable[[str, int], None]


@dataclass
class Run:
    """A recorded run: after each acknowledged operation, where refs stood and how many tables there were."""

    recording: Recording
    states: list[Refs] = field(default_factory=list)
    committed: list[int] = field(default_factory=list)
    tables: dict[tuple[str, str], pa.Table] = field(default_factory=dict)

    def acknowledge(self, label: str, repository: Repository) -> None:
        self.recording.acknowledge(label)
        self.states.append(refs(repository))
        self.committed.append(len(self.tables))


def commit(repository: Repository, run: Run, data: Mapping[str, pa.Table], branch: str | None = None) -> None:
    made = repository.commit(data, message="m", branch=branch, threads=1)
    for name, table in data.items():
        run.tables[made.id, name] = table


def changed(row: int, note: str) -> pa.Table:
    """A table with a key, and another note in one row."""
    notes = [note if number == row else "a" for number in range(12)]
    return pa.table({"id": pa.array(range(12), pa.int64()), "note": notes})


def keyed(repository: Repository, run: Run) -> None:
    made = repository.commit({"keyed": changed(0, "a")}, key="id", message="m", threads=1)
    run.tables[made.id, "keyed"] = changed(0, "a")


def merge(repository: Repository, run: Run) -> None:
    made = repository.merge("topic", threads=1)
    notes = changed(2, "b")["note"].to_pylist()[:9] + changed(9, "c")["note"].to_pylist()[9:]
    run.tables[made.id, "keyed"] = pa.table({"id": pa.array(range(12), pa.int64()), "note": notes})


OPERATIONS: dict[str, Callable[[Repository, Run], object]] = {
    "a commit of several sets": lambda r, run: commit(r, run, {"orders": small(1), "people": small(2, 9)}),
    "a commit that uses chunks again": lambda r, run: commit(r, run, {"orders": small(3)}),
    "a commit with a key": keyed,
    "a branch to merge": lambda r, run: r.branch("topic"),
    "a commit of theirs": lambda r, run: commit(r, run, {"keyed": changed(2, "b")}, "topic"),
    "a commit of ours": lambda r, run: commit(r, run, {"keyed": changed(9, "c")}),
    "a merge": merge,
    "a revert": lambda r, run: r.revert("main", mainline=1, threads=1),
    "a move forward": lambda r, run: r.merge("main", branch="topic", threads=1),
    "a branch": lambda r, run: r.branch("dev/x"),
    "a commit on the branch": lambda r, run: commit(r, run, {"people": small(4, 9)}, "dev/x"),
    "a tag": lambda r, run: r.tag("gold", "~1"),
    "a deleted tag": lambda r, run: r.delete_tag("gold"),
    "a deleted branch": lambda r, run: r.delete_branch("dev/x"),
    "the tag made again": lambda r, run: r.tag("gold"),
    "expectations": lambda r, run: r.expect("people", [{"kind": "range", "column": "score", "min": 0}]),
    "a commit that is checked": lambda r, run: commit(r, run, {"people": small(5, 9)}),
}


def record(recording: Recording, store: Callable[[Path], Storage], labels: Iterable[str] = OPERATIONS) -> Run:
    """Do operations one after the other, on a disk that is recorded."""
    run = Run(recording)
    repository = new(store(Path(recording.root) / "repository"))
    run.acknowledge("init", repository)
    for label in labels:
        OPERATIONS[label](repository, run)
        run.acknowledge(label, repository)
    return run


def check(run: Run, path: Path, acknowledged: int) -> None:
    """Open what a crash left: the state last acknowledged or the next one, whole; then commit to it."""
    root = path / "repository"
    if not (root / "repository.json").exists():
        assert acknowledged == 0, "the repository is gone"
        again = fsvc.init(root)
        again.commit({"orders": small(1)}, message="m", threads=1)
        assert_whole(again)
        return
    repository = reopened(root)
    allowed = run.states[max(acknowledged - 1, 0) : acknowledged + 1]
    assert refs(repository) in allowed
    assert_whole(repository, run.tables)
    if acknowledged:
        promised = set(list(run.tables)[: run.committed[acknowledged - 1]])
        assert promised <= {(commit, name) for commit, name, _ in contents(repository)}
    head = history.head(repository.store, "main")
    tables = {"orders": small(7), "people": small(2, 9), "more": small(8)}
    made = repository.commit(tables, message="m", threads=1)
    assert made.created
    assert made.parents == ((head,) if head is not None else ())
    repository.tag("after")
    repository.branch("after")
    again = reopened(root)
    assert again.tags()["after"] == again.branches()["after"] == again.branches()["main"] == made.id
    assert again.verify().ok
    assert again.snapshot("orders@after").to_arrow().equals(small(7))
    assert again.snapshot("more@after").to_arrow().equals(small(8))


def problems(run: Run, scratch: Path) -> tuple[list[str], int]:
    """Check every crash state; give what is wrong, and how many states there were."""
    wrong = []
    states = 0
    for state in crash_states(run.recording, scratch):
        states += 1
        try:
            check(run, state.path, len(state.acknowledged))
        except (AssertionError, fsvc.FsvcError) as error:
            wrong.append(f"{state.label}, after {state.acknowledged[-1:]}: {type(error).__name__}: {error}")
    return wrong, states


@pytest.mark.parametrize("unnamed_files", [True, False])
def test_a_crash_at_any_point_leaves_the_old_state_or_the_new(
    light_path: Path, count: Counter, unnamed_files: bool
) -> None:
    root = light_path / "disk"
    root.mkdir()
    recording = Recording(root, unnamed_files=unnamed_files)
    # Files with temporary names leave many more states: one operation of each kind is enough there.
    few = ["a commit of several sets", "a commit that uses chunks again", "a branch", "a tag"]
    labels = list(OPERATIONS) if unnamed_files else few
    run = record(recording, lambda path: LocalStorage(path, create=True, system=recording), labels)
    assert all(before != after for before, after in itertools.pairwise(run.states))
    wrong, states = problems(run, light_path / "scratch")
    assert wrong == []
    assert states > 50
    count("crash states of init, commit, branch, tag and deletions reopened, all whole", states)


# Faults planted into the protocol: each of them must be found, or the states above prove nothing.


class ForgetsDirectories(Recording):
    """Syncs files, but never the directories that hold their names."""

    def sync(self, file: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{file}"):
            super().sync(file)


class RefFirst(LocalStorage):
    """Writes the ref entry before the batch that it depends on."""

    held: Mapping[str, Buffer] | None = None

    def put_batch(self, items: Mapping[str, Buffer]) -> None:
        self.held = dict(items)

    def put_if_absent(self, key: str, data: Data) -> None:
        super().put_if_absent(key, data)
        if key.startswith("refs/") and self.held is not None:
            held, self.held = self.held, None
            super().put_batch(held)


class LazyPacks(LocalStorage):
    """Writes packs only when the ref has moved."""

    def __init__(self, root: Path, *, create: bool, system: Recording) -> None:
        super().__init__(root, create=create, system=system)
        self.held: list[tuple[str, bytes]] = []

    def put_if_absent(self, key: str, data: Data) -> None:
        if key.startswith("packs/"):
            self.held.append((key, b"".join(data)))
            return
        super().put_if_absent(key, data)
        if key.startswith("refs/"):
            for pack, content in self.held:
                super().put_if_absent(pack, content)
            self.held = []

    def size(self, key: str) -> int:
        return 1 if key in dict(self.held) else super().size(key)


@pytest.mark.parametrize("fault", [ForgetsDirectories, RefFirst, LazyPacks])
def test_a_planted_fault_is_found(light_path: Path, fault: type[Recording] | type[LocalStorage]) -> None:
    root = light_path / "disk"
    root.mkdir()
    recording = fault(root) if issubclass(fault, Recording) else Recording(root)
    kind = fault if issubclass(fault, LocalStorage) else LocalStorage
    run = Run(recording)
    repository = new(kind(root / "repository", create=True, system=recording))
    run.acknowledge("init", repository)
    commit(repository, run, {"orders": small(1)})
    run.acknowledge("commit", repository)
    assert problems(run, light_path / "scratch")[0]


class Interleaved(Recording):
    """Lets another writer commit at the moment when the first directory of a batch is synced."""

    other: Callable[[], object] | None = None

    def sync(self, file: int) -> None:
        if self.other is not None and os.readlink(f"/proc/self/fd/{file}").endswith("/commits"):
            other, self.other = self.other, None
            other()
        super().sync(file)


def overlapping(root: Path) -> Run:
    """One writer commits what another has stored, but not yet made durable."""
    root.mkdir()
    recording = Interleaved(root)
    run = Run(recording)
    first = new(LocalStorage(root / "repository", create=True, system=recording))
    run.acknowledge("init", first)
    commit(first, run, {"before": small(0)})
    run.acknowledge("commit", first)
    second = opened(LocalStorage(root / "repository", system=recording))

    def other() -> None:
        commit(second, run, {"copy": small(5)})
        run.acknowledge("the second writer's commit", second)

    recording.other = other
    commit(first, run, {"original": small(5)})
    run.acknowledge("the first writer's commit", first)
    assert first.resolve().versions == {"before": 1, "copy": 1, "original": 1}
    assert len(list(first.store.storage.list("index/"))) == 2  # the second writer stored no object of its own
    return run


def test_a_commit_makes_durable_what_another_writer_stored_for_it(light_path: Path, count: Counter) -> None:
    wrong, states = problems(overlapping(light_path / "disk"), light_path / "scratch")
    assert wrong == []
    count("crash states of two writers reopened, all whole", states)


def test_objects_used_before_they_are_durable_are_found(
    light_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reused = NewObjects.reused

    def forgetful(self: NewObjects) -> tuple[set[str], dict[str, memoryview]]:
        return reused(self)[0], {}

    monkeypatch.setattr(NewObjects, "reused", forgetful)
    wrong, _ = problems(overlapping(light_path / "disk"), light_path / "scratch")
    assert wrong and all("is missing" in problem for problem in wrong)
