"""CSV files as streams of Arrow batches, parsed by DuckDB, typed by a fixed rule.

The dialect of CSV is fixed: UTF-8, a header line, quotes are ``"`` doubled inside, every row has as many
values as the header; nothing is a comment, an empty value is null and a quoted empty one is the empty
text. The delimiter is the one of comma, tab, semicolon and bar that splits the header into most names.

All values are looked at before the schema is known (see :mod:`fsvc.query.texttypes`), so that the first
rows cannot mislead; then the files are read again, as a stream in file order.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from fsvc.errors import UnreadableInput
from fsvc.query.interrupts import interruptible
from fsvc.query.texttypes import (
    ARROW_TYPES,
    Finding,
    class_expression,
    decide,
    quote_text,
    range_expression,
)

__all__ = ["CsvFiles", "TextFiles", "compression", "exact_pattern", "read_start"]

BATCH_ROWS = 65536
_DELIMITERS = ",\t;|"
_HEADER_BYTES = 2**20
_NUMERIC = re.compile(r"-?[0-9.]+|\d{4}-\d\d-\d\d.*")
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class TextFiles:
    """What CSV and JSON files have in common: a closed-off DuckDB, and reading with known types.

    Attributes:
        paths: the files, absolute, in the order to read them.
        shown: how messages name each of them.
        connection: the DuckDB that parses them.
        schema: the columns in file order, all nullable.
        num_rows: the number of rows of all files.
        notes: one sentence per column that says its type.
    """

    schema: pa.Schema
    num_rows: int
    notes: list[str]

    def __init__(self, paths: Sequence[Path]) -> None:
        import duckdb

        self.paths = [path.absolute() for path in paths]
        self.shown = dict(zip(self.paths, paths, strict=True))
        self._errors = (duckdb.Error, pa.ArrowException, OSError)
        # Nothing but these files can be reached, and nothing is fetched or installed.
        settings: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": "",
            "memory_limit": "1GB",
            "preserve_insertion_order": "true",
            # What Arrow types come out is said here, so that a default that changes changes nothing.
            "arrow_large_buffer_size": "false",
            "arrow_output_list_view": "false",
            "arrow_lossless_conversion": "false",
            "arrow_output_version": "1.0",
        }
        self.connection = duckdb.connect(":memory:", config=settings)
        allowed = ", ".join(quote_text(str(name)) for name in {*self.paths, *map(exact_pattern, self.paths)})
        self.connection.execute(f"SET allowed_paths = [{allowed}]")
        self.connection.execute("SET enable_external_access = false")

    def close(self) -> None:
        """Close DuckDB. A stream that is still open breaks."""
        self.connection.close()

    def read(self) -> Iterator[pa.RecordBatch]:
        """The rows of all files, file after file, in order.

        Raises:
            UnreadableInput: a file is broken, or was changed.
        """
        for path in self.paths:
            try:
                with interruptible():
                    reader = self.connection.sql(self._query(path)).to_arrow_reader(BATCH_ROWS)
                    for batch in reader:
                        yield self._typed(batch)
            except self._errors as error:
                self._refuse(path, error)

    def _query(self, path: Path) -> str:
        raise NotImplementedError

    def _typed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            column if column.type == field.type else column.cast(field.type)
            for field, column in zip(self.schema, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def rows_of(self, query: str, path: Path) -> list[tuple[Any, ...]]:
        """The result of a query on a file. Raises UnreadableInput, naming the file."""
        try:
            with interruptible():
                rows: list[tuple[Any, ...]] = self.connection.sql(query).fetchall()
            return rows
        except self._errors as error:
            self._refuse(path, error)

    def _table(self, path: Path) -> str:
        raise NotImplementedError

    def classify(self, columns: list[str]) -> tuple[int, list[Finding]]:
        """The row count of all files, and the classes of their text columns (SQL expressions)."""
        findings = [Finding() for _ in columns]
        aggregates = "".join(", " + class_expression(column) for column in columns)
        count = 0
        for path in self.paths:
            ((rows, *classes),) = self.rows_of(f"SELECT count(*){aggregates} FROM {self._table(path)}", path)
            count += rows
            for finding, found in zip(findings, classes, strict=True):
                finding.classes |= found or 0
        wide = [position for position, finding in enumerate(findings) if finding.wide]
        if wide:
            ranges = ", ".join(range_expression(columns[position]) for position in wide)
            for path in self.paths:
                (ends,) = self.rows_of(f"SELECT {ranges} FROM {self._table(path)}", path)
                for number, position in enumerate(wide):
                    findings[position].stretch(ends[2 * number], ends[2 * number + 1])
        return count, findings

    def _refuse(self, path: Path, error: Exception) -> NoReturn:
        """Raise what DuckDB said of a file, in one sentence."""
        shown = self.shown[path]
        text = str(error)
        place = re.search(r"CSV Error on Line: (\d+)", text) or re.search(r"in line (\d+)", text)
        where = f"line {place[1]}" if place else "it"
        counts = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text)
        hint = None
        if not path.exists():
            raise UnreadableInput(f"{shown} was removed while it was read") from error
        if counts:
            reason = f"{where} has {counts[2]} value(s) where the header has {counts[1]} name(s)"
        elif "unterminated quote" in text:
            reason = f"{where} begins a quoted value that does not end as it should"
            hint = 'a quote inside a quoted value is written twice: ""'
        elif "recursion depth" in text:
            reason = "its values are nested too deeply"
        elif "unicode" in text or "UTF-8" in text:
            reason, hint = f"{where} is not in UTF-8", "convert the file to UTF-8 first"
        elif "invalid state" in text:
            reason = "it mixes line endings, or its quotes do not pair"
        elif "Maximum line size" in text or "maximum_object_size" in text:
            reason = f"{where} is too long, longer than 16 MiB"
        else:
            reason = re.split(r"\s*\n|\s*Try (?:setting|increasing|auto)", text.strip(), maxsplit=1)[0]
            reason = re.sub(r"^[A-Z][A-Za-z ]*Error: ", "", reason)
            reason = re.sub(r' ?in file "[^"]*",?', "", reason).strip().rstrip(".")
            reason = f"DuckDB says: {reason}"
        raise UnreadableInput(f"{shown} cannot be read: {reason}", hint=hint) from error


class CsvFiles(TextFiles):
    """CSV files with one header, as one table.

    Args:
        paths: the files, in the order to read them; compressed ones end in .gz or .zst.
        delimiter: between values; None finds it in the first header.

    Raises:
        UnreadableInput: a file is empty, broken or has another header than the first.
    """

    def __init__(self, paths: Sequence[Path], *, delimiter: str | None = None) -> None:
        first = paths[0]
        self._delimiter, names = _read_header(first, delimiter)
        for path in paths[1:]:
            _, others = _read_header(path, self._delimiter)
            if others != names:
                raise UnreadableInput(f"{path} has other columns than {first}: {others} and not {names}")
        super().__init__(paths)
        try:
            self._internal = [f"c{position}" for position in range(len(names))]
            self.num_rows, findings = self.classify(self._internal)
            self._types = [decide(finding) for finding in findings]
        except BaseException:
            self.close()
            raise
        self.schema = pa.schema(
            [pa.field(name, ARROW_TYPES[kind]) for name, kind in zip(names, self._types, strict=True)]
        )
        self.notes = [f"column {field.name!r} was read as {field.type}" for field in self.schema]

    def _table(self, path: Path) -> str:
        columns = ", ".join(f"'{name}': 'VARCHAR'" for name in self._internal)
        return (
            f"read_csv({quote_text(exact_pattern(path))}, auto_detect = false, columns = {{{columns}}},"
            f" delim = {quote_text(self._delimiter)}, quote = '\"', escape = '\"', comment = '',"
            " header = true, skip = 0, nullstr = '', allow_quoted_nulls = false, null_padding = false,"
            " strict_mode = true, ignore_errors = false, encoding = 'utf-8', all_varchar = true,"
            " hive_partitioning = false, filename = false, union_by_name = false,"
            f" compression = '{compression(path)}', max_line_size = 16777216, buffer_size = 16777216)"
        )

    def _query(self, path: Path) -> str:
        chosen = [
            name if kind == "VARCHAR" else f"CAST(nullif({name}, '') AS {kind}) AS {name}"
            for name, kind in zip(self._internal, self._types, strict=True)
        ]
        return f"SELECT {', '.join(chosen)} FROM {self._table(path)}"


def exact_pattern(path: Path) -> str:
    """A path as a pattern that matches only itself: DuckDB takes every path for a glob."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path))


