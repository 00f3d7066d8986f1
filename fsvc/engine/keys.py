"""Keys: no nulls, and no key twice, checked over all row groups of a table in bounded memory.

The writer has the row hashes of the key columns at hand, since they cut the rows. Rows with equal
keys have equal hashes, so only rows that share a hash with another row are ever looked at; their keys
are fetched and compared exactly. Groups that are shared with the parent snapshot were compared with
each other when the parent was committed, so only pairs with a new row in them are looked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.errors import InvalidUse, KeyViolation, StorageError
from fsvc.format.rowvalues import Counts, Words, is_extension, valid_rows

__all__ = ["KeyCheck", "null_key"]

Fetch = Callable[[int], list[pa.Array]]

_MEMORY_ROWS = 32_000_000
_BLOCK_ROWS = 4_000_000  # rows that are partitioned at a time when they are spilled
_BUCKETS = 256  # parts of a spilled block, by the highest byte of the hash
_SUSPECTS = 65_536  # hashes whose rows are compared at a time
_FIRST_LOOK = 262_144  # rows that are compared before all rows of equally many hashes are gathered
_TABLE_BITS = 25
_SHOWN_CHARACTERS = 80

_ROW_HINT = "Rows are counted from 0."


def null_key(columns: Sequence[pa.Array], names: Sequence[str], first_row: int) -> None:
    """Raise :class:`KeyViolation` for the first null in the key columns of a batch.

    ``columns`` are named by ``names``; ``first_row`` is the number of the batch's first row in the
    table. A NaN is a value like any other.
    """
    first: tuple[int, str] | None = None
    for column, name in zip(columns, names, strict=True):
        valid = valid_rows(column)
        if valid is None:
            continue
        row = int(np.argmin(valid))
        if not valid[row] and (first is None or row < first[0]):
            first = (row, name)
    if first is not None:
        raise KeyViolation(f"key column {first[1]!r} is null in row {first_row + first[0]:,}", hint=_ROW_HINT)


class KeyCheck:
    """Finds a key that stands in two rows of one table.

    Add each row group once, in any order, then :meth:`finish`. Up to ``memory_rows`` hashes (8 bytes
    each) are held in memory, and about as many again while finishing; beyond that they go to a
    temporary file in ``folder`` (the system's own if None) that has no name and so never outlives the
    process. Not for use by several threads at once. A context manager, which drops that file.
    """

    def __init__(
        self, names: Sequence[str], *, memory_rows: int = _MEMORY_ROWS, folder: str | None = None
    ) -> None:
        if not names:
            raise InvalidUse("a key has at least one column")
        if memory_rows < 1:
            raise InvalidUse("keys cannot be checked without any memory")
        self._names = tuple(names)
        self._memory_rows = memory_rows
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._new = _Side()
        self._known = _Side()
        self._rows: dict[int, int] = {}  # rows of each group
        self._seen: set[tuple[int, int, int, int]] = set()

    def __enter__(self) -> KeyCheck:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the memory and the temporary file; harmless if repeated."""
        self._new, self._known = _Side(), _Side()
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, hashes: Words, group: int, known: bool) -> None:
        """Add the row hashes of the key columns of row group ``group`` (numbered from 0 in row order).

        ``known`` says that all key columns of the group are those of one group of the parent snapshot,
        so that its keys are unique, among themselves and among the other known groups.
        Raises :class:`InvalidUse` for a group added before, :class:`StorageError` if the temporary
        file cannot be written.
        """
        if group in self._rows:
            raise InvalidUse(f"row group {group} was added before")
        self._rows[group] = len(hashes)
        if not len(hashes):
            return
        if known:
            # A group of the parent that stands in the table twice is known, yet repeats its keys.
            trait = (len(hashes), int(hashes[0]), int(hashes[-1]), int(hashes.sum()))
            known = trait not in self._seen
            self._seen.add(trait)
        (self._known if known else self._new).append(group, hashes)
        if self._new.held_rows + self._known.held_rows > self._memory_rows:
            self._spill()

    def finish(self, fetch: Fetch) -> None:
        """Raise :class:`KeyViolation` if any key stands in two rows, naming one such key and its rows.

        ``fetch(group)`` gives the key columns of a group, in the order of the names; it is called for
        groups with equal hashes only, and the columns of one group are held at a time.
        """
        try:
            if not self._new.rows:
                return
            if self._file is not None:
                self._spill()
            for buckets in self._bucket_ranges():
                self._check(buckets, fetch)
        finally:
            self.close()

    def _spill(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="fsvc-keys-", dir=self._folder)  # noqa: SIM115
            self._new.spill(self._file)
            self._known.spill(self._file)
        except OSError as error:
            raise StorageError(
                f"the temporary file for checking keys cannot be written: {error.strerror or error}",
                hint="Free some space for temporary files, or point TMPDIR to a larger disk.",
            ) from error

    def _bucket_ranges(self) -> Iterator[range]:
        """Ranges of buckets that hold no more new rows than fit in memory (or are a single bucket)."""
        if self._file is None:
            yield range(_BUCKETS)
            return
        counts = self._new.bucket_rows()
        first, rows = 0, 0
        for bucket in range(_BUCKETS):
            if rows and rows + counts[bucket] > self._memory_rows:
                yield range(first, bucket)
                first, rows = bucket, 0
            rows += int(counts[bucket])
        yield range(first, _BUCKETS)

    def _check(self, buckets: range, fetch: Fetch) -> None:
        # Millions of rows with one key fill a single bucket. Then a memory full of them is proof enough;
        # all are taken together only if these were different keys, which nobody meets by accident.
        for at_most in (self._memory_rows, None):
            hashes, all_taken = self._new.hashes(self._file, buckets, at_most)
            suspects = self._suspects(hashes, buckets)
            del hashes
            for first in range(0, len(suspects), _SUSPECTS):
                self._check_suspects(_HashSet(suspects[first : first + _SUSPECTS]), buckets, fetch)
            if all_taken:
                return

    def _suspects(self, hashes: Words, buckets: range) -> Words:
        """The hashes that stand in two rows, one of them new, in order."""
        hashes.sort()
        suspects = [hashes[1:][hashes[1:] == hashes[:-1]]]
        if self._known.rows:
            new = _HashSet(hashes)
            suspects += [
                part.hashes[new.find(part.hashes)] for part in self._known.parts(self._file, buckets)
            ]
        return np.unique(np.concatenate(suspects))

    def _check_suspects(self, suspects: _HashSet, buckets: range, fetch: Fetch) -> None:
        for at_most in (_FIRST_LOOK, None):
            groups: list[Counts] = []
            rows: list[Counts] = []
            taken, all_taken = 0, True
            for side in (self._new, self._known):
                for part in side.parts(self._file, buckets):
                    found = suspects.find(part.hashes)
                    if not len(found):
                        continue
                    if at_most is not None and taken + len(found) > at_most:
                        found = found[: at_most - taken]
                        all_taken = False
                    group, row = side.locate(part.ordinals(found))
                    groups.append(group)
                    rows.append(row)
                    taken += len(found)
                    if not all_taken:
                        break
                if not all_taken:
                    break
            self._compare(np.concatenate(groups), np.concatenate(rows), fetch)
            if all_taken:
                return

    def _compare(self, groups: Counts, rows: Counts, fetch: Fetch) -> None:
        """Compare the keys of the given rows with each other, exactly."""
        order = np.lexsort((rows, groups))
        groups, rows = groups[order], rows[order]
        numbers, first = np.unique(groups, return_index=True)
        pieces: list[list[pa.Array]] = [[] for _ in self._names]
        for group, start, stop in zip(numbers.tolist(), first, [*first[1:], len(groups)], strict=True):
            wanted = pa.array(rows[start:stop])
            for kept, column in zip(pieces, fetch(group), strict=True):
                kept.append(_comparable(column).take(wanted))

        # Number the distinct keys, column by column; the numbers stay below the number of rows.
        identity = np.zeros(len(groups), dtype=np.int64)
        for column_pieces in pieces:
            codes = pc.dictionary_encode(pa.concat_arrays(column_pieces), null_encoding="encode").indices
            values = codes.to_numpy(zero_copy_only=False).astype(np.int64)
            identity = np.unique(identity * len(groups) + values, return_inverse=True)[1]

        # Rows stand in table order, so of equal keys the stable sort leaves the first one in front.
        order = np.argsort(identity, kind="stable")
        again = order[1:][identity[order[1:]] == identity[order[:-1]]]
        if not len(again):
            return
        same = np.flatnonzero(identity == identity[again.min()])
        places = [self._first_row(int(groups[at])) + int(rows[at]) for at in same[:2]]
        key = self._shown(fetch(int(groups[same[0]])), int(rows[same[0]]))
        listed = f"{places[0]:,} and {places[1]:,}"
        often = f"twice (rows {listed})" if len(same) == 2 else f"more than twice (first in rows {listed})"
        raise KeyViolation(
            f"key {key} appears {often}",
            hint=f"{_ROW_HINT} Keep one row of each key, or choose key columns that tell the rows apart.",
        )

    def _first_row(self, group: int) -> int:
        return sum(rows for other, rows in self._rows.items() if other < group)

    def _shown(self, columns: list[pa.Array], row: int) -> str:
        values = [
            f"{name}={_show(column.slice(row, 1))}" for name, column in zip(self._names, columns, strict=True)
        ]
        return values[0] if len(values) == 1 else f"({', '.join(values)})"


