"""A deployed model gets features of the form that it was trained with, or an error that names the columns."""

from __future__ import annotations

import warnings
from typing import Any

import pyarrow as pa
import pytest

import fsvc
import fsvc.mlflow
from fsvc.errors import FsvcWarning, InvalidUse, NotFound, SkewError
from fsvc.mlflow.serving import Skew, compare_features

BASE: dict[str, Any] = {
    "id": pa.array([1, 2, 3], pa.int64()),
    "amount": pa.array([1.0, 5.0, 9.0]),
    "plan": pa.array(["free", "plus", "pro"]).dictionary_encode(),
}


def features(**changes: Any) -> pa.Table:
    columns = {**BASE, **changes}
    return pa.table({name: values for name, values in columns.items() if values is not None})


@pytest.fixture
def shop(tmp_path: Any) -> fsvc.Repository:
    made = fsvc.init(tmp_path / "shop", author="Ada")
    made.commit({"features": features()}, key="id", message="training")
    return made


def skew(shop: fsvc.Repository, current: pa.Table, columns: list[str] | None = None) -> Skew:
    made = shop.commit({"features": current}, key="id", message="now")
    training = shop.snapshot("features@v1")
    return compare_features(
        training if columns is None else training.select(columns), made.snapshot("features")
    )


def categories(*values: str) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0, 0, 0], pa.int32()), pa.array(values))


@pytest.mark.parametrize(
    ("current", "sentence"),
    [
        (features(amount=None), "1 column is missing: 'amount'"),
        (features(amount=None, plan=None), "2 columns are missing: 'amount', 'plan'"),
        (features(amount=pa.array([1, 5, 9], pa.int64())), "column 'amount' is int64, and was double"),
        (features(plan=categories("free", "plus", "pro", "max")), "has other categories (new: 'max')"),
        (features(plan=categories("free", "plus")), "has other categories (gone: 'pro')"),
        (features(plan=categories("pro", "plus", "free")), "has other categories (in another order)"),
    ],
)
def test_another_form_is_an_error(current: pa.Table, sentence: str, shop: fsvc.Repository) -> None:
    found = skew(shop, current)
    assert not found.ok
    assert len(found.errors) == 1
    assert sentence in found.errors[0]


def test_nulls_where_there_could_be_none(shop: fsvc.Repository) -> None:
    strict = pa.schema([("id", pa.int64()), pa.field("x", pa.float64(), nullable=False)])
    one = shop.commit({"strict": pa.table([[1], [2.0]], schema=strict)}, key="id", message="strict")
    two = shop.commit({"strict": pa.table({"id": [1], "x": [2.0]})}, key="id", message="loose")
    before, after = one.snapshot("strict"), two.snapshot("strict")
    assert compare_features(before, after).errors == ("column 'x' may be null, and could not be",)
    assert compare_features(after, before).ok


@pytest.mark.parametrize(
    ("current", "sentences"),
    [
        (features(), ()),
        (features(amount=pa.array([1.0, 5.0, 9.5])), ("column 'amount' has a maximum of 9.5, and had 9.0",)),
        (
            features(amount=pa.array([-1.0, 5.0, 9.0])),
            ("column 'amount' has a minimum of -1.0, and had 1.0",),
        ),
        (features(amount=pa.array([None, 5.0, 6.0])), ("column 'amount' has 1 nulls, and had none",)),
        (features(more=pa.array([1, 2, 3])), ("1 column is new, and left out: 'more'",)),
    ],
)
def test_what_only_differs_is_a_warning(
    current: pa.Table, sentences: tuple[str, ...], shop: fsvc.Repository
) -> None:
    assert skew(shop, current) == Skew((), sentences)


def test_only_the_columns_of_the_model_count(shop: fsvc.Repository) -> None:
    other = features(plan=pa.array([1, 2, 3]), more=pa.array([1, 2, 3]))
    assert skew(shop, other, ["amount"]) == Skew((), ())


def test_features_for_a_model(sqlite: str, shop: fsvc.Repository, log: Any) -> None:
    training = shop.snapshot("features@v1").select(["amount", "id"])
    uri = log(training).model_uri
    grown = shop.commit(
        {"features": features(amount=pa.array([1.0, 5.0, 90.0]), more=pa.array([1, 2, 3]))},
        key="id",
        message="v2",
    )
    shop.commit({"features": features(amount=None)}, key="id", message="v3")
    assert fsvc.mlflow.features_for(uri) == training
    with pytest.warns(FsvcWarning, match="'amount' has a maximum of 90.0, and had 9.0"):
        current = fsvc.mlflow.features_for(uri, at="v2")
    assert current == grown.snapshot("features").select(["amount", "id"])
    assert current.to_arrow().column_names == ["amount", "id"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fsvc.mlflow.features_for(uri, at="v1").id == training.id
    with pytest.raises(
        SkewError, match=r"features@v3 is not what the model .* 1 column is missing: 'amount'"
    ) as error:
        fsvc.mlflow.features_for(uri, at="main")
    assert "features@v1" in str(error.value.hint)
    with pytest.raises(NotFound):
        fsvc.mlflow.features_for(uri, at="v9")
    with pytest.raises(NotFound):
        fsvc.mlflow.features_for(uri, at="absent@v1")


def test_the_recipe_of_the_training_data_runs_on_fresh_inputs(
    sqlite: str, shop: fsvc.Repository, log: Any
) -> None:
    sums = 'select id, sum(amount) as total, count(*)::int as "n" from features group by id order by id'
    training = (
        shop.commit_query("sums", sums, key="id", message="sums").snapshot("sums").select(["n", "total"])
    )
    uri = log(training).model_uri
    fresh = features(id=pa.array([7, 8, 9]), amount=pa.array([2.0, 3.0, 4.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FsvcWarning)
        found = fsvc.mlflow.features_for(uri, inputs={"features": fresh})
    assert found.to_arrow().to_pydict() == {"n": [1, 1, 1], "total": [2.0, 3.0, 4.0]}
    with pytest.warns(FsvcWarning, match="'total' has a maximum of 400.0"):
        fsvc.mlflow.features_for(uri, inputs={"features": features(amount=pa.array([2.0, 3.0, 400.0]))})
    with pytest.raises(SkewError, match="'amount' is int64, and was double"):
        fsvc.mlflow.features_for(uri, inputs={"features": features(amount=pa.array([1, 2, 3]))})
    with pytest.raises(InvalidUse, match="not both"):
        fsvc.mlflow.features_for(uri, at="v1", inputs={"features": fresh})
    plain = log(shop.snapshot("features@v1")).model_uri
    with pytest.raises(NotFound, match="features@v1 was not made by a recipe"):
        fsvc.mlflow.features_for(plain, inputs={"features": fresh})
