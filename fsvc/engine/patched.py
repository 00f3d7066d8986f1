"""Patched chunks: what the objects that a patch stands on hold, with the patch's changes put in.

A chain of patches is not applied one by one. Going down it, every row gets the number of the value that
it has at the end, among the values of the bottom objects and of all patches; then the rows are gathered
once. That works for every Arrow type, and a long chain costs little more than a short one. What several patches
of it stand on is looked at once: there may be more ways down than anybody could walk.

To Arrow the gathered rows are all. For readers of Parquet they are *thawed*: written as plain pages into
the bytes that the chunk's metadata reserves.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import pyarrow as pa

from fsvc.engine.forks import Lock
from fsvc.engine.objects import checked
from fsvc.errors import Corruption, GoneError, UnsupportedData
from fsvc.format import pages
from fsvc.format.canonical import Identity
from fsvc.format.footer import FileSchema
from fsvc.format.index import PATCH, ROW_MAP, Entry, Patch, unpack_meta, unpack_patch
from fsvc.format.pages import ChunkPages
from fsvc.format.patch import RowMap, Rows, map_identity, read_changes, read_map

__all__ = ["Patched", "Source", "is_patch"]

_CACHED_MAPS = 8
_MOST_ROWS = 1 << 27
"""Rows of all that one chunk stands on, at the most. A writer that takes all it may comes to a fraction of it."""
_LEAST_ROWS = 1 << 12
"""As so many rows an object counts besides, and each time that one is looked for."""
_MOST_ROOM = 4 << 20
"""No writer reserves more than twice the bytes of pages and these."""
_UNDECODABLE = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError)
"""What decoding raises where bytes are not what they should be; a forged index can say anything."""


class Source(Protocol):
    """Where patches find the objects that they stand on."""

    def stored(self, entry: Entry) -> bytes:
        """An object's own bytes, not verified yet."""

    def standing(self, address: bytes, above: Entry) -> Entry:
        """The object of an address that another one stands on. Raises Corruption where there is none."""

    def read(self, entry: Entry) -> ChunkPages:
        """The pages of an object that is no patch, checked."""


def is_patch(entry: Entry) -> bool:
    """Whether an object holds changes of other objects instead of pages."""
    return entry.meta[:1] == bytes((PATCH,))


@lru_cache(256)
def _schema(fields: tuple[pa.Field, ...]) -> FileSchema:
    return pages.parquet_schema(pa.schema(fields))


@dataclass(eq=False, slots=True)
class _Standing:
    """An object, how many rows it has, and, where it is a patch, its row map and what it stands on.

    ``array`` are its values where they are known already; then nothing else is. ``users`` are how many stand on it.
    """

    entry: Entry
    rows: int
    patch: Patch | None = None
    row_map: RowMap | None = None
    bases: tuple[_Standing, ...] = ()
    array: pa.Array | None = None
    users: int = 0


class _Below:
    """All that one chunk stands on, each object once."""

    def __init__(self) -> None:
        self.known: dict[tuple[Entry, int], _Standing] = {}
        self._size = 0

    def count(self, entry: Entry, rows: int, bases: int) -> None:
        """Count an object in. Raises Corruption where there are more than any writer lets a chunk stand on."""
        self._size += rows + _LEAST_ROWS * (1 + bases)
        if self._size > _MOST_ROWS:
            raise Corruption(f"object {entry.address.hex()} is one of too many that a chunk stands on")

    @property
    def bottoms(self) -> list[_Standing]:
        """The objects with pages, or with known values."""
        return [each for each in self.known.values() if each.patch is None]


class _Pool:
    """Arrays of values one after the other, and where rows find theirs."""

    def __init__(self, decoded: Mapping[bytes, pa.Array]) -> None:
        self.decoded = decoded
        self.pieces: list[pa.Array] = []
        self.size = 0
        self._places: dict[int, Rows] = {}
        self._used: dict[int, int] = {}

    def add(self, values: pa.Array) -> Rows:
        """Put values in; gives their places."""
        start = self.size
        self.pieces.append(values)
        self.size += len(values)
        return np.arange(start, self.size)

    def keep(self, of: _Standing, places: Rows) -> Rows:
        """Remember the places of an object's rows for all others that stand on it; gives them to the first."""
        if of.users > 1:
            self._places[id(of)], self._used[id(of)] = places, 1
            return places.copy()
        return places

    def known(self, of: _Standing) -> Rows | None:
        """The places of an object's rows where they are known. They are the caller's to change."""
        places = self._places.get(id(of))
        if places is None:
            return None
        self._used[id(of)] += 1
        if self._used[id(of)] < of.users:
            return places.copy()
        return self._places.pop(id(of))


