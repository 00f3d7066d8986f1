"""Collection of garbage: what no ref reaches is deleted, in two phases, and nothing else.

Roots are all entries of all refs, those of deleted branches and tags included, and the snapshots of working files
that the caller names. What they reach stays: commits with their ancestors, manifests with those that they are stored
against, objects with all that they stand on. Other files may go once they are a day old: commits, manifests, and
packs. A pack that holds garbage and other things is rewritten first, if it is worth it.

Deletion is that of :mod:`fsvc.engine.condemned`: files are condemned, left in peace for a grace, looked at once more,
and deleted. Both looks keep one rule: **nothing that stays stands on anything that goes**. What stays is whatever a ref
reaches, and every file that is not on the list, reached or not, condemned by another list or not; the dead alone do
not count. Hence:

*A commit in the making* looks at the lists after all its files are durable and before its ref entry. A list
that names one of them is either young, and the last look, half a grace later, sees the ref; or it is called off;
or it is decided, and the commit is made again. It need not look for what its files stand on: they stayed, so that did
too.

*A ref that comes to stand on an old commit* which no ref reaches any more (a branch that is begun at an id) is
likewise safe when that one file is.

*A commit or manifest that is made again* has the name it had. A commit whose id is dead is refused; it has another id
at any other time. A manifest is a function of the table alone, and the same table may come at any time; while its
name is on a list, it is written as another copy under a random name, which no deletion that still goes on can mean.

*An index file that is lost* makes packs look forgotten. So before anything is condemned or dead, every object that a
root needs has to be named by an index and to lie in a pack that is there; if not, nothing is deleted at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from fsvc.engine.catalogue import Flags, Positions
from fsvc.engine.clock import timestamp
from fsvc.engine.condemned import Lists, condemn
from fsvc.engine.copying import copy_objects
from fsvc.engine.deletion import Packs, delete_dead
from fsvc.engine.erased import Unfinished
from fsvc.engine.erasing import erase_again, records_now
from fsvc.engine.files import commit_of, pack_key, pack_of
from fsvc.engine.objects import PackWriter
from fsvc.engine.progress import Progress, silent
from fsvc.engine.reachability import Reach
from fsvc.engine.standing import needed_packs
from fsvc.engine.store import PATCHES, Store
from fsvc.errors import Corruption, KeyAbsent
from fsvc.format import index
from fsvc.format.index import Entry

__all__ = ["GC_GRACE_SECONDS", "Collected", "collect"]

GC_GRACE_SECONDS = 14 * 24 * 3600
"""How long garbage is left in peace, unless told."""

_T = TypeVar("_T")

_PURPOSE = "gc"
_YOUNG_SECONDS = 24 * 3600
"""What is younger may belong to a commit in the making, and is left alone."""
_WASTED = 0.25
"""Packs are rewritten where at least this part of their bytes is garbage."""
_MOST_LOOKS = 4


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did, or would do.

    ``commits``, ``manifests``, ``objects`` and ``packs`` are those that no ref reaches and that were condemned now;
    ``garbage_bytes`` are theirs, ``rewritten`` the objects that were copied out of the packs, and ``young`` the
    files that no ref reaches but that are too young. ``waiting`` and ``waiting_bytes`` are of files that were
    condemned before or now, and whose ``grace`` (seconds, of what is condemned now) is not over. ``freed_bytes``
    are those of files that were deleted, ``debris_bytes`` those that killed processes had left. ``damaged`` are packs
    that were left as they are. ``deleted`` is whether anything was done at all. ``unfinished`` are purges that did
    not come to their end: a collection does not finish them.
    """

    deleted: bool
    grace: int
    commits: int
    manifests: int
    objects: int
    packs: int
    garbage_bytes: int
    rewritten: int
    young: int
    waiting: int
    waiting_bytes: int
    freed_bytes: int
    debris_bytes: int
    damaged: tuple[str, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()


def collect(
    store: Store,
    *,
    delete: bool = False,
    grace: int = GC_GRACE_SECONDS,
    snapshots: Iterable[str] = (),
    progress: Progress = silent,
) -> Collected:
    """Find what no ref reaches; with ``delete`` condemn it, and delete what an earlier collection condemned.

    ``grace`` is how many seconds what is condemned now is left in peace. It has to be longer than any read or commit
    takes that goes on meanwhile; 0 only where nobody else is at work, and then everything goes at once. ``snapshots``
    are ids to keep besides, such as those of working files.

    Raises Corruption where anything that a ref reaches is damaged or missing: then nothing is deleted.
    """
    kept = frozenset(snapshots)

    def needed(store: Store, keys: frozenset[str]) -> set[str]:
        return _steadily(store, lambda: _needed(store, keys, kept))

    known = records_now(store)
    young = min(grace, _YOUNG_SECONDS)
    freed = delete_dead(store, _PURPOSE, needed) if delete else 0
    plan = _steadily(store, lambda: _Plan(store, kept, young, progress))
    debris = store.storage.sweep(young, delete=delete)
    rewritten, damaged = 0, set[str]()
    if delete:
        rewritten, damaged = _condemn(store, plan, grace, progress)
        if not grace:
            freed += delete_dead(store, _PURPOSE, needed)
        erase_again(store, known)
    waiting = _waiting(store)
    return Collected(
        delete, grace,
        sum(commit_of(key) is not None for key in plan.files), sum(commit_of(key) is None for key in plan.files),
        plan.garbage_objects, len(plan.leaving), plan.garbage_bytes, rewritten, plan.young, *waiting, freed, debris,
        tuple(sorted(damaged)), store.objects.unfinished(),
    )  # fmt: skip


def _steadily(store: Store, look: Callable[[], _T]) -> _T:
    """Look at the store; once more where files were deleted for good meanwhile, which is no damage."""
    for _ in range(_MOST_LOOKS):
        dead = store.objects.dead_keys
        try:
            return look()
        except Corruption:
            store.objects.refresh()
            if store.objects.dead_keys == dead:
                raise
    return look()


def _needed(store: Store, keys: frozenset[str], snapshots: frozenset[str]) -> set[str]:
    """Those of some files on which anything stands that stays."""
    reach = Reach(store, snapshots)
    reach.add(reach.files - keys)
    reach.finish()
    packs = Packs.of(store)
    _check(reach, packs)
    dying = {name for key in keys if (name := pack_of(key))} & packs.there
    needed = needed_packs(
        reach.catalogue, packs.staying | dying, dying, packs.waiting, garbage=~reach.reached
    )
    return {key for key in keys if reach.holds(key)} | {pack_key(name) for name in needed}


def _check(reach: Reach, packs: Packs) -> None:
    """Raise Corruption where an object that is needed lies in no pack that is there."""
    _, group = reach.catalogue.copies()
    there = np.zeros(len(reach.catalogue), np.bool_)
    for name, numbers in reach.catalogue.by_pack().items():
        there[numbers] = name in packs.there
    covered = np.zeros(len(group), np.bool_)
    covered[group[there]] = True
    lost = np.flatnonzero(reach.needed & ~covered[group])
    if len(lost):
        entry = reach.catalogue.entry(int(lost[0]))
        raise Corruption(
            f"object {entry.address.hex()}, which is needed, is missing: there is no pack {entry.pack}",
            hint="nothing was deleted; run 'fsvc verify' to see what it affects",
        )


def _waiting(store: Store) -> tuple[int, int]:
    """How many files are condemned as garbage and still there, and their bytes."""
    lists = Lists(store.storage)
    lists.refresh()
    sizes = []
    for key in {key for one in lists.condemned.values() if one.purpose == _PURPOSE for key in one.keys}:
        try:
            sizes.append(store.storage.size(key))
        except KeyAbsent:
            continue
    return len(sizes), sum(sizes)


class _Plan:
    """What is garbage, and which packs are to go for it."""

    def __init__(self, store: Store, snapshots: frozenset[str], young: int, progress: Progress) -> None:
        self._store = store
        self.snapshots = snapshots
        self.reach = reach = Reach(store, snapshots, progress=progress)
        listed = store.objects.leaving_keys
        others = {key for key in reach.files if not reach.holds(key)}
        old = {key for key in others - listed if self._age(key) >= young}
        self.young = len(others - listed - old)
        reach.add(reach.files - old)
        reach.finish()
        self.files = {key for key in old if not reach.holds(key)}
        """Commits and manifests that are garbage."""
        self.packs = packs = Packs.of(store)
        _check(reach, packs)
        sizes = {name: entry.size for entry in store.storage.list("packs/") if (name := pack_of(entry.key))}
        self._by_pack = {n: numbers for n, numbers in reach.catalogue.by_pack().items() if n in packs.staying}
        lengths = np.concatenate([np.empty(0, np.uint64), *(t.lengths for t in reach.catalogue.tables)])
        unnamed = {name for name in packs.staying - self._by_pack.keys() if name in sizes}
        garbage = {name: numbers[~reach.reached[numbers]] for name, numbers in self._by_pack.items()}
        wasted = {name: int(lengths[numbers].sum()) for name, numbers in garbage.items()}
        worth = {
            name for name, bytes_ in wasted.items()
            if len(garbage[name]) and name in sizes and bytes_ >= _WASTED * int(lengths[self._by_pack[name]].sum())
        }  # fmt: skip
        self.leaving = {name for name in worth | unnamed if self._age(pack_key(name)) >= young}
        """Packs that hold much garbage, or nothing that an index names."""
        self.garbage_objects = sum(len(garbage[name]) for name in self.leaving if name in garbage)
        self.garbage_bytes = sum(sizes[n] if n in unnamed else wasted[n] for n in self.leaving) + sum(
            self._size(key) for key in self.files
        )
        self.copied = self._chosen()

    def _age(self, key: str) -> float:
        try:
            return self._store.storage.age(key)
        except KeyAbsent:
            return 0.0

    def _size(self, key: str) -> int:
        try:
            return self._store.storage.size(key)
        except KeyAbsent:
            return 0

    def _chosen(self) -> dict[str, list[Entry]]:
        """The objects to be written anew, by the pack that they are copied from, in their order there.

        These are what is needed and what other packs stand on, garbage or not, where there is no other copy.
        """
        catalogue = self.reach.catalogue
        stays = np.zeros(len(catalogue), np.bool_)
        for name, own in self._by_pack.items():
            stays[own] = name not in self.leaving
        _, group = catalogue.copies()
        elsewhere = np.zeros(len(group), np.bool_)
        elsewhere[group[stays]] = True
        wanted: Flags = self.reach.closed(self.reach.reached | stays) & ~elsewhere[group]
        depths = np.concatenate([np.empty(0, np.uint8), *(table.depths() for table in catalogue.tables)])
        numbers: Positions = np.concatenate(
            [np.empty(0, np.int64), *(self._by_pack[n] for n in sorted(self.leaving) if n in self._by_pack)]
        )
        numbers = numbers[wanted[numbers]]
        # Of several copies the one that stands on the least; each pack's in order of place.
        first = numbers[np.argsort(depths[numbers], kind="stable")]
        _, chosen = np.unique(group[first], return_index=True)
        picked = np.zeros(len(catalogue), np.bool_)
        picked[first[chosen]] = True
        found = {
            name: [
                catalogue.entry(number)
                for number in self._by_pack[name][picked[self._by_pack[name]]].tolist()
            ]
            for name in sorted(self.leaving)
            if name in self._by_pack
        }
        return {name: entries for name, entries in found.items() if entries}


def _condemn(store: Store, plan: _Plan, grace: int, progress: Progress) -> tuple[int, set[str]]:
    """Copy what is needed out of packs that are to go, and condemn what is garbage."""
    compress = PATCHES in store.info.features
    damaged: set[str] = set()
    writer = PackWriter(store.storage, compress=compress, own=True)
    try:
        done, total = 0, sum(map(len, plan.copied.values()))
        for name, entries in plan.copied.items():
            if not copy_objects(store, name, entries, writer):
                damaged.add(name)
            done += len(entries)
            progress("objects", done, total)
        written = writer.finish()
    except BaseException:
        writer.reclaim()
        raise
    if written:
        store.objects.publish(index.write_table(written, compress=compress))
    leaving = plan.leaving - damaged
    # Looked at anew: others may have come to stand on what was garbage when this began.
    keys = {*plan.files, *(pack_key(name) for name in leaving)}
    if keys:
        keys -= _steadily(store, lambda: _needed(store, frozenset(keys), plan.snapshots))
    if keys:
        condemn(store.storage, keys, purpose=_PURPOSE, grace=grace, time=timestamp())
        store.objects.refresh()
    return len(written), damaged
