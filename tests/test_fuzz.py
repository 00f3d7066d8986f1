"""Every parser of ours, given anything: the value or one of our errors comes out, and nothing else.

Each gets random bytes, and good bytes that were mutated, with the checksum put right again where there is one, so
that what lies behind it is reached too. ``make soak`` runs many more examples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from fsvc.engine import condemned
from fsvc.engine.refs import RefEntry
from fsvc.engine.refs import _parse as _parse_ref
from fsvc.engine.store import Store, create
from fsvc.errors import FsvcError
from fsvc.format import commit as commits
from fsvc.format import index, names, pack, patch, strictjson
from fsvc.format import manifest as manifests
from fsvc.format.footer import unpack_leaf
from fsvc.format.reference import DataLineage
from fsvc.format.revision import parse_address, parse_revision
from fsvc.repository import Repository
from fsvc.storage.memory import MemoryStorage

Parser = Callable[[bytes], object]


def sealed_with_xxh3(data: bytes) -> bytes:
    """The bytes with their last eight made the checksum of the others."""
    return data[:-8] + xxhash.xxh3_64_digest(data[:-8])[::-1]


def sealed_json(data: bytes) -> bytes:
    """A JSON object with a right seal, if it is one."""
    try:
        value = strictjson.loads(data, what="it")
        if isinstance(value, dict):
            value.pop("blake3", None)
            return strictjson.seal(value)
    except FsvcError:
        pass
    return data


def table_of_objects(data: bytes) -> object:
    table = index.ObjectTable(data, what="it")
    entries = list(table.entries())
    for entry in entries[:50]:
        metadata(entry.meta)
    return entries


def metadata(data: bytes) -> object:
    return (
        index.unpack_meta(data),
        index.unpack_extension(data),
        index.unpack_patch(data),
        index.below(data),
        index.own_lengths(data, 100),
        index.depth_of(data),
    )


def stored_manifest(data: bytes) -> object:
    stored = manifests.read_stored(data, what="it")
    return manifests.decompress(stored, None, "0" * 64, what="it")


def changes(data: bytes) -> object:
    return patch.read_changes(data, np.array([1, 5]), 100, pa.field("x", pa.int64()))


def _ref(data: bytes) -> object:
    entry = _parse_ref("heads", "main", 1, data)
    assert isinstance(entry, RefEntry)
    return entry


def _lineage(data: bytes) -> object:
    value = strictjson.loads(data, what="it")
    return DataLineage.parse(value, what="it") if isinstance(value, dict) else None


def text(parse: Callable[[str], object]) -> Parser:
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


@lru_cache(1)
def samples() -> dict[str, list[bytes]]:
    """Good bytes of every kind."""
    storage = MemoryStorage()
    create(storage, time="2026-11-01T00:00:00.000000Z")
    repository = Repository(Store(storage), author="Test")
    value = np.random.default_rng(1).random(3000)
    for version in range(3):
        value[: 5 * version] = version
        rows = pa.table({"id": np.arange(3000), "value": value, "s": [f"n{i % 7}" for i in range(3000)]})
        repository.commit({"t": rows}, message="m", key="id")

    def all_of(prefix: str) -> list[bytes]:
        return [storage.get(key) for key in sorted(storage.keys(prefix))]

    entries = [entry for table in repository.store.objects.tables() for entry in table.entries()]
    own = [repository.store.objects.stored(entry) for entry in entries]
    sentence = condemned.Sentence(
        "0" * 32, frozenset({"packs/x.pack"}), "repack", 9, "2026-11-01T00:00:00.000000Z"
    )
    trailers = []
    for data in all_of("packs/"):
        length = pack.trailer_length(data[-pack.FOOTER_BYTES :], what="it")
        trailers.append(data[-pack.FOOTER_BYTES - length : -pack.FOOTER_BYTES])
    return {
        "table of objects": all_of("index/"),
        "trailer": trailers,
        "pack end": [data[-pack.FOOTER_BYTES :] for data in all_of("packs/")],
        "metadata": [entry.meta for entry in entries],
        "stored manifest": all_of("manifests/"),
        "manifest": [repository.snapshot(f"t@v{v}").manifest.encoded for v in (1, 2, 3)],
        "commit": all_of("commits/"),
        "ref": all_of("refs/"),
        "condemned list": [sentence.to_bytes()],
        "changes": [d for d, e in zip(own, entries, strict=True) if e.meta[0] == index.PATCH] or own,
        "row map": [d for d, e in zip(own, entries, strict=True) if e.meta[0] == index.ROW_MAP] or own,
        "leaf": [entry.meta[3:] for entry in entries],
        "revision": [b"main~2^1", b"v3", b"main{2026-11-01T00:00Z}", b"0123abcd~1"],
        "address": [b"t@v3", b"t@main~1", b"t"],
        "escaped name": [b"try%2fx", b"%47r%c3%b6"],
        "reference": [
            strictjson.dumps({"fsvc": {"schema_version": 1, "train": {"repository": "x"}, "inputs": []}})
        ],
    }


PARSERS: dict[str, tuple[Parser, Callable[[bytes], bytes] | None]] = {
    "table of objects": (table_of_objects, sealed_with_xxh3),
    "trailer": (lambda data: list(pack.read_trailer(data, what="it").entries()), sealed_with_xxh3),
    "pack end": (lambda data: pack.trailer_length(data, what="it"), None),
    "metadata": (metadata, None),
    "stored manifest": (stored_manifest, sealed_with_xxh3),
    "manifest": (lambda data: manifests.parse(data, what="it"), None),
    "commit": (lambda data: commits.parse(data, blake3(data).hexdigest(), what="it"), None),
    "ref": (_ref, sealed_json),
    "condemned list": (lambda data: condemned._parse("0" * 32, data, "it"), sealed_json),
    "changes": (changes, None),
    "row map": (patch.read_map, None),
    "leaf": (lambda data: unpack_leaf(data, 0), None),
    "revision": (text(parse_revision), None),
    "address": (text(parse_address), None),
    "escaped name": (text(names.unescape), None),
    "reference": (_lineage, None),
}


@st.composite
def mutated(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """Bytes of a good thing with a few of them changed, left out, put in, or put twice."""
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["set", "word", "cut", "insert", "repeat"])):
            case "set" if at < len(data):
                data[at] = draw(st.sampled_from([0, 1, 127, 128, 255, data[at] ^ 1, data[at] ^ 128]))
            case "word":
                data[at : at + 8] = draw(st.sampled_from([b"\0" * 8, b"\xff" * 8, b"\xff" * 7 + b"\x7f"]))
            case "cut":
                del data[at : at + draw(st.integers(1, 64))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case "repeat":
                data[at:at] = data[at : at + 32]
            case _:
                pass
    return bytes(data)


@pytest.mark.parametrize("kind", PARSERS)
@given(data=st.data())
@settings(deadline=None)
def test_a_parser_gives_a_value_or_an_error_of_ours(kind: str, data: st.DataObject) -> None:
    parse, put_right = PARSERS[kind]
    given_bytes = data.draw(st.one_of(mutated(samples()[kind]), st.binary(max_size=200)))
    for attempt in (given_bytes, *((put_right(given_bytes),) if put_right else ())):
        try:
            parse(attempt)
        except FsvcError:
            pass


@pytest.mark.parametrize("kind", PARSERS)
def test_the_good_samples_reach_the_parsers(kind: str) -> None:
    assert samples()[kind]
