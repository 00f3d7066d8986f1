"""Logging models, and runs, with the data that they stand on.

The order makes sure that no model exists without its pin: check everything, create the logged model, pin its
commits, log, settle the pins. A model that fails on the way is marked so by MLflow, and its pins are released.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import mlflow
from mlflow.entities import DatasetInput, InputTag, LoggedModelInput, Param, Run
from mlflow.models.model import ModelInfo
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from fsvc.client import write_reference
from fsvc.engine import pins
from fsvc.engine.clock import timestamp
from fsvc.errors import FsvcError, FsvcWarning, InvalidUse
from fsvc.format.names import quoted
from fsvc.format.reference import TRAIN, DataLineage, Reference, check_role
from fsvc.mlflow.dataset import FsvcDataset
from fsvc.mlflow.repositories import remember
from fsvc.mlflow.restoring import data_of
from fsvc.mlflow.server import asking, client, fingerprint
from fsvc.mlflow.tags import model_tags
from fsvc.mlflow.uris import model_file
from fsvc.repository import Repository
from fsvc.snapshot import Snapshot

__all__ = [
    "link_run",
    "log_by_token",
    "log_model",
    "log_snapshot",
    "metadata",
    "register_model",
]

_NAME_PARAM = "feature_set_name"
_VERSION_PARAM = "feature_set_version"
_TRAINING = "training"
"""MLflow's own word for the context of the data that a model is trained on."""


def _by_role(snapshot: Snapshot | None, inputs: Mapping[str, Snapshot] | None) -> dict[str, Snapshot]:
    """All snapshots that a model stands on, by role. Raises InvalidUse for what are no snapshots or roles."""
    found: dict[str, Any] = {} if snapshot is None else {TRAIN: snapshot}
    for role, given in (inputs or {}).items():
        check_role(role)
        if role in found:
            raise InvalidUse(f"the role {role!r} is given twice")
        found[role] = given
    for role, given in found.items():
        if not isinstance(given, Snapshot):
            raise InvalidUse(
                f"{type(given).__name__} is no snapshot (role {role!r})",
                hint="pass what repo.snapshot('NAME@REV') gives",
            )
    if not found:
        raise InvalidUse("there is no snapshot to log", hint="pass snapshot=repo.snapshot('NAME@REV')")
    return found


def _references(snapshots: Mapping[str, Snapshot]) -> dict[str, Reference]:
    return {role: snapshot.reference for role, snapshot in snapshots.items()}


def _by_repository(snapshots: Mapping[str, Snapshot]) -> list[tuple[Repository, dict[str, Reference]]]:
    """The references in each of the repositories that they are in."""
    groups: dict[int, tuple[Repository, dict[str, Reference]]] = {}
    for role, snapshot in snapshots.items():
        group = groups.setdefault(id(snapshot.store), (Repository(snapshot.store), {}))
        group[1][role] = snapshot.reference
    return list(groups.values())


def metadata(
    snapshot: Snapshot | None = None, *, inputs: Mapping[str, Snapshot] | None = None
) -> dict[str, Any]:
    """The metadata of a model that stands on these data, for ``mlflow.<flavour>.log_model(metadata=...)``.

    The commits are pinned at once, under a token that the metadata hold: ``fsvc pins --sync`` finds the model
    that was logged with them. Raises InvalidUse where nothing, or something else, is given.
    """
    snapshots = _by_role(snapshot, inputs)
    run = mlflow.active_run()
    token = pins.new_token(None if run is None else run.info.run_id)
    _begin(snapshots, token=token)
    return DataLineage(_references(snapshots), token).metadata()


def log_snapshot(snapshot: Snapshot, *, context: str = _TRAINING, model_id: str | None = None) -> None:
    """Say in the active run that it used a snapshot: as dataset, params and a small reference file.

    ``context`` is MLflow's word for what it was used for; ``model_id`` links it to a logged model too. A run
    is started where none is active, as MLflow does. Only pointers are logged, never data.
    """
    _by_role(snapshot, None)
    run_id = (mlflow.active_run() or mlflow.start_run()).info.run_id
    with asking("the run"):
        # The active run as MLflow gives it has no params: the one that is stored does.
        run = client().get_run(run_id)
        link_run(run, {TRAIN if context == _TRAINING else context: snapshot}, model_id)
    remember(snapshot.store)


def link_run(run: Run, snapshots: Mapping[str, Snapshot], model_id: str | None) -> None:
    """Log snapshots, by role, as inputs of a run (and of a model): datasets, params, reference files.

    Each kind is one request, however many snapshots there are.
    """
    run_id = run.info.run_id
    client().log_inputs(
        run_id,
        [
            _dataset_input(snapshot, _TRAINING if role == TRAIN else role)
            for role, snapshot in snapshots.items()
        ],
        None if model_id is None else [LoggedModelInput(model_id)],
    )
    _log_references(run, snapshots)
    if TRAIN in snapshots:
        _log_params(run, snapshots[TRAIN])


