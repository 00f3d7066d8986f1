"""Merges of commits: what theirs changed since a base is put on top of a branch.

Merge, revert and cherry-pick are this one operation with different bases: a revert has the commit as its base
and that commit's parent as theirs, a cherry-pick the other way round. Feature sets that only one side changed
are taken as they are; those that both changed are merged by key (:mod:`fsvc.engine.threeway`). Nothing is
decided by time, and nothing is written before it is known that nothing conflicts.

The base of a merge is the best common ancestor in the graph. After criss-cross merges there are several. Then
the merge is made with each, and stands if all give the same tables: so no choice among them can bring back
what one side had undone.

How a snapshot was made goes with it: a pick of a commit, or a way back, that gives a feature set the very snapshot of
theirs takes its recipe over. A merge of rows that gives another one is made by no recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fsvc.engine import history
from fsvc.engine.clock import timestamp
from fsvc.engine.committing import CommitDraft, Committed
from fsvc.engine.progress import Progress, silent
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.store import Store
from fsvc.engine.threeway import Strategy, TableMerge
from fsvc.engine.writing import Written, write_chunks, write_snapshot
from fsvc.errors import Conflict, InvalidUse, MergeConflict
from fsvc.format.commit import CommitRecord
from fsvc.format.recipe import MEMBER

__all__ = ["Merge"]

_SHOWN_KEYS = 3


@dataclass
class _Outcome:
    """What becomes of a feature set that theirs changed: a snapshot that is there, or merges to be made."""

    snapshot: str | None = None
    merges: list[TableMerge] = field(default_factory=list)
    reason: str | None = None


class Merge:
    """A merge in the making: conflicts can be asked for, then it is published on its branch.

    ``ours`` is the head of the branch, ``bases`` are commits, or None for one without anything in it.
    ``merged`` is the second parent of the commit, None where there is none.
    """

    def __init__(
        self,
        store: Store,
        branch: str,
        ours: str,
        bases: Sequence[str | None],
        theirs: str,
        *,
        merged: str | None = None,
        strategy: Strategy | None = None,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> None:
        self.store = store
        self.branch = branch
        self.draft = CommitDraft(store, branch, ours)
        self.ours = ours
        self.theirs = theirs
        self.bases = list(bases)
        self.merged = merged
        self._strategy = strategy
        self._threads = threads
        self._progress = progress
        self._written = False

    def abandon(self) -> None:
        """Give up; no ref was touched."""
        self.draft.abandon()

    # -- what conflicts --------------------------------------------------------------------------

    @cached_property
    def _outcomes(self) -> dict[str, _Outcome]:
        """What becomes of each feature set that is not left as ours has it."""
        ours, theirs = self._snapshots(self.ours), self._snapshots(self.theirs)
        bases = [self._snapshots(base) for base in self.bases]
        found = {}
        for name in sorted(theirs.keys() | {name for base in bases for name in base}):
            outcome = self._outcome(
                name, [base.get(name) for base in bases], ours.get(name), theirs.get(name)
            )
            if outcome is not None:
                found[name] = outcome
        return found

    def _snapshots(self, commit: str | None) -> dict[str, str]:
        if commit is None:
            return {}
        return {name: value.snapshot for name, value in self.store.commit(commit).feature_sets.items()}

    def _outcome(
        self, name: str, bases: Sequence[str | None], ours: str | None, theirs: str | None
    ) -> _Outcome | None:
        """What becomes of a feature set; None where it stays as it is in ours."""
        if ours == theirs or all(base == theirs for base in bases):
            return None
        if theirs is None:
            return _Outcome(
                reason=f"feature set {name!r} would be removed: its versions would begin anew at v1"
            )
        if all(base == ours for base in bases):
            return _Outcome(theirs)
        outcome = _Outcome()
        for base in bases:
            if base == ours:
                outcome.merges.append(self._taken(theirs))
            elif base == theirs:
                assert ours is not None
                outcome.merges.append(self._taken(ours))
            else:
                reason = self._add_merge(outcome, name, base, ours, theirs)
                if reason is not None:
                    return self._settled(theirs, reason)
        return outcome

    def _settled(self, theirs: str, reason: str) -> _Outcome | None:
        """What becomes of a feature set that cannot be merged row by row: the strategy may take one side's."""
        if self._strategy == "ours":
            return None
        return _Outcome(theirs) if self._strategy == "theirs" else _Outcome(reason=reason)

    def _taken(self, snapshot: str) -> TableMerge:
        """A merge that gives a snapshot as it is: one side changed nothing since this base."""
        reader = self._reader(snapshot)
        return TableMerge(reader, reader, reader)

    def _add_merge(
        self, outcome: _Outcome, name: str, base: str | None, ours: str | None, theirs: str
    ) -> str | None:
        """Merge a feature set by key with one base; why that cannot be, if so."""
        if ours is None:
            return f"feature set {name!r} is not in ours any more, and was changed by theirs"
        readers = [self._reader(snapshot) for snapshot in (ours, theirs)]
        before = self._empty(*readers) if base is None else self._reader(base)
        if before is None:
            return f"feature set {name!r} was added on both sides, with different content"
        readers = [before, *readers]
        keys = {reader.manifest.key for reader in readers}
        if keys == {()}:
            return f"feature set {name!r} has no key and was changed on both sides: its rows cannot be told apart"
        if len(keys) > 1:
            told = ", ".join(
                f"{side} {'(' + ', '.join(reader.manifest.key) + ')' if reader.manifest.key else 'none'}"
                for side, reader in zip(("base", "ours", "theirs"), readers, strict=True)
            )
            return f"feature set {name!r} was changed on both sides and has different keys: {told}"
        try:
            merge = TableMerge(
                readers[0],
                readers[1],
                readers[2],
                strategy=self._strategy,
                threads=self._threads,
                progress=self._progress,
            )
            merge.prepare()
        except (Conflict, InvalidUse) as error:
            return f"feature set {name!r}: {error.message}"
        outcome.merges.append(merge)
        return None

    def _empty(self, ours: SnapshotReader, theirs: SnapshotReader) -> SnapshotReader | None:
        """The base of tables that both sides added: their columns and key, without rows; None where these differ."""
        one, other = ours.manifest, theirs.manifest
        same = one.schema.equals(other.schema, check_metadata=True) and one.key == other.key
        if not same or not one.key or one.category_types:
            return None
        return SnapshotReader(self.store.objects, write_snapshot(one.schema, [], key=one.key).manifest)

    def _reader(self, snapshot: str) -> SnapshotReader:
        return SnapshotReader(self.store.objects, self.store.manifest(snapshot))

    @cached_property
    def conflict(self) -> MergeConflict | None:
        """What conflicts, as the error to raise; None where nothing does. Reads what differs."""
        rows: dict[str, Any] = {}
        reasons: dict[str, str] = {}
        for name, outcome in self._outcomes.items():
            if outcome.reason is not None:
                reasons[name] = outcome.reason
            for merge in outcome.merges:
                if merge.conflicts:
                    rows[name] = merge.conflict_table()
        if not rows and not reasons:
            return None
        told = [f"feature set {name!r}: {_told(table)}" for name, table in rows.items()]
        return MergeConflict(
            "; ".join([*reasons.values(), *told]),
            rows=rows,
            reasons=reasons,
            hint="nothing was written; look at them with --dry-run or --conflicts DIR, then change one side,"
            " or take one with --strategy ours or theirs",
        )

    @property
    def notes(self) -> list[str]:
        """Sentences on what the merge does not take over."""
        return [
            f"{name}: theirs has its rows in another order; the order of ours is kept"
            for name, outcome in self._outcomes.items()
            if any(merge.reordered for merge in outcome.merges)
        ]

    # -- publishing ------------------------------------------------------------------------------

    def write(self) -> None:
        """Write the merged tables; nothing is published yet. Raises :class:`MergeConflict`, writing nothing."""
        if self._written:
            return
        if self.conflict is not None:
            raise self.conflict
        for name, outcome in self._outcomes.items():
            if outcome.snapshot is not None:
                self.draft.take(name, outcome.snapshot)
                self._keep_recipe(name, outcome.snapshot)
                continue
            written = [self._write(name, merge, keep=i == 0) for i, merge in enumerate(outcome.merges)]
            if len({one.manifest.id for one in written}) > 1:
                bases = ", ".join(history.short(base or "nothing") for base in self.bases)
                reason = (
                    f"feature set {name!r}: the two histories have several merge bases ({bases}), and these"
                    " give different tables"
                )
                raise MergeConflict(
                    reason, reasons={name: reason}, hint="choose one of them with --base COMMIT"
                )
            self.draft.add(name, written[0])
            self._keep_recipe(name, written[0].manifest.id)
        self._written = True

    def _keep_recipe(self, name: str, snapshot: str) -> None:
        """Record how a snapshot was made that theirs has too; a second parent leads to that record by itself."""
        value = self.store.commit(self.theirs).feature_sets.get(name)
        if self.merged is not None or value is None or value.snapshot != snapshot:
            return
        _, origin = history.origin(self.store, self.theirs, name)
        recipe = origin.changes.get(name, {}).get(MEMBER)
        if recipe is not None:
            self.draft.note(name, {MEMBER: recipe})

    def _write(self, name: str, merge: TableMerge, *, keep: bool) -> Written:
        changed = merge.changed_chunks()
        if changed is not None:
            if keep:
                self.draft.reuse(merge.ours.manifest)
            return write_chunks(
                merge.ours.manifest,
                changed,
                merge.chunk,
                sink=self.draft.sink if keep else None,
                threads=self._threads,
                progress=self._progress,
                name=name,
            )
        return write_snapshot(
            merge.schema,
            merge.batches(),
            key=merge.key,
            sink=self.draft.sink if keep else None,
            parent=merge.ours.manifest,
            threads=self._threads,
            progress=self._progress,
            total_rows=merge.num_rows,
            name=name,
        )

    def preview(self) -> CommitRecord:
        """The commit that publishing would make, without author, time and message."""
        self.write()
        return self.draft.preview()

    def publish(
        self,
        *,
        message: str,
        author: str,
        time: Callable[[], str] = timestamp,
        metadata: Mapping[str, str] | None = None,
    ) -> Committed:
        """Make the commit and move the branch to it, by the rules of every commit.

        Without a second parent, nothing that changes nothing is committed. Raises :class:`MergeConflict`,
        and ConflictError where another writer changed one of its feature sets meanwhile.
        """
        self.write()
        return self.draft.publish(
            message=message,
            author=author,
            time=time,
            metadata=metadata,
            allow_empty=self.merged is not None,
            merged=self.merged,
        )


def _told(table: Any) -> str:
    """A few rows in conflict in words: ``2 rows changed on both sides (id=3: balance; id=7: region)``."""
    count = table.num_rows
    shown = []
    for row in table.slice(0, _SHOWN_KEYS).select(["key", "conflict", "columns"]).to_pylist():
        key = ", ".join(f"{name}={value}" for name, value in row["key"].items())
        what = ", ".join(row["columns"])
        shown.append(f"{key} {row['conflict']}{': ' + what if what else ''}")
    more = f"; and {count - _SHOWN_KEYS:,} more" if count > _SHOWN_KEYS else ""
    return f"{count:,} row{'' if count == 1 else 's'} in conflict ({'; '.join(shown)}{more})"
