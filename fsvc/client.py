"""A feature store's client in the shape that tutorials use: ask for a version by name, get data and address."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsvc.engine.forks import remove_with
from fsvc.engine.replacing import replacing
from fsvc.errors import UnreadableInput
from fsvc.format.expectation import expected_of
from fsvc.format.reference import TRAIN, DataLineage, Reference
from fsvc.repository import Repository, open_repository
from fsvc.snapshot import Snapshot

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow as pa

__all__ = ["FeatureSetVersion", "FeatureStoreClient", "read_reference", "write_reference"]


class FeatureStoreClient:
    """A client of one repository.

    ``repository`` is an opened repository or a location; left out, the repository of the workspace around the
    current directory. Raises NotFound where there is none.
    """

    def __init__(self, repository: Repository | str | Path | None = None) -> None:
        self.repository = repository if isinstance(repository, Repository) else open_repository(repository)

    def get_feature_set_version(self, name: str, version: str | int = "") -> FeatureSetVersion:
        """A feature set at a version (``"v3"`` or 3) or any other revision; the newest one unless told.

        Raises NotFound with the nearest name.
        """
        revision = f"v{version}" if isinstance(version, int) else version
        return FeatureSetVersion(self.repository.snapshot(f"{name}@{revision}" if revision else name))

    def list_feature_sets(self) -> list[str]:
        """The names of the feature sets on the current branch, but those that hold expectations of others."""
        head = self.repository.head()
        return [] if head is None else sorted(name for name in head.versions if expected_of(name) is None)

    def list_versions(self, name: str) -> list[FeatureSetVersion]:
        """All versions of a feature set on the current branch, oldest first."""
        commits = [commit for commit in self.repository.log(name) if name in commit.versions]
        return [FeatureSetVersion(commit.snapshot(name)) for commit in reversed(commits)]


class FeatureSetVersion:
    """One version of a feature set: what names it, and its data.

    ``snapshot`` has all that a snapshot can do.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._directory: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (FeatureSetVersion, (self.snapshot,))

    def __repr__(self) -> str:
        return f"<FeatureSetVersion {self.name} {self.version}>"

    @property
    def name(self) -> str:
        """The name of the feature set."""
        return self.snapshot.name

    @property
    def version(self) -> str:
        """The version as people write it: ``v3``."""
        return f"v{self.snapshot.version}"

    @property
    def commit_id(self) -> str:
        """The id of the commit: 64 hex digits that prove the data."""
        return self.snapshot.commit.id

    @property
    def uri(self) -> str:
        """The address for any fsspec reader; it never moves."""
        return self.snapshot.uri

    @property
    def sql(self) -> str:
        """The query that gives the data, for DuckDB with the ``fsvc://`` filesystem and for ``fsvc sql``."""
        wanted = self.snapshot.columns
        columns = "*" if wanted is None else ", ".join('"' + c.replace('"', '""') + '"' for c in wanted)
        address = self.uri.replace("'", "''")
        return f"SELECT {columns} FROM read_parquet('{address}.parquet')"

    @property
    def path(self) -> str:
        """A small JSON file that names this version, such as ``mlflow.log_artifact`` takes; never the data.

        It lies in a temporary directory, which goes when this object does.
        """
        if self._directory is None:
            self._directory = tempfile.mkdtemp(prefix="fsvc-reference-")
            remove_with(self, self._directory)
            write_reference(self.snapshot, self._file)
        return str(self._file)

    @property
    def _file(self) -> Path:
        assert self._directory is not None
        return Path(self._directory) / f"{self.name}-{self.version}.json"

    def to_arrow(self, **options: Any) -> pa.Table:
        """The data as :meth:`Snapshot.to_arrow` gives them: proven."""
        return self.snapshot.to_arrow(**options)

    def to_pandas(self, **options: Any) -> pandas.DataFrame:
        """The data as :meth:`Snapshot.to_pandas` gives them: proven."""
        return self.snapshot.to_pandas(**options)

    def to_polars(self, **options: Any) -> polars.DataFrame:
        """The data as :meth:`Snapshot.to_polars` gives them: proven."""
        return self.snapshot.to_polars(**options)


def write_reference(snapshot: Snapshot, path: str | Path) -> None:
    """Write the reference file of a snapshot: what a model's metadata would say, as JSON."""
    document = DataLineage({TRAIN: snapshot.reference}).metadata()
    with replacing(path) as partial:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def read_reference(path: str | os.PathLike[str]) -> Reference:
    """Read a reference file. Raises UnreadableInput where it is none, Corruption where it was edited."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableInput(f"{path} cannot be read as a reference: {error}") from error
    lineage = DataLineage.parse(value, what=str(path))
    if lineage is None or lineage.train is None:
        raise UnreadableInput(f"{path} is no reference to a snapshot")
    return lineage.train
