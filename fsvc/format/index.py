"""Tables of objects: what lies where. One form serves as an index file and as a pack's trailer.

All columns of the table are sorted by address and laid out as plain arrays, so that a table is used
as it lies in memory, and a sorted batch of addresses is found by binary search. The byte layout is in
docs/format.md, "Index".
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
import zstandard
from blake3 import blake3

from fsvc.errors import Corruption
from fsvc.format.canonical import ADDRESS_BYTES, DIGEST_BYTES, Identity
from fsvc.format.footer import LeafMeta, unpack_leaf

__all__ = [
    "EXTENSION",
    "FULL",
    "MAX_DEPTH",
    "MAX_EXTENSIONS",
    "PATCH",
    "ROW_MAP",
    "Entry",
    "Extension",
    "ObjectTable",
    "Patch",
    "address_words",
    "assemble",
    "below",
    "checksum",
    "depth_of",
    "merge_tables",
    "own_lengths",
    "pack_extension",
    "pack_meta",
    "pack_patch",
    "table_id",
    "unpack_extension",
    "unpack_meta",
    "unpack_patch",
    "write_table",
]

MAGIC = b"FSVCIDX1"
_COMPRESSED = struct.Struct("<8sQ")
_COMPRESSED_MAGIC = b"FSVCIDZ1"
_LEVEL = 9
_MOST_COMPRESSED = 1 << 22
"""Tables of more bytes are left as they are, to be used as they lie in a file."""
_LARGE = 1 << 16
_STRIDE = 16
_HEAD = struct.Struct("<8sIIQQ")
_CHECKSUM_BYTES = 8

FULL = 1
"""The codec of an object that holds whole Parquet pages."""

EXTENSION = 2
"""The codec of an object that holds the pages that follow another object's pages."""

PATCH = 3
"""The codec of an object that holds what differs from other objects."""

ROW_MAP = 4
"""The codec of an object that says which rows patches take from where. It is no column chunk."""

MAX_EXTENSIONS = 16
"""How many objects an extension may stand on, itself not counted."""

MAX_DEPTH = 32
"""How many objects an object may stand on, one on the other, itself not counted."""

