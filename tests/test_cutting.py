"""Cutting: the frozen functions against a plain reference, and their independence of how rows arrive."""

from __future__ import annotations

import itertools
import math
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fsvc.errors import Corruption, InvalidUse, KeyViolation, UnsupportedData
from fsvc.format.cutting import (
    CutParameters,
    Cutter,
    counted_bytes,
    cut_parameters,
    row_bytes,
    row_hashes,
    valid_rows,
)

# The specification once more, a row at a time ------------------------------------------------------

WORD = (1 << 64) - 1
NULL_WORD = 0xD1B54A32D192ED03


def fold(h: int, w: int) -> int:
    z = ((h ^ w) + 0x9E3779B97F4A7C15) & WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def byte_word(data: bytes) -> int:
    h = (len(data) * 0x9E3779B97F4A7C15) & WORD
    if len(data) > 256:
        data = data[:192] + data[-64:]
    for start in range(0, len(data), 8):
        h = fold(h, int.from_bytes(data[start : start + 8].ljust(8, b"\0"), "little"))
    return h


def value_word(value: Any) -> int:
    """The word of an int (at most 64 bits wide), bool, bytes, str or None."""
    if value is None:
        return NULL_WORD
    if isinstance(value, str):
        return byte_word(value.encode())
    if isinstance(value, bytes):
        return byte_word(value)
    return int(value) & WORD


def row_hash(*words: int) -> int:
    h = 0
    for word in words:
        h = fold(h, word)
    return h


def hashes_of(*values: Any) -> list[int]:
    return [row_hash(value_word(value)) for value in values]


def found(*columns: pa.Array) -> list[int]:
    return [int(value) for value in row_hashes(columns)]


def reference_bytes(data_type: pa.DataType, value: Any) -> int:
    """Row bytes from Python values."""
    if isinstance(data_type, pa.BaseExtensionType):
        return reference_bytes(data_type.storage_type, value)
    if pa.types.is_dictionary(data_type):
        return reference_bytes(data_type.value_type, value)
    if pa.types.is_struct(data_type):
        names = [data_type.field(i) for i in range(data_type.num_fields)]
        return sum(reference_bytes(f.type, None if value is None else value[f.name]) for f in names)
    if pa.types.is_fixed_size_list(data_type):
        items = [None] * data_type.list_size if value is None else value
        return sum(reference_bytes(data_type.value_type, item) for item in items)
    if pa.types.is_map(data_type):
        pairs = value or []
        return 8 + sum(
            reference_bytes(data_type.key_type, k) + reference_bytes(data_type.item_type, v) for k, v in pairs
        )
    if pa.types.is_nested(data_type):
        return 8 + sum(reference_bytes(data_type.value_type, item) for item in value or [])
    if pa.types.is_null(data_type):
        return 0
    if pa.types.is_boolean(data_type):
        return 1
    try:
        return int(data_type.bit_width) // 8
    except ValueError:
        return 8 + (0 if value is None else len(value.encode() if isinstance(value, str) else value))


def reference_cuts(
    parameters: CutParameters, hashes: list[int] | None, sizes: list[int], rows: int
) -> list[int]:
    ends: list[int] = []
    start = 0
    total = 0
    mask = (1 << parameters.mask_bits) - 1
    narrow: int | None = None
    for row in range(rows):
        count = row + 1 - start
        total += sizes[row]
        if narrow is None and 2 * total >= parameters.cap_bytes:
            narrow = (1 << min(max(int(math.log2(count)) - 3, 0), parameters.mask_bits)) - 1
        matches = hashes is not None and hashes[row] & mask == 0
        if (
            (count >= parameters.minimum and matches)
            or (narrow is not None and hashes is not None and hashes[row] & narrow == 0)
            or count >= parameters.maximum
            or total >= parameters.cap_bytes
        ):
            ends.append(row + 1)
            start, total, narrow = row + 1, 0, None
    return ends


# Arrays of one content in many forms -----------------------------------------------------------------


class Tagged(pa.ExtensionType):  # type: ignore[misc]
    """An extension of any storage; left unregistered."""

    def __init__(self, storage: pa.DataType) -> None:
        super().__init__(storage, "fsvc.test.tagged")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Tagged:
        return cls(storage)


def bitmap(flags: list[bool], offset: int) -> pa.Buffer:
    bits = np.packbits(np.array([True] * offset + flags, dtype=np.bool_), bitorder="little")
    return pa.py_buffer(bits.tobytes())


def with_bitmap(array: pa.Array, flags: list[bool]) -> pa.Array:
    """``array`` (without nulls) with its values as they are, but null where ``flags`` is False."""
    buffers = array.buffers()
    return pa.Array.from_buffers(
        array.type, len(array), [bitmap(flags, array.offset), *buffers[1:]], offset=array.offset
    )


