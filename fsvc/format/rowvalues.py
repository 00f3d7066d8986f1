"""The values of Arrow arrays as cutting sees them: a hash and a number of bytes for each row.

The definitions are part of the frozen format and stand in the text of :mod:`fsvc.format.cutting`;
this module computes them, by whole arrays at a time. Buffers are read in place where they can be,
with regard to offsets, and without looking at what lies in the slots of nulls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fsvc.errors import InvalidUse, UnsupportedData
from fsvc.format.buffers import ends, fixed

__all__ = [
    "SLOT_BYTES",
    "Counts",
    "Words",
    "child_types",
    "element_type",
    "fixed_width",
    "has_value_words",
    "is_binary_like",
    "is_extension",
    "is_list_like",
    "most_row_bytes",
    "row_bytes",
    "row_hashes",
    "valid_rows",
]

type_ = pa.types

Words = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

SLOT_BYTES = 8  # what a value of varying length counts on top of its contents

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_NULL = np.uint64(0xD1B54A32D192ED03)

_HASHED_BYTES = 256
_HEAD_WORDS = 24  # 192 bytes from the front of a long string, the rest from its end

# Rows worked on at a time, so that the temporary arrays stay in the processor's cache.
_BLOCK = 32_768

# _KEPT[k] keeps the first k bytes of a little-endian word.
_KEPT = np.array([(1 << (8 * k)) - 1 for k in range(9)], dtype=np.uint64)


# Types ---------------------------------------------------------------------------------------


def is_binary_like(data_type: pa.DataType) -> bool:
    """Strings and binaries of varying length, in any layout."""
    return bool(
        type_.is_string(data_type)
        or type_.is_binary(data_type)
        or type_.is_large_string(data_type)
        or type_.is_large_binary(data_type)
        or _is_view(data_type)
    )


def _is_view(data_type: pa.DataType) -> bool:
    return bool(type_.is_string_view(data_type) or type_.is_binary_view(data_type))


def is_list_like(data_type: pa.DataType) -> bool:
    """Lists of varying length, maps included."""
    return bool(
        type_.is_list(data_type)
        or type_.is_large_list(data_type)
        or type_.is_list_view(data_type)
        or type_.is_large_list_view(data_type)
        or type_.is_map(data_type)
    )


def is_extension(data_type: pa.DataType) -> bool:
    """Extension types, whether written in Python or built into Arrow; they count as their storage."""
    return isinstance(data_type, pa.BaseExtensionType)


def has_value_words(data_type: pa.DataType) -> bool:
    """Whether values of this type have value words, and so can cut or be a key."""
    if is_extension(data_type):
        return has_value_words(data_type.storage_type)
    if type_.is_dictionary(data_type):
        return has_value_words(data_type.value_type)
    return is_binary_like(data_type) or (fixed_width(data_type) is not None and not type_.is_null(data_type))


def fixed_width(data_type: pa.DataType) -> int | None:
    """Bytes of a value of a primitive type of fixed width; None for all other types."""
    if type_.is_null(data_type):
        return 0
    if type_.is_boolean(data_type):
        return 1
    if type_.is_fixed_size_binary(data_type):
        return int(data_type.byte_width)
    # Dictionaries and intervals have a bit width too, but are no plain numbers.
    if type_.is_decimal(data_type) or (type_.is_primitive(data_type) and not type_.is_interval(data_type)):
        return int(data_type.bit_width) // 8
    return None


def child_types(data_type: pa.DataType) -> list[pa.DataType]:
    """The types of a struct's fields."""
    return [data_type.field(index).type for index in range(data_type.num_fields)]


def element_type(data_type: pa.DataType) -> pa.DataType:
    """The type of a list's elements; for a map that of its entries."""
    if type_.is_map(data_type):
        return pa.struct([pa.field("key", data_type.key_type), pa.field("value", data_type.item_type)])
    return data_type.value_type


# Reading Arrow arrays ----------------------------------------------------------------------------


