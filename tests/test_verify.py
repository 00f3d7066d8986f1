"""Verification says what is damaged and whom that affects, and finds nothing where nothing is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from fsvc.engine.files import commit_key, index_key, manifest_key, pack_key
from fsvc.engine.store import Store, create
from fsvc.errors import Corruption, StorageError
from fsvc.format import index, pack, pages
from fsvc.format.canonical import Identity
from fsvc.format.statistics import wrong_statistics
from fsvc.repository import Repository
from fsvc.storage.contract import Entry
from fsvc.storage.memory import MemoryStorage


def opened(storage: MemoryStorage) -> Repository:
    return Repository(Store(storage), author="Test")


def fresh() -> MemoryStorage:
    storage = MemoryStorage()
    create(storage, time="2026-11-01T00:00:00.000000Z")
    return storage


def overwrite(storage: MemoryStorage, key: str, data: bytes) -> None:
    storage.delete(key)
    storage.put_if_absent(key, data)


def flip(storage: MemoryStorage, key: str, at: int) -> None:
    data = bytearray(storage.get(key))
    data[at] ^= 16
    overwrite(storage, key, bytes(data))


def table(version: int = 1, rows: int = 300) -> pa.Table:
    return pa.table(
        {
            "id": np.arange(rows),
            "value": np.arange(rows) * 0.5 * version,
            "text": [None if i % 5 == 0 else f"n{i % 11}" for i in range(rows)],
            "kind": pa.array(["a", "b", "c"] * (rows // 3)).dictionary_encode(),
        }
    )


def only(storage: MemoryStorage, prefix: str) -> str:
    (key,) = [entry.key for entry in storage.list(prefix)]
    return key


def test_a_sound_repository_has_no_damage() -> None:
    storage = fresh()
    repo = opened(storage)
    assert repo.verify(deep=True).ok, "one without a commit too"
    for version in (1, 2):
        repo.commit({"a": table(version), "b": table(1)}, message="m", key={"a": "id"})
    repo.commit({"none": pa.table({}), "empty": table().slice(0, 0)}, message="m")
    repo.tag("t")
    repo.branch("side")
    repo.delete_branch("side")
    report = repo.verify(deep=True)
    assert report.ok and report.deep
    counts = report.counts
    assert (counts.commits, counts.manifests, counts.packs) == (3, 5, len([*storage.list("packs/")]))
    assert counts.ref_entries == 3 + 1 + 2
    assert counts.objects == counts.proven == sum(len(t) for t in repo.store.objects.tables())
    assert counts.bytes == sum(entry.size for entry in storage.list("packs/"))
    assert (counts.unreferenced_commits, counts.unreferenced_manifests) == (0, 0)
    assert (counts.unreferenced_packs, counts.unreferenced_objects) == (0, 0)
    assert repo.verify().counts.proven == 0


def test_what_no_ref_reaches_is_counted_and_is_no_damage() -> None:
    storage = fresh()
    repo = opened(storage)
    repo.commit({"a": table(1)}, message="m")
    draft = repo.draft({"a": table(2)})
    draft._packs.finish()  # a crash after the packs were written
    report = repo.verify(deep=True)
    assert report.ok
    assert report.counts.unreferenced_packs == 1
    storage.put_if_absent(commit_key("0" * 64), b"half a com")
    storage.put_if_absent(manifest_key("0" * 64), b"")
    report = repo.verify()
    assert report.ok
    assert (report.counts.unreferenced_commits, report.counts.unreferenced_manifests) == (1, 1)


def test_affects_names_feature_sets_commits_and_refs() -> None:
    storage = fresh()
    repo = opened(storage)
    first = repo.commit({"a": table(1)}, message="m")
    repo.tag("release")
    second = repo.commit({"a": table(2), "b": pa.table({"x": [1]})}, message="m")
    repo.branch("side")
    one, two = f"a@{first.id[:12]} (release)", f"a@{second.id[:12]} (main, side)"

    def affected(column: str, snapshot: str) -> set[str]:
        damaged = MemoryStorage()
        for entry in storage.list(""):
            damaged.put_if_absent(entry.key, storage.get(entry.key))
        found = repo.snapshot(snapshot)
        place = found.reader.entries([found.schema.get_field_index(column)])[0][0]
        flip(damaged, pack_key(place.pack), place.offset + place.length // 2)
        report = opened(damaged).verify()
        assert {damage.kind for damage in report.damages} == {"object", "pack"}
        assert f"column {column!r}" in report.damages[0].detail
        return {name for damage in report.damages for name in damage.affects}

    assert affected("id", "a@v1") == {one, two}, "both share the column"
    assert affected("value", "a@v1") == {one}
    assert affected("value", "a@v2") == {two}
    assert affected("x", "b") == {f"b@{second.id[:12]} (main, side)"}


def test_a_damaged_manifest_affects_those_stored_against_it() -> None:
    storage = fresh()
    repo = opened(storage)
    wide = pa.table({f"c{i}": np.arange(50) + i for i in range(60)})
    first = repo.commit({"a": wide}, message="m")
    second = repo.commit({"a": wide.set_column(3, "c3", pa.array(range(50)))}, message="m")
    base = first.snapshot("a").id
    assert repo.store.stored_manifest(second.snapshot("a").id).base == base
    flip(storage, manifest_key(base), 70)
    (damage,) = opened(storage).verify().damages
    assert (damage.kind, damage.name, damage.problem) == ("manifest", base, "damaged")
    assert damage.affects == (f"a@{first.id[:12]}", f"a@{second.id[:12]} (main)")


def test_commits_are_walked_from_every_entry_of_every_log() -> None:
    storage = fresh()
    repo = opened(storage)
    first = repo.commit({"a": table(1)}, message="m")
    repo.branch("gone")
    lost = repo.commit({"a": table(2)}, message="m", branch="gone")
    repo.delete_branch("gone")
    assert repo.verify().counts.commits == 2
    storage.delete(commit_key(lost.id))
    (damage,) = opened(storage).verify().damages
    assert (damage.kind, damage.name, damage.problem) == ("commit", lost.id, "missing")
    assert damage.affects == ("branch gone",)
    storage.delete(commit_key(first.id))
    damages = {damage.name: damage for damage in opened(storage).verify().damages}
    assert set(damages) == {first.id, lost.id}
    assert damages[first.id].affects == ("branch gone", "branch main")


def test_a_damaged_parent_affects_the_refs_above_it_and_not_their_snapshots() -> None:
    storage = fresh()
    repo = opened(storage)
    ids = [repo.commit({"a": table(version)}, message="m").id for version in (1, 2, 3)]
    flip(storage, commit_key(ids[1]), 30)
    (damage,) = opened(storage).verify().damages
    assert (damage.kind, damage.name, damage.affects) == ("commit", ids[1], ("branch main",))


@pytest.mark.parametrize(
    "name", ["refs/heads/main/1.json", "refs/heads/x", "refs/other/main/0000000001.json"]
)
def test_what_is_no_entry_among_the_refs_is_damage(name: str) -> None:
    storage = fresh()
    repo = opened(storage)
    repo.commit({"a": table()}, message="m")
    storage.put_if_absent(name, b"{}")
    (damage,) = repo.verify().damages
    assert (damage.kind, damage.name) == ("ref", name)


def test_a_log_that_jumps_ahead_is_no_endless_walk() -> None:
    storage = fresh()
    repo = opened(storage)
    repo.commit({"a": table()}, message="m")
    storage.put_if_absent("refs/heads/main/9999999999.json", b"{}")
    damages = repo.verify().damages
    assert [damage.problem for damage in damages] == ["missing", "damaged"]
    assert "entries 2 to 9999999998" in damages[0].detail


def test_nothing_that_was_read_before_is_trusted() -> None:
    storage = fresh()
    repo = opened(storage)
    repo.commit({"a": table()}, message="m")
    assert repo.snapshot("a").to_arrow().num_rows == 300 and repo.verify().ok
    for prefix, at in (("refs/", 30), ("commits/", 30), ("manifests/", 60), ("index/", 60), ("packs/", 60)):
        key = only(storage, prefix)
        sound = storage.get(key)
        flip(storage, key, at)
        report = repo.verify()
        assert any(damage.name in key for damage in report.damages), prefix
        overwrite(storage, key, sound)
    assert repo.verify().ok


def test_a_file_that_cannot_be_read_does_not_stop_the_walk() -> None:
    class Broken(MemoryStorage):
        broken = ""

        def get(self, key: str) -> bytes:
            if self.broken and key.startswith(self.broken):
                raise StorageError(f"cannot read {key}: the disk failed")
            return super().get(key)

        def get_range(self, key: str, start: int, length: int) -> bytes:
            if self.broken and key.startswith(self.broken):
                raise StorageError(f"cannot read {key}: the disk failed")
            return super().get_range(key, start, length)

    storage = Broken()
    create(storage, time="2026-11-01T00:00:00.000000Z")
    repo = opened(storage)
    repo.commit({"a": table()}, message="m")
    for kind in ("ref", "commit", "manifest", "index", "pack"):
        prefix = {"ref": "refs", "index": "index"}.get(kind, f"{kind}s")
        storage.broken = f"{prefix}/"
        report = repo.verify()
        assert any(damage.kind == kind and "the disk failed" in damage.detail for damage in report.damages), (
            kind
        )
    storage.broken = ""
    assert repo.verify().ok


def test_packs_are_read_in_pieces() -> None:
    class Watched(MemoryStorage):
        largest = 0

        def get(self, key: str) -> bytes:
            assert not key.startswith("packs/")
            return super().get(key)

        def get_range(self, key: str, start: int, length: int) -> bytes:
            self.largest = max(self.largest, length)
            return super().get_range(key, start, length)

    storage = Watched()
    create(storage, time="2026-11-01T00:00:00.000000Z")
    repo = opened(storage)
    noise = np.random.default_rng(1).integers(0, 256, (9 << 20,), np.uint8).tobytes()
    repo.commit({"a": pa.table({"blob": [noise]})}, message="m")
    calls: list[tuple[str, int, int | None]] = []
    report = repo.verify(progress=lambda *call: calls.append(call))
    assert report.ok and report.counts.bytes > 9 << 20
    assert storage.largest <= 4 << 20
    assert calls[-1] == ("snapshots", 1, 1)
    assert ("packs", report.counts.bytes, report.counts.bytes) in calls


def test_both_copies_of_an_object_are_verified() -> None:
    storage = fresh()
    one, two = opened(storage), opened(storage)
    drafts = [one.draft({"a": table()}), two.draft({"b": table().select(["id", "value"]), "c": table(3)})]
    for draft in drafts:
        draft.publish(message="m", author="Test")
    assert len([*storage.list("packs/")]) == 2
    report = one.verify(deep=True)
    assert report.ok
    for key in [entry.key for entry in storage.list("packs/")]:
        sound = storage.get(key)
        flip(storage, key, 20)
        damages = opened(storage).verify().damages
        assert {damage.kind for damage in damages} == {"object", "pack"}
        assert all(damage.affects for damage in damages)
        overwrite(storage, key, sound)


def test_verifying_while_others_commit_finds_nothing() -> None:
    storage = fresh()
    repo = opened(storage)
    repo.commit({"a": table(1)}, message="m")
    done = threading.Event()

    def commit() -> None:
        for version in range(2, 25):
            opened(storage).commit({"a": table(version)}, message="m")
        done.set()

    writer = threading.Thread(target=commit)
    writer.start()
    rounds = 0
    while not done.is_set() or rounds == 0:
        report = repo.verify()
        assert report.ok, [str(damage) for damage in report.damages]
        rounds += 1
    writer.join()
    assert repo.verify().counts.commits == 24


# -- forged: checksums agree, the content does not -----------------------------------------------


def forge(storage: MemoryStorage, change: Callable[[index.Entry, bytes], tuple[index.Entry, bytes]]) -> None:
    """Replace the only pack and its index by others whose names and checksums are right."""
    key, name = only(storage, "packs/"), only(storage, "index/")
    data = storage.get(key)
    parts: list[bytes | memoryview] = []
    entries = []
    position = len(pack.MAGIC)
    for entry in index.ObjectTable(storage.get(name), what=name).entries():
        new, piece = change(entry, data[entry.offset : entry.offset + entry.length])
        checksum = index.checksum(new.address, new.digest, new.meta, [piece])
        entries.append(replace(new, pack="", offset=position, length=len(piece), checksum=checksum))
        parts.append(piece)
        position += len(piece)
    forged, buffers = pack.finish(parts, entries)
    table = index.write_table(replace(entry, pack=forged) for entry in entries)
    storage.delete(key)
    storage.delete(name)
    storage.put_if_absent(pack_key(forged), b"".join(buffers))
    storage.put_if_absent(index_key(index.table_id(table)), table)


def written(array: pa.Array, column: pa.Field) -> tuple[bytes, bytes]:
    """The metadata and the pages of an array."""
    chunk = pages.encode([array], [column], [pages.Encoding.PLAIN])[0]
    return index.pack_meta(chunk.leaves), b"".join(chunk.pages)


def test_forged_content_is_refused_by_proven_reads_and_named_by_a_deep_verification() -> None:
    storage = fresh()
    repo = opened(storage)
    commit = repo.commit({"a": table()}, message="m")
    manifest = commit.snapshot("a").manifest
    target = manifest.identity(1, 0)
    meta, data = written(pa.array(np.arange(300) * 9.5), manifest.stored_fields[1])

    def swap(entry: index.Entry, piece: bytes) -> tuple[index.Entry, bytes]:
        return (replace(entry, meta=meta), data) if entry.address == target.address else (entry, piece)

    forge(storage, swap)
    repo = opened(storage)
    assert repo.verify().ok, "checksums are no proof"
    with pytest.raises(Corruption, match="digest"):
        repo.snapshot("a").to_arrow()
    (damage,) = repo.verify(deep=True).damages
    assert (damage.kind, damage.name, damage.problem) == ("object", target.address.hex(), "damaged")
    assert "digest" in damage.detail and "'value'" in damage.detail
    assert damage.affects == (f"a@{commit.id[:12]} (main)",)


def test_forged_categories_are_refused_and_named() -> None:
    storage = fresh()
    repo = opened(storage)
    target = repo.commit({"a": table()}, message="m").snapshot("a").manifest.categories[0]
    meta, data = written(pa.array(["b", "a", "c"]), pa.field("x", pa.string(), False))
    forge(
        storage,
        lambda entry, piece: (
            (replace(entry, meta=meta), data) if entry.address == target.address else (entry, piece)
        ),
    )
    repo = opened(storage)
    with pytest.raises(Corruption, match="digest"):
        repo.snapshot("a").to_arrow()
    (damage,) = repo.verify(deep=True).damages
    assert damage.name == target.address.hex() and "the categories of column 'kind'" in damage.detail


def test_pages_of_another_kind_are_corruption_however_they_fail_to_decode() -> None:
    nested = pa.array([{"p": 1, "q": "x"}] * 300, pa.struct([("p", pa.int64()), ("q", pa.string())]))
    aliens = [
        written(nested, pa.field("x", nested.type)),
        written(pa.array(["x"] * 300), pa.field("x", pa.string())),
        written(pa.array([1.0] * 7), pa.field("x", pa.float64())),
        written(pa.array([], pa.float64()), pa.field("x", pa.float64())),
        (index.pack_meta(()), b""),
    ]
    for meta, data in aliens:
        storage = fresh()
        repo = opened(storage)
        target = repo.commit({"a": table()}, message="m").snapshot("a").manifest.identity(1, 0)

        def swap(
            entry: index.Entry,
            piece: bytes,
            target: Identity = target,
            meta: bytes = meta,
            data: bytes = data,
        ) -> tuple[index.Entry, bytes]:
            return (replace(entry, meta=meta), data) if entry.address == target.address else (entry, piece)

        forge(storage, swap)
        repo = opened(storage)
        with pytest.raises(Corruption):
            repo.snapshot("a").to_arrow()
        damages = repo.verify(deep=True).damages
        assert [damage.name for damage in damages] == [target.address.hex()]


def test_an_object_under_anothers_address_is_named_without_decoding() -> None:
    storage = fresh()
    repo = opened(storage)
    target = repo.commit({"a": table()}, message="m").snapshot("a").manifest.identity(1, 0)
    forge(
        storage,
        lambda entry, piece: (
            replace(entry, digest=bytes(32)) if entry.address == target.address else entry,
            piece,
        ),
    )
    repo = opened(storage)
    with pytest.raises(Corruption, match="not what the snapshot names"):
        repo.snapshot("a").to_arrow()
    (damage,) = repo.verify().damages
    assert damage.name == target.address.hex() and damage.affects


@pytest.mark.parametrize("wrong", ["null count", "smallest", "largest"])
def test_wrong_statistics_are_named_by_a_deep_verification(wrong: str) -> None:
    storage = fresh()
    repo = opened(storage)
    column = {"null count": 2, "smallest": 0, "largest": 0}[wrong]
    manifest = repo.commit({"a": table()}, message="m").snapshot("a").manifest
    target, field = manifest.identity(column, 0), manifest.stored_fields[column]
    # The statistics of other values over the true pages: readers would leave out row groups wrongly.
    other = {
        "null count": pa.array(["n0"] * 300),
        "smallest": pa.array(np.arange(300) + 1).slice(0),
        "largest": pa.array(np.arange(300) // 2),
    }[wrong]
    tail = index.unpack_meta(written(other.cast(field.type), field)[0])[0].tail

    def relabel(entry: index.Entry, piece: bytes) -> tuple[index.Entry, bytes]:
        if entry.address != target.address:
            return entry, piece
        (leaf,) = index.unpack_meta(entry.meta)
        if leaf.dictionary_page >= 0:  # the tail's first field counts from the field before it
            tail_here = bytes((tail[0] - (1 << 4) * 2,)) + tail[1:]
        else:
            tail_here = tail
        return replace(entry, meta=index.pack_meta([replace(leaf, tail=tail_here)])), piece

    forge(storage, relabel)
    repo = opened(storage)
    assert repo.verify().ok
    (damage,) = repo.verify(deep=True).damages
    assert damage.name == target.address.hex()
    assert ("null(s)" if wrong == "null count" else wrong) in damage.detail


def test_an_index_that_disagrees_with_its_pack_is_named() -> None:
    storage = fresh()
    repo = opened(storage)
    repo.commit({"a": table()}, message="m")
    key = only(storage, "index/")
    entries = [*index.ObjectTable(storage.get(key), what=key).entries()]
    for change in (
        {"offset": 9},
        {"length": 1 << 40},
        {"offset": 1 << 63},
        {"checksum": 1},
        {"meta": b"\2"},
        {"pack": "ab" * 32},
    ):
        table_bytes = index.write_table([replace(entries[0], **change), *entries[1:]])
        copy = MemoryStorage()
        for entry in storage.list(""):
            if entry.key != key:
                copy.put_if_absent(entry.key, storage.get(entry.key))
        name = index.table_id(table_bytes)
        copy.put_if_absent(index_key(name), table_bytes)
        forged = opened(copy)
        with pytest.raises(Corruption):
            forged.snapshot("a").to_arrow()
        damages = forged.verify(deep=True).damages
        wanted = ("pack", "ab" * 32) if "pack" in change else ("index", name)
        assert wanted in {(damage.kind, damage.name) for damage in damages}, change
        assert any(damage.affects for damage in damages), change


# -- statistics ----------------------------------------------------------------------------------


def test_statistics_that_say_nothing_wrong_pass() -> None:
    for array in (
        pa.array([0.0, -0.0]),
        pa.array([float("nan"), 1.0]),
        pa.array([None, None], pa.int32()),
        pa.array([], pa.string()),
        pa.array([[1, None], None, [], [3]]),
        pa.array([{"p": 1}, None, {"p": None}]),
        pa.array([b"\xff", b"", b"\x00"]),
        pa.array([2**64 - 1, 0], pa.uint64()),
    ):
        chunk = pages.encode([array], [pa.field("x", array.type)], [pages.Encoding.PLAIN])[0]
        assert wrong_statistics(chunk.leaves, array) is None, array


def test_stats_add_up() -> None:
    storage = fresh()
    repo = opened(storage)
    assert repo.stats().commits == 0 and repo.stats().feature_sets == {}
    repo.commit({"a": table(1), "b": table(1).select(["id"])}, message="m")
    repo.tag("t")
    once = repo.stats()
    sizes = {entry.key: entry.size for entry in storage.list("")}
    assert once.stored_bytes == sum(sizes.values())
    assert once.pack_bytes == sum(size for key, size in sizes.items() if key.startswith("packs/"))
    assert (once.commits, once.snapshots, once.branches, once.tags, once.pins) == (1, 2, 1, 1, 0)
    assert once.objects == 5  # four columns and the categories of one; the other table's column is shared
    a, b = once.feature_sets["a"], once.feature_sets["b"]
    assert (a.versions, a.snapshots, a.rows, a.columns, a.objects) == (1, 1, 300, 4, 5)
    assert a.stored_bytes == a.full_bytes > b.stored_bytes == b.full_bytes > 0
    assert a.logical_bytes > a.full_bytes
    repo.commit({"a": table(2)}, message="m")
    repo.commit({"a": table(1)}, message="m")
    again = repo.stats().feature_sets["a"]
    assert (again.versions, again.snapshots, again.objects) == (3, 2, 6)
    assert a.stored_bytes < again.stored_bytes < 2 * a.full_bytes < again.full_bytes
    assert repo.stats().feature_sets["b"] == b


# -- objects that stand on others ----------------------------------------------------------------


def grown(rows: int) -> pa.Table:
    """A table that only grows at its end; each one's last group extends the one before."""
    chance = np.random.default_rng(4)
    return pa.table({"id": np.arange(rows), "noise": chance.random(20_000)[:rows]})


