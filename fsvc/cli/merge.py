"""``fsvc merge``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from fsvc.cli.context import Context, command
from fsvc.cli.merging import merging_options, run

if TYPE_CHECKING:
    from fsvc.engine.progress import Progress
    from fsvc.merging import MergePlan
    from fsvc.repository import Repository

__all__ = ["merge"]


@command(
    "merge",
    examples="""
        fsvc merge try-ratios
        fsvc merge try-ratios --dry-run
        fsvc merge try-ratios --conflicts to-look-at
        fsvc merge try-ratios --strategy theirs -m "their numbers are newer"
    """,
)
@click.argument("revision", metavar="REV")
@merging_options
@click.option("--no-ff", is_flag=True, help="Make a commit even if the branch need only be moved forward.")
@click.option("--base", metavar="REV", help="Judge changes against this commit, not the common ancestor.")
def merge(
    context: Context,
    revision: str,
    strategy: Literal["ours", "theirs"] | None,
    no_ff: bool,
    base: str | None,
    **options: Any,
) -> None:
    """Merge a branch, or any revision, into the current branch.

    Feature sets that one side changed are taken over. Those that both changed are merged by key: changes of
    different rows, and of different cells of a row, go together. The same cell changed to different values,
    or a row deleted here and changed there, is a conflict: it is listed, and nothing is written.
    """

    def make(repository: Repository, progress: Progress) -> MergePlan:
        return repository.plan_merge(
            revision, strategy=strategy, fast_forward=not no_ff, base=base, progress=progress
        )

    run(context, make, **options)
