"""What a store must do: bytes at keys, written once, never changed.

One primitive carries all concurrency: *put-if-absent*. Everything else that
fsvc promises about crashes and writers that race is built upon it, so a backend
is right when it passes the contract suite in ``tests/storage``.

Keys look like ``a/b/c``: components of ``A-Z a-z 0-9 . _ % -`` that do not start
with a dot, joined by single slashes. They mean the same on every backend, also
on a file system that ignores case or reserves names, as long as the caller keeps
to lower case. A key is never the directory of another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from fsvc.errors import InvalidUse

if TYPE_CHECKING:
    from typing_extensions import Buffer

    Data: TypeAlias = Buffer | Sequence[Buffer]

__all__ = [
    "LONGEST_KEY",
    "Entry",
    "Storage",
    "byte_views",
    "check_key",
    "check_prefix",
    "check_range",
    "is_component",
]

_COMPONENT = r"[A-Za-z0-9_%-][A-Za-z0-9._%-]{0,254}"
_KEY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
is_component = re.compile(_COMPONENT).fullmatch
"""Whether a text may stand between the slashes of a key."""
LONGEST_KEY = 900
"""Bytes of a key; object stores stop at 1024, and a repository has a prefix of its own there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored key and the number of bytes under it, as a listing gives them."""

    key: str
    size: int


class Storage(Protocol):
    """A store of immutable bytes. Instances may be used by several threads at once.

    Every method may raise :class:`~fsvc.errors.StorageError` when the store fails,
    and raises :class:`~fsvc.errors.InvalidUse` for a key that is not in the form above.
    """

    @property
    def location(self) -> str:
        """Where the store is, for messages to people. Never holds a secret."""

    @property
    def cache_directory(self) -> str | None:
        """A directory of this machine for what can be made anew at any time; None if there is no place.

        It need not exist, and may be deleted at any time. What is in it is no part of the store.
        """

    def get(self, key: str) -> bytes:
        """Give all the bytes under ``key``. Raises KeyAbsent."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Give exactly ``length`` bytes from offset ``start``.

        Raises KeyAbsent, and Corruption where fewer bytes are there. A key that was
        deleted a moment ago may still be readable; its bytes are what they were.
        """

    def put_if_absent(self, key: str, data: Data) -> None:
        """Write ``data`` under a key that nobody has written yet; durable on return.

        A sequence of buffers is written one after the other. Others see all of it or
        nothing. Of several writers of one key exactly one succeeds, the others get
        KeyExists (and what is there is durable then). After another StorageError the key may
        or may not be there: read it back. CommitUnknown means that it was there, but may not
        survive a crash.
        """

    def put_batch(self, items: Mapping[str, Buffer]) -> None:
        """Write many keys that are named by their content; all are durable on return.

        A key that exists already is left as it is (and made durable). After an error
        any part of the batch may be there.
        """

    def list(self, prefix: str) -> Iterator[Entry]:
        """Give every key below ``prefix`` (``"directory/"``, or ``""`` for all), in no order.

        Keys put or deleted meanwhile may or may not show; all the others do, or it raises.
        A prefix below which there is nothing gives nothing.
        """

    def keys(self, prefix: str) -> Iterator[str]:
        """Give the keys that :meth:`list` gives, alone: where sizes cost a call each, none is made."""

    def size(self, key: str) -> int:
        """Give the number of bytes under ``key``. Raises KeyAbsent."""

    def age(self, key: str) -> float:
        """Give the seconds since ``key`` was written, by the store's own clock, never negative.

        Raises KeyAbsent.
        """

    def sweep(self, older: float, *, delete: bool) -> int:
        """Give the bytes that killed writers left half written more than ``older`` seconds ago.

        No key leads to them. With ``delete`` they are deleted.
        """

    def delete(self, key: str) -> None:
        """Remove ``key``; it may be absent. A crash soon after may bring it back, unless :meth:`settle` comes first."""

    def settle(self, prefix: str) -> None:
        """Make durable what was deleted right below ``prefix`` (``"directory/"``): no crash brings it back."""


def check_key(key: str) -> None:
    """Raise InvalidUse unless ``key`` has the form that every store takes."""
    if not isinstance(key, str) or len(key) > LONGEST_KEY or _KEY.fullmatch(key) is None:
        raise InvalidUse(f"{key!r} is not a key that a store takes")


def check_prefix(prefix: str) -> None:
    """Raise InvalidUse unless ``prefix`` is empty or a key followed by a slash."""
    if prefix and not (isinstance(prefix, str) and prefix.endswith("/")):
        raise InvalidUse(f"{prefix!r} is not a prefix that a store takes: it must end with a slash")
    if prefix:
        check_key(prefix[:-1])


def check_range(start: int, length: int) -> None:
    """Raise InvalidUse for a negative offset or length."""
    if start < 0 or length < 0:
        raise InvalidUse(f"a range cannot start at {start} or have {length} bytes")


def byte_views(data: Data) -> list[memoryview]:
    """Give ``data`` as views of single bytes, without copying it; empty buffers are left out.

    Raises InvalidUse for what is neither a contiguous buffer nor a sequence of them.
    """
    try:
        views = [memoryview(data)]  # type: ignore[arg-type]
    except TypeError:
        try:
            views = [memoryview(buffer) for buffer in data]  # type: ignore[union-attr]
        except TypeError:
            raise InvalidUse(f"a store takes bytes, not {type(data).__name__}") from None
    if not all(view.c_contiguous for view in views):
        raise InvalidUse("a store takes contiguous buffers only")
    return [view.cast("B") for view in views if view.nbytes]
