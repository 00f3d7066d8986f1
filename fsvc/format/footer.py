"""Parquet footers: take a column chunk's metadata out of one, and write one around stored chunks.

In a Parquet file only the footer knows where column chunks lie, so a chunk can be moved by writing
another footer. A chunk's ``ColumnMetaData`` (parquet.thrift) is kept as a :class:`LeafMeta`: the
encoded fields around the two things that change with the place, the path in the schema and the
offsets. Writing a footer then is joining bytes, a few microseconds a chunk.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from fsvc.errors import Corruption
from fsvc.format import thrift
from fsvc.format.thrift import BINARY, I32, I64, LIST, STRUCT

__all__ = ["MAGIC", "FileSchema", "LeafMeta", "RowGroup", "read_footer", "read_leaves", "write_footer"]

MAGIC = b"PAR1"
CREATED_BY = b"fsvc"

# Field ids of ColumnMetaData.
_TYPE, _ENCODINGS, _PATH, _CODEC, _VALUES, _UNCOMPRESSED, _COMPRESSED = 1, 2, 3, 4, 5, 6, 7
_DATA_PAGE, _DICTIONARY_PAGE, _STATISTICS, _ENCODING_STATS = 9, 11, 12, 13
_BYTE_ARRAY = 6  # of parquet.thrift's Type
_KEPT = (_TYPE, _ENCODINGS, _CODEC, _VALUES, _UNCOMPRESSED, _COMPRESSED, _STATISTICS, _ENCODING_STATS)
# Field ids of Statistics that tell the range: the old and the new min and max and their exactness.
_RANGE = (1, 2, 5, 6, 7, 8)
_NULLS = 3

_LEAF = struct.Struct("<HHIqqQQQ")


@dataclass(frozen=True, slots=True)
class LeafMeta:
    """The metadata of one leaf column of a chunk, free of path and place.

    ``head`` holds fields 1 and 2 of ColumnMetaData, ``middle`` 4 to 7, ``tail`` 12 and up, each as it
    stands after the field before it (the tail after the last of the offsets that are there). Offsets
    count from the start of the leaf's own pages; ``dictionary_page`` is -1 where there is none. Sizes
    are in bytes.
    """

    head: bytes
    middle: bytes
    tail: bytes
    dictionary_page: int
    data_page: int
    length: int
    uncompressed: int
    num_values: int

    def pack(self) -> bytes:
        """The stored form: docs/format.md, "Leaf metadata"."""
        return (
            _LEAF.pack(
                len(self.head),
                len(self.middle),
                len(self.tail),
                self.dictionary_page,
                self.data_page,
                self.length,
                self.uncompressed,
                self.num_values,
            )
            + self.head
            + self.middle
            + self.tail
        )

    def fields(self) -> thrift.Struct:
        """All fields but path and offsets, decoded (for show, verify and choosing encodings)."""
        last = _DATA_PAGE if self.dictionary_page < 0 else _DICTIONARY_PAGE
        return {
            **_fields_after(0, self.head),
            **_fields_after(_PATH, self.middle),
            **_fields_after(last, self.tail),
        }

    @property
    def encodings(self) -> frozenset[int]:
        """The encodings of the chunk's pages, by their numbers in parquet.thrift."""
        return frozenset(self.fields()[_ENCODINGS][1][1])

    def statistics(self) -> thrift.Struct:
        """The fields of the chunk's Statistics, empty where there are none."""
        wire_value = self.fields().get(_STATISTICS)
        return {} if wire_value is None else wire_value[1]

    def column_chunk(self, path: bytes, offset: int) -> bytes:
        """The ColumnChunk struct of the leaf at ``offset`` of a file, under an encoded path."""
        parts = [
            b"\x26",  # ColumnChunk.file_offset, deprecated: zero, as current writers do
            b"\0",
            b"\x1c",  # ColumnChunk.meta_data
            self.head,
            path,
            self.middle,
            b"\x26",  # data_page_offset follows total_compressed_size: 9 - 7 = 2
            thrift.zigzag(offset + self.data_page),
        ]
        if self.dictionary_page >= 0:
            parts += (b"\x26", thrift.zigzag(offset + self.dictionary_page))
        parts += (self.tail, b"\0\0")
        return b"".join(parts)


