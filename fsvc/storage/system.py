"""The calls to the operating system that a local store makes, gathered in one class.

A test puts another class in its place: one that fails on command, or one that
records what was asked for and works out what a crash could leave behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

__all__ = ["TEMPORARY_PREFIX", "System"]

TEMPORARY_PREFIX = ".tmp-"
"""How the names of unfinished files start. No key starts with a dot, so they are never taken for one."""

_BUFFERS_PER_CALL = 1024  # IOV_MAX of Linux and macOS
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync does not reach the platter there
_RENAME_NOREPLACE = 1


class System:
    """Plain file operations. All raise OSError. Files and directories are file descriptors."""

    read = staticmethod(os.pread)
    """``read(file, length, offset) -> bytes``: at most ``length`` bytes; empty at the end."""

    status = staticmethod(os.fstat)
    """``status(file) -> os.stat_result`` of an open file."""

    stat = staticmethod(os.stat)
    """``stat(path) -> os.stat_result`` of what a path leads to."""

    def open_file(self, path: str) -> int:
        """Open a file for reading. Never blocks, not even on a pipe that somebody put there."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def scan(self, path: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        """Open an iterator over the entries of a directory, without ``.`` and ``..``."""
        return os.scandir(path)

    def open_directory(self, path: str) -> int:
        """Open a directory, to create files in it and to sync it."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)

    def make_directory(self, path: str) -> None:
        """Make one directory, with the rights that the umask leaves."""
        os.mkdir(path)

    def open_unnamed(self, directory: int) -> int:
        """Open a new file without a name for writing; a crash leaves nothing of it.

        Raises OSError (ENOTSUP) where the system or the file system has no such files, or
        where /proc is not there to give it a name later.
        """
        flag: int | None = getattr(os, "O_TMPFILE", None)
        if flag is None or not os.path.isdir("/proc/self/fd"):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        # Read-only for everybody: what is written once should not be edited by accident.
        return os.open(".", flag | os.O_WRONLY | os.O_CLOEXEC, 0o444, dir_fd=directory)

    def open_named(self, directory: int, name: str) -> int:
        """Open a new file of that name for writing; FileExistsError if the name is taken."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        return os.open(name, flags, 0o444, dir_fd=directory)

    def write(self, file: int, pieces: Sequence[memoryview]) -> None:
        """Append all of ``pieces`` (none of them empty) to an open file."""
        rest = list(pieces)
        first = 0
        while first < len(rest):
            written = os.writev(file, rest[first : first + _BUFFERS_PER_CALL])
            if written <= 0:
                raise OSError(errno.EIO, "a write wrote nothing")
            while first < len(rest) and written >= len(rest[first]):
                written -= len(rest[first])
                first += 1
            if written:
                rest[first] = rest[first][written:]

    def sync(self, file: int) -> None:
        """Force a file's bytes, or a directory's names, to the disk."""
        if _FULL_SYNC is not None:
            try:
                fcntl.fcntl(file, _FULL_SYNC)
                return
            except OSError as error:  # any other failure is final: asked again, the system would call it done
                if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY):
                    raise
        os.fsync(file)

    def link_unnamed(self, file: int, directory: int, name: str) -> None:
        """Give an unnamed file its name; FileExistsError if it is taken."""
        # dst_dir_fd is what makes CPython call linkat, which follows the link in /proc.
        os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=directory, follow_symlinks=True)

    def link(self, directory: int, temporary: str, name: str) -> None:
        """Give a file a second name in the same directory; FileExistsError if it is taken."""
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)

    def rename(self, directory: int, temporary: str, name: str) -> None:
        """Rename a file within a directory; FileExistsError if the new name is taken."""
        try:
            call = ctypes.CDLL(None, use_errno=True).renameat2
        except (OSError, AttributeError):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP)) from None
        old, new = os.fsencode(temporary), os.fsencode(name)
        if call(directory, old, directory, new, ctypes.c_uint(_RENAME_NOREPLACE)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def unlink(self, path: str) -> None:
        """Remove a name."""
        os.unlink(path)

    def unlink_in(self, directory: int, name: str) -> None:
        """Remove a name from an open directory."""
        os.unlink(name, dir_fd=directory)

    def close(self, file: int) -> None:
        """Close an open file or directory."""
        os.close(file)

    def clock(self, path: str) -> float:
        """Give the time by the clock of the file system that holds the directory ``path``.

        It is that of the server where the file system is a remote one. Seconds since 1970.
        """
        name = f"{path}/{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            return os.fstat(file).st_mtime
        finally:
            os.close(file)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
