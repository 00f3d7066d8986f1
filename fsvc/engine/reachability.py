"""What is reached from the refs, and from whatever else stays: commits, manifests, objects.

Every entry of every ref is a root. Of commits that are reached, what has expired (:mod:`fsvc.engine.expired`) is
not; a commit at which a ref stands now keeps all. What is read from a root has to be there: a commit, manifest or
object that is not, or is damaged, stops the walk. What is read besides, from files that no ref reaches but that stay,
may be left over from a crash; there, what cannot be read demands nothing. A manifest that others are stored against
stays for their sake, without its objects.

Ids of commits and snapshots are held in memory, the index as :class:`fsvc.engine.catalogue.Catalogue` holds it, and
one flag for each object. Objects are looked up one whole manifest at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

import numpy as np

from fsvc.engine.catalogue import Catalogue, Flags
from fsvc.engine.expired import standing_commits
from fsvc.engine.files import commit_of, manifest_of
from fsvc.engine.progress import Progress, silent
from fsvc.engine.refs import KINDS, RefEntry
from fsvc.engine.store import Store
from fsvc.errors import Corruption, KeyAbsent
from fsvc.format import manifest as manifests
from fsvc.format.canonical import ADDRESS_BYTES
from fsvc.format.commit import CommitRecord

__all__ = ["Reach", "reached_commits", "root_entries"]

_CACHED = 2 * manifests.MAX_DEPTH


def root_entries(store: Store) -> Iterator[RefEntry]:
    """Every entry of every ref that keeps a commit. Raises Corruption where one is damaged."""
    for kind in KINDS:
        for name in store.refs.names(kind, deleted=True):
            for entry in store.refs.log(kind, name):
                if entry.commit is not None:
                    yield entry


def reached_commits(store: Store, progress: Progress = silent) -> dict[str, CommitRecord]:
    """All commits that any entry of any ref reaches. Raises Corruption where one, or an entry, is damaged."""
    stack = [entry.commit for entry in root_entries(store) if entry.commit]
    records: dict[str, CommitRecord] = {}
    while stack:
        commit = stack.pop()
        if commit not in records:
            records[commit] = store.commit(commit)
            stack.extend(records[commit].parents)
            progress("commits", len(records), None)
    return records


class Reach:
    """What is reached, as far as one has walked: first from the roots, then from other files that stay.

    ``commits`` and ``manifests`` are ids. ``files`` are the keys of all commits and manifests that are there
    and not dead; they, the index and the packs are listed after the refs were read, so that whatever a ref names is
    found. ``snapshots`` are further ids of snapshots to keep, where they are there.

    Raises Corruption where anything that a ref reaches is damaged or missing.
    """

    def __init__(self, store: Store, snapshots: Iterable[str] = (), *, progress: Progress = silent) -> None:
        # Nothing that is kept in memory is trusted: who has read a commit once may not notice that it is gone.
        self._store = Store(store.storage)
        self._progress = progress
        self._encoded: OrderedDict[str, bytes] = OrderedDict()
        self.commits: set[str] = set()
        self.manifests: set[str] = set()
        self._bases: set[str] = set()
        self._expired, self._standing = self._store.expired, standing_commits(store.refs)
        self._expired.refresh()
        wanted = self._walk({entry.commit for entry in root_entries(store) if entry.commit}, strict=True)
        listed = (key for prefix in ("commits/", "manifests/") for key in store.storage.keys(prefix))
        files = [key for key in listed if commit_of(key) or manifest_of(key)]
        # After the manifests: the objects of one that was seen are in the index that is read after it.
        store.objects.refresh()
        # After the index: whatever is missing there on purpose was written down before.
        self._erased = store.objects.erased
        self._erased.refresh()
        self.files = frozenset(files) - store.objects.dead_keys
        self._copies: dict[str, list[str]] = {}
        for key in self.files:
            if (name := manifest_of(key)) is not None:
                self._copies.setdefault(name, []).append(key)
        self.catalogue = Catalogue(store.objects.tables())
        self._read(wanted, strict=True)
        self.needed = self.closed(self.catalogue.reached, strict=True)
        """Which objects the roots need, by their number in the catalogue."""
        self.catalogue.reached = self.needed.copy()
        self._read([name for name in snapshots if name in self._copies], strict=False)

    @property
    def reached(self) -> Flags:
        """Which objects are reached, by their number in the catalogue."""
        return self.catalogue.reached

    def holds(self, key: str) -> bool:
        """Whether the commit or manifest under a key was reached."""
        return commit_of(key) in self.commits or manifest_of(key) in self.manifests | self._bases

    def add(self, keys: Iterable[str]) -> None:
        """Walk on from files that stay though no ref reaches them."""
        keys = list(keys)
        wanted = self._walk({commit for key in keys if (commit := commit_of(key))}, strict=False)
        alone = (name for key in keys if (name := manifest_of(key)) and name not in self._bases)
        self._read([*wanted, *alone], strict=False)

    def finish(self) -> None:
        """Take in what the objects that were reached stand on."""
        self.catalogue.reached = self.closed(self.catalogue.reached)

    def closed(self, flags: Flags, *, strict: bool = False) -> Flags:
        """Some objects, with all that they stand on; where one is nowhere, ``strict`` raises Corruption."""
        found, lost = self.catalogue.closed(flags)
        if strict and len(lost):
            raise _nowhere(lost[0].tobytes())
        return found

    def _walk(self, starts: set[str], *, strict: bool) -> list[str]:
        """Take in commits with their ancestors; the snapshots that they name, without what has expired."""
        stack = sorted(starts)
        wanted: dict[str, None] = {}
        while stack:
            commit = stack.pop()
            if commit in self.commits:
                continue
            try:
                record = self._store.commit(commit)
            except Corruption:
                if strict:
                    raise
                continue
            self.commits.add(commit)
            wanted.update(dict.fromkeys(sorted(self._expired.kept([(commit, record)], self._standing))))
            stack.extend(record.parents)
        return list(wanted)

    def _read(self, names: Iterable[str], *, strict: bool) -> None:
        """Take in manifests, those that they are stored against, and their objects."""
        stack = list(names)
        done, total = 0, len(stack)
        while stack:
            name = stack.pop()
            if name in self.manifests:
                continue
            try:
                bases = [self._base(key) for key in self._copies.get(name, ())]
                self._reach_objects(name, strict=strict)
            except Corruption:
                if strict:
                    raise
                continue
            self.manifests.add(name)
            self._stand_on({base for base in bases if base})
            done += 1
            self._progress("manifests", done, max(total, done + len(stack)))

    def _stand_on(self, bases: set[str]) -> None:
        """Take in manifests that others are stored against, and those below; they were read with what is above."""
        stack = list(bases)
        while stack:
            name = stack.pop()
            if name not in self._bases:
                self._bases.add(name)
                stack.extend(base for key in self._copies.get(name, ()) if (base := self._base(key)))

    def _base(self, key: str) -> str:
        """What the manifest under a key is stored against; nothing where it is gone by now."""
        try:
            return manifests.read_stored(self._store.storage.get(key), what=key).base
        except KeyAbsent:
            return ""

    def _reach_objects(self, name: str, *, strict: bool) -> None:
        what = f"manifest {name}"
        addresses = manifests.addresses_in(self._bytes(name), what=what)
        found = np.zeros(len(addresses) // ADDRESS_BYTES, np.bool_)
        for places, numbers in self.catalogue.find(addresses):
            found[places] = True
            self.catalogue.reached[numbers] = True
        if not strict:
            return
        for first in np.flatnonzero(~found).tolist():
            address = addresses[first * ADDRESS_BYTES : (first + 1) * ADDRESS_BYTES]
            if self._erased.of(address) is None:
                raise _nowhere(address)

    def _bytes(self, name: str) -> bytes:
        """The canonical bytes of a manifest; those that were read last are remembered, since others stand on them."""
        encoded = self._encoded.get(name)
        if encoded is None:
            encoded = self._store.manifest_bytes(name, known=self._encoded)
            self._encoded[name] = encoded
            while len(self._encoded) > _CACHED:
                self._encoded.popitem(last=False)
        return encoded


def _nowhere(address: bytes) -> Corruption:
    return Corruption(
        f"object {address.hex()}, which is needed, is in no index file",
        hint="nothing was deleted; run 'fsvc verify' to see what is missing",
    )
