"""Parquet statistics compared with the values they speak of, computed again from those values.

Readers leave out row groups by these numbers without looking at the pages, so a wrong one is a wrong
answer. What is compared are the bytes as parquet.thrift orders them: ``null_count``, and the smallest
and the largest value in PLAIN encoding.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.format.buffers import fixed
from fsvc.format.footer import LeafMeta
from fsvc.format.pages import leaf_arrays

__all__ = ["wrong_statistics"]

# Field ids of Statistics.
_OLD_MAX, _OLD_MIN, _NULLS, _MAX, _MIN = 1, 2, 3, 5, 6

_WORDS = {pa.lib.Type_DATE32: pa.int32(), pa.lib.Type_TIME32: pa.int32()}
_LONG_WORDS = (pa.lib.Type_TIME64, pa.lib.Type_TIMESTAMP)


def wrong_statistics(leaves: tuple[LeafMeta, ...], array: pa.Array) -> str | None:
    """What a chunk's statistics say wrongly of its values (in stored form); None where they are right.

    Statistics that are left out say nothing wrong.
    """
    columns = leaf_arrays(array)
    if len(columns) != len(leaves):
        return f"it has {len(leaves)} leaf column(s), its values have {len(columns)}"
    flat = not pa.types.is_nested(array.type)
    for leaf, column in zip(leaves, columns, strict=True):
        if flat and leaf.num_values != len(array):
            return f"it declares {leaf.num_values} values, it has {len(array)}"
        stored = leaf.statistics()
        nulls = leaf.num_values - (len(column) - column.null_count)
        if _NULLS in stored and stored[_NULLS][1] != nulls:
            return f"it declares {stored[_NULLS][1]} null(s), it has {nulls}"
        if not any(field in stored for field in (_OLD_MAX, _OLD_MIN, _MAX, _MIN)):
            continue
        found = _range(column)
        if found is None:
            return "it declares a smallest and a largest value, but none of its values has an order"
        for fields, word, value in (
            ((_MIN, _OLD_MIN), "smallest", found[0]),
            ((_MAX, _OLD_MAX), "largest", found[1]),
        ):
            for field in fields:
                if field in stored and not _same(column.type, stored[field][1], value):
                    return f"the {word} value that it declares is not that of its values"
    return None


def _range(leaf: pa.Array) -> tuple[bytes, bytes] | None:
    """The smallest and the largest value in PLAIN encoding; None where there is none, or a NaN."""
    values = leaf.drop_null()
    t = values.type
    if len(values) == 0 or pa.types.is_null(t):
        return None
    if pa.types.is_floating(t):
        numbers = fixed(values, f"<f{t.bit_width // 8}")
        return None if np.isnan(numbers).any() else (numbers.min().tobytes(), numbers.max().tobytes())
    if t.id in _WORDS:
        values = values.view(_WORDS[t.id])
    elif t.id in _LONG_WORDS:
        values = values.view(pa.int64())
    found = pc.min_max(values)
    low, high = (_plain(pa.repeat(found[name], 1)) for name in ("min", "max"))
    return low, high


def _plain(value: pa.Array) -> bytes:
    """The PLAIN encoding of the one value of an array, without the length that goes before bytes."""
    t = value.type
    if pa.types.is_boolean(t):
        return b"\1" if value[0].as_py() else b"\0"
    if pa.types.is_integer(t):
        number = int(value[0].as_py())
        width = max(4, int(t.bit_width) // 8)
        return (number % (1 << 8 * width)).to_bytes(width, "little")
    if pa.types.is_decimal(t):
        raw = bytes(value.buffers()[1])[: t.byte_width]
        size: int = ((10**t.precision - 1).bit_length() + 8) // 8
        return int.from_bytes(raw, "little", signed=True).to_bytes(size, "big", signed=True)
    text = value[0].as_buffer() if not pa.types.is_fixed_size_binary(t) else value[0].as_py()
    return bytes(text)


def _same(t: pa.DataType, stored: bytes, value: bytes) -> bool:
    """Whether a declared bound is the computed one; a zero is declared as the widest of -0.0 and 0.0."""
    if not pa.types.is_floating(t):
        return stored == value
    kind = {16: np.float16, 32: np.float32, 64: np.float64}[t.bit_width]
    if len(stored) != np.dtype(kind).itemsize:
        return False
    return bool(np.frombuffer(stored, kind)[0] == np.frombuffer(value, kind)[0])
