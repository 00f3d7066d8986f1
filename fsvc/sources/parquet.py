"""Reading Parquet files as streams, with the types and categories that their writer had."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fsvc.errors import FsvcError, UnreadableInput, UnsupportedData
from fsvc.format.categories import CATEGORIES_KEY, child_path, decode_categories, dictionary_types
from fsvc.sources.conform import convert, meant_type
from fsvc.sources.source import BATCH_ROWS, first_line, select_fields

__all__ = ["ParquetInput"]

# A batch is decoded whole; this many bytes of it are aimed at.
BATCH_BYTES = 64 * 2**20
# Read-ahead for all columns together. Without buffers, pyarrow reads whole column chunks into
# memory; with one per column it decodes as fast and needs only these.
BUFFER_BYTES = 128 * 2**20
# A larger buffer per column reads no faster.
BUFFER_CAP = 2**18
PROBE_ROWS = 256


class ParquetInput:
    """One Parquet file: its schema and row count now, its rows as a stream.

    Raises (also from :meth:`read`):
        UnreadableInput: the file is not Parquet, or broken, or its data contradicts its schema.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        self.path = path
        try:
            with self._open(BUFFER_BYTES) as parquet:
                read = parquet.schema_arrow
                metadata = parquet.metadata
        except (pa.ArrowException, OSError) as error:
            raise UnreadableInput(f"{path} cannot be read as Parquet: {first_line(error)}") from error
        stored: dict[bytes, bytes] = dict(metadata.metadata or {})
        self._positions = select_fields(read.names, columns, str(path))
        self._columns = None if columns is None else list(columns)
        self._leaves: int = metadata.num_columns
        self.num_rows: int = metadata.num_rows
        meant = _written_schema(stored.get(b"ARROW:schema"))
        fields = []
        for position in self._positions:
            field = read.field(position)
            written = _counterpart(field, position, meant)
            if written is not None:
                field = field.with_type(self._possible(field.type, written.type))
            fields.append(field)
        kept = {key: value for key, value in (read.metadata or {}).items() if key != CATEGORIES_KEY}
        self.schema: pa.Schema = pa.schema(fields, metadata=kept or None)
        self._categories: dict[str, pa.Array] = {}
        if CATEGORIES_KEY in stored:
            try:
                self._categories = decode_categories(stored[CATEGORIES_KEY], what=str(path))
            except FsvcError as error:
                raise UnreadableInput(error.message) from error

    def _open(self, budget: int, columns: int = 1) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(
            pa.OSFile(str(self.path), "rb"),
            memory_map=False,
            buffer_size=max(2**16, min(BUFFER_CAP, budget // max(columns, 1))),
            pre_buffer=False,
            coerce_int96_timestamp_unit="ns",
            page_checksum_verification=True,
            arrow_extensions_enabled=True,
        )

    def _possible(self, read: pa.DataType, written: pa.DataType) -> pa.DataType:
        kind = meant_type(read, written)
        try:
            # Whether pyarrow has the casts is asked of it, on no rows, rather than listed here.
            convert(pa.nulls(0, read), kind, {}, "")
        except (pa.ArrowException, FsvcError):
            return read
        return kind

    def read(self) -> Iterator[pa.RecordBatch]:
        """The rows in order, decoded by columns in parallel."""
        try:
            parquet = self._open(BUFFER_BYTES, self._leaves)
        except (pa.ArrowException, OSError) as error:
            raise UnreadableInput(f"{self.path} cannot be read as Parquet: {first_line(error)}") from error
        with parquet:
            try:
                if self.num_rows == 0:
                    fields = [parquet.schema_arrow.field(position) for position in self._positions]
                    yield self._conformed(
                        pa.RecordBatch.from_arrays(
                            [pa.nulls(0, field.type) for field in fields], schema=pa.schema(fields)
                        )
                    )
                    return
                rows = self._batch_rows(parquet)
                for groups in self._strides(parquet.num_row_groups):
                    for batch in parquet.iter_batches(
                        batch_size=rows, row_groups=groups, columns=self._columns, use_threads=True
                    ):
                        yield self._conformed(batch)
            except UnsupportedData as error:
                raise UnreadableInput(f"{self.path} cannot be read: {error.message}") from error
            except (pa.ArrowException, OSError) as error:
                raise UnreadableInput(f"{self.path} cannot be read: {first_line(error)}") from error

    def _strides(self, count: int) -> list[list[int]]:
        """The row groups to read in one go, so that batches may span them: all, as a rule."""
        nested = any(path.count(".") > path.count("\\.") for path in dictionary_types(self.schema))
        # pyarrow has no batches in which the dictionary of a nested column changes.
        return [[number] for number in range(count)] if nested else [list(range(count))]

    def _batch_rows(self, parquet: Any) -> int:
        """How many rows to decode at once, so that wide rows do not fill the memory.

        A footer understates rows whose values are dictionary-encoded, and a schema says nothing
        about text and blobs: the first rows are decoded to see.
        """
        metadata = parquet.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        width = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
        filled = [number for number, group in enumerate(groups) if group.num_rows]
        for number in {filled[0], filled[-1]} if filled else set():
            probe = parquet.iter_batches(
                batch_size=PROBE_ROWS, row_groups=[number], columns=self._columns, use_threads=True
            )
            first = next(iter(probe), None)
            if first is not None and first.num_rows:
                # Without dictionaries, which batches share.
                buffers = [buffer for column in first.columns for buffer in column.buffers() if buffer]
                width = max(width, sum(buffer.size for buffer in buffers) / first.num_rows)
        rows = int(BATCH_BYTES / max(width, 1.0))
        return max(64, min(BATCH_ROWS, rows))

    def _conformed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._columns is not None:
            # A name also selects columns whose path starts with it and a dot.
            columns = [batch.column(batch.schema.get_field_index(name)) for name in self._columns]
        else:
            columns = batch.columns
        conformed = []
        for field, column in zip(self.schema, columns, strict=True):
            try:
                conformed.append(convert(column, field.type, self._categories, child_path("", field.name)))
            except (pa.ArrowException, FsvcError) as error:
                raise UnreadableInput(
                    f"{self.path} cannot be read: column {field.name!r}: {first_line(error)}"
                ) from error
        return pa.RecordBatch.from_arrays(conformed, schema=self.schema)


def _written_schema(encoded: bytes | None) -> pa.Schema | None:
    """The schema that the writer of a file had, if it left one that can be read."""
    if encoded is None:
        return None
    try:
        return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(encoded)))
    except (binascii.Error, pa.ArrowException, OSError):
        # It is a hint of the writer; the file's own types stand without it.
        return None


def _counterpart(field: pa.Field, position: int, written: pa.Schema | None) -> pa.Field | None:
    if written is None:
        return None
    if position < len(written) and written.field(position).name == field.name:
        return written.field(position)
    index = written.get_field_index(field.name)
    return written.field(index) if index >= 0 else None
