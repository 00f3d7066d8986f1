"""``fsvc switch``."""

from __future__ import annotations

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import short
from fsvc.cli.output import Output

__all__ = ["switch"]


@command(
    "switch",
    examples="""
        fsvc switch -c try-ratios
        fsvc switch main
    """,
)
@click.argument("branch")
@click.option("-c", "--create", is_flag=True, help="Make the branch here first; no file is touched.")
@click.option("-f", "--force", is_flag=True, help="Give up changed and untracked files that are in the way.")
def switch(context: Context, branch: str, create: bool, force: bool) -> None:
    """Make another branch the current one, and its head the content of the working files.

    Files of feature sets that the branch does not have are removed, those that it adds are written.
    A changed or untracked file is never overwritten or removed without --force; if there is one,
    nothing is touched. Switching to the current branch brings files up to its head.
    """
    workspace = context.workspace()
    author = context.author()
    if author is not None:
        workspace.repository.author = author
    before = workspace.branch
    with context.progress("writing") as progress:
        done = workspace.switch(branch, create=create, force=force, progress=progress)

    def people(out: Output) -> None:
        for path in done.written:
            out.line("wrote ", path)
        for path in done.removed:
            out.line("removed ", path)
        what = "made and switched to" if create else "switched to" if branch != before else "on"
        where = f"at {short(done.commit.id)}" if done.commit is not None else "nothing is committed on it yet"
        out.note(f"{what} branch ", branch, f", {where}")

    context.output.show(
        {
            "branch": branch,
            "commit": done.commit.id if done.commit is not None else None,
            "created": create,
            "written": list(done.written),
            "removed": list(done.removed),
        },
        people,
    )
