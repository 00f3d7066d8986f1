"""Commits: named snapshots with their versions, parents, and who, when and why.

A commit is canonical JSON, and the BLAKE3 of its bytes is the commit id; so a commit id proves every
snapshot below it. Fields: docs/format.md, "Commit".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from blake3 import blake3

from fsvc.errors import Corruption, UnknownFormat
from fsvc.format import strictjson

__all__ = ["FORMAT", "CommitRecord", "SetVersion", "is_id", "is_time", "parse"]

FORMAT = 1
_ID = re.compile("[0-9a-f]{64}")
_TIME = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z")


def is_id(text: str) -> bool:
    """Whether a text is a whole commit or snapshot id: 64 lower-case hexadecimal digits."""
    return _ID.fullmatch(text) is not None


def is_time(text: str) -> bool:
    """Whether a text is a time as commits and refs write it: UTC with microseconds, and a day that there is."""
    try:
        return _TIME.fullmatch(text) is not None and bool(datetime.fromisoformat(text))
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class SetVersion:
    """A feature set in a commit: which snapshot it has, and that snapshot's number."""

    snapshot: str
    version: int


@dataclass(frozen=True)
class CommitRecord:
    """The content of a commit.

    ``changes`` tells, for every feature set that differs from the first parent, what changed; it is
    what ``fsvc log`` shows. ``time`` is RFC 3339 in UTC with microseconds.
    """

    feature_sets: Mapping[str, SetVersion]
    parents: tuple[str, ...]
    author: str
    time: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        return strictjson.dumps(
            {
                "author": self.author,
                "changes": {name: dict(change) for name, change in self.changes.items()},
                "feature_sets": {
                    name: {"snapshot": value.snapshot, "version": value.version}
                    for name, value in self.feature_sets.items()
                },
                "format": FORMAT,
                "message": self.message,
                "metadata": dict(self.metadata),
                "parents": list(self.parents),
                "time": self.time,
            }
        )

    @cached_property
    def id(self) -> str:
        """The commit id, in hex."""
        return blake3(self.encoded).hexdigest()


_FIELDS = {"author", "changes", "feature_sets", "format", "message", "metadata", "parents", "time"}


def parse(data: bytes, commit: str, *, what: str) -> CommitRecord:
    """Read a commit and prove it against its id.

    Raises Corruption where the bytes are not this commit, UnknownFormat for a newer format.
    """
    if blake3(data).hexdigest() != commit:
        raise Corruption(f"{what} is damaged: its content does not have this id")
    value = strictjson.loads(data, what=what)
    if not isinstance(value, dict) or "format" not in value:
        raise Corruption(f"{what} is not a commit")
    if value["format"] != FORMAT:
        raise UnknownFormat(f"{what} is of format {value['format']}", hint="upgrade fsvc")
    try:
        if set(value) != _FIELDS or not all(isinstance(value[k], str) for k in ("author", "message", "time")):
            raise Corruption(f"{what} is not a commit of this format")
        if not is_time(value["time"]):
            raise Corruption(f"{what} has no time in UTC with microseconds")
        sets = {
            name: SetVersion(item["snapshot"], item["version"])
            for name, item in value["feature_sets"].items()
        }
        for item in sets.values():
            if not is_id(item.snapshot) or type(item.version) is not int or item.version < 1:
                raise Corruption(f"{what} names a snapshot that is none")
        parents = value["parents"]
        if not isinstance(parents, list) or not all(isinstance(one, str) and is_id(one) for one in parents):
            raise Corruption(f"{what} names a parent that is none")
        metadata, changes = value["metadata"], value["changes"]
        if not all(isinstance(text, str) for text in metadata.values()) or not all(
            isinstance(change, dict) for change in changes.values()
        ):
            raise Corruption(f"{what} is not a commit of this format")
        return CommitRecord(
            sets,
            tuple(parents),
            value["author"],
            value["time"],
            value["message"],
            metadata,
            changes,
        )
    except (TypeError, KeyError, AttributeError, ValueError):
        raise Corruption(f"{what} is not a commit of this format") from None
