"""Within track(), what a run reads is linked to what it logs; what it did not read never is."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import Any

import mlflow
import pytest
import small_flavor
from mlflow.models import Model

import fsvc
import fsvc.mlflow
from fsvc.errors import FsvcWarning, NoLineage
from fsvc.query.filesystem import SnapshotFileSystem


@pytest.fixture(autouse=True)
def unharmed() -> Iterator[None]:
    """Whatever happens, MLflow's method and the list of listeners are as before afterwards."""
    from fsvc.engine import reads

    before = Model.__dict__["log"]
    yield
    assert Model.__dict__["log"] is before
    assert reads.listeners == []


@pytest.fixture
def silent() -> Iterator[None]:
    """No warning of fsvc may be given."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FsvcWarning)
        yield


def nothing_linked(info: Any) -> bool:
    try:
        fsvc.mlflow.restore(info.model_uri)
    except NoLineage:
        return True
    return False


def used(run: Any) -> list[tuple[str, str]]:
    found = mlflow.MlflowClient().get_run(run.info.run_id).inputs.dataset_inputs
    return sorted(
        (item.dataset.name, next(tag.value for tag in item.tags if tag.key == "mlflow.data.context"))
        for item in found
    )


def test_a_read_is_linked(tracking: str, silent: None, repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    with fsvc.mlflow.track() as tracker, mlflow.start_run() as run:
        snap.to_pandas()
        info = small_flavor.log_model("fitted", "m", {"mine": 1})
        assert tracker.snapshots(run.info.run_id) == {"train": snap}
    assert fsvc.mlflow.restore(info.model_uri) == snap
    assert mlflow.models.get_model_info(info.model_uri).metadata["mine"] == 1
    assert [model.model_id for model in fsvc.mlflow.models_for(snap.commit, repository=repo)] == [
        info.model_id
    ]
    assert used(run) == [("customer_features", "training")]
    assert mlflow.get_run(run.info.run_id).data.params["feature_set_version"] == "v2"
    assert [(pin.model, pin.settled) for pin in repo.pins()] == [(info.model_id, True)]


def test_autologging(sqlite: str, silent: None, snap: fsvc.Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import LinearRegression

    monkeypatch.setenv("MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT", "1")
    mlflow.sklearn.autolog(silent=True, log_input_examples=False)
    try:
        with fsvc.mlflow.track(), mlflow.start_run() as run:
            frame = snap.select(["age", "customer"]).to_pandas()
            LinearRegression().fit(frame[["age"]], frame["customer"])
    finally:
        mlflow.sklearn.autolog(disable=True)
    (model,) = mlflow.search_logged_models(output_format="list")
    assert model.source_run_id == run.info.run_id
    restored = fsvc.mlflow.restore(f"models:/{model.model_id}")
    assert (restored.id, restored.columns) == (snap.id, ("age", "customer"))


@pytest.mark.parametrize(
    "read",
    [
        lambda snap: snap.to_arrow(["age"]),
        lambda snap: next(snap.to_batches(["age"])),
        lambda snap: snap.to_polars(["age"]),
        lambda snap: list(snap.batches_where("age > 30", ["age"])),
        lambda snap: snap.select(["age"]).relation().fetchall(),
    ],
    ids=["arrow", "batches", "polars", "where", "relation"],
)
def test_every_way_to_read_counts_with_its_columns(read: Any, sqlite: str, snap: fsvc.Snapshot) -> None:
    with fsvc.mlflow.track() as tracker, mlflow.start_run() as run:
        read(snap)
        assert tracker.snapshots(run.info.run_id) == {"train": snap.select(["age"])}
        snap.to_arrow(["spend"])
        assert tracker.snapshots(run.info.run_id) == {"train": snap.select(["age", "spend"])}
        snap.to_arrow()
        assert tracker.snapshots(run.info.run_id) == {"train": snap}


def test_an_address_that_is_opened_counts(sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    import pyarrow.parquet as pq

    with fsvc.mlflow.track() as tracker, mlflow.start_run() as run:
        table = pq.read_table(f"{snap.uri}.parquet", filesystem=SnapshotFileSystem(repo), columns=["age"])
        assert table.num_rows == snap.num_rows
        # Which columns of a file are read is not known.
        assert tracker.snapshots(run.info.run_id) == {"train": snap}
    with fsvc.mlflow.track() as tracker, mlflow.start_run() as run:
        repo.sql("select count(*) from customer_features@v2 where age > 30").fetchall()
        assert tracker.snapshots(run.info.run_id) == {"train": snap}


def test_a_refused_read_is_none(sqlite: str, snap: fsvc.Snapshot) -> None:
    with fsvc.mlflow.track() as tracker, mlflow.start_run() as run:
        with pytest.raises(fsvc.FsvcError):
            snap.to_arrow(["absent"])
        assert tracker.snapshots(run.info.run_id) == {}


def test_a_read_outside_any_run(sqlite: str, snap: fsvc.Snapshot) -> None:
    with fsvc.mlflow.track():
        snap.to_arrow()
        with mlflow.start_run() as run, pytest.warns(FsvcWarning, match="read while no run was active"):
            info = small_flavor.log_model("fitted", "m")
    assert nothing_linked(info)
    assert used(run) == []


def test_a_read_in_another_run(sqlite: str, snap: fsvc.Snapshot) -> None:
    with fsvc.mlflow.track():
        with mlflow.start_run() as first:
            snap.to_arrow()
        with mlflow.start_run() as second, pytest.warns(FsvcWarning, match="read in another run"):
            info = small_flavor.log_model("fitted", "m")
    assert nothing_linked(info)
    assert used(second) == []
    assert used(first) == [("customer_features", "training")]


def test_a_read_in_another_thread(sqlite: str, snap: fsvc.Snapshot) -> None:
    """A run is active in its thread only: what another thread reads may be for anything."""
    with fsvc.mlflow.track(), mlflow.start_run():
        thread = threading.Thread(target=snap.to_arrow)
        thread.start()
        thread.join()
        with pytest.warns(FsvcWarning, match="read while no run was active"):
            info = small_flavor.log_model("fitted", "m")
    assert nothing_linked(info)


def test_a_nested_run_has_its_own_reads(sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    other = repo.snapshot("customer_features@v1")
    with fsvc.mlflow.track(), mlflow.start_run():
        snap.to_arrow()
        with mlflow.start_run(nested=True):
            other.to_arrow()
            inner = small_flavor.log_model("fitted", "inner")
        outer = small_flavor.log_model("fitted", "outer")
    assert fsvc.mlflow.restore(inner.model_uri) == other
    assert fsvc.mlflow.restore(outer.model_uri) == snap


def test_two_snapshots_are_inputs(sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    other = repo.snapshot("customer_features@v1")
    with fsvc.mlflow.track(), mlflow.start_run():
        snap.to_arrow()
        other.to_arrow()
        with pytest.warns(FsvcWarning, match="nothing says which of them the model was trained on"):
            info = small_flavor.log_model("fitted", "m")
    found = {source.role: source.commit for source in fsvc.mlflow.lineage(info.model_uri).data}
    assert found == {"customer_features-v2": snap.commit, "customer_features-v1": other.commit}
    assert fsvc.mlflow.restore(info.model_uri, role="customer_features-v1") == other
    assert {model.role for model in fsvc.mlflow.models_for(other)} == {"customer_features-v1"}


def test_a_model_that_names_its_data_stays_as_it_is(
    sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any
) -> None:
    other = repo.snapshot("customer_features@v1")
    # The run did read v2, so it is among its datasets; but its params are those of what was named.
    with warnings.catch_warnings(record=True) as said, fsvc.mlflow.track(), mlflow.start_run() as run:
        warnings.simplefilter("always", FsvcWarning)
        snap.to_arrow()
        named = log(other)
        plain = small_flavor.log_model("fitted", "plain", fsvc.mlflow.metadata(other))
    sentences = [str(warning.message) for warning in said if warning.category is FsvcWarning]
    assert len(sentences) == 1
    assert "has the params of customer_features v1 already" in sentences[0]
    assert fsvc.mlflow.restore(named.model_uri) == other
    assert fsvc.mlflow.restore(plain.model_uri) == other
    assert {pin.commit for pin in repo.pins()} == {other.commit.id}
    assert len(used(run)) == 2


def test_a_run_without_a_model_is_linked_at_the_end(sqlite: str, silent: None, snap: fsvc.Snapshot) -> None:
    with fsvc.mlflow.track(), mlflow.start_run() as run:
        snap.to_arrow()
        assert used(run) == []
    assert used(run) == [("customer_features", "training")]


def test_errors_leave_mlflow_as_it_was(sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    plain = Model.__dict__["log"]
    with pytest.raises(ZeroDivisionError), fsvc.mlflow.track(), mlflow.start_run():
        snap.to_arrow()
        assert Model.__dict__["log"] is not plain
        with fsvc.mlflow.track():
            snap.to_arrow()
        assert Model.__dict__["log"] is not plain
        raise ZeroDivisionError
    assert Model.__dict__["log"] is plain
    with pytest.raises(TypeError), fsvc.mlflow.track(), mlflow.start_run():
        snap.to_arrow()
        small_flavor.log_model(5, "m")  # type: ignore[arg-type]
    assert Model.__dict__["log"] is plain
    assert repo.pins() == []


def test_outside_of_it_nothing_is_linked(sqlite: str, snap: fsvc.Snapshot) -> None:
    with fsvc.mlflow.track():
        pass
    with mlflow.start_run() as run:
        snap.to_arrow()
        info = small_flavor.log_model("fitted", "m")
    assert nothing_linked(info)
    assert used(run) == []
