"""``fsvc expire``: it lists, lets expire, takes back; and the log tells."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Fsvc: TypeAlias = Callable[..., Any]


def test_it_lists_then_lets_expire_then_takes_back(history: Fsvc, place: Path) -> None:
    history("expire", code=2)
    history("expire", "--keep-last", "1", "--delete", "--dry-run", code=2)
    assert "did you mean 'customers'" in history("expire", "custmers", "--keep-last", "1", code=4).err
    said = history("expire", "--keep-last", "1").out
    assert "nothing expires" in said  # the tag stands on the first version of customers
    history("tag", "--delete", "t1")
    said = history("expire", "--keep-last", "1").out
    assert "1 version would expire, 2 stay: keep last 1" in said and "--delete" in said
    assert "expired" not in history("log").out
    done = history("expire", "--keep-last", "1", "--delete", "--json").document
    assert [(one["feature_set"], one["version"]) for one in done["versions"]] == [("customers", 1)]
    assert "expired]" in history("log").out and "expired" in history("log", "--long").out
    marks = [one["expired"] for one in history("log", "--json").document["commits"]]
    assert marks == [[], [], ["customers"]]
    history("head", "customers@v1")
    assert "1 version kept again" in history("expire", "--undo", done["record"][:12]).out
    assert "expired" not in history("log").out
    history("expire", "--undo", "0" * 12, code=4)
    history("expire", "--undo", done["record"], "--keep-last", "1", code=2)


def test_after_a_collection_reading_says_that_it_expired(history: Fsvc, place: Path) -> None:
    history("tag", "--delete", "t1")
    assert "'fsvc gc --delete' frees their data" in history("expire", "--keep-last", "1", "--delete").out
    for path in (place / ".fsvc" / "repository").rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 30 * 86400,) * 2)
    history("gc", "--delete", "--grace", "0")
    for words in (("head", "customers@v1"), ("sql", "from customers@v1"), ("show", "customers@v1")):
        assert "expired by policy on" in history(*words, code=4).err
    history("head", "customers@v2")
    assert "1 snapshot" in history("verify", "--deep").out and "no damage found" in history("verify").out
    assert history("stats", "--json").document["commits"] == 3
