"""Refs: a log that one writer at a time extends, whatever the store does."""

from __future__ import annotations

import json
import multiprocessing
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faulty import FaultyStorage
from hypothesis import given
from hypothesis import strategies as st

import fsvc.engine.refs as refs_module
from fsvc.engine.refs import KINDS, RefEntry, Refs
from fsvc.errors import (
    CommitUnknown,
    Conflict,
    Corruption,
    InvalidName,
    InvalidUse,
    KeyAbsent,
    KeyExists,
    StorageError,
)
from fsvc.format import strictjson
from fsvc.storage.contract import Storage
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage

TIME = "2026-11-01T09:30:00.000001Z"


def commit(number: int) -> str:
    return f"{number:064x}"


def append(
    refs: Refs,
    expected: RefEntry | None,
    target: str | None,
    *,
    kind: str = "heads",
    name: str = "main",
    author: str = "ann",
    reason: str = "commit",
) -> RefEntry:
    return refs.append(kind, name, expected, target, author=author, reason=reason, time=TIME)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refs_module, "_FIRST_PAUSE", 0.0001)


def test_a_ref_moves_on_and_remembers() -> None:
    refs = Refs(MemoryStorage())
    assert refs.head("heads", "main") is None and refs.log("heads", "main") == []
    first = append(refs, None, commit(1))
    second = append(refs, first, commit(2), reason="commit: more")
    assert refs.head("heads", "main") == second
    assert refs.log("heads", "main") == [second, first]
    assert (first.sequence, second.sequence, second.commit, second.reason) == (
        1,
        2,
        commit(2),
        "commit: more",
    )
    assert first.transaction != second.transaction


def test_the_stored_form_is_sealed_json_at_a_numbered_key() -> None:
    store = MemoryStorage()
    entry = append(Refs(store), None, commit(7), kind="tags", name="v/\u00c4-1", author='J\u00fcrgen "x"\n')
    assert [e.key for e in store.list("")] == ["refs/tags/v%2f%c3%84-1/0000000001.json"] == [entry.key]
    value = strictjson.unseal(store.get(entry.key), what="entry")
    assert value == {
        "kind": "tags", "name": "v/\u00c4-1", "sequence": 1, "commit": commit(7), "time": TIME,
        "transaction": entry.transaction, "author": "J\u00fcrgen \"x\"\n", "reason": "commit",
    }  # fmt: skip


def test_a_deleted_ref_leaves_a_tombstone_and_its_numbers_go_on() -> None:
    refs = Refs(MemoryStorage())
    first = append(refs, None, commit(1), name="work")
    grave = append(refs, first, None, name="work", reason="delete")
    kept = append(refs, None, commit(1), name="kept")
    assert refs.head("heads", "work") == grave and grave.commit is None
    assert refs.heads("heads") == {"kept": kept} and refs.names("heads") == ["kept"]
    assert refs.names("heads", deleted=True) == ["kept", "work"]
    with pytest.raises(Conflict, match="is at entry 2, not 0"):
        append(refs, None, commit(2), name="work")
    again = append(refs, grave, commit(2), name="work")
    assert again.sequence == 3 and refs.heads("heads")["work"] == again


def test_kinds_and_names_do_not_touch_each_other() -> None:
    refs = Refs(FaultyStorage(MemoryStorage(), seed=5))
    entries = {}
    for kind in KINDS:
        for name in ("a", "A", "a/b", "\u00e4", "a b", "mlflow/m-0123", "a.b", "a-b_c", "x" * 150):
            entries[kind, name] = append(refs, None, commit(len(entries)), kind=kind, name=name)
    for kind in KINDS:
        expected = {name: entry for (k, name), entry in sorted(entries.items()) if k == kind}
        assert refs.heads(kind) == expected
        assert list(refs.heads(kind)) == refs.names(kind) == sorted(expected)
    for (kind, name), entry in entries.items():
        assert refs.log(kind, name) == [entry]


def test_a_stale_writer_is_turned_away() -> None:
    store = MemoryStorage()
    refs = Refs(store)
    first = append(refs, None, commit(1))
    append(refs, first, commit(2))
    before = list(store.list(""))
    for stale in (None, first):
        with pytest.raises(Conflict) as caught:
            append(refs, stale, commit(3))
        assert "branch 'main'" in str(caught.value) and caught.value.hint
    assert list(store.list("")) == before


