"""Merges as users hold them: planned first, so that conflicts can be looked at, then published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from fsvc.engine import branching, history
from fsvc.engine.clock import teller, timestamp
from fsvc.engine.progress import Progress, silent
from fsvc.errors import InvalidUse, MergeConflict, NotFound
from fsvc.format import names
from fsvc.format.commit import CommitRecord
from fsvc.format.expectation import expected_of
from fsvc.snapshot import Commit, Snapshot

if TYPE_CHECKING:
    from fsvc.engine.merging import Merge
    from fsvc.expectations import Report
    from fsvc.repository import Repository

__all__ = [
    "Kind",
    "MergePlan",
    "Options",
    "Strategy",
    "carry_out",
    "plan_cherry_pick",
    "plan_merge",
    "plan_revert",
]

Strategy = Literal["ours", "theirs"]
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
            branching.forward(store, self.branch, self.ours.id, self.theirs.id, author=author)
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


# -- planning --------------------------------------------------------------------------------------


class Options(TypedDict):
    """How it is merged; each as in :meth:`fsvc.Repository.merge`."""

    strategy: Strategy | None
    threads: int | None
    progress: Progress


def plan_merge(
    repository: Repository,
    revision: str,
    branch: str,
    *,
    fast_forward: bool,
    base: str | None,
    **options: Unpack[Options],
) -> MergePlan:
    """The plan of :meth:`fsvc.Repository.merge`, which says what all of it means."""
    store = repository.store
    ours, theirs = _head(repository, branch), repository.resolve(revision)
    if history.is_ancestor(store, theirs.id, ours.id):
        return MergePlan(repository, branch, "up to date", ours, theirs, (theirs,), None, revision)
    # Version numbers are counted along first parents: moving must not put others in their place.
    forward = base is None and fast_forward
    if forward and any(commit == ours.id for commit, _ in history.first_parents(store, theirs.id)):
        return MergePlan(repository, branch, "fast-forward", ours, theirs, (ours,), None, revision)
    bases = history.merge_bases(store, ours.id, theirs.id) if base is None else [repository.resolve(base).id]
    if not bases:
        raise InvalidUse(
            f"{revision} and {branch} have no commit in common",
            hint="--base COMMIT says against which one changes are judged",
        )
    return _planned(
        repository, revision, branch, "merge", ours, theirs, bases, theirs.id, merged=theirs.id, **options
    )


def plan_revert(
    repository: Repository,
    revision: str,
    branch: str,
    *,
    mainline: int | None,
    **options: Unpack[Options],
) -> MergePlan:
    """The plan of :meth:`fsvc.Repository.revert`: a merge of a commit's parent, judged against that commit."""
    store = repository.store
    commit = repository.resolve(revision)
    parent = _parent(commit, mainline)
    if parent is None:
        raise InvalidUse(f"{commit.id[:12]} is the first commit: there is nothing to go back to")
    gone = sorted(commit.record.feature_sets.keys() - store.commit(parent).feature_sets.keys())
    if gone:
        owner = expected_of(gone[0])
        raise InvalidUse(
            f"commit {commit.id[:12]} added feature set {gone[0]!r}; it cannot be taken away again, since its"
            " versions would begin anew at v1",
            hint="check out the other feature sets as they were before, and commit them"
            if owner is None
            else f"'fsvc expect {owner} --remove all' expects nothing any more",
        )
    ours = _head(repository, branch)
    return _planned(repository, revision, branch, "revert", ours, commit, [commit.id], parent, **options)


def plan_cherry_pick(
    repository: Repository,
    revision: str,
    branch: str,
    *,
    mainline: int | None,
    **options: Unpack[Options],
) -> MergePlan:
    """The plan of :meth:`fsvc.Repository.cherry_pick`: a merge of a commit, judged against its parent."""
    commit = repository.resolve(revision)
    bases = [_parent(commit, mainline)]
    ours = _head(repository, branch)
    return _planned(repository, revision, branch, "cherry-pick", ours, commit, bases, commit.id, **options)


def carry_out(
    plan: MergePlan,
    message: str | None,
    author: str | None,
    time: str | None,
    metadata: Mapping[str, str] | None,
    verify: bool,
) -> Commit:
    """Publish a plan, or give it up. ``time`` is RFC 3339, now unless told."""
    try:
        return plan.publish(
            message=message, author=author, time=teller(time), metadata=metadata, verify=verify
        )
    except BaseException:
        plan.abandon()
        raise


def _planned(
    repository: Repository,
    revision: str,
    branch: str,
    kind: Kind,
    ours: Commit,
    named: Commit,
    bases: Sequence[str | None],
    theirs: str,
    *,
    merged: str | None = None,
    **options: Unpack[Options],
) -> MergePlan:
    """A plan in which something is merged: what ``theirs`` changed since ``bases``, because of the commit ``named``."""
    from fsvc.engine.merging import Merge

    store = repository.store
    merge = Merge(store, branch, ours.id, bases, theirs, merged=merged, **options)
    judged = tuple(Commit(store, base, store.commit(base)) for base in bases if base)
    return MergePlan(repository, branch, kind, ours, named, judged, merge, revision)


def _head(repository: Repository, branch: str) -> Commit:
    head = repository.head(branch)
    if head is not None:
        return head
    near = names.nearest(branch, repository.branches())
    raise NotFound(
        f"branch {branch!r} has no commit to merge into",
        hint=f"did you mean {near[0]!r}?" if near else None,
    )


def _parent(commit: Commit, mainline: int | None) -> str | None:
    """The parent against which a commit's changes are meant; None where it has none."""
    parents = commit.parents
    if mainline is None and len(parents) > 1:
        raise InvalidUse(
            f"commit {commit.id[:12]} is a merge: against which of its {len(parents)} parents is not clear",
            hint="--mainline 1 means the branch that was merged into",
        )
    number = 1 if mainline is None else mainline
    if not 1 <= number <= max(len(parents), 1):
        raise InvalidUse(f"commit {commit.id[:12]} has no parent {number}")
    return parents[number - 1] if parents else None
