"""What DuckDB sees otherwise than it was committed: docs/format.md, "Types", in sentences.

What fsvc gives back as Arrow is exact in any case; this is about SQL over a snapshot or a checkout.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fsvc.format.categories import is_list

__all__ = ["seen_inexactly"]

_MOST_DIGITS = 38
"""The widest decimal of DuckDB."""


def seen_inexactly(schema: pa.Schema) -> list[str]:
    """A sentence for every column that DuckDB sees inexactly; empty where there is none."""
    sentences = [sentence for field in schema for sentence in _of(field.type, field.name)]
    first: dict[str, str] = {}
    for name in schema.names:
        twin = first.setdefault(name.casefold(), name)
        if twin != name:
            sentences.append(f"DuckDB renames column {name!r}, which differs from {twin!r} only in case")
    return sentences


def _of(kind: pa.DataType, path: str) -> Iterator[str]:
    if isinstance(kind, pa.BaseExtensionType):
        yield from _of(kind.storage_type, path)
    elif pa.types.is_dictionary(kind):
        yield from _of(kind.value_type, path)
    elif pa.types.is_decimal(kind) and kind.precision > _MOST_DIGITS:
        yield f"DuckDB rounds column {path!r} to a double: it has no decimals of {kind.precision} digits"
    elif pa.types.is_duration(kind):
        yield f"DuckDB sees column {path!r}, a {kind}, as a number without its unit"
    elif pa.types.is_map(kind):
        yield from _of(kind.key_type, f"{path}.key")
        yield from _of(kind.item_type, f"{path}.value")
    elif is_list(kind):
        yield from _of(kind.value_type, f"{path}.element")
    elif pa.types.is_struct(kind):
        for child in kind.fields:
            yield from _of(child.type, f"{path}.{child.name}")
