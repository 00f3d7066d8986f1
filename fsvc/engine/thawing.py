"""The cache of thawed chunks: patched chunks as pages, kept on disk for the next query and the next process.

A file in the cache holds a checksum and the bytes that it covers together with the file's name, so a
file that is damaged, or another's, is as good as none. Files are written under another name first. The
directory may be deleted at any time, by anybody. Where nothing can be written, as in a repository that may only
be read, the last chunks are kept in memory; so they are where the directory is a link: who knows what else lies
where it leads. A checksum keeps nobody from putting other values there, so a deep verification proves them.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections import OrderedDict
from contextlib import suppress
from itertools import accumulate

import pyarrow as pa
import xxhash
from blake3 import blake3

from fsvc.engine.forks import Lock
from fsvc.engine.objects import Objects
from fsvc.engine.patched import Patched
from fsvc.errors import FsvcError, StorageError
from fsvc.format.index import Entry, unpack_meta
from fsvc.format.pages import ChunkPages

__all__ = ["CACHE_BYTES", "Thawed"]

CACHE_BYTES = 1 << 30
"""How many bytes the cache of a repository has at the most, but for what processes write at one moment."""
_MEMORY_BYTES = 256 << 20
_CHECKSUM_BYTES = 8
_STALE_SECONDS = 3600
# A process looks at the size of the whole cache when it has added this part of the limit.
_LOOK = 16
_OURS = re.compile(r"[0-9a-f]{64}|[0-9a-f]{16}\.part")
"""The names of files in the cache; there should be no others, and others are not touched."""


class _Memory:
    """Chunks that no directory took: the last ones, of all repositories, each by repository and name."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, name: str) -> bytes | None:
        """What was kept under a name, if it still is."""
        with self._lock:
            found = self._held.get(name)
            if found is not None:
                self._held.move_to_end(name)
            return found

    def keep(self, name: str, data: bytes) -> None:
        """Keep a chunk, and let go of what was not used for longest."""
        with self._lock:
            if name in self._held:
                return
            self._held[name] = data
            self._size += len(data)
            while self._size > self._limit:
                self._size -= len(self._held.popitem(last=False)[1])


_memory = _Memory(_MEMORY_BYTES)


_one_at_a_time = Lock()
"""Held while a chunk is put together: that is work of many small steps, and where readers such as DuckDB ask with many
threads, handing Python's lock to and fro takes longer than the work."""


