"""Blame: which commits changed a row, or the rows of a range of keys, and which set each of their cells.

In each version only the groups that can hold the keys are looked into, by the statistics of their key chunks,
and a key chunk is read once however many versions have it. Cells are read where their chunk is another one
than in the version before.

Where a version was let go on purpose, whole or in part, the rows that are not in what is left of it are not followed
any further: what became of them before cannot be told.

Of a merge those rows count as changed that are as in none of its parents. A row is followed into the first
parent that has it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.engine import history
from fsvc.engine.pairing import ColumnPair, pair_columns
from fsvc.engine.patched import Patched
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.store import Store
from fsvc.engine.writing import default_threads
from fsvc.errors import GoneError, InvalidUse
from fsvc.format.cells import Flags, differing, match, picked
from fsvc.format.commit import CommitRecord
from fsvc.format.index import Entry, unpack_meta
from fsvc.format.manifest import Manifest
from fsvc.format.rowvalues import Counts
from fsvc.format.stored import stored_type, to_stored

__all__ = ["CellOrigin", "KeyRange", "RowVersion", "Rows", "WantedKeys", "cell", "row_history"]

_REACH = 8
"""How many commits are looked at first where a few changes are wanted."""

_Found = TypeVar("_Found")

Key: TypeAlias = "tuple[Any, ...] | KeyRange"
"""The values of the key columns, in their order; or a range of a key of one column."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """All keys from ``low`` to ``high``, both included; None where it has no end."""

    low: Any
    high: Any


@dataclass(frozen=True)
class RowVersion:
    """One change of one row.

    ``change`` is ``added``, ``changed`` or ``removed``, against the commit's first parent; ``version`` is that
    of the feature set in the commit, None where the commit has it not. ``before`` and ``after`` hold the cells
    by the names of their columns, without the key: of a changed row those that differ, else the whole row.
    A renamed column stands in both under its new name.
    """

    commit: str
    record: CommitRecord
    version: int | None
    key: dict[str, Any]
    change: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True)
class CellOrigin:
    """The commit that last set a cell of a row as it is now."""

    key: dict[str, Any]
    column: str
    value: Any
    commit: str
    record: CommitRecord
    version: int


def row_history(
    store: Store, name: str, head: str, key: Key, *, values: Callable[[pa.Array], list[Any]]
) -> Rows:
    """The rows of a feature set with a key, or in a range of keys, through the history of a commit.

    ``values`` makes Python objects of cells. Raises NotFound for an unknown feature set, InvalidUse for one
    without a key, or for values that its key columns cannot have.
    """
    value = store.commit(head).feature_sets.get(name)
    if value is None:
        raise history.unknown_feature_set(store, name, head)
    manifest = store.manifest(value.snapshot)
    if not manifest.key:
        raise InvalidUse(
            f"feature set {name!r} has no key: its rows cannot be followed",
            hint="commit it with --key COL, and they can from then on",
        )
    count = 1 if isinstance(key, KeyRange) else len(key)
    if count != len(manifest.key):
        raise InvalidUse(
            f"the key of {name!r} has {len(manifest.key)} column(s), not {count}",
            hint=f"give a value for each of {', '.join(manifest.key)}, with commas between",
        )
    return Rows(store, name, head, manifest, key, values)


class _Slice:
    """The wanted rows of one snapshot, in the order of the snapshot."""

    def __init__(
        self,
        reader: SnapshotReader,
        parts: Sequence[tuple[int, Counts]],
        memo: dict[Any, pa.Array],
        entries: dict[bytes, Entry],
    ) -> None:
        self.reader = reader
        self._parts = parts
        self._memo = memo
        self._entries = entries

    def addresses(self, column: int) -> list[bytes]:
        """The addresses of the chunks that a column's cells are in."""
        return [self.reader.manifest.identity(column, group).address for group, _ in self._parts]

    def token(self, column: int) -> tuple[Any, ...]:
        """What says which cells these are, without reading them."""
        chunks = self.reader.manifest.chunks
        kind = str(self.reader.manifest.stored_fields[column].type)
        return (kind, *((chunks[column, group].tobytes(), rows.tobytes()) for group, rows in self._parts))

    def cells(self, column: int) -> pa.Array:
        """The cells of a column in stored form, read once whatever versions share them."""
        token = self.token(column)
        found = self._memo.get(token)
        if found is None:
            parts = [
                picked(self.reader.chunk(column, group, self._entries.get(address)), rows)
                for (group, rows), address in zip(self._parts, self.addresses(column), strict=True)
            ]
            kind = self.reader.manifest.stored_fields[column].type
            found = self._memo[token] = pa.concat_arrays(parts) if parts else pa.array([], kind)
        return found


