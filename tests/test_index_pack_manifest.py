"""Tables of objects, packs, manifests and commits: what is written is read, what is damaged is named."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from memory import committed

from fsvc.engine.catalogue import Catalogue
from fsvc.errors import Corruption, FsvcError, UnknownFormat
from fsvc.format import commit as commits
from fsvc.format import index, manifest, pack
from fsvc.format.canonical import Identity
from fsvc.format.commit import CommitRecord, SetVersion
from fsvc.format.index import Entry, ObjectTable
from fsvc.format.manifest import Manifest

# Few first words, so that addresses collide in them.
ADDRESSES = st.builds(
    lambda high, low: high.to_bytes(8, "big") + low.to_bytes(8, "big"),
    st.sampled_from([0, 1, 5, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1),
    st.integers(0, 3) | st.integers(0, 2**64 - 1),
)
PACKS = st.sampled_from(["11" * 32, "ab" * 32, "ff" * 32])
NUMBERS = st.integers(0, 2**64 - 1)
ENTRIES = st.lists(
    st.builds(
        Entry,
        ADDRESSES,
        st.binary(min_size=32, max_size=32),
        PACKS,
        NUMBERS,
        NUMBERS,
        NUMBERS,
        st.binary(max_size=20),
    ),
    max_size=20,
    unique_by=lambda entry: entry.address,
)


def look_up(table: ObjectTable, addresses: list[bytes]) -> list[int]:
    return list(table.find(*index.address_words(b"".join(addresses))))


@given(ENTRIES, st.lists(ADDRESSES, max_size=10))
def test_every_object_is_found_and_no_other(entries: list[Entry], strangers: list[bytes]) -> None:
    table = ObjectTable(index.write_table(entries), what="a table")
    assert len(table) == len(entries)
    by_address = {entry.address: entry for entry in entries}
    asked = [*by_address, *strangers, *by_address]
    for address, position in zip(asked, look_up(table, asked), strict=True):
        assert (None if position < 0 else table.entry(position)) == by_address.get(address)
    assert list(table.entries()) == sorted(entries, key=lambda entry: entry.address)


@given(ENTRIES)
def test_the_order_of_objects_does_not_count(entries: list[Entry]) -> None:
    data = index.write_table(entries)
    assert index.write_table(reversed(entries)) == data
    assert index.table_id(index.write_table(entries)) == index.table_id(data)


def test_many_addresses_of_one_first_word() -> None:
    entries = [
        Entry(bytes(8) + number.to_bytes(8, "big"), bytes(32), "00" * 32, number, 1, 0, b"")
        for number in range(0, 200, 2)
    ]
    table = ObjectTable(index.write_table(entries), what="a table")
    asked = [bytes(8) + number.to_bytes(8, "big") for number in range(201)]
    assert look_up(table, asked) == [
        number // 2 if number % 2 == 0 and number < 200 else -1 for number in range(201)
    ]


def damaged(data: bytes, draw: Any) -> bytes:
    """The bytes with one thing wrong."""
    place = draw(st.integers(0, len(data) - 1))
    kind = draw(st.sampled_from(["bit", "cut", "more", "zero", "lost"]))
    if kind == "bit":
        return data[:place] + bytes([data[place] ^ 1 << draw(st.integers(0, 7))]) + data[place + 1 :]
    if kind == "cut":
        return data[:place]
    if kind == "more":
        return data + draw(st.binary(min_size=1, max_size=9))
    if kind == "zero":
        length = draw(st.integers(1, 64))
        return data[:place] + bytes(len(data[place : place + length])) + data[place + length :]
    return data[:place] + data[place + 1 :]


@given(ENTRIES, st.data())
def test_a_damaged_table_is_never_read(entries: list[Entry], data: st.DataObject) -> None:
    whole = index.write_table(entries)
    bad = damaged(whole, data.draw)
    if bad == whole:
        return
    with pytest.raises(Corruption, match="a table"):
        ObjectTable(bad, what="a table")


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6))
def test_packs_hold_their_objects(parts: list[bytes]) -> None:
    entries, at = [], len(pack.MAGIC)
    for number, part in enumerate(parts):
        entries.append(Entry(number.to_bytes(16, "big"), os.urandom(32), "", at, len(part), number, part[:3]))
        at += len(part)
    name, buffers = pack.finish(parts, entries)
    whole = b"".join(buffers)
    length = pack.trailer_length(whole[-pack.FOOTER_BYTES :], what="a pack")
    trailer = pack.read_trailer(whole[-pack.FOOTER_BYTES - length : -pack.FOOTER_BYTES], what="a pack")
    assert list(trailer.entries()) == entries
    for entry, part in zip(trailer.entries(), parts, strict=True):
        assert whole[entry.offset : entry.offset + entry.length] == part
    assert pack.finish(parts, [replace(entry, pack="ab" * 32) for entry in entries])[0] == name


@pytest.mark.parametrize("footer", [b"", bytes(16), b"x" * 15, b"x" * 17, bytes(8) + b"FSVCEND2"])
def test_a_pack_that_does_not_end_as_one(footer: bytes) -> None:
    with pytest.raises(Corruption, match="a pack"):
        pack.trailer_length(footer, what="a pack")


# --- manifests


def some_manifest() -> Manifest:
    dictionary = pa.array(["x", "y"]).dictionary_encode()
    table = pa.table({"id": [1, 2], "c": dictionary, "n": pa.array([[{"d": None}], []])}, metadata={"k": "v"})
    return committed(table, key="id").manifest


def large_manifest(groups: int, changed: int = -1) -> Manifest:
    """A manifest of many groups, one of which is another in one column."""
    chunks = np.random.default_rng(1).integers(0, 256, (3, groups, 48), np.uint8)
    if changed >= 0:
        chunks[1, changed] ^= 0xFF
    one = some_manifest()
    return replace(one, rows=(7,) * groups, chunks=chunks)


def same(one: Manifest, other: Manifest) -> bool:
    return (
        one.schema.equals(other.schema, check_metadata=True)
        and (one.key, one.cut, one.rows, one.categories)
        == (other.key, other.cut, other.rows, other.categories)
        and np.array_equal(one.chunks, other.chunks)
    )


def test_manifests_come_back() -> None:
    for one in (some_manifest(), large_manifest(50), large_manifest(0)):
        again = manifest.parse(one.encoded, what="a manifest")
        assert same(again, one)
        assert again.encoded == one.encoded
        assert again.id == one.id
        assert again.num_rows == sum(one.rows)
    assert large_manifest(5).identity(1, 2) == Identity(
        large_manifest(5).chunks[1, 2, :16].tobytes(), large_manifest(5).chunks[1, 2, 16:].tobytes()
    )
    assert len(large_manifest(5).addresses([0, 2])) == 2 * 5 * 16


@given(strategies.tables(max_rows=5, extensions=True))
def test_manifests_of_any_table_come_back(table: pa.Table) -> None:
    one = committed(table).manifest
    assert same(manifest.parse(one.encoded, what="a manifest"), one)


@given(st.data())
def test_a_damaged_manifest_raises_only_what_it_may(data: st.DataObject) -> None:
    # Without its id nothing proves it; but whatever the bytes are, reading them ends in order.
    one = MANIFESTS[0]
    try:
        found = manifest.parse(damaged(one.encoded, data.draw), what="a manifest")
    except (Corruption, UnknownFormat):
        return
    assert found.chunks.shape[:2] == (len(found.schema), len(found.rows))


MANIFESTS = [some_manifest()]


def test_a_manifest_of_a_newer_format_is_told_apart() -> None:
    with pytest.raises(UnknownFormat):
        manifest.parse(b"FSVCMAN2" + MANIFESTS[0].encoded[8:], what="a manifest")
    with pytest.raises(UnknownFormat):
        manifest.parse(MANIFESTS[0].encoded.replace(b'"format":1', b'"format":2'), what="a manifest")


def test_a_manifest_is_stored_against_another() -> None:
    base, one = large_manifest(500), large_manifest(500, changed=99)
    alone = manifest.compress(one.encoded, None)
    delta = manifest.compress(one.encoded, (base.id, base.encoded, 0))
    assert len(delta) * 20 < len(alone)
    stored = manifest.read_stored(delta, what="a manifest")
    assert (stored.base, stored.depth) == (base.id, 1)
    assert manifest.decompress(stored, base.encoded, one.id, what="a manifest") == one.encoded
    stranger = large_manifest(500, changed=3).encoded
    for wrong in (stranger, b"", None):
        with pytest.raises(Corruption, match="a manifest"):
            manifest.decompress(stored, wrong, one.id, what="a manifest")
    with pytest.raises(Corruption, match="does not have this id"):
        manifest.decompress(stored, base.encoded, base.id, what="a manifest")


def test_chains_of_manifests_end() -> None:
    base, one = large_manifest(500), large_manifest(500, changed=99)
    deepest = manifest.compress(one.encoded, (base.id, base.encoded, manifest.MAX_DEPTH - 1))
    assert manifest.read_stored(deepest, what="a manifest").depth == manifest.MAX_DEPTH
    beyond = manifest.compress(one.encoded, (base.id, base.encoded, manifest.MAX_DEPTH))
    assert manifest.read_stored(beyond, what="a manifest").base == ""


def test_a_base_that_does_not_help_is_not_used() -> None:
    other = committed(pa.table({"z": [1]})).manifest
    stored = manifest.compress(large_manifest(100).encoded, (other.id, other.encoded, 0))
    assert manifest.read_stored(stored, what="a manifest").base == ""


@given(st.data())
def test_a_damaged_file_of_a_manifest_is_never_read(data: st.DataObject) -> None:
    one = MANIFESTS[0]
    whole = manifest.compress(one.encoded, None)
    bad = damaged(whole, data.draw)
    if bad == whole:
        return
    with pytest.raises(Corruption, match="a manifest"):
        manifest.decompress(manifest.read_stored(bad, what="a manifest"), None, one.id, what="a manifest")


# --- commits

TEXTS = strategies.names(max_size=20)
RECORDS = st.builds(
    CommitRecord,
    st.dictionaries(TEXTS, st.builds(SetVersion, st.just("ab" * 32), st.integers(1, 2**40)), max_size=3),
    st.lists(st.just("cd" * 32), max_size=2).map(tuple),
    TEXTS,
    st.just("2026-11-01T00:00:00.000000Z"),
    TEXTS,
    st.dictionaries(TEXTS, TEXTS, max_size=2),
    st.dictionaries(
        TEXTS, st.dictionaries(TEXTS, st.integers(0, 9) | st.lists(TEXTS, max_size=2), max_size=2), max_size=2
    ),
)


@given(RECORDS)
def test_commits_come_back(record: CommitRecord) -> None:
    found = commits.parse(record.encoded, record.id, what="a commit")
    assert found == record
    assert found.id == record.id


@given(RECORDS, st.data())
def test_a_damaged_commit_is_never_read(record: CommitRecord, data: st.DataObject) -> None:
    bad = damaged(record.encoded, data.draw)
    if bad != record.encoded:
        with pytest.raises(Corruption, match="a commit"):
            commits.parse(bad, record.id, what="a commit")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 5) | st.sampled_from(["", "ab" * 32]),
        lambda x: st.lists(x, max_size=2) | st.dictionaries(st.sampled_from(["snapshot", "version", "k"]), x),
        max_leaves=5,
    ),
    st.data(),
)
def test_forged_commits_raise_only_what_they_may(value: Any, data: st.DataObject) -> None:
    from blake3 import blake3

    from fsvc.format import strictjson

    document = strictjson.loads(CommitRecord({}, (), "a", "t", "m").encoded, what="a commit")
    document[data.draw(st.sampled_from(sorted(document)))] = value
    encoded = strictjson.dumps(document)
    try:
        found = commits.parse(encoded, blake3(encoded).hexdigest(), what="a commit")
    except (Corruption, UnknownFormat):
        return
    assert all(version.version >= 1 for version in found.feature_sets.values())
    assert isinstance(found.encoded, bytes)


def test_ids() -> None:
    assert commits.is_id("0123456789abcdef" * 4)
    assert not any(commits.is_id(text) for text in ("", "0" * 63, "0" * 65, "A" * 64, "g" * 64))
    assert issubclass(Corruption, FsvcError)


def test_addresses_that_begin_alike_are_told_apart() -> None:
    """Anybody can make addresses of one first word, as many as they like; each is still found at once."""
    addresses = [bytes(8) + i.to_bytes(8, "big") for i in range(0, 40_000, 2)]
    entries = [index.Entry(a, a * 2, "ab" * 32, 8, 1, i, b"") for i, a in enumerate(addresses)]
    again = [replace(entry, offset=99) for entry in entries[:3]]
    table = index.ObjectTable(index.write_table([*entries, *again]), what="it")
    others = [bytes(8) + i.to_bytes(8, "big") for i in range(1, 40_000, 2)]
    words = index.address_words(b"".join([*addresses, *others, bytes(7) + b"\1" + bytes(8)]))
    found = table.find(*words)
    assert [table.entry(at).checksum for at in found[:20_000].tolist()] == [*range(20_000)]
    assert (found[20_000:] == -1).all()
    assert [len(table.copies(address)) for address in (*addresses[:5], others[0])] == [2, 2, 2, 1, 1, 0]
    pairs = Catalogue([table]).find(b"".join([*addresses, *others]))
    places = np.concatenate([place for place, _ in pairs])
    numbers = np.concatenate([number for _, number in pairs])
    assert sorted(places.tolist()) == sorted([*range(20_000), 0, 1, 2])
    assert all(table.entry(n).checksum == p for p, n in zip(places.tolist(), numbers.tolist(), strict=True))
