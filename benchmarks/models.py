"""The workloads that need MLflow: what lineage costs when a model is logged, and how fast it is found again."""

from __future__ import annotations

import logging
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before MLflow is imported

import duckdb
import mlflow
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pyarrow as pa
from sklearn.linear_model import LogisticRegression

import fsvc
import fsvc.mlflow
from benchmarks import tables
from benchmarks.bench import Bench, WrongResult, write_plain
from benchmarks.figures import Pairs, interleave, timed
from benchmarks.workloads import Workload

__all__ = ["MODEL_WORKLOADS"]

_ROWS = 10_000
_VERSIONS = 10_000
_NAME = "customers"
_MODEL = "churn"


@contextmanager
def _server(directory: Path) -> Iterator[fsvc.Snapshot]:
    """A repository with one commit, and MLflow on an empty SQLite file beside it."""
    directory.mkdir()
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlflow.db'}")
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        mlflow.create_experiment("benchmark", artifact_location=(directory / "artifacts").as_uri())
        mlflow.set_experiment("benchmark")
        repository = fsvc.init(directory / "features")
        repository.commit({_NAME: _table()}, key="id", message="first")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield repository.snapshot(_NAME)
    finally:
        logger.setLevel(level)
        mlflow.set_tracking_uri(before)


def _table() -> Any:
    random = np.random.default_rng(1)
    return pa.table(
        {
            "id": np.arange(_ROWS),
            "a": random.random(_ROWS),
            "b": random.random(_ROWS),
            "y": random.integers(0, 2, _ROWS),
        }
    )


def _model(snapshot: fsvc.Snapshot) -> LogisticRegression:
    frame = snapshot.to_pandas()
    return LogisticRegression().fit(frame[["a", "b"]], frame["y"])


def _log(bench: Bench, name: str, options: dict[str, Any]) -> Pairs:
    with _server(bench.directory / name) as snapshot:
        model = _model(snapshot)

        def plain() -> None:
            with mlflow.start_run():
                mlflow.sklearn.log_model(model, name=_MODEL, **options)

        def ours() -> None:
            with mlflow.start_run():
                fsvc.mlflow.log_model(mlflow.sklearn, model, name=_MODEL, snapshot=snapshot, **options)

        plain()
        ours()
        pairs = interleave(bench.options.runs, lambda: timed(plain), lambda _: timed(ours))
        if len(fsvc.mlflow.models_for(snapshot)) != bench.options.runs + 1:
            raise WrongResult("not every model that was logged is found from its data")
        return pairs


@contextmanager
def _registry(bench: Bench, name: str) -> Iterator[fsvc.Snapshot]:
    """As :func:`_server`, with a registered model of 10,000 versions, each with lineage of its own.

    All but the first are put into MLflow's tables directly: what is measured is finding one among them.
    """
    with _server(bench.directory / name) as snapshot:
        with mlflow.start_run():
            fsvc.mlflow.log_model(
                mlflow.sklearn,
                _model(snapshot),
                name=_MODEL,
                snapshot=snapshot,
                registered_model_name=_MODEL,
                pip_requirements=["scikit-learn"],
            )
        with sqlite3.connect(bench.directory / name / "mlflow.db") as database:
            _repeat(database, "model_versions")
            _repeat(database, "model_version_tags")
        database.close()
        mlflow.MlflowClient().set_registered_model_alias(_MODEL, "champion", "1")
        yield snapshot


def _repeat(database: sqlite3.Connection, table: str) -> None:
    """Repeat a table's rows of version 1 for all further versions; a tag of lineage gets another value each."""
    found = database.execute(f"select * from {table} where version = 1")
    columns = [column[0] for column in found.description]
    rows = [dict(zip(columns, row, strict=True)) for row in found.fetchall()]

    def copies() -> Iterator[tuple[Any, ...]]:
        for version in range(2, _VERSIONS + 1):
            for row in rows:
                copy = {**row, "version": version}
                if row.get("key") in ("fsvc.commit", "fsvc.snapshot"):
                    copy["value"] = f"{version:064x}"
                yield tuple(copy.values())

    marks = ", ".join("?" * len(columns))
    database.executemany(f"insert into {table} values ({marks})", copies())


def _resolve(bench: Bench, uri: str) -> Pairs:
    with _registry(bench, "resolve") as snapshot:

        def ours(_: int) -> float:
            found: list[fsvc.Snapshot] = []
            seconds = timed(lambda: found.append(fsvc.mlflow.restore(uri)))
            if found[0].commit.id != snapshot.commit.id:
                raise WrongResult(f"{uri} led to another commit")
            return seconds

        ours(0)
        return interleave(bench.options.runs, lambda: timed(lambda: mlflow.models.get_model_info(uri)), ours)


