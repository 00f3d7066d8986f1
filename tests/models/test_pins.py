"""No model without its pin, no pin of a model that is proven gone, and nothing released on a guess."""

from __future__ import annotations

from typing import Any

import mlflow
import pytest
import small_flavor
from mlflow.entities import LoggedModelStatus

import fsvc
import fsvc.mlflow
from fsvc.engine import pins
from fsvc.errors import Conflict, FsvcError, TrackingError
from fsvc.mlflow.sync import Synced


class Broken(Exception):
    """What a flavour raises in these tests."""


def flavor(action: Any) -> Any:
    """The small flavour, with something done before the model is logged."""
    from types import ModuleType

    module = ModuleType("acting")

    def log_model(
        model: str, name: str, metadata: Any = None, tags: Any = None, model_id: str | None = None
    ) -> Any:
        action(model_id)
        return small_flavor.log_model(model, name, metadata, tags, model_id)

    module.log_model = log_model  # type: ignore[attr-defined]
    return module


def states(repo: fsvc.Repository) -> dict[tuple[str | None, str], tuple[str, bool]]:
    return {(pin.model, pin.role): (pin.commit, pin.settled) for pin in repo.pins()}


def synced(done: Synced) -> tuple[list[str | None], list[str | None], dict[str | None, str]]:
    return (
        [pin.model or pin.token for pin in done.settled],
        [pin.model or pin.token for pin in done.released],
        {pin.model or pin.token: why for pin, why in done.kept},
    )


def test_the_pin_is_there_before_the_model(sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    seen: list[Any] = []

    def look(model_id: str | None) -> None:
        seen.append((states(repo), mlflow.get_logged_model(str(model_id)).status))

    info = fsvc.mlflow.log_model(flavor(look), "fitted", name="m", snapshot=snap)
    before, status = seen[0]
    assert before == {(info.model_id, "train"): (snap.commit.id, False)}
    assert status == LoggedModelStatus.PENDING
    assert states(repo) == {(info.model_id, "train"): (snap.commit.id, True)}


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt])
def test_a_flavour_that_fails(
    error: type[BaseException], tracking: str, repo: fsvc.Repository, snap: fsvc.Snapshot
) -> None:
    def fail(_: Any) -> None:
        raise error("midway")

    with pytest.raises(error, match="midway") as caught, mlflow.start_run() as run:
        fsvc.mlflow.log_model(flavor(fail), "fitted", name="m", snapshot=snap, inputs={"test": snap})
    assert not getattr(caught.value, "__notes__", None)
    assert repo.pins() == []
    (model,) = mlflow.search_logged_models(output_format="list", filter_string="name = 'm'")[-1:]
    assert model.status == LoggedModelStatus.FAILED
    assert model.source_run_id == run.info.run_id
    assert repo.verify(deep=True).ok
    assert repo.head() == repo.snapshot("customer_features@v3").commit


def test_a_flavour_without_model_id_that_fails(
    sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot
) -> None:
    from types import ModuleType

    module = ModuleType("failing")

    def log_model(model: str, name: str, metadata: Any = None) -> Any:
        assert [pin.token for pin in repo.pins()] == [metadata["fsvc"]["pin"]]
        raise Broken("midway")

    module.log_model = log_model  # type: ignore[attr-defined]
    with pytest.raises(Broken):
        fsvc.mlflow.log_model(module, "fitted", name="m", snapshot=snap)
    assert repo.pins() == []


