"""Column chunks as Parquet pages and back: every stored type, every encoding."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from fsvc.format import index, pages
from fsvc.format.canonical import identify
from fsvc.format.pages import ChunkPages, Encoding
from fsvc.format.statistics import wrong_statistics
from fsvc.format.stored import from_stored, stored_field, to_stored

ENCODINGS = list(Encoding)


def through_pages(
    arrays: list[pa.Array], fields: list[pa.Field], encodings: list[Encoding]
) -> list[pa.Array]:
    """Stored arrays written as pages, packed as in an index, and read again."""
    chunks = pages.encode(arrays, fields, encodings)
    again = [ChunkPages(index.unpack_meta(index.pack_meta(chunk.leaves)), chunk.pages) for chunk in chunks]
    named = [pa.field(f"c{i}", field.type, field.nullable) for i, field in enumerate(fields)]
    schema = pages.parquet_schema(pa.schema(named))
    return pages.decode(schema, [(len(arrays[0]), again)], named)[0]


@given(
    strategies.tables(dictionaries=False, min_rows=1),
    st.lists(st.sampled_from(ENCODINGS), min_size=4, max_size=4),
)
def test_pages_hold_what_was_written(table: pa.Table, encodings: list[Encoding]) -> None:
    fields = [stored_field(field) for field in table.schema]
    arrays = [to_stored(pa.concat_arrays(column.chunks), "x") for column in table.columns]
    found = through_pages(arrays, fields, encodings[: len(arrays)])
    for got, array, field, column in zip(found, arrays, fields, table.columns, strict=True):
        assert got.type == field.type
        assert identify(got, field) == identify(array, field)
        assert strategies.bits(from_stored(got, column.type, {}, "x")) == strategies.bits(column)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_are_what_they_say(encoding: Encoding) -> None:
    numbers = pa.array(np.arange(5000) * 3)
    field = pa.field("x", numbers.type)
    (chunk,) = pages.encode([numbers], [field], [encoding])
    assert pages.remembered_encoding(chunk.leaves) is encoding
    assert len(chunk.leaves) == 1
    assert sum(map(len, chunk.pages)) == chunk.leaves[0].length


@pytest.mark.parametrize(
    "values",
    [
        np.array([0, 2**62, -(2**62)]),
        np.array([-(2**63), 2**63 - 1]),
        np.array([0, 2**40, 1, 2**40]),
    ],
    ids=["wide", "widest", "jumping"],
)
def test_wide_deltas_are_not_packed(values: np.ndarray) -> None:
    array = pa.array(values)
    (chunk,) = pages.encode([array], [pa.field("x", array.type)], [Encoding.DELTA])
    assert pages.remembered_encoding(chunk.leaves) is Encoding.PLAIN


def test_the_smallest_encoding_is_chosen() -> None:
    random = np.random.default_rng(1)
    columns = {
        Encoding.DELTA: pa.array(np.arange(20_000)),
        Encoding.DICTIONARY: pa.array([f"one of few values {i}" for i in random.integers(0, 9, 20_000)]),
        Encoding.PLAIN: pa.array(random.random(20_000)),
    }
    fields = [pa.field("x", array.type) for array in columns.values()]
    assert pages.choose_encodings(list(columns.values()), fields) == list(columns)
    assert pages.choose_encodings([], []) == []


@given(strategies.arrow_types(dictionaries=False))
def test_leaves_are_counted(kind: pa.DataType) -> None:
    field = stored_field(pa.field("x", kind))
    array = to_stored(pa.nulls(3, kind), "x") if not isinstance(kind, pa.BaseExtensionType) else None
    assert pages.leaf_count(field.type) == len(pages.parquet_schema(pa.schema([field])).paths)
    if array is not None:
        assert len(pages.leaf_arrays(array)) == pages.leaf_count(field.type)


def test_no_columns_are_no_chunks() -> None:
    assert pages.encode([], [], []) == []


@pytest.mark.parametrize("width", range(1, 17))
@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint16(), pa.int64(), pa.float32(), pa.timestamp("us"), pa.string()]
)
def test_dictionaries_of_every_width(width: int, kind: pa.DataType) -> None:
    random = np.random.default_rng(width)
    values = 1 << min(width, 7 if kind == pa.int8() else 16)
    numbers = random.permutation(np.concatenate([np.arange(values), random.integers(0, values, 1001)]))
    array = pa.array(numbers).cast(kind)
    nulls = pa.array(random.random(len(array)) < 0.2)
    field = pa.field("x", kind)
    for chosen, nullable in (
        (array, False),
        (array, True),
        (array.slice(3, 77), True),
        (pa.concat_arrays([pa.nulls(9, kind), array, pa.nulls(5, kind)]), True),
        (pa.chunked_array([array]).filter(nulls).combine_chunks(), True),
        (pc.if_else(nulls, pa.scalar(None, kind), array), True),
    ):
        column = field.with_nullable(nullable)
        (chunk,) = pages.encode([chosen], [column], [Encoding.DICTIONARY])
        assert pages.remembered_encoding(chunk.leaves) is Encoding.DICTIONARY
        assert wrong_statistics(chunk.leaves, chosen) is None
        assert {5, 6} <= chunk.leaves[0].statistics().keys()
        (found,) = through_pages([chosen], [column], [Encoding.DICTIONARY])
        assert identify(found, column) == identify(chosen, column)


def test_dictionaries_tell_every_bit_of_floats_apart() -> None:
    bits = np.array([0, 1 << 63, 0x7FF8 << 48, (0x7FF8 << 48) + 5, 0xFFF8 << 48, 1], np.uint64)
    array = pa.array(np.tile(bits.view(np.float64), 300))
    field = pa.field("x", pa.float64())
    (chunk,) = pages.encode([array], [field], [Encoding.DICTIONARY])
    assert pages.remembered_encoding(chunk.leaves) is Encoding.DICTIONARY
    assert chunk.leaves[0].statistics().keys() == {3}  # a range would prune rows that are NaN
    (found,) = through_pages([array], [field], [Encoding.DICTIONARY])
    assert found.view(pa.uint64()).to_pylist() == array.view(pa.uint64()).to_pylist()


def test_a_dictionary_of_too_many_values_is_none() -> None:
    array = pa.array(np.arange((1 << 16) + 1))
    field = pa.field("x", array.type)
    (chunk,) = pages.encode([array], [field], [Encoding.DICTIONARY])
    assert pages.remembered_encoding(chunk.leaves) is Encoding.PLAIN
    assert through_pages([array], [field], [Encoding.DICTIONARY])[0].equals(array)


def test_numbers_behind_a_dictionary_take_less_in_ascending_order() -> None:
    numbers = np.random.default_rng(2).integers(0, 12_000, 65_536) / 100
    array = pa.array(numbers)
    (chunk,) = pages.encode([array], [pa.field("x", array.type)], [Encoding.DICTIONARY])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": array}), sink, compression="zstd")
    assert chunk.leaves[0].length < 0.92 * len(sink.getvalue())