def _dataset_input(snapshot: Snapshot, context: str) -> DatasetInput:
    return DatasetInput(FsvcDataset(snapshot)._to_mlflow_entity(), [InputTag("mlflow.data.context", context)])


def _log_references(run: Run, snapshots: Mapping[str, Snapshot]) -> None:
    """A small file for each snapshot under the run's artifacts, as ``FeatureSetVersion.path`` is."""
    with TemporaryDirectory(prefix="fsvc-reference-") as directory:
        for role, snapshot in snapshots.items():
            label = f"{snapshot.name}-v{snapshot.version}.{role}"
            write_reference(snapshot, Path(directory) / f"{label}.json")
        # Not the client's log_artifacts: it would ask for the run once more.
        artifacts: Any = get_artifact_repository(run.info.artifact_uri)
        artifacts.log_artifacts(directory, "fsvc")


def _log_params(run: Run, snapshot: Snapshot) -> None:
    """The run's params; MLflow never changes a param, so another snapshot's stay, and that is said."""
    params = {_NAME_PARAM: snapshot.name, _VERSION_PARAM: f"v{snapshot.version}"}
    run_id, there = run.info.run_id, run.data.params
    if any(there.get(key, value) != value for key, value in params.items()):
        warnings.warn(
            f"run {run_id} has the params of {there.get(_NAME_PARAM)} {there.get(_VERSION_PARAM)} already; those of"
            f" {snapshot.name} v{snapshot.version} are among its datasets only",
            FsvcWarning,
            stacklevel=3,
        )
        return
    missing = [Param(key, value) for key, value in params.items() if key not in there]
    if missing:
        client().log_batch(run_id, params=missing)


def log_model(
    flavor: ModuleType | str,
    model: Any = None,
    *,
    name: str | None = None,
    snapshot: Snapshot | None = None,
    inputs: Mapping[str, Snapshot] | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | None = None,
    model_type: str | None = None,
    **options: Any,
) -> ModelInfo:
    """Log a model as its flavour does, with the data that it stands on.

    Args:
        flavor: a flavour of MLflow, such as ``mlflow.sklearn``, or its name.
        model: the model; for models from code, the path of the program.
        name: the name of the logged model.
        snapshot: what it was trained on; with :meth:`Snapshot.select`, the columns that were used.
        inputs: other data that it stands on, by role, such as ``{"validation": snap}``.
        metadata: more metadata of your own.
        tags, params, model_type, options: whatever the flavour's own ``log_model`` takes.

    Returns what the flavour returns. The metadata name the snapshots; the logged model and the registered
    version have tags, the active run (if there is one) has the datasets, the params ``feature_set_name`` and
    ``feature_set_version``, and small reference files. The commits are pinned in the repository.

    Raises InvalidUse before anything is logged for arguments that cannot be logged, TrackingError where
    MLflow cannot be reached. What the flavour raises passes as it is.
    """
    snapshots = _by_role(snapshot, inputs)
    references = _references(snapshots)
    module, arguments = _flavor(flavor, model, options)
    own = _own_metadata(metadata)
    all_tags = {**(tags or {}), **model_tags(references)}
    active = mlflow.active_run()
    run_id = options.get("run_id") or (None if active is None else active.info.run_id)
    accepted = _accepts(module)
    if not accepted("metadata"):
        raise InvalidUse(f"the flavour {module.__name__} takes no metadata, so it cannot carry lineage")
    if accepted("tags"):
        options["tags"] = all_tags
    if not accepted("model_id"):
        return log_by_token(
            snapshots,
            run_id,
            lambda lineage: module.log_model(**arguments, **options, name=name, metadata={**own, **lineage}),
        )
    with asking("the tracking server"):
        run = client().get_run(run_id) if run_id else None
        run_params = {} if run is None else run.data.params
        logged = mlflow.initialize_logged_model(
            name=name,
            source_run_id=run_id,
            tags=all_tags,
            params={key: str(value) for key, value in {**(params or {}), **run_params}.items()} or None,
            model_type=model_type,
        )
    model_id = logged.model_id
    try:
        _begin(snapshots, model=model_id, label=logged.name)
        if run is not None:
            with asking(f"the run {run_id}"):
                link_run(run, snapshots, model_id)
        info: ModelInfo = module.log_model(
            **arguments,
            **options,
            name=name,
            model_id=model_id,
            metadata={**own, **DataLineage(references).metadata()},
        )
    except BaseException as error:
        _give_up(snapshots, model_id, error)
        raise
    _settle(snapshots, model_id, logged.name)
    return info


