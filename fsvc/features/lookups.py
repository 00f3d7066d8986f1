"""Lookups: which rows of a feature set belong to the rows of a spine, checked against schemas and written as SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa

from fsvc.errors import Corruption, InvalidUse, KeyViolation
from fsvc.features.columns import field_of, kind_of_key, kind_of_time, plain
from fsvc.query.sql import ROW
from fsvc.query.texttypes import quote_name as q
from fsvc.query.texttypes import quote_text
from fsvc.repository import Repository
from fsvc.snapshot import Snapshot

__all__ = ["SPINE", "Joined", "Lookup", "Ties", "found", "join", "query", "ties_named", "values"]

Ties: TypeAlias = Literal["refuse", "first", "last"] | Sequence[str]

SPINE: Final = "spine"
"""The name that the query has for the spine."""

_LONGEST: Final = 2**63 - 1
"""The greatest age limit in the time's own numbers: the greatest integer that a recipe can record."""

_TIED: Final = " has several rows with the same "
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
    """A lookup in a snapshot: what of it goes where.

    Attributes:
        name: what the query calls the feature set.
        snapshot: the snapshot, whole.
        on: the columns that have to be equal, of the spine and of the feature set.
        time: the feature set's column of times; None for a lookup without one.
        columns: where the columns come from, by the names that they get.
        max_age: how old a row may be, in the time's own numbers: microseconds, days or integers.
        ties, time_as: as in :class:`Lookup`.
    """

    name: str
    snapshot: Snapshot
    on: Mapping[str, str]
    time: str | None
    columns: Mapping[str, str]
    ties: tuple[str, ...] | str = "refuse"
    max_age: int | None = None
    time_as: str | None = None

    @property
    def label(self) -> str:
        """The feature set and its version, for messages."""
        return f"{self.snapshot.name}@v{self.snapshot.version}"

    @property
    def key(self) -> list[str]:
        """The columns of the feature set by which rows are found: ``on``, and the time."""
        return [*self.on.values(), *([self.time] if self.time is not None else [])]

    @property
    def given(self) -> dict[str, str]:
        """Everything that it adds to a row, time included: the feature set's columns by the names that they get."""
        times = {} if self.time_as is None or self.time is None else {self.time_as: self.time}
        return {**self.columns, **times}

    def document(self) -> dict[str, Any]:
        """It as JSON values, as recipes record it; the snapshot is recorded among their inputs."""
        return {
            "name": self.name,
            "on": dict(self.on),
            "time": self.time,
            "columns": dict(self.columns),
            "max_age": self.max_age,
            "ties": self.ties if isinstance(self.ties, str) else list(self.ties),
            "time_as": self.time_as,
        }

    @classmethod
    def parse(cls, value: Any, snapshot: Snapshot, *, what: str) -> Joined:
        """Read :meth:`document` back, with the snapshot to look in. Raises Corruption where it is none."""
        try:
            ties = value["ties"] if isinstance(value["ties"], str) else tuple(value["ties"])
            one = cls(
                value["name"],
                snapshot,
                dict(value["on"]),
                value["time"],
                dict(value["columns"]),
                ties,
                value["max_age"],
                value["time_as"],
            )
            names = [one.name, *one.on, *one.on.values(), *one.columns, *one.columns.values()]
            names += [name for name in (one.time, one.time_as) if name is not None]
            whole = one.max_age is None or (type(one.max_age) is int and one.time is not None)
            known = ties in ("refuse", "first", "last") or isinstance(ties, tuple)
            if one.on and whole and known and all(isinstance(name, str) for name in [*names, *ties]):
                return one
        except (TypeError, KeyError, ValueError):
            pass
        raise Corruption(f"{what} has a lookup that is none")

    def check(self, spine: pa.Schema, time: str | None) -> None:
        """Check that the rows of a spine, with this column of times, can be found by it.

        Raises NotFound for columns that are not there, InvalidUse for types that cannot be compared.
        """
        schema, what = self.snapshot.schema, self.label
        for left, right in self.on.items():
            ours, theirs = field_of(spine, left, "the spine"), field_of(schema, right, what)
            if kind_of_key(ours.type, left, "the spine") != kind_of_key(theirs.type, right, what):
                raise InvalidUse(
                    f"column {left!r} of the spine is {ours.type}, and {right!r} of {what} is {theirs.type}:"
                    " they are never equal",
                    hint="give both one type",
                )
        if self.time is not None:
            kind = kind_of_time(schema, self.time, what)
            if time is None:
                raise InvalidUse(
                    f"{what} is looked up by time, and the spine has none",
                    hint="time= names the spine's column",
                )
            own = kind_of_time(spine, time, "the spine")
            if own != kind:
                raise InvalidUse(
                    f"column {time!r} of the spine is a {own}, and {self.time!r} of {what} a {kind}:"
                    " which one comes first is not determined",
                    hint="give both a time zone, or none; and make a date the time at which it was known",
                )
        for column in [*self.columns.values(), *(self.ties if isinstance(self.ties, tuple) else ())]:
            field_of(schema, column, what)


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
    schema, on = snapshot.schema, _pairs(lookup.on)
    wanted = lookup.columns if lookup.columns is not None else chosen
    if wanted is None:
        wanted = [name for name in schema.names if name not in {*on.values(), lookup.time}]
    ties = lookup.ties if isinstance(lookup.ties, str) else tuple(lookup.ties)
    if isinstance(ties, str) and ties not in ("refuse", "first", "last"):
        raise InvalidUse(f"ties are 'refuse', 'first', 'last' or a list of columns, not {ties!r}")
    name, number = snapshot.name, 1
    while name.casefold() in names:
        number += 1
        name = f"{snapshot.name}_{number}"
    columns = {lookup.prefix + column: column for column in wanted}
    one = Joined(name, snapshot, on, lookup.time, columns, ties, time_as=lookup.time_as)
    one.check(spine, time)
    if lookup.time is None and (lookup.max_age is not None or lookup.time_as is not None):
        raise InvalidUse(f"max_age and time_as need a time, and {one.label} is looked up without one")
    names.add(name.casefold())
    if lookup.time is None:
        return one
    return replace(one, max_age=_age(lookup, kind_of_time(schema, lookup.time, one.label)))


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
        by = "an integer" if kind == "integer" else f"a {kind}"
        raise InvalidUse(f"the max_age of a lookup by {by} is {fit}, of 0 or more, not {limit!r}")
    if found > _LONGEST:
        most = "2^63 - 1" if kind == "integer" else "292,000 years"
        raise InvalidUse(
            f"the max_age of a lookup is at most {most}, not {limit}",
            hint="leave it out where a row may be of any age",
        )
    return found


