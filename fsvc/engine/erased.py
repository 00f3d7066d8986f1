"""What was erased: records that say of objects that they are gone on purpose, when, by whom and why.

``erased/<id>.json`` is written before anything of what it names is deleted, and stays for ever. It explains an
absence and nothing more: an object that it names and that is there is read like any other.

It also names the row groups that were erased, each by a hash of the addresses of its key chunks, since that is what
tells one group of rows from another. No commit may bring such a group back. A single column that comes back equal,
say one in which all values are the same, is no secret of anybody, and is stored again.

``finished/<id>.json`` says that the purge of that record has come to its end. As long as it is not there, what was
erased may still lie on the disk, whatever can be read: the purge goes on, or was interrupted.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from blake3 import blake3

from fsvc.errors import Corruption, ErasedError, FsvcError, KeyExists
from fsvc.format import strictjson
from fsvc.format.canonical import ADDRESS_BYTES, DIGEST_BYTES
from fsvc.format.manifest import Manifest
from fsvc.storage.contract import Storage

__all__ = ["ERASED", "Erased", "Erasure", "Unfinished", "group_name", "group_names", "refusal", "refused"]

ERASED = "erased/"
_FINISHED = "finished/"
_MEMBERS = {"addresses", "author", "feature_set", "groups", "reason", "time"}
_HEX = re.compile("[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Erasure:
    """One record of an erasure.

    ``addresses`` are those of the objects, ``groups`` the names of the row groups as :func:`group_names` gives them.
    ``time`` is RFC 3339 in UTC, ``feature_set`` the one that was searched. Values are not in it.
    """

    id: str
    addresses: frozenset[bytes]
    groups: frozenset[bytes]
    author: str
    feature_set: str
    reason: str
    time: str

    @classmethod
    def new(
        cls,
        addresses: frozenset[bytes],
        groups: frozenset[bytes],
        *,
        author: str,
        feature_set: str,
        reason: str,
        time: str,
    ) -> Erasure:
        """A record under a random id."""
        return cls(uuid.uuid4().hex, addresses, groups, author, feature_set, reason, time)

    @property
    def key(self) -> str:
        """Where it lies in the store."""
        return f"{ERASED}{self.id}.json"

    def to_bytes(self) -> bytes:
        """The record as it is stored: sealed JSON."""
        return strictjson.seal(
            {
                "addresses": sorted(address.hex() for address in self.addresses),
                "author": self.author,
                "feature_set": self.feature_set,
                "groups": sorted(group.hex() for group in self.groups),
                "reason": self.reason,
                "time": self.time,
            }
        )

    def sentence(self, what: str) -> str:
        """That something was erased, when and why."""
        return f"{what} erased on {self.time[:10]}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A purge that has a record and did not come to its end: it goes on, or was interrupted.

    ``record`` is the id of the record, the rest is what that says.
    """

    record: str
    feature_set: str
    reason: str
    time: str

    def __str__(self) -> str:
        return (
            f"the purge of {self.feature_set} of {self.time[:10]} is not finished, its rows may still be here:"
            f" {self.reason}"
        )

    @property
    def hint(self) -> str:
        """How it is brought to its end."""
        return f"unless it is going on, finish it with 'fsvc purge {self.feature_set} --finish'"


def _parse(name: str, data: bytes, what: str) -> Erasure:
    value: Mapping[str, Any] = strictjson.unseal(data, what=what)
    addresses, groups = value.get("addresses"), value.get("groups")
    texts = [value.get(member) for member in ("author", "feature_set", "reason", "time")]
    if (
        set(value) != _MEMBERS
        or not _are_in_hex(addresses, ADDRESS_BYTES)
        or not _are_in_hex(groups, DIGEST_BYTES)
        or not all(isinstance(text, str) for text in texts)
    ):
        raise Corruption(f"{what} is not a record of what was erased")
    return Erasure(
        name,
        frozenset(map(bytes.fromhex, addresses or ())),
        frozenset(map(bytes.fromhex, groups or ())),
        *map(str, texts),
    )


def _are_in_hex(value: Any, size: int) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, str) and len(one) == 2 * size and _HEX.fullmatch(one) for one in value
    )


class Erased:
    """The records of a store as they were last looked at. Files never change, so each is read once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.records: Mapping[str, Erasure] = {}
        self._by_address: dict[bytes, Erasure] = {}

    def refresh(self) -> None:
        """Look at the records again. Raises Corruption where one is damaged."""
        keys = [key for key in self._storage.keys(ERASED) if key.endswith(".json")]
        found = {}
        for key in keys:
            name = key[len(ERASED) : -len(".json")]
            found[name] = self.records.get(name) or _parse(name, self._storage.get(key), key)
        self.records = found
        # Of several records the oldest: from then on it was gone.
        ordered = sorted(found.values(), key=lambda record: (record.time, record.id), reverse=True)
        self._by_address = {address: record for record in ordered for address in record.addresses}

    def of(self, address: bytes) -> Erasure | None:
        """The record that names an object, if one does."""
        return self._by_address.get(address)

    def unfinished(self) -> tuple[Unfinished, ...]:
        """The purges that did not come to their end, of those whose records are known; oldest first."""
        ended = {key[len(_FINISHED) : -len(".json")] for key in self._storage.keys(_FINISHED)}
        left = [record for name, record in self.records.items() if name not in ended]
        left.sort(key=lambda record: (record.time, record.id))
        return tuple(Unfinished(one.id, one.feature_set, one.reason, one.time) for one in left)

    def finish(self, time: str) -> None:
        """Write down, durably, that all purges whose records are known have come to their end."""
        for one in self.unfinished():
            with suppress(KeyExists):
                self._storage.put_if_absent(f"{_FINISHED}{one.record}.json", strictjson.seal({"time": time}))

    def reopen(self, records: Iterable[str]) -> None:
        """Take back that purges have come to their end: what they erased may be here again."""
        for record in records:
            self._storage.delete(f"{_FINISHED}{record}.json")

    @property
    def groups(self) -> dict[bytes, Erasure]:
        """All row groups that were erased, by name."""
        return {group: record for record in self.records.values() for group in record.groups}


def group_names(manifest: Manifest) -> list[bytes]:
    """What tells the row groups of a snapshot from others, each: the BLAKE3 of the addresses of its key chunks.

    Without a key it is that of the addresses of all its chunks.
    """
    names = manifest.schema.names
    columns = [names.index(name) for name in manifest.key] or list(range(len(names)))
    chosen = np.ascontiguousarray(manifest.chunks[columns][..., :ADDRESS_BYTES].transpose(1, 0, 2))
    return [group_name(chosen[group].tobytes()) for group in range(len(manifest.rows))]


def group_name(addresses: bytes) -> bytes:
    """The name of a row group by the addresses of its key chunks, or of all chunks where there is no key."""
    return blake3(addresses).digest()


def refused(record: Erasure, name: str) -> ErasedError:
    """The error for a feature set that would bring back what was erased."""
    return ErasedError(
        record.sentence(f"feature set {name!r} holds rows that were"),
        hint="leave the rows out that were to be erased, and commit again",
    )


def refusal(erased: Erased, name: str, manifest: Manifest) -> FsvcError | None:
    """The error for a snapshot that would bring back what was erased; None for any other."""
    groups = erased.groups
    record = (
        next((groups[group] for group in group_names(manifest) if group in groups), None) if groups else None
    )
    return None if record is None else refused(record, name)
