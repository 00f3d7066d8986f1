"""``diff``, ``blame``, ``merge``, ``revert`` and ``cherry-pick``: what they print, and what they end with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write(place: Path, **columns: list[Any]) -> None:
    pq.write_table(pa.table({"id": [1, 2, 3], **columns}), place / "t.parquet")


def test_working_files_are_compared_with_the_branch(fsvc: Any, place: Path) -> None:
    fsvc("init")
    write(place, a=[1, 2, 3])
    fsvc("commit", "t.parquet", "--key", "id", "-m", "first")
    assert fsvc("diff", "--exit-code").code == 0
    write(place, a=[1, 2, 4])
    ran = fsvc("diff", "--rows", "--exit-code", code=3)
    assert "~ id=3  a: 3 -> 4" in ran.out
    found = fsvc("diff", "t", "--json").document["feature_sets"]["t"]
    assert (found["changed"], found["columns"][0]["cells"]) == (1, 1)
    fsvc("diff", "nothing@v1", "t@v1", code=4)
    fsvc("diff", "--limit", "3", code=2)


def test_a_merge_conflict_ends_with_5_and_touches_nothing(fsvc: Any, place: Path) -> None:
    fsvc("init")
    write(place, a=[1, 2, 3], b=[1, 2, 3])
    fsvc("commit", "t.parquet", "--key", "id", "-m", "first")
    fsvc("switch", "-c", "theirs")
    write(place, a=[1, 2, 30], b=[1, 20, 3])
    fsvc("commit", "t.parquet", "-m", "theirs")
    fsvc("switch", "main")
    write(place, a=[1, 2, 33], b=[1, 2, 3])
    fsvc("commit", "t.parquet", "-m", "ours")
    before = (place / "t.parquet").read_bytes()
    ran = fsvc("merge", "theirs", "--conflicts", "look", code=5)
    assert "1 row in conflict" in ran.err
    assert pq.read_table(place / "look" / "t.parquet")["columns"].to_pylist() == [["a"]]
    assert (place / "t.parquet").read_bytes() == before
    write(place, a=[0, 0, 0], b=[0, 0, 0])
    fsvc("merge", "theirs", "--strategy", "ours", code=5)
    fsvc("merge", "theirs", "--strategy", "ours", "--force")
    assert pq.read_table(place / "t.parquet").to_pydict() == {
        "id": [1, 2, 3],
        "a": [1, 2, 33],
        "b": [1, 20, 3],
    }
    told = fsvc("blame", "t", "--key", "2", "--cells", "--json").document["cells"]
    assert [(cell["column"], cell["message"]) for cell in told] == [("a", "first"), ("b", "theirs")]
    fsvc("revert", "main", "--mainline", "1")
    assert pq.read_table(place / "t.parquet")["b"].to_pylist() == [1, 2, 3]
