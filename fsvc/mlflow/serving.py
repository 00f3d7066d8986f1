"""Features for a deployed model: those it was trained with, or newer ones of the same form."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from fsvc.errors import FsvcWarning, InvalidUse, SkewError
from fsvc.features.skew import Skew, compare_features
from fsvc.format.reference import TRAIN
from fsvc.mlflow.repositories import RepositoryLike
from fsvc.mlflow.restoring import restore
from fsvc.repository import Repository
from fsvc.snapshot import Snapshot

__all__ = ["Skew", "as_trained", "compare_features", "features_for"]

TRAINING = "training"


def features_for(
    uri: str | os.PathLike[str],
    at: str = TRAINING,
    *,
    inputs: Mapping[str, Any] | None = None,
    role: str = TRAIN,
    repository: RepositoryLike | None = None,
) -> Snapshot:
    """The features for a model: those that it was trained with, newer ones, or ones made by the same logic.

    ``at`` is ``"training"``, or a revision (``v7``, ``main``, a commit, or ``NAME@REV`` for another feature set).
    With ``inputs`` the recipe of the training snapshot is run on these tables: see :meth:`fsvc.Recipe.apply`;
    what comes back is not committed.

    The snapshot that comes back has the columns that the model was trained with, in their order. Its schema is
    compared with the training snapshot's before anything is read; what lies outside the ranges seen in training
    is said by a FsvcWarning.

    Raises SkewError naming the columns that are not as in training, NotFound for ``inputs`` where the training
    snapshot has no recipe, else as :func:`fsvc.mlflow.restore`.
    """
    training = restore(uri, role=role, repository=repository)
    if inputs is not None:
        if at != TRAINING:
            raise InvalidUse("features are made of inputs or found at a revision, not both")
        current = training.recipe.apply(inputs)
        what = f"what the recipe of {training.name}@v{training.version} makes"
    elif at == TRAINING:
        return training
    else:
        return as_trained(training, at if "@" in at else f"{training.name}@{at}", uri)
    return _of_one_form(training, current, what, uri)


def as_trained(training: Snapshot, address: str, uri: str | os.PathLike[str]) -> Snapshot:
    """The snapshot of an address, with the columns of ``training``, which a model was trained with.

    Raises SkewError where it is not of the same form; what else there is to say is a FsvcWarning.
    """
    current = Repository(training.store).snapshot(address)
    return _of_one_form(training, current, f"{current.name}@v{current.version}", uri)


def _of_one_form(training: Snapshot, current: Snapshot, what: str, uri: str | os.PathLike[str]) -> Snapshot:
    skew = compare_features(training, current)
    if not skew.ok:
        raise SkewError(
            f"{what} is not what the model {os.fspath(uri)} was trained with: " + "; ".join(skew.errors),
            hint=f"it was trained with {training.name}@v{training.version}: use that, or train anew",
        )
    for sentence in skew.warnings:
        warnings.warn(f"{what}: {sentence}", FsvcWarning, stacklevel=3)
    return current.select(training.schema.names)
