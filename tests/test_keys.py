"""Keys are unique and never null: whatever is known, however hashes collide, in memory or spilled."""

from __future__ import annotations

import datetime
import itertools
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsvc.engine.keys import KeyCheck, null_key
from fsvc.errors import InvalidUse, KeyViolation, StorageError
from fsvc.format.cutting import row_hashes


class Groups:
    """The key columns of some row groups, to be checked; remembers which were fetched."""

    def __init__(self, *groups: list[pa.Array], names: tuple[str, ...] = ("id",)) -> None:
        self.groups = groups
        self.names = names
        self.fetched: list[int] = []

    def fetch(self, group: int) -> list[pa.Array]:
        self.fetched.append(group)
        return self.groups[group]

    def check(self, *, known: tuple[int, ...] = (), hashes: Any = None, **options: Any) -> None:
        with KeyCheck(self.names, **options) as check:
            for number, columns in enumerate(self.groups):
                given_hashes = row_hashes(columns) if hashes is None else hashes[number]
                check.add(given_hashes, number, number in known)
            check.finish(self.fetch)


def integers(*groups: list[int] | range) -> Groups:
    return Groups(*([pa.array(group, pa.int64())] for group in groups))


def same_hash(groups: Groups, value: int = 7) -> list[npt.NDArray[np.uint64]]:
    return [np.full(len(group[0]), value, dtype=np.uint64) for group in groups.groups]


def test_unique_keys_pass_and_nothing_is_fetched() -> None:
    groups = integers(range(1000), range(1000, 3000), [])
    groups.check()
    assert groups.fetched == []


def test_a_repeated_key_is_named_with_its_rows() -> None:
    groups = integers([1, 2, 42, 3], [5, 6, 7], [8, 42])
    with pytest.raises(KeyViolation, match=r"^key id=42 appears twice \(rows 2 and 8\)$") as caught:
        groups.check()
    assert "counted from 0" in str(caught.value.hint)
    assert 1 not in groups.fetched


def test_large_row_numbers_are_grouped_by_thousands() -> None:
    with pytest.raises(KeyViolation, match=r"\(rows 17 and 90,311\)"):
        integers(range(90_000), range(90_000, 90_311), [17]).check()


def test_groups_may_come_in_any_order() -> None:
    groups = integers([1, 2], [3, 4], [2, 5])
    check = KeyCheck(["id"])
    for number in (2, 0, 1):
        check.add(row_hashes(groups.groups[number]), number, known=False)
    with pytest.raises(KeyViolation, match="rows 1 and 4"):
        check.finish(groups.fetch)


def test_the_first_repetition_is_the_one_that_is_named() -> None:
    with pytest.raises(KeyViolation, match=r"id=3 appears more than twice \(first in rows 2 and 4\)"):
        integers([1, 2, 3, 4], [3, 2, 3]).check()


def test_several_columns_make_one_key() -> None:
    names = ("store", "day")
    days = pa.array([datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)] * 2)
    groups = Groups([pa.array(["a", "a", "b", "b"]), days], names=names)
    groups.check()
    groups = Groups([pa.array(["a", "a", "b", "b"]), days], [pa.array(["b"]), days[1:2]], names=names)
    with pytest.raises(
        KeyViolation, match=r"key \(store='b', day=2026-01-02\) appears twice \(rows 3 and 4\)"
    ):
        groups.check()


# What is known ---------------------------------------------------------------------------------------


def test_known_groups_are_not_compared_with_each_other() -> None:
    # They cannot hold one key twice, unless the caller is wrong about them; then nobody looks.
    groups = integers([1, 2, 3], [3, 4, 5])
    groups.check(known=(0, 1))
    assert groups.fetched == []


@pytest.mark.parametrize("known", [(), (0,), (1,)])
def test_new_rows_are_compared_with_all_others(known: tuple[int, ...]) -> None:
    with pytest.raises(KeyViolation, match=r"id=2 appears twice \(rows 1 and 3\)"):
        integers([1, 2], [3, 2]).check(known=known)


