"""What a workload yields: one figure, beside the baseline that was measured in the same run."""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Literal, TypeAlias

import pyarrow as pa

__all__ = ["Assurance", "Figure", "Pairs", "Unit", "flushed", "interleave", "timed"]

Unit: TypeAlias = Literal["s", "B"]
"""Seconds or bytes."""

Assurance: TypeAlias = Literal["proven", "checked", ""]
"""What stands behind the data of a figure.

``proven``: every chunk's digest was computed and compared, or what was stored was restored afterwards,
proven, and equal to what was handed over. ``checked``: every object's checksum was verified.
Empty where no table is read or written.
"""


@dataclass(frozen=True)
class Pairs:
    """Measurements side by side: ``ours[i]`` was taken right after ``plain[i]``. One unit."""

    plain: tuple[float, ...]
    ours: tuple[float, ...]


@dataclass(frozen=True)
class Figure:
    """One line of the report.

    ``rows`` and ``columns`` are the size of the table, no rows where none matters. ``measured`` and
    ``baseline`` are medians in ``unit``; ``ratio`` is the median of the ratios of pairs, ``lowest`` and
    ``highest`` their range. ``aim`` bounds the ratio, or where ``aim_unit`` is not empty the measured value,
    from above.
    """

    workload: str
    title: str
    rows: int | None
    unit: Unit
    measured: float
    against: str
    baseline: float
    ratio: float
    lowest: float
    highest: float
    runs: int
    aim: float
    aim_unit: Literal["", "s", "B"]
    assurance: Assurance
    columns: int = 30

    @property
    def met(self) -> bool:
        """Whether the figure is within its aim."""
        return (self.measured if self.aim_unit else self.ratio) <= self.aim

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; ``met`` included for readers."""
        return {**asdict(self), "met": self.met}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Figure:
        """The inverse of :meth:`to_json`."""
        return cls(**{name: found for name, found in value.items() if name != "met"})

    @classmethod
    def of(
        cls,
        pairs: Pairs,
        *,
        workload: str,
        title: str,
        rows: int | None,
        unit: Unit,
        against: str,
        aim: float,
        aim_unit: Literal["", "s", "B"],
        assurance: Assurance,
        columns: int = 30,
    ) -> Figure:
        """Medians of measurements."""
        ratios = [ours / plain for plain, ours in zip(pairs.plain, pairs.ours, strict=True)]
        return cls(
            workload=workload,
            title=title,
            rows=rows,
            unit=unit,
            measured=statistics.median(pairs.ours),
            against=against,
            baseline=statistics.median(pairs.plain),
            ratio=statistics.median(ratios),
            lowest=min(ratios),
            highest=max(ratios),
            runs=len(ratios),
            aim=aim,
            aim_unit=aim_unit,
            assurance=assurance,
            columns=columns,
        )


def timed(work: Callable[[], object]) -> float:
    """How long something takes, in seconds of the clock on the wall.

    Garbage is collected before and not meanwhile, and the result is kept until the clock has stopped:
    freeing gigabytes takes time that belongs to neither side.
    """
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        start = perf_counter()
        result = work()
        seconds = perf_counter() - start
    finally:
        if was_on:
            gc.enable()
    del result
    # Both sides start without memory that the other one left in the allocator.
    pa.default_memory_pool().release_unused()
    return seconds


def interleave(runs: int, plain: Callable[[], float], ours: Callable[[int], float]) -> Pairs:
    """Measure A B A B: what slows a machine down for a while then slows both sides.

    ``ours`` gets the number of the run.
    """
    found: list[tuple[float, float]] = []
    for run in range(runs):
        before = plain()
        found.append((before, ours(run)))
    return _pairs(found)


def _pairs(found: Sequence[tuple[float, float]]) -> Pairs:
    return Pairs(tuple(plain for plain, _ in found), tuple(ours for _, ours in found))


def flushed(path: str | os.PathLike[str]) -> None:
    """Have a file's bytes written out now, so that no later sync pays for them."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
