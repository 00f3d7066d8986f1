"""Patched chunks: what the objects that a patch stands on hold, with the patch's changes put in.

A chain of patches is not applied one by one. Going down it, every row gets the number of the value that
it has at the end, among the values of the bottom objects and of all patches; then the rows are gathered
once. That works for every Arrow type, and a long chain costs little more than a short one.

To Arrow the gathered rows are all. For readers of Parquet they are *thawed*: written as plain pages into
the bytes that the chunk's metadata reserves.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import lru_cache
from typing import Protocol

import numpy as np
import pyarrow as pa

from fsvc.engine.objects import checked
from fsvc.errors import Corruption, UnsupportedData
from fsvc.format import pages
from fsvc.format.canonical import Identity
from fsvc.format.footer import FileSchema
from fsvc.format.index import PATCH, ROW_MAP, Entry, unpack_meta, unpack_patch
from fsvc.format.pages import ChunkPages
from fsvc.format.patch import RowMap, Rows, map_identity, read_changes, read_map

__all__ = ["Patched", "Source", "is_patch"]

_CACHED_MAPS = 8


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
def _schema(field: pa.Field) -> FileSchema:
    return pages.parquet_schema(pa.schema([field]))


class Patched:
    """Reads patched chunks. What comes out is checked, not proven. Safe for threads."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._maps: OrderedDict[bytes, RowMap] = OrderedDict()
        self._lock = threading.Lock()

    def array(self, entry: Entry, field: pa.Field, rows: int) -> pa.Array:
        """A chunk of so many rows in stored form, patch or not.

        Raises Corruption where it cannot be put together.
        """
        named = pa.field("c0", field.type, field.nullable)
        try:
            pieces, places = self._gathered(entry, named, rows)
            whole = pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)
            return whole if places is None else whole.take(pa.array(places))
        except (pa.ArrowException, OSError, ValueError, LookupError, OverflowError) as error:
            raise Corruption(
                f"object {entry.address.hex()}: what is stored cannot be decoded: {error}"
            ) from error

    def thaw(self, entry: Entry, field: pa.Field, rows: int) -> ChunkPages:
        """A patched chunk as pages that fill the bytes reserved for them."""
        leaves = unpack_meta(entry.meta)
        try:
            array = self.array(entry, field, rows)
            written = pages.plain([array], [pa.field("c0", field.type, field.nullable)])[0]
        except UnsupportedData as error:
            raise Corruption(
                f"object {entry.address.hex()} cannot be written as pages: {error.message}"
            ) from error
        filled = []
        for leaf, made, page in zip(leaves, written.leaves, written.pages, strict=True):
            if made.length > leaf.length or made.num_values != leaf.num_values:
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

    def _gathered(self, entry: Entry, field: pa.Field, rows: int) -> tuple[list[pa.Array], Rows | None]:
        """Arrays of values, and for every row the place of its value in all of them; None for all in order."""
        patch = unpack_patch(entry.meta)
        if patch is None:
            chunk = self._source.read(entry)
            return [pages.decode(_schema(field), [(rows, [chunk])], [field])[0][0]], None
        row_map = None if patch.row_map is None else self._row_map(patch.row_map, entry)
        base_rows = (rows,) if row_map is None else row_map.base_rows
        if len(base_rows) != len(patch.bases) or (row_map is not None and len(row_map.source) != rows):
            raise Corruption(f"object {entry.address.hex()} does not fit the row map that it names")
        pieces: list[pa.Array] = []
        parts: list[Rows] = []
        total = 0
        for address, count in zip(patch.bases, base_rows, strict=True):
            below, found = self._gathered(self._source.standing(address, entry), field, count)
            size = sum(map(len, below))
            parts.append(np.arange(total, total + size) if found is None else found + total)
            if len(parts[-1]) != count:
                raise Corruption(
                    f"object {address.hex()} has other rows than object {entry.address.hex()} says"
                )
            pieces += below
            total += size
        places = parts[0] if len(parts) == 1 else np.concatenate(parts)
        inserted = np.empty(0, np.int64)
        if row_map is not None:
            inserted = np.flatnonzero(row_map.source < 0)
            # Rows that come from nowhere get their values below; until then they point anywhere.
            places = np.append(places, 0)[row_map.source]
        data = checked(entry, self._source.stored(entry))[0]
        changes = read_changes(data, inserted, rows, field)
        places[changes.positions] = total + np.arange(len(changes.values))
        return [*pieces, changes.values], places

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
