"""A workspace never loses what is not in a commit, and its files say what they are by their content."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import fsvc
from fsvc import workspace as workspaces
from fsvc.engine import exporting, locate, tracking
from fsvc.errors import Conflict, Corruption, NotFound, StorageError, UnknownFormat, UnsupportedData
from fsvc.format import strictjson
from fsvc.format.commit import CommitRecord, SetVersion
from fsvc.repository import Repository
from fsvc.workspace import FileStatus, Workspace

KEY = "id"


def table(number: int, rows: int = 3) -> pa.Table:
    return pa.table({"id": list(range(rows)), "v": [number] * rows, "s": ["a", None, "c"][:rows]})


def write(path: Path, data: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        pacsv.write_csv(data, path)
    elif path.suffix == ".feather":
        feather.write_feather(data, path)
    else:
        pq.write_table(data, path)
    return path


def commit(space: Workspace, path: Path, name: str | None = None, **options: object) -> fsvc.Commit:
    name = name or path.name.split(".")[0]
    before = space.stamp(path)
    made = space.repository.commit(
        {name: path}, key=KEY, message=f"commit {name}", branch=space.branch, **options
    )
    assert space.record(path, made.snapshot(name), before=before)
    return made


def age(path: Path, seconds: int = 60) -> None:
    """Make a file look older than the record of it, so that its stamp is believed."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - seconds * 10**9))


def states(space: Workspace) -> dict[str, str]:
    return {entry.path: entry.state for entry in space.status()}


def entry(space: Workspace, path: str) -> FileStatus:
    return next(entry for entry in space.status() if entry.path == path)


def listing(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".fsvc" not in path.parts
    }


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace.init(tmp_path / "work")


@pytest.fixture
def two(space: Workspace) -> Workspace:
    """Branch main has a at 1 and only_main; branch try has a at 2 and only_try; main is current."""
    commit(space, write(space.directory / "a.parquet", table(1)))
    space.switch("try", create=True)
    commit(space, write(space.directory / "a.parquet", table(2)))
    commit(space, write(space.directory / "only_try.parquet", table(3)))
    space.switch("main")
    commit(space, write(space.directory / "only_main.parquet", table(4)))
    return space


