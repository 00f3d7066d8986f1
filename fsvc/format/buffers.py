"""Arrow's buffers as numpy sees them: in place, with regard to offsets, whatever lies in the slots of nulls."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["ends", "fixed"]

_WIDE = frozenset((pa.lib.Type_LARGE_STRING, pa.lib.Type_LARGE_BINARY, pa.lib.Type_LARGE_LIST))


def fixed(
    array: pa.Array, dtype: npt.DTypeLike, buffer: int = 1, *, extra: int = 0, per_row: int = 1
) -> npt.NDArray[Any]:
    """A buffer of an array as ``per_row`` numbers for each row, and ``extra`` more at the end; not copied."""
    kind = np.dtype(dtype)
    count = len(array) * per_row + extra
    source = array.buffers()[buffer]
    if source is None or not source.size:
        return np.zeros(count, kind)  # some producers leave out the buffers of empty arrays
    return np.frombuffer(source, kind, count, array.offset * per_row * kind.itemsize)


def ends(array: pa.Array) -> npt.NDArray[Any]:
    """Where each value of a text, binary or list array begins in its data, and where the last ends; not copied.

    One more than there are rows, as 32 or, of large types, 64 bits.
    """
    return fixed(array, "<i8" if array.type.id in _WIDE else "<i4", extra=1)