def forms(values: list[Any], data_type: pa.DataType, junk: Any) -> list[pa.Array]:
    """One content in as many forms as its type has; ``junk`` is any value, for slots that don't count."""
    plain = pa.array(values, data_type)
    around = pa.array([junk, None, junk, *values, None, junk], data_type)
    filled = pa.array([junk if value is None else value for value in [junk, *values, junk]], data_type)
    flags = [value is not None for value in values]
    dictionary = pa.DictionaryArray.from_arrays(
        pa.array([None if value is None else index + 1 for index, value in enumerate(values)], pa.int16()),
        pa.array([junk, *values], data_type),
    )
    all_forms = [
        plain,
        around.slice(3, len(values)),
        with_bitmap(filled.slice(1, len(values)), flags),
        dictionary,
        pa.concat_arrays([dictionary.slice(0, 0), dictionary]).slice(0),
        pa.ExtensionArray.from_storage(Tagged(data_type), plain),
        # The dictionary itself holds the null, and is far larger than the array.
        pa.DictionaryArray.from_arrays(
            pa.array(range(len(values)), pa.uint8()), pa.array([*values, *[junk] * 300], data_type)
        ),
        pa.DictionaryArray.from_arrays(pa.array(range(len(values)), pa.uint8()), plain),
    ]
    if all(flags):
        all_forms.append(with_bitmap(around.slice(3, len(values)), flags))
    return all_forms


INTEGERS = [
    (pa.int8(), 8, True),
    (pa.int16(), 16, True),
    (pa.int32(), 32, True),
    (pa.int64(), 64, True),
    (pa.uint8(), 8, False),
    (pa.uint16(), 16, False),
    (pa.uint32(), 32, False),
    (pa.uint64(), 64, False),
]


@st.composite
def integer_columns(draw: st.DrawFn) -> tuple[pa.DataType, list[int | None]]:
    data_type, bits, signed = draw(st.sampled_from(INTEGERS))
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return data_type, draw(st.lists(st.none() | st.integers(low, high), max_size=20))


def lengths_of_interest() -> st.SearchStrategy[bytes]:
    exact = st.sampled_from([0, 1, 7, 8, 9, 15, 16, 17, 191, 192, 193, 255, 256, 257, 264, 300])
    return exact.flatmap(lambda n: st.binary(min_size=n, max_size=n)) | st.binary(max_size=40)


# Row hashes -----------------------------------------------------------------------------------------


@given(integer_columns())
def test_integers_hash_by_their_value_in_every_form(column: tuple[pa.DataType, list[int | None]]) -> None:
    data_type, values = column
    for array in forms(values, data_type, 77):
        assert found(array) == hashes_of(*values)


@given(st.lists(st.none() | st.booleans(), max_size=40))
def test_booleans_hash_in_every_form(values: list[bool | None]) -> None:
    for array in forms(values, pa.bool_(), True):
        assert found(array) == hashes_of(*values)


@given(st.lists(st.none() | lengths_of_interest(), max_size=12))
@example([b"x" * 256 + b"y", b"x" * 257, b"x" * 191 + b"z" + b"x" * 64, b"x" * 192 + b"z" + b"x" * 65])
def test_binaries_hash_by_their_bytes_in_every_form_and_layout(values: list[bytes | None]) -> None:
    for data_type in (pa.binary(), pa.large_binary()):
        for array in forms(values, data_type, b"something else altogether"):
            assert found(array) == hashes_of(*values)
    view = pa.array([b"junk", *values], pa.binary_view())[1:]
    assert found(view) == hashes_of(*values)
    assert found(pa.ExtensionArray.from_storage(Tagged(view.type), view)) == hashes_of(*values)


@given(st.lists(st.none() | st.text(max_size=30), max_size=12))
def test_strings_hash_by_their_utf8_bytes_in_every_form_and_layout(values: list[str | None]) -> None:
    for data_type in (pa.string(), pa.large_string()):
        for array in forms(values, data_type, "something else"):
            assert found(array) == hashes_of(*values)
    assert found(pa.array(["junk", *values], pa.string_view())[1:]) == hashes_of(*values)
    assert found(pa.array(values, pa.binary())) == hashes_of(*values)


@given(
    st.integers(0, 20).flatmap(lambda n: st.lists(st.none() | st.binary(min_size=n, max_size=n), max_size=9))
)
def test_fixed_size_binaries_hash_as_binaries(values: list[bytes | None]) -> None:
    width = next((len(value) for value in values if value is not None), 3)
    for array in forms(values, pa.binary(width), b"j" * width):
        assert found(array) == hashes_of(*values)


