"""From data to the models that stand on them: by tags, through copies, and from the pins when MLflow is gone."""

from __future__ import annotations

import socket
from typing import Any

import mlflow
import pytest
import small_flavor

import fsvc
import fsvc.mlflow
from fsvc.errors import FsvcWarning, NotFound
from fsvc.mlflow.models import RegisteredVersion, TrainedModel


def ids(found: list[TrainedModel]) -> list[str]:
    return [model.model_id for model in found]


def test_versions_aliases_and_copies(
    tracking: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any, name: str
) -> None:
    server = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        info = log(snap, registered_model_name=name)
    for alias in ("champion", "blue"):
        server.set_registered_model_alias(name, alias, "1")
    copy = server.copy_model_version(f"models:/{name}/1", f"{name}-a")
    server.copy_model_version(f"models:/{copy.name}/{copy.version}", f"{name}-b")
    # By commit, since other tests log the same data to the same server.
    (model,) = fsvc.mlflow.models_for(snap.commit, repository=repo)
    assert model == TrainedModel(
        info.model_id,
        "model",
        "train",
        snap.commit.id,
        "customer_features",
        run.info.run_id,
        "READY",
        (
            RegisteredVersion(name, "1", ("blue", "champion")),
            RegisteredVersion(f"{name}-a", "1", ()),
            RegisteredVersion(f"{name}-b", "1", ()),
        ),
        "tags",
    )


def test_by_snapshot_commit_and_address(
    sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any
) -> None:
    first, third = repo.snapshot("customer_features@v1"), repo.snapshot("customer_features@v3")
    # The same data once more, at another commit: the snapshot is the same, the commit is not.
    back = repo.commit({"customer_features": snap.to_arrow()}, key="customer", message="as v2 again")
    again = back.snapshot("customer_features")
    assert again.id == snap.id
    one, two = log(snap), log(again)
    other = log(first, inputs={"validation": third})
    assert set(ids(fsvc.mlflow.models_for(snap))) == {one.model_id, two.model_id}
    assert ids(fsvc.mlflow.models_for(snap.commit, repository=repo)) == [one.model_id]
    assert ids(fsvc.mlflow.models_for(back.id, repository=repo)) == [two.model_id]
    assert set(ids(fsvc.mlflow.models_for("customer_features@v4", repository=repo))) == {
        one.model_id,
        two.model_id,
    }
    assert set(ids(fsvc.mlflow.models_for("customer_features", repository=repo))) == {
        one.model_id,
        two.model_id,
    }
    assert [(found.model_id, found.role) for found in fsvc.mlflow.models_for(third)] == [
        (other.model_id, "validation")
    ]
    with pytest.raises(NotFound):
        fsvc.mlflow.models_for("customer_features@v9", repository=repo)


def test_a_version_that_was_registered_without_tags(sqlite: str, snap: fsvc.Snapshot, log: Any) -> None:
    server = mlflow.MlflowClient()
    info = log(snap)
    mlflow.register_model(info.model_uri, "plain")
    server.copy_model_version("models:/plain/1", "copy")
    assert "fsvc.snapshot" not in server.get_model_version("copy", "1").tags
    (model,) = fsvc.mlflow.models_for(snap)
    assert [version.name for version in model.versions] == ["copy", "plain"]


def test_register_model_carries_the_tags(sqlite: str, snap: fsvc.Snapshot, log: Any) -> None:
    with mlflow.start_run() as run:
        log(snap)
    version = fsvc.mlflow.register_model(f"runs:/{run.info.run_id}/model", "churn", tags={"team": "red"})
    tags = mlflow.MlflowClient().get_model_version("churn", str(version.version)).tags
    assert tags["team"] == "red"
    assert tags["fsvc.commit"] == snap.commit.id
    assert tags["fsvc.repository"] == snap.store.info.project
    assert tags["fsvc.version"] == "2"
    assert fsvc.mlflow.restore("models:/churn/latest") == snap


def test_a_deleted_model_is_found_by_its_version(sqlite: str, snap: fsvc.Snapshot, log: Any) -> None:
    info = log(snap, registered_model_name="churn")
    mlflow.MlflowClient().delete_logged_model(info.model_id)
    (model,) = fsvc.mlflow.models_for(snap)
    assert (model.model_id, model.status, model.known_by) == (info.model_id, None, "tags")
    assert model.versions == (RegisteredVersion("churn", "1", ()),)


def test_the_pins_answer_when_mlflow_does_not(
    sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = log(snap, name="mine", inputs={"test": repo.snapshot("customer_features@v1")})
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        mlflow.set_tracking_uri(f"http://ada:s3cret@127.0.0.1:{taken.getsockname()[1]}")
        with pytest.warns(FsvcWarning, match="only the pins of the repository are searched") as caught:
            (model,) = fsvc.mlflow.models_for(snap)
        with pytest.warns(FsvcWarning):
            (tested,) = fsvc.mlflow.models_for(
                repo.resolve("v1", feature_set="customer_features"), repository=repo
            )
        with pytest.warns(FsvcWarning):
            assert fsvc.mlflow.models_for("customer_features@v3", repository=repo) == []
    assert "s3cret" not in str(caught[0].message)
    assert (model.model_id, model.name, model.role, model.known_by) == (info.model_id, "mine", "train", "pin")
    assert (model.commit, model.feature_set, model.status) == (snap.commit.id, "customer_features", None)
    assert (tested.model_id, tested.role) == (info.model_id, "test")


def test_tags_that_somebody_else_wrote(sqlite: str, snap: fsvc.Snapshot, log: Any) -> None:
    info = log(snap)
    odd = small_flavor.log_model("fitted", "odd", tags={"fsvc.inputs": f"see {snap.id}"})
    listed = small_flavor.log_model("fitted", "odd", tags={"fsvc.inputs": f'["{snap.id}"]'})
    assert odd.model_id != listed.model_id
    assert ids(fsvc.mlflow.models_for(snap)) == [info.model_id]
