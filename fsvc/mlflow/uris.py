"""Model URIs: from every way to name a model to its ``MLmodel`` file, which alone is read.

A model is never loaded: that could run code. An alias or stage is resolved to a version once, and the version
is used from then on.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from mlflow.entities.model_registry import ModelVersion
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from fsvc.errors import Corruption, FsvcError, InvalidUse, NotFound, UnreadableInput
from fsvc.format.names import nearest, quoted
from fsvc.mlflow.server import asking, client, download_location, without_secrets

__all__ = ["MODEL_ID", "ModelFile", "model_file", "run_models"]

MODEL_FILE = "MLmodel"
MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
"""What the id of a logged model looks like."""
_MOST_NAMES = 1000  # of registered models, to find the nearest one for a hint
_MOST_BYTES = 64 << 20
_MOST_VALUES = 1_000_000


@dataclass(frozen=True)
class ModelFile:
    """What a model says of itself.

    Attributes:
        uri: how it was named.
        resolved: the URI of this very model, which does not move: a version, an id or a path.
        content: the MLmodel file.
        name: the name of the registered model, where it was found by one.
        version: its version there.
    """

    uri: str
    resolved: str
    content: Mapping[str, Any]
    name: str | None = None
    version: str | None = None

    @property
    def model_id(self) -> str | None:
        """The id of the logged model; copies have that of the original."""
        found = self.content.get("model_id") or self.content.get("model_uuid")
        return found if isinstance(found, str) else None

    @property
    def run_id(self) -> str | None:
        """The run that logged it."""
        found = self.content.get("run_id")
        return found if isinstance(found, str) else None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata that it was logged with."""
        found = self.content.get("metadata")
        return found if isinstance(found, Mapping) else {}


def model_file(uri: str | os.PathLike[str]) -> ModelFile:
    """Read the ``MLmodel`` file of a model, named in any way that MLflow knows, or by a path.

    Raises NotFound where there is none, InvalidUse for a text that names no model, TrackingError where MLflow
    cannot be asked, Corruption where the file is not what MLflow writes.
    """
    text = os.fspath(uri).strip()
    if not text:
        raise InvalidUse("the model URI is empty", hint="write models:/NAME/VERSION or models:/NAME@ALIAS")
    scheme, _, rest = text.partition(":")
    if scheme == "models" and rest.startswith("/"):
        return _registered_or_logged(text, rest.strip("/"))
    if scheme == "runs" and rest.startswith("/"):
        return _of_run(text, rest.strip("/"))
    if scheme == "file" and rest:
        return _local(text, Path(unquote(urlsplit(text).path)))
    if "://" in text or re.fullmatch(r"[a-z][a-z0-9+.-]+:/.*", text):
        return ModelFile(text, text, _download(text, text))
    return _local(text, Path(text))


def _local(uri: str, path: Path) -> ModelFile:
    file = path if path.name == MODEL_FILE else path / MODEL_FILE
    try:
        data = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if re.fullmatch(r"[^/]+(/[0-9]+|@[^/]+)", uri):
            hint = f"a registered model is written models:/{uri}"
        else:
            hint = "write models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN/NAME, or the path of a model"
        raise NotFound(f"there is no model at {uri}", hint=hint) from None
    except OSError as error:
        raise UnreadableInput(f"{file} cannot be read: {error.strerror or error}") from error
    return ModelFile(uri, str(file.parent), _parse(data, uri))


def _registered_or_logged(uri: str, rest: str) -> ModelFile:
    base, slash, last = rest.rpartition("/")
    if not slash and "@" not in rest:
        if not rest:
            raise InvalidUse(f"{uri} names no model", hint="write models:/NAME/VERSION or models:/NAME@ALIAS")
        if not MODEL_ID.fullmatch(rest):
            raise InvalidUse(
                f"{uri} names a model, but no version of it",
                hint=f"write models:/{rest}/1, models:/{rest}/latest or models:/{rest}@ALIAS",
            )
        return _logged(uri, rest)
    try:
        name, version = _version(uri, rest, base, last)
        resolved = f"models:/{name}/{version}"
        with asking(f"the model {uri}"):
            source = download_location(name, version)
    except NotFound as error:
        raise NotFound(
            error.message, hint=error.hint or _nearest_name(base or rest.partition("@")[0])
        ) from None
    return ModelFile(uri, resolved, _download(source, uri), name, version)


def _nearest_name(name: str) -> str | None:
    """A hint that names the registered model that was perhaps meant."""
    try:
        with asking("the registered models"):
            names = [model.name for model in client().search_registered_models(max_results=_MOST_NAMES)]
    except FsvcError:
        return None  # the error that this would be a hint to says enough
    near = [] if name in names else nearest(name, names)
    return f"did you mean {near[0]!r}?" if near else None