def test_a_writer_that_loses_the_race_hears_who_won() -> None:
    class Overtaken(MemoryStorage):
        armed = False

        def put_if_absent(self, key: str, data: Any) -> None:
            if self.armed:
                self.armed = False
                append(Refs(self), first, commit(9), author="bob")
            super().put_if_absent(key, data)

    store = Overtaken()
    refs = Refs(store)
    first = append(refs, None, commit(1))
    store.armed = True
    with pytest.raises(
        Conflict, match=r"another writer moved the branch 'main' first \(entry 2, by 'bob' at 2026"
    ):
        append(refs, first, commit(2))
    assert [entry.commit for entry in refs.log("heads", "main")] == [commit(9), commit(1)]


@pytest.mark.parametrize("kind", ["", "head", "heads/", "../x", "commits"])
def test_other_kinds_are_refused(kind: str) -> None:
    refs = Refs(MemoryStorage())
    for call in (
        lambda: refs.head(kind, "main"),
        lambda: refs.log(kind, "main"),
        lambda: refs.heads(kind),
        lambda: refs.names(kind, deleted=True),
        lambda: append(refs, None, commit(1), kind=kind),
    ):
        with pytest.raises(InvalidUse, match="no kind of ref"):
            call()


@pytest.mark.parametrize(
    "name", ["", "../x", "a//b", "v3", "HEAD", "a\0", "con", "\u00c4" * 99, "f" * 64, "-x"]
)
def test_names_that_are_not_allowed_cannot_be_made(name: str) -> None:
    store = MemoryStorage()
    with pytest.raises(InvalidName):
        append(Refs(store), None, commit(1), name=name)
    assert list(store.list("")) == []


def test_a_name_too_long_for_any_ref_is_just_not_there() -> None:
    refs = Refs(MemoryStorage())
    assert refs.head("heads", "\u00c4" * 200) is None and refs.log("tags", "x" * 5000) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"commit": "abc"}, {"commit": commit(10).upper()}, {"commit": 5},
        {"time": "2026-11-01"}, {"time": "now"}, {"time": "2026-11-01T09:30:00.000001+00:00"},
        {"author": None}, {"reason": b"x"}, {"author": "\ud800"},
    ],
)  # fmt: skip
def test_an_entry_with_wrong_values_is_never_written(wrong: dict[str, Any]) -> None:
    store = MemoryStorage()
    values = {"author": "ann", "reason": "", "time": TIME, "commit": commit(10)} | wrong
    with pytest.raises(InvalidUse):
        Refs(store).append("heads", "main", None, values.pop("commit"), **values)
    assert list(store.list("")) == []


def test_the_entry_of_another_ref_cannot_be_followed() -> None:
    refs = Refs(MemoryStorage())
    other = append(refs, None, commit(1), name="other")
    append(refs, None, commit(1))
    with pytest.raises(InvalidUse, match="cannot follow"):
        append(refs, other, commit(2))


# Damage


def damaged(tmp_path: Path) -> tuple[Refs, LocalStorage, RefEntry, Path]:
    store = LocalStorage(tmp_path)
    refs = Refs(store)
    entry = append(refs, append(refs, None, commit(1)), commit(2))
    path = tmp_path / entry.key
    path.chmod(0o600)
    return refs, store, entry, path


@pytest.mark.parametrize("how", ["flip", "cut", "extend", "empty", "resealed", "unsealed", "older", "extra"])
def test_damage_to_the_newest_entry_is_named_and_never_passed_over(tmp_path: Path, how: str) -> None:
    refs, store, entry, path = damaged(tmp_path)
    data = path.read_bytes()
    value = strictjson.unseal(data, what="")
    path.write_bytes(
        {
            "flip": data.replace(b"0", b"1", 1),
            "cut": data[:-1],
            "extend": data + b"\n",
            "empty": b"",
            "resealed": strictjson.seal({**value, "commit": "main"}),
            "unsealed": json.dumps(value).encode(),
            "older": store.get(replace(entry, sequence=1).key),
            "extra": strictjson.seal({**value, "more": 1}),
        }[how]
    )
    for call in (
        lambda: refs.head("heads", "main"),
        lambda: refs.log("heads", "main"),
        lambda: refs.heads("heads"),
        lambda: refs.names("heads"),
    ):
        with pytest.raises(Corruption, match="entry 2 of the branch 'main'"):
            call()


