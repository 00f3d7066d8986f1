"""Collection of garbage: what anything needs stays, whoever is at work and whenever it stops; the rest goes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from crash import CrashState, Recording, Unsynced, after_crashes, recorded
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from test_patches import changed, features
from test_repack import Machine, assert_versions, files, versions
from wall import Clock, hang
from wholeness import TIME, assert_whole, contents, new, opened, reopened, small
from writer import Task, Writer

from fsvc.engine import compaction
from fsvc.engine.collection import GC_GRACE_SECONDS
from fsvc.engine.committing import CommitDraft
from fsvc.engine.condemned import GRACE_SECONDS, Lists
from fsvc.engine.files import commit_key, manifest_key, manifest_of, pack_key
from fsvc.engine.refs import KINDS
from fsvc.errors import Corruption, InvalidUse, NotFound, StorageError
from fsvc.repository import Repository
from fsvc.storage.contract import Storage
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fsvc.snapshot import Commit

Count = Callable[[str, int], None]

LATER = GC_GRACE_SECONDS + 1


class _Lost(Exception):
    """Thrown where a commit would have become visible."""


def lose(draft: CommitDraft, **options: str) -> str:
    """Publish a draft up to its ref entry, which is never written; give the id of the commit that nobody names."""
    before = set(draft.store.commit_ids())

    def fail(*_: object, **__: object) -> None:
        raise _Lost

    draft.store.refs.append = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(_Lost):
        draft.publish(message="lost", author="ann", **options)  # type: ignore[arg-type]
    (commit,) = set(draft.store.commit_ids()) - before
    return commit


def lost(storage: Storage, table: pa.Table, name: str = "lost") -> str:
    """Make a commit that no ref names."""
    return lose(opened(storage).draft({name: table}, key="id", branch="main", threads=1))


def apart_from_lists(repository: Repository) -> set[str]:
    return {key for key in files(repository, "") if not key.startswith(("condemned/", "dead/", "index/"))}


class Setting:
    """A repository in memory with a clock, some versions, and garbage."""

    def __init__(self, count: int = 5) -> None:
        self.clock = Clock()
        self.storage = MemoryStorage(clock=self.clock)
        self.repository = new(self.storage)
        self.tables = versions(self.repository, count)
        self.before = apart_from_lists(self.repository)

    def pass_time(self, seconds: float = LATER) -> None:
        self.clock.now += seconds

    def gc(self) -> None:
        assert not opened(self.storage).gc(delete=True).damaged

    def assert_whole(self) -> None:
        repository = opened(self.storage)
        assert_versions(repository, self.tables)
        assert_whole(repository)


# -- what goes and what stays ----------------------------------------------------------------------


def test_garbage_goes_and_nothing_else() -> None:
    here = Setting()
    lost(here.storage, features(3000))
    lost(here.storage, changed(here.tables[-1], 77), "t")
    garbage = apart_from_lists(here.repository) - here.before
    assert here.repository.gc().commits == 0 and here.repository.gc().young >= 4
    here.pass_time(GRACE_SECONDS + 1)
    planned = here.repository.gc()
    assert (planned.commits, planned.manifests, planned.packs, planned.deleted) == (2, 2, 2, False)
    assert not files(here.repository, "condemned/")
    done = here.repository.gc(delete=True)
    assert done.waiting == 6 and done.freed_bytes == 0
    assert garbage <= apart_from_lists(here.repository)
    here.pass_time()
    done = here.repository.gc(delete=True)
    assert done.freed_bytes > 0 and done.waiting == 0
    assert apart_from_lists(here.repository) == here.before
    here.assert_whole()
    here.pass_time()
    here.gc()
    assert not files(here.repository, "dead/")
    named = {entry.pack for table in opened(here.storage).store.objects.tables() for entry in table.entries()}
    assert {f"packs/{name}.pack" for name in named} == set(files(here.repository, "packs/"))


def test_without_a_grace_everything_goes_at_once() -> None:
    here = Setting()
    lost(here.storage, features(3000))
    assert here.repository.gc(delete=True, grace=0).freed_bytes > 0
    assert apart_from_lists(here.repository) == here.before
    here.assert_whole()
    assert here.repository.gc(delete=True, grace=0).freed_bytes == 0


def test_packs_that_hold_garbage_and_more_are_rewritten() -> None:
    here = Setting(6)
    for number in range(3):
        lost(here.storage, features(2_000 + number), f"lost{number}")
    here.repository.repack(grace=0)  # puts garbage and the rest into one pack
    (pack,) = files(here.repository, "packs/")
    done = here.repository.gc(delete=True, grace=0)
    assert done.rewritten > 0 and done.packs == 1
    (after,) = files(here.repository, "packs/")
    assert here.storage.size(after) < 0.8 * done.freed_bytes and after != pack
    here.assert_whole()


def test_deleted_branches_pins_and_tags_keep_their_commits() -> None:
    """delta-io/delta#590, apache/iceberg#5718: expired while a tag or a model needed it."""
    here = Setting(2)
    repository = here.repository
    made = []
    for number in range(3):
        repository.branch(f"topic{number}")
        table = features(500 + number)
        made.append((repository.commit({"t": table}, branch=f"topic{number}", message="m").id, table))
    repository.tag("gold", made[0][0])
    repository.store.refs.append(
        "pins", "mlflow/m-1", None, made[1][0], author="ann", reason="", time="2026-11-01T09:30:00.000001Z"
    )
    for number in range(3):
        repository.delete_branch(f"topic{number}")
    for _ in range(3):
        here.pass_time()
        here.gc()
    for commit, table in made:
        assert opened(here.storage).snapshot(f"t@{commit}").to_arrow().equals(table)
    here.assert_whole()


