"""Recipes: feature sets that are the result of a query, which can be run again, or on other tables.

A query is run in a session that reaches nothing but what it names: snapshots, and tables that it was given. What it
read is recorded by hash in the commit that holds the result (:mod:`fsvc.format.recipe`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Required, TypedDict

import pyarrow as pa

from fsvc.drafting import Keys
from fsvc.engine import history
from fsvc.engine.progress import Progress, silent
from fsvc.errors import (
    Corruption,
    FsvcError,
    InvalidUse,
    NotAllowed,
    NotFound,
    SkewError,
    UnknownFormat,
)
from fsvc.features.skew import compare_features, compare_inputs
from fsvc.format.names import nearest, quoted
from fsvc.format.recipe import MEMBER, GivenTable, RecipeRecord
from fsvc.format.reference import Reference
from fsvc.query.determinism import undetermined
from fsvc.query.sql import Answer, ask
from fsvc.repository import Repository
from fsvc.snapshot import Commit, Snapshot
from fsvc.sources import BATCH_ROWS, Source, open_source

if TYPE_CHECKING:
    from fsvc.diff import Diff
    from fsvc.engine.store import Store
    from fsvc.query.sql import Parameters

__all__ = [
    "Options",
    "Published",
    "Rebuilt",
    "Recipe",
    "Recorded",
    "Running",
    "commit_query",
    "programs",
    "run_query",
    "settings",
    "snapshot_of",
]


_MOST_THREADS = 1024


def settings(*, time_zone: str = "UTC", threads: int | None = 1) -> dict[str, str]:
    """The settings of DuckDB that a result may depend on. Without ``threads`` it must not depend on their number."""
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise InvalidUse(f"a query runs in 1 to {_MOST_THREADS} threads, not in {threads}")
    found = {
        "TimeZone": time_zone,
        "Calendar": "gregorian",
        "default_order": "ASC",
        "default_null_order": "NULLS_LAST",
        "integer_division": "false",
        "preserve_insertion_order": "true",
    }
    return found if threads is None else {**found, "threads": str(threads)}


@dataclass(frozen=True)
class _Given:
    """A table from outside, held so that it can be read as often as a query wants: a snapshot of its own."""

    held: Snapshot
    path: str | None

    @classmethod
    def hold(cls, repository: Repository, table: Any, progress: Progress = silent) -> _Given:
        import os

        over = repository.scratch()
        made = over.commit(
            {"given": table}, branch="given", message="not committed", key=(), progress=progress
        )
        path = os.fspath(table) if isinstance(table, (str, os.PathLike)) else None
        return cls(made.snapshot("given"), path)

    @property
    def record(self) -> GivenTable:
        return GivenTable(self.held.id, self.held.num_rows, self.path)


class Published(TypedDict, total=False):
    """What a commit is given beside a query: as :meth:`Repository.commit` takes it, ``key`` of one feature set."""

    message: Required[str]
    key: Keys | None
    author: str | None
    time: str | None
    branch: str | None
    tag: str | None
    metadata: Mapping[str, str] | None
    verify: bool
    progress: Progress


class Options(Published, total=False):
    """And how the query is run: ``tables`` from outside by name, the session's time zone, the number of threads."""

    tables: Mapping[str, Any] | None
    time_zone: str
    threads: int


