"""Workspaces: a working directory on a branch, and which of its files hold which feature sets.

``.fsvc/`` holds all that there is to it: the repository, or a pointer to one elsewhere, and the file
that :mod:`fsvc.engine.tracking` reads and writes. Nothing of it is in the repository.

A feature set has one working file: the one that was last committed or checked out. Working files are
replaced and removed only where nothing can be lost: their table is in a commit, exactly.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fsvc.engine import history, locate, tracking
from fsvc.engine.progress import Progress, silent
from fsvc.engine.replacing import replacing
from fsvc.engine.store import REPOSITORY_KEY
from fsvc.engine.tracking import Stamp, TrackedFile, Tracking, file_digest, stamp_of
from fsvc.errors import (
    Conflict,
    Corruption,
    InvalidName,
    InvalidUse,
    KeyViolation,
    NotFound,
    StorageError,
    UnknownFormat,
    UnreadableInput,
    UnsupportedData,
)
from fsvc.format import names, strictjson
from fsvc.format.expectation import expected_of
from fsvc.repository import Repository, enclosing
from fsvc.repository import init as init_repository
from fsvc.snapshot import Commit, Snapshot

if TYPE_CHECKING:
    from fsvc.diff import Diff
    from fsvc.merging import MergePlan

__all__ = ["FileState", "FileStatus", "Rewritten", "Stamp", "Workspace"]

FileState = Literal["unchanged", "modified", "missing", "untracked"]

# Suffixes of files that `status` takes for tables. JSON is left out: most of it is something else.
_DATA = (
    ".parquet", ".pq", ".arrow", ".arrows", ".feather", ".ipc", ".csv", ".tsv", ".jsonl", ".ndjson",
)  # fmt: skip
_CODECS = {".gz": "gzip", ".zst": "zstd"}
# What identifying a file says when it holds another table than it did.
_ANOTHER_TABLE = (InvalidUse, KeyViolation, NotFound, UnreadableInput, UnsupportedData)


@dataclass(frozen=True)
class FileStatus:
    """A working file against the current branch.

    Attributes:
        path: relative to the workspace, with slashes.
        state: ``unchanged`` and ``modified`` compare the table in the file with the snapshot that it
            was recorded with; ``missing`` files are recorded and not there, ``untracked`` ones look
            like tables and are not recorded.
        feature_set: the feature set that it holds; None where it is untracked.
        snapshot: the id of the snapshot that it was recorded with.
        head: the id of the snapshot at the head of the current branch; None where there is none.
        problem: why the file cannot be read as a table any more, if it cannot.
    """

    path: str
    state: FileState
    feature_set: str | None = None
    snapshot: str | None = None
    head: str | None = None
    problem: str | None = None

    @property
    def behind(self) -> bool:
        """Whether the branch has another snapshot than the file was recorded with, or none."""
        return self.snapshot is not None and self.head != self.snapshot


@dataclass(frozen=True)
class Rewritten:
    """What was done to the working files, by path; ``commit`` is None on a branch without commits."""

    branch: str
    commit: Commit | None
    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass
class _Plan:
    """What is to be done to the files, once every check has passed."""

    write: dict[str, Snapshot] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)
    record: dict[str, TrackedFile] = field(default_factory=dict)
    forget: list[str] = field(default_factory=list)
    seen: dict[str, Stamp | None] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def refuse(self, doing: str) -> None:
        """Raise Conflict if anything would be lost."""
        reasons = [
            (self.changed, "changed since it was committed or checked out"),
            (self.untracked, "not tracked"),
            (
                self.text,
                "only the table that was read from it was committed, not the text or order of the file",
            ),
        ]
        told = [f"{_listing(paths)} ({reason})" for paths, reason in reasons if paths]
        if told:
            raise Conflict(
                f"{doing} would overwrite or remove {'; '.join(told)}",
                hint="commit it, or move it away; --force gives it up",
            )


def _listing(paths: list[str]) -> str:
    shown = ", ".join(names.quoted(path) for path in sorted(paths)[:5])
    return shown if len(paths) <= 5 else f"{shown} and {len(paths) - 5} more"


class Workspace:
    """A working directory. ``author`` signs the refs that are made through it."""

    def __init__(self, directory: str | Path, *, author: str | None = None) -> None:
        self.directory = Path(directory).absolute()
        self._author = author
        self._repository: Repository | None = None

    def __repr__(self) -> str:
        return f"<Workspace {self.directory}>"

    @classmethod
    def init(
        cls, directory: str | Path = ".", location: str | Path | None = None, *, author: str | None = None
    ) -> Workspace:
        """Make a directory a workspace, with a repository inside, or one at ``location``.

        A repository that is not there yet is made. Raises Conflict where the directory lies in a
        workspace or repository already.
        """
        root = Path(directory).absolute()
        place = root / locate.WORKSPACE
        outer = locate.find_workspace(root)
        half_made = outer == root and not cls._complete(root)
        # A repository elsewhere may have been moved: then the workspace is attached anew.
        lost = location is not None and outer == root and cls._lost(root)
        if outer is not None and not half_made and not lost:
            where = "is a workspace already" if outer == root else f"lies inside the workspace {outer}"
            raise Conflict(f"{root} {where}", hint="use it, or choose another place")
        around = root if (root / REPOSITORY_KEY).is_file() else enclosing(root)
        if around is not None:
            raise Conflict(
                f"{root} {'is' if around == root else 'lies inside'} the repository {around}",
                hint="a workspace needs a directory outside; 'fsvc init --attach' makes one for a repository",
            )
        pointed: Path | None = None
        if location is not None:
            there = locate.local_path(location)
            if root.resolve().is_relative_to(there.resolve()):
                raise Conflict(
                    f"{there} would hold its own workspace",
                    hint="keep the repository in a directory of its own",
                )
            pointed = _repository_at(there, author, make=not lost)
        try:
            place.mkdir(parents=True, exist_ok=True)
            # Whoever keeps the directory in git does not want the repository in there.
            with replacing(place / ".gitignore") as new:
                new.write_text("*\n", encoding="ascii")
        except OSError as error:
            raise StorageError(f"{place} cannot be made: {error.strerror or error}") from error
        if pointed is None:
            init_repository(place / "repository", author=author)
        else:
            # A repository below the workspace is found again when both are moved.
            below = pointed.is_relative_to(root.resolve())
            text = os.path.relpath(pointed, root.resolve()) if below else str(pointed)
            with replacing(place / locate.POINTER) as new:
                new.write_bytes(strictjson.seal({"repository": text}))
        branch = history.DEFAULT_BRANCH
        if lost:
            # The repository may be another one: no file is believed to be safe in it.
            with suppress(Corruption, UnknownFormat):
                branch = tracking.load(root, branch).branch
        tracking.save(root, Tracking(branch))
        return cls(root, author=author)

    @staticmethod
    def _lost(root: Path) -> bool:
        """Whether the repository of a workspace is meant to lie elsewhere, and is not there."""
        if not locate.pointed_elsewhere(root):
            return False
        try:
            return not os.path.exists(locate.repository_path(root) / REPOSITORY_KEY)
        except Corruption:
            return True

    @staticmethod
    def _complete(root: Path) -> bool:
        place = root / locate.WORKSPACE
        return locate.pointed_elsewhere(root) or os.path.isfile(place / "repository" / REPOSITORY_KEY)

    @classmethod
    def find(cls, start: str | Path = ".", *, author: str | None = None) -> Workspace | None:
        """The workspace that a directory belongs to; None where it belongs to none."""
        found = locate.find_workspace(Path(start))
        return None if found is None else cls(found, author=author)

    @property
    def repository(self) -> Repository:
        """The repository of this workspace, on the workspace's current branch.

        Raises NotFound where its pointer leads nowhere.
        """
        if self._repository is None:
            store = locate.open_workspace_store(self.directory)
            self._repository = Repository(store, branch=self.branch, author=self._author)
        return self._repository

    @property
    def branch(self) -> str:
        """The current branch; it need not have a commit yet."""
        return self._load().branch

    def snapshots(self) -> frozenset[str]:
        """The ids of the snapshots that the working files were recorded with."""
        return frozenset(file.snapshot for file in self._load().files.values())

    def _load(self) -> Tracking:
        return tracking.load(self.directory, history.DEFAULT_BRANCH)

    # -- tracking --------------------------------------------------------------------------------

    def relative(self, path: str | Path) -> str | None:
        """A path as the workspace records it; None where it lies outside, or in ``.fsvc``."""
        spelled = Path(os.path.normpath(Path(path).absolute()))
        # As it is spelled first, so that a folder that is a link to elsewhere still counts as inside.
        resolved = spelled.parent.resolve() / spelled.name
        for file, root in ((spelled, self.directory), (resolved, self.directory.resolve())):
            if file != root and file.is_relative_to(root):
                relative = file.relative_to(root)
                return None if relative.parts[0] == locate.WORKSPACE else relative.as_posix()
        return None

    def path_of(self, feature_set: str) -> Path:
        """The working file of a feature set: the one that is tracked, or NAME.parquet."""
        return self.directory / (self._load().path_of(feature_set) or _default_path(feature_set))

    def feature_set_of(self, path: str | Path) -> str | None:
        """The feature set whose working file a path is; None where it is none's."""
        return self.feature_sets_of([path])[0]

    def feature_sets_of(self, paths: Iterable[str | Path]) -> list[str | None]:
        """:meth:`feature_set_of` for many paths at once."""
        files = self._load().files
        found = [files.get(relative) if (relative := self.relative(path)) else None for path in paths]
        return [None if file is None else file.feature_set for file in found]

    def stamp(self, path: str | Path) -> Stamp | None:
        """What to give :meth:`record` as ``before``, taken before a file is committed."""
        return stamp_of(Path(path))

    def record(
        self, path: str | Path, snapshot: Snapshot, *, before: Stamp | None = None, written: bool = False
    ) -> bool:
        """Remember that a file holds a snapshot; it becomes the working file of that feature set.

        ``before`` is the file's stamp from before the commit read it: only a file that still has it
        is believed to be what was committed; without it, the next status reads the file. ``written``
        says that the file was just written from the snapshot; such a file is recorded only where the
        feature set has no other working file.

        Says whether it was recorded: paths outside the workspace, folders and globs are not.
        """
        return self._record([(path, snapshot, before)], written=written) == 1

    def record_all(self, files: Iterable[tuple[str | Path, Snapshot, Stamp | None]]) -> int:
        """:meth:`record` for many files at once: paths, snapshots, and stamps from before. Says how many were."""
        return self._record(files, written=False)

    def _record(self, files: Iterable[tuple[str | Path, Snapshot, Stamp | None]], *, written: bool) -> int:
        entries = [
            (*found, snapshot.name)
            for path, snapshot, before in files
            if (found := self._entry(path, snapshot, before, written=written)) is not None
        ]
        if not entries:
            return 0
        done = 0
        with tracking.locked(self.directory):
            state = self._load()
            paths = {file.feature_set: path for path, file in reversed(state.files.items())}
            for relative, entry, name in entries:
                other = paths.get(name)
                if written and other not in (None, relative) and os.path.lexists(self.directory / str(other)):
                    continue
                if other is not None and state.files[other].feature_set == name:
                    del state.files[other]
                state.files[relative] = entry
                paths[name] = relative
                done += 1
            if done:
                tracking.save(self.directory, state)
        return done

    def _entry(
        self, path: str | Path, snapshot: Snapshot, before: Stamp | None, *, written: bool
    ) -> tuple[str, TrackedFile] | None:
        """How a file is recorded, by its path in the workspace; None where it is not."""
        relative = self.relative(path)
        target = Path(path).absolute()
        stamp = stamp_of(target)
        if relative is None or stamp is None or not _is_text(relative):
            return None
        if stamp_of(self.directory / relative) != stamp:
            return None  # spelled with a ".." behind a link: another file than it seems
        known = written or stamp == before
        digest = _digest(target) if known else None
        if digest is None or stamp_of(target) != stamp:
            known = False
        change = snapshot.commit.changes.get(snapshot.name)
        as_given = change is not None and "sort_by" not in change and _holds_tables_only(relative)
        entry = TrackedFile(snapshot.name, snapshot.id, -1, 0, "", False)
        if known and digest is not None:
            entry = TrackedFile.of(
                snapshot.name, snapshot.id, stamp, digest, reproducible=written or as_given
            )
        return relative, entry

    # -- status ----------------------------------------------------------------------------------

    def status(self, *, progress: Progress = silent) -> list[FileStatus]:
        """All tracked files, and untracked ones that look like tables, by path.

        A file counts as changed by its content: that it was touched, or written anew with the same
        table, changes nothing. Hidden folders, and those with repositories, are not searched.
        """
        state = self._load()
        head = self.repository.head(state.branch)
        there = head.record.feature_sets if head is not None else {}
        found: list[FileStatus] = []
        fresh: dict[str, TrackedFile] = {}
        for path, file in state.files.items():
            at_head = there.get(file.feature_set)
            latest = at_head.snapshot if at_head is not None else None
            at_branch = head.snapshot(file.feature_set) if head is not None and latest is not None else None
            now, held, problem = self._look(path, state, at_branch, progress)
            if held is not None:
                fresh[path] = held
            recorded = held or file
            found.append(FileStatus(path, now, recorded.feature_set, recorded.snapshot, latest, problem))
        found.extend(FileStatus(path, "untracked") for path in self._data_files() if path not in state.files)
        self._refresh(state, fresh)
        return sorted(found, key=lambda entry: entry.path)

    def _look(
        self, path: str, state: Tracking, head: Snapshot | None, progress: Progress = silent
    ) -> tuple[FileState, TrackedFile | None, str | None]:
        """What became of a tracked file; how to record it, if it was read and unchanged; why it is no table.

        Apart from the snapshot that it was recorded with, it may hold that of the branch's head.
        """
        file, target = state.files[path], self.directory / path
        if not os.path.lexists(target):
            return "missing", None, None
        stamp = stamp_of(target)
        if stamp is None:
            return "modified", None, "it is not a file"
        if state.untouched(file, stamp):
            return "unchanged", None, None
        digest = _digest(target)
        if digest is None:
            return "modified", None, "it cannot be read"
        if digest == file.digest:
            return "unchanged", file.stamped(stamp, digest), None
        problem: str | None = None
        identities: dict[tuple[str, ...], str | None] = {}
        keys = {file.snapshot: self.repository.store.manifest(file.snapshot).key}
        if head is not None and head.id not in keys:
            keys[head.id] = head.key
        for candidate, key in keys.items():
            if key not in identities:
                identities[key], problem = _identity(target, key, progress)
            if identities[key] == candidate and stamp_of(target) == stamp:
                exact = _holds_tables_only(path)
                held = TrackedFile.of(file.feature_set, candidate, stamp, digest, reproducible=exact)
                return "unchanged", held, None
        return "modified", None, problem

    def _refresh(self, seen: Tracking, fresh: Mapping[str, TrackedFile]) -> None:
        """Remember what was found by reading files, so that they need not be read again. Best effort."""
        if not fresh:
            return
        try:
            with tracking.locked(self.directory, wait=False):
                state = self._load()
                if state.files == seen.files and state.branch == seen.branch:
                    state.files.update(fresh)
                    tracking.save(self.directory, state)
        except (StorageError, Conflict):
            pass  # read-only, or somebody is at work: the next status looks again

    def _data_files(self) -> Iterator[str]:
        """Files that look like tables, as relative paths."""
        for folder, folders, files in os.walk(self.directory):
            here = Path(folder)
            if here != self.directory and ((here / locate.WORKSPACE).is_dir() or REPOSITORY_KEY in files):
                folders.clear()
                continue
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in files:
                plain = name.lower()
                for codec in _CODECS:
                    plain = plain.removesuffix(codec)
                if plain.endswith(_DATA) and not name.startswith("."):
                    yield (here / name).relative_to(self.directory).as_posix()

    # -- comparing -------------------------------------------------------------------------------

    def diff(
        self,
        commit: Commit | None = None,
        name: str | None = None,
        *,
        key: str | Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> dict[str, tuple[str, Diff | None]]:
        """What differs between a commit (the branch's head unless told) and the working files.

        By feature set the path of the file and the difference; None where the file is missing. Files that
        hold what the commit has are left out, and so are feature sets that the commit does not have. With
        ``name`` only this feature set's file is looked at.

        Raises NotFound for a feature set that the commit or the workspace does not have, and what
        :meth:`Repository.commit` does for files that could not be committed.
        """
        state = self._load()
        commit = commit or self.repository.head(state.branch)
        there = commit.record.feature_sets if commit is not None else {}
        paths = {file.feature_set: path for path, file in state.files.items()}
        if name is not None:
            if commit is None or name not in there:
                at = None if commit is None else commit.id
                raise history.unknown_feature_set(self.repository.store, name, at)
            paths = {name: paths.get(name, _default_path(name))}
        found: dict[str, tuple[str, Diff | None]] = {}
        for feature_set, path in sorted(paths.items()):
            if commit is None or feature_set not in there:
                continue
            target = self.directory / path
            if not os.path.lexists(target):
                if name is not None:
                    raise NotFound(
                        f"there is no file {path} to compare with", hint=f"'fsvc checkout {name}' writes it"
                    )
                found[feature_set] = path, None
                continue
            snapshot = commit.snapshot(feature_set)
            if path in state.files:
                now, held, _ = self._look(path, state, snapshot, progress)
                if now == "unchanged" and (held or state.files[path]).snapshot == snapshot.id:
                    continue
            diff = self.repository.diff(snapshot, target, key=key, progress=progress)
            if diff:
                found[feature_set] = path, diff
        return found

    # -- moving ----------------------------------------------------------------------------------

    def switch(
        self, branch: str, *, create: bool = False, force: bool = False, progress: Progress = silent
    ) -> Rewritten:
        """Make a branch the current one, and its head the content of the working files.

        Tracked files are rewritten where the head has another snapshot, and removed where it has none;
        feature sets that the old head does not have get a file. Changed files whose snapshot is
        the same on both branches are left as they are. With ``create`` the branch is made at the head
        of the current one, and no file is touched.

        Raises NotFound where there is no such branch; Conflict, before anything is touched, where a
        changed or untracked file would be overwritten or removed and ``force`` is False.
        """
        with tracking.locked(self.directory):
            state = self._load()
            before = self.repository.head(state.branch)
            if create:
                return self._moved(state, branch, self._create(branch, before, state.branch))
            after = self._head_of(branch, state.branch)
            wanted: dict[str, Snapshot] = {}
            old = before.record.feature_sets if before is not None else {}
            there = after.record.feature_sets if after is not None else {}
            for snapshot in after.snapshots() if after is not None else []:
                if snapshot.name not in old or state.path_of(snapshot.name) is not None:
                    self._want(wanted, state, snapshot, there)
            gone = [path for path, file in state.files.items() if file.feature_set not in there]
            plan = self._plan(state, wanted, gone, force=force, carry=True, progress=progress)
            plan.refuse(f"switching to branch {branch!r}")
            return self._apply(plan, state, branch, after, progress)

    def checkout(
        self, revision: str | None = None, *, force: bool = False, progress: Progress = silent
    ) -> Rewritten:
        """Write every feature set of a revision to its working file; the current branch stays.

        Files of other feature sets are left as they are. Raises Conflict, before anything is touched,
        where a changed or untracked file would be overwritten and ``force`` is False.
        """
        with tracking.locked(self.directory):
            state = self._load()
            self.repository.current_branch = state.branch
            commit = self.repository.resolve(revision)
            wanted: dict[str, Snapshot] = {}
            tracked = {file.feature_set for file in state.files.values()}
            for snapshot in commit.snapshots():
                self._want(wanted, state, snapshot, tracked)
            plan = self._plan(state, wanted, [], force=force, carry=False, progress=progress)
            plan.refuse(f"checking out {revision or state.branch}")
            return self._apply(plan, state, state.branch, commit, progress)

    def merge(
        self,
        make: Callable[[Repository], MergePlan],
        publish: Callable[[MergePlan], Commit],
        *,
        force: bool = False,
        progress: Progress = silent,
    ) -> Rewritten:
        """Put the outcome of a merge, revert or cherry-pick on the current branch and into its working files.

        ``make`` plans it, ``publish`` makes the commit. Before that the working files of what will change are
        looked at: raises Conflict, and nothing is done, where a changed or untracked file would be
        overwritten and ``force`` is False. Raises what planning and publishing raise.
        """
        with tracking.locked(self.directory):
            state = self._load()
            self.repository.current_branch = state.branch
            merge = make(self.repository)
            try:
                old = merge.ours.record.feature_sets
                staying = merge.preview().feature_sets
                wanted: dict[str, Snapshot] = {}
                for snapshot in merge.changed():
                    if snapshot.name not in old or state.path_of(snapshot.name) is not None:
                        self._want(wanted, state, snapshot, staying)
                plan = self._plan(state, wanted, [], force=force, carry=True, progress=progress)
                plan.refuse("merging")
                commit = publish(merge)
            except BaseException:
                merge.abandon()
                raise
            plan.write = {path: commit.snapshot(snapshot.name) for path, snapshot in plan.write.items()}
            try:
                return self._apply(plan, state, state.branch, commit, progress)
            except (Conflict, StorageError) as error:
                raise type(error)(
                    f"{history.short(commit.id)} is committed, but the working files are as before:"
                    f" {error.message}",
                    hint=f"'fsvc switch {state.branch}' brings them up to the branch",
                ) from error

    def _create(self, branch: str, head: Commit | None, current: str) -> Commit | None:
        if head is not None:
            self.repository.current_branch = current
            return self.repository.resolve(self.repository.branch(branch))
        # Before the first commit there is nothing that a branch could be made at: the commit makes it.
        names.check_ref_name(branch)
        if branch == current or branch in self.repository.branches():
            raise Conflict(f"branch {branch!r} is there already")
        return None

    def _head_of(self, branch: str, current: str) -> Commit | None:
        """The head to switch to; None where a branch is allowed to have none yet."""
        names.check_ref_name(branch)
        head = self.repository.head(branch)
        if head is None and branch not in (current, history.DEFAULT_BRANCH):
            near = names.nearest(branch, self.repository.branches())
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise NotFound(f"there is no branch {branch!r}", hint=f"{hint}'fsvc switch -c {branch}' makes it")
        return head

    def _moved(self, state: Tracking, branch: str, commit: Commit | None) -> Rewritten:
        state.branch = branch
        tracking.save(self.directory, state)
        self.repository.current_branch = branch
        return Rewritten(branch, commit)

    def _want(
        self, wanted: dict[str, Snapshot], state: Tracking, snapshot: Snapshot, staying: Container[str]
    ) -> None:
        """Choose the path for a snapshot: the tracked one if its format can be written, or NAME.parquet.

        Expectations are no working files. Raises Conflict where that is the file of another one of the feature sets
        that stay.
        """
        if expected_of(snapshot.name) is not None:
            from fsvc.expectations.held import is_home

            if is_home(snapshot.manifest):
                return
        path = state.path_of(snapshot.name)
        file = state.files[path] if path is not None else None
        same = file is not None and file.snapshot == snapshot.id
        if path is None or (not same and _format_of(path) is None):
            path = _default_path(snapshot.name)
        owner = state.files[path].feature_set if path in state.files else snapshot.name
        if path in wanted or (owner != snapshot.name and owner in staying):
            raise Conflict(
                f"{path}, where feature set {snapshot.name!r} would go, is the file of another feature set",
                hint="commit the other one from another path, which then is its file",
            )
        wanted[path] = snapshot

    def _plan(
        self,
        state: Tracking,
        wanted: Mapping[str, Snapshot],
        gone: Iterable[str],
        *,
        force: bool,
        carry: bool,
        progress: Progress,
    ) -> _Plan:
        """Decide for every file. With ``carry``, changes to a file whose snapshot stays are left alone."""
        plan = _Plan()
        moved = {
            path
            for path, file in state.files.items()
            if path not in wanted and any(file.feature_set == snapshot.name for snapshot in wanted.values())
        }
        for path, snapshot in wanted.items():
            self._plan_write(plan, state, path, snapshot, force=force, carry=carry, progress=progress)
        for path in sorted({*gone, *moved} - wanted.keys()):
            plan.forget.append(path)
            if os.path.lexists(self.directory / path):
                plan.seen[path] = stamp_of(self.directory / path)
                plan.remove.append(path)
                self._check_loss(plan, state, path, force=force, progress=progress)
        return plan

    def _plan_write(
        self,
        plan: _Plan,
        state: Tracking,
        path: str,
        snapshot: Snapshot,
        *,
        force: bool,
        carry: bool,
        progress: Progress,
    ) -> None:
        target, file = self.directory / path, state.files.get(path)
        plan.seen[path] = stamp = stamp_of(target)
        if not os.path.lexists(target):
            plan.write[path] = snapshot
            return
        if stamp is None:
            raise Conflict(f"{target} is in the way: it is not a file", hint="move it away")
        same = file is not None and (file.feature_set, file.snapshot) == (snapshot.name, snapshot.id)
        if same and carry and not force:
            return
        if file is not None:
            now, held, _ = self._look(path, state, snapshot, progress)
            content = (held or file) if now == "unchanged" else None
            if content is not None and (file.feature_set, content.snapshot) == (snapshot.name, snapshot.id):
                plan.record[path] = content
                return
        else:
            digest = _digest(target)
            identity, _ = _identity(target, snapshot.key, progress)
            if digest is not None and identity == snapshot.id and stamp_of(target) == stamp:
                exact = _holds_tables_only(path)
                plan.record[path] = TrackedFile.of(snapshot.name, identity, stamp, digest, reproducible=exact)
                return
        plan.write[path] = snapshot
        self._check_loss(plan, state, path, force=force, progress=progress)

    def _check_loss(
        self, plan: _Plan, state: Tracking, path: str, *, force: bool, progress: Progress
    ) -> None:
        """Note why a file that is there must not be overwritten or removed, if so."""
        target = self.directory / path
        if target.is_dir():
            raise Conflict(f"{target} is in the way: it is a folder", hint="move it away")
        if force:
            return
        file = state.files.get(path)
        if file is None:
            plan.untracked.append(path)
            return
        now, held, _ = self._look(path, state, None, progress)
        file = held or file
        if now != "unchanged":
            plan.changed.append(path)
        elif not (file.reproducible and _format_of(path) is not None):
            key = self.repository.store.manifest(file.snapshot).key
            if not _holds_tables_only(path) or _identity(target, key, progress)[0] != file.snapshot:
                plan.text.append(path)

    def _apply(
        self, plan: _Plan, state: Tracking, branch: str, commit: Commit | None, progress: Progress
    ) -> Rewritten:
        """Do what was planned. All files are written elsewhere in full before one is moved into place."""
        incoming = self.directory / locate.WORKSPACE / "incoming"
        try:
            shutil.rmtree(incoming, ignore_errors=True)  # left by a process that was killed
            if plan.write:
                incoming.mkdir()
            pending: dict[str, TrackedFile] = {}
            staged: dict[str, Path] = {}
            for number, (path, snapshot) in enumerate(sorted(plan.write.items())):
                staged[path] = incoming / str(number)
                _writer(path, snapshot)(staged[path], progress=progress)
                stamp, digest = stamp_of(staged[path]), _digest(staged[path])
                if stamp is None or digest is None:
                    raise StorageError(f"{staged[path]} vanished while it was being written")
                pending[path] = TrackedFile.of(snapshot.name, snapshot.id, stamp, digest, reproducible=True)
            self._refuse_late_changes(plan)
            if pending:
                tracking.save(self.directory, state, pending)
            for path, source in staged.items():
                _move(source, self.directory / path)
            for path in plan.remove:
                (self.directory / path).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{error.filename or self.directory} cannot be written: {error.strerror or error}"
            ) from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        for path in plan.forget:
            state.files.pop(path, None)
        state.files.update({**plan.record, **pending})
        state.branch = branch
        tracking.save(self.directory, state)
        self.repository.current_branch = branch
        return Rewritten(branch, commit, tuple(sorted(plan.write)), tuple(sorted(plan.remove)))

    def _refuse_late_changes(self, plan: _Plan) -> None:
        """Writing takes time: look once more whether anybody touched what is about to be replaced."""
        for path in (*plan.write, *plan.remove):
            if stamp_of(self.directory / path) != plan.seen[path]:
                raise Conflict(
                    f"{self.directory / path} was changed meanwhile", hint="nothing was touched; try again"
                )


