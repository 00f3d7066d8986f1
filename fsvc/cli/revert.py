"""``fsvc revert``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from fsvc.cli.context import Context, command
from fsvc.cli.merging import merging_options, run

if TYPE_CHECKING:
    from fsvc.engine.progress import Progress
    from fsvc.merging import MergePlan
    from fsvc.repository import Repository

__all__ = ["revert"]


@command(
    "revert",
    examples="""
        fsvc revert 26d0c774f165
        fsvc revert main~2 --dry-run
    """,
)
@click.argument("revision", metavar="REV")
@merging_options
@click.option("--mainline", type=click.IntRange(min=1), metavar="N",
              help="The parent of a merge to go back to, from 1.")  # fmt: skip
def revert(
    context: Context,
    revision: str,
    strategy: Literal["ours", "theirs"] | None,
    mainline: int | None,
    **options: Any,
) -> None:
    """Take back what a commit changed, by a new commit on the current branch.

    What came later stays. Where that changed the same cells there is a conflict, as in a merge. A commit
    that added a feature set cannot be taken back, since versions never begin anew.
    """

    def make(repository: Repository, progress: Progress) -> MergePlan:
        return repository.plan_revert(revision, mainline=mainline, strategy=strategy, progress=progress)

    run(context, make, **options)
