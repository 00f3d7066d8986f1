"""fsvc beside MLflow: models that say which data trained them, and give it back bit for bit.

>>> import fsvc, fsvc.mlflow, mlflow
>>> snap = fsvc.open().snapshot("customer_features@v3")
>>> with mlflow.start_run():
...     fsvc.mlflow.log_model(mlflow.sklearn, model, name="model", snapshot=snap)
>>> fsvc.mlflow.restore("models:/customer_churn_predictor@champion").to_pandas()

Needs the extra ``mlflow``. MLflow is loaded when something here is first used, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsvc.mlflow.dataset import from_fsvc
    from fsvc.mlflow.drift import LoggedDrift, log_drift
    from fsvc.mlflow.logging import log_model, log_snapshot, metadata, register_model
    from fsvc.mlflow.models import TrainedModel, models_for
    from fsvc.mlflow.restoring import ModelLineage, lineage, restore, verify
    from fsvc.mlflow.scoring import Scores, score_batch
    from fsvc.mlflow.serving import Skew, compare_features, features_for
    from fsvc.mlflow.sync import Synced, sync_pins
    from fsvc.mlflow.tracking import track

__all__ = [
    "LoggedDrift",
    "ModelLineage",
    "Scores",
    "Skew",
    "Synced",
    "TrainedModel",
    "compare_features",
    "features_for",
    "from_fsvc",
    "lineage",
    "log_drift",
    "log_model",
    "log_snapshot",
    "metadata",
    "models_for",
    "register_model",
    "restore",
    "score_batch",
    "sync_pins",
    "track",
    "verify",
]

_HOMES = {
    "LoggedDrift": "drift",
    "ModelLineage": "restoring",
    "Scores": "scoring",
    "Skew": "serving",
    "Synced": "sync",
    "TrainedModel": "models",
    "compare_features": "serving",
    "features_for": "serving",
    "from_fsvc": "dataset",
    "lineage": "restoring",
    "log_drift": "drift",
    "log_model": "logging",
    "log_snapshot": "logging",
    "metadata": "logging",
    "models_for": "models",
    "register_model": "logging",
    "restore": "restoring",
    "score_batch": "scoring",
    "sync_pins": "sync",
    "track": "tracking",
    "verify": "restoring",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fsvc.mlflow' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"fsvc.mlflow.{home}"), name)
    globals()[name] = value
    return value