def make_leaf(fields: thrift.Struct, dictionary_page: int, data_page: int) -> LeafMeta:
    """A leaf's metadata from the fields of its ColumnMetaData and the offsets in its own pages.

    ``dictionary_page`` is -1 where there is none.
    """
    last = _DATA_PAGE if dictionary_page < 0 else _DICTIONARY_PAGE
    return LeafMeta(
        head=thrift.write_fields({i: fields[i] for i in (_TYPE, _ENCODINGS)}),
        middle=thrift.write_fields(
            {i: fields[i] for i in (_CODEC, _VALUES, _UNCOMPRESSED, _COMPRESSED)}, _PATH
        ),
        tail=thrift.write_fields({i: fields[i] for i in (_STATISTICS, _ENCODING_STATS) if i in fields}, last),
        dictionary_page=dictionary_page,
        data_page=data_page,
        length=fields[_COMPRESSED][1],
        uncompressed=fields[_UNCOMPRESSED][1],
        num_values=fields[_VALUES][1],
    )


def reserved_leaf(
    leaf: LeafMeta, length: int, *, values: int | None = None, nulls: int = 0, ranged: bool = True
) -> LeafMeta:
    """The metadata of a leaf whose pages get ``length`` bytes of a file, more than they need.

    Readers stop at num_values, so what follows the pages is not looked at. How many pages there are of
    which kind is left out: the next time they are written it may be otherwise. With ``values`` it is a leaf
    of so many values and nulls that has the range of this one, or none unless it is ``ranged``.
    """
    fields = {i: v for i, v in leaf.fields().items() if i != _ENCODING_STATS}
    fields[_COMPRESSED] = (I64, length)
    if values is not None:
        fields[_VALUES], fields[_UNCOMPRESSED] = (I64, values), (I64, length)
        fields[_STATISTICS] = (STRUCT, statistics_of(leaf, nulls=nulls, ranged=ranged))
    return make_leaf(fields, leaf.dictionary_page, leaf.data_page)


def statistics_of(leaf: LeafMeta, *, nulls: int, ranged: bool) -> thrift.Struct:
    """The Statistics of a column with the range of this leaf, or with none unless ``ranged``, and so many nulls."""
    return {**_statistics(leaf.statistics(), not ranged), _NULLS: (I64, nulls)}


def joined_leaf(first: LeafMeta, second: LeafMeta, whole: LeafMeta) -> LeafMeta | None:
    """The metadata of a leaf whose pages are ``first``'s and then ``second``'s.

    ``whole`` is the same content written in one go, whose statistics are taken over. None where the
    pages cannot follow each other: another codec, a second dictionary, text behind a dictionary.
    """
    if second.dictionary_page >= 0:
        return None
    ours, theirs, all_of_it = first.fields(), second.fields(), whole.fields()
    if ours[_CODEC] != theirs[_CODEC] or ours[_TYPE] != theirs[_TYPE]:
        return None
    # fastparquet reads wrong text where plain pages follow pages of a dictionary.
    if first.dictionary_page >= 0 and ours[_TYPE][1] == _BYTE_ARRAY:
        return None
    if first.num_values + second.num_values != whole.num_values:
        return None
    fields: thrift.Struct = {i: ours[i] for i in (_TYPE, _CODEC)}
    fields[_ENCODINGS] = (LIST, (I32, sorted(first.encodings | second.encodings)))
    for field in (_VALUES, _UNCOMPRESSED, _COMPRESSED):
        fields[field] = (I64, ours[field][1] + theirs[field][1])
    if _STATISTICS in all_of_it:
        fields[_STATISTICS] = all_of_it[_STATISTICS]
    if _ENCODING_STATS in ours and _ENCODING_STATS in theirs:
        pages = [*ours[_ENCODING_STATS][1][1], *theirs[_ENCODING_STATS][1][1]]
        fields[_ENCODING_STATS] = (LIST, (STRUCT, pages))
    return make_leaf(fields, first.dictionary_page, first.data_page)


