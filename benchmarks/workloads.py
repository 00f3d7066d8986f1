"""The workloads: each measures one thing that fsvc does beside what plain Parquet does instead."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import fsvc
from benchmarks import edits, tables
from benchmarks.bench import (
    NAME,
    PLAIN_BYTES,
    PLAIN_JOIN,
    PLAIN_READ,
    PLAIN_WRITE,
    Bench,
    Options,
    WrongResult,
    prove,
    tree_bytes,
    warm_up,
    write_plain,
)
from benchmarks.figures import Assurance, Figure, Pairs, Unit, flushed, interleave, timed
from benchmarks.history import long_history, simulated_index
from benchmarks.joins import point_in_time

__all__ = ["LARGE_ROWS", "WORKLOADS", "Bench", "Options", "Workload", "WrongResult", "warm_up"]

LARGE_ROWS = 10_000_000
"""How many rows a large table has."""


# -- time ----------------------------------------------------------------------------------------


def _first_commit(bench: Bench) -> Pairs:
    path = bench.directory / "first"

    def ours(_: int) -> float:
        if path.exists():
            rmtree(path)
        repository = fsvc.init(path)
        return timed(lambda: repository.commit({NAME: bench.table}, key=tables.KEY, message="first"))

    found = interleave(bench.options.runs, bench.time_plain_write, ours)
    prove(path, bench.table)
    rmtree(path)
    return found


def _unchanged(bench: Bench) -> Pairs:
    location = bench.committed

    def commit() -> None:
        if fsvc.open(location).commit({NAME: bench.table}, message="again").created:
            raise WrongResult("committing unchanged data made a commit")

    return interleave(bench.options.runs, bench.time_plain_write, lambda _: timed(commit))


def _commit_edited(bench: Bench, what: str, edit: Callable[[int], pa.Table]) -> Pairs:
    """Commits of edited tables, each with data of its own, on a branch of its own off the first commit."""
    location = bench.committed
    repository = fsvc.open(location)

    def ours(run: int) -> float:
        table = edit(run + 1)
        branch = f"{what}-{run}"
        repository.branch(branch, "main")

        def commit() -> None:
            fsvc.open(location, branch=branch).commit({NAME: table}, message=what)

        return timed(commit)

    found = interleave(bench.options.runs, bench.time_plain_write, ours)
    last = bench.options.runs
    prove(location, edit(last), f"{what}-{last - 1}")
    return found


def _add_column(bench: Bench) -> Pairs:
    return _commit_edited(bench, "added", bench.with_column_added)


def _recompute_column(bench: Bench) -> Pairs:
    return _commit_edited(bench, "recomputed", bench.with_column_recomputed)


def _commit(edit: Callable[[Bench, int], pa.Table]) -> Callable[[Bench], Pairs]:
    """The time of commits of an edited table."""
    return lambda bench: _commit_edited(bench, edit.__name__, lambda run: edit(bench, run))


def _appended(bench: Bench, run: int) -> pa.Table:
    # Other rows each time: one less.
    rows = tables.make_table(max(1, bench.appended_rows - run), bench.rows, columns=bench.options.columns)
    return pa.concat_tables([bench.table, rows])


def _updated(bench: Bench, run: int) -> pa.Table:
    return tables.edited(bench.table, _chosen(bench.rows, 0.05, run), run)


def _region(bench: Bench, run: int) -> pa.Table:
    return edits.with_region(bench.table, run)


def _deleted(bench: Bench, run: int) -> pa.Table:
    return edits.with_deleted(bench.table, 0.01, run)


def _inserted(bench: Bench, run: int) -> pa.Table:
    return edits.with_inserted(bench.table, 0.001, run)


def _shuffled(bench: Bench, run: int) -> pa.Table:
    return edits.shuffled(bench.table, run)


def _without_column(bench: Bench, run: int) -> pa.Table:
    names = [name for name in bench.table.column_names if name != tables.KEY]
    return bench.table.drop_columns([names[run % len(names)]])


def _day(bench: Bench) -> Pairs:
    return Pairs(bench.month.plain, bench.month.ours)


def _restore_day(bench: Bench) -> Pairs:
    month = bench.month

    def ours() -> pa.Table:
        return fsvc.open(month.location).snapshot(month.address).to_arrow()

    if not ours().equals(month.table):
        raise WrongResult(f"{month.address} is not what was committed")
    return interleave(bench.options.runs, lambda: bench.time_plain_read(month.file), lambda _: timed(ours))


def _checkout_day(bench: Bench) -> Pairs:
    month = bench.month
    path = bench.directory / "checkout.parquet"

    def ours(_: int) -> float:
        path.unlink(missing_ok=True)
        rmtree(Path(month.location) / ".cache", ignore_errors=True)
        seconds = timed(lambda: fsvc.open(month.location).snapshot(month.address).write_parquet(path))
        flushed(path)
        return seconds

    found = interleave(bench.options.runs, lambda: bench.time_plain_write(month.table), ours)
    if fsvc.identify(path, key=tables.KEY).id != fsvc.open(month.location).snapshot(month.address).id:
        raise WrongResult("the checked-out file does not hold the table")
    path.unlink()
    return found


# -- queries -------------------------------------------------------------------------------------

_COUNT = "select count(*), round(sum(balance), 2) from {table} where spend_30d > 100"
_GROUPS = "select country, round(avg(balance), 4), max(points) from {table} group by 1 order by 1"


def _keys(bench: Bench) -> str:
    """A query for a hundred rows by key."""
    keys = bench.table[tables.KEY].to_numpy()[:: max(1, bench.rows // 100)]
    return f"select * from {{table}} where {tables.KEY} in ({', '.join(map(str, keys))}) order by 1"


def _day_query(query: str | Callable[[Bench], str], *, again: bool) -> Callable[[Bench], Pairs]:
    """A query of DuckDB over the day in the middle of the month beside the same over a Parquet file of that day.

    The repository is open, as the connection is. ``again`` finds in the cache what an earlier query thawed.
    """

    def measure(bench: Bench) -> Pairs:
        text = query if isinstance(query, str) else query(bench)
        location, address = bench.month.location, bench.month.address
        plain_text = text.format(table=f"read_parquet('{bench.month.file}')")
        with duckdb.connect() as connection:
            wanted = connection.sql(plain_text).fetchall()

            repository = fsvc.open(location)

            def ours() -> None:
                if repository.sql(text.format(table=address)).fetchall() != wanted:
                    raise WrongResult(f"{address} answers otherwise than the Parquet file")

            def time_ours(_: int) -> float:
                if not again:
                    rmtree(Path(location) / ".cache", ignore_errors=True)
                return timed(ours)

            ours()
            return interleave(
                bench.options.runs, lambda: timed(lambda: connection.sql(plain_text).fetchall()), time_ours
            )

    return measure


def _restore(bench: Bench) -> Pairs:
    location = bench.committed
    prove(location, bench.table)
    return interleave(
        bench.options.runs,
        bench.time_plain_read,
        lambda _: timed(lambda: fsvc.open(location).snapshot(f"{NAME}@main").to_arrow()),
    )


def _checkout(bench: Bench) -> Pairs:
    location = bench.committed
    path = bench.directory / "checkout.parquet"

    def ours(_: int) -> float:
        path.unlink(missing_ok=True)
        seconds = timed(lambda: fsvc.open(location).snapshot(f"{NAME}@main").write_parquet(path))
        flushed(path)
        return seconds

    found = interleave(bench.options.runs, bench.time_plain_write, ours)
    if fsvc.identify(path, key=tables.KEY).id != fsvc.open(location).snapshot(f"{NAME}@main").id:
        raise WrongResult("the checked-out file does not hold the table")
    path.unlink()
    return found


# -- bytes: they are the same in every run, so one is enough -------------------------------------


def _stored_bytes(bench: Bench) -> Pairs:
    path = bench.new_repository(bench.table, "stored")
    prove(path, bench.table)
    stored = tree_bytes(path)
    rmtree(path)
    return Pairs((bench.plain_file.stat().st_size,), (stored,))


def _new_bytes(bench: Bench, before: pa.Table, after: pa.Table, own: pa.Table | None) -> Pairs:
    """What a second commit adds to a repository, files of every kind; ``own`` is what is new in it."""
    path = bench.new_repository(before, "grown")
    was = tree_bytes(path)
    fsvc.open(path).commit({NAME: after}, message="second")
    added = tree_bytes(path) - was
    prove(path, after)
    rmtree(path)
    if own is None:
        return Pairs((bench.plain_file.stat().st_size,), (added,))
    alone = bench.directory / "own.parquet"
    write_plain(own, alone)
    size = alone.stat().st_size
    alone.unlink()
    return Pairs((size,), (added,))


def _bytes_added(bench: Bench) -> Pairs:
    after = bench.with_column_added(1)
    return _new_bytes(bench, bench.table, after, after.select([tables.ADDED]))


def _bytes_recomputed(bench: Bench) -> Pairs:
    after = bench.with_column_recomputed(1)
    return _new_bytes(bench, bench.table, after, after.select([tables.RECOMPUTED]))


def _bytes_dropped(bench: Bench) -> Pairs:
    return _new_bytes(bench, bench.table, bench.table.drop_columns([tables.RECOMPUTED]), None)


def _bytes(edit: Callable[[Bench, int], pa.Table]) -> Callable[[Bench], Pairs]:
    """What the commit of an edited table adds."""
    return lambda bench: _new_bytes(bench, bench.table, edit(bench, 1), None)


def _bytes_month(bench: Bench) -> Pairs:
    return Pairs((bench.plain_file.stat().st_size,), (bench.month.added,))


def _bytes_appended(bench: Bench) -> Pairs:
    rows = tables.make_table(bench.appended_rows, bench.rows, columns=bench.options.columns)
    after = pa.concat_tables([bench.table, rows])
    return _new_bytes(bench, bench.table, after, rows)


# -- comparing and merging -----------------------------------------------------------------------


def _chosen(rows: int, share: float, seed: int) -> list[Any]:
    """For each of the columns that are edited a share of all rows, at random."""
    random = np.random.default_rng(seed)
    return [random.choice(rows, max(1, int(rows * share)), replace=False) for _ in tables.EDITED]


def _two_versions(bench: Bench, name: str, rows: Sequence[Any]) -> tuple[str, Path]:
    """A repository with the table and an edited one as versions 1 and 2, and the edited one as a file."""
    edited = tables.edited(bench.table, rows)
    repository = bench.new_repository(bench.table, name)
    fsvc.open(repository).commit({NAME: edited}, message="edited")
    other = bench.directory / f"{name}.parquet"
    write_plain(edited, other)
    flushed(other)
    return str(repository), other


def _join(bench: Bench, other: Path, select: str, condition: str = "true") -> str:
    return (
        f"select {select} from read_parquet('{bench.plain_file}') a"
        f" full outer join read_parquet('{other}') b using ({tables.KEY}) where {condition}"
    )


def _diff(bench: Bench, name: str, rows: Sequence[Any], *, listed: bool) -> Pairs:
    """A diff by fsvc beside a full outer join of two plain files that tells the same."""
    location, other = _two_versions(bench, name, rows)
    names = [column for column in bench.table.column_names if column != tables.KEY]
    unlike = [f'a."{column}" is distinct from b."{column}"' for column in names]
    if listed:
        query = _join(bench, other, "*", " or ".join(unlike))
    else:
        query = _join(bench, other, ", ".join(f"count(*) filter ({condition})" for condition in unlike))
    changed = len(np.unique(np.concatenate(rows)))
    connection = duckdb.connect()

    def plain() -> None:
        found = connection.sql(query).to_arrow_table()
        if listed and found.num_rows != changed:
            raise WrongResult(f"the join found {found.num_rows} changed rows, not {changed}")

    def ours() -> None:
        diff = fsvc.open(location).diff(f"{NAME}@v1", f"{NAME}@v2")
        count = diff.rows().num_rows if listed else diff.stat().changed
        if count != changed:
            raise WrongResult(f"the diff found {count} changed rows, not {changed}")

    found = interleave(bench.options.runs, lambda: timed(plain), lambda _: timed(ours))
    connection.close()
    other.unlink()
    rmtree(location)
    return found


def _drift(bench: Bench) -> Pairs:
    """The drift of all columns to as many other rows of the same kind, beside a read of both plain files."""
    repository = bench.new_repository(bench.table, "drift")
    other = bench.directory / "other.parquet"
    later = tables.make_table(bench.rows, bench.rows, columns=bench.options.columns)
    fsvc.open(repository).commit({NAME: later}, message="later")
    write_plain(later, other)
    flushed(other)
    del later

    def plain() -> None:
        for path in (bench.plain_file, other):
            for name in bench.table.column_names:  # a column at a time, as memory allows
                pq.read_table(path, columns=[name])

    def ours() -> None:
        report = fsvc.open(repository).drift(f"{NAME}@v1", f"{NAME}@v2")
        if report.drifted or len(report.columns) != len(bench.table.column_names) - 1:
            raise WrongResult("rows of the same kind are said to have drifted")
        if any(sum(column.bins.after) != bench.rows for column in report.columns if column.bins is not None):
            raise WrongResult("the bins do not hold all rows")

    found = interleave(bench.options.runs, lambda: timed(plain), lambda _: timed(ours))
    other.unlink()
    rmtree(repository)
    return found


def _scattered(bench: Bench) -> list[Any]:
    return _chosen(bench.rows, 0.05, 1)


def _contiguous(bench: Bench) -> list[Any]:
    first = bench.rows // 2
    return [np.arange(first, min(first + 1000, bench.rows))] * len(tables.EDITED)


def _blame(bench: Bench) -> Pairs:
    """The history of one row over 30 versions, in each of which 1% of the rows changed."""
    path = bench.new_repository(bench.table, "blamed")
    repository = fsvc.open(path)
    table = bench.table
    row = bench.rows // 3
    for number in range(29):
        rows = [np.append(chosen, row) for chosen in _chosen(bench.rows, 0.01, number + 10)]
        table = tables.edited(table, rows, number + 1)
        repository.commit({NAME: table}, message=f"{number}")
    key = table[tables.KEY][row].as_py()

    def ours() -> None:
        found = len(fsvc.open(path).blame(NAME, key).versions())
        if found != 30:
            raise WrongResult(f"the row has {found} versions, not 30")

    found = interleave(bench.options.runs, bench.time_plain_read, lambda _: timed(ours))
    rmtree(path)
    return found


_QUERIES = {
    "filter": "select count(*) from {a} where balance > 300 and country = 'DE'",
    "group": "select segment, channel, count(*), avg(balance), sum(visits_30d) from {a} group by all",
    "keys": f"select * from {{a}} where {tables.KEY} in ({{keys}})",
    "near-keys": f"select * from {{a}} where {tables.KEY} in ({{near}})",
    "join": f"select count(*), sum(b.visits_30d - a.visits_30d) from {{a}} a join {{b}} b using ({tables.KEY})",
}
"""Queries over a version ``a``, and another one ``b``; ``keys`` are 100 anywhere, ``near`` 100 in a row."""


def _sql(bench: Bench, name: str) -> Pairs:
    """A query over a snapshot beside the same over a plain file of it; both are open already."""
    location, other = _two_versions(bench, "asked", _chosen(bench.rows, 0.02, 4))
    keys = bench.table[tables.KEY].to_numpy()
    chosen = np.sort(np.random.default_rng(5).choice(keys, min(100, len(keys)), replace=False))
    near = keys[bench.rows // 3 :][:100]
    plain, asked = (
        _QUERIES[name].format(a=a, b=b, keys=", ".join(map(str, chosen)), near=", ".join(map(str, near)))
        for a, b in (
            (f"read_parquet('{bench.plain_file}')", f"read_parquet('{other}')"),
            (f"{NAME}@v1", f"{NAME}@v2"),
        )
    )
    connection = duckdb.connect()
    repository = fsvc.open(location)
    answers = [
        sorted(connection.sql(plain).fetchall(), key=repr),
        sorted(repository.sql(asked).fetchall(), key=repr),
    ]
    if not _alike(*answers):
        raise WrongResult("the query over the snapshot and the one over the file have different answers")
    found = interleave(
        bench.options.runs,
        lambda: timed(lambda: connection.sql(plain).to_arrow_table()),
        lambda _: timed(lambda: repository.sql(asked).to_arrow_table()),
    )
    connection.close()
    other.unlink()
    rmtree(location)
    return found


def _alike(one: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]]) -> bool:
    """Whether answers are the same, but for the order in which floats were added up."""
    return len(one) == len(other) and all(
        a == b or (isinstance(a, float) and isinstance(b, float) and bool(np.isclose(a, b, rtol=1e-9)))
        for row, its in zip(one, other, strict=True)
        for a, b in zip(row, its, strict=True)
    )


def _merge(bench: Bench) -> Pairs:
    """Two branches that changed 1% of the rows each, other ones, are merged by key."""
    path = bench.new_repository(bench.table, "merged")
    repository = fsvc.open(path)
    rows = _chosen(bench.rows, 0.02, 3)
    halves = [[chosen[i::2] for chosen in rows] for i in range(2)]
    for run in range(bench.options.runs):
        for side, half in zip(("ours", "theirs"), halves, strict=True):
            repository.branch(f"{side}-{run}", "main")
            data = tables.edited(bench.table, half, run + 1)
            repository.commit({NAME: data}, branch=f"{side}-{run}", message=side)

    def ours(run: int) -> float:
        return timed(lambda: fsvc.open(path, branch=f"ours-{run}").merge(f"theirs-{run}"))

    found = interleave(bench.options.runs, bench.time_plain_write, ours)
    last = bench.options.runs - 1
    prove(path, tables.edited(bench.table, rows, last + 1), f"ours-{last}")
    rmtree(path)
    return found


# -- memory --------------------------------------------------------------------------------------

# The greatest resident size of a process since it began. What getrusage says counts the parent's
# memory too, which the child shared until it ran a program of its own; so Linux is asked directly.
_PEAK = """
def peak():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource, sys
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
"""

_COMMIT_SOURCE = (
    _PEAK
    + """