@pytest.mark.parametrize("kind", KINDS)
def test_a_commit_that_only_one_ref_names_is_kept(kind: str) -> None:
    here = Setting(2)
    table = features(500)
    commit = lost(here.storage, table)
    here.repository.store.refs.append(kind, "only", None, commit, author="ann", reason="", time=TIME)
    for _ in range(3):
        here.pass_time()
        here.gc()
    assert opened(here.storage).snapshot(f"lost@{commit}").to_arrow().equals(table)
    here.assert_whole()


def test_a_patch_that_is_needed_keeps_what_it_stands_on() -> None:
    here = Setting(2)
    base = here.tables[-1]
    odd = changed(base, 7, 0.3)
    gone = lost(here.storage, odd, "t")
    # A snapshot that is stored as patches on the lost one's objects.
    repository = opened(here.storage)
    repository.branch("from-lost", gone)
    table = changed(odd, 8, 0.1)
    kept = repository.commit({"t": table}, branch="from-lost", message="m", threads=1).id
    for _ in range(3):
        here.pass_time()
        here.gc()
    assert opened(here.storage).snapshot(f"t@{kept}").to_arrow().equals(table)
    here.assert_whole()


def test_snapshots_of_working_files_are_kept() -> None:
    here = Setting(2)
    commit = lost(here.storage, features(700))
    snapshot = opened(here.storage).resolve(commit).snapshot("lost").id
    here.pass_time()
    assert here.repository.gc(snapshots=[snapshot]).packs == 0
    assert here.repository.gc().packs == 1
    assert here.repository.explain(snapshot, snapshots=[snapshot]).kept
    assert not here.repository.explain(snapshot).kept


# -- damage: nothing is deleted --------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["refs/", "commits/", "manifests/", "index/", "packs/"])
@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_what_is_damaged_or_lost_stops_a_collection(prefix: str, how: str) -> None:
    """treeverse/lakeFS#4658, earth-mover/icechunk PR 1940: a wrong live set."""
    here = Setting()
    lost(here.storage, features(900))
    here.pass_time()
    here.gc()
    here.pass_time()
    doomed = {key for one in _lists(here.storage).condemned.values() for key in one.keys}
    key = next(key for key in files(here.repository, prefix) if key not in doomed)
    data = here.storage.get(key)
    here.storage.delete(key)
    if how == "damaged" and prefix != "packs/":
        here.storage.put_if_absent(key, data[:40] + bytes([data[40] ^ 1]) + data[41:])
    elif prefix == "refs/":
        return  # nobody can tell that the newest entry of a log was lost; an older one is not needed
    if how == "damaged" and prefix == "packs/":
        here.storage.put_if_absent(key, data[:40] + bytes([data[40] ^ 1]) + data[41:])
    before = files(here.repository, "")
    if how == "damaged" and prefix == "packs/":
        here.gc()  # packs are not read; what is damaged in them stays as it is
        assert key in files(here.repository, "")
        return
    for delete in (False, True):
        with pytest.raises(Corruption):
            opened(here.storage).gc(delete=delete)
    assert files(here.repository, "") == before
    here.storage.delete(key)
    here.storage.put_if_absent(key, data)
    here.gc()
    here.assert_whole()


