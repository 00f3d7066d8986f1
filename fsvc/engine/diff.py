"""What differs between two snapshots, down to the cell, in time proportional to what differs.

Chunks that both sides have are equal, and never read. Of groups with the same rows only the columns whose
chunks differ are read, and compared place by place; the rows of the other groups are brought together by
their keys first. What is found is held as row numbers and flags, not as values: these are read again for the
rows that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from fsvc.engine.pairing import ColumnPair, ColumnPairing, RowPairing, pair_columns, pair_rows
from fsvc.engine.progress import Progress, silent
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.summary import column_summaries
from fsvc.engine.writing import default_threads
from fsvc.format.cells import Flags, differing, picked
from fsvc.format.rowvalues import Counts

__all__ = ["ColumnChange", "RowChanges", "SchemaChange", "TableChange", "TableDiff"]

T = TypeVar("T")
R = TypeVar("R")

CHANGES = ("removed", "added", "changed")
"""What may have become of a row, as the column ``change`` of a table of changed rows says it."""


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """How a schema changed. All columns are named; ``metadata`` lists the columns whose metadata changed,
    and ``""`` for that of the schema.

    ``renamed`` pairs old and new names of columns of equal content. ``retyped`` holds name, old type and new
    type, ``replaced`` those of them whose values cannot be compared. ``nullable`` lists columns that may be
    null now and could not be before, or the other way round; ``categories`` dictionary columns whose list of
    categories is another one, whatever the values are. ``key`` is the old key and the new one where it
    changed. ``reordered`` says that columns that stayed are in another order.
    """

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()
    replaced: tuple[str, ...] = ()
    nullable: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    key: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    reordered: bool = False

    def __bool__(self) -> bool:
        return self != SchemaChange()


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """How a column's values changed.

    ``cells`` counts the kept rows in which it differs. ``nulls``, ``minimum`` and ``maximum`` are pairs,
    before and after, of the whole column; None where they are not recorded.
    """

    name: str
    cells: int
    nulls: tuple[int | None, int | None]
    minimum: tuple[Any, Any]
    maximum: tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class TableChange:
    """What changed between two snapshots, in numbers.

    ``rows`` is how many there were and are. ``key`` names the columns by which rows were matched, none if it
    was by content: then no row counts as changed. ``moved`` counts the kept rows that come after another
    kept row than before. ``columns`` are those of the new schema in which a row that was kept differs, or
    whose nulls or range changed, in order.
    """

    rows: tuple[int, int]
    key: tuple[str, ...]
    added: int
    removed: int
    changed: int
    moved: int
    schema: SchemaChange
    columns: tuple[ColumnChange, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.moved or self.schema)


@dataclass(frozen=True)
class RowChanges:
    """Which kept rows differ and in which columns.

    ``before`` and ``after`` are row numbers on both sides, in the new order; ``cells[i]`` flags, for the
    i-th compared pair of columns, those of these rows in which it differs.
    """

    before: Counts
    after: Counts
    cells: tuple[Flags, ...]


class TableDiff:
    """The difference of two snapshots. Nothing is read before it is asked for, and each thing once.

    ``key`` names the columns by which rows are matched; left out it is the key of both snapshots, and where
    they have none, or not the same one, rows are matched by their content.
    """

    def __init__(
        self,
        before: SnapshotReader,
        after: SnapshotReader,
        *,
        key: Sequence[str] | None = None,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> None:
        self.before = before
        self.after = after
        self._key = key
        self._threads = threads or default_threads()
        self._progress = progress

    # -- pairing ---------------------------------------------------------------------------------

    @cached_property
    def columns(self) -> ColumnPairing:
        """Which columns are the same ones."""
        return pair_columns(self.before.manifest, self.after.manifest)

    @cached_property
    def rows(self) -> RowPairing:
        """Which rows are the same ones."""
        return pair_rows(self.before, self.after, self.columns, self._key)

    @cached_property
    def compared(self) -> list[ColumnPair]:
        """The pairs of columns whose cells are compared: all that can be, apart from those that match rows."""
        schema = self.after.manifest.schema
        matching = [schema.get_field_index(name) for name in self.rows.key]
        return self.columns.compared(matching) if self.rows.key else []

    # -- cells -----------------------------------------------------------------------------------

    @cached_property
    def changes(self) -> RowChanges:
        """Which kept rows differ, and where. Reads the chunks that differ."""
        rows, pairs = self.rows, self.compared
        one, other = self.before.manifest, self.after.manifest
        tasks: list[tuple[int, tuple[int, int] | None]] = []
        for number, pair in enumerate(pairs):
            for ours, theirs in rows.tied:
                same = one.chunks[pair.before, ours].tobytes() == other.chunks[pair.after, theirs].tobytes()
                if not (same and pair.same_meaning):
                    tasks.append((number, (ours, theirs)))
            if len(rows.kept_after):
                tasks.append((number, None))
        found: list[list[tuple[Counts, Counts]]] = [[] for _ in pairs]
        for done, ((number, _), places) in enumerate(
            zip(tasks, self._each(self._compare, tasks), strict=True)
        ):
            found[number].append(places)
            self._progress("comparing", done + 1, len(tasks))
        return _gathered(found)

    def _compare(self, task: tuple[int, tuple[int, int] | None]) -> tuple[Counts, Counts]:
        """The rows, on both sides, in which a pair of columns differs within two groups, or outside of tied ones."""
        number, groups = task
        pair = self.compared[number]
        if groups is not None:
            ours, theirs = groups
            flags = differing(self.before.chunk(pair.before, ours), self.after.chunk(pair.after, theirs))
            places = np.flatnonzero(flags)
            return places + self.before.starts[ours], places + self.after.starts[theirs]
        rows = self.rows
        old = self._loose(self.before, pair.before, rows.loose_before, rows.kept_before)
        new = self._loose(self.after, pair.after, rows.loose_after, rows.kept_after)
        places = np.flatnonzero(differing(old, new))
        return rows.kept_before[places], rows.kept_after[places]

    @staticmethod
    def _loose(reader: SnapshotReader, column: int, groups: Sequence[int], rows: Counts) -> pa.Array:
        """The cells of a column in some rows of groups that are read whole anyway."""
        sizes = np.array([reader.manifest.rows[group] for group in groups], np.int64)
        firsts = reader.starts[groups]
        at = np.searchsorted(firsts, rows, "right") - 1
        places = rows - firsts[at] + (np.cumsum(sizes) - sizes)[at]
        whole = reader.chunks(column, groups)
        if len(places) == len(whole) and (np.diff(places) == 1).all():
            return whole
        return picked(whole, places)

    def _each(self, work: Callable[[T], R], tasks: Sequence[T]) -> Iterable[R]:
        """Do tasks by threads; results in order."""
        if len(tasks) < 2:
            return map(work, tasks)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="fsvc-diff") as pool:
            return list(pool.map(work, tasks))

    # -- in numbers ------------------------------------------------------------------------------

    @cached_property
    def schema(self) -> SchemaChange:
        """How the schema changed; by the manifests alone."""
        return _schema_change(self.before, self.after, self.columns)

    @property
    def identical(self) -> bool:
        """Whether both snapshots are the same; by their ids alone."""
        return self.before.manifest.id == self.after.manifest.id

    def stat(self) -> TableChange:
        """What changed, in numbers."""
        rows, changes = self.rows, self.changes
        return TableChange(
            (self.before.manifest.num_rows, self.after.manifest.num_rows),
            rows.key,
            len(rows.added),
            len(rows.removed),
            len(changes.after),
            rows.moved,
            self.schema,
            tuple(self._column_changes()),
        )

    def _column_changes(self) -> Iterable[ColumnChange]:
        cells = {
            pair.after: int(flags.sum())
            for pair, flags in zip(self.compared, self.changes.cells, strict=True)
        }
        touched = [pair for pair in self.columns.pairs if self._touched(pair)]
        old = column_summaries(self.before, [pair.before for pair in touched])
        new = column_summaries(self.after, [pair.after for pair in touched])
        for pair, one, other in zip(touched, old, new, strict=True):
            change = ColumnChange(
                other.name,
                cells.get(pair.after, 0),
                (one.nulls, other.nulls),
                (one.minimum, other.minimum),
                (one.maximum, other.maximum),
            )
            shifted = any(not _same(*values) for values in (change.nulls, change.minimum, change.maximum))
            if change.cells or shifted:
                yield change

    def _touched(self, pair: ColumnPair) -> bool:
        """Whether the chunks of a column are others than they were."""
        old, new = self.before.manifest.chunks[pair.before], self.after.manifest.chunks[pair.after]
        return bool(old.tobytes() != new.tobytes())

    # -- row by row ------------------------------------------------------------------------------

    def table(self, limit: int | None = None) -> pa.Table:
        """The rows that were removed, added or changed, as :meth:`fsvc.diff.Diff.rows` documents them."""
        listed = self._listed(limit)
        change, before, after, flags = listed
        kind = pa.DictionaryArray.from_arrays(pa.array(change, pa.int8()), pa.array(CHANGES)).cast(
            pa.string()
        )
        columns: dict[str, pa.Array] = {"change": kind}
        if self.rows.key:
            columns["key"] = self._key_struct(change, before, after)
            columns["columns"] = self._changed_names(flags, len(change))
        columns["before"] = self._side(self.before, before, change, flags, old=True)
        columns["after"] = self._side(self.after, after, change, flags, old=False)
        columns["row_before"], columns["row_after"] = (
            pa.array(numbers, pa.int64(), mask=numbers < 0) for numbers in (before, after)
        )
        return pa.table(columns)

    def _listed(self, limit: int | None) -> tuple[Counts, Counts, Counts, list[Flags]]:
        """What became of each row, its numbers on both sides (-1: none), and where changed ones differ.

        In the order of the new rows; removed ones stand where they stood.
        """
        rows, changes = self.rows, self.changes
        absent = [np.full(len(numbers), -1) for numbers in (rows.removed, rows.added)]
        change = np.repeat([0, 1, 2], [len(rows.removed), len(rows.added), len(changes.after)])
        before = np.concatenate([rows.removed, absent[1], changes.before])
        after = np.concatenate([absent[0], rows.added, changes.after])
        place = after.astype(np.float64)
        place[: len(rows.removed)] = _places(rows)
        order = np.lexsort((before, place))[:limit]
        others = len(rows.removed) + len(rows.added)
        flags = []
        for column in changes.cells:
            found = np.zeros(len(order), np.bool_)
            is_changed = order >= others
            found[is_changed] = column[order[is_changed] - others]
            flags.append(found)
        return change[order], before[order], after[order], flags

    def _key_struct(self, change: Counts, before: Counts, after: Counts) -> pa.StructArray:
        """The keys of listed rows: the old side's for removed ones, else the new side's."""
        schema = self.after.manifest.schema
        pairs = {pair.after: pair for pair in self.columns.pairs}
        arrays, fields = [], []
        for name in self.rows.key:
            number = schema.get_field_index(name)
            cells = self.after.cells(number, after)
            gone = change == 0
            if gone.any():
                old = self.before.cells(pairs[number].before, np.where(gone, before, -1))
                if old.type != cells.type:
                    old = old.cast(cells.type, safe=False)
                both = pa.concat_arrays([cells, old])
                cells = picked(both, np.where(gone, len(cells), 0) + np.arange(len(cells)))
            arrays.append(self.after.plain(cells, number))
            fields.append(pa.field(name, arrays[-1].type))
        return pa.StructArray.from_arrays(arrays, fields=fields)

    def _changed_names(self, flags: Sequence[Flags], rows: int) -> pa.ListArray:
        """The names of the columns in which each row differs."""
        schema = self.after.manifest.schema
        names = pa.array([schema.field(pair.after).name for pair in self.compared], pa.string())
        table = np.array(flags, np.bool_).reshape(len(flags), rows).T
        offsets = np.concatenate([[0], np.cumsum(table.sum(axis=1))]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(np.nonzero(table)[1])))

    def _side(
        self, reader: SnapshotReader, rows: Counts, change: Counts, flags: Sequence[Flags], *, old: bool
    ) -> pa.StructArray:
        """The cells of one side: all of a removed or added row, of a changed one those that differ."""
        schema = reader.manifest.schema
        keyed = set(self.rows.key)
        numbers = [i for i, name in enumerate(schema.names) if name not in keyed]
        differ = {
            (pair.before if old else pair.after): column
            for pair, column in zip(self.compared, flags, strict=True)
        }
        whole = change != 2

        def read(number: int) -> pa.Array:
            wanted = whole | differ[number] if number in differ else whole
            return reader.restored(reader.cells(number, np.where(wanted, rows, -1)), number)

        reader.categories(numbers)
        arrays = list(self._each(read, numbers))
        fields = [
            pa.field(schema.field(i).name, schema.field(i).type, True, schema.field(i).metadata)
            for i in numbers
        ]
        if not fields:
            return pa.array([{}] * len(rows), pa.struct([]))
        absent = rows < 0
        return pa.StructArray.from_arrays(
            arrays, fields=fields, mask=pa.array(absent) if absent.any() else None
        )


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (one is None and other is None)


def _gathered(found: Sequence[Sequence[tuple[Counts, Counts]]]) -> RowChanges:
    """Rows that differ in some column, each once, from those that differ in each."""
    nothing = np.zeros(0, np.int64)
    columns = [
        tuple(np.concatenate([nothing, *(place[side] for place in places)]) for side in (0, 1))
        for places in found
    ]
    if not columns:
        return RowChanges(nothing, nothing, ())
    after, first = np.unique(np.concatenate([theirs for _, theirs in columns]), return_index=True)
    before = np.concatenate([ours for ours, _ in columns])[first]
    cells = []
    for _, theirs in columns:
        flags = np.zeros(len(after), np.bool_)
        flags[np.searchsorted(after, theirs)] = True
        cells.append(flags)
    return RowChanges(before, after, tuple(cells))


def _places(rows: RowPairing) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Where removed rows are listed: behind the kept row that stood before them."""
    before, after, lengths = rows.runs
    if not len(before):
        return np.full(len(rows.removed), -0.5)
    order = np.argsort(before)
    at = np.searchsorted(before[order], rows.removed, "right") - 1
    run = order[np.maximum(at, 0)]
    return np.where(at < 0, -0.5, after[run] + lengths[run] - 0.5)


