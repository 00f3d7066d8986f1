"""Training sets: what was known at the time of each row, and nothing of what came later."""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import memory_repository

from fsvc import Lookup, Repository, Split
from fsvc.errors import Corruption, FsvcError, FsvcWarning, InvalidUse, KeyViolation, NotFound, SkewError
from fsvc.features.training import prove

_DAY = dt.timedelta(days=1)


def day(number: int, hour: int = 0) -> dt.datetime:
    return dt.datetime.fromisoformat("2026-01-01") + dt.timedelta(days=number - 1, hours=hour)


def repository(**tables: pa.Table) -> Repository:
    made = memory_repository()
    for name, table in tables.items():
        made.commit({name: table}, message=name)
    return made


def events(**columns: Any) -> pa.Table:
    return pa.table({"id": ["a", "b", "a"], "at": [day(3), day(3), day(9)], "churned": [0, 1, 0], **columns})


def balances() -> pa.Table:
    return pa.table(
        {"id": ["a", "a", "b", "a"], "since": [day(1), day(3), day(4), day(20)], "balance": [1, 3, 4, 20]}
    )


# Against brute force ---------------------------------------------------------------------------------


KINDS = {
    "us": (pa.timestamp("us"), 3_600_000_000),
    "ms": (pa.timestamp("ms"), 3_600_000),
    "ns": (pa.timestamp("ns"), 1),
    "zone": (pa.timestamp("us", "Europe/Berlin"), 3_600_000_000),
    "ns zone": (pa.timestamp("ns", "America/New_York"), 1),
    "date": (pa.date32(), 1),
    "integer": (pa.int64(), 1),
}
PAIRS = [
    ("us", "us"),
    ("us", "ms"),
    ("ms", "ns"),
    ("ns", "ns"),
    ("ns", "us"),
    ("zone", "zone"),
    ("zone", "ns zone"),
    ("ns zone", "zone"),
    ("date", "date"),
    ("integer", "integer"),
]
_PER_UNIT = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def ticks(kind: pa.DataType, values: Sequence[int | None]) -> list[int | None]:
    """Moments as nanoseconds, or as days and numbers; what the brute force compares."""
    factor = _PER_UNIT[kind.unit] if pa.types.is_timestamp(kind) else 1
    return [None if value is None else value * factor for value in values]


def moments(kind: pa.DataType, values: Sequence[int | None]) -> pa.Array:
    width = pa.int32() if pa.types.is_date32(kind) else pa.int64()
    return pa.array(values, width).cast(kind)


def expected(
    spine: list[tuple[Any, int | None]],
    rows: list[tuple[Any, int | None, Any]],
    age: int | None,
    ties: str | None,
) -> list[int | None]:
    """For each row of the spine the number of the row that is right, by looking at every one of them."""
    found: list[int | None] = []
    for key, now in spine:
        best: int | None = None
        for number, (other, then, _) in enumerate(rows):
            if key is None or other != key or then is None or now is None or then > now:
                continue
            if best is None or then > rows[best][1] or (then == rows[best][1] and ties == "last"):
                best = number
        if best is not None and age is not None and now - rows[best][1] > age:
            best = None
        found.append(best)
    return found


keys = st.sampled_from(["a", "b", "c", None])
times = st.one_of(st.none(), st.integers(-3, 12))


