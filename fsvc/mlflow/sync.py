"""Bringing pins and MLflow together: settling those that were made before their model, releasing what is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fsvc.engine import pins
from fsvc.engine.clock import timestamp
from fsvc.engine.pins import Pin
from fsvc.errors import FsvcError, NoLineage, NotFound, TrackingError
from fsvc.format.reference import DataLineage, Reference
from fsvc.mlflow.models import logged_model_of, logged_models, model_versions
from fsvc.mlflow.repositories import RepositoryLike, opened_repository
from fsvc.mlflow.restoring import data_of
from fsvc.mlflow.server import asking, client, fingerprint
from fsvc.mlflow.tags import COMMIT, model_tags
from fsvc.mlflow.uris import model_file
from fsvc.repository import Repository

__all__ = ["Synced", "sync_pins"]

_PATIENCE = timedelta(days=14)
"""How long a token that no run is known of may wait for its model."""
_ENDED = ("FINISHED", "FAILED", "KILLED")


@dataclass
class Synced:
    """What became of the pins.

    Attributes:
        settled: pins of models that were found logged, now under the models' ids.
        released: pins whose model is proven gone.
        kept: all others, and why.
    """

    settled: list[Pin] = field(default_factory=list)
    released: list[Pin] = field(default_factory=list)
    kept: list[tuple[Pin, str]] = field(default_factory=list)


def sync_pins(repository: RepositoryLike | None = None, *, dry_run: bool = False) -> Synced:
    """Ask MLflow about every pin: settle those whose model is there, release those whose model is gone.

    All logged models and registered versions are enumerated first; where that cannot be done completely,
    TrackingError is raised and nothing is changed. A model counts as gone only if it was logged to this very
    tracking server, is deleted or failed, and no registered version, copies included, is made of it.
    """
    home = opened_repository(repository)
    known = home.pins()
    server = _Server()
    done = Synced()
    for pin in known:
        if pin.token is not None:
            _settle_token(home, pin, server, done, dry_run=dry_run)
        elif pin.server and pin.server != fingerprint():
            done.kept.append((pin, "logged to another tracking server"))
        elif server.has(pin):
            if pin.settled:
                done.kept.append((pin, "its model is there"))
            else:
                _settle(home, pin, server, done, dry_run=dry_run)
        else:
            _release(home, pin, "its model is gone", done, dry_run=dry_run)
    return done


class _Server:
    """All that MLflow has, enumerated once. Raises TrackingError where a part cannot be read."""

    def __init__(self) -> None:
        self.models = {model.model_id: model for model in logged_models()}
        versions = model_versions()
        self._versions = {(version.name, str(version.version)): version for version in versions}
        self._registered: set[str] = set()
        self._lost: list[Any] = []
        for version in versions:
            model_id = self._model_of(version)
            if model_id is None:
                self._lost.append(version)
            else:
                self._registered.add(model_id)

    def _model_of(self, version: Any) -> str | None:
        """The logged model that a version is of; None where only its tags can tell."""
        model_id, last = logged_model_of(version, lambda name, number: self._versions.get((name, number)))
        if model_id is not None:
            return model_id
        # Its origin was deleted: the copy's own file names the model.
        try:
            return model_file(f"models:/{last.name}/{last.version}").model_id
        except NotFound:
            return None
        except FsvcError as error:
            raise TrackingError(
                f"the model models:/{last.name}/{last.version} cannot be read, and may stand on anything:"
                f" {error.message}",
                hint="nothing was changed; delete that version if it is of no use",
            ) from error

    def has(self, pin: Pin) -> bool:
        """Whether a pin's model is there, as a logged model or as a registered version."""
        model = self.models.get(pin.model)
        if model is not None and model.status.value != "FAILED":
            return True
        return pin.model in self._registered or any(
            version.tags.get(COMMIT) == pin.commit for version in self._lost
        )

    def with_token(self, token: str) -> list[tuple[Any, DataLineage]]:
        """The models whose metadata hold a token."""
        run = pins.token_run(token)
        candidates = [
            model
            for model in self.models.values()
            if model.status.value == "READY" and (run is None or model.source_run_id == run)
        ]
        found = []
        for model in candidates:
            try:
                lineage = data_of(model_file(f"models:/{model.model_id}"))
            except (NoLineage, NotFound):
                continue
            if lineage.token == token:
                found.append((model, lineage))
        return found


def _run_has_ended(token: str) -> bool | None:
    """Whether the run of a token has ended, so that no more models come; None where no run is known."""
    run = pins.token_run(token)
    if run is None:
        return None
    try:
        with asking(f"the run {run}"):
            return str(client().get_run(run).info.status) in _ENDED
    except NotFound:
        return None


def _settle_token(home: Repository, pin: Pin, server: _Server, done: Synced, *, dry_run: bool) -> None:
    assert pin.token is not None
    if pin.server and pin.server != fingerprint():
        done.kept.append((pin, "made for another tracking server"))
        return
    found = server.with_token(pin.token)
    if not dry_run:
        for model, lineage in found:
            own = _own_references(home, lineage)
            signer = pins.Signer(home.author, timestamp(), model.name or "", fingerprint())
            pins.settle(home.store, own, signer, model=model.model_id)
            _tag(model, lineage)
    ended = _run_has_ended(pin.token)
    old = datetime.now(UTC) - datetime.fromisoformat(pin.time) > _PATIENCE
    if found and (ended or old):
        if not dry_run:
            pins.release(
                home.store, [pin.name], author=home.author, time=timestamp(), reason="settled by model id"
            )
        done.settled.append(pin)
    elif found:
        done.kept.append((pin, "its model is settled, and more may be logged with the same metadata"))
    elif ended or (ended is None and old):
        _release(home, pin, "no model was logged with it", done, dry_run=dry_run)
    else:
        done.kept.append((pin, "its model may still be logged"))


def _own_references(home: Repository, lineage: DataLineage) -> dict[str, Reference]:
    return {role: found for role, found in lineage.references.items() if found.repository == home.project}


def _tag(model: Any, lineage: DataLineage) -> None:
    """Give a model that was logged plainly the tags that find it."""
    tags = model_tags(lineage.references)
    with asking(f"the model models:/{model.model_id}"):
        client().set_logged_model_tags(model.model_id, tags)


def _settle(home: Repository, pin: Pin, server: _Server, done: Synced, *, dry_run: bool) -> None:
    model = server.models.get(pin.model)
    if model is not None and model.status.value != "READY":
        done.kept.append((pin, "its model is being logged"))
        return
    if not dry_run:
        pins.confirm(home.store, pin, author=home.author, time=timestamp())
    done.settled.append(pin)


def _release(home: Repository, pin: Pin, why: str, done: Synced, *, dry_run: bool) -> None:
    if not dry_run:
        pins.release(home.store, [pin.name], author=home.author, time=timestamp(), reason=why)
    done.released.append(pin)