# As SQL -----------------------------------------------------------------------------------------


def query(
    spine: Sequence[str],
    chosen: Iterable[str],
    joined: Mapping[str, Joined],
    time: str | None,
    *,
    ordered: bool = True,
) -> str:
    """The query for these expressions over the rows of a table ``spine``, as ``s``, and what is found for each of them.

    Args:
        spine: the columns of the spine that the expressions and lookups name; its rows are numbered by ROW.
        chosen: the expressions; :func:`values` and :func:`found` give those of a lookup.
        joined: the lookups, by the alias that each has in the expressions.
        time: the spine's column of times.
        ordered: whether the rows come in the order of the spine.
    """
    checks = {
        f"ties_{number}": _untied(one) for number, one in enumerate(joined.values(), 1) if not _decided(one)
    }
    lines = []
    if checks:
        lines += ["WITH", ",\n".join(f"{name} AS (\n{check})" for name, check in checks.items())]
    lines += [
        "SELECT",
        ",\n".join(f"  {one}" for one in chosen),
        f"FROM (SELECT {', '.join([*map(q, spine), ROW])} FROM {q(SPINE)}) AS s",
    ]
    for alias, one in joined.items():
        lines += _clause(one, alias, time)
    if checks:
        lines.append("WHERE " + "\n  AND ".join(f"(SELECT decided FROM {name})" for name in checks))
    if ordered:
        lines.append(f"ORDER BY s.{ROW}")
    return "\n".join(lines) + "\n"


@contextmanager
def ties_named() -> Iterator[None]:
    """Raise KeyViolation for what a query says of rows that are tied."""
    try:
        yield
    except InvalidUse as error:
        if _TIED not in error.message:
            raise
        raise KeyViolation(
            error.message,
            hint="make these the key of the feature set, or say which row counts: ties='last', or by columns",
        ) from None