import sys
import fsvc
location, source, key, name = sys.argv[1:]
fsvc.init(location).commit({name: source}, key=key, message="first")
print(peak())
"""
)

_COPY_SOURCE = (
    _PEAK
    + """
import sys
import pyarrow.parquet as pq
source, target = sys.argv[1:]
with pq.ParquetFile(source) as file:
    with pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer:
        for group in range(file.num_row_groups):
            writer.write_table(file.read_row_group(group))
print(peak())
"""
)


def _python(code: str, *arguments: str) -> str:
    """Run a program in a process of its own and give what it printed last."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, os.environ.get("PYTHONPATH", "")]
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )
    if found.returncode:
        raise WrongResult(f"a process of the benchmark failed: {found.stderr.strip()[-2000:]}")
    return found.stdout.strip().splitlines()[-1]


def _peak_memory(bench: Bench) -> Pairs:
    source = bench.directory / "source.parquet"
    rows = tables.write_source(source, bench.options.source_bytes)
    copy = bench.directory / "copy.parquet"
    location = bench.directory / "large"
    try:
        plain = int(_python(_COPY_SOURCE, str(source), str(copy)))
        copy.unlink()
        ours = int(_python(_COMMIT_SOURCE, str(location), str(source), tables.KEY, NAME))
        _prove_stream(location, source, rows)
    finally:
        for path in (source, copy):
            path.unlink(missing_ok=True)
        if location.exists():
            rmtree(location)
    return Pairs((plain,), (ours,))


