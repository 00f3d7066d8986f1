"""Objects: finding column chunks by address, reading them checked, and writing new ones into packs.

``index/`` says where objects lie. Nothing read here is believed before its checksum is verified, and
nothing new is visible to others before the pack it lies in is durable.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from blake3 import blake3

from fsvc.engine.condemned import Lists
from fsvc.engine.erased import Erased, Unfinished
from fsvc.engine.expired import Expired
from fsvc.engine.files import index_key, index_of, pack_key
from fsvc.engine.forks import Lock
from fsvc.errors import (
    CommitUnknown,
    Corruption,
    ErasedError,
    FsvcError,
    KeyAbsent,
    KeyExists,
    StorageError,
)
from fsvc.format import index, pack
from fsvc.format.canonical import Identity
from fsvc.format.extension import fits
from fsvc.format.index import Entry, Extension, ObjectTable
from fsvc.format.pages import ChunkPages
from fsvc.storage.contract import Storage

__all__ = ["PACK_BYTES", "Found", "Objects", "PackWriter", "outside"]

PACK_BYTES = 64 << 20
"""A pack is closed when it has grown to about this many bytes."""
_BELIEVED_SECONDS = 3600.0
"""What was listed is believed for so long, much less than condemned packs are left in peace."""
_SALT_BYTES = 16

_Part: TypeAlias = "tuple[str, ObjectTable]"
Flags: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"


class Found:
    """The answer to a lookup: for each address asked for, the object or nothing."""

    def __init__(self, parts: Sequence[_Part], table: np.ndarray, position: np.ndarray) -> None:
        self._parts = parts
        self._table = table
        self._position = position

    def __len__(self) -> int:
        return len(self._table)

    @property
    def complete(self) -> bool:
        """Whether every address was found."""
        return bool((self._table >= 0).all())

    @property
    def found(self) -> int:
        """How many addresses were found."""
        return int((self._table >= 0).sum())

    @property
    def missing(self) -> list[int]:
        """The places of the addresses that were not found."""
        places: list[int] = np.flatnonzero(self._table < 0).tolist()
        return places

    def files(self) -> dict[str, memoryview]:
        """The index files that objects were found in, by key."""
        used = np.unique(self._table[self._table >= 0])
        return {self._parts[i][0]: self._parts[i][1].data for i in used}

    def __getitem__(self, i: int) -> Entry | None:
        table = int(self._table[i])
        return None if table < 0 else self._parts[table][1].entry(int(self._position[i]))


class Objects:
    """The stored objects of a repository, seen through its index files. Safe for threads.

    What index files say of packs that are dead does not count; what they say of condemned ones counts where
    nothing else is known.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._files: dict[str, ObjectTable] = {}
        self._parts: tuple[_Part, ...] = ()  # never changed, only replaced
        self._lists = Lists(storage)
        self.erased = Erased(storage)
        """What was erased on purpose, when it was last looked at."""
        self._expired = Expired(storage)
        self._outcasts: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        self._lock = Lock()
        self._listed: float | None = None

    @property
    def cache_directory(self) -> str | None:
        """Where files may lie that can be made anew from objects; None where there is no place."""
        return self._storage.cache_directory

    def refresh(self) -> bool:
        """Look at the index anew; True if there were files that were not known. Files that are gone are forgotten."""
        with self._lock:
            new = False
            tried: set[str] = set()
            while True:
                keys = [key for key in self._storage.keys("index/") if index_of(key) is not None]
                files = {key: self._files[key] for key in keys if key in self._files}
                fresh = [key for key in keys if key not in files and key not in tried]
                for key in fresh:
                    tried.add(key)
                    try:
                        files[key] = _loaded(key, self._storage.get(key))
                    except KeyAbsent:
                        continue  # merged into another one meanwhile, which the next listing shows
                    new = True
                self._files = files
                if not fresh:
                    break
            # After the index files: one that was written for the sake of a list must not be seen without the list.
            self._lists.refresh()
            self._divide()
            self._listed = time.monotonic()
            return new

    def _divide(self) -> None:
        """Put the tables into the order in which they are searched."""
        dead, condemned = self._outcasts = self._lists.dead_packs, self._lists.condemned_packs
        if not dead and not condemned:
            self._parts = tuple(self._files.items())
            return
        first: list[_Part] = []
        last: list[_Part] = []
        for key, table in self._files.items():
            gone, leaving = (_in_packs(table, packs) for packs in (dead, condemned))
            if not (gone | leaving).any():
                first.append((key, table))
                continue
            first.append((key, table.part(~(gone | leaving))))
            last.append((key, table.part(leaving & ~gone)))
        self._parts = tuple((key, table) for key, table in (*first, *last) if len(table))

    @property
    def dead_packs(self) -> frozenset[str]:
        """The packs that nobody may use any more, when the index was last looked at."""
        return self._outcasts[0]

    @property
    def condemned_packs(self) -> frozenset[str]:
        """The packs that are to go: what is new does not stand on them."""
        return self._outcasts[1]

    @property
    def dead_keys(self) -> frozenset[str]:
        """All files that nobody may use any more, those packs included."""
        return self._lists.dead_keys

    @property
    def leaving_keys(self) -> frozenset[str]:
        """All files that are condemned or dead: what is new does not get their names."""
        return self._lists.condemned_keys | self._lists.dead_keys

    def files(self) -> dict[str, ObjectTable]:
        """All index files by key, as they are, what they say of dead packs included."""
        self._parts_listed()
        return dict(self._files)

    def tables(self) -> list[ObjectTable]:
        """All index tables, loaded on first use, without what lies in dead packs."""
        return [table for _, table in self._parts_listed()]

    def _parts_listed(self) -> tuple[_Part, ...]:
        """The tables in the order in which they are searched; listed again if that was long ago."""
        if self._listed is None or time.monotonic() - self._listed > _BELIEVED_SECONDS:
            self.refresh()
        return self._parts

    def lookup(self, addresses: bytes) -> Found:
        """Find many objects at once; ``addresses`` are 16 bytes each, in any order."""
        high, low = index.address_words(addresses)
        parts = self._parts_listed()
        where = np.full(len(high), -1, np.int64)
        position = np.full(len(high), -1, np.int64)
        # A sorted batch walks the sorted table once, and memory in one direction.
        order = np.argsort(high, kind="stable")
        missing, high, low = order, high[order], low[order]
        for number, (_, table) in enumerate(parts):
            if len(missing) == 0:
                break
            found = table.find(high, low)
            hit = found >= 0
            if not hit.any():
                continue
            where[missing[hit]] = number
            position[missing[hit]] = found[hit]
            missing, high, low = missing[~hit], high[~hit], low[~hit]
        return Found(parts, where, position)

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
            pass
        # The pack may have been rewritten since the entry was looked up: then the same bytes lie elsewhere.
        self.refresh()
        for copy in self.copies(entry.address):
            if copy.pack != entry.pack and (copy.meta, copy.checksum) == (entry.meta, entry.checksum):
                try:
                    return self._storage.get_range(pack_key(copy.pack), copy.offset, copy.length)
                except KeyAbsent:
                    continue
        if any(copy.pack != entry.pack for copy in self.copies(entry.address)):
            raise Corruption(
                f"object {entry.address.hex()} is not in pack {entry.pack} any more: it was written anew",
                hint="read it again; if that does not help, run 'fsvc verify'",
            )
        raise self.lost(entry.address, f"there is no pack {entry.pack}")

    def lost(self, address: bytes, where: str, snapshot: str | None = None) -> FsvcError:
        """The error for an object that is nowhere: GoneError where that is on purpose, else Corruption.

        ``where`` says where it is missed, ``snapshot`` in which snapshot, if it is one.
        """
        self.erased.refresh()
        record = self.erased.of(address)
        if record is not None:
            return ErasedError(
                record.sentence(f"{where}:"), hint="it does not come back; other versions may have it"
            )
        if snapshot is not None:
            self._expired.refresh()
            expired = self._expired.refusal(snapshot)
            if expired is not None:
                return expired
        return Corruption(
            f"object {address.hex()} is missing: {where}", hint="run 'fsvc verify' to see what it affects"
        )

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
            copies = self.copies(extension.base.address)
            for copy in copies:
                if fits(copy, leaves, extension):
                    return copy
        if not any(copy.digest == extension.base.digest for copy in copies):
            raise self.lost(extension.base.address, f"what object {entry.address.hex()} stands on")
        raise Corruption(f"object {entry.address.hex()} does not fit the object it stands on")

    def standing(self, address: bytes, above: Entry) -> Entry:
        """The object that a patch stands on: of several copies of it the one that stands on the least."""
        for again in (False, True):
            if again:
                self.refresh()
            copies = self.copies(address)
            best = min(copies, key=lambda copy: index.depth_of(copy.meta), default=None)
            if best is not None and index.depth_of(best.meta) < index.depth_of(above.meta):
                return best
        raise self.lost(address, f"what object {above.address.hex()} stands on")

    def bottom(self, entry: Entry) -> Entry:
        """The object with pages at the bottom of a patch, the first of them; one with pages is its own."""
        while (patch := index.unpack_patch(entry.meta)) is not None:
            entry = self.standing(patch.bases[0], entry)
        return entry

    def unfinished(self) -> tuple[Unfinished, ...]:
        """The purges that did not come to their end, as they are now. Raises Corruption where a record is damaged."""
        self.erased.refresh()
        return self.erased.unfinished()

    def copies(self, address: bytes) -> list[Entry]:
        """An address in all index files: writers that did not know of each other may both have stored it."""
        return [entry for _, table in self._parts_listed() for entry in table.copies(address)]

    def remember(self, key: str, data: bytes) -> None:
        """Know an index file that this process has just written, without reading it back."""
        with self._lock:
            self._files = {**self._files, key: _loaded(key, data)}
            self._divide()

    def publish(self, data: bytes) -> str:
        """Write an index file, durable on return, and know it. Gives its key."""
        key = index_key(index.table_id(data))
        self._storage.put_batch({key: data})
        self.remember(key, data)
        return key

    def forget(self, keys: Collection[str]) -> None:
        """Know nothing more of index files that this process has just deleted."""
        with self._lock:
            self._files = {key: table for key, table in self._files.items() if key not in keys}
            self._divide()