@settings(max_examples=40)
@given(
    kinds=st.sampled_from(PAIRS),
    spine=st.lists(st.tuples(keys, times), min_size=0, max_size=12),
    rows=st.lists(st.tuples(keys, times, st.one_of(st.none(), st.integers(0, 9))), max_size=12),
    age=st.one_of(st.none(), st.integers(0, 6)),
    ties=st.sampled_from(["first", "last"]),
)
def test_the_rows_found_are_those_that_brute_force_finds(
    kinds: tuple[str, str], spine: Any, rows: Any, age: int | None, ties: Any
) -> None:
    (one, here), (other, there) = (KINDS[kind] for kind in kinds)
    nows = [None if now is None else now * here for _, now in spine]
    thens = [None if then is None else then * there for _, then, _ in rows]
    made = repository(
        features=pa.table(
            {
                "id": pa.array([key for key, _, _ in rows], pa.string()),
                "since": moments(other, thens),
                "value": pa.array([value for *_, value in rows], pa.int64()),
                "number": pa.array(range(len(rows)), pa.int64()),
            }
        )
    )
    limit: Any = age
    if age is not None and not pa.types.is_integer(one):
        limit = age * (_DAY if pa.types.is_date32(one) else dt.timedelta(hours=1))
    lookup = Lookup("features", "id", time="since", max_age=limit, ties=ties, time_as="known")
    table = pa.table(
        {
            "id": pa.array([key for key, _ in spine], pa.string()),
            "at": moments(one, nows),
            "row": range(len(spine)),
        }
    )
    got = made.training_set(table, [lookup], time="at").to_arrow()
    width = 1 if pa.types.is_integer(one) or pa.types.is_date32(one) else 3_600 * 10**9
    right_rows = expected(
        list(zip(table["id"].to_pylist(), ticks(one, nows), strict=True)),
        [(key, then, None) for (key, _, _), then in zip(rows, ticks(other, thens), strict=True)],
        None if age is None else age * width,
        ties,
    )
    assert got["row"].to_pylist() == list(range(len(spine)))
    assert got["number"].to_pylist() == right_rows
    assert got["value"].to_pylist() == [None if n is None else rows[n][2] for n in right_rows]
    # The times that come out are those of the rows that were taken.
    plain = got["known"].cast(pa.int32() if pa.types.is_date32(other) else pa.int64()).to_pylist()
    unit = got.schema.field("known").type
    assert ticks(unit, plain) == [None if n is None else ticks(other, thens)[n] for n in right_rows]


def test_two_keys_under_other_names_and_two_lookups_of_one_feature_set() -> None:
    made = repository(
        rates=pa.table(
            {"from": ["e", "e", "p"], "to": ["d", "p", "d"], "since": [1, 1, 2], "rate": [1.1, 0.9, 1.2]}
        )
    )
    spine = pa.table({"a": ["e", "p", "e"], "b": ["d", "d", "p"], "t": [1, 1, 5]})
    there = Lookup("rates", {"a": "from", "b": "to"}, time="since")
    back = Lookup("rates", {"b": "from", "a": "to"}, time="since", prefix="back_")
    got = made.training_set(spine, [there, back], time="t")
    assert got.to_arrow().to_pydict() == {
        **spine.to_pydict(),
        "rate": [1.1, None, 0.9],
        "back_rate": [None, None, None],
    }
    assert sorted(got.inputs) == ["rates", "rates_2", "spine"]


# No leaks --------------------------------------------------------------------------------------------


def test_rows_of_the_future_make_no_difference_however_many_there_are() -> None:
    clean = balances().slice(0, 3)
    late = [
        (key, when, 666)
        for key in "ab"
        for when in (day(3) + dt.timedelta(microseconds=1), day(9, 1), day(30))
    ]
    planted = pa.concat_tables(
        [pa.table(dict(zip(clean.column_names, map(list, zip(*late, strict=True)), strict=True))), clean]
    ).cast(clean.schema)
    spine = pa.table({"id": ["a", "b", "z"], "at": [day(3)] * 3})
    results = [
        repository(features=features)
        .training_set(spine, [Lookup("features", "id", time="since", time_as="known")], time="at")
        .to_arrow()
        for features in (clean, planted)
    ]
    assert results[0].equals(results[1])
    assert results[1]["balance"].to_pylist() == [3, None, None]


def test_half_a_microsecond_into_the_future_is_the_future() -> None:
    made = repository(
        features=pa.table({"id": ["a", "a"], "since": pa.array([0, 1_500], pa.timestamp("ns")), "x": [1, 2]})
    )
    spine = pa.table({"id": ["a", "a"], "at": pa.array([1, 2], pa.timestamp("us"))})
    got = made.training_set(spine, [Lookup("features", "id", time="since")], time="at").to_arrow()
    assert got["x"].to_pylist() == [1, 2]