# Hashes of many groups -------------------------------------------------------------------------------


class _HashSet:
    """Hashes in order, and a bit table that rules most others out without a search."""

    def __init__(self, hashes: Words) -> None:
        self._hashes = hashes
        bits = min((8 * len(hashes)).bit_length(), _TABLE_BITS)
        self._low = np.uint64((1 << bits) - 1)
        self._table = np.zeros(1 << bits, dtype=np.bool_)
        self._table[hashes & self._low] = True

    def find(self, hashes: Words) -> npt.NDArray[np.intp]:
        """The positions in ``hashes`` of those that are in the set."""
        maybe = np.flatnonzero(self._table[hashes & self._low])
        found: npt.NDArray[np.intp] = maybe[self._holds(hashes[maybe])]
        return found

    def common(self, hashes: Words) -> Words:
        """Those of ``hashes`` that are in the set, in order."""
        # Searching for sorted values walks through memory in one direction, many times as fast.
        maybe = np.sort(hashes[self._table[hashes & self._low]])
        return maybe[self._holds(maybe)]

    def _holds(self, hashes: Words) -> npt.NDArray[np.bool_]:
        if not len(self._hashes):
            return np.zeros(len(hashes), dtype=np.bool_)
        places = np.searchsorted(self._hashes, hashes)
        places[places == len(self._hashes)] = 0
        equal: npt.NDArray[np.bool_] = self._hashes[places] == hashes
        return equal


