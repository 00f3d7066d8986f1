"""Dictionary arrays: looking up their values, and giving batches dictionaries that only grow.

Arrow lets every batch of a stream have a dictionary of its own. Whoever stores the categories once
per column needs them to agree; here each batch's indices are rewritten, where needed, to a
dictionary that starts with that of the batch before.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.errors import UnsupportedData
from fsvc.format.categories import child_path, dictionary_types

__all__ = ["GrowingDictionaries", "encode", "index_of", "map_entries", "replace_children", "unsliced"]


def _lookup_form(values: pa.Array) -> pa.Array:
    """The same values in a type that pyarrow's hash kernels know (they lack a few types)."""
    kind = values.type
    if pa.types.is_string_view(kind):
        return values.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return values.cast(pa.large_binary())
    if pa.types.is_float16(kind):
        # Bits, not numbers: two NaNs of different payload are different categories.
        return values.view(pa.uint16())
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return values.cast(pa.decimal128(kind.precision, kind.scale))
    return values


def _from_lookup_form(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if values.type == kind:
        return values
    return values.view(kind) if pa.types.is_float16(kind) else values.cast(kind)


def index_of(values: pa.Array, categories: pa.Array) -> pa.Array:
    """The position of each value among the categories (int32), null where it is none of them."""
    return pc.index_in(_lookup_form(values), value_set=_lookup_form(categories))


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
        encoded = _lookup_form(values).dictionary_encode()
        indices = encoded.indices
        categories = _from_lookup_form(encoded.dictionary, kind.value_type)
    else:
        indices = index_of(values, categories)
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


class GrowingDictionaries:
    """Rewrites batches of one stream so that each dictionary starts with the one before it."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns = {
            position
            for position, field in enumerate(schema)
            if dictionary_types(pa.schema([field.remove_metadata()]))
        }
        self._known: dict[str, pa.Array] = {}
        self._seen: dict[str, tuple[object, ...]] = {}

    def follow(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The next batch of the stream, with its dictionaries brought in line.

        Raises:
            UnsupportedData: the categories of all batches are more than the column's index
                type can number; the message names the column.
        """
        if not self._columns:
            return batch
        columns = list(batch.columns)
        for position in self._columns:
            name = self._schema.field(position).name
            # By position too: two columns may have one name, which is refused elsewhere.
            path = child_path(str(position), name)
            try:
                columns[position] = self._visit(columns[position], path)
            except UnsupportedData as error:
                raise UnsupportedData(f"column {name!r}: {error.message}", hint=error.hint) from error
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    def _visit(self, array: pa.Array, path: str) -> pa.Array:
        kind = array.type
        if pa.types.is_dictionary(kind):
            return self._follow(array, path)
        if not dictionary_types(pa.schema([("", kind)])):
            return array
        array = unsliced(array)
        if pa.types.is_struct(kind):
            children = [
                self._visit(array.field(position), child_path(path, str(position)))
                for position in range(kind.num_fields)
            ]
        elif pa.types.is_map(kind):
            keys, items = map_entries(array)
            children = [
                self._visit(keys, child_path(path, "key")),
                self._visit(items, child_path(path, "value")),
            ]
        else:
            children = [self._visit(array.values, child_path(path, "element"))]
        return replace_children(array, kind, children)

    def _follow(self, array: pa.Array, path: str) -> pa.Array:
        new = array.dictionary
        known = self._known.get(path)
        identity = _identity(new)
        if known is None or identity == self._seen.get(path):
            # Comparing addresses first spares comparing a large shared dictionary per batch; the
            # dictionary is held in _known, so its addresses cannot be used again meanwhile.
            self._known[path], self._seen[path] = new, identity
            return array
        if len(new) <= len(known) and known.slice(0, len(new)).equals(new):
            return pa.DictionaryArray.from_arrays(
                array.indices, known, ordered=array.type.ordered, safe=False
            )
        if len(new) > len(known) and new.slice(0, len(known)).equals(known):
            self._known[path], self._seen[path] = new, identity
            return array
        positions = index_of(new, known)
        added = pc.indices_nonzero(pc.is_null(positions))
        fresh = pa.array(np.arange(len(known), len(known) + len(added), dtype=np.int32))
        merged = _lookup_form(known)
        if len(added):
            merged = pa.concat_arrays([merged, _lookup_form(new).take(added)])
            positions = pc.replace_with_mask(positions, pc.is_null(positions), fresh)
        grown = _from_lookup_form(merged, array.type.value_type)
        self._known[path], self._seen[path] = grown, _identity(grown)
        return _assemble(positions.take(array.indices), grown, array.type)


def _identity(array: pa.Array) -> tuple[object, ...]:
    buffers = tuple(buffer.address if buffer is not None else 0 for buffer in array.buffers())
    return (len(array), array.offset, *buffers)
