"""A store or a disk that fails: the outcome is done, refused or unknown, never wrong, and old data stays."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from crash import Unsynced
from faulty import FaultyStorage
from rights import modes, without_rights
from wholeness import Refs, assert_whole, new, opened, refs, reopened, small

import fsvc
from fsvc.errors import CommitUnknown, FsvcError, StorageError
from fsvc.repository import Repository
from fsvc.storage.contract import Storage
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage

Count = Callable[[str, int], None]

OPERATIONS: dict[str, Callable[[Repository], object]] = {
    "commit": lambda r: r.commit({"a": small(2), "b": small(3), "c": small(4, 9)}, message="m", threads=1),
    "commit to a new branch": lambda r: r.commit({"a": small(2)}, message="m", branch="new", threads=1),
    "commit and tag": lambda r: r.commit({"a": small(2)}, message="m", tag="gold", threads=1),
    "branch": lambda r: r.branch("dev"),
    "tag": lambda r: r.tag("silver", "~1"),
    "delete a tag": lambda r: r.delete_tag("old"),
}


def prepare(storage: Storage) -> Repository:
    repository = new(storage)
    repository.commit({"a": small(0), "b": small(1)}, message="first", threads=1)
    repository.commit({"a": small(1)}, message="second", threads=1)
    repository.tag("old", "~1")
    return repository


def check_old_state(repository: Repository) -> None:
    assert repository.snapshot("a@v1").to_arrow().equals(small(0))
    assert repository.snapshot("a@v2").to_arrow().equals(small(1))
    assert repository.snapshot("b@v1").to_arrow().equals(small(1))
    assert_whole(repository)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsvc.engine.refs._FIRST_PAUSE", 0.0001)


class FailsAt:
    """A store of which one call fails, or one and all after it, before or after it was carried out."""

    def __init__(
        self, inner: Storage, number: int, fault: Literal["fail", "lose", "die", "lose and die"]
    ) -> None:
        self._inner = inner
        self._left = number
        self._fault = fault
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return found if name == "location" else lambda *arguments: self._call(found, arguments)

    def _call(self, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        self._left -= 1
        failing = self._left == 0 or (self._left < 0 and "die" in self._fault)
        if not failing:
            return call(*arguments)
        self.failed += 1
        if self._left == 0 and "lose" in self._fault:
            call(*arguments)
        raise StorageError("planted fault: no answer")


@pytest.mark.parametrize("fault", ["fail", "lose", "die", "lose and die"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_call_of_the_store_may_fail(name: str, fault: Any, count: Count) -> None:
    operation = OPERATIONS[name]
    unknown = done = 0
    number = 0
    while True:
        number += 1
        inner = MemoryStorage()
        before = refs(prepare(inner))
        store = FailsAt(inner, number + 1, fault)  # the first call opens the repository
        repository = opened(store)  # type: ignore[arg-type]
        try:
            operation(repository)
        except CommitUnknown:
            unknown += 1
        except StorageError as error:
            assert "planted fault" in error.message
            # A commit that was to be tagged may be there without its tag.
            assert refs(opened(inner)) == before or name == "commit and tag"
        else:
            done += 1
            assert refs(opened(inner)) != before
        after = opened(inner)
        check_old_state(after)
        assert after.commit({"a": small(8)}, message="after", threads=1).created
        assert after.snapshot("a").to_arrow().equals(small(8))
        if not store.failed:
            break
    assert number > 3
    assert done > 1 or "die" in fault or name != "commit"  # what is asked again, or read back, comes through
    assert unknown > 0 or fault != "lose and die"
    count("calls of a store that failed, the old state readable after each", number - 1)


def outcome(storage: Storage, operation: Callable[[Repository], object]) -> str:
    try:
        operation(opened(storage))
    except FsvcError as error:
        return type(error).__name__
    return "done"


def test_the_reply_that_is_lost_is_read_back() -> None:
    for faults, expected in (
        (("lose",), "done"),  # the pack
        (("none", "lose"), "StorageError"),  # the batch: nothing refers to it
        (("none", "none", "lose"), "done"),  # the ref entry
        (("none", "none", "fail", "fail", "lose"), "done"),
        (("fail",), "StorageError"),
        (("none", "none", *["fail"] * 6), "StorageError"),
    ):
        inner = MemoryStorage()
        before = refs(prepare(inner))
        storage = FaultyStorage(inner)
        storage.plan(*faults)
        assert outcome(storage, OPERATIONS["commit"]) == expected, faults
        assert (refs(opened(inner)) != before) == (expected == "done")
        check_old_state(opened(inner))


# The operating system


class FailingSystem(Unsynced):
    """Fails the n-th operation, and with ``forever`` all after it, in the way that a number of errno says."""

    _FAILING = frozenset(
        {
            *("open_file", "open_directory", "make_directory", "open_unnamed", "open_named", "write", "sync"),
            *("link_unnamed", "link", "scan", "read", "status", "stat"),
        }
    )

    def __init__(self, number: int, error: int, forever: bool) -> None:
        self.left = number
        self._error = error
        self._forever = forever

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in FailingSystem._FAILING:
            return found

        def call(*arguments: Any) -> Any:
            self.left -= 1
            if self.left == 0 or (self.left < 0 and self._forever):
                raise OSError(self._error, os.strerror(self._error))
            return found(*arguments)

        return call


ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EIO: "input/output error",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EMFILE: "too many files open",
    errno.EDQUOT: "the disk quota is used up",
}


@pytest.mark.parametrize(
    ("number", "forever"),
    [
        pytest.param(
            number,
            forever,
            id=f"{errno.errorcode[number]}-{'from then on' if forever else 'once'}",
            marks=() if number in (errno.ENOSPC, errno.EIO) else pytest.mark.soak,
        )
        for number in ERRORS
        for forever in (False, True)
    ],
)
def test_every_operation_of_the_system_may_fail(
    light_path: Path, number: int, forever: bool, count: Count
) -> None:
    original = light_path / "original"
    before = refs(prepare(LocalStorage(original, create=True, system=Unsynced())))
    operation = 0
    while True:
        operation += 1
        root = light_path / str(operation)
        shutil.copytree(original, root)
        system = FailingSystem(operation, number, forever)
        system.left += 10_000
        repository = opened(LocalStorage(root, system=system))
        system.left = operation
        try:
            OPERATIONS["commit"](repository)
        except CommitUnknown:
            pass
        except StorageError as error:
            assert ERRORS[number] in error.message or "failed to keep an earlier write" in error.message
            assert refs(reopened(root)) == before
        else:
            assert refs(reopened(root)) != before
        check_old_state(reopened(root))
        assert reopened(root).commit({"a": small(8)}, message="after", threads=1).created
        if system.left > 0:
            break
    assert operation > 30
    count("system calls that failed, the old state readable after each", operation - 1)


@contextlib.contextmanager
def mounted(path: Path, size: str) -> Iterator[None]:
    """A small file system in memory; skips the test where this process may not mount one."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)  # files may still be open


