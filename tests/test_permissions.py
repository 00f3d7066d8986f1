"""Files and directories get the rights that the umask leaves, and groups that share a repository stay together."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rights import account

import fsvc
from fsvc.errors import StorageError
from fsvc.workspace import Workspace

ADA, BOB, GROUP = 31001, 31002, 32000


def table(seed: int) -> pa.Table:
    return pa.table({"id": np.arange(3000), "x": np.random.default_rng(seed).random(3000)})


def changed(table: pa.Table) -> pa.Table:
    x = table["x"].to_numpy().copy()
    x[::100] = 7
    return table.set_column(1, "x", pa.array(x))


def everything(root: Path) -> None:
    """All that writes: a workspace, commits, refs, working files, packs put together, deletions, thawed chunks."""
    space = Workspace.init(root)
    pq.write_table(table(1), root / "t.parquet")
    repository = space.repository
    commit = repository.commit({"t": root / "t.parquet"}, key="id", message="1")
    space.record(root / "t.parquet", commit.snapshot("t"))
    space.switch("dev", create=True)
    repository.commit({"t": changed(table(1))}, message="2", branch="dev")
    repository.tag("gold")
    space.checkout("dev")
    repository.sql("select sum(x) from t@dev").fetchall()
    repository.snapshot("t@dev").write_arrow(root / "t.arrow")
    repository.snapshot("t@dev").write_csv(root / "t.csv")
    repository.repack()
    repository.gc(delete=True)
    repository.verify(deep=True)


@pytest.fixture
def mask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("mask")
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077])
def test_rights_are_those_that_the_umask_leaves(light_path: Path, umask: int) -> None:
    os.umask(umask)
    root = light_path / "workspace"
    everything(root)
    found = [root, *root.rglob("*")]
    assert any(".cache" in path.parts for path in found) and len(found) > 15
    for path in found:
        mode = stat.S_IMODE(path.stat().st_mode)
        written_once = path.is_file() and "repository" in path.parts and ".cache" not in path.parts
        wanted = 0o777 if path.is_dir() else 0o444 if written_once else 0o666
        assert mode == wanted & ~umask, (path, oct(mode))


@pytest.mark.usefixtures("mask")
def test_a_directory_of_a_group_stays_one(light_path: Path) -> None:
    root = light_path / "workspace"
    root.mkdir()
    os.chmod(root, 0o2775)
    if os.geteuid() == 0:
        os.chown(root, -1, GROUP)
    group = root.stat().st_gid
    os.umask(0o002)
    everything(root)
    for path in root.rglob("*"):
        assert path.stat().st_gid == group, path
        assert not path.is_dir() or stat.S_IMODE(path.stat().st_mode) == 0o2775, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only an administrator can be two users")
def test_two_users_of_a_group_work_in_one_repository(light_path: Path) -> None:
    light_path.chmod(0o755)
    everything(light_path / "first")  # what is imported on the way is imported now
    root = light_path / "shared"
    root.mkdir()
    os.chown(root, ADA, GROUP)
    os.chmod(root, 0o2775)

    def work(number: int) -> None:
        repository = fsvc.open(root / "repository", author=f"user {os.geteuid()}")
        for other in range(2):
            repository.commit({f"t{other}": table(number)}, message=str(number))
        repository.tag(f"tag-{number}")
        repository.repack(grace=0)
        repository.gc(delete=True, grace=0)
        assert repository.verify(deep=True).ok

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with account(ADA, ADA, [GROUP], 0o002):
            fsvc.init(root / "repository")
        for number in range(4):
            user = (ADA, BOB)[number % 2]
            with account(user, user, [GROUP], 0o002):
                work(number)
    with account(BOB, BOB, [GROUP], 0o002):
        authors = [commit.author for commit in fsvc.open(root / "repository").log("t0")]
    assert authors == [f"user {user}" for user in (BOB, ADA) * 2]
    owners = {path.stat().st_uid for path in root.rglob("*") if path.is_file()}
    assert owners == {ADA, BOB} and {path.stat().st_gid for path in root.rglob("*")} == {GROUP}
    # Who keeps the group out by the umask has the directories for himself, and the others are told.
    with account(ADA, ADA, [GROUP], 0o022):
        fsvc.init(root / "own")
    with account(BOB, BOB, [GROUP], 0o002):
        with pytest.warns(fsvc.errors.OwnershipWarning, match=f"belongs to user {ADA}"):
            own = fsvc.open(root / "own")
        with pytest.raises(StorageError, match="permission denied"):
            own.commit({"t": table(9)}, message="m")
