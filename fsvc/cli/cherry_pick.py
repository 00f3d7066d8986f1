"""``fsvc cherry-pick``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from fsvc.cli.context import Context, command
from fsvc.cli.merging import merging_options, run

if TYPE_CHECKING:
    from fsvc.engine.progress import Progress
    from fsvc.merging import MergePlan
    from fsvc.repository import Repository

__all__ = ["cherry_pick"]


@command(
    "cherry-pick",
    examples="""
        fsvc cherry-pick try-ratios
        fsvc cherry-pick 26d0c774f165 --dry-run
    """,
)
@click.argument("revision", metavar="REV")
@merging_options
@click.option("--mainline", type=click.IntRange(min=1), metavar="N",
              help="The parent of a merge against which its changes are meant, from 1.")  # fmt: skip
def cherry_pick(
    context: Context,
    revision: str,
    strategy: Literal["ours", "theirs"] | None,
    mainline: int | None,
    **options: Any,
) -> None:
    """Put what one commit changed on top of the current branch, by a new commit.

    Author and message are those of the commit, unless told. Conflicts are those of a merge.
    """

    def make(repository: Repository, progress: Progress) -> MergePlan:
        return repository.plan_cherry_pick(revision, mainline=mainline, strategy=strategy, progress=progress)

    run(context, make, **options)
