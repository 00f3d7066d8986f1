"""Repositories as somebody makes them who means harm: packs, checksums and ids are right, what they say is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

import fsvc
from fsvc.engine.objects import PackWriter
from fsvc.format import index, pages
from fsvc.format.canonical import Identity
from fsvc.repository import Repository

Objects = Mapping[bytes, tuple[Identity, bytes, bytes]]
"""Identity, metadata and bytes of objects by address."""

WORK: dict[str, Callable[[Repository], object]] = {
    "query": lambda repository: repository.sql("from t").fetchall(),
    "verify": lambda repository: repository.verify(deep=True),
    "repair": lambda repository: repository.repair(),
    "repack": lambda repository: repository.repack(grace=0),
    "gc": lambda repository: repository.gc(delete=True, grace=0),
}
"""What people do with a repository that they were handed, with a feature set t."""


def forge(root: Path, replaced: Objects) -> None:
    """Put objects in the place of others, or beside them, with packs, checksums and an index that are right."""
    store = fsvc.open(root).store
    objects = {
        entry.address: (Identity(entry.address, entry.digest), entry.meta, store.objects.stored(entry))
        for table in store.objects.tables()
        for entry in table.entries()
    }
    writer = PackWriter(store.storage)
    for identity, meta, data in {**objects, **replaced}.values():
        writer.add(identity, meta, [data])
    entries = writer.finish()
    for folder in ("index", "packs"):
        for file in (root / folder).iterdir():
            if file.stem not in writer.packs:
                file.unlink()
    store.objects.publish(index.write_table(entries))


def pages_of(array: pa.Array) -> tuple[bytes, bytes]:
    """The metadata and bytes of an object with pages."""
    chunk = pages.plain([array], [pa.field("x", array.type)])[0]
    return index.pack_meta(chunk.leaves), b"".join(chunk.pages)
