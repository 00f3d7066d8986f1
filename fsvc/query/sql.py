"""SQL over snapshots: ``select region, avg(amt_7d) from customer_features@v3 group by 1``.

Every query has a session of its own. The names in it that are feature sets, at a revision or on the
current branch, become views over virtual Parquet files; nothing is read but the footers before the
query runs. The views stand in a database of their own, behind the session's own tables in DuckDB's
search path, so that a CTE, a table of the same name, or one that is passed in goes first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fsvc.engine import history, reads
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.store import Store
from fsvc.engine.virtual import VirtualFile, remembered_layout
from fsvc.errors import (
    FsvcError,
    InvalidName,
    InvalidRevision,
    InvalidUse,
    NotAllowed,
    NotFound,
    UnreadableInput,
)
from fsvc.format import names
from fsvc.format.revision import Revision, parse_address
from fsvc.query import sandbox
from fsvc.query.addresses import Mention, Query, find
from fsvc.query.attaching import DATABASE, add_database
from fsvc.query.connection import ROW_NUMBER, Session
from fsvc.query.exactness import seen_inexactly
from fsvc.query.interrupts import duckdb_error, interruptible, wait_for
from fsvc.query.sandbox import Sandbox
from fsvc.query.texttypes import quote_name, quote_text

if TYPE_CHECKING:
    import duckdb

__all__ = ["ROW", "Answer", "Parameters", "ask"]

Parameters = Sequence[Any] | Mapping[str, Any]

ROW = "fsvc_row"
"""The column that a query gets by naming it: the number of the row in the snapshot, from 0."""

_PLACES = "SET errors_as_json = {}"
"""Only as JSON do errors say where in the query they are."""
_EXPLAIN = "EXPLAIN "
_MISSING_TABLE = re.compile(r"Table with name (.*) does not exist!")
_MISSING_FUNCTION = re.compile(r"[\w ]*Function with name (.*) does not exist!")
_NOT_A_TABLE = re.compile(r" is not an table$|^Can only (?:delete from|update) base table")
_MISSING_MEMBER = re.compile(r'.*does not have a column named "(.*)"')


class Answer:
    """A query that DuckDB understood: its relation, to be run, and what is to be said about it.

    Attributes:
        query: its text, and the names in it.
        relation: the result; every call that asks it for rows runs the query, unless it is in a
            sandbox, where the query has run already.
        session: the session that it runs in.
        inexact: a sentence for every column of a snapshot that DuckDB sees inexactly.
        found: the feature sets that it names, by the names that it has for them: where each was
            found, and what it is called there. Tables that were passed in are not among them.
    """

    relation: duckdb.DuckDBPyRelation

    def __init__(
        self,
        session: Session,
        query: Query,
        parameters: Parameters | None,
        limits: Sandbox | None,
        closed: bool = False,
        views: str = f"VIEW {DATABASE}.main.",
    ) -> None:
        self.session = session
        self._views = views
        self.inexact: list[str] = []
        self.found: dict[str, tuple[history.Resolved, str]] = {}
        self.query = query
        self._parameters = parameters
        self._names: set[str] | None = None
        self._limits = limits
        self._closed = closed
        self._columns: dict[str, None] = {}
        self._known: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Say what goes wrong in fsvc's words: see :func:`ask` for what is raised."""
        import duckdb

        connection = self.session.connection
        try:
            with self.session.reading(), interruptible():
                yield
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._worded(connection, duckdb_error(error)) from None

    def rows(self, batch_rows: int = 1 << 14) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Run the query; the schema of the result, and its rows as they come."""
        connection = self.session.connection
        with self.running():
            if self._limits is None and not self._closed and not self.session.shared:
                connection.execute(_PLACES.format("true"))
            reader = wait_for(connection, lambda: self.relation.to_arrow_reader(batch_rows))

        def batches() -> Iterator[pa.RecordBatch]:
            while True:
                with self.running():
                    batch = wait_for(connection, lambda: next(reader, None))
                if batch is None:
                    return
                yield batch

        return reader.schema, batches()

    # -- names -----------------------------------------------------------------------------------

    def bind(self, store: Store, branch: str | None, tables: Mapping[str, Any]) -> None:
        """Make views of the feature sets that the query mentions, and of the tables passed in.

        Without a branch the query has nothing but these tables.
        """
        connection = self.session.connection
        self._names = self._used()  # now: a name that is a view already is not among them
        taken = {name.casefold() for name in tables}
        rows = any(mention.text.casefold() == ROW for mention in self.query.mentions)
        for name, table in tables.items():
            if isinstance(table, SnapshotReader):
                self._view(name, table, rows=rows)
            else:
                connection.register(name, table)
                self._columns.update(dict.fromkeys(table.schema.names))
        head = None if branch is None else history.head(store, branch)
        self._known = [*tables, *(store.commit(head).feature_sets if head is not None else ())]
        spelled = {name.casefold(): name for name in self._known}
        used = self._used()
        for mention in self.query.mentions:
            folded = mention.text.casefold()
            if branch is None or folded in taken or not (mention.certain or used is None or folded in used):
                continue
            found = self._found(store, branch, mention, spelled)
            if found is not None:
                taken.add(folded)
                self.found[mention.text] = found
                record, name = found[0].record, found[1]
                reader = SnapshotReader(store.objects, store.manifest(record.feature_sets[name].snapshot))
                self._view(mention.text, reader, rows=rows)
                reads.reading(store, record, name, None)

    def reads(self, name: str) -> bool:
        """Whether the query reads a table of this name, as far as DuckDB knows."""
        return self._names is None or name.casefold() in self._names

    def _used(self) -> set[str] | None:
        """The tables that the query reads, by DuckDB's own account, folded; None where it gives none."""
        import duckdb

        try:
            return {name.casefold() for name in self.session.connection.get_table_names(self.query.sql)}
        except duckdb.Error:  # several statements, or none: what is wrong is said when it runs
            return None

    def _found(
        self, store: Store, branch: str, mention: Mention, spelled: Mapping[str, str]
    ) -> tuple[history.Resolved, str] | None:
        """The commit and feature set of a mention; None where it may be something else, and has to be."""
        name, at, _ = mention.text.partition("@")
        if not at and name.casefold() not in spelled:
            return None
        try:
            name = spelled.get(name.casefold(), name)
            _, revision = parse_address(mention.text)
            found = history.resolve(store, revision or Revision(), branch=branch, feature_set=name)
            if name not in found.record.feature_sets:
                raise history.unknown_feature_set(store, name, found.commit)
            return found, name
        except (NotFound, InvalidRevision, InvalidName) as error:
            if not mention.certain:
                return None
            error.add_note(_excerpt(self.query.text, mention.start, mention.end - mention.start))
            raise

    def _view(self, name: str, reader: SnapshotReader, *, rows: bool) -> None:
        schema = reader.manifest.schema
        if not len(schema):
            raise InvalidUse(f"{name} has no columns, and DuckDB knows no such tables")
        path = self.session.table(VirtualFile(reader.objects, remembered_layout(reader)), reader.manifest.id)
        own = {column.casefold() for column in schema.names}
        chosen = "*"
        if rows and ROW not in own:
            if ROW_NUMBER in own:
                raise InvalidUse(f"rows of {name} have no {ROW}: it has a column {ROW_NUMBER!r}")
            chosen = f"*, {ROW_NUMBER} AS {ROW}"
        self.session.connection.execute(
            f"CREATE {self._views}{quote_name(name)} AS SELECT {chosen} FROM {path}"
        )
        self._columns.update(dict.fromkeys(schema.names))
        self.inexact += [one for one in seen_inexactly(schema) if one not in self.inexact]

    # -- errors ----------------------------------------------------------------------------------

    def _worded(self, connection: duckdb.DuckDBPyConnection, error: Exception) -> FsvcError:
        """An error of DuckDB as one of fsvc, with the user's own text and the place in it."""
        import duckdb

        kind, _, text = str(error).partition("\n\nLINE ")[0].partition(": ")
        details = _details(text) or self._located(connection) or {"exception_message": text}
        message, *more = self.query.unquoted(details["exception_message"]).strip().splitlines()
        hint = "; ".join(line.strip() for line in more[:6] if line.strip()).replace(":; ", ": ") or None
        worded: FsvcError
        table, function = _MISSING_TABLE.match(message), _MISSING_FUNCTION.match(message)
        member = _MISSING_MEMBER.match(message)
        column = details["name"] if details.get("error_subtype") == "COLUMN_NOT_FOUND" else None
        if table is not None:
            near = _nearest(table[1], self._known) or f"there are: {', '.join(self._known[:10])}"
            if (
                table[1] in self._known
            ):  # looked for under a name that is a value, as in query_table('orders')
                near = f"{table[1]!r} is found where the query names it as a table: FROM {table[1]}"
            worded = NotFound(f"there is no table or feature set {table[1]!r}", hint=near)
        elif column is not None or member is not None:
            column = column or (member[1] if member else "")
            worded = NotFound(f"there is no column {column!r}", hint=_nearest(column, self._columns) or hint)
        elif _NOT_A_TABLE.search(message):
            worded = InvalidUse(
                "SQL reads feature sets and does not change them", hint="commit the new table"
            )
        elif function is not None:
            worded = InvalidUse(f"there is no function {function[1]!r}", hint=hint)
        elif isinstance(error, duckdb.PermissionException):
            worded = NotAllowed(f"a sandbox does not allow this: {_decapitalized(message)}")
        elif isinstance(error, duckdb.OutOfMemoryException):
            worded = (
                FsvcError("the query needs more memory than there is", hint="ask for fewer rows or columns")
                if self._limits is None
                else NotAllowed(
                    "the query needs more memory than it may take", hint="ask for less, or raise the limit"
                )
            )
        elif isinstance(error, (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError)):
            worded = InvalidUse(_decapitalized(message).rstrip("!"), hint=hint)
        elif isinstance(error, duckdb.IOException):
            worded = UnreadableInput(_decapitalized(message))
        else:
            worded = FsvcError(f"DuckDB: {kind.lower()}: {message}")
        if "position" in details:
            start, _, length = details.get("location", "").strip("[]").partition(",")
            span = int(length) if length.isdigit() and start == details["position"] else 1
            place = self.query.place(_character(self.query.sql, int(details["position"])))
            line = self.query.text.count("\n", 0, place)
            column = place - (self.query.text.rfind("\n", 0, place) + 1)
            worded.message += f" (line {line + 1}, column {column + 1})"
            worded.args = (worded.message,)
            worded.add_note(_excerpt(self.query.text, place, span))
        return worded

    def _located(self, connection: duckdb.DuckDBPyConnection) -> dict[str, Any] | None:
        """Ask again for what DuckDB did not say: where it is that a statement is wrong."""
        import duckdb

        try:
            if len(connection.extract_statements(self.query.sql)) != 1:
                return None
            connection.execute(_EXPLAIN + self.query.sql, self._parameters)
        except duckdb.Error as error:
            details = _details(str(error).partition(": ")[2])
            if details is not None and "position" in details:
                if int(details["position"]) < len(_EXPLAIN):
                    return None
                length = details.get("location", "").strip("[]").rpartition(",")[2]
                details["position"] = str(int(details["position"]) - len(_EXPLAIN))
                details["location"] = f"[{details['position']},{length}]"
            return details
        return None


