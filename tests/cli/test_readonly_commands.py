"""Reading needs no right to write: not in the repository, not in the workspace."""

from __future__ import annotations

import os
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rights import modes, without_rights

import fsvc as library
from fsvc import engine
from fsvc.engine import thawing
from fsvc.engine.patched import Patched
from fsvc.errors import StorageError

Fsvc = Any

READING = (
    ["log"],
    ["log", "customers", "--key", "7"],
    ["show", "main"],
    ["show", "customers@v1"],
    ["ls"],
    ["head", "customers"],
    ["sql", "select sum(amount), count(*) from customers@v2"],
    ["sql", "--sandbox", "select sum(amount) from customers@v1"],
    ["diff", "customers@v1", "customers@v2", "--rows"],
    ["diff"],
    ["status", "--all"],
    ["verify"],
    ["verify", "--deep"],
    ["stats"],
    ["gc"],
    ["reflog", "main"],
    ["blame", "customers", "--key", "7"],
    ["drift", "customers@v1", "customers@v2"],
    ["commit", "changed.parquet", "-m", "would be", "--dry-run"],
)
WRITING = (
    ["commit", "customers.parquet", "changed.parquet", "-m", "m"],
    ["branch", "other"],
    ["tag", "gold"],
    ["switch", "-c", "other"],
    ["checkout", "main"],
    ["checkout", "customers@v1", "-o", "here.parquet"],
    ["revert", "main"],
    ["repack"],
    ["init", "inner"],
)


@pytest.fixture
def readable(light_path: Path, fsvc: Fsvc, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose path everybody may walk; the second version is stored as a patch."""
    monkeypatch.setattr(thawing, "_memory", thawing._Memory(1 << 20))
    light_path.chmod(0o755)
    (light_path / "out").mkdir()
    (light_path / "out").chmod(0o777)
    root = light_path / "workspace"
    root.mkdir()
    monkeypatch.chdir(root)
    fsvc("init")
    table = pa.table({"id": np.arange(20_000), "amount": np.random.default_rng(1).random(20_000)})
    pq.write_table(table, "customers.parquet")
    fsvc("commit", "customers.parquet", "--key", "id", "-m", "first")
    amount = table["amount"].to_numpy().copy()
    amount[::50] = 1
    pq.write_table(table.set_column(1, "amount", pa.array(amount)), "customers.parquet")
    fsvc("commit", "customers.parquet", "-m", "second")
    pq.write_table(table.slice(5), "changed.parquet")
    return root


def tree(root: Path) -> dict[str, tuple[int, int]]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def test_all_that_reads_works_where_nothing_may_be_written(readable: Path, fsvc: Fsvc) -> None:
    # With all rights first: so there is something to compare with, and all libraries are imported.
    wanted = {tuple(words): fsvc(*words, code=None) for words in READING}
    for kind in ("parquet", "csv", "arrow"):
        fsvc("checkout", "customers@v2", "-o", f"{readable.parent}/wanted.{kind}")
    for path in (readable / ".fsvc" / "repository" / ".cache" / "thawed").iterdir():
        path.unlink()
    before = tree(readable)
    with modes(readable, 0o555, 0o444), without_rights():
        for words, expected in wanted.items():
            ran = fsvc(*words, code=None)
            assert (ran.code, ran.out) == (expected.code, expected.out), words
            assert ran.code in (0, 3), (words, ran.err)
        for kind in ("parquet", "csv", "arrow"):
            fsvc("checkout", "customers@v2", "-o", f"{readable.parent}/out/it.{kind}")
    assert tree(readable) == before
    for kind in ("parquet", "csv", "arrow"):
        written = readable.parent / "out" / f"it.{kind}"
        assert written.read_bytes() == (readable.parent / f"wanted.{kind}").read_bytes()


def test_what_writes_says_in_one_error_that_it_may_not(readable: Path, fsvc: Fsvc) -> None:
    for words in WRITING:
        fsvc(words[0], "--help")
    for module in pkgutil.iter_modules(engine.__path__, "fsvc.engine."):
        import_module(module.name)  # what is imported is imported now
    before = tree(readable)
    with modes(readable, 0o555, 0o444), without_rights():
        for words in WRITING:
            ran = fsvc(*words, code=1)
            assert "permission denied" in ran.err.lower(), words
            assert len([line for line in ran.err.splitlines() if line.startswith("fsvc: ")]) == 1
            assert "hint: " in ran.err, words
    assert tree(readable) == before


def test_thawed_chunks_are_kept_in_memory_where_they_cannot_be_kept_on_disk(
    readable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thawed = 0
    thaw = Patched.thaw

    def counted(*arguments: Any) -> Any:
        nonlocal thawed
        thawed += 1
        return thaw(*arguments)

    query = "select sum(amount) from customers@v2"
    expected = library.open(readable).sql(query).fetchall()
    for path in (readable / ".fsvc" / "repository" / ".cache" / "thawed").iterdir():
        path.unlink()
    monkeypatch.setattr(Patched, "thaw", counted)
    with modes(readable, 0o555, 0o444), without_rights():
        repository = library.open(readable)
        for _ in range(3):
            assert repository.sql(query).fetchall() == expected
        assert library.open(readable).snapshot("customers@v2").relation().sum("amount").fetchall() == expected
        with pytest.raises(StorageError, match="permission denied"):
            repository.tag("gold")
    assert thawed == 1


def test_a_configuration_of_somebody_else_is_none(
    readable: Path, fsvc: Fsvc, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = readable.parent / "home" / "fsvc"
    home.mkdir(parents=True)
    (home / "config.toml").write_text('[user]\nname = "Root"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home.parent))
    monkeypatch.delenv("FSVC_AUTHOR")
    fsvc("log")
    os.chmod(home, 0o000)
    try:
        with without_rights():
            fsvc("log")
    finally:
        os.chmod(home, 0o755)
