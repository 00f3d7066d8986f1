"""The data of a model that were erased say so wherever they are asked for; what keeps a model keeps its data."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc
import pytest

import fsvc
import fsvc.mlflow
from fsvc.errors import ErasedError


@pytest.mark.usefixtures("sqlite")
def test_a_model_keeps_its_data_from_expiring_but_not_from_being_erased(
    repo: fsvc.Repository, log: Any
) -> None:
    snapshot = repo.snapshot("customer_features@v1")
    table = snapshot.to_arrow()
    uri = log(snapshot).model_uri
    (key,) = snapshot.key
    somebody = table[key][0]
    newest = repo.snapshot("customer_features").to_arrow()
    repo.commit({"customer_features": newest.filter(pc.not_equal(newest[key], somebody))}, message="without")
    repo.expire(last=1, delete=True)
    repo.gc(delete=True, grace=0)
    assert fsvc.mlflow.restore(uri, repository=repo).to_arrow().equals(table)
    planned = repo.purge("customer_features", keys=[somebody.as_py()])
    assert len(planned.models) == 1
    repo.purge("customer_features", keys=[somebody.as_py()], reason="request 118", delete=True)
    again = fsvc.open(repo.location)
    with pytest.raises(ErasedError, match="request 118"):
        fsvc.mlflow.restore(uri, repository=again).to_arrow()
    (report,) = fsvc.mlflow.verify(uri, repository=again).values()
    assert report.ok and [one.problem for one in report.erased] == ["erased"]
