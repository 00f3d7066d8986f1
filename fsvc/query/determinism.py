"""What a query leaves open: the places where it may give another result from the same tables.

DuckDB's own syntax tree is searched. Found is what is undetermined whatever the data: clocks, dice, samples, and
orders that nothing states. What depends on the data is not looked for, except that a sum of floating-point
numbers depends on the order of its parts as soon as several threads add them up.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

__all__ = ["undetermined"]

_CLOCKS = frozenset(
    [
        "now",
        "today",
        "transaction_timestamp",
        "get_current_timestamp",
        "get_current_time",
        "current_date",
        "current_timestamp",
        "current_time",
        "current_localtime",
        "current_localtimestamp",
        "localtime",
        "localtimestamp",
    ]
)
_PLACES = frozenset(
    [
        "current_database",
        "current_schema",
        "current_schemas",
        "current_setting",
        "getvariable",
        "in_search_path",
        "txid_current",
        "version",
        "pg_backend_pid",
        "current_user",
        "session_user",
        "user",
    ]
)
_CATALOGUES = ("duckdb_", "pragma_", "sqlite_")
"""How the names of tables and functions begin that tell of DuckDB itself: its settings, memory, catalogue."""
_SCHEMAS = frozenset(["information_schema", "pg_catalog"])
_BY_ORDER = frozenset(
    [
        "first",
        "last",
        "any_value",
        "arbitrary",
        "list",
        "array_agg",
        "string_agg",
        "group_concat",
        "listagg",
        "histogram",
        "mode",
        "arg_min",
        "arg_max",
        "min_by",
        "max_by",
        "argmin",
        "argmax",
        "approx_quantile",
        "reservoir_quantile",
        "approx_top_k",
    ]
)
"""Aggregates whose result depends on the order of rows, or on which of two equal ones comes first."""
_BY_POSITION = frozenset(
    [
        "row_number",
        "ntile",
        "lag",
        "lead",
        "first_value",
        "last_value",
        "nth_value",
        "first",
        "last",
        "any_value",
    ]
)
"""Window functions that tell rows apart which their ORDER BY does not; rank and dense_rank do not."""
_FLOATING = frozenset(
    [
        "sum",
        "avg",
        "mean",
        "fsum",
        "kahan_sum",
        "favg",
        "sumkahan",
        "stddev",
        "stddev_samp",
        "stddev_pop",
        "variance",
        "var_samp",
        "var_pop",
        "sem",
        "corr",
        "covar_pop",
        "covar_samp",
        "regr_slope",
        "regr_intercept",
        "regr_r2",
        "skewness",
        "kurtosis",
        "kurtosis_pop",
        "product",
    ]
)


def undetermined(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    *,
    columns: Sequence[str],
    key: Collection[str] = (),
    threads: int = 1,
    rows: int | None = None,
) -> list[str]:
    """Sentences on what of its result a query leaves open; empty where nothing was found.

    Args:
        connection: any connection; it is asked for the syntax tree and for what it knows of functions.
        sql: one SELECT that DuckDB understands.
        columns: the columns of the result.
        key: columns that are known to differ from row to row of the result.
        threads: how many threads may work on it.
        rows: how many rows the result has, if it is known.
    """
    ((text,),) = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    statements = json.loads(text)["statements"]
    volatile = connection.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'"
    ).fetchall()
    dice = {name for (name,) in volatile}
    found: dict[str, None] = {}
    for node in _nodes(statements):
        for sentence in _of(node, dice, threads):
            found[sentence] = None
    if rows is None or rows > 1:
        for sentence in _order(statements[0]["node"], columns, key):
            found[sentence] = None
    return list(found)


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects of a syntax tree, the outermost first."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += reversed(list(part.values()))
        elif isinstance(part, list):
            waiting += reversed(part)


def _of(node: Mapping[str, Any], dice: Collection[str], threads: int) -> Iterator[str]:
    kind = node.get("class")
    name = str(node.get("function_name", "")).lower()
    if kind == "FUNCTION":
        ordered = _orders(node.get("order_bys"))
        if name in dice:
            yield f"{name}() gives another value each time"
        elif name in _CLOCKS or (name == "age" and len(node.get("arguments", ())) == 1):
            yield f"{name}() depends on when the query runs"
        elif name in _PLACES or name.startswith(_CATALOGUES):
            yield f"{name}() depends on where the query runs"
        elif name in _BY_ORDER and not ordered:
            yield f"{name}() depends on the order of the rows that it is given, and none is stated"
        elif threads != 1 and name in _FLOATING:
            yield f"{name}() of floating-point numbers depends on how threads share the rows"
    elif kind == "WINDOW" and name in _BY_POSITION:
        if not node.get("orders") and not node.get("arg_orders"):
            yield f"{name}() depends on the order of the rows in its window, and none is stated"
        else:
            yield f"{name}() depends on which comes first of rows that are equal in its ORDER BY, if there are any"
    elif kind == "COLUMN_REF":
        names = node.get("column_names") or [""]
        if len(names) == 1 and str(names[0]).lower() in _CLOCKS:
            yield f"{str(names[0]).lower()} depends on when the query runs"
    table = str(node.get("table_name", "")).lower() if node.get("type") == "BASE_TABLE" else ""
    schema = str(node.get("schema_name", "")).lower()
    if schema in _SCHEMAS or table.startswith(_CATALOGUES):
        yield f"{schema + '.' if schema else ''}{table} depends on where the query runs"
    sample = node.get("sample")
    if isinstance(sample, dict) and sample.get("seed", -1) == -1:
        yield "a sample is drawn anew each time"
    if str(node.get("type", "")).endswith("_NODE"):
        modifiers = {one["type"]: one for one in node.get("modifiers", ())}
        ordered = "ORDER_MODIFIER" in modifiers
        if not ordered and ("LIMIT_MODIFIER" in modifiers or "LIMIT_PERCENT_MODIFIER" in modifiers):
            yield "LIMIT takes any rows: there is no ORDER BY"
        distinct = modifiers.get("DISTINCT_MODIFIER")
        if distinct is not None and distinct.get("distinct_on_targets") and not ordered:
            yield "DISTINCT ON keeps any of several rows: there is no ORDER BY"


def _orders(modifier: Any) -> bool:
    return isinstance(modifier, dict) and bool(modifier.get("orders"))


def _order(node: Mapping[str, Any], columns: Sequence[str], key: Collection[str]) -> Iterator[str]:
    """What is left open of the order of the result's rows."""
    orders = [
        one
        for modifier in node.get("modifiers", ())
        if modifier["type"] == "ORDER_MODIFIER"
        for one in modifier["orders"]
    ]
    if not orders:
        yield "the order of the rows is not stated: there is no ORDER BY"
        return
    by = set()
    for one in orders:
        expression = one["expression"]
        if expression.get("class") == "STAR":
            return
        literal = expression.get("literal") or {}
        if expression.get("class") == "COLUMN_REF":
            by.add(str(expression["column_names"][-1]).casefold())
        elif literal.get("kind") == "INTEGER" and 0 < int(literal["text"]) <= len(columns):
            by.add(columns[int(literal["text"]) - 1].casefold())
    every = {column.casefold() for column in columns}
    if every <= by or (key and {column.casefold() for column in key} <= by):
        return
    yield "rows that are equal in the ORDER BY are in no stated order: it does not hold the key"
