"""The cache of thawed chunks: patched chunks as pages, kept on disk for the next query and the next process.

A file in the cache holds a checksum and the bytes that it covers together with the file's name, so a
file that is damaged, or another's, is as good as none. Files are written under another name first. The
directory may be deleted at any time, by anybody; where nothing can be written, nothing is kept.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from itertools import accumulate

import pyarrow as pa
import xxhash
from blake3 import blake3

from fsvc.engine.objects import Objects
from fsvc.engine.patched import Patched
from fsvc.format.index import Entry, unpack_meta
from fsvc.format.pages import ChunkPages

__all__ = ["CACHE_BYTES", "Thawed"]

CACHE_BYTES = 1 << 30
"""How many bytes the cache of a repository has at the most, but for what processes write at one moment."""
_CHECKSUM_BYTES = 8
_STALE_SECONDS = 3600
# A process looks at the size of the whole cache when it has added this part of the limit.
_LOOK = 16


class Thawed:
    """Thawed chunks of one repository. Safe for threads, and shared by processes."""

    def __init__(self, objects: Objects, *, limit: int = CACHE_BYTES) -> None:
        self._patched = Patched(objects)
        root = objects.cache_directory
        self._directory = None if root is None else os.path.join(root, "thawed")
        self._limit = limit
        self._added = limit  # so that the first file that is written looks at what others have left

    def chunk(self, entry: Entry, field: pa.Field, rows: int) -> ChunkPages:
        """A patched chunk as pages that fill the bytes reserved for them; checked."""
        leaves = unpack_meta(entry.meta)
        name = blake3(entry.address + entry.digest + entry.meta).hexdigest()
        data = self._kept(name, sum(leaf.length for leaf in leaves))
        if data is None:
            thawed = self._patched.thaw(entry, field, rows)
            self._keep(name, b"".join(thawed.pages))
            return thawed
        ends = list(accumulate(leaf.length for leaf in leaves))
        pieces = [data[end - leaf.length : end] for end, leaf in zip(ends, leaves, strict=True)]
        return ChunkPages(leaves, tuple(pieces))

    def clear(self) -> None:
        """Remove all that is kept, durably."""
        if self._directory is None:
            return
        with suppress(OSError):
            for file in os.scandir(self._directory):
                with suppress(OSError):
                    os.unlink(file.path)
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _kept(self, name: str, size: int) -> memoryview | None:
        """What the cache has under a name, if that is what was put there."""
        if self._directory is None:
            return None
        path = os.path.join(self._directory, name)
        try:
            with open(path, "rb") as file:
                found = memoryview(file.read(size + _CHECKSUM_BYTES + 1))
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

    def _keep(self, name: str, data: bytes) -> None:
        if self._directory is None:
            return
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
            return
        self._added += len(data)
        if self._added >= self._limit // _LOOK:
            self._added = 0
            with suppress(OSError):
                _tidy(self._directory, self._limit)


def _checksum(name: str, data: bytes | memoryview) -> bytes:
    state = xxhash.xxh3_64(name.encode())
    state.update(data)
    return state.digest()


def _tidy(directory: str, limit: int) -> None:
    """Remove what was not used for longest until a quarter of the limit is free, if there is more than it."""
    now = time.time()
    files = []
    with os.scandir(directory) as found:
        for file in found:
            with suppress(OSError):
                status = file.stat()
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
