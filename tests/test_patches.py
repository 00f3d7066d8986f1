"""Patches: what is committed after edits is stored as what differs, and comes back as it was committed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edits
import numpy as np
import pyarrow as pa
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from wholeness import new, opened

import fsvc
from fsvc.engine import patching, writing
from fsvc.engine.patching import Patcher
from fsvc.engine.thawing import Thawed
from fsvc.errors import Corruption
from fsvc.format.canonical import Identity
from fsvc.format.index import MAX_DEPTH, PATCH, ROW_MAP, depth_of, unpack_extension
from fsvc.format.pages import ChunkPages
from fsvc.format.patch import RowMap, read_map, write_map
from fsvc.repository import Repository
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage

ROWS = 20_000


def features(rows: int = ROWS) -> pa.Table:
    random = np.random.default_rng(3)
    return pa.table(
        {
            "id": np.arange(rows, dtype=np.int64) * 3,
            "amount": pa.array(random.gamma(2, 30, rows).round(2), mask=random.random(rows) < 0.05),
            "visits": random.poisson(4, rows).astype(np.int32),
            "region": pa.array(random.choice(["north", "south", "east"], rows)).dictionary_encode(),
            "name": pa.array([f"customer {i * 7919 % 100_003}" for i in range(rows)]),
        }
    )


def changed(table: pa.Table, seed: int, share: float = 0.02) -> pa.Table:
    """The table with some amounts and visits changed."""
    random = np.random.default_rng(seed)
    rows = np.flatnonzero(random.random(len(table)) < share)
    amount = table["amount"].to_numpy(zero_copy_only=False).copy()
    visits = table["visits"].to_numpy().copy()
    amount[rows] = random.gamma(2, 30, len(rows)).round(2)
    visits[rows] += 1
    missing = np.isnan(amount)
    return table.set_column(1, "amount", pa.array(amount, mask=missing)).set_column(
        2, "visits", pa.array(visits)
    )


def bits(table: pa.Table) -> list[list[object]]:
    """What the columns of a table say, bit for bit."""
    return [strategies.bits(column) for column in table.columns]


def codecs(repository: Repository) -> list[int]:
    """The codecs of all stored objects."""
    return [entry.meta[0] for table in repository.store.objects.tables() for entry in table.entries()]


def same(repository: Repository, address: str, table: pa.Table, path: Path) -> None:
    """Check that a snapshot is a table through Arrow, a checkout and DuckDB."""
    snapshot = repository.snapshot(address)
    assert snapshot.to_arrow().equals(table)
    assert snapshot.id == fsvc.identify(table, key=snapshot.key).id
    snapshot.write_parquet(path)
    assert fsvc.identify(path, key=snapshot.key).id == snapshot.id
    relation = snapshot.relation()
    assert relation.count("*").fetchall() == [(len(table),)]
    assert relation.sum("visits").fetchall() == [(int(np.sum(table["visits"].to_numpy())),)]


@pytest.mark.parametrize("key", ["id", ()])
def test_changed_cells_are_stored_as_patches(tmp_path: Path, key: str | tuple[()]) -> None:
    repository = new(LocalStorage(tmp_path / "repository", create=True))
    table = features()
    first = repository.commit({"t": table}, key=key, message="first").changes["t"]["new_bytes"]
    newer = changed(table, 1)
    second = repository.commit({"t": newer}, message="second").changes["t"]
    assert second["new_bytes"] < first / 20
    assert PATCH in codecs(repository)
    same(repository, "t@v1", table, tmp_path / "1.parquet")
    same(repository, "t@v2", newer, tmp_path / "2.parquet")
    again = opened(LocalStorage(tmp_path / "repository"))
    assert again.verify(deep=True).ok
    same(again, "t@v2", newer, tmp_path / "3.parquet")


def test_scattered_deletions_and_insertions_share_one_row_map_a_group(tmp_path: Path) -> None:
    repository = new(MemoryStorage())
    table = features()
    first = repository.commit({"t": table}, key="id", message="first").changes["t"]["new_bytes"]
    random = np.random.default_rng(5)
    kept = table.filter(pa.array(random.random(len(table)) > 0.01))
    added = changed(table.slice(0, 40), 9).set_column(0, "id", pa.array(np.arange(40) * 300 + 1))
    newer = pa.concat_tables([kept, added]).combine_chunks().sort_by("id")
    second = repository.commit({"t": newer}, message="second").changes["t"]
    assert second["new_bytes"] < first / 20
    assert codecs(repository).count(ROW_MAP) <= len(repository.snapshot("t").manifest.rows)
    same(repository, "t@v2", newer, tmp_path / "2.parquet")
    same(repository, "t@v1", table, tmp_path / "1.parquet")


def test_chains_end(tmp_path: Path) -> None:
    repository = new(MemoryStorage())
    tables = [features(3_000)]
    repository.commit({"t": tables[0]}, key="id", message="0")
    for number in range(MAX_DEPTH + 4):
        tables.append(changed(tables[-1], number, 0.01))
        repository.commit({"t": tables[-1]}, message=str(number + 1))
    depths = [
        depth_of(entry.meta) for table in repository.store.objects.tables() for entry in table.entries()
    ]
    assert 1 < max(depths) <= MAX_DEPTH
    for version in (1, 2, MAX_DEPTH // 2, len(tables)):
        same(repository, f"t@v{version}", tables[version - 1], tmp_path / f"{version}.parquet")
    assert repository.verify(deep=True).ok


def test_a_damaged_patch_is_named_and_never_read(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    repository = new(LocalStorage(root, create=True))
    table = features()
    repository.commit({"t": table}, key="id", message="first")
    packs = set((root / "packs").iterdir())
    repository.commit({"t": changed(table, 1)}, message="second")
    (pack,) = set((root / "packs").iterdir()) - packs
    whole = pack.read_bytes()
    pack.chmod(0o644)
    entries = [
        entry
        for found in repository.store.objects.tables()
        for entry in found.entries()
        if entry.meta[0] == PATCH
    ]
    assert entries
    for entry in entries:
        data = bytearray(whole)
        data[entry.offset + entry.length // 2] ^= 0x10
        pack.write_bytes(data)
        damaged = opened(LocalStorage(root))
        with pytest.raises(Corruption):
            damaged.snapshot("t@v2").to_arrow()
        with pytest.raises(Corruption):
            damaged.snapshot("t@v2").write_parquet(tmp_path / "x.parquet")
        report = damaged.verify()
        assert not report.ok
    pack.write_bytes(whole)
    assert opened(LocalStorage(root)).verify(deep=True).ok


def test_a_merge_stores_patches(tmp_path: Path) -> None:
    repository = new(MemoryStorage())
    table = features()
    repository.commit({"features": table}, key="id", message="first")
    repository.branch("theirs", "main")
    amounts = table["amount"].to_numpy(zero_copy_only=False).copy()
    missing = np.isnan(amounts)
    visits = table["visits"].to_numpy().copy()
    amounts[::50] = 1.25
    visits[::70] = 99
    mine = table.set_column(1, "amount", pa.array(amounts, mask=missing & (np.arange(ROWS) % 50 != 0)))
    theirs = table.set_column(2, "visits", pa.array(visits))
    repository.commit({"features": mine}, message="ours")
    repository.commit({"features": theirs}, message="theirs", branch="theirs")
    before = len(codecs(repository))
    repository.merge("theirs")
    both = mine.set_column(2, "visits", theirs["visits"])
    same(repository, "features", both, tmp_path / "merged.parquet")
    assert before == len(codecs(repository)), "both sides' chunks are there already"
    again = np.where(np.arange(ROWS) % 90 == 1, 97, both["visits"].to_numpy()).astype(np.int32)
    repository.branch("more", "main")
    repository.commit({"features": both.set_column(2, "visits", pa.array(again))}, message="ours")
    changed = both["visits"].to_numpy().copy()
    changed[::110] = 98
    repository.commit(
        {"features": both.set_column(2, "visits", pa.array(changed))}, message="more", branch="more"
    )
    patches = codecs(repository).count(PATCH)
    repository.merge("more", strategy="ours")
    merged = np.where(again != both["visits"].to_numpy(), again, changed).astype(np.int32)
    same(repository, "features", both.set_column(2, "visits", pa.array(merged)), tmp_path / "again.parquet")
    assert codecs(repository).count(PATCH) > patches


def test_a_shuffled_table_is_stored_in_full_or_by_group(tmp_path: Path) -> None:
    repository = new(MemoryStorage())
    table = features()
    repository.commit({"features": table}, key="id", message="first")
    shuffled = table.take(pa.array(np.random.default_rng(1).permutation(ROWS)))
    repository.commit({"features": shuffled}, message="shuffled")
    same(repository, "features", shuffled, tmp_path / "shuffled.parquet")


def test_faults_of_the_patcher_are_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = new(MemoryStorage())
    repository.commit({"features": features()}, key="id", message="first")

    def fail(*_: object) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(Patcher, "_changes", fail)
    with pytest.raises(ValueError, match="a fault"):
        repository.commit({"features": changed(features(), 1)}, message="second")


def test_a_patch_that_came_out_wrong_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    repository, table = new(MemoryStorage()), changed(features(), 1)
    repository.commit({"features": features()}, key="id", message="first")
    write = patching.write_changes

    def backwards(positions: np.ndarray, values: pa.Array, field: pa.Field) -> bytes:
        return write(positions, values.take(pa.array(np.arange(len(values))[::-1])), field)

    monkeypatch.setattr(patching, "write_changes", backwards)
    repository.commit({"features": table}, message="second")
    assert PATCH not in codecs(repository)
    assert bits(opened(repository.store.storage).snapshot("features").to_arrow()) == bits(table)
    assert repository.verify(deep=True).ok


@pytest.mark.parametrize("wrong", [False, True])
def test_appended_rows_that_came_out_wrong_are_not_stored(
    monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    random = np.random.default_rng(5)
    table = pa.table({name: random.random(6_000) for name in ("a", "b")})
    repository = new(MemoryStorage())
    repository.commit({"t": table.slice(0, 5_000)}, message="first", threads=1)
    real = writing.extend
    first: list[ChunkPages] = []

    def of_the_first(base: Identity, leaves: Any, depth: int, rest: ChunkPages, whole: Any) -> Any:
        """Every column gets what was appended to the first one."""
        first.append(rest)
        return real(base, leaves, depth, first[0] if wrong else rest, whole)

    monkeypatch.setattr(writing, "extend", of_the_first)
    repository.commit({"t": table}, message="second", threads=1)
    entries = [e for one in repository.store.objects.tables() for e in one.entries()]
    assert sum(unpack_extension(entry.meta) is not None for entry in entries) == (1 if wrong else 2)
    assert opened(repository.store.storage).snapshot("t").to_arrow().equals(table)
    assert repository.verify(deep=True).ok


def test_every_flipped_byte_of_a_thawed_chunk_is_found(tmp_path: Path) -> None:
    path = tmp_path / "repository"
    repository = fsvc.init(path)
    table = features(60).select(["id", "amount"])
    repository.commit({"features": table}, key="id", message="first")
    changed_amounts = pa.array([7.25 if i == 30 else x for i, x in enumerate(table["amount"].to_pylist())])
    second = table.set_column(1, "amount", changed_amounts)
    repository.commit({"features": second}, message="second")
    assert PATCH in codecs(repository)
    wanted = sorted(second["amount"].drop_null().to_pylist())

    def read() -> list[object]:
        found = fsvc.open(path).sql("select amount from features where amount is not null order by 1")
        return [row[0] for row in found.fetchall()]

    assert read() == wanted
    (thawed,) = (path / ".cache" / "thawed").iterdir()
    good = thawed.read_bytes()
    for place in range(len(good)):
        thawed.write_bytes(good[:place] + bytes([good[place] ^ 0x41]) + good[place + 1 :])
        assert kept(path) == good[8:]
    for bad in (b"", good[:-1], good + b"x", good[8:] + good[:8]):
        thawed.write_bytes(bad)
        assert kept(path) == good[8:]
    thawed.write_bytes(bytes(len(good)))
    assert read() == wanted
    assert thawed.read_bytes() == good


def kept(path: Path) -> bytes:
    """The bytes of the only patched chunk of a repository's newest version, as readers of Parquet get them."""
    repository = fsvc.open(path)
    objects = repository.store.objects
    (entry,) = (e for t in objects.tables() for e in t.entries() if e.meta[0] == PATCH)
    manifest = repository.store.manifest(repository.snapshot("features").id)
    chunk = Thawed(objects).chunk(entry, manifest.stored_fields[1], manifest.num_rows)
    return b"".join(chunk.pages)


