"""The public face: open a repository, commit tables, find them again."""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from fsvc.engine import branching, history, locate, reads
from fsvc.engine.clock import given_time, teller, timestamp
from fsvc.engine.forks import remove_with
from fsvc.engine.progress import Progress, silent
from fsvc.engine.refs import RefEntry
from fsvc.engine.store import REPOSITORY_KEY, Store, create
from fsvc.errors import (
    Conflict,
    FsvcError,
    FsvcWarning,
    InvalidRevision,
    InvalidUse,
    NotFound,
    StorageError,
)
from fsvc.format import names
from fsvc.format.commit import is_id
from fsvc.format.revision import Revision, parse_address, parse_revision
from fsvc.snapshot import Commit, Snapshot
from fsvc.storage.local import LocalStorage
from fsvc.storage.overlay import OverlayStorage
from fsvc.storage.system import TEMPORARY_PREFIX

if TYPE_CHECKING:
    # Loaded when needed: looking at history should not wait for numpy and pyarrow.
    import duckdb

    from fsvc.blame import Blame
    from fsvc.diff import CommitDiff, Diff
    from fsvc.diff import Options as DiffOptions
    from fsvc.drafting import Keys
    from fsvc.drift import DriftReport, Thresholds
    from fsvc.engine.collection import Collected
    from fsvc.engine.committing import CommitDraft
    from fsvc.engine.erasing import Purged
    from fsvc.engine.expiring import Expiring
    from fsvc.engine.explaining import Explanation
    from fsvc.engine.pins import Pin
    from fsvc.engine.repack import Repacked
    from fsvc.engine.repair import Repaired
    from fsvc.engine.stats import Stats
    from fsvc.engine.verification import Report
    from fsvc.expectations import Expectation
    from fsvc.features.lookups import Lookup
    from fsvc.features.recipes import Options as QueryOptions
    from fsvc.features.splits import Split
    from fsvc.features.training import TrainingSet
    from fsvc.merging import MergePlan
    from fsvc.query.sandbox import Sandbox
    from fsvc.query.sql import Answer, Parameters

__all__ = ["Repository", "attach", "enclosing", "init", "open_repository"]

_MOST_TRIES = 20
"""How often a merge that only moves a branch is tried again when others are faster."""

_HELD = "not-committed"
"""The branch of a scratch repository on which a table that is not committed stands."""


def init(location: str | Path, *, author: str | None = None) -> Repository:
    """Make a directory a repository. Raises Conflict where it, or a directory above it, is one."""
    root = locate.local_path(location)
    outer = enclosing(root)
    if outer is not None:
        raise Conflict(
            f"{root} lies inside the repository {outer}",
            hint="a repository cannot hold another one; choose another place",
        )
    # An unfinished file is what a killed 'init' may have left: it must not stand in the next one's way.
    if os.path.exists(root) and not os.path.isdir(root):
        raise Conflict(f"{root} is a file", hint="a repository needs a directory of its own")
    found = _names_in(root)
    if REPOSITORY_KEY not in found and not all(name.startswith(TEMPORARY_PREFIX) for name in found):
        raise Conflict(f"{root} is not empty", hint="a repository needs a directory of its own")
    storage = LocalStorage(root, create=True)
    create(storage, time=timestamp())
    return open_repository(root, author=author)


def enclosing(root: Path) -> Path | None:
    """The repository directory above a path, if there is one."""
    for directory in root.absolute().parents:
        if os.path.isfile(directory / REPOSITORY_KEY):
            return directory
    return None


