"""Sources: whatever can be committed, as one stream of Arrow record batches.

:func:`open_source` takes a table in memory (pyarrow, pandas, polars, a DuckDB relation, a snapshot,
a dict of columns) or a path (Parquet, Arrow IPC, CSV, JSON; a file, a folder or a glob) and gives a
:class:`Source`: the schema at once, the data as a stream of bounded memory.
"""

from __future__ import annotations

from fsvc.sources.opening import open_source
from fsvc.sources.sorting import sort_source
from fsvc.sources.source import BATCH_ROWS, Source

__all__ = ["BATCH_ROWS", "Source", "open_source", "sort_source"]
