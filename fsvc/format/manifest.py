"""Manifests: what a snapshot holds, in canonical bytes whose BLAKE3 is the snapshot id.

A manifest names the schema in normal form, the key, the cut parameters, the rows of every group, and
the address and digest of every chunk and every dictionary's categories: nothing physical. It is
stored compressed, against the manifest of a parent where that helps. Layouts: docs/format.md,
"Manifest" and "Stored manifest".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
import zstandard
from blake3 import blake3

from fsvc.errors import Corruption, UnknownFormat
from fsvc.format import schema as schemas
from fsvc.format import strictjson
from fsvc.format.canonical import ADDRESS_BYTES, DIGEST_BYTES, Identity
from fsvc.format.categories import dictionary_types
from fsvc.format.cutting import LARGEST_MEAN_ROWS, CutParameters
from fsvc.format.stored import stored_field

__all__ = [
    "MAX_DEPTH",
    "Manifest",
    "StoredManifest",
    "addresses_in",
    "compress",
    "decompress",
    "parse",
    "read_stored",
]

FORMAT = 1
_MAGIC = b"FSVCMAN1"
_STORED_MAGIC = b"FSVCMZS1"
_HEAD = struct.Struct("<8sIQQI")
_STORED = struct.Struct("<8sBBHQ32s")
_CHECKSUM_BYTES = 8
_IDENTITY = ADDRESS_BYTES + DIGEST_BYTES
_LARGEST = 1 << 31
_MOST_ROWS = 2 * LARGEST_MEAN_ROWS
_MOST_EMPTY = 1 << 16
"""Groups of a table without columns: all but the last are full, and anybody could claim billions that take no bytes."""
MAX_DEPTH = 16
"""How many manifests a stored one may stand on, itself not counted."""

_LEVEL = 3
_REACH = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """The content list of a snapshot.

    ``rows`` holds the rows of each group. ``chunks`` is an array of bytes of shape
    (columns, groups, 48): address, then digest. ``categories`` holds one identity per dictionary
    type, in the order of columns and paths.
    """

    schema: pa.Schema
    key: tuple[str, ...]
    cut: CutParameters
    rows: tuple[int, ...]
    chunks: np.ndarray[Any, np.dtype[np.uint8]]
    categories: tuple[Identity, ...]

    @property
    def num_rows(self) -> int:
        """Rows of the whole snapshot."""
        return sum(self.rows)

    @cached_property
    def stored_fields(self) -> list[pa.Field]:
        """The columns' fields in stored form, in order."""
        return [stored_field(field) for field in self.schema]

    @cached_property
    def category_types(self) -> dict[str, pa.DictionaryType]:
        """Path and type of every dictionary type, in the order of ``categories``."""
        return dictionary_types(self.schema)

    def identity(self, column: int, group: int) -> Identity:
        """Address and digest of one chunk."""
        raw = self.chunks[column, group].tobytes()
        return Identity(raw[:ADDRESS_BYTES], raw[ADDRESS_BYTES:])

    def addresses(self, columns: Sequence[int] | None = None) -> bytes:
        """The addresses of all chunks, or of some columns', column by column, 16 bytes each."""
        chosen = self.chunks if columns is None else self.chunks[list(columns)]
        return np.ascontiguousarray(chosen[..., :ADDRESS_BYTES]).tobytes()

    def select(self, columns: Sequence[str]) -> Manifest:
        """The manifest of some columns and the key: the same rows in the same groups, in the same order."""
        wanted = {*columns, *self.key}
        numbers = [i for i, name in enumerate(self.schema.names) if name in wanted]
        schema = pa.schema([self.schema.field(i) for i in numbers], self.schema.metadata)
        paths = dictionary_types(schema)
        return Manifest(
            schema,
            self.key,
            self.cut,
            self.rows,
            self.chunks[numbers],
            tuple(
                identity
                for path, identity in zip(self.category_types, self.categories, strict=True)
                if path in paths
            ),
        )

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        header = strictjson.dumps(
            {
                "cut": self.cut.to_json(),
                "format": FORMAT,
                "key": list(self.key),
                "schema": schemas.to_json(self.schema),
            }
        )
        return b"".join(
            [
                _HEAD.pack(_MAGIC, len(header), len(self.schema), len(self.rows), len(self.categories)),
                header,
                np.array(self.rows, "<u8").tobytes(),
                np.ascontiguousarray(self.chunks).tobytes(),
                *(identity.address + identity.digest for identity in self.categories),
            ]
        )

    @cached_property
    def id(self) -> str:
        """The snapshot id, in hex."""
        return blake3(self.encoded).hexdigest()


