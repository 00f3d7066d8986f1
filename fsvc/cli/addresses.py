"""What one word on the command line means: a commit, or a feature set's snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsvc.errors import InvalidName, NotFound

if TYPE_CHECKING:
    from fsvc.repository import Repository
    from fsvc.snapshot import Commit, Snapshot

__all__ = ["find", "find_snapshot"]


def find(repository: Repository, text: str | None) -> Commit | Snapshot:
    """The snapshot of ``NAME@REV``, the commit of ``REV``, or the current snapshot of ``NAME``.

    A revision goes before a feature set of the same name; nothing is the current branch's head.
    Raises NotFound where it is neither.
    """
    return repository.find(text)


def find_snapshot(repository: Repository, text: str) -> Snapshot:
    """The snapshot of ``NAME@REV`` or ``NAME``. Raises NotFound, and says so if ``text`` is a revision."""
    try:
        return repository.snapshot(text)
    except (NotFound, InvalidName) as error:
        if "@" not in text and (text in repository.branches() or text in repository.tags()):
            raise type(error)(error.message, hint=f"{text!r} is a revision; write NAME@{text}") from None
        raise
