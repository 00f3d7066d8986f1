"""Verification from the repository file to the commits: what says which snapshots there are to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fsvc.engine.expired import Expired
from fsvc.engine.files import commit_key
from fsvc.engine.refs import KINDS, RefEntry
from fsvc.engine.store import REPOSITORY_KEY, Store
from fsvc.engine.verification.report import Found, Notes, Snapshots
from fsvc.errors import Corruption, FsvcError, InvalidUse, KeyAbsent
from fsvc.format import commit as commits
from fsvc.format import names, strictjson
from fsvc.format.commit import CommitRecord

__all__ = ["HistoryCheck"]


class HistoryCheck:
    """Reads the repository file, every entry of every ref's log, and all commits that these reach."""

    def __init__(self, store: Store, notes: Notes) -> None:
        self._store = store
        self._storage = store.storage
        self._notes = notes
        self._roots: dict[str, list[str]] = {}
        """Commits that refs name, and by which entries."""
        self._tips: dict[str, list[str]] = {}
        """Commits at which refs stand now, and those refs."""
        self.parents: dict[str, tuple[str, ...]] = {}
        """Every commit that was read, and its parents."""

    def run(self) -> Snapshots:
        """All of it; gives the snapshots that are to be there."""
        self.repository()
        self._refs()
        return self._commits()

    def repository(self) -> None:
        """The file that makes a directory a repository."""
        name = REPOSITORY_KEY
        try:
            self._storage.size(name)
            info = Store(self._storage).info
        except KeyAbsent:
            self._notes.note("repository", name, "missing", "without it this is no repository")
        except FsvcError as error:
            self._notes.failed("repository", name, error)
        else:
            if info != self._store.info:
                self._notes.note(
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
                self._notes.note("ref", key, "damaged", "no entry of a ref lies in such a place")
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
                self._notes.note("ref", key, "missing", f"the log of {ref} lacks {many}").refs.append(ref)
            before = sequence
        for sequence, key in log.items():
            self._notes.counts.ref_entries += 1
            try:
                entry = self._entry(key)
            except FsvcError as error:
                damaged = self._notes.failed("ref", key, error)
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

    def _commits(self) -> Snapshots:
        snapshots = Snapshots()
        stack = list(self._roots)
        bad: dict[str, Found] = {}
        expired: set[str] = set()
        introduced: list[tuple[str, CommitRecord]] = []
        while stack:
            commit = stack.pop()
            if commit in self.parents or commit in bad:
                continue
            self._notes.counts.commits += 1
            try:
                record = commits.parse(self._storage.get(commit_key(commit)), commit, what="it")
            except FsvcError as error:
                bad[commit] = self._notes.failed("commit", commit, error)
                continue
            self.parents[commit] = record.parents
            stack.extend(record.parents)
            for name, value in record.feature_sets.items():
                for ref in self._tips.get(commit, ()):
                    snapshots.stands_at(value.snapshot, name, ref)
            introduced.append((commit, record))
        kept = self._kept(introduced)
        # Walked from the heads down, so reversed it is about oldest first: manifests stand on older ones.
        for commit, record in reversed(introduced):
            for name, value in record.feature_sets.items():
                if value.snapshot not in kept:
                    expired.add(value.snapshot)
                    continue
                parent_is_bad = any(parent in bad for parent in record.parents[:1])
                snapshots.add(value.snapshot, name, commit, new=name in record.changes or parent_is_bad)
        self._notes.counts.expired_snapshots = len(expired)
        above = self._refs_above() if bad else {}
        for commit, found in bad.items():
            found.refs += above.get(commit, ())
        return snapshots

    def _kept(self, records: Sequence[tuple[str, CommitRecord]]) -> set[str]:
        """The snapshots of commits that are to be there: all but those that have expired."""
        expired = Expired(self._storage)
        try:
            expired.refresh()
        except FsvcError as error:
            self._notes.failed("list", "of what expired", error)
        return expired.kept(records, frozenset(self._tips))

    def _refs_above(self) -> dict[str, list[str]]:
        """For every commit that cannot be read, the refs whose history holds it. Children come before parents."""
        refs = sorted({ref for found in self._roots.values() for ref in found})
        bits = {ref: 1 << number for number, ref in enumerate(refs)}
        masks = {commit: sum(bits[ref] for ref in {*found}) for commit, found in self._roots.items()}
        waiting = Counter(parent for parents in self.parents.values() for parent in {*parents})
        ready = [commit for commit in {**self.parents, **masks} if not waiting[commit]]
        while ready:
            commit = ready.pop()
            for parent in {*self.parents.get(commit, ())}:
                masks[parent] = masks.get(parent, 0) | masks.get(commit, 0)
                waiting[parent] -= 1
                if not waiting[parent]:
                    ready.append(parent)
        return {
            commit: [ref for ref in refs if mask & bits[ref]]
            for commit, mask in masks.items()
            if commit not in self.parents
        }
