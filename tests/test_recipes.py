"""Recipes: a commit that holds a query's result says how to make it again, and making it again gives the same bits."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from memory import memory_repository

import fsvc
from fsvc import Repository
from fsvc.engine.files import manifest_key
from fsvc.errors import (
    Corruption,
    FsvcError,
    FsvcWarning,
    InvalidUse,
    KeyViolation,
    NotAllowed,
    NotFound,
    SkewError,
    UnknownFormat,
)
from fsvc.features.lineage import lineage
from fsvc.format.recipe import RecipeRecord

ORDERS = pa.table({"order": [1, 2, 3, 4], "customer": ["a", "b", "a", "c"], "amount": [1.5, 2.5, 3.0, None]})
TOTALS = "select customer, sum(amount) as total from orders group by customer order by customer"


@pytest.fixture
def shop() -> Repository:
    made = memory_repository()
    made.commit({"orders": ORDERS}, key="order", message="orders")
    return made


def quietly(shop: Repository, name: str, query: str, *values: Any, **options: Any) -> fsvc.Snapshot:
    """Commit a query whose warnings are not what is looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FsvcWarning)
        return shop.commit_query(name, query, *values, message=name, **options).snapshot(name)


# What is recorded ------------------------------------------------------------------------------------


def test_a_commit_holds_the_result_and_the_query_with_all_that_it_read(shop: Repository) -> None:
    before = shop.head()
    assert before is not None
    snapshot = quietly(shop, "totals", TOTALS, key="customer")
    assert snapshot.to_arrow().to_pydict() == {"customer": ["a", "b", "c"], "total": [4.5, 2.5, None]}
    recipe = snapshot.recipe
    assert recipe.sql == TOTALS
    assert recipe.inputs == {"orders": replace(before.snapshot("orders").reference, ref="main")}
    assert recipe.undetermined == ()
    assert recipe.record.settings["TimeZone"] == "UTC"
    assert recipe.record.settings["threads"] == "1"
    assert set(recipe.record.programs) == {"duckdb"}
    # The commit id proves it: it is the commit's own bytes that say so.
    stored = json.loads(snapshot.commit.record.encoded)
    assert RecipeRecord.parse(stored["changes"]["totals"]["recipe"], what="it") == recipe.record


def test_inputs_are_pinned_whatever_becomes_of_the_branch(shop: Repository) -> None:
    quietly(shop, "totals", TOTALS)
    shop.commit({"orders": ORDERS.slice(0, 1)}, message="fewer")
    built = shop.snapshot("totals").recipe.rebuild()
    assert built.identical
    assert built.programs == {}
    again = quietly(shop, "totals", TOTALS)
    assert again.version == 2
    assert again.to_arrow().num_rows == 1
    assert again.recipe.inputs["orders"].version == 2


def test_a_version_stays_as_it_was_made_where_nothing_changed(shop: Repository) -> None:
    first = quietly(shop, "totals", TOTALS)
    with pytest.warns(FsvcWarning, match="no recipe was recorded: v1 stands"):
        made = shop.commit_query("totals", TOTALS + " ", message="again")
    assert not made.created
    assert made.snapshot("totals").recipe.sql == first.recipe.sql == TOTALS


def test_later_commits_and_merges_find_the_recipe_of_what_they_hold(shop: Repository) -> None:
    shop.branch("try")
    quietly(shop, "totals", TOTALS, branch="try")
    shop.commit({"other": ORDERS}, message="meanwhile")
    merged = shop.merge("try")
    assert len(merged.parents) == 2
    assert merged.snapshot("totals").recipe.sql == TOTALS
    shop.commit({"other": ORDERS.slice(1)}, message="later")
    assert shop.snapshot("totals").recipe.commit.message == "totals"
    with pytest.raises(NotFound, match="orders@v1 was not made by a recipe"):
        _ = shop.snapshot("orders").recipe


