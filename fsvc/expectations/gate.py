"""The gate that a commit goes through: what it brings together for the first time is checked, before any ref moves.

A table and expectations that one of the commit's parents has side by side were judged when they came together; all
others are judged here. Where a feature set has no expectations nothing is read, and nothing is done.
"""

from __future__ import annotations

from fsvc.engine.clock import timestamp
from fsvc.engine.committing import CommitDraft
from fsvc.engine.progress import Progress, silent
from fsvc.engine.reading import SnapshotReader
from fsvc.errors import ExpectationError
from fsvc.expectations.held import is_home, read
from fsvc.expectations.report import Report
from fsvc.format.commit import CommitRecord
from fsvc.format.expectation import expected_of, home
from fsvc.format.manifest import Manifest
from fsvc.snapshot import Commit, Snapshot

__all__ = ["MEMBER", "pass_gate"]

MEMBER = "expectations"
"""The member of a feature set's record of changes that says what came of its expectations."""


def pass_gate(
    draft: CommitDraft,
    *,
    time: str,
    verify: bool = True,
    merged: str | None = None,
    progress: Progress = silent,
) -> tuple[Report, ...]:
    """Check what a commit in the making brings together, and note in it what came of that.

    ``merged`` is its second parent. Without ``verify`` nothing is checked, and that is noted. Gives the reports.
    Raises ExpectationError where an expectation that is no warning fails; the draft is to be given up then.
    """
    changed = draft.changed
    if not changed:
        return ()
    parents = [draft.store.commit(commit) for commit in (draft.base, merged) if commit is not None]
    reports = []
    for name in sorted({expected_of(one) or one for one in changed}):
        if verify:
            # Another writer may change either before this commit is published.
            draft.relied.update((name, home(name)))
        table, wanted = _manifest(draft, name), _manifest(draft, home(name))
        if table is None or wanted is None or not is_home(wanted) or not wanted.num_rows:
            continue
        if any(_has(one, name, table, wanted) for one in parents):
            continue
        noted = name if name in changed else home(name)
        if not verify:
            draft.note(noted, {MEMBER: {"not_verified": wanted.num_rows}})
            continue
        from fsvc.expectations.checking import check

        draft.settle(timestamp())
        record = draft.preview()
        snapshot = Snapshot(
            draft.store,
            Commit(draft.store, record.id, record),
            name,
            record.feature_sets[name],
            reader=SnapshotReader(draft.store.objects, table),
        )
        report = check(
            snapshot,
            read(draft.store.objects, wanted, name),
            before=lambda name=name: _before(draft, name),  # type: ignore[misc]  # bound at once
            time=time,
            progress=progress,
        )
        draft.note(noted, {MEMBER: report.summary()})
        reports.append(report)
    if not all(report.passed for report in reports):
        raise _refused(reports)
    return tuple(reports)


def _manifest(draft: CommitDraft, name: str) -> Manifest | None:
    """What a feature set will have."""
    written = draft.changed.get(name)
    return draft.parent_manifest(name) if written is None else written.manifest


def _has(record: CommitRecord, name: str, table: Manifest, wanted: Manifest) -> bool:
    """Whether a commit has the two side by side."""
    held = [record.feature_sets.get(one) for one in (name, home(name))]
    return [value and value.snapshot for value in held] == [table.id, wanted.id]


def _before(draft: CommitDraft, name: str) -> Snapshot | None:
    """What the first parent has of a feature set."""
    if draft.base is None:
        return None
    record = draft.store.commit(draft.base)
    if name not in record.feature_sets:
        return None
    return Commit(draft.store, draft.base, record).snapshot(name)


def _refused(reports: list[Report]) -> ExpectationError:
    bad = [report for report in reports if not report.passed]
    told = [
        f"{report.feature_set} does not meet {len(report.failed)} of its {len(report.results)} expectations"
        for report in bad
    ]
    error = ExpectationError(
        "; ".join(told),
        reports=[report.to_dict() for report in reports],
        hint="nothing was committed: mend the table, or change what is expected ('fsvc expect"
        f" {bad[0].feature_set}'); --no-verify commits it as it is, and says so",
    )
    for report in bad:
        for result in report.failed:
            error.add_note(f"  {report.feature_set}  {result}")
    return error
