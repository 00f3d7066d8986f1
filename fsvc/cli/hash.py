"""``fsvc hash``."""

from __future__ import annotations

import click

from fsvc.cli.context import Context, command
from fsvc.cli.output import Output
from fsvc.cli.parsing import NAMES

__all__ = ["identity"]


@command(
    "hash",
    needs_repository=False,
    examples="""
        fsvc hash customers.parquet --key customer_id
        fsvc hash a.csv b.parquet
    """,
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--key", type=NAMES, metavar="COL,COL", help="The key that it would be committed with.")
@click.option("--sort-by", type=NAMES, metavar="COL,COL", help="Sort the rows first, as commit would.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="How many threads work at once.")
def identity(
    context: Context,
    paths: tuple[str, ...],
    key: tuple[str, ...] | None,
    sort_by: tuple[str, ...] | None,
    threads: int | None,
) -> None:
    """Print the identity that a commit would give a file.

    That is the snapshot id: a hash of what the table says, whatever the format, compression or chunks.
    Files whose ids are equal hold the same table. No repository is needed. The key is part of the identity.
    """
    from fsvc.drafting import identify

    found = []
    with context.progress("hashing") as progress:
        for path in paths:
            table = identify(path, key=key or (), sort_by=sort_by or None, threads=threads, progress=progress)
            found.append((path, table))

    def people(out: Output) -> None:
        for path, table in found:
            out.line(table.id, "  ", path)

    context.output.show(
        {
            "files": [
                {
                    "path": path,
                    "snapshot": table.id,
                    "rows": table.num_rows,
                    "columns": len(table.schema),
                    "key": list(table.key),
                }
                for path, table in found
            ]
        },
        people,
    )