def _prove_stream(location: Path, source: Path, rows: int) -> None:
    """Restore batch by batch, which proves every digest, and compare with the file it came from."""
    snapshot = fsvc.open(location).snapshot(NAME)
    if snapshot.num_rows != rows:
        raise WrongResult(f"{rows} rows were committed, and {snapshot.num_rows} are there")
    schema = snapshot.schema
    expected = schema.empty_table()
    with pq.ParquetFile(source) as file:
        groups = iter(range(file.num_row_groups))
        for batch in snapshot.to_batches():
            while expected.num_rows < batch.num_rows:
                expected = pa.concat_tables([expected, file.read_row_group(next(groups)).cast(schema)])
            if not expected.slice(0, batch.num_rows).equals(pa.Table.from_batches([batch])):
                raise WrongResult("what is given back differs from the file that was committed")
            expected = expected.slice(batch.num_rows)


# -- start-up ------------------------------------------------------------------------------------


def _command() -> list[str]:
    """The fsvc command of this Python: the script that its installation made, else the same without it."""
    script = Path(sys.executable).with_name("fsvc")
    if script.is_file():
        return [str(script)]
    return [sys.executable, "-c", "import sys; from fsvc.cli import main; sys.exit(main())"]


def _time_process(command: list[str], directory: Path) -> float:
    def run() -> None:
        done = subprocess.run(command, check=False, cwd=directory, capture_output=True)
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip()[-2000:]
            raise WrongResult(f"{' '.join(command[-3:])} failed: {words}")

    return timed(run)


