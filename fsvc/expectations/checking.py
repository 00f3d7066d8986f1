"""Checking a snapshot: each column in question is read once, by groups, proven; duplicates are found by DuckDB."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.engine.progress import Progress, silent
from fsvc.errors import InvalidUse, NotFound
from fsvc.expectations.report import Example, Outcome, Report, Result
from fsvc.expectations.rules import Failing, failing, fitted, named_type, values_of
from fsvc.format.expectation import Expectation, span
from fsvc.snapshot import Snapshot

__all__ = ["check"]

_EXAMPLES = 3
"""So many rows are shown for each expectation that fails."""

_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}


def check(
    snapshot: Snapshot,
    expectations: Iterable[Expectation],
    *,
    before: Callable[[], Snapshot | None],
    time: str,
    progress: Progress = silent,
) -> Report:
    """What comes of the expectations of a snapshot.

    ``before`` gives the snapshot that drift is measured from, None where there is none; it is called only if that is
    asked. ``time`` is when the snapshot is to be fresh: RFC 3339 with a zone. Memory holds a few row groups of the
    columns in question; of drift and duplicates, what :mod:`fsvc.drift` and DuckDB hold.

    An expectation that does not fit the table, as where its column is gone, fails. Raises Corruption for damage.
    """
    results: dict[str, Result] = {}
    rows: list[_Rows] = []
    newest: list[_Newest] = []
    for one in sorted(expectations, key=lambda one: one.name):
        try:
            fit = fitted(one, snapshot.manifest.schema, f"{snapshot.name}@v{snapshot.version}")
        except (InvalidUse, NotFound) as error:
            results[one.name] = Result(one, "failed", error.message)
            continue
        results[one.name] = Result(fit, "met", "")  # keeps its place
        if one.kind == "fresh":
            newest.append(_Newest(fit))
        elif one.kind in ("not_null", "range", "values", "match"):
            rule = failing(fit, snapshot.manifest.schema.field(fit.columns[0]).type)
            assert rule is not None
            rows.append(_Rows(fit, rule))
        elif one.kind == "column":
            results[one.name] = _column(fit, snapshot)
        elif one.kind == "rows":
            results[one.name] = _count(fit, snapshot.num_rows)
        elif one.kind == "unique":
            results[one.name] = _unique(fit, snapshot)
        else:
            results[one.name] = _drift(fit, snapshot, before(), progress)
    _read(snapshot, [*rows, *newest], progress)
    for counted in rows:
        results[counted.expectation.name] = counted.result(snapshot)
    for found in newest:
        results[found.expectation.name] = found.result(time)
    return Report(snapshot.name, snapshot.version, snapshot.id, tuple(results.values()))


def _result(one: Expectation, holds: bool, said: str, *more: Any) -> Result:
    outcome: Outcome = "met" if holds else "failed"
    return Result(one, outcome, said, *more)


# What is read ---------------------------------------------------------------------------------------------


def _read(snapshot: Snapshot, all_of: Sequence[_Rows | _Newest], progress: Progress) -> None:
    """Show every batch to all of them; each column is read once."""
    wanted = list(dict.fromkeys(one.expectation.columns[0] for one in all_of))
    if not wanted:
        return
    first = 0
    for batch in snapshot.reader.batches(wanted, progress=progress, name="checking"):
        values = {name: values_of(batch.column(i)) for i, name in enumerate(wanted)}
        for one in all_of:
            one.add(values[one.expectation.columns[0]], first)
        first += batch.num_rows


class _Rows:
    """Counts the rows that fail, and remembers the first ones."""

    def __init__(self, expectation: Expectation, rule: Failing) -> None:
        self.expectation = expectation
        self._rule = rule
        self._count = 0
        self._first: list[int] = []

    def add(self, array: pa.Array, first: int) -> None:
        flags = self._rule(array)
        count = int(np.count_nonzero(flags))
        self._count += count
        if count and len(self._first) < _EXAMPLES:
            found = np.flatnonzero(flags)[: _EXAMPLES - len(self._first)]
            self._first += (found + first).tolist()

    def result(self, snapshot: Snapshot) -> Result:
        one, total = self.expectation, snapshot.num_rows
        share = one.terms.get("at_most", 0) if one.kind == "not_null" else 0
        holds = self._count <= share * total
        said = _told(one, self._count, total)
        if holds:
            return Result(one, "met", said, self._count)
        return Result(one, "failed", said, self._count, _examples(snapshot, one.columns, self._first))


def _told(one: Expectation, count: int, total: int) -> str:
    """How many rows of how many fail, and what they should be."""
    (column,) = one.columns
    of = f"{count:,} of {total:,} rows"
    verb = "is" if count == 1 else "are"
    if one.kind == "not_null":
        share = one.terms.get("at_most", 0)
        most = f"; {share:.4g} of them may have one" if share else ""
        return f"{of} {'has' if count == 1 else 'have'} a null in {column!r}{most}"
    if one.kind == "range":
        words = {"min": "at least", "above": "above", "max": "at most", "below": "below"}
        wanted = " and ".join(
            f"{word} {one.terms[term]}" for term, word in words.items() if term in one.terms
        )
        return f"{of} {verb} not {wanted}"
    if one.kind == "values":
        return f"{of} {verb} none of the {len(one.terms['values']):,} accepted values"
    return f"{of} do{'es' if count == 1 else ''} not match {one.terms['pattern']!r}"


def _examples(snapshot: Snapshot, columns: Sequence[str], rows: Sequence[int]) -> tuple[Example, ...]:
    """The keys of some rows, and their values in some columns; only the groups that hold them are read."""
    reader = snapshot.reader
    wanted = np.array(rows, np.int64)
    found = {}
    for name in dict.fromkeys([*snapshot.key, *columns]):
        (number,) = reader.column_numbers([name])
        found[name] = _values(reader.plain(reader.cells(number, wanted), number))
    return tuple(
        Example(
            row,
            {name: found[name][i] for name in snapshot.key},
            {name: found[name][i] for name in columns},
        )
        for i, row in enumerate(rows)
    )


def _values(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """A few values as JSON has them; all but bools, finite numbers and texts as texts."""
    values = []
    for scalar in array:
        try:
            value = scalar.as_py()
        except (ValueError, OverflowError, KeyError, pa.ArrowException):
            value = str(scalar)  # beyond the years or the precision of Python's own classes
        fine = value is None or isinstance(value, (bool, int, str))
        fine = fine or (isinstance(value, float) and math.isfinite(value))
        values.append(value if fine else str(value))
    return values


class _Newest:
    """Finds the newest value of a column of times, in microseconds since 1970 UTC."""

    def __init__(self, expectation: Expectation) -> None:
        self.expectation = expectation
        self._newest: int | None = None

    def add(self, array: pa.Array, first: int) -> None:  # noqa: ARG002 - as the others
        value = pc.max(array)
        if not value.is_valid:
            return
        kind, number = array.type, int(value.value)
        if pa.types.is_date32(kind):
            found = number * 86_400_000_000
        elif pa.types.is_date64(kind):
            found = number * 1_000
        else:
            found = number // 1_000 if kind.unit == "ns" else number * _MICROSECONDS[kind.unit]
        self._newest = found if self._newest is None else max(self._newest, found)

    def result(self, time: str) -> Result:
        one = self.expectation
        (column,) = one.columns
        if self._newest is None:
            return Result(one, "failed", f"{column!r} holds no time")
        since = datetime.fromisoformat(time) - datetime(1970, 1, 1, tzinfo=UTC)
        age = since // timedelta(microseconds=1) - self._newest
        limit = span(one.terms["within"]) // timedelta(microseconds=1)
        said = f"the newest {column!r} is {_age(age)} {'old' if age >= 0 else 'ahead'}"
        return _result(
            one, age <= limit, said if age <= limit else f"{said}, not within {one.terms['within']}"
        )


def _age(microseconds: int) -> str:
    seconds = abs(microseconds) / 1_000_000
    for unit, length in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s"


# What is known without reading, or read by others -----------------------------------------------------------


def _column(one: Expectation, snapshot: Snapshot) -> Result:
    found = snapshot.manifest.schema.field(one.columns[0]).type
    wanted = one.terms.get("type")
    holds = wanted is None or wanted == str(found) or named_type(wanted) == found
    said = f"{one.columns[0]!r} is {found}"
    return _result(one, holds, said if holds else f"{said}, not {wanted}")


def _count(one: Expectation, rows: int) -> Result:
    low, high = one.terms.get("min", 0), one.terms.get("max", math.inf)
    said = f"there are {rows:,} rows"
    if rows < low:
        said += f", fewer than {low:,}"
    elif rows > high:
        said += f", more than {high:,}"
    return _result(one, low <= rows <= high, said, rows)


def _unique(one: Expectation, snapshot: Snapshot) -> Result:
    from fsvc.engine.virtual import VirtualFile, remembered_layout
    from fsvc.query.connection import Session
    from fsvc.query.duplicates import find_duplicates
    from fsvc.query.sandbox import spilling

    if snapshot.key and set(snapshot.key) <= set(one.columns):
        return Result(one, "met", "the key is in it, and keys are unique", 0)
    if not snapshot.num_rows:
        return Result(one, "met", "there are no rows", 0)
    session = Session(spilling())
    try:
        content = VirtualFile(snapshot.store.objects, remembered_layout(snapshot.reader))
        found = find_duplicates(session, session.table(content, snapshot.id), one.columns, named=_EXAMPLES)
    finally:
        session.close()
    columns = [_values(column) for column in found.examples]
    examples = tuple(
        Example(None, {}, dict(zip(one.columns, values, strict=True)), rows)
        for *values, rows in zip(*columns, found.counts, strict=True)
    )
    said = (
        f"{found.rows:,} rows share {found.values:,} value{'' if found.values == 1 else 's'} with each other"
    )
    if not found.rows:
        said = "no two rows have the same values"
    return _result(one, not found.rows, said, found.rows, examples)


def _drift(one: Expectation, snapshot: Snapshot, before: Snapshot | None, progress: Progress) -> Result:
    from fsvc.drift import Options, compare, parse_thresholds

    if before is None:
        return Result(one, "not judged", "there is no version before")
    columns = one.columns
    if columns:
        there = before.manifest.schema.names
        columns = tuple(column for column in columns if column in there)
        if not columns:
            return Result(one, "not judged", f"v{before.version} has no such column")
    limits = one.terms.get("thresholds", {})
    texts = {name: "none" if limit is None else str(limit) for name, limit in limits.items()}
    options = Options(columns or None, thresholds=parse_thresholds(texts))
    found = compare(before, snapshot, options, progress=progress)
    told = []
    if found.emptied:
        told.append("one side has no rows")
    told += [f"column {name!r} is gone" for name in found.schema.dropped]
    told += [f"column {name!r} was {old} and is {new}" for name, old, new in found.schema.retyped]
    for name in found.drifted_columns:
        findings = found.column(name).findings
        told.append(
            f"{name!r} drifted, "
            + " and ".join(f"{f.metric} {f.value:.3g} > {f.limit:.3g}" for f in findings)
        )
    said = f"against v{before.version}: " + ("; ".join(told) or "no drift")
    return _result(one, not found.drifted, said)