@given(edits.pools(columns=2), st.integers(0, 2**32 - 1))
def test_any_edits_of_any_table_come_back(pool: edits.Pool, seed: int) -> None:
    random = np.random.default_rng(seed)
    with edits.short_groups():
        repository = new(MemoryStorage())
        rows = edits.start(random, len(pool.fields))
        tables = []
        for number in range(4):
            table = pool.table(rows)
            done = repository.commit(
                {"t": table}, key=pool.key_columns, message=str(number), allow_empty=True
            )
            tables.append((done.id, table))
            rows = edits.edited(random, rows, len(pool.fields), reorder=True)
        for commit, table in tables:
            snapshot = repository.snapshot(f"t@{commit}")
            assert bits(snapshot.to_arrow()) == bits(table)
            assert snapshot.id == fsvc.identify(table, key=pool.key_columns).id
        assert repository.verify(deep=True).ok


@given(st.lists(st.one_of(st.just(-1), st.integers(0, 400)), max_size=300))
def test_row_maps_are_read_as_they_were_written(source: list[int]) -> None:
    found = read_map(write_map(RowMap(np.array(source, np.int64), (300, 101))))
    assert found.source.tolist() == source
    assert found.base_rows == (300, 101)


@given(st.lists(st.integers(-1, 50), max_size=60), st.data())
def test_damaged_row_maps_are_refused_or_read_within_bounds(source: list[int], data: st.DataObject) -> None:
    written = bytearray(write_map(RowMap(np.array(source, np.int64), (51,))))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    try:
        found = read_map(bytes(written))
    except Corruption:
        return
    assert found.source.min(initial=-1) >= -1
    assert found.source.max(initial=-1) < max(sum(found.base_rows), 0) or not len(found.source)