def _names_in(directory: Path) -> list[str]:
    """What lies in a directory, if it is one."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(
            f"cannot look into {directory}: {(error.strerror or 'it failed').lower()}"
        ) from error


def open_repository(
    location: str | Path | None = None, *, branch: str | None = None, author: str | None = None
) -> Repository:
    """Open a repository: the directory named, or the one of the workspace around the current directory.

    ``branch`` is the current branch, the default branch unless told; ``author`` signs commits.
    Raises NotFound, or UnknownFormat where a newer fsvc made it.
    """
    return Repository(locate.open_store(location), branch=branch, author=author)


def attach(
    connection: duckdb.DuckDBPyConnection, repository: Repository | str | Path | None = None
) -> duckdb.DuckDBPyConnection:
    """Give a DuckDB connection the names of a repository, and give it back.

    ``from fsvc('customers@v3')`` is a snapshot, resolved when the query runs; ``from customers`` is what
    the current branch held when this was called (call it again to follow); ``read_parquet`` takes
    ``fsvc://`` addresses. A table of the connection goes before a feature set of the same name, which is
    ``fsvc.customers`` then. The connection stays yours, to be closed when you like.
    """
    from fsvc.query import attaching

    if not isinstance(repository, Repository):
        repository = open_repository(repository)
    attaching.attach(connection, repository.store, repository.current_branch)
    return connection


def _default_author() -> str:
    """The name of the account that the process runs under."""
    try:
        import pwd

        entry = pwd.getpwuid(os.getuid())
        return entry.pw_gecos.split(",")[0] or entry.pw_name
    except (ImportError, KeyError):
        return "unknown"


class Repository:
    """An opened repository. Threads may share it, forked children go on with it, and it can be pickled."""

    def __init__(self, store: Store, *, branch: str | None = None, author: str | None = None) -> None:
        self._store = store
        self.current_branch = branch or history.DEFAULT_BRANCH
        self.author = author or _default_author()

    def __repr__(self) -> str:
        return f"<Repository {self.location}>"

    @property
    def store(self) -> Store:
        """The engine's view of this repository."""
        return self._store

    @property
    def location(self) -> str:
        """Where it is. Never holds a secret."""
        return self._store.storage.location

    @property
    def project(self) -> str:
        """The uuid that clones share and models carry."""
        return self._store.info.project

    @property
    def instance(self) -> str:
        """The uuid of this copy."""
        return self._store.info.instance

    # -- writing ---------------------------------------------------------------------------------

    def commit(
        self,
        data: Mapping[str, Any],
        *,
        message: str,
        key: Keys | None = None,
        sort_by: Keys | None = None,
        author: str | None = None,
        time: str | None = None,
        branch: str | None = None,
        tag: str | None = None,
        metadata: Mapping[str, str] | None = None,
        allow_empty: bool = False,
        verify: bool = True,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> Commit:
        """Commit whole tables, by feature set name; all of them or none. Durable on return.

        ``data`` values are pandas, polars or pyarrow tables, record batch readers, DuckDB relations,
        snapshots, or paths of Parquet, Arrow, CSV or JSON-lines files. ``key`` names key columns, for
        all or by feature set; where it is left out the parent's key stays, and an empty one drops it.
        Committing what is there already creates nothing: the commit that comes back says so.

        A branch that is not there begins with this commit. ``time`` is RFC 3339 with a zone.

        New tables are checked against the :meth:`expectations` of their feature sets; :attr:`Commit.reports` tells
        what came of it, a FsvcWarning what is only told of. Without ``verify`` they are not, and the commit says so.

        Raises ExpectationError where they are not met, UnsupportedData, KeyViolation and UnreadableInput for data that
        cannot be committed,
        ConflictError where another writer changed the same feature set meanwhile.
        """
        if not data and not allow_empty:
            raise InvalidUse("a commit needs at least one feature set", hint="pass {name: table}")
        stamp = None if time is None else given_time(time)
        draft = self.draft(
            data,
            key=key,
            sort_by=sort_by,
            branch=branch,
            threads=threads,
            progress=progress,
            metadata=metadata,
            tag=tag,
        )
        commit = self.publish(
            draft,
            message=message,
            author=author,
            time=stamp,
            metadata=metadata,
            allow_empty=allow_empty,
            tag=tag,
            verify=verify,
            progress=progress,
        )
        commit.warn()
        return commit

    def commit_query(
        self,
        name: str,
        query: str,
        parameters: Parameters | None = None,
        **options: Unpack[QueryOptions],
    ) -> Commit:
        """Commit the result of a query over feature sets, and with it the recipe: see :attr:`Snapshot.recipe`.

        ``query`` is one SELECT of DuckDB, as :meth:`sql` takes it, with ``parameters`` (numbers, texts, dates and
        times, bytes, lists of these). What it names without a revision is what ``branch`` has now; the recipe
        pins all of it by hash. It reads nothing else: a file, or a table in memory, is passed in ``tables=`` and
        named by its name there, and its identity is recorded. ``time_zone=`` is the session's, UTC unless told.

        It runs in one thread unless ``threads=`` says otherwise, since sums of floating-point numbers depend on how
        threads share the rows. A FsvcWarning says what of the result the query leaves open. Rows are streamed.

        ``message=`` has to be given; ``key``, ``author``, ``time``, ``branch``, ``tag``, ``metadata``, ``verify`` and
        ``progress`` are those of :meth:`commit`.

        Raises what :meth:`commit` and :meth:`sql` raise; NotAllowed for a query that reads a file by itself.
        """
        import warnings

        from fsvc.features.recipes import commit_query

        commit, notes = commit_query(self, name, query, parameters, **options)
        for sentence in notes:
            warnings.warn(f"{name}: {sentence}", FsvcWarning, stacklevel=2)
        commit.warn()
        return commit

    def training_set(
        self,
        spine: Any,
        lookups: Sequence[Lookup],
        *,
        time: str | None = None,
        label: str | Sequence[str] | None = None,
        split: Split | None = None,
    ) -> TrainingSet:
        """Features for every row of a spine, as they were known at the time of that row.

        ``spine`` says which rows there are: the address of a snapshot, a snapshot, a file as
        :class:`pathlib.Path`, or a table. ``time`` is its column with the time at which each row stands; no row of a
        feature set that is younger is ever taken. ``label`` names the columns to be predicted, ``split`` how
        rows are parted. The result has the spine's rows in their order, its columns, the columns of each lookup, and
        the split's; what was not found is null.

        Nothing is read but schemas before it is made: ``commit(name, message=...)``, ``snapshot()``,
        ``to_pandas()`` or ``describe()``; ``sql`` is the query.

        Raises NotFound for columns and snapshots that are not there, InvalidUse for types that cannot be compared,
        and for names that two columns would have. A FsvcWarning names columns that come out inexactly.
        """
        import warnings

        from fsvc.features.training import plan

        made = plan(self, spine, lookups, time=time, label=label, split=split)
        for sentence in made.inexact:
            warnings.warn(sentence, FsvcWarning, stacklevel=2)
        return made

    def publish(
        self,
        draft: CommitDraft,
        *,
        message: str,
        author: str | None = None,
        time: str | None = None,
        metadata: Mapping[str, str] | None = None,
        allow_empty: bool = False,
        tag: str | None = None,
        verify: bool = True,
        progress: Progress = silent,
    ) -> Commit:
        """Publish what :meth:`draft` wrote: the second half of :meth:`commit`."""
        from fsvc.expectations.gate import pass_gate

        try:
            clock = teller(time)
            reports = pass_gate(draft, time=clock(), verify=verify, progress=progress)
            done = draft.publish(
                message=message,
                author=author or self.author,
                time=clock,
                metadata=metadata,
                allow_empty=allow_empty,
            )
        except BaseException:
            draft.abandon()
            raise
        commit = Commit(self._store, done.commit, done.record, created=done.created, reports=reports)
        if tag is not None:
            self.tag(tag, commit.id, author=author)
        return commit

    def draft(
        self,
        data: Mapping[str, Any],
        *,
        key: Keys | None = None,
        sort_by: Keys | None = None,
        branch: str | None = None,
        tag: str | None = None,
        metadata: Mapping[str, str] | None = None,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> CommitDraft:
        """Write tables as snapshots, but publish nothing yet: the first half of :meth:`commit`."""
        from fsvc.drafting import draft

        return draft(
            self._store,
            data,
            branch or self.current_branch,
            key=key,
            sort_by=sort_by,
            tag=tag,
            metadata=metadata,
            threads=threads,
            progress=progress,
        )

    # -- expecting -------------------------------------------------------------------------------

    def expectations(self, address: str) -> list[Expectation]:
        """What is expected of a feature set at ``NAME`` or ``NAME@REVISION``, by name; mostly nothing.

        Raises NotFound for what is not there, UnknownFormat for expectations that a newer fsvc made.
        """
        return self.snapshot(address).expectations

    def expect(
        self,
        name: str,
        expectations: Any = (),
        *,
        remove: Sequence[str] = (),
        replace: bool = False,
        message: str | None = None,
        author: str | None = None,
        time: str | None = None,
        branch: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Commit:
        """Say what has to hold of every new table of a feature set, by a commit.

        ``expectations`` are mappings such as ``{"kind": "range", "column": "age", "min": 0}``, or
        :class:`fsvc.expectations.Expectation`; docs/expectations.md has the kinds. One that has the name of another
        takes its place; ``remove`` names those that are to go, or is ``all``; with ``replace`` all go that are not
        given. What
        the feature set has now is not checked: :meth:`Snapshot.check` does that.

        Raises NotFound for a feature set, a column or a name that is not there, InvalidUse for what makes no sense;
        nothing is written then.
        """
        from fsvc.expectations.changing import change_expectations

        return change_expectations(
            self,
            name,
            expectations,
            remove=remove,
            replace=replace,
            message=message,
            author=author,
            time=None if time is None else given_time(time),
            branch=branch,
            metadata=metadata,
        )

    # -- finding ---------------------------------------------------------------------------------

    def resolve(self, revision: str | Revision | None = None, *, feature_set: str | None = None) -> Commit:
        """The commit that a revision names; without one, the head of the current branch."""
        parsed = _parse(revision)
        found = history.resolve(self._store, parsed, branch=self.current_branch, feature_set=feature_set)
        return Commit(self._store, found.commit, found.record, ref=found.ref)

    def snapshot(self, address: str) -> Snapshot:
        """The snapshot at ``NAME`` or ``NAME@REVISION`` (or a ``fsvc://`` address of one)."""
        name, revision = parse_address(address.removeprefix("fsvc://"))
        return self.resolve(revision, feature_set=name).snapshot(name)

    def find(self, text: str | None) -> Commit | Snapshot:
        """The snapshot of ``NAME@REV``, the commit of ``REV``, or the current snapshot of ``NAME``.

        A revision goes before a feature set of the same name; nothing is the current branch's head.
        Raises NotFound where it is neither.
        """
        if text is None:
            return self.resolve()
        if "@" in text:
            return self.snapshot(text)
        try:
            return self.resolve(text)
        except (NotFound, InvalidRevision) as error:
            head = self.head()
            if head is not None and text in head.versions:
                return head.snapshot(text)
            known = {*self.branches(), *self.tags(), *(head.versions if head else ())}
            base = re.split(r"[~^{]", text, maxsplit=1)[0]
            # Where the name is right it is the steps or the time that are not, and the error says so.
            near = names.nearest(base, sorted(known)) if base and base not in known else []
            if near and not isinstance(error, InvalidRevision):
                raise NotFound(_or_feature_set(error), hint=f"did you mean {near[0]!r}?") from None
            if isinstance(error, NotFound) and base not in known:
                hint = error.hint and error.hint.replace("see 'fsvc log'", "see 'fsvc ls', 'fsvc log'")
                raise NotFound(_or_feature_set(error), hint=hint) from None
            raise

    def snapshots(self, revision: str | None = None) -> list[Snapshot]:
        """All snapshots at a revision, by name."""
        return self.resolve(revision).snapshots()

    def head(self, branch: str | None = None) -> Commit | None:
        """The commit at a branch's head, None where it has none."""
        commit = history.head(self._store, branch or self.current_branch)
        return None if commit is None else Commit(self._store, commit, self._store.commit(commit))

    def log(
        self,
        name: str | None = None,
        *,
        revision: str | None = None,
        limit: int | None = None,
        key: Any = None,
        between: tuple[Any, Any] | None = None,
    ) -> list[Commit]:
        """Commits, newest first: all that a revision stands on, or those that changed a feature set.

        With ``key`` or ``between``, as :meth:`blame` takes them, those that changed one of these rows.
        """
        if revision is None and self.head() is None:
            return []
        if key is not None or between is not None:
            if name is None:
                raise InvalidUse("a key is one of a feature set", hint="name the feature set")
            return self.blame(name, key, revision=revision, between=between).commits(limit)
        start = self.resolve(revision, feature_set=name)
        found: list[Commit] = []
        seen = False
        for commit, record in history.ancestors(self._store, [start.id]):
            seen = seen or name in record.feature_sets
            if name is None or name in record.changes:
                found.append(Commit(self._store, commit, record))
            if limit is not None and len(found) >= limit:
                break
        if name is not None and not seen and name not in start.record.feature_sets:
            raise history.unknown_feature_set(self._store, name, start.id)
        return found

    # -- asking ----------------------------------------------------------------------------------

    def sql(
        self,
        query: str,
        parameters: Parameters | None = None,
        *,
        tables: Mapping[str, Any] | None = None,
        sandbox: Sandbox | bool = False,
    ) -> duckdb.DuckDBPyRelation:
        """Ask in SQL: ``from customers@v3``, or ``from customers`` for the current branch.

        Gives a DuckDB relation, to be run by ``.df()``, ``.pl()``, ``.arrow()``, ``.fetchall()`` and the
        like; it stands on a connection of its own. ``parameters`` are values for ``?`` and ``$1``, or by
        name for ``$name``. ``tables`` are more tables to name in the query, by name: snapshots, or
        anything that can be committed (it is held in memory). With ``sandbox`` one SELECT runs at once,
        and reaches nothing but what it names, within the limits of a :class:`Sandbox`.

        Warns of columns that DuckDB sees inexactly. Raises NotFound for names that are not there,
        InvalidUse for what is not SQL, NotAllowed for what a sandbox does not give.
        """
        import warnings

        from fsvc.query.sandbox import Sandbox as Limits

        limits = Limits() if sandbox is True else sandbox or None
        answer = self.ask(query, parameters, tables=tables, limits=limits, light=True)
        for sentence in answer.inexact:
            warnings.warn(sentence, stacklevel=2)
        return answer.relation

    def ask(
        self,
        query: str,
        parameters: Parameters | None = None,
        *,
        tables: Mapping[str, Any] | None = None,
        limits: Sandbox | None = None,
        light: bool = False,
    ) -> Answer:
        """As :meth:`sql`, for who wants more than the relation: errors while it runs, and what is inexact."""
        from fsvc.query.sql import ask

        return ask(
            self._store,
            query,
            branch=self.current_branch,
            parameters=parameters,
            tables={name: _queried(table) for name, table in (tables or {}).items()},
            limits=limits,
            light=light,
        )

    # -- comparing -------------------------------------------------------------------------------

    @overload
    def diff(self, before: Commit, after: Commit, **options: Unpack[DiffOptions]) -> CommitDiff: ...

    @overload
    def diff(self, before: Snapshot, after: Any, **options: Unpack[DiffOptions]) -> Diff: ...

    @overload
    def diff(self, before: Any, after: Any, **options: Unpack[DiffOptions]) -> Any: ...

    def diff(self, before: Any, after: Any, **options: Unpack[DiffOptions]) -> Diff | CommitDiff:
        """What differs between two snapshots, or between all snapshots of two commits.

        Each side is a :class:`Snapshot`, a :class:`Commit`, or the address of one: ``"customers@v2"``,
        ``"main~1"``. ``after`` may also be a table that is not committed, of any kind that :meth:`commit`
        takes, paths as :class:`pathlib.Path`: it is compared with the snapshot ``before``. ``key``,
        ``threads`` and ``progress`` are those of :class:`fsvc.diff.Options`.

        Raises NotFound for what is not there, InvalidUse for a commit beside a snapshot.
        """
        from fsvc.diff import CommitDiff, Diff

        one = self.find(before) if isinstance(before, str) else before
        other = self.find(after) if isinstance(after, str) else after
        if isinstance(one, Snapshot) and not isinstance(other, (Commit, Snapshot)):
            other = self.held(
                other, one, threads=options.get("threads"), progress=options.get("progress", silent)
            )
        if isinstance(one, Snapshot) and isinstance(other, Snapshot):
            return Diff(one, other, **options)
        if isinstance(one, Commit) and isinstance(other, Commit):
            return CommitDiff(one, other, **options)
        if not isinstance(one, (Commit, Snapshot)):
            raise InvalidUse("a table is compared with a snapshot before it", hint="swap the two sides")
        raise InvalidUse(
            "a commit cannot be compared with a snapshot", hint="write NAME@REV on both sides, or on neither"
        )

    def drift(
        self,
        before: Any,
        after: Any,
        *,
        columns: Sequence[str] | None = None,
        thresholds: Thresholds | None = None,
        bins: int = 10,
        exact: bool | None = None,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> DriftReport:
        """How the distributions of a feature set's columns moved from one snapshot to another.

        Each side is a :class:`Snapshot` or the address of one; ``after`` may also be a table that is not
        committed, as in :meth:`diff`. Compared are ``columns``, else the selected ones of ``before``, else
        all but its key. ``thresholds`` say what counts as drift; ``bins`` is how many bins of equal content
        the numbers before are cut into; ``exact`` computes distances of numbers from all values, however many.

        Raises NotFound for what is not there, InvalidUse for options that make no sense.
        """
        from fsvc.drift import Options, Thresholds, compare

        one = self.snapshot(before) if isinstance(before, str) else before
        other = self.snapshot(after) if isinstance(after, str) else after
        if not isinstance(one, Snapshot):
            raise InvalidUse(
                "drift is measured from a snapshot on", hint="write NAME@REV, or swap the two sides"
            )
        if not isinstance(other, Snapshot):
            other = self.held(other, one, threads=threads, progress=progress)
        chosen = None if columns is None else tuple(columns)
        options = Options(chosen, bins, exact, thresholds or Thresholds())
        return compare(one, other, options, progress=progress)

    def held(
        self, table: Any, like: Snapshot, *, threads: int | None = None, progress: Progress = silent
    ) -> Snapshot:
        """A table that is not committed as the snapshot it would be on top of another one.

        Nothing is written to the repository: what is new lies in a temporary directory, which is gone
        with the snapshot. Raises what :meth:`commit` does for tables that cannot be committed.
        """
        over = self.scratch()
        over.branch(_HELD, like.commit.id)
        draft = over.draft({like.name: table}, key=like.key, branch=_HELD, threads=threads, progress=progress)
        done = draft.publish(message="not committed", author=over.author)
        return Commit(over.store, done.commit, done.record).snapshot(like.name)

    def scratch(self) -> Repository:
        """A repository over this one: what is committed to it is seen through it alone, and gone with it."""
        folder = tempfile.mkdtemp(prefix="fsvc-scratch-")
        store = Store(OverlayStorage(self._store.storage, LocalStorage(folder)))
        remove_with(store, folder)
        return Repository(store, branch=self.current_branch, author=self.author)

    def blame(
        self,
        name: str,
        key: Any = None,
        *,
        revision: str | None = None,
        between: tuple[Any, Any] | None = None,
    ) -> Blame:
        """The history of one row, or of the rows of a range of keys, down to the cell.

        ``key`` is the value of the key column, or a tuple with one for each; values may be given as text.
        ``between`` is the least and the greatest key instead, None where there is no end. History begins at
        ``revision``, the current branch unless told. Only the groups that can hold the keys are read, and
        of these only chunks that differ from one version to the next.

        Raises NotFound for an unknown feature set, InvalidUse for one without a key and for values that are
        none of the key's.
        """
        from fsvc.blame import Blame

        return Blame(self, name, self.resolve(revision, feature_set=name), key, between)

    # -- merging ---------------------------------------------------------------------------------

    def merge(
        self,
        revision: str,
        *,
        branch: str | None = None,
        message: str | None = None,
        strategy: Literal["ours", "theirs"] | None = None,
        fast_forward: bool = True,
        base: str | None = None,
        author: str | None = None,
        time: str | None = None,
        metadata: Mapping[str, str] | None = None,
        verify: bool = True,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> Commit:
        """Merge a revision into a branch, the current one unless told; gives the commit that it then stands on.

        Feature sets that one side changed are taken over; those that both changed are merged by key, row by
        row and cell by cell. ``strategy`` settles conflicts by taking one side. Where the branch has nothing
        of its own it is moved forward, unless ``fast_forward`` is False. ``base`` is the commit against which
        changes are judged; unless told it is the best common ancestor. ``verify`` is as in :meth:`commit`: what the
        merge brings together is checked; what is moved forward to was.

        Raises :class:`fsvc.errors.MergeConflict`, which lists the rows; nothing is written then. Raises
        ConflictError where another writer changed the same feature set meanwhile.
        """
        from fsvc.merging import carry_out

        for _ in range(_MOST_TRIES):
            plan = self.plan_merge(
                revision,
                branch=branch,
                strategy=strategy,
                fast_forward=fast_forward,
                base=base,
                threads=threads,
                progress=progress,
            )
            try:
                done = carry_out(plan, message, author, time, metadata, verify)
            except Conflict:
                # Somebody was first where the branch was only to be moved: then it is no fast-forward any more.
                if plan.kind != "fast-forward":
                    raise
            else:
                done.warn()
                return done
        raise Conflict("the branch moved each time it was to be merged into", hint="try again")

    def plan_merge(
        self,
        revision: str,
        *,
        branch: str | None = None,
        strategy: Literal["ours", "theirs"] | None = None,
        fast_forward: bool = True,
        base: str | None = None,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> MergePlan:
        """What :meth:`merge` would do, with its conflicts; nothing is written before it is published."""
        from fsvc.merging import plan_merge

        return plan_merge(
            self,
            revision,
            branch or self.current_branch,
            strategy=strategy,
            fast_forward=fast_forward,
            base=base,
            threads=threads,
            progress=progress,
        )

    def revert(
        self,
        revision: str,
        *,
        mainline: int | None = None,
        branch: str | None = None,
        message: str | None = None,
        strategy: Literal["ours", "theirs"] | None = None,
        author: str | None = None,
        time: str | None = None,
        metadata: Mapping[str, str] | None = None,
        verify: bool = True,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> Commit:
        """Take back what a commit changed, by a new commit; what came later stays.

        Of a merge, ``mainline`` says the parent, from 1, to which to go back. ``theirs`` as strategy takes
        back also what was changed again later. Raises as :meth:`merge` does, and InvalidUse for the first
        commit, or one that added a feature set: versions are never taken back.
        """
        from fsvc.merging import carry_out

        plan = self.plan_revert(
            revision, mainline=mainline, branch=branch, strategy=strategy, threads=threads, progress=progress
        )
        done = carry_out(plan, message, author, time, metadata, verify)
        done.warn()
        return done

    def plan_revert(
        self,
        revision: str,
        *,
        mainline: int | None = None,
        branch: str | None = None,
        strategy: Literal["ours", "theirs"] | None = None,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> MergePlan:
        """What :meth:`revert` would do; nothing is written before it is published."""
        from fsvc.merging import plan_revert

        return plan_revert(
            self,
            revision,
            branch or self.current_branch,
            mainline=mainline,
            strategy=strategy,
            threads=threads,
            progress=progress,
        )

    def cherry_pick(
        self,
        revision: str,
        *,
        mainline: int | None = None,
        branch: str | None = None,
        message: str | None = None,
        strategy: Literal["ours", "theirs"] | None = None,
        author: str | None = None,
        time: str | None = None,
        metadata: Mapping[str, str] | None = None,
        verify: bool = True,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> Commit:
        """Put what one commit changed on top of a branch, by a new commit of the same author and message.

        Of a merge, ``mainline`` says against which parent, from 1, its changes are meant. Raises as
        :meth:`merge` does.
        """
        from fsvc.merging import carry_out

        plan = self.plan_cherry_pick(
            revision, mainline=mainline, branch=branch, strategy=strategy, threads=threads, progress=progress
        )
        done = carry_out(plan, message, author or plan.theirs.author, time, metadata, verify)
        done.warn()
        return done

    def plan_cherry_pick(
        self,
        revision: str,
        *,
        mainline: int | None = None,
        branch: str | None = None,
        strategy: Literal["ours", "theirs"] | None = None,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> MergePlan:
        """What :meth:`cherry_pick` would do; nothing is written before it is published."""
        from fsvc.merging import plan_cherry_pick

        return plan_cherry_pick(
            self,
            revision,
            branch or self.current_branch,
            mainline=mainline,
            strategy=strategy,
            threads=threads,
            progress=progress,
        )

    # -- refs ------------------------------------------------------------------------------------

    def branches(self) -> dict[str, str]:
        """Branches and the commits at their heads, by name."""
        return branching.live(self._store, "heads")

    def tags(self) -> dict[str, str]:
        """Tags and their commits, by name."""
        return branching.live(self._store, "tags")

    def branch(self, name: str, revision: str | None = None, *, author: str | None = None) -> str:
        """Make a branch at a revision (the current head unless told) and give its commit."""
        entry = branching.refuse(self._store, "heads", name)
        commit = self.resolve(revision).id
        reason = f"branch: from {revision or self.current_branch}"
        branching.move(self._store, "heads", name, entry, commit, reason, author or self.author)
        return commit

    def delete_branch(self, name: str, *, author: str | None = None) -> str:
        """Delete a branch and give the commit it had; its log stays."""
        return branching.delete(self._store, "heads", name, author=author or self.author)

    def tag(self, name: str, revision: str | None = None, *, author: str | None = None) -> str:
        """Tag a revision (the current head unless told) and give its commit. Tags never move."""
        entry = branching.refuse(self._store, "tags", name)
        commit = self.resolve(revision).id
        branching.move(self._store, "tags", name, entry, commit, "tag", author or self.author)
        return commit

    def delete_tag(self, name: str, *, author: str | None = None) -> str:
        """Delete a tag and give the commit it had; its log stays."""
        return branching.delete(self._store, "tags", name, author=author or self.author)

    def pins(self) -> list[Pin]:
        """What keeps the data of models alive: a pin for each commit that a logged model stands on."""
        from fsvc.engine.pins import list_pins

        return list_pins(self._store)

    def reflog(self, name: str | None = None, *, kind: str | None = None) -> list[RefEntry]:
        """Every move of a branch (or of a tag), newest first; the current branch unless told."""
        kinds = ["heads", "tags"] if kind is None else [kind]
        return branching.log(self._store, kinds, name or self.current_branch)

    # -- looking after it ------------------------------------------------------------------------

    def verify(self, *, deep: bool = False, progress: Progress = silent) -> Report:
        """Read all that is stored and report what is damaged or missing, and which snapshots that affects.

        Every object's checksum is computed. ``deep`` also decodes every chunk, proves its digest and
        computes its Parquet statistics again.
        """
        from fsvc.engine.verification import verify

        return verify(self._store, deep=deep, progress=progress)

    def repair(
        self, *sources: Repository | str | Path, deep: bool = False, progress: Progress = silent
    ) -> Repaired:
        """Restore what is damaged or lost, and say what stays so and which snapshots are whole.

        ``sources`` are other repositories, or files with the same content as one that was committed, in the
        same order of rows. Whatever proves to be what is wanted is taken from them; without any, the index is
        made anew from packs. What is replaced is moved to ``quarantine/`` and never deleted. ``deep`` looks for
        damage as a deep :meth:`verify` does.

        Damaged entries of refs stay: nothing proves what they said. Raises NotFound and UnreadableInput for
        sources that cannot be read.
        """
        from fsvc.engine.repair import repair

        donors = [self._donor(source) for source in sources]
        return repair(self._store, [donor.store for donor in donors], deep=deep, progress=progress)

    def _donor(self, source: Repository | str | Path) -> Repository:
        """A repository that is given, or one that holds the table of a file with each key that is known here."""
        from fsvc.errors import KeyViolation
        from fsvc.sources import open_source

        if isinstance(source, Repository):
            return source
        if any(os.path.exists(os.path.join(source, name)) for name in (REPOSITORY_KEY, locate.WORKSPACE)):
            return open_repository(source)
        folder = tempfile.mkdtemp(prefix="fsvc-repair-")
        storage = LocalStorage(folder)
        create(storage, time=timestamp())
        donor = Repository(Store(storage), author=self.author)
        remove_with(donor.store, folder)
        with open_source(source) as opened:
            columns = set(opened.schema.names)
        for number, key in enumerate(sorted(history.keys(self._store))):
            if columns.issuperset(key):
                try:
                    donor.commit({f"table{number}": source}, key=key, message="for repair")
                except KeyViolation:
                    continue  # it is the key of another feature set
        return donor

    def repack(
        self, *, grace: float | None = None, dry_run: bool = False, progress: Progress = silent
    ) -> Repacked:
        """Put small packs and index files together, bring objects into their best form, and free what that left.

        No id changes, and others may read and commit meanwhile. Old packs are left in peace for ``grace``
        seconds (a day unless told), and deleted by the next repack after that. A grace of 0 deletes at once: only
        where nobody else is at work.

        Raises StorageError, and Corruption where an index file is damaged.
        """
        from fsvc.engine.condemned import GRACE_SECONDS
        from fsvc.engine.repack import repack

        seconds = _grace(grace, GRACE_SECONDS)
        return repack(self._store, grace=seconds, dry_run=dry_run, progress=progress)

    def gc(
        self,
        *,
        delete: bool = False,
        grace: float | None = None,
        snapshots: Iterable[str] = (),
        progress: Progress = silent,
    ) -> Collected:
        """Find what no entry of any ref reaches; with ``delete`` free it, in two phases.

        Without ``delete`` nothing is done. With it garbage is condemned, left in peace for ``grace`` seconds (14 days
        unless told), and deleted by the next collection after that, if nothing has come to need it. A grace of 0
        deletes at once: only where nobody else is at work. ``snapshots`` are ids to keep besides.

        Raises Corruption where anything that a ref reaches is damaged or missing: then nothing is deleted.
        """
        from fsvc.engine.collection import GC_GRACE_SECONDS, collect

        return collect(
            self._store,
            delete=delete,
            grace=_grace(grace, GC_GRACE_SECONDS),
            snapshots=snapshots,
            progress=progress,
        )

    def expire(
        self,
        *feature_sets: str,
        last: int = 0,
        within: float = 0,
        daily: int = 0,
        weekly: int = 0,
        monthly: int = 0,
        yearly: int = 0,
        snapshots: Iterable[str] = (),
        delete: bool = False,
        author: str | None = None,
        progress: Progress = silent,
    ) -> Expiring:
        """Let the data of old versions expire, of all feature sets or of some; without ``delete``, tell which.

        Kept are the newest ``last`` versions, those of ``within`` days, and the newest of each of so many days, ISO
        weeks, months and years that have any; whatever the newest commit of a branch, a tag or a pin holds; and
        ``snapshots``, ids to keep besides. Commits stay, with their ids, messages and version numbers. Nothing is
        freed before the next :meth:`gc`; until then it can be taken back, and read. Reading it later raises
        :class:`fsvc.errors.ExpiredError`.

        Raises NotFound for an unknown feature set, InvalidUse where nothing is said to be kept.
        """
        from fsvc.engine.expiring import Policy, expire

        return expire(
            self._store,
            Policy(last, within, daily, weekly, monthly, yearly),
            feature_sets,
            snapshots=snapshots,
            delete=delete,
            author=author or self.author,
            progress=progress,
        )

    def take_back(self, record: str, *, author: str | None = None) -> Expiring:
        """Take an expiry back, by the id of its record, for all versions whose data are still there.

        Raises NotFound where there is no such record, GoneError where all of it was freed.
        """
        from fsvc.engine.expiring import take_back

        return take_back(self._store, record, author=author or self.author)

    def expired(self) -> frozenset[str]:
        """The ids of snapshots that have expired, whether their data were freed or not yet."""
        self._store.expired.refresh()
        if not self._store.expired.records:
            return frozenset()  # as in most repositories: looking at history should not wait for numpy
        from fsvc.engine.expiring import let_go

        return let_go(self._store)

    def purge(
        self,
        name: str,
        *,
        keys: Iterable[Any] = (),
        between: tuple[Any, Any] | None = None,
        where: str | None = None,
        finish: bool = False,
        reason: str = "",
        delete: bool = False,
        author: str | None = None,
        progress: Progress = silent,
    ) -> Purged:
        """Find rows in all versions of a feature set; with ``delete`` erase them, for good and at once.

        Rows are named by ``keys``, each as :meth:`blame` takes one, by the least and the greatest key (``between``),
        or by ``where``, a condition in SQL: what it finds in any version is followed by key through all. What goes are
        whole row groups: the other rows of such a group cannot be read any more in the versions that have
        it. Without ``delete`` nothing is done but telling what that would be. ``reason`` is kept for ever, with the
        time and the author, and told to whoever reads an erased version (:class:`fsvc.errors.ErasedError`): it
        should not name anybody.

        Raises NotFound for an unknown feature set, InvalidUse for one without a key and for values that are none of the
        key's. With ``delete`` raises Conflict as long as the head of a branch holds such rows. After it was
        interrupted it may be called again, and goes on then; or with ``finish`` in place of rows and reason, which
        finishes all purges that were interrupted. Until then they stand in ``unfinished`` of what this,
        :meth:`verify`, :meth:`gc` and :meth:`repack` give.
        """
        from fsvc.engine.erasing import nothing_more, purge
        from fsvc.query.searching import row_search

        wanted = list(keys)
        if finish and (wanted or between or where is not None):
            raise InvalidUse("to finish is to erase no more rows", hint="name no rows with it")
        return purge(
            self._store,
            name,
            nothing_more if finish else row_search(name, wanted, between, where),
            delete=delete,
            author=author or self.author,
            reason=reason,
            progress=progress,
        )

    def explain(self, identifier: str, *, snapshots: Iterable[str] = ()) -> Explanation:
        """Say what keeps the commit, snapshot, object or pack whose id begins so.

        Raises NotFound where nothing is called so, InvalidUse where several things are.
        """
        from fsvc.engine.explaining import explain

        return explain(self._store, identifier, snapshots)

    def stats(self, *, progress: Progress = silent) -> Stats:
        """How much is stored, and how much data it stands for, in all and by feature set."""
        from fsvc.engine.stats import stats

        return stats(self._store, progress=progress)


def _grace(grace: float | None, usual: int) -> int:
    """A grace given by the caller, in whole seconds. Raises InvalidUse."""
    if grace is not None and not 0 <= grace < float("inf"):
        raise InvalidUse("a grace is a number of seconds, 0 or more")
    return usual if grace is None else math.ceil(grace)


def _or_feature_set(error: FsvcError) -> str:
    """What is said where a word could have been the name of a feature set as well."""
    return error.message.replace("branch, tag or commit", "branch, tag, commit or feature set")


def _parse(revision: str | Revision | None) -> Revision:
    if revision is None:
        return Revision()
    if isinstance(revision, Revision):
        return revision
    if is_id(revision):
        return Revision(revision)
    return parse_revision(revision)


def _queried(table: Any) -> Any:
    """A table for a query to name: a snapshot is read in place, anything else as it would be committed."""
    if isinstance(table, Snapshot):
        if table.columns is not None:
            return table.to_arrow()
        reads.reading(table.store, table.commit.record, table.name, None)
        return table.reader
    import pyarrow as pa

    from fsvc.sources import open_source

    with open_source(table) as source:
        return pa.Table.from_batches(source.batches(), source.schema)
