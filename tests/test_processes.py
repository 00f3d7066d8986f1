"""Snapshots and repositories in other processes: forked, spawned, pickled."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from loader import RowGroups, Shares, load, load_shares
from wholeness import new

import fsvc
from fsvc.client import FeatureStoreClient
from fsvc.engine import thawing, virtual
from fsvc.errors import InvalidUse
from fsvc.storage.memory import MemoryStorage

ROWS = 300_000
QUERY = "select sum(id), max(x), count(*) from t@v2"
Count = Callable[[str, int], None]


def table() -> pa.Table:
    return pa.table(
        {
            "id": np.arange(ROWS),
            "x": np.random.default_rng(1).random(ROWS),
            "s": pa.array(np.arange(ROWS) % 50).cast(pa.string()),
        }
    )


@pytest.fixture
def repo(light_path: Path) -> fsvc.Repository:
    """A repository with a feature set of several row groups, the second version stored as patches."""
    made = fsvc.init(light_path / "repository", author="Ada")
    made.commit({"t": table()}, key="id", message="first")
    x = table()["x"].to_numpy().copy()
    x[::50] = 3
    made.commit({"t": table().set_column(1, "x", pa.array(x))}, message="second")
    return made


def forked(work: Callable[[], None]) -> int:
    """What a forked child ends with that does something: 0 where it came through."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            signal.alarm(60)  # whoever waits for ever is killed by it
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# Pickling


def test_what_is_pickled_is_a_place_and_ids(repo: fsvc.Repository) -> None:
    snap = repo.snapshot("t@v1").select(["x", "id"])
    snap.to_arrow()
    dev = fsvc.open(repo.location, branch="dev", author="Bob <bob@example.org>")
    for thing in (repo, dev, snap, snap.commit):
        data = pickle.dumps(thing)
        assert len(data) < 700 and repo.location.encode() in data
    again = pickle.loads(pickle.dumps(snap))
    assert again == snap and again.columns == ("x", "id") and again.commit.ref == snap.commit.ref
    assert again.to_arrow().equals(snap.to_arrow())
    assert pickle.loads(pickle.dumps(snap.commit)).record == snap.commit.record
    other = pickle.loads(pickle.dumps(dev))
    assert (other.location, other.current_branch, other.author) == (dev.location, "dev", dev.author)
    version = FeatureStoreClient(repo).get_feature_set_version("t", "v2")
    assert Path(version.path).exists()
    assert pickle.loads(pickle.dumps(version)).snapshot == version.snapshot
    files = fsspec.filesystem("fsvc", repository=repo)
    assert pickle.loads(pickle.dumps(files)).info("t@v1")["size"] == files.info("t@v1")["size"]


def test_what_comes_from_pickles_shares_one_open_repository(repo: fsvc.Repository) -> None:
    snaps = [pickle.loads(pickle.dumps(repo.snapshot(f"t@v{number}"))) for number in (1, 2)]
    assert snaps[0].store is snaps[1].store


def test_another_repository_in_the_same_place_is_refused(repo: fsvc.Repository) -> None:
    data = pickle.dumps(repo.snapshot("t"))
    location = Path(repo.location)
    location.rename(location.with_name("moved"))
    shutil.rmtree(location, ignore_errors=True)
    program = "import pickle, sys; pickle.loads(bytes.fromhex(sys.argv[1]))"
    command = [sys.executable, "-c", program, data.hex()]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1 and "NotFound: there is no directory" in ran.stderr
    fsvc.init(location)
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1 and "NotFound" in ran.stderr and "is not the one that was there" in ran.stderr


def test_what_lies_in_one_process_alone_is_not_pickled(repo: fsvc.Repository) -> None:
    with pytest.raises(InvalidUse, match="not committed"):
        pickle.dumps(repo.scratch())
    with pytest.raises(InvalidUse, match="memory of one process"):
        pickle.dumps(new(MemoryStorage()))


# Loaders