def test_a_pin_never_moves_to_another_commit(repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    signer = pins.Signer("Ada", "2026-01-01T00:00:00.000000Z", "m", "f" * 16)
    other = repo.snapshot("customer_features@v1")
    pins.begin(repo.store, {"train": snap.reference}, signer, model="m-1")
    pins.begin(repo.store, {"train": snap.reference}, signer, model="m-1")
    assert states(repo) == {("m-1", "train"): (snap.commit.id, False)}
    for move in (pins.begin, pins.settle):
        with pytest.raises(Conflict, match=f"keeps another commit, {snap.commit.id[:12]}"):
            move(repo.store, {"train": other.reference}, signer, model="m-1")
    pins.settle(repo.store, {"train": snap.reference}, signer, model="m-1")
    pins.settle(repo.store, {"train": snap.reference}, signer, model="m-1")
    assert states(repo) == {("m-1", "train"): (snap.commit.id, True)}
    (pin,) = repo.pins()
    assert (pin.label, pin.server, pin.author, pin.feature_set) == ("m", "f" * 16, "Ada", "customer_features")
    for _ in range(2):
        pins.release(repo.store, [pin.name], author="Ada", time="2026-01-02T00:00:00.000000Z", reason="gone")
    assert repo.pins() == []


def test_sync_settles_what_was_logged_plainly(
    tracking: str, repo: fsvc.Repository, snap: fsvc.Snapshot
) -> None:
    with mlflow.start_run():
        first = small_flavor.log_model("fitted", "a", fsvc.mlflow.metadata(snap))
    (pin,) = repo.pins()

    assert synced(fsvc.mlflow.sync_pins(repo, dry_run=True)) == ([pin.token], [], {})
    assert [found.token for found in repo.pins()] == [pin.token]
    assert "fsvc.snapshot" not in mlflow.get_logged_model(first.model_id).tags

    assert synced(fsvc.mlflow.sync_pins(repo)) == ([pin.token], [], {})
    assert states(repo) == {(first.model_id, "train"): (snap.commit.id, True)}
    assert mlflow.get_logged_model(first.model_id).tags["fsvc.snapshot"] == snap.id
    assert [model.model_id for model in fsvc.mlflow.models_for(snap.commit, repository=repo)] == [
        first.model_id
    ]
    assert synced(fsvc.mlflow.sync_pins(repo)) == ([], [], {first.model_id: "its model is there"})


def test_sync_waits_for_models_that_may_come(sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    loose = fsvc.mlflow.metadata(snap)["fsvc"]["pin"]
    with mlflow.start_run():
        token = fsvc.mlflow.metadata(snap)["fsvc"]["pin"]
        _, released, kept = synced(fsvc.mlflow.sync_pins(repo))
        assert released == []
        assert kept == {loose: "its model may still be logged", token: "its model may still be logged"}
    assert synced(fsvc.mlflow.sync_pins(repo))[1] == [token]
    assert [pin.token for pin in repo.pins()] == [loose]


def test_sync_keeps_the_token_of_an_open_run(sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
    with mlflow.start_run():
        told = fsvc.mlflow.metadata(snap)
        info = small_flavor.log_model("fitted", "a", told)
        why = "its model is settled, and more may be logged with the same metadata"
        assert synced(fsvc.mlflow.sync_pins(repo)) == ([], [], {told["fsvc"]["pin"]: why})
        assert states(repo)[info.model_id, "train"] == (snap.commit.id, True)
    assert synced(fsvc.mlflow.sync_pins(repo))[0] == [told["fsvc"]["pin"]]
    assert set(states(repo)) == {(info.model_id, "train")}


@pytest.mark.parametrize("logged", [False, True])
def test_a_token_of_no_run_waits_a_fortnight(
    logged: bool,
    sqlite: str,
    repo: fsvc.Repository,
    snap: fsvc.Snapshot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from datetime import datetime, timedelta

    told = fsvc.mlflow.metadata(snap)
    token = told["fsvc"]["pin"]
    if logged:
        small_flavor.log_model("fitted", "a", told)
    (pin,) = repo.pins()
    made = datetime.fromisoformat(pin.time)

    def sync_after(age: timedelta) -> tuple[list[str | None], list[str | None], dict[str | None, str]]:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return made + age

        monkeypatch.setattr("fsvc.mlflow.sync.datetime", Clock)
        return synced(fsvc.mlflow.sync_pins(repo))

    settled, released, kept = sync_after(timedelta(days=14))
    assert (settled, released, token in kept) == ([], [], True)
    settled, released, kept = sync_after(timedelta(days=14, seconds=1))
    assert (settled, released) == (([token], []) if logged else ([], [token]))
    assert token not in {found.token for found in repo.pins()}


def test_one_model_of_two_repositories(
    sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot, table: Any, tmp_path: Any
) -> None:
    other = fsvc.init(tmp_path / "another", author="Bob")
    other.commit({"prices": table(9)}, key="customer", message="prices")
    prices = other.snapshot("prices")
    with mlflow.start_run():
        info = fsvc.mlflow.log_model(
            small_flavor, "fitted", name="m", snapshot=snap, inputs={"prices": prices}
        )
    assert states(repo) == {(info.model_id, "train"): (snap.commit.id, True)}
    assert states(other) == {(info.model_id, "prices"): (prices.commit.id, True)}
    uri = f"models:/{info.model_id}"
    assert fsvc.mlflow.restore(uri).commit.id == snap.commit.id
    assert fsvc.mlflow.restore(uri, role="prices").to_arrow().equals(table(9))
    assert [found.role for found in fsvc.mlflow.models_for(prices)] == ["prices"]

    def fail(_: Any) -> None:
        raise Broken("midway")

    with pytest.raises(Broken):
        fsvc.mlflow.log_model(flavor(fail), "fitted", name="m", snapshot=snap, inputs={"prices": prices})
    assert [len(states(each)) for each in (repo, other)] == [1, 1]


def test_sync_releases_only_what_is_gone(
    sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any
) -> None:
    server = mlflow.MlflowClient()
    gone, there = log(snap, name="gone"), log(snap, name="there")
    registered = log(snap, name="registered", registered_model_name="churn")
    copied = log(snap, name="copied", registered_model_name="other")
    server.copy_model_version("models:/other/1", "copy")
    server.delete_model_version("other", "1")
    for info in (gone, registered, copied):
        server.delete_logged_model(info.model_id)
    everyone = states(repo)

    done = synced(fsvc.mlflow.sync_pins(repo, dry_run=True))
    assert done[1] == [gone.model_id]
    assert states(repo) == everyone
    assert synced(fsvc.mlflow.sync_pins(repo)) == done
    assert set(done[2]) == {there.model_id, registered.model_id, copied.model_id}
    assert set(states(repo)) == {key for key in everyone if key[0] != gone.model_id}


def test_sync_leaves_what_another_server_has(
    sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any, template: Any, tmp_path: Any
) -> None:
    import shutil

    info = log(snap)
    token = fsvc.mlflow.metadata(snap)["fsvc"]["pin"]
    shutil.copy(template, tmp_path / "other.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'other.db'}")
    assert synced(fsvc.mlflow.sync_pins(repo)) == (
        [],
        [],
        {info.model_id: "logged to another tracking server", token: "made for another tracking server"},
    )


@pytest.mark.parametrize("method", ["search_experiments", "search_logged_models", "search_model_versions"])
def test_sync_changes_nothing_where_a_page_is_missing(
    method: str,
    sqlite: str,
    repo: fsvc.Repository,
    snap: fsvc.Snapshot,
    log: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.store.entities import PagedList

    info = log(snap)
    mlflow.MlflowClient().delete_logged_model(info.model_id)
    with mlflow.start_run():
        small_flavor.log_model("fitted", "a", fsvc.mlflow.metadata(snap))
    before = repo.pins()
    real = getattr(mlflow.MlflowClient, method)

    def pages(self: Any, *args: Any, page_token: str | None = None, **options: Any) -> Any:
        if page_token == "second":
            raise MlflowException("the page is lost")
        return PagedList(list(real(self, *args, **options)), "second")

    monkeypatch.setattr(mlflow.MlflowClient, method, pages)
    with pytest.raises(TrackingError, match="the page is lost"):
        fsvc.mlflow.sync_pins(repo)
    assert repo.pins() == before


def test_sync_stops_at_a_copy_that_cannot_be_read(
    sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any
) -> None:
    """It may be of any model: nothing is released beside it."""
    from pathlib import Path

    server = mlflow.MlflowClient()
    gone = log(snap, name="gone")
    info = log(snap, registered_model_name="churn")
    server.copy_model_version("models:/churn/1", "copy")
    place = Path(mlflow.artifacts.download_artifacts(info.model_uri))
    server.delete_model_version("churn", "1")
    server.delete_logged_model(gone.model_id)
    (place / "MLmodel").write_text("flavors: [")
    before = repo.pins()
    with pytest.raises(FsvcError, match="copy/1"):
        fsvc.mlflow.sync_pins(repo)
    assert repo.pins() == before