@given(st.lists(st.none() | st.integers(0, WORD), max_size=12))
def test_floats_hash_by_their_bits(bits: list[int | None]) -> None:
    for width, data_type in ((16, pa.float16()), (32, pa.float32()), (64, pa.float64())):
        words = [None if value is None else value & ((1 << width) - 1) for value in bits]
        stored = np.array([value or 0 for value in words], dtype=f"<u{width // 8}")
        array = pa.Array.from_buffers(
            data_type, len(bits), [bitmap([w is not None for w in words], 0), pa.py_buffer(stored)]
        )
        assert found(array) == hashes_of(*words)
    zeros = found(pa.array([0.0, -0.0]))
    assert zeros[0] != zeros[1]


@given(st.lists(st.none() | st.integers(-(1 << 31), (1 << 31) - 1), max_size=12))
def test_dates_times_and_small_decimals_hash_by_their_stored_integer(values: list[int | None]) -> None:
    short, long = pa.array(values, pa.int32()), pa.array(values, pa.int64())
    for data_type in (pa.date32(), pa.time32("s"), pa.time32("ms")):
        assert found(short.view(data_type)) == hashes_of(*values)
    for data_type in (
        pa.date64(),
        pa.time64("us"),
        pa.time64("ns"),
        *(pa.timestamp(unit, tz) for unit in ("s", "ms", "us", "ns") for tz in (None, "Europe/Berlin")),
        *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
    ):
        assert found(long.view(data_type)) == hashes_of(*values)
    small = [None if value is None else Decimal(value % 10**9) for value in values]
    for data_type in (pa.decimal32(9, 0), pa.decimal64(18, 0)):
        assert found(pa.array(small, data_type)) == hashes_of(*small)


@given(st.lists(st.none() | st.integers(-(10**38) + 1, 10**38 - 1), max_size=12))
def test_wide_decimals_hash_by_their_words(values: list[int | None]) -> None:
    decimals = [None if value is None else Decimal(value) for value in values]
    for data_type, words in ((pa.decimal128(38, 0), 2), (pa.decimal256(76, 0), 4)):
        expected = []
        for value in values:
            word = NULL_WORD
            if value is not None:
                word = 0
                for part in range(words):
                    word = fold(word, (value >> (64 * part)) & WORD)
            expected.append(row_hash(word))
        for array in forms(decimals, data_type, Decimal(5)):
            assert found(array) == expected


def test_scale_has_no_influence_on_hashes() -> None:
    assert found(pa.array([Decimal("1.25")], pa.decimal128(9, 2))) == found(
        pa.array([Decimal(125)], pa.decimal128(20, 0))
    )


@given(st.lists(st.tuples(st.none() | st.integers(-5, 5), st.none() | st.text(max_size=9)), max_size=9))
def test_columns_fold_in_order(rows: list[tuple[int | None, str | None]]) -> None:
    numbers = pa.array([row[0] for row in rows], pa.int64())
    names = pa.array([row[1] for row in rows], pa.string())
    assert found(numbers, names) == [row_hash(value_word(a), value_word(b)) for a, b in rows]
    assert found(names, numbers) == [row_hash(value_word(b), value_word(a)) for a, b in rows]
    assert numbers.equals(pa.array([row[0] for row in rows], pa.int64()))  # hashing leaves its input alone


def test_hashes_are_frozen() -> None:
    text = "The quick brown fox jumps over the lazy dog"
    when = pa.array([1_700_000_000_000_000], pa.int64()).view(pa.timestamp("us", "UTC"))
    golden: list[tuple[list[pa.Array], int]] = [
        ([pa.array([0])], 0xE220A8397B1DCDAF),
        ([pa.array([1])], 0x910A2DEC89025CC1),
        ([pa.array([-1])], 0xE4D971771B652C20),
        ([pa.array([None], pa.int8())], 0x2D0F28C7E7E786B2),
        ([pa.array([True])], 0x910A2DEC89025CC1),
        ([pa.array([1.5])], 0xD6DAB18E1392608A),
        ([pa.array([1.5], pa.float32())], 0x555B738727E4A1CF),
        ([when], 0xB7B8B1FCBDA40E0F),
        ([pa.array([Decimal("-12345678901234567890.5")])], 0x87EF0C99CA573007),
        ([pa.array([Decimal("-12345678901234567890.5")], pa.decimal256(40, 1))], 0xB266B398FB57F3E0),
        ([pa.array([""])], 0xE220A8397B1DCDAF),
        ([pa.array(["abc"])], 0x8A90BC87081B050F),
        ([pa.array([text])], 0xA4B72AECF24BC0D2),
        ([pa.array([text * 10])], 0xE5F19BB3830ACE80),
        ([pa.array([b"\x00" * 16], pa.binary(16))], 0xA42408B9AF4CBC76),
        ([pa.array([42]), pa.array(["x"])], 0xAEE166FD34AB4F97),
        ([pa.array(["x"]), pa.array([42])], 0x7915107F972F28D5),
    ]
    assert [found(*columns) for columns, _ in golden] == [[value] for _, value in golden]


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_value_hashes_alike_at_any_place_in_its_buffer(length: int, before: int) -> None:
    # The data buffer ends with the value, in a memory block of just that size.
    data = bytes(i * 7 % 256 for i in range(before + length))
    offsets = pa.py_buffer(struct.pack("<2i", before, before + length))
    array = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(data)])
    assert found(array) == hashes_of(data[before:])


