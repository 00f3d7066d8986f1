"""Metadata of pages that are not written yet: what a footer needs to know of a chunk that will be thawed.

A footer is written before anybody touches a chunk, so it states statistics, and an upper bound of the bytes
that plain pages will take. Both follow from the values; nothing is encoded for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from fsvc.format import pages
from fsvc.format.footer import LeafMeta, reserved_leaf
from fsvc.format.rowvalues import is_binary_like

__all__ = ["reserved_leaves"]

_SLACK = 256
"""Room for pages that another writer makes a little longer, besides a 64th of their bytes."""
_PAGE_ROWS = 20_000
_PAGE_BYTES = 1 << 20
_HEADER = 192
"""More than a page's header takes with bounds of fixed width; longer ones come on top."""
_LONGEST_BOUND = 4096
"""Writers leave out bounds that are longer."""


def reserved_leaves(arrays: Sequence[pa.Array], fields: Sequence[pa.Field]) -> list[tuple[LeafMeta, ...]]:
    """For each column of a row group, in stored form, the metadata of the plain pages it may be thawed to.

    Raises UnsupportedData where Parquet cannot hold the values.
    """
    easy = [len(array) > 0 and _simple(array.type) for array in arrays]
    simple = [i for i, is_easy in enumerate(easy) if is_easy]
    rest = [i for i, is_easy in enumerate(easy) if not is_easy]
    ends = [pages.ends(arrays[i]) for i in simple]
    written = pages.plain(ends, [fields[i].with_nullable(True) for i in simple])
    found: dict[int, tuple[LeafMeta, ...]] = {
        i: (
            reserved_leaf(
                chunk.leaves[0],
                _with_slack(_bound(arrays[i])),
                values=len(arrays[i]),
                nulls=arrays[i].null_count,
                ranged=not pages.has_nan(arrays[i]),
            ),
        )
        for i, chunk in zip(simple, written, strict=True)
    }
    # Of the others there is nothing shorter than to write them.
    written = pages.plain([arrays[i] for i in rest], [fields[i] for i in rest])
    found |= {
        i: tuple(reserved_leaf(leaf, _with_slack(leaf.length)) for leaf in chunk.leaves)
        for i, chunk in zip(rest, written, strict=True)
    }
    return [found[i] for i in range(len(arrays))]


def _with_slack(length: int) -> int:
    return length + length // 64 + _SLACK


def _simple(t: pa.DataType) -> bool:
    """Whether the statistics of values are those of the least and the greatest of them, and Arrow finds these."""
    return bool(
        pa.types.is_integer(t)
        or pa.types.is_float32(t)
        or pa.types.is_float64(t)
        or pa.types.is_boolean(t)
        or pa.types.is_temporal(t)
        or is_binary_like(t)
    )


def _bound(array: pa.Array) -> int:
    """How many bytes the values take as plain pages at the most."""
    t = array.type
    rows, count = len(array), len(array) - array.null_count
    header = _HEADER
    if is_binary_like(t):
        longest = pc.max(pc.binary_length(array)).as_py() or 0
        total = pc.sum(pc.binary_length(array)).as_py() or 0
        values = total + 4 * count
        header += 4 * min(longest, _LONGEST_BOUND)
    elif pa.types.is_boolean(t):
        values = count // 8
    else:
        values = count * max(4, t.bit_width // 8)
    if array.null_count:
        values += rows // 4  # levels in the worst order: runs of eight, each with two bytes
    return int(values + (rows // _PAGE_ROWS + values // _PAGE_BYTES + 2) * header)
