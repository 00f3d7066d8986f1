"""A look at all that a repository stores, before rows are erased: what holds them, what would go, what stands on it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.engine import history
from fsvc.engine.catalogue import Catalogue, Flags
from fsvc.engine.deletion import Packs
from fsvc.engine.erased import group_names
from fsvc.engine.expired import standing_commits
from fsvc.engine.files import commit_of
from fsvc.engine.progress import Progress
from fsvc.engine.reachability import reached_commits
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.searching import Search
from fsvc.engine.store import Store
from fsvc.errors import Corruption, GoneError, NotFound
from fsvc.format import index, names
from fsvc.format.canonical import ADDRESS_BYTES
from fsvc.format.commit import CommitRecord
from fsvc.format.manifest import Manifest
from fsvc.format.rowvalues import Counts

__all__ = ["Affected", "Survey", "versions_of"]


@dataclass(frozen=True, slots=True)
class Affected:
    """A snapshot that loses row groups: it cannot be read whole any more.

    ``commit`` is the first one that holds it, ``version`` the feature set's there. ``lost_groups`` of ``groups``
    row groups go, with ``lost_rows`` of ``rows`` rows. ``kept`` are columns of which chunks stay even there, since
    groups without the rows have the same ones. ``lists`` are columns of which the categories go, and so all rows.
    """

    feature_set: str
    commit: str
    version: int
    groups: int
    lost_groups: int
    rows: int
    lost_rows: int
    kept: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


def versions_of(store: Store, name: str) -> dict[str, tuple[str, CommitRecord]]:
    """The snapshots that a feature set has in any commit that is stored, with the oldest commit of each by time.

    Raises NotFound with the nearest name where there is none.
    """
    found: dict[str, tuple[str, CommitRecord]] = {}
    known: set[str] = set()
    for commit, record in all_commits(store)[0].items():
        known.update(record.feature_sets)
        value = record.feature_sets.get(name)
        if value is not None:
            found.setdefault(value.snapshot, (commit, record))
    if not found:
        near = names.nearest(name, sorted(known))
        raise NotFound(
            f"there never was a feature set {name!r}", hint=f"did you mean {near[0]!r}?" if near else None
        )
    return found


def all_commits(store: Store) -> tuple[dict[str, CommitRecord], set[str]]:
    """All commits that are stored, oldest first by their own time; and those of them that refs reach.

    Of the others, which a crash may have left, those are passed over that cannot be read.
    """
    records = reached_commits(store)
    reached = set(records)
    store.objects.refresh()
    dead = store.objects.dead_keys
    for key in store.storage.keys("commits/"):
        if key not in dead and (name := commit_of(key)) is not None and name not in records:
            with suppress(Corruption):
                records[name] = store.commit(name)
    return dict(sorted(records.items(), key=lambda item: (item[1].time, item[0]))), reached


@dataclass(slots=True)
class _Held:
    """A snapshot, as the survey saw it."""

    label: tuple[str, str, int]
    groups: list[bytes]


class Survey:
    """What holds the rows, what would go, and what stands on that.

    Flags are by numbers in the ``catalogue``, and the same for all copies of an object, ``tainted`` excepted.
    """

    def __init__(self, store: Store, name: str, search: Search, progress: Progress) -> None:
        self.store = store
        self.name = name
        self.commits, self.reached = all_commits(store)
        # After the commits: the objects of one that was seen are in the index that is read after it.
        store.objects.refresh()
        store.objects.erased.refresh()
        self.erased = store.objects.erased
        self.catalogue = Catalogue(store.objects.tables())
        self.packs = Packs.of(store)
        store.expired.refresh()
        reached = [(commit, record) for commit, record in self.commits.items() if commit in self.reached]
        self._kept = store.expired.kept(reached, standing_commits(store.refs))
        self.unsearched: list[str] = []
        self.rows = 0
        """The rows that were found, counted in each snapshot."""
        self.new_groups: dict[bytes, Counts] = {}
        """The groups that hold them by name, and their places in these."""
        self.snapshots = self._snapshots()
        self._search(search, progress)
        self.groups = self.new_groups.keys() | self.erased.groups.keys()
        size = len(self.catalogue)
        self.goes: Flags = np.zeros(size, np.bool_)
        """What is erased."""
        self.named: Flags = np.zeros(size, np.bool_)
        """What any commit names."""
        self._mark()
        self.is_map = np.zeros(size, np.bool_)
        unnamed = np.flatnonzero(~self.named)
        self.is_map[unnamed] = [self._codec(number) == index.ROW_MAP for number in unnamed.tolist()]
        self.gone: Flags = self.goes.copy()
        """What goes, for whatever reason."""
        self.gone |= ~self.named & ~self.is_map
        self.tainted = self._standing_on_gone()
        """What stays, but stands on what goes: copies that cannot be used any more."""
        self.stays, _ = self.catalogue.closed(self.named & ~self.gone, self.tainted)
        """What stays, row maps that are needed included."""
        self.by_pack = self.catalogue.by_pack()
        self.leaving = {
            pack for pack, numbers in self.by_pack.items() if (self.gone | self.tainted)[numbers].any()
        }
        self.leaving |= self.packs.there - self.by_pack.keys()

    def _codec(self, number: int) -> int:
        return self.catalogue.entry(number).meta[0]

    def _snapshots(self) -> dict[str, _Held]:
        """All snapshots that commits name, each with the name, commit and version under which it came first."""
        found: dict[str, _Held] = {}
        for commit, record in self.commits.items():
            for name, value in record.feature_sets.items():
                held = found.get(value.snapshot)
                if held is None or (held.label[0] != self.name and name == self.name):
                    found[value.snapshot] = _Held((name, commit, value.version), [])
        return {snapshot: held for snapshot, held in found.items() if self._holds(snapshot)}

    def _holds(self, snapshot: str) -> bool:
        """Whether a snapshot is to be there, or is; what is left of others is nobody's."""
        if snapshot in self._kept:
            return True
        try:
            manifest = self.store.manifest(snapshot)
        except (GoneError, Corruption):
            return False
        addresses = manifest.addresses()
        there = np.zeros(len(addresses) // ADDRESS_BYTES, np.bool_)
        for places, _ in self.catalogue.find(addresses):
            there[places] = True
        return all(
            self.erased.of(addresses[ADDRESS_BYTES * i : ADDRESS_BYTES * (i + 1)]) is not None
            for i in np.flatnonzero(~there).tolist()
        )

    def _search(self, search: Search, progress: Progress) -> None:
        """Look for the rows in all snapshots of the feature set."""
        total = len(self.snapshots)
        for done, (snapshot, held) in enumerate(self.snapshots.items()):
            manifest = self.store.manifest(snapshot)
            held.groups = group_names(manifest)
            name, commit, _ = held.label
            if name == self.name:
                reader = SnapshotReader(self.store.objects, manifest)
                rows = search(reader)
                if rows is None:
                    self.unsearched.append(f"{name}@{history.short(commit)}")
                    continue
                self.rows += len(rows)
                edges = np.searchsorted(rows, reader.starts)
                for group in np.flatnonzero(np.diff(edges)).tolist():
                    own = rows[edges[group] : edges[group + 1]] - reader.starts[group]
                    self.new_groups[held.groups[group]] = own
            progress("snapshots", done + 1, total)

    def _mark(self) -> None:
        """Find what goes: the chunks of groups with the rows that no other group has, and lists of categories."""
        size = len(self.catalogue)
        holding, other = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
        lists = _Lists()
        unfinished: set[bytes] = set()
        left: set[bytes] = set()
        # Whoever was interrupted knew which rows had what values; who finishes it goes by the record.
        pending = {
            address
            for one in self.erased.unfinished()
            for address in self.erased.records[one.record].addresses
        }
        going: set[bytes] = set()
        for snapshot, held in self.snapshots.items():
            manifest = self.store.manifest(snapshot)
            hit = np.array([group in self.groups for group in held.groups], np.bool_)
            for places, numbers in self.catalogue.find(manifest.addresses()):
                self.named[numbers] = True
                of_hit = hit[places % len(hit)]
                holding[numbers[of_hit]] = True
                other[numbers[~of_hit]] = True
            categories = [identity.address for identity in manifest.categories]
            if not categories:
                continue
            for _, numbers in self.catalogue.find(b"".join(categories)):
                self.named[numbers] = True
            going |= pending.intersection(categories)
            lists.take_in(SnapshotReader(self.store.objects, manifest), held.groups, self.new_groups)
            if hit.any():
                unfinished.update(address for address in categories if self.erased.of(address) is not None)
            else:
                left.update(categories)
        self.goes = holding & ~other
        going |= lists.telling(self.new_groups) | (unfinished - left)
        for _, numbers in self.catalogue.find(b"".join(going)) if going else ():
            self.goes[numbers] = True

    def _standing_on_gone(self) -> Flags:
        """Copies of what stays that need something which goes; extensions also what is to be written whole."""
        above, below = self.catalogue.edges()
        found = self.catalogue.find(below.tobytes()) if len(below) else []

        def over(flags: Flags) -> Flags:
            hit = np.zeros(len(above), np.bool_)
            for places, numbers in found:
                hit[places] |= flags[numbers]
            return hit

        tainted = np.zeros(len(self.catalogue), np.bool_)
        tainted[above[over(self.gone)]] = True
        while True:
            reached = np.unique(above[over(tainted)])
            # A patch takes values, wherever they come from; an extension takes the very pages.
            fresh = [n for n in reached[~tainted[reached]].tolist() if self._codec(n) == index.EXTENSION]
            if not fresh:
                return tainted & ~self.gone
            tainted[fresh] = True

    # -- what it means for people ----------------------------------------------------------------

    def affected(self) -> dict[str, Affected]:
        """What each snapshot loses, by id; those that lose nothing are left out."""
        found = {}
        for snapshot, held in self.snapshots.items():
            manifest = self.store.manifest(snapshot)
            groups = len(manifest.rows)
            lost = np.zeros((len(manifest.schema), groups), np.bool_)
            for places, numbers in self.catalogue.find(manifest.addresses()):
                lost.reshape(-1)[places[self.goes[numbers]]] = True
            lists = self._lost_lists(manifest)
            if not lost.any() and not lists:
                continue
            hit = lost.any(axis=0)
            # A column that was let go of here before is no column that stays.
            there = np.zeros_like(lost)
            for places, _ in self.catalogue.find(manifest.addresses()):
                there.reshape(-1)[places] = True
            kept = (there & ~lost)[:, hit].any(axis=1)
            rows = np.array(manifest.rows, np.int64)
            found[snapshot] = Affected(
                *held.label, groups, int(hit.sum()), int(rows.sum()), int(rows[hit].sum()),
                tuple(manifest.schema.names[i] for i in np.flatnonzero(kept).tolist()), lists,
            )  # fmt: skip
        return found

    def _lost_lists(self, manifest: Manifest) -> tuple[str, ...]:
        """The paths of dictionary columns whose categories go."""
        return tuple(
            path
            for path, identity in zip(manifest.category_types, manifest.categories, strict=True)
            if any(self.goes[numbers].any() for _, numbers in self.catalogue.find(identity.address))
        )


class _Lists:
    """The lists of categories of all snapshots, and the values that rows to be erased have of them."""

    def __init__(self) -> None:
        self._values: dict[bytes, list[pa.Array]] = {}
        self._nested: set[bytes] = set()
        self._users: dict[bytes, list[tuple[SnapshotReader, int, list[bytes]]]] = {}

    def take_in(self, reader: SnapshotReader, groups: list[bytes], erased: Mapping[bytes, Counts]) -> None:
        """Take in a snapshot with the names of its groups; ``erased`` are places of rows in groups by name."""
        manifest = reader.manifest
        hit = [number for number, group in enumerate(groups) if group in erased]
        for (path, _), identity in zip(manifest.category_types.items(), manifest.categories, strict=True):
            column = manifest.schema.get_field_index(path)
            if column < 0 or not pa.types.is_dictionary(manifest.schema.field(column).type):
                if hit:
                    self._nested.add(
                        identity.address
                    )  # inside of nested values they are not looked for one by one
                continue
            self._users.setdefault(identity.address, []).append((reader, column, groups))
            left = set(reader.groups_left([column])) if hit else set()
            for group in hit:
                if group in left:
                    cells = reader.chunk(column, group).take(pa.array(erased[groups[group]]))
                    self._values.setdefault(identity.address, []).append(cells.drop_null().unique())

    def telling(self, erased: Mapping[bytes, Counts]) -> set[bytes]:
        """The addresses of lists with values that no other row of any snapshot has."""
        found = set(self._nested)
        for address, parts in self._values.items():
            values = pa.concat_arrays(parts).unique()
            for reader, column, groups in self._users[address]:
                for group in reader.groups_left([column]) if len(values) else ():
                    chunk = reader.chunk(column, group)
                    others = np.ones(len(chunk), np.bool_)
                    others[erased.get(groups[group], np.zeros(0, np.int64))] = False
                    known = pc.is_in(values.cast(chunk.type), value_set=chunk.filter(pa.array(others)))
                    values = values.filter(pc.invert(known))
            if len(values):
                found.add(address)
        return found
