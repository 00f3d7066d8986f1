"""Cells compared bit by bit, whole columns at a time.

Two cells are equal if they have equal canonical content: a NaN equals a NaN of the same bits, -0.0 is not
0.0, and a null equals a null and nothing else. All arrays are in stored form (:mod:`fsvc.format.stored`);
text and bytes of any layout compare as bytes, lists of any layout as lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.errors import UnsupportedData
from fsvc.format.buffers import fixed
from fsvc.format.categories import is_list
from fsvc.format.rowvalues import Counts, valid_rows
from fsvc.format.stored import list_parts

__all__ = ["Flags", "RowCodes", "codes", "converts", "differing", "match", "meaning", "picked", "repeated"]

Flags = npt.NDArray[np.bool_]

_NULL = -1
_LARGEST = 1 << 62


# What types have in common -------------------------------------------------------------------------


def meaning(t: pa.DataType) -> pa.DataType:
    """A type that stands for all those whose stored values mean the same.

    Columns of one meaning are compared value by value as they are stored. Layouts, dictionaries,
    extensions, time zones, and names and nullability of children have no say; units and scales have.
    """
    if isinstance(t, pa.BaseExtensionType):
        return meaning(t.storage_type)
    if pa.types.is_dictionary(t):
        return meaning(t.value_type)
    if (
        pa.types.is_string(t)
        or pa.types.is_large_string(t)
        or pa.types.is_string_view(t)
        or pa.types.is_binary(t)
        or pa.types.is_large_binary(t)
        or pa.types.is_binary_view(t)
    ):
        return pa.large_binary()
    if pa.types.is_timestamp(t):
        return pa.timestamp("ms" if t.unit == "s" else t.unit)
    if t == pa.time32("s"):
        return pa.time32("ms")
    if pa.types.is_decimal(t) and not pa.types.is_decimal256(t):
        return pa.decimal128(38, t.scale)
    if pa.types.is_decimal(t):
        return pa.decimal256(76, t.scale)
    if pa.types.is_map(t):
        return pa.map_(meaning(t.key_type), meaning(t.item_type))
    if is_list(t):
        return pa.large_list(pa.field("element", meaning(t.value_type)))
    if pa.types.is_struct(t):
        return pa.struct([pa.field(str(i), meaning(child.type)) for i, child in enumerate(t.fields)])
    return t


def converts(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether values of types of different meaning can be the same: numbers, or times of one kind."""
    one, other = meaning(one), meaning(other)

    def number(t: pa.DataType) -> bool:
        return bool(pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t))

    return (number(one) and number(other)) or any(
        kind(one) and kind(other)
        for kind in (pa.types.is_timestamp, pa.types.is_time)
    )  # fmt: skip


# Where two columns differ --------------------------------------------------------------------------


def differing(left: pa.Array, right: pa.Array) -> Flags:
    """Which cells of two columns of one length differ.

    The types have one meaning, or convert into each other: then cells are the same if each is what the
    other becomes.
    """
    found: Flags
    if meaning(left.type) != meaning(right.type):
        return _differing_after_conversion(left, right)
    ours, theirs = valid_rows(left), valid_rows(right)
    if ours is None and theirs is None:
        return _unequal(left, right)
    ours = np.ones(len(left), np.bool_) if ours is None else ours
    theirs = np.ones(len(right), np.bool_) if theirs is None else theirs
    found = (ours != theirs) | (ours & theirs & _unequal(left, right))
    return found


def _differing_after_conversion(left: pa.Array, right: pa.Array) -> Flags:
    try:
        there = left.cast(right.type, safe=False)
        back = there.cast(left.type, safe=False)
    except pa.ArrowException:
        return _both_not_null(left, right)
    return differing(there, right) | differing(back, left)


def _both_not_null(left: pa.Array, right: pa.Array) -> Flags:
    valid = [
        np.ones(len(array), np.bool_) if (found := valid_rows(array)) is None else found
        for array in (left, right)
    ]
    return valid[0] | valid[1]


