"""The names of a repository in any DuckDB connection: a database of views, and a table macro.

The views stand in an in-memory database of their own, ``fsvc``, which comes last in the connection's search
path: a table of the same name goes first, and nothing is written to a database of somebody else. DuckDB lets
nobody but itself and its extensions look up names that it does not know, so an address with a revision
goes through the macro: ``from fsvc('customers@v3')``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsvc.engine import history
from fsvc.engine.store import Store
from fsvc.errors import InvalidUse
from fsvc.query.connection import detach_at_exit
from fsvc.query.filesystem import SnapshotFileSystem
from fsvc.query.texttypes import quote_name, quote_text

if TYPE_CHECKING:
    import duckdb

__all__ = ["DATABASE", "add_database", "attach"]

DATABASE = "fsvc"
"""The database, in memory, that the views of feature sets stand in."""


def add_database(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a connection the database for views, last in its search path, unless it has it already.

    Raises InvalidUse where another database has its name.
    """
    there = connection.execute("SELECT path FROM duckdb_databases() WHERE database_name = $1", [DATABASE])
    found = there.fetchall()
    if found:
        if found[0][0] is not None:
            raise InvalidUse(
                f"the connection has another database called {DATABASE!r}: {found[0][0]}",
                hint="attach that one under another name",
            )
        return
    connection.execute(f"ATTACH ':memory:' AS {DATABASE}")
    ((path,),) = connection.execute("SELECT current_setting('search_path')").fetchall()
    if not path:
        ((database, schema),) = connection.execute("SELECT current_database(), current_schema()").fetchall()
        path = f"{quote_name(database)}.{quote_name(schema)}"
    connection.execute(f"SET search_path = {quote_text(f'{path},{DATABASE}.main')}")


def attach(connection: duckdb.DuckDBPyConnection, store: Store, branch: str) -> None:
    """Give a connection the names of a repository.

    ``fsvc('NAME@REVISION')`` is what the address names when the query runs; a view of each feature set
    is what the branch held when this was called; ``fsvc://`` paths can be read. To call it again is to
    see the branch as it is now. The connection stays the caller's; at exit ``fsvc://`` is taken from it.

    Raises InvalidUse where another database of the connection is called ``fsvc``.
    """
    add_database(connection)
    if connection.filesystem_is_registered("fsvc"):
        connection.unregister_filesystem("fsvc")
    connection.register_filesystem(SnapshotFileSystem(store, branch=branch))
    detach_at_exit(connection)
    connection.execute(
        f"CREATE OR REPLACE MACRO {DATABASE}.main.fsvc(address) AS TABLE"
        " FROM read_parquet('fsvc://' || address)"
    )
    old = connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE database_name = $1 AND NOT internal", [DATABASE]
    )
    for (name,) in old.fetchall():
        connection.execute(f"DROP VIEW {DATABASE}.main.{quote_name(name)}")
    commit = history.head(store, branch)
    for name in store.commit(commit).feature_sets if commit is not None else ():
        path = quote_text(f"fsvc://{name}@{commit}")
        connection.execute(f"CREATE VIEW {DATABASE}.main.{quote_name(name)} AS FROM read_parquet({path})")
