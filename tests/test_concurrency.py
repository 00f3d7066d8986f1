"""Writers at the same time, in threads and in processes: nothing is lost, nothing is there twice."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from faulty import FaultyStorage
from wholeness import assert_whole, new, opened, refs, small
from writer import Task, Writer

from fsvc.engine import history
from fsvc.errors import Conflict, ConflictError, FsvcError, StorageError
from fsvc.repository import Repository
from fsvc.storage.contract import Storage
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage

T = TypeVar("T")
Count = Callable[[str, int], None]


@pytest.fixture(params=["memory", "local", "slow"])
def storage(request: pytest.FixtureRequest, light_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(light_path / "repository", create=True)
    return FaultyStorage(MemoryStorage(), delay=0.002) if request.param == "slow" else MemoryStorage()


def at_once(*calls: Callable[[], T]) -> list[T | FsvcError]:
    """Make all calls at the same moment, each in a thread of its own; give what each returned or raised."""
    barrier = threading.Barrier(len(calls))
    outcomes: dict[int, T | FsvcError] = {}

    def call(number: int) -> None:
        barrier.wait(30)
        try:
            outcomes[number] = calls[number]()
        except FsvcError as error:
            outcomes[number] = error

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return [outcomes[number] for number in range(len(calls))]


def branch_history(repository: Repository, branch: str = "main") -> list[str]:
    head = history.head(repository.store, branch)
    return [commit for commit, _ in history.first_parents(repository.store, head)]


@pytest.mark.parametrize("shared", [True, False])
def test_threads_with_sets_of_their_own_all_get_through(storage: Storage, shared: bool, count: Count) -> None:
    repository = new(storage)

    def commits(me: int) -> list[str]:
        mine = repository if shared else opened(storage)
        return [
            mine.commit({f"set{me}": small(me * 10 + i)}, message=f"{me}.{i}", threads=1).id for i in range(5)
        ]

    made = at_once(*(lambda me=me: commits(me) for me in range(6)))
    assert not [outcome for outcome in made if isinstance(outcome, FsvcError)]
    found = branch_history(repository)
    assert Counter(found) == Counter(commit for commits in made for commit in commits)  # type: ignore[union-attr]
    assert repository.resolve().versions == {f"set{me}": 5 for me in range(6)}
    for me in range(6):
        for i in range(5):
            assert repository.snapshot(f"set{me}@v{i + 1}").to_arrow().equals(small(me * 10 + i))
            assert repository.resolve(f"v{i + 1}", feature_set=f"set{me}").message == f"{me}.{i}"
    assert_whole(repository)
    count("commits of racing threads, each there once", len(found))


def test_threads_that_change_the_same_set_conflict(storage: Storage) -> None:
    repository = new(storage)
    base = repository.commit({"a": small(0), "other": small(9)}, message="base")
    made = at_once(
        *(lambda me=me: repository.commit({"a": small(me)}, message=str(me), threads=1) for me in range(1, 7))
    )
    won = [commit for commit in made if not isinstance(commit, FsvcError)]
    lost = [error for error in made if isinstance(error, FsvcError)]
    assert won and all(type(error) is ConflictError for error in lost)
    found = branch_history(repository)
    assert Counter(found) == Counter([base.id, *(commit.id for commit in won)])
    for error in lost:
        assert isinstance(error, ConflictError)
        assert error.theirs in found and error.ours not in found
        assert "'a'" in error.message
        assert error.ours[:12] in error.message and error.theirs[:12] in error.message
    # Who came late saw another's commit either as the base or as a conflict: versions count all that won.
    assert repository.resolve().versions == {"a": 1 + len(won), "other": 1}
    assert_whole(repository)


def test_the_loser_of_a_conflict_is_kept_whole_on_its_own_base(storage: Storage) -> None:
    repository = new(storage)
    base = repository.commit({"a": small(0), "b": small(1)}, message="base")
    slow = repository.draft({"a": small(2), "c": small(3)})
    theirs = repository.commit({"a": small(4)}, message="theirs")
    with pytest.raises(ConflictError) as caught:
        slow.publish(message="ours", author="bob")
    assert caught.value.theirs == theirs.id
    assert repository.resolve().id == theirs.id
    ours = opened(storage).resolve(caught.value.ours)
    assert ours.parents == (base.id,)
    assert ours.versions == {"a": 2, "b": 1, "c": 1}
    assert [snapshot.to_arrow() for snapshot in ours.snapshots()] == [small(2), small(1), small(3)]
    again = repository.commit({"a": small(2), "c": small(3)}, message="again")
    assert again.parents == (theirs.id,) and again.versions == {"a": 3, "b": 1, "c": 1}
    assert_whole(repository)


def test_the_same_new_set_twice_is_a_conflict(storage: Storage) -> None:
    repository = new(storage)
    drafts = [repository.draft({"a": small(number)}) for number in range(2)]
    first = drafts[0].publish(message="first", author="ann")
    with pytest.raises(ConflictError) as caught:
        drafts[1].publish(message="second", author="bob")
    assert caught.value.theirs == first.commit
    assert opened(storage).resolve(caught.value.ours).parents == ()


def test_a_draft_of_another_set_goes_on_top_of_theirs(storage: Storage) -> None:
    repository = new(storage)
    repository.commit({"a": small(0)}, message="base")
    draft = repository.draft({"b": small(1), "a": small(0)})  # "a" is as it was: not touched
    theirs = repository.commit({"a": small(2)}, message="theirs")
    done = draft.publish(message="ours", author="bob")
    assert done.record.parents == (theirs.id,)
    assert repository.snapshot("a").to_arrow().equals(small(2))
    assert repository.resolve().versions == {"a": 2, "b": 1}
    assert set(repository.resolve().changes) == {"b"}


def test_first_commits_at_the_same_time_all_get_through(storage: Storage) -> None:
    repository = new(storage)
    made = at_once(*(lambda me=me: repository.commit({f"s{me}": small(me)}, message="m") for me in range(4)))
    assert not [outcome for outcome in made if isinstance(outcome, FsvcError)]
    assert repository.resolve().versions == {f"s{me}": 1 for me in range(4)}
    assert len(branch_history(repository)) == 4


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_one_of_several_makers_of_a_ref_wins(storage: Storage, kind: str) -> None:
    repository = new(storage)
    commits = [repository.commit({"a": small(number)}, message="m").id for number in range(5)]
    make = repository.branch if kind == "branch" else repository.tag
    delete = repository.delete_branch if kind == "branch" else repository.delete_tag
    for round_ in range(3):
        made = at_once(*(lambda commit=commit: make("x", commit) for commit in commits))
        won = [outcome for outcome in made if isinstance(outcome, str)]
        assert len(won) == 1
        assert all(type(outcome) is Conflict for outcome in made if not isinstance(outcome, str))
        assert (repository.branches() if kind == "branch" else repository.tags())["x"] == won[0]
        deleted = at_once(*(lambda: delete("x") for _ in range(4)))
        assert deleted.count(won[0]) == 1
        assert len(repository.reflog("x")) == 2 * (round_ + 1)
    assert_whole(repository)


def test_a_commit_does_not_bring_back_a_deleted_branch(storage: Storage) -> None:
    repository = new(storage)
    repository.commit({"a": small(0)}, message="base")
    repository.branch("dev")
    draft = repository.draft({"b": small(1)}, branch="dev")
    repository.delete_branch("dev")
    with pytest.raises(Conflict, match="'dev' was deleted"):
        draft.publish(message="late", author="bob")
    assert "dev" not in repository.branches()
    assert_whole(repository)


def test_one_of_two_inits_wins(light_path: Path) -> None:
    import fsvc

    for number in range(5):
        made = at_once(*(lambda number=number: fsvc.init(light_path / f"r{number}") for _ in range(3)))
        won = [outcome for outcome in made if isinstance(outcome, Repository)]
        assert len(won) == 1
        assert all(type(outcome) is Conflict for outcome in made if not isinstance(outcome, Repository))
        assert fsvc.open(light_path / f"r{number}").instance == won[0].instance


@pytest.mark.parametrize("seed", range(4))
def test_a_store_that_loses_replies_gets_every_commit_once(
    seed: int, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    monkeypatch.setattr("fsvc.engine.refs._FIRST_PAUSE", 0.0001)
    inner = MemoryStorage()
    new(inner)
    storage = FaultyStorage(inner, seed=seed, fail=0.05, lose=0.1, fail_reads=0.02, delay=0.0005)

    def commits(me: int) -> list[str]:
        made: list[str] = []
        while len(made) < 5:
            try:
                table = small(10 * me + len(made))
                made.append(opened(storage).commit({f"s{me}": table}, message="m", threads=1).id)
            except Conflict:
                raise
            except StorageError:
                continue  # not known to be there; where it is, the same commit again makes nothing new
        return made

    made = at_once(*(lambda me=me: commits(me) for me in range(4)))
    repository = opened(inner)
    assert Counter(branch_history(repository)) == Counter(commit for each in made for commit in each)  # type: ignore[union-attr]
    assert repository.resolve().versions == {f"s{me}": 5 for me in range(4)}
    assert_whole(repository)
    faults = storage.counts["lose"] + storage.counts["fail"] + storage.counts["partly"]
    count("faults dealt out to racing writers, every commit there once", faults)


@pytest.fixture(scope="module")
def writers() -> Iterator[list[Writer]]:
    with Writer() as one, Writer() as two, Writer() as three:
        yield [one, two, three]


def run(writers: list[Writer], tasks: list[Task]) -> None:
    for writer, task in zip(writers, tasks, strict=True):
        writer.committed.clear()
        writer.conflicts.clear()
        writer.won.clear()
        writer.start(task)
    assert [writer.end() for writer in writers] == [0] * len(writers)


def test_processes_with_sets_of_their_own_all_get_through(
    tmp_path: Path, writers: list[Writer], count: Count
) -> None:
    repository = new(LocalStorage(tmp_path / "repository", create=True))
    root = repository.location
    run(writers, [Task(root, (f"{me}.x", f"{me}.y"), me, commits=20) for me in "abc"])
    made = [commit for writer in writers for commit, _ in writer.committed]
    assert len(made) == 60
    assert Counter(branch_history(repository)) == Counter(made)
    assert repository.resolve().versions == {f"{me}.{name}": 10 for me in "abc" for name in "xy"}
    assert_whole(repository)
    count("commits of racing processes, each there once", len(made))


def test_processes_that_change_the_same_set_conflict(
    tmp_path: Path, writers: list[Writer], count: Count
) -> None:
    repository = new(LocalStorage(tmp_path / "repository", create=True))
    run(writers, [Task(repository.location, ("same", me), me, commits=15, together=True) for me in "abc"])
    made = [commit for writer in writers for commit, _ in writer.committed]
    conflicts = [conflict for writer in writers for conflict in writer.conflicts]
    assert len(made) + len(conflicts) == 45
    found = branch_history(repository)
    assert Counter(found) == Counter(made)
    for ours, theirs in conflicts:
        assert ours not in found and theirs in found
        assert len(repository.resolve(ours).snapshots()) >= 2  # the loser can be looked at
    assert_whole(repository)
    count("conflicts of racing processes, each naming both commits", len(conflicts))


def test_processes_race_for_branches_and_tags(tmp_path: Path, writers: list[Writer], count: Count) -> None:
    repository = new(LocalStorage(tmp_path / "repository", create=True))
    repository.commit({"a": small(0)}, message="m")
    names = tuple(f"r{number}" for number in range(20))
    run(writers, [Task(repository.location, names, me, refs=True) for me in "abc"])
    won = Counter(each for writer in writers for each in writer.won)
    assert won == {(kind, name): 1 for kind in ("branch", "tag") for name in names}
    assert len(refs(repository)) == 41
    assert_whole(repository)
    count("branches and tags that processes raced for, each won once", len(won))


@pytest.mark.soak
def test_sixteen_processes_on_one_branch(tmp_path: Path, count: Count) -> None:
    repository = new(LocalStorage(tmp_path / "repository", create=True))
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(Writer()) for _ in range(16)]
        run(many, [Task(repository.location, (f"s{i}", "same"), f"w{i}", commits=200) for i in range(16)])
    made = [commit for writer in many for commit, _ in writer.committed]
    conflicts = sum(len(writer.conflicts) for writer in many)
    assert len(made) + conflicts == 16 * 200
    assert Counter(branch_history(repository)) == Counter(made)
    assert_whole(repository)
    count("commits of racing processes, each there once", len(made))
    count("conflicts of racing processes, each naming both commits", conflicts)