@dataclass(frozen=True, slots=True)
class _Part:
    """Some hashes, and where they are in the order of arrival: from ``start`` on, or as ``order`` says."""

    hashes: Words
    start: int
    order: npt.NDArray[np.uint32] | None = None

    def ordinals(self, places: npt.NDArray[np.intp]) -> Counts:
        return self.start + (places if self.order is None else self.order[places]).astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Block:
    """Spilled rows: at ``place`` in the file their hashes by bucket, then the order they came in.

    ``edges[b]`` to ``edges[b + 1]`` are the rows of bucket b; ``start`` is the ordinal of the block.
    """

    start: int
    place: int
    edges: Counts

    def part(self, file: IO[bytes], buckets: range) -> _Part:
        first, last = int(self.edges[buckets.start]), int(self.edges[buckets.stop])
        hashes = _read(file, self.place + 8 * first, last - first, "<u8")
        order = _read(file, self.place + 8 * int(self.edges[-1]) + 4 * first, last - first, "<u4")
        return _Part(hashes, self.start, order)


def _read(file: IO[bytes], place: int, count: int, dtype: str) -> npt.NDArray[Any]:
    size = count * np.dtype(dtype).itemsize
    try:
        file.seek(place)
        data = file.read(size)
    except OSError as error:
        raise StorageError(
            f"the temporary file for checking keys cannot be read: {error.strerror or error}"
        ) from error
    if len(data) != size:
        raise StorageError("the temporary file for checking keys lost its contents")
    return np.frombuffer(data, dtype=dtype)


