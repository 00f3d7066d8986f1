"""Rows as lines of JSON, a batch at a time: columns become texts whole, and are joined to lines by Arrow.

Numbers, truths and texts are written by Arrow; what is nested or rare is written value by value, as
:func:`fsvc.cli.values.as_json` says.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fsvc.cli.values import as_json, cells

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["json_lines"]

# Texts with any other character than these are written by Python's own writer.
_OTHERS = r"[^ !#-\[\]-~]"


def json_lines(batch: pa.RecordBatch) -> str:
    """The rows of a batch, one object a line; the last line ends too."""
    import pyarrow.compute as pc

    rows: int = batch.num_rows
    if not rows or not batch.num_columns:
        return "{}\n" * rows
    parts: list[Any] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        parts += [_text(f"{', ' if parts else '{'}{json.dumps(name)}: "), _texts(column)]
    lines = pc.binary_join_element_wise(*parts, _text("}\n"), _text(""))
    # The lines lie one after the other in one buffer.
    _, offsets, texts = lines.buffers()
    end = memoryview(offsets).cast("q")[rows]
    written: str = memoryview(texts)[:end].tobytes().decode("ascii")
    return written


def _text(text: str) -> pa.Scalar:
    import pyarrow as pa

    return pa.scalar(text, pa.large_string())


def _texts(column: pa.Array) -> pa.Array:
    """Every value as JSON writes it, nulls too, as ``large_string``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    text = pa.large_string()
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        found = column.cast(text)
    elif pa.types.is_float32(kind) or pa.types.is_float64(kind):
        found = pc.if_else(pc.is_finite(column), column.cast(text), _quoted(column.cast(text)))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(text)
        special = pc.match_substring_regex(column, _OTHERS)
        found = _quoted(column)
        if pc.any(special).as_py():
            written = pa.array([json.dumps(value) for value in column.filter(special).to_pylist()], text)
            found = pc.replace_with_mask(found, pc.fill_null(special, False), written)
    elif pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        try:
            found = _quoted(column.cast(text))
        except pa.ArrowException:  # beyond the years that Arrow writes
            return _one_by_one(column)
    else:
        return _one_by_one(column)
    return pc.fill_null(found, "null")


def _one_by_one(column: pa.Array) -> pa.Array:
    import pyarrow as pa

    return pa.array([json.dumps(as_json(value)) for value in cells(column)], pa.large_string())


def _quoted(texts: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(_text('"'), texts, _text('"'), _text(""))
