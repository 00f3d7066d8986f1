"""What a process may be forked with: locks that the child finds free, directories that it leaves alone.

A forked child has the memory of its parent and one of its threads. A lock that another thread held stays held
for ever, and what goes with an object of the parent goes with the child's copy of it too, unless it is done so.
"""

from __future__ import annotations

import os
import shutil
import threading
import weakref

__all__ = ["Lock", "remove_with"]


class Lock:
    """A lock for ``with``, free in a forked child, whoever held it.

    For caches that are usable after each of their steps: the child may see one of them half done.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def _renew() -> None:
    for lock in list(_locks):
        lock._lock = threading.Lock()


os.register_at_fork(after_in_child=_renew)


def remove_with(owner: object, directory: str) -> None:
    """Remove a directory when an object goes, or at exit: in this process, not in a child that has a copy."""
    weakref.finalize(owner, _remove, directory, os.getpid())


def _remove(directory: str, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(directory, ignore_errors=True)
