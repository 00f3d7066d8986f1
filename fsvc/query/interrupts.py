"""What goes wrong while DuckDB works: errors that come through Arrow, and Ctrl-C, which is none of the query."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    with ThreadPoolExecutor(1, thread_name_prefix="fsvc-sql") as thread:
        running = thread.submit(work)
        try:
            return running.result()
        except KeyboardInterrupt:
            while not running.done():
                connection.interrupt()
                try:
                    running.exception(timeout=0.05)
                except TimeoutError:
                    continue
            raise


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
