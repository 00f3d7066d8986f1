"""Tables as the result of a command: written to a file, or to standard output as CSV."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fsvc.errors import InvalidUse

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["format_of", "write_table"]

_SUFFIXES = {
    ".csv": "csv",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}


def format_of(target: str | None, kind: str | None) -> str:
    """The format to write in: the one given, else the suffix's, else text."""
    if kind is not None:
        return kind
    if target is None:
        return "text"
    found = _SUFFIXES.get(Path(target).suffix.lower())
    if found is None:
        raise InvalidUse(
            f"{target!r} has no suffix that says a format", hint="--format csv, json, parquet or arrow does"
        )
    return found


def write_table(table: pa.Table, kind: str, target: str | None) -> None:
    """Write a table as CSV, Parquet or Arrow; CSV to standard output where no file is named.

    CSV has no structs: their fields become columns, ``before.balance``; a list of texts becomes one text with
    ``;`` between. Raises InvalidUse for binary formats without a file, UnsupportedData for what has no form.
    """
    from fsvc.engine import exporting

    if kind == "csv":
        table = _flat(table)
        if target is None:
            sys.stdout.flush()
            exporting.stream_csv(sys.stdout.buffer, table.schema, table.to_batches())
        else:
            exporting.write_csv(target, table.schema, table.to_batches())
        return
    if target is None:
        raise InvalidUse(f"{kind} is not for standard output", hint="name a file with -o")
    write = exporting.write_parquet if kind == "parquet" else exporting.write_arrow
    write(target, table.schema, table.to_batches())


def _flat(table: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    flat = table.flatten()
    for i, field in enumerate(flat.schema):
        if pa.types.is_list(field.type) and pa.types.is_string(field.type.value_type):
            flat = flat.set_column(i, field.name, pc.binary_join(flat.column(i), ";"))
    return flat