@pytest.mark.parametrize("limit", [dt.timedelta(days=365 * 290_000), dt.timedelta(days=365 * 1_000)])
@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ns", "Asia/Tokyo")])
def test_an_age_limit_may_be_longer_than_times_reach(limit: dt.timedelta, kind: pa.DataType) -> None:
    made = repository(features=pa.table({"id": ["a"], "since": pa.array([10], kind), "x": [1]}))
    spine = pa.table({"id": ["a"] * 3, "at": pa.array([9, 10, 2**62], kind)})
    lookup = Lookup("features", "id", time="since", max_age=limit)
    commit = made.training_set(spine, [lookup], time="at").commit("training", message="made")
    got = commit.snapshot("training").to_arrow()["x"].to_pylist()
    microseconds = (2**62 - 10) // (1000 if kind.unit == "ns" else 1)
    assert got == [
        None,
        1,
        1 if microseconds / 1e6 <= limit.total_seconds() else None,
    ]


def test_an_instant_is_the_same_in_every_zone_and_across_the_change_of_clocks() -> None:
    # In Berlin 02:30 came twice on that night; the two are an hour apart.
    since = pa.array([1761438600, 1761442200], pa.timestamp("s", "Europe/Berlin"))
    at = pa.array([1761440000, 1761442199, 1761442200], pa.timestamp("s", "America/New_York"))
    made = repository(features=pa.table({"id": ["a", "a"], "since": since, "x": [1, 2]}))
    spine = pa.table({"id": ["a"] * 3, "at": at})
    got = made.training_set(spine, [Lookup("features", "id", time="since")], time="at").to_arrow()
    assert got["x"].to_pylist() == [1, 1, 2]


# Ties ------------------------------------------------------------------------------------------------


TIED = {"id": ["a", "a", "b"], "since": [1, 1, 1], "x": [1, 2, 3], "edition": [5, 4, 1]}


def tied(**lookup: Any) -> list[Any]:
    made = repository(features=pa.table(TIED))
    spine = pa.table({"id": ["b", "a"], "t": [1, 1]})
    got = made.training_set(spine, [Lookup("features", "id", time="since", **lookup)], time="t").to_arrow()
    return got["x"].to_pylist()


@pytest.mark.parametrize(
    ("ties", "x"), [("first", [3, 1]), ("last", [3, 2]), (["edition"], [3, 1]), (["x", "edition"], [3, 2])]
)
def test_ties_are_broken_as_stated(ties: Any, x: list[int]) -> None:
    assert tied(ties=ties) == x


def test_ties_are_refused_and_named_unless_told() -> None:
    with pytest.raises(KeyViolation, match="features has several rows with the same id, since: a, 1"):
        tied()


def test_ties_that_the_columns_leave_open_are_refused() -> None:
    made = repository(features=pa.table({**TIED, "edition": [4, 4, 1]}))
    wanted = made.training_set(
        pa.table({"id": ["a"], "t": [1]}),
        [Lookup("features", "id", time="since", ties=["edition"])],
        time="t",
    )
    with pytest.raises(KeyViolation, match="the same id, since, edition"):
        wanted.to_arrow()


def test_rows_that_can_never_be_found_are_no_ties() -> None:
    made = repository(
        features=pa.table({"id": ["a", None, None, "b", "b"], "since": [1, 1, 1, None, None], "x": range(5)})
    )
    spine = pa.table({"id": ["a", None, "b"], "t": [1, 1, 1]})
    got = made.training_set(spine, [Lookup("features", "id", time="since")], time="t").to_arrow()
    assert got["x"].to_pylist() == [0, None, None]


def test_a_key_rules_ties_out_and_nothing_is_looked_for() -> None:
    made = memory_repository()
    made.commit({"features": balances()}, key=["id", "since"], message="keyed")
    assert "ties" not in made.training_set(events(), [Lookup("features", "id", time="since")], time="at").sql


def test_a_lookup_without_time_needs_one_row_for_a_key() -> None:
    made = repository(regions=pa.table({"id": ["a", "b", "b"], "region": ["n", "s", "w"]}))
    wanted = made.training_set(events(), [Lookup("regions", "id")])
    with pytest.raises(KeyViolation, match="regions has several rows with the same id: b"):
        wanted.to_arrow()
    last = made.training_set(events(), [Lookup("regions", "id", ties="last")]).to_arrow()
    assert last["region"].to_pylist() == ["n", "w", "n"]


# What it is, and what it is made from ----------------------------------------------------------------


