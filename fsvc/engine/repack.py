"""Repacking: small packs and index files become large ones, and objects take their best form. No id changes.

What is new is written first: packs, then an index file that names them. Only then the packs that nothing needs
any more are condemned (:mod:`fsvc.engine.condemned`), and a later repack deletes them when their grace is over. A
crash or an interrupt between two steps leaves objects that lie in two places, and the next repack goes on from there;
what was written before the index file is deleted at once where the process still can.

A pack that holds a damaged object is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from fsvc.engine.catalogue import Catalogue
from fsvc.engine.clock import timestamp
from fsvc.engine.compaction import delete_covered, merge
from fsvc.engine.condemned import GRACE_SECONDS, Lists, condemn
from fsvc.engine.copying import copy_objects
from fsvc.engine.deletion import Packs, delete_dead
from fsvc.engine.erased import Unfinished
from fsvc.engine.erasing import erase_again, records_now
from fsvc.engine.files import pack_key, pack_of
from fsvc.engine.objects import PACK_BYTES, PackWriter
from fsvc.engine.progress import Progress, silent
from fsvc.engine.reforming import reform
from fsvc.engine.standing import needed_packs
from fsvc.engine.store import PATCHES, Store
from fsvc.errors import KeyAbsent
from fsvc.format import index
from fsvc.format.extension import fits
from fsvc.format.index import Entry

__all__ = ["Repacked", "repack"]

_PURPOSE = "repack"
_SMALL = PACK_BYTES // 2
"""Packs of fewer bytes are put together."""
_WORTH_A_PATCH = 1 << 10
"""Smaller objects are not tried as patches, in bytes."""
_WASTED = 0.5
"""Packs are rewritten where at least this part of their bytes lies in other packs too."""


@dataclass(frozen=True, slots=True)
class Repacked:
    """What a repack did, or would do.

    ``bytes_before`` and ``bytes_after`` are those of packs and index files, without what was condemned: what is
    taken once that is deleted. ``waiting_bytes`` lie in packs that repacks condemned, until ``grace`` seconds have
    passed; ``freed_bytes`` are those of packs and index files that were deleted. ``rewritten`` objects were copied, of
    which ``reformed`` became patches. ``damaged`` are packs that were left as they are. Of a dry run, what comes
    after is an estimate. ``unfinished`` are purges that did not come to their end: a repack does not finish them.
    """

    dry_run: bool
    grace: int
    packs_before: int
    packs_after: int
    index_files_before: int
    index_files_after: int
    bytes_before: int
    bytes_after: int
    waiting_bytes: int
    freed_bytes: int
    rewritten: int
    reformed: int = 0
    damaged: tuple[str, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The files of a store by key, and how many bytes each has."""

    packs: Mapping[str, int]
    index: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.packs.values()) + sum(self.index.values())


