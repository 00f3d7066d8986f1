"""The stored form of columns: which Arrow type Parquet pages are made from, and the way there and back.

Parquet has fewer types than Arrow. Every supported type maps to a *stored type* that pages hold
without loss; what the stored type leaves out (time zone, unit, width of offsets, dictionary) stands
in the schema, and :func:`from_stored` puts it back. The table of all types is in docs/format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.errors import Corruption, UnsupportedData
from fsvc.format.categories import child_path, is_list

__all__ = [
    "Categories",
    "annotated_field",
    "comparable",
    "from_stored",
    "list_parts",
    "stored_field",
    "stored_type",
    "to_stored",
]

Categories = Mapping[str, pa.Array]
"""Categories by path (:func:`fsvc.format.categories.dictionary_types`)."""

_LIST_VIEWS = (pa.lib.Type_LIST_VIEW, pa.lib.Type_LARGE_LIST_VIEW)
_SECOND_TO_MILLI = 1000


def stored_type(t: pa.DataType) -> pa.DataType:
    """The type that pages of a column of type ``t`` are written from."""
    if isinstance(t, pa.BaseExtensionType):
        return stored_type(t.storage_type)
    if pa.types.is_dictionary(t):
        return stored_type(t.value_type)
    if pa.types.is_date64(t) or (pa.types.is_timestamp(t) and t.unit == "s"):
        return pa.timestamp("ms", getattr(t, "tz", None))
    if t == pa.time32("s"):
        return pa.time32("ms")
    if pa.types.is_duration(t):
        return pa.int64()
    if t.id == pa.lib.Type_STRING_VIEW:
        return pa.large_string()
    if t.id == pa.lib.Type_BINARY_VIEW:
        return pa.large_binary()
    if t.id in (pa.lib.Type_DECIMAL32, pa.lib.Type_DECIMAL64):
        return pa.decimal128(t.precision, t.scale)
    if pa.types.is_map(t):
        key, item = _stored_child(t.key_field), _stored_child(t.item_field)
        return t if (key.type, item.type) == (t.key_type, t.item_type) else pa.map_(key, item)
    if pa.types.is_large_list(t):
        return pa.large_list(_stored_child(t.value_field))
    if is_list(t):
        make = pa.large_list if t.id == pa.lib.Type_LARGE_LIST_VIEW else pa.list_
        return make(_stored_child(t.value_field))
    if pa.types.is_struct(t):
        return pa.struct([_stored_child(child) for child in t.fields])
    return t


def stored_field(field: pa.Field) -> pa.Field:
    """The field with its stored type; name and nullability stay, metadata goes."""
    return pa.field(field.name, stored_type(field.type), field.nullable)


def _stored_child(field: pa.Field) -> pa.Field:
    """The stored field of a nested child; the null type becomes small integers that are all null.

    pyarrow miscounts the elements of a list of nulls inside another list when it reads Parquet.
    """
    field = stored_field(field)
    return field.with_type(pa.int8()) if pa.types.is_null(field.type) else field


def annotated_field(field: pa.Field) -> pa.Field:
    """The stored field for a Parquet schema that people see: UUIDs and JSON keep their Parquet annotation."""
    t = field.type
    if isinstance(t, pa.UuidType) or (isinstance(t, pa.JsonType) and stored_type(t) == t.storage_type):
        return pa.field(field.name, t, field.nullable)
    return stored_field(field)


def _scaled(array: pa.Array, stored: pa.DataType, path: str) -> pa.Array:
    """Seconds as milliseconds; what does not fit in the stored width is refused."""
    try:
        return array.cast(stored)
    except pa.ArrowInvalid:
        raise UnsupportedData(
            f"column {path!r} holds values of {array.type} that do not fit in milliseconds, as Parquet keeps them"
        ) from None


Counts = np.ndarray[Any, np.dtype[np.int64]]


def _offsets(lengths: Counts, large: bool) -> pa.Array:
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    if not large and ends[-1] > np.iinfo(np.int32).max:
        raise UnsupportedData("a list column holds more than 2^31 elements in one run of rows")
    return pa.array(ends if large else ends.astype(np.int32))


def list_parts(
    array: pa.Array, convert: Callable[[pa.Array], pa.Array] | None = None
) -> tuple[Counts, pa.Array]:
    """The length of every list (0 where it is null), and the elements of the non-null lists, in order.

    Takes any list type and maps. ``convert`` is applied to the elements; where they are scattered it
    is applied first, since pyarrow cannot gather every type.
    """
    t = array.type
    if pa.types.is_fixed_size_list(t):
        starts = (np.arange(len(array), dtype=np.int64) + array.offset) * t.list_size
        lengths = np.full(len(array), t.list_size, np.int64)
    elif t.id in _LIST_VIEWS:
        starts = array.offsets.to_numpy().astype(np.int64)
        lengths = array.sizes.to_numpy().astype(np.int64)
    else:
        offsets = array.offsets.to_numpy().astype(np.int64)
        starts, lengths = offsets[:-1], np.diff(offsets)
    mask = _null_mask(array)
    if mask is not None:
        lengths = np.where(mask, 0, lengths)
    values = array.values
    if convert is None:
        convert = _unchanged
    total = int(lengths.sum())
    filled = lengths > 0
    ends = (starts + lengths)[filled]
    if total == 0:
        return lengths, convert(values.slice(0, 0))
    if (starts[filled][1:] == ends[:-1]).all():
        return lengths, convert(values.slice(int(starts[filled][0]), total))
    before = np.cumsum(lengths) - lengths
    places = np.repeat(starts - before, lengths) + np.arange(total)
    return lengths, convert(values).take(pa.array(places))


def _unchanged(array: pa.Array) -> pa.Array:
    return array


def _null_mask(array: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
    if array.null_count == 0:
        return None
    mask: np.ndarray[tuple[int], np.dtype[np.bool_]] = array.is_null().to_numpy(zero_copy_only=False)
    return mask


def to_stored(array: pa.Array, path: str, target: pa.DataType | None = None) -> pa.Array:
    """The array in its stored type; ``path`` names the column in errors.

    ``target`` is the stored type where the array is the child of another. Arrays that are in stored
    form already come back as they are, without a copy.
    """
    t = array.type
    target = stored_type(t) if target is None else target
    if target == t:
        return array
    if isinstance(t, pa.BaseExtensionType):
        return to_stored(array.storage, path, target)
    if pa.types.is_dictionary(t):
        # Taking from the stored form, since pyarrow cannot take from every type (views, for one).
        return to_stored(array.dictionary, path).take(array.indices)
    if pa.types.is_date64(t):
        return array.view(pa.int64()).view(target)
    if pa.types.is_timestamp(t) or pa.types.is_time32(t):
        return _scaled(array, target, path)
    if pa.types.is_duration(t):
        return array.view(target)
    if pa.types.is_map(t):
        lengths, entries = list_parts(array, lambda entries: _stored_entries(entries, target, path))
        keys, items = entries.flatten()
        return pa.MapArray.from_arrays(_nullable_offsets(lengths, array), keys, items, type=target)
    if is_list(t):
        lengths, values = list_parts(array, lambda values: to_stored(values, path, target.value_type))
        large = pa.types.is_large_list(target)
        cls = pa.LargeListArray if large else pa.ListArray
        mask = _null_mask(array)
        return cls.from_arrays(
            _offsets(lengths, large),
            values,
            type=target,
            mask=None if mask is None else pa.array(mask),
        )
    if pa.types.is_struct(t):
        mask = _null_mask(array)
        children = [to_stored(array.field(i), path, child.type) for i, child in enumerate(target.fields)]
        return pa.StructArray.from_arrays(
            children, fields=list(target.fields), mask=None if mask is None else pa.array(mask)
        )
    return array.cast(target)


def _stored_entries(entries: pa.StructArray, target: pa.MapType, path: str) -> pa.StructArray:
    keys, items = entries.flatten()
    return pa.StructArray.from_arrays(
        [to_stored(keys, path, target.key_type), to_stored(items, path, target.item_type)],
        fields=[target.key_field, target.item_field],
    )


def _nullable_offsets(lengths: Counts, array: pa.Array) -> pa.Array:
    """Offsets with nulls where lists are null, as MapArray.from_arrays takes them."""
    offsets = _offsets(lengths, large=False)
    mask = _null_mask(array)
    if mask is None:
        return offsets
    return pa.array(offsets.to_numpy(), mask=np.append(mask, False))


def from_stored(array: pa.Array, target: pa.DataType, categories: Categories, path: str) -> pa.Array:
    """The inverse of :func:`to_stored`: the array in the type ``target`` of the schema.

    ``categories`` holds the categories of every dictionary type, by path. The values of a dictionary may
    come coded, as any dictionary of them: then each is looked up once.
    """
    coded = pa.types.is_dictionary(array.type)
    if array.type == target and not coded:
        return array
    if isinstance(target, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(
            target, from_stored(array, target.storage_type, categories, path)
        )
    if pa.types.is_dictionary(target):
        values = categories[path]
        distinct = array.dictionary if coded else array
        plain = from_stored(distinct, target.value_type, categories, path)
        if plain.type != values.type:
            plain = plain.cast(values.type)
        indices = _indices(plain, values, path).cast(target.index_type)
        if coded:
            indices = indices.take(array.indices)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=target.ordered, safe=False)
    if pa.types.is_null(target):
        return pa.nulls(len(array))
    if pa.types.is_date64(target):
        return array.view(pa.int64()).view(target)
    if pa.types.is_duration(target):
        return array.view(target)
    if pa.types.is_map(target):
        lengths, entries = list_parts(array)
        keys, items = entries.flatten()
        return pa.MapArray.from_arrays(
            _nullable_offsets(lengths, array),
            from_stored(keys, target.key_type, categories, child_path(path, "key")),
            from_stored(items, target.item_type, categories, child_path(path, "value")),
            type=target,
        )
    if pa.types.is_fixed_size_list(target):
        return _fixed_size_list(array, target, categories, path)
    if is_list(target):
        lengths, values = list_parts(array)
        values = from_stored(values, target.value_type, categories, child_path(path, "element"))
        large = pa.types.is_large_list(target) or target.id == pa.lib.Type_LARGE_LIST_VIEW
        offsets = _offsets(lengths, large)
        mask = _null_mask(array)
        nulls = None if mask is None else pa.array(mask)
        if target.id in _LIST_VIEWS:
            sizes = pa.array(lengths).cast(offsets.type)
            view = pa.LargeListViewArray if large else pa.ListViewArray
            return view.from_arrays(offsets[:-1], sizes, values, type=target, mask=nulls)
        cls = pa.LargeListArray if large else pa.ListArray
        return cls.from_arrays(offsets, values, type=target, mask=nulls)
    if pa.types.is_struct(target):
        mask = _null_mask(array)
        # What Parquet gives back below a null, where a child may not be null, is no category.
        flat = array.flatten() if mask is not None and categories else None
        children = []
        for i, child in enumerate(target.fields):
            place = child_path(path, child.name)
            coded = flat is not None and any(f"{name}.".startswith(f"{place}.") for name in categories)
            stored = flat[i] if flat is not None and coded else array.field(i)
            children.append(from_stored(stored, child.type, categories, place))
        return pa.StructArray.from_arrays(
            children, fields=list(target.fields), mask=None if mask is None else pa.array(mask)
        )
    return array.cast(target)


def comparable(values: pa.Array) -> pa.Array:
    """Values in a type that can be looked up, equal where the values are the same bit for bit."""
    values = to_stored(values, "categories")
    if pa.types.is_floating(values.type):
        return values.view({16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}[values.type.bit_width])
    return values


def _indices(values: pa.Array, categories: pa.Array, path: str) -> pa.Array:
    """The position of every value among the categories; null where the value is."""
    found = pc.index_in(comparable(values), value_set=comparable(categories))
    if found.null_count != values.null_count:
        raise Corruption(f"column {path!r} holds a value that is not among its categories")
    return found if values.null_count == 0 else pc.if_else(values.is_valid(), found, None)


def _fixed_size_list(
    array: pa.Array, target: pa.FixedSizeListType, categories: Categories, path: str
) -> pa.Array:
    size = target.list_size
    lengths, values = list_parts(array)
    mask = _null_mask(array)
    # Null slots take up room in a fixed-size list, and so do slots below a null parent, which Parquet
    # gives back as empty lists: point them at a null element.
    absent = lengths != size
    if absent.any():
        take = np.zeros((len(array), size), np.int64)
        take[~absent] = np.arange(len(values)).reshape(-1, size)
        values = values.take(pa.array(take.reshape(-1), mask=np.repeat(absent, size)))
    values = from_stored(values, target.value_type, categories, child_path(path, "element"))
    return pa.FixedSizeListArray.from_arrays(
        values, type=target, mask=None if mask is None else pa.array(mask)
    )
