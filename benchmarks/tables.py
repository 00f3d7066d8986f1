"""The table that is measured: 30 mixed columns of a customer feature set, the same on every machine.

Rows come in blocks, and every column of every block has a random stream of its own. So a table is a
prefix of every longer one (which makes appended rows), any column can be made anew alone, and tables
of any length are made in the memory of a few blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

__all__ = [
    "ADDED",
    "BLOCK_ROWS",
    "COLUMNS",
    "EDITED",
    "KEY",
    "RECOMPUTED",
    "added_column",
    "blocks",
    "edited",
    "make_table",
    "recomputed_column",
    "schema",
    "write_source",
]

KEY = "customer_id"
"""The key column: unique and ascending, with gaps that later rows could be inserted into."""
RECOMPUTED = "churn_risk"
"""The column that :func:`recomputed_column` gives other values."""
ADDED = "lifetime_value"
"""The column that :func:`added_column` gives; tables do not have it."""

EDITED = ("balance", "spend_30d", "visits_30d")
"""The columns in which :func:`edited` changes cells."""

BLOCK_ROWS = 1 << 16
"""How many rows are made at once."""

_SEED = 20_240_229
_ID_STEP = 7
_GROUP_ROWS = 1 << 20  # rows per row group of plain files: pyarrow's own default

Generator: TypeAlias = np.random.Generator
Values: TypeAlias = "np.ndarray[Any, np.dtype[Any]] | pa.Array"


@dataclass(frozen=True)
class _Column:
    """How one column is made: ``make(random, first row of the block)`` gives BLOCK_ROWS values."""

    name: str
    type: pa.DataType
    make: Callable[[Generator, int], Values]
    nulls: float = 0.0  # the share of rows without a value


def _money(center: float, spread: float) -> Callable[[Generator, int], Values]:
    """Amounts to the cent, lognormal around ``center``."""
    return lambda random, _: np.round(random.lognormal(np.log(center), spread, BLOCK_ROWS), 2)


def _share(a: float, b: float, digits: int) -> Callable[[Generator, int], Values]:
    """Parts of one, rounded."""
    return lambda random, _: np.round(random.beta(a, b, BLOCK_ROWS), digits)


def _score(digits: int) -> Callable[[Generator, int], Values]:
    """Standardised scores, rounded."""
    return lambda random, _: np.round(random.standard_normal(BLOCK_ROWS), digits)


def _often_zero(center: float, zeros: float) -> Callable[[Generator, int], Values]:
    """Amounts to the cent, of which a share is nothing at all."""

    def make(random: Generator, _: int) -> Values:
        amounts = np.round(random.gamma(1.5, center / 1.5, BLOCK_ROWS), 2)
        amounts[random.random(BLOCK_ROWS) < zeros] = 0.0
        return amounts

    return make


def _count(mean: float) -> Callable[[Generator, int], Values]:
    """Counts whose mean differs between rows, as between customers."""
    return lambda random, _: random.poisson(random.gamma(1.2, mean / 1.2, BLOCK_ROWS))


def _choice(values: tuple[str, ...], *, dictionary: bool) -> Callable[[Generator, int], Values]:
    """Categories, the earlier the more frequent; as an Arrow dictionary or as plain strings."""
    weights = 1 / np.arange(1, len(values) + 1)
    steps = np.cumsum(weights / weights.sum())

    def make(random: Generator, _: int) -> Values:
        numbers = np.minimum(np.searchsorted(steps, random.random(BLOCK_ROWS)), len(values) - 1)
        found = pa.DictionaryArray.from_arrays(numbers.astype(np.int8), pa.array(values))
        return found if dictionary else found.dictionary_decode()

    return make


def _flag(share: float) -> Callable[[Generator, int], Values]:
    return lambda random, _: random.random(BLOCK_ROWS) < share


def _customer_id(random: Generator, first: int) -> Values:
    rows = np.arange(first, first + BLOCK_ROWS, dtype=np.int64)
    return rows * _ID_STEP + random.integers(0, _ID_STEP, BLOCK_ROWS)


def _account(random: Generator, _: int) -> Values:
    """Texts of fourteen random hexadecimal digits behind a fixed beginning."""
    width = 17
    letters = np.empty((BLOCK_ROWS, width), np.uint8)
    letters[:, :3] = np.frombuffer(b"AC-", np.uint8)
    letters[:, 3:] = np.frombuffer(b"0123456789abcdef", np.uint8)[
        random.integers(0, 16, (BLOCK_ROWS, width - 3))
    ]
    offsets = np.arange(BLOCK_ROWS + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(BLOCK_ROWS, pa.py_buffer(offsets), pa.py_buffer(letters.reshape(-1)))


def _updated_at(random: Generator, first: int) -> Values:
    """Seconds within the year, roughly in the order of rows."""
    start = np.datetime64("2025-01-01T00:00:00", "us").astype(np.int64)
    seconds = (first + np.arange(BLOCK_ROWS)) // 4 + random.integers(0, 86_400, BLOCK_ROWS)
    return pa.array(start + seconds * 1_000_000)


def _note(random: Generator, _: int) -> Values:
    """Two to five words of a vocabulary in which few words are frequent."""
    counts = random.integers(2, 6, BLOCK_ROWS)
    offsets = np.zeros(BLOCK_ROWS + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    numbers = (random.random(int(offsets[-1])) ** 2.5 * len(_WORDS)).astype(np.int32)
    words = pa.ListArray.from_arrays(pa.array(offsets), _WORDS.take(pa.array(numbers)))
    return pc.binary_join(words, " ")


def _vocabulary() -> pa.StringArray:
    """A thousand words made of syllables."""
    heads = ("ka", "lo", "mi", "ren", "sta", "tor", "vel", "bru", "dan", "fi")
    middles = ("la", "ni", "ro", "se", "tu", "ga", "mor", "pel", "xi", "ha")
    tails = ("n", "rd", "st", "l", "m", "nt", "s", "ck", "th", "x")
    return pa.array([head + middle + tail for tail in tails for middle in middles for head in heads])


_WORDS = _vocabulary()

_COUNTRIES = (
    "DE", "FR", "US", "GB", "PL", "ES", "IT", "NL", "SE", "AT", "CH", "BE", "DK", "NO", "FI", "CZ", "PT",
    "IE", "HU", "RO", "GR", "CA", "AU", "NZ", "JP", "BR", "MX", "IN", "ZA", "TR", "LT", "LV", "EE", "SK",
)  # fmt: skip
_CHANNELS = ("organic search", "paid search", "referral", "newsletter", "social", "affiliate", "direct mail")

_COLUMNS = (
    _Column(KEY, pa.int64(), _customer_id),
    _Column("account", pa.string(), _account),
    _Column("updated_at", pa.timestamp("us", "UTC"), _updated_at),
    _Column("balance", pa.float64(), _money(1800.0, 1.1)),
    _Column(
        "income", pa.float64(), lambda random, _: np.round(random.lognormal(10.4, 0.5, BLOCK_ROWS), 0), 0.08
    ),
    _Column("spend_30d", pa.float64(), _often_zero(60.0, 0.25)),
    _Column("spend_90d", pa.float64(), _often_zero(190.0, 0.1)),
    _Column("basket_value", pa.float64(), _money(45.0, 0.8), 0.03),
    _Column("discount_share", pa.float64(), _share(1.3, 8.0, 4)),
    _Column("return_rate", pa.float64(), _share(0.8, 12.0, 4)),
    _Column("open_rate", pa.float64(), _share(2.0, 5.0, 4), 0.05),
    _Column("utilisation", pa.float64(), _share(1.5, 3.0, 4)),
    _Column(RECOMPUTED, pa.float64(), _share(1.4, 4.0, 4), 0.01),
    _Column(
        "session_minutes", pa.float64(), lambda random, _: np.round(random.gamma(2.0, 4.0, BLOCK_ROWS), 2)
    ),
    _Column("tenure_years", pa.float64(), lambda random, _: np.round(random.gamma(1.6, 2.5, BLOCK_ROWS), 3)),
    _Column("affinity", pa.float64(), _score(4)),
    _Column("engagement", pa.float32(), lambda random, _: np.round(random.random(BLOCK_ROWS) * 100, 2)),
    _Column("age", pa.int16(), lambda random, _: np.clip(random.normal(46, 15, BLOCK_ROWS), 18, 99), 0.02),
    _Column("visits_30d", pa.int32(), _count(12.0)),
    _Column("orders_90d", pa.int32(), _count(2.5)),
    _Column("tickets", pa.int8(), lambda random, _: np.minimum(random.poisson(0.3, BLOCK_ROWS), 127)),
    _Column("points", pa.int64(), lambda random, _: random.gamma(1.1, 9000.0, BLOCK_ROWS), 0.05),
    _Column("postcode", pa.int32(), lambda random, _: 1000 + (random.random(BLOCK_ROWS) ** 2 * 90_000)),
    _Column("country", pa.string(), _choice(_COUNTRIES, dictionary=False)),
    _Column(
        "segment",
        pa.dictionary(pa.int8(), pa.string()),
        _choice(("core", "growth", "new", "dormant", "vip"), dictionary=True),
    ),
    _Column("channel", pa.string(), _choice(_CHANNELS, dictionary=False), 0.04),
    _Column(
        "plan",
        pa.dictionary(pa.int8(), pa.string()),
        _choice(("free", "basic", "plus", "family", "business", "education"), dictionary=True),
    ),
    _Column("newsletter", pa.bool_(), _flag(0.42)),
    _Column("active", pa.bool_(), _flag(0.93)),
    _Column("note", pa.string(), _note, 0.05),
)
_ADDED = _Column(ADDED, pa.float64(), _money(90.0, 0.95))


COLUMNS = len(_COLUMNS)
"""How many columns the table has unless told."""


def _plan(columns: int) -> list[tuple[str, _Column, int]]:
    """The name, kind and variant of so many columns.

    Past the table's own all but the key come again, with other values.
    """
    plan = [(column.name, column, 0) for column in _COLUMNS[:columns]]
    for number in range(columns - len(_COLUMNS)):
        turn, place = divmod(number, len(_COLUMNS) - 1)
        column = _COLUMNS[1 + place]
        plan.append((f"{column.name}_{turn + 2}", column, turn + 100))
    return plan


def schema(columns: int = COLUMNS) -> pa.Schema:
    """The Arrow schema of the table."""
    return pa.schema([pa.field(name, column.type) for name, column, _ in _plan(columns)])


def _values(column: _Column, block: int, variant: int = 0) -> pa.Array:
    """One block of one column; another ``variant`` has other values of the same kind."""
    name = int.from_bytes(column.name.encode(), "little")
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence((_SEED, variant, block, name))))
    values = column.make(random, block * BLOCK_ROWS)
    if not isinstance(values, pa.Array):
        if pa.types.is_integer(column.type):
            values = values.astype(column.type.to_pandas_dtype())
        values = pa.array(values)
    values = values.cast(column.type)
    if column.nulls:
        absent = pa.array(random.random(BLOCK_ROWS) < column.nulls)
        values = pc.if_else(absent, pa.scalar(None, column.type), values)
    return values


def blocks(rows: int, start: int = 0, columns: int = COLUMNS) -> Iterator[pa.RecordBatch]:
    """Rows ``start`` to ``start + rows`` of the table without end, in batches of BLOCK_ROWS or less."""
    position, stop = start, start + rows
    while position < stop:
        block, skip = divmod(position, BLOCK_ROWS)
        taken = min(BLOCK_ROWS - skip, stop - position)
        arrays = [_values(column, block, variant) for _, column, variant in _plan(columns)]
        whole = pa.RecordBatch.from_arrays(arrays, schema=schema(columns))
        yield whole.slice(skip, taken)
        position += taken


def make_table(rows: int, start: int = 0, columns: int = COLUMNS) -> pa.Table:
    """Rows ``start`` to ``start + rows`` in memory, one chunk per column."""
    return pa.Table.from_batches(blocks(rows, start, columns), schema(columns)).combine_chunks()


def _whole_column(column: _Column, rows: int, variant: int) -> pa.Array:
    count = -(-rows // BLOCK_ROWS)
    parts = [_values(column, block, variant) for block in range(count)]
    return pa.concat_arrays(parts).slice(0, rows) if parts else pa.array([], column.type)


def added_column(rows: int, variant: int) -> pa.Array:
    """Values for the column ADDED. Each ``variant`` differs in every row."""
    return _whole_column(_ADDED, rows, variant)


def recomputed_column(rows: int, variant: int) -> pa.Array:
    """Other values for the column RECOMPUTED, of the same kind. ``variant`` 0 gives the table's own."""
    column = next(column for column in _COLUMNS if column.name == RECOMPUTED)
    return _whole_column(column, rows, variant)


