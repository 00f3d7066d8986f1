"""Thrift's compact protocol and Parquet footers: round trips, relocation, and bytes that are damaged."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from fsvc.errors import Corruption
from fsvc.format import footer, pages, thrift
from fsvc.format.footer import LeafMeta, RowGroup, unpack_leaf

INTEGERS = st.integers(-(2**63), 2**63 - 1)
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    thrift.TRUE: st.just(True),
    thrift.FALSE: st.just(False),
    thrift.BYTE: st.integers(0, 255),
    thrift.I16: st.integers(-(2**15), 2**15 - 1),
    thrift.I32: st.integers(-(2**31), 2**31 - 1),
    thrift.I64: INTEGERS,
    thrift.DOUBLE: st.binary(min_size=8, max_size=8),
    thrift.BINARY: st.binary(max_size=200),
}


def values(inner: st.SearchStrategy[thrift.Struct]) -> st.SearchStrategy[tuple[int, Any]]:
    scalars = [st.tuples(st.just(wire), value) for wire, value in SCALARS.items()]
    lists = [
        st.tuples(
            st.just(wire),
            st.lists(st.booleans() if wire in (thrift.TRUE, thrift.FALSE) else value, max_size=20),
        )
        for wire, value in [*SCALARS.items(), (thrift.STRUCT, inner)]
    ]
    return st.one_of(
        *scalars, st.tuples(st.just(thrift.LIST), st.one_of(lists)), st.tuples(st.just(thrift.STRUCT), inner)
    )


STRUCTS: st.SearchStrategy[thrift.Struct] = st.recursive(
    st.just({}), lambda inner: st.dictionaries(st.integers(1, 40), values(inner), max_size=5), max_leaves=6
)


@given(STRUCTS, st.binary(max_size=5))
def test_structs_come_back(struct: thrift.Struct, before: bytes) -> None:
    data = thrift.write_struct(struct)
    assert thrift.read_struct(before + data + b"more", len(before)) == (struct, len(before) + len(data))


@given(st.binary(max_size=60), STRUCTS, st.data())
def test_any_bytes_are_a_struct_or_damaged(junk: bytes, struct: thrift.Struct, data: st.DataObject) -> None:
    whole = thrift.write_struct(struct)
    place = data.draw(st.integers(0, len(whole)))
    for text in (junk, whole[:place] + junk + whole[place + 1 :], whole[:place]):
        try:
            found, end = thrift.read_struct(text)
        except Corruption:
            continue
        assert end <= len(text)
        assert isinstance(found, dict)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1c" * 100_000,  # structs in structs
        b"\x19" * 100_000,  # lists in lists
        b"\x19\xfc\xff\xff\xff\xff\x0f",  # a list longer than the bytes
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a text longer than the bytes
        b"\x16" + b"\xff" * 11,  # an integer of too many bytes
        b"\x1b\x00\x00",  # a map
        b"\x1a\x00\x00",  # a set
        b"\x1f\x00",  # no type
    ],
    ids=lambda data: repr(data[:8]),
)
def test_bytes_that_are_no_struct(data: bytes) -> None:
    with pytest.raises(Corruption):
        thrift.read_struct(data)


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, store_schema=False, row_group_size=max(1, len(table)), **options)
    return sink.getvalue()


@given(st.binary(max_size=200), st.data())
def test_a_footer_is_read_or_damaged(junk: bytes, data: st.DataObject) -> None:
    whole = parquet(pa.table({"a": [1, 2], "b": ["x", None]}))
    place = data.draw(st.integers(0, len(whole) - 1))
    for text in (
        junk,
        whole[:place],
        whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :],
    ):
        try:
            found = footer.read_footer(text)
        except Corruption:
            continue
        assert isinstance(found, dict)


# --- relocation


def parts(table: pa.Table, **options: Any) -> tuple[footer.FileSchema, list[tuple[LeafMeta, memoryview]]]:
    data = parquet(table, **options)
    schema = footer.file_schema(footer.read_footer(data))
    return schema, footer.read_leaves(data, [False] * len(schema.paths))


def assembled(
    schema: footer.FileSchema,
    groups: list[tuple[int, list[tuple[LeafMeta, memoryview]]]],
    gaps: np.random.Generator,
    metadata: list[tuple[bytes, bytes]],
) -> bytes:
    """A Parquet file of these leaves, with unused bytes between them."""
    out = bytearray(footer.MAGIC)
    placed = []
    for rows, leaves in groups:
        row = []
        for leaf, page in leaves:
            out += bytes(int(gaps.integers(0, 50)))
            row.append((leaf, len(out)))
            out += page
        placed.append(RowGroup(rows, row))
    out += bytes(int(gaps.integers(0, 50)))
    return bytes(out) + footer.write_footer(schema, placed, metadata)


OPTIONS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["none", "zstd", "snappy"]),
        "use_dictionary": st.booleans(),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "write_statistics": st.booleans(),
    }
)
SCHEMA = pa.schema(
    [
        pa.field("a.b", pa.int64()),
        pa.field(
            "s",
            pa.struct(
                [pa.field("x", pa.string()), pa.field("y.z", pa.list_(pa.field("element", pa.float32())))]
            ),
        ),
        pa.field("m", pa.map_(pa.string(), pa.int8())),
        pa.field("ü", pa.bool_(), False),
    ]
)


@given(st.lists(strategies.tables(SCHEMA, min_rows=1), min_size=1, max_size=3), OPTIONS, st.integers(0, 99))
def test_leaves_can_be_moved(tables: list[pa.Table], options: dict[str, Any], seed: int) -> None:
    found = [parts(table, **options) for table in tables]
    groups = []
    for table, (_, leaves) in zip(tables, found, strict=True):
        stored = b"".join(leaf.pack() for leaf, _ in leaves)
        position, again = 0, []
        for _, page in leaves:
            leaf, position = unpack_leaf(stored, position)
            again.append((leaf, page))
        assert position == len(stored)
        groups.append((len(table), again))
    metadata = [(b"k", b"v"), (b"", "ü".encode())]
    file = pq.ParquetFile(io.BytesIO(assembled(found[0][0], groups, np.random.default_rng(seed), metadata)))
    assert file.metadata.metadata == dict(metadata)
    assert file.metadata.num_rows == sum(map(len, tables))
    for number, table in enumerate(tables):
        # As pyarrow reads the file that it wrote itself.
        own = pq.ParquetFile(io.BytesIO(parquet(table, **options)))
        got = file.read_row_group(number)
        for one, other in zip(got.columns, own.read_row_group(0).columns, strict=True):
            assert strategies.bits(one) == strategies.bits(other)
        group, before = file.metadata.row_group(number), own.metadata.row_group(0)
        assert group.num_rows == len(table)
        for i in range(group.num_columns):
            column, origin = group.column(i).to_dict(), before.column(i).to_dict()
            for place in ("data_page_offset", "dictionary_page_offset", "index_page_offset", "file_offset"):
                for described in (column, origin):
                    described.pop(place, None)
            assert column == origin


@pytest.mark.parametrize("count", [0, 1, 14, 15, 16, 40])
def test_as_many_columns_and_groups_as_there_are(count: int) -> None:
    table = pa.table({f"c{i}": [i] for i in range(max(1, count))})
    schema, leaves = parts(table)
    data = assembled(schema, [(1, leaves)] * count, np.random.default_rng(0), [])
    file = pq.ParquetFile(io.BytesIO(data))
    assert file.num_row_groups == count
    assert file.read().num_rows == count
    assert file.metadata.metadata is None


def test_a_range_can_be_left_out() -> None:
    data = parquet(pa.table({"a": [1.0, 2.0, None], "b": [1, 2, 3]}))
    (one, _), (other, _) = footer.read_leaves(data, [True, False])
    assert set(one.statistics()) & {1, 2, 5, 6, 7, 8} == set()
    assert one.statistics()[3][1] == 1
    assert {5, 6} <= set(other.statistics())


def test_more_than_one_row_group_is_refused() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), sink, row_group_size=1)
    with pytest.raises(Corruption, match="2"):
        footer.read_leaves(sink.getvalue(), [False])


@given(st.binary(max_size=80))
def test_stored_leaves_are_read_or_damaged(junk: bytes) -> None:
    try:
        _, end = unpack_leaf(junk, 0)
    except Corruption:
        return
    assert end <= len(junk)


def test_metadata_is_cut_out_as_it_would_be_written() -> None:
    arrays = [
        pa.array([3, None, 1], pa.int64()),
        pa.array([1.5, float("nan"), 2.0]),
        pa.array(["a", "b", "a"]),
        pa.array([[1, 2], [], None], pa.list_(pa.int32())),
        pa.array([None, None, None], pa.float32()),
    ]
    fields = [pa.field(f"x{i}", array.type) for i, array in enumerate(arrays)]
    for encoding in (pages.Encoding.PLAIN, pages.Encoding.DICTIONARY):
        for chunk in pages.encode(arrays, fields, [encoding] * len(arrays)):
            for leaf in chunk.leaves:
                assert footer.make_leaf(leaf.fields(), leaf.dictionary_page, leaf.data_page) == leaf
