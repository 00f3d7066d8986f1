"""Commits: put new snapshots on a branch, all of them or none.

The order is what makes it safe: packs first; then index, manifests and the commit as one durable
batch; then reused packs are looked at again; then the ref entry, which alone makes it visible. A
crash anywhere leaves the old state and some unreferenced files.
"""

from __future__ import annotations

import random
import secrets
import time as clock
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fsvc.engine import history
from fsvc.engine.clock import timestamp
from fsvc.engine.compaction import compact
from fsvc.engine.condemned import rely
from fsvc.engine.erased import refusal
from fsvc.engine.files import commit_key, index_key, manifest_key, pack_key, pack_of
from fsvc.engine.objects import PackWriter
from fsvc.engine.store import PATCHES, Store
from fsvc.engine.writing import NewObjects, Written
from fsvc.errors import Conflict, ConflictError, Corruption, FsvcError, GoneError, KeyAbsent, StorageError
from fsvc.format import index
from fsvc.format.commit import CommitRecord, SetVersion
from fsvc.format.manifest import Manifest

__all__ = ["CommitDraft", "Committed", "describe"]

_MOST_TRIES = 50


@dataclass(frozen=True, slots=True)
class Committed:
    """The outcome: the commit at the branch's head that holds what was handed over.

    ``created`` is False where nothing had changed and the old head stands.
    """

    commit: str
    record: CommitRecord
    created: bool


