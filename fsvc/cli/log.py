"""``fsvc log``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import change_text, commit_document, decorations, first_line, refs_by_commit, short
from fsvc.cli.graph import draw
from fsvc.cli.keys import key_options
from fsvc.cli.output import Output, Shown, ago, counted
from fsvc.errors import NotFound

if TYPE_CHECKING:
    from fsvc.repository import Repository
    from fsvc.snapshot import Commit

__all__ = ["log"]

_MOST_CHANGES = 8
"""How many feature sets a line names; --long names all."""


@command(
    "log",
    examples="""
        fsvc log -n 5
        fsvc log customers
        fsvc log customers --key 1042
        fsvc log --at black-friday --graph
    """,
)
@click.argument("name", required=False)
@click.option("--at", "revision", metavar="REV", help="Begin at this revision instead of the current branch.")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N commits.")
@click.option("--key", metavar="VALUE[,VALUE]", help="Only commits that changed this row, or LOW..HIGH.")
@click.option("--graph", is_flag=True, help="Draw branches and merges.")
@click.option("--long", "whole", is_flag=True, help="Whole ids, messages and changes, over several lines.")
def log(
    context: Context,
    name: str | None,
    revision: str | None,
    limit: int | None,
    key: str | None,
    graph: bool,
    whole: bool,
) -> None:
    """List commits, newest first.

    With NAME, those that changed this feature set; NAME@REV begins at a revision.
    """
    repository = context.repository()
    if name is not None and "@" in name:
        name, _, revision = name.partition("@")
    try:
        rows = {} if key is None else key_options(key)
        commits = repository.log(name, revision=revision, limit=limit, **rows)
    except NotFound as error:
        if name is not None and (name in repository.branches() or name in repository.tags()):
            raise NotFound(error.message, hint=f"{name!r} is a revision: fsvc log --at {name}") from None
        raise
    refs = refs_by_commit(repository)
    gone = repository.expired()

    def expired(commit: Commit) -> list[str]:
        versions = commit.record.feature_sets
        return [
            change for change in commit.changes if change in versions and versions[change].snapshot in gone
        ]

    def people(out: Output) -> None:
        if not commits:
            what = name if key is None else f"such a row of {name}"
            out.note("no commit changed ", what) if name else out.note("nothing is committed yet")
        texts = [
            _paragraph(out, commit, refs.get(commit.id, ()), expired(commit))
            if whole
            else [_line(out, commit, refs.get(commit.id, ()), name, expired(commit))]
            for commit in commits
        ]
        if graph:
            parents = _shown_parents(repository, commits, name, revision)
            for row in draw([commit.id for commit in commits], parents, texts):
                out.line(Shown(row))
        else:
            for text in texts:
                for row in text:
                    out.line(Shown(row))

    context.output.show(
        {
            "commits": [
                {**commit_document(commit, refs.get(commit.id, ())), "expired": expired(commit)}
                for commit in commits
            ]
        },
        people,
    )


def _line(
    out: Output, commit: Commit, refs: Sequence[tuple[str, str]], only: str | None, expired: Sequence[str]
) -> str:
    changes = {name: change for name, change in commit.changes.items() if only in (None, name)}
    what = "; ".join(
        f"{name} v{commit.versions[name]}: {change_text(change)}{', expired' if name in expired else ''}"
        if name in commit.versions
        else f"{name}: removed"
        for name, change in sorted(changes.items())[:_MOST_CHANGES]
    )
    if len(changes) > _MOST_CHANGES:
        what += f"; and {counted(len(changes) - _MOST_CHANGES, 'more feature set')}"
    parts = [
        out.styled(short(commit.id), fg="yellow"),
        decorations(out, refs),
        out.styled(ago(commit.time), fg="cyan"),
        out.styled(commit.author.partition(" <")[0]),
        out.styled(first_line(commit.message), bold=True),
        out.styled(f"[{what}]" if what else "[nothing changed]", dim=True),
    ]
    return "  ".join(part for part in parts if part)


def _paragraph(
    out: Output, commit: Commit, refs: Sequence[tuple[str, str]], expired: Sequence[str]
) -> list[str]:
    decoration = decorations(out, refs)
    lines = [
        Shown(f"{out.styled(f'commit {commit.id}', fg='yellow')}{' ' if decoration else ''}{decoration}")
    ]
    if len(commit.parents) > 1:
        lines.append(out.styled("parents " + " ".join(map(short, commit.parents))))
    lines += [
        out.styled(f"author  {commit.author}"),
        out.styled(f"time    {commit.time}  ({ago(commit.time)})"),
        Shown(""),
    ]
    lines += [out.styled(f"    {line}") for line in commit.message.splitlines()]
    lines.append(Shown(""))
    for name, change in sorted(commit.changes.items()):
        version = f" v{commit.versions[name]}" if name in commit.versions else ""
        mark = ", expired" if name in expired else ""
        lines.append(out.styled(f"    {name}{version}: {change_text(change)}{mark}"))
    if commit.changes:
        lines.append(Shown(""))
    return [str(line) for line in lines]


def _shown_parents(
    repository: Repository, commits: Sequence[Commit], name: str | None, revision: str | None
) -> dict[str, list[str]]:
    """The parents of each commit; where commits are left out, the nearest ancestors that are shown."""
    if name is None:
        return {commit.id: list(commit.parents) for commit in commits}
    shown = {commit.id for commit in commits}
    nearest: dict[str, list[str]] = {}
    start = repository.resolve(revision, feature_set=name).id
    for commit in reversed(repository.log(revision=start)):
        above = [found for parent in commit.parents for found in nearest.get(parent, [])]
        nearest[commit.id] = [commit.id] if commit.id in shown else list(dict.fromkeys(above))
    return {
        commit.id: list(
            dict.fromkeys(found for parent in commit.parents for found in nearest.get(parent, []))
        )
        for commit in commits
    }
