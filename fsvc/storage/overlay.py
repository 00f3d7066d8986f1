"""A store that lies over another one: what is written stays above, what is read may come from below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fsvc.errors import InvalidUse, KeyAbsent, KeyExists
from fsvc.storage.contract import Entry, Storage

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fsvc.storage.contract import Data

__all__ = ["OverlayStorage"]


class OverlayStorage:
    """A store whose keys are those of two: nothing is ever written to the one ``below``.

    So a repository can be tried out and forgotten: all that was added is in ``above``. Implements
    :class:`~fsvc.storage.contract.Storage`, but deletes only what lies above.
    """

    def __init__(self, below: Storage, above: Storage) -> None:
        self._below = below
        self._above = above

    def __reduce__(self) -> tuple[Any, ...]:
        raise InvalidUse(
            "a table that is not committed cannot be handed to another process", hint="commit it first"
        )

    @property
    def location(self) -> str:
        """See :attr:`Storage.location`."""
        return self._below.location

    @property
    def cache_directory(self) -> str | None:
        """See :attr:`Storage.cache_directory`."""
        return self._below.cache_directory

    def get(self, key: str) -> bytes:
        """See :meth:`Storage.get`."""
        try:
            return self._above.get(key)
        except KeyAbsent:
            return self._below.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See :meth:`Storage.get_range`."""
        try:
            return self._above.get_range(key, start, length)
        except KeyAbsent:
            return self._below.get_range(key, start, length)

    def put_if_absent(self, key: str, data: Data) -> None:
        """See :meth:`Storage.put_if_absent`."""
        if self._is_below(key):
            raise KeyExists(f"{key} exists already in {self.location}")
        self._above.put_if_absent(key, data)

    def put_batch(self, items: Mapping[str, Buffer]) -> None:
        """See :meth:`Storage.put_batch`."""
        self._above.put_batch({key: data for key, data in items.items() if not self._is_below(key)})

    def list(self, prefix: str) -> Iterator[Entry]:
        """See :meth:`Storage.list`."""
        seen = set()
        for entry in self._above.list(prefix):
            seen.add(entry.key)
            yield entry
        for entry in self._below.list(prefix):
            if entry.key not in seen:
                yield entry

    def keys(self, prefix: str) -> Iterator[str]:
        """See :meth:`Storage.keys`."""
        return iter({**dict.fromkeys(self._above.keys(prefix)), **dict.fromkeys(self._below.keys(prefix))})

    def size(self, key: str) -> int:
        """See :meth:`Storage.size`."""
        try:
            return self._above.size(key)
        except KeyAbsent:
            return self._below.size(key)

    def age(self, key: str) -> float:
        """See :meth:`Storage.age`."""
        try:
            return self._above.age(key)
        except KeyAbsent:
            return self._below.age(key)

    def sweep(self, older: float, *, delete: bool) -> int:
        """See :meth:`Storage.sweep`."""
        return self._above.sweep(older, delete=delete)

    def delete(self, key: str) -> None:
        """See :meth:`Storage.delete`. Raises InvalidUse for what lies below."""
        if self._is_below(key):
            raise InvalidUse(f"{key} lies in a store that is not written to")
        self._above.delete(key)

    def settle(self, prefix: str) -> None:
        """See :meth:`Storage.settle`."""
        self._above.settle(prefix)

    def _is_below(self, key: str) -> bool:
        try:
            self._below.size(key)
        except KeyAbsent:
            return False
        return True
