"""Columns that DuckDB sees inexactly are named, and only those."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

import fsvc
from fsvc.query.exactness import seen_inexactly


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (pa.decimal256(76, 2), "76 digits"),
        (pa.duration("s"), r"duration\[s\]"),
        (pa.list_(pa.duration("ms")), r"'x\.element'"),
        (pa.struct([("a", pa.decimal256(40, 0))]), r"'x\.a'"),
        (pa.map_(pa.string(), pa.duration("ns")), r"'x\.value'"),
        (pa.dictionary(pa.int8(), pa.decimal256(50, 1)), "50 digits"),
    ],
)
def test_types_that_duckdb_lacks_are_named(kind: pa.DataType, words: str) -> None:
    (sentence,) = seen_inexactly(pa.schema([("x", kind)]))
    assert re.search(words, sentence)


def test_names_that_differ_in_case_only_are_named() -> None:
    (sentence,) = seen_inexactly(pa.schema([("a", pa.int8()), ("A", pa.int8())]))
    assert "'A'" in sentence
    assert "'a'" in sentence


def test_ordinary_columns_are_not() -> None:
    kinds = [pa.int64(), pa.string(), pa.timestamp("ns", "UTC"), pa.decimal128(38, 3), pa.list_(pa.float64())]
    assert seen_inexactly(pa.schema([(f"c{i}", kind) for i, kind in enumerate(kinds)])) == []


def test_what_is_named_is_true(tmp_path: Path) -> None:
    repo = fsvc.init(tmp_path / "r")
    table = pa.table(
        {
            "wide": pa.array([Decimal(10) ** 60 + 1], pa.decimal256(70, 0)),
            "span": pa.array([5], pa.duration("s")),
        }
    )
    repo.commit({"t": table}, message="m")
    relation = repo.snapshot("t").relation()
    assert [str(kind) for kind in relation.types] == ["DOUBLE", "BIGINT"]
