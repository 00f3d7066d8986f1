"""DuckDB connections that read snapshots in place.

A :class:`Session` is one connection and the virtual Parquet files that it reads, under paths that it
gave out itself. Whatever asks DuckDB about snapshots does so through one: several snapshots that are
served by the same session can be joined.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any

from fsvc.engine.reading import SnapshotReader
from fsvc.engine.store import Store
from fsvc.engine.virtual import VirtualFile, remembered_layout
from fsvc.errors import FsvcError
from fsvc.query.filesystem import Served, SnapshotFile, SnapshotFileSystem
from fsvc.query.texttypes import quote_text

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = [
    "ROW_NUMBER",
    "Session",
    "connect",
    "detach_at_exit",
    "snapshot_relation",
    "table_relation",
    "virtual_relation",
]

ROW_NUMBER = "file_row_number"
"""The column that DuckDB adds to a Parquet file if asked to: the number of the row, from 0."""

_open: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """DuckDB complains at exit about connections with a registered filesystem that are still open."""
    for connection in list(_open):
        connection.close()


_attached: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()


@atexit.register
def _detach_all() -> None:
    """A connection of somebody else stays open: only what was registered with it goes."""
    import duckdb

    for connection in list(_attached):
        with suppress(duckdb.Error):  # it was closed
            connection.unregister_filesystem("fsvc")


def _leave_alone() -> None:
    """In a forked child: never close what the parent has open, since the threads to wait for are not there."""
    for connection in {*_open, *_attached, *_kept}:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    _open.clear()
    _attached.clear()


# DuckDB has locks of its own while it makes a database: no child is forked meanwhile, it would wait for them for ever.
_connecting = threading.Lock()
os.register_at_fork(
    before=_connecting.acquire, after_in_parent=_connecting.release, after_in_child=_connecting.release
)
os.register_at_fork(after_in_child=_leave_alone)


def detach_at_exit(connection: duckdb.DuckDBPyConnection) -> None:
    """See to it that DuckDB has nothing to complain about at exit of a connection with our filesystem."""
    _attached.add(connection)


def connect(settings: Mapping[str, str] | None = None) -> duckdb.DuckDBPyConnection:
    """A new in-memory DuckDB connection that is closed at exit.

    It fetches no extensions, and takes no Python variable for a table because of its name.
    """
    import duckdb

    options: dict[str, Any] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
        **(settings or {}),
    }
    with _connecting:
        connection = duckdb.connect(config=options)
    with suppress(duckdb.CatalogException):  # not every DuckDB has it
        # Left to itself, DuckDB bridges the gaps between columns, and reads what no query names.
        connection.execute("SET parquet_prefetch_column_gap = 0")
    connection.execute("SET enable_progress_bar = false")  # it would be drawn into what is printed
    # What a file holds is checked whenever it is read, not once for all who come later.
    connection.execute("SET enable_external_file_cache = false")
    _open.add(connection)
    return connection


class _File(SnapshotFile):
    """A virtual file that tells its filesystem why it could not be read."""

    def __init__(self, path: str, served: Served, failed: deque[FsvcError]) -> None:
        super().__init__(path, served)
        self._failed = failed

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to ``size`` bytes."""
        try:
            return super().read(size)
        except FsvcError as error:
            self._failed.append(error)
            raise


