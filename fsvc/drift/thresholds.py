"""When a distance counts as drift: an effect that matters, and more than chance does at this number of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from statistics import NormalDist

from fsvc.errors import InvalidUse
from fsvc.format.names import nearest

__all__ = ["Thresholds", "parse_thresholds"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on a distance counts as drift. None: it is measured, and never counts.

    A distance has to pass its threshold *and* what two samples of one population, of as many rows, stay
    below with the probability ``confidence``. docs/drift.md has the formulas, and why the defaults are what they are.

    Attributes:
        psi: the population stability index, 0.25 by convention "a major shift".
        ks: the Kolmogorov-Smirnov statistic of numbers, 0 to 1.
        js: the Jensen-Shannon distance, 0 to 1.
        wasserstein: Wasserstein's distance of numbers, in standard deviations of the values before.
        nulls: by how much the share of nulls (and NaN) changed, 0 to 1.
        unseen: the share of rows whose category was not there before, 0 to 1.
        confidence: of the part that chance plays.

    Raises InvalidUse for numbers that make no sense.
    """

    psi: float | None = 0.25
    ks: float | None = 0.2
    js: float | None = None
    wasserstein: float | None = None
    nulls: float | None = 0.05
    unseen: float | None = 0.01
    confidence: float = 0.999

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InvalidUse(f"the threshold {field.name} is not a number from 0 on: {value}")
        if not 0.5 <= self.confidence < 1:
            raise InvalidUse(f"the confidence is a number from 0.5 to below 1, not {self.confidence}")

    def limit(self, metric: str, chance: float) -> float | None:
        """What a metric has to pass, where chance alone reaches ``chance``; None where it never counts."""
        threshold: float | None = getattr(self, metric)
        return None if threshold is None else max(threshold, chance)

    # -- what chance does, with the probability 1 - confidence at most -------------------------------

    def psi_by_chance(self, bins: int, before: int, after: int) -> float:
        """Of PSI with so many bins that hold anything: it is chi-squared with bins - 1 degrees, scaled."""
        return _chi_squared(self.confidence, bins - 1) * (1 / before + 1 / after)

    def js_by_chance(self, bins: int, before: int, after: int) -> float:
        """Of the Jensen-Shannon distance: for small distances its square is PSI / (8 ln 2)."""
        return min(1.0, math.sqrt(self.psi_by_chance(bins, before, after) / (8 * math.log(2))))

    def ks_by_chance(self, before: int, after: int) -> float:
        """Of the Kolmogorov-Smirnov statistic: the asymptotic critical value of the two-sample test."""
        return math.sqrt(-math.log((1 - self.confidence) / 2) / 2 * (1 / before + 1 / after))

    def wasserstein_by_chance(self, before: int, after: int) -> float:
        """Of Wasserstein's distance in standard deviations: that of the difference of two means."""
        return self._normal * math.sqrt(1 / before + 1 / after)

    def share_by_chance(self, share: float, before: int, after: int) -> float:
        """Of the difference of two shares whose common value is ``share``."""
        return self._normal * math.sqrt(share * (1 - share) * (1 / before + 1 / after))

    def unseen_by_chance(self, singletons: int, before: int, after: int) -> float:
        """Of the share of unseen categories: by Good and Turing it is that of categories seen just once."""
        share = singletons / before
        return share + self._normal * math.sqrt(share * (1 / before + 1 / after))

    @property
    def _normal(self) -> float:
        return NormalDist().inv_cdf((1 + self.confidence) / 2)


def _chi_squared(probability: float, degrees: int) -> float:
    """The quantile of chi-squared by Wilson and Hilferty's approximation, within 4% of it; 0 of 0 degrees."""
    if degrees <= 0:
        return 0.0
    spread = 2 / (9 * degrees)
    cube = 1 - spread + NormalDist().inv_cdf(probability) * math.sqrt(spread)
    return float(degrees * max(cube, 0.0) ** 3)


def parse_thresholds(given: Mapping[str, str], thresholds: Thresholds | None = None) -> Thresholds:
    """Thresholds with some of them given as texts, ``none`` for None. Raises InvalidUse."""
    known = [field.name for field in fields(Thresholds)]
    values: dict[str, float | None] = {}
    for name, text in given.items():
        if name not in known:
            near = nearest(name, known)
            raise InvalidUse(
                f"there is no threshold {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}",
            )
        try:
            values[name] = None if text == "none" and name != "confidence" else float(text)
        except ValueError:
            raise InvalidUse(f"the threshold {name} is not a number: {text!r}") from None
    return replace(thresholds or Thresholds(), **values)  # type: ignore[arg-type]  # names were checked
