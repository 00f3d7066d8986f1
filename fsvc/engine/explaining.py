"""What keeps a commit, a snapshot, an object or a pack: the way from it up to the refs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from fsvc.engine.catalogue import Catalogue, Flags
from fsvc.engine.condemned import Lists
from fsvc.engine.expired import standing_commits
from fsvc.engine.files import commit_key, commit_of, manifest_of, pack_key, pack_of
from fsvc.engine.history import short
from fsvc.engine.reachability import root_entries
from fsvc.engine.refs import RefEntry
from fsvc.engine.store import Store
from fsvc.errors import InvalidUse, NotFound
from fsvc.format import manifest as manifests
from fsvc.format.commit import CommitRecord

__all__ = ["Explanation", "explain"]

_PREFIX = re.compile("[0-9a-f]{4,64}")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What keeps one thing alive. Nothing does where ``kept`` is False.

    ``kind`` is ``commit``, ``snapshot``, ``object`` or ``pack``, and ``id`` its whole id. ``refs`` are those
    that reach it (``branch main``, or ``entry 3 of branch main`` where only that old entry does); ``snapshots`` those
    that need it, as ``NAME@COMMIT`` by the newest commit that was found, or as ids where it is the files of
    a workspace that name them. ``standing`` are ids of snapshots and objects that are stored against it.
    ``condemned`` is whether it is on a list of files to delete.
    """

    kind: str
    id: str
    kept: bool
    refs: tuple[str, ...]
    snapshots: tuple[str, ...]
    standing: tuple[str, ...]
    condemned: bool


def explain(store: Store, text: str, snapshots: Iterable[str] = ()) -> Explanation:
    """Say what keeps the thing whose id begins so; at least four hexadecimal digits.

    ``snapshots`` are those that are kept besides. Raises NotFound where nothing is called so, InvalidUse
    where several things are, Corruption where what refs reach cannot be read.
    """
    if _PREFIX.fullmatch(text) is None:
        raise InvalidUse(f"{text!r} is not the beginning of an id", hint="give 4 to 64 hexadecimal digits")
    return _Graph(store, snapshots).explain(*_find(store, text))


def _find(store: Store, text: str) -> tuple[str, str]:
    found = {("commit", name) for key in store.storage.keys("commits/") if (name := commit_of(key))}
    found |= {("snapshot", name) for key in store.storage.keys("manifests/") if (name := manifest_of(key))}
    found |= {("pack", name) for key in store.storage.keys("packs/") if (name := pack_of(key))}
    found = {(kind, name) for kind, name in found if name.startswith(text)}
    store.objects.refresh()
    for table in store.objects.tables():
        # Addresses are sorted, so those that begin alike lie side by side.
        first = np.searchsorted(table.high, np.uint64(int(text[:16].ljust(16, "0"), 16)), "left")
        last = np.searchsorted(table.high, np.uint64(int(text[:16].ljust(16, "f"), 16)), "right")
        addresses = {
            table.entry(i).address.hex() for i in range(int(first), min(int(last), int(first) + 1000))
        }
        found |= {("object", address) for address in addresses if address.startswith(text)}
    if not found:
        raise NotFound(f"no commit, snapshot, object or pack is called {text!r}")
    if len(found) > 1:
        some = ", ".join(f"{kind} {name[: len(text) + 8]}" for kind, name in sorted(found)[:5])
        raise InvalidUse(f"{len(found)} things are called {text!r}: {some}", hint="give more digits")
    return found.pop()


