"""Everything that can be committed comes out of its source as the same table."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from strategies import bits, tables

from fsvc.errors import InvalidUse, NotFound, UnreadableInput, UnsupportedData
from fsvc.format.categories import CATEGORIES_KEY, decode_categories, dictionary_types, encode_categories
from fsvc.sources import Source, open_source, sort_source

TABLE = pa.table({"id": [1, 2, 3], "name": ["a", None, "c"], "x": [0.5, float("nan"), -0.0]})


def read(obj: Any, **options: Any) -> pa.Table:
    with open_source(obj, **options) as source:
        return pa.Table.from_batches(source.batches(), schema=source.schema)


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    """The same names, types, nullability and values to the bit; names of list children aside."""
    assert found.column_names == expected.column_names
    assert found.schema.types == expected.schema.types
    assert [field.nullable for field in found.schema] == [field.nullable for field in expected.schema]
    for name, one, two in zip(found.column_names, found.columns, expected.columns, strict=True):
        assert bits(one) == bits(two), name


# --- objects


class Streamed:
    """An object that only speaks the Arrow stream protocol."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


class Snapshotlike:
    def __init__(self, table: pa.Table) -> None:
        self.schema, self.num_rows, self._table = table.schema, table.num_rows, table

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        return iter(self._table.to_batches())


@given(tables(extensions=True), st.sampled_from(["table", "reader", "stream", "snapshot"]))
def test_arrow_objects_come_out_as_they_are(table: pa.Table, kind: str) -> None:
    given_object = {
        "table": lambda: table,
        "reader": table.to_reader,
        "stream": lambda: Streamed(table),
        "snapshot": lambda: Snapshotlike(table),
    }[kind]()
    with open_source(given_object) as source:
        assert source.schema.equals(table.schema, check_metadata=True)
        batches = list(source.batches())
    assert all(batch.schema.equals(table.schema, check_metadata=True) for batch in batches)
    assert_same(pa.Table.from_batches(batches, schema=table.schema), table)


def test_a_stream_is_read_once() -> None:
    source = open_source(TABLE.to_reader())
    assert not source.repeatable
    list(source.batches())
    with pytest.raises(InvalidUse, match="only once"):
        source.batches()


def test_a_table_is_read_again() -> None:
    source = open_source(TABLE)
    assert source.repeatable and source.num_rows == 3
    assert [batch.num_rows for batch in source.batches()] == [3]
    assert_same(pa.Table.from_batches(source.batches()), TABLE)
    source.close()
    with pytest.raises(InvalidUse, match="closed"):
        source.batches()


def test_a_failing_stream_is_told() -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield TABLE.to_batches()[0]
        raise RuntimeError("the network is gone")

    source = open_source(pa.RecordBatchReader.from_batches(TABLE.schema, batches()))
    with pytest.raises(UnsupportedData, match="the network is gone"):
        list(source.batches())


@pytest.mark.parametrize("obj", [3, [1, 2], b"bytes", None, np.arange(3), pa.array([1]), object()])
def test_what_is_not_a_table_is_refused(obj: Any) -> None:
    with pytest.raises(InvalidUse, match="not a table"):
        open_source(obj)


def test_dict_of_columns() -> None:
    assert_same(
        read({"a": [1, None], "b": np.array([1.5, 2.5])}), pa.table({"a": [1, None], "b": [1.5, 2.5]})
    )
    with pytest.raises(InvalidUse, match="'a' has 1, 'b' has 2"):
        open_source({"a": [1], "b": [1, 2]})
    with pytest.raises(UnsupportedData, match="'a'"):
        open_source({"a": [1, "x"]})
    with pytest.raises(InvalidUse, match="'a'"):
        open_source({"a": "text"})


