"""Verification of snapshots: their manifests, the objects that these name, and what those hold."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from fsvc.engine.catalogue import Positions
from fsvc.engine.erased import Erased
from fsvc.engine.patched import Patched, is_patch
from fsvc.engine.progress import Progress
from fsvc.engine.reading import SnapshotReader, decode_groups
from fsvc.engine.store import Store
from fsvc.engine.thawing import Thawed
from fsvc.engine.verification.objects import ObjectCheck
from fsvc.engine.verification.report import Found, Notes, Snapshots
from fsvc.engine.verification.standing import Standing
from fsvc.engine.writing import default_threads
from fsvc.errors import Corruption, FsvcError, KeyAbsent
from fsvc.format import index, pages
from fsvc.format import manifest as manifests
from fsvc.format.canonical import ADDRESS_BYTES, Identity, identify
from fsvc.format.manifest import Manifest
from fsvc.format.pages import ChunkPages
from fsvc.format.statistics import wrong_statistics
from fsvc.format.stored import stored_type

__all__ = ["SnapshotCheck", "Wanted"]

_CACHED_MANIFESTS = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """A chunk that snapshots name and of which there is no sound copy: what it holds is a column of ``rows`` values.

    Categories do not say how many they are: ``rows`` is None.
    """

    identity: Identity
    field: pa.Field
    rows: int | None


class SnapshotCheck:
    """Reads manifests and looks up what they name; a deep one also decodes and proves it."""

    def __init__(
        self,
        store: Store,
        notes: Notes,
        objects: ObjectCheck,
        standing: Standing,
        erased: Erased,
        *,
        deep: bool,
        progress: Progress,
    ) -> None:
        self._store = store
        self._storage = store.storage
        self._notes = notes
        self._objects = objects
        self._standing = standing
        self._erased = erased
        self._deep = deep
        self._progress = progress
        self._reader = Patched(standing)
        self._thawed = Thawed(store.objects)
        self._manifests: OrderedDict[str, tuple[bytes, int]] = OrderedDict()
        self._bad_manifests: dict[str, Found] = {}
        self.seen: set[str] = set()
        """The manifests that were read, those that others are stored against included."""
        self._rows: dict[int, int] = {}
        self.wanted: dict[Identity, Wanted] = {}
        """Contents that a damage affects."""

    def run(self, snapshots: Snapshots) -> None:
        """Look at all of them, older ones first."""
        total = len(snapshots.numbers)
        with ThreadPoolExecutor(default_threads(), thread_name_prefix="fsvc-verify") as pool:
            for snapshot, number in snapshots.numbers.items():
                encoded = self.encoded(snapshot, 1 << number)
                if encoded is not None:
                    try:
                        manifest = manifests.parse(encoded, what="it")
                    except FsvcError as error:
                        self._bad_manifest(snapshot, error, 1 << number)
                    else:
                        self._snapshot(manifest, 1 << number, pool)
                self._progress("snapshots", number + 1, total)

    def _bad_manifest(self, name: str, error: FsvcError, affected: int) -> None:
        found = self._bad_manifests.get(name)
        if found is None:
            found = self._bad_manifests[name] = self._notes.failed("manifest", name, error)
        found.snapshots |= affected

    def encoded(self, snapshot: str, affected: int) -> bytes | None:
        """The canonical bytes of a manifest; None where it, or one that it stands on, is noted as damaged."""
        chain: list[tuple[str, manifests.StoredManifest]] = []
        name = snapshot
        base: tuple[bytes, int] | None = None
        while name:
            if name in self._bad_manifests:
                self._bad_manifests[name].snapshots |= affected
                return None
            base = self._manifests.get(name)
            if base is not None:
                break
            if len(chain) > manifests.MAX_DEPTH or any(name == other for other, _ in chain):
                self._bad_manifest(snapshot, Corruption("it stands on too long a chain of others"), affected)
                return None
            if name not in self.seen:
                self.seen.add(name)
                self._notes.counts.manifests += 1
            try:
                stored = self._stored_manifest(name)
            except FsvcError as error:
                self._bad_manifest(name, error, affected)
                return None
            chain.append((name, stored))
            name = stored.base
        for link, stored in reversed(chain):
            try:
                if stored.depth != (0 if base is None else base[1] + 1):
                    raise Corruption("it declares another depth than it has")
                encoded = manifests.decompress(stored, None if base is None else base[0], link, what="it")
            except FsvcError as error:
                self._bad_manifest(link, error, affected)
                return None
            base = (encoded, stored.depth)
            self._manifests[link] = base
            while len(self._manifests) > _CACHED_MANIFESTS:
                self._manifests.popitem(last=False)
        assert base is not None
        return base[0]

    def _stored_manifest(self, name: str) -> manifests.StoredManifest:
        """The file of a manifest; where it is absent or dead, another copy of it, if there is one."""
        keys = list(self._store.manifest_keys(name))
        usable = [key for key in keys if key not in self._objects.dead_keys] or keys
        for key in usable[:-1]:
            with suppress(KeyAbsent):
                return manifests.read_stored(self._storage.get(key), what="it")
        return manifests.read_stored(self._storage.get(usable[-1]), what="it")

    def _snapshot(self, manifest: Manifest, affected: int, pool: ThreadPoolExecutor) -> None:
        """Look up all objects of a snapshot; note those that are damaged, others', or nowhere."""
        chunks = manifest.chunks.reshape(-1, manifest.chunks.shape[-1])
        extra = b"".join(identity.address + identity.digest for identity in manifest.categories)
        wanted = np.concatenate([chunks, np.frombuffer(extra, np.uint8).reshape(-1, chunks.shape[-1])])
        numbers = np.full(len(wanted), -1, np.int64)
        copies = self._objects.catalogue.find(np.ascontiguousarray(wanted[:, :ADDRESS_BYTES]).tobytes())
        for places, found in copies:
            fresh = numbers[places] < 0
            numbers[places[fresh]] = found[fresh]
            self._objects.catalogue.reached[found] = True
            bad = self._objects.catalogue.bad[found]
            for place, number in zip(places[bad].tolist(), found[bad].tolist(), strict=True):
                self._affect(self._objects.bad[number], manifest, place, affected)
        there = np.flatnonzero(numbers >= 0)
        other = (self._objects.catalogue.digests(numbers[there]) != wanted[there, ADDRESS_BYTES:]).any(axis=1)
        for place in there[other].tolist():
            number = int(numbers[place])
            if number not in self._objects.bad:
                address = wanted[place, :ADDRESS_BYTES].tobytes().hex()
                self._objects.note_bad(
                    number,
                    self._notes.note(
                        "object", address, "damaged", "what is stored is not what snapshots name"
                    ),
                )
            self._affect(self._objects.bad[number], manifest, place, affected)
        for place in np.flatnonzero(numbers < 0).tolist():
            self._affect(
                self._standing.nowhere(wanted[place, :ADDRESS_BYTES].tobytes()), manifest, place, affected
            )
        if self._objects.extended or self._objects.patched:
            # Of all copies: which one a reader takes depends on the order in which it lists index files.
            for places, found in copies:
                for place, number in zip(places.tolist(), found.tolist(), strict=True):
                    for below in self._standing.below(number):
                        self._affect(below, manifest, place, affected)
        if self._deep:
            self._prove(manifest, numbers, affected, pool)

    def _affect(self, found: Found, manifest: Manifest, place: int, affected: int) -> None:
        """Note whom a damage affects, and the first time also where in the table it is."""
        if found.snapshots == 0 and found.damage.kind == "object":
            found.damage = replace(
                found.damage, detail=f"{found.damage.detail}; {self._place(manifest, place)}"
            )
        found.snapshots |= affected
        identity, kept, rows = self._content(manifest, place)
        if self._erased.of(identity.address) is None:  # what was erased is not to come back from elsewhere
            self.wanted.setdefault(identity, Wanted(identity, kept, rows))

    @staticmethod
    def _content(manifest: Manifest, place: int) -> tuple[Identity, pa.Field, int | None]:
        """What the object at a place of a manifest's list holds: its identity, its column, and how many rows."""
        groups = len(manifest.rows)
        if place < len(manifest.schema) * groups:
            column, group = divmod(place, groups)
            return manifest.identity(column, group), manifest.stored_fields[column], manifest.rows[group]
        at = place - len(manifest.schema) * groups
        kind = list(manifest.category_types.values())[at]
        return manifest.categories[at], pa.field("categories", stored_type(kind.value_type), False), None

    def _place(self, manifest: Manifest, place: int) -> str:
        """Where in its table the object at a place of a manifest's list stands."""
        groups = len(manifest.rows)
        if place < len(manifest.schema) * groups:
            return SnapshotReader(self._store.objects, manifest).place(*divmod(place, groups))
        path = list(manifest.category_types)[place - len(manifest.schema) * groups]
        return f"the categories of column {path!r}"

    def _prove(self, manifest: Manifest, numbers: Positions, affected: int, pool: ThreadPoolExecutor) -> None:
        """Decode the chunks of a snapshot that no snapshot before it had."""
        wanted: list[tuple[int, int, pa.Field, Identity, int | None]] = []
        chunks, groups, other = manifest.chunks[..., 0].size, len(manifest.rows), False
        for place, number in enumerate(numbers.tolist()):
            if number < 0 or self._objects.catalogue.bad[number]:
                continue
            if self._objects.catalogue.proven[number]:
                said = manifest.rows[place % groups] if place < chunks else None
                other |= said is not None and self._rows.get(number, said) != said
                continue
            stands = number in self._objects.extended or number in self._objects.patched
            if stands and next(self._standing.below(number), None) is not None:
                continue
            identity, kept, rows = self._content(manifest, place)
            if rows is not None:
                rows = self._own_rows(number, kept, rows)
            self._objects.catalogue.proven[number] = True
            wanted.append((place, number, kept, identity, rows))
        # A few at a time, so that memory holds a few chunks however wide the table is.
        step = default_threads() * 4
        for first in range(0, len(wanted), step):
            some = wanted[first : first + step]
            for (place, number, *_, rows), problem in zip(some, pool.map(self._prove_one, some), strict=True):
                self._notes.counts.proven += 1
                if problem is None and rows is not None:
                    self._rows[number] = rows
                    other |= rows != manifest.rows[place % groups]
                if problem is not None:
                    address = self._objects.catalogue.entry(number).address.hex()
                    self._objects.note_bad(number, self._notes.note("object", address, "damaged", problem))
                    self._affect(self._objects.bad[number], manifest, place, affected)
        if other:
            error = Corruption("it says that a group has other rows than a chunk of it")
            self._bad_manifest(manifest.id, error, affected)

    def _own_rows(self, number: int, field: pa.Field, rows: int) -> int:
        """The rows that an object itself says it has; one of a nested column does not say."""
        try:
            (leaf,) = index.unpack_meta(self._objects.catalogue.entry(number).meta)
        except (Corruption, ValueError):
            return rows
        return rows if pa.types.is_nested(field.type) else leaf.num_values

    def _prove_one(self, wanted: tuple[int, int, pa.Field, Identity, int | None]) -> str | None:
        """What is wrong with the content of one chunk, None where it is proven."""
        _, number, kept, identity, rows = wanted
        entry = self._objects.catalogue.entry(number)
        try:
            leaves = index.unpack_meta(entry.meta)
            if rows is None:
                rows = sum(leaf.num_values for leaf in leaves[:1])
            named = pa.field("c0", kept.type, kept.nullable)
            array = self._reader.array(entry, named, rows)
            if identify(array, named) != identity:
                return "its digest does not match what it holds"
            if len(array) != rows:
                return f"it has {len(array):,} rows, where a snapshot that names it says {rows:,}"
            if is_patch(entry):
                thawed = self._reader.thaw(entry, named, rows)
                if not _holds(thawed, named, identity, rows):
                    return "readers of Parquet would not get what it holds"
                cached = self._thawed.kept(entry)
                if cached is not None and not _holds(cached, named, identity, rows):
                    return "the cache of thawed chunks has something else for it; a repair empties the cache"
            return wrong_statistics(leaves, array)
        except FsvcError as error:
            return error.message


def _holds(chunk: ChunkPages, field: pa.Field, identity: Identity, rows: int) -> bool:
    """Whether the pages of a chunk of one column hold what an identity says."""
    schema = pages.parquet_schema(pa.schema([field]))
    try:
        array = decode_groups(schema, [(rows, [chunk])], [field], "it")[0][0]
    except Corruption:
        return False
    return identify(array, field) == identity