class TestInit:
    def test_holds_its_repository(self, tmp_path: Path) -> None:
        space = Workspace.init(tmp_path)
        assert space.repository.location == str(tmp_path / ".fsvc" / "repository")
        assert (space.branch, space.status()) == ("main", [])

    def test_is_found_from_below(self, space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        below = space.directory / "x" / "y"
        below.mkdir(parents=True)
        found = Workspace.find(below)
        assert found is not None
        assert found.directory == space.directory
        monkeypatch.chdir(below)
        assert fsvc.open().instance == space.repository.instance

    def test_none_is_found_where_none_is(self, tmp_path: Path) -> None:
        assert Workspace.find(tmp_path) is None

    @pytest.mark.parametrize("inside", [".", "below", ".fsvc/repository", ".fsvc/repository/packs"])
    def test_no_workspace_inside_another(self, space: Workspace, inside: str) -> None:
        with pytest.raises(Conflict):
            Workspace.init(space.directory / inside)

    @pytest.mark.parametrize("inside", [".", "below"])
    def test_no_workspace_inside_a_repository(self, tmp_path: Path, inside: str) -> None:
        fsvc.init(tmp_path / "repo")
        with pytest.raises(Conflict, match="repository"):
            Workspace.init(tmp_path / "repo" / inside)
        assert not (tmp_path / "repo" / ".fsvc").exists()

    def test_attaches_to_a_repository_elsewhere(self, tmp_path: Path) -> None:
        there = fsvc.init(tmp_path / "repo")
        one, two = (Workspace.init(tmp_path / name, tmp_path / "repo") for name in ("one", "two"))
        assert one.repository.instance == two.repository.instance == there.instance
        assert not (tmp_path / "one" / ".fsvc" / "repository").exists()

    def test_attaches_to_the_repository_of_a_workspace(self, space: Workspace, tmp_path: Path) -> None:
        assert (
            Workspace.init(tmp_path / "b", space.directory).repository.instance == space.repository.instance
        )

    def test_makes_the_repository_it_attaches_to(self, tmp_path: Path) -> None:
        space = Workspace.init(tmp_path / "work", tmp_path / "new")
        assert space.repository.instance == fsvc.open(tmp_path / "new").instance

    def test_a_repository_below_is_found_after_a_move(self, tmp_path: Path) -> None:
        space = Workspace.init(tmp_path / "work", tmp_path / "work" / "data")
        instance = space.repository.instance
        (tmp_path / "work").rename(tmp_path / "moved")
        assert Workspace(tmp_path / "moved").repository.instance == instance

    def test_not_inside_the_repository_it_attaches_to(self, tmp_path: Path) -> None:
        with pytest.raises(Conflict):
            Workspace.init(tmp_path / "here", tmp_path / "here")
        assert not (tmp_path / "here").exists()

    def test_a_pointer_to_nowhere_says_so(self, tmp_path: Path) -> None:
        space = Workspace.init(tmp_path / "work", tmp_path / "repo")
        (tmp_path / "repo").rename(tmp_path / "gone")
        with pytest.raises(NotFound, match="repo"):
            _ = Workspace(space.directory).repository

    def test_is_finished_after_it_was_interrupted(self, tmp_path: Path) -> None:
        (tmp_path / ".fsvc").mkdir()
        assert Workspace.init(tmp_path).repository.head() is None


class TestStatus:
    def test_what_was_committed_is_unchanged(self, space: Workspace) -> None:
        commit(space, write(space.directory / "a.parquet", table(1)))
        found = entry(space, "a.parquet")
        assert (found.state, found.behind, found.feature_set) == ("unchanged", False, "a")

    def test_content_counts_not_time(self, space: Workspace) -> None:
        path = write(space.directory / "a.parquet", table(1))
        commit(space, path)
        os.utime(path)
        assert states(space) == {"a.parquet": "unchanged"}
        pq.write_table(table(1), path, compression="zstd", row_group_size=1)
        assert states(space) == {"a.parquet": "unchanged"}
        pq.write_table(table(9), path)
        assert states(space) == {"a.parquet": "modified"}

    def test_a_change_of_the_same_size_within_a_tick_is_seen(self, space: Workspace) -> None:
        path = space.directory / "a.csv"
        path.write_text("id,v\n1,5\n")
        commit(space, path)
        stamp = path.stat()
        path.write_text("id,v\n1,6\n")
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert states(space) == {"a.csv": "modified"}

    def test_an_untouched_file_is_not_read(self, space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(space.directory / "a.parquet", table(1))
        age(path)
        commit(space, path)

        def read(path: Path) -> str:
            raise AssertionError(f"{path} was read")

        monkeypatch.setattr(workspaces, "file_digest", read)
        assert states(space) == {"a.parquet": "unchanged"}

    def test_what_was_read_once_is_remembered(
        self, space: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(space.directory / "a.parquet", table(1))
        commit(space, path)
        pq.write_table(table(1), path, compression="zstd")
        age(path)
        assert states(space) == {"a.parquet": "unchanged"}
        monkeypatch.setattr(workspaces, "file_digest", lambda path: pytest.fail("read again"))
        assert states(space) == {"a.parquet": "unchanged"}

    def test_changes_between_reading_and_recording_are_seen(self, space: Workspace) -> None:
        path = write(space.directory / "a.parquet", table(1))
        before = space.stamp(path)
        made = space.repository.commit({"a": path}, key=KEY, message="m")
        write(path, table(2))
        space.record(path, made.snapshot("a"), before=before)
        assert states(space) == {"a.parquet": "modified"}
        space.record(path, made.snapshot("a"))
        assert states(space) == {"a.parquet": "modified"}

    def test_missing_and_untracked(self, space: Workspace) -> None:
        path = write(space.directory / "a.parquet", table(1))
        commit(space, path)
        path.rename(space.directory / "b.parquet")
        (space.directory / "notes.txt").write_text("no table")
        (space.directory / "package.json").write_text("{}")
        for folder in (".hidden", "plain"):
            write(space.directory / folder / "x.csv", table(1))
        fsvc.init(space.directory / "bare")
        write(space.directory / "bare" / "y.csv", table(1))
        assert states(space) == {"a.parquet": "missing", "b.parquet": "untracked", "plain/x.csv": "untracked"}

    def test_what_is_no_table_any_more_says_why(self, space: Workspace) -> None:
        path = write(space.directory / "a.parquet", table(1))
        commit(space, path)
        path.write_bytes(b"PAR1 no more")
        found = entry(space, "a.parquet")
        assert found.state == "modified"
        assert found.problem is not None
        assert "a.parquet" in found.problem
        write(path, table(1).drop_columns(["id"]))
        assert entry(space, "a.parquet").state == "modified"
        path.unlink()
        path.mkdir()
        assert entry(space, "a.parquet").state == "modified"

    def test_behind_when_the_branch_moved_on(self, space: Workspace) -> None:
        path = write(space.directory / "a.parquet", table(1))
        commit(space, path)
        newer = space.repository.commit({"a": table(2)}, message="elsewhere")
        found = entry(space, "a.parquet")
        assert (found.state, found.behind, found.head) == ("unchanged", True, newer.snapshot("a").id)
        write(path, table(3))
        found = entry(space, "a.parquet")
        assert (found.state, found.behind) == ("modified", True)
        write(path, table(2))
        found = entry(space, "a.parquet")
        assert (found.state, found.behind) == ("unchanged", False)

    def test_what_was_sorted_on_commit_is_unchanged_while_it_is(self, space: Workspace) -> None:
        path = write(space.directory / "a.parquet", table(1).take([2, 0, 1]))
        commit(space, path, sort_by="id")
        os.utime(path)
        assert states(space) == {"a.parquet": "unchanged"}
        space.switch("try", create=True)
        space.repository.commit({"a": table(2)}, message="elsewhere", branch="try")
        with pytest.raises(Conflict, match="order"):
            space.switch("try")
        assert pq.read_table(path).equals(table(1).take([2, 0, 1]))
        space.switch("try", force=True)
        space.switch("main")
        assert pq.read_table(path).equals(table(1))
        write(path, table(1).take([2, 0, 1]))
        assert states(space) == {"a.parquet": "modified"}

    def test_works_where_nothing_can_be_written(
        self, space: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit(space, write(space.directory / "a.parquet", table(1)))

        def refuse(*_: object) -> None:
            raise StorageError("the file system is read-only")

        monkeypatch.setattr(tracking, "save", refuse)
        assert states(space) == {"a.parquet": "unchanged"}


class TestRecord:
    def test_a_feature_set_has_one_file_the_last_one(self, space: Workspace) -> None:
        first = write(space.directory / "2026-11-01.parquet", table(1))
        second = write(space.directory / "2026-11-02.parquet", table(2))
        commit(space, first, "a")
        commit(space, second, "a")
        assert states(space) == {"2026-11-01.parquet": "untracked", "2026-11-02.parquet": "unchanged"}
        assert space.path_of("a") == second
        assert space.path_of("b") == space.directory / "b.parquet"

    def test_only_files_inside(self, space: Workspace, tmp_path: Path) -> None:
        inside, outside = (
            write(space.directory / "a.parquet", table(1)),
            write(tmp_path / "a.parquet", table(1)),
        )
        snapshot = commit(space, inside).snapshot("a")
        assert not space.record(outside, snapshot)
        assert not space.record(space.directory, snapshot)
        assert not space.record(space.directory / ".fsvc" / "workspace.json", snapshot)
        assert not space.record(space.directory / "*.parquet", snapshot)
        (space.directory / "x").mkdir()
        assert space.record(space.directory / "x" / ".." / "a.parquet", snapshot)
        (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
        write(tmp_path / "elsewhere" / "a.parquet", table(2))
        (space.directory / "link").symlink_to(tmp_path / "elsewhere" / "deep")
        assert not space.record(space.directory / "link" / ".." / "a.parquet", snapshot)
        assert states(space) == {"a.parquet": "unchanged"}

    def test_through_links(self, space: Workspace, tmp_path: Path) -> None:
        write(tmp_path / "big" / "a.parquet", table(1))
        (space.directory / "data").symlink_to(tmp_path / "big")
        (tmp_path / "link").symlink_to(space.directory)
        assert space.relative(space.directory / "data" / "a.parquet") == "data/a.parquet"
        assert space.relative(tmp_path / "link" / "b.parquet") == "b.parquet"

    def test_a_copy_that_was_written_does_not_take_over(self, space: Workspace) -> None:
        snapshot = commit(space, write(space.directory / "a.parquet", table(1))).snapshot("a")
        copy = space.directory / "copy.parquet"
        snapshot.write_parquet(copy)
        assert not space.record(copy, snapshot, written=True)
        assert states(space) == {"a.parquet": "unchanged", "copy.parquet": "untracked"}


class TestOfOthers:
    """A working directory that somebody else made, down to its own files."""

    @pytest.mark.parametrize("name", [tracking.STATE, locate.POINTER, "lock"])
    def test_a_pipe_in_place_of_a_file_is_not_waited_for(self, space: Workspace, name: str) -> None:
        commit(space, write(space.directory / "a.parquet", table(1)))
        place = space.directory / locate.WORKSPACE / name
        place.unlink(missing_ok=True)
        os.mkfifo(place)
        with pytest.raises(StorageError):
            Workspace(space.directory).switch("main")

    def test_what_links_lead_to_is_not_written(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine"
        mine.write_text("mine")
        place = tmp_path / "w" / locate.WORKSPACE
        place.mkdir(parents=True)
        (place / ".gitignore").symlink_to(mine)
        (place / "lock").symlink_to(tmp_path / "made")
        space = Workspace.init(tmp_path / "w", author="Test")
        assert mine.read_text() == "mine" and (place / ".gitignore").read_text() == "*\n"
        with pytest.raises(StorageError):
            space.switch("main")
        assert not (tmp_path / "made").exists()

    def test_a_file_that_holds_no_table_is_not_removed_for_one(
        self, space: Workspace, tmp_path: Path
    ) -> None:
        """Whoever knows the bytes of a file elsewhere may have recorded it as the working file of a feature set."""
        made = commit(space, write(space.directory / "a.parquet", table(1))).snapshot("a")
        other = made.store
        Repository(other).commit({"b": table(2)}, message="b", key=KEY, branch="other")
        home = tmp_path / "home"
        home.mkdir()
        (home / ".profile").write_text("as it came with the system")
        (space.directory / "x").symlink_to(home)
        stamp = tracking.stamp_of(home / ".profile")
        assert stamp is not None
        digest = tracking.file_digest(home / ".profile")
        file = tracking.TrackedFile.of("a", made.id, stamp, digest, reproducible=True)
        tracking.save(space.directory, tracking.Tracking("main", {"x/.profile": file}))
        with pytest.raises(Conflict):
            Workspace(space.directory).switch("other")
        assert (home / ".profile").exists()


class TestSwitch:
    def test_rewrites_removes_and_brings_back(self, two: Workspace) -> None:
        two.switch("try")
        assert pq.read_table(two.directory / "a.parquet").equals(table(2))
        assert set(listing(two.directory)) == {"a.parquet", "only_try.parquet"}
        assert two.branch == two.repository.current_branch == "try"
        assert not any(found.behind or found.state != "unchanged" for found in two.status())
        done = two.switch("main")
        assert done.written == ("a.parquet", "only_main.parquet")
        assert done.removed == ("only_try.parquet",)
        assert pq.read_table(two.directory / "a.parquet").equals(table(1))
        assert Workspace(two.directory).repository.current_branch == "main"

    def test_create_touches_no_file(self, two: Workspace) -> None:
        write(two.directory / "a.parquet", table(7))
        write(two.directory / "new.csv", table(8))
        before = listing(two.directory)
        two.switch("next", create=True)
        assert listing(two.directory) == before
        assert two.branch == "next"
        assert two.repository.branches()["next"] == two.repository.branches()["main"]
        with pytest.raises(Conflict, match="there already"):
            two.switch("try", create=True)

    def test_create_before_the_first_commit(self, space: Workspace) -> None:
        space.switch("try", create=True)
        assert (space.branch, space.repository.branches()) == ("try", {})
        commit(space, write(space.directory / "a.parquet", table(1)))
        assert set(space.repository.branches()) == {"try"}
        done = space.switch("main")
        assert (done.commit, done.removed) == (None, ("a.parquet",))

    def test_unknown_branch_suggests(self, two: Workspace) -> None:
        with pytest.raises(NotFound) as caught:
            two.switch("tri")
        assert "'try'" in str(caught.value.hint)
        assert two.branch == "main"

    @pytest.mark.parametrize("path", ["a.parquet", "only_main.parquet"])
    def test_changed_files_stop_it_before_anything_is_touched(self, two: Workspace, path: str) -> None:
        write(two.directory / path, table(99))
        before = listing(two.directory)
        with pytest.raises(Conflict, match=path):
            two.switch("try")
        assert listing(two.directory) == before
        assert two.branch == "main"
        two.switch("try", force=True)
        assert set(listing(two.directory)) == {"a.parquet", "only_try.parquet"}
        assert pq.read_table(two.directory / "a.parquet").equals(table(2))

    def test_untracked_files_stop_it(self, two: Workspace) -> None:
        write(two.directory / "only_try.parquet", table(99))
        before = listing(two.directory)
        with pytest.raises(Conflict, match=r"only_try.*not tracked"):
            two.switch("try")
        assert listing(two.directory) == before
        two.switch("try", force=True)
        assert pq.read_table(two.directory / "only_try.parquet").equals(table(3))

    def test_a_file_that_has_the_content_already_is_kept(self, two: Workspace) -> None:
        pq.write_table(table(3), two.directory / "only_try.parquet", compression="gzip")
        before = (two.directory / "only_try.parquet").read_bytes()
        assert "only_try.parquet" not in two.switch("try").written
        assert (two.directory / "only_try.parquet").read_bytes() == before
        assert entry(two, "only_try.parquet").state == "unchanged"

    def test_changes_to_what_is_the_same_on_both_are_carried(self, two: Workspace) -> None:
        two.switch("next", create=True)
        write(two.directory / "a.parquet", table(7))
        two.switch("main")
        assert pq.read_table(two.directory / "a.parquet").equals(table(7))
        two.switch("main", force=True)
        assert pq.read_table(two.directory / "a.parquet").equals(table(1))

    def test_missing_files_come_back(self, two: Workspace) -> None:
        (two.directory / "a.parquet").unlink()
        (two.directory / "only_main.parquet").unlink()
        two.switch("try")
        two.switch("main")
        assert set(listing(two.directory)) == {"a.parquet", "only_main.parquet"}

    def test_sets_without_a_file_here_stay_without(self, two: Workspace, tmp_path: Path) -> None:
        other = Workspace.init(tmp_path / "other", two.directory)
        assert other.switch("main").written == ()
        assert other.switch("try").written == ("only_try.parquet",)

    def test_brings_files_up_to_the_head(self, two: Workspace) -> None:
        two.repository.commit({"a": table(5)}, message="elsewhere")
        assert entry(two, "a.parquet").behind
        assert two.switch("main").written == ("a.parquet",)
        assert pq.read_table(two.directory / "a.parquet").equals(table(5))

    def test_folders_in_the_way_are_never_removed(self, two: Workspace) -> None:
        (two.directory / "only_try.parquet").mkdir()
        with pytest.raises(Conflict, match="in the way"):
            two.switch("try", force=True)
        assert two.branch == "main"

    def test_keeps_path_and_format(self, space: Workspace) -> None:
        for name in ("d/x.feather", "y.arrows", "z.csv"):
            target = space.directory / name
            write(target if target.suffix != ".arrows" else space.directory / "y.parquet", table(1))
        with (
            pa.OSFile(str(space.directory / "y.arrows"), "wb") as sink,
            pa.ipc.new_stream(sink, table(1).schema) as out,
        ):
            out.write_table(table(1))
        (space.directory / "y.parquet").unlink()
        for name in ("d/x.feather", "y.arrows"):
            commit(space, space.directory / name)
        space.switch("try", create=True)
        space.repository.commit({"x": table(2), "y": table(2)}, message="elsewhere", branch="try")
        assert space.switch("try").written == ("d/x.feather", "y.arrows")
        assert feather.read_table(space.directory / "d/x.feather").equals(table(2))
        with pa.ipc.open_stream(space.directory / "y.arrows") as reader:
            assert reader.read_all().equals(table(2))
        assert states(space)["y.arrows"] == "unchanged"

    def test_a_changed_file_is_noticed_while_others_are_written(
        self, two: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = two.directory / "only_main.parquet"
        real = fsvc.Snapshot.write_parquet

        def slow(self: fsvc.Snapshot, *args: object, **options: object) -> None:
            real(self, *args, **options)  # type: ignore[arg-type]
            write(path, table(77))

        monkeypatch.setattr(fsvc.Snapshot, "write_parquet", slow)
        with pytest.raises(Conflict, match="meanwhile"):
            two.switch("try")
        assert pq.read_table(path).equals(table(77))
        assert pq.read_table(two.directory / "a.parquet").equals(table(1))
        assert not (two.directory / ".fsvc" / "incoming").exists()


class TestText:
    """Of CSV and JSON a commit has the table that was read; the text may say more."""

    def test_committed_text_is_never_replaced_unasked(self, space: Workspace) -> None:
        path = space.directory / "a.csv"
        path.write_text("id,v\n1,1.50\n")
        commit(space, path)
        space.switch("try", create=True)
        space.repository.commit({"a": pa.table({"id": [1], "v": [2.5]})}, message="elsewhere", branch="try")
        with pytest.raises(Conflict, match="text"):
            space.switch("try")
        assert path.read_text() == "id,v\n1,1.50\n"
        space.switch("try", force=True)
        assert path.read_text() == '"id","v"\n1,2.5\n'
        # What was written can be written again.
        space.switch("main")
        assert path.read_text() == '"id","v"\n1,1.5\n'
        assert entry(space, "a.csv").state == "unchanged"
        os.utime(path)
        assert entry(space, "a.csv").state == "unchanged"

    def test_compressed(self, space: Workspace) -> None:
        path = space.directory / "a.tsv.gz"
        path.write_bytes(gzip.compress(b"id\tv\n1\t2\n"))
        commit(space, path)
        space.repository.commit({"a": pa.table({"id": [1], "v": [3]})}, message="elsewhere")
        space.switch("main", force=True)
        assert gzip.decompress(path.read_bytes()) == b'"id"\t"v"\n1\t3\n'

    def test_json_is_followed_by_parquet(self, space: Workspace) -> None:
        path = space.directory / "a.jsonl"
        path.write_text('{"id": 1, "v": 2}\n')
        commit(space, path)
        space.repository.commit({"a": pa.table({"id": [1], "v": [3]})}, message="elsewhere")
        with pytest.raises(Conflict, match="a.jsonl"):
            space.switch("main")
        done = space.switch("main", force=True)
        assert (done.written, done.removed) == (("a.parquet",), ("a.jsonl",))
        assert states(space) == {"a.parquet": "unchanged"}


class TestCheckout:
    def test_writes_every_feature_set(self, two: Workspace, tmp_path: Path) -> None:
        other = Workspace.init(tmp_path / "other", two.directory)
        assert other.checkout("try").written == ("a.parquet", "only_try.parquet")
        assert other.branch == "main"
        assert pq.read_table(other.directory / "a.parquet").equals(table(2))
        assert entry(other, "a.parquet").behind
        assert entry(other, "only_try.parquet").head is None
        assert other.checkout().written == ("a.parquet", "only_main.parquet")
        assert (other.directory / "only_try.parquet").exists()

    def test_goes_back_in_time(self, two: Workspace) -> None:
        two.checkout("main~1")
        two.repository.commit({"a": table(6)}, message="elsewhere")
        two.checkout("main")
        assert pq.read_table(two.directory / "a.parquet").equals(table(6))

    def test_changed_files_stop_it(self, two: Workspace) -> None:
        write(two.directory / "a.parquet", table(99))
        for revision in ("try", "main"):
            with pytest.raises(Conflict, match="a.parquet"):
                two.checkout(revision)
        assert pq.read_table(two.directory / "a.parquet").equals(table(99))
        assert not (two.directory / "only_try.parquet").exists()
        two.checkout("try", force=True)
        assert pq.read_table(two.directory / "a.parquet").equals(table(2))

    def test_two_feature_sets_never_share_a_file(self, space: Workspace) -> None:
        commit(space, write(space.directory / "a.parquet", table(1)), "b")
        space.repository.commit({"a": table(2)}, message="elsewhere")
        with pytest.raises(Conflict, match="another feature set"):
            space.checkout(force=True)
        assert pq.read_table(space.directory / "a.parquet").equals(table(1))

    def test_names_from_a_repository_are_not_trusted(self, space: Workspace) -> None:
        good = space.repository.commit({"a": table(1)}, message="m")
        store = space.repository.store
        record = CommitRecord(
            {"../evil": SetVersion(good.snapshot("a").id, 1)}, (good.id,), "x", good.time, "m", {}, {}
        )
        store.storage.put_batch({f"commits/{record.id}.json": record.encoded})
        with pytest.raises(Corruption, match="evil"):
            space.checkout(record.id)
        assert not (space.directory.parent / "evil.parquet").exists()


class TestFormats:
    def test_arrow_keeps_everything(self, tmp_path: Path) -> None:
        data = pa.table(
            {
                "d": pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), ["x", "y", "unused"]),
                "t": pa.array([1, 2, None], pa.timestamp("s", "Europe/Berlin")),
                "n": pa.array([[1], None, []], pa.list_(pa.int8())),
            }
        ).replace_schema_metadata({"k": "v"})
        for rows in (3, 0):
            repo = fsvc.init(tmp_path / f"repo{rows}")
            snapshot = repo.commit({"a": data.slice(0, rows)}, message="m").snapshot("a")
            for stream in (False, True):
                snapshot.write_arrow(tmp_path / "a.arrow", stream=stream)
                assert fsvc.identify(tmp_path / "a.arrow").id == snapshot.id

    def test_csv_names_the_column_that_it_cannot_hold(self, tmp_path: Path) -> None:
        repo = fsvc.init(tmp_path / "repo")
        data = pa.table({"n": pa.array([[1]]), "d": pa.array(["x"]).dictionary_encode()})
        snapshot = repo.commit({"a": data}, message="m").snapshot("a")
        with pytest.raises(UnsupportedData, match="'n'"):
            snapshot.write_csv(tmp_path / "a.csv")
        assert list(tmp_path.glob("*.csv")) == list(tmp_path.glob(".*.part")) == []
        snapshot.write_csv(tmp_path / "a.csv", ["d"])
        assert (tmp_path / "a.csv").read_text() == '"d"\n"x"\n'

    def test_a_file_that_cannot_be_written_is_an_error_in_words(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match=r"nowhere.*No such file"):
            exporting.write_arrow(tmp_path / "nowhere" / "a.arrow", table(1).schema, [])


class TestStateFile:
    def path(self, space: Workspace) -> Path:
        return space.directory / ".fsvc" / "workspace.json"

    def test_damage_is_found(self, two: Workspace) -> None:
        path = self.path(two)
        whole = path.read_bytes()
        for damaged in (b"", whole[:-5], whole.replace(b"main", b"mean"), b"{}"):
            path.write_bytes(damaged)
            with pytest.raises(Corruption, match=r"workspace\.json") as caught:
                two.status()
            assert caught.value.hint is not None

    def test_without_it_nothing_is_lost(self, two: Workspace) -> None:
        self.path(two).unlink()
        assert set(states(two).values()) == {"untracked"}
        assert two.checkout().written == ()
        assert set(states(two).values()) == {"unchanged"}

    @pytest.mark.parametrize("name", ["../a.parquet", "/etc/a.parquet", ".fsvc/a", "", "x/../../a"])
    def test_paths_outside_are_refused(self, two: Workspace, name: str) -> None:
        value = strictjson.unseal(self.path(two).read_bytes(), what="state")
        value["files"][name] = value["files"]["a.parquet"]
        self.path(two).write_bytes(strictjson.seal(value))
        with pytest.raises(Corruption):
            two.switch("try", force=True)

    def test_newer_format(self, two: Workspace) -> None:
        value = strictjson.unseal(self.path(two).read_bytes(), what="state")
        self.path(two).write_bytes(strictjson.seal({**value, "format": 2}))
        with pytest.raises(UnknownFormat):
            two.status()

    def test_writers_wait_for_each_other(self, space: Workspace) -> None:
        code = (
            "import sys\nfrom fsvc.workspace import Workspace\n"
            "space, name = Workspace(sys.argv[1]), sys.argv[2]\n"
            "snapshot = space.repository.snapshot(name)\n"
            "for turn in range(60):\n"
            "    path = space.directory / f'{name}{turn % 2}.parquet'\n"
            "    assert space.record(path, snapshot)\n"
            "    assert space.path_of(name) == path, 'a record was lost'\n"
        )
        names = ["p", "q", "r"]
        for name in names:
            for turn in range(2):
                commit(space, write(space.directory / f"{name}{turn}.parquet", table(1)), name)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        running = [
            subprocess.Popen([sys.executable, "-c", code, str(space.directory), name], env=environment)
            for name in names
        ]
        assert [process.wait() for process in running] == [0, 0, 0]
        assert sorted(tracking.load(space.directory, "main").files) == [
            "p1.parquet",
            "q1.parquet",
            "r1.parquet",
        ]


class TestInterrupted:
    """A switch that dies at any step leaves files that the next one recognises."""

    class Died(BaseException):
        pass

    @pytest.mark.parametrize("step", range(12))
    def test_every_step(self, two: Workspace, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        steps = 0

        def counted(real: object) -> object:
            def call(*args: object, **options: object) -> object:
                nonlocal steps
                if steps == step:
                    raise self.Died
                steps += 1
                return real(*args, **options)  # type: ignore[operator]

            return call

        with monkeypatch.context() as patch:
            patch.setattr(workspaces, "_move", counted(workspaces._move))
            patch.setattr(tracking, "save", counted(tracking.save))
            patch.setattr(Path, "unlink", counted(Path.unlink))
            patch.setattr(fsvc.Snapshot, "write_parquet", counted(fsvc.Snapshot.write_parquet))
            try:
                two.switch("try")
            except self.Died:
                pass
            else:
                assert step >= steps == 11, "every step is tried, and nothing else"
        again = Workspace(two.directory)
        assert "modified" not in states(again).values()
        again.switch("try")
        assert set(listing(two.directory)) == {"a.parquet", "only_try.parquet"}
        assert pq.read_table(two.directory / "a.parquet").equals(table(2))
        again.switch("main")
        assert set(listing(two.directory)) == {"a.parquet", "only_main.parquet"}


class Machine(RuleBasedStateMachine):
    """Whatever is done without force, no table is lost: it is in its file or in a commit."""

    names = st.sampled_from(["a", "b"])
    branches = st.sampled_from(["main", "x", "y"])

    @initialize()
    def start(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.space = Workspace.init(self.folder.name)
        self.precious: dict[str, pa.Table] = {}
        self.number = 0

    @rule(name=names, old=st.booleans())
    def write(self, name: str, old: bool) -> None:
        self.number += 1
        path = write(self.space.directory / f"{name}.parquet", table(self.number))
        if old:
            age(path)
        self.precious[path.name] = table(self.number)

    @rule(name=names)
    def commit(self, name: str) -> None:
        path = self.space.directory / f"{name}.parquet"
        if path.exists():
            commit(self.space, path)
            self.precious.pop(path.name, None)

    @rule(name=names)
    def commit_elsewhere(self, name: str) -> None:
        self.number += 1
        self.space.repository.commit({name: table(self.number)}, message="m", branch=self.space.branch)

    @rule(branch=branches, create=st.booleans())
    def switch(self, branch: str, create: bool) -> None:
        before = listing(self.space.directory), self.space.branch
        try:
            self.space.switch(branch, create=create)
        except (Conflict, NotFound):
            assert (listing(self.space.directory), self.space.branch) == before
        else:
            assert self.space.branch == branch

    @rule()
    def checkout(self) -> None:
        before = listing(self.space.directory)
        try:
            self.space.checkout()
        except (Conflict, NotFound):
            assert listing(self.space.directory) == before
        else:
            assert not any(
                found.state == "modified" or found.behind for found in self.space.status() if found.head
            )

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "space"):
            return
        for name, data in self.precious.items():
            assert pq.read_table(self.space.directory / name).equals(data)

    @invariant()
    def tracked_files_hold_what_they_are_recorded_with(self) -> None:
        if not hasattr(self, "space"):
            return
        for found in self.space.status():
            if found.state == "unchanged":
                key = self.space.repository.store.manifest(str(found.snapshot)).key
                assert fsvc.identify(self.space.directory / found.path, key=key).id == found.snapshot

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestModel = Machine.TestCase
TestModel.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


def test_the_file_of_a_workspace_is_readable_json(two: Workspace) -> None:
    value = json.loads((two.directory / ".fsvc" / "workspace.json").read_text())
    assert value["branch"] == "main"
    assert value["files"]["a.parquet"]["feature_set"] == "a"
    assert locate.find_workspace(two.directory) == two.directory