def _startup(bench: Bench, arguments: list[str]) -> Pairs:
    plain, ours = [sys.executable, "-c", "pass"], [*_command(), *arguments]
    # The first start reads files that later ones find in memory, and compiles.
    for command in (plain, ours):
        _time_process(command, bench.directory)
    return interleave(
        bench.options.runs,
        lambda: _time_process(plain, bench.directory),
        lambda _: _time_process(ours, bench.directory),
    )


def _help(bench: Bench) -> Pairs:
    return _startup(bench, ["--help"])


def _log(bench: Bench) -> Pairs:
    path = bench.directory / "history"
    repository = fsvc.init(path)
    for number in range(bench.options.commits):
        table = pa.table({"id": range(20), "value": [number * 20 + row for row in range(20)]})
        repository.commit({"features": table}, key="id", message=f"change {number}")
    found = _startup(bench, ["--repo", str(path), "log"])
    rmtree(path)
    return found


def _repack(bench: Bench) -> Pairs:
    def ours(run: int) -> float:
        repository = _daily(bench, f"repack-{run}")
        seconds = timed(lambda: repository.repack(grace=0))
        if len(list(Path(repository.location).glob("packs/*"))) > 1 + bench.rows // 500_000:
            raise WrongResult("the packs were not put together")
        prove(repository.location, _on_day(bench, _REPACKED_DAYS))
        rmtree(repository.location)
        return seconds

    return interleave(bench.options.runs, bench.time_plain_write, ours)


