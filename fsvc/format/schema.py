"""The schema of a table: its normal form, what can be kept, and how it is written as JSON.

Identity is what the data says, so what has no meaning must not reach it. Arrow schemas carry a few things
that only tell how a table was made: what a list calls its child, the field ids of a Parquet file, the version
of the library that wrote the pandas metadata. :func:`normalise` sets them to one form; :func:`check` refuses,
in words, what could not be given back exactly; :func:`to_json` and :func:`from_json` are the stored form.

Extension types are written as Arrow's own IPC format writes them: the storage type, with the extension's name
and parameters in the metadata of the field. So a schema has the same JSON whether or not the process that
reads it knows the extension.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from fsvc.errors import Corruption, UnsupportedData
from fsvc.format import pandas_metadata

__all__ = ["MAX_DEPTH", "check", "from_json", "normalise", "storage_type", "to_json"]

MAX_DEPTH = 16
"""How many types may be nested in one another; keeps the JSON well inside of what its strict reader takes."""

_EXTENSION_NAME = b"ARROW:extension:name"
_EXTENSION_METADATA = b"ARROW:extension:metadata"
_EXTENSION_KEYS = frozenset({_EXTENSION_NAME, _EXTENSION_METADATA})
_PANDAS = b"pandas"

# Names of types are our own and frozen; they happen to be those of Arrow's specification.
_SIMPLE: dict[str, pa.DataType] = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "date32": pa.date32(),
    "date64": pa.date64(),
    "binary": pa.binary(),
    "string": pa.string(),
    "large_binary": pa.large_binary(),
    "large_string": pa.large_string(),
    "binary_view": pa.binary_view(),
    "string_view": pa.string_view(),
}
_SIMPLE_NAMES: dict[pa.DataType, str] = {kind: name for name, kind in _SIMPLE.items()}
_UNIT_TYPES: dict[str, tuple[Any, Any]] = {
    "time32": (pa.Time32Type, pa.time32),
    "time64": (pa.Time64Type, pa.time64),
    "duration": (pa.DurationType, pa.duration),
}
_DECIMALS: dict[str, tuple[Any, Any]] = {
    "decimal32": (pa.Decimal32Type, pa.decimal32),
    "decimal64": (pa.Decimal64Type, pa.decimal64),
    "decimal128": (pa.Decimal128Type, pa.decimal128),
    "decimal256": (pa.Decimal256Type, pa.decimal256),
}
_LISTS: dict[str, tuple[Any, Any]] = {
    "list": (pa.ListType, pa.list_),
    "large_list": (pa.LargeListType, pa.large_list),
    "list_view": (pa.ListViewType, pa.list_view),
    "large_list_view": (pa.LargeListViewType, pa.large_list_view),
}
_LIST_TYPES: tuple[Any, ...] = tuple(kind for kind, _ in _LISTS.values())
_ALL_LISTS: tuple[Any, ...] = (*_LIST_TYPES, pa.FixedSizeListType)
_DECIMAL_TYPES: tuple[Any, ...] = tuple(kind for kind, _ in _DECIMALS.values())
_UNITS = frozenset({"s", "ms", "us", "ns"})


# --- normal form


def normalise(schema: pa.Schema) -> pa.Schema:
    """Give the normal form of a schema: the same columns and types, without what carries no meaning.

    The child of every list is called ``element``, the children of a map ``key`` and ``value``;
    ``PARQUET:field_id`` is dropped from fields of all levels, and ``ARROW:schema`` and keys that start with
    ``fsvc:`` from the schema; metadata is sorted by key, and empty metadata is none; pandas metadata is
    reduced to what the Arrow schema does not say (:func:`fsvc.format.pandas_metadata.reduce`). All else is
    kept: names, order, types, nullability, metadata.

    The normal form of a normal form is itself. Extension types stay as they are in Arrow. A schema that
    :func:`check` refuses need not have a normal form.
    """
    fields = [_normal_field(field) for field in schema]
    bare = pa.schema(fields)
    metadata = _normal_schema_metadata(schema.metadata, bare)
    return bare.with_metadata(metadata) if metadata else bare


def _normal_schema_metadata(
    metadata: Mapping[bytes, bytes] | None, bare: pa.Schema
) -> dict[bytes, bytes] | None:
    kept: dict[bytes, bytes] = {}
    for key, value in sorted((metadata or {}).items()):
        if key == b"ARROW:schema" or key.startswith(b"fsvc:"):
            continue
        if key == _PANDAS:
            reduced = pandas_metadata.reduce(value, bare)
            if reduced is None:
                continue
            value = reduced
        kept[key] = value
    return kept or None


def _normal_field(field: pa.Field, name: str | None = None) -> pa.Field:
    metadata = _normal_field_metadata(field)
    return pa.field(field.name if name is None else name, _normal_type(field.type), field.nullable, metadata)


def _normal_field_metadata(field: pa.Field) -> dict[bytes, bytes] | None:
    """The metadata of a field as it counts; for an extension without the keys it stands for."""
    metadata = dict(field.metadata or {})
    metadata.pop(b"PARQUET:field_id", None)
    if isinstance(field.type, pa.BaseExtensionType):
        for key in _EXTENSION_KEYS:
            metadata.pop(key, None)
    elif _EXTENSION_NAME in metadata:
        # Some writers leave out empty parameters, and a process that knows the extension would add them
        # again.
        metadata.setdefault(_EXTENSION_METADATA, b"")
    return dict(sorted(metadata.items())) or None


def _normal_type(kind: pa.DataType) -> pa.DataType:
    for cls, make in _LISTS.values():
        if isinstance(kind, cls):
            return make(_normal_field(kind.value_field, "element"))
    if isinstance(kind, pa.FixedSizeListType):
        return pa.list_(_normal_field(kind.value_field, "element"), kind.list_size)
    if isinstance(kind, pa.MapType):
        key = _normal_field(kind.key_field, "key")
        return pa.map_(key, _normal_field(kind.item_field, "value"), keys_sorted=kind.keys_sorted)
    if isinstance(kind, pa.StructType):
        return pa.struct([_normal_field(field) for field in kind])
    return kind


def storage_type(kind: pa.DataType) -> pa.DataType:
    """Give a type with every extension type in it replaced by its storage type, in normal form.

    The metadata that says which extension it was is not kept; this is the type that the values are stored in.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return storage_type(kind.storage_type)

    def stored(field: pa.Field, name: str) -> pa.Field:
        metadata = {
            k: v for k, v in (_normal_field_metadata(field) or {}).items() if k not in _EXTENSION_KEYS
        }
        return pa.field(name, storage_type(field.type), field.nullable, metadata or None)

    for cls, make in _LISTS.values():
        if isinstance(kind, cls):
            return make(stored(kind.value_field, "element"))
    if isinstance(kind, pa.FixedSizeListType):
        return pa.list_(stored(kind.value_field, "element"), kind.list_size)
    if isinstance(kind, pa.MapType):
        key, value = stored(kind.key_field, "key"), stored(kind.item_field, "value")
        return pa.map_(key, value, keys_sorted=kind.keys_sorted)
    if isinstance(kind, pa.StructType):
        return pa.struct([stored(field, field.name) for field in kind])
    return kind


