"""Features for a deployed model: those it was trained with, or newer ones of the same form."""

from __future__ import annotations

import operator
import os
import warnings
from dataclasses import dataclass
from typing import Any

from fsvc.errors import FsvcWarning, SkewError
from fsvc.format.reference import TRAIN
from fsvc.mlflow.repositories import RepositoryLike
from fsvc.mlflow.restoring import restore
from fsvc.repository import Repository
from fsvc.snapshot import Snapshot

__all__ = ["Skew", "compare_features", "features_for"]

TRAINING = "training"
_MOST_NAMED = 5


@dataclass(frozen=True)
class Skew:
    """How the form of features differs from what a model was trained with, in sentences.

    ``errors`` are differences under which the model would be given something else than it knows: columns that
    are missing or of another type, nulls where there were none by definition, other categories. ``warnings``
    are values outside the range of the training data, and columns that the model has no use for.
    """

    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors


def features_for(
    uri: str | os.PathLike[str],
    at: str = TRAINING,
    *,
    role: str = TRAIN,
    repository: RepositoryLike | None = None,
) -> Snapshot:
    """The features for a model: those that it was trained with, or the same feature set at another revision.

    ``at`` is ``"training"``, or a revision (``v7``, ``main``, a commit, or ``NAME@REV`` for another feature set).
    The snapshot that comes back has the columns that the model was trained with, in their order. Its schema is
    compared with the training snapshot's before anything is read; what lies outside the ranges seen in training
    is said by a FsvcWarning.

    Raises SkewError naming the columns that are not as in training, else as :func:`fsvc.mlflow.restore`.
    """
    training = restore(uri, role=role, repository=repository)
    if at == TRAINING:
        return training
    address = at if "@" in at else f"{training.name}@{at}"
    current = Repository(training.store).snapshot(address)
    skew = compare_features(training, current)
    if not skew.ok:
        raise SkewError(
            f"{current.name}@v{current.version} is not what the model {os.fspath(uri)} was trained with: "
            + "; ".join(skew.errors),
            hint=f"it was trained with {training.name}@v{training.version}: use that, or train anew",
        )
    for sentence in skew.warnings:
        warnings.warn(f"{current.name}@v{current.version}: {sentence}", FsvcWarning, stacklevel=2)
    return current.select(training.schema.names)


def compare_features(training: Snapshot, current: Snapshot) -> Skew:
    """Compare the form of two snapshots: names, types, nullability, categories, ranges. No rows are read.

    Of ``training`` the selected columns count, where there is a selection.
    """
    errors: list[str] = []
    notes: list[str] = []
    known = current.schema
    missing = [field.name for field in training.schema if known.get_field_index(field.name) < 0]
    if missing:
        errors.append(_counted("missing", missing))
    shared = []
    for field in training.schema:
        if field.name in missing:
            continue
        now = known.field(field.name)
        if not now.type.equals(field.type):
            errors.append(f"column {field.name!r} is {now.type}, and was {field.type}")
            continue
        shared.append(field.name)
        if now.nullable and not field.nullable:
            errors.append(f"column {field.name!r} may be null, and could not be")
    more = [name for name in known.names if training.schema.get_field_index(name) < 0]
    if more and training.columns is None:
        notes.append(_counted("new, and left out", more))
    _compare_categories(training, current, shared, errors)
    _compare_ranges(training, current, shared, notes)
    return Skew(tuple(errors), tuple(notes))


def _counted(what: str, columns: list[str]) -> str:
    named = ", ".join(map(repr, columns[:_MOST_NAMED])) + (", ..." if len(columns) > _MOST_NAMED else "")
    return f"{len(columns)} column{'s are' if len(columns) > 1 else ' is'} {what}: {named}"


def _compare_categories(training: Snapshot, current: Snapshot, shared: list[str], errors: list[str]) -> None:
    """Categories are part of the form: models are fitted to codes, or to one column for each of them."""
    before, after = (
        snapshot.reader.categories(snapshot.reader.column_numbers(shared)) for snapshot in (training, current)
    )
    for path, values in before.items():
        now = after.get(path)
        if now is None or now.equals(values):
            continue
        old, new = values.to_pylist(), now.to_pylist()
        fresh = [value for value in new if value not in old]
        gone = [value for value in old if value not in new]
        parts = [
            f"{word} {', '.join(map(repr, found[:_MOST_NAMED]))}"
            for word, found in (("new:", fresh), ("gone:", gone))
            if found
        ]
        errors.append(f"column {path!r} has other categories ({'; '.join(parts) or 'in another order'})")


def _compare_ranges(training: Snapshot, current: Snapshot, shared: list[str], notes: list[str]) -> None:
    before = {column.name: column for column in training.column_summaries()}
    after = {column.name: column for column in current.column_summaries()}
    for name in shared:
        old, new = before[name], after[name]
        if old.nulls == 0 and new.nulls:
            notes.append(f"column {name!r} has {new.nulls:,} nulls, and had none")
        for word, was, now, beyond in (
            ("minimum", old.minimum, new.minimum, operator.lt),
            ("maximum", old.maximum, new.maximum, operator.gt),
        ):
            if was is not None and now is not None and _ordered(was) and beyond(now, was):
                notes.append(f"column {name!r} has a {word} of {now}, and had {was}")


def _ordered(value: Any) -> bool:
    """Whether a range says something: of texts and bytes it does not."""
    return not isinstance(value, str | bytes | bool)
