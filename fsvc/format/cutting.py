"""Where the rows of a table are cut into row groups: part of the frozen format.

Cuts follow from what the rows say, not from where they stand, so rows inserted or deleted in one
place leave the cuts far away alone. Everything here is a pure function of values and schema: neither
batching, slicing, offsets, validity bitmaps nor the Arrow layout of a value has any say. A change to
any number below changes the ids of snapshots; golden tests hold them.

The rest of this text is the specification. All arithmetic is on unsigned 64-bit integers, modulo
2**64; ``^`` is exclusive or, ``>>`` a logical shift; bytes become integers little-endian.

**Fold.** One primitive mixes a word ``w`` into a state ``h``. It is the finaliser of SplitMix64
(Steele, Lea, Flood 2014; constants by Stafford, "Mix13") after an increment by the golden ratio::

    fold(h, w):
        z = (h ^ w) + 0x9E3779B97F4A7C15
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB
        return z ^ (z >> 31)

**Value word.** Each value of a cut column becomes one word:

=====================================================  ======================================================
value                                                  word
=====================================================  ======================================================
null, of any type                                      ``0xD1B54A32D192ED03``
bool                                                   0 or 1
int8..int64, date32, date64, time32, time64,           the stored integer, sign-extended (two's complement),
timestamp, duration, decimal32, decimal64              so an integer keeps its word when its type is widened
uint8..uint64                                          the integer, zero-extended
float16, float32, float64                              the IEEE bits, zero-extended: -0.0 is not 0.0, and
                                                       each NaN payload is its own value
decimal128                                             ``fold(fold(0, w0), w1)``: w0..w1 (or w0..w3) are the
decimal256                                             words of the two's complement integer, lowest first;
                                                       for decimal256 folded on through w2 and w3
string, binary (also large, also view),                *byte word* of the value's bytes
fixed_size_binary
dictionary                                             that of the decoded value; null where the index is
                                                       null or the value it names is null
extension                                              that of its storage
=====================================================  ======================================================

Units, time zones, scales and precisions have no influence. Nested types, null, run-end-encoded, union
and interval types have no value word.

**Byte word** of a value of ``n`` bytes: let ``h = n * 0x9E3779B97F4A7C15``. If n is more than 256,
only the first 192 and the last 64 bytes are used, as one string of 256 bytes. The bytes are read as
8-byte words from the left, the last one filled up with zero bytes; ``h = fold(h, w)`` for each in
turn. The empty string has the word 0.

**Row hash**: ``h = 0``; ``h = fold(h, v)`` for the value word ``v`` of each cut column in order.
Examples: the int64 0 hashes to ``0xE220A8397B1DCDAF``, the string "abc" to ``0x8A90BC87081B050F``.

**Row bytes** of a value, by its type:

====================================================  =======================================================
type                                                  bytes of one value
====================================================  =======================================================
null                                                  0
bool                                                  1
all other fixed-width types, fixed_size_binary        their width, whether null or not
string, binary (also large, also view)                8 + length in bytes; null: 8
list, large_list, list_view, large_list_view, map     8 + those of the elements (an entry of a map counts as
                                                      a struct of key and value); null: 8
fixed_size_list                                       those of the elements; null: as if all of them were null
struct                                                those of the fields; null: as if all of them were null
dictionary                                            those of the decoded value
extension                                             those of the storage
====================================================  =======================================================

**Parameters** are a fixed function of schema and key (:func:`cut_parameters`). Cut columns: the key
in its own order if there is one; else the first column of an identifier-like type (integer, string
or binary of any layout, fixed_size_binary, date32, date64, timestamp, decimal); else the first column
that has value words at all; else none. An extension counts as its storage. The *estimated width* of a
row is the row bytes with the following put in place of what only values say: 32 for a string or
binary, 8 + 8 times its element for a list or map (the element of a map is key plus value). T is the
largest power of two from 16 to 65,536 with T times the estimated width at most 67,108,864, or 16 if
there is none. Then ``minimum = T/2``, ``mask_bits = log2(T/2)``, ``maximum = 2*T`` and ``cap_bytes =
67,108,864``; groups have T rows in the mean if hashes are evenly spread.

**Counted bytes** of a row: the sum, over *all* columns, of what the value's row bytes are more than the
column's share of the estimated width, where they are more. Parameters allow for the estimate already; so
columns of fixed width and short texts count nothing, and cuts stay when such a column is added or dropped.

**Rule.** Rows are taken in order. A boundary falls after a row as soon as, for the group that ends
with this row, at least one of these holds:

- it has at least ``minimum`` rows, and the low ``mask_bits`` bits of the row's hash are all zero;
- its counted bytes come to at least half of ``cap_bytes``, and the low ``b`` bits of the row's hash are
  all zero, where the group had r rows when its counted bytes first came to that half, and b is the
  integer part of log2(r) less 3, but at least 0 and at most ``mask_bits``;
- it has ``maximum`` rows;
- its counted bytes come to at least ``cap_bytes``.

The second is what keeps cuts a matter of content where rows are wider than the schema lets expect:
a group meets 8 to 16 rows in the mean that may end it before it is full. Without cut columns the first
two do not apply. The rows after the last boundary, if any, are the last
group. An empty table has no groups. (A group thus passes ``cap_bytes`` by one row at most.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fsvc.errors import Corruption, InvalidUse, KeyViolation, UnsupportedData
from fsvc.format import names
from fsvc.format.rowvalues import (
    SLOT_BYTES,
    Counts,
    Words,
    child_types,
    element_type,
    fixed_width,
    has_value_words,
    is_binary_like,
    is_extension,
    is_list_like,
    most_row_bytes,
    row_bytes,
    row_hashes,
    valid_rows,
)

__all__ = [
    "CutParameters",
    "Cutter",
    "counted_bytes",
    "cut_parameters",
    "row_bytes",
    "row_hashes",
    "valid_rows",
]

type_ = pa.types

CAP_BYTES = 64 * 1024 * 1024
LARGEST_MEAN_ROWS = 65_536
SMALLEST_MEAN_ROWS = 16
ASSUMED_STRING_BYTES = 32
ASSUMED_LIST_LENGTH = 8


# Parameters ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CutParameters:
    """How one snapshot is cut; see the module's text for what the numbers mean.

    Raises :class:`InvalidUse` for numbers that make no rule: ``1 <= minimum <= maximum``,
    ``0 <= mask_bits <= 63``, ``cap_bytes >= 1``.
    """

    columns: tuple[str, ...]
    minimum: int
    mask_bits: int
    maximum: int
    cap_bytes: int

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum < 1 << 63:
            raise InvalidUse(f"cut parameters cannot have minimum {self.minimum} and maximum {self.maximum}")
        if not 0 <= self.mask_bits <= 63:
            raise InvalidUse(f"cut parameters cannot have {self.mask_bits} mask bits")
        if not 1 <= self.cap_bytes < 1 << 63:
            raise InvalidUse(f"cut parameters cannot have a cap of {self.cap_bytes} bytes")

    def to_json(self) -> dict[str, Any]:
        """The parameters as plain lists, strings and integers, for canonical JSON."""
        return {
            "columns": list(self.columns),
            "minimum": self.minimum,
            "mask_bits": self.mask_bits,
            "maximum": self.maximum,
            "cap_bytes": self.cap_bytes,
        }

    @classmethod
    def from_json(cls, value: object) -> CutParameters:
        """The inverse of :meth:`to_json`; :class:`Corruption` for anything it would not have made."""
        numbers = ("minimum", "mask_bits", "maximum", "cap_bytes")
        if not isinstance(value, dict) or set(value) != {"columns", *numbers}:
            raise Corruption("cut parameters do not have the fields that they must have")
        columns = value["columns"]
        if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
            raise Corruption("cut parameters do not name their columns in a list of strings")
        for name in numbers:
            if type(value[name]) is not int:
                raise Corruption(f"cut parameters hold a {name} that is not an integer")
        try:
            return cls(tuple(columns), *(value[name] for name in numbers))
        except InvalidUse as error:
            raise Corruption(error.message) from None


def cut_parameters(schema: pa.Schema, key: Sequence[str] = ()) -> CutParameters:
    """The parameters for tables of ``schema`` (in normal form) with the key columns ``key``.

    Raises :class:`KeyViolation` for a key column that does not exist or whose type cannot be a key
    (nested or null), :class:`InvalidUse` for one named twice, and :class:`UnsupportedData` for a
    schema with types that have no row bytes.
    """
    width = sum(_estimated_bytes(field.type, field.name) for field in schema)
    mean = LARGEST_MEAN_ROWS
    while mean > SMALLEST_MEAN_ROWS and mean * width > CAP_BYTES:
        mean //= 2
    return CutParameters(
        columns=_cut_columns(schema, tuple(key)),
        minimum=mean // 2,
        mask_bits=(mean // 2).bit_length() - 1,
        maximum=mean * 2,
        cap_bytes=CAP_BYTES,
    )


def _cut_columns(schema: pa.Schema, key: tuple[str, ...]) -> tuple[str, ...]:
    for position, name in enumerate(key):
        if name in key[:position]:
            raise InvalidUse(f"the key names column {name!r} twice")
        found = schema.get_all_field_indices(name)
        if not found:
            near = names.nearest(name, schema.names)
            raise KeyViolation(
                f"key column {name!r} is not in the table",
                hint=f"did you mean {near[0]!r}?" if near else None,
            )
        if len(found) > 1:
            raise KeyViolation(f"key column {name!r} is in the table {len(found)} times")
        data_type = schema.field(found[0]).type
        if not has_value_words(data_type):
            raise KeyViolation(
                f"column {name!r} of type {data_type} cannot be a key",
                hint="Key columns hold plain values: numbers, strings, bytes, dates or times.",
            )
    if key:
        return key
    for accepts in (_is_identifier_like, has_value_words):
        for field in schema:
            if accepts(field.type):
                return (field.name,)
    return ()


def _is_identifier_like(data_type: pa.DataType) -> bool:
    if is_extension(data_type):
        return _is_identifier_like(data_type.storage_type)
    return bool(
        type_.is_integer(data_type)
        or is_binary_like(data_type)
        or type_.is_fixed_size_binary(data_type)
        or type_.is_date(data_type)
        or type_.is_timestamp(data_type)
        or type_.is_decimal(data_type)
    )


def _estimated_bytes(data_type: pa.DataType, column: str) -> int:
    if is_extension(data_type):
        return _estimated_bytes(data_type.storage_type, column)
    if type_.is_dictionary(data_type):
        return _estimated_bytes(data_type.value_type, column)
    if (width := fixed_width(data_type)) is not None:
        return width
    if is_binary_like(data_type):
        return ASSUMED_STRING_BYTES
    if is_list_like(data_type):
        return SLOT_BYTES + ASSUMED_LIST_LENGTH * _estimated_bytes(element_type(data_type), column)
    if type_.is_fixed_size_list(data_type):
        return int(data_type.list_size) * _estimated_bytes(data_type.value_type, column)
    if type_.is_struct(data_type):
        return sum(_estimated_bytes(child, column) for child in child_types(data_type))
    raise UnsupportedData(f"column {column!r} is of type {data_type}, which cannot be cut into row groups")


def counted_bytes(columns: Sequence[pa.Array]) -> int | Counts:
    """What the rows of a batch count towards the limit of bytes, as :meth:`Cutter.find` takes it.

    One number if it is the same for all rows. Raises :class:`UnsupportedData` for types that have no
    row bytes.
    """
    counted: Counts | None = None
    for column in columns:
        most = most_row_bytes(column)
        if most is not None and most <= _estimated_bytes(column.type, ""):
            continue
        size = row_bytes(column)
        if isinstance(size, int) or not len(size):
            continue
        assumed = _estimated_bytes(column.type, "")
        if int(size.max()) <= assumed:
            continue
        beyond = np.maximum(size - assumed, 0)
        counted = beyond if counted is None else counted + beyond
    return 0 if counted is None else counted


# Cutting -----------------------------------------------------------------------------------------


class Cutter:
    """Finds the boundaries of row groups in a stream of rows, however the rows are batched.

    Feed the batches in order to :meth:`find`. ``rows`` counts the rows fed so far, ``start`` is the
    row at which the open group begins: the rows from ``start`` to ``rows`` are the last group if
    the stream ends here (none if the two are equal).
    """

    def __init__(self, parameters: CutParameters) -> None:
        self.parameters = parameters
        self.rows = 0
        self.start = 0
        self._open_bytes = 0
        self._open_bits: int | None = None  # b of the rule, once the open group has half its bytes
        self._mask = np.uint64((1 << parameters.mask_bits) - 1)

    def find(self, rows: int, hashes: Words | None, sizes: int | Counts) -> list[int]:
        """The ends of the groups that are completed by the next ``rows`` rows.

        ``hashes`` are their row hashes (:func:`row_hashes` of the cut columns), None exactly if there
        are no cut columns; ``sizes`` are their counted bytes (:func:`counted_bytes` of all columns), one
        number if all rows have the same. An end is the number of rows, counted from the first row of
        the stream, that lie before the boundary; each lies within the rows just fed.
        Raises :class:`InvalidUse` if the arguments do not fit together.
        """
        parameters = self.parameters
        if (hashes is None) == bool(parameters.columns):
            raise InvalidUse("hashes are needed for cutting exactly if there are cut columns")
        if any(len(given) != rows for given in (hashes, sizes) if isinstance(given, np.ndarray)):
            raise InvalidUse("hashes and sizes must be of as many rows as are cut")
        candidates = np.zeros(0, dtype=np.intp)
        if hashes is not None:
            candidates = np.flatnonzero(hashes & self._mask == 0)
        limits = _ByteLimits(rows, sizes, self._open_bytes, self._half)

        base = self.rows
        ends: list[int] = []
        group = self.start - base  # the first row of the open group, counted from this batch: 0 or less
        while True:
            last = min(group + parameters.maximum - 1, limits.reached(max(group, 0), parameters.cap_bytes))
            place = int(np.searchsorted(candidates, group + parameters.minimum - 1))
            if place < len(candidates):
                last = min(last, int(candidates[place]))
            if hashes is not None:
                last = self._end_in_second_half(hashes, group, last, limits)
            if last >= rows:
                break
            group = last + 1
            self._open_bits = None
            ends.append(base + group)
        self.rows = base + rows
        self.start = base + group
        self._open_bytes = limits.upto(rows, max(group, 0))
        return ends

    @property
    def _half(self) -> int:
        return -(-self.parameters.cap_bytes // 2)

    def _end_in_second_half(self, hashes: Words, group: int, last: int, limits: _ByteLimits) -> int:
        """Where a group ends that would end at ``last``, if it may end before by half its bytes.

        Remembers the mask for the batches to come where the group has reached that half.
        """
        first = 0
        if self._open_bits is None:
            first = limits.reached(max(group, 0), self._half)
            if first >= len(hashes):
                return last
            rows = first - group + 1
            self._open_bits = min(max(rows.bit_length() - 4, 0), self.parameters.mask_bits)
        mask = np.uint64((1 << self._open_bits) - 1)
        hits = np.flatnonzero(hashes[first : last + 1] & mask == 0)
        return first + int(hits[0]) if len(hits) else last


class _ByteLimits:
    """Sums of row bytes within one batch, whose first rows may go on with an open group."""

    def __init__(self, rows: int, sizes: int | Counts, open_bytes: int, least: int) -> None:
        self._rows = rows
        self._open = open_bytes
        self._size = sizes if isinstance(sizes, int) else 0
        self._sizes = None if isinstance(sizes, int) else sizes
        self._total = 0 if self._sizes is None else int(self._sizes.sum())
        self._sums: Counts | None = None
        # Running sums cost more than one sum, and mostly no group of a batch comes near a limit;
        # ``least`` is the lowest limit that will be asked for.
        if self._sizes is not None and open_bytes + self._total >= least:
            self._sums = np.cumsum(self._sizes)

    def reached(self, first: int, limit: int) -> int:
        """The row at which a group has ``limit`` bytes whose first row in this batch is ``first``."""
        before = self._open if first == 0 else 0
        if self._size:
            return first + max(-(-(limit - before) // self._size), 1) - 1
        if self._sums is None:
            return self._rows
        passed = int(self._sums[first - 1]) if first else 0
        return int(np.searchsorted(self._sums, passed + limit - before))

    def upto(self, rows: int, first: int) -> int:
        """The row bytes so far of a group whose first row in this batch is ``first``."""
        before = self._open if first == 0 else 0
        if self._size:
            return before + (rows - first) * self._size
        if self._sizes is None:
            return before
        return before + (int(self._sizes[first:].sum()) if first else self._total)
