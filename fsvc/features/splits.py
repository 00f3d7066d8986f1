"""Splits: into which part a row of a training set goes, by the hash of its key or by its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

import pyarrow as pa

from fsvc.errors import InvalidUse
from fsvc.features.columns import field_of, kind_of_key, kind_of_time, plain
from fsvc.query.texttypes import quote_name as q
from fsvc.query.texttypes import quote_text

__all__ = ["Split", "checked", "document_of", "part"]


@dataclass(frozen=True)
class Split:
    """How the rows of a training set are parted, by a column that it gets. See :meth:`by_hash` and :meth:`by_time`."""

    kind: Literal["hash", "time"]
    parts: tuple[tuple[str, Any], ...]
    columns: tuple[str, ...]
    seed: str = ""
    into: str = "split"

    @classmethod
    def by_hash(
        cls,
        key: str | Sequence[str],
        parts: Mapping[str, float | int | str] | None = None,
        *,
        seed: str = "",
        into: str = "split",
    ) -> Split:
        """Part by the MD5 of some columns of the spine as text: rows that agree in them stay together.

        ``parts`` are names and weights, ``{"train": 8, "validation": 1, "test": 1}`` unless told. Another ``seed``
        gives another split. A row stays in its part whatever other rows there are.
        """
        weights = dict(parts or {"train": 8, "validation": 1, "test": 1})
        try:
            shares = {name: Fraction(str(weight)) for name, weight in weights.items()}
        except ValueError:
            raise InvalidUse(f"the parts of a split have weights, not {weights!r}") from None
        if len(shares) < 2 or min(shares.values()) <= 0:
            raise InvalidUse("a split has two parts or more, each with a weight above zero")
        total, done, ends = sum(shares.values()), Fraction(0), []
        for name, share in shares.items():
            done += share
            ends.append((name, int(done / total * 2**64)))
        columns = (key,) if isinstance(key, str) else tuple(key)
        if not columns:
            raise InvalidUse("a split by hash needs a column")
        return cls("hash", tuple(ends), columns, seed, into)

    @classmethod
    def by_time(cls, ends: Mapping[str, Any], *, column: str | None = None, into: str = "split") -> Split:
        """Part by time: each part ends before its value, and begins where the one before it ended.

        ``ends`` are names and values in ascending order: dates, datetimes (with a zone where the column has one),
        integers, or texts of ISO 8601; the last one is None. ``column`` is the spine's time unless told.
        """
        names, values = list(ends), list(ends.values())
        if len(names) < 2 or values[-1] is not None or None in values[:-1]:
            raise InvalidUse(
                "the parts of a split by time all have an end, but the last one, whose end is None"
            )
        return cls("time", tuple(zip(names, values, strict=True)), (column,) if column else (), "", into)


def checked(split: Split, schema: pa.Schema, time: str | None) -> Split:
    """The split against the spine's schema, with the values of a split by time as DuckDB reads them."""
    if split.kind == "hash":
        for name in split.columns:
            kind = plain(field_of(schema, name, "the spine").type)
            fit = pa.types.is_integer(kind) or pa.types.is_date32(kind) or pa.types.is_boolean(kind)
            if not fit and kind_of_key(kind, name, "the spine") != "text":
                raise InvalidUse(
                    f"a split cannot be by the hash of column {name!r}, which is {kind}",
                    hint="its values have no text for good: take integers, texts, dates or booleans",
                )
        return split
    column: str | None = split.columns[0] if split.columns else time
    if column is None:
        raise InvalidUse("a split by time needs the spine's time", hint="time= names the spine's column")
    kind = kind_of_time(schema, column, "the spine")
    ends = [_moment(end, kind) for _, end in split.parts[:-1]]
    if any(first >= second for first, second in pairwise(ends)):
        raise InvalidUse("the ends of a split by time have to ascend")
    texts = [end if isinstance(end, int) else end.isoformat() for end in ends]
    parts = tuple((name, text) for (name, _), text in zip(split.parts, [*texts, None], strict=True))
    return Split("time", parts, (column,), "", split.into)


def _moment(end: Any, kind: str) -> Any:
    """The end of a part as a value of the spine's kind of time. Raises InvalidUse."""
    try:
        if kind == "integer" and type(end) is int:
            return end
        if kind == "date":
            return date.fromisoformat(end) if isinstance(end, str) else date(end.year, end.month, end.day)
        if kind.startswith("timestamp"):
            moment = datetime.fromisoformat(end) if isinstance(end, str) else end
            if not isinstance(moment, datetime):
                moment = datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001 - looked at below
            zoned = moment.tzinfo is not None
            if zoned == (kind == "timestamp with a time zone"):
                return moment.astimezone(UTC) if zoned else moment
    except (ValueError, TypeError, AttributeError):
        pass
    raise InvalidUse(f"a part of the split ends at {end!r}, which is no {kind}, as the spine's time is")


def document_of(split: Split) -> dict[str, Any]:
    """A split as JSON values."""
    # Ends of a split by hash go up to 2 to the 64th, which JSON here does not hold.
    parts = [[name, str(end) if split.kind == "hash" else end] for name, end in split.parts]
    return {
        "kind": split.kind,
        "parts": parts,
        "columns": list(split.columns),
        "seed": split.seed,
        "into": split.into,
    }


def part(split: Split) -> str:
    """The part that a row belongs to."""
    if split.kind == "hash":
        values = ", ".join(f"s.{q(column)}::VARCHAR" for column in split.columns)
        value = f"md5_number_upper(concat_ws(chr(31), {quote_text(split.seed)}, {values}))"
        ends = [str(end) for _, end in split.parts]
    else:
        (column,) = split.columns
        value = f"s.{q(column)}"
        ends = [str(end) if isinstance(end, int) else quote_text(str(end)) for _, end in split.parts]
    *parts, (last, _) = split.parts
    cases = " ".join(
        f"WHEN {value} < {end} THEN {quote_text(name)}" for (name, _), end in zip(parts, ends, strict=False)
    )
    unknown = f"WHEN {value} IS NULL THEN NULL " if split.kind == "time" else ""
    return f"CASE {unknown}{cases} ELSE {quote_text(last)} END"