def edited(table: pa.Table, rows: Sequence[np.ndarray[Any, np.dtype[np.int64]]], by: int = 1) -> pa.Table:
    """The table with other values in some rows of the columns EDITED, ``rows`` for each of them."""
    for name, chosen in zip(EDITED, rows, strict=True):
        at = table.schema.get_field_index(name)
        flags = np.zeros(len(table), np.bool_)
        flags[chosen] = True
        values = table[name].combine_chunks()
        changed = pc.add(values, pa.scalar(by, values.type))
        column = pc.if_else(pa.array(flags), changed, values)
        table = table.set_column(at, table.schema.field(at), column)
    return table


def write_source(path: Path, size: int) -> int:
    """Write rows to a zstd Parquet file until it is about ``size`` bytes long; gives how many there are.

    Memory holds one row group of the file (about a million rows).
    """
    rows = 0
    with path.open("wb") as file, pq.ParquetWriter(file, schema(), compression="zstd") as writer:
        group = _GROUP_ROWS
        while file.tell() < size:
            if rows:
                # The last row group is shorter, so that small files come out about as long as asked.
                missing = (size - file.tell()) * rows // file.tell()
                group = min(_GROUP_ROWS, missing + BLOCK_ROWS)
            else:
                # Rows take some 60 bytes each.
                group = min(_GROUP_ROWS, max(1, size // 60))
            writer.write_table(make_table(group, rows))
            rows += group
    return rows
