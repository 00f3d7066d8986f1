"""``fsvc apply``."""

from __future__ import annotations

import os

import click

from fsvc.cli.addresses import find_snapshot
from fsvc.cli.checkout import Format, destination, write
from fsvc.cli.context import Context, command
from fsvc.cli.mlflow_access import MODEL_SCHEMES, talking_to_mlflow, tracking_uri_option
from fsvc.cli.output import counted, human_size
from fsvc.cli.recipes import named_paths
from fsvc.errors import Conflict, InvalidUse

__all__ = ["apply"]


@command(
    "apply",
    examples="""
        fsvc apply totals@v3 --input orders=today.parquet -o features.parquet
        fsvc apply models:/churn@champion --input orders=today.csv -o new.parquet
    """,
)
@click.argument("what", metavar="NAME[@REV] | MODEL_URI")
@click.option("--input", "inputs", multiple=True, required=True, metavar="NAME=PATH",
              help="The table in place of an input; a snapshot as NAME=NAME@REV. May be repeated.")  # fmt: skip
@click.option("-o", "--output", "target", metavar="PATH", required=True, help="The file to write.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "arrow", "csv"]),
    help="The format; left out, PATH's suffix says it.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@tracking_uri_option
def apply(
    context: Context,
    what: str,
    inputs: tuple[str, ...],
    target: str,
    kind: Format | None,
    force: bool,
    tracking_uri: str | None,
) -> None:
    """Run a recipe on other tables.

    The query that made the snapshot, or the training data of a model, runs on the tables that are given by --input,
    under the settings that it had. Inputs that are not given are those that it read, pinned. Columns and
    types have to be those that the inputs and the result had. Nothing is committed.
    """
    if os.path.isdir(target):
        raise InvalidUse(f"{target} is a directory", hint="name a file")
    if os.path.lexists(target) and not force:
        raise Conflict(f"{target} is there already", hint="--force overwrites it")
    tables: dict[str, object] = dict(named_paths(inputs, "--input"))
    for name, path in list(tables.items()):
        if "@" in str(path) and not os.path.lexists(str(path)):
            tables[name] = context.repository().snapshot(str(path))
    if what.startswith(MODEL_SCHEMES):
        with talking_to_mlflow(context, tracking_uri) as models, context.progress("applying"):
            made = models.features_for(what, inputs=tables, repository=context.repository_location)
    else:
        recipe = find_snapshot(context.repository(), what).recipe
        with context.progress("applying") as progress:
            made = recipe.apply(tables, progress=progress)
    path, chosen = destination(made, target, kind)
    with context.progress("writing") as progress:
        write(made, path, chosen, None, None, progress)
    rows, size = made.num_rows, path.stat().st_size
    context.output.show(
        {
            "name": made.name,
            "path": str(path),
            "format": chosen,
            "rows": rows,
            "bytes": size,
            "identity": made.id,
        },
        lambda out: out.line(str(path), f": {counted(rows, 'row')}, {human_size(size)}"),
    )
