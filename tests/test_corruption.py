"""Damaged repositories: nothing wrong is ever read, and verification names what is damaged.

Every kind of file is damaged in every way, at many places: a bit flipped, bytes zeroed, cut off, added,
the file swapped with another of its kind, the file lost. Then everything is read in every way there is.
A read gives the data that was committed, or Corruption.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fsvc.engine.store import Store, create
from fsvc.engine.verification import Report
from fsvc.errors import Corruption, NotFound
from fsvc.format import index, pack
from fsvc.query.filesystem import SnapshotFileSystem
from fsvc.repository import Repository
from fsvc.snapshot import Snapshot
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage

Files = dict[str, bytes]

KINDS = {
    "repository": "repository.json",
    "ref": "refs/",
    "commit": "commits/",
    "manifest": "manifests/",
    "index": "index/",
    "pack": "packs/",
}


def customers(version: int) -> pa.Table:
    rows = 400
    numbers = np.arange(rows, dtype=np.int64)
    return pa.table(
        {
            "id": numbers,
            "amount": (numbers * 37 % 101) * 0.25 + version,
            "city": pa.array([None if i % 7 == 0 else f"city {i % 13}" for i in range(rows)]),
            "tier": pa.array([f"tier {i % 3}" for i in range(rows)]).dictionary_encode(),
            "tags": pa.array([[f"t{j}" for j in range(i % 4)] for i in range(rows)]),
        }
    )


def orders(version: int) -> pa.Table:
    return pa.table(
        {"order": pa.array(range(50), pa.int32()), "paid": [i % (2 + version) == 0 for i in range(50)]}
    )


def events(version: int) -> pa.Table:
    """Grows at its end, so that the objects of later versions stand on those of earlier ones."""
    return pa.table({"value": np.random.default_rng(3).random(2000)[: 1200 + 100 * version]})


class Original:
    """A sound repository as a dict of files, and all that can be read from it, by address."""

    def __init__(self, folder: Path) -> None:
        storage = MemoryStorage()
        create(storage, time="2026-11-01T00:00:00.000000Z")
        repo = Repository(Store(storage), author="Test")
        for version in (1, 2, 3):
            tables = {"customers": customers(version), "orders": orders(version), "events": events(version)}
            repo.commit(tables, message=f"m{version}", key={"customers": "id"})
            if version == 1:
                repo.tag("first")
                repo.branch("side")
        self.files = {entry.key: storage.get(entry.key) for entry in storage.list("")}
        ids = [commit.id for commit in repo.log()]
        self.addresses = [
            f"{name}@{revision}"
            for name in ("customers", "orders", "events")
            for revision in ("v1", "v3", "first", "side~0", ids[1])
        ] + ["customers", "orders", "events"]
        self.folder = folder
        self.expected = {
            address: [read(repo.snapshot(address), folder) for read in WAYS.values()]
            for address in self.addresses
        }

    def kind(self, kind: str) -> list[str]:
        return sorted(key for key in self.files if key.startswith(KINDS[kind]))


def through_arrow(snapshot: Snapshot, folder: Path) -> pa.Table:
    return snapshot.to_arrow()


def through_a_checkout(snapshot: Snapshot, folder: Path) -> bytes:
    target = folder / "checkout.parquet"
    target.unlink(missing_ok=True)
    try:
        snapshot.write_parquet(target)
    except Corruption:
        assert list(folder.iterdir()) == [], "a failed checkout leaves nothing behind"
        raise
    return target.read_bytes()


def through_duckdb(snapshot: Snapshot, folder: Path) -> list[tuple[object, ...]]:
    return snapshot.relation().fetchall()


def through_a_file_system(snapshot: Snapshot, folder: Path) -> pa.Table:
    files = SnapshotFileSystem(snapshot._store)
    with files.open(snapshot.uri) as file:
        return pq.read_table(file)


WAYS: dict[str, Callable[[Snapshot, Path], object]] = {
    "arrow": through_arrow,
    "checkout": through_a_checkout,
    "duckdb": through_duckdb,
    "fsspec": through_a_file_system,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return Original(tmp_path_factory.mktemp("original"))


def stored(files: Files) -> MemoryStorage:
    storage = MemoryStorage()
    for key, data in files.items():
        storage.put_if_absent(key, data)
    return storage


def read_everything(
    original: Original,
    repo: Repository,
    folder: Path,
    ways: Sequence[str],
    *,
    addresses: Sequence[str] | None = None,
    lost: str | None = None,
) -> int:
    """Read all addresses in some ways; the number of reads that were refused. A wrong read fails the test.

    ``lost`` is the id of a commit whose file is gone: who asks for that very id is told that it is not there.
    """
    refused = 0
    for address in addresses or original.addresses:
        for (way, read), right in zip(WAYS.items(), original.expected[address], strict=True):
            if way not in ways:
                continue
            try:
                found = read(repo.snapshot(address), folder)
            except Corruption:
                refused += 1
            except NotFound:
                assert lost is not None and lost in address
                refused += 1
            except duckdb.Error as error:
                assert "Corruption" in str(error), f"{way} of {address}: {error}"
                refused += 1
            else:
                same = found.equals(right) if isinstance(found, pa.Table) else found == right
                assert same, f"{way} of {address} gives wrong data"
    return refused


def names(report: Report, key: str) -> bool:
    """Whether a report names a file."""
    return any(damage.name == key or damage.name in key for damage in report.damages)


def flip(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]


def damaged(data: bytes, chance: random.Random, places: int) -> Iterator[tuple[str, bytes]]:
    """A file in many damaged forms."""
    for _ in range(places):
        at = chance.randrange(len(data))
        yield f"flipped at {at}", flip(data, at, chance.randrange(8))
    for at in (0, len(data) - 1):
        yield f"flipped at {at}", flip(data, at, chance.randrange(8))
    for _ in range(max(2, places // 4)):
        start = chance.randrange(len(data))
        length = min(len(data) - start, chance.choice([1, 8, 64, 4096]))
        if any(data[start : start + length]):
            yield f"zeroed at {start}", data[:start] + bytes(length) + data[start + length :]
    for end in {0, 1, len(data) // 2, len(data) - 1, chance.randrange(len(data))}:
        yield f"cut to {end}", data[:end]
    for more in (b"\0", b"\n", b"{}", data[-16:], data):
        yield f"longer by {len(more)}", data + more


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "repository"])
def test_damaged_bytes_are_never_read_and_are_named(
    original: Original, kind: str, tmp_path: Path, count: Callable[[str, int], None]
) -> None:
    chance = random.Random(kind)
    trials = refused = 0
    for key in chance.sample(keys := original.kind(kind), min(3, len(keys))):
        for label, data in damaged(original.files[key], chance, 8):
            # Everything in every way takes long: each trial reads some of it, and all together all of it.
            ways = ("arrow", ("checkout", "fsspec", "duckdb")[trials % 3])
            addresses = chance.sample(original.addresses, 4)
            storage = stored({**original.files, key: data})
            repo = Repository(Store(storage), author="Test")
            refused += read_everything(original, repo, tmp_path, ways, addresses=addresses)
            report = repo.verify()
            assert names(report, key), f"{key} {label}: {[str(damage) for damage in report.damages]}"
            trials += 1
    assert refused, "some of it must have mattered"
    count(f"damaged {kind} files, all named, none read wrong", trials)


@pytest.mark.soak
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "repository"])
def test_thousands_of_flipped_bits_are_never_read_and_are_named(
    original: Original, kind: str, tmp_path: Path, count: Callable[[str, int], None]
) -> None:
    chance = random.Random(f"{kind} for long")
    keys = original.kind(kind)
    for trial in range(10_000):
        key = chance.choice(keys)
        data = original.files[key]
        at, bit = chance.randrange(len(data)), chance.randrange(8)
        storage = stored({**original.files, key: flip(data, at, bit)})
        repo = Repository(Store(storage), author="Test")
        way = ("arrow", "checkout", "duckdb")[trial % 3]
        read_everything(original, repo, tmp_path, (way,), addresses=[chance.choice(original.addresses)])
        assert names(repo.verify(), key), f"{key} flipped at {at}, bit {bit}"
    count(f"flipped bits of {kind} files, all named, none read wrong", 10_000)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "repository"])
def test_swapped_files_are_never_read_and_are_named(
    original: Original, kind: str, tmp_path: Path, count: Callable[[str, int], None]
) -> None:
    keys = original.kind(kind)
    pairs = [(a, b) for i, a in enumerate(keys) for b in keys[i + 1 :]]
    for a, b in random.Random(kind).sample(pairs, min(3, len(pairs))):
        swapped = {**original.files, a: original.files[b], b: original.files[a]}
        repo = Repository(Store(stored(swapped)), author="Test")
        read_everything(original, repo, tmp_path, ("arrow", "fsspec"))
        report = repo.verify()
        assert names(report, a) and names(report, b), [str(damage) for damage in report.damages]
        count(f"swapped {kind} files, all named, none read wrong", 2)


@pytest.mark.parametrize("kind", ["commit", "manifest", "index", "pack"])
def test_lost_files_are_never_read_around_and_are_named(
    original: Original, kind: str, tmp_path: Path
) -> None:
    for key in original.kind(kind):
        files = {k: v for k, v in original.files.items() if k != key}
        repo = Repository(Store(stored(files)), author="Test")
        lost_commit = Path(key).stem if kind == "commit" else None
        assert read_everything(original, repo, tmp_path, ("arrow",), lost=lost_commit)
        read_everything(
            original, repo, tmp_path, ("duckdb",), addresses=original.addresses[::4], lost=lost_commit
        )
        report = repo.verify()
        assert not report.ok
        if kind == "index":  # its name is lost, its content is not
            lost = [
                damage for damage in report.damages if (damage.kind, damage.problem) == ("index", "missing")
            ]
            assert lost and all("rebuilt" in damage.detail and damage.affects for damage in lost)
        else:
            assert names(report, key)
            assert all(damage.problem == "missing" for damage in report.damages)
            assert all(damage.affects for damage in report.damages)


def test_a_lost_entry_of_a_log_is_named_unless_it_is_the_newest(original: Original, tmp_path: Path) -> None:
    log = [key for key in original.kind("ref") if "/heads/main/" in key]
    for key in log[:-1]:
        files = {k: v for k, v in original.files.items() if k != key}
        repo = Repository(Store(stored(files)), author="Test")
        assert read_everything(original, repo, tmp_path, ("arrow",)) == 0
        assert [(damage.name, damage.problem) for damage in repo.verify().damages] == [(key, "missing")]
    # Without its newest entry a log is that of a moment before: what it names is whole and true, and
    # what it does not name any more is counted.
    files = {k: v for k, v in original.files.items() if k != log[-1]}
    repo = Repository(Store(stored(files)), author="Test")
    assert repo.snapshot("customers").to_arrow().equals(customers(2))
    report = repo.verify()
    assert report.ok
    assert report.counts.unreferenced_commits == 1
    assert report.counts.unreferenced_manifests == 3


def test_a_repository_file_is_proven_when_it_is_opened(original: Original) -> None:
    key = KINDS["repository"]
    chance = random.Random(5)
    for _, data in damaged(original.files[key], chance, 200):
        with pytest.raises(Corruption, match="repository file"):
            Store(stored({**original.files, key: data}))
    with pytest.raises(Corruption, match=r"repository\.json is missing"):
        Store(stored({k: v for k, v in original.files.items() if k != key}))
    with pytest.raises(NotFound):
        Store(stored({}))


def test_a_repository_file_damaged_while_open_is_named(original: Original) -> None:
    key = KINDS["repository"]
    storage = stored(original.files)
    repo = Repository(Store(storage), author="Test")
    storage.delete(key)
    assert [(damage.kind, damage.problem) for damage in repo.verify().damages] == [("repository", "missing")]
    storage.put_if_absent(key, flip(original.files[key], 40, 2))
    assert [(damage.kind, damage.problem) for damage in repo.verify().damages] == [("repository", "damaged")]
    storage.delete(key)
    create(storage, time="2026-11-02T00:00:00.000000Z")  # sound, but another repository's
    assert [(damage.kind, damage.problem) for damage in repo.verify().damages] == [("repository", "damaged")]


def objects_of(original: Original) -> Iterator[tuple[str, index.Entry]]:
    for key in original.kind("index"):
        for entry in index.ObjectTable(original.files[key], what=key).entries():
            yield f"packs/{entry.pack}.pack", entry


def touches(snapshot: Snapshot, entry: index.Entry) -> bool:
    """Whether a snapshot needs an object, be it that another one stands on it."""
    manifest = snapshot.manifest
    wanted = manifest.addresses() + b"".join(identity.address for identity in manifest.categories)
    waiting = [wanted[i : i + 16] for i in range(0, len(wanted), 16)]
    while waiting:
        address = waiting.pop()
        if address == entry.address:
            return True
        found = snapshot._store.objects.find(address)[0]
        extension = None if found is None else index.unpack_extension(found.meta)
        if extension is not None:
            waiting.append(extension.base.address)
    return False


@pytest.mark.parametrize("seed", range(2))
def test_every_damaged_object_is_named_with_what_it_affects(
    original: Original, seed: int, tmp_path: Path, count: Callable[[str, int], None]
) -> None:
    chance = random.Random(seed)
    everything = list(objects_of(original))
    for i, (key, entry) in enumerate(everything):
        data = original.files[key]
        start, end = entry.offset, entry.offset + entry.length
        other_key, other = chance.choice(everything)
        alien = original.files[other_key][other.offset : other.offset + other.length]
        for label, piece in (
            ("flipped", flip(data[start:end], chance.randrange(entry.length), chance.randrange(8))),
            ("zeroed", bytes(entry.length)),
            ("another object's", (alien * entry.length)[: entry.length]),
        ):
            if piece == data[start:end]:
                continue
            storage = stored({**original.files, key: data[:start] + piece + data[end:]})
            repo = Repository(Store(storage), author="Test")
            damages = {(damage.kind, damage.name): damage for damage in repo.verify().damages}
            assert set(damages) == {("object", entry.address.hex()), ("pack", entry.pack)}
            hit = damages["object", entry.address.hex()]
            assert "column" in hit.detail
            assert hit.affects and hit.affects == damages["pack", entry.pack].affects
            way = tuple(WAYS)[(i + seed) % 4]
            addresses = [a for a in original.addresses if touches(repo.snapshot(a), entry)]
            assert addresses
            for address in addresses[:2]:
                ways = ("arrow",) if address != addresses[0] else (way,)
                assert read_everything(original, repo, tmp_path, ways, addresses=[address]), label
            count("damaged objects, all named, none read wrong", 1)


@pytest.mark.parametrize("part", ["trailer", "footer", "magic"])
def test_damage_outside_of_objects_leaves_data_readable_and_is_named(
    original: Original, part: str, tmp_path: Path
) -> None:
    chance = random.Random(part)
    for key in original.kind("pack"):
        data = original.files[key]
        length = pack.trailer_length(data[-pack.FOOTER_BYTES :], what="it")
        first, last = {
            "trailer": (len(data) - pack.FOOTER_BYTES - length, len(data) - pack.FOOTER_BYTES),
            "footer": (len(data) - pack.FOOTER_BYTES, len(data)),
            "magic": (0, len(pack.MAGIC)),
        }[part]
        for _ in range(8):
            broken = flip(data, chance.randrange(first, last), chance.randrange(8))
            repo = Repository(Store(stored({**original.files, key: broken})), author="Test")
            damages = repo.verify().damages
            assert [(damage.kind, damage.problem) for damage in damages] == [("pack", "damaged")]
            assert damages[0].name in key
        assert read_everything(original, repo, tmp_path, tuple(WAYS)) == 0


def test_without_index_and_trailer_objects_are_missing_not_misread(
    original: Original, tmp_path: Path
) -> None:
    key = original.kind("pack")[0]
    files = {k: v for k, v in original.files.items() if not k.startswith("index/")}
    files[key] = files[key][:-1]
    repo = Repository(Store(stored(files)), author="Test")
    assert read_everything(original, repo, tmp_path, tuple(WAYS))
    report = repo.verify()
    assert names(report, key)
    assert any((damage.kind, damage.problem) == ("object", "missing") for damage in report.damages)
    # The other packs still tell what is in them.
    assert any("rebuilt" in damage.detail for damage in report.damages)


@pytest.mark.parametrize("kind", ["commit", "manifest", "index", "pack", "ref"])
def test_files_on_a_disk_are_no_different(original: Original, kind: str, tmp_path: Path) -> None:
    chance = random.Random(kind)
    key = chance.choice(original.kind(kind))
    for i, data in enumerate(
        [b"", original.files[key][:-3], flip(original.files[key], 9, 4), original.files[key] * 2]
    ):
        root = tmp_path / f"r{i}"
        storage = LocalStorage(root, create=True)
        for other, sound in original.files.items():
            storage.put_if_absent(other, data if other == key else sound)
        out = tmp_path / f"out{i}"
        out.mkdir()
        repo = Repository(Store(LocalStorage(root)), author="Test")
        read_everything(original, repo, out, tuple(WAYS), addresses=original.addresses[::3])
        assert names(repo.verify(), key)


def test_several_damages_at_once_are_all_named(original: Original) -> None:
    files = dict(original.files)
    hit = [original.kind(kind)[0] for kind in ("ref", "manifest", "index", "pack")]
    for key in hit:
        files[key] = flip(files[key], len(files[key]) // 2, 3)
    report = Repository(Store(stored(files)), author="Test").verify(deep=True)
    assert all(names(report, key) for key in hit)
