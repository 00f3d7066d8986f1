"""Blame: what it tells of a row is what replaying history tells, and it reads no more than it needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import strategies
from edits import Pool, Rows, edited, pools, short_groups, start
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import memory_repository

from fsvc.engine import history
from fsvc.engine.store import Store
from fsvc.errors import InvalidUse, NotFound
from fsvc.repository import Repository
from fsvc.snapshot import Commit

SEEDS = st.integers(0, 2**32 - 1)


def replayed(pool: Pool, commits: list[tuple[str, Rows]], key: int) -> list[tuple[str, str, list[str]]]:
    """What a history says of a row: commit, change and columns, newest first."""
    found = []
    before: Rows = {}
    for commit, rows in commits:
        old, new = before.get(key), rows.get(key)
        if old is not None and new is not None:
            columns = [f.name for c, f in enumerate(pool.fields) if not pool.equal(c, old[c], new[c])]
            if columns:
                found.append((commit, "changed", columns))
        elif old is not None or new is not None:
            found.append((commit, "added" if new is not None else "removed", []))
        before = rows
    return found[::-1]


@given(pool=pools(), seed=SEEDS)
def test_blame_tells_what_replaying_history_tells(pool: Pool, seed: int) -> None:
    random = np.random.default_rng(seed)
    repository = memory_repository()
    history: list[tuple[str, Rows]] = []
    rows = start(random, len(pool.fields), 40)
    with short_groups():
        for number in range(int(random.integers(1, 6))):
            if number:
                rows = edited(random, rows, len(pool.fields), reorder=True)
            made = repository.commit({"t": pool.table(rows)}, key=pool.key_columns, message=f"{number}")
            if made.created:
                history.append((made.id, rows))
        every = sorted({key for _, table in history for key in table})
        if not every:
            return
        for key in random.choice(every, 2):
            blame = repository.blame("t", key_value(pool, int(key)))
            versions = blame.versions()
            for limit in (1, 2, 100):
                assert list(map(shown, blame.versions(limit))) == list(map(shown, versions))[:limit]
            told = [
                (v.commit.id, v.change, list(v.after or {}) if v.change == "changed" else [])
                for v in versions
            ]
            assert told == replayed(pool, history, int(key))
            for limit in (None, 1, 2):
                logged = repository.log("t", key=key_value(pool, int(key)), limit=limit)
                assert [commit.id for commit in logged] == [commit for commit, _, _ in told][:limit]
            origins = {cell.column: cell.commit.id for cell in blame.cells()}
            expected: dict[str, str] = {}
            if int(key) in rows:
                for commit, change, columns in told[::-1]:
                    for field in pool.fields:
                        if change == "added" or field.name in columns:
                            expected[field.name] = commit
            assert origins == expected


def key_value(pool: Pool, key: int) -> Any:
    row = pool.table({key: (0,) * len(pool.fields)}).select(list(pool.key_columns))
    return tuple(next(iter(row.to_pylist())).values())


@settings(max_examples=20)
@given(seed=SEEDS)
def test_a_range_of_keys_is_the_blame_of_each(seed: int) -> None:
    random = np.random.default_rng(seed)
    pool = Pool("int", [pa.field("c", pa.int8())], [strategies.random_values(pa.int8(), 12, random, nulls=0)])
    repository = memory_repository()
    rows = start(random, 1)
    with short_groups():
        for number in range(4):
            repository.commit({"t": pool.table(rows)}, key="id", message=f"{number}")
            rows = edited(random, rows, 1)
        low = int(random.integers(0, 180))
        high = low + int(random.integers(0, 12))
        found = repository.blame("t", between=(low, high)).versions()
        alone = [version for key in range(low, high + 1) for version in repository.blame("t", key).versions()]
        assert sorted(map(shown, found)) == sorted(map(shown, alone))
        ends = repository.blame("t", between=(None, high)).versions()
        assert {v.key["id"] for v in ends} == {k for k in everything(repository) if k <= high}


def everything(repository: Repository) -> set[int]:
    return {version.key["id"] for version in repository.blame("t", between=(None, None)).versions()}


def shown(version: Any) -> str:
    cells = [
        None if side is None else {name: said(value) for name, value in side.items()}
        for side in (version.before, version.after)
    ]
    return repr((version.key, version.commit.id, version.change, cells))


def said(value: Any) -> str:
    """A cell as text; Arrow has dates and times that Python has not, and cannot show."""
    try:
        return repr(value)
    except (OverflowError, ValueError):
        return str(value.type)


def stories() -> tuple[Repository, dict[str, Commit]]:
    """One row that appears, is changed, removed, and appears again."""
    repository = memory_repository()
    rows = {"id": [1, 2], "a": [1.5, 2.5], "b": ["x", "y"]}
    made = {}
    for name, change in {
        "first": {},
        "changed": {"a": [1.5, 9.0]},
        "other": {"a": [8.0, 9.0]},
        "gone": {"id": [1], "a": [8.0], "b": ["x"]},
        "back": {"id": [1, 2], "a": [8.0, 1.0], "b": ["x", "z"]},
    }.items():
        rows = rows | change
        made[name] = repository.commit({"t": rows}, key="id", message=name, author=f"{name}@example.org")
    return repository, made


def test_every_version_of_a_row_is_told() -> None:
    repository, made = stories()
    found = repository.blame("t", 2).versions()
    assert [(v.commit.message, v.version, v.change, v.before, v.after) for v in found] == [
        ("back", 5, "added", None, {"a": 1.0, "b": "z"}),
        ("gone", 4, "removed", {"a": 9.0, "b": "y"}, None),
        ("changed", 2, "changed", {"a": 2.5}, {"a": 9.0}),
        ("first", 1, "added", None, {"a": 2.5, "b": "y"}),
    ]
    assert found[0].key == {"id": 2} and found[0].commit == made["back"]
    assert repository.blame("t", "2").versions() == found
    assert [c.message for c in repository.log("t", key=1)] == ["other", "first"]
    assert [c.message for c in repository.log("t", key=1, limit=1)] == ["other"]
    assert repository.blame("t", 7).versions() == []


def test_the_log_of_rows_counts_commits_and_reads_no_more_of_history_than_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = memory_repository()
    for number in range(60):
        # Each commit changes both rows.
        table = pa.table({"id": [1, 2], "a": [number, -number]})
        repository.commit({"t": table}, key="id", message=f"{number}")
    walked: list[str] = []
    ancestors = history.ancestors

    def counted(*words: Any) -> Any:
        for commit, record in ancestors(*words):
            walked.append(commit)
            yield commit, record

    monkeypatch.setattr(history, "ancestors", counted)
    found = repository.log("t", between=(1, 2), limit=3)
    assert [commit.message for commit in found] == ["59", "58", "57"]
    assert len(walked) < 20
    found = repository.log("t", key=2, limit=30)
    assert [commit.message for commit in found] == [str(number) for number in range(59, 29, -1)]
    walked.clear()
    assert len(repository.log("t", key=2)) == len(walked) == 60


def test_each_cell_names_the_commit_that_set_it_last() -> None:
    repository, _ = stories()
    found = repository.blame("t", 1).cells()
    assert [(cell.column, cell.value, cell.commit.message, cell.version) for cell in found] == [
        ("a", 8.0, "other", 3),
        ("b", "x", "first", 1),
    ]
    assert repository.blame("t", 2, revision="v4").cells() == []


def test_a_merge_is_blamed_for_what_it_did_itself_only() -> None:
    repository = memory_repository()
    base = pa.table({"id": [1, 2], "a": [1, 1], "b": [1, 1]})
    repository.commit({"t": base}, key="id", message="base")
    repository.branch("theirs")
    repository.commit(
        {"t": pa.table({"id": [1, 2], "a": [1, 2], "b": [1, 1]})}, branch="theirs", message="theirs"
    )
    repository.commit({"t": pa.table({"id": [1, 2], "a": [1, 1], "b": [2, 1]})}, message="ours")
    repository.merge("theirs", message="merge")
    assert [c.message for c in repository.log("t", key=1)] == ["ours", "base"]
    assert [c.message for c in repository.log("t", key=2)] == ["theirs", "base"]
    assert {c.column: c.commit.message for c in repository.blame("t", 2).cells()} == {
        "a": "theirs",
        "b": "base",
    }


def test_cells_of_a_row_that_both_sides_changed_are_blamed_on_each_side() -> None:
    repository = memory_repository()
    repository.commit({"t": {"id": [1], "a": [1], "b": [1]}}, key="id", message="base")
    repository.branch("theirs")
    repository.commit({"t": {"id": [1], "a": [1], "b": [2]}}, branch="theirs", message="theirs")
    repository.commit({"t": {"id": [1], "a": [2], "b": [1]}}, message="ours")
    repository.merge("theirs", message="merge")
    assert {c.column: c.commit.message for c in repository.blame("t", 1).cells()} == {
        "a": "ours",
        "b": "theirs",
    }
    assert next(c.message for c in repository.log("t", key=1)) == "merge"


def test_a_renamed_column_keeps_its_history() -> None:
    repository = memory_repository()
    repository.commit({"t": {"id": [1, 2], "a": ["x", "y"]}}, key="id", message="first")
    repository.commit({"t": {"id": [1, 2], "b": ["x", "y"]}}, message="renamed")
    repository.commit({"t": {"id": [1, 2], "b": ["x", "z"]}}, message="changed")
    assert {c.column: c.commit.message for c in repository.blame("t", 1).cells()} == {"b": "first"}
    assert [v.commit.message for v in repository.blame("t", 2).versions()] == ["changed", "first"]


def test_a_key_of_another_type_is_followed() -> None:
    repository = memory_repository()
    narrow = pa.table({"id": pa.array([1, 2], pa.int8()), "a": ["x", "y"]})
    repository.commit({"t": narrow}, key="id", message="first")
    wide = pa.table({"id": pa.array([1, 2, 300], pa.int64()), "a": ["x", "z", "w"]})
    repository.commit({"t": wide}, message="second")
    assert [v.change for v in repository.blame("t", 2).versions()] == ["changed", "added"]
    assert [v.change for v in repository.blame("t", 300).versions()] == ["added"]


@pytest.mark.parametrize(
    ("key", "between", "says"),
    [
        ("x", None, "'x' is no value of key column 'id', which is int64"),
        ((1, 2), None, "has 1 column"),
        (None, None, "either a key is wanted"),
        (1, (1, 2), "either a key is wanted"),
        (None, ("a", 2), "'a' is no value"),
        (None, (9, 5), "no key can be from 9 to 5"),
    ],
)
def test_a_key_that_cannot_be_is_refused(key: Any, between: Any, says: str) -> None:
    repository, _ = stories()
    with pytest.raises(InvalidUse, match=says):
        repository.blame("t", key, between=between).versions()


def test_unknown_feature_sets_and_those_without_a_key_are_refused() -> None:
    repository, _ = stories()
    repository.commit({"plain": {"x": [1]}}, message="no key")
    with pytest.raises(NotFound) as caught:
        repository.blame("plian", 1).versions()
    assert caught.value.hint == "did you mean 'plain'?"
    with pytest.raises(InvalidUse, match="'plain' has no key"):
        repository.blame("plain", 1).versions()


def test_a_few_versions_read_a_part_of_history_only(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = memory_repository()
    for number in range(40):
        repository.commit({"t": pa.table({"id": [1, 2], "a": [number, 0]})}, key="id", message=f"{number}")
    read: list[str] = []
    original = Store.manifest

    def counted(self: Store, snapshot: str) -> Any:
        read.append(snapshot)
        return original(self, snapshot)

    monkeypatch.setattr(Store, "manifest", counted)
    found = repository.blame("t", 1).versions(3)
    assert [version.after for version in found] == [{"a": 39}, {"a": 38}, {"a": 37}]
    assert len(set(read)) < 12
    (only,) = repository.blame("t", 2).versions(5)
    assert (only.change, only.version) == ("added", 1)
