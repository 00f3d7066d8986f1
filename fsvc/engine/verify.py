"""Verification: read all that a repository holds, and say what is damaged or missing and what it affects.

The walk goes from the refs down: every entry of every ref's log, the commits and all their ancestors,
the index files, the packs, the manifests. What is found damaged is noted and the walk goes on. Every
object is read and its checksum computed; a deep verification also decodes every chunk that a snapshot
names, proves its digest, and computes its Parquet statistics again.

The order makes it right while others commit: whatever a ref names was durable before the ref moved,
so index files are listed after the refs were read, and packs after the index files.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3

from fsvc.engine.catalogue import Catalogue, Positions
from fsvc.engine.condemned import Lists
from fsvc.engine.erased import Erased, Erasure
from fsvc.engine.expired import Expired
from fsvc.engine.history import short
from fsvc.engine.objects import checked, outside, pack_key
from fsvc.engine.patched import Patched, is_patch
from fsvc.engine.progress import Progress, silent
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.refs import KINDS, RefEntry
from fsvc.engine.store import REPOSITORY_KEY, Store, commit_key
from fsvc.engine.writing import default_threads
from fsvc.errors import Corruption, FsvcError, InvalidUse, KeyAbsent
from fsvc.format import commit as commits
from fsvc.format import index, names, pack, strictjson
from fsvc.format import manifest as manifests
from fsvc.format.canonical import ADDRESS_BYTES, Identity, identify
from fsvc.format.commit import CommitRecord
from fsvc.format.extension import fits
from fsvc.format.index import Entry, ObjectTable
from fsvc.format.manifest import Manifest
from fsvc.format.pages import ChunkPages
from fsvc.format.statistics import wrong_statistics
from fsvc.format.stored import stored_type

__all__ = ["Counts", "Damage", "Findings", "Report", "Wanted", "examine", "verify", "verify_snapshot"]

_PIECE = 4 << 20
"""Packs are read in pieces of at most this many bytes."""
_CACHED_MANIFESTS = 4
_MOST_LOOKS = 4


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is damaged, missing, or erased on purpose.

    ``kind`` is ``object``, ``pack``, ``index``, ``manifest``, ``commit``, ``ref``, ``repository``, ``list`` or
    ``erasure``, and ``name`` the thing's own name: an id, an address, a key. ``problem`` is ``missing``, ``damaged`` or
    ``erased``;
    ``detail`` is the rest of a sentence about the thing. ``affects`` names what cannot be read, or may
    not be what it was: snapshots as ``NAME@COMMIT (refs whose newest commit holds it)``, and refs.
    """

    kind: str
    name: str
    problem: str
    detail: str
    affects: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name} is {self.problem}: {self.detail}"


@dataclass(slots=True)
class Counts:
    """How much was verified. What no ref reaches is counted, and is no damage.

    ``bytes`` are those of packs that were read; ``proven`` are chunks that a deep verification decoded. Snapshots
    that have expired are counted and not looked at.
    """

    ref_entries: int = 0
    commits: int = 0
    manifests: int = 0
    index_files: int = 0
    packs: int = 0
    objects: int = 0
    bytes: int = 0
    proven: int = 0
    expired_snapshots: int = 0
    unreferenced_commits: int = 0
    unreferenced_manifests: int = 0
    unreferenced_packs: int = 0
    unreferenced_objects: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a verification. ``erased`` is what is gone on purpose, which is no damage: one for each record."""

    damages: tuple[Damage, ...]
    counts: Counts
    deep: bool
    erased: tuple[Damage, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not self.damages


def verify(store: Store, deep: bool = False, progress: Progress = silent) -> Report:
    """Verify a whole repository. Memory holds its index and a few chunks, never a pack.

    Nothing that is kept in memory is trusted: everything is read from the storage again.
    What cannot be read is in the report, however bad it is. Raises StorageError only where the store
    cannot even be listed.
    """
    return _Verification(store, deep, progress).run()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A chunk that snapshots name and of which there is no sound copy: what it holds is a column of ``rows`` values.

    Categories do not say how many they are: ``rows`` is None.
    """

    identity: Identity
    field: pa.Field
    rows: int | None


@dataclass(frozen=True, slots=True)
class Findings:
    """What a verification found, in the terms in which it can be repaired.

    ``bad`` are the numbers in the ``catalogue`` of objects that are not what they should be, ``spare`` those of
    objects that stand on such ones, but have sound copies. ``bad_packs`` and
    ``bad_indexes`` are ids; ``unindexed`` are packs with objects that are needed and that no index file names.
    ``whole`` and ``broken`` name all snapshots, as :attr:`Damage.affects` does.
    """

    report: Report
    catalogue: Catalogue
    bad: frozenset[int]
    spare: frozenset[int]
    bad_packs: frozenset[str]
    bad_indexes: frozenset[str]
    unindexed: frozenset[str]
    wanted: tuple[Wanted, ...]
    whole: tuple[str, ...]
    broken: tuple[str, ...]