@pytest.mark.parametrize("kind", ["table", "reader", "parquet", "csv"])
def test_columns_are_chosen_in_order(kind: str, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("id,name,x\n1,a,0.5\n2,,nan\n3,c,-0.0\n")
    obj: Any = {
        "table": TABLE,
        "reader": TABLE.to_reader(),
        "parquet": tmp_path / "t.parquet",
        "csv": tmp_path / "t.csv",
    }[kind]
    assert_same(read(obj, columns=["x", "id"]), TABLE.select(["x", "id"]))


def test_wrong_columns_are_refused() -> None:
    with pytest.raises(NotFound, match="no column 'nmae'") as caught:
        open_source(TABLE, columns=["nmae"])
    assert caught.value.hint is not None and "'name'" in caught.value.hint
    for columns in ([], ["id", "id"], "id"):
        with pytest.raises(InvalidUse):
            open_source(TABLE, columns=columns)


# --- other libraries


def test_pandas_keeps_what_pandas_says() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"s": ["a", None], "c": pandas.Categorical(["y", "x"], categories=["z", "y", "x"], ordered=True)},
        index=pandas.Index([7, 9], name="key"),
    )
    found = read(frame)
    assert_same(found, pa.Table.from_pandas(frame))
    pandas.testing.assert_frame_equal(found.to_pandas(), frame)
    with pytest.raises(UnsupportedData, match="mixed"):
        open_source(pandas.DataFrame({"mixed": [1, "x", b"y"]}))
    with pytest.raises(InvalidUse, match="Series"):
        open_source(frame["s"])


def test_polars() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {"s": ["a", None], "e": polars.Series(["x", None], dtype=polars.Enum(["z", "x"])), "l": [[1], None]}
    )
    found = read(frame)
    assert found.schema.field("s").type == pa.large_string()
    assert found.column("e").chunk(0).dictionary.to_pylist() == ["z", "x"]
    assert found.to_pylist() == frame.to_dicts()
    with pytest.raises(InvalidUse, match="LazyFrame") as caught:
        open_source(frame.lazy())
    assert caught.value.hint == "pass frame.collect()"


def test_duckdb_relation() -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        source = open_source(connection.sql("select i, i::varchar as s from range(100000) t(i)"))
        assert not source.repeatable
        found = pa.Table.from_batches(source.batches(), schema=source.schema)
        assert found.column("i").to_pylist() == list(range(100_000))
        bad = connection.sql(
            "select case when i < 90000 then 1 else error('no more') end as x from range(100000) t(i)"
        )
        with pytest.raises(UnsupportedData, match="no more"):
            list(open_source(bad).batches())
        source.close()


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys, fsvc.sources\n"
        "heavy = {'duckdb', 'pandas', 'polars', 'pyarrow.parquet'} & set(sys.modules)\n"
        "import pyarrow as pa\n"
        "fsvc.sources.open_source(pa.RecordBatch.from_arrays([pa.nulls(1)], ['a'])).close()\n"
        "heavy |= {'duckdb', 'pandas', 'polars', 'pyarrow.parquet'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- Parquet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@given(tables(extensions=True), st.integers(1, 50))
def test_parquet_gives_back_the_table_it_was_written_from(folder: Path, table: pa.Table, group: int) -> None:
    check_parquet(folder / "any.parquet", table, group)


def check_parquet(path: Path, table: pa.Table, group: int) -> None:
    try:
        pq.write_table(table, path, row_group_size=group)
    except (pa.ArrowException, OSError) as error:
        event(f"pyarrow cannot write it: {type(error).__name__}")
        return
    try:
        found = read(path)
    except UnreadableInput:
        # Some nested lists of fixed size, below a null, are written by pyarrow and read by nobody.
        with pytest.raises((pa.ArrowException, OSError)):
            pq.ParquetFile(path).read()
        event("pyarrow cannot read it")
        return
    assert_same(found, table)


SECONDS = pa.timestamp("s", "Europe/Rome")


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, None], pa.timestamp("s")),
        pa.array([1, None], SECONDS),
        pa.array([86_400_000, None], pa.int64()).cast(pa.date64()),
        pa.array([1, None], pa.time32("s")),
        pa.array([[1], None, []], pa.list_(SECONDS)),
        pa.array([[1], None, []], pa.list_view(SECONDS)),
        pa.array([[("k", 1)], None], pa.map_(pa.string(), SECONDS)),
        pa.array([[1, 2], None], pa.list_(SECONDS, 2)),
        pa.array([{"a": [1]}, None, {"a": None}], pa.struct([("a", pa.list_(SECONDS))])),
        pa.array([10, 30, None, 10]).dictionary_encode(),
        pa.array([1.5, None]).dictionary_encode(),
        pa.array([True, None]).dictionary_encode(),
        pa.array(["a", None], pa.large_string()).dictionary_encode(),
        pa.array([b"a", None], pa.binary(1)).dictionary_encode(),
        pa.array([5, None], SECONDS).dictionary_encode(),
        pa.ListArray.from_arrays([0, 1, 3], pa.array([7, 8, 7]).dictionary_encode()),
        pa.array([3, None], pa.decimal32(5, 0)),
    ],
    ids=lambda array: str(array.type),
)
def test_types_that_the_reader_of_pyarrow_loses(array: pa.Array, tmp_path: Path) -> None:
    table = pa.table({"x": array})
    pq.write_table(table, tmp_path / "t.parquet")
    assert_same(read(tmp_path / "t.parquet"), table)


