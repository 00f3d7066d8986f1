"""Batch inference: features looked up for a spine of keys, cast to the model's signature, and predicted.

The spine streams through: memory holds a batch of rows and what DuckDB takes for the join, which it spills.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import mlflow.pyfunc
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from mlflow.exceptions import MlflowException
from mlflow.types import DataType

from fsvc.engine import exporting
from fsvc.engine.progress import Progress, silent
from fsvc.errors import FsvcError, InvalidUse, NotFound, SkewError, UnsupportedData
from fsvc.features.columns import field_of
from fsvc.features.lookups import Joined, Lookup, join
from fsvc.features.retrieving import Features, Retrieved
from fsvc.features.training import recorded
from fsvc.format.names import nearest, quoted
from fsvc.mlflow.repositories import RepositoryLike
from fsvc.mlflow.restoring import snapshot_of
from fsvc.mlflow.server import asking, without_secrets
from fsvc.mlflow.serving import TRAINING, as_trained
from fsvc.mlflow.uris import ModelFile, model_file
from fsvc.query.sql import ROW
from fsvc.repository import Repository
from fsvc.snapshot import Snapshot
from fsvc.sources import open_source
from fsvc.sources.source import Source

__all__ = ["Scores", "score_batch"]

Missing = Literal["null", "error", "predict"]

METADATA_KEY = b"fsvc:scores"
"""The key of the schema's metadata under which the model and the commits stand, as JSON."""
PREDICTION = "prediction"
_BATCH_ROWS = 1 << 16

_ARROW_TYPES: Mapping[Any, pa.DataType] = {
    DataType.boolean: pa.bool_(),
    DataType.integer: pa.int32(),
    DataType.long: pa.int64(),
    DataType.float: pa.float32(),
    DataType.double: pa.float64(),
    DataType.string: pa.string(),
    DataType.binary: pa.binary(),
}


def score_batch(
    uri: str | os.PathLike[str],
    spine: Any,
    at: str | Mapping[str, str] = TRAINING,
    *,
    as_of: str | tuple[str, str] | None = None,
    columns: Sequence[str] | None = None,
    missing: Missing = "null",
    batch_rows: int = _BATCH_ROWS,
    repository: RepositoryLike | None = None,
) -> Scores:
    """Predict for the keys of a spine, with the features that the model was trained with.

    A model of a training set that :meth:`Repository.training_set` made gets them by the lookups that are recorded
    with it: the same feature sets, keys, times, age limits and ties. Any other gets them from the feature set that
    it was trained on, by its key.

    Args:
        uri: the model, however MLflow names it. It is loaded, which runs what its flavour runs.
        spine: a table of any kind that can be committed, or a path, with the columns that rows are looked up by.
            Other columns go along; inputs of the model that are not looked up are taken from them.
        at: which features: ``"training"``, those that the model was trained on; a revision of the feature sets; or
            ``{NAME: REVISION}``, of which those that are not named stay as in training. Their form is compared with
            training first, as :func:`features_for` does.
        as_of: a time column of the spine: each row gets the newest features at or before its time. Of a
            training set it is the one recorded, unless told. Of a feature set it has to be told, as a pair where the
            feature set's time column has another name.
        columns: the model's inputs, for a model without a signature that names them.
        missing: what becomes of rows for which a lookup found nothing: ``"null"``, their prediction is null;
            ``"error"``, NotFound is raised when one is met; ``"predict"``, the model gets nulls.
        batch_rows: about how many rows are predicted at once.

    Returns the predictions, which are made as they are read. Raises what :func:`features_for` does; NotFound and
    InvalidUse for a spine without the columns, SkewError where the model cannot take the features.
    """
    if missing not in ("null", "error", "predict"):
        raise InvalidUse(f"missing is 'null', 'error' or 'predict', not {missing!r}")
    if batch_rows < 1:
        raise InvalidUse("a batch has one row at least")
    file = model_file(uri)
    training = snapshot_of(file, role="train", repository=repository)
    with asking(f"the model {file.uri}"):
        model = mlflow.pyfunc.load_model(file.resolved)
    source = open_source(spine)
    if not source.repeatable:
        with source:
            source = open_source(pa.Table.from_batches(source.batches(), source.schema))
    inputs = _inputs(file, model, columns)
    wanted = {name for name in inputs.names if training.schema.get_field_index(name) >= 0}
    described = recorded(training)
    if described is not None:
        features = _recorded(training, *described, wanted, at, as_of, uri)
    else:
        features = _keyed(training, wanted, at, as_of, uri, source.schema)
    features.check(source.schema)
    return Scores(file, model, training, source, features, inputs, missing, batch_rows)


