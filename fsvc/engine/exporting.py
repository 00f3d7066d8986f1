"""Writing record batches to files: Arrow IPC, CSV, and Parquet where rows were picked.

Whole Parquet checkouts copy stored pages and have their own way (:mod:`fsvc.engine.virtual`); what is
written here was decoded. A file appears whole or not at all, and one that is there is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from fsvc.engine.replacing import replacing
from fsvc.errors import UnsupportedData

__all__ = ["write_arrow", "write_csv", "write_csv_to", "write_parquet"]


def write_arrow(
    path: str | os.PathLike[str],
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    stream: bool = False,
) -> None:
    """Write an Arrow IPC file (Feather version 2), or with ``stream`` the stream format.

    Buffers are compressed with LZ4, which every reader of Feather knows. All types and all metadata
    of the schema are kept. Raises StorageError where the file cannot be written.
    """
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with (
        replacing(path) as partial,
        pa.OSFile(str(partial), "wb") as file,
        make(file, schema, options=options) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)


def write_parquet(path: str | os.PathLike[str], schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write a Parquet file of rows that are no whole snapshot.

    Raises UnsupportedData where a type has no form in Parquet, StorageError where the file cannot be
    written.
    """
    import pyarrow.parquet as pq

    with replacing(path) as partial:
        try:
            with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch)
        except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise UnsupportedData(
                f"these rows have no form in Parquet: {error}", hint="write Arrow"
            ) from error


def write_csv(
    path: str | os.PathLike[str],
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    delimiter: str = ",",
    compression: str | None = None,
) -> None:
    """Write a CSV file: UTF-8, a header, text in quotes where needed, null as an empty value.

    CSV keeps no types: a reader finds its own. ``compression`` is a codec of pyarrow, such as "gzip".
    Raises UnsupportedData naming a column that has no form as text (nested, bytes), and StorageError
    where the file cannot be written.
    """
    with (
        replacing(path) as partial,
        pa.output_stream(str(partial), compression=compression) as file,
    ):
        write_csv_to(file, schema, batches, delimiter=delimiter)


def write_csv_to(
    file: Any, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, delimiter: str = ","
) -> None:
    """Write CSV as :func:`write_csv` does into an open binary file, which stays open."""
    from pyarrow import csv

    plain = pa.schema([pa.field(field.name, _text_type(field.type, field.name)) for field in schema])
    options = csv.WriteOptions(delimiter=delimiter)
    with csv.CSVWriter(file, plain, write_options=options) as writer:
        for batch in batches:
            columns = [_plain(column, field.type) for column, field in zip(batch.columns, plain, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=plain))


def _text_type(kind: pa.DataType, column: str) -> pa.DataType:
    """The type as which a column is written to CSV. Raises UnsupportedData where there is none."""
    if isinstance(kind, pa.BaseExtensionType):
        return _text_type(kind.storage_type, column)
    if pa.types.is_dictionary(kind):
        return _text_type(kind.value_type, column)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if (
        pa.types.is_nested(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    ):
        raise UnsupportedData(
            f"column {column!r} is {kind}, which has no form in CSV",
            hint="write Parquet or Arrow, or leave the column out",
        )
    return kind


def _plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column as the type in which it is written: extension storage, decoded dictionary, no view."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    return column if column.type == kind else column.cast(kind)
