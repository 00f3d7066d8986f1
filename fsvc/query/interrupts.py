"""Ctrl-C while DuckDB works: it is told as an error of the query, and is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import duckdb

__all__ = ["interruptible", "wait_for"]

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


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where DuckDB says that the query was interrupted."""
    import duckdb

    try:
        yield
    except (duckdb.InterruptException, RuntimeError) as error:
        # DuckDB's Python client raises a plain RuntimeError where it notices a signal itself.
        if isinstance(error, duckdb.InterruptException) or str(error) == "Query interrupted":
            raise KeyboardInterrupt from None
        raise
