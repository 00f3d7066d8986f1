"""Measure one store, in an environment that has it: ``python -m benchmarks.peers.measure NAME ...``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.changes import Change, read_changes
from benchmarks.peers.stores import STORES, Store
from benchmarks.tables import KEY

__all__ = ["main"]


def _plain_write(file: Path, directory: Path) -> float:
    """Seconds of writing the same table as Parquet: what the times are held against."""
    table = pq.read_table(file)
    start = perf_counter()
    pq.write_table(table, directory / "plain.parquet", compression="zstd")
    return perf_counter() - start


def _store(store: Store, inputs: Path, change: Change) -> float:
    """Seconds of storing a change. Raises NotImplementedError where a store cannot be told of it."""
    if not store.told:
        start = perf_counter()
        store.store(inputs / change.whole)
        return perf_counter() - start
    rows = inputs / change.rows if change.rows else None
    deleted = inputs / change.deleted if change.deleted else None
    if rows is None and deleted is None:
        raise NotImplementedError
    start = perf_counter()
    store.tell(rows, deleted, new=change.new_rows_only)
    return perf_counter() - start


def _fidelity(found: pa.Table, wanted: pa.Table) -> str:
    """What comes back: ``exact``, other ``types``, other ``order`` of rows, or ``wrong``."""
    if found.equals(wanted):
        return "exact"
    if sorted(found.column_names) != sorted(wanted.column_names):
        return "wrong"
    types = found.schema.types == wanted.schema.types
    try:
        plain = found.select(wanted.column_names).cast(_texts(wanted.schema))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return "wrong"
    wanted = wanted.cast(_texts(wanted.schema))
    if plain.equals(wanted):
        return "types" if not types else "exact"
    if not plain.sort_by(KEY).combine_chunks().equals(wanted.sort_by(KEY).combine_chunks()):
        return "wrong"
    return "order" if types else "order, types"


def _texts(schema: pa.Schema) -> pa.Schema:
    """A schema without dictionaries."""
    return pa.schema(
        [pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema]
    )


def _result(store: Store, inputs: Path, change: Change, scratch: Path) -> dict[str, Any]:
    before = store.size()
    plain = _plain_write(inputs / change.whole, scratch)
    seconds = _store(store, inputs, change)
    return {
        "change": change.name,
        "bytes": store.size() - before,
        "seconds": seconds,
        "plain_seconds": plain,
        "fidelity": _fidelity(store.read(), pq.read_table(inputs / change.whole)),
    }


def _measure(name: str, inputs: Path, work: Path) -> list[dict[str, Any]]:
    base = inputs / "base.parquet"
    changes = read_changes(inputs)
    days = [change for change in changes if change.name.startswith("day-")]
    results = []

    def fresh(part: str) -> Store:
        home = work / part
        home.mkdir()
        return STORES[name](home)

    store = fresh("first")
    plain = _plain_write(base, work)
    start = perf_counter()
    store.create(base)
    seconds = perf_counter() - start
    start = perf_counter()
    table = store.read()
    read = perf_counter() - start
    start = perf_counter()
    pq.read_table(base)
    results.append(
        {
            "change": "first",
            "bytes": store.size(),
            "seconds": seconds,
            "plain_seconds": plain,
            "read_seconds": read,
            "plain_read_seconds": perf_counter() - start,
            "fidelity": _fidelity(table, pq.read_table(base)),
        }
    )
    del store, table
    shutil.rmtree(work / "first")
    for change in changes:
        if change in days or (STORES[name].told and not change.rows and not change.deleted):
            continue
        store = fresh(change.name)
        store.create(base)
        results.append(_result(store, inputs, change, work))
        del store
        shutil.rmtree(work / change.name)
    if days:
        store = fresh("days")
        store.create(base)
        results += [_result(store, inputs, change, work) for change in days]
    return results


def main() -> int:
    """Run the command line and give its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.measure")
    parser.add_argument("name", choices=list(STORES))
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fsvc-peers-") as work:
        given.json.write_text(json.dumps(_measure(given.name, given.inputs, Path(work))))
    sys.stdout.flush()
    os._exit(0)  # some of the libraries hang in threads of their own


if __name__ == "__main__":
    sys.exit(main())
