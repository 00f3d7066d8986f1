"""Comparing two snapshots column by column: what each column is measured by, and what counts as drift."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.drift import numbers
from fsvc.drift.metrics import Values, jensen_shannon, psi
from fsvc.drift.report import Bins, ColumnDrift, DriftReport, Finding, Profile, SchemaDrift, Side
from fsvc.drift.thresholds import Thresholds
from fsvc.engine.progress import Progress, silent
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.summary import column_summaries
from fsvc.engine.virtual import VirtualFile, layout
from fsvc.engine.writing import default_threads
from fsvc.errors import InvalidUse, NotFound
from fsvc.format.names import nearest
from fsvc.query.categories import count_categories
from fsvc.query.connection import Session
from fsvc.snapshot import Snapshot

__all__ = ["Options", "compare", "kind_of"]

EXACT_ROWS = 500_000
"""Up to so many rows on each side distances are exact, unless told otherwise."""
_MOST_CATEGORIES = 1_000
"""A text column with more different values in the first row group before is measured by the length of its texts."""
_LISTED = 100
"""So many categories have a bin of their own; the others share one."""
_NAMED = 20
"""So many new and gone categories are named."""
_SAMPLED_GROUPS = 16
"""In at most so many row groups, evenly spaced, the edges of bins are found where distances are binned."""
_SAMPLED_SHARE = 8
"""And in no more than one of so many, but one."""
_OTHERS = "all others"
_SHOWN = {"number": numbers.number_text, "time": numbers.time_text, "time of day": numbers.clock_text}
"""The kinds whose values are numbers, and how one is written."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to compare.

    Attributes:
        columns: the columns to compare and judge; None for all but the key, of which times are not judged.
        bins: how many bins the numbers before are cut into for PSI and Jensen-Shannon.
        exact: whether distances of numbers are computed from all values; None: up to EXACT_ROWS rows.
        thresholds: what counts as drift.
    """

    columns: tuple[str, ...] | None = None
    bins: int = 10
    exact: bool | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        if self.columns is not None and not self.columns:
            raise InvalidUse(
                "no columns are named to be compared", hint="without 'columns' all are, but the key"
            )
        if not 2 <= self.bins <= 1000:
            raise InvalidUse(f"there are from 2 to 1,000 bins, not {self.bins}")


def kind_of(kind: pa.DataType) -> str:
    """How columns of a type are measured: number, category, time, time of day, text (its length, perhaps), or other."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind_of(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return "category" if kind_of(kind.value_type) != "other" else "other"
    if pa.types.is_boolean(kind):
        return "category"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_duration(kind)
    ):
        return "number"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "time"
    if pa.types.is_time(kind):
        return "time of day"
    return "other"


def compare(
    before: Snapshot, after: Snapshot, options: Options | None = None, *, progress: Progress = silent
) -> DriftReport:
    """How the distributions of a snapshot's columns moved until another one.

    Of ``before`` the selected columns count, where there is a selection. Memory holds one block of a column for
    each thread, or where distances are exact, the values of one column. Columns that are equal by their digests
    are not read. Numbers are read proven, categories are counted by DuckDB in place (checked).

    Raises NotFound for a column to compare that is not there before, InvalidUse for options that make no sense.
    """
    return _Comparison(before, after, options or Options(), progress).report()


@dataclass(frozen=True, slots=True)
class _Pair:
    """One column of both sides: its name and positions, how it is measured, and whether that is judged."""

    name: str
    before: int
    after: int
    kind: str
    judged: bool


