"""Column chunks to Parquet pages and back.

All new columns of a row group are written by one writer call into memory and cut apart by
:mod:`fsvc.format.footer`; reading puts stored pages under a footer of their own and lets pyarrow decode.
Encodings are limited to what pyarrow, DuckDB, polars and fastparquet all read right: plain,
dictionary, and delta-packed integers of narrow deltas (docs/decisions/0001-encodings.md).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.errors import UnsupportedData
from fsvc.format import footer, thrift
from fsvc.format.flatpages import code, dictionary_pages, is_flat, plain_page
from fsvc.format.footer import LeafMeta, RowGroup, statistics_of
from fsvc.format.stored import list_parts

__all__ = [
    "ChunkPages",
    "Encoding",
    "choose_encodings",
    "choose_levels",
    "decode",
    "encode",
    "ends",
    "has_nan",
    "leaf_arrays",
    "leaf_count",
    "parquet_schema",
    "plain",
    "remembered_encoding",
    "thawed",
]

COMPRESSION = "zstd"
LEVELS = (1, 3)
"""The levels of compression that columns are tried at; the first one is the fast one."""
# What a slower level has to save to be worth its time.
_WORTH = 0.03
# fastparquet reads wrong numbers where a packed delta is wider than 28 bits.
_WIDEST_DELTA = 1 << 28
# How many rows of the first chunk are tried in every encoding.
_TRIAL_ROWS = 8192
# And how many where that leaves it open.
_MORE_ROWS = 32768


class Encoding(Enum):
    """How the values of a column's leaves are laid out in pages."""

    PLAIN = "plain"
    DICTIONARY = "dictionary"
    DELTA = "delta"


@dataclass(frozen=True, slots=True)
class ChunkPages:
    """A column chunk as stored: the metadata of its leaves, and their pages one after the other."""

    leaves: tuple[LeafMeta, ...]
    pages: tuple[memoryview | bytes, ...]


def leaf_count(t: pa.DataType) -> int:
    """How many leaf columns Parquet makes of a stored type."""
    if pa.types.is_struct(t):
        return sum(leaf_count(child.type) for child in t.fields)
    if pa.types.is_map(t):
        return leaf_count(t.key_type) + leaf_count(t.item_type)
    if pa.types.is_list(t) or pa.types.is_large_list(t):
        return leaf_count(t.value_type)
    return 1


def leaf_arrays(array: pa.Array) -> list[pa.Array]:
    """The leaf columns of an array in stored form, as Parquet makes them: nulls of parents passed down."""
    t = array.type
    if pa.types.is_struct(t):
        return [leaf for child in array.flatten() for leaf in leaf_arrays(child)]
    if pa.types.is_map(t):
        return [leaf for child in list_parts(array)[1].flatten() for leaf in leaf_arrays(child)]
    if pa.types.is_list(t) or pa.types.is_large_list(t):
        return leaf_arrays(list_parts(array)[1])
    return [array]


def has_nan(array: pa.Array) -> bool:
    """Whether a leaf holds a float that is not a number."""
    if not pa.types.is_floating(array.type):
        return False
    if pa.types.is_float16(array.type):
        bits = array.view(pa.uint16()).drop_null().to_numpy(zero_copy_only=False)
        return bool(((bits & 0x7FFF) > 0x7C00).any())
    return bool(pc.any(pc.is_nan(array)).as_py() or False)


def _delta_fits(array: pa.Array) -> bool:
    """Whether delta packing of an integer-like array stays within what every reader reads."""
    if array.type.id not in _DELTA_TYPES:
        return False
    width = array.type.bit_width
    values = array.view(pa.int32() if width == 32 else pa.int64()).drop_null()
    numbers = values.to_numpy(zero_copy_only=False)
    if len(numbers) < 2:
        return False
    low, high = int(numbers.min()), int(numbers.max())
    if high - low < _WIDEST_DELTA // 2:
        return True
    if high - low >= 1 << 62:
        return False
    deltas = np.diff(numbers.astype(np.int64, copy=False))
    return int(deltas.max()) - int(deltas.min()) < _WIDEST_DELTA


_DELTA_TYPES = frozenset(
    (
        pa.lib.Type_INT32,
        pa.lib.Type_INT64,
        pa.lib.Type_DATE32,
        pa.lib.Type_TIME32,
        pa.lib.Type_TIME64,
        pa.lib.Type_TIMESTAMP,
    )
)


