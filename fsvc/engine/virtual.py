"""Virtual Parquet files: a footer around stored column chunks, served or copied without decoding.

In a *virtual* file chunks have addresses far apart, so that a reader that merges neighbouring reads
touches exactly the columns it wants; a *compact* file is the same without gaps, for writing to disk.
Reads are checked: an object's checksum is verified before any of its bytes is handed out.

A patched chunk has no pages of its own. In a virtual file it is thawed on first touch; in a compact one
it is encoded as the chunks that it stands on are, and the footer, which comes last, says how long it got.
"""

from __future__ import annotations

import base64
import time
import weakref
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from fsvc.engine.forks import Lock
from fsvc.engine.objects import Objects
from fsvc.engine.patched import Patched, is_patch
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.thawing import Thawed
from fsvc.engine.writing import default_threads
from fsvc.errors import Corruption, FsvcError, GoneError
from fsvc.format import footer, pages
from fsvc.format.categories import CATEGORIES_KEY, encode_categories
from fsvc.format.footer import FileSchema, LeafMeta, RowGroup
from fsvc.format.index import Entry, unpack_meta
from fsvc.format.pages import ChunkPages
from fsvc.format.stored import annotated_field

__all__ = ["Layout", "VirtualFile", "compact_parts", "layout", "remembered_layout"]

GAP = 1 << 17
"""Unused addresses between chunks of a virtual file, in bytes.

More than readers bridge to merge two reads (pyarrow 8 KiB, fsspec 64), and few enough that a reader which takes
a whole file into memory is not drowned in zeros. DuckDB bridges as much as it thinks fit, unless it is told.
"""
_CACHE_BYTES = 64 << 20
_LAYOUTS = 16
_LAYOUT_SECONDS = 600.0
"""How many layouts of a repository are remembered, and for how long: places of objects do not hold for ever."""
# How much of a file is read before it is asked for, when a file is copied.
_AHEAD_OBJECTS = 64
_AHEAD_BYTES = 64 << 20


