"""Merges as users hold them: planned first, so that conflicts can be looked at, then published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from fsvc.engine.clock import timestamp
from fsvc.engine.progress import Progress, silent
from fsvc.errors import MergeConflict
from fsvc.format.commit import CommitRecord
from fsvc.snapshot import Commit, Snapshot

if TYPE_CHECKING:
    from fsvc.engine.merging import Merge
    from fsvc.expectations import Report
    from fsvc.repository import Repository

__all__ = ["Kind", "MergePlan"]

Kind = Literal["up to date", "fast-forward", "merge", "revert", "cherry-pick"]


class MergePlan:
    """What a merge, revert or cherry-pick would do. Nothing is written before :meth:`publish`.

    ``ours`` is the head of ``branch``, ``theirs`` the commit whose changes are put on top of it, ``kind``
    how that is done: there may be nothing to do, or it may be enough to move the branch forward.
    ``bases`` are the commits against which changes are judged.
    """

    def __init__(
        self,
        repository: Repository,
        branch: str,
        kind: Kind,
        ours: Commit,
        theirs: Commit,
        bases: tuple[Commit, ...],
        merge: Merge | None,
        revision: str,
    ) -> None:
        self._revision = revision
        self._repository = repository
        self._merge = merge
        self.branch = branch
        self.kind = kind
        self.ours = ours
        self.theirs = theirs
        self.bases = bases

    def __repr__(self) -> str:
        return f"<MergePlan {self.kind} {self.theirs.id[:12]} into {self.branch}>"

    @property
    def conflict(self) -> MergeConflict | None:
        """What conflicts, as the error that publishing would raise; None where nothing does."""
        return None if self._merge is None else self._merge.conflict

    @property
    def notes(self) -> list[str]:
        """Sentences on what the merge does not take over."""
        return [] if self._merge is None else self._merge.notes

    def preview(self) -> CommitRecord:
        """The commit that the branch would stand on; a new one without author, time and message.

        Raises :class:`MergeConflict` where there is a conflict.
        """
        if self._merge is None:
            return (self.theirs if self.kind == "fast-forward" else self.ours).record
        return self._merge.preview()

    def changed(self) -> list[Snapshot]:
        """The snapshots that the branch would have and does not have now, by name."""
        from fsvc.engine.reading import SnapshotReader

        record = self.preview()
        store = self._repository.store
        commit = Commit(store, record.id, record)
        found = []
        for name, value in sorted(record.feature_sets.items()):
            if self.ours.record.feature_sets.get(name) != value:
                written = None if self._merge is None else self._merge.draft.written(name)
                reader = None if written is None else SnapshotReader(store.objects, written.manifest)
                found.append(Snapshot(store, commit, name, value, reader=reader))
        return found

    def check(
        self, *, time: str | None = None, verify: bool = True, progress: Progress = silent
    ) -> tuple[Report, ...]:
        """Check what comes together by it against what is expected; what publishing does first. Gives the reports.

        ``time`` is when it is committed, now unless told. Raises ExpectationError where something is not met,
        :class:`MergeConflict` where there is a conflict.
        """
        if self._merge is None:
            return ()
        from fsvc.expectations.gate import pass_gate

        self._merge.write()
        return pass_gate(
            self._merge.draft,
            time=time or timestamp(),
            verify=verify,
            merged=self._merge.merged,
            progress=progress,
        )

    def publish(
        self,
        *,
        message: str | None = None,
        author: str | None = None,
        time: Callable[[], str] = timestamp,
        metadata: Mapping[str, str] | None = None,
        verify: bool = True,
        progress: Progress = silent,
    ) -> Commit:
        """Do it, and give the commit that the branch stands on then. Durable on return.

        Without ``verify``, expectations of feature sets are not looked at. Raises ExpectationError where they are
        not met, and nothing is done; :class:`MergeConflict`; ConflictError where another writer changed one of its
        feature sets meanwhile; Conflict where the branch moved and was to be moved forward.
        """
        author = author or self._repository.author
        store = self._repository.store
        if self._merge is not None:
            reports = self.check(time=time(), verify=verify, progress=progress)
            done = self._merge.publish(
                message=message or self.message(), author=author, time=time, metadata=metadata
            )
            return Commit(store, done.commit, done.record, created=done.created, reports=reports)
        if self.kind == "fast-forward":
            self._repository.forward(self.branch, self.ours.id, self.theirs.id, author=author)
            return self.theirs
        return Commit(store, self.ours.id, self.ours.record, created=False)

    def message(self) -> str:
        """The message of the commit unless told."""
        first = (self.theirs.message.strip().splitlines() or ["(no message)"])[0]
        if self.kind == "revert":
            return f"revert: {first}\n\nThis takes back commit {self.theirs.id}."
        if self.kind == "cherry-pick":
            return f"{self.theirs.message.rstrip()}\n\n(picked from commit {self.theirs.id})"
        return f"merge {self._revision} into {self.branch}"

    def abandon(self) -> None:
        """Give it up."""
        if self._merge is not None:
            self._merge.abandon()
