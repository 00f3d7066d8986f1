"""Histories and indexes as long as a workload wants them, written directly: committing each would take hours.

What is written is what commits write, in all but the packs: manifests name chunks that are nowhere, since no
workload on these repositories reads a table.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from blake3 import blake3

from benchmarks.bench import NAME
from fsvc.engine.compaction import compact
from fsvc.engine.files import commit_key, index_key, manifest_key
from fsvc.engine.objects import Objects
from fsvc.engine.refs import RefEntry
from fsvc.engine.store import Store, create
from fsvc.engine.writing import write_snapshot
from fsvc.format import index
from fsvc.format.commit import CommitRecord, SetVersion
from fsvc.format.index import Entry
from fsvc.format.manifest import compress
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage

__all__ = ["long_history", "simulated_index"]

_TIME = "2026-11-01T09:30:00.000000Z"
_META_BYTES = 120


def long_history(root: Path, commits: int) -> None:
    """Make ``root`` a repository whose branch has so many commits, each of one changed chunk of two."""
    storage = LocalStorage(root, create=True)
    create(storage, time=_TIME)
    table = pa.table({"id": range(20), "value": range(20)})
    first = write_snapshot(table.schema, table.to_batches(), key=["id"]).manifest
    parent: CommitRecord | None = None
    for number in range(1, commits + 1):
        chunks = first.chunks.copy()
        name = number.to_bytes(8, "little")
        chunks[1, 0] = np.frombuffer(xxhash.xxh3_128_digest(name) + blake3(name).digest(), np.uint8)
        manifest = replace(first, chunks=chunks)
        parent = CommitRecord(
            {NAME: SetVersion(manifest.id, number)},
            () if parent is None else (parent.id,),
            "Ada <ada@example.org>",
            _TIME,
            f"change {number}",
            {},
            {NAME: {"rows": 20, "columns": 2, "chunks": 2, "new_chunks": 1, "new_bytes": 80}},
        )
        entry = RefEntry(
            "heads", "main", number, parent.id, uuid.uuid4().hex, _TIME, parent.author, f"commit: {number}"
        )
        identity = manifest.identity(1, 0)
        stored = Entry(
            identity.address,
            identity.digest,
            blake3(b"pack" + name).hexdigest(),
            8,
            80,
            0,
            bytes(_META_BYTES),
        )
        own = index.write_table([stored], compress=True)
        for key, data in (
            (manifest_key(manifest.id), compress(manifest.encoded, None)),
            (commit_key(parent.id), parent.encoded),
            (entry.key, entry.to_bytes()),
            (index_key(index.table_id(own)), own),
        ):
            path = root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    store = Store(storage)
    store.objects.refresh()
    for _ in range(2):  # as the next two commits do
        compact(store)


def simulated_index(chunks: int) -> Objects:
    """The index of a repository with so many stored chunks, in one file, as a repack leaves it."""
    random = np.random.default_rng(7)
    high = np.sort(random.integers(0, 1 << 64, chunks, np.uint64))
    low = random.integers(0, 1 << 64, chunks, np.uint64)
    packs = [blake3(number.to_bytes(4, "little")).hexdigest() for number in range(1 + chunks // 10_000)]
    columns = (
        high,
        low,
        np.arange(chunks, dtype=np.uint64),
        np.full(chunks, 1, np.uint64),
        low,
        np.arange(3, 3 * chunks + 3, 3, dtype=np.uint64),
        np.arange(chunks) // 10_000,
    )
    meta = bytes((index.FULL, 0, 0))
    data = index.assemble(sorted(packs), columns, bytes(32 * chunks), meta * chunks, compress=False)
    storage = MemoryStorage()
    storage.put_batch({index_key(index.table_id(data)): data})
    return Objects(storage)