class _Files(SnapshotFileSystem):
    """The virtual files of one session, under paths that never name anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.served: dict[str, Served] = {}
        self.failed: deque[FsvcError] = deque(maxlen=8)

    def _fixed(self, path: str) -> str:
        return path

    def _serve(self, path: str) -> Served:
        try:
            return self.served[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def _open(self, path: str, mode: str = "rb", **_: Any) -> SnapshotFile:
        if mode not in ("rb", "r"):
            raise OSError("snapshots are read-only")
        path = self._strip_protocol(path)
        return _File(path, self._serve(path), self.failed)


class Session:
    """A DuckDB connection of its own and the virtual files that it reads.

    It is closed at exit, or when neither it nor a relation of it is held any more. ``settings`` are
    DuckDB's, beside those of :func:`connect`.

    Attributes:
        connection: the connection, to be used as any other.
        shared: whether its database is that of other sessions too, so that its settings are.
    """

    shared = False

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.connection = connect(settings)
        self._files = _Files()
        self._mark = ""
        self.connection.register_filesystem(self._files)

    @classmethod
    def light(cls) -> Session:
        """A session in the one database of this process, which is made anew in a child process.

        To open and close a database takes longer than many a query. The session's views are its own; settings
        and tables would not be, so that it is for queries which make none.
        """
        import pyarrow as pa

        root, files = _shared(os.getpid())
        session = cls.__new__(cls)
        session.shared = True
        session.connection = root.cursor()
        session._files = files
        session._mark = f"{next(_numbers)}-"
        # DuckDB holds what is registered until the last reader of a result is done, which may be later than
        # anybody holds the connection; until then a file may be opened again.
        held = pa.table({"session": [session._mark]})
        session.connection.register("fsvc session", held)
        weakref.finalize(held, _forget, files.served, session._mark).atexit = False
        return session

    def serve(self, content: VirtualFile, name: str) -> str:
        """Give a virtual file a path, ``fsvc://NAME.parquet``, for ``read_parquet`` in this session.

        A name stands for one file for good, and holds no character that a pattern has: an id, mostly.
        """
        path = f"{self._mark}{name}.parquet"
        self._files.served.setdefault(path, Served(content, datetime.fromtimestamp(0, UTC)))
        return f"fsvc://{path}"

    def table(self, content: VirtualFile, name: str) -> str:
        """Serve a virtual file (see :meth:`serve`); what to write after FROM for it."""
        return f"read_parquet({quote_text(self.serve(content, name))})"

    def relation(
        self, content: VirtualFile, name: str, *, row_numbers: bool = False
    ) -> duckdb.DuckDBPyRelation:
        """Serve a virtual file (see :meth:`serve`) as a relation.

        With ``row_numbers`` it has a column ``file_row_number`` more, which counts from 0.
        """
        return self.connection.read_parquet(self.serve(content, name), file_row_number=row_numbers)

    @property
    def paths(self) -> list[str]:
        """What :meth:`serve` has given out."""
        return [f"fsvc://{path}" for path in self._files.served]

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise what fsvc said of a file that could not be read: DuckDB passes on no more than a text."""
        import duckdb

        try:
            yield
        except (duckdb.Error, OSError) as error:
            if self._files.failed:
                raise self._files.failed[0] from error
            raise

    def close(self) -> None:
        """Close the connection; its relations are of no use any more."""
        self.connection.close()


_numbers = count(1)


@lru_cache(1)
def _shared(_: int) -> tuple[duckdb.DuckDBPyConnection, _Files]:
    """The database that light sessions of a process (its number) share, and what they read."""
    root, files = connect(), _Files()
    root.register_filesystem(files)
    _kept.append(root)
    return root, files


_kept: list[duckdb.DuckDBPyConnection] = []
"""Roots that were opened, a parent's too: to close a database in a child process may wait for threads for ever."""


def _forget(served: dict[str, Served], mark: str) -> None:
    for path in [path for path in tuple(served) if path.startswith(mark)]:
        served.pop(path, None)


def snapshot_relation(store: Store, reader: SnapshotReader, snapshot: str) -> duckdb.DuckDBPyRelation:
    """A relation over a snapshot as a virtual Parquet file, in a session of its own."""
    return virtual_relation(VirtualFile(store.objects, remembered_layout(reader)), snapshot)


def virtual_relation(
    content: VirtualFile, name: str, *, row_numbers: bool = False
) -> duckdb.DuckDBPyRelation:
    """A relation over a virtual Parquet file, in a session of its own: see :meth:`Session.relation`."""
    return Session().relation(content, name, row_numbers=row_numbers)


def table_relation(table: pa.Table) -> duckdb.DuckDBPyRelation:
    """A relation over an Arrow table in memory, on a connection of its own."""
    return connect().from_arrow(table)