def _fields_after(previous: int, encoded: bytes) -> thrift.Struct:
    """Decode fields that were encoded after the field ``previous``; all ids here are below 16."""
    if not encoded:
        return {}
    first = (previous << 4) + encoded[0]  # the header with its delta counted from zero
    return thrift.read_struct(bytes((first,)) + encoded[1:] + b"\0")[0]


def unpack_leaf(data: bytes | memoryview, position: int) -> tuple[LeafMeta, int]:
    """Read a stored :class:`LeafMeta` and say where it ends."""
    try:
        head, middle, tail, dictionary, page, length, raw, values = _LEAF.unpack_from(data, position)
    except struct.error:
        raise Corruption("column metadata ends too early") from None
    start = position + _LEAF.size
    end = start + head + middle + tail
    if end > len(data):
        raise Corruption("column metadata ends too early")
    text = bytes(data[start:end])
    leaf = LeafMeta(
        text[:head],
        text[head : head + middle],
        text[head + middle :],
        dictionary,
        page,
        length,
        raw,
        values,
    )
    return leaf, end


@dataclass(frozen=True, slots=True)
class FileSchema:
    """What a footer says besides row groups: the schema's fields as read from an empty file.

    ``paths`` are the encoded ``path_in_schema`` fields of the leaves, in order.
    """

    fields: thrift.Struct
    paths: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group to be written: its rows, and for every leaf its metadata and its place in the file."""

    num_rows: int
    leaves: Sequence[tuple[LeafMeta, int]]


def _footer_bytes(data: bytes | memoryview) -> bytes:
    """The bytes of the FileMetaData of a whole Parquet file in memory."""
    if len(data) < 12 or bytes(data[-4:]) != MAGIC:
        raise Corruption("not a Parquet file: it does not end in PAR1")
    length = int.from_bytes(bytes(data[-8:-4]), "little")
    if length > len(data) - 12:
        raise Corruption("the Parquet footer is longer than the file")
    return bytes(data[len(data) - 8 - length : len(data) - 8])


def read_footer(data: bytes | memoryview) -> thrift.Struct:
    """The FileMetaData of a whole Parquet file in memory."""
    return thrift.read_struct(_footer_bytes(data))[0]


def file_schema(footer: thrift.Struct) -> FileSchema:
    """The schema part of a footer, with the path of every leaf in order."""
    elements = footer[2][1][1]
    paths: list[bytes] = []
    position = 1

    def walk(prefix: tuple[bytes, ...]) -> None:
        nonlocal position
        element = elements[position]
        position += 1
        path = (*prefix, element[4][1])
        children = element[5][1] if 5 in element else 0
        if children == 0 and 1 in element:
            field = {_PATH: (LIST, (BINARY, list(path)))}
            paths.append(thrift.write_fields(field, _ENCODINGS))
        for _ in range(children):
            walk(path)

    for _ in range(elements[0][5][1] if 5 in elements[0] else 0):
        walk(())
    return FileSchema(footer, tuple(paths))


def _statistics(fields: thrift.Struct, drop_range: bool) -> thrift.Struct:
    return {i: v for i, v in fields.items() if not (drop_range and i in _RANGE)}


def read_leaves(data: bytes | memoryview, drop_range: Sequence[bool]) -> list[tuple[LeafMeta, memoryview]]:
    """Cut the only row group of a Parquet file apart: metadata and pages of every leaf, in order.

    ``drop_range[i]`` leaves min and max out of leaf ``i``'s statistics: readers prune wrongly where
    a chunk holds NaN, which has no place in the order that min and max speak of.
    """
    view = memoryview(data)
    footer = _footer_bytes(view)
    count, position = thrift.struct_list(footer, thrift.find(footer, 0, 4))
    if count != 1:
        raise Corruption(f"expected one row group, found {count}")
    result = []
    count, position = thrift.struct_list(footer, thrift.find(footer, position, 1))
    if count != len(drop_range):
        raise Corruption(f"expected {len(drop_range)} column chunks, found {count}")
    for without in drop_range:
        place = thrift.find(footer, position, 3)
        spans, position = thrift.spans(footer, place)
        position = thrift.end(footer, position)
        data_page = thrift.integer(footer, spans[_DATA_PAGE])
        dictionary = thrift.integer(footer, spans[_DICTIONARY_PAGE]) if _DICTIONARY_PAGE in spans else None
        start = data_page if dictionary is None else min(data_page, dictionary)
        pages = (-1 if dictionary is None else dictionary - start, data_page - start)
        leaf = None if without else _copied_leaf(footer, spans, *pages)
        if leaf is None:
            meta = thrift.read_struct(footer, place)[0]
            kept = {i: value for i, value in meta.items() if i in _KEPT}
            if _STATISTICS in meta:
                kept[_STATISTICS] = (STRUCT, _statistics(meta[_STATISTICS][1], without))
            leaf = make_leaf(kept, *pages)
        result.append((leaf, view[start : start + leaf.length]))
    return result


def _copied_leaf(
    footer: bytes, spans: dict[int, thrift.Span], dictionary_page: int, data_page: int
) -> LeafMeta | None:
    """What :func:`make_leaf` gives, cut out of the footer as it stands; None where other fields lie between."""
    before = _DATA_PAGE if dictionary_page < 0 else _DICTIONARY_PAGE
    after = [i for i in (_STATISTICS, _ENCODING_STATS) if i in spans]
    order = [_TYPE, _ENCODINGS, _PATH, _CODEC, _VALUES, _UNCOMPRESSED, _COMPRESSED, _DATA_PAGE]
    if dictionary_page >= 0:
        order.append(_DICTIONARY_PAGE)
    if list(spans)[: len(order) + len(after)] != [*order, *after]:
        return None
    tail = footer[spans[before].end : spans[after[-1]].end] if after else b""
    return LeafMeta(
        footer[spans[_TYPE].header : spans[_ENCODINGS].end],
        footer[spans[_CODEC].header : spans[_COMPRESSED].end],
        tail,
        dictionary_page,
        data_page,
        thrift.integer(footer, spans[_COMPRESSED]),
        thrift.integer(footer, spans[_UNCOMPRESSED]),
        thrift.integer(footer, spans[_VALUES]),
    )


def _row_group(group: RowGroup, paths: Sequence[bytes], ordinal: int) -> bytes:
    count = len(group.leaves)
    parts = [b"\x19"]  # RowGroup.columns: list
    parts.append(
        bytes((count << 4 | STRUCT,)) if count < 15 else bytes((0xF0 | STRUCT,)) + thrift.varint(count)
    )
    parts += [
        leaf.column_chunk(path, offset) for (leaf, offset), path in zip(group.leaves, paths, strict=True)
    ]
    fields: thrift.Struct = {
        2: (I64, sum(leaf.uncompressed for leaf, _ in group.leaves)),
        3: (I64, group.num_rows),
        6: (I64, sum(leaf.length for leaf, _ in group.leaves)),
    }
    if group.leaves:
        fields[5] = (I64, group.leaves[0][1])
    if ordinal < 32768:
        fields[7] = (thrift.I16, ordinal)
    parts += (thrift.write_fields(fields, 1), b"\0")
    return b"".join(parts)


def write_footer(
    schema: FileSchema, groups: Sequence[RowGroup], metadata: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """The end of a Parquet file: FileMetaData, its length and the magic.

    ``metadata`` becomes the file's key-value metadata, in place of what the schema's file had.
    """
    fields = {i: v for i, v in schema.fields.items() if i not in (3, 4, 5, 6)}
    before = thrift.write_fields({i: v for i, v in fields.items() if i < 3})
    after: thrift.Struct = {6: (BINARY, CREATED_BY)}
    if metadata:
        pairs = [{1: (BINARY, key), 2: (BINARY, value)} for key, value in metadata]
        after[5] = (LIST, (STRUCT, pairs))
    after |= {i: v for i, v in fields.items() if i > 6}
    count = len(groups)
    body = b"".join(
        [
            before,
            thrift.write_fields({3: (I64, sum(group.num_rows for group in groups))}, 2),
            b"\x19",
            bytes((count << 4 | STRUCT,)) if count < 15 else bytes((0xF0 | STRUCT,)) + thrift.varint(count),
            *(_row_group(group, schema.paths, i) for i, group in enumerate(groups)),
            thrift.write_fields(after, 4),
            b"\0",
        ]
    )
    return body + len(body).to_bytes(4, "little") + MAGIC