def _writable(array: pa.Array, field: pa.Field) -> pa.Array:
    """The array as the Parquet writer takes it: no validity where the schema says not null.

    A required child under a null struct is null by inheritance only; the writer wants a value there.
    """
    t = field.type
    if pa.types.is_struct(t):
        children = [_writable(array.field(i), child) for i, child in enumerate(t.fields)]
        if all(
            new is old
            for new, old in zip(children, (array.field(i) for i in range(t.num_fields)), strict=True)
        ):
            return array
        mask = array.is_null() if array.null_count and field.nullable else None
        return pa.StructArray.from_arrays(children, fields=list(t.fields), mask=mask)
    if field.nullable or array.null_count == 0:
        return array
    buffers = array.buffers()
    if pa.types.is_nested(t):
        return pa.Array.from_buffers(
            t, len(array), [None, *buffers[1:2]], offset=array.offset, children=[array.values]
        )
    return pa.Array.from_buffers(t, len(array), [None, *buffers[1:]], offset=array.offset)


def _write(
    arrays: Sequence[pa.Array],
    fields: Sequence[pa.Field],
    encodings: Sequence[Encoding],
    levels: Sequence[int] | None,
) -> list[tuple[LeafMeta, memoryview]]:
    """Write one row group into memory and cut it apart; without levels nothing is compressed."""
    import pyarrow.parquet as pq

    # Columns go by position, so that no name of the user's meets the writer's path syntax.
    named = [pa.field(f"c{i}", f.type, f.nullable) for i, f in enumerate(fields)]
    table = pa.Table.from_arrays(
        [_writable(array, f) for array, f in zip(arrays, named, strict=True)], schema=pa.schema(named)
    )
    sink = pa.BufferOutputStream()
    dictionary: list[str] = []
    delta: dict[str, str] = {}
    for f, encoding in zip(named, encodings, strict=True):
        if encoding is Encoding.DICTIONARY:
            dictionary += _leaf_paths(f)
        elif encoding is Encoding.DELTA:
            delta[f.name] = "DELTA_BINARY_PACKED"
    try:
        with pq.ParquetWriter(
            sink,
            table.schema,
            compression=COMPRESSION if levels is not None else "none",
            compression_level={
                path: level for f, level in zip(named, levels, strict=True) for path in _leaf_paths(f)
            }
            if levels is not None
            else None,
            use_dictionary=dictionary or False,
            column_encoding=delta or None,
            write_statistics=True,
            store_schema=False,
            version="2.6",
            data_page_version="1.0",
            # A writer that gives up its dictionary half-way makes chunks that fastparquet reads wrong.
            dictionary_pagesize_limit=1 << 30,
        ) as writer:
            writer.write_table(table, row_group_size=max(1, len(table)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        names = ", ".join(repr(f.name) for f in fields[:3])
        raise UnsupportedData(f"Parquet cannot hold a run of rows of column(s) {names}: {error}") from error
    nan = [has_nan(leaf) for array in arrays for leaf in leaf_arrays(array)]
    return footer.read_leaves(sink.getvalue(), nan)


def _leaf_paths(field: pa.Field) -> list[str]:
    t = field.type
    if pa.types.is_struct(t):
        return [f"{field.name}.{path}" for child in t.fields for path in _leaf_paths(child)]
    if pa.types.is_map(t):
        return [
            f"{field.name}.key_value.{path}"
            for child in (t.key_field, t.item_field)
            for path in _leaf_paths(child)
        ]
    if pa.types.is_list(t) or pa.types.is_large_list(t):
        return [f"{field.name}.list.{path}" for path in _leaf_paths(t.value_field.with_name("element"))]
    return [field.name]


def encode(
    arrays: Sequence[pa.Array],
    fields: Sequence[pa.Field],
    encodings: Sequence[Encoding],
    levels: Sequence[int] | None = None,
) -> list[ChunkPages]:
    """Write columns of one row group, in stored form, as Parquet pages.

    ``levels`` are the columns' levels of compression, the fast one unless given. An encoding that
    does not suit a chunk (wide deltas, a dictionary of too many values) is replaced by plain pages for that chunk.

    Raises UnsupportedData where Parquet cannot hold the values.
    """
    if not arrays:
        return []
    levels = levels or [LEVELS[0]] * len(fields)
    coded = {
        i: one
        for i, (array, field, encoding) in enumerate(zip(arrays, fields, encodings, strict=True))
        if encoding is Encoding.DICTIONARY and is_flat(field.type) and (one := code(array)) is not None
    }
    statistics = _statistics([one.values for one in coded.values()], [arrays[i].null_count for i in coded])
    found: dict[int, ChunkPages] = {}
    for (i, one), said in zip(coded.items(), statistics, strict=True):
        leaf, data = dictionary_pages(
            one, arrays[i], nullable=fields[i].nullable, statistics=said, level=levels[i]
        )
        found[i] = ChunkPages((leaf,), (data,))
    rest = [i for i in range(len(arrays)) if i not in found]
    if rest:
        others = [fields[i] for i in rest]
        fitting = [_by_pyarrow(encodings[i], arrays[i], fields[i]) for i in rest]
        written = _write([arrays[i] for i in rest], others, fitting, [levels[i] for i in rest])
        found |= zip(rest, _chunks(written, others), strict=True)
    return [found[i] for i in range(len(arrays))]


def _by_pyarrow(encoding: Encoding, array: pa.Array, field: pa.Field) -> Encoding:
    """The encoding in which pyarrow writes a chunk that has no dictionary of ours: the one asked for, if it suits."""
    if encoding is Encoding.DICTIONARY and is_flat(field.type):
        return Encoding.PLAIN
    return Encoding.PLAIN if encoding is Encoding.DELTA and not _delta_fits(array) else encoding


def plain(arrays: Sequence[pa.Array], fields: Sequence[pa.Field]) -> list[ChunkPages]:
    """Write columns of one row group, in stored form, as plain pages without compression: quick to make and read.

    Raises UnsupportedData where Parquet cannot hold the values.
    """
    return _chunks(_write(arrays, fields, [Encoding.PLAIN] * len(fields), None), fields) if arrays else []


def thawed(array: pa.Array, field: pa.Field) -> list[tuple[int, memoryview | bytes]]:
    """The plain pages of a column of one row group, in stored form: for each leaf its number of values, and its pages.

    They are what :func:`plain` gives, without statistics. Raises UnsupportedData where Parquet cannot hold the values.
    """
    if is_flat(field.type):
        return [(len(array), plain_page(array, nullable=field.nullable))]
    chunk = plain([array], [field])[0]
    return [(leaf.num_values, page) for leaf, page in zip(chunk.leaves, chunk.pages, strict=True)]


def _statistics(values: Sequence[pa.Array], nulls: Sequence[int]) -> list[thrift.Struct]:
    """The Parquet Statistics of flat chunks with these values and so many nulls: by writing their ranges alone.

    There is no range where a chunk holds NaN.
    """
    if not values:
        return []
    fields = [pa.field("", array.type) for array in values]
    written = _write([ends(array) for array in values], fields, [Encoding.PLAIN] * len(fields), None)
    return [
        statistics_of(leaf, nulls=count, ranged=not has_nan(array))
        for (leaf, _), array, count in zip(written, values, nulls, strict=True)
    ]


def ends(array: pa.Array) -> pa.Array:
    """The least and the greatest value of a flat array as an array; two nulls where there is none."""
    found = pc.min_max(array)
    return pa.concat_arrays([pa.repeat(found[end], 1) for end in ("min", "max")])


def _chunks(leaves: Sequence[tuple[LeafMeta, memoryview]], fields: Sequence[pa.Field]) -> list[ChunkPages]:
    """The leaves of a written row group, column by column."""
    written = iter(leaves)
    chunks = []
    for field in fields:
        parts = [next(written) for _ in range(leaf_count(field.type))]
        chunks.append(ChunkPages(tuple(leaf for leaf, _ in parts), tuple(page for _, page in parts)))
    return chunks


def choose_encodings(arrays: Sequence[pa.Array], fields: Sequence[pa.Field]) -> list[Encoding]:
    """Try the encodings on a first chunk of each column and keep the smallest for each.

    The first rows tell where one encoding is far ahead. A dictionary pays off late, because values
    come up again in the rows that follow; so where plain pages lead by less, more rows are tried.
    """
    columns = range(len(arrays))
    samples = [array.slice(0, _TRIAL_ROWS) for array in arrays]
    more = [array.slice(0, _MORE_ROWS) for array in arrays]

    def sizes(of: Sequence[pa.Array], wanted: Encoding, chosen: Sequence[int]) -> dict[int, int]:
        found = _sizes(
            [of[i] for i in chosen], [fields[i] for i in chosen], [wanted] * len(chosen), LEVELS[0]
        )
        return dict(zip(chosen, found, strict=True))

    numbers = [i for i in columns if not pa.types.is_boolean(fields[i].type)]
    plain = dict.fromkeys(columns, 0) | sizes(samples, Encoding.PLAIN, numbers)
    dictionary = sizes(samples, Encoding.DICTIONARY, numbers)
    close = [i for i in numbers if dictionary[i] * 2 < plain[i] * 3 and plain[i] < dictionary[i]]
    close = [i for i in close if len(arrays[i]) > len(samples[i])]
    whole = dict(
        zip(
            close,
            zip(
                sizes(more, Encoding.PLAIN, close).values(),
                sizes(more, Encoding.DICTIONARY, close).values(),
                strict=True,
            ),
            strict=True,
        )
    )
    best = dict.fromkeys(columns, Encoding.PLAIN)
    least = dict(plain)
    for i in numbers:
        as_plain, as_dictionary = whole.get(i, (plain[i], dictionary[i]))
        if as_dictionary < as_plain:
            best[i], least[i] = Encoding.DICTIONARY, dictionary[i]
    packed = [i for i in numbers if _delta_fits(samples[i])]
    for i, size in sizes(samples, Encoding.DELTA, packed).items():
        if size < least[i]:
            best[i] = Encoding.DELTA
    return [best[i] for i in columns]


def choose_levels(
    arrays: Sequence[pa.Array], fields: Sequence[pa.Field], encodings: Sequence[Encoding]
) -> list[int]:
    """The level of compression for each column: a slower one where it saves enough on the first rows."""
    samples = [array.slice(0, _TRIAL_ROWS) for array in arrays]
    fast = _sizes(samples, fields, encodings, LEVELS[0])
    slow = _sizes(samples, fields, encodings, LEVELS[1])
    return [
        LEVELS[1] if theirs < ours * (1 - _WORTH) else LEVELS[0]
        for ours, theirs in zip(fast, slow, strict=True)
    ]


def _sizes(
    arrays: Sequence[pa.Array], fields: Sequence[pa.Field], encodings: Sequence[Encoding], level: int
) -> list[int]:
    """The bytes that each column's pages would have."""
    chunks = encode(arrays, fields, encodings, [level] * len(fields))
    return [sum(leaf.length for leaf in chunk.leaves) for chunk in chunks]


def remembered_encoding(leaves: Sequence[LeafMeta]) -> Encoding:
    """The encoding that a stored chunk was written with, for the next chunk of its column."""
    found = frozenset().union(*(leaf.encodings for leaf in leaves))
    if found & {2, 8}:  # PLAIN_DICTIONARY, RLE_DICTIONARY
        return Encoding.DICTIONARY
    return Encoding.DELTA if 5 in found else Encoding.PLAIN  # DELTA_BINARY_PACKED


def parquet_schema(schema: pa.Schema) -> footer.FileSchema:
    """The schema part of a Parquet footer for a table of this Arrow schema, as pyarrow writes it."""
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, version="2.6", store_schema=True):
        pass
    return footer.file_schema(footer.read_footer(sink.getvalue()))


def decode(
    schema: footer.FileSchema,
    groups: Sequence[tuple[int, Sequence[ChunkPages]]],
    fields: Sequence[pa.Field],
    coded: Collection[int] = (),
) -> list[list[pa.Array]]:
    """Decode row groups: per group its rows and the stored chunks of ``fields``; arrays in stored form.

    ``schema`` must be :func:`parquet_schema` of the stored fields. The pages must have been checked. Columns of
    text or bytes whose places are in ``coded`` come as dictionaries of their values: with each value once.
    """
    import pyarrow.parquet as pq

    parts: list[memoryview | bytes] = [footer.MAGIC]
    position = len(footer.MAGIC)
    row_groups = []
    for rows, chunks in groups:
        leaves = []
        for chunk in chunks:
            for leaf, page in zip(chunk.leaves, chunk.pages, strict=True):
                leaves.append((leaf, position))
                parts.append(page)
                position += leaf.length
        row_groups.append(RowGroup(rows, leaves))
    parts.append(footer.write_footer(schema, row_groups, ()))
    file = pq.ParquetFile(
        pa.BufferReader(b"".join(parts)),
        arrow_extensions_enabled=False,
        pre_buffer=False,
        memory_map=False,
        read_dictionary=[fields[i].name for i in coded],
    )
    # All groups in one call: the buffers of a column are then large, and cost fewer page faults.
    table = file.read_row_groups(range(len(groups)), use_threads=False)
    columns = []
    for i, (column, field) in enumerate(zip(table.columns, fields, strict=True)):
        array = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
        wanted = pa.dictionary(pa.int32(), field.type) if i in coded else field.type
        columns.append(array if array.type == wanted else array.cast(wanted))
    starts = [0, *accumulate(rows for rows, _ in groups)]
    if len(groups) == 1:
        return [columns]
    return [
        [array.slice(start, rows) for array in columns]
        for start, (rows, _) in zip(starts, groups, strict=False)
    ]
