"""``fsvc retrain``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.context import Context, command
from fsvc.cli.drift import drift_options, holding, model_side, print_report, settings
from fsvc.cli.mlflow_access import talking_to_mlflow, tracking_uri_option
from fsvc.cli.output import Output
from fsvc.errors import FsvcError, NotFound

if TYPE_CHECKING:
    from fsvc.drift import DriftReport
    from fsvc.mlflow.retraining import Retrained
    from fsvc.snapshot import Snapshot

__all__ = ["retrain"]


@command(
    "retrain",
    examples="""
        fsvc retrain models:/churn@champion --against main -- python train.py
        fsvc retrain models:/churn@champion --against main --alias champion -- make
        fsvc retrain models:/churn/3 --against v9 --when change -- ./train.sh
    """,
)
@click.argument("uri", metavar="MODEL_URI")
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--against", metavar="REV", required=True,
              help="The revision, or NAME@REV, to compare with and to train on.")  # fmt: skip
@click.option("--when", type=click.Choice(["drift", "change", "always"]), default="drift", show_default=True,
              help="Run the command if the data drifted, if they are other data, or always.")  # fmt: skip
@click.option(
    "--alias", metavar="ALIAS", help="Move this alias to the new version that the command registered."
)
@click.option("--no-log", is_flag=True, help="Write nothing of the drift to the model in MLflow.")
@drift_options
@tracking_uri_option
def retrain(
    context: Context,
    uri: str,
    words: tuple[str, ...],
    against: str,
    when: str,
    alias: str | None,
    no_log: bool,
    columns: tuple[str, ...] | None,
    given: tuple[str, ...],
    confidence: float | None,
    bins: int,
    exact: bool | None,
    tracking_uri: str | None,
) -> None:
    """Run a training command when the data of a model drifted.

    What the model was trained on is compared with REV, and the report is written to the model. If it drifted, the
    command is run with FSVC_REPOSITORY, FSVC_TRAIN_DATA (NAME@COMMIT, what to train on), FSVC_TRAIN_NAME,
    FSVC_TRAIN_COMMIT, FSVC_RETRAINED_MODEL (the old model) and MLflow's address in its environment; what it prints goes
    to stderr. The model that it logs on that data is linked to the old one, by tags on both.

    Ends with 0 where nothing had to be done, or a new model is there; with 1 where the command failed; with 4
    where something is not there: the model, the revision, the program, or a new model afterwards. Then the old model
    stays what it is.
    """
    options = settings(columns, given, confidence, bins, exact)
    before, after = model_side(context, uri, against, tracking_uri)
    with context.progress("comparing") as progress:
        report = holding(before).drift(before, after, **options, progress=progress)
    wanted = {"drift": report.drifted, "change": before.id != after.id, "always": True}[when]
    page: str | None = None
    old = uri
    new: list[Retrained] = []
    with talking_to_mlflow(context, tracking_uri) as models:
        from fsvc.mlflow.retraining import Retraining, server_environment

        if not no_log:
            page = models.log_drift(uri, report).page
        if not context.output.json:
            print_report(context.output, report)
        if wanted:
            attempt = Retraining(uri, after, alias=alias)
            old = attempt.old.resolved  # an alias may move
            run_command(words, {**server_environment(), **_environment(after, old)})
            new = attempt.finish(because=when)
    document = {
        "model": uri,
        "old": old if new else None,
        "against": f"{after.name}@{after.commit.id}",
        "when": when,
        "drifted": report.drifted,
        "drifted_columns": list(report.drifted_columns),
        "page": page,
        "retrained": bool(new),
        "new": [_document(model) for model in new],
    }
    context.output.show(document, lambda out: _people(out, old, report, new, wanted))


def _environment(snapshot: Snapshot, old: str) -> dict[str, str]:
    return {
        "FSVC_REPOSITORY": _absolute(holding(snapshot).location),
        "FSVC_TRAIN_DATA": f"{snapshot.name}@{snapshot.commit.id}",
        "FSVC_TRAIN_NAME": snapshot.name,
        "FSVC_TRAIN_COMMIT": snapshot.commit.id,
        "FSVC_RETRAINED_MODEL": old,
    }


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).absolute())


def run_command(words: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Run a command with more in its environment; what it prints goes to stderr.

    On Ctrl-C, which the command gets too, its end is waited for; on the second it is killed. Raises NotFound
    where there is no such program, FsvcError where it fails. Only the program is ever named: its arguments may
    hold secrets.
    """
    program = Path(words[0]).name
    sys.stdout.flush()
    try:
        process = subprocess.Popen(
            list(words), env={**os.environ, **environment}, stdout=2, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise NotFound(f"there is no program {program!r}", hint="give its path, or see to PATH") from None
    except OSError as error:
        raise FsvcError(f"{program!r} cannot be run: {error.strerror or 'it failed'}") from None
    # Whoever ends this process means the training: by Ctrl-C the terminal tells both, otherwise nobody does.
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    except KeyboardInterrupt:
        try:
            process.wait()
        except KeyboardInterrupt:
            process.kill()
            process.wait()
        raise
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if code == -signal.SIGINT:
        raise KeyboardInterrupt
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise FsvcError(
            f"the training command {program!r} {how}; nothing was linked", hint="see what it printed"
        )


def _document(model: Retrained) -> dict[str, Any]:
    return {
        "model_id": model.model_id,
        "run_id": model.run_id,
        "uri": model.uri,
        "versions": [
            {"name": name, "version": number, "aliases": list(aliases)}
            for name, number, aliases in model.versions
        ],
    }


def _people(out: Output, old: str, report: DriftReport, new: list[Retrained], wanted: bool) -> None:
    if not wanted:
        out.line(f"{old} stays: there is nothing to train anew for")
        return
    out.line(f"old  {old}  {report.before}")
    for model in new:
        aliases = "".join(f" @{alias}" for _, _, names in model.versions for alias in names)
        out.line(f"new  {model.uri}{aliases}  {report.after}")
