"""Deleting what is dead, and what there is besides: what all that deletes has in common.

:mod:`fsvc.engine.condemned` decides which files are dead. Here they are deleted, after the index files were written
anew without what lies in dead packs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from fsvc.engine.clock import timestamp
from fsvc.engine.compaction import delete_covered, merge
from fsvc.engine.condemned import Lists, forget, judge
from fsvc.engine.files import pack_of
from fsvc.engine.store import Store
from fsvc.errors import KeyAbsent

__all__ = ["Packs", "delete_dead"]


@dataclass(frozen=True, slots=True)
class Packs:
    """The packs of a store: those that stay, as far as anybody knows, and those that are condemned."""

    staying: frozenset[str]
    waiting: frozenset[str]

    @property
    def there(self) -> frozenset[str]:
        """All that are there and not dead."""
        return self.staying | self.waiting

    @classmethod
    def of(cls, store: Store) -> Packs:
        """Look at a store."""
        lists = Lists(store.storage)
        there = frozenset(name for key in store.storage.keys("packs/") if (name := pack_of(key)))
        lists.refresh()
        there -= lists.dead_packs
        return cls(there - lists.condemned_packs, there & lists.condemned_packs)


def delete_dead(
    store: Store, purpose: str, needed: Callable[[Store, frozenset[str]], Collection[str]]
) -> int:
    """Delete what was condemned and is not needed after all, where the grace is over; how many bytes.

    ``needed`` looks at the store anew and gives those of some files that have to stay.
    """
    freed = 0
    for sentence in judge(store.storage, purpose, lambda keys: needed(store, keys), time=timestamp()):
        store.objects.refresh()
        naming = {
            key: table
            for key, table in store.objects.files().items()
            if not store.objects.dead_packs.isdisjoint(table.packs)
        }
        if naming:
            merge(store, naming)
            delete_covered(store)
        # By name: commits first, then manifests, then packs, so that what is left has all that it stands on.
        for key in sorted(sentence.keys):
            try:
                freed += store.storage.size(key)
            except KeyAbsent:
                continue
            store.storage.delete(key)
        forget(store.storage, sentence, lambda keys: _named(store, keys))
    return freed


def _named(store: Store, keys: frozenset[str]) -> bool:
    """Whether an index file names one of some packs."""
    store.objects.refresh()
    packs = {name for key in keys if (name := pack_of(key))}
    return any(not packs.isdisjoint(table.packs) for table in store.objects.files().values())
