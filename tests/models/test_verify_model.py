"""``fsvc verify MODEL_URI`` proves what a model stands on, and looks at nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fsvc
import fsvc.mlflow
from fsvc.engine.files import pack_key
from fsvc.errors import Corruption


def flip(path: Path, at: int) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.usefixtures("sqlite")
def test_only_what_the_model_stands_on_is_verified(repo: fsvc.Repository, log: Any) -> None:
    uri = log(repo.snapshot("customer_features@v1")).model_uri
    (report,) = fsvc.mlflow.verify(uri, repository=repo).values()
    assert report.ok and report.deep and report.counts.proven > 0
    assert (report.counts.commits, report.counts.manifests) == (1, 1)
    root = Path(repo.location)
    first = repo.snapshot("customer_features@v1").reader
    mine = {entry.pack for column in first.entries(first.column_numbers(None)) for entry in column}
    for path in (root / "packs").iterdir():
        if path.stem not in mine:
            flip(path, 9)
    again = fsvc.open(root)
    assert not again.verify().ok
    assert fsvc.mlflow.verify(uri, repository=again)["train"].ok, "what others stand on is their affair"
    entry = first.entries([1])[0][0]
    flip(root / pack_key(entry.pack), entry.offset)
    report = fsvc.mlflow.verify(uri, repository=fsvc.open(root))["train"]
    assert [damage.name for damage in report.damages] == [entry.address.hex()]
    assert report.damages[0].affects


@pytest.mark.usefixtures("sqlite")
@pytest.mark.parametrize("folder", ["commits", "manifests"])
def test_a_damaged_commit_or_manifest(repo: fsvc.Repository, log: Any, folder: str) -> None:
    snapshot = repo.snapshot("customer_features@v1")
    uri = log(snapshot).model_uri
    name = snapshot.commit.id + ".json" if folder == "commits" else snapshot.id + ".man"
    flip(Path(repo.location) / folder / name, 40)
    with pytest.raises(Corruption):
        fsvc.mlflow.verify(uri, repository=fsvc.open(repo.location))
