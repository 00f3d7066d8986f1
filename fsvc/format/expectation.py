"""Expectations: what has to hold of the tables of a feature set, as plain values.

The expectations of the feature set ``customers`` are the rows of the feature set ``customers.expectations``, which
has a text for the name of each, its key, and a text for the rest. So they are data like all other data: a commit
names them, and they are carried on, compared, merged and taken back as rows are. Members: docs/format.md,
"Expectations".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from fsvc.errors import InvalidUse, UnknownFormat
from fsvc.format.names import nearest, quoted

__all__ = [
    "KINDS",
    "SUFFIX",
    "Expectation",
    "Severity",
    "distinct",
    "expected_of",
    "home",
    "listed",
    "span",
]

SUFFIX: Final = ".expectations"
"""What the name of a feature set has more that holds the expectations of another one."""

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an expectation of a kind is about, and which terms it may have."""

    columns: Literal["one", "some", "any", "none"]
    terms: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()


KINDS: Final[Mapping[str, _Kind]] = {
    "column": _Kind("one", ("type",)),
    "not_null": _Kind("one", ("at_most",)),
    "unique": _Kind("some"),
    "range": _Kind("one", ("min", "max", "above", "below")),
    "values": _Kind("one", ("values",), ("values",)),
    "match": _Kind("one", ("pattern",), ("pattern",)),
    "rows": _Kind("none", ("min", "max")),
    "fresh": _Kind("one", ("within",), ("within",)),
    "drift": _Kind("any", ("thresholds",)),
}
"""The kinds of expectations. docs/expectations.md says what each means."""