def _lists(storage: Storage) -> Lists:
    lists = Lists(storage)
    lists.refresh()
    return lists


# -- while others are at work ----------------------------------------------------------------------


def test_what_is_in_flight_is_not_deleted() -> None:
    """delta-io/delta-rs#3645, delta-io/delta#1470, restic/restic#3182: deleted while in flight."""
    here = Setting()
    table = changed(here.tables[-1], 99)
    draft = opened(here.storage).draft({"t": table}, key="id", branch="main", threads=1)
    here.repository.gc(delete=True)
    here.pass_time(GRACE_SECONDS / 2)
    here.repository.gc(delete=True)
    draft.publish(message="slow", author="ann")
    here.tables.append(table)
    for _ in range(2):
        here.pass_time()
        here.gc()
    here.assert_whole()


def test_a_lost_reply_and_then_a_collection_lose_nothing() -> None:
    """apache/iceberg#14583, #12792: an ambiguous commit, then clean-up."""
    here = Setting()
    table = changed(here.tables[-1], 98)
    draft = opened(here.storage).draft({"t": table}, key="id", branch="main", threads=1)
    real = draft.store.refs.append

    def unanswered(*arguments: object, **options: object) -> None:
        real(*arguments, **options)  # type: ignore[arg-type]
        raise _Lost

    draft.store.refs.append = unanswered  # type: ignore[method-assign, assignment]
    with pytest.raises(_Lost):
        draft.publish(message="m", author="ann")
    here.tables.append(table)
    for _ in range(3):
        here.pass_time()
        here.gc()
    here.assert_whole()


def test_version_numbers_are_not_given_again() -> None:
    """lancedb/lance#3718: a version's name freed and used again."""
    here = Setting(3)
    lost(here.storage, changed(here.tables[-1], 5), "t")
    for _ in range(3):
        here.pass_time()
        here.gc()
    made = opened(here.storage).commit({"t": features(60)}, message="m")
    assert made.versions == {"t": 4}
    here.tables.append(features(60))
    here.assert_whole()


@pytest.mark.parametrize("waited", [0.1, 0.6, 1.1])
@pytest.mark.parametrize("decided", [False, True])
def test_a_commit_that_stands_on_garbage_keeps_it_or_is_made_again(waited: float, decided: bool) -> None:
    here = Setting()
    table = features(3_000)
    lost(here.storage, table, "u")
    # Begun before the table's chunks are condemned, so that it uses them again.
    draft = opened(here.storage).draft({"w": table}, key="id", branch="main", threads=1)
    here.pass_time(GRACE_SECONDS + 1)
    here.gc()
    here.pass_time(waited * GC_GRACE_SECONDS)
    if decided:
        here.gc()
    try:
        made = draft.publish(message="slow", author="ann").commit
    except StorageError as error:
        assert "is gone" in str(error) and decided and waited > 1
        made = opened(here.storage).commit({"w": table}, key="id", message="again").id
    for _ in range(3):
        here.pass_time()
        here.gc()
        assert opened(here.storage).snapshot(f"w@{made}").to_arrow().equals(table)
    here.assert_whole()


def test_what_is_condemned_is_stored_again_and_goes_all_the_same() -> None:
    here = Setting()
    table = features(3_000)
    lost(here.storage, table, "u")
    here.pass_time(GRACE_SECONDS + 1)
    here.gc()
    condemned = {key for one in _lists(here.storage).condemned.values() for key in one.keys}
    assert any(key.startswith("packs/") for key in condemned)
    made = opened(here.storage).commit({"w": table}, key="id", message="m", threads=1)
    reader = opened(here.storage).snapshot("w").reader
    packs = {
        pack_key(entry.pack) for column in reader.entries(reader.column_numbers(None)) for entry in column
    }
    assert packs.isdisjoint(condemned)
    here.pass_time()
    here.gc()
    assert not any(key.startswith("packs/") for key in condemned.intersection(here.storage.keys("")))
    assert opened(here.storage).snapshot(f"w@{made.id}").to_arrow().equals(table)
    here.assert_whole()


