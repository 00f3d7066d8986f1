"""``fsvc demo``: the whole story on a small real run."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.context import Context, command
from fsvc.cli.demo_model import comparing_story, model_story
from fsvc.cli.exits import EXIT_INTERRUPTED
from fsvc.cli.output import Output, counted, human_size
from fsvc.errors import Conflict, FsvcError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["demo"]

_ROWS = 300_000
_SEED = 7
_MINE = (
    "FSVC_REPOSITORY",
    "FSVC_DATE",
    "FSVC_AUTHOR",
    "MLFLOW_TRACKING_URI",
    "XDG_STATE_HOME",
    "MLFLOW_EXPERIMENT_ID",
)
"""What in the environment would make the demo work on something of the user's, or look different."""


@command(
    "demo",
    needs_repository=False,
    examples="""
        fsvc demo
        fsvc demo --keep story
    """,
)
@click.option(
    "--keep", metavar="DIR", help="Work in this directory, which is new or empty, and leave it there."
)
def demo(context: Context, keep: str | None) -> None:
    """Show the whole story on a small real run.

    Every command and every line of Python that is printed is run, and what is printed below it is what
    came out. What should be equal is compared; the demo fails if it is not.
    """
    began = time.monotonic()
    with _directory(keep) as place, _environment(place):
        run = _Run(context)
        _story(run, place)
        taken = time.monotonic() - began
        context.output.show(
            {
                "ok": True,
                "seconds": round(taken, 3),
                "directory": str(place) if keep else None,
                "steps": run.steps,
            },
            lambda out: out.line(
                f"{counted(len(run.steps), 'step')} in {taken:.1f} seconds, and all that should be equal is.",
                f" The files are in {place}." if keep else "",
            ),
        )


class _Run:
    """Runs the steps: each is shown, run, and what came out is shown below it."""

    def __init__(self, context: Context) -> None:
        import fsvc

        self.steps: list[dict[str, Any]] = []
        self.names: dict[str, Any] = {"fsvc": fsvc}
        self._context = context
        self._out: Output = context.output

    def shell(self, title: str, *words: str) -> str:
        """A step that is a command of fsvc, run in this process."""
        return self._step(title, f"$ fsvc {shlex.join(words)}", lambda: self._command(words))

    def python(self, title: str, code: str) -> str:
        """A step that is Python; the names it makes are there in later ones."""
        code = dedent(code).strip()
        shown = "\n".join(f"{'... ' if line.startswith(' ') else '>>> '}{line}" for line in code.splitlines())
        return self._step(title, shown, lambda: exec(compile(code, "<demo>", "exec"), self.names))

    def expect(self, truth: bool, what: str) -> None:
        """Fail, and loudly, unless something is as it should be."""
        if not truth:
            raise FsvcError(f"the demo failed: {what}", hint="this is a fault of fsvc; please report it")

    def _command(self, words: tuple[str, ...]) -> None:
        root = click.get_current_context().find_root().command
        try:
            root.main(list(words))
        except SystemExit as done:
            if done.code == EXIT_INTERRUPTED:
                raise KeyboardInterrupt from None
            self.expect(not done.code, f"'fsvc {shlex.join(words)}' ended with {done.code}")

    def _step(self, title: str, shown: str, action: Callable[[], object]) -> str:
        number = len(self.steps) + 1
        if not self._out.json:
            self._out.line(self._out.styled(f"{number}. {title}", bold=True))
            for line in shown.splitlines():
                self._out.line("   ", self._out.styled(line, fg="cyan"))
        held = StringIO()
        try:
            with redirect_stdout(held), redirect_stderr(held):
                action()
        except Exception:
            for line in held.getvalue().splitlines():
                self._out.note(line)
            raise
        result = held.getvalue().rstrip()
        self.steps.append({"title": title, "run": shown, "result": result})
        if not self._out.json:
            for line in result.splitlines():
                self._out.line("   ", line)
            self._out.line()
        return result


