"""A loader of training data in the manner of PyTorch: a dataset that workers read by number, each in a process."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pyarrow as pa

from fsvc.snapshot import Snapshot


class RowGroups:
    """A dataset in the map style: ``dataset[i]`` is a row group. Workers inherit it, or get it pickled."""

    def __init__(self, snapshot: Snapshot, columns: list[str] | None = None) -> None:
        self.snapshot = snapshot
        self.columns = columns

    def __len__(self) -> int:
        return self.snapshot.num_row_groups

    def __getitem__(self, number: int) -> pa.RecordBatch:
        (batch,) = self.snapshot.to_batches(self.columns, groups=[number])
        return batch


class Shares:
    """A dataset in the iterable style: each worker gives its share of the row groups, and asks DuckDB too."""

    def __init__(self, repository: Any, address: str) -> None:
        self.repository = repository
        self.address = address

    def share(self, worker: int, workers: int) -> list[pa.RecordBatch]:
        snapshot = self.repository.snapshot(self.address)
        counted = self.repository.sql(f"select count(*) from {self.address}").fetchall()
        assert counted == [(snapshot.num_rows,)]
        return list(snapshot.to_batches(groups=range(worker, snapshot.num_row_groups, workers)))


def _by_number(dataset: RowGroups, numbers: Any, results: Any) -> None:
    for number in iter(numbers.get, None):
        results.put((number, dataset[number]))


def _by_share(dataset: Shares, worker: int, workers: int, results: Any) -> None:
    results.put((worker, dataset.share(worker, workers)))


def load(dataset: RowGroups, method: str, workers: int = 2) -> list[pa.RecordBatch]:
    """All items of a dataset, read by processes that were started in one of multiprocessing's ways."""
    context: Any = multiprocessing.get_context(method)
    numbers, results = context.Queue(), context.Queue()
    started = [context.Process(target=_by_number, args=(dataset, numbers, results)) for _ in range(workers)]
    for process in started:
        process.start()
    for number in [*range(len(dataset)), *[None] * workers]:
        numbers.put(number)
    found = dict(results.get(timeout=30) for _ in range(len(dataset)))
    _end(started)
    return [found[number] for number in range(len(dataset))]


def load_shares(dataset: Shares, method: str, workers: int = 2) -> dict[int, list[pa.RecordBatch]]:
    """The shares of all workers."""
    context: Any = multiprocessing.get_context(method)
    results = context.Queue()
    started = [
        context.Process(target=_by_share, args=(dataset, worker, workers, results))
        for worker in range(workers)
    ]
    for process in started:
        process.start()
    found = dict(results.get(timeout=30) for _ in started)
    _end(started)
    return found


def _end(started: list[Any]) -> None:
    for process in started:
        process.join(60)
        assert process.exitcode == 0