def test_one_known_group_twice_in_a_table_is_no_longer_known() -> None:
    with pytest.raises(KeyViolation, match=r"id=1 appears twice \(rows 0 and 5\)"):
        integers([1, 2, 3], [4, 5], [1, 2, 3]).check(known=(0, 1, 2))


# Collisions ------------------------------------------------------------------------------------------


def test_equal_hashes_of_different_keys_pass() -> None:
    groups = integers([1, 2, 3], [4, 5], [6])
    groups.check(hashes=same_hash(groups))
    assert set(groups.fetched) == {0, 1, 2}
    groups.check(hashes=same_hash(groups), known=(0, 1))


def test_a_repeated_key_is_found_among_collisions() -> None:
    groups = integers([1, 2, 3], [4, 5, 2], [6])
    with pytest.raises(KeyViolation, match=r"id=2 appears twice \(rows 1 and 5\)"):
        groups.check(hashes=same_hash(groups))
    with pytest.raises(KeyViolation, match="id=2"):
        groups.check(hashes=same_hash(groups), known=(0,))


def test_a_repeated_key_is_found_behind_many_collisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsvc.engine.keys._FIRST_LOOK", 10)
    monkeypatch.setattr("fsvc.engine.keys._SUSPECTS", 2)
    numbers = list(range(200))
    groups = integers(numbers[:90], numbers[90:])
    crafted = [np.arange(len(group[0]), dtype=np.uint64) % np.uint64(5) for group in groups.groups]
    groups.check(hashes=crafted)
    groups = integers(numbers[:90], [*numbers[90:199], 89])
    with pytest.raises(KeyViolation, match=r"id=89 appears twice \(rows 89 and 199\)"):
        groups.check(hashes=crafted)


DUPLICATES: list[tuple[pa.DataType, Any, Any]] = [
    (pa.bool_(), True, False),
    (pa.int8(), 1, -1),
    (pa.uint64(), 1 << 63, 1),
    (pa.float16(), np.float16(1.5), np.float16(2)),
    (pa.float32(), 1.5, 2.5),
    (pa.float64(), float("nan"), 2.5),
    (pa.decimal32(5, 1), Decimal("1.5"), Decimal("2.5")),
    (pa.decimal64(9, 1), Decimal("1.5"), Decimal("2.5")),
    (pa.decimal128(20, 1), Decimal("1.5"), Decimal("2.5")),
    (pa.decimal256(50, 1), Decimal("1.5"), Decimal("2.5")),
    (pa.date32(), datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)),
    (pa.date64(), datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)),
    (pa.time32("s"), datetime.time(1), datetime.time(2)),
    (pa.time64("ns"), datetime.time(1), datetime.time(2)),
    (pa.timestamp("ns", "UTC"), 1_700_000_000_000_000_001, 1_700_000_000_000_000_002),
    (pa.timestamp("s"), 1 << 60, 1 << 59),  # far beyond the years that Python knows
    (pa.date32(), 1 << 30, 1 << 29),
    (pa.duration("us"), datetime.timedelta(1), datetime.timedelta(2)),
    (pa.string(), "one", "two"),
    (pa.large_string(), "one", "two"),
    (pa.string_view(), "a string of more than twelve bytes", "two"),
    (pa.binary(), b"one", b"two"),
    (pa.large_binary(), b"one", b"two"),
    (pa.binary_view(), b"one", b"two"),
    (pa.binary(3), b"one", b"two"),
    (pa.dictionary(pa.int8(), pa.string()), "one", "two"),
    (pa.dictionary(pa.int16(), pa.int64()), 1, 2),
    (pa.uuid(), b"0123456789abcdef", b"fedcba9876543210"),
]


@pytest.mark.parametrize(("data_type", "one", "two"), DUPLICATES, ids=lambda each: str(each)[:20])
def test_keys_of_every_type(data_type: pa.DataType, one: Any, two: Any) -> None:
    first, second = pa.array([one], data_type), pa.array([two], data_type)
    different = Groups([first], [second])
    different.check()
    different.check(hashes=same_hash(different))
    with pytest.raises(KeyViolation, match=r"^key id=.+ appears twice"):
        Groups([first], [second], [pa.array([None, one], data_type)[1:]]).check()