def _bytes_repacked(bench: Bench) -> Pairs:
    repository = _daily(bench, "repacked")
    before = tree_bytes(Path(repository.location))
    repository.repack(grace=0)
    after = tree_bytes(Path(repository.location))
    prove(repository.location, _on_day(bench, _REPACKED_DAYS))
    rmtree(repository.location)
    return Pairs((float(before),), (float(after),))


_REPACKED_DAYS = 10


def _on_day(bench: Bench, day: int) -> pa.Table:
    """The table after so many days, on each of which a column was computed anew for 2% of the rows."""
    at = bench.table.schema.get_field_index(tables.RECOMPUTED)
    values = bench.table.column(at)
    for number in range(1, day + 1):
        chosen = pa.array(np.random.default_rng(number).random(bench.rows) < 0.02)
        values = pc.if_else(chosen, tables.recomputed_column(bench.rows, number), values)
    return bench.table.set_column(at, bench.table.schema.field(at), values)


def _daily(bench: Bench, name: str) -> fsvc.Repository:
    """A repository of a table and a few days of changes, each day a commit with a pack of its own."""
    path = bench.new_repository(_on_day(bench, 0), name)
    repository = fsvc.open(path)
    for day in range(1, _REPACKED_DAYS + 1):
        repository.commit({NAME: _on_day(bench, day)}, message=f"day {day}")
    return repository


