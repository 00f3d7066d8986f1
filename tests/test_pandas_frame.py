"""DataFrames come back from a repository with their index, labels and dtypes."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pandas.testing
import pyarrow as pa
import pytest
from memory import committed

from fsvc.errors import UnsupportedData
from fsvc.pandas_frame import to_pandas

DAY = datetime.date(2026, 1, 1)
NOON = pd.Timestamp("2026-01-01T12:00")


def objects(values: list[Any]) -> pd.Series:
    return pd.Series(values, dtype=object)


def indexed(index: Any, **options: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {"a": [1, 2]}, index=index if isinstance(index, pd.Index) else pd.Index(index, **options)
    )


def labelled(columns: Any) -> pd.DataFrame:
    return pd.DataFrame([[1, 2.0], [3, 4.0]], columns=columns)


def arrow(values: list[Any], kind: pa.DataType) -> Any:
    return pd.array(values, dtype=pd.ArrowDtype(kind))


FRAMES: dict[str, Callable[[], pd.DataFrame]] = {
    "plain": lambda: pd.DataFrame(
        {
            "i": np.array([1, 2], np.int8),
            "f": [np.nan, -0.0],
            "s": ["a", None],
            "b": [True, False],
            "t": pd.to_datetime(["2026-01-01", None]).tz_localize("Europe/Berlin"),
            "d": [DAY, None],
            "raw": [b"\0", None],
        }
    ),
    "objects": lambda: pd.DataFrame(
        {
            "int": objects([1, None]),
            "int without null": objects([1, 2]),
            "real": objects([1.5, None]),
            "text": objects(["", None]),
            "flag": objects([True, None]),
            "raw": objects([b"x", None]),
            "when": objects([NOON, None]),
            "zoned": objects([NOON.tz_localize("Europe/Berlin"), None]),
            "span": objects([pd.Timedelta(1, "s"), None]),
            "list": objects([[1], None]),
            "nothing": objects([None, None]),
        }
    ),
    "objects without rows": lambda: pd.DataFrame({"a": objects([])}),
    "nullable": lambda: pd.DataFrame(
        {
            dtype: pd.array([1, None], dtype=dtype)
            for dtype in ("Int8", "Int64", "UInt16", "Float32", "Float64", "boolean")
        }
    ),
    "strings": lambda: pd.DataFrame({d: pd.array(["x", None], dtype=d) for d in ("string", "str")}),
    "arrow": lambda: pd.DataFrame(
        {
            "i": arrow([1, None], pa.uint16()),
            "s": arrow(["x", None], pa.string()),
            "t": arrow([NOON, None], pa.timestamp("s", "UTC")),
            "l": arrow([[1], None], pa.list_(pa.int8())),
            "m": arrow([{"x": 1}, None], pa.struct([("x", pa.int8())])),
            "d": arrow(["x", None], pa.dictionary(pa.int8(), pa.string())),
            "b": arrow([True, None], pa.bool_()),
        }
    ),
    "units": lambda: pd.DataFrame(
        {
            f"{kind}8[{unit}]": np.array([0, 1], f"{kind}8[{unit}]")
            for kind in "mM"
            for unit in ("s", "ms", "us", "ns")
        }
    ),
    "categories": lambda: pd.DataFrame(
        {
            "text": pd.Categorical(["x", None], categories=["y", "x", "unused"], ordered=True),
            "number": pd.Categorical([2, 1], categories=pd.Index([2, 1], dtype="int8")),
            "time": pd.Categorical(pd.to_datetime(["2026", None])),
        }
    ),
    "categories without rows": lambda: pd.DataFrame({"a": pd.Categorical([], categories=["x", "y"])}),
    "period and interval": lambda: pd.DataFrame(
        {"p": pd.period_range("2026-01", periods=2, freq="M"), "i": pd.interval_range(0, 2)}
    ),
    "index of objects": lambda: indexed(["x", "y"], dtype=object),
    "index of objects that are numbers": lambda: indexed([1, 2], dtype=object, name="k"),
    "index of days": lambda: indexed([DAY, DAY]),
    "nullable index": lambda: indexed(pd.array([1, None], dtype="Int64"), name="k"),
    "nullable floats as index": lambda: indexed(pd.array([1.5, None], dtype="Float64")),
    "booleans as index": lambda: indexed([True, False]),
    "nullable booleans as index": lambda: indexed(pd.array([True, None], dtype="boolean"), name="k"),
    "strings as index": lambda: indexed(pd.array(["a", None], dtype="string"), name="k"),
    "arrow index": lambda: indexed(arrow([1, None], pa.int32()), name="k"),
    "narrow index": lambda: indexed(np.array([1, 2], np.uint8)),
    "categorical index": lambda: indexed(pd.CategoricalIndex([3, 1], categories=[3, 2, 1], ordered=True)),
    "period index": lambda: indexed(pd.period_range("2026-01", periods=2, freq="M")),
    "interval index": lambda: indexed(pd.interval_range(0, 2)),
    "time index": lambda: indexed(pd.DatetimeIndex(np.array([0, 1], "M8[s]"), name="t")),
    "zoned index": lambda: indexed(pd.DatetimeIndex([NOON, NOON]).tz_localize("America/St_Johns")),
    "span index": lambda: indexed(pd.TimedeltaIndex(np.array([0, 1], "m8[ms]"))),
    "range index": lambda: indexed(pd.RangeIndex(5, 9, 2, name="row")),
    "levels of many dtypes": lambda: indexed(
        pd.MultiIndex.from_arrays(
            [
                pd.array([1, None], dtype="Int32"),
                pd.Index(["a", "b"], dtype=object),
                pd.array(["x", "y"], dtype="string"),
                pd.DatetimeIndex([NOON, NOON]),
            ],
            names=["p", "q", None, "a"],
        )
    ),
    "labels of numbers": lambda: labelled([5, 3]),
    "labels of booleans": lambda: labelled(pd.Index([True, False], name="n")),
    "labels of nullable strings": lambda: labelled(pd.Index(["a", "b"], dtype="string")),
    "labels in levels": lambda: labelled(pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["k", None])),
    "labels in levels, with objects": lambda: labelled(
        pd.MultiIndex.from_tuples([("x", 1), ("y", 2)])
    ).astype(object),
    "no columns": lambda: pd.DataFrame(index=[3, 4]),
    "nothing": pd.DataFrame,
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES.keys())
def test_frames_come_back(make: Callable[[], pd.DataFrame]) -> None:
    frame = make()
    snapshot = committed(frame)
    back = snapshot.to_pandas()
    pandas.testing.assert_frame_equal(
        back, frame, check_index_type="exact", check_categorical=True, check_freq=False
    )
    assert back.dtypes.tolist() == frame.dtypes.tolist()
    assert committed(back).id == snapshot.id


def test_no_data_frame_is_touched() -> None:
    frame = FRAMES["objects"]()
    before = frame.copy(deep=True)
    committed(frame)
    pandas.testing.assert_frame_equal(frame, before)


def test_attributes_come_back() -> None:
    frame = pd.DataFrame({"a": objects([1])})
    frame.attrs = {"unit": "kg", "limits": [0, 1.5]}
    assert committed(frame).to_pandas().attrs == frame.attrs


def test_some_columns_come_without_an_index_that_was_not_asked_for() -> None:
    frame = pd.DataFrame(
        {"a": [1, 2], "b": pd.array([1, None], dtype="Int8")},
        index=pd.Index(["x", "y"], dtype=object, name="k"),
    )
    snapshot = committed(frame)
    pandas.testing.assert_frame_equal(snapshot.to_pandas(["b"]), frame[["b"]].reset_index(drop=True))
    pandas.testing.assert_frame_equal(snapshot.to_pandas(["k", "a"]), frame[["a"]])


def test_options_are_those_of_pyarrow() -> None:
    snapshot = committed(FRAMES["arrow"]())
    assert snapshot.to_pandas(["s"], ignore_metadata=True).dtypes.tolist() == [pd.Series(["x"]).dtype]
    mapped = snapshot.to_pandas(["i"], types_mapper={pa.uint16(): pd.UInt16Dtype()}.get)
    assert mapped.dtypes.tolist() == [pd.UInt16Dtype()]
    assert snapshot.to_pandas(["s", "i"], split_blocks=True).shape == (2, 2)


@pytest.mark.parametrize(
    "document", [b"", b"[", b"{}", b'{"columns": 1}', b'{"columns": [{}], "index_columns": []}']
)
def test_metadata_that_is_not_of_pandas_is_left_to_pyarrow(document: bytes) -> None:
    table = pa.table({"a": [1]}).replace_schema_metadata({b"pandas": document})
    try:
        expected = table.to_pandas()
    except Exception as error:  # noqa: BLE001
        with pytest.raises(type(error)):
            to_pandas(table)
    else:
        pandas.testing.assert_frame_equal(to_pandas(table), expected)


@pytest.mark.parametrize(
    "columns",
    [["a", 1], pd.Index([("a", 1), ("b", 2)], tupleize_cols=False), pd.CategoricalIndex(["a", "b"])],
    ids=["mixed", "tuples", "categories"],
)
def test_labels_that_would_become_text_are_refused(columns: Any) -> None:
    with pytest.raises(UnsupportedData, match="'a'") as caught:
        committed(labelled(columns))
    assert "map(str)" in str(caught.value.hint)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"bad": [1 + 2j]}),
        pd.DataFrame({"bad": pd.arrays.SparseArray([0, 0, 1])}),
        pd.DataFrame({"bad": objects([1, "x"])}),
        pd.DataFrame({"bad": objects([object()])}),
    ],
    ids=["complex", "sparse", "mixed", "object"],
)
def test_columns_that_arrow_has_no_form_for_are_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(UnsupportedData, match="bad"):
        committed(frame)
