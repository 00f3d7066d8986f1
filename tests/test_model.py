"""Any sequence of operations, against a model that is a few dicts: the repository always says the same."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from crash import Unsynced
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from wholeness import assert_whole, new, reopened

from fsvc.engine import compaction
from fsvc.errors import Conflict, FsvcError, InvalidRevision, NotFound
from fsvc.storage.local import LocalStorage

SETS = ("a", "b c", "Ünïcode")
BRANCHES = ("main", "dev", "dev/x", "fix")
TAGS = ("gold", "v-1", "abcd")


def table(value: int) -> pa.Table:
    """One of a few tables: with rows added, a column added, values changed, or nothing in it."""
    rows = (value % 4) * 5
    columns = {"id": pa.array(range(rows), pa.int64()), "x": pa.array([value % 3] * rows, pa.int8())}
    if value % 2:
        columns["more"] = pa.array([f"{value % 5}-{row}" for row in range(rows)])
    return pa.table(columns)


@dataclass(frozen=True)
class Node:
    """A commit as the model knows it."""

    id: str
    parent: Node | None
    message: str
    values: dict[str, int]
    versions: dict[str, int]
    changed: frozenset[str]

    def line(self) -> list[Node]:
        found = [self]
        while found[-1].parent is not None:
            found.append(found[-1].parent)
        return found


@dataclass
class Model:
    """All that a repository should know: commits, and what every ref's log says, oldest first."""

    nodes: dict[str, Node] = field(default_factory=dict)
    logs: dict[tuple[str, str], list[Node | None]] = field(default_factory=dict)
    current: str = "main"

    def head(self, branch: str) -> Node | None:
        return (self.logs.get(("heads", branch)) or [None])[-1]

    def live(self, kind: str) -> dict[str, str]:
        return {name: log[-1].id for (k, name), log in self.logs.items() if k == kind and log[-1] is not None}