def ask(
    store: Store,
    text: str,
    *,
    branch: str | None,
    parameters: Parameters | None = None,
    tables: Mapping[str, Any] | None = None,
    limits: Sandbox | None = None,
    closed: Mapping[str, str] | None = None,
    light: bool = False,
) -> Answer:
    """Have DuckDB understand a query over the snapshots of a repository.

    Args:
        text: SQL; what a feature set without a revision means is its snapshot on ``branch``. Without
            a branch nothing but ``tables`` can be named.
        parameters: values for ``?`` and ``$1``, or by name for ``$name``.
        tables: Arrow tables and snapshot readers that the query may name.
        limits: runs the query at once, as one from outside.
        light: takes a light session where that will do, for a query that is one among many.
        closed: settings of DuckDB; under them one SELECT runs, when its rows are asked for, that
            reaches nothing but what it names.

    Raises:
        NotFound: a feature set, revision, table or column is not there; with the nearest name.
        InvalidRevision, InvalidUse: it is not the SQL of DuckDB, or an address is none.
        NotAllowed: it asks for more than its limits.
        Corruption: what it reads is damaged.
    """
    if not isinstance(text, str) or not _encodable(text):
        raise InvalidUse("a query is a text, in Unicode")
    query = find(text)
    if light and limits is None:
        found = _asked_lightly(store, query, branch, parameters, tables or {})
        if found is not None:
            return found
    session = Session(sandbox.settings(limits) if limits is not None else closed and sandbox.spilling())
    answer = Answer(session, query, parameters, limits, closed=closed is not None)
    connection = session.connection
    try:
        connection.execute(_PLACES.format("true"))
        add_database(connection)
        with answer.running():
            answer.bind(store, branch, tables or {})
            if closed is not None:
                for name, value in closed.items():
                    connection.execute(f"SET {name} = {quote_text(value)}")
                sandbox.check_select(connection, answer.query.sql)
                sandbox.close_off(connection, session.paths)
            if limits is None:
                relation = connection.sql(answer.query.sql, params=parameters)
                if relation is None:
                    raise InvalidUse("the query is empty")
                answer.relation = relation
                if closed is None:
                    # Whoever runs the relation gets DuckDB's errors as they know them.
                    connection.execute(_PLACES.format("false"))
            else:
                answer.relation = connection.from_arrow(_run_inside(answer, limits))
    except BaseException:
        session.close()
        raise
    return answer