@pytest.mark.parametrize("waited", [0.1, 0.6, 1.1])
def test_a_branch_that_comes_to_stand_on_garbage_keeps_it_or_is_refused(waited: float) -> None:
    here = Setting()
    table = features(3_000)
    commit = lost(here.storage, table, "u")
    here.pass_time(GRACE_SECONDS + 1)
    here.gc()
    here.pass_time(waited * GC_GRACE_SECONDS)
    reader = opened(here.storage)
    assert reader.resolve(commit).id == commit  # and remembers it
    reader.branch("rescue", commit)
    for _ in range(3):
        here.pass_time()
        here.gc()
        assert opened(here.storage).snapshot("u@rescue").to_arrow().equals(table)
    here.assert_whole()


def test_a_branch_does_not_come_to_stand_on_what_is_gone() -> None:
    here = Setting()
    commit = lost(here.storage, features(3_000), "u")
    reader = opened(here.storage)
    reader.resolve(commit)
    here.pass_time()
    here.gc()
    here.pass_time()
    here.gc()
    for repository in (reader, opened(here.storage)):
        with pytest.raises(NotFound):
            repository.branch("rescue", commit)
    with pytest.raises(StorageError, match="is gone"):
        reader.store.stand_on(commit, time=TIME)
    here.assert_whole()


def test_a_collection_between_finding_a_commit_and_moving_a_branch_to_it_is_noticed() -> None:
    here = Setting()
    commit = lost(here.storage, features(3_000), "u")
    here.pass_time()
    here.gc()
    reader = opened(here.storage)
    resolve = reader.resolve

    def slow(*arguments: str) -> Commit:
        found = resolve(*arguments)
        here.pass_time()
        here.gc()
        return found

    reader.resolve = slow  # type: ignore[method-assign, assignment]
    with pytest.raises(StorageError, match="is gone"):
        reader.branch("rescue", commit)
    assert "rescue" not in opened(here.storage).branches()
    here.assert_whole()


class Slow(MemoryStorage):
    """Does something else before a batch is written."""

    then: Callable[[], object] | None = None

    def put_batch(self, items: Mapping[str, Buffer]) -> None:
        then, self.then = self.then, None
        if then is not None:
            then()
        super().put_batch(items)


def test_a_manifest_that_dies_before_a_commit_is_written_is_noticed() -> None:
    clock = Clock()
    storage = Slow(clock=clock)
    repository = new(storage)
    table = features(500)
    repository.commit({"u": table}, message="without a key, so with another manifest", threads=1)
    lost(storage, table, "v")
    draft = opened(storage).draft({"w": table}, key="id", branch="main", threads=1)
    clock.now += LATER
    repository.gc(delete=True)
    assert {key.partition("/")[0] for key in _lists(storage).condemned_keys} == {"commits", "manifests"}

    def collect() -> None:
        clock.now += LATER
        opened(storage).gc(delete=True)

    storage.then = collect
    with pytest.raises(StorageError, match="is gone"):
        draft.publish(message="m", author="ann")
    made = opened(storage).commit({"w": table}, key="id", message="again", threads=1).id
    opened(storage).gc(delete=True)
    assert opened(storage).snapshot(f"w@{made}").to_arrow().equals(table)
    assert_whole(opened(storage))


def test_what_stays_though_no_ref_reaches_it_keeps_what_it_stands_on() -> None:
    here = Setting()
    table = features(3_000)
    lost(here.storage, table, "u")
    draft = opened(here.storage).draft({"u": table}, key="id", branch="main", threads=1)
    here.pass_time(GRACE_SECONDS + 1)
    here.gc()
    here.pass_time(0.1 * GC_GRACE_SECONDS)
    commit = lose(draft)  # uses manifest and pack of the first one again
    here.pass_time()
    here.gc()
    opened(here.storage).branch("rescue", commit)
    for _ in range(2):
        here.pass_time()
        here.gc()
    assert opened(here.storage).snapshot("u@rescue").to_arrow().equals(table)
    here.assert_whole()


