"""``fsvc pins``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import short
from fsvc.cli.mlflow_access import talking_to_mlflow, tracking_uri_option
from fsvc.cli.output import Output, ago, counted
from fsvc.errors import InvalidUse

if TYPE_CHECKING:
    from fsvc.engine.pins import Pin

__all__ = ["pins"]


@command(
    "pins",
    examples="""
        fsvc pins
        fsvc pins --sync --dry-run
    """,
)
@click.option(
    "--sync", is_flag=True, help="Ask MLflow: settle pins of models that are there, release others."
)
@click.option("--dry-run", is_flag=True, help="With --sync, only say what would be done.")
@tracking_uri_option
def pins(context: Context, sync: bool, dry_run: bool, tracking_uri: str | None) -> None:
    """List what keeps the data of models alive.

    Each model that was logged with fsvc pins the commits that it stands on. A pin is settled once the model is
    known to be logged; metadata made for a plain log_model are pinned under a token until --sync finds the model.

    --sync enumerates all models and registered versions of the server first. A pin is released only if its model
    was logged to this very server and is deleted, and no registered version, copies included, is made of it; if
    the enumeration is not complete, nothing is changed.
    """
    repository = context.repository()
    if not sync:
        if dry_run:
            raise InvalidUse("--dry-run is for --sync", hint="run 'fsvc pins --sync --dry-run'")
        known = repository.pins()
        context.output.show({"pins": [_document(pin) for pin in known]}, lambda out: _print(out, known))
        return
    with talking_to_mlflow(context, tracking_uri) as mlflow:
        done = mlflow.sync_pins(repository, dry_run=dry_run)

    def people(out: Output) -> None:
        would = "would be " if dry_run else ""
        for word, found in (("settled", done.settled), ("released", done.released)):
            for pin in found:
                out.line(f"{would}{word}  ", _label(pin), "  ", short(pin.commit))
        for pin, why in done.kept:
            out.line("kept  ", _label(pin), "  ", short(pin.commit), "  ", why)
        out.note(
            f"{counted(len(done.settled), 'pin')} {would}settled, {len(done.released)} {would}released,"
            f" {len(done.kept)} kept"
        )

    context.output.show(
        {
            "dry_run": dry_run,
            "settled": [_document(pin) for pin in done.settled],
            "released": [_document(pin) for pin in done.released],
            "kept": [{**_document(pin), "why": why} for pin, why in done.kept],
        },
        people,
    )


def _label(pin: Pin) -> str:
    return pin.model or f"unsettled {pin.token}"


def _print(out: Output, known: list[Pin]) -> None:
    if not known:
        out.note("no model stands on this repository")
    rows = [
        (
            pin.label,
            pin.role,
            f"{pin.feature_set}@{short(pin.commit)}",
            "settled" if pin.settled else "not settled",
            ago(pin.time),
            pin.author.partition(" <")[0],
            _label(pin),
        )
        for pin in known
    ]
    out.table(["model", "role", "keeps", "state", "since", "author", "id"], rows)


def _document(pin: Pin) -> dict[str, Any]:
    return {
        "pin": pin.name,
        "model_id": pin.model,
        "token": pin.token,
        "model": pin.label,
        "role": pin.role,
        "commit": pin.commit,
        "feature_set": pin.feature_set,
        "settled": pin.settled,
        "time": pin.time,
        "author": pin.author,
    }
