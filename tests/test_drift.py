"""Drift is what scipy says it is, is bounded where it is binned, and is defined for whatever a column holds."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import special, stats
from scipy.spatial import distance

import fsvc
from fsvc.drift import Thresholds, document, html
from fsvc.drift.metrics import SMALLEST_SHARE, binned_distances, exact_distances, jensen_shannon, psi
from fsvc.drift.numbers import measure
from fsvc.errors import InvalidUse, NotFound

SHAPES = {
    "normal": lambda random, n: random.normal(3, 2, n),
    "heavy": lambda random, n: random.lognormal(4, 1.5, n),
    "rounded": lambda random, n: random.gamma(2, 3, n).round(1),
    "zeros": lambda random, n: np.where(random.random(n) < 0.3, 0.0, random.exponential(5, n)),
    "counts": lambda random, n: random.poisson(2, n).astype(float),
}
CHANGES = {
    "same": lambda values: values,
    "moved": lambda values: values * 4 + 5,
    "few": lambda values: values[::7],
}


@pytest.fixture
def repo(tmp_path: Path) -> fsvc.Repository:
    return fsvc.init(tmp_path / "repository", author="Ada")


def committed(repo: fsvc.Repository, before: Any, after: Any, **options: Any) -> Any:
    """The drift from one table to another, each a dict of columns."""
    for number, columns in enumerate((before, after)):
        repo.commit({"t": pa.table(columns)}, message=f"{number}", allow_empty=True, **options)
    return repo.snapshot("t@~1"), repo.snapshot("t")


def drift(repo: fsvc.Repository, before: Any, after: Any, **options: Any) -> Any:
    return repo.drift(*committed(repo, before, after), **options)


def column(repo: fsvc.Repository, before: Any, after: Any, **options: Any) -> Any:
    """The drift of one column."""
    return drift(repo, {"x": before}, {"x": after}, **options).columns[0]


# -- what the numbers are ---------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1_000, 100_000, pytest.param(10_000_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("shape", SHAPES)
def test_exact_distances_are_those_of_scipy_and_binned_ones_keep_their_error(
    repo: fsvc.Repository, shape: str, change: str, rows: int
) -> None:
    random = np.random.default_rng(rows)
    one = SHAPES[shape](random, rows)
    other = CHANGES[change](SHAPES[shape](random, rows))
    before, after = committed(repo, {"x": one}, {"x": other})
    exact = repo.drift(before, after, exact=True).columns[0]
    ks = stats.ks_2samp(one, other).statistic
    moved = stats.wasserstein_distance(one, other)
    assert exact.method == "exact"
    assert exact.metrics["ks"] == pytest.approx(ks, abs=1e-6)
    assert exact.metrics["wasserstein"] == pytest.approx(moved, rel=1e-6)
    assert exact.metrics["wasserstein_scaled"] == pytest.approx(moved / one.std(), rel=1e-6)
    assert (exact.before.mean, exact.before.deviation) == pytest.approx((one.mean(), one.std()))

    binned = repo.drift(before, after, exact=False).columns[0]
    assert binned.method == "binned"
    assert binned.metrics["ks"] <= ks + 1e-12 <= binned.metrics["ks"] + binned.metrics["ks_error"] + 2e-12
    assert abs(binned.metrics["wasserstein"] - moved) <= binned.metrics["wasserstein_error"] + 1e-9
    assert binned.metrics["ks_error"] < 0.5

    for found in (exact, binned):
        # What is in the bins is counted in full, whatever the edges are.
        counts = [np.histogram(values, _half_open(found.bins.edges))[0] for values in (one, other)]
        assert [list(found.bins.before), list(found.bins.after)] == [list(count) for count in counts]
        p, q = (np.array(count) / sum(count) for count in counts)
        assert found.metrics["js"] == pytest.approx(distance.jensenshannon(p, q, base=2), abs=1e-6)
        least = max(SMALLEST_SHARE, 0.5 / min(map(sum, counts)))
        p, q = np.maximum(p, least), np.maximum(q, least)
        expected = (special.rel_entr(p, q) + special.rel_entr(q, p)).sum()
        assert found.metrics["psi"] == pytest.approx(expected, abs=1e-6)
    assert exact.drifted == binned.drifted == (change == "moved")


def _half_open(edges: tuple[float, ...]) -> list[float]:
    """The edges for numpy, whose bins hold their left edge where ours hold their right one."""
    first, *others = edges
    return [-math.inf, first, *(math.nextafter(edge, math.inf) for edge in others), math.inf]


@given(
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60),
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60),
    st.lists(st.floats(-1e9, 1e9), min_size=0, max_size=9),
)
def test_distances_of_any_values(one: list[float], other: list[float], cuts: list[float]) -> None:
    before, after = np.sort(np.array(one)), np.sort(np.array(other))
    found = exact_distances(before, after)
    assert found.ks == pytest.approx(stats.ks_2samp(before, after, method="asymp").statistic, abs=1e-9)
    scale = max(1.0, np.abs(np.concatenate([before, after])).max())
    assert found.wasserstein == pytest.approx(stats.wasserstein_distance(before, after), abs=1e-9 * scale)
    ends = [min(before[0], after[0]), max(before[-1], after[-1])]
    edges = np.array([ends[0], *sorted(cut for cut in cuts if ends[0] < cut < ends[1]), ends[1]])
    rough = binned_distances(edges, *(_binned(edges, values) for values in (before, after)))
    assert rough.ks - 1e-9 <= found.ks <= rough.ks + rough.ks_error + 1e-9
    assert abs(rough.wasserstein - found.wasserstein) <= rough.wasserstein_error + 1e-6 * scale


numbers_of_all_kinds = st.lists(
    st.one_of(
        st.floats(),
        st.none(),
        st.integers(-3, 3).map(float),
        st.sampled_from([-0.0, 5e-324, 1.7e308, -1.7e308]),
    ),
    max_size=80,
)


@given(numbers_of_all_kinds, numbers_of_all_kinds, st.integers(2, 40), st.sampled_from([1, 7, 1 << 14]))
def test_what_is_counted_in_any_order_is_what_sorting_finds(
    one: list[float | None], other: list[float | None], bins: int, at_once: int
) -> None:
    before, after = (pa.array(values, pa.float64()) for values in (one, other))
    numbers = np.array([value for value in one if value is not None and math.isfinite(value)])
    told: Any = {"bins": bins, "source": "", "shown": repr}
    exact = measure([before], [after], sample=None, **told)
    assume(len(numbers))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsvc.drift.numbers._SLICE", at_once)
        parts = [[array[:5], array[5:]] for array in (before, after)]
        counted = measure(*parts, sample=np.sort(numbers) + 0.0, **told)
    assert replace(counted.bins, source="") == replace(exact.bins, source="")
    assert counted.finite == exact.finite
    for side in ("before", "after"):
        found, right = getattr(counted, side), getattr(exact, side)
        assert replace(found, mean=None, deviation=None) == replace(right, mean=None, deviation=None)
        assert math.copysign(1, found.minimum or 0.0) == math.copysign(1, right.minimum or 0.0)


def _binned(edges: Any, values: Any) -> Any:
    return np.diff(np.concatenate([[0], np.searchsorted(values, edges[1:], "right")]))


def test_metrics_of_known_shares() -> None:
    even, same = np.array([50, 50]), np.array([500, 500])
    assert psi(even, same) == jensen_shannon(even, same) == 0.0
    assert psi(even, np.array([75, 25])) == pytest.approx(0.25 * math.log(1.5) - 0.25 * math.log(0.5))
    assert jensen_shannon(np.array([1, 0]), np.array([0, 1])) == 1.0


# -- what counts as drift ---------------------------------------------------------------------------


def test_chance_alone_is_no_drift() -> None:
    """The limits are what the statistics say: about one in a thousand of samples of one population is above."""
    random = np.random.default_rng(5)
    thresholds = Thresholds(psi=0, ks=0, js=0, wasserstein=0)
    passed = {"psi": 0, "js": 0, "ks": 0, "wasserstein": 0}
    rounds, n, m = 2_000, 400, 300
    for _ in range(rounds):
        one, other = np.sort(random.normal(size=n)), np.sort(random.normal(size=m))
        edges = [-np.inf, *np.quantile(one, np.arange(1, 10) / 10), np.inf]
        counts = [np.histogram(values, edges)[0] for values in (one, other)]
        moved = exact_distances(one, other)
        passed["psi"] += psi(*counts) > thresholds.psi_by_chance(10, n, m)
        passed["js"] += jensen_shannon(*counts) > thresholds.js_by_chance(10, n, m)
        passed["ks"] += moved.ks > thresholds.ks_by_chance(n, m)
        passed["wasserstein"] += moved.wasserstein / one.std() > thresholds.wasserstein_by_chance(n, m)
    # PSI's logarithms make it a little larger than chi-squared in small samples.
    assert all(count <= rounds * 0.005 for count in passed.values()), passed


@pytest.mark.parametrize("degrees", [1, 2, 9, 50, 200])
def test_the_limit_of_psi_is_chi_squared(degrees: int) -> None:
    exact = stats.chi2.ppf(0.999, degrees)
    assert Thresholds().psi_by_chance(degrees + 1, 1, 10**12) == pytest.approx(exact, rel=0.04)


def test_a_small_sample_needs_more(repo: fsvc.Repository) -> None:
    random = np.random.default_rng(1)
    few = column(repo, random.normal(0, 1, 20), random.normal(0, 1, 20))
    assert few.metrics["psi"] > 0.25  # the convention alone would call this drift
    assert not few.drifted
    many = column(repo, random.normal(0, 1, 2_000), random.normal(0.7, 1, 2_000))
    assert [finding.metric for finding in many.findings] == ["psi", "ks"]
    assert all(finding.value > finding.limit >= finding.chance for finding in many.findings)


def test_thresholds_are_the_users(repo: fsvc.Repository) -> None:
    random = np.random.default_rng(2)
    before, after = committed(repo, {"x": random.normal(0, 1, 9_000)}, {"x": random.normal(0.4, 1, 9_000)})
    assert not repo.drift(before, after).drifted
    assert repo.drift(before, after, thresholds=Thresholds(psi=0.1)).drifted_columns == ("x",)
    only = Thresholds(psi=None, ks=None, wasserstein=0.3)
    (finding,) = repo.drift(before, after, thresholds=only).columns[0].findings
    assert (finding.metric, round(finding.value, 1)) == ("wasserstein", 0.4)
    with pytest.raises(InvalidUse, match="psi"):
        Thresholds(psi=-1)
    with pytest.raises(InvalidUse, match="confidence"):
        Thresholds(confidence=1.0)
    with pytest.raises(InvalidUse, match="bins"):
        repo.drift(before, after, bins=1)


# -- categories -------------------------------------------------------------------------------------


def test_categories_new_and_gone(repo: fsvc.Repository) -> None:
    before = ["a"] * 500 + ["b"] * 400 + ["old"] * 100
    after = ["a"] * 500 + ["b"] * 400 + ["new"] * 90 + ["newer"] * 10
    found = column(repo, before, after)
    assert (found.kind, found.method) == ("category", "counted")
    assert (found.new, found.gone) == ((("new", 90), ("newer", 10)), (("old", 100),))
    assert (found.before.distinct, found.after.distinct) == (3, 4)
    assert found.metrics["unseen"] == 0.1
    assert "unseen" in [finding.metric for finding in found.findings]
    assert dict(zip(found.bins.labels, found.bins.after, strict=True))["new"] == 90


def test_an_unseen_category_that_had_to_be_expected_is_no_drift(repo: fsvc.Repository) -> None:
    rare = [f"only once {i}" for i in range(40)]
    found = column(repo, ["common"] * 960 + rare, ["common"] * 970 + [f"also once {i}" for i in range(30)])
    assert found.metrics["unseen"] == 0.03
    assert "unseen" not in [finding.metric for finding in found.findings]


def test_many_categories_share_a_bin_and_texts_are_measured_by_length(repo: fsvc.Repository) -> None:
    some = [f"c{i % 300}" for i in range(3_000)]
    found = column(repo, some, some[:1400] * 2 + some[:200])
    assert found.kind == "category" and len(found.bins.labels) == 101
    assert sum(found.bins.before) == sum(found.bins.after) == 3_000
    texts = [f"{i:05}" for i in range(3_000)]
    longer = column(repo, texts, [text * 2 for text in texts])
    assert (longer.kind, longer.before.mean, longer.after.mean) == ("text", 5.0, 10.0)
    assert longer.drifted


def test_dictionaries_booleans_and_texts_are_categories(repo: fsvc.Repository) -> None:
    plain = ["x", "y", None] * 50
    coded = pa.array(plain).dictionary_encode()
    assert column(repo, coded, pa.array(plain[:75])).metrics["unseen"] == 0.0
    found = column(repo, [True, False, None] * 50, [True] * 150)
    assert dict(zip(found.bins.labels, found.bins.before, strict=True)) == {
        "true": 50,
        "false": 50,
        "null": 50,
    }
    assert found.metrics["nulls"] == pytest.approx(-1 / 3)


# -- whatever a column holds ------------------------------------------------------------------------


def test_a_table_that_became_empty_is_drift_and_two_empty_ones_are_not(repo: fsvc.Repository) -> None:
    full, empty = {"x": [1.0, 2.0]}, {"x": pa.array([], pa.float64())}
    report = drift(repo, full, empty)
    assert report.emptied and report.drifted and report.columns[0].metrics == {}
    before, after = committed(repo, empty, {"x": pa.array([], pa.float64()), "y": pa.array([], pa.int8())})
    report = repo.drift(before, after)
    assert not report.emptied and not report.drifted
    assert "nothing can be compared" in drift(repo, full, empty).to_html()


def test_constants(repo: fsvc.Repository) -> None:
    same = column(repo, [5.0] * 100, [5.0] * 90)
    assert same.metrics == {
        "psi": 0.0, "js": 0.0, "ks": 0.0, "ks_error": 0.0, "wasserstein": 0.0, "wasserstein_error": 0.0, "nulls": 0.0
    }  # fmt: skip
    assert same.bins.labels == ("below 5", "5", "above 5")
    for other in (4.0, 6.0):
        for exact in (True, False):
            moved = column(repo, [5.0] * 100, [other] * 100, exact=exact)
            assert moved.drifted and moved.metrics["ks"] == 1.0
            assert abs(moved.metrics["wasserstein"] - 1.0) <= moved.metrics["wasserstein_error"]


def test_nothing_but_nulls(repo: fsvc.Repository) -> None:
    nothing = pa.nulls(100, pa.float64())
    for exact in (True, False):
        assert column(repo, nothing, nothing[:90], exact=exact).metrics == {
            "psi": 0.0,
            "js": 0.0,
            "nulls": 0.0,
        }
        came = column(repo, nothing, np.arange(100.0), exact=exact)
        assert came.drifted and came.metrics["nulls"] == -1.0 and "ks" not in came.metrics
        assert came.before.minimum is None and came.after.maximum == 99.0
        gone = column(repo, np.arange(100.0), nothing, exact=exact)
        assert {finding.metric for finding in gone.findings} == {"psi", "nulls"}
    assert column(repo, pa.nulls(3), pa.nulls(4)).kind == "other"


def test_nan_and_infinities_are_counted_apart(repo: fsvc.Repository) -> None:
    before = [1.0, 2.0, 3.0, math.nan] * 25
    after = [1.0, 2.0, math.inf, -math.inf, None] * 20
    for exact in (True, False):
        found = column(repo, before, after, exact=exact)
        assert (found.before.nan, found.before.infinite, found.before.nulls) == (25, 0, 0)
        assert (found.after.nan, found.after.infinite, found.after.nulls) == (0, 40, 20)
        bins = dict(
            zip(found.bins.labels, zip(found.bins.before, found.bins.after, strict=True), strict=True)
        )
        assert (bins["null"], bins["NaN"], bins["infinite"]) == ((0, 20), (25, 0), (0, 40))
        assert sum(found.bins.before) == sum(found.bins.after) == 100
        # Of the finite numbers alone.
        assert abs(found.metrics["wasserstein"] - 0.5) <= found.metrics["wasserstein_error"] + 1e-12
        assert found.metrics["nulls"] == pytest.approx(0.2 - 0.25)
    json.dumps(document({"t": drift(repo, {"x": before}, {"x": after})}), allow_nan=False)


def test_the_widest_doubles_do_not_break_it(repo: fsvc.Repository) -> None:
    found = drift(repo, {"x": [-1.7e308, 1.7e308] * 10}, {"x": [0.0] * 20})
    assert found.columns[0].metrics["ks"] == 0.5
    json.dumps(found.to_dict(), allow_nan=False)
    assert "<svg" in found.to_html()


def test_times_are_measured_and_judged_only_where_they_are_asked_for(repo: fsvc.Repository) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    days = [start + timedelta(hours=i) for i in range(400)]
    later = [day + timedelta(days=30) for day in days]
    zoned = pa.timestamp("us", "UTC")
    before, after = committed(repo, {"at": pa.array(days, zoned)}, {"at": pa.array(later, zoned)})
    found = repo.drift(before, after)
    assert not found.drifted and found.columns[0].findings
    assert found.columns[0].metrics["wasserstein"] == pytest.approx(30 * 86_400e6)
    assert found.columns[0].bins.labels[0] == "below 2026-01-01"
    assert repo.drift(before, after, columns=["at"]).drifted_columns == ("at",)


def test_times_of_day_are_judged_and_shown_without_a_date(repo: fsvc.Repository) -> None:
    morning = pa.array([8 * 3600 + minute * 60 for minute in range(100)], pa.time32("s"))
    evening = pa.array([(20 * 3600 + minute * 60) * 1000 for minute in range(100)], pa.time32("ms"))
    report = drift(repo, {"at": morning}, {"at": evening})
    (column,) = report.columns
    assert column.kind == "time of day" and column.drifted
    assert column.metrics["wasserstein"] == 12 * 3600e6
    assert column.bins is not None and column.bins.labels[0].startswith("below 08:")
    page = report.to_html()
    assert "20:00:00" in page and "12 h" in page and "1970" not in page


def test_no_columns_are_no_comparison(repo: fsvc.Repository) -> None:
    with pytest.raises(InvalidUse, match="no columns"):
        drift(repo, {"x": [1]}, {"x": [2]}, columns=[])


def test_time_zones_are_points_in_time(repo: fsvc.Repository) -> None:
    moments = pa.array([0, 3_600_000_000] * 50, pa.timestamp("us", "UTC"))
    elsewhere = moments.cast(pa.timestamp("us", "America/New_York"))
    report = drift(repo, {"x": moments}, {"x": elsewhere})
    assert report.columns[0].metrics["ks"] == 0.0
    assert report.schema.retyped and report.drifted
    naive = drift(repo, {"x": moments}, {"x": moments.cast(pa.timestamp("us"))})
    assert naive.columns == ()  # a point in time and what a clock shows are not compared
    assert naive.drifted
    fine = moments.cast(pa.timestamp("ns", "UTC"))
    assert drift(repo, {"x": fine}, {"x": fine[1:]}).columns[0].metrics["ks"] < 0.01


def test_changed_types(repo: fsvc.Repository) -> None:
    numbers = drift(repo, {"x": pa.array([1, 2, 3] * 9)}, {"x": pa.array([1.0, 2.0, 3.0] * 9)})
    assert numbers.schema.retyped == (("x", "int64", "double"),)
    assert numbers.columns[0].metrics["ks"] == 0.0 and numbers.drifted
    texts = drift(repo, {"x": [1, 2, 3]}, {"x": ["1", "2", "3"]})
    assert texts.columns == () and texts.schema.retyped == (("x", "int64", "string"),)
    large = drift(repo, {"x": ["a", "b"]}, {"x": pa.array(["a", "b", "b"], pa.large_string())})
    assert not large.schema.retyped and not large.drifted


def test_columns_that_came_and_went(repo: fsvc.Repository) -> None:
    report = drift(repo, {"a": [1], "b": [2]}, {"a": [1], "c": [3]})
    assert (report.schema.dropped, report.schema.added) == (("b",), ("c",))
    assert report.drifted and report.drifted_columns == ()
    assert not drift(repo, {"a": [1]}, {"a": [1], "c": [3]}).drifted


def test_every_kind_of_column_has_a_result(repo: fsvc.Repository) -> None:
    values: dict[str, pa.Array] = {
        "int8": pa.array([1, None, -3], pa.int8()),
        "uint64": pa.array([2**64 - 1, 0, 7], pa.uint64()),
        "float16": pa.array(np.array([1, 2, 3], np.float16)),
        "decimal": pa.array([1, 2, 3], pa.decimal128(9, 2)),
        "wide decimal": pa.array([1, 2, 3], pa.decimal256(60, 2)),
        "date32": pa.array([0, 1, 2], pa.date32()),
        "date64": pa.array([0, 86_400_000, 0], pa.date64()),
        "time32": pa.array([0, 1, 2], pa.time32("s")),
        "time64": pa.array([0, 1, 2], pa.time64("ns")),
        "second": pa.array([0, 1, 2], pa.timestamp("s")),
        "duration": pa.array([0, 1, 2], pa.duration("s")),
        "view": pa.array(["a", "b", None], pa.string_view()),
        "dictionary of numbers": pa.array([4, 5, 4]).dictionary_encode(),
        "bytes": pa.array([b"a", None, b"c"]),
        "list": pa.array([[1], None, [2]]),
        "struct": pa.array([{"a": 1}, None, {"a": 2}]),
        "uuid": pa.array([bytes(16)] * 3, pa.uuid()),
    }
    table = pa.table(values)
    repo.commit({"t": table}, message="one")
    repo.commit({"t": pa.concat_tables([table, table, table])}, message="three")
    for exact in (True, False):
        report = repo.drift("t@v1", "t@v2", exact=exact)
        assert [found.name for found in report.columns] == list(values)
        assert not report.drifted
        assert all(found.metrics.get("psi", 0) < 0.01 for found in report.columns)
        assert report.column("list").after.nulls == 3 and report.column("uuid").kind == "other"
    json.dumps(report.to_dict(), allow_nan=False)


def test_numbers_that_became_null_in_a_nested_column(repo: fsvc.Repository) -> None:
    found = column(repo, pa.array([[1.0]] * 50), pa.array([None] * 50, pa.list_(pa.float64())))
    assert found.drifted and found.metrics == {"nulls": 1.0}


# -- which columns, and what is read ----------------------------------------------------------------


def test_the_key_is_left_out_and_a_selection_counts(repo: fsvc.Repository) -> None:
    ids, noise = np.arange(100), np.random.default_rng(0).normal(size=100)
    before, after = committed(
        repo,
        {"id": ids, "a": noise, "b": noise},
        {"id": ids + 1000, "a": noise + 9, "b": noise[::-1]},
        key="id",
    )
    report = repo.drift(before, after)
    assert report.excluded == ("id",) and [found.name for found in report.columns] == ["a", "b"]
    assert [found.name for found in repo.drift(before.select(["b"]), after).columns] == ["b"]
    assert repo.drift(before, after, columns=["id"]).drifted_columns == ("id",)
    assert repo.drift(before, after, columns=["b"]).schema.added == ()
    with pytest.raises(NotFound, match="'aa'") as error:
        repo.drift(before, after, columns=["aa"])
    assert "'a'" in str(error.value.hint)


def test_equal_columns_are_known_by_their_digests(
    repo: fsvc.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["one", "two", "three"] * 100
    before, after = committed(
        repo,
        {"x": np.arange(300.0), "c": names, "y": np.arange(300)},
        {"x": np.arange(300.0), "c": names, "y": np.arange(300) * 2},
    )
    read: list[str] = []
    original = fsvc.engine.reading.SnapshotReader.batches

    def watched(self: Any, columns: Any = None, **options: Any) -> Any:
        read.extend(columns)
        return original(self, columns, **options)

    monkeypatch.setattr(fsvc.engine.reading.SnapshotReader, "batches", watched)
    report = repo.drift(before, after)
    assert set(read) == {"y"}
    assert [found.method for found in report.columns] == ["identical", "identical", "exact"]
    assert report.column("x").metrics["ks"] == 0.0


def test_a_table_that_is_not_committed(repo: fsvc.Repository) -> None:
    repo.commit({"t": pa.table({"x": np.arange(500.0)})}, message="first")
    report = repo.drift("t@v1", pa.table({"x": np.arange(500.0) + 400}))
    assert report.drifted and repo.snapshot("t").version == 1
    with pytest.raises(InvalidUse):
        repo.drift(pa.table({"x": [1]}), "t")


def test_the_order_of_rows_does_not_matter(repo: fsvc.Repository) -> None:
    values = np.random.default_rng(3).normal(size=5_000).round(2)
    for exact in (True, False):
        found = column(repo, values, np.sort(values)[::-1].copy(), exact=exact)
        assert found.metrics["psi"] == found.metrics["ks"] == found.metrics["wasserstein"] == 0.0


# -- the page ---------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """Collects tags, attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


