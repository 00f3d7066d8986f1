"""What each kind of expectation asks of a column, and which rows of a batch fail it.

Types are judged here: :func:`fitted` brings an expectation into the form that fits a table's columns, or says why it
does not fit. Nulls fail ``not_null`` and nothing else; NaN is a value that lies in no range and is no accepted one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.errors import InvalidUse, NotFound
from fsvc.format.cells import Flags
from fsvc.format.expectation import Expectation
from fsvc.format.names import nearest, quoted
from fsvc.query.exactness import seen_inexactly

__all__ = ["failing", "fitted", "named_type", "values_of"]

Failing = Callable[[pa.Array], Flags]
"""Which rows of a column (as :func:`values_of` gives it) fail."""

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "min": ("greater_equal", "at least"),
    "above": ("greater", "above"),
    "max": ("less_equal", "at most"),
    "below": ("less", "below"),
}
_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=([^\]]+)\]")
_DECIMAL = re.compile(r"decimal(32|64|128|256)\(([0-9]{1,2}), ?(-?[0-9]{1,2})\)")


def values_of(array: pa.Array) -> pa.Array:
    """A column's values in a type that can be compared: without categories, extensions and narrow kinds."""
    if isinstance(array.type, pa.BaseExtensionType):
        return values_of(array.storage)
    if pa.types.is_dictionary(array.type):
        return values_of(array.dictionary.take(array.indices))
    kind = _compared(array.type)
    return array if kind == array.type else array.cast(kind)


