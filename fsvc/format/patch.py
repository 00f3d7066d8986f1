"""Patches: a column chunk stored as what differs from other chunks of its column.

A patch takes rows from its *bases*, as a *row map* says (without one: all rows of its only base, in
order), and then replaces values at some positions. Inserted rows are those that the row map takes from
nowhere; their values are stored with the changed ones. Row maps are objects of their own, because all
columns of a row group share one. docs/format.md, "Patch" and "Row map", has the bytes.

Which rows are taken from where is only a prediction: whatever it gets wrong is a changed value.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import blake3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
import zstandard

from fsvc.errors import Corruption
from fsvc.format.buffers import fixed
from fsvc.format.canonical import Identity
from fsvc.format.content import read_content, value_bytes
from fsvc.format.stored import list_parts

__all__ = [
    "Changes",
    "RowMap",
    "differing",
    "map_identity",
    "read_changes",
    "read_map",
    "write_changes",
    "write_map",
]

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Rows = np.ndarray[Any, np.dtype[np.int64]]

_LEVEL = 3
_MAP = struct.Struct("<III")
_NUMBERS = struct.Struct("<BI")
_MOST_ROWS = 1 << 24
"""Rows that a row map, and values that a patch, may have at the most: what is read is not believed."""
_LARGEST = 1 << 30

# How the values of a patch are written.
_CONTENT, _INTEGERS, _DECIMALS, _DISTINCT = 0, 1, 2, 3
_DIGITS = range(8)


# -- numbers ---------------------------------------------------------------------------------------


def _squeeze(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(data)


def _pack_numbers(numbers: np.ndarray[Any, Any]) -> bytes:
    """Numbers that are not negative: their width, then their bytes by significance, compressed.

    Zeros alone have no width and take no bytes.
    """
    top = int(numbers.max(initial=0))
    if not top:
        return _NUMBERS.pack(0, 0)
    width = next(width for width in (1, 2, 4, 8) if top < 1 << 8 * width)
    planes = numbers.astype(f"<u{width}").view(np.uint8).reshape(-1, width).T
    packed = _squeeze(planes.tobytes())
    return _NUMBERS.pack(width, len(packed)) + packed


class _Reader:
    """Takes the bytes of a row map or of changes apart, front to back."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._position = 0
        self._decompressor = zstandard.ZstdDecompressor()

    def expand(self, data: bytes | memoryview, size: int) -> bytes:
        """What :func:`_squeeze` made of so many bytes; the frame has to say the same size."""
        try:
            if size > _LARGEST or zstandard.frame_content_size(data) != size:
                raise Corruption("compressed bytes of a patch are not of the size that they should be")
            return self._decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise Corruption(f"compressed bytes of a patch cannot be read: {error}") from None

    def take(self, size: int) -> memoryview:
        end = self._position + size
        if end > len(self._data):
            raise Corruption("a patch ends too early")
        piece = self._data[self._position : end]
        self._position = end
        return piece

    def numbers(self, count: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
        width, size = _NUMBERS.unpack(self.take(_NUMBERS.size))
        if width not in (0, 1, 2, 4, 8) or (width == 0 and size):
            raise Corruption("a patch has numbers of an unknown width")
        if width == 0:
            return np.zeros(count, np.uint64)
        planes = np.frombuffer(self.expand(self.take(size), count * width), np.uint8).reshape(width, count)
        return np.ascontiguousarray(planes.T).view(f"<u{width}").reshape(-1).astype(np.uint64)

    def rest(self) -> memoryview:
        return self.take(len(self._data) - self._position)


# -- row maps --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowMap:
    """From which row of the bases each row is taken.

    ``source[i]`` counts through the rows of all bases, one base after the other; -1 is an inserted row.
    ``base_rows`` are the rows of each base.
    """

    source: Rows
    base_rows: tuple[int, ...]


def write_map(row_map: RowMap) -> bytes:
    """The bytes of a row map."""
    source = row_map.source
    taken = np.flatnonzero(source >= 0)
    rows = source[taken]
    # A run is copied from rows that follow each other to rows that follow each other.
    first = np.ones(len(taken), np.bool_)
    first[1:] = (np.diff(taken) != 1) | (np.diff(rows) != 1)
    starts = np.flatnonzero(first)
    lengths = np.diff(np.append(starts, len(taken)))
    at, begin = taken[starts], rows[starts]
    inserted = at - np.concatenate([np.zeros(1, np.int64), (at + lengths)[:-1]])[: len(at)]
    skipped = begin - np.concatenate([np.zeros(1, np.int64), (begin + lengths)[:-1]])[: len(begin)]
    return (
        _MAP.pack(len(source), len(starts), len(row_map.base_rows))
        + struct.pack(f"<{len(row_map.base_rows)}I", *row_map.base_rows)
        + _pack_numbers(inserted)
        + _pack_numbers((skipped << 1) ^ (skipped >> 63))
        + _pack_numbers(lengths)
    )


def read_map(data: bytes | memoryview) -> RowMap:
    """A row map from its bytes. Raises Corruption where they are none."""
    reader = _Reader(data)
    count, runs, bases = _MAP.unpack(reader.take(_MAP.size))
    base_rows = struct.unpack(f"<{bases}I", reader.take(4 * bases))
    if count > _MOST_ROWS or runs > count or sum(base_rows) > _MOST_ROWS:
        raise Corruption("a row map has more rows than a row group can have")
    inserted = reader.numbers(runs).astype(np.int64)
    folded = reader.numbers(runs)
    lengths = reader.numbers(runs).astype(np.int64)
    if len(reader.rest()):
        raise Corruption("a row map is longer than it says")
    skipped = (folded >> np.uint64(1)).astype(np.int64) ^ -(folded & np.uint64(1)).astype(np.int64)
    ends = np.cumsum(inserted + lengths)
    begin = np.cumsum(skipped) + np.cumsum(lengths) - lengths
    if runs and (
        int(inserted.min()) < 0
        or int(lengths.min()) < 1
        or int(ends.max()) > count
        or int(ends.min()) < 1
        or int(begin.min()) < 0
        or int((begin + lengths).max()) > sum(base_rows)
    ):
        raise Corruption("a row map takes rows that are not there")
    source = np.full(count, -1, np.int64)
    total = int(lengths.sum())
    within = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    source[np.repeat(ends - lengths, lengths) + within] = np.repeat(begin, lengths) + within
    return RowMap(source, base_rows)


def map_identity(data: bytes) -> Identity:
    """The identity of a row map: the hashes of its bytes after a line that no storage class has."""
    content = b"rowmap\n" + data
    return Identity(xxhash.xxh3_128_digest(content), blake3.blake3(content).digest())


# -- changed values --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changes:
    """The values of a patch: rows at which values are replaced, ascending, inserted rows included."""

    positions: Rows
    values: pa.Array


def write_changes(changed: Rows, values: pa.Array, field: pa.Field) -> bytes:
    """The bytes of a patch's changes.

    ``changed`` are the positions, ascending, of replaced values of rows that are not inserted (those
    follow from the row map); ``values`` are all values, inserted ones too, by ascending position.
    """
    if not len(values):
        return b""
    gaps = np.diff(changed, prepend=-1) - 1
    return struct.pack("<II", len(values), len(changed)) + _pack_numbers(gaps) + _pack_values(values, field)


def read_changes(data: bytes | memoryview, inserted: Rows, rows: int, field: pa.Field) -> Changes:
    """The changes of a patch of so many rows, of which the ``inserted`` ones are none of a base.

    Raises Corruption where the bytes are none of such a patch.
    """
    if not len(data):
        if len(inserted):
            raise Corruption("a patch lacks the values of inserted rows")
        return Changes(np.empty(0, np.int64), pa.array([], field.type))
    reader = _Reader(data)
    count, replaced = struct.unpack("<II", reader.take(8))
    if count > rows or replaced + len(inserted) != count:
        raise Corruption("a patch has another number of values than of places for them")
    gaps = reader.numbers(replaced)
    # Gaps of fewer rows than there are cannot overflow, and places that follow gaps ascend.
    fits = int(gaps.max(initial=0)) < rows
    positions = np.cumsum(gaps.astype(np.int64) + 1) - 1 if fits else np.empty(0, np.int64)
    if replaced and (not fits or positions[-1] >= rows):
        raise Corruption("a patch replaces values that are not there")
    if len(inserted):
        positions = np.concatenate([positions, inserted])
        positions.sort()
        if (np.diff(positions) == 0).any():
            raise Corruption("a patch replaces values that are not there")
    values = _read_values(reader, count, field)
    if len(reader.rest()):
        raise Corruption("a patch is longer than it says")
    return Changes(positions, values)


def _pack_values(values: pa.Array, field: pa.Field) -> bytes:
    """Values in the shortest of a few forms, its number first."""
    t = field.type
    forms = []
    numbers = _integers(values)
    if numbers is not None:
        low = int(numbers.min(initial=np.iinfo(np.int64).max)) if len(numbers) else 0
        spread = numbers.view(np.uint64) - np.uint64(low % (1 << 64))
        forms.append(bytes((_INTEGERS,)) + _validity(values) + struct.pack("<q", low) + _pack_numbers(spread))
    decimal = _decimals(values) if pa.types.is_float32(t) or pa.types.is_float64(t) else None
    if decimal is not None:
        digits, numbers = decimal
        low = int(numbers.min())
        spread = (numbers - low).view(np.uint64)
        forms.append(
            bytes((_DECIMALS,)) + _validity(values) + struct.pack("<Bq", digits, low) + _pack_numbers(spread)
        )
    if not forms:
        content = value_bytes(values, field)
        forms.append(struct.pack("<BQ", _CONTENT, len(content)) + _squeeze(content))
        distinct = _distinct(values, field)
        if distinct is not None:
            forms.append(distinct)
    return min(forms, key=len)


def _read_values(reader: _Reader, count: int, field: pa.Field) -> pa.Array:
    kind = reader.take(1)[0]
    t = field.type
    if kind == _CONTENT:
        (size,) = struct.unpack("<Q", reader.take(8))
        values = read_content(reader.expand(reader.rest(), size), field)
    elif kind == _INTEGERS and t.id in _INTEGER_TYPES:
        bitmap, valid = _read_validity(reader, count)
        (low,) = struct.unpack("<q", reader.take(8))
        numbers = (reader.numbers(len(valid)) + np.uint64(low % (1 << 64))).view(np.int64)
        values = _placed(numbers.astype(f"i{t.bit_width // 8}"), valid, count, bitmap, t)
    elif kind == _DECIMALS and (pa.types.is_float32(t) or pa.types.is_float64(t)):
        bitmap, valid = _read_validity(reader, count)
        digits, low = struct.unpack("<Bq", reader.take(9))
        numbers = (reader.numbers(len(valid)) + np.uint64(low % (1 << 64))).view(np.int64)
        floats = (numbers.astype(np.float64) / 10.0**digits).astype(f"f{t.bit_width // 8}")
        values = _placed(floats, valid, count, bitmap, t)
    elif kind == _DISTINCT and not pa.types.is_nested(t):
        distinct, size, packed = struct.unpack("<IQI", reader.take(16))
        found = read_content(reader.expand(reader.take(packed), size), field.with_nullable(True))
        codes = reader.numbers(count).astype(np.int64)
        if len(found) != distinct or (count and int(codes.max()) >= distinct):
            raise Corruption("a patch names values that it does not have")
        values = found.take(pa.array(codes))
    else:
        raise Corruption(f"a patch has values of the unknown form {kind}")
    if len(values) != count:
        raise Corruption("a patch has another number of values than it says")
    return values


_INTEGER_TYPES = frozenset(
    (
        *(pa.lib.Type_INT8, pa.lib.Type_INT16, pa.lib.Type_INT32, pa.lib.Type_INT64),
        *(pa.lib.Type_UINT8, pa.lib.Type_UINT16, pa.lib.Type_UINT32, pa.lib.Type_UINT64),
        *(pa.lib.Type_DATE32, pa.lib.Type_TIME32, pa.lib.Type_TIME64, pa.lib.Type_TIMESTAMP),
    )
)


def _integers(values: pa.Array) -> Rows | None:
    """The values that are not null as 64-bit integers, if they are integers in some sense."""
    if values.type.id not in _INTEGER_TYPES:
        return None
    sign = "u" if pa.types.is_unsigned_integer(values.type) else "i"
    numbers = fixed(values.drop_null(), f"<{sign}{values.type.bit_width // 8}")
    return numbers.astype(np.uint64 if sign == "u" else np.int64, copy=False).view(np.int64)


def _decimals(values: pa.Array) -> tuple[int, Rows] | None:
    """Floats as integers over a power of ten, if that gives every bit back; and the power."""
    width = values.type.bit_width // 8
    floats = fixed(values.drop_null(), f"<f{width}")
    if not len(floats):
        return None
    wide = floats.astype(np.float64)
    if not np.isfinite(wide).all():
        return None
    bits = floats.view(f"u{width}")
    for digits in _DIGITS:
        scaled = np.rint(wide * 10.0**digits)
        if not (np.abs(scaled) < 1 << 53).all():
            return None
        if ((scaled.astype(np.int64) / 10.0**digits).astype(f"f{width}").view(f"u{width}") == bits).all():
            return digits, scaled.astype(np.int64)
    return None


def _distinct(values: pa.Array, field: pa.Field) -> bytes | None:
    """Each value once, and for every row the number of its value; None where few come up again."""
    t = field.type
    if pa.types.is_nested(t) or pa.types.is_boolean(t) or pa.types.is_null(t) or len(values) < 8:
        return None
    plain = values.view(_BITS[t.bit_width]) if pa.types.is_floating(t) else values
    coded = pc.dictionary_encode(plain, null_encoding="encode")
    if 3 * len(coded.dictionary) > len(values):
        return None
    found = coded.dictionary.view(t) if pa.types.is_floating(t) else coded.dictionary
    content = value_bytes(found, field.with_nullable(True))
    packed = _squeeze(content)
    codes = _pack_numbers(coded.indices.to_numpy(zero_copy_only=False))
    return struct.pack("<BIQI", _DISTINCT, len(found), len(content), len(packed)) + packed + codes


_BITS = {16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}


def _validity(values: pa.Array) -> bytes:
    """A mark, and where some are null the compressed bits that say which are not."""
    if not values.null_count:
        return b"\0"
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    packed = _squeeze(np.packbits(valid, bitorder="little").tobytes())
    return b"\1" + struct.pack("<I", len(packed)) + packed


def _read_validity(reader: _Reader, count: int) -> tuple[bytes | None, Rows]:
    """The bits of values that are not null, None for all, and where those are."""
    mark = reader.take(1)[0]
    if mark == 0:
        return None, np.arange(count)
    if mark != 1:
        raise Corruption("a patch has a mark that is none")
    (size,) = struct.unpack("<I", reader.take(4))
    bits = reader.expand(reader.take(size), (count + 7) // 8)
    valid = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[:count]
    return bits, np.flatnonzero(valid)


def _placed(
    numbers: np.ndarray[Any, Any], valid: Rows, count: int, bitmap: bytes | None, t: pa.DataType
) -> pa.Array:
    """An array of fixed width from the values that are not null, zeros in the slots of nulls."""
    if bitmap is not None:
        filled = np.zeros(count, numbers.dtype)
        filled[valid] = numbers
        numbers = filled
    return pa.Array.from_buffers(
        t,
        count,
        [None if bitmap is None else pa.py_buffer(bitmap), pa.py_buffer(np.ascontiguousarray(numbers))],
    )


# -- differences -----------------------------------------------------------------------------------


def differing(left: pa.Array, right: pa.Array) -> Flags:
    """Where two arrays of one stored type and length differ, bit for bit, as canonical content does."""
    t = left.type
    if pa.types.is_null(t) or not len(left):
        return np.zeros(len(left), np.bool_)
    there, theirs = _valid(left), _valid(right)
    differs: Flags = there != theirs
    both = there & theirs
    if pa.types.is_struct(t):
        for one, other in zip(left.flatten(), right.flatten(), strict=True):
            differs |= differing(one, other)
        return differs
    if pa.types.is_map(t) or pa.types.is_list(t) or pa.types.is_large_list(t):
        differs |= _differing_lists(left, right)
        return differs
    if t.id in _INTEGER_TYPES or pa.types.is_floating(t):
        kind = f"<u{t.bit_width // 8}"
        differs |= both & (fixed(left, kind) != fixed(right, kind))
        return differs
    unequal: Flags = pc.fill_null(pc.not_equal(left, right), False).to_numpy(zero_copy_only=False)
    differs |= both & unequal
    return differs


def _valid(array: pa.Array) -> Flags:
    if not array.null_count:
        return np.ones(len(array), np.bool_)
    flags: Flags = array.is_valid().to_numpy(zero_copy_only=False)
    return flags


def _differing_lists(left: pa.Array, right: pa.Array) -> Flags:
    lengths, elements = list_parts(left)
    other_lengths, other_elements = list_parts(right)
    differs: Flags = lengths != other_lengths
    same = ~differs & (lengths > 0)
    if not same.any():
        return differs
    if differs.any():
        elements = elements.filter(pa.array(np.repeat(same, lengths)))
        other_elements = other_elements.filter(pa.array(np.repeat(same, other_lengths)))
    pieces = elements.flatten() if pa.types.is_map(left.type) else [elements]
    others = other_elements.flatten() if pa.types.is_map(left.type) else [other_elements]
    wrong = np.zeros(len(elements), np.bool_)
    for one, other in zip(pieces, others, strict=True):
        wrong |= differing(one, other)
    kept = lengths[same]
    differs[same] = np.logical_or.reduceat(wrong, np.cumsum(kept) - kept)
    return differs
