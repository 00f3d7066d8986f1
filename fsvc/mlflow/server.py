"""Talking to MLflow: what it raises becomes an error of fsvc, in a sentence and without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    import mlflow
except ModuleNotFoundError as error:
    if error.name != "mlflow":
        raise
    raise ImportError("fsvc.mlflow needs MLflow: pip install 'fsvc[mlflow]'", name="mlflow") from None

from blake3 import blake3
from mlflow.exceptions import MlflowException

from fsvc.errors import FsvcError, InvalidUse, NotFound, TrackingError

__all__ = ["asking", "client", "download_location", "fingerprint", "use_server", "without_secrets"]

_CREDENTIALS = re.compile(r"://[^/@\s]*@")
_QUERY = re.compile(r"(https?://[^\s?]*)\?[^\s'\")]*")
_REFUSED = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
_ABSENT = re.compile(
    r"not found|does not exist|No versions of model|No such (?:artifact|file)", re.IGNORECASE
)
_UNREACHABLE = re.compile(
    r"Max retries exceeded|Connection (?:refused|aborted|reset)|timed out|Name or service not known"
    r"|Temporary failure in name resolution|NewConnectionError",
    re.IGNORECASE,
)


def client() -> mlflow.MlflowClient:
    """A client of the tracking server and registry that MLflow is set to."""
    return mlflow.MlflowClient()


def download_location(name: str, version: str) -> str:
    """Where the artifacts of a registered version are.

    MLflow's client asks for the registered model first, to see that it is no prompt, and for that the registry
    reads every version of it: a second at ten thousand. The registry behind the client is asked directly.
    """
    asked: Any = client()
    return str(asked._get_registry_client().get_model_version_download_uri(name, version))


def use_server(uri: str) -> None:
    """Set MLflow to a tracking server, which is its registry too."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)


def fingerprint() -> str:
    """What tells tracking servers apart without saying where they are: a hash of the address, 16 hex digits."""
    return blake3(without_secrets(str(mlflow.get_tracking_uri())).rstrip("/").encode()).hexdigest(length=8)


def without_secrets(text: str) -> str:
    """A text whose addresses have neither user and password nor a query."""
    return _QUERY.sub(r"\1", _CREDENTIALS.sub("://", text))


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Ask MLflow for something, named by ``what`` in errors.

    Raises NotFound where MLflow says that it does not exist, InvalidUse for names that it does not allow,
    TrackingError where MLflow cannot be reached or refuses. Errors of fsvc pass.
    """
    try:
        yield
    except FsvcError:
        raise
    except MlflowException as error:
        raise _translated(what, str(error), error.error_code) from error
    except OSError as error:
        # Artifact stores raise what their libraries do; requests' errors are OSErrors too.
        absent = isinstance(error, FileNotFoundError)
        raise _translated(what, str(error), "RESOURCE_DOES_NOT_EXIST" if absent else None) from error


def _translated(what: str, text: str, code: str | None) -> FsvcError:
    first = without_secrets((text.strip().splitlines() or ["it failed"])[0])[:300]
    where = without_secrets(str(mlflow.get_tracking_uri()))
    if _UNREACHABLE.search(text):
        return TrackingError(
            f"{what} cannot be read: MLflow at {where} does not answer",
            hint="see that the server runs and that MLFLOW_TRACKING_URI names it",
        )
    if code in _REFUSED or re.search(r"\b(401|403)\b", first):
        return TrackingError(
            f"{what} cannot be read: MLflow at {where} refused",
            hint="check MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN",
        )
    if code == "RESOURCE_DOES_NOT_EXIST" or _ABSENT.search(first):
        return NotFound(f"{what} is not there: MLflow at {where} says: {first}")
    if code == "INVALID_PARAMETER_VALUE":
        return InvalidUse(f"MLflow at {where} refuses what it is asked of {what}: {first}")
    return TrackingError(f"{what} cannot be read: MLflow at {where} says: {first}")
