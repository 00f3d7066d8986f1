"""``fsvc tag``."""

from __future__ import annotations

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import short
from fsvc.cli.output import Output
from fsvc.cli.refs import check_arguments, ref_document, ref_row, revision_of

__all__ = ["tag"]


@command(
    "tag",
    examples="""
        fsvc tag black-friday
        fsvc tag first customers@v1
        fsvc tag -d first
    """,
)
@click.argument("name", required=False)
@click.argument("revision", metavar="[REV]", required=False)
@click.option("-d", "--delete", "deleted", metavar="NAME", help="Delete this tag; its log stays.")
def tag(context: Context, name: str | None, revision: str | None, deleted: str | None) -> None:
    """List, make or delete tags.

    Without NAME, lists them. With NAME, tags REV, or the head of the current branch. Tags never move.
    """
    check_arguments(name, deleted, "tag")
    repository = context.repository()
    if deleted is not None:
        commit = repository.delete_tag(deleted)

        def told(out: Output) -> None:
            out.line("deleted tag ", deleted, f", which was at {short(commit)}")
            out.note("to have it back: fsvc tag ", deleted, f" {short(commit)}")

        context.output.show({"tag": deleted, "commit": commit, "deleted": True}, told)
    elif name is not None:
        commit = repository.tag(name, revision_of(repository, revision))
        context.output.show(
            {"tag": name, "commit": commit, "created": True},
            lambda out: out.line("tagged ", short(commit), " as ", name),
        )
    else:
        found = [ref_document(repository, known, commit) for known, commit in repository.tags().items()]
        found.sort(key=lambda document: str(document["name"]))

        def people(out: Output) -> None:
            rows = [(document["name"], *ref_row(out, document)) for document in found]
            out.table(("tag", "commit", "made", "message"), rows)
            if not found:
                out.note("there are no tags")

        context.output.show({"tags": found}, people)
