"""Thrift's compact protocol, as far as Parquet footers need it.

A struct is read into ``{field id: (wire type, value)}`` and written back from it, so that fields
this code does not know survive. Source: the Thrift compact protocol specification
(thrift/doc/specs/thrift-compact-protocol.md) and parquet.thrift of the Parquet format.

Values by wire type: booleans ``bool``; bytes and integers ``int``; doubles the 8 raw ``bytes``;
binaries ``bytes``; lists ``(element wire type, [values])``; structs a dict as above. Sets and maps
do not occur in Parquet's metadata and are refused.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from fsvc.errors import Corruption

__all__ = [
    "BINARY",
    "BYTE",
    "FALSE",
    "I16",
    "I32",
    "I64",
    "LIST",
    "STRUCT",
    "TRUE",
    "Span",
    "Struct",
    "end",
    "field_header",
    "find",
    "integer",
    "read_struct",
    "spans",
    "struct_list",
    "varint",
    "write_fields",
    "write_struct",
    "zigzag",
]

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, _SET, _MAP, STRUCT = range(1, 13)

Struct: TypeAlias = dict[int, tuple[int, Any]]

_MAX_DEPTH = 32


def varint(value: int) -> bytes:
    """An unsigned LEB128 integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> bytes:
    """A signed 64-bit integer as the varint of its zigzag form."""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def field_header(wire: int, field: int, previous: int) -> bytes:
    """The header of a field: the id is a delta of the previous one where that fits, else written out."""
    delta = field - previous
    if 0 < delta <= 15:
        return bytes((delta << 4 | wire,))
    return bytes((wire,)) + zigzag(field)


