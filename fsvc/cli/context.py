"""What every command needs: the repository, the workspace, who signs, and where output goes."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.output import Output
from fsvc.errors import InvalidUse, NotFound

if TYPE_CHECKING:
    from fsvc.engine.progress import Progress
    from fsvc.repository import Repository
    from fsvc.workspace import Workspace

__all__ = ["HELP_OPTIONS", "REPO_HELP", "Context", "command", "configured_author", "version"]

HELP_OPTIONS = ("-h", "--help")
REPO_HELP = "The repository; else FSVC_REPOSITORY, else the workspace here."


def version() -> str:
    """The version of fsvc."""
    from fsvc import __version__

    return __version__


class Context:
    """One run of the command line. Commands made with :func:`command` get it as their first argument."""

    def __init__(self) -> None:
        self.location: str | None = None
        self.output = Output()

    @property
    def repository_location(self) -> str | None:
        """The location that --repo or FSVC_REPOSITORY names; None where the workspace here is meant."""
        return self.location or os.environ.get("FSVC_REPOSITORY") or None

    def repository(self) -> Repository:
        """Open the repository that is meant: the one named, else that of the workspace here.

        Its current branch is the workspace's, its author the one of this run. Raises NotFound.
        """
        workspace = self.find_workspace()
        if workspace is not None:
            return workspace.repository
        from fsvc.repository import open_repository

        return open_repository(self.repository_location, author=self.author())

    def find_workspace(self) -> Workspace | None:
        """The workspace of this run, if there is one: around here, or the very directory that is named."""
        from fsvc.workspace import Workspace

        location = self.repository_location
        if location is None:
            return Workspace.find(Path.cwd(), author=self.author())
        if "://" not in location and (Path(location) / ".fsvc").is_dir():
            return Workspace.find(Path(location), author=self.author())
        return None

    def workspace(self) -> Workspace:
        """The workspace of this run. Raises NotFound where there is none."""
        found = self.find_workspace()
        if found is None:
            location = self.repository_location
            raise NotFound(
                f"there is no workspace in {Path.cwd()} or above it"
                if location is None
                else f"{location} is not a workspace",
                hint="make one with 'fsvc init' ('fsvc init --attach LOCATION' for a repository elsewhere)",
            )
        return found

    def author(self, given: str | None = None) -> str | None:
        """Who signs: the one given, else FSVC_AUTHOR, else the configured one; None: the account's name."""
        for author in (given, os.environ.get("FSVC_AUTHOR")):
            if author is not None and author.strip():
                return author.strip()
        return configured_author()

    def time(self) -> str | None:
        """The time that FSVC_DATE says commits are made at, as commits write it; None for now."""
        text = os.environ.get("FSVC_DATE")
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise InvalidUse(f"FSVC_DATE is not a time: {text!r}", hint="write 2026-11-01T09:30Z") from None
        if moment.tzinfo is None:
            raise InvalidUse(f"FSVC_DATE has no zone: {text!r}", hint=f"write {text}Z for UTC")
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    @contextmanager
    def progress(self, verb: str) -> Iterator[Progress]:
        """A callback that long work tells how far it is; drawn on stderr where that is a terminal."""
        from fsvc.cli.progress import bar

        with bar(verb) as report:
            yield report


def configured_author() -> str | None:
    """The author of the user's ``config.toml``: ``[user]`` with ``name`` and ``email``; None without one to read."""
    import platformdirs

    path = platformdirs.user_config_path("fsvc") / "config.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, PermissionError):
        # What may not be read is somebody else's, as after 'sudo -u' with the HOME of another user.
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidUse(f"the configuration {path} cannot be read: {error}") from error
    import tomllib

    try:
        user = tomllib.loads(text).get("user", {})
    except tomllib.TOMLDecodeError as error:
        raise InvalidUse(f"the configuration {path} is not TOML: {error}") from None
    if not isinstance(user, dict) or not all(
        isinstance(user.get(part, ""), str) for part in ("name", "email")
    ):
        raise InvalidUse(f"the configuration {path} has no table [user] of texts: name and email")
    name, email = str(user.get("name", "")).strip(), str(user.get("email", "")).strip()
    if name and email:
        return f"{name} <{email}>"
    return name or email or None


class _Command(click.Command):
    """A command that takes --json and --repo itself too, so that they may stand anywhere.

    The help of one that needs no repository does not tell of --repo.
    """

    def __init__(self, *args: Any, needs_repository: bool = True, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params.append(
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                expose_value=False,
                callback=_set_json,
                help="Print one JSON document instead of text.",
            )
        )
        self.params.append(
            click.Option(
                ["--repo"],
                metavar="LOCATION",
                expose_value=False,
                callback=_set_location,
                hidden=not needs_repository,
                help=REPO_HELP,
            )
        )


def _set_json(click_context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click_context.ensure_object(Context).output.json = True


def _set_location(click_context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        if not value:
            # An unset variable in a script must not mean the repository that happens to be here.
            raise InvalidUse(
                "--repo is empty", hint="name a repository, or leave it out for the workspace here"
            )
        click_context.ensure_object(Context).location = value


def command(
    name: str, *, examples: str | None = None, needs_repository: bool = True
) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a function a command: it gets the :class:`Context`, then its options.

    What it returns is the exit code; None is 0. Options are given with click's decorators below this one.
    ``examples`` are command lines, one per line, that its help ends with.
    """

    epilog = None
    if examples is not None:
        epilog = "\b\nExamples:\n" + textwrap.indent(textwrap.dedent(examples).strip(), "  ")

    def decorate(function: Callable[..., int | None]) -> click.Command:
        # Said for each command too: click keeps the option that it makes for the first context it sees.
        settings = {"help_option_names": list(HELP_OPTIONS)}
        return click.command(
            name, cls=_Command, context_settings=settings, epilog=epilog, needs_repository=needs_repository
        )(click.pass_obj(function))

    return decorate
