"""The stores: fsvc and its peers, each in the few calls that its own documentation shows for this.

A store is given whole tables as Parquet files. Those that can be told what changed are measured that way as well,
as stores of their own; they lose the order of rows then. Everything a store is imported or called for stays in its
class: it is loaded in an environment that has only this one peer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.tables import KEY

__all__ = ["STORES", "Store"]


class Store(ABC):
    """One store with one table in it. Everything it keeps lies below ``home``."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """What its environment has installed, beside numpy and pyarrow."""
    told: ClassVar[bool] = False
    """Whether it is told which rows changed."""
    remarks: ClassVar[str] = ""

    def __init__(self, home: Path) -> None:
        self.home = home

    def create(self, file: Path) -> None:
        """Make the store, with a first version."""
        self.store(file)

    @abstractmethod
    def store(self, file: Path) -> None:
        """Store a version, given as a whole table."""

    def tell(self, rows: Path | None, deleted: Path | None, *, new: bool) -> None:
        """Store a version, given by what is new or changed, and by the keys of what is gone."""
        raise NotImplementedError

    @abstractmethod
    def read(self) -> pa.Table:
        """The newest version."""

    def size(self) -> int:
        """The bytes of all that it keeps."""
        return sum(path.stat().st_size for path in self.kept() if path.is_file() and not path.is_symlink())

    def kept(self) -> Iterator[Path]:
        """Every file that counts."""
        return self.home.rglob("*")


def _run(*command: str | Path, cwd: Path) -> None:
    """Run a program of this environment."""
    here = Path(sys.executable).parent
    environment = {
        **os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1",
        "GIT_AUTHOR_NAME": "b", "GIT_AUTHOR_EMAIL": "b@example.org", "GIT_COMMITTER_NAME": "b",
        "GIT_COMMITTER_EMAIL": "b@example.org", "RESTIC_PASSWORD": "b", "HOME": str(cwd),
    }  # fmt: skip
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {(done.stderr or done.stdout).decode(errors='replace')[-500:]}")


class Fsvc(Store):
    """This project."""

    name = "fsvc"
    needs = ()

    def create(self, file: Path) -> None:
        """See Store."""
        import fsvc

        fsvc.init(self.home / "repository")
        self.store(file)

    def store(self, file: Path) -> None:
        """See Store."""
        import fsvc

        fsvc.open(self.home / "repository").commit({"t": file}, key=KEY, message="m")

    def read(self) -> pa.Table:
        """See Store."""
        import fsvc

        return fsvc.open(self.home / "repository").snapshot("t").to_arrow()


class File(Store):
    """Stores that keep files, and have the table as one: each commits what lies in its working directory."""

    def create(self, file: Path) -> None:
        """See Store."""
        self.work = self.home / "work"
        self.work.mkdir()
        self.begin()
        self.store(file)

    def begin(self) -> None:
        """Make the store around the working directory."""
        raise NotImplementedError

    def put(self) -> None:
        """Store what lies in the working directory."""
        raise NotImplementedError

    def take(self) -> None:
        """Get the newest version back into the working directory."""
        raise NotImplementedError

    def store(self, file: Path) -> None:
        """See Store."""
        (self.work / "t.parquet").unlink(missing_ok=True)
        shutil.copy(file, self.work / "t.parquet")
        self.put()

    def read(self) -> pa.Table:
        """See Store."""
        (self.work / "t.parquet").unlink(missing_ok=True)
        self.take()
        return pq.read_table(self.work / "t.parquet")

    def kept(self) -> Iterator[Path]:
        """See Store: the working copy does not count."""
        return (path for path in self.home.rglob("*") if path != self.work / "t.parquet")


class Dvc(File):
    """DVC, with its cache in the working directory."""

    name = "DVC"
    needs = ("dvc==3.67.1",)

    def begin(self) -> None:
        """See File."""
        _run("dvc", "init", "--no-scm", "-q", cwd=self.work)

    def put(self) -> None:
        """See File."""
        _run("dvc", "add", "-q", "t.parquet", cwd=self.work)

    def take(self) -> None:
        """See File."""
        _run("dvc", "checkout", "-q", "t.parquet", cwd=self.work)

    def kept(self) -> Iterator[Path]:
        """See Store."""
        return (self.work / ".dvc" / "cache").rglob("*")


class GitAnnex(File):
    """git-annex, its files unlocked."""

    name = "git-annex"
    needs = ("git-annex==10.20261026",)

    def begin(self) -> None:
        """See File."""
        _run("git", "init", "-q", cwd=self.work)
        _run("git", "annex", "init", "-q", "b", cwd=self.work)

    def put(self) -> None:
        """See File."""
        _run("git", "annex", "add", "-q", "t.parquet", cwd=self.work)
        _run("git", "commit", "-q", "--allow-empty", "-m", "m", cwd=self.work)

    def take(self) -> None:
        """See File."""
        _run("git", "checkout", "-q", "t.parquet", cwd=self.work)

    def kept(self) -> Iterator[Path]:
        """See Store."""
        return (self.work / ".git").rglob("*")

    def store(self, file: Path) -> None:
        """See Store."""
        super().store(file)

    def read(self) -> pa.Table:
        """See Store."""
        return pq.read_table(self.work / "t.parquet")


class Restic(File):
    """restic, whose program has to be installed: it is on no package index of Python."""

    name = "restic"
    needs = ()
    remarks = "if installed"

    def begin(self) -> None:
        """See File."""
        _run("restic", "-q", "-r", "../store", "init", cwd=self.work)

    def put(self) -> None:
        """See File."""
        _run("restic", "-q", "-r", "../store", "backup", "t.parquet", cwd=self.work)

    def take(self) -> None:
        """See File."""
        _run("restic", "-q", "-r", "../store", "restore", "latest", "--target", ".", cwd=self.work)

    def kept(self) -> Iterator[Path]:
        """See Store."""
        return (self.home / "store").rglob("*")


class Oxen(File):
    """Oxen, through its Python package."""

    name = "Oxen"
    needs = ("oxenai==0.65.1",)

    def begin(self) -> None:
        """See File."""
        os.environ["HOME"] = str(self.work)
        from oxen import Repo
        from oxen.user import config_user

        config_user("b", "b@example.org")
        self.repo = Repo(str(self.work))
        self.repo.init()

    def put(self) -> None:
        """See File."""
        self.repo.add("t.parquet")
        try:
            self.repo.commit("m")
        except ValueError as error:
            if str(error) != "No changes to commit":
                raise

    def take(self) -> None:
        """See File."""
        self.repo.checkout("main")

    def read(self) -> pa.Table:
        """See Store."""
        return pq.read_table(self.work / "t.parquet")

    def kept(self) -> Iterator[Path]:
        """See Store."""
        return (self.work / ".oxen").rglob("*")


class Chunks(Store):
    """An estimate: Parquet with pyarrow's content-defined pages, cut by content again, each piece kept once."""

    name = "Parquet CDC"
    needs = ("blake3",)
    remarks = "an estimate: no history, no names"

    _BITS = 16  # pieces of 64 kB on average, as chunking stores use
    _WINDOW = 32

    def store(self, file: Path) -> None:
        """See Store."""
        self.current = self.home / "current.parquet"
        pq.write_table(
            pq.read_table(file), self.current, compression="zstd", use_content_defined_chunking=True
        )
        self._pieces = self.home / "pieces"
        self._pieces.mkdir(exist_ok=True)
        data = self.current.read_bytes()
        from blake3 import blake3

        cuts = [0, *self._cuts(data), len(data)]
        for start, stop in pairwise(cuts):
            piece = data[start:stop]
            path = self._pieces / blake3(piece).hexdigest()
            if not path.exists():
                path.write_bytes(piece)

    def _cuts(self, data: bytes) -> list[int]:
        """Where a gear hash of the last 32 bytes ends in zeros."""
        import numpy as np

        gear = np.random.default_rng(5).integers(0, 1 << 32, 256, dtype=np.uint32)
        values = gear[np.frombuffer(data, np.uint8)]
        hashes = values.copy()
        for back in range(1, self._WINDOW):
            hashes[back:] += values[:-back] << np.uint32(back)
        return (np.flatnonzero(hashes >> np.uint32(32 - self._BITS) == 0) + 1).tolist()

    def read(self) -> pa.Table:
        """See Store."""
        return pq.read_table(self.current)

    def kept(self) -> Iterator[Path]:
        """See Store."""
        return self._pieces.rglob("*")


