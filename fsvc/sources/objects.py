"""Sources from objects in memory, recognised without importing the libraries they come from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from fsvc.errors import InvalidUse, UnsupportedData
from fsvc.sources.source import BATCH_ROWS, Source, first_line, select_fields, validate

__all__ = ["open_object"]


def open_object(obj: Any, columns: Sequence[str] | None) -> Source:
    """A source over a table in memory, or over something that streams Arrow.

    Raises:
        InvalidUse: the object is not a table.
        UnsupportedData: the table holds what Arrow cannot.
        NotFound: a wanted column is not there.
    """
    if isinstance(obj, pa.Table):
        return _from_table(obj, columns, "the pyarrow Table")
    if isinstance(obj, pa.RecordBatch):
        return _from_table(pa.Table.from_batches([obj]), columns, "the pyarrow RecordBatch")
    if isinstance(obj, pa.RecordBatchReader):
        return _from_reader(obj, columns, "the pyarrow RecordBatchReader")
    known = _known_kind(obj)
    if known == "pandas.DataFrame":
        return _from_table(_from_pandas(obj), columns, "the pandas DataFrame")
    if known == "polars.DataFrame":
        return _from_table(_from_polars(obj), columns, "the polars DataFrame")
    if known == "polars.LazyFrame":
        raise InvalidUse("a polars LazyFrame holds no rows yet", hint="pass frame.collect()")
    if known == "duckdb.DuckDBPyRelation":
        return _from_relation(obj, columns)
    if known in ("pandas.Series", "polars.Series"):
        raise InvalidUse(f"a {known.replace('.', ' ')} is not a table", hint="pass series.to_frame()")
    if isinstance(obj, Mapping):
        return _from_table(_from_mapping(obj), columns, "the dict")
    if isinstance(getattr(obj, "schema", None), pa.Schema) and callable(getattr(obj, "to_batches", None)):
        return _from_batches(obj, columns)
    if hasattr(obj, "__arrow_c_stream__") and not isinstance(obj, (pa.Array, pa.ChunkedArray)):
        description = f"the {type(obj).__name__}"
        try:
            reader = pa.RecordBatchReader.from_stream(obj)
        except Exception as error:  # Any library may stand behind the protocol, with any error.
            raise UnsupportedData(f"{description} gives no Arrow stream: {first_line(error)}") from error
        return _from_reader(reader, columns, description)
    raise InvalidUse(
        f"a {type(obj).__name__} is not a table that can be read",
        hint="pass a pandas, polars or pyarrow table, a RecordBatchReader, a DuckDB relation or a path",
    )


def _known_kind(obj: Any) -> str:
    """Library and class of an object of pandas, polars or DuckDB, subclasses included; else ''."""
    for kind in type(obj).__mro__:
        library = kind.__module__.partition(".")[0].lstrip("_")
        if library in ("pandas", "polars", "duckdb") and kind.__name__ in (
            "DataFrame",
            "LazyFrame",
            "Series",
            "DuckDBPyRelation",
        ):
            return f"{library}.{kind.__name__}"
    return ""


def _from_table(table: pa.Table, columns: Sequence[str] | None, description: str) -> Source:
    positions = select_fields(table.column_names, columns, description)
    if columns is not None:
        table = table.select(positions)

    def read() -> Iterator[pa.RecordBatch]:
        # Whole first: a batch is a slice, and validating slices visits shared children every time.
        validate(table, text=False)
        if table.num_rows:
            return iter(table.to_batches())
        # Even without rows a column may have categories.
        empty = [
            column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in table.columns
        ]
        return iter([pa.RecordBatch.from_arrays(empty, schema=table.schema)])

    return Source(table.schema, read, table.num_rows, description, repeatable=True, validated=True)


def _from_reader(reader: pa.RecordBatchReader, columns: Sequence[str] | None, description: str) -> Source:
    schema, select = _selection(reader.schema, columns, description)
    return Source(
        schema,
        lambda: _guarded((select(batch) for batch in reader), description),
        None,
        description,
        repeatable=False,
        release=reader.close,
    )


def _selection(
    schema: pa.Schema, columns: Sequence[str] | None, description: str
) -> tuple[pa.Schema, Callable[[pa.RecordBatch], pa.RecordBatch]]:
    if columns is None:
        return schema, lambda batch: batch
    positions = select_fields(schema.names, columns, description)
    chosen = pa.schema([schema.field(position) for position in positions], metadata=schema.metadata)

    def select(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([batch.column(position) for position in positions], schema=chosen)

    return chosen, select


def _guarded(batches: Iterator[pa.RecordBatch], description: str) -> Iterator[pa.RecordBatch]:
    """The batches of a foreign stream, whose errors may be of any class."""
    try:
        yield from batches
    except GeneratorExit:
        raise
    except Exception as error:
        raise UnsupportedData(f"{description} cannot be read: {first_line(error)}") from error


def _from_batches(obj: Any, columns: Sequence[str] | None) -> Source:
    """From anything with a schema and to_batches(), such as a snapshot or a pyarrow dataset."""
    description = getattr(obj, "uri", None) or f"the {type(obj).__name__}"
    schema, select = _selection(obj.schema, columns, str(description))

    def read() -> Iterator[pa.RecordBatch]:
        return (select(batch) for batch in obj.to_batches())

    rows = getattr(obj, "num_rows", None)
    return Source(schema, read, rows if isinstance(rows, int) else None, str(description), repeatable=True)


def _from_pandas(frame: Any) -> pa.Table:
    if (
        frame.columns.inferred_type in ("categorical", "mixed", "mixed-integer")
        and frame.columns.nlevels == 1
    ):
        labels = ", ".join(repr(label) for label in frame.columns[:3])
        raise UnsupportedData(
            f"the pandas DataFrame cannot be kept as it is: the labels of its columns ({labels}, ...) are"
            f" {frame.columns.inferred_type}, and would all become text",
            hint="name the columns by texts: frame.columns = frame.columns.map(str)",
        )
    try:
        return pa.Table.from_pandas(frame)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        # pyarrow names the column in the last of the error's arguments.
        said = "; ".join(str(part) for part in error.args) or type(error).__name__
        raise UnsupportedData(
            f"the pandas DataFrame cannot be kept as it is: {said}",
            hint="give each column values of one kind",
        ) from error


def _from_polars(frame: Any) -> pa.Table:
    polars = sys.modules["polars"]
    try:
        # The oldest level has no view types: what a column is does not depend on polars' version.
        return frame.to_arrow(compat_level=polars.CompatLevel.oldest())
    except Exception as error:  # Among them PanicException, which derives from no common class.
        raise UnsupportedData(f"the polars DataFrame cannot be kept as it is: {first_line(error)}") from error


def _from_mapping(columns: Mapping[Any, Any]) -> pa.Table:
    for name in columns:
        if not isinstance(name, str):
            raise InvalidUse(f"a dict of columns has texts as names, not {name!r}")
    arrays = {}
    for name, values in columns.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
            raise InvalidUse(f"column {name!r} of the dict is not a sequence of values")
        try:
            arrays[name] = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise UnsupportedData(f"column {name!r} of the dict: {first_line(error)}") from error
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise InvalidUse(f"the columns of the dict are not of one length: {counts}")
    return pa.table(arrays)


def _from_relation(relation: Any, columns: Sequence[str] | None) -> Source:
    description = "the DuckDB relation"
    try:
        reader = relation.to_arrow_reader(BATCH_ROWS)
    except Exception as error:  # duckdb.Error, which is not imported for this.
        raise UnsupportedData(f"{description} cannot be run: {first_line(error)}") from error
    return _from_reader(reader, columns, description)