def _long_history(bench: Bench) -> Path:
    path = bench.directory / "long"
    long_history(path, bench.options.history)
    return path


def _open_history(bench: Bench) -> Pairs:
    path = _long_history(bench)
    log = path / "refs" / "heads" / "main"
    half = bench.options.history // 2

    def resolve() -> None:
        repository = fsvc.open(path)
        if repository.resolve("main").versions != {NAME: bench.options.history}:
            raise WrongResult("the branch is not where it should be")

    def version() -> None:
        if fsvc.open(path).resolve(f"v{half}", feature_set=NAME).versions != {NAME: half}:
            raise WrongResult("a version is not what it should be")

    resolve()
    version()
    found = interleave(
        bench.options.runs,
        lambda: timed(lambda: os.listdir(log)),
        lambda _: max(timed(resolve), timed(version)),
    )
    rmtree(path)
    return found


def _open_index(bench: Bench) -> Pairs:
    path = _long_history(bench)
    files = list(path.glob("index/*"))

    def load() -> None:
        if sum(map(len, fsvc.open(path).store.objects.tables())) < bench.options.history:
            raise WrongResult("the index does not name all objects")

    load()
    found = interleave(
        bench.options.runs,
        lambda: timed(lambda: [file.read_bytes() for file in files]),
        lambda _: timed(load),
    )
    rmtree(path)
    return found


def _log_history(bench: Bench) -> Pairs:
    path = _long_history(bench)
    found = _startup(bench, ["--repo", str(path), "log"])
    rmtree(path)
    return found


