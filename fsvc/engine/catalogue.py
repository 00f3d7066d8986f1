"""All objects of all index files side by side, copies included: what looking after a repository needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from fsvc.format import index
from fsvc.format.canonical import ADDRESS_BYTES, DIGEST_BYTES
from fsvc.format.index import Entry, ObjectTable

__all__ = ["Catalogue", "Flags", "Positions"]

Positions: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Flags: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"


_CROWD = 64
"""More addresses of one first word than that are looked for by the second one too."""


class Catalogue:
    """All objects of all index files as one sorted table; an address may be there several times.

    An object is known here by its number; ``bad`` and ``reached`` are flags by number.
    """

    def __init__(self, tables: Sequence[ObjectTable]) -> None:
        self.tables = tables
        self._starts = np.cumsum([0, *(len(table) for table in tables)])
        high = np.concatenate([np.empty(0, np.uint64), *(table.high for table in tables)])
        low = np.concatenate([np.empty(0, np.uint64), *(table.low for table in tables)])
        self._order = np.lexsort((low, high))
        self._high, self._low = high[self._order], low[self._order]
        self.bad: Flags = np.zeros(len(high), np.bool_)
        self.reached: Flags = np.zeros(len(high), np.bool_)
        self.proven: Flags = np.zeros(len(high), np.bool_)

    def __len__(self) -> int:
        return len(self._order)

    def table_of(self, number: int) -> int:
        """The position of the table that holds an object."""
        return int(np.searchsorted(self._starts, number, "right")) - 1

    def by_pack(self) -> dict[str, Positions]:
        """The objects of every pack, sorted by their places in it."""
        names = sorted({name for table in self.tables for name in table.packs})
        known = {name: i for i, name in enumerate(names)}
        packs = np.concatenate(
            [
                np.empty(0, np.int64),
                *(
                    np.array([known[name] for name in table.packs], np.int64)[table.pack_numbers]
                    for table in self.tables
                ),
            ]
        )
        offsets = np.concatenate([np.empty(0, np.uint64), *(table.offsets for table in self.tables)])
        order = np.lexsort((offsets, packs))
        edges = np.searchsorted(packs[order], np.arange(len(names) + 1))
        return {name: order[edges[i] : edges[i + 1]] for i, name in enumerate(names)}

    def find(self, addresses: bytes) -> list[tuple[Positions, Positions]]:
        """Where addresses are found: pairs of places in ``addresses`` and numbers, one pair per copy."""
        high, low = index.address_words(addresses)
        at = np.searchsorted(self._high, high, "left")
        end = np.searchsorted(self._high, high, "right")
        # Many of one first word are no accident: the steps below would be as many for each of them.
        for i in np.flatnonzero(end - at > _CROWD):
            words = self._low[at[i] : end[i]]
            first = at[i]
            at[i], end[i] = (first + np.searchsorted(words, low[i], side) for side in ("left", "right"))
        found = []
        for step in range(int((end - at).max(initial=0))):
            places = np.flatnonzero(at + step < end)
            sorted_at = at[places] + step
            same = self._low[sorted_at] == low[places]
            if same.any():
                found.append((places[same], self._order[sorted_at[same]]))
        return found

    def copies(self) -> tuple[Positions, Positions]:
        """How many objects each address has, by the address's number; and every object's address's number."""
        first = np.ones(len(self), np.bool_)
        first[1:] = (np.diff(self._high) != 0) | (np.diff(self._low) != 0)
        group = np.empty(len(self), np.int64)
        group[self._order] = np.cumsum(first) - 1
        return np.bincount(group).astype(np.int64), group

    def digests(self, numbers: Positions) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The digests of objects, 32 bytes a row."""
        result = np.empty((len(numbers), DIGEST_BYTES), np.uint8)
        table = np.searchsorted(self._starts, numbers, "right") - 1
        for i in np.unique(table):
            chosen = table == i
            result[chosen] = self.tables[i].digests(numbers[chosen] - self._starts[i])
        return result

    def addresses(self, numbers: Positions) -> bytes:
        """The addresses of objects, 16 bytes each."""
        result = np.empty((len(numbers), 2), ">u8")
        table = np.searchsorted(self._starts, numbers, "right") - 1
        for i in np.unique(table):
            chosen = table == i
            places = numbers[chosen] - self._starts[i]
            result[chosen, 0] = self.tables[i].high[places]
            result[chosen, 1] = self.tables[i].low[places]
        return result.tobytes()

    def edges(self) -> tuple[Positions, np.ndarray[Any, np.dtype[np.uint8]]]:
        """What stands on what: numbers of objects, and with each the address of one that it stands on."""
        found = [table.edges() for table in self.tables]
        numbers = [positions + start for (positions, _), start in zip(found, self._starts, strict=False)]
        return (
            np.concatenate([np.empty(0, np.int64), *numbers]),
            np.concatenate([np.empty((0, ADDRESS_BYTES), np.uint8), *(addresses for _, addresses in found)]),
        )

    def closed(
        self, flags: Flags, stopping: Flags | None = None
    ) -> tuple[Flags, np.ndarray[Any, np.dtype[np.uint8]]]:
        """Some objects with all that they stand on; and the addresses of what they stand on that is nowhere.

        What those objects stand on that are flagged in ``stopping`` is not looked at.
        """
        found = flags.copy()
        above, below = self.edges()
        followed = np.zeros(len(above), np.bool_) if stopping is None else stopping[above]
        lost = [np.empty((0, ADDRESS_BYTES), np.uint8)]
        while len(fresh := np.flatnonzero(found[above] & ~followed)):
            followed[fresh] = True
            there = np.zeros(len(fresh), np.bool_)
            for places, numbers in self.find(below[fresh].tobytes()):
                there[places] = True
                found[numbers] = True
            lost.append(below[fresh[~there]])
        return found, np.concatenate(lost)

    def entry(self, number: int) -> Entry:
        """An object's entry."""
        table = self.table_of(number)
        return self.tables[table].entry(number - int(self._starts[table]))
