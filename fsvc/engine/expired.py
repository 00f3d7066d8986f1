"""What has expired: records that say of old versions that nothing keeps their data any more, since when, by which rule.

``expired/<id>.json`` names snapshots by feature set and commit. The commits stay, and with them ids, messages and
numbers of versions; garbage is what of the data no other snapshot needs (:mod:`fsvc.engine.reachability`). Whatever
the records say, the newest commit of a branch, and the commit of a tag or a pin, keeps its data. A record is taken
back by another one. It explains an absence and nothing more: until garbage is collected, what it names is read
like anything else.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fsvc.engine.refs import KINDS, Refs
from fsvc.errors import Corruption, ExpiredError
from fsvc.format import strictjson
from fsvc.format.commit import CommitRecord, is_id
from fsvc.storage.contract import Storage

__all__ = ["EXPIRED", "Expired", "Expiry", "standing_commits"]

EXPIRED = "expired/"
_MEMBERS = {"author", "policy", "snapshots", "time", "undoes"}

Named = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Feature sets, their snapshots, and of each the commits that name it."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """One record: what expired by a ``policy``, in words; or what did not, of the record that ``undoes`` names."""

    id: str
    snapshots: Named
    author: str
    policy: str
    time: str
    undoes: str = ""

    @classmethod
    def new(cls, snapshots: Named, *, author: str, policy: str, time: str, undoes: str = "") -> Expiry:
        """A record under a random id."""
        return cls(uuid.uuid4().hex, snapshots, author, policy, time, undoes)

    @property
    def key(self) -> str:
        """Where it lies in the store."""
        return f"{EXPIRED}{self.id}.json"

    def to_bytes(self) -> bytes:
        """The record as it is stored: sealed JSON."""
        return strictjson.seal(
            {
                "author": self.author,
                "policy": self.policy,
                "snapshots": {
                    name: {snapshot: sorted(commits) for snapshot, commits in found.items()}
                    for name, found in self.snapshots.items()
                },
                "time": self.time,
                "undoes": self.undoes,
            }
        )

    def pairs(self) -> Iterator[tuple[str, str, str]]:
        """Commits, feature sets and snapshots."""
        for name, found in self.snapshots.items():
            for snapshot, commits in found.items():
                for commit in commits:
                    yield commit, name, snapshot


def _parse(name: str, data: bytes, what: str) -> Expiry:
    value: Mapping[str, Any] = strictjson.unseal(data, what=what)
    texts = [value.get(member) for member in ("author", "policy", "time", "undoes")]
    named = value.get("snapshots")
    if (
        set(value) != _MEMBERS
        or not all(isinstance(text, str) for text in texts)
        or not isinstance(named, dict)
        or not all(_are_snapshots(found) for found in named.values())
    ):
        raise Corruption(f"{what} is not a record of what expired")
    snapshots = {
        set_name: {snapshot: tuple(commits) for snapshot, commits in found.items()}
        for set_name, found in named.items()
    }
    return Expiry(name, snapshots, *map(str, texts))


def _are_snapshots(value: Any) -> bool:
    return isinstance(value, dict) and all(
        is_id(snapshot)
        and isinstance(commits, list)
        and all(isinstance(c, str) and is_id(c) for c in commits)
        for snapshot, commits in value.items()
    )


class Expired:
    """The records of a store as they were last looked at. Files never change, so each is read once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.records: Mapping[str, Expiry] = {}
        self._pairs: dict[tuple[str, str], Expiry] = {}
        self._snapshots: dict[str, Expiry] = {}

    def refresh(self) -> None:
        """Look at the records again. Raises Corruption where one is damaged."""
        found = {}
        for key in self._storage.keys(EXPIRED):
            name = key[len(EXPIRED) : -len(".json")]
            found[name] = self.records.get(name) or _parse(name, self._storage.get(key), key)
        self.records = found
        kept: dict[str, set[tuple[str, str]]] = {}
        for record in found.values():
            if record.undoes:
                kept.setdefault(record.undoes, set()).update((c, name) for c, name, _ in record.pairs())
        self._pairs, self._snapshots = {}, {}
        # Of several records the oldest: since then nothing keeps it.
        for record in sorted(found.values(), key=lambda one: (one.time, one.id), reverse=True):
            for commit, name, snapshot in () if record.undoes else record.pairs():
                if (commit, name) not in kept.get(record.id, ()):
                    self._pairs[commit, name] = self._snapshots[snapshot] = record

    def of(self, commit: str, name: str) -> Expiry | None:
        """The record that names a feature set in a commit, if one does and was not taken back."""
        return self._pairs.get((commit, name))

    def refusal(self, snapshot: str) -> ExpiredError | None:
        """The error for a snapshot whose data are gone; None where they should be there."""
        record = self._snapshots.get(snapshot)
        if record is None:
            return None
        return ExpiredError(
            f"snapshot {snapshot[:12]} expired by policy on {record.time[:10]}: {record.policy}",
            hint="its data were freed; newer versions may hold what you need",
        )

    def kept(self, records: Iterable[tuple[str, CommitRecord]], standing: frozenset[str]) -> set[str]:
        """The snapshots of some commits that are to be there; ``standing`` are commits that keep all of theirs."""
        return {
            value.snapshot
            for commit, record in records
            for name, value in record.feature_sets.items()
            if commit in standing or (commit, name) not in self._pairs
        }


def standing_commits(refs: Refs) -> frozenset[str]:
    """The commits at which branches, tags and pins stand now."""
    return frozenset(
        entry.commit for kind in KINDS for entry in refs.heads(kind).values() if entry.commit is not None
    )