def test_a_table_that_comes_back_is_not_deleted_under_its_old_name() -> None:
    here = Setting()
    table = features(3_000)
    commit = lost(here.storage, table, "u")
    snapshot = opened(here.storage).resolve(commit).snapshot("u").id
    key = manifest_key(snapshot)
    old = here.storage.get(key)
    here.pass_time()
    here.gc()
    here.pass_time()
    here.gc()
    assert key not in files(here.repository, "manifests/")
    # Its name is on the list of the dead: who made that list may be slow, and delete it yet.
    made = opened(here.storage).commit({"u": table}, key="id", message="again").id
    (copy,) = [key for key in files(here.repository, "manifests/") if manifest_of(key) == snapshot]
    assert copy != key
    for crashed in (False, True):
        if crashed:
            here.storage.put_if_absent(key, old)  # a crash undid the deletion
        assert opened(here.storage).snapshot(f"u@{made}").to_arrow().equals(table)
        here.assert_whole()
        here.gc()
        assert key not in files(here.repository, "manifests/")
    for _ in range(3):
        here.pass_time()
        here.gc()
    assert opened(here.storage).snapshot(f"u@{made}").to_arrow().equals(table)
    here.assert_whole()


def test_a_commit_that_is_made_again_under_the_id_of_a_dead_one_is_refused() -> None:
    here = Setting()
    stamp = "2026-11-01T09:30:00.000001Z"
    table = features(300)
    base = here.repository.resolve().id
    commit = lose(
        opened(here.storage).draft({"u": table}, key="id", branch="main", threads=1),
        time=lambda: stamp,  # type: ignore[arg-type]
    )
    here.pass_time()
    here.gc()
    here.pass_time()
    here.gc()
    assert commit_key(commit) not in files(here.repository, "commits/")
    assert here.repository.resolve().id == base
    draft = opened(here.storage).draft({"u": table}, key="id", branch="main", threads=1)
    with pytest.raises(StorageError, match="is gone"):
        draft.publish(message="lost", author="ann", time=lambda: stamp)
    made = opened(here.storage).commit({"u": table}, key="id", message="lost").id
    assert opened(here.storage).snapshot(f"u@{made}").to_arrow().equals(table)
    here.assert_whole()


def test_two_lists_never_rely_on_each_other() -> None:
    here = Setting()
    tables = [features(3_000), features(2_500)]
    for table in tables:
        lost(here.storage, table)
    here.pass_time()
    one, other = opened(here.storage), opened(here.storage)
    one.repack()
    one.gc(delete=True)
    other.gc(delete=True)
    here.pass_time()
    other.repack()
    other.gc(delete=True)
    one.gc(delete=True)
    here.assert_whole()
    for _ in range(2):
        here.pass_time()
        here.repository.repack()
        here.gc()
    here.assert_whole()


# -- what keeps something --------------------------------------------------------------------------


def test_what_keeps_something_is_told() -> None:
    here = Setting(3)
    repository = here.repository
    second = repository.resolve("~1")
    repository.tag("gold", second.id)
    why = repository.explain(second.id[:12])
    assert (why.kind, why.id, why.kept, why.condemned) == ("commit", second.id, True, False)
    assert why.refs == ("branch main", "tag gold")
    snapshot = second.snapshot("t")
    why = repository.explain(snapshot.id)
    assert why.kind == "snapshot" and f"t@{second.id[:12]}" in why.snapshots and "branch main" in why.refs
    address = snapshot.manifest.identity(0, 0).address.hex()
    why = repository.explain(address)
    assert why.kind == "object" and why.kept and "tag gold" in why.refs
    (pack, *_) = files(repository, "packs/")
    assert repository.explain(pack.removeprefix("packs/")[:20]).kept
    commit = lost(here.storage, features(300))
    here.pass_time()
    here.gc()
    why = opened(here.storage).explain(commit)
    assert not why.kept and why.condemned and why.refs == ()
    for wrong in ("xyz", "12", "0" * 65):
        with pytest.raises(InvalidUse):
            repository.explain(wrong)
    with pytest.raises(NotFound):
        repository.explain("0" * 64)


# -- debris ----------------------------------------------------------------------------------------


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    repository = new(LocalStorage(root, create=True))
    repository.commit({"a": small(1)}, message="m")
    old, young = root / "packs" / ".tmp-0123", root / ".tmp-4567"
    for path in (old, young):
        path.write_bytes(b"x" * 1000)
    os.utime(old, (time.time() - 2 * GRACE_SECONDS,) * 2)
    assert repository.gc().debris_bytes == 1000 and old.exists()
    assert repository.gc(delete=True).debris_bytes == 1000 and not old.exists() and young.exists()
    assert_whole(repository)


