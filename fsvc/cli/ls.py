"""``fsvc ls``."""

from __future__ import annotations

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import short, snapshot_document

__all__ = ["ls"]


@command(
    "ls",
    examples="""
        fsvc ls
        fsvc ls black-friday
    """,
)
@click.argument("revision", metavar="[REV]", required=False)
def ls(context: Context, revision: str | None) -> None:
    """List the feature sets at a revision.

    Without REV, at the head of the current branch.
    """
    repository = context.repository()
    if revision is None and repository.head() is None:
        context.output.show(
            {"commit": None, "feature_sets": []}, lambda out: out.note("nothing is committed yet")
        )
        return
    commit = repository.resolve(revision)
    snapshots = commit.snapshots()
    context.output.show(
        {"commit": commit.id, "feature_sets": [snapshot_document(snapshot) for snapshot in snapshots]},
        lambda out: out.table(
            ["name", "version", "rows", "columns", "snapshot", "key"],
            [
                (
                    snapshot.name,
                    f"v{snapshot.version}",
                    f"{snapshot.num_rows:,}",
                    len(snapshot.schema),
                    short(snapshot.id),
                    ", ".join(snapshot.key),
                )
                for snapshot in snapshots
            ],
            right=("version", "rows", "columns"),
        ),
    )
