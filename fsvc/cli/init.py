"""``fsvc init``."""

from __future__ import annotations

from pathlib import Path

import click

from fsvc.cli.context import Context, command
from fsvc.errors import InvalidUse

__all__ = ["init"]


@command(
    "init",
    needs_repository=False,
    examples="""
        fsvc init
        fsvc init ../features
        fsvc init --attach ../features
    """,
)
@click.argument("location", required=False)
@click.option(
    "--attach",
    metavar="LOCATION",
    help="Make a workspace here for the repository there, which is made if there is none.",
)
def init(context: Context, location: str | None, attach: str | None) -> None:
    """Make a workspace with a repository, or a bare repository.

    Without LOCATION the current directory becomes a workspace, with its repository in .fsvc/repository.
    With LOCATION that directory becomes a repository without a workspace, for others to attach to.
    """
    if location is not None and attach is not None:
        raise InvalidUse(
            "a bare repository is not attached to anything",
            hint="leave out LOCATION to attach the workspace here",
        )
    if context.location is not None:
        raise InvalidUse(
            "init takes the place of a new repository as its argument, not as --repo",
            hint=f"fsvc init {context.location}",
        )
    if location is not None:
        from fsvc.repository import init as make

        repository = make(location)
        kind, directory = "repository", None
    else:
        from fsvc.workspace import Workspace

        workspace = Workspace.init(Path.cwd(), attach)
        repository, directory = workspace.repository, str(Path.cwd())
        kind = "workspace"
    context.output.show(
        {
            "workspace": directory,
            "repository": repository.location,
            "project": repository.project,
            "branch": repository.current_branch,
        },
        lambda out: out.line(
            f"made a {kind} in ",
            directory or repository.location,
            f", repository in {repository.location}" if attach else "",
        ),
    )