# -- crashes ---------------------------------------------------------------------------------------


def _age(root: Path) -> None:
    """Make everything in a repository old."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 20 * 24 * 3600,) * 2)


def _start(root: Path, condemned: bool) -> list[pa.Table]:
    root.mkdir()
    repository = new(LocalStorage(root / "repository", create=True, system=Unsynced()))
    tables = versions(repository, 3, 60)
    lost(repository.store.storage, features(50), "u")
    repository.repack(grace=0)
    lost(repository.store.storage, changed(tables[-1], 9, 0.2), "t")
    _age(root)
    if condemned:
        reopened(root / "repository").gc(delete=True)
        _age(root)
    return tables


def _whole(root: Path, tables: list[pa.Table], *, deep: bool = True) -> None:
    repository = reopened(root)
    report = repository.verify(deep=deep)
    assert report.ok, [str(damage) for damage in report.damages]
    assert repository.resolve().versions == {"t": len(tables)}
    assert_versions(repository, tables)


WORK: dict[str, tuple[bool, int | None]] = {
    "a collection that condemns": (False, None),
    "a collection that deletes what was condemned": (True, None),
    "a collection that does both": (False, 0),
}


def _collecting(grace: int | None) -> Callable[[LocalStorage, Recording], object]:
    return lambda storage, _: opened(storage).gc(delete=True, grace=grace)


def _crash(light_path: Path, what: str, *, every: bool) -> int:
    root = light_path / "disk"
    condemned, grace = WORK[what]
    tables = _start(root, condemned)
    # The lost commit's table comes back, whatever became of it.
    more = changed(tables[-1], 9, 0.2)

    def check(state: CrashState) -> None:
        left = state.path / "repository"
        _whole(left, tables)
        reopened(left).gc(delete=True)
        reopened(left).commit({"t": more}, message="m", threads=1)
        _age(left)
        reopened(left).gc(delete=True)
        reopened(left).gc(delete=True, grace=0)
        _whole(left, [*tables, more])

    return after_crashes(recorded(root, _collecting(grace)), light_path / "scratch", check, every=every)


@pytest.mark.parametrize("what", WORK)
def test_a_crash_at_any_point_loses_nothing(light_path: Path, what: str, count: Count) -> None:
    states = _crash(light_path, what, every=False)
    assert states > 3
    count(f"crash states of {what} reopened, collected and committed to, all whole", states)


@pytest.mark.soak
@pytest.mark.parametrize("what", WORK)
def test_every_crash_state_is_whole(light_path: Path, what: str, count: Count) -> None:
    states = _crash(light_path, what, every=True)
    count(f"crash states of {what} reopened, collected and committed to, all whole", states)


def test_a_recovery_that_crashes_too_loses_nothing(light_path: Path, count: Count) -> None:
    root = light_path / "disk"
    tables = _start(root, True)
    states = 0

    def check(left: CrashState) -> None:
        _whole(left.path / "repository", tables, deep=False)
        reopened(left.path / "repository").gc(delete=True, grace=0)
        _whole(left.path / "repository", tables)

    def again(state: CrashState) -> None:
        nonlocal states
        second = light_path / "second"
        shutil.rmtree(second, ignore_errors=True)
        shutil.copytree(state.path, second)
        inner = recorded(second, _collecting(0))
        states += after_crashes(inner, light_path / "scratch2", check, every=False, some=lambda n: n % 5 == 3)

    outer = recorded(root, _collecting(0))
    after_crashes(outer, light_path / "scratch", again, every=False, some=lambda n: n % 8 == 3)
    assert states > 2
    count("crash states of a collection after a crash of a collection, all whole", states)


# -- any order of things ---------------------------------------------------------------------------


class Collecting(Machine):
    """What :class:`Machine` does, and drafts that are lost, deleted branches, rescues and collections."""

    def __init__(self) -> None:
        super().__init__()
        self.garbage: dict[str, tuple[str, pa.Table]] = {}

    def some_garbage(self, data: st.DataObject) -> str:
        """One of the lost commits."""
        return data.draw(st.sampled_from(sorted(self.garbage)))

    @rule()
    def lose(self) -> None:
        if self.drafts:
            draft, name, table = self.drafts.pop(0)
            try:
                self.garbage[lose(draft)] = (name, table)
            except StorageError as error:
                assert "is gone" in str(error)

    @rule(days=st.sampled_from((1, 6, 8, 15)))
    def wait_long(self, days: int) -> None:
        self.clock.now += days * 24 * 3600

    @rule(fresh=st.booleans())
    def gc(self, fresh: bool) -> None:
        assert not (opened(self.storage) if fresh else self.repository).gc(delete=True).damaged

    @rule(data=st.data())
    def rescue(self, data: st.DataObject) -> None:
        if self.garbage:
            commit = self.some_garbage(data)
            name, table = self.garbage.pop(commit)
            try:
                opened(self.storage).branch(f"rescue{self.number}-{commit[:8]}", commit)
            except (StorageError, NotFound):
                return
            self.tables[f"{name}@{commit}"] = table

    @rule(data=st.data())
    def recommit(self, data: st.DataObject) -> None:
        """A table that was lost comes back, perhaps while its chunks and manifest are condemned or dead."""
        if self.garbage:
            name, table = self.garbage[self.some_garbage(data)]
            made = opened(self.storage).commit({f"{name}2": table}, key="id", message="m", threads=1)
            self.tables[f"{name}2@{made.id}"] = table

    @rule()
    def delete_branch(self) -> None:
        branches = sorted(self.repository.branches().keys() - {"main"})
        if branches:
            self.repository.delete_branch(branches[0])


def test_any_order_of_commits_and_collections(monkeypatch: pytest.MonkeyPatch, count: Count) -> None:
    monkeypatch.setattr(compaction, "_FILES", 3)
    hang(monkeypatch)
    run_state_machine_as_test(Collecting, settings=settings(max_examples=12, stateful_step_count=30))
    count("sequences of 30 commits, repacks and collections compared with a model", 12)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_any_order_of_commits_and_collections_for_long(monkeypatch: pytest.MonkeyPatch, count: Count) -> None:
    monkeypatch.setattr(compaction, "_FILES", 3)
    hang(monkeypatch)
    run_state_machine_as_test(Collecting, settings=settings(max_examples=2_000, stateful_step_count=60))
    count("sequences of 60 commits, repacks and collections compared with a model", 2_000)


# -- processes -------------------------------------------------------------------------------------


def test_processes_collect_while_others_commit_and_repack(tmp_path: Path, count: Count) -> None:
    root = tmp_path / "repository"
    storage = LocalStorage(root, create=True)
    repository = new(storage)
    first = repository.commit({"base": small(0)}, message="m").id
    lost(storage, features(500), "u")
    _age(root)
    repository.gc(delete=True)
    _age(root)  # to be deleted while others are at work
    lost(storage, features(400), "u")
    for path in [*root.glob("packs/*"), *root.glob("commits/*"), *root.glob("manifests/*")]:
        os.utime(path, (time.time() - 20 * 24 * 3600,) * 2)  # to be condemned meanwhile
    location = repository.location
    with Writer() as one, Writer() as two, Writer() as three, Writer() as four:
        writers = [one, two, three, four]
        one.start(Task(location, ("a",), "a", commits=20))
        two.start(Task(location, ("b",), "b", commits=20))
        three.start(Task(location, (), "c", commits=4, repack=True))
        four.start(Task(location, (), "d", commits=6, collect=True))
        for _ in range(10):
            assert opened(LocalStorage(root)).snapshot(f"base@{first}").to_arrow().equals(small(0))
        assert [writer.end() for writer in writers] == [0] * 4
    made = [commit for writer in writers for commit, _ in writer.committed]
    assert len(made) == 40
    assert_whole(opened(LocalStorage(root)))
    _age(root)
    reopened(root).gc(delete=True)
    _age(root)
    reopened(root).gc(delete=True)
    last = opened(LocalStorage(root))
    assert_whole(last)
    assert {commit for commit, _, _ in contents(last)} == {first, *made}
    assert len(list(root.glob("commits/*"))) == 41
    count("commits of processes while others repacked and collected, all whole", len(made))


def test_a_collection_of_a_repository_without_commits() -> None:
    done = new(MemoryStorage()).gc(delete=True)
    assert (done.commits, done.packs, done.freed_bytes) == (0, 0, 0)
