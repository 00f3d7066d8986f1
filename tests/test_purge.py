"""Purge: rows that were erased are nowhere any more, everything else is as it was, whoever is at work meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count as count_up
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from crash import CrashState, Recording, Unsynced, after_crashes, recorded
from edits import short_groups
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from test_gc import lose, lost
from wall import Clock
from wholeness import new, opened, reopened

from fsvc.engine.erased import ERASED
from fsvc.engine.patched import Patched
from fsvc.errors import (
    Conflict,
    Corruption,
    ErasedError,
    ExpiredError,
    GoneError,
    InvalidUse,
    NotFound,
    StorageError,
)  # fmt: skip
from fsvc.format import index, pack
from fsvc.format.index import ObjectTable
from fsvc.repository import Repository
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from fsvc.storage.contract import Data, Storage

Count = Callable[[str, int], None]

WHO = 41
"""The key of the row that is to be erased."""


@pytest.fixture(autouse=True)
def _short_groups() -> Iterator[None]:
    with short_groups():
        yield


def token(number: int) -> bytes:
    """Bytes that nothing can compress, so that they lie in packs as they are."""
    return hashlib.shake_128(str(number).encode()).digest(40)


def people(
    rows: int = 160, *, without: Sequence[int] = (), scores: int = 0, seen: str = "erase-me"
) -> pa.Table:
    """People, of whom one is somebody in particular; the smallest e-mail address and nick are theirs."""
    ids = [i for i in range(rows) if i not in without]
    random = np.random.default_rng(scores)
    score = np.array([float(i) for i in ids])
    hit = random.random(len(ids)) < 0.3
    score[hit] += scores
    mails = [f"!{seen}@example.org" if i == WHO else f"person{i}@example.org" for i in ids]
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "mail": mails,
            "token": pa.array([token(i) for i in ids], pa.binary()),
            "city": pa.array([["Rome", "Oslo", "Lima"][i % 3] for i in ids]).dictionary_encode(),
            "nick": pa.array([f"!{seen}" if i == WHO else f"nick{i % 7}" for i in ids]).dictionary_encode(),
            "score": score,
            "news": pa.array([True] * len(ids)),
        }
    )


MARKS = (b"!erase-me", b"!seen-once", token(WHO))


def versions() -> list[pa.Table]:
    """Versions of which the last two lack the row; in one it has another e-mail address."""
    return [
        people(),
        people(scores=1),
        people(scores=2, seen="seen-once"),
        people(170, scores=2),
        people(170, without=[WHO], scores=2),
        people(170, without=[WHO], scores=5),
    ]


def few() -> list[pa.Table]:
    """Three small versions, of which the last lacks the row."""
    return [people(60), people(60, scores=1), people(60, without=[WHO], scores=1)]


KEPT = (5, 6)
"""The numbers of the versions without the row."""


def commit_all(repository: Repository, tables: Sequence[pa.Table] | None = None) -> list[pa.Table]:
    tables = versions() if tables is None else list(tables)
    for number, table in enumerate(tables):
        repository.commit({"people": table}, key="id", message=f"number {number + 1}", threads=1)
    return tables


def purge(repository: Repository, **options: Any) -> Any:
    given = {"keys": [WHO], "reason": "asked for on paper", "delete": True, **options}
    return repository.purge("people", **given)


# -- what is left ----------------------------------------------------------------------------------


Contents = dict[bytes, tuple[pa.Field, int | None]]


def contents_of(repository: Repository) -> Contents:
    """What every chunk that a snapshot names is: its field and its rows, by address."""
    found: Contents = {}
    for commit in repository.store.commit_ids():
        for snapshot in repository.resolve(commit).snapshots():
            try:
                manifest = snapshot.manifest
            except ExpiredError:
                continue
            for column, kept in enumerate(manifest.stored_fields):
                for group, rows in enumerate(manifest.rows):
                    found[manifest.identity(column, group).address] = (kept, rows)
            for identity in manifest.categories:
                found[identity.address] = (pa.field("c0", pa.large_string(), False), None)
    return found


def traces(storage: Storage, contents: Contents, marks: Sequence[bytes] = MARKS) -> set[str]:
    """The files in which a mark is found: as it is, in what an index says of chunks, or in a decoded chunk."""
    found = set()
    objects = opened(storage).store.objects
    for key in list(storage.keys("")):
        data = storage.get(key)
        if any(mark in data for mark in marks):
            found.add(key)
        if key.startswith("packs/"):
            length = pack.trailer_length(data[-pack.FOOTER_BYTES :], what=key)
            table = pack.read_trailer(data[-pack.FOOTER_BYTES - length : -pack.FOOTER_BYTES], what=key)
        elif key.startswith("index/"):
            table = ObjectTable(data, what=key)
        else:
            continue
        for entry in table.entries():
            if any(mark in entry.meta for mark in marks):
                found.add(key)
            if not key.startswith("packs/") or entry.meta[0] == index.ROW_MAP:
                continue
            kept, rows = contents[entry.address]
            entry = replace(entry, pack=key[len("packs/") : -len(".pack")])
            if rows is None:
                rows = index.unpack_meta(entry.meta)[0].num_values
            values = Patched(objects).array(entry, pa.field("c0", kept.type, kept.nullable), rows).to_pylist()
            texts = [value.encode() if isinstance(value, str) else value for value in values]
            if any(mark in text for text in texts if isinstance(text, bytes) for mark in marks):
                found.add(key)
    return found


def kinds(keys: set[str]) -> set[str]:
    return {key.partition("/")[0] for key in keys}


def assert_erased(repository: Repository, tables: Sequence[pa.Table], kept: Sequence[int] = KEPT) -> None:
    """Check that the versions with the row say that they were erased, and the others are as they were."""
    for number, table in enumerate(tables, 1):
        snapshot = repository.snapshot(f"people@v{number}")
        if number in kept:
            assert snapshot.to_arrow().equals(table)
        else:
            with pytest.raises(ErasedError, match=r"erased on 20\d\d-\d\d-\d\d: asked for on paper"):
                snapshot.to_arrow()
    report = repository.verify(deep=True)
    assert report.ok, [str(damage) for damage in report.damages]


def test_nothing_of_the_rows_is_left(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    storage = LocalStorage(root, create=True, system=Unsynced())
    repository = new(storage)
    tables = commit_all(repository)
    ids = [commit.id for commit in repository.log()]
    repository.tag("gold", ids[-2])
    repository.branch("old", ids[-1])
    repository.delete_branch("old")
    for number in range(1, 7):  # patched chunks are thawed
        assert repository.sql(f"select count(mail), sum(score) from people@v{number}").fetchall()
    some = next(key for key in storage.keys("packs/") if token(WHO) in storage.get(key))
    storage.put_if_absent(f"quarantine/{'0' * 64}/{some}", storage.get(some))
    contents = contents_of(repository)
    assert kinds(traces(storage, contents)) == {"packs", "index", "quarantine"}
    cache = Path(storage.cache_directory or "") / "thawed"
    assert any(cache.iterdir())

    before = set(storage.keys(""))
    planned = purge(repository, delete=False)
    assert set(storage.keys("")) == before and not planned.deleted and planned.record is None
    assert [one.version for one in planned.affected] == [1, 2, 3, 4]
    assert all(one.lost_groups == 1 < one.groups and 1 < one.lost_rows < one.rows for one in planned.affected)
    assert all(set(one.kept) <= {"city", "news"} and one.lists == ("nick",) for one in planned.affected)
    assert (planned.rows, planned.whole, planned.tags, planned.heads) == (4, 2, ("gold",), ())
    assert planned.quarantined == 1 and set(planned.commits) == set(ids[2:])

    done = purge(repository)
    assert done.deleted and done.record and done.freed_bytes > 0 and done.rebased > 0
    assert traces(storage, contents) == set()
    assert not any(mark in path.read_bytes() for path in root.rglob("*") if path.is_file() for mark in MARKS)
    assert not list(storage.keys("quarantine/")) and not any(cache.iterdir())
    again = reopened(root)
    assert_erased(again, tables)
    assert [commit.id for commit in again.log()] == ids
    (erased,) = again.verify().erased
    assert erased.problem == "erased" and "asked for on paper" in erased.detail and len(erased.affects) >= 4
    for use in (
        lambda: again.sql("select sum(score) from people@v1").fetchall(),
        lambda: again.snapshot("people@gold").write_parquet(tmp_path / "out.parquet"),
        lambda: again.snapshot("people@gold").to_pandas(),
        lambda: again.diff("people@v1", "people@v6").rows(),
        lambda: again.snapshot("people@v2").prove(),
    ):
        with pytest.raises(ErasedError, match="asked for on paper"):
            use()
    assert not (tmp_path / "out.parquet").exists()
    assert again.sql("select count(*) from people@v6").fetchall() == [(169,)]
    # Whatever else looks after a repository goes on working.
    again.gc(delete=True, grace=0)
    again.repack(grace=0)
    more = people(180, without=[WHO], scores=7)
    again.commit({"people": more}, message="goes on")
    assert_erased(reopened(root), [*tables, more], (*KEPT, 7))
    assert traces(storage, contents | contents_of(again)) == set()
    assert purge(again).affected == ()


def test_what_was_found_depends_neither_on_packs_nor_on_who_looks() -> None:
    plain, packed = MemoryStorage(), MemoryStorage()
    found = []
    for storage in (plain, packed):
        repository = new(storage)
        tables = commit_all(repository)
        if storage is packed:
            repository.repack(grace=0)
        contents = contents_of(repository)
        done = purge(repository)
        found.append([(one.version, one.lost_groups, one.lost_rows, one.kept) for one in done.affected])
        assert traces(storage, contents) == set()
        assert_erased(opened(storage), tables)
    assert found[0] == found[1]


# -- which rows ------------------------------------------------------------------------------------


def test_rows_are_named_by_key_by_range_or_by_condition() -> None:
    repository = new(MemoryStorage())
    commit_all(repository)

    def erased_versions(**options: Any) -> list[int]:
        return [one.version for one in purge(repository, delete=False, **options).affected]

    assert erased_versions(keys=[WHO]) == [1, 2, 3, 4]
    assert erased_versions(keys=["41", 1000]) == [1, 2, 3, 4]
    assert erased_versions(keys=[], between=(41, 41)) == [1, 2, 3, 4]
    assert erased_versions(keys=(), where="id in (41, 1000)") == [1, 2, 3, 4]
    # What holds in one version alone is followed by key through all.
    assert erased_versions(keys=(), where="mail = '!seen-once@example.org'") == [1, 2, 3, 4]
    assert erased_versions(keys=[5000]) == []
    for wrong, error in (
        ({"keys": [(1, 2)]}, InvalidUse),
        ({"keys": ["who"]}, InvalidUse),
        ({"keys": ()}, InvalidUse),
        ({"where": "id = 41"}, InvalidUse),
        ({"keys": (), "where": "nobody = 41"}, InvalidUse),
        ({"keys": (), "where": " "}, InvalidUse),
        ({"keys": (), "between": (60, 41)}, InvalidUse),
        ({"reason": " "}, InvalidUse),
    ):
        with pytest.raises(error):
            purge(repository, **wrong)
    with pytest.raises(NotFound, match="there never was") as info:
        repository.purge("peple", keys=[1])
    assert info.value.hint == "did you mean 'people'?"
    assert not list(repository.store.storage.keys(ERASED))


def test_keys_of_several_columns() -> None:
    repository = new(MemoryStorage())
    table = pa.table(
        {"day": np.arange(100) // 10, "code": [f"c{i % 10}" for i in range(100)], "x": np.arange(100) / 2}
    )
    left = table.filter(pc.invert(pc.and_(pc.equal(table["day"], 4), pc.equal(table["code"], "c2"))))
    repository.commit({"people": table}, key=["day", "code"], message="1", threads=1)
    repository.commit({"people": left}, message="2", threads=1)
    done = purge(repository, keys=[(4, "c2")])
    assert [one.version for one in done.affected] == [1]
    assert opened(repository.store.storage).snapshot("people").to_arrow().equals(left)
    assert_whole_but_erased(repository)


def assert_whole_but_erased(repository: Repository) -> None:
    report = opened(repository.store.storage).verify(deep=True)
    assert report.ok and report.erased, [str(damage) for damage in report.damages]


def test_versions_that_cannot_be_searched_are_named() -> None:
    repository = new(MemoryStorage())
    old = people().rename_columns(["id", "address", *people().column_names[2:]])
    commit_all(repository, [old, *versions()[4:]])
    assert purge(repository, delete=False).unsearched == ()
    planned = purge(repository, delete=False, keys=(), where="mail = '!erase-me@example.org'")
    assert len(planned.unsearched) == 1 and planned.affected == ()
    assert planned.unsearched[0] == f"people@{repository.log()[-1].id[:12]}"
    planned = purge(repository, delete=False, keys=(), where=f"id = {WHO}")
    assert planned.unsearched == () and [one.version for one in planned.affected] == [1]


def test_without_a_key_a_condition_finds_rows() -> None:
    storage = MemoryStorage()
    repository = new(storage)
    for table in versions():
        repository.commit({"people": table}, message="m", threads=1)
    contents = contents_of(repository)
    with pytest.raises(InvalidUse, match="no key"):
        purge(repository)
    done = purge(repository, keys=(), where=f"id = {WHO}")
    assert [one.version for one in done.affected] == [1, 2, 3, 4]
    assert traces(storage, contents) == set()
    assert_erased(opened(storage), versions())


def test_a_second_erasure_passes_over_what_the_first_one_left() -> None:
    storage = MemoryStorage()
    repository = new(storage)
    tables = [*versions(), people(170, without=[WHO, 150], scores=5)]
    commit_all(repository, tables)
    purge(repository)
    done = purge(repository, keys=(), where="id = 150", reason="asked for on paper")
    assert [one.version for one in done.affected] == [1, 2, 3, 4, 5, 6]
    assert_erased(opened(storage), tables, [7])
    assert len(list(storage.keys(ERASED))) == 2


def test_the_history_of_other_rows_is_told_as_far_as_it_is_there() -> None:
    repository = new(MemoryStorage())
    commit_all(repository)

    def told(key: int) -> list[tuple[int | None, str]]:
        return [
            (one.version, one.change)
            for one in opened(repository.store.storage).blame("people", (key,)).versions()
        ]

    before = {key: told(key) for key in (WHO, WHO + 1, 5, 100, 165)}
    purge(repository)
    for key in (5, 100):
        assert told(key) == before[key]
    assert told(165) == [] and before[165] == [(4, "added")]  # it may have been in what is gone
    # Of the rows that went along it is told what came later, and nothing is made up.
    assert told(WHO) == [] and before[WHO][0] == (5, "removed")
    assert told(WHO + 1) == [change for change in before[WHO + 1] if change[0] == 6]
    blame = opened(repository.store.storage).blame("people", (WHO + 1,))
    cells = {cell.column: cell.version for cell in blame.cells()}
    assert blame.is_cut_short and set(cells.values()) <= {6}


# -- what stays, and what is refused ---------------------------------------------------------------


def test_as_long_as_a_branch_holds_the_rows_nothing_is_erased() -> None:
    repository = new(MemoryStorage())
    tables = versions()
    commit_all(repository, tables[:4])
    assert purge(repository, delete=False).heads == ("people@main",)
    before = set(repository.store.storage.keys(""))
    with pytest.raises(Conflict, match="people@main still holds rows"):
        purge(repository)
    assert set(repository.store.storage.keys("")) == before
    repository.branch("topic")
    commit_all(repository, tables[4:])
    with pytest.raises(Conflict, match="people@topic"):
        purge(repository)
    repository.delete_branch("topic")
    purge(repository)
    assert_erased(repository, tables)


def test_a_category_that_only_the_rows_had_counts_as_a_trace() -> None:
    repository = new(MemoryStorage())
    commit_all(repository, versions()[:1])
    table = people(without=[WHO])
    still = pa.DictionaryArray.from_arrays(
        table["nick"].combine_chunks().cast(pa.string()).dictionary_encode().indices,
        [f"nick{i}" for i in range(7)] + ["!erase-me"],
    )
    commit_all(repository, [table.set_column(4, "nick", still)])
    with pytest.raises(Conflict, match="still holds"):
        purge(repository)
    commit_all(repository, [table])
    contents = contents_of(repository)
    done = purge(repository)
    assert [(one.version, one.lists, one.lost_groups) for one in done.affected] == [
        (1, ("nick",), 1),
        (2, ("nick",), 0),
    ]
    assert traces(repository.store.storage, contents) == set()
    assert repository.snapshot("people").to_arrow().equals(table)


def test_a_chunk_that_other_groups_have_stays_for_them() -> None:
    repository = new(MemoryStorage())
    few = people().slice(WHO - 3, 7)
    commit_all(repository, [few, people(without=[WHO]).slice(WHO - 3, 7)])
    hashed = few.set_column(0, "id", pc.add(few["id"], 10_000)).drop(["nick"])
    repository.commit({"hashed": hashed}, message="under other keys", threads=1)
    (lost,) = purge(repository).affected
    assert lost.version == 1 and lost.kept == ("mail", "token", "city", "score", "news")
    assert opened(repository.store.storage).snapshot("hashed").to_arrow().equals(hashed)
    assert_whole_but_erased(repository)


def test_a_group_with_the_same_keys_in_another_feature_set_holds_the_same_rows() -> None:
    storage = MemoryStorage()
    repository = new(storage)
    tables = commit_all(repository)
    copy = tables[3].append_column("more", pa.array([f"!erase-me too {i}" for i in range(170)]))
    repository.commit({"copy": copy}, key="id", message="a copy", threads=1)
    with pytest.raises(Conflict, match="copy@main"):
        purge(repository)
    repository.commit({"copy": people(170, without=[WHO], scores=2)}, message="without", threads=1)
    contents = contents_of(repository)
    done = purge(repository)
    assert {one.feature_set for one in done.affected} == {"people", "copy"}
    assert traces(storage, contents, [b"!erase-me@", b"!erase-me too 41"]) == set()
    assert_whole_but_erased(repository)


def test_what_was_erased_cannot_be_committed_again_but_equal_columns_can() -> None:
    storage = MemoryStorage()
    repository = new(storage)
    tables = commit_all(repository)
    draft = opened(storage).draft({"people": tables[1]}, branch="main", threads=1)
    purge(repository)
    before = set(storage.keys("refs/"))
    for attempt in (
        lambda: draft.publish(message="m", author="ann"),
        lambda: repository.commit({"people": tables[0]}, message="an old file", threads=1),
        lambda: repository.commit({"elsewhere": tables[0]}, key="id", message="an old file", threads=1),
        lambda: repository.revert("main~1", threads=1),
    ):
        with pytest.raises((ErasedError, StorageError)):
            attempt()
    assert set(storage.keys("refs/")) == before
    alike = people(170, without=[WHO], scores=5).set_column(0, "id", pa.array(np.arange(169) + 7000))
    repository.commit({"other": alike}, key="id", message="its columns are like erased ones", threads=1)
    assert opened(storage).snapshot("other").to_arrow().equals(alike)
    assert_erased(opened(storage), tables)


def test_what_lost_commits_left_behind_goes_too() -> None:
    clock = Clock()
    storage = MemoryStorage(clock=clock)
    repository = new(storage)
    tables = commit_all(repository)
    lost = lose(opened(storage).draft({"people": people(scores=9)}, branch="main", threads=1))
    contents = contents_of(repository)
    with pytest.raises(Conflict, match="made just now"):
        purge(repository)
    clock.now += 1000
    done = purge(opened(storage))
    assert lost in done.commits
    assert traces(storage, contents) == set()
    assert_erased(opened(storage), tables)


@pytest.mark.parametrize("packed", [False, True])
def test_objects_that_no_commit_names_go_too(packed: bool) -> None:
    storage = MemoryStorage()
    repository = new(storage)
    tables = commit_all(repository)
    odd = people(without=[1], scores=3)
    lost = lose(opened(storage).draft({"people": odd}, branch="main", threads=1))
    contents = contents_of(repository)
    storage.delete(f"commits/{lost}.json")  # as if its writer had been killed
    if packed:
        repository.repack(grace=0)
    assert traces(storage, contents)
    purge(repository)
    assert traces(storage, contents) == set()
    assert_erased(opened(storage), tables)


@pytest.mark.parametrize("prefix", ["manifests/", "index/"])
@pytest.mark.parametrize("where", [None, f"id = {WHO}"])
def test_what_a_crash_left_of_a_commit_does_not_stop_an_erasure(prefix: str, where: str | None) -> None:
    clock = Clock()
    storage = MemoryStorage(clock=clock)
    repository = new(storage)
    tables = commit_all(repository)
    before = set(storage.keys(prefix))
    lose(opened(storage).draft({"people": people(scores=9)}, branch="main", threads=1))
    for key in set(storage.keys(prefix)) - before:
        storage.delete(key)
    clock.now += 1000
    names = {} if where is None else {"keys": (), "where": where}
    contents = contents_of(repository) if prefix != "manifests/" else None
    purge(opened(storage), **names)
    if contents is not None:
        assert traces(storage, contents) == set()
    assert_erased(opened(storage), tables)


def test_damage_stops_an_erasure() -> None:
    storage = MemoryStorage()
    repository = new(storage)
    commit_all(repository)
    manifest = repository.snapshot("people@v6").manifest
    entry = repository.store.objects.find(manifest.identity(1, 0).address)[0]
    assert entry is not None
    key = f"packs/{entry.pack}.pack"
    data = bytearray(storage.get(key))
    data[entry.offset + entry.length // 2] ^= 1
    storage.delete(key)
    storage.put_if_absent(key, bytes(data))
    packs = set(storage.keys("packs/"))
    with pytest.raises(Corruption):
        purge(opened(storage))
    assert set(storage.keys("packs/")) == packs


def test_a_repair_does_not_bring_back_what_was_erased() -> None:
    clean = new(MemoryStorage())
    storage = MemoryStorage()
    repository = new(storage)
    stamp = "2026-11-01T09:30:00Z"
    for one in (clean, repository):
        for table in versions():
            one.commit({"people": table}, key="id", message="m", threads=1, time=stamp)
    contents = contents_of(repository)
    purge(repository)
    repaired = opened(storage).repair(clean, deep=True)
    assert repaired.ok and repaired.restored == () and traces(storage, contents) == set()
    assert not any(name in repaired.whole for name in repaired.broken) and len(repaired.whole) == 2


def test_a_record_holds_no_values_and_is_checked() -> None:
    storage = MemoryStorage()
    repository = new(storage)
    commit_all(repository)
    purge(repository, author="bob")
    (key,) = storage.keys(ERASED)
    data = storage.get(key)
    assert b"asked for on paper" in data and b"bob" in data and b"41]" not in data
    storage.delete(key)
    storage.put_if_absent(key, data.replace(b"bob", b"eve"))
    with pytest.raises(Corruption):
        opened(storage).snapshot("people@v1").to_arrow()
    assert not opened(storage).verify().ok


# -- beside others ---------------------------------------------------------------------------------


class Interrupted(MemoryStorage):
    """Does something else before one of the writes and deletions that are counted."""

    left = -1
    then: Callable[[], object] | None = None

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0 and self.then is not None:
            then, self.then = self.then, None
            then()

    def put_if_absent(self, key: str, data: Data) -> None:
        self._count()
        super().put_if_absent(key, data)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)


@pytest.mark.parametrize("what", ["other columns", "the rows", "a branch"])
def test_whoever_commits_meanwhile_loses_nothing(what: str, count: Count) -> None:
    finished = 0
    for left in range(1, 8):
        storage = Interrupted()
        repository = new(storage)
        tables = commit_all(repository, few())
        contents = contents_of(repository)
        old = repository.resolve("main~1").id
        # The rows come back as an old version, so that all of its chunks are used again.
        fresh = people(61, without=[WHO], scores=8) if what == "other columns" else tables[1]
        draft = opened(storage).draft({"people": fresh}, branch="main", threads=1)
        published: list[str] = []

        def work(
            draft: Any = draft, storage: Storage = storage, published: list[str] = published, old: str = old
        ) -> None:
            try:
                if what == "a branch":
                    opened(storage).branch("rescue", old)
                else:
                    published.append(draft.publish(message="meanwhile", author="ann").commit)
            except (ErasedError, StorageError):
                return

        storage.left, storage.then = left, work
        try:
            purge(repository)
            assert not published or what == "other columns"
        except Conflict:
            # It came first: then it is whole, and the rows go when it is without them.
            assert what != "other columns"
            if what == "a branch":
                repository.delete_branch("rescue")
            else:
                assert opened(storage).snapshot("people").to_arrow().equals(fresh)
                commit_all(repository, [people(61, without=[WHO], scores=8)])
                contents |= contents_of(repository)
            purge(repository)
        finished += 1
        contents |= contents_of(opened(storage))
        assert traces(storage, contents) == set()
        if published and what == "other columns":
            assert opened(storage).snapshot(f"people@{published[0]}").to_arrow().equals(fresh)
        assert_erased(opened(storage), tables, [3])
    count(f"purges beside {what}", finished)


def test_another_purge_at_the_same_moment_is_no_damage() -> None:
    for calls in range(1, 12):
        storage = Interrupted()
        repository = new(storage)
        tables = commit_all(
            repository, [people(60), people(60, scores=1), people(60, without=[WHO, 3], scores=1)]
        )
        contents = contents_of(repository)

        def other(storage: Storage = storage) -> None:
            opened(storage).purge("people", keys=[3], reason="asked for on paper", delete=True)

        storage.left, storage.then = calls, other
        purge(repository)
        assert traces(storage, contents, [*MARKS, token(3)]) == set()
        assert_erased(opened(storage), tables, [3])
        assert not opened(storage).verify().unfinished


def measured(rows: int = 4_000, changed: int = 0, without: Sequence[int] = ()) -> pa.Table:
    """Numbers that nothing can compress, so that versions are patches of each other."""
    ids = np.arange(rows)
    values = np.random.default_rng(1).random((2, rows)) + (ids % 50 == 0) * changed
    left = ~np.isin(ids, without)
    return pa.table({"id": ids[left], "a": values[0, left], "b": values[1, left]})


def test_open_readers_go_on_with_what_stays(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    repository = new(LocalStorage(root, create=True, system=Unsynced()))
    kept = [measured(changed=2, without=[WHO]), measured(changed=3, without=[WHO])]
    commit_all(repository, [measured(), measured(changed=1), *kept])
    reader = reopened(root)
    snapshots = [reader.snapshot(f"people@v{number}") for number in (3, 4)]
    files = fsspec.filesystem("fsvc", repository=reader)
    handles = [files.open(f"people@v{number}") for number in (3, 4)]
    relation = reader.sql("from people@v4")
    batches = reopened(root).snapshot("people@v4").to_batches()
    first = next(batches)
    assert purge(repository).rebased > 0
    largest = [pc.max(kept[1][name]).as_py() for name in "ab"]
    assert relation.aggregate("max(a), max(b)").fetchall() == [tuple(largest)]
    for table, snapshot, handle in zip(kept, snapshots, handles, strict=True):
        assert snapshot.to_arrow().equals(table)
        assert pq.read_table(handle).equals(table)
    assert pa.Table.from_batches([first, *batches]).equals(kept[1])


def test_a_file_that_failed_is_opened_anew_by_its_name(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    repository = new(LocalStorage(root, create=True, system=Unsynced()))
    commit_all(repository, few())
    files = fsspec.filesystem("fsvc", repository=reopened(root))
    held = files.open("people@v3")
    aside = tmp_path / "aside"
    (root / "packs").rename(aside)
    with pytest.raises(Corruption):
        held.read()
    aside.rename(root / "packs")
    assert files.open("people@v3")._content is not held._content


def test_who_has_a_file_open_puts_nothing_back_into_the_cache(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    repository = new(LocalStorage(root, create=True, system=Unsynced()))
    rows = np.arange(2_000)
    a, b = np.random.default_rng(1).random((2, len(rows)))
    for number in range(2):
        few = (rows % 50 == 0) * number
        repository.commit(
            {"people": pa.table({"id": rows, "a": a + few, "b": b + few})}, key="id", message="m", threads=1
        )
    repository.commit({"people": pa.table({"id": rows + len(rows), "a": a + 2, "b": b + 2})}, message="m")
    handle = fsspec.filesystem("fsvc", repository=reopened(root)).open("people@v2")
    pq.read_table(handle, columns=["a"])
    cache = root / ".cache" / "thawed"
    assert list(cache.iterdir())
    purge(repository, keys=(), between=(0, len(rows) - 1))
    with suppress(ErasedError):
        pq.read_table(handle, columns=["b"])
    assert not list(cache.iterdir())


def test_what_was_erased_is_refused_before_it_is_on_the_disk_again() -> None:
    storage = MemoryStorage()
    repository = new(storage)
    tables = commit_all(repository)
    purge(repository)
    for name in ("people", "others"):
        with pytest.raises(ErasedError, match=f"'{name}' holds rows that were erased"):
            opened(storage).commit({name: tables[0]}, key="id", message="back", threads=1)
    assert not holding(storage)
    assert_erased(opened(storage), tables)


def test_a_commit_that_began_before_the_purge_leaves_nothing_either() -> None:
    storage = MemoryStorage()
    repository = new(storage)
    commit_all(repository, [people(60, without=[WHO])])
    draft = opened(storage).draft({"people": people(60)}, branch="main", threads=1)
    commit_all(repository, [people(60), people(60, without=[WHO], scores=1)])
    purge(repository)
    with pytest.raises(ErasedError):
        draft.publish(message="late", author="ann")
    assert not holding(storage)


def holding(storage: Storage) -> list[str]:
    """The files in which a mark stands as it is."""
    return [key for key in storage.keys("") if any(mark in storage.get(key) for mark in MARKS)]


@pytest.mark.parametrize("repacked", [False, True])
def test_a_repair_at_the_same_moment_brings_nothing_back(repacked: bool) -> None:
    overtaken = 0
    for calls in range(1, 12):
        donor, storage = MemoryStorage(), Interrupted()
        repository = new(donor)
        tables = commit_all(repository, [people(60), people(60, scores=1), people(200, without=range(100))])
        for key in donor.keys(""):
            storage.put_if_absent(key, donor.get(key))
        if repacked:  # then it has what is wanted, in other packs
            repository.repack(grace=0)
        # What is damaged is a chunk with the row, so that a purge need not wait for the repair.
        for key in list(storage.keys("packs/")):
            data = storage.get(key)
            storage.delete(key)
            storage.put_if_absent(key, data.replace(token(WHO - 1), bytes(40)))
        assert not opened(storage).verify().ok

        erased: list[str] = []

        def other(storage: Storage = storage, erased: list[str] = erased) -> None:
            with suppress(Corruption):  # while a damaged pack is put aside it is missing
                erased.append(purge(opened(storage)).record)

        storage.left, storage.then = calls, other
        opened(storage).repair(opened(donor))
        if erased:
            overtaken += 1
            assert not holding(storage)
            assert not opened(storage).verify().unfinished
        opened(storage).repair(opened(donor))
        purge(opened(storage))
        assert not holding(storage)
        assert_erased(opened(storage), tables, [3])
    assert overtaken > 1


@pytest.mark.parametrize("work", ["repack", "gc"])
def test_a_repack_or_collection_at_the_same_moment_brings_nothing_back(work: str) -> None:
    overtaken = 0
    for calls in range(1, 12):
        storage = Interrupted()
        repository = new(storage)
        tables = commit_all(repository, few())
        if work == "gc":  # one pack, much of which is garbage
            lost(storage, people(400, without=range(100), scores=9))
            repository.repack(grace=0)
        erased: list[str] = []

        def other(storage: Storage = storage, erased: list[str] = erased) -> None:
            erased.append(purge(opened(storage)).record)

        storage.left, storage.then = calls, other
        if work == "gc":
            opened(storage).gc(delete=True, grace=0)
        else:
            opened(storage).repack(grace=0)
        if erased:
            overtaken += 1
            assert not holding(storage)
            assert_erased(opened(storage), tables, [3])
    assert overtaken > 1


# -- crashes ---------------------------------------------------------------------------------------


def _purging(storage: LocalStorage, recording: Recording) -> None:
    purge(opened(storage))
    recording.acknowledge("erased")


def _crash(light_path: Path, *, every: bool) -> int:
    root = light_path / "disk"
    root.mkdir()
    repository = new(LocalStorage(root / "repository", create=True, system=Unsynced()))
    tables = commit_all(repository, few())
    contents = contents_of(repository)
    numbers = count_up()

    def check(state: CrashState) -> None:
        left = state.path / "repository"
        storage = LocalStorage(left, system=Unsynced())
        if state.acknowledged:
            assert not traces(storage, contents)
        if next(numbers) % 2 and not every:
            return
        one = reopened(left)
        report = one.verify(deep=True)
        assert report.ok, [str(damage) for damage in report.damages]
        records = list(storage.keys(ERASED))
        # As long as anything is left of what a record names, everybody is told.
        assert report.unfinished or not records or not traces(storage, contents)
        assert report.unfinished == one.gc().unfinished == one.repack(dry_run=True).unfinished
        assert one.snapshot("people").to_arrow().equals(tables[-1])
        for number in (1, 2):
            try:
                assert one.snapshot(f"people@v{number}").to_arrow().equals(tables[number - 1])
            except ErasedError:
                assert list(storage.keys(ERASED))
        if records:
            one.purge("people", finish=True, delete=True)
        else:
            purge(one)
        assert traces(storage, contents) == set()
        assert not one.verify().unfinished
        assert_erased(reopened(left), tables, [3])
        more = people(62, without=[WHO], scores=4)
        reopened(left).commit({"people": more}, message="m", threads=1)
        reopened(left).gc(delete=True, grace=0)
        assert_erased(reopened(left), [*tables, more], [3, 4])

    return after_crashes(recorded(root, _purging), light_path / "scratch", check, every=every)


def test_a_crash_at_any_point_leaves_the_old_state_or_a_purge_to_be_finished(
    light_path: Path, count: Count
) -> None:
    states = _crash(light_path, every=False)
    assert states > 10
    count("crash states of a purge reopened, purged and committed to", states)


@pytest.mark.soak
def test_every_crash_state_is_whole(light_path: Path, count: Count) -> None:
    count("crash states of a purge reopened, purged and committed to", _crash(light_path, every=True))


class Killed(BaseException):
    """What stands for a process that ends here."""


def killed(storage: Interrupted, repository: Repository, calls: int) -> None:
    """A purge that ends before its Nth write or deletion."""

    def kill() -> None:
        raise Killed

    storage.left, storage.then = calls, kill
    with pytest.raises(Killed):
        purge(repository)


def test_a_purge_that_was_killed_is_finished_without_the_rows_being_named() -> None:
    calls = 1
    while True:
        storage = Interrupted()
        repository = new(storage)
        lists = people(60, without=[WHO])
        # In the second version nobody has the nick, and the list of nicks still has it.
        old = people(60)
        middle = lists.set_column(4, "nick", old["nick"].filter(pc.not_equal(old["id"], WHO)))
        tables = commit_all(repository, [old, middle, people(60, without=[WHO], scores=1)])
        contents = contents_of(repository)
        try:
            killed(storage, repository, calls)
        except pytest.fail.Exception:
            assert calls > 10
            return
        calls += 1
        again = opened(storage)
        if not list(storage.keys(ERASED)):
            continue
        (left,) = again.verify().unfinished
        assert (left.feature_set, left.reason) == ("people", "asked for on paper")
        assert again.purge("people", finish=True).unfinished == (left,)
        done = again.purge("people", finish=True, delete=True)
        assert (done.unfinished, done.record) == ((left,), left.record)
        assert traces(storage, contents) == set()
        assert_erased(again, tables, [3])
        assert not again.verify().unfinished and not again.purge("people", finish=True).unfinished


def test_a_purge_of_others_finishes_what_was_interrupted() -> None:
    storage = Interrupted()
    repository = new(storage)
    tables = commit_all(repository, few())
    contents = contents_of(repository)
    killed(storage, repository, 3)
    (left,) = opened(storage).verify().unfinished
    assert purge(opened(storage), keys=[1000], reason="another").unfinished == (left,)
    assert traces(storage, contents) == set()
    assert_erased(opened(storage), tables, [3])
    assert not opened(storage).verify().unfinished


def test_to_finish_names_no_rows_and_what_was_never_begun_is_not_to_be_finished() -> None:
    repository = new(MemoryStorage())
    commit_all(repository, few())
    with pytest.raises(InvalidUse, match="no more rows"):
        repository.purge("people", finish=True, keys=[WHO], delete=True)
    done = repository.purge("people", finish=True, delete=True)
    assert (done.affected, done.unfinished, done.record) == ((), (), None)
    with pytest.raises(NotFound, match="did you mean|never was"):
        repository.purge("persons", finish=True, delete=True)


def test_a_cache_that_cannot_be_cleared_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path / "repository", create=True, system=Unsynced())
    repository = new(storage)
    commit_all(repository, few())
    stuck = Path(storage.cache_directory or "") / "thawed" / ("0" * 64)
    stuck.parent.mkdir(parents=True, exist_ok=True)
    stuck.touch()

    def unlink(path: str) -> None:
        if path == str(stuck):
            raise PermissionError(errno.EPERM, "Operation not permitted", path)
        os.remove(path)

    with monkeypatch.context() as patched, pytest.raises(StorageError, match="cannot be cleared"):
        patched.setattr("fsvc.engine.thawing.os.unlink", unlink)
        purge(repository)
    assert repository.verify().unfinished
    purge(repository)
    assert not stuck.exists()
    assert not repository.verify().unfinished


# -- any order of things ---------------------------------------------------------------------------


class Purging(RuleBasedStateMachine):
    """Commits, erasures, expiries, collections and repacks in any order, compared with what each version should be."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = MemoryStorage(clock=Clock())
        new(self.storage)
        self.tables: list[pa.Table] = []
        self.commits: list[str] = []
        self.expired: set[int] = set()
        self.erased: set[int] = set()
        self.gone: set[int] = set()
        """Persons who were erased."""
        self.contents: Contents = {}

    def _heads(self) -> set[str]:
        return set(opened(self.storage).branches().values())

    @initialize(count=st.integers(30, 60))
    def begin(self, count: int) -> None:
        self._commit(list(range(count)), 0)

    def _commit(self, ids: Sequence[int], scores: int) -> None:
        table = crowd(ids, scores)
        made = opened(self.storage).commit({"people": table}, key="id", message="m", threads=1)
        if made.created:
            self.tables.append(table)
            self.commits.append(made.id)
        self.contents |= contents_of(opened(self.storage))

    @rule(data=st.data(), scores=st.integers(0, 3))
    def commit(self, data: st.DataObject, scores: int) -> None:
        ids = self.tables[-1]["id"].to_pylist()
        dropped = data.draw(st.sets(st.sampled_from(ids), max_size=4))
        more = [i for i in range(max(ids) + 1, max(ids) + data.draw(st.integers(1, 4))) if i not in self.gone]
        left = [i for i in ids if i not in dropped] + more
        if left:
            self._commit(left, scores)

    @rule(data=st.data(), by_condition=st.booleans())
    def erase(self, data: st.DataObject, by_condition: bool) -> None:
        known = sorted({i for table in self.tables for i in table["id"].to_pylist()} - self.gone)
        now = set(self.tables[-1]["id"].to_pylist())
        person = data.draw(st.sampled_from([i for i in known if i not in now] or known))
        names: dict[str, Any] = (
            {"where": f"id = {person}", "keys": ()} if by_condition else {"keys": [person]}
        )
        held = any(
            person in self.tables[self.commits.index(head)]["id"].to_pylist() for head in self._heads()
        )
        if held:
            with pytest.raises(Conflict):
                purge(opened(self.storage), **names)
            return
        done = purge(opened(self.storage), **names)
        holding = {n for n, table in enumerate(self.tables) if person in table["id"].to_pylist()}
        # One that was erased in part may lose a column besides, which a row group that goes had stored again.
        assert {one.commit for one in done.affected} <= {self.commits[n] for n in holding | self.erased}
        self.gone.add(person)
        self.erased |= holding
        marks = [token(i) for i in self.gone] + [f"person{i}@".encode() for i in self.gone]
        assert traces(self.storage, self.contents, marks) == set()

    @rule(last=st.integers(1, 3))
    def expire(self, last: int) -> None:
        done = opened(self.storage).expire(last=last, delete=True)
        self.expired |= {self.commits.index(one.commit) for one in done.versions}

    @rule(data=st.data())
    def branch(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.commits) - 1))
        if number not in self.erased | self.expired and "side" not in opened(self.storage).branches():
            opened(self.storage).branch("side", self.commits[number])

    @rule()
    def delete_branch(self) -> None:
        if "side" in opened(self.storage).branches():
            opened(self.storage).delete_branch("side")

    @rule(repacked=st.booleans())
    def tidy(self, repacked: bool) -> None:
        if repacked:
            assert not opened(self.storage).repack(grace=0).damaged
        assert not opened(self.storage).gc(delete=True, grace=0).damaged

    @invariant()
    def every_version_is_what_it_should_be(self) -> None:
        repository = opened(self.storage)
        assert repository.verify().ok
        for number, (commit, table) in enumerate(zip(self.commits, self.tables, strict=True)):
            snapshot = repository.snapshot(f"people@{commit}")
            if number in self.erased:
                with pytest.raises(GoneError):
                    snapshot.to_arrow()
                continue
            try:
                assert snapshot.to_arrow().equals(table)
            except ExpiredError:
                assert number in self.expired

    def teardown(self) -> None:
        report = opened(self.storage).verify(deep=True)
        assert report.ok, [str(damage) for damage in report.damages]


def crowd(ids: Sequence[int], scores: int) -> pa.Table:
    """People with these keys."""
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "mail": [f"person{i}@example.org" for i in ids],
            "token": pa.array([token(i) for i in ids], pa.binary()),
            "city": pa.array([["Rome", "Oslo", "Lima"][i % 3] for i in ids]).dictionary_encode(),
            "score": [float(i % 5 + (scores if i % 7 == 0 else 0)) for i in ids],
        }
    )


def test_any_order_of_commits_erasures_and_collections(count: Count) -> None:
    with short_groups():
        run_state_machine_as_test(
            Purging, settings=settings(max_examples=10, stateful_step_count=12, deadline=None)
        )
    count("sequences of 12 commits, erasures, expiries and collections compared with a model", 10)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_any_order_of_commits_erasures_and_collections_for_long(count: Count) -> None:
    with short_groups():
        run_state_machine_as_test(Purging, settings=settings(max_examples=1_000, stateful_step_count=40))
    count("sequences of 40 commits, erasures, expiries and collections compared with a model", 1_000)
