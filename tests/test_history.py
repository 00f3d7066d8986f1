"""What revisions name: versions, branches, tags, prefixes, steps and times; and the log that they walk."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from wholeness import new, opened, small

from fsvc.engine import history
from fsvc.engine.files import commit_key
from fsvc.engine.store import Store
from fsvc.errors import Conflict, InvalidName, InvalidRevision, InvalidUse, NotFound
from fsvc.format.commit import CommitRecord, SetVersion
from fsvc.repository import Repository
from fsvc.snapshot import Commit
from fsvc.storage.memory import MemoryStorage

START = datetime(2026, 11, 1, tzinfo=UTC)


def stamp(hours: float) -> str:
    return (START + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def at(hours: float) -> str:
    return "{" + (START + timedelta(hours=hours)).isoformat() + "}"


@pytest.fixture
def repository() -> Repository:
    return new(MemoryStorage())


def commits(repository: Repository, count: int, name: str = "a", **options: str) -> list[Commit]:
    """Commit one feature set again and again, an hour apart."""
    return [
        repository.commit({name: small(number)}, message=f"{name}{number}", time=stamp(number), **options)
        for number in range(count)
    ]


def put(repository: Repository, record: CommitRecord) -> str:
    """Store a commit as a merge would make it."""
    repository.store.storage.put_batch({commit_key(record.id): record.encoded})
    return record.id


def move(repository: Repository, branch: str, commit: str, time: str) -> None:
    refs = repository.store.refs
    refs.append("heads", branch, refs.head("heads", branch), commit, author="ann", reason="test", time=time)


# Versions


def test_versions_count_the_changes_of_each_feature_set(repository: Repository) -> None:
    repository.commit({"a": small(0), "b": small(1)}, message="1")
    repository.commit({"a": small(2)}, message="2")
    repository.commit({"a": small(2), "b": small(3)}, message="3")
    repository.commit({}, message="4", allow_empty=True)
    last = repository.commit(
        {"a": small(0)}, message="5"
    )  # again what it once was: a new version all the same
    assert last.versions == {"a": 3, "b": 2}
    messages = {
        address: repository.snapshot(address).commit.message
        for address in ("a@v1", "a@v2", "a@v3", "b@v1", "b@v2")
    }
    assert messages == {"a@v1": "1", "a@v2": "2", "a@v3": "5", "b@v1": "1", "b@v2": "3"}
    assert repository.snapshot("a@v1").id == repository.snapshot("a@v3").id


@pytest.mark.parametrize("version", ["v0", "v4", "v100"])
def test_a_version_that_is_not_there_names_the_newest(repository: Repository, version: str) -> None:
    commits(repository, 3)
    with pytest.raises(NotFound, match=f"there is no a@{version}") as caught:
        repository.snapshot(f"a@{version}")
    assert caught.value.hint == "the newest on main is a@v3"


def test_a_version_needs_a_feature_set(repository: Repository) -> None:
    commits(repository, 1)
    with pytest.raises(InvalidRevision, match="name the feature set too"):
        repository.resolve("v1")


def test_a_version_of_an_unknown_feature_set_suggests_the_nearest(repository: Repository) -> None:
    commits(repository, 1, "customers")
    with pytest.raises(NotFound, match="no feature set 'custmers'") as caught:
        repository.snapshot("custmers@v1")
    assert caught.value.hint == "did you mean 'customers'?"


def test_versions_are_those_of_main_wherever_one_is(repository: Repository) -> None:
    first = commits(repository, 2)
    repository.branch("dev")
    on_dev = repository.commit({"a": small(50)}, message="dev", branch="dev")
    repository.commit({"new": small(51)}, message="new on dev", branch="dev")
    assert on_dev.versions["a"] == 3
    on_main = repository.commit({"a": small(60)}, message="main")
    there = Repository(repository.store, branch="dev", author="ann")
    assert there.snapshot("a@v2").commit == first[1]
    assert there.snapshot("a@v3").commit == on_main  # not dev's own third
    assert there.snapshot("a").to_arrow().equals(small(50))
    dev_only = repository.commit({"a": small(52)}, message="4", branch="dev")
    with pytest.raises(NotFound, match="a@v4 is not on main") as caught:
        there.snapshot("a@v4")
    assert caught.value.hint == f"on dev that number is a@{dev_only.id[:12]}"
    with pytest.raises(NotFound, match="new@v1 is not on main"):  # main does not have the feature set at all
        there.snapshot("new@v1")
    with pytest.raises(NotFound, match="no feature set 'new'"):
        repository.snapshot("new@v1")


def test_a_version_with_steps(repository: Repository) -> None:
    made = commits(repository, 4)
    assert repository.snapshot("a@v4~2").commit == made[1]
    with pytest.raises(InvalidRevision, match="both a version and a time"):
        repository.snapshot(f"a@v1{at(1)}")


# Branches, tags, commit ids


def test_a_name_means_a_branch_before_a_tag_before_a_prefix(repository: Repository) -> None:
    made = commits(repository, 4)
    prefix = made[0].id[:6]
    assert repository.resolve(prefix) == made[0]
    repository.tag(prefix, made[1].id)
    assert repository.resolve(prefix) == made[1]
    repository.branch(prefix, made[2].id)
    assert repository.resolve(prefix) == made[2]
    assert repository.resolve(made[0].id) == made[0]  # a whole id is never a name
    repository.delete_branch(prefix)
    repository.delete_tag(prefix)
    assert repository.resolve(prefix) == made[0]
    assert repository.resolve(prefix.upper()) == made[0]


def test_a_prefix_of_several_commits_is_refused_and_they_are_shown(repository: Repository) -> None:
    commits(repository, 1)
    seen: dict[str, CommitRecord] = {}
    for number in itertools.count():
        message = f"twin {number}\nand more" if number % 2 else ""
        record = CommitRecord({}, (), "ann", stamp(0), message, {"n": str(number)})
        other = seen.setdefault(record.id[:4], record)
        if other is not record:
            break
    for each in (record, other):
        put(repository, each)
    with pytest.raises(InvalidRevision, match=f"'{record.id[:4]}' is the beginning of 2 commits") as caught:
        repository.resolve(record.id[:4])
    assert caught.value.hint is not None
    assert record.id[:12] in caught.value.hint and other.id[:12] in caught.value.hint
    assert "and more" not in caught.value.hint
    longer = next(n for n in range(5, 64) if record.id[:n] != other.id[:n])
    assert repository.resolve(record.id[:longer]).id == record.id
    assert repository.resolve(other.id).id == other.id


@pytest.mark.parametrize("absent", ["0123", "f" * 64, "cafe" * 10])
def test_a_commit_that_is_not_there(repository: Repository, absent: str) -> None:
    commits(repository, 1)
    with pytest.raises(NotFound, match="is no version, branch, tag or commit"):
        repository.resolve(absent)


def test_the_nearest_name_is_suggested(repository: Repository) -> None:
    commits(repository, 2, "customers")
    repository.branch("development")
    repository.tag("release-1")
    for wrong, right in (("developmnt", "development"), ("relase-1", "release-1"), ("mian", "main")):
        with pytest.raises(NotFound) as caught:
            repository.resolve(wrong)
        assert caught.value.hint == f"did you mean '{right}'?"
    for call in (
        lambda: repository.delete_branch("developmnt"),
        lambda: repository.reflog("developmnt"),
        lambda: repository.snapshot("customers@developmnt"),
    ):
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.hint == "did you mean 'development'?"
    with pytest.raises(NotFound) as caught:
        repository.snapshot("custmers")
    assert caught.value.hint == "did you mean 'customers'?"
    with pytest.raises(NotFound) as caught:
        repository.resolve("nothing-like-it")
    assert caught.value.hint == "see 'fsvc log', 'fsvc branch' and 'fsvc tag'"


def test_nothing_is_there_before_the_first_commit(repository: Repository) -> None:
    assert repository.log() == [] and repository.head() is None and repository.branches() == {}
    for revision in (None, "main", "~1", "main{2026-11-01}"):
        with pytest.raises(NotFound):
            repository.resolve(revision)
    with pytest.raises(NotFound):
        repository.snapshot("a")
    with pytest.raises(NotFound):
        repository.snapshot("a@v1")
    with pytest.raises(NotFound):
        repository.tag("x")
    with pytest.raises(NotFound):
        repository.branch("x")


# Steps


def test_steps_go_back_by_first_parents(repository: Repository) -> None:
    made = commits(repository, 5)
    for n in range(5):
        assert repository.resolve(f"~{n}") == repository.resolve(f"main~{n}") == made[4 - n]
        assert repository.resolve("^" * n if n else "~0") == made[4 - n]
    assert repository.resolve("^0") == made[4]
    assert repository.resolve("~^~") == made[1]
    with pytest.raises(NotFound, match="goes back too far"):
        repository.resolve("~5")
    with pytest.raises(NotFound, match="goes back too far"):
        repository.resolve("^2")
    with pytest.raises(NotFound, match="has no parent"):
        repository.resolve("~4^")


@pytest.fixture
def merged(repository: Repository) -> tuple[Repository, dict[str, str]]:
    """A history with a merge: main is base, left, merge; the second parent of merge is right, from base."""
    base = repository.commit({"a": small(0), "b": small(1)}, message="base", time=stamp(0))
    repository.branch("side")
    right = repository.commit({"b": small(2)}, message="right", branch="side", time=stamp(2))
    left = repository.commit({"a": small(3)}, message="left", time=stamp(1))
    sets = {"a": left.record.feature_sets["a"], "b": SetVersion(right.snapshot("b").id, 2)}
    parents = (left.id, right.id)
    merge = put(repository, CommitRecord(sets, parents, "ann", stamp(3), "merge", {}, {"b": {"rows": 12}}))
    move(repository, "main", merge, stamp(3))
    return repository, {"base": base.id, "left": left.id, "right": right.id, "merge": merge}


def test_a_step_to_another_parent(merged: tuple[Repository, dict[str, str]]) -> None:
    repository, ids = merged
    expected = {
        "^": "left",
        "^1": "left",
        "^2": "right",
        "~": "left",
        "~2": "base",
        "^2~": "base",
        "^2^": "base",
    }
    assert {step: repository.resolve(step).message for step in expected} == expected
    with pytest.raises(NotFound, match=r"has 2 parent\(s\)"):
        repository.resolve("^3")
    assert repository.snapshot("b@v2").commit.id == ids["merge"]
    assert repository.snapshot("a@v2").commit.id == ids["left"]


def test_the_log_gives_each_commit_of_a_merge_once(merged: tuple[Repository, dict[str, str]]) -> None:
    repository, ids = merged
    assert [commit.message for commit in repository.log()] == ["merge", "right", "left", "base"]
    assert [commit.message for commit in repository.log("b")] == ["merge", "right", "base"]
    assert [commit.message for commit in repository.log("a")] == ["left", "base"]
    assert [commit.message for commit in repository.log(revision="side")] == ["right", "base"]
    store = repository.store
    assert history.is_ancestor(store, ids["right"], ids["merge"])
    assert not history.is_ancestor(store, ids["right"], ids["left"])
    everything = [ids["base"], ids["merge"], ids["left"], ids["merge"]]
    given = [commit for commit, _ in history.ancestors(store, everything)]
    assert sorted(given) == sorted(ids.values()) and len(given) == 4


def test_children_come_before_parents_whatever_their_clocks_say(repository: Repository) -> None:
    for number in range(6):
        repository.commit({"a": small(number)}, message=str(number), time=stamp(-number))
    assert [commit.message for commit in repository.log()] == list("543210")


# The log


def test_the_log_of_a_feature_set(repository: Repository) -> None:
    commits(repository, 3, "a")
    commits(repository, 2, "b")
    repository.commit({"a": small(9), "b": small(9)}, message="both", time=stamp(9))
    assert [commit.message for commit in repository.log("b")] == ["both", "b1", "b0"]
    assert [commit.message for commit in repository.log("a", limit=2)] == ["both", "a2"]
    assert len(repository.log()) == 6
    assert [commit.versions["a"] for commit in repository.log("a")] == [4, 3, 2, 1]
    with pytest.raises(NotFound, match="no feature set 'c'"):
        repository.log("c")
    with pytest.raises(NotFound):
        repository.log("b", revision="~4")  # where it had not been committed yet


def test_unchanged_data_make_no_commit(repository: Repository) -> None:
    first = commits(repository, 1)[0]
    again = repository.commit({"a": small(0)}, message="again")
    assert not again.created and again == first and len(repository.log()) == 1
    insisted = repository.commit({"a": small(0)}, message="again", allow_empty=True)
    assert insisted.created and insisted.changes == {} and insisted.versions == {"a": 1}
    assert repository.log("a") == [first]


# Times


def test_a_time_means_where_the_branch_stood_then(repository: Repository) -> None:
    made = commits(repository, 4)
    repository.branch("dev", "~3")
    for hours, expected in ((0, 0), (0.5, 0), (1, 1), (2.999, 2), (3, 3), (1000, 3)):
        assert repository.resolve(at(hours)) == repository.resolve(f"main{at(hours)}") == made[expected]
    assert repository.resolve(f"main{at(2.5)}~") == made[1]
    assert repository.snapshot(f"a@{at(1)}").version == 2
    with pytest.raises(NotFound, match="was not there at"):
        repository.resolve(at(-1))
    with pytest.raises(InvalidRevision, match="both a commit and a time"):
        repository.resolve(made[0].id[:8] + at(1))


def test_a_time_is_looked_up_in_the_log_of_the_ref_not_in_the_commits(repository: Repository) -> None:
    made = commits(repository, 3)
    move(repository, "old", made[0].id, stamp(10))
    move(repository, "old", made[2].id, stamp(20))
    refs = repository.store.refs
    refs.append(
        "heads", "old", refs.head("heads", "old"), None, author="ann", reason="delete", time=stamp(30)
    )
    assert repository.resolve(f"old{at(15)}") == made[0]
    assert repository.resolve(f"old{at(25)}") == made[2]  # also when the branch is deleted now
    for hours in (5, 35):
        with pytest.raises(NotFound, match="branch 'old' was not there"):
            repository.resolve(f"old{at(hours)}")
    with pytest.raises(NotFound):
        repository.resolve("old")


# Branches and tags


def test_a_tag_never_moves(repository: Repository) -> None:
    made = commits(repository, 2)
    repository.tag("gold", "~1")
    with pytest.raises(Conflict, match="tag 'gold' is there already"):
        repository.tag("gold")
    with pytest.raises(Conflict, match="tag 'gold' is there already"):
        repository.commit({"a": small(9)}, message="m", tag="gold")
    assert repository.resolve() == made[1]  # the commit was not made either
    with pytest.raises(Conflict, match="only in case"):
        repository.commit({"a": small(9)}, message="m", tag="GOLD")
    assert repository.resolve() == made[1]
    assert repository.resolve("gold") == made[0]
    assert repository.delete_tag("gold") == made[0].id
    assert repository.tags() == {}
    repository.tag("gold")
    assert [entry.commit for entry in repository.reflog("gold")] == [made[1].id, None, made[0].id]


def test_a_deleted_branch_can_be_made_again(repository: Repository) -> None:
    made = commits(repository, 3)
    assert repository.branch("dev", "~2") == made[0].id
    with pytest.raises(Conflict, match="branch 'dev' is there already"):
        repository.branch("dev")
    assert repository.delete_branch("dev") == made[0].id
    with pytest.raises(NotFound, match="no branch 'dev'"):
        repository.delete_branch("dev")
    repository.branch("dev", "~1")
    assert repository.branches() == {"main": made[2].id, "dev": made[1].id}
    assert [entry.sequence for entry in repository.reflog("dev")] == [3, 2, 1]
    with pytest.raises(InvalidUse, match="default branch"):
        repository.delete_branch("main")
    with pytest.raises(Conflict, match="only in case"):
        repository.branch("Dev")


def test_a_commit_to_a_branch_of_its_own_starts_anew(repository: Repository) -> None:
    commits(repository, 2)
    alone = repository.commit({"z": small(0)}, message="alone", branch="orphan")
    assert alone.parents == () and alone.versions == {"z": 1}
    assert Repository(repository.store, branch="orphan").log() == [alone]


@pytest.mark.parametrize(
    "name", ["../x", "a\0b", "CON", "v3", "x" * 300, "a@b", " a", "a\nb", "\x1b[31m", "-x", "HEAD", "a{1}"]
)
def test_names_that_are_not_safe_write_nothing(repository: Repository, name: str) -> None:
    commits(repository, 1)
    before = sorted(entry.key for entry in repository.store.storage.list(""))
    for call in (
        lambda: repository.branch(name),
        lambda: repository.tag(name),
        lambda: repository.commit({"a": small(1)}, message="m", branch=name),
        lambda: repository.commit({"a": small(1)}, message="m", tag=name),
    ):
        with pytest.raises(InvalidName):
            call()
    if name != "HEAD":
        with pytest.raises(InvalidName):
            repository.commit({name: small(1)}, message="m")
    assert sorted(entry.key for entry in repository.store.storage.list("")) == before


def test_a_reopened_repository_says_the_same(repository: Repository) -> None:
    commits(repository, 3)
    repository.tag("x", "~1")
    again = opened(repository.store.storage)
    assert again.log() == repository.log()
    assert Store(repository.store.storage).commit_ids() == repository.store.commit_ids()
    for revision in ("main", "x", "x~", "~2", at(1)):
        assert again.resolve(revision) == repository.resolve(revision)
