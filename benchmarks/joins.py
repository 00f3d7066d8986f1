"""Point-in-time joins: a training set beside the bare ASOF join of DuckDB over plain files."""

from __future__ import annotations

from shutil import rmtree
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fsvc
from benchmarks.figures import Pairs, flushed, interleave, timed

if TYPE_CHECKING:
    from benchmarks.bench import Bench

__all__ = ["point_in_time"]

_SEED = 20_260_101
_ROWS_OF_AN_ENTITY = 50
_SPAN = 365 * 86_400 * 10**6
_FEATURES = 4


def _table(rows: int, entities: int, time: str, values: int, seed: int) -> pa.Table:
    """Rows of random entities at random times of a year, with some columns of doubles."""
    random = np.random.default_rng((_SEED, seed))
    return pa.table(
        {
            "entity": random.integers(0, entities, rows),
            time: pa.array(random.integers(0, _SPAN, rows)).cast(pa.timestamp("us")),
            **{f"x{seed}_{number}": random.standard_normal(rows) for number in range(values)},
        }
    )


def point_in_time(bench: Bench) -> Pairs:
    """A spine with a tenth as many rows as the feature set that is looked up, to Arrow."""
    entities = max(1, bench.rows // _ROWS_OF_AN_ENTITY)
    features = _table(bench.rows, entities, "since", _FEATURES, 1)
    spine = _table(max(1, bench.rows // 10), entities, "at", 1, 2)
    directory = bench.directory / "joined"
    files = {}
    directory.mkdir()
    for name, table in (("features", features), ("spine", spine)):
        files[name] = directory / f"{name}.parquet"
        pq.write_table(table, files[name], compression="zstd", row_group_size=1 << 17)
        flushed(files[name])
    repository = fsvc.init(directory / "repository")
    # Two rows of one entity in one microsecond are possible, and too rare to matter: the key would refuse them.
    repository.commit(
        {"features": features, "spine": spine}, key={"features": ("entity", "since")}, message="first"
    )
    del features, spine
    wanted = repository.training_set("spine", [fsvc.Lookup("features", "entity", time="since")], time="at")
    columns = ", ".join(f"f.x1_{number}" for number in range(_FEATURES))
    query = (
        f"select s.*, {columns} from read_parquet('{files['spine']}') s"
        f" asof left join read_parquet('{files['features']}') f on s.entity = f.entity and s.at >= f.since"
    )

    def plain() -> pa.Table:
        with duckdb.connect() as connection:
            return connection.sql(query).to_arrow_table()

    expected = plain().num_rows
    found = interleave(bench.options.runs, lambda: timed(plain), lambda _: timed(wanted.to_arrow))
    if wanted.to_arrow().num_rows != expected:
        raise ValueError("the training set has not the rows of the spine")
    rmtree(directory)
    return found