def test_a_pick_keeps_the_recipe_of_what_it_takes_over_whole(shop: Repository) -> None:
    shop.branch("try")
    made = quietly(shop, "totals", TOTALS, key="customer", branch="try")
    shop.commit({"other": ORDERS}, message="meanwhile")
    picked = shop.cherry_pick("try").snapshot("totals")
    assert (picked.id, picked.recipe.record) == (made.id, made.recipe.record)
    assert picked.recipe.commit.id == shop.head().id  # type: ignore[union-attr]
    assert picked.recipe.rebuild().identical
    shop.branch("again", "main~1")
    assert shop.cherry_pick("main", branch="again").snapshot("totals").recipe.sql == TOTALS


def test_a_merge_of_rows_keeps_a_recipe_only_where_it_gives_what_the_recipe_made(shop: Repository) -> None:
    start = pa.table({"customer": ["a", "b", "c"], "total": [0.0, 0.0, 0.0]})
    shop.commit({"totals": start}, key="customer", message="start")
    for branch, totals in (("same", [4.5, 0.0, 0.0]), ("other", [0.0, 0.0, 0.0])):
        shop.branch(branch)
        more = ["z"] if branch == "other" else []
        table = pa.table({"customer": ["a", "b", "c", *more], "total": [*totals, *(1.0 for _ in more)]})
        shop.commit({"totals": table}, message=branch, branch=branch)
    made = quietly(shop, "totals", TOTALS, key="customer")
    same = shop.cherry_pick("main", branch="same").snapshot("totals")
    assert same.id == made.id and same.recipe.sql == TOTALS
    other = shop.cherry_pick("main", branch="other").snapshot("totals")
    assert other.num_rows == 4
    with pytest.raises(NotFound, match="was not made by a recipe"):
        _ = other.recipe


def test_a_revert_brings_the_recipe_back_with_the_snapshot(shop: Repository) -> None:
    made = quietly(shop, "totals", TOTALS, key="customer")
    shop.commit({"other": ORDERS}, message="meanwhile")
    shop.commit({"totals": made.to_arrow().slice(1)}, message="by hand")
    back = shop.revert("main").snapshot("totals")
    assert (back.id, back.version) == (made.id, 3)
    assert back.recipe.record == made.recipe.record and back.recipe.rebuild().identical
    forth = shop.revert("main").snapshot("totals")  # what was committed by hand has no recipe
    assert forth.num_rows == made.num_rows - 1
    with pytest.raises(NotFound, match="was not made by a recipe"):
        _ = forth.recipe


def test_a_revision_in_the_query_and_one_set_at_two_of_them(shop: Repository) -> None:
    shop.commit({"orders": ORDERS.slice(1)}, message="fewer")
    query = 'select count(*) as n from orders@v1 union all select count(*) from "orders" order by n'
    snapshot = quietly(shop, "counts", query)
    assert snapshot.to_arrow()["n"].to_pylist() == [3, 4]
    assert {name: one.version for name, one in snapshot.recipe.inputs.items()} == {
        "orders@v1": 1,
        "orders": 2,
    }
    assert snapshot.recipe.rebuild().identical
    with pytest.raises(InvalidUse, match="several revisions") as raised:
        # "orders" is the very name of one of them: only a name that is none is unclear.
        quietly(shop, "more", "from orders@v1 union all from orders@v2").recipe.apply({"orders": ORDERS})
    assert "orders@v1" in (raised.value.hint or "")


def test_a_query_on_its_own_feature_set_reads_the_version_before(shop: Repository) -> None:
    with pytest.raises(NotFound, match="'running'"):
        quietly(shop, "running", "from running")
    shop.commit({"running": pa.table({"n": [1]})}, message="start")
    for _ in range(2):
        quietly(shop, "running", "select n + 1 as n from running")
    snapshot = shop.snapshot("running")
    assert snapshot.to_arrow()["n"].to_pylist() == [3]
    assert snapshot.recipe.rebuild().identical
    assert snapshot.recipe.inputs["running"].version == 2
    graph = lineage(snapshot)
    assert sorted(step.version for step in graph.steps.values()) == [1, 2, 3]


