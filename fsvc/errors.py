"""The errors that fsvc raises, grouped by what a handler would do about them.

Every error is a sentence: what failed, on what. ``hint`` says what to do next.
The tree is flat on purpose: catch :class:`NotFound` to suggest another name,
:class:`Conflict` to retry on the new head, :class:`Corruption` to stop and repair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "CommitUnknown",
    "Conflict",
    "ConflictError",
    "Corruption",
    "ErasedError",
    "ExpectationError",
    "ExpiredError",
    "FsvcError",
    "FsvcWarning",
    "GoneError",
    "InvalidName",
    "InvalidRevision",
    "InvalidUse",
    "KeyAbsent",
    "KeyExists",
    "KeyViolation",
    "MergeConflict",
    "NetworkFileSystemWarning",
    "NoLineage",
    "NotAllowed",
    "NotFound",
    "OwnershipWarning",
    "SkewError",
    "StorageError",
    "TrackingError",
    "UnknownFormat",
    "UnreadableInput",
    "UnsupportedData",
]


class FsvcError(Exception):
    """The base of all errors of fsvc: a message for people, and optionally a hint."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(cls: type[FsvcError], args: tuple[Any, ...], state: dict[str, Any]) -> FsvcError:
    """Unpickle an error without calling its constructor, whose arguments differ by class."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidUse(FsvcError):
    """The call itself makes no sense: bad arguments, whatever the data."""


class InvalidName(InvalidUse):
    """A name of a feature set, branch or tag is not allowed."""


class InvalidRevision(InvalidUse):
    """A revision is not written in the grammar of revisions."""


class NotAllowed(FsvcError):
    """SQL from outside asked for more than a sandbox gives: files, settings, memory or time."""


class UnreadableInput(FsvcError):
    """A source cannot be read: missing, empty, broken, or of an unknown kind."""


class UnsupportedData(FsvcError):
    """A table holds something that cannot be kept exactly; the message names the column."""


class KeyViolation(FsvcError):
    """Key columns are absent, null or not unique; the message names an offending key."""


class ExpectationError(FsvcError):
    """A table does not meet the expectations of its feature set; nothing was committed.

    ``reports`` holds a report for each feature set that was checked, as JSON has it.
    """

    def __init__(
        self, message: str, *, reports: Sequence[Mapping[str, Any]] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.reports = list(reports)


class NotFound(FsvcError, LookupError):
    """A repository, feature set, revision or column does not exist."""


class GoneError(NotFound):
    """Data that were let go on purpose; nothing is damaged."""


class ErasedError(GoneError):
    """Data that were erased: the message says when and why. They do not come back."""


class ExpiredError(GoneError):
    """Data of an old version that a policy let go: the message says when."""


class NoLineage(NotFound):
    """A model does not say which data it was trained on."""


class SkewError(FsvcError):
    """Features are not of the form that a model was trained with; the message names the columns."""


class TrackingError(FsvcError):
    """MLflow's tracking server or registry cannot be reached, or refused."""


class Conflict(FsvcError):
    """Something else is already there, or was changed meanwhile."""


class ConflictError(Conflict):
    """Two writers changed the same feature set of a branch.

    ``ours`` is the commit that lost (its objects are stored, no ref points to it),
    ``theirs`` the commit that stands at the head.
    """

    def __init__(self, message: str, *, ours: str, theirs: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.ours = ours
        self.theirs = theirs


class MergeConflict(Conflict):
    """Both sides of a merge changed the same things in different ways; nothing was written.

    ``rows`` holds, by feature set, an Arrow table of the rows in conflict: ``key`` (struct), ``conflict``
    (``changed on both sides``, ``removed by ours``, ``removed by theirs`` or ``added on both sides``),
    ``columns`` (the columns concerned), and the row as ``base``, ``ours`` and ``theirs`` have it (structs
    without the key, null where there is no such row). ``reasons`` tells, by feature set, what cannot be
    merged as a whole: its schema, or a feature set without a key.
    """

    def __init__(
        self,
        message: str,
        *,
        rows: Mapping[str, Any] | None = None,
        reasons: Mapping[str, str] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.rows = dict(rows or {})
        self.reasons = dict(reasons or {})


class Corruption(FsvcError):
    """Stored bytes are damaged or missing; the message names the thing."""


class UnknownFormat(FsvcError):
    """The repository or file is of a format, or needs a feature, that this fsvc does not know."""


class StorageError(FsvcError):
    """The store refused or failed: full disk, permissions, input/output errors."""


class KeyAbsent(StorageError, LookupError):
    """A store has nothing under this key."""


class KeyExists(StorageError):
    """A store already has something under this key (put-if-absent lost)."""


class CommitUnknown(StorageError):
    """It cannot be known whether a ref entry was written; nothing was deleted.

    Read the branch again: the commit is there, or it can be made again.
    """


class FsvcWarning(UserWarning):
    """Something that was done, but not quite as the caller may think: a sentence for people."""


class OwnershipWarning(FsvcWarning):
    """A repository that is opened belongs to somebody else, or everybody may write to it."""


class NetworkFileSystemWarning(FsvcWarning):
    """What is written goes to a network file system, where less is promised."""
