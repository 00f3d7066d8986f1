"""Whether features are of the form that a model, or a recipe, knows them in. No rows are read."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fsvc.snapshot import Snapshot

__all__ = ["Skew", "compare_features", "compare_inputs"]

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


def compare_inputs(known: pa.Schema, given: pa.Schema) -> list[str]:
    """How a table differs from the one that it is to stand in for, in sentences, as far as a query would notice.

    Columns that are more, nullability, categories, and layouts that DuckDB sees alike make no difference.
    """
    missing = [name for name in known.names if given.get_field_index(name) < 0]
    found = [_counted("missing", missing)] if missing else []
    for field in known:
        if field.name in missing:
            continue
        now = given.field(field.name).type
        if not _seen(now).equals(_seen(field.type)):
            found.append(f"column {field.name!r} is {now}, and was {field.type}")
    return found


def _seen(kind: pa.DataType) -> pa.DataType:
    """A type with all taken off that DuckDB does not see; of nested types nothing is."""
    if pa.types.is_dictionary(kind):
        return _seen(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("ns" if kind.unit == "ns" else "us", "UTC" if kind.tz else None)
    return kind
