"""Which packs can go: those without which every object is still there, whole, with all that it stands on.

Objects have copies in several packs, of several forms, and an extension or a patch needs its bases in a form that
fits; so what one pack holds may be needed for what another does. Objects that are garbage may go with their
packs, but what stays is whole, garbage or not: who finds an object in the index may rely on it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from fsvc.engine.catalogue import Catalogue, Flags, Positions
from fsvc.format import index
from fsvc.format.extension import fits
from fsvc.format.index import Entry

__all__ = ["needed_packs"]


def needed_packs(
    catalogue: Catalogue,
    present: Collection[str],
    dying: Collection[str],
    waiting: Collection[str] = (),
    garbage: Flags | None = None,
) -> frozenset[str]:
    """Those of the packs ``dying`` that have to stay, for the objects of a catalogue.

    Only packs in ``present`` count as being there. Packs in ``waiting`` are on other lists: nothing may rely on
    them, but they may yet stay, and what their objects stand on has to be there then. ``garbage`` are the objects
    that may be lost. Raises Corruption where a table is damaged.
    """
    by_pack = catalogue.by_pack()
    empty = np.empty(0, np.int64)
    leaving = np.concatenate([empty, *(by_pack[name] for name in by_pack if name in dying)])
    if garbage is not None:
        leaving = leaving[~garbage[leaving]]
    perhaps = np.zeros(len(catalogue), np.bool_)
    perhaps_packs = by_pack.keys() & (set(waiting) - set(dying))
    for name in perhaps_packs:
        perhaps[by_pack[name]] = True
    stack = _Stack(catalogue)
    kept: set[str] = set()
    while True:
        usable = np.ones(len(catalogue), np.bool_)
        for name, numbers in by_pack.items():
            if name in perhaps_packs or name not in present or (name in dying and name not in kept):
                usable[numbers] = False
        found = stack.whole(usable, usable | perhaps)
        whole = found & usable
        wanted = _without_copy(catalogue, leaving[~whole[leaving]], whole)
        wanted |= stack.bases(np.flatnonzero((usable | perhaps) & ~found))
        more = {
            catalogue.entry(number).pack
            for _, numbers in (catalogue.find(b"".join(wanted)) if wanted else ())
            for number in numbers.tolist()
        }
        more = {name for name in more if name in dying and name in present} - kept
        if not more:
            return frozenset(kept)
        kept |= more


def _without_copy(catalogue: Catalogue, numbers: Positions, whole: Flags) -> set[bytes]:
    """The addresses of those of some objects of which there is no whole copy."""
    if not len(numbers):
        return set()
    addresses = catalogue.addresses(numbers)
    digests = catalogue.digests(numbers)
    covered = np.zeros(len(numbers), np.bool_)
    for places, found in catalogue.find(addresses):
        same = (catalogue.digests(found) == digests[places]).all(axis=1)
        covered[places[same & whole[found]]] = True
    return {addresses[16 * i : 16 * i + 16] for i in np.flatnonzero(~covered).tolist()}


class _Stack:
    """The objects that stand on others, and those others."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._size = len(catalogue)
        depths = np.concatenate([np.empty(0, np.uint8), *(table.depths() for table in catalogue.tables)])
        above = np.flatnonzero(depths)
        # What stands on fewer objects comes first: all that an object stands on has then been looked at.
        self._above = above[np.argsort(depths[above], kind="stable")].tolist()
        self._entries = {number: catalogue.entry(number) for number in self._above}
        self._below = {number: index.below(entry.meta) for number, entry in self._entries.items()}
        wanted = list(dict.fromkeys(address for below in self._below.values() for address in below))
        self._copies: dict[bytes, list[tuple[int, Entry]]] = {address: [] for address in wanted}
        for places, numbers in catalogue.find(b"".join(wanted)) if wanted else ():
            for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
                entry = self._entries.get(number) or catalogue.entry(number)
                self._copies[wanted[place]].append((number, entry))

    def whole(self, usable: Flags, asked: Flags) -> Flags:
        """Which of the objects asked about are whole, with all that they stand on, among the usable ones."""
        found = asked.copy()
        for number in self._above:
            if found[number]:
                entry = self._entries[number]
                found[number] = all(
                    self._holds(entry, address, usable, found) for address in self._below[number]
                )
        return found

    def _holds(self, above: Entry, address: bytes, usable: Flags, whole: Flags) -> bool:
        """Whether an object finds what it stands on, as readers look for it."""
        copies = [(number, entry) for number, entry in self._copies[address] if usable[number]]
        extension = index.unpack_extension(above.meta)
        if extension is not None:
            leaves = index.unpack_meta(above.meta)
            fitting = [number for number, entry in copies if fits(entry, leaves, extension)]
            return bool(fitting) and bool(whole[fitting].all())
        best = min((index.depth_of(entry.meta) for _, entry in copies), default=index.MAX_DEPTH)
        first = [number for number, entry in copies if index.depth_of(entry.meta) == best]
        return best < index.depth_of(above.meta) and bool(whole[first].all())

    def bases(self, numbers: Positions) -> set[bytes]:
        """The addresses of what some objects stand on themselves."""
        return {address for number in numbers.tolist() for address in self._below.get(number, ())}
