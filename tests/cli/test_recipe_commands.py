"""Recipes and training sets on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fsvc.cli.exits import EXIT_CONFLICT, EXIT_DIFFERENCE, EXIT_NOT_FOUND, EXIT_USAGE

Fsvc = Any

TOTALS = "select customer, sum(amount) as total from orders group by customer order by customer"


@pytest.fixture
def shop(fsvc: Fsvc, place: Path) -> Path:
    (place / "orders.csv").write_text("customer,amount\na,1.5\nb,2.5\na,3.0\n")
    (place / "rates.csv").write_text("customer,rate\na,2\nb,3\n")
    fsvc("init")
    fsvc("commit", "orders.csv", "-m", "orders")
    return place


def test_a_query_is_committed_shown_rebuilt_and_applied(fsvc: Fsvc, shop: Path) -> None:
    (shop / "totals.sql").write_text(TOTALS)
    ran = fsvc("commit", "totals", "--sql", "totals.sql", "--key", "customer", "-m", "totals")
    assert "totals v1  new: 2 rows, 2 columns" in ran.out
    shown = fsvc("show", "totals").out
    assert "recipe   query, duckdb" in shown
    assert "orders = orders v1, 3 rows, commit" in shown
    assert TOTALS in shown
    document = fsvc("show", "totals", "--json").document["recipe"]
    assert document["sql"] == TOTALS
    assert fsvc("show", "orders", "--json").document["recipe"] is None
    assert "bit-identical, 2 rows" in fsvc("rebuild", "totals", "--exit-code").out
    assert fsvc("rebuild", "totals", "--json").document["identical"] is True
    (shop / "today.csv").write_text("customer,amount\nz,1\nz,2.5\n")
    fsvc("apply", "totals", "--input", "orders=today.csv", "-o", "out.parquet")
    assert pq.read_table("out.parquet").to_pydict() == {"customer": ["z"], "total": [3.5]}
    fsvc("apply", "totals", "--input", "orders=today.csv", "-o", "out.parquet", code=EXIT_CONFLICT)
    fsvc("apply", "totals", "--input", "orders=orders@v1", "-o", "out.csv")
    assert (shop / "out.csv").read_text().splitlines()[1:] == ['"a",4.5', '"b",2.5']
    assert "orders" not in fsvc("status").err


def test_a_query_with_values_and_a_file(fsvc: Fsvc, shop: Path) -> None:
    query = (
        "select customer, amount * rate as x from orders join rates using (customer) where amount > $least"
    )
    words = ["commit", "euros", "--sql", query, "--table", "rates=rates.csv", "-m", "euros"]
    ran = fsvc(*words, "--param", "least=2", "--time-zone", "Europe/Berlin")
    assert "there is no ORDER BY" in ran.err
    shown = fsvc("show", "euros").out
    assert "rates = rates.csv, 2 rows" in shown
    assert "least=2" in shown
    assert "TimeZone Europe/Berlin" in shown
    assert "open    the order of the rows" in shown
    assert "bit-identical" in fsvc("rebuild", "euros", "--table", "rates=rates.csv").out
    ran = fsvc("rebuild", "euros", code=EXIT_NOT_FOUND)
    assert "rates=PATH" in ran.err


def test_a_result_that_differs_is_shown_and_exits_with_3(fsvc: Fsvc, shop: Path) -> None:
    fsvc("commit", "dice", "--sql", "select customer, random() as r from orders", "-m", "dice")
    ran = fsvc("rebuild", "dice", "--rows", "--limit", "1", "--exit-code", code=EXIT_DIFFERENCE)
    assert "not the same" in ran.out
    assert "random() gives another value each time" in ran.out
    assert "more rows" in ran.err
    document = fsvc("rebuild", "dice", "--rows", "--json").document
    assert document["identical"] is False
    assert len(document["rows"]) == 6


def test_lineage_draws_what_a_snapshot_stands_on_and_what_stands_on_it(fsvc: Fsvc, shop: Path) -> None:
    fsvc("commit", "totals", "--sql", TOTALS, "-m", "totals")
    query = "from totals join orders using (customer) join rates using (customer) order by all"
    fsvc("commit", "all", "--sql", query, "--table", "rates=rates.csv", "-m", "all")
    lines = fsvc("lineage", "all").out.splitlines()
    assert [line.rpartition("─ ")[0] + line.rpartition("─ ")[2].split("  ")[0] for line in lines] == [
        "all v1",
        "made from",
        "├orders v1",
        "├totals v1",
        "│  └orders v1",
        "└rates",
    ]
    down = fsvc("lineage", "orders").out
    assert "made from  a table" in down
    assert "made into" in down
    document = fsvc("lineage", "orders", "--json").document
    assert document["snapshots"][0]["name"] == "orders"
    assert {one["name"] for one in document["snapshots"][0]["made_into"]} == {"totals", "all"}
    fsvc("lineage", "nothing", code=EXIT_NOT_FOUND)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["x", "--sql", "from 'orders.csv'"], 1, "a recipe does not allow this"),
        (["x", "--sql", "from nothing"], EXIT_NOT_FOUND, "'nothing'"),
        (["x", "--sql", "missing.sql"], 1, "missing.sql cannot be read"),
        (["x", "y", "--sql", TOTALS], EXIT_USAGE, "one feature set"),
        (["x", "--sql", TOTALS, "--sort-by", "total"], EXIT_USAGE, "--sort-by is not for a query"),
        (["x", "--sql", TOTALS, "--dry-run"], EXIT_USAGE, "--dry-run is not for a query"),
        (["x", "--sql", TOTALS, "--table", "rates"], EXIT_USAGE, "is not NAME=PATH"),
        (["x", "--sql", TOTALS, "--table", "a=rates.csv", "--table", "a=rates.csv"], EXIT_USAGE, "twice"),
        (["x", "--sql", TOTALS, "--table", "a=rates.csv"], EXIT_USAGE, "does not read the table 'a'"),
        (["orders.csv", "--param", "1"], EXIT_USAGE, "are for a query"),
        (["x/y", "--sql", TOTALS], EXIT_USAGE, "x/y"),
    ],
)
def test_slips_are_told(fsvc: Fsvc, shop: Path, words: list[str], code: int, sentence: str) -> None:
    ran = fsvc("commit", *words, "-m", "m", code=code)
    assert sentence in ran.err
    assert fsvc("ls", "--json").document["feature_sets"][0]["name"] == "orders"


SPEC = """
spine = "events.csv"
time = "at"
label = "churned"

