"""Predictions for a spine are those of the model on the features that it was trained with, row by row."""

from __future__ import annotations

import json
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.models import infer_signature
from mlflow.types.schema import ColSpec, Schema

import fsvc
import fsvc.mlflow
from fsvc.cli import main
from fsvc.errors import FsvcError, FsvcWarning, InvalidUse, KeyViolation, NotFound, SkewError

ROWS = 500


class Sum(mlflow.pyfunc.PythonModel):
    """Adds up what it is given; texts count by their length."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        assert len(model_input)
        total = np.zeros(len(model_input))
        for name in model_input.columns:
            values = model_input[name]
            total += values if values.dtype.kind in "ifb" else values.astype(str).str.len()
        return total


class Two(Sum):
    """Gives two named columns."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        total = super().predict(context, model_input)
        return pd.DataFrame({"low": total - 1, "high": total + 1})


class Probabilities(Sum):
    """Gives two values a row, as an array."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        total = super().predict(context, model_input)
        return np.stack([total, -total], axis=1)


class Broken(Sum):
    """Fails, and says something secret."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        raise RuntimeError("no answer from https://user:hunter2@example.org/x")


@pytest.fixture
def shop(tmp_path: Path) -> fsvc.Repository:
    """Two versions of ``features``: in v2 every amount is one more."""
    made = fsvc.init(tmp_path / "shop", author="Ada")
    for more in (0, 1):
        table = pa.table(
            {
                "customer": pa.array(np.arange(ROWS)[::-1].copy()),
                "amount": pa.array(np.arange(ROWS)[::-1] / 4 + more),
                "visits": pa.array(np.arange(ROWS)[::-1] % 7, pa.int32()),
                "plan": pa.array(["free", "plus"] * (ROWS // 2)).dictionary_encode(),
                "label": pa.array(np.zeros(ROWS)),
            }
        )
        made.commit({"features": table}, key="customer", message=f"{more} more")
    return made


def logged(
    shop: fsvc.Repository, model: Any = None, *, signature: Any = "amount and visits", name: str | None = None
) -> str:
    """The URI of a model that was trained on v1."""
    snapshot = shop.snapshot("features@v1").select(["amount", "visits", "plan", "label"])
    if isinstance(signature, str):
        signature = infer_signature(snapshot.to_pandas()[["amount", "visits"]].astype({"visits": "float64"}))
    info = fsvc.mlflow.log_model(
        mlflow.pyfunc,
        model or Sum(),
        name="sum",
        snapshot=snapshot,
        signature=signature,
        registered_model_name=name,
        pip_requirements=["mlflow"],
    )
    return str(info.model_uri)


def expected(keys: Any, more: float = 0) -> list[float]:
    return [key / 4 + more + key % 7 for key in keys]


@pytest.fixture
def uri(sqlite: str, shop: fsvc.Repository) -> str:
    return logged(shop)


@pytest.mark.parametrize("in_memory", [True, False])
def test_predictions_come_in_the_order_of_the_spine(
    uri: str, shop: fsvc.Repository, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_memory:
        monkeypatch.setattr("fsvc.features.retrieving._MOST_VALUES", 0)
    keys = np.random.default_rng(1).integers(0, ROWS, 3_000)
    spine = pa.table(
        {"customer": pa.array(keys, pa.int32()), "row": pa.array(np.arange(3_000)).dictionary_encode()}
    )
    scores = fsvc.mlflow.score_batch(uri, spine, batch_rows=100)
    table = scores.to_arrow()
    assert table["row"].type == spine["row"].type
    assert table["customer"].to_pylist() == keys.tolist()
    assert table["row"].to_pylist() == list(range(3_000))
    assert table["prediction"].to_pylist() == pytest.approx(expected(keys))
    assert (scores.rows, scores.missing_rows) == (3_000, 0)
    v1 = shop.snapshot("features@v1").commit.id
    assert scores.commits == {"features": v1}
    assert json.loads(table.schema.metadata[b"fsvc:scores"]) == {"model": uri, "commits": {"features": v1}}
    assert scores.to_arrow().equals(table)  # it can be read again


def test_features_at_another_revision(uri: str, shop: fsvc.Repository) -> None:
    spine = pa.table({"customer": [3, 1]})
    for at in ("v2", {"features": "v2"}, "main", "features@v2"):
        with pytest.warns(FsvcWarning, match="'amount'"):
            scores = fsvc.mlflow.score_batch(uri, spine, at)
        assert scores.to_arrow()["prediction"].to_pylist() == expected([3, 1], 1)
        assert scores.commits == {"features": shop.snapshot("features@v2").commit.id}
    with pytest.raises(NotFound, match="'other'"):
        fsvc.mlflow.score_batch(uri, spine, {"other": "v2"})
    shop.commit({"features": shop.snapshot("features").to_arrow().drop_columns("amount")}, message="v3")
    with pytest.raises(SkewError, match="amount"):
        fsvc.mlflow.score_batch(uri, spine, "v3")


def test_keys_that_are_missing(uri: str) -> None:
    keys = [None, 5, ROWS, 6]
    spine = pa.table({"customer": pa.array(keys, pa.int64())})
    for batch_rows in (1, 2, 100):
        scores = fsvc.mlflow.score_batch(uri, spine, batch_rows=batch_rows)
        assert scores.to_arrow()["prediction"].to_pylist() == [None, *expected([5]), None, *expected([6])]
        assert scores.missing_rows == 2
    nobody = fsvc.mlflow.score_batch(uri, spine.slice(0, 1)).to_arrow()
    assert nobody["prediction"].to_pylist() == [None]
    with pytest.raises(NotFound, match="has no row for customer"):
        fsvc.mlflow.score_batch(uri, spine, missing="error").to_arrow()
    seen = fsvc.mlflow.score_batch(uri, spine, missing="predict").to_pandas()["prediction"]
    assert seen.isna().tolist() == [True, False, True, False]
    with pytest.raises(InvalidUse):
        fsvc.mlflow.score_batch(uri, spine, missing="skip")  # type: ignore[arg-type]


def test_a_spine_without_rows(uri: str) -> None:
    table = fsvc.mlflow.score_batch(uri, pa.table({"customer": pa.array([], pa.int64())})).to_arrow()
    assert table.column_names == ["customer", "prediction"] and len(table) == 0


def test_a_spine_that_does_not_fit(uri: str, shop: fsvc.Repository) -> None:
    with pytest.raises(NotFound, match="no column 'customer'") as error:
        fsvc.mlflow.score_batch(uri, pa.table({"customers": [1]}))
    assert "customers" in str(error.value.hint)
    with pytest.raises(InvalidUse, match="string, and 'customer' of features@v1 is int64"):
        fsvc.mlflow.score_batch(uri, pa.table({"customer": ["1"]}))
    with pytest.raises(InvalidUse, match="'prediction'"):
        fsvc.mlflow.score_batch(uri, pa.table({"customer": [1], "prediction": [2]}))
    with pytest.raises(InvalidUse, match="has no key"):
        shop.commit({"features": shop.snapshot("features@v1").to_arrow()}, key=(), message="no key")
        fsvc.mlflow.score_batch(uri, pa.table({"customer": [1]}), "main")


def test_a_stream_is_a_spine_too(uri: str) -> None:
    table = pa.table({"customer": list(range(200))})
    scores = fsvc.mlflow.score_batch(uri, table.to_reader(50))
    assert (
        scores.to_arrow()["prediction"].to_pylist()
        == scores.to_arrow()["prediction"].to_pylist()
        == expected(range(200))
    )


def test_what_the_features_lack_is_taken_from_the_spine(sqlite: str, shop: fsvc.Repository) -> None:
    signature = infer_signature(pd.DataFrame({"discount": [0.5], "amount": [0.5]}))
    uri = logged(shop, signature=signature)
    spine = pa.table({"customer": [4, 8], "discount": pa.array([1, 2], pa.int8())})
    assert fsvc.mlflow.score_batch(uri, spine).to_arrow()["prediction"].to_pylist() == [2.0, 4.0]
    with pytest.raises(NotFound, match="takes 'discount'"):
        fsvc.mlflow.score_batch(uri, spine.drop_columns("discount"))


def test_inputs_are_cast_to_the_signature(sqlite: str, shop: fsvc.Repository) -> None:
    def asking_for(**types: str) -> str:
        specs = [ColSpec(kind, name) for name, kind in types.items()]
        return logged(shop, signature=mlflow.models.ModelSignature(inputs=Schema(specs)))  # type: ignore[arg-type]

    spine = pa.table({"customer": [4, 8]})
    for kind in ("double", "float", "long", "integer"):
        assert fsvc.mlflow.score_batch(asking_for(visits=kind), spine).to_arrow()[
            "prediction"
        ].to_pylist() == [4, 1]
    texts = fsvc.mlflow.score_batch(asking_for(plan="string"), spine).to_arrow()
    assert texts["prediction"].to_pylist() == [4, 4]
    with pytest.raises(SkewError, match="'amount'"):
        fsvc.mlflow.score_batch(asking_for(amount="long"), pa.table({"customer": [5]})).to_arrow()
    unknown = pa.table({"customer": [4, 10**6]})
    with pytest.raises(SkewError, match="'visits' has nulls, 1 in one batch"):
        fsvc.mlflow.score_batch(asking_for(visits="long"), unknown, missing="predict").to_arrow()


def test_a_model_without_a_signature_needs_its_columns(sqlite: str, shop: fsvc.Repository) -> None:
    uri = logged(shop, signature=None)
    spine = pa.table({"customer": [4, 8]})
    with pytest.raises(InvalidUse, match="signature"):
        fsvc.mlflow.score_batch(uri, spine)
    scores = fsvc.mlflow.score_batch(uri, spine, columns=["amount", "plan"])
    assert scores.to_arrow()["prediction"].to_pylist() == [5.0, 6.0]


def test_what_models_give(sqlite: str, shop: fsvc.Repository) -> None:
    spine = pa.table({"customer": [4, 10**6, 8]})
    table = fsvc.mlflow.score_batch(logged(shop, Two()), spine).to_arrow()
    assert table["prediction_low"].to_pylist() == [4.0, None, 2.0]
    assert table["prediction_high"].to_pylist() == [6.0, None, 4.0]
    table = fsvc.mlflow.score_batch(logged(shop, Probabilities()), spine).to_arrow()
    assert table["prediction"].to_pylist() == [[5.0, -5.0], None, [3.0, -3.0]]
    with pytest.raises(FsvcError, match="failed on rows 0 to 2") as error:
        fsvc.mlflow.score_batch(logged(shop, Broken()), spine).to_arrow()
    assert "hunter2" not in str(error.value)


# -- as of a time -----------------------------------------------------------------------------------

START = datetime(2026, 1, 1, tzinfo=UTC)


def day(number: float | None) -> datetime | None:
    return None if number is None else START + timedelta(days=number)


@pytest.fixture
def history(sqlite: str, shop: fsvc.Repository) -> str:
    """A model on features of which each customer has several rows, each from a time on."""
    rows = [(1, 0, 1.0), (1, 10, 2.0), (1, 20, 3.0), (2, 5, 4.0)]
    table = pa.table(
        {
            "customer": [row[0] for row in rows],
            "since": pa.array([day(row[1]) for row in rows], pa.timestamp("us", "UTC")),
            "amount": [row[2] for row in rows],
        }
    )
    made = shop.commit({"history": table}, key={"history": ["customer", "since"]}, message="h")
    return str(
        fsvc.mlflow.log_model(
            mlflow.pyfunc,
            Sum(),
            name="sum",
            snapshot=made.snapshot("history"),
            signature=infer_signature(pd.DataFrame({"amount": [0.5]})),
            pip_requirements=["mlflow"],
        ).model_uri
    )


def events(zone: str | None = "UTC", name: str = "at") -> pa.Table:
    wanted = [(1, 9.9), (1, 10), (1, -1), (2, 100), (1, 100), (2, 4), (1, None), (3, 1)]
    moments = pa.array([day(number) for _, number in wanted], pa.timestamp("us", "UTC"))
    return pa.table({"customer": [key for key, _ in wanted], name: moments.cast(pa.timestamp("us", zone))})


def test_features_as_of_each_rows_time(history: str) -> None:
    right = [1.0, 2.0, None, 4.0, 3.0, None, None, None]
    for zone in ("UTC", "America/New_York"):
        scores = fsvc.mlflow.score_batch(history, events(zone), as_of=("at", "since"))
        assert scores.to_arrow()["prediction"].to_pylist() == right
    assert (
        fsvc.mlflow.score_batch(history, events(name="since"), as_of="since")
        .to_arrow()["prediction"]
        .to_pylist()
        == right
    )
    with pytest.raises(InvalidUse, match="without a time zone"):
        fsvc.mlflow.score_batch(history, events(None), as_of=("at", "since"))
    with pytest.raises(NotFound, match="'when'"):
        fsvc.mlflow.score_batch(history, events(), as_of=("at", "when"))


def test_a_time_that_is_no_part_of_the_key_only_holds_rows_back(uri: str, shop: fsvc.Repository) -> None:
    moments = pa.array([START] * ROWS, pa.timestamp("us", "UTC"))
    table = shop.snapshot("features@v1").to_arrow().append_column("at", moments)
    shop.commit({"features": table}, message="v3")
    spine = pa.table({"customer": [2, 2], "at": pa.array([day(1), day(-1)], pa.timestamp("us", "UTC"))})
    scores = fsvc.mlflow.score_batch(uri, spine, "v3", as_of="at").to_arrow()
    assert scores["prediction"].to_pylist() == [*expected([2]), None]


# -- by a recorded training set -----------------------------------------------------------------------


BALANCES = [  # customer, since, balance, points
    ("a", 0, 1.0, 10),
    ("a", 5, 2.0, None),
    ("a", 5, 4.0, 12),
    ("b", 1, 8.0, 13),
    ("c", 2, 16.0, 14),
    ("a", 9, 32.0, 15),
]
EVENTS = [("a", 6), ("b", 4), ("a", 0), ("c", 30), ("d", 7), ("a", None), (None, 6), ("a", 4), ("b", 0)]
FOUND = [4.0, 8.0, 1.0, None, None, None, None, 1.0, None]
"""The balance of each event: the last one of a tie, not older than ten days."""


def balances(rows: list[Any]) -> pa.Table:
    return pa.table(
        {
            "customer": [row[0] for row in rows],
            "since": pa.array([day(row[1]) for row in rows], pa.timestamp("us", "UTC")),
            "balance": [row[2] for row in rows],
            "points": pa.array([row[3] for row in rows], pa.int16()),
        }
    )


def spine_of(rows: list[Any], at: str = "at", **more: Any) -> pa.Table:
    times = pa.array([day(row[1]) for row in rows], pa.timestamp("ms", "UTC"))
    return pa.table({"amount": [100.0 * i for i in range(len(rows))], "buyer": [row[0] for row in rows],
                     at: times, **more})  # fmt: skip


@pytest.fixture
def accounts(tmp_path: Path) -> fsvc.Repository:
    made = fsvc.init(tmp_path / "accounts", author="Ada")
    made.commit({"balances": balances(BALANCES)}, message="balances")
    regions = pa.table({"who": list("abcd"), "size": [0.25, 0.5, 0.75, 0.125]})
    made.commit({"regions": regions}, key="who", message="regions")
    return made


@pytest.fixture
def trained(sqlite: str, accounts: fsvc.Repository) -> str:
    """A model of a training set: of what is looked up in two feature sets, and of what the spine has."""
    lookups = [
        fsvc.Lookup(
            "balances",
            {"buyer": "customer"},
            time="since",
            prefix="b_",
            ties="last",
            max_age=timedelta(days=10),
        ),
        fsvc.Lookup("regions", {"buyer": "who"}),
    ]
    spine = spine_of(EVENTS, label=[0.0] * len(EVENTS))
    made = accounts.training_set(spine, lookups, time="at", label="label").commit("train", message="train")
    return of_training_set(made.snapshot("train"), ["b_balance", "amount", "size", "b_points"])


def of_training_set(snapshot: fsvc.Snapshot, inputs: list[str]) -> str:
    signature = infer_signature(pd.DataFrame({name: [0.5] for name in inputs}))
    info = fsvc.mlflow.log_model(
        mlflow.pyfunc,
        Sum(),
        name="sum",
        snapshot=snapshot,
        signature=signature,
        pip_requirements=["mlflow"],
    )
    return str(info.model_uri)


def test_scores_are_what_the_model_says_of_the_rows_of_its_training_set(
    trained: str, accounts: fsvc.Repository
) -> None:
    rows = accounts.snapshot("train").to_pandas()
    inputs = rows[["b_balance", "amount", "size", "b_points"]].astype("float64")
    right = mlflow.pyfunc.load_model(trained).predict(inputs)
    scores = fsvc.mlflow.score_batch(trained, spine_of(EVENTS), missing="predict", batch_rows=4)
    got = scores.to_arrow()
    np.testing.assert_array_equal(got["prediction"].to_numpy(), right)
    assert got.column_names == ["amount", "buyer", "at", "prediction"]
    assert np.isfinite(right).sum() == 4  # and of nulls it knows nothing, as in training
    assert scores.missing == {"balances": 5, "regions": 1} and scores.missing_rows == 5
    nulls = fsvc.mlflow.score_batch(trained, spine_of(EVENTS)).to_arrow()["prediction"].to_pylist()
    assert [value is None for value in nulls] == [value is None for value in FOUND]
    with pytest.raises(NotFound, match=r"balances@v1 has no row for buyer c, at 2026-01-31"):
        fsvc.mlflow.score_batch(trained, spine_of(EVENTS), missing="error").to_arrow()


def test_only_what_was_known_at_the_time_counts_whatever_was_committed_since(
    sqlite: str, accounts: fsvc.Repository
) -> None:
    lookup = fsvc.Lookup("balances", {"buyer": "customer"}, time="since", columns=["balance"], ties="last",
                         max_age=timedelta(days=10), time_as="known")  # fmt: skip
    made = accounts.training_set(spine_of(EVENTS), [lookup], time="at").commit("train", message="train")
    uri = of_training_set(made.snapshot("train"), ["balance"])
    late = [("a", 6.5, 1000.0, 1), ("b", 3, 9.0, 1), ("c", 30.5, 1000.0, 1), ("d", 7, 5.0, 1)]
    accounts.commit({"balances": balances([*BALANCES, *late])}, message="backfilled, and of the future")

    def scored(at: Any, spine: pa.Table | None = None, **options: Any) -> list[float | None]:
        scores = fsvc.mlflow.score_batch(uri, spine_of(EVENTS) if spine is None else spine, at, **options)
        return scores.to_arrow()["prediction"].to_pylist()

    assert scored("training") == scored("v1") == scored({"balances": "v1"}) == FOUND
    now = [4.0, 9.0, 1.0, None, 5.0, None, None, 1.0, None]
    for at in ("main", "v2", {"balances": "main"}, {"balances": "balances@v2"}, "balances@v2"):
        with pytest.warns(FsvcWarning, match="'balance'"):
            assert scored(at) == now
    scores = fsvc.mlflow.score_batch(uri, spine_of(EVENTS), {"balances": "training"})
    assert scores.commits == {"balances": made.snapshot("train").recipe.inputs["balances"].commit}
    assert scored("training", spine_of(EVENTS, "moment"), as_of="moment") == FOUND
    with pytest.raises(NotFound, match="no column 'at'"):
        scored("training", spine_of(EVENTS, "moment"))
    with pytest.raises(InvalidUse, match="records by which times"):
        scored("training", as_of=("at", "since"))


def test_each_feature_set_can_have_a_revision_of_its_own(trained: str, accounts: fsvc.Repository) -> None:
    spine = spine_of([("a", 1), ("b", 1)])
    assert fsvc.mlflow.score_batch(trained, spine).to_arrow()["prediction"].to_pylist() == [11.25, 121.5]
    regions = pa.table({"who": list("abcd"), "size": [0.25, 0.625, 0.75, 0.125]})
    newer = accounts.commit({"regions": regions}, message="b grew")
    scores = fsvc.mlflow.score_batch(trained, spine, {"regions": "main"})
    assert scores.to_arrow()["prediction"].to_pylist() == [11.25, 121.625]
    assert scores.commits == {
        "balances": accounts.snapshot("train").recipe.inputs["balances"].commit,
        "regions": newer.id,
    }
    with pytest.raises(NotFound, match="no features from 'region'") as error:
        fsvc.mlflow.score_batch(trained, spine, {"region": "main"})
    assert "regions" in str(error.value.hint)
    with pytest.raises(InvalidUse, match="names one feature set"):
        fsvc.mlflow.score_batch(trained, spine, "regions@v2")
    accounts.commit({"regions": regions.drop_columns("size")}, message="no size")
    with pytest.raises(SkewError, match="'size'"):
        fsvc.mlflow.score_batch(trained, spine, {"regions": "main"})


def test_two_lookups_in_one_feature_set_have_names_of_their_own(
    sqlite: str, accounts: fsvc.Repository
) -> None:
    lookups = [fsvc.Lookup("regions@v1", on, prefix=prefix) for on, prefix in (({"buyer": "who"}, "b_"),
               ({"seller": "who"}, "s_"))]  # fmt: skip
    spine = spine_of([("a", 1), ("b", 1)], seller=["c", "d"])
    made = accounts.training_set(spine, lookups).commit("train", message="train")
    uri = of_training_set(made.snapshot("train"), ["b_size", "s_size"])
    newer = accounts.commit(
        {"regions": pa.table({"who": list("abcd"), "size": [1.0] * 4})}, message="all one"
    )
    old = accounts.snapshot("train").recipe.inputs["regions"].commit
    both, first, second = {"regions": newer.id}, {"regions": newer.id, "regions_2": old}, {"regions": old,
        "regions_2": newer.id}  # fmt: skip
    for at, right, commits in (
        ("training", [1.0, 0.625], {"regions": old}),
        ({"regions": "v2"}, [2.0, 2.0], both),
        ({"regions": "v2", "regions_2": "training"}, [1.75, 1.125], first),
        ({"regions_2": "v2"}, [1.25, 1.5], second),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FsvcWarning)
            scores = fsvc.mlflow.score_batch(uri, spine, at)
        assert (scores.to_arrow()["prediction"].to_pylist(), scores.commits) == (right, commits)


def test_only_what_the_model_takes_is_looked_up(trained: str, accounts: fsvc.Repository) -> None:
    nobody = spine_of([("nobody", 1), ("a", 40)])
    scores = fsvc.mlflow.score_batch(of_training_set(accounts.snapshot("train"), ["amount"]), nobody)
    assert scores.to_arrow()["prediction"].to_pylist() == [0.0, 100.0]
    assert (scores.commits, scores.missing, scores.missing_rows) == ({}, {}, 0)
    scores = fsvc.mlflow.score_batch(of_training_set(accounts.snapshot("train"), ["size"]), nobody, "main")
    assert scores.to_arrow()["prediction"].to_pylist() == [
        None,
        0.25,
    ]  # the balance is too old, and not asked for
    assert scores.missing == {"regions": 1}


def test_the_time_of_a_row_may_be_all_that_is_looked_up(sqlite: str, accounts: fsvc.Repository) -> None:
    accounts.commit({"visits": pa.table({"who": ["a", "a"], "day": [3, 8]})}, key=["who", "day"], message="v")
    lookup = fsvc.Lookup("visits", {"buyer": "who"}, time="day", columns=[], time_as="last")
    made = accounts.training_set(pa.table({"buyer": ["a"], "at": [9]}), [lookup], time="at")
    uri = of_training_set(made.commit("train", message="train").snapshot("train"), ["last"])
    for at in ("training", "main"):
        spine = pa.table({"buyer": ["a", "a", "a"], "at": [7, 8, 2]})
        scores = fsvc.mlflow.score_batch(uri, spine, at)
        assert scores.to_arrow()["prediction"].to_pylist() == [3.0, 8.0, None]


def test_ties_at_another_revision_are_refused_as_in_training(sqlite: str, accounts: fsvc.Repository) -> None:
    lookup = fsvc.Lookup("regions", {"buyer": "who"})
    made = accounts.training_set(spine_of(EVENTS), [lookup]).commit("train", message="train")
    uri = of_training_set(made.snapshot("train"), ["size"])
    twice = pa.table({"who": ["a", "a"], "size": [0.25, 0.5]})
    accounts.commit({"regions": twice}, key=(), message="twice")
    with pytest.raises(KeyViolation, match="several rows with the same who: a"):
        fsvc.mlflow.score_batch(uri, spine_of(EVENTS), "main").to_arrow()


# -- the command ------------------------------------------------------------------------------------


def test_the_command_writes_scores(
    sqlite: str, shop: fsvc.Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    logged(shop, name=name)
    spine, target = tmp_path / "spine.csv", tmp_path / "scores.parquet"
    spine.write_text("customer,who\n7,a\n9999,b\n3,c\n", encoding="utf-8")

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(["--repo", shop.location, "score", f"models:/{name}/1", *words])
        out, err = capsys.readouterr()
        return int(done.value.code or 0), out, err

    code, out, err = run(str(spine), "-o", str(target))
    assert (code, "3 rows scored" in out, "for 1 row nothing was found: features 1" in err) == (0, True, True)
    table = pq.read_table(target)
    assert table["prediction"].to_pylist() == [*expected([7]), None, *expected([3])]
    assert json.loads(table.schema.metadata[b"fsvc:scores"])["model"] == f"models:/{name}/1"
    assert run(str(spine), "-o", str(target))[0] == 5
    code, out, _ = run(str(spine), "-o", str(target), "--force", "--json")
    told = json.loads(out)
    assert (told["rows"], told["missing"], told["missing_from"]) == (3, 1, {"features": 1})
    assert told["commits"] == {"features": shop.snapshot("features@v1").commit.id}
    before = target.read_bytes()
    assert run(str(spine), "-o", str(target), "--force", "--missing", "error")[0] == 4
    assert target.read_bytes() == before
    assert run(str(spine), "-o", str(tmp_path / "scores.csv"), "--at", "v2")[0] == 0
    assert (tmp_path / "scores.csv").read_text().splitlines()[0] == '"customer","who","prediction"'
    assert run(str(spine), "-o", str(tmp_path / "one.csv"), "--at", "features=v2")[0] == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "scores.csv").read_bytes()
    assert run(str(spine), "-o", str(tmp_path / "x.csv"), "--at", "other=v2")[0] == 4
    assert run(str(spine), "-o", str(tmp_path / "x.csv"), "--at", "v2", "--at", "v1")[0] == 2
    assert run(str(spine), "-o", str(tmp_path / "absent" / "x.csv"))[0] == 4
    assert run(str(tmp_path / "absent.csv"), "-o", str(tmp_path / "x.csv"))[0] == 1
