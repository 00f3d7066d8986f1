"""Predictions for a spine are those of the model on the features that it was trained with, row by row."""

from __future__ import annotations

import json
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
from fsvc.errors import FsvcError, FsvcWarning, InvalidUse, NotFound, SkewError

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
        monkeypatch.setattr("fsvc.query.lookup._MOST_VALUES", 0)
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
    with pytest.raises(SkewError, match="'visits' has 1 nulls"):
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
    with pytest.raises(InvalidUse, match="tz=UTC"):
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
    assert (code, "3 rows scored" in out, "1 row had a key" in err) == (0, True, True)
    table = pq.read_table(target)
    assert table["prediction"].to_pylist() == [*expected([7]), None, *expected([3])]
    assert json.loads(table.schema.metadata[b"fsvc:scores"])["model"] == f"models:/{name}/1"
    assert run(str(spine), "-o", str(target))[0] == 5
    code, out, _ = run(str(spine), "-o", str(target), "--force", "--json")
    told = json.loads(out)
    assert (told["rows"], told["missing"]) == (3, 1)
    assert told["commits"] == {"features": shop.snapshot("features@v1").commit.id}
    before = target.read_bytes()
    assert run(str(spine), "-o", str(target), "--force", "--missing", "error")[0] == 4
    assert target.read_bytes() == before
    assert run(str(spine), "-o", str(tmp_path / "scores.csv"), "--at", "v2")[0] == 0
    assert (tmp_path / "scores.csv").read_text().splitlines()[0] == '"customer","who","prediction"'
    assert run(str(spine), "-o", str(tmp_path / "absent" / "x.csv"))[0] == 4
    assert run(str(tmp_path / "absent.csv"), "-o", str(tmp_path / "x.csv"))[0] == 1
