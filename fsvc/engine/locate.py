"""Finding repositories: a location named by the user, or the workspace around a directory.

A workspace is a directory with ``.fsvc/`` in it; its repository is ``.fsvc/repository``, or the
place that ``.fsvc/pointer.json`` names. A location may also be a repository directory itself.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from pathlib import Path

from fsvc.engine.store import REPOSITORY_KEY, Store, opened
from fsvc.errors import Corruption, InvalidUse, NotFound, OwnershipWarning, StorageError
from fsvc.format import strictjson
from fsvc.storage.local import LocalStorage
from fsvc.storage.surroundings import who_else_writes

__all__ = [
    "POINTER",
    "WORKSPACE",
    "find_workspace",
    "local_path",
    "open_store",
    "open_workspace_store",
    "pointed_elsewhere",
    "read_regular",
    "repository_path",
]

WORKSPACE = ".fsvc"
POINTER = "pointer.json"


def local_path(location: str | Path) -> Path:
    """A location as a path of this machine. Raises InvalidUse for stores that are not local."""
    text = str(location)
    if not text:
        raise InvalidUse("the location is empty", hint="name a directory; '.' is the current one")
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
    if os.path.lexists(pointer):
        try:
            place = strictjson.unseal(read_regular(pointer)[0], what=str(pointer)).get("repository")
            if not isinstance(place, str) or not place or "\0" in place:
                raise Corruption(f"{pointer} does not say where the repository is")
        except OSError as error:
            raise StorageError(
                f"{pointer} cannot be read: {(error.strerror or 'it failed').lower()}"
            ) from error
        except Corruption as error:
            hint = "say anew where the repository is: 'fsvc init --attach LOCATION' in the workspace"
            raise Corruption(error.message, hint=hint) from None
        return Path(os.path.realpath(workspace / place))
    return workspace / WORKSPACE / "repository"


def read_regular(path: Path) -> tuple[bytes, int]:
    """The bytes of a file and when it was modified, in nanoseconds. Raises OSError; a pipe is not waited for."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(number, "rb") as file:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        return file.read(), status.st_mtime_ns


def pointed_elsewhere(workspace: Path) -> bool:
    """Whether the repository of a workspace is meant to lie elsewhere."""
    return os.path.lexists(workspace / WORKSPACE / POINTER)


def open_workspace_store(workspace: Path) -> Store:
    """Open the repository of a workspace. Raises NotFound where it is not where the workspace says."""
    root = repository_path(workspace)
    if pointed_elsewhere(workspace):
        if not os.path.exists(root):
            raise NotFound(
                f"the repository of the workspace {workspace} is not at {root} any more",
                hint="if it was moved, 'fsvc init --attach LOCATION' in the workspace says where it is now",
            )
        # Whoever may write there decides which repository it is.
        _point_out(str(workspace / WORKSPACE), os.stat(workspace / WORKSPACE))
    return _open(root)


def open_store(location: str | Path | None = None) -> Store:
    """Open the repository at a location, or the one that the current directory belongs to.

    An OwnershipWarning points out one that somebody else may change. Raises NotFound where there is none,
    UnknownFormat where it is of a newer kind.
    """
    if location is None:
        workspace = find_workspace(Path.cwd())
        if workspace is None:
            raise NotFound(
                f"there is no fsvc repository in {Path.cwd()} or above it",
                hint="make one with 'fsvc init', or name one with --repo",
            )
        return open_workspace_store(workspace)
    root = local_path(location)
    # pathlib would raise where something may not be looked at; then the storage says it in words.
    if not os.path.exists(root / REPOSITORY_KEY) and os.path.isdir(root / WORKSPACE):
        return open_workspace_store(root)
    return _open(root)


def _open(root: Path) -> Store:
    try:
        status = os.stat(root)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"there is no repository at {root}", hint="make one with 'fsvc init'") from None
    except OSError as error:
        raise StorageError(
            f"{root} cannot be looked at: {(error.strerror or 'it failed').lower()}",
            hint="check who owns the directory and its mode",
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise NotFound(f"{root} is a file, not a repository", hint="a repository is a directory")
    store = Store(LocalStorage(root))
    opened.add(store)
    _point_out(store.storage.location, status)
    return store


def _point_out(path: str, status: os.stat_result) -> None:
    """Warn of a directory that somebody else may change."""
    told = who_else_writes(path, status, user=os.geteuid(), groups=(os.getegid(), *os.getgroups()))
    if told is not None:
        warnings.warn(told, OwnershipWarning, stacklevel=4)