@pytest.mark.parametrize("version", ["1.0", "2.4"])
def test_types_that_an_old_version_of_the_format_lacks(version: str, tmp_path: Path) -> None:
    table = pa.table(
        {"u": pa.array([2**32 - 1], pa.uint32()), "t": pa.array([1_000_000], pa.timestamp("ns"))}
    )
    pq.write_table(table, tmp_path / "t.parquet", version=version)
    assert_same(read(tmp_path / "t.parquet"), table)


def test_a_file_that_lies_about_its_types_is_refused(tmp_path: Path) -> None:
    honest = pa.table({"t": pa.array([1500], pa.timestamp("ms"))})
    claimed = pa.schema([("t", pa.timestamp("s"))])
    text = base64.b64encode(claimed.serialize().to_pybytes())
    writer = pq.ParquetWriter(tmp_path / "t.parquet", honest.schema, store_schema=False)
    writer.write_table(honest)
    writer.add_key_value_metadata({"ARROW:schema": text.decode()})
    writer.close()
    with pytest.raises(UnreadableInput, match=r"t\.parquet.*'t'.*lose data"):
        read(tmp_path / "t.parquet")


def test_a_name_that_begins_another_is_chosen_alone(tmp_path: Path) -> None:
    table = pa.table({"a": [1], "a.b": [2], "a.c": [3]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert_same(read(tmp_path / "t.parquet", columns=["a.b", "a"]), table.select(["a.b", "a"]))


def test_parquet_needs_little_memory(tmp_path: Path) -> None:
    program = f"""
import pyarrow as pa, pyarrow.parquet as pq, numpy as np
rows = 400_000
table = pa.table({{f"c{{i}}": np.random.default_rng(i).normal(size=rows) for i in range(25)}})
pq.write_table(table, {str(tmp_path / "t.parquet")!r}, row_group_size=rows)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    program = f"""
import pyarrow as pa
from fsvc.sources import open_source
source = open_source({str(tmp_path / "t.parquet")!r})
assert sum(batch.num_rows for batch in source.batches()) == 400_000
print(pa.default_memory_pool().max_memory())
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    # Decoded, the one row group is 80 MB, a batch 13 MB; the rest is pages and dictionaries of 25 columns.
    # Reading column chunks whole would need 80 MB more.
    assert int(done.stdout) < 110e6


def test_wide_rows_are_read_few_at_a_time(tmp_path: Path) -> None:
    # One value of 100 kB, repeated: 65536 of them are 6.5 GB, and the file is tiny.
    blob = pa.array(["x" * 100_000] * 3000)
    pq.write_table(pa.table({"blob": blob}), tmp_path / "t.parquet", use_dictionary=True)
    with open_source(tmp_path / "t.parquet") as source:
        sizes = [batch.num_rows for batch in source.batches()]
    assert sum(sizes) == 3000
    assert max(sizes) * 100_000 < 128 * 2**20


# --- categories


def test_categories_survive_their_metadata() -> None:
    categories = {
        "a": pa.array(["z", "y"]),
        "b\\.c.element": pa.array([3, 1, 2]),
        "e": pa.array([], pa.string()),
    }
    decoded = decode_categories(encode_categories(categories), what="it")
    assert decoded.keys() == categories.keys()
    assert all(decoded[name].equals(values) for name, values in categories.items())


def test_paths_of_dictionaries_do_not_collide() -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    schema = pa.schema([("a.b", kind), ("a", pa.struct([("b", kind), ("l", pa.list_(kind))]))])
    assert list(dictionary_types(schema)) == ["a\\.b", "a.b", "a.l.element"]


def with_categories(table: pa.Table, categories: dict[str, pa.Array]) -> pa.Table:
    key = {CATEGORIES_KEY: encode_categories(categories)}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **key})