class Machine(RuleBasedStateMachine):
    """Operations on a repository on disk and on the model; what one refuses, the other must refuse."""

    @initialize()
    def begin(self) -> None:
        parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = Path(tempfile.mkdtemp(prefix="fsvc-test-", dir=parent)) / "repository"
        self.repository = new(LocalStorage(self.root, create=True, system=Unsynced()))
        self.model = Model()
        self.count = 0

    def teardown(self) -> None:
        if hasattr(self, "root"):
            try:
                repository = reopened(self.root)
                tables = {
                    (node.id, name): table(value)
                    for node in self.model.nodes.values()
                    for name, value in node.values.items()
                }
                assert_whole(repository, tables)
                assert repository.verify().counts.commits == len(self.model.nodes)
            finally:
                shutil.rmtree(self.root.parent)

    # Operations

    @rule(
        values=st.dictionaries(st.sampled_from(SETS), st.integers(0, 11), min_size=1),
        branch=st.sampled_from((None, None, *BRANCHES)),
        empty=st.sampled_from((False, False, True)),
    )
    def commit(self, values: dict[str, int], branch: str | None, empty: bool) -> None:
        target = branch or self.model.current
        before = self.model.head(target)
        self.count += 1
        message = f"message {self.count}"
        data = {name: table(value) for name, value in values.items()}
        made = self.repository.commit(data, message=message, branch=branch, allow_empty=empty, threads=1)
        old = before.values if before else {}
        versions = before.versions if before else {}
        changed = frozenset(
            name
            for name, value in values.items()
            if name not in old or not data[name].equals(table(old[name]))
        )
        if before is not None and not changed and not empty:
            assert not made.created and made.id == before.id
            return
        assert made.created and made.id not in self.model.nodes
        bumped = {name: versions.get(name, 0) + 1 for name in changed}
        node = Node(made.id, before, message, old | values, {**versions, **bumped}, changed)
        self.model.nodes[node.id] = node
        self.model.logs.setdefault(("heads", target), []).append(node)
        assert set(made.changes) == changed
        assert made.parents == ((before.id,) if before else ())
        self.compare(node)

    @rule(name=st.sampled_from(BRANCHES), back=st.integers(0, 3))
    def make_branch(self, name: str, back: int) -> None:
        self.make("heads", name, back, self.repository.branch)

    @rule(name=st.sampled_from(TAGS), back=st.integers(0, 3))
    def make_tag(self, name: str, back: int) -> None:
        self.make("tags", name, back, self.repository.tag)

    def make(self, kind: str, name: str, back: int, call: Callable[[str, str], str]) -> None:
        head = self.model.head(self.model.current)
        line = head.line() if head else []
        if name in self.model.live(kind) or back >= len(line):
            with pytest.raises((Conflict, NotFound)):
                call(name, f"~{back}")
            return
        assert call(name, f"~{back}") == line[back].id
        self.model.logs.setdefault((kind, name), []).append(line[back])

    @rule(name=st.sampled_from(BRANCHES[1:]))
    def delete_branch(self, name: str) -> None:
        self.delete("heads", name, self.repository.delete_branch)

    @rule(name=st.sampled_from(TAGS))
    def delete_tag(self, name: str) -> None:
        self.delete("tags", name, self.repository.delete_tag)

    def delete(self, kind: str, name: str, call: Callable[[str], str]) -> None:
        if name not in self.model.live(kind):
            with pytest.raises(NotFound):
                call(name)
            return
        assert call(name) == self.model.live(kind)[name]
        self.model.logs[kind, name].append(None)

    @rule()
    def reopen(self) -> None:
        self.repository = reopened(self.root)
        self.repository.current_branch = self.model.current

    @rule(name=st.sampled_from(BRANCHES))
    def switch(self, name: str) -> None:
        self.model.current = self.repository.current_branch = name

    # Questions

    @rule(branch=st.sampled_from(("", *BRANCHES)), back=st.integers(0, 4))
    def steps(self, branch: str, back: int) -> None:
        head = self.model.head(branch or self.model.current)
        line = head.line() if head else []
        self.ask(
            line[back] if back < len(line) else None, lambda: self.repository.resolve(f"{branch}~{back}")
        )

    @rule(name=st.sampled_from(SETS), version=st.integers(1, 6))
    def version(self, name: str, version: int) -> None:
        main = self.model.head("main")
        found = [
            node
            for node in (main.line() if main else [])
            if name in node.changed and node.versions[name] == version
        ]
        assert len(found) <= 1
        self.ask(found[0] if found else None, lambda: self.repository.snapshot(f"{name}@v{version}").commit)

    @precondition(lambda self: self.model.nodes)
    @rule(data=st.data(), digits=st.integers(4, 64))
    def prefix(self, data: st.DataObject, digits: int) -> None:
        node = data.draw(st.sampled_from(list(self.model.nodes.values())))
        prefix = node.id[:digits]
        fitting = [other for other in self.model.nodes if other.startswith(prefix)]
        if len(fitting) == 1:
            self.ask(node, lambda: self.repository.resolve(prefix))
        else:
            with pytest.raises(InvalidRevision):
                self.repository.resolve(prefix)

    @rule(name=st.sampled_from(TAGS))
    def tagged(self, name: str) -> None:
        target = self.model.live("tags").get(name)
        if target is None and any(commit.startswith(name) for commit in self.model.nodes):
            return  # without the tag, it is a prefix of that commit's id
        self.ask(self.model.nodes[target] if target else None, lambda: self.repository.resolve(name))

    @rule(name=st.sampled_from((None, *SETS)))
    def log(self, name: str | None) -> None:
        head = self.model.head(self.model.current)
        line = head.line() if head else []
        if name is not None and line and not any(name in node.values for node in line):
            with pytest.raises(NotFound):
                self.repository.log(name)
            return
        expected = [node.id for node in line if name is None or name in node.changed]
        assert [commit.id for commit in self.repository.log(name)] == expected

    def ask(self, expected: Node | None, question: Callable[[], Any]) -> None:
        try:
            found = question()
        except FsvcError as error:
            assert isinstance(error, NotFound) and expected is None
            return
        assert expected is not None and found.id == expected.id
        self.compare(expected)

    def compare(self, node: Node) -> None:
        commit = self.repository.resolve(node.id)
        assert commit.message == node.message
        assert commit.versions == node.versions
        assert {snapshot.name for snapshot in commit.snapshots()} == set(node.values)
        for snapshot in commit.snapshots():
            assert snapshot.to_arrow().equals(table(node.values[snapshot.name]))

    # What must hold after every step

    @invariant()
    def refs_are_as_in_the_model(self) -> None:
        if not hasattr(self, "root"):
            return
        assert self.repository.branches() == self.model.live("heads")
        assert self.repository.tags() == self.model.live("tags")

    @invariant()
    def listings_have_every_entry_once(self) -> None:
        """Look at the raw files: numbers of ref entries without gaps, one file per commit, nothing unfinished."""
        if not hasattr(self, "root"):
            return
        assert {path.stem for path in self.root.glob("commits/*")} == set(self.model.nodes)
        logs = sorted(sorted(path.stem for path in folder.iterdir()) for folder in self.root.glob("refs/*/*"))
        expected = sorted([f"{n + 1:010d}" for n in range(len(log))] for log in self.model.logs.values())
        assert logs == expected
        for (kind, name), log in self.model.logs.items():
            entries = self.repository.reflog(name, kind=kind)
            assert [entry.commit for entry in reversed(entries)] == [node and node.id for node in log]
        snapshots = {file.name for file in self.root.glob("manifests/*")}
        packs = {path.stem for path in self.root.glob("packs/*")}
        tables = reopened(self.root).store.objects.tables()
        assert {pack for found in tables for pack in found.packs} == packs
        assert len(packs) <= len(snapshots) + 1
        assert len(list(self.root.glob("index/*"))) <= min(len(packs) + 1, 4 * compaction._FILES)
        assert not list(self.root.rglob(".*"))


def test_the_repository_is_as_its_model(count: Callable[[str, int], None]) -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=100, stateful_step_count=30))
    count("sequences of 30 operations compared with a model", 100)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_the_repository_is_as_its_model_for_long(count: Callable[[str, int], None]) -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=10_000, stateful_step_count=50))
    count("sequences of 50 operations compared with a model", 10_000)
