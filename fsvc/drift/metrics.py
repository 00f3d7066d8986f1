"""Distances between two distributions of one column: pure functions of counts and of sorted values.

*Binned* ones are of counts in shared bins; *exact* ones of the values themselves. docs/drift.md says what each
means and where it comes from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SMALLEST_SHARE",
    "Distances",
    "binned_distances",
    "exact_distances",
    "jensen_shannon",
    "psi",
]

Counts = NDArray[np.int64]
Values = NDArray[np.float64]

SMALLEST_SHARE = 1e-4
"""The share that a bin counts as at least in :func:`psi`, whose logarithms know no empty bin.

In small samples it is half a row of the smaller one, since that a bin is empty says no more there.
"""


class Distances(NamedTuple):
    """Two distances of numbers: the Kolmogorov-Smirnov statistic, and Wasserstein's in the column's unit.

    The true ones lie no farther from them than the two errors, which are 0 where they were computed from values.
    """

    ks: float
    ks_error: float
    wasserstein: float
    wasserstein_error: float


def psi(before: Counts, after: Counts) -> float:
    """The population stability index of two counts of the same bins, in nats; neither may be all zero.

    Symmetric: the sum over bins of ``(p - q) * ln(p / q)``. A share counts as SMALLEST_SHARE at least, or half a row of
    the smaller side where that is more.
    """
    rows = before.sum(), after.sum()
    least = max(SMALLEST_SHARE, 0.5 / min(rows))
    p, q = np.maximum(before / rows[0], least), np.maximum(after / rows[1], least)
    return float(((p - q) * np.log(p / q)).sum())


def jensen_shannon(before: Counts, after: Counts) -> float:
    """The Jensen-Shannon distance of two counts of the same bins, to base 2: 0 (the same) to 1 (disjoint).

    It is the square root of the divergence; neither count may be all zero.
    """
    p, q = before / before.sum(), after / after.sum()
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.sqrt(min(max(divergence / np.log(2), 0.0), 1.0)))


def _relative_entropy(p: NDArray[Any], q: NDArray[Any]) -> float:
    there = p > 0
    return float((p[there] * np.log(p[there] / q[there])).sum())


def exact_distances(before: Values, after: Values) -> Distances:
    """The distances of two samples, each sorted, finite and not empty."""
    steps = []
    for side in (before, after):
        last = np.append(np.flatnonzero(side[1:] != side[:-1]), len(side) - 1)
        # The different values, and the share of values up to none and each of them.
        steps.append((side[last], np.concatenate([[0.0], (last + 1) / len(side)])))
    # Timsort merges two runs that are sorted, in one pass.
    points = np.sort(np.concatenate([values for values, _ in steps]), kind="stable")
    ends = np.append(np.flatnonzero(points[1:] != points[:-1]) + 1, len(points))
    points = points[ends - 1]
    # Of the values up to each point those that are not of the one side are of the other.
    own = np.searchsorted(steps[0][0], points, "right")
    shares = [share[reached] for (_, share), reached in zip(steps, (own, ends - own), strict=True)]
    apart = np.abs(shares[0] - shares[1])
    with np.errstate(over="ignore"):  # the widest doubles are farther apart than a double can say
        moved = float((apart[:-1] * np.diff(points)).sum())
    return Distances(float(apart.max()), 0.0, moved, 0.0)


def binned_distances(edges: Values, before: Counts, after: Counts) -> Distances:
    """The distances as far as bins show them. Bin i holds what is above edge i and up to edge i + 1.

    There is one bin less than edges, and the first edge belongs to the first bin. KS is the largest difference
    at an edge. Inside a bin the two distribution functions rise by at most what the bin holds, which bounds
    the error. For Wasserstein's distance values count as spread evenly over their bin.
    """
    p, q = before / before.sum(), after / after.sum()
    apart = np.concatenate([[0.0], np.cumsum(p - q)])
    ks = float(np.abs(apart).max())
    left, right = apart[:-1], apart[1:]
    # Above: F rises first and G last; below: the other way round.
    highest = np.minimum(left + p, right + q)
    lowest = np.maximum(left - q, right - p)
    worst = float(max(highest.max(), -lowest.min(), ks))
    with np.errstate(over="ignore"):
        widths = np.diff(edges)
        straight = (np.abs(left) + np.abs(right)) / 2
        crossing = left * right < 0
        crossed = (left**2 + right**2) / (2 * np.where(crossing, np.abs(left) + np.abs(right), 1.0))
        moved = float((widths * np.where(crossing, crossed, straight)).sum())
        error = float((widths * (p + q)).sum())
    return Distances(ks, max(worst - ks, 0.0), moved, error)
