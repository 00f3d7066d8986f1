"""What a local store does beyond the contract: failing disks, foreign files, threads, forks, processes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from crash import Unsynced
from hypothesis import given
from hypothesis import strategies as st

from fsvc.errors import CommitUnknown, Corruption, InvalidUse, KeyAbsent, KeyExists, NotFound, StorageError
from fsvc.storage.contract import Entry
from fsvc.storage.local import LocalStorage
from fsvc.storage.system import System

CALLS = [
    "open_file", "open_directory", "make_directory", "open_unnamed", "open_named", "write", "sync", "status",
    "link_unnamed", "link", "unlink", "unlink_in", "read", "stat", "scan",
]  # fmt: skip


class Failing(Unsynced):
    """Fails the ``number``-th call from now on (counting from 0), once or for good."""

    def __init__(self, *, unnamed_files: bool = True) -> None:
        self.unnamed_files = unnamed_files
        self.calls: list[str] = []
        self.fail_at: int | None = None
        self.for_good = False
        self.code = errno.EIO
        for name in CALLS:
            setattr(self, name, self._counted(name, getattr(self, name)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            number = len(self.calls)
            self.calls.append(name)
            if self.fail_at is not None and (
                number == self.fail_at or (self.for_good and number > self.fail_at)
            ):
                raise OSError(self.code, os.strerror(self.code))
            if name == "open_unnamed" and not self.unnamed_files:
                raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
            return call(*arguments)

        return counted

    def start(self, fail_at: int, code: int, *, for_good: bool = False) -> None:
        self.calls.clear()
        self.fail_at, self.code, self.for_good = fail_at, code, for_good

    def stop(self) -> None:
        self.fail_at = None


def files_open() -> int:
    return len(os.listdir("/proc/self/fd"))


def write_all(store: LocalStorage) -> None:
    store.put_if_absent("packs/new.pack", [b"new", b"pack"])
    store.put_batch({"index/aa/1": b"one", "index/bb/2": b"two"})
    store.put_if_absent("refs/main/2.json", b"second")


NEW = {
    "packs/new.pack": b"newpack",
    "index/aa/1": b"one",
    "index/bb/2": b"two",
    "refs/main/2.json": b"second",
}
OLD = {"refs/main/1.json": b"first", "packs/old.pack": b"old"}


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("unnamed_files", [True, False])
@pytest.mark.parametrize(
    "code",
    [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EDQUOT],
    ids=lambda code: errno.errorcode[code],
)
def test_whatever_fails_whenever_nothing_is_lost_or_halved(
    light_path: Path, code: int, unnamed_files: bool, for_good: bool
) -> None:
    failures = 0
    for fail_at in range(1000):
        root = light_path / str(fail_at)
        system = Failing(unnamed_files=unnamed_files)
        store = LocalStorage(root, create=True, system=system)
        store.put_batch(OLD)
        opened = files_open()
        system.start(fail_at, code, for_good=for_good)
        try:
            write_all(store)
            ended = True
        except StorageError as error:
            ended = False
            failures += 1
            assert not isinstance(error, KeyExists | KeyAbsent)
            assert str(root) in str(error)
            assert (code == errno.EIO or error.hint is not None) and "[Errno" not in str(error)
        assert files_open() == opened
        system.stop()
        there = {entry.key: store.get(entry.key) for entry in LocalStorage(root).list("")}
        assert there.items() >= OLD.items() and there.items() <= (OLD | NEW).items()
        if ended:
            assert there == OLD | NEW
        if fail_at >= len(system.calls):
            break
        LocalStorage(root, system=Unsynced()).put_batch(NEW)  # and the next process gets through
        assert all(LocalStorage(root).get(key) == data for key, data in NEW.items())
    assert failures > 20


@pytest.mark.parametrize(
    ("code", "words", "hint"),
    [
        (errno.ENOSPC, "the disk is full", "free some space"),
        (errno.EDQUOT, "quota", "free some space"),
        (errno.EROFS, "read-only", "mount it writable"),
        (errno.EACCES, "permission denied", "who owns"),
        (errno.EMFILE, "too many files open", "ulimit -n"),
        (errno.EIO, "input/output error", "check the disk"),
        (errno.ETXTBSY, "text file busy", None),
    ],
)
def test_a_failure_is_a_sentence_with_a_way_out(
    tmp_path: Path, code: int, words: str, hint: str | None
) -> None:
    system = Failing()
    store = LocalStorage(tmp_path / "store", create=True, system=system)
    store.put_if_absent("a/b", b"1")
    for call in (
        lambda: store.put_if_absent("a/c", b"1"),
        lambda: store.put_batch({"a/d": b"1"}),
        lambda: store.get("a/b"),
        lambda: store.get_range("a/b", 0, 1),
        lambda: store.size("a/b"),
        lambda: store.delete("a/b"),
        lambda: list(store.list("a/")),
    ):
        system.start(0, code, for_good=True)
        with pytest.raises(
            StorageError, match=f"^cannot .* in {re.escape(str(tmp_path))}.*: .*{words}"
        ) as caught:
            call()
        assert caught.value.hint is None if hint is None else hint in str(caught.value.hint)
        system.stop()


def test_a_listing_that_breaks_off_is_an_error_not_a_short_list(tmp_path: Path) -> None:
    system = Failing()
    store = LocalStorage(tmp_path, system=system)
    store.put_batch({"refs/a/1": b"", "refs/b/1": b"", "refs/c/1": b""})
    for fail_at in range(4):
        system.start(fail_at, errno.EACCES)
        with pytest.raises(StorageError, match="cannot list"):
            list(store.list("refs/"))
    system.stop()
    assert len(list(store.list("refs/"))) == 3


def test_a_store_that_vanished_lists_nothing_silently_never(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path / "store", create=True)
    store.put_if_absent("a/b", b"1")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="vanished"):
        list(store.list("a/"))
    with pytest.raises(StorageError, match="vanished"):
        store.put_if_absent("a/c", b"1")
    assert not (tmp_path / "store").exists()


def test_after_a_failed_sync_an_instance_writes_no_more(tmp_path: Path) -> None:
    system = Failing()
    store = LocalStorage(tmp_path, system=system)
    store.put_if_absent("a/b", b"1")
    system.calls.clear()
    store.put_if_absent("a/c", b"2")
    system.start(system.calls.index("sync"), errno.EIO)
    with pytest.raises(StorageError, match="input/output"):
        store.put_if_absent("a/d", b"3")
    system.stop()
    for write in (lambda: store.put_if_absent("a/d", b"3"), lambda: store.put_batch({"a/e": b"4"})):
        with pytest.raises(StorageError, match="failed to keep an earlier write") as caught:
            write()
        assert "open the repository again" in str(caught.value.hint)
    assert store.get("a/b") == b"1"
    LocalStorage(tmp_path).put_if_absent("a/d", b"3")


def test_a_name_that_may_not_be_durable_is_an_unknown_outcome(tmp_path: Path) -> None:
    system = Failing()
    store = LocalStorage(tmp_path, system=system)
    store.put_if_absent("a/b", b"1")
    system.calls.clear()
    store.put_if_absent("a/c", b"2")
    last_sync = max(number for number, call in enumerate(system.calls) if call == "sync")
    system.start(last_sync, errno.EIO)
    with pytest.raises(CommitUnknown, match="a/d was written .* may not survive"):
        store.put_if_absent("a/d", b"3")
    assert store.get("a/d") == b"3"


def test_short_writes_and_short_reads_are_completed(tmp_path: Path) -> None:
    class Stingy(System):
        @staticmethod
        def read(file: int, length: int, offset: int) -> bytes:  # type: ignore[override]
            return os.pread(file, min(length, 7), offset)

        def write(self, file: int, pieces: Sequence[memoryview]) -> None:
            original = os.writev
            os.writev = lambda file, rest: os.write(file, rest[0][:5])  # type: ignore[assignment, index]
            try:
                super().write(file, pieces)
            finally:
                os.writev = original

    store = LocalStorage(tmp_path, system=Stingy())
    store.put_if_absent("a", [b"0123456789ab", b"cdefgh", b"ijklmnopqrstuvwxyz"])
    assert store.get("a") == b"0123456789abcdefghijklmnopqrstuvwxyz"
    assert store.get_range("a", 3, 30) == b"3456789abcdefghijklmnopqrstuvw"


@given(sizes=st.lists(st.integers(0, 40), max_size=12), per_call=st.integers(1, 50))
def test_partial_writes_resume_where_they_stopped(sizes: list[int], per_call: int) -> None:
    written = bytearray()

    def some(file: int, buffers: Sequence[memoryview]) -> int:
        rest = b"".join(buffers)[:per_call]
        written.extend(rest)
        return len(rest)

    data = [bytes([number]) * size for number, size in enumerate(sizes) if size]
    original, os.writev = os.writev, some  # type: ignore[assignment]
    try:
        System().write(-1, [memoryview(piece) for piece in data])
    finally:
        os.writev = original
    assert bytes(written) == b"".join(data)


def test_what_others_put_there_is_not_listed(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path)
    store.put_if_absent("refs/1.json", b"x")
    for name in (
        ".tmp-0123",
        ".DS_Store",
        "refs/.tmp-99",
        "refs/1.json (copy)",
        "refs/caf\u00e9",
        "refs/a b",
    ):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "file").write_bytes(b"?")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "refs" / "pipe")
    os.symlink("nowhere", tmp_path / "refs" / "dangling")
    assert list(store.list("")) == [Entry("refs/1.json", 1)]
    for key in ("refs/pipe", "refs/dangling", "empty"):
        with pytest.raises(KeyAbsent):
            store.get(key)


def test_a_directory_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "store").mkdir()
    os.symlink(tmp_path / "big", tmp_path / "store" / "packs")
    store = LocalStorage(tmp_path / "store")
    store.put_if_absent("packs/1", b"x")
    assert (tmp_path / "big" / "1").read_bytes() == b"x"
    assert list(store.list("")) == [Entry("packs/1", 1)]


def test_rights_follow_the_umask_and_nothing_is_writable(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.umask(0o027)\n"
        "from fsvc.storage.local import LocalStorage\n"
        f"s = LocalStorage({str(tmp_path / 'store')!r}, create=True)\n"
        "s.put_if_absent('a/b', b'x'); s.put_batch({'c/d': b'x'})\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {
        "store": 0o750,
        "store/a": 0o750,
        "store/c": 0o750,
        "store/a/b": 0o440,
        "store/c/d": 0o440,
    }


def test_nothing_unfinished_stays_behind(tmp_path: Path) -> None:
    for unnamed_files in (True, False):
        system = Failing(unnamed_files=unnamed_files)
        store = LocalStorage(tmp_path / str(unnamed_files), create=True, system=system)
        store.put_if_absent("a/b", b"1")
        store.put_batch({"a/b": b"2", "a/c": b"3"})
        with pytest.raises(KeyExists):
            store.put_if_absent("a/b", b"4")
        assert sorted(os.listdir(tmp_path / str(unnamed_files) / "a")) == ["b", "c"]


def test_a_store_is_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no directory"):
        LocalStorage(tmp_path / "x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotFound):
        LocalStorage(tmp_path / "file")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="cannot make the directory"):
            LocalStorage(path, create=True)
    deep = LocalStorage(tmp_path / "a" / "b" / "c", create=True)
    deep.put_if_absent("k", b"x")
    assert LocalStorage(str(tmp_path / "a" / "b" / "c") + "/", create=True).get("k") == b"x"


def test_truncation_is_noticed_even_when_the_file_is_open_already(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path)
    store.put_if_absent("p", bytes(1000))
    assert store.get_range("p", 900, 100) == bytes(100)
    os.chmod(tmp_path / "p", 0o600)
    os.truncate(tmp_path / "p", 950)
    for reader in (store, LocalStorage(tmp_path)):
        with pytest.raises(Corruption, match="p in .* is truncated"):
            reader.get_range("p", 900, 100)


def test_files_kept_open_are_few_and_closed_in_the_end(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path)
    store.put_batch({f"p/{n}": b"%d" % n for n in range(400)})
    before = files_open()
    for n in range(400):
        assert store.get_range(f"p/{n}", 0, 1) == str(n)[:1].encode()
    assert before < files_open() <= before + 130
    del store
    assert files_open() == before


def test_a_full_table_of_files_is_helped_by_closing_our_own(tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "from fsvc.storage.local import LocalStorage\n"
        f"s = LocalStorage({str(tmp_path)!r}); n = 120\n"
        "s.put_batch({f'p/{i}': b'%d' % i for i in range(n)})\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "for i in range(n): assert s.get_range(f'p/{i}', 0, len(str(i))) == b'%d' % i\n"
        "for i in range(n): assert s.get(f'p/{i}') == b'%d' % i\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


def test_threads_never_read_the_wrong_file(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path)
    count = 300  # more than are kept open, so that descriptors are closed and reused all the time
    store.put_batch({f"p/{n}": n.to_bytes(4, "little") * 8 for n in range(count)})
    wrong: list[int] = []

    def read(me: int) -> None:
        for step in range(4000):
            n = (step * (2 * me + 1) + me) % count
            if store.get_range(f"p/{n}", 4, 4) != n.to_bytes(4, "little"):
                wrong.append(n)

    threads = [threading.Thread(target=read, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_fork_reads_and_writes_on(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path)
    store.put_batch({f"p/{n}": b"%03d" % n for n in range(200)})
    assert store.get_range("p/1", 0, 3) == b"001"
    child = os.fork()
    if child == 0:
        try:
            good = all(store.get_range(f"p/{n}", 0, 3) == b"%03d" % n for n in range(200))
            store.put_if_absent("from/child", b"x")
            os._exit(0 if good else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.get("from/child") == b"x"
    assert all(store.get_range(f"p/{n}", 0, 3) == b"%03d" % n for n in range(200))


def put_numbers(store: LocalStorage, me: int, wins: Any) -> None:
    for n in range(100):
        try:
            store.put_if_absent(f"log/{n:010d}.json", b"%d" % me)
            wins.put((n, me))
        except KeyExists:
            pass


def test_processes_that_race_win_each_key_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    store = LocalStorage(tmp_path)
    wins = spawn.Queue()
    writers = [spawn.Process(target=put_numbers, args=(store, me, wins)) for me in range(4)]
    for writer in writers:
        writer.start()
    won = dict(wins.get(timeout=60) for _ in range(100))
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert wins.empty() and len(won) == 100
    assert all(store.get(f"log/{n:010d}.json") == b"%d" % me for n, me in won.items())


def test_pickling_keeps_the_place_only(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path)
    store.put_if_absent("a", b"x")
    store.get_range("a", 0, 1)
    again = pickle.loads(pickle.dumps(store))
    assert again.location == store.location == str(tmp_path) and again.get("a") == b"x"
    with pytest.raises(InvalidUse):
        pickle.dumps(LocalStorage(tmp_path, system=Failing()))


def test_age_is_by_the_clock_of_the_file_system(tmp_path: Path) -> None:
    class Ahead(System):
        def clock(self, path: str) -> float:
            return super().clock(path) + 3600

    class ReadOnly(System):
        def clock(self, path: str) -> float:
            raise OSError(errno.EROFS, "Read-only file system")

    LocalStorage(tmp_path).put_if_absent("a", b"x")
    assert 3600 <= LocalStorage(tmp_path, system=Ahead()).age("a") < 3660
    assert 0 <= LocalStorage(tmp_path, system=ReadOnly()).age("a") < 60
    os.utime(tmp_path / "a", (0, 4e9))
    assert LocalStorage(tmp_path).age("a") == 0
    assert os.listdir(tmp_path) == ["a"]


def test_directories_that_somebody_removed_are_made_again(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path)
    store.put_if_absent("a/b/c", b"1")
    store.delete("a/b/c")
    os.rmdir(tmp_path / "a" / "b")
    with pytest.raises(StorageError, match="vanished"):
        store.put_if_absent("a/b/c", b"2")
    store.put_if_absent("a/b/c", b"2")
    assert store.get("a/b/c") == b"2"


def test_a_disk_without_any_safe_way_to_name_files_is_refused(tmp_path: Path) -> None:
    class Poor(System):
        def open_unnamed(self, directory: int) -> int:
            raise OSError(errno.EISDIR, "Is a directory")

        def link(self, directory: int, temporary: str, name: str) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        def rename(self, directory: int, temporary: str, name: str) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    store = LocalStorage(tmp_path, system=Poor())
    with pytest.raises(StorageError, match="neither hard links nor") as caught:
        store.put_if_absent("a", b"x")
    assert "another file system" in str(caught.value.hint)
    assert os.listdir(tmp_path) == []


def test_nfs_finding_its_own_link_is_a_win(tmp_path: Path) -> None:
    class Repeating(System):
        def open_unnamed(self, directory: int) -> int:
            raise OSError(errno.ENOTSUP, "Operation not supported")

        def link(self, directory: int, temporary: str, name: str) -> None:
            super().link(directory, temporary, name)
            super().link(directory, temporary, name)

    store = LocalStorage(tmp_path, system=Repeating())
    store.put_if_absent("a", b"x")
    with pytest.raises(KeyExists):
        store.put_if_absent("a", b"x")
