"""Tables as plain lists of numbers, and random edits of them: models for diffs, merges and blame.

A cell is a number: the slot of a pool of values, one pool for each column. A row is a key, which is a number
too, and its cells; a table is its rows in order. Equal numbers of one column are equal cells; whether cells of
different numbers are equal, :attr:`Pool.bits` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import strategies
from hypothesis import strategies as st

from fsvc.format import cutting

__all__ = ["KEYS", "Pool", "Rows", "edited", "pools", "short_groups", "start"]

Rows = dict[int, tuple[int, ...]]
"""The cells of each row by its key, in the order of the table."""

SLOTS = 12

KEYS: dict[str, dict[str, Any]] = {
    "int": {"id": lambda n: pa.array(n, pa.int64())},
    "text": {"id": lambda n: pa.array([f"key {i}" for i in n], pa.string())},
    "float": {"id": lambda n: pa.array([i / 2 for i in n], pa.float64())},
    "time": {"id": lambda n: pa.array(n, pa.timestamp("s", "UTC"))},
    "decimal": {"id": lambda n: pa.array(n, pa.int32()).cast(pa.decimal128(12, 1))},
    "composite": {
        "day": lambda n: pa.array([i // 7 for i in n], pa.date32()),
        "code": lambda n: pa.array([chr(97 + i % 7) for i in n], pa.large_string()),
    },
    "category": {"id": lambda n: pa.array([f"{i}" for i in n], pa.string()).dictionary_encode()},
}
"""Kinds of keys: columns, and how each is made of numbers."""


@contextmanager
def short_groups() -> Iterator[None]:
    """Have small tables cut into many row groups, of 8 to 32 rows."""
    with mock.patch.object(cutting, "LARGEST_MEAN_ROWS", 16):
        yield


@dataclass
class Pool:
    """The values of some columns and the kind of their key; ``bits`` are the values as plain Python."""

    key: str
    fields: list[pa.Field]
    values: list[strategies.Values]

    def __post_init__(self) -> None:
        self.bits = [strategies.bits(strategies.lay_out(values)) for values in self.values]

    @property
    def key_columns(self) -> tuple[str, ...]:
        return tuple(KEYS[self.key])

    def equal(self, column: int, one: int, other: int) -> bool:
        return bool(self.bits[column][one] == self.bits[column][other])

    def table(self, rows: Rows, layout: np.random.Generator | None = None) -> pa.Table:
        """The table that rows stand for."""
        keys = {name: make(list(rows)) for name, make in KEYS[self.key].items()}
        slots = np.array([*rows.values()], np.int64).reshape(len(rows), len(self.fields))
        arrays, fields = [*keys.values()], [pa.field(name, array.type) for name, array in keys.items()]
        for number, (values, field) in enumerate(zip(self.values, self.fields, strict=True)):
            chosen = strategies._gather(values, slots[:, number])
            arrays.append(strategies.lay_out(chosen, layout, nullable=field.nullable))
            fields.append(field)
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def same(self, one: Rows, other: Rows) -> bool:
        """Whether rows stand for the same table."""
        return list(one) == list(other) and all(
            self.equal(column, one[key][column], other[key][column])
            for key in one
            for column in range(len(self.fields))
        )


@st.composite
def pools(draw: st.DrawFn, *, columns: int = 3, depth: int = 1, extensions: bool = True) -> Pool:
    """Pools for up to so many columns of any type, and a key of any kind."""
    fields, values = [], []
    for number in range(draw(st.integers(0, columns))):
        kind = draw(strategies.arrow_types(max_depth=depth, extensions=extensions))
        nullable = draw(st.booleans()) or pa.types.is_null(kind)
        fields.append(pa.field(f"c{number}", kind, nullable))
        values.append(draw(strategies.contents(kind, min_size=SLOTS, max_size=SLOTS, nullable=nullable)))
    return Pool(draw(st.sampled_from(list(KEYS))), fields, values)


def start(random: np.random.Generator, columns: int, most: int = 60) -> Rows:
    """A first table: keys with gaps, now and then in no order."""
    keys = np.sort(random.choice(most * 3, int(random.integers(0, most)), replace=False))
    if random.random() < 0.2:
        random.shuffle(keys)
    return {int(key): tuple(map(int, random.integers(0, SLOTS, columns))) for key in keys}


def edited(random: np.random.Generator, rows: Rows, columns: int, *, reorder: bool = False) -> Rows:
    """Other rows: some removed, some added in between, cells of some changed; perhaps in another order."""
    removed, changed, added = random.choice([0.0, 0.03, 0.2], 3)
    found: list[tuple[int, tuple[int, ...]]] = []
    fresh = iter(random.permutation(np.setdiff1d(np.arange(300), list(rows))).tolist())
    for key, cells in rows.items():
        if random.random() < added:
            found.append((next(fresh), tuple(map(int, random.integers(0, SLOTS, columns)))))
        if random.random() < removed:
            continue
        if columns and random.random() < changed:
            new = list(cells)
            for column in random.integers(0, columns, 2):
                new[column] = int(random.integers(0, SLOTS))
            cells = tuple(new)
        found.append((key, cells))
    if random.random() < 0.3:
        found += [(next(fresh), tuple(map(int, random.integers(0, SLOTS, columns)))) for _ in range(3)]
    if reorder and random.random() < 0.3 and len(found) > 2:
        one, other = sorted(random.integers(0, len(found), 2))
        found = found[other:] + found[one:other] + found[:one]
    return dict(found)