def _models_for(bench: Bench) -> Pairs:
    with _registry(bench, "models-for") as snapshot:
        query = f"tags.`fsvc.snapshot` = '{snapshot.id}'"

        def search() -> Any:
            return mlflow.MlflowClient().search_model_versions(query)

        def ours(_: int) -> float:
            found: list[Any] = []
            seconds = timed(lambda: found.extend(fsvc.mlflow.models_for(snapshot)))
            if [version.aliases for model in found for version in model.versions] != [("champion",)]:
                raise WrongResult("the model of this snapshot was not found, or others with it")
            return seconds

        ours(0)
        return interleave(bench.options.runs, lambda: timed(search), ours)


_SPINE_ROWS = 1_000_000
_INPUTS = [
    "balance",
    "spend_30d",
    "spend_90d",
    "discount_share",
    "utilisation",
    "affinity",
    "session_minutes",
]


def _score(bench: Bench) -> Pairs:
    """Scores of shuffled keys with looked-up features, beside a join by DuckDB and one call of the same model."""
    directory = bench.directory / "score"
    with _server(directory) as small:
        repository = fsvc.Repository(small.store)
        table = tables.make_table(_SPINE_ROWS)
        features = directory / "features.parquet"
        write_plain(table, features)
        snapshot = repository.commit({"customers30": table}, key=tables.KEY, message="large").snapshot(
            "customers30"
        )
        frame = snapshot.to_pandas([*_INPUTS, "active"]).head(20_000)
        fitted = LogisticRegression().fit(frame[_INPUTS], frame["active"])
        with mlflow.start_run():
            uri = fsvc.mlflow.log_model(
                mlflow.sklearn,
                fitted,
                name=_MODEL,
                snapshot=snapshot,
                signature=mlflow.models.infer_signature(frame[_INPUTS]),
                pip_requirements=["scikit-learn"],
            ).model_uri
        keys = np.random.default_rng(2).permutation(table[tables.KEY].to_numpy())
        spine = pa.table({tables.KEY: keys})
        del table
        given: list[Any] = []

        def plain() -> None:
            connection = duckdb.connect()
            connection.register("spine", spine)
            columns = ", ".join(f"f.{name}" for name in _INPUTS)
            found = connection.sql(
                f"select s.{tables.KEY}, {columns} from spine s left join '{features}' f using ({tables.KEY})"
            ).df()
            found["prediction"] = mlflow.pyfunc.load_model(uri).predict(found[_INPUTS])
            given[:] = [found]

        def ours() -> None:
            given[:] = [fsvc.mlflow.score_batch(uri, spine).to_arrow()]

        def checked() -> float:
            seconds = timed(ours)
            if (
                not given[0][tables.KEY].to_numpy().tolist() == keys.tolist()
                or given[0]["prediction"].null_count
            ):
                raise WrongResult("the scores are not in the order of the spine, or some are missing")
            return seconds

        plain()
        ours()
        return interleave(bench.options.runs, lambda: timed(plain), lambda _: checked())


def _workload(
    name: str,
    title: str,
    against: str,
    aim: float,
    measure: Callable[[Bench], Pairs],
    *,
    in_seconds: bool = False,
) -> Workload:
    return Workload(name, title, "s", against, aim, measure, aim_unit="s" if in_seconds else "", sized=False)


MODEL_WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        _workload(
            "log-model",
            "log_model, requirements inferred",
            "the flavour's own log_model",
            1.1,
            lambda bench: _log(bench, "inferred", {}),
        ),
        _workload(
            "log-model-given",
            "log_model, requirements given",
            "the flavour's own log_model",
            1.1,
            lambda bench: _log(bench, "given", {"pip_requirements": ["scikit-learn"]}),
        ),
        _workload(
            "resolve-model",
            f"restore of an alias among {_VERSIONS:,} versions, without the data",
            "mlflow.models.get_model_info",
            0.3,
            lambda bench: _resolve(bench, f"models:/{_MODEL}@champion"),
            in_seconds=True,
        ),
        _workload(
            "models-for",
            f"models trained on a snapshot, among {_VERSIONS:,} versions",
            "MLflow's search by one tag",
            1.0,
            _models_for,
            in_seconds=True,
        ),
        _workload(
            "score-batch",
            f"scores of {_SPINE_ROWS:,} keys, {len(_INPUTS)} features",
            "DuckDB's join and one call of the model",
            1.2,
            _score,
        ),
    )
}
"""Every workload by name, in the order of the report."""
