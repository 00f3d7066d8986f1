"""Merging index files, so that however many commits there are, few files say where objects lie.

Every commit that stores objects writes an index file. Files are merged by size: as soon as eight are about
equally large, these and all smaller ones become one. So an entry is copied a few times in all, and a repository has
some dozens of index files.

There are no locks, and two processes may merge at the same time. What keeps them from deleting each other's work:
a file is deleted only where another one that is listed *covers* it, names all that it names, and is the greater of
the two in one order that all processes agree on. The cover is made durable once more first, since whoever wrote
it may not have come so far; and it was there before this merge began, so that who listed the index before it was
written has had time to read the others. What index files say of packs that are dead does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fsvc.engine.catalogue import Catalogue
from fsvc.engine.objects import outside
from fsvc.engine.store import PATCHES, Store
from fsvc.errors import FsvcError
from fsvc.format.index import ObjectTable, address_words, merge_tables

__all__ = ["compact", "delete_covered", "merge"]

_FILES = 8
"""So many files of about one size are merged; a size is about another one if it is less than so many times it."""
_SMALL = 1 << 12
_MOST_OBJECTS = 1 << 18
"""Files of more objects are left to :func:`fsvc.engine.repack.repack`: a commit should not copy them."""


def compact(store: Store) -> None:
    """Merge index files where there are many. For after a commit, which it never fails."""
    try:
        files = store.objects.files()
        if not _crowded(files):
            return
        store.objects.refresh()
        delete_covered(store)
        crowded = _crowded(store.objects.files())
        if crowded:
            merge(store, crowded)
    except FsvcError:
        return


def _crowded(files: Mapping[str, ObjectTable]) -> dict[str, ObjectTable]:
    """The files to merge: those of the largest size of which there are too many, and all smaller ones."""
    sizes = {key: (max(1, len(table)).bit_length() - 1) // 3 for key, table in files.items()}
    small = [size for key, size in sizes.items() if len(files[key]) <= _MOST_OBJECTS]
    full = [size for size in set(small) if small.count(size) >= _FILES]
    if not full:
        return {}
    return {
        key: table for key, table in files.items() if sizes[key] <= max(full) and len(table) <= _MOST_OBJECTS
    }


def merge(store: Store, files: Mapping[str, ObjectTable]) -> str:
    """Write one index file of all that some name, durably; nothing is deleted. Gives its key."""
    objects = store.objects
    data = merge_tables(
        list(files.values()), without=objects.dead_packs, compress=PATCHES in store.info.features
    )
    return objects.publish(data)


def delete_covered(store: Store) -> int:
    """Delete the index files that others cover, of those that are known; how many those were."""
    objects = store.objects
    files = objects.files()
    covers = _covers(files, objects.dead_packs)
    store.storage.put_batch({key: files[key].data for key in covers.values() if key is not None})
    for key in covers:
        store.storage.delete(key)
    if covers:
        objects.forget(covers)
    return len(covers)


def _covers(files: Mapping[str, ObjectTable], dead: frozenset[str]) -> dict[str, str | None]:
    """For each file that another one covers, one that does; None where nothing that it says counts."""
    counting = {key: outside(table, dead) for key, table in files.items()}
    # Of two that say the same, the one stays that says nothing of dead packs besides.
    ranks = {key: (len(counting[key]), len(counting[key]) - len(files[key]), key) for key in files}
    ordered = sorted(files, key=lambda key: ranks[key])
    found: dict[str, str | None] = {key: None for key in ordered if not len(counting[key])}
    ordered = [key for key in ordered if key not in found]
    for i, others in _sharing([counting[key] for key in ordered]).items():
        # The greatest first: what covers that one would cover this one too, so it stays.
        mine = counting[ordered[i]]
        cover = next((k for k in sorted(others, reverse=True) if counting[ordered[k]].covers(mine)), None)
        if cover is not None:
            found[ordered[i]] = ordered[cover]
    return found


def _sharing(tables: Sequence[ObjectTable]) -> dict[int, list[int]]:
    """For each table, by its number, those after it that name its first object too."""
    first = b"".join(table.entry(0).address for table in tables)
    found: dict[int, list[int]] = {}
    small = [i for i, table in enumerate(tables) if len(table) <= _SMALL]
    catalogue = Catalogue([tables[i] for i in small])
    for places, numbers in catalogue.find(first) if small else ():
        for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
            found.setdefault(place, []).append(small[catalogue.table_of(number)])
    for i, table in enumerate(tables):
        if len(table) > _SMALL:
            for place in np.flatnonzero(table.find(*address_words(first)) >= 0).tolist():
                found.setdefault(place, []).append(i)
    return {i: [other for other in others if other > i] for i, others in found.items()}
