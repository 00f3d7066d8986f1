"""The Parquet that users get, as files and at ``fsvc://``, read by every reader that people have."""

from __future__ import annotations

import datetime
import decimal
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from memory import committed, memory_repository

import fsvc
from fsvc.format import pages
from fsvc.format.stored import to_stored
from fsvc.query.filesystem import SnapshotFileSystem
from fsvc.snapshot import Snapshot

ROWS = 140_000
RANDOM = np.random.default_rng(3)
NULLS = RANDOM.random(ROWS) < 0.1


def known_to_all() -> pa.Table:
    """A table of several row groups, of types that all readers have."""
    numbers = np.arange(ROWS)
    return pa.table(
        {
            "id": pa.array(numbers),
            "small": pa.array(numbers % 50, pa.int8(), mask=NULLS),
            "wide": pa.array(RANDOM.integers(-(2**62), 2**62, ROWS)),
            "unsigned": pa.array(RANDOM.integers(0, 2**32, ROWS), pa.uint32()),
            "real": pa.array(RANDOM.normal(size=ROWS), mask=NULLS),
            "single": pa.array(RANDOM.normal(size=ROWS), pa.float32()),
            "flag": pa.array(numbers % 3 == 0, mask=NULLS),
            "text": pa.array([f"name {i}" for i in RANDOM.integers(0, 500, ROWS)], mask=NULLS),
            "unique": pa.array([f"{i:x}" for i in RANDOM.integers(0, 2**60, ROWS)]),
            "when": pa.array(numbers * 977_000, pa.timestamp("us")),
            "zoned": pa.array(numbers * 1000, pa.timestamp("ms", "UTC"), mask=NULLS),
            "day": pa.array((numbers % 900).astype(np.int32), pa.date32()),
            "kind": pa.array(numbers % 4).cast(pa.string()).dictionary_encode(),
            "share": pa.array(RANDOM.integers(0, 10_000, ROWS) / 10_000, mask=NULLS),
            "amount": pa.array(RANDOM.integers(-30_000, 30_000, ROWS) / 100),
            "rate": pa.array((RANDOM.integers(0, 3000, ROWS) / 8).astype(np.float32), mask=NULLS),
            "city": pa.array(RANDOM.integers(0, 70_000, ROWS), pa.int32()),
            "nothing": pa.array([None] * ROWS, pa.float64()),
        }
    )


TABLE = known_to_all()
NAMES = TABLE.column_names


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return committed(TABLE, key="id")