@given(position=st.integers(0, 400), bit=st.integers(0, 7))
def test_every_flipped_bit_is_noticed(position: int, bit: int) -> None:
    store = MemoryStorage()
    entry = append(Refs(store), None, commit(1))
    data = bytearray(store.get(entry.key))
    data[position % len(data)] ^= 1 << bit
    store.delete(entry.key)
    store.put_if_absent(entry.key, data)
    with pytest.raises(Corruption):
        Refs(store).head("heads", "main")


def test_entries_that_were_swapped_are_noticed(tmp_path: Path) -> None:
    refs = Refs(LocalStorage(tmp_path))
    one = append(refs, None, commit(1), name="one")
    two = append(refs, None, commit(2), name="two")
    (tmp_path / one.key).rename(tmp_path / "x")
    (tmp_path / two.key).rename(tmp_path / one.key)
    (tmp_path / "x").rename(tmp_path / two.key)
    with pytest.raises(
        Corruption, match="entry 1 of the branch 'one' is not what lies there, but .*heads/two"
    ):
        refs.head("heads", "one")


@pytest.mark.parametrize(
    "key",
    [
        "refs/heads/main/1.json", "refs/heads/main/0000000000.json", "refs/heads/main/0000000002.json_",
        "refs/heads/main/deep/0000000002.json", "refs/heads/0000000001.json",
        "refs/heads/%ZZ/0000000001.json", "refs/heads/Main/0000000001.json",
    ],
)  # fmt: skip
def test_what_is_no_entry_stops_the_reader(key: str) -> None:
    store = MemoryStorage()
    refs = Refs(store)
    append(refs, None, commit(1))
    store.put_if_absent(key, b"?")
    with pytest.raises(Corruption) as caught:
        refs.heads("heads")
    assert key in str(caught.value)


def test_a_lost_entry_makes_a_gap_that_nobody_fills() -> None:
    store = MemoryStorage()
    refs = Refs(store)
    first = append(refs, None, commit(1))
    second = append(refs, first, commit(2))
    third = append(refs, second, commit(3))
    store.delete(second.key)
    assert refs.head("heads", "main") == third and refs.log("heads", "main") == [third, first]
    with pytest.raises(Conflict, match="is at entry 3, not 1"):
        append(refs, first, commit(4))
    assert append(refs, third, commit(4)).sequence == 4


# A store that fails


@pytest.mark.usefixtures("quick")
def test_a_lost_reply_is_settled_by_reading_back() -> None:
    store = FaultyStorage(MemoryStorage())
    refs = Refs(store)
    store.plan("lose")
    first = append(refs, None, commit(1))
    store.plan("fail", "fail", "lose")
    second = append(refs, first, commit(2))
    assert refs.log("heads", "main") == [second, first]
    assert len(list(store.list(""))) == 2


@pytest.mark.usefixtures("quick")
def test_a_store_that_reports_its_own_write_as_taken_is_believed_only_after_a_look() -> None:
    class Retrying(MemoryStorage):
        """A client library that repeats a request whose reply it lost."""

        def put_if_absent(self, key: str, data: Any) -> None:
            super().put_if_absent(key, data)
            super().put_if_absent(key, data)

    refs = Refs(Retrying())
    entry = None
    for number in range(5):
        entry = append(refs, entry, commit(number))
    assert [e.commit for e in refs.log("heads", "main")] == [commit(n) for n in (4, 3, 2, 1, 0)]


@pytest.mark.usefixtures("quick")
def test_a_write_that_never_works_is_given_up_and_leaves_nothing() -> None:
    store = FaultyStorage(MemoryStorage(), fail=1.0)
    with pytest.raises(StorageError, match="did nothing") as caught:
        append(Refs(store), None, commit(1))
    assert not isinstance(caught.value, CommitUnknown)
    assert 2 <= store.counts["fail"] <= 20 and not list(store.list(""))