Words = np.ndarray[Any, np.dtype[np.uint64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Positions = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored object: its identity, its place, its checksum, and its metadata (codec byte first).

    ``pack`` is a pack's id in hex; inside a pack's own trailer it is empty. ``offset`` and ``length``
    are bytes in the pack.
    """

    address: bytes
    digest: bytes
    pack: str
    offset: int
    length: int
    checksum: int
    meta: bytes


def checksum(address: bytes, digest: bytes, meta: bytes, parts: Iterable[bytes | memoryview]) -> int:
    """XXH3-64 over all that a reader relies on: identity, metadata with statistics, stored bytes."""
    state = xxhash.xxh3_64(address)
    state.update(digest)
    state.update(meta)
    for part in parts:
        state.update(part)
    return state.intdigest()


def pack_meta(leaves: Sequence[LeafMeta]) -> bytes:
    """The metadata of a full object: the codec, how many leaves, and each leaf's metadata."""
    return struct.pack("<BH", FULL, len(leaves)) + b"".join(leaf.pack() for leaf in leaves)


@dataclass(frozen=True, slots=True)
class Extension:
    """What an extension object says besides the metadata of the whole chunk.

    ``base`` is the object whose pages come first, ``depth`` how many objects there are below, and
    ``lengths`` the bytes of each leaf's own pages, which are stored one leaf after the other.
    """

    base: Identity
    depth: int
    lengths: tuple[int, ...]


def pack_extension(leaves: Sequence[LeafMeta], extension: Extension) -> bytes:
    """The metadata of an extension object: the base, own lengths, and the leaves of the whole chunk."""
    return (
        struct.pack("<BHB", EXTENSION, len(leaves), extension.depth)
        + extension.base.address
        + extension.base.digest
        + struct.pack(f"<{len(leaves)}Q", *extension.lengths)
        + b"".join(leaf.pack() for leaf in leaves)
    )


def unpack_extension(meta: bytes) -> Extension | None:
    """What an object's metadata says of the object it extends; None for a full object."""
    if not meta or meta[0] != EXTENSION:
        return None
    start = 4 + ADDRESS_BYTES + DIGEST_BYTES
    count = int.from_bytes(meta[1:3], "little")
    if len(meta) < start + 8 * count or not 1 <= meta[3] <= MAX_EXTENSIONS:
        raise Corruption("an object's metadata is damaged")
    base = Identity(meta[4 : 4 + ADDRESS_BYTES], meta[4 + ADDRESS_BYTES : start])
    return Extension(base, meta[3], struct.unpack_from(f"<{count}Q", meta, start))


@dataclass(frozen=True, slots=True)
class Patch:
    """What a patch object says besides the metadata of the thawed chunk.

    ``bases`` are the addresses of the chunks that it takes rows from, ``row_map`` that of the object
    which says how (None where all rows of the only base are taken as they are). ``depth`` is how many
    objects there are below, one on the other. ``own_bytes`` are the stored bytes of all patches from this
    one down, ``whole_bytes`` those of the objects at the bottom, which are none.
    """

    depth: int
    bases: tuple[bytes, ...]
    row_map: bytes | None
    own_bytes: int
    whole_bytes: int


_PATCH = struct.Struct("<BHBBBII")


def pack_patch(leaves: Sequence[LeafMeta], patch: Patch) -> bytes:
    """The metadata of a patch object: what it stands on, and the leaves of the thawed chunk."""
    return (
        _PATCH.pack(
            PATCH,
            len(leaves),
            patch.depth,
            len(patch.bases),
            patch.row_map is not None,
            min(patch.own_bytes, 0xFFFFFFFF),
            min(patch.whole_bytes, 0xFFFFFFFF),
        )
        + (patch.row_map or b"")
        + b"".join(patch.bases)
        + b"".join(leaf.pack() for leaf in leaves)
    )


def unpack_patch(meta: bytes) -> Patch | None:
    """What an object's metadata says of the objects that a patch stands on; None for what is no patch."""
    if not meta or meta[0] != PATCH:
        return None
    if len(meta) < _PATCH.size:
        raise Corruption("an object's metadata is damaged")
    _, _, depth, bases, mapped, own, whole = _PATCH.unpack_from(meta)
    if mapped > 1 or not bases or not 1 <= depth <= MAX_DEPTH or (bases > 1 and not mapped):
        raise Corruption("an object's metadata is damaged")
    names = meta[_PATCH.size : _patch_end(meta)]
    if len(names) != (bases + mapped) * ADDRESS_BYTES:
        raise Corruption("an object's metadata is damaged")
    found = [names[i : i + ADDRESS_BYTES] for i in range(0, len(names), ADDRESS_BYTES)]
    return Patch(depth, tuple(found[mapped:]), found[0] if mapped else None, own, whole)


def _patch_end(meta: bytes) -> int:
    """Where in a patch's metadata the leaves begin."""
    return _PATCH.size + (meta[4] + meta[5]) * ADDRESS_BYTES


def below(meta: bytes) -> tuple[bytes, ...]:
    """The addresses of the objects that an object stands on itself, row map included."""
    extension = unpack_extension(meta)
    if extension is not None:
        return (extension.base.address,)
    patch = unpack_patch(meta)
    if patch is None:
        return ()
    return patch.bases if patch.row_map is None else (patch.row_map, *patch.bases)


def depth_of(meta: bytes) -> int:
    """How many objects an object stands on, one on the other."""
    return meta[3] if meta and meta[0] in (EXTENSION, PATCH) and len(meta) > 3 else 0


def unpack_meta(meta: bytes) -> tuple[LeafMeta, ...]:
    """The leaves of an object's whole chunk; none of a row map. Raises Corruption on an unknown codec."""
    if len(meta) < 3 or meta[0] not in (FULL, EXTENSION, PATCH, ROW_MAP):
        raise Corruption(f"an object has the unknown codec {meta[0] if meta else 'nothing'}")
    count = int.from_bytes(meta[1:3], "little")
    position = 3
    if meta[0] == EXTENSION:
        position = 4 + ADDRESS_BYTES + DIGEST_BYTES + 8 * count
    elif meta[0] == PATCH:
        if len(meta) < _PATCH.size:
            raise Corruption("an object's metadata is damaged")
        position = _patch_end(meta)
    leaves = []
    for _ in range(count):
        leaf, position = unpack_leaf(meta, position)
        leaves.append(leaf)
    if position != len(meta):
        raise Corruption("an object's metadata is longer than it says")
    return tuple(leaves)


def own_lengths(meta: bytes, length: int) -> tuple[int, ...]:
    """The bytes that an object of ``length`` bytes itself stores for each leaf; one part where it has no pages."""
    if meta and meta[0] in (PATCH, ROW_MAP):
        return (length,)
    extension = unpack_extension(meta)
    return tuple(leaf.length for leaf in unpack_meta(meta)) if extension is None else extension.lengths


def address_words(addresses: bytes) -> tuple[Words, Words]:
    """Addresses, 16 bytes each, as two arrays of numbers that sort as the bytes do."""
    words = np.frombuffer(addresses, ">u8").reshape(-1, 2).astype(np.uint64)
    return words[:, 0].copy(), words[:, 1].copy()


class ObjectTable:
    """A table of objects over the bytes it was written as; nothing is copied."""

    def __init__(self, data: bytes | memoryview, *, what: str) -> None:
        view = _plain(memoryview(data), what)
        if len(view) < _HEAD.size + _CHECKSUM_BYTES:
            raise Corruption(f"{what} is truncated")
        magic, packs, _, count, heap = _HEAD.unpack_from(view)
        if magic != MAGIC:
            raise Corruption(f"{what} is not an index of this format")
        size = (
            _HEAD.size
            + packs * DIGEST_BYTES
            + count * (16 + DIGEST_BYTES + 4 + 8 * 4)
            + heap
            + _CHECKSUM_BYTES
        )
        if size != len(view):
            raise Corruption(f"{what} has {len(view)} bytes where {size} are declared")
        if xxhash.xxh3_64_intdigest(view[:-8]) != int.from_bytes(view[-8:], "little"):
            raise Corruption(f"{what} is damaged: its checksum does not match")
        position = _HEAD.size

        def take(dtype: str, items: int) -> np.ndarray[Any, Any]:
            nonlocal position
            array = np.frombuffer(view, dtype, items, position)
            position += array.nbytes
            return array

        self.what = what
        self.data = memoryview(data)
        self._pack_ids = take("u1", packs * DIGEST_BYTES).reshape(packs, DIGEST_BYTES)
        raw = self._pack_ids.tobytes()
        self.packs: list[str] = [raw[i : i + DIGEST_BYTES].hex() for i in range(0, len(raw), DIGEST_BYTES)]
        self.high: Words = take("<u8", count)
        self.low: Words = take("<u8", count)
        self._offsets = take("<u8", count)
        self._lengths = take("<u8", count)
        self._checksums = take("<u8", count)
        self._meta_ends = take("<u8", count)
        self._pack = take("<u4", count)
        self._digests = take("u1", count * DIGEST_BYTES).reshape(count, DIGEST_BYTES)
        self._heap = view[position : position + heap]
        self._meta_starts: Words | None = None
        self._fence: Words | None = None

    def part(self, keep: Flags) -> ObjectTable:
        """The same table with some of its objects only, in their order; ``data`` is that of the whole."""
        found = copy(self)
        for name in ("high", "low", "_offsets", "_lengths", "_checksums", "_pack", "_digests"):
            setattr(found, name, getattr(self, name)[keep])
        found._fence = None
        found._meta_starts, found._meta_ends = self._starts()[keep], self._meta_ends[keep]
        return found

    def _starts(self) -> Words:
        """Where the metadata of each object begins in the heap."""
        if self._meta_starts is not None:
            return self._meta_starts
        return np.concatenate([np.zeros(1, np.uint64), self._meta_ends[:-1]])[: len(self)]

    def __len__(self) -> int:
        return len(self.high)

    def find(self, high: Words, low: Words) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The positions of addresses in the table, -1 where one is not there; of several copies the first."""
        if len(self) == 0:
            return np.full(len(high), -1, np.int64)
        at = self._first_at(high)
        at[at == len(self)] = 0
        same = np.flatnonzero(self.high[at] == high)
        hit = self.low[at[same]] == low[same]
        found = np.full(len(high), -1, np.int64)
        found[same[hit]] = at[same[hit]]
        # Equal first words with other second words: rare enough to look for one by one.
        for i in same[~hit]:
            position = self._place(int(at[i]), high[i], low[i])
            if position < len(self) and self.high[position] == high[i] and self.low[position] == low[i]:
                found[i] = position
        return found

    def _place(self, first: int, high: np.uint64, low: np.uint64) -> int:
        """Where an address would stand, given where the first one of its first word does."""
        end = int(self.high.searchsorted(high, "right"))
        return first + int(self.low[first:end].searchsorted(low))

    def _first_at(self, high: Words) -> Positions:
        """Where the first of the numbers that are not less would stand; fastest for a sorted batch.

        In a large table every 16th number is looked through first, which takes little memory to walk.
        """
        count = len(self)
        if count < _LARGE:
            return np.searchsorted(self.high, high).astype(np.int64, copy=False)
        if self._fence is None:
            self._fence = self.high[::_STRIDE].copy()
        at = np.maximum(np.searchsorted(self._fence, high) - 1, 0) * _STRIDE
        step = _STRIDE // 2
        while step:
            at += step * (self.high[np.minimum(at + (step - 1), count - 1)] < high)
            step //= 2
        at += self.high[np.minimum(at, count - 1)] < high
        found: Positions = np.minimum(at, count)
        return found

    def copies(self, address: bytes) -> list[Entry]:
        """All objects of one address, those that stand on fewer others first."""
        high, low = int.from_bytes(address[:8], "big"), int.from_bytes(address[8:], "big")
        count, highs, lows = len(self.high), self.high, self.low
        position = int(highs.searchsorted(np.uint64(high)))
        # Asked of every table for every address that something stands on: mostly it is not there.
        if position == count or highs.item(position) != high:
            return []
        if position + 1 < count and highs.item(position + 1) == high:
            position = self._place(position, np.uint64(high), np.uint64(low))
        found: list[Entry] = []
        while position < count and highs.item(position) == high and lows.item(position) == low:
            found.append(self.entry(position))
            position += 1
        return found

    def covers(self, other: ObjectTable) -> bool:
        """Whether this table says all that another one says: every object, in the same place, with its checksum."""
        at = self.find(other.high, other.low)
        if (at < 0).any():
            return False
        rest = np.arange(len(other))
        while len(rest):
            rest, at = rest[differ := self._places(at) != other._places(rest)], at[differ] + 1
            # Where copies of an object lie in several places, it may be the next one.
            inside = at < len(self)
            if (
                not inside.all()
                or not ((self.high[at] == other.high[rest]) & (self.low[at] == other.low[rest])).all()
            ):
                return False
        return True

    def _places(self, positions: Positions) -> np.ndarray[Any, np.dtype[np.bytes_]]:
        """Pack, offset and checksum of some objects, as values that compare as a whole."""
        rows = np.empty((len(positions), DIGEST_BYTES + 16), "u1")
        rows[:, :DIGEST_BYTES] = self._pack_ids[self._pack[positions]]
        rows[:, DIGEST_BYTES:-8] = self._offsets[positions].astype("<u8").view("u1").reshape(-1, 8)
        rows[:, -8:] = self._checksums[positions].astype("<u8").view("u1").reshape(-1, 8)
        return rows.view(f"S{rows.shape[1]}").reshape(-1)

    def entry(self, position: int) -> Entry:
        """The object at a position of the table."""
        start = (
            int(self._meta_starts[position])
            if self._meta_starts is not None
            else (int(self._meta_ends[position - 1]) if position else 0)
        )
        end = int(self._meta_ends[position])
        if start > end or end > len(self._heap):
            raise Corruption(f"{self.what} is damaged: metadata out of bounds")
        number = int(self._pack[position])
        if self.packs and number >= len(self.packs):
            raise Corruption(f"{self.what} is damaged: it names pack {number} of {len(self.packs)}")
        return Entry(
            int(self.high[position]).to_bytes(8, "big") + int(self.low[position]).to_bytes(8, "big"),
            self._digests[position].tobytes(),
            self.packs[number] if self.packs else "",
            int(self._offsets[position]),
            int(self._lengths[position]),
            int(self._checksums[position]),
            bytes(self._heap[start:end]),
        )

    @property
    def lengths(self) -> Words:
        """The stored bytes of every object, in order of address."""
        return self._lengths

    @property
    def offsets(self) -> Words:
        """Where every object starts in its pack, in order of address."""
        return self._offsets

    @property
    def pack_numbers(self) -> np.ndarray[Any, np.dtype[np.uint32]]:
        """The position in :attr:`packs` of every object's pack, in order of address."""
        return self._pack

    @property
    def checksums(self) -> Words:
        """The checksum of every object, in order of address."""
        return self._checksums

    def metas(self) -> pa.LargeBinaryArray:
        """The metadata of all objects, in order of address. Raises Corruption where one is out of bounds."""
        starts, ends = self._starts(), self._meta_ends
        if len(self) and ((starts > ends).any() or int(ends.max()) > len(self._heap)):
            raise Corruption(f"{self.what} is damaged: metadata out of bounds")
        heap = pa.py_buffer(self._heap)
        if self._meta_starts is None:
            offsets = np.concatenate([np.zeros(1, np.int64), ends.astype(np.int64)])
            return pa.LargeBinaryArray.from_buffers(
                pa.large_binary(), len(self), [None, pa.py_buffer(offsets), heap]
            )
        edges = np.column_stack([starts, ends]).astype(np.int64).reshape(-1)
        # Every second piece between the edges is the metadata of an object; the others are left-out ones.
        pieces = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), max(0, len(edges) - 1), [None, pa.py_buffer(edges), heap]
        )
        return pieces.take(pa.array(np.arange(0, len(pieces), 2)))

    def depths(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """How many objects every object stands on, one on the other, in order of address."""
        starts, sizes = self._starts().astype(np.int64), (self._meta_ends - self._starts()).astype(np.int64)
        heap = np.frombuffer(self._heap, "u1")
        found = np.zeros(len(self), np.uint8)
        long = np.flatnonzero((sizes > 3) & (starts + sizes <= len(heap)))
        deep = long[np.isin(heap[starts[long]], (EXTENSION, PATCH))]
        found[deep] = heap[starts[deep] + 3]
        return found

    def edges(self) -> tuple[Positions, np.ndarray[Any, np.dtype[np.uint8]]]:
        """What stands on what: positions in the table, and with each the address of one object below it.

        The addresses are 16 bytes a row. Raises Corruption where metadata are damaged.
        """
        starts, ends = self._starts().astype(np.int64), self._meta_ends.astype(np.int64)
        heap = np.frombuffer(self._heap, "u1")
        if len(self) and ((starts > ends).any() or int(ends.max()) > len(heap)):
            raise Corruption(f"{self.what} is damaged: metadata out of bounds")
        long = np.flatnonzero(ends - starts > 5)
        codec = heap[starts[long]]
        extensions, patches = long[codec == EXTENSION], long[codec == PATCH]
        positions, places = [extensions], [starts[extensions] + 4]
        bases = heap[starts[patches] + 4].astype(np.int64) + heap[starts[patches] + 5]
        for i in range(int(bases.max(initial=0))):
            some = patches[bases > i]
            positions.append(some)
            places.append(starts[some] + _PATCH.size + i * ADDRESS_BYTES)
        above, place = np.concatenate(positions), np.concatenate(places)
        if (place + ADDRESS_BYTES > ends[above]).any():
            raise Corruption(f"{self.what} is damaged: metadata out of bounds")
        return above, heap[place[:, None] + np.arange(ADDRESS_BYTES)]

    def digests(self, positions: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The digests at some positions of the table, 32 bytes a row."""
        found: np.ndarray[Any, np.dtype[np.uint8]] = self._digests[positions]
        return found

    def entries(self) -> Iterable[Entry]:
        """All objects, in order of address."""
        return (self.entry(i) for i in range(len(self)))


def _plain(view: memoryview, what: str) -> memoryview:
    """The bytes of a table that may be compressed; everything in a compressed one is covered by its checksum."""
    if len(view) < _COMPRESSED.size + _CHECKSUM_BYTES or bytes(view[:8]) != _COMPRESSED_MAGIC:
        return view
    end = len(view) - _CHECKSUM_BYTES
    if xxhash.xxh3_64_intdigest(view[:end]) != int.from_bytes(view[end:], "little"):
        raise Corruption(f"{what} is damaged: its checksum does not match")
    size = _COMPRESSED.unpack_from(view)[1]
    frame = view[_COMPRESSED.size : end]
    try:
        if size > _MOST_COMPRESSED or zstandard.frame_content_size(frame) != size:
            raise Corruption(f"{what} is damaged: its sizes disagree")
        plain = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Corruption(f"{what} is damaged: {error}") from None
    return memoryview(plain)


def write_table(entries: Iterable[Entry], *, compress: bool = False) -> bytes:
    """The bytes of a table of these objects; entries without a pack make a pack's trailer.

    A table is compressed only where that saves a quarter, and never a large one.
    """
    ordered = sorted(
        entries, key=lambda entry: (entry.address, depth_of(entry.meta), entry.pack, entry.offset)
    )
    packs = sorted({entry.pack for entry in ordered if entry.pack})
    numbers = {pack: i for i, pack in enumerate(packs)}
    high, low = address_words(b"".join(entry.address for entry in ordered))
    columns = (
        high,
        low,
        np.array([e.offset for e in ordered], "<u8"),
        np.array([e.length for e in ordered], "<u8"),
        np.array([e.checksum for e in ordered], "<u8"),
        np.cumsum([len(e.meta) for e in ordered], dtype="<u8"),
        np.array([numbers.get(e.pack, 0) for e in ordered], "<u4"),
    )
    digests = b"".join(e.digest for e in ordered)
    return assemble(packs, columns, digests, b"".join(entry.meta for entry in ordered), compress)


def merge_tables(
    tables: Sequence[ObjectTable], *, without: Collection[str] = (), compress: bool = False
) -> bytes:
    """The bytes of one table of all that some index files name, each thing once.

    Objects in the packs ``without`` are left out. Copies of an object in several places all stay, those that
    stand on fewer others first. Raises Corruption where a table is damaged.
    """
    packs = sorted({pack for table in tables for pack in table.packs}.difference(without))
    numbers = {pack: i for i, pack in enumerate(packs)}
    pack = np.concatenate(
        [
            np.empty(0, np.int64),
            *(np.array([numbers.get(p, -1) for p in t.packs], np.int64)[t.pack_numbers] for t in tables),
        ]
    )
    high, low, offsets, lengths, checksums = (
        np.concatenate([np.empty(0, np.uint64), *(getattr(table, name) for table in tables)])
        for name in ("high", "low", "offsets", "lengths", "checksums")
    )
    metas = pa.concat_arrays([pa.array([], pa.large_binary()), *(table.metas() for table in tables)])
    depth = np.concatenate([np.empty(0, np.uint8), *(table.depths() for table in tables)])
    digests = np.concatenate(
        [np.empty((0, DIGEST_BYTES), np.uint8), *(t.digests(np.arange(len(t))) for t in tables)]
    )
    kept = np.flatnonzero(pack >= 0)
    order = kept[np.lexsort((offsets[kept], pack[kept], depth[kept], low[kept], high[kept]))]
    same = np.zeros(len(order), np.bool_)
    for column in (high, low, pack, offsets, lengths, checksums):
        same[1:] |= column[order[1:]] != column[order[:-1]]
    if len(order):
        same[0] = True
    order = order[same]
    metas = metas.take(pa.array(order))
    used = np.unique(pack[order])
    columns = (
        high[order],
        low[order],
        offsets[order],
        lengths[order],
        checksums[order],
        np.frombuffer(metas.buffers()[1], np.int64, len(order) + 1)[1:]
        if len(order)
        else np.empty(0, np.int64),
        np.searchsorted(used, pack[order]),
    )
    names = [packs[i] for i in used]
    heap = b"" if metas.buffers()[2] is None else bytes(metas.buffers()[2])[: int(columns[5].max(initial=0))]
    return assemble(names, columns, digests[order].tobytes(), heap, compress)


def assemble(
    packs: Sequence[str], columns: Sequence[np.ndarray[Any, Any]], digests: bytes, heap: bytes, compress: bool
) -> bytes:
    """The bytes of a table from its columns, in the order in which they lie in it.

    These are both words of the addresses, offsets, lengths, checksums, ends of the metadata in the ``heap``, and
    numbers of ``packs``; all sorted by address.
    """
    body = b"".join(
        [
            _HEAD.pack(MAGIC, len(packs), 0, len(columns[0]), len(heap)),
            *(bytes.fromhex(pack) for pack in packs),
            *(column.astype("<u8", copy=False).tobytes() for column in columns[:-1]),
            columns[-1].astype("<u4", copy=False).tobytes(),
            digests,
            heap,
        ]
    )
    table = body + xxhash.xxh3_64_digest(body)[::-1]
    if compress and len(table) <= _MOST_COMPRESSED:
        frame = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(table)
        if 4 * len(frame) < 3 * len(table):
            packed = _COMPRESSED.pack(_COMPRESSED_MAGIC, len(table)) + frame
            return packed + xxhash.xxh3_64_digest(packed)[::-1]
    return table


def table_id(data: bytes | memoryview) -> str:
    """The name of an index file: the BLAKE3 of its bytes, in hex."""
    return blake3(data).hexdigest()