@pytest.mark.parametrize(
    "value",
    [
        5, -(2**70), 2**63, 0.1, float("inf"), float("-inf"), True, None, "te'xt", b"\0\xff",
        decimal.Decimal("1.10"), dt.date(2026, 1, 1), dt.time(1, 2, 3), dt.timedelta(days=-1, microseconds=5),
        dt.datetime(2026, 1, 1, 5, tzinfo=dt.timezone(dt.timedelta(hours=2))), [1, [None, "x"], 2.5],
    ],
)  # fmt: skip
def test_parameters_come_back_as_they_were(value: Any) -> None:
    record = RecipeRecord("select 1", {}, parameters={"value": value, "list": [value]})
    document = json.loads(json.dumps(record.document()))
    found = RecipeRecord.parse(document, what="it").parameters
    assert found == {"value": value, "list": [value]}
    assert repr(found) == repr({"value": value, "list": [value]})


def test_parameters_are_used_again(shop: Repository) -> None:
    named = quietly(shop, "big", "from orders where amount >= $least order by all", {"least": 2.5})
    placed = quietly(shop, "some", 'from orders where customer = ? and "order" < ? order by all', ["a", 3])
    assert named.to_arrow()["order"].to_pylist() == [2, 3]
    assert placed.to_arrow()["order"].to_pylist() == [1]
    assert named.recipe.rebuild().identical
    assert placed.recipe.rebuild().identical
    with pytest.raises(InvalidUse, match="a set cannot be a parameter"):
        quietly(shop, "bad", "select $a", {"a": {1}})
    assert "bad" not in shop.head().versions  # type: ignore[union-attr]


def test_the_time_zone_is_that_of_the_recipe_and_not_of_the_machine(shop: Repository) -> None:
    query = "select timestamptz '2026-01-01 00:00:00' as at, (timestamptz '2026-07-01T00:00Z')::date as day"
    utc, tokyo = quietly(shop, "utc", query), quietly(shop, "tokyo", query, time_zone="Asia/Tokyo")
    assert utc.to_arrow()["at"].type == pa.timestamp("us", "UTC")
    assert tokyo.to_arrow()["at"].type == pa.timestamp("us", "Asia/Tokyo")
    assert (utc.to_arrow()["at"][0].value - tokyo.to_arrow()["at"][0].value) == 9 * 3600 * 10**6
    assert tokyo.recipe.rebuild().identical
    with pytest.raises(InvalidUse, match="[Tt]ime[ -]?[Zz]one"):
        quietly(shop, "moon", query, time_zone="Moon/Crater")


# Tables from outside ---------------------------------------------------------------------------------


RATES = "customer,rate\na,2\nb,3\n"
IN_EUROS = "select customer, amount * rate as euros from orders join rates using (customer) order by all"


