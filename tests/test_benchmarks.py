"""The benchmarks stay alive: every workload runs, on a table so small that its times mean nothing."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent
ROWS = 20_000


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)


@pytest.fixture
def tables() -> Any:
    return importlib.import_module("benchmarks.tables")


@pytest.fixture
def figures() -> Any:
    return importlib.import_module("benchmarks.figures")


@pytest.fixture
def report() -> Any:
    return importlib.import_module("benchmarks.report")


@pytest.fixture
def workloads() -> Any:
    return importlib.import_module("benchmarks.workloads")


@pytest.fixture
def bench(workloads: Any, tmp_path: Path) -> Iterator[Any]:
    return workloads.Bench(
        tmp_path,
        ROWS,
        workloads.Options(runs=2, source_bytes=3_000_000, commits=12, days=2, history=30, chunks=5_000),
    )


@pytest.mark.parametrize(
    "name",
    [
        "first-commit",
        "unchanged",
        "add-column",
        "recompute-column",
        "append",
        "update",
        "update-region",
        "delete",
        "insert",
        "shuffle",
        "drop-column",
        "day",
        "restore",
        "restore-day",
        "checkout",
        "checkout-day",
        "query-count-day",
        "query-count-day-again",
        "query-groups-day",
        "query-groups-day-again",
        "query-keys-day",
        "query-keys-day-again",
        "stored-bytes",
        "bytes-added",
        "bytes-recomputed",
        "bytes-dropped",
        "bytes-appended",
        "bytes-updated",
        "bytes-region",
        "bytes-deleted",
        "bytes-inserted",
        "bytes-shuffled",
        "bytes-month",
        "diff-stat",
        "diff-rows",
        "diff-stat-region",
        "diff-rows-region",
        "blame",
        "drift",
        "point-in-time",
        "sql-filter",
        "sql-group",
        "sql-keys",
        "sql-near-keys",
        "sql-join",
        "merge",
        "repack",
        "bytes-repacked",
        "peak-memory",
        "help",
        "log",
        "log-history",
        "open-history",
        "open-index",
        "lookup",
    ],
)
def test_a_workload_gives_a_figure_and_cleans_up(name: str, workloads: Any, bench: Any) -> None:
    figure = workloads.WORKLOADS[name].run(bench)
    assert figure.workload == name
    assert figure.rows == (ROWS if workloads.WORKLOADS[name].sized else None)
    assert all(
        math.isfinite(value) and value > 0
        for value in (figure.measured, figure.baseline, figure.ratio, figure.aim)
    )
    assert figure.lowest <= figure.ratio <= figure.highest
    assert {path.name for path in bench.directory.iterdir()} <= {
        "plain.parquet",
        "committed",
        "month",
        "day.parquet",
    }


def test_every_workload_is_run_above(workloads: Any) -> None:
    parameters = test_a_workload_gives_a_figure_and_cleans_up.pytestmark[0].args[1]
    assert parameters == list(workloads.WORKLOADS)


def test_the_command_runs_what_it_is_told_to(report: Any, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    options = f"--rows {ROWS} --runs 1 --only help --only unchanged --directory {tmp_path} --json {path}"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = report.Report.from_json(path.read_text())
    assert [(figure.workload, figure.rows) for figure in found.figures] == [
        ("unchanged", ROWS),
        ("help", None),
    ]
    assert done.stdout.strip() == report.text_table(found.figures)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name], "files are left behind"


def test_a_wrong_result_is_no_figure(workloads: Any, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = importlib.import_module("fsvc.snapshot").Snapshot
    original = snapshot.to_arrow
    monkeypatch.setattr(snapshot, "to_arrow", lambda self: original(self).slice(1))
    with pytest.raises(workloads.WrongResult):
        workloads.WORKLOADS["restore"].run(bench)


# The table


def test_the_table_has_the_columns_that_were_agreed(tables: Any) -> None:
    schema = tables.schema()
    kinds = [
        "float"
        if pa.types.is_floating(field.type)
        else "int"
        if pa.types.is_integer(field.type)
        else "flag"
        if pa.types.is_boolean(field.type)
        else "time"
        if pa.types.is_timestamp(field.type)
        else "text"
        for field in schema
    ]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "float": 14,
        "int": 1 + 6,  # the key
        "flag": 2,
        "time": 1,
        "text": 1 + 4 + 1,  # an id, the categories, a text
    }
    assert len(schema) == 30


def test_a_table_is_a_prefix_of_a_longer_one(tables: Any) -> None:
    rows = tables.BLOCK_ROWS
    long = tables.make_table(rows + 500)
    assert tables.make_table(rows - 10).equals(long.slice(0, rows - 10).combine_chunks())
    assert tables.make_table(600, rows - 100).equals(long.slice(rows - 100, 600).combine_chunks())


def test_a_wider_table_has_other_columns_of_the_same_kinds(tables: Any) -> None:
    wide = tables.make_table(500, columns=65)
    assert wide.select(range(30)).equals(tables.make_table(500))
    assert wide.column_names[30] == "account_2"
    assert len(set(wide.column_names)) == 65
    assert not wide["balance_2"].equals(wide["balance"])


def test_edits_do_what_they_are_called(tables: Any) -> None:
    edits = importlib.import_module("benchmarks.edits")
    table = tables.make_table(ROWS)
    keys = table[tables.KEY].to_numpy()
    fewer, more = edits.with_deleted(table, 0.01, 1), edits.with_inserted(table, 0.001, 1)
    assert (len(fewer), len(more)) == (ROWS - ROWS // 100, ROWS + ROWS // 1000)
    found = more[tables.KEY].to_numpy()
    assert (found[1:] > found[:-1]).all()
    assert set(keys.tolist()) <= set(found.tolist())
    region = edits.with_region(table, 1)
    assert region[tables.KEY].equals(table[tables.KEY])
    differs = np.flatnonzero(region["account"].to_numpy() != table["account"].to_numpy())
    assert len(differs) == ROWS // 100 == differs[-1] - differs[0] + 1
    other = edits.shuffled(table, 1)
    assert not other.equals(table)
    assert other.sort_by(tables.KEY).equals(table)
    day = edits.next_day(table, 1)
    assert len(day) == ROWS + ROWS * 3 // 1000
    same = [name for name in table.column_names if day[name].slice(0, ROWS).equals(table[name])]
    assert len(same) == len(table.column_names) - 5


def test_keys_ascend_and_nulls_are_where_they_are_meant_to_be(tables: Any) -> None:
    table = tables.make_table(ROWS)
    keys = table[tables.KEY].to_numpy()
    assert (keys[1:] > keys[:-1]).all()
    with_nulls = [name for name in table.column_names if table[name].null_count]
    assert len(with_nulls) == 8
    assert tables.KEY not in with_nulls


def test_variants_of_a_column_differ_and_stay_the_same(tables: Any) -> None:
    for make in (tables.added_column, tables.recomputed_column):
        assert make(ROWS, 1).equals(make(ROWS, 1))
        assert not make(ROWS, 1).equals(make(ROWS, 2))
    own = tables.make_table(ROWS)[tables.RECOMPUTED].chunk(0)
    assert tables.recomputed_column(ROWS, 0).equals(own)


@pytest.mark.parametrize("size", [1_000_000, 8_000_000])
def test_a_source_is_about_as_long_as_was_asked(tables: Any, tmp_path: Path, size: int) -> None:
    path = tmp_path / "source.parquet"
    rows = tables.write_source(path, size)
    assert path.stat().st_size == pytest.approx(size, rel=1.0)
    assert path.stat().st_size >= size
    written = pq.read_table(path)
    assert written.num_rows == rows
    assert written.slice(0, 100).equals(tables.make_table(100))


# The report


@pytest.fixture
def figure(figures: Any) -> Any:
    return figures.Figure.of(
        figures.Pairs(plain=(1.0, 2.0, 4.0), ours=(0.5, 3.0, 1.0)),
        workload="unchanged",
        title="commit of unchanged data",
        rows=1_000_000,
        unit="s",
        against="write",
        aim=0.4,
        aim_unit="",
        assurance="proven",
    )


def test_a_figure_is_the_median_of_ratios_of_pairs(figure: Any) -> None:
    assert (figure.ratio, figure.lowest, figure.highest) == (0.5, 0.25, 1.5)
    assert (figure.measured, figure.baseline, figure.runs) == (1.0, 2.0, 3)
    assert not figure.met
    assert replace(figure, aim=0.5).met
    assert replace(figure, aim=1.0, aim_unit="s").met
    assert not replace(figure, aim=0.99, aim_unit="s").met


def test_sides_are_measured_in_turn(figures: Any) -> None:
    calls: list[str] = []

    def plain() -> float:
        calls.append("plain")
        return 2.0

    def ours(run: int) -> float:
        calls.append(f"ours {run}")
        return 1.0 + run

    pairs = figures.interleave(2, plain, ours)
    assert calls == ["plain", "ours 0", "plain", "ours 1"]
    assert pairs == figures.Pairs((2.0, 2.0), (1.0, 2.0))


def test_reports_survive_json_and_merge(report: Any, figure: Any) -> None:
    first = report.Report(report.environment(), (figure, replace(figure, workload="restore")))
    assert report.Report.from_json(first.to_json()) == first
    later = replace(first, figures=(replace(figure, ratio=0.1), replace(figure, rows=10)))
    assert [(each.workload, each.rows, each.ratio) for each in report.merged([first, later]).figures] == [
        ("unchanged", 1_000_000, 0.1),
        ("restore", 1_000_000, 0.5),
        ("unchanged", 10, 0.5),
    ]
    with pytest.raises(ValueError, match="different environments"):
        report.merged([first, replace(later, environment={**later.environment, "cores": -1})])
    with pytest.raises(ValueError, match="no report"):
        report.Report.from_json(json.dumps({"figures": []}))


def test_the_readme_changes_between_its_marks_only(report: Any, figure: Any, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    text = report.README.read_text(encoding="utf-8")
    readme.write_text(text, encoding="utf-8")
    for rows in (1_000_000, 2_000_000):  # a second time over the first
        report.write_readme(report.Report(report.environment(), (replace(figure, rows=rows),)), readme)
    written = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(report.BEGIN)
    inside = written.removeprefix(before + report.BEGIN).removesuffix(rest.partition(report.END)[2])
    assert "| commit of unchanged data | 2,000,000 |" in inside
    assert "1,000,000 |" not in inside
    assert f"python {report.environment()['python']}" in inside
    readme.write_text(text.replace(report.END, ""), encoding="utf-8")
    with pytest.raises(ValueError, match="has to hold"):
        report.write_readme(report.Report(report.environment(), (figure,)), readme)


def test_the_readme_explains_every_workload_and_option(workloads: Any, report: Any) -> None:
    text = report.README.read_text(encoding="utf-8")
    assert [name for name in workloads.WORKLOADS if f"| `{name}` |" not in text] == []
    parser = importlib.import_module("benchmarks.__main__")._parser()
    options = {option for action in parser._actions for option in action.option_strings} - {
        "-h",
        "--help",
        "--list",
    }
    assert [option for option in sorted(options) if f"`{option}" not in text] == []
