"""How commits and snapshots are described, in words and as JSON: the same in every command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fsvc.cli.expectations import verified_text
from fsvc.cli.output import Output, Shown, clean, counted, human_size

if TYPE_CHECKING:
    from fsvc.engine.erased import Unfinished
    from fsvc.repository import Repository
    from fsvc.snapshot import Commit, Snapshot

__all__ = [
    "change_text",
    "commit_document",
    "decorations",
    "first_line",
    "print_unfinished",
    "refs_by_commit",
    "short",
    "snapshot_document",
    "stored_text",
]

_SHORT = 12
_MOST_NAMES = 3


def short(commit: str) -> str:
    """The first digits of an id, enough for people."""
    return commit[:_SHORT]


def first_line(message: str) -> str:
    """The first line of a message."""
    return message.strip().splitlines()[0] if message.strip() else "(no message)"


def refs_by_commit(repository: Repository) -> dict[str, list[tuple[str, str]]]:
    """What points at each commit: pairs of ``branch``, ``tag`` or ``model`` and the name.

    The current branch comes first. A model is named once, whatever it has the commit for.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    current = repository.current_branch
    for name, commit in sorted(repository.branches().items(), key=lambda item: (item[0] != current, item[0])):
        found.setdefault(commit, []).append(("branch", name))
    for name, commit in sorted(repository.tags().items()):
        found.setdefault(commit, []).append(("tag", name))
    for pin in repository.pins():
        model = pin.label or pin.model
        if model and ("model", model) not in found.get(pin.commit, ()):
            found.setdefault(pin.commit, []).append(("model", model))
    return found


def decorations(out: Output, refs: Sequence[tuple[str, str]]) -> str:
    """The refs of a commit as in ``(main, tag v1.0, model churn)``; empty where there are none."""
    if not refs:
        return Shown("")
    names = [
        out.styled(name, fg="green", bold=True)
        if kind == "branch"
        else out.styled(f"{kind} {name}", fg="yellow" if kind == "tag" else "magenta")
        for kind, name in refs
    ]
    return Shown("(" + ", ".join(names) + ")")


def change_text(change: Mapping[str, Any]) -> str:
    """What changed in one feature set, from a commit's record: ``+1,200 rows, 2 columns changed (a, b)``."""
    rows, before = change.get("rows"), change.get("rows_before")
    parts = []
    if not isinstance(rows, int):
        return "removed" if change.get("removed") else "changed"
    if not isinstance(before, int):
        parts.append(f"new: {counted(rows, 'row')}, {counted(change.get('columns', 0), 'column')}")
    else:
        if rows != before:
            parts.append(f"{'+' if rows > before else '-'}{counted(abs(rows - before), 'row')}")
        added, removed, retyped, changed = (
            [str(name) for name in change.get(f"columns_{kind}", ())]
            for kind in ("added", "removed", "retyped", "changed")
        )
        if rows != before and len(changed) + len(added) >= change.get("columns", 0):
            # Rows that come or go change every column; that is no news.
            changed = []
        parts += [
            f"{counted(len(names), 'column')} {word} ({_some(names)})"
            for names, word in (
                (added, "added"),
                (removed, "removed"),
                (retyped, "retyped"),
                ([name for name in changed if name not in retyped], "changed"),
            )
            if names
        ]
    if not parts:
        parts.append("metadata, key or order changed")
    verified = verified_text(change)
    return ", ".join(parts) + (f" ({verified})" if verified else "")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(clean(name) for name in names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown}, ..."


def stored_text(changes: Iterable[Mapping[str, Any]]) -> str:
    """How much a commit stored anew, over its feature sets."""
    return f"{human_size(sum(int(change.get('new_bytes', 0)) for change in changes))} stored"


def commit_document(commit: Commit, refs: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """A commit as JSON: the versions of all feature sets, the changes of those that changed."""
    return {
        "id": commit.id,
        "parents": list(commit.parents),
        "author": commit.author,
        "time": commit.time,
        "message": commit.message,
        "metadata": dict(commit.metadata),
        "branches": [name for kind, name in refs if kind == "branch"],
        "tags": [name for kind, name in refs if kind == "tag"],
        "models": [name for kind, name in refs if kind == "model"],
        "versions": dict(sorted(commit.versions.items())),
        "changes": {name: dict(change) for name, change in sorted(commit.changes.items())},
    }


def print_unfinished(out: Output, unfinished: Iterable[Unfinished]) -> None:
    """Say of purges that did not come to their end that rows may still be there, and how they are finished."""
    for one in unfinished:
        out.line(out.styled(one, fg="red", bold=True))
        out.line("  ", one.hint)


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON, without its columns."""
    return {
        "name": snapshot.name,
        "version": snapshot.version,
        "snapshot": snapshot.id,
        "commit": snapshot.commit.id,
        "rows": snapshot.num_rows,
        "columns": len(snapshot.schema),
        "row_groups": len(snapshot.manifest.rows),
        "key": list(snapshot.key),
        "uri": snapshot.uri,
    }
