"""An opened repository as the engine sees it: a storage, its repository file, and what lies in it."""

from __future__ import annotations

import uuid
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fsvc.engine.condemned import rely
from fsvc.engine.expired import Expired
from fsvc.engine.files import commit_key, commit_of, manifest_key, manifest_of
from fsvc.engine.forks import Lock
from fsvc.engine.refs import Refs
from fsvc.errors import Conflict, Corruption, KeyAbsent, KeyExists, NotFound, StorageError, UnknownFormat
from fsvc.format import commit as commits
from fsvc.format import strictjson
from fsvc.format.commit import CommitRecord
from fsvc.storage.contract import Storage

if TYPE_CHECKING:
    # Whoever only looks at refs and commits should not wait for numpy and pyarrow: see the functions.
    from fsvc.engine.objects import Objects
    from fsvc.format.manifest import Manifest, StoredManifest

__all__ = [
    "PATCHES",
    "REPOSITORY_KEY",
    "RepositoryInfo",
    "Store",
    "create",
]

REPOSITORY_KEY = "repository.json"
FORMAT = 1
PATCHES = "patches"
"""The feature of a repository in which objects may be patches, and tables of objects compressed."""
_KNOWN_FEATURES = frozenset((PATCHES,))
_CACHED_MANIFESTS = 16
_CACHED_COMMITS = 4096
_NOTHING: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RepositoryInfo:
    """What the repository file says.

    ``project`` is the uuid that models carry and clones share; ``instance`` is this copy's own.
    ``features`` are those that a program has to know to read it.
    """

    project: str
    instance: str
    created: str
    features: frozenset[str] = frozenset()


def create(storage: Storage, *, time: str, project: str | None = None) -> RepositoryInfo:
    """Make a storage a repository, by one durable write. Raises Conflict where it is one already."""
    info = RepositoryInfo(project or str(uuid.uuid4()), str(uuid.uuid4()), time, _KNOWN_FEATURES)
    data = strictjson.seal(
        {
            "created": info.created,
            "format": FORMAT,
            "instance": info.instance,
            "optional": [],
            "project": info.project,
            "required": sorted(info.features),
        }
    )
    try:
        storage.put_if_absent(REPOSITORY_KEY, data)
    except KeyExists:
        raise Conflict(f"{storage.location} is a repository already") from None
    return info


def _read_info(storage: Storage) -> RepositoryInfo:
    what = f"the repository file of {storage.location}"
    try:
        data = storage.get(REPOSITORY_KEY)
    except KeyAbsent:
        if next(iter(storage.keys("commits/")), None) is not None:
            raise Corruption(
                f"{storage.location} holds commits, but {REPOSITORY_KEY} is missing",
                hint="put it back from a copy of the repository; nothing else needs to be restored",
            ) from None
        raise NotFound(f"{storage.location} is not a repository", hint="make one with 'fsvc init'") from None
    value: Mapping[str, Any] = strictjson.unseal(data, what=what)
    if value.get("format") != FORMAT:
        raise UnknownFormat(
            f"{storage.location} has format {value.get('format')}, this fsvc knows format {FORMAT}",
            hint="upgrade fsvc",
        )
    required = value.get("required", [])
    if not isinstance(required, list) or not all(isinstance(feature, str) for feature in required):
        raise Corruption(f"{what} does not name the features that it needs in a list")
    unknown = sorted(set(required) - _KNOWN_FEATURES)
    if unknown:
        raise UnknownFormat(
            f"{storage.location} needs features that this fsvc does not have: {', '.join(unknown)}",
            hint="upgrade fsvc",
        )
    texts = [text for name in ("project", "instance", "created") if isinstance(text := value.get(name), str)]
    if len(texts) != 3:
        raise Corruption(f"{what} lacks its uuids or its time")
    return RepositoryInfo(texts[0], texts[1], texts[2], frozenset(required))


opened: weakref.WeakSet[Store] = weakref.WeakSet()
"""The repositories that this process has open. Only ids that prove themselves are looked up in all of them."""