def noise(seed: int, rows: int = 20_000) -> pa.Table:
    """About 160 kB that no compression makes smaller."""
    return pa.table({"x": np.random.default_rng(seed).random(rows)})


def fill(repository: Repository) -> StorageError:
    for number in range(100):
        try:
            repository.commit(
                {"a": small(1), f"noise{number % 3}": noise(number)}, message=str(number), threads=1
            )
        except StorageError as error:
            return error
    raise AssertionError("the disk never got full")


def test_a_disk_that_is_full(tmp_path: Path, count: Count) -> None:
    with mounted(tmp_path / "disk", "2m"):
        root = tmp_path / "disk" / "repository"
        (tmp_path / "disk" / "other").write_bytes(bytes(500_000))
        repository = fsvc.init(root)
        error = fill(repository)
        assert (
            "the disk is full" in error.message and error.hint is not None and "free some space" in error.hint
        )
        again = fsvc.open(root)
        log = again.log()
        assert 3 < len(log) < 100
        for commit in log:
            number = int(commit.message)
            assert commit.snapshot(f"noise{number % 3}").to_arrow().equals(noise(number))
        assert_whole(again)
        for _ in range(3):
            with pytest.raises(StorageError, match="the disk is full"):
                again.commit({"noise": noise(1000)}, message="still full")
        (tmp_path / "disk" / "other").unlink()
        # With room again the very next commit works, in the process that saw the disk full, too.
        assert repository.commit({"noise": noise(1000)}, message="1000").created
        assert_whole(fsvc.open(root))
        assert len(fsvc.open(root).log()) == len(log) + 1


def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "64k"):
        with contextlib.suppress(OSError):
            (tmp_path / "disk" / "other").write_bytes(bytes(64 << 10))
        with pytest.raises(StorageError, match="the disk is full"):
            fsvc.init(tmp_path / "disk" / "repository")
        (tmp_path / "disk" / "other").unlink()
        assert fsvc.init(tmp_path / "disk" / "repository").log() == []


def test_a_disk_that_is_read_only(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "2m"):
        root = tmp_path / "disk" / "repository"
        before = refs(prepare(LocalStorage(root, create=True)))
        remount = ["mount", "-o", "remount,ro", str(tmp_path / "disk")]
        subprocess.run(remount, check=True)
        refuses_writes(root, before, "the file system is read-only")
        with pytest.raises(StorageError, match="the file system is read-only"):
            fsvc.init(tmp_path / "disk" / "another")


def refuses_writes(root: Path, before: Refs, words: str) -> None:
    """Check that a repository that cannot be written says so and can be read."""
    repository = fsvc.open(root)
    for operation in OPERATIONS.values():
        with pytest.raises(StorageError, match=words):
            operation(repository)
    assert not repository.commit({"a": small(1)}, message="as it was").created  # nothing to write
    assert refs(fsvc.open(root)) == before
    check_old_state(fsvc.open(root))


def test_a_directory_that_may_not_be_written(light_path: Path) -> None:
    light_path.chmod(0o755)
    root = light_path / "repository"
    before = refs(prepare(LocalStorage(root, create=True, system=Unsynced())))
    with modes(root, 0o555), without_rights():
        refuses_writes(root, before, "permission denied")
    light_path.chmod(0o555)
    try:
        with without_rights(), pytest.raises(StorageError, match="permission denied"):
            fsvc.init(light_path / "another")
    finally:
        light_path.chmod(0o755)


def test_a_directory_that_may_not_be_read(light_path: Path) -> None:
    light_path.chmod(0o755)
    root = light_path / "repository"
    prepare(LocalStorage(root, create=True, system=Unsynced()))
    (light_path / "locked").mkdir()
    for folder in (root, light_path / "locked"):
        with modes(folder, 0o000), without_rights():
            with pytest.raises(StorageError, match="permission denied"):
                fsvc.open(folder)
            with pytest.raises(StorageError, match="permission denied"):
                fsvc.init(folder)
    check_old_state(fsvc.open(root))