def parse(data: bytes, *, what: str) -> Manifest:
    """Read canonical bytes back. Raises Corruption, or UnknownFormat for a newer format."""
    if len(data) < _HEAD.size:
        raise Corruption(f"{what} is truncated")
    magic, header_length, columns, groups, categories = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        if magic[:7] == _MAGIC[:7]:
            raise UnknownFormat(f"{what} is of a newer format", hint="upgrade fsvc")
        raise Corruption(f"{what} is not a manifest")
    size = _HEAD.size + header_length + groups * 8 + (columns * groups + categories) * _IDENTITY
    if size != len(data):
        raise Corruption(f"{what} has {len(data)} bytes where {size} are declared")
    position = _HEAD.size + header_length
    header = strictjson.loads(data[_HEAD.size : position], what=what)
    if not isinstance(header, dict) or set(header) != {"cut", "format", "key", "schema"}:
        raise Corruption(f"{what} has an unknown header")
    if header["format"] != FORMAT:
        raise UnknownFormat(f"{what} is of format {header['format']}", hint="upgrade fsvc")
    schema = schemas.from_json(header["schema"])
    rows = np.frombuffer(data, "<u8", groups, position)
    position += groups * 8
    end = position + columns * groups * _IDENTITY
    chunks = np.frombuffer(data, np.uint8, columns * groups * _IDENTITY, position)
    identities = tuple(
        Identity(data[i : i + ADDRESS_BYTES], data[i + ADDRESS_BYTES : i + _IDENTITY])
        for i in range(end, len(data), _IDENTITY)
    )
    # A cut is after the largest mean's double at the latest; more rows than that fit into no reader's numbers.
    if groups and not (int(rows.min()) >= 1 and int(rows.max()) <= _MOST_ROWS):
        raise Corruption(f"{what} has row groups of no rows, or of more than a group can have")
    if not columns and groups > _MOST_EMPTY:
        raise Corruption(f"{what} has {groups:,} row groups without a column")
    key = header["key"]
    if len(schema) != columns or not isinstance(key, list) or not all(isinstance(k, str) for k in key):
        raise Corruption(f"{what} contradicts itself")
    manifest = Manifest(
        schema,
        tuple(key),
        CutParameters.from_json(header["cut"]),
        tuple(int(n) for n in rows),
        chunks.reshape(columns, groups, _IDENTITY),
        identities,
    )
    if len(manifest.category_types) != categories:
        raise Corruption(f"{what} contradicts itself")
    return manifest


def addresses_in(data: bytes, *, what: str) -> bytes:
    """The addresses of all that canonical bytes name, categories included, 16 bytes each.

    Nothing else is looked at: for many manifests at once. Raises Corruption.
    """
    if len(data) < _HEAD.size:
        raise Corruption(f"{what} is truncated")
    magic, header, columns, groups, categories = _HEAD.unpack_from(data)
    count = columns * groups + categories
    start = _HEAD.size + header + groups * 8
    if magic != _MAGIC or len(data) != start + count * _IDENTITY:
        raise Corruption(f"{what} is not a manifest of this format")
    identities = np.frombuffer(data, np.uint8, count * _IDENTITY, start).reshape(count, _IDENTITY)
    return np.ascontiguousarray(identities[:, :ADDRESS_BYTES]).tobytes()


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest's file: what it is compressed against (``""`` for nothing) and how deep that goes."""

    base: str
    depth: int
    length: int
    payload: bytes


