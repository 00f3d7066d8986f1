"""Three-way merge of one feature set, by key, down to the cell.

What theirs changed since the base is applied to ours. Changes of both sides to different cells of a row go
together; to the same cell they conflict unless they are the same change, and so do the deletion of a row on
one side and its change on the other. Rows keep the order of ours. A row that theirs inserted comes after the
row that it follows in theirs, and after what ours inserted at that place.

Only the chunks that differ are read to find this out. The merged table is a stream of record batches: ours'
groups, one by one, with theirs' changes put in. Columns are merged in the same way, by name; see
:mod:`fsvc.engine.columns`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.engine.columns import MergedColumn, merge_columns, merge_schema_metadata
from fsvc.engine.diff import TableDiff
from fsvc.engine.progress import Progress, silent
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.writing import default_threads
from fsvc.errors import Conflict
from fsvc.format.categories import child_path, dictionary_types
from fsvc.format.cells import Flags, differing, match, meaning, picked
from fsvc.format.rowvalues import Counts, fixed_width
from fsvc.format.stored import comparable, from_stored, stored_field, stored_type, to_stored

__all__ = ["Strategy", "TableMerge"]

Strategy = Literal["ours", "theirs"]

KINDS = ("changed on both sides", "removed by ours", "removed by theirs", "added on both sides")


@dataclass(frozen=True)
class _Cells:
    """Cells of one merged column that are taken from theirs: rows of ours, ascending, and rows of theirs."""

    ours: Counts
    theirs: Counts

    def within(self, start: int, stop: int) -> _Cells:
        first, last = np.searchsorted(self.ours, (start, stop))
        return _Cells(self.ours[first:last], self.theirs[first:last])


@dataclass(frozen=True)
class _Edits:
    """What is done to ours: rows that go, rows of theirs that come behind a row of ours, and cells that change.

    ``removed`` ascends; ``behind`` ascends and is -1 for the front; ``inserted`` are rows of theirs.
    """

    removed: Counts
    behind: Counts
    inserted: Counts
    cells: tuple[_Cells, ...]


@dataclass(frozen=True)
class _Conflicts:
    """Rows in conflict: a number of KINDS, the row's number on each side (-1: none), the columns concerned."""

    kind: Counts
    base: Counts
    ours: Counts
    theirs: Counts
    columns: tuple[Flags, ...]


@dataclass(frozen=True)
class _Part:
    """What comes of one kind of change of theirs: an edit of ours, and what conflicts."""

    cells: tuple[_Cells, ...]
    conflicts: _Conflicts
    removed: Counts
    inserted: Counts


