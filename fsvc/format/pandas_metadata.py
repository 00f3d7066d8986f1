"""The ``pandas`` entry of a schema's metadata, reduced to what the Arrow schema does not say.

pandas (by way of pyarrow) writes a JSON document into each table that it makes: for every column its name and
dtype, how the index was stored, and which versions were at work. Nearly all of it repeats the Arrow schema,
and the rest changes with every upgrade. Two tables that hold the same data must have the same schema, so
:func:`reduce` keeps of it only what changes the data frame that is given back, in one form, and nothing at
all for a plain data frame. The result is still a document that ``pyarrow.Table.to_pandas`` understands.

This module reads the document; it never imports pandas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

__all__ = ["document", "dtypes", "object_columns", "reduce"]

_MAX_DEPTH = 32
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_PLAIN_DTYPES = re.compile(
    r"bool|u?int(8|16|32|64)|float(16|32|64)|(datetime64|timedelta64)(\[\w+\])?|category"
)
# What the parameters of a column may be, all of it said by the Arrow type (a timezone is looked at on its
# own).
_SAID_BY_TYPE = frozenset({"encoding", "num_categories", "ordered", "precision", "scale", "timezone", "unit"})
_ENTRY_KEYS = frozenset({"field_name", "metadata", "name", "numpy_type", "pandas_type"})
_DOCUMENT_KEYS = frozenset(
    {"attributes", "column_indexes", "columns", "creator", "index_columns", "library", "pandas_version"}
)

_OPAQUE = pa.struct([])


class _Malformed(Exception):
    """The document is not what pandas' metadata should be."""


