"""Making patches: new chunks as what differs from the chunks of the parent's snapshot.

For a row group that holds anything new, the parent's groups with the same rows are found, and which row
is which: at once where the columns that cuts follow from are the same, else by hashes of those columns.
Then each new column is compared with what the parent has in those rows. A patch is kept where it is much
smaller than the whole chunk, and only after it was applied and gave the very chunk.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fsvc.engine.alignment import align
from fsvc.engine.patched import Patched
from fsvc.errors import Corruption, FsvcError, UnsupportedData
from fsvc.format import pages
from fsvc.format.canonical import Identity, identify, storage_class
from fsvc.format.footer import LeafMeta, reserved_leaf
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
_MOST_BASES = 6
_CACHED_HASHES = 8
_EDGE_ROWS = 256
# Room for pages that another writer makes a little longer.
_SLACK = 256


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
            while high - low < _MOST_BASES and (source < 0).any():
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
        arrays = [self._base(i, group)[0] for i in columns]
        found = row_hashes(arrays)
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

    def _base(self, column: int, group: int) -> tuple[pa.Array, Entry]:
        """A chunk of the parent in stored form. Raises Corruption where it is not there or damaged."""
        identity = self._parent.identity(self._theirs[column], group)
        entry = self._sink.known([identity])[0]
        if entry is None or entry.digest != identity.digest:
            raise Corruption(f"object {identity.address.hex()} is missing")
        return self._patched.array(entry, self._fields[column], self._parent.rows[group]), entry

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
            row_map = None
            if alignment.source is not None:
                base_rows = tuple(self._parent.rows[group] for group in alignment.groups)
                row_map = write_map(RowMap(alignment.source, base_rows))
                if not (read_map(row_map).source == alignment.source).all():
                    return {}, None
            found = {}
            for i in columns:
                made = self._changes(i, arrays[i], identities[i], alignment, row_map)
                if made is not None:
                    found[i] = made
            if row_map is not None and len(row_map) > _WORTH * sum(
                made[1].whole_bytes for made in found.values()
            ):
                return {}, None
        except (FsvcError, pa.ArrowException, OSError):
            return {}, None  # an old object that is damaged must not stand in the way of new data
        return self._with_leaves(arrays, found), row_map if found else None

    def _changes(
        self, column: int, array: pa.Array, identity: Identity, alignment: _Alignment, row_map: bytes | None
    ) -> tuple[bytes, Patch, tuple[Entry, ...]] | None:
        """What differs in a column, if that is little enough, and what it stands on."""
        field = self._fields[column]
        bases = [
            self._sink.known([self._parent.identity(self._theirs[column], group)])[0]
            for group in alignment.groups
        ]
        entries = tuple(entry for entry in bases if entry is not None)
        if len(entries) != len(bases):
            return None
        depth = 1 + max(depth_of(entry.meta) for entry in entries)
        if depth > MAX_DEPTH:
            return None
        below = [unpack_patch(entry.meta) for entry in entries]
        rows = sum(self._parent.rows[group] for group in alignment.groups)
        whole = sum(
            sum(leaf.length for leaf in unpack_meta(entry.meta)) if patch is None else patch.whole_bytes
            for entry, patch in zip(entries, below, strict=True)
        )
        own = sum(patch.own_bytes for patch in below if patch is not None)
        expected = whole * len(array) / rows
        if own > whole:
            return None
        pieces = [self._base(column, group)[0] for group in alignment.groups]
        base = pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)
        source = alignment.source
        places = np.arange(len(array)) if source is None else source
        taken = places >= 0
        if source is None:
            predicted, compared = base, array
        elif taken.all():
            predicted, compared = base.take(pa.array(places)), array
        else:
            predicted, compared = base.take(pa.array(places[taken])), array.filter(pa.array(taken))
        changed = np.flatnonzero(taken)[differing(predicted, compared)]
        if len(changed) > _MOST_CHANGED * len(array):
            return None
        inserted = np.flatnonzero(~taken)
        positions = np.sort(np.concatenate([changed, inserted]))
        data = write_changes(changed, array.take(pa.array(positions)), field)
        if len(data) > _WORTH * expected or own + len(data) > whole:
            return None
        # What was written is read, applied and proven: nothing else says that it is right.
        changes = read_changes(data, inserted, len(array), field)
        places = np.where(taken, places, 0)
        places[changes.positions] = len(base) + np.arange(len(changes.values))
        if identify(pa.concat_arrays([base, changes.values]).take(pa.array(places)), field) != identity:
            return None
        name = None if row_map is None else map_identity(row_map).address
        patch = Patch(depth, tuple(entry.address for entry in entries), name, own + len(data), whole)
        return data, patch, entries

    def _with_leaves(
        self, arrays: Sequence[pa.Array], found: dict[int, tuple[bytes, Patch, tuple[Entry, ...]]]
    ) -> dict[int, PatchedChunk]:
        """Patches with the metadata of what they are thawed to: exact statistics, and room for the pages."""
        try:
            thawed = pages.plain([arrays[i] for i in found], [self._fields[i] for i in found])
        except UnsupportedData:
            return {}  # stored whole, it is refused by name
        return {
            i: PatchedChunk(
                tuple(reserved_leaf(leaf, leaf.length + leaf.length // 64 + _SLACK) for leaf in chunk.leaves),
                patch,
                data,
                bases,
            )
            for (i, (data, patch, bases)), chunk in zip(found.items(), thawed, strict=True)
        }