def _story(run: _Run, place: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    import fsvc

    customers = _customers(_ROWS)
    run.names.update(place=place, customers=customers, np=np, pa=pa, pc=pc, pq=pq)
    run.python(
        f"A table of customers: {_ROWS:,} rows with keys, times, texts, categories and nulls",
        """
        print(customers.schema.to_string(show_field_metadata=False, show_schema_metadata=False))
        pq.write_table(customers, "customers.parquet")
        """,
    )
    run.shell("A workspace: this directory, with a repository in .fsvc", "init")
    run.shell(
        "Commit the table; every version is immutable and has a hash",
        "commit", "customers.parquet", "--key", "customer_id", "-m", "first load",
    )  # fmt: skip
    repo = fsvc.open()
    first = repo.snapshot("customers@v1")
    run.expect(first.num_rows == _ROWS, "v1 has another number of rows")

    wine = _wine()
    if wine is not None:
        wine.to_csv("wine.csv", index=False)
        run.shell(
            "Commit real data, from a CSV file: the wine of scikit-learn",
            "commit", "wine.csv", "-m", "wine, as scikit-learn has it",
        )  # fmt: skip
        same = repo.snapshot("wine").to_pandas()
        run.expect(same.equals(wine), "the wine is not what it was")

    before = repo.resolve().id
    pq.write_table(customers, "customers.parquet", compression="gzip", row_group_size=10_000)
    run.shell(
        "The same table, written anew in another way: nothing has changed",
        "commit", "customers.parquet", "-m", "nightly refresh",
    )  # fmt: skip
    run.expect(repo.resolve().id == before, "committing the same table again made a commit")

    run.python(
        "Correct 200 balances and add a column",
        """
        balance = customers["balance"].combine_chunks()
        row = np.arange(len(customers))
        touched = pa.array((row >= 1000) & (row < 1200))
        corrected = pc.if_else(touched, 0.0, balance)
        customers2 = customers.set_column(customers.column_names.index("balance"), "balance", corrected)
        ratio = pc.divide(customers["amt_7d"], customers["amt_30d"])
        customers2 = customers2.append_column("amt_ratio", ratio)
        pq.write_table(customers2, "customers.parquet")
        """,
    )
    run.shell(
        "Commit the whole new table; only what changed is stored",
        "commit", "customers.parquet", "-m", "corrected balances, new column",
    )  # fmt: skip
    changes = repo.resolve().changes["customers"]
    run.expect(changes["columns_changed"] == ["balance"], "other columns than balance count as changed")
    run.expect(changes["columns_added"] == ["amt_ratio"], "the new column is not told")

    customers3 = pa.concat_tables([run.names["customers2"], _later(run.names["customers2"], 2_000)])
    pq.write_table(customers3, "customers.parquet")
    run.shell(
        "Append 2,000 rows, and tag the commit",
        "commit", "customers.parquet", "-m", "two thousand more", "--tag", "training-1",
    )  # fmt: skip
    run.shell("The history", "log")

    pq.write_table(customers, "original.parquet")
    result = run.shell(
        "The identity of the first table, from a file and without the repository",
        "hash", "original.parquet", "--key", "customer_id",
    )  # fmt: skip
    run.expect(result.split()[0] == first.id, "the original's identity is not the snapshot's id")
    run.python(
        "It is the id of v1",
        """
        v1 = fsvc.open().snapshot("customers@v1")
        print(v1.id)
        """,
    )

    run.python(
        "Query v1 in place with DuckDB: no checkout, no copy",
        """
        table = v1.relation()
        found = table.aggregate("region, count(*) as n, sum(visits) as visits", "region").order("region")
        print(found)
        """,
    )
    _compare_query(run, customers)

    run.shell(
        "Write v1 to a file; stored pages are copied", "checkout", "customers@v1", "-o", "restored.parquet"
    )
    run.python(
        "Prove that it is the table that was committed, bit for bit",
        """
        print(fsvc.identify("restored.parquet", key="customer_id").id == v1.id)
        print(v1.to_arrow().equals(customers))
        print(pq.read_table("restored.parquet").drop_columns("region").equals(customers.drop_columns("region")))
        """,
    )
    run.expect(run.steps[-1]["result"].split() == ["True"] * 3, "what was restored is not what was committed")

    _compare_sizes(run, [customers, run.names["customers2"], customers3], place)
    run.names["customers3"] = customers3
    _recipe_story(run)
    if _has_mlflow():
        model_story(run)
    comparing_story(run)
    result = run.shell("Verify everything that is stored, down to every value", "verify", "--deep")
    run.expect("no damage found" in result, "the verification found damage")


def _compare_query(run: _Run, customers: pa.Table) -> None:
    """The query's result must be that of pyarrow on the original table."""
    import pyarrow as pa

    plain = customers.set_column(
        customers.column_names.index("region"), "region", customers["region"].cast(pa.string())
    )
    expected = sorted(
        (row["region"], row["visits_count"], row["visits_sum"])
        for row in plain.group_by("region").aggregate([("visits", "count"), ("visits", "sum")]).to_pylist()
    )
    found = [(region, n, int(visits)) for region, n, visits in run.names["found"].fetchall()]
    run.expect(found == expected, "DuckDB's answer on v1 is not pyarrow's on the original table")


def _recipe_story(run: _Run) -> None:
    """Commit the result of a query, make it again to the last bit, and see what stands on what."""
    run.shell(
        "A feature set made by a query; the commit records the query, and by hash what it read",
        "commit", "regions", "--key", "region", "-m", "spending by region", "--sql",
        "select region, sum(amt_30d) as spent from customers group by region order by region",
    )  # fmt: skip
    result = run.shell(
        "Run it again, on the very data that it read: the result is the same", "rebuild", "regions"
    )
    run.expect(": bit-identical," in result, "a feature set that was built again is another one")
    result = run.shell("What it was made from", "lineage", "regions")
    run.expect("customers v3" in result, "the lineage does not name what the query read")


def _compare_sizes(run: _Run, tables: list[pa.Table], place: Path) -> None:
    """What three versions take, against a Parquet copy of each."""
    import pyarrow.parquet as pq

    copies = 0
    for number, table in enumerate(tables, 1):
        path = place / f"copy-{number}.parquet"
        pq.write_table(table, path, compression="zstd")
        copies += path.stat().st_size
    run.names["copies"] = copies
    run.names["human_size"] = human_size
    run.python(
        "What three versions take, and what a Parquet copy of each would",
        """
        stored = fsvc.open().stats().feature_sets["customers"].stored_bytes
        print(human_size(stored), "stored,", human_size(copies), "as copies")
        """,
    )
    run.expect(run.names["stored"] < copies, "three versions take more than three copies")


def _customers(rows: int) -> pa.Table:
    """A made-up table, the same every time."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(_SEED)
    regions = pa.array(["north", "south", "east", "west", "overseas"])
    signed_up = np.datetime64("2020-01-01", "us") + np.sort(random.integers(0, 2_000 * 86_400, rows)).astype(
        "m8[s]"
    )
    return pa.table(
        {
            "customer_id": np.arange(rows, dtype=np.int64) + 100_000,
            "signed_up": pa.array(signed_up, pa.timestamp("us", "UTC")),
            "region": pa.DictionaryArray.from_arrays(random.integers(0, 5, rows).astype(np.int8), regions),
            "email": pa.array(
                np.char.add(np.char.add("user", np.arange(rows).astype("U7")), "@example.org").astype(object),
                pa.string(),
                mask=random.random(rows) < 0.05,
            ),
            "balance": pa.array(random.normal(200, 80, rows).round(2), mask=random.random(rows) < 0.02),
            "visits": random.poisson(4, rows).astype(np.int32),
            "amt_7d": random.gamma(2, 30, rows).round(2),
            "amt_30d": random.gamma(4, 60, rows).round(2),
            "active": random.random(rows) < 0.7,
        }
    )


def _later(table: pa.Table, rows: int) -> pa.Table:
    """More rows of the same kind, with keys that are not there yet."""
    import pyarrow.compute as pc

    last = pc.max(table["customer_id"]).as_py()
    more = table.slice(0, rows)
    keys = pc.add(more["customer_id"], last)
    return more.set_column(0, "customer_id", keys)


def _wine() -> Any:
    """The wine data set of scikit-learn as a DataFrame; None where it or pandas is not installed."""
    try:
        from sklearn.datasets import load_wine

        return load_wine(as_frame=True).frame
    except ImportError:
        return None


def _has_mlflow() -> bool:
    """Whether the story of a model can be told: it needs MLflow, scikit-learn and pandas."""
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("mlflow", "sklearn", "pandas"))


@contextmanager
def _directory(keep: str | None) -> Iterator[Path]:
    """The directory to work in: the one to keep, or one that is gone afterwards."""
    if keep is not None:
        place = Path(keep).absolute()
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise Conflict(f"{place} is there and not empty", hint="the demo needs a new or empty directory")
        place.mkdir(parents=True, exist_ok=True)
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="fsvc-demo-") as name:
        yield Path(name)


@contextmanager
def _environment(place: Path) -> Iterator[None]:
    """Be in a directory, with nothing in the environment that would lead to a repository of the user's."""
    here = Path.cwd()
    held = {name: os.environ.pop(name) for name in _MINE if name in os.environ}
    os.environ["XDG_STATE_HOME"] = str(place / "state")  # where a repository was seen is noted there
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(here)
        del os.environ["XDG_STATE_HOME"]
        os.environ.update(held)
