"""Differences as users hold them: between two snapshots, or between two commits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict, Unpack

from fsvc.engine.progress import Progress, silent
from fsvc.snapshot import Commit, Snapshot

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from fsvc.engine.diff import SchemaChange, TableChange, TableDiff
    from fsvc.engine.reading import SnapshotReader

__all__ = ["CommitDiff", "Diff", "Options"]


class Options(TypedDict, total=False):
    """How two sides are compared.

    ``key`` names the columns by which rows are matched, where it is not the key of both snapshots; an empty
    one matches them by content. ``threads`` is how many to work with; ``progress`` is told how far it is.
    """

    key: str | Sequence[str] | None
    threads: int | None
    progress: Progress


class Diff:
    """What differs between two snapshots. True if anything does. Nothing is read before it is asked for.

    Rows are matched by ``key``, which unless told is the one that both snapshots have; without one by
    content. Cells are compared bit by bit: a NaN equals a NaN of the same bits, -0.0 is not 0.0, null equals
    null only. What is read is proven.

    Of a snapshot with a selection (:meth:`fsvc.Snapshot.select`) the selected columns and the key are compared;
    where only one side has one, it holds for both.
    """

    def __init__(self, before: Snapshot, after: Snapshot, **options: Unpack[Options]) -> None:
        self.before = before
        self.after = after
        self._options = options

    def __repr__(self) -> str:
        return f"<Diff {self.before!r} {self.after!r}>"

    def __bool__(self) -> bool:
        if self.before.columns is None and self.after.columns is None:
            return self.before.id != self.after.id
        return not self.table.identical and bool(self.stat())

    @cached_property
    def table(self) -> TableDiff:
        """The engine's view of it."""
        from fsvc.engine.diff import TableDiff

        key = self._options.get("key")
        return TableDiff(
            _chosen(self.before, self.after.columns),
            _chosen(self.after, self.before.columns),
            key=(key,) if isinstance(key, str) else key,
            threads=self._options.get("threads"),
            progress=self._options.get("progress", silent),
        )

    @property
    def schema(self) -> SchemaChange:
        """How the schema changed. Reads no data."""
        return self.table.schema

    def stat(self) -> TableChange:
        """What changed, in numbers. Reads the chunks that differ.

        Raises NotFound, KeyViolation and InvalidUse where a key was asked for that is none on both sides.
        """
        return self.table.stat()

    def rows(self, limit: int | None = None) -> pa.Table:
        """The rows that were removed, added or changed, or the first of them, in the order of the new rows.

        ============== ====================== ==========================================================
        column         type                   holds
        ============== ====================== ==========================================================
        ``change``     string                 ``removed``, ``added`` or ``changed``
        ``key``        struct                 the key columns; absent where rows were matched by content
        ``columns``    list of string         of a changed row, the columns in which it differs; absent
                                              like ``key``
        ``before``     struct                 the old row without its key, null for an added one; of a
                                              changed row only the columns that differ, the others null
        ``after``      struct                 the same of the new row
        ``row_before`` int64                  the number of the row, from 0, in the old snapshot, or null
        ``row_after``  int64                  in the new one
        ============== ====================== ==========================================================

        Types are those of the two schemas. Columns that were added, dropped or replaced make no row a
        changed one; nor does another place among the rows.
        """
        return self.table.table(limit)

    def relation(self, limit: int | None = None) -> duckdb.DuckDBPyRelation:
        """:meth:`rows` as a DuckDB relation, on a connection of its own, to query further."""
        from fsvc.query.connection import table_relation

        return table_relation(self.rows(limit))


class CommitDiff(Mapping[str, Diff]):
    """What differs between two commits: a :class:`Diff` for each feature set that both have and that changed.

    ``added`` and ``removed`` name the feature sets that only one of them has.
    """

    def __init__(self, before: Commit, after: Commit, **options: Unpack[Options]) -> None:
        self.before = before
        self.after = after
        old, new = before.record.feature_sets, after.record.feature_sets
        self.added = sorted(new.keys() - old.keys())
        self.removed = sorted(old.keys() - new.keys())
        self._diffs = {
            name: Diff(before.snapshot(name), after.snapshot(name), **options)
            for name in sorted(old.keys() & new.keys())
            if old[name].snapshot != new[name].snapshot
        }

    def __repr__(self) -> str:
        return f"<CommitDiff {self.before!r} {self.after!r}>"

    def __getitem__(self, name: str) -> Diff:
        return self._diffs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._diffs)

    def __len__(self) -> int:
        return len(self._diffs)

    def __bool__(self) -> bool:
        return bool(self._diffs or self.added or self.removed)

    def stat(self) -> dict[str, TableChange]:
        """What changed in each feature set, in numbers, by name."""
        return {name: diff.stat() for name, diff in self._diffs.items()}


def _chosen(snapshot: Snapshot, others: tuple[str, ...] | None) -> SnapshotReader:
    """A reader of the columns that are compared: the selected ones; without a selection, the other side's."""
    if snapshot.columns is None and others is None:
        return snapshot.reader
    from fsvc.engine.reading import SnapshotReader

    wanted = snapshot.columns if snapshot.columns is not None else others or ()
    return SnapshotReader(snapshot.reader.objects, snapshot.manifest.select(wanted))
