"""Statistics of a repository: what it holds, the bytes it takes, and the bytes it stands for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fsvc.engine import history
from fsvc.engine.progress import Progress, silent
from fsvc.engine.refs import KINDS
from fsvc.engine.store import Store
from fsvc.errors import GoneError
from fsvc.format import index
from fsvc.format.canonical import ADDRESS_BYTES

__all__ = ["FeatureSetStats", "Stats", "stats"]


@dataclass(frozen=True, slots=True)
class FeatureSetStats:
    """One feature set, over all commits that a ref reaches.

    ``snapshots`` are counted once each, though several versions may have the same. ``rows`` and
    ``columns`` are those of the newest version. ``objects`` and ``stored_bytes`` are what all its
    snapshots need together, with all that patches stand on (objects that feature sets share count for
    each); ``full_bytes`` is what its versions would take as one Parquet file each, with the same pages (a
    patched chunk counts as those that it stands on); ``logical_bytes`` is the size
    of those pages before compression, with values encoded as they are (a dictionary's once, and so on).
    """

    versions: int
    snapshots: int
    rows: int
    columns: int
    objects: int
    stored_bytes: int
    full_bytes: int
    logical_bytes: int


@dataclass(frozen=True, slots=True)
class Stats:
    """A whole repository.

    ``stored_bytes`` is the size of all files in the store, ``pack_bytes`` of packs, ``index_bytes``
    of index files, ``manifest_bytes`` of manifests. Commits are those that a ref reaches. ``objects``
    counts those that index files name, copies once. ``full_bytes`` and ``logical_bytes`` are sums over feature sets.
    """

    feature_sets: dict[str, FeatureSetStats]
    branches: int
    tags: int
    pins: int
    commits: int
    snapshots: int
    objects: int
    packs: int
    stored_bytes: int
    pack_bytes: int
    index_bytes: int
    manifest_bytes: int
    full_bytes: int
    logical_bytes: int


def stats(store: Store, *, progress: Progress = silent) -> Stats:
    """Count what a repository holds. Reads commits, manifests and the index, but no pack.

    Raises Corruption where one of them is damaged; verification says what.
    """
    heads = {kind: store.refs.heads(kind) for kind in KINDS}
    tips = [entry.commit for kind in KINDS for entry in heads[kind].values() if entry.commit is not None]
    commits = 0
    versions: dict[str, set[tuple[str, int]]] = {}
    newest: dict[str, str] = {}
    for _, record in history.ancestors(store, tips):
        commits += 1
        for name, value in record.feature_sets.items():
            newest.setdefault(name, value.snapshot)
            versions.setdefault(name, set()).add((value.snapshot, value.version))
    store.objects.refresh()
    meter = _Meter(store)
    sets: dict[str, FeatureSetStats] = {}
    every: set[str] = set()
    for done, name in enumerate(sorted(versions)):
        snapshots = Counter(snapshot for snapshot, _ in sorted(versions[name]))
        every.update(snapshots)
        sets[name] = meter.measure(store, snapshots, newest[name])
        progress("feature sets", done + 1, len(versions))
    sizes: dict[str, list[int]] = {}
    for entry in store.storage.list(""):
        sizes.setdefault(entry.key.partition("/")[0], []).append(entry.size)
    return Stats(
        feature_sets=sets,
        branches=len(heads["heads"]),
        tags=len(heads["tags"]),
        pins=len(heads["pins"]),
        commits=commits,
        snapshots=len(every),
        objects=meter.objects,
        packs=len(sizes.get("packs", ())),
        stored_bytes=sum(map(sum, sizes.values())),
        pack_bytes=sum(sizes.get("packs", ())),
        index_bytes=sum(sizes.get("index", ())),
        manifest_bytes=sum(sizes.get("manifests", ())),
        full_bytes=sum(found.full_bytes for found in sets.values()),
        logical_bytes=sum(found.logical_bytes for found in sets.values()),
    )


class _Meter:
    """The sizes of objects by address, from the index."""

    def __init__(self, store: Store) -> None:
        tables = store.objects.tables()
        high = np.concatenate([np.empty(0, np.uint64), *(table.high for table in tables)])
        low = np.concatenate([np.empty(0, np.uint64), *(table.low for table in tables)])
        lengths = np.concatenate([np.empty(0, np.uint64), *(table.lengths for table in tables)])
        metas = [entry.meta for table in tables for entry in table.entries()]
        sizes = np.array([_sizes(meta) for meta in metas], np.int64).reshape(-1, 2)
        # Words of one address side by side compare as one number of 16 bytes does.
        self._addresses, first = np.unique(_joined(high, low), return_index=True)
        self._lengths = lengths[first].astype(np.int64)
        self._whole, self._raw = sizes[first, 0], sizes[first, 1]
        standing = [(i, address) for i, place in enumerate(first) for address in index.below(metas[place])]
        self._above = np.array([i for i, _ in standing], np.int64)
        below = self._places(b"".join(address for _, address in standing))
        self._above, self._below = self._above[below >= 0], below[below >= 0]

    @property
    def objects(self) -> int:
        """How many different objects there are."""
        return len(self._addresses)

    def _places(self, addresses: bytes) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Where addresses are among all of them; -1 for one that no index file names."""
        if not addresses or not len(self._addresses):
            return np.full(len(addresses) // ADDRESS_BYTES, -1, np.int64)
        wanted = _joined(*index.address_words(addresses))
        at = np.minimum(np.searchsorted(self._addresses, wanted), len(self._addresses) - 1)
        return np.where(self._addresses[at] == wanted, at, -1)

    def measure(self, store: Store, snapshots: Mapping[str, int], newest: str) -> FeatureSetStats:
        """The statistics of one feature set with these snapshots, each with its number of versions."""
        used = np.zeros(len(self._addresses), np.bool_)
        full = logical = 0
        for snapshot, versions in snapshots.items():
            try:
                manifest = store.manifest(snapshot)
            except GoneError:
                continue  # it takes nothing any more
            wanted = manifest.addresses() + b"".join(identity.address for identity in manifest.categories)
            at = self._places(wanted)
            at = at[at >= 0]
            used[at] = True
            full += versions * int(self._whole[at].sum())
            logical += versions * int(self._raw[at].sum())
        while len(more := self._below[used[self._above] & ~used[self._below]]):
            used[more] = True
        head = store.manifest(newest)
        return FeatureSetStats(
            versions=sum(snapshots.values()),
            snapshots=len(snapshots),
            rows=head.num_rows,
            columns=len(head.schema),
            objects=int(used.sum()),
            stored_bytes=int(self._lengths[used].sum()),
            full_bytes=full,
            logical_bytes=logical,
        )


def _sizes(meta: bytes) -> tuple[int, int]:
    """The bytes of a chunk's pages (for a patch those of the chunks that it stands on), and before compression."""
    leaves = index.unpack_meta(meta)
    patch = index.unpack_patch(meta)
    whole = sum(leaf.length for leaf in leaves) if patch is None else patch.whole_bytes
    return whole, sum(leaf.uncompressed for leaf in leaves)


def _joined(high: index.Words, low: index.Words) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Addresses as bytes that sort and compare as one value."""
    return np.column_stack([high, low]).astype(">u8").view("S16").reshape(-1)
