"""Snapshots as MLflow's own datasets; and MLflow stays unharmed whatever happens to fsvc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pyarrow as pa
import pytest

import fsvc
import fsvc.mlflow
from fsvc.errors import Corruption
from fsvc.mlflow.dataset import FsvcDataset, FsvcDatasetSource


def test_the_input_of_a_run(tracking: str, repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    with mlflow.start_run() as run:
        fsvc.mlflow.log_snapshot(snap)
        fsvc.mlflow.log_snapshot(repo.snapshot("customer_features@v1"), context="validation")
    found = mlflow.get_run(run.info.run_id)
    by_context = {item.tags[0].value: item for item in found.inputs.dataset_inputs}
    dataset = by_context["training"].dataset
    assert dataset.name == "customer_features"
    assert dataset.source_type == "fsvc"
    assert dataset.digest.startswith(snap.id[:12])
    assert len(dataset.digest) <= 36
    assert json.loads(dataset.source) == snap.reference.document()
    assert repo.location not in dataset.source
    assert json.loads(dataset.profile) == {
        "num_rows": 200,
        "num_columns": 5,
        "key": ["customer"],
        "version": "v2",
        "commit": snap.commit.id,
        "snapshot": snap.id,
    }
    columns = json.loads(dataset.schema)["mlflow_colspec"]
    assert {column["name"]: column["type"] for column in columns} == {
        "customer": "long",
        "age": "integer",
        "spend": "double",
        "plan": "string",
        "churned": "boolean",
    }
    restored = mlflow.data.get_source(by_context["training"]).load()
    assert restored == snap
    assert restored.to_arrow().equals(snap.to_arrow())
    assert mlflow.data.get_source(by_context["validation"]).load() == repo.snapshot("customer_features@v1")
    assert found.data.params["feature_set_version"] == "v2"


def test_mlflows_own_calls(sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    dataset = mlflow.data.from_fsvc(snap.select(["age"]), name="mine")
    assert isinstance(dataset, FsvcDataset)
    with mlflow.start_run() as run:
        mlflow.log_input(dataset, context="training")
    (used,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    assert used.dataset.name == "mine"
    assert mlflow.data.get_source(used).load() == snap.select(["age"])
    assert fsvc.mlflow.from_fsvc("customer_features@v2", repository=repo).snapshot == snap


def test_the_digest_tells_commits_and_columns_apart(repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    """The same data at another commit: MLflow would keep the first source only, were the digests equal."""
    back = repo.commit({"customer_features": snap.to_arrow()}, key="customer", message="as v2 again")
    again = back.snapshot("customer_features")
    assert again.id == snap.id
    digests = [FsvcDataset(each).digest for each in (snap, again, snap.select(["age"]), snap)]
    assert len(set(digests)) == 3
    assert digests[0] == digests[3]


def test_types_that_mlflow_does_not_know(repo: fsvc.Repository) -> None:
    made = repo.commit({"nested": pa.table({"a": [[1, 2], []]})}, message="lists")
    dataset = FsvcDataset(made.snapshot("nested"))
    assert dataset.schema is None
    assert json.loads(dataset.to_dict()["profile"])["num_columns"] == 1


def test_an_edited_source(snap: fsvc.Snapshot) -> None:
    document = snap.reference.document()
    with pytest.raises(Corruption, match="the source of this dataset"):
        FsvcDatasetSource.from_dict({**document, "commit": "v2"})
    with pytest.raises(Corruption, match="they say 7 rows"):
        FsvcDatasetSource.from_dict({**document, "rows": 7}).load()
    assert FsvcDatasetSource.from_dict(document).load() == snap


@pytest.mark.parametrize(
    "sabotage",
    ["raise RuntimeError('broken')", "def from_fsvc("],
)
def test_mlflow_is_unharmed_by_a_broken_fsvc(sabotage: str, tmp_path: Path) -> None:
    """A copy of the package in which the module that MLflow asks for fails while it is loaded."""
    package = Path(fsvc.__file__).parent
    overlay = tmp_path / "overlay" / "fsvc"
    overlay.mkdir(parents=True)
    for entry in package.iterdir():
        if entry.name != "mlflow":
            (overlay / entry.name).symlink_to(entry)
    (overlay / "mlflow").mkdir()
    for entry in (package / "mlflow").glob("*.py"):
        if entry.name != "dataset.py":
            (overlay / "mlflow" / entry.name).symlink_to(entry)
    (overlay / "mlflow" / "dataset.py").write_text(sabotage + "\n")
    # The registry alone, since it is what loads plugins: all of MLflow takes seconds.
    program = (
        "import fsvc; assert 'overlay' in fsvc.__file__\n"
        "import mlflow.data.dataset_source_registry, mlflow.data.dataset_registry\n"
        "import mlflow.data\n"
        "assert not hasattr(mlflow.data, 'from_fsvc')\n"
        "assert hasattr(mlflow.data, 'from_numpy')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env={**os.environ, "PYTHONPATH": str(overlay.parent)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
