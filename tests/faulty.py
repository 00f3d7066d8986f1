"""A store that behaves as badly as the contract allows, to put around a good one."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from fsvc.errors import StorageError
from fsvc.storage.contract import Entry, Storage, check_key, check_prefix

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fsvc.storage.contract import Data

Fault: TypeAlias = Literal["none", "fail", "lose"]


class FaultyStorage:
    """Wraps ``inner``: listings in random order, random delays, writes that fail or whose reply is lost.

    ``fail`` is the share of writes that fail before anything is written, ``lose`` the share that
    succeed and are then reported as failed, ``fail_reads`` the share of reads that fail; ``delay`` the
    longest pause before a call, in seconds. ``plan(...)`` names the faults of the next writes one by
    one, and comes before the shares. ``counts`` says how often each fault was dealt out.
    """

    def __init__(
        self,
        inner: Storage,
        *,
        seed: int = 0,
        fail: float = 0.0,
        lose: float = 0.0,
        fail_reads: float = 0.0,
        delay: float = 0.0,
    ) -> None:
        self.inner = inner
        self.fail = fail
        self.lose = lose
        self.fail_reads = fail_reads
        self.delay = delay
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._planned: deque[Fault] = deque()
        self._lock = threading.Lock()

    def plan(self, *faults: Fault) -> None:
        """Deal out these faults to the next writes (puts and deletes), in this order."""
        self._planned.extend(faults)

    @property
    def location(self) -> str:
        return self.inner.location

    @property
    def cache_directory(self) -> str | None:
        return self.inner.cache_directory

    def get(self, key: str) -> bytes:
        self._read("get")
        return self.inner.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self._read("get_range")
        return self.inner.get_range(key, start, length)

    def size(self, key: str) -> int:
        self._read("size")
        return self.inner.size(key)

    def age(self, key: str) -> float:
        self._read("age")
        return self.inner.age(key)

    def list(self, prefix: str) -> Iterator[Entry]:
        check_prefix(prefix)
        self._read("list")
        entries = list(self.inner.list(prefix))
        with self._lock:
            self._random.shuffle(entries)
        return iter(entries)

    def keys(self, prefix: str) -> Iterator[str]:
        return (entry.key for entry in self.list(prefix))

    def put_if_absent(self, key: str, data: Data) -> None:
        fault = self._write("put_if_absent")
        self.inner.put_if_absent(key, data)
        self._reply(fault, key)

    def put_batch(self, items: Mapping[str, Buffer]) -> None:
        for key in items:
            check_key(key)
        fault = self._write("put_batch")
        keys = list(items)
        with self._lock:
            self._random.shuffle(keys)
            # A batch that fails may have got anywhere.
            done = keys if fault != "partly" else keys[: self._random.randrange(len(keys) + 1)]
        self.inner.put_batch({key: items[key] for key in done})
        self._reply(fault, "a batch")

    def settle(self, prefix: str) -> None:
        self.inner.settle(prefix)

    def delete(self, key: str) -> None:
        fault = self._write("delete")
        self.inner.delete(key)
        self._reply(fault, key)

    def _read(self, call: str) -> None:
        self._pause()
        with self._lock:
            failed = self._random.random() < self.fail_reads
            self.counts[call] += 1
            self.counts["failed reads"] += failed
        if failed:
            raise StorageError(f"planted fault: {call} did not answer")

    def _write(self, call: str) -> str:
        """Decide the fault of a write; raise it if it comes before the write."""
        self._pause()
        with self._lock:
            fault: str
            if self._planned:
                fault = self._planned.popleft()
            else:
                draw = self._random.random()
                fault = "fail" if draw < self.fail else "lose" if draw < self.fail + self.lose else "none"
            if fault == "fail" and call == "put_batch":
                fault = "partly"
            self.counts[call] += 1
            self.counts[fault] += 1
        if fault == "fail":
            raise StorageError(f"planted fault: {call} did nothing")
        return fault

    def _reply(self, fault: str, what: str) -> None:
        if fault in ("lose", "partly"):
            raise StorageError(f"planted fault: the reply to writing {what} was lost")

    def _pause(self) -> None:
        if self.delay:
            with self._lock:
                seconds = self._random.random() * self.delay
            time.sleep(seconds)
