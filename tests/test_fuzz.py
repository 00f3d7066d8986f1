"""Every parser of ours, given anything: the value or one of our errors comes out, and nothing else.

Each gets random bytes, and good bytes that were mutated, with the checksum put right again where there is one, so
that what lies behind it is reached too. ``make soak`` runs many more examples.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from fsvc.engine import condemned, locate, tracking
from fsvc.engine.refs import RefEntry
from fsvc.engine.refs import _parse as _parse_ref
from fsvc.engine.store import REPOSITORY_KEY, Store, create
from fsvc.errors import FsvcError
from fsvc.format import commit as commits
from fsvc.format import index, names, pack, patch, strictjson
from fsvc.format import manifest as manifests
from fsvc.format.footer import unpack_leaf
from fsvc.format.reference import DataLineage
from fsvc.format.revision import parse_address, parse_revision
from fsvc.query.addresses import find
from fsvc.query.sandbox import Sandbox
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


def _repository(data: bytes) -> object:
    storage = MemoryStorage()
    storage.put_if_absent(REPOSITORY_KEY, data)
    info = Store(storage).info
    assert all(isinstance(value, str) for value in (info.project, info.instance, info.created))
    return info


@lru_cache(1)
def _directory() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """A workspace to put files into, which goes when the tests are over."""
    made = tempfile.TemporaryDirectory(prefix="fsvc-fuzz-")
    (Path(made.name) / locate.WORKSPACE).mkdir()
    (Path(made.name) / "t.parquet").write_bytes(b"PAR1")
    return Path(made.name), made


def _workspace(data: bytes) -> object:
    root, _ = _directory()
    (root / locate.WORKSPACE / tracking.STATE).write_bytes(data)
    state = tracking.load(root, "main")
    names.check_ref_name(state.branch)
    for path, file in state.files.items():
        assert (root / path).resolve().is_relative_to(root.resolve()), "it would be written outside"
        names.check_feature_set_name(file.feature_set)
        assert type(file.reproducible) is bool and type(file.digest) is str
    state.path_of("t")
    stamp = tracking.stamp_of(root / "t.parquet")
    assert stamp is not None
    [state.untouched(file, stamp) for file in state.files.values()]
    tracking.save(root, state)
    assert tracking.load(root, "main").files == state.files
    return state


def _pointer(data: bytes) -> object:
    root, _ = _directory()
    (root / locate.WORKSPACE / locate.POINTER).write_bytes(data)
    try:
        return locate.open_workspace_store(root)
    finally:
        (root / locate.WORKSPACE / locate.POINTER).unlink()


def _addresses(query: str) -> object:
    found = find(query)
    kept = 0
    for mention in found.mentions:
        assert kept <= mention.start < mention.end <= len(query)
        kept = mention.end
    # What is no address is passed on as it is, and every place of the one text is one of the other.
    certain = [mention for mention in found.mentions if mention.certain]
    assert certain or found.sql == query
    for offset in range(0, len(found.sql), 3):
        assert 0 <= found.place(offset) <= len(query)
    return found


@lru_cache(1)
def _asked() -> Repository:
    repository = Repository(Store(_stored()), author="Test")
    return repository


def _sql(query: str) -> object:
    answer = _asked().ask(query, limits=Sandbox(memory=200, seconds=5))
    return answer.relation.limit(5).fetchall()


def text(parse: Callable[[str], object]) -> Parser:
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


@lru_cache(1)
def _stored() -> MemoryStorage:
    """A repository with three versions of a table."""
    storage = MemoryStorage()
    create(storage, time="2026-11-01T00:00:00.000000Z")
    repository = Repository(Store(storage), author="Test")
    value = np.random.default_rng(1).random(3000)
    for version in range(3):
        value[: 5 * version] = version
        rows = pa.table({"id": np.arange(3000), "value": value, "s": [f"n{i % 7}" for i in range(3000)]})
        repository.commit({"t": rows}, message="m", key="id")
    return storage


@lru_cache(1)
def samples() -> dict[str, list[bytes]]:
    """Good bytes of every kind."""
    storage = _stored()
    repository = Repository(Store(storage), author="Test")

    def all_of(prefix: str) -> list[bytes]:
        return [storage.get(key) for key in sorted(storage.keys(prefix))]

    entries = [entry for table in repository.store.objects.tables() for entry in table.entries()]
    own = [repository.store.objects.stored(entry) for entry in entries]
    sentence = condemned.Sentence(
        "0" * 32, frozenset({f"packs/{'0' * 64}.pack"}), "repack", 9, "2026-11-01T00:00:00.000000Z"
    )
    trailers = []
    for data in all_of("packs/"):
        length = pack.trailer_length(data[-pack.FOOTER_BYTES :], what="it")
        trailers.append(data[-pack.FOOTER_BYTES - length : -pack.FOOTER_BYTES])
    root, _ = _directory()
    entry = tracking.TrackedFile("t", "0" * 64, 4, 12, "0" * 64, True)
    tracking.save(root, tracking.Tracking("main", {"t.parquet": entry}), {"folder/u.csv": entry})
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
        "repository file": [storage.get(REPOSITORY_KEY)],
        "workspace file": [(root / locate.WORKSPACE / tracking.STATE).read_bytes()],
        "pointer": [
            strictjson.seal({"repository": place}) for place in ("features", "/nowhere/features", ".")
        ],
        "names in SQL": QUERIES,
        "SQL": QUERIES,
        "address": [b"t@v3", b"t@main~1", b"t"],
        "escaped name": [b"try%2fx", b"%47r%c3%b6"],
        "reference": [
            strictjson.dumps({"fsvc": {"schema_version": 1, "train": {"repository": "x"}, "inputs": []}})
        ],
    }


QUERIES = [
    b"select * from t@v3 where value > 1",
    b'with a as (select s, count(*) n from "t@v1" group by 1) select a.n, t@v2.value from a join t@v2 using (s)',
    'select \'ä@v1\', "t@main~1".id from "t@main~1" -- from t@v9'.encode(),
    b"select fsvc_row, t.* from t@main{2030-01-01} t where id in (1, 2) order by id limit 3 /* t@v1 */",
    b"select x.id - y.id from t@v1 x, t@v2^0~0 y where x.id = y.id and x.s @> y.s",
]

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
    "repository file": (_repository, sealed_json),
    "workspace file": (_workspace, sealed_json),
    "pointer": (_pointer, sealed_json),
    "names in SQL": (text(_addresses), None),
    "SQL": (text(_sql), None),
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


ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.text(max_size=20),
        st.just("\0"),
        st.just("../x"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(value: Any) -> list[tuple[Any, ...]]:
    """The way to everything in a JSON value, the value itself first."""
    found: list[tuple[Any, ...]] = [()]
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += [(key, *rest) for rest in paths(value[key])]
    return found


@pytest.mark.parametrize("kind", [kind for kind, (_, right) in PARSERS.items() if right is sealed_json])
@given(data=st.data())
@settings(deadline=None)
def test_sealed_files_may_hold_anything(kind: str, data: st.DataObject) -> None:
    """With a right seal, and something else in one place: another type, another name, or nothing at all."""
    value: Any = strictjson.unseal(data.draw(st.sampled_from(samples()[kind])), what="it")
    *way, last = data.draw(st.sampled_from(paths(value)[1:]))
    inner = value
    for key in way:
        inner = inner[key]
    match data.draw(st.sampled_from(["replace", "rename", "drop"])):
        case "rename" if isinstance(inner, dict):
            inner[data.draw(st.text(max_size=8))] = inner.pop(last)
        case "drop":
            del inner[last]
        case _:
            inner[last] = data.draw(ANYTHING)
    try:
        PARSERS[kind][0](strictjson.seal(value))
    except FsvcError:
        pass


@pytest.mark.parametrize("kind", PARSERS)
def test_the_good_samples_reach_the_parsers(kind: str) -> None:
    assert samples()[kind]
