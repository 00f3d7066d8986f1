"""What goes wrong while DuckDB works: errors that come through Arrow, and Ctrl-C, which is none of the query."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import duckdb

__all__ = ["duckdb_error", "interruptible", "wait_for"]

T = TypeVar("T")


def wait_for(connection: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """What ``work`` gives, which is done in another thread, so that Ctrl-C is noticed in this one.

    DuckDB does not look for signals while Arrow asks it for rows. On Ctrl-C the query is interrupted,
    and KeyboardInterrupt raised when it has ended.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="fsvc-sql")
    try:
        thread.start()
        return outcome.result()
    except KeyboardInterrupt:
        # Again and again: an interrupt between two steps of a query is forgotten by DuckDB.
        while thread.is_alive():
            connection.interrupt()
            thread.join(0.05)
        raise
    finally:
        thread.join()


def duckdb_error(error: Exception) -> Exception:
    """The error of DuckDB where Arrow, through which rows come, passed on no more than its text."""
    import duckdb

    if isinstance(error, duckdb.Error):
        return error
    kind = str(error).partition(" Error: ")[0].replace(" ", "").casefold()
    for name in dir(duckdb):
        if name.casefold() == f"{kind}exception":
            found: Exception = getattr(duckdb, name)(str(error))
            return found
    return error


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where DuckDB says that the query was interrupted."""
    import duckdb

    try:
        yield
    except (duckdb.Error, RuntimeError, OSError) as error:
        # DuckDB's Python client raises a plain RuntimeError where it notices a signal itself.
        interrupted = isinstance(duckdb_error(error), duckdb.InterruptException)
        if interrupted or str(error) == "Query interrupted":
            raise KeyboardInterrupt from None
        raise
