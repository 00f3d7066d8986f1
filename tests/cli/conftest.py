"""What tests of the command line share: a place to work in, and a way to run commands there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fsvc.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Fsvc = Callable[..., Ran]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and an environment without anything of the user's."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in ("FSVC_REPOSITORY", "FSVC_DATE", "FSVC_DEBUG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("FSVC_AUTHOR", "Ada <ada@example.org>")
    return work


@pytest.fixture
def fsvc(place: Path, capfd: pytest.CaptureFixture[str]) -> Fsvc:
    """Run a command line in this process; the exit code is checked where ``code`` is given."""

    def run(*words: str, code: int | None = 0) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main(list(words))
        out, err = capfd.readouterr()
        ran = Ran(int(ended.value.code or 0), out, err)
        if code is not None:
            assert ran.code == code, (ran.code, out, err)
        return ran

    return run


@pytest.fixture
def table() -> pa.Table:
    """Ten customers."""
    return pa.table(
        {
            "id": pa.array(range(10), pa.int64()),
            "name": [f"n{i}" if i % 3 else None for i in range(10)],
            "amount": [i / 4 for i in range(10)],
        }
    )


@pytest.fixture
def history(fsvc: Fsvc, place: Path, table: pa.Table) -> Fsvc:
    """A workspace in which customers has three versions, the last on two branches and a tag."""
    fsvc("init")
    pq.write_table(table, "customers.parquet")
    fsvc("commit", "customers.parquet", "--key", "id", "-m", "first")
    (place / "rates.csv").write_text("currency,rate\neur,1.0\nusd,1.1\n")
    fsvc("commit", "rates.csv", "-m", "rates", "--meta", "source=bank", "--tag", "t1")
    amount = pa.array([float(i) for i in range(10)])
    pq.write_table(table.set_column(2, "amount", amount), "customers.parquet")
    fsvc("commit", "customers.parquet", "-m", "new amounts\n\nwith a body")
    return fsvc