def valid_rows(array: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Which values of ``array`` are not null, or None if all are.

    A dictionary's value is null also where its index names a null; an extension's nulls are its
    storage's. A NaN is not null.
    """
    if is_extension(array.type):
        return valid_rows(array.storage)
    if type_.is_null(array.type):
        return np.zeros(len(array), dtype=np.bool_) if len(array) else None
    valid = None
    if array.null_count:
        valid = _bits(array.buffers()[0], array.offset, len(array))
    if type_.is_dictionary(array.type):
        named = valid_rows(array.dictionary)
        if named is not None:
            reached = named[_indices(array, valid)] if len(named) else np.zeros(len(array), dtype=np.bool_)
            valid = reached if valid is None else reached & valid
            if valid.all():
                return None
    return valid


def _bits(buffer: pa.Buffer | None, offset: int, count: int) -> npt.NDArray[np.bool_]:
    """``count`` bits from bit ``offset`` on, one per element."""
    if buffer is None:
        return np.zeros(count, dtype=np.bool_)
    first = offset >> 3
    packed = np.frombuffer(buffer, dtype=np.uint8, offset=first, count=((offset + count + 7) >> 3) - first)
    bits = np.unpackbits(packed, bitorder="little")
    return bits[offset & 7 :][:count].view(np.bool_)


def _indices(array: pa.Array, valid: npt.NDArray[np.bool_] | None) -> Counts:
    """The indices of a dictionary array, 0 where ``valid`` (of the indices) is False."""
    width = array.type.index_type.bit_width // 8
    kind = "u" if type_.is_unsigned_integer(array.type.index_type) else "i"
    indices = fixed(array, f"<{kind}{width}").astype(np.int64, copy=False)
    return indices if valid is None else np.where(valid, indices, 0)


def _spans(array: pa.Array, valid: npt.NDArray[np.bool_] | None) -> tuple[Counts, Counts]:
    """Where each value of a binary or list array starts in its data, and its length (0 for a null)."""
    data_type = array.type
    if type_.is_list_view(data_type) or type_.is_large_list_view(data_type):
        kind = "<i8" if type_.is_large_list_view(data_type) else "<i4"
        starts = fixed(array, kind, 1).astype(np.int64, copy=False)
        lengths = fixed(array, kind, 2).astype(np.int64, copy=False)
        if valid is not None:
            starts = np.where(valid, starts, 0)
    else:
        offsets = ends(array).astype(np.int64, copy=False)
        starts, lengths = offsets[:-1], np.diff(offsets)
    if valid is not None:
        lengths = np.where(valid, lengths, 0)
    return starts, lengths


# Row hashes --------------------------------------------------------------------------------------


def row_hashes(columns: Sequence[pa.Array]) -> Words:
    """The row hash of each row of the given cut columns, as the module's text defines it.

    The columns are at least one, all of one length; the result has one uint64 per row.
    Raises :class:`InvalidUse` for no columns, unequal lengths or types without value words.
    """
    if not columns:
        raise InvalidUse("rows can only be hashed by at least one column")
    rows = len(columns[0])
    if any(len(column) != rows for column in columns):
        raise InvalidUse("columns of different lengths cannot be hashed together")
    hashes: Words | None = None
    for column in columns:
        hashes = _fold(hashes, _value_words(column))
    assert hashes is not None
    return hashes


def _fold(states: Words | None, words: Words) -> Words:
    """``fold`` of each state and word; no states stand for zeros. Reuses the array of states."""
    result = np.empty(len(words), dtype=np.uint64) if states is None else states
    scratch = np.empty(min(_BLOCK, len(words)), dtype=np.uint64)
    for start in range(0, len(words), _BLOCK):
        part = result[start : start + _BLOCK]
        source = words[start : start + _BLOCK]
        if states is not None:
            source = np.bitwise_xor(part, source, out=part)
        _finalise(source, part, scratch[: len(part)])
    return result


def _finalise(source: Words, target: Words, scratch: Words) -> None:
    """The part of ``fold`` after the exclusive or, from ``source`` into ``target`` (may be the same)."""
    np.add(source, _GAMMA, out=target)
    np.right_shift(target, _S30, out=scratch)
    np.bitwise_xor(target, scratch, out=target)
    np.multiply(target, _FIRST, out=target)
    np.right_shift(target, _S27, out=scratch)
    np.bitwise_xor(target, scratch, out=target)
    np.multiply(target, _SECOND, out=target)
    np.right_shift(target, _S31, out=scratch)
    np.bitwise_xor(target, scratch, out=target)


def _value_words(array: pa.Array) -> Words:
    """The value word of each value; may be a read-only view of the array's own memory."""
    data_type = array.type
    if is_extension(data_type):
        return _value_words(array.storage)
    if not has_value_words(data_type):
        raise InvalidUse(f"values of type {data_type} cannot be hashed")
    if not len(array):
        return np.zeros(0, dtype=np.uint64)
    if type_.is_dictionary(data_type):
        return _dictionary_words(array)
    valid = valid_rows(array)
    if is_binary_like(data_type) or type_.is_fixed_size_binary(data_type):
        words = _binary_words(array, valid)
    elif type_.is_boolean(data_type):
        words = _bits(array.buffers()[1], array.offset, len(array)).astype(np.uint64)
    else:
        words = _number_words(array)
    return words if valid is None else np.where(valid, words, _NULL)


def _dictionary_words(array: pa.Array) -> Words:
    dictionary = array.dictionary
    if len(dictionary) > 2 * len(array) and not _is_view(dictionary.type):
        # A short piece of an array with a large dictionary: look only at what it names.
        return _value_words(dictionary.take(array.indices))
    valid = _bits(array.buffers()[0], array.offset, len(array)) if array.null_count else None
    named = _value_words(dictionary)
    if not len(named):
        return np.full(len(array), _NULL)
    words: Words = named[_indices(array, valid)]
    return words if valid is None else np.where(valid, words, _NULL)


def _number_words(array: pa.Array) -> Words:
    data_type = array.type
    width = data_type.bit_width // 8
    if width > 8:
        parts = fixed(array, "<u8", per_row=width // 8).reshape(len(array), width // 8)
        words: Words | None = None
        for part in range(width // 8):
            words = _fold(words, parts[:, part])
        assert words is not None
        return words
    # Integers that carry a sign are extended by it; floats are taken as bits.
    unsigned = type_.is_unsigned_integer(data_type) or type_.is_floating(data_type)
    numbers = fixed(array, f"<{'u' if unsigned else 'i'}{width}")
    wide = np.uint64 if unsigned else np.int64
    return numbers.astype(wide, copy=False).view(np.uint64)


def _binary_words(array: pa.Array, valid: npt.NDArray[np.bool_] | None) -> Words:
    data_type = array.type
    if _is_view(data_type):
        array = array.cast(pa.large_binary())
        data_type = array.type
    if type_.is_fixed_size_binary(data_type):
        width = int(data_type.byte_width)
        starts = np.arange(array.offset, array.offset + len(array), dtype=np.int64) * width
        lengths = np.full(len(array), width, dtype=np.int64)
        if valid is not None:
            lengths = np.where(valid, lengths, 0)
        buffer = array.buffers()[1]
    else:
        starts, lengths = _spans(array, valid)
        buffer = array.buffers()[2]
    data = np.frombuffer(buffer if buffer is not None else b"", dtype=np.uint8)
    if len(data) < 8:
        data = np.concatenate([data, np.zeros(8 - len(data), dtype=np.uint8)])
    # Every byte of the data starts an (unaligned) word, so a gather reads any eight bytes.
    anywhere = np.ndarray(shape=(len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))
    words = np.empty(len(array), dtype=np.uint64)
    for first in range(0, len(words), _BLOCK):
        part = slice(first, first + _BLOCK)
        _fold_bytes(anywhere, starts[part], lengths[part], words[part])
    return words


def _fold_bytes(anywhere: Words, starts: Counts, lengths: Counts, result: Words) -> None:
    """Write the byte word of each value into ``result``; ``anywhere[i]`` is the word at byte i."""
    np.multiply(lengths.view(np.uint64), _GAMMA, out=result)
    hashed = np.minimum(lengths, _HASHED_BYTES)
    shortest, longest = int(hashed.min()), int(hashed.max())
    scratch = np.empty(len(result), dtype=np.uint64)
    active: npt.NDArray[np.intp] | None = None  # the rows that have this many words; None for all
    for index in range((longest + 7) // 8):
        at = index * 8
        if shortest <= at:
            # The shorter values are done: go on with those that are left, in arrays of their own.
            rest = np.flatnonzero(hashed > at)
            if len(rest) < len(hashed):
                active = rest if active is None else active[rest]
                starts, lengths, hashed = starts[rest], lengths[rest], hashed[rest]
            shortest = int(hashed.min())
        places = starts + at
        if index >= _HEAD_WORDS:
            places += lengths - hashed
        words = _gather(anywhere, places)
        if shortest < at + 8:
            np.bitwise_and(words, _KEPT[np.minimum(hashed - at, 8)], out=words)
        spare = scratch[: len(words)]
        if active is None:
            np.bitwise_xor(words, result, out=words)
            _finalise(words, result, spare)
        else:
            np.bitwise_xor(words, result[active], out=words)
            _finalise(words, words, spare)
            result[active] = words


def _gather(anywhere: Words, places: Counts) -> Words:
    """The words that start at the given bytes; past the end of the data they hold zeros."""
    last = len(anywhere) - 1
    if int(places.max()) <= last:
        return anywhere[places]
    # The word would reach past the end: read the last whole one, and shift the wanted bytes down.
    words = anywhere[np.minimum(places, last)]
    late = np.flatnonzero(places > last)
    words[late] >>= ((places[late] - last) * 8).view(np.uint64)
    return words


# Row bytes ---------------------------------------------------------------------------------------


def row_bytes(column: pa.Array) -> int | Counts:
    """The row bytes of a column: one number if its type says it, else an int64 per row.

    Raises :class:`UnsupportedData` for types that have no row bytes.
    """
    constant = _constant_bytes(column.type)
    return _varying_bytes(column) if constant is None else constant


def most_row_bytes(column: pa.Array) -> int | None:
    """No value of a column has more row bytes than this: where it is quickly found, as for text; else None."""
    if type_.is_dictionary(column.type):
        return most_row_bytes(column.dictionary)
    if (
        is_extension(column.type)
        or not is_binary_like(column.type)
        or _is_view(column.type)
        or not len(column)
    ):
        return None
    return int(np.diff(ends(column)).max()) + SLOT_BYTES


def _constant_bytes(data_type: pa.DataType) -> int | None:
    """Row bytes of every value of the type, or None where they depend on the value."""
    if is_extension(data_type):
        return _constant_bytes(data_type.storage_type)
    if type_.is_dictionary(data_type):
        return _constant_bytes(data_type.value_type)
    if type_.is_fixed_size_list(data_type):
        element = _constant_bytes(data_type.value_type)
        return None if element is None else element * int(data_type.list_size)
    if type_.is_struct(data_type):
        total = 0
        for child in child_types(data_type):
            size = _constant_bytes(child)
            if size is None:
                return None
            total += size
        return total
    return fixed_width(data_type)


def _null_bytes(data_type: pa.DataType) -> int:
    """Row bytes of a null of the type."""
    if is_extension(data_type):
        return _null_bytes(data_type.storage_type)
    if type_.is_dictionary(data_type):
        return _null_bytes(data_type.value_type)
    if type_.is_fixed_size_list(data_type):
        return int(data_type.list_size) * _null_bytes(data_type.value_type)
    if type_.is_struct(data_type):
        return sum(_null_bytes(child) for child in child_types(data_type))
    width = fixed_width(data_type)
    return SLOT_BYTES if width is None else width


def _varying_bytes(array: pa.Array) -> Counts:
    """Row bytes per row, in an array of its own, for a type where they depend on the value."""
    data_type = array.type
    rows = len(array)
    if is_extension(data_type):
        return _varying_bytes(array.storage)
    if type_.is_dictionary(data_type):
        valid = _bits(array.buffers()[0], array.offset, rows) if array.null_count else None
        if not len(array.dictionary):
            return np.full(rows, _null_bytes(data_type), dtype=np.int64)
        sizes = _per_row(array.dictionary)[_indices(array, valid)]
    else:
        valid = valid_rows(array)
        if _is_view(data_type):
            # A view is 16 bytes, of which the first four are the length.
            lengths = fixed(array, "<i4", per_row=4)[::4].astype(np.int64)
            sizes = lengths + SLOT_BYTES
        elif is_binary_like(data_type):
            sizes = _spans(array, valid)[1] + SLOT_BYTES
        elif is_list_like(data_type):
            sizes = _list_bytes(array, valid) + SLOT_BYTES
        elif type_.is_fixed_size_list(data_type):
            length = int(data_type.list_size)
            elements = array.values.slice(array.offset * length, rows * length)
            sizes = _per_row(elements).reshape(rows, length).sum(axis=1)
        elif type_.is_struct(data_type):
            sizes = np.zeros(rows, dtype=np.int64)
            for index in range(data_type.num_fields):
                sizes += row_bytes(array.field(index))
        else:
            raise UnsupportedData(f"values of type {data_type} cannot be measured")
    if valid is not None:
        sizes[~valid] = _null_bytes(data_type)
    return sizes


def _per_row(array: pa.Array) -> Counts:
    size = row_bytes(array)
    return np.full(len(array), size, dtype=np.int64) if isinstance(size, int) else size


def _list_bytes(array: pa.Array, valid: npt.NDArray[np.bool_] | None) -> Counts:
    """The row bytes of the elements of each list; 0 for a null."""
    starts, lengths = _spans(array, valid)
    element = _constant_bytes(element_type(array.type))
    if element is not None:
        return lengths * element
    if not len(array):
        return lengths
    # Only the stretch of elements that is pointed at; the array may be a small piece of a large one.
    filled = lengths > 0
    if not filled.any():
        return np.zeros(len(array), dtype=np.int64)
    first = int(starts[filled].min())
    last = int((starts + lengths)[filled].max())
    sums = np.zeros(last - first + 1, dtype=np.int64)
    np.cumsum(_per_row(array.values.slice(first, last - first)), out=sums[1:])
    begin = np.where(filled, starts - first, 0)
    return sums[begin + lengths] - sums[begin]
