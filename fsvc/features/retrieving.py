"""Features for the rows of a spine that streams by, in its order: what lookups find, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fsvc.engine.store import Store
from fsvc.errors import UnsupportedData
from fsvc.features import lookups
from fsvc.features.lookups import SPINE, Joined
from fsvc.features.recipes import settings
from fsvc.query.exactness import seen_inexactly
from fsvc.query.sql import ROW, ask
from fsvc.sources.source import Source

__all__ = ["Features", "Retrieved"]

_MOST_VALUES = 1 << 24
"""Up to so many values, about 128 MB, are put in order in memory."""


@dataclass(frozen=True)
class Retrieved:
    """What was found for a run of rows.

    Attributes:
        rows: how many rows these are.
        there: for each lookup, by its name, whether each row has what it looks up.
        columns: the columns that were found, by the names that they get, null where nothing was.
    """

    rows: int
    there: Mapping[str, pa.BooleanArray]
    columns: Mapping[str, pa.Array]


class Features:
    """Lookups, to be made for the rows of a spine.

    Attributes:
        store: the repository.
        lookups: the lookups, whose names and columns are all different.
        time: the spine's column of times, where they need one.
        needed: the columns that the spine has to have.
        names: the columns that are found, by the names that they get.
    """

    def __init__(self, store: Store, lookups: Sequence[Joined], time: str | None) -> None:
        self.store = store
        self.lookups = tuple(lookups)
        self.time = time if any(one.time is not None for one in lookups) else None
        own = [*(left for one in lookups for left in one.on), *([self.time] if self.time else [])]
        self.needed = tuple(dict.fromkeys(own))
        self.names = tuple(name for one in lookups for name in one.given)

    def check(self, spine: pa.Schema) -> None:
        """Check a spine's schema. Raises NotFound, InvalidUse as :meth:`Joined.check`.

        Raises UnsupportedData for columns that DuckDB sees inexactly.
        """
        for one in self.lookups:
            one.check(spine, self.time)
            columns = dict.fromkeys([*one.key, *one.given.values()])
            inexact = seen_inexactly(pa.schema([one.snapshot.schema.field(name) for name in columns]))
            if inexact:
                raise UnsupportedData(f"{one.label} cannot be looked up in: {inexact[0]}")

    def retrieve(self, spine: Source, batch_rows: int) -> Iterator[Retrieved]:
        """What is found for the rows of a spine, in order, about ``batch_rows`` at a time.

        Columns have the types that DuckDB gives them. Results of few values are put in order in memory, which costs
        half of what DuckDB's sort does; all others by DuckDB, which spills. Raises KeyViolation where rows are tied.
        """
        aliased = {f"f{number}": one for number, one in enumerate(self.lookups, 1)}
        chosen = [f"s.{ROW}"]
        for alias, one in aliased.items():
            chosen.append(f"{lookups.found(one, alias, spine.schema, self.time)} AS there_{alias}")
        for alias, one in aliased.items():
            chosen += lookups.values(one, alias, spine.schema, self.time)
        small = spine.num_rows is not None and spine.num_rows * len(chosen) <= _MOST_VALUES
        sql = lookups.query(self.needed, chosen, aliased, self.time, ordered=not small)
        answer = ask(
            self.store,
            sql,
            branch=None,
            tables={SPINE: self._keys(spine), **{one.name: one.snapshot.reader for one in self.lookups}},
            closed=settings(threads=None),
        )
        try:
            with lookups.ties_named():
                schema, batches = answer.rows(batch_rows)
                for batch in _in_order(schema, batches, batch_rows) if small else batches:
                    yield self._named(batch)
        finally:
            answer.session.close()

    def _keys(self, spine: Source) -> pa.RecordBatchReader:
        """The columns of a spine that the lookups need, with row numbers, as a stream for DuckDB."""
        schema = pa.schema([*(spine.schema.field(name) for name in self.needed), pa.field(ROW, pa.int64())])

        def numbered() -> Iterator[pa.RecordBatch]:
            first = 0
            for batch in spine.batches():
                columns = [batch.column(name) for name in self.needed]
                rows = pa.array(np.arange(first, first + batch.num_rows))
                first += batch.num_rows
                yield pa.RecordBatch.from_arrays([*columns, rows], schema=schema)

        return pa.RecordBatchReader.from_batches(schema, numbered())

    def _named(self, batch: pa.RecordBatch) -> Retrieved:
        flags, values = batch.columns[1 : len(self.lookups) + 1], batch.columns[len(self.lookups) + 1 :]
        return Retrieved(
            batch.num_rows,
            {one.name: there for one, there in zip(self.lookups, flags, strict=True)},
            dict(zip(self.names, values, strict=True)),
        )


def _in_order(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """The rows in the order of their numbers, which are all there, once each, in the first column."""
    table = pa.Table.from_batches(batches, schema).combine_chunks()
    order = np.empty(len(table), np.int64)
    order[table.column(0).to_numpy()] = np.arange(len(table))
    for first in range(0, len(order), batch_rows):
        chosen = table.take(pa.array(order[first : first + batch_rows])).combine_chunks()
        yield from chosen.to_batches()
