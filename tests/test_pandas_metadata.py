"""What is kept of the metadata of pandas, and that data frames come back from it."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pandas.testing
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsvc.format import pandas_metadata
from fsvc.format import schema as schemas

PANDAS = b"pandas"


def committed(frame: pd.DataFrame) -> pa.Table:
    """The table of a data frame with its schema in normal form."""
    table = pa.Table.from_pandas(frame)
    return table.cast(schemas.normalise(table.schema))


def document(table: pa.Table) -> dict[str, Any] | None:
    found = (table.schema.metadata or {}).get(PANDAS)
    return None if found is None else json.loads(found)


def plain_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "whole": [1, 2, 3],
            "small": np.array([1, 2, 3], np.uint8),
            "real": [1.5, np.nan, -0.0],
            "half": np.array([1, 2, 3], np.float16),
            "flag": [True, False, True],
            "text": ["a", None, ""],
            "raw": [b"a", None, b""],
            "day": [datetime.date(2026, 1, 1), None, datetime.date(1, 1, 1)],
            "clock": [datetime.time(1), None, datetime.time(2)],
            "naive": pd.to_datetime(["2026-01-01", None, "2026-01-02"]),
            "zoned": pd.to_datetime(["2026-01-01", None, "2026-01-02"]).tz_localize("Europe/Berlin"),
            "span": pd.to_timedelta([1, 2, None], unit="s"),
            "kind": pd.Categorical(["x", None, "y"], categories=["y", "x", "unused"], ordered=True),
            "number": pd.Categorical([3, 1, 3]),
            "exact": [decimal.Decimal("1.50"), None, decimal.Decimal("2.25")],
            "items": [[1, 2], None, []],
            "nothing": [None, None, None],
        }
    )


def labelled(columns: Any) -> pd.DataFrame:
    return pd.DataFrame([[1, 2.0], [3, 4.0]], columns=columns)


def with_attributes() -> pd.DataFrame:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"source": {"weights": [0.1, 1e300], "text": "Grüße\ud800"}}
    return frame


FRAMES: dict[str, Callable[[], pd.DataFrame]] = {
    "range index": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 9, 2)),
    "named range index": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(2, name="row")),
    "integer index": lambda: pd.DataFrame({"a": [1, 2]}, index=[7, 3]),
    "text index": lambda: pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
    "named index": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="id")),
    "index called as a column": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="a")),
    "zoned index": lambda: pd.DataFrame(
        {"a": [1, 2]}, index=pd.to_datetime(["2026-01-01", "2026-03-01"]).tz_localize("America/St_Johns")
    ),
    "categorical index": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.CategoricalIndex(["x", "y"], name="c")),
    "several levels": lambda: pd.DataFrame(
        {"a": [1, 2]},
        index=pd.MultiIndex.from_arrays(
            [["x", "y"], [1, 2], pd.to_datetime(["2026", "2027"])], names=["k", None, "t"]
        ),
    ),
    "integer labels": lambda: labelled([0, 1]),
    "range labels": lambda: pd.DataFrame(np.zeros((2, 3))),
    "float labels": lambda: labelled([0.5, 1.0]),
    "date labels": lambda: labelled(pd.to_datetime(["2026-01-01", "2026-01-02"])),
    "named labels": lambda: labelled(pd.Index(["x", "y"], name="measure")),
    "two levels of labels": lambda: labelled(
        pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["k", None])
    ),
    "nullable dtypes": lambda: pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="Int64"),
            "u": pd.array([1, None], dtype="UInt8"),
            "f": pd.array([1.5, None], dtype="Float32"),
            "b": pd.array([True, None], dtype="boolean"),
            "s": pd.array(["x", None], dtype="string"),
        }
    ),
    "arrow dtypes": lambda: pd.DataFrame(
        {
            "i": pd.array([1, None], dtype=pd.ArrowDtype(pa.int64())),
            "t": pd.array(["x", None], dtype=pd.ArrowDtype(pa.large_string())),
        }
    ),
    "periods and intervals": lambda: pd.DataFrame(
        {"p": pd.period_range("2026-01", periods=2, freq="M"), "i": pd.interval_range(0, 2)}
    ),
    "attributes": with_attributes,
    "no columns": lambda: pd.DataFrame(index=[3, 4]),
    "no rows": lambda: pd.DataFrame(
        {"a": pd.array([], dtype="Int8")}, index=pd.Index([], name="k", dtype="int64")
    ),
    "all kinds with an index": lambda: plain_frame().set_index(["text", "whole"]),
}


def test_a_plain_frame_leaves_nothing() -> None:
    frame = plain_frame()
    table = committed(frame)
    assert document(table) is None
    assert schemas.to_json(pa.Table.from_pandas(frame).schema) == schemas.to_json(
        pa.Table.from_pandas(frame).replace_schema_metadata(None).schema
    )
    pandas.testing.assert_frame_equal(table.to_pandas(), frame)


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES.keys())
def test_frames_come_back(make: Callable[[], pd.DataFrame]) -> None:
    frame = make()
    table = committed(frame)
    back = table.to_pandas()
    pandas.testing.assert_frame_equal(back, frame, check_freq=False)
    assert back.attrs == frame.attrs
    kept = document(table)
    assert kept is not None
    assert not kept.keys() & {"creator", "pandas_version"}


@pytest.mark.parametrize("make", [plain_frame, *FRAMES.values()], ids=["plain", *FRAMES.keys()])
def test_reducing_twice_changes_nothing(make: Callable[[], pd.DataFrame]) -> None:
    once = committed(make()).schema
    assert schemas.normalise(once).equals(once, check_metadata=True)


@pytest.mark.parametrize("make", [plain_frame, *FRAMES.values()], ids=["plain", *FRAMES.keys()])
def test_versions_and_order_of_keys_do_not_count(make: Callable[[], pd.DataFrame]) -> None:
    schema = pa.Table.from_pandas(make()).schema
    content = json.loads(schema.metadata[PANDAS])
    other = {**dict(reversed(content.items())), "creator": {"library": "pyarrow", "version": "9"}}
    other["pandas_version"] = "3.99.0rc1"
    respelled = schema.with_metadata({PANDAS: json.dumps(other, indent=1).encode()})
    assert schemas.to_json(respelled) == schemas.to_json(schema)


def test_only_columns_that_say_something_are_kept() -> None:
    frame = pd.DataFrame(
        {"a": [1], "b": pd.array([1], dtype="Int64"), "c": ["x"]}, index=pd.Index(["k"], name="id")
    )
    kept = document(committed(frame))
    assert kept is not None
    assert [entry["field_name"] for entry in kept["columns"]] == ["b", "id"]
    assert kept["index_columns"] == ["id"]
    assert kept.keys() == {"columns", "index_columns"}


@pytest.mark.parametrize("label", [None, "b", float("nan")])
def test_a_label_other_than_the_name_of_the_column_is_kept(label: Any) -> None:
    schema = pa.schema([("a", pa.int64()), ("c", pa.int64())])
    content = json.loads(old_document({"a": "int64", "c": "int64"}, []))
    content["columns"][0]["name"] = label
    kept = pandas_metadata.reduce(json.dumps(content).encode(), schema)
    assert kept is not None
    entries = json.loads(kept)["columns"]
    assert [entry["field_name"] for entry in entries] == ["a"]
    assert (
        entries[0]["name"] is label or entries[0]["name"] == label or entries[0]["name"] != entries[0]["name"]
    )


def test_a_projection_loses_what_spoke_of_other_columns() -> None:
    frame = pd.DataFrame({"a": [1], "b": pd.array([1], dtype="Int64")}, index=pd.Index(["k"], name="id"))
    table = committed(frame)
    without = table.select(["a"])
    normal = schemas.normalise(without.schema)
    assert normal.metadata is None


# --- dtype object


def test_object_is_kept_where_arrow_gives_another_dtype() -> None:
    frame = pd.DataFrame(
        {
            "int": pd.Series([1, None], dtype=object),
            "text": pd.Series(["x", None], dtype=object),
            "flag": pd.Series([True, None], dtype=object),
            "raw": pd.Series([b"x", None], dtype=object),
            "str": pd.Series(["x", None]),
        }
    )
    table = committed(frame)
    assert pandas_metadata.object_columns(table.schema) == ("int", "text", "flag")
    assert pandas_metadata.object_columns(pa.schema([("a", pa.int8())])) == ()
    restored = table.to_pandas(integer_object_nulls=True)
    for name in pandas_metadata.object_columns(table.schema):
        restored[name] = restored[name].astype(object)
    assert restored.dtypes.equals(frame.dtypes)


def old_document(dtypes: dict[str, str], index: list[Any], version: str = "2.2.3") -> bytes:
    """A document as pyarrow writes it with pandas before 3, where strings are of dtype object."""
    columns = [
        {"name": name, "field_name": name, "pandas_type": "unicode", "numpy_type": dtype, "metadata": None}
        for name, dtype in dtypes.items()
    ]
    labels = {
        "name": None,
        "field_name": None,
        "pandas_type": "unicode",
        "numpy_type": "object",
        "metadata": {"encoding": "UTF-8"},
    }
    content = {
        "index_columns": index,
        "column_indexes": [labels],
        "columns": columns,
        "creator": {"library": "pyarrow", "version": "14.0.1"},
        "pandas_version": version,
    }
    return json.dumps(content).encode()


def test_object_of_strings_is_nothing_special_before_pandas_3() -> None:
    schema = pa.schema([("s", pa.string()), ("v", pa.string_view())])
    index = [{"kind": "range", "name": None, "start": 0, "stop": 8, "step": 1}]
    dtypes = {"s": "object", "v": "object"}
    assert pandas_metadata.reduce(old_document(dtypes, index), schema) is None
    kept = pandas_metadata.reduce(old_document(dtypes, index, "3.0.0"), schema)
    assert kept is not None
    assert pandas_metadata.reduce(kept, schema) == kept
    assert pandas_metadata.object_columns(schema.with_metadata({PANDAS: kept})) == ("s", "v")


def test_one_index_of_strings_is_the_same_from_pandas_2_and_3() -> None:
    schema = pa.schema([("a", pa.string()), ("k", pa.string())])
    old = old_document({"a": "object", "k": "object"}, ["k"])
    new = old_document({"a": "str", "k": "str"}, ["k"], "3.1.0").replace(
        b'"numpy_type": "object"', b'"numpy_type": "str"'
    )
    kept = pandas_metadata.reduce(old, schema)
    assert kept is not None
    assert kept == pandas_metadata.reduce(new, schema)
    table = pa.table({"a": ["x"], "k": ["y"]}).replace_schema_metadata({PANDAS: kept})
    expected = pd.DataFrame({"a": ["x"]}, index=pd.Index(["y"], name="k"))
    pandas.testing.assert_frame_equal(table.to_pandas(), expected)


def test_the_order_of_labels_and_their_name_are_kept_over_versions() -> None:
    frame = labelled(pd.Index(["x", "y"], name="measure"))
    schema = pa.Table.from_pandas(frame).schema
    old = json.loads(schema.metadata[PANDAS])
    old["column_indexes"][0]["numpy_type"] = "object"
    old["pandas_version"] = "2.0.0"
    assert schemas.to_json(schema.with_metadata({PANDAS: json.dumps(old)})) == schemas.to_json(schema)


# --- time zones and extensions


def test_a_zone_other_than_that_of_the_type_is_kept() -> None:
    schema = pa.schema([("t", pa.timestamp("us", "UTC"))])
    content = json.loads(old_document({"t": "datetime64[us]"}, []))
    content["columns"][0] |= {"pandas_type": "datetimetz", "metadata": {"timezone": "Europe/Berlin"}}
    kept = pandas_metadata.reduce(json.dumps(content).encode(), schema)
    assert kept is not None
    assert pandas_metadata.reduce(kept, schema) == kept
    table = pa.table({"t": pa.array([0], schema.field("t").type)}).replace_schema_metadata({PANDAS: kept})
    assert str(table.to_pandas()["t"].dt.tz) == "Europe/Berlin"
    content["columns"][0]["metadata"] = {"timezone": "UTC"}
    assert pandas_metadata.reduce(json.dumps(content).encode(), schema) is None


def test_whether_an_extension_is_known_does_not_matter() -> None:
    known = pa.schema([("u", pa.uuid()), ("k", pa.uuid())])
    metadata = {"ARROW:extension:name": "arrow.uuid", "ARROW:extension:metadata": ""}
    plain = pa.schema([pa.field(name, pa.binary(16), metadata=metadata) for name in ("u", "k")])
    for dtypes in ({"u": "object", "k": "object"}, {"u": "uuid", "k": "int64"}):
        content = old_document(dtypes, ["k"])
        assert pandas_metadata.reduce(content, known) == pandas_metadata.reduce(content, plain)


def test_what_other_writers_add_is_kept() -> None:
    schema = pa.schema([("a", pa.int64())])
    content = json.loads(old_document({"a": "int64"}, []))
    assert pandas_metadata.reduce(json.dumps({**content, "partition_columns": []}).encode(), schema) is None
    kept = pandas_metadata.reduce(json.dumps({**content, "partition_columns": ["p"]}).encode(), schema)
    assert kept is not None
    assert json.loads(kept)["partition_columns"] == ["p"]
    content["columns"][0]["metadata"] = {"unit of measure": "kg"}
    kept = pandas_metadata.reduce(json.dumps(content).encode(), schema)
    assert kept is not None
    assert json.loads(kept)["columns"][0]["metadata"] == {"unit of measure": "kg"}


# --- malformed documents

GOOD: dict[str, Any] = {
    "index_columns": ["k"],
    "column_indexes": [],
    "columns": [
        {"name": "k", "field_name": "k", "pandas_type": "int64", "numpy_type": "int64", "metadata": None},
        {"name": "a", "field_name": "a", "pandas_type": "int64", "numpy_type": "Int64", "metadata": None},
    ],
}


@pytest.mark.parametrize(
    "change",
    [
        {"index_columns": None},
        {"index_columns": ["not there"]},
        {"index_columns": [1]},
        {"index_columns": [{"kind": "other"}]},
        {"index_columns": [{"kind": "range", "name": None, "start": 0.5, "stop": 1, "step": 1}]},
        {"columns": None},
        {"columns": [{"name": "a"}]},
        {"columns": [{"name": None, "pandas_type": "int64", "numpy_type": "int64"}]},
        {"columns": ["a"]},
        {"column_indexes": {"name": None}},
        {"column_indexes": [{}]},
        {"attributes": [1]},
    ],
    ids=str,
)
def test_a_malformed_document_is_left_alone(change: dict[str, Any]) -> None:
    schema = pa.schema([("k", pa.int64()), ("a", pa.int64())])
    good = json.dumps(GOOD).encode()
    assert pandas_metadata.reduce(good, schema) != good
    bad = json.dumps({**GOOD, **change}).encode()
    assert pandas_metadata.reduce(bad, schema) == bad
    assert schemas.normalise(schema.with_metadata({PANDAS: bad})).metadata == {PANDAS: bad}


def test_a_document_is_left_alone_from_a_fixed_depth_on() -> None:
    schema = pa.schema([("k", pa.int64()), ("a", pa.int64())])

    def nested(depth: int) -> bytes:
        inside: Any = "]" * 100
        for _ in range(depth):
            inside = [inside]
        return json.dumps({**GOOD, "attributes": {"deep": inside}}).encode()

    assert pandas_metadata.reduce(nested(30), schema) != nested(30)
    assert pandas_metadata.reduce(nested(31), schema) == nested(31)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"columns":' + b"[" * 40 + b"]" * 40 + b"}",
        b"\xfe\xff\x00{",
    ],
    ids=lambda bad: repr(bad[:12]),
)
def test_what_is_not_json_is_left_alone(bad: bytes) -> None:
    schema = pa.schema([("a", pa.int64())])
    assert pandas_metadata.reduce(bad, schema) == bad
    assert pandas_metadata.object_columns(schema.with_metadata({PANDAS: bad})) == ()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats()
    | st.sampled_from(["", "a", "k", "object", "str", "range"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "field_name", "numpy_type", "kind", "metadata"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.data())
def test_no_document_makes_it_fail(data: st.DataObject) -> None:
    schema = pa.schema([("k", pa.int64()), ("a", pa.timestamp("us", "UTC"))])
    content = json.loads(json.dumps(GOOD))
    key = data.draw(
        st.sampled_from(["index_columns", "column_indexes", "columns", "attributes", "entry", "other"])
    )
    if key == "entry":
        part = data.draw(
            st.sampled_from(["name", "field_name", "pandas_type", "numpy_type", "metadata", "more"])
        )
        content["columns"][1][part] = data.draw(JSON)
    else:
        content[key] = data.draw(JSON)
    once = pandas_metadata.reduce(json.dumps(content).encode(), schema)
    assert once is None or pandas_metadata.reduce(once, schema) == once