[[lookup]]
features = "balances"
on = "customer"
time = "since"
max_age = "30 days"

[split]
by = "time"
parts = [["train", 2026-01-05], ["test"]]
"""


@pytest.fixture
def churn(fsvc: Fsvc, shop: Path) -> Path:
    (shop / "balances.csv").write_text(
        "customer,since,balance\na,2026-01-01,1\na,2026-01-06,6\nb,2025-11-01,5\n"
    )
    (shop / "events.csv").write_text("customer,at,churned\na,2026-01-02,0\nb,2026-01-02,1\na,2026-01-09,0\n")
    (shop / "churn.toml").write_text(SPEC)
    fsvc("commit", "balances.csv", "--key", "customer,since", "-m", "balances")
    return shop


def test_a_training_set_is_printed_written_described_and_committed(fsvc: Fsvc, churn: Path) -> None:
    assert "ASOF LEFT JOIN" in fsvc("training-set", "churn.toml", "--sql").out
    told = json.loads(fsvc("training-set", "churn.toml", "--describe").out)
    fsvc("training-set", "churn.toml", "-o", "churn.parquet")
    table = pq.read_table("churn.parquet")
    assert table["balance"].to_pylist() == [1, None, 6]
    assert table["split"].to_pylist() == ["train", "train", "test"]
    fsvc("training-set", "churn.toml", "-o", "churn.parquet", code=EXIT_CONFLICT)
    fsvc("training-set", "churn.toml", "--name", "churn", "-m", "training data")
    document = fsvc("show", "churn", "--json").document
    assert document["snapshot"] == told["snapshot"]
    assert document["recipe"]["training_set"]["label"] == ["churned"]
    assert "recipe   training set" in fsvc("show", "churn").out
    assert "bit-identical" in fsvc("rebuild", "churn", "--table", "spine=events.csv").out


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('spine = "events.csv"', "", "names no spine"),
        ('time = "at"', 'when = "at"', "unknown 'when'"),
        ('on = "customer"', "", "has no 'on'"),
        ('"30 days"', '"a month"', "'a month' is no age"),
        ('"30 days"', '"99999999999999 days"', "'99999999999999 days' is longer than any age"),
        ('by = "time"', 'by = "luck"', "neither hash nor time"),
        ('[["train", 2026-01-05], ["test"]]', '"train"', "no list"),
        ("[[lookup]]", "[lookup]", "not a table"),
        ("spine", "= spine", "is not TOML"),
    ],
)
def test_a_file_that_makes_no_sense_is_told(
    fsvc: Fsvc, churn: Path, before: str, after: str, sentence: str
) -> None:
    (churn / "churn.toml").write_text(SPEC.replace(before, after, 1))
    ran = fsvc("training-set", "churn.toml", "--sql", code=None)
    assert ran.code in (1, EXIT_USAGE)
    assert sentence in ran.err


def test_a_training_set_needs_to_know_what_becomes_of_it(fsvc: Fsvc, churn: Path) -> None:
    for words in ([], ["--sql", "--describe"], ["--name", "x"], ["-m", "x", "--sql"]):
        fsvc("training-set", "churn.toml", *words, code=EXIT_USAGE)
