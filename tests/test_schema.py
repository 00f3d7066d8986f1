"""The normal form of schemas, what is refused, and their JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from fsvc.errors import Corruption, UnsupportedData
from fsvc.format import schema as schemas

LIST_MAKERS = {
    pa.ListType: pa.list_,
    pa.LargeListType: pa.large_list,
    pa.ListViewType: pa.list_view,
    pa.LargeListViewType: pa.large_list_view,
}

LISTS: tuple[Any, ...] = (*LIST_MAKERS, pa.FixedSizeListType)


def noisy(field: pa.Field, name: str | None = None) -> pa.Field:
    """The same field as another writer might spell it: names of children, field ids, metadata."""
    kind = field.type
    for cls, make in LIST_MAKERS.items():
        if isinstance(kind, cls):
            kind = make(noisy(kind.value_field, "item"))
            break
    else:
        if isinstance(kind, pa.FixedSizeListType):
            kind = pa.list_(noisy(kind.value_field, "values"), kind.list_size)
        elif isinstance(kind, pa.MapType):
            key, item = noisy(kind.key_field, "k"), noisy(kind.item_field, "v")
            kind = pa.map_(key, item, keys_sorted=kind.keys_sorted)
        elif isinstance(kind, pa.StructType):
            kind = pa.struct([noisy(child) for child in kind])
    metadata = {b"PARQUET:field_id": b"7", **dict(reversed((field.metadata or {}).items()))}
    return pa.field(field.name if name is None else name, kind, field.nullable, metadata)


def noisy_schema(schema: pa.Schema) -> pa.Schema:
    metadata = {
        b"fsvc:categories": b"x",
        b"ARROW:schema": b"y",
        **dict(reversed((schema.metadata or {}).items())),
    }
    return pa.schema([noisy(field) for field in schema], metadata=metadata)


def names_of_children(kind: pa.DataType) -> list[str]:
    """The names of all fields below a type; Arrow's own equality does not look at those of lists and maps."""
    fields: list[pa.Field] = []
    if isinstance(kind, LISTS):
        fields = [kind.value_field]
    elif isinstance(kind, pa.MapType):
        fields = [kind.key_field, kind.item_field]
    elif isinstance(kind, pa.StructType):
        fields = list(kind)
    return [name for field in fields for name in (field.name, *names_of_children(field.type))]


def spelled_alike(one: pa.Schema, two: pa.Schema) -> bool:
    children = [names_of_children(kind) for kind in one.types] == [
        names_of_children(kind) for kind in two.types
    ]
    return children and bool(one.equals(two, check_metadata=True))


# --- normal form


@given(strategies.schemas(max_depth=3, extensions=True, min_columns=0))
def test_a_schema_comes_back_from_its_json(schema: pa.Schema) -> None:
    schemas.check(schema)
    back = schemas.from_json(json.loads(json.dumps(schemas.to_json(schema))))
    assert back.equals(schema, check_metadata=True)
    assert schemas.to_json(back) == schemas.to_json(schema)


@given(strategies.schemas(max_depth=3))
def test_a_normal_form_is_its_own_normal_form(schema: pa.Schema) -> None:
    assert spelled_alike(schemas.normalise(schema), schema)
    assert spelled_alike(schemas.from_json(schemas.to_json(schema)), schema)


@given(strategies.schemas(max_depth=3, extensions=True))
def test_spelling_does_not_reach_the_normal_form(schema: pa.Schema) -> None:
    other = noisy_schema(schema)
    assert spelled_alike(schemas.normalise(other), schemas.normalise(schema))
    assert schemas.to_json(other) == schemas.to_json(schema)


