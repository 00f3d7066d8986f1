"""``fsvc sql``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click

from fsvc.cli.context import Context, command
from fsvc.cli.jsonlines import json_lines
from fsvc.cli.output import counted, human_size
from fsvc.cli.recipes import parameters, read_query
from fsvc.cli.rows import print_rows
from fsvc.cli.values import cells
from fsvc.errors import Conflict, InvalidUse

if TYPE_CHECKING:
    import pyarrow as pa

    from fsvc.query.sandbox import Sandbox
    from fsvc.query.sql import Answer

__all__ = ["sql"]

Format: TypeAlias = Literal["table", "csv", "json", "parquet", "arrow"]
"""What a result is written as; ``json`` is one object per line."""

_SHOWN_ROWS = 100
_MIB = 1 << 20
_OWN_MIB = 512


@command(
    "sql",
    examples="""
        fsvc sql "select count(*) from customers@v3"
        fsvc sql "from customers@v2 a join customers b using (id)" --limit 5
        fsvc sql 'from customers where balance > $least' --param least=1000
        fsvc sql -f churn.sql -o churn.parquet
    """,
)
@click.argument("query", required=False)
@click.option(
    "-f", "--file", "source", metavar="FILE", help="Read the query from a file; - is standard input."
)
@click.option("--param", "given", multiple=True, metavar="[NAME=]VALUE",
              help="A value for $NAME, or for the next ?; may be repeated. Numbers, true, false and null "
              "are taken as such, anything else (or \"in quotes\") is text.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=0), metavar="N",
              help=f"The most rows.  [default: {_SHOWN_ROWS} in a table, else all]")  # fmt: skip
@click.option("--max-columns", type=click.IntRange(min=1), metavar="N",
              help="The most columns of a table.  [default: what fits on the terminal]")  # fmt: skip
@click.option("--format", "kind", type=click.Choice(["table", "csv", "json", "parquet", "arrow"]),
              help="The format; left out, PATH's suffix says it, or it is a table.")  # fmt: skip
@click.option("-o", "--output", "target", metavar="PATH", help="The file to write.")
@click.option("--force", is_flag=True, help="Overwrite a file.")
@click.option("--sandbox", is_flag=True,
              help="For SQL of others: one SELECT that reaches nothing but the feature sets it names.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="How long a query in the sandbox may run.  [default: 30]")  # fmt: skip
@click.option("--memory", type=click.IntRange(min=1), metavar="MIB",
              help="How much memory it and its result may take.  [default: 1024]")  # fmt: skip
def sql(
    context: Context,
    query: str | None,
    source: str | None,
    given: tuple[str, ...],
    limit: int | None,
    max_columns: int | None,
    kind: Format | None,
    target: str | None,
    force: bool,
    sandbox: bool,
    timeout: float | None,
    memory: int | None,
) -> None:
    """Ask in SQL: any feature sets, at any versions.

    'from customers@v3' reads a version in place; 'from customers' is that of the current branch. Whatever
    is a revision elsewhere is one here; put quotes around names that SQL would not take ("odd name"@v3).
    A query that names fsvc_row gets it as a column: the number of the row, from 0. The SQL is DuckDB's.
    """
    import pyarrow as pa

    from fsvc.query import sandbox as sandboxes

    text = _query_text(query, source)
    path, kind = _destination(target, kind, force=force)
    limits = None
    if sandbox:
        limits = sandboxes.Sandbox()
        limits = replace(limits, memory=memory or limits.memory, seconds=timeout or limits.seconds)
    elif timeout is not None or memory is not None:
        raise InvalidUse("--timeout and --memory are limits of a sandbox", hint="add --sandbox")
    if limit is None and kind == "table" and not context.output.json:
        limit = _SHOWN_ROWS
    repository = context.repository()
    with _bounded(limits):
        answer = repository.ask(text, parameters(given), limits=limits)
    for sentence in answer.inexact:
        context.output.warn(sentence)
    try:
        result = _Result(answer, limit)
        if path is not None:
            _write(result, path, kind)
            size = path.stat().st_size
            context.output.show(
                {"path": str(path), "format": kind, "rows": result.rows, "bytes": size},
                lambda out: out.line(str(path), f": {counted(result.rows, 'row')}, {human_size(size)}"),
            )
        elif context.output.json or kind == "table":
            if context.output.json:
                context.output.document(_document(result))
                return
            table = pa.Table.from_batches(list(result.batches()), result.schema)
            values = [cells(column) for column in table.columns]
            hidden = print_rows(context.output, result.schema, values, most=max_columns)
            if hidden:
                hint = "--max-columns shows more" if max_columns is not None else "name the ones to see"
                context.output.note(f"... {counted(hidden, 'more column')}: {hint}, -o writes all")
            if result.more:
                context.output.note(f"... more rows than {limit}: --limit shows more, -o writes all")
        elif kind == "csv":
            from fsvc.engine.exporting import stream_csv

            stream_csv(sys.stdout.buffer, result.schema, result.batches())
        else:
            for batch in result.batches():
                click.echo(json_lines(batch), nl=False)
    finally:
        answer.session.close()


@contextmanager
def _bounded(limits: Sandbox | None) -> Iterator[None]:
    """Let this process take little more memory than a query in a sandbox may, where the system has such a limit.

    DuckDB does not count the values that its functions make: repeat('x', 4000000000) is in no memory of its own.
    """
    with ExitStack() as stack:
        if limits is not None:
            with suppress(ImportError, OSError, ValueError):
                import resource

                fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
                most = int(fields[5]) * resource.getpagesize() + (3 * limits.memory + _OWN_MIB) * _MIB
                soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
                known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
                resource.setrlimit(resource.RLIMIT_DATA, (min([most, *known]), hard))
                stack.callback(resource.setrlimit, resource.RLIMIT_DATA, (soft, hard))
        yield


class _Result:
    """The rows of an answer, as they come: no more than a limit, which are counted."""

    def __init__(self, answer: Answer, limit: int | None) -> None:
        self._limit = limit
        self.rows = 0
        self.more = False
        self.inexact = answer.inexact
        self.types = [str(kind) for kind in answer.relation.types]
        schema, self._batches = answer.rows()
        self.schema = _distinct(schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, batch by batch."""
        import pyarrow as pa

        for batch in self._batches:
            left = batch.num_rows if self._limit is None else self._limit - self.rows
            self.more = left < batch.num_rows
            shown = batch.slice(0, left)
            self.rows += shown.num_rows
            yield pa.RecordBatch.from_arrays(shown.columns, schema=self.schema)
            if self.more:
                return