class TableMerge:
    """The merge of ``theirs`` into ``ours``, two snapshots of one feature set that come from ``base``.

    All three have the same key. Raises Conflict, by name, for columns that cannot be merged; conflicts of rows
    are told by :attr:`conflicts`, unless a ``strategy`` settles them.
    """

    def __init__(
        self,
        base: SnapshotReader,
        ours: SnapshotReader,
        theirs: SnapshotReader,
        *,
        strategy: Strategy | None = None,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> None:
        self.base, self.ours, self.theirs = base, ours, theirs
        self._strategy = strategy
        self._threads = threads or default_threads()
        self._progress = progress
        self.to_ours = TableDiff(base, ours, threads=threads)
        self.to_theirs = TableDiff(base, theirs, threads=threads)
        self.columns = merge_columns(self.to_ours, self.to_theirs, strategy)
        self.key = ours.manifest.key
        metadata = merge_schema_metadata(base, ours, theirs, strategy)
        self.schema = pa.schema([column.field for column in self.columns], metadata=metadata)

    @property
    def reordered(self) -> bool:
        """Whether theirs has rows in another order, which the merged table does not take over."""
        return self.to_theirs.rows.moved > 0

    # -- what is to be done ----------------------------------------------------------------------

    @cached_property
    def _plan(self) -> tuple[_Edits, _Conflicts]:
        changed = self._changed_by_theirs()
        gone = self._removed_by_theirs()
        added = self._added_by_theirs()
        fresh = self._whole_columns()
        conflicts = _joined(
            [changed.conflicts, gone.conflicts, added.conflicts, *(f.conflicts for f in fresh)]
        )
        cells = []
        for number in range(len(self.columns)):
            parts = [changed.cells[number], added.cells[number], *(f.cells[number] for f in fresh)]
            ours = np.concatenate([part.ours for part in parts])
            theirs = np.concatenate([part.theirs for part in parts])
            order = np.argsort(ours, kind="stable")
            cells.append(_Cells(ours[order], theirs[order]))
        inserted = np.sort(np.concatenate([changed.inserted, added.inserted]))
        removed = np.unique(gone.removed)
        behind = self._behind(inserted)
        order = np.argsort(behind, kind="stable")
        return _Edits(removed, behind[order], inserted[order], tuple(cells)), conflicts

    def _flags_of(self, diff: TableDiff, *, theirs: bool) -> list[Flags | None]:
        """For each merged column, which changed rows of a side differ from the base in it."""
        by_base = {pair.before: flags for pair, flags in zip(diff.compared, diff.changes.cells, strict=True)}
        return [
            by_base.get(column.base)
            if column.base is not None and (column.theirs if theirs else column.ours) is not None
            else None
            for column in self.columns
        ]

    @cached_property
    def _changed_by_ours(self) -> tuple[Counts, Counts]:
        """The rows of the base that ours changed, ascending, and their places among the changes."""
        before = self.to_ours.changes.before
        order = np.argsort(before)
        return before[order], order

    def _place_in_ours(self, base_rows: Counts) -> Counts:
        """Where rows of the base stand among the changes of ours; -1 where ours did not change them."""
        rows, places = self._changed_by_ours
        if not len(rows):
            return np.full(len(base_rows), -1)
        at = np.minimum(np.searchsorted(rows, base_rows), len(rows) - 1)
        return np.where(rows[at] == base_rows, places[at], -1)

    def _changed_by_theirs(self) -> _Part:
        changes = self.to_theirs.changes
        base, theirs = changes.before, changes.after
        ours = self.to_ours.rows.after_of(base)
        place = self._place_in_ours(base)
        theirs_flags = self._flags_of(self.to_theirs, theirs=True)
        ours_flags = self._flags_of(self.to_ours, theirs=False)
        nothing = np.zeros(len(base), np.bool_)
        taken, disputed = [], []
        for column, new, old in zip(self.columns, theirs_flags, ours_flags, strict=True):
            new = nothing if new is None else new
            both = nothing.copy()
            if old is not None:
                both = new & (place >= 0) & old[np.maximum(place, 0)] if len(old) else both
            if both.any():
                both[both] = self._unlike(column, ours[both], theirs[both])
            disputed.append(both)
            taken.append(new & (ours >= 0) & ~_of(old, place, len(base)))
        lost = (ours < 0) & np.any([nothing, *(f for f in theirs_flags if f is not None)], axis=0)
        settled = self._strategy == "theirs"
        cells = tuple(
            _Cells(ours[flags], theirs[flags])
            for flags in ((one | two if settled else one) for one, two in zip(taken, disputed, strict=True))
        )
        clash = np.any([nothing, *disputed], axis=0)
        rows = np.flatnonzero(clash | lost)
        kind = np.where(lost[rows], 1, 0)
        concerned = tuple(
            np.where(lost[rows], _flagged(new, rows), both[rows])
            for new, both in zip(theirs_flags, disputed, strict=True)
        )
        conflicts = _Conflicts(kind, base[rows], ours[rows], theirs[rows], concerned)
        return _Part(
            cells, conflicts, np.zeros(0, np.int64), theirs[lost] if settled else np.zeros(0, np.int64)
        )

    def _removed_by_theirs(self) -> _Part:
        base = self.to_theirs.rows.removed
        ours = self.to_ours.rows.after_of(base)
        place = self._place_in_ours(base)
        flags = [_of(column, place, len(base)) for column in self._flags_of(self.to_ours, theirs=False)]
        changed = np.any([np.zeros(len(base), np.bool_), *flags], axis=0)
        there = ours >= 0
        rows = np.flatnonzero(there & changed)
        conflicts = _Conflicts(
            np.full(len(rows), 2),
            base[rows],
            ours[rows],
            np.full(len(rows), -1),
            tuple(column[rows] for column in flags),
        )
        removed = ours[there if self._strategy == "theirs" else there & ~changed]
        return _Part(self._no_cells(), conflicts, removed, np.zeros(0, np.int64))

    def _added_by_theirs(self) -> _Part:
        theirs, ours = self.to_theirs.rows.added, self.to_ours.rows.added
        found = np.full(len(theirs), -1)
        if len(theirs) and len(ours):
            sides = [
                [reader.cells(reader.manifest.schema.get_field_index(name), rows) for name in self.key]
                for reader, rows in ((self.theirs, theirs), (self.ours, ours))
            ]
            found = match(*sides)
        both = found >= 0
        one, other = ours[found[both]], theirs[both]
        disputed = [
            self._unlike(column, one, other)
            if column.ours is not None and column.theirs is not None and not column.is_key
            else np.zeros(len(one), np.bool_)
            for column in self.columns
        ]
        settled = self._strategy == "theirs"
        # Columns that theirs alone has are filled by the pass over whole columns.
        cells = tuple(_Cells(one[flags], other[flags]) if settled else _no_cells() for flags in disputed)
        rows = np.flatnonzero(np.any([np.zeros(len(one), np.bool_), *disputed], axis=0))
        conflicts = _Conflicts(
            np.full(len(rows), 3),
            np.full(len(rows), -1),
            one[rows],
            other[rows],
            tuple(flags[rows] for flags in disputed),
        )
        return _Part(cells, conflicts, np.zeros(0, np.int64), theirs[~both])

    def _whole_columns(self) -> list[_Part]:
        """Columns that both sides added: their cells have no base, so they have to be the same."""
        parts = []
        for number, column in enumerate(self.columns):
            if column.base is not None or column.ours is None or column.theirs is None:
                continue
            ours = np.arange(self.ours.manifest.num_rows)
            base, theirs = self._counterparts(ours)
            common = np.flatnonzero((base >= 0) & (theirs >= 0))
            rows = common[self._unlike(column, ours[common], theirs[common])]
            cells = list(self._no_cells())
            if self._strategy == "theirs":
                cells[number] = _Cells(ours[rows], theirs[rows])
            flags = [np.full(len(rows), i == number) for i in range(len(self.columns))]
            conflicts = _Conflicts(np.full(len(rows), 0), base[rows], ours[rows], theirs[rows], tuple(flags))
            nothing = np.zeros(0, np.int64)
            parts.append(_Part(tuple(cells), conflicts, nothing, nothing))
        return parts

    def _no_cells(self) -> tuple[_Cells, ...]:
        return tuple(_no_cells() for _ in self.columns)

    def _unlike(self, column: MergedColumn, ours: Counts, theirs: Counts) -> Flags:
        """In which pairs of rows a column differs between ours and theirs."""
        assert column.ours is not None
        assert column.theirs is not None
        return differing(self.ours.cells(column.ours, ours), self.theirs.cells(column.theirs, theirs))

    def _counterparts(self, ours: Counts) -> tuple[Counts, Counts]:
        """The rows of the base and of theirs that rows of ours are; -1 for none."""
        base = self._from_ours.after_of(ours)
        theirs = self.to_theirs.rows.after_of(np.maximum(base, 0))
        theirs = np.where(base >= 0, theirs, -1)
        one, other = self._added_on_both
        if len(one):
            at = np.minimum(np.searchsorted(one, ours), len(one) - 1)
            theirs = np.where(one[at] == ours, other[at], theirs)
        return base, theirs

    @cached_property
    def _from_ours(self) -> Any:
        return self.to_ours.rows.inverted()

    @cached_property
    def _added_on_both(self) -> tuple[Counts, Counts]:
        """Rows of ours, ascending, and of theirs that both sides added under one key."""
        theirs, ours = self.to_theirs.rows.added, self.to_ours.rows.added
        if not len(theirs) or not len(ours):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        sides = [
            [reader.cells(reader.manifest.schema.get_field_index(name), rows) for name in self.key]
            for reader, rows in ((self.ours, ours), (self.theirs, theirs))
        ]
        found = match(*sides)
        return ours[found >= 0], theirs[found[found >= 0]]

    def _behind(self, inserted: Counts) -> Counts:
        """Behind which row of ours each inserted row of theirs comes; -1 for the front."""
        if not len(inserted):
            return np.zeros(0, np.int64)
        rows = np.arange(self.theirs.manifest.num_rows)
        base = self.to_theirs.rows.inverted().after_of(rows)
        anchor = np.where(base >= 0, self.to_ours.rows.after_of(np.maximum(base, 0)), -1)
        one, other = self._added_on_both
        anchor[other] = one
        # The nearest row before it in theirs that ours has too.
        last = np.maximum.accumulate(np.where(anchor >= 0, rows, -1))
        before = last[inserted]
        found = np.where(before >= 0, anchor[np.maximum(before, 0)], -1)
        # And behind what ours inserted there.
        own = np.zeros(self.ours.manifest.num_rows + 1, np.bool_)
        own[self.to_ours.rows.added] = True
        own[one] = False
        ends = np.where(own, np.iinfo(np.int64).max, np.arange(len(own)))
        following = np.minimum.accumulate(ends[::-1])[::-1]
        places: Counts = following[found + 1] - 1
        return places

    def prepare(self) -> None:
        """Find out all that conflicts. Raises InvalidUse where the keys of the sides cannot be compared."""
        assert self._plan

    # -- conflicts -------------------------------------------------------------------------------

    @property
    def conflicts(self) -> int:
        """How many rows are in conflict; none with a strategy."""
        return 0 if self._strategy is not None else len(self._plan[1].kind)

    def conflict_table(self, limit: int | None = None) -> pa.Table:
        """The rows in conflict, as :attr:`fsvc.errors.MergeConflict.rows` documents them."""
        found = self._plan[1]
        order = np.lexsort((found.theirs, found.ours, np.where(found.base < 0, np.inf, found.base)))[:limit]
        numbers = {"base": found.base[order], "ours": found.ours[order], "theirs": found.theirs[order]}
        kinds = pa.array(KINDS).take(pa.array(found.kind[order]))
        flags = np.array([column[order] for column in found.columns], np.bool_)
        flags = flags.reshape(len(self.columns), len(order)).T
        offsets = np.concatenate([[0], np.cumsum(flags.sum(axis=1))]).astype(np.int32)
        names = pa.array([column.field.name for column in self.columns], pa.string())
        listed = pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(np.nonzero(flags)[1])))
        columns = {"key": self._keys(numbers), "conflict": kinds, "columns": listed}
        for side, reader in (("base", self.base), ("ours", self.ours), ("theirs", self.theirs)):
            columns[side] = self._whole_rows(reader, numbers[side])
        return pa.table(columns)

    def _keys(self, numbers: dict[str, Counts]) -> pa.StructArray:
        """Keys of rows, each from a side that has the row."""
        arrays, fields = [], []
        for name in self.key:
            number = self.ours.manifest.schema.get_field_index(name)
            kind = self.ours.manifest.stored_fields[number].type
            parts: list[pa.Array] = []
            at = np.full(len(numbers["ours"]), -1)
            for reader, rows in ((self.ours, numbers["ours"]), (self.theirs, numbers["theirs"])):
                cells = reader.cells(reader.manifest.schema.get_field_index(name), rows)
                at = np.where(
                    at < 0, np.where(rows >= 0, sum(map(len, parts)) + np.arange(len(rows)), -1), at
                )
                parts.append(cells if cells.type == kind else cells.cast(kind))
            arrays.append(self.ours.plain(picked(pa.concat_arrays(parts), at), number))
            fields.append(pa.field(name, arrays[-1].type))
        return pa.StructArray.from_arrays(arrays, fields=fields)

    def _whole_rows(self, reader: SnapshotReader, rows: Counts) -> pa.Array:
        """Rows of one side without their key, null for a row of -1."""
        schema = reader.manifest.schema
        numbers = [i for i, name in enumerate(schema.names) if name not in self.key]
        if not numbers:
            return pa.array([{}] * len(rows), pa.struct([]))
        arrays = [reader.restored(reader.cells(i, rows), i) for i in numbers]
        fields = [pa.field(schema.field(i).name, schema.field(i).type) for i in numbers]
        return pa.StructArray.from_arrays(arrays, fields=fields, mask=pa.array(rows < 0))

    # -- the merged table ------------------------------------------------------------------------

    @property
    def num_rows(self) -> int:
        """Rows of the merged table."""
        edits = self._plan[0]
        return self.ours.manifest.num_rows - len(edits.removed) + len(edits.inserted)

    def changed_chunks(self) -> dict[int, list[int]] | None:
        """Which columns differ from ours in each group, where nothing but their cells does; else None.

        Then rows, key and cuts are those of ours: cells of a fixed width have no say in cuts.
        """
        edits, schema = self._plan[0], self.ours.manifest.schema
        if len(edits.removed) or len(edits.inserted) or not self.schema.equals(schema, check_metadata=True):
            return None
        found: dict[int, list[int]] = {}
        for number, (column, cells) in enumerate(zip(self.columns, edits.cells, strict=True)):
            if not len(cells.ours):
                continue
            if column.ours != number or column.is_key or fixed_width(column.field.type) is None:
                return None
            for group in np.unique(np.searchsorted(self.ours.starts, cells.ours, "right") - 1).tolist():
                found.setdefault(group, []).append(number)
        return found

    def chunk(self, column: int, group: int) -> pa.Array:
        """A column of one group of ours with the cells of theirs put in, in stored form."""
        merged, (first, end) = self.columns[column], self.ours.starts[group : group + 2]
        cells = self._plan[0].cells[column].within(int(first), int(end))
        array = self._fitted(merged, self.ours.chunk(column, group))
        return self._with_cells(merged, array, cells, int(first))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The merged table, a batch for each row group of ours; a few are made ahead by threads.

        Raises Conflict naming a column whose cells have no place in the type that was merged.
        """
        groups = len(self.ours.manifest.rows)
        categories = _merged_categories(self.base, self.ours, self.theirs, self.columns)
        assert self._plan
        if not groups:
            yield self._batch(None, categories)
            return
        with ThreadPoolExecutor(self._threads, thread_name_prefix="fsvc-merge") as pool:
            running: deque[Future[pa.RecordBatch]] = deque()
            try:
                for group in range(groups):
                    running.append(pool.submit(self._batch, group, categories))
                    while len(running) > self._threads:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for future in running:
                    future.cancel()

    def _batch(self, group: int | None, categories: list[dict[str, pa.Array]]) -> pa.RecordBatch:
        """One group of ours with the edits put in; None where ours has no rows at all."""
        edits = self._plan[0]
        first, end = (0, 0) if group is None else (int(n) for n in self.ours.starts[group : group + 2])
        kept = np.ones(end - first, np.bool_)
        kept[edits.removed[slice(*np.searchsorted(edits.removed, (first, end)))] - first] = False
        # What comes to the front comes with the first group.
        bounds = np.searchsorted(edits.behind, (-1 if first == 0 else first, max(end, first)))
        inserted = edits.inserted[slice(*bounds)]
        behind = edits.behind[slice(*bounds)] - first
        places = np.insert(
            np.where(kept, np.arange(end - first), -1), behind + 1, end - first + np.arange(len(inserted))
        )
        places = places[places >= 0]
        unchanged = len(places) == end - first and not len(inserted)
        arrays = []
        numbers = [column.ours for column in self.columns if column.ours is not None]
        stored = {} if group is None else dict(zip(numbers, self.ours.group(numbers, group), strict=True))
        for column, cells, known in zip(self.columns, edits.cells, categories, strict=True):
            if column.ours is None:
                array = self._their_cells(column, self._counterparts(np.arange(first, end))[1])
            elif group is None:
                array = pa.array([], stored_field(column.field).type)
            else:
                array = self._fitted(column, stored[column.ours])
            own = cells.within(first, end)
            if len(own.ours):
                array = self._with_cells(column, array, own, first)
            if not unchanged:
                array = picked(pa.concat_arrays([array, self._their_cells(column, inserted)]), places)
            arrays.append(from_stored(array, column.field.type, known, child_path("", column.field.name)))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _their_cells(self, column: MergedColumn, rows: Counts) -> pa.Array:
        """The cells of rows of theirs; null where theirs has no such row or column."""
        if column.theirs is None or not len(rows):
            return pa.nulls(len(rows), stored_field(column.field).type)
        return self._fitted(column, self.theirs.cells(column.theirs, rows))

    def _with_cells(self, column: MergedColumn, array: pa.Array, cells: _Cells, first: int) -> pa.Array:
        new = self._their_cells(column, cells.theirs)
        places = np.arange(len(array))
        places[cells.ours - first] = len(array) + np.arange(len(new))
        return picked(pa.concat_arrays([array, new]), places)

    @staticmethod
    def _fitted(column: MergedColumn, array: pa.Array) -> pa.Array:
        """Cells in the stored type of the merged column. Raises Conflict where they do not fit."""
        wanted = stored_field(column.field).type
        if array.type == wanted:
            return array
        try:
            found = array.cast(wanted, safe=meaning(array.type) == meaning(wanted))
            fits = not differing(array, found).any()
        except pa.ArrowException:
            fits = False
        if not fits:
            raise Conflict(
                f"column {column.field.name!r} has values as {array.type} that have no place in {column.field.type}",
                hint="change the type on both sides before merging",
            )
        return found


def _merged_categories(
    base: SnapshotReader, ours: SnapshotReader, theirs: SnapshotReader, columns: Sequence[MergedColumn]
) -> list[dict[str, pa.Array]]:
    """For each merged column the categories of its dictionary types, by path.

    Those of ours, or of theirs where ours has left them as they were; then those that only the other has.
    """
    found = []
    for column in columns:
        sides = []
        for reader, number in ((ours, column.ours), (theirs, column.theirs)):
            if number is not None and dictionary_types(pa.schema([column.field])):
                sides.append((list(reader.categories([number]).values()), reader.category_identities(number)))
        if (
            column.base is not None
            and len(sides) == 2
            and sides[0][1] == base.category_identities(column.base)
        ):
            sides.reverse()
        paths = dictionary_types(pa.schema([column.field]))
        merged: dict[str, pa.Array] = {}
        for place, (path, kind) in enumerate(paths.items()):
            lists = [values[place] for values, _ in sides if place < len(values)]
            merged[path] = _union(lists, kind.value_type)
        found.append(merged)
    return found


def _union(lists: Sequence[pa.Array], kind: pa.DataType) -> pa.Array:
    """Categories of several lists, each once, in the order in which they come up."""
    stored = [to_stored(values, "") for values in lists]
    if not stored:
        return pa.array([], kind)
    result = stored[0]
    for values in stored[1:]:
        if values.type != result.type:
            values = values.cast(result.type)
        fresh = pc.indices_nonzero(pc.invert(pc.is_in(comparable(values), value_set=comparable(result))))
        if len(fresh):
            result = pa.concat_arrays([result, values.take(fresh)])
    wanted = stored_type(kind)
    return from_stored(result if result.type == wanted else result.cast(wanted), kind, {}, "")


def _no_cells() -> _Cells:
    return _Cells(np.zeros(0, np.int64), np.zeros(0, np.int64))


def _of(flags: Flags | None, places: Counts, rows: int) -> Flags:
    """Flags at some places, False where the place is -1."""
    if flags is None or not len(flags):
        return np.zeros(rows, np.bool_)
    found: Flags = (places >= 0) & flags[np.maximum(places, 0)]
    return found


def _flagged(flags: Flags | None, rows: Counts) -> Flags:
    return np.zeros(len(rows), np.bool_) if flags is None else flags[rows]


def _joined(parts: Sequence[_Conflicts]) -> _Conflicts:
    return _Conflicts(
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.base for part in parts]),
        np.concatenate([part.ours for part in parts]),
        np.concatenate([part.theirs for part in parts]),
        tuple(np.concatenate(flags) for flags in zip(*(part.columns for part in parts), strict=True)),
    )
