"""Rows for which a condition in SQL holds. DuckDB finds them; the values come from Arrow, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fsvc.errors import InvalidUse, UnsupportedData

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

__all__ = ["ROW_NUMBER", "matching_rows", "only_rows"]

ROW_NUMBER = "file_row_number"
"""The column that DuckDB adds to a Parquet file: the number of the row, from 0."""


def matching_rows(relation: duckdb.DuckDBPyRelation, condition: str) -> NDArray[np.int64]:
    """The numbers of the rows that fulfil a condition, ascending. The relation has :data:`ROW_NUMBER`.

    Raises InvalidUse where DuckDB does not understand the condition.
    """
    import duckdb

    try:
        # Alone in its own brackets, whatever the condition holds remains one condition.
        found = relation.filter(f"({condition}\n)").project(ROW_NUMBER).fetchnumpy()[ROW_NUMBER]
    except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
        first = str(error).strip().splitlines()[0]
        raise InvalidUse(f"the condition {condition!r} cannot be used: {first}") from None
    return np.sort(np.asarray(found, np.int64))


def only_rows(batches: Iterable[pa.RecordBatch], rows: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """Of a stream of batches, the rows with these ascending numbers; batches without any are left out."""
    first = 0
    for batch in batches:
        start, stop = np.searchsorted(rows, (first, first + batch.num_rows))
        wanted = rows[start:stop] - first
        first += batch.num_rows
        if len(wanted) == batch.num_rows and len(wanted):
            yield batch
        elif len(wanted):
            yield _gathered(batch, pa.array(wanted))


def _gathered(batch: pa.RecordBatch, places: pa.Array) -> pa.RecordBatch:
    columns = []
    for column, field in zip(batch.columns, batch.schema, strict=True):
        kind = field.type
        if pa.types.is_string_view(kind):  # pyarrow cannot gather views
            column = column.cast(pa.large_string())
        elif pa.types.is_binary_view(kind):
            column = column.cast(pa.large_binary())
        try:
            columns.append(column.take(places).cast(kind))
        except pa.ArrowException as error:
            raise UnsupportedData(
                f"rows cannot be picked: column {field.name!r} of type {kind} cannot be gathered",
                hint="leave the column out, or take all rows",
            ) from error
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)
