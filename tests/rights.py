"""Directories that may not be written, also where the tests run as one who may do anything."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """As an ordinary user. What is imported within must be imported already: not all may read our libraries."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def account(user: int, group: int, others: list[int], umask: int) -> Iterator[None]:
    """As a user in some groups, with a umask; only an administrator can. Imports: see :func:`without_rights`."""
    groups, mask = os.getgroups(), os.umask(umask)
    own_group = os.getegid()
    os.setgroups(others)
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(own_group)
        os.setgroups(groups)
        os.umask(mask)


@contextlib.contextmanager
def modes(root: Path, directories: int, files: int | None = None) -> Iterator[None]:
    """Give all directories below ``root``, and all files if a mode is given, another mode for a while."""
    found = [Path(folder) for folder, _, _ in os.walk(root)]
    if files is not None:
        for folder in found:
            for path in folder.iterdir():
                if path.is_file() and not path.is_symlink():
                    path.chmod(files)
    for folder in found:
        folder.chmod(directories)
    try:
        yield
    finally:
        for folder in found:
            folder.chmod(0o755)


@contextlib.contextmanager
def read_only(root: Path) -> Iterator[None]:
    """Nothing below ``root`` can be written: by its modes, or for one who may do anything, by a mount."""
    if os.geteuid() != 0:
        with modes(root, 0o555):
            yield
        return
    try:
        mount(["--bind", str(root), str(root)])
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing can be mounted here")
    try:
        mount(["-o", "remount,ro,bind", str(root)])
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)


def mount(options: list[str]) -> None:
    """Call mount. Raises OSError or CalledProcessError where that is not possible."""
    subprocess.run(["mount", *options], capture_output=True, check=True)