class Delta(Store):
    """Delta Lake through delta-rs, overwritten."""

    name = "Delta Lake"
    needs = ("deltalake==1.6.6",)

    def _options(self) -> dict[str, Any]:
        from deltalake import WriterProperties

        return {"writer_properties": WriterProperties(compression="ZSTD", compression_level=1)}

    def _table(self) -> Any:
        from deltalake import DeltaTable

        return DeltaTable(self.home / "t")

    def store(self, file: Path) -> None:
        """See Store."""
        from deltalake import write_deltalake

        write_deltalake(
            self.home / "t", pq.read_table(file), mode="overwrite", schema_mode="overwrite", **self._options()
        )

    def read(self) -> pa.Table:
        """See Store."""
        return pa.table(self._table().to_pyarrow_table())


class DeltaTold(Delta):
    """Delta Lake, told by append, merge and delete."""

    told = True

    def tell(self, rows: Path | None, deleted: Path | None, *, new: bool) -> None:
        """See Store."""
        from deltalake import write_deltalake

        if rows is not None and new:
            write_deltalake(self.home / "t", pq.read_table(rows), mode="append", **self._options())
        elif rows is not None:
            merge = self._table().merge(
                pq.read_table(rows),
                f"t.{KEY} = s.{KEY}",
                source_alias="s",
                target_alias="t",
                **self._options(),
            )
            merge.when_matched_update_all().when_not_matched_insert_all().execute()
        elif deleted is not None:
            merge = self._table().merge(
                pq.read_table(deleted),
                f"t.{KEY} = s.{KEY}",
                source_alias="s",
                target_alias="t",
                **self._options(),
            )
            merge.when_matched_delete().execute()


