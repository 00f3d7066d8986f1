"""The names of feature sets, branches and tags: which are allowed, how files carry them, which is nearest.

What is allowed holds everywhere alike, so that a repository made on one system can be used on any other: a
name can be typed after ``@`` or in a shell, looks the same to everybody, and can be a file name.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from fsvc.errors import Corruption, InvalidName

__all__ = [
    "MAX_BYTES",
    "MAX_ESCAPED",
    "case_twin",
    "case_twins",
    "check_feature_set_name",
    "check_ref_name",
    "escape",
    "nearest",
    "quoted",
    "unescape",
]

MAX_BYTES: Final = 200
"""The longest name, in bytes of UTF-8."""

MAX_ESCAPED: Final = 240
"""The longest escaped name of a ref, in characters: file systems take 255 bytes."""

_RESERVED: Final = frozenset("/\\@:~^{}*?<>|\0")
_UNSEEN: Final = {
    "Cc": "a control character",
    "Cf": "an invisible formatting character",
    "Cs": "half of a surrogate pair",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
_VERSION: Final = re.compile(r"v[0-9]+", re.IGNORECASE | re.ASCII)
_COMMIT_ID: Final = re.compile(r"[0-9a-f]{64}", re.IGNORECASE | re.ASCII)
_WINDOWS: Final = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [device + digit for device in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"]
)
_KEPT: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-")
_ESCAPED: Final = re.compile(r"(?:[a-z0-9_.-]|%[0-9a-f]{2})+", re.ASCII)


def check_feature_set_name(name: str) -> None:
    """Refuse ``name`` unless a feature set may be called so.

    :raises InvalidName: with a sentence that says why not.
    """
    problem = _problem(name, slashes=False)
    if problem is not None:
        raise InvalidName(f"a feature set cannot be called {quoted(name)}: {problem}")


def check_ref_name(name: str, kind: Literal["branch", "tag", "pin"] = "branch") -> None:
    """Refuse ``name`` unless a ref may be called so.

    What a feature set may be called, a ref may too, and ``/`` may stand between components; but names that a
    revision would read as something else (a version, a whole commit id, ``HEAD``) are refused, and those that
    :func:`escape` makes too long for a file name. ``kind`` is for the message.

    :raises InvalidName: with a sentence that says why not.
    """
    problem = _problem(name, slashes=True)
    if problem is None and name == "HEAD":
        problem = "that means the current branch elsewhere"
    if problem is None and _COMMIT_ID.fullmatch(name):
        problem = "64 hex digits are a commit id"
    if problem is None and len(escape(name)) > MAX_ESCAPED:
        problem = (
            f"it is too long as a file name, where upper-case letters and all but plain ASCII take three "
            f"characters per byte ({len(escape(name))} of at most {MAX_ESCAPED})"
        )
    if problem is not None:
        raise InvalidName(f"a {kind} cannot be called {quoted(name)}: {problem}")


def escape(name: str) -> str:
    """Return ``name`` as one file name, different for every name on case-insensitive file systems too.

    ``a-z``, ``0-9``, ``_``, ``-`` and a ``.`` that is neither first nor last stand for themselves, every
    other byte of the UTF-8 form becomes ``%`` and two lower-case hex digits.

    :raises InvalidName: if ``name`` is empty or has no UTF-8 form.
    """
    try:
        data = name.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidName(f"{quoted(name)} is not a name: it contains half of a surrogate pair") from None
    if not data:
        raise InvalidName("a name cannot be empty")
    last = len(data) - 1
    return "".join(
        chr(byte) if byte in _KEPT or (byte == 0x2E and 0 < place < last) else f"%{byte:02x}"
        for place, byte in enumerate(data)
    )


def unescape(text: str) -> str:
    """Return the name whose :func:`escape` is ``text``.

    :raises Corruption: if there is none; ``text`` was read from a store, and :func:`escape` did not write it.
    """
    if _ESCAPED.fullmatch(text):
        try:
            name = unquote_to_bytes(text).decode("utf-8")
        except UnicodeDecodeError:
            name = ""
        if name and escape(name) == text:
            return name
    raise Corruption(f"{quoted(text)} is not an escaped name")


def case_twin(name: str, others: Iterable[str]) -> str | None:
    """Return the first of ``others`` that differs from ``name`` in case only, or None."""
    folded = _folded(name)
    return next((other for other in others if other != name and _folded(other) == folded), None)


def case_twins(new: Iterable[str], known: Iterable[str]) -> tuple[str, str] | None:
    """Return the first of ``new`` with the name that differs from it in case only, or None.

    The other one is of ``known``, or else of ``new``.
    """
    wanted = list(new)
    spellings: dict[str, dict[str, None]] = {}
    for name in (*known, *wanted):
        spellings.setdefault(_folded(name), {})[name] = None
    for name in wanted:
        twin = next((other for other in spellings[_folded(name)] if other != name), None)
        if twin is not None:
            return name, twin
    return None


def nearest(name: str, candidates: Iterable[str], n: int = 1) -> list[str]:
    """Return up to ``n`` of ``candidates`` that look most like ``name``, best first; none if none is near.

    Likeness is that of :func:`difflib.get_close_matches` (Ratcliff and Obershelp), letter case left aside.
    """
    if n < 1:
        return []
    originals: dict[str, list[str]] = {}
    for candidate in sorted(set(candidates)):
        originals.setdefault(_folded(candidate), []).append(candidate)
    # Comparing takes time by the product of lengths; no candidate is longer than a name may be.
    matches = difflib.get_close_matches(_folded(name[:MAX_BYTES]), originals, n=n, cutoff=0.6)
    return [original for match in matches for original in originals[match]][:n]


def quoted(name: object) -> str:
    """Return ``name`` for a message: quoted, cut to 80 characters, with escapes for all that does not print.

    So nothing in a name, even in one that is refused, reaches a terminal as a command.
    """
    if type(name) is not str:
        return type(name).__name__
    return repr(name) if len(name) <= 80 else repr(name[:77]) + "..."


def _problem(name: str, *, slashes: bool) -> str | None:
    """Return why ``name`` is not allowed, as the second half of a sentence, or None."""
    if type(name) is not str:
        return "a name is a str"
    if not name:
        return "a name cannot be empty"
    for character in name:
        unseen = _UNSEEN.get(unicodedata.category(character))
        if unseen is not None:
            return f"it contains {unseen} (U+{ord(character):04X})"
        if character in _RESERVED and not (slashes and character == "/"):
            return f"it contains {character!r}"
    size = len(name.encode("utf-8"))
    if size > MAX_BYTES:
        return f"it is too long ({size:,} bytes of UTF-8, at most {MAX_BYTES})"
    if not unicodedata.is_normalized("NFC", name):
        return "it is not in the Unicode normal form NFC, so that another name would look the same"
    if _VERSION.fullmatch(name):
        return "v and a number is a version"
    return next(filter(None, map(_component_problem, name.split("/"))), None)


def _component_problem(component: str) -> str | None:
    """Return why a name cannot have ``component`` between two slashes, or None."""
    if not component:
        return "it has an empty component beside a '/'"
    if component in (".", ".."):
        return f"{component!r} means a directory"
    if component != component.strip():
        return "it begins or ends with a space"
    if component.startswith(".") or component.endswith("."):
        return "it begins or ends with a dot"
    if component.startswith("-"):
        return "it begins with '-' and would be taken for an option"
    # Windows takes a device's name with any extension, and with spaces before that, for the device.
    if component.split(".", 1)[0].rstrip().lower() in _WINDOWS:
        return "Windows reserves that name for a device"
    return None


def _folded(name: str) -> str:
    """Return the form that is equal for names that differ in case only (canonical caseless match)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
