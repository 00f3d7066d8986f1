"""``fsvc rebuild``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.addresses import find_snapshot
from fsvc.cli.context import Context, command
from fsvc.cli.differences import print_rows, print_schema, print_stat, rows_document, stat_document
from fsvc.cli.exits import EXIT_DIFFERENCE
from fsvc.cli.output import Output, counted
from fsvc.cli.recipes import named_paths

if TYPE_CHECKING:
    from fsvc.features.recipes import Rebuilt

__all__ = ["rebuild"]

_MOST_ROWS = 20


@command(
    "rebuild",
    examples="""
        fsvc rebuild totals@v3
        fsvc rebuild totals@v3 --rows --limit 5
        fsvc rebuild euros --table rates=rates.csv --exit-code
    """,
)
@click.argument("what", metavar="NAME[@REV]")
@click.option("--table", "tables", multiple=True, metavar="NAME=PATH",
              help="A file that the recipe read by this name; it must hold what it held.")  # fmt: skip
@click.option("--rows", is_flag=True, help="List the rows that differ.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N",
              help=f"List N rows at most.  [default: {_MOST_ROWS}]")  # fmt: skip
@click.option("--exit-code", "tell", is_flag=True, help="End with 3 if the result differs.")
def rebuild(
    context: Context, what: str, tables: tuple[str, ...], rows: bool, limit: int | None, tell: bool
) -> int:
    """Run a recipe again, and say whether the result is the same.

    The query that made the snapshot runs on the very inputs that it read, under the same settings. Nothing is
    committed. If the result is not bit-identical, what differs is shown.
    """
    snapshot = find_snapshot(context.repository(), what)
    recipe = snapshot.recipe
    with context.progress("rebuilding") as progress:
        built = recipe.rebuild(named_paths(tables, "--table"), progress=progress)
    most = _MOST_ROWS if limit is None else limit
    context.output.show(_document(built, rows, most), lambda out: _print(out, built, rows, most))
    return EXIT_DIFFERENCE if tell and not built.identical else 0


def _document(built: Rebuilt, rows: bool, limit: int) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": built.before.name,
        "version": built.before.version,
        "commit": built.before.commit.id,
        "snapshot": built.before.id,
        "rebuilt": built.after.id,
        "identical": built.identical,
        "programs": {
            name: {"before": old, "now": new} for name, (old, new) in sorted(built.programs.items())
        },
        "undetermined": list(built.before.recipe.undetermined),
    }
    if not built.identical:
        document["diff"] = stat_document(built.diff.stat())
        if rows:
            document["rows"] = rows_document(built.diff.rows(limit), built.diff.schema)
    return document


def _print(out: Output, built: Rebuilt, rows: bool, limit: int) -> None:
    label = f"{built.before.name} v{built.before.version}"
    for name, (old, new) in sorted(built.programs.items()):
        out.note(f"it was made by {name} {old}, this is {name} {new}")
    if built.identical:
        out.line(label, f": bit-identical, {counted(built.after.num_rows, 'row')}, snapshot {built.after.id}")
        return
    out.line(out.styled(label, bold=True), "  not the same")
    for sentence in built.before.recipe.undetermined:
        out.line("  open    ", sentence)
    print_stat(out, built.diff.stat())
    if rows:
        listed = built.diff.rows(limit + 1)
        print_rows(out, listed.slice(0, limit), built.diff.schema)
        if listed.num_rows > limit:
            out.note("... more rows: --limit N lists more")
        print_schema(out, built.diff.schema)
