"""Looking features up for the rows of a spine: by key, or for each row as of its time.

A *spine* is a table of keys, perhaps with times. Its row numbers go through the join and order the result, since
no join of DuckDB promises an order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fsvc.engine.reading import SnapshotReader
from fsvc.engine.virtual import VirtualFile, layout
from fsvc.errors import InvalidUse, NotFound, UnsupportedData
from fsvc.format.names import nearest
from fsvc.query.connection import Session
from fsvc.query.exactness import seen_inexactly
from fsvc.query.interrupts import interruptible, wait_for
from fsvc.query.texttypes import quote_name

__all__ = ["SPINE_ROW", "Lookup", "look_up", "spine_columns"]

SPINE_ROW = "fsvc_spine_row"
"""The column of a spine that numbers its rows from 0."""


_MOST_VALUES = 1 << 24
"""Up to so many values, about 128 MB, are put in order in memory."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What to look up in one snapshot.

    Attributes:
        reader: the snapshot.
        name: what it is called in errors.
        columns: the columns wanted.
        times: the spine's time column and the snapshot's: each row gets the newest row of its key at or before its
            time. None: each gets the row of its key.
    """

    reader: SnapshotReader
    name: str
    columns: tuple[str, ...]
    times: tuple[str, str] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that rows are matched by: the key without the time. Raises InvalidUse where there is none."""
        key = tuple(
            column for column in self.reader.manifest.key if self.times is None or column != self.times[1]
        )
        if not key:
            raise InvalidUse(
                f"{self.name} has no key to look rows up by", hint="commit it with key columns: --key COL,COL"
            )
        return key


def spine_columns(schema: pa.Schema, lookups: Sequence[Lookup]) -> list[str]:
    """The columns of a spine that the lookups need.

    Raises NotFound for one that is not there, InvalidUse for one of a type that the key or time does not have.
    """
    needed: dict[str, None] = {}
    for lookup in lookups:
        known = lookup.reader.manifest.schema
        pairs = [] if lookup.times is None else [lookup.times]
        pairs += [(key, key) for key in lookup.keys]
        for own, theirs in pairs:
            if schema.get_field_index(own) < 0:
                near = nearest(own, schema.names)
                raise NotFound(
                    f"the spine has no column {own!r}, by which {lookup.name} is looked up",
                    hint=f"did you mean {near[0]!r}?" if near else f"it has {', '.join(schema.names[:20])}",
                )
            if known.get_field_index(theirs) < 0:
                raise NotFound(f"{lookup.name} has no column {theirs!r}")
            one, other = schema.field(own).type, known.field(theirs).type
            if not _comparable(one, other):
                raise InvalidUse(
                    f"column {own!r} of the spine is {one}, and {theirs!r} of {lookup.name} is {other}",
                    hint="give both the same type; times need a zone on both sides or on neither",
                )
            needed[own] = None
    return list(needed)


def _comparable(one: pa.DataType, other: pa.DataType) -> bool:
    one, other = (kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (one, other))
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other):
        return (one.tz is None) == (other.tz is None)
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    for same in (pa.types.is_integer, lambda kind: any(test(kind) for test in texts)):
        if same(one) and same(other):
            return True
    return bool(one.equals(other))


def look_up(
    session: Session,
    spine: pa.RecordBatchReader,
    lookups: Sequence[Lookup],
    batch_rows: int,
    *,
    rows: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """For every row of a spine, in order: of each lookup whether it was found, and its columns.

    The spine has the columns of :func:`spine_columns` and SPINE_ROW. Columns of the result are numbered: ``found0``,
    ``c0_0``, ``c0_1`` for the first lookup, and so on. Batches have about ``batch_rows`` rows. ``rows`` is how many the
    spine has, where that is known: results of few values are put in order in memory, which costs half of what
    DuckDB's sort does; all others by DuckDB, which spills.

    As of a time there is one newest row: a key is unique, with its time where that is part of it. Raises
    UnsupportedData for columns that DuckDB sees inexactly.
    """
    connection = session.connection
    wanted, joins = [], []
    for number, lookup in enumerate(lookups):
        reader = lookup.reader
        keys = lookup.keys
        time = () if lookup.times is None else (lookup.times[1],)
        names = list(dict.fromkeys([*keys, *time, *lookup.columns]))
        inexact = seen_inexactly(reader.schema(reader.column_numbers(names)))
        if inexact:
            raise UnsupportedData(f"{lookup.name} cannot be looked up in: {inexact[0]}")
        table = session.table(
            VirtualFile(reader.objects, layout(reader, names)), f"{number}-{reader.manifest.id}"
        )
        alias = f"f{number}"
        on = [f"s.{quote_name(key)} = {alias}.{quote_name(key)}" for key in keys]
        if lookup.times is not None:
            on.append(f"s.{quote_name(lookup.times[0])} >= {alias}.{quote_name(lookup.times[1])}")
        kind = "LEFT JOIN" if lookup.times is None else "ASOF LEFT JOIN"
        joins.append(f"{kind} {table} {alias} ON {' AND '.join(on)}")
        wanted.append(f"{alias}.{quote_name(keys[0])} IS NOT NULL AS found{number}")
        wanted += [f"{alias}.{quote_name(name)} AS c{number}_{i}" for i, name in enumerate(lookup.columns)]
    small = rows is not None and rows * len(wanted) <= _MOST_VALUES
    sql = f"SELECT s.{SPINE_ROW}, {', '.join(wanted)} FROM spine s {' '.join(joins)}"
    if not small:
        sql += f" ORDER BY s.{SPINE_ROW}"
    connection.register("spine", spine)
    with session.reading(), interruptible():
        result = wait_for(connection, lambda: connection.sql(sql).to_arrow_reader(batch_rows))
    if small:
        with session.reading(), interruptible():
            table = wait_for(connection, result.read_all).combine_chunks()
        order = np.empty(len(table), np.int64)  # each row number is there once
        order[table.column(0).to_numpy()] = np.arange(len(table))
        for first in range(0, len(order), batch_rows):
            chosen = table.take(pa.array(order[first : first + batch_rows])).combine_chunks()
            yield from chosen.to_batches()
        return
    while True:
        with session.reading(), interruptible():
            batch = wait_for(connection, lambda: next(result, None))
        if batch is None:
            return
        yield batch