class Patched:
    """Reads patched chunks. What comes out is checked, not proven. Safe for threads.

    It remembers the last ``remembered`` patched chunks that it read: for those who read chunks that stand on each
    other, the lower ones first.
    """

    def __init__(self, source: Source, remembered: int = 0) -> None:
        self._source = source
        self._remembered = remembered
        self._arrays: OrderedDict[tuple[bytes, pa.Field], pa.Array] = OrderedDict()
        self._maps: OrderedDict[bytes, RowMap] = OrderedDict()
        self._lock = Lock()

    def array(self, entry: Entry, field: pa.Field, rows: int) -> pa.Array:
        """A chunk of so many rows in stored form, patch or not.

        Raises Corruption where it cannot be put together.
        """
        return self.arrays([entry], [field], rows)[0]

    def arrays(self, entries: Sequence[Entry], fields: Sequence[pa.Field], rows: int) -> list[pa.Array]:
        """Several columns of one row group in stored form, patches or not; the pages of all are decoded at once.

        Raises Corruption where one cannot be put together.
        """
        below = [_Below() for _ in entries]
        standing = [
            self._standing(entry, rows, field, each)
            for entry, field, each in zip(entries, fields, below, strict=True)
        ]
        wanted: dict[int, dict[tuple[int, bytes], Entry]] = defaultdict(dict)
        decoded: dict[tuple[int, bytes], pa.Array] = {}
        for i, each in enumerate(below):
            for bottom in each.bottoms:
                if bottom.array is None:
                    wanted[bottom.rows][i, bottom.entry.address] = bottom.entry
                else:
                    decoded[i, bottom.entry.address] = bottom.array
        for count, objects in wanted.items():
            bottoms = self._decoded(list(objects.values()), [fields[i] for i, _ in objects], count)
            decoded.update(zip(objects, bottoms, strict=True))
        found = [
            self._put_together(top, field, {a: array for (k, a), array in decoded.items() if k == i})
            for i, (top, field) in enumerate(zip(standing, fields, strict=True))
        ]
        for top, field, array in zip(standing, fields, found, strict=True):
            if top.patch is not None:
                self._remember(top.entry, field, array)
        return found

    def thaw(self, entry: Entry, field: pa.Field, rows: int, source: Entry | None = None) -> ChunkPages:
        """A patched chunk, read from another object of it if one is given, as pages that fill the bytes reserved."""
        leaves = unpack_meta(entry.meta)
        try:
            array = self.array(source or entry, field, rows)
            written = pages.thawed(array, pa.field("c0", field.type, field.nullable))
        except UnsupportedData as error:
            raise Corruption(
                f"object {entry.address.hex()} cannot be written as pages: {error.message}"
            ) from error
        filled = []
        if len(leaves) != len(written):
            raise Corruption(f"object {entry.address.hex()} is not what its metadata says")
        for leaf, (values, page) in zip(leaves, written, strict=True):
            room = 2 * len(page) + _MOST_ROOM
            if not len(page) <= leaf.length <= room or values != leaf.num_values:
                raise Corruption(f"object {entry.address.hex()} is not what its metadata says")
            filled.append(bytes(page).ljust(leaf.length, b"\0"))
        return ChunkPages(leaves, tuple(filled))

    def encode(self, entry: Entry, field: pa.Field, rows: int, like: Entry) -> ChunkPages:
        """A patched chunk as compressed pages in the encoding of another object."""
        array = self.array(entry, field, rows)
        encoding = pages.remembered_encoding(unpack_meta(like.meta))
        try:
            return pages.encode([array], [pa.field("c0", field.type, field.nullable)], [encoding])[0]
        except UnsupportedData as error:
            raise Corruption(
                f"object {entry.address.hex()} cannot be written as pages: {error.message}"
            ) from error

    def _remember(self, entry: Entry, field: pa.Field, array: pa.Array) -> None:
        if self._remembered:
            with self._lock:
                self._arrays[entry.address, field] = array
                while len(self._arrays) > self._remembered:
                    self._arrays.popitem(last=False)

    def _known(self, entry: Entry, rows: int, field: pa.Field) -> pa.Array | None:
        """The values of an object, where they are remembered."""
        if not self._remembered:
            return None
        with self._lock:
            found = self._arrays.get((entry.address, field))
            if found is None or len(found) != rows:
                return None
            self._arrays.move_to_end((entry.address, field))
            return found

    def _standing(self, entry: Entry, rows: int, field: pa.Field, below: _Below) -> _Standing:
        """An object of so many rows with all that it stands on."""
        found = below.known.get((entry, rows))
        if found is None:
            found = below.known[entry, rows] = self._looked_at(entry, rows, field, below)
        found.users += 1
        return found

    def _looked_at(self, entry: Entry, rows: int, field: pa.Field, below: _Below) -> _Standing:
        patch = unpack_patch(entry.meta)
        below.count(entry, rows, 0 if patch is None else len(patch.bases))
        if patch is None:
            return _Standing(entry, rows)
        known = self._known(entry, rows, field)
        if known is not None:
            return _Standing(entry, rows, array=known)
        row_map = None if patch.row_map is None else self._row_map(patch.row_map, entry)
        base_rows = (rows,) if row_map is None else row_map.base_rows
        if len(base_rows) != len(patch.bases) or (row_map is not None and len(row_map.source) != rows):
            raise Corruption(f"object {entry.address.hex()} does not fit the row map that it names")
        bases = tuple(
            self._standing(self._source.standing(address, entry), count, field, below)
            for address, count in zip(patch.bases, base_rows, strict=True)
        )
        return _Standing(entry, rows, patch, row_map, bases)

    def _decoded(self, entries: Sequence[Entry], fields: Sequence[pa.Field], rows: int) -> list[pa.Array]:
        """The values of objects with pages, all of so many rows."""
        named = tuple(pa.field(f"c{i}", field.type, field.nullable) for i, field in enumerate(fields))
        chunks = [self._source.read(entry) for entry in entries]
        try:
            return pages.decode(_schema(named), [(rows, chunks)], named)[0]
        except _UNDECODABLE as error:
            if len(entries) == 1:
                raise Corruption(
                    f"object {entries[0].address.hex()}: what is stored cannot be decoded: {error}"
                ) from error
        # One by one, so that the error names the object.
        return [
            self._decoded([entry], [field], rows)[0] for entry, field in zip(entries, fields, strict=True)
        ]

    def _put_together(self, top: _Standing, field: pa.Field, decoded: Mapping[bytes, pa.Array]) -> pa.Array:
        """The values of a chunk, given those of all bottom objects by address."""
        try:
            if top.patch is None:
                return decoded[top.entry.address]
            pool = _Pool(decoded)
            places = self._gathered(top, field, pool)
            whole = pool.pieces[0] if len(pool.pieces) == 1 else pa.concat_arrays(pool.pieces)
            return whole.take(pa.array(places))
        except GoneError:
            raise
        except _UNDECODABLE as error:
            raise Corruption(
                f"object {top.entry.address.hex()}: what is stored cannot be decoded: {error}"
            ) from error

    def _gathered(self, of: _Standing, field: pa.Field, pool: _Pool) -> Rows:
        """For every row of an object the place of its value in the pool, which is filled on the way.

        The places are the caller's to change: down a chain of patches in place it is one array for all.
        """
        places = pool.known(of)
        if places is not None:
            return places
        if of.patch is None:
            places = pool.add(pool.decoded[of.entry.address])
        else:
            places = self._applied(of, field, pool)
        return pool.keep(of, places)

    def _applied(self, of: _Standing, field: pa.Field, pool: _Pool) -> Rows:
        """The places of the values of a patch's rows."""
        parts, start = [], pool.size
        for base in of.bases:
            found = self._gathered(base, field, pool)
            if len(found) != base.rows:
                raise Corruption(
                    f"object {base.entry.address.hex()} has other rows than object {of.entry.address.hex()} says"
                )
            parts.append(found)
        inserted = np.empty(0, np.int64)
        if of.row_map is None:
            places = parts[0]
        else:
            # Rows that come from nowhere get their values below; until then they point anywhere.
            source = of.row_map.source
            inserted = np.flatnonzero(source < 0)
            if all(base.patch is None for base in of.bases) and pool.size - start == sum(map(len, parts)):
                places = source + start  # all values lie as the base rows do
            else:
                places = np.append(np.concatenate(parts), 0)[source]
        data = checked(of.entry, self._source.stored(of.entry))[0]
        changes = read_changes(data, inserted, of.rows, field)
        if len(changes.values):
            places[changes.positions] = pool.add(changes.values)
        return places

    def _row_map(self, address: bytes, above: Entry) -> RowMap:
        with self._lock:
            found = self._maps.get(address)
            if found is not None:
                self._maps.move_to_end(address)
                return found
        entry = self._source.standing(address, above)
        if entry.meta[:1] != bytes((ROW_MAP,)):
            raise Corruption(f"object {address.hex()} is no row map")
        data = bytes(checked(entry, self._source.stored(entry))[0])
        if map_identity(data) != Identity(entry.address, entry.digest):
            raise Corruption(f"object {address.hex()} is not what its name says")
        found = read_map(data)
        with self._lock:
            self._maps[address] = found
            while len(self._maps) > _CACHED_MAPS:
                self._maps.popitem(last=False)
        return found