def test_long_arrays_hash_like_their_pieces() -> None:
    # More rows than are worked on at a time, of very different lengths.
    generator = np.random.default_rng(5)
    lengths = generator.integers(0, 40, 70_000)
    lengths[::1000] = generator.integers(200, 400, 70)
    strings = pa.array(["ab" * int(n) for n in lengths])
    numbers = pa.array(generator.integers(-9, 9, 70_000), mask=generator.random(70_000) < 0.1)
    whole = row_hashes([numbers, strings])
    pieces = [
        row_hashes([numbers[start : start + 777], strings[start : start + 777]])
        for start in range(0, 70_000, 777)
    ]
    assert np.array_equal(whole, np.concatenate(pieces))
    for row in range(0, 70_000, 997):
        words = value_word(numbers[row].as_py()), value_word(strings[row].as_py())
        assert whole[row] == row_hash(*words)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(range(200_000)),
        pa.array([f"user-{i}" for i in range(200_000)]),
        pa.array(range(200_000)).cast(pa.decimal128(38, 0)),
    ],
    ids=["integers", "strings", "decimals"],
)
def test_consecutive_values_spread_evenly(column: pa.Array) -> None:
    hashes = row_hashes([column])
    assert len(np.unique(hashes)) == len(hashes)
    for bits in (np.uint64(0xFF), np.uint64(0xFF << 56)):
        counts = np.unique(hashes & bits, return_counts=True)[1]
        assert len(counts) == 256
        # 781 expected in each; a deviation by 6 sigma does not happen by chance.
        assert np.abs(counts - 781.25).max() < 6 * 28


@pytest.mark.parametrize(
    "data_type",
    [pa.null(), pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.map_(pa.string(), pa.int8())],
)
def test_types_without_value_words_are_refused(data_type: pa.DataType) -> None:
    with pytest.raises(InvalidUse, match="cannot be hashed"):
        row_hashes([pa.array([None], data_type)])


def test_hashing_needs_columns_of_one_length() -> None:
    with pytest.raises(InvalidUse):
        row_hashes([])
    with pytest.raises(InvalidUse):
        row_hashes([pa.array([1]), pa.array([1, 2])])


def test_indices_under_nulls_are_not_followed() -> None:
    indices = with_bitmap(pa.array([0, 1 << 40, -7, 1]), [True, False, False, True])
    for values in (["a", "bb"], ["a", None]):
        column = pa.DictionaryArray.from_arrays(indices, pa.array(values), safe=False)
        assert found(column) == hashes_of(values[0], None, None, values[1])
        assert sizes_of(column) == [9, 8, 8, 8 + len(values[1] or "")]
        assert valid_rows(column).tolist() == [True, False, False, values[1] is not None]  # type: ignore[union-attr]


def test_empty_dictionary_of_nulls() -> None:
    empty = pa.DictionaryArray.from_arrays(pa.array([None, None], pa.int8()), pa.array([], pa.string()))
    assert found(empty) == hashes_of(None, None)
    assert row_bytes(empty).tolist() == [8, 8]  # type: ignore[union-attr]


@given(st.lists(st.none() | st.integers(0, 9), max_size=30), st.integers(0, 30))
def test_valid_rows(values: list[int | None], start: int) -> None:
    expected = [value is not None for value in values[start:]]
    for array in forms(values, pa.int32(), 3):
        valid = valid_rows(array.slice(start))
        assert (all(expected) and valid is None) or valid.tolist() == expected  # type: ignore[union-attr]


def test_all_of_a_null_column_is_null() -> None:
    assert valid_rows(pa.nulls(2)).tolist() == [False, False]  # type: ignore[union-attr]
    assert valid_rows(pa.array([float("nan")])) is None


# Row bytes ------------------------------------------------------------------------------------------