def test_floats_compare_by_their_bits() -> None:
    zeros = Groups([pa.array([0.0])], [pa.array([-0.0])])
    zeros.check(hashes=same_hash(zeros))
    for kind, bits in (("f2", 0x7E00), ("f4", 0x7FC00000), ("f8", 0x7FF8 << 48)):
        payloads = np.array([bits, bits + 1], dtype=f"u{kind[1]}").view(kind)
        numbers = Groups([pa.array(payloads)])
        numbers.check(hashes=same_hash(numbers))


def test_dictionaries_compare_by_their_values() -> None:
    first = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array(["x", "y"]))
    second = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array(["y", "x"]))
    groups = Groups([first], [second])
    groups.check(hashes=same_hash(groups))
    with pytest.raises(KeyViolation, match="id='x'"):
        Groups([first], [second], [pa.array(["x"]).dictionary_encode()]).check()


def test_long_keys_with_one_hash_are_told_apart() -> None:
    # Only 256 bytes of a string are hashed: here all but the middle.
    groups = Groups([pa.array(["x" * 200 + str(i) * 9 + "x" * 200 for i in range(10)])])
    assert len(set(row_hashes(groups.groups[0]).tolist())) == 1
    groups.check()


def test_long_keys_are_cut_short_in_messages() -> None:
    with pytest.raises(KeyViolation) as caught:
        Groups([pa.array(["y" * 5000] * 2)]).check()
    assert "'yyy" in caught.value.message
    assert len(caught.value.message) < 200


def test_strings_that_are_no_text_are_shown_as_bytes() -> None:
    broken = pa.array([b"\xff\xfe"] * 2, pa.binary()).view(pa.string())
    with pytest.raises(KeyViolation, match=r"xff.xfe"):
        Groups([broken]).check()


# Against a plain reference, in memory and spilled ------------------------------------------------------