def compress(encoded: bytes, base: tuple[str, bytes, int] | None) -> bytes:
    """The file of a manifest; ``base`` is another one's id, canonical bytes and depth.

    The base is used where that saves at least a third, and its depth allows it.
    """
    alone = zstandard.ZstdCompressor(level=_LEVEL).compress(encoded)
    name, depth, payload = "", 0, alone
    if base is not None and base[2] < MAX_DEPTH:
        against = zstandard.ZstdCompressionDict(base[1], dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        delta = _compressor(against, len(base[1]), len(encoded)).compress(encoded)
        if len(delta) * 3 < len(alone) * 2:
            name, depth, payload = base[0], base[2] + 1, delta
    head = _STORED.pack(
        _STORED_MAGIC, 1 if name else 0, depth, 0, len(encoded), bytes.fromhex(name or "00" * 32)
    )
    # The id proves what is decompressed; bytes that zstd does not look at are covered by the checksum.
    return head + payload + xxhash.xxh3_64_digest(head + payload)[::-1]


def _compressor(
    against: zstandard.ZstdCompressionDict, base_bytes: int, new_bytes: int
) -> zstandard.ZstdCompressor:
    """A compressor that looks back through all of a base (up to 16 MiB of it, as far as zstd goes).

    By itself zstd takes note of the last megabyte only, and of nothing that is further back than its window.
    """
    if base_bytes <= _REACH:
        return zstandard.ZstdCompressor(level=_LEVEL, dict_data=against)
    table = min(24, (base_bytes // 8).bit_length())
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        window_log=min(27, (base_bytes + new_bytes).bit_length()),
        hash_log=table,
        chain_log=table,
    )
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=against)


def read_stored(data: bytes, *, what: str) -> StoredManifest:
    """Take a manifest's file apart. Raises Corruption where any byte of it is not as it was written."""
    if len(data) < _STORED.size + _CHECKSUM_BYTES:
        raise Corruption(f"{what} is truncated")
    magic, kind, depth, reserved, length, base = _STORED.unpack_from(data)
    if magic != _STORED_MAGIC:
        raise Corruption(f"{what} is not a stored manifest of this format")
    end = len(data) - _CHECKSUM_BYTES
    if xxhash.xxh3_64_intdigest(memoryview(data)[:end]) != int.from_bytes(data[end:], "little"):
        raise Corruption(f"{what} is damaged: its checksum does not match")
    if (
        kind not in (0, 1)
        or reserved
        or length > _LARGEST
        or depth > MAX_DEPTH
        or (kind == 0) != (depth == 0)
        or (kind == 0 and any(base))
    ):
        raise Corruption(f"{what} is damaged: its header contradicts itself")
    return StoredManifest(base.hex() if kind else "", depth, length, data[_STORED.size : end])


def decompress(stored: StoredManifest, base: bytes | None, snapshot: str, *, what: str) -> bytes:
    """The canonical bytes of a stored manifest, proven against the snapshot id."""
    dictionary = (
        None
        if base is None
        else zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    )
    try:
        reader = (
            zstandard.ZstdDecompressor(dict_data=dictionary) if dictionary else zstandard.ZstdDecompressor()
        )
        # The frame says its own size; believe neither it nor the header before they agree.
        if zstandard.frame_content_size(stored.payload) != stored.length:
            raise Corruption(f"{what} is damaged: its sizes disagree")
        encoded = reader.decompress(stored.payload, max_output_size=stored.length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Corruption(f"{what} is damaged: {error}") from None
    if blake3(encoded).hexdigest() != snapshot:
        raise Corruption(f"{what} is damaged: its content does not have this id")
    return encoded
