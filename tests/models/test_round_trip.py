"""A model says which data trained it, and those very data come back, whatever the flavour and the server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import small_flavor
from mlflow.entities import LoggedModelStatus

import fsvc
import fsvc.mlflow
from fsvc.errors import FsvcWarning, InvalidUse, NotFound

FEATURES = ["age", "spend"]


def identical(left: pa.Table, right: pa.Table) -> bool:
    """Whether two tables are the same to the bit: fsvc's own identity is over schema, values and order."""
    return left.schema.equals(right.schema, check_metadata=True) and (
        fsvc.identify(left).id == fsvc.identify(right).id
    )


def trainer(flavor: str) -> Callable[[pd.DataFrame], Any]:
    """How a deterministic model of a flavour is trained."""

    def train(frame: pd.DataFrame) -> Any:
        x, y = frame[FEATURES].fillna(0.0), frame["churned"]
        if flavor == "sklearn":
            from sklearn.linear_model import LogisticRegression

            return LogisticRegression(max_iter=50).fit(x, y)
        if flavor == "lightgbm":
            from lightgbm import LGBMClassifier

            return LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1, deterministic=True).fit(x, y)
        from xgboost import XGBClassifier

        return XGBClassifier(n_estimators=3, n_jobs=1).fit(x, y)

    return train


def predictions(model: Any, frame: pd.DataFrame) -> np.ndarray:
    return np.asarray(model.predict_proba(frame[FEATURES].fillna(0.0)))


@pytest.mark.parametrize("flavor", ["sklearn", "lightgbm", "xgboost"])
def test_a_retrained_model_predicts_the_same(
    flavor: str, sqlite: str, repo: fsvc.Repository, table: Any, fast: dict[str, Any]
) -> None:
    pytest.importorskip(flavor)
    train = trainer(flavor)
    snap = repo.snapshot("customer_features@v2")
    model = train(snap.to_pandas())
    with mlflow.start_run():
        info = fsvc.mlflow.log_model(flavor, model, name="model", snapshot=snap, **fast)
    repo.commit({"customer_features": table(9)}, key="customer", message="the data move on")

    restored = fsvc.mlflow.restore(info.model_uri)

    assert restored == snap
    assert identical(restored.to_arrow(), table(2))
    frame = restored.to_pandas()
    assert np.array_equal(predictions(train(frame), frame), predictions(model, frame))


