"""A repository from somebody who means harm: every checksum, seal and id in it is right, and what it says is not.

Whatever it holds, nothing outside of it is deleted or overwritten, nothing takes for ever, and what a deep
verification finds no fault with reads as what was committed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import forging
import numpy as np
import pyarrow as pa
import pytest
import xxhash
from forging import forge, pages_of

import fsvc
from fsvc.engine.condemned import Sentence
from fsvc.engine.files import commit_key, manifest_key
from fsvc.errors import Corruption, InvalidUse
from fsvc.format import manifest as manifests
from fsvc.format.commit import SetVersion
from fsvc.format.manifest import Manifest
from fsvc.repository import Repository

NAME = "0" * 32
TIME = "2026-11-01T00:00:00.000000Z"


def table(version: int = 0) -> pa.Table:
    """A table of which every version is stored as a patch of the one before."""
    value = np.random.default_rng(1).random(5000)
    value[: 20 * version] = version
    return pa.table({"id": np.arange(5000), "value": value})


def versions(root: Path, count: int = 3) -> Repository:
    repository = fsvc.init(root, author="Test")
    for version in range(count):
        repository.commit({"t": table(version)}, message="m", key="id")
    return repository


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory of somebody who opens the repository, with old files of all sorts of names in it."""
    place = tmp_path / "home"
    (place / "packs").mkdir(parents=True)
    for name in (
        "thesis.docx",
        "notes.json",
        "pack-1a2b.pack",
        "a.idx",
        "packs/pack-1a2b.pack",
        "video.part",
    ):
        (place / name).write_bytes(b"mine")
        os.utime(place / name, (1, 1))
    with open(place / "video.mp4", "wb") as video:
        video.truncate(2 << 30)  # more than a cache may have
    return place


def whole(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}


def purge(repository: Repository) -> None:
    repository.commit({"t": table().slice(4000)}, message="without", key="id")
    repository.purge("t", where="id = 3", reason="a request", delete=True)