def _keyed(
    training: Snapshot,
    wanted: Set[str],
    at: str | Mapping[str, str],
    as_of: str | tuple[str, str] | None,
    uri: str | os.PathLike[str],
    spine: pa.Schema,
) -> Features:
    """Features from one feature set, found by its key."""
    revision = _revisions(at, [training.name], uri)(training.name)
    found = training if revision == TRAINING else as_trained(training, revision, uri)
    found = found.commit.snapshot(found.name)
    time, since = as_of if isinstance(as_of, tuple) else (as_of, as_of)
    label = f"{found.name}@v{found.version}"
    if since is not None:
        field_of(found.schema, since, label)
    on = [column for column in found.key if column != since]
    if not on:
        raise InvalidUse(
            f"{label} has no key to look rows up by",
            hint="commit it with key columns: --key COL,COL",
        )
    columns = [name for name in training.schema.names if name in wanted]
    lookup = Lookup(found, on, time=since, columns=columns)
    return Features(found.store, [join(Repository(found.store), spine, time, lookup, set())], time)


def _recorded(
    training: Snapshot,
    joined: Sequence[Joined],
    time: str | None,
    wanted: Set[str],
    at: str | Mapping[str, str],
    as_of: str | tuple[str, str] | None,
    uri: str | os.PathLike[str],
) -> Features:
    """Features by the lookups that made a training set, except those that the model takes nothing of."""
    if isinstance(as_of, tuple):
        raise InvalidUse(
            f"{training.name}@v{training.version} records by which times it was looked up",
            hint="as_of names the time column of the spine alone",
        )
    revision = _revisions(at, [name for one in joined for name in (one.name, one.snapshot.name)], uri)
    features = []
    for one in joined:
        columns = {into: column for into, column in one.columns.items() if into in wanted}
        one = replace(one, columns=columns, time_as=one.time_as if one.time_as in wanted else None)
        if not one.given:
            continue
        address = revision(one.snapshot.name, one.name)
        if address != TRAINING:
            trained = one.snapshot.select(list(dict.fromkeys(columns.values())))
            current = as_trained(trained, address, uri)
            one = replace(one, snapshot=current.commit.snapshot(current.name))
        features.append(one)
    return Features(training.store, features, as_of if as_of is not None else time)


def _revisions(
    at: str | Mapping[str, str], names: Sequence[str], uri: str | os.PathLike[str]
) -> Callable[..., str]:
    """Which address each feature set has, by ``at``: the more special of its names goes first; or TRAINING."""
    known = list(dict.fromkeys(names))
    if isinstance(at, Mapping):
        for name in at:
            if name not in known:
                near = nearest(name, known)
                raise NotFound(
                    f"the model {os.fspath(uri)} has no features from {quoted(name)}",
                    hint=f"did you mean {near[0]!r}?" if near else f"it was trained with {', '.join(known)}",
                )
    elif "@" in at and len(known) > 1:
        raise InvalidUse(
            f"the model {os.fspath(uri)} has features from {', '.join(known)}: {at!r} names one feature set",
            hint="name a revision of all of them, or {NAME: REVISION}",
        )

    def address(feature_set: str, *special: str) -> str:
        if isinstance(at, Mapping):
            own = [at[name] for name in (*special, feature_set) if name in at]
            revision = own[0] if own else TRAINING
        else:
            revision = at
        return revision if revision == TRAINING or "@" in revision else f"{feature_set}@{revision}"

    return address


@dataclass(frozen=True)
class _Inputs:
    """What the model takes: names in order, the types of the signature where it has them, frame or array."""

    names: tuple[str, ...]
    types: Mapping[str, Any]
    frame: bool