def test_a_pyfunc_class_and_a_model_from_code(
    sqlite: str, snap: fsvc.Snapshot, fast: dict[str, Any], tmp_path: Path
) -> None:
    class Rows(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return [len(model_input)]

    program = tmp_path / "program.py"
    program.write_text(
        "import mlflow\n\n"
        "class Rows(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return [len(model_input)]\n\n"
        "mlflow.models.set_model(Rows())\n"
    )
    for model in (Rows(), str(program)):
        info = fsvc.mlflow.log_model(mlflow.pyfunc, model, name="rows", snapshot=snap, **fast)
        assert fsvc.mlflow.restore(info.model_uri) == snap
        assert mlflow.pyfunc.load_model(info.model_uri).predict(pd.DataFrame({"a": [1, 2]})) == [2]


def test_what_is_logged(
    tracking: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any, name: str
) -> None:
    other = repo.snapshot("customer_features@v1")
    with mlflow.start_run() as run:
        info = log(
            snap,
            inputs={"validation": other},
            metadata={"mine": {"deep": [1, None]}},
            tags={"team": "red"},
            params={"alpha": 0.5},
            registered_model_name=name,
        )
    server = mlflow.MlflowClient()
    model = server.get_logged_model(info.model_id)
    version = server.get_model_version(name, "1")

    metadata = mlflow.models.get_model_info(info.model_uri).metadata
    assert metadata["feature_store_name"] == "customer_features"
    assert metadata["feature_store_version"] == snap.commit.id
    assert metadata["mine"] == {"deep": [1, None]}
    assert metadata["fsvc"]["schema_version"] == 1
    assert metadata["fsvc"]["train"] == snap.reference.document()
    assert metadata["fsvc"]["inputs"] == [{"role": "validation", **other.reference.document()}]
    assert "repository" in metadata["fsvc"]["train"]
    assert repo.location not in json.dumps(metadata)

    assert model.status == LoggedModelStatus.READY
    assert model.params["alpha"] == "0.5"
    for tags in (model.tags, version.tags):
        assert tags["team"] == "red"
        assert tags["fsvc.commit"] == snap.commit.id
        assert tags["fsvc.snapshot"] == snap.id
        assert json.loads(tags["fsvc.inputs"])["validation"]["commit"] == other.commit.id

    logged = server.get_run(run.info.run_id)
    assert logged.data.params == {"feature_set_name": "customer_features", "feature_set_version": "v2"}
    contexts = {
        item.dataset.name: [tag.value for tag in item.tags if tag.key == "mlflow.data.context"]
        for item in logged.inputs.dataset_inputs
    }
    assert len(logged.inputs.dataset_inputs) == 2
    assert set(contexts) == {"customer_features"}
    assert [used.model_id for used in logged.inputs.model_inputs] == [info.model_id]
    files = [file.path for file in server.list_artifacts(run.info.run_id, "fsvc")]
    assert sorted(files) == [
        "fsvc/customer_features-v1.validation.json",
        "fsvc/customer_features-v2.train.json",
    ]

    pins = {(pin.model, pin.role): pin for pin in repo.pins()}
    assert {key: pin.commit for key, pin in pins.items()} == {
        (info.model_id, "train"): snap.commit.id,
        (info.model_id, "validation"): other.commit.id,
    }
    assert all(pin.settled and pin.label == "model" for pin in pins.values())
    assert repo.verify().ok


def test_plain_logging_with_metadata(
    tracking: str, snap: fsvc.Snapshot, fast: dict[str, Any], repo: fsvc.Repository
) -> None:
    model = trainer("sklearn")(snap.to_pandas())
    with mlflow.start_run() as run:
        info = mlflow.sklearn.log_model(model, name="plain", metadata=fsvc.mlflow.metadata(snap), **fast)
    assert fsvc.mlflow.restore(info.model_uri) == snap
    (pin,) = repo.pins()
    assert pin.token is not None
    assert pin.token.startswith(run.info.run_id)
    assert not pin.settled
    assert pin.commit == snap.commit.id


def test_a_flavour_that_takes_no_model_id(sqlite: str, snap: fsvc.Snapshot, repo: fsvc.Repository) -> None:
    with mlflow.start_run() as run:
        info = fsvc.mlflow.log_model(small_flavor.without_id, "fitted", name="old", snapshot=snap)
    assert fsvc.mlflow.restore(info.model_uri) == snap
    (pin,) = repo.pins()
    assert (pin.model, pin.settled) == (info.model_id, True)
    server = mlflow.MlflowClient()
    assert server.get_logged_model(info.model_id).tags["fsvc.snapshot"] == snap.id
    assert len(server.get_run(run.info.run_id).inputs.dataset_inputs) == 1


def test_the_columns_that_were_used(sqlite: str, snap: fsvc.Snapshot, log: Any, table: Any) -> None:
    chosen = snap.select(["spend", "plan", "age"])
    restored = fsvc.mlflow.restore(log(chosen).model_uri)
    assert restored == chosen
    assert restored.id == snap.id
    assert restored.columns == ("spend", "plan", "age")
    assert identical(restored.to_arrow(), table(2).select(["spend", "plan", "age"]))
    assert restored.schema.names == ["spend", "plan", "age"]
    restored.prove()


def test_inputs_by_role(sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any) -> None:
    first = repo.snapshot("customer_features@v1").select(["age"])
    uri = log(snap, inputs={"validation": first}).model_uri
    assert fsvc.mlflow.restore(uri, role="validation") == first
    with pytest.raises(NotFound, match="role 'validatoin'") as caught:
        fsvc.mlflow.restore(uri, role="validatoin")
    assert caught.value.hint == "did you mean 'validation'?"
    only = log(inputs={"validation": first}).model_uri
    with pytest.raises(NotFound, match="which of its data it was trained on"):
        fsvc.mlflow.restore(only)


def test_names_with_spaces_and_quotes(tracking: str, tmp_path: Path, log: Any, table: Any) -> None:
    repo = fsvc.init(tmp_path / 'it\'s a "place"', author="Ada")
    repo.commit({"my features": table(1)}, key="customer", message="one")
    snap = repo.snapshot("my features")
    registered = f'Ada\'s "best" model {tmp_path.name}'
    with mlflow.start_run():
        info = log(snap, name="the model", registered_model_name=registered)
    assert fsvc.mlflow.restore(f"models:/{registered}/1") == snap
    assert fsvc.mlflow.restore(info.model_uri) == snap
    (model,) = fsvc.mlflow.models_for(snap.commit, repository=repo)
    assert [(version.name, version.version) for version in model.versions] == [(registered, "1")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "no snapshot to log"),
        ({"snapshot": pa.table({"a": [1]})}, "Table is no snapshot"),
        ({"snapshot": "SNAP", "inputs": {"train": "SNAP"}}, "'train' is given twice"),
        ({"inputs": {"my role!": "SNAP"}}, "cannot be a role"),
        ({"snapshot": "SNAP", "metadata": {"fsvc": {}}}, "'fsvc' are fsvc's own"),
        ({"snapshot": "SNAP", "metadata": {"feature_store_name": "x"}}, "are fsvc's own"),
        ({"snapshot": "SNAP", "metadata": {"x": np.float32(1)}}, "cannot be kept"),
        ({"snapshot": "SNAP", "metadata": {"x": float("nan")}}, "cannot be kept"),
    ],
)
def test_what_cannot_be_logged_is_refused_before_anything_is(
    arguments: dict[str, Any], sentence: str, sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot
) -> None:
    def real(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: real(item) for key, item in value.items()}
        return snap if isinstance(value, str) and value == "SNAP" else value

    with mlflow.start_run() as run, pytest.raises(InvalidUse, match=sentence):
        fsvc.mlflow.log_model(small_flavor, "fitted", name="m", **real(arguments))
    assert mlflow.search_logged_models(output_format="list") == []
    found = mlflow.MlflowClient().get_run(run.info.run_id)
    assert not found.inputs.dataset_inputs
    assert not found.data.params
    assert repo.pins() == []


