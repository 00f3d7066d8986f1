"""The report: the same figures as a table for people, as JSON, and as a part of the README."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Unit
from benchmarks.tables import COLUMNS

__all__ = [
    "README",
    "Report",
    "amount",
    "environment",
    "merged",
    "put_between",
    "say",
    "text_table",
    "write_readme",
]

README = Path(__file__).with_name("README.md")
BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"

_HEADS = ("workload", "rows", "fsvc", "plain", "ratio", "range", "aim", "met", "data")
_RIGHT = frozenset(("rows", "fsvc", "plain", "ratio", "range", "aim"))
_LIBRARIES = ("fsvc", "pyarrow", "duckdb", "numpy")


@dataclass(frozen=True)
class Report:
    """What one run of the benchmarks, or several put together, has found.

    ``environment`` says what it ran on: versions by library, and the number of cores.
    """

    environment: dict[str, Any]
    figures: tuple[Figure, ...]

    def to_json(self) -> str:
        """The report as a JSON document."""
        document = {"environment": self.environment, "figures": [figure.to_json() for figure in self.figures]}
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of :meth:`to_json`. Raises ValueError for another kind of document."""
        document = json.loads(text)
        try:
            return cls(document["environment"], tuple(Figure.from_json(each) for each in document["figures"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no report of the benchmarks: {error}") from error


def environment() -> dict[str, Any]:
    """What the benchmarks run on: nothing that names the machine or its owner."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": cores,
        "python": platform.python_version(),
        **{library: version(library) for library in _LIBRARIES},
    }


def merged(reports: Sequence[Report]) -> Report:
    """Several reports as one; of the same workload and size the last one counts.

    Raises ValueError where they come from different environments.
    """
    for report in reports[1:]:
        if report.environment != reports[0].environment:
            raise ValueError("these reports come from different environments and make no table together")
    figures: dict[tuple[str, int | None, int], Figure] = {}
    for report in reports:
        figures.update({(figure.workload, figure.rows, figure.columns): figure for figure in report.figures})
    return replace(reports[0], figures=tuple(figures.values()))


def amount(value: float, unit: Unit) -> str:
    """A figure for people: three digits, and a unit that suits."""
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
    for power, name in ((3, "GB"), (2, "MB"), (1, "kB")):
        if value >= 1000**power:
            return f"{value / 1000**power:.2f} {name}"
    return f"{value:.0f} B"


def _size(figure: Figure) -> str:
    """The rows of a table, and its columns where these are not the usual ones."""
    if figure.rows is None:
        return ""
    return f"{figure.rows:,}" + (f" x {figure.columns}" if figure.columns != COLUMNS else "")


def _row(figure: Figure) -> tuple[str, ...]:
    aim = amount(figure.aim, figure.aim_unit) if figure.aim_unit else f"{figure.aim:g}"
    spread = f"{figure.lowest:.3f} to {figure.highest:.3f}" if figure.runs > 1 else ""
    return (
        figure.title,
        _size(figure),
        amount(figure.measured, figure.unit),
        amount(figure.baseline, figure.unit),
        f"{figure.ratio:.3f}",
        spread,
        f"<= {aim}",
        "yes" if figure.met else "no",
        figure.assurance,
    )


def text_table(figures: Iterable[Figure]) -> str:
    """An aligned table in plain text."""
    rows = [_HEADS, *map(_row, figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS))]
    lines = [
        "  ".join(
            cell.rjust(width) if head in _RIGHT else cell.ljust(width)
            for cell, width, head in zip(row, widths, _HEADS, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def markdown(report: Report) -> str:
    """The table as Markdown, with what it was measured on."""
    where = report.environment
    libraries = ", ".join(f"{name} {where[name]}" for name in ("python", *_LIBRARIES))
    lines = [
        f"Measured on {where['cores']} cores ({where['system']}) with {libraries}.",
        "",
        "| " + " | ".join(_HEADS) + " |",
        "| " + " | ".join("---:" if head in _RIGHT else "---" for head in _HEADS) + " |",
    ]
    lines += ["| " + " | ".join(_row(figure)) + " |" for figure in report.figures]
    return "\n".join(lines)


def write_readme(report: Report, path: Path = README) -> None:
    """Put the table into the README, between its two marks. Raises ValueError as :func:`put_between` does."""
    put_between(markdown(report), BEGIN, END, path)


def put_between(text: str, begin: str, end: str, path: Path = README) -> None:
    """Put a text into the README between two marks; all else stays as it is.

    Raises ValueError where the marks are not there, once each and in order.
    """
    whole = path.read_text(encoding="utf-8")
    if whole.count(begin) != 1 or whole.count(end) != 1 or whole.index(begin) > whole.index(end):
        raise ValueError(f"{path.name} has to hold {begin} and then {end}, once each")
    before, _, rest = whole.partition(begin)
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def say(text: str) -> None:
    """Tell how far things are, on stderr."""
    print(text, file=sys.stderr, flush=True)