def test_a_file_is_named_and_recorded_by_what_it_holds(shop: Repository, tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(RATES)
    snapshot = quietly(shop, "euros", IN_EUROS, tables={"rates": path})
    assert snapshot.to_arrow()["euros"].to_pylist() == [3.0, 6.0, 7.5]
    known = snapshot.recipe.record.tables["rates"]
    assert (known.rows, known.path, known.snapshot) == (2, str(path), fsvc.identify(path).id)
    assert snapshot.recipe.rebuild({"rates": path}).identical
    # The same table in another file is the same table.
    other = tmp_path / "rates.parquet"
    pq.write_table(pa.table({"customer": ["a", "b"], "rate": [2, 3]}), other)
    assert snapshot.recipe.rebuild({"rates": other}).identical
    path.write_text(RATES.replace("3", "4"))
    with pytest.raises(InvalidUse, match="'rates' is not the one"):
        snapshot.recipe.rebuild({"rates": path})
    # It is never opened because a commit says where it was.
    with pytest.raises(NotFound, match=r"not in the repository \(it was read from .*rates.csv\)"):
        snapshot.recipe.rebuild()
    got = snapshot.recipe.apply({"rates": path}).to_arrow()
    assert got["euros"].to_pylist() == [3.0, 6.0, 10.0]


@pytest.mark.parametrize(
    "query",
    [
        "from '{path}'",
        "from read_csv('{path}')",
        "from orders, read_text('{path}')",
        "select count(*) from glob('{folder}/*')",
        "from read_parquet('fsvc://orders@main')",
        "copy orders to '{path}'",
        "attach '{path}' as other",
        "select 1; select 2",
        "install httpfs",
        "set threads = 4",
        "create table x as from orders",
    ],
)
def test_a_recipe_reads_nothing_that_it_was_not_given(shop: Repository, tmp_path: Path, query: str) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(RATES)
    before = shop.head()
    with pytest.raises(NotAllowed, match="a recipe") as raised:
        quietly(shop, "sly", query.format(path=path, folder=tmp_path))
    assert "--table" in (raised.value.hint or "")
    assert shop.head() == before
    assert path.read_text() == RATES


def test_a_python_variable_is_no_table(shop: Repository) -> None:
    hidden = ORDERS
    assert hidden.num_rows
    with pytest.raises(NotFound, match="'hidden'"):
        quietly(shop, "sly", "from hidden")


def test_a_snapshot_that_is_not_committed_is_a_table_from_outside(shop: Repository) -> None:
    totals = quietly(shop, "totals", TOTALS)
    loose = totals.recipe.apply({"orders": ORDERS.slice(2)})
    tables = {"loose": loose, "kept": totals}
    snapshot = quietly(shop, "x", "from loose union all from kept order by all", tables=tables)
    assert list(snapshot.recipe.inputs) == ["kept"]
    assert list(snapshot.recipe.record.tables) == ["loose"]
    assert snapshot.recipe.rebuild({"loose": loose}).identical


def test_a_table_that_the_query_does_not_name_is_a_slip(shop: Repository) -> None:
    with pytest.raises(InvalidUse, match="does not read the table 'rate'"):
        quietly(shop, "totals", TOTALS, tables={"rate": {"a": [1]}})


# What a query leaves open ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "sentences"),
    [
        (TOTALS, []),
        ("from orders order by all", []),
        ("select count(*) as n from orders", []),
        ('from orders order by amount, "order"', []),
        ("from orders order by 1 desc", []),
        ("from orders order by amount", ["does not hold the key"]),
        ("from orders", ["there is no ORDER BY"]),
        ('select "order", random() as r from orders order by 1', ["random() gives another value"]),
        ('select "order", uuid() as r from orders order by 1', ["uuid() gives another value"]),
        ('select "order", now() as t from orders order by 1', ["now() depends on when"]),
        ('select "order", current_date as t from orders order by 1', ["current_date depends on when"]),
        (
            "select \"order\", age(timestamp '2020-01-01')::text as t from orders order by 1",
            ["age() depends on when"],
        ),
        ('select "order" from orders using sample 2 rows order by 1', ["a sample"]),
        (
            "select customer, first(amount) as x from orders group by 1 order by 1",
            ["first() depends on the order"],
        ),
        ("select customer, list(amount order by amount) as x from orders group by 1 order by 1", []),
        (
            "select customer, list(amount) as x from orders group by 1 order by 1",
            ["list() depends on the order"],
        ),
        (
            'select "order", row_number() over () as n from orders order by 1',
            ["row_number() depends on the order"],
        ),
        (
            'select "order", lag(amount) over (partition by customer order by "order") as n from orders order by 1',
            ["lag() depends on which comes first"],
        ),
        ("with few as (from orders limit 2) select count(*) as n from few", ["LIMIT takes any rows"]),
        ("select distinct on (customer) * from orders", ["DISTINCT ON keeps any", "there is no ORDER BY"]),
        (
            "select name as customer from duckdb_settings() order by all",
            ["duckdb_settings() depends on where the query runs"],
        ),
        (
            "select relname as customer from pg_catalog.pg_class order by all",
            ["pg_catalog.pg_class depends on where the query runs"],
        ),
    ],
)
def test_what_a_query_leaves_open_is_named(shop: Repository, query: str, sentences: list[str]) -> None:
    key = {"key": "order"} if query.startswith(("from orders", 'select "order"')) else {"key": "customer"}
    if any(part in query for part in ("as n from few", "count(*) as n from orders", "pg_class")):
        key = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = shop.commit_query("some", query, message="some", **key)  # type: ignore[arg-type]
    told = [str(one.message) for one in caught]
    found = made.snapshot("some").recipe.undetermined
    assert [f"some: {sentence}" for sentence in found] == told
    assert len(found) == len(sentences)
    for sentence, wanted in zip(found, sentences, strict=True):
        assert wanted in sentence


