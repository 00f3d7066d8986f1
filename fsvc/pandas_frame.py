"""Arrow tables to pandas DataFrames with the index, labels and dtypes that were committed.

``pyarrow.Table.to_pandas`` restores most of what the metadata of pandas tells, but not all: columns of
dtype ``object`` become numbers or strings, levels of an index lose nullable and Arrow-backed dtypes,
Arrow-backed dtypes with parameters raise an error, and labels that are booleans all become True.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fsvc.format import pandas_metadata
from fsvc.format import schema as schemas

if TYPE_CHECKING:
    import pandas

__all__ = ["to_pandas"]

_ARROW = "[pyarrow]"


def to_pandas(table: pa.Table, **options: Any) -> pandas.DataFrame:
    """A table (with a schema in normal form, or a choice of columns from one) as a DataFrame.

    ``options`` go to :meth:`pyarrow.Table.to_pandas`; with ``ignore_metadata`` or a ``types_mapper`` it
    decides alone. In a column of dtype ``object`` all nulls are None, whatever stood for them before.
    """
    # A choice of columns leaves out what spoke of others, such as an index that is not there.
    table = (
        table.cast(schemas.normalise(table.schema)) if b"pandas" in (table.schema.metadata or {}) else table
    )
    dtypes = pandas_metadata.dtypes(table.schema)
    if options.get("ignore_metadata") or options.get("types_mapper"):
        dtypes = {}
    document = pandas_metadata.document(table.schema) or {}
    levels = [name for name in document.get("index_columns", []) if isinstance(name, str)]
    columns = [name for name in table.column_names if name not in levels]
    apart = {name: dtype for name, dtype in dtypes.items() if dtype == "object" or dtype.endswith(_ARROW)}
    frame = _with_placeholders(table, apart, document).to_pandas(**options)
    for position, name in enumerate(columns):
        if name in apart:
            frame.isetitem(position, _series(table[name], apart[name]))
    if any(name in dtypes for name in levels):
        frame.index = _index(table, frame.index, document, dtypes)
    labels = document.get("column_indexes", [])
    if len(labels) == 1 and labels[0].get("numpy_type") in ("bool", "string"):
        import pandas

        dtype = labels[0]["numpy_type"]
        texts = columns if dtype == "string" else [name == "True" for name in columns]
        frame.columns = pandas.Index(texts, dtype=dtype, name=frame.columns.name)
    return frame


def _with_placeholders(table: pa.Table, apart: dict[str, str], document: dict[str, Any]) -> pa.Table:
    """The table with cheap columns in place of those that are converted apart, and nothing said of them."""
    if not apart:
        return table
    for name in apart:
        position = table.column_names.index(name)
        table = table.set_column(position, name, pa.repeat(pa.scalar(0, pa.int8()), len(table)))
    entries = [
        {**entry, "pandas_type": "int8", "numpy_type": "int8", "metadata": None}
        if entry["field_name"] in apart
        else entry
        for entry in document["columns"]
    ]
    told = json.dumps({**document, "columns": entries}).encode()
    return table.replace_schema_metadata({**table.schema.metadata, b"pandas": told})


def _series(column: pa.ChunkedArray, dtype: str) -> pandas.Series:
    """A column as Arrow-backed values, or as Python objects with None for null."""
    import pandas

    if dtype.endswith(_ARROW):
        return pandas.Series(column, dtype=pandas.ArrowDtype(column.type))
    series = column.to_pandas(integer_object_nulls=True).astype(object)
    if column.null_count:
        series[column.is_null().to_numpy()] = None
    return series


def _index(
    table: pa.Table, index: pandas.Index, document: dict[str, Any], dtypes: dict[str, str]
) -> pandas.Index:
    """The index with its levels in the dtypes that they had."""
    import pandas

    arrays: list[Any] = []
    for number, name in enumerate(document["index_columns"]):
        dtype = dtypes.get(name) if isinstance(name, str) else None
        if dtype is None:
            arrays.append(index.get_level_values(number))
        elif dtype == "object" or dtype.endswith(_ARROW):
            arrays.append(_series(table[name], dtype).array)
        else:
            entries = [entry for entry in document["columns"] if entry["field_name"] == name]
            told = json.dumps({"columns": entries, "index_columns": []}).encode()
            alone = table.select([name]).replace_schema_metadata({b"pandas": told})
            arrays.append(alone.to_pandas().iloc[:, 0].array)
    # With a dtype, since pandas makes strings of objects by itself.
    found = [pandas.Index(array, dtype=array.dtype) for array in arrays]
    return (
        found[0].rename(index.name)
        if len(found) == 1
        else pandas.MultiIndex.from_arrays(found, names=index.names)
    )