@dataclass
class _Against:
    """How the rows of a snapshot differ from those of another: flags by number of the row.

    ``columns`` pairs the columns of both, and flags the rows on both sides in which each pair differs.
    """

    same: Flags
    columns: list[tuple[int, int, Flags]] = field(default_factory=list)


class Rows:
    """Some rows of a feature set through history. Made by :func:`row_history`."""

    def __init__(
        self,
        store: Store,
        name: str,
        head: str,
        manifest: Manifest,
        key: Key,
        values: Callable[[pa.Array], list[Any]],
    ) -> None:
        self._made_of = store, name, head, manifest, key, values
        self._reach: int | None = None
        self._store = store
        self._name = name
        self._head = head
        self._key_names = manifest.key
        self._fields = [manifest.schema.field(column) for column in manifest.key]
        self._wanted = WantedKeys(self._fields, key)
        self._values = values
        # Versions are patches that stand on each other; each is put together once.
        self._patched = Patched(store.objects, remembered=2 * default_threads())
        self._memo: dict[Any, pa.Array] = {}
        self._found: dict[bytes, Counts] = {}
        self._entries: dict[bytes, Entry] = {}
        self._compared: dict[tuple[str | None, str | None], _Against] = {}
        self._gone: set[str] = set()
        """The snapshots of which a part was let go."""

    # -- walking ---------------------------------------------------------------------------------

    @cached_property
    def _commits(self) -> list[tuple[str, CommitRecord]]:
        """The commits of the history, children before parents: all, or as many as are looked at."""
        return list(islice(history.ancestors(self._store, [self._head]), self._reach))

    @cached_property
    def _lets_go(self) -> bool:
        """Whether anything in the repository has expired or was erased."""
        self._store.expired.refresh()
        self._store.objects.erased.refresh()
        return bool(self._store.expired.records or self._store.objects.erased.records)

    def _snapshot(self, record: CommitRecord) -> str | None:
        value = record.feature_sets.get(self._name)
        return None if value is None else value.snapshot

    @cached_property
    def _slices(self) -> dict[str, _Slice]:
        """The wanted rows of every snapshot that the feature set had in these commits and their parents."""
        names: dict[str | None, None] = {}
        for _, record in self._commits:
            names[self._snapshot(record)] = None
            names.update(dict.fromkeys(self._snapshot(self._store.commit(each)) for each in record.parents))
        slices = {name: self._slice(name) for name in names if name is not None}
        return {name: rows for name, rows in slices.items() if rows is not None}

    def _slice(self, snapshot: str) -> _Slice | None:
        """The wanted rows of a snapshot, of what is left of it; None where that is nothing."""
        try:
            reader = SnapshotReader(self._store.objects, self._store.manifest(snapshot), self._patched)
        except GoneError:
            self._gone.add(snapshot)
            return None
        schema = reader.manifest.schema
        columns = [schema.get_field_index(name) for name in self._key_names]
        if min(columns) < 0:
            return _Slice(reader, [], self._memo, self._entries)
        # What stands in a key chunk is the same in every version that has it.
        tokens = [
            b"".join(reader.manifest.chunks[column, group].tobytes() for column in columns)
            for group in range(len(reader.manifest.rows))
        ]
        left = reader.groups_left(range(len(schema))) if self._lets_go else range(len(tokens))
        if len(left) < len(tokens):
            self._gone.add(snapshot)
        unknown = [group for group in left if tokens[group] not in self._found]
        if unknown:
            kinds = [reader.manifest.stored_fields[column].type for column in columns]
            addresses = [
                reader.manifest.identity(column, group).address for group in unknown for column in columns
            ]
            found = self._store.objects.find(b"".join(addresses))
            for i, group in enumerate(unknown):
                chunks = [found[i * len(columns) + k] for k in range(len(columns))]
                there = [chunk for chunk in chunks if chunk is not None]
                self._found[tokens[group]] = (
                    self._wanted.rows([reader.chunk(column, group) for column in columns])
                    if len(there) < len(chunks) or self._wanted.may_be_in(there, kinds)
                    else np.zeros(0, np.int64)
                )
        parts = [(group, self._found[tokens[group]]) for group in left]
        return _Slice(
            reader, [(group, rows) for group, rows in parts if len(rows)], self._memo, self._entries
        )

    @cached_property
    def _universe(self) -> tuple[list[pa.Array], dict[str, Counts]]:
        """All keys that there ever were, and for each snapshot where in its slice they are; -1 for none."""
        keys: list[pa.Array] = [pa.array([], stored_type(field.type)) for field in self._fields]
        numbers: dict[str, Counts] = {}
        for snapshot, rows in self._slices.items():
            own = self._keys_of(rows)
            found = match(own, keys)
            fresh = np.flatnonzero(found < 0)
            found[fresh] = len(keys[0]) + np.arange(len(fresh))
            keys = [pa.concat_arrays([one, picked(more, fresh)]) for one, more in zip(keys, own, strict=True)]
            numbers[snapshot] = found
        places = {}
        for snapshot, found in numbers.items():
            place = np.full(len(keys[0]), -1)
            # Where a version without this key has it twice, the first row counts.
            place[found[::-1]] = np.arange(len(found))[::-1]
            places[snapshot] = place
        return keys, places

    def _keys_of(self, rows: _Slice) -> list[pa.Array]:
        schema = rows.reader.manifest.schema
        found = []
        for field_ in self._fields:
            number = schema.get_field_index(field_.name)
            kind = stored_type(field_.type)
            cells = rows.cells(number) if number >= 0 else pa.array([], kind)
            try:
                found.append(cells if cells.type == kind else cells.cast(kind))
            except pa.ArrowException:
                raise InvalidUse(
                    f"key column {field_.name!r} was {schema.field(number).type} once, with values that are none"
                    f" of {field_.type}: its rows cannot be followed"
                ) from None
        return found

    def _place(self, snapshot: str | None) -> Counts:
        keys, places = self._universe
        return np.full(len(keys[0]), -1) if snapshot not in places else places[snapshot]

    def _untold(self, snapshot: str | None) -> Flags:
        """The rows of which it cannot be told whether a snapshot had them: they are not in what is left of it."""
        place = self._place(snapshot)  # and with it what is gone
        untold: Flags = place < 0 if snapshot in self._gone else np.zeros(len(place), np.bool_)
        return untold

    @property
    def is_cut_short(self) -> bool:
        """Whether a version that was let go was met so far: more may have become of the rows than can be told."""
        return bool(self._gone)

    @cached_property
    def _pairs(self) -> dict[tuple[str, str], list[ColumnPair]]:
        """The columns to compare between each snapshot and those of its parents; what they hold is read ahead."""
        found: dict[tuple[str, str], list[ColumnPair]] = {}
        wanted: dict[tuple[Any, ...], tuple[_Slice, int]] = {}
        for _, record in self._commits:
            new = self._snapshot(record)
            for old in (self._snapshot(self._store.commit(parent)) for parent in record.parents):
                if new == old or (new, old) in found:
                    continue
                if new not in self._slices or old not in self._slices:
                    continue
                one, other = self._slices[new], self._slices[old]
                keys = [one.reader.manifest.schema.get_field_index(name) for name in self._key_names]
                found[new, old] = pair_columns(other.reader.manifest, one.reader.manifest).compared(keys)
                for pair in found[new, old]:
                    sides = ((one, pair.after), (other, pair.before))
                    tokens = [rows.token(column) for rows, column in sides]
                    if tokens[0] != tokens[1] or not pair.same_meaning:
                        wanted |= dict(zip(tokens, sides, strict=True))
        self._read_ahead(list(wanted.values()))
        return found

    def _read_ahead(self, wanted: Sequence[tuple[_Slice, int]]) -> None:
        """Read cells by threads, after one look for where all of them lie; a column's last ones, the oldest, first."""
        wanted = [(rows, column) for rows, column in wanted if rows.token(column) not in self._memo]
        if not wanted:
            return
        addresses = list({address for rows, column in wanted for address in rows.addresses(column)})
        found = self._store.objects.find(b"".join(addresses))
        for i, address in enumerate(addresses):
            if (entry := found[i]) is not None:
                self._entries[address] = entry
        columns: dict[str, list[tuple[_Slice, int]]] = {}
        for rows, column in reversed(wanted):
            name = rows.reader.manifest.schema.field(column).name
            columns.setdefault(name, []).append((rows, column))

        def read(cells: list[tuple[_Slice, int]]) -> None:
            for rows, column in cells:
                rows.cells(column)

        with ThreadPoolExecutor(default_threads(), thread_name_prefix="fsvc-blame") as pool:
            for done in [pool.submit(read, cells) for cells in columns.values()]:
                done.result()

    def _against(self, new: str | None, old: str | None) -> _Against:
        """How the rows of one snapshot differ from those of another; None is a commit without any."""
        known = self._compared.get((new, old))
        if known is not None:
            return known
        ours, theirs = self._place(new), self._place(old)
        both = np.flatnonzero((ours >= 0) & (theirs >= 0))
        same: Flags = (ours >= 0) == (theirs >= 0)
        result = _Against(same)
        if new in self._slices and old in self._slices and len(both):
            one, other = self._slices[new], self._slices[old]
            in_place = bool((ours[both] == theirs[both]).all())
            for pair in self._pairs[new, old]:
                flags = np.zeros(len(same), np.bool_)
                alike = pair.same_meaning and in_place and one.token(pair.after) == other.token(pair.before)
                if not alike:
                    flags[both] = differing(
                        picked(other.cells(pair.before), theirs[both]),
                        picked(one.cells(pair.after), ours[both]),
                    )
                    same &= ~flags
                result.columns.append((pair.before, pair.after, flags))
        self._compared[new, old] = result
        return result

    # -- what changed ----------------------------------------------------------------------------

    def versions(self, limit: int | None = None) -> list[RowVersion]:
        """Every change of the rows, newest first, or the first of them; of one commit by key.

        For a few of them, as much of history is looked at as it takes to find them.
        """
        return self._first(
            limit, lambda rows: [told for change in rows._changes() for told in rows._told(*change)]
        )

    def commits(self, limit: int | None = None) -> list[tuple[str, CommitRecord]]:
        """The commits that changed any of the rows, newest first, or the first of them; see :meth:`versions`."""
        return self._first(limit, lambda rows: [(commit, record) for commit, record, *_ in rows._changes()])

    def _first(self, limit: int | None, of: Callable[[Rows], list[_Found]]) -> list[_Found]:
        """What is found in all of history, or the first of it, found in as little of history as it takes."""
        if limit is None:
            return of(self)
        reach = max(_REACH, limit)
        while True:
            part = Rows(*self._made_of)
            part._reach = reach
            part._memo, part._found, part._entries = self._memo, self._found, self._entries
            part._patched, part._gone = self._patched, self._gone
            found = of(part)
            if len(found) >= limit or len(part._commits) < reach:
                return found[:limit]
            reach *= 4

    def _changes(self) -> Iterator[tuple[str, CommitRecord, str | None, str | None, Flags]]:
        """The commits that changed rows, newest first: the snapshots there and in the first parent, and which rows."""
        total = len(self._universe[0][0])
        live = {
            self._head: np.ones(total, np.bool_)
            & ~self._untold(self._snapshot(self._store.commit(self._head)))
        }
        for commit, record in self._commits:
            rows = live.pop(commit, None)
            if rows is None or not rows.any():
                continue
            new = self._snapshot(record)
            left = rows.copy()
            olds = [self._snapshot(self._store.commit(parent)) for parent in record.parents]
            for old in olds:
                left &= ~self._untold(old)
            for parent, old in zip(record.parents, olds, strict=True):
                same = left & self._against(new, old).same if new != old else left.copy()
                _pass_on(live, parent, same)
                left &= ~same
            first = olds[0] if olds else None
            if not olds:
                left &= self._place(new) >= 0
            if left.any():
                yield commit, record, new, first, left
                for parent in record.parents:
                    _pass_on(live, parent, left)

    def _told(
        self, commit: str, record: CommitRecord, new: str | None, old: str | None, rows: Flags
    ) -> Iterator[RowVersion]:
        """What a commit did to rows, against its first parent."""
        ours, theirs = self._place(new), self._place(old)
        value = record.feature_sets.get(self._name)
        against = self._against(new, old)
        keys = self._key_values(np.flatnonzero(rows))
        for number, key in zip(np.flatnonzero(rows).tolist(), keys, strict=True):
            here, there = int(ours[number]), int(theirs[number])
            if here >= 0 and there >= 0:
                differ = [(a, b) for a, b, flags in against.columns if flags[number]]
                before = self._cells(old, there, [a for a, _ in differ])
                after = self._cells(new, here, [b for _, b in differ])
                before = dict(zip(after, before.values(), strict=True))
                change = "changed"
            else:
                change = "added" if here >= 0 else "removed"
                before = self._cells(old, there, None)
                after = self._cells(new, here, None)
            yield RowVersion(
                commit,
                record,
                None if value is None else value.version,
                key,
                change,
                None if there < 0 else before,
                None if here < 0 else after,
            )

    def _cells(self, snapshot: str | None, row: int, columns: Sequence[int] | None) -> dict[str, Any]:
        """Cells of a row by name; of all columns but the key unless told."""
        if snapshot is None or row < 0:
            return {}
        rows = self._slices[snapshot]
        schema = rows.reader.manifest.schema
        if columns is None:
            columns = [i for i, name in enumerate(schema.names) if name not in self._key_names]
            self._read_ahead([(rows, i) for i in columns])
        place = np.array([row])
        return {
            schema.field(i).name: self._values(rows.reader.plain(picked(rows.cells(i), place), i))[0]
            for i in columns
        }

    def _key_values(self, rows: Counts) -> list[dict[str, Any]]:
        """The keys of rows by the names of their columns."""
        reader = SnapshotReader(
            self._store.objects,
            self._store.manifest(self._store.commit(self._head).feature_sets[self._name].snapshot),
        )
        columns = []
        for keys, name in zip(self._universe[0], self._key_names, strict=True):
            number = reader.manifest.schema.get_field_index(name)
            columns.append(self._values(reader.plain(picked(keys, rows), number)))
        return [dict(zip(self._key_names, key, strict=True)) for key in zip(*columns, strict=True)]

    # -- who set what ----------------------------------------------------------------------------

    def origins(self) -> list[CellOrigin]:
        """For every cell of the rows as they are now, the commit that last set it; row by row."""
        newest = self._snapshot(self._store.commit(self._head))
        assert newest is not None
        schema = self._slices[newest].reader.manifest.schema
        columns = [i for i, name in enumerate(schema.names) if name not in self._key_names]
        place = self._place(newest)
        live = {self._head: np.repeat((place >= 0)[:, None], len(columns), axis=1)}
        names = {self._head: dict(enumerate(columns))}
        found: dict[tuple[int, int], tuple[str, CommitRecord]] = {}
        for commit, record in self._commits:
            cells = live.pop(commit, None)
            if cells is None or not cells.any():
                continue
            new, here = self._snapshot(record), names[commit]
            for parent in record.parents:
                old = self._snapshot(self._store.commit(parent))
                cells = cells & ~self._untold(old)[:, None]
                same, there = self._same_cells(new, old, here, cells)
                _pass_on(live, parent, same)
                names.setdefault(parent, there)
                cells = cells & ~same
            for row, column in zip(*np.nonzero(cells), strict=True):
                found[int(row), int(column)] = commit, record
        result = []
        rows = np.flatnonzero(place >= 0)
        for row, key in zip(rows.tolist(), self._key_values(rows), strict=True):
            values = self._cells(newest, int(place[row]), columns)
            for column, (name, value) in enumerate(values.items()):
                if (row, column) not in found:
                    continue  # set in a version that is gone, or earlier
                commit, record = found[row, column]
                version = record.feature_sets[self._name].version
                result.append(CellOrigin(key, name, value, commit, record, version))
        return result

    def _same_cells(
        self, new: str | None, old: str | None, here: dict[int, int], cells: np.ndarray[Any, Any]
    ) -> tuple[np.ndarray[Any, Any], dict[int, int]]:
        """Which of some cells a parent has as they are, and where its columns are."""
        if new == old:
            return cells.copy(), here
        same = np.zeros_like(cells)
        there: dict[int, int] = {}
        if new is None or old is None:
            return same, there
        both = (self._place(new) >= 0) & (self._place(old) >= 0)
        by_column = {after: (before, flags) for before, after, flags in self._against(new, old).columns}
        for column, number in here.items():
            if number in by_column:
                before, flags = by_column[number]
                there[column] = before
                same[:, column] = cells[:, column] & both & ~flags
        return same, there


