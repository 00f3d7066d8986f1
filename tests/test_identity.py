"""Identity: one table has one id, however it comes; other data has another."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import strategies
from hypothesis import given, reject
from hypothesis import strategies as st
from memory import committed, memory_repository, normal

import fsvc
from fsvc.errors import UnsupportedData

ROWS = 3000
RANDOM = np.random.default_rng(5)


def common_table() -> pa.Table:
    """A table of types that pandas, polars, DuckDB and Parquet all know."""
    numbers = np.arange(ROWS)
    real = RANDOM.normal(size=ROWS)
    real[::7] = -0.0
    return pa.table(
        {
            "id": pa.array(numbers),
            "small": pa.array(numbers % 100, pa.int16()),
            "unsigned": pa.array(numbers, pa.uint32()),
            "real": pa.array(real),
            "flag": pa.array(numbers % 3 == 0),
            "text": pa.array([None if i % 11 == 0 else f"name {i % 50}" for i in range(ROWS)]),
            "when": pa.array(numbers * 1_000_000, pa.timestamp("us")),
            "day": pa.array((numbers % 400).astype(np.int32), pa.date32()),
        }
    )


TABLE = common_table()
ID = fsvc.identify(TABLE).id


def scattered(table: pa.Table) -> pa.Table:
    """The same table in uneven chunks, slices of longer arrays with garbage around."""
    return pa.concat_tables([table.slice(0, 1), table.slice(1, 999), table.slice(1000, 0), table.slice(1000)])


def with_bitmaps(table: pa.Table) -> pa.Table:
    """The same table with a validity bitmap on every column, needed or not."""
    columns = []
    for column in table.combine_chunks().columns:
        array = column.chunk(0)
        bitmap = np.packbits(array.is_valid().to_numpy(zero_copy_only=False), bitorder="little")
        buffers = [pa.py_buffer(bitmap.tobytes()), *array.buffers()[1:]]
        columns.append(pa.Array.from_buffers(array.type, len(array), buffers))
        assert columns[-1].buffers()[0] is not None
    return pa.table(columns, schema=table.schema)


FORMS: dict[str, Callable[[pa.Table], Any]] = {
    "chunks and slices": scattered,
    "slice of a longer one": lambda t: pa.concat_tables([t, t, t]).combine_chunks().slice(len(t), len(t)),
    "validity bitmaps": with_bitmaps,
    "record batch": lambda t: t.combine_chunks().to_batches()[0],
    "reader": lambda t: pa.RecordBatchReader.from_batches(t.schema, t.to_batches(max_chunksize=17)),
    "pandas, arrow dtypes": lambda t: t.to_pandas(types_mapper=pd.ArrowDtype),
    "polars": pl.from_arrow,
    "duckdb": lambda t: duckdb.connect().sql("from t"),
    "dict": lambda t: dict(zip(t.column_names, t.columns, strict=True)),
    "snapshot": committed,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_the_same_table_in_memory(form: Callable[[pa.Table], Any]) -> None:
    given = form(TABLE)
    if isinstance(given, pd.DataFrame):
        # Arrow-backed dtypes are told by metadata; without it the same data has the same id.
        given = pa.Table.from_pandas(given).replace_schema_metadata(None)
    if isinstance(given, pl.DataFrame):
        # polars has one kind of strings, large ones.
        wide = TABLE.set_column(5, "text", TABLE["text"].cast(pa.large_string()))
        assert fsvc.identify(given).id == fsvc.identify(wide).id
    else:
        assert fsvc.identify(given).id == ID


def test_the_same_data_frame() -> None:
    # pandas has no bytes for null in numbers, so the columns here are those that it keeps of itself.
    frame = TABLE.to_pandas()
    assert fsvc.identify(frame).id == fsvc.identify(pa.Table.from_pandas(frame)).id
    text = "large_string" if pa.types.is_large_string(pa.Table.from_pandas(frame)["text"].type) else "string"
    alike = TABLE.set_column(5, "text", TABLE["text"].cast(text)).set_column(
        7, "day", pa.Table.from_pandas(frame)["day"]
    )
    assert fsvc.identify(frame).id == fsvc.identify(alike).id
    indexed = frame.set_index("id")
    assert fsvc.identify(indexed).id != fsvc.identify(frame).id


PARQUET: dict[str, dict[str, Any]] = {
    "plain": {"compression": "none", "use_dictionary": False},
    "small row groups": {"row_group_size": 100, "compression": "zstd"},
    "delta": {
        "use_dictionary": False,
        "column_encoding": {"id": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY"},
    },
    "split": {"use_dictionary": False, "column_encoding": {"real": "BYTE_STREAM_SPLIT"}},
    "pages of version 2": {"data_page_version": "2.0", "data_page_size": 512, "compression": "gzip"},
    "no schema of arrow": {"store_schema": False},
    "old format": {"version": "2.4", "compression": "brotli"},
}


@pytest.mark.parametrize("options", PARQUET.values(), ids=PARQUET.keys())
def test_the_same_table_from_parquet(options: dict[str, Any], tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet", **options)
    assert fsvc.identify(tmp_path / "t.parquet").id == ID


def test_the_same_table_from_other_writers_of_parquet(tmp_path: Path) -> None:
    table = TABLE
    duckdb.connect().from_arrow(table).write_parquet(str(tmp_path / "duckdb.parquet"))
    assert fsvc.identify(tmp_path / "duckdb.parquet").id == fsvc.identify(table).id
    pl.from_arrow(table).write_parquet(tmp_path / "polars.parquet")
    found = fsvc.identify(tmp_path / "polars.parquet")
    assert found.id in (ID, fsvc.identify(pl.from_arrow(table)).id)
    committed(table).write_parquet(tmp_path / "fsvc.parquet")
    assert fsvc.identify(tmp_path / "fsvc.parquet").id == ID


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_the_same_table_from_arrow_files(compression: str | None, tmp_path: Path) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    for name, new in (("t.arrow", pa.ipc.new_file), ("t.arrows", pa.ipc.new_stream)):
        with new(tmp_path / name, TABLE.schema, options=options) as writer:
            writer.write_table(TABLE, max_chunksize=700)
        assert fsvc.identify(tmp_path / name).id == ID


def test_parts_in_a_folder_are_one_table(tmp_path: Path) -> None:
    for number, start in enumerate(range(0, ROWS, 1000)):
        pq.write_table(TABLE.slice(start, 1000), tmp_path / f"part-{number}.parquet")
    assert fsvc.identify(tmp_path).id == ID
    assert fsvc.identify(str(tmp_path / "*.parquet")).id == ID


def test_csv_and_json_with_the_types_that_are_found(tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2, 3], "x": [0.5, None, -1.25], "s": ["a", "b", None]})
    (tmp_path / "t.csv").write_text("id,x,s\n1,0.5,a\n2,,b\n3,-1.25,\n")
    (tmp_path / "t.jsonl").write_text('{"id":1,"x":0.5,"s":"a"}\n{"id":2,"s":"b"}\n{"id":3,"x":-1.25}\n')
    assert fsvc.identify(tmp_path / "t.csv").id == fsvc.identify(tmp_path / "t.jsonl").id
    assert fsvc.identify(tmp_path / "t.csv").id == fsvc.identify(table).id


@given(strategies.tables(extensions=True), st.data())
def test_layout_and_chunks_do_not_count(table: pa.Table, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, table.num_rows), max_size=3))
    # Dictionaries of chunks may differ only as they do where somebody cuts a table.
    again = pa.Table.from_arrays(
        [
            strategies.chunked(pa.concat_arrays(c.chunks) if viewless(c.type) else c.chunk(0), cuts)
            for c in one(table)
        ],
        schema=table.schema,
    )
    assert fsvc.identify(again).id == fsvc.identify(table).id


def viewless(kind: pa.DataType) -> bool:
    """Whether pyarrow can join arrays of a type (it fails on some extension types)."""
    return not isinstance(kind, pa.BaseExtensionType)


def one(table: pa.Table) -> list[pa.ChunkedArray]:
    """The columns with one chunk each at least."""
    return [
        c if c.num_chunks == 1 or viewless(c.type) else pa.chunked_array([pa.concat_arrays(c.chunks)], c.type)
        for c in table.columns
    ]


# --- history does not count


def test_an_id_is_the_same_in_every_repository_and_after_any_history() -> None:
    fresh = committed(TABLE, key="id").id
    repository = memory_repository()
    for version in (
        TABLE.slice(500),
        TABLE.drop(["real"]),
        pa.concat_tables([TABLE.slice(2900), TABLE.slice(0, 2900)]),
    ):
        assert committed(version, key="id", repository=repository).id != fresh
    assert committed(TABLE, key="id", repository=repository).id == fresh
    assert repository.snapshot("t").version == 4
    assert fsvc.identify(TABLE, key="id").id == fresh


def test_threads_do_not_count() -> None:
    table = pa.table({"id": np.arange(300_000), "x": RANDOM.normal(size=300_000)})
    assert len({fsvc.identify(table, threads=threads).id for threads in (1, 2, 7)}) == 1


def test_key_and_order_count() -> None:
    assert len({ID, fsvc.identify(TABLE, key="id").id, fsvc.identify(TABLE, key=["id", "day"]).id}) == 3
    backwards = TABLE.take(pa.array(np.arange(ROWS)[::-1]))
    assert fsvc.identify(backwards).id != ID
    assert fsvc.identify(backwards, sort_by="id").id == ID


# --- other data


def float_with_bits(word: int) -> pa.Table:
    return pa.table({"x": np.array([1, word, 3], "<u8").view("<f8")})


BASE = pa.table({"a": [1, 2, 3], "b": ["x", "y", None], "c": [[1], [], None]})
OTHERS: dict[str, pa.Table] = {
    "a value": BASE.set_column(0, "a", pa.array([1, 2, 4])),
    "a null for a value": BASE.set_column(0, "a", pa.array([1, None, 3])),
    "zero for null": BASE.set_column(0, "a", pa.array([1, 0, 3])),
    "empty text for null": BASE.set_column(1, "b", pa.array(["x", "y", ""])),
    "empty list for null": BASE.set_column(2, "c", pa.array([[1], [], []])),
    "null in a list": BASE.set_column(2, "c", pa.array([[1], [None], None])),
    "moved between lists": BASE.set_column(2, "c", pa.array([[], [1], None])),
    "rows swapped": BASE.take([1, 0, 2]),
    "a row less": BASE.slice(0, 2),
    "a row twice": pa.concat_tables([BASE, BASE.slice(2)]),
    "no rows": BASE.slice(0, 0),
    "a column renamed": BASE.rename_columns(["A", "b", "c"]),
    "columns swapped": BASE.select(["b", "a", "c"]),
    "names swapped": BASE.rename_columns(["a", "c", "b"]),
    "a column less": BASE.drop(["a"]),
    "a column more": BASE.append_column("d", pa.nulls(3)),
    "retyped": BASE.set_column(0, "a", BASE["a"].cast(pa.int32())),
    "unsigned": BASE.set_column(0, "a", BASE["a"].cast(pa.uint64())),
    "as time": BASE.set_column(0, "a", BASE["a"].cast(pa.timestamp("us"))),
    "as time of a zone": BASE.set_column(0, "a", BASE["a"].cast(pa.timestamp("us", "UTC"))),
    "as duration": BASE.set_column(0, "a", BASE["a"].cast(pa.duration("us"))),
    "bytes for text": BASE.set_column(1, "b", BASE["b"].cast(pa.binary())),
    "large text": BASE.set_column(1, "b", BASE["b"].cast(pa.large_string())),
    "text in views": BASE.set_column(1, "b", BASE["b"].cast(pa.string_view())),
    "categories": BASE.set_column(1, "b", BASE["b"].dictionary_encode()),
    "large lists": BASE.set_column(2, "c", BASE["c"].cast(pa.large_list(pa.int64()))),
    "not null": BASE.cast(pa.schema([pa.field("a", pa.int64(), False), *list(BASE.schema)[1:]])),
    "metadata": BASE.replace_schema_metadata({"k": "v"}),
    "other metadata": BASE.replace_schema_metadata({"k": "w"}),
    "empty metadata value": BASE.replace_schema_metadata({"k": ""}),
    "metadata of a field": BASE.cast(
        pa.schema([pa.field("a", pa.int64(), metadata={"k": "v"}), *list(BASE.schema)[1:]])
    ),
}


def test_other_data_has_another_id() -> None:
    ids = {name: fsvc.identify(table).id for name, table in OTHERS.items()}
    ids["itself"] = fsvc.identify(BASE).id
    assert len(set(ids.values())) == len(ids)


def test_every_bit_of_a_float_counts() -> None:
    words = [0, 1 << 63, 0x7FF8000000000000, 0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000001]
    assert len({fsvc.identify(float_with_bits(word)).id for word in words}) == len(words)


def categories(words: list[str], indices: list[int], ordered: bool = False, width: Any = None) -> pa.Table:
    width = width or pa.int8()
    return pa.table({"c": pa.DictionaryArray.from_arrays(pa.array(indices, width), words, ordered=ordered)})


def test_categories_count() -> None:
    forms = [
        categories(["a", "b"], [0, 1]),
        categories(["b", "a"], [1, 0]),
        categories(["a", "b", "unused"], [0, 1]),
        categories(["unused", "a", "b"], [1, 2]),
        categories(["a", "b"], [0, 1], ordered=True),
        categories(["a", "b"], [0, 1], width=pa.int16()),
    ]
    assert len({fsvc.identify(table).id for table in forms}) == len(forms)
    assert len({fsvc.identify(table.slice(0, 0)).id for table in forms}) == len(forms)


@given(strategies.array_pairs(), st.integers(0, 2))
def test_ids_are_equal_if_and_only_if_the_data_is(pair: tuple[pa.Array, pa.Array], before: int) -> None:
    others = {str(i): pa.nulls(len(pair[0]), pa.int8()) for i in range(before)}
    try:
        ids = [fsvc.identify(pa.table({**others, "x": array})).id for array in pair]
    except UnsupportedData:
        # The difference was a null where none may be.
        reject()
    assert (ids[0] == ids[1]) == (strategies.bits(pair[0]) == strategies.bits(pair[1]))


# --- what is shared


@pytest.mark.parametrize(
    "kinds",
    [
        (pa.string(), pa.large_string(), pa.string_view()),
        (pa.binary(), pa.large_binary(), pa.binary_view()),
        (pa.string(), pa.dictionary(pa.int8(), pa.string())),
        (pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_view(pa.string_view())),
        (pa.decimal32(5, 2), pa.decimal64(5, 2), pa.decimal128(5, 2)),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("us", "Asia/Tokyo")),
    ],
    ids=str,
)
def test_types_of_one_form_share_their_chunks(kinds: tuple[pa.DataType, ...]) -> None:
    text = ["a", None, "", "longer than any view holds"] * 20
    values: list[Any] = text
    if pa.types.is_nested(kinds[0]):
        values = [text, None, []]
    elif pa.types.is_decimal(kinds[0]) or pa.types.is_timestamp(kinds[0]):
        values = [1, None, 300]
    elif pa.types.is_binary(kinds[0]):
        values = [None if t is None else t.encode() for t in text]
    tables = [pa.table({"x": pa.array(values, kind)}) for kind in kinds]
    repository = memory_repository()
    first = repository.commit({"t": tables[0]}, message="one")
    ids = {first.snapshot("t").id}
    for table in tables[1:]:
        commit = repository.commit({"t": table}, message="other")
        ids.add(commit.snapshot("t").id)
        # Categories are an object of their own; the rows are not stored again.
        assert commit.changes["t"]["new_chunks"] == 0
    assert len(ids) == len(kinds)


def test_field_ids_and_names_of_elements_do_not_count(tmp_path: Path) -> None:
    item = pa.table({"l": pa.array([[1]], pa.list_(pa.field("item", pa.int64())))})
    other = pa.table({"l": pa.array([[1]], pa.list_(pa.field("whatever", pa.int64())))})
    numbered = item.cast(
        pa.schema([pa.field("l", item.schema.field("l").type, metadata={"PARQUET:field_id": "7"})])
    )
    assert len({fsvc.identify(table).id for table in (item, other, numbered, normal(item))}) == 1
    sink = io.BytesIO()
    pq.write_table(numbered, sink)
    (tmp_path / "t.parquet").write_bytes(sink.getvalue())
    assert fsvc.identify(tmp_path / "t.parquet").id == fsvc.identify(item).id