def examine(store: Store, deep: bool = False, progress: Progress = silent) -> Findings:
    """As :func:`verify`, for whoever repairs."""
    return _Verification(store, deep, progress).findings()


def verify_snapshot(store: Store, commit: str, name: str, progress: Progress = silent) -> Report:
    """Verify one feature set of one commit deeply, and nothing that it does not stand on.

    The commit, the manifest and those that it is stored against, and every object down to the last base: each is
    read again, each chunk is decoded and proven, and its statistics and column metadata are computed anew. Raises
    ExpiredError where a policy let its data go.
    """
    return _Verification(store, True, progress).run_one(commit, name)


@dataclass(slots=True)
class _Found:
    """A damage in the making. ``snapshots`` has bit i set where the snapshot number i is affected."""

    damage: Damage
    snapshots: int = 0
    refs: list[str] = field(default_factory=list)


class _Verification:
    """One walk over a repository."""

    def __init__(self, store: Store, deep: bool, progress: Progress) -> None:
        self._store = store
        self._storage = store.storage
        self._deep = deep
        self._progress = progress
        self._counts = Counts()
        self._found: list[_Found] = []
        self._roots: dict[str, list[str]] = {}
        """Commits that refs name, and by which entries."""
        self._tips: dict[str, list[str]] = {}
        """Commits at which refs stand now, and those refs."""
        self._parents: dict[str, tuple[str, ...]] = {}
        self._snapshots: dict[str, int] = {}
        """Snapshot ids by number, in the order of commits, older ones first where that is known."""
        self._labels: dict[str, dict[tuple[str, str], None]] = {}
        self._tip_names: dict[tuple[str, str], list[str]] = {}
        self._bad_objects: dict[int, _Found] = {}
        self._extended: dict[int, Identity] = {}
        """The objects that hold the pages after those of another object, and that object."""
        self._patched: dict[int, tuple[bytes, ...]] = {}
        """The objects that hold what differs from others, and the addresses of those."""
        self._faults: dict[int, tuple[_Found, ...]] = {}
        """What is wrong below patches, as far as it is known."""
        self._bad_packs: dict[str, _Found] = {}
        self._bad_indexes: list[_Found] = []
        self._index_names: list[str] = []
        self._bad_manifests: dict[str, _Found] = {}
        self._manifests: OrderedDict[str, tuple[bytes, int]] = OrderedDict()
        self._seen_manifests: set[str] = set()
        self._missing: dict[bytes, _Found] = {}
        self._catalogue = Catalogue([])
        self._reader = Patched(self)
        self._dead: frozenset[str] = frozenset()
        """Packs that were deleted for good, whatever index files say of them."""
        self._dead_keys: frozenset[str] = frozenset()
        """All files that were, those packs included."""
        self._packs: dict[str, int] = {}
        self._checked_packs: set[str] = set()
        self._unindexed: set[str] = set()
        self._wanted: dict[Identity, Wanted] = {}
        self._records = Erased(store.storage)
        self._erased: dict[str, _Found] = {}
        """What is nowhere because it was erased, by the record that says so."""

    def findings(self) -> Findings:
        """All of it, and what is there to be repaired."""
        report = self.run()
        affected = erased = 0
        for found in self._found:
            affected |= found.snapshots
        for found in self._erased.values():
            erased |= found.snapshots
        whole: list[str] = []
        broken: list[str] = []
        for number, snapshot in enumerate(self._snapshots):
            if affected >> number & 1:
                broken.extend(self._named(snapshot))
            elif not erased >> number & 1:
                whole.extend(self._named(snapshot))
        return Findings(
            report,
            self._catalogue,
            frozenset(self._bad_objects),
            frozenset(filter(self._is_spare, (*self._extended, *self._patched))),
            frozenset(self._bad_packs),
            frozenset(found.damage.name for found in self._bad_indexes),
            frozenset(self._unindexed),
            tuple(wanted for wanted in self._wanted.values() if not self._has_sound_copy(wanted.identity)),
            tuple(whole),
            tuple(broken),
        )

    def _is_spare(self, number: int) -> bool:
        if next(self._below(number), None) is None:
            return False
        entry = self._catalogue.entry(number)
        return self._has_sound_copy(Identity(entry.address, entry.digest))

    def _has_sound_copy(self, identity: Identity) -> bool:
        for _, found in self._catalogue.find(identity.address):
            number = int(found[0])
            if (
                number not in self._bad_objects
                and self._catalogue.entry(number).digest == identity.digest
                and next(self._below(number), None) is None
            ):
                return True
        return False

    def run(self) -> Report:
        """All of it, in the order that the module's text gives."""
        self._repository()
        self._refs()
        self._commits()
        self._stored()
        self._all_snapshots()
        self._look_for_missing()
        self._unreferenced()
        return self._report({found.damage: None for found in map(self._finished, self._found)})

    def _report(self, damages: Iterable[Damage]) -> Report:
        erased = tuple(self._finished(found).damage for found in self._erased.values())
        return Report(tuple(damages), self._counts, self._deep, erased)

    def run_one(self, commit: str, name: str) -> Report:
        """One feature set of one commit, with what it stands on."""
        self._repository()
        self._counts.commits += 1
        try:
            record = commits.parse(self._storage.get(commit_key(commit)), commit, what="it")
            if name not in record.feature_sets:
                raise Corruption(f"it has no feature set {name!r}")
        except FsvcError as error:
            self._failed("commit", commit, error).refs.append(f"{name}@{short(commit)}")
        else:
            snapshot = record.feature_sets[name].snapshot
            self._store.expired.refresh()
            if self._store.expired.of(commit, name) is not None:
                self._store.stored_manifest(snapshot)
            self._snapshots[snapshot] = 0
            self._labels[snapshot] = {(name, commit): None}
            self._index()
            self._packs = {
                entry.key[len("packs/") : -len(".pack")]: entry.size
                for entry in self._storage.list("packs/")
                if entry.key.endswith(".pack")
            }
            self._objects_of(snapshot)
            self._all_snapshots()
            self._look_for_missing()
        damages = {found.damage: None for found in map(self._finished, self._found)}
        # Index files of others may be damaged: that is their affair.
        kept = (damage for damage in damages if damage.affects or damage.kind == "repository")
        return self._report(kept)

    def _objects_of(self, snapshot: str) -> None:
        """Read every copy of every object that a snapshot stands on, and compute its checksum."""
        encoded = self._encoded(snapshot, 1)
        if encoded is None:
            return
        try:
            manifest = manifests.parse(encoded, what="it")
        except FsvcError:
            return  # noted when it is read as one of the snapshots
        level = manifest.addresses() + b"".join(identity.address for identity in manifest.categories)
        seen: set[int] = set()
        while level:
            below: dict[bytes, None] = {}
            for _, found in self._catalogue.find(level):
                for number in found.tolist():
                    if number in seen:
                        continue
                    seen.add(number)
                    try:
                        entry = self._catalogue.entry(number)
                    except Corruption as error:
                        self._bad_object(number, self._failed("index", self._index_of(number), error))
                        continue
                    if entry.pack not in self._packs:
                        detail = f"there is no pack {entry.pack}"
                        self._bad_object(number, self._note("object", entry.address.hex(), "missing", detail))
                        continue
                    try:
                        if self._object(number, entry, self._packs[entry.pack], None):
                            below |= dict.fromkeys(index.below(entry.meta))
                    except FsvcError as error:  # the pack cannot be read
                        self._bad_object(number, self._failed("object", entry.address.hex(), error))
            level = b"".join(below)

    def _note(self, kind: str, name: str, problem: str, detail: str) -> _Found:
        found = _Found(Damage(kind, name, problem, detail))
        self._found.append(found)
        return found

    def _failed(self, kind: str, name: str, error: FsvcError) -> _Found:
        """Note that something could not be read; an absent key is something missing."""
        if isinstance(error, KeyAbsent):
            return self._note(kind, name, "missing", "there is nothing in its place")
        return self._note(kind, name, "damaged", error.message.removeprefix("it is damaged: "))

    def _finished(self, found: _Found) -> _Found:
        affected = [
            label
            for i, snapshot in enumerate(self._snapshots)
            if found.snapshots >> i & 1
            for label in self._named(snapshot)
        ]
        affects = tuple(dict.fromkeys([*found.refs, *affected]))
        return replace(found, damage=replace(found.damage, affects=affects))

    def _named(self, snapshot: str) -> Iterator[str]:
        """A snapshot as NAME@COMMIT, and the refs that stand at a commit that holds it."""
        for name, commit in self._labels[snapshot]:
            refs = self._tip_names.get((name, snapshot))
            yield f"{name}@{short(commit)}" + (f" ({', '.join(refs)})" if refs else "")

    # -- from the repository file to commits -----------------------------------------------------

    def _repository(self) -> None:
        name = REPOSITORY_KEY
        try:
            self._storage.size(name)
            info = Store(self._storage).info
        except KeyAbsent:
            self._note("repository", name, "missing", "without it this is no repository")
        except FsvcError as error:
            self._failed("repository", name, error)
        else:
            if info != self._store.info:
                self._note(
                    "repository", name, "damaged", "it is not the one that was there when this was opened"
                )

    def _refs(self) -> None:
        logs: dict[tuple[str, str], dict[int, str]] = {}
        for key in sorted(self._storage.keys("refs/")):
            parts = key.split("/")
            try:
                name = names.unescape(parts[2])
                sequence = int(parts[3].removesuffix(".json"))
            except (FsvcError, ValueError, IndexError):
                sequence = 0
            if (
                len(parts) != 4
                or parts[1] not in KINDS
                or key != f"refs/{parts[1]}/{parts[2]}/{sequence:010d}.json"
            ):
                self._note("ref", key, "damaged", "no entry of a ref lies in such a place")
            else:
                logs.setdefault((parts[1], name), {})[sequence] = key
        for (kind, name), log in logs.items():
            self._log(kind, name, log)

    def _log(self, kind: str, name: str, log: dict[int, str]) -> None:
        newest = max(log)
        ref = {"heads": "branch", "tags": "tag", "pins": "pin"}[kind] + f" {name}"
        folder = log[newest].rpartition("/")[0]
        before = 0
        for sequence in sorted(log):
            if sequence > before + 1:
                many = (
                    f"entries {before + 1} to {sequence - 1}"
                    if sequence > before + 2
                    else f"entry {before + 1}"
                )
                key = f"{folder}/{before + 1:010d}.json"
                self._note("ref", key, "missing", f"the log of {ref} lacks {many}").refs.append(ref)
            before = sequence
        for sequence, key in log.items():
            self._counts.ref_entries += 1
            try:
                entry = self._entry(key)
            except FsvcError as error:
                damaged = self._failed("ref", key, error)
                damaged.refs.append(ref)
                continue
            if entry.commit is not None:
                self._roots.setdefault(entry.commit, []).append(ref)
                if sequence == newest:
                    self._tips.setdefault(entry.commit, []).append(name)

    def _entry(self, key: str) -> RefEntry:
        value = strictjson.unseal(self._storage.get(key), what="it")
        try:
            entry = RefEntry(**value)
        except (InvalidUse, TypeError):
            raise Corruption("it does not have the form of an entry") from None
        if entry.key != key:
            raise Corruption(f"it is another entry, {entry.key}")
        return entry

    def _commits(self) -> None:
        stack = list(self._roots)
        bad: dict[str, _Found] = {}
        expired: set[str] = set()
        introduced: list[tuple[str, CommitRecord]] = []
        while stack:
            commit = stack.pop()
            if commit in self._parents or commit in bad:
                continue
            self._counts.commits += 1
            try:
                record = commits.parse(self._storage.get(commit_key(commit)), commit, what="it")
            except FsvcError as error:
                bad[commit] = self._failed("commit", commit, error)
                continue
            self._parents[commit] = record.parents
            stack.extend(record.parents)
            for name, value in record.feature_sets.items():
                for ref in self._tips.get(commit, ()):
                    self._tip_names.setdefault((name, value.snapshot), []).append(ref)
            introduced.append((commit, record))
        kept = self._kept(introduced)
        # Walked from the heads down, so reversed it is about oldest first: manifests stand on older ones.
        for commit, record in reversed(introduced):
            for name, value in record.feature_sets.items():
                if value.snapshot not in kept:
                    expired.add(value.snapshot)
                    continue
                self._snapshots.setdefault(value.snapshot, len(self._snapshots))
                labels = self._labels.setdefault(value.snapshot, {})
                parent_is_bad = any(parent in bad for parent in record.parents[:1])
                if name in record.changes or parent_is_bad or not labels:
                    labels[name, commit] = None
        self._counts.expired_snapshots = len(expired)
        for commit, found in bad.items():
            found.refs += self._refs_above(commit)

    def _kept(self, records: Sequence[tuple[str, CommitRecord]]) -> set[str]:
        """The snapshots of commits that are to be there: all but those that have expired."""
        expired = Expired(self._storage)
        try:
            expired.refresh()
        except FsvcError as error:
            self._failed("list", "of what expired", error)
        return expired.kept(records, frozenset(self._tips))

    def _refs_above(self, commit: str) -> list[str]:
        """The refs whose history holds a commit."""
        children: dict[str, list[str]] = {}
        for child, parents in self._parents.items():
            for parent in parents:
                children.setdefault(parent, []).append(child)
        seen = {commit}
        stack = [commit]
        refs: dict[str, None] = {}
        while stack:
            current = stack.pop()
            refs.update(dict.fromkeys(self._roots.get(current, ())))
            fresh = [child for child in children.get(current, ()) if child not in seen]
            seen.update(fresh)
            stack.extend(fresh)
        return sorted(refs)

    # -- index files and packs -------------------------------------------------------------------

    def _stored(self) -> None:
        """Index files and packs. If packs were deleted for good meanwhile, once more: others hold their objects."""
        found, counts = len(self._found), replace(self._counts)
        for _ in range(_MOST_LOOKS):
            self._index()
            self._all_packs()
            deleted = self._read_lists().dead_packs - self._dead
            if deleted.isdisjoint(self._bad_packs):
                return
            del self._found[found:]
            self._counts = replace(counts)
            for kept in (self._bad_objects, self._extended, self._patched, self._bad_packs):
                kept.clear()
            self._checked_packs.clear()

    def _read_lists(self) -> Lists:
        """The lists of condemned and dead files; one that is damaged is noted."""
        lists = Lists(self._storage)
        try:
            lists.refresh()
        except FsvcError as error:
            self._failed("list", "of condemned files", error)
        return lists

    def _index(self) -> None:
        self._bad_indexes, self._index_names = [], []
        loaded: dict[str, ObjectTable] = {}
        tried: dict[str, FsvcError | None] = {}
        # What was merged into another file while it was looked for is in that one: the index is listed again.
        keys = self._index_keys()
        while fresh := [key for key in keys if key not in tried]:
            for key in fresh:
                tried[key] = None
                try:
                    data = self._storage.get(key)
                    table = ObjectTable(data, what="it")
                    if len(table) and int(table.pack_numbers.max()) >= len(table.packs):
                        raise Corruption("it places objects in a pack that it does not name")
                    if index.table_id(data) != _index_name(key):
                        tried[key] = Corruption("its content does not have this id")
                    loaded[key] = table
                except FsvcError as error:
                    tried[key] = error
            keys = self._index_keys()
        try:
            self._records.refresh()  # after the index: what is not there on purpose was written down before
        except FsvcError as error:
            self._failed("list", "of what was erased", error)
        lists = self._read_lists()
        self._dead, self._dead_keys = lists.dead_packs, lists.dead_keys
        tables = []
        for key in keys:
            self._counts.index_files += 1
            problem = tried[key]
            if problem is not None:
                self._bad_indexes.append(self._failed("index", _index_name(key), problem))
            if key in loaded:
                self._index_names.append(_index_name(key))
                tables.append(outside(loaded[key], self._dead))
        self._catalogue = Catalogue(tables)

    def _index_keys(self) -> list[str]:
        return sorted(key for key in self._storage.keys("index/") if key.endswith(".idx"))

    def _all_packs(self) -> None:
        self._packs = {
            entry.key[len("packs/") : -len(".pack")]: entry.size
            for entry in self._storage.list("packs/")
            if entry.key.endswith(".pack")
        }
        objects = {n: numbers for n, numbers in self._catalogue.by_pack().items() if n not in self._dead}
        total = sum(self._packs.get(name, 0) for name in objects)
        for name, numbers in objects.items():
            self._pack(name, numbers)
            self._progress("packs", self._counts.bytes, total)

    def _pack(self, name: str, numbers: Positions) -> None:
        """Read a whole pack once: its own name, its trailer, and the objects that index files place in it.

        ``numbers`` are those objects, by their places in the pack.
        """
        self._checked_packs.add(name)
        self._counts.packs += 1
        key = pack_key(name)
        try:
            size = self._storage.size(key)
        except FsvcError as error:
            found = self._bad_packs[name] = self._failed("pack", name, error)
            for number in numbers.tolist():
                self._bad_object(number, found)
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
                    entry = self._catalogue.entry(number)
                except Corruption as error:
                    self._bad_object(number, self._failed("index", self._index_of(number), error))
                    continue
                if own is not None and own.get(entry.address) != entry:
                    disagreeing.setdefault(self._index_of(number), entry.address.hex())
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
            self._bad_packs[name] = self._note("pack", name, "damaged", "; ".join(problems))
        for file, address in disagreeing.items():
            self._bad_indexes.append(
                self._note(
                    "index",
                    file,
                    "damaged",
                    f"it does not agree with the trailer of pack {name} about object {address}",
                )
            )

    def _index_of(self, number: int) -> str:
        """The index file that names an object."""
        return self._index_names[self._catalogue.table_of(number)]

    def _pieces(self, key: str, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            length = min(_PIECE, end - start)
            yield self._storage.get_range(key, start, length)
            self._counts.bytes += length
            start += length

    def _object(self, number: int, entry: Entry, size: int, whole: Any) -> bool:
        """Whether an object is what its checksum says; its bytes go into the pack's hash on the way."""
        self._counts.objects += 1
        address = entry.address.hex()
        where = f"at {entry.offset:,} in pack {entry.pack}"
        if entry.offset + entry.length > size:
            self._bad_object(
                number, self._note("object", address, "missing", f"its place is {where}, which is shorter")
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
                self._extended[number] = extension.base
            elif (addresses := index.below(entry.meta)) != ():
                self._patched[number] = addresses
        except Corruption as error:
            self._bad_object(number, self._note("object", address, "damaged", f"{error.message} ({where})"))
            return False
        return True

    def _bad_object(self, number: int, found: _Found) -> None:
        self._catalogue.bad[number] = True
        self._bad_objects[number] = found

    # -- manifests and what they name ------------------------------------------------------------

    def _all_snapshots(self) -> None:
        total = len(self._snapshots)
        with ThreadPoolExecutor(default_threads(), thread_name_prefix="fsvc-verify") as pool:
            for snapshot, number in self._snapshots.items():
                encoded = self._encoded(snapshot, 1 << number)
                if encoded is not None:
                    try:
                        manifest = manifests.parse(encoded, what="it")
                    except FsvcError as error:
                        self._bad_manifest(snapshot, error, 1 << number)
                    else:
                        self._snapshot(manifest, 1 << number, pool)
                self._progress("snapshots", number + 1, total)

    def _bad_manifest(self, name: str, error: FsvcError, affected: int) -> None:
        found = self._bad_manifests.get(name)
        if found is None:
            found = self._bad_manifests[name] = self._failed("manifest", name, error)
        found.snapshots |= affected

    def _encoded(self, snapshot: str, affected: int) -> bytes | None:
        """The canonical bytes of a manifest; None where it, or one that it stands on, is noted as damaged."""
        chain: list[tuple[str, manifests.StoredManifest]] = []
        name = snapshot
        base: tuple[bytes, int] | None = None
        while name:
            if name in self._bad_manifests:
                self._bad_manifests[name].snapshots |= affected
                return None
            base = self._manifests.get(name)
            if base is not None:
                break
            if len(chain) > manifests.MAX_DEPTH or any(name == other for other, _ in chain):
                self._bad_manifest(snapshot, Corruption("it stands on too long a chain of others"), affected)
                return None
            if name not in self._seen_manifests:
                self._seen_manifests.add(name)
                self._counts.manifests += 1
            try:
                stored = self._stored_manifest(name)
            except FsvcError as error:
                self._bad_manifest(name, error, affected)
                return None
            chain.append((name, stored))
            name = stored.base
        for link, stored in reversed(chain):
            try:
                if stored.depth != (0 if base is None else base[1] + 1):
                    raise Corruption("it declares another depth than it has")
                encoded = manifests.decompress(stored, None if base is None else base[0], link, what="it")
            except FsvcError as error:
                self._bad_manifest(link, error, affected)
                return None
            base = (encoded, stored.depth)
            self._manifests[link] = base
            while len(self._manifests) > _CACHED_MANIFESTS:
                self._manifests.popitem(last=False)
        assert base is not None
        return base[0]

    def _stored_manifest(self, name: str) -> manifests.StoredManifest:
        """The file of a manifest; where it is absent or dead, another copy of it, if there is one."""
        keys = list(self._store.manifest_keys(name))
        usable = [key for key in keys if key not in self._dead_keys] or keys
        for key in usable[:-1]:
            with suppress(KeyAbsent):
                return manifests.read_stored(self._storage.get(key), what="it")
        return manifests.read_stored(self._storage.get(usable[-1]), what="it")

    def _snapshot(self, manifest: Manifest, affected: int, pool: ThreadPoolExecutor) -> None:
        """Look up all objects of a snapshot; note those that are damaged, others', or nowhere."""
        chunks = manifest.chunks.reshape(-1, manifest.chunks.shape[-1])
        extra = b"".join(identity.address + identity.digest for identity in manifest.categories)
        wanted = np.concatenate([chunks, np.frombuffer(extra, np.uint8).reshape(-1, chunks.shape[-1])])
        numbers = np.full(len(wanted), -1, np.int64)
        copies = self._catalogue.find(np.ascontiguousarray(wanted[:, :ADDRESS_BYTES]).tobytes())
        for places, found in copies:
            fresh = numbers[places] < 0
            numbers[places[fresh]] = found[fresh]
            self._catalogue.reached[found] = True
            bad = self._catalogue.bad[found]
            for place, number in zip(places[bad].tolist(), found[bad].tolist(), strict=True):
                self._affect(self._bad_objects[number], manifest, place, affected)
        there = np.flatnonzero(numbers >= 0)
        other = (self._catalogue.digests(numbers[there]) != wanted[there, ADDRESS_BYTES:]).any(axis=1)
        for place in there[other].tolist():
            number = int(numbers[place])
            if number not in self._bad_objects:
                address = wanted[place, :ADDRESS_BYTES].tobytes().hex()
                self._bad_object(
                    number,
                    self._note("object", address, "damaged", "what is stored is not what snapshots name"),
                )
            self._affect(self._bad_objects[number], manifest, place, affected)
        for place in np.flatnonzero(numbers < 0).tolist():
            self._affect(self._nowhere(wanted[place, :ADDRESS_BYTES].tobytes()), manifest, place, affected)
        if self._extended or self._patched:
            # Of all copies: which one a reader takes depends on the order in which it lists index files.
            for places, found in copies:
                for place, number in zip(places.tolist(), found.tolist(), strict=True):
                    for below in self._below(number):
                        self._affect(below, manifest, place, affected)
        if self._deep:
            self._prove(manifest, numbers, affected, pool)

    def _nowhere(self, address: bytes) -> _Found:
        """An object that no index file names. Whether it is really missing is found out at the end."""
        found = self._missing.get(address)
        if found is None:
            damage = Damage("object", address.hex(), "missing", "no index file names it")
            found = self._missing[address] = _Found(damage)
        return found

    def _below(self, number: int) -> Iterator[_Found]:
        """What is wrong with the objects that an object stands on, down to the last."""
        if number in self._patched:
            yield from self._below_patch(number)
            return
        for _ in range(index.MAX_EXTENSIONS + 1):
            base = self._extended.get(number)
            if base is None:
                return
            copies = self._catalogue.find(base.address)
            if not copies:
                yield self._nowhere(base.address)
                return
            entry = self._catalogue.entry(number)
            address, chosen = entry.address.hex(), self._base(entry)
            if chosen is None:
                chosen = int(copies[0][1][0])
                if self._catalogue.entry(chosen).digest == base.digest and number not in self._bad_objects:
                    detail = "it does not fit what it stands on"
                    self._bad_object(number, self._note("object", address, "damaged", detail))
                    yield self._bad_objects[number]
            number = chosen
            self._catalogue.reached[[int(found[0]) for _, found in copies]] = True
            if self._catalogue.entry(number).digest != base.digest and number not in self._bad_objects:
                detail = f"it is not what object {address} stands on"
                self._bad_object(number, self._note("object", base.address.hex(), "damaged", detail))
            for _, found in copies:
                if int(found[0]) in self._bad_objects:
                    yield self._bad_objects[int(found[0])]
        if number not in self._bad_objects:
            detail = "it stands on too many other objects"
            self._bad_object(
                number, self._note("object", self._catalogue.entry(number).address.hex(), "damaged", detail)
            )
        yield self._bad_objects[number]

    def _below_patch(self, number: int) -> tuple[_Found, ...]:
        """What is wrong with the objects that a patch stands on; looked for once, chains are shared."""
        known = self._faults.get(number)
        if known is not None:
            return known
        above = self._catalogue.entry(number)
        found: dict[int, _Found] = {}
        for address in self._patched[number]:
            copies = [int(found[0]) for _, found in self._catalogue.find(address)]
            if not copies:
                missing = self._nowhere(address)
                found[id(missing)] = missing
                continue
            self._catalogue.reached[copies] = True
            chosen = self._standing(copies, above)
            wrong = [self._bad_objects[copy] for copy in copies if copy in self._bad_objects]
            if chosen is None and number not in self._bad_objects:
                detail = "it stands on an object that stands on as many others as it does"
                self._bad_object(number, self._note("object", above.address.hex(), "damaged", detail))
                wrong.append(self._bad_objects[number])
            elif chosen is not None:
                wrong += self._below(chosen)
            found.update((id(fault), fault) for fault in wrong)
        self._faults[number] = tuple(found.values())
        return self._faults[number]

    def _standing(self, copies: Sequence[int], above: Entry) -> int | None:
        """Of several copies of an object the one that a patch stands on; None if none of them fits."""
        best = min(copies, key=lambda copy: index.depth_of(self._catalogue.entry(copy).meta))
        fits_below = index.depth_of(self._catalogue.entry(best).meta) < index.depth_of(above.meta)
        return best if fits_below else None

    # What patches read their bases through: see fsvc.engine.patched.Source.

    def stored(self, entry: Entry) -> bytes:
        """An object's own bytes, not verified yet."""
        return self._storage.get_range(pack_key(entry.pack), entry.offset, entry.length)

    def standing(self, address: bytes, above: Entry) -> Entry:
        """The object of an address that a patch stands on. Raises Corruption where there is none."""
        copies = [int(found[0]) for _, found in self._catalogue.find(address)]
        chosen = self._standing(copies, above) if copies else None
        if chosen is None:
            raise Corruption("what it stands on is not there, or does not fit")
        return self._catalogue.entry(chosen)

    def read(self, entry: Entry) -> ChunkPages:
        """The pages of an object, checked."""
        return self._whole(entry)

    def _base(self, entry: Entry) -> int | None:
        """The object that an extension stands on: of all copies of its base the one that fits."""
        extension = index.unpack_extension(entry.meta)
        if extension is None:
            return None
        leaves = index.unpack_meta(entry.meta)
        for _, found in self._catalogue.find(extension.base.address):
            if fits(self._catalogue.entry(int(found[0])), leaves, extension):
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
            base = self._whole(self._catalogue.entry(number), left - 1)
            own = [b"".join(pair) for pair in zip(base.pages, own, strict=True)]
        leaves = index.unpack_meta(entry.meta)
        if [len(page) for page in own] != [leaf.length for leaf in leaves]:
            raise Corruption("its metadata contradict its length")
        return ChunkPages(leaves, tuple(own))

    def _affect(self, found: _Found, manifest: Manifest, place: int, affected: int) -> None:
        """Note whom a damage affects, and the first time also where in the table it is."""
        if found.snapshots == 0 and found.damage.kind == "object":
            found.damage = replace(
                found.damage, detail=f"{found.damage.detail}; {self._place(manifest, place)}"
            )
        found.snapshots |= affected
        identity, kept, rows = self._content(manifest, place)
        if self._records.of(identity.address) is None:  # what was erased is not to come back from elsewhere
            self._wanted.setdefault(identity, Wanted(identity, kept, rows))

    @staticmethod
    def _content(manifest: Manifest, place: int) -> tuple[Identity, pa.Field, int | None]:
        """What the object at a place of a manifest's list holds: its identity, its column, and how many rows."""
        groups = len(manifest.rows)
        if place < len(manifest.schema) * groups:
            column, group = divmod(place, groups)
            return manifest.identity(column, group), manifest.stored_fields[column], manifest.rows[group]
        at = place - len(manifest.schema) * groups
        kind = list(manifest.category_types.values())[at]
        return manifest.categories[at], pa.field("categories", stored_type(kind.value_type), False), None

    def _place(self, manifest: Manifest, place: int) -> str:
        """Where in its table the object at a place of a manifest's list stands."""
        groups = len(manifest.rows)
        if place < len(manifest.schema) * groups:
            return SnapshotReader(self._store.objects, manifest).place(*divmod(place, groups))
        path = list(manifest.category_types)[place - len(manifest.schema) * groups]
        return f"the categories of column {path!r}"

    # -- deep ------------------------------------------------------------------------------------

    def _prove(self, manifest: Manifest, numbers: Positions, affected: int, pool: ThreadPoolExecutor) -> None:
        """Decode the chunks of a snapshot that no snapshot before it had."""
        wanted: list[tuple[int, int, pa.Field, Identity, int | None]] = []
        for place, number in enumerate(numbers.tolist()):
            if number < 0 or self._catalogue.bad[number] or self._catalogue.proven[number]:
                continue
            stands = number in self._extended or number in self._patched
            if stands and next(self._below(number), None) is not None:
                continue
            self._catalogue.proven[number] = True
            identity, kept, rows = self._content(manifest, place)
            wanted.append((place, number, kept, identity, rows))
        # A few at a time, so that memory holds a few chunks however wide the table is.
        step = default_threads() * 4
        for first in range(0, len(wanted), step):
            some = wanted[first : first + step]
            for (place, number, *_), problem in zip(some, pool.map(self._prove_one, some), strict=True):
                self._counts.proven += 1
                if problem is not None:
                    address = self._catalogue.entry(number).address.hex()
                    self._bad_object(number, self._note("object", address, "damaged", problem))
                    self._affect(self._bad_objects[number], manifest, place, affected)

    def _prove_one(self, wanted: tuple[int, int, pa.Field, Identity, int | None]) -> str | None:
        """What is wrong with the content of one chunk, None where it is proven."""
        _, number, kept, identity, rows = wanted
        entry = self._catalogue.entry(number)
        try:
            leaves = index.unpack_meta(entry.meta)
            if rows is None:
                rows = sum(leaf.num_values for leaf in leaves[:1])
            named = pa.field("c0", kept.type, kept.nullable)
            array = self._reader.array(entry, named, rows)
            if identify(array, named) != identity:
                return "its digest does not match what it holds"
            if is_patch(entry):
                self._reader.thaw(entry, named, rows)
            return wrong_statistics(leaves, array)
        except FsvcError as error:
            return error.message

    # -- what is nowhere, and what nobody needs --------------------------------------------------

    def _look_for_missing(self) -> None:
        """Look for objects that no index file names, and that were not erased, in the packs' own trailers."""
        remaining: dict[bytes, _Found] = {}
        for address, missing in self._missing.items():
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
            for name in sorted(self._packs):
                remaining = self._look_in(name, remaining, found.setdefault(name, {}))
        lost = 0
        for name, objects in found.items():
            if objects:
                self._unindexed.add(name)
                note = self._note(
                    "index",
                    f"of pack {name}",
                    "missing",
                    f"no index names {len(objects)} objects of it; the index can be rebuilt from the pack",
                )
                for affected in objects.values():
                    note.snapshots |= affected
                lost |= note.snapshots
        for bad in self._bad_indexes:
            bad.snapshots |= lost
        for number, damaged in self._bad_objects.items():
            entry = self._catalogue.entry(number)
            if entry.pack in self._bad_packs:
                self._bad_packs[entry.pack].snapshots |= damaged.snapshots
        self._found += remaining.values()

    def _note_erased(self, record: Erasure) -> _Found:
        detail = record.sentence(f"row groups of {record.feature_set} were")
        damage = Damage("erasure", record.id, "erased", detail)
        return self._erased.setdefault(record.id, _Found(damage))

    def _look_in(
        self, name: str, wanted: dict[bytes, _Found], found: dict[bytes, int]
    ) -> dict[bytes, _Found]:
        """Look for objects in the trailer of one pack; gives those that are still to be found."""
        if not wanted:
            return wanted
        try:
            trailer = read_trailer(self._store, name, self._storage.size(pack_key(name)))
        except FsvcError:
            if name not in self._checked_packs:
                self._pack(name, np.empty(0, np.int64))
            return wanted
        at = trailer.find(*index.address_words(b"".join(wanted)))
        if (at >= 0).any() and name not in self._checked_packs:
            self._pack(name, np.empty(0, np.int64))
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
                self._note("object", address.hex(), "damaged", error.message).snapshots = missing.snapshots
                continue
            for base in standing:
                if not self._catalogue.find(base) and base not in self._missing:
                    remaining[base] = self._nowhere(base)
                    remaining[base].snapshots |= missing.snapshots
        return remaining

    def _unreferenced(self) -> None:
        counts = self._counts
        for prefix, suffix, known in (
            ("commits/", ".json", self._parents),
            ("manifests/", ".man", self._seen_manifests),
            ("packs/", ".pack", self._checked_packs),
        ):
            number = sum(
                key[len(prefix) : -len(suffix)].partition("/")[0] not in known
                for key in self._storage.keys(prefix)
                if key.endswith(suffix)
            )
            setattr(counts, f"unreferenced_{prefix[:-1]}", number)
        counts.unreferenced_objects = int((~self._catalogue.reached).sum())


def _index_name(key: str) -> str:
    return key[len("index/") : -len(".idx")]


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
