"""``python -m benchmarks``: measure, print the table, and keep it as JSON if asked to."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.report import Report, environment, merged, say, text_table, write_readme
from benchmarks.tables import COLUMNS
from benchmarks.workloads import LARGE_ROWS, WORKLOADS, Bench, Options, Workload, WrongResult, warm_up


def _positive(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError("a number above zero is wanted")
    return number


def _columns(text: str) -> int:
    number = _positive(text)
    if number < COLUMNS:
        raise argparse.ArgumentTypeError(f"the table has {COLUMNS} columns at the least")
    return number


def _gigabytes(text: str) -> int:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError("a number above zero is wanted")
    return int(number * 1e9)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure fsvc beside plain Parquet."
    )
    parser.add_argument(
        "--rows", type=_positive, default=1_000_000, metavar="N", help="rows of the table (1,000,000)"
    )
    parser.add_argument(
        "--columns", type=_columns, default=COLUMNS, metavar="N", help=f"columns of the table ({COLUMNS})"
    )
    parser.add_argument(
        "--days", type=_positive, default=30, metavar="N", help="days of the workloads of a month (30)"
    )
    parser.add_argument(
        "--large", action="store_true", help=f"measure {LARGE_ROWS:,} rows too, and a source of 4 GB"
    )
    parser.add_argument("--runs", type=_positive, default=5, metavar="N", help="runs per figure of time (5)")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="only this workload; may be repeated",
    )
    parser.add_argument(
        "--models", action="store_true", help="the workloads that need MLflow, instead of the others"
    )
    parser.add_argument("--list", action="store_true", help="name the workloads and stop")
    parser.add_argument(
        "--source-gb",
        type=_gigabytes,
        metavar="GB",
        help="size of the source of peak-memory (1; 4 with --large)",
    )
    parser.add_argument(
        "--commits", type=_positive, default=1_000, metavar="N", help="commits of log (1,000)"
    )
    parser.add_argument(
        "--history", type=_positive, default=10_000, metavar="N", help="commits of a long history (10,000)"
    )
    parser.add_argument(
        "--chunks", type=_positive, default=10_000_000, metavar="N", help="chunks of lookup (10,000,000)"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="where files are written and removed again (the system's place)",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there as JSON")
    parser.add_argument(
        "--from-json",
        type=Path,
        action="append",
        metavar="PATH",
        help="measure nothing: take the figures of an earlier run; may be repeated",
    )
    parser.add_argument("--write-readme", action="store_true", help="put the table into benchmarks/README.md")
    return parser


_LIKE = {"commits": "1,000", "history": "10,000", "chunks": "10,000,000", "source": "large", "days": 30}


def _workloads(given: argparse.Namespace) -> dict[str, Workload]:
    """The workloads that were asked for. Raises ValueError for a name that none has."""
    offered = WORKLOADS
    if given.models:
        from benchmarks.models import MODEL_WORKLOADS

        offered = MODEL_WORKLOADS
    unknown = [name for name in given.only or () if name not in offered]
    if unknown:
        raise ValueError(f"there is no workload {unknown[0]!r}; --list names them")
    return {name: workload for name, workload in offered.items() if not given.only or name in given.only}


def _measure(given: argparse.Namespace, workloads: dict[str, Workload]) -> tuple[Report, int]:
    """Run workloads; the figures, and how many workloads gave a wrong result and so none.

    The JSON file is kept up to date, so that an interrupted run leaves what it has found.
    """
    source = given.source_gb or (4_000_000_000 if given.large else 1_000_000_000)
    options = Options(
        runs=given.runs,
        source_bytes=source,
        commits=given.commits,
        days=given.days,
        columns=given.columns,
        history=given.history,
        chunks=given.chunks,
    )
    chosen = list(workloads.values())
    sizes = sorted({given.rows, LARGE_ROWS} if given.large else {given.rows})
    report = Report(environment(), ())
    wrong = 0

    def run(workload: Workload, bench: Bench) -> None:
        nonlocal report, wrong
        say(f"{workload.name}, {bench.rows:,} rows ..." if workload.sized else f"{workload.name} ...")
        try:
            figure = workload.run(bench)
        except WrongResult as error:
            say(f"benchmarks: {workload.name}: {error}")
            wrong += 1
            return
        report = replace(report, figures=(*report.figures, figure))
        if given.json is not None:
            given.json.write_text(report.to_json(), encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="fsvc-bench-", dir=given.directory) as scratch:
        for part in ("warm", "once", *map(str, sizes)):
            (Path(scratch) / part).mkdir()
        warm_up(Path(scratch) / "warm")
        for rows in sizes:
            bench = Bench(Path(scratch) / str(rows), rows, options)
            for workload in chosen:
                if workload.sized:
                    run(workload, bench)
        # Last, when no large table is in this process any more.
        bench = Bench(Path(scratch) / "once", min(sizes), options)
        for workload in chosen:
            if not workload.sized:
                run(workload, bench)
    return report, wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code: 0, or 1 where a workload gave a wrong result."""
    given = _parser().parse_args(arguments)
    try:
        workloads = _workloads(given)
    except ValueError as error:
        say(f"benchmarks: {error}")
        return 2
    if given.list:
        width = max(map(len, workloads))
        for workload in workloads.values():
            print(f"{workload.name:<{width}}  {workload.title.format(**_LIKE)}")
        return 0
    wrong = 0
    try:
        if given.from_json:
            report = merged([Report.from_json(path.read_text(encoding="utf-8")) for path in given.from_json])
        else:
            report, wrong = _measure(given, workloads)
        print(text_table(report.figures))
        if given.json is not None:
            given.json.write_text(report.to_json(), encoding="utf-8")
        if wrong:
            return 1
        if given.write_readme:
            write_readme(report)
    except (OSError, ValueError) as error:
        say(f"benchmarks: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
