"""A flavour of MLflow that saves a text: what the MLflow tests log where the model itself does not matter.

It goes through MLflow's own ``Model.log`` as every flavour does, but imports no library and infers nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mlflow.models import Model

FLAVOR = "small"


def save_model(model: str, path: str, mlflow_model: Model, **_: Any) -> None:
    """Save the text, and the MLmodel file beside it."""
    Path(path).mkdir(parents=True)
    (Path(path) / "model.txt").write_text(model, encoding="utf-8")
    mlflow_model.add_flavor(FLAVOR, data="model.txt")
    mlflow_model.save(str(Path(path) / "MLmodel"))


def log_model(
    model: str,
    name: str | None = None,
    metadata: dict[str, Any] | None = None,
    tags: dict[str, Any] | None = None,
    model_id: str | None = None,
    registered_model_name: str | None = None,
    run_id: str | None = None,
) -> Any:
    """Log the text as a model."""
    return Model.log(
        artifact_path=None,
        flavor=sys.modules[__name__],
        model=model,
        name=name,
        metadata=metadata,
        tags=tags,
        model_id=model_id,
        registered_model_name=registered_model_name,
        run_id=run_id,
    )


def _log_without_id(model: str, name: str | None = None, metadata: dict[str, Any] | None = None) -> Any:
    return log_model(model, name, metadata)


without_id = ModuleType("small_flavor_without_id")
"""The flavour as an older one would be: its ``log_model`` takes neither the id of a logged model nor tags."""
without_id.log_model = _log_without_id  # type: ignore[attr-defined]