# --- what can be kept


def check(schema: pa.Schema) -> None:
    """Refuse a schema that could not be given back exactly.

    Raises :class:`~fsvc.errors.UnsupportedData`, naming the column (with dots where it is inside of another),
    for: unions, intervals, run-end encoded and unknown types; dictionaries of nested, dictionary, extension
    or null values; what Parquet has no form for (a struct without fields, values or lists of fixed size 0, a
    decimal scale that is negative or beyond its precision); two columns, or two fields of a struct, of one
    name; names that are not UTF-8 or contain NUL; types nested deeper than :data:`MAX_DEPTH`; nulls where
    nothing may be null.
    """
    _check_fields(schema, "", 1)


def _check_fields(fields: Iterable[pa.Field], parent: str, depth: int) -> None:
    seen: set[str] = set()
    for position, field in enumerate(fields):
        name = _checked_name(field, parent, position)
        if name in seen:
            where = f"in {_quote(parent)} " if parent else ""
            raise UnsupportedData(
                f"two columns {where}are called {_quote(name)}",
                hint="Rename one of them: a column is found by its name.",
            )
        seen.add(name)
        _check_field(field, f"{parent}.{name}" if parent else name, depth)


def _check_field(field: pa.Field, path: str, depth: int) -> None:
    if pa.types.is_null(field.type) and not field.nullable:
        raise _unsupported(path, field.type, "nulls only, in a place that must not be null")
    _check_type(field.type, path, depth)


