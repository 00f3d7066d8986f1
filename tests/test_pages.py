"""Column chunks as Parquet pages and back: every stored type, every encoding."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from fsvc.format import index, pages
from fsvc.format.canonical import identify
from fsvc.format.pages import ChunkPages, Encoding
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
