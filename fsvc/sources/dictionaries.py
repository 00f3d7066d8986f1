"""Dictionary arrays: looking values up, and putting nested arrays together again."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from fsvc.errors import UnsupportedData
from fsvc.format.stored import comparable, from_stored

__all__ = ["encode", "map_entries", "replace_children", "unsliced"]


def encode(values: pa.Array, kind: pa.DictionaryType, categories: pa.Array | None) -> pa.Array:
    """Plain values as a dictionary array of a type.

    Args:
        values: of the type's value type.
        kind: the dictionary type to give.
        categories: the dictionary; None takes the values in the order in which they first occur.

    Raises:
        UnsupportedData: a value is not among the categories, or they are too many for the
            type's indices.
    """
    if categories is None:
        encoded = comparable(values).dictionary_encode()
        indices = encoded.indices
        found = encoded.dictionary
        if pa.types.is_floating(kind.value_type):
            categories = found.view(kind.value_type)
        else:
            categories = from_stored(found, kind.value_type, {}, "")
    else:
        indices = pc.index_in(comparable(values), value_set=comparable(categories))
        if indices.null_count != values.null_count:
            raise UnsupportedData("a value is not among the categories that the file lists")
    return _assemble(indices, categories, kind)


def _assemble(indices: pa.Array, categories: pa.Array, kind: pa.DictionaryType) -> pa.Array:
    try:
        narrow = indices.cast(kind.index_type)
    except pa.ArrowInvalid as error:
        raise UnsupportedData(
            f"there are more categories than {kind.index_type} can number", hint="use wider indices"
        ) from error
    return pa.DictionaryArray.from_arrays(narrow, categories, ordered=kind.ordered, safe=False)


def replace_children(array: pa.Array, kind: pa.DataType, children: list[pa.Array]) -> pa.Array:
    """A nested array with other children, of the same lengths, and its own validity and offsets.

    The array must not be a slice. Children of a map are its keys and items.
    """
    own = 3 if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind) else 2
    if pa.types.is_struct(kind) or pa.types.is_fixed_size_list(kind):
        own = 1
    if pa.types.is_map(kind):
        fields = [kind.key_field, kind.item_field]
        children = [pa.StructArray.from_arrays(children, fields=fields)]
    buffers = array.buffers()[:own]
    return pa.Array.from_buffers(kind, len(array), buffers, array.null_count, 0, children)


def unsliced(array: pa.Array) -> pa.Array:
    """The same values from offset 0 on, so that children line up with their parent."""
    return pa.concat_arrays([array]) if array.offset else array


def map_entries(array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The keys and items of a map array, over all its entries.

    Not ``array.keys`` and ``array.items``, which forget the offset of the entries (pyarrow 26).
    """
    entries = array.values
    return entries.field(0), entries.field(1)
