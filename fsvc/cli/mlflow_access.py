"""What the commands that talk to MLflow have in common: the extra that they need, and patience."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fsvc.errors import FsvcWarning, InvalidUse

if TYPE_CHECKING:
    from types import ModuleType

    from fsvc.cli.context import Context

__all__ = ["MODEL_SCHEMES", "talking_to_mlflow", "tracking_uri_option"]

MODEL_SCHEMES = ("models:/", "runs:/")
"""How a text begins that names a model rather than data."""

_F = TypeVar("_F", bound=Callable[..., Any])


def tracking_uri_option(function: _F) -> _F:
    """Add ``--tracking-uri`` to a command."""
    return click.option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow's tracking server; else MLFLOW_TRACKING_URI, else what MLflow takes.",
    )(function)


@contextmanager
def talking_to_mlflow(context: Context, tracking_uri: str | None) -> Iterator[ModuleType]:
    """Give :mod:`fsvc.mlflow`, set to a server. Somebody waits: a server that is gone is given up on soon.

    What the library warns of is printed as a warning. Raises InvalidUse where MLflow is not installed.
    """
    for name, value in (("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")):
        os.environ.setdefault(name, value)
    try:
        import fsvc.mlflow
        from fsvc.mlflow.server import use_server
    except ImportError as error:
        raise InvalidUse(f"this needs MLflow: {error}", hint="pip install 'fsvc[mlflow]'") from None
    # Its messages on migrations and the like are not for whoever asked for data.
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    if tracking_uri is not None:
        use_server(tracking_uri)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", FsvcWarning)
        try:
            yield fsvc.mlflow
        finally:
            for warning in caught:
                context.output.warn(warning.message)
