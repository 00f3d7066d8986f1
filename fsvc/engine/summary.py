"""What is known of a snapshot's columns without reading their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from blake3 import blake3

from fsvc.engine.reading import SnapshotReader
from fsvc.engine.virtual import layout
from fsvc.format.canonical import ADDRESS_BYTES
from fsvc.format.index import Entry, unpack_meta

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


def column_summaries(reader: SnapshotReader, numbers: Sequence[int] | None = None) -> list[ColumnSummary]:
    """The columns of a snapshot, or some of them by position. Raises Corruption where an object is missing."""
    manifest = reader.manifest
    if numbers is None:
        numbers = reader.column_numbers(None)
    entries = reader.entries(numbers)
    statistics = _statistics(reader, numbers, entries)
    found = []
    for number, chunks in zip(numbers, entries, strict=True):
        field = manifest.schema.field(number)
        digest = blake3(manifest.chunks[number][:, ADDRESS_BYTES:].tobytes())
        for identity in reader.category_identities(number):
            digest.update(identity.digest)
        stored = sum(entry.length for entry in chunks)
        nulls, minimum, maximum = statistics.get(number, (None, None, None))
        found.append(
            ColumnSummary(
                field.name,
                str(field.type),
                field.nullable,
                digest.hexdigest(),
                stored,
                nulls,
                minimum,
                maximum,
            )
        )
    return found


def _statistics(
    reader: SnapshotReader, numbers: Sequence[int], entries: Sequence[Sequence[Entry]]
) -> dict[int, tuple[int | None, Any, Any]]:
    """Null count, minimum and maximum by column, as Parquet readers see them; nested ones have none."""
    import pyarrow.parquet as pq

    if not reader.manifest.rows or not numbers:
        return {}
    metadata = pq.read_metadata(pa.BufferReader(layout(reader, numbers, gap=0).footer))
    found = {}
    leaf = 0
    for number, chunks in zip(numbers, entries, strict=True):
        if not pa.types.is_nested(reader.manifest.schema.field(number).type):
            found[number] = _of_leaf(metadata, leaf)
        leaf += len(unpack_meta(chunks[0].meta))
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
        if known.has_min_max and bounded:
            try:
                low, high = known.min, known.max
            except (OverflowError, ValueError):
                # A date or time that Python's own classes cannot hold.
                bounded = False
                continue
            minimum = low if minimum is None else min(minimum, low)
            maximum = high if maximum is None else max(maximum, high)
        elif known.null_count < column.num_values:
            bounded = False
    return (nulls, minimum, maximum) if bounded else (nulls, None, None)
