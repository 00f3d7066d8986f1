"""Recipes: what a commit records of a feature set that a query made, so that the query can be run again.

A recipe stands in the commit's record of changes, under the feature set that it made: so the commit id proves it,
and programs that do not know of recipes pass it over. It names its inputs by hash, holds no location, and says
nothing that would be needed to read the result. Members: docs/format.md, "Recipe".
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from fsvc.errors import Corruption, InvalidUse, UnknownFormat
from fsvc.format import names
from fsvc.format.commit import is_id
from fsvc.format.reference import Reference

__all__ = ["MEMBER", "SCHEMA_VERSION", "GivenTable", "RecipeRecord"]

MEMBER: Final = "recipe"
"""The member of a feature set's record of changes that holds its recipe."""
SCHEMA_VERSION: Final = 1

_DEEPEST: Final = 8


@dataclass(frozen=True, slots=True)
class GivenTable:
    """A table from outside of the repository that a query read: what it held, and where it was.

    ``snapshot`` is the id that it would have as a snapshot without a key, which is a hash of what it says;
    ``path`` is as it was given, None for a table in memory. It informs and is never opened.
    """

    snapshot: str
    rows: int
    path: str | None


@dataclass(frozen=True)
class RecipeRecord:
    """The content of a recipe.

    Attributes:
        sql: the query, as it was written.
        inputs: the snapshots that it read, by the names that it has for them.
        tables: the tables from outside that it read, by name.
        parameters: values by position or by name; None where there are none.
        programs: versions by name of what ran it: ``duckdb`` and ``fsvc``.
        settings: the settings of DuckDB under which it ran, as text.
        undetermined: sentences on what of the result the query leaves open.
        training_set: what a training set was asked to be, as JSON values; None for any other query.
    """

    sql: str
    inputs: Mapping[str, Reference]
    tables: Mapping[str, GivenTable] = field(default_factory=dict)
    parameters: Sequence[Any] | Mapping[str, Any] | None = None
    programs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    undetermined: tuple[str, ...] = ()
    training_set: Mapping[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """The recipe as JSON values. Raises InvalidUse for a parameter that has no form there."""
        parameters: Any = None
        if isinstance(self.parameters, Mapping):
            parameters = {name: _coded(value) for name, value in self.parameters.items()}
        elif self.parameters is not None:
            parameters = [_coded(value) for value in self.parameters]
        document: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "sql": self.sql,
            "inputs": {name: reference.document() for name, reference in self.inputs.items()},
            "tables": {
                name: {"snapshot": table.snapshot, "rows": table.rows, "path": table.path}
                for name, table in self.tables.items()
            },
            "parameters": parameters,
            "programs": dict(self.programs),
            "settings": dict(self.settings),
            "undetermined": list(self.undetermined),
        }
        if self.training_set is not None:
            document["training_set"] = dict(self.training_set)
        return document

    @classmethod
    def parse(cls, value: Any, *, what: str) -> RecipeRecord:
        """Read :meth:`document` back; unknown members are ignored. ``what`` names it in errors.

        Raises Corruption where it is none, UnknownFormat for a newer ``schema_version``.
        """
        if not isinstance(value, Mapping) or type(value.get("schema_version")) is not int:
            raise Corruption(f"{what} is not a recipe")
        if value["schema_version"] > SCHEMA_VERSION:
            raise UnknownFormat(
                f"{what} is of schema_version {value['schema_version']}, this fsvc knows {SCHEMA_VERSION}",
                hint="upgrade fsvc",
            )
        try:
            inputs = {
                name: Reference.parse(one, what=f"the input {names.quoted(name)} of {what}")
                for name, one in value["inputs"].items()
            }
            tables = {
                name: GivenTable(one["snapshot"], one["rows"], one["path"])
                for name, one in value["tables"].items()
            }
            given = value["parameters"]
            parameters: list[Any] | dict[str, Any] | None = None
            if isinstance(given, Mapping):
                parameters = {name: _decoded(one) for name, one in given.items()}
            elif given is not None:
                parameters = [_decoded(one) for one in given]
            record = cls(
                value["sql"],
                inputs,
                tables,
                parameters,
                dict(value["programs"]),
                dict(value["settings"]),
                tuple(value["undetermined"]),
                value.get("training_set"),
            )
        except (TypeError, KeyError, AttributeError, ValueError, InvalidOperation):
            raise Corruption(f"{what} is not a recipe of this format") from None
        texts = [record.sql, *record.undetermined, *record.programs.values(), *record.settings.values()]
        if not all(isinstance(text, str) for text in texts) or not all(
            isinstance(table.snapshot, str)
            and is_id(table.snapshot)
            and type(table.rows) is int
            and (table.path is None or isinstance(table.path, str))
            for table in tables.values()
        ):
            raise Corruption(f"{what} is not a recipe of this format")
        if record.training_set is not None and not _is_described(record.training_set):
            raise Corruption(f"{what} does not describe a training set")
        return record


def _coded(value: Any, depth: int = 0) -> Any:
    """A parameter as JSON: as it is where that is exact, else an object of one member that names its kind."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else {"integer": str(value)}
    if isinstance(value, float):
        return {"float": value.hex() if math.isfinite(value) else str(value)}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, datetime):
        return {"timestamp": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, time):
        return {"time": value.isoformat()}
    if isinstance(value, timedelta):
        return {"microseconds": value // timedelta(microseconds=1)}
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)) and depth < _DEEPEST:
        return [_coded(one, depth + 1) for one in value]
    raise InvalidUse(
        f"a {type(value).__name__} cannot be a parameter of a recipe: it has no form in a commit",
        hint="pass a number, a text, bytes, a date or time, or a list of these",
    )


def _is_described(value: Any) -> bool:
    """Whether a training set is described by an object that names its labels in a list."""
    labels = value.get("label", []) if isinstance(value, Mapping) else None
    return isinstance(labels, list) and all(isinstance(label, str) for label in labels)


def _decoded(value: Any, depth: int = 0) -> Any:
    """The inverse of :func:`_coded`."""
    if isinstance(value, list):
        if depth >= _DEEPEST:
            raise ValueError("lists in lists")
        return [_decoded(one, depth + 1) for one in value]
    if not isinstance(value, Mapping):
        return value
    ((kind, given),) = value.items()
    if kind == "integer":
        return int(given)
    if kind == "float":
        return float.fromhex(given)
    if kind == "decimal":
        return Decimal(given)
    if kind == "timestamp":
        return datetime.fromisoformat(given)
    if kind == "date":
        return date.fromisoformat(given)
    if kind == "time":
        return time.fromisoformat(given)
    if kind == "microseconds":
        return timedelta(microseconds=given)
    if kind == "base64":
        return base64.b64decode(given, validate=True)
    raise ValueError(kind)
