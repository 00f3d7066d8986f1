"""Finding rows that have the same values in some columns, in place, in memory that DuckDB bounds by spilling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsvc.query.connection import Session
from fsvc.query.interrupts import interruptible
from fsvc.query.texttypes import quote_name

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Duplicates", "find_duplicates"]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Values that more than one row has.

    ``rows`` is how many rows have such values, ``values`` how many different ones there are. ``examples`` are the
    most frequent ones: a column of values for each that was asked for, and ``counts`` how many rows have them.
    """

    rows: int
    values: int
    examples: tuple[pa.ChunkedArray, ...]
    counts: tuple[int, ...]


def find_duplicates(session: Session, table: str, columns: Sequence[str], *, named: int) -> Duplicates:
    """Find them in a table (what stands behind FROM); rows with a null in one of the columns are passed over."""
    names = [quote_name(column) for column in columns]
    there = " AND ".join(f"{name} IS NOT NULL" for name in names)
    # Under names of our own, by numbers: a column may be called anything.
    chosen = ", ".join(f"{name} AS v{number}" for number, name in enumerate(names))
    values = [f"v{number}" for number in range(len(names))]
    grouped = ", ".join(str(number + 1) for number in range(len(names)))
    connection = session.connection.cursor()
    try:
        with session.reading(), interruptible():
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE repeated AS SELECT {chosen}, count(*) AS n FROM {table}"
                f" WHERE {there} GROUP BY {grouped} HAVING count(*) > 1"
            )
            ((rows, different),) = connection.execute(
                "SELECT coalesce(sum(n), 0), count(*) FROM repeated"
            ).fetchall()
            examples = connection.sql(
                f"SELECT {', '.join(values)}, n FROM repeated ORDER BY n DESC, {', '.join(values)} LIMIT {named}"
            ).to_arrow_table()
            connection.execute("DROP TABLE repeated")
    finally:
        connection.close()
    return Duplicates(
        int(rows),
        int(different),
        tuple(examples.columns[:-1]),
        tuple(examples.columns[-1].to_pylist()),
    )
