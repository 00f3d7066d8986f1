"""Tables of many row groups: groups that are decoded at once come back as they are, each proven."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from memory import assert_same, memory_repository, normal

from fsvc.engine import reading
from fsvc.errors import Corruption
from fsvc.format import cutting


def table(rows: int) -> pa.Table:
    random = np.random.default_rng(7)
    words = pa.array([f"w{i}" for i in random.integers(0, 50, rows)])
    lists = [None if i % 7 == 0 else list(range(i % 4)) for i in range(rows)]
    return pa.table(
        {
            "id": np.arange(rows),
            "x": pa.array(random.random(rows), mask=random.random(rows) < 0.1),
            "word": words.dictionary_encode(),
            "note": pa.array([None if i % 5 == 0 else f"note {i}" for i in range(rows)]),
            "list": pa.array(lists, pa.list_(pa.int16())),
            "pair": pa.array([None if i % 9 == 0 else {"a": i, "b": str(i)} for i in range(rows)]),
            "span": pa.array(random.integers(0, 99, rows)).cast(pa.duration("s")),
            "fixed": pa.array([None if i % 3 == 0 else [i, i] for i in range(rows)], pa.list_(pa.int32(), 2)),
        }
    )


@pytest.mark.parametrize("most", [1, 3, 4])
def test_runs_of_groups_come_back_as_they_are(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(cutting, "LARGEST_MEAN_ROWS", 256)
    monkeypatch.setattr(reading, "_RUN_GROUPS", most)
    repository = memory_repository()
    whole = table(9_000)
    repository.commit({"t": whole}, message="m", key="id")
    snapshot = repository.snapshot("t")
    assert len(snapshot.manifest.rows) > 16
    assert_same(snapshot.reader.table(threads=1), normal(whole))
    assert [batch.num_rows for batch in snapshot.reader.batches(threads=1)] == list(snapshot.manifest.rows)
    assert snapshot.reader.table(["note", "id"], threads=2).equals(normal(whole).select(["note", "id"]))


def test_every_group_of_a_run_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "LARGEST_MEAN_ROWS", 256)
    repository = memory_repository()
    repository.commit({"t": table(9_000)}, message="m", key="id")
    reader = repository.snapshot("t").reader
    wrong = reader.manifest.identity(1, 6).digest
    true = reading.digest

    def forged(array: pa.Array, field: pa.Field) -> bytes:
        found = true(array, field)
        return b"another" if found == wrong else found

    monkeypatch.setattr(reading, "digest", forged)
    with pytest.raises(Corruption, match="column 'x', rows"):
        reader.table(threads=1)
