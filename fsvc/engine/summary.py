"""What is known of a snapshot's columns without reading their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from blake3 import blake3

from fsvc.engine.reading import SnapshotReader
from fsvc.engine.virtual import layout
from fsvc.format.canonical import ADDRESS_BYTES

__all__ = ["ColumnSummary", "column_summaries"]


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """A column of a snapshot, from its manifest and the stored statistics.

    ``digest`` is the BLAKE3 over the digests of the column's chunks in order (and of its categories), in
    hex: equal digests under equal cuts mean equal columns. ``stored`` is bytes of its objects, which may
    be shared with other snapshots. ``nulls``, ``minimum`` and ``maximum`` are None where they are not
    recorded, as in nested columns; the latter two also where there is no value.
    """

    name: str
    type: str
    nullable: bool
    digest: str
    stored: int
    nulls: int | None
    minimum: Any
    maximum: Any


def column_summaries(reader: SnapshotReader) -> list[ColumnSummary]:
    """The columns of a snapshot, in order. Raises Corruption where an object is missing."""
    manifest = reader.manifest
    numbers = reader.column_numbers(None)
    entries = reader.entries(numbers)
    statistics = _statistics(reader)
    found = []
    for number, field in enumerate(manifest.schema):
        digest = blake3(manifest.chunks[number][:, ADDRESS_BYTES:].tobytes())
        for (column, _, _), identity in zip(manifest.category_paths, manifest.categories, strict=True):
            if column == number:
                digest.update(identity.digest)
        stored = sum(entry.length for entry in entries[number])
        nulls, minimum, maximum = statistics.get(field.name, (None, None, None))
        found.append(
            ColumnSummary(
                field.name, str(field.type), field.nullable, digest.hexdigest(), stored, nulls, minimum, maximum
            )
        )
    return found


def _statistics(reader: SnapshotReader) -> dict[str, tuple[int | None, Any, Any]]:
    """Null count, minimum and maximum of the columns that are not nested, as Parquet readers see them."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(pa.BufferReader(layout(reader, gap=0).footer))
    names = {metadata.schema.column(leaf).path: leaf for leaf in range(metadata.num_columns)}
    found = {}
    for field in reader.manifest.schema:
        leaf = names.get(field.name)
        if leaf is not None and not pa.types.is_nested(field.type):
            found[field.name] = _of_leaf(metadata, leaf)
    return found


def _of_leaf(metadata: Any, leaf: int) -> tuple[int | None, Any, Any]:
    nulls: int | None = 0
    minimum = maximum = None
    bounded = True
    for group in range(metadata.num_row_groups):
        column = metadata.row_group(group).column(leaf)
        known = column.statistics
        if known is None or not known.has_null_count:
            return None, None, None
        nulls = (nulls or 0) + known.null_count
        if known.has_min_max:
            low, high = known.min, known.max
            minimum = low if minimum is None else min(minimum, low)
            maximum = high if maximum is None else max(maximum, high)
        elif known.null_count < column.num_values:
            bounded = False
    return (nulls, minimum, maximum) if bounded else (nulls, None, None)
