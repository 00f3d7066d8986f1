"""History: what a revision names, and the walk from a commit to its ancestors."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from fsvc.engine.refs import KINDS, RefEntry
from fsvc.engine.store import Store
from fsvc.errors import Corruption, FsvcError, InvalidRevision, NotFound
from fsvc.format import names
from fsvc.format.commit import CommitRecord, is_id
from fsvc.format.revision import Revision

__all__ = [
    "DEFAULT_BRANCH",
    "Resolved",
    "ancestors",
    "first_parents",
    "head",
    "is_ancestor",
    "keys",
    "merge_bases",
    "origin",
    "resolve",
    "short",
]

DEFAULT_BRANCH = "main"
"""The branch whose history only grows, so that its version numbers are unique."""

SHORT = 12


def short(commit: str) -> str:
    """The first digits of an id, as people are shown them."""
    return commit[:SHORT]


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a revision names: a commit, and the branch or tag by which it was found, if any."""

    commit: str
    record: CommitRecord
    ref: str | None


def head(store: Store, branch: str) -> str | None:
    """The commit at the head of a branch; None where the branch has no commit or is deleted."""
    entry = store.refs.head("heads", branch)
    return None if entry is None else entry.commit


def resolve(store: Store, revision: Revision, *, branch: str, feature_set: str | None = None) -> Resolved:
    """The commit that a revision names, seen from a current branch.

    A version number (``v3``) needs a feature set, and means the default branch's.
    Raises NotFound with the nearest name, InvalidRevision where a prefix fits several commits.
    """
    if revision.version is not None:
        if revision.time is not None:
            raise InvalidRevision(f"{revision} has both a version and a time")
        commit: str
        ref: str | None
        commit, ref = _version(store, feature_set, revision.version, branch), DEFAULT_BRANCH
    elif revision.base == "":
        commit, ref = _named(store, "heads", branch, revision.time), branch
    else:
        commit, ref = _base(store, revision)
    for kind, number in revision.steps:
        commit = _step(store, commit, kind, number, revision)
        ref = None
    return Resolved(commit, store.commit(commit), ref)


def _named(store: Store, kind: str, name: str, time: datetime | None) -> str:
    """The commit of a branch or tag, now or at a time by its log."""
    if time is None:
        entry = store.refs.head(kind, name)
        if entry is None or entry.commit is None:
            raise NotFound(
                f"branch {name!r} has no commit yet" if kind == "heads" else f"there is no tag {name!r}",
                hint="commit something first: fsvc commit PATH -m MESSAGE" if kind == "heads" else None,
            )
        return entry.commit
    for entry in store.refs.log(kind, name):
        if datetime.fromisoformat(entry.time) <= time:
            if entry.commit is None:
                break
            return entry.commit
    raise NotFound(
        f"{'branch' if kind == 'heads' else 'tag'} {name!r} was not there at {time.isoformat()}",
        hint=f"see 'fsvc reflog {name}'",
    )


def _base(store: Store, revision: Revision) -> tuple[str, str | None]:
    name = revision.base
    for kind in ("heads", "tags"):
        entry = store.refs.head(kind, name) if not is_id(name) else None
        if entry is not None and revision.time is None and entry.commit is not None:
            return entry.commit, name
        if entry is not None and revision.time is not None:
            return _named(store, kind, name, revision.time), name
    prefix = revision.commit_prefix
    if prefix is not None:
        if revision.time is not None:
            raise InvalidRevision(f"{revision} has both a commit and a time")
        if is_id(prefix) and store.has_commit(prefix):
            return prefix, None
        matches = [commit for commit in store.commit_ids() if commit.startswith(prefix)]
        if len(matches) == 1:
            return matches[0], None
        if matches:
            raise InvalidRevision(
                f"{name!r} is the beginning of {len(matches)} commits",
                hint="; ".join(
                    f"{short(m)} {(store.commit(m).message.splitlines() or [''])[0][:40]}"
                    for m in matches[:4]
                ),
            )
    known = [
        n for kind in ("heads", "tags") for n, e in store.refs.heads(kind).items() if e.commit is not None
    ]
    near = names.nearest(name, known)
    raise NotFound(
        f"{name!r} is no version, branch, tag or commit",
        hint=f"did you mean {near[0]!r}?" if near else "see 'fsvc log', 'fsvc branch' and 'fsvc tag'",
    )