LEAVES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.null(), st.none()),
    (pa.bool_(), st.booleans()),
    (pa.int16(), st.integers(0, 99)),
    (pa.float16(), st.just(np.float16(1))),
    (pa.float64(), st.floats()),
    (pa.date64(), st.just(0)),
    (pa.timestamp("ns"), st.integers(0, 99)),
    (pa.time32("s"), st.integers(0, 99)),
    (pa.decimal32(5, 1), st.just(Decimal(1))),
    (pa.decimal256(50, 1), st.just(Decimal(1))),
    (pa.binary(5), st.just(b"12345")),
    (pa.string(), st.text(max_size=20)),
    (pa.large_string(), st.text(max_size=20)),
    (pa.string_view(), st.text(max_size=20)),
    (pa.binary(), st.binary(max_size=20)),
    (pa.large_binary(), st.binary(max_size=20)),
    (pa.binary_view(), st.binary(max_size=20)),
    (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["", "one", "three"])),
    (pa.dictionary(pa.uint32(), pa.int16()), st.integers(0, 3)),
]


def nested(
    inner: st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]],
) -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    def lists(kind: Any) -> Any:
        return lambda of: (kind(of[0]), st.lists(st.none() | of[1], max_size=3))

    def fixed(of: tuple[pa.DataType, st.SearchStrategy[Any]]) -> tuple[pa.DataType, st.SearchStrategy[Any]]:
        return pa.list_(of[0], 2), st.lists(st.none() | of[1], min_size=2, max_size=2)

    def fields(of: list[tuple[pa.DataType, st.SearchStrategy[Any]]]) -> Any:
        named = [(f"f{i}", each) for i, each in enumerate(of)]
        return (
            pa.struct([(name, each[0]) for name, each in named]),
            st.fixed_dictionaries({name: st.none() | each[1] for name, each in named}),
        )

    def maps(of: tuple[pa.DataType, st.SearchStrategy[Any]]) -> tuple[pa.DataType, st.SearchStrategy[Any]]:
        pairs = st.tuples(st.text(max_size=3), st.none() | of[1])
        return pa.map_(pa.string(), of[0]), st.lists(pairs, max_size=3)

    return st.one_of(
        *(inner.map(lists(kind)) for kind in (pa.list_, pa.large_list, pa.list_view, pa.large_list_view)),
        inner.map(fixed),
        inner.map(maps),
        st.lists(inner, max_size=3).map(fields),
    )


@st.composite
def columns_of_any_type(draw: st.DrawFn) -> tuple[pa.DataType, list[Any]]:
    data_type, values = draw(st.recursive(st.sampled_from(LEAVES), nested, max_leaves=4))
    return data_type, draw(st.lists(st.none() | values, max_size=8))


def sizes_of(array: pa.Array) -> list[int]:
    sizes = row_bytes(array)
    return [sizes] * len(array) if isinstance(sizes, int) else sizes.tolist()


@given(columns_of_any_type(), st.integers(0, 8), st.integers(0, 8))
def test_row_bytes_agree_with_the_values(
    column: tuple[pa.DataType, list[Any]], start: int, stop: int
) -> None:
    data_type, values = column
    expected = [reference_bytes(data_type, value) for value in values]
    array = pa.array(values, data_type)
    assert sizes_of(array) == expected
    piece = array.slice(start, max(stop - start, 0))
    assert sizes_of(piece) == expected[start : max(start, stop)]
    assert sizes_of(pa.ExtensionArray.from_storage(Tagged(data_type), array)) == expected
    for parent in (
        pa.StructArray.from_arrays([array, array], names=["a", "b"])[1:],
        pa.StructArray.from_arrays([array[1:], array[1:]], names=["a", "b"]),
    ):
        assert sizes_of(parent) == [2 * size for size in expected[1:]]


def test_nothing_under_a_null_is_counted() -> None:
    words = pa.array(["some", "text", "here", "now"])
    mask = pa.array([False, True])
    listed = pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), words, mask=mask)
    assert sizes_of(listed) == [8 + 24, 8]
    assert sizes_of(listed[1:]) == [8]
    in_struct = pa.StructArray.from_arrays([words[:2], listed], names=["a", "b"], mask=mask)
    assert sizes_of(in_struct) == [12 + 32, 8 + 8]
    fixed = pa.FixedSizeListArray.from_arrays(words, 2, mask=mask)
    assert sizes_of(fixed) == [24, 16]
    assert sizes_of(fixed[1:]) == [16]
    assert sizes_of(with_bitmap(words, [True, False, True, True])) == [12, 8, 12, 11]
    views = words.cast(pa.string_view())
    assert sizes_of(with_bitmap(views, [True, False, True, True])[1:]) == [8, 12, 11]