class Lance(Store):
    """Lance, overwritten."""

    name = "Lance"
    needs = ("pylance==14.0.2",)

    def _open(self) -> Any:
        import lance

        return lance.dataset(str(self.home / "t.lance"))

    def store(self, file: Path) -> None:
        """See Store."""
        import lance

        lance.write_dataset(
            pq.read_table(file), str(self.home / "t.lance"), mode="overwrite" if self._there() else "create"
        )

    def _there(self) -> bool:
        return (self.home / "t.lance").exists()

    def read(self) -> pa.Table:
        """See Store."""
        return self._open().to_table()


class LanceTold(Lance):
    """Lance, told by append, merge_insert and delete."""

    told = True

    def tell(self, rows: Path | None, deleted: Path | None, *, new: bool) -> None:
        """See Store."""
        import lance

        if rows is not None and new:
            lance.write_dataset(pq.read_table(rows), str(self.home / "t.lance"), mode="append")
        elif rows is not None:
            merge = self._open().merge_insert(KEY)
            merge.when_matched_update_all().when_not_matched_insert_all().execute(pq.read_table(rows))
        elif deleted is not None:
            keys = ", ".join(map(str, pq.read_table(deleted)[KEY].to_pylist()))
            self._open().delete(f"{KEY} in ({keys})")


class DuckLake(Store):
    """DuckLake with its catalogue in a DuckDB file, emptied and filled again in one transaction."""

    name = "DuckLake"
    needs = ("duckdb==1.5.5", "duckdb-extension-ducklake==1.5.5")

    def create(self, file: Path) -> None:
        """See Store."""
        self._lake = self._connect()
        self._lake.execute(f"create table t as from '{file}'")

    def _connect(self) -> Any:
        import duckdb
        import duckdb_extension_ducklake

        folder = Path(duckdb_extension_ducklake.__file__).parent / "extensions" / f"v{duckdb.__version__}"
        lake = duckdb.connect(config={"allow_unsigned_extensions": True})
        lake.execute(f"load '{folder / 'ducklake.duckdb_extension'}'")
        lake.execute(f"attach 'ducklake:{self.home}/lake.ducklake' as lake (data_path '{self.home}/data')")
        lake.execute("use lake")
        lake.execute("call lake.set_option('parquet_compression', 'zstd')")
        return lake

    def store(self, file: Path) -> None:
        """See Store."""
        self._lake.execute(f"create or replace table t as from '{file}'")

    def read(self) -> pa.Table:
        """See Store."""
        return self._lake.execute("from t").to_arrow_table()


