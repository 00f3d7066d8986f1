"""Hypothesis strategies for Arrow types, schemas, arrays and tables, over all that fsvc keeps.

What an array says and how it lies in memory are drawn apart. :class:`Values` is the logical content (which
slots are valid, and the bits of those that are); :func:`lay_out` makes an Arrow array of it, with a layout
that is free to choose: slices with an offset, garbage in null slots, validity bitmaps that are not needed,
gaps and disorder in lists, views and dictionaries. So one content with two layouts is a test that layout does
not matter, and :func:`bits` is the slow and plain oracle of what an array says.

Hypothesis draws a few numbers per array (size, share of nulls, seeds); the rest comes from numpy, so that
examples are cheap and shrink to short arrays without nulls in a plain layout.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import strategies as st

__all__ = [
    "LEAF_TYPES",
    "Values",
    "array_pairs",
    "arrays",
    "arrow_types",
    "bits",
    "chunked",
    "contents",
    "lay_out",
    "metadata",
    "names",
    "perturbed",
    "random_values",
    "respellings",
    "schemas",
    "table_of",
    "tables",
]

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]

_UNITS = ("s", "ms", "us", "ns")
_ZONES = (None, "UTC", "Europe/Berlin", "+05:30", "America/St_Johns")
_INTEGERS = (
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint16(),
    pa.uint32(),
    pa.uint64(),
)
_FLOATS = (pa.float64(), pa.float32(), pa.float16())
_TEXTS = (
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
)
_TIMES = (
    pa.date32(),
    pa.date64(),
    *(pa.time32(unit) for unit in ("s", "ms")),
    *(pa.time64(unit) for unit in ("us", "ns")),
    *(pa.duration(unit) for unit in _UNITS),
    *(pa.timestamp(unit, zone) for zone in _ZONES for unit in _UNITS),
)
_DECIMALS = (
    pa.decimal128(10, 2),
    pa.decimal128(38, 38),
    pa.decimal128(1, 0),
    pa.decimal256(76, 20),
    pa.decimal256(5, 5),
    pa.decimal32(9, 3),
    pa.decimal64(18, 0),
)
_FIXED = (pa.binary(1), pa.binary(3), pa.binary(16), pa.binary(33))

LEAF_TYPES: tuple[pa.DataType, ...] = (
    pa.int64(),
    *_INTEGERS[:3],
    *_INTEGERS[4:],
    *_FLOATS,
    pa.bool_(),
    *_TEXTS,
    *_TIMES,
    *_DECIMALS,
    *_FIXED,
    pa.null(),
)
"""All kinds of types without children, dictionaries and extensions apart; the simplest come first."""

_EXTENSIONS = (
    pa.uuid(),
    pa.json_(pa.string()),
    pa.bool8(),
    pa.opaque(pa.int32(), "kind", "vendor"),
    pa.fixed_shape_tensor(pa.float32(), (2, 3)),
)
_DAY_MS = 86_400_000
_PER_DAY = {"s": 86_400, "ms": _DAY_MS, "us": _DAY_MS * 1000, "ns": _DAY_MS * 1_000_000}
# Empty, shorter and longer than the 12 bytes that a view holds itself, with NUL, beyond the BMP, equal when
# normalised.
_WORDS = tuple(
    text.encode()
    for text in (
        "",
        "a",
        "b",
        "\0",
        "a\0",
        "twelve bytes",
        "thirteen byte",
        "Grüße",
        "Gru\u0308ße",
        "\U0001f600\U0001f600\U0001f600\U0001f600",
        "a longer text that no view holds inside of itself",
        "a longer text that differs only at its end.",
        " ",
        "NaN",
        "null",
    )
)


# --- types and schemas


_MOSTLY = st.sampled_from([True, True, False])


# Strategies are built once: building them costs more than drawing from them.


@functools.cache
def names(*, max_size: int = 8) -> st.SearchStrategy[str]:
    """Names of columns and fields: any text without NUL and lone surrogates, the empty one included."""
    alphabet = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    return st.text(alphabet, max_size=max_size)


@functools.cache
def metadata() -> st.SearchStrategy[dict[bytes, bytes] | None]:
    """Metadata that a normal form keeps; keys and values need not be UTF-8."""
    key = st.one_of(names().map(str.encode), st.binary(max_size=4)).filter(
        lambda k: not k.startswith((b"ARROW:", b"PARQUET:", b"fsvc:")) and k != b"pandas"
    )
    value = st.one_of(names().map(str.encode), st.binary(max_size=6))
    some = st.dictionaries(key, value, min_size=1, max_size=3)
    return st.sampled_from([False, False, False, True]).flatmap(lambda any_: some if any_ else st.none())


@st.composite
def _field(draw: st.DrawFn, depth: int, dictionaries: bool, extensions: bool) -> pa.Field:
    kind = draw(arrow_types(max_depth=depth, dictionaries=dictionaries, extensions=extensions))
    nullable = draw(_MOSTLY) or pa.types.is_null(kind)
    return pa.field("", kind, nullable, draw(metadata()))


@functools.cache
def _fields(depth: int, dictionaries: bool, extensions: bool) -> st.SearchStrategy[pa.Field]:
    """Fields without a name."""
    return _field(depth, dictionaries, extensions)


@functools.cache
def arrow_types(
    *, max_depth: int = 2, dictionaries: bool = True, extensions: bool = False
) -> st.SearchStrategy[pa.DataType]:
    """All types that fsvc keeps, nested at most ``max_depth`` deep, in normal form (children's names)."""
    return _type(max_depth, dictionaries, extensions)


@st.composite
def _type(draw: st.DrawFn, max_depth: int, dictionaries: bool, extensions: bool) -> pa.DataType:
    # A composite, since the text of nested strategies doubles with every level, and Hypothesis writes it out.
    kinds = _kinds(max_depth, dictionaries, extensions)
    return draw(kinds[draw(st.integers(0, len(kinds) - 1))])


@functools.cache
def _kinds(
    max_depth: int, dictionaries: bool, extensions: bool
) -> tuple[st.SearchStrategy[pa.DataType], ...]:
    leaf = st.sampled_from(LEAF_TYPES)
    kinds: list[st.SearchStrategy[pa.DataType]] = [leaf, leaf, leaf]
    if dictionaries:
        index, values = st.sampled_from(_INTEGERS), st.sampled_from(LEAF_TYPES[:-1])
        kinds.append(st.builds(pa.dictionary, index, values, st.booleans()))
    if extensions:
        kinds.append(st.sampled_from(_EXTENSIONS))
    if max_depth > 0:
        child = _fields(max_depth - 1, dictionaries, extensions)
        element = child.map(lambda field: field.with_name("element"))
        value = child.map(lambda field: field.with_name("value"))
        key = child.filter(lambda field: not pa.types.is_null(field.type)).map(
            lambda field: field.with_name("key").with_nullable(False)
        )
        kinds += [
            _named(child, 1, 3).map(pa.struct),
            st.builds(pa.list_, element),
            st.builds(pa.list_, element, st.integers(1, 3)),
            st.builds(lambda k, v, ordered: pa.map_(k, v, keys_sorted=ordered), key, value, st.booleans()),
            st.builds(pa.large_list, element),
            st.builds(pa.list_view, element),
            st.builds(pa.large_list_view, element),
        ]
    return tuple(kinds)


def _named(fields: st.SearchStrategy[pa.Field], least: int, most: int) -> st.SearchStrategy[list[pa.Field]]:
    """Some fields with names that differ."""
    named = st.tuples(names(), fields)
    return st.lists(named, min_size=least, max_size=most, unique_by=lambda pair: pair[0]).map(
        lambda pairs: [field.with_name(name) for name, field in pairs]
    )


@functools.cache
def schemas(
    *,
    min_columns: int = 1,
    max_columns: int = 4,
    max_depth: int = 2,
    dictionaries: bool = True,
    extensions: bool = False,
) -> st.SearchStrategy[pa.Schema]:
    """Schemas in normal form."""
    fields = _named(_fields(max_depth, dictionaries, extensions), min_columns, max_columns)
    return st.builds(lambda columns, attached: pa.schema(columns, metadata=attached), fields, metadata())


# --- content


@dataclass(frozen=True, slots=True)
class Values:
    """The logical content of an array, slot by slot; what null slots hold has no meaning.

    ``data`` is, by type: ``uint8[n, width]`` for fixed width; ``bool[n]``; ``object[n]`` of bytes for text
    and binary; ``int64[n, 2]`` of start and length in the child for lists and maps; ``int64[n]`` of
    categories for dictionaries; nothing for struct, fixed size list and null. ``children`` are the fields,
    the elements, the entries or the categories.
    """

    type: pa.DataType
    valid: _Bools
    data: npt.NDArray[Any] | None = None
    children: tuple[Values, ...] = ()

    def __len__(self) -> int:
        return len(self.valid)


def _is_text(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(
        t.is_string(kind)
        or t.is_large_string(kind)
        or t.is_string_view(kind)
        or t.is_binary(kind)
        or t.is_large_binary(kind)
        or t.is_binary_view(kind)
    )


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    return isinstance(
        kind, (pa.ListType, pa.LargeListType, pa.ListViewType, pa.LargeListViewType, pa.MapType)
    )


def _entries(kind: pa.DataType) -> tuple[pa.DataType, bool]:
    """The type of a list's child and whether it may be null; the entries of a map are a struct."""
    if isinstance(kind, pa.MapType):
        return pa.struct([kind.key_field, kind.item_field]), False
    return kind.value_type, bool(kind.value_field.nullable)


def random_values(
    kind: pa.DataType,
    size: int,
    random: np.random.Generator,
    *,
    nulls: float = 0.2,
    wild: bool = True,
    nullable: bool = True,
) -> Values:
    """Content of any type: with extremes and arbitrary bits if ``wild``, else few and small values."""
    if isinstance(kind, pa.BaseExtensionType):
        storage = random_values(kind.storage_type, size, random, nulls=nulls, wild=wild, nullable=nullable)
        return replace(storage, type=kind)
    if pa.types.is_null(kind):
        return Values(kind, np.zeros(size, np.bool_))
    valid = random.random(size) >= nulls if nullable else np.ones(size, np.bool_)

    def inner(child: pa.DataType, count: int, may_be_null: bool) -> Values:
        share = float(random.choice([0.0, nulls]))
        return random_values(child, count, random, nulls=share, wild=wild, nullable=may_be_null)

    if _is_list(kind):
        lengths = random.integers(0, 5, size) if wild else random.integers(0, 3, size)
        starts = np.cumsum(lengths) - lengths
        child = inner(*_swap(_entries(kind), int(lengths.sum())))
        return Values(kind, valid, np.stack([starts, lengths], axis=1), (child,))
    if isinstance(kind, pa.FixedSizeListType):
        return Values(
            kind, valid, None, (inner(kind.value_type, size * kind.list_size, kind.value_field.nullable),)
        )
    if isinstance(kind, pa.StructType):
        return Values(kind, valid, None, tuple(inner(field.type, size, field.nullable) for field in kind))
    if isinstance(kind, pa.DictionaryType):
        categories = _distinct(kind.value_type, int(random.integers(1, 12)), random, wild)
        return Values(kind, valid, random.integers(0, len(categories), size), (categories,))
    return Values(kind, valid, _leaf_data(kind, size, random, wild))


def _swap(entries: tuple[pa.DataType, bool], count: int) -> tuple[pa.DataType, int, bool]:
    return entries[0], count, entries[1]


def _leaf_data(kind: pa.DataType, size: int, random: np.random.Generator, wild: bool) -> npt.NDArray[Any]:
    if pa.types.is_boolean(kind):
        return random.integers(0, 2, size).astype(np.bool_)
    if _is_text(kind):
        return _text_data(kind, size, random, wild)
    if pa.types.is_decimal(kind):
        limit = 10**kind.precision if wild else min(10**kind.precision, 100)
        width = kind.byte_width
        numbers = [
            int.from_bytes(random.bytes(32), "little") % (2 * limit - 1) - (limit - 1) for _ in range(size)
        ]
        raw = b"".join(number.to_bytes(width, "little", signed=True) for number in numbers)
        return np.frombuffer(raw, np.uint8).reshape(size, width)
    width = kind.bit_width // 8
    if isinstance(kind, (pa.Time32Type, pa.Time64Type)):
        return _as_bytes(random.integers(0, _PER_DAY[kind.unit] if wild else 10, size), width)
    if wild and isinstance(kind, pa.TimestampType) and kind.unit == "s":
        # What does not fit in milliseconds is refused: Parquet has no seconds.
        most = (2**63 - 1) // 1000
        extremes = _as_bytes(np.array([0, -1, most, -most]), width)
        return _mixed(_as_bytes(random.integers(-most, most, size), width), extremes, random)
    if pa.types.is_date64(kind):
        return _as_bytes(
            random.integers(-(10**8) if wild else 0, 10**8 if wild else 10, size) * _DAY_MS, width
        )
    if not wild and not isinstance(kind, pa.FixedSizeBinaryType):
        small = random.integers(0, 10, size)
        if pa.types.is_floating(kind):
            return _as_bytes(small.astype(f"<f{width}"), width)
        return _as_bytes(small, width)
    data = random.integers(0, 256, (size, width), np.uint8)
    if pa.types.is_floating(kind):
        special = np.array(
            [0.0, -0.0, 1.0, -1.5, np.nan, -np.nan, np.inf, -np.inf, np.finfo(f"f{width}").tiny], f"<f{width}"
        )
        # Besides special values: arbitrary bits, few of which are NaN, and NaN with arbitrary payloads and
        # signs.
        data = _mixed(data, _as_bytes(special, width), random)
        exponent = {2: 0x7C01, 4: 0x7F800001, 8: 0x7FF0000000000001}[width]
        nan = random.random(size) < 0.1
        words = np.ascontiguousarray(data).view(f"<u{width}").reshape(size).copy()
        words[nan] |= np.array(exponent, f"<u{width}")
        return _as_bytes(words, width)
    if isinstance(kind, pa.FixedSizeBinaryType):
        return _mixed(data, np.zeros((1, width), np.uint8), random)
    signed = f"<i{width}"
    info = np.iinfo(signed)
    return _mixed(data, _as_bytes(np.array([0, 1, -1, info.min, info.max], signed), width), random)


def _as_bytes(values: npt.NDArray[Any], width: int) -> npt.NDArray[np.uint8]:
    """Little-endian bytes of numbers, ``uint8[n, width]``; integers are cut to the width."""
    if values.dtype.kind in "iu":
        values = values.astype(f"<i{width}")
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), width)