def _asked_lightly(
    store: Store, query: Query, branch: str | None, parameters: Parameters | None, tables: Mapping[str, Any]
) -> Answer | None:
    """The answer to a query that only reads; None for others, and for one that fails: a whole session says why."""
    import duckdb

    session = Session.light()
    answer = Answer(session, query, parameters, None, views="TEMP VIEW ")
    try:
        statements = session.connection.extract_statements(query.sql)
        if [statement.type for statement in statements] == [duckdb.StatementType.SELECT]:
            answer.bind(store, branch, tables)
            answer.relation = session.connection.sql(query.sql, params=parameters)
            return answer
    except (duckdb.Error, FsvcError):
        pass
    except BaseException:
        session.close()
        raise
    session.close()
    return None


def _run_inside(answer: Answer, limits: Sandbox) -> pa.Table:
    connection, sql = answer.session.connection, answer.query.sql
    sandbox.check_select(connection, sql)
    sandbox.close_off(connection, answer.session.paths)

    def run() -> pa.Table:
        reader = connection.sql(sql, params=answer._parameters).to_arrow_reader(1 << 14)
        return sandbox.collect(reader, limits)

    with sandbox.time_limit(connection, limits.seconds):
        return wait_for(connection, run)


def _details(text: str) -> dict[str, Any] | None:
    """What DuckDB says of an error in JSON, if it does."""
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "exception_message" in found else None


def _character(text: str, offset: int) -> int:
    """The number of the character at an offset in bytes."""
    return len(text.encode("utf-8")[:offset].decode("utf-8", "ignore"))


def _excerpt(text: str, place: int, length: int) -> str:
    """The line of a place, cut down to what fits on a screen, and marks below what is meant."""
    begin = text.rfind("\n", 0, place) + 1
    end = text.find("\n", place)
    line = text[begin : end if end >= 0 else len(text)].expandtabs(1)
    column = place - begin
    cut = max(0, min(column - 40, len(line) - 76))
    marks = max(1, min(length, len(line) - column, 76 - (column - cut)))
    return f"  {line[cut : cut + 76]}\n  {' ' * (column - cut)}{'^' * marks}"


def _nearest(name: str, known: Iterable[str]) -> str | None:
    near = names.nearest(name, known)
    return f"did you mean {near[0]!r}?" if near else None


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _decapitalized(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
