"""Rows of a table: for people, aligned and cut to the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fsvc.cli.output import Output, clean, clip, printed_width
from fsvc.cli.values import as_json, as_text

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["json_rows", "print_rows"]

_WIDEST_CELL = 32


def json_rows(names: Sequence[str], values: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows as JSON has them, of values column by column."""
    return [dict(zip(names, map(as_json, row), strict=True)) for row in zip(*values, strict=True)]


def print_rows(
    out: Output, schema: pa.Schema, values: Sequence[Sequence[Any]], *, most: int | None = None
) -> int:
    """Print rows, given as values column by column; how many columns were left out.

    As many columns are shown as have room on a terminal, and no more than ``most``.
    """
    if not values:
        return 0
    rows = [[clip(clean(as_text(value)), _WIDEST_CELL) for value in row] for row in zip(*values, strict=True)]
    names = [clip(clean(name), _WIDEST_CELL) for name in schema.names]
    right = [name for name, field in zip(names, schema, strict=True) if _numeric(field.type)]
    shown = _fitting(out.width, names, rows)
    if most is not None:
        shown = min(shown, most)
    out.table(names[:shown], [row[:shown] for row in rows], right=right, literal=True, always=True)
    return len(names) - shown


def _numeric(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _fitting(width: int | None, names: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """How many columns, at least one, have room on a terminal; all of them where there is none."""
    if width is None:
        return len(names)
    room = width
    for place, column in enumerate(zip(names, *rows, strict=True)):
        room -= max(map(printed_width, column))
        if room < 0 and place:
            return place
        room -= 2
    return len(names)
