"""``fsvc drift``: what it prints and writes, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fsvc
from fsvc.cli import main

Run = Callable[..., tuple[int, str, str]]
EVIL = "evil\x1b[31m\u202e"


def table(shift: float) -> pa.Table:
    random = np.random.default_rng(int(shift))
    return pa.table({"id": np.arange(600), "x": random.normal(shift, 1, 600), EVIL: random.normal(size=600)})


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command on a repository in which v2 has drifted and v3 is v1 again."""
    monkeypatch.chdir(tmp_path)
    made = fsvc.init(tmp_path / "repository", author="Ada")
    for number, shift in enumerate((0.0, 3.0, 0.0)):
        sets = {"t": table(shift)} if number else {"t": table(shift), "other": table(1.0)}
        made.commit(sets, key="id", message=f"by {shift}")

    def go(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(["--repo", made.location, "drift", *words])
        out, err = capsys.readouterr()
        return int(done.value.code or 0), out, err

    return go


def test_what_is_printed(run: Run) -> None:
    code, out, _ = run("t@v1", "t@v2")
    assert code == 0
    first, heads, drifted, stable = out.splitlines()
    assert "drifted: 1 of 2 columns" in first and heads.startswith("COLUMN")
    assert drifted.startswith("x ") and "psi" in drifted and "> 0.25" in drifted
    assert stable.startswith("evil\\x1b[31m\\u202e") and "stable" in stable


def test_the_exit_code_says_drift_only_where_asked(run: Run) -> None:
    assert run("t@v1", "t@v2", "--fail-on", "drift")[0] == 3
    assert run("t@v1", "t@v3", "--fail-on", "drift")[0] == 0
    assert (
        run("t@v1", "t@v2", "--threshold", "psi=none", "--threshold", "ks=none", "--fail-on", "drift")[0] == 0
    )
    assert run("t@v1", "t@v2", "--columns", EVIL, "--fail-on", "drift")[0] == 0


def test_sides_are_named_as_in_diff(run: Run, tmp_path: Path) -> None:
    one = json.loads(run("t@v1", "t@v2", "--json")[1])
    assert json.loads(run("v1", "v2", "t", "--json")[1]) == one
    assert list(one["feature_sets"]) == ["t"] and one["drifted"]
    everything = json.loads(run("main~2", "main~1", "--json")[1])
    assert {name: report["drifted"] for name, report in everything["feature_sets"].items()} == {
        "other": False,
        "t": True,
    }
    pq.write_table(table(3.0), tmp_path / "today.parquet")
    held = json.loads(run("t@v1", "today.parquet", "--json")[1])["feature_sets"]["t"]
    assert held["columns"] == one["feature_sets"]["t"]["columns"]


def test_files(run: Run, tmp_path: Path) -> None:
    for name in ("drift.html", "drift.json"):
        code, out, _ = run("t@v1", "t@v2", "-o", name)
        assert code == 0 and out == f"{name}: t drifted: 1 of 2 columns\n"
    assert json.loads((tmp_path / "drift.json").read_text())["report_version"] == 1
    page = (tmp_path / "drift.html").read_text()
    assert page.startswith("<!doctype html>") and "<script" not in page
    assert run("t@v1", "t@v2", "--format", "html")[1] == page
    assert json.loads(run("t@v1", "t@v2", "-o", "drift.html", "--json")[1])["drifted_columns"] == {"t": ["x"]}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("t@v1",), 2, "two sides"),
        (("t@v1", "t@v9"), 4, "v9"),
        (("t@v1", "absent.parquet"), 4, "absent.parquet"),
        (("t@v1", "t@v2", "t"), 2, "twice"),
        (("t@v1", "t@v2", "--threshold", "spi=1"), 2, "'psi'"),
        (("t@v1", "t@v2", "--threshold", "psi"), 2, "no value"),
        (("t@v1", "t@v2", "--threshold", "psi=much"), 2, "not a number"),
        (("t@v1", "t@v2", "--confidence", "2"), 2, "confidence"),
        (("t@v1", "t@v2", "--columns", "y"), 4, "'y'"),
        (("t@v1", "t@v2", "-o", "report.doc"), 2, "--format"),
        (("models:/churn/1",), 2, "--against"),
    ],
)
def test_what_makes_no_sense_is_said(run: Run, words: tuple[str, ...], code: int, message: str) -> None:
    ended, _, err = run(*words)
    assert (ended, message in err) == (code, True), err


def test_a_feature_set_may_be_named_without_a_revision(run: Run) -> None:
    code, out, _ = run("t@v1", "other")
    assert code == 0 and out.startswith("t  v1 -> other v1")
    assert run("t", "other")[1].startswith("t  v3 -> other v1")
    assert run("t", "v2")[1].startswith("t  v3 -> v2")
    code, _, err = run("t", "othr")
    assert code == 4 and "'othr'" in err


def test_what_was_not_compared_is_not_called_stable(run: Run, tmp_path: Path) -> None:
    pq.write_table(table(0.0).slice(0, 0), tmp_path / "empty.parquet")
    code, out, _ = run("t@v1", "empty.parquet")
    assert code == 0 and "not compared" in out and "stable" not in out
