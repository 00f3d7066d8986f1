"""The grammar of revisions: ``v3``, ``main``, ``1a2b3c``, ``main{2026-11-01}``, ``v3~2``, ``~``, ``main^2``.

::

    address  = feature-set [ "@" revision ]
    revision = [ base ] [ "{" time "}" ] { step }      (at least one of the three)
    base     = "v" number | branch | tag | commit id | the first 4 or more hex digits of one
    time     = date | date ("T" | " ") clock zone      (ISO 8601; a date alone is its midnight, UTC)
    clock    = hh ":" mm [ ":" ss [ "." 1 to 6 digits ] ]
    zone     = "Z" | ("+" | "-") hh [ [ ":" ] mm ]
    step     = ("~" | "^") [ number ]                  (without a number, 1)

Without a base, the current branch is meant. ``~n`` goes back by n first parents, ``^n`` to the n-th parent,
as in git. What the words stand for in a repository is not looked up here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fsvc.errors import InvalidName, InvalidRevision
from fsvc.format.names import check_feature_set_name, check_ref_name, quoted

__all__ = ["MAX_STEPS", "Revision", "parse_address", "parse_revision"]

MAX_STEPS: Final = 50
"""The largest number of steps that a revision may have; each may go further than one commit."""

_MAX_NUMBER: Final = 10**9 - 1

_TEXT: Final = re.compile(r"(?P<base>[^{}~^]*)(?:\{(?P<time>[^{}]*)\})?(?P<steps>(?:[~^][0-9]*)*)", re.ASCII)
_STEP: Final = re.compile(r"([~^])([0-9]*)", re.ASCII)
_VERSION: Final = re.compile(r"v(0|[1-9][0-9]*)", re.ASCII)
_LOOSE_VERSION: Final = re.compile(r"v0*([0-9]+)", re.ASCII | re.IGNORECASE)
_COMMIT: Final = re.compile(r"[0-9a-f]{4,64}", re.ASCII | re.IGNORECASE)
_COMMIT_ID_DIGITS: Final = 64
_TIME: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[T ](?P<clock>(?:[01]\d|2[0-3]):\d\d(?::\d\d(?:\.\d{1,6})?)?)(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision as it is written; ``str()`` gives its text, in which times are in UTC and ``~1`` is ``~``.

    ``base`` is a version, the name of a branch or tag, a commit id or its beginning, or ``""`` for the
    current branch. ``time`` asks for the state of the base at that time. ``steps`` are pairs of ``"~"`` or
    ``"^"`` and a number, to be taken from left to right. A revision of no parts at all is the current branch,
    and has no text.

    :raises InvalidRevision: if the parts make no revision: a base that nothing can be called, a time without
        a zone, an unknown step.
    """

    base: str = ""
    time: datetime | None = None
    steps: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        _check_base(self.base)
        if self.time is not None:
            object.__setattr__(self, "time", _in_utc(self.time))
        if len(self.steps) > MAX_STEPS:
            raise InvalidRevision(f"a revision has at most {MAX_STEPS} steps, not {len(self.steps):,}")
        for sign, number in self.steps:
            if sign not in ("~", "^") or not 0 <= number <= _MAX_NUMBER:
                raise InvalidRevision(f"{sign}{number} is not a step of a revision")

    def __str__(self) -> str:
        time = "" if self.time is None else "{" + _time_text(self.time) + "}"
        steps = (sign if number == 1 else f"{sign}{number}" for sign, number in self.steps)
        return self.base + time + "".join(steps)

    @property
    def version(self) -> int | None:
        """The number of the version that the base names, or None if it names something else."""
        match = _VERSION.fullmatch(self.base)
        return None if match is None else int(match[1])

    @property
    def commit_prefix(self) -> str | None:
        """The base in lower case if it can be a commit id or the first 4 or more hex digits of one, or None.

        A branch or tag may be called the same, unless all 64 digits are there.
        """
        return self.base.lower() if _COMMIT.fullmatch(self.base) else None


