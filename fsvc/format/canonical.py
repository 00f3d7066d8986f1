"""Canonical content: the bytes that say what a column chunk holds, and nothing about how it is kept.

Content is defined on the stored form of a column (:mod:`fsvc.format.stored`) and its *storage class*,
so that types with equal pages, such as string and large_string, have equal content. Two chunks have
equal content if and only if they are the same data. The bytes are specified in docs/format.md,
"Canonical content"; their XXH3-128 is the chunk's address, their BLAKE3-256 its digest.

Nothing is copied where a buffer is canonical already: a column without nulls is hashed in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import blake3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from fsvc.errors import UnsupportedData
from fsvc.format.buffers import ends
from fsvc.format.stored import list_parts

__all__ = [
    "ADDRESS_BYTES",
    "DIGEST_BYTES",
    "Identity",
    "canonical_bytes",
    "digest",
    "identify",
    "storage_class",
]

ADDRESS_BYTES = 16
DIGEST_BYTES = 32

Part: TypeAlias = "bytes | memoryview"

_INTEGER_VIEW = {1: pa.int8(), 2: pa.int16(), 4: pa.int32(), 8: pa.int64()}


@dataclass(frozen=True, slots=True)
class Identity:
    """What a chunk is found by (address, 16 bytes) and what proves it (digest, 32 bytes)."""

    address: bytes
    digest: bytes


def storage_class(field: pa.Field) -> str:
    """The class of a stored field: kind and width of its values, and where nulls may stand (``?``).

    Fields of one class have interchangeable Parquet pages; docs/format.md lists the classes.
    """
    t = field.type
    mark = "?" if field.nullable else ""
    if pa.types.is_null(t):
        return "null"
    if pa.types.is_boolean(t):
        return f"bool{mark}"
    if pa.types.is_decimal(t):
        return f"decimal{t.bit_width}({_decimal_bytes(t.precision)}){mark}"
    if pa.types.is_fixed_size_binary(t):
        return f"fixed({t.byte_width}){mark}"
    if (
        pa.types.is_binary(t)
        or pa.types.is_large_binary(t)
        or pa.types.is_string(t)
        or pa.types.is_large_string(t)
    ):
        return f"bytes{mark}"
    if pa.types.is_map(t):
        return f"list{mark}<struct<{storage_class(t.key_field)},{storage_class(t.item_field)}>>"
    if pa.types.is_list(t) or pa.types.is_large_list(t):
        return f"list{mark}<{storage_class(t.value_field)}>"
    if pa.types.is_struct(t):
        return f"struct{mark}<{','.join(storage_class(child) for child in t.fields)}>"
    if pa.types.is_unsigned_integer(t):
        return f"uint{t.bit_width}{mark}"
    if pa.types.is_floating(t):
        return f"float{t.bit_width}{mark}"
    return f"int{t.bit_width}{mark}"


def _decimal_bytes(precision: int) -> int:
    """The least number of bytes that hold a signed integer of so many decimal digits, as Parquet asks."""
    largest: int = 10**precision - 1
    return (largest.bit_length() + 8) // 8


def _packed(array: pa.BooleanArray) -> bytes:
    """The values of a boolean array without nulls, eight to a byte, least bit first, zero past the end."""
    length = len(array)
    buffer = array.buffers()[1]
    if not length:
        return b""  # there may be no buffer at all
    if array.offset % 8 == 0:
        start = array.offset // 8
        out = bytearray(buffer[start : start + (length + 7) // 8])
        if length % 8:
            out[-1] &= (1 << length % 8) - 1
        return bytes(out)
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8), bitorder="little")
    return np.packbits(bits[array.offset : array.offset + length], bitorder="little").tobytes()


def _size(value: int) -> bytes:
    return value.to_bytes(8, "little")


def _fixed(array: pa.Array, width: int) -> Iterator[Part]:
    length = len(array)
    if length == 0 or width == 0:
        return
    if array.null_count and width in _INTEGER_VIEW:
        array = pc.fill_null(array.view(_INTEGER_VIEW[width]), 0)
    data = array.buffers()[1][array.offset * width : (array.offset + length) * width]
    if array.null_count:
        rows = np.frombuffer(data, np.uint8).reshape(length, width).copy()
        rows[array.is_null().to_numpy(zero_copy_only=False)] = 0
        yield rows.reshape(-1).data
    else:
        yield memoryview(data)


def _variable(array: pa.Array) -> Iterator[Part]:
    if len(array) == 0:
        yield _size(0)
        return
    offsets = ends(array)
    data = array.buffers()[2]
    lengths = np.diff(offsets).astype(np.int64, copy=False)
    first, last = int(offsets[0]), int(offsets[-1])
    if array.null_count:
        lengths = np.where(array.is_null().to_numpy(zero_copy_only=False), 0, lengths)
        total = int(lengths.sum())
        if total != last - first:
            # Some null slot covers bytes: take the data without them.
            text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
            array = pc.fill_null(array, "" if text else b"")
            data = array.buffers()[2]
            first = int(ends(array)[0])
            last = first + total
    yield np.ascontiguousarray(lengths).view(np.uint8).data
    yield _size(last - first)
    if last > first:
        yield memoryview(data[first:last])


def _node(array: pa.Array, field: pa.Field, path: str, parent_nulls: int) -> Iterator[Part]:
    t = array.type
    if not field.nullable and array.null_count > parent_nulls:
        raise UnsupportedData(
            f"column {path!r} is declared not null but holds {array.null_count - parent_nulls} null value(s)",
            hint="fill the nulls, or declare the field nullable",
        )
    nulls = array.null_count
    yield _size(len(array)) + (b"\1" if nulls else b"\0")
    if pa.types.is_null(t):
        return
    if nulls:
        yield _packed(array.is_valid())
    if pa.types.is_boolean(t):
        yield _packed(pc.fill_null(array, False) if nulls else array)
    elif pa.types.is_struct(t):
        for child, child_field in zip(array.flatten(), t.fields, strict=True):
            yield from _node(child, child_field, f"{path}.{child_field.name}", nulls)
    elif pa.types.is_map(t):
        lengths, entries = list_parts(array)
        yield np.ascontiguousarray(lengths).view(np.uint8).data
        entry = pa.struct([t.key_field, t.item_field])
        entries = (
            pa.StructArray.from_arrays(entries.flatten(), fields=list(entry.fields))
            if len(entries)
            else pa.array([], entry)
        )
        yield from _node(entries, pa.field("entries", entry, False), path, 0)
    elif pa.types.is_list(t) or pa.types.is_large_list(t):
        lengths, values = list_parts(array)
        yield np.ascontiguousarray(lengths).view(np.uint8).data
        yield from _node(values, t.value_field, f"{path}.{t.value_field.name}", 0)
    elif (
        pa.types.is_binary(t)
        or pa.types.is_large_binary(t)
        or pa.types.is_string(t)
        or pa.types.is_large_string(t)
    ):
        yield from _variable(array)
    else:
        yield from _fixed(array, t.byte_width)


def canonical_bytes(array: pa.Array, field: pa.Field) -> Iterator[Part]:
    """The canonical content of a chunk, as the buffers to hash one after the other.

    ``array`` is in stored form and ``field`` the stored field it belongs to.

    Raises UnsupportedData where a field that is declared not null holds nulls.
    """
    yield storage_class(field).encode() + b"\n"
    yield from _node(array, field, field.name, 0)


def identify(array: pa.Array, field: pa.Field) -> Identity:
    """The address and the digest of a chunk given in stored form."""
    address, digest = xxhash.xxh3_128(), blake3.blake3()
    for part in canonical_bytes(array, field):
        address.update(part)
        digest.update(part)
    return Identity(address.digest(), digest.digest())


def digest(array: pa.Array, field: pa.Field) -> bytes:
    """The digest alone of a chunk given in stored form: what a proof needs."""
    state = blake3.blake3()
    for part in canonical_bytes(array, field):
        state.update(part)
    return state.digest()
