"""Rows for which a condition in SQL holds. DuckDB finds them; the values come from Arrow, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fsvc.engine.reading import SnapshotReader
from fsvc.engine.store import Store
from fsvc.engine.virtual import VirtualFile, remembered_layout
from fsvc.errors import InvalidUse, UnsupportedData
from fsvc.query.connection import ROW_NUMBER, Session
from fsvc.query.interrupts import interruptible

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["matching_rows", "only_rows"]


def matching_rows(store: Store, reader: SnapshotReader, snapshot: str, condition: str) -> NDArray[np.int64]:
    """The numbers of a snapshot's rows that fulfil a condition in SQL, ascending.

    Raises InvalidUse where DuckDB does not understand the condition, Corruption where what it reads
    is damaged.
    """
    import duckdb

    if not condition.strip():
        raise InvalidUse("the condition is empty", hint="write one in SQL, such as \"country = 'FR'\"")
    if ROW_NUMBER in (name.casefold() for name in reader.manifest.schema.names):
        raise InvalidUse(f"a snapshot with a column {ROW_NUMBER!r} cannot be filtered")
    session = Session()
    try:
        with session.reading(), interruptible():
            content = VirtualFile(store.objects, remembered_layout(reader))
            relation = session.relation(content, snapshot, row_numbers=True)
            # In brackets of its own, on lines of its own: whatever it holds, it stays one condition.
            found = relation.filter(f"(\n{condition}\n)").project(ROW_NUMBER).fetchnumpy()[ROW_NUMBER]
    except duckdb.Error as error:
        if not isinstance(error, (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError)):
            raise
        first = str(error).strip().splitlines()[0]
        raise InvalidUse(f"the condition {condition!r} cannot be used: {first}") from None
    finally:
        session.close()
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
