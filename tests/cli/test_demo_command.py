"""``fsvc demo`` tells the truth, and notices when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsvc.cli import demo
from fsvc.snapshot import Snapshot


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(demo, "_ROWS", 70_000)


def test_the_demo_runs_and_keeps_its_directory_if_asked(fsvc, place):
    document = fsvc("demo", "--json", "--keep", "kept").document
    assert document["ok"] is True and len(document["steps"]) >= 12
    assert all(step["run"] for step in document["steps"])
    assert (place / "kept" / ".fsvc").is_dir()
    assert "customers v3" in fsvc("--repo", "kept", "log").out
    assert "not empty" in fsvc("demo", "--keep", "kept", code=5).err
    assert Path.cwd() == place


def test_the_demo_fails_if_something_is_not_equal_and_leaves_nothing(fsvc, place, monkeypatch):
    honest = Snapshot.to_arrow
    monkeypatch.setattr(Snapshot, "to_arrow", lambda self, *a, **k: honest(self, *a, **k).slice(1))
    assert "the demo failed" in fsvc("demo", code=1).err
    assert list(place.iterdir()) == []
