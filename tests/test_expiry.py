"""Expiry: what a policy, a ref or a working file keeps stays readable and proven; the rest says that it expired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from crash import CrashState, Recording, Unsynced, after_crashes, recorded
from hypothesis import given
from hypothesis import strategies as st
from test_patches import changed, features
from wall import Clock
from wholeness import TIME, new, opened, reopened

from fsvc.engine import condemned
from fsvc.engine.collection import GC_GRACE_SECONDS
from fsvc.engine.condemned import GRACE_SECONDS, Sentence
from fsvc.engine.expired import EXPIRED
from fsvc.engine.expiring import Policy
from fsvc.errors import Corruption, ExpiredError, GoneError, InvalidUse, NotFound
from fsvc.repository import Repository
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage

Count = Callable[[str, int], None]

LATER = GC_GRACE_SECONDS + 1
NOW = datetime(2026, 11, 27, 18, 0, tzinfo=UTC)


def stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# -- policies --------------------------------------------------------------------------------------


def by_hand(policy: Policy, times: Sequence[datetime]) -> set[int]:
    """What a policy keeps, rule by rule and one version at a time."""
    keep = set()
    for i, when in enumerate(times):
        if i < policy.last:
            keep.add(i)
        if policy.within and when >= NOW - timedelta(days=policy.within):
            keep.add(i)
        for number, form in (
            (policy.daily, "%Y-%m-%d"), (policy.weekly, "%G-%V"), (policy.monthly, "%Y-%m"), (policy.yearly, "%Y"),
        ):  # fmt: skip
            own = when.strftime(form)
            newer = [other.strftime(form) for other in times[:i]]
            if own not in newer and len(set(newer)) < number:
                keep.add(i)
    return keep


@given(
    st.lists(st.integers(0, 60 * 24 * 400), max_size=30),
    st.tuples(*[st.integers(0, 5)] * 6).filter(any),
)
def test_a_policy_keeps_what_its_words_say(minutes: list[int], rules: tuple[int, ...]) -> None:
    times = [NOW - timedelta(minutes=minute) for minute in sorted(minutes)]
    policy = Policy(*rules)
    assert policy.kept([stamp(when) for when in times], NOW) == by_hand(policy, times)


def test_a_policy_that_keeps_nothing_is_refused() -> None:
    repository = new(MemoryStorage())
    for rules in ({}, {"last": -1, "daily": 2}):
        with pytest.raises(InvalidUse):
            repository.expire(**rules)
    with pytest.raises(NotFound):
        repository.expire("nobody", last=1)


# -- what stays and what goes ----------------------------------------------------------------------


class Setting:
    """Eight versions of one feature set, a day apart, of which one is tagged, one pinned and one on another branch."""

    def __init__(self, rows: int = 2_000) -> None:
        self.clock = Clock()
        self.storage = MemoryStorage(clock=self.clock)
        self.repository = new(self.storage)
        self.tables = [features(rows)]
        self.other = features(50)
        for number in range(8):
            if number:
                self.tables.append(changed(self.tables[-1], number, 0.9))
            sets = {"t": self.tables[-1]} if number else {"t": self.tables[0], "other": self.other}
            when = stamp(NOW - timedelta(days=20 - number))
            self.repository.commit(sets, key="id", message=str(number), threads=1, time=when)
        self.ids = [commit.id for commit in reversed(self.repository.log())]
        self.clock.now += 2 * GRACE_SECONDS

    def keep_three(self) -> None:
        self.repository.tag("gold", self.ids[1])
        self.repository.branch("topic", self.ids[3])
        self.repository.store.refs.append(
            "pins", "mlflow/m-1", None, self.ids[2], author="ann", reason="", time=TIME
        )

    def gc(self, **options: Any) -> None:
        opened(self.storage).gc(delete=True, **options)

    def check(self, kept: Sequence[int], *, freed: bool = True) -> None:
        """Versions by number, from 1: those kept are as they were, others have expired; everything is whole."""
        repository = opened(self.storage)
        for number, table in enumerate(self.tables, 1):
            snapshot = repository.snapshot(f"t@v{number}")
            if number in kept or not freed:
                assert snapshot.to_arrow().equals(table), number
                continue
            with pytest.raises(ExpiredError, match=r"expired by policy on 20\d\d-\d\d-\d\d: keep "):
                snapshot.to_arrow()
        assert repository.snapshot("other").to_arrow().equals(self.other)
        report = repository.verify(deep=True)
        assert report.ok, [str(damage) for damage in report.damages]
        assert report.counts.expired_snapshots == len(self.tables) - len(kept)
        assert [commit.id for commit in reversed(repository.log())] == self.ids
        assert repository.expired() == {
            repository.resolve(self.ids[n - 1]).snapshot("t").id
            for n in range(1, len(self.tables) + 1)
            if n not in kept
        }


def test_what_a_policy_or_a_ref_keeps_stays_and_the_rest_is_freed() -> None:
    here = Setting()
    here.keep_three()
    before = here.repository.stats().stored_bytes
    planned = here.repository.expire(last=2)
    assert [one.version for one in planned.versions] == [6, 5, 1] and not planned.deleted
    assert not list(here.storage.keys(EXPIRED))
    done = here.repository.expire(last=2, delete=True)
    assert [one.version for one in done.versions] == [6, 5, 1] and done.kept == {"t": 5, "other": 1}
    kept = [2, 3, 4, 7, 8]
    here.check(kept, freed=False)
    here.gc()
    here.check(kept, freed=False)  # condemned, and in peace
    here.clock.now += LATER
    here.gc()
    here.check(kept)
    assert here.repository.stats().stored_bytes < before
    here.repository.repack(grace=0)
    here.gc(grace=0)
    here.check(kept)
    blame = opened(here.storage).blame("t", (3,))
    assert {one.version for one in blame.versions()} <= {8} and blame.is_cut_short
    for use in (
        lambda: opened(here.storage).sql("select count(*) from t@v1").fetchall(),
        lambda: opened(here.storage).diff("t@v1", "t@v8").rows(),
    ):
        with pytest.raises(ExpiredError):
            use()
    assert here.repository.expire(last=2, delete=True).versions == ()


def test_most_of_the_space_is_freed_whatever_manifests_are_stored_against() -> None:
    here = Setting(20_000)
    before = here.repository.stats()
    here.repository.expire("t", last=1, delete=True)
    here.gc(grace=0)
    here.check([8])
    after = here.repository.stats()
    assert after.pack_bytes < 0.8 * before.pack_bytes
    assert here.repository.explain(opened(here.storage).resolve().snapshot("t").id).kept


def test_snapshots_of_working_files_stay_and_other_feature_sets_too() -> None:
    here = Setting()
    held = here.repository.resolve(here.ids[4]).snapshot("t").id
    done = here.repository.expire("t", last=1, snapshots=[held], delete=True)
    assert [one.version for one in done.versions] == [7, 6, 4, 3, 2, 1]
    here.gc(grace=0)
    here.check([5, 8])


def test_a_later_tag_keeps_what_has_expired_but_is_there() -> None:
    here = Setting()
    here.repository.expire(last=1, delete=True)
    here.repository.tag("late", here.ids[5])
    here.gc(grace=0)
    here.check([6, 8])
    here.repository.delete_tag("late")
    here.gc(grace=0)
    here.check([8])


def test_a_table_that_comes_back_is_there_again_and_numbers_go_on() -> None:
    here = Setting()
    here.repository.expire(last=1, delete=True)
    here.gc(grace=0)
    made = here.repository.commit({"t": here.tables[2]}, message="again", threads=1)
    assert made.versions["t"] == 9
    here.tables.append(here.tables[2])
    here.ids.append(made.id)
    here.gc(grace=0)
    repository = opened(here.storage)
    for number in (3, 8, 9):
        assert repository.snapshot(f"t@v{number}").to_arrow().equals(here.tables[number - 1])
    assert repository.verify(deep=True).ok


# -- taking it back --------------------------------------------------------------------------------


def test_an_expiry_is_taken_back_while_the_data_are_there() -> None:
    here = Setting()
    record = here.repository.expire(last=2, delete=True).record
    assert record is not None
    back = here.repository.take_back(record[:8])
    assert len(back.versions) == 6
    here.gc(grace=0)
    here.check(range(1, 9))
    again = here.repository.expire(last=3, delete=True).record
    assert again is not None
    here.gc(grace=0)
    here.check([6, 7, 8])
    with pytest.raises(GoneError, match="was freed"):
        here.repository.take_back(again)
    for wrong in ("zzzzzzzz", "", record[:2]):
        with pytest.raises(NotFound):
            here.repository.take_back(wrong)


@pytest.mark.parametrize("waited", [0.1, 0.6, 1.1])
@pytest.mark.parametrize("how", ["taken back", "a branch"])
def test_what_is_condemned_already_is_kept_or_gone_but_never_half(waited: float, how: str) -> None:
    here = Setting()
    record = here.repository.expire(last=1, delete=True).record
    assert record is not None
    here.gc()
    here.clock.now += waited * GC_GRACE_SECONDS
    if how == "a branch":
        opened(here.storage).branch("rescue", here.ids[4])
    else:
        opened(here.storage).take_back(record)
    for _ in range(3):
        here.gc()
        here.clock.now += LATER
    here.check([5, 8] if how == "a branch" else range(1, 9))


@pytest.mark.parametrize("how", ["taken back", "a branch"])
def test_what_is_kept_again_during_the_last_look_stays(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Setting()
    record = here.repository.expire(last=1, delete=True).record
    assert record is not None
    here.gc()
    here.clock.now += LATER
    decide = condemned._decide
    done: list[int] = []

    def slow(storage: Any, verdict: Sentence) -> None:
        if verdict.keys and not done:
            done.append(1)  # it was looked at, and is about to be written down as dead
            if how == "a branch":
                opened(here.storage).branch("rescue", here.ids[4])
            else:
                opened(here.storage).take_back(record)
        decide(storage, verdict)

    monkeypatch.setattr(condemned, "_decide", slow)
    here.gc()
    assert done
    for _ in range(3):
        here.clock.now += LATER
        here.gc()
    here.check([5, 8] if how == "a branch" else range(1, 9))


def test_a_branch_at_what_was_freed_stands_and_goes_on_from_there() -> None:
    here = Setting()
    here.repository.expire(last=1, delete=True)
    here.gc(grace=0)
    here.repository.branch("old", here.ids[2])
    with pytest.raises(ExpiredError):
        opened(here.storage).snapshot("t@old").to_arrow()
    assert opened(here.storage).snapshot("other@old").to_arrow().equals(here.other)


def test_a_damaged_record_is_told_and_nothing_is_deleted() -> None:
    here = Setting()
    here.repository.expire(last=1, delete=True)
    (key,) = here.storage.keys(EXPIRED)
    data = here.storage.get(key)
    here.storage.delete(key)
    here.storage.put_if_absent(key, data.replace(b"keep last 1", b"keep last 9"))
    before = set(here.storage.keys(""))
    with pytest.raises(Corruption):
        here.gc(grace=0)
    assert set(here.storage.keys("")) == before
    assert not opened(here.storage).verify().ok


# -- with erasure ----------------------------------------------------------------------------------


@pytest.mark.parametrize("collected", [False, True])
def test_rows_are_erased_from_what_has_expired_too(collected: bool) -> None:
    here = Setting()
    without = here.tables[-1].slice(1)
    made = here.repository.commit({"t": without}, message="without the first", threads=1)
    here.clock.now += 2 * GRACE_SECONDS
    here.repository.expire("t", last=2, delete=True)
    if collected:
        here.gc(grace=0)
    done = opened(here.storage).purge("t", keys=[0], reason="asked for", delete=True)
    assert len(done.affected) == (1 if collected else 8)
    repository = opened(here.storage)
    assert repository.verify(deep=True).ok
    assert repository.snapshot(f"t@{made.id}").to_arrow().equals(without)
    for number in range(1, 9):
        with pytest.raises(GoneError):
            repository.snapshot(f"t@v{number}").to_arrow()
    assert repository.purge("t", keys=[0]).rows == 0
    here.gc(grace=0)
    assert opened(here.storage).verify(deep=True).ok


# -- crashes ---------------------------------------------------------------------------------------


def _expiring(storage: LocalStorage, recording: Recording) -> None:
    repository = opened(storage)
    repository.expire(last=1, delete=True)
    recording.acknowledge("expired")
    repository.gc(delete=True, grace=0)


def _start(root: Path) -> tuple[Repository, list[pa.Table]]:
    root.mkdir()
    repository = new(LocalStorage(root / "repository", create=True, system=Unsynced()))
    tables = [features(60)]
    for number in range(3):
        repository.commit({"t": tables[-1]}, key="id", message=str(number), threads=1)
        tables.append(changed(tables[-1], number, 0.9))
    return repository, tables[:3]


def _crash(light_path: Path, *, every: bool) -> int:
    root = light_path / "disk"
    _, tables = _start(root)

    def check(state: CrashState) -> None:
        left = state.path / "repository"
        repository = reopened(left)
        report = repository.verify(deep=True)
        assert report.ok, [str(damage) for damage in report.damages]
        assert bool(repository.expired()) or not state.acknowledged
        for number in (1, 2):
            try:
                assert repository.snapshot(f"t@v{number}").to_arrow().equals(tables[number - 1])
            except ExpiredError:
                assert repository.expired()
        repository.expire(last=1, delete=True)
        repository.gc(delete=True, grace=0)
        again = reopened(left)
        assert again.verify(deep=True).ok and again.snapshot("t").to_arrow().equals(tables[-1])
        with pytest.raises(ExpiredError):
            again.snapshot("t@v1").to_arrow()

    return after_crashes(recorded(root, _expiring), light_path / "scratch", check, every=every)


def test_a_crash_at_any_point_leaves_versions_whole_or_expired(light_path: Path, count: Count) -> None:
    states = _crash(light_path, every=False)
    assert states > 5
    count("crash states of an expiry and a collection reopened, expired and collected", states)


@pytest.mark.soak
def test_every_crash_state_is_whole(light_path: Path, count: Count) -> None:
    states = _crash(light_path, every=True)
    count("crash states of an expiry and a collection reopened, expired and collected", states)