def _repository_at(place: Path, author: str | None, *, make: bool) -> Path:
    """The repository directory at a location, with ``make`` made if there is none."""
    if (place / REPOSITORY_KEY).is_file():
        found = place
    elif (place / locate.WORKSPACE).is_dir():
        found = locate.repository_path(place)
    else:
        if make:
            init_repository(place, author=author)
        found = place
    locate.open_store(found)
    return found.resolve()


def _default_path(feature_set: str) -> str:
    """The file name of a feature set that has no working file. A name from a repository is not trusted."""
    try:
        names.check_feature_set_name(feature_set)
    except InvalidName as error:
        raise Corruption(f"the repository holds a name that cannot be: {error.message}") from None
    return f"{feature_set}.parquet"


def _is_text(path: str) -> bool:
    """Whether a path can be written down."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain_suffix(path: str) -> tuple[str, str | None]:
    """The suffix that tells the format, and the codec that a second one tells."""
    name = Path(path.lower())
    codec = _CODECS.get(name.suffix)
    return (Path(name.stem).suffix, codec) if codec is not None else (name.suffix, None)


def _format_of(path: str) -> Literal["parquet", "arrow", "csv"] | None:
    """The format that a path's suffix means, of those that can be written."""
    suffix, codec = _plain_suffix(path)
    if suffix in (".csv", ".tsv"):
        return "csv"
    if codec is not None:
        return None
    if suffix in (".parquet", ".pq"):
        return "parquet"
    return "arrow" if suffix in (".arrow", ".arrows", ".feather", ".ipc") else None


