"""Exactness: a table that was committed comes back as it was, whichever way it is taken out."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory import assert_same, committed, memory_repository, normal

import fsvc
from fsvc.errors import InvalidUse, NotFound
from fsvc.format.categories import is_list

LEAVES = strategies.LEAF_TYPES
EXTENSIONS = (
    pa.uuid(),
    pa.json_(pa.string()),
    pa.json_(pa.large_string()),
    pa.bool8(),
    pa.opaque(pa.int32(), "kind", "vendor"),
    pa.fixed_shape_tensor(pa.float32(), (2, 3)),
)
DICTIONARIES = (
    *(pa.dictionary(pa.int8(), kind) for kind in LEAVES if not pa.types.is_null(kind)),
    *(pa.dictionary(kind, pa.string(), ordered=True) for kind in (pa.uint8(), pa.int64(), pa.uint64())),
)
TYPES = (*LEAVES, *EXTENSIONS, *DICTIONARIES)


NESTED = (
    pa.int64(),
    pa.null(),
    pa.bool_(),
    pa.float16(),
    pa.string(),
    pa.binary_view(),
    pa.binary(3),
    pa.date64(),
    pa.timestamp("s", "Europe/Berlin"),
    pa.duration("ns"),
    pa.decimal256(76, 20),
    pa.fixed_shape_tensor(pa.float32(), (2, 3)),
    pa.dictionary(pa.int16(), pa.string()),
    pa.dictionary(pa.uint8(), pa.float32(), ordered=True),
)


def pyarrow_reads(field: pa.Field, *, below_null: bool = False) -> bool:
    """Whether pyarrow can read a field from Parquet, its own files included.

    It fails on lists of fixed size that must not be null inside of a struct that is.
    """
    kind = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    if isinstance(kind, pa.StructType):
        return all(pyarrow_reads(child, below_null=below_null or field.nullable) for child in kind)
    if isinstance(kind, pa.FixedSizeListType) and below_null and not field.nullable:
        return False
    if isinstance(kind, pa.MapType):
        return pyarrow_reads(kind.key_field) and pyarrow_reads(kind.item_field)
    if is_list(kind):
        return pyarrow_reads(kind.value_field)
    return True


def nestings(kind: pa.DataType) -> dict[str, pa.DataType]:
    """A type inside of every kind of nested type, with and without nulls allowed below."""
    element = pa.field("element", kind)
    required = pa.field("element", kind, pa.types.is_null(kind))
    found = {
        "list": pa.list_(element),
        "required list": pa.list_(required),
        "large list": pa.large_list(element),
        "fixed size list": pa.list_(element, 2),
        "required fixed size list": pa.list_(required, 2),
        "list view": pa.list_view(element),
        "large list view": pa.large_list_view(required),
        "struct": pa.struct([pa.field("", kind), pa.field("required", kind, pa.types.is_null(kind))]),
        "map": pa.map_(pa.field("key", pa.string(), False), pa.field("value", kind)),
        "list of lists": pa.list_(pa.field("element", pa.list_(element))),
        "list of structs": pa.list_(pa.field("element", pa.struct([pa.field("x", kind)]))),
    }
    if not pa.types.is_null(kind):
        found["map by it"] = pa.map_(pa.field("key", kind, False), pa.field("value", pa.int8()))
    return found


def table_of_kinds(kinds: dict[str, pa.DataType], rows: int, nulls: float) -> pa.Table:
    """A table of random content, a column per kind, in a layout that is not plain."""
    random = np.random.default_rng(rows)
    columns = [strategies.random_values(kind, rows, random, nulls=nulls) for kind in kinds.values()]
    schema = pa.schema([pa.field(name, kind) for name, kind in kinds.items()])
    return strategies.table_of(columns, schema, np.random.default_rng(7))


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_every_type_comes_back(kind: pa.DataType, tmp_path: Path) -> None:
    inside = {"list": pa.list_(pa.field("element", kind)), "struct": pa.struct([("x", kind)])}
    table = table_of_kinds({"flat": kind, **inside}, 60, 0.3)
    snapshot = committed(table)
    assert_same(snapshot.to_arrow(), table)
    snapshot.write_parquet(tmp_path / "t.parquet")
    assert fsvc.identify(tmp_path / "t.parquet").id == snapshot.id


@pytest.mark.parametrize("kind", NESTED, ids=str)
@pytest.mark.parametrize(("rows", "nulls"), [(60, 0.3), (9, 1.0), (0, 0.0)])
def test_types_inside_of_others_come_back(kind: pa.DataType, rows: int, nulls: float, tmp_path: Path) -> None:
    table = table_of_kinds(nestings(kind), rows, nulls)
    snapshot = committed(table)
    assert_same(snapshot.to_arrow(), table)
    readable = [field.name for field in table.schema if pyarrow_reads(field)]
    snapshot.write_parquet(tmp_path / "t.parquet", readable)
    assert fsvc.identify(tmp_path / "t.parquet").id == fsvc.identify(table.select(readable)).id


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(strategies.tables(extensions=True), st.data())
def test_any_table_comes_back_in_every_way(tmp_path: Path, table: pa.Table, data: st.DataObject) -> None:
    snapshot = committed(table)
    assert snapshot.num_rows == table.num_rows
    assert snapshot.schema.equals(table.schema, check_metadata=True)
    assert_same(snapshot.to_arrow(), table)
    assert_same(pa.Table.from_batches(snapshot.to_batches(), snapshot.schema), table)
    assert_same(pa.table(snapshot), table)
    assert fsvc.identify(snapshot).id == snapshot.id

    some = data.draw(st.lists(st.sampled_from(table.column_names), unique=True, min_size=1))
    assert_same(snapshot.to_arrow(some), table.select(some))

    if all(pyarrow_reads(field) for field in table.schema):
        snapshot.write_parquet(tmp_path / "t.parquet")
        assert fsvc.identify(tmp_path / "t.parquet").id == snapshot.id
    snapshot.write_arrow(tmp_path / "t.arrow", some)
    with pa.ipc.open_file(tmp_path / "t.arrow") as file:
        assert_same(file.read_all(), table.select(some))


@given(strategies.tables())
def test_what_is_committed_again_is_nothing_new(table: pa.Table) -> None:
    repository = memory_repository()
    first = repository.commit({"t": table}, message="one")
    again = repository.commit({"t": table}, message="two")
    assert first.created
    assert not again.created
    assert again == first


# --- values that readers usually lose


NAN = np.array([0x7FF8000000000000, 0x7FF8000000000001, 0xFFF8DEADBEEF0000, 0x7FF0000000000001], "<u8")


@pytest.mark.parametrize(("dtype", "words"), [("<f8", NAN), ("<f4", (NAN >> 32).astype("<u4"))])
def test_nan_payloads_and_signed_zeros(dtype: str, words: Any, tmp_path: Path) -> None:
    values = np.concatenate([words.view(dtype), np.array([0.0, -0.0, np.inf, -np.inf, 5e-324], dtype)])
    table = pa.table({"x": values, "listed": pa.array([values]).take(pa.array([0] * len(values)))})
    snapshot = committed(table)
    assert_same(snapshot.to_arrow(), normal(table))
    snapshot.write_parquet(tmp_path / "t.parquet")
    assert fsvc.identify(tmp_path / "t.parquet").id == snapshot.id


CATEGORIES = {
    "unused and in their own order": ["z", "a", "unused", "b"],
    "one that is empty": ["", "a"],
    "none of them used": ["x", "y"],
    "none at all": [],
}


@pytest.mark.parametrize("categories", CATEGORIES.values(), ids=CATEGORIES.keys())
@pytest.mark.parametrize("rows", [0, 5])
@pytest.mark.parametrize("ordered", [False, True])
def test_categories(categories: list[str], rows: int, ordered: bool, tmp_path: Path) -> None:
    indices = pa.array(
        [i % len(categories) if categories and i % 2 else None for i in range(rows)], pa.int16()
    )
    column = pa.DictionaryArray.from_arrays(indices, pa.array(categories, pa.string()), ordered=ordered)
    table = pa.table({"c": column, "inside": pa.StructArray.from_arrays([column], ["c"])})
    snapshot = committed(table)
    got = snapshot.to_arrow()
    assert_same(got, table)
    assert got["c"].chunk(0).dictionary.to_pylist() == categories
    assert got["inside"].chunk(0).field(0).dictionary.to_pylist() == categories
    for name, write in (("t.parquet", snapshot.write_parquet), ("t.arrow", snapshot.write_arrow)):
        write(tmp_path / name)
        again = committed(tmp_path / name)
        assert again.id == snapshot.id, name
        assert again.to_arrow()["c"].chunk(0).dictionary.to_pylist() == categories


def test_categories_of_chunks_are_joined_in_order_of_appearance() -> None:
    chunks = [
        pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), words)
        for indices, words in (([0, 1], ["b", "a"]), ([1, None], ["c", "a"]), ([0], ["b", "a", "d"]))
    ]
    table = pa.table({"c": pa.chunked_array(chunks)})
    got = committed(table).to_arrow()["c"]
    assert strategies.bits(got) == strategies.bits(table["c"])
    assert {tuple(chunk.dictionary.to_pylist()) for chunk in got.chunks} == {("b", "a", "c", "d")}


# --- schemas


ODD_NAMES = [
    "",
    " ",
    ".",
    "a.b",
    "a",
    "A",
    "Grüße",
    "Gru\u0308ße",
    "列",
    "🙂",
    "select",
    "list.element",
    "c0",
    "with\nnewline",
    "'quote\"",
    "*",
    "x" * 300,
    "__index_level_0__",
    "\x1b[31m",
]


def test_names_of_columns(tmp_path: Path) -> None:
    inside = pa.struct([pa.field(name, pa.int8()) for name in ODD_NAMES])
    table = pa.table({name: pa.array([i, None, -i]) for i, name in enumerate(ODD_NAMES)})
    table = table.append_column("s", pa.array([{}, None, dict.fromkeys(ODD_NAMES, 1)], inside))
    snapshot = committed(table)
    assert_same(snapshot.to_arrow(), table)
    for name in table.column_names:
        assert_same(snapshot.to_arrow([name]), table.select([name]))
    snapshot.write_parquet(tmp_path / "t.parquet")
    assert fsvc.identify(tmp_path / "t.parquet").id == snapshot.id


def test_metadata_and_nullability_of_fields() -> None:
    inside = pa.field("element", pa.int8(), False, {"deep": "1"})
    schema = pa.schema(
        [
            pa.field("a", pa.int64(), False, {b"\xff": b"\x00\xfe", "unit": "kg"}),
            pa.field("b", pa.list_(inside), metadata={"": ""}),
            pa.field("c", pa.struct([pa.field("x", pa.string(), False, {"k": "Grüße"})])),
        ],
        metadata={b"\xff": b"bytes", "source": "ERP", "": "empty"},
    )
    table = pa.table([[1, 2], [[1], None], [{"x": "a"}, None]], schema=schema)
    snapshot = committed(table)
    assert_same(snapshot.to_arrow(), table)
    assert_same(snapshot.to_arrow(["c"]), table.select(["c"]))


@pytest.mark.parametrize("rows", [0, 5])
@pytest.mark.parametrize("metadata", [None, {"k": "v"}])
def test_a_table_without_columns(rows: int, metadata: dict[str, str] | None) -> None:
    table = pa.table({"gone": pa.nulls(rows)}, metadata=metadata).select([])
    assert (table.num_rows, table.num_columns) == (rows, 0)
    snapshot = committed(table)
    got = snapshot.to_arrow()
    assert (got.num_rows, got.num_columns) == (rows, 0)
    assert got.schema.equals(table.schema, check_metadata=True)


def test_a_choice_of_no_columns_keeps_the_rows() -> None:
    got = committed(pa.table({"a": [1, 2, 3]})).to_arrow([])
    assert (got.num_rows, got.num_columns) == (3, 0)


def test_a_column_that_is_not_there() -> None:
    snapshot = committed(pa.table({"customer": [1]}))
    with pytest.raises(NotFound, match="'custmer'") as caught:
        snapshot.to_arrow(["custmer"])
    assert "customer" in str(caught.value.hint)
    with pytest.raises(InvalidUse, match="twice"):
        snapshot.to_arrow(["customer", "customer"])


class Celsius(pa.ExtensionType):
    """An extension type that a process may or may not know."""

    def __init__(self) -> None:
        super().__init__(pa.float32(), "fsvc.test.celsius")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"one decimal"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Celsius:
        assert serialized == b"one decimal"
        return cls()


def test_an_extension_type_is_kept_whether_or_not_it_is_known() -> None:
    values = pa.ExtensionArray.from_storage(Celsius(), pa.array([20.5, None, -0.0], pa.float32()))
    table = pa.table({"t": values, "n": [1, 2, 3]})
    repository = memory_repository()
    unknown = committed(table, repository=repository)
    got = unknown.to_arrow()
    assert got["t"].type == pa.float32()
    assert got.schema.field("t").metadata[b"ARROW:extension:name"] == b"fsvc.test.celsius"
    assert strategies.bits(got["t"]) == strategies.bits(table["t"])
    assert fsvc.identify(got).id == unknown.id
    pa.register_extension_type(Celsius())
    try:
        assert fsvc.identify(table).id == unknown.id
        known = committed(table)
        assert known.id == unknown.id
        assert_same(known.to_arrow(), table)
    finally:
        pa.unregister_extension_type("fsvc.test.celsius")


# --- more than one group


def large_table(rows: int) -> pa.Table:
    """A table of several row groups, with runs, nulls and nested values, in uneven chunks."""
    random = np.random.default_rng(11)
    numbers = np.arange(rows)
    lengths = random.integers(0, 3, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = pa.array(random.normal(size=offsets[-1]))
    words = pa.array(["north", "south", None, "east", "", "west"])
    table = pa.table(
        {
            "id": numbers * 7919 % 1_000_003,
            "word": words.take(pa.array(random.integers(0, 6, rows))),
            "kind": words.take(pa.array(numbers // 7 % 2)).dictionary_encode(),
            "real": pa.array(random.normal(size=rows), mask=random.random(rows) < 0.1),
            "when": pa.array(numbers * 1000, pa.timestamp("ms", "Europe/Berlin")),
            "list": pa.ListArray.from_arrays(pa.array(offsets), values),
            "flag": pa.array(random.random(rows) < 0.5, mask=random.random(rows) < 0.01),
            "late": pa.array([None] * (rows - 1) + ["last"]),
        }
    )
    return normal(pa.concat_tables([table.slice(0, 10), table.slice(10, 70_001), table.slice(70_011)]))


def test_a_table_of_several_groups(tmp_path: Path) -> None:
    table = large_table(200_000)
    snapshot = committed(table, key="id")
    assert len(snapshot.manifest.rows) > 2
    got = snapshot.to_arrow()
    assert got.equals(table, check_metadata=True)
    assert [batch.num_rows for batch in snapshot.to_batches(["id"])] == list(snapshot.manifest.rows)
    snapshot.write_parquet(tmp_path / "t.parquet")
    assert fsvc.identify(tmp_path / "t.parquet", key="id").id == snapshot.id
    snapshot.write_arrow(tmp_path / "t.arrow")
    assert fsvc.identify(tmp_path / "t.arrow", key="id").id == snapshot.id


def test_rows_wider_than_the_schema_lets_expect() -> None:
    body = "x" * 1_000_000
    table = pa.table({"id": range(150), "body": [f"{i}{body}" for i in range(150)]})
    snapshot = committed(table)
    assert len(snapshot.manifest.rows) > 1
    assert snapshot.to_arrow().equals(table)


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    snapshot = committed(large_table(1000))
    for name, write in (("parquet", snapshot.write_parquet), ("arrow", snapshot.write_arrow)):
        paths = [tmp_path / f"{number}.{name}" for number in range(2)]
        for path in paths:
            write(path)
        assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0.arrow",
        "0.parquet",
        "1.arrow",
        "1.parquet",
    ]


def test_uuids() -> None:
    table = pa.table({"u": pa.array([uuid.UUID(int=i).bytes for i in (0, 1, 2**128 - 1)], pa.uuid())})
    assert_same(committed(table, key="u").to_arrow(), table)
