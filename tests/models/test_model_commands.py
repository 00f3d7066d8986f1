"""The commands on models: what they print, what they write, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import small_flavor
from rights import read_only

import fsvc
import fsvc.mlflow
from fsvc.cli import main
from fsvc.engine.files import pack_key
from fsvc.errors import StorageError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], repo: fsvc.Repository) -> Run:
    """Return a function that runs a command on the repository: its exit code, stdout and stderr."""

    def go(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(["--repo", repo.location, *words])
        out, err = capsys.readouterr()
        return int(done.value.code or 0), out, err

    return go


@pytest.fixture
def churn(sqlite: Any, snap: fsvc.Snapshot) -> str:
    """Return the URI of a registered model that was trained on two columns of v2."""
    with mlflow.start_run():
        fsvc.mlflow.log_model(
            small_flavor,
            "fitted",
            name="churn",
            snapshot=snap.select(["age", "churned"]),
            registered_model_name="churn",
        )
    mlflow.MlflowClient().set_registered_model_alias("churn", "champion", "1")
    return "models:/churn@champion"


def test_restore_writes_the_very_columns(run: Run, churn: str, snap: fsvc.Snapshot, tmp_path: Path) -> None:
    target = tmp_path / "train.parquet"
    code, out, _ = run("restore", churn, "-o", str(target), "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["snapshot"], told["proven"], told["used_columns"]) == (snap.id, True, ["age", "churned"])
    assert fsvc.identify(target).id == fsvc.identify(snap.to_arrow(["age", "churned"])).id
    code, _, err = run("restore", churn, "-o", str(target))
    assert (code, "--force" in err) == (5, True)
    assert run("restore", churn, "-o", str(target), "--force")[0] == 0
    assert run("restore", churn, "--check")[0] == 0


def test_a_model_leads_to_its_data_where_nothing_may_be_written(
    run: Run, churn: str, repo: fsvc.Repository, tmp_path: Path
) -> None:
    snap = repo.snapshot("customer_features@v2")
    with read_only(Path(repo.location)):
        assert run("restore", churn, "-o", str(tmp_path / "train.parquet"))[0] == 0
        assert run("lineage", churn)[0] == 0
        assert run("verify", churn)[0] == 0
        assert "churn" in run("models", "customer_features@v2")[1]
        assert (
            fsvc.mlflow.restore(churn, repository=repo).to_arrow().equals(snap.to_arrow(["age", "churned"]))
        )
        with pytest.raises(StorageError, match="the file system is read-only|permission denied"):
            repo.tag("gold")
    assert fsvc.identify(tmp_path / "train.parquet").id == fsvc.identify(snap.to_arrow(["age", "churned"])).id


def test_verify_of_a_model_tells_what_was_proven(run: Run, churn: str, snap: fsvc.Snapshot) -> None:
    code, out, _ = run("verify", churn)
    assert code == 0
    assert "train:" in out and "proved " in out and "no damage found" in out
    code, out, _ = run("verify", churn, "--json")
    told = json.loads(out)
    assert (code, told["model"], told["ok"], list(told["roles"])) == (0, churn, True, ["train"])
    assert told["roles"]["train"]["deep"] and told["roles"]["train"]["damages"] == []
    entry = snap.reader.entries(snap.reader.column_numbers(["age"]))[0][0]
    pack = Path(snap.store.storage.location) / pack_key(entry.pack)
    data = bytearray(pack.read_bytes())
    data[entry.offset] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    code, out, _ = run("verify", churn, "--json")
    told = json.loads(out)
    (damage,) = told["roles"]["train"]["damages"]
    assert (code, told["ok"], damage["kind"], damage["name"]) == (6, False, "object", entry.address.hex())
    assert any("customer_features" in affected for affected in damage["affects"])
    code, out, _ = run("verify", churn)
    assert code == 6 and f"object {entry.address.hex()} is damaged" in out
    assert run("verify", "models:/none@champion")[0] == 4
    assert run("verify", churn, "--repair")[0] == 2


def test_a_place_where_everybody_may_write_is_pointed_out_once(
    run: Run, churn: str, repo: fsvc.Repository
) -> None:
    Path(repo.location).chmod(0o777)
    for words in (
        ["lineage", churn],
        ["verify", churn],
        ["drift", churn, "--against", "main"],
        ["models", "customer_features@v2"],
        ["log"],
    ):
        code, _, err = run(*words)
        assert code in (0, 3) and err.count("warning: everybody on this machine may change") == 1, (
            words,
            err,
        )


def test_lineage_and_models_lead_both_ways(run: Run, churn: str, snap: fsvc.Snapshot) -> None:
    code, out, _ = run("lineage", churn)
    assert code == 0
    assert snap.commit.id in out and "@champion" in out
    code, out, _ = run("models", "customer_features@v2", "--json")
    (model,) = json.loads(out)["models"]
    assert (model["role"], model["versions"][0]["aliases"]) == ("train", ["champion"])
    code, out, _ = run("models", "customer_features@v1", "--json")
    assert (code, json.loads(out)["models"]) == (0, [])


def test_the_log_names_models(run: Run, churn: str, snap: fsvc.Snapshot) -> None:
    _, out, _ = run("log", "--json")
    named = {commit["id"]: commit["models"] for commit in json.loads(out)["commits"]}
    assert named[snap.commit.id] == ["churn"]
    assert "model churn" in run("log")[1]


def test_pins_are_listed_and_synchronised(run: Run, churn: str) -> None:
    (pin,) = json.loads(run("pins", "--json")[1])["pins"]
    assert (pin["model"], pin["settled"], pin["role"]) == ("churn", True, "train")
    code, out, _ = run("pins", "--sync", "--dry-run", "--json")
    assert (code, len(json.loads(out)["kept"])) == (0, 1)
    assert run("pins", "--dry-run")[0] == 2


def test_the_data_of_two_models_are_compared(run: Run, churn: str, repo: fsvc.Repository) -> None:
    with mlflow.start_run():
        newest = repo.snapshot("customer_features")
        fsvc.mlflow.log_model(
            small_flavor, "fitted", name="churn", snapshot=newest, registered_model_name="churn"
        )
    code, out, _ = run("diff", "models:/churn/1", "models:/churn/2")
    assert code == 0
    assert "spend" in out
    assert run("diff", "models:/churn/1", "models:/churn/1", "--exit-code")[0] == 0


def test_a_model_of_all_columns_stands_for_those_of_its_snapshot_and_hides_no_others(
    run: Run, churn: str, snap: fsvc.Snapshot, repo: fsvc.Repository
) -> None:
    with mlflow.start_run():
        fsvc.mlflow.log_model(
            small_flavor, "fitted", name="churn", snapshot=snap, registered_model_name="churn"
        )
    table = snap.to_arrow()
    more = table.append_column("more", table["age"])
    repo.commit({"customer_features": more}, message="one column more")

    def schema(*sides: str) -> Any:
        code, out, _ = run("diff", *sides, "--schema", "--json")
        assert code == 0
        return json.loads(out)["feature_sets"]["customer_features"]["schema"]

    assert schema("models:/churn/2", "customer_features@main")["added"] == ["more"]
    # A selection holds for a snapshot beside it, and not for another model.
    assert schema("models:/churn/1", "customer_features@main")["added"] == []
    others = [name for name in snap.schema.names if name not in ("age", "churned", *snap.key)]
    assert sorted(schema("models:/churn/1", "models:/churn/2")["added"]) == sorted(others)
    assert sorted(schema("models:/churn/2", "models:/churn/1")["dropped"]) == sorted(others)


def test_what_is_not_there_is_said(run: Run, churn: str, tmp_path: Path) -> None:
    assert run("restore", "models:/churn/7")[0] == 4
    assert run("restore", "models:/churn")[0] == 2
    code, _, err = run("restore", churn, "--role", "trian", "--check")
    assert (code, "'train'" in err) == (4, True)
    elsewhere = fsvc.init(tmp_path / "elsewhere")
    code, _, err = run("--repo", elsewhere.location, "restore", churn, "--check")
    assert (code, elsewhere.project in err) == (4, True)
