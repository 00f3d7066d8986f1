"""docs/format.md is the contract: its vectors are computed again here, and its table of types is run.

A vector stands in the document as JSON in a block that is opened by ``json golden=NAME``. Values that
JSON has no form for are written so: bytes in hex, floats as the hex of their bits, decimals as text,
times and dates as the integers that Arrow holds, and ``{"range": n}`` for the integers below n.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import strategies
import xxhash
import zstandard
from blake3 import blake3
from memory import committed

import fsvc
from fsvc.engine.condemned import Lists, Sentence
from fsvc.engine.erased import Erased, Erasure
from fsvc.engine.expired import Expired, Expiry
from fsvc.engine.refs import RefEntry
from fsvc.engine.writing import write_snapshot
from fsvc.errors import FsvcError
from fsvc.format import index, manifest, names, pack, patch, strictjson
from fsvc.format import schema as schemas
from fsvc.format.canonical import canonical_bytes, storage_class
from fsvc.format.categories import child_path
from fsvc.format.commit import CommitRecord, SetVersion
from fsvc.format.cutting import cut_parameters
from fsvc.format.footer import LeafMeta
from fsvc.format.rowvalues import row_hashes
from fsvc.format.stored import stored_field, to_stored
from fsvc.storage.memory import MemoryStorage

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "format.md"
_BLOCK = re.compile(r"^```json golden=(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def vectors(name: str) -> list[Any]:
    """All vectors of a name, in order."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = [json.loads(body) for label, body in _BLOCK.findall(text) if label == name]
    return [vector for block in found for vector in (block if isinstance(block, list) else [block])]


def leaf_value(kind: pa.DataType, raw: Any) -> Any:
    if raw is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: leaf_value(field.type, raw[field.name]) for field in kind}
    if pa.types.is_map(kind):
        return [(leaf_value(kind.key_type, key), leaf_value(kind.item_type, item)) for key, item in raw]
    if pa.types.is_nested(kind):
        return [leaf_value(kind.value_type, element) for element in raw]
    if pa.types.is_decimal(kind):
        return Decimal(raw)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return bytes.fromhex(raw)
    return raw


def column(kind: pa.DataType, raw: Any) -> pa.Array:
    """An array of a type from values as the document writes them."""
    if isinstance(raw, dict) and "range" in raw:
        return pa.array(np.arange(raw["range"])).cast(kind)
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(
            pa.array(raw["indices"], kind.index_type),
            column(kind.value_type, raw["categories"]),
            ordered=kind.ordered,
        )
    if pa.types.is_floating(kind):
        bits = {16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}[kind.bit_width]
        return pa.array([None if value is None else int(value, 16) for value in raw], bits).view(kind)
    return pa.array([leaf_value(kind, value) for value in raw], kind)


def table_of(vector: dict[str, Any]) -> pa.Table:
    schema = schemas.from_json(vector["schema"])
    return pa.table([column(f.type, vector["values"][f.name]) for f in schema], schema=schema)


def content_of(vector: dict[str, Any]) -> tuple[pa.Field, bytes]:
    field = schemas.from_json({"fields": [vector["field"]]}).field(0)
    stored = stored_field(field)
    array = to_stored(column(field.type, vector["values"]), "x")
    return stored, b"".join(bytes(part) for part in canonical_bytes(array, stored))


@pytest.mark.parametrize(
    "name",
    [
        "json",
        "chunks",
        "rows",
        "cuts",
        "snapshots",
        "pack",
        "extensions",
        "patchmeta",
        "rowmaps",
        "patches",
        "deletion",
        "expiry",
        "erasure",
        "commits",
        "refs",
        "names",
        "paths",
    ],
)
def test_the_document_has_vectors(name: str) -> None:
    assert vectors(name)


@pytest.mark.parametrize("vector", vectors("json"))
def test_canonical_json(vector: dict[str, Any]) -> None:
    assert strictjson.dumps(vector["value"]) == vector["canonical"].encode()
    assert strictjson.seal(vector["value"]) == vector["sealed"].encode()


@pytest.mark.parametrize("vector", vectors("chunks"), ids=lambda vector: vector["class"])
def test_chunks(vector: dict[str, Any]) -> None:
    stored, content = content_of(vector)
    assert storage_class(stored) == vector["class"]
    assert content == vector["class"].encode() + b"\n" + bytes.fromhex(vector["content"].replace(" ", ""))
    assert xxhash.xxh3_128_hexdigest(content) == vector["address"]
    assert blake3(content).hexdigest() == vector["digest"]


