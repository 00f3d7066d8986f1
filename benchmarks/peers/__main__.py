"""``python -m benchmarks.peers``: store the same changes in fsvc and in its peers, and print the tables."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.peers.changes import CHANGES, write_inputs
from benchmarks.peers.stores import STORES, Restic
from benchmarks.report import amount, put_between, say

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent.parent
_COMMON = ("numpy==2.4.6", "pyarrow==25.0.*", "pandas")
_BEGIN, _END = "<!-- peers: begin -->", "<!-- peers: end -->"

Results: TypeAlias = dict[str, list[dict[str, Any]]]
"""For each store, what was measured of each change."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description="Store the same changes in fsvc and in its peers."
    )
    parser.add_argument(
        "--rows", type=int, default=1_000_000, metavar="N", help="rows of the table (1,000,000)"
    )
    parser.add_argument("--days", type=int, default=30, metavar="N", help="days of daily changes (30)")
    parser.add_argument(
        "--only", action="append", choices=list(STORES), metavar="NAME", help="only this store"
    )
    parser.add_argument("--list", action="store_true", help="name the stores and stop")
    parser.add_argument(
        "--environments",
        type=Path,
        default=ROOT / ".peers",
        metavar="DIR",
        help="where peers are installed (.peers)",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what was measured there")
    parser.add_argument(
        "--from-json", type=Path, metavar="PATH", help="measure nothing: print an earlier run"
    )
    parser.add_argument(
        "--write-readme", action="store_true", help="put the tables into benchmarks/README.md"
    )
    return parser


def _environment(name: str, where: Path) -> Path:
    """The Python that has a peer installed; for fsvc itself, and what needs nothing more, this one."""
    needs = STORES[name].needs
    if not needs:
        return Path(sys.executable)
    home = where / STORES[name].name.replace(" ", "-").lower()
    python = home / "bin" / "python"
    done = home / ".installed"
    wanted = "\n".join((*_COMMON, *needs))
    if not done.exists() or done.read_text() != wanted:
        say(f"installing {', '.join(needs)} ...")
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *_COMMON, *needs],
            check=True,
        )
        done.write_text(wanted)
    return python


def _measure(name: str, given: argparse.Namespace, inputs: Path, scratch: Path) -> list[dict[str, Any]]:
    python = _environment(name, given.environments)
    say(f"{name} ...")
    target = scratch / "result.json"
    subprocess.run(
        [python, "-m", "benchmarks.peers.measure", name, "--inputs", inputs, "--json", target],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    found: list[dict[str, Any]] = json.loads(target.read_text())
    target.unlink()
    return found


def _all(given: argparse.Namespace) -> Results:
    results: Results = {}
    with tempfile.TemporaryDirectory(prefix="fsvc-peers-") as scratch:
        inputs = Path(scratch) / "inputs"
        inputs.mkdir()
        say("making the inputs ...")
        write_inputs(inputs, given.rows, given.days)
        for name in given.only or STORES:
            if STORES[name] is Restic and shutil.which("restic") is None:
                say("restic is not installed and is left out")
                continue
            try:
                results[name] = _measure(name, given, inputs, Path(scratch))
            except subprocess.CalledProcessError as error:
                say(f"{name} failed: {error}")
            if given.json is not None:
                given.json.write_text(json.dumps(results))
    return results


# -- the tables ----------------------------------------------------------------------------------


def _days(measured: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in measured if one["change"].startswith("day-")]


def _cell(measured: list[dict[str, Any]], change: str, what: str) -> str:
    """One cell: new bytes, or the seconds as a ratio to the plain write."""
    if change == "days":
        chosen = _days(measured)
    else:
        chosen = [one for one in measured if one["change"] == change]
    if not chosen:
        return ""
    if what == "bytes":
        return amount(sum(one["bytes"] for one in chosen), "B")
    return f"{statistics.median(one['seconds'] / one['plain_seconds'] for one in chosen):.2f}"


def _losses(measured: list[dict[str, Any]]) -> str:
    lost = {word for one in measured for word in one["fidelity"].split(", ") if word != "exact"}
    return ", ".join(sorted(lost)) or "nothing"


def _table(results: Results, what: str) -> list[list[str]]:
    changes = ["first", *CHANGES]
    days = max((len(_days(measured)) for measured in results.values()), default=0)
    heads = [*changes, f"{days} days" if what == "bytes" else "a day"]
    rows = [["", *heads]]
    for name, measured in results.items():
        rows.append([name, *(_cell(measured, change, what) for change in (*changes, "days"))])
    return rows


def _reading(results: Results) -> list[list[str]]:
    rows = [["", "told", "read", "loses", "remarks"]]
    for name, measured in results.items():
        first = measured[0]
        rows.append(
            [
                STORES[name].name,
                "what changed" if STORES[name].told else "the whole table",
                f"{first['read_seconds'] / first['plain_read_seconds']:.2f}",
                _losses(measured),
                STORES[name].remarks,
            ]
        )
    return rows


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(rows[0]) + " |", "| --- |" + " ---: |" * (len(rows[0]) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    return "\n".join(lines)


def _report(results: Results) -> str:
    versions = ", ".join(sorted({need for name in results for need in STORES[name].needs}))
    return "\n\n".join(
        [
            f"Peers: {versions}." if versions else "No peers.",
            "New bytes of each change:",
            _markdown(_table(results, "bytes")),
            "Seconds of each change, as a ratio to writing the table as zstd Parquet:",
            _markdown(_table(results, "seconds")),
            "What each is told, how long reading takes as a ratio to `read_table`, and what comes back otherwise:",
            _markdown(_reading(results)),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code: 0, or 1 where a store failed."""
    given = _parser().parse_args(arguments)
    if given.list:
        for name, store in STORES.items():
            print(f"{name:<18}  {', '.join(store.needs)}")
        return 0
    results: Results = json.loads(given.from_json.read_text()) if given.from_json else _all(given)
    if not results:
        return 1
    text = _report(results)
    print(text)
    if given.write_readme:
        put_between(text, _BEGIN, _END)
    return 0 if given.from_json or given.only or set(results) >= set(STORES) - {"restic"} else 1


if __name__ == "__main__":
    sys.exit(main())
