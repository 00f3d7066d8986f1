"""How differences are shown, in words and as JSON: in numbers, by schema, and row by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fsvc.cli.output import Output, clip, counted
from fsvc.cli.values import as_json, as_text, cells

if TYPE_CHECKING:
    import pyarrow as pa

    from fsvc.engine.diff import ColumnChange, SchemaChange, TableChange

__all__ = [
    "print_rows",
    "print_schema",
    "print_stat",
    "rows_document",
    "schema_document",
    "schema_lines",
    "stat_document",
    "structs",
]

_WIDEST_CELL = 40
_WIDEST_END = 24
_SIGNS = {"removed": ("-", "red"), "added": ("+", "green"), "changed": ("~", "yellow")}


def schema_document(schema: SchemaChange) -> dict[str, Any]:
    """How a schema changed, as JSON."""
    return {
        "added": list(schema.added),
        "dropped": list(schema.dropped),
        "renamed": [{"before": old, "after": new} for old, new in schema.renamed],
        "retyped": [
            {"name": name, "before": old, "after": new, "compared": name not in schema.replaced}
            for name, old, new in schema.retyped
        ],
        "nullable": list(schema.nullable),
        "categories": list(schema.categories),
        "metadata": list(schema.metadata),
        "key": None if schema.key is None else {"before": list(schema.key[0]), "after": list(schema.key[1])},
        "reordered": schema.reordered,
    }


def stat_document(change: TableChange) -> dict[str, Any]:
    """What changed in numbers, as JSON."""
    return {
        "rows_before": change.rows[0],
        "rows_after": change.rows[1],
        "key": list(change.key),
        "added": change.added,
        "removed": change.removed,
        "changed": change.changed,
        "moved": change.moved,
        "schema": schema_document(change.schema),
        "columns": [
            {
                "name": column.name,
                "cells": column.cells,
                "nulls": list(column.nulls),
                "min": [as_json(value) for value in column.minimum],
                "max": [as_json(value) for value in column.maximum],
            }
            for column in change.columns
        ],
    }


def schema_lines(schema: SchemaChange) -> list[str]:
    """How a schema changed, a line for each change."""
    lines = [f"added {name}" for name in schema.added]
    lines += [f"dropped {name}" for name in schema.dropped]
    lines += [f"renamed {old} to {new}" for old, new in schema.renamed]
    for name, old, new in schema.retyped:
        compared = "; its values are not compared" if name in schema.replaced else ""
        lines.append(f"{name} was {old}, is {new}{compared}")
    lines += [f"{name} may be null or not, other than before" for name in schema.nullable]
    lines += [f"{name} has other categories" for name in schema.categories]
    lines += [f"metadata of {name or 'the table'} changed" for name in schema.metadata]
    if schema.key is not None:
        old, new = (", ".join(key) or "none" for key in schema.key)
        lines.append(f"the key was {old}, is {new}")
    if schema.reordered:
        lines.append("columns are in another order")
    return lines


def print_schema(out: Output, schema: SchemaChange) -> None:
    """Print how a schema changed."""
    for line in schema_lines(schema):
        out.line("  schema  ", line)


def print_stat(out: Output, change: TableChange) -> None:
    """Print what changed in numbers: rows, schema, and a table of the columns whose cells changed."""
    before, after = change.rows
    parts = [
        f"{count:,} {word}"
        for count, word in ((change.added, "added"), (change.removed, "removed"), (change.changed, "changed"))
        if count
    ]
    total = f"{before:,}" if before == after else f"{before:,} -> {after:,}"
    by = f"by {', '.join(change.key)}" if change.key else "by content"
    out.line("  rows    ", total, ": ", ", ".join(parts) or "the same", f", {by}" if parts else "")
    if change.moved:
        out.line("  order   ", counted(change.moved, "row"), " after another row than before")
    print_schema(out, change.schema)
    rows = [_column_row(column) for column in change.columns]
    if rows:
        out.table(["  column", "cells", "nulls", "range"], rows, right=("cells", "nulls"))


def _column_row(column: ColumnChange) -> list[object]:
    def pair(one: object, other: object) -> str:
        return str(one) if one == other else f"{one} -> {other}"

    nulls = (
        "" if None in column.nulls else pair(*(f"{count:,}" for count in column.nulls if count is not None))
    )
    ranges = [
        ""
        if low is None or high is None
        else f"{clip(as_text(low), _WIDEST_END)} .. {clip(as_text(high), _WIDEST_END)}"
        for low, high in zip(column.minimum, column.maximum, strict=True)
    ]
    return [f"  {column.name}", f"{column.cells:,}", nulls, pair(*ranges) if any(ranges) else ""]


# Row by row ----------------------------------------------------------------------------------------


def rows_document(rows: pa.Table, schema: SchemaChange) -> list[dict[str, Any]]:
    """Listed rows as JSON; of a changed row only the cells that differ, by the new names of their columns."""
    documents = []
    for change, key, names, before, after, row_before, row_after in _listed(rows, schema):
        document: dict[str, Any] = {"change": change}
        if key is not None:
            document |= {"key": as_json(key), "columns": names}
        documents.append(
            document
            | {
                "before": as_json(before),
                "after": as_json(after),
                "row_before": row_before,
                "row_after": row_after,
            }
        )
    return documents


def print_rows(out: Output, rows: pa.Table, schema: SchemaChange) -> None:
    """Print listed rows: a sign, the key, and the cells, old and new ones of changed rows."""
    for change, key, names, before, after, _, _ in _listed(rows, schema):
        sign, colour = _SIGNS[change]
        shown = ", ".join(f"{name}={_cell(value)}" for name, value in (key or {}).items())
        if change == "changed":
            told = ", ".join(f"{name}: {_cell(before[name])} -> {_cell(after[name])}" for name in names or [])
        else:
            side = after if change == "added" else before
            told = ", ".join(f"{name}: {_cell(value)}" for name, value in side.items())
        out.line(out.styled(f"{sign} {shown}{'  ' if shown and told else ''}{told}", fg=colour))


def _cell(value: Any) -> str:
    return clip(as_text(value), _WIDEST_CELL)


def _listed(rows: pa.Table, schema: SchemaChange) -> Iterator[tuple[Any, ...]]:
    """The rows of a table of changes as Python objects: change, key, columns, before, after, both numbers."""
    keyed = "key" in rows.column_names
    keys = structs(rows["key"]) if keyed else [None] * rows.num_rows
    names = rows["columns"].to_pylist() if keyed else [None] * rows.num_rows
    sides = [structs(rows[name]) for name in ("before", "after")]
    plain = [rows[name].to_pylist() for name in ("change", "row_before", "row_after")]
    old_names = {new: old for old, new in schema.renamed}
    for key, listed, old, new, change, *places in zip(keys, names, *sides, *plain, strict=True):
        before, after = old, new
        if change == "changed":
            before = {name: old[old_names.get(name, name)] for name in listed}
            after = {name: new[name] for name in listed}
        yield change, key, listed, before, after, *places


def structs(column: pa.ChunkedArray) -> list[Any]:
    """A column of structs as dicts, times that Python lacks as text; None for null."""
    found: list[Any] = []
    for chunk in column.chunks:
        fields = [chunk.type.field(i) for i in range(chunk.type.num_fields)]
        columns = [cells(chunk.field(i)) for i in range(len(fields))]
        names = [field.name for field in fields]
        rows = zip(*columns, strict=True) if columns else ([] for _ in range(len(chunk)))
        found += [
            dict(zip(names, row, strict=True)) if valid else None
            for row, valid in zip(rows, chunk.is_valid().to_pylist(), strict=True)
        ]
    return found
