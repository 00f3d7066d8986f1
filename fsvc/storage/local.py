"""A store in a directory of a local (or mounted) file system, durable by its own doing.

How a key is written, in this order, so that a crash at any point leaves it whole or absent:

1. its directories are made, and the parent of each is synced;
2. the bytes go into a file that has no name yet, and that file is synced;
3. the file gets its name, unless the name is taken: this decides between writers;
4. the directory is synced; only then does the call return.

A batch does each step for many files before the next one. Where the file system has no
unnamed files they are called ``.tmp-<random>``, a name that no key can have; those that a
killed process left behind are harmless, and listings never show them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsvc.errors import (
    CommitUnknown,
    Corruption,
    InvalidUse,
    KeyAbsent,
    KeyExists,
    NetworkFileSystemWarning,
    NotFound,
    StorageError,
)
from fsvc.storage import surroundings
from fsvc.storage.contract import (
    LONGEST_KEY,
    Entry,
    byte_views,
    check_key,
    check_prefix,
    check_range,
    is_component,
)
from fsvc.storage.system import TEMPORARY_PREFIX, System

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fsvc.storage.contract import Data

__all__ = ["LocalStorage"]

_MOST_OPEN = 128  # files kept open for get_range; the usual limit of a process is 1024
_BATCH_FILES = 64  # files that a batch has open at once
_CLOCK_SECONDS = 1.0  # how long the file system's clock is extrapolated before it is asked again

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_UNSUPPORTED = (
    errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EISDIR, errno.EPERM, errno.EXDEV,
    errno.ENOENT, errno.EMLINK,
)  # fmt: skip
"""What systems answer that lack unnamed files, /proc or hard links: then the next way is tried."""

_WORDS: dict[int, tuple[str, str | None]] = {
    errno.ENOSPC: ("the disk is full", "free some space and try again; what was stored before is unharmed"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or have the quota raised, then try again"),
    errno.EROFS: ("the file system is read-only", "mount it writable, or use a copy elsewhere"),
    errno.EACCES: ("permission denied", "check who owns the directory and its mode"),
    errno.EPERM: ("the system does not permit it", "check who owns the directory and its mode"),
    errno.EMFILE: ("this process has too many files open", "raise the limit with 'ulimit -n'"),
    errno.ENFILE: ("the whole system has too many files open", "close other programs first"),
    errno.EIO: ("the disk reported an input/output error", "check the disk and its cables before going on"),
    errno.ENOENT: ("its directory has vanished", "check whether it was moved or its disk unmounted"),
    errno.ESTALE: ("the network file system lost track of it", "check the mount, then try again"),
    errno.ENOTSUP: ("the file system has neither hard links nor a rename that never replaces",
                    "keep the repository on another file system"),
}  # fmt: skip


class _OpenFile:
    """An open descriptor that closes itself when nobody uses it any more.

    A reader in another thread holds a reference meanwhile, so that the descriptor's
    number cannot be given to another file under it.
    """

    __slots__ = ("_close", "number", "size")

    def __init__(self, system: System, number: int, size: int) -> None:
        self.number = number
        self.size = size
        self._close = system.close

    def __del__(self) -> None:
        try:
            self._close(self.number)
        except OSError:
            pass


@dataclass(slots=True)
class _Staged:
    """A written file that has not got its key's name yet; ``temporary`` is None if it has no name at all."""

    file: int
    directory: int
    temporary: str | None


