"""Which types the columns of a text file have: a fixed rule over every value.

DuckDB's own sniffer is not used for this. It guesses day before month in 01/02/2020, drops the
nanoseconds of timestamps, takes a line that starts with # for a comment, turns integers that it mixes
with fractions into doubles, and changes from version to version; a snapshot's identity may depend on
none of that. Here each value falls into one class by its spelling, and a column gets the narrowest
type that keeps every value; whatever is left is text.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

__all__ = [
    "ARROW_TYPES",
    "EMPTY",
    "Finding",
    "class_expression",
    "decide",
    "quote_name",
    "quote_text",
    "range_expression",
]

# Classes, as bits: the classes of a column are the OR over its values.
SMALL = 1  # up to 15 digits: exact as a double
LONG = 2  # 16 to 18 digits: fits 64 bits
WIDE = 4  # 19 to 38 digits
FRACTION = 8
TRUTH = 16
DATE = 32
MICROS = 64  # date and time, to the microsecond, in years that nanoseconds reach
FAR_MICROS = 128  # the same in other years
NANOS = 256
ZONED = 512  # with an offset from UTC
TEXT = 1024
EMPTY = 2048

_DAY = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_NEAR = r"(1[7-9]|2[01])[0-9]{2}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_SECOND = r":[0-5][0-9]"
_TIME = rf"{_CLOCK}({_SECOND}(\.[0-9]{{1,6}}0{{0,3}})?)?"
_FINE = rf"{_CLOCK}{_SECOND}\.[0-9]{{7,9}}"
_WHOLE = r"(0|[1-9][0-9]*)"
_POINT = rf"({_WHOLE}\.[0-9]*|\.[0-9]+)"

# Tried in this order. The second part, where there is one, must hold as well: the calendar has more
# to say than a pattern (2021-02-30).
_RULES: tuple[tuple[int, str, str | None], ...] = (
    (SMALL, r"0|-?[1-9][0-9]{0,14}", None),
    (FRACTION, rf"-?({_POINT}([eE][+-]?[0-9]+)?|{_WHOLE}[eE][+-]?[0-9]+)|-0", None),
    (DATE, _DAY, "DATE"),
    (MICROS, rf"{_NEAR}[ T]{_TIME}", "TIMESTAMP"),
    (FAR_MICROS, rf"{_DAY}[ T]{_TIME}", "TIMESTAMP"),
    (ZONED, rf"{_DAY}[ T]{_TIME}(Z|[+-][0-9]{{2}}(:?[0-5][0-9])?)", "TIMESTAMPTZ"),
    (LONG, r"-?[1-9][0-9]{15,17}", None),
    (WIDE, r"-?[1-9][0-9]{18,37}", None),
    (NANOS, rf"{_NEAR}[ T]{_FINE}", "TIMESTAMP_NS"),
    # Spelled out, not (?i), which made these the slowest of all.
    (FRACTION, r"-?([nN][aA][nN]|[iI][nN][fF]([iI][nN][iI][tT][yY])?)", None),
    (TRUTH, r"[tT][rR][uU][eE]|[fF][aA][lL][sS][eE]", None),
)

ARROW_TYPES: dict[str, pa.DataType] = {
    "BIGINT": pa.int64(),
    "UBIGINT": pa.uint64(),
    "HUGEINT": pa.decimal128(38, 0),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    "VARCHAR": pa.string(),
}


@dataclass
class Finding:
    """What is known of one column: the classes of its values; of wide integers, the range of all."""

    classes: int = 0
    low: int | None = None
    high: int | None = None

    @property
    def wide(self) -> bool:
        """Whether all values are integers, and some are wide: then the range decides the type."""
        return bool(self.classes & WIDE) and not self.classes & ~(SMALL | LONG | WIDE | EMPTY)

    def stretch(self, low: int | None, high: int | None) -> None:
        """Take in the ends of more values."""
        if low is not None:
            self.low = low if self.low is None else min(self.low, low)
        if high is not None:
            self.high = high if self.high is None else max(self.high, high)


def quote_name(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def class_expression(column: str) -> str:
    """An SQL aggregate over a text column (an SQL expression): the classes of its values.

    Nulls are of no class.
    """
    cases = []
    for bit, pattern, kind in _RULES:
        if bit == DATE:
            # What cannot begin a value of any other class need not be tried with all of them.
            cases.append(f"WHEN regexp_matches({column}, '^[^-.0-9nNiItTfF]') THEN {TEXT}")
        test = f"regexp_full_match({column}, {quote_text(pattern)})"
        if kind is not None:
            test += f" AND TRY_CAST({column} AS {kind}) IS NOT NULL"
        cases.append(f"WHEN {test} THEN {bit}")
    choice = (
        f"CASE WHEN {column} IS NULL THEN 0 WHEN {column} = '' THEN {EMPTY} {' '.join(cases)} ELSE {TEXT} END"
    )
    return f"bit_or({choice})"


def range_expression(column: str) -> str:
    """Two SQL aggregates over a text column of integers: the least and the greatest."""
    number = f"CAST(nullif({column}, '') AS HUGEINT)"
    return f"min({number}), max({number})"


def decide(found: Finding) -> str:
    """The SQL type of a column: the narrowest that keeps every value as it is; else VARCHAR.

    Empty texts have no say: CSV writers quote missing values too.
    """
    classes = found.classes & ~EMPTY

    def only(*allowed: int) -> bool:
        return bool(classes) and not classes & ~sum(allowed)

    if only(SMALL, LONG):
        return "BIGINT"
    if found.wide and found.low is not None and found.high is not None:
        if found.low >= -(2**63) and found.high < 2**63:
            return "BIGINT"
        return "UBIGINT" if found.low >= 0 and found.high < 2**64 else "HUGEINT"
    if only(SMALL, FRACTION):
        return "DOUBLE"
    if only(TRUTH):
        return "BOOLEAN"
    if only(DATE):
        return "DATE"
    if only(DATE, MICROS, FAR_MICROS):
        return "TIMESTAMP"
    if only(MICROS, NANOS):
        return "TIMESTAMP_NS"
    if only(ZONED):
        return "TIMESTAMPTZ"
    return "VARCHAR"
