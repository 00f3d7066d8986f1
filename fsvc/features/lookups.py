"""Lookups: which rows of a feature set belong to the rows of a spine, checked against schemas and written as SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa

from fsvc.errors import InvalidUse
from fsvc.features.columns import field_of, kind_of_key, kind_of_time
from fsvc.query.sql import ROW
from fsvc.query.texttypes import quote_name as q
from fsvc.query.texttypes import quote_text
from fsvc.repository import Repository
from fsvc.snapshot import Snapshot

__all__ = ["TIED", "Joined", "Lookup", "Ties", "check", "clause", "decided", "join", "values"]

Ties: TypeAlias = Literal["refuse", "first", "last"] | Sequence[str]

TIED: Final = " has several rows with the same "
"""What DuckDB's error says where rows are tied."""


@dataclass(frozen=True)
class Lookup:
    """Features to look up for every row of a spine.

    Attributes:
        features: the feature set: the address of a snapshot, or one.
        on: the columns that have to be equal: a name, several, or a mapping from the spine's to the feature set's.
        time: the column of the feature set that says since when a row is known. For each row of the spine the newest
            row at or before its time is taken. Without one, ``on`` has to be unique in the feature set.
        columns: the columns to take; all others unless told.
        prefix: what their names begin with in the training set.
        max_age: how old the row that is taken may be at most, that age included: a timedelta; of dates, whole days; of
            integers, a number. An older one is as good as none.
        ties: what to do with rows of the same ``on`` and ``time``: ``"refuse"`` them; take the ``"first"`` or the
            ``"last"`` by their order in the feature set; or the greatest by these columns, which must decide.
        time_as: a column of the training set that gets the time of the row that was taken; null where none was.
    """

    features: str | Snapshot
    on: str | Sequence[str] | Mapping[str, str]
    time: str | None = None
    columns: Sequence[str] | None = None
    prefix: str = ""
    max_age: timedelta | int | None = None
    ties: Ties = "refuse"
    time_as: str | None = None


@dataclass(frozen=True)
class Joined:
    """A lookup against the schemas at hand: the snapshot, and what of it goes where."""

    name: str
    lookup: Lookup
    snapshot: Snapshot
    on: dict[str, str]
    columns: dict[str, str]
    ties: tuple[str, ...] | str
    max_age: int | None

    def document(self) -> dict[str, Any]:
        """It as JSON values."""
        return {
            "name": self.name,
            "on": self.on,
            "time": self.lookup.time,
            "columns": self.columns,
            "max_age": self.max_age,
            "ties": self.ties if isinstance(self.ties, str) else list(self.ties),
            "time_as": self.lookup.time_as,
        }


def join(
    repository: Repository, spine: pa.Schema, time: str | None, lookup: Lookup, names: set[str]
) -> Joined:
    """Check a lookup against the schemas of a spine and of its feature set.

    ``time`` is the spine's column of times; ``names`` holds the names that the query has already, and gets one more.
    Raises NotFound for columns that are not there, InvalidUse for types that cannot be compared.
    """
    found = lookup.features
    snapshot = repository.snapshot(found) if isinstance(found, str) else found
    chosen = snapshot.columns
    if chosen is not None:
        snapshot = snapshot.commit.snapshot(snapshot.name)
    schema, what = snapshot.schema, f"{snapshot.name}@v{snapshot.version}"
    on = _pairs(lookup.on)
    for left, right in on.items():
        ours, theirs = field_of(spine, left, "the spine"), field_of(schema, right, what)
        if kind_of_key(ours.type, left, "the spine") != kind_of_key(theirs.type, right, what):
            raise InvalidUse(
                f"column {left!r} of the spine is {ours.type}, and {right!r} of {what} is {theirs.type}:"
                " they are never equal",
                hint="give both one type",
            )
    if lookup.time is not None:
        kind = kind_of_time(schema, lookup.time, what)
        if time is None:
            raise InvalidUse(
                f"{what} is looked up by time, and the spine has none", hint="time= names the spine's column"
            )
        own = kind_of_time(spine, time, "the spine")
        if own != kind:
            raise InvalidUse(
                f"column {time!r} of the spine is a {own}, and {lookup.time!r} of {what} a {kind}:"
                " which one comes first is not determined",
                hint="give both a time zone, or none; and make a date the time at which it was known",
            )
    elif lookup.max_age is not None or lookup.time_as is not None:
        raise InvalidUse(f"max_age and time_as need a time, and {what} is looked up without one")
    used = {*on.values(), lookup.time}
    wanted = lookup.columns if lookup.columns is not None else chosen
    columns = [name for name in schema.names if name not in used] if wanted is None else list(wanted)
    for column in columns:
        field_of(schema, column, what)
    name, number = snapshot.name, 1
    while name.casefold() in names:
        number += 1
        name = f"{snapshot.name}_{number}"
    names.add(name.casefold())
    ties = lookup.ties if isinstance(lookup.ties, str) else tuple(lookup.ties)
    if isinstance(ties, str) and ties not in ("refuse", "first", "last"):
        raise InvalidUse(f"ties are 'refuse', 'first', 'last' or a list of columns, not {ties!r}")
    for column in ties if isinstance(ties, tuple) else ():
        field_of(schema, column, what)
    return Joined(
        name,
        lookup,
        snapshot,
        on,
        {lookup.prefix + column: column for column in columns},
        ties,
        _age(lookup, kind_of_time(schema, lookup.time, what)) if lookup.time else None,
    )


