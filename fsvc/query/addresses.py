"""Addresses in SQL: finding ``customers@v3`` among everything else that a query may hold.

DuckDB's own tokenizer says what is a string, a comment or a name. An address is a name with ``@`` and a
revision right behind it, without a space: ``@`` as an operator has one before it, or no name. DuckDB
needs no more than quotes to take an address for the name of a table, so quotes are all that is put in:
``from customers@v3`` becomes ``from "customers@v3"``, and a view of that name does the rest. What is
shadowed by what (by CTEs, by tables) is thereby DuckDB's own rule.

::

    address  = name "@" revision                     (see fsvc.format.revision)
    name     = identifier | quoted identifier        (after FROM and JOIN, a keyword too)
    base     = words with one of . / - between       (others are quoted: "customers@odd name")

A dot and a letter behind a version begin a column: ``customers@v3.balance``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from fsvc.query.texttypes import quote_name

__all__ = ["Mention", "Query", "find"]

_REVISION = re.compile(
    r"(?:v[0-9]+(?![\w/-]|\.[0-9])|\w+(?:[./-]\w+)*)?"  # base
    r"(?:\{[^{}'\"\n]*\})?"  # time
    r"(?:[~^][0-9]*)*"  # steps
)
_PLAIN = re.compile(r"[^\W\d][\w$]*")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True, slots=True)
class Mention:
    """A name in a query that may be a feature set, alone or at a revision.

    ``text`` is the name as DuckDB knows it, which is an address; ``start`` and ``end`` are where it
    stands in the query, in characters. ``certain`` is False where it may as well be an ordinary name (a
    name without a revision, or quotes around all of it) or no name at all: a keyword after FROM or JOIN.
    """

    text: str
    start: int
    end: int
    certain: bool


class Query:
    """A query, the names in it, and its text for DuckDB, in which every address has quotes.

    Attributes:
        text: as it was written.
        sql: the text for DuckDB.
        mentions: the names, in order.
    """

    def __init__(self, text: str, mentions: tuple[Mention, ...]) -> None:
        self.text = text
        self.mentions = mentions
        # Where pieces that were not changed begin in ``sql``, and where in ``text``.
        self._places: list[tuple[int, int]] = [(0, 0)]
        parts: list[str] = []
        done = length = 0
        self._quoted: dict[str, str] = {}
        for mention in mentions:
            if not mention.certain:
                continue
            quoted = quote_name(mention.text)
            self._quoted[quoted] = text[mention.start : mention.end]
            parts += [text[done : mention.start], quoted]
            length += mention.start - done
            self._places.append((length, mention.start))
            length += len(quoted)
            done = mention.end
            self._places.append((length, done))
        self.sql = "".join([*parts, text[done:]])

    def place(self, offset: int) -> int:
        """Where in the text the character at an offset of ``sql`` comes from; the start of an address."""
        number = bisect_right(self._places, offset, key=lambda place: place[0]) - 1
        start, origin = self._places[number]
        return origin if number % 2 else origin + offset - start

    def unquoted(self, message: str) -> str:
        """A message about ``sql`` in which addresses are written as in the text."""
        for quoted, written in self._quoted.items():
            message = message.replace(quoted, written)
        return message


def find(text: str) -> Query:
    """Find the names in a query. Whatever it holds, SQL or not, nothing is refused here."""
    return Query(text, tuple(_mentions(text)))


def _mentions(text: str) -> Iterator[Mention]:
    done = 0
    after: str = ""  # the token before
    for kind, start, end in _tokens(text):
        if start < done:
            continue
        token = text[start:end]
        pattern = _QUOTED if token[:1] == '"' else _PLAIN
        name = pattern.match(token)
        named = kind == "identifier" or (kind == "keyword" and after in ("from", "join"))
        if name is not None and named and not after.endswith("."):
            stop = start + name.end()
            plain = name[0][1:-1].replace('""', '"') if token[0] == '"' else name[0]
            revision = _REVISION.match(text, stop + 1) if text[stop : stop + 1] == "@" else None
            if revision is not None and revision[0]:
                done = revision.end()
                yield Mention(f"{plain}@{revision[0]}", start, done, certain=True)
            else:
                yield Mention(plain, start, stop, certain=False)
        if kind != "comment":
            after = token.strip().lower()


def _tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """The tokens of a text: kind, start and end in characters. What follows a token belongs to it."""
    import duckdb

    data = text.encode("utf-8", "replace")
    found = duckdb.tokenize(data.decode("utf-8"))
    places = [(offset, str(kind).rpartition(".")[2]) for offset, kind in found]
    plain = len(data) == len(text)
    character = len(data[: places[0][0]].decode("utf-8", "replace")) if places else 0
    for (start, kind), (end, _) in pairwise([*places, (len(data), "")]):
        length = end - start if plain else len(data[start:end].decode("utf-8", "replace"))
        yield kind, character, character + length
        character += length