HOSTILE = "</style><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;\u202e\x1b"


def test_the_page_runs_nothing_and_loads_nothing_whatever_columns_are_called(repo: fsvc.Repository) -> None:
    before, after = committed(
        repo,
        {HOSTILE: ["a"] * 60 + ["b"] * 40, "x": np.arange(100)},
        {HOSTILE: [HOSTILE] * 100, "x": np.arange(100)[::-1].copy()},
    )
    text = repo.drift(before, after).to_html()
    page = _Page(text)
    assert not {"script", "img", "link", "iframe", "object", "base"} & set(page.tags)
    assert not [
        name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href", "action")
    ]
    assert not re.search(r"https?://|url\(|@import", text)
    assert "\u202e" not in text and "\x1b" not in text
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert text.count("<style>") == text.count("</style>") == 1


def test_the_page_holds_what_the_report_does(repo: fsvc.Repository) -> None:
    random = np.random.default_rng(4)
    report = drift(repo, {"x": random.normal(0, 1, 900)}, {"x": random.normal(2, 1, 900)})
    text = "".join(_Page(html({"t": report})).text)
    assert "1 of 1 columns drifted" in text
    assert f"{report.columns[0].metrics['psi']:.4g}" in text
    assert all(label in text for label in report.columns[0].bins.labels[1:4])