def reduce(document: bytes, schema: pa.Schema) -> bytes | None:
    """Reduce a pandas metadata document to what ``schema`` (the columns it stands with) does not say.

    Kept are: an index other than the default one; labels of columns other than plain strings; an entry for
    each column that belongs to the index, whose label is not its name, or whose dtype is not what Arrow gives
    to pandas of its own accord (nullable and Arrow-backed dtypes, ``object`` where the Arrow type is a
    number, a time or, from pandas 3 on, a string); a time zone that is not that of the Arrow type; and
    ``attrs``. The result is ASCII JSON with sorted keys, or None if nothing is left. Reducing twice changes
    nothing.

    A document that is malformed, or nested very deeply, is given back as it is.
    """
    try:
        content = _load(document)
        reduced = _reduced(content, schema)
    except _Malformed:
        return document
    if reduced is None:
        return None
    return json.dumps(reduced, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def document(schema: pa.Schema) -> dict[str, Any] | None:
    """The document of a schema in normal form, None where there is none or it is malformed."""
    found = (schema.metadata or {}).get(b"pandas")
    try:
        if found is None or reduce(found, schema) != found:
            return None
        content = _load(found)
        _entries(content, schema)
    except _Malformed:
        return None
    return content


def dtypes(schema: pa.Schema) -> dict[str, str]:
    """The columns whose dtype in pandas was not what Arrow gives back of its own accord, and that dtype.

    For a schema in normal form; in its order.
    """
    content = document(schema)
    found: dict[str, str] = {}
    if content is not None:
        for name, entry in _entries(content, schema).items():
            field, dtype = schema.field(name), entry["numpy_type"]
            if _says_object(entry, field, True) if dtype == "object" else _says_dtype(dtype, field):
                found[name] = dtype
    return {name: found[name] for name in schema.names if name in found}


def object_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Name the columns that were of dtype ``object`` in pandas though Arrow gives back another dtype.

    For a schema in normal form; in its order. ``pyarrow.Table.to_pandas`` does not restore these by itself.
    """
    return tuple(name for name, dtype in dtypes(schema).items() if dtype == "object")


def _load(document: bytes) -> dict[str, Any]:
    depth = deepest = 0
    for token in _TOKENS.finditer(document):
        first = token[0][:1]
        depth += (first in b"[{") - (first in b"]}")
        deepest = max(deepest, depth)
    # Refused at a fixed depth, so that the outcome never depends on how much stack is left.
    if deepest > _MAX_DEPTH:
        raise _Malformed
    try:
        content = json.loads(document.decode())
    except (ValueError, RecursionError):
        raise _Malformed from None
    return _dict(content)


def _dict(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Malformed
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise _Malformed
    return value


def _reduced(content: dict[str, Any], schema: pa.Schema) -> dict[str, Any] | None:
    entries = _entries(content, schema)
    index = _index(_list(content.get("index_columns")), content, schema)
    levels = {level for level in index if isinstance(level, str)}
    plain_object = _marks_strings(content.get("pandas_version"))
    columns = []
    for field in schema:
        entry = entries.get(field.name)
        if entry is not None:
            normal, says = _entry(entry, field, plain_object)
            if says or field.name in levels:
                columns.append(normal)
    labels = _labels(_list(content.get("column_indexes") or []))
    attributes = _dict(content.get("attributes") or {})
    others = {key: value for key, value in content.items() if key not in _DOCUMENT_KEYS and value}
    if not (index or columns or labels or attributes or others):
        return None
    reduced: dict[str, Any] = {"columns": columns, "index_columns": index, **others}
    if labels:
        reduced["column_indexes"] = labels
    if attributes:
        reduced["attributes"] = attributes
    return reduced


def _entries(content: dict[str, Any], schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """The entries of columns that are in the schema, by the name of their field, checked."""
    entries: dict[str, dict[str, Any]] = {}
    names = set(schema.names)
    for value in _list(content.get("columns")):
        entry = _dict(value)
        if "name" not in entry or not isinstance(entry.get("numpy_type"), str):
            raise _Malformed
        if not isinstance(entry.get("pandas_type"), str):
            raise _Malformed
        field_name = entry.get("field_name", entry["name"])
        if not isinstance(field_name, str):
            raise _Malformed
        _dict(entry.get("metadata") or {})
        if field_name in names:
            entries[field_name] = {**entry, "field_name": field_name}
    return entries


def _index(descriptors: list[Any], content: dict[str, Any], schema: pa.Schema) -> list[Any]:
    """How the index is stored, without levels whose column is not there; empty for a default index."""
    described = {entry.get("field_name", entry["name"]) for entry in content["columns"]}
    names = set(schema.names)
    kept: list[Any] = []
    for descriptor in descriptors:
        if isinstance(descriptor, str):
            if descriptor not in described:
                raise _Malformed
            if descriptor in names:
                kept.append(descriptor)
        else:
            kept.append(_range(_dict(descriptor)))
    if len(kept) == 1 and isinstance(kept[0], dict):
        only = kept[0]
        if only["name"] is None and only["start"] == 0 and only["step"] == 1:
            return []
    return kept


def _range(descriptor: dict[str, Any]) -> dict[str, Any]:
    if descriptor.get("kind") != "range" or "name" not in descriptor:
        raise _Malformed
    for key in ("start", "stop", "step"):
        if type(descriptor.get(key)) is not int:
            raise _Malformed
    return {key: descriptor[key] for key in ("kind", "name", "start", "stop", "step")}


def _labels(descriptors: list[Any]) -> list[dict[str, Any]]:
    """How the labels of columns are typed, level by level; empty for strings without a name."""
    kept = [dict(_dict(descriptor)) for descriptor in descriptors]
    for descriptor in kept:
        if "name" not in descriptor:
            raise _Malformed
        if _are_strings(descriptor):
            # pandas before 3 calls them object; both versions read this as their own kind of strings.
            descriptor["numpy_type"] = "object"
    if len(kept) == 1 and kept[0]["name"] is None and _are_strings(kept[0]):
        return []
    return kept


def _are_strings(descriptor: Mapping[str, Any]) -> bool:
    # Labels of mixed types have become strings on the way, and pyarrow leaves them so.
    kind = descriptor.get("pandas_type")
    texts = isinstance(kind, str) and (kind in {"string", "unicode"} or kind.startswith("mixed"))
    return texts and descriptor.get("numpy_type") in ("object", "str")


def _entry(entry: dict[str, Any], field: pa.Field, plain_object: bool) -> tuple[dict[str, Any], bool]:
    """An entry in its one form, and whether it says anything that the field does not."""
    kind = _plain_type(field)
    parameters = entry.get("metadata") or {}
    zone = parameters.get("timezone") if entry["pandas_type"] == "datetimetz" else None
    own_zone = kind.tz if isinstance(kind, pa.TimestampType) else None
    zone_differs = (
        isinstance(kind, pa.TimestampType) and isinstance(zone, str) and bool(zone) and zone != own_zone
    )

    dtype = entry["numpy_type"]
    if dtype.endswith("[pyarrow]") and pa.types.is_nested(kind):
        # pandas writes the type out, with names of children that have no meaning.
        dtype = f"{kind}[pyarrow]"
    dtype_differs = (
        _says_object(entry, field, plain_object) if dtype == "object" else _says_dtype(dtype, field)
    )
    more = {key: value for key, value in entry.items() if key not in _ENTRY_KEYS and value}
    more_parameters = {key: value for key, value in parameters.items() if key not in _SAID_BY_TYPE and value}
    if zone_differs or own_zone:
        more_parameters["timezone"] = zone if zone_differs else own_zone

    pandas_type, numpy_type = _usual(kind)
    normal = {
        **more,
        "field_name": field.name,
        "metadata": more_parameters or None,
        "name": entry["name"],
        "numpy_type": dtype if dtype_differs else numpy_type,
        "pandas_type": "datetimetz" if zone_differs else pandas_type,
    }
    extra = bool(more) or bool(more_parameters.keys() - {"timezone"})
    return normal, extra or zone_differs or dtype_differs or entry["name"] != field.name


def _says_dtype(dtype: str, field: pa.Field) -> bool:
    """Whether a dtype other than ``object`` is more than what Arrow gives for the field.

    Dtypes of numpy never are: the Arrow type decides (a column of integers with nulls becomes float64 or
    not).
    """
    kind = _plain_type(field)
    if _PLAIN_DTYPES.fullmatch(dtype):
        return False
    if isinstance(kind, pa.DictionaryType) and (dtype == "str" or dtype.partition("[")[0] == "string"):
        return False
    if isinstance(kind, pa.TimestampType) and dtype == f"datetime64[{kind.unit}, {kind.tz}]":
        return False
    return not (dtype == "str" and _is_string(kind))


def _says_object(entry: Mapping[str, Any], field: pa.Field, plain_object: bool) -> bool:
    """Whether dtype ``object`` is more than what Arrow gives for the field."""
    kind = _plain_type(field)
    if entry["numpy_type"] != "object":
        return False
    if _is_string(kind):
        return plain_object
    timed = isinstance(kind, (pa.TimestampType, pa.DurationType))
    return timed or bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _marks_strings(version: object) -> bool:
    """Whether ``object`` for strings was a choice: before pandas 3 it was all there was.

    A reduced document has no version, and holds ``object`` only where it was a choice.
    """
    major = re.match(r"\d+", version) if isinstance(version, str) else None
    return major is None or int(major[0][:6]) >= 3


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _plain_type(field: pa.Field) -> pa.DataType:
    """The type of a field; of an extension nothing is said, whether or not this process knows it."""
    extension = isinstance(field.type, pa.BaseExtensionType) or b"ARROW:extension:name" in (
        field.metadata or {}
    )
    return _OPAQUE if extension else field.type


_PANDAS_TYPES: tuple[tuple[Any, str], ...] = (
    (pa.types.is_null, "empty"),
    (pa.types.is_boolean, "bool"),
    (pa.types.is_date, "date"),
    (pa.types.is_time, "time"),
    (pa.types.is_decimal, "decimal"),
    (pa.types.is_dictionary, "categorical"),
)


def _usual(kind: pa.DataType) -> tuple[str, str]:
    """The ``pandas_type`` and ``numpy_type`` of an entry that has nothing to say about the dtype."""
    if pa.types.is_integer(kind):
        return str(kind), str(kind)
    if pa.types.is_floating(kind):
        name = f"float{kind.bit_width}"
        return name, name
    if isinstance(kind, pa.TimestampType):
        return "datetimetz" if kind.tz else "datetime", f"datetime64[{kind.unit}]"
    if isinstance(kind, pa.DurationType):
        return "object", f"timedelta64[{kind.unit}]"
    if _is_string(kind):
        return "unicode", "str"
    if isinstance(kind, pa.DictionaryType):
        return "categorical", str(kind.index_type)
    if pa.types.is_boolean(kind):
        return "bool", "bool"
    return next((name for test, name in _PANDAS_TYPES if test(kind)), "object"), "object"