def parse_revision(text: str) -> Revision:
    """Return the revision that ``text`` writes down.

    :raises InvalidRevision: with a sentence that says what is wrong; empty text is wrong, too.
    """
    if not text:
        raise InvalidRevision(
            "a revision cannot be empty", hint="leave it out altogether for the current branch"
        )
    match = _TEXT.fullmatch(text)
    if match is None:
        raise InvalidRevision(
            f"{quoted(text)} is not a revision",
            hint="a revision is a version, branch, tag or commit, then {time}, then steps like ~2 or ^",
        )
    steps = _STEP.findall(match["steps"])
    time = match["time"]
    return Revision(
        base=match["base"],
        time=None if time is None else _parse_time(time),
        steps=tuple((sign, _step_number(sign, digits)) for sign, digits in steps),
    )


def parse_address(text: str) -> tuple[str, Revision | None]:
    """Return the feature set and the revision of ``NAME@REVISION``, or of ``NAME`` alone with None.

    :raises InvalidName: if no feature set can be called so.
    :raises InvalidRevision: if what follows the ``@`` is not a revision.
    """
    name, at, revision = text.partition("@")
    check_feature_set_name(name)
    if not at:
        return name, None
    if not revision:
        raise InvalidRevision(
            f"no revision follows the @ of {quoted(text)}", hint="leave the @ out for the current branch"
        )
    return name, parse_revision(revision)


def _check_base(base: str) -> None:
    if not base:
        return
    if _VERSION.fullmatch(base):
        if len(base) > len(f"v{_MAX_NUMBER}"):
            raise InvalidRevision(
                f"{quoted(base)} is not a version: no version has a number as large as that"
            )
        return
    if len(base) == _COMMIT_ID_DIGITS and _COMMIT.fullmatch(base):
        return
    if loose := _LOOSE_VERSION.fullmatch(base):
        raise InvalidRevision(f"{quoted(base)} is not a version", hint=f"write v{loose[1][:20]}")
    if base == "HEAD":
        raise InvalidRevision(
            "'HEAD' is not a revision",
            hint="the current branch is meant where no revision is given: write ~1 for HEAD~1",
        )
    try:
        check_ref_name(base)
    except InvalidName as error:
        raise InvalidRevision(f"{quoted(base)} is not a revision: {error.message}", hint=error.hint) from None


def _step_number(sign: str, digits: str) -> int:
    if not digits:
        return 1
    if len(digits) > len(str(_MAX_NUMBER)) or (digits[0] == "0" and digits != "0"):
        raise InvalidRevision(f"{sign}{digits[:20]} is not a step of a revision")
    return int(digits)


def _parse_time(text: str) -> datetime:
    match = _TIME.fullmatch(text)
    if match is None:
        raise InvalidRevision(
            f"{quoted(text)} is not a time", hint="write it like 2026-11-01 or 2026-11-01T09:30:00+01:00"
        )
    clock, zone = match["clock"] or "00:00", match["zone"] or ("Z" if match["clock"] is None else "")
    if not zone:
        raise InvalidRevision(f"the time {text} has no zone", hint=f"write {text}Z for UTC, or {text}+01:00")
    try:
        time = datetime.fromisoformat(f"{match['date']}T{clock}{zone.upper()}")
    except ValueError:
        raise InvalidRevision(f"there is no time {text}") from None
    return _in_utc(time)


def _in_utc(time: datetime) -> datetime:
    if time.utcoffset() is None:
        raise InvalidRevision(f"the time {time.isoformat()} has no zone")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise InvalidRevision(f"the time {time.isoformat()} is out of range in UTC") from None


def _time_text(time: datetime) -> str:
    precision = "microseconds" if time.microsecond else "seconds" if time.second else "minutes"
    return time.replace(tzinfo=None).isoformat("T", precision) + "Z"