def _checked_name(field: pa.Field, parent: str, position: int) -> str:
    where = f"column {position + 1}" + (f" in {_quote(parent)}" if parent else "")
    try:
        name = str(field.name)
    except UnicodeDecodeError:
        raise UnsupportedData(f"the name of {where} is not valid UTF-8") from None
    if "\0" in name:
        raise UnsupportedData(f"the name of {where}, {_quote(name)}, contains a NUL character")
    return name


def _check_type(kind: pa.DataType, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise UnsupportedData(f"column {_quote(path)} has types nested deeper than {MAX_DEPTH} levels")
    if isinstance(kind, pa.BaseExtensionType):
        if isinstance(kind.storage_type, pa.BaseExtensionType):
            raise _unsupported(path, kind, "an extension type that is stored as another extension type")
        _check_type(kind.storage_type, path, depth)
    elif isinstance(kind, pa.DictionaryType):
        _check_dictionary(kind, path)
    elif isinstance(kind, pa.StructType):
        if kind.num_fields == 0:
            raise _unsupported(path, kind, "a struct without fields, which Parquet has no form for")
        _check_fields(kind, path, depth + 1)
    elif isinstance(kind, pa.MapType):
        _check_field(kind.key_field, f"{path}.key", depth + 1)
        _check_field(kind.item_field, f"{path}.value", depth + 1)
    elif isinstance(kind, _ALL_LISTS):
        if isinstance(kind, pa.FixedSizeListType) and kind.list_size == 0:
            raise _unsupported(path, kind, "a list of fixed size 0, which Parquet has no form for")
        _check_field(kind.value_field, f"{path}.element", depth + 1)
    else:
        _check_value_type(kind, path)


def _check_dictionary(kind: pa.DictionaryType, path: str) -> None:
    values = kind.value_type
    if pa.types.is_nested(values) or isinstance(values, (pa.DictionaryType, pa.BaseExtensionType)):
        raise _unsupported(path, kind, f"a dictionary whose values are of type {values}")
    if pa.types.is_null(values):
        raise _unsupported(path, kind, "a dictionary of nulls")
    _check_value_type(values, path)


def _check_value_type(kind: pa.DataType, path: str) -> None:
    if isinstance(kind, _DECIMAL_TYPES):
        if not 0 <= kind.scale <= kind.precision:
            raise _unsupported(path, kind, "a decimal whose scale is negative or greater than its precision")
    elif isinstance(kind, pa.FixedSizeBinaryType):
        if kind.byte_width == 0:
            raise _unsupported(path, kind, "binary values of fixed width 0, which Parquet has no form for")
    elif _leaf_to_json(kind) is None:
        raise _unsupported(path, kind, "a type that fsvc does not keep")


def _unsupported(path: str, kind: pa.DataType, reason: str) -> UnsupportedData:
    return UnsupportedData(
        f"column {_quote(path)} is of type {kind}: {reason}",
        hint="Cast the column to a supported type, or leave it out.",
    )


def _quote(name: str) -> str:
    """A name for a message: control characters are escaped, so that it stays on its line."""
    return "'" + "".join(c if c.isprintable() else repr(c)[1:-1] for c in name) + "'"


# --- to JSON


def to_json(schema: pa.Schema) -> dict[str, Any]:
    """Write the normal form of a schema as a JSON value made of dict, list, str, int, bool and None only.

    ``{"fields": [{"name", "nullable", "type": {"name", ...}, "metadata"?}], "metadata"?}``; metadata is a
    list of ``[key, value]``, sorted by the bytes of the key, each a string or, where it is not UTF-8,
    ``{"base64": ...}``. A schema that is not in normal form gives the JSON of its normal form.

    Raises :class:`~fsvc.errors.UnsupportedData` for a type without a stored form (see :func:`check`).
    """
    schema = normalise(schema)
    value: dict[str, Any] = {"fields": [_named_to_json(field) for field in schema]}
    if schema.metadata:
        value["metadata"] = _metadata_to_json(schema.metadata)
    return value


def _named_to_json(field: pa.Field) -> dict[str, Any]:
    return {"name": field.name, **_field_to_json(field)}


def _field_to_json(field: pa.Field) -> dict[str, Any]:
    kind = field.type
    metadata = _normal_field_metadata(field) or {}
    if isinstance(kind, pa.BaseExtensionType):
        metadata[_EXTENSION_NAME] = kind.extension_name.encode()
        metadata[_EXTENSION_METADATA] = _extension_parameters(kind)
        kind = kind.storage_type
    value: dict[str, Any] = {"nullable": field.nullable, "type": _type_to_json(kind)}
    if metadata:
        value["metadata"] = _metadata_to_json(metadata)
    return value


def _type_to_json(kind: pa.DataType) -> dict[str, Any]:
    leaf = _leaf_to_json(kind)
    if leaf is not None:
        return leaf
    for name, (cls, _) in _LISTS.items():
        if isinstance(kind, cls):
            return {"name": name, "element": _field_to_json(kind.value_field)}
    if isinstance(kind, pa.FixedSizeListType):
        return {
            "name": "fixed_size_list",
            "length": kind.list_size,
            "element": _field_to_json(kind.value_field),
        }
    if isinstance(kind, pa.StructType):
        return {"name": "struct", "fields": [_named_to_json(field) for field in kind]}
    if isinstance(kind, pa.MapType):
        key, value = _field_to_json(kind.key_field), _field_to_json(kind.item_field)
        return {"name": "map", "key": key, "value": value, "keys_sorted": kind.keys_sorted}
    if isinstance(kind, pa.DictionaryType):
        index, values = _type_to_json(kind.index_type), _type_to_json(kind.value_type)
        return {"name": "dictionary", "index": index, "value": values, "ordered": kind.ordered}
    raise UnsupportedData(f"the type {kind} has no stored form")


def _leaf_to_json(kind: pa.DataType) -> dict[str, Any] | None:
    """The JSON of a type without children, or None."""
    simple = _SIMPLE_NAMES.get(kind)
    if simple is not None:
        return {"name": simple}
    if isinstance(kind, pa.TimestampType):
        return {"name": "timestamp", "unit": kind.unit, "timezone": kind.tz or None}
    for name, (cls, _) in _UNIT_TYPES.items():
        if isinstance(kind, cls):
            return {"name": name, "unit": kind.unit}
    for name, (cls, _) in _DECIMALS.items():
        if isinstance(kind, cls):
            return {"name": name, "precision": kind.precision, "scale": kind.scale}
    if isinstance(kind, pa.FixedSizeBinaryType):
        return {"name": "fixed_size_binary", "width": kind.byte_width}
    return None


def _metadata_to_json(metadata: Mapping[bytes, bytes]) -> list[list[Any]]:
    return [[_bytes_to_json(key), _bytes_to_json(value)] for key, value in sorted(metadata.items())]


def _bytes_to_json(data: bytes) -> str | dict[str, str]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _extension_parameters(kind: pa.BaseExtensionType) -> bytes:
    """The serialised parameters of an extension type, as Arrow IPC writes them.

    pyarrow does not show them for the extension types that are built in. But they stand in the IPC form of a
    schema, and a reader that does not recognise the marker of extensions hands them out as plain metadata. So
    the marker is misspelled, in a way that occurs nowhere else in the message.
    """
    message = pa.schema([pa.field("x", kind)]).serialize().to_pybytes()
    marker = next(m for m in _misspellings(_EXTENSION_NAME) if m not in message)
    field = pa.ipc.read_schema(pa.py_buffer(message.replace(_EXTENSION_NAME, marker))).field(0)
    parameters: bytes = field.metadata[_EXTENSION_METADATA]
    return parameters.replace(marker, _EXTENSION_NAME)


def _misspellings(word: bytes) -> Iterator[bytes]:
    """Words of the same length (positions in the message must not move), ever new ones."""
    number = 0
    while True:
        yield number.to_bytes(len(word), "big").replace(b"\0", b"#")
        number += 1


# --- from JSON


def from_json(value: object) -> pa.Schema:
    """Read the schema that :func:`to_json` wrote.

    Extension types that this process knows come back as themselves, others as their storage type with the
    extension's name and parameters in the metadata of the field, as Arrow has it.

    Raises :class:`~fsvc.errors.Corruption` if the value is anything else than the JSON of a schema in normal
    form.
    """
    body = _object(value, {"fields"}, {"metadata"})
    try:
        fields = [_named_from_json(field, 1) for field in _list(body["fields"])]
        schema = pa.schema(fields, metadata=_metadata_from_json(body))
        check(schema)
        same = to_json(schema) == value
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise _corrupt(f"Arrow refuses it ({error})") from error
    except UnsupportedData as error:
        raise _corrupt(error.message) from error
    if not same:
        raise _corrupt("it is not in normal form")
    return _revive(schema)


def _corrupt(reason: str) -> Corruption:
    return Corruption(f"a stored schema is damaged: {reason}")


def _object(value: object, required: set[str], optional: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _corrupt("an object is missing")
    keys = set(value)
    if not required <= keys <= required | (optional or set()):
        raise _corrupt(f"an object has the keys {sorted(map(str, keys))}, expected {sorted(required)}")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise _corrupt("a list is missing")
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _corrupt("a string is missing")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _corrupt("an integer is missing")
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise _corrupt("true or false is missing")
    return value


def _unit(value: object) -> str:
    unit = _string(value)
    if unit not in _UNITS:
        raise _corrupt(f"unknown unit {unit!r}")
    return unit


def _named_from_json(value: object, depth: int) -> pa.Field:
    body = _object(value, {"name", "nullable", "type"}, {"metadata"})
    return _body_to_field(body, _string(body["name"]), depth)


def _child_from_json(value: object, name: str, depth: int) -> pa.Field:
    return _body_to_field(_object(value, {"nullable", "type"}, {"metadata"}), name, depth)


def _body_to_field(body: dict[str, Any], name: str, depth: int) -> pa.Field:
    nullable = _boolean(body["nullable"])
    return pa.field(name, _type_from_json(body["type"], depth), nullable, _metadata_from_json(body))


def _type_from_json(value: object, depth: int) -> pa.DataType:
    if depth > MAX_DEPTH:
        raise _corrupt(f"types are nested deeper than {MAX_DEPTH} levels")
    name = _string(value.get("name")) if isinstance(value, dict) else ""
    leaf = _leaf_from_json(name, value)
    if leaf is not None:
        return leaf
    if name in _LISTS:
        body = _object(value, {"name", "element"})
        return _LISTS[name][1](_child_from_json(body["element"], "element", depth + 1))
    if name == "fixed_size_list":
        body = _object(value, {"name", "element", "length"})
        length = _integer(body["length"])
        if length < 0:  # pyarrow takes -1 to mean a list of any length
            raise _corrupt("a list has a negative length")
        return pa.list_(_child_from_json(body["element"], "element", depth + 1), length)
    if name == "struct":
        body = _object(value, {"name", "fields"})
        return pa.struct([_named_from_json(field, depth + 1) for field in _list(body["fields"])])
    if name == "map":
        body = _object(value, {"name", "key", "value", "keys_sorted"})
        key = _child_from_json(body["key"], "key", depth + 1)
        item = _child_from_json(body["value"], "value", depth + 1)
        return pa.map_(key, item, keys_sorted=_boolean(body["keys_sorted"]))
    if name == "dictionary":
        body = _object(value, {"name", "index", "value", "ordered"})
        index, values = _type_from_json(body["index"], depth + 1), _type_from_json(body["value"], depth + 1)
        return pa.dictionary(index, values, ordered=_boolean(body["ordered"]))
    raise _corrupt(f"unknown type {name!r}")


def _leaf_from_json(name: str, value: object) -> pa.DataType | None:
    if name in _SIMPLE:
        _object(value, {"name"})
        return _SIMPLE[name]
    if name == "timestamp":
        body = _object(value, {"name", "unit", "timezone"})
        zone = body["timezone"]
        return pa.timestamp(_unit(body["unit"]), None if zone is None else _string(zone))
    if name in _UNIT_TYPES:
        return _UNIT_TYPES[name][1](_unit(_object(value, {"name", "unit"})["unit"]))
    if name in _DECIMALS:
        body = _object(value, {"name", "precision", "scale"})
        return _DECIMALS[name][1](_integer(body["precision"]), _integer(body["scale"]))
    if name == "fixed_size_binary":
        width = _integer(_object(value, {"name", "width"})["width"])
        if width < 0:  # pyarrow takes -1 to mean binary of any length
            raise _corrupt("a fixed width is negative")
        return pa.binary(width)
    return None


def _metadata_from_json(body: dict[str, Any]) -> dict[bytes, bytes] | None:
    if "metadata" not in body:
        return None
    pairs = _list(body["metadata"])
    if any(not isinstance(pair, list) or len(pair) != 2 for pair in pairs):
        raise _corrupt("metadata is not a list of pairs")
    return {_bytes_from_json(key): _bytes_from_json(value) for key, value in pairs}


def _bytes_from_json(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    text = _string(_object(value, {"base64"})["base64"])
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise _corrupt("metadata is not valid base64") from error


def _revive(schema: pa.Schema) -> pa.Schema:
    """Turn storage types with an extension's metadata into the extension types that this process knows."""
    if not any(_names_extension(field) for field in schema):
        return schema
    fields = [_revived(field) if _names_extension(field) else field for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


def _revived(field: pa.Field) -> pa.Field:
    # Whether an extension is known, and what it makes of its parameters, is asked of Arrow by a trip through
    # IPC. One that no longer accepts what it once wrote (some class of the user's, say) must not keep the
    # data from being read: it is left as its storage type, like an unknown one. A class written in Python may
    # raise anything.
    try:
        return pa.ipc.read_schema(pa.schema([field]).serialize()).field(0)
    except Exception:  # noqa: BLE001
        return field


def _names_extension(field: pa.Field) -> bool:
    if _EXTENSION_NAME in (field.metadata or {}):
        return True
    kind = field.type
    return any(_names_extension(child) for child in _children(kind))


def _children(kind: pa.DataType) -> list[pa.Field]:
    if isinstance(kind, pa.StructType):
        return list(kind)
    if isinstance(kind, pa.MapType):
        return [kind.key_field, kind.item_field]
    if isinstance(kind, _ALL_LISTS):
        return [kind.value_field]
    return []
