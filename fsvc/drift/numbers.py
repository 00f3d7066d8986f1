"""Measuring numbers: profiles, bins and distances of two columns, block by block.

Values are counted by where they lie among the edges of bins (:class:`_Tree`), in any order. Only where distances are
exact is a column sorted: it is all that they need, and counts are then read off it. Memory holds one block, or where
distances are exact, the values of one column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.drift.metrics import Counts, Distances, Values, binned_distances, exact_distances
from fsvc.drift.report import Bins, Profile

__all__ = [
    "Measured",
    "as_numbers",
    "clock_text",
    "measure",
    "number_text",
    "quantiles",
    "sorted_sample",
    "time_text",
]

FINE_BINS = 100
"""At least so many bins are counted for binned distances; their edges include those of the coarse bins."""
_SLICE = 1 << 14
"""So many values are counted at once: they stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a pair of columns; ``distances`` is None where a side has no finite number."""

    before: Profile
    after: Profile
    bins: Bins
    distances: Distances | None
    finite: tuple[int, int]


def as_numbers(array: pa.Array) -> pa.Array:
    """An array of numbers, dates, times or texts as doubles: microseconds since 1970, lengths in characters."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return as_numbers(array.storage)
    if pa.types.is_dictionary(kind):
        return as_numbers(array.dictionary_decode())
    if pa.types.is_string_view(kind):
        array, kind = array.cast(pa.large_string()), pa.large_string()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        array = pc.utf8_length(array)
    elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        array = array.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).view(pa.int64())
    elif pa.types.is_time(kind):
        array = array.cast(pa.time64("us"), safe=False).view(pa.int64())
    elif pa.types.is_duration(kind):
        array = array.view(pa.int64())
    return array.cast(pa.float64(), safe=False)


@dataclass
class _Side:
    """What is known of one side's column so far."""

    rows: int = 0
    nulls: int = 0
    nan: int = 0
    infinite: int = 0
    finite: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0
    kept: list[Values] = field(default_factory=list)

    def blocks(self, arrays: Iterable[pa.Array]) -> Iterator[Values]:
        """Take in arrays of doubles; the finite values of each."""
        for array in arrays:
            self.rows += len(array)
            self.nulls += array.null_count
            values = array.drop_null().to_numpy(zero_copy_only=False)
            finite = np.isfinite(values)
            if not finite.all():
                nan = int(np.isnan(values).sum())
                self.nan += nan
                self.infinite += int((~finite).sum()) - nan
                values = values[finite]
            if len(values):
                self._take(values)
                yield values

    def _take(self, values: Values) -> None:
        # -0.0 is 0.0 here.
        self.minimum = min(self.minimum, float(values.min()) + 0.0)
        self.maximum = max(self.maximum, float(values.max()) + 0.0)
        # Chan, Golub and LeVeque: means and squares of parts, put together without cancellation.
        count = self.finite + len(values)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(values.mean())
            apart = mean - self.mean
            rest = values - mean
            # Not by a dot product: threads of BLAS would fight with ours.
            self.squares += float(np.square(rest, out=rest).sum()) + float(
                np.float64(apart) * apart * (self.finite * len(values) / count)
            )
            self.mean += apart * len(values) / count
        self.finite = count

    def profile(self) -> Profile:
        if not self.finite:
            return Profile(self.rows, self.nulls, self.nan, self.infinite)
        deviation = math.sqrt(self.squares / self.finite) if self.squares >= 0 else math.nan
        return Profile(
            self.rows,
            self.nulls,
            self.nan,
            self.infinite,
            self.minimum,
            self.maximum,
            self.mean if math.isfinite(self.mean) else None,
            deviation if math.isfinite(deviation) else None,
        )


def quantiles(values: Values, count: int) -> Values:
    """The ``count - 1`` inner quantiles of sorted values: each the least value that enough of them do not pass."""
    if not len(values):
        return values
    places = np.ceil(np.arange(1, count) * len(values) / count).astype(np.int64) - 1
    return values[places]


