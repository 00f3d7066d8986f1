"""Expectations: data of a commit that a new table is measured by before any ref moves."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from memory import memory_repository

import fsvc
from fsvc import Repository, drafting
from fsvc.errors import (
    Conflict,
    ConflictError,
    ExpectationError,
    FsvcWarning,
    InvalidName,
    InvalidUse,
    MergeConflict,
    NotFound,
    UnknownFormat,
)
from fsvc.expectations.held import table_of
from fsvc.format.expectation import Expectation, listed, span

NOW = "2026-11-10T00:00:00Z"
BALANCES = pa.table({"id": [1, 2, 3], "balance": [10.0, 20.0, None], "region": ["north", "south", "north"]})
IN_RANGE = {"kind": "range", "column": "balance", "min": 0, "max": 100}


def table(**columns: Any) -> pa.Table:
    """A table with the key ``id``, as long as its columns are."""
    rows = len(next(iter(columns.values())))
    return pa.table({"id": pa.array(range(rows), pa.int64()), **columns})


def checked(data: pa.Table, expectation: Any, *, key: str | None = "id", time: str = NOW) -> Any:
    """What comes of one expectation that a table is measured by."""
    made = memory_repository().commit({"t": data}, key=key or (), message="m", time=NOW)
    (result,) = made.snapshot("t").check([expectation], time=time).results
    return result


@pytest.fixture
def repo() -> Repository:
    made = memory_repository()
    made.commit({"customers": BALANCES}, key="id", message="first", time=NOW)
    return made


def with_balance(*balances: float | None) -> pa.Table:
    return pa.table(
        {"id": [1, 2, 3], "balance": pa.array(balances, pa.float64()), "region": ["north", "south", "north"]}
    )


# The kinds -------------------------------------------------------------------------------------------


def naive(*parts: int) -> dt.datetime:
    """A time without a zone."""
    return dt.datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001


DAY = dt.date(2026, 11, 9)
MOMENT = naive(2026, 11, 9, 12)
UTC = dt.UTC
EMPTY = pa.array([], pa.float64())


@pytest.mark.parametrize(
    ("values", "expectation"),
    [
        ([1, 2], {"kind": "column"}),
        ([1, 2], {"kind": "column", "type": "int64"}),
        (pa.array([1.5], pa.float64()), {"kind": "column", "type": "float64"}),
        (pa.array([MOMENT], pa.timestamp("us", "UTC")), {"kind": "column", "type": "timestamp[us, tz=UTC]"}),
        (pa.array([[1]], pa.list_(pa.int8())), {"kind": "column", "type": "list<element: int8>"}),
        ([1, 2], {"kind": "not_null"}),
        ([1, None, None, 4], {"kind": "not_null", "at_most": 0.5}),
        ([float("nan")], {"kind": "not_null"}),
        (["a", "b", None, None], {"kind": "unique"}),
        ([1, 2, None], {"kind": "range", "min": 1, "max": 2}),
        (pa.array([1, 255], pa.uint8()), {"kind": "range", "above": 0}),
        (pa.array([0.1], pa.float32()), {"kind": "range", "min": 0.1, "max": 0.1}),
        (pa.array([1.5, None], pa.float16()), {"kind": "range", "below": 1.75}),
        ([Decimal("0.10"), Decimal("2.50")], {"kind": "range", "min": "0.1", "below": Decimal("2.51")}),
        (pa.array([Decimal("1.5")], pa.decimal32(5, 2)), {"kind": "range", "max": 1.5}),
        ([DAY], {"kind": "range", "min": "2026-11-09", "below": dt.date(2026, 11, 10)}),
        (pa.array([MOMENT], pa.timestamp("ns")), {"kind": "range", "max": "2026-11-09T12:00:00"}),
        (pa.array([MOMENT], pa.timestamp("ms", "UTC")), {"kind": "range", "min": dt.datetime(2026, 11, 9, tzinfo=UTC)}),
        ([float("inf")], {"kind": "range", "min": 0}),
        (["a", None, "b"], {"kind": "values", "values": ["a", "b", "c"]}),
        (pa.array(["a", "b"]).dictionary_encode(), {"kind": "values", "values": ["b", "a"]}),
        (pa.array(["a"], pa.string_view()), {"kind": "values", "values": ["a"]}),
        ([True, None], {"kind": "values", "values": [True]}),
        ([0.0, -0.0], {"kind": "values", "values": [0]}),
        ([0.0, -0.0], {"kind": "values", "values": [-0.0]}),
        (pa.array([0.1], pa.float32()), {"kind": "values", "values": [0.1]}),
        ([DAY], {"kind": "values", "values": ["2026-11-09"]}),
        ([Decimal("1.50")], {"kind": "values", "values": ["1.5"]}),
        (["ab", "b", None], {"kind": "match", "pattern": "b$"}),
        (pa.array(["ab"], pa.large_string()).dictionary_encode(), {"kind": "match", "pattern": "^a"}),
        ([naive(1900, 1, 1), MOMENT, None], {"kind": "fresh", "within": "12h"}),
        ([DAY], {"kind": "fresh", "within": "1 day"}),
        (pa.array([naive(2027, 1, 1)], pa.timestamp("ns", "UTC")), {"kind": "fresh", "within": "1h"}),
        *((EMPTY, {"kind": kind}) for kind in ("column", "not_null", "unique")),
        (EMPTY, {"kind": "range", "min": 0}),
        (EMPTY, {"kind": "values", "values": [1]}),
    ],
)  # fmt: skip
def test_a_table_meets_an_expectation(values: Any, expectation: dict[str, Any]) -> None:
    result = checked(table(x=values), {"column": "x", **expectation})
    assert result.outcome == "met", result
    assert result.examples == ()


@pytest.mark.parametrize(
    ("values", "expectation", "rows", "shown"),
    [
        ([1], {"kind": "column", "type": "int32"}, None, []),
        ([1, None, None], {"kind": "not_null"}, 2, [(1, None), (2, None)]),
        ([1, None, None, None], {"kind": "not_null", "at_most": 0.5}, 3, [(1, None), (2, None), (3, None)]),
        ([5, 1, 9, 2], {"kind": "range", "min": 2, "max": 5}, 2, [(1, 1), (2, 9)]),
        ([1, 2], {"kind": "range", "above": 1, "below": 2}, 2, [(0, 1), (1, 2)]),
        ([float("nan"), 1.0, float("inf")], {"kind": "range", "max": 2}, 2, [(0, "nan"), (2, "inf")]),
        ([float("nan")], {"kind": "range", "min": -1e308}, 1, [(0, "nan")]),
        ([Decimal("2.51")], {"kind": "range", "max": "2.5"}, 1, [(0, "2.51")]),
        ([DAY], {"kind": "range", "above": "2026-11-09"}, 1, [(0, "2026-11-09")]),
        ([MOMENT], {"kind": "range", "below": "2026-11-09T12:00:00"}, 1, [(0, "2026-11-09 12:00:00")]),
        (["a", None, "z"], {"kind": "values", "values": ["a"]}, 1, [(2, "z")]),
        (pa.array(["a", "z"]).dictionary_encode(), {"kind": "values", "values": ["a"]}, 1, [(1, "z")]),
        ([float("nan")], {"kind": "values", "values": [1]}, 1, [(0, "nan")]),
        (["ab", "ba"], {"kind": "match", "pattern": "^a"}, 1, [(1, "ba")]),
        ([naive(2026, 11, 8)], {"kind": "fresh", "within": "47h"}, None, []),
        ([None], {"kind": "fresh", "within": "47h"}, None, []),
        (pa.array([], pa.timestamp("us")), {"kind": "fresh", "within": "1w"}, None, []),
    ],
)
def test_a_table_fails_an_expectation(
    values: Any, expectation: dict[str, Any], rows: int | None, shown: list[Any]
) -> None:
    if values == [None]:
        values = pa.array(values, pa.timestamp("us"))
    result = checked(table(x=values), {"column": "x", **expectation})
    assert (result.outcome, result.rows) == ("failed", rows)
    assert [(one.row, one.values["x"]) for one in result.examples] == shown
    assert [one.key for one in result.examples] == [{"id": row} for row, _ in shown]


@pytest.mark.parametrize(
    ("bounds", "met"),
    [
        ({"min": 3}, True),
        ({"max": 3}, True),
        ({"min": 4}, False),
        ({"max": 2}, False),
        ({"min": 0, "max": 9}, True),
    ],
)
def test_the_number_of_rows_is_counted(bounds: dict[str, int], met: bool) -> None:
    assert (checked(BALANCES, {"kind": "rows", **bounds}).outcome == "met") is met


def test_values_of_several_columns_are_unique_together() -> None:
    data = pa.table({"a": [1, 1, 2, 2, None, None], "b": ["x", "y", "x", "x", "x", "x"]})
    assert checked(data, {"kind": "unique", "columns": ["a", "b"]}, key=None).rows == 2
    result = checked(data, {"kind": "unique", "columns": ["a"]}, key=None)
    assert (result.outcome, result.rows) == ("failed", 4)
    assert [(dict(one.values), one.rows) for one in result.examples] == [({"a": 1}, 2), ({"a": 2}, 2)]
    assert checked(data.slice(1, 2), {"kind": "unique", "columns": ["a", "b"]}, key=None).outcome == "met"


def test_names_of_columns_are_names_and_nothing_else() -> None:
    name = 'x" FROM y; DROP TABLE repeated --'
    result = checked(
        pa.table({name: [1, 1, 2], "fsvc count": [1, 1, 1]}), {"kind": "unique", "column": name}, key=None
    )
    assert (result.rows, result.examples[0].values, str(result.examples[0])) == (
        2,
        {name: 1},
        f"{name}=1, 2 rows",
    )
    named = checked(pa.table({"rows": ["x", "x"]}), {"kind": "unique", "column": "rows"}, key=None)
    assert (named.examples[0].values, named.examples[0].rows) == ({"rows": "x"}, 2)
    both = {"kind": "unique", "columns": [name, "fsvc count"]}
    assert checked(pa.table({name: [1, 1, 2], "fsvc count": [1, 1, 1]}), both, key=None).rows == 2


def test_the_key_is_unique_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsvc.query.duplicates.find_duplicates", None)
    assert checked(BALANCES, {"kind": "unique", "columns": ["region", "id"]}).outcome == "met"


def test_rows_of_a_table_without_a_key_are_told_by_their_numbers() -> None:
    data = pa.table({"x": np.arange(200_000)})
    result = checked(data, {"kind": "range", "column": "x", "below": 150_000}, key=None)
    assert result.rows == 50_000
    assert [(one.row, one.key, one.values) for one in result.examples] == [
        (row, {}, {"x": row}) for row in (150_000, 150_001, 150_002)
    ]


def test_rows_are_counted_as_numpy_counts_them() -> None:
    rng = np.random.default_rng(7)
    numbers = rng.normal(size=150_000)
    data = pa.table({"x": pa.array(numbers, mask=rng.random(len(numbers)) < 0.1)})
    there = data["x"].to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        wanted = int(((there < -1) | (there >= 1)).sum())
    assert checked(data, {"kind": "range", "column": "x", "min": -1, "below": 1}, key=None).rows == wanted


def test_drift_is_measured_from_the_version_before() -> None:
    rng = np.random.default_rng(1)
    repo = memory_repository()
    first = table(x=rng.normal(size=3000), y=rng.normal(size=3000))
    drift = {"kind": "drift", "columns": ["x"]}
    assert (
        repo.commit({"t": first}, key="id", message="m").snapshot("t").check([drift]).results[0].outcome
        == "not judged"
    )
    repo.expect("t", [drift])
    same = table(x=rng.normal(size=3000), y=rng.normal(5, size=3000))
    made = repo.commit({"t": same}, message="another column moved")
    assert made.changes["t"]["expectations"] == {"met": 1}
    moved = table(x=rng.normal(3, size=3000), y=rng.normal(5, size=3000))
    with pytest.raises(ExpectationError) as error:
        repo.commit({"t": moved}, message="it moved")
    assert "'x' drifted" in error.value.reports[0]["results"][0]["said"]
    repo.expect("t", [{**drift, "thresholds": {"psi": None, "ks": 0.99}}])
    assert repo.commit({"t": moved}, message="allowed").created
    with pytest.raises(ExpectationError, match="1 of its 1"):
        repo.commit({"t": first.drop_columns(["x"])}, message="gone")
    repo.commit({"t": first.drop_columns(["x"])}, message="gone", verify=False)
    (back,) = repo.commit({"t": first}, message="back").reports[0].results
    assert back.outcome == "not judged"  # there was no such column before


def test_an_expectation_of_a_column_that_is_gone_or_of_another_type_fails(repo: Repository) -> None:
    repo.expect("customers", [IN_RANGE, {"kind": "match", "column": "region", "pattern": "th"}])
    other = pa.table({"id": [1], "region": [7]})
    with pytest.raises(ExpectationError) as error:
        repo.commit({"customers": other}, message="m")
    said = {one["name"]: one["said"] for one in error.value.reports[0]["results"]}
    assert "has no column 'balance'" in said["range:balance"]
    assert "is int64, and no text" in said["match:region"]


# Where they stand, and how they change ---------------------------------------------------------------


def test_expectations_are_data_of_a_commit_and_belong_to_its_history(repo: Repository) -> None:
    before = repo.snapshot("customers")
    one = repo.expect("customers", [IN_RANGE])
    two = repo.expect("customers", [{**IN_RANGE, "max": 50}, {"kind": "rows", "min": 1}])
    three = repo.expect("customers", remove=["rows"])
    assert [list(found) for found in (one.versions, three.versions)] == [
        ["customers", "customers.expectations"]
    ] * 2
    assert three.versions == {"customers": 1, "customers.expectations": 3}
    assert repo.snapshot("customers@v1") == before  # the version and its commit are what they were
    for commit, wanted in ((one, {100}), (two, {50}), (three, {50})):
        found = repo.expectations(f"customers@{commit.id}")
        assert {e.terms["max"] for e in found if e.kind == "range"} == wanted
    assert [e.name for e in repo.expectations(f"customers@{two.id}")] == ["range:balance", "rows"]
    assert repo.expectations(f"customers@{before.commit.id}") == []
    assert not repo.expect("customers", [{**IN_RANGE, "max": 50}]).created
    assert repo.expect("customers", remove=["all"]).message == "customers: no longer expect range:balance"
    assert repo.expectations("customers") == []
    assert repo.verify(deep=True).ok


def test_a_snapshot_id_does_not_depend_on_what_is_expected(repo: Repository) -> None:
    repo.expect("customers", [IN_RANGE])
    made = repo.commit({"customers": with_balance(1, 2, 3)}, message="m")
    assert made.snapshot("customers").id == fsvc.identify(with_balance(1, 2, 3), key="id").id


def test_the_same_expectations_are_the_same_data_in_whatever_order_they_came() -> None:
    found = []
    for order in (1, -1):
        made = memory_repository()
        made.commit({"customers": BALANCES}, key="id", message="m")
        for one in [IN_RANGE, {"kind": "rows", "min": 1}][::order]:
            made.expect("customers", one)
        found.append(made.snapshot("customers.expectations").id)
    assert found[0] == found[1]


def test_expectations_are_carried_on_and_checked_on_every_branch(repo: Repository) -> None:
    repo.expect("customers", [IN_RANGE])
    repo.branch("topic")
    repo.commit({"orders": BALANCES}, message="another feature set", key="id")
    for branch in ("main", "topic"):
        with pytest.raises(ExpectationError):
            repo.commit({"customers": with_balance(1, 2, 300)}, message="m", branch=branch)
    assert repo.commit({"orders": with_balance(1, 2, 300)}, message="nothing is expected of these").created


@pytest.mark.parametrize(
    ("expectation", "error", "said"),
    [
        ({"kind": "rang", "column": "balance"}, InvalidUse, "did you mean 'range'"),
        ({"kind": "range", "column": "balanse", "min": 0}, NotFound, "did you mean 'balance'"),
        ({"kind": "range", "column": "balance", "minimum": 0}, InvalidUse, "did you mean 'min'"),
        ({"kind": "range", "column": "balance"}, InvalidUse, "no bound"),
        ({"kind": "range", "column": "balance", "min": "low"}, InvalidUse, "is no value of column 'balance'"),
        ({"kind": "range", "column": "balance", "min": True}, InvalidUse, "no number"),
        ({"kind": "range", "column": "balance", "min": 2, "max": 1}, InvalidUse, "nothing is at least 2 and at most 1"),
        ({"kind": "range", "column": "balance", "above": 1, "max": 1}, InvalidUse, "nothing is above 1"),
        ({"kind": "range", "column": "balance", "above": 1, "min": 1}, InvalidUse, "both 'min' and 'above'"),
        ({"kind": "range", "column": "id", "min": 0.5}, InvalidUse, "int64"),
        ({"kind": "range", "column": "region", "min": "a"}, InvalidUse, "has no range"),
        ({"kind": "values", "column": "region", "values": []}, InvalidUse, "at least one"),
        ({"kind": "values", "column": "region", "values": [None]}, InvalidUse, "null is accepted"),
        ({"kind": "values", "column": "region", "values": ["a", "a"]}, InvalidUse, "twice"),
        ({"kind": "values", "column": "id", "values": ["a"]}, InvalidUse, "no value of column 'id'"),
        ({"kind": "match", "column": "region", "pattern": "("}, InvalidUse, "no regular expression"),
        ({"kind": "match", "column": "id", "pattern": "1"}, InvalidUse, "no text"),
        ({"kind": "not_null", "column": "id", "at_most": 1}, InvalidUse, "share"),
        ({"kind": "not_null"}, InvalidUse, "names one column"),
        ({"kind": "unique", "columns": ["id", "id"]}, InvalidUse, "twice"),
        ({"kind": "rows"}, InvalidUse, "no bound"),
        ({"kind": "rows", "min": 2, "max": 1}, InvalidUse, "at least 2 and at most 1"),
        ({"kind": "rows", "min": -1}, InvalidUse, "number of rows"),
        ({"kind": "fresh", "column": "balance", "within": "1h"}, InvalidUse, "no time"),
        ({"kind": "fresh", "column": "balance", "within": "soon"}, InvalidUse, "no span"),
        ({"kind": "fresh", "column": "balance", "within": "999999999w"}, InvalidUse, "too long"),
        ({"kind": "fresh", "column": "balance"}, InvalidUse, "no 'within'"),
        ({"kind": "drift", "thresholds": {"pis": 1}}, InvalidUse, "did you mean 'psi'"),
        ({"kind": "column", "column": "id", "type": "int46"}, InvalidUse, "did you mean 'int64'"),
        ({"kind": "rows", "min": 1, "severity": "fatal"}, InvalidUse, "error or warning"),
        ({"column": "id"}, InvalidUse, "no 'kind'"),
        ([IN_RANGE, IN_RANGE], InvalidUse, "given twice"),
        ({"expectations": [], "expectation": []}, InvalidUse, "unknown member 'expectation'"),
        (7, InvalidUse, "are a list"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_nothing_is_written(
    repo: Repository, expectation: Any, error: type[Exception], said: str
) -> None:
    head, keys = repo.head(), sorted(repo.store.storage.keys(""))
    with pytest.raises(error) as raised:
        repo.expect("customers", expectation)
    assert said in f"{raised.value} {getattr(raised.value, 'hint', '')}"
    assert repo.head() == head
    assert sorted(repo.store.storage.keys("")) == keys


def test_what_cannot_be_changed_is_told(repo: Repository) -> None:
    with pytest.raises(NotFound, match="no feature set 'customer'"):
        repo.expect("customer", [IN_RANGE])
    with pytest.raises(NotFound, match="no expectation 'rows'"):
        repo.expect("customers", remove=["rows"])
    with pytest.raises(InvalidUse, match="nothing is said"):
        repo.expect("customers")
    repo.expect("customers", [IN_RANGE])
    with pytest.raises(InvalidUse, match="both given and removed"):
        repo.expect("customers", [IN_RANGE], remove=["range:balance"])
    with pytest.raises(InvalidName, match="expectations"):
        repo.expect("customers.expectations", [IN_RANGE])


def test_a_table_that_was_called_so_before_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    repo = memory_repository()
    with monkeypatch.context() as patched:
        patched.setattr(drafting, "_refuse_home", lambda *_: None)  # as an older fsvc
        repo.commit({"customers": BALANCES, "customers.expectations": BALANCES}, key="id", message="m")
    made = repo.commit(
        {"customers": with_balance(1, 2, 300), "customers.expectations": with_balance(1, 2, 3)}, message="m"
    )
    assert made.versions == {"customers": 2, "customers.expectations": 2}
    assert repo.expectations("customers") == []
    with pytest.raises(Conflict, match="a table of its own"):
        repo.expect("customers", [IN_RANGE])


def test_no_table_takes_the_place_of_expectations(repo: Repository) -> None:
    with pytest.raises(InvalidName, match="the expectations of 'customers'"):
        repo.commit({"customers.expectations": BALANCES}, message="m")
    repo.expect("customers", [IN_RANGE])
    with pytest.raises(InvalidName, match="the expectations of 'customers'"):
        repo.commit({"customers.expectations": table_of([])}, key="expectation", message="m")


def test_an_expectation_that_only_a_newer_fsvc_knows_stops_a_commit(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Expectation, "rule", property(lambda _: '{"kind":"entropy","column":"balance"}'))
        repo.expect("customers", [IN_RANGE])
    with pytest.raises(UnknownFormat, match="none that this fsvc knows"):
        repo.commit({"customers": with_balance(1, 2, 3)}, message="m")
    made = repo.commit({"customers": with_balance(1, 2, 3)}, message="m", verify=False)
    assert made.changes["customers"]["expectations"] == {"not_verified": 1}


def test_documents_come_back_as_they_went() -> None:
    documents = [
        {"kind": "range", "column": "a,b", "above": 0.5, "max": "2026-01-01"},
        {"kind": "unique", "columns": ["a", "b"], "severity": "warning"},
        {"kind": "drift"},
        {"kind": "values", "column": "c", "values": [True, 1, "ü"]},
    ]
    found = listed(json.loads(json.dumps({"expectations": documents})))
    assert [one.document() for one in found] == documents
    assert [one.name for one in found] == ["range:a,,b", "unique:a,b", "drift", "values:c"]
    for one in found:
        assert Expectation.stored(one.name, one.rule, what="t") == one


def test_spans_of_time_are_read() -> None:
    hours = {"90 min": 1.5, "24h": 24, "7 days": 168, "2w": 336, "3600s": 1, "1 hour": 1, "5m": 1 / 12}
    assert {text: span(text) / dt.timedelta(hours=1) for text in hours} == pytest.approx(hours)


# What goes through the gate --------------------------------------------------------------------------


def test_a_table_that_fails_is_not_committed_and_the_report_says_why(repo: Repository) -> None:
    repo.expect("customers", [IN_RANGE, {"kind": "not_null", "column": "region"}])
    head, log = repo.head(), repo.reflog()
    with pytest.raises(ExpectationError) as error:
        repo.commit({"customers": with_balance(1, -2, 300), "orders": BALANCES}, message="m", tag="bad")
    assert error.value.message == "customers does not meet 1 of its 2 expectations"
    (note,) = error.value.__notes__
    assert note.startswith("  customers  range:balance: 2 of 3 rows are not at least 0 and at most 100")
    assert note.endswith(" (id=2, balance -2.0; id=3, balance 300.0)")
    (report,) = error.value.reports
    assert (report["feature_set"], report["version"], report["passed"]) == ("customers", 2, False)
    json.dumps(report, allow_nan=False)
    assert (repo.head(), repo.reflog(), repo.tags()) == (head, log, {})
    assert repo.verify(deep=True).ok
    assert repo.gc(delete=True, grace=0).packs  # what the refused commit wrote is garbage
    assert repo.verify(deep=True).ok
    made = repo.commit({"customers": with_balance(1, 2, 3)}, message="mended")
    assert made.changes["customers"]["expectations"] == {"met": 2}
    assert made.reports[0].passed


def test_without_verifying_it_is_committed_and_the_commit_says_so(repo: Repository) -> None:
    repo.expect("customers", [IN_RANGE])
    with pytest.raises(ExpectationError):
        repo.commit({"customers": with_balance(1, -2, 300)}, message="m")
    made = repo.commit({"customers": with_balance(1, -2, 300)}, message="m", verify=False)
    assert made.changes["customers"]["expectations"] == {"not_verified": 1}
    assert made.reports == ()
    assert made.snapshot("customers").to_arrow().equals(with_balance(1, -2, 300))
    assert not made.snapshot("customers").check().passed
    assert repo.verify(deep=True).ok


def test_a_warning_stops_nothing_and_is_told(repo: Repository) -> None:
    repo.expect("customers", [{**IN_RANGE, "severity": "warning"}])
    with pytest.warns(FsvcWarning, match="customers: range:balance: 1 of 3 rows is not"):
        made = repo.commit({"customers": with_balance(1, 2, 300)}, message="m")
    assert made.changes["customers"]["expectations"] == {"met": 0, "warnings": ["range:balance"]}


def test_nothing_is_noted_and_nothing_is_read_where_nothing_is_expected(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsvc.engine.committing.CommitDraft.settle", None)
    monkeypatch.setattr("fsvc.expectations.checking.check", None)
    for verify in (True, False):
        made = repo.commit({"customers": with_balance(1, verify, 300)}, message="m", verify=verify)
        assert "expectations" not in made.changes["customers"]


def test_freshness_is_judged_at_the_time_of_the_commit() -> None:
    repo = memory_repository()
    at = pa.array([naive(2026, 11, 9)], pa.timestamp("us"))
    repo.commit({"t": table(at=at)}, key="id", message="m", time=NOW)
    repo.expect("t", [{"kind": "fresh", "column": "at", "within": "3 days"}])
    later = pa.array([naive(2026, 11, 10)], pa.timestamp("us"))
    with pytest.raises(ExpectationError):
        repo.commit({"t": table(at=later)}, message="m", time="2026-11-13T00:00:01Z")
    assert repo.commit({"t": table(at=later)}, message="m", time="2026-11-13T00:00:00Z").created
    assert repo.snapshot("t").check().passed  # at the time of its commit, whatever the time is now
    assert not repo.snapshot("t").check(time="2026-11-14T00:00:00Z").passed
    with pytest.raises(InvalidUse, match="no zone"):
        repo.snapshot("t").check(time="2026-11-14")


def test_the_result_of_a_query_is_checked(repo: Repository) -> None:
    query = "select region, sum(balance) as total from customers group by region order by region"
    repo.commit_query("totals", query, key="region", message="m")
    repo.expect("totals", [{"kind": "range", "column": "total", "min": 0}])
    repo.commit({"customers": with_balance(-1, -2, -3)}, message="debts")
    with pytest.raises(ExpectationError):
        repo.commit_query("totals", query, key="region", message="m")
    made = repo.commit_query("totals", query, key="region", message="m", verify=False)
    assert made.changes["totals"]["expectations"] == {"not_verified": 1}
    assert made.snapshot("totals").recipe.sql == query


def test_what_was_expected_meanwhile_is_not_passed_by(repo: Repository) -> None:
    draft = repo.draft({"customers": with_balance(1, 2, 300)})
    repo.expect("customers", [IN_RANGE])
    with pytest.raises(ConflictError, match=r"customers\.expectations"):
        repo.publish(draft, message="m")
    other = repo.draft({"orders": BALANCES}, key="id")
    repo.expect("customers", remove=["all"])
    assert repo.publish(other, message="another feature set").created


def test_expectations_of_two_writers_go_together(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsvc.expectations import changing

    write = changing.write_snapshot

    def slow(*given: Any, **options: Any) -> Any:
        monkeypatch.setattr(changing, "write_snapshot", write)
        repo.expect("customers", {"kind": "rows", "min": 1})  # somebody is faster
        return write(*given, **options)

    monkeypatch.setattr(changing, "write_snapshot", slow)
    repo.expect("customers", [IN_RANGE])
    assert [one.name for one in repo.expectations("customers")] == ["range:balance", "rows"]


def test_a_table_that_is_not_committed_is_checked_without_a_trace(repo: Repository) -> None:
    repo.expect("customers", [IN_RANGE, {"kind": "drift"}])
    keys = sorted(repo.store.storage.keys(""))
    held = repo.held(with_balance(1, 2, 300), repo.snapshot("customers"))
    report = held.check(repo.expectations("customers"))
    assert {one.expectation.name: one.outcome for one in report.results} == {
        "drift": "met",
        "range:balance": "failed",
    }
    assert repo.diff("customers", with_balance(1, 2, 300)).stat  # comparing is not committing
    assert sorted(repo.store.storage.keys("")) == keys


# Merges ----------------------------------------------------------------------------------------------


def test_expectations_of_both_sides_are_merged_and_the_merged_table_is_checked(repo: Repository) -> None:
    repo.expect("customers", {"kind": "rows", "min": 1})
    repo.branch("topic")
    repo.expect("customers", [IN_RANGE], branch="topic")
    repo.commit({"customers": with_balance(1, 2, 300)}, message="ours, of which no range is expected")
    head = repo.head()
    with pytest.raises(ExpectationError, match="customers does not meet 1 of its 2"):
        repo.merge("topic")
    assert repo.head() == head
    made = repo.merge("topic", verify=False)
    assert made.changes["customers.expectations"]["expectations"] == {"not_verified": 2}
    assert [one.name for one in repo.expectations("customers")] == ["range:balance", "rows"]


def test_a_merge_checks_the_table_that_came_of_both_sides(repo: Repository) -> None:
    repo.expect("customers", {"kind": "unique", "column": "balance"})
    repo.branch("topic")
    repo.commit({"customers": with_balance(5, 20, None)}, message="theirs", branch="topic")
    repo.commit({"customers": with_balance(10, 5, None)}, message="ours")
    with pytest.raises(ExpectationError):
        repo.merge("topic")
    repo.commit({"customers": with_balance(10, 6, None)}, message="ours again")
    merged = repo.merge("topic")
    assert merged.snapshot("customers").to_arrow().equals(with_balance(5, 6, None))
    assert merged.changes["customers"]["expectations"] == {"met": 1}


def test_what_a_parent_has_is_not_checked_again(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.expect("customers", [IN_RANGE])
    repo.branch("topic")
    repo.commit({"customers": with_balance(1, 2, 300)}, message="theirs", branch="topic", verify=False)
    repo.commit({"orders": BALANCES}, message="ours", key="id")
    monkeypatch.setattr("fsvc.expectations.checking.check", None)
    assert repo.merge("topic").snapshot("customers").to_arrow().equals(with_balance(1, 2, 300))


def test_first_expectations_of_both_sides_go_together_unless_they_contradict(repo: Repository) -> None:
    repo.branch("topic")
    repo.branch("other")
    repo.expect("customers", [IN_RANGE])
    repo.expect("customers", {"kind": "rows", "min": 1}, branch="topic")
    repo.expect("customers", {**IN_RANGE, "max": 50}, branch="other")
    repo.merge("topic")
    assert [one.name for one in repo.expectations("customers")] == ["range:balance", "rows"]
    with pytest.raises(MergeConflict) as error:
        repo.merge("other")
    assert error.value.rows["customers.expectations"]["key"].to_pylist() == [{"expectation": "range:balance"}]
    repo.merge("other", strategy="theirs")
    assert repo.expectations("customers")[0].terms["max"] == 50


def test_reverts_and_picked_commits_are_checked_against_what_is_expected_now(repo: Repository) -> None:
    repo.commit({"customers": with_balance(1, 2, 300)}, message="too much")
    repo.commit({"customers": with_balance(1, 2, 3)}, message="mended")
    repo.expect("customers", [IN_RANGE])
    with pytest.raises(ExpectationError):
        repo.revert("main~1")
    repo.branch("topic", "main~1")
    repo.commit({"customers": with_balance(9, 2, 300)}, message="picked", branch="topic")
    with pytest.raises(ExpectationError):
        repo.cherry_pick("topic")
    made = repo.cherry_pick("topic", verify=False)
    assert made.changes["customers"]["expectations"] == {"not_verified": 1}


def test_a_change_of_expectations_is_taken_back_by_a_revert(repo: Repository) -> None:
    first = repo.expect("customers", [IN_RANGE])
    second = repo.expect("customers", [{**IN_RANGE, "max": 5}, {"kind": "rows", "min": 1}])
    repo.revert(second.id, verify=False)
    assert [one.document() for one in repo.expectations("customers")] == [
        {"kind": "range", "column": "balance", "max": 100, "min": 0}
    ]
    with pytest.raises(InvalidUse) as error:
        repo.revert(first.id)
    assert error.value.hint == "'fsvc expect customers --remove all' expects nothing any more"


# What it costs ---------------------------------------------------------------------------------------


def test_memory_holds_a_few_groups_of_the_columns_in_question() -> None:
    rng = np.random.default_rng(3)
    data = pa.table({"x": rng.integers(0, 2**62, 5_000_000)})
    snapshot = memory_repository().commit({"t": data}, message="m").snapshot("t")
    size = data["x"].nbytes
    del data
    start, held = pa.total_allocated_bytes(), []
    expectations = [
        {"kind": "range", "column": "x", "min": 0},
        {"kind": "not_null", "column": "x"},
    ]
    report = snapshot.check(expectations, progress=lambda *_: held.append(pa.total_allocated_bytes() - start))
    assert report.passed
    assert len(held) > 10
    assert max(held) < size / 2  # it is a matter of groups and threads, whatever the number of rows


def test_warnings_are_not_given_twice(repo: Repository) -> None:
    repo.expect("customers", [{**IN_RANGE, "severity": "warning"}])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        repo.commit({"customers": with_balance(1, 2, 300)}, message="m")
    assert [str(one.message).partition(":")[0] for one in told] == ["customers"]
