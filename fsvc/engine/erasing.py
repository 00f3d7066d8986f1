"""Erasure: rows are removed for good from all versions, with the row groups that hold them.

What goes are the chunks of every row group that holds one of the rows, wherever it is named; a chunk that another
group has too, one without the rows, stays for that one. Of dictionary columns the list of categories goes with
them where it has values that stood in the rows alone. Objects that no commit names go as well: nobody can say
what they hold.

The order makes it safe to be killed anywhere, and beside commits:

1. A record says what is erased (:mod:`fsvc.engine.erased`). From then on no commit can bring the rows back.
2. Packs that hold any of it are written anew without it. What stood on it as a patch or extension is written whole.
3. The old packs are condemned without a grace, looked at once more, and deleted, with what index files say of them
   (:mod:`fsvc.engine.condemned`, :mod:`fsvc.engine.deletion`). A commit that came to need one of them meanwhile
   keeps it, and then this goes around once more.
4. Thawed chunks and packs in quarantine are deleted, and when all that is durable, the purge is marked as finished.

Killed before the packs are dead, everything can be read as before, and a second run finds the same rows; killed
later, what is left to be deleted is on the list. Any run that comes to its end finishes all that were killed: the
groups are in their records, so it need not search for the rows (:func:`nothing_more`). A reader that is at work may
fail, and finds what stays when it reads again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from fsvc.engine import history
from fsvc.engine.clock import timestamp
from fsvc.engine.condemned import Lists, condemn
from fsvc.engine.copying import copy_objects
from fsvc.engine.deletion import delete_dead
from fsvc.engine.erased import Erased, Erasure, Unfinished
from fsvc.engine.files import commit_key, index_of, pack_key, pack_of
from fsvc.engine.objects import PackWriter
from fsvc.engine.pins import list_pins
from fsvc.engine.progress import Progress, silent
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.searching import Search
from fsvc.engine.standing import needed_packs
from fsvc.engine.store import PATCHES, Store
from fsvc.engine.surveying import Affected, Survey, versions_of
from fsvc.engine.thawing import Thawed
from fsvc.errors import Conflict, Corruption, FsvcError, GoneError, InvalidUse, KeyAbsent, StorageError
from fsvc.format import index, pages
from fsvc.format.canonical import ADDRESS_BYTES
from fsvc.format.extension import fits
from fsvc.format.index import Entry

__all__ = ["Purged", "Searcher", "erase_again", "nothing_more", "purge", "records_now"]

Searcher = Callable[[Store], Search]
"""Makes a search through the versions of a feature set, as they are in a store now."""

_PURPOSE = "purge"
_QUARANTINED = re.compile(r"quarantine/[0-9a-f]{64}/(.+)")
_MOST_ROUNDS = 20
_SETTLED_SECONDS = 600
"""A commit that no ref reaches may be in the making for so long."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What an erasure did, or would do.

    ``rows`` are rows that were found, counted in each snapshot that has them. ``affected`` are the snapshots that
    lose row groups, ``whole`` how many snapshots of the feature set lose nothing, ``unsearched`` those that lack the
    columns to search by, as ``NAME@COMMIT``. ``commits`` are those that hold an affected snapshot, ``tags`` and
    ``models`` those that stand on such a commit. ``heads`` are branches whose newest commit holds the
    rows: as long as there are any, nothing can be erased. ``objects`` are those that go, ``rewritten`` those that
    were written anew, ``rebased`` of these are whole that were patches. ``quarantined`` are files in quarantine
    that go. ``record`` is the id of the record, ``freed_bytes`` are those of files that were deleted. ``unfinished``
    are earlier purges that did not come to their end, which this one finishes.
    """

    deleted: bool
    feature_set: str
    rows: int
    affected: tuple[Affected, ...]
    whole: int
    unsearched: tuple[str, ...]
    commits: tuple[str, ...]
    tags: tuple[str, ...]
    models: tuple[str, ...]
    heads: tuple[str, ...]
    objects: int
    packs: int
    rewritten: int
    rebased: int
    quarantined: int
    freed_bytes: int = 0
    record: str | None = None
    unfinished: tuple[Unfinished, ...] = ()


def nothing_more(_: Store) -> Search:
    """A search that finds no rows: for a purge that only finishes those that were interrupted."""
    return lambda _: np.zeros(0, np.int64)


def purge(
    store: Store,
    name: str,
    searcher: Searcher,
    *,
    delete: bool = False,
    author: str = "",
    reason: str = "",
    progress: Progress = silent,
) -> Purged:
    """Find the rows of a feature set that a search gives, in all versions; with ``delete`` erase them for good.

    Raises NotFound for a feature set that never was; with ``delete`` Conflict while the head of a branch holds
    rows, or a commit in the making does. Raises Corruption where something that stays cannot be read: then
    nothing is deleted.
    """
    if delete and searcher is not nothing_more and not reason.strip():
        raise InvalidUse("an erasure needs a reason", hint="it is what readers of the old versions are told")
    return _Purge(store, name, searcher, progress).run(delete, author, reason)


def records_now(store: Store) -> frozenset[str]:
    """The records of erasures that are there now, by id; none where one is damaged, which others tell."""
    return frozenset(_records(store).records)


def _records(store: Store) -> Erased:
    records = Erased(store.storage)
    with suppress(FsvcError):
        records.refresh()
    return records


def erase_again(store: Store, known: Collection[str], progress: Progress = silent) -> bool:
    """Erase what was erased while somebody copied objects, who may have brought it back; whether anything was.

    ``known`` are the records of before. To be called when all that was written is durable: a purge that begins after
    this look finds it. Where it cannot be done, it is told that the purge is not finished.
    """
    records = _records(store)
    meanwhile = sorted(records.records.keys() - known)
    if not meanwhile:
        return False
    records.reopen(meanwhile)
    record = records.records[meanwhile[0]]
    with suppress(FsvcError):
        purge(
            Store(store.storage), record.feature_set, nothing_more,
            delete=True, author=record.author, progress=progress,
        )  # fmt: skip
    store.objects.refresh()
    return True


class _Purge:
    """One erasure in one repository."""

    def __init__(self, store: Store, name: str, searcher: Searcher, progress: Progress) -> None:
        self._store = store
        self._name = name
        self._searcher = searcher
        self._progress = progress

    def _survey(self) -> Survey:
        for _ in range(_MOST_ROUNDS):
            self._store.objects.refresh()
            # Nothing that is kept in memory is trusted: who has read a commit once may not notice that it is gone.
            fresh = Store(self._store.storage)
            try:
                return Survey(fresh, self._name, self._searcher(fresh), self._progress)
            except (Corruption, GoneError):
                if not self._overtaken():
                    raise
        raise self._never_ends()

    def _overtaken(self) -> bool:
        """Whether anybody else has come to delete something since the last survey: what is missed may be that."""
        dead = self._store.objects.dead_keys
        self._store.objects.refresh()
        return self._store.objects.dead_keys != dead

    @staticmethod
    def _never_ends() -> StorageError:
        return StorageError(
            "others came to need what was to be deleted, or deleted what was read, again and again",
            hint="run it again when fewer are at work; what was done stays done",
        )

    def run(self, delete: bool, author: str, reason: str) -> Purged:
        """All of it; an error tells which purges are not finished."""
        try:
            return self._run(delete, author, reason)
        except BaseException as error:
            if delete:
                with suppress(FsvcError):
                    for one in self._store.objects.unfinished():
                        error.add_note(f"{one}\n{one.hint}")
            raise

    def _run(self, delete: bool, author: str, reason: str) -> Purged:
        # What is dead from an earlier run is deleted first.
        freed = delete_dead(self._store, _PURPOSE, self._needed) if delete else 0
        survey = self._survey()
        outcome = self._outcome(survey, delete)
        if not delete:
            return outcome
        if not reason.strip() and survey.erased.records:
            reason = max(survey.erased.records.values(), key=lambda record: record.time).reason
        record = self._known(survey)
        rewritten = rebased = 0
        for _ in range(_MOST_ROUNDS):
            self._refuse(survey)
            record = self._write_down(survey, author, reason) or record
            if not survey.leaving:
                break
            try:
                more = self._rewrite(survey)
            except (Corruption, GoneError):
                if not self._overtaken():
                    raise
                survey = self._survey()
                continue
            rewritten, rebased = rewritten + more[0], rebased + more[1]
            keys = [pack_key(pack) for pack in survey.leaving]
            condemn(self._store.storage, keys, purpose=_PURPOSE, grace=0, time=timestamp())
            self._store.objects.refresh()
            freed += delete_dead(self._store, _PURPOSE, self._needed)
            survey = self._survey()
        else:
            raise self._never_ends()
        freed += self._tidy()
        survey.erased.finish(timestamp())
        self._store.objects.refresh()
        return replace(outcome, rewritten=rewritten, rebased=rebased, freed_bytes=freed, record=record)

    def _needed(self, _: Store, keys: frozenset[str]) -> set[str]:
        """Those of some packs on which anything stands that stays."""
        survey = self._survey()
        # Whoever committed the rows before there was a record has been acknowledged: that is not to be lost.
        self._refuse(survey)
        dying = {name for key in keys if (name := pack_of(key))} & survey.packs.there
        needed = needed_packs(
            survey.catalogue, survey.packs.staying | dying, dying, survey.packs.waiting, garbage=~survey.stays
        )
        return {pack_key(name) for name in needed}

    # -- what is said of it ----------------------------------------------------------------------

    def _outcome(self, survey: Survey, delete: bool) -> Purged:
        store = survey.store
        affected = survey.affected()
        reached = {
            commit: record
            for commit, record in survey.commits.items()
            if any(value.snapshot in affected for value in record.feature_sets.values())
        }
        own = [snapshot for snapshot, held in survey.snapshots.items() if held.label[0] == self._name]
        if not own:
            versions_of(store, self._name)  # raises NotFound
        tags = {name for name, entry in store.refs.heads("tags").items() if entry.commit in reached}
        models = {
            pin.label or pin.model or pin.name
            for pin in list_pins(store)
            if pin.commit in reached
            and (
                (value := reached[pin.commit].feature_sets.get(pin.feature_set)) is None
                or value.snapshot in affected
            )
        }
        numbers = np.flatnonzero(survey.goes)
        copies = {survey.catalogue.addresses(numbers)[i : i + 16] for i in range(0, 16 * len(numbers), 16)}
        return Purged(
            delete, self._name, survey.rows,
            tuple(affected.values()), sum(snapshot not in affected for snapshot in own),
            tuple(survey.unsearched), tuple(reached), tuple(sorted(tags)), tuple(sorted(models)),
            tuple(self._heads(survey, affected)), len(copies), len(survey.leaving), 0, 0,
            sum(1 for _ in self._quarantined()), unfinished=survey.erased.unfinished(),
        )  # fmt: skip

    @staticmethod
    def _heads(survey: Survey, affected: dict[str, Affected]) -> Iterator[str]:
        """The branches whose newest commit holds something that would go, as NAME@BRANCH."""
        for branch, entry in sorted(survey.store.refs.heads("heads").items()):
            if entry.commit is not None:
                for name, value in survey.store.commit(entry.commit).feature_sets.items():
                    if value.snapshot in affected:
                        yield f"{name}@{branch}"

    def _refuse(self, survey: Survey) -> None:
        """Raise Conflict where the rows are still in use."""
        affected = survey.affected()
        heads = list(self._heads(survey, affected))
        if heads:
            raise Conflict(
                f"{', '.join(heads)} still holds rows that are to be erased",
                hint="commit without these rows (and without categories that only they have), or delete the branch,"
                " then purge what is left in history",
            )
        for commit, record in survey.commits.items():
            if commit in survey.reached or not any(
                v.snapshot in affected for v in record.feature_sets.values()
            ):
                continue
            try:
                age = self._store.storage.age(commit_key(commit))
            except KeyAbsent:
                continue
            if age < _SETTLED_SECONDS:
                raise Conflict(
                    f"commit {history.short(commit)}, which holds rows that are to be erased, was made just now and"
                    " may be on its way to a branch",
                    hint=f"run it again in {_SETTLED_SECONDS // 60} minutes",
                )

    # -- doing it --------------------------------------------------------------------------------

    def _write_down(self, survey: Survey, author: str, reason: str) -> str | None:
        """Write the record, durably, unless all of it is on record already. Gives its id."""
        joined = survey.catalogue.addresses(np.flatnonzero(survey.goes))
        found = {joined[i : i + ADDRESS_BYTES] for i in range(0, len(joined), ADDRESS_BYTES)}
        addresses = frozenset(address for address in found if survey.erased.of(address) is None)
        groups = frozenset(survey.new_groups.keys() - survey.erased.groups.keys())
        if not addresses and not groups:
            return None
        record = Erasure.new(
            addresses, groups, author=author, feature_set=self._name, reason=reason.strip(), time=timestamp()
        )
        self._store.storage.put_if_absent(record.key, record.to_bytes())
        return record.id

    @staticmethod
    def _known(survey: Survey) -> str | None:
        """The record of an earlier run that named what is found, or that is to be finished."""
        found = [
            survey.erased.groups[group].id for group in survey.new_groups.keys() & survey.erased.groups.keys()
        ]
        return min(found, default=None) or next((one.record for one in survey.erased.unfinished()), None)

    def _rewrite(self, survey: Survey) -> tuple[int, int]:
        """Write what stays of packs that go to new ones, and an index; how many objects, and how many whole."""
        copied, whole = self._chosen(survey)
        compress = PATCHES in self._store.info.features
        writer = PackWriter(self._store.storage, compress=compress, own=True)
        try:
            done, total = 0, sum(map(len, copied.values())) + len(whole)
            for pack, entries in copied.items():
                if not copy_objects(survey.store, pack, entries, writer):
                    raise Corruption(
                        f"pack {pack} is damaged, and holds what has to stay",
                        hint="nothing was deleted; run 'fsvc verify --repair', then purge again",
                    )
                done += len(entries)
                self._progress("objects", done, total)
            rebased = self._write_whole(survey, whole, writer)
            written = writer.finish()
        except BaseException:
            writer.reclaim()
            raise
        if written:
            self._store.objects.publish(index.write_table(written, compress=compress))
        return len(written), rebased

    @staticmethod
    def _chosen(survey: Survey) -> tuple[dict[str, list[Entry]], set[bytes]]:
        """The objects to be copied, by pack; and the addresses of those that have to be written whole."""
        catalogue = survey.catalogue
        usable = np.zeros(len(catalogue), np.bool_)
        for pack in survey.packs.staying - survey.leaving:
            usable[survey.by_pack.get(pack, np.zeros(0, np.int64))] = True
        usable &= ~survey.tainted
        _, group = catalogue.copies()
        covered = np.zeros(len(group), np.bool_)
        covered[group[usable]] = True
        wanted = np.flatnonzero(survey.stays & ~covered[group])
        extensions: dict[bytes, list[Entry]] = {}
        copies: dict[bytes, list[Entry]] = {}
        for number in wanted.tolist():
            entry = catalogue.entry(number)
            own = copies.setdefault(entry.address, [])
            if not survey.tainted[number] and entry.pack in survey.packs.there:
                own.append(entry)
        above, _ = catalogue.edges()
        for number in np.unique(above).tolist():
            if survey.stays[number] and not survey.tainted[number]:
                entry = catalogue.entry(number)
                extension = index.unpack_extension(entry.meta)
                if extension is not None:
                    extensions.setdefault(extension.base.address, []).append(entry)

        def rank(entry: Entry) -> tuple[bool, int, int]:
            standing = extensions.get(entry.address, ())
            fit = all(
                fits(entry, index.unpack_meta(other.meta), extension)
                for other in standing
                if (extension := index.unpack_extension(other.meta)) is not None
            )
            return not fit, index.depth_of(entry.meta), entry.length

        found: dict[str, list[Entry]] = {}
        for own in copies.values():
            if own:
                best = min(own, key=rank)
                found.setdefault(best.pack, []).append(best)
        for entries in found.values():
            entries.sort(key=lambda entry: entry.offset)
        return dict(sorted(found.items())), {address for address, own in copies.items() if not own}

    def _write_whole(self, survey: Survey, wanted: set[bytes], writer: PackWriter) -> int:
        """Decode chunks, prove them, and write them anew without anything that they stand on; how many."""
        left = set(wanted)
        for snapshot in survey.snapshots:
            if not left:
                break
            manifest = survey.store.manifest(snapshot)
            joined, groups = manifest.addresses(), len(manifest.rows)
            reader = SnapshotReader(survey.store.objects, manifest)
            for place in range(len(joined) // ADDRESS_BYTES):
                address = joined[place * ADDRESS_BYTES : (place + 1) * ADDRESS_BYTES]
                if address in left:
                    column, group = divmod(place, groups)
                    array = reader.chunk(column, group)
                    stored = manifest.stored_fields[column]
                    kept = pa.field("c0", stored.type, stored.nullable)
                    chunk = pages.encode([array], [kept], pages.choose_encodings([array], [kept]))[0]
                    writer.add(manifest.identity(column, group), index.pack_meta(chunk.leaves), chunk.pages)
                    left.discard(address)
        if left:
            raise Corruption(
                f"object {min(left).hex()}, which has to stay, is missing",
                hint="nothing was deleted; run 'fsvc verify --repair', then purge again",
            )
        return len(wanted)

    def _quarantined(self) -> Iterator[str]:
        """The files in quarantine that hold data, or say what data are like."""
        for key in self._store.storage.keys("quarantine/"):
            name = _QUARANTINED.fullmatch(key)
            if name is not None and (pack_of(name[1]) or index_of(name[1])):
                yield key

    def _tidy(self) -> int:
        """Delete dead packs of others, packs in quarantine, and thawed chunks; how many bytes."""
        storage = self._store.storage
        lists = Lists(storage)
        lists.refresh()
        aside = sorted(self._quarantined())
        freed = 0
        for key in [*map(pack_key, sorted(lists.dead_packs)), *aside]:
            try:
                freed += storage.size(key)
            except KeyAbsent:
                continue
            storage.delete(key)
        freed += storage.sweep(_SETTLED_SECONDS, delete=True)
        for folder in ["packs/", "index/", *sorted({key.rpartition("/")[0] + "/" for key in aside})]:
            storage.settle(folder)
        Thawed(self._store.objects).clear()
        return freed
