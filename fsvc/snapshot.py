"""Snapshots and commits as users hold them: read-only views, lazy until data is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fsvc.engine import reads
from fsvc.engine.clock import given_time
from fsvc.engine.progress import Progress, silent
from fsvc.engine.replacing import replacing
from fsvc.engine.store import Store
from fsvc.errors import FsvcWarning
from fsvc.format.commit import CommitRecord, SetVersion

if TYPE_CHECKING:
    import duckdb
    import pandas
    import polars
    import pyarrow as pa

    from fsvc.engine.reading import SnapshotReader
    from fsvc.engine.summary import ColumnSummary
    from fsvc.expectations import Expectation, Report
    from fsvc.features.recipes import Recipe
    from fsvc.format.manifest import Manifest
    from fsvc.format.reference import Reference

__all__ = ["Commit", "Snapshot"]


class Commit:
    """A commit: named snapshots, and who made it, when and why. Equal if the ids are.

    ``created`` is False on what :meth:`Repository.commit` returns when nothing had changed. ``ref`` is the
    branch or tag that it was found by, None where it was found by its id or by steps. ``reports`` tells, on what a
    method that makes a commit returns, what came of the expectations that were checked.
    """

    def __init__(
        self,
        store: Store,
        commit: str,
        record: CommitRecord,
        *,
        created: bool = True,
        ref: str | None = None,
        reports: Sequence[Report] = (),
    ) -> None:
        self._store = store
        self.id = commit
        self.record = record
        self.created = created
        self.ref = ref
        self.reports = tuple(reports)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_commit, (self._store, self.id, self.created, self.ref))

    def __repr__(self) -> str:
        return f"<Commit {self.id[:12]} {self.message.splitlines()[0] if self.message else ''!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Commit) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of the parents, the first parent first."""
        return self.record.parents

    @property
    def author(self) -> str:
        """Who made it."""
        return self.record.author

    @property
    def time(self) -> str:
        """When it was made: RFC 3339 in UTC."""
        return self.record.time

    @property
    def message(self) -> str:
        """Why it was made."""
        return self.record.message

    @property
    def metadata(self) -> Mapping[str, str]:
        """The free key-value pairs that were given."""
        return self.record.metadata

    @property
    def changes(self) -> Mapping[str, Mapping[str, Any]]:
        """What changed, for every feature set that differs from the first parent."""
        return self.record.changes

    @property
    def versions(self) -> dict[str, int]:
        """The version number of every feature set at this commit."""
        return {name: value.version for name, value in self.record.feature_sets.items()}

    def warn(self) -> None:
        """Warn, by a FsvcWarning each, of expectations that were not met and stop no commit."""
        import warnings

        for report in self.reports:
            for result in report.warnings:
                warnings.warn(f"{report.feature_set}: {result}", FsvcWarning, stacklevel=3)

    def snapshot(self, name: str) -> Snapshot:
        """A feature set's snapshot at this commit. Raises NotFound with the nearest name."""
        from fsvc.engine.history import unknown_feature_set

        value = self.record.feature_sets.get(name)
        if value is None:
            raise unknown_feature_set(self._store, name, self.id)
        return Snapshot(self._store, self, name, value)

    def snapshots(self) -> list[Snapshot]:
        """All snapshots of this commit, by name."""
        return [self.snapshot(name) for name in sorted(self.record.feature_sets)]