class _Comparison:
    def __init__(self, before: Snapshot, after: Snapshot, options: Options, progress: Progress) -> None:
        self.sides = (before, after)
        self.readers = (before.reader, after.reader)
        self.options = options
        self.progress = progress
        rows = max(before.num_rows, after.num_rows)
        self.exact = rows <= EXACT_ROWS if options.exact is None else options.exact
        self._over = Event()

    def report(self) -> DriftReport:
        pairs, schema, excluded = self._pairs()
        measured: dict[str, ColumnDrift] = {}
        if all(side.num_rows for side in self.sides):
            same = self._identical(pairs)
            measured.update({pair.name: self._unread(pair) for pair in pairs if pair.name in same})
            self._measure([pair for pair in pairs if pair.name not in same], measured, len(pairs))
        else:
            for pair in pairs:
                sides = [Profile(side.num_rows, 0) for side in self.sides]
                measured[pair.name] = ColumnDrift(
                    pair.name, pair.kind, "none", pair.judged, sides[0], sides[1], {}
                )
        before, after = map(_side, self.sides)
        columns = tuple(measured[pair.name] for pair in pairs)
        return DriftReport(before, after, columns, schema, self.options.thresholds, excluded)

    # -- what is compared ------------------------------------------------------------------------

    def _pairs(self) -> tuple[list[_Pair], SchemaDrift, tuple[str, ...]]:
        before, after = (reader.manifest.schema for reader in self.readers)
        asked = self.options.columns or self.sides[0].columns
        excluded: tuple[str, ...] = ()
        if self.options.columns is not None:
            self._check_there(self.options.columns, before, after)
        if asked is None:
            excluded = tuple(name for name in before.names if name in self.sides[0].key)
        names = [name for name in asked or before.names if name not in excluded]
        dropped = tuple(name for name in names if after.get_field_index(name) < 0)
        added = (
            tuple(name for name in after.names if before.get_field_index(name) < 0) if asked is None else ()
        )
        pairs, retyped = [], []
        for name in names:
            if name in dropped:
                continue
            old, new = before.field(name).type, after.field(name).type
            if not old.equals(new) and not _interchangeable(old, new):
                retyped.append((name, str(old), str(new)))
            kind = _common_kind(old, new)
            if kind is not None:
                judged = kind != "time" or asked is not None
                pairs.append(
                    _Pair(name, before.get_field_index(name), after.get_field_index(name), kind, judged)
                )
        return pairs, SchemaDrift(added, dropped, tuple(retyped)), excluded

    def _check_there(self, columns: Sequence[str], before: pa.Schema, after: pa.Schema) -> None:
        for name in columns:
            if before.get_field_index(name) < 0:
                near = nearest(name, [*before.names, *after.names])
                raise NotFound(
                    f"{_side(self.sides[0])} has no column {name!r}",
                    hint=f"did you mean {near[0]!r}?" if near else None,
                )

    def _identical(self, pairs: Sequence[_Pair]) -> set[str]:
        """The columns whose chunks have the same digests, under the same cuts."""
        one, other = (reader.manifest for reader in self.readers)
        if tuple(one.rows) != tuple(other.rows):
            return set()
        before = column_summaries(self.readers[0], [pair.before for pair in pairs])
        after = column_summaries(self.readers[1], [pair.after for pair in pairs])
        return {
            pair.name
            for pair, old, new in zip(pairs, before, after, strict=True)
            if old.digest == new.digest and old.type == new.type
        }

    def _unread(self, pair: _Pair) -> ColumnDrift:
        (summary,) = column_summaries(self.readers[0], [pair.before])
        profile = Profile(self.sides[0].num_rows, summary.nulls or 0)
        metrics = dict.fromkeys(("psi", "js", "nulls"), 0.0)
        if pair.kind in _SHOWN:
            metrics |= dict.fromkeys(("ks", "ks_error", "wasserstein", "wasserstein_error"), 0.0)
        return ColumnDrift(pair.name, pair.kind, "identical", pair.judged, profile, profile, metrics)

    # -- measuring -------------------------------------------------------------------------------

    def _measure(self, pairs: Sequence[_Pair], measured: dict[str, ColumnDrift], total: int) -> None:
        session: Session | None = None
        pool = ThreadPoolExecutor(default_threads(), thread_name_prefix="fsvc-drift")
        try:
            pairs = [dataclasses.replace(pair, kind=self._kind(pair)) for pair in pairs]
            lengths = [pair for pair in pairs if pair.kind in (*_SHOWN, "text")]
            running = [pool.submit(self._numbers, pair) for pair in lengths]
            counted = [pair for pair in pairs if pair.kind == "category"]
            if counted:
                session = Session()
                tables = self._served(session, counted)
            for pair in pairs:
                if pair.kind == "category":
                    assert session is not None
                    measured[pair.name] = self._categories(session, tables, pair)
                elif pair.kind == "other":
                    measured[pair.name] = self._nulls_only(pair)
                self.progress("columns", len(measured), total)
            for done in running:
                column = done.result()
                measured[column.name] = column
                self.progress("columns", len(measured), total)
        finally:
            self._over.set()
            pool.shutdown(cancel_futures=True)
            if session is not None:
                session.close()

    def _kind(self, pair: _Pair) -> str:
        """How a column is measured: a text by its values, where the first row group has few different ones."""
        if pair.kind != "text":
            return pair.kind
        reader = self.readers[0]
        different = pc.count_distinct(reader.chunk(pair.before, 0)).as_py()
        return "text" if different > _MOST_CATEGORIES else "category"

    def _served(self, session: Session, counted: Sequence[_Pair]) -> tuple[str, str]:
        """What to write after FROM for the columns whose categories are counted."""
        tables = []
        for which, reader in zip(("before", "after"), self.readers, strict=True):
            columns = [pair.before if which == "before" else pair.after for pair in counted]
            content = VirtualFile(reader.objects, layout(reader, columns))
            tables.append(session.table(content, f"{which}-{reader.manifest.id}"))
        return tables[0], tables[1]

    def _numbers(self, pair: _Pair) -> ColumnDrift:
        positions = (pair.before, pair.after)
        sample, source = None, ""
        parts: Sequence[Iterable[pa.Array]]
        if self.exact:
            parts = [
                [_whole(reader, at, self._over)] for reader, at in zip(self.readers, positions, strict=True)
            ]
        else:
            parts = [
                _parts(reader, at, self._over) for reader, at in zip(self.readers, positions, strict=True)
            ]
            sample, source = _sample(self.readers[0], pair.before)
        shown = _SHOWN.get(pair.kind, numbers.number_text)
        found = numbers.measure(*parts, bins=self.options.bins, sample=sample, source=source, shown=shown)
        metrics = _share_metrics(found.before, found.after, found.bins)
        if found.distances is not None:
            metrics |= found.distances._asdict()
            if found.before.deviation:
                metrics["wasserstein_scaled"] = found.distances.wasserstein / found.before.deviation
        column = ColumnDrift(
            pair.name,
            pair.kind,
            "exact" if self.exact else "binned",
            pair.judged,
            found.before,
            found.after,
            metrics,
            found.bins,
        )
        return self._judged(column, finite=found.finite)

    def _categories(self, session: Session, tables: tuple[str, str], pair: _Pair) -> ColumnDrift:
        found = count_categories(session, *tables, pair.name, listed=_LISTED, named=_NAMED)
        labels = [value for value, _, _ in found.frequent]
        before = [b for _, b, _ in found.frequent]
        after = [a for _, _, a in found.frequent]
        nulls = [side.num_rows - sum(counts) - other
                 for side, counts, other in zip(self.sides, (before, after), found.others, strict=True)]  # fmt: skip
        for label, extra in ((_OTHERS, found.others), ("null", nulls)):
            if any(extra):
                labels.append(label)
                before.append(extra[0])
                after.append(extra[1])
        sides = [
            Profile(side.num_rows, null, distinct=distinct)
            for side, null, distinct in zip(self.sides, nulls, found.distinct, strict=True)
        ]
        bins = Bins(tuple(labels), tuple(before), tuple(after), source=f"the {_LISTED} most frequent values")
        metrics = _share_metrics(sides[0], sides[1], bins)
        metrics["unseen"] = found.new_rows / self.sides[1].num_rows
        column = ColumnDrift(
            pair.name,
            "category",
            "counted",
            pair.judged,
            sides[0],
            sides[1],
            metrics,
            bins,
            found.new,
            found.gone,
            found.new_categories,
            found.gone_categories,
        )
        return self._judged(column, singletons=found.singletons)

    def _nulls_only(self, pair: _Pair) -> ColumnDrift:
        sides = [
            Profile(reader.manifest.num_rows, sum(array.null_count for array in _arrays(reader, at)))
            for reader, at in zip(self.readers, (pair.before, pair.after), strict=True)
        ]
        metrics = {"nulls": sides[1].missing - sides[0].missing}
        return self._judged(
            ColumnDrift(pair.name, "other", "nulls", pair.judged, sides[0], sides[1], metrics)
        )

    # -- judging ---------------------------------------------------------------------------------

    def _judged(
        self, column: ColumnDrift, *, finite: tuple[int, int] = (0, 0), singletons: int = 0
    ) -> ColumnDrift:
        """The column with what passed its threshold, and what chance does at these numbers of rows."""
        thresholds, metrics = self.options.thresholds, column.metrics
        rows = column.before.rows, column.after.rows
        chances: dict[str, float] = {}
        if column.bins is not None and "psi" in metrics:
            filled = sum(map(bool, map(sum, zip(column.bins.before, column.bins.after, strict=True))))
            chances["psi"] = thresholds.psi_by_chance(filled, *rows)
            chances["js"] = thresholds.js_by_chance(filled, *rows)
        if "ks" in metrics:
            chances["ks"] = thresholds.ks_by_chance(*finite)
        if "wasserstein_scaled" in metrics:
            chances["wasserstein"] = thresholds.wasserstein_by_chance(*finite)
        common = (column.before.missing * rows[0] + column.after.missing * rows[1]) / sum(rows)
        chances["nulls"] = thresholds.share_by_chance(common, *rows)
        if "unseen" in metrics:
            chances["unseen"] = thresholds.unseen_by_chance(singletons, *rows)
        findings = []
        for metric, chance in chances.items():
            value = abs(metrics["wasserstein_scaled" if metric == "wasserstein" else metric])
            limit = thresholds.limit(metric, chance)
            if limit is not None and value > limit:
                findings.append(Finding(metric, value, limit, chance))
        return dataclasses.replace(column, findings=tuple(findings))


