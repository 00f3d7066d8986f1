"""Metadata of pages that are not written yet: they say what the pages would say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from fsvc.format import pages, schema
from fsvc.format.reserved import reserved_leaves
from fsvc.format.stored import stored_field, to_stored


def same_as_written(arrays: list[pa.Array], fields: list[pa.Field]) -> None:
    """Compare with pages that are written: equal types, encodings, values and statistics, and enough room."""
    written = pages.plain(arrays, fields)
    for chunk, leaves in zip(written, reserved_leaves(arrays, fields), strict=True):
        assert len(chunk.leaves) == len(leaves)
        for leaf, reserved in zip(chunk.leaves, leaves, strict=True):
            assert reserved.statistics() == leaf.statistics()
            assert reserved.encodings == leaf.encodings
            assert reserved.num_values == leaf.num_values
            assert reserved.dictionary_page == leaf.dictionary_page
            assert reserved.length > leaf.length


@given(st.data())
def test_any_table(data: st.DataObject) -> None:
    table = data.draw(strategies.tables(max_rows=40))
    normal = schema.normalise(table.schema)
    fields = [stored_field(field) for field in normal]
    batch = table.combine_chunks().to_batches()[:1]
    if not batch:
        return
    arrays = [
        to_stored(column, field.name).cast(field.type)
        for column, field in zip(batch[0].columns, fields, strict=True)
    ]
    same_as_written(arrays, fields)


@pytest.mark.parametrize("rows", [7, 19_999, 20_001, 70_000])
@pytest.mark.parametrize("nulls", ["none", "some", "runs", "all"])
def test_room_for_many_pages(rows: int, nulls: str) -> None:
    random = np.random.default_rng(rows)
    flags = {
        "none": np.zeros(rows, np.bool_),
        "some": random.random(rows) < 0.5,
        "runs": np.arange(rows) // 8 % 2 == 0,
        "all": np.ones(rows, np.bool_),
    }[nulls]
    words = ["", "é", "x" * 60, "y" * 4095, "z" * 4097]
    arrays = [
        pa.array(random.integers(-5, 5, rows).astype(np.int8), mask=flags),
        pa.array(random.integers(0, 1 << 63, rows).astype(np.uint64), mask=flags),
        pa.array(random.standard_normal(rows), mask=flags),
        pa.array(random.random(rows) < 0.5, mask=flags),
        pa.array(words).take(pa.array(random.integers(0, 3, rows), mask=flags)),
        pa.array(words).take(pa.array(np.arange(rows) % 5, mask=flags | (np.arange(rows) > 100))),
        pa.array(np.arange(rows), pa.timestamp("us", "UTC")),
    ]
    same_as_written(arrays, [pa.field("x", array.type) for array in arrays])


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
@pytest.mark.parametrize(
    "values", [[0.0], [-0.0], [-0.0, 0.0], [float("nan")], [1.0, float("nan")], [float("inf"), None]]
)
def test_zeros_and_no_numbers(kind: pa.DataType, values: list[float | None]) -> None:
    same_as_written([pa.array(values, kind)], [pa.field("x", kind)])