def test_sums_of_floats_are_named_where_threads_share_the_rows(shop: Repository) -> None:
    query = "select customer, sum(amount) as total from orders group by 1 order by 1"
    one, two = (quietly(shop, f"t{n}", query, key="customer", threads=n) for n in (1, 2))
    assert one.recipe.undetermined == ()
    assert "sum() of floating-point numbers" in two.recipe.undetermined[0]
    assert two.recipe.record.settings["threads"] == "2"


def test_wide_integers_are_told_of(shop: Repository) -> None:
    with pytest.warns(FsvcWarning, match="'n' is a HUGEINT, and kept as decimal128"):
        made = shop.commit_query("sums", 'select sum("order") as n from orders', message="sums")
    assert made.snapshot("sums").schema.field("n").type == pa.decimal128(38, 0)


# Rebuilding ------------------------------------------------------------------------------------------


def test_sums_of_floats_rebuild_to_the_last_bit(shop: Repository) -> None:
    rows = 300_000
    values = pa.array([((n * 7919) % 10_007) ** 3 * 1e-7 for n in range(rows)])
    shop.commit({"wide": pa.table({"g": [n % 97 for n in range(rows)], "x": values})}, message="wide")
    snapshot = quietly(
        shop, "sums", "select g, sum(x) as s, stddev(x) as d, corr(x, g) as c from wide group by g", key="g"
    )
    for _ in range(3):
        assert snapshot.recipe.rebuild().identical


def test_what_is_not_the_same_is_shown(shop: Repository) -> None:
    query = 'select "order", (random() * 1e9)::bigint as dice from orders order by 1'
    snapshot = quietly(shop, "dice", query, key="order")
    built = snapshot.recipe.rebuild()
    assert not built.identical
    assert built.diff.stat().changed == 4
    assert [column.name for column in built.diff.stat().columns] == ["dice"]
    assert shop.head() == snapshot.commit


def test_rebuilding_from_many_threads_at_once(shop: Repository) -> None:
    snapshot = quietly(shop, "totals", TOTALS)
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(snapshot.recipe.rebuild().identical)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_another_version_of_duckdb_is_told_of(shop: Repository) -> None:
    snapshot = quietly(shop, "totals", TOTALS)
    shop.store.commit(snapshot.commit.id).changes["totals"]["recipe"]["programs"]["duckdb"] = "1.0"
    ((name, (old, new)),) = snapshot.recipe.rebuild().programs.items()
    assert (name, old) == ("duckdb", "1.0")
    assert new


def test_inputs_that_are_gone_or_damaged_are_named(tmp_path: Path) -> None:
    shop = fsvc.init(tmp_path / "shop", author="Ada")
    shop.commit({"other": ORDERS}, message="other")
    shop.branch("aside")
    shop.commit({"orders": ORDERS}, message="orders", branch="aside")
    snapshot = quietly(shop, "totals", TOTALS.replace("orders", "orders@aside"))
    shop.delete_branch("aside")
    reference = snapshot.recipe.inputs["orders@aside"]
    (tmp_path / "shop" / manifest_key(reference.snapshot)).unlink()
    fresh = fsvc.open(tmp_path / "shop").snapshot("totals")
    with pytest.raises(Corruption, match="orders@v1, which totals@v1 was made from, cannot be read"):
        fresh.recipe.rebuild()
    (tmp_path / "shop" / "commits" / f"{reference.commit}.json").unlink()
    fresh = fsvc.open(tmp_path / "shop").snapshot("totals")
    with pytest.raises(NotFound, match="orders@v1, which totals@v1 was made from, is gone"):
        fresh.recipe.rebuild()
    assert fresh.to_arrow().num_rows == 3  # restoring runs nothing
    graph = lineage(fresh)
    (problem,) = [step.problem for step in graph.steps.values() if step.problem]
    assert "is not in" in problem


