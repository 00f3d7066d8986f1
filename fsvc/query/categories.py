"""Counting the categories of a column in two snapshots, in place, in memory that DuckDB bounds by spilling."""

from __future__ import annotations

from dataclasses import dataclass

from fsvc.query.connection import Session
from fsvc.query.interrupts import interruptible
from fsvc.query.texttypes import quote_name

__all__ = ["CategoryCounts", "count_categories"]


@dataclass(frozen=True, slots=True)
class CategoryCounts:
    """The categories of two columns, and how many rows each has on both sides; nulls are none.

    ``frequent`` lists name, rows before and rows after of the most frequent ones by their larger share, ``others`` the
    rows of all that are not listed. ``distinct`` counts the categories of each side, ``singletons`` those of one row
    before. ``new`` and ``gone`` list the most frequent ones of one side only; ``new_rows`` is the rows of all new ones.
    """

    frequent: tuple[tuple[str, int, int], ...]
    others: tuple[int, int]
    distinct: tuple[int, int]
    singletons: int
    new_categories: int
    gone_categories: int
    new_rows: int
    new: tuple[tuple[str, int], ...]
    gone: tuple[tuple[str, int], ...]


def count_categories(
    session: Session, before: str, after: str, column: str, *, listed: int, named: int
) -> CategoryCounts:
    """Count the categories of a column on both sides (what stands behind FROM), as texts.

    ``listed`` is how many of the frequent ones are listed, ``named`` how many of the new and of the gone ones.
    """
    name = quote_name(column)

    def side(table: str) -> str:
        # Grouped by the column's own values first, which are smaller than their texts.
        counts = f"SELECT {name} AS value, count(*) AS n FROM {table} WHERE {name} IS NOT NULL GROUP BY 1"
        return f"SELECT CAST(value AS VARCHAR) AS value, n FROM ({counts})"

    connection = session.connection.cursor()
    try:
        with session.reading(), interruptible():
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE counted AS SELECT value, coalesce(b.n, 0) AS b, coalesce(a.n, 0) AS a"
                f" FROM ({side(before)}) b FULL JOIN ({side(after)}) a USING (value)"
            )
            (sums,) = connection.execute(
                "SELECT coalesce(sum(b), 0), coalesce(sum(a), 0), count_if(b > 0), count_if(a > 0), count_if(b = 1),"
                " count_if(b = 0), count_if(a = 0), coalesce(sum(a) FILTER (b = 0), 0) FROM counted"
            ).fetchall()
            rows_before, rows_after = max(int(sums[0]), 1), max(int(sums[1]), 1)
            frequent = connection.execute(
                "SELECT value, b, a FROM counted"
                f" ORDER BY greatest(b / {rows_before}, a / {rows_after}) DESC, value LIMIT {listed}"
            ).fetchall()
            new, gone = (
                connection.execute(
                    f"SELECT value, {there} FROM counted WHERE {absent} = 0 ORDER BY 2 DESC, value LIMIT {named}"
                ).fetchall()
                for absent, there in (("b", "a"), ("a", "b"))
            )
            connection.execute("DROP TABLE counted")
    finally:
        connection.close()
    return CategoryCounts(
        frequent=tuple((value, int(b), int(a)) for value, b, a in frequent),
        others=(
            int(sums[0]) - sum(int(b) for _, b, _ in frequent),
            int(sums[1]) - sum(int(a) for _, _, a in frequent),
        ),
        distinct=(int(sums[2]), int(sums[3])),
        singletons=int(sums[4]),
        new_categories=int(sums[5]),
        gone_categories=int(sums[6]),
        new_rows=int(sums[7]),
        new=tuple((value, int(n)) for value, n in new),
        gone=tuple((value, int(n)) for value, n in gone),
    )