class _Graph:
    """All that refs reach, with the ways back."""

    def __init__(self, store: Store, snapshots: Iterable[str]) -> None:
        self._store = store
        self._besides = frozenset(snapshots)
        self._roots = list(root_entries(store))
        self._records: dict[str, CommitRecord] = {}
        stack = [entry.commit for entry in self._roots if entry.commit]
        while stack:
            commit = stack.pop()
            if commit not in self._records:
                self._records[commit] = store.commit(commit)
                stack.extend(self._records[commit].parents)
        store.expired.refresh()
        self._wanted = store.expired.kept(self._records.items(), standing_commits(store.refs))
        self._children: dict[str, list[str]] = {}
        for commit, record in self._records.items():
            for parent in record.parents:
                self._children.setdefault(parent, []).append(commit)

    def explain(self, kind: str, name: str) -> Explanation:
        """What keeps a thing."""
        listed = Lists(self._store.storage)
        listed.refresh()
        keys = listed.condemned_keys | listed.dead_keys
        if kind == "commit":
            refs = self._refs({name} & self._records.keys())
            return Explanation(kind, name, bool(refs), refs, (), (), commit_key(name) in keys)
        own = {manifest_of(key) or pack_of(key) for key in keys}
        if kind == "snapshot":
            users, standing = self._against(name), set[str]()
            standing = {user for user in users if user != name}
        else:
            users, standing = self._needing(kind, name)
        labels, commits = self._named(users)
        refs = self._refs(commits)
        condemned = pack_key(name) in keys if kind == "pack" else name in own
        return Explanation(
            kind, name, bool(labels or refs), refs, tuple(labels), tuple(sorted(standing)), condemned
        )

    def _kept(self) -> Iterator[str]:
        """The snapshots that commits name, and those kept besides, each once; the newest commits' first."""
        yield from dict.fromkeys(
            [
                value.snapshot
                for record in self._records.values()
                for value in record.feature_sets.values()
                if value.snapshot in self._wanted
            ]
            + sorted(self._besides)
        )

    def _against(self, snapshot: str) -> set[str]:
        """A snapshot and those whose manifests are stored against its manifest, one on the other."""
        found: set[str] = set()
        for name in self._kept():
            chain = [name]
            while chain[-1] != snapshot and len(chain) <= manifests.MAX_DEPTH + 1:
                base = self._store.stored_manifest(chain[-1]).base
                if not base:
                    break
                chain.append(base)
            if chain[-1] == snapshot:
                found.update(chain[:1])
        return found

    def _needing(self, kind: str, name: str) -> tuple[set[str], set[str]]:
        """The snapshots that need an object, or one of a pack; and the objects that stand on it."""
        catalogue = Catalogue(self._store.objects.tables())
        asked = np.zeros(len(catalogue), np.bool_)
        if kind == "pack":
            asked[catalogue.by_pack().get(name, np.empty(0, np.int64))] = True
        else:
            for _, numbers in catalogue.find(bytes.fromhex(name)):
                asked[numbers] = True
        above = _above(catalogue, asked)
        users = set()
        for snapshot in self._kept():
            addresses = manifests.addresses_in(self._store.manifest_bytes(snapshot), what=snapshot)
            if any(above[numbers].any() for _, numbers in catalogue.find(addresses)):
                users.add(snapshot)
        standing = np.flatnonzero(above & ~asked)
        raw = catalogue.addresses(standing)
        return users, {raw[i : i + 16].hex() for i in range(0, len(raw), 16)}

    def _named(self, snapshots: Collection[str]) -> tuple[list[str], set[str]]:
        """Snapshots as NAME@COMMIT, and all commits that name one of them."""
        labels: dict[tuple[str, str], str] = {}
        commits = set()
        for commit, record in self._records.items():
            for name, value in record.feature_sets.items():
                if value.snapshot in snapshots:
                    commits.add(commit)
                    if name in record.changes or (name, value.snapshot) not in labels:
                        labels[name, value.snapshot] = f"{name}@{short(commit)}"
        unnamed = (self._besides & set(snapshots)) - {snapshot for _, snapshot in labels}
        return [*labels.values(), *sorted(unnamed)], commits

    def _refs(self, commits: Collection[str]) -> tuple[str, ...]:
        """The refs whose history holds one of some commits; of each the newest entry that does."""
        seen, stack = set(commits), list(commits)
        while stack:
            fresh = [child for child in self._children.get(stack.pop(), ()) if child not in seen]
            seen.update(fresh)
            stack.extend(fresh)
        newest: dict[tuple[str, str], RefEntry] = {}
        for entry in self._roots:
            best = newest.get((entry.kind, entry.name))
            if entry.commit in seen and (best is None or best.sequence < entry.sequence):
                newest[entry.kind, entry.name] = entry
        return tuple(self._called(entry) for _, entry in sorted(newest.items()))

    def _called(self, entry: RefEntry) -> str:
        ref = {"heads": "branch", "tags": "tag", "pins": "pin"}[entry.kind] + f" {entry.name}"
        head = self._store.refs.head(entry.kind, entry.name)
        return ref if head == entry else f"entry {entry.sequence} of {ref}"


def _above(catalogue: Catalogue, asked: Flags) -> Flags:
    """Some objects, with all copies of them, and all that stand on them."""
    above, below = catalogue.edges()
    found = asked.copy()
    raw = below.tobytes()
    places = catalogue.find(raw) if len(above) else []
    while True:
        before = int(found.sum())
        for where, numbers in places:
            found[above[where[found[numbers]]]] = True
        if int(found.sum()) == before:
            return found