def test_the_page_shows_both_edges_of_every_bin_and_times_in_units(repo: fsvc.Repository) -> None:
    start = np.datetime64("2026-01-01T00:00:00.250123", "us")
    spans = np.arange(900) * np.timedelta64(100_000_123_456, "us")
    report = drift(
        repo,
        {"at": start + spans, "x": np.arange(900) * 12345678.9},
        {"at": start + spans * 3, "x": np.arange(900) * -12345678.9},
        columns=["at", "x"],
    )
    text = report.to_html()
    for column in report.columns:
        assert column.bins is not None
        for label in column.bins.labels[1:-1]:
            low, _, high = label.partition(" to ")
            assert f">{label}</text>" in text or (f">{low}</text>" in text and f">to {high}</text>" in text)
    assert "…" not in text
    assert " d</td>" in text  # a deviation and a distance in days, not in microseconds


def test_the_page_calls_nothing_stable_that_was_not_compared(repo: fsvc.Repository) -> None:
    text = drift(repo, {"x": np.arange(100)}, {"x": np.arange(0)}).to_html()
    assert "not compared" in text
    assert '<span class="stable">' not in text


def test_the_page_says_that_the_schema_drifted_beside_columns(repo: fsvc.Repository) -> None:
    before = {"x": np.arange(900), "y": np.arange(900)}
    text = drift(repo, before, {"x": np.arange(900) * 5}).to_html()
    assert "1 of 1 columns drifted, and the schema did." in text


def test_an_interrupt_ends_the_reading_of_columns(
    repo: fsvc.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 1_000_000
    before, after = committed(
        repo,
        {"c": np.arange(rows) % 2 == 0, "x": np.arange(rows)},
        {"c": np.arange(rows) % 3 == 0, "x": np.arange(rows) * 2},
    )
    interrupted, read = threading.Event(), []
    as_numbers = fsvc.drift.numbers.as_numbers

    def slowly(array: pa.Array) -> pa.Array:
        read.append(len(array))
        if len(read) > 4:  # the sample is read, and the column begun
            assert interrupted.wait(60)
            time.sleep(0.05)
        return as_numbers(array)

    def interrupt(stage: str, done: int, total: int | None) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(fsvc.drift.numbers, "as_numbers", slowly)
    with pytest.raises(KeyboardInterrupt):
        repo.drift(before, after, exact=False, progress=interrupt)
    assert sum(read) < rows


def test_a_column_that_is_asked_for_twice_is_named(repo: fsvc.Repository) -> None:
    with pytest.raises(InvalidUse, match="column 'x' is asked for twice"):
        drift(repo, {"x": [1, 2]}, {"x": [1, 3]}, columns=["x", "x"])
