"""``fsvc head``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.addresses import find_snapshot
from fsvc.cli.context import Context, command
from fsvc.cli.output import Output, clean, clip, counted, printed_width
from fsvc.cli.parsing import NAMES
from fsvc.cli.values import as_json, as_text, cells

if TYPE_CHECKING:
    import pyarrow as pa

    from fsvc.snapshot import Snapshot

__all__ = ["head"]

_WIDEST_CELL = 32


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
        "rows": [
            dict(zip(names, map(as_json, row), strict=True)) for row in zip(*values, strict=True)
        ] if values else [{} for _ in range(table.num_rows)],
    }  # fmt: skip


def _print(out: Output, snapshot: Snapshot, table: pa.Table, values: list[list[Any]]) -> None:
    import pyarrow as pa

    def numeric(kind: pa.DataType) -> bool:
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))

    if values:
        rows = [
            [clip(clean(as_text(value)), _WIDEST_CELL) for value in row] for row in zip(*values, strict=True)
        ]
        names = [clip(clean(name), _WIDEST_CELL) for name in table.column_names]
        right = [name for name, field in zip(names, table.schema, strict=True) if numeric(field.type)]
        shown = _fitting(out.width, names, rows)
        out.table(names[:shown], [row[:shown] for row in rows], right=right, literal=True, always=True)
        if shown < len(names):
            out.note(
                f"... {counted(len(names) - shown, 'more column')}: see some with --columns, all with --json"
            )
    more = snapshot.num_rows - table.num_rows
    if more:
        out.note(f"... {counted(more, 'more row')}")


def _fitting(width: int | None, names: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """How many columns, at least one, have room on a terminal; all of them where there is none."""
    if width is None:
        return len(names)
    room = width
    for place, column in enumerate(zip(names, *rows, strict=True)):
        room -= max(map(printed_width, column))
        if room < 0 and place:
            return place
        room -= 2
    return len(names)