def _holds_tables_only(path: str) -> bool:
    """Whether a file with the identity of a snapshot holds nothing that the snapshot has not."""
    return _format_of(path) in ("parquet", "arrow")


def _writer(path: str, snapshot: Snapshot) -> Callable[..., None]:
    """What writes a snapshot in the format that a path's suffix means."""
    suffix, codec = _plain_suffix(path)
    kind = _format_of(path)
    if kind == "csv":
        delimiter = "\t" if suffix == ".tsv" else ","
        return partial(snapshot.write_csv, delimiter=delimiter, compression=codec)
    if kind == "arrow":
        return partial(snapshot.write_arrow, stream=suffix == ".arrows")
    return snapshot.write_parquet


def _digest(path: Path) -> str | None:
    try:
        return file_digest(path)
    except OSError:
        return None


def _identity(path: Path, key: tuple[str, ...], progress: Progress) -> tuple[str | None, str | None]:
    """The snapshot id of the table in a file; or none, and why the file cannot be committed as it is."""
    from fsvc.drafting import identify

    try:
        return identify(path, key=key, progress=progress).id, None
    except _ANOTHER_TABLE as error:
        return None, error.message


def _move(source: Path, target: Path) -> None:
    """Rename, or copy where a folder of the workspace lies on another file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with replacing(target) as beside:
            shutil.copy2(source, beside)
