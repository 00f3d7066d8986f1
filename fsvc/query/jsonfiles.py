"""JSON files as streams of Arrow batches: one object per line, or one array of objects.

Parsed by DuckDB; numbers and texts are typed by the rule of CSV (:mod:`fsvc.query.texttypes`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fsvc.errors import UnreadableInput, UnsupportedData
from fsvc.query.textfiles import TextFiles, compression, exact_pattern, read_start
from fsvc.query.texttypes import ARROW_TYPES, EMPTY, decide, quote_name, quote_text

__all__ = ["JsonFiles"]


class JsonFiles(TextFiles):
    """JSON files whose values are objects: one per line, one after the other, or in one array.

    Numbers and texts keep apart: a text is never read as a number. Texts that are all ISO dates or
    times become dates or timestamps where they are a column of their own, and stay texts inside of
    structs and lists. A key that a row lacks is null.

    Raises:
        UnreadableInput: a file is empty, broken, or holds something else than objects.
        UnsupportedData: a column mixes kinds of values, or would lose digits.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._formats = {path.absolute(): _json_format(path) for path in paths}
        super().__init__(paths)
        try:
            self._detect()
        except BaseException:
            self.close()
            raise

    def _detect(self) -> None:
        kinds: dict[str, Any] = {}
        exact: dict[str, str] = {}
        # Keys are numbered as they are first met: with more than one thread, by chance.
        self.connection.execute("SET threads = 1")
        for path in self.paths:
            function = f"read_json_objects({quote_text(exact_pattern(path))}, {self._options(path)})"
            ((found,),) = self.rows_of(f"SELECT json_group_structure(json) FROM {function}", path)
            try:
                structure = json.loads(found) if found is not None else {}
            except RecursionError as error:  # DuckDB's own limit may be higher than Python's
                self._refuse(path, error)
            if not isinstance(structure, dict):
                raise UnreadableInput(
                    f"{self.shown[path]} cannot be read: its values are not all objects with names"
                )
            _merge(kinds, structure, str(self.shown[path]))
        self.connection.execute("RESET threads")
        if not kinds:
            raise UnreadableInput(f"{self.shown[self.paths[0]]} cannot be read: it has no columns")
        self._types: dict[str, str] = {}
        arrow: dict[str, pa.DataType] = {}
        for name, kind in kinds.items():
            try:
                self._types[name], arrow[name] = _sql_type(kind, name)
            except UnsupportedData as error:
                shown = ", ".join(str(path) for path in list(self.shown.values())[:3])
                raise UnsupportedData(f"{shown} cannot be read: {error.message}", hint=error.hint) from None
        _check_names(list(kinds), str(self.shown[self.paths[0]]))
        # Numbers that may lose digits, and texts that may be times, are read as text and classified.
        open_names = [name for name, kind in kinds.items() if kind in _CLASSIFIED]
        for name in open_names:
            self._types[name] = "VARCHAR"
        self.num_rows, findings = self.classify([quote_name(name) for name in open_names])
        for name, finding in zip(open_names, findings, strict=True):
            # An empty text is a value here: with it, a column is of texts.
            decided = "VARCHAR" if finding.classes & EMPTY else decide(finding)
            exact[name] = _json_type(kinds[name], decided, name)
            arrow[name] = ARROW_TYPES[exact[name]]
        self._casts = exact
        self.schema = pa.schema([pa.field(name, arrow[name]) for name in kinds])
        self.notes = [f"column {field.name!r} was read as {field.type}" for field in self.schema]

    def _options(self, path: Path) -> str:
        return (
            f"format = '{self._formats[path]}', compression = '{compression(path)}',"
            " maximum_object_size = 16777216, ignore_errors = false, hive_partitioning = false"
        )

    def _table(self, path: Path) -> str:
        columns = ", ".join(f"{quote_text(name)}: {quote_text(kind)}" for name, kind in self._types.items())
        return (
            f"read_json({quote_text(exact_pattern(path))}, {self._options(path)}, records = true,"
            f" auto_detect = false, columns = {{{columns}}})"
        )

    def _query(self, path: Path) -> str:
        chosen = []
        for name in self._types:
            quoted, kind = quote_name(name), self._casts.get(name, "VARCHAR")
            chosen.append(quoted if kind == "VARCHAR" else f"CAST({quoted} AS {kind}) AS {quoted}")
        return f"SELECT {', '.join(chosen)} FROM {self._table(path)}"


