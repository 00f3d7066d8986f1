"""Cells compared: equal if and only if they are the same bits, for every type, layout and place."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from fsvc.format.cells import RowCodes, codes, converts, differing, match, meaning, picked, repeated
from fsvc.format.stored import to_stored


@given(pair=strategies.array_pairs())
def test_cells_differ_where_their_bits_do(pair: tuple[pa.Array, pa.Array]) -> None:
    left, right = (to_stored(array, "c") for array in pair)
    expected = [one != other for one, other in zip(*map(strategies.bits, pair), strict=True)]
    assert differing(left, right).tolist() == expected
    assert differing(left, left).tolist() == [False] * len(left)


@given(array=strategies.arrays())
def test_equal_cells_have_equal_numbers(array: pa.Array) -> None:
    numbers = codes(to_stored(array, "c")).tolist()
    said = list(map(repr, strategies.bits(array)))
    for one, number in zip(said, numbers, strict=True):
        assert [other == one for other in said] == [other == number for other in numbers]
        assert (number == -1) == (one == "None")


@given(
    arrays=st.lists(st.integers(0, 3), min_size=2, max_size=2), seed=st.integers(0, 2**32 - 1), data=st.data()
)
def test_rows_are_matched_by_all_their_columns(arrays: list[int], seed: int, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    kinds = data.draw(st.lists(strategies.arrow_types(max_depth=1), min_size=1, max_size=3))
    pools = [strategies.random_values(kind, 6, random) for kind in kinds]
    sides = []
    for size in arrays:
        slots = random.integers(0, 6, size * 3)
        layout = np.random.default_rng(seed)
        sides.append([strategies.lay_out(strategies._gather(pool, slots), layout) for pool in pools])
    left, right = ([to_stored(array, "c") for array in side] for side in sides)
    one, other = (list(map(repr, zip(*map(strategies.bits, side), strict=True))) for side in sides)
    assert match(left, right).tolist() == [other.index(row) if row in other else -1 for row in one]
    again = [i for i, row in enumerate(one) if row in one[:i]]
    assert repeated(left) == ((one.index(one[again[0]]), again[0]) if again else None)
    rows = RowCodes(len(one), len(other))
    for pair in zip(left, right, strict=True):
        rows.add(*pair)
    ours, theirs = (numbers.tolist() for numbers in rows.finish())
    expected = [[(row, side[:i].count(row)) for i, row in enumerate(side)] for side in (one, other)]
    assert [[a == b for b in theirs] for a in ours] == [[a == b for b in expected[1]] for a in expected[0]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.string(), pa.large_string()),
        (pa.string(), pa.binary_view()),
        (pa.list_(pa.int8()), pa.list_(pa.int8(), 2)),
        (pa.large_list(pa.string()), pa.list_(pa.field("x", pa.large_string(), False))),
        (pa.timestamp("us", "UTC"), pa.timestamp("us")),
        (pa.decimal128(10, 2), pa.decimal128(14, 2)),
        (pa.dictionary(pa.int8(), pa.string()), pa.string()),
        (pa.map_(pa.string(), pa.int8()), pa.map_(pa.large_string(), pa.int8())),
        (pa.struct([("a", pa.string())]), pa.struct([("b", pa.large_string())])),
        (pa.uuid(), pa.binary(16)),
    ],
)
def test_types_of_one_meaning_compare_by_value(one: pa.DataType, other: pa.DataType) -> None:
    assert meaning(one) == meaning(other)
    random = np.random.default_rng(7)
    values = strategies.random_values(one, 30, random, wild=False)
    left = to_stored(strategies.lay_out(values), "c")
    plain = other.storage_type if isinstance(other, pa.BaseExtensionType) else other
    if pa.types.is_fixed_size_list(plain) or pa.types.is_map(plain) or pa.types.is_struct(plain):
        right = left  # pyarrow casts none of these; the layout is what the next line changes
    else:
        right = to_stored(left.cast(to_stored(pa.array([], plain), "c").type), "c")
    assert not differing(left, right).any()
    assert match([left], [right]).tolist() == match([left], [left]).tolist()
    shifted = picked(right, np.roll(np.arange(30), 1))
    expected = differing(left, picked(left, np.roll(np.arange(30), 1))).tolist()
    assert differing(left, shifted).tolist() == expected


def test_numbers_of_different_types_are_equal_if_each_becomes_the_other() -> None:
    whole = pa.array([1, 2**53 + 1, None, -3, 0], pa.int64())
    broken = pa.array([1.0, 2.0**53, None, -3.5, -0.0], pa.float64())
    assert converts(whole.type, broken.type)
    assert differing(whole, broken).tolist() == [False, True, False, True, True]
    assert differing(broken, whole).tolist() == [False, True, False, True, True]
    narrow = pa.array([1, None, None, -3, 0], pa.int8())
    assert differing(narrow, whole).tolist() == [False, True, False, False, False]
    seconds, nanos = pa.array([1, 10**12], pa.timestamp("ms")), pa.array([10**6, 5], pa.timestamp("ns"))
    assert differing(seconds, nanos).tolist() == [False, True]
    assert not converts(pa.string(), pa.int64()) and not converts(pa.timestamp("s"), pa.int64())


def test_nan_zero_and_null_are_told_apart() -> None:
    bits = np.array([0x7FF8000000000000, 0x7FF8000000000001], np.uint64).view(np.float64)
    left = pa.array([bits[0], bits[0], 0.0, None, None], mask=np.array([0, 0, 0, 1, 1], bool))
    right = pa.array([bits[0], bits[1], -0.0, 0.0, None], mask=np.array([0, 0, 0, 0, 1], bool))
    assert differing(left, right).tolist() == [False, True, True, True, False]
    assert match([left], [right]).tolist() == [0, 0, 3, 4, 4]
