"""``fsvc reflog``."""

from __future__ import annotations

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import short
from fsvc.cli.output import Output, ago

__all__ = ["reflog"]

_KINDS = {"heads": "branch", "tags": "tag"}


@command(
    "reflog",
    examples="""
        fsvc reflog
        fsvc reflog try-ratios -n 5
    """,
)
@click.argument("name", required=False)
@click.option("--tag", "only_tag", is_flag=True, help="NAME is a tag, even if a branch is called the same.")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N moves.")
def reflog(context: Context, name: str | None, only_tag: bool, limit: int | None) -> None:
    """List the moves of a branch or tag, newest first.

    Without NAME, those of the current branch. The log outlives the branch or tag; NAME{TIME} is
    where it was at a time.
    """
    repository = context.repository()
    entries = repository.reflog(name, kind="tags" if only_tag else None)[:limit]
    kind, called = _KINDS[entries[0].kind], entries[0].name

    def people(out: Output) -> None:
        rows = [
            (
                entry.sequence,
                out.styled(short(entry.commit), fg="yellow") if entry.commit is not None else "(deleted)",
                entry.time,
                ago(entry.time),
                entry.author.partition(" <")[0],
                entry.reason,
            )
            for entry in entries
        ]
        out.table(("move", "commit", "time", "", "author", "reason"), rows, right=("move",))

    context.output.show(
        {
            "kind": kind,
            "name": called,
            "entries": [
                {
                    "sequence": entry.sequence,
                    "commit": entry.commit,
                    "time": entry.time,
                    "author": entry.author,
                    "reason": entry.reason,
                    "transaction": entry.transaction,
                }
                for entry in entries
            ],
        },
        people,
    )
