"""Canonical JSON to write, strict JSON to read, and a seal that proves what was read.

The canonical form, on which identities rest, is this and never changes:

* UTF-8, no byte order mark, no white space between tokens;
* the keys of an object in ascending order of their Unicode code points, none twice;
* integers in shortest decimal form, from -2**63 to 2**64 - 1; no fractions, no exponents;
* in strings, ``"`` and ``\\`` are escaped with a backslash, the characters below U+0020 as ``\\b``, ``\\t``,
  ``\\n``, ``\\f``, ``\\r`` or else ``\\u00xx`` in lower case; every other character stands for itself;
* arrays and objects nest at most 64 deep.

Reading accepts ordinary JSON of these values (any white space, any order of keys) and refuses everything
that two readers could understand differently. Nothing that is read can exhaust the stack.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any, Final, NoReturn

from blake3 import blake3

from fsvc.errors import Corruption, InvalidUse

__all__ = ["MAX_BYTES", "MAX_DEPTH", "SEAL", "dumps", "loads", "seal", "unseal"]

MAX_BYTES: Final = 64 * 1024 * 1024
"""The largest document that :func:`loads` takes unless told otherwise, in bytes."""

MAX_DEPTH: Final = 64
"""How deep arrays and objects may nest: ``[]`` and ``{}`` are one deep."""

SEAL: Final = "blake3"
"""The key under which :func:`seal` puts the proof."""

_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1
_LONGEST_INT: Final = len(str(_LARGEST))

# Possessive repetition: no backtracking, so an unfinished string costs linear time.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEP: Final = [1 if byte in b"[{" else -1 for byte in range(256)]


def dumps(value: Any) -> bytes:
    """Return the canonical JSON of ``value``.

    Only plain ``dict`` (with ``str`` keys), ``list``, ``str``, ``int``, ``bool`` and ``None`` are taken;
    subclasses are refused too, since they would come back as something else.

    :raises InvalidUse: for anything else, a lone surrogate, an integer beyond 64 bits, or too deep a nesting.
    """
    _check(value, 0)
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    ).encode()


def loads(data: bytes, *, what: str, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value that the JSON document ``data`` stands for.

    ``what`` names the document in errors. ``max_depth`` is at most a few hundred: Python's parser recurses.

    :raises Corruption: if ``data`` is longer than ``max_bytes``, is not UTF-8, is not one JSON document from
        its first byte to its last, nests too deep, holds a key twice, a number that is not an integer of 64
        bits, or a string that is not Unicode text.
    """
    if len(data) > max_bytes:
        raise Corruption(
            f"{what} is too large: {len(data):,} bytes, where at most {max_bytes:,} are expected"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Corruption(f"{what} is not valid UTF-8 at byte {error.start:,}") from None
    if _deeper_than(data, max_depth):
        raise Corruption(f"{what} is nested more than {max_depth} deep")
    refuse = _Refuse(what)
    try:
        value = json.loads(
            text,
            object_pairs_hook=refuse.twice,
            parse_int=refuse.huge,
            parse_float=refuse.fraction,
            parse_constant=refuse.constant,
        )
    except json.JSONDecodeError as error:
        raise Corruption(f"{what} is not valid JSON at character {error.pos:,}: {error.msg}") from None
    # Raw surrogates are not UTF-8; escaped ones pass the parser, and are rare enough to look again.
    if _SURROGATE_ESCAPE.search(data) and _holds_surrogate(value):
        raise Corruption(f"{what} is not Unicode text: it holds half of a surrogate pair")
    return value


def seal(value: dict[str, Any]) -> bytes:
    """Return the canonical JSON of ``value`` with its own BLAKE3 under ``"blake3"``, and a final newline.

    The proof is the lower-case hex of BLAKE3-256 over ``dumps(value)``, without the seal.

    :raises InvalidUse: as :func:`dumps`, or if ``value`` is no ``dict`` or has a key ``"blake3"`` already.
    """
    if type(value) is not dict:
        raise InvalidUse(f"only a dict can be sealed, not {type(value).__name__}")
    if SEAL in value:
        raise InvalidUse(f"a value with a key {SEAL!r} cannot be sealed: the key is where the seal goes")
    return dumps({**value, SEAL: blake3(dumps(value)).hexdigest()}) + b"\n"


def unseal(data: bytes, *, what: str, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the value that was given to :func:`seal`, once its seal is proven.

    :raises Corruption: as :func:`loads`, or if there is no seal, it does not match, or the bytes are not
        exactly those that :func:`seal` gives.
    """
    value = loads(data, what=what, max_bytes=max_bytes)
    if type(value) is not dict:
        raise Corruption(f"{what} is not a JSON object")
    proof = value.pop(SEAL, None)
    if type(proof) is not str:
        raise Corruption(f"{what} is not sealed: it has no {SEAL!r}")
    if blake3(dumps(value)).hexdigest() != proof:
        raise Corruption(f"{what} is damaged: its content does not match its seal")
    if seal(value) != data:
        raise Corruption(f"{what} is not in canonical form")
    return value


class _Refuse:
    """The parser's hooks: what JSON allows and a strict reader does not."""

    def __init__(self, what: str) -> None:
        self.what = what

    def twice(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    raise Corruption(f"{self.what} is ambiguous: it has the key {key!a} twice")
                seen.add(key)
        return value

    def huge(self, digits: str) -> int:
        # The length is looked at first: turning a million digits into an int takes quadratic time.
        if len(digits) <= _LONGEST_INT and _SMALLEST <= (number := int(digits)) <= _LARGEST:
            return number
        raise Corruption(f"{self.what} is out of range: it holds an integer beyond 64 bits")

    def fraction(self, digits: str) -> NoReturn:
        raise Corruption(
            f"{self.what} is not exact: it holds the number {digits[:40]}, which is not an integer"
        )

    def constant(self, name: str) -> NoReturn:
        raise Corruption(f"{self.what} is not valid JSON: it holds {name}")


def _deeper_than(data: bytes, limit: int) -> bool:
    """Say whether brackets nest deeper than ``limit``, without parsing.

    Up to the first error in ``data``, this splits strings from brackets exactly as a parser does; past it no
    parser goes on, so at worst a broken document is called too deep.
    """
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    brackets = _STRING.sub(b"", data).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > limit


def _holds_surrogate(value: Any) -> bool:
    if type(value) is str:
        return _SURROGATE.search(value) is not None
    if type(value) is list:
        return any(map(_holds_surrogate, value))
    if type(value) is dict:
        return any(map(_holds_surrogate, value)) or any(map(_holds_surrogate, value.values()))
    return False


def _check(value: Any, depth: int) -> None:
    """Refuse what has no canonical form; ``depth`` arrays and objects are around ``value``."""
    kind = type(value)
    if kind is str:
        if _SURROGATE.search(value):
            raise InvalidUse(f"text with half of a surrogate pair has no JSON: {value[:40]!a}")
    elif kind is int:
        if not _SMALLEST <= value <= _LARGEST:
            raise InvalidUse("an integer beyond 64 bits has no canonical JSON")
    elif kind is dict or kind is list:
        if depth >= MAX_DEPTH:
            raise InvalidUse(f"a value nested more than {MAX_DEPTH} deep has no canonical JSON")
        if kind is dict:
            for key in value:
                if type(key) is not str:
                    raise InvalidUse(f"a key of canonical JSON is a str, not {type(key).__name__}")
                _check(key, depth)
            value = value.values()
        for part in value:
            _check(part, depth + 1)
    elif kind is not bool and value is not None:
        raise InvalidUse(f"{kind.__name__} has no canonical JSON")