class CommitDraft:
    """A commit in the making: snapshots are written into it, then it is published on a branch.

    ``base`` is the head of the branch when the draft was begun, or a commit that was its head before; against
    it conflicts are judged.
    """

    def __init__(self, store: Store, branch: str, base: str | None = None) -> None:
        self.store = store
        self.branch = branch
        self.base = base or history.head(store, branch)
        self._base_record = store.commit(self.base) if self.base else None
        store.objects.refresh()
        self._patches = PATCHES in store.info.features
        self._taken = store.objects.leaving_keys
        taken = store.objects.condemned_packs | store.objects.dead_packs
        self._packs = PackWriter(store.storage, compress=self._patches, taken=taken)
        self.sink = NewObjects(store.objects, self._packs, patches=self._patches)
        self._written: dict[str, Written | None] = {}
        self._extra: dict[str, Mapping[str, Any]] = {}
        self._index: dict[str, bytes] | None = None
        self.relied: set[str] = set()
        """Feature sets that this commit was judged by: they too have to be at the head as they were at the base."""

    def parent_manifest(self, name: str) -> Manifest | None:
        """The snapshot that a feature set has at the base, if it is there."""
        value = self._base_record.feature_sets.get(name) if self._base_record else None
        return self.store.manifest(value.snapshot) if value else None

    def add(self, name: str, written: Written, notes: Mapping[str, Any] | None = None) -> None:
        """Set a feature set's snapshot. ``notes`` go into the record of changes."""
        self._written[name] = written
        self._extra[name] = dict(notes or {})

    def note(self, name: str, notes: Mapping[str, Any]) -> None:
        """Add to what the record of changes will say of a feature set that was set."""
        self._extra[name] = {**self._extra[name], **notes}

    def take(self, name: str, snapshot: str) -> None:
        """Set a feature set's snapshot to one that is stored already. Raises Corruption where a part is gone."""
        manifest = self.store.manifest(snapshot)
        self.reuse(manifest)
        self.add(name, Written(manifest, chunks=manifest.chunks[..., 0].size, new_chunks=0, new_bytes=0))

    def reuse(self, manifest: Manifest) -> None:
        """Stand on all objects of a snapshot that is stored. Raises Corruption or GoneError where one is gone."""
        columns, groups = manifest.chunks.shape[:2]
        identities = [manifest.identity(i, group) for i in range(columns) for group in range(groups)]
        names = [field.name for field in manifest.schema for _ in range(groups)]
        identities += manifest.categories
        claimed = self.sink.claim(identities, [*names, *manifest.category_types])
        if any(claimed):
            absent = self.store.objects.lost(
                identities[claimed.index(True)].address, "a part of the snapshot", manifest.id
            )
            if isinstance(absent, GoneError):
                raise absent
            raise Corruption(
                f"snapshot {manifest.id} is not whole any more",
                hint="run 'fsvc verify' to see what is missing",
            )

    def written(self, name: str) -> Written | None:
        """What was set for a feature set, if anything was."""
        return self._written.get(name)

    def settle(self, time: str) -> None:
        """End the writing, so that what was written can be read: it is durable, and no ref leads to it.

        ``time`` is now. Raises StorageError where something that it stands on is gone, or about to go.
        """
        self._refuse_erased()
        own = self._finished()
        # As before a commit: what is durable has to stand on what is.
        self._recheck(time)
        self.store.storage.put_batch({**self._relied_index(), **own})
        for key, data in own.items():
            self.store.objects.remember(key, data)

    def _finished(self) -> dict[str, bytes]:
        """Write the last pack; gives the index file of all that are new, if there are any."""
        if self._index is None:
            entries = self._packs.finish()
            self._index = {}
            if entries:
                table = index.write_table(entries, compress=self._patches)
                self._index[index_key(index.table_id(table))] = table
        return self._index

    def _relied_index(self) -> dict[str, memoryview]:
        """Index files of other writers that say where reused objects lie: one that was seen may not be durable yet.

        One that is not there any more was merged into another, which was made durable first. It is not to come back:
        it may also name packs that are gone, and so long ago that no list says so any more.
        """
        there = {}
        for key, data in self.sink.reused()[1].items():
            with suppress(KeyAbsent):
                self.store.storage.size(key)
                there[key] = data
        return there

    def abandon(self) -> None:
        """Give up: no ref was touched; packs that were written stay unreferenced."""
        self._packs.abandon()

    @property
    def changed(self) -> dict[str, Written]:
        """The snapshots that are not those of the base: what this commit touches."""
        record = self._base_record
        return {
            name: written
            for name, written in self._written.items()
            if written is not None
            and (
                record is None
                or name not in record.feature_sets
                or record.feature_sets[name].snapshot != written.manifest.id
            )
        }

    def preview(self) -> CommitRecord:
        """The commit that publishing would make on the base, without an author, time or message.

        Its ``changes`` are empty where nothing has changed.
        """
        return self._record(self.base, "", "", "", {})

    def publish(
        self,
        *,
        message: str,
        author: str,
        time: Callable[[], str] = timestamp,
        metadata: Mapping[str, str] | None = None,
        allow_empty: bool = False,
        merged: str | None = None,
    ) -> Committed:
        """Make the commit and move the branch to it. ``merged`` is a second parent: what was merged into it.

        When another writer was first and touched other feature sets, the commit is put on top of
        theirs. Raises ConflictError naming both commits where they touched the same one.
        """
        self._refuse_erased()
        own_index = self._finished()
        if not self.changed and not allow_empty and self.base is not None:
            # Objects of an unchanged table are new only where old ones were lost: they take their place.
            if own_index:
                self._recheck(time())
            self.store.storage.put_batch(own_index)
            for key, data in own_index.items():
                self.store.objects.remember(key, data)
            assert self._base_record is not None
            return Committed(self.base, self._base_record, created=False)
        # Before anything is written too: index files of packs that are gone should not be written.
        self._recheck(time())
        batch: dict[str, bytes | memoryview] = {**self._relied_index(), **own_index}
        standing: set[str] = set()
        for name, written in self.changed.items():
            parent = self._base_record.feature_sets.get(name) if self._base_record else None
            key = manifest_key(written.manifest.id)
            base = parent.snapshot if parent else None
            if key in self._taken or self._is_damaged(written.manifest.id):
                # What is about to be deleted may be so at any time, even after it was written anew.
                key, base = manifest_key(written.manifest.id, secrets.token_hex(16)), None
            batch[key] = self.store.manifest_file(written.manifest, base)
            standing.add(key)
        if merged is not None:
            standing.add(commit_key(merged))
        expected = self.store.refs.head("heads", self.branch)
        for attempt in range(_MOST_TRIES):
            current = expected.commit if expected is not None else None
            touched = self._touched_meanwhile(current)
            # A commit that loses keeps the parent it was made for, and is whole: nothing of it is gone.
            record = self._record(
                current if touched is None else self.base, message, author, time(), metadata or {}, merged
            )
            own = commit_key(record.id)
            if own in self._taken:
                self._recheck(time(), {own})
            batch[own] = record.encoded
            self.store.storage.put_batch(batch)
            if touched is not None:
                raise ConflictError(
                    f"feature set {touched!r} was changed on {self.branch!r} by commit"
                    f" {history.short(current or '')} while commit {history.short(record.id)} was being made",
                    ours=record.id,
                    theirs=current or "",
                    hint="look at theirs, then commit again on top of it",
                )
            for key, data in own_index.items():
                self.store.objects.remember(key, data)
            self._recheck(time(), {*standing, own})
            try:
                self.store.refs.append(
                    "heads",
                    self.branch,
                    expected,
                    record.id,
                    author=author,
                    reason=f"{'commit' if merged is None else 'merge'}: {message.splitlines()[0] if message else ''}"[
                        :200
                    ],
                    time=record.time,
                )
            except Conflict:
                # The lost commit stays, unreferenced; everything else of the batch is used again.
                batch = {}
                clock.sleep(random.uniform(0, 0.01 * min(2**attempt, 32)))  # noqa: S311 - jitter
                expected = self.store.refs.head("heads", self.branch)
                continue
            compact(self.store)
            return Committed(record.id, record, created=True)
        raise Conflict(
            f"branch {self.branch!r} moved {_MOST_TRIES} times while this commit was being published",
            hint="try again when fewer writers are at work",
        )

    def _is_damaged(self, snapshot: str) -> bool:
        """Whether there is a file of a manifest already, and the manifest cannot be read."""
        storage = self.store.storage
        try:
            storage.size(manifest_key(snapshot))
        except KeyAbsent:
            return False
        try:
            self.store.manifest_bytes(snapshot)
        except (Corruption, GoneError):
            return True
        return False

    def _touched_meanwhile(self, current: str | None) -> str | None:
        """A feature set of this commit, or that it relies on, which the head has not as the base has it, if any.

        Raises Conflict where the branch was deleted: a commit must not bring back half of it.
        """
        if current == self.base:
            return None
        if current is None:
            raise Conflict(
                f"branch {self.branch!r} was deleted while this commit was being made",
                hint="make the branch again or name another one, then commit again",
            )
        theirs = self.store.commit(current).feature_sets
        base = self._base_record.feature_sets if self._base_record else {}
        names = [*self.changed, *sorted(self.relied)]
        return next((name for name in names if theirs.get(name) != base.get(name)), None)

    def _recheck(self, time: str, others: Collection[str] = ()) -> None:
        """Raise StorageError where a pack, or another file, that this commit stands on is gone, or about to go.

        Raises Corruption where one is lost without anybody having deleted it.
        Raises ErasedError where the commit would bring back rows that were erased.
        """
        storage = self.store.storage
        self._refuse_erased()
        reused, _ = self.sink.reused()
        packs = {pack_key(name) for name in {*reused, *self._packs.packs}}
        for key in sorted(packs):
            try:
                storage.size(key)
            except KeyAbsent:
                raise self._gone(key) from None
        dead = rely(storage, packs.union(others), time=time)
        if dead is not None:
            raise self._gone(dead)

    def _refuse_erased(self) -> None:
        """Raise ErasedError where the commit would bring back rows that were erased.

        Asked before the last pack is written, so that mostly nothing of them is; and at the end, when it counts.
        """
        erased = self.store.objects.erased
        erased.refresh()
        for name, written in self.changed.items():
            refused = refusal(erased, name, written.manifest)
            if refused is not None:
                raise refused

    def _gone(self, key: str) -> FsvcError:
        """The error of a file that is not there: it was deleted lately, or it is lost."""
        objects, pack = self.store.objects, pack_of(key)
        objects.refresh()
        if pack not in objects.dead_packs and any(pack in table.packs for table in objects.tables()):
            return Corruption(
                f"{key}, which this commit uses again, is missing",
                hint="run 'fsvc verify' to see what it affects; 'fsvc verify --repair' brings back what another"
                " copy has",
            )
        return StorageError(f"{key}, which this commit uses again, is gone", hint="commit again")

    def _record(
        self,
        parent: str | None,
        message: str,
        author: str,
        time: str,
        metadata: Mapping[str, str],
        merged: str | None = None,
    ) -> CommitRecord:
        before = self.store.commit(parent) if parent else None
        sets = dict(before.feature_sets) if before else {}
        changes: dict[str, dict[str, Any]] = {}
        # What was handed over as it was at the base is left as others have made it since.
        for name, written in sorted(self.changed.items()):
            old = sets.get(name)
            sets[name] = SetVersion(written.manifest.id, old.version + 1 if old else 1)
            changes[name] = {
                **describe(written, self.store.manifest(old.snapshot) if old else None),
                **self._extra.get(name, {}),
            }
        parents = tuple(commit for commit in (parent, merged) if commit)
        return CommitRecord(sets, parents, author, time, message, metadata, changes)