def _schema_change(before: SnapshotReader, after: SnapshotReader, columns: ColumnPairing) -> SchemaChange:
    one, other = before.manifest, after.manifest
    pairs = [(pair, one.schema.field(pair.before), other.schema.field(pair.after)) for pair in columns.pairs]
    places = [pair.before for pair in columns.pairs]
    metadata = [new.name for _, old, new in pairs if (old.metadata or {}) != (new.metadata or {})]
    if (one.schema.metadata or {}) != (other.schema.metadata or {}):
        metadata.insert(0, "")
    return SchemaChange(
        added=tuple(other.schema.field(i).name for i in columns.added),
        dropped=tuple(one.schema.field(i).name for i in columns.dropped),
        renamed=tuple((old.name, new.name) for _, old, new in pairs if old.name != new.name),
        retyped=tuple(
            (new.name, str(old.type), str(new.type)) for _, old, new in pairs if old.type != new.type
        ),
        replaced=tuple(new.name for pair, _, new in pairs if not pair.comparable),
        nullable=tuple(new.name for _, old, new in pairs if old.nullable != new.nullable),
        categories=tuple(
            new.name
            for pair, old, new in pairs
            if before.category_identities(pair.before) != after.category_identities(pair.after)
            and old.type == new.type
        ),
        metadata=tuple(metadata),
        key=(one.key, other.key) if one.key != other.key else None,
        reordered=places != sorted(places),
    )