def test_metadata_is_sorted_and_empty_metadata_is_none() -> None:
    field = pa.field("a", pa.int8(), metadata={"z": "1", "b": "2"})
    normal = schemas.normalise(pa.schema([field, pa.field("b", pa.int8(), metadata={})], metadata={}))
    assert list(normal.field("a").metadata) == [b"b", b"z"]
    assert normal.field("b").metadata is None
    assert normal.metadata is None
    assert "metadata" not in schemas.to_json(normal)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.field("a", pa.int8()), pa.field("b", pa.int8())),
        (pa.field("a", pa.int8()), pa.field("a", pa.int16())),
        (pa.field("a", pa.int8()), pa.field("a", pa.int8(), nullable=False)),
        (pa.field("a", pa.int8()), pa.field("a", pa.int8(), metadata={"k": ""})),
        (pa.field("a", pa.string()), pa.field("a", pa.large_string())),
        (pa.field("a", pa.timestamp("us")), pa.field("a", pa.timestamp("us", "UTC"))),
        (pa.field("a", pa.timestamp("us", "UTC")), pa.field("a", pa.timestamp("us", "+00:00"))),
        (pa.field("a", pa.decimal128(5, 2)), pa.field("a", pa.decimal64(5, 2))),
        (pa.field("a", pa.list_(pa.int8())), pa.field("a", pa.list_(pa.int8(), 2))),
        (
            pa.field("a", pa.list_(pa.int8())),
            pa.field("a", pa.list_(pa.field("item", pa.int8(), nullable=False))),
        ),
        (
            pa.field("a", pa.list_(pa.int8())),
            pa.field("a", pa.list_(pa.field("item", pa.int8(), metadata={"k": "v"}))),
        ),
        (
            pa.field("a", pa.map_(pa.int8(), pa.int8())),
            pa.field("a", pa.map_(pa.int8(), pa.int8(), keys_sorted=True)),
        ),
        (
            pa.field("a", pa.dictionary(pa.int8(), pa.string())),
            pa.field("a", pa.dictionary(pa.int8(), pa.string(), ordered=True)),
        ),
        (
            pa.field("a", pa.dictionary(pa.int8(), pa.string())),
            pa.field("a", pa.dictionary(pa.int32(), pa.string())),
        ),
        (pa.field("a", pa.struct([("x", pa.int8())])), pa.field("a", pa.struct([("y", pa.int8())]))),
        (pa.field("a", pa.uuid()), pa.field("a", pa.binary(16))),
    ],
)
def test_all_else_counts(one: pa.Field, other: pa.Field) -> None:
    assert schemas.to_json(pa.schema([one])) != schemas.to_json(pa.schema([other]))


def test_the_order_of_columns_counts() -> None:
    a, b = pa.field("a", pa.int8()), pa.field("b", pa.int8())
    assert schemas.to_json(pa.schema([a, b])) != schemas.to_json(pa.schema([b, a]))


