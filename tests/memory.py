"""Repositories in memory, and comparing what comes out of them with what went in, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import strategies

from fsvc.engine.store import Store, create
from fsvc.format import schema as schemas
from fsvc.format.categories import child_path, dictionaries
from fsvc.repository import Repository
from fsvc.snapshot import Snapshot
from fsvc.storage.memory import MemoryStorage

__all__ = ["assert_same", "committed", "memory_repository", "normal"]

_TIME = "2026-11-01T12:00:00.000000Z"


def memory_repository() -> Repository:
    """A new repository that lies in memory."""
    storage = MemoryStorage()
    create(storage, time=_TIME)
    return Repository(Store(storage), author="Ada <ada@example.org>")


def committed(data: Any, *, key: str | Sequence[str] = (), repository: Repository | None = None) -> Snapshot:
    """The snapshot that a table has once it is committed as ``t``."""
    repository = repository or memory_repository()
    return repository.commit({"t": data}, message="a table", key=key).snapshot("t")


def normal(table: pa.Table) -> pa.Table:
    """The table under its schema in normal form, its values untouched."""
    schema = schemas.normalise(table.schema)
    return table if schema.equals(table.schema, check_metadata=True) else table.cast(schema)


def _categories(table: pa.Table) -> dict[str, list[list[Any]]]:
    """The categories of every dictionary in a table, by path, without repetitions."""
    found: dict[str, list[list[Any]]] = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        for chunk in column.chunks:
            for path, values in dictionaries(chunk, child_path("", field.name)):
                known = found.setdefault(path, [])
                if strategies.bits(values) not in known:
                    known.append(strategies.bits(values))
    return found


def assert_same(got: pa.Table, wanted: pa.Table) -> None:
    """Fail unless two tables have one schema, with metadata, and the same values bit for bit.

    Categories are compared too, unused ones and their order included.
    """
    assert got.schema.equals(wanted.schema, check_metadata=True), f"{got.schema}\n---\n{wanted.schema}"
    assert got.num_rows == wanted.num_rows
    got.validate(full=True)
    for name, one, other in zip(got.column_names, got.columns, wanted.columns, strict=True):
        assert strategies.bits(one) == strategies.bits(other), name
        assert not (got.schema.field(name).nullable is False and one.null_count), name
    if wanted.num_rows:
        assert _categories(got) == _categories(wanted)
