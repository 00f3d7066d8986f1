"""Snapshots to Arrow: stored chunks are read, checked, decoded and proven, group by group.

What comes out equals what was committed, bit for bit, or an error is raised: every chunk's digest
is computed again from the decoded values and compared with the manifest's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa

from fsvc.engine.objects import Objects
from fsvc.engine.patched import Patched, is_patch
from fsvc.engine.progress import Progress, silent
from fsvc.engine.writing import default_threads
from fsvc.errors import Corruption, FsvcError, GoneError, InvalidUse, NotFound
from fsvc.format import names, pages
from fsvc.format.canonical import ADDRESS_BYTES, Identity, digest
from fsvc.format.categories import child_path, dictionary_types
from fsvc.format.cells import picked
from fsvc.format.footer import FileSchema
from fsvc.format.index import Entry, unpack_meta
from fsvc.format.manifest import Manifest
from fsvc.format.pages import ChunkPages
from fsvc.format.rowvalues import Counts, is_binary_like
from fsvc.format.stored import Categories, from_stored, stored_type

__all__ = ["SnapshotReader", "decode_groups", "empty_columns"]

_T = TypeVar("_T")
_There = TypeVar("_There")

_RUN_GROUPS = 4
"""How many groups are decoded at once at the most."""
_RUN_BYTES = 64 << 20
"""And how many bytes of pages, before compression, unless a single group has more."""


def empty_columns(rows: int) -> pa.RecordBatch:
    """A batch of so many rows without a column."""
    return pa.RecordBatch.from_arrays([pa.nulls(rows)], ["rows"]).select([])


class SnapshotReader:
    """Reads the columns of a snapshot. Nothing is read before it is asked for. Safe for threads."""

    def __init__(self, objects: Objects, manifest: Manifest, patched: Patched | None = None) -> None:
        self.manifest = manifest
        self._objects = objects
        self.patched = patched or Patched(objects)
        self._categories: dict[str, pa.Array] = {}

    @property
    def objects(self) -> Objects:
        """Where the chunks lie."""
        return self._objects

    def lost(self, address: bytes, where: str) -> FsvcError:
        """The error for an object that is nowhere: GoneError where that is on purpose, else Corruption."""
        return self._objects.lost(address, where, self.manifest.id)

    def groups_left(self, columns: Sequence[int]) -> list[int]:
        """The groups of which no chunk of some columns was let go on purpose. Raises Corruption where one is lost."""
        groups = len(self.manifest.rows)
        addresses = self.manifest.addresses(columns)
        gone = set()
        for place in self._objects.find(addresses).missing:
            column, group = divmod(place, groups)
            address = addresses[ADDRESS_BYTES * place : ADDRESS_BYTES * (place + 1)]
            error = self.lost(address, self.place(columns[column], group))
            if isinstance(error, Corruption):
                raise error
            gone.add(group)
        return [group for group in range(groups) if group not in gone]

    def column_numbers(self, columns: Sequence[str] | Sequence[int] | None) -> list[int]:
        """The positions of columns by name, in the order asked for; positions stay as they are.

        Raises NotFound with the nearest name.
        """
        schema = self.manifest.schema
        if columns is None:
            return list(range(len(schema)))
        numbers = []
        for column in columns:
            number = column if isinstance(column, int) else schema.get_field_index(column)
            if isinstance(column, str) and number < 0:
                near = names.nearest(column, schema.names)
                raise NotFound(
                    f"there is no column {column!r}",
                    hint=f"did you mean {near[0]!r}?" if near else f"columns: {', '.join(schema.names[:20])}",
                )
            if number in numbers:
                raise InvalidUse(f"column {schema.field(number).name!r} is asked for twice")
            numbers.append(number)
        return numbers

    def schema(self, numbers: Sequence[int]) -> pa.Schema:
        """The schema of some columns; the table's metadata stays."""
        schema = self.manifest.schema
        return pa.schema([schema.field(i) for i in numbers], metadata=schema.metadata)

    def entries(self, numbers: Sequence[int]) -> list[list[Entry]]:
        """The stored objects of columns: one list per column, one object per group.

        Raises Corruption naming the column and rows of an object that is nowhere, GoneError where that is on
        purpose.
        """
        groups = len(self.manifest.rows)
        found = self._objects.find(self.manifest.addresses(numbers))
        result = []
        for i, column in enumerate(numbers):
            row = []
            for group in range(groups):
                entry = found[i * groups + group]
                identity = self.manifest.identity(column, group)
                if entry is None:
                    raise self.lost(identity.address, self.place(column, group))
                if entry.digest != identity.digest:
                    raise Corruption(
                        f"object {identity.address.hex()} is not what the snapshot names: {self.place(column, group)}"
                    )
                row.append(entry)
            result.append(row)
        return result

    def place(self, column: int, group: int) -> str:
        """Where a chunk stands in the table, for messages."""
        first = sum(self.manifest.rows[:group])
        last = first + self.manifest.rows[group] - 1
        return f"column {self.manifest.schema.field(column).name!r}, rows {first:,} to {last:,}"

    def categories(self, numbers: Sequence[int]) -> dict[str, pa.Array]:
        """The categories of some columns' dictionary types, by path; proven."""
        manifest = self.manifest
        wanted = dictionary_types(pa.schema([manifest.schema.field(i) for i in numbers]))
        for (path, kind), identity in zip(manifest.category_types.items(), manifest.categories, strict=True):
            if path in wanted and path not in self._categories:
                kept = pa.field("categories", stored_type(kind.value_type), False)
                stored = self._read_alone(identity, kept, f"the categories of column {path!r}")
                self._categories[path] = from_stored(stored, kind.value_type, {}, path)
        return {path: self._categories[path] for path in wanted}

    def _read_alone(
        self,
        identity: Identity,
        field: pa.Field,
        what: str,
        rows: int | None = None,
        entry: Entry | None = None,
    ) -> pa.Array:
        def look() -> Entry:
            found = self._objects.find(identity.address)[0]
            if found is None:
                raise self.lost(identity.address, what)
            return found

        return self._steadily(
            look, entry or look(), lambda there: self._decoded_alone(identity, field, what, rows, there)
        )

    def _decoded_alone(
        self, identity: Identity, field: pa.Field, what: str, rows: int | None, entry: Entry
    ) -> pa.Array:
        if rows is None:
            rows = sum(leaf.num_values for leaf in unpack_meta(entry.meta)[:1])
        named = pa.field("c0", field.type, field.nullable)
        if is_patch(entry):
            array = self.patched.array(entry, named, rows)
        else:
            footer = pages.parquet_schema(pa.schema([named]))
            array = decode_groups(footer, [(rows, [self._objects.read(entry)])], [named], what)[0][0]
        _prove(array, field, identity, what, rows)
        return array

    def category_identities(self, column: int) -> list[Identity]:
        """The identities of the categories of a column's dictionary types, in the order of their paths."""
        manifest = self.manifest
        own = dictionary_types(pa.schema([manifest.schema.field(column)]))
        return [
            identity
            for path, identity in zip(manifest.category_types, manifest.categories, strict=True)
            if path in own
        ]

    @cached_property
    def starts(self) -> Counts:
        """The number of the first row of each group, and of all rows at the end."""
        return np.concatenate([[0], np.cumsum(np.array(self.manifest.rows, np.int64))]).astype(np.int64)

    def chunk(self, column: int, group: int, entry: Entry | None = None) -> pa.Array:
        """One column of one group in stored form, proven; ``entry`` is its object where that is known."""
        return self._read_alone(
            self.manifest.identity(column, group),
            self.manifest.stored_fields[column],
            self.place(column, group),
            self.manifest.rows[group],
            entry,
        )

    def group(self, columns: Sequence[int], group: int) -> list[pa.Array]:
        """Some columns of one group in stored form, decoded at once, proven."""
        if not columns:
            return []
        manifest = self.manifest
        identities = [manifest.identity(column, group) for column in columns]

        def entries() -> list[dict[int, Entry]]:
            found = self._objects.find(b"".join(identity.address for identity in identities))
            placed = []
            for i, column in enumerate(columns):
                entry = found[i]
                if entry is None:
                    raise self.lost(identities[i].address, self.place(column, group))
                placed.append({group: entry})
            return placed

        fields = [manifest.stored_fields[column] for column in columns]
        named = [pa.field(f"c{i}", field.type, field.nullable) for i, field in enumerate(fields)]
        footer = pages.parquet_schema(pa.schema(named))
        arrays = self._steadily(
            entries, entries(), lambda there: self._stored(footer, [group], there, named, columns)[0]
        )
        for array, field, identity, column in zip(arrays, fields, identities, columns, strict=True):
            _prove(array, field, identity, self.place(column, group), manifest.rows[group])
        return arrays

    def _steadily(self, look: Callable[[], _There], there: _There, read: Callable[[_There], _T]) -> _T:
        """Read objects where they are known to lie; if they are not there any more, where they lie by now."""
        try:
            return read(there)
        except (Corruption, GoneError):
            self._objects.refresh()
            fresh = look()
            if fresh == there:
                raise
        return read(fresh)

    def chunks(self, column: int, groups: Sequence[int]) -> pa.Array:
        """One column of some groups, one after the other, in stored form, proven."""
        parts = [self.chunk(column, group) for group in groups]
        return pa.concat_arrays(parts) if parts else pa.array([], self.manifest.stored_fields[column].type)

    def cells(self, column: int, rows: Counts) -> pa.Array:
        """The cells of a column in some rows, in their order, in stored form, proven; null for a row of -1.

        Only the groups that hold these rows are read.
        """
        there = np.flatnonzero(rows >= 0)
        if not len(there):
            return pa.nulls(len(rows), self.manifest.stored_fields[column].type)
        wanted = rows if len(there) == len(rows) else rows[there]
        order = None if (np.diff(wanted) >= 0).all() else np.argsort(wanted, kind="stable")
        ordered = wanted if order is None else wanted[order]
        edges = np.searchsorted(ordered, self.starts)
        found = pa.concat_arrays(
            [
                picked(
                    self.chunk(column, int(group)),
                    ordered[edges[group] : edges[group + 1]] - self.starts[group],
                )
                for group in np.flatnonzero(np.diff(edges))
            ]
        )
        if order is None and len(there) == len(rows):
            return found
        places = np.full(len(rows), -1)
        places[there if order is None else there[order]] = np.arange(len(there))
        return picked(found, places)

    def restored(self, array: pa.Array, column: int) -> pa.Array:
        """Cells of a column that are in stored form, in the type of the schema."""
        return self._restored(array, column, self.categories([column]))

    def plain(self, array: pa.Array, column: int) -> pa.Array:
        """The same, but with the values of a dictionary instead of its indices."""
        kind = self.manifest.schema.field(column).type
        if pa.types.is_dictionary(kind):
            return from_stored(array, kind.value_type, {}, "")
        return self.restored(array, column)

    def batches(
        self,
        columns: Sequence[str] | None = None,
        *,
        groups: Sequence[int] | None = None,
        threads: int | None = None,
        progress: Progress = silent,
        name: str = "rows",
    ) -> Iterator[pa.RecordBatch]:
        """The rows of the snapshot, or of some groups of it, a batch per group, proven; a few are read ahead.

        A snapshot without rows gives one batch without rows: its categories are data too. Raises InvalidUse for a
        group that is not there.
        """
        numbers = self.column_numbers(columns)
        schema = self.schema(numbers)
        wanted = range(len(self.manifest.rows)) if groups is None else self._there(groups)
        if not numbers:
            for group in wanted:
                yield empty_columns(self.manifest.rows[group]).replace_schema_metadata(schema.metadata)
            return
        fields = [self.manifest.stored_fields[i] for i in numbers]
        named = [pa.field(f"c{i}", field.type, field.nullable) for i, field in enumerate(fields)]
        footer = pages.parquet_schema(pa.schema(named))
        entries = self.entries(numbers)
        categories = self.categories(numbers)
        # Categories are looked up for each value that comes up, rather than for each row.
        coded = [i for i, field in enumerate(schema) if pa.types.is_dictionary(field.type)]
        coded = [i for i in coded if is_binary_like(fields[i].type)]
        if not self.manifest.rows and groups is None:
            empty = [
                self._restored(pa.array([], self.manifest.stored_fields[i].type), i, categories)
                for i in numbers
            ]
            yield pa.RecordBatch.from_arrays(empty, schema=schema)

        def read(groups: Sequence[int]) -> list[pa.RecordBatch]:
            batches = []
            stored = self._steadily(
                lambda: self.entries(numbers),
                entries,
                lambda there: self._stored(footer, groups, there, named, numbers, coded),
            )
            for group, columns in zip(groups, stored, strict=True):
                arrays = []
                for array, field, number in zip(columns, fields, numbers, strict=True):
                    plain = _decoded(array)
                    identity, rows = self.manifest.identity(number, group), self.manifest.rows[group]
                    _prove(plain, field, identity, self.place(number, group), rows)
                    arrays.append(self._restored(array, number, categories))
                batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
            return batches

        workers = threads or default_threads()
        done, total = 0, sum(self.manifest.rows[group] for group in wanted)
        with ThreadPoolExecutor(workers, thread_name_prefix="fsvc-read") as pool:
            running: deque[Future[list[pa.RecordBatch]]] = deque()
            try:
                for groups in self._runs(entries, wanted, workers):
                    running.append(pool.submit(read, groups))
                    while len(running) > workers:
                        for batch in running.popleft().result():
                            done += batch.num_rows
                            progress(name, done, total)
                            yield batch
                while running:
                    for batch in running.popleft().result():
                        done += batch.num_rows
                        progress(name, done, total)
                        yield batch
            finally:
                for future in running:
                    future.cancel()

    def _stored(
        self,
        footer: FileSchema,
        groups: Sequence[int],
        entries: Sequence[Sequence[Entry] | Mapping[int, Entry]],
        named: Sequence[pa.Field],
        numbers: Sequence[int],
        coded: Collection[int] = (),
    ) -> list[list[pa.Array]]:
        """The columns of some groups in stored form; those that are no patches are decoded in one go."""
        rows = [self.manifest.rows[group] for group in groups]
        if any(is_patch(column[group]) for column in entries for group in groups):
            return [
                self.patched.arrays([column[group] for column in entries], named, count)
                for group, count in zip(groups, rows, strict=True)
            ]
        chunks = [
            (count, [self._objects.read(column[group]) for column in entries])
            for group, count in zip(groups, rows, strict=True)
        ]
        return decode_groups(footer, chunks, named, self.place(numbers[0], groups[0]), coded)

    def _there(self, groups: Sequence[int]) -> list[int]:
        """The numbers of groups, all of them of groups that are there."""
        there = range(len(self.manifest.rows))
        for group in groups:
            if group not in there:
                raise InvalidUse(
                    f"there is no row group {group}: they are numbered from 0 to {len(there) - 1}"
                )
        return [int(group) for group in groups]

    @staticmethod
    def _runs(entries: Sequence[Sequence[Entry]], groups: Sequence[int], workers: int) -> Iterator[list[int]]:
        """The groups in runs that are decoded at once: a few small ones, or a large one alone.

        Long runs have larger buffers, but the threads should end together: a short table is read
        group by group.
        """
        most = min(_RUN_GROUPS, max(1, len(groups) // (4 * workers)))
        if most == 1:
            yield from ([group] for group in groups)
            return
        run: list[int] = []
        size = 0
        for group in groups:
            wanted = sum(leaf.uncompressed for column in entries for leaf in unpack_meta(column[group].meta))
            if run and (len(run) == most or size + wanted > _RUN_BYTES):
                yield run
                run, size = [], 0
            run.append(group)
            size += wanted
        if run:
            yield run

    def _restored(self, array: pa.Array, number: int, categories: Categories) -> pa.Array:
        field = self.manifest.schema.field(number)
        return from_stored(array, field.type, categories, child_path("", field.name))

    def table(
        self, columns: Sequence[str] | None = None, *, threads: int | None = None, progress: Progress = silent
    ) -> pa.Table:
        """The whole snapshot, or some of its columns, in memory; proven."""
        numbers = self.column_numbers(columns)
        schema = self.schema(numbers)
        if not numbers:
            # On the batch: replacing a table's metadata forgets how many rows there are.
            batch = empty_columns(self.manifest.num_rows).replace_schema_metadata(schema.metadata)
            return pa.Table.from_batches([batch])
        batches = list(self.batches(columns, threads=threads, progress=progress))
        return pa.Table.from_batches(batches, schema)


def decode_groups(
    schema: FileSchema,
    groups: Sequence[tuple[int, Sequence[ChunkPages]]],
    fields: Sequence[pa.Field],
    what: str,
    coded: Collection[int] = (),
) -> list[list[pa.Array]]:
    """The columns of row groups in stored form, as :func:`fsvc.format.pages.decode` gives them.

    Raises Corruption naming ``what`` where the pages are none: a forged index can say anything.
    """
    try:
        return pages.decode(schema, groups, fields, coded)
    except (pa.ArrowException, OSError, ValueError, LookupError, OverflowError) as error:
        raise Corruption(f"{what}: what is stored cannot be decoded: {error}") from error


def _decoded(array: pa.Array) -> pa.Array:
    """The values of an array that may be a dictionary."""
    return array.dictionary.take(array.indices) if pa.types.is_dictionary(array.type) else array


def _prove(array: pa.Array, field: pa.Field, identity: Identity, what: str, rows: int) -> None:
    if len(array) != rows:
        raise Corruption(f"{what}: what is stored has {len(array):,} rows")
    if digest(array, field) != identity.digest:
        raise Corruption(f"{what}: what is stored is not what was committed; its digest does not match")