def _lookup(bench: Bench) -> Pairs:
    objects = simulated_index(bench.options.chunks)
    (table,) = objects.tables()
    count = min(100_000, bench.options.chunks)
    random = np.random.default_rng(11)
    known = random.choice(len(table), count // 2, replace=False)
    words = np.column_stack([table.high[known], table.low[known]]).astype(">u8").tobytes()
    asked = np.frombuffer(words + random.bytes(16 * (count - len(known))), "V16")
    addresses = asked[random.permutation(count)].tobytes()
    high = np.frombuffer(addresses, ">u8").reshape(-1, 2)[:, 0].astype(np.uint64)

    def ours() -> None:
        found = objects.lookup(addresses)
        if found.found != len(known):
            raise WrongResult(f"{found.found} of {len(known)} chunks were found")

    return interleave(
        bench.options.runs, lambda: timed(lambda: np.searchsorted(table.high, high)), lambda _: timed(ours)
    )


# -- all of them ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workload:
    """One workload: what it is called, what it measures, and how good it is meant to be.

    ``aim`` bounds the ratio to the baseline from above; or, where ``aim_unit`` is seconds or bytes,
    the measured value itself; ``large_aim`` does so from LARGE_ROWS rows on, where it is another one.
    ``sized`` says whether it is measured on the table (again for every number of rows) or only once.
    """

    name: str
    title: str
    unit: Unit
    against: str
    aim: float
    measure: Callable[[Bench], Pairs]
    assurance: Assurance = ""
    aim_unit: Literal["", "s", "B"] = ""
    sized: bool = True
    large_aim: float | None = None

    def run(self, bench: Bench) -> Figure:
        """Measure. Raises WrongResult where what comes out is not right."""
        title = self.title.format(
            commits=f"{bench.options.commits:,}",
            history=f"{bench.options.history:,}",
            chunks=f"{bench.options.chunks:,}",
            source=f"{bench.options.source_bytes / 1e9:g} GB",
            days=bench.options.days,
        )
        return Figure.of(
            self.measure(bench),
            workload=self.name,
            title=title,
            rows=bench.rows if self.sized else None,
            columns=bench.options.columns,
            unit=self.unit,
            against=self.against,
            aim=self.aim if self.large_aim is None or bench.rows < LARGE_ROWS else self.large_aim,
            aim_unit=self.aim_unit,
            assurance=self.assurance,
        )


_DAY_QUERIES: tuple[tuple[str, str, str | Callable[[Bench], str]], ...] = (
    ("count", "count with a filter", _COUNT),
    ("groups", "group by", _GROUPS),
    ("keys", "100 rows by key", _keys),
)
_PLAIN_QUERY = "the same over the Parquet file"


def _day_queries() -> list[Workload]:
    """Each query over a version of the month, at the first touch and again."""
    return [
        Workload(
            f"query-{name}-day{'-again' if again else ''}",
            f"SQL, {title}, middle of the {{days}} days, {word}",
            "s",
            _PLAIN_QUERY,
            bound,
            _day_query(query, again=again),
            "checked",
        )
        for name, title, query in _DAY_QUERIES
        for again, word, bound in ((False, "first touch", 2.5), (True, "again", 1.1))
    ]


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("first-commit", "first commit", "s", PLAIN_WRITE, 0.85, _first_commit, "proven"),
        Workload("unchanged", "commit of unchanged data", "s", PLAIN_WRITE, 0.1, _unchanged, "proven"),
        Workload("add-column", "commit, one column added", "s", PLAIN_WRITE, 0.18, _add_column, "proven"),
        Workload(
            "recompute-column",
            "commit, one column recomputed",
            "s",
            PLAIN_WRITE,
            0.18,
            _recompute_column,
            "proven",
        ),
        Workload(
            "append", "commit, 1% of rows appended", "s", PLAIN_WRITE, 0.15, _commit(_appended), "proven"
        ),
        Workload(
            "update",
            "commit, 5% random updates in 3 columns",
            "s",
            PLAIN_WRITE,
            0.2,
            _commit(_updated),
            "proven",
        ),
        Workload(
            "update-region",
            "commit, a contiguous 1% updated in all columns",
            "s",
            PLAIN_WRITE,
            0.2,
            _commit(_region),
            "proven",
        ),
        Workload("delete", "commit, 1% of rows deleted", "s", PLAIN_WRITE, 1.0, _commit(_deleted), "proven"),
        Workload(
            "insert", "commit, 0.1% of rows inserted", "s", PLAIN_WRITE, 1.0, _commit(_inserted), "proven"
        ),
        Workload("shuffle", "commit, all rows shuffled", "s", PLAIN_WRITE, 1.5, _commit(_shuffled), "proven"),
        Workload(
            "drop-column",
            "commit, one column dropped",
            "s",
            PLAIN_WRITE,
            0.12,
            _commit(_without_column),
            "proven",
        ),
        Workload("day", "commit, one of {days} days", "s", PLAIN_WRITE, 0.2, _day, "proven"),
        Workload("restore", "restore to Arrow", "s", PLAIN_READ, 1.2, _restore, "proven"),
        Workload(
            "restore-day",
            "restore to Arrow, middle of the {days} days",
            "s",
            PLAIN_READ,
            1.6,
            _restore_day,
            "proven",
        ),
        Workload("checkout", "checkout to Parquet", "s", PLAIN_WRITE, 0.12, _checkout, "checked"),
        Workload(
            "checkout-day",
            "checkout to Parquet, middle of the {days} days",
            "s",
            PLAIN_WRITE,
            0.5,
            _checkout_day,
            "checked",
        ),
        *_day_queries(),
        Workload(
            "stored-bytes", "stored by the first commit", "B", PLAIN_BYTES, 1.03, _stored_bytes, "proven"
        ),
        Workload(
            "bytes-added",
            "new bytes, one column added",
            "B",
            "that column as a Parquet file",
            1.0,
            _bytes_added,
            "proven",
        ),
        Workload(
            "bytes-recomputed",
            "new bytes, one column recomputed",
            "B",
            "that column as a Parquet file",
            1.0,
            _bytes_recomputed,
            "proven",
        ),
        Workload(
            "bytes-dropped",
            "new bytes, one column dropped",
            "B",
            PLAIN_BYTES,
            0.01,
            _bytes_dropped,
            "proven",
        ),
        Workload(
            "bytes-appended",
            "new bytes, 1% of rows appended",
            "B",
            "those rows as a Parquet file",
            1.6,
            _bytes_appended,
            "proven",
        ),
        Workload(
            "bytes-updated",
            "new bytes, 5% random updates in 3 columns",
            "B",
            PLAIN_BYTES,
            0.01,
            _bytes(_updated),
            "proven",
        ),
        Workload(
            "bytes-region",
            "new bytes, a contiguous 1% updated in all columns",
            "B",
            PLAIN_BYTES,
            0.0166,
            _bytes(_region),
            "proven",
        ),
        Workload(
            "bytes-deleted",
            "new bytes, 1% of rows deleted",
            "B",
            PLAIN_BYTES,
            0.0025,
            _bytes(_deleted),
            "proven",
        ),
        Workload(
            "bytes-inserted",
            "new bytes, 0.1% of rows inserted",
            "B",
            PLAIN_BYTES,
            0.005,
            _bytes(_inserted),
            "proven",
        ),
        Workload(
            "bytes-shuffled",
            "new bytes, all rows shuffled",
            "B",
            PLAIN_BYTES,
            1.15,
            _bytes(_shuffled),
            "proven",
        ),
        Workload("bytes-month", "new bytes, {days} days", "B", PLAIN_BYTES, 0.4, _bytes_month, "proven"),
        Workload(
            "diff-stat",
            "diff in numbers, 5% random updates in 3 columns",
            "s",
            PLAIN_JOIN,
            0.25,
            lambda bench: _diff(bench, "scattered", _scattered(bench), listed=False),
            "proven",
        ),
        Workload(
            "diff-rows",
            "diff row by row, 5% random updates in 3 columns",
            "s",
            PLAIN_JOIN,
            0.5,
            lambda bench: _diff(bench, "scattered", _scattered(bench), listed=True),
            "proven",
        ),
        Workload(
            "diff-stat-region",
            "diff in numbers, 1,000 contiguous rows",
            "s",
            PLAIN_JOIN,
            0.05,
            lambda bench: _diff(bench, "region", _contiguous(bench), listed=False),
            "proven",
        ),
        Workload(
            "diff-rows-region",
            "diff row by row, 1,000 contiguous rows",
            "s",
            PLAIN_JOIN,
            0.05,
            lambda bench: _diff(bench, "region", _contiguous(bench), listed=True),
            "proven",
        ),
        Workload(
            "blame",
            "blame of one key over 30 versions",
            "s",
            PLAIN_READ,
            0.5,
            _blame,
            "proven",
            aim_unit="s",
        ),
        Workload(
            "drift",
            "drift of all columns, as many rows on each side",
            "s",
            "read of both Parquet files, column by column",
            2.0,
            _drift,
            "proven",
            aim_unit="s",
            large_aim=15.0,
        ),
        Workload(
            "point-in-time",
            "training set, a spine of a tenth of the rows",
            "s",
            "DuckDB's ASOF join of two Parquet files",
            1.2,
            point_in_time,
            "checked",
        ),
        *(
            Workload(
                f"sql-{name}", f"SQL, {title}", "s", _PLAIN_QUERY, aim, partial(_sql, name=name), "checked"
            )
            for name, title, aim in (
                ("filter", "count and filter", 1.0),
                ("group", "group by", 1.0),
                ("keys", "100 keys", 0.5),
                ("near-keys", "100 keys in a row", 0.5),
                ("join", "join of two versions", 1.15),
            )
        ),
        Workload("merge", "merge, 1% of rows changed on each side", "s", PLAIN_WRITE, 1.0, _merge, "proven"),
        Workload(
            "repack",
            "repack of a first commit and ten of 2% of a column",
            "s",
            PLAIN_WRITE,
            1.0,
            _repack,
            "checked",
        ),
        Workload(
            "bytes-repacked",
            "all bytes after that repack",
            "B",
            "all bytes before",
            1.0,
            _bytes_repacked,
            "checked",
        ),
        Workload(
            "peak-memory",
            "peak memory, commit of a {source} Parquet file",
            "B",
            "a copy of it, row group by row group",
            1.5e9,
            _peak_memory,
            "proven",
            aim_unit="B",
            sized=False,
        ),
        Workload("help", "fsvc --help", "s", "python -c pass", 0.2, _help, aim_unit="s", sized=False),
        Workload(
            "log", "fsvc log, {commits} commits", "s", "python -c pass", 0.3, _log, aim_unit="s", sized=False
        ),
        Workload(
            "log-history",
            "fsvc log, {history} commits",
            "s",
            "python -c pass",
            1.5,
            _log_history,
            aim_unit="s",
            sized=False,
        ),
        Workload(
            "open-history",
            "open and resolve a revision, {history} commits",
            "s",
            "a listing of the branch's log",
            0.05,
            _open_history,
            aim_unit="s",
            sized=False,
        ),
        Workload(
            "open-index",
            "open and read the index, {history} commits",
            "s",
            "reading the index files",
            0.05,
            _open_index,
            "checked",
            aim_unit="s",
            sized=False,
        ),
        Workload(
            "lookup",
            "look 100,000 addresses up in {chunks} chunks",
            "s",
            "numpy's searchsorted of the same numbers",
            0.05,
            _lookup,
            aim_unit="s",
            sized=False,
        ),
    )
}
"""Every workload by name, in the order of the report."""
