"""Searching all versions of a feature set for rows for which a condition in SQL holds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from fsvc.engine.blame import KeyRange
from fsvc.engine.erasing import Searcher
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.searching import KeySearch, Search, readable
from fsvc.engine.store import Store
from fsvc.engine.surveying import versions_of
from fsvc.errors import Corruption, GoneError, InvalidUse
from fsvc.format.manifest import Manifest
from fsvc.format.rowvalues import Counts
from fsvc.format.stored import stored_type
from fsvc.query.filtering import matching_rows

__all__ = ["condition_search", "row_search"]


def row_search(
    name: str, keys: Sequence[Any], between: tuple[Any, Any] | None, where: str | None
) -> Searcher:
    """What finds rows of a feature set: those of some keys, of a range of keys, or for which a condition holds.

    Raises InvalidUse where both are given, or neither.
    """
    if bool(keys or between) == (where is not None):
        raise InvalidUse("rows are named by keys, or by a condition", hint="give one of them")
    if where is not None:
        return lambda store: condition_search(store, name, where)
    wanted: list[Any] = [key if isinstance(key, tuple) else (key,) for key in keys]
    if between is not None:
        wanted.append(KeyRange(*between))

    def by_key(store: Store) -> KeySearch:
        for snapshot in reversed(versions_of(store, name)):
            try:
                manifest = store.manifest(snapshot)
            except (GoneError, Corruption):
                continue  # what has to be there is looked at by who searches
            if manifest.key:
                return KeySearch(manifest.key, manifest.schema, wanted)
        raise InvalidUse(f"feature set {name!r} has no key", hint="name its rows by a condition: --where")

    return by_key


def condition_search(store: Store, name: str, condition: str) -> Search:
    """A search for rows for which a condition holds in any version of a feature set.

    Of a feature set with a key, rows are followed by it: whatever holds in one version, the rows of that key are
    found in all. Where an old version lacks a column that the condition names and none of these keys is in it, it
    counts as not searched. Raises NotFound for an unknown feature set, InvalidUse for a condition that no version
    understands.
    """
    manifests: dict[str, Manifest] = {}
    for snapshot in versions_of(store, name):
        with suppress(GoneError, Corruption):  # what has to be there is looked at by who searches
            manifests[snapshot] = store.manifest(snapshot)
    keyed = next((manifest for manifest in reversed(manifests.values()) if manifest.key), None)
    found: dict[str, Counts | None] = {}
    cells: list[list[pa.Array]] = [[] for _ in (keyed.key if keyed else ())]
    failed: InvalidUse | None = None
    for snapshot, manifest in manifests.items():
        try:
            reader, places = readable(SnapshotReader(store.objects, manifest))
            rows = matching_rows(store, reader, reader.manifest.id, condition)
        except InvalidUse as error:
            failed = error
            found[snapshot] = None
            continue
        except Corruption:
            found[snapshot] = None  # of a commit that a crash left, or the whole purge will stop at it
            continue
        found[snapshot] = places[rows]
        for i, column in enumerate(keyed.key if keyed else ()):
            number = reader.manifest.schema.get_field_index(column)
            if number < 0:
                break
            kind = stored_type(keyed.schema.field(column).type) if keyed else None
            try:
                cells[i].append(reader.cells(number, rows).cast(kind))
            except pa.ArrowException:
                old = reader.manifest.schema.field(column).type
                raise InvalidUse(
                    f"key column {column!r} was {old} once, with values that are none of {kind}",
                    hint="name the rows by --key",
                ) from None
    if failed is not None and all(rows is None for rows in found.values()):
        raise failed
    if keyed is not None:
        kinds = [stored_type(keyed.schema.field(column).type) for column in keyed.key]
        joined = [
            pa.concat_arrays([pa.array([], kind), *own]) for own, kind in zip(cells, kinds, strict=True)
        ]
        by_key = KeySearch(keyed.key, keyed.schema, cells=joined)

        def follow(reader: SnapshotReader) -> Counts | None:
            rows = by_key(reader)
            # Where the condition could not be asked, it may mean rows of other keys.
            unclear = found.get(reader.manifest.id, ()) is None and rows is not None and not len(rows)
            return None if unclear else rows

        return follow

    def search(reader: SnapshotReader) -> Counts | None:
        return found.get(reader.manifest.id, np.zeros(0, np.int64))

    return search
