"""Copying objects from one pack to another, as they are."""

from __future__ import annotations

from collections.abc import Collection

from fsvc.engine.files import pack_key
from fsvc.engine.objects import PackWriter
from fsvc.engine.store import Store
from fsvc.errors import FsvcError
from fsvc.format import index
from fsvc.format.canonical import Identity
from fsvc.format.index import Entry

__all__ = ["copy_objects"]


def copy_objects(store: Store, name: str, entries: Collection[Entry], writer: PackWriter) -> bool:
    """Copy objects of a pack as they are; False where one of them is damaged."""
    try:
        data = memoryview(store.storage.get(pack_key(name)))
    except FsvcError:
        return False
    whole = True
    for entry in entries:
        own = data[entry.offset : entry.offset + entry.length]
        if index.checksum(entry.address, entry.digest, entry.meta, [own]) == entry.checksum:
            writer.add(Identity(entry.address, entry.digest), entry.meta, [own])
        else:
            whole = False
    return whole
