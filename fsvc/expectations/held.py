"""Where expectations stand: in a feature set of their own, a row each (:mod:`fsvc.format.expectation`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from fsvc.engine.objects import Objects
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.store import Store
from fsvc.format.commit import SetVersion
from fsvc.format.expectation import Expectation, home
from fsvc.format.manifest import Manifest

__all__ = ["KEY", "expectations_at", "is_home", "read", "table_of"]

KEY = ("expectation",)
_SCHEMA = pa.schema([pa.field("expectation", pa.string(), False), pa.field("rule", pa.string(), False)])


def is_home(manifest: Manifest) -> bool:
    """Whether a table has the form of one that holds expectations."""
    return manifest.key == KEY and bool(manifest.schema.equals(_SCHEMA))


def table_of(expectations: Iterable[Expectation]) -> pa.Table:
    """The table that holds expectations: what they are decides what it is, not the order in which they came."""
    ordered = sorted(expectations, key=lambda one: one.name)
    names, rules = [one.name for one in ordered], [one.rule for one in ordered]
    return pa.table([pa.array(names, pa.string()), pa.array(rules, pa.string())], schema=_SCHEMA)


def read(objects: Objects, manifest: Manifest, what: str) -> list[Expectation]:
    """The expectations that a table holds, by name; ``what`` is whose they are. Raises UnknownFormat."""
    if not is_home(manifest):
        return []  # somebody's table that happens to be called so
    table = SnapshotReader(objects, manifest).table()
    return [
        Expectation.stored(name, rule, what=what)
        for name, rule in zip(table[0].to_pylist(), table[1].to_pylist(), strict=True)
    ]


def expectations_at(store: Store, feature_sets: Mapping[str, SetVersion], name: str) -> list[Expectation]:
    """The expectations of a feature set where a commit holds these feature sets, by name."""
    value = feature_sets.get(home(name))
    return [] if value is None else read(store.objects, store.manifest(value.snapshot), name)
