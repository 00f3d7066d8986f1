"""Verification of what no index file names: it was erased, lies in a pack all the same, or is lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fsvc.engine.erased import Erased, Erasure
from fsvc.engine.files import pack_key
from fsvc.engine.objects import checked
from fsvc.engine.store import Store
from fsvc.engine.verification.objects import ObjectCheck, read_trailer
from fsvc.engine.verification.report import Damage, Found, Notes
from fsvc.engine.verification.standing import Standing
from fsvc.errors import FsvcError
from fsvc.format import index

__all__ = ["MissingCheck"]


class MissingCheck:
    """Looks for objects that snapshots name and no index file does, in the packs' own trailers."""

    def __init__(
        self, store: Store, notes: Notes, objects: ObjectCheck, standing: Standing, records: Erased
    ) -> None:
        self._store = store
        self._storage = store.storage
        self._notes = notes
        self._objects = objects
        self._standing = standing
        self._records = records
        self.unindexed: set[str] = set()
        """Packs that hold some of them."""
        self.erased: dict[str, Found] = {}
        """What is nowhere because it was erased, by the record that says so."""

    def run(self) -> None:
        """Look for objects that no index file names, and that were not erased, in the packs' own trailers."""
        remaining: dict[bytes, Found] = {}
        for address, missing in self._standing.missing.items():
            record = self._records.of(address)
            if record is None:
                remaining[address] = missing
            else:
                self._note_erased(record).snapshots |= missing.snapshots
        found: dict[str, dict[bytes, int]] = {}
        before: set[bytes] = set()
        # Objects that are found may stand on others, which are looked for in another round.
        while remaining.keys() != before:
            before = set(remaining)
            for name in sorted(self._objects.packs):
                remaining = self._look_in(name, remaining, found.setdefault(name, {}))
        lost = 0
        for name, objects in found.items():
            if objects:
                self.unindexed.add(name)
                note = self._notes.note(
                    "index",
                    f"of pack {name}",
                    "missing",
                    f"no index names {len(objects)} objects of it; the index can be rebuilt from the pack",
                )
                for affected in objects.values():
                    note.snapshots |= affected
                lost |= note.snapshots
        for bad in self._objects.bad_indexes:
            bad.snapshots |= lost
        for number, damaged in self._objects.bad.items():
            entry = self._objects.catalogue.entry(number)
            if entry.pack in self._objects.bad_packs:
                self._objects.bad_packs[entry.pack].snapshots |= damaged.snapshots
        self._notes.found += remaining.values()

    def _note_erased(self, record: Erasure) -> Found:
        detail = record.sentence(f"row groups of {record.feature_set} were")
        damage = Damage("erasure", record.id, "erased", detail)
        return self.erased.setdefault(record.id, Found(damage))

    def _look_in(self, name: str, wanted: dict[bytes, Found], found: dict[bytes, int]) -> dict[bytes, Found]:
        """Look for objects in the trailer of one pack; gives those that are still to be found."""
        if not wanted:
            return wanted
        try:
            trailer = read_trailer(self._store, name, self._storage.size(pack_key(name)))
        except FsvcError:
            if name not in self._objects.checked_packs:
                self._objects.check_pack(name, np.empty(0, np.int64))
            return wanted
        at = trailer.find(*index.address_words(b"".join(wanted)))
        if (at >= 0).any() and name not in self._objects.checked_packs:
            self._objects.check_pack(name, np.empty(0, np.int64))
        remaining = dict(wanted)
        for (address, missing), position in zip(wanted.items(), at.tolist(), strict=True):
            if position < 0:
                continue
            del remaining[address]
            found[address] = missing.snapshots
            try:
                entry = replace(trailer.entry(position), pack=name)
                checked(entry, self._storage.get_range(pack_key(name), entry.offset, entry.length))
                standing = index.below(entry.meta)
            except FsvcError as error:
                self._notes.note(
                    "object", address.hex(), "damaged", error.message
                ).snapshots = missing.snapshots
                continue
            for base in standing:
                if not self._objects.catalogue.find(base) and base not in self._standing.missing:
                    remaining[base] = self._standing.nowhere(base)
                    remaining[base].snapshots |= missing.snapshots
        return remaining
