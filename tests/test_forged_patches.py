"""Patches from somebody who means harm: they end in a value or in an error, in a time and memory that fit a chunk."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from forging import WORK, forge, pages_of

import fsvc
from fsvc.errors import Corruption, FsvcError
from fsvc.format import index, patch
from fsvc.format.canonical import Identity
from fsvc.repository import Repository


def tower(root: Path, depth: int) -> None:
    """A table of one row whose only chunk stands twice on a patch that stands twice on another one, and so on."""
    top = (
        fsvc.init(root).commit({"t": pa.table({"x": [7]})}, message="m").snapshot("t").manifest.identity(0, 0)
    )
    meta, data = pages_of(pa.array([7]))
    twice = patch.write_map(patch.RowMap(np.array([0]), (1, 1)))
    below = Identity(bytes(15) + b"b", top.digest)
    row_map = patch.map_identity(twice)
    forged = {
        below.address: (below, meta, data),
        row_map.address: (row_map, struct.pack("<BH", index.ROW_MAP, 0), twice),
    }
    for level in range(1, depth + 1):
        standing = index.Patch(level, (below.address, below.address), row_map.address, 0, 0)
        below = top if level == depth else Identity(bytes(15) + bytes((level,)), top.digest)
        forged[below.address] = (below, index.pack_patch(index.unpack_meta(meta), standing), b"")
    forge(root, forged)


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_a_chunk_that_there_are_billions_of_ways_down_from(
    work: Callable[[Repository], object], tmp_path: Path
) -> None:
    root = tmp_path / "r"
    tower(root, index.MAX_DEPTH)
    try:
        work(fsvc.open(root, author="Test"))
    except (FsvcError, duckdb.Error):
        pass
    assert fsvc.open(root).snapshot("t").to_arrow()["x"].to_pylist() == [7]


def test_a_chunk_that_stands_on_too_much_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "r"
    top = (
        fsvc.init(root).commit({"t": pa.table({"x": [7]})}, message="m").snapshot("t").manifest.identity(0, 0)
    )
    meta, data = pages_of(pa.array([7]))
    many = patch.write_map(patch.RowMap(np.array([0]), (1,) * 255))
    row_map = patch.map_identity(many)
    forged = {row_map.address: (row_map, struct.pack("<BH", index.ROW_MAP, 0), many)}
    names = [[i.to_bytes(16, "big") for i in range(level * 255, level * 255 + 255)] for level in range(12)]
    leaves = index.unpack_meta(meta)
    for level, own in enumerate([*names, [top.address]]):
        for address in own:
            below = tuple(names[level - 1]) if level else ()
            kind = (
                index.pack_patch(leaves, index.Patch(level, below, row_map.address, 0, 0)) if level else meta
            )
            forged[address] = (Identity(address, top.digest), kind, b"" if level else data)
    forge(root, forged)
    with pytest.raises(Corruption, match="stands on"):
        fsvc.open(root).snapshot("t").to_arrow()


def test_a_patch_that_reserves_more_than_there_is_memory(tmp_path: Path) -> None:
    root = tmp_path / "r"
    repository = fsvc.init(root, author="Test")
    table = pa.table({"id": np.arange(5000), "value": np.random.default_rng(1).random(5000)})
    repository.commit({"t": table}, message="m", key="id")
    repository.commit({"t": table.slice(1)}, message="m", key="id")
    manifest = repository.snapshot("t@v2").manifest
    (entry,) = repository.store.objects.copies(manifest.identity(1, 0).address)
    (leaf,) = index.unpack_meta(entry.meta)
    standing = index.unpack_patch(entry.meta)
    assert standing is not None
    meta = index.pack_patch([replace(leaf, length=1 << 50)], standing)
    identity = Identity(entry.address, entry.digest)
    forge(root, {entry.address: (identity, meta, repository.store.objects.stored(entry))})
    again = fsvc.open(root)
    with pytest.raises((Corruption, duckdb.Error)):
        again.sql("select sum(value) from t@v2").fetchall()
    report = again.verify(deep=True)
    assert "is not what its metadata says" in report.damages[0].detail
    assert again.snapshot("t@v2").to_arrow().equals(table.slice(1))
