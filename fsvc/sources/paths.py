"""Sources from paths: a file, a folder or a glob of files of one kind."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa

from fsvc.errors import UnreadableInput
from fsvc.sources.source import Source, nearest, select_fields

__all__ = ["SUFFIXES", "open_path"]

Kind = Literal["parquet", "arrow", "csv", "json"]

SUFFIXES: dict[str, Kind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
"""What kind of file each known suffix says; CSV and JSON may be followed by .gz or .zst."""

_FILE_MAGIC = b"ARROW1"
_STREAM_MAGIC = b"\xff\xff\xff\xff"
_PARTITION = re.compile(r"[^=/]+=[^/]*")


class Input(Protocol):
    """One file, or some, opened for reading."""

    schema: pa.Schema

    @property
    def num_rows(self) -> int | None:
        """The number of rows where it is known."""

    def read(self) -> Iterator[pa.RecordBatch]:
        """The rows, in order."""


def open_path(path: str | os.PathLike[str], columns: Sequence[str] | None) -> Source:
    """A source over a file, or over all files of a folder or glob, sorted by path, as one table.

    Names in a folder that begin with a dot or an underscore are passed over.

    Raises:
        UnreadableInput: nothing is there, a file is empty, broken or of an unknown kind, the files are
            not of one kind and schema, or the folder has its columns in the names of folders.
        NotFound: a wanted column is not there.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise UnreadableInput("a path must be text, not bytes")
    files = _expand(text)
    for file in files:
        _check_spelling(str(file))
    stamps = {file: _Stamp.of(file) for file in files}
    kinds = {file: _kind_of(file) for file in files}
    first = files[0]
    for file in files:
        if kinds[file] != kinds[first]:
            raise UnreadableInput(
                f"{text} holds files of different kinds, such as {first.name} and {file.name}",
                hint="name the files of one kind with a glob, such as 'folder/*.parquet'",
            )
    if kinds[first] in ("csv", "json"):
        return _open_text(text, files, kinds[first], columns, stamps)
    return _open_binary(text, files, kinds[first], columns, stamps)


@dataclass(frozen=True)
class _Stamp:
    """What tells whether a file was changed or replaced."""

    identity: tuple[int, int, int, int]

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        """The stamp of a file now. Raises UnreadableInput unless it is a file that can be read."""
        try:
            found = path.stat()
        except OSError as error:
            raise UnreadableInput(f"{path} cannot be read: {_reason(error)}") from error
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableInput(f"{path} is not a file")
        if found.st_size == 0:
            raise UnreadableInput(f"{path} is empty")
        _start_of(path, 1)  # whether it may be read, before anything begins
        return cls((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))

    def check(self, path: Path) -> None:
        """Raise UnreadableInput if the file is another one by now."""
        try:
            same = _Stamp.of(path) == self
        except UnreadableInput:
            same = False
        if not same:
            raise UnreadableInput(
                f"{path} was changed while it was read", hint="commit it again once nothing writes to it"
            )


