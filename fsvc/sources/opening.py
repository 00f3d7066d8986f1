"""Recognising what is to be committed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fsvc.sources.objects import open_object
from fsvc.sources.paths import open_path
from fsvc.sources.source import Source, check_columns

__all__ = ["open_source"]


def open_source(obj: Any, *, columns: Sequence[str] | None = None) -> Source:
    """Open a table for reading, whatever it is.

    Args:
        obj: a pyarrow Table, RecordBatch or RecordBatchReader; a pandas or polars DataFrame; a DuckDB
            relation; a dict of columns; anything with
            ``schema`` and ``to_batches()``, such as a snapshot, or with ``__arrow_c_stream__``; a
            path of a file, a folder or a glob; or a source, which is taken as it is.
        columns: the columns to read, in the order wanted; None for all.

    Of files, no more is read here than footers; CSV and JSON are read once for their types.

    Raises:
        InvalidUse: the object is not a table, or ``columns`` makes no sense.
        NotFound: a wanted column is not there.
        UnreadableInput: a file is missing, empty, broken or of an unknown kind.
        UnsupportedData: the table holds what Arrow cannot keep; the message names the column.
    """
    wanted = check_columns(columns)
    if isinstance(obj, Source) and wanted is None:
        return obj
    if isinstance(obj, (str, os.PathLike)):
        return open_path(obj, wanted)
    return open_object(obj, wanted)