def _reason(word: str, message: str) -> str:
    """What the log of a ref says: the first line of the message."""
    return f"{word}: {message.splitlines()[0] if message else ''}"[:200]


def describe(written: Written, before: Manifest | None) -> dict[str, Any]:
    """What changed between two snapshots of a feature set, as far as manifests tell; for people."""
    manifest = written.manifest
    change: dict[str, Any] = {
        "rows": manifest.num_rows,
        "columns": len(manifest.schema),
        "new_bytes": written.new_bytes,
        "new_chunks": written.new_chunks,
        "chunks": written.chunks,
    }
    if before is None:
        return change
    change["rows_before"] = before.num_rows
    old = {field.name: i for i, field in enumerate(before.schema)}
    new = {field.name: i for i, field in enumerate(manifest.schema)}
    change["columns_added"] = [name for name in new if name not in old]
    change["columns_removed"] = [name for name in old if name not in new]
    change["columns_retyped"] = [
        name
        for name in new
        if name in old and not manifest.schema.field(name).equals(before.schema.field(name))
    ]
    change["columns_changed"] = [
        name
        for name in new
        if name in old
        and (
            manifest.rows != before.rows
            or manifest.chunks[new[name]].tobytes() != before.chunks[old[name]].tobytes()
        )
    ]
    return change
