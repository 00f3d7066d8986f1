"""Blame as users hold it: what became of a row, and which commits set its cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fsvc.errors import InvalidUse
from fsvc.snapshot import Commit

if TYPE_CHECKING:
    import pyarrow as pa

    from fsvc.engine.blame import Rows
    from fsvc.repository import Repository

__all__ = ["Blame", "CellOrigin", "RowVersion"]


@dataclass(frozen=True)
class RowVersion:
    """One change of one row.

    ``change`` is ``added``, ``changed`` or ``removed``, against the commit's first parent; ``version`` is that
    of the feature set in the commit, None where the commit has it not. ``before`` and ``after`` hold cells by
    the names of their columns, without the key: of a changed row those that differ, else the whole row.
    """

    commit: Commit
    version: int | None
    key: dict[str, Any]
    change: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True)
class CellOrigin:
    """A cell of a row as it is now, and the commit that last set it."""

    commit: Commit
    version: int
    key: dict[str, Any]
    column: str
    value: Any


class Blame:
    """The rows of a feature set with a key, or in a range of keys, through history."""

    def __init__(
        self, repository: Repository, name: str, head: Commit, key: Any, between: tuple[Any, Any] | None
    ) -> None:
        if (key is None) == (between is None):
            raise InvalidUse("either a key is wanted or what lies between two", hint="give one of them")
        self._repository = repository
        self.name = name
        self.head = head
        self._key = key
        self._between = between

    def __repr__(self) -> str:
        what = self._key if self._between is None else f"{self._between[0]}..{self._between[1]}"
        return f"<Blame {self.name} {what!r}>"

    @cached_property
    def _rows(self) -> Rows:
        from fsvc.engine.blame import KeyRange, row_history

        if self._between is not None:
            wanted: Any = KeyRange(*self._between)
        else:
            wanted = self._key if isinstance(self._key, tuple) else (self._key,)
        return row_history(self._repository.store, self.name, self.head.id, wanted, values=_values)

    @property
    def is_cut_short(self) -> bool:
        """Whether a version was met so far that expired or was erased: what became of the rows before is not told."""
        return self._rows.is_cut_short

    def versions(self, limit: int | None = None) -> list[RowVersion]:
        """Every change of the rows, newest first: when they appeared, what changed, when they went.

        With ``limit`` the newest ones, for which no more of history is read than it takes to find them.
        """
        return [
            RowVersion(
                Commit(self._repository.store, found.commit, found.record),
                found.version,
                found.key,
                found.change,
                found.before,
                found.after,
            )
            for found in self._rows.versions(limit)
        ]

    def commits(self, limit: int | None = None) -> list[Commit]:
        """The commits that changed any of the rows, newest first; with ``limit``, found as in :meth:`versions`."""
        return [Commit(self._repository.store, *found) for found in self._rows.commits(limit)]

    def cells(self) -> list[CellOrigin]:
        """For every cell of the rows as they are now, the commit that last set it."""
        return [
            CellOrigin(
                Commit(self._repository.store, found.commit, found.record),
                found.version,
                found.key,
                found.column,
                found.value,
            )
            for found in self._rows.origins()
        ]


def _values(array: pa.Array) -> list[Any]:
    """Cells as Python objects; those that Python has no class for as Arrow scalars."""
    found = []
    for scalar in array:
        try:
            found.append(scalar.as_py())
        except (ValueError, OverflowError, KeyError):
            found.append(scalar)
    return found