def commit_query(
    repository: Repository,
    name: str,
    query: str,
    parameters: Parameters | None = None,
    *,
    message: str,
    tables: Mapping[str, Any] | None = None,
    key: Keys | None = None,
    time_zone: str = "UTC",
    threads: int | None = 1,
    author: str | None = None,
    time: str | None = None,
    branch: str | None = None,
    tag: str | None = None,
    metadata: Mapping[str, str] | None = None,
    training_set: Mapping[str, Any] | None = None,
    verify: bool = True,
    progress: Progress = silent,
) -> tuple[Commit, list[str]]:
    """As :meth:`Repository.commit_query`; gives the commit, and sentences on what should be known of it."""
    # What has no form in a commit is refused before anything is read.
    RecipeRecord(query, {}, parameters=parameters).document()
    pinned, given = _inputs(repository, tables, progress)
    running = Running(
        repository,
        query,
        parameters,
        branch=branch or repository.current_branch,
        tables={
            **pinned,
            **{table_name: one.held for table_name, one in given.items()},
        },
        settings=settings(time_zone=time_zone, threads=threads),
    )
    with running as answer:
        for table_name in tables or {}:
            if not answer.reads(table_name):
                raise InvalidUse(f"the query does not read the table {table_name!r} that it was given")
        record = RecipeRecord(
            query,
            {
                **{table_name: one.reference for table_name, one in pinned.items()},
                **{spelled: _reference(repository, *found) for spelled, found in answer.found.items()},
            },
            {table_name: one.record for table_name, one in given.items()},
            parameters,
            programs(),
            running.settings,
            training_set=training_set,
        )
        source = running.source(name)
        draft = repository.draft(
            {name: source}, key=key, branch=branch, tag=tag, metadata=metadata, progress=progress
        )
        try:
            written = draft.written(name)
            assert written is not None
            loose: list[str] = []
            if training_set is None:  # whose query leaves nothing open
                loose = undetermined(
                    answer.session.connection,
                    answer.query.sql,
                    columns=source.schema.names,
                    key=written.manifest.key,
                    threads=threads or 0,
                    rows=written.manifest.num_rows,
                )
            draft.note(name, {MEMBER: replace(record, undetermined=tuple(loose)).document()})
        except BaseException:
            draft.abandon()
            raise
    commit = repository.publish(
        draft,
        message=message,
        author=author,
        time=time,
        metadata=metadata,
        tag=tag,
        verify=verify,
        progress=progress,
    )
    notes = [*answer.inexact, *running.wide, *loose]
    if not commit.created:
        notes.append(
            f"nothing changed, so no recipe was recorded: v{commit.versions[name]} stands as it was made"
        )
    return commit, notes


def _inputs(
    repository: Repository, tables: Mapping[str, Any] | None, progress: Progress
) -> tuple[dict[str, Snapshot], dict[str, _Given]]:
    """The tables that a query was given: snapshots that this repository holds, and all others, held."""
    pinned, given = {}, {}
    for name, table in (tables or {}).items():
        own = isinstance(table, Snapshot) and table.store.info.project == repository.project
        # A snapshot that is not committed has a commit as well, which is gone with it.
        if own and repository.store.has_commit(table.commit.id):
            pinned[name] = table
        else:
            given[name] = _Given.hold(repository, table, progress)
    return pinned, given


def run_query(
    repository: Repository,
    query: str,
    tables: Mapping[str, Any],
    *,
    threads: int | None = 1,
    progress: Progress = silent,
) -> pa.Table:
    """The result of a query over these tables alone, in memory. Raises what :func:`commit_query` does."""
    pinned, given = _inputs(repository, tables, progress)
    held = {**pinned, **{name: one.held for name, one in given.items()}}
    running = Running(repository, query, None, branch=None, tables=held, settings=settings(threads=threads))
    with running:
        source = running.source("the query")
        return pa.Table.from_batches(source.batches(), source.schema)


def programs() -> dict[str, str]:
    """What runs a query here, and its version."""
    import duckdb

    return {"duckdb": str(duckdb.__version__)}


def _reference(repository: Repository, found: history.Resolved, name: str) -> Reference:
    commit = Commit(repository.store, found.commit, found.record, ref=found.ref)
    return commit.snapshot(name).reference


class Running:
    """A query that DuckDB has understood, in a session that reaches nothing but what it names."""

    def __init__(
        self,
        repository: Repository,
        query: str,
        parameters: Parameters | None,
        *,
        branch: str | None,
        tables: Mapping[str, Snapshot],
        settings: Mapping[str, str],
    ) -> None:
        self.settings = dict(settings)
        self.wide: list[str] = []
        self._repository = repository
        self._query = query
        self._parameters = parameters
        self._branch = branch
        self._tables = tables  # held: what is not committed is gone with its snapshot
        self._answer: Answer | None = None

    def __enter__(self) -> Answer:
        with _in_words():
            self._answer = ask(
                self._repository.store,
                self._query,
                branch=self._branch,
                parameters=self._parameters,
                tables={name: table.reader for name, table in self._tables.items()},
                closed=self.settings,
            )
        return self._answer

    def __exit__(self, *_: object) -> None:
        assert self._answer is not None
        self._answer.session.close()

    def source(self, name: str) -> Source:
        """The result, to be read once. Raises what a query raises that cannot be run."""
        assert self._answer is not None
        relation = self._answer.relation
        self.wide = [
            f"column {column!r} is a {kind}, and kept as decimal128(38, 0): cast it where it is made,"
            " as in sum(x)::BIGINT"
            for column, kind in zip(relation.columns, map(str, relation.types), strict=True)
            if kind in ("HUGEINT", "UHUGEINT")
        ]
        with _in_words():
            schema, batches = self._answer.rows(BATCH_ROWS)
        return Source(
            schema, lambda: _said(batches), None, f"the query of {name}", repeatable=False, validated=False
        )