class LocalStorage:
    """Keys as files below ``root``. Implements :class:`~fsvc.storage.contract.Storage`.

    With ``create`` the directory is made if it is absent; otherwise NotFound is raised.
    Files get the rights that the umask leaves, less that to write. An instance is
    thread-safe, survives a fork and can be pickled; it holds no lock. Once a sync has failed,
    an instance refuses to write: the system might call the next sync of the same data done.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, create: bool = False, system: System | None = None
    ) -> None:
        self._system = system or System()
        self._root = os.path.abspath(os.fspath(root))
        self._base = self._root if self._root.endswith("/") else self._root + "/"
        self._open: dict[str, _OpenFile] = {}
        self._durable: set[str] = {""}  # directories whose own names are known to be on the disk
        self._failed_sync: str | None = None
        self._looked_around = False
        self._unnamed = True  # until the file system turns out to have no unnamed files
        self._clock: tuple[float, float] | None = None
        if create:
            self._make_root()
        elif not os.path.isdir(self._root):
            raise NotFound(f"there is no directory {self._root}")

    def __reduce__(self) -> tuple[Any, ...]:
        if type(self._system) is not System:
            raise InvalidUse("a local store over another system cannot be pickled")
        return (LocalStorage, (self._root,))

    def __repr__(self) -> str:
        return f"LocalStorage({self._root!r})"

    @property
    def location(self) -> str:
        """See :attr:`Storage.location`."""
        return self._root

    @property
    def cache_directory(self) -> str | None:
        """See :attr:`Storage.cache_directory`. Its name begins with a dot, so it holds no keys."""
        return self._base + ".cache"

    # Reading

    def get(self, key: str) -> bytes:
        """See :meth:`Storage.get`."""
        check_key(key)
        file = self._open_key(key)
        try:
            data = self._read(file.number, file.size, 0)
        except OSError as error:
            raise self._failure("read", key, error) from error
        if len(data) != file.size:
            raise Corruption(f"{key} in {self._root} is truncated: {len(data)} of {file.size} bytes")
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See :meth:`Storage.get_range`. The file stays open for the next call."""
        file = self._open.get(key)
        if file is None:
            file = self._keep_open(key)
        if start < 0 or length < 0:
            check_range(start, length)
        # The size first: a damaged index must not make us ask for a terabyte of memory.
        if start + length <= file.size:
            try:
                data: bytes = self._system.read(file.number, length, start)
                if len(data) == length:
                    return data
                data = self._read(file.number, length, start)
            except OSError as error:
                raise self._failure("read", key, error) from error
            if len(data) == length:
                return data
        raise Corruption(f"{key} in {self._root} is truncated: no {length} bytes at {start} of {file.size}")

    def list(self, prefix: str) -> Iterator[Entry]:
        """See :meth:`Storage.list`."""
        check_prefix(prefix)
        for key, entry in self._walk(prefix):
            try:
                size = entry.stat().st_size
            except FileNotFoundError:
                continue  # deleted meanwhile
            except OSError as error:
                raise self._failure("list", key, error) from error
            yield Entry(key, size)

    def keys(self, prefix: str) -> Iterator[str]:
        """See :meth:`Storage.keys`."""
        check_prefix(prefix)
        return (key for key, _ in self._walk(prefix))

    def size(self, key: str) -> int:
        """See :meth:`Storage.size`."""
        return self._stat(key).st_size

    def age(self, key: str) -> float:
        """See :meth:`Storage.age`. The clock is that of the file system, remote ones included."""
        return max(0.0, self._now() - self._stat(key).st_mtime)

    # Writing

    def put_if_absent(self, key: str, data: Data) -> None:
        """See :meth:`Storage.put_if_absent`."""
        check_key(key)
        pieces = byte_views(data)
        folder, _, name = key.rpartition("/")
        self._before_writing(key)
        try:
            self._make_directories([folder])
            directory = self._system.open_directory(self._base + folder)
            try:
                # Looked for first, so that a taken name costs no 64 MB of writing.
                won = not self._exists(key) and self._put_file(directory, name, pieces, key)
                try:
                    self._sync(directory, folder)  # if another writer won, it may not have come so far
                except OSError as error:
                    if not won:
                        raise
                    raise CommitUnknown(
                        f"{key} was written to {self._root}, but may not survive a crash: {error.strerror}",
                        hint="check the disk, then read it again",
                    ) from error
            finally:
                self._system.close(directory)
        except OSError as error:
            raise self._failure("write", key, error) from error
        if not won:
            raise KeyExists(f"{key} exists already in {self._root}")

    def put_batch(self, items: Mapping[str, Buffer]) -> None:
        """See :meth:`Storage.put_batch`."""
        for key in items:
            check_key(key)
        if not items:
            return
        what = next(iter(items)) if len(items) == 1 else f"{len(items)} files"
        self._before_writing(what)
        folders = sorted({key.rpartition("/")[0] for key in items})
        try:
            self._make_directories(folders)
            absent = sorted(key for key in items if not self._exists(key))
            for first in range(0, len(absent), _BATCH_FILES):
                self._put_files({key: items[key] for key in absent[first : first + _BATCH_FILES]})
            for folder in folders:  # those too where nothing was new: another writer may not have come so far
                directory = self._system.open_directory(self._base + folder)
                try:
                    self._sync(directory, folder)
                finally:
                    self._system.close(directory)
        except OSError as error:
            raise self._failure("write", what, error) from error

    def sweep(self, older: float, *, delete: bool) -> int:
        """See :meth:`Storage.sweep`. These are files with temporary names."""
        found = 0
        folders = [""]
        now = self._now()
        while folders:
            folder = folders.pop()
            try:
                with self._system.scan(self._base + folder) as entries:
                    for entry in entries:
                        if entry.name.startswith(TEMPORARY_PREFIX) and entry.is_file(follow_symlinks=False):
                            status = entry.stat(follow_symlinks=False)
                            if now - status.st_mtime >= older:
                                found += status.st_size
                                if delete:
                                    self._system.unlink(entry.path)
                        elif is_component(entry.name) and entry.is_dir(follow_symlinks=False):
                            folders.append(f"{folder}{entry.name}/")
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise self._failure("sweep", folder or "everything", error) from error
        return found

    def delete(self, key: str) -> None:
        """See :meth:`Storage.delete`."""
        check_key(key)
        self._open.pop(key, None)
        try:
            self._system.unlink(self._base + key)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise self._failure("delete", key, error) from error

    def settle(self, prefix: str) -> None:
        """See :meth:`Storage.settle`."""
        check_prefix(prefix)
        self._before_writing(prefix)
        try:
            self._sync_directory(self._base + prefix)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise self._failure("sync", prefix, error) from error

    # Below: how it is done

    def _open_key(self, key: str) -> _OpenFile:
        path = self._base + key
        try:
            try:
                number = self._system.open_file(path)
            except OSError as error:
                if error.errno != errno.EMFILE or not self._open:
                    raise
                self._open.clear()  # our own cache may be what fills the table
                number = self._system.open_file(path)
        except OSError as error:
            if error.errno in _ABSENT:
                raise KeyAbsent(f"{key} is not in {self._root}") from None
            raise self._failure("read", key, error) from error
        file = _OpenFile(self._system, number, 0)
        try:
            status = self._system.status(number)
        except OSError as error:
            raise self._failure("read", key, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise KeyAbsent(f"{key} is not in {self._root}")
        file.size = status.st_size
        return file

    def _keep_open(self, key: str) -> _OpenFile:
        check_key(key)
        file = self._open_key(key)
        while len(self._open) >= _MOST_OPEN:
            # Another thread may change the dict between any two steps; then one file more or less is dropped.
            with contextlib.suppress(RuntimeError, StopIteration):
                self._open.pop(next(iter(self._open)), None)
        self._open[key] = file
        return file

    def _read(self, file: int, length: int, start: int) -> bytes:
        """Read up to ``length`` bytes; the system gives at most 2 GiB per call, and less when it likes."""
        pieces: list[bytes] = []
        while length:
            piece: bytes = self._system.read(file, length, start)
            if not piece:
                break
            pieces.append(piece)
            start += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _stat(self, key: str) -> os.stat_result:
        check_key(key)
        try:
            status = self._system.stat(self._base + key)
        except OSError as error:
            if error.errno in _ABSENT:
                raise KeyAbsent(f"{key} is not in {self._root}") from None
            raise self._failure("look at", key, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise KeyAbsent(f"{key} is not in {self._root}")
        return status

    def _exists(self, key: str) -> bool:
        try:
            self._system.stat(self._base + key)
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise
        return True

    def _walk(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Every file below a prefix, by its key. Whether one is a file, the directory itself mostly says."""
        folders = [prefix]
        while folders:
            folder = folders.pop()
            room = LONGEST_KEY - len(folder)
            try:
                with self._system.scan(self._base + folder) as found:
                    for entry in found:
                        name = entry.name
                        # Unfinished files, and what others put there: no key can mean them.
                        if len(name) > room or not is_component(name):
                            continue
                        if entry.is_file():
                            yield folder + name, entry
                        elif entry.is_dir():
                            folders.append(f"{folder}{name}/")
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR) and os.path.isdir(self._root):
                    continue  # nothing was written there yet, or it was deleted meanwhile
                raise self._failure("list", folder or "everything", error) from error

    def _now(self) -> float:
        here = time.monotonic()
        if self._clock is None or not 0 <= here - self._clock[0] < _CLOCK_SECONDS:
            try:
                self._clock = (here, self._system.clock(self._root))
            except OSError:
                return time.time()  # a store that we may only read: its clock cannot be asked
        return self._clock[1] + here - self._clock[0]

    def _make_root(self) -> None:
        missing = [self._root]
        while not os.path.isdir(os.path.dirname(missing[-1])):
            missing.append(os.path.dirname(missing[-1]))
        try:
            for path in reversed(missing):
                with contextlib.suppress(FileExistsError):
                    self._system.make_directory(path)
                self._sync_directory(os.path.dirname(path))
            os.stat(self._base)
        except OSError as error:
            raise self._failure("make", "the directory", error) from error

    def _make_directories(self, folders: Iterable[str]) -> None:
        """Make what is missing of ``folders``, and all their names durable, whoever made them."""
        unsure: list[str] = []
        for folder in folders:
            while folder not in self._durable:
                unsure.append(folder)
                folder = folder.rpartition("/")[0]
        if not unsure:
            return
        names = sorted(set(unsure))  # a parent sorts before its children
        for folder in names:
            with contextlib.suppress(FileExistsError):
                self._system.make_directory(self._base + folder)
        for parent in sorted({folder.rpartition("/")[0] for folder in names}):
            self._sync_directory(self._base + parent)
        self._durable.update(names)

    def _sync_directory(self, path: str) -> None:
        directory = self._system.open_directory(path)
        try:
            self._sync(directory, path)
        finally:
            self._system.close(directory)

    def _sync(self, file: int, what: str) -> None:
        try:
            self._system.sync(file)
        except OSError as error:
            self._failed_sync = f"{what or 'the directory'}: {error.strerror}"
            raise

    def _before_writing(self, what: str) -> None:
        """Refuse to write after a failed sync; tell once where less is promised than elsewhere."""
        if self._failed_sync is not None:
            raise StorageError(
                f"cannot write {what} in {self._root}: "
                f"the disk failed to keep an earlier write ({self._failed_sync})",
                hint="check the disk, then open the repository again",
            )
        if not self._looked_around:
            self._looked_around = True
            kind = surroundings.network_file_system(self._root)
            if kind is not None:
                warnings.warn(
                    f"{self._root} lies on a network file system ({kind}): it is not promised there that of two"
                    " writers at one moment only one wins, nor that what is written survives a crash of the server",
                    NetworkFileSystemWarning,
                    stacklevel=3,
                )

    def _put_file(self, directory: int, name: str, pieces: Sequence[memoryview], key: str) -> bool:
        """Write one file and give it its name; False if the name is taken. The name is not durable yet."""
        staged = self._stage(directory, pieces)
        try:
            self._sync(staged.file, key)
            return self._publish(staged, name, pieces, key)
        finally:
            self._discard(staged)

    def _put_files(self, items: Mapping[str, Buffer]) -> None:
        """Write a few files of a batch: all their bytes, then all syncs, then all names."""
        pieces = {key: byte_views(data) for key, data in items.items()}
        with contextlib.ExitStack() as cleanup:
            directories: dict[str, int] = {}
            staged: dict[str, _Staged] = {}
            for key in items:
                folder = key.rpartition("/")[0]
                if folder not in directories:
                    directories[folder] = self._system.open_directory(self._base + folder)
                    cleanup.callback(self._system.close, directories[folder])
                staged[key] = self._stage(directories[folder], pieces[key])
                cleanup.callback(self._discard, staged[key])
            for key, file in staged.items():
                self._sync(file.file, key)
            for key, file in staged.items():
                self._publish(file, key.rpartition("/")[2], pieces[key], key)

    def _stage(self, directory: int, pieces: Sequence[memoryview]) -> _Staged:
        """Write a new file that is not visible as a key."""
        staged: _Staged | None = None
        if self._unnamed:
            try:
                staged = _Staged(self._system.open_unnamed(directory), directory, None)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._unnamed = False
        if staged is None:
            temporary = TEMPORARY_PREFIX + secrets.token_hex(16)
            staged = _Staged(self._system.open_named(directory, temporary), directory, temporary)
        try:
            self._system.write(staged.file, pieces)
        except BaseException:
            self._discard(staged)
            raise
        return staged

    def _publish(self, staged: _Staged, name: str, pieces: Sequence[memoryview], key: str) -> bool:
        """Give a synced file its name; False if the name is taken."""
        directory = staged.directory
        try:
            if staged.temporary is None:
                try:
                    self._system.link_unnamed(staged.file, directory, name)
                    return True
                except OSError as error:
                    if error.errno not in _UNSUPPORTED:
                        raise
                self._unnamed = False
                return self._put_file(directory, name, pieces, key)
            try:
                self._system.link(directory, staged.temporary, name)
            except FileExistsError:
                # NFS repeats a request whose reply was lost, and then finds the name that it made itself.
                return self._system.status(staged.file).st_nlink == 2
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._rename(staged, name)
            return True
        except FileExistsError:
            return False

    def _rename(self, staged: _Staged, name: str) -> None:
        """The last way to publish: a rename that never replaces."""
        assert staged.temporary is not None
        try:
            self._system.rename(staged.directory, staged.temporary, name)
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EINVAL):  # how systems say that they cannot
                raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP)) from error
            raise
        staged.temporary = None

    def _discard(self, staged: _Staged) -> None:
        """Close a staged file and remove its temporary name; what it was published as stays."""
        with contextlib.suppress(OSError):
            self._system.close(staged.file)
        if staged.temporary is not None:
            with contextlib.suppress(OSError):
                self._system.unlink_in(staged.directory, staged.temporary)

    def _failure(self, action: str, what: str, error: OSError) -> StorageError:
        """Put an error of the system into a sentence."""
        if error.errno == errno.ENOENT:
            self._durable = {""}  # somebody removed a directory: the next writer makes it again
        fallback = error.strerror or type(error).__name__
        words, hint = _WORDS.get(error.errno or 0, (fallback[:1].lower() + fallback[1:], None))
        return StorageError(f"cannot {action} {what} in {self._root}: {words}", hint=hint)