def test_a_name_that_mlflow_refuses(
    sqlite: str, snap: fsvc.Snapshot, log: Any, repo: fsvc.Repository
) -> None:
    with pytest.raises(InvalidUse, match="Invalid model name"):
        log(snap, name="the model's name")
    assert repo.pins() == []


def test_flavours_that_are_none(sqlite: str, snap: fsvc.Snapshot) -> None:
    with pytest.raises(InvalidUse, match="no flavour of MLflow: it has no log_model"):
        fsvc.mlflow.log_model(json, 1, snapshot=snap)
    with pytest.raises(InvalidUse, match="cannot be used"):
        fsvc.mlflow.log_model("sklaern", 1, snapshot=snap)


def test_the_same_name_twice_in_a_run(
    sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any
) -> None:
    with mlflow.start_run() as run:
        log(snap)
        log(snap)
    assert fsvc.mlflow.restore(f"runs:/{run.info.run_id}/model") == snap
    with mlflow.start_run() as run:
        first = log(snap)
        with pytest.warns(FsvcWarning, match="has the params of customer_features v2 already"):
            second = log(repo.snapshot("customer_features@v1"))
    with pytest.raises(InvalidUse, match="2 models of the run, which stand on different data") as caught:
        fsvc.mlflow.restore(f"runs:/{run.info.run_id}/model")
    assert first.model_id in str(caught.value.hint)
    assert second.model_id in str(caught.value.hint)
    assert fsvc.mlflow.restore(f"models:/{first.model_id}") == snap