def _version(uri: str, rest: str, base: str, last: str) -> tuple[str, str]:
    """The name and the number of the registered version that a URI names now."""
    name, at, alias = (last if not base else rest).rpartition("@")
    if at and "/" not in alias:
        with asking(f"the model {uri}"):
            found = client().get_model_version_by_alias(name, alias)
        return name, str(found.version)
    if last.isdecimal():
        return base, str(int(last))
    stages = None if last.lower() == "latest" else [last]
    with asking(f"the model {uri}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stages are on their way out, and here they are asked for
        versions: list[ModelVersion] = client().get_latest_versions(base, stages)
    if not versions:
        raise NotFound(
            f"the model {uri} is not there: {quoted(base)} has no version"
            + ("" if stages is None else f" in stage {quoted(last)}"),
            hint=f"write models:/{base}/1, models:/{base}/latest or models:/{base}@ALIAS",
        )
    return base, str(max(int(version.version) for version in versions))


def _logged(uri: str, model_id: str) -> ModelFile:
    resolved = f"models:/{model_id}"
    try:
        with asking(f"the model {uri}"):
            location = client().get_logged_model(model_id).artifact_location
    except NotFound:
        # A logged model that was deleted is still there where it was registered.
        with asking(f"the model {uri}"):
            versions = client().search_model_versions(f"source_path = '{resolved}'", max_results=1)
        if not versions:
            raise
        with asking(f"the model {uri}"):
            location = download_location(versions[0].name, str(versions[0].version))
    return ModelFile(uri, resolved, _download(location, uri))


def run_models(run_id: str) -> list[Any]:
    """The logged models of a run, oldest first. Raises NotFound for a run that is not there."""
    with asking(f"the run {run_id}"):
        mlflow = client()
        run = mlflow.get_run(run_id)
        found: list[Any] = []
        token = None
        while True:
            page = mlflow.search_logged_models(
                [run.info.experiment_id],
                filter_string=f"source_run_id = '{run.info.run_id}'",
                page_token=token,
                order_by=[{"field_name": "creation_timestamp", "ascending": True}],
            )
            found += page
            token = page.token
            if not token:
                return found


def _of_run(uri: str, rest: str) -> ModelFile:
    run_id, _, name = rest.partition("/")
    if not name:
        raise InvalidUse(f"{uri} names a run, but no model of it", hint=f"write runs:/{run_id}/NAME")
    named = [model for model in run_models(run_id) if model.name == name]
    if not named:
        # Models that MLflow 2 logged are artifacts of the run.
        return ModelFile(uri, uri, _download(uri, uri))
    files = [_logged(uri, model.model_id) for model in named]
    if any(file.metadata != files[-1].metadata for file in files):
        raise InvalidUse(
            f"{uri} names {len(files)} models of the run, which stand on different data",
            hint="name one of them: " + ", ".join(f"models:/{model.model_id}" for model in named),
        )
    return files[-1]


def _download(location: str, uri: str) -> Mapping[str, Any]:
    """The MLmodel file at an artifact location, and nothing else of what lies there."""
    with tempfile.TemporaryDirectory(prefix="fsvc-model-") as directory:
        try:
            with asking(f"the {MODEL_FILE} file of {without_secrets(uri)}"):
                repository: Any = get_artifact_repository(location)
                path = repository.download_artifacts(MODEL_FILE, directory)
            if os.path.getsize(path) > _MOST_BYTES:
                raise Corruption(f"the {MODEL_FILE} file of {uri} has more than {_MOST_BYTES >> 20} MiB")
            data = Path(path).read_bytes()
        except OSError as error:
            raise NotFound(f"there is no model at {without_secrets(uri)}") from error
    return _parse(data, uri)


def _parse(data: bytes, uri: str) -> Mapping[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(data, Loader=loader)  # both loaders are the safe ones
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Corruption(f"the {MODEL_FILE} file of {uri} was cut off or edited: {first}") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("flavors"), Mapping):
        raise _no_model(uri)
    if _is_larger(content, _MOST_VALUES):
        raise Corruption(f"the {MODEL_FILE} file of {uri} stands for more than {_MOST_VALUES:,} values")
    return content


def _is_larger(content: Any, most: int) -> bool:
    """Whether a document has more values than that once each alias is put in: a few lines may stand for billions."""
    waiting, count = [content], 0
    while waiting and count <= most:
        value = waiting.pop()
        if isinstance(value, (Mapping, list, tuple, set)):
            count += len(value)
            if count <= most:
                waiting += value.values() if isinstance(value, Mapping) else value
    return count > most


def _no_model(uri: str) -> FsvcError:
    return Corruption(f"the {MODEL_FILE} file of {uri} was cut off or edited: it has no flavors")
