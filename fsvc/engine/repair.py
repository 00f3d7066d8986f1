"""Repair: what is damaged or lost is taken from elsewhere, where it proves to be the same.

Everything but refs and the repository's own file is named by what it holds, so it does not matter where it comes
from: it is taken if it has the name. First whole files: commits, manifests, index files and packs, as another copy
of the repository has them; index files can be made anew from packs as well. Then objects: what is sound in a
damaged pack, and the chunks that others have, in whatever form they have them, go into new packs.

The order makes it safe to be killed anywhere, and to do while others read and commit. What is new is durable before
anything old is put aside; a pack that was replaced is written down as dead, so that what index files say of it does
not count any more; and nothing is deleted before a copy of it is durable under ``quarantine/``. Where it was killed
it is done again.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from blake3 import blake3

from fsvc.engine.clock import timestamp
from fsvc.engine.condemned import GRACE_SECONDS, Lists, Sentence
from fsvc.engine.erasing import erase_again, records_now
from fsvc.engine.expired import standing_commits
from fsvc.engine.files import commit_key, index_key, manifest_key, pack_key
from fsvc.engine.objects import PackWriter, checked, put_named
from fsvc.engine.patched import Patched
from fsvc.engine.progress import Progress, silent
from fsvc.engine.store import PATCHES, Store
from fsvc.engine.thawing import Thawed
from fsvc.engine.verification import Findings, Report, Wanted, examine, read_trailer
from fsvc.errors import FsvcError, KeyAbsent, StorageError
from fsvc.format import commit as commits
from fsvc.format import index, pages, strictjson
from fsvc.format import manifest as manifests
from fsvc.format.canonical import Identity, identify
from fsvc.format.commit import CommitRecord
from fsvc.format.index import Entry, ObjectTable, unpack_meta

__all__ = ["PURPOSE", "Repaired", "repair"]

PURPOSE = "repair"
"""What lists of dead packs say that a repair wrote."""

_CACHED = 8


@dataclass(frozen=True, slots=True)
class Repaired:
    """The outcome of a repair.

    ``restored`` are the things that are whole again, as ``"commit 5f2c…"``; ``quarantined`` the keys of what was put
    aside. ``report`` is what a verification finds now: what stays lost. ``whole`` and ``broken`` name all snapshots
    that commits tell of, as ``NAME@COMMIT``.
    """

    restored: tuple[str, ...]
    quarantined: tuple[str, ...]
    report: Report
    whole: tuple[str, ...]
    broken: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged or missing any more."""
        return self.report.ok


def repair(
    store: Store, donors: Sequence[Store] = (), *, deep: bool = False, progress: Progress = silent
) -> Repaired:
    """Restore what is damaged or lost, from itself and from other repositories. Ids and refs stay as they are.

    Damaged entries of refs are not replaced: nothing proves what they said. Raises StorageError where the store
    cannot be written.
    """
    return _Repair(store, donors, deep, progress).run()