def both(made: Repository) -> Any:
    return made.training_set(
        "events",
        [Lookup("balances", "id", time="since", max_age=5 * _DAY)],
        time="at",
        label="churned",
        split=Split.by_time({"train": day(5), "test": None}),
    )


def test_it_is_committed_with_its_recipe_and_restored_without_running_anything() -> None:
    made = repository(events=events(), balances=balances())
    wanted = both(made)
    commit = wanted.commit("churn", message="training data")
    snapshot = commit.snapshot("churn")
    assert snapshot.to_arrow().to_pydict() == {
        **events().to_pydict(),
        "balance": [3, None, None],
        "split": ["train", "train", "test"],
    }
    recipe = snapshot.recipe
    assert recipe.sql == wanted.sql
    assert {name: (one.feature_set, one.version) for name, one in recipe.inputs.items()} == {
        "spine": ("events", 1),
        "balances": ("balances", 1),
    }
    assert recipe.undetermined == ()
    assert recipe.record.training_set == wanted.document
    # The inputs go on; the training set does not.
    made.commit({"balances": balances().slice(0, 1)}, message="fewer")
    assert recipe.rebuild().identical
    assert both(made).to_arrow()["balance"].to_pylist() == [1, None, None]


def test_the_spines_key_is_that_of_the_training_set() -> None:
    made = memory_repository()
    made.commit({"events": events(n=[1, 2, 3])}, key="n", message="events")
    made.commit({"balances": balances()}, message="balances")
    assert both(made).snapshot().key == ("n",)


def test_a_description_is_proven_by_its_digest_and_notices_everything() -> None:
    made = repository(balances=balances())
    spine = events()
    wanted = made.training_set(spine, [Lookup("balances", "id", time="since")], time="at")
    told = wanted.describe()
    assert made.head().versions == {"balances": 1}  # type: ignore[union-attr]  # nothing was committed
    again = prove(made, told, tables={"spine": spine})
    assert again.id == told["snapshot"]
    assert again.to_arrow().equals(wanted.to_arrow())
    with pytest.raises(InvalidUse, match="'spine' is not the one"):
        prove(made, told, tables={"spine": events(churned=[1, 1, 1])})
    with pytest.raises(NotFound, match="'spine'.*not in the repository"):
        prove(made, told)
    with pytest.raises(Corruption, match="not the one that was described"):
        prove(made, {**told, "snapshot": "0" * 64}, tables={"spine": spine})
    with pytest.raises(Corruption):
        prove(made, {"rows": 3})


def test_the_same_logic_serves_rows_that_have_no_label_yet() -> None:
    made = repository(events=events(), balances=balances())
    recipe = both(made).commit("churn", message="training data").snapshot("churn").recipe
    fresh = pa.table({"id": ["b", "a"], "at": [day(21), day(21)]})
    got = recipe.apply({"spine": fresh, "balances": balances()}).to_arrow()
    assert got["balance"].to_pylist() == [None, 20]
    assert got["churned"].to_pylist() == [None, None]
    with pytest.raises(SkewError, match="'at' is date32"):
        recipe.apply({"spine": fresh.set_column(1, "at", fresh["at"].cast(pa.date32()))})
    with pytest.raises(SkewError, match="1 column is missing: 'id'"):
        recipe.apply({"spine": fresh.drop_columns("id")})


def test_selected_columns_are_those_that_are_looked_up() -> None:
    made = repository(features=balances().append_column("note", pa.array(["x"] * 4)))
    spine = events()
    chosen = made.snapshot("features").select(["note"])
    assert made.training_set(
        spine, [Lookup(chosen, "id", time="since")], time="at"
    ).to_arrow().column_names == [
        *spine.column_names,
        "note",
    ]


def test_empty_tables_and_columns_of_nulls_have_a_defined_result() -> None:
    nothing = balances().slice(0, 0)
    nulls = pa.table({"id": ["a"], "since": [day(1)], "balance": pa.array([None], pa.int64())})
    for features in (nothing, nulls):
        made = repository(features=features)
        got = made.training_set(events(), [Lookup("features", "id", time="since")], time="at").to_arrow()
        assert got["balance"].to_pylist() == [None, None, None]
        empty = made.training_set(
            events().slice(0, 0), [Lookup("features", "id", time="since")], time="at"
        ).snapshot()
        assert (empty.num_rows, empty.schema.names) == (0, ["id", "at", "churned", "balance"])


