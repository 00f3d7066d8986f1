"""Who wants to know which snapshots are read: integrations that link data to what is made of it.

A reader is told of before the data are handed out. Nothing is kept here beyond the list of listeners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from fsvc.engine.store import Store
from fsvc.format.commit import CommitRecord

__all__ = ["Listener", "listeners", "reading"]

Listener: TypeAlias = Callable[[Store, CommitRecord, str, "Sequence[str] | None"], None]
"""Called with the repository, the commit, the feature set's name, and the columns (None: all of them)."""

listeners: list[Listener] = []
"""Those to tell. Replaced members are seen at the next read."""


def reading(store: Store, record: CommitRecord, name: str, columns: Sequence[str] | None) -> None:
    """Tell the listeners that a feature set at a commit is being read, in the thread that reads it."""
    for listener in tuple(listeners):
        listener(store, record, name, columns)
