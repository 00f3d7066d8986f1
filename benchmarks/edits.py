"""Edits of the table as they come in practice: scattered rows and cells, a region, a month of days."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks import tables

__all__ = ["next_day", "shuffled", "with_deleted", "with_inserted", "with_region"]

_DAILY = ("balance", "spend_30d", "spend_90d", "visits_30d", "orders_90d")
"""The columns in which a day changes cells."""


def _random(what: int, seed: int) -> np.random.Generator:
    return np.random.default_rng((what, seed))


def with_region(table: pa.Table, seed: int) -> pa.Table:
    """The table with other values in a contiguous 1% of the rows, in all columns but the key."""
    count = max(1, len(table) // 100)
    first = int(_random(1, seed).integers(0, len(table) - count + 1))
    values = table.slice((first + len(table) // 2) % (len(table) - count + 1), count)
    columns = []
    for name in table.column_names:
        column = table[name]
        parts = [column.slice(0, first), values[name], column.slice(first + count)]
        whole = pa.chunked_array([chunk for part in parts for chunk in part.chunks], column.type)
        columns.append(column if name == tables.KEY else whole)
    return pa.table(columns, schema=table.schema).combine_chunks()


def with_deleted(table: pa.Table, share: float, seed: int) -> pa.Table:
    """The table without a share of its rows, at random."""
    kept = np.ones(len(table), np.bool_)
    kept[_random(2, seed).choice(len(table), max(1, int(len(table) * share)), replace=False)] = False
    return table.filter(pa.array(kept)).combine_chunks()


def with_inserted(table: pa.Table, share: float, seed: int) -> pa.Table:
    """The table with more rows at random places, in the order of the key."""
    ids = table[tables.KEY].to_numpy()
    free = np.setdiff1d(np.arange(int(ids[-1])), ids)
    random = _random(3, seed)
    chosen = np.sort(random.choice(free, max(1, int(len(table) * share)), replace=False))
    values = table.take(pa.array(random.integers(0, len(table), len(chosen))))
    at = table.schema.get_field_index(tables.KEY)
    rows = values.set_column(at, table.schema.field(at), pa.array(chosen, table.schema.field(at).type))
    whole = pa.concat_tables([table, rows]).combine_chunks()
    return whole.take(pc.sort_indices(whole[tables.KEY])).combine_chunks()


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    """The table with its rows in another order."""
    return table.take(pa.array(_random(4, seed).permutation(len(table)))).combine_chunks()


def next_day(table: pa.Table, day: int) -> pa.Table:
    """The table a day later: 2% of the rows have other values in five columns, and 0.3% are appended."""
    random = _random(5, day)
    flags = np.zeros(len(table), np.bool_)
    flags[random.choice(len(table), max(1, len(table) // 50), replace=False)] = True
    chosen = pa.array(flags)
    for name in _DAILY:
        at = table.schema.get_field_index(name)
        values = table[name].combine_chunks()
        others = values.take(pa.array(random.permutation(len(table))))
        table = table.set_column(at, table.schema.field(at), pc.if_else(chosen, others, values))
    more = tables.make_table(max(1, len(table) * 3 // 1000), len(table), columns=table.num_columns)
    return pa.concat_tables([table, more]).combine_chunks()