def _pairs(on: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(on, str):
        return {on: on}
    pairs = dict(on) if isinstance(on, Mapping) else {name: name for name in on}
    if not pairs:
        raise InvalidUse("a lookup needs columns to find rows by: on='customer_id'")
    return pairs


def _age(lookup: Lookup, kind: str) -> int | None:
    """An age limit in microseconds, or in days or numbers, whichever the time is in."""
    limit = lookup.max_age
    if limit is None:
        return None
    if isinstance(limit, timedelta):
        found = limit // (timedelta(days=1) if kind == "date" else timedelta(microseconds=1))
        whole = kind != "date" or timedelta(days=found) == limit
    else:
        found, whole = limit, True
    if (
        isinstance(limit, timedelta) == (kind == "integer")
        or not whole
        or type(found) is not int
        or found < 0
    ):
        fit = {"integer": "a number", "date": "a timedelta of whole days"}.get(kind, "a timedelta")
        raise InvalidUse(f"the max_age of a lookup by a {kind} is {fit}, not {limit!r}")
    return found


def values(one: Joined, alias: str, time: str | None) -> Iterator[str]:
    """The columns of a lookup; with an age limit, null where the row is too old."""
    young = None
    if one.max_age is not None and time is not None:
        then, now = f"{alias}.{q(one.lookup.time or '')}", f"s.{q(time)}"
        kind = kind_of_time(one.snapshot.schema, one.lookup.time or "", one.name)
        if kind == "integer":
            young = f"{now}::HUGEINT - {then}::HUGEINT <= {one.max_age}"
        elif kind == "date":
            young = f"{now} - {then} <= {one.max_age}"
        else:
            young = f"{now} - to_microseconds({one.max_age}) <= {then}"
    wanted = {into: f"{alias}.{q(column)}" for into, column in one.columns.items()}
    if one.lookup.time_as is not None:
        wanted[one.lookup.time_as] = f"{alias}.{q(one.lookup.time or '')}"
    for into, value in wanted.items():
        yield f"{value if young is None else f'CASE WHEN {young} THEN {value} END'} AS {q(into)}"


def clause(one: Joined, alias: str, time: str | None) -> list[str]:
    """The lines that join a lookup, as ``alias``, to the spine, which is ``s``."""
    source = q(one.name)
    key = [*one.on.values(), *([one.lookup.time] if one.lookup.time else [])]
    if one.ties != "refuse" and not _givendecided(one):
        if isinstance(one.ties, tuple):
            order = ", ".join(f"{q(column)} DESC NULLS LAST" for column in one.ties)
        else:
            order = f"{ROW} {'ASC' if one.ties == 'first' else 'DESC'}"
        partition = ", ".join(map(q, key))
        source = (
            f"(\n  SELECT * FROM {source}"
            f"\n  QUALIFY row_number() OVER (PARTITION BY {partition} ORDER BY {order}) = 1\n)"
        )
    equal = [f"s.{q(left)} = {alias}.{q(right)}" for left, right in one.on.items()]
    if one.lookup.time is None:
        return [f"LEFT JOIN {source} AS {alias}", f"  ON {' AND '.join(equal)}"]
    equal.append(f"s.{q(time or '')} >= {alias}.{q(one.lookup.time)}")
    return [f"ASOF LEFT JOIN {source} AS {alias}", f"  ON {' AND '.join(equal)}"]


def _givendecided(one: Joined) -> bool:
    """Whether the feature set's own key rules ties out."""
    return bool(one.snapshot.key) and {*one.snapshot.key} <= {*one.on.values(), one.lookup.time}


def decided(one: Joined) -> bool:
    """Whether no ties can be left that the query would have to find."""
    return _givendecided(one) or one.ties in ("first", "last")


def check(one: Joined, number: int) -> str:
    """A subquery with one row, true; DuckDB stops with an error where two rows of a lookup are tied."""
    key = [*one.on.values(), *([one.lookup.time] if one.lookup.time else [])]
    columns = [*key, *(one.ties if isinstance(one.ties, tuple) else ())]
    present = " AND ".join(f"{q(column)} IS NOT NULL" for column in key)
    said = f"{one.snapshot.name}{TIED}{', '.join(columns)}: "
    example = ", ".join(f"{q(column)}::VARCHAR" for column in columns)
    return (
        f"ties_{number} AS (\n"
        f"  SELECT CASE WHEN count(*) = 0 THEN true"
        f" ELSE error({quote_text(said)} || min(concat_ws(', ', {example}))) END AS decided\n"
        f"  FROM (\n"
        f"    SELECT {', '.join(map(q, columns))} FROM {q(one.name)} WHERE {present}\n"
        f"    GROUP BY ALL HAVING count(*) > 1\n"
        f"  )\n"
        f")"
    )