# --- the stored form is frozen: snapshots are named by it


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (pa.null(), {"name": "null"}),
        (pa.bool_(), {"name": "bool"}),
        (pa.uint16(), {"name": "uint16"}),
        (pa.float16(), {"name": "float16"}),
        (pa.float64(), {"name": "float64"}),
        (pa.date32(), {"name": "date32"}),
        (pa.date64(), {"name": "date64"}),
        (pa.time32("ms"), {"name": "time32", "unit": "ms"}),
        (pa.time64("ns"), {"name": "time64", "unit": "ns"}),
        (pa.duration("s"), {"name": "duration", "unit": "s"}),
        (pa.timestamp("us"), {"name": "timestamp", "unit": "us", "timezone": None}),
        (pa.timestamp("us", "UTC"), {"name": "timestamp", "unit": "us", "timezone": "UTC"}),
        (pa.decimal32(9, 3), {"name": "decimal32", "precision": 9, "scale": 3}),
        (pa.decimal64(9, 3), {"name": "decimal64", "precision": 9, "scale": 3}),
        (pa.decimal128(9, 3), {"name": "decimal128", "precision": 9, "scale": 3}),
        (pa.decimal256(9, 3), {"name": "decimal256", "precision": 9, "scale": 3}),
        (pa.string(), {"name": "string"}),
        (pa.large_string(), {"name": "large_string"}),
        (pa.string_view(), {"name": "string_view"}),
        (pa.binary(), {"name": "binary"}),
        (pa.large_binary(), {"name": "large_binary"}),
        (pa.binary_view(), {"name": "binary_view"}),
        (pa.binary(5), {"name": "fixed_size_binary", "width": 5}),
        (pa.list_(pa.int8()), {"name": "list", "element": {"nullable": True, "type": {"name": "int8"}}}),
        (
            pa.large_list(pa.field("x", pa.int8(), False)),
            {"name": "large_list", "element": {"nullable": False, "type": {"name": "int8"}}},
        ),
        (
            pa.list_view(pa.int8()),
            {"name": "list_view", "element": {"nullable": True, "type": {"name": "int8"}}},
        ),
        (
            pa.large_list_view(pa.int8()),
            {"name": "large_list_view", "element": {"nullable": True, "type": {"name": "int8"}}},
        ),
        (
            pa.list_(pa.int8(), 3),
            {"name": "fixed_size_list", "length": 3, "element": {"nullable": True, "type": {"name": "int8"}}},
        ),
        (
            pa.struct([("x", pa.int8())]),
            {"name": "struct", "fields": [{"name": "x", "nullable": True, "type": {"name": "int8"}}]},
        ),
        (
            pa.map_(pa.int8(), pa.bool_()),
            {
                "name": "map",
                "key": {"nullable": False, "type": {"name": "int8"}},
                "value": {"nullable": True, "type": {"name": "bool"}},
                "keys_sorted": False,
            },
        ),
        (
            pa.dictionary(pa.int32(), pa.string(), ordered=True),
            {"name": "dictionary", "index": {"name": "int32"}, "value": {"name": "string"}, "ordered": True},
        ),
    ],
    ids=str,
)
def test_stored_types(kind: pa.DataType, stored: dict[str, Any]) -> None:
    schema = pa.schema([pa.field("a", kind)])
    assert schemas.to_json(schema) == {"fields": [{"name": "a", "nullable": True, "type": stored}]}
    assert schemas.from_json({"fields": [{"name": "a", "nullable": True, "type": stored}]}).equals(schema)


def test_every_simple_type_has_a_stored_form() -> None:
    for kind in strategies.LEAF_TYPES:
        schema = pa.schema([pa.field("a", kind)])
        assert schemas.from_json(schemas.to_json(schema)).equals(schema)


def test_stored_metadata() -> None:
    field = pa.field("a", pa.int8(), metadata={b"\xff": b"v", b"k": b"\xfe"})
    schema = pa.schema([field], metadata={"k": "v"})
    value = schemas.to_json(schema)
    assert value["fields"][0]["metadata"] == [["k", {"base64": "/g=="}], [{"base64": "/w=="}, "v"]]
    assert value["metadata"] == [["k", "v"]]


def test_the_deepest_type_stays_inside_of_what_strict_json_takes() -> None:
    kind = pa.int8()
    for _ in range(schemas.MAX_DEPTH - 1):
        kind = pa.struct([("x", kind)])
    schema = pa.schema([pa.field("a", kind)])
    schemas.check(schema)
    value = schemas.to_json(schema)
    assert schemas.from_json(value).equals(schema)
    depth = deepest = 0
    for character in json.dumps(value):
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    assert deepest <= 56


# --- extension types


class Celsius(pa.ExtensionType):  # type: ignore[misc]
    """An extension with a parameter, of a list, whose child has a name of its own."""

    def __init__(self, digits: int) -> None:
        self.digits = digits
        super().__init__(pa.list_(pa.field("reading", pa.float32())), "test.celsius")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"ARROW:extension:name %d" % self.digits

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialised: bytes) -> Celsius:
        return cls(int(serialised.split()[-1]))


@pytest.fixture
def celsius() -> Iterator[pa.DataType]:
    pa.register_extension_type(Celsius(0))
    yield Celsius(3)
    pa.unregister_extension_type("test.celsius")


