"""The group of all commands: loads a command when it is used, and turns errors into words and exit codes."""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from fsvc.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PIPE, EXIT_USAGE, exit_code
from fsvc.cli.output import Output, clean
from fsvc.errors import Corruption, ExpectationError, FsvcError, FsvcWarning, InvalidUse

__all__ = ["Entry", "LazyGroup"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that is not loaded: its section of the help, ``module:function``, and its one-line help."""

    section: str
    place: str
    summary: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, name = self.place.partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


class _Interrupted(Exception):
    """Ctrl-C, in a form that click lets through, with what was noted on the way."""


class _PipeClosed(Exception):
    """Whoever read our output has gone, in a form that click lets through."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run; help and completion need only the table."""

    def __init__(self, *args: Any, commands_by_name: dict[str, Entry], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._entries = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all commands, in the order of the help."""
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """A command, imported; None where there is none of this name."""
        entry = self._entries.get(cmd_name)
        return None if entry is None else entry.load()

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and options that an incomplete word may become, without importing the commands."""
        items = [
            CompletionItem(name, help=entry.summary)
            for name, entry in self._entries.items()
            if name.startswith(incomplete)
        ]
        # Past click.Group's own, which would import every command.
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name. Unknown ones suggest the nearest."""
        if args and args[0] not in self._entries and not ctx.resilient_parsing and args[0][:1] != "-":
            from difflib import get_close_matches

            near = get_close_matches(args[0], self._entries, n=1) if args[0] != "help" else []
            raise InvalidUse(
                f"there is no command {args[0]!r}",
                hint=f"did you mean 'fsvc {near[0]}'?" if near else "see 'fsvc --help'",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the commands by section, without importing them."""
        width = max(map(len, self._entries))
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self._entries.items():
            sections.setdefault(entry.section, []).append((name.ljust(width), entry.summary))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and see to it that its output is out before anything is called done."""
        try:
            with _warnings_as_messages(ctx):
                result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise _PipeClosed from None
        except KeyboardInterrupt as interrupt:
            raise _Interrupted(*getattr(interrupt, "__notes__", ())) from None
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002 - it always ends the process
        **extra: Any,
    ) -> NoReturn:
        """Run a command line and end the process with its exit code."""
        given = list(sys.argv[1:] if args is None else args)
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by the shell, as with >&-
                setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for good
        for stream in (sys.stdout, sys.stderr):
            # Names of all scripts can be committed; a terminal that lacks them is no reason to fail.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        options = given[: given.index("--")] if "--" in given else given
        sys.exit(self._run(given, prog_name, complete_var, json="--json" in options, **extra))

    def _run(
        self, args: list[str], prog_name: str | None, complete_var: str | None, *, json: bool, **extra: Any
    ) -> int:
        try:
            result = super().main(args, prog_name or "fsvc", complete_var, standalone_mode=False, **extra)
        except FsvcError as error:
            _debug()
            hint = error.hint
            if hint is None and isinstance(error, Corruption) and "verify" not in args:
                hint = "run 'fsvc verify' to see all that is damaged and what it affects"
            notes = getattr(error, "__notes__", [])
            code, more = exit_code(error), {}
            if isinstance(error, ExpectationError):
                more = {"reports": error.reports}
            return _fail(type(error).__name__, error.message, hint, code, json=json, notes=notes, more=more)
        except click.UsageError as error:
            _debug()
            path = error.ctx.command_path if error.ctx is not None else "fsvc"
            message = error.format_message().rstrip(".")
            message = message[:1].lower() + message[1:]
            return _fail("InvalidUse", message, f"see '{path} --help'", EXIT_USAGE, json=json)
        except click.ClickException as error:
            return _fail("FsvcError", error.format_message(), None, EXIT_FAILED, json=json)
        except (_Interrupted, click.Abort, KeyboardInterrupt) as interrupt:
            message = "interrupted; the repository is whole"
            notes = interrupt.args if isinstance(interrupt, _Interrupted) else ()
            return _fail("Interrupted", message, None, EXIT_INTERRUPTED, json=json, notes=notes)
        except (_PipeClosed, BrokenPipeError):
            _silence_stdout()
            return EXIT_PIPE
        except OSError as error:
            _debug()
            message, hint = _what_the_system_says(error)
            return _fail("StorageError", message, hint, EXIT_FAILED, json=json)
        except MemoryError:
            _debug()
            return _fail("MemoryError", "there is not enough memory for this", None, EXIT_FAILED, json=json)
        except Exception as error:  # noqa: BLE001 - people get a sentence, not a traceback
            _debug()
            first = (str(error).strip().splitlines() or [""])[0]
            return _fail(
                type(error).__name__,
                f"unexpected {type(error).__name__}{': ' if first else ''}{first}",
                None if os.environ.get("FSVC_DEBUG") else "set FSVC_DEBUG=1 to see where",
                EXIT_FAILED,
                json=json,
            )
        return result if isinstance(result, int) else 0


@contextmanager
def _warnings_as_messages(ctx: click.Context) -> Iterator[None]:
    """Print what fsvc warns of as a message; warnings of libraries as Python does."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, FsvcWarning) and ctx.obj is not None:
            ctx.obj.output.warn(message)
        else:
            pythons(message, category, *place, **more)

    with warnings.catch_warnings():
        pythons = warnings.showwarning
        warnings.showwarning = show
        yield


def _debug() -> None:
    """Print the traceback of the error at hand, if that is wanted."""
    if os.environ.get("FSVC_DEBUG"):
        traceback.print_exc()


def _fail(
    kind: str,
    message: str,
    hint: str | None,
    code: int,
    *,
    json: bool,
    notes: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> int:
    """Say what went wrong: a sentence on stderr, and with --json a document on stdout.

    ``notes`` are lines to be printed as they are, such as a query and a mark below it; ``more`` goes into the document.
    """
    try:
        if json:
            error: dict[str, Any] = {"kind": kind, "message": message, "hint": hint, **(more or {})}
            if notes:
                error["notes"] = [line for note in notes for line in note.splitlines()]
            Output(json=True).document({"error": error})
        sys.stdout.flush()
    except OSError:  # the reader has gone, or the disk is full: there is still stderr, and the exit code
        _silence_stdout()
    try:
        click.echo(f"fsvc: {clean(message)}", err=True)
        for note in notes:
            click.echo(clean(note, lines=True), err=True)
        if hint:
            click.echo(f"hint: {clean(hint)}", err=True)
    except OSError:
        pass
    return code


def _what_the_system_says(error: OSError) -> tuple[str, str | None]:
    """A sentence and a hint for an error of the operating system that nobody put into words before."""
    reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
    hints = {
        errno.EACCES: "check who owns it and its mode",
        errno.EPERM: "check who owns it and its mode",
        errno.ENOSPC: "free some space and try again",
        errno.EROFS: "the file system is mounted read-only; use another place",
        errno.EMFILE: "raise the limit of open files: ulimit -n",
    }
    try:
        os.getcwd()
    except OSError:
        return "the current directory is gone, or may not be looked at", "cd to one that is there"
    if error.filename is None:
        return f"reading or writing failed: {reason}", hints.get(error.errno or 0)
    return f"{os.fsdecode(error.filename)} cannot be used: {reason}", hints.get(error.errno or 0)


def _silence_stdout() -> None:
    """Let Python's own flush at exit go nowhere: a closed pipe would make it complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
