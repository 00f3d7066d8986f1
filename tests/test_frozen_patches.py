"""A repository with patches that was written once and is kept: each of its versions must stay readable.

``python tests/test_frozen_patches.py`` writes it anew into tests/golden/frozen_patches, for a new way of
storing patches only. What is there now must stay readable then too: it gets a directory of its own.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fsvc
from fsvc.format.index import PATCH, ROW_MAP
from fsvc.repository import Repository

FROZEN = Path(__file__).parent / "golden" / "frozen_patches"
VERSIONS = 7
IDS: dict[str, list[str]] = {
    "keyed": [
        "6ffd040b4745500363fd6eba94870529155a8a68c2fa6f09ebc18193a8527766",
        "574f89a42d6c355c72a6e3fa48a9bc6cb2942b5b44586316dc3e2cce7941bf04",
        "782045bfcbd395d8b7e61af5d99d8c33c01caf775375bff1454571ada3bc77bb",
        "3ab495482462997fed8e203c2c524f9265a53140767fb86230f23a83ac604156",
        "b478ef4cec809656e5d9f31f5adbf32b76299df67247b079c480295ea2f4a190",
        "e4a2cfdb2546491b10479180c33111cd1936d9c3e7fce9e562f674d70064cb98",
        "6ffd040b4745500363fd6eba94870529155a8a68c2fa6f09ebc18193a8527766",
    ],
    "plain": [
        "5b28579ea26c78ff4f22ebba46afee5b3d5dd5d88b462bf7b828425e778f9d86",
        "4172277d9423d7b377136022e04678e345474b524042701a35d3296a71e38105",
        "2753842679a38d70982a07a5e884b092cd12c722fe8469ae4ee98c8e93e92efd",
        "9235bde6cd0303235d2c515c1448f3b5d2d7e92583ca33db55ce6a2e03757e95",
        "6349326b8231aa59264844f30732cc023456d695739aa0145329c5191055c6eb",
        "37320b269e4409a0c34df4b6e82d1ef2206ffd30f5133dd837cd004069be9e6d",
        "5b28579ea26c78ff4f22ebba46afee5b3d5dd5d88b462bf7b828425e778f9d86",
    ],
}


def versions() -> list[pa.Table]:
    """The versions of one table, made by arithmetic alone: changed cells, deleted and inserted rows, chains."""
    ids = np.arange(4000)
    first = table(ids * 5, ids * 0)
    step = first["id"].to_numpy() // 5
    changed = table(ids * 5, (step % 50 == 7) * 1)
    deleted = changed.filter(pa.array(step % 97 != 3))
    more = pa.concat_tables([deleted, table(ids[::41] * 5 + 2, ids[::41] * 0)]).sort_by("id")
    again = table(more["id"].to_numpy(), (more["id"].to_numpy() % 60 == 0) * 2)
    return [
        first,
        changed,
        deleted,
        more,
        again,
        pa.concat_tables([again, table(ids[:90] + 90_000, ids[:90])]),
        first,
    ]


def table(ids: np.ndarray, salt: np.ndarray) -> pa.Table:
    """Rows that follow from their ids, but for some cells that follow from ``salt`` too."""
    mixed = (ids * 7919 + salt * 104_729) % 100_003
    words = pa.array(["alder", "birch", "cedar", "dogwood", "elm"])
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "amount": pa.array(mixed / 100, mask=mixed % 11 == 0),
            "ratio": pa.array(np.sqrt(mixed).astype(np.float32)),
            "count": pa.array((mixed % 300).astype(np.int16)),
            "flag": pa.array(mixed % 3 == 0),
            "tree": pa.DictionaryArray.from_arrays(pa.array(mixed % 5, pa.int8()), words),
            "text": pa.array([f"text {value}" if value % 13 else None for value in mixed.tolist()]),
            "list": pa.array([[value % 7] * (value % 3) for value in mixed.tolist()], pa.list_(pa.int8())),
        }
    )  # fmt: skip


def fill(repository: Repository) -> None:
    """Write the history that is frozen."""
    for number, data in enumerate(versions()):
        repository.commit(
            {"keyed": data, "plain": data},
            key={"keyed": "id"},
            message=f"version {number + 1}",
            time=f"2026-11-0{number + 1}T12:00:00.000000Z",
        )


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The frozen repository, read where nothing can be written into the one that is kept."""
    place = tmp_path_factory.mktemp("frozen") / "repository"
    shutil.copytree(FROZEN, place)
    return fsvc.open(place)


def test_it_is_whole_and_holds_patches(frozen: Repository) -> None:
    report = frozen.verify(deep=True)
    assert report.ok, report
    tables = frozen.store.objects.tables()
    kinds = [entry.meta[0] for table in tables for entry in table.entries()]
    assert kinds.count(PATCH) > 20
    assert kinds.count(ROW_MAP) >= 2


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("version", range(VERSIONS))
def test_every_version_comes_back(frozen: Repository, name: str, version: int, tmp_path: Path) -> None:
    wanted = versions()[version]
    snapshot = frozen.snapshot(f"{name}@v{version + 1}")
    assert snapshot.id == IDS[name][version]
    assert snapshot.to_arrow().equals(wanted)
    path = tmp_path / "checkout.parquet"
    snapshot.write_parquet(path)
    assert pq.read_table(path).drop_columns(["tree"]).equals(wanted.drop_columns(["tree"]))
    assert fsvc.identify(wanted, key="id" if name == "keyed" else ()).id == IDS[name][version]


def test_it_can_be_written_on(frozen: Repository) -> None:
    tables = versions()
    commit = frozen.commit({"keyed": tables[4]}, message="as before")
    assert commit.snapshot("keyed").id == IDS["keyed"][4]
    assert commit.changes["keyed"]["new_chunks"] == 0
    rows = tables[4].slice(1, 3500)
    assert frozen.commit({"keyed": rows}, message="fewer").snapshot("keyed").to_arrow().equals(rows)


if __name__ == "__main__":
    shutil.rmtree(FROZEN, ignore_errors=True)
    made = fsvc.init(FROZEN, author="Ada <ada@example.org>")
    fill(made)
    found = {name: [made.snapshot(f"{name}@v{i + 1}").id for i in range(VERSIONS)] for name in IDS}
    print(f"IDS = {found}")  # noqa: T201
