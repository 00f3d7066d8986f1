"""What workloads share: a table of one size, its plain Parquet file, and repositories that hold it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import rmtree

import pyarrow as pa
import pyarrow.parquet as pq

import fsvc
from benchmarks import edits, tables
from benchmarks.figures import flushed, timed

__all__ = [
    "NAME",
    "PLAIN_BYTES",
    "PLAIN_JOIN",
    "PLAIN_READ",
    "PLAIN_WRITE",
    "Bench",
    "Month",
    "Options",
    "WrongResult",
    "prove",
    "tree_bytes",
    "warm_up",
    "write_plain",
]

NAME = "customers"
PLAIN_WRITE = "write of the table as Parquet"
PLAIN_READ = "read of the Parquet file"
PLAIN_JOIN = "DuckDB's full outer join of two Parquet files"
PLAIN_BYTES = "the table as a Parquet file"


class WrongResult(Exception):
    """A workload did not give what it has to give, so that its figure would mean nothing."""


@dataclass(frozen=True)
class Options:
    """How to measure: runs per figure, columns of the table, days of the month, and so on.

    ``source_bytes`` are those of the source larger than memory's bound, ``commits`` the ones to list, ``history``
    those of a long history, ``chunks`` the stored ones of a large index.
    """

    runs: int = 5
    source_bytes: int = 1_000_000_000
    commits: int = 1_000
    days: int = 30
    columns: int = tables.COLUMNS
    history: int = 10_000
    chunks: int = 10_000_000


@dataclass(frozen=True)
class Month:
    """A repository with a version for each day, the first table before them, and what the days cost.

    ``added`` are the bytes of all days together, ``plain`` and ``ours`` the seconds of a plain write of that day's
    table and of its commit. ``middle`` is the number of the day in the middle, ``table`` its table and ``file``
    that table as a Parquet file.
    """

    location: str
    added: int
    plain: tuple[float, ...]
    ours: tuple[float, ...]
    middle: int
    table: pa.Table
    file: Path

    @property
    def address(self) -> str:
        """The feature set on the day in the middle; version 1 is the table before the first day."""
        return f"{NAME}@v{self.middle + 1}"


class Bench:
    """A table of one size, its plain Parquet file, and a repository it is committed to; made on demand.

    Everything lies below ``directory``, which has to be there and empty.
    """

    def __init__(self, directory: Path, rows: int, options: Options) -> None:
        self.directory = directory
        self.rows = rows
        self.options = options

    @cached_property
    def table(self) -> pa.Table:
        """The table in memory."""
        return tables.make_table(self.rows, columns=self.options.columns)

    @cached_property
    def plain_file(self) -> Path:
        """The table as a zstd Parquet file."""
        path = self.directory / "plain.parquet"
        write_plain(self.table, path)
        flushed(path)
        return path

    @cached_property
    def committed(self) -> str:
        """Where the repository is whose default branch holds the table."""
        path = self.directory / "committed"
        fsvc.init(path).commit({NAME: self.table}, key=tables.KEY, message="first")
        return str(path)

    @cached_property
    def month(self) -> Month:
        """Days on each of which 2% of the rows change in 5 columns and 0.3% are appended."""
        path = self.directory / "month"
        repository = fsvc.init(path)
        repository.commit({NAME: self.table}, key=tables.KEY, message="before")
        before, table = tree_bytes(path), self.table
        days, middle = self.options.days, (self.options.days + 1) // 2
        plain, ours = [], []
        for day in range(1, days + 1):
            table = edits.next_day(table, day)
            plain.append(self.time_plain_write(table))
            ours.append(timed(lambda: repository.commit({NAME: table}, message=f"day {day}")))  # noqa: B023
            if day == middle:
                kept = table
        file = self.directory / "day.parquet"
        write_plain(kept, file)
        flushed(file)
        prove(path, table)
        return Month(str(path), tree_bytes(path) - before, tuple(plain), tuple(ours), middle, kept, file)

    def new_repository(self, table: pa.Table, name: str) -> Path:
        """A repository of its own that holds a table."""
        path = self.directory / name
        if path.exists():
            rmtree(path)
        fsvc.init(path).commit({NAME: table}, key=tables.KEY, message="first")
        return path

    def time_plain_write(self, table: pa.Table | None = None) -> float:
        """Seconds of writing the table, or another, with pyarrow, as anybody would; nothing is synced in that time."""
        path = self.directory / "written.parquet"
        seconds = timed(lambda: write_plain(self.table if table is None else table, path))
        flushed(path)
        path.unlink()
        return seconds

    def time_plain_read(self, file: Path | None = None) -> float:
        """Seconds of reading the plain file, or another one, into memory with pyarrow."""
        path = self.plain_file if file is None else file
        return timed(lambda: pq.read_table(path))

    def with_column_added(self, variant: int) -> pa.Table:
        """The table with one column more."""
        return self.table.append_column(tables.ADDED, tables.added_column(self.rows, variant))

    def with_column_recomputed(self, variant: int) -> pa.Table:
        """The table with other values in one column."""
        at = self.table.schema.get_field_index(tables.RECOMPUTED)
        values = tables.recomputed_column(self.rows, variant)
        return self.table.set_column(at, self.table.schema.field(at), values)

    @property
    def appended_rows(self) -> int:
        """One per cent of the rows."""
        return max(1, self.rows // 100)


def write_plain(table: pa.Table, path: Path) -> None:
    """The baseline: pyarrow's writer, zstd, everything else as it comes."""
    pq.write_table(table, path, compression="zstd")


def tree_bytes(directory: Path) -> int:
    """The sizes of all files below a directory, summed; but for what may be deleted at any time."""
    return sum(
        path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file() and ".cache" not in path.relative_to(directory).parts
    )


def warm_up(directory: Path) -> None:
    """Do a little of everything once, so that no workload pays for imports and thread pools."""
    bench = Bench(directory, 20_000, Options(runs=1))
    bench.time_plain_write()
    bench.time_plain_read()
    fsvc.open(bench.committed).snapshot(NAME).to_arrow()
    fsvc.open(bench.committed).snapshot(NAME).write_parquet(directory / "warm.parquet")


def prove(location: str | Path, table: pa.Table, branch: str | None = None) -> None:
    """Restore what was committed, which proves every digest, and compare it with what was handed over."""
    if not fsvc.open(location, branch=branch).snapshot(NAME).to_arrow().equals(table):
        raise WrongResult(f"what {location} gives back is not what was committed")
