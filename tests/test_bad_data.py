"""What cannot be kept is refused: the right class, one sentence that names the column, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from memory import memory_repository

from fsvc.errors import (
    Conflict,
    FsvcError,
    InvalidName,
    InvalidUse,
    KeyViolation,
    NotFound,
    UnreadableInput,
    UnsupportedData,
)
from fsvc.repository import Repository

GOOD = pa.table({"id": [1, 2, 3], "x": [0.5, None, -0.0]})


@pytest.fixture(params=["first", "second"])
def repository(request: pytest.FixtureRequest) -> Repository:
    """A repository without a commit, and one with some: refusals must not depend on it."""
    made = memory_repository()
    if request.param == "second":
        made.commit({"other": GOOD, "t": GOOD}, message="good", tag="good")
    return made


def refused(repository: Repository, error: type[FsvcError], data: Any, **options: Any) -> str:
    """The message with which a commit is refused, after a look at what it must not have changed."""
    name = options.pop("name", "t")
    refs = [entry.key for entry in repository.store.storage.list("refs/")]
    before = repository.head(), repository.log(), repository.tags()
    with pytest.raises(error) as caught:
        repository.commit({"fine": GOOD, name: data}, message="bad", **options)
    assert type(caught.value) is error, caught.value
    assert (repository.head(), repository.log(), repository.tags()) == before
    assert [entry.key for entry in repository.store.storage.list("refs/")] == refs
    assert repository.verify(deep=True).ok
    if before[0] is not None:
        assert repository.snapshot("t").to_arrow().equals(GOOD)
    message = caught.value.message
    assert "\n" not in message
    assert len(message) < 600
    # The same table can be put right and committed.
    assert repository.commit({name if error is not InvalidName else "t": GOOD}, message="good").id
    return message


# --- types


class Stream:
    """A table without rows, of any schema: pyarrow cannot make empty arrays of every type."""

    def __init__(self, kind: pa.DataType, name: str = "bad") -> None:
        self.schema = pa.schema([pa.field("id", pa.int64()), pa.field(name, kind)])

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        return iter([])


UNION = pa.dense_union([pa.field("a", pa.int8()), pa.field("b", pa.string())])
TYPES = {
    "dense union": UNION,
    "sparse union": pa.sparse_union([pa.field("a", pa.int8())]),
    "union in a list": pa.list_(UNION),
    "interval": pa.month_day_nano_interval(),
    "run-end encoded": pa.run_end_encoded(pa.int32(), pa.string()),
    "struct without fields": pa.struct([]),
    "binary of width 0": pa.binary(0),
    "list of size 0": pa.list_(pa.int8(), 0),
    "negative scale": pa.decimal128(5, -2),
    "dictionary of nulls": pa.dictionary(pa.int8(), pa.null()),
    "dictionary of lists": pa.dictionary(pa.int8(), pa.list_(pa.int8())),
    "fields of one name": pa.struct([pa.field("x", pa.int8()), pa.field("x", pa.int8())]),
    "fields with NUL": pa.struct([pa.field("x\0", pa.int8())]),
}


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES.keys())
def test_types_that_cannot_be_kept(repository: Repository, kind: pa.DataType) -> None:
    for table in (Stream(kind), Stream(pa.struct([pa.field("bad", kind)]), "outer")):
        assert "bad" in refused(repository, UnsupportedData, table)


def test_types_nested_too_deep(repository: Repository) -> None:
    kind = pa.int8()
    for _ in range(20):
        kind = pa.list_(kind)
    message = refused(repository, UnsupportedData, Stream(kind))
    assert "'bad." in message and "16" in message


@pytest.mark.parametrize("names", [["bad", "x", "bad"], ["", "x", ""]])
def test_columns_of_one_name(repository: Repository, names: list[str]) -> None:
    table = pa.Table.from_arrays([pa.array([1])] * 3, names)
    assert repr(names[0]) in refused(repository, UnsupportedData, table)


def test_names_of_columns_with_nul(repository: Repository) -> None:
    message = refused(repository, UnsupportedData, pa.table({"a\0b": [1]}))
    assert "a\\x00b" in message


# --- values


def required(kind: pa.DataType, values: list[Any], **options: Any) -> pa.Table:
    """A table whose column claims that it has no nulls, and has."""
    array = pa.array(values, kind)
    return pa.Table.from_arrays([array], schema=pa.schema([pa.field("bad", array.type, False)]))


INNER = pa.field("x", pa.int8(), False)
NULLS = {
    "flat": (pa.int8(), [1, None]),
    "text": (pa.string(), ["a", None]),
    "list": (pa.list_(pa.int8()), [[1], None]),
    "struct": (pa.struct([pa.field("x", pa.int8())]), [{"x": 1}, None]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["a", None]),
    "list of fixed size": (pa.list_(pa.int8(), 1), [[1], None]),
    "view": (pa.string_view(), ["a", None]),
}


@pytest.mark.parametrize(("kind", "values"), NULLS.values(), ids=NULLS.keys())
def test_nulls_in_a_column_that_must_not_be_null(
    repository: Repository, kind: pa.DataType, values: list[Any]
) -> None:
    message = refused(repository, UnsupportedData, required(kind, values))
    assert "'bad'" in message
    assert "1 null" in message


def nested_nulls() -> Iterator[tuple[str, pa.Array, pa.DataType]]:
    """Arrays with a null inside, and the type that does not allow it."""
    numbers = pa.array([1, None, 3], pa.int8())
    yield "in a struct", pa.StructArray.from_arrays([numbers], ["x"]), pa.struct([INNER])
    offsets = pa.array([0, 2, 3, 3], pa.int32())
    element = pa.field("element", pa.int8(), False)
    yield "in a list", pa.ListArray.from_arrays(offsets, numbers), pa.list_(element)
    fixed = pa.FixedSizeListArray.from_arrays(numbers, 1)
    yield "in a list of fixed size", fixed, pa.list_(element, 1)
    structs = pa.StructArray.from_arrays([numbers], ["x"])
    outer = pa.list_(pa.field("element", pa.struct([INNER])))
    yield "in a struct in a list", pa.ListArray.from_arrays(offsets, structs), outer
    large = pa.LargeListArray.from_arrays(offsets.cast(pa.int64()), numbers)
    yield "in a large list", large, pa.large_list(element)
    keys = pa.array(["a", "b", "c"])
    value = pa.map_(pa.field("key", pa.string(), False), pa.field("value", pa.int8(), False))
    yield "in the values of a map", pa.MapArray.from_arrays(offsets, keys, numbers), value


@pytest.mark.parametrize(
    ("array", "kind"), [p[1:] for p in nested_nulls()], ids=[p[0] for p in nested_nulls()]
)
def test_nulls_inside_where_none_may_be(repository: Repository, array: pa.Array, kind: pa.DataType) -> None:
    claimed = pa.Array.from_buffers(
        kind, len(array), array.buffers()[: 2 if kind.id not in FIXED else 1], children=children(array)
    )
    message = refused(repository, UnsupportedData, pa.table({"bad": claimed}))
    assert "'bad." in message or "column 'bad'" in message


FIXED = (pa.lib.Type_STRUCT, pa.lib.Type_FIXED_SIZE_LIST)


def children(array: pa.Array) -> list[pa.Array]:
    """The children of a nested array, as they lie under it, nested ones with a child that must not be null."""
    if pa.types.is_struct(array.type):
        return [array.field(i) for i in range(array.type.num_fields)]
    if pa.types.is_map(array.type):
        entry = pa.struct([pa.field("key", pa.string(), False), pa.field("value", pa.int8(), False)])
        return [pa.Array.from_buffers(entry, len(array.values), [None], children=[array.keys, array.items])]
    values = array.values
    if pa.types.is_struct(values.type):
        values = pa.Array.from_buffers(pa.struct([INNER]), len(values), [None], children=[values.field(0)])
    return [values]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
@pytest.mark.parametrize("where", ["flat", "in a list", "in a dictionary"])
def test_text_that_is_not_utf8(repository: Repository, kind: pa.DataType, where: str) -> None:
    raw = pa.array([b"fine", b"caf\xe9 au lait, longer than a view"], pa.binary())
    if pa.types.is_string_view(kind):
        binary = raw.cast(pa.binary_view())
        text = pa.Array.from_buffers(kind, 2, binary.buffers())
    else:
        text = raw.cast(pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()).view(kind)
    if where == "in a list":
        text = pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), text)
    elif where == "in a dictionary":
        text = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), text)
    message = refused(repository, UnsupportedData, pa.table({"bad": text}))
    assert "'bad" in message
    assert "UTF" in message.upper()


def buffers_of(values: Any, dtype: str) -> list[Any]:
    return [None, pa.py_buffer(np.array(values, dtype).tobytes())]


BROKEN: dict[str, Callable[[], pa.Array]] = {
    "decimal beyond its precision": lambda: pa.Array.from_buffers(
        pa.decimal128(4, 2), 1, [None, pa.py_buffer((10**20).to_bytes(16, "little"))]
    ),
    "decimal within its bytes but beyond its precision": lambda: pa.Array.from_buffers(
        pa.decimal128(4, 2), 1, [None, pa.py_buffer((12345).to_bytes(16, "little"))]
    ),
    "index of no category": lambda: pa.DictionaryArray.from_arrays(
        pa.array([0, 7], pa.int8()), pa.array(["a"]), safe=False
    ),
    "offsets that go back": lambda: pa.Array.from_buffers(
        pa.list_(pa.int8()), 3, buffers_of([0, 2, 1, 3], "<i4"), children=[pa.array([1, 2, 3], pa.int8())]
    ),
    "offsets of text that go back": lambda: pa.Array.from_buffers(
        pa.string(), 3, [*buffers_of([0, 2, 1, 3], "<i4"), pa.py_buffer(b"abc")]
    ),
    "view beyond its buffer": lambda: pa.Array.from_buffers(
        pa.string_view(),
        1,
        [None, pa.py_buffer((40).to_bytes(4, "little") + b"abcd" + bytes(8)), pa.py_buffer(b"abcd")],
    ),
    "list view beyond its elements": lambda: pa.Array.from_buffers(
        pa.list_view(pa.int8()),
        1,
        [*buffers_of([1], "<i4"), pa.py_buffer(np.array([5], "<i4").tobytes())],
        children=[pa.array([1, 2, 3], pa.int8())],
    ),
}


@pytest.mark.parametrize("make", BROKEN.values(), ids=BROKEN.keys())
def test_arrays_that_are_broken(repository: Repository, make: Callable[[], pa.Array]) -> None:
    assert "'bad'" in refused(repository, UnsupportedData, pa.table({"bad": make()}))


@pytest.mark.parametrize("number", [2**62, -(2**62)])
def test_seconds_that_do_not_fit_in_milliseconds(repository: Repository, number: int) -> None:
    table = pa.table({"bad": pa.array([0, number], pa.timestamp("s"))})
    assert "'bad'" in refused(repository, UnsupportedData, table)


# --- categories


def categorical(indices: list[Any], categories: Any, width: pa.DataType | None = None) -> pa.Table:
    column = pa.DictionaryArray.from_arrays(pa.array(indices, width or pa.int8()), categories)
    return pa.table({"bad": column})


def test_categories_twice_or_null(repository: Repository) -> None:
    message = refused(repository, UnsupportedData, categorical([0, 1], ["a", "a"]))
    assert "'bad'" in message and "twice" in message
    message = refused(repository, UnsupportedData, categorical([0, 1], ["a", None]))
    assert "'bad'" in message and "null" in message
    nan = pa.array(np.array([np.nan, np.nan]))
    assert "'bad'" in refused(repository, UnsupportedData, categorical([0, 1], nan))


def test_more_categories_than_their_indices_can_number(repository: Repository) -> None:
    chunks = [categorical([0], [f"{part}-{i}" for i in range(100)])["bad"].chunk(0) for part in range(2)]
    message = refused(repository, UnsupportedData, pa.table({"bad": pa.chunked_array(chunks)}))
    assert "'bad'" in message and "int8" in message


# --- keys


def test_keys_that_are_none(repository: Repository) -> None:
    table = pa.table({"id": [1, 2, 1], "k": [1, None, 3], "l": [[1], [2], [3]], "n": pa.nulls(3)})
    assert "'gone'" in refused(repository, KeyViolation, table, key={"t": "gone"})
    assert "'l'" in refused(repository, KeyViolation, table, key={"t": "l"})
    assert "'n'" in refused(repository, KeyViolation, table, key={"t": "n"})
    message = refused(repository, KeyViolation, table, key={"t": "k"})
    assert "k" in message and "null" in message
    message = refused(repository, KeyViolation, table, key={"t": "id"})
    assert "id" in message and "1" in message and "twice" in message
    with pytest.raises(InvalidUse, match="'id'"):
        repository.commit({"t": GOOD}, message="bad", key=["id", "id"])


def test_keys_of_several_columns(repository: Repository) -> None:
    rows = 100_000
    first, second = np.arange(rows) // 300, np.arange(rows) % 300
    first[-1], second[-1] = first[17], second[17]
    table = pa.table({"a": first, "b": [f"b{i}" for i in second], "x": np.zeros(rows)})
    message = refused(repository, KeyViolation, table, key={"t": ["a", "b"]})
    assert "b17" in message and "twice" in message
    good = pa.table({"a": [1, 1, 2], "b": ["x", "y", "x"]})
    assert repository.commit({"u": good}, message="good", key=["a", "b"]).snapshot("u").key == ("a", "b")


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.array(["a", "b", "a"], pa.string_view()),
        pa.array([0.5, 1.5, 0.5], pa.float16()),
        pa.array([b"a", b"b", b"a"], pa.binary(1)),
        pa.array([True, False, True]),
        pa.array([1, 2, 1], pa.timestamp("ns", "UTC")),
        pa.array([1, 2, 1], pa.decimal256(50, 3)),
    ],
    ids=lambda values: str(values.type),
)
def test_keys_of_many_types_that_come_twice(repository: Repository, values: pa.Array) -> None:
    assert "twice" in refused(repository, KeyViolation, pa.table({"k": values}), key={"t": "k"})


def test_the_key_of_the_parent_stays_and_is_checked() -> None:
    repository = memory_repository()
    repository.commit({"t": GOOD}, message="good", key="id")
    repeated = pa.concat_tables([GOOD, GOOD])
    with pytest.raises(KeyViolation, match="id=1"):
        repository.commit({"t": repeated}, message="bad")
    with pytest.raises(KeyViolation, match="'id'"):
        repository.commit({"t": GOOD.drop(["id"])}, message="bad")
    assert repository.commit({"t": repeated}, message="no key", key=()).snapshot("t").key == ()


# --- files


def test_files_that_are_missing_or_empty(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "data.parquet").touch()
    (tmp_path / "blank.csv").touch()
    (tmp_path / "folder").mkdir()
    for name in ("dat.parquet", "data.parquet", "blank.csv", "folder", "*.arrow"):
        assert name in refused(repository, UnreadableInput, tmp_path / name)
    refused(repository, UnreadableInput, "s3://bucket/data.parquet")


@pytest.mark.parametrize("damage", ["truncated", "no footer", "garbage", "half a page"])
def test_broken_parquet(repository: Repository, damage: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.parquet"
    numbers = pa.table({"x": np.random.default_rng(1).random(10_000)})
    pq.write_table(numbers, path, write_page_checksum=True)
    data = path.read_bytes()
    path.write_bytes(
        {
            "truncated": data[:-20],
            "no footer": data[: len(data) // 2] + b"PAR1",
            "garbage": b"PAR1" + bytes(range(256)) + b"PAR1",
            "half a page": data[:1000] + bytes(3000) + data[4000:],
        }[damage]
    )
    assert "broken.parquet" in refused(repository, UnreadableInput, path)


def test_broken_arrow(repository: Repository, tmp_path: Path) -> None:
    path = tmp_path / "broken.arrow"
    with pa.ipc.new_file(path, GOOD.schema) as writer:
        writer.write_table(GOOD)
    data = path.read_bytes()
    for part in (data[:100], data[:-10], b"ARROW1\0\0" + bytes(100)):
        path.write_bytes(part)
        assert "broken.arrow" in refused(repository, UnreadableInput, path)


def test_text_in_a_file_that_is_not_utf8(repository: Repository, tmp_path: Path) -> None:
    path = tmp_path / "latin.parquet"
    text = pa.array([b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"bad": text}), path)
    message = refused(repository, UnreadableInput, path)
    assert "latin.parquet" in message and "bad" in message


def test_csv_that_changes_its_columns(repository: Repository, tmp_path: Path) -> None:
    path = tmp_path / "ragged.csv"
    rows = [f"{i},{i * 2}" for i in range(5000)]
    for bad in ("7", "7,8,9"):
        path.write_text("a,b\n" + "\n".join([*rows[:4000], bad, *rows[4000:]]) + "\n")
        message = refused(repository, UnreadableInput, path)
        assert "ragged.csv" in message
        assert "4,002" in message or "4002" in message


def test_json_that_is_none(repository: Repository, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(json.dumps({"a": 1}) + "\n{\n")
    assert "broken.jsonl" in refused(repository, UnreadableInput, path)


def test_files_of_different_schemas(repository: Repository, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "2.parquet")
    message = refused(repository, UnreadableInput, tmp_path)
    assert "2.parquet" in message and "'a'" in message


# --- streams that break, and what is no table


def test_a_stream_that_breaks_after_a_group(repository: Repository) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, 150_000, 50_000):
            yield pa.record_batch({"x": np.arange(start, start + 50_000)})
        raise ValueError("the connection is gone")

    reader = pa.RecordBatchReader.from_batches(pa.schema([("x", pa.int64())]), batches())
    assert "the connection is gone" in refused(repository, UnsupportedData, reader)


@pytest.mark.parametrize(
    "data", [None, 3, [1, 2], pa.array([1]), b"bytes", object()], ids=lambda data: type(data).__name__
)
def test_what_is_no_table(repository: Repository, data: Any) -> None:
    refused(repository, InvalidUse, data)


def test_dicts_that_are_no_table(repository: Repository) -> None:
    assert "'b'" in refused(repository, InvalidUse, {"a": [1, 2], "b": [1]})
    assert "'bad'" in refused(repository, UnsupportedData, {"bad": [1, "x"]})


# --- names


BAD_NAMES = [
    "",
    " ",
    "../x",
    "a/b",
    "a\\b",
    "a@b",
    "a:b",
    "a~1",
    "a^",
    "nul\0",
    "CON",
    "nul.txt",
    "v3",
    ".hidden",
    "trailing.",
    "-flag",
    "new\nline",
    "\x1b[31mred",
    "Gru\u0308ße",
    "\u202egnp",
    "x" * 201,
    "*",
    "a|b",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_names_that_are_not_safe(repository: Repository, name: str) -> None:
    message = refused(repository, InvalidName, GOOD, name=name)
    assert not any(character in message for character in "\0\x1b\n\u202e")


@pytest.mark.parametrize("name", ["HEAD", "v3", "a..b/../c", "/x", "x/", "f" * 64, "a b\n"], ids=repr)
def test_names_of_refs_that_are_not_safe(repository: Repository, name: str) -> None:
    refused(repository, InvalidName, GOOD, branch=name)
    refused(repository, InvalidName, GOOD, tag=name, name="u")


def test_names_that_differ_only_in_case(repository: Repository) -> None:
    refused(repository, InvalidUse, GOOD, name="FINE")
    repository.commit({"customers": GOOD}, message="good")
    with pytest.raises(InvalidUse, match="'customers'"):
        repository.commit({"Customers": GOOD}, message="bad")


def test_a_tag_that_is_there(repository: Repository) -> None:
    repository.commit({"t": GOOD.slice(1)}, message="good", tag="taken")
    head = repository.head()
    with pytest.raises(Conflict, match="'taken'"):
        repository.commit({"t": GOOD.slice(2)}, message="bad", tag="taken")
    assert repository.head() == head


def test_sorting_by_what_is_not_there(repository: Repository) -> None:
    assert "'xx'" in refused(repository, NotFound, GOOD, sort_by="xx")
