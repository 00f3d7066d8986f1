"""``fsvc cherry-pick``."""

from __future__ import annotations

from typing import Any

from fsvc.cli.context import Context, command
from fsvc.cli.merging import replay, replaying_options

__all__ = ["cherry_pick"]


@command(
    "cherry-pick",
    examples="""
        fsvc cherry-pick try-ratios
        fsvc cherry-pick 26d0c774f165 --dry-run
    """,
)
@replaying_options
def cherry_pick(context: Context, **options: Any) -> None:
    """Put what one commit changed on top of the current branch, by a new commit.

    Author and message are those of the commit, unless told. Conflicts are those of a merge.
    """
    replay(context, "cherry-pick", **options)
