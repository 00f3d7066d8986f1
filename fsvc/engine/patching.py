"""Making patches: new chunks as what differs from the chunks of the parent's snapshot.

For a row group that holds anything new, the parent's groups with the same rows are found, and which row
is which: at once where the columns that cuts follow from are the same, else by hashes of those columns.
Then each new column is compared with what the parent has in those rows. A patch is kept where it is much
smaller than the whole chunk, and only after it was applied and gave the very chunk.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fsvc.engine.alignment import align
from fsvc.engine.patched import Patched
from fsvc.errors import Corruption, GoneError, StorageError
from fsvc.format.canonical import Identity, digest, storage_class
from fsvc.format.footer import LeafMeta
from fsvc.format.index import MAX_DEPTH, Entry, Patch, depth_of, unpack_meta, unpack_patch
from fsvc.format.manifest import Manifest
from fsvc.format.patch import (
    RowMap,
    Rows,
    differing,
    map_identity,
    read_changes,
    read_map,
    write_changes,
    write_map,
)
from fsvc.format.reserved import reserved_leaves
from fsvc.format.rowvalues import Words, has_value_words, row_hashes

if TYPE_CHECKING:
    from fsvc.engine.writing import NewObjects

__all__ = ["PatchedChunk", "Patcher"]

_WORTH = 0.5
"""A patch takes at most this part of the whole chunk's bytes."""
_MOST_CHANGED = 0.5
"""And replaces at most this part of its rows."""
_LEAST_KNOWN = 0.5
"""A group whose rows are not at least so far in the parent's is stored whole."""
_LEAST_IN_ORDER = 0.25
"""Where less of the rows that were found follow each other, no more groups are searched for the others."""
_MOST_BASES = 6
_CACHED_HASHES = 8
_EDGE_ROWS = 256
_NO_ROWS: Rows = np.empty(0, np.int64)
_DECODED_BYTES = 16 << 20
"""So many bytes of plain values are decoded at once, for as many columns as that holds."""


@dataclass(frozen=True, slots=True)
class PatchedChunk:
    """A chunk as a patch object: metadata of the thawed chunk, what it stands on, and its own bytes."""

    leaves: tuple[LeafMeta, ...]
    patch: Patch
    data: bytes
    bases: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class _Alignment:
    """The parent's groups that hold a group's rows, and which row is which; None for all in order."""

    groups: tuple[int, ...]
    source: Rows | None


@dataclass(frozen=True, slots=True)
class _Taking:
    """How the rows of a group are taken from those of the parent's groups; shared by all columns.

    ``places`` are the places of the rows among the base rows with the inserted ones behind them, None for
    all base rows in order; ``inserted`` are the rows that are none of the base.
    """

    rows: int
    base_rows: int
    places: pa.Array | None
    inserted: Rows
    row_map: bytes | None
    map_address: bytes | None

    @classmethod
    def of(cls, alignment: _Alignment, base_rows: Sequence[int]) -> _Taking:
        source, total = alignment.source, sum(base_rows)
        if source is None:
            return cls(total, total, None, _NO_ROWS, None, None)
        row_map = write_map(RowMap(source, tuple(base_rows)))
        places = read_map(row_map).source  # what readers will see
        inserted = np.flatnonzero(places < 0)
        places[inserted] = total + np.arange(len(inserted))
        return cls(len(source), total, pa.array(places), inserted, row_map, map_identity(row_map).address)


@dataclass(frozen=True, slots=True)
class _Stand:
    """What the patch of a column stands on: the parent's objects, and how much they hold.

    ``depth`` is that of the patch; ``whole`` and ``own`` are bytes below it, as :class:`Patch` counts them;
    ``expected`` what the new chunk would take if it were stored whole; ``plain`` the bytes of its plain values.
    """

    entries: tuple[Entry, ...]
    depth: int
    whole: int
    own: int
    expected: float
    plain: int


