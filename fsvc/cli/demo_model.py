"""The story of a model in ``fsvc demo``: trained on a version, and led back to it after the data moved on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Protocol

__all__ = ["Steps", "comparing_story", "model_story"]

_MODEL = "models:/customer_churn_predictor@champion"


class Steps(Protocol):
    """What runs a step and shows it."""

    def shell(self, title: str, *words: str) -> str:
        """A step that is a command of fsvc."""

    def python(self, title: str, code: str) -> str:
        """A step that is Python."""

    def expect(self, truth: bool, what: str) -> None:
        """Fail unless something is as it should be."""


def model_story(run: Steps) -> None:
    """Train on v3, register, change the data, restore, prove, and train anew to equal predictions."""
    run.python(
        "Train a model on v3, and register it; its metadata carry the hash of the data",
        """
        import mlflow, fsvc.mlflow
        from sklearn.linear_model import LogisticRegression
        mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")
        _ = mlflow.set_experiment("churn")
        features = ["balance", "visits", "amt_7d", "amt_30d"]
        snap = fsvc.open().snapshot("customers@v3").select([*features, "active"])
        def train(table):
            rows = table.dropna()
            return LogisticRegression().fit(rows[features], rows["active"])
        model = train(snap.to_pandas())
        with mlflow.start_run():
            fsvc.mlflow.log_model(
                mlflow.sklearn, model, name="churn", snapshot=snap, pip_requirements=["scikit-learn"],
                registered_model_name="customer_churn_predictor",
            )
        mlflow.MlflowClient().set_registered_model_alias("customer_churn_predictor", "champion", "1")
        """,
    )
    run.python(
        "The data move on: every balance is another one",
        """
        customers4 = customers3.set_column(4, "balance", pc.multiply(customers3["balance"], 1.6))
        pq.write_table(customers4, "customers.parquet")
        """,
    )
    run.shell("Commit them", "commit", "customers.parquet", "-m", "balances in another currency")
    run.shell("What was the champion trained on?", "lineage", _MODEL)
    run.shell("Give that data back, proven bit for bit", "restore", _MODEL, "-o", "train.parquet")
    result = run.python(
        "The same in Python: the very table, and trained anew the very predictions",
        f"""
        restored = fsvc.mlflow.restore("{_MODEL}")
        print(restored.to_arrow().equals(snap.to_arrow()))
        again = train(restored.to_pandas())
        rows = restored.to_pandas().dropna()[features]
        print((again.predict_proba(rows) == model.predict_proba(rows)).all())
        """,
    )
    run.expect(result.split() == ["True", "True"], "the restored data or the model trained on them differ")
    found = run.shell("And the other way: which models stand on v3?", "models", "customers@v3")
    run.expect("customer_churn_predictor/1 @champion" in found, "the model is not found from its data")
    run.shell("The history names the model beside the commit that it stands on", "log", "-n", "3")
    _retraining_story(run)


_TRAIN = """
import contextlib, io, os
import fsvc, fsvc.mlflow, mlflow
from sklearn.linear_model import LogisticRegression
features = ["balance", "visits", "amt_7d", "amt_30d"]
data = fsvc.open(os.environ["FSVC_REPOSITORY"]).snapshot(os.environ["FSVC_TRAIN_DATA"])
data = data.select([*features, "active"])
rows = data.to_pandas().dropna()
mlflow.set_experiment("churn")
with mlflow.start_run(), contextlib.redirect_stderr(io.StringIO()):
    fsvc.mlflow.log_model(
        mlflow.sklearn, LogisticRegression().fit(rows[features], rows["active"]), name="churn",
        snapshot=data, signature=mlflow.models.infer_signature(rows[features].astype("float64")),
        pip_requirements=["scikit-learn"], registered_model_name="customer_churn_predictor",
    )
"""


def _retraining_story(run: Steps) -> None:
    """Find the drift, train anew because of it, promote, and score with the new champion."""
    result = run.shell(
        "Have the data moved since the champion was trained? A page says how, column by column",
        "drift", _MODEL, "--against", "main", "-o", "drift.html",
    )  # fmt: skip
    run.expect("drifted: 1 of 5 columns" in result, "the balances are not found to have drifted")
    Path("train.py").write_text(_TRAIN.lstrip(), encoding="utf-8")
    result = run.shell(
        "Train anew exactly when they did: train.py finds in its environment what to train on",
        "retrain", _MODEL, "--against", "main", "--alias", "champion", "--", sys.executable, "train.py",
    )  # fmt: skip
    run.expect("new  models:/customer_churn_predictor/2 @champion" in result, "no new champion was trained")
    result = run.python(
        "A new champion, and what each of the two stands on",
        """
        for number in (1, 2):
            found = fsvc.mlflow.lineage(f"models:/customer_churn_predictor/{number}")
            data = found.data[0]
            print(number, *found.aliases, "customers", f"v{data.reference.version}", data.commit.message)
        """,
    )
    run.expect(
        "1 customers v3 two thousand more\n2 champion customers v4" in result,
        "the two models do not stand on v3 and v4",
    )
    result = run.python(
        "Score keys with the features that the champion was trained on",
        """
        keys = pa.table({"customer_id": [100_500, 100_007, 1]})
        scores = fsvc.mlflow.score_batch("models:/customer_churn_predictor@champion", keys)
        print(scores.to_arrow().to_pylist(), scores.missing_rows, "missing")
        """,
    )
    run.expect("1 missing" in result, "a key that is not there has a score, or one that is there has none")


def comparing_story(run: Steps) -> None:
    """Ask two versions in one query, compare them, and meet a conflict of a merge."""
    run.shell(
        "Two versions in one query",
        "sql",
        "select count(*) as customers, count(*) filter (a.balance is distinct from b.balance) as corrected"
        " from customers@v1 a join customers@v2 b using (customer_id)",
    )
    compared = run.shell("What differs between them", "diff", "customers@v1", "customers@v2")
    run.expect("balance" in compared, "the difference does not name the column that changed")
    result = run.python(
        "Two branches change the same balance, and another: the merge names the one row that conflicts",
        """
        from fsvc.errors import MergeConflict
        repo = fsvc.open()
        repo.branch("audit")
        def corrected(first, last, value):
            rows = np.arange(len(newest))
            chosen = pa.array((rows >= first) & (rows <= last))
            balance = pc.if_else(chosen, value, newest["balance"].combine_chunks())
            return newest.set_column(4, "balance", balance)
        newest = repo.snapshot("customers").to_arrow()
        _ = repo.commit({"customers": corrected(10, 11, 1.0)}, message="ours")
        _ = repo.commit({"customers": corrected(11, 12, 2.0)}, message="theirs", branch="audit")
        try:
            repo.merge("audit")
        except MergeConflict as conflict:
            print(conflict)
            conflicts = conflict.rows["customers"]
            print(conflicts["key"].to_pylist(), conflicts["columns"].to_pylist())
        _ = repo.merge("audit", strategy="theirs")
        print(repo.snapshot("customers").to_arrow()["balance"].slice(10, 3).to_pylist())
        """,
    )
    run.expect("[1.0, 2.0, 2.0]" in result, "the merge did not take their side")
