"""``fsvc score``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import short
from fsvc.cli.mlflow_access import talking_to_mlflow, tracking_uri_option
from fsvc.cli.output import Output, counted
from fsvc.cli.parsing import NAMES
from fsvc.cli.tables import format_of
from fsvc.errors import Conflict, InvalidUse, NotFound

__all__ = ["score"]


@command(
    "score",
    examples="""
        fsvc score models:/churn@champion today.parquet -o scores.parquet
        fsvc score models:/churn@champion keys.csv --at main -o scores.csv
        fsvc score models:/churn/4 keys.csv --at sums=main --at plans=v3 -o s.csv
        fsvc score models:/churn/3 events.parquet --as-of time=updated -o s.parquet
    """,
)
@click.argument("uri", metavar="MODEL_URI")
@click.argument("spine", metavar="SPINE")
@click.option("-o", "--output", "target", metavar="PATH", required=True, help="The file to write.")
@click.option("--format", "kind", type=click.Choice(["parquet", "arrow", "csv"]),
              help="The format; left out, PATH's suffix says it.")  # fmt: skip
@click.option("--at", multiple=True, metavar="[NAME=]REV",
              help="Features at this revision, of all feature sets or of one, instead of those of the training."
                   " May be repeated.")  # fmt: skip
@click.option("--as-of", metavar="COL[=FEATURE_COL]",
              help="Features as of this time of each row, by the feature set's time column. A training set"
                   " records both.")  # fmt: skip
@click.option("--missing", type=click.Choice(["null", "error", "predict"]), default="null", show_default=True,
              help="Rows for which nothing is found: no prediction, an error, or nulls for the model.")  # fmt: skip
@click.option("--columns", type=NAMES, metavar="COL,COL", help="The inputs of a model without a signature.")
@click.option("--batch-rows", type=click.IntRange(min=1), default=65536, show_default=True,
              help="About how many rows are predicted at once.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@tracking_uri_option
def score(
    context: Context,
    uri: str,
    spine: str,
    target: str,
    kind: str | None,
    at: tuple[str, ...],
    as_of: str | None,
    missing: Any,
    columns: tuple[str, ...] | None,
    batch_rows: int,
    force: bool,
    tracking_uri: str | None,
) -> None:
    """Predict for the keys in a file, with a model's own features.

    The features are those that it was trained with. SPINE is a Parquet, Arrow, CSV or JSON-lines file with the key
    columns of the model's feature set; of a model that learned from a training set, with the columns by which that
    was looked up. Its columns go along, and a prediction is added to each row. The model is loaded, so whatever
    it runs is run. Parquet and Arrow files hold the model and the commits in their metadata.
    """
    written: Any = format_of(target, kind)
    if written not in ("parquet", "arrow", "csv"):
        raise InvalidUse(f"predictions are not written as {written}", hint="--format parquet, arrow or csv")
    path = Path(target)
    if path.exists() and not force:
        raise Conflict(f"{path} is there already", hint="--force overwrites it")
    if not path.absolute().parent.is_dir():
        raise NotFound(f"there is no directory {path.parent}")
    times: Any = None
    if as_of is not None:
        own, sign, theirs = as_of.partition("=")
        times = (own, theirs) if sign else own
    with talking_to_mlflow(context, tracking_uri) as models, context.progress("scoring") as progress:
        scores = models.score_batch(
            uri,
            Path(spine),
            _revisions(at),
            as_of=times,
            columns=columns,
            missing=missing,
            batch_rows=batch_rows,
            repository=context.repository_location,
        )
        scores.write(path, written, progress=progress)

    def people(out: Output) -> None:
        out.line(target, ": ", counted(scores.rows, "row"), " scored by ", scores.model)
        for name, commit in scores.commits.items():
            out.line(f"features  {name}@{short(commit)}")
        if scores.missing_rows:
            where = ", ".join(f"{name} {count:,}" for name, count in scores.missing.items() if count)
            out.warn(f"for {counted(scores.missing_rows, 'row')} nothing was found: {where}")

    context.output.show(
        {
            "model": scores.model,
            "path": target,
            "rows": scores.rows,
            "missing": scores.missing_rows,
            "missing_from": scores.missing,
            "commits": scores.commits,
        },
        people,
    )


def _revisions(given: tuple[str, ...]) -> str | dict[str, str]:
    """The revision of all features, or those of some feature sets by name."""
    if not given:
        return "training"
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    found: dict[str, str] = {}
    for text in given:
        name, sign, revision = text.partition("=")
        if not sign or not name or name in found:
            raise InvalidUse(
                f"--at {text!r} beside others is not a revision of one more feature set",
                hint="write --at NAME=REV for each",
            )
        found[name] = revision
    return found