class Patcher:
    """Makes patches of one snapshot's chunks against its parent's. Safe for threads."""

    def __init__(
        self, sink: NewObjects, parent: Manifest, fields: Sequence[pa.Field], cut_columns: Sequence[int]
    ) -> None:
        self._sink = sink
        self._parent = parent
        self._fields = fields
        self._patched = Patched(sink.objects)
        self._theirs = {
            i: theirs
            for i, field in enumerate(fields)
            if (theirs := parent.schema.get_field_index(field.name)) >= 0
            and storage_class(parent.stored_fields[theirs].with_name(field.name)) == storage_class(field)
        }
        self._starts = np.cumsum([0, *parent.rows])
        self._cut = [i for i in cut_columns if i in self._theirs]
        if len(self._cut) != len(cut_columns):
            self._cut = []
        self._same_rows: dict[bytes, int] = {}
        for group in range(len(parent.rows)) if self._cut else ():
            name = b"".join(parent.chunks[self._theirs[i], group].tobytes() for i in self._cut)
            self._same_rows.setdefault(name, group)
        self._ends = [(0, 0)]
        """Where groups end here and in the parent: how far rows have moved so far."""
        self._hashes: OrderedDict[tuple[int, bool], Words] = OrderedDict()
        self._lock = threading.Lock()

    # -- which rows --------------------------------------------------------------------------------

    def _known(self, first_row: int, rows: int, identities: Sequence[Identity]) -> _Alignment | None:
        """The group of the parent with the same rows, where that is plain to see."""
        if self._cut:
            name = b"".join(identities[i].address + identities[i].digest for i in self._cut)
            group = self._same_rows.get(name)
            if group is not None and self._parent.rows[group] == rows:
                return _Alignment((group,), None)
            return None
        group = int(np.searchsorted(self._starts, first_row, "right")) - 1
        if group < len(self._parent.rows) and (self._starts[group], self._parent.rows[group]) == (
            first_row,
            rows,
        ):
            return _Alignment((group,), None)
        return None

    def note(self, first_row: int, rows: int, identities: Sequence[Identity]) -> _Alignment | None:
        """Take note of a group whose rows the parent has as they are; must be called for each group."""
        known = self._known(first_row, rows, identities)
        if known is not None:
            self._moved(first_row + rows, int(self._starts[known.groups[0] + 1]))
        return known

    def _moved(self, row: int, theirs: int) -> None:
        with self._lock:
            self._ends.append((row, theirs))

    def _aligned(self, first_row: int, arrays: Sequence[pa.Array]) -> _Alignment | None:
        """Find the rows of a group among the parent's rows by their hashes."""
        rows, groups = len(arrays[0]), len(self._parent.rows)
        if not groups or not rows:
            return None
        with self._lock:
            here, there = max(end for end in self._ends if end[0] <= first_row)
        begin = min(max(0, first_row - here + there), int(self._starts[-1]) - 1)
        end = min(begin + rows, int(self._starts[-1]))
        low = int(np.searchsorted(self._starts, begin, "right")) - 1
        high = min(groups, max(low + 1, int(np.searchsorted(self._starts, end, "left"))))
        high = min(high, low + _MOST_BASES)
        for columns in self._telling():
            hashes = row_hashes([arrays[i] for i in columns])
            if len(np.unique(hashes[:_EDGE_ROWS])) < min(rows, _EDGE_ROWS) // 2:
                continue  # too many rows look alike
            source = self._find(hashes, low, high, columns)
            while high - low < _MOST_BASES and (source < 0).any() and not _scattered(source):
                # The rows at an edge may be in the neighbouring group.
                more_low = low > 0 and (source[:_EDGE_ROWS] < 0).mean() > 0.5
                more_high = high < groups and (source[-_EDGE_ROWS:] < 0).mean() > 0.5
                if not (more_low or more_high):
                    break
                low, high = low - more_low, high + more_high
                source = self._find(hashes, low, high, columns)
            if (source >= 0).mean() >= _LEAST_KNOWN:
                self._moved(first_row + rows, int(self._starts[low] + source.max() + 1))
                return self._narrowed(source, low, high)
        return None

    def _telling(self) -> list[list[int]]:
        """Sets of columns that may tell rows apart: those that cuts follow from, else all that can be hashed."""
        every = [i for i in self._theirs if has_value_words(self._fields[i].type)]
        return [
            columns
            for columns in (self._cut, every)
            if columns and not (columns is every and self._parent.key)
        ]

    def _find(self, hashes: Words, low: int, high: int, columns: Sequence[int]) -> Rows:
        return align(
            hashes, np.concatenate([self._group_hashes(group, columns) for group in range(low, high)])
        )

    def _group_hashes(self, group: int, columns: Sequence[int]) -> Words:
        name = (group, columns is self._cut)
        with self._lock:
            found = self._hashes.get(name)
            if found is not None:
                return found
        entries = dict(zip(columns, self._entries(columns, [group]), strict=True))
        if None in entries.values():
            raise Corruption("an object that rows are told by is missing")
        there = {i: found for i, found in entries.items() if found is not None}
        found = row_hashes(self._bases(there, [group]))
        with self._lock:
            self._hashes[name] = found
            while len(self._hashes) > _CACHED_HASHES:
                self._hashes.popitem(last=False)
        return found

    def _narrowed(self, source: Rows, low: int, high: int) -> _Alignment:
        """An alignment to the groups alone that rows are taken from."""
        starts = self._starts[low : high + 1] - self._starts[low]
        of = np.searchsorted(starts, source, "right") - 1  # -1 for inserted rows
        used = np.unique(of[of >= 0])
        shift = np.zeros(high - low + 1, np.int64)
        sizes = np.diff(starts)
        shift[used] = np.cumsum(sizes[used]) - sizes[used] - starts[used]
        source = np.where(source >= 0, source + shift[of], -1)
        groups = tuple(low + int(i) for i in used)
        if (
            len(groups) == 1
            and len(source) == self._parent.rows[groups[0]]
            and (source == np.arange(len(source))).all()
        ):
            return _Alignment(groups, None)
        return _Alignment(groups, source)

    def _entries(self, columns: Sequence[int], groups: Sequence[int]) -> list[tuple[Entry, ...] | None]:
        """The parent's objects of each column in some groups; None for a column that lacks one."""
        identities = [self._parent.identity(self._theirs[i], group) for i in columns for group in groups]
        found = self._sink.known(identities)
        there = [
            entry if entry is not None and entry.digest == identity.digest else None
            for entry, identity in zip(found, identities, strict=True)
        ]
        width = len(groups)
        rows = [there[k : k + width] for k in range(0, len(there), width)]
        return [None if None in row else tuple(entry for entry in row if entry is not None) for row in rows]

    def _bases(self, column_entries: Mapping[int, Sequence[Entry]], groups: Sequence[int]) -> list[pa.Array]:
        """The rows of some groups of the parent, in stored form, for each column of which the objects are given.

        Raises Corruption where one is damaged, StorageError where it cannot be read.
        """
        fields = [self._fields[i] for i in column_entries]
        pieces = [
            self._patched.arrays(
                [entries[k] for entries in column_entries.values()], fields, self._parent.rows[group]
            )
            for k, group in enumerate(groups)
        ]
        if len(pieces) == 1:
            return pieces[0]
        return [pa.concat_arrays(parts) for parts in zip(*pieces, strict=True)]

    # -- patches -----------------------------------------------------------------------------------

    def patches(
        self,
        first_row: int,
        arrays: Sequence[pa.Array],
        identities: Sequence[Identity],
        columns: Sequence[int],
        known: _Alignment | None,
    ) -> tuple[dict[int, PatchedChunk], bytes | None]:
        """The chunks of some columns that are worth a patch, by column, and the row map that they name."""
        columns = [i for i in columns if i in self._theirs]
        if not columns:
            return {}, None
        try:
            alignment = known or self._aligned(first_row, arrays)
            if alignment is None:
                return {}, None
            return self._against(alignment, {i: (arrays[i], identities[i]) for i in columns})
        except (Corruption, GoneError, StorageError):
            return {}, None  # an old object that is damaged must not stand in the way of new data

    def in_place(
        self, group: int, chunks: Mapping[int, tuple[pa.Array, Identity]]
    ) -> dict[int, PatchedChunk]:
        """Of chunks, by column, whose rows are those of a group of the parent, the ones that are worth a patch."""
        there = {i: chunk for i, chunk in chunks.items() if i in self._theirs}
        if not there:
            return {}
        try:
            return self._against(_Alignment((group,), None), there)[0]
        except (Corruption, GoneError, StorageError):
            return {}  # as above

    def _against(
        self, alignment: _Alignment, chunks: Mapping[int, tuple[pa.Array, Identity]]
    ) -> tuple[dict[int, PatchedChunk], bytes | None]:
        """The patches of a group whose rows are aligned."""
        taking = _Taking.of(alignment, [self._parent.rows[group] for group in alignment.groups])
        stands = {
            i: stand
            for i, entries in zip(chunks, self._entries(list(chunks), alignment.groups), strict=True)
            if entries is not None and (stand := self._stand(entries, taking)) is not None
        }
        found = {}
        for some in _portions(stands):
            bases = self._bases({i: stands[i].entries for i in some}, alignment.groups)
            for i, base in zip(some, bases, strict=True):
                made = self._changes(self._fields[i], *chunks[i], base, stands[i], taking)
                if made is not None:
                    found[i] = made
        row_map = taking.row_map
        if row_map is not None and len(row_map) > _WORTH * sum(
            patch.whole_bytes for _, patch in found.values()
        ):
            return {}, None
        leaves = reserved_leaves([chunks[i][0] for i in found], [self._fields[i] for i in found])
        patched = {
            i: PatchedChunk(leaf, patch, data, stands[i].entries)
            for (i, (data, patch)), leaf in zip(found.items(), leaves, strict=True)
        }
        return patched, row_map if found else None

    def _stand(self, entries: tuple[Entry, ...], taking: _Taking) -> _Stand | None:
        """What a patch of a column would stand on, unless that has too many bytes or objects already."""
        depth = 1 + max(depth_of(entry.meta) for entry in entries)
        below = [unpack_patch(entry.meta) for entry in entries]
        leaves = [unpack_meta(entry.meta) for entry in entries]
        whole = sum(
            sum(leaf.length for leaf in each) if patch is None else patch.whole_bytes
            for each, patch in zip(leaves, below, strict=True)
        )
        own = sum(patch.own_bytes for patch in below if patch is not None)
        if depth > MAX_DEPTH or own > whole:
            return None
        plain = sum(leaf.uncompressed for each in leaves for leaf in each)
        return _Stand(entries, depth, whole, own, whole * taking.rows / taking.base_rows, plain)

    def _changes(
        self,
        field: pa.Field,
        array: pa.Array,
        identity: Identity,
        base: pa.Array,
        stand: _Stand,
        taking: _Taking,
    ) -> tuple[bytes, Patch] | None:
        """What differs in a column, if that is little enough."""
        data, inserted = b"", taking.inserted
        predicted = base
        if len(inserted):
            data = write_changes(_NO_ROWS, array.take(pa.array(inserted)), field)
            predicted = pa.concat_arrays([base, read_changes(data, inserted, len(array), field).values])
        if taking.places is not None:
            predicted = predicted.take(taking.places)
        changed = np.flatnonzero(differing(predicted, array))
        if len(changed) > _MOST_CHANGED * len(array):
            return None
        if len(changed):
            changed = np.setdiff1d(changed, inserted, assume_unique=True)
            positions = np.sort(np.concatenate([changed, inserted]))
            data = write_changes(changed, array.take(pa.array(positions)), field)
        if len(data) > _WORTH * stand.expected or stand.own + len(data) > stand.whole:
            return None
        # What was written is read, applied and proven: nothing else says that it is right.
        if len(changed):
            changes = read_changes(data, inserted, len(array), field)
            places = np.arange(len(array))
            places[changes.positions] = len(array) + np.arange(len(changes.values))
            predicted = pa.concat_arrays([predicted, changes.values]).take(pa.array(places))
        if digest(predicted, field) != identity.digest:
            return None
        addresses = tuple(entry.address for entry in stand.entries)
        return data, Patch(stand.depth, addresses, taking.map_address, stand.own + len(data), stand.whole)


def _scattered(source: Rows) -> bool:
    """Whether the rows that were found follow each other nowhere: they are of a table that was shuffled."""
    found = source[source >= 0]
    return len(found) > _EDGE_ROWS and float((np.diff(found) == 1).mean()) < _LEAST_IN_ORDER


def _portions(stands: Mapping[int, _Stand]) -> Iterator[list[int]]:
    """The columns in runs that are decoded at once, so that a group of wide rows is not in memory twice."""
    run: list[int] = []
    size = 0
    for i, stand in stands.items():
        if run and size + stand.plain > _DECODED_BYTES:
            yield run
            run, size = [], 0
        run.append(i)
        size += stand.plain
    if run:
        yield run