def _version(store: Store, feature_set: str | None, number: int, branch: str) -> str:
    if feature_set is None:
        raise InvalidRevision(
            f"v{number} is a version of a feature set; name the feature set too", hint=f"write NAME@v{number}"
        )
    entry = store.refs.head("heads", DEFAULT_BRANCH)
    start = None if entry is None else entry.commit
    newest: int | None = None
    near = None if entry is None else _shortcut(store, entry, feature_set, number)
    for commit, record in first_parents(store, near or start):
        value = record.feature_sets.get(feature_set)
        if value is None:
            if newest is not None and feature_set not in record.changes:
                break
            continue
        newest = max(newest or 0, value.version)
        if value.version < number:
            break
        if value.version == number and feature_set in record.changes:
            return commit
    for commit, record in first_parents(store, head(store, branch)) if branch != DEFAULT_BRANCH else ():
        value = record.feature_sets.get(feature_set)
        if value is not None and value.version == number:
            raise NotFound(
                f"{feature_set}@v{number} is not on {DEFAULT_BRANCH}, whose versions these are",
                hint=f"on {branch} that number is {feature_set}@{short(commit)}",
            )
    if newest is None:
        raise unknown_feature_set(store, feature_set, start)
    raise NotFound(
        f"there is no {feature_set}@v{number}",
        hint=f"the newest on {DEFAULT_BRANCH} is {feature_set}@v{newest}",
    )


def _shortcut(store: Store, newest: RefEntry, feature_set: str, number: int) -> str | None:
    """A commit from which the default branch's version of a number is near, if it is there at all.

    The branch only moves to commits whose first parents lead back to where it was, no feature set ever leaves
    it, and versions only grow along first parents: so its log is searched by halves. None where that fails;
    then all first parents have to be looked at.
    """
    low, high = 0, newest.sequence if number >= 1 else 0
    found: str | None = None
    try:
        while low < high:
            middle = (low + high) // 2
            commit = store.refs.entry(newest.kind, newest.name, middle + 1).commit
            value = store.commit(commit).feature_sets.get(feature_set) if commit is not None else None
            if value is not None and value.version >= number:
                found, high = commit, middle
            else:
                low = middle + 1
    except Corruption:
        return None
    return found


def unknown_feature_set(store: Store, name: str, commit: str | None) -> NotFound:
    """The error for a feature set that a commit does not have, with the nearest name."""
    known = sorted(store.commit(commit).feature_sets) if commit else []
    near = names.nearest(name, known)
    where = f" at {short(commit)}" if commit else ""
    if near:
        hint = f"did you mean {near[0]!r}?"
    else:
        hint = f"there are: {', '.join(known[:10])}" if known else "nothing is committed yet"
    return NotFound(f"there is no feature set {name!r}{where}", hint=hint)


def _step(store: Store, commit: str, kind: str, number: int, revision: Revision) -> str:
    if kind == "~":
        for _ in range(number):
            commit = _parent(store, commit, 1, revision)
        return commit
    return commit if number == 0 else _parent(store, commit, number, revision)


def _parent(store: Store, commit: str, number: int, revision: Revision) -> str:
    parents = store.commit(commit).parents
    if number > len(parents):
        raise NotFound(
            f"{revision} goes back too far: commit {short(commit)} has "
            + ("no parent" if not parents else f"{len(parents)} parent(s)")
        )
    return parents[number - 1]


def first_parents(store: Store, start: str | None) -> Iterator[tuple[str, CommitRecord]]:
    """A commit and its first parents, newest first."""
    commit = start
    while commit is not None:
        record = store.commit(commit)
        yield commit, record
        commit = record.parents[0] if record.parents else None