@given(
    st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=8),
    st.integers(0, 255),
    st.integers(1, 20),
    st.sampled_from([None, 1, 3, 250]),
)
def test_agrees_with_counting(
    groups: list[list[int]], known: int, memory: int, colliding: int | None
) -> None:
    # Known groups are made to be what they claim: without a key that another known group has.
    taken: set[int] = set()
    for number, keys in enumerate(groups):
        if known >> number & 1:
            keys[:] = [key for key in dict.fromkeys(keys) if key not in taken]
            taken.update(keys)
    flagged = tuple(number for number in range(len(groups)) if known >> number & 1)
    checked = integers(*groups)
    hashes = None
    if colliding is not None:
        # Few hashes, spread over all buckets or in a single one.
        step = np.uint64(((1 << 64) - 1) // colliding)
        hashes = [np.array(keys, dtype=np.uint64) % np.uint64(colliding) * step for keys in groups]
    counts = Counter(itertools.chain.from_iterable(groups))
    repeated = {key for key, count in counts.items() if count > 1}
    for limit in (1000, memory):
        if not repeated:
            checked.check(known=flagged, hashes=hashes, memory_rows=limit)
            continue
        with pytest.raises(KeyViolation) as caught:
            checked.check(known=flagged, hashes=hashes, memory_rows=limit)
        named = caught.value.message
        rows = list(itertools.chain.from_iterable(groups))
        key = int(named.split("id=")[1].split()[0])
        places = [row for row, value in enumerate(rows) if value == key]
        assert key in repeated
        assert f"rows {places[0]} and {places[1]})" in named
        assert ("appears twice" in named) == (len(places) == 2)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsvc.engine.keys._BLOCK_ROWS", 3_000)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("known", [(), tuple(range(0, 40, 2))])
def test_spilled_hashes_find_the_same(tmp_path: Path, known: tuple[int, ...]) -> None:
    numbers = np.random.default_rng(3).permutation(40_000)
    pieces = [numbers[start : start + 1000] for start in range(0, 40_000, 1000)]
    integers(*(piece.tolist() for piece in pieces)).check(
        known=known, memory_rows=10_000, folder=str(tmp_path)
    )
    repeated = int(pieces[4][500])
    pieces[37] = pieces[37].copy()
    pieces[37][3] = repeated
    groups = integers(*(piece.tolist() for piece in pieces))
    with pytest.raises(KeyViolation, match=rf"id={repeated} appears twice \(rows 4,500 and 37,003\)"):
        groups.check(known=known, memory_rows=10_000, folder=str(tmp_path))
    assert set(groups.fetched) == {4, 37}
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def joined_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of all arrays that are joined from now on: what fills memory when keys are checked."""
    lengths: list[int] = []
    original = np.concatenate

    def watched(arrays: Any, **options: Any) -> Any:
        result = original(arrays, **options)
        lengths.append(len(result))
        return result

    monkeypatch.setattr(np, "concatenate", watched)
    return lengths


@pytest.mark.usefixtures("small_blocks")
def test_memory_stays_bounded_when_keys_are_unique(joined_rows: list[int]) -> None:
    integers(*(range(start, start + 1000) for start in range(0, 40_000, 1000))).check(memory_rows=5_000)
    assert sum(joined_rows) >= 40_000
    assert max(joined_rows) <= 5_000


@pytest.mark.usefixtures("small_blocks")
def test_memory_stays_bounded_when_all_rows_have_one_key(
    monkeypatch: pytest.MonkeyPatch, joined_rows: list[int]
) -> None:
    monkeypatch.setattr("fsvc.engine.keys._FIRST_LOOK", 2_000)
    groups = integers(*[[5] * 1000] * 40)
    with pytest.raises(KeyViolation, match=r"id=5 appears more than twice \(first in rows 0 and 1\)"):
        groups.check(memory_rows=4_000)
    assert len(groups.fetched) < 10
    assert max(joined_rows) <= 4_000


def test_nothing_is_written_while_memory_suffices(tmp_path: Path) -> None:
    # A folder that does not exist could not be spilled to.
    integers(range(100), range(100, 200)).check(memory_rows=200, folder=str(tmp_path / "missing"))
    with pytest.raises(StorageError, match="temporary file for checking keys cannot be written"):
        integers(range(100), range(100, 201)).check(memory_rows=200, folder=str(tmp_path / "missing"))


def test_hashes_are_kept_even_if_the_caller_reuses_their_memory() -> None:
    groups = integers([1, 2], [3, 4])
    shared = np.empty(2, dtype=np.uint64)
    check = KeyCheck(["id"])
    for number, columns in enumerate(groups.groups):
        shared[:] = row_hashes(columns)
        check.add(shared, number, known=False)
    check.finish(groups.fetch)
    assert groups.fetched == []


def test_wrong_uses() -> None:
    with pytest.raises(InvalidUse):
        KeyCheck([])
    with pytest.raises(InvalidUse):
        KeyCheck(["id"], memory_rows=0)
    check = KeyCheck(["id"])
    check.add(np.zeros(1, dtype=np.uint64), 0, known=False)
    with pytest.raises(InvalidUse, match="row group 0"):
        check.add(np.zeros(1, dtype=np.uint64), 0, known=False)


# Nulls -----------------------------------------------------------------------------------------------


def test_the_first_null_is_named() -> None:
    first, second = pa.array([1, 2, 3, None]), pa.array(["a", None, "c", None])
    with pytest.raises(KeyViolation, match=r"^key column 'second' is null in row 1,001$"):
        null_key([first, second], ["first", "second"], 1000)
    with pytest.raises(KeyViolation, match="'first' is null in row 3"):
        null_key([first, first], ["first", "other"], 0)
    null_key([first[:3], second[:1].take(pa.array([0, 0, 0]))], ["first", "second"], 0)
    null_key([pa.array([], pa.null())], ["empty"], 0)


def test_nulls_of_every_kind_are_seen() -> None:
    named = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array(["a", None]))
    for column in (named, pa.nulls(2)[:2], pa.array([b"x" * 16, None], pa.uuid())):
        with pytest.raises(KeyViolation):
            null_key([column], ["id"], 0)
    null_key([pa.array([float("nan")])], ["id"], 0)