def test_list_views_count_what_they_point_at() -> None:
    words = pa.array(["a", "bb", "ccc"])
    view = pa.ListViewArray.from_arrays([2, 0, 1], [1, 3, 0], words)
    assert sizes_of(view) == [8 + 11, 8 + 30, 8]
    assert sizes_of(view[1:]) == [8 + 30, 8]


def test_constant_widths_are_one_number() -> None:
    for data_type, width in (
        (pa.int32(), 4),
        (pa.bool_(), 1),
        (pa.null(), 0),
        (pa.list_(pa.float32(), 768), 3072),
    ):
        assert row_bytes(pa.array([None, None], data_type)) == width


def test_only_what_is_beyond_the_estimate_counts() -> None:
    assert counted_bytes([pa.array([1]), pa.array([None])]) == 0
    assert counted_bytes([]) == 0
    assert counted_bytes([pa.array([1, 2]), pa.array(["a" * 24, None]), pa.array([], pa.string())]) == 0
    texts = counted_bytes([pa.array([1, 2]), pa.array(["a" * 25, "b"]), pa.array([b"", b"c" * 124])])
    assert texts.tolist() == [1, 100]  # type: ignore[union-attr]
    lists = counted_bytes([pa.array([[1] * 8, [1] * 10, None], pa.list_(pa.int64()))])
    assert lists.tolist() == [0, 16, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [pa.float64(), pa.bool_(), pa.string()])
def test_an_ordinary_column_more_moves_no_cut(kind: pa.DataType) -> None:
    rows = 400_000
    before = [pa.array(np.arange(rows))] + [pa.array(np.zeros(rows))] * 50
    extra = pa.array(["x"] * rows) if pa.types.is_string(kind) else pa.array(np.zeros(rows)).cast(kind)
    found = []
    for columns in (before, [*before, extra]):
        schema = pa.schema([(f"c{i}", column.type) for i, column in enumerate(columns)])
        cutter = Cutter(cut_parameters(schema, ("c0",)))
        found.append(cutter.find(rows, row_hashes(columns[:1]), counted_bytes(columns)))
    assert found[0] == found[1]
    assert len(found[0]) > 3


def test_types_without_row_bytes_are_refused() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(UnsupportedData):
        row_bytes(union)
    with pytest.raises(UnsupportedData, match="'u'"):
        cut_parameters(pa.schema([("u", union.type)]))


# Parameters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        ([("x", pa.float64()), ("id", pa.int32())], ("id",)),
        ([("x", pa.float64()), ("name", pa.string_view()), ("id", pa.int32())], ("name",)),
        ([("b", pa.bool_()), ("d", pa.decimal64(9, 2))], ("d",)),
        ([("b", pa.bool_()), ("when", pa.timestamp("s"))], ("when",)),
        ([("t", pa.time32("s")), ("uuid", pa.uuid())], ("uuid",)),
        ([("l", pa.list_(pa.int8())), ("x", pa.float16()), ("y", pa.float64())], ("x",)),
        ([("c", pa.dictionary(pa.int8(), pa.string())), ("x", pa.float64())], ("c",)),
        ([("n", pa.null()), ("s", pa.struct([("id", pa.int64())]))], ()),
        ([], ()),
    ],
)
def test_cut_columns_without_a_key(fields: list[tuple[str, pa.DataType]], columns: tuple[str, ...]) -> None:
    assert cut_parameters(pa.schema(fields)).columns == columns


def test_the_key_cuts_in_its_own_order() -> None:
    schema = pa.schema([("a", pa.int8()), ("b", pa.string()), ("c", pa.dictionary(pa.int8(), pa.string()))])
    assert cut_parameters(schema, ("c", "a")).columns == ("c", "a")


def test_keys_that_cannot_be() -> None:
    schema = pa.schema([("a", pa.int8()), ("l", pa.list_(pa.int8())), ("n", pa.null())])
    with pytest.raises(KeyViolation, match="'missing' is not in the table"):
        cut_parameters(schema, ("a", "missing"))
    for name in ("l", "n"):
        with pytest.raises(KeyViolation, match=f"'{name}' of type .* cannot be a key"):
            cut_parameters(schema, (name,))
    with pytest.raises(InvalidUse, match="twice"):
        cut_parameters(schema, ("a", "a"))
    with pytest.raises(KeyViolation, match="2 times"):
        cut_parameters(pa.schema([("a", pa.int8()), ("a", pa.int8())]), ("a",))