class Snapshot:
    """One version of one feature set. No data is read before it is asked for. It can be pickled: by its ids.

    What the ``to_`` methods give is proven: every chunk's digest is computed again and compared
    with the one the commit stands for. Files that are written, and what other readers take from
    :attr:`uri`, are checked: every object's checksum is verified before a byte is handed out.
    """

    def __init__(
        self,
        store: Store,
        commit: Commit,
        name: str,
        value: SetVersion,
        columns: tuple[str, ...] | None = None,
        *,
        reader: SnapshotReader | None = None,
    ) -> None:
        self._store = store
        self._value = value
        self.commit = commit
        self.name = name
        self.columns = columns
        self._reader = reader

    def __reduce__(self) -> tuple[Any, ...]:
        return (_snapshot, (self.commit, self.name, self.columns))

    def __repr__(self) -> str:
        return f"<Snapshot {self.name}@v{self.version} {self.id[:12]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and (other.id, other.name, other.commit, other.columns) == (
            self.id,
            self.name,
            self.commit,
            self.columns,
        )

    def __hash__(self) -> int:
        return hash((self.id, self.name, self.commit, self.columns))

    def select(self, columns: Sequence[str]) -> Snapshot:
        """The same snapshot, of which these columns are read unless others are asked for.

        It is the same version with the same id: a selection says what is used, and a model that is logged
        with it remembers that. Raises NotFound for a column that is not there.
        """
        chosen = tuple(columns)
        self.reader.column_numbers(chosen)
        return Snapshot(self._store, self.commit, self.name, self._value, chosen)

    @property
    def reference(self) -> Reference:
        """What names this snapshot for ever: for a model's metadata, a report, an audit."""
        from fsvc.format.reference import Reference

        return Reference(
            self._store.info.project,
            self.name,
            self.commit.id,
            self.id,
            self.version,
            self.commit.ref,
            self.num_rows,
            self.columns,
        )

    @property
    def recipe(self) -> Recipe:
        """The query that made this snapshot, to be run again or on other tables.

        Raises NotFound where it was committed as a table.
        """
        from fsvc.features.recipes import Recipe

        return Recipe.of(self)

    @property
    def expectations(self) -> list[Expectation]:
        """What its commit expects of the feature set, by name. Raises UnknownFormat for what a newer fsvc wrote."""
        from fsvc.expectations.held import expectations_at

        return expectations_at(self._store, self.commit.record.feature_sets, self.name)

    def check(
        self, expectations: Any = None, *, time: str | None = None, progress: Progress = silent
    ) -> Report:
        """What comes of expectations: those of its commit, or others, as :meth:`Repository.expect` takes them.

        Drift is measured from the version before. ``time``, when it is to be fresh, is that of its commit unless
        told. Raises InvalidUse for expectations that make no sense, whatever the table; one that does not fit the
        table fails.
        """
        from fsvc.expectations.checking import check
        from fsvc.format.expectation import listed

        wanted = self.expectations if expectations is None else listed(expectations)
        moment = self.commit.time if time is None else given_time(time)
        return check(self, wanted, before=self._before, time=moment, progress=progress)

    def _before(self) -> Snapshot | None:
        """The version before: what the first parent of the commit that set this one has."""
        from fsvc.engine.history import origin

        _, record = origin(self._store, self.commit.id, self.name)
        if not record.parents or self.name not in self._store.commit(record.parents[0]).feature_sets:
            return None
        parent = record.parents[0]
        return Commit(self._store, parent, self._store.commit(parent)).snapshot(self.name)

    @property
    def store(self) -> Store:
        """The engine's view of the repository that holds it."""
        return self._store

    def prove(self, *, progress: Progress = silent) -> None:
        """Decode every chunk (of the selected columns) and compare its digest. Raises Corruption."""
        for _ in self.to_batches(progress=progress):
            pass

    def _chosen(self, columns: Sequence[str] | None) -> Sequence[str] | None:
        """The columns that a call reads, None for all; whoever listens is told of it."""
        wanted = self.columns if columns is None else columns
        if wanted is not None:
            self.reader.column_numbers(wanted)  # what is refused was not read
        reads.reading(self._store, self.commit.record, self.name, wanted)
        return wanted

    @property
    def id(self) -> str:
        """The snapshot id: a pure function of the table and its key."""
        return self._value.snapshot

    @property
    def version(self) -> int:
        """The number of this version of the feature set."""
        return self._value.version

    @property
    def manifest(self) -> Manifest:
        """The content list that the snapshot id proves."""
        return self.reader.manifest

    @property
    def reader(self) -> SnapshotReader:
        """The engine's reader of this snapshot."""
        if self._reader is None:
            from fsvc.engine.reading import SnapshotReader

            self._reader = SnapshotReader(self._store.objects, self._store.manifest(self.id))
        return self._reader

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, in normal form; of the selected columns where there is a selection."""
        if self.columns is None:
            return self.manifest.schema
        return self.reader.schema(self.reader.column_numbers(self.columns))

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return self.manifest.num_rows

    @property
    def key(self) -> tuple[str, ...]:
        """The key columns; empty where the feature set has no key."""
        return self.manifest.key

    @property
    def uri(self) -> str:
        """The address of this very snapshot for any fsspec reader; it names a commit, so it never moves."""
        return f"fsvc://{self.name}@{self.commit.id}"

    @property
    def num_row_groups(self) -> int:
        """How many row groups the rows are cut into: what :meth:`to_batches` may give a share of."""
        return len(self.manifest.rows)

    def to_batches(
        self,
        columns: Sequence[str] | None = None,
        *,
        groups: Sequence[int] | None = None,
        progress: Progress = silent,
    ) -> Iterator[pa.RecordBatch]:
        """The rows as record batches, one per row group, in order; memory holds a few groups.

        ``groups`` are the numbers of the row groups to give, from 0, in any order: so processes share the rows of a
        snapshot among them. Raises InvalidUse for a group that is not there.
        """
        return self.reader.batches(self._chosen(columns), groups=groups, progress=progress)

    def to_arrow(self, columns: Sequence[str] | None = None, *, progress: Progress = silent) -> pa.Table:
        """The whole table, or some columns in the order given."""
        return self.reader.table(self._chosen(columns), progress=progress)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The Arrow stream protocol: anything that takes Arrow data takes a snapshot."""
        import pyarrow as pa

        reader = pa.RecordBatchReader.from_batches(self.schema, self.to_batches())
        return reader.__arrow_c_stream__(requested_schema)

    def to_pandas(self, columns: Sequence[str] | None = None, **options: Any) -> pandas.DataFrame:
        """A pandas DataFrame with the index and dtypes that were committed.

        ``columns`` names Arrow columns; ``options`` go to :meth:`pyarrow.Table.to_pandas`.
        """
        from fsvc.pandas_frame import to_pandas

        return to_pandas(self.to_arrow(columns), **options)

    def to_polars(self, columns: Sequence[str] | None = None) -> polars.DataFrame:
        """A polars DataFrame (polars has fewer types than Arrow: see docs/format.md)."""
        import polars

        frame = polars.from_arrow(self.to_arrow(columns))
        assert isinstance(frame, polars.DataFrame)
        return frame

    def relation(self) -> duckdb.DuckDBPyRelation:
        """A DuckDB relation over the snapshot (its selected columns), on a connection of its own."""
        from fsvc.query.connection import snapshot_relation

        self._chosen(None)
        relation = snapshot_relation(self._store, self.reader, self.id)
        if self.columns is None:
            return relation
        import duckdb

        return relation.select(*map(duckdb.ColumnExpression, self.columns))

    def column_summaries(self) -> list[ColumnSummary]:
        """What is known of every column without reading values: type, digest, size, statistics."""
        from fsvc.engine.summary import column_summaries

        return column_summaries(self.reader)

    def batches_where(
        self, condition: str, columns: Sequence[str] | None = None, *, progress: Progress = silent
    ) -> Iterator[pa.RecordBatch]:
        """The rows for which a condition in SQL holds, in order.

        DuckDB only finds the rows, by checked reads; their values are read as by :meth:`to_batches`
        and proven. The condition may name columns that are not asked for. Raises InvalidUse where it
        is no condition.
        """
        from fsvc.query.filtering import matching_rows, only_rows

        columns = self._chosen(columns)
        rows = matching_rows(self._store, self.reader, self.id, condition)
        return only_rows(self.reader.batches(columns, progress=progress), rows)

    def write_parquet(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str] | None = None,
        *,
        where: str | None = None,
        progress: Progress = silent,
    ) -> None:
        """Write a Parquet file by copying stored pages, without decoding them.

        The file appears whole or not at all; one that is there is replaced. The same snapshot gives
        the same bytes each time, until its objects are repacked. With ``where``, a condition in SQL,
        the rows for which it holds are decoded, proven and encoded again.
        """
        from fsvc.engine.virtual import compact_parts, layout

        if where is not None:
            from fsvc.engine.exporting import write_parquet

            write_parquet(path, *self._decoded(columns, progress, where))
            return
        placed = layout(self.reader, self._chosen(columns), gap=0)
        done = 0
        with replacing(path) as partial, partial.open("xb") as file:
            for part in compact_parts(self._store.objects, placed):
                done += file.write(part)
                progress("checkout", done, placed.size)

    def write_arrow(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str] | None = None,
        *,
        where: str | None = None,
        stream: bool = False,
        progress: Progress = silent,
    ) -> None:
        """Write an Arrow IPC file (Feather), or with ``stream`` the stream format. What is written is proven.

        ``where`` is a condition in SQL that rows have to fulfil.
        The file appears whole or not at all; one that is there is replaced.
        """
        from fsvc.engine.exporting import write_arrow

        schema, batches = self._decoded(columns, progress, where)
        write_arrow(path, schema, batches, stream=stream)

    def write_csv(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str] | None = None,
        *,
        where: str | None = None,
        delimiter: str = ",",
        compression: str | None = None,
        progress: Progress = silent,
    ) -> None:
        """Write a CSV file. What is written is proven, but CSV has no types to keep.

        ``where`` is a condition in SQL that rows have to fulfil.
        Raises UnsupportedData naming a column that has no form as text. The file appears whole or not
        at all; one that is there is replaced.
        """
        from fsvc.engine.exporting import write_csv

        schema, batches = self._decoded(columns, progress, where)
        write_csv(path, schema, batches, delimiter=delimiter, compression=compression)

    def _decoded(
        self, columns: Sequence[str] | None, progress: Progress, where: str | None
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        wanted = self.columns if columns is None else columns
        schema = self.reader.schema(self.reader.column_numbers(wanted))
        if where is not None:
            return schema, self.batches_where(where, columns, progress=progress)
        return schema, self.to_batches(columns, progress=progress)


def _commit(store: Store, commit: str, created: bool, ref: str | None) -> Commit:
    """A commit that was pickled."""
    return Commit(store, commit, store.commit(commit), created=created, ref=ref)


def _snapshot(commit: Commit, name: str, columns: tuple[str, ...] | None) -> Snapshot:
    """A snapshot that was pickled."""
    found = commit.snapshot(name)
    found.columns = columns
    return found