@pytest.fixture(scope="module")
def checkout(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkout") / "t.parquet"
    snapshot.write_parquet(path)
    return path


@pytest.fixture(scope="module")
def files(snapshot: Snapshot) -> SnapshotFileSystem:
    """The fsspec filesystem of the snapshot's repository."""
    return SnapshotFileSystem(repository=snapshot._store)


def plain(table: pa.Table) -> pa.Table:
    """What readers without dictionaries see."""
    position = table.column_names.index("kind") if "kind" in table.column_names else -1
    return table if position < 0 else table.set_column(position, "kind", table["kind"].cast(pa.string()))


def same_values(found: pa.Table, wanted: pa.Table) -> None:
    assert found.column_names == wanted.column_names
    for name in wanted.column_names:
        got = found[name]
        if pa.types.is_dictionary(got.type):
            got = got.cast(got.type.value_type)
        assert got.cast(wanted[name].type).equals(wanted[name]), name


# --- files


def test_pyarrow(checkout: Path) -> None:
    table = pq.read_table(checkout)
    assert table.schema.equals(TABLE.schema, check_metadata=False)
    same_values(table, plain(TABLE))
    file = pq.ParquetFile(checkout)
    assert file.metadata.num_rows == ROWS
    assert file.metadata.num_row_groups > 1
    assert file.metadata.created_by == "fsvc"
    filtered = pq.read_table(checkout, filters=[("id", ">=", 139_000)], columns=["text", "id"])
    assert filtered["id"].to_pylist() == list(range(139_000, ROWS))
    assert (
        ds.dataset(checkout).count_rows(filter=ds.field("small") == 7)
        == pc.sum(pc.equal(TABLE["small"], 7)).as_py()
    )


def test_duckdb(checkout: Path) -> None:
    with duckdb.connect() as connection:
        same_values(connection.sql(f"from '{checkout}'").to_arrow_table(), plain(TABLE))
        one = TABLE["unique"][77].as_py()
        counted = connection.sql(f"from '{checkout}'").filter(f"\"unique\" = '{one}'").count("*").fetchall()
        assert counted == [(1,)]


def test_polars(checkout: Path) -> None:
    same_values(pl.read_parquet(checkout).to_arrow(), plain(TABLE))
    lazy = pl.scan_parquet(checkout).filter(pl.col("id") > 139_990).select("id", "when").collect()
    assert lazy["id"].to_list() == list(range(139_991, ROWS))


def test_pandas(checkout: Path) -> None:
    pd.testing.assert_frame_equal(pd.read_parquet(checkout), TABLE.to_pandas())


def test_fastparquet(checkout: Path) -> None:
    # In single columns: fastparquet 2026 and pandas 3 disagree on how to make a whole frame of some.
    file = fastparquet.ParquetFile(str(checkout))
    assert file.count() == ROWS
    for name in NAMES:
        if name == "zoned":
            continue  # fastparquet 2026 cannot make a zoned column for pandas 3, of any file
        found = file.to_pandas(columns=[name], index=False)[name]
        wanted = plain(TABLE)[name]
        got = pa.array(found, from_pandas=True)
        if pa.types.is_dictionary(got.type):
            got = got.cast(got.type.value_type)
        got = pa.chunked_array([got]) if isinstance(got, pa.Array) else got
        assert got.cast(wanted.type).equals(wanted), name


# --- at fsvc://


def test_readers_of_fsspec(snapshot: Snapshot, files: SnapshotFileSystem) -> None:
    for path in (
        "t",
        "t@v1",
        "t@main",
        f"t@{snapshot.commit.id}",
        f"t@{snapshot.commit.id[:10]}",
        "t@v1.parquet",
    ):
        assert files.exists(path)
        with files.open(path) as file:
            assert pq.ParquetFile(file).metadata.num_rows == ROWS
    assert not files.exists("t@v2")
    assert not files.exists("u")
    assert files.ls("", detail=False) == ["t"]
    with files.open("t@v1") as file:
        same_values(pq.read_table(file), plain(TABLE))
    same_values(pq.read_table("t@v1", filesystem=files, columns=["real", "id"]), TABLE.select(["real", "id"]))
    with files.open("t@v1") as file:
        same_values(pl.read_parquet(file, columns=["id", "text"]).to_arrow(), TABLE.select(["id", "text"]))
    with files.open("t") as file:
        pd.testing.assert_frame_equal(pd.read_parquet(file), TABLE.to_pandas())


def test_duckdb_over_fsspec(files: SnapshotFileSystem) -> None:
    with duckdb.connect() as connection:
        connection.register_filesystem(files)
        same_values(connection.sql("from read_parquet('fsvc://t@v1')").to_arrow_table(), plain(TABLE))
        found = connection.sql(
            "select sum(id), count(real) from 'fsvc://t@v1.parquet' where id >= 100000"
        ).fetchall()
        assert found == [(sum(range(100_000, ROWS)), int((~NULLS[100_000:]).sum()))]
        connection.unregister_filesystem("fsvc")


def test_addresses_in_a_process_that_has_the_repository_open(tmp_path: Path) -> None:
    repository = fsvc.init(tmp_path / "repository", author="Ada")
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    uri = repository.commit({"t": table}, message="one").snapshot("t").uri
    options = {"repository": str(tmp_path / "repository")}
    assert pd.read_parquet("fsvc://t@v1", storage_options=options, engine="pyarrow")["a"].tolist() == [1, 2]
    assert pl.read_parquet(uri, use_pyarrow=True).to_arrow()["a"].to_pylist() == [1, 2]
    assert pd.read_parquet(uri, engine="pyarrow")["b"].tolist()[0] == "x"


def test_a_file_reads_alike_in_any_pieces(files: SnapshotFileSystem) -> None:
    with files.open("t") as file:
        size = file.size
        assert file.read(4) == b"PAR1"
        file.seek(-4, io.SEEK_END)
        assert file.read() == b"PAR1"
        assert file.read() == b""
        footer = pq.ParquetFile(file).metadata
        column = footer.row_group(0).column(8)
        start, length = column.data_page_offset, column.total_compressed_size
        start = min(start, column.dictionary_page_offset or start)
        file.seek(start)
        whole = file.read(length)
        for step in (1000, 4096, length):
            file.seek(start)
            assert b"".join(file.read(min(step, length - at)) for at in range(0, length, step)) == whole
        file.seek(start - 100)
        assert file.read(length + 200)[100:-100] == whole
        file.seek(size + 10)
        assert file.read(10) == b""
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
    with pytest.raises(OSError, match="read-only"):
        files.open("t", "wb")


# --- statistics


def metadata_of(table: pa.Table) -> pq.FileMetaData:
    sink = Path("/dev/null")
    assert sink
    repository = memory_repository()
    committed(table, repository=repository)
    with SnapshotFileSystem(repository=repository.store).open("t") as file:
        return pq.ParquetFile(file).metadata


def smallest_and_largest(array: pa.Array) -> tuple[Any, Any]:
    found = pc.min_max(array)
    return found["min"].as_py(), found["max"].as_py()


STATISTICS: dict[str, pa.Array] = {
    "int8": pa.array([3, None, -7], pa.int8()),
    "uint8": pa.array([3, None, 250], pa.uint8()),
    "uint32": pa.array([3, None, 2**32 - 1], pa.uint32()),
    "uint64": pa.array([3, None, 2**64 - 1], pa.uint64()),
    "int64": pa.array([-(2**63), None, 2**63 - 1], pa.int64()),
    "float": pa.array([-1.5, None, 2.25], pa.float32()),
    "double": pa.array([-1e300, None, 5e-324]),
    "bool": pa.array([True, None, True]),
    "text": pa.array(["b", None, "a\U0001f600"]),
    "bytes": pa.array([b"\xff", None, b"\x00"]),
    "fixed": pa.array([b"\xff\x00", None, b"\x00\xff"], pa.binary(2)),
    "decimal": pa.array([decimal.Decimal("-9.99"), None, decimal.Decimal("0.01")], pa.decimal128(5, 2)),
    "wide decimal": pa.array(
        [decimal.Decimal(10) ** 40, None, -(decimal.Decimal(10) ** 40)], pa.decimal256(60, 0)
    ),
    "date": pa.array([datetime.date(1, 1, 1), None, datetime.date(9999, 12, 31)]),
    "time": pa.array([datetime.time(1), None, datetime.time(23, 59, 59)], pa.time64("us")),
    "timestamp": pa.array([0, None, -1], pa.timestamp("us", "UTC")),
    "category": pa.array(["z", None, "b"]).dictionary_encode(),
}


@pytest.mark.parametrize("array", STATISTICS.values(), ids=STATISTICS.keys())
def test_statistics_are_exact(array: pa.Array) -> None:
    column = metadata_of(pa.table({"x": array})).row_group(0).column(0)
    found = column.statistics
    assert column.num_values == len(array)
    assert found.null_count == 1
    values = array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
    low, high = smallest_and_largest(values)
    if pa.types.is_fixed_size_binary(values.type):
        low, high = b"\x00\xff", b"\xff\x00"
    assert (found.min, found.max) == (low, high)


def test_chunks_with_nan_have_no_range() -> None:
    table = pa.table(
        {
            "f2": pa.array(np.array([1, np.nan, 3], np.float16)),
            "f4": pa.array([1, float("nan"), 3], pa.float32()),
            "f8": pa.array([1, float("nan"), None]),
            "nested": pa.array([[1.0], [float("nan")], []]),
            "fine": pa.array([1.0, 2.0, float("inf")]),
        }
    )
    group = metadata_of(table).row_group(0)
    found = {group.column(i).path_in_schema.split(".")[0]: group.column(i).statistics for i in range(5)}
    assert {name: each.has_min_max for name, each in found.items()} == {
        "f2": False, "f4": False, "f8": False, "nested": False, "fine": True,
    }  # fmt: skip
    assert found["f8"].null_count == 1
    assert (found["fine"].min, found["fine"].max) == (1.0, float("inf"))


@pytest.mark.parametrize("reader", ["file", "relation"])
def test_no_row_is_lost_to_pruning_where_there_is_nan(reader: str, tmp_path: Path) -> None:
    rows = 140_000
    values = np.arange(rows, dtype=np.float64)
    values[::1000] = np.nan
    found = committed(pa.table({"id": np.arange(rows), "x": values}))
    found.write_parquet(tmp_path / "t.parquet")
    relation = (
        duckdb.connect().read_parquet(str(tmp_path / "t.parquet")) if reader == "file" else found.relation()
    )
    for condition, count in (
        ("isnan(x)", 140),
        ("x > 139998.5", 141),
        ("x = 'nan'::double", 140),
        ("x < 1.5", 1),
    ):
        assert relation.filter(condition).count("*").fetchall() == [(count,)], condition


def test_zeros_of_both_signs_are_in_the_range() -> None:
    for values in ([0.0], [-0.0], [0.0, -0.0]):
        statistics = metadata_of(pa.table({"x": values})).row_group(0).column(0).statistics
        assert (np.signbit(statistics.min), np.signbit(statistics.max)) == (True, False)


@given(strategies.tables(max_columns=3))
def test_statistics_of_any_table_say_nothing_wrong(table: pa.Table) -> None:
    metadata = metadata_of(table)
    assert metadata.num_rows == table.num_rows
    if not table.num_rows:
        assert metadata.num_row_groups == 0
        return
    leaves = []
    for field, column in zip(table.schema, table.columns, strict=True):
        stored = to_stored(
            pa.concat_arrays(column.chunks) if column.num_chunks > 1 else column.chunk(0), field.name
        )
        leaves += pages.leaf_arrays(stored)
    group = metadata.row_group(0)
    assert group.num_columns == len(leaves)
    for number, leaf in enumerate(leaves):
        column = group.column(number)
        found = column.statistics
        if found is None:
            continue
        assert column.num_values - found.null_count == len(leaf) - leaf.null_count
        if found.has_min_max and pa.types.is_integer(leaf.type):
            assert (found.min, found.max) == smallest_and_largest(leaf)


# --- types that readers have


DUCKDB: dict[str, tuple[pa.DataType, list[Any]]] = {
    "nested": (
        pa.list_(pa.struct([("x", pa.int8()), ("y", pa.list_(pa.string()))])),
        [[{"x": 1, "y": ["a", None]}], [], None],
    ),
    "map": (pa.map_(pa.string(), pa.int32()), [[("a", 1), ("b", None)], [], None]),
    "decimal": (pa.decimal128(38, 10), [decimal.Decimal("1.5"), None]),
    "time": (pa.time64("us"), [datetime.time(1, 2, 3, 4), None]),
    "uint64": (pa.uint64(), [2**64 - 1, None]),
    "blob": (pa.binary(), [b"\0\xff", None]),
    "fixed list": (pa.list_(pa.float32(), 2), [[1, 2], None]),
    "view": (pa.string_view(), ["a", None, "longer than any view holds"]),
}


@pytest.mark.parametrize(("kind", "values"), DUCKDB.values(), ids=DUCKDB.keys())
def test_types_that_duckdb_and_polars_see(kind: pa.DataType, values: list[Any], tmp_path: Path) -> None:
    table = pa.table({"x": pa.array(values, kind)})
    found = committed(table)
    found.write_parquet(tmp_path / "t.parquet")
    wanted = table["x"].to_pylist()
    path = str(tmp_path / "t.parquet")
    for got in (
        duckdb.connect().read_parquet(path).to_arrow_table(),
        found.relation().to_arrow_table(),
        pq.read_table(path),
    ):
        assert got["x"].to_pylist() == wanted
    if not pa.types.is_map(kind):
        assert pl.read_parquet(path)["x"].to_arrow().to_pylist() == wanted


READERS: dict[str, Callable[[Path], Any]] = {
    "pyarrow": lambda path: pq.read_table(path).num_rows,
    "duckdb": lambda path: duckdb.connect().read_parquet(str(path)).count("*").fetchall()[0][0],
    "polars": lambda path: pl.read_parquet(path).height,
    "fastparquet": lambda path: len(fastparquet.ParquetFile(str(path)).to_pandas()),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_a_file_without_rows(reader: Callable[[Path], Any], tmp_path: Path) -> None:
    committed(pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())})).write_parquet(
        tmp_path / "t.parquet"
    )
    assert reader(tmp_path / "t.parquet") == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.tables(max_columns=3, max_rows=12))