def test_an_extension_comes_back_if_it_is_known_and_as_storage_if_not(celsius: pa.DataType) -> None:
    schema = pa.schema([pa.field("a", celsius, metadata={"k": "v"}), pa.field("b", pa.list_(celsius))])
    value = schemas.to_json(schema)
    known = schemas.from_json(value)
    assert known.field("a").type == celsius
    assert known.field("b").type.value_type == celsius
    assert known.field("a").metadata == {b"k": b"v"}

    pa.unregister_extension_type("test.celsius")
    unknown = schemas.from_json(value)
    assert unknown.field("a").type == pa.list_(pa.float32())
    assert unknown.field("a").metadata == {
        b"ARROW:extension:metadata": b"ARROW:extension:name 3",
        b"ARROW:extension:name": b"test.celsius",
        b"k": b"v",
    }
    assert schemas.to_json(unknown) == value
    assert spelled_alike(schemas.normalise(unknown), unknown)
    pa.register_extension_type(Celsius(0))


def test_an_extension_that_no_longer_reads_itself_is_left_as_storage() -> None:
    field = pa.field(
        "a",
        pa.binary(15),
        metadata={"ARROW:extension:name": "arrow.uuid", "ARROW:extension:metadata": ""},
    )
    schema = pa.schema([field, pa.field("b", pa.uuid())])
    back = schemas.from_json(schemas.to_json(schema))
    assert back.field("a").type == pa.binary(15)
    assert back.field("b").type == pa.uuid()


def test_an_extension_without_parameters_is_the_same_as_with_empty_ones() -> None:
    named = pa.schema([pa.field("a", pa.binary(16), metadata={"ARROW:extension:name": "arrow.uuid"})])
    assert schemas.to_json(named) == schemas.to_json(pa.schema([pa.field("a", pa.uuid())]))


def test_storage_type_looks_through_extensions_at_all_levels(celsius: pa.DataType) -> None:
    kind = pa.struct(
        [pa.field("x", pa.map_(pa.string(), pa.uuid())), pa.field("y", pa.list_view(celsius), False)]
    )
    stored = schemas.storage_type(kind)
    expected = pa.struct(
        [
            pa.field("x", pa.map_(pa.string(), pa.binary(16))),
            pa.field("y", pa.list_view(pa.list_(pa.float32())), False),
        ]
    )
    assert stored == expected
    assert names_of_children(stored) == ["x", "key", "value", "y", "element", "element"]


