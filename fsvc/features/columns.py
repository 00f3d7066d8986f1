"""Columns that tables are joined by: which there are, and what kind of values they hold."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from fsvc.errors import InvalidUse, NotFound
from fsvc.format.names import nearest, quoted

__all__ = ["absent", "field_of", "kind_of_key", "kind_of_time", "plain"]


def field_of(schema: pa.Schema, column: str, what: str) -> pa.Field:
    """A column's field. ``what`` is whose column it is, for messages. Raises NotFound with the nearest name."""
    number = schema.get_field_index(column)
    if number < 0:
        raise absent(column, schema.names, what)
    return schema.field(number)


def absent(column: str, known: Sequence[str], what: str) -> NotFound:
    """The error for a column that is not there."""
    near = nearest(column, known)
    return NotFound(
        f"{what} has no column {quoted(column)}",
        hint=f"did you mean {near[0]!r}?" if near else f"its columns: {', '.join(known[:10])}",
    )


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values: of a dictionary, that of its categories."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def kind_of_key(kind: pa.DataType, column: str, what: str) -> str:
    """What kind of values a column holds that is compared for equality. Raises InvalidUse where it is not fit."""
    values, types = plain(kind), pa.types
    if types.is_integer(values):
        return "integer"
    if types.is_string(values) or types.is_large_string(values) or types.is_string_view(values):
        return "text"
    if types.is_binary(values) or types.is_large_binary(values) or types.is_binary_view(values):
        return "bytes"
    if types.is_timestamp(values):
        return "timestamp with a time zone" if values.tz else "timestamp without a time zone"
    if (
        types.is_floating(values)
        or types.is_nested(values)
        or types.is_null(values)
        or types.is_duration(values)
        or (types.is_decimal(values) and values.precision > 38)  # a double for DuckDB
    ):
        raise InvalidUse(f"rows cannot be found by column {column!r} of {what}, which is {kind}")
    return str(values)


def kind_of_time(schema: pa.Schema, column: str, what: str) -> str:
    """What kind of time a column holds. Raises InvalidUse where it holds none."""
    kind = plain(field_of(schema, column, what).type)
    if pa.types.is_timestamp(kind):
        return "timestamp with a time zone" if kind.tz else "timestamp without a time zone"
    if pa.types.is_date32(kind):
        return "date"
    if pa.types.is_integer(kind):
        return "integer"
    raise InvalidUse(
        f"column {column!r} of {what} is {kind}, and no time",
        hint="a time is a timestamp, a date or an integer",
    )