# Splits ----------------------------------------------------------------------------------------------


def test_a_split_by_hash_is_md5_and_keeps_a_key_together_whatever_rows_there_are() -> None:
    made = repository(regions=pa.table({"id": range(1000), "region": ["n"] * 1000}))
    spine = pa.table({"id": [*range(1000), *range(1000)]})
    split = Split.by_hash("id", {"train": 0.7, "test": 0.3}, seed="s")
    parts = made.training_set(spine, [Lookup("regions", "id")], split=split).to_arrow()["split"].to_pylist()

    def part(number: int) -> str:
        digest = hashlib.md5(f"s\x1f{number}".encode()).digest()
        return "train" if int.from_bytes(digest[:8], "little") < 2**64 * 7 // 10 else "test"

    assert parts[:1000] == parts[1000:] == [part(number) for number in range(1000)]
    assert 650 < parts[:1000].count("train") < 750
    few = made.training_set(spine.slice(500, 10), [Lookup("regions", "id")], split=split).to_arrow()
    assert few["split"].to_pylist() == parts[500:510]


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        (pa.array([1, 5, 6, None]), [5, 6]),
        (pa.array([day(1), day(5), day(6), None]), [day(5), "2026-01-06"]),
        (pa.array([day(1), day(5), day(6), None]).cast(pa.date32()), [dt.date(2026, 1, 5), "2026-01-06"]),
        (
            pa.array([day(1), day(5), day(6), None], pa.timestamp("us", "Asia/Tokyo")),
            ["2026-01-05T01:00+01:00", dt.datetime(2026, 1, 6, tzinfo=dt.UTC)],
        ),
    ],
)
def test_a_split_by_time_ends_before_its_ends(values: pa.Array, ends: list[Any]) -> None:
    made = repository(regions=pa.table({"id": ["a"], "region": ["n"]}))
    spine = pa.table({"id": ["a"] * 4, "t": values})
    split = Split.by_time({"train": ends[0], "validation": ends[1], "test": None})
    got = made.training_set(spine, [Lookup("regions", "id")], time="t", split=split).to_arrow()
    assert got["split"].to_pylist() == ["train", "validation", "test", None]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Split.by_hash("id", {"train": 1}),
        lambda: Split.by_hash("id", {"train": 1, "test": 0}),
        lambda: Split.by_hash("id", {"train": "most", "test": 1}),
        lambda: Split.by_hash([]),
        lambda: Split.by_time({"train": 1, "test": 2}),
        lambda: Split.by_time({"train": None, "test": None}),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(InvalidUse):
        make()


# Bad input -------------------------------------------------------------------------------------------


ZONED = pa.table({"id": ["a"], "since": pa.array([0], pa.timestamp("us", "UTC")), "x": [1]})
BALANCE = Lookup("balances", "id", time="since")


