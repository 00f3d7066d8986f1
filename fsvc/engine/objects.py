"""Objects: finding column chunks by address, reading them checked, and writing new ones into packs.

``index/`` says where objects lie. Nothing read here is believed before its checksum is verified, and
nothing new is visible to others before the pack it lies in is durable.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate

import numpy as np

from fsvc.errors import CommitUnknown, Corruption, KeyAbsent, KeyExists, StorageError
from fsvc.format import index, pack
from fsvc.format.canonical import Identity
from fsvc.format.extension import fits
from fsvc.format.index import Entry, Extension, ObjectTable
from fsvc.format.pages import ChunkPages
from fsvc.storage.contract import Storage

__all__ = ["Found", "Objects", "PackWriter", "pack_key"]

PACK_BYTES = 64 << 20
"""A pack is closed when it has grown to about this many bytes."""


def pack_key(name: str) -> str:
    """Where a pack lies in the store."""
    return f"packs/{name}.pack"


def index_key(name: str) -> str:
    """Where an index file lies in the store."""
    return f"index/{name}.idx"


class Found:
    """The answer to a lookup: for each address asked for, the object or nothing."""

    def __init__(self, tables: Mapping[str, ObjectTable], table: np.ndarray, position: np.ndarray) -> None:
        self._keys = list(tables)
        self._tables = list(tables.values())
        self._table = table
        self._position = position

    def __len__(self) -> int:
        return len(self._table)

    @property
    def complete(self) -> bool:
        """Whether every address was found."""
        return bool((self._table >= 0).all())

    def files(self) -> dict[str, memoryview]:
        """The index files that objects were found in, by key."""
        used = np.unique(self._table[self._table >= 0])
        return {self._keys[i]: self._tables[i].data for i in used}

    def __getitem__(self, i: int) -> Entry | None:
        table = int(self._table[i])
        return None if table < 0 else self._tables[table].entry(int(self._position[i]))


class Objects:
    """The stored objects of a repository, seen through its index files. Safe for threads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._tables: dict[str, ObjectTable] = {}
        self._lock = threading.Lock()
        self._loaded = False

    @property
    def cache_directory(self) -> str | None:
        """Where files may lie that can be made anew from objects; None where there is no place."""
        return self._storage.cache_directory

    def refresh(self) -> bool:
        """Load index files that came since the last look; True if there were any."""
        with self._lock:
            new = False
            for entry in self._storage.list("index/"):
                if entry.key in self._tables or not entry.key.endswith(".idx"):
                    continue
                try:
                    data = self._storage.get(entry.key)
                except KeyAbsent:
                    continue  # merged into another one meanwhile
                self._tables = {**self._tables, entry.key: ObjectTable(data, what=f"index file {entry.key}")}
                new = True
            # Only now: another thread must not take the tables loaded so far for all there are.
            self._loaded = True
            return new

    def tables(self) -> list[ObjectTable]:
        """All index tables, loaded on first use."""
        if not self._loaded:
            self.refresh()
        return list(self._tables.values())

    def lookup(self, addresses: bytes) -> Found:
        """Find many objects at once; ``addresses`` are 16 bytes each, in any order."""
        high, low = index.address_words(addresses)
        if not self._loaded:
            self.refresh()
        tables = self._tables  # never changed, only replaced
        where = np.full(len(high), -1, np.int64)
        position = np.full(len(high), -1, np.int64)
        # A sorted batch walks the sorted table once, and memory in one direction.
        order = np.argsort(high, kind="stable")
        missing = order
        for number, table in enumerate(tables.values()):
            if len(missing) == 0:
                break
            found = table.find(high[missing], low[missing])
            hit = found >= 0
            where[missing[hit]] = number
            position[missing[hit]] = found[hit]
            missing = missing[~hit]
        return Found(tables, where, position)

    def find(self, addresses: bytes) -> Found:
        """As :meth:`lookup`, looking for index files written by others before giving up on an address."""
        found = self.lookup(addresses)
        if not found.complete:
            # Looked up again even if nothing is new here: another thread may have loaded it meanwhile.
            self.refresh()
            found = self.lookup(addresses)
        return found

    def read(self, entry: Entry) -> ChunkPages:
        """Read the pages of an object, and of those that it extends, and verify their checksums.

        A patch has none: :class:`fsvc.engine.patched.Patched` reads it.
        Raises Corruption naming the object and its pack.
        """
        return self.complete(entry, checked(entry, self.stored(entry)))

    def stored(self, entry: Entry) -> bytes:
        """An object's own bytes, as they lie in its pack; nothing is verified yet."""
        try:
            return self._storage.get_range(pack_key(entry.pack), entry.offset, entry.length)
        except KeyAbsent:
            raise Corruption(
                f"object {entry.address.hex()} is missing: there is no pack {entry.pack}",
                hint="run 'fsvc verify' to see what it affects",
            ) from None

    def complete(self, entry: Entry, own: Sequence[memoryview]) -> ChunkPages:
        """The whole chunk of an object whose own pages were read: those of its base come first."""
        leaves = index.unpack_meta(entry.meta)
        extension = index.unpack_extension(entry.meta)
        if extension is None:
            if len(own) != len(leaves) or index.unpack_patch(entry.meta) is not None:
                raise Corruption(f"object {entry.address.hex()} holds no pages where pages are needed")
            return ChunkPages(leaves, tuple(own))
        base = self.read(self.base(entry, extension))
        pages = tuple(b"".join(pair) for pair in zip(base.pages, own, strict=True))
        if tuple(map(len, pages)) != tuple(leaf.length for leaf in leaves):
            raise Corruption(f"object {entry.address.hex()} does not fit the object it stands on")
        return ChunkPages(leaves, pages)

    def base(self, entry: Entry, extension: Extension) -> Entry:
        """The object whose pages come before those of an extension: of several copies the one that fits."""
        leaves = index.unpack_meta(entry.meta)
        copies: list[Entry] = []
        for again in (False, True):
            if again:
                self.refresh()
            copies = self._copies(extension.base.address)
            for copy in copies:
                if fits(copy, leaves, extension):
                    return copy
        if not any(copy.digest == extension.base.digest for copy in copies):
            raise Corruption(
                f"object {extension.base.address.hex()} is missing, on which object {entry.address.hex()} stands",
                hint="run 'fsvc verify' to see what it affects",
            )
        raise Corruption(f"object {entry.address.hex()} does not fit the object it stands on")

    def standing(self, address: bytes, above: Entry) -> Entry:
        """The object that a patch stands on: of several copies of it the one that stands on the least."""
        for again in (False, True):
            if again:
                self.refresh()
            copies = self._copies(address)
            best = min(copies, key=lambda copy: index.depth_of(copy.meta), default=None)
            if best is not None and index.depth_of(best.meta) < index.depth_of(above.meta):
                return best
        raise Corruption(
            f"object {address.hex()} is missing, on which object {above.address.hex()} stands",
            hint="run 'fsvc verify' to see what it affects",
        )

    def bottom(self, entry: Entry) -> Entry:
        """The object with pages at the bottom of a patch, the first of them; one with pages is its own."""
        while (patch := index.unpack_patch(entry.meta)) is not None:
            entry = self.standing(patch.bases[0], entry)
        return entry

    def _copies(self, address: bytes) -> list[Entry]:
        """An address in all index files: writers that did not know of each other may both have stored it."""
        high, low = index.address_words(address)
        places = [(table, int(table.find(high, low)[0])) for table in self.tables()]
        return [table.entry(place) for table, place in places if place >= 0]

    def remember(self, key: str, data: bytes) -> None:
        """Know an index file that this process has just written, without reading it back."""
        with self._lock:
            self._tables = {**self._tables, key: ObjectTable(data, what=f"index file {key}")}


