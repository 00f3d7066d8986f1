"""Searching a snapshot for rows that are to be erased, where parts of it may have been erased before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from fsvc.engine.blame import Key, KeyRange, WantedKeys, cell
from fsvc.engine.reading import SnapshotReader
from fsvc.errors import Corruption, InvalidUse
from fsvc.format.cells import match
from fsvc.format.manifest import Manifest
from fsvc.format.rowvalues import Counts
from fsvc.format.stored import stored_type

__all__ = ["KeySearch", "Search", "readable"]

Search: TypeAlias = Callable[[SnapshotReader], "Counts | None"]
"""The numbers of the rows of a snapshot that are to be erased, ascending; None where it lacks columns to tell by."""

_FEW = 64
"""Statistics are looked at for so many keys; more of them are likely to be everywhere."""


class KeySearch:
    """Finds rows by the values of key columns. What stands in a key chunk is looked up once for all snapshots.

    ``schema`` is that of a snapshot that has the key columns ``names``. ``keys`` are as
    :func:`fsvc.engine.blame.row_history` takes them, ``cells`` more keys: a column in stored form for each name.
    Raises InvalidUse for values that the columns cannot have.
    """

    def __init__(
        self,
        names: Sequence[str],
        schema: pa.Schema,
        keys: Sequence[Key] = (),
        cells: Sequence[pa.Array] | None = None,
    ) -> None:
        self._names = tuple(names)
        fields = [schema.field(name) for name in names]
        for key in keys:
            count = 1 if isinstance(key, KeyRange) else len(key)
            if count != len(names):
                raise InvalidUse(
                    f"the key has {len(names)} column(s), not {count}",
                    hint=f"give a value for each of {', '.join(names)}, with commas between",
                )
        self._ranges = [WantedKeys(fields, key) for key in keys if isinstance(key, KeyRange)]
        single = [key for key in keys if not isinstance(key, KeyRange)]
        self._few = [WantedKeys(fields, key) for key in single] + self._ranges
        kinds = [stored_type(field.type) for field in fields]
        self._cells = [
            pa.concat_arrays([pa.array([], kind), *(cell(key[i], field) for key in single), *more])
            for i, (field, kind) in enumerate(zip(fields, kinds, strict=True))
            for more in [[] if cells is None else [cells[i]]]
        ]
        self._by_statistics = cells is None and len(self._few) <= _FEW
        self._found: dict[bytes, Counts] = {}

    def __call__(self, reader: SnapshotReader) -> Counts | None:
        """The rows with these keys. Groups whose key chunks were erased are passed over."""
        schema = reader.manifest.schema
        columns = [schema.get_field_index(name) for name in self._names]
        if min(columns) < 0:
            return None
        found = [np.zeros(0, np.int64)]
        for group in reader.groups_left(columns):
            name = b"".join(reader.manifest.chunks[column, group].tobytes() for column in columns)
            rows = self._found.get(name)
            if rows is None:
                rows = self._found[name] = self._rows(reader, columns, group)
            found.append(rows + int(reader.starts[group]))
        return np.concatenate(found)

    def _rows(self, reader: SnapshotReader, columns: Sequence[int], group: int) -> Counts:
        kinds = [reader.manifest.stored_fields[column].type for column in columns]
        if self._by_statistics:
            addresses = [reader.manifest.identity(column, group).address for column in columns]
            found = reader.objects.find(b"".join(addresses))
            chunks = [entry for i in range(len(columns)) if (entry := found[i]) is not None]
            if len(chunks) == len(columns) and not any(key.may_be_in(chunks, kinds) for key in self._few):
                return np.zeros(0, np.int64)
        cells = [reader.chunk(column, group) for column in columns]
        hit = np.zeros(len(cells[0]), np.bool_)
        if len(self._cells[0]):
            try:
                keys = [
                    own if own.type == kind else own.cast(kind)
                    for own, kind in zip(self._cells, kinds, strict=True)
                ]
            except pa.ArrowException:
                raise InvalidUse(
                    f"the key was {', '.join(map(str, kinds))} once: these keys are no values of that",
                    hint="name the rows by --where",
                ) from None
            hit |= match(cells, keys) >= 0
        for key in self._ranges:
            hit[key.rows(cells)] = True
        return np.flatnonzero(hit)


def readable(reader: SnapshotReader) -> tuple[SnapshotReader, Counts]:
    """What of a snapshot was not erased, as a snapshot: whole groups, without columns whose categories are gone.

    Also gives where its rows stand in the whole.
    """
    manifest: Manifest = reader.manifest
    columns = [i for i in range(len(manifest.schema)) if _has_categories(reader, i)]
    groups = reader.groups_left(columns)
    starts = reader.starts
    rows = np.concatenate(
        [np.zeros(0, np.int64), *(np.arange(starts[group], starts[group + 1]) for group in groups)]
    )
    if len(groups) == len(manifest.rows) and len(columns) == len(manifest.schema):
        return reader, rows
    schema = pa.schema([manifest.schema.field(i) for i in columns], manifest.schema.metadata)
    part = replace(
        manifest,
        schema=schema,
        key=(),
        rows=tuple(manifest.rows[group] for group in groups),
        chunks=manifest.chunks[columns][:, groups],
        categories=tuple(identity for i in columns for identity in reader.category_identities(i)),
    )
    return SnapshotReader(reader.objects, part), rows


def _has_categories(reader: SnapshotReader, column: int) -> bool:
    """Whether no categories of a column were erased. Raises Corruption where they are lost."""
    for identity in reader.category_identities(column):
        if reader.objects.find(identity.address)[0] is None:
            error = reader.lost(identity.address, f"the categories of column {column}")
            if isinstance(error, Corruption):
                raise error
            return False
    return True
