"""What a comparison of two distributions found: plain values, as an object and as a JSON document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fsvc.drift.page import page
from fsvc.drift.thresholds import Thresholds

__all__ = [
    "Bins",
    "ColumnDrift",
    "DriftReport",
    "Finding",
    "Profile",
    "SchemaDrift",
    "Side",
    "document",
    "html",
]

REPORT_VERSION = 1
"""The version of the JSON document, which grows when the meaning of a key changes."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two snapshots: its feature set, version, commit and snapshot ids, rows."""

    feature_set: str
    version: int
    commit: str
    snapshot: str
    rows: int

    def __str__(self) -> str:
        return f"{self.feature_set}@v{self.version}"


@dataclass(frozen=True, slots=True)
class Profile:
    """One side of a column.

    ``rows`` of which ``nulls``, ``nan`` and ``infinite`` (either sign) have no finite number. ``minimum``, ``maximum``,
    ``mean`` and ``deviation`` (of the population) are of the finite numbers, in the column's unit: of times
    microseconds since 1970 UTC, or since midnight, of texts characters; None where there are none. ``distinct`` is
    how many categories there are.
    """

    rows: int
    nulls: int
    nan: int = 0
    infinite: int = 0
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
    distinct: int | None = None

    @property
    def missing(self) -> float:
        """The share of nulls and NaN, 0 of no rows."""
        return (self.nulls + self.nan) / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Bins:
    """The bins that PSI, Jensen-Shannon and the pictures rest on, and what both sides have in them.

    ``labels[i]`` names the bin of ``before[i]`` and ``after[i]`` rows. Of numbers, ``edges`` bound the bins: the
    first holds what is below edge 0, the last what is above the last edge, and in between bin i holds what is
    above edge i - 1 and up to edge i, edge 0 included; then come, where there are any, bins of values that
    are no finite numbers. ``source`` says where the edges come from.
    """

    labels: tuple[str, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    edges: tuple[float, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A measure that passed its limit: ``value`` is above ``limit``, of which chance explains ``chance``."""

    metric: str
    value: float
    limit: float
    chance: float


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How the values of one column moved.

    Attributes:
        name: the column.
        kind: how it was measured: ``number``, ``category``, ``time``, ``time of day``, ``text`` (by its length) or
            ``other`` (nulls only).
        method: ``exact``, ``binned``, ``identical`` (known by its digests, not read), ``counted`` (categories),
            ``nulls`` (nothing else is measured), or ``none`` (one side has no rows).
        judged: whether it counts; times do only where they were asked for by name.
        before, after: what each side is.
        metrics: ``psi``, ``js``, ``ks``, ``ks_error``, ``wasserstein`` and ``wasserstein_error`` (in the
            column's unit), ``wasserstein_scaled`` (in standard deviations before), ``nulls`` and ``unseen``
            (shares); only those that are defined.
        bins: the bins, None where there are none.
        new, gone: of categories, the most frequent ones of one side only, with their rows.
        new_categories, gone_categories: how many there are of them.
        findings: what passed its threshold.
    """

    name: str
    kind: str
    method: str
    judged: bool
    before: Profile
    after: Profile
    metrics: Mapping[str, float]
    bins: Bins | None = None
    new: tuple[tuple[str, int], ...] = ()
    gone: tuple[tuple[str, int], ...] = ()
    new_categories: int = 0
    gone_categories: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether it counts, and something passed its threshold."""
        return self.judged and bool(self.findings)


@dataclass(frozen=True, slots=True)
class SchemaDrift:
    """How the columns differ that were to be compared. ``retyped`` has name, old type and new type."""

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether a model of the old columns cannot take the new ones: a column is gone or of another type."""
        return bool(self.dropped or self.retyped)


@dataclass(frozen=True, slots=True)
class DriftReport:
    """How the distributions of a feature set's columns moved from one snapshot to another.

    ``emptied`` says that exactly one side has no rows: then no column can be measured, and that is drift.
    """

    before: Side
    after: Side
    columns: tuple[ColumnDrift, ...]
    schema: SchemaDrift
    thresholds: Thresholds
    excluded: tuple[str, ...] = ()

    @property
    def emptied(self) -> bool:
        """Whether exactly one side has no rows."""
        return (self.before.rows == 0) != (self.after.rows == 0)

    @property
    def drifted(self) -> bool:
        """Whether anything counts as drift: a column, the schema, or that there are no rows any more."""
        return self.emptied or self.schema.drifted or bool(self.drifted_columns)

    @property
    def drifted_columns(self) -> tuple[str, ...]:
        """The names of the columns that drifted, in the order of the table."""
        return tuple(column.name for column in self.columns if column.drifted)

    def column(self, name: str) -> ColumnDrift:
        """One column by name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def greatest(self, metric: str) -> float | None:
        """The greatest value of a metric among the columns that are judged; None where none has it."""
        values = [
            column.metrics[metric] for column in self.columns if column.judged and metric in column.metrics
        ]
        return max(values, default=None)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it; what is no finite number is a text."""
        plain = {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "drifted": self.drifted,
            "drifted_columns": list(self.drifted_columns),
            "emptied": self.emptied,
            "schema": {**asdict(self.schema), "drifted": self.schema.drifted},
            "thresholds": asdict(self.thresholds),
            "excluded": list(self.excluded),
            "columns": [{**asdict(column), "drifted": column.drifted} for column in self.columns],
        }
        found: dict[str, Any] = _plain(plain)
        return found

    def to_html(self) -> str:
        """The report as a page that needs nothing else: see :func:`html`."""
        return html({self.before.feature_set: self})

    def _repr_html_(self) -> str:
        return self.to_html()


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def document(reports: Mapping[str, DriftReport]) -> dict[str, Any]:
    """The JSON document of the reports of several feature sets."""
    return {
        "report_version": REPORT_VERSION,
        "drifted": any(report.drifted for report in reports.values()),
        "feature_sets": {name: report.to_dict() for name, report in reports.items()},
    }


def html(reports: Mapping[str, DriftReport]) -> str:
    """One page of the reports of several feature sets: HTML and CSS alone, no script, nothing from elsewhere."""
    return page({name: report.to_dict() for name, report in reports.items()})
