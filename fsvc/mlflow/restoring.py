"""From a model to its data: which snapshots it stands on, and those snapshots, checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fsvc.client import read_reference
from fsvc.engine.pins import pin_name
from fsvc.engine.progress import Progress, silent
from fsvc.engine.store import Store
from fsvc.errors import (
    Corruption,
    FsvcError,
    InvalidRevision,
    NoLineage,
    NotFound,
)
from fsvc.format.names import nearest, quoted
from fsvc.format.reference import NAME_KEY, TRAIN, VERSION_KEY, DataLineage, Reference
from fsvc.mlflow.repositories import RepositoryLike, find_repository, opened_repository
from fsvc.mlflow.server import asking, client
from fsvc.mlflow.uris import ModelFile, model_file
from fsvc.repository import Repository
from fsvc.snapshot import Commit, Snapshot

if TYPE_CHECKING:
    from fsvc.engine.verification import Report

__all__ = [
    "DataSource",
    "ModelLineage",
    "checked_reference",
    "data_of",
    "lineage",
    "restore",
    "snapshot_of",
    "verify",
]


@dataclass(frozen=True)
class DataSource:
    """One snapshot that a model stands on.

    ``commit`` is the commit, where the repository is here and holds it; else ``problem`` says what is wrong.
    """

    role: str
    reference: Reference
    commit: Commit | None
    problem: str | None


@dataclass(frozen=True)
class ModelLineage:
    """What a model was trained on, by whom and with what.

    Attributes:
        uri: how the model was named; ``resolved`` is the URI of this very model.
        model_id: the id of the logged model.
        name, version, aliases: of the registered model, where it was found by one.
        run_id: the run that logged it.
        data: what it stands on, the training data first.
        run: from the run, where MLflow still has it: ``name``, ``user``, ``status``, ``start_time``.
        code: ``source`` (the program) and ``git_commit``, as far as MLflow recorded them.
        environment: versions by name: python, mlflow, and the flavours' libraries.
    """

    uri: str
    resolved: str
    model_id: str | None
    name: str | None
    version: str | None
    aliases: tuple[str, ...]
    run_id: str | None
    data: tuple[DataSource, ...]
    run: Mapping[str, Any]
    code: Mapping[str, str]
    environment: Mapping[str, str]


def data_of(model: ModelFile, repository: RepositoryLike | None = None) -> DataLineage:
    """What a model says that it stands on.

    A model that was logged with the two plain keys only, name and commit, is looked up in ``repository``, or
    the one here. Raises NoLineage where the model says nothing, Corruption where it contradicts itself.
    """
    found = DataLineage.parse(model.metadata, what=model.uri)
    if found is not None:
        if not found.references:
            raise NoLineage(f"the model {model.uri} was logged with fsvc, but without any data")
        return found
    name, version = model.metadata.get(NAME_KEY), model.metadata.get(VERSION_KEY)
    if isinstance(name, str) and isinstance(version, str):
        return DataLineage({TRAIN: _plain_reference(model, name, version, repository)})
    keys = ", ".join(map(str, list(model.metadata)[:10]))
    flavors = ", ".join(map(str, list(model.content["flavors"])[:5]))
    raise NoLineage(
        f"the model {model.uri} does not say what it was trained on: "
        + (f"its metadata are {keys}" if keys else "it has no metadata")
        + f" (flavours: {flavors})",
        hint="log models with fsvc.mlflow.log_model, or with metadata=fsvc.mlflow.metadata(snapshot)",
    )


def _plain_reference(
    model: ModelFile, name: str, version: str, repository: RepositoryLike | None
) -> Reference:
    """The reference for metadata that only name a feature set and a commit (or its beginning, or ``v3``)."""
    try:
        home = opened_repository(repository)
    except NotFound as error:
        raise NotFound(
            f"the model {model.uri} names {quoted(name)} at {quoted(version)}, but not its repository, and"
            f" {error.message}",
            hint="name the repository with --repo, or repository=...",
        ) from None
    try:
        commit = home.resolve(version, feature_set=name)
        return replace(commit.snapshot(name).reference, ref=None)
    except (InvalidRevision, NotFound) as error:
        raise type(error)(
            f"the metadata of {model.uri} name {name}@{version}, but in {home.location} {error.message}",
            hint=error.hint,
        ) from None


def restore(
    uri: str | os.PathLike[str], *, role: str = TRAIN, repository: RepositoryLike | None = None
) -> Snapshot:
    """The snapshot that a model was trained on (or its input in another role), with the columns it used.

    The repository is found by the uuid in the model's metadata: the one given, one that is open, the one here,
    or where it was last seen on this machine. All that the metadata say is compared with the commit, and with
    the pin that was written when the model was logged; what ``to_arrow`` and the others give is proven.

    ``uri`` may also be a reference file, such as fsvc logs beside a run: its path ends in ``.json``.

    Raises NoLineage for a model without such metadata, NotFound for a repository, commit or role that is not
    there, Corruption for metadata that say something else than the commit. Nothing is ever given in place of
    what was asked for.
    """
    if role == TRAIN and os.fspath(uri).endswith(".json"):
        return checked_reference(read_reference(uri), repository)
    return snapshot_of(model_file(uri), role=role, repository=repository)


def snapshot_of(model: ModelFile, *, role: str, repository: RepositoryLike | None) -> Snapshot:
    """As :func:`restore`, for a model whose file was read."""
    data = data_of(model, repository)
    reference = data.references.get(role)
    if reference is None:
        roles = list(data.references)
        near = nearest(role, roles)
        raise NotFound(
            f"the model {model.uri} does not say which of its data it was trained on"
            if role == TRAIN
            else f"the model {model.uri} has no input in the role {quoted(role)}",
            hint=f"did you mean {near[0]!r}?" if near else f"its roles: {', '.join(roles)}",
        )
    return _of_role(model, role, reference, repository)


def _of_role(
    model: ModelFile, role: str, reference: Reference, repository: RepositoryLike | None
) -> Snapshot:
    what = f"the model {model.uri}"
    home = find_repository(reference.repository, repository, what=what)
    _check_pin(home.store, reference, model, role)
    return _checked(home, reference, what)


def verify(
    uri: str | os.PathLike[str], *, repository: RepositoryLike | None = None, progress: Progress = silent
) -> dict[str, Report]:
    """Verify all that a model stands on, by role, down to the bits: ``fsvc verify --deep`` for its snapshots alone.

    Metadata and pins are compared first, as :func:`restore` does, which raises what that raises. Then the commit,
    the manifest and every object are read again, decoded and proven, statistics and column metadata included.
    """
    from fsvc.engine.verification import verify_snapshot

    model = model_file(uri)
    reports: dict[str, Report] = {}
    for role, reference in data_of(model, repository).references.items():
        found = _of_role(model, role, reference, repository)
        reports[role] = verify_snapshot(found.store, found.commit.id, found.name, progress)
    return reports


def checked_reference(reference: Reference, repository: RepositoryLike | None = None) -> Snapshot:
    """The snapshot that a reference names, found as by :func:`restore`; it raises the same errors."""
    what = f"the dataset {reference.feature_set}@v{reference.version}"
    return _checked(find_repository(reference.repository, repository, what=what), reference, what)


def _checked(repository: Repository, reference: Reference, what: str) -> Snapshot:
    """The snapshot that a reference names, once all that it says is found to be so."""
    store = repository.store
    if not store.has_commit(reference.commit):
        raise NotFound(
            f"commit {reference.commit}, which {what} stands on, is not in {repository.location}",
            hint="look for it in another copy of the repository, and run 'fsvc verify' on this one",
        )
    record = store.commit(reference.commit)
    held = record.feature_sets.get(reference.feature_set)
    if held is None:
        raise _edited(
            what, f"commit {reference.commit[:12]} has no feature set {quoted(reference.feature_set)}"
        )
    for part, says, true in (
        ("snapshot", reference.snapshot, held.snapshot),
        ("version", reference.version, held.version),
    ):
        if says != true:
            raise _edited(what, f"{part} {says} is not that of commit {reference.commit[:12]}, {true}")
    snapshot = Commit(store, reference.commit, record, ref=reference.ref).snapshot(reference.feature_set)
    if reference.rows != snapshot.num_rows:
        raise _edited(what, f"they say {reference.rows} rows, the snapshot has {snapshot.num_rows}")
    if reference.columns is None:
        return snapshot
    try:
        return snapshot.select(reference.columns)
    except FsvcError as error:
        raise _edited(what, error.message) from error


def _check_pin(store: Store, reference: Reference, model: ModelFile, role: str) -> None:
    """Refuse a model whose metadata name another commit than was pinned when it was logged."""
    if model.model_id is None:
        return
    entry = store.refs.head("pins", pin_name(role, model=model.model_id))
    if entry is not None and entry.commit is not None and entry.commit != reference.commit:
        raise _edited(
            f"the model {model.uri}",
            f"they name commit {reference.commit[:12]}, but commit {entry.commit[:12]} was pinned when the model"
            f" was logged",
        )


def _edited(what: str, how: str) -> Corruption:
    return Corruption(
        f"the metadata of {what} were edited: {how}",
        hint="the pin that was written with the model says which commit it stood on: fsvc pins",
    )


def lineage(uri: str | os.PathLike[str], *, repository: RepositoryLike | None = None) -> ModelLineage:
    """What a model was trained on: data, commits, authors, code and environment.

    Only the model's ``MLmodel`` file and its run are read. Where a repository or commit is not here the
    lineage says so; what the metadata say is given in any case. Raises NoLineage where they say nothing.
    """
    model = model_file(uri)
    data = data_of(model, repository)
    sources = []
    for role, reference in data.references.items():
        try:
            found = _of_role(model, role, reference, repository)
            sources.append(DataSource(role, reference, found.commit, None))
        except FsvcError as error:
            sources.append(DataSource(role, reference, None, error.message))
    run, code = _run(model.run_id)
    return ModelLineage(
        model.uri,
        model.resolved,
        model.model_id,
        model.name,
        model.version,
        _aliases(model),
        model.run_id,
        tuple(sources),
        run,
        code,
        _environment(model.content),
    )


def _aliases(model: ModelFile) -> tuple[str, ...]:
    if model.name is None:
        return ()
    try:
        with asking(f"the model {model.resolved}"):
            found = client().get_model_version(model.name, str(model.version)).aliases
    except FsvcError:
        return ()
    return tuple(sorted(found))


def _run(run_id: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """What MLflow knows of a run and of the code that ran in it; nothing where it is gone."""
    if run_id is None:
        return {}, {}
    try:
        with asking(f"the run {run_id}"):
            run = client().get_run(run_id)
    except FsvcError:
        return {}, {}
    tags = run.data.tags
    about = {
        "name": run.info.run_name,
        "user": tags.get("mlflow.user"),
        "status": run.info.status,
        "lifecycle": run.info.lifecycle_stage,
        "start_time": run.info.start_time,
    }
    code = {
        name: tags[tag]
        for name, tag in (("source", "mlflow.source.name"), ("git_commit", "mlflow.source.git.commit"))
        if tags.get(tag)
    }
    return about, code


def _environment(content: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    if isinstance(content.get("mlflow_version"), str):
        found["mlflow"] = content["mlflow_version"]
    for flavor, values in content["flavors"].items():
        if not isinstance(values, Mapping):
            continue
        for key in values:
            if not isinstance(values[key], str):
                continue
            if key == "python_version":
                found["python"] = values[key]
            elif str(key).endswith("_version") and key != "loader_version":
                found[str(key).removesuffix("_version")] = values[key]
            elif key == "version":
                found[str(flavor)] = values[key]
    return dict(sorted(found.items()))
