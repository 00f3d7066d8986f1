"""What MLflow loads of fsvc when it is imported: as little as can be, and nothing that can fail.

MLflow looks up the entry points ``mlflow.dataset_source`` and ``mlflow.dataset_constructor`` while it is being
imported. A plugin that raises anything but ImportError and AttributeError would break ``import mlflow`` for
everybody, so here any failure is one of these.
"""

from typing import Any

__all__: list[str] = []


def __getattr__(name: str) -> Any:
    # Not annotated as elsewhere: MLflow reads the annotations of constructors, and needs classes, not texts.
    if name not in ("FsvcDatasetSource", "from_fsvc"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from fsvc.mlflow import dataset

        return getattr(dataset, name)
    except Exception as error:  # whatever it is, MLflow must not suffer from it
        raise ImportError(f"fsvc cannot take part in MLflow: {error}") from error