_CLASSIFIED = ("VARCHAR", "UBIGINT", "BIGINT", "HUGEINT", "DOUBLE")
_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMPTZ")


def _json_type(kind: str, decided: str, name: str) -> str:
    """The type of a JSON column whose values are all texts, or all numbers, of the classes found."""
    if kind == "VARCHAR":
        return decided if decided in _TIMES else "VARCHAR"
    if decided == "VARCHAR":
        raise UnsupportedData(
            f"column {name!r} holds numbers that no one type keeps: fractions beside integers of more"
            " than 15 digits, or integers of more than 38",
            hint="write them as texts",
        )
    return decided


def _merge(known: dict[str, Any], new: dict[str, Any], shown: str, path: str = "") -> None:
    """Add what a file's structure says to what those before it said."""
    for name, kind in new.items():
        where = f"{path}.{name}" if path else name
        known[name] = _merge_kind(known.get(name, "NULL"), kind, shown, where)


def _merge_kind(known: Any, new: Any, shown: str, where: str) -> Any:
    if known == "NULL":
        return new
    if new == "NULL" or known == new:
        return known
    if isinstance(known, dict) and isinstance(new, dict):
        _merge(known, new, shown, where)
        return known
    if isinstance(known, list) and isinstance(new, list):
        return [_merge_kind(known[0], new[0], shown, where)]
    numbers = {"UBIGINT", "BIGINT", "HUGEINT", "DOUBLE"}
    if isinstance(known, str) and isinstance(new, str) and {known, new} <= numbers:
        return "DOUBLE" if "DOUBLE" in (known, new) else "HUGEINT"
    raise UnsupportedData(f"{shown} cannot be read: {where!r} mixes kinds of values")


def _sql_type(kind: Any, where: str) -> tuple[str, pa.DataType]:
    """The SQL and Arrow type of a structure that json_group_structure found."""
    if isinstance(kind, dict):
        _check_names(list(kind), f"column {where!r}")
        members = {name: _sql_type(inner, f"{where}.{name}") for name, inner in kind.items()}
        inside = ", ".join(f"{quote_name(name)} {sql}" for name, (sql, _) in members.items())
        return f"STRUCT({inside})", pa.struct([(name, arrow) for name, (_, arrow) in members.items()])
    if isinstance(kind, list):
        sql, arrow = _sql_type(kind[0], where)
        return f"{sql}[]", pa.list_(arrow)
    if kind == "NULL":
        return "VARCHAR", pa.string()
    if kind in ("UBIGINT", "BIGINT"):
        return "BIGINT", pa.int64()
    if kind in ("HUGEINT", "DOUBLE", "BOOLEAN", "VARCHAR"):
        return kind, ARROW_TYPES[kind]
    raise UnsupportedData(
        f"column {where!r} mixes kinds of values (such as numbers and texts), or holds empty objects"
    )


def _check_names(names: list[str], shown: str) -> None:
    if "" in names:
        raise UnreadableInput(f"{shown} cannot be read: a name is empty")
    twins: dict[str, str] = {}
    for name in names:
        other = twins.setdefault(name.lower(), name)
        if other != name:
            raise UnreadableInput(
                f"{shown} cannot be read: {other!r} and {name!r} differ only in upper and lower case"
            )


def _json_format(path: Path) -> str:
    start = read_start(path, 4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        raise UnreadableInput(f"{path} is empty")
    if start.startswith(b"["):
        return "array"
    lines = path.suffix.lower() in (".jsonl", ".ndjson") or path.with_suffix("").suffix.lower() in (
        ".jsonl",
        ".ndjson",
    )
    return "newline_delimited" if lines else "unstructured"
