"""Finding repositories: a location named by the user, or the workspace around a directory.

A workspace is a directory with ``.fsvc/`` in it; its repository is ``.fsvc/repository``, or the
place that ``.fsvc/pointer.json`` names. A location may also be a repository directory itself.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from fsvc.engine.store import REPOSITORY_KEY, Store
from fsvc.errors import InvalidUse, NotFound
from fsvc.format import strictjson
from fsvc.storage.local import LocalStorage

__all__ = ["POINTER", "WORKSPACE", "find_workspace", "local_path", "open_store", "opened", "repository_path"]

WORKSPACE = ".fsvc"
POINTER = "pointer.json"

opened: weakref.WeakSet[Store] = weakref.WeakSet()
"""The repositories that this process has open. Only ids that prove themselves are looked up in all of them."""


def local_path(location: str | Path) -> Path:
    """A location as a path of this machine. Raises InvalidUse for stores that are not local."""
    text = str(location)
    if "://" in text:
        scheme = text.split("://", 1)[0]
        if scheme != "file":
            raise InvalidUse(f"{scheme}:// is no place for a repository here", hint="use a local directory")
        text = text[len("file://") :]
    return Path(text)


def find_workspace(start: Path) -> Path | None:
    """The nearest directory from ``start`` upward that is a workspace."""
    start = start.absolute()
    for directory in (start, *start.parents):
        if os.path.isdir(directory / WORKSPACE):
            return directory
    return None


def repository_path(workspace: Path) -> Path:
    """Where the repository of a workspace lies: inside it, or where its pointer points."""
    pointer = workspace / WORKSPACE / POINTER
    if pointer.is_file():
        value = strictjson.unseal(pointer.read_bytes(), what=str(pointer))
        return (workspace / str(value["repository"])).resolve()
    return workspace / WORKSPACE / "repository"


def open_store(location: str | Path | None = None) -> Store:
    """Open the repository at a location, or the one that the current directory belongs to.

    Raises NotFound where there is none, UnknownFormat where it is of a newer kind.
    """
    if location is None:
        workspace = find_workspace(Path.cwd())
        if workspace is None:
            raise NotFound(
                f"there is no fsvc repository in {Path.cwd()} or above it",
                hint="make one with 'fsvc init', or name one with --repo",
            )
        root = repository_path(workspace)
    else:
        root = local_path(location)
        # pathlib would raise where something may not be looked at; then the storage says it in words.
        if not os.path.exists(root / REPOSITORY_KEY) and os.path.isdir(root / WORKSPACE):
            root = repository_path(root)
    if not os.path.isdir(root):
        raise NotFound(f"there is no repository at {root}", hint="make one with 'fsvc init'")
    store = Store(LocalStorage(root))
    opened.add(store)
    return store
