"""A repository that was written once and is kept: it must stay readable, and its ids what they are.

``python tests/test_frozen.py`` writes it anew into tests/golden/frozen, for a new version of the format
only; the ids below are then those that it prints.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import strategies
from memory import assert_same

import fsvc
from fsvc.repository import Repository

FROZEN = Path(__file__).parent / "golden" / "frozen"
IDS = {
    "flat": "15ad274a7d562619ea4befb87315a5c7d36aeba7e39221fb8640bca1eeda75d7",
    "dictionaries": "17a1aacf1a6b278bb05a4ec0a3c55c0887bdb31742a28a23c5b787f787b113c6",
    "nested": "ad3bbf35fc426e55b28f25fb6d0b12c26862afde70b46d58396b49a3d33fdcee",
    "groups": "582d873c8f4eec1c13b6d13e767d02f37d1db70f58073b498929a93e9c09b34e",
    "groups@v1": "a3347494058963b48b7902299f6abdfa6f542181e0941ed5962ea0d910de7317",
    "empty": "3e264cefc5584b49b0d0fc0fcf759222abd8e7962453bb942cb4174d0838eb77",
}
COMMITS: list[str] = [
    "825d685f35006416d568bd4ecb895f86022d55eb09354a1f0a368148845b7ed0",
    "086adab71bd3abdb4a22ec0ccf27573d381df88b9e4d4d9e269bc0e0f859ce0c",
]


def families() -> dict[str, pa.Table]:
    """A table for every family of types, made by arithmetic alone, so that it never changes."""
    leaves = strategies.LEAF_TYPES
    flat = {str(kind): column(kind) for kind in leaves}
    flat["uuid"] = pa.array([bytes(range(i, i + 16)) if i % 3 else None for i in range(9)], pa.uuid())
    dictionaries = {
        f"{kind} by {width}": pa.DictionaryArray.from_arrays(
            pa.array([1, None, 0, 1], width), column(kind).slice(0, 3), ordered=width == pa.int8()
        )
        for kind in leaves
        if not pa.types.is_null(kind) and not pa.types.is_boolean(kind)
        for width in (pa.int8(), pa.uint32())
    }
    inner = [[1, None, 3], [], None, [4]]
    struct = pa.struct([pa.field("x", pa.int8(), False), pa.field("ü.y", pa.list_(pa.string()))])
    element = pa.field("element", pa.int16())
    nested = {
        "list": pa.array(inner, pa.list_(element)),
        "large": pa.array(inner, pa.large_list(element)),
        "view": pa.array(inner, pa.list_view(element)),
        "fixed": pa.array([[1, None], None, [3, 4], [5, 6]], pa.list_(element, 2)),
        "map": pa.array([[("a", 1)], [], None, [("b", None)]], pa.map_(pa.string(), pa.int8())),
        "struct": pa.array(
            [{"x": 1, "ü.y": ["a", None]}, None, {"x": 2, "ü.y": None}, {"x": 3, "ü.y": []}], struct
        ),
        "deep": pa.array(
            [[[None, []]], None, [], [None]], pa.list_(pa.field("element", pa.list_(pa.list_(pa.null()))))
        ),
    }
    schema = pa.schema(
        [pa.field(name, array.type, metadata={"unit": "none"}) for name, array in nested.items()],
        metadata={"note": "Grüße", b"\xff": b"\x00"},
    )
    numbers = np.arange(150_000)
    groups = pa.table({"id": numbers * 7, "word": pa.array([f"w{i % 10}" for i in numbers])})
    return {
        "flat": pa.table(flat),
        "dictionaries": pa.table(dictionaries),
        "nested": pa.table(list(nested.values()), schema=schema),
        "groups": groups,
        "empty": pa.table({"c": pa.DictionaryArray.from_arrays(pa.array([], pa.int8()), ["b", "a"])}),
    }


def column(kind: pa.DataType) -> pa.Array:
    """Nine values of a type, two of them null, from fixed bits."""
    if pa.types.is_null(kind):
        return pa.nulls(9)
    valid = [i % 4 != 3 for i in range(9)]
    bitmap = pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    if pa.types.is_boolean(kind):
        return pa.array([i % 3 == 0 if ok else None for i, ok in enumerate(valid)])
    texts = [f"{'text ' * i}{i}" for i in range(9)]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.array([t if ok else None for t, ok in zip(texts, valid, strict=True)], kind)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.array(
            [t.encode() + b"\xff" if ok else None for t, ok in zip(texts, valid, strict=True)], kind
        )
    width = kind.bit_width // 8
    if pa.types.is_floating(kind):
        specials = [0.0, -0.0, 1.5, 0.0, np.inf, -np.inf, 2.5, 0.0, -1.0]
        raw = np.array(specials, f"<f{width}").tobytes()
        return pa.Array.from_buffers(kind, 9, [bitmap, pa.py_buffer(raw)])
    step = 86_400_000 if pa.types.is_date64(kind) else 1
    raw = b"".join(
        (step * (9 - i) % 10**9).to_bytes(max(width, 8), "little")[:width].ljust(width, b"\0")
        for i in range(9)
    )
    if pa.types.is_decimal(kind):
        raw = b"".join(((i + 1) * (-1) ** i).to_bytes(width, "little", signed=True) for i in range(9))
    return pa.Array.from_buffers(kind, 9, [bitmap, pa.py_buffer(raw)])


def fill(repository: Repository) -> None:
    """Write the history that is frozen: two commits, a branch, tags."""
    tables = families()
    first = {**tables, "groups": tables["groups"].slice(0, 140_000)}
    repository.commit(
        first,
        message="one table of every family\n\nGrüße",
        key={"groups": "id"},
        time="2026-11-01T12:00:00.000000Z",
        tag="first",
        metadata={"ticket": "1"},
    )
    repository.commit({"groups": tables["groups"]}, message="more rows", time="2026-11-02T12:00:00.000000Z")
    repository.branch("side/branch", "first")


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The frozen repository, read where nothing can be written into the one that is kept."""
    place = tmp_path_factory.mktemp("frozen") / "repository"
    shutil.copytree(FROZEN, place)
    return fsvc.open(place)


