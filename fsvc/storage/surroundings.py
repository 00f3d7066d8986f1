"""What the system tells of the place where a store lies: who else may write there, and on what it lies.

Facts in words; nothing is refused because of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection

__all__ = ["network_file_system", "network_type", "who_else_writes"]

_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "beegfs", "gpfs", "gfs2", "ocfs2"),
        *("pvfs2", "glusterfs", "davfs", "virtiofs", "vboxsf", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph"),
        *("fuse.ceph-fuse", "fuse.s3fs", "fuse.gcsfuse", "fuse.goofys", "fuse.rclone", "fuse.juicefs", "fuse.mfs"),
        *("fuse.mount-s3", "fuse.mountpoint-s3", "fuse.blobfuse", "fuse.blobfuse2", "fuse.davfs", "fuse.smbnetfs"),
    }
)  # fmt: skip
"""File systems whose files are on another machine, or are shared with one, as the mount table calls them."""


def who_else_writes(
    path: str, status: os.stat_result, *, user: int, groups: Collection[int] = ()
) -> str | None:
    """A sentence on who else than ``user`` decides what is in a directory; None where nobody has to be named.

    That is another owner, and everybody where everybody may write. An administrator (user 0) may write
    everywhere and is not named, nor is the owner of a directory in which one of ``groups`` writes together.
    """
    if status.st_mode & stat.S_IWOTH:
        return f"everybody on this machine may change what is in {path}; 'chmod -R o-w' keeps others out"
    shared = status.st_mode & stat.S_IWGRP and status.st_gid in groups
    if status.st_uid in (0, user) or shared:
        return None
    return (
        f"{path} belongs to {_name(status.st_uid)}, who decides what is in it; use it only if you trust them"
    )


def _name(user: int) -> str:
    try:
        import pwd

        return f"user {pwd.getpwuid(user).pw_name}"
    except (ImportError, KeyError):
        return f"user {user}"


def network_type(mountinfo: str, device: int) -> str | None:
    """The type of the network file system that a device number is; None for local ones and unknown numbers.

    ``mountinfo`` is the text of Linux's /proc/self/mountinfo, ``device`` what stat gives as ``st_dev``.
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        # Between the options and the type there are any number of optional fields, and a hyphen.
        if len(fields) > 2 and fields[2] == number and "-" in fields[6:]:
            kind = fields[fields.index("-", 6) + 1 :][:1]
            return kind[0] if kind and kind[0] in _NETWORK else None
    return None


def network_file_system(path: str) -> str | None:
    """The type of the network file system that a path lies on; None for a local one, and where nobody knows."""
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return network_type(file.read(), device)
    except OSError:
        return None