def test_categories_of_our_checkout_come_back(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(
        pa.array([2, None, 0], pa.int8()), ["z", "unused", "a"], ordered=True
    )
    number = pa.DictionaryArray.from_arrays(pa.array([1, 1, 0], pa.int16()), [30, 10, 20])
    nested = pa.StructArray.from_arrays([number], ["n"])
    table = pa.table({"t": text, "n": number, "s": nested})
    categories = {"t": text.dictionary, "n": number.dictionary, "s.n": number.dictionary}
    pq.write_table(with_categories(table, categories), tmp_path / "t.parquet", row_group_size=1)
    found = read(tmp_path / "t.parquet")
    assert_same(found, table)
    assert found.schema.metadata is None
    for chunk in found.column("t").chunks:
        assert chunk.dictionary.to_pylist() == ["z", "unused", "a"]
    for chunk in found.column("n").chunks:
        assert chunk.dictionary.to_pylist() == [30, 10, 20]
    for chunk in found.column("s").chunks:
        assert chunk.field("n").dictionary.to_pylist() == [30, 10, 20]


def test_wrong_categories_are_refused(tmp_path: Path) -> None:
    table = pa.table({"t": pa.array(["a", "b"]).dictionary_encode()})
    path = tmp_path / "t.parquet"
    pq.write_table(with_categories(table, {"t": pa.array(["a"])}), path)
    with pytest.raises(UnreadableInput, match="not among the categories"):
        read(path)
    pq.write_table(table.replace_schema_metadata({CATEGORIES_KEY: b"AAAA"}), path)
    with pytest.raises(UnreadableInput, match="categories"):
        read(path)


# --- Arrow IPC


@given(
    table=tables(extensions=True),
    stream=st.booleans(),
    suffix=st.sampled_from([".arrow", ".feather", ".thing"]),
)
def test_ipc_gives_back_the_table(folder: Path, table: pa.Table, stream: bool, suffix: str) -> None:
    path = folder / f"any{suffix}"
    table = table.unify_dictionaries() if not dictionary_types(table.schema) else table.combine_chunks()
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    try:
        with new(str(path), table.schema) as writer:
            writer.write_table(table)
    except pa.ArrowException:
        return
    found = read(path)
    assert found.schema.equals(table.schema, check_metadata=True)
    assert_same(found, table)


def test_broken_ipc_is_refused(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    whole = sink.getvalue()
    (tmp_path / "cut.arrow").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableInput, match=r"cut\.arrow"):
        read(tmp_path / "cut.arrow")
    (tmp_path / "old.feather").write_bytes(b"FEA1" + b"\0" * 50)
    with pytest.raises(UnreadableInput, match="version 1 of Feather"):
        read(tmp_path / "old.feather")


# --- paths


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("pattern", ["", "*.parquet", "part-[12].parquet", "**"])
def test_folders_and_globs_are_read_in_order_of_names(pattern: str, tmp_path: Path) -> None:
    for number in (2, 1):
        write(tmp_path / f"part-{number}.parquet", x=[number])
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".part-1.parquet.crc").write_text("crc")
    with open_source(str(tmp_path / pattern)) as source:
        assert source.num_rows == 2
        assert pa.Table.from_batches(source.batches()).column("x").to_pylist() == [1, 2]


def test_a_file_named_like_a_glob_is_itself(tmp_path: Path) -> None:
    write(tmp_path / "a[1].parquet", x=[1])
    write(tmp_path / "a1.parquet", x=[2])
    assert read(tmp_path / "a[1].parquet").column("x").to_pylist() == [1]


def test_partitioned_folders_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "day=1" / "x.parquet", x=[1])
    for path in (tmp_path, tmp_path / "*" / "*.parquet", tmp_path / "**"):
        with pytest.raises(UnreadableInput, match="partitioned by folders such as day=1"):
            open_source(path)
    assert read(file).num_rows == 1


def test_folders_that_make_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="no files"):
        open_source(tmp_path)
    write(tmp_path / "a.parquet", x=[1])
    write(tmp_path / "b.parquet", x=["1"])
    with pytest.raises(UnreadableInput, match=r"b\.parquet.*'x' is string and not int64"):
        open_source(tmp_path)
    write(tmp_path / "b.parquet", x=[1], y=[2])
    with pytest.raises(UnreadableInput, match=r"b\.parquet.*'y' more"):
        open_source(tmp_path)
    (tmp_path / "b.parquet").unlink()
    (tmp_path / "c.csv").write_text("x\n1\n")
    with pytest.raises(UnreadableInput, match="different kinds"):
        open_source(tmp_path)