def _inputs(file: ModelFile, model: Any, columns: Sequence[str] | None) -> _Inputs:
    schema = model.metadata.get_input_schema()
    named = schema is not None and not schema.is_tensor_spec() and schema.has_input_names()
    if named:
        types = {spec.name: spec.type for spec in schema.inputs}
        if columns is not None and set(columns) != set(types):
            raise InvalidUse(f"the signature of {file.uri} names its inputs: leave columns out")
        return _Inputs(tuple(types), types, True)
    if columns is None:
        raise InvalidUse(
            f"the model {file.uri} has no signature that names its inputs",
            hint="name them in order with columns=, --columns; or log it with signature= or input_example=",
        )
    return _Inputs(tuple(columns), {}, schema is None or not schema.is_tensor_spec())


@dataclass
class Scores:
    """The predictions of a model for a spine. They are made as they are read, anew each time.

    The columns are those of the spine, then ``prediction``: one value a row, a list where the model gives several, or
    columns ``prediction_NAME`` where it gives named ones. The schema's metadata hold model and commits under
    ``fsvc:scores``.

    Attributes:
        file: the model's file.
        rows: how many rows were scored when last read.
        missing_rows: for how many of them something was not found.
        missing: for how many rows each lookup found nothing, by feature set; of two lookups in one feature set
            the second is ``NAME_2``.
    """

    file: ModelFile
    _model: Any
    _training: Snapshot
    _source: Source
    _features: Features
    _inputs: _Inputs
    _missing: Missing
    _batch_rows: int
    rows: int = field(default=0, init=False)
    missing_rows: int = field(default=0, init=False)
    missing: dict[str, int] = field(default_factory=dict, init=False)

    @property
    def commits(self) -> dict[str, str]:
        """The commits that features were taken from, by feature set; named as in ``missing`` where one has two."""
        found: dict[str, str] = {}
        for one in self._features.lookups:
            name, commit = one.snapshot.name, one.snapshot.commit.id
            found[name if found.get(name, commit) == commit else one.name] = commit
        return found

    @property
    def model(self) -> str:
        """The URI of this very model."""
        return self.file.resolved

    def __post_init__(self) -> None:
        own = self._source.schema.names
        for name in self._inputs.names:
            if name not in own and name not in self._features.names:
                held = {column for one in self._features.lookups for column in one.snapshot.schema.names}
                near = nearest(name, [*own, *sorted(held)])
                labels = [one.label for one in self._features.lookups] or [repr(self._training)]
                raise NotFound(
                    f"the model takes {name!r}, which neither {' nor '.join(labels)} nor the spine has",
                    hint=f"did you mean {near[0]!r}?" if near else None,
                )
        taken = [name for name in own if name in (PREDICTION, ROW) or name.startswith(f"{PREDICTION}_")]
        if taken:
            raise InvalidUse(f"the spine has a column {taken[0]!r} already", hint="give it another name")

    # -- reading ---------------------------------------------------------------------------------

    def batches(self, *, progress: Progress = silent) -> Iterator[pa.RecordBatch]:
        """The spine with predictions, in the order of the spine, batch by batch; all have one schema."""
        self.rows = self.missing_rows = 0
        self.missing = dict.fromkeys((one.name for one in self._features.lookups), 0)
        held: list[tuple[pa.Table, pa.Array]] = []
        schema: pa.Schema | None = None
        spine = _Rows(self._source.batches(), self._source.schema)
        for found in self._features.retrieve(self._source, self._batch_rows):
            rows = spine.take(found.rows)
            there = self._found(found, rows)
            predicted = self._predicted(rows, found, there)
            self.rows += len(rows)
            progress("rows", self.rows, self._source.num_rows)
            if predicted is None and schema is None:
                held.append((rows, there))  # of what type predictions are is not known yet
                continue
            if schema is None:
                assert predicted is not None
                schema = self._schema(predicted.schema)
                for earlier, _ in held:
                    yield from _with_nulls(earlier, schema).to_batches(len(earlier))
                held.clear()
            yield self._joined(rows, predicted, there, schema)
        if schema is None:
            # No row was predicted: doubles, since they are what most models give.
            schema = self._schema(pa.schema([(PREDICTION, pa.float64())]))
            if not held:
                yield from schema.empty_table().to_batches() or [_no_rows(schema)]
            for earlier, _ in held:
                yield from _with_nulls(earlier, schema).to_batches(len(earlier))

    def to_arrow(self, *, progress: Progress = silent) -> pa.Table:
        """The whole table."""
        return pa.Table.from_batches(list(self.batches(progress=progress)))

    def to_pandas(self, *, progress: Progress = silent) -> Any:
        """The whole table as a pandas DataFrame."""
        return self.to_arrow(progress=progress).to_pandas()

    def write(
        self,
        path: str | os.PathLike[str],
        kind: Literal["parquet", "arrow", "csv"] = "parquet",
        *,
        progress: Progress = silent,
    ) -> None:
        """Write a Parquet, Arrow or CSV file; it appears whole or not at all. CSV does not hold the commits."""
        batches = self.batches(progress=progress)
        first = next(batches)
        writer = {
            "parquet": exporting.write_parquet,
            "arrow": exporting.write_arrow,
            "csv": exporting.write_csv,
        }[kind]
        writer(path, first.schema, itertools.chain([first], batches))

    # -- steps -----------------------------------------------------------------------------------

    def _found(self, found: Retrieved, rows: pa.Table) -> pa.Array:
        """Which rows have their features; those that have not are counted, and refused where asked for."""
        everything = pa.array(np.ones(len(rows), bool))
        for one in self._features.lookups:
            there = found.there[one.name]
            absent = len(there) - there.true_count
            self.missing[one.name] += absent
            everything = pc.and_(everything, there)
            if absent and self._missing == "error":
                row = int(np.flatnonzero(~there.to_numpy(zero_copy_only=False))[0])
                own = [*one.on, *([self._features.time] if one.time is not None else [])]
                shown = ", ".join(f"{name} {rows.column(name)[row]}" for name in own)
                raise NotFound(
                    f"{one.label} has no row for {shown}",
                    hint="--missing null leaves such predictions null, --missing predict lets the model see nulls",
                )
        self.missing_rows += len(everything) - everything.true_count
        return everything

    def _predicted(self, rows: pa.Table, found: Retrieved, there: pa.Array) -> pa.Table | None:
        """The predictions of the rows that have any; None where there are no such rows."""
        columns = [self._column(name, rows, found) for name in self._inputs.names]
        if self._missing == "null" and not pc.all(there).as_py():
            columns = [column.filter(there) for column in columns]
        if not columns or not len(columns[0]):
            return None
        columns = [
            self._typed(name, column) for name, column in zip(self._inputs.names, columns, strict=True)
        ]
        frame = pa.table(columns, names=list(self._inputs.names)).to_pandas()
        given: Any = frame if self._inputs.frame else frame.to_numpy()
        last = self.rows + len(rows) - 1
        try:
            result = self._model.predict(given)
        except MlflowException as error:
            # It begins with the data, and ends with what is wrong with them.
            wrong = without_secrets(str(error).rpartition("Error: ")[2].strip())[:400]
            raise SkewError(f"the model {self.file.uri} refuses its features: {wrong}") from error
        except Exception as error:
            raise FsvcError(
                f"the model {self.file.uri} failed on rows {self.rows:,} to {last:,} of the spine:"
                f" {type(error).__name__}: {without_secrets(str(error))[:400]}"
            ) from error
        return _as_table(result, len(frame), self.file.uri)

    def _column(self, name: str, rows: pa.Table, found: Retrieved) -> pa.Array:
        """One input of the model, in the type that it had in training; else from the spine."""
        if name in found.columns:
            return self._restored(name, found.columns[name])
        return rows.column(name).combine_chunks()

    def _restored(self, name: str, array: pa.Array) -> pa.Array:
        """A column as DuckDB gives it, in the type that it has in the training snapshot."""
        (number,) = self._training.reader.column_numbers([name])
        kind = self._training.manifest.schema.field(number).type
        if array.type.equals(kind):
            return array
        if isinstance(kind, pa.BaseExtensionType):
            return array  # models know no extension types: its storage is what they get
        try:
            if pa.types.is_dictionary(kind):
                if pa.types.is_dictionary(array.type):
                    array = array.dictionary_decode()
                (categories,) = self._training.reader.categories([number]).values()
                codes = pc.index_in(array.cast(kind.value_type), value_set=categories)
                return pa.DictionaryArray.from_arrays(
                    codes.cast(kind.index_type), categories, ordered=kind.ordered
                )
            return array.cast(kind)
        except (pa.ArrowException, ValueError) as error:
            raise UnsupportedData(
                f"column {name!r} of {self._training.name} cannot be looked up: {error}"
            ) from error

    def _typed(self, name: str, column: pa.Array) -> pa.Array:
        """A column in the type that the signature names. Raises SkewError where that loses something."""
        wanted = _ARROW_TYPES.get(self._inputs.types.get(name))
        if wanted is None:
            return column
        if column.null_count and (pa.types.is_integer(wanted) or pa.types.is_boolean(wanted)):
            raise SkewError(
                f"column {name!r} has nulls, {column.null_count:,} in one batch, and the model takes {wanted}",
                hint="train with a signature of doubles, which know missing values",
            )
        try:
            # MLflow takes no category of pandas for a string.
            plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            return plain.cast(wanted)
        except pa.ArrowException as error:
            raise SkewError(
                f"column {name!r} is {column.type}, which is no {wanted} as the model takes it:"
                f" {str(error).splitlines()[0]}"
            ) from error

    def _schema(self, predictions: pa.Schema) -> pa.Schema:
        metadata = dict(self._source.schema.metadata or {})
        metadata[METADATA_KEY] = json.dumps({"model": self.model, "commits": self.commits}).encode()
        return pa.schema([*self._source.schema, *predictions], metadata=metadata)

    def _joined(
        self, rows: pa.Table, predicted: pa.Table | None, there: pa.Array, schema: pa.Schema
    ) -> pa.RecordBatch:
        if predicted is None:
            return _with_nulls(rows, schema).combine_chunks().to_batches()[0]
        own = pa.schema(list(schema)[len(rows.schema) :])
        try:
            predicted = predicted.cast(own)
        except (pa.ArrowException, ValueError) as error:
            raise FsvcError(
                f"the model {self.file.uri} gives predictions of other types from batch to batch: {error}"
            ) from None
        if len(predicted) < len(rows):
            places = pc.subtract(pc.cumulative_sum(there.cast(pa.int64())), 1)
            predicted = predicted.take(pc.if_else(there, places, None))
        columns = [*rows.columns, *predicted.columns]
        return pa.Table.from_arrays(columns, schema=schema).combine_chunks().to_batches()[0]