def repack(
    store: Store,
    *,
    grace: int = GRACE_SECONDS,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Repacked:
    """Put small packs and index files together, and delete what an earlier repack condemned.

    ``grace`` is how many seconds the old packs are left in peace. It has to be longer than any read or commit takes
    that goes on meanwhile; 0 only where nobody else is at work.

    Raises StorageError where the store fails, Corruption where an index file is damaged.
    """
    known = records_now(store)
    before = _sizes(store)
    freed = 0 if dry_run else delete_dead(store, _PURPOSE, _needed)
    plan = _Plan(store, _sizes(store))
    if dry_run:
        return _report(store, before, before.total, grace, plan, None)
    done = _rewrite(store, plan, grace, progress)
    if len(store.objects.files()) > 1:
        merge(store, store.objects.files())
        delete_covered(store)
    if not grace:
        freed += delete_dead(store, _PURPOSE, _needed)
    erase_again(store, known)
    return _report(store, before, freed, grace, plan, done)


def _sizes(store: Store) -> _Sizes:
    """What there is; packs that are condemned or dead do not count."""
    lists = Lists(store.storage)
    lists.refresh()
    leaving = lists.condemned_packs | lists.dead_packs
    packs = {entry.key: entry.size for entry in store.storage.list("packs/") if pack_of(entry.key)}
    return _Sizes(
        {key: size for key, size in packs.items() if pack_of(key) not in leaving},
        {entry.key: entry.size for entry in store.storage.list("index/")},
    )


def _waiting(store: Store) -> int:
    """The bytes of the packs that a repack is to delete; what others condemned is theirs."""
    lists = Lists(store.storage)
    lists.refresh()
    own = {**lists.condemned, **lists.dead}.values()
    leaving = {key for sentence in own if sentence.purpose == _PURPOSE for key in sentence.keys}
    return sum(entry.size for entry in store.storage.list("packs/") if entry.key in leaving)


# -- what to rewrite -------------------------------------------------------------------------------


class _Plan:
    """Which packs are to go, and which of their objects have to be written anew."""

    def __init__(self, store: Store, sizes: _Sizes) -> None:
        store.objects.refresh()
        self.store = store
        self.present = frozenset(name for key in sizes.packs if (name := pack_of(key)))
        self._sizes = {name: sizes.packs[pack_key(name)] for name in self.present}
        self.catalogue = Catalogue(store.objects.tables())
        self._by_pack = {
            name: numbers for name, numbers in self.catalogue.by_pack().items() if name in self.present
        }
        depths = np.concatenate([np.empty(0, np.uint8), *(t.depths() for t in self.catalogue.tables)])
        self._above = np.flatnonzero(depths)
        """The objects that stand on others."""
        self.orphans = self._forgotten()
        self.leaving = self._small() | self._wasteful()
        self.copied = self._chosen()

    def _forgotten(self) -> set[str]:
        """Packs that no index file names and that are old: of commits and repacks that came to nothing."""
        unnamed = self.present - set(self._by_pack)
        return {name for name in unnamed if _age(self.store, name) >= GRACE_SECONDS}

    def _small(self) -> set[str]:
        small = {name for name in self._by_pack if self._sizes[name] < _SMALL}
        return small if len(small) > 1 else set()

    def _wasteful(self) -> set[str]:
        """Packs much of which lies in others too, one after the other, so that one copy is left."""
        size = len(self.catalogue)
        lengths = np.concatenate([np.empty(0, np.uint64), *(t.lengths for t in self.catalogue.tables)])
        copies, group = self.catalogue.copies()
        for name in self._small():
            np.subtract.at(copies, group[self._by_pack[name]], 1)
        found: set[str] = set()
        usable = np.zeros(size, np.bool_)
        for numbers in self._by_pack.values():
            usable[numbers] = True
        np.subtract.at(copies, group[~usable], 1)
        for name, numbers in sorted(self._by_pack.items()):
            wasted = int(lengths[numbers[copies[group[numbers]] > 1]].sum())
            if self._sizes[name] >= _SMALL and wasted > _WASTED * self._sizes[name]:
                found.add(name)
                np.subtract.at(copies, group[numbers], 1)
        return found

    def _chosen(self) -> dict[str, list[Entry]]:
        """The objects to be written anew, by the pack that they are copied from, in their order there."""
        wanted: dict[bytes, list[Entry]] = {}
        for name in self.leaving:
            for number in self._by_pack[name].tolist():
                entry = self.catalogue.entry(number)
                wanted.setdefault(entry.address, []).append(entry)
        addresses = list(wanted)
        for places, numbers in self.catalogue.find(b"".join(wanted)) if wanted else ():
            for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
                pack = self.catalogue.entry(number).pack
                if pack in self.present and pack not in self.leaving:
                    wanted[addresses[place]] = []
        above = self._extensions()
        found: dict[str, list[Entry]] = {}
        for copies in wanted.values():
            if copies:
                best = min(
                    copies,
                    key=lambda copy: (
                        not all(_fits(copy, other) for other in above.get(copy.address, ())),
                        index.depth_of(copy.meta),
                        copy.length,
                    ),
                )
                found.setdefault(best.pack, []).append(best)
        for entries in found.values():
            entries.sort(key=lambda entry: entry.offset)
        return found

    def whole_and_standing(self) -> tuple[set[bytes], set[bytes]]:
        """The objects to be copied that are stored whole and that nothing stands on; and what something stands on."""
        standing: set[bytes] = set()
        for number in self._above.tolist():
            standing.update(index.below(self.catalogue.entry(number).meta))
        whole = {
            entry.address
            for entries in self.copied.values()
            for entry in entries
            if entry.meta[0] == index.FULL and entry.length >= _WORTH_A_PATCH
        }
        return whole - standing, standing

    def _extensions(self) -> dict[bytes, list[Entry]]:
        """The extensions that stand on each address: they need a base of the very form that they were made for."""
        found: dict[bytes, list[Entry]] = {}
        for number in self._above.tolist():
            entry = self.catalogue.entry(number)
            extension = index.unpack_extension(entry.meta)
            if extension is not None:
                found.setdefault(extension.base.address, []).append(entry)
        return found

    def in_order(self) -> Iterator[tuple[str, list[Entry]]]:
        """The packs that are copied from, oldest first: what was written together stays together."""
        ages = {name: _age(self.store, name) for name in self.copied}
        for name in sorted(self.copied, key=lambda name: (-ages[name], name)):
            yield name, self.copied[name]

    @property
    def leaving_bytes(self) -> int:
        """The bytes of the packs that are to go."""
        return sum(self._sizes[name] for name in self.leaving | self.orphans)

    @property
    def copied_bytes(self) -> int:
        """The bytes of the objects that are written anew."""
        return sum(entry.length + len(entry.meta) for entries in self.copied.values() for entry in entries)


def _fits(copy: Entry, above: Entry) -> bool:
    extension = index.unpack_extension(above.meta)
    return extension is None or fits(copy, index.unpack_meta(above.meta), extension)


def _age(store: Store, pack: str) -> float:
    try:
        return store.storage.age(pack_key(pack))
    except KeyAbsent:
        return 0.0


# -- rewriting -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Done:
    """What was rewritten."""

    rewritten: int = 0
    reformed: int = 0
    condemned: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)