_BOUNDS = (("min", "above"), ("max", "below"))
_SPAN = re.compile(r"([0-9]{1,9}) ?(s|m|h|d|w|min|seconds?|minutes?|hours?|days?|weeks?)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def home(name: str) -> str:
    """The feature set that holds the expectations of another one."""
    return name + SUFFIX


def expected_of(name: str) -> str | None:
    """The feature set whose expectations a feature set of this name holds; None where it is an ordinary one."""
    owner = name.removesuffix(SUFFIX)
    return owner if owner not in ("", name) else None


def span(text: str) -> timedelta:
    """How long a text as ``24h`` or ``7 days`` says. Raises InvalidUse."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise InvalidUse(f"{quoted(text)} is no span of time", hint='write "30 min", "24 hours" or "7d"')
    try:
        return timedelta(seconds=int(found[1]) * _SECONDS[found[2][0]])
    except OverflowError:
        raise InvalidUse(f"{quoted(text)} is too long a span of time") from None


@dataclass(frozen=True)
class Expectation:
    """One thing that has to hold.

    Attributes:
        kind: one of :data:`KINDS`.
        columns: what it is about; empty for the table as a whole.
        terms: what is asked of it, as JSON values: the members of its kind.
        severity: whether a commit stops (``error``), or is only told of (``warning``).

    Raises InvalidUse where it makes no sense, whatever the table.
    """

    kind: str
    columns: tuple[str, ...] = ()
    terms: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "error"

    def __post_init__(self) -> None:
        kind = KINDS.get(self.kind)
        if kind is None:
            near = nearest(self.kind, KINDS)
            raise InvalidUse(
                f"there is no kind of expectation {quoted(self.kind)}",
                hint=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(KINDS)}",
            )
        if not all(isinstance(column, str) for column in self.columns):
            raise InvalidUse(f"the columns of an expectation {self.kind!r} are names")
        fits = {
            "one": len(self.columns) == 1,
            "some": bool(self.columns),
            "none": not self.columns,
            "any": True,
        }
        if not fits[kind.columns]:
            wanted = {"one": "names one column", "some": "names its columns", "none": "names no column"}
            raise InvalidUse(f"an expectation {self.kind!r} {wanted[kind.columns]}")
        twice = next((column for column in self.columns if self.columns.count(column) > 1), None)
        if twice is not None:
            raise InvalidUse(f"{self.name} names column {quoted(twice)} twice")
        if self.severity not in ("error", "warning"):
            raise InvalidUse(f"the severity of {self.name} is error or warning, not {quoted(self.severity)}")
        for term in self.terms:
            if term not in kind.terms:
                near = nearest(term, kind.terms)
                raise InvalidUse(
                    f"{self.name} has an unknown member {quoted(term)}",
                    hint=f"did you mean {near[0]!r}?"
                    if near
                    else f"it may have: {', '.join(kind.terms) or 'none'}",
                )
        for term in kind.needed:
            if self.terms.get(term) is None:
                raise InvalidUse(f"{self.name} has no {term!r}")
        _CHECKS.get(self.kind, lambda _: None)(self)

    @property
    def name(self) -> str:
        """What it is called: its kind and columns, as in ``range:balance``. A feature set has one of each name."""
        columns = ",".join(column.replace(",", ",,") for column in self.columns)
        return f"{self.kind}:{columns}" if columns else self.kind

    def document(self) -> dict[str, Any]:
        """It as JSON values."""
        about: dict[str, Any] = {}
        if KINDS[self.kind].columns == "one":
            about = {"column": self.columns[0]}
        elif self.columns:
            about = {"columns": list(self.columns)}
        severity = {"severity": self.severity} if self.severity != "error" else {}
        return {"kind": self.kind, **about, **self.terms, **severity}

    @property
    def rule(self) -> str:
        """The document in the one form in which it is stored: sorted, without spaces."""
        return json.dumps(
            self.document(), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
        )

    @classmethod
    def parse(cls, value: Any) -> Expectation:
        """An expectation that is given as :meth:`document` has it; dates and decimals may be Python's.

        Raises InvalidUse with the nearest name for what is unknown.
        """
        if isinstance(value, Expectation):
            return value
        if not isinstance(value, Mapping) or not all(isinstance(member, str) for member in value):
            raise InvalidUse(
                f"{quoted(value)} is no expectation", hint='write {"kind": "not_null", "column": "balance"}'
            )
        members = {member: _plain(item, member) for member, item in value.items()}
        kind = members.pop("kind", None)
        if not isinstance(kind, str):
            raise InvalidUse("an expectation has no 'kind'", hint=f"there are {', '.join(KINDS)}")
        if "column" in members and "columns" in members:
            raise InvalidUse(f"an expectation {quoted(kind)} has both 'column' and 'columns'")
        columns = members.pop("columns", None)
        column = members.pop("column", None)
        if column is not None:
            columns = [column]
        elif isinstance(columns, str):
            columns = [columns]
        elif columns is not None and not isinstance(columns, list):
            raise InvalidUse(f"the columns of an expectation {quoted(kind)} are no list")
        severity = members.pop("severity", "error")
        return cls(kind, tuple(columns or ()), members, severity)

    @classmethod
    def stored(cls, name: str, rule: str, *, what: str) -> Expectation:
        """Read :attr:`rule` back. Raises UnknownFormat for what only a newer fsvc may know."""
        try:
            found = cls.parse(json.loads(rule))
        except (ValueError, RecursionError, InvalidUse) as error:
            reason = error.message if isinstance(error, InvalidUse) else "it is no JSON"
            raise UnknownFormat(
                f"the expectation {quoted(name)} of {what} is none that this fsvc knows: {reason}",
                hint="upgrade fsvc; --no-verify commits without looking at expectations",
            ) from None
        if found.name != name:
            raise UnknownFormat(f"the expectation {quoted(name)} of {what} is of {quoted(found.name)}")
        return found


def listed(value: Any) -> list[Expectation]:
    """Expectations from a list, or from a document with a member ``expectations``. Raises InvalidUse."""
    if isinstance(value, Mapping) and "expectations" in value:
        unknown = sorted(map(str, value.keys() - {"commit", "expectations", "feature_set"}))
        if unknown:
            raise InvalidUse(
                f"there is an unknown member {quoted(unknown[0])} beside the expectations",
                hint='write {"expectations": [...]}',
            )
        value = value["expectations"]
    elif (
        isinstance(value, Mapping)
        and "kind" not in value
        and any(isinstance(m, list) for m in value.values())
    ):
        raise InvalidUse(
            "it has no member 'expectations'",
            hint='write {"expectations": [...]} in JSON, and [[expectations]] before each in TOML',
        )
    elif isinstance(value, (Mapping, Expectation)):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise InvalidUse("expectations are a list", hint='write {"expectations": [...]}')
    found = []
    for number, one in enumerate(value, 1):
        try:
            found.append(Expectation.parse(one))
        except InvalidUse as error:
            raise InvalidUse(f"expectation {number}: {error.message}", hint=error.hint) from None
    return distinct(found)


def distinct(expectations: Iterable[Expectation]) -> list[Expectation]:
    """The same expectations, of which no two have one name. Raises InvalidUse."""
    found: dict[str, Expectation] = {}
    for one in expectations:
        if one.name in found:
            raise InvalidUse(
                f"the expectation {quoted(one.name)} is given twice",
                hint="a feature set has one of each kind and columns; say all of it in one",
            )
        found[one.name] = one
    return list(found.values())


# What the terms of each kind are, whatever the table ----------------------------------------------------


def _plain(value: Any, member: str) -> Any:
    """A value as JSON has it. Raises InvalidUse for what has no form there."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    if isinstance(value, timedelta):
        return f"{value // timedelta(seconds=1)}s"
    if isinstance(value, Mapping):
        return {str(name): _plain(one, member) for name, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        ordered = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return [_plain(one, member) for one in ordered]
    if hasattr(value, "item"):  # a number of numpy
        return _plain(value.item(), member)
    raise InvalidUse(f"{quoted(member)} cannot be a {type(value).__name__}: {value}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_column(one: Expectation) -> None:
    kind = one.terms.get("type")
    if "type" in one.terms and not (isinstance(kind, str) and kind):
        raise InvalidUse(f"the type of {one.name} is no text")


def _check_not_null(one: Expectation) -> None:
    share = one.terms.get("at_most", 0)
    if not _is_number(share) or not 0 <= share < 1:
        raise InvalidUse(f"at_most of {one.name} is a share from 0 to below 1, not {share!r}")


def _check_range(one: Expectation) -> None:
    if not any(one.terms.get(term) is not None for term in KINDS["range"].terms):
        raise InvalidUse(f"{one.name} has no bound", hint="give min, max, above or below")
    for closed, opened in _BOUNDS:
        if closed in one.terms and opened in one.terms:
            raise InvalidUse(f"{one.name} has both {closed!r} and {opened!r}", hint="one of them is enough")
    for term, bound in one.terms.items():
        if not (isinstance(bound, str) or _is_number(bound)):
            raise InvalidUse(f"{term!r} of {one.name} is no number, date or time: {bound!r}")


def _check_values(one: Expectation) -> None:
    values = one.terms["values"]
    if not isinstance(values, list) or not values:
        raise InvalidUse(f"the values of {one.name} are a list of at least one")
    if any(value is None or isinstance(value, (list, dict)) for value in values):
        raise InvalidUse(
            f"the values of {one.name} are texts, numbers, bools, dates or times",
            hint="null is accepted anyway; not_null refuses it",
        )


def _check_match(one: Expectation) -> None:
    if not isinstance(one.terms["pattern"], str):
        raise InvalidUse(f"the pattern of {one.name} is no text")


def _check_rows(one: Expectation) -> None:
    if not one.terms:
        raise InvalidUse("the expectation 'rows' has no bound", hint="give min or max")
    for term, bound in one.terms.items():
        if isinstance(bound, bool) or not isinstance(bound, int) or bound < 0:
            raise InvalidUse(f"{term!r} of rows is a number of rows, not {bound!r}")
    if one.terms.get("min", 0) > one.terms.get("max", math.inf):
        raise InvalidUse(f"rows cannot be at least {one.terms['min']:,} and at most {one.terms['max']:,}")


def _check_fresh(one: Expectation) -> None:
    if not isinstance(one.terms["within"], str):
        raise InvalidUse(f"'within' of {one.name} is a span of time as \"24h\"")
    span(one.terms["within"])


def _check_drift(one: Expectation) -> None:
    limits = one.terms.get("thresholds", {})
    if not isinstance(limits, dict) or not all(v is None or _is_number(v) for v in limits.values()):
        raise InvalidUse(f"the thresholds of {one.name} are numbers by name", hint='write {"psi": 0.1}')


_CHECKS = {
    "column": _check_column,
    "not_null": _check_not_null,
    "range": _check_range,
    "values": _check_values,
    "match": _check_match,
    "rows": _check_rows,
    "fresh": _check_fresh,
    "drift": _check_drift,
}