def measure(
    before: Iterable[pa.Array],
    after: Iterable[pa.Array],
    *,
    bins: int,
    sample: Values | None,
    source: str,
    shown: Callable[[float], str],
) -> Measured:
    """Measure two columns of doubles, read once each, in this order.

    Args:
        before, after: the columns, in parts.
        bins: how many bins of equal content the values before are cut into, for PSI and Jensen-Shannon.
        sample: sorted values to find the edges in; None: all values are kept, and distances are exact.
        source: says of the sample where it comes from.
        shown: how an edge is written in the name of a bin.
    """
    sides = (_Side(), _Side())
    fine = bins * -(-FINE_BINS // bins)
    if sample is None:
        kept = [_sorted(list(side.blocks(part))) for side, part in zip(sides, (before, after), strict=True)]
        cut = kept[0] if len(kept[0]) else kept[1]
        cuts = _Cuts(quantiles(cut, fine), bins, fine)
        low, high = (float(cut[0]), float(cut[-1])) if len(cut) else (0.0, 0.0)
        counted = [cuts.count_sorted(values, low, high) for values in kept]
        source = "quantiles of all values before" if len(kept[0]) else "quantiles of all values after"
        distances = exact_distances(kept[0], kept[1]) if len(kept[0]) and len(kept[1]) else None
    else:
        cuts = _Cuts(quantiles(sample, fine), bins, fine)
        first = cuts.count(sides[0].blocks(before), -math.inf, math.inf)
        base = sides[0].finite > 0
        low, high = (sides[0].minimum, sides[0].maximum) if base else (-math.inf, math.inf)
        second = cuts.count(sides[1].blocks(after), low, high)
        counted = [first, second]
        if not base and sides[1].finite:
            low, high = sides[1].minimum, sides[1].maximum
        distances = None
    chosen = cuts.coarse
    if distances is None and all(side.finite for side in sides):
        ends = (min(side.minimum for side in sides), max(side.maximum for side in sides))
        distances = binned_distances(
            np.concatenate([[ends[0], low], cuts.edges, [high, ends[1]]]).clip(*ends), counted[0], counted[1]
        )
    there = any(side.finite for side in sides)
    edges = (low, *map(float, cuts.edges[chosen]), high) if there else ()
    columns = [cuts.grouped(counts) if there else [] for counts in counted]
    if len(edges) > 2 and edges[-2] == edges[-1]:  # the last quantile is the maximum: nothing is in between
        edges = edges[:-1]
        for column in columns:
            del column[-2]
    labels = _labels(edges, shown)
    for label, attribute in (("null", "nulls"), ("NaN", "nan"), ("infinite", "infinite")):
        extra = [getattr(side, attribute) for side in sides]
        if any(extra):
            labels.append(label)
            for column, number in zip(columns, extra, strict=True):
                column.append(number)
    return Measured(
        sides[0].profile(),
        sides[1].profile(),
        Bins(tuple(labels), tuple(columns[0]), tuple(columns[1]), edges, source if there else ""),
        distances,
        (sides[0].finite, sides[1].finite),
    )


def _sorted(blocks: list[Values]) -> Values:
    values = np.sort(np.concatenate(blocks)) if blocks else np.empty(0, np.float64)
    values += 0.0  # -0.0 is 0.0 here
    return values


class _Tree:
    """Sorted edges as a binary tree, down which many values go at once, a level at a time.

    That is several times as fast as to sort the values, or to look each up by itself: no step depends on what a
    value is.
    """

    def __init__(self, edges: Values) -> None:
        self._edges = len(edges)
        self._levels = max(1, len(edges).bit_length())
        padded = np.full((1 << self._levels) - 1, np.inf)
        padded[: len(edges)] = edges
        self._nodes = np.empty(1 << self._levels)  # the root is 1, below node n lie 2n and 2n + 1
        for level in range(self._levels):
            first, step = 1 << level, 1 << (self._levels - level)
            self._nodes[first : 2 * first] = padded[step // 2 - 1 :: step]
        self._node = np.empty(_SLICE, np.intp)
        self._edge = np.empty(_SLICE, np.float64)
        self._above = np.empty(_SLICE, np.bool_)

    def count(self, values: Values) -> Counts:
        """How many values lie up to the first edge, from each edge up to the next, and above the last."""
        leaves = 1 << self._levels
        counts = np.zeros(2 * leaves, np.int64)
        for start in range(0, len(values), _SLICE):
            some = values[start : start + _SLICE]
            size = len(some)
            node, edge, above = self._node[:size], self._edge[:size], self._above[:size]
            np.greater(some, self._nodes[1], out=above)
            np.add(above, 2, out=node)
            for _ in range(self._levels - 1):
                np.take(self._nodes, node, out=edge, mode="clip")
                np.greater(some, edge, out=above)
                node += node
                node += above
            counts += np.bincount(node, minlength=2 * leaves)
        return counts[leaves : leaves + self._edges + 1]


class _Cuts:
    """Inner edges, without repetitions, and which of them bound the coarse bins."""

    def __init__(self, fine_quantiles: Values, bins: int, fine: int) -> None:
        self.edges = np.unique(fine_quantiles)
        step = fine // bins
        wanted = np.unique(fine_quantiles[step - 1 :: step])
        self.coarse = np.searchsorted(self.edges, wanted)

    def count(self, blocks: Iterable[Values], low: float, high: float) -> Counts:
        """How many values of some blocks lie below ``low``, up to each edge, up to ``high``, and above."""
        tree = _Tree(np.concatenate([[math.nextafter(low, -math.inf)], self.edges, [high]]))
        counts = np.zeros(len(self.edges) + 3, np.int64)
        for block in blocks:
            counts += tree.count(block)
        return counts

    def count_sorted(self, values: Values, low: float, high: float) -> Counts:
        """The same of values that are sorted."""
        below = np.searchsorted(values, low, "left")
        up_to = np.searchsorted(values, [*self.edges, high], "right")
        return np.diff([below, *up_to, len(values)], prepend=0)

    def grouped(self, counts: Counts) -> list[int]:
        """The counts of the coarse bins: what is below, between the coarse edges, and above."""
        sums = np.cumsum(counts)
        ends = np.concatenate([[0], self.coarse + 1, [len(self.edges) + 1, len(self.edges) + 2]])
        return [int(number) for number in np.diff(sums[ends], prepend=0)]


def _labels(edges: tuple[float, ...], shown: Callable[[float], str]) -> list[str]:
    """The names of the bins that these edges bound."""
    if not edges:
        return []
    inner = [
        shown(right) if left == right else f"{shown(left)} to {shown(right)}"
        for left, right in pairwise(edges)
    ]
    return [f"below {shown(edges[0])}", *inner, f"above {shown(edges[-1])}"]


def number_text(value: float) -> str:
    """A number, in six digits."""
    return f"{value:.6g}"


def time_text(value: float) -> str:
    """A time that is given in microseconds since 1970 UTC."""
    return _moment_text(value).removesuffix("T00:00:00")


def clock_text(value: float) -> str:
    """A time of day that is given in microseconds since midnight."""
    return _moment_text(value).partition("T")[2]


def _moment_text(value: float) -> str:
    return str(np.datetime64(int(value), "us")).rstrip("0").removesuffix(".")


def sorted_sample(arrays: Iterable[pa.Array]) -> Values:
    """The finite values of some arrays of doubles, sorted: what edges are found in."""
    return _sorted(list(_Side().blocks(arrays)))