def _unequal(left: pa.Array, right: pa.Array) -> Flags:
    """Which cells differ in value; what comes out where one is null has no meaning."""
    t = left.type
    if pa.types.is_null(t):
        return np.zeros(len(left), np.bool_)
    if pa.types.is_nested(t):
        both = codes(_joined([left, right]))
        different: Flags = both[: len(left)] != both[len(left) :]
        return different
    if pa.types.is_boolean(t) or _is_bytes(t):
        if _is_bytes(t):
            left, right = _as_bytes(left), _as_bytes(right)
        found: Flags = (
            pc.fill_null(pc.not_equal(left, right), False).to_numpy(zero_copy_only=False).astype(np.bool_)
        )
        return found
    width = t.byte_width
    ours, theirs = (_raw(array, width) for array in (left, right))
    different = (ours != theirs) if ours.ndim == 1 else (ours != theirs).any(axis=1)
    return different


def _raw(array: pa.Array, width: int) -> npt.NDArray[Any]:
    """The values of a column of fixed width as unsigned numbers, or rows of bytes."""
    if width in (1, 2, 4, 8):
        return fixed(array, f"<u{width}")
    return fixed(array, np.uint8, per_row=width).reshape(len(array), width)


def _is_bytes(t: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(t)
        or pa.types.is_large_string(t)
        or pa.types.is_binary(t)
        or pa.types.is_large_binary(t)
    )


def _as_bytes(array: pa.Array) -> pa.Array:
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        array = array.view(pa.binary() if pa.types.is_string(array.type) else pa.large_binary())
    return array if pa.types.is_large_binary(array.type) else array.cast(pa.large_binary())


# Equal cells by number -----------------------------------------------------------------------------


def codes(array: pa.Array) -> Counts:
    """A number for each cell: equal numbers where the cells are equal, -1 for null."""
    t = array.type
    if pa.types.is_null(t):
        return np.full(len(array), _NULL)
    if pa.types.is_struct(t):
        inner = combined([codes(child) for child in array.flatten()], len(array))
    elif is_list(t) or pa.types.is_map(t):
        # A list is the text of its elements' numbers.
        lengths, elements = list_parts(array)
        if pa.types.is_map(t):
            numbers = combined([codes(child) for child in elements.flatten()], len(elements))
        else:
            numbers = codes(elements)
        offsets = np.zeros(len(array) + 1, np.int64)
        np.cumsum(lengths * 8, out=offsets[1:])
        texts = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(array), [None, pa.py_buffer(offsets), pa.py_buffer(numbers.tobytes())]
        )
        inner = _encoded(texts)
    else:
        return _encoded(_flat(array))
    valid = valid_rows(array)
    return inner if valid is None else np.where(valid, inner, _NULL)


def _encoded(array: pa.Array) -> Counts:
    indices = pc.dictionary_encode(array).indices
    if indices.null_count:
        indices = pc.fill_null(indices, _NULL)
    numbers: Counts = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def combined(columns: Sequence[Counts], rows: int) -> Counts:
    """A number of 0 or more for each row, equal where all the columns' numbers are."""
    result, size = np.zeros(rows, np.int64), 1
    for column in columns:
        width = int(column.max(initial=_NULL)) + 2
        if size > _LARGEST // width:
            result = _encoded(pa.array(result))
            size = int(result.max(initial=0)) + 1
        result = result * width + (column + 1)
        size *= width
    return result


class RowCodes:
    """Numbers the rows of two tables by what they say, column by column: equal rows, equal numbers."""

    def __init__(self, left: int, right: int) -> None:
        self._left = left
        self._result = np.zeros(left + right, np.int64)

    def add(self, left: pa.Array, right: pa.Array) -> None:
        """Take one column of both tables in."""
        both = codes(_joined([left, right]))
        # Numbered anew each time, so that numbers stay below the number of rows.
        self._result = _encoded(pa.array(combined([self._result, both], len(both))))

    def finish(self) -> tuple[Counts, Counts]:
        """The numbers of the rows of both tables; the same row again counts as another one.

        So the n-th of some equal rows on one side has the number of the n-th on the other.
        """
        sides = self._result[: self._left], self._result[self._left :]
        again = np.concatenate([_occurrences(side) for side in sides])
        both = combined([self._result, again], len(again))
        return both[: self._left], both[self._left :]


