"""The file of a workspace: its current branch, and which of its files hold which snapshots.

``.fsvc/workspace.json`` is sealed JSON and is replaced as a whole. Before files are moved into place,
what they will be is written down as ``pending``; after a crash in between, the files themselves tell
which of them had arrived. A lock that dies with its process keeps two writers apart.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from blake3 import blake3

from fsvc.engine.locate import WORKSPACE, read_regular
from fsvc.engine.replacing import replacing
from fsvc.errors import Conflict, Corruption, InvalidName, StorageError, UnknownFormat
from fsvc.format import strictjson
from fsvc.format.commit import is_id
from fsvc.format.names import check_feature_set_name, check_ref_name

__all__ = ["STATE", "Stamp", "TrackedFile", "Tracking", "file_digest", "load", "locked", "save", "stamp_of"]

STATE = "workspace.json"
FORMAT = 1
_CHUNK = 4 * 1024 * 1024
# Times of files are as coarse as 2 s on some file systems, 10 ms on most.
_COARSE_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells at a glance that a file was not touched."""

    size: int
    mtime_ns: int
    device: int
    inode: int
    ctime_ns: int


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a regular file (links are followed); None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino, found.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class TrackedFile:
    """What a working file was when it was committed or checked out.

    Attributes:
        feature_set: the feature set that the file holds.
        snapshot: the id of the snapshot that it held.
        size: its size in bytes; -1 where it was not known.
        mtime_ns: its time of modification.
        digest: the BLAKE3 of its bytes in hex; empty where it was not known.
        reproducible: whether the snapshot alone gives the file's table back, so that nothing is lost
            with the file. Not so for text (a snapshot has the table that was read from it) and for
            what was sorted on its way in.
    """

    feature_set: str
    snapshot: str
    size: int
    mtime_ns: int
    digest: str
    reproducible: bool

    @classmethod
    def of(
        cls, feature_set: str, snapshot: str, stamp: Stamp, digest: str, *, reproducible: bool
    ) -> TrackedFile:
        """What a file is now."""
        return cls(feature_set, snapshot, stamp.size, stamp.mtime_ns, digest, reproducible)

    def stamped(self, stamp: Stamp, digest: str) -> TrackedFile:
        """The same with what the file is now."""
        return replace(self, size=stamp.size, mtime_ns=stamp.mtime_ns, digest=digest)


@dataclass
class Tracking:
    """The content of the file of a workspace. ``files`` has paths relative to it, with slashes.

    ``written_ns`` is when it was written by the file system's clock, 0 where it was not.
    """

    branch: str
    files: dict[str, TrackedFile] = field(default_factory=dict)
    written_ns: int = 0

    def path_of(self, feature_set: str) -> str | None:
        """The path at which a feature set is tracked."""
        return next((path for path, file in self.files.items() if file.feature_set == feature_set), None)

    def untouched(self, file: TrackedFile, stamp: Stamp) -> bool:
        """Whether the stamp alone says that a file is as it was recorded.

        A file that is no older than the record may have been changed again within one tick of the
        clock: its stamp says nothing.
        """
        return (stamp.size, stamp.mtime_ns) == (
            file.size,
            file.mtime_ns,
        ) and stamp.mtime_ns < self.written_ns - _COARSE_NS


def file_digest(path: Path) -> str:
    """The BLAKE3 of a file's bytes, in hex. Raises OSError where it cannot be read."""
    hasher = blake3()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def load(workspace: Path, default_branch: str) -> Tracking:
    """Read the file of a workspace; where there is none, nothing is tracked.

    Raises Corruption where it is damaged, UnknownFormat where a newer fsvc wrote it.
    """
    path = workspace / WORKSPACE / STATE
    try:
        data, written = read_regular(path)
    except FileNotFoundError:
        return Tracking(default_branch)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    hint = f"remove {path}: working files and commits stay, and 'fsvc checkout' records the files again"
    try:
        value = strictjson.unseal(data, what=str(path))
    except Corruption as error:
        raise Corruption(error.message, hint=hint) from None
    if value.get("format") != FORMAT:
        raise UnknownFormat(
            f"{path} has format {value.get('format')}, this fsvc knows format {FORMAT}", hint="upgrade fsvc"
        )
    try:
        branch = value["branch"]
        check_ref_name(branch)
        files = {name: _tracked(name, item) for name, item in value["files"].items()}
        pending = {name: _tracked(name, item) for name, item in value["pending"].items()}
    except (AttributeError, InvalidName, KeyError, TypeError, ValueError):
        raise Corruption(f"{path} is not the file of a workspace", hint=hint) from None
    for name, arrived in pending.items():
        stamp = stamp_of(workspace / name)
        if stamp is not None and (stamp.size, stamp.mtime_ns) == (arrived.size, arrived.mtime_ns):
            _release(files, arrived.feature_set, name)
            files[name] = arrived
    return Tracking(branch, files, written)


def _release(files: dict[str, TrackedFile], feature_set: str, name: str) -> None:
    for other in [path for path, file in files.items() if file.feature_set == feature_set and path != name]:
        del files[other]


def _tracked(name: str, item: dict[str, Any]) -> TrackedFile:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] in ("/", WORKSPACE) or ".." in parts or "\0" in name:
        raise ValueError(name)
    file = TrackedFile(**item)
    check_feature_set_name(file.feature_set)
    kinds = (type(file.size), type(file.mtime_ns), type(file.digest), type(file.reproducible))
    if not is_id(file.snapshot) or kinds != (int, int, str, bool):
        raise ValueError(name)
    return file


def save(workspace: Path, tracking: Tracking, pending: dict[str, TrackedFile] | None = None) -> None:
    """Write the file of a workspace, durably. Raises StorageError where the file system refuses."""
    data = strictjson.seal(
        {
            "branch": tracking.branch,
            "files": {name: _item(file) for name, file in tracking.files.items()},
            "format": FORMAT,
            "pending": {name: _item(file) for name, file in (pending or {}).items()},
        }
    )
    with replacing(workspace / WORKSPACE / STATE) as partial, partial.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _item(file: TrackedFile) -> dict[str, Any]:
    return {
        "digest": file.digest,
        "feature_set": file.feature_set,
        "mtime_ns": file.mtime_ns,
        "reproducible": file.reproducible,
        "size": file.size,
        "snapshot": file.snapshot,
    }


@contextmanager
def locked(workspace: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a workspace, which ends with the process at the latest.

    Raises Conflict at once where somebody else holds it and ``wait`` is False. Where the file system
    has no locks, there is none.
    """
    import fcntl

    path = workspace / WORKSPACE / "lock"
    # Never somebody else's file, and never a pipe to wait for.
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    try:
        file = os.fdopen(os.open(path, flags, 0o666), "ab")
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {(error.strerror or str(error)).lower()}",
            hint="check who owns the workspace and its mode; reading needs no right to write",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Conflict(f"another fsvc is at work in {workspace}") from None
        except OSError:
            pass  # network file systems without locks: as safe as the user is careful
        yield
