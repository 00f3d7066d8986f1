"""Canonical content read back: the inverse of :mod:`fsvc.format.canonical`.

A patch keeps its changed values as canonical content, which every stored type has, which is the same on
every machine, and which needs no header of its own. docs/format.md, "Canonical content", has the bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fsvc.errors import Corruption
from fsvc.format.canonical import Part, _node

__all__ = ["read_content", "value_bytes"]

Lengths = np.ndarray[Any, np.dtype[np.int64]]


def value_bytes(array: pa.Array, field: pa.Field) -> bytes:
    """The canonical content of an array in stored form, without the line that names its storage class."""
    parts: list[Part] = list(_node(array, field, field.name, 0))
    return b"".join(parts)


def read_content(data: bytes | memoryview, field: pa.Field) -> pa.Array:
    """The array of a stored field whose content :func:`value_bytes` gave.

    Raises Corruption where the bytes are no content of this type, or more than one.
    """
    reader = _Reader(memoryview(data))
    array = reader.node(field.type)
    if reader.position != len(data):
        raise Corruption("content is longer than it says")
    return array


class _Reader:
    """Takes content apart, front to back."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.position = 0

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if count < 0 or end > len(self._data):
            raise Corruption("content ends too early")
        piece = self._data[self.position : end]
        self.position = end
        return piece

    def size(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def node(self, t: pa.DataType) -> pa.Array:
        length = self.size()
        nulls = self.take(1)[0]
        if nulls > 1:
            raise Corruption("content has a mark that is none")
        if pa.types.is_null(t):
            return pa.nulls(length)
        valid = pa.py_buffer(bytes(self.take((length + 7) // 8))) if nulls else None
        if pa.types.is_boolean(t):
            return pa.Array.from_buffers(t, length, [valid, pa.py_buffer(self.take((length + 7) // 8))])
        if pa.types.is_struct(t):
            return self._struct(t, length, valid)
        if pa.types.is_map(t):
            offsets = self._offsets(length, large=False)
            entries = self.node(pa.struct([t.key_field, t.item_field]))
            return self._nested(t, length, valid, offsets, entries)
        if pa.types.is_list(t) or pa.types.is_large_list(t):
            offsets = self._offsets(length, large=pa.types.is_large_list(t))
            return self._nested(t, length, valid, offsets, self.node(t.value_type))
        large = pa.types.is_large_string(t) or pa.types.is_large_binary(t)
        if large or pa.types.is_string(t) or pa.types.is_binary(t):
            offsets = self._offsets(length, large) if length else pa.py_buffer(bytes(8))
            total = self.size()
            ends = np.frombuffer(offsets, np.int64 if large else np.int32)
            if length and int(ends[-1]) != total:
                raise Corruption("content has lengths that do not add up")
            return pa.Array.from_buffers(t, length, [valid, offsets, pa.py_buffer(self.take(total))])
        return pa.Array.from_buffers(t, length, [valid, pa.py_buffer(self.take(length * t.byte_width))])

    def _offsets(self, length: int, large: bool) -> pa.Buffer:
        lengths = np.frombuffer(self.take(8 * length), np.int64)
        ends = np.zeros(length + 1, np.int64)
        np.cumsum(lengths, out=ends[1:])
        if length and (int(lengths.min()) < 0 or int(ends[-1]) < 0):
            raise Corruption("content has lengths below zero")
        if not large and int(ends[-1]) > np.iinfo(np.int32).max:
            raise Corruption("content is larger than its type can hold")
        return pa.py_buffer(ends if large else ends.astype(np.int32))

    def _struct(self, t: pa.StructType, length: int, valid: pa.Buffer | None) -> pa.Array:
        children = [self.node(child.type) for child in t.fields]
        if any(len(child) != length for child in children):
            raise Corruption("content has children of other lengths than their parent")
        return pa.Array.from_buffers(t, length, [valid], children=children)

    @staticmethod
    def _nested(
        t: pa.DataType, length: int, valid: pa.Buffer | None, offsets: pa.Buffer, values: pa.Array
    ) -> pa.Array:
        ends = np.frombuffer(offsets, np.int64 if pa.types.is_large_list(t) else np.int32)
        if int(ends[-1]) != len(values):
            raise Corruption("content has lengths that do not add up")
        return pa.Array.from_buffers(t, length, [valid, offsets], children=[values])