def test_it_is_whole(frozen: Repository) -> None:
    report = frozen.verify(deep=True)
    assert report.ok, report
    assert [commit.id for commit in frozen.log()] == COMMITS
    assert [commit.message for commit in frozen.log()] == ["more rows", "one table of every family\n\nGrüße"]
    assert frozen.branches() == {"main": COMMITS[0], "side/branch": COMMITS[1]}
    assert frozen.tags() == {"first": COMMITS[1]}
    assert frozen.resolve("first").metadata == {"ticket": "1"}


@pytest.mark.parametrize("address", IDS)
def test_every_table_comes_back(frozen: Repository, address: str) -> None:
    snapshot = frozen.snapshot(address)
    assert snapshot.id == IDS[address]
    wanted = families()[snapshot.name]
    if address == "groups@v1":
        wanted = wanted.slice(0, 140_000)
    if snapshot.name == "groups":
        assert snapshot.to_arrow().equals(wanted)
        assert snapshot.key == ("id",)
    else:
        got = snapshot.to_arrow()
        if "uuid" in wanted.column_names:
            assert got.schema.field("uuid").type == pa.uuid()
        assert_same(got, wanted.cast(got.schema) if snapshot.name == "nested" else wanted)


@pytest.mark.parametrize("name", [name for name in IDS if "@" not in name])
def test_ids_are_what_they_were(name: str) -> None:
    assert fsvc.identify(families()[name], key="id" if name == "groups" else ()).id == IDS[name]


def test_it_can_be_written_on(frozen: Repository) -> None:
    commit = frozen.commit({"flat": families()["flat"]}, message="nothing new")
    assert not commit.created
    commit = frozen.commit({"groups": families()["groups"].slice(0, 140_000)}, message="back")
    assert commit.snapshot("groups").id == IDS["groups@v1"]
    assert commit.changes["groups"]["new_chunks"] == 0


if __name__ == "__main__":
    shutil.rmtree(FROZEN, ignore_errors=True)
    made = fsvc.init(FROZEN, author="Ada <ada@example.org>")
    fill(made)
    ids = {address: made.snapshot(address).id for address in IDS}
    print(f"IDS = {ids}\nCOMMITS = {[commit.id for commit in made.log()]}")  # noqa: T201