def _side(snapshot: Snapshot) -> Side:
    return Side(snapshot.name, snapshot.version, snapshot.commit.id, snapshot.id, snapshot.num_rows)


def _share_metrics(before: Profile, after: Profile, bins: Bins) -> dict[str, float]:
    counts = np.array(bins.before, np.int64), np.array(bins.after, np.int64)
    return {"psi": psi(*counts), "js": jensen_shannon(*counts), "nulls": after.missing - before.missing}


def _common_kind(old: pa.DataType, new: pa.DataType) -> str | None:
    """How a pair of columns is measured; None where their values say different things."""
    kinds = {kind_of(old), kind_of(new)}
    if kinds == {"category", "text"}:
        values = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (old, new)]
        return "text" if all(kind_of(value) == "text" for value in values) else None
    if len(kinds) > 1:
        return None
    (kind,) = kinds
    if kind == "time" and not old.equals(new):
        # A time with a zone is a point in time, one without is what a clock showed; a date is a day.
        alike = pa.types.is_timestamp(old) and pa.types.is_timestamp(new)
        return kind if alike and (old.tz is None) == (new.tz is None) else None
    if kind == "number" and not old.equals(new) and (pa.types.is_duration(old) or pa.types.is_duration(new)):
        return None
    return kind


def _interchangeable(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether two types are the same to whoever reads values: texts in another layout, other dictionary indices."""
    if pa.types.is_dictionary(old) and pa.types.is_dictionary(new):
        return bool(old.value_type.equals(new.value_type))
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return all(any(test(kind) for test in texts) for kind in (old, new))


def _arrays(reader: SnapshotReader, column: int) -> Iterator[pa.Array]:
    """A column, group by group, proven, in the type of the schema."""
    # Columns are read side by side, so one thread reads each.
    for batch in reader.batches([reader.manifest.schema.field(column).name], threads=1):
        yield batch.column(0)


def _parts(reader: SnapshotReader, column: int, over: Event) -> Iterator[pa.Array]:
    """A column as doubles, group by group. Raises CancelledError once ``over`` is set: nobody waits for the rest."""
    for array in _arrays(reader, column):
        if over.is_set():
            raise CancelledError
        yield numbers.as_numbers(array)


def _whole(reader: SnapshotReader, column: int, over: Event) -> pa.Array:
    parts = list(_parts(reader, column, over))
    return pa.concat_arrays(parts) if parts else pa.array([], pa.float64())


def _sample(reader: SnapshotReader, column: int) -> tuple[Values, str]:
    """The values of some row groups, evenly spaced, in which edges are found; and that in words."""
    groups = len(reader.manifest.rows)
    count = max(1, min(_SAMPLED_GROUPS, groups // _SAMPLED_SHARE))
    chosen = sorted({(2 * i + 1) * groups // (2 * count) for i in range(count)})
    rows = sum(reader.manifest.rows[group] for group in chosen)
    chunks = (reader.restored(reader.chunk(column, group), column) for group in chosen)
    values = numbers.sorted_sample(map(numbers.as_numbers, chunks))
    if count == groups:
        return values, "quantiles of all values before"
    return (
        values,
        f"quantiles of {rows:,} of {reader.manifest.num_rows:,} rows before, {count} row groups evenly spaced",
    )