@pytest.mark.parametrize(
    ("lookups", "options", "error", "sentence"),
    [
        ([Lookup("zoned", "id", time="since")], {}, InvalidUse, "without a time zone, and 'since' of zoned@v1 a"),
        ([Lookup("balances", "ident", time="since")], {}, NotFound, "the spine has no column 'ident'"),
        ([Lookup("balances", {"id": "ident"}, time="since")], {}, NotFound, "balances@v1 has no column 'ident'"),
        ([Lookup("balances", {"churned": "id"}, time="since")], {}, InvalidUse, "they are never equal"),
        ([Lookup("balances", [], time="since")], {}, InvalidUse, "needs columns to find rows by"),
        ([Lookup("balances", "id", time="balanc")], {}, NotFound, "no column 'balanc'"),
        ([Lookup("balances", "id", time="id")], {}, InvalidUse, "no time"),
        ([BALANCE], {"time": None}, InvalidUse, "the spine has none"),
        ([BALANCE], {"time": "when"}, NotFound, "the spine has no column 'when'"),
        ([BALANCE], {"label": "churn"}, NotFound, "the training set has no column 'churn'"),
        ([BALANCE, BALANCE], {}, InvalidUse, "both have a column 'balance'"),
        ([Lookup("balances", "id", time="since", prefix="chur", columns=["balance"])], {"label": "x"}, NotFound, "'x'"),
        ([], {}, InvalidUse, "at least one lookup"),
        ([Lookup("nothing", "id", time="since")], {}, NotFound, "no feature set 'nothing'"),
        ([Lookup("balances", "id", time="since", max_age=5)], {}, InvalidUse, "is a timedelta, of 0 or more, not 5"),
        ([Lookup("balances", "id", time="since", max_age=-_DAY)], {}, InvalidUse, "max_age"),
        (
            [Lookup("balances", "id", time="since", max_age=dt.timedelta.max)],
            {},
            InvalidUse,
            "at most 292,000 years",
        ),
        ([Lookup("balances", "id", max_age=_DAY)], {}, InvalidUse, "max_age and time_as need a time"),
        ([Lookup("balances", "id", time="since", ties="any")], {}, InvalidUse, "ties are"),
        ([Lookup("balances", "id", time="since", ties=["n"])], {}, NotFound, "no column 'n'"),
        ([Lookup("balances", "id", time="since", time_as="at")], {}, InvalidUse, "both have a column 'at'"),
        ([BALANCE], {"split": Split.by_hash("at")}, InvalidUse, "hash of column 'at'"),
        ([BALANCE], {"split": Split.by_hash("id", into="AT")}, InvalidUse, "both have a column 'AT'"),
        ([BALANCE], {"split": Split.by_time({"a": 5, "b": None})}, InvalidUse, "ends at 5, which is no timestamp"),
        ([BALANCE], {"split": Split.by_time({"a": day(5), "b": day(4), "c": None})}, InvalidUse, "ascend"),
        ([BALANCE], {"split": Split.by_time({"a": "2026-01-01Z", "b": None})}, InvalidUse, "which is no"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_up_is_said_before_anything_is_read(
    lookups: Any, options: dict[str, Any], error: type[FsvcError], sentence: str
) -> None:
    made = repository(balances=balances(), zoned=ZONED)
    with pytest.raises(error, match=sentence):
        made.training_set(events(), lookups, **{"time": "at", **options})


def test_keys_that_are_floats_or_nothing_but_nulls_are_refused() -> None:
    made = repository(features=pa.table({"id": [1.0], "nothing": pa.nulls(1), "x": [1]}))
    for column in ("id", "nothing"):
        with pytest.raises(InvalidUse, match="rows cannot be found by column"):
            made.training_set(pa.table({column: pa.array([1.0])}), [Lookup("features", column)])


def test_names_with_quotes_and_the_names_of_the_query_itself_do_no_harm() -> None:
    odd = 'a"b'
    made = repository(spine=pa.table({odd: ["k"], "s": [1], "it's": [2]}), f1=pa.table({"s": [1], "f1": [7]}))
    got = made.training_set(
        pa.table({odd: ["k"], "s": [1]}),
        [Lookup("spine", [odd], columns=["it's"]), Lookup("f1", "s")],
    ).to_arrow()
    assert got.to_pydict() == {odd: ["k"], "s": [1], "it's": [2], "f1": [7]}


def test_columns_that_duckdb_sees_inexactly_are_told_of_and_no_keys() -> None:
    wide = pa.array([decimal.Decimal("1.50")], pa.decimal256(50, 2))
    made = repository(features=pa.table({"id": ["a"], "wide": wide, "took": pa.array([5], pa.duration("s"))}))
    spine = pa.table({"id": ["a"], "wide": wide})
    with pytest.warns(FsvcWarning, match="DuckDB") as told:
        made.training_set(pa.table({"id": ["a"]}), [Lookup("features", "id")])
    rounded, bare = (str(one.message) for one in told)
    assert rounded.startswith("features@v1: DuckDB rounds column 'wide' to a double")
    assert bare.startswith("features@v1: DuckDB sees column 'took'")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.training_set(pa.table({"id": ["a"]}), [Lookup("features", "id", columns=[])])
    with pytest.raises(InvalidUse, match="rows cannot be found by column 'wide'"):
        made.training_set(spine, [Lookup("features", "wide")])