def _mixed(
    data: npt.NDArray[np.uint8], special: npt.NDArray[np.uint8], random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    chosen = random.random(len(data)) < 0.4
    return np.where(chosen[:, None], special[random.integers(0, len(special), len(data))], data)


def _text_data(kind: pa.DataType, size: int, random: np.random.Generator, wild: bool) -> npt.NDArray[Any]:
    pool = _WORDS if wild else _WORDS[:3]
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    if wild:
        lengths = random.integers(0, 40, 8)
        if binary:
            pool += tuple(random.bytes(int(length)) for length in lengths)
        else:
            pool += tuple(bytes(random.integers(32, 127, length, np.uint8)) for length in lengths)
    data = np.empty(size, object)
    data[:] = [pool[i] for i in random.integers(0, len(pool), size)]
    return data


def _distinct(kind: pa.DataType, count: int, random: np.random.Generator, wild: bool) -> Values:
    """Categories: no nulls, no duplicates (by any notion: one NaN and one zero at most)."""
    values = random_values(kind, count, random, nulls=0.0, wild=wild)
    assert values.data is not None
    seen: set[object] = set()
    kept: list[int] = []
    for i, item in enumerate(values.data):
        key: object = item.tobytes() if isinstance(item, np.ndarray) else item
        if pa.types.is_floating(kind):
            number = float(item.view(f"<f{len(item)}")[0])
            key = "nan" if np.isnan(number) else number
        if key not in seen:
            seen.add(key)
            kept.append(i)
    return _gather(values, np.array(kept, np.int64))


def _gather(values: Values, slots: _Ints) -> Values:
    """The content of these slots, in this order; children of lists and dictionaries are shared."""
    kind = _stored(values.type)
    children = values.children
    if isinstance(kind, pa.FixedSizeListType):
        inner = (slots[:, None] * kind.list_size + np.arange(kind.list_size)).reshape(-1)
        children = tuple(_gather(child, inner) for child in children)
    elif isinstance(kind, pa.StructType):
        children = tuple(_gather(child, slots) for child in children)
    data = None if values.data is None else values.data[slots]
    return replace(values, valid=values.valid[slots], data=data, children=children)


def _stored(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


# --- layout


def lay_out(values: Values, layout: np.random.Generator | None = None, *, nullable: bool = True) -> pa.Array:
    """An Arrow array of this content; without ``layout`` plain: no offset, zeros in null slots, no gaps.

    With it, whatever Arrow leaves free is chosen at random, at all levels, and what it leaves undefined is
    garbage.
    """
    size = len(values)
    if layout is None or not size:
        return _array(values, layout, nullable)
    front, back = (int(n) for n in layout.choice([0, 0, 1, 3, 9], 2))
    around = layout.integers(0, size, front + back)
    slots = np.concatenate([around[:front], np.arange(size), around[front:]])
    return _array(_gather(values, slots), layout, nullable).slice(front, size)


def _array(values: Values, layout: np.random.Generator | None, nullable: bool) -> pa.Array:
    kind, size = values.type, len(values)
    if isinstance(kind, pa.BaseExtensionType):
        storage = _array(replace(values, type=kind.storage_type), layout, nullable)
        return pa.ExtensionArray.from_storage(kind, storage)
    if pa.types.is_null(kind):
        return pa.nulls(size)
    values = _with_garbage(values, layout)
    bitmap = _validity(values.valid, layout)
    if _is_list(kind):
        return _list_array(values, bitmap, layout)
    if isinstance(kind, pa.FixedSizeListType):
        child = lay_out(values.children[0], layout, nullable=kind.value_field.nullable)
        return pa.Array.from_buffers(kind, size, [bitmap], children=[child])
    if isinstance(kind, pa.StructType):
        members = [
            lay_out(child, layout, nullable=field.nullable)
            for child, field in zip(values.children, kind, strict=True)
        ]
        return pa.Array.from_buffers(kind, size, [bitmap], children=members)
    assert values.data is not None
    if isinstance(kind, pa.DictionaryType):
        return _dictionary_array(values, bitmap, layout)
    if _is_view(kind):
        return pa.Array.from_buffers(kind, size, [bitmap, *_views(list(values.data), layout)])
    if _is_text(kind):
        wide = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
        before = b"" if layout is None else bytes(int(layout.integers(0, 4)) * b"?")
        offsets = np.cumsum([len(before), *map(len, values.data)]).astype(np.int64 if wide else np.int32)
        body = pa.py_buffer(before + b"".join(values.data) + before)
        return pa.Array.from_buffers(kind, size, [bitmap, pa.py_buffer(offsets.tobytes()), body])
    if pa.types.is_boolean(kind):
        return pa.Array.from_buffers(kind, size, [bitmap, _bitmap(values.data, layout)])
    return pa.Array.from_buffers(kind, size, [bitmap, pa.py_buffer(values.data.tobytes())])


def _validity(valid: _Bools, layout: np.random.Generator | None) -> pa.Buffer | None:
    if valid.all() and (layout is None or layout.random() < 0.5):
        return None
    return _bitmap(valid, layout)


def _bitmap(flags: npt.NDArray[Any], layout: np.random.Generator | None) -> pa.Buffer:
    padded = np.zeros(-(-len(flags) // 8) * 8, np.bool_)
    if layout is not None:
        padded[:] = layout.integers(0, 2, len(padded))
    padded[: len(flags)] = flags
    return pa.py_buffer(np.packbits(padded, bitorder="little").tobytes())


def _with_garbage(values: Values, layout: np.random.Generator | None) -> Values:
    """The same content with other things in its null slots: zeros if the layout is plain, else garbage."""
    kind = values.type
    null = np.flatnonzero(~values.valid)
    if not len(null) or (layout is not None and layout.random() < 0.2):
        return values
    if isinstance(kind, (pa.StructType, pa.FixedSizeListType)):
        if layout is None:
            return values
        # Under a null parent, children take the values, and the validity, of other slots.
        slots = np.arange(len(values))
        slots[null] = layout.integers(0, len(values), len(null))
        return replace(_gather(values, slots), valid=values.valid)
    assert values.data is not None
    data = values.data.copy()
    if _is_text(kind):
        words = [b""] if layout is None else [b"", b"trash", b"more trash than a view holds inside"]
        fill = np.empty(len(null), object)
        fill[:] = [words[i % len(words)] for i in range(len(null))]
        data[null] = fill
    elif _is_list(kind):
        data[null] = 0
        length = len(values.children[0])
        if layout is not None and length:
            starts = layout.integers(0, length, len(null))
            data[null] = np.stack([starts, np.minimum(length - starts, 2)], axis=1)
    elif isinstance(kind, pa.DictionaryType):
        data[null] = 0 if layout is None else layout.integers(0, 127, len(null))
    elif pa.types.is_boolean(kind):
        data[null] = False if layout is None else layout.integers(0, 2, len(null))
    else:
        data[null] = 0 if layout is None else layout.integers(0, 256, (len(null), data.shape[1]), np.uint8)
    return replace(values, data=data)


def _list_array(values: Values, bitmap: pa.Buffer | None, layout: np.random.Generator | None) -> pa.Array:
    kind, size, child = values.type, len(values), values.children[0]
    assert values.data is not None
    starts, lengths = values.data[:, 0], values.data[:, 1]
    views = isinstance(kind, (pa.ListViewType, pa.LargeListViewType))
    order = np.arange(size) if layout is None or not views else layout.permutation(size)
    filler = np.zeros(0, np.int64)
    if layout is not None and len(child):
        filler = layout.integers(0, len(child), int(layout.integers(0, 4)))
    pieces = [filler, *(np.arange(starts[i], starts[i] + lengths[i]) for i in order), filler]
    laid = lay_out(_gather(child, np.concatenate(pieces)), layout, nullable=_entries(kind)[1])
    wide = isinstance(kind, (pa.LargeListType, pa.LargeListViewType))
    width = np.int64 if wide else np.int32
    ends = len(filler) + np.cumsum(lengths[order])
    if not views:
        offsets = np.concatenate([[len(filler)], ends]).astype(width)
        buffers = [bitmap, pa.py_buffer(offsets.tobytes())]
    else:
        begins = np.empty(size, np.int64)
        begins[order] = ends - lengths[order]
        buffers = [bitmap, pa.py_buffer(begins.astype(width).tobytes())]
        buffers.append(pa.py_buffer(lengths.astype(width).tobytes()))
    return pa.Array.from_buffers(kind, size, buffers, children=[laid])


def _dictionary_array(
    values: Values, bitmap: pa.Buffer | None, layout: np.random.Generator | None
) -> pa.Array:
    kind, categories = values.type, values.children[0]
    assert values.data is not None
    indices = _as_bytes(values.data, kind.index_type.bit_width // 8)
    index = pa.Array.from_buffers(kind.index_type, len(values), [bitmap, pa.py_buffer(indices.tobytes())])
    # Order and number of categories are content, so only their buffers are laid out at random. Not checked
    # here: null slots may hold indices that point nowhere.
    dictionary = lay_out(categories, layout, nullable=False)
    return pa.DictionaryArray.from_arrays(index, dictionary, ordered=kind.ordered, safe=False)


def _views(texts: Sequence[bytes], layout: np.random.Generator | None) -> list[pa.Buffer]:
    """The views of texts, and the buffers that the long ones point into (two if the layout is not plain)."""
    heaps = [bytearray(), bytearray()] if layout is not None else [bytearray()]
    views = bytearray()
    for i, text in enumerate(texts):
        views += len(text).to_bytes(4, "little")
        if len(text) <= 12:
            views += text.ljust(12, b"\0")
            continue
        number = i % len(heaps)
        if layout is not None:
            heaps[number] += b"gap"
        views += text[:4] + number.to_bytes(4, "little") + len(heaps[number]).to_bytes(4, "little")
        heaps[number] += text
    return [pa.py_buffer(bytes(views)), *(pa.py_buffer(bytes(heap)) for heap in heaps)]


# --- the oracle


def bits(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """What an array says, bit for bit, as plain Python: two arrays hold the same data iff these are equal.

    None for null, bytes for values of fixed width, text and binary, bool, a list for lists, a list of pairs
    for maps, a tuple for structs, and the value for dictionaries. Slow; for tests.
    """
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in bits(chunk)]
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return bits(array.storage)
    size = len(array)
    if pa.types.is_null(kind):
        return [None] * size
    valid = array.is_valid().to_pylist()
    return [value if ok else None for value, ok in zip(_slots(array), valid, strict=True)]


def _slots(array: pa.Array) -> list[Any]:
    """The content of all slots; of null ones, anything."""
    kind, size = array.type, len(array)
    if pa.types.is_boolean(kind):
        return list(array.to_pylist())
    if _is_text(kind):
        return [value.encode() if isinstance(value, str) else value for value in array.to_pylist()]
    if isinstance(kind, pa.StructType):
        return list(zip(*(bits(array.field(i)) for i in range(kind.num_fields)), strict=True))
    if isinstance(kind, pa.DictionaryType):
        categories = bits(array.dictionary)
        return [None if index is None else categories[index] for index in array.indices.to_pylist()]
    if isinstance(kind, pa.FixedSizeListType):
        width = kind.list_size
        child = bits(array.values)
        return [child[(array.offset + i) * width : (array.offset + i + 1) * width] for i in range(size)]
    if isinstance(kind, (pa.ListViewType, pa.LargeListViewType)):
        child = bits(array.values)
        places = zip(array.offsets.to_pylist(), array.sizes.to_pylist(), strict=True)
        return [child[start : start + length] for start, length in places]
    if isinstance(kind, pa.MapType):
        # Not of array.keys and array.items: they forget the offset of the entries.
        child = bits(array.values)
    elif isinstance(kind, (pa.ListType, pa.LargeListType)):
        child = bits(array.values)
    else:
        width = kind.bit_width // 8
        raw = array.buffers()[1].to_pybytes() if size else b""
        return [raw[(array.offset + i) * width : (array.offset + i + 1) * width] for i in range(size)]
    ends = array.offsets.to_pylist()
    return [child[start:end] for start, end in itertools.pairwise(ends)]


# --- arrays and tables


_SEEDS = st.integers(0, 2**32 - 1)
_NULLS = st.sampled_from([0.0, 0.2, 0.9, 1.0])


@st.composite
def contents(
    draw: st.DrawFn, kind: pa.DataType, *, min_size: int = 0, max_size: int = 40, nullable: bool = True
) -> Values:
    """The content of an array of the given type."""
    size = draw(st.integers(min_size, max_size))
    nulls, wild = draw(_NULLS) if nullable else 0.0, draw(_WILD)
    random = np.random.default_rng(draw(_SEEDS))
    return random_values(kind, size, random, nulls=nulls, wild=wild, nullable=nullable)


_LAYOUTS: st.SearchStrategy[np.random.Generator | None] = st.none() | _SEEDS.map(np.random.default_rng)
_WILD = st.booleans()


@st.composite
def arrays(
    draw: st.DrawFn,
    kind: pa.DataType | None = None,
    *,
    min_size: int = 0,
    max_size: int = 40,
    nullable: bool = True,
) -> pa.Array:
    """Arrays of the given type, or of any."""
    chosen = draw(arrow_types()) if kind is None else kind
    content = draw(contents(chosen, min_size=min_size, max_size=max_size, nullable=nullable))
    return lay_out(content, draw(_LAYOUTS), nullable=nullable)


@st.composite
def respellings(
    draw: st.DrawFn, kind: pa.DataType | None = None, *, min_size: int = 0, max_size: int = 40
) -> tuple[pa.Array, pa.Array]:
    """Two arrays of one type and the same content, in two layouts."""
    chosen = draw(arrow_types()) if kind is None else kind
    content = draw(contents(chosen, min_size=min_size, max_size=max_size))
    return lay_out(content, draw(_LAYOUTS)), lay_out(content, np.random.default_rng(draw(_SEEDS)))


@st.composite
def array_pairs(
    draw: st.DrawFn, kind: pa.DataType | None = None, *, max_size: int = 20
) -> tuple[pa.Array, pa.Array]:
    """Two arrays of one type and size, mostly with one slot changed in the second, in two layouts.

    Compare :func:`bits` to know: a change may also fall where it has no meaning, as under a null.
    """
    chosen = draw(arrow_types()) if kind is None else kind
    content = draw(contents(chosen, min_size=1, max_size=max_size))
    other = content
    if draw(st.sampled_from([True, True, False])):
        other = perturbed(content, np.random.default_rng(draw(_SEEDS)))
    return lay_out(content, draw(_LAYOUTS)), lay_out(other, draw(_LAYOUTS))


def perturbed(values: Values, random: np.random.Generator, *, nullable: bool = True) -> Values:
    """The same content but for one slot, at a random level: another value, one bit, or its validity.

    No null comes where the type allows none.
    """
    kind = _stored(values.type)
    if not len(values) or pa.types.is_null(kind):
        return values
    nested = [i for i, child in enumerate(values.children) if len(child)]
    if nested and not isinstance(kind, pa.DictionaryType) and random.random() < 0.7:
        which = int(random.choice(nested))
        children = list(values.children)
        if isinstance(kind, pa.StructType):
            below = kind.field(which).nullable
        else:
            below = kind.value_field.nullable if isinstance(kind, pa.FixedSizeListType) else _entries(kind)[1]
        children[which] = perturbed(children[which], random, nullable=bool(below))
        return replace(values, children=tuple(children))
    slot = int(random.integers(0, len(values)))
    valid = values.valid.copy()
    if random.random() < 0.3 or values.data is None:
        valid[slot] = not (valid[slot] and nullable)
        return replace(values, valid=valid)
    data = values.data.copy()
    valid[slot] = True
    if _is_list(kind):
        # One element less, if there is one.
        data[slot, 1] = max(0, data[slot, 1] - 1)
    elif isinstance(kind, pa.DictionaryType):
        data[slot] = random.integers(0, len(values.children[0]))
    elif _is_text(kind):
        data[slot] = (
            data[slot] + b"\0" if random.random() < 0.5 else data[slot][:-1].decode(errors="ignore").encode()
        )
    elif pa.types.is_boolean(kind):
        data[slot] = not data[slot]
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        data[slot, int(random.integers(0, data.shape[1]))] ^= np.uint8(1 << int(random.integers(0, 8)))
    else:
        data[slot] = _leaf_data(kind, 1, random, wild=True)[0]
    return replace(values, valid=valid, data=data)


def chunked(array: pa.Array, cuts: Sequence[int]) -> pa.ChunkedArray:
    """An array cut before these positions (in any order, repeated ones make empty chunks)."""
    ends = [0, *sorted(min(cut, len(array)) for cut in cuts), len(array)]
    pieces = [array.slice(start, end - start) for start, end in itertools.pairwise(ends)]
    return pa.chunked_array(pieces, type=array.type)


def table_of(
    columns: Sequence[Values], schema: pa.Schema, layout: np.random.Generator | None = None
) -> pa.Table:
    """A table of these contents; with a layout, each column is laid out and cut into chunks its own way."""
    laid = []
    for values, field in zip(columns, schema, strict=True):
        array = lay_out(values, layout, nullable=field.nullable)
        cuts = (
            [] if layout is None else layout.integers(0, len(values) + 1, int(layout.integers(0, 4))).tolist()
        )
        laid.append(chunked(array, cuts))
    return pa.Table.from_arrays(laid, schema=schema)


@st.composite
def tables(
    draw: st.DrawFn,
    schema: pa.Schema | None = None,
    *,
    min_rows: int = 0,
    max_rows: int = 40,
    max_columns: int = 4,
    dictionaries: bool = True,
    extensions: bool = False,
) -> pa.Table:
    """Tables of the given schema, or of any in normal form; columns that are not nullable hold no nulls."""
    if schema is None:
        schema = draw(schemas(max_columns=max_columns, dictionaries=dictionaries, extensions=extensions))
    rows = draw(st.integers(min_rows, max_rows))
    columns = []
    for field in schema:
        content = contents(field.type, min_size=rows, max_size=rows, nullable=field.nullable)
        columns.append(draw(content))
    return table_of(columns, schema, draw(_LAYOUTS))
