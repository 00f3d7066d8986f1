"""The one shape that every input is brought into before it is committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import pyarrow as pa

from fsvc.errors import FsvcError, InvalidUse, NotFound, UnreadableInput, UnsupportedData

__all__ = ["BATCH_ROWS", "Source", "check_columns", "first_line", "nearest", "select_fields", "validate"]

BATCH_ROWS = 65536
"""The largest number of rows in a batch that is read from a file."""


@dataclass
class Source:
    """A table to be read once, in order: its schema now, its rows as a stream.

    Attributes:
        schema: the schema as the input gives it (not in normal form).
        read: gives a fresh iterator of raw batches; :meth:`batches` is what callers use.
        num_rows: the number of rows where it is known before reading, else None.
        description: what is read, for messages; a file is named by its path.
        repeatable: whether :meth:`batches` may be called again and gives the same rows.
        notes: sentences for people, such as the types that were found in a CSV file.
        from_file: whether bad data is the fault of a file (UnreadableInput) or of an object
            in memory (UnsupportedData).
        validated: whether ``read`` gives arrays that were validated in full already.
        release: frees what is held open; called once by :meth:`close`.
    """

    schema: pa.Schema
    read: Callable[[], Iterator[pa.RecordBatch]]
    num_rows: int | None
    description: str
    repeatable: bool
    notes: list[str] = field(default_factory=list)
    from_file: bool = False
    validated: bool = False
    release: Callable[[], None] | None = None
    _started: bool = field(default=False, repr=False)
    _closed: bool = field(default=False, repr=False)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, in order, as record batches.

        Every batch has the types of :attr:`schema`. A batch has at most :data:`BATCH_ROWS` rows
        where the source makes it, and what the caller made it in memory; batches may have
        dictionaries of their own. What comes from a file is valid in full (offsets within bounds,
        text in UTF-8); in objects in memory all is checked but the text of plain columns.

        Raises:
            InvalidUse: the source is closed, or was read before and is not repeatable.
            UnreadableInput: the input broke while it was read, or was changed meanwhile.
            UnsupportedData: an object in memory holds what no Arrow table may hold.
        """
        if self._closed:
            raise InvalidUse(f"{self.description} is closed")
        if self._started and not self.repeatable:
            raise InvalidUse(f"{self.description} can be read only once, and was read already")
        self._started = True
        return self._checked()

    def _checked(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self.read():
                if not self.validated:
                    validate(batch, text=self.from_file)
                yield batch
        except FsvcError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> FsvcError:
        """The error to raise when reading this source failed with ``error``."""
        kind = UnreadableInput if self.from_file else UnsupportedData
        return kind(f"{self.description} cannot be read: {first_line(error)}")

    def close(self) -> None:
        """Free files and connections. Closing twice is fine; nothing can be read afterwards."""
        if not self._closed:
            self._closed = True
            if self.release is not None:
                self.release()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def validate(table: pa.RecordBatch | pa.Table, *, text: bool = True) -> None:
    """Check every column: its layout, bounds of offsets and indices, values that their type allows.

    Work on arrays that are broken crashes the process. Without ``text`` it is not looked whether the
    text of plain columns is UTF-8, which takes longer than all else and crashes nothing.

    Raises:
        pa.ArrowInvalid: something is wrong; the message names the column.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            for array in column.chunks if isinstance(column, pa.ChunkedArray) else (column,):
                if not len(array):
                    continue  # views that are empty and sliced look broken to pyarrow
                array.validate()
                if not text and pa.types.is_string(array.type):
                    array = array.view(pa.binary())
                elif not text and pa.types.is_large_string(array.type):
                    array = array.view(pa.large_binary())
                array.validate(full=True)
        except (pa.ArrowInvalid, IndexError) as error:
            raise pa.ArrowInvalid(f"column {name!r}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error of another library, which may go on for pages."""
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".") if lines else type(error).__name__


def nearest(name: str, others: Sequence[str]) -> str | None:
    """The most similar of other names, or None when none is similar."""
    import difflib

    found = difflib.get_close_matches(name, others, n=1)
    return found[0] if found else None


def check_columns(columns: Sequence[str] | None) -> list[str] | None:
    """The wanted columns as a list, or None for all.

    Raises:
        InvalidUse: it is a single text, names no column, or names one twice.
    """
    if columns is None:
        return None
    if isinstance(columns, str):
        raise InvalidUse("columns must be a list of names, not one text", hint=f"write [{columns!r}]")
    wanted = list(columns)
    if not wanted:
        raise InvalidUse("columns must name at least one column")
    for name in wanted:
        if not isinstance(name, str):
            raise InvalidUse(f"a column is named by a text, not by {name!r}")
        if wanted.count(name) > 1:
            raise InvalidUse(f"column {name!r} is named twice")
    return wanted


def select_fields(names: Sequence[str], columns: Sequence[str] | None, description: str) -> list[int]:
    """The positions of the wanted columns, in the order wanted; all of them for None.

    Raises:
        NotFound: a column is not there.
        InvalidUse: two columns have the wanted name.
    """
    if columns is None:
        return list(range(len(names)))
    positions = []
    for name in columns:
        count = names.count(name)
        if count == 0:
            near = nearest(name, names)
            hint = f"did you mean {near!r}?" if near else "its columns are " + ", ".join(map(repr, names))
            raise NotFound(f"{description} has no column {name!r}", hint=hint)
        if count > 1:
            raise InvalidUse(f"{description} has {count} columns named {name!r}")
        positions.append(names.index(name))
    return positions
