"""``fsvc verify --repair``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fsvc.repository import init, open_repository


def table(seed: int) -> pa.Table:
    """A thousand rows with a key."""
    return pa.table({"id": np.arange(1000), "value": np.random.default_rng(seed).random(1000)})


def damage(repository: Path) -> None:
    """Flip a bit in every pack."""
    for path in (repository / "packs").iterdir():
        path.chmod(0o600)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))


def test_from_a_table_file(fsvc, place, tmp_path):
    repository = init(tmp_path / "repo", author="Test")
    repository.commit({"customers": table(30)}, message="m", key="id")
    damage(tmp_path / "repo")
    pq.write_table(table(30), tmp_path / "customers.parquet")
    pq.write_table(table(7), tmp_path / "other.parquet")
    words = ("--repo", str(tmp_path / "repo"), "verify", "--repair", "--json", "--from")
    # Another table has nothing of it.
    ran = fsvc(*words, str(tmp_path / "other.parquet"), code=6)
    assert json.loads(ran.out)["ok"] is False and json.loads(ran.out)["quarantined"]
    document = json.loads(fsvc(*words, str(tmp_path / "customers.parquet")).out)
    assert document["ok"] and document["restored"] and not document["broken"]
    assert open_repository(tmp_path / "repo").snapshot("customers").to_arrow().equals(table(30))
    text = fsvc("--repo", str(tmp_path / "repo"), "verify", "--repair").out
    assert "all 1 snapshot whole" in text


def test_from_without_repair_is_wrong_use(fsvc, place):
    assert "--repair" in fsvc("verify", "--from", "x", code=2).err