def test_a_recipe_that_was_tampered_with_or_is_newer_is_refused() -> None:
    document = RecipeRecord("select 1", {}).document()
    with pytest.raises(UnknownFormat, match="schema_version 2"):
        RecipeRecord.parse({**document, "schema_version": 2}, what="it")
    for bad in (
        None,
        {},
        {**document, "sql": 5},
        {**document, "inputs": []},
        {**document, "inputs": {"a": {}}},
        {**document, "tables": {"a": {"snapshot": "x", "rows": 1, "path": None}}},
        {**document, "parameters": [{"no": 1}]},
        {**document, "parameters": [{"decimal": "x"}]},
        {**document, "settings": {"threads": 1}},
        {**document, "undetermined": 5},
        {**document, "parameters": [[[[[[[[[[[[1]]]]]]]]]]]]},
        {**document, "training_set": []},
        {**document, "training_set": {"label": 5}},
        {**document, "training_set": {"label": [5]}},
    ):
        with pytest.raises(Corruption, match="it"):
            RecipeRecord.parse(bad, what="it")
    assert RecipeRecord.parse({**document, "more": 1}, what="it") == RecipeRecord("select 1", {})


@pytest.mark.parametrize("threads", ["100000", "0", "-1", "many", "9" * 5000])
def test_threads_of_a_foreign_commit_are_a_number_that_a_machine_has(shop: Repository, threads: str) -> None:
    snapshot = quietly(shop, "totals", TOTALS)
    shop.store.commit(snapshot.commit.id).changes["totals"]["recipe"]["settings"]["threads"] = threads
    recipe = snapshot.recipe
    assert recipe is not None
    with pytest.raises(InvalidUse, match="which is no number of them"):
        recipe.rebuild()
    with pytest.raises(InvalidUse, match="1 to 1024 threads"):
        shop.commit_query("more", TOTALS, message="m", threads=100_000)


def test_settings_of_a_foreign_commit_cannot_get_around_the_walls(shop: Repository, tmp_path: Path) -> None:
    snapshot = quietly(shop, "totals", TOTALS)
    out = tmp_path / "out.csv"
    recorded = shop.store.commit(snapshot.commit.id).changes["totals"]["recipe"]
    recorded["settings"][f"threads = 1; COPY (SELECT 1) TO '{out}'; SET threads"] = "1"
    with pytest.raises(UnknownFormat, match="settings that this fsvc does not know"):
        snapshot.recipe.rebuild()
    assert not out.exists()


# The same logic on fresh data ------------------------------------------------------------------------


def test_apply_runs_the_logic_on_other_tables(shop: Repository, tmp_path: Path) -> None:
    recipe = quietly(shop, "totals", TOTALS, key="customer").recipe
    fresh = pa.table({"order": [9, 8], "customer": ["z", "z"], "amount": [1.0, 2.0], "more": [1, 2]})
    path = tmp_path / "today.parquet"
    pq.write_table(fresh, path)
    for table in (
        fresh,
        fresh.to_pandas(),
        path,
        str(path),
        {name: fresh[name] for name in fresh.column_names},
    ):
        made = recipe.apply({"orders": table})
        assert made.to_arrow().to_pydict() == {"customer": ["z"], "total": [3.0]}
    assert shop.log("totals")[0].message == "totals"
    assert shop.commit({"today": made}, message="kept").snapshot("today").to_arrow().equals(made.to_arrow())


def test_inputs_that_are_not_given_are_those_that_were_read(shop: Repository) -> None:
    shop.commit({"names": pa.table({"customer": ["a", "b"], "name": ["Ann", "Bob"]})}, message="names")
    query = "select name, amount from orders join names using (customer) order by all"
    recipe = quietly(shop, "named", query).recipe
    shop.commit({"names": pa.table({"customer": ["a", "b"], "name": ["X", "Y"]})}, message="renamed")
    got = recipe.apply({"orders": ORDERS.slice(1, 1)}).to_arrow()
    assert got.to_pydict() == {"name": ["Bob"], "amount": [2.5]}
    got = recipe.apply({"orders": ORDERS.slice(1, 1), "names": shop.snapshot("names")}).to_arrow()
    assert got["name"].to_pylist() == ["Y"]