# --- what is refused


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (pa.field("u", pa.dense_union([pa.field("x", pa.int8())])), ["'u'", "dense_union"]),
        (pa.field("r", pa.run_end_encoded(pa.int32(), pa.int8())), ["'r'", "run_end_encoded"]),
        (pa.field("i", pa.month_day_nano_interval()), ["'i'", "interval"]),
        (pa.field("s", pa.struct([])), ["'s'", "without fields"]),
        (pa.field("w", pa.binary(0)), ["'w'", "width 0"]),
        (pa.field("l", pa.list_(pa.int8(), 0)), ["'l'", "fixed size 0"]),
        (pa.field("d", pa.decimal128(5, -1)), ["'d'", "scale"]),
        (pa.field("d", pa.decimal128(3, 5)), ["'d'", "scale"]),
        (pa.field("d", pa.dictionary(pa.int8(), pa.list_(pa.int8()))), ["'d'", "list"]),
        (pa.field("d", pa.dictionary(pa.int8(), pa.null())), ["'d'", "nulls"]),
        (
            pa.field("d", pa.dictionary(pa.int8(), pa.dictionary(pa.int8(), pa.string()))),
            ["'d'", "dictionary"],
        ),
        (pa.field("d", pa.dictionary(pa.int8(), pa.uuid())), ["'d'", "uuid"]),
        (pa.field("n", pa.null()).with_nullable(False), ["'n'", "null"]),
        (
            pa.field("s", pa.struct([("x", pa.int8()), ("x", pa.int8())])),
            ["two columns in 's'", "'x'"],
        ),
        (
            pa.field("s", pa.struct([("x", pa.list_(pa.map_(pa.int8(), pa.month_day_nano_interval())))])),
            ["'s.x.element.value'", "interval"],
        ),
        (pa.field("a\0b", pa.int8()), ["NUL", "'a\\x00b'"]),
        (pa.field("s", pa.struct([("x\0", pa.int8())])), ["NUL", "'s'"]),
        (pa.field(b"\xff", pa.int8()), ["column 1", "UTF-8"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_kept_is_refused_by_name(field: pa.Field, words: list[str]) -> None:
    with pytest.raises(UnsupportedData) as caught:
        schemas.check(pa.schema([field]))
    assert all(word in caught.value.message for word in words), caught.value.message
    assert "\n" not in caught.value.message


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(UnsupportedData, match="two columns are called 'a'"):
        schemas.check(pa.schema([("a", pa.int8()), ("b", pa.int8()), ("a", pa.int8())]))


def test_too_deep_a_type_is_refused() -> None:
    kind = pa.int8()
    for _ in range(schemas.MAX_DEPTH):
        kind = pa.list_(kind)
    with pytest.raises(UnsupportedData, match="deeper than 16"):
        schemas.check(pa.schema([pa.field("a", kind)]))


# --- damaged JSON


def replaced(value: Any, path: list[Any], new: Any) -> Any:
    value = copy.deepcopy(value)
    place = value
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = new
    return value


def paths(value: Any) -> list[list[Any]]:
    if isinstance(value, dict):
        steps: list[Any] = list(value)
    elif isinstance(value, list):
        steps = list(range(len(value)))
    else:
        return []
    return [[step, *rest] for step in steps for rest in ([], *paths(value[step]))]


ODD_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2**40,
    "",
    "x",
    "int8",
    "us",
    "\ud800",
    [],
    {},
    {"base64": "?"},
    {"base64": "YQ=="},
    [["b", "1"], ["a", "2"]],
    [["PARQUET:field_id", "1"]],
    [["a"]],
    {"name": "int8"},
    {"name": "nothing"},
    {"name": "decimal128", "precision": 99, "scale": 0},
    {"name": "time32", "unit": "ns"},
    {"name": "int8", "more": 1},
]


@given(strategies.schemas(max_depth=2), st.data())
def test_damaged_json_is_refused_or_is_another_schema(schema: pa.Schema, data: st.DataObject) -> None:
    value = schemas.to_json(schema)
    damaged = replaced(
        value, data.draw(st.sampled_from(paths(value))), data.draw(st.sampled_from(ODD_VALUES))
    )
    try:
        read = schemas.from_json(damaged)
    except Corruption as error:
        assert "schema" in error.message
    else:
        assert schemas.to_json(read) == damaged


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"fields": None},
        {"fields": [], "metadata": []},
        {"fields": [], "more": 1},
        {"fields": [{"name": "a", "nullable": 1, "type": {"name": "int8"}}]},
        {"fields": [{"name": "a", "nullable": True, "type": {"name": "fixed_size_binary", "width": -1}}]},
        {"fields": [{"name": "a", "nullable": True, "type": {"name": "struct", "fields": []}}]},
        {"fields": [{"name": "a", "nullable": True, "type": {"name": "int8"}}] * 2},
        {
            "fields": [{"name": "a", "nullable": True, "type": {"name": "int8"}}],
            "metadata": [["fsvc:x", "1"]],
        },
        {"fields": [], "metadata": [["k", {"base64": "YQ=="}]]},
    ],
)
def test_anything_else_is_corruption(value: Any) -> None:
    with pytest.raises(Corruption):
        schemas.from_json(value)


def test_json_nested_without_end_is_corruption() -> None:
    kind: dict[str, Any] = {"name": "int8"}
    for _ in range(100_000):
        kind = {"name": "list", "element": {"nullable": True, "type": kind}}
    with pytest.raises(Corruption, match="nested"):
        schemas.from_json({"fields": [{"name": "a", "nullable": True, "type": kind}]})
