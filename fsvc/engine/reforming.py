"""Bringing stored objects into their best form: chunks that are stored whole, though they differ little.

Commits make patches against the parent's snapshot where they look for them. Merges and other changes of single
chunks store them whole, and so does what was committed where the parent's chunks could not be read. Here every
commit is looked at again beside its first parent, and what is smaller as a patch becomes one, by the rules that
commits follow. Only objects that nothing stands on change their form: an object that others stand on must not come
to stand on more itself, or a commit that is being made meanwhile would miss it in the form that it counts on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

import pyarrow as pa

from fsvc.engine import history
from fsvc.engine.patching import Patcher
from fsvc.engine.progress import Progress, silent
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.refs import KINDS
from fsvc.engine.writing import NewObjects
from fsvc.errors import FsvcError
from fsvc.format import index

if TYPE_CHECKING:
    from fsvc.engine.objects import PackWriter
    from fsvc.engine.store import Store
    from fsvc.format.manifest import Manifest

__all__ = ["reform"]


class _Chunks(Sequence[pa.Array]):
    """The columns of a row group in stored form, each proven, and read when it is asked for."""

    def __init__(self, reader: SnapshotReader, group: int) -> None:
        self._reader = reader
        self._group = group
        self._read: dict[int, pa.Array] = {}

    def __len__(self) -> int:
        return len(self._reader.manifest.schema)

    @overload
    def __getitem__(self, column: int) -> pa.Array: ...
    @overload
    def __getitem__(self, column: slice) -> Sequence[pa.Array]: ...
    def __getitem__(self, column: int | slice) -> pa.Array | Sequence[pa.Array]:
        if isinstance(column, slice):
            return [self[i] for i in range(*column.indices(len(self)))]
        if column not in self._read:
            self._read[column] = self._reader.chunk(column, self._group)
        return self._read[column]


def reform(
    store: Store,
    candidates: set[bytes],
    standing: set[bytes],
    packs: PackWriter,
    progress: Progress = silent,
) -> set[bytes]:
    """Write those of some chunks as patches that are smaller so; give their addresses.

    ``candidates`` are addresses of objects that are stored whole and that nothing stands on; ``standing`` are
    those of all objects that something stands on, and takes in what the patches stand on.
    """
    found: set[bytes] = set()
    sink = NewObjects(store.objects, packs, patches=True)
    pairs = list(_changes(store)) if candidates else []
    for done, (older, newer) in enumerate(pairs):
        if candidates <= found:
            break
        try:
            found |= _patched(store, store.manifest(older), store.manifest(newer), candidates - found,
                              standing, found, sink, packs)  # fmt: skip
        except FsvcError:
            continue  # what is damaged stays as it is
        progress("changes", done + 1, len(pairs))
    return found


def _changes(store: Store) -> Iterator[tuple[str, str]]:
    """The snapshots before and after each change of a feature set, each pair once, newer ones first."""
    tips = [
        entry.commit
        for kind in KINDS
        for entry in store.refs.heads(kind).values()
        if entry.commit is not None
    ]
    seen: set[tuple[str, str]] = set()
    for _, record in history.ancestors(store, tips):
        before = store.commit(record.parents[0]).feature_sets if record.parents else {}
        for name in record.changes:
            old, new = before.get(name), record.feature_sets.get(name)
            if old is not None and new is not None and (pair := (old.snapshot, new.snapshot)) not in seen:
                seen.add(pair)
                yield pair


def _patched(
    store: Store,
    older: Manifest,
    newer: Manifest,
    candidates: set[bytes],
    standing: set[bytes],
    reformed: set[bytes],
    sink: NewObjects,
    packs: PackWriter,
) -> set[bytes]:
    """Write chunks of a snapshot as patches of the one before, where they are candidates and that is smaller."""
    columns, groups = newer.chunks.shape[:2]
    addresses = newer.addresses()
    there = {older.addresses()[i : i + 16] for i in range(0, len(older.addresses()), 16)}
    wanted: dict[int, list[int]] = {}
    for place in range(columns * groups):
        address = addresses[16 * place : 16 * place + 16]
        if address in candidates and address not in standing and address not in there:
            wanted.setdefault(place % groups, []).append(place // groups)
    if not wanted:
        return set()
    found: set[bytes] = set()
    cut = [newer.schema.get_field_index(name) for name in newer.cut.columns]
    patcher = Patcher(sink, older, newer.stored_fields, cut)
    reader = SnapshotReader(store.objects, newer)
    first_row = 0
    for group, rows in enumerate(newer.rows):
        identities = [newer.identity(column, group) for column in range(columns)]
        known = patcher.note(first_row, rows, identities)
        if group in wanted:
            chunks = _Chunks(reader, group)
            made, row_map = patcher.patches(first_row, chunks, identities, wanted[group], known)
            for column, chunk in made.items():
                address = identities[column].address
                if reformed.isdisjoint(chunk.patch.bases) and found.isdisjoint(chunk.patch.bases):
                    if row_map is not None:
                        sink.map_rows(row_map)
                    meta = index.pack_patch(chunk.leaves, chunk.patch)
                    packs.add(identities[column], meta, [chunk.data])
                    found.add(address)
                    standing.update(index.below(meta))
        first_row += rows
    return found