@pytest.mark.parametrize("method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.soak)])
def test_a_loader_gets_every_row_group_from_its_workers(repo: fsvc.Repository, method: str) -> None:
    snap = repo.snapshot("t@v2")
    wanted = list(snap.to_batches())
    assert len(wanted) > 3
    assert repo.sql(QUERY).fetchall()  # DuckDB and all threads of the parent have been at work
    assert load(RowGroups(snap), method) == wanted
    shares = load_shares(Shares(repo, "t@v2"), method)
    assert [shares[number % 2][number // 2] for number in range(len(wanted))] == wanted


def test_groups_are_given_as_asked_for(repo: fsvc.Repository) -> None:
    snap = repo.snapshot("t@v1")
    wanted = list(snap.to_batches(["x"]))
    last = len(wanted) - 1
    assert snap.num_row_groups == len(wanted)
    assert list(snap.to_batches(["x"], groups=[last, 0])) == [wanted[last], wanted[0]]
    assert list(snap.to_batches(groups=[])) == []
    assert [batch.num_rows for batch in snap.to_batches([], groups=[1])] == [wanted[1].num_rows]
    for wrong in (-1, last + 1):
        with pytest.raises(
            InvalidUse, match=f"there is no row group {wrong}: they are numbered from 0 to {last}"
        ):
            list(snap.to_batches(groups=[wrong]))


# Forks


def test_locks_that_others_held_at_the_fork_are_free_in_the_child(repo: fsvc.Repository) -> None:
    snap = repo.snapshot("t@v2")
    wanted = snap.to_arrow()
    store = snap.store
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for owner in (store, store.objects, snap.reader.patched, thawing._memory):
                stack.enter_context(owner._lock)
            stack.enter_context(virtual._lock)
            held.set()
            done.wait(60)

    def work() -> None:
        assert snap.to_arrow().equals(wanted)
        assert repo.sql(QUERY).fetchall()[0][2] == ROWS
        assert snap.relation().count("*").fetchall() == [(ROWS,)]
        assert repo.commit({"u": table().slice(0, 9)}, message="from the child").created

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert forked(work) == 0
    finally:
        done.set()
        thread.join()
    assert repo.head().message == "from the child"  # type: ignore[union-attr]


def test_children_are_forked_while_threads_read(repo: fsvc.Repository, count: Count) -> None:
    snap = repo.snapshot("t@v2")
    wanted, found = snap.to_arrow(), repo.sql(QUERY).fetchall()
    stop = threading.Event()

    def churn(read: Callable[[], object]) -> None:
        while not stop.is_set():
            read()

    def work() -> None:
        assert snap.to_arrow().equals(wanted)
        assert repo.sql(QUERY).fetchall() == found
        assert snap.relation().count("*").fetchall() == [(ROWS,)]

    readers: tuple[Callable[[], object], ...] = (
        snap.to_arrow,
        lambda: repo.sql(QUERY).fetchall(),
        lambda: snap.relation().max("x").fetchall(),
    )
    threads = [threading.Thread(target=churn, args=(read,)) for read in readers]
    for thread in threads:
        thread.start()
    try:
        assert [forked(work) for _ in range(3)] == [0] * 3
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    count("children that were forked while threads read, all came through", 3)


def test_a_child_that_ends_leaves_what_its_parent_has_open(repo: fsvc.Repository) -> None:
    program = textwrap.dedent(
        """
        import gc, os, sys, pyarrow as pa, fsvc
        repo = fsvc.open(sys.argv[1])
        relation = repo.snapshot("t").relation()
        relation.limit(1).fetchall()
        answer = repo.sql("select count(*) from t")
        scratch = repo.scratch()
        scratch.commit({"u": pa.table({"x": [1]})}, message="m")
        path = fsvc.FeatureStoreClient(repo).get_feature_set_version("t", "v1")
        kept = path.path
        child = os.fork()
        if child == 0:
            del scratch, path
            gc.collect()
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert scratch.snapshot("u").to_arrow().num_rows == 1
        assert os.path.exists(kept)
        assert relation.count("*").fetchall() == answer.fetchall()
        print("whole")
        """
    )
    command = [sys.executable, "-c", program, repo.location]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("whole\n", "", 0)