def _distinct(schema: pa.Schema) -> pa.Schema:
    """A result's schema with names that differ: a result may have several columns of one name."""
    import pyarrow as pa

    taken = set(schema.names)
    used: set[str] = set()
    fields = []
    for field in schema:
        name, number = field.name, 0
        while name in used or (number and name in taken):
            number += 1
            name = f"{field.name}_{number}"
        used.add(name)
        fields.append(field.with_name(name))
    return pa.schema(fields, schema.metadata)


def _query_text(query: str | None, source: str | None) -> str:
    if (query is None) == (source is None):
        raise InvalidUse("a query is wanted, either as an argument or with -f", hint="fsvc sql 'from NAME'")
    if query is not None and query != "-":
        return query
    return read_query(source or "-")


def _destination(target: str | None, kind: Format | None, *, force: bool) -> tuple[Path | None, Format]:
    """Where to write, if to a file, and in which format: the one given, else the suffix's."""
    from fsvc.sources.paths import SUFFIXES

    if target is None or target == "-":
        if kind in ("parquet", "arrow"):
            raise InvalidUse(f"{kind} cannot be written to standard output", hint="name a file with -o")
        return None, kind or "table"
    path = Path(target)
    meant = SUFFIXES.get(path.suffix.lower())
    if kind is None and meant is None:
        raise InvalidUse(f"{path.name!r} has no suffix that says a format", hint="--format does")
    if kind == "table":
        raise InvalidUse(
            "a table is for people to look at", hint="write --format csv, json, parquet or arrow"
        )
    if path.is_dir():
        raise InvalidUse(f"{path} is a directory", hint="name a file")
    if not path.parent.is_dir():
        raise InvalidUse(f"there is no directory {path.parent}", hint=f"mkdir -p {path.parent}")
    if os.path.lexists(path) and not force:
        raise Conflict(f"{path} is there already", hint="--force overwrites it")
    return path, kind or meant or "parquet"


def _write(result: _Result, path: Path, kind: str) -> None:
    from fsvc.engine import exporting
    from fsvc.engine.replacing import replacing

    if kind == "csv":
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        exporting.write_csv(path, result.schema, result.batches(), delimiter=delimiter)
    elif kind == "arrow":
        stream = path.suffix.lower() == ".arrows"
        exporting.write_arrow(path, result.schema, result.batches(), stream=stream)
    elif kind == "json":
        with replacing(path) as partial, partial.open("x", encoding="utf-8") as file:
            file.writelines(map(json_lines, result.batches()))
    else:
        exporting.write_parquet(path, result.schema, result.batches())


def _document(result: _Result) -> dict[str, Any]:
    import json

    lines = "".join(map(json_lines, result.batches())).split("\n")[:-1]
    names = result.schema.names
    return {
        "columns": [{"name": name, "type": kind} for name, kind in zip(names, result.types, strict=True)],
        "rows": json.loads(f"[{','.join(lines)}]"),
        "more_rows": result.more,
        "inexact": result.inexact,
    }
