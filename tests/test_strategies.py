"""The generators themselves: what they make is valid Arrow, and says what it was made to say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import strategies
from hypothesis import find, given, settings

from fsvc.format import schema as schemas

KINDS = (*strategies.LEAF_TYPES, *(pa.dictionary(pa.int16(), kind) for kind in strategies.LEAF_TYPES[:-1]))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_layout_does_not_change_content(kind: pa.DataType) -> None:
    for seed in range(6):
        random = np.random.default_rng(seed)
        content = strategies.random_values(
            kind, 30, random, nulls=[0.0, 0.3, 1.0][seed % 3], wild=seed % 2 == 1
        )
        plain = strategies.lay_out(content)
        other = strategies.lay_out(content, np.random.default_rng(seed))
        plain.validate(full=True)
        other.validate(full=True)
        assert strategies.bits(plain) == strategies.bits(other)
        assert plain.null_count == other.null_count


@given(strategies.respellings())
def test_nested_layout_does_not_change_content(pair: tuple[pa.Array, pa.Array]) -> None:
    one, other = pair
    one.validate(full=True)
    other.validate(full=True)
    assert strategies.bits(one) == strategies.bits(other)


@given(strategies.tables(extensions=True))
def test_tables_are_valid_and_supported(table: pa.Table) -> None:
    table.validate(full=True)
    schemas.check(table.schema)
    for field, column in zip(table.schema, table.columns, strict=True):
        assert len(strategies.bits(column)) == table.num_rows
        assert field.nullable or column.null_count == 0


def test_the_oracle_sees_what_arrow_calls_equal() -> None:
    zeros = pa.array([0.0]), pa.array([-0.0])
    assert zeros[0].equals(zeros[1])
    assert strategies.bits(zeros[0]) != strategies.bits(zeros[1])
    quiet, other = (np.array([word], "<u8").view("<f8") for word in (0x7FF8000000000000, 0x7FF8000000000001))
    assert strategies.bits(pa.array(quiet)) != strategies.bits(pa.array(other))


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("kind", [pa.float64(), pa.list_(pa.struct([("x", pa.string())]))], ids=str)
def test_pairs_with_and_without_a_difference_turn_up(kind: pa.DataType, same: bool) -> None:
    def wanted(pair: tuple[pa.Array, pa.Array]) -> bool:
        return bool(strategies.bits(pair[0]) == strategies.bits(pair[1])) is same

    find(strategies.array_pairs(kind), wanted, settings=settings(max_examples=200, database=None))
