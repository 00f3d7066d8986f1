"""What a crash can leave behind: record a run's file operations, then make every state a disk may be in.

How it is used::

    recording = Recording(tmp_path)                      # everything below tmp_path is recorded
    store = LocalStorage(tmp_path / "store", create=True, system=recording)
    store.put_if_absent("a", b"...")
    recording.acknowledge("a")                           # from here on, every state must hold "a"
    for state in crash_states(recording, scratch):
        reopened = LocalStorage(state.path / "store", system=Unsynced())
        assert "a" not in state.acknowledged or reopened.get("a") == b"..."

Work on the repository in ``disk/repository`` is recorded by :func:`recorded`, and what every crash of it may leave is
looked at by :func:`after_crashes`.

The model of the disk is what POSIX promises and no more. A file's bytes are safe once that file was
synced; a name is safe once its directory was synced (and that directory's own name, and so on up).
Anything that was not synced may be there or not, in any combination; of the last write to a file
half may be there, or zeros of its length.
"""

from __future__ import annotations

import copy
import errno
import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from fsvc.errors import FsvcError
from fsvc.storage.local import LocalStorage
from fsvc.storage.system import System

__all__ = ["CrashState", "Recording", "Unsynced", "after_crashes", "crash_states", "recorded", "sampled"]

_ALL_SUBSETS = 5  # up to so many unsynced names every combination is made: 2**5
_SAMPLES = 12  # of more, so many random ones besides the systematic ones

_Node: TypeAlias = "_File | _Directory"

Changes: TypeAlias = "dict[str, _Node | None]"
"""Names in a directory that change together: a rename takes one away and puts one there."""


class CrashState(NamedTuple):
    """One state of the disk after a crash.

    ``path`` is a directory that stands for the recorded one; it is removed when the next state is asked for.
    ``acknowledged`` are the labels given to :meth:`Recording.acknowledge` before the crash.
    """

    label: str
    path: Path
    acknowledged: tuple[str, ...]


class Unsynced(System):
    """Real operations without syncs: fast, for stores over states that nobody will crash again."""

    def sync(self, file: int) -> None:
        pass


