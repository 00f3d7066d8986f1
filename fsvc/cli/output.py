"""What commands print: text and tables for people, or one JSON document.

Names, messages and values come from repositories that somebody else may have written, so everything
is cleaned of what a terminal would take for a command, unless it was made by :meth:`Output.styled`.
"""

from __future__ import annotations

import json as _json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

__all__ = ["Output", "Shown", "ago", "clean", "clip", "counted", "human_size", "printed_width"]

_JOINERS = "\u200c\u200d"


class Shown(str):
    """A text that may go to the terminal as it is: cleaned already, and styled perhaps."""

    __slots__ = ()


def clean(text: object, *, lines: bool = False) -> str:
    """A text without control, direction-changing and other invisible characters: escaped, as in ``\\x1b``.

    ``lines`` keeps line feeds. A :class:`Shown` text is left as it is.
    """
    if isinstance(text, Shown):
        return text
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if (lines and c == "\n") or _visible(c) else _escape(c) for c in text)


def _visible(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in _JOINERS


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def printed_width(text: str) -> int:
    """How many columns of a terminal a text takes; styles take none."""
    text = click.unstyle(text)
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character) or character in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clip(text: str, width: int) -> str:
    """A text cut to a printed width, with an ellipsis where something was cut off."""
    if printed_width(text) <= width:
        return text
    out, used = [], 0
    for character in text:
        wide = printed_width(character)
        if used + wide > width - 1:
            break
        out.append(character)
        used += wide
    return "".join(out) + "…"


def human_size(size: int) -> str:
    """Bytes in a unit that people read: ``17.3 MB``. Units are powers of ten, as disks are sold."""
    if abs(size) < 1000:
        return f"{size} B"
    units = ["kB", "MB", "GB", "TB", "PB"]
    value = size / 1000
    while abs(value) >= 999.95 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.1f} {units[0]}"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: ``1 row``, ``1,200 rows``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def ago(time: str, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was, in its largest unit; the date once it is over a month."""
    try:
        then = datetime.fromisoformat(time)
    except ValueError:
        return time
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    if seconds < 0 or seconds >= 30 * 86400:
        return then.strftime("%Y-%m-%d")
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{counted(int(seconds // length), unit)} ago"
    return "just now"


class Output:
    """Where a command's results and messages go: results to stdout, messages to stderr.

    A command hands over its result once, as a document and as a function that prints it for people;
    which of the two is printed is decided here.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self._warned: set[str] = set()

    # -- results ---------------------------------------------------------------------------------

    def show(self, document: Mapping[str, Any], people: Callable[[Output], None]) -> None:
        """Print a command's result: the document with --json, else whatever ``people`` prints."""
        if self.json:
            self.document(document)
        else:
            people(self)

    def document(self, value: Mapping[str, Any]) -> None:
        """Print one JSON document, in ASCII, so that no terminal takes any of it for a command."""
        click.echo(_json.dumps(value, indent=2, allow_nan=False))

    def line(self, *parts: object) -> None:
        """Print a line of text; the parts are cleaned and joined."""
        click.echo("".join(map(clean, parts)), color=True)

    def table(
        self,
        heads: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        right: Sequence[str] = (),
        literal: bool = False,
        always: bool = False,
    ) -> None:
        """Print rows under heads, aligned; ``right`` names the heads of numbers.

        Nothing is printed for no rows, unless ``always`` asks for the heads.

        Heads are put in capitals, unless they are ``literal``: names of somebody's columns. On a terminal
        the last column is cut off at its edge.
        """
        cells = [[clean(cell) for cell in row] for row in rows]
        if not cells and not always:
            return
        titles = [clean(head if literal else head.upper()) for head in heads]
        widths = [max(map(printed_width, column)) for column in zip(titles, *cells, strict=True)]
        room = self.width
        if room is not None and len(widths) > 1:
            left = sum(widths[:-1]) + 2 * (len(widths) - 1)
            widths[-1] = min(widths[-1], max(10, room - left))
        for number, row in enumerate([titles, *cells]):
            texts = []
            for i, (text, width) in enumerate(zip(row, widths, strict=True)):
                if i == len(row) - 1 and printed_width(text) > width:
                    text = clip(click.unstyle(text), width)
                padding = " " * (width - printed_width(text))
                texts.append(padding + text if heads[i] in right else text + padding)
            line = "  ".join(texts).rstrip()
            click.echo(self.styled(Shown(line), bold=True) if number == 0 else line, color=True)

    # -- messages --------------------------------------------------------------------------------

    def note(self, *parts: object) -> None:
        """Print a message on stderr."""
        click.echo("".join(map(clean, parts)), err=True, color=True)

    def warn(self, *parts: object) -> None:
        """Print a warning on stderr, the same one once."""
        text = "".join(map(clean, parts))
        if text not in self._warned:
            self._warned.add(text)
            self.note(Shown(f"warning: {text}"))

    # -- style -----------------------------------------------------------------------------------

    @property
    def coloured(self) -> bool:
        """Whether stdout is a terminal that shows colours, and they are wanted."""
        return not self.json and not os.environ.get("NO_COLOR") and is_terminal(sys.stdout)

    @property
    def width(self) -> int | None:
        """The width of the terminal that stdout is, in columns; None where it is none."""
        if not is_terminal(sys.stdout):
            return None
        import shutil

        return shutil.get_terminal_size().columns

    def styled(self, text: object, **style: Any) -> Shown:
        """A text in a style of :func:`click.style` where colours are shown; cleaned."""
        cleaned = clean(text)
        return Shown(click.style(cleaned, **style) if style and self.coloured else cleaned)


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal that can do more than print."""
    try:
        return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False
