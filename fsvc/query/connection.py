"""DuckDB connections that read snapshots in place."""

from __future__ import annotations

import atexit
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fsvc.engine.reading import SnapshotReader
from fsvc.engine.store import Store
from fsvc.engine.virtual import VirtualFile, layout
from fsvc.query.filesystem import Served, SnapshotFileSystem

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["connect", "snapshot_relation", "table_relation", "virtual_relation"]

_open: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()


class _OneSnapshot(SnapshotFileSystem):
    """The filesystem of a connection that serves one snapshot under one path, which never changes."""

    def __init__(self, path: str, content: VirtualFile) -> None:
        super().__init__()
        self._path = path
        self._served = Served(content, datetime.fromtimestamp(0, UTC))

    def _fixed(self, path: str) -> str:
        return path

    def _serve(self, path: str) -> Served:
        if path != self._path:
            raise FileNotFoundError(path)
        return self._served


@atexit.register
def _close_all() -> None:
    """DuckDB complains at exit about connections with a registered filesystem that are still open."""
    for connection in list(_open):
        connection.close()


def connect() -> duckdb.DuckDBPyConnection:
    """A new in-memory DuckDB connection that fetches no extensions and is closed at exit."""
    import duckdb

    connection = duckdb.connect(
        config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    )
    _open.add(connection)
    return connection


def snapshot_relation(store: Store, reader: SnapshotReader, snapshot: str) -> duckdb.DuckDBPyRelation:
    """A relation over a snapshot as a virtual Parquet file, on a connection of its own."""
    return virtual_relation(VirtualFile(store.objects, layout(reader)), snapshot)


def virtual_relation(
    content: VirtualFile, name: str, *, row_numbers: bool = False
) -> duckdb.DuckDBPyRelation:
    """A relation over a virtual Parquet file, which DuckDB sees under this name.

    With ``row_numbers`` it has a column ``file_row_number`` more, which counts from 0.
    """
    connection = connect()
    path = f"{name}.parquet"
    connection.register_filesystem(_OneSnapshot(path, content))
    return connection.read_parquet(f"fsvc://{path}", file_row_number=row_numbers)


def table_relation(table: pa.Table) -> duckdb.DuckDBPyRelation:
    """A relation over an Arrow table in memory, on a connection of its own."""
    return connect().from_arrow(table)
