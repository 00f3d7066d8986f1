"""``fsvc revert``."""

from __future__ import annotations

from typing import Any

from fsvc.cli.context import Context, command
from fsvc.cli.merging import replay, replaying_options

__all__ = ["revert"]


@command(
    "revert",
    examples="""
        fsvc revert 26d0c774f165
        fsvc revert main~2 --dry-run
    """,
)
@replaying_options
def revert(context: Context, **options: Any) -> None:
    """Take back what a commit changed, by a new commit on the current branch.

    What came later stays. Where that changed the same cells there is a conflict, as in a merge. A commit
    that added a feature set cannot be taken back, since versions never begin anew.
    """
    replay(context, "revert", **options)
