"""Giving columns read from Parquet the types that their writer had.

Parquet knows fewer types than Arrow. A writer of Arrow data leaves its schema in the file's metadata
(``ARROW:schema``), and pyarrow's reader restores most types from it, but not all: timestamps in
seconds come back in milliseconds, date64 as date32, dictionaries of numbers as plain numbers.
:func:`meant_type` says which type to restore where that loses nothing, :func:`convert` does it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from fsvc.format.categories import child_path, is_list
from fsvc.sources.dictionaries import encode, map_entries, replace_children, unsliced

__all__ = ["convert", "meant_type"]


def meant_type(read: pa.DataType, meant: pa.DataType) -> pa.DataType:
    """The type to give to a column that is read as ``read`` and was written from ``meant``.

    ``meant`` where values of ``read`` can be brought to it with nothing lost (or are refused when
    they cannot), at any depth; else ``read``, the file's own.
    """
    if read == meant:
        return read
    if pa.types.is_dictionary(meant):
        plain = read.value_type if pa.types.is_dictionary(read) else read
        if meant_type(plain, meant.value_type) == meant.value_type:
            return meant
        return read
    if pa.types.is_struct(read) and pa.types.is_struct(meant):
        fields = [read.field(position) for position in range(read.num_fields)]
        others = [meant.field(position) for position in range(meant.num_fields)]
        if [field.name for field in fields] != [field.name for field in others]:
            return read
        pairs = zip(fields, others, strict=True)
        return pa.struct([field.with_type(meant_type(field.type, other.type)) for field, other in pairs])
    if pa.types.is_map(read) and pa.types.is_map(meant):
        key = read.key_field.with_type(meant_type(read.key_type, meant.key_type))
        item = read.item_field.with_type(meant_type(read.item_type, meant.item_type))
        return pa.map_(key, item, keys_sorted=meant.keys_sorted)
    if is_list(read) and read.id == meant.id:
        child = read.value_field.with_type(meant_type(read.value_type, meant.value_type))
        return _list_like(read, child)
    return meant if _lossless(read, meant) else read


def _list_like(kind: pa.DataType, child: pa.Field) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(child, kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(child)
    if pa.types.is_list_view(kind):
        return pa.list_view(child)
    if pa.types.is_large_list_view(kind):
        return pa.large_list_view(child)
    return pa.list_(child)


def _lossless(read: pa.DataType, meant: pa.DataType) -> bool:
    """Whether a safe cast between two flat types keeps each value, or fails."""
    types = pa.types
    if types.is_null(meant) or (types.is_date64(meant) and read == pa.timestamp("ms")):
        # What is no null, or no whole day, is refused when it turns up.
        return True
    if types.is_timestamp(read) and types.is_timestamp(meant):
        # With any zone it is the same instant; the zone is only a label.
        return (read.tz is None) == (meant.tz is None)
    if types.is_decimal(read) and types.is_decimal(meant):
        return bool(read.precision == meant.precision and read.scale == meant.scale)
    if types.is_duration(meant):
        # Parquet has no durations; inside of dictionaries pyarrow leaves the integers.
        return bool(types.is_int64(read) or types.is_duration(read))
    if types.is_fixed_size_binary(read) or types.is_fixed_size_binary(meant):
        return False
    families = (types.is_integer, types.is_date, types.is_time, _is_text, _is_bytes)
    return any(family(read) and family(meant) for family in families)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def convert(array: pa.Array, kind: pa.DataType, categories: Mapping[str, pa.Array], path: str) -> pa.Array:
    """A column with the type that :func:`meant_type` gave.

    Args:
        array: the column as it was read.
        kind: the type to give it.
        categories: the categories of dictionaries where they are known, by path.
        path: the path of this column (see :func:`fsvc.format.categories.child_path`).

    Raises:
        pa.ArrowInvalid: a value does not fit the type that the file claims.
        UnsupportedData: a value is not among the categories that the file lists.
    """
    if pa.types.is_dictionary(kind):
        known = categories.get(path)
        if array.type == kind and known is None:
            return array
        if pa.types.is_dictionary(array.type):
            if known is None:
                return array.cast(kind)
            array = array.dictionary_decode()
        values = convert(array, kind.value_type, categories, path)
        return encode(values, kind, None if known is None else known.cast(kind.value_type))
    if not pa.types.is_nested(kind):
        return array if array.type == kind else _flat(array, kind)
    if array.type == kind and not any(name.startswith(path + ".") for name in categories):
        return array
    array = unsliced(array)
    if pa.types.is_struct(kind):
        fields = [kind.field(position) for position in range(kind.num_fields)]
        # Flattened: below a null, a child that must not be null holds a value that says nothing.
        children = [
            convert(child, field.type, categories, child_path(path, field.name))
            for child, field in zip(array.flatten(), fields, strict=True)
        ]
    elif pa.types.is_map(kind):
        keys, items = map_entries(array)
        children = [
            convert(keys, kind.key_type, categories, child_path(path, "key")),
            convert(items, kind.item_type, categories, child_path(path, "value")),
        ]
    else:
        children = [convert(array.values, kind.value_type, categories, child_path(path, "element"))]
    return replace_children(array, kind, children)


def _flat(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Flat values as another type, or pa.ArrowInvalid."""
    if pa.types.is_null(kind):
        if array.null_count < len(array):
            raise pa.ArrowInvalid(
                f"{len(array) - array.null_count} value(s) where the file claims nulls only"
            )
        return pa.nulls(len(array))
    if pa.types.is_date64(kind) and pa.types.is_timestamp(array.type):
        # A cast would round down to whole days; what is none is found when the batch is validated.
        return array.view(pa.int64()).view(kind)
    return array.cast(kind, safe=True)
