"""``fsvc head``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.addresses import find_snapshot
from fsvc.cli.context import Context, command
from fsvc.cli.output import Output, counted
from fsvc.cli.parsing import NAMES
from fsvc.cli.rows import json_rows, print_rows
from fsvc.cli.values import cells

if TYPE_CHECKING:
    import pyarrow as pa

    from fsvc.snapshot import Snapshot

__all__ = ["head"]


@command(
    "head",
    examples="""
        fsvc head customers
        fsvc head customers@v1 -n 3 --columns customer_id,balance
    """,
)
@click.argument("address", metavar="NAME[@REV]")
@click.option("-n", "--rows", "count", type=click.IntRange(min=0), default=10, metavar="N", show_default=True,
              help="How many rows.")  # fmt: skip
@click.option("--columns", type=NAMES, metavar="COL,COL", help="Only these columns, in this order.")
def head(context: Context, address: str, count: int, columns: tuple[str, ...] | None) -> None:
    """Print the first rows of a snapshot.

    What is printed was proven against the snapshot's digests.
    """
    import pyarrow as pa

    snapshot = find_snapshot(context.repository(), address)
    schema = snapshot.reader.schema(snapshot.reader.column_numbers(columns))
    batches = []
    wanted = count
    for batch in snapshot.to_batches(columns) if count else ():
        batches.append(batch.slice(0, wanted))
        wanted -= batches[-1].num_rows
        if wanted <= 0:
            break
    table = pa.Table.from_batches(batches, schema)
    values = [cells(column) for column in table.columns]
    context.output.show(_document(snapshot, table, values), lambda out: _print(out, snapshot, table, values))


def _document(snapshot: Snapshot, table: pa.Table, values: list[list[Any]]) -> dict[str, Any]:
    names = table.column_names
    return {
        "name": snapshot.name,
        "version": snapshot.version,
        "snapshot": snapshot.id,
        "total_rows": snapshot.num_rows,
        "columns": [{"name": field.name, "type": str(field.type)} for field in table.schema],
        "rows": json_rows(names, values) if values else [{} for _ in range(table.num_rows)],
    }


def _print(out: Output, snapshot: Snapshot, table: pa.Table, values: list[list[Any]]) -> None:
    hidden = print_rows(out, table.schema, values)
    if hidden:
        out.note(f"... {counted(hidden, 'more column')}: see some with --columns, all with --json")
    more = snapshot.num_rows - table.num_rows
    if more:
        out.note(f"... {counted(more, 'more row')}")
