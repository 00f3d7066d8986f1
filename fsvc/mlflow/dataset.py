"""Snapshots as MLflow datasets: what a run's page shows, and a source that gives the data back.

This is loaded while MLflow is being imported: of MLflow it may import nothing but the two base classes.
"""

import json
from typing import Any

from blake3 import blake3
from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source import DatasetSource

from fsvc.format.reference import Reference
from fsvc.repository import Repository
from fsvc.snapshot import Snapshot

__all__ = ["SOURCE_TYPE", "FsvcDataset", "FsvcDatasetSource", "from_fsvc"]

SOURCE_TYPE = "fsvc"
_MOST_SCHEMA = 1_048_575  # characters that MLflow keeps of a schema
_MOST_NAME = 500


class FsvcDatasetSource(DatasetSource):
    """Where a dataset came from: a reference to a snapshot, never a location."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    @staticmethod
    def _get_source_type() -> str:
        return SOURCE_TYPE

    def load(self, repository: Any = None) -> Snapshot:
        """The snapshot. Its repository is found as by :func:`fsvc.mlflow.restore`; it raises the same errors."""
        from fsvc.mlflow.restoring import checked_reference

        return checked_reference(self.reference, repository)

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return isinstance(raw_source, Snapshot)

    @classmethod
    def _resolve(cls, raw_source: Any) -> "FsvcDatasetSource":
        return cls(raw_source.reference)

    def to_dict(self) -> dict[Any, Any]:
        """The reference as JSON values."""
        return self.reference.document()

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> "FsvcDatasetSource":
        """The source that :meth:`to_dict` described. Raises Corruption where it was edited."""
        return cls(Reference.parse(source_dict, what="the source of this dataset"))

    def __repr__(self) -> str:
        found = self.reference
        return f"<FsvcDatasetSource {found.feature_set}@v{found.version} {found.commit[:12]}>"


class FsvcDataset(Dataset):
    """A snapshot as a dataset of MLflow: name, digest, schema and profile; nothing of the data is read."""

    def __init__(self, snapshot: Snapshot, name: str | None = None, digest: str | None = None) -> None:
        self.snapshot = snapshot
        super().__init__(FsvcDatasetSource(snapshot.reference), (name or snapshot.name)[:_MOST_NAME], digest)

    def _compute_digest(self) -> str:
        # MLflow keys a run's datasets by name and digest, and keeps the first source that it sees. So the
        # digest has to tell apart all that the source can say.
        source = json.dumps(self.source.to_dict(), sort_keys=True).encode()
        return f"{self.snapshot.id[:12]}-{blake3(source).hexdigest(length=8)}"

    @property
    def schema(self) -> Any:
        """The schema as MLflow's column specification, where its types go into it; else None."""
        return _mlflow_schema(self.snapshot)

    @property
    def profile(self) -> dict[str, Any]:
        """Row and column counts, the key, and the ids that prove the data."""
        return {
            "num_rows": self.snapshot.num_rows,
            "num_columns": len(self.snapshot.schema),
            "key": list(self.snapshot.key),
            "version": f"v{self.snapshot.version}",
            "commit": self.snapshot.commit.id,
            "snapshot": self.snapshot.id,
        }

    def to_dict(self) -> dict[str, str]:
        """The dataset as MLflow stores it."""
        described = super().to_dict()
        schema = self.schema
        text = None if schema is None else json.dumps({"mlflow_colspec": schema.to_dict()})
        if text is not None and len(text) <= _MOST_SCHEMA:
            described["schema"] = text
        described["profile"] = json.dumps(self.profile)
        return described


def from_fsvc(
    snapshot: Snapshot | str,
    *,
    repository: Repository | str | None = None,
    name: str | None = None,
    digest: str | None = None,
) -> FsvcDataset:
    """A dataset of a snapshot, or of an address such as ``customer_features@v3`` in a repository.

    ``repository`` is an opened one or a location; left out, the one of the workspace here.
    """
    if isinstance(snapshot, str):
        from fsvc.mlflow.repositories import opened_repository

        snapshot = opened_repository(repository).snapshot(snapshot)
    return FsvcDataset(snapshot, name, digest)


def _mlflow_schema(snapshot: Snapshot) -> Any:
    """The schema in MLflow's types; None where one of the columns has none there."""
    import pyarrow as pa
    from mlflow.types import ColSpec, DataType, Schema

    def column_type(kind: pa.DataType) -> Any:
        if pa.types.is_dictionary(kind):
            return column_type(kind.value_type)
        if pa.types.is_boolean(kind):
            return DataType.boolean
        if pa.types.is_integer(kind):
            return DataType.integer if kind.bit_width < 32 or kind == pa.int32() else DataType.long
        if pa.types.is_floating(kind):
            return DataType.double if kind.bit_width == 64 else DataType.float
        if pa.types.is_decimal(kind):
            return DataType.double
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            return DataType.string
        if pa.types.is_temporal(kind) and not (pa.types.is_time(kind) or pa.types.is_duration(kind)):
            return DataType.datetime
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            return DataType.binary
        return None

    columns: list[Any] = []
    for field in snapshot.schema:
        kind = column_type(field.type)
        if kind is None:
            return None
        columns.append(ColSpec(kind, field.name, required=not field.nullable))
    return Schema(columns) if columns else None
