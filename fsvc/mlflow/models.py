"""From data to models: which logged models and registered versions were trained on a snapshot or commit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fsvc.engine.pins import Pin
from fsvc.errors import FsvcError, FsvcWarning, InvalidUse, NotFound, TrackingError
from fsvc.format.reference import TRAIN
from fsvc.mlflow.repositories import RepositoryLike, opened_repository
from fsvc.mlflow.server import asking, client
from fsvc.mlflow.tags import COMMIT, INPUTS, SNAPSHOT
from fsvc.mlflow.uris import MODEL_ID
from fsvc.repository import Repository
from fsvc.snapshot import Commit, Snapshot

__all__ = [
    "RegisteredVersion",
    "TrainedModel",
    "logged_model_of",
    "logged_models",
    "model_versions",
    "models_for",
]

_PAGE = 1000
_LONGEST_TRAIL = 100  # copies of copies; a longer one goes round in a circle
_VERSIONS_TAG = "mlflow.modelVersions"


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model, and the aliases that name it now."""

    name: str
    version: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class TrainedModel:
    """A model that stands on the data that was asked for.

    Attributes:
        model_id: the id of the logged model.
        name: its name; empty where only a pin is left that does not say.
        role: what the data are to it: ``train``, or the role of an input.
        commit: the commit that it stands on.
        feature_set: the feature set of that commit.
        run_id: the run that logged it; None where MLflow does not say.
        status: MLflow's word: READY, PENDING, FAILED; None where the logged model is gone or not asked for.
        versions: the registered versions that it is, copies included.
        known_by: ``tags`` where MLflow found it, ``pin`` where only the repository knows of it.
    """

    model_id: str
    name: str
    role: str
    commit: str
    feature_set: str
    run_id: str | None
    status: str | None
    versions: tuple[RegisteredVersion, ...]
    known_by: str


def models_for(
    what: str | Snapshot | Commit, *, repository: RepositoryLike | None = None
) -> list[TrainedModel]:
    """The models that were trained on a snapshot or commit, or have it as another input; newest first.

    ``what`` is a snapshot, a commit, or the address of one (``NAME@REV``, ``NAME`` or ``REV``) in
    ``repository``. A snapshot finds every model that stands on the same data, whichever commit it was logged
    with, in this repository or in another one that holds them; a commit those that name this very commit.

    MLflow is searched by tags, and copies of registered versions are followed; models that only the
    repository's pins know of are given too. Where MLflow cannot be asked a FsvcWarning says so, and the pins
    alone answer.
    """
    home, wanted = _wanted(what, repository)
    found: dict[tuple[str, str], TrainedModel] = {}
    try:
        for model in _by_tags(wanted):
            found[model.model_id, model.role] = model
    except (InvalidUse, TrackingError) as error:  # some registries refuse to search by tag
        warnings.warn(f"only the pins of the repository are searched: {error}", FsvcWarning, stacklevel=2)
    for pin in home.pins():
        if pin.model is not None and (pin.model, pin.role) not in found and _keeps(home, pin, wanted):
            found[pin.model, pin.role] = _by_pin(pin)
    return list(found.values())


def _wanted(
    what: str | Snapshot | Commit, repository: RepositoryLike | None
) -> tuple[Repository, Snapshot | Commit]:
    if isinstance(what, Snapshot):
        return Repository(what.store), what
    home = opened_repository(repository)
    return home, what if isinstance(what, Commit) else home.find(what)


def _keeps(repository: Repository, pin: Pin, wanted: Snapshot | Commit) -> bool:
    if isinstance(wanted, Commit):
        return pin.commit == wanted.id
    try:
        held = repository.store.commit(pin.commit).feature_sets.get(pin.feature_set)
    except FsvcError:
        return False  # a commit that is damaged or gone is for 'fsvc verify' to tell of
    return held is not None and held.snapshot == wanted.id


def _by_pin(pin: Pin) -> TrainedModel:
    assert pin.model is not None
    return TrainedModel(pin.model, pin.label, pin.role, pin.commit, pin.feature_set, None, None, (), "pin")


def _by_tags(wanted: Snapshot | Commit) -> Iterator[TrainedModel]:
    """What MLflow finds by the tags of models and versions, and by following copies."""
    own, ident = (COMMIT, "commit") if isinstance(wanted, Commit) else (SNAPSHOT, "snapshot")
    queries = (f"tags.`{own}` = '{wanted.id}'", f"tags.`{INPUTS}` LIKE '%{wanted.id}%'")
    models = {model.model_id: model for query in queries for model in logged_models(query)}
    versions = [version for query in queries for version in model_versions(query)]
    by_model = _versions_of_models(models.values(), versions)
    aliases: dict[str, dict[str, list[str]]] = {}
    for model_id in [*models, *(known for known in by_model if known not in models)]:
        model = models.get(model_id)
        registered = by_model.get(model_id, [])
        tags = model.tags if model is not None else registered[0].tags
        for role, commit, feature_set in _roles(tags, own, ident, wanted.id):
            yield TrainedModel(
                model_id,
                model.name if model is not None else "",
                role,
                commit,
                feature_set,
                model.source_run_id if model is not None else registered[0].run_id,
                str(model.status.value) if model is not None else None,
                tuple(
                    RegisteredVersion(
                        version.name,
                        str(version.version),
                        _aliases(version.name, str(version.version), aliases),
                    )
                    for version in registered
                ),
                "tags",
            )