class Thawed:
    """Thawed chunks of one repository. Safe for threads, and shared by processes."""

    def __init__(self, objects: Objects, *, limit: int = CACHE_BYTES) -> None:
        self._objects = objects
        self._patched = Patched(objects)
        root = objects.cache_directory
        self._owner = secrets.token_hex(8) if root is None else root
        self._directory = None if root is None or _is_link(root) else os.path.join(root, "thawed")
        self._limit = limit
        self._added = limit  # so that the first file that is written looks at what others have left

    def chunk(self, entry: Entry, field: pa.Field, rows: int, source: Entry | None = None) -> ChunkPages:
        """A patched chunk as pages that fill the bytes reserved for them; checked.

        ``source`` is another object of the same chunk that it is made from, where the entry's own is no more.
        """
        kept = self.kept(entry)
        if kept is not None:
            return kept
        with _one_at_a_time:
            thawed = self._patched.thaw(entry, field, rows, source)
        pages = b"".join(thawed.pages)
        name = _name_of(entry)
        if not (self._keep(name, pages) and self._may_stay(entry.address, name)):
            _memory.keep(f"{self._owner}/{name}", pages)
        return thawed

    def kept(self, entry: Entry) -> ChunkPages | None:
        """What the cache has of a patched chunk; None for nothing."""
        leaves = unpack_meta(entry.meta)
        data = self._kept(_name_of(entry), sum(leaf.length for leaf in leaves))
        if data is None:
            return None
        ends = list(accumulate(leaf.length for leaf in leaves))
        pieces = [data[end - leaf.length : end] for end, leaf in zip(ends, leaves, strict=True)]
        return ChunkPages(leaves, tuple(pieces))

    def _may_stay(self, address: bytes, name: str) -> bool:
        """Remove a chunk that was just written if it was erased meanwhile; whether it may lie on the disk.

        Whoever has a file open can read what is deleted. A purge writes its record long before it clears the cache: of
        a look at the records after the file is there, and the clearing, one sees the other.
        """
        objects = self._objects
        with suppress(FsvcError):
            objects.erased.refresh()
            if objects.erased.of(address) is None:
                return True
        with suppress(OSError):
            os.unlink(os.path.join(self._directory or "", name))
        return False

    def clear(self) -> None:
        """Remove all that is kept, durably. Raises StorageError where that is not possible."""
        if self._directory is None:
            return
        try:
            for file in _files(self._directory):
                with suppress(FileNotFoundError):  # another process tidies, too
                    os.unlink(file.path)
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except FileNotFoundError:
            return  # nothing was ever kept
        except OSError as error:
            raise StorageError(
                f"the cache {self._directory} cannot be cleared: {(error.strerror or str(error)).lower()}",
                hint="remove what is in it; nothing there is needed",
            ) from error

    def _kept(self, name: str, size: int) -> memoryview | None:
        """What the cache has under a name, if that is what was put there."""
        held = _memory.get(f"{self._owner}/{name}")
        if held is not None:
            return memoryview(held)
        if self._directory is None:
            return None
        path = os.path.join(self._directory, name)
        try:
            found = memoryview(_read(path, size + _CHECKSUM_BYTES))
        except OSError:
            return None
        data = found[_CHECKSUM_BYTES:]
        if len(data) != size or bytes(found[:_CHECKSUM_BYTES]) != _checksum(name, data):
            with suppress(OSError):
                os.unlink(path)
            return None
        with suppress(OSError):
            os.utime(path)  # the files that were not used for longest go first
        return data

    def _keep(self, name: str, data: bytes) -> bool:
        """Write a chunk to the directory, and say whether that was possible."""
        if self._directory is None:
            return False
        partial = os.path.join(self._directory, f"{secrets.token_hex(8)}.part")
        try:
            os.makedirs(self._directory, exist_ok=True)
            with open(partial, "xb") as file:
                file.write(_checksum(name, data))
                file.write(data)
            os.replace(partial, os.path.join(self._directory, name))
        except OSError:
            with suppress(OSError):
                os.unlink(partial)
            return False
        self._added += len(data)
        if self._added >= self._limit // _LOOK:
            self._added = 0
            with suppress(OSError):
                _tidy(self._directory, self._limit)
        return True


def _name_of(entry: Entry) -> str:
    return blake3(entry.address + entry.digest + entry.meta).hexdigest()


def _is_link(root: str) -> bool:
    """Whether the cache would lie elsewhere than it seems."""
    return os.path.islink(root) or os.path.islink(os.path.join(root, "thawed"))


def _read(path: str, size: int) -> bytes:
    """The bytes of a file of so many; of another file, or of what is none, less. Never waits for a pipe."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with open(number, "rb") as file:
        status = os.fstat(number)
        return file.read() if stat.S_ISREG(status.st_mode) and status.st_size == size else b""


def _files(directory: str) -> list[os.DirEntry[str]]:
    """The files of the cache. Raises OSError where it is not there."""
    with os.scandir(directory) as found:
        return [file for file in found if _OURS.fullmatch(file.name) and file.is_file(follow_symlinks=False)]


def _checksum(name: str, data: bytes | memoryview) -> bytes:
    state = xxhash.xxh3_64(name.encode())
    state.update(data)
    return state.digest()


def _tidy(directory: str, limit: int) -> None:
    """Remove what was not used for longest until a quarter of the limit is free, if there is more than it."""
    now = time.time()
    files = []
    for file in _files(directory):
        with suppress(OSError):
            status = file.stat(follow_symlinks=False)
            if file.name.endswith(".part") and now - status.st_mtime > _STALE_SECONDS:
                os.unlink(file.path)
            else:
                files.append((status.st_mtime, status.st_size, file.path))
    total = sum(size for _, size, _ in files)
    if total <= limit:
        return
    for _, size, path in sorted(files):
        if total <= limit * 3 // 4:
            break
        with suppress(OSError):
            os.unlink(path)
            total -= size