class _Rows:
    """A stream of batches from which runs of rows are taken."""

    def __init__(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        self._batches = iter(batches)
        self._schema = schema
        self._rest: pa.RecordBatch | None = None

    def take(self, rows: int) -> pa.Table:
        """The next rows."""
        parts = []
        while rows:
            batch = self._rest if self._rest is not None else next(self._batches)
            part = batch.slice(0, rows)
            parts.append(part)
            rows -= part.num_rows
            self._rest = batch.slice(part.num_rows) if part.num_rows < batch.num_rows else None
        return pa.Table.from_batches(parts, self._schema)


def _as_table(result: Any, rows: int, uri: str) -> pa.Table:
    """What a model gave, as columns. Raises FsvcError where it is not one thing for each row."""
    import pandas

    if isinstance(result, pandas.DataFrame):
        names = [PREDICTION] if result.shape[1] == 1 else [f"{PREDICTION}_{name}" for name in result.columns]
        columns = [pa.array(result.iloc[:, i], from_pandas=True) for i in range(result.shape[1])]
    else:
        values = result.to_numpy() if isinstance(result, pandas.Series) else result
        if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if isinstance(values, np.ndarray) and values.ndim > 1:
            values = list(values.reshape(len(values), -1))
        try:
            names, columns = [PREDICTION], [pa.array(values)]
        except (pa.ArrowException, TypeError) as error:
            raise FsvcError(f"what the model {uri} gives has no form in Arrow: {error}") from error
    if any(len(column) != rows for column in columns) or not columns:
        raise FsvcError(
            f"the model {uri} gave {len(columns[0]) if columns else 0} predictions for {rows} rows"
        )
    return pa.table(columns, names=names)


def _with_nulls(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    more = [pa.nulls(len(rows), field.type) for field in list(schema)[len(rows.schema) :]]
    return pa.Table.from_arrays([*rows.columns, *more], schema=schema)


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
