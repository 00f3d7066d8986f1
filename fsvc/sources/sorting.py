"""Sorting a source by columns, for those who ask for it; the order of rows is kept otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from fsvc.errors import UnsupportedData
from fsvc.sources.source import BATCH_ROWS, Source, check_columns, select_fields

__all__ = ["sort_source"]


def sort_source(source: Source, columns: Sequence[str]) -> Source:
    """The same rows in ascending order of some columns; rows that agree in them keep their order.

    NaN comes after all numbers, and null after NaN. The rows are held in memory once they are read.
    Closing the result closes ``source``.

    Raises (those of :class:`UnsupportedData` when the batches are read):
        NotFound: a column is not there.
        InvalidUse: no column is named, or one twice.
        UnsupportedData: rows cannot be ordered by a column, or a column of a type that cannot be
            brought into another order is in the table.
    """
    names = check_columns(columns) or []
    positions = select_fields(source.schema.names, names, source.description)

    def read() -> Iterator[pa.RecordBatch]:
        batches = list(source.batches())
        table = pa.Table.from_batches(batches, schema=source.schema)
        if not table.num_rows:
            yield from batches
            return
        try:
            table = table.unify_dictionaries()
        except pa.ArrowException as error:
            raise UnsupportedData(f"{source.description} cannot be sorted: {error}") from error
        order = _order(table, positions, source.description)
        table = _movable(table).combine_chunks()
        for start in range(0, len(order), BATCH_ROWS):
            yield from _gathered(table, order.slice(start, BATCH_ROWS), source)

    return Source(
        source.schema,
        read,
        source.num_rows,
        source.description,
        source.repeatable,
        notes=source.notes,
        from_file=source.from_file,
        validated=True,
        release=source.close,
    )


def _order(table: pa.Table, positions: list[int], description: str) -> pa.Array:
    keys = {}
    for number, position in enumerate(positions):
        column = table.column(position)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_string_view(kind):
            kind = pa.large_string()
        elif pa.types.is_binary_view(kind):
            kind = pa.large_binary()
        keys[str(number)] = column.cast(kind)
    try:
        # The sort is stable; pyarrow says so of sort_indices.
        order: pa.Array = pc.sort_indices(
            pa.table(keys), sort_keys=[(name, "ascending", "at_end") for name in keys]
        )
    except pa.ArrowException as error:
        named = ", ".join(repr(table.column_names[position]) for position in positions)
        raise UnsupportedData(f"{description} cannot be sorted by {named}: {error}") from error
    return order


def _movable(table: pa.Table) -> pa.Table:
    """The table with views as plain texts and bytes: pyarrow cannot gather views."""
    for position, field in enumerate(table.schema):
        if pa.types.is_string_view(field.type):
            column = table.column(position).cast(pa.large_string())
        elif pa.types.is_binary_view(field.type):
            column = table.column(position).cast(pa.large_binary())
        else:
            continue
        table = table.set_column(position, field.with_type(column.type), column)
    return table


def _gathered(table: pa.Table, order: pa.Array, source: Source) -> Iterator[pa.RecordBatch]:
    columns = []
    for position, field in enumerate(source.schema):
        try:
            column = table.column(position).take(order).cast(field.type)
        except pa.ArrowException as error:
            raise UnsupportedData(
                f"{source.description} cannot be sorted: column {field.name!r} of type {field.type}"
                " cannot be brought into another order"
            ) from error
        columns.append(column)
    yield from pa.table(columns, schema=source.schema).to_batches()
