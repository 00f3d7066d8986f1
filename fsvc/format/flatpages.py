"""Pages of flat columns that are written here and not by pyarrow: behind a sorted dictionary, or plain.

Every group has a dictionary of its own, so in columns of many numbers it is a large part of the chunk. pyarrow
takes values as they appear. In ascending order neighbours share their leading bits, and zstd makes the dictionary
half as large or less; the indices take what they took (docs/decisions/0022-sorted-dictionaries.md). Text keeps its
order, which saves nothing there. Plain pages without compression are what chunks are thawed to; made here they cost
a fraction.

Pages are of version 1, as Encodings.md of the Parquet format says: PLAIN values, or definition levels and indices in
the RLE hybrid behind a page of PLAIN values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import zstandard

from fsvc.format import footer, thrift
from fsvc.format.buffers import ends
from fsvc.format.footer import LeafMeta
from fsvc.format.rowvalues import is_binary_like
from fsvc.format.thrift import FALSE, I32, I64, LIST, STRUCT, TRUE

__all__ = ["Coded", "code", "dictionary_pages", "is_flat", "plain_page"]

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

# Of parquet.thrift: Type, Encoding, CompressionCodec and PageType.
_PHYSICAL = {"<i4": 1, "<i8": 2, "<f4": 4, "<f8": 5}
_BYTE_ARRAY = 6
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_ZSTD = 6
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
# The field of PageHeader that describes a page of each type.
_HEADER = {_DATA_PAGE: 5, _DICTIONARY_PAGE: 7}

_WIDEST = 16
"""The most bits of an index: groups rarely have more rows, and dictionaries of more values do not pay."""

_TEMPORAL = (
    pa.lib.Type_DATE32,
    pa.lib.Type_TIME32,
    pa.lib.Type_TIME64,
    pa.lib.Type_TIMESTAMP,
)


@dataclass(frozen=True, slots=True)
class Coded:
    """A chunk as what its different values are (none twice, no null), and the place of each cell's that is not null."""

    values: pa.Array
    indices: Numbers
    ascending: bool


def is_flat(t: pa.DataType) -> bool:
    """Whether chunks of a stored type can have such pages: numbers of up to 64 bits, times, text, bytes."""
    return is_binary_like(t) or _is_number(t)


def _is_number(t: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(t) or pa.types.is_float32(t) or pa.types.is_float64(t) or t.id in _TEMPORAL
    )


def code(array: pa.Array) -> Coded | None:
    """A chunk in stored form of such a type; None where it has no values, or more than indices reach."""
    present = array.drop_null() if array.null_count else array
    number = _is_number(array.type)
    if number:
        # By their bits: to Arrow 0.0 and -0.0 are equal, and so is every NaN.
        present = present.view(_INTEGERS[array.type.bit_width])
    coded = present.dictionary_encode()
    if not 0 < len(coded.dictionary) <= 1 << _WIDEST:
        return None
    indices = coded.indices.to_numpy()
    if not number:
        return Coded(coded.dictionary, indices.astype(np.uint64), False)
    values = coded.dictionary.view(array.type)
    order = np.argsort(_numbers(values))
    ranks = np.empty(len(order), np.uint64)
    ranks[order] = np.arange(len(order), dtype=np.uint64)
    return Coded(values.take(pa.array(order)), ranks[indices], True)


_INTEGERS = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


def plain_page(array: pa.Array, *, nullable: bool) -> bytes:
    """A chunk in stored form of such a type as one plain page without compression."""
    present = array.drop_null() if array.null_count else array
    body = (_levels(array) if nullable else b"") + _plain(present)[1]
    return _header(_DATA_PAGE, _values(len(array), _PLAIN), len(body), len(body)) + body


def dictionary_pages(
    coded: Coded, array: pa.Array, *, nullable: bool, statistics: thrift.Struct, level: int
) -> tuple[LeafMeta, bytes]:
    """The metadata and the pages of a chunk, compressed with zstd; ``statistics`` are the fields of its Statistics."""
    width = max(1, (len(coded.values) - 1).bit_length())
    physical, plain = _plain(coded.values)
    body = [_levels(array)] if nullable else []
    body += [bytes((width,)), *_bit_packed(coded.indices, width)]
    compressor = zstandard.ZstdCompressor(level=level)
    sorted_flag = (TRUE, True) if coded.ascending else (FALSE, False)
    dictionary_page, dictionary_raw = _page(
        _DICTIONARY_PAGE,
        {1: (I32, len(coded.values)), 2: (I32, _PLAIN), 3: sorted_flag},
        plain,
        compressor,
    )
    data_page, data_raw = _page(
        _DATA_PAGE,
        _values(len(array), _RLE_DICTIONARY),
        b"".join(body),
        compressor,
    )
    counts = [_one_page(_DICTIONARY_PAGE, _PLAIN), _one_page(_DATA_PAGE, _RLE_DICTIONARY)]
    fields: thrift.Struct = {
        1: (I32, physical),
        2: (LIST, (I32, [_PLAIN, _RLE, _RLE_DICTIONARY])),
        4: (I32, _ZSTD),
        5: (I64, len(array)),
        6: (I64, dictionary_raw + data_raw),
        7: (I64, len(dictionary_page) + len(data_page)),
        12: (STRUCT, statistics),
        13: (LIST, (STRUCT, counts)),
    }
    return footer.make_leaf(fields, 0, len(dictionary_page)), dictionary_page + data_page


