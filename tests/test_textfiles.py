"""CSV and JSON: types that lose nothing, errors that name the line, the same table from any layout."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import gzip
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsvc.errors import FsvcError, UnreadableInput, UnsupportedData
from fsvc.query.texttypes import ARROW_TYPES, Finding, decide
from fsvc.sources import BATCH_ROWS, open_source


def read(path: Path | str) -> pa.Table:
    with open_source(path) as source:
        table = pa.Table.from_batches(source.batches(), schema=source.schema)
        assert source.num_rows == table.num_rows
        return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


def column(tmp_path: Path, *values: str) -> pa.ChunkedArray:
    """A CSV file of these lines, with a second column so that empty values are no empty lines."""
    (tmp_path / "one.csv").write_text("x,n\n" + "".join(f"{value},1\n" for value in values))
    return read(tmp_path / "one.csv").column("x")


UTC = dt.UTC


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["1", "-2", ""], pa.int64(), [1, -2, None]),
        (["9223372036854775807", "-1"], pa.int64(), [2**63 - 1, -1]),
        (["18446744073709551615", "0"], pa.uint64(), [2**64 - 1, 0]),
        (
            ["18446744073709551615", "-1"],
            pa.decimal128(38, 0),
            [decimal.Decimal(2**64 - 1), decimal.Decimal(-1)],
        ),
        (["9" * 39], pa.string(), ["9" * 39]),
        (["0.5", "1", "1e-3", "-.5", "5."], pa.float64(), [0.5, 1.0, 0.001, -0.5, 5.0]),
        (["inf", "-Infinity"], pa.float64(), [math.inf, -math.inf]),
        (["9007199254740993", "0.5"], pa.string(), ["9007199254740993", "0.5"]),
        (["007", "1"], pa.string(), ["007", "1"]),
        (["+4912345", "1"], pa.string(), ["+4912345", "1"]),
        (["1_000"], pa.string(), ["1_000"]),
        (["0x10"], pa.string(), ["0x10"]),
        ([" 1"], pa.string(), [" 1"]),
        (["NA", "1"], pa.string(), ["NA", "1"]),
        (["true", "False", ""], pa.bool_(), [True, False, None]),
        (["t", "f"], pa.string(), ["t", "f"]),
        (["yes", "no"], pa.string(), ["yes", "no"]),
        (["2020-02-29", ""], pa.date32(), [dt.date(2020, 2, 29), None]),
        (["2021-02-29"], pa.string(), ["2021-02-29"]),
        (["01/02/2020"], pa.string(), ["01/02/2020"]),
        (["13/02/2020"], pa.string(), ["13/02/2020"]),
        (["20200101"], pa.int64(), [20200101]),
        (
            ["2020-01-01", "2020-01-01 10:00", "0900-01-01T10:00:00.5"],
            pa.timestamp("us"),
            [dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, 10), dt.datetime(900, 1, 1, 10, 0, 0, 500_000)],  # noqa: DTZ001
        ),
        (["2020-01-01 24:00:00"], pa.string(), ["2020-01-01 24:00:00"]),
        (["2020-01-01T10:00:00.1234567", "0900-01-01T10:00"], pa.string(), None),
        (
            ["2020-01-01T12:00:00+02:00", "2020-01-01 10:00:00Z", "2020-01-01T10:00:00+00"],
            pa.timestamp("us", "UTC"),
            [dt.datetime(2020, 1, 1, 10, tzinfo=UTC)] * 3,
        ),
        (["2020-01-01T12:00:00.123456789Z"], pa.string(), ["2020-01-01T12:00:00.123456789Z"]),
        (["2020-01-01T12:00:00Z", "2020-01-01T12:00:00"], pa.string(), None),
        (["", ""], pa.string(), [None, None]),
        (['""', ""], pa.string(), ["", None]),
        (['""', '"1"'], pa.int64(), [None, 1]),
        (["#1", "x"], pa.string(), ["#1", "x"]),
        (["'a'"], pa.string(), ["'a'"]),
        (['"a ""b"", c\nd"'], pa.string(), ['a "b", c\nd']),
    ],
)
def test_types_of_csv_columns(
    values: list[str], kind: pa.DataType, expected: list[Any] | None, tmp_path: Path
) -> None:
    found = column(tmp_path, *values)
    assert found.type == kind
    assert found.to_pylist() == (values if expected is None else expected)


def test_nanoseconds_and_signed_zero_survive(tmp_path: Path) -> None:
    found = column(tmp_path, "2020-01-01T10:00:00.123456789", "2020-01-01T10:00:00")
    assert found.type == pa.timestamp("ns")
    assert found.cast(pa.int64()).to_pylist() == [1577872800123456789, 1577872800000000000]
    zeros = column(tmp_path, "-0", "0", "nan", "-0.0").to_pylist()
    assert [math.copysign(1, value) for value in zeros if value == 0] == [-1, 1, -1]


def test_a_late_row_decides_the_type(tmp_path: Path) -> None:
    found = column(tmp_path, *map(str, range(100_000)), "x")
    assert found.type == pa.string()
    assert found.to_pylist() == [*map(str, range(100_000)), "x"]


cells = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8),
    st.sampled_from(
        ["", "1", "-7", "0.5", "2020-01-01", "2020-01-01 10:00:00", "true", "nan", '"', "a,b", "é\n"]
    ),
)


@given(
    st.lists(st.tuples(cells, cells), max_size=8), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"])
)
def test_csv_keeps_every_value(
    folder: Path, rows: list[tuple[str, str]], delimiter: str, newline: str
) -> None:
    path = folder / "any.csv"
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([("first", "second"), *rows])
    path.write_bytes(text.getvalue().encode())
    found = read(path)
    for position, name in enumerate(("first", "second")):
        values = [row[position] for row in rows]
        kind = found.schema.field(name).type
        kept = found.column(name).to_pylist()
        if kind == pa.string():
            assert kept == values
        else:
            # An empty text is no value of any other type.
            assert [value is None for value in kept] == [value == "" for value in values]
            texts = pa.array([value or None for value in values])
            if kind in (pa.int64(), pa.date32()):
                assert found.column(name).cast(pa.string()).to_pylist() == texts.to_pylist()


@given(st.lists(st.one_of(st.integers(-(10**38) + 1, 10**38 - 1), st.none()), min_size=1, max_size=5))
def test_integers_of_any_size_are_exact(folder: Path, values: list[int | None]) -> None:
    path = folder / "integers.csv"
    path.write_text("x,n\n" + "".join(f"{'' if value is None else value},1\n" for value in values))
    found = read(path).column("x").to_pylist()
    assert [None if value is None else int(value) for value in found] == values


@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_floats_written_by_python_are_exact(folder: Path, values: list[float]) -> None:
    path = folder / "floats.csv"
    path.write_text("x,n\n" + "".join(f"{value!r},1\n" for value in values))
    found = read(path).column("x")
    assert found.type == pa.float64()
    assert np.array_equal(np.array(found.to_pylist()), np.array(values), equal_nan=True)


@given(st.integers(0, 2**12 - 1), st.one_of(st.none(), st.integers(-(2**70), 2**70)))
def test_every_mix_of_classes_has_a_type(classes: int, extreme: int | None) -> None:
    assert decide(Finding(classes, extreme, extreme)) in ARROW_TYPES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n1,x\n2\n", r"line 3 has 1 value\(s\) where the header has 2"),
        (b"a,b\n" + b"1,x\n" * 30_000 + b"1,x,y\n", "line 30002 has 3 value"),
        (b'a,b\n1,"x\n2,y\n', "line 2 begins a quoted value"),
        (b"a,b\n1,\xe9\n", "line 2 is not in UTF-8"),
        (b"\xff\xfea\0,\0b\0\n\0", "not in UTF-8"),
        (b"1,2\n3,4\n", "holds values, not column names"),
        (b"a,a\n1,2\n", "two columns are named 'a'"),
        (
            b",".join(b"c%d" % i for i in range(200_000)) + b"\n",
            "its first line has more than 1,048,576 bytes",
        ),
        (b",a\n0,2\n", "column 1 has no name"),
        (b"# note\na,b\n1,2\n", "line 2 has 2 value"),
        (b"a,b\r\n1,x\n2,y\r\n", "mixes line endings"),
    ],
)
def test_broken_csv_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UnreadableInput, match=message) as caught:
        open_source(tmp_path / "t.csv")
    assert "t.csv" in caught.value.message
    assert "\n" not in caught.value.message


def test_headers_and_compression(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf"na;me",b\n1,2\n'
    expected = {"na;me": [1], "b": [2]}
    (tmp_path / "t.csv").write_bytes(content)
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress(content))
    with pa.output_stream(str(tmp_path / "z.csv.zst"), compression="zstd") as stream:
        stream.write(content)
    for name in ("t.csv", "z.csv.gz", "z.csv.zst"):
        assert read(tmp_path / name).to_pydict() == expected
    (tmp_path / "t.tsv").write_text("a,b\tc\n1\t2\n")
    assert read(tmp_path / "t.tsv").to_pydict() == {"a,b": [1], "c": [2]}
    (tmp_path / "only.csv").write_text("a,b\n")
    assert read(tmp_path / "only.csv").schema == pa.schema([("a", pa.string()), ("b", pa.string())])


def test_files_of_a_folder_share_their_types(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2020-01-01\n")
    (tmp_path / "b.csv").write_text("x;y\n0.5;2020-01-02 10:00\n")
    with pytest.raises(UnreadableInput, match=r"b\.csv has other columns"):
        open_source(tmp_path)
    (tmp_path / "b.csv").write_text("x,y\n0.5,2020-01-02 10:00\n")
    assert read(tmp_path).schema.types == [pa.float64(), pa.timestamp("us")]
    assert read(tmp_path).column("x").to_pylist() == [1.0, 0.5]


@pytest.mark.parametrize("name", ["a[1]*?.csv", "it's.csv", "k=v.csv", "ü.csv"])
def test_any_file_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "a1xx.csv").write_text("other,file\n3,4\n")
    (tmp_path / "p=1").mkdir()
    for path in (tmp_path / name, tmp_path / "p=1" / name):
        path.write_text("a,b\n1,2\n")
        assert read(path).to_pydict() == {"a": [1], "b": [2]}


def test_order_is_that_of_the_file_and_batches_are_small(tmp_path: Path) -> None:
    rows = 300_000
    for name, line in (("t.csv", "{0},text {0}\n"), ("t.jsonl", '{{"i":{0},"s":"text {0}"}}\n')):
        with (tmp_path / name).open("w") as file:
            if name == "t.csv":
                file.write("i,s\n")
            file.writelines(map(line.format, range(rows)))
        with open_source(tmp_path / name) as source:
            batches = list(source.batches())
            assert source.notes == ["column 'i' was read as int64", "column 's' was read as string"]
        assert max(batch.num_rows for batch in batches) <= BATCH_ROWS
        found = np.concatenate([batch.column("i").to_numpy() for batch in batches])
        assert np.array_equal(found, np.arange(rows))


# --- JSON


def lines(tmp_path: Path, *rows: Any, name: str = "t.jsonl") -> Path:
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / name


def test_json_keeps_kinds_apart(tmp_path: Path) -> None:
    rows = [
        {"i": 1, "f": 0.5, "s": "1", "b": True, "d": "2020-01-01", "n": {"x": "2020-01-01", "y": [1, None]}},
        {"i": 2**64 - 1, "f": -0.0, "s": None, "n": {"x": None, "z": {"q": 1.5}}, "late": "x"},
    ]
    found = read(lines(tmp_path, *rows))
    inner = pa.struct(
        [("x", pa.string()), ("y", pa.list_(pa.int64())), ("z", pa.struct([("q", pa.float64())]))]
    )
    assert found.schema == pa.schema(
        [
            ("i", pa.uint64()),
            ("f", pa.float64()),
            ("s", pa.string()),
            ("b", pa.bool_()),
            ("d", pa.date32()),
            ("n", inner),
            ("late", pa.string()),
        ]
    )
    assert found.column("n").to_pylist()[0] == {"x": "2020-01-01", "y": [1, None], "z": None}
    assert found.column("i").to_pylist() == [1, 2**64 - 1]
    assert math.copysign(1, found.column("f").to_pylist()[1]) == -1
    assert found.column("late").to_pylist() == [None, "x"]


def test_an_empty_text_of_json_is_a_text(tmp_path: Path) -> None:
    assert read(lines(tmp_path, {"d": "2020-01-01"}, {"d": ""})).to_pydict() == {"d": ["2020-01-01", ""]}


def test_shapes_of_json_files(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"a": None}]
    (tmp_path / "array.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "pretty.json").write_text("\n".join(json.dumps(row, indent=1) for row in rows))
    (tmp_path / "z.jsonl.gz").write_bytes(gzip.compress(b'{"a":1}\n\n{"a":null}'))
    for name in ("array.json", "pretty.json", "z.jsonl.gz"):
        assert read(tmp_path / name).to_pydict() == {"a": [1, None]}
    lines(tmp_path / ".", {"a": 1}, name="m1.jsonl")
    lines(tmp_path / ".", {"b": 0.5, "a": None}, name="m2.jsonl")
    assert read(str(tmp_path / "m*.jsonl")).to_pydict() == {"a": [1, None], "b": [None, 0.5]}


def test_order_of_keys_is_that_of_their_first_rows(tmp_path: Path) -> None:
    rows = [{f"k{number}": number, "n": {f"m{number}": 1}} for number in range(100)]
    # Without a newline at its end, the last row may be parsed by another thread, and first.
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for _ in range(10):
        with open_source(tmp_path / "t.jsonl") as source:
            found = source.schema
        assert found.names == ["k0", "n", *(f"k{number}" for number in range(1, 100))]
        assert [field.name for field in found.field("n").type] == [f"m{number}" for number in range(100)]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ('{"a":1}\n{"a":"x"}\n', UnsupportedData, "'a' mixes kinds"),
        ('{"a":{"b":1}}\n{"a":{"b":[1]}}\n', UnsupportedData, r"'a\.b' mixes kinds"),
        ('{"a":9007199254740993}\n{"a":0.5}\n', UnsupportedData, "'a' holds numbers that no one type keeps"),
        ('{"a":1}\n{"a":\n', UnreadableInput, "line 3"),
        ('{"a":1,"a":2}\n', UnreadableInput, "duplicate key"),
        ('{"a":1,"A":2}\n', UnreadableInput, "differ only in upper and lower case"),
        ('{"":1}\n', UnreadableInput, "a name is empty"),
        ("1\n2\n", UnreadableInput, "not all objects"),
        ('{"a":1}\n[1]\n', UnreadableInput, "not all objects"),
        ("{}\n", UnreadableInput, "not all objects"),
        ("", UnreadableInput, "is empty"),
        ('{"a":' + "[" * 2000 + "]" * 2000 + "}\n", UnreadableInput, "nested too deeply"),
    ],
)
def test_bad_json_is_refused(content: str, kind: type[FsvcError], message: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(kind, match=message) as caught, open_source(tmp_path / "t.jsonl") as source:
        list(source.batches())
    assert "\n" not in caught.value.message


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=6), st.data())
def test_json_keeps_every_value(folder: Path, numbers: list[int | None], data: st.DataObject) -> None:
    size = len(numbers)
    texts = data.draw(st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=size, max_size=size))
    fractions = data.draw(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=size, max_size=size)
    )
    nested = [{"t": text, "l": [number, None]} for text, number in zip(texts, numbers, strict=True)]
    rows = [
        {"i": number, "s": text, "f": fraction, "n": inner}
        for number, text, fraction, inner in zip(numbers, texts, fractions, nested, strict=True)
    ]
    path = folder / "any.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = read(path)
    assert found.column("f").to_pylist() == fractions
    assert found.column("s").to_pylist() == texts
    if any(number is not None for number in numbers):
        assert found.column("i").to_pylist() == numbers
        assert found.column("n").to_pylist() == nested


def test_an_abandoned_source_makes_no_noise(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    program = (
        "from fsvc.sources import open_source\n"
        f"source = open_source({str(tmp_path / 't.csv')!r})\n"
        "batches = source.batches()\n"
        "batch = next(batches)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_duckdb_reaches_nothing_else(tmp_path: Path) -> None:
    from fsvc.query.textfiles import CsvFiles

    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    opened = CsvFiles([tmp_path / "t.csv"])
    with pytest.raises(Exception, match="disabled"):
        opened.connection.sql(f"from read_csv('{tmp_path / 'secret.csv'}')").fetchall()
    opened.close()
