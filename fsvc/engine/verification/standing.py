"""Verification of what objects stand on: the bases of appended and of patched chunks, down to the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fsvc.engine.files import pack_key
from fsvc.engine.objects import checked
from fsvc.engine.verification.objects import ObjectCheck
from fsvc.engine.verification.report import Damage, Found, Notes
from fsvc.errors import Corruption
from fsvc.format import index
from fsvc.format.canonical import Identity
from fsvc.format.extension import fits
from fsvc.format.index import Entry
from fsvc.format.pages import ChunkPages
from fsvc.storage.contract import Storage

__all__ = ["Standing"]


class Standing:
    """Follows objects down to what they stand on; also a :class:`fsvc.engine.patched.Source`."""

    def __init__(self, storage: Storage, notes: Notes, objects: ObjectCheck) -> None:
        self._storage = storage
        self._notes = notes
        self._objects = objects
        self.missing: dict[bytes, Found] = {}
        """Addresses that no index file names."""
        self._faults: dict[int, tuple[Found, ...]] = {}
        """What is wrong below patches, as far as it is known."""

    def is_spare(self, number: int) -> bool:
        """Whether an object stands on damaged ones, but has a sound copy."""
        if next(self.below(number), None) is None:
            return False
        entry = self._objects.catalogue.entry(number)
        return self.has_sound_copy(Identity(entry.address, entry.digest))

    def has_sound_copy(self, identity: Identity) -> bool:
        """Whether there is an object of this content with all that it stands on."""
        for _, found in self._objects.catalogue.find(identity.address):
            number = int(found[0])
            if (
                number not in self._objects.bad
                and self._objects.catalogue.entry(number).digest == identity.digest
                and next(self.below(number), None) is None
            ):
                return True
        return False

    def nowhere(self, address: bytes) -> Found:
        """An object that no index file names. Whether it is really missing is found out at the end."""
        found = self.missing.get(address)
        if found is None:
            damage = Damage("object", address.hex(), "missing", "no index file names it")
            found = self.missing[address] = Found(damage)
        return found

    def below(self, number: int) -> Iterator[Found]:
        """What is wrong with the objects that an object stands on, down to the last."""
        if number in self._objects.patched:
            yield from self._below_patch(number)
            return
        for _ in range(index.MAX_EXTENSIONS + 1):
            base = self._objects.extended.get(number)
            if base is None:
                return
            copies = self._objects.catalogue.find(base.address)
            if not copies:
                yield self.nowhere(base.address)
                return
            entry = self._objects.catalogue.entry(number)
            address, chosen = entry.address.hex(), self._base(entry)
            if chosen is None:
                chosen = int(copies[0][1][0])
                if (
                    self._objects.catalogue.entry(chosen).digest == base.digest
                    and number not in self._objects.bad
                ):
                    detail = "it does not fit what it stands on"
                    self._objects.note_bad(number, self._notes.note("object", address, "damaged", detail))
                    yield self._objects.bad[number]
            number = chosen
            self._objects.catalogue.reached[[int(found[0]) for _, found in copies]] = True
            if (
                self._objects.catalogue.entry(number).digest != base.digest
                and number not in self._objects.bad
            ):
                detail = f"it is not what object {address} stands on"
                self._objects.note_bad(
                    number, self._notes.note("object", base.address.hex(), "damaged", detail)
                )
            for _, found in copies:
                if int(found[0]) in self._objects.bad:
                    yield self._objects.bad[int(found[0])]
        if number not in self._objects.bad:
            detail = "it stands on too many other objects"
            self._objects.note_bad(
                number,
                self._notes.note(
                    "object", self._objects.catalogue.entry(number).address.hex(), "damaged", detail
                ),
            )
        yield self._objects.bad[number]

    def _below_patch(self, number: int) -> tuple[Found, ...]:
        """What is wrong with the objects that a patch stands on; looked for once, chains are shared."""
        known = self._faults.get(number)
        if known is not None:
            return known
        above = self._objects.catalogue.entry(number)
        found: dict[int, Found] = {}
        for address in self._objects.patched[number]:
            copies = [int(found[0]) for _, found in self._objects.catalogue.find(address)]
            if not copies:
                missing = self.nowhere(address)
                found[id(missing)] = missing
                continue
            self._objects.catalogue.reached[copies] = True
            chosen = self._chosen(copies, above)
            wrong = [self._objects.bad[copy] for copy in copies if copy in self._objects.bad]
            if chosen is None and number not in self._objects.bad:
                detail = "it stands on an object that stands on as many others as it does"
                self._objects.note_bad(
                    number, self._notes.note("object", above.address.hex(), "damaged", detail)
                )
                wrong.append(self._objects.bad[number])
            elif chosen is not None:
                wrong += self.below(chosen)
            found.update((id(fault), fault) for fault in wrong)
        self._faults[number] = tuple(found.values())
        return self._faults[number]

    def _chosen(self, copies: Sequence[int], above: Entry) -> int | None:
        """Of several copies of an object the one that a patch stands on; None if none of them fits."""
        best = min(copies, key=lambda copy: index.depth_of(self._objects.catalogue.entry(copy).meta))
        fits_below = index.depth_of(self._objects.catalogue.entry(best).meta) < index.depth_of(above.meta)
        return best if fits_below else None

    def stored(self, entry: Entry) -> bytes:
        """An object's own bytes, not verified yet."""
        return self._storage.get_range(pack_key(entry.pack), entry.offset, entry.length)

    def standing(self, address: bytes, above: Entry) -> Entry:
        """The object of an address that a patch stands on. Raises Corruption where there is none."""
        copies = [int(found[0]) for _, found in self._objects.catalogue.find(address)]
        chosen = self._chosen(copies, above) if copies else None
        if chosen is None:
            raise Corruption("what it stands on is not there, or does not fit")
        return self._objects.catalogue.entry(chosen)

    def read(self, entry: Entry) -> ChunkPages:
        """The pages of an object, checked."""
        return self._whole(entry)

    def _base(self, entry: Entry) -> int | None:
        """The object that an extension stands on: of all copies of its base the one that fits."""
        extension = index.unpack_extension(entry.meta)
        if extension is None:
            return None
        leaves = index.unpack_meta(entry.meta)
        for _, found in self._objects.catalogue.find(extension.base.address):
            if fits(self._objects.catalogue.entry(int(found[0])), leaves, extension):
                return int(found[0])
        return None

    def _whole(self, entry: Entry, left: int = index.MAX_EXTENSIONS) -> ChunkPages:
        """A whole chunk, with the pages of the objects that it stands on."""
        data = self._storage.get_range(pack_key(entry.pack), entry.offset, entry.length)
        own: Sequence[memoryview | bytes] = checked(entry, data)
        extension = index.unpack_extension(entry.meta)
        if extension is not None:
            number = self._base(entry)
            if number is None or not left:
                raise Corruption("what it stands on is not there, or does not fit")
            base = self._whole(self._objects.catalogue.entry(number), left - 1)
            own = [b"".join(pair) for pair in zip(base.pages, own, strict=True)]
        leaves = index.unpack_meta(entry.meta)
        if [len(page) for page in own] != [leaf.length for leaf in leaves]:
            raise Corruption("its metadata contradict its length")
        return ChunkPages(leaves, tuple(own))