@pytest.mark.parametrize(
    ("fresh", "error", "sentence"),
    [
        (
            ORDERS.set_column(2, "amount", pa.array(["1"] * 4)),
            SkewError,
            "'amount' is string, and was double",
        ),
        (ORDERS.drop_columns("amount"), SkewError, "1 column is missing: 'amount'"),
        (pa.concat_tables([ORDERS, ORDERS]), KeyViolation, "order"),
    ],
)
def test_inputs_of_another_form_are_refused(
    shop: Repository, fresh: pa.Table, error: type[FsvcError], sentence: str
) -> None:
    recipe = quietly(shop, "totals", TOTALS).recipe
    with pytest.raises(error, match=sentence):
        recipe.apply({"orders": fresh})


def test_a_snapshot_in_place_of_an_input_has_to_have_its_key(shop: Repository) -> None:
    recipe = quietly(shop, "totals", TOTALS).recipe
    shop.commit({"loose": pa.concat_tables([ORDERS, ORDERS]), "bare": ORDERS}, message="no key")
    with pytest.raises(KeyViolation):
        recipe.apply({"orders": shop.snapshot("loose")})
    assert recipe.apply({"orders": shop.snapshot("bare")}).to_arrow().num_rows == 3


def test_layouts_that_a_query_does_not_see_make_no_difference(shop: Repository) -> None:
    recipe = quietly(shop, "totals", TOTALS).recipe
    names = ORDERS["customer"].combine_chunks()
    for column in (names.dictionary_encode(), names.cast(pa.large_string())):
        assert recipe.apply({"orders": ORDERS.set_column(1, "customer", column)}).to_arrow().num_rows == 3


def test_a_result_of_another_form_is_refused(shop: Repository) -> None:
    recipe = quietly(shop, "odd", "from orders join extra using (customer) order by all",
                     tables={"extra": {"customer": ["a"], "x": [1]}}).recipe  # fmt: skip
    with pytest.raises(SkewError, match="the result is not of the form of odd@v1: column 'x' is string"):
        recipe.apply({"extra": {"customer": ["a"], "x": ["1"]}})
    with pytest.raises(NotFound, match="no input 'extras'") as raised:
        recipe.apply({"extras": {"customer": ["a"]}})
    assert raised.value.hint == "did you mean 'extra'?"


def test_empty_inputs_give_an_empty_result_of_the_same_form(shop: Repository) -> None:
    snapshot = quietly(shop, "totals", TOTALS)
    made = snapshot.recipe.apply({"orders": ORDERS.slice(0, 0)})
    assert made.num_rows == 0
    assert made.schema.equals(snapshot.schema)


# Lineage ---------------------------------------------------------------------------------------------


def test_the_graph_goes_up_and_down(shop: Repository) -> None:
    quietly(shop, "totals", TOTALS)
    quietly(shop, "shares", "select customer, total / sum(total) over () as share from totals order by all")
    quietly(shop, "both", "from totals join shares using (customer) order by all")
    shop.commit({"orders": ORDERS.slice(1)}, message="other data")
    graph = lineage(shop.snapshot("orders@v1"))
    names = {node: node[0] for node in graph.steps}
    assert sorted(names.values()) == ["both", "orders", "shares", "totals"]
    assert [node[0] for node in graph.made[graph.node]] == ["totals"]
    totals = graph.made[graph.node][0]
    assert sorted(node[0] for node in graph.made[totals]) == ["both", "shares"]
    up = lineage(shop.snapshot("both"))
    assert {name: node[0] for name, node in up.steps[up.node].inputs.items()} == {
        "totals": "totals",
        "shares": "shares",
    }
    assert lineage(shop.snapshot("orders@v2")).made == {lineage(shop.snapshot("orders@v2")).node: ()}
