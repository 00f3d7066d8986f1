"""What the tests of crashes, faults and races share: small tables, and what must hold of any repository."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
from crash import Unsynced

from fsvc.engine import history
from fsvc.engine.refs import KINDS
from fsvc.engine.store import Store, create
from fsvc.repository import Repository
from fsvc.storage.contract import Storage
from fsvc.storage.local import LocalStorage

__all__ = ["Refs", "assert_whole", "contents", "new", "opened", "refs", "reopened", "small"]

TIME = "2026-11-01T09:30:00.000001Z"

Refs: TypeAlias = "dict[tuple[str, str], str]"
"""Where branches and tags stand: kind and name to commit."""


def small(version: int, rows: int = 12) -> pa.Table:
    """A table whose column ``id`` is the same in all versions, so that its chunks are used again."""
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "score": pa.array([version + row / 4 for row in range(rows)], pa.float64()),
            "note": pa.array([None if row % 5 == 0 else f"note {version} {row}" for row in range(rows)]),
        }
    )


def new(storage: Storage) -> Repository:
    """Make a storage a repository."""
    create(storage, time=TIME)
    return opened(storage)


def opened(storage: Storage) -> Repository:
    """Open the repository in a storage."""
    return Repository(Store(storage), author="ann")


def reopened(root: Path) -> Repository:
    """Open the repository in a directory as another process would, but without syncs."""
    return opened(LocalStorage(root, system=Unsynced()))


def refs(repository: Repository) -> Refs:
    """Where every branch and tag stands."""
    branches = {("heads", name): commit for name, commit in repository.branches().items()}
    return branches | {("tags", name): commit for name, commit in repository.tags().items()}


def contents(repository: Repository) -> Iterator[tuple[str, str, pa.Table]]:
    """Every snapshot that any ref stands or ever stood on: its commit, name and table."""
    store = repository.store
    roots = [
        entry.commit
        for kind in KINDS
        for name in store.refs.names(kind, deleted=True)
        for entry in store.refs.log(kind, name)
        if entry.commit is not None
    ]
    for commit, _ in history.ancestors(store, roots):
        for snapshot in repository.resolve(commit).snapshots():
            yield commit, snapshot.name, snapshot.to_arrow()


def assert_whole(repository: Repository, expected: Mapping[tuple[str, str], pa.Table] | None = None) -> None:
    """Check all that must hold of a repository whatever happened to it.

    Everything reachable is verified and read; no log of a ref has a gap or starts again; every branch has
    each of its commits once. ``expected`` are the tables by commit and name, where they are known.
    """
    report = repository.verify(deep=True)
    assert report.ok, [str(damage) for damage in report.damages]
    for commit, name, table in contents(repository):
        if expected is not None and (commit, name) in expected:
            assert table.equals(expected[commit, name]), f"{name}@{commit} is not what was committed"
    store = repository.store
    for kind in KINDS:
        for name in store.refs.names(kind, deleted=True):
            sequences = [entry.sequence for entry in store.refs.log(kind, name)]
            assert sequences == list(range(len(sequences), 0, -1)), f"the log of {kind}/{name} is {sequences}"
    for branch in repository.branches().values():
        times = Counter(commit for commit, _ in history.first_parents(store, branch))
        assert set(times.values()) <= {1}