def _roles(tags: dict[str, str], own: str, ident: str, wanted: str) -> Iterator[tuple[str, str, str]]:
    """Role, commit and feature set of each reference in a model's tags that is the one asked for."""
    if tags.get(own) == wanted:
        yield TRAIN, tags.get(COMMIT, ""), tags.get("fsvc.feature_set", "")
    try:
        inputs = json.loads(tags.get(INPUTS, "{}"))
    except (ValueError, RecursionError):
        return  # somebody else's tag
    for role, named in inputs.items() if isinstance(inputs, dict) else ():
        if isinstance(named, dict) and named.get(ident) == wanted:
            yield str(role), str(named.get("commit", "")), str(named.get("feature_set", ""))


def _versions_of_models(models: Iterable[Any], tagged: Sequence[Any]) -> dict[str, list[Any]]:
    """Registered versions by the id of the logged model that they are, copies and untagged ones included."""
    known = {(version.name, str(version.version)): version for version in tagged}
    for model in models:
        for name, number in _noted_versions(model):
            if (name, number) in known:
                continue
            try:
                with asking(f"the model models:/{name}/{number}"):
                    version = client().get_model_version(name, number)
            except NotFound:
                continue  # deleted since
            known[name, number] = version
            # One that was registered without tags has copies without tags.
            _follow_copies(version, known)
    origin: dict[tuple[str, str], str] = {}
    for place, version in known.items():
        model_id = _origin(version, known)
        if model_id is not None:
            origin[place] = model_id
    found: dict[str, list[Any]] = {}
    for place in sorted(origin, key=lambda place: (place[0], int(place[1]))):
        found.setdefault(origin[place], []).append(known[place])
    return found


def _noted_versions(model: Any) -> Iterator[tuple[str, str]]:
    """The versions that MLflow has noted on a logged model itself."""
    try:
        noted = json.loads(model.tags.get(_VERSIONS_TAG, "[]"))
    except (ValueError, RecursionError):
        return
    for item in noted if isinstance(noted, list) else ():
        if isinstance(item, dict) and "name" in item and "version" in item:
            yield str(item["name"]), str(item["version"])


def _follow_copies(version: Any, known: dict[tuple[str, str], Any]) -> None:
    open_ends = [version]
    while open_ends:
        source = f"models:/{open_ends[-1].name}/{open_ends.pop().version}"
        for copy in model_versions(_source_filter(source)):
            place = (copy.name, str(copy.version))
            if place not in known:
                known[place] = copy
                open_ends.append(copy)


def _source_filter(source: str) -> str:
    quote = '"' if "'" in source else "'"
    return f"source_path = {quote}{source}{quote}"


def logged_model_of(version: Any, look_up: Callable[[str, str], Any]) -> tuple[str | None, Any]:
    """The id of the logged model that a registered version is, and the version that says so.

    A copy leads to what it was copied from, by ``look_up(name, version)``, which gives None for what is not
    there. The id is None where the trail ends without one; the version is then the last of the trail.
    """
    for _ in range(_LONGEST_TRAIL):
        if version.model_id:
            return str(version.model_id), version
        source = str(version.source or "")
        rest = source.removeprefix("models:/")
        name, slash, number = rest.rpartition("/")
        if rest == source:
            break
        if not slash:
            return rest, version
        following = look_up(name, number)
        if following is None:
            break
        version = following
    return None, version


def _origin(version: Any, known: dict[tuple[str, str], Any]) -> str | None:
    """The id of the logged model that a version is, by its source or that of what it was copied from."""

    def look_up(name: str, number: str) -> Any:
        if (name, number) in known:
            return known[name, number]
        try:
            with asking(f"the model models:/{name}/{number}"):
                return client().get_model_version(name, number)
        except NotFound:
            return None

    model_id, last = logged_model_of(version, look_up)
    if model_id is None:
        # It may be registered by its artifact location, as '.../models/m-1234/artifacts'.
        parts = [part for part in str(last.source or "").split("/") if MODEL_ID.fullmatch(part)]
        return parts[-1] if parts else None
    return model_id


def _aliases(name: str, version: str, cache: dict[str, dict[str, list[str]]]) -> tuple[str, ...]:
    if name not in cache:
        by_version: dict[str, list[str]] = {}
        with asking(f"the registered model {name}"):
            for alias, number in client().get_registered_model(name).aliases.items():
                by_version.setdefault(str(number), []).append(alias)
        cache[name] = by_version
    return tuple(sorted(cache[name].get(version, ())))


def logged_models(query: str | None = None) -> list[Any]:
    """All logged models that a filter of MLflow finds, in all experiments, newest first."""
    with asking("the list of models"):
        server = client()
        experiments = _all(lambda token: server.search_experiments(max_results=_PAGE, page_token=token))
        ids = [experiment.experiment_id for experiment in experiments]
        if not ids:
            return []
        return _all(lambda token: server.search_logged_models(ids, filter_string=query, page_token=token))


def model_versions(query: str | None = None) -> list[Any]:
    """All registered versions that a filter of MLflow finds."""
    with asking("the list of registered models"):
        server = client()
        return _all(lambda token: server.search_model_versions(query, max_results=10_000, page_token=token))


def _all(page_after: Any) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = page_after(token)
        found += page
        token = page.token
        if not token:
            return found