def _loaded(key: str, data: bytes) -> ObjectTable:
    table = ObjectTable(data, what=f"index file {key}")
    if len(table) and int(table.pack_numbers.max()) >= len(table.packs):
        raise Corruption(f"index file {key} is damaged: it places objects in a pack that it does not name")
    return table


def outside(table: ObjectTable, packs: frozenset[str]) -> ObjectTable:
    """A table without what lies in some packs."""
    return table if packs.isdisjoint(table.packs) else table.part(~_in_packs(table, packs))


def _in_packs(table: ObjectTable, packs: frozenset[str]) -> Flags:
    """Which objects of a table lie in some packs."""
    chosen = np.fromiter((pack in packs for pack in table.packs), np.bool_, len(table.packs))
    return chosen[table.pack_numbers] if chosen.any() else np.zeros(len(table), np.bool_)


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
    ``compress`` is for the packs' trailers. Packs are named by their content, and the names ``taken`` are those
    of packs that are about to be deleted: one that would be called so gets random bytes, and so does one whose name a
    damaged pack has. With ``own`` all do, so that nobody else ever writes a pack of the same name.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        compress: bool = False,
        taken: Collection[str] = (),
        own: bool = False,
    ) -> None:
        self._storage = storage
        self._compress = compress
        self._taken = taken
        self._own = own
        self._lock = threading.Lock()
        self._parts: dict[bytes, bytes] = {}
        self._entries: dict[bytes, Entry] = {}
        self._size = len(pack.MAGIC)
        self._written: dict[bytes, Entry] = {}
        self.packs: list[str] = []
        """The packs that were begun to be written."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fsvc-pack")
        self._pending: Future[dict[bytes, Entry]] | None = None
        self.bytes_added = 0

    def add(self, identity: Identity, meta: bytes, pages: Sequence[bytes | memoryview]) -> None:
        """Take a new object in. May wait for an earlier pack to be written."""
        # Views into a writer's buffer would keep all of it alive, so the pages are copied out once.
        data = b"".join(pages)
        total = index.checksum(identity.address, identity.digest, meta, [data])
        with self._lock:
            entry = Entry(identity.address, identity.digest, "", self._size, len(data), total, meta)
            self._parts[identity.address] = data
            self._entries[identity.address] = entry
            self._size += len(data)
            self.bytes_added += len(data)
            if self._size >= PACK_BYTES:
                self._close()

    def _close(self) -> None:
        if not self._entries:
            return
        self._settle()
        parts, entries = self._parts, self._entries
        self._parts, self._entries, self._size = {}, {}, len(pack.MAGIC)
        self._pending = self._pool.submit(self._put, list(parts.values()), list(entries.values()))

    def _settle(self) -> None:
        if self._pending is not None:
            # Forgotten only when it is written: after a failure every call fails, and no object is lost silently.
            self._written.update(self._pending.result())
            self._pending = None

    def _put(self, parts: list[bytes], entries: list[Entry]) -> dict[bytes, Entry]:
        salt = secrets.token_bytes(_SALT_BYTES) if self._own else b""
        name, buffers = pack.finish([*parts, salt], entries, compress=self._compress)
        if name in self._taken or self._is_damaged(name):
            salt = secrets.token_bytes(_SALT_BYTES)
            name, buffers = pack.finish([*parts, salt], entries, compress=self._compress)
        self.packs.append(name)
        put_named(self._storage, pack_key(name), buffers)
        return {
            e.address: Entry(e.address, e.digest, name, e.offset, e.length, e.checksum, e.meta)
            for e in entries
        }

    def _is_damaged(self, name: str) -> bool:
        """Whether there is a pack of this name that is not what its name says."""
        try:
            self._storage.size(pack_key(name))
        except KeyAbsent:
            return False
        return blake3(self._storage.get(pack_key(name))).hexdigest() != name

    def entry(self, address: bytes) -> Entry | None:
        """An object that was added to this writer, if it was."""
        with self._lock:
            found = self._entries.get(address) or self._written.get(address)
            if found is None and self._pending is not None:
                self._settle()
                found = self._written.get(address)
            return found

    def stored(self, entry: Entry) -> bytes:
        """The bytes of an object that :meth:`entry` gave, from memory or from the pack that it went to."""
        with self._lock:
            data = self._parts.get(entry.address)
            if data is not None:
                return data
            self._settle()
            written = self._written.get(entry.address)
        if written is None:
            raise Corruption(f"object {entry.address.hex()} is not among the new ones")
        return self._storage.get_range(pack_key(written.pack), written.offset, written.length)

    def finish(self) -> list[Entry]:
        """Write what is left; all packs are durable on return. Gives every object with its place."""
        with self._lock:
            self._close()
            self._settle()
            self._pool.shutdown()
            return list(self._written.values())

    def abandon(self) -> None:
        """Stop without writing what is left. Packs that were written stay, unreferenced."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def reclaim(self) -> None:
        """Stop, and delete what was written. Only for a writer whose packs are its own."""
        assert self._own
        self.abandon()
        for name in self.packs:
            with suppress(StorageError):  # why it was stopped matters more than what is left for a collection
                self._storage.delete(pack_key(name))


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