class DuckLakeTold(DuckLake):
    """DuckLake, told by insert, merge and delete."""

    told = True

    def tell(self, rows: Path | None, deleted: Path | None, *, new: bool) -> None:
        """See Store."""
        if rows is not None and new:
            self._lake.execute(f"insert into t from '{rows}'")
        elif rows is not None:
            self._lake.execute(
                f"merge into t using (from '{rows}') s using ({KEY})"
                " when matched then update when not matched then insert"
            )
        elif deleted is not None:
            self._lake.execute(f"delete from t where {KEY} in (from '{deleted}')")


class Iceberg(Store):
    """Iceberg through PyIceberg with a SQLite catalogue, overwritten."""

    name = "Iceberg"
    needs = ("pyiceberg[pyarrow,sql-sqlite]==0.12.0",)

    def create(self, file: Path) -> None:
        """See Store."""
        from pyiceberg.catalog.sql import SqlCatalog

        self._catalog = SqlCatalog(
            "b", uri=f"sqlite:///{self.home}/catalog.db", warehouse=f"file://{self.home}/warehouse"
        )
        self._catalog.create_namespace("b")
        table = _plain(pq.read_table(file))
        self._catalog.create_table("b.t", table.schema)
        self._table().append(table)

    def _table(self) -> Any:
        return self._catalog.load_table("b.t")

    def store(self, file: Path) -> None:
        """See Store."""
        table = _plain(pq.read_table(file))
        kept = self._table()
        with kept.update_schema(allow_incompatible_changes=True) as update:
            update.union_by_name(table.schema)
            for name in set(kept.schema().column_names) - set(table.column_names):
                update.delete_column(name)
        self._table().overwrite(table)

    def read(self) -> pa.Table:
        """See Store."""
        return self._table().scan().to_arrow()


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries, for stores that have none, and with the integers that they have."""
    fields = []
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        fields.append(pa.field(field.name, pa.int32() if kind in (pa.int8(), pa.int16()) else kind))
    return table.cast(pa.schema(fields))


class IcebergTold(Iceberg):
    """Iceberg, told by append, upsert and delete."""

    told = True

    def tell(self, rows: Path | None, deleted: Path | None, *, new: bool) -> None:
        """See Store."""
        if rows is not None and new:
            self._table().append(_plain(pq.read_table(rows)))
        elif rows is not None:
            self._table().upsert(_plain(pq.read_table(rows)), join_cols=[KEY])
        elif deleted is not None:
            from pyiceberg.expressions import In

            self._table().delete(In(KEY, pq.read_table(deleted)[KEY].to_pylist()))


class Arctic(Store):
    """ArcticDB on LMDB, with the deduplication that it has."""

    name = "ArcticDB"
    needs = ("arcticdb==6.28.2",)

    def create(self, file: Path) -> None:
        """See Store."""
        from arcticdb import Arctic as Client
        from arcticdb import LibraryOptions

        client = Client(f"lmdb://{self.home}/store?map_size=20GB")
        self._library = client.create_library("b", LibraryOptions(dedup=True))
        self.store(file)

    def store(self, file: Path) -> None:
        """See Store."""
        frame = _plain(pq.read_table(file)).to_pandas()
        self._library.write("t", frame, prune_previous_versions=False)

    def read(self) -> pa.Table:
        """See Store."""
        return pa.Table.from_pandas(self._library.read("t").data, preserve_index=False)

    def size(self) -> int:
        """See Store: the pages that LMDB has used, since its file grows by steps."""
        return sum(path.stat().st_blocks * 512 for path in self.kept() if path.is_file())


STORES: dict[str, type[Store]] = {
    store.name + (" (told)" if store.told else ""): store
    for store in (
        Fsvc,
        Dvc,
        GitAnnex,
        Restic,
        Oxen,
        Chunks,
        Delta,
        DeltaTold,
        Lance,
        LanceTold,
        DuckLake,
        DuckLakeTold,
        Iceberg,
        IcebergTold,
        Arctic,
    )
}
"""Every store by name, in the order of the report."""