class Store:
    """An opened repository. Safe for threads and forks; what is read is proven against its name.

    It is pickled as the place where it lies and its instance uuid, and opened again there.

    Raises NotFound where the storage is no repository, UnknownFormat where it is one of a newer kind.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.info = _read_info(storage)
        self.refs = Refs(storage)
        self.expired = Expired(storage)
        """What has expired, when it was last looked at."""
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        self._commits: OrderedDict[str, CommitRecord] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_opened_again, (self.storage, self.info.instance))

    @cached_property
    def objects(self) -> Objects:
        """The stored objects."""
        from fsvc.engine.objects import Objects

        return Objects(self.storage)

    def commit(self, commit: str) -> CommitRecord:
        """Read a commit by its whole id. Raises Corruption where it is damaged or missing."""
        with self._lock:
            if commit in self._commits:
                return self._commits[commit]
        try:
            data = self.storage.get(commit_key(commit))
        except KeyAbsent:
            raise Corruption(f"commit {commit} is missing") from None
        record = commits.parse(data, commit, what=f"commit {commit}")
        with self._lock:
            self._commits[commit] = record
            while len(self._commits) > _CACHED_COMMITS:
                self._commits.popitem(last=False)
        return record

    def has_commit(self, commit: str) -> bool:
        """Whether a commit of this id is stored."""
        try:
            self.storage.size(commit_key(commit))
        except KeyAbsent:
            return False
        return True

    def stand_on(self, commit: str, *, time: str) -> None:
        """Make sure that a commit that is stored stays, so that a ref may come to stand on it.

        Raises StorageError where it is gone, or about to go. ``time`` is now. What has expired of its data stays
        as well, as far as it is there.
        """
        key = commit_key(commit)
        self.expired.refresh()
        if self.expired.records and self.has_commit(commit):
            from fsvc.engine.expiring import hold

            for name, value in self.commit(commit).feature_sets.items():
                if self.expired.of(commit, name) is not None:
                    hold(self, value.snapshot, time=time)
        if rely(self.storage, {key}, time=time) is not None or not self.has_commit(commit):
            raise StorageError(
                f"commit {commit} is gone: no ref kept it, and garbage was collected",
                hint="commit its tables again",
            )

    def commit_ids(self) -> list[str]:
        """The ids of all stored commits, reachable or not, sorted."""
        return sorted(name for key in self.storage.keys("commits/") if (name := commit_of(key)) is not None)

    def manifest(self, snapshot: str) -> Manifest:
        """Read a manifest by its snapshot id, proven. Raises Corruption where it is damaged or missing."""
        from fsvc.format import manifest as manifests

        with self._lock:
            if snapshot in self._manifests:
                self._manifests.move_to_end(snapshot)
                return self._manifests[snapshot]
        encoded, _ = self._manifest_bytes(snapshot)
        manifest = manifests.parse(encoded, what=f"manifest {snapshot}")
        with self._lock:
            self._manifests[snapshot] = manifest
            while len(self._manifests) > _CACHED_MANIFESTS:
                self._manifests.popitem(last=False)
        return manifest

    def stored_manifest(self, snapshot: str) -> StoredManifest:
        """A manifest's file, taken apart but not decompressed."""
        return next(self._stored_manifests(snapshot))

    def _stored_manifests(self, snapshot: str) -> Iterator[StoredManifest]:
        """The files that hold a manifest, as long as they are asked for; mostly there is one.

        Raises Corruption in the end: with the first damage, or since there is nothing; ExpiredError where
        that is on purpose.
        """
        from fsvc.format import manifest as manifests

        what = f"manifest {snapshot}"
        failure, damaged = Corruption(f"{what} is missing"), False
        for key in self.manifest_keys(snapshot):
            try:
                yield manifests.read_stored(self.storage.get(key), what=what)
            except KeyAbsent:
                continue
            except Corruption as error:
                failure, damaged = error, True
        if not damaged:
            self.expired.refresh()
            expired = self.expired.refusal(snapshot)
            if expired is not None:
                raise expired
        raise failure

    def manifest_keys(self, snapshot: str) -> Iterator[str]:
        """Where a manifest may lie: in its own place, and where it was written when that name was to be deleted."""
        yield manifest_key(snapshot)
        yield from sorted(key for key in self.storage.keys(f"manifests/{snapshot}/") if manifest_of(key))

    def manifest_bytes(self, snapshot: str, *, known: Mapping[str, bytes] = _NOTHING) -> bytes:
        """The canonical bytes of a manifest, proven. ``known`` holds those of others, by id."""
        return self._manifest_bytes(snapshot, known)[0]

    def _manifest_bytes(
        self,
        snapshot: str,
        known: Mapping[str, bytes] = _NOTHING,
        above: tuple[str, ...] = (),
    ) -> tuple[bytes, int]:
        from fsvc.format import manifest as manifests

        if len(above) > manifests.MAX_DEPTH or snapshot in above:
            raise Corruption(f"manifest {above[0]} stands on too long a chain of others")
        failure: Corruption | None = None
        files = self._stored_manifests(snapshot)
        while True:
            try:
                stored = next(files)
            except Corruption as error:
                raise (failure or error) from None
            try:
                base = None
                if stored.base:
                    base = (
                        known.get(stored.base)
                        or self._manifest_bytes(stored.base, known, (*above, snapshot))[0]
                    )
                return manifests.decompress(stored, base, snapshot, what=f"manifest {snapshot}"), stored.depth
            except Corruption as error:
                failure = failure or error

    def manifest_file(self, manifest: Manifest, base: str | None) -> bytes:
        """The file to store a new manifest as, against the manifest of another snapshot if given."""
        from fsvc.format import manifest as manifests

        if base is None:
            return manifests.compress(manifest.encoded, None)
        encoded, depth = self._manifest_bytes(base)
        return manifests.compress(manifest.encoded, (base, encoded, depth))


def _opened_again(storage: Storage, instance: str) -> Store:
    """The store that was pickled: one that this process has open already, or a new one."""
    for store in [*opened]:
        if store.info.instance == instance and store.storage.location == storage.location:
            return store
    store = Store(storage)
    if store.info.instance != instance:
        raise NotFound(
            f"the repository at {storage.location} is not the one that was there before",
            hint="open the one that is meant by its location",
        )
    opened.add(store)
    return store
