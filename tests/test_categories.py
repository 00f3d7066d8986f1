"""Categories of dictionary columns: collected over batches, kept in order, refused where they are none."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fsvc
from fsvc.errors import UnsupportedData

words = st.lists(st.sampled_from(["a", "b", "c", "d", None]), max_size=6)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> fsvc.Repository:
    return fsvc.init(tmp_path_factory.mktemp("repository") / "r")


def shaped(array: pa.Array, shape: str) -> pa.Array:
    if shape == "list":
        return pa.ListArray.from_arrays(pa.array([0, len(array)], pa.int32()), array)
    return pa.StructArray.from_arrays([array], ["w"]) if shape == "struct" else array


def inner(array: pa.Array, shape: str) -> pa.DictionaryArray:
    return array.values if shape == "list" else array.field(0) if shape == "struct" else array


@given(
    parts=st.lists(st.tuples(words, st.booleans()), min_size=1, max_size=5),
    shape=st.sampled_from(["flat", "list", "struct"]),
)
def test_categories_of_all_batches_come_in_order_of_appearance(
    repo: fsvc.Repository, parts: list[tuple[list[str | None], bool]], shape: str
) -> None:
    batches, expected = [], []
    for values, backwards in parts:
        distinct = sorted({value for value in values if value is not None}, reverse=backwards)
        indices = [None if value is None else distinct.index(value) for value in values]
        array = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(distinct, pa.string()))
        batches.append(pa.RecordBatch.from_arrays([shaped(array, shape)], ["x"]))
        expected += [value for value in distinct if value not in expected]
    reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    repo.commit({"t": reader}, message="words")
    found = repo.snapshot("t").to_arrow().column("x").combine_chunks()
    assert found.to_pylist() == [value for batch in batches for value in batch.column("x").to_pylist()]
    assert inner(found, shape).dictionary.to_pylist() == expected


def test_unused_categories_and_their_order_survive_a_table_without_rows(tmp_path: Path) -> None:
    repo = fsvc.init(tmp_path / "r")
    column = pa.DictionaryArray.from_arrays(pa.array([], pa.int8()), pa.array(["z", "a"]), ordered=True)
    repo.commit({"t": pa.table({"x": column})}, message="none yet")
    found = repo.snapshot("t").to_arrow().column("x")
    assert found.type == column.type
    assert found.chunk(0).dictionary.to_pylist() == ["z", "a"]


def test_more_categories_in_all_than_the_indices_can_number(repo: fsvc.Repository) -> None:
    def part(start: int) -> pa.RecordBatch:
        values = pa.array([f"v{number}" for number in range(start, start + 100)])
        array = pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), values)
        return pa.RecordBatch.from_arrays([array], ["word"])

    reader = pa.RecordBatchReader.from_batches(part(0).schema, [part(0), part(100)])
    with pytest.raises(UnsupportedData, match=r"'word'.*int8"):
        repo.commit({"many": reader}, message="too many")
    assert "many" not in [found.name for found in repo.snapshots()] if repo.head() else True


@pytest.mark.parametrize("values", [["a", None], ["a", "a"]])
def test_null_and_repeated_categories_are_refused(repo: fsvc.Repository, values: list[str | None]) -> None:
    column = pa.DictionaryArray.from_arrays(
        pa.array([0, 1], pa.int8()), pa.array(values, pa.string()), safe=False
    )
    with pytest.raises(UnsupportedData, match="'word'"):
        repo.commit({"bad": pa.table({"word": column})}, message="bad")


def test_text_that_is_not_utf8_is_refused_by_column(repo: fsvc.Repository) -> None:
    broken = pa.array([b"fine", b"\xff\xfe"]).cast(pa.string(), safe=False)
    with pytest.raises(UnsupportedData, match="'word'.*UTF-8"):
        repo.commit({"bad": pa.table({"word": broken})}, message="bad")


def test_zeros_of_either_sign_stay_apart_on_the_way_through_a_file(
    repo: fsvc.Repository, tmp_path: Path
) -> None:
    values = pa.array([0.0, -0.0, 1.5])
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 1], pa.int8()), values)
    repo.commit({"zeros": pa.table({"x": column})}, message="zeros")
    snapshot = repo.snapshot("zeros")
    snapshot.write_parquet(tmp_path / "zeros.parquet")
    assert fsvc.identify(tmp_path / "zeros.parquet").id == snapshot.id
    plain = snapshot.to_arrow().column("x").combine_chunks().dictionary_decode()
    assert [str(value) for value in plain.to_pylist()] == ["0.0", "-0.0", "1.5", "-0.0"]
