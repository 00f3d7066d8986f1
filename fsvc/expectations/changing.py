"""Changing what is expected of a feature set: a commit of the feature set that holds its expectations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fsvc.engine import history
from fsvc.engine.clock import timestamp
from fsvc.engine.committing import CommitDraft
from fsvc.engine.writing import write_snapshot
from fsvc.errors import Conflict, ConflictError, InvalidName, InvalidUse, NotFound
from fsvc.expectations.held import KEY, expectations_at, is_home, table_of
from fsvc.expectations.rules import fitted
from fsvc.format import names
from fsvc.format.expectation import Expectation, distinct, expected_of, home, listed
from fsvc.snapshot import Commit

if TYPE_CHECKING:
    from fsvc.repository import Repository

__all__ = ["change_expectations"]

_MOST_TRIES = 20
_MOST_NAMES = 4


def change_expectations(
    repository: Repository,
    name: str,
    expectations: Any,
    *,
    remove: Sequence[str],
    replace: bool,
    message: str | None,
    author: str | None,
    time: str | None,
    branch: str | None,
    metadata: Mapping[str, str] | None,
) -> Commit:
    """As :meth:`Repository.expect`. Where somebody else was faster, the change is made to what is there then."""
    given = listed(expectations)
    branch = branch or repository.current_branch
    remove = [remove] if isinstance(remove, str) else list(remove)
    if remove == ["all"]:
        remove, replace = [], True
    if not given and not remove and not replace:
        raise InvalidUse("nothing is said of what is expected", hint="give expectations, or some to remove")
    if expected_of(name) is not None:
        raise InvalidName(f"nothing can be expected of expectations: {name!r}")
    for _ in range(_MOST_TRIES):
        draft = CommitDraft(repository.store, branch)
        try:
            return _changed(repository, draft, name, given, remove, replace, message, author, time, metadata)
        except ConflictError:
            continue
        except BaseException:
            draft.abandon()
            raise
    raise Conflict(f"what is expected of {name!r} was changed by others again and again", hint="try again")


def _changed(
    repository: Repository,
    draft: CommitDraft,
    name: str,
    given: Sequence[Expectation],
    remove: Sequence[str],
    replace: bool,
    message: str | None,
    author: str | None,
    time: str | None,
    metadata: Mapping[str, str] | None,
) -> Commit:
    store = repository.store
    record = None if draft.base is None else store.commit(draft.base)
    manifest = draft.parent_manifest(name)
    if record is None or draft.base is None or manifest is None:
        raise history.unknown_feature_set(store, name, draft.base)
    place = home(name)
    there = draft.parent_manifest(place)
    if there is not None and not is_home(there):
        raise Conflict(f"{place!r} is a table of its own: the expectations of {name!r} have no place")
    names.check_feature_set_name(place)
    known = (
        {} if there is None else {one.name: one for one in expectations_at(store, record.feature_sets, name)}
    )
    new = {one.name: fitted(one, manifest.schema, name) for one in given}
    for gone in remove:
        if gone not in known:
            near = names.nearest(gone, known)
            raise NotFound(
                f"{name} has no expectation {names.quoted(gone)}",
                hint=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(known) or 'none'}",
            )
        if gone in new:
            raise InvalidUse(f"the expectation {names.quoted(gone)} is both given and removed")
    kept = {} if replace else {key: one for key, one in known.items() if key not in remove}
    wanted = distinct({**kept, **new}.values())
    if there is None and not wanted:
        draft.abandon()
        return Commit(store, draft.base, record, created=False)
    table = table_of(wanted)
    written = write_snapshot(
        table.schema, table.to_batches(), key=KEY, sink=draft.sink, parent=there, threads=1, name=place
    )
    draft.add(place, written)
    done = draft.publish(
        message=message or _message(name, known, {one.name: one for one in wanted}),
        author=author or repository.author,
        time=timestamp if time is None else lambda: time,
        metadata=metadata,
    )
    return Commit(store, done.commit, done.record, created=done.created)


def _message(name: str, before: Mapping[str, Expectation], after: Mapping[str, Expectation]) -> str:
    """What a commit is called unless told."""
    new = [key for key, one in after.items() if before.get(key) != one]
    gone = [key for key in before if key not in after]
    told = [f"{word} {_some(keys)}" for word, keys in (("expect", new), ("no longer expect", gone)) if keys]
    return f"{name}: {' and '.join(told) or 'expect the same'}"


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:_MOST_NAMES])
    return shown if len(keys) <= _MOST_NAMES else f"{shown} and {len(keys) - _MOST_NAMES} more"
