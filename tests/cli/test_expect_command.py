"""``fsvc expect``, and what other commands say of expectations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Fsvc = Any


def write(path: str, *balances: float | None) -> None:
    pq.write_table(pa.table({"id": range(len(balances)), "balance": pa.array(balances, pa.float64())}), path)


@pytest.fixture
def shop(place: Path, fsvc: Fsvc) -> Path:
    fsvc("init")
    write("customers.parquet", 1, 2, 3)
    fsvc("commit", "customers.parquet", "--key", "id", "-m", "first")
    return place


def test_options_say_what_documents_say(shop: Path, fsvc: Fsvc) -> None:
    assert fsvc("expect", "customers").err == "nothing is expected of customers\n"
    fsvc("expect", "customers", "--not-null", "balance=0.25", "--range", "balance=(0..100]", "--unique", "id,balance",
         "--rows", "1..", "--column", "id=int64", "-m", "what we know")  # fmt: skip
    fsvc(
        "expect", "customers", "--drift", "all", "--threshold", "psi=0.5", "--threshold", "ks=none", "--warn"
    )
    ran = fsvc("expect", "customers")
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == [
        "column:id", "drift", "not_null:balance", "range:balance", "rows", "unique:id,balance",
    ]  # fmt: skip
    assert "above 0 and at most 100" in ran.out
    document = fsvc("expect", "customers", "--json").document
    assert document["expectations"] == [
        {"kind": "column", "column": "id", "type": "int64"},
        {"kind": "drift", "thresholds": {"psi": 0.5, "ks": None}, "severity": "warning"},
        {"kind": "not_null", "column": "balance", "at_most": 0.25},
        {"kind": "range", "column": "balance", "above": 0, "max": 100},
        {"kind": "rows", "min": 1},
        {"kind": "unique", "columns": ["id", "balance"]},
    ]
    (shop / "expected.json").write_text(json.dumps(document))
    assert "nothing changed" in fsvc("expect", "customers", "--from", "expected.json").out
    assert fsvc("log").out.splitlines()[1].split("  ")[3] == "what we know"


def test_a_file_takes_the_place_of_all_that_was_expected(shop: Path, fsvc: Fsvc) -> None:
    fsvc("expect", "customers", "--rows", "1..")
    (shop / "e.toml").write_text(
        '[[expectations]]\nkind = "range"\ncolumn = "balance"\nmin = 0.5\n\n'
        '[[expectations]]\nkind = "values"\ncolumn = "id"\nvalues = [0, 1, 2]\nseverity = "warning"\n'
    )
    made = fsvc("expect", "customers", "--from", "e.toml", "--json").document
    assert [one["kind"] for one in made["expectations"]] == ["range", "values"]
    assert made["versions"] == {"customers": 1, "customers.expectations": 2}
    fsvc("expect", "customers", "--remove", "values:id")
    assert [one["kind"] for one in fsvc("expect", "customers", "--json").document["expectations"]] == [
        "range"
    ]
    fsvc("expect", "customers", "--remove", "all")
    assert fsvc("expect", "customers", "--json").document["expectations"] == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nobody"], 4, "there is no feature set 'nobody'"),
        (["customers", "--range", "balanse=0..1"], 4, "did you mean 'balance'"),
        (["customers", "--range", "balance=5..1"], 2, "nothing is at least 5 and at most 1"),
        (["customers", "--range", "balance=5"], 2, "is no range"),
        (["customers", "--range", "balance"], 2, "write --range balance=LOW..HIGH"),
        (["customers", "--rows", "few..many"], 2, "no range of numbers"),
        (["customers", "--not-null", "balance=some"], 2, "no share"),
        (["customers", "--not-null", "id", "--not-null", "id"], 2, "given twice"),
        (["customers", "--threshold", "psi=1"], 2, "--threshold is for --drift"),
        (["customers", "--drift", "all", "--threshold", "pis=1"], 2, "did you mean 'psi'"),
        (["customers", "--warn"], 2, "--warn is for what is given"),
        (["customers", "--remove", "rows"], 4, "has no expectation 'rows'"),
        (["customers", "customers.parquet"], 2, "customers.parquet --check"),
        (["customers", "--check", "--rows", "1.."], 2, "--check changes nothing"),
        (["customers", "nothing.parquet", "--check"], 1, "there is no file nothing.parquet"),
        (["customers@v1", "--rows", "1.."], 2, "does not change"),
        (["customers", "--from", "none.json"], 1, "cannot be read"),
        (["customers", "--from", "bad.json"], 1, "is not JSON"),
        (["customers", "--from", "bad.toml"], 1, "is not TOML"),
        (["customers", "--from", "odd.json"], 2, "did you mean 'rows'"),
        (["customers", "--rows", "1..", "--branch", "mian"], 4, "did you mean 'main'"),
    ],
)
def test_mistakes_are_told_and_nothing_is_committed(
    shop: Path, fsvc: Fsvc, words: list[str], code: int, said: str
) -> None:
    (shop / "bad.json").write_text("{")
    (shop / "bad.toml").write_text("= 1")
    (shop / "odd.json").write_text('{"expectations": [{"kind": "row", "min": 1}]}')
    head = fsvc("show", "--json").document["id"]
    ran = fsvc("expect", *words, code=code)
    assert said in ran.err
    assert fsvc("show", "--json").document["id"] == head


def test_a_commit_that_fails_tells_all_that_fails(shop: Path, fsvc: Fsvc) -> None:
    fsvc("expect", "customers", "--range", "balance=0..10", "--not-null", "balance", "--rows", "..3")
    head = fsvc("show", "--json").document["id"]
    write("customers.parquet", 1, -2, None, 40)
    ran = fsvc("commit", "customers.parquet", "-m", "bad", code=1)
    assert ran.out == ""
    assert ran.err.splitlines()[0] == "fsvc: customers does not meet 3 of its 3 expectations"
    assert "not_null:balance: 1 of 4 rows has a null in 'balance' (id=2, balance null)" in ran.err
    assert "range:balance: 2 of 4 rows are not at least 0 and at most 10 (id=1, balance -2.0; id=3" in ran.err
    assert "rows: there are 4 rows, more than 3" in ran.err
    assert "--no-verify" in ran.err.splitlines()[-1]
    error = fsvc("commit", "customers.parquet", "-m", "bad", "--json", code=1).document["error"]
    assert error["kind"] == "ExpectationError"
    assert [one["outcome"] for one in error["reports"][0]["results"]] == ["failed"] * 3
    assert fsvc("show", "--json").document["id"] == head
    assert "modified" in fsvc("status").out


def test_what_was_not_verified_is_said_by_commit_show_and_log(shop: Path, fsvc: Fsvc) -> None:
    fsvc("expect", "customers", "--range", "balance=0..10")
    write("customers.parquet", 1, 20)
    ran = fsvc("commit", "customers.parquet", "-m", "bad", "--no-verify")
    for out in (ran.out, fsvc("show").out, fsvc("log", "-n", "1").out, fsvc("log", "--long", "-n", "1").out):
        assert "(not verified: 1 expectation)" in out
    assert "not verified: 1 expectation" in fsvc("show", "customers").out
    write("customers.parquet", 1, 2)
    assert "(1 expectation met)" in fsvc("commit", "customers.parquet", "-m", "good").out
    shown = fsvc("show", "customers", "--json").document
    assert (shown["verified"], len(shown["expectations"])) == ({"met": 1}, 1)


def test_warnings_go_to_stderr(shop: Path, fsvc: Fsvc) -> None:
    fsvc("expect", "customers", "--range", "balance=0..10", "--drift", "all", "--warn")
    write("customers.parquet", 1, 20)
    ran = fsvc("commit", "customers.parquet", "-m", "m")
    assert "warning: customers: range:balance: 1 of 2 rows is not at least 0 and at most 10" in ran.err
    assert "1 expectation met, 1 not met" in ran.out


def test_a_check_ends_with_3_where_it_fails(shop: Path, fsvc: Fsvc) -> None:
    fsvc("expect", "customers", "--range", "balance=0..10")
    assert "1 expectation met" in fsvc("expect", "customers", "--check").out
    write("today.parquet", 1, 20)
    ran = fsvc("expect", "customers", "today.parquet", "--check", code=3)
    assert "failed" in ran.out
    assert "id=1, balance 20.0" in ran.out
    report = fsvc("expect", "customers", "today.parquet", "--check", "--json", code=3).document
    assert (report["passed"], report["version"]) == (False, 2)
    fsvc("expect", "customers", "--range", "balance=0..10", "--warn")
    fsvc("expect", "customers", "today.parquet", "--check")
    assert fsvc("expect", "customers@v1", "--check", "--json").document["passed"]


def test_merges_and_reverts_can_go_unverified(shop: Path, fsvc: Fsvc) -> None:
    write("customers.parquet", 1, 20)
    fsvc("commit", "customers.parquet", "-m", "much")
    write("customers.parquet", 1, 2)
    fsvc("commit", "customers.parquet", "-m", "mended")
    fsvc("expect", "customers", "--range", "balance=0..10")
    before = pq.read_table("customers.parquet")
    assert "range:balance" in fsvc("revert", "main~1", code=1).err
    assert pq.read_table("customers.parquet").equals(before)
    assert "not verified" in fsvc("revert", "main~1", "--no-verify").out


def test_a_dry_run_ends_as_the_commit_would(shop: Path, fsvc: Fsvc) -> None:
    fsvc("expect", "customers", "--range", "balance=0..10")
    keys = sorted(shop.rglob("*"))
    write("bad.parquet", 1, 20)
    assert "range:balance" in fsvc("commit", "customers=bad.parquet", "--dry-run", code=1).err
    planned = fsvc("commit", "customers=bad.parquet", "--dry-run", "--no-verify", "--json").document
    assert planned["changes"]["customers"]["expectations"] == {"not_verified": 1}
    assert sorted({*shop.rglob("*")} - {*keys}) == [shop / "bad.parquet"]
    write("customers.parquet", 1, 20)
    fsvc("commit", "customers.parquet", "-m", "much", "--no-verify")
    write("customers.parquet", 1, 2)
    fsvc("commit", "customers.parquet", "-m", "mended")
    assert "range:balance" in fsvc("revert", "main", "--dry-run", code=1).err
    assert "would commit customers" in fsvc("revert", "main", "--dry-run", "--no-verify").out


def test_expectations_are_no_working_files(shop: Path, fsvc: Fsvc) -> None:
    fsvc("expect", "customers", "--rows", "1..")
    assert "expectations" not in fsvc("status").out + fsvc("status").err
    fsvc("checkout", "main", "--force")
    fsvc("switch", "-c", "topic")
    fsvc("expect", "customers", "--rows", "2..")
    fsvc("switch", "main")
    fsvc("merge", "topic")
    assert sorted(path.name for path in shop.iterdir()) == [".fsvc", "customers.parquet"]
    assert fsvc("expect", "customers", "--json").document["expectations"] == [{"kind": "rows", "min": 2}]
    assert "customers.expectations" in fsvc("ls").out