def with_nulls(source: Source, fields: Sequence[pa.Field]) -> Source:
    """A source with more columns, which hold nulls only. Closing it closes ``source``."""
    schema = source.schema
    for one in fields:
        schema = schema.append(one.with_nullable(True))

    def read() -> Iterator[pa.RecordBatch]:
        for batch in source.batches():
            nulls = [pa.nulls(batch.num_rows, one.type) for one in fields]
            yield pa.RecordBatch.from_arrays([*batch.columns, *nulls], schema=schema)

    return Source(
        schema,
        read,
        source.num_rows,
        source.description,
        source.repeatable,
        from_file=source.from_file,
        release=source.close,
    )


def _said(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    with _in_words():
        yield from batches


@contextmanager
def _in_words() -> Iterator[None]:
    """Say of what a session does not give that recipes have no use for it."""
    try:
        yield
    except NotAllowed as error:
        text = error.message.replace("a sandbox", "a recipe")
        raise NotAllowed(
            text,
            hint="a recipe reads feature sets, and tables that it is given by name:"
            " tables={'rates': 'rates.csv'}, or --table rates=rates.csv",
        ) from None


@dataclass(frozen=True)
class Rebuilt:
    """What came of running a recipe again.

    Attributes:
        before: the snapshot that the recipe made.
        after: what it made now; it is not committed.
        programs: what ran it, where that is of another version: by name, the version then and the one now.
    """

    before: Snapshot
    after: Snapshot
    programs: Mapping[str, tuple[str | None, str]]

    @property
    def identical(self) -> bool:
        """Whether the two are the same to the last bit."""
        return self.before.id == self.after.id

    @cached_property
    def diff(self) -> Diff:
        """What differs."""
        from fsvc.diff import Diff

        return Diff(self.before, self.after)


class Recorded:
    """A recipe as it was recorded, whose inputs can be found again.

    Attributes:
        store: the repository.
        record: all that is known of it.
        label: what was made by it, for messages.
    """

    def __init__(self, store: Store, record: RecipeRecord, label: str) -> None:
        self.store = store
        self.record = record
        self.label = label

    def pinned(self, name: str) -> Snapshot:
        """A snapshot that it read. Raises NotFound where it is gone, Corruption where it is damaged."""
        reference = self.record.inputs[name]
        what = f"{reference.feature_set}@v{reference.version}, which {self.label} was made from,"
        try:
            snapshot = snapshot_of(self.store, reference)
            _ = snapshot.manifest  # what is gone is told of before anything runs
            return snapshot
        except NotFound as error:
            raise NotFound(f"{what} is gone: {error.message}", hint=error.hint) from None
        except Corruption as error:
            raise Corruption(f"{what} cannot be read: {error.message}", hint=error.hint) from None

    def given(self, name: str, tables: Mapping[str, Any] | None) -> Any:
        """A table from outside that it read, of those that are passed. Raises NotFound."""
        if tables is not None and name in tables:
            return tables[name]
        path = self.record.tables[name].path
        was = "a table in memory" if path is None else f"it was read from {path}"
        raise NotFound(
            f"{self.label} was made from a table {name!r} that is not in the repository ({was})",
            hint=f"pass a table, or a file, by this name: {name}=PATH",
        )

    def same(self, tables: Mapping[str, Any] | None, progress: Progress) -> dict[str, Snapshot]:
        """The very tables that it read: snapshots, and those from outside, which have to be what they were."""
        read = {name: self.pinned(name) for name in self.record.inputs}
        for name in tables or {}:
            if name not in self.record.tables:
                raise self.unknown(name)
        for name, known in self.record.tables.items():
            held = _Given.hold(Repository(self.store), self.given(name, tables), progress).held
            if held.id != known.snapshot:
                raise InvalidUse(
                    f"the table {name!r} is not the one that {self.label} was made from:"
                    f" its identity is {held.id[:12]}, and was {known.snapshot[:12]}",
                    hint="find the old one; 'fsvc apply' runs the recipe on other tables",
                )
            read[name] = held
        return read

    def running(self, read: Mapping[str, Snapshot]) -> Running:
        """Its query on these tables, under its settings. Raises UnknownFormat for settings that recipes do not have."""
        # They come from a commit, which anybody may have made, and are put into the session before it is closed off.
        unknown = sorted({*self.record.settings} - {*settings()})
        if unknown:
            raise UnknownFormat(
                f"{self.label} was made under settings that this fsvc does not know:"
                f" {', '.join(map(quoted, unknown))}",
                hint="upgrade fsvc",
            )
        threads = self.record.settings.get("threads", "1")
        if threads not in map(str, range(1, _MOST_THREADS + 1)):
            raise InvalidUse(
                f"{self.label} was made in {quoted(threads)} threads, which is no number of them"
            )
        return Running(
            Repository(self.store),
            self.record.sql,
            self.record.parameters,
            branch=None,
            tables=read,
            settings=self.record.settings,
        )

    def unknown(self, name: str) -> FsvcError:
        """The error for an input that it does not have, with the nearest name."""
        known = [*self.record.inputs, *self.record.tables]
        near = nearest(name, known)
        return NotFound(
            f"{self.label} has no input {quoted(name)}",
            hint=f"did you mean {near[0]!r}?" if near else f"its inputs: {', '.join(known) or 'none'}",
        )


class Recipe(Recorded):
    """The query that a snapshot was made by, with all that it read.

    Attributes:
        snapshot: the snapshot.
        commit: the commit that it came with, which holds the recipe.
    """

    def __init__(self, snapshot: Snapshot, commit: Commit, record: RecipeRecord) -> None:
        super().__init__(snapshot.store, record, f"{snapshot.name}@v{snapshot.version}")
        self.snapshot = snapshot
        self.commit = commit

    def __repr__(self) -> str:
        return f"<Recipe of {self.snapshot.name}@v{self.snapshot.version}>"

    @classmethod
    def find(cls, snapshot: Snapshot) -> Recipe | None:
        """The recipe of a snapshot; None where it was committed as a table. Raises Corruption, UnknownFormat."""
        store, name = snapshot.store, snapshot.name
        commit, record = history.origin(store, snapshot.commit.id, name)
        found = record.changes.get(name, {}).get(MEMBER)
        if found is None:
            return None
        parsed = RecipeRecord.parse(found, what=f"the recipe of {name} in commit {history.short(commit)}")
        return cls(snapshot, Commit(store, commit, record), parsed)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Recipe:
        """The recipe of a snapshot. Raises NotFound where it was committed as a table."""
        found = cls.find(snapshot)
        if found is None:
            raise NotFound(
                f"{snapshot.name}@v{snapshot.version} was not made by a recipe",
                hint="one is recorded by 'fsvc commit NAME --sql QUERY' and by repo.commit_query(...)",
            )
        return found

    @property
    def sql(self) -> str:
        """The query, as it was written."""
        return self.record.sql

    @property
    def parameters(self) -> Any:
        """The values for its parameters: a list, a mapping by name, or None."""
        return self.record.parameters

    @property
    def inputs(self) -> dict[str, Reference]:
        """The snapshots that it read, by the names that the query has for them."""
        return dict(self.record.inputs)

    @property
    def undetermined(self) -> tuple[str, ...]:
        """What of its result the query leaves open, in sentences."""
        return self.record.undetermined

    def rebuild(self, tables: Mapping[str, Any] | None = None, *, progress: Progress = silent) -> Rebuilt:
        """Run it again, on the very inputs that it read. Nothing is committed.

        ``tables`` are the tables from outside that it read, by name; each must hold what it held then. Raises
        NotFound for inputs that are gone, or a table that was not passed, InvalidUse for one that is another now.
        """
        made = self._run(self.same(tables, progress), progress)
        now = programs()
        other = {
            name: (self.record.programs.get(name), version)
            for name, version in now.items()
            if self.record.programs.get(name) != version
        }
        return Rebuilt(self.snapshot, made, other)

    def apply(self, inputs: Mapping[str, Any], *, progress: Progress = silent) -> Snapshot:
        """Run it on other tables: the same logic on today's data. Gives a snapshot that is not committed.

        ``inputs`` are tables of any kind that :meth:`Repository.commit` takes, by the names that the query has for
        them, or by feature set. Inputs that are not among them are those that the recipe read, pinned; tables from
        outside have to be passed. An input keeps the key of the one that it stands in for.

        Raises SkewError where an input's columns, or those of the result, are not of the form that they had;
        NotFound for an input that the recipe does not have; KeyViolation where the key does not hold.
        """
        given = {self._input(name): table for name, table in inputs.items()}
        if len(given) < len(inputs):
            raise InvalidUse("an input is given twice, by two names")
        read = {name: self.pinned(name) for name in self.record.inputs}
        for name, pinned in list(read.items()):
            if name in given:
                read[name] = self._stand_in(name, given[name], pinned, progress)
        for name in self.record.tables:
            read[name] = self._stand_in(name, self.given(name, given), None, progress)
        made = self._run(read, progress)
        errors = compare_features(self._whole, made).errors
        if errors:
            raise SkewError(f"the result is not of the form of {self.label}: " + "; ".join(errors))
        return made

    def _stand_in(self, name: str, table: Any, pinned: Snapshot | None, progress: Progress) -> Snapshot:
        """A table in place of an input, held; it has the form and the key of that input, where that is known."""
        repository = Repository(self.store)
        with open_source(table) as source:
            source = self._without_label(name, source)
            if pinned is None:
                return _Given.hold(repository, source, progress).held
            errors = compare_inputs(pinned.schema, source.schema)
            if errors:
                raise SkewError(
                    f"the input {name!r} is not of the form of the one that {self.label} was made from: "
                    + "; ".join(errors),
                    hint="give the columns the types that they had",
                )
            # Its key may be what keeps the query from finding two rows for one: a snapshot has to have it too.
            if isinstance(table, Snapshot) and source.schema is table.schema and table.key == pinned.key:
                return table
            return repository.held(source, pinned, progress=progress)

    def _without_label(self, name: str, source: Source) -> Source:
        """The spine of a training set may come without the label, as it does when there is something to predict."""
        described = self.record.training_set
        if described is None or name != described.get("spine"):
            return source
        absent = [
            self._whole.schema.field(label)
            for label in described.get("label", ())
            if source.schema.get_field_index(label) < 0 and self._whole.schema.get_field_index(label) >= 0
        ]
        return with_nulls(source, absent) if absent else source

    @property
    def _whole(self) -> Snapshot:
        return self.commit.snapshot(self.snapshot.name)

    def _run(self, read: Mapping[str, Snapshot], progress: Progress) -> Snapshot:
        running = self.running(read)
        with running:
            source = running.source(self.snapshot.name)
            return Repository(self.store).held(source, self._whole, progress=progress)

    def _input(self, name: str) -> str:
        """The name that the query has for an input that is called so, or by its feature set."""
        if name in self.record.inputs or name in self.record.tables:
            return name
        fitting = [known for known, one in self.record.inputs.items() if one.feature_set == name]
        if len(fitting) > 1:
            raise InvalidUse(
                f"{self.label} was made from {name!r} at several revisions",
                hint=f"name one: {', '.join(fitting)}",
            )
        if not fitting:
            raise self.unknown(name)
        return fitting[0]


def snapshot_of(store: Store, reference: Reference) -> Snapshot:
    """The snapshot that a recipe's reference names. Raises NotFound where its commit is not here any more."""
    if not store.has_commit(reference.commit):
        raise NotFound(
            f"commit {history.short(reference.commit)} is not in {store.storage.location}",
            hint="look for it in another copy of the repository",
        )
    record = store.commit(reference.commit)
    value = record.feature_sets.get(reference.feature_set)
    if value is None or value.snapshot != reference.snapshot:
        raise Corruption(
            f"commit {history.short(reference.commit)} does not hold {quoted(reference.feature_set)} as it is named"
        )
    snapshot = Commit(store, reference.commit, record, ref=reference.ref).snapshot(reference.feature_set)
    return snapshot if reference.columns is None else snapshot.select(reference.columns)
