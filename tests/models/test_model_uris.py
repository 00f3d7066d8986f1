"""Every way to name a model leads to its data, and no model is ever loaded for it."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from pathlib import Path
from typing import Any

import mlflow
import pytest
import small_flavor
from mlflow.models import Model

import fsvc
import fsvc.mlflow
from fsvc.errors import Corruption, InvalidUse, NoLineage, NotFound

ABSENT = "m-" + "0" * 32


def test_every_kind_of_uri(
    tracking: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any, name: str, tmp_path: Path
) -> None:
    server = mlflow.MlflowClient()
    newest = repo.snapshot("customer_features@v3")
    with mlflow.start_run() as run:
        info = log(snap, registered_model_name=name)
    log(newest, registered_model_name=name)
    server.set_registered_model_alias(name, "champion", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # stages are on their way out
        server.transition_model_version_stage(name, "1", "Production")
    copy = server.copy_model_version(f"models:/{name}/1", f"{name}-copy")
    again = server.copy_model_version(f"models:/{copy.name}/{copy.version}", f"{name}-again")
    local = mlflow.artifacts.download_artifacts(info.model_uri, dst_path=str(tmp_path / "a model"))

    for uri in (
        f"models:/{name}/1",
        f"models:/{name}@champion",
        f"models:/{name}/Production",
        f"models:/{info.model_id}",
        f"runs:/{run.info.run_id}/model",
        f"models:/{copy.name}/{copy.version}",
        f"models:/{again.name}/{again.version}",
        local,
        Path(local),
        Path(local).as_uri(),
        str(Path(local) / "MLmodel"),
    ):
        assert fsvc.mlflow.restore(uri) == snap, uri
    assert fsvc.mlflow.restore(f"models:/{name}/latest") == newest
    found = fsvc.mlflow.lineage(f"models:/{name}@champion")
    assert (found.name, found.version, found.aliases) == (name, "1", ("champion",))
    assert found.resolved == f"models:/{name}/1"
    assert found.data[0].commit == snap.commit
    assert found.data[0].problem is None
    assert found.environment["mlflow"] == mlflow.__version__
    assert (found.run_id, found.run["status"]) == (run.info.run_id, "FINISHED")


def test_a_model_that_is_an_artifact_of_its_run(tracking: str, snap: fsvc.Snapshot, tmp_path: Path) -> None:
    """As MLflow 2 logged all of them: without a logged model, registered by the run's address."""
    small_flavor.save_model(
        "fitted", str(tmp_path / "saved"), mlflow_model=Model(metadata=fsvc.mlflow.metadata(snap))
    )
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(tmp_path / "saved"), "nested/model")
    uri = f"runs:/{run.info.run_id}/nested/model"
    assert fsvc.mlflow.restore(uri) == snap
    assert fsvc.mlflow.lineage(uri).data[0].commit == snap.commit
    with pytest.raises(NotFound):
        fsvc.mlflow.restore(f"runs:/{run.info.run_id}/nested/other")


def test_a_registered_name_that_is_nearly_right(
    tracking: str, snap: fsvc.Snapshot, log: Any, name: str
) -> None:
    log(snap, registered_model_name=name)
    for uri in (f"models:/{name}x/1", f"models:/{name}x@champion"):
        with pytest.raises(NotFound) as caught:
            fsvc.mlflow.restore(uri)
        assert caught.value.hint == f"did you mean '{name}'?"
    for uri in (f"models:/{name}/99", f"models:/{name}@absent", "models:/quite-another-thing/1"):
        with pytest.raises(NotFound) as caught:
            fsvc.mlflow.restore(uri)
        assert caught.value.hint is None