def values(one: Joined, alias: str, spine: pa.Schema, time: str | None) -> Iterator[str]:
    """The columns of a lookup, in the order of ``given``; with an age limit, null where the row is too old."""
    young = _young(one, alias, spine, time)
    for into, column in one.given.items():
        value = f"{alias}.{q(column)}"
        yield f"{value if young is None else f'CASE WHEN {young} THEN {value} END'} AS {q(into)}"


def found(one: Joined, alias: str, spine: pa.Schema, time: str | None) -> str:
    """Whether a lookup found a row."""
    there = f"{alias}.{q(one.key[0])} IS NOT NULL"
    young = _young(one, alias, spine, time)
    return there if young is None else f"{there} AND {young}"


def _young(one: Joined, alias: str, spine: pa.Schema, time: str | None) -> str | None:
    """Whether the row that was found is young enough; None where there is no limit."""
    if one.max_age is None or one.time is None or time is None:
        return None
    then, now = f"{alias}.{q(one.time)}", f"s.{q(time)}"
    kind = kind_of_time(one.snapshot.schema, one.time, one.name)
    if kind == "integer":
        return f"{now}::HUGEINT - {then}::HUGEINT <= {one.max_age}"
    if kind == "date":
        return f"{now} - {then} <= {one.max_age}"
    # Not now - limit <= then: that leaves the range of timestamps where the limit is long.
    now, then = _nanoseconds(now, spine.field(time)), _nanoseconds(then, one.snapshot.schema.field(one.time))
    return f"{now} - {then} <= {one.max_age * 1000}"


def _nanoseconds(time: str, field: pa.Field) -> str:
    """A timestamp as nanoseconds since 1970, in an integer that holds those of every unit."""
    if plain(field.type).unit == "ns":
        return f"epoch_ns({time})::HUGEINT"
    return f"epoch_us({time})::HUGEINT * 1000"


def _clause(one: Joined, alias: str, time: str | None) -> list[str]:
    """The lines that join a lookup, as ``alias``, to the spine, which is ``s``."""
    source = q(one.name)
    if one.ties != "refuse" and not _unique(one):
        if isinstance(one.ties, tuple):
            order = ", ".join(f"{q(column)} DESC NULLS LAST" for column in one.ties)
        else:
            order = f"{ROW} {'ASC' if one.ties == 'first' else 'DESC'}"
        partition = ", ".join(map(q, one.key))
        source = (
            f"(\n  SELECT * FROM {source}"
            f"\n  QUALIFY row_number() OVER (PARTITION BY {partition} ORDER BY {order}) = 1\n)"
        )
    equal = [f"s.{q(left)} = {alias}.{q(right)}" for left, right in one.on.items()]
    if one.time is None:
        return [f"LEFT JOIN {source} AS {alias}", f"  ON {' AND '.join(equal)}"]
    equal.append(f"s.{q(time or '')} >= {alias}.{q(one.time)}")
    return [f"ASOF LEFT JOIN {source} AS {alias}", f"  ON {' AND '.join(equal)}"]


def _unique(one: Joined) -> bool:
    """Whether the feature set's own key leaves no ties."""
    return bool(one.snapshot.key) and {*one.snapshot.key} <= {*one.key}


def _decided(one: Joined) -> bool:
    """Whether no ties can be left that the query would have to find."""
    return _unique(one) or one.ties in ("first", "last")


def _untied(one: Joined) -> str:
    """A query of one row, true; DuckDB stops with an error where two rows of a lookup are tied."""
    columns = [*one.key, *(one.ties if isinstance(one.ties, tuple) else ())]
    present = " AND ".join(f"{q(column)} IS NOT NULL" for column in one.key)
    said = f"{one.snapshot.name}{_TIED}{', '.join(columns)}: "
    example = ", ".join(f"{q(column)}::VARCHAR" for column in columns)
    return (
        f"  SELECT CASE WHEN count(*) = 0 THEN true"
        f" ELSE error({quote_text(said)} || min(concat_ws(', ', {example}))) END AS decided\n"
        f"  FROM (\n"
        f"    SELECT {', '.join(map(q, columns))} FROM {q(one.name)} WHERE {present}\n"
        f"    GROUP BY ALL HAVING count(*) > 1\n"
        f"  )\n"
    )
