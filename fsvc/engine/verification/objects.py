"""Verification of what lies on the disk: index files, packs, and every object by its checksum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from blake3 import blake3

from fsvc.engine.catalogue import Catalogue, Positions
from fsvc.engine.condemned import Lists
from fsvc.engine.erased import Erased
from fsvc.engine.files import index_key, index_of, pack_key, pack_of
from fsvc.engine.objects import outside
from fsvc.engine.progress import Progress
from fsvc.engine.store import Store
from fsvc.engine.verification.report import Found, Notes
from fsvc.errors import Corruption, FsvcError
from fsvc.format import index, pack
from fsvc.format.canonical import Identity
from fsvc.format.index import Entry, ObjectTable

__all__ = ["ObjectCheck", "read_trailer"]

_PIECE = 4 << 20
"""Packs are read in pieces of at most this many bytes."""
_MOST_LOOKS = 4


class ObjectCheck:
    """Reads index files and packs, and knows then which objects there are and which of them are bad."""

    def __init__(self, store: Store, notes: Notes, erased: Erased, progress: Progress) -> None:
        self._store = store
        self._storage = store.storage
        self._notes = notes
        self._erased = erased
        self._progress = progress
        self.catalogue = Catalogue([])
        self.bad: dict[int, Found] = {}
        """Objects that are not what they should be, by number in the catalogue."""
        self.extended: dict[int, Identity] = {}
        """The objects that hold the pages after those of another object, and that object."""
        self.patched: dict[int, tuple[bytes, ...]] = {}
        """The objects that hold what differs from others, and the addresses of those."""
        self.packs: dict[str, int] = {}
        """All packs that there are, and their sizes."""
        self.bad_packs: dict[str, Found] = {}
        self.bad_indexes: list[Found] = []
        self.checked_packs: set[str] = set()
        self._index_names: list[str] = []
        self._dead: frozenset[str] = frozenset()
        """Packs that were deleted for good, whatever index files say of them."""
        self.dead_keys: frozenset[str] = frozenset()
        """All files that were, those packs included."""

    def run(self) -> None:
        """Index files and packs. If packs were deleted for good meanwhile, once more: others hold their objects."""
        found, counts = len(self._notes.found), replace(self._notes.counts)
        for _ in range(_MOST_LOOKS):
            self.read_index()
            self._all_packs()
            deleted = self._read_lists().dead_packs - self._dead
            if deleted.isdisjoint(self.bad_packs):
                return
            del self._notes.found[found:]
            self._notes.counts = replace(counts)
            for kept in (self.bad, self.extended, self.patched, self.bad_packs):
                kept.clear()
            self.checked_packs.clear()

    def _read_lists(self) -> Lists:
        """The lists of condemned and dead files; one that is damaged is noted."""
        lists = Lists(self._storage)
        try:
            lists.refresh()
        except FsvcError as error:
            self._notes.failed("list", "of condemned files", error)
        return lists

    def read_index(self) -> None:
        """Index files, and the lists that say what is not to be looked for."""
        self.bad_indexes, self._index_names = [], []
        loaded: dict[str, ObjectTable] = {}
        tried: dict[str, FsvcError | None] = {}
        # What was merged into another file while it was looked for is in that one: the index is listed again.
        names = self._indexes()
        while fresh := [name for name in names if name not in tried]:
            for name in fresh:
                tried[name] = None
                try:
                    data = self._storage.get(index_key(name))
                    table = ObjectTable(data, what="it")
                    if len(table) and int(table.pack_numbers.max()) >= len(table.packs):
                        raise Corruption("it places objects in a pack that it does not name")
                    if index.table_id(data) != name:
                        tried[name] = Corruption("its content does not have this id")
                    loaded[name] = table
                except FsvcError as error:
                    tried[name] = error
            names = self._indexes()
        try:
            self._erased.refresh()  # after the index: what is not there on purpose was written down before
        except FsvcError as error:
            self._notes.failed("list", "of what was erased", error)
        lists = self._read_lists()
        self._dead, self.dead_keys = lists.dead_packs, lists.dead_keys
        tables = []
        for name in names:
            self._notes.counts.index_files += 1
            problem = tried[name]
            if problem is not None:
                self.bad_indexes.append(self._notes.failed("index", name, problem))
            if name in loaded:
                self._index_names.append(name)
                tables.append(outside(loaded[name], self._dead))
        self.catalogue = Catalogue(tables)

    def _indexes(self) -> list[str]:
        return sorted(name for key in self._storage.keys("index/") if (name := index_of(key)) is not None)

    def list_packs(self) -> None:
        """Look which packs there are."""
        self.packs = {
            name: entry.size
            for entry in self._storage.list("packs/")
            if (name := pack_of(entry.key)) is not None
        }

    def _all_packs(self) -> None:
        self.list_packs()
        objects = {n: numbers for n, numbers in self.catalogue.by_pack().items() if n not in self._dead}
        total = sum(self.packs.get(name, 0) for name in objects)
        for name, numbers in objects.items():
            self.check_pack(name, numbers)
            self._progress("packs", self._notes.counts.bytes, total)

    def check_below(self, addresses: bytes) -> None:
        """Of some objects, and of all that they stand on, read every copy and compute its checksum."""
        level = addresses
        seen: set[int] = set()
        while level:
            below: dict[bytes, None] = {}
            for _, found in self.catalogue.find(level):
                for number in found.tolist():
                    if number not in seen:
                        seen.add(number)
                        below |= dict.fromkeys(self._checked_alone(number))
            level = b"".join(below)

    def _checked_alone(self, number: int) -> Sequence[bytes]:
        """Read one object; gives what it stands on, nothing where it is bad."""
        try:
            entry = self.catalogue.entry(number)
        except Corruption as error:
            self.note_bad(number, self._notes.failed("index", self.index_naming(number), error))
            return ()
        if entry.pack not in self.packs:
            detail = f"there is no pack {entry.pack}"
            self.note_bad(number, self._notes.note("object", entry.address.hex(), "missing", detail))
            return ()
        try:
            sound = self._object(number, entry, self.packs[entry.pack], None)
        except FsvcError as error:  # the pack cannot be read
            self.note_bad(number, self._notes.failed("object", entry.address.hex(), error))
            return ()
        return index.below(entry.meta) if sound else ()

    def check_pack(self, name: str, numbers: Positions) -> None:
        """Read a whole pack once: its own name, its trailer, and the objects that index files place in it.

        ``numbers`` are those objects, by their places in the pack.
        """
        self.checked_packs.add(name)
        self._notes.counts.packs += 1
        key = pack_key(name)
        try:
            size = self._storage.size(key)
        except FsvcError as error:
            found = self.bad_packs[name] = self._notes.failed("pack", name, error)
            for number in numbers.tolist():
                self.note_bad(number, found)
            return
        problems: list[str] = []
        own: dict[bytes, Entry] | None = None
        try:
            own = {
                entry.address: replace(entry, pack=name)
                for entry in read_trailer(self._store, name, size).entries()
            }
        except FsvcError as error:
            problems.append(error.message)
        whole = blake3()
        done = bad = 0
        disagreeing: dict[str, str] = {}
        try:
            for number in numbers.tolist():
                try:
                    entry = self.catalogue.entry(number)
                except Corruption as error:
                    self.note_bad(number, self._notes.failed("index", self.index_naming(number), error))
                    continue
                if own is not None and own.get(entry.address) != entry:
                    disagreeing.setdefault(self.index_naming(number), entry.address.hex())
                if done <= entry.offset <= size - entry.length:
                    for piece in self._pieces(key, done, entry.offset):
                        whole.update(piece)
                    done = entry.offset + entry.length
                    bad += not self._object(number, entry, size, whole)
                else:  # another index file names the same object, or this one is wrong
                    bad += not self._object(number, entry, size, None)
            for piece in self._pieces(key, done, size):
                whole.update(piece)
            if whole.hexdigest() != name:
                problems.append(
                    "its content does not have this id"
                    + (f"; {bad} of its objects are damaged" if bad else "")
                )
        except FsvcError as error:
            problems.append(error.message)
        if problems:
            self.bad_packs[name] = self._notes.note("pack", name, "damaged", "; ".join(problems))
        for file, address in disagreeing.items():
            self.bad_indexes.append(
                self._notes.note(
                    "index",
                    file,
                    "damaged",
                    f"it does not agree with the trailer of pack {name} about object {address}",
                )
            )

    def index_naming(self, number: int) -> str:
        """The index file that names an object."""
        return self._index_names[self.catalogue.table_of(number)]

    def _pieces(self, key: str, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            length = min(_PIECE, end - start)
            yield self._storage.get_range(key, start, length)
            self._notes.counts.bytes += length
            start += length

    def _object(self, number: int, entry: Entry, size: int, whole: Any) -> bool:
        """Whether an object is what its checksum says; its bytes go into the pack's hash on the way."""
        self._notes.counts.objects += 1
        address = entry.address.hex()
        where = f"at {entry.offset:,} in pack {entry.pack}"
        if entry.offset + entry.length > size:
            self.note_bad(
                number,
                self._notes.note("object", address, "missing", f"its place is {where}, which is shorter"),
            )
            return False

        def parts() -> Iterator[bytes]:
            for piece in self._pieces(pack_key(entry.pack), entry.offset, entry.offset + entry.length):
                if whole is not None:
                    whole.update(piece)
                yield piece

        try:
            if index.checksum(entry.address, entry.digest, entry.meta, parts()) != entry.checksum:
                raise Corruption("its checksum does not match")
            index.unpack_meta(entry.meta)
            if sum(index.own_lengths(entry.meta, entry.length)) != entry.length:
                raise Corruption("its metadata contradict its length")
            extension = index.unpack_extension(entry.meta)
            if extension is not None:
                self.extended[number] = extension.base
            elif (addresses := index.below(entry.meta)) != ():
                self.patched[number] = addresses
        except Corruption as error:
            self.note_bad(
                number, self._notes.note("object", address, "damaged", f"{error.message} ({where})")
            )
            return False
        return True

    def note_bad(self, number: int, found: Found) -> None:
        """Say that an object is not what it should be."""
        self.catalogue.bad[number] = True
        self.bad[number] = found


def read_trailer(store: Store, name: str, size: int) -> ObjectTable:
    """The table of objects that a pack of ``size`` bytes carries itself. Raises Corruption."""
    key = pack_key(name)
    if size < len(pack.MAGIC) + pack.FOOTER_BYTES:
        raise Corruption("it is truncated")
    length = pack.trailer_length(
        store.storage.get_range(key, size - pack.FOOTER_BYTES, pack.FOOTER_BYTES), what="it"
    )
    start = size - pack.FOOTER_BYTES - length
    if start < len(pack.MAGIC):
        raise Corruption("its trailer is declared to be longer than the pack")
    return pack.read_trailer(store.storage.get_range(key, start, length), what="it")