class _Repair:
    """One repair of one repository."""

    def __init__(self, store: Store, donors: Sequence[Store], deep: bool, progress: Progress) -> None:
        # Caches of the store that was handed over may hold what is damaged by now.
        self._store = Store(store.storage)
        self._given = store
        self._storage = store.storage
        self._donors = donors
        self._deep = deep
        self._progress = progress
        self._restored: dict[str, None] = {}
        self._quarantined: dict[str, None] = {}
        self._manifests: OrderedDict[str, tuple[bytes, int]] = OrderedDict()

    def run(self) -> Repaired:
        """All of it: files, index, objects; then everything is verified again."""
        known = records_now(self._store)
        Thawed(self._store.objects).clear()  # it can be made anew, and may hold what is not so
        self._put_dead_aside()
        self._commits_and_manifests()
        findings = self._examined()
        if self._packs(findings) | self._index(findings):
            findings = self._examined()
        if self._objects(findings):
            findings = self._examined()
        if erase_again(self._store, known, self._progress):
            findings = self._examined()
        self._given.objects.refresh()
        return Repaired(
            tuple(self._restored), tuple(self._quarantined), findings.report, findings.whole, findings.broken
        )

    def _examined(self) -> Findings:
        return examine(self._store, self._deep, self._progress)

    # -- files -----------------------------------------------------------------------------------

    def _commits_and_manifests(self) -> None:
        """Restore commits and manifests from the refs down: a restored commit tells of more of both."""
        stack = list(self._roots())
        seen: set[str] = set()
        records: list[tuple[str, CommitRecord]] = []
        while stack:
            commit = stack.pop()
            if commit in seen:
                continue
            seen.add(commit)
            record = self._commit(commit)
            if record is not None:
                stack.extend(record.parents)
                records.append((commit, record))
        snapshots = self._kept(records)
        for number, snapshot in enumerate(reversed(snapshots)):
            self._manifest(snapshot)
            self._progress("manifests", number + 1, len(snapshots))

    def _kept(self, records: Sequence[tuple[str, CommitRecord]]) -> list[str]:
        """The snapshots of commits, in their order, without what has expired."""
        named = dict.fromkeys(
            value.snapshot for _, record in records for value in record.feature_sets.values()
        )
        try:
            self._store.expired.refresh()
            kept = self._store.expired.kept(records, standing_commits(self._store.refs))
        except FsvcError:
            return list(named)  # what cannot be told from the rest is to be there
        return [snapshot for snapshot in named if snapshot in kept]

    def _roots(self) -> Iterator[str]:
        """The commits that entries of refs name, of those that can be read."""
        for key in self._storage.keys("refs/"):
            try:
                commit = strictjson.unseal(self._storage.get(key), what=key).get("commit")
            except FsvcError:
                continue
            if isinstance(commit, str) and commits.is_id(commit):
                yield commit

    def _commit(self, commit: str) -> CommitRecord | None:
        """A commit, restored if need be; None where it is lost."""
        key, what = commit_key(commit), f"commit {commit}"
        try:
            return commits.parse(self._storage.get(key), commit, what=what)
        except FsvcError:
            pass
        for donor in self._donors:
            try:
                data = donor.storage.get(key)
                record = commits.parse(data, commit, what=what)
            except FsvcError:
                continue
            if self._replace(key, data):
                self._restored[what] = None
                return record
        return None

    def _manifest(self, snapshot: str, above: tuple[str, ...] = ()) -> tuple[bytes, int] | None:
        """The canonical bytes of a manifest and how many it stands on, restored if need be; None where it is lost."""
        if snapshot in self._manifests:
            return self._manifests[snapshot]
        if snapshot in above or len(above) > manifests.MAX_DEPTH:
            return None
        key, what = manifest_key(snapshot), f"manifest {snapshot}"
        encoded: bytes | None = None
        found: tuple[bytes, int] | None = None
        try:
            stored = manifests.read_stored(self._storage.get(key), what=what)
            base = self._manifest(stored.base, (*above, snapshot)) if stored.base else None
            encoded = manifests.decompress(stored, base[0] if base else None, snapshot, what=what)
            # What it stands on may have been stored anew, alone; then so is this one.
            if stored.depth == (base[1] + 1 if base else 0):
                found = (encoded, stored.depth)
        except FsvcError:
            encoded = encoded or self._manifest_elsewhere(snapshot)
        if found is None and encoded is not None and self._replace(key, manifests.compress(encoded, None)):
            self._restored[what] = None
            found = (encoded, 0)
        if found is not None:
            self._manifests[snapshot] = found
            while len(self._manifests) > _CACHED:
                self._manifests.popitem(last=False)
        return found

    def _manifest_elsewhere(self, snapshot: str) -> bytes | None:
        for donor in self._donors:
            try:
                return donor.manifest(snapshot).encoded
            except FsvcError:
                continue
        return None

    def _packs(self, findings: Findings) -> bool:
        """Restore packs that are whole elsewhere under their own names; whether there were any."""
        found = False
        for name in sorted(findings.bad_packs):
            key = pack_key(name)
            for donor in self._donors:
                try:
                    data = donor.storage.get(key)
                except FsvcError:
                    continue
                if blake3(data).hexdigest() == name and self._replace(key, data):
                    self._restored[f"pack {name}"] = None
                    found = True
                    break
        return found

    def _index(self, findings: Findings) -> bool:
        """Put damaged index files aside, once what they should say is in a new one; whether there were any."""
        catalogue = findings.catalogue
        damaged = {index_key(name) for name in findings.bad_indexes}
        packs = set(findings.unindexed)
        for key in damaged:
            try:
                packs.update(ObjectTable(self._storage.get(key), what=key).packs)
            except FsvcError:
                continue
        entries: list[Entry] = []
        for name, numbers in catalogue.by_pack().items():
            if name in packs and name in findings.bad_packs:
                sound = (number for number in numbers.tolist() if number not in findings.bad)
                entries += [catalogue.entry(number) for number in sound]
        for name in sorted(packs):
            try:
                trailer = read_trailer(self._store, name, self._storage.size(pack_key(name)))
            except FsvcError:
                continue
            entries += [replace(entry, pack=name) for entry in trailer.entries()]
        written = self._write_index(dict.fromkeys(entries), damaged)
        for key in sorted(damaged - {written}):
            self._put_aside(key)
        for name in sorted(findings.unindexed):
            self._restored[f"index of pack {name}"] = None
        return bool(damaged or packs)

    def _write_index(self, entries: Iterable[Entry], damaged: Collection[str] = ()) -> str | None:
        """Write an index file of some objects; gives its key. It may be what one of the damaged ones was."""
        listed = list(entries)
        if not listed:
            return None
        table = index.write_table(listed, compress=PATCHES in self._store.info.features)
        key = index_key(index.table_id(table))
        if key not in damaged:
            self._storage.put_batch({key: table})
        else:
            self._replace(key, table)
        return key

    # -- objects ---------------------------------------------------------------------------------

    def _objects(self, findings: Findings) -> bool:
        """Put the sound objects of damaged packs, and chunks that others have, into new packs; whether any did."""
        catalogue = findings.catalogue
        lists = self._lists()
        writer = PackWriter(
            self._storage,
            compress=PATCHES in self._store.info.features,
            taken=lists.dead_packs | lists.condemned_packs | findings.bad_packs,
        )
        try:
            # Each is proven before it is written.
            restored = [wanted for wanted in findings.wanted if self._restore(wanted, writer)]
            leaving = {*findings.bad, *findings.spare}
            for wanted in restored:
                leaving.update(int(found[0]) for _, found in catalogue.find(wanted.identity.address))
            replaced = set(findings.bad_packs) | {catalogue.entry(number).pack for number in leaving}
            by_pack = catalogue.by_pack()
            for name in sorted(replaced & by_pack.keys()):
                for number in by_pack[name].tolist():
                    if number not in leaving:
                        self._keep(catalogue.entry(number), writer)
            entries = writer.finish()
        except BaseException:
            writer.abandon()
            raise
        self._write_index(entries)
        self._prove(restored)
        self._restored |= dict.fromkeys(f"object {wanted.identity.address.hex()}" for wanted in restored)
        if replaced:
            keys = frozenset(map(pack_key, replaced))
            dead = Sentence(uuid.uuid4().hex, keys, PURPOSE, GRACE_SECONDS, timestamp())
            self._storage.put_if_absent(f"dead/{dead.id}.json", dead.to_bytes())
            self._put_dead_aside()
        return bool(entries or replaced)

    def _restore(self, wanted: Wanted, writer: PackWriter) -> bool:
        """Take a chunk from whoever has it, proven; whether anybody does."""
        if writer.entry(wanted.identity.address) is not None:
            return False  # a twin: two contents of one address cannot be kept
        for donor in self._donors:
            try:
                entry = donor.objects.find(wanted.identity.address)[0]
                if entry is None or entry.digest != wanted.identity.digest:
                    continue
                array = _content(donor, entry, wanted)
                if array is None:
                    continue
                kept = pa.field("c0", wanted.field.type, wanted.field.nullable)
                encoding = pages.choose_encodings([array], [kept])
                chunk = pages.encode([array], [kept], encoding)[0]
            except FsvcError:
                continue
            writer.add(wanted.identity, index.pack_meta(chunk.leaves), chunk.pages)
            return True
        return False

    def _keep(self, entry: Entry, writer: PackWriter) -> None:
        """Copy a sound object as it is, unless the new packs have it."""
        if writer.entry(entry.address) is None:
            data = self._storage.get_range(pack_key(entry.pack), entry.offset, entry.length)
            checked(entry, data)
            writer.add(Identity(entry.address, entry.digest), entry.meta, [data])

    def _prove(self, restored: Sequence[Wanted]) -> None:
        """Read what was restored as it lies in the store now, before anything old is put aside."""
        fresh = Store(self._storage)
        for wanted in restored:
            entries = fresh.objects.copies(wanted.identity.address)
            if not any(_content(fresh, entry, wanted) is not None for entry in entries):
                raise StorageError(
                    f"object {wanted.identity.address.hex()} was written, and reads as something else",
                    hint="check the disk; nothing old was put aside",
                )

    # -- putting aside ---------------------------------------------------------------------------

    def _lists(self) -> Lists:
        lists = Lists(self._storage)
        lists.refresh()
        return lists

    def _put_dead_aside(self) -> None:
        """Put packs aside that repairs replaced: this one, or one that was killed before it could."""
        for sentence in self._lists().dead.values():
            if sentence.purpose == PURPOSE:
                for key in sorted(sentence.keys):
                    self._put_aside(key)

    def _put_aside(self, key: str) -> bool:
        """Move a file to the quarantine; whether its place is free now."""
        try:
            data = self._storage.get(key)
        except KeyAbsent:
            return True
        except FsvcError:
            return False  # what cannot be read cannot be kept elsewhere, so it stays
        kept = f"quarantine/{blake3(data).hexdigest()}/{key}"
        put_named(self._storage, kept, [data])
        if self._storage.get(kept) != data:
            raise StorageError(f"{kept} reads as something else than was written", hint="check the disk")
        self._storage.delete(key)
        self._quarantined[kept] = None
        return True

    def _replace(self, key: str, data: bytes) -> bool:
        """Put a file where a damaged one is, or none, and read it back; whether that was possible."""
        if not self._put_aside(key):
            return False
        put_named(self._storage, key, [data])
        if self._storage.get(key) != data:
            raise StorageError(f"{key} reads as something else than was written", hint="check the disk")
        return True


def _content(store: Store, entry: Entry, wanted: Wanted) -> pa.Array | None:
    """What an object holds, if it is proven to be what is wanted."""
    kept = pa.field("c0", wanted.field.type, wanted.field.nullable)
    try:
        rows = wanted.rows
        if rows is None:
            rows = sum(leaf.num_values for leaf in unpack_meta(entry.meta)[:1])
        array = Patched(store.objects).array(entry, kept, rows)
        return array if identify(array, kept) == wanted.identity else None
    except FsvcError:
        return None