@dataclass(eq=False, slots=True)
class _File:
    """A file: the bytes that a sync made safe, and the writes since."""

    safe: bytes = b""
    unsafe: list[bytes] = field(default_factory=list)

    def variants(self) -> list[tuple[str, bytes]]:
        """What may be read after a crash."""
        if not self.unsafe:
            return [("", self.safe)]
        *earlier, last = self.unsafe
        before = self.safe + b"".join(earlier)
        return [
            ("last write whole", before + last),
            ("last write absent", before),
            ("last write torn", before + last[: len(last) // 2]),
            ("last write zeroed", before + bytes(len(last))),
            ("no write at all", self.safe),
        ]


@dataclass(eq=False, slots=True)
class _Directory:
    """A directory: the names that a sync made safe, and the changes since."""

    safe: dict[str, _Node] = field(default_factory=dict)
    unsafe: list[Changes] = field(default_factory=list)


@dataclass(slots=True)
class _Operation:
    """One recorded call. ``target`` is what it was done to; the rest depends on ``kind``."""

    kind: str
    target: _Node | None
    words: str
    data: bytes = b""
    changes: Changes = field(default_factory=dict)


class Recording(System):
    """A system that does everything for real below ``root``, and writes down what it did.

    Syncs alone are only written down: until a crash nobody can tell the difference. What is below ``root`` at
    the start counts as safe. Writing anywhere else is an error.
    With ``unnamed_files`` False it is a system that has none.
    """

    def __init__(self, root: Path, *, unnamed_files: bool = True) -> None:
        self.root = os.path.abspath(root)
        self.initial = _scan(self.root)
        self.operations: list[_Operation] = []
        self._unnamed_files = unnamed_files
        self._paths = dict(_walk(self.root, self.initial))  # as the program sees them now
        self._opened: dict[int, tuple[str, _Node]] = {}

    def acknowledge(self, label: str) -> None:
        """Note that the caller was told of success: no crash from here on may lose it."""
        self.operations.append(_Operation("acknowledge", None, label))

    def make_directory(self, path: str) -> None:
        super().make_directory(path)
        self._change(*os.path.split(path), "make directory", _Directory())

    def open_directory(self, path: str) -> int:
        file = super().open_directory(path)
        self._opened[file] = (_plain(path), self._paths[_plain(path)])
        return file

    def open_unnamed(self, directory: int) -> int:
        if not self._unnamed_files:
            raise OSError(errno.ENOTSUP, "Operation not supported")
        file = super().open_unnamed(directory)
        self._opened[file] = ("", _File())
        return file

    def open_named(self, directory: int, name: str) -> int:
        file = super().open_named(directory, name)
        self._opened[file] = ("", _File())
        self._change(self._opened[directory][0], name, "create", self._opened[file][1])
        return file

    def write(self, file: int, pieces: Sequence[memoryview]) -> None:
        super().write(file, pieces)
        self.operations.append(_Operation("write", self._opened[file][1], "write", data=b"".join(pieces)))

    def sync(self, file: int) -> None:
        node = self._opened[file][1]
        words = f"sync a {'file' if isinstance(node, _File) else 'directory'}"
        self.operations.append(_Operation("sync", node, words))

    def link_unnamed(self, file: int, directory: int, name: str) -> None:
        super().link_unnamed(file, directory, name)
        self._change(self._opened[directory][0], name, "link", self._opened[file][1])

    def link(self, directory: int, temporary: str, name: str) -> None:
        super().link(directory, temporary, name)
        path = self._opened[directory][0]
        self._change(path, name, "link", self._paths[f"{path}/{temporary}"])

    def rename(self, directory: int, temporary: str, name: str) -> None:
        super().rename(directory, temporary, name)
        path = self._opened[directory][0]
        node = self._paths.pop(f"{path}/{temporary}")
        self._change(path, name, "rename", node, {temporary: None})

    def unlink(self, path: str) -> None:
        super().unlink(path)
        self._change(*os.path.split(path), "unlink", None)

    def unlink_in(self, directory: int, name: str) -> None:
        super().unlink_in(directory, name)
        self._change(self._opened[directory][0], name, "unlink", None)

    def close(self, file: int) -> None:
        self._opened.pop(file, None)  # before the number can be given out again
        super().close(file)

    def _change(
        self, directory: str, name: str, words: str, node: _Node | None, besides: Changes | None = None
    ) -> None:
        """Note that ``name`` in a directory now means ``node`` (None: nothing)."""
        directory = _plain(directory)
        if node is None:
            del self._paths[f"{directory}/{name}"]
        else:
            self._paths[f"{directory}/{name}"] = node
        parent = self._paths[directory]
        self.operations.append(
            _Operation("change", parent, f"{words} {name}", changes={name: node, **(besides or {})})
        )


def crash_states(recording: Recording, scratch: Path, *, seed: int = 0) -> Iterator[CrashState]:
    """Make the states that a crash before, between and after the recorded operations can leave.

    Each distinct state is made once per set of acknowledgements, as a directory below ``scratch``.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / "state"
    chance = random.Random(seed)
    root, operations = copy.deepcopy((recording.initial, recording.operations))  # what follows changes them
    acknowledged: tuple[str, ...] = ()
    seen: set[tuple[object, ...]] = set()
    for done in range(len(operations) + 1):
        if done:
            operation = operations[done - 1]
            if operation.kind == "acknowledge":
                acknowledged = (*acknowledged, operation.words)
            else:
                _replay(operation)
        words = operations[done - 1].words if done else "nothing"
        for detail, tree in _outcomes(root, chance):
            state = (acknowledged, _frozen(tree))
            if state in seen:
                continue
            seen.add(state)
            shutil.rmtree(path, ignore_errors=True)
            _materialise(tree, path)
            label = f"after {done} of {len(operations)} operations ({words})"
            yield CrashState(f"{label}; {detail}" if detail else label, path, acknowledged)
    shutil.rmtree(path, ignore_errors=True)


def sampled(states: Iterator[CrashState], every: bool) -> Iterator[CrashState]:
    """At each point of a run a few of the states that a crash may leave there, or all of them."""
    seen: Counter[str] = Counter()
    for state in states:
        point = state.label.partition(";")[0]
        if every or seen[point] < 2 or seen[point] % 16 == 15:
            yield state
        seen[point] += 1


def recorded(root: Path, work: Callable[[LocalStorage, Recording], object]) -> Recording:
    """Do something with the store in ``root / "repository"``, and record it."""
    recording = Recording(root)
    work(LocalStorage(root / "repository", system=recording), recording)
    return recording


def after_crashes(
    recording: Recording,
    scratch: Path,
    check: Callable[[CrashState], object],
    *,
    every: bool,
    some: Callable[[int], bool] = lambda number: True,
) -> int:
    """Check the states that crashes leave, all or some by number; how many. A failed check names its state."""
    states = 0
    for number, state in enumerate(sampled(crash_states(recording, scratch), every)):
        if not some(number):
            continue
        states += 1
        try:
            check(state)
        except (AssertionError, FsvcError) as error:
            raise AssertionError(f"{state.label}: {type(error).__name__}: {error}") from error
    return states


Tree: TypeAlias = "dict[str, bytes | Tree]"
"""A directory as it is after a crash: contents of files, and directories."""


def _replay(operation: _Operation) -> None:
    target = operation.target
    if isinstance(target, _File):
        if operation.kind == "write":
            target.unsafe.append(operation.data)
        else:
            target.safe += b"".join(target.unsafe)
            target.unsafe.clear()
    elif isinstance(target, _Directory):
        if operation.kind == "change":
            target.unsafe.append(operation.changes)
        else:
            for changes in target.unsafe:
                _apply(target.safe, changes)
            target.unsafe.clear()


def _outcomes(root: _Directory, chance: random.Random) -> Iterator[tuple[str, Tree]]:
    """Give what the disk may hold now: every choice of unsynced names, with every fate of unsynced writes."""
    pending = [
        (directory, place) for directory in _directories(root) for place in range(len(directory.unsafe))
    ]
    for kept in _choices(len(pending), chance):
        chosen: dict[_Directory, list[int]] = {}
        for number in kept:
            directory, place = pending[number]
            chosen.setdefault(directory, []).append(place)
        names = f"{len(kept)} of {len(pending)} unsynced names" if pending else ""
        for fate in range(5):
            fates: set[str] = set()
            tree = _tree(root, chosen, fate, fates)
            yield "; ".join(filter(None, [names, *sorted(fates)])), tree
            if not fates:
                break


def _choices(count: int, chance: random.Random) -> Iterator[tuple[int, ...]]:
    everything = tuple(range(count))
    if count <= _ALL_SUBSETS:
        for size in range(count + 1):
            yield from itertools.combinations(everything, size)
        return
    yield ()
    yield everything
    for one in everything:
        yield (one,)
        yield tuple(number for number in everything if number != one)
    for _ in range(_SAMPLES):
        yield tuple(number for number in everything if chance.random() < 0.5)


def _tree(directory: _Directory, chosen: dict[_Directory, list[int]], fate: int, fates: set[str]) -> Tree:
    names = dict(directory.safe)
    for place in chosen.get(directory, ()):
        _apply(names, directory.unsafe[place])
    tree: Tree = {}
    for name, found in names.items():
        if isinstance(found, _Directory):
            tree[name] = _tree(found, chosen, fate, fates)
        else:
            variants = found.variants()
            words, data = variants[fate % len(variants)]
            tree[name] = data
            if words:
                fates.add(words)
    return tree


def _directories(root: _Directory) -> Iterator[_Directory]:
    """Give every directory that may be reached after a crash."""
    yield root
    named = itertools.chain(root.safe.values(), *(changes.values() for changes in root.unsafe))
    for found in named:
        if isinstance(found, _Directory):
            yield from _directories(found)


def _apply(names: dict[str, _Node], changes: Changes) -> None:
    for name, found in changes.items():
        if found is None:
            names.pop(name, None)
        else:
            names[name] = found


def _frozen(tree: Tree) -> tuple[object, ...]:
    return tuple(
        (name, found if isinstance(found, bytes) else _frozen(found)) for name, found in sorted(tree.items())
    )


def _materialise(tree: Tree, path: Path) -> None:
    path.mkdir()
    for name, found in tree.items():
        if isinstance(found, bytes):
            (path / name).write_bytes(found)
        else:
            _materialise(found, path / name)


def _scan(path: str) -> _Directory:
    return _Directory(
        {
            entry.name: _scan(entry.path) if entry.is_dir() else _File(Path(entry.path).read_bytes())
            for entry in os.scandir(path)
        }
    )


def _walk(path: str, node: _Node) -> Iterator[tuple[str, _Node]]:
    yield path, node
    if isinstance(node, _Directory):
        for name, found in node.safe.items():
            yield from _walk(f"{path}/{name}", found)


def _plain(path: str) -> str:
    return path.rstrip("/")
