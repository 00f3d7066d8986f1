"""SQL from outside: one SELECT that reads the snapshots it names and nothing else, within limits.

DuckDB's own walls do the keeping out: no files, no extensions, no Python variables, no change of
settings. ``allowed_paths`` lets a query read what it names; the filesystem behind those paths is
read-only, so that ``COPY`` finds no way out either. The kind of statement is looked at first, because a
clear refusal is better than a wall.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsvc.errors import InvalidUse, NotAllowed
from fsvc.query.texttypes import quote_text

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["Sandbox", "check_select", "close_off", "collect", "settings", "spilling", "time_limit"]

_MIB = 1 << 20
_READS_ONLY = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""The nodes of DuckDB's syntax trees that read and do nothing else: a CTE may also INSERT or COPY."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What SQL from outside may take: ``memory`` in MiB (also for the result), seconds, and threads.

    Raises InvalidUse for a limit that is none.
    """

    memory: int = 1024
    seconds: float = 30.0
    threads: int = 2

    def __post_init__(self) -> None:
        if not (self.memory > 0 and self.seconds > 0 and self.threads > 0):
            raise InvalidUse("a sandbox needs memory, time and threads above zero")


def settings(limits: Sandbox) -> dict[str, str]:
    """What a connection for SQL from outside is opened with."""
    return {
        "allow_community_extensions": "false",
        "memory_limit": f"{limits.memory}MiB",
        "threads": str(limits.threads),
        "temp_directory": "",
        "max_temp_directory_size": "0B",
        "arrow_lossless_conversion": "true",
    }


def spilling() -> dict[str, str]:
    """What a connection is opened with that may need more than memory, but reaches nothing by itself.

    DuckDB makes the directory when it first needs it, and takes it away when the connection is closed.
    """
    return {
        "allow_community_extensions": "false",
        "temp_directory": os.path.join(tempfile.gettempdir(), f"fsvc-sql-{secrets.token_hex(8)}"),
    }


def close_off(connection: duckdb.DuckDBPyConnection, paths: list[str]) -> None:
    """Let a connection reach nothing but these paths from now on, for good."""
    allowed = ", ".join(map(quote_text, paths))
    connection.execute(f"SET allowed_paths = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def check_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse all but one statement that only reads.

    Raises NotAllowed; an error of DuckDB where it is no SQL.
    """
    import duckdb

    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise NotAllowed(f"a sandbox runs one SELECT, not {len(statements)} statements")
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = str(statements[0].type).rpartition(".")[2]
        raise NotAllowed(f"a sandbox runs SELECT only, not {kind}")
    ((text,),) = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    try:
        tree = json.loads(text)
    except RecursionError:
        raise NotAllowed("a sandbox does not run this: it is nested too deeply") from None
    if tree.get("error"):
        raise NotAllowed(f"a sandbox does not run this: {tree.get('error_message')}")
    for kind in _nodes(tree):
        if kind not in _READS_ONLY:
            raise NotAllowed(f"a sandbox runs SELECT only, not {kind.removesuffix('_QUERY_NODE')}")


def _nodes(tree: Any) -> Iterator[str]:
    """The kinds of all query nodes in a syntax tree."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            kind = part.get("type")
            if isinstance(kind, str) and kind.endswith("_NODE"):
                yield kind
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


@contextmanager
def time_limit(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Interrupt whatever the connection does when the time is over. Raises NotAllowed then."""
    import duckdb

    done = threading.Event()
    over = threading.Event()

    def watch() -> None:
        wait = seconds
        # Again and again: an interrupt between two steps of a query is forgotten by DuckDB.
        while not done.wait(wait):
            over.set()
            connection.interrupt()
            wait = 0.05

    thread = threading.Thread(target=watch, name="fsvc-sql-time", daemon=True)
    thread.start()
    try:
        yield
    except (duckdb.Error, RuntimeError, OSError) as error:
        if over.is_set():
            raise NotAllowed(
                f"the query was stopped: it ran for more than {seconds:g} s",
                hint="ask for less, or raise the limit",
            ) from error
        raise
    finally:
        done.set()
        thread.join()


def collect(reader: pa.RecordBatchReader, limits: Sandbox) -> pa.Table:
    """The whole result of a query. Raises NotAllowed where it outgrows the memory that the query may take."""
    import pyarrow as pa

    batches: list[pa.RecordBatch] = []
    size = 0
    for batch in reader:
        size += batch.nbytes
        if size > limits.memory * _MIB:
            raise NotAllowed(
                f"the query was stopped: its result has more than {limits.memory} MiB",
                hint="ask for less, or raise the limit",
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)
