"""Training anew: which models a training command logged, and what leads from the old model to the new one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import mlflow

from fsvc.engine.clock import timestamp
from fsvc.errors import FsvcError, InvalidUse, NotFound
from fsvc.format.reference import TRAIN
from fsvc.mlflow.drift import tag_model
from fsvc.mlflow.models import TrainedModel, models_for
from fsvc.mlflow.server import asking, client
from fsvc.mlflow.uris import ModelFile, model_file
from fsvc.repository import Repository
from fsvc.snapshot import Snapshot

__all__ = ["Retrained", "Retraining", "server_environment"]

FROM: Final = "fsvc.retrained.from"
AS: Final = "fsvc.retrained.as"
WHY: Final = "fsvc.retrained.because"
TIME: Final = "fsvc.retrained.time"


@dataclass(frozen=True)
class Retrained:
    """A new model that took the place of an old one: its id, run, and registered versions with their aliases."""

    model_id: str
    run_id: str | None
    versions: tuple[tuple[str, str, tuple[str, ...]], ...]

    @property
    def uri(self) -> str:
        """A URI of it that does not move."""
        if self.versions:
            name, number, _ = self.versions[-1]
            return f"models:/{name}/{number}"
        return f"models:/{self.model_id}"


class Retraining:
    """Made before a training command is run, and asked afterwards what it logged.

    The new models are those that stand on ``snapshot`` as their training data and did not before. Two commands
    that train on the same version at the same time cannot be told apart by this.

    ``alias`` is to be moved to the newest new version of the old model's registered name. Raises InvalidUse where it
    cannot be, before anything is trained: MLflow allows no such alias, or the model has no registered name.
    """

    def __init__(self, uri: str | os.PathLike[str], snapshot: Snapshot, *, alias: str | None = None) -> None:
        self.old: ModelFile = model_file(uri)
        self.snapshot = snapshot
        self._alias = alias
        if alias is not None:
            _check_alias(alias)
            if self.old.name is None:
                raise InvalidUse(
                    f"the model {self.old.uri} is not named by a registered model, so {alias!r} has nowhere to move",
                    hint="name it as models:/NAME/VERSION or models:/NAME@ALIAS",
                )
        self._known = {model.model_id for model in self._models()}

    def _models(self) -> list[TrainedModel]:
        found = models_for(self.snapshot, repository=Repository(self.snapshot.store))
        return [model for model in found if model.role == TRAIN and model.status != "FAILED"]

    def finish(self, *, because: str) -> list[Retrained]:
        """Link what was logged since to the old model by tags, both ways, and move the alias; newest last.

        Raises NotFound where no new model stands on the snapshot, or, with an alias, none is registered under the
        old model's name.
        """
        fresh = [model for model in reversed(self._models()) if model.model_id not in self._known]
        if not fresh:
            raise NotFound(
                f"the command logged no model that was trained on {self.snapshot.name}@v{self.snapshot.version}",
                hint="train on the snapshot that FSVC_TRAIN_DATA names, and log with fsvc.mlflow.log_model",
            )
        if self._alias is not None:
            self._move_alias(fresh, self._alias)
            kept = {model.model_id for model in fresh}
            fresh = [model for model in reversed(self._models()) if model.model_id in kept]
        done = [
            Retrained(
                model.model_id,
                model.run_id,
                tuple((version.name, version.version, version.aliases) for version in model.versions),
            )
            for model in fresh
        ]
        now = timestamp()
        for new in done:
            # By its id, so that all of its versions are tagged.
            tags = {FROM: self.old.resolved, WHY: because, TIME: now}
            tag_model(model_file(f"models:/{new.model_id}"), tags)
        tag_model(self.old, {AS: done[-1].uri, WHY: because, TIME: now})
        return done

    def _move_alias(self, fresh: list[TrainedModel], alias: str) -> None:
        assert self.old.name is not None
        numbers = [
            int(version.version)
            for model in fresh
            for version in model.versions
            if version.name == self.old.name
        ]
        if not numbers:
            raise NotFound(
                f"the command registered no version of {self.old.name}, so {alias!r} stays where it is",
                hint=f"log the model with registered_model_name={self.old.name!r}",
            )
        with asking(f"the registered model {self.old.name}"):
            client().set_registered_model_alias(self.old.name, alias, str(max(numbers)))


def _check_alias(alias: str) -> None:
    """Refuse what MLflow does not allow, by its own rule: it would say so only when the alias is moved."""
    if not re.fullmatch(r"[\w\-]{1,255}", alias) or re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
        raise InvalidUse(
            f"{alias!r} cannot be an alias",
            hint="MLflow takes letters, digits, - and _, and keeps 'latest' and v1, v2, ... for itself",
        )


def server_environment() -> Mapping[str, str]:
    """What makes another process use the tracking server and registry that this one uses."""
    try:
        return {
            "MLFLOW_TRACKING_URI": str(mlflow.get_tracking_uri()),
            "MLFLOW_REGISTRY_URI": str(mlflow.get_registry_uri()),
        }
    except OSError as error:
        raise FsvcError(f"MLflow does not say which server it uses: {error}") from error