def compression(path: Path) -> str:
    """How the suffix says that a file is compressed, in DuckDB's and Arrow's word."""
    return _COMPRESSIONS.get(path.suffix.lower(), "none")


def read_start(path: Path, size: int) -> bytes:
    """The first bytes of a file, decompressed."""
    kind = compression(path)
    try:
        with pa.input_stream(str(path), compression=None if kind == "none" else kind) as stream:
            return bytes(stream.read(size))
    except (pa.ArrowException, OSError) as error:
        raise UnreadableInput(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _read_header(path: Path, delimiter: str | None) -> tuple[str, list[str]]:
    """The delimiter and the column names of a CSV file."""
    start = read_start(path, _HEADER_BYTES)
    if not start.strip():
        raise UnreadableInput(f"{path} is empty")
    if len(start) == _HEADER_BYTES and b"\n" not in start and b"\r" not in start:
        raise UnreadableInput(f"{path} cannot be read: its first line has more than {_HEADER_BYTES:,} bytes")
    text = start.decode("utf-8-sig", errors="replace")
    best: list[str] = []
    chosen = delimiter or _DELIMITERS[0]
    for candidate in delimiter or _DELIMITERS:
        try:
            names = next(csv.reader(io.StringIO(text, newline=""), delimiter=candidate, strict=True), [])
        except csv.Error:
            continue
        if len(names) > len(best):
            best, chosen = names, candidate
    if not best:
        raise UnreadableInput(f"{path} cannot be read: its first line is not a header of CSV")
    if any("\ufffd" in name for name in best):
        raise UnreadableInput(f"{path} cannot be read: its header is not in UTF-8")
    if all(_NUMERIC.fullmatch(name) for name in best):
        raise UnreadableInput(
            f"{path} cannot be read: its first line holds values, not column names",
            hint="put the column names on the first line",
        )
    times = Counter(best)
    for position, name in enumerate(best):
        if not name:
            raise UnreadableInput(
                f"{path} cannot be read: column {position + 1} has no name in the header",
                hint="from pandas, write with to_csv(index=False) or name the index",
            )
        if times[name] > 1:
            raise UnreadableInput(f"{path} cannot be read: two columns are named {name!r}")
    return chosen, best
