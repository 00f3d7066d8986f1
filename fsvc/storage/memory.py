"""A store in memory: the contract with nothing else, for tests and scratch repositories."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fsvc.errors import Corruption, InvalidUse, KeyAbsent, KeyExists
from fsvc.storage.contract import Entry, byte_views, check_key, check_prefix, check_range

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fsvc.storage.contract import Data

__all__ = ["MemoryStorage"]


class MemoryStorage:
    """Keys in a dict, gone with the process. Implements :class:`~fsvc.storage.contract.Storage`.

    ``clock`` gives seconds from any start; ages are measured with it. There is no lock:
    each method touches the dict in one step that the interpreter makes atomic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._items: dict[str, tuple[bytes, float]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        raise InvalidUse("what is in the memory of one process cannot be handed to another one")

    @property
    def location(self) -> str:
        """See :attr:`Storage.location`."""
        return "memory"

    @property
    def cache_directory(self) -> str | None:
        """See :attr:`Storage.cache_directory`."""
        return None

    def get(self, key: str) -> bytes:
        """See :meth:`Storage.get`."""
        return self._item(key)[0]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See :meth:`Storage.get_range`."""
        check_range(start, length)
        data = self._item(key)[0]
        if start + length > len(data):
            raise Corruption(f"{key} in memory is truncated: no {length} bytes at {start} in {len(data)}")
        return data[start : start + length]

    def put_if_absent(self, key: str, data: Data) -> None:
        """See :meth:`Storage.put_if_absent`."""
        check_key(key)
        item = (b"".join(byte_views(data)), self._clock())
        if self._items.setdefault(key, item) is not item:
            raise KeyExists(f"{key} exists already in memory")

    def put_batch(self, items: Mapping[str, Buffer]) -> None:
        """See :meth:`Storage.put_batch`."""
        for key in items:
            check_key(key)
        for key, data in items.items():
            self._items.setdefault(key, (b"".join(byte_views(data)), self._clock()))

    def list(self, prefix: str) -> Iterator[Entry]:
        """See :meth:`Storage.list`."""
        check_prefix(prefix)
        items = self._items.copy()
        return (Entry(key, len(data)) for key, (data, _) in items.items() if key.startswith(prefix))

    def keys(self, prefix: str) -> Iterator[str]:
        """See :meth:`Storage.keys`."""
        check_prefix(prefix)
        return (key for key in self._items.copy() if key.startswith(prefix))

    def size(self, key: str) -> int:
        """See :meth:`Storage.size`."""
        return len(self._item(key)[0])

    def age(self, key: str) -> float:
        """See :meth:`Storage.age`."""
        return max(0.0, self._clock() - self._item(key)[1])

    def sweep(self, older: float, *, delete: bool) -> int:
        """See :meth:`Storage.sweep`: nothing is ever half written here."""
        del older, delete
        return 0

    def delete(self, key: str) -> None:
        """See :meth:`Storage.delete`."""
        check_key(key)
        self._items.pop(key, None)

    def settle(self, prefix: str) -> None:
        """See :meth:`Storage.settle`: nothing comes back here."""
        check_prefix(prefix)

    def _item(self, key: str) -> tuple[bytes, float]:
        item = self._items.get(key)
        if item is None:
            check_key(key)
            raise KeyAbsent(f"{key} is not in memory")
        return item