@pytest.mark.parametrize(
    ("data_type", "mean"),
    [
        (pa.int64(), 65_536),
        (pa.list_(pa.int8(), 1024), 65_536),
        (pa.list_(pa.int8(), 1025), 32_768),
        (pa.list_(pa.float32(), 768), 16_384),
        # 32 bytes are assumed for a string,
        (pa.list_(pa.string(), 32), 65_536),
        (pa.list_(pa.large_binary(), 33), 32_768),
        # 8 + 8 * 3 for a list of three bytes each or a map of 1 and 2,
        (pa.list_(pa.list_(pa.binary(3)), 32), 65_536),
        (pa.list_(pa.large_list_view(pa.binary(3)), 33), 32_768),
        (pa.list_(pa.map_(pa.int8(), pa.int16()), 32), 65_536),
        (pa.list_(pa.map_(pa.int8(), pa.int16()), 33), 32_768),
        (pa.struct([("a", pa.list_(pa.int8(), 1024)), ("b", pa.bool_())]), 32_768),
        (pa.list_(pa.dictionary(pa.int8(), pa.int64()), 256), 32_768),
        (pa.binary(1 << 18), 256),
        (pa.binary(1 << 22), 16),
        (pa.binary(1 << 24), 16),
    ],
)
def test_rows_per_group_follow_from_the_width(data_type: pa.DataType, mean: int) -> None:
    parameters = cut_parameters(pa.schema([("x", data_type)]))
    assert parameters.minimum == mean // 2
    assert 1 << parameters.mask_bits == mean // 2
    assert parameters.maximum == mean * 2
    assert parameters.cap_bytes == 64 << 20


def test_parameters_as_json() -> None:
    parameters = CutParameters(("a", "b"), 4, 2, 16, 100)
    value = parameters.to_json()
    assert value == {"columns": ["a", "b"], "minimum": 4, "mask_bits": 2, "maximum": 16, "cap_bytes": 100}
    assert CutParameters.from_json(value) == parameters


@pytest.mark.parametrize(
    "change",
    [
        {"columns": "a"},
        {"columns": [1]},
        {"minimum": 0},
        {"minimum": True},
        {"minimum": 17},
        {"mask_bits": 64},
        {"mask_bits": -1},
        {"maximum": "16"},
        {"maximum": 1 << 63},
        {"cap_bytes": 0},
        {"more": 1},
    ],
)
def test_wrong_parameters_are_corruption(change: dict[str, Any]) -> None:
    with pytest.raises(Corruption):
        CutParameters.from_json(CutParameters(("a",), 4, 2, 16, 100).to_json() | change)


def test_missing_parameters_are_corruption() -> None:
    nothing: tuple[object, ...] = (None, [], {}, {"columns": []})
    for value in nothing:
        with pytest.raises(Corruption):
            CutParameters.from_json(value)


# Cutting --------------------------------------------------------------------------------------------

SMALL = st.builds(
    lambda low, bits, more, cap, column: CutParameters(("k",) if column else (), low, bits, low + more, cap),
    st.integers(1, 6),
    st.integers(0, 4),
    st.integers(0, 12),
    st.integers(1, 60) | st.just(1 << 40),
    st.booleans(),
)


def feed(
    parameters: CutParameters, hashes: npt.NDArray[np.uint64] | None, sizes: Any, rows: int, splits: list[int]
) -> tuple[list[int], Cutter]:
    cutter = Cutter(parameters)
    ends: list[int] = []
    edges = [0, *sorted(min(split, rows) for split in splits), rows]
    for first, last in itertools.pairwise(edges):
        part = None if hashes is None else hashes[first:last]
        size = sizes if isinstance(sizes, int) else sizes[first:last]
        new = cutter.find(last - first, part, size)
        assert all(first < end <= last for end in new)
        ends += new
        assert cutter.rows == last
        assert cutter.start == (ends[-1] if ends else 0)
    return ends, cutter


@settings(max_examples=300)
@example(CutParameters(("k",), 9, 4, 99, 10), [(1, 5)] * 7, [1])  # the cap is reached exactly,
@example(CutParameters(("k",), 9, 4, 99, 10), [(1, 4)] * 7, [2, 3, 4, 5])  # with rows of batches before,
@example(CutParameters(("k",), 9, 4, 99, 10), [(1, 0), (1, 10), (1, 0), (1, 25), (1, 9)], [])  # by one row
@given(
    SMALL,
    st.lists(st.tuples(st.integers(0, 31), st.integers(0, 9)), max_size=80),
    st.lists(st.integers(0, 80), max_size=30),
)
def test_cuts_follow_the_rule_however_rows_are_batched(
    parameters: CutParameters, rows: list[tuple[int, int]], splits: list[int]
) -> None:
    numbers = [row[0] for row in rows]
    hashes = np.array(numbers, dtype=np.uint64) if parameters.columns else None
    sizes = [row[1] for row in rows]
    expected = reference_cuts(parameters, numbers if parameters.columns else None, sizes, len(rows))
    counts = np.array(sizes, dtype=np.int64)
    assert feed(parameters, hashes, counts, len(rows), splits)[0] == expected
    for size in (0, 1, 7):
        expected = reference_cuts(
            parameters, numbers if parameters.columns else None, [size] * len(rows), len(rows)
        )
        assert feed(parameters, hashes, size, len(rows), splits)[0] == expected
        same = np.full(len(rows), size, dtype=np.int64)
        assert feed(parameters, hashes, same, len(rows), splits)[0] == expected