def origin(store: Store, commit: str, feature_set: str) -> tuple[str, CommitRecord]:
    """The commit that gave a feature set the snapshot that it has at a later one.

    Where a merge took the snapshot over from its second parent, it is the commit there.
    """
    while True:
        record = store.commit(commit)
        value = record.feature_sets[feature_set]
        others = record.parents[1:] if feature_set in record.changes else record.parents[:1]
        for parent in others:
            before = store.commit(parent).feature_sets.get(feature_set)
            if before is not None and before.snapshot == value.snapshot:
                commit = parent
                break
        else:
            return commit, record


def ancestors(store: Store, starts: list[str]) -> Iterator[tuple[str, CommitRecord]]:
    """Commits and all their ancestors, each once, children before parents, newer ones first.

    Order is by the commits' times, and by generation where clocks disagree: a commit is held back
    until all its children that are reachable were given. Where history is a line, a commit is read
    only when it is asked for.
    """
    tips = list(dict.fromkeys(starts))
    while len(tips) == 1:
        record = store.commit(tips[0])
        yield tips[0], record
        tips = list(dict.fromkeys(record.parents))
    yield from _in_order(store, tips)


def _in_order(store: Store, starts: list[str]) -> Iterator[tuple[str, CommitRecord]]:
    """What :func:`ancestors` gives, from the graph as a whole."""
    records: dict[str, CommitRecord] = {}
    children: dict[str, int] = {}
    stack = list(starts)
    while stack:
        commit = stack.pop()
        if commit in records:
            continue
        records[commit] = store.commit(commit)
        for parent in records[commit].parents:
            children[parent] = children.get(parent, 0) + 1
            stack.append(parent)
    ready = [(_newest_first(records[c].time), i, c) for i, c in enumerate(starts) if not children.get(c)]
    heapq.heapify(ready)
    counter = len(ready)
    while ready:
        _, _, commit = heapq.heappop(ready)
        yield commit, records[commit]
        for parent in records[commit].parents:
            children[parent] -= 1
            if children[parent] == 0:
                counter += 1
                heapq.heappush(ready, (_newest_first(records[parent].time), counter, parent))


def _newest_first(time: str) -> tuple[int, ...]:
    """A sort key that puts later times first; times are texts of one fixed form."""
    return tuple(-ord(c) for c in time)


def is_ancestor(store: Store, older: str, newer: str) -> bool:
    """Whether ``older`` is ``newer`` or one of its ancestors."""
    return any(commit == older for commit, _ in ancestors(store, [newer]))


def merge_bases(store: Store, one: str, other: str) -> list[str]:
    """The best common ancestors of two commits, sorted by id: those that no other common one descends from.

    Mostly there is one; none for histories that have nothing in common, several after criss-cross merges.
    Found by the graph alone; times have no say.
    """
    records = dict(ancestors(store, [one]))
    common = {commit for commit, _ in ancestors(store, [other]) if commit in records}
    return sorted(common - {parent for commit in common for parent in records[commit].parents})


def keys(store: Store) -> set[tuple[str, ...]]:
    """The keys of all snapshots that any entry of a ref leads to, and none at all; what is damaged is passed over."""
    found: set[tuple[str, ...]] = {()}
    stack: list[str | None] = []
    for kind in KINDS:
        for name in store.refs.names(kind, deleted=True):
            for sequence in store.refs.sequences(kind, name):
                try:
                    stack.append(store.refs.entry(kind, name, sequence).commit)
                except FsvcError:
                    continue
    seen: set[str] = set()
    snapshots: set[str] = set()
    while stack:
        commit = stack.pop()
        if commit is None or commit in seen:
            continue
        seen.add(commit)
        try:
            record = store.commit(commit)
        except FsvcError:
            continue
        stack += record.parents
        for snapshot in {value.snapshot for value in record.feature_sets.values()} - snapshots:
            snapshots.add(snapshot)
            try:
                found.add(store.manifest(snapshot).key)
            except FsvcError:
                continue
    return found
