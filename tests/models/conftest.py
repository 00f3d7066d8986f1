"""Tracking servers for the tests: a real one on loopback, and SQLite files that are made once and copied.

MLflow is asked for what it does by itself, never replaced. Requirements are given with each model, since to
infer them MLflow starts another Python.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before MLflow is imported

import mlflow
import pyarrow as pa
import pytest
import small_flavor
from waiting import wait_until

import fsvc
import fsvc.mlflow

ROWS = 200


def _table(number: int) -> pa.Table:
    """Features of customers; each number has other values, so another snapshot."""
    ids = list(range(ROWS))
    return pa.table(
        {
            "customer": pa.array(ids, pa.int64()),
            "age": pa.array([18 + (7 * i + number) % 60 for i in ids], pa.int32()),
            "spend": pa.array([None if i % 41 == 5 else (i * 37 % 101) / 3 + number for i in ids]),
            "plan": pa.array([("free", "plus", "pro")[i % 3] for i in ids]).dictionary_encode(),
            "churned": pa.array([(i * i + number) % 5 < 2 for i in ids], pa.bool_()),
        }
    )


@pytest.fixture(scope="session")
def table() -> Callable[[int], pa.Table]:
    """Return the table that is committed as a version."""
    return _table


@pytest.fixture
def snap(repo: fsvc.Repository) -> fsvc.Snapshot:
    """The second version, which is neither the first nor the newest."""
    return repo.snapshot("customer_features@v2")


@pytest.fixture(scope="session")
def fast() -> dict[str, Any]:
    """What every flavour is given so that it logs a model in a moment."""
    return {"pip_requirements": ["mlflow"]}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees what another one left: notes of repositories, a run, a tracking server, a listener."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    yield
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri("")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking database. To make one takes seconds, to copy it a moment."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    mlflow.search_experiments()
    mlflow.set_tracking_uri(before)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def server_address(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking server on loopback, of its own process, with its artifacts in files behind it."""
    home = tmp_path_factory.mktemp("server")
    shutil.copy(template, home / "mlflow.db")
    port = _free_port()
    program = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    program += ["--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"]
    program += ["--artifacts-destination", str(home / "artifacts"), "--workers", "1"]
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            program, stdout=log, stderr=subprocess.STDOUT, cwd=home, env=quiet, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(
            lambda: _answers(f"{address}/health"),
            process,
            lambda: (home / "log").read_text(errors="replace")[-3000:],
        )
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10):
            return True
    except OSError:
        return False


@pytest.fixture
def sqlite(template: Path, tmp_path: Path) -> str:
    """A fresh SQLite file as tracking server and registry, in use, with an experiment of its own."""
    shutil.copy(template, tmp_path / "mlflow.db")
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(address)
    mlflow.create_experiment("tests", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment("tests")
    return address


@pytest.fixture(params=["sqlite", "server"])
def tracking(request: pytest.FixtureRequest) -> str:
    """Either kind of tracking server, in use."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite"))
    address = str(request.getfixturevalue("server_address"))
    mlflow.set_tracking_uri(address)
    mlflow.set_experiment(f"tests-{uuid.uuid4().hex}")
    return address


@pytest.fixture
def name() -> str:
    """The name of a registered model that no other test uses."""
    return f"churn-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def repo(tmp_path: Path) -> fsvc.Repository:
    """A repository with three versions of ``customer_features``."""
    made = fsvc.init(tmp_path / "repository", author="Ada <ada@example.org>")
    for number in (1, 2, 3):
        made.commit({"customer_features": _table(number)}, key="customer", message=f"version {number}")
    return made


@pytest.fixture(scope="session")
def log() -> Callable[..., Any]:
    """Log a model with a snapshot, as ``fsvc.mlflow.log_model`` does; what it is does not matter."""

    def log_model(snapshot: fsvc.Snapshot | None = None, name: str = "model", **options: Any) -> Any:
        return fsvc.mlflow.log_model(small_flavor, "fitted", name=name, snapshot=snapshot, **options)

    return log_model