def test_what_pyarrow_reads_from_a_checkout_is_what_the_oracle_says(tmp_path: Path, table: pa.Table) -> None:
    committed(table).write_parquet(tmp_path / "t.parquet")
    try:
        found = pq.read_table(tmp_path / "t.parquet", arrow_extensions_enabled=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return  # pyarrow cannot read all that it can write; DESIGN of the table of types in docs/format.md
    for field, got, wanted in zip(table.schema, found.columns, table.columns, strict=True):
        if got.type == field.type:
            assert strategies.bits(got) == strategies.bits(wanted)


def test_threads_that_share_an_open_file_read_where_each_of_them_sought() -> None:
    """DuckDB scans one file in several places of a query through one handle: seek and read of two threads cross."""
    snapshot = committed(pa.table({"a": list(range(1000))}))
    filesystem = SnapshotFileSystem(snapshot.store)
    with filesystem.open(snapshot.uri) as file, ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        whole = file.read()
        one.submit(file.seek, 0).result()
        other.submit(file.seek, len(whole) - 4).result()
        assert one.submit(file.read, 4).result() == whole[:4]
        assert other.submit(file.read, 4).result() == b"PAR1"
        # A thread that comes anew goes on where the last read of all ended.
        file.seek(10)
        file.read(5)
        with ThreadPoolExecutor(1) as third:
            assert third.submit(file.read, 5).result() == whole[15:20]
        assert file.tell() == 15
