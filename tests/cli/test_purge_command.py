"""``fsvc purge``: it tells what will be lost, asks, and erases; what was erased says so everywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fsvc.storage.local import LocalStorage

Fsvc: TypeAlias = Callable[..., Any]


@pytest.fixture
def cleaned(history: Fsvc, place: Path, table: pa.Table) -> Fsvc:
    """The history of customers, with a version on top that lacks number 7, and a tag on the first."""
    history("tag", "gold", "main~2")
    pq.write_table(table.filter(pc.not_equal(table["id"], 7)), place / "customers.parquet")
    history("commit", "customers.parquet", "-m", "without one")
    return history


def test_it_tells_what_would_be_lost_and_does_nothing(cleaned: Fsvc, place: Path) -> None:
    before = sorted(path for path in place.rglob("*") if ".cache" not in path.parts)
    told = cleaned("purge", "customers", "--key", "7", "--dry-run").out
    assert "1 of 3 snapshots of customers stay whole" in told and "1 of 1" in told and "10 of 10" in told
    assert "tags that cannot be read whole any more: gold, t1" in told
    planned = cleaned("purge", "customers", "--where", "id = 7", "--dry-run", "--json").document
    assert [one["version"] for one in planned["affected"]] == [1, 2] and not planned["deleted"]
    assert (
        "no version of customers holds such rows"
        in cleaned("purge", "customers", "--key", "70", "--dry-run").out
    )
    assert sorted(path for path in place.rglob("*") if ".cache" not in path.parts) == before
    assert not cleaned("verify", "--json").document["erased"]


def test_without_anybody_to_ask_it_refuses(cleaned: Fsvc) -> None:
    words = ("purge", "customers", "--key", "7")
    assert "needs a reason" in cleaned(*words, "--yes", code=2).err
    assert "--yes" in cleaned(*words, "--reason", "asked", code=2).err
    assert "--yes" in cleaned(*words, "--reason", "asked", "--json", code=2).out
    cleaned("purge", "customers", "--reason", "asked", "--yes", code=2)
    assert "did you mean 'customers'" in cleaned("purge", "custmers", "--key", "7", "--dry-run", code=4).err
    cleaned("show", "customers@v1")
    cleaned("head", "customers@v1")


def test_it_erases_and_everything_says_so(cleaned: Fsvc, place: Path) -> None:
    done = cleaned("purge", "customers", "--key", "7", "--reason", "request 118", "--yes", "--json").document
    assert done["deleted"] and done["record"] and done["objects"] > 0
    for words in (("head", "customers@v1"), ("sql", "from customers@v2"), ("head", "customers@gold")):
        assert "request 118" in cleaned(*words, code=4).err
    assert "request 118" in cleaned("checkout", "customers@gold", "--force", "--json", code=4).out
    assert "row groups of customers were erased on" in cleaned("verify", "--deep").out
    assert cleaned("sql", "select count(*) as n from customers", "--json").document
    assert len(cleaned("log", "customers", "--json").document["commits"]) == 3
    again = cleaned("purge", "customers", "--key", "7", "--reason", "request 118", "--yes")
    assert "no version of customers holds such rows" in again.out


def test_it_refuses_while_a_branch_holds_the_rows(history: Fsvc) -> None:
    said = history("purge", "customers", "--key", "7", "--reason", "asked", "--yes", code=5)
    assert "customers@main" in said.err and "commit without these rows" in said.err


@pytest.mark.parametrize("answer", ["customers", "yes"])
def test_on_a_terminal_the_name_is_asked_for(
    cleaned: Fsvc, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: answer)
    right = answer == "customers"
    cleaned("purge", "customers", "--key", "7", "--reason", "asked", code=0 if right else 2)
    cleaned("head", "customers@v1", code=4 if right else 0)


@pytest.fixture
def interrupted(cleaned: Fsvc, monkeypatch: pytest.MonkeyPatch) -> Fsvc:
    """The same, with a purge that was interrupted before it deleted a pack."""
    delete = LocalStorage.delete

    def stop(self: LocalStorage, key: str) -> None:
        if key.startswith("packs/"):
            raise KeyboardInterrupt
        delete(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "delete", stop)
        said = cleaned("purge", "customers", "--key", "7", "--reason", "request 118", "--yes", code=130)
    assert "not finished" in said.err and "fsvc purge customers --finish" in said.err
    return cleaned


def packs(place: Path) -> int:
    return len(list((place / ".fsvc" / "repository" / "packs").iterdir()))


@pytest.mark.parametrize("words", [["verify"], ["gc"], ["gc", "--delete", "--grace", "0"], ["repack"]])
def test_whoever_looks_after_the_repository_is_told_of_an_interrupted_purge(
    interrupted: Fsvc, words: list[str]
) -> None:
    told = interrupted(*words).out
    assert "the purge of customers of " in told and "request 118" in told
    assert "'fsvc purge customers --finish'" in told
    (one,) = interrupted(*words, "--json").document["unfinished"]
    assert (one["feature_set"], one["reason"]) == ("customers", "request 118")


def test_an_interrupted_purge_is_finished(interrupted: Fsvc, place: Path) -> None:
    before = packs(place)
    assert (
        "would finish the purge of customers"
        in interrupted("purge", "customers", "--finish", "--dry-run").out
    )
    assert packs(place) == before
    done = interrupted("purge", "customers", "--finish", "--yes").out
    assert "finished the purge of customers" in done
    assert packs(place) == 2 < before
    assert "not finished" not in interrupted("verify").out
    assert "no purge is unfinished" in interrupted("purge", "customers", "--finish", "--yes").out


def test_on_a_terminal_an_interrupted_purge_is_finished_though_no_version_has_the_rows(
    interrupted: Fsvc, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "customers")
    said = interrupted("purge", "customers", "--key", "7", "--reason", "request 118").out
    assert "no version of customers holds such rows" in said and "would finish the purge" in said
    assert packs(place) == 2  # the new one, and that of the rates
    assert not interrupted("verify", "--json").document["unfinished"]


def test_to_finish_takes_neither_rows_nor_a_reason(cleaned: Fsvc) -> None:
    assert "has a reason" in cleaned("purge", "customers", "--finish", "--reason", "x", "--yes", code=2).err
    assert "no more rows" in cleaned("purge", "customers", "--finish", "--key", "7", "--yes", code=2).err