class _Reader:
    __slots__ = ("data", "position")

    def __init__(self, data: bytes | memoryview, position: int) -> None:
        self.data = data
        self.position = position

    def byte(self) -> int:
        try:
            value = self.data[self.position]
        except IndexError:
            raise Corruption("Parquet metadata ends too early") from None
        self.position += 1
        return value

    def varint(self) -> int:
        shift = result = 0
        while True:
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
            shift += 7
            if shift > 63:
                raise Corruption("Parquet metadata holds an integer of more than 64 bits")

    def zigzag(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise Corruption("Parquet metadata ends too early")
        value = bytes(self.data[self.position : end])
        self.position = end
        return value

    def value(self, wire: int, depth: int) -> Any:
        if wire in (I16, I32, I64):
            return self.zigzag()
        if wire == BINARY:
            return self.take(self.varint())
        if wire == STRUCT:
            return self.struct(depth + 1)
        if wire == LIST:
            if depth > _MAX_DEPTH:
                raise Corruption("Parquet metadata is nested too deeply")
            head = self.byte()
            count, element = head >> 4, head & 0x0F
            if count == 15:
                count = self.varint()
            if count > len(self.data) - self.position:
                raise Corruption("Parquet metadata declares a list longer than itself")
            if element in (TRUE, FALSE):
                return (element, [self.byte() == TRUE for _ in range(count)])
            return (element, [self.value(element, depth + 1) for _ in range(count)])
        if wire == BYTE:
            return self.byte()
        if wire == DOUBLE:
            return self.take(8)
        raise Corruption(f"Parquet metadata holds an unknown wire type {wire}")

    def struct(self, depth: int) -> Struct:
        if depth > _MAX_DEPTH:
            raise Corruption("Parquet metadata is nested too deeply")
        fields: Struct = {}
        previous = 0
        while True:
            head = self.byte()
            if head == 0:
                return fields
            wire = head & 0x0F
            previous = previous + (head >> 4) if head >> 4 else self.zigzag()
            if wire in (TRUE, FALSE):
                fields[previous] = (wire, wire == TRUE)
            else:
                fields[previous] = (wire, self.value(wire, depth))


def read_struct(data: bytes | memoryview, position: int = 0) -> tuple[Struct, int]:
    """Read the struct that starts at ``position``: its fields, and where it ends.

    Raises Corruption where the bytes are not a struct.
    """
    reader = _Reader(data, position)
    return reader.struct(0), reader.position


class Span(NamedTuple):
    """Where a field of a struct lies: its wire type, its header, its value, and the byte after it."""

    wire: int
    header: int
    value: int
    end: int


def spans(data: bytes, position: int = 0) -> tuple[dict[int, Span], int]:
    """The fields of the struct that starts at ``position``, in their order, not read; and where it ends.

    Raises Corruption where the bytes are not a struct.
    """
    fields: dict[int, Span] = {}
    previous = 0
    try:
        while head := data[position]:
            start, wire = position, head & 0x0F
            position += 1
            if head >> 4:
                previous += head >> 4
            else:
                reader = _Reader(data, position)
                previous, position = reader.zigzag(), reader.position
            after = _skip(data, position, wire, 0)
            fields[previous] = Span(wire, start, position, after)
            position = after
    except IndexError:
        raise Corruption("Parquet metadata ends too early") from None
    return fields, position + 1


def find(data: bytes, position: int, field: int) -> int:
    """Where the value of a struct's field begins; what comes before it is passed over.

    Raises Corruption where there is no such field of a struct, list, binary or integer.
    """
    previous = 0
    try:
        while head := data[position]:
            position += 1
            if head >> 4:
                previous += head >> 4
            else:
                reader = _Reader(data, position)
                previous, position = reader.zigzag(), reader.position
            if previous == field:
                return position
            position = _skip(data, position, head & 0x0F, 0)
    except IndexError:
        raise Corruption("Parquet metadata ends too early") from None
    raise Corruption(f"Parquet metadata lacks the field {field}")


def struct_list(data: bytes, position: int) -> tuple[int, int]:
    """How many structs the list at ``position`` has, and where the first one begins.

    Raises Corruption where it is none.
    """
    reader = _Reader(data, position)
    head = reader.byte()
    if head & 0x0F != STRUCT:
        raise Corruption("Parquet metadata has no list of structs where one is needed")
    return (head >> 4 if head >> 4 < 15 else reader.varint()), reader.position


def end(data: bytes, position: int) -> int:
    """Where a struct ends, given where any of its fields does."""
    try:
        return _skip(data, position, STRUCT, 0)
    except IndexError:
        raise Corruption("Parquet metadata ends too early") from None


def integer(data: bytes, span: Span) -> int:
    """The integer of a field. Raises Corruption for a field of another type."""
    if span.wire not in (I16, I32, I64):
        raise Corruption("Parquet metadata has no integer where one is needed")
    return _Reader(data, span.value).zigzag()


def _skip(data: bytes, position: int, wire: int, depth: int) -> int:
    """Where a value that starts at ``position`` ends; an IndexError where that is past the data."""
    if wire in (I16, I32, I64):
        while data[position] > 0x7F:
            position += 1
        return position + 1
    if wire in (TRUE, FALSE):
        return position
    if wire == BINARY:
        reader = _Reader(data, position)
        length = reader.varint()
        return reader.position + length
    if depth > _MAX_DEPTH:
        raise Corruption("Parquet metadata is nested too deeply")
    if wire == STRUCT:
        while head := data[position]:
            position += 1
            if not head >> 4:
                position = _skip(data, position, I64, depth)
            position = _skip(data, position, head & 0x0F, depth + 1)
        return position + 1
    if wire == LIST:
        head = data[position]
        position += 1
        count, element = head >> 4, head & 0x0F
        if count == 15:
            reader = _Reader(data, position)
            count, position = reader.varint(), reader.position
        if count > len(data) - position:
            raise Corruption("Parquet metadata declares a list longer than itself")
        if element in (TRUE, FALSE):
            return position + count
        for _ in range(count):
            position = _skip(data, position, element, depth + 1)
        return position
    if wire in (BYTE, DOUBLE):
        return position + (1 if wire == BYTE else 8)
    raise Corruption(f"Parquet metadata holds an unknown wire type {wire}")


def _value(wire: int, value: Any, out: list[bytes]) -> None:
    if wire in (I16, I32, I64):
        out.append(zigzag(value))
    elif wire == BINARY:
        out.append(varint(len(value)))
        out.append(value)
    elif wire == STRUCT:
        _fields(value, out, 0)
        out.append(b"\0")
    elif wire == LIST:
        element, values = value
        count = len(values)
        out.append(bytes((count << 4 | element,)) if count < 15 else bytes((0xF0 | element,)) + varint(count))
        for item in values:
            if element in (TRUE, FALSE):
                out.append(bytes((TRUE if item else FALSE,)))
            else:
                _value(element, item, out)
    elif wire == BYTE:
        out.append(bytes((value,)))
    elif wire == DOUBLE:
        out.append(value)
    else:  # pragma: no cover - only values read or built here come in
        raise AssertionError(f"wire type {wire}")


def _fields(fields: Struct, out: list[bytes], previous: int) -> None:
    for field in sorted(fields):
        wire, value = fields[field]
        if wire in (TRUE, FALSE):
            wire = TRUE if value else FALSE
        out.append(field_header(wire, field, previous))
        if wire not in (TRUE, FALSE):
            _value(wire, value, out)
        previous = field


def write_fields(fields: Struct, previous: int = 0) -> bytes:
    """The fields of a struct without its end, as they stand after the field ``previous``."""
    out: list[bytes] = []
    _fields(fields, out, previous)
    return b"".join(out)


def write_struct(fields: Struct) -> bytes:
    """A whole struct, fields in ascending order."""
    return write_fields(fields) + b"\0"