WORK: dict[str, Callable[[Repository], object]] = {
    **forging.WORK,
    "purge": purge,
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
@pytest.mark.parametrize(
    "link", ["packs", "index", "quarantine", ".cache", ".cache/thawed", "commits", "manifests"]
)
def test_nothing_is_deleted_where_a_folder_leads(
    link: str, work: Callable[[Repository], object], elsewhere: Path, tmp_path: Path
) -> None:
    before = whole(elsewhere)
    root = tmp_path / "r"
    versions(root)
    place = root / link
    place.parent.mkdir(exist_ok=True)
    if place.is_dir():
        for file in place.iterdir():
            file.rename(elsewhere / file.name)
        place.rmdir()
    place.symlink_to(elsewhere)
    work(fsvc.open(root, author="Test"))
    assert before <= whole(elsewhere)
    if link.startswith(".cache"):
        assert whole(elsewhere) == before


@pytest.mark.parametrize("purpose", ["gc", "repack", "purge", "repair"])
@pytest.mark.parametrize("folder", ["condemned", "dead"])
@pytest.mark.parametrize(
    "key", ["x/thesis.docx", "repository.json", "refs/heads/main/0000000001.json", f"packs/x/{'0' * 64}.pack"]
)
def test_lists_delete_nothing_but_garbage(
    key: str, folder: str, purpose: str, elsewhere: Path, tmp_path: Path
) -> None:
    root = tmp_path / "r"
    repository = versions(root, 1)
    (root / "x").symlink_to(elsewhere)
    (root / folder).mkdir()
    forged = Sentence(NAME, frozenset({key}), purpose, 0, TIME)
    (root / folder / f"{NAME}.json").write_bytes(forged.to_bytes())
    os.utime(root / folder / f"{NAME}.json", (1, 1))
    before = whole(tmp_path)
    for work in (WORK["repair"], WORK["repack"], WORK["gc"]):
        with pytest.raises(Corruption, match="which is never deleted"):
            work(fsvc.open(root, author="Test"))
    report = repository.verify()
    assert not report.ok and report.damages[0].kind == "list"
    assert whole(tmp_path) >= before


def test_what_one_repository_holds_is_never_read_from_another(tmp_path: Path) -> None:
    """Both have the same patch; what it stands on was forged in one of them. Nothing can be cached on disk."""
    root, other = tmp_path / "r", tmp_path / "other"
    repository = versions(root)
    shutil.copytree(root, other)
    first = repository.snapshot("t@v1").manifest.identity(1, 0)
    forge(other, {first.address: (first, *pages_of(pa.array(np.zeros(5000))))})
    for place in (root, other):
        (place / ".cache").write_bytes(b"")
    query = "select max(value) from t@v3 where id > 100"
    assert fsvc.open(other).sql(query).fetchall() == [(0.0,)]
    assert fsvc.open(root).sql(query).fetchall() == [(max(table(2)["value"].to_pylist()[101:]),)]


def forge_cache(root: Path) -> list[Path]:
    """Change values in thawed chunks, and put their checksums right."""
    files = sorted((root / ".cache" / "thawed").iterdir())
    for file in files:
        one, other = (np.array([value], "<f8").tobytes() for value in (table()["value"][4000].as_py(), 1e6))
        data = file.read_bytes()[8:].replace(one, other)
        file.write_bytes(xxhash.xxh3_64_digest(file.name.encode() + data) + data)
    return files


def test_a_forged_cache_is_found_by_a_deep_verification_and_emptied_by_a_repair(tmp_path: Path) -> None:
    repository = versions(tmp_path / "r")
    query = "select sum(value) from t@v3"
    right = repository.sql(query).fetchall()
    assert forge_cache(tmp_path / "r")
    assert fsvc.open(tmp_path / "r").sql(query).fetchall() != right, "what this is about"
    report = fsvc.open(tmp_path / "r").verify(deep=True)
    assert not report.ok and "the cache of thawed chunks" in report.damages[0].detail
    assert report.damages[0].affects
    assert fsvc.open(tmp_path / "r").repair(deep=True).ok
    assert fsvc.open(tmp_path / "r").sql(query).fetchall() == right


def test_a_pipe_in_the_cache_is_not_waited_for(tmp_path: Path) -> None:
    repository = versions(tmp_path / "r")
    right = repository.sql("select sum(value) from t@v3").fetchall()
    for file in (tmp_path / "r" / ".cache" / "thawed").iterdir():
        file.unlink()
        os.mkfifo(file)
    assert fsvc.open(tmp_path / "r").sql("select sum(value) from t@v3").fetchall() == right


def commit_manifest(repository: Repository, manifest: Manifest) -> str:
    """Commit a snapshot that nobody has ever written: everything names it as it should be named."""
    head = repository.head()
    assert head is not None
    file = manifests.compress(manifest.encoded, None)
    record = replace(
        head.record,
        feature_sets={"t": SetVersion(manifest.id, head.versions["t"] + 1)},
        parents=(head.id,),
        changes={"t": {}},
    )
    repository.store.storage.put_batch(
        {manifest_key(manifest.id): file, commit_key(record.id): record.encoded}
    )
    refs = repository.store.refs
    refs.append("heads", "main", refs.head("heads", "main"), record.id, author="", reason="", time=TIME)
    return record.id


@pytest.mark.parametrize("rows", [4, 100_000])
@pytest.mark.parametrize("nested", [False, True])
def test_rows_that_a_manifest_claims_are_those_that_there_are(
    rows: int, nested: bool, tmp_path: Path
) -> None:
    column = [[1], [2, 3], []] if nested else [1, 2, 3]
    repository = fsvc.init(tmp_path / "r", author="Test")
    honest = repository.commit({"t": pa.table({"x": column})}, message="m").snapshot("t").manifest
    commit = commit_manifest(repository, replace(honest, rows=(rows,)))
    again = fsvc.open(tmp_path / "r")
    with pytest.raises(Corruption):
        again.snapshot("t").to_arrow()
    report = again.verify(deep=True)
    assert not report.ok
    affected = {name for damage in report.damages for name in damage.affects}
    assert affected == {f"t@{commit[:12]} (main)"}, "not the honest one, which has the same chunk"


@pytest.mark.parametrize("rows", [(0,), (131_073,), (1 << 40,), (1 << 63,), ((1 << 64) - 1,)])
def test_row_groups_have_the_rows_that_groups_can_have(rows: tuple[int, ...], tmp_path: Path) -> None:
    repository = versions(tmp_path / "r", 1)
    forged = replace(repository.snapshot("t").manifest, rows=rows)
    commit_manifest(repository, forged)
    for work in (WORK["query"], lambda repository: repository.diff("t@v1", "t").rows()):
        with pytest.raises(Corruption, match="than a group can have"):
            work(fsvc.open(tmp_path / "r"))
    assert not repository.verify().ok


def test_no_columns_make_no_billions_of_groups(tmp_path: Path) -> None:
    repository = fsvc.init(tmp_path / "r", author="Test")
    honest = repository.commit({"t": pa.table({})}, message="m").snapshot("t").manifest
    count = 1 << 20
    commit_manifest(repository, replace(honest, rows=(1,) * count, chunks=np.zeros((0, count, 48), np.uint8)))
    with pytest.raises(Corruption, match="without a column"):
        fsvc.open(tmp_path / "r").snapshot("t").to_arrow()


@pytest.mark.parametrize(
    "time", ["", "yesterday", "2026-99-01T00:00:00.000000Z", "2026-11-01T00:00:00+00:00"]
)
def test_times_of_commits_and_refs_are_times(time: str, tmp_path: Path) -> None:
    repository = versions(tmp_path / "r", 1)
    refs = repository.store.refs
    head = repository.head()
    assert head is not None
    with pytest.raises(InvalidUse):
        refs.append("heads", "main", refs.head("heads", "main"), head.id, author="", reason="", time=time)
    forged = replace(head.record, parents=(head.id,), time=time)
    repository.store.storage.put_batch({commit_key(forged.id): forged.encoded})
    refs.append("heads", "main", refs.head("heads", "main"), forged.id, author="", reason="", time=TIME)
    for work in (Repository.log, lambda repository: repository.expire(last=1)):
        with pytest.raises(Corruption, match="no time in UTC"):
            work(fsvc.open(tmp_path / "r"))