def _own(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values: of a dictionary, that of its categories."""
    if isinstance(kind, pa.BaseExtensionType):
        return _own(kind.storage_type)
    return _own(kind.value_type) if pa.types.is_dictionary(kind) else kind


def _compared(kind: pa.DataType) -> pa.DataType:
    """The type that values of a type are compared in, without loss."""
    types, kind = pa.types, _own(kind)
    if types.is_floating(kind):
        return pa.float64()
    if types.is_decimal(kind) and kind.bit_width < 128:
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.large_string()
    return kind


def _is_ordered(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_date(kind)
        or types.is_timestamp(kind)
    )


# Whether an expectation fits a table ----------------------------------------------------------------------


def fitted(expectation: Expectation, schema: pa.Schema, what: str) -> Expectation:
    """The expectation with its terms in the form that fits the columns: numbers for numbers, texts for dates.

    ``what`` is whose columns they are. Raises NotFound for a column that is not there, with the nearest name, and
    InvalidUse for what cannot be asked of a column of its type, or contradicts itself.
    """
    fields = []
    for column in expectation.columns:
        if schema.get_field_index(column) < 0:
            near = nearest(column, schema.names)
            raise NotFound(
                f"{what} has no column {quoted(column)}",
                hint=f"did you mean {near[0]!r}?" if near else f"its columns: {', '.join(schema.names[:10])}",
            )
        fields.append(schema.field(column))
    fit = _FITTING.get(expectation.kind)
    return expectation if fit is None else fit(expectation, fields, schema)


def _fit_column(one: Expectation, fields: list[pa.Field], _: pa.Schema) -> Expectation:
    kind = one.terms.get("type")
    if kind is not None and kind != str(fields[0].type) and named_type(kind) is None:
        near = nearest(kind, [str(fields[0].type), *_ALIASES])
        raise InvalidUse(
            f"{one.name}: {quoted(kind)} is no type",
            hint=f"did you mean {near[0]!r}?" if near else f"write it as {str(fields[0].type)!r}",
        )
    return one


def _fit_unique(one: Expectation, fields: list[pa.Field], schema: pa.Schema) -> Expectation:
    for found in fields:
        told = seen_inexactly(pa.schema([found]))
        if told or pa.types.is_nested(_compared(found.type)):
            raise InvalidUse(
                f"{one.name}: column {found.name!r} is {found.type}, whose values are not compared"
            )
        twin = next(
            (n for n in schema.names if n != found.name and n.casefold() == found.name.casefold()), None
        )
        if twin is not None:
            raise InvalidUse(f"{one.name}: columns {found.name!r} and {twin!r} differ only in case")
    return one


def _fit_range(one: Expectation, fields: list[pa.Field], _: pa.Schema) -> Expectation:
    kind = _compared(fields[0].type)
    if not _is_ordered(kind):
        raise InvalidUse(
            f"{one.name}: column {fields[0].name!r} is {fields[0].type}, which has no range",
            hint="a range is of numbers, dates or timestamps",
        )
    terms = {term: _term(one, bound, fields[0]) for term, bound in one.terms.items() if bound is not None}
    low = next((term for term in ("min", "above") if term in terms), None)
    high = next((term for term in ("max", "below") if term in terms), None)
    if low is not None and high is not None:
        ends = [_scalar(terms[term], fields[0].type) for term in (low, high)]
        closed = (low, high) == ("min", "max")
        if not (pc.less_equal if closed else pc.less)(*ends).as_py():
            raise InvalidUse(
                f"{one.name}: nothing is {_BOUNDS[low][1]} {terms[low]} and {_BOUNDS[high][1]} {terms[high]}"
            )
    return replace(one, terms=terms)


def _fit_values(one: Expectation, fields: list[pa.Field], _: pa.Schema) -> Expectation:
    kind = _compared(fields[0].type)
    if not (_is_ordered(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)):
        raise InvalidUse(
            f"{one.name}: column {fields[0].name!r} is {fields[0].type}, whose values are not listed"
        )
    values = [_term(one, value, fields[0]) for value in one.terms["values"]]
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise InvalidUse(f"{one.name} lists {twice!r} twice")
    return replace(one, terms={"values": values})


def _fit_match(one: Expectation, fields: list[pa.Field], _: pa.Schema) -> Expectation:
    if not pa.types.is_large_string(_compared(fields[0].type)):
        raise InvalidUse(f"{one.name}: column {fields[0].name!r} is {fields[0].type}, and no text")
    try:
        pc.match_substring_regex(pa.array([""]), pattern=one.terms["pattern"])
    except pa.ArrowException as error:
        reason = str(error).rpartition("Invalid regular expression: ")[2]
        raise InvalidUse(
            f"{one.name}: {quoted(one.terms['pattern'])} is no regular expression: {reason}",
            hint="the syntax is RE2's",
        ) from None
    return one


def _fit_fresh(one: Expectation, fields: list[pa.Field], _: pa.Schema) -> Expectation:
    kind = _compared(fields[0].type)
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise InvalidUse(
            f"{one.name}: column {fields[0].name!r} is {fields[0].type}, and no time",
            hint="what is fresh is told by a timestamp or a date",
        )
    return one


def _fit_drift(one: Expectation, _: list[pa.Field], __: pa.Schema) -> Expectation:
    from fsvc.drift import parse_thresholds

    limits = one.terms.get("thresholds", {})
    parse_thresholds({name: "none" if limit is None else str(limit) for name, limit in limits.items()})
    return one


_FITTING: Mapping[str, Callable[[Expectation, list[pa.Field], pa.Schema], Expectation]] = {
    "column": _fit_column,
    "unique": _fit_unique,
    "range": _fit_range,
    "values": _fit_values,
    "match": _fit_match,
    "fresh": _fit_fresh,
    "drift": _fit_drift,
}

_ALIASES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32"),
    *("float64", "double", "string", "large_string", "binary", "large_binary", "date32", "date64"),
    *("timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]", "time32[s]", "time64[us]"),
)


def named_type(text: str) -> pa.DataType | None:
    """The Arrow type that a text names; None where only the text itself can be compared."""
    zoned, decimal = _ZONED.fullmatch(text), _DECIMAL.fullmatch(text)
    try:
        if zoned:
            return pa.timestamp(zoned[1], zoned[2])
        if decimal:
            return getattr(pa, f"decimal{decimal[1]}")(int(decimal[2]), int(decimal[3]))
        return pa.type_for_alias({"float32": "float", "float64": "double"}.get(text, text))
    except (ValueError, pa.ArrowException):
        return None


def _term(one: Expectation, value: Any, found: pa.Field) -> Any:
    """A value of a column as an expectation holds it. Raises InvalidUse where it is none of the column's type."""
    kind = _compared(found.type)
    plain = value
    if isinstance(value, str) and not pa.types.is_large_string(kind):
        if pa.types.is_integer(kind):
            plain = int(value) if re.fullmatch(r"[+-]?[0-9]{1,20}", value) else value
        elif pa.types.is_floating(kind):
            plain = _number(value)
        elif pa.types.is_boolean(kind):
            plain = {"true": True, "false": False}.get(value.casefold(), value)
    if isinstance(plain, float) and plain.is_integer() and abs(plain) < 2**53:
        plain = int(plain)  # one form for one number
    if pa.types.is_decimal(kind) and not isinstance(plain, bool):
        plain = str(plain)
    try:
        _scalar(plain, found.type)
    except (pa.ArrowException, ValueError, TypeError, InvalidOperation, OverflowError):
        hint = None
        if pa.types.is_timestamp(kind):
            hint = "write it as 2026-11-01T00:00:00" + ("Z" if kind.tz else ", without a zone")
        elif pa.types.is_date(kind):
            hint = "write it as 2026-11-01"
        raise InvalidUse(
            f"{one.name}: {value!r} is no value of column {found.name!r}, which is {found.type}",
            hint=hint,
        ) from None
    return plain


def _number(text: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        return text
    return value if np.isfinite(value) else text


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    """A value of a column's type, as a scalar of the type that it is compared in.

    Raises ValueError, TypeError or Arrow's errors where it is none.
    """
    types, compared = pa.types, _compared(kind)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if types.is_floating(compared):
        if not number:
            raise TypeError(value)
        # 0.1 means what the column has for it.
        return pa.scalar(float(value)).cast(_own(kind), safe=False).cast(compared)
    if types.is_boolean(compared):
        fits = isinstance(value, bool)
    elif types.is_integer(compared):
        fits = number and isinstance(value, int)
    else:
        fits = isinstance(value, str)
    if not fits:
        raise TypeError(value)
    if types.is_decimal(compared):
        return pa.scalar(Decimal(value), compared)
    if types.is_date(compared) or types.is_timestamp(compared):
        return pa.scalar(value).cast(compared)
    return pa.scalar(value, compared)


# Which rows fail --------------------------------------------------------------------------------------------


def failing(expectation: Expectation, kind: pa.DataType) -> Failing | None:
    """Which rows of a column of a type fail a fitted expectation; None for kinds that are not judged by rows."""
    terms, compared = expectation.terms, _compared(kind)
    if expectation.kind == "not_null":
        return lambda array: _flags(pc.is_null(array))
    if expectation.kind == "range":
        bounds = [(_BOUNDS[term][0], _scalar(bound, kind)) for term, bound in terms.items()]
        return lambda array: np.logical_or.reduce(
            [_missed(pc.call_function(function, [array, bound])) for function, bound in bounds]
        )
    if expectation.kind == "values":
        accepted = pa.array([_scalar(value, kind) for value in terms["values"]], compared)
        # Adding 0 makes one zero of the two that floats have.
        one_zero = pa.types.is_floating(compared)
        values = pc.add(accepted, 0.0) if one_zero else accepted
        return lambda array: _missed(
            pc.or_(
                pc.is_in(pc.add(array, 0.0) if one_zero else array, value_set=values),
                pc.is_null(array),
            )
        )
    if expectation.kind == "match":
        pattern = terms["pattern"]
        return lambda array: _missed(pc.match_substring_regex(array, pattern=pattern))
    return None


def _flags(array: pa.Array) -> Flags:
    found: Flags = array.to_numpy(zero_copy_only=False)
    return found


def _missed(holds: pa.Array) -> Flags:
    """Where it is known not to hold: a null is unknown, and fails nothing."""
    return ~_flags(holds.fill_null(True))