def _occurrences(numbers: Counts) -> Counts:
    """For each number, how often it stood there before."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]] if len(ordered) else np.zeros(0, np.bool_)
    place = np.arange(len(ordered))
    found = np.empty(len(numbers), np.int64)
    found[order] = place - np.maximum.accumulate(np.where(first, place, 0)) if len(ordered) else place
    return found


def match(left: Sequence[pa.Array], right: Sequence[pa.Array]) -> Counts:
    """For each row of some columns, where the same row stands among others', or -1.

    ``left`` and ``right`` are the same columns of both sides, one meaning each. Of several equal rows on
    the right the first is given.
    """
    if len(left) == 1 and not pa.types.is_nested(left[0].type):
        ours, theirs = _flat(left[0]), _flat(right[0])
    else:
        numbers = [codes(_joined(list(pair))) for pair in zip(left, right, strict=True)]
        both = combined(numbers, len(left[0]) + len(right[0]))
        ours, theirs = pa.array(both[: len(left[0])]), pa.array(both[len(left[0]) :])
    found = pc.fill_null(pc.index_in(ours, value_set=theirs), _NULL)
    places: Counts = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return places


def repeated(columns: Sequence[pa.Array]) -> tuple[int, int] | None:
    """Two rows that are the same in all columns, the first such pair by its second row; None without any."""
    first = match(columns, columns)
    again = np.flatnonzero(first != np.arange(len(first)))
    return (int(first[again[0]]), int(again[0])) if len(again) else None


def _flat(array: pa.Array) -> pa.Array:
    """A column that is not nested, in a type that its meaning alone decides, equal where the bits are."""
    t = array.type
    if _is_bytes(t):
        return _as_bytes(array)
    if pa.types.is_decimal(t):
        return array.view(pa.binary(t.byte_width))
    if pa.types.is_floating(t) or pa.types.is_temporal(t):
        return array.view({2: pa.uint16(), 4: pa.uint32(), 8: pa.uint64()}[t.byte_width])
    return array


def _joined(arrays: Sequence[pa.Array]) -> pa.Array:
    """Arrays of one meaning one after the other."""
    if any(array.type != arrays[0].type for array in arrays):
        arrays = [_plain(array) for array in arrays]
    return pa.concat_arrays(arrays)


def _plain(array: pa.Array) -> pa.Array:
    """An array in a type that its meaning alone decides, nested ones too."""
    t = array.type
    if not pa.types.is_nested(t):
        return _flat(array)
    valid = valid_rows(array)
    mask = None if valid is None else pa.array(~valid)
    if pa.types.is_struct(t):
        children = [_plain(array.field(i)) for i in range(t.num_fields)]
        return pa.StructArray.from_arrays(children, [str(i) for i in range(t.num_fields)], mask=mask)
    lengths, elements = list_parts(array)
    offsets = np.zeros(len(array) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return pa.LargeListArray.from_arrays(pa.array(offsets), _plain(elements), mask=mask)


# Picking -------------------------------------------------------------------------------------------


def picked(array: pa.Array, places: Counts) -> pa.Array:
    """The cells at some places, null where the place is negative. Raises UnsupportedData where Arrow cannot."""
    absent = places < 0
    indices = pa.array(np.where(absent, 0, places), mask=absent if absent.any() else None)
    if not len(array):
        return pa.nulls(len(places), array.type)
    try:
        return array.take(indices)
    except pa.ArrowException as error:
        raise UnsupportedData(f"rows cannot be picked from a column of type {array.type}: {error}") from error