@pytest.mark.usefixtures("quick")
def test_what_cannot_be_read_back_is_unknown_and_stays() -> None:
    class Mute(FaultyStorage):
        def get(self, key: str) -> bytes:
            raise StorageError("no answer")

    store = Mute(MemoryStorage())
    store.plan("lose")
    with pytest.raises(CommitUnknown, match="whether the branch 'main' was moved"):
        append(Refs(store), None, commit(1))
    assert len(list(store.list(""))) == 1
    assert Refs(store.inner).head("heads", "main") is not None
    store.plan("fail")
    with pytest.raises(CommitUnknown):
        append(Refs(store), None, commit(1), name="other")
    assert store.counts["delete"] == 0


@pytest.mark.usefixtures("quick")
def test_a_damaged_entry_in_our_place_is_unknown() -> None:
    class Mangling(MemoryStorage):
        def put_if_absent(self, key: str, data: Any) -> None:
            super().put_if_absent(key, bytes(data)[:-9])
            raise StorageError("connection reset")

    with pytest.raises(CommitUnknown, match="damaged|not"):
        append(Refs(Mangling()), None, commit(1))


@pytest.mark.usefixtures("quick")
def test_a_store_that_contradicts_itself_is_unknown() -> None:
    class Confused(MemoryStorage):
        def put_if_absent(self, key: str, data: Any) -> None:
            raise KeyExists("taken")

        def get(self, key: str) -> bytes:
            raise KeyAbsent("nothing here")

    with pytest.raises(CommitUnknown):
        append(Refs(Confused()), None, commit(1))


def test_an_entry_that_may_not_be_durable_is_not_called_done() -> None:
    class Dying(MemoryStorage):
        def put_if_absent(self, key: str, data: Any) -> None:
            super().put_if_absent(key, data)
            raise CommitUnknown("written, but may not survive a crash")

    with pytest.raises(CommitUnknown, match="survive"):
        append(Refs(Dying()), None, commit(1))


# Many writers


def write(refs: Refs, me: int, count: int) -> tuple[list[str], list[str]]:
    """Move main ``count`` times, from wherever it stands; give what was done and what is unknown."""
    done: list[str] = []
    unknown: list[str] = []
    number = 0
    while number < count:
        target = commit(me * 10_000 + number)
        try:
            append(refs, refs.head("heads", "main"), target, author=str(me))
            done.append(target)
        except Conflict:
            continue
        except CommitUnknown:
            unknown.append(target)
        except StorageError:
            continue
        number += 1
    return done, unknown


def check(storage: Storage, results: list[tuple[list[str], list[str]]]) -> None:
    log = Refs(storage).log("heads", "main")
    commits = [entry.commit for entry in log]
    done = [target for finished, _ in results for target in finished]
    unknown = [target for _, unsure in results for target in unsure]
    assert len(commits) == len(set(commits))  # none twice
    assert set(done) <= set(commits) <= {*done, *unknown}  # none lost, none out of nowhere
    assert [entry.sequence for entry in log] == list(range(len(log), 0, -1))
    for finished, _ in results:  # each writer's commits in the order in which it made them
        assert [c for c in reversed(commits) if c in set(finished)] == finished


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("fail", "lose", "fail_reads"), [(0, 0, 0), (0.1, 0.25, 0), (0.1, 0.25, 0.2)])
def test_threads_lose_and_repeat_nothing(fail: float, lose: float, fail_reads: float) -> None:
    memory = MemoryStorage()
    results: list[tuple[list[str], list[str]]] = []

    def run(me: int) -> None:
        store = FaultyStorage(memory, seed=me, fail=fail, lose=lose, fail_reads=fail_reads, delay=0.0003)
        results.append(write(Refs(store), me, 25))

    threads = [threading.Thread(target=run, args=(me,)) for me in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    check(memory, results)


def run_process(root: Path, me: int, lose: float, results: Any) -> None:
    refs_module._FIRST_PAUSE = 0.001  # type: ignore[misc]
    store = FaultyStorage(LocalStorage(root), seed=me, lose=lose, fail=lose / 2)
    results.put(write(Refs(store), me, 20))


@pytest.mark.parametrize("lose", [0.0, 0.25])
def test_processes_lose_and_repeat_nothing(tmp_path: Path, lose: float) -> None:
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    writers = [fork.Process(target=run_process, args=(tmp_path, me, lose, results)) for me in range(4)]
    for writer in writers:
        writer.start()
    found = [results.get(timeout=120) for _ in writers]
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    check(LocalStorage(tmp_path), found)
    assert sum(len(done) + len(unknown) for done, unknown in found) == 80
