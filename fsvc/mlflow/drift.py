"""Drift of a model's data, written where MLflow's own search, alerts and webhooks find it."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlflow.entities import Metric

from fsvc.drift import DriftReport, document
from fsvc.engine.clock import timestamp
from fsvc.errors import FsvcError, NotFound
from fsvc.mlflow.models import model_versions
from fsvc.mlflow.server import asking, client
from fsvc.mlflow.uris import ModelFile, model_file

__all__ = ["LoggedDrift", "log_drift", "registered_versions", "tag_model"]

METRIC: Final = "fsvc.drift."
STATE: Final = "fsvc.drift"
AGAINST: Final = "fsvc.drift.against"
COLUMNS: Final = "fsvc.drift.columns"
PAGE: Final = "fsvc.drift.page"
TIME: Final = "fsvc.drift.time"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ -]{0,150}")
_MOST_COLUMNS = 500
_MOST_TEXT = 4_000
_MEASURES = ("psi", "js", "ks", "wasserstein_scaled", "unseen")


@dataclass(frozen=True)
class LoggedDrift:
    """What was written: the run that has it, the URI of the page there, metrics, tags, and the tagged versions."""

    run_id: str
    page: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    versions: tuple[tuple[str, str], ...]


def log_drift(uri: str | os.PathLike[str], report: DriftReport) -> LoggedDrift:
    """Write a drift report to the model that it is about.

    The model's run gets the page and the report as JSON below ``fsvc/``, and metrics that belong to the logged model:
    ``fsvc.drift.drifted`` (0 or 1), ``fsvc.drift.columns`` (how many drifted), the greatest ``fsvc.drift.psi.max`` and
    so on, and ``fsvc.drift.psi.COLUMN`` for columns with a plain name. The logged model, and the registered version
    that ``uri`` names (or all versions made of the logged model), get the tags ``fsvc.drift`` (``drift`` or
    ``stable``), ``.against``, ``.columns``, ``.page`` and ``.time``, the versions last, since webhooks listen there.
    Where the run is gone, a run of its own is made.

    Raises NotFound for a model that is not there, TrackingError where MLflow cannot be reached.
    """
    model = model_file(uri)
    what = f"the drift of {model.uri}"
    with asking(what):
        run_id, own = _run_for(model, report)
        name = f"fsvc/drift-{report.after.commit[:12]}"
        server = client()
        server.log_text(run_id, report.to_html(), f"{name}.html")
        server.log_text(
            run_id, json.dumps(document({report.before.feature_set: report}), indent=2), f"{name}.json"
        )
        metrics = _metrics(report)
        now = int(time.time() * 1000)
        server.log_batch(
            run_id,
            [
                Metric(key, value, now, 0, model_id=model.model_id, run_id=run_id)
                for key, value in metrics.items()
            ],
        )
        if own:
            server.set_terminated(run_id)
    page = f"runs:/{run_id}/{name}.html"
    tags = {
        STATE: "drift" if report.drifted else "stable",
        AGAINST: f"{report.after.feature_set}@{report.after.commit}",
        COLUMNS: _shortened(report.drifted_columns),
        PAGE: page,
        TIME: timestamp(),
    }
    return LoggedDrift(run_id, page, metrics, tags, tag_model(model, tags))


def tag_model(model: ModelFile, tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Tag a logged model, then its registered versions, which are given back as name and number."""
    if model.model_id is not None:
        try:
            with asking(f"the model {model.uri}"):
                client().set_logged_model_tags(model.model_id, dict(tags))
        except NotFound:
            pass  # deleted since it was registered: its version is there
    versions = registered_versions(model)
    for name, number in versions:
        with asking(f"the model models:/{name}/{number}"):
            for key, value in tags.items():
                client().set_model_version_tag(name, number, key, value)
    return versions


def registered_versions(model: ModelFile) -> tuple[tuple[str, str], ...]:
    """The registered version that a model was named by; else all that were made of the logged model."""
    if model.name is not None and model.version is not None:
        return ((model.name, model.version),)
    if model.model_id is None:
        return ()
    found = model_versions(f"source_path = 'models:/{model.model_id}'")
    return tuple(sorted((version.name, str(version.version)) for version in found))


def _run_for(model: ModelFile, report: DriftReport) -> tuple[str, bool]:
    """The run to write to, and whether it was made for this: where the model's own is gone."""
    server = client()
    if model.run_id is not None:
        try:
            with asking(f"the run {model.run_id}"):
                run = server.get_run(model.run_id)
            if run.info.lifecycle_stage == "active":
                return model.run_id, False
        except NotFound:
            pass
    experiment = "0"
    if model.model_id is not None:
        try:
            with asking(f"the model {model.uri}"):
                experiment = server.get_logged_model(model.model_id).experiment_id
        except FsvcError:
            pass  # deleted: the default experiment has to do
    run = server.create_run(experiment, run_name=f"drift of {report.before.feature_set}"[:200])
    return run.info.run_id, True


def _metrics(report: DriftReport) -> dict[str, float]:
    found: dict[str, float] = {
        f"{METRIC}drifted": float(report.drifted),
        f"{METRIC}columns": float(len(report.drifted_columns)),
        f"{METRIC}rows": float(report.after.rows),
    }
    for measure in _MEASURES:
        greatest = report.greatest(measure)
        if greatest is not None:
            found[f"{METRIC}{measure}.max"] = greatest
    judged = [column for column in report.columns if column.judged and _PLAIN_NAME.fullmatch(column.name)]
    for column in judged[:_MOST_COLUMNS]:
        if "psi" in column.metrics and column.name != "max":
            found[f"{METRIC}psi.{column.name}"] = column.metrics["psi"]
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _shortened(names: tuple[str, ...]) -> str:
    """The names as a JSON list that fits a tag; one that was cut ends with ``...``."""
    listed: list[Any] = []
    for name in names:
        if len(json.dumps([*listed, name, "..."])) > _MOST_TEXT:
            listed.append("...")
            break
        listed.append(name)
    return json.dumps(listed)
