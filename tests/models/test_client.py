"""The client that tutorials use, in a script like theirs, from a version by name back to its exact data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

import fsvc
import fsvc.mlflow
from fsvc import FeatureStoreClient
from fsvc.client import read_reference, write_reference
from fsvc.errors import Corruption, FsvcError, NotFound, UnknownFormat, UnreadableInput


def test_the_tutorial(
    tracking: str, repo: fsvc.Repository, name: str, fast: dict[str, Any], table: Any
) -> None:
    from sklearn.linear_model import LogisticRegression

    def train(frame: Any) -> Any:
        model = LogisticRegression(max_iter=50)
        return model.fit(frame[["age", "customer"]], frame["churned"])

    client = FeatureStoreClient(repo)
    version = client.get_feature_set_version("customer_features", "v2")
    features = version.to_pandas()
    with mlflow.start_run() as run:
        model = train(features)
        mlflow.log_artifact(version.path, "features")
        mlflow.log_param("feature_set_name", version.name)
        mlflow.log_param("feature_set_version", version.version)
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            metadata={"feature_store_name": version.name, "feature_store_version": version.commit_id},
            registered_model_name=name,
            **fast,
        )
    mlflow.MlflowClient().set_registered_model_alias(name, "champion", "1")
    repo.commit({"customer_features": table(8)}, key="customer", message="the data move on")

    uri = f"models:/{name}@champion"
    loaded = mlflow.sklearn.load_model(info.model_uri)
    metadata = mlflow.models.get_model_info(uri).metadata
    assert metadata["feature_store_name"] == "customer_features"
    exact = client.get_feature_set_version(
        metadata["feature_store_name"], metadata["feature_store_version"]
    ).to_pandas()
    assert exact.equals(features)
    restored = fsvc.mlflow.restore(uri, repository=repo)
    assert restored.id == fsvc.identify(table(2), key="customer").id
    columns = ["age", "customer"]
    assert np.array_equal(
        train(restored.to_pandas()).predict_proba(exact[columns]), loaded.predict_proba(features[columns])
    )
    (artifact,) = mlflow.MlflowClient().list_artifacts(run.info.run_id, "features")
    local = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=artifact.path)
    assert read_reference(local) == version.snapshot.reference


def test_a_run_that_fails_midway(sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any) -> None:
    """What was logged whole stays; the run is marked failed; the repository is as it was."""
    with pytest.raises(ZeroDivisionError), mlflow.start_run() as run:
        info = log(snap)
        raise ZeroDivisionError
    assert mlflow.get_run(run.info.run_id).info.status == "FAILED"
    assert fsvc.mlflow.restore(info.model_uri) == snap
    assert [pin.model for pin in repo.pins()] == [info.model_id]

    with pytest.raises(ZeroDivisionError), mlflow.start_run():
        fsvc.mlflow.metadata(snap)
        raise ZeroDivisionError
    assert len(repo.pins()) == 2
    done = fsvc.mlflow.sync_pins(repo)
    assert [pin.token is not None for pin in done.released] == [True]
    assert [pin.model for pin in repo.pins()] == [info.model_id]
    assert repo.verify(deep=True).ok


def test_versions(repo: fsvc.Repository, table: Any) -> None:
    client = FeatureStoreClient(repo)
    repo.commit({"orders": table(1)}, key="customer", message="another")
    assert client.list_feature_sets() == ["customer_features", "orders"]
    versions = client.list_versions("customer_features")
    assert [version.version for version in versions[:3]] == ["v1", "v2", "v3"]
    assert client.get_feature_set_version("customer_features").version == "v3"
    for revision in ("v2", 2, versions[1].commit_id, versions[1].commit_id[:12]):
        found = client.get_feature_set_version("customer_features", revision)
        assert (found.version, found.commit_id) == ("v2", versions[1].commit_id)
        assert found.to_arrow().equals(repo.snapshot("customer_features@v2").to_arrow())
    with pytest.raises(NotFound, match="customer_featurs") as caught:
        client.get_feature_set_version("customer_featurs", "v3")
    assert "customer_features" in str(caught.value.hint)
    with pytest.raises(NotFound):
        client.get_feature_set_version("customer_features", 9)


def test_the_query_gives_the_data(repo: fsvc.Repository) -> None:
    import duckdb
    import fsspec

    version = FeatureStoreClient(repo).get_feature_set_version("customer_features", "v2")
    connection = duckdb.connect()
    connection.register_filesystem(fsspec.filesystem("fsvc"))
    found = connection.sql(version.sql).to_arrow_table()
    assert found.num_rows == 200
    assert found.column("age").equals(version.to_arrow().column("age"))


def test_the_reference_file(repo: fsvc.Repository, snap: fsvc.Snapshot, tmp_path: Path) -> None:
    version = FeatureStoreClient(repo).get_feature_set_version("customer_features", "v2")
    path = Path(version.path)
    assert path.name == "customer_features-v2.json"
    assert path.stat().st_size < 2_000
    assert repo.location not in path.read_text()
    assert read_reference(path) == version.snapshot.reference
    del version
    assert not path.exists()

    file = tmp_path / "reference.json"
    write_reference(snap.select(["age"]), file)
    assert read_reference(file).columns == ("age",)
    assert fsvc.mlflow.restore(file, repository=repo) == snap.select(["age"])
    assert fsvc.mlflow.restore(str(file), repository=repo) == snap.select(["age"])
    document = json.loads(file.read_text())
    for text, error in (
        ("", UnreadableInput),
        ("{", UnreadableInput),
        ("[" * 100_000, UnreadableInput),
        ("[]", UnreadableInput),
        ("{}", UnreadableInput),
        (json.dumps({"fsvc": {**document["fsvc"], "train": None}}), UnreadableInput),
        (json.dumps({**document, "feature_store_version": "v1"}), Corruption),
        (json.dumps({"fsvc": {**document["fsvc"], "schema_version": 9}}), UnknownFormat),
    ):
        file.write_text(text)
        with pytest.raises(FsvcError) as caught:
            read_reference(file)
        assert type(caught.value) is error
    with pytest.raises(UnreadableInput):
        read_reference(tmp_path / "absent.json")


def test_a_selection_and_its_proof(snap: fsvc.Snapshot, repo: fsvc.Repository) -> None:
    chosen = snap.select(["plan", "age"])
    assert chosen != snap
    assert chosen.id == snap.id
    assert chosen.select(["spend"]).columns == ("spend",)
    assert chosen.to_pandas().shape == (200, 2)
    assert chosen.to_arrow(["spend"]).column_names == ["spend"]
    with pytest.raises(NotFound, match="spned"):
        snap.select(["spned"])
    assert chosen.reference.columns == ("plan", "age")
    assert snap.reference.columns is None
    assert snap.reference.ref is None or snap.reference.ref in repo.branches()
    snap.prove()
    packs = [
        path for path in Path(repo.location).rglob("*") if path.is_file() and path.stat().st_size > 1_000
    ]
    assert packs
    for path in packs:
        data = bytearray(path.read_bytes())
        for place in range(0, len(data), 64):
            data[place] ^= 0xFF
        path.chmod(0o644)
        path.write_bytes(bytes(data))
    with pytest.raises(FsvcError):
        fsvc.open(repo.location).snapshot("customer_features@v2").prove()


def test_no_repository_here() -> None:
    with pytest.raises(NotFound, match="no fsvc repository"):
        FeatureStoreClient()
