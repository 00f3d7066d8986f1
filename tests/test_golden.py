"""Golden vectors: the bytes of the format, written out. A change here is a new version of the format."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fsvc
from fsvc.format.canonical import canonical_bytes, identify, storage_class
from fsvc.format.commit import CommitRecord, SetVersion
from fsvc.format.stored import stored_field, to_stored


def stored(array: pa.Array, nullable: bool = True) -> tuple[pa.Array, pa.Field]:
    return to_stored(array, "x"), stored_field(pa.field("x", array.type, nullable))


def content(array: pa.Array, nullable: bool = True) -> bytes:
    return b"".join(bytes(part) for part in canonical_bytes(*stored(array, nullable)))


def n(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


LIST = pa.list_(pa.field("element", pa.int8()))
CONTENT: dict[str, tuple[pa.Array, bytes]] = {
    "int16": (pa.array([1, -1], pa.int16()), b"int16?\n" + n(2) + b"\0\1\0\xff\xff"),
    "a null": (pa.array([1, None, 3], pa.int8()), b"int8?\n" + n(3) + b"\1\5\1\0\3"),
    "no rows": (pa.array([], pa.uint32()), b"uint32?\n" + n(0) + b"\0"),
    "bool": (pa.array([True, False, None]), b"bool?\n" + n(3) + b"\1\3\1"),
    "null": (pa.nulls(3), b"null\n" + n(3) + b"\1"),
    "text": (pa.array(["a", None, "bc"]), b"bytes?\n" + n(3) + b"\1\5" + n(1, 0, 2, 3) + b"abc"),
    "view": (pa.array(["a"], pa.string_view()), b"bytes?\n" + n(1) + b"\0" + n(1, 1) + b"a"),
    "minus zero": (pa.array([-0.0], pa.float32()), b"float32?\n" + n(1) + b"\0\0\0\0\x80"),
    "seconds": (pa.array([1], pa.timestamp("s", "UTC")), b"int64?\n" + n(1) + b"\0" + n(1000)),
    "date64": (pa.array([86_400_000], pa.date64()), b"int64?\n" + n(1) + b"\0" + n(86_400_000)),
    "duration": (pa.array([5], pa.duration("ns")), b"int64?\n" + n(1) + b"\0" + n(5)),
    "decimal": (pa.array([7], pa.decimal32(5, 0)), b"decimal128(3)?\n" + n(1) + b"\0" + n(7, 0)),
    "fixed": (pa.array([b"ab", None], pa.binary(2)), b"fixed(2)?\n" + n(2) + b"\1\1ab\0\0"),
    "list": (
        pa.array([[1, None], None, []], LIST),
        b"list?<int8?>\n" + n(3) + b"\1\5" + n(2, 0, 0) + n(2) + b"\1\1\1\0",
    ),
    "struct": (
        pa.array([{"a": 1}, None], pa.struct([pa.field("a", pa.int8(), False)])),
        b"struct?<int8>\n" + n(2) + b"\1\1" + n(2) + b"\1\1\1\0",
    ),
    "map": (
        pa.array([[("k", 2)]], pa.map_(pa.string(), pa.int8())),
        b"list?<struct<bytes,int8?>>\n"
        + n(1)
        + b"\0"
        + n(1)
        + n(1)
        + b"\0"
        + n(1)
        + b"\0"
        + n(1, 1)
        + b"k"
        + n(1)
        + b"\0\2",
    ),
    "dictionary": (pa.array(["a"]).dictionary_encode(), b"bytes?\n" + n(1) + b"\0" + n(1, 1) + b"a"),
}


@pytest.mark.parametrize(("array", "expected"), CONTENT.values(), ids=CONTENT.keys())
def test_canonical_content(array: pa.Array, expected: bytes) -> None:
    assert content(array) == expected


def test_a_column_that_must_not_be_null_is_of_another_class() -> None:
    assert content(pa.array([1], pa.int8()), nullable=False) == b"int8\n" + n(1) + b"\0\1"
    assert storage_class(pa.field("x", pa.null())) == "null"


def test_address_and_digest() -> None:
    found = identify(*stored(pa.array(["a", None, "bc"])))
    assert (found.address.hex(), found.digest.hex()) == IDENTITY


IDENTITY = (
    "65ab8c87ac6f1d447c3458b451302334",
    "37d0894b1e0313cd0c4a3d2487646b9e9b688bdbc156134c4a9dda8efaea77c6",
)
SNAPSHOTS: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "numbers": (
        pa.table({"id": [1, 2, 3], "x": [0.5, None, -0.0]}),
        (),
        "424598193bf63d6ab211533fb713606bc9adeff3fa1b319266aee341f72a5f5c",
    ),
    "with a key": (
        pa.table({"id": [1, 2, 3], "x": [0.5, None, -0.0]}),
        ("id",),
        "2dc05e0f8e2061e6a19cee626ef8a7176e6da6408c1cb76c8a01fea7d7b9d248",
    ),
    "metadata": (
        pa.table({"a": ["x"]}, metadata={"k": "v"}),
        (),
        "5dfc4eddf4a75fb4f40c3a30e0a4546046c56e151f8c0e95c284edd8c56e8080",
    ),
    "no rows": (
        pa.table({"a": pa.array([], pa.int64())}),
        (),
        "794469edf8bed8d8b2b2597c3740f1d0ec9733abe97290146b1045af4b65964c",
    ),
    "no columns": (pa.table({}), (), "e5aaea844539460d141628b5888a7fa404a9aec7782896566fc6b5ba07e1bb47"),
    "groups": (
        pa.table({"id": np.arange(200_000) * 31}),
        ("id",),
        "5e170f4fd56676cb053e3685a5ab5902125df82123e27effce692622e39cb651",
    ),
}


@pytest.mark.parametrize(("table", "key", "expected"), SNAPSHOTS.values(), ids=SNAPSHOTS.keys())
def test_snapshot_ids(table: pa.Table, key: tuple[str, ...], expected: str) -> None:
    assert fsvc.identify(table, key=key).id == expected


def test_commit_ids() -> None:
    record = CommitRecord(
        {"t": SetVersion("ab" * 32, 1)},
        (),
        "Ada",
        "2026-11-01T12:00:00.000000Z",
        "Grüße",
        {"k": "v"},
        {"t": {"rows": 3}},
    )
    assert record.encoded == (
        b'{"author":"Ada","changes":{"t":{"rows":3}},"feature_sets":{"t":{"snapshot":"'
        + b"ab" * 32
        + b'","version":1}},"format":1,"message":"Gr\xc3\xbc\xc3\x9fe","metadata":{"k":"v"},"parents":[],'
        b'"time":"2026-11-01T12:00:00.000000Z"}'
    )
    assert record.id == COMMIT


COMMIT = "e0d8b82f0bcf62523bab1e89e65903fd5e1e33cc2c5b41402f5b617520cd26da"