def test_cuts_are_frozen() -> None:
    column = pa.array(range(1_000_000))
    parameters = cut_parameters(pa.schema([("id", pa.int64())]), ("id",))
    cutter = Cutter(parameters)
    assert cutter.find(len(column), row_hashes([column]), counted_bytes([column])) == [
        51_710,
        144_374,
        179_359,
        231_193,
        290_258,
        327_708,
        389_597,
        439_108,
        486_765,
        532_196,
        591_080,
        722_152,
        789_046,
        826_856,
        884_723,
        984_168,
    ]


def edited(numbers: npt.NDArray[np.int64], place: int, inserted: int, deleted: int) -> npt.NDArray[np.int64]:
    new = np.arange(10**9, 10**9 + inserted)
    return np.concatenate([numbers[:place], new, numbers[place + deleted :]])


@given(st.integers(0, 20_000), st.integers(0, 300), st.integers(0, 300), st.booleans())
def test_edits_leave_distant_cuts_alone(place: int, inserted: int, deleted: int, wide: bool) -> None:
    parameters = CutParameters(("id",), 16, 4, 64, 1000)
    size = 20 if wide else 1  # wide rows meet the cap now and then
    before = np.random.default_rng(1).permutation(40_000)
    after = edited(before, place, inserted, deleted)
    ends = {}
    for name, numbers in (("before", before), ("after", after)):
        ends[name] = feed(parameters, row_hashes([pa.array(numbers)]), size, len(numbers), [])[0]
    assert [end for end in ends["before"] if end <= place] == [end for end in ends["after"] if end <= place]
    # Far behind the edit, the same rows end groups.
    shift = len(after) - len(before)
    far = place + deleted + 5_000
    old = [end + shift for end in ends["before"] if end > far]
    assert len(old) > 100
    assert old == [end for end in ends["after"] if end > far + shift]


@pytest.mark.parametrize("width", [1_000, 3_000, 20_000, 400_000])
def test_rows_wider_than_the_schema_says_are_cut_by_content_too(width: int) -> None:
    parameters = cut_parameters(pa.schema([("id", pa.int64()), ("text", pa.string())]))
    before = np.random.default_rng(3).permutation(2**31 // width)
    after = edited(before, 100, 1, 0)
    old, new = (
        Cutter(parameters).find(len(numbers), row_hashes([pa.array(numbers)]), width)
        for numbers in (before, after)
    )
    shared = {end + 1 for end in old} & set(new)
    assert len(shared) > 0.9 * len(old)


def test_the_mean_group_is_as_intended() -> None:
    numbers = np.random.default_rng(2).integers(0, 1 << 62, 8_000_000)
    parameters = cut_parameters(pa.schema([("id", pa.int64())]))
    ends = Cutter(parameters).find(len(numbers), row_hashes([pa.array(numbers)]), 8)
    sizes = np.diff([0, *ends])
    assert sizes.min() >= 32_768
    assert sizes.max() <= 131_072
    assert 58_000 < sizes.mean() < 70_000


def test_nested_masks_only_split_or_keep() -> None:
    # A narrower rule of the same family finds every candidate of the wider one.
    hashes = row_hashes([pa.array(range(100_000))])
    wide = set(Cutter(CutParameters(("k",), 1, 8, 1 << 40, 1 << 60)).find(100_000, hashes, 1))
    narrow = set(Cutter(CutParameters(("k",), 1, 7, 1 << 40, 1 << 60)).find(100_000, hashes, 1))
    assert wide < narrow


def test_arguments_that_do_not_fit() -> None:
    with_columns, without = CutParameters(("k",), 1, 1, 2, 9), CutParameters((), 1, 1, 2, 9)
    hashes = np.zeros(3, dtype=np.uint64)
    for parameters, given_hashes, sizes in (
        (with_columns, None, 1),
        (without, hashes, 1),
        (with_columns, hashes[:2], 1),
        (with_columns, hashes, np.ones(4, dtype=np.int64)),
    ):
        with pytest.raises(InvalidUse):
            Cutter(parameters).find(3, given_hashes, sizes)