@dataclass(frozen=True)
class Layout:
    """Where everything lies in a Parquet file: the objects by ascending offset, and the footer.

    ``starts[i]`` and ``lengths[i]`` are where the chunk of ``entries[i]`` lies, in bytes; the footer
    begins at ``footer_start``. ``fields[i]`` is the chunk's stored field, ``rows`` are those of each group;
    ``schema`` and ``metadata`` are what a footer says besides.
    """

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    entries: tuple[Entry, ...]
    footer_start: int
    footer: bytes
    fields: tuple[pa.Field, ...] = ()
    rows: tuple[int, ...] = ()
    schema: FileSchema | None = None
    metadata: tuple[tuple[bytes, bytes], ...] = ()

    def rows_of(self, i: int) -> int:
        """The rows of the chunk of ``entries[i]``."""
        return self.rows[i * len(self.rows) // len(self.entries)]

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self.footer_start + len(self.footer)

    @cached_property
    def packs(self) -> frozenset[str]:
        """The packs that the objects lie in."""
        return frozenset(entry.pack for entry in self.entries)


def layout(
    reader: SnapshotReader, columns: Sequence[str] | Sequence[int] | None = None, *, gap: int = GAP
) -> Layout:
    """Lay a snapshot's columns, by name or position, out as a Parquet file, group by group."""
    numbers = reader.column_numbers(columns)
    manifest = reader.manifest
    schema = reader.schema(numbers)
    entries = reader.entries(numbers)
    metas: dict[bytes, tuple[footer.LeafMeta, ...]] = {}
    position = len(footer.MAGIC)
    starts: list[int] = []
    lengths: list[int] = []
    placed: list[Entry] = []
    fields: list[pa.Field] = []
    groups = []
    for group, rows in enumerate(manifest.rows):
        leaves = []
        for number, column in zip(numbers, entries, strict=True):
            entry = column[group]
            fields.append(manifest.stored_fields[number])
            meta = metas.get(entry.address)
            if meta is None:
                meta = metas[entry.address] = unpack_meta(entry.meta)
            starts.append(position)
            placed.append(entry)
            at = position
            for leaf in meta:
                leaves.append((leaf, at))
                at += leaf.length
            lengths.append(at - position)
            position = at + gap
        groups.append(footer.RowGroup(rows, leaves))
    annotated = pa.schema([annotated_field(schema.field(i)) for i in range(len(schema))])
    metadata = list((schema.metadata or {}).items())
    if len(numbers):
        metadata.append((b"ARROW:schema", base64.b64encode(schema.serialize())))
    categories = reader.categories(numbers)
    if categories:
        metadata.append((CATEGORIES_KEY, encode_categories(categories)))
    shape = pages.parquet_schema(annotated)
    return Layout(
        tuple(starts),
        tuple(lengths),
        tuple(placed),
        position,
        footer.write_footer(shape, groups, metadata),
        tuple(fields),
        manifest.rows,
        shape,
        tuple(metadata),
    )


_remembered: weakref.WeakKeyDictionary[Objects, OrderedDict[str, tuple[float, Layout]]] = (
    weakref.WeakKeyDictionary()
)
_lock = Lock()


def remembered_layout(reader: SnapshotReader) -> Layout:
    """The layout of all columns of a snapshot: the one of a short time ago, where there is one."""
    name, now = reader.manifest.id, time.monotonic()
    with _lock:
        known = _remembered.setdefault(reader.objects, OrderedDict())
        made, found = known.get(name, (0.0, None))
        if (
            found is not None
            and now - made < _LAYOUT_SECONDS
            and found.packs.isdisjoint(reader.objects.dead_packs)
        ):
            known.move_to_end(name)
            return found
    found = layout(reader)
    with _lock:
        known[name] = now, found
        known.move_to_end(name)
        while len(known) > _LAYOUTS:
            known.popitem(last=False)
    return found


class VirtualFile:
    """A laid-out snapshot to read from at any place, as readers of files do. Safe for threads.

    ``failed`` is whether something of it could not be read: then it is better laid out anew.
    """

    def __init__(self, objects: Objects, where: Layout) -> None:
        self._objects = objects
        self._thawed = Thawed(objects)
        self._layout = where
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached = 0
        self._lock = Lock()
        self.size = where.size
        self.failed = False

    def read_at(self, position: int, length: int) -> bytes:
        """The bytes of a range, cut off at the end of the file; addresses that hold nothing are zero."""
        end = min(position + length, self.size)
        if end <= position:
            return b""
        where = self._layout
        i = max(0, bisect_right(where.starts, position) - 1)
        if i < len(where.starts):
            start = where.starts[i]
            if start <= position and end <= start + where.lengths[i]:
                whole = end - position == where.lengths[i]
                data = self._object(i, keep=not whole)
                return data if whole else data[position - start : end - start]
        if position >= where.footer_start:
            return where.footer[position - where.footer_start : end - where.footer_start]
        out = bytearray(end - position)
        if position < len(footer.MAGIC):
            self._place(out, position, 0, footer.MAGIC)
        while i < len(where.starts) and where.starts[i] < end:
            if where.starts[i] + where.lengths[i] > position:
                self._place(out, position, where.starts[i], self._object(i))
            i += 1
        if end > where.footer_start:
            self._place(out, position, where.footer_start, where.footer)
        return bytes(out)

    @staticmethod
    def _place(out: bytearray, position: int, start: int, data: bytes) -> None:
        """Copy what of ``data`` (at ``start`` of the file) falls into ``out`` (at ``position``)."""
        first = max(position, start)
        last = min(position + len(out), start + len(data))
        if first < last:
            out[first - position : last - position] = data[first - start : last - start]

    def _object(self, i: int, *, keep: bool = True) -> bytes:
        """The bytes of an object. Who takes all of it at once, as DuckDB does, does not ask for it again
        soon, and memory that is given back at once is cheaper than fresh memory: it is not kept.
        """
        with self._lock:
            data = self._cache.get(i)
            if data is not None:
                self._cache.move_to_end(i)
                return data
        try:
            data = _joined(self._chunk(i).pages)
        except FsvcError:
            self.failed = True
            raise
        if not keep:
            return data
        with self._lock:
            if i not in self._cache:
                self._cache[i] = data
                self._cached += len(data)
                while self._cached > _CACHE_BYTES and len(self._cache) > 1:
                    self._cached -= len(self._cache.popitem(last=False)[1])
        return data

    def _chunk(self, i: int) -> ChunkPages:
        """The pages of an object, wherever it lies by now."""
        entry = self._layout.entries[i]
        try:
            return self._pages(i, entry)
        except (Corruption, GoneError):
            self._objects.refresh()
            fresh = self._objects.find(entry.address)[0]
            if fresh is None or fresh == entry or fresh.digest != entry.digest:
                raise
        # The file is laid out already: what was written anew has to fit in.
        if is_patch(entry) or (not is_patch(fresh) and unpack_meta(fresh.meta) == unpack_meta(entry.meta)):
            return self._pages(i, fresh)
        raise Corruption(
            f"object {entry.address.hex()} is not as it was when this file was opened: it was written anew",
            hint="open it again",
        )

    def _pages(self, i: int, source: Entry) -> ChunkPages:
        entry = self._layout.entries[i]
        if is_patch(entry):
            return self._thawed.chunk(entry, self._layout.fields[i], self._layout.rows_of(i), source)
        return self._objects.read(source)


def _joined(parts: Sequence[bytes | memoryview]) -> bytes:
    """Bytes one after the other; the ones that they are a view of, if that is all of them."""
    first = parts[0] if len(parts) == 1 else b""
    whole = first.obj if isinstance(first, memoryview) else first
    if isinstance(whole, bytes) and len(parts) == 1 and len(whole) == len(first):
        return whole
    return b"".join(parts)


def compact_parts(objects: Objects, where: Layout) -> Iterator[bytes | memoryview]:
    """The bytes of a layout without gaps, in order, to be written one after the other.

    Where chunks are patched the file is another, mostly shorter one than the layout says.
    """
    patched = Patched(objects)

    def read(i: int) -> ChunkPages:
        entry = where.entries[i]
        if not is_patch(entry):
            return objects.read(entry)
        return patched.encode(entry, where.fields[i], where.rows_of(i), objects.bottom(entry))

    yield footer.MAGIC
    position = len(footer.MAGIC)
    leaves: list[list[tuple[LeafMeta, int]]] = []
    with ThreadPoolExecutor(default_threads(), thread_name_prefix="fsvc-copy") as pool:
        running: deque[tuple[Future[ChunkPages], int]] = deque()
        ahead = 0

        def settle() -> tuple[memoryview | bytes, ...]:
            nonlocal position, ahead
            chunk, length = running.popleft()
            found = chunk.result()
            ahead -= length
            leaves.append([])
            for leaf in found.leaves:
                leaves[-1].append((leaf, position))
                position += leaf.length
            return found.pages

        try:
            for i, length in enumerate(where.lengths):
                while len(running) >= _AHEAD_OBJECTS or (running and ahead + length > _AHEAD_BYTES):
                    yield from settle()
                running.append((pool.submit(read, i), length))
                ahead += length
            while running:
                yield from settle()
        finally:
            for chunk, _ in running:
                chunk.cancel()
    if where.schema is None or not any(map(is_patch, where.entries)):
        yield where.footer
        return
    wide = len(leaves) // len(where.rows)
    groups = [
        RowGroup(rows, [leaf for chunk in leaves[group * wide : (group + 1) * wide] for leaf in chunk])
        for group, rows in enumerate(where.rows)
    ]
    yield footer.write_footer(where.schema, groups, where.metadata)