def test_what_was_deleted_still_leads_to_its_data(sqlite: str, snap: fsvc.Snapshot, log: Any) -> None:
    server = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        info = log(snap, registered_model_name="churn")
    copy = server.copy_model_version("models:/churn/1", "other")

    server.delete_run(run.info.run_id)
    assert fsvc.mlflow.restore("models:/churn/1") == snap
    assert fsvc.mlflow.lineage("models:/churn/1").data[0].commit == snap.commit
    server.delete_logged_model(info.model_id)
    assert fsvc.mlflow.restore("models:/churn/1") == snap
    assert fsvc.mlflow.restore(f"models:/{info.model_id}") == snap
    server.delete_model_version("churn", "1")
    assert fsvc.mlflow.restore(f"models:/other/{copy.version}") == snap


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("models:/absent/1", NotFound),
        ("models:/churn/7", NotFound),
        ("models:/churn/latest", NotFound),
        ("models:/churn/Production", NotFound),
        ("models:/churn@champion", NotFound),
        (f"models:/{ABSENT}", NotFound),
        (f"runs:/{'0' * 32}/model", NotFound),
        ("runs:/RUN/absent", NotFound),
        ("/no/such/place", NotFound),
        ("file:///no/such/place", NotFound),
        ("models:/churn", InvalidUse),
        ("models:/", InvalidUse),
        ("runs:/RUN", InvalidUse),
        ("", InvalidUse),
    ],
)
def test_uris_that_name_no_model(uri: str, error: type[fsvc.FsvcError], sqlite: str) -> None:
    mlflow.MlflowClient().create_registered_model("churn")
    with mlflow.start_run() as run:
        pass
    with pytest.raises(fsvc.FsvcError) as caught:
        fsvc.mlflow.restore(uri.replace("RUN", run.info.run_id))
    assert type(caught.value) is error


def test_a_model_that_says_nothing_of_its_data(sqlite: str, snap: fsvc.Snapshot) -> None:
    import small_flavor

    bare = small_flavor.log_model("fitted", "bare")
    with pytest.raises(NoLineage, match=r"it has no metadata \(flavours: small\)") as caught:
        fsvc.mlflow.restore(bare.model_uri)
    assert "fsvc.mlflow.log_model" in str(caught.value.hint)
    other = small_flavor.log_model("fitted", "other", {"owner": "Ada", "ticket": 7})
    with pytest.raises(NoLineage, match="its metadata are owner, ticket"):
        fsvc.mlflow.lineage(other.model_uri)
    with pytest.raises(NoLineage):
        fsvc.mlflow.register_model(other.model_uri, "churn")
    assert mlflow.search_registered_models() == []


def test_a_model_is_never_loaded(
    sqlite: str, snap: fsvc.Snapshot, fast: dict[str, Any], tmp_path: Path
) -> None:
    marker = tmp_path / "loaded"

    class Trap(mlflow.pyfunc.PythonModel):
        def __reduce__(self) -> Any:
            return (Path.touch, (marker,))

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input

    info = fsvc.mlflow.log_model(mlflow.pyfunc, Trap(), name="trap", snapshot=snap, **fast)
    marker.unlink(missing_ok=True)
    assert fsvc.mlflow.restore(info.model_uri) == snap
    assert fsvc.mlflow.lineage(info.model_uri).data[0].commit == snap.commit
    fsvc.mlflow.features_for(info.model_uri)
    assert not marker.exists()
    with contextlib.suppress(Exception):
        mlflow.pyfunc.load_model(info.model_uri)
    assert marker.exists()  # so the trap would have told


def test_a_model_without_its_file(sqlite: str, snap: fsvc.Snapshot, log: Any) -> None:
    info = log(snap)
    place = Path(mlflow.artifacts.download_artifacts(info.model_uri))
    (place / "MLmodel").unlink()
    with pytest.raises(NotFound):
        fsvc.mlflow.restore(str(place))
    with pytest.raises(NotFound):
        fsvc.mlflow.restore(info.model_uri)
    shutil.rmtree(place)
    (place.parent / "other").mkdir(parents=True)
    (place.parent / "other" / "MLmodel").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Corruption):
        fsvc.mlflow.restore(place.parent / "other")
