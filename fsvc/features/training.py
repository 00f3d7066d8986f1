"""Training sets: features looked up for the rows of a spine, as they were known at the time of each row.

A training set is a recipe whose query is written here. For every row of the spine a lookup takes the newest row of
a feature set that is not younger (DuckDB's ASOF join), or with an age limit, none. What could bring the result of
another run about is in the query itself: ties are refused or broken by it, and rows are put into the spine's order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Unpack

import pyarrow as pa

from fsvc.engine.progress import Progress, silent
from fsvc.errors import Corruption, InvalidUse
from fsvc.features import lookups, splits
from fsvc.features.columns import absent, kind_of_time
from fsvc.features.lookups import SPINE, Joined, Lookup, ties_named
from fsvc.features.recipes import Published, Recipe, Recorded, commit_query, programs, run_query
from fsvc.features.splits import Split
from fsvc.format.recipe import RecipeRecord
from fsvc.query.exactness import seen_inexactly
from fsvc.query.sql import ROW
from fsvc.query.texttypes import quote_name as q
from fsvc.repository import Repository
from fsvc.snapshot import Commit, Snapshot

if TYPE_CHECKING:
    import pandas

__all__ = ["TrainingSet", "plan", "prove", "recorded"]


@dataclass(frozen=True)
class TrainingSet:
    """A training set that is described, and made when it is asked for: see :meth:`Repository.training_set`.

    Attributes:
        sql: the query that makes it, over ``spine`` and the feature sets.
        inputs: the tables that the query reads, by the names that it has for them.
        document: what it is, as JSON values: time, label, lookups and split.
        key: the key that it has when it is committed, unless told: the spine's.
        inexact: sentences on columns that DuckDB, through which all go, sees inexactly.
    """

    repository: Repository
    sql: str
    inputs: Mapping[str, Any]
    document: Mapping[str, Any]
    key: tuple[str, ...] = field(default=())
    inexact: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        return f"<TrainingSet of {', '.join(self.inputs)}>"

    def commit(self, name: str, **options: Unpack[Published]) -> Commit:
        """Make it, and commit it as a feature set with its recipe.

        ``message=`` has to be given; ``key``, ``author``, ``time``, ``branch``, ``tag``, ``metadata``, ``verify`` and
        ``progress`` are those of :meth:`Repository.commit`. Raises what :meth:`Repository.commit_query` does.
        """
        if options.get("key") is None:
            options["key"] = self.key
        commit, _ = self._commit(self.repository, name, **options)
        commit.warn()
        return commit

    def _commit(
        self, repository: Repository, name: str, **options: Unpack[Published]
    ) -> tuple[Commit, list[str]]:
        with ties_named():
            return commit_query(
                repository,
                name,
                self.sql,
                tables=self.inputs,
                threads=None,
                training_set=self.document,
                **options,
            )

    def snapshot(self, *, progress: Progress = silent) -> Snapshot:
        """Make it, as a snapshot that is not committed; what it takes on disk is gone with it."""
        commit, _ = self._commit(
            self.repository.scratch(),
            "training_set",
            message="not committed",
            branch="not-committed",
            key=self.key,
            progress=progress,
        )
        return commit.snapshot("training_set")

    def to_arrow(self, *, progress: Progress = silent) -> pa.Table:
        """Make it, as a table in memory."""
        with ties_named():
            return run_query(self.repository, self.sql, self.inputs, threads=None, progress=progress)

    def to_pandas(self, *, progress: Progress = silent) -> pandas.DataFrame:
        """Make it, as a pandas DataFrame."""
        return self.to_arrow(progress=progress).to_pandas()

    def describe(self, *, progress: Progress = silent) -> dict[str, Any]:
        """Make it, keep nothing, and give what it takes to make it again and prove that it is the same.

        A JSON document: the recipe, with every input pinned by hash, the key, and the snapshot id of the result.
        :func:`fsvc.features.training.prove` makes the training set of it.
        """
        made = self.snapshot(progress=progress)
        return {
            "snapshot": made.id,
            "rows": made.num_rows,
            "key": list(made.key),
            "recipe": made.recipe.record.document(),
        }


def prove(
    repository: Repository,
    description: Mapping[str, Any],
    *,
    tables: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Snapshot:
    """Make the training set of :meth:`TrainingSet.describe` again, as a snapshot that is not committed.

    ``tables`` are the tables from outside that it was made from, by name. Raises NotFound where an input is gone,
    InvalidUse for a table that is another one, Corruption where the result is not the one that was described.
    """
    try:
        record = RecipeRecord.parse(description["recipe"], what="the description of a training set")
        known, key = str(description["snapshot"]), [str(column) for column in description["key"]]
    except (KeyError, TypeError):
        raise Corruption("this is not the description of a training set") from None
    recorded = Recorded(repository.store, record, "the training set")
    running = recorded.running(recorded.same(tables, progress))
    with running:
        made = repository.scratch().commit(
            {"training_set": running.source("the training set")},
            key=key,
            branch="not-committed",
            message="not committed",
            progress=progress,
        )
    snapshot = made.snapshot("training_set")
    if snapshot.id != known:
        raise Corruption(
            f"the training set is not the one that was described: its snapshot is {snapshot.id}, not {known}",
            hint=f"it was made by {record.programs}, this is {programs()}",
        )
    return snapshot


def recorded(training: Snapshot) -> tuple[list[Joined], str | None] | None:
    """The lookups that made a training set, in the snapshots that they found, and the spine's column of times.

    None where the snapshot is no training set. Raises NotFound where one of those snapshots is gone, Corruption where
    what is recorded makes no sense.
    """
    recipe = Recipe.find(training)
    if recipe is None or recipe.record.training_set is None:
        return None
    described, what = recipe.record.training_set, f"the recipe of {recipe.label}"
    try:
        time, names = described["time"], [one["name"] for one in described["lookups"]]
        known = all(name in recipe.record.inputs for name in names) and len({*names}) == len(names)
    except (TypeError, KeyError):
        known = False
    if not known or not (time is None or isinstance(time, str)):
        raise Corruption(f"{what} does not say what was looked up")
    return [Joined.parse(one, recipe.pinned(one["name"]), what=what) for one in described["lookups"]], time


# Planning ---------------------------------------------------------------------------------------


def plan(
    repository: Repository,
    spine: Any,
    wanted: Sequence[Lookup],
    *,
    time: str | None = None,
    label: str | Sequence[str] | None = None,
    split: Split | None = None,
) -> TrainingSet:
    """As :meth:`Repository.training_set`."""
    from fsvc.sources import open_source

    if isinstance(spine, str):
        spine = repository.snapshot(spine)
    if isinstance(spine, Snapshot):
        schema, key = spine.schema, spine.key
    else:
        if isinstance(spine, os.PathLike) or not isinstance(spine, pa.Table):
            with open_source(spine) as source:
                schema = source.schema
                if not source.repeatable:
                    spine = pa.Table.from_batches(source.batches(), schema)
        else:
            schema = spine.schema
        key = ()
    if not wanted:
        raise InvalidUse("a training set needs at least one lookup")
    if time is not None:
        kind_of_time(schema, time, "the spine")
    taken: dict[str, str] = {}
    for column in schema.names:
        _take(taken, column, "the spine")
    names = {SPINE}
    joined = []
    for lookup in wanted:
        one = lookups.join(repository, schema, time, lookup, names)
        for column in one.given:
            _take(taken, column, one.name)
        joined.append(one)
    labels = (label,) if isinstance(label, str) else tuple(label or ())
    for column in labels:
        if column.casefold() not in taken:
            raise absent(column, [*taken], "the training set")
    if split is not None:
        split = splits.checked(split, schema, time)
        _take(taken, split.into, "the split")
    document = {
        "spine": SPINE,
        "time": time,
        "label": list(labels),
        "lookups": [one.document() for one in joined],
        "split": None if split is None else splits.document_of(split),
    }
    inputs = {SPINE: spine, **{one.name: one.snapshot for one in joined}}
    inexact = seen_inexactly(schema)
    for one in joined:
        used = pa.schema([one.snapshot.schema.field(column) for column in dict.fromkeys(one.given.values())])
        inexact += [f"{one.label}: {sentence}" for sentence in seen_inexactly(used)]
    return TrainingSet(repository, _sql(schema, time, joined, split), inputs, document, key, tuple(inexact))


def _take(taken: dict[str, str], column: str, owner: str) -> None:
    """Note a column of the training set. Raises InvalidUse where it has one of this name; DuckDB knows no case."""
    if column.casefold() == ROW:
        raise InvalidUse(f"{owner} has a column {column!r}, which is the number of a row", hint="rename it")
    if column.casefold() in taken:
        raise InvalidUse(
            f"{taken[column.casefold()]} and {owner} both have a column {column!r}",
            hint="columns of a lookup can have a prefix; DuckDB knows no upper and lower case",
        )
    taken[column.casefold()] = owner


def _sql(spine: pa.Schema, time: str | None, joined: Sequence[Joined], split: Split | None) -> str:
    """The query of a training set."""
    aliased = {f"f{number}": one for number, one in enumerate(joined, 1)}
    chosen = [f"s.{q(name)}" for name in spine.names]
    for alias, one in aliased.items():
        chosen += lookups.values(one, alias, spine, time)
    if split is not None:
        chosen.append(f"{splits.part(split)} AS {q(split.into)}")
    return lookups.query(spine.names, chosen, aliased, time)
