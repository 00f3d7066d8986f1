"""What is stored: a table, and what becomes of it. Written as Parquet files, which every store is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import tables

__all__ = ["CHANGES", "Change", "read_changes", "write_inputs"]

CHANGES = (
    "append", "add-column", "update", "region", "delete", "insert", "unchanged", "shuffle", "recompute", "drop",
)  # fmt: skip
"""The changes, each made to the first version; ``day-1``, ``day-2``, ... come one after the other."""

_DAY_SHARE, _DAY_NEW = 0.02, 0.003
_DAY_COLUMNS = ("balance", "spend_30d", "spend_90d", "visits_30d", "points")


@dataclass(frozen=True)
class Change:
    """One step: the files that say what the table is afterwards, and what is new about it.

    ``whole`` is the table. For stores that are told what changed, ``rows`` has the rows that are new or
    changed, and ``deleted`` the keys of those that are gone; both are empty where it is not rows that changed.
    """

    name: str
    whole: str
    rows: str = ""
    deleted: str = ""
    new_rows_only: bool = False


def write_inputs(directory: Path, rows: int, days: int) -> None:
    """Write the first version, every change of it and the days after it into an empty directory."""
    base = tables.make_table(rows)
    pq.write_table(base, directory / "base.parquet", compression="zstd")
    changes = [_written(directory, *made) for made in _made(base, rows)]
    changes += [_written(directory, *made) for made in _days(base, rows, days)]
    (directory / "changes.json").write_text(json.dumps([asdict(change) for change in changes]))


def read_changes(directory: Path) -> list[Change]:
    """The changes that :func:`write_inputs` wrote, in order."""
    return [Change(**value) for value in json.loads((directory / "changes.json").read_text())]


def _written(
    directory: Path,
    name: str,
    whole: pa.Table,
    rows: pa.Table | None = None,
    deleted: pa.Array | None = None,
    new_rows_only: bool = False,
) -> Change:
    def write(table: pa.Table, suffix: str) -> str:
        path = f"{name}{suffix}.parquet"
        pq.write_table(table, directory / path, compression="zstd")
        return path

    return Change(
        name,
        write(whole, ""),
        "" if rows is None else write(rows, ".rows"),
        "" if deleted is None else write(pa.table({tables.KEY: deleted}), ".deleted"),
        new_rows_only,
    )


def _made(base: pa.Table, rows: int) -> Iterator[tuple[Any, ...]]:
    random = np.random.default_rng(11)

    def some(share: float) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.sort(random.choice(rows, max(1, int(rows * share)), replace=False))

    more = tables.make_table(max(1, rows // 100), rows)
    yield "append", pa.concat_tables([base, more]).combine_chunks(), more, None, True

    yield "add-column", base.append_column(tables.ADDED, tables.added_column(rows, 1))

    chosen = [some(0.05) for _ in tables.EDITED]
    table = tables.edited(base, chosen)
    yield "update", table, table.take(np.unique(np.concatenate(chosen)))

    first, count = rows // 3, max(1, rows // 100)
    other = tables.make_table(count, rows * 2)
    region = other.set_column(0, tables.KEY, base[tables.KEY].slice(first, count)).cast(base.schema)
    table = pa.concat_tables([base.slice(0, first), region, base.slice(first + count)]).combine_chunks()
    yield "region", table, region

    gone = some(0.01)
    kept = np.ones(rows, np.bool_)
    kept[gone] = False
    yield "delete", base.filter(pa.array(kept)), None, base[tables.KEY].take(gone).combine_chunks()

    # Every key has a gap behind it that is free for another one in some places.
    keys = base[tables.KEY].to_numpy()
    free = np.flatnonzero(np.diff(keys) > 1)
    after = np.sort(random.choice(free, min(len(free), max(1, rows // 1000)), replace=False))
    other = tables.make_table(len(after), rows * 3)
    new = other.set_column(0, tables.KEY, pa.array(keys[after] + 1)).cast(base.schema)
    both = pa.concat_tables([base, new])
    order = np.insert(np.arange(rows), after + 1, rows + np.arange(len(after)))
    yield "insert", both.take(order).combine_chunks(), new, None, True

    yield "unchanged", base
    yield "shuffle", base.take(random.permutation(rows))

    at = base.schema.get_field_index(tables.RECOMPUTED)
    yield "recompute", base.set_column(at, base.schema.field(at), tables.recomputed_column(rows, 1))
    yield "drop", base.drop_columns(["note"])


def _days(base: pa.Table, rows: int, days: int) -> Iterator[tuple[Any, ...]]:
    """Each day some rows change in five columns, and some come; told as one table of rows, by key."""
    random = np.random.default_rng(12)
    table, position = base, rows
    for day in range(1, days + 1):
        chosen = np.sort(random.choice(len(table), max(1, int(len(table) * _DAY_SHARE)), replace=False))
        other = tables.make_table(len(chosen), position)
        position += len(chosen)
        for name in _DAY_COLUMNS:
            at = table.schema.get_field_index(name)
            flags = np.zeros(len(table), np.bool_)
            flags[chosen] = True
            column = pc.replace_with_mask(
                table[name].combine_chunks(), pa.array(flags), other[name].combine_chunks()
            )
            table = table.set_column(at, table.schema.field(at), column)
        more = tables.make_table(max(1, int(rows * _DAY_NEW)), position)
        position += len(more)
        changed = pa.concat_tables([table.take(chosen), more])
        table = pa.concat_tables([table, more]).combine_chunks()
        yield f"day-{day}", table, changed
