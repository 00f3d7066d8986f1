"""status, switch, branch, tag and reflog as users run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import fsvc
from fsvc.cli import main
from fsvc.workspace import Workspace

Run = Callable[..., Result]


def table(number: int) -> pa.Table:
    return pa.table({"id": [1, 2], "v": [number, number]})


def put(space: Workspace, name: str, number: int) -> fsvc.Commit:
    path = space.directory / f"{name}.parquet"
    pq.write_table(table(number), path)
    before = space.stamp(path)
    commit = space.repository.commit({name: path}, message=f"{name} is {number}", branch=space.branch)
    space.record(path, commit.snapshot(name), before=before)
    return commit


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("FSVC_REPOSITORY", "FSVC_DATE", "FSVC_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FSVC_AUTHOR", "Ada <ada@example.org>")
    space = Workspace.init(tmp_path / "work")
    monkeypatch.chdir(space.directory)
    return space


@pytest.fixture
def run() -> Run:
    def call(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments), prog_name="fsvc")
        assert result.exit_code == code, result.output
        return result

    return call


def document(result: Result) -> Any:
    return json.loads(result.stdout)


class TestStatus:
    def test_before_anything_is_committed(self, space: Workspace, run: Run) -> None:
        result = run("status")
        assert "on branch main, nothing is committed on it yet" in result.stdout
        assert "no file is tracked yet" in result.stderr
        assert document(run("status", "--json")) == {
            "branch": "main",
            "commit": None,
            "files": [],
            "absent": [],
        }

    def test_says_what_is_not_as_committed(self, space: Workspace, run: Run) -> None:
        for name in ("a", "b", "c", "d"):
            put(space, name, 1)
        space.repository.commit({"c": table(2), "e": table(1)}, message="elsewhere")
        pq.write_table(table(3), "a.parquet")
        Path("b.parquet").unlink()
        Path("new.csv").write_text("id\n1\n")
        result = run("status")
        lines = [line.split() for line in result.stdout.splitlines()]
        assert ["modified", "a.parquet", "a"] in lines
        assert ["missing", "b.parquet", "b"] in lines
        assert ["behind", "c.parquet", "c", "main", "has", "v2"] in lines
        assert ["untracked", "new.csv"] in lines
        assert not any("d.parquet" in line for line in lines)
        assert "fsvc switch main" in result.stderr
        assert "1 feature set without a file here (e)" in result.stderr
        assert ["unchanged", "d.parquet", "d"] in [
            line.split() for line in run("status", "-a").stdout.splitlines()
        ]

    def test_json(self, space: Workspace, run: Run) -> None:
        commit = put(space, "a", 1)
        found = document(run("--json", "status"))
        snapshot = commit.snapshot("a").id
        assert found["commit"] == commit.id
        assert found["files"] == [
            {
                "path": "a.parquet",
                "state": "unchanged",
                "behind": False,
                "feature_set": "a",
                "snapshot": snapshot,
                "head": snapshot,
                "problem": None,
            }
        ]

    def test_needs_a_workspace(self, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        fsvc.init(tmp_path / "bare")
        monkeypatch.chdir(tmp_path)
        assert "workspace" in run("status", code=4).stderr
        assert "workspace" in run("status", "--repo", "bare", code=4).stderr


class TestSwitch:
    def test_there_and_back(self, space: Workspace, run: Run) -> None:
        put(space, "a", 1)
        assert "made and switched to branch try" in run("switch", "-c", "try").stderr
        put(space, "a", 2)
        put(space, "b", 1)
        result = run("switch", "main")
        assert result.stdout.splitlines() == ["wrote a.parquet", "removed b.parquet"]
        assert pq.read_table("a.parquet").equals(table(1))
        found = document(run("switch", "try", "--json"))
        assert (found["branch"], found["created"]) == ("try", False)
        assert (found["written"], found["removed"]) == (["a.parquet", "b.parquet"], [])
        assert "on branch try" in run("switch", "try").stderr

    def test_refuses_to_lose_changes(self, space: Workspace, run: Run) -> None:
        put(space, "a", 1)
        run("switch", "-c", "try")
        put(space, "a", 2)
        pq.write_table(table(3), "a.parquet")
        result = run("switch", "main", code=5)
        assert "a.parquet" in result.stderr
        assert "--force" in result.stderr
        assert pq.read_table("a.parquet").equals(table(3))
        run("switch", "main", "--force")
        assert pq.read_table("a.parquet").equals(table(1))

    def test_suggests_the_nearest(self, space: Workspace, run: Run) -> None:
        put(space, "a", 1)
        run("branch", "experiment")
        assert "did you mean 'experiment'" in run("switch", "experimant", code=4).stderr


class TestBranch:
    def test_marks_the_current_one_before_its_first_commit(self, space: Workspace, run: Run) -> None:
        assert "*" in run("branch").stdout
        assert document(run("branch", "--json")) == {
            "branches": [
                {
                    "name": "main",
                    "commit": None,
                    "author": None,
                    "time": None,
                    "message": None,
                    "current": True,
                }
            ]
        }

    def test_make_list_delete(self, space: Workspace, run: Run) -> None:
        first, second = put(space, "a", 1), put(space, "a", 2)
        run("branch", "here")
        run("branch", "there", "a@v1")
        run("branch", "back", "main~1")
        found = document(run("branch", "--json"))["branches"]
        assert [(item["name"], item["commit"], item["current"]) for item in found] == [
            ("back", first.id, False),
            ("here", second.id, False),
            ("main", second.id, True),
            ("there", first.id, False),
        ]
        assert found[0]["message"] == "a is 1"
        text = run("branch").stdout
        assert [line.split()[0] for line in text.splitlines() if line.startswith("*")] == ["*"]
        deleted = document(run("branch", "-d", "there", "--json"))
        assert deleted == {"branch": "there", "commit": first.id, "deleted": True}
        assert "fsvc branch back" in run("branch", "-d", "back").stderr
        assert set(space.repository.branches()) == {"here", "main"}
        assert space.repository.reflog("here")[0].author == "Ada <ada@example.org>"

    def test_the_current_and_the_default_one_stay(self, space: Workspace, run: Run) -> None:
        put(space, "a", 1)
        assert run("branch", "-d", "main", code=5).stderr
        run("switch", "-c", "try")
        assert "current" in run("branch", "-d", "try", code=5).stderr
        assert "default" in run("branch", "-d", "main", code=2).stderr
        assert set(space.repository.branches()) == {"main", "try"}

    def test_errors(self, space: Workspace, run: Run) -> None:
        run("branch", "x", code=4)
        put(space, "a", 1)
        run("branch", "x")
        run("branch", "x", code=5)
        run("branch", "v1", code=2)
        run("branch", "y", "nowhere", code=4)
        run("branch", "y", "-d", "x", code=2)
        assert "did you mean 'x'" in run("branch", "-d", "X", code=4).stderr
        assert document(run("branch", "-d", "zzz", "--json", code=4))["error"]["kind"] == "NotFound"

    def test_names_cannot_steer_a_terminal(self, space: Workspace, run: Run) -> None:
        put(space, "a", 1)
        assert "\x1b" not in run("branch", "\x1b[31mred", code=2).output
        assert "\x1b" not in run("switch", "\x1b[31mred", code=2).output

    def test_of_a_bare_repository(self, tmp_path: Path, run: Run) -> None:
        repo = fsvc.init(tmp_path / "bare")
        commit = repo.commit({"a": table(1)}, message="m")
        run("--repo", str(tmp_path / "bare"), "branch", "x")
        found = document(run("branch", "--repo", str(tmp_path / "bare"), "--json"))["branches"]
        assert [(item["name"], item["commit"], item["current"]) for item in found] == [
            ("main", commit.id, True),
            ("x", commit.id, False),
        ]


class TestTag:
    def test_make_list_delete(self, space: Workspace, run: Run) -> None:
        assert "no tags" in run("tag").stderr
        first, second = put(space, "a", 1), put(space, "a", 2)
        assert document(run("tag", "black-friday", "--json")) == {
            "tag": "black-friday",
            "commit": second.id,
            "created": True,
        }
        run("tag", "first", "a@v1")
        found = document(run("tag", "--json"))["tags"]
        assert [(item["name"], item["commit"]) for item in found] == [
            ("black-friday", second.id),
            ("first", first.id),
        ]
        assert "a is 1" in run("tag").stdout
        assert "fsvc tag first" in run("tag", "-d", "first").stderr
        assert set(space.repository.tags()) == {"black-friday"}

    def test_never_moves(self, space: Workspace, run: Run) -> None:
        put(space, "a", 1)
        run("tag", "x")
        put(space, "a", 2)
        assert "tags never move" in run("tag", "x", code=5).stderr
        run("tag", "-d", "y", code=4)
        run("tag", "y", "-d", "x", code=2)


class TestReflog:
    def test_lists_moves_newest_first(self, space: Workspace, run: Run) -> None:
        first, second = put(space, "a", 1), put(space, "a", 2)
        found = document(run("reflog", "--json"))
        assert (found["kind"], found["name"]) == ("branch", "main")
        assert [(item["sequence"], item["commit"]) for item in found["entries"]] == [
            (2, second.id),
            (1, first.id),
        ]
        assert len(document(run("reflog", "-n", "1", "--json"))["entries"]) == 1
        assert "commit: a is 2" in run("reflog", "main").stdout

    def test_outlives_what_was_deleted(self, space: Workspace, run: Run) -> None:
        commit = put(space, "a", 1)
        run("branch", "x")
        run("branch", "-d", "x")
        found = document(run("reflog", "x", "--json"))["entries"]
        assert [item["commit"] for item in found] == [None, commit.id]
        assert "(deleted)" in run("reflog", "x").stdout

    def test_of_a_tag(self, space: Workspace, run: Run) -> None:
        put(space, "a", 1)
        run("branch", "x")
        run("tag", "x")
        assert document(run("reflog", "x", "--json"))["kind"] == "branch"
        assert document(run("reflog", "x", "--tag", "--json"))["kind"] == "tag"
        assert "did you mean" in run("reflog", "mian", code=4).stderr
