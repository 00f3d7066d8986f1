"""The order in which a repository is verified, and what the parts found put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fsvc.engine.catalogue import Catalogue
from fsvc.engine.erased import Erased
from fsvc.engine.files import commit_key
from fsvc.engine.history import short
from fsvc.engine.progress import Progress, silent
from fsvc.engine.store import Store
from fsvc.engine.verification.history import HistoryCheck
from fsvc.engine.verification.missing import MissingCheck
from fsvc.engine.verification.objects import ObjectCheck
from fsvc.engine.verification.report import Damage, Notes, Report, Snapshots
from fsvc.engine.verification.snapshots import SnapshotCheck, Wanted
from fsvc.engine.verification.standing import Standing
from fsvc.errors import Corruption, FsvcError
from fsvc.format import commit as commits
from fsvc.format import manifest as manifests

__all__ = ["Findings", "examine", "verify", "verify_snapshot"]


def verify(store: Store, deep: bool = False, progress: Progress = silent) -> Report:
    """Verify a whole repository. Memory holds its index and a few chunks, never a pack.

    Nothing that is kept in memory is trusted: everything is read from the storage again.
    What cannot be read is in the report, however bad it is. Raises StorageError only where the store
    cannot even be listed.
    """
    return _Walk(store, deep, progress).run()


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
    return _Walk(store, deep, progress).findings()


def verify_snapshot(store: Store, commit: str, name: str, progress: Progress = silent) -> Report:
    """Verify one feature set of one commit deeply, and nothing that it does not stand on.

    The commit, the manifest and those that it is stored against, and every object down to the last base: each is
    read again, each chunk is decoded and proven, and its statistics and column metadata are computed anew. Raises
    ExpiredError where a policy let its data go.
    """
    return _Walk(store, True, progress).run_one(commit, name)


class _Walk:
    """One walk over a repository."""

    def __init__(self, store: Store, deep: bool, progress: Progress) -> None:
        self._store = store
        self._deep = deep
        self._notes = notes = Notes()
        self._named = Snapshots()
        self._erased = erased = Erased(store.storage)
        self._history = HistoryCheck(store, notes)
        self._objects = ObjectCheck(store, notes, erased, progress)
        self._standing = Standing(store.storage, notes, self._objects)
        self._snapshots = SnapshotCheck(
            store, notes, self._objects, self._standing, erased, deep=deep, progress=progress
        )
        self._missing = MissingCheck(store, notes, self._objects, self._standing, erased)

    def run(self) -> Report:
        """All of it, in the order that the text of the package gives."""
        self._named = self._history.run()
        self._objects.run()
        self._snapshots.run(self._named)
        self._missing.run()
        self._count_unreferenced()
        return replace(self._report(self._damages()), unfinished=self._erased.unfinished())

    def run_one(self, commit: str, name: str) -> Report:
        """One feature set of one commit, with what it stands on."""
        self._history.repository()
        self._notes.counts.commits += 1
        try:
            record = commits.parse(self._store.storage.get(commit_key(commit)), commit, what="it")
            if name not in record.feature_sets:
                raise Corruption(f"it has no feature set {name!r}")
        except FsvcError as error:
            self._notes.failed("commit", commit, error).refs.append(f"{name}@{short(commit)}")
        else:
            snapshot = record.feature_sets[name].snapshot
            self._store.expired.refresh()
            if self._store.expired.of(commit, name) is not None:
                self._store.stored_manifest(snapshot)
            self._named.add(snapshot, name, commit)
            self._objects.read_index()
            self._objects.list_packs()
            self._objects.check_below(self._addresses(snapshot))
            self._snapshots.run(self._named)
            self._missing.run()
        # Index files of others may be damaged: that is their affair.
        return self._report(d for d in self._damages() if d.affects or d.kind == "repository")

    def _addresses(self, snapshot: str) -> bytes:
        """Those of all objects that a manifest names; none where it cannot be read, which is noted elsewhere."""
        encoded = self._snapshots.encoded(snapshot, 1)
        if encoded is None:
            return b""
        try:
            manifest = manifests.parse(encoded, what="it")
        except FsvcError:
            return b""
        return manifest.addresses() + b"".join(identity.address for identity in manifest.categories)

    def _damages(self) -> Iterable[Damage]:
        return dict.fromkeys(map(self._named.finished, self._notes.found))

    def _report(self, damages: Iterable[Damage]) -> Report:
        erased = tuple(map(self._named.finished, self._missing.erased.values()))
        return Report(tuple(damages), self._notes.counts, self._deep, erased)

    def findings(self) -> Findings:
        """All of it, and what is there to be repaired."""
        report = self.run()
        objects, standing = self._objects, self._standing
        affected = erased = 0
        for found in self._notes.found:
            affected |= found.snapshots
        for found in self._missing.erased.values():
            erased |= found.snapshots
        whole: list[str] = []
        broken: list[str] = []
        for snapshot, number in self._named.numbers.items():
            if affected >> number & 1:
                broken.extend(self._named.named(snapshot))
            elif not erased >> number & 1:
                whole.extend(self._named.named(snapshot))
        return Findings(
            report,
            objects.catalogue,
            frozenset(objects.bad),
            frozenset(filter(standing.is_spare, (*objects.extended, *objects.patched))),
            frozenset(objects.bad_packs),
            frozenset(found.damage.name for found in objects.bad_indexes),
            frozenset(self._missing.unindexed),
            tuple(w for w in self._snapshots.wanted.values() if not standing.has_sound_copy(w.identity)),
            tuple(whole),
            tuple(broken),
        )

    def _count_unreferenced(self) -> None:
        counts = self._notes.counts
        for prefix, suffix, known in (
            ("commits/", ".json", self._history.parents),
            ("manifests/", ".man", self._snapshots.seen),
            ("packs/", ".pack", self._objects.checked_packs),
        ):
            number = sum(
                key[len(prefix) : -len(suffix)].partition("/")[0] not in known
                for key in self._store.storage.keys(prefix)
                if key.endswith(suffix)
            )
            setattr(counts, f"unreferenced_{prefix[:-1]}", number)
        counts.unreferenced_objects = int((~self._objects.catalogue.reached).sum())