def test_metadata_that_holds_for_one_file_only_is_left_out(tmp_path: Path) -> None:
    for name, index in (("a", b"0"), ("b", b"5")):
        table = pa.table({"x": [1]}).replace_schema_metadata({"owner": "me", "index": index})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    with open_source(tmp_path) as source:
        assert source.schema.metadata == {b"owner": b"me"}
        assert any("'index'" in note for note in source.notes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.parquet", b"", "is empty"),
        ("broken.parquet", b"PAR1 and then nothing", "cannot be read as Parquet"),
        ("what.xyz", b"hello, world", "unknown kind"),
        ("table.parquet.gz", b"hello, world", "unknown kind"),
    ],
)
def test_broken_files_are_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableInput, match=message) as caught:
        open_source(tmp_path / name)
    assert name in caught.value.message


def test_missing_files_suggest_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "customers.parquet", x=[1])
    with pytest.raises(UnreadableInput, match="does not exist") as caught:
        open_source(tmp_path / "customer.parquet")
    assert caught.value.hint is not None and "customers.parquet" in caught.value.hint
    with pytest.raises(UnreadableInput) as caught:
        open_source(tmp_path / "nowhere" / "x.parquet")
    assert caught.value.hint is not None and "nowhere" in caught.value.hint
    for text in ("s3://bucket/x.parquet", "nothing-*.parquet", "a\0b"):
        with pytest.raises(UnreadableInput):
            open_source(text)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UnreadableInput, match="not a file"):
        open_source(tmp_path / "pipe.csv")


def test_corruption_inside_a_file_is_told(tmp_path: Path) -> None:
    table = pa.table({"x": np.random.default_rng(0).normal(size=5000)})
    pq.write_table(table, tmp_path / "t.parquet", write_page_checksum=True)
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    data[1000] ^= 1
    (tmp_path / "t.parquet").write_bytes(data)
    with pytest.raises(UnreadableInput, match=r"t\.parquet"):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.arrow"])
def test_a_file_that_changes_while_it_is_read_is_refused(name: str, tmp_path: Path) -> None:
    def fill(path: Path, start: int) -> None:
        table = pa.table({"x": np.arange(start, start + 200_000)})
        if name == "t.csv":
            path.write_text("x\n" + "\n".join(map(str, table.column("x").to_pylist())))
        elif name == "t.arrow":
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table, max_chunksize=10_000)
        else:
            pq.write_table(table, path)

    fill(tmp_path / name, 10**6)
    fill(tmp_path / "other", 2 * 10**6)
    with open_source(tmp_path / name) as source:
        batches = source.batches()
        next(batches)
        (tmp_path / "other").replace(tmp_path / name)
        with pytest.raises(UnreadableInput, match="changed while"):
            list(batches)


# --- sorting


@given(table=tables(min_rows=1, max_columns=2), seed=st.integers(0, 9))
def test_sorting_is_stable_and_loses_nothing(table: pa.Table, seed: int) -> None:
    if "order" in table.column_names:
        return
    keys = np.random.default_rng(seed).integers(0, 4, table.num_rows)
    table = table.append_column("order", pa.array(keys))
    source = sort_source(open_source(table), ["order"])
    try:
        found = pa.Table.from_batches(source.batches(), schema=source.schema)
    except UnsupportedData as error:
        assert "cannot be" in error.message
        return
    expected = np.argsort(keys, kind="stable")
    for one, two in zip(found.columns, table.columns, strict=True):
        values = bits(two)
        assert bits(one) == [values[position] for position in expected]


def test_sorting_puts_nulls_last_and_refuses_lists() -> None:
    table = pa.table({"x": pa.array(["b", None, "a"], pa.string_view()), "l": [[2], [1], [3]]})
    found = sort_source(open_source(table), ["x"])
    assert isinstance(found, Source)
    assert pa.Table.from_batches(found.batches()).to_pylist() == [
        {"x": "a", "l": [3]},
        {"x": "b", "l": [2]},
        {"x": None, "l": [1]},
    ]
    with pytest.raises(UnsupportedData, match="'l'"):
        list(sort_source(open_source(table), ["l"]).batches())
    with pytest.raises(NotFound):
        sort_source(open_source(table), ["y"])