def _rewrite(store: Store, plan: _Plan, grace: int, progress: Progress) -> _Done:
    done = _Done()
    if not plan.leaving and not plan.orphans:
        return done
    compress = PATCHES in store.info.features
    writer = PackWriter(store.storage, compress=compress, own=True)
    try:
        reformed = reform(store, *plan.whole_and_standing(), writer, progress) if compress else set()
        done.reformed = len(reformed)
        read, total = 0, sum(map(len, plan.copied.values()))
        for name, entries in plan.in_order():
            if not copy_objects(
                store, name, [entry for entry in entries if entry.address not in reformed], writer
            ):
                done.damaged.add(name)
            read += len(entries)
            progress("objects", read, total)
        written = writer.finish()
    except BaseException:
        writer.reclaim()
        raise
    done.rewritten = len(written)
    if written:
        store.objects.publish(index.write_table(written, compress=compress))
    leaving = plan.leaving - done.damaged
    store.objects.refresh()
    packs = Packs.of(store)
    leaving -= needed_packs(Catalogue(store.objects.tables()), packs.staying, leaving, packs.waiting)
    done.condemned = leaving | plan.orphans
    if done.condemned:
        keys = [pack_key(name) for name in done.condemned]
        condemn(store.storage, keys, purpose=_PURPOSE, grace=grace, time=timestamp())
        store.objects.refresh()
    return done


def _needed(store: Store, keys: frozenset[str]) -> set[str]:
    """Those of some packs without which not every object that an index file names would be there."""
    store.objects.refresh()
    packs = Packs.of(store)
    dying = {name for key in keys if (name := pack_of(key))}
    needed = needed_packs(
        Catalogue(store.objects.tables()), packs.staying | (dying & packs.there), dying, packs.waiting
    )
    return {pack_key(name) for name in needed}


def _report(
    store: Store, before: _Sizes, freed: int, grace: int, plan: _Plan, done: _Done | None
) -> Repacked:
    if done is None:
        packs_after = (
            len(before.packs) - len(plan.leaving | plan.orphans) + -(-plan.copied_bytes // PACK_BYTES)
        )
        after = before.total - plan.leaving_bytes + plan.copied_bytes
        return Repacked(
            True, grace, len(before.packs), packs_after, len(before.index), min(1, len(before.index)),
            before.total, after, _waiting(store), 0, sum(map(len, plan.copied.values())),
            unfinished=store.objects.unfinished(),
        )  # fmt: skip
    now = _sizes(store)
    return Repacked(
        False, grace, len(before.packs), len(now.packs), len(before.index), len(now.index),
        before.total, now.total, _waiting(store), freed, done.rewritten, done.reformed,
        tuple(sorted(done.damaged)), store.objects.unfinished(),
    )  # fmt: skip
