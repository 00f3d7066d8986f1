"""What one word on the command line means: a commit, or a feature set's snapshot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fsvc.errors import FsvcError, InvalidName, InvalidRevision, NotFound

if TYPE_CHECKING:
    from fsvc.repository import Repository
    from fsvc.snapshot import Commit, Snapshot

__all__ = ["find", "find_snapshot"]


def find(repository: Repository, text: str | None) -> Commit | Snapshot:
    """The snapshot of ``NAME@REV``, the commit of ``REV``, or the current snapshot of ``NAME``.

    A revision goes before a feature set of the same name; nothing is the current branch's head.
    Raises NotFound where it is neither.
    """
    if text is None:
        return repository.resolve()
    if "@" in text:
        return repository.snapshot(text)
    try:
        return repository.resolve(text)
    except (NotFound, InvalidRevision) as error:
        head = repository.head()
        if head is not None and text in head.versions:
            return head.snapshot(text)
        from fsvc.format.names import nearest

        known = {*repository.branches(), *repository.tags(), *(head.versions if head else ())}
        base = re.split(r"[~^{]", text, maxsplit=1)[0]
        # Where the name is right it is the steps or the time that are not, and the error says so.
        near = nearest(base, sorted(known)) if base and base not in known else []
        if near and not isinstance(error, InvalidRevision):
            raise NotFound(_or_feature_set(error), hint=f"did you mean {near[0]!r}?") from None
        if isinstance(error, NotFound) and base not in known:
            hint = error.hint and error.hint.replace("see 'fsvc log'", "see 'fsvc ls', 'fsvc log'")
            raise NotFound(_or_feature_set(error), hint=hint) from None
        raise


def _or_feature_set(error: FsvcError) -> str:
    """What is said where a word could have been the name of a feature set as well."""
    return error.message.replace("branch, tag or commit", "branch, tag, commit or feature set")


def find_snapshot(repository: Repository, text: str) -> Snapshot:
    """The snapshot of ``NAME@REV`` or ``NAME``. Raises NotFound, and says so if ``text`` is a revision."""
    try:
        return repository.snapshot(text)
    except (NotFound, InvalidName) as error:
        if "@" not in text and (text in repository.branches() or text in repository.tags()):
            raise type(error)(error.message, hint=f"{text!r} is a revision; write NAME@{text}") from None
        raise