class _Side:
    """The hashes of the new groups, or of the known ones, in the order in which they were added.

    A row's *ordinal* is its place in that order.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.held_rows = 0
        self._groups: list[int] = []
        self._starts: list[int] = []  # ordinal of the first row of each of the groups
        self._held: list[Words] = []
        self._blocks: list[_Block] = []

    def append(self, group: int, hashes: Words) -> None:
        self._groups.append(group)
        self._starts.append(self.rows)
        self._held.append(hashes.copy())  # the caller's may be a piece of a much larger array
        self.rows += len(hashes)
        self.held_rows += len(hashes)

    def spill(self, file: IO[bytes]) -> None:
        """Move what is in memory to the end of the file."""
        start = self.rows - self.held_rows
        gathered: list[Words] = []
        rows = 0
        self._held.reverse()
        while self._held:
            gathered.append(self._held.pop())
            rows += len(gathered[-1])
            if not self._held or rows + len(self._held[-1]) > _BLOCK_ROWS:
                self._blocks.append(_write_block(file, start, np.concatenate(gathered)))
                gathered.clear()
                start += rows
                rows = 0
        self.held_rows = 0

    def parts(self, file: IO[bytes] | None, buckets: range) -> Iterator[_Part]:
        """The hashes in the given buckets; all buckets, if there are rows in memory."""
        for block in self._blocks:
            assert file is not None
            yield block.part(file, buckets)
        start = self.rows - self.held_rows
        for hashes in self._held:
            yield _Part(hashes, start)
            start += len(hashes)

    def hashes(self, file: IO[bytes] | None, buckets: range, at_most: int | None) -> tuple[Words, bool]:
        """A copy of the hashes in the buckets, ``at_most`` so many; and whether these are all."""
        taken: list[Words] = []
        rows = 0
        for part in self.parts(file, buckets):
            hashes = part.hashes
            if at_most is not None and rows + len(hashes) > at_most:
                return np.concatenate([*taken, hashes[: at_most - rows]]), False
            taken.append(hashes)
            rows += len(hashes)
        return np.concatenate(taken), True

    def bucket_rows(self) -> Counts:
        """How many rows each bucket has, of those that are spilled."""
        total = np.zeros(_BUCKETS, dtype=np.int64)
        for block in self._blocks:
            total += np.diff(block.edges)
        return total

    def locate(self, ordinals: Counts) -> tuple[Counts, Counts]:
        """The groups of rows, and their places in these groups."""
        starts = np.array(self._starts, dtype=np.int64)
        index = np.searchsorted(starts, ordinals, side="right") - 1
        return np.array(self._groups, dtype=np.int64)[index], ordinals - starts[index]


def _write_block(file: IO[bytes], start: int, hashes: Words) -> _Block:
    bucket = (hashes >> np.uint64(56)).astype(np.uint8)
    order = np.argsort(bucket, kind="stable").astype("<u4")
    edges = np.zeros(_BUCKETS + 1, dtype=np.int64)
    np.cumsum(np.bincount(bucket, minlength=_BUCKETS), out=edges[1:])
    place = file.seek(0, 2)
    file.write(hashes[order].astype("<u8", copy=False).data)
    file.write(order.data)
    file.flush()
    return _Block(start, place, edges)


# Exact values ----------------------------------------------------------------------------------------


def _comparable(array: pa.Array) -> pa.Array:
    """The same keys in a type that compares bit by bit, and whose pieces can be joined."""
    if is_extension(array.type):
        return _comparable(array.storage)
    if pa.types.is_dictionary(array.type):
        return _comparable(array.dictionary).take(array.indices)
    if pa.types.is_floating(array.type):
        return array.view({2: pa.uint16(), 4: pa.uint32(), 8: pa.uint64()}[array.type.bit_width // 8])
    if pa.types.is_decimal(array.type):
        return array.view(pa.binary(array.type.byte_width))
    if pa.types.is_primitive(array.type) or pa.types.is_fixed_size_binary(array.type):
        return array
    # Strings and binaries of any layout; large, since pieces of many groups are joined.
    return array.cast(pa.large_binary())


def _show(value: pa.Array) -> str:
    """The one value of an array for a message, cut short if it is long."""
    try:
        shown = value[0].as_py()
    except (ValueError, OverflowError, KeyError, pa.ArrowException):
        # Not every value is one in Python: its dates end with the year 9999, strings may hold any
        # bytes, a time zone may be unknown here. Then show what is stored.
        stored = _comparable(value)
        if pa.types.is_temporal(stored.type):
            stored = stored.view(pa.int32() if stored.type.bit_width == 32 else pa.int64())
        shown = stored[0].as_py()
    text = repr(shown) if isinstance(shown, (str, bytes, bool, int, float)) else str(shown)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."
