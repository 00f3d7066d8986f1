"""``fsvc gc``: it only reports unless told, and says what keeps something."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

Fsvc: TypeAlias = Callable[..., Any]


def test_it_reports_then_condemns_then_frees(fsvc: Fsvc, place: Path) -> None:
    fsvc("init")
    pq.write_table(pa.table({"id": range(100)}), place / "a.parquet")
    fsvc("commit", "a.parquet", "-m", "one")
    packs = place / ".fsvc" / "repository" / "packs"
    forgotten = packs / ("0" * 64 + ".pack")
    forgotten.write_bytes(b"left by a commit that never came to be")
    os.utime(forgotten, (time.time() - 2 * 86400,) * 2)
    told = fsvc("gc", "--json").document
    assert (told["deleted"], told["packs"], told["freed_bytes"]) == (False, 1, 0)
    assert "'fsvc gc --delete' condemns it" in fsvc("gc").out
    assert (
        "condemned; the first 'fsvc gc --delete' in 14 days or later frees it" in fsvc("gc", "--delete").out
    )
    assert forgotten.exists() and fsvc("gc", "--json").document["waiting"] == 1
    for path in (place / ".fsvc" / "repository" / "condemned").iterdir():
        os.utime(path, (time.time() - 15 * 86400,) * 2)
    assert fsvc("gc", "--delete", "--json").document["freed_bytes"] == 38
    assert not forgotten.exists()
    assert "there is no garbage" in fsvc("gc").out
    fsvc("verify")
    fsvc("gc", "--delete", "--dry-run", code=2)


def test_it_tells_what_keeps_something(fsvc: Fsvc, place: Path) -> None:
    fsvc("init")
    pq.write_table(pa.table({"id": range(100)}), place / "a.parquet")
    fsvc("commit", "a.parquet", "-m", "one", "--tag", "gold")
    commit = fsvc("ls", "--json").document["commit"]
    assert "kept by branch main" in (said := fsvc("gc", "--explain", commit[:12]).out) and "tag gold" in said
    (pack,) = (place / ".fsvc" / "repository" / "packs").iterdir()
    why = fsvc("gc", "--explain", pack.stem[:16], "--json").document
    assert (why["kind"], why["kept"], why["refs"]) == ("pack", True, ["branch main", "tag gold"])
    fsvc("gc", "--explain", "0" * 12, code=4)
    fsvc("gc", "--explain", "zz", code=2)


def test_damage_stops_it(fsvc: Fsvc, place: Path) -> None:
    fsvc("init")
    pq.write_table(pa.table({"id": range(100)}), place / "a.parquet")
    fsvc("commit", "a.parquet", "-m", "one")
    (file,) = (place / ".fsvc" / "repository" / "index").iterdir()
    file.unlink()
    assert "nothing was deleted" in fsvc("gc", "--delete", "--grace", "0", code=6).err
    assert len(list((place / ".fsvc" / "repository" / "packs").iterdir())) == 1