def _pass_on(live: dict[str, np.ndarray[Any, Any]], commit: str, flags: np.ndarray[Any, Any]) -> None:
    """Have a commit's rows or cells looked at, beside those that its other children pass on."""
    if flags.any():
        live[commit] = live[commit] | flags if commit in live else flags.copy()


# Which rows are wanted -----------------------------------------------------------------------------


class WantedKeys:
    """A key or range of keys, as cells of the key columns."""

    def __init__(self, fields: Sequence[pa.Field], key: Key) -> None:
        self._range = isinstance(key, KeyRange)
        ends = [(key.low, key.high)] if isinstance(key, KeyRange) else [(value, value) for value in key]
        self._low = [None if low is None else cell(low, f) for (low, _), f in zip(ends, fields, strict=True)]
        self._high = [
            None if high is None else cell(high, f) for (_, high), f in zip(ends, fields, strict=True)
        ]
        if self._range and self._is_empty(self._low[0], self._high[0]):
            raise InvalidUse(
                f"no key can be from {ends[0][0]!r} to {ends[0][1]!r}",
                hint="the least key comes first; a single key that holds two dots is named by a condition",
            )

    @staticmethod
    def _is_empty(low: pa.Array | None, high: pa.Array | None) -> bool:
        """Whether a range ends before it begins, as far as Arrow can tell."""
        if low is None or high is None:
            return False
        with suppress(pa.ArrowException):
            return pc.greater(low, high)[0].as_py() is True
        return False

    def rows(self, columns: Sequence[pa.Array]) -> Counts:
        """The places of the wanted keys in a group's key columns."""
        if not self._range:
            wanted = [self._as(cell, column.type) for cell, column in zip(self._low, columns, strict=True)]
            if any(cell is None for cell in wanted):
                return np.zeros(0, np.int64)
            found = match(wanted, columns)
            return found[found >= 0]
        column = columns[0]
        keep = np.ones(len(column), np.bool_)
        for end, holds in ((self._low[0], pc.greater_equal), (self._high[0], pc.less_equal)):
            if end is not None:
                cell = self._as(end, column.type)
                if cell is None:
                    return np.zeros(0, np.int64)
                keep &= pc.fill_null(holds(column, cell[0]), False).to_numpy(zero_copy_only=False)
        return np.flatnonzero(keep)

    @staticmethod
    def _as(cell: pa.Array | None, kind: pa.DataType) -> pa.Array | None:
        """A cell in the type that a version has; None where it is no value of that type."""
        assert cell is not None
        try:
            return cell if cell.type == kind else cell.cast(kind)
        except pa.ArrowException:
            return None

    def may_be_in(self, chunks: Sequence[Entry], kinds: Sequence[pa.DataType]) -> bool:
        """Whether the statistics of a group's key chunks do not rule the wanted keys out."""
        for low, high, chunk, kind in zip(self._low, self._high, chunks, kinds, strict=True):
            bounds = _bounds(chunk, kind)
            if bounds is None:
                continue
            least, most = (self._end(cell, kind) for cell in (low, high))
            if (most is not None and most < bounds[0]) or (least is not None and least > bounds[1]):
                return False
        return True

    def _end(self, cell: pa.Array | None, kind: pa.DataType) -> Any:
        """An end of the range as what statistics are compared with; None where it cannot be."""
        there = None if cell is None else self._as(cell, kind)
        return None if there is None else _comparable_value(there)


