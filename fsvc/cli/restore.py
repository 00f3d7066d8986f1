"""``fsvc restore``."""

from __future__ import annotations

from pathlib import Path

import click

from fsvc.cli.checkout import Format, destination, write
from fsvc.cli.context import Context, command
from fsvc.cli.describing import snapshot_document
from fsvc.cli.mlflow_access import talking_to_mlflow, tracking_uri_option
from fsvc.cli.output import Output, counted
from fsvc.errors import Conflict

__all__ = ["restore"]


@command(
    "restore",
    examples="""
        fsvc restore models:/customer_churn_predictor@champion -o train.parquet
        fsvc restore models:/churn/3 --role validation -o validation.parquet
        fsvc restore runs:/0a1b2c3d/model --check
        fsvc restore customer_features-v3.train.json -o train.parquet
    """,
)
@click.argument("uri", metavar="MODEL_URI")
@click.option("-o", "--output", "target", metavar="PATH", help="The file to write, or the directory for it.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "arrow", "csv"]),
    help="The format; left out, PATH's suffix says it.",
)
@click.option("--role", default="train", show_default=True, help="Which of the model's data.")
@click.option("--check", is_flag=True, help="Prove the data, and write nothing.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@tracking_uri_option
def restore(
    context: Context,
    uri: str,
    target: str | None,
    kind: Format | None,
    role: str,
    check: bool,
    force: bool,
    tracking_uri: str | None,
) -> None:
    """Write the data a model was trained on, proven bit for bit.

    MODEL_URI is whatever MLflow takes: models:/NAME/VERSION, models:/NAME@ALIAS, models:/m-ID, runs:/RUN/NAME, or a
    path; or a reference file that was logged beside a run. The repository is found by the uuid in the model's
    metadata: the one that --repo names, the workspace here, or where it was last seen on this machine. The columns
    are those that the model used.

    Every value is decoded and compared with the hash that the model carries before the file appears. Where
    anything differs, nothing is written.
    """
    with talking_to_mlflow(context, tracking_uri) as models:
        snapshot = models.restore(uri, role=role, repository=context.repository_location)
    path: Path | None = None
    if not check:
        path, kind = destination(snapshot, target, kind)
        if path.exists() and not force:
            raise Conflict(f"{path} is there already", hint="--force overwrites it")
    with context.progress("proving") as progress:
        snapshot.prove(progress=progress)
    if path is not None and kind is not None:
        with context.progress("writing") as progress:
            write(snapshot, path, kind, None, None, progress)

    def people(out: Output) -> None:
        what = f"{snapshot.name} v{snapshot.version}, {counted(snapshot.num_rows, 'row')}, proven"
        out.line(*((str(path), ": ") if path is not None else ()), what)
        out.note("snapshot ", snapshot.id)

    context.output.show(
        {
            "model": uri,
            "role": role,
            **snapshot_document(snapshot),
            "used_columns": None if snapshot.columns is None else list(snapshot.columns),
            "proven": True,
            "path": None if path is None else str(path),
        },
        people,
    )
