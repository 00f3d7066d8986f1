"""Where a repository lies: somebody else's place, everybody's, and network file systems are pointed out."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pyarrow as pa
import pytest
from rights import NOBODY

import fsvc
from fsvc.errors import NetworkFileSystemWarning, OwnershipWarning
from fsvc.storage import surroundings
from fsvc.storage.local import LocalStorage
from fsvc.storage.surroundings import network_type, who_else_writes

ROWS = pa.table({"x": [1, 2, 3]})
MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
31 27 0:40 / /data rw,relatime shared:5 master:2 - nfs4 server:/data rw,vers=4.2
32 27 0:41 / /my\040share rw - cifs //server/share rw,vers=3.1.1
33 27 0:42 / /remote rw,nosuid,nodev - fuse.sshfs ada@server:/ rw,user_id=1000
34 27 0:43 / /host rw - 9p drvfs rw
35 27 0:44 / /scratch rw - lustre 10.0.0.1@tcp:/scratch rw
36 27 0:45 / /ceph rw - ceph 10.0.0.2:/ rw
37 27 0:46 / /disk rw - fuse.ntfs-3g /dev/sdb1 rw
38 27 0:47 / /tmp rw - tmpfs tmpfs rw
39 27 0:48 / /cut
40 27 0:49 / /cut rw -
41 27 0:50 / /odd rw x:- - nfs server:/- rw
not a line of it at all
"""


def test_network_file_systems_are_known_by_the_mount_table() -> None:
    found = {minor: network_type(MOUNTS, os.makedev(0, minor)) for minor in (21, *range(40, 52))}
    assert {minor: kind for minor, kind in found.items() if kind} == {
        40: "nfs4",
        41: "cifs",
        42: "fuse.sshfs",
        43: "9p",
        44: "lustre",
        45: "ceph",
        50: "nfs",
    }
    assert network_type(MOUNTS, os.makedev(259, 1)) is None
    assert network_type("", 5) is None


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="only Linux has such a mount table")
def test_a_local_directory_lies_on_no_network_file_system(light_path: Path) -> None:
    assert surroundings.network_file_system(str(light_path)) is None
    assert surroundings.network_file_system(str(light_path / "none")) is None


def test_the_first_write_to_a_network_file_system_says_what_is_not_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsvc.init(tmp_path / "repository").commit({"t": ROWS}, message="m")
    monkeypatch.setattr(surroundings, "network_file_system", lambda path: "nfs4" if path else None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repository = fsvc.open(tmp_path / "repository")
        assert repository.snapshot("t").to_arrow().equals(ROWS), "reading is as safe as anywhere"
    with pytest.warns(NetworkFileSystemWarning, match=r"network file system \(nfs4\).*two.writers"):
        repository.tag("gold")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repository.tag("silver")  # told once
    with pytest.warns(NetworkFileSystemWarning):
        LocalStorage(tmp_path / "other", create=True).put_batch({"a": b"1"})


def status(mode: int, user: int, group: int) -> os.stat_result:
    return os.stat_result((0o040000 | mode, 1, 1, 1, user, group, 0, 0, 0, 0))


def test_who_else_may_write_is_named() -> None:
    def told(mode: int, owner: int, group: int = 50, groups: tuple[int, ...] = (50,)) -> str:
        return who_else_writes("/r", status(mode, owner, group), user=1000, groups=groups) or ""

    assert told(0o755, 1000) == "" and told(0o700, 1000) == "" and told(0o770, 1000) == ""
    assert told(0o755, 0) == "", "an administrator may write everywhere"
    assert "/r belongs to user 98761" in told(0o755, 98761)
    assert told(0o2775, 98761) == "", "a group of ours writes there together"
    assert "belongs to" in told(0o2775, 98761, groups=(7,))
    assert "belongs to" in told(0o2755, 98761), "the group may only read"
    for owner in (0, 1000, 98761):
        assert "everybody" in told(0o757, owner)


def test_ones_own_repository_is_not_pointed_out(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fsvc.init(tmp_path / "repository").commit({"t": ROWS}, message="m")
        fsvc.open(tmp_path / "repository").snapshot("t").to_arrow()


def test_a_repository_that_everybody_may_write_to_is_pointed_out(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    fsvc.init(root)
    root.chmod(0o777)
    with pytest.warns(OwnershipWarning, match=f"everybody on this machine may change what is in {root}"):
        fsvc.open(root)
    program = "import sys; from fsvc.cli import main; main(sys.argv[1:])"
    for words in (["log"], ["stats", "--json"], ["verify"]):
        command = [sys.executable, "-c", program, "--repo", str(root), *words]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = [line for line in ran.stderr.splitlines() if "everybody" in line]
        assert len(lines) == 1 and lines[0].startswith("warning: ")
        assert "everybody" not in ran.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only an administrator can give a directory away")
def test_a_repository_of_somebody_else_is_pointed_out(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    fsvc.init(root)
    os.chown(root, NOBODY, NOBODY)
    with pytest.warns(OwnershipWarning, match=f"{root} belongs to user"):
        fsvc.open(root)


def test_a_workspace_that_others_may_point_elsewhere_is_pointed_out(tmp_path: Path) -> None:
    from fsvc.workspace import Workspace

    (tmp_path / "here").mkdir()
    Workspace.init(tmp_path / "here", tmp_path / "repository")
    (tmp_path / "here" / ".fsvc").chmod(0o777)
    with pytest.warns(OwnershipWarning, match="everybody.*here/.fsvc;"):
        fsvc.open(tmp_path / "here")