def bits_of(flags: list[bool]) -> bytes:
    packed = bytearray((len(flags) + 7) // 8)
    for place, flag in enumerate(flags):
        packed[place // 8] |= flag << place % 8
    return bytes(packed)


def node(kind: pa.DataType, raw: list[Any]) -> bytes:
    """The node of some values, value by value, by what the document says and nothing else."""
    if pa.types.is_dictionary(kind):
        places, categories = raw["indices"], raw["categories"]  # type: ignore[call-overload]
        return node(kind.value_type, [None if at is None else categories[at] for at in places])
    valid = [value is not None for value in raw]
    out = len(raw).to_bytes(8, "little") + (b"\0" if all(valid) else b"\1" + bits_of(valid))
    if pa.types.is_null(kind):
        return len(raw).to_bytes(8, "little") + (b"\1" if raw else b"\0")
    if pa.types.is_boolean(kind):
        return out + bits_of([bool(value) for value in raw])
    if pa.types.is_struct(kind):
        parts = [[None if value is None else value[field.name] for value in raw] for field in kind]
        return out + b"".join(node(field.type, part) for field, part in zip(kind, parts, strict=True))
    if pa.types.is_nested(kind):
        lengths = b"".join(len(value or []).to_bytes(8, "little") for value in raw)
        elements = [element for value in raw for element in value or []]
        if pa.types.is_map(kind):
            keys, items = [key for key, _ in elements], [item for _, item in elements]
            entries = len(elements).to_bytes(8, "little") + b"\0"
            return out + lengths + entries + node(kind.key_type, keys) + node(kind.item_type, items)
        return out + lengths + node(kind.value_type, elements)
    if pa.types.is_fixed_size_binary(kind):
        return out + b"".join(bytes(kind.byte_width) if v is None else bytes.fromhex(v) for v in raw)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        text = not pa.types.is_binary(kind)
        data = [(v or "").encode() if text else bytes.fromhex(v or "") for v in raw]
        sizes = [len(value) for value in data]
        return out + b"".join(n.to_bytes(8, "little") for n in [*sizes, sum(sizes)]) + b"".join(data)
    width = kind.bit_width // 8
    for value in raw:
        number = value or 0
        if pa.types.is_floating(kind):
            number = int(value or "0", 16)
        elif pa.types.is_decimal(kind):
            number = int(Decimal(value or 0).scaleb(kind.scale))
        elif pa.types.is_timestamp(kind) and kind.unit == "s":
            number *= 1000
        out += (number % (1 << 8 * width)).to_bytes(width, "little")
    return out


@pytest.mark.parametrize("vector", vectors("chunks"), ids=lambda vector: vector["class"])
def test_the_text_alone_gives_the_content(vector: dict[str, Any]) -> None:
    field = schemas.from_json({"fields": [vector["field"]]}).field(0)
    assert node(field.type, vector["values"]).hex() == vector["content"]


@pytest.mark.parametrize("vector", vectors("rows"))
def test_row_hashes(vector: dict[str, Any]) -> None:
    fields = [schemas.from_json({"fields": [part["field"]]}).field(0) for part in vector["columns"]]
    arrays = [
        column(field.type, part["values"]) for field, part in zip(fields, vector["columns"], strict=True)
    ]
    assert [f"{word:016x}" for word in row_hashes(arrays).tolist()] == vector["hashes"]


@pytest.mark.parametrize("vector", vectors("cuts"))
def test_cut_parameters(vector: dict[str, Any]) -> None:
    schema = schemas.from_json(vector["schema"])
    assert cut_parameters(schema, tuple(vector["key"])).to_json() == vector["cut"]


@pytest.mark.parametrize("vector", vectors("snapshots"))
def test_snapshot_ids(vector: dict[str, Any]) -> None:
    table = table_of(vector)
    assert fsvc.identify(table, key=vector["key"]).id == vector["id"]
    found = write_snapshot(table.schema, table.to_batches(), key=vector["key"]).manifest
    assert list(found.rows) == vector["rows"]
    if "manifest" in vector:
        encoded = bytes.fromhex(vector["manifest"])
        assert found.encoded == encoded
        assert manifest.parse(encoded, what="the manifest").id == vector["id"]
    if "stored" in vector:
        stored = manifest.read_stored(bytes.fromhex(vector["stored"]), what="the file")
        assert (stored.base, stored.depth) == ("", 0)
        assert manifest.decompress(stored, None, vector["id"], what="the file") == found.encoded


@pytest.mark.parametrize("vector", vectors("pack"))
def test_packs_and_index_files(vector: dict[str, Any]) -> None:
    parts, entries, offset = [], [], len(pack.MAGIC)
    for item in vector["objects"]:
        leaf = LeafMeta(
            *(bytes.fromhex(item["leaf"][part]) for part in ("head", "middle", "tail")),
            *(
                item["leaf"][part]
                for part in ("dictionary_page", "data_page", "length", "uncompressed", "num_values")
            ),
        )
        meta = index.pack_meta([leaf])
        assert meta.hex() == item["metadata"]
        data, address, digest = (bytes.fromhex(item[part]) for part in ("bytes", "address", "digest"))
        checksum = index.checksum(address, digest, meta, [data])
        assert f"{checksum:016x}" == item["checksum"]
        parts.append(data)
        entries.append(index.Entry(address, digest, "", offset, len(data), checksum, meta))
        offset += len(data)
    name, buffers = pack.finish(parts, entries)
    assert b"".join(buffers).hex() == vector["pack"].replace("\n", "")
    assert name == vector["pack_id"] == blake3(bytes.fromhex(vector["pack"])).hexdigest()
    placed = [index.Entry(e.address, e.digest, name, e.offset, e.length, e.checksum, e.meta) for e in entries]
    table = index.write_table(placed)
    assert table.hex() == vector["index"]
    assert index.table_id(table) == vector["index_id"]
    assert list(index.ObjectTable(table, what="it").entries()) == placed


@pytest.mark.parametrize("vector", vectors("extensions"))
def test_the_metadata_of_extensions(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["metadata"])
    found = index.unpack_extension(data)
    assert found is not None
    assert (found.base.address.hex(), found.base.digest.hex()) == (
        vector["base_address"],
        vector["base_digest"],
    )
    assert (found.depth, list(found.lengths)) == (vector["depth"], vector["lengths"])
    leaves = index.unpack_meta(data)
    assert index.pack_extension(leaves, found) == data
    assert [(leaf.length, leaf.num_values) for leaf in leaves] == [(vector["length"], vector["num_values"])]


@pytest.mark.parametrize("vector", vectors("patchmeta"))
def test_the_metadata_of_patches(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["metadata"])
    found = index.unpack_patch(data)
    assert found is not None
    assert [base.hex() for base in found.bases] == vector["bases"]
    assert (found.row_map and found.row_map.hex()) == vector["row_map"]
    assert (found.depth, found.own_bytes, found.whole_bytes) == (
        vector["depth"],
        vector["own_bytes"],
        vector["whole_bytes"],
    )
    leaves = index.unpack_meta(data)
    assert [(leaf.length, leaf.num_values) for leaf in leaves] == [(vector["length"], vector["num_values"])]
    assert index.pack_patch(leaves, found) == data


@pytest.mark.parametrize("vector", vectors("rowmaps"))
def test_row_maps(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    found = patch.read_map(data)
    assert (found.source.tolist(), list(found.base_rows)) == (vector["source"], vector["base_rows"])
    identity = patch.map_identity(data)
    assert (identity.address.hex(), identity.digest.hex()) == (vector["address"], vector["digest"])
    assert uncompressed(patch.write_map(found)) == uncompressed(data)


@pytest.mark.parametrize("vector", vectors("patches"), ids=lambda vector: vector["what"])
def test_changes(vector: dict[str, Any]) -> None:
    field = stored_field(schemas.from_json({"fields": [vector["field"]]}).field(0))
    data, values = bytes.fromhex(vector["bytes"]), column(field.type, vector["values"])
    inserted, replaced = (np.array(vector[name], np.int64) for name in ("inserted", "replaced"))
    found = patch.read_changes(data, inserted, vector["rows"], field)
    assert found.positions.tolist() == sorted(vector["inserted"] + vector["replaced"])
    assert strategies.bits(found.values) == strategies.bits(values)
    written = patch.write_changes(replaced, values, field)
    assert uncompressed(written) == uncompressed(data)
    if data:
        packed = int.from_bytes(data[9:13], "little")
        assert data[13 + packed] == vector["form"]


def uncompressed(data: bytes) -> bytes:
    """Bytes with every zstd frame in them replaced by what it holds, and the length before it by nothing.

    Frames differ between versions of zstd.
    """
    out, position = b"", 0
    while (start := data.find(b"\x28\xb5\x2f\xfd", position)) >= 0:
        frame = zstandard.ZstdDecompressor().decompressobj()
        held = frame.decompress(data[start:])
        size = len(data) - start - len(frame.unused_data)
        before = data[position:start]
        out += before.removesuffix(size.to_bytes(4, "little")) + held
        position = start + size
    return out + data[position:]


@pytest.mark.parametrize("vector", vectors("deletion"))
def test_lists_of_files_to_delete(vector: dict[str, Any]) -> None:
    sentence = Sentence(
        "0" * 32, frozenset(vector["keys"]), vector["purpose"], vector["grace"], vector["time"]
    )
    assert sentence.to_bytes() == vector["bytes"].encode()
    storage = MemoryStorage()
    storage.put_if_absent(f"dead/{sentence.id}.json", vector["bytes"].encode())
    lists = Lists(storage)
    lists.refresh()
    assert lists.dead == {sentence.id: sentence}
    assert lists.dead_packs == {key[len("packs/") : -len(".pack")] for key in vector["keys"]}


@pytest.mark.parametrize("vector", vectors("expiry"))
def test_records_of_what_expired(vector: dict[str, Any]) -> None:
    record = Expiry(
        "0" * 32,
        {
            name: {snapshot: tuple(commits) for snapshot, commits in found.items()}
            for name, found in vector["snapshots"].items()
        },
        *(vector[member] for member in ("author", "policy", "time", "undoes")),
    )
    assert record.to_bytes() == vector["bytes"].encode()
    storage = MemoryStorage()
    storage.put_if_absent(record.key, vector["bytes"].encode())
    expired = Expired(storage)
    expired.refresh()
    assert expired.records == {record.id: record}


@pytest.mark.parametrize("vector", vectors("erasure"))
def test_records_of_what_was_erased(vector: dict[str, Any]) -> None:
    record = Erasure(
        "0" * 32,
        frozenset(map(bytes.fromhex, vector["addresses"])),
        frozenset(map(bytes.fromhex, vector["groups"])),
        *(vector[member] for member in ("author", "feature_set", "reason", "time")),
    )
    assert record.to_bytes() == vector["bytes"].encode()
    storage = MemoryStorage()
    storage.put_if_absent(record.key, vector["bytes"].encode())
    erased = Erased(storage)
    erased.refresh()
    assert erased.records == {record.id: record}


@pytest.mark.parametrize("vector", vectors("commits"))
def test_commit_ids(vector: dict[str, Any]) -> None:
    value = json.loads(vector["canonical"])
    sets = {
        name: SetVersion(item["snapshot"], item["version"]) for name, item in value["feature_sets"].items()
    }
    record = CommitRecord(
        sets,
        tuple(value["parents"]),
        value["author"],
        value["time"],
        value["message"],
        value["metadata"],
        value["changes"],
    )
    assert record.encoded == vector["canonical"].encode()
    assert record.id == vector["id"]


@pytest.mark.parametrize("vector", vectors("refs"))
def test_ref_entries(vector: dict[str, Any]) -> None:
    value = strictjson.unseal(vector["bytes"].encode(), what="the entry")
    entry = RefEntry(**value)
    assert entry.to_bytes() == vector["bytes"].encode()
    assert entry.key == vector["key"]


@pytest.mark.parametrize("vector", vectors("names"))
def test_escaped_names(vector: dict[str, Any]) -> None:
    assert names.escape(vector["name"]) == vector["escaped"]
    assert names.unescape(vector["escaped"]) == vector["name"]


@pytest.mark.parametrize("vector", vectors("paths"))
def test_paths_of_columns(vector: dict[str, Any]) -> None:
    path = ""
    for name in vector["names"]:
        path = child_path(path, name)
    assert path == vector["path"]


# The table of types ------------------------------------------------------------------------------


def extension(kind: pa.DataType, values: list[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))


def _examples() -> dict[str, pa.Array]:
    """An array for each row of the table, by the row's name."""
    found: dict[str, pa.Array] = {
        "null": pa.nulls(2),
        "bool": pa.array([True, None]),
        "string": pa.array(["a", None]),
        "large_string": pa.array(["a", None], pa.large_string()),
        "string_view": pa.array(["a", None], pa.string_view()),
        "binary": pa.array([b"\xff", None]),
        "large_binary": pa.array([b"\xff", None], pa.large_binary()),
        "binary_view": pa.array([b"\xff", None], pa.binary_view()),
        "fixed_size_binary(3)": pa.array([b"abc", None], pa.binary(3)),
        "list(T)": pa.array([[1], None], pa.list_(pa.int32())),
        "large_list(T)": pa.array([[1], None], pa.large_list(pa.int32())),
        "list_view(T)": pa.array([[1], None], pa.list_view(pa.int32())),
        "large_list_view(T)": pa.array([[1], None], pa.large_list_view(pa.int32())),
        "fixed_size_list(T, n)": pa.array([[1, 2], None], pa.list_(pa.int32(), 2)),
        "list(null)": pa.array([[None], None], pa.list_(pa.null())),
        "struct(a T, b U)": pa.array(
            [{"a": 1, "b": "x"}, None], pa.struct([("a", pa.int32()), ("b", pa.string())])
        ),
        "map(K, V)": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
        "dictionary(I, string)": pa.array(["a", None]).dictionary_encode(),
        "dictionary(I, int64)": pa.array([7, None]).dictionary_encode(),
        "extension arrow.uuid": extension(pa.uuid(), [b"0" * 16, None]),
        "extension arrow.json over string": extension(pa.json_(), ["{}", None]),
        "extension arrow.bool8": extension(pa.bool8(), [1, None]),
        "extension arrow.opaque over string": extension(pa.opaque(pa.string(), "k", "v"), ["a", None]),
        "decimal32(7, 2)": pa.array([Decimal("1.25"), None], pa.decimal32(7, 2)),
        "decimal64(15, 2)": pa.array([Decimal("1.25"), None], pa.decimal64(15, 2)),
        "decimal128(38, 2)": pa.array([Decimal("1.25"), None], pa.decimal128(38, 2)),
        "decimal256(38, 2)": pa.array([Decimal("1.25"), None], pa.decimal256(38, 2)),
        "decimal256(76, 2)": pa.array([Decimal("1.25"), None], pa.decimal256(76, 2)),
    }
    for width in (8, 16, 32, 64):
        for sign in ("", "u"):
            found[f"{sign}int{width}"] = pa.array([1, None], getattr(pa, f"{sign}int{width}")())
    for width in (16, 32, 64):
        found[f"float{width}"] = column(getattr(pa, f"float{width}")(), ["0x3c00", None])
    longs = {
        "date64": pa.date64(),
        **{f"time64[{unit}]": pa.time64(unit) for unit in ("us", "ns")},
        **{f"timestamp[{unit}]": pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")},
        **{
            f"timestamp[{unit}, zone]": pa.timestamp(unit, "Europe/Berlin")
            for unit in ("s", "ms", "us", "ns")
        },
        **{f"duration[{unit}]": pa.duration(unit) for unit in ("s", "ms", "us", "ns")},
    }
    words = {"date32": pa.date32(), **{f"time32[{unit}]": pa.time32(unit) for unit in ("s", "ms")}}
    for name, kind in longs.items():
        found[name] = pa.array([0, None], pa.int64()).view(kind)
    for name, kind in words.items():
        found[name] = pa.array([0, None], pa.int32()).view(kind)
    return found


EXAMPLES = _examples()


def rows_of_types() -> dict[str, list[str]]:
    """The cells of the table of types, by the name in the first column."""
    text = (
        DOCUMENT.read_text(encoding="utf-8").split("<!-- types: begin -->")[1].split("<!-- types: end -->")[0]
    )
    lines = [line for line in text.strip().splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_the_table_lists_every_type() -> None:
    rows = rows_of_types()
    assert set(rows) == set(EXAMPLES)
    listed = {re.match(r"[a-z_0-9]+", name)[0] for name in rows}  # type: ignore[index]
    known = {*schemas._SIMPLE, *schemas._UNIT_TYPES, *schemas._DECIMALS, *schemas._LISTS}
    assert (
        known | {"timestamp", "fixed_size_binary", "fixed_size_list", "struct", "map", "dictionary"} <= listed
    )


def test_every_row_of_the_table_is_as_it_says(tmp_path: Path) -> None:
    rows = rows_of_types()
    table = pa.table(EXAMPLES)
    snapshot = committed(table)
    path = tmp_path / "t.parquet"
    snapshot.write_parquet(path)
    assert snapshot.to_arrow().equals(pa.table(EXAMPLES, schema=snapshot.schema), check_metadata=True)
    plain = pq.read_table(path).schema
    with duckdb.connect() as connection:
        seen = {
            name: str(kind)
            for name, kind, *_ in connection.execute("describe from read_parquet(?)", [str(path)]).fetchall()
        }
    for field in snapshot.schema:
        stored, kind, read, viewed, *_ = rows[field.name]
        kept = stored_field(field)
        assert (str(kept.type), storage_class(kept)) == (stored, kind), field.name
        got = plain.field(field.name).type
        assert read == ("the same" if got == field.type else str(got)), field.name
        assert viewed == seen[field.name].strip('"'), field.name


def test_duckdb_sees_otherwise_what_the_document_says(tmp_path: Path) -> None:
    def checkout(table: pa.Table) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        committed(table).write_parquet(path)
        return str(path)

    def seen(table: pa.Table, what: str) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            return connection.execute(f"select {what} from read_parquet(?)", [checkout(table)]).fetchall()

    most = 2**31 - 1
    days = pa.array([most, -most, 1 - most], pa.int32()).view(pa.date32())
    assert [row[0] for row in seen(pa.table({"c": days}), "isinf(c)")] == [True, True, False]
    most = 2**63 - 1
    for unit in ("us", "ns"):
        times = pa.array([most, -most, most - 1], pa.int64()).view(pa.timestamp(unit))
        assert [row[0] for row in seen(pa.table({"c": times}), "isinf(c)")] == [True, True, False]
    assert seen(pa.table({"c": [1.0, float("nan")]}), "c > 5") == [(False,), (True,)]
    twice = pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int32()))
    far = pa.array([most // 1000 + 1], pa.int64()).view(pa.timestamp("ms"))
    for column_of_errors in (twice, far):
        with pytest.raises(duckdb.Error):
            seen(pa.table({"c": column_of_errors}), "c")
    with pytest.raises(duckdb.Error):
        seen(pa.table({"a": [1]}).select([]), "*")
    with duckdb.connect() as connection:
        path = checkout(pa.table({"a": [1], "A": [2], "": [3]}))
        described = connection.execute("describe from read_parquet(?)", [path]).fetchall()
    assert [row[0] for row in described] == ["a", "A_1", "C2"]


def refusals() -> dict[str, pa.Schema]:
    flat, named = pa.int8(), pa.field("a", pa.int8())
    nested = flat
    for _ in range(schemas.MAX_DEPTH):
        nested = pa.list_(nested)
    kinds = {
        "union": pa.dense_union([named]),
        "run-end encoded": pa.run_end_encoded(pa.int32(), flat),
        "interval": pa.month_day_nano_interval(),
        "struct without fields": pa.struct([]),
        "fixed_size_binary(0)": pa.binary(0),
        "fixed_size_list(T, 0)": pa.list_(flat, 0),
        "decimal with a scale below 0 or above its precision": pa.decimal128(5, -1),
        "dictionary of nested values": pa.dictionary(flat, pa.list_(flat)),
        "dictionary of dictionaries": pa.dictionary(flat, pa.dictionary(flat, pa.string())),
        "dictionary of extension values": pa.dictionary(flat, pa.uuid()),
        "dictionary of nulls": pa.dictionary(flat, pa.null()),
        "types nested more than 16 deep": nested,
    }
    return {
        **{name: pa.schema([pa.field("x", kind)]) for name, kind in kinds.items()},
        "null type declared not null": pa.schema([pa.field("x", pa.null()).with_nullable(False)]),
        "two columns, or two fields of a struct, of one name": pa.schema([named, named]),
        "a name that is not UTF-8 or contains NUL": pa.schema([pa.field("a\0b", flat)]),
    }


def test_what_is_refused_is_listed_and_refused() -> None:
    text = (
        DOCUMENT.read_text(encoding="utf-8")
        .split("<!-- refused: begin -->")[1]
        .split("<!-- refused: end -->")[0]
    )
    listed = [line.strip("|").split("|")[0].strip().strip("`") for line in text.strip().splitlines()[2:]]
    schemas_refused = refusals()
    assert set(listed) >= set(schemas_refused)
    for schema in schemas_refused.values():
        with pytest.raises(FsvcError):
            schemas.check(schema)


# Links -------------------------------------------------------------------------------------------

TEXTS = (DOCUMENT, DOCUMENT.with_name("architecture.md"), *sorted(DOCUMENT.parent.glob("decisions/*.md")))


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        place = path.parent / name if name else path
        assert place.is_file(), target
        assert not anchor or anchor in anchors(place), target
