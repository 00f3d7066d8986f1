"""``fsvc branch``."""

from __future__ import annotations

from typing import Any

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import short
from fsvc.cli.output import Output
from fsvc.cli.refs import check_arguments, ref_document, ref_row, revision_of
from fsvc.errors import Conflict

__all__ = ["branch"]


@command(
    "branch",
    examples="""
        fsvc branch
        fsvc branch try-ratios main~2
        fsvc branch -d try-ratios
    """,
)
@click.argument("name", required=False)
@click.argument("revision", metavar="[REV]", required=False)
@click.option("-d", "--delete", "deleted", metavar="NAME", help="Delete this branch; its log stays.")
def branch(context: Context, name: str | None, revision: str | None, deleted: str | None) -> None:
    """List, make or delete branches.

    Without NAME, lists them; * marks the current one. With NAME, makes a branch at REV, or at the head of
    the current branch; 'fsvc switch' moves to it.
    """
    check_arguments(name, deleted, "branch")
    if deleted is not None:
        _delete(context, deleted)
    elif name is not None:
        repository = context.repository()
        commit = repository.branch(name, revision_of(repository, revision))
        context.output.show(
            {"branch": name, "commit": commit, "created": True},
            lambda out: out.line("made branch ", name, f" at {short(commit)}"),
        )
    else:
        _list(context)


def _list(context: Context) -> None:
    repository = context.repository()
    current = repository.current_branch
    found: list[dict[str, Any]] = [
        {**ref_document(repository, name, commit), "current": name == current}
        for name, commit in repository.branches().items()
    ]
    if all(not document["current"] for document in found):
        # A branch is there from its first commit on; the current one is shown before, too.
        unborn = {"name": current, "commit": None, "author": None, "time": None, "message": None}
        found.append({**unborn, "current": True})
    found.sort(key=lambda document: str(document["name"]))

    def people(out: Output) -> None:
        rows = [
            (
                "*" if document["current"] else "",
                out.styled(document["name"], fg="green") if document["current"] else document["name"],
                *ref_row(out, document),
            )
            for document in found
        ]
        out.table(("", "branch", "commit", "made", "message"), rows)

    context.output.show({"branches": found}, people)


def _delete(context: Context, name: str) -> None:
    repository = context.repository()
    workspace = context.find_workspace()
    if workspace is not None and name == workspace.branch and name in repository.branches():
        raise Conflict(f"{name!r} is the current branch", hint="switch to another one first")
    commit = repository.delete_branch(name)

    def people(out: Output) -> None:
        out.line("deleted branch ", name, f", which was at {short(commit)}")
        out.note("to have it back: fsvc branch ", name, f" {short(commit)}")

    context.output.show({"branch": name, "commit": commit, "deleted": True}, people)
