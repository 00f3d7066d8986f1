"""Drift of a model's data: written where MLflow finds it, and a new model trained when there is some."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa
import pytest
import small_flavor
from waiting import wait_until

import fsvc
import fsvc.mlflow
from fsvc.cli import main
from fsvc.errors import NotFound

ROOT = Path(__file__).resolve().parent.parent.parent
Run = Callable[..., tuple[int, str, str]]

TRAIN = """
import os, sys
sys.path.insert(0, {tests!r})
import mlflow, small_flavor, fsvc, fsvc.mlflow
mlflow.set_experiment("retraining")
assert os.environ["FSVC_RETRAINED_MODEL"] == "models:/{name}/1"
data = fsvc.open(os.environ["FSVC_REPOSITORY"]).snapshot(os.environ["FSVC_TRAIN_DATA"]).select(["amount", "plan"])
assert data.commit.id == os.environ["FSVC_TRAIN_COMMIT"]
with mlflow.start_run():
    fsvc.mlflow.log_model(small_flavor, "again", name="churn", snapshot=data, registered_model_name="{name}")
print("trained on", data.version)
"""


def features(shift: float) -> pa.Table:
    random = np.random.default_rng(0)
    return pa.table(
        {
            "id": np.arange(800),
            "amount": random.normal(10 + shift, 2, 800),
            "plan": random.choice(["free", "plus"], 800),
            "odd name; 'x'": random.normal(size=800),
        }
    )


@pytest.fixture
def shop(tmp_path: Path) -> fsvc.Repository:
    """v1 is what the model is trained on, v2 has hardly moved, v3 has."""
    made = fsvc.init(tmp_path / "shop", author="Ada")
    for shift in (0.0, 0.05, 5.0):
        made.commit({"features": features(shift)}, key="id", message=f"by {shift}")
    return made


@pytest.fixture
def model(request: pytest.FixtureRequest, shop: fsvc.Repository, name: str) -> str:
    """A registered model that was trained on two columns of v1, named by its version; on SQLite unless told."""
    if "tracking" not in request.fixturenames:
        request.getfixturevalue("sqlite")
    with mlflow.start_run():
        fsvc.mlflow.log_model(
            small_flavor,
            "fitted",
            name="churn",
            snapshot=shop.snapshot("features@v1").select(["amount", "plan"]),
            registered_model_name=name,
        )
    mlflow.MlflowClient().set_registered_model_alias(name, "champion", "1")
    return f"models:/{name}/1"


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], shop: fsvc.Repository) -> Run:
    def go(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as done:
            main(["--repo", shop.location, *words])
        out, err = capfd.readouterr()
        return int(done.value.code or 0), out, err

    return go


@pytest.fixture
def trainer(tmp_path: Path, name: str) -> list[str]:
    """The command that trains."""
    program = tmp_path / "train.py"
    program.write_text(TRAIN.format(tests=str(ROOT / "tests"), name=name), encoding="utf-8")
    return [sys.executable, str(program)]


def version_tags(name: str, number: str = "1") -> dict[str, str]:
    return dict(mlflow.MlflowClient().get_model_version(name, number).tags)


# -- log_drift --------------------------------------------------------------------------------------


def test_a_report_is_found_by_mlflow(tracking: str, model: str, shop: fsvc.Repository, name: str) -> None:
    report = shop.drift(fsvc.mlflow.restore(model, repository=shop), "features@v3")
    assert report.drifted_columns == ("amount",)
    logged = fsvc.mlflow.log_drift(model, report)
    assert logged.versions == ((name, "1"),)
    info = mlflow.models.get_model_info(model)
    experiment = mlflow.get_run(info.run_id).info.experiment_id
    for condition, found in (
        ("metrics.`fsvc.drift.psi.max` > 0.25", True),
        ("metrics.`fsvc.drift.drifted` < 1", False),
    ):
        hits = mlflow.search_logged_models([experiment], filter_string=condition, output_format="list")
        assert ([hit.model_id for hit in hits] == [info.model_id]) is found
    hits = mlflow.search_logged_models(
        [experiment], filter_string="tags.`fsvc.drift` = 'drift'", output_format="list"
    )
    assert len(hits) == 1
    tags = version_tags(name)
    assert tags["fsvc.drift"] == "drift"
    assert json.loads(tags["fsvc.drift.columns"]) == ["amount"]
    assert tags["fsvc.drift.against"] == f"features@{report.after.commit}"
    page = Path(mlflow.artifacts.download_artifacts(tags["fsvc.drift.page"]))
    assert page.read_text(encoding="utf-8") == report.to_html()
    metrics = mlflow.get_run(logged.run_id).data.metrics
    assert metrics["fsvc.drift.psi.amount"] == pytest.approx(report.column("amount").metrics["psi"])

    fsvc.mlflow.log_drift(model, shop.drift(fsvc.mlflow.restore(model, repository=shop), "features@v2"))
    assert version_tags(name)["fsvc.drift"] == "stable"


def test_a_report_of_a_model_by_its_id_tags_its_versions(
    model: str, shop: fsvc.Repository, name: str
) -> None:
    info = mlflow.models.get_model_info(model)
    report = shop.drift("features@v1", "features@v3")
    logged = fsvc.mlflow.log_drift(f"models:/{info.model_id}", report)
    assert logged.versions == ((name, "1"),)
    assert not [key for key in logged.metrics if "odd" in key]  # no name for a metric
    assert "fsvc.drift" in version_tags(name)


def test_a_report_of_a_model_whose_run_is_gone_has_a_run_of_its_own(
    model: str, shop: fsvc.Repository, name: str
) -> None:
    info = mlflow.models.get_model_info(model)
    mlflow.MlflowClient().delete_run(info.run_id)
    logged = fsvc.mlflow.log_drift(model, shop.drift("features@v1", "features@v3"))
    assert logged.run_id != info.run_id
    assert mlflow.get_run(logged.run_id).info.status == "FINISHED"
    assert version_tags(name)["fsvc.drift.page"] == logged.page


def test_a_report_of_no_model(sqlite: str, shop: fsvc.Repository) -> None:
    with pytest.raises(NotFound):
        fsvc.mlflow.log_drift("models:/nothing/1", shop.drift("features@v1", "features@v2"))


# -- fsvc drift of a model --------------------------------------------------------------------------


def test_the_command_compares_what_the_model_was_trained_on(run: Run, model: str) -> None:
    code, out, _ = run("drift", model, "--against", "v3", "--json", "--fail-on", "drift")
    report = json.loads(out)["feature_sets"]["features"]
    assert code == 3
    assert [column["name"] for column in report["columns"]] == ["amount", "plan"]
    assert run("drift", model, "--against", "v2", "--fail-on", "drift")[0] == 0
    assert run("drift", model, "--against", "features@v2")[0] == 0
    assert run("drift", model, "--against", "v9")[0] == 4
    assert run("drift", model)[0] == 2
    assert run("drift", "models:/absent/1", "--against", "v2")[0] == 4


# -- fsvc retrain -----------------------------------------------------------------------------------


def test_nothing_is_run_where_nothing_drifted(run: Run, model: str, name: str, trainer: list[str]) -> None:
    code, out, _ = run("retrain", model, "--against", "v2", "--json", "--", *trainer)
    told = json.loads(out)
    assert (code, told["drifted"], told["retrained"], told["new"]) == (0, False, False, [])
    assert len(mlflow.MlflowClient().search_model_versions(f"name = '{name}'")) == 1
    assert version_tags(name)["fsvc.drift"] == "stable"


def test_drift_trains_a_new_model_and_links_the_two(
    run: Run, model: str, name: str, trainer: list[str], shop: fsvc.Repository
) -> None:
    code, out, err = run("retrain", model, "--against", "v3", "--alias", "champion", "--json", "--", *trainer)
    told = json.loads(out)
    assert (code, told["retrained"], told["new"][0]["uri"]) == (0, True, f"models:/{name}/2")
    assert told["new"][0]["versions"] == [{"name": name, "version": "2", "aliases": ["champion"]}]
    assert "trained on 3" in err
    assert version_tags(name, "2")["fsvc.retrained.from"] == f"models:/{name}/1"
    assert version_tags(name, "1")["fsvc.retrained.as"] == f"models:/{name}/2"
    assert str(mlflow.MlflowClient().get_model_version_by_alias(name, "champion").version) == "2"
    assert fsvc.mlflow.restore(f"models:/{name}@champion", repository=shop).version == 3
    # What it was told to do is done: the new champion did not drift.
    code, out, _ = run("retrain", f"models:/{name}@champion", "--against", "v3", "--", *trainer)
    assert code == 0 and "stays" in out


@pytest.mark.parametrize("alias", ["", "v2", "Latest", "a b"])
def test_an_alias_that_cannot_be_moved_is_refused_before_anything_is_trained(
    run: Run, model: str, name: str, trainer: list[str], alias: str
) -> None:
    code, _, err = run("retrain", model, "--against", "v3", "--alias", alias, "--", *trainer)
    assert code == 2 and f"{alias!r} cannot be an alias" in err
    assert len(mlflow.MlflowClient().search_model_versions(f"name = '{name}'")) == 1


def test_an_alias_of_a_model_without_a_registered_name_is_refused_before_anything_is_trained(
    run: Run, model: str, name: str, trainer: list[str]
) -> None:
    logged = mlflow.search_logged_models(output_format="list")[0].model_id
    words = ("--against", "v3", "--alias", "champion", "--", *trainer)
    code, _, err = run("retrain", f"models:/{logged}", *words)
    assert code == 2 and "nowhere to move" in err
    assert len(mlflow.MlflowClient().search_model_versions(f"name = '{name}'")) == 1


def test_when_the_data_are_others(run: Run, model: str, name: str, trainer: list[str]) -> None:
    words = ("--when", "change", "--no-log", "--", *trainer)
    code, out, _ = run("retrain", model, "--against", "v1", *words)
    assert code == 0 and "stays" in out
    code, out, _ = run("retrain", model, "--against", "v2", *words)
    assert code == 0 and f"new  models:/{name}/2" in out
    assert "fsvc.drift" not in version_tags(name)


def test_a_command_that_fails_links_nothing_and_shows_no_secret(run: Run, model: str, name: str) -> None:
    code, out, err = run(
        "retrain",
        model,
        "--against",
        "v3",
        "--",
        sys.executable,
        "-c",
        "import sys; sys.exit(7)",
        "--token=hunter2",
    )
    assert code == 1
    assert "exit code 7" in err and "hunter2" not in out + err
    assert "fsvc.retrained.as" not in version_tags(name)
    code, _, err = run("retrain", model, "--against", "v3", "--", "no-such-program-here", "hunter2")
    assert code == 4 and "hunter2" not in err


def test_a_command_that_logs_nothing_is_told_so(run: Run, model: str, name: str) -> None:
    code, _, err = run("retrain", model, "--against", "v3", "--", sys.executable, "-c", "pass")
    assert code == 4 and "FSVC_TRAIN_DATA" in err
    assert "fsvc.retrained.as" not in version_tags(name)


@pytest.mark.parametrize("ended", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_a_retraining_ends_its_command_and_links_nothing(
    sqlite: str, shop: fsvc.Repository, tmp_path: Path, ended: signal.Signals
) -> None:
    with mlflow.start_run():
        uri = fsvc.mlflow.log_model(
            small_flavor, "fitted", name="churn", snapshot=shop.snapshot("features@v1")
        ).model_uri
    began = tmp_path / "began"
    program = f"import os, pathlib, time; pathlib.Path({str(began)!r}).write_text(str(os.getpid())); time.sleep(600)"
    fsvc_program = Path(sys.executable).with_name("fsvc")
    words = ["--repo", shop.location, "retrain", uri, "--against", "v3", "--tracking-uri", sqlite, "--"]
    printed = tmp_path / "printed"
    with printed.open("wb") as file:
        process = subprocess.Popen(
            [fsvc_program, *words, sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    wait_until(
        lambda: began.exists() and began.read_text() != "",
        process,
        lambda: printed.read_text(errors="replace"),
    )
    if ended == signal.SIGINT:
        os.killpg(process.pid, ended)  # as a terminal does
    else:
        process.send_signal(ended)
    assert process.wait(timeout=100) == (130 if ended == signal.SIGINT else 1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(began.read_text()), 0)
    tags = mlflow.MlflowClient().get_logged_model(uri.removeprefix("models:/")).tags
    assert "fsvc.retrained.as" not in tags
