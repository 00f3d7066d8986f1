"""Branches and tags as users make, move and delete them: what may not be is refused here, for both alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fsvc.engine import history
from fsvc.engine.clock import timestamp
from fsvc.engine.refs import RefEntry
from fsvc.engine.store import Store
from fsvc.errors import Conflict, InvalidUse, NotFound
from fsvc.format import names

__all__ = ["delete", "forward", "live", "log", "move", "refuse"]

_WORDS: dict[str, Literal["branch", "tag"]] = {"heads": "branch", "tags": "tag"}


def live(store: Store, kind: str) -> dict[str, str]:
    """The refs of a kind that are not deleted, and their commits, by name."""
    return {name: entry.commit for name, entry in store.refs.heads(kind).items() if entry.commit is not None}


def refuse(store: Store, kind: str, name: str) -> RefEntry | None:
    """Raise InvalidName or Conflict where no ref may be made under a name; gives its last entry, of a deleted one."""
    names.check_ref_name(name, _WORDS[kind])
    entry = store.refs.head(kind, name)
    if entry is not None and entry.commit is not None:
        raise Conflict(
            f"{_WORDS[kind]} {name!r} is there already, at {history.short(entry.commit)}",
            hint="tags never move; use another name" if kind == "tags" else None,
        )
    twin = names.case_twin(name, live(store, kind))
    if twin is not None:
        raise Conflict(f"{name!r} differs from {twin!r} only in case", hint="use a clearer name")
    return entry


def move(
    store: Store,
    kind: str,
    name: str,
    expected: RefEntry | None,
    commit: str | None,
    reason: str,
    author: str,
) -> None:
    """Let a ref stand at a commit, or nowhere, if its newest entry is the expected one. Raises Conflict."""
    time = timestamp()
    if commit is not None:
        store.stand_on(commit, time=time)
    store.refs.append(kind, name, expected, commit, author=author, reason=reason, time=time)


def forward(store: Store, branch: str, expected: str, commit: str, *, author: str) -> None:
    """Move a branch forward, from one commit to a later one. Raises Conflict where it is elsewhere."""
    entry = store.refs.head("heads", branch)
    if entry is None or entry.commit != expected:
        raise Conflict(f"branch {branch!r} moved meanwhile", hint="try again")
    move(store, "heads", branch, entry, commit, f"merge: forward to {history.short(commit)}", author)


def delete(store: Store, kind: str, name: str, *, author: str) -> str:
    """Delete a ref and give the commit it had; its log stays. Raises NotFound, InvalidUse for the default branch."""
    if kind == "heads" and name == history.DEFAULT_BRANCH:
        raise InvalidUse(f"the default branch {name!r} cannot be deleted: versions are counted on it")
    entry = store.refs.head(kind, name)
    if entry is None or entry.commit is None:
        raise _unknown(_WORDS[kind], name, live(store, kind))
    move(store, kind, name, entry, None, "delete", author)
    return entry.commit


def log(store: Store, kinds: Sequence[str], name: str) -> list[RefEntry]:
    """Every entry of the first of these kinds that has a ref of this name, newest first. Raises NotFound."""
    for kind in kinds:
        entries = store.refs.log(kind, name)
        if entries:
            return entries
    raise _unknown("branch or tag", name, [*live(store, "heads"), *live(store, "tags")])


def _unknown(word: str, name: str, known: Sequence[str] | dict[str, str]) -> NotFound:
    near = names.nearest(name, known)
    return NotFound(f"there is no {word} {name!r}", hint=f"did you mean {near[0]!r}?" if near else None)