def _numbers(array: pa.Array) -> Numbers:
    """Values without nulls as numbers in the order of their type: times as the integers that count them."""
    if array.type.id in _TEMPORAL:
        array = array.view(_INTEGERS[array.type.bit_width])
    numbers: Numbers = array.to_numpy()
    return numbers


def _plain(values: pa.Array) -> tuple[int, bytes]:
    """Values without nulls as Parquet has them: the number of their physical type, and their PLAIN encoding."""
    if is_binary_like(values.type):
        return _BYTE_ARRAY, _plain_bytes(values)
    numbers = _numbers(values)
    if numbers.dtype.kind != "f":
        numbers = numbers.astype("<i4") if numbers.itemsize < 4 else numbers.view(f"<i{numbers.itemsize}")
    return _PHYSICAL[numbers.dtype.str], numbers.tobytes()


def _plain_bytes(values: pa.Array) -> bytes:
    """Each value's bytes behind their number in four bytes."""
    offsets = ends(values)
    lengths = np.diff(offsets).astype("<u4")
    first, last = int(offsets[0]), int(offsets[-1])
    out = np.empty(last - first + 4 * len(values), np.uint8)
    starts = (offsets[:-1] - first).astype(np.int64) + 4 * np.arange(len(values))
    prefix = (starts[:, None] + np.arange(4)).reshape(-1)
    out[prefix] = lengths.view(np.uint8)
    if last > first:
        rest = np.ones(len(out), np.bool_)
        rest[prefix] = False
        out[rest] = np.frombuffer(values.buffers()[2], np.uint8, last - first, first)
    return out.tobytes()


def _levels(array: pa.Array) -> bytes:
    """The definition levels of a column that may hold nulls, behind their length: one bit each."""
    if array.null_count == 0:
        levels = thrift.varint(len(array) << 1) + b"\1"
    else:
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        levels = _packed_header(len(array)) + np.packbits(valid, bitorder="little").tobytes()
    return len(levels).to_bytes(4, "little") + levels


def _packed_header(count: int) -> bytes:
    """What goes before a bit-packed run of the RLE hybrid, which has whole groups of eight."""
    return thrift.varint(-(-count // 8) << 1 | 1)


def _bit_packed(indices: Numbers, width: int) -> tuple[bytes, bytes]:
    """64-bit indices as one bit-packed run of ``width`` bits each, the first one in the lowest bits."""
    eights = np.zeros((-(-len(indices) // 8), 8), np.uint64)
    eights.reshape(-1)[: len(indices)] = indices
    # Eight indices are width bytes. Each half of them fits a word; joined, the halves fill two words at most.
    low, high = (_half(eights[:, i : i + 4], width) for i in (0, 4))
    words = np.empty((len(eights), 2), "<u8")
    shift = 4 * width
    if shift < 64:
        words[:, 0] = low | high << np.uint64(shift)
        words[:, 1] = high >> np.uint64(64 - shift)
    else:
        words[:, 0], words[:, 1] = low, high
    return _packed_header(len(indices)), words.view(np.uint8)[:, :width].tobytes()


def _half(fours: Numbers, width: int) -> Numbers:
    """Four indices in the low bits of a word each."""
    words: Numbers = fours[:, 0].copy()
    for i in range(1, 4):
        words |= fours[:, i] << np.uint64(i * width)
    return words


def _page(
    kind: int, header: thrift.Struct, body: bytes, compressor: zstandard.ZstdCompressor
) -> tuple[bytes, int]:
    """A page with its header, and how long both are without compression."""
    compressed = compressor.compress(body)
    start = _header(kind, header, len(body), len(compressed))
    return start + compressed, len(start) + len(body)


def _header(kind: int, header: thrift.Struct, raw: int, stored: int) -> bytes:
    """A PageHeader, for a page of so many bytes before and after compression."""
    return thrift.write_struct(
        {1: (I32, kind), 2: (I32, raw), 3: (I32, stored), _HEADER[kind]: (STRUCT, header)}
    )


def _values(count: int, encoding: int) -> thrift.Struct:
    """The DataPageHeader of a page of so many values, nulls included."""
    return {1: (I32, count), 2: (I32, encoding), 3: (I32, _RLE), 4: (I32, _RLE)}


def _one_page(kind: int, encoding: int) -> thrift.Struct:
    """An entry of ColumnMetaData.encoding_stats."""
    return {1: (I32, kind), 2: (I32, encoding), 3: (I32, 1)}