def test_what_an_object_stands_on_is_needed_too() -> None:
    storage = fresh()
    repo = opened(storage)
    for rows in (10_000, 10_500, 11_000):
        repo.commit({"a": grown(rows)}, message="m")
    commits = [commit.id[:12] for commit in reversed(repo.log())]
    newest = repo.snapshot("a").reader.entries([1])[0][0]
    extension = index.unpack_extension(newest.meta)
    assert extension is not None and extension.depth == 2
    report = repo.verify(deep=True)
    assert report.ok and report.counts.proven == report.counts.objects == 6
    oldest = repo.snapshot("a@v1").reader.entries([1])[0][0]
    everything = (f"a@{commits[0]}", f"a@{commits[1]}", f"a@{commits[2]} (main)")

    for way in ("damaged", "pack lost", "index lost"):
        copy = MemoryStorage()
        for entry in storage.list(""):
            copy.put_if_absent(entry.key, storage.get(entry.key))
        if way == "damaged":
            flip(copy, pack_key(oldest.pack), oldest.offset + oldest.length // 2)
        elif way == "pack lost":
            copy.delete(pack_key(oldest.pack))
        else:
            for entry in storage.list("index/"):
                copy.delete(entry.key)
        broken = opened(copy)
        with pytest.raises(Corruption):
            broken.snapshot("a").to_arrow()
        damages = broken.verify(deep=True).damages
        assert {name for damage in damages for name in damage.affects} == set(everything), way
        kinds = {"damaged": {"object", "pack"}, "pack lost": {"pack"}, "index lost": {"index"}}[way]
        assert {damage.kind for damage in damages} == kinds, [str(damage) for damage in damages]


def test_a_base_that_no_snapshot_names_any_more_is_needed_all_the_same() -> None:
    storage = fresh()
    repo = opened(storage)
    repo.commit({"a": grown(10_000)}, message="m", branch="old")
    only_old = only(storage, "index/")
    repo.branch("new", "old")
    repo.commit({"a": grown(10_500)}, message="m", branch="new")
    base = [*index.ObjectTable(storage.get(only_old), what="it").entries()]
    # The index file of the old objects is lost: the new ones, which stand on them, cannot be read either.
    storage.delete(only_old)
    report = opened(storage).verify()
    (damage,) = report.damages
    assert (damage.kind, damage.problem) == ("index", "missing")
    assert base[0].pack in damage.name and len(damage.affects) == 2


class Backwards(MemoryStorage):
    """Another store's contents, listed the other way round."""

    def __init__(self, storage: MemoryStorage) -> None:
        super().__init__()
        self._items = storage._items

    def list(self, prefix: str) -> Iterator[Entry]:
        return reversed([*super().list(prefix)])

    def keys(self, prefix: str) -> Iterator[str]:
        return reversed([*super().keys(prefix)])


def test_of_two_forms_of_one_object_the_one_that_an_extension_fits_is_taken() -> None:
    """Two writers that did not know of each other: one stored a longer chunk whole, one as an extension."""
    storage = fresh()
    first, second = opened(storage), opened(storage)
    first.commit({"a": grown(10_000)}, message="m")
    extended, whole = first.draft({"a": grown(10_500)}), second.draft({"b": grown(10_500)})
    extended.publish(message="m", author="one")
    whole.publish(message="m", author="two")
    bases = set()
    for rows in range(11_000, 14_000, 500):  # on whichever of the two forms is found first
        writer = opened(Backwards(storage) if rows % 1000 else storage)
        writer.commit({f"c{rows}": grown(10_500)}, message="m")
        writer.commit({f"c{rows}": grown(rows)}, message="m")
        extension = index.unpack_extension(writer.snapshot(f"c{rows}").reader.entries([1])[0][0].meta)
        assert extension is not None
        bases.add(extension.depth)
    assert len(bases) > 1
    for seen in (storage, Backwards(storage)):
        reader = opened(seen)
        for snapshot in reader.snapshots():
            assert snapshot.to_arrow() == grown(snapshot.num_rows)
            assert snapshot.relation().aggregate("count(noise)").fetchall() == [(snapshot.num_rows,)]
        assert reader.verify(deep=True).ok