_MAX, _MIN = 5, 6  # fields of Parquet's Statistics


def _bounds(entry: Entry, kind: pa.DataType) -> tuple[Any, Any] | None:
    """The least and the greatest value of a chunk by its statistics, where they are plain to compare."""
    statistics = unpack_meta(entry.meta)[0].statistics()
    if _MIN not in statistics or _MAX not in statistics:
        return None
    low, high = statistics[_MIN][1], statistics[_MAX][1]
    if _is_whole(kind):
        signed = not pa.types.is_unsigned_integer(kind)
        return tuple(int.from_bytes(end, "little", signed=signed) for end in (low, high))  # type: ignore[return-value]
    return (low, high) if _is_text(kind) else None


def _comparable_value(cell: pa.Array) -> Any:
    """The one value of an array as what :func:`_bounds` gives: an integer or bytes; None for other types."""
    kind = cell.type
    if _is_whole(kind):
        if pa.types.is_temporal(kind):
            cell = cell.view(pa.int32() if kind.bit_width == 32 else pa.int64())
        return cell[0].as_py()
    if _is_text(kind):
        return cell.cast(pa.large_binary())[0].as_py()
    return None


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_temporal(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def cell(value: Any, field_: pa.Field) -> pa.Array:
    """A value of a key column, given as Python or as text, in stored form."""
    kind = field_.type
    while isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    try:
        if isinstance(value, str) and not _holds_text(kind):
            if (
                pa.types.is_binary(kind)
                or pa.types.is_large_binary(kind)
                or pa.types.is_fixed_size_binary(kind)
            ):
                array = pa.array([bytes.fromhex(value.replace("-", ""))], kind)
            else:
                array = pa.array([value.strip()]).cast(kind)
        else:
            given = getattr(value, "bytes", value) if pa.types.is_fixed_size_binary(kind) else value
            array = pa.array([given], kind)
        if array.null_count:
            raise ValueError("null")
        return to_stored(array, field_.name)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        raise InvalidUse(
            f"{value!r} is no value of key column {field_.name!r}, which is {field_.type}"
        ) from None


def _holds_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
