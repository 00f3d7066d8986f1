"""The categories of dictionary columns: where they stand in a type, and how a Parquet file carries them.

Parquet has no dictionary type: a reader rebuilds the categories from whatever values a row group
happens to hold, so that their order and the unused ones are lost. A checkout therefore writes them
into the file's metadata under :data:`CATEGORIES_KEY`, and reading the file for a commit takes them
from there.

The value is the base64 text of an Arrow IPC stream of one batch of one row. It has one column per
dictionary in the schema, named by the dictionary's path, of type ``large_list`` of the category
type: the list holds the categories in order.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping

import pyarrow as pa

from fsvc.errors import Corruption

__all__ = [
    "CATEGORIES_KEY",
    "child_path",
    "decode_categories",
    "dictionaries",
    "dictionary_types",
    "encode_categories",
    "is_list",
]

CATEGORIES_KEY = b"fsvc:categories"


def child_path(parent: str, name: str) -> str:
    """The path of a child: names joined by dots. No two columns or fields have one path.

    Dots and backslashes inside a name are escaped by a backslash; an empty name is ``\\-``.
    """
    escaped = name.replace("\\", "\\\\").replace(".", "\\.") or "\\-"
    return f"{parent}.{escaped}" if parent else escaped


def dictionary_types(schema: pa.Schema) -> dict[str, pa.DictionaryType]:
    """Every dictionary type of a schema by its path, nested ones included.

    The child of any list is called ``element``, those of a map ``key`` and ``value``, whatever
    the schema calls them.
    """
    found: dict[str, pa.DictionaryType] = {}
    for field in schema:
        found.update(_walk(field.type, child_path("", field.name)))
    return found


def _walk(kind: pa.DataType, path: str) -> Iterator[tuple[str, pa.DictionaryType]]:
    if isinstance(kind, pa.BaseExtensionType):
        yield from _walk(kind.storage_type, path)
    elif pa.types.is_dictionary(kind):
        yield path, kind
    elif pa.types.is_struct(kind):
        for position in range(kind.num_fields):
            child = kind.field(position)
            yield from _walk(child.type, child_path(path, child.name))
    elif pa.types.is_map(kind):
        yield from _walk(kind.key_type, child_path(path, "key"))
        yield from _walk(kind.item_type, child_path(path, "value"))
    elif is_list(kind):
        yield from _walk(kind.value_type, child_path(path, "element"))


def dictionaries(array: pa.Array, path: str) -> Iterator[tuple[str, pa.Array]]:
    """The dictionaries (arrays of categories) inside an array, each with its path.

    ``path`` is that of the array itself; a column's is ``child_path("", its name)``.
    """
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from dictionaries(array.storage, path)
    elif pa.types.is_dictionary(kind):
        yield path, array.dictionary
    elif pa.types.is_struct(kind):
        for position in range(kind.num_fields):
            name = kind.field(position).name
            yield from dictionaries(array.field(position), child_path(path, name))
    elif pa.types.is_map(kind):
        yield from dictionaries(array.keys, child_path(path, "key"))
        yield from dictionaries(array.items, child_path(path, "value"))
    elif is_list(kind):
        yield from dictionaries(array.values, child_path(path, "element"))


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is one of the five kinds of list, maps not among them."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def encode_categories(categories: Mapping[str, pa.Array]) -> bytes:
    """The metadata value that carries these categories (path to categories in order)."""
    names = sorted(categories)
    columns = []
    for name in names:
        values = categories[name]
        offsets = pa.array([0, len(values)], pa.int64())
        columns.append(pa.LargeListArray.from_arrays(offsets, values))
    batch = pa.RecordBatch.from_arrays(columns, names=names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return base64.b64encode(sink.getvalue().to_pybytes())


def decode_categories(data: bytes, *, what: str) -> dict[str, pa.Array]:
    """The inverse of :func:`encode_categories`.

    Raises:
        Corruption: the value is not one that :func:`encode_categories` writes; ``what`` names it.
    """
    try:
        raw = base64.b64decode(data, validate=True)
        with pa.ipc.open_stream(pa.BufferReader(raw)) as reader:
            batches = list(reader)
        for batch in batches:
            batch.validate(full=True)
    except (binascii.Error, pa.ArrowException, OSError) as error:
        raise Corruption(f"{what} is damaged: its list of categories cannot be decoded") from error
    if len(batches) != 1 or batches[0].num_rows != 1:
        raise Corruption(f"{what} is damaged: its list of categories is not one row")
    found: dict[str, pa.Array] = {}
    for field, column in zip(batches[0].schema, batches[0].columns, strict=True):
        if not pa.types.is_large_list(field.type) or column.null_count or field.name in found:
            raise Corruption(f"{what} is damaged: the categories of {field.name} are not one list")
        found[field.name] = column.flatten()
    return found