def log_by_token(
    snapshots: Mapping[str, Snapshot], run_id: str | None, log: Callable[[dict[str, Any]], ModelInfo]
) -> ModelInfo:
    """Log a model whose id is not known before: pinned by a token first, by its id once it is there.

    ``log`` is given the metadata that the model has to carry, and logs it.
    """
    token = pins.new_token(run_id)
    _begin(snapshots, token=token)
    try:
        info = log(DataLineage(_references(snapshots), token).metadata())
    except BaseException as error:
        _release(snapshots, error, "logging the model failed", token=token)
        raise
    _settle(snapshots, info.model_id, info.name or "")
    _release(snapshots, None, f"settled as {info.model_id}", token=token)
    with asking("the tracking server"):
        client().set_logged_model_tags(info.model_id, model_tags(_references(snapshots)))
        if run_id is not None:
            link_run(client().get_run(run_id), snapshots, info.model_id)
    return info


def _signer(repository: Repository, label: str = "") -> pins.Signer:
    return pins.Signer(repository.author, timestamp(), label, fingerprint())


def _begin(
    snapshots: Mapping[str, Snapshot], *, model: str | None = None, token: str | None = None, label: str = ""
) -> None:
    for repository, references in _by_repository(snapshots):
        pins.begin(repository.store, references, _signer(repository, label), model=model, token=token)
        remember(repository)


def _settle(snapshots: Mapping[str, Snapshot], model_id: str, label: str) -> None:
    for repository, references in _by_repository(snapshots):
        pins.settle(repository.store, references, _signer(repository, label), model=model_id)


def _release(
    snapshots: Mapping[str, Snapshot],
    cause: BaseException | None,
    reason: str,
    *,
    model: str | None = None,
    token: str | None = None,
) -> None:
    """Let go of pins that were begun. After an error (``cause``) another one is only noted with it."""
    for repository, references in _by_repository(snapshots):
        names = [pins.pin_name(role, model=model, token=token) for role in references]
        try:
            pins.release(repository.store, names, author=repository.author, time=timestamp(), reason=reason)
        except FsvcError as second:
            if cause is None:
                raise
            cause.add_note(f"a pin could not be released: {second}")


def _give_up(snapshots: Mapping[str, Snapshot], model_id: str, error: BaseException) -> None:
    """Mark a model that could not be logged as failed, and let go of its data."""
    from mlflow.entities import LoggedModelStatus

    try:
        if client().get_logged_model(model_id).status != LoggedModelStatus.FAILED:
            client().finalize_logged_model(model_id, LoggedModelStatus.FAILED)
    except Exception as second:  # noqa: BLE001 - the first error is the one to raise
        error.add_note(f"the logged model {model_id} could not be marked as failed: {second}")
        return  # it may exist: its pins stay, and 'fsvc pins --sync' settles them
    _release(snapshots, error, "logging the model failed", model=model_id)


def _flavor(
    flavor: ModuleType | str, model: Any, options: dict[str, Any]
) -> tuple[ModuleType, dict[str, Any]]:
    """The module of a flavour, and the model as its ``log_model`` names it."""
    if isinstance(flavor, str):
        try:
            flavor = import_module(f"mlflow.{flavor.removeprefix('mlflow.')}")
        except ModuleNotFoundError as error:
            raise InvalidUse(
                f"the flavour {quoted(flavor)} cannot be used: {error}",
                hint="pass a module such as mlflow.sklearn",
            ) from None
    function = getattr(flavor, "log_model", None)
    if function is None:
        raise InvalidUse(
            f"{getattr(flavor, '__name__', flavor)!r} is no flavour of MLflow: it has no log_model",
            hint="pass a module such as mlflow.sklearn",
        )
    if model is None:
        return flavor, {}
    parameters = list(inspect.signature(function).parameters)
    own = "python_model" if "python_model" in parameters else parameters[0]
    if own in options:
        raise InvalidUse(f"the model is given twice: as an argument and as {own!r}")
    return flavor, {own: model}


def _accepts(module: ModuleType) -> Any:
    parameters = inspect.signature(module.log_model).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return lambda option: option in parameters or (anything and option != "model_id")


def _own_metadata(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The caller's own metadata, if they can be kept. Raises InvalidUse."""
    own = dict(given or {})
    taken = [key for key in own if key in DataLineage({}).metadata() or key.startswith("feature_store_")]
    if taken:
        raise InvalidUse(f"the metadata {taken[0]!r} are fsvc's own", hint="use another key")
    try:
        json.dumps(own, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidUse(
            f"the metadata cannot be kept with the model: {error}", hint="use texts, numbers, lists and dicts"
        ) from None
    return own


def register_model(
    model_uri: str, name: str, *, tags: Mapping[str, str] | None = None, **options: Any
) -> Any:
    """Register a model as ``mlflow.register_model`` does, with the tags that find it from its data.

    Returns the model version. Raises NoLineage for a model that does not say what it was trained on.
    """
    file = model_file(model_uri)
    found = data_of(file).references
    with asking(f"the model {model_uri}"):
        return mlflow.register_model(
            file.resolved if file.name is not None else model_uri,
            name,
            tags={**(tags or {}), **model_tags(found)},
            **options,
        )
