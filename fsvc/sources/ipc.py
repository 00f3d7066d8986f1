"""Reading Arrow IPC: the file format (Feather version 2) and the stream format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fsvc.errors import UnreadableInput
from fsvc.sources.source import first_line, select_fields

__all__ = ["IpcInput"]


class IpcInput:
    """One Arrow IPC file; a batch is read whole, so memory is that of its largest batch.

    The file is read, not memory-mapped: a mapped file that is cut short ends the whole process, and
    one that is overwritten would change under the hashes.

    Raises (also from :meth:`read`):
        UnreadableInput: the file is not Arrow IPC, or broken.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None, *, stream: bool) -> None:
        self.path = path
        self._stream = stream
        with self._reader() as reader:
            whole = reader.schema
            self.num_rows: int | None = None
        self._positions = select_fields(whole.names, columns, str(path))
        fields = [whole.field(position) for position in self._positions]
        self.schema: pa.Schema = pa.schema(fields, metadata=whole.metadata)

    def _reader(self) -> Any:
        try:
            file = pa.OSFile(str(self.path), "rb")
            return pa.ipc.open_stream(file) if self._stream else pa.ipc.open_file(file)
        except (pa.ArrowException, OSError) as error:
            raise UnreadableInput(f"{self.path} cannot be read as Arrow: {first_line(error)}") from error

    def read(self) -> Iterator[pa.RecordBatch]:
        """The batches of the file, in order, as they were written."""
        try:
            with self._reader() as reader:
                if self._stream:
                    for batch in reader:
                        yield self._selected(batch)
                else:
                    for number in range(reader.num_record_batches):
                        yield self._selected(reader.get_batch(number))
        except (pa.ArrowException, OSError) as error:
            raise UnreadableInput(f"{self.path} cannot be read as Arrow: {first_line(error)}") from error

    def _selected(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [batch.column(position) for position in self._positions]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)