def _check_spelling(text: str) -> None:
    """Raise UnreadableInput for a name that is no text: DuckDB and Arrow could not open it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnreadableInput(f"the name {text!r} is not in UTF-8", hint="rename the file") from None


def _expand(text: str) -> list[Path]:
    if not text:
        raise UnreadableInput("a path cannot be empty", hint="'.' is the current directory")
    _check_spelling(text)
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text)
    if scheme:  # the rest of an address may hold a password or a token
        raise UnreadableInput(
            f"an address {scheme[0]}... is not a path of this machine", hint="download it first"
        )
    path = Path(text)
    try:
        if path.is_dir():
            return _folder(path)
        if path.exists():
            return [path]
        if glob.has_magic(text):
            return _matches(text)
    except OSError as error:
        raise UnreadableInput(f"{text} cannot be read: {_reason(error)}") from error
    except ValueError as error:
        raise UnreadableInput(f"{text!r} cannot be read: {error}") from error
    if os.path.islink(path):
        raise UnreadableInput(f"{text} is a link to {os.readlink(path)}, where nothing can be read")
    raise UnreadableInput(f"{text} does not exist", hint=_neighbour(path))


def _neighbour(path: Path) -> str | None:
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return f"there is no folder {path.parent}"
    near = nearest(path.name, names)
    return f"did you mean {path.parent / near}?" if near else None


def _folder(path: Path) -> list[Path]:
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "_")))
    for entry in entries:
        if entry.is_dir():
            _refuse_partition(entry.name, str(path))
            raise UnreadableInput(
                f"{path} holds a folder, {entry.name}",
                hint=f"name the files with a glob, such as '{path / '**'}'",
            )
    if not entries:
        raise UnreadableInput(f"{path} holds no files")
    return entries


def _matches(text: str) -> list[Path]:
    found = sorted(Path(match) for match in glob.glob(text, recursive=True))
    files = [match for match in found if not match.is_dir() and not match.name.startswith((".", "_"))]
    if not files:
        raise UnreadableInput(f"no file matches {text}")
    fixed = 0
    parts = Path(text).parts
    while fixed < len(parts) and not glob.has_magic(parts[fixed]):
        fixed += 1
    for file in files:
        for part in file.parts[fixed:-1]:
            _refuse_partition(part, text)
    return files


def _refuse_partition(name: str, shown: str) -> None:
    if _PARTITION.fullmatch(name):
        raise UnreadableInput(
            f"{shown} is partitioned by folders such as {name}, whose columns are not in the files",
            hint="read it with pyarrow.dataset or DuckDB (hive_partitioning) and commit the result",
        )


def _kind_of(path: Path) -> Kind:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in (".gz", ".zst")
    kind = SUFFIXES.get(suffixes[-2] if packed and len(suffixes) > 1 else suffixes[-1] if suffixes else "")
    if kind is not None and (not packed or kind in ("csv", "json")):
        return kind
    start = _start_of(path)
    if start.startswith((b"PAR1", b"PARE")):
        return "parquet"
    if start.startswith((_FILE_MAGIC, _STREAM_MAGIC)):
        return "arrow"
    raise UnreadableInput(f"{path} is of an unknown kind", hint="known suffixes are " + ", ".join(SUFFIXES))


def _start_of(path: Path, size: int = 8) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise UnreadableInput(f"{path} cannot be read: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    """What the system says, in a few words."""
    return (error.strerror or str(error)).lower()


def _open_binary(
    text: str, files: list[Path], kind: Kind, columns: Sequence[str] | None, stamps: dict[Path, _Stamp]
) -> Source:
    inputs: list[tuple[Path, Input]] = [(file, _binary(file, kind, columns)) for file in files]
    schemas = [opened.schema for _, opened in inputs]
    for (file, _), schema in zip(inputs, schemas, strict=True):
        difference = _difference(schemas[0], schema)
        if difference:
            raise UnreadableInput(f"{file} has another schema than {files[0]}: {difference}")
    counts = [opened.num_rows for _, opened in inputs]
    schema, notes = _common_metadata(schemas)

    def read() -> Iterator[pa.RecordBatch]:
        for file, opened in inputs:
            stamps[file].check(file)
            for batch in opened.read():
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
            stamps[file].check(file)

    rows = None if None in counts else sum(count for count in counts if count is not None)
    return Source(schema, read, rows, text, repeatable=True, notes=notes, from_file=True)


def _binary(path: Path, kind: Kind, columns: Sequence[str] | None) -> Input:
    if kind == "parquet":
        from fsvc.sources.parquet import ParquetInput

        return ParquetInput(path, columns)
    from fsvc.sources.ipc import IpcInput

    start = _start_of(path)
    if start.startswith(b"FEA1"):
        raise UnreadableInput(
            f"{path} is of version 1 of Feather, which is no longer read",
            hint="write it again with pyarrow.feather.write_feather",
        )
    return IpcInput(path, columns, stream=not start.startswith(_FILE_MAGIC))


def _difference(first: pa.Schema, other: pa.Schema) -> str | None:
    """The first difference between two schemas, metadata aside, in words."""
    for name in first.names:
        if name not in other.names:
            return f"it has no column {name!r}"
    for name in other.names:
        if name not in first.names:
            return f"it has a column {name!r} more"
    if first.names != other.names:
        return "its columns are in another order"
    for one, two in zip(first, other, strict=True):
        if one.type != two.type:
            return f"its column {one.name!r} is {two.type} and not {one.type}"
        if one.nullable != two.nullable:
            return f"its column {one.name!r} {'may' if two.nullable else 'may not'} be null"
    return None


def _common_metadata(schemas: list[pa.Schema]) -> tuple[pa.Schema, list[str]]:
    """The first schema with the metadata that all agree on, and a note on what was left out.

    Metadata of one part, such as the row numbers of its pandas index, would be wrong for the whole.
    """
    first = dict(schemas[0].metadata or {})
    kept = {
        key: value
        for key, value in first.items()
        if all((schema.metadata or {}).get(key) == value for schema in schemas)
    }
    every = {key for schema in schemas for key in schema.metadata or {}}
    left = sorted(key.decode("utf-8", "replace") for key in every - kept.keys())
    notes = [f"metadata {name!r} differs between the files and was left out" for name in left]
    # An empty dict would leave metadata that is empty but there.
    return schemas[0].with_metadata(kept) if kept else schemas[0].remove_metadata(), notes


def _open_text(
    text: str, files: list[Path], kind: Kind, columns: Sequence[str] | None, stamps: dict[Path, _Stamp]
) -> Source:
    from fsvc.query.jsonfiles import JsonFiles
    from fsvc.query.textfiles import CsvFiles, TextFiles

    opened: TextFiles
    if kind == "csv":
        tabs = any(suffix.lower() == ".tsv" for suffix in files[0].suffixes)
        opened = CsvFiles(files, delimiter="\t" if tabs else None)
    else:
        opened = JsonFiles(files)
    try:
        positions = select_fields(opened.schema.names, columns, text)
    except BaseException:
        opened.close()
        raise
    schema = pa.schema([opened.schema.field(position) for position in positions])

    def read() -> Iterator[pa.RecordBatch]:
        for file, stamp in stamps.items():
            stamp.check(file)
        for batch in opened.read():
            yield pa.RecordBatch.from_arrays(
                [batch.column(position) for position in positions], schema=schema
            )
        for file, stamp in stamps.items():
            stamp.check(file)

    notes = [opened.notes[position] for position in positions]
    return Source(
        schema,
        read,
        opened.num_rows,
        text,
        repeatable=True,
        notes=notes,
        from_file=True,
        release=opened.close,
    )