def checked(entry: Entry, data: bytes) -> list[memoryview]:
    """An object's own pages, leaf by leaf, if the checksum says that they are its own."""
    if index.checksum(entry.address, entry.digest, entry.meta, [data]) != entry.checksum:
        raise Corruption(
            f"object {entry.address.hex()} in pack {entry.pack} is damaged: its checksum does not match",
            hint="run 'fsvc verify' to see what it affects",
        )
    lengths = index.own_lengths(entry.meta, entry.length)
    if sum(lengths) != len(data):
        raise Corruption(f"object {entry.address.hex()} in pack {entry.pack} contradicts its metadata")
    view = memoryview(data)
    ends = list(accumulate(lengths))
    return [view[end - length : end] for end, length in zip(ends, lengths, strict=True)]


class PackWriter:
    """Collects new objects into packs, and writes the packs while more objects come.

    Safe for threads. At most two packs are in memory: the one that is filled and the one that is
    being written. Nothing refers to the packs until :meth:`finish` gives the index for them.
    ``compress`` is for the packs' trailers.
    """

    def __init__(self, storage: Storage, *, compress: bool = False) -> None:
        self._storage = storage
        self._compress = compress
        self._lock = threading.Lock()
        self._parts: list[bytes | memoryview] = []
        self._entries: list[Entry] = []
        self._size = len(pack.MAGIC)
        self._written: list[Entry] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fsvc-pack")
        self._pending: Future[list[Entry]] | None = None
        self.bytes_added = 0

    def add(self, identity: Identity, meta: bytes, pages: Sequence[bytes | memoryview]) -> None:
        """Take a new object in. May wait for an earlier pack to be written."""
        # Views into a writer's buffer would keep all of it alive, so the pages are copied out once.
        data = b"".join(pages)
        total = index.checksum(identity.address, identity.digest, meta, [data])
        with self._lock:
            entry = Entry(identity.address, identity.digest, "", self._size, len(data), total, meta)
            self._parts.append(data)
            self._entries.append(entry)
            self._size += len(data)
            self.bytes_added += len(data)
            if self._size >= PACK_BYTES:
                self._close()

    def _close(self) -> None:
        if not self._entries:
            return
        self._settle()
        parts, entries = self._parts, self._entries
        self._parts, self._entries, self._size = [], [], len(pack.MAGIC)
        self._pending = self._pool.submit(self._put, parts, entries)

    def _settle(self) -> None:
        if self._pending is not None:
            # Forgotten only when it is written: after a failure every call fails, and no object is lost silently.
            self._written += self._pending.result()
            self._pending = None

    def _put(self, parts: list[bytes | memoryview], entries: list[Entry]) -> list[Entry]:
        name, buffers = pack.finish(parts, entries, compress=self._compress)
        put_named(self._storage, pack_key(name), buffers)
        return [Entry(e.address, e.digest, name, e.offset, e.length, e.checksum, e.meta) for e in entries]

    def entry(self, address: bytes) -> Entry | None:
        """An object that was added to this writer, if it was."""
        with self._lock:
            self._settle()
            return next((e for e in (*self._entries, *self._written) if e.address == address), None)

    def stored(self, entry: Entry) -> bytes:
        """The bytes of an object that :meth:`entry` gave, from memory or from the pack that it went to."""
        with self._lock:
            for added, data in zip(self._entries, self._parts, strict=True):
                if added.address == entry.address:
                    return bytes(data)
            self._settle()
            for written in self._written:
                if written.address == entry.address:
                    return self._storage.get_range(pack_key(written.pack), written.offset, written.length)
        raise Corruption(f"object {entry.address.hex()} is not among the new ones")

    def finish(self) -> list[Entry]:
        """Write what is left; all packs are durable on return. Gives every object with its place."""
        with self._lock:
            self._close()
            self._settle()
            self._pool.shutdown()
            return self._written

    def abandon(self) -> None:
        """Stop without writing what is left. Packs that were written stay, unreferenced."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def put_named(storage: Storage, key: str, buffers: Sequence[bytes | memoryview]) -> None:
    """Write bytes under a key that is named by their hash; that they are there already is fine.

    A lost reply is settled by reading the size back.
    """
    try:
        storage.put_if_absent(key, buffers)
    except KeyExists:
        return
    except CommitUnknown:
        raise  # it is there, but may not outlive a crash: its size would prove nothing
    except StorageError:
        try:
            if storage.size(key) == sum(len(buffer) for buffer in buffers):
                return
        except StorageError:
            pass
        raise
