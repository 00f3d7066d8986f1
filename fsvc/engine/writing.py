"""Tables to snapshots: cut rows into groups, identify every chunk, encode and store the new ones.

Rows stream through: a group is cut off the stream, handed to a thread that brings its columns into
stored form, hashes them, looks them up and encodes what is new in one writer call, and is forgotten.
At most a few groups are in memory at a time, however large the table is.
"""

from __future__ import annotations

import os
import struct
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsvc.engine.erased import Erasure, group_name, refused
from fsvc.engine.keys import KeyCheck, null_key
from fsvc.engine.objects import Found, Objects, PackWriter, checked
from fsvc.engine.patched import Patched, is_patch
from fsvc.engine.patching import PatchedChunk, Patcher
from fsvc.engine.progress import Progress, silent
from fsvc.errors import Corruption, GoneError, StorageError, UnsupportedData
from fsvc.format import index, pages
from fsvc.format import schema as schemas
from fsvc.format.buffers import ends
from fsvc.format.canonical import Identity, digest, identify
from fsvc.format.categories import child_path, dictionaries, dictionary_types
from fsvc.format.cutting import Cutter, counted_bytes, cut_parameters
from fsvc.format.extension import ExtendedChunk, extend
from fsvc.format.index import Entry, unpack_meta
from fsvc.format.manifest import Manifest
from fsvc.format.pages import Encoding
from fsvc.format.patch import map_identity
from fsvc.format.reserved import reserved_leaves
from fsvc.format.rowvalues import Words, row_hashes
from fsvc.format.stored import comparable, from_stored, stored_field, to_stored

__all__ = ["NewObjects", "Written", "default_threads", "write_chunks", "write_snapshot"]


_PIECE_ROWS = 1 << 17
"""How many rows of a large batch are hashed at a time, so that the first groups are soon on their way."""


def default_threads() -> int:
    """How many threads work on groups at once unless told."""
    return max(2, min(8, os.cpu_count() or 2))


@dataclass(frozen=True, slots=True)
class Written:
    """A snapshot that was written: its manifest, and how much of it was new to the store.

    ``new_bytes`` are bytes of objects, without indexes and manifest.
    """

    manifest: Manifest
    chunks: int
    new_chunks: int
    new_bytes: int


class NewObjects:
    """Where the chunks of a commit go: known ones are found, new ones put into packs, each once.

    Shared by all snapshots of one commit. Safe for threads. ``patches`` says whether chunks may be stored
    as patches: a repository of before there were any must stay readable to those who know none.
    """

    def __init__(self, objects: Objects, packs: PackWriter, *, patches: bool = False) -> None:
        self.objects = objects
        self._packs = packs
        self.patches = patches
        self._claimed: dict[bytes, bytes] = {}
        self._lock = threading.Lock()
        self._reused: dict[Entry, None] = {}
        self._standing: set[bytes] = set()
        self._reused_packs: set[str] = set()
        self._reused_index: dict[str, memoryview] = {}

    def claim(self, identities: Sequence[Identity], names: Sequence[str]) -> list[bool]:
        """For each chunk, whether the caller has to store it; nobody else will be told to.

        Raises UnsupportedData where another chunk with the same address but another digest is known.
        """
        found = self.objects.lookup(b"".join(identity.address for identity in identities))
        entries = [found[i] for i in range(len(found))]
        wanted = []
        with self._lock:
            for i, (identity, entry) in enumerate(zip(identities, entries, strict=True)):
                if entry is not None and entry.pack in self.objects.condemned_packs:
                    entry = entries[i] = None  # it is to go: stored again, it stays
                if entry is None:
                    digest = self._claimed.setdefault(identity.address, identity.digest)
                    wanted.append(digest is identity.digest)
                else:
                    digest = entry.digest
                    wanted.append(False)
                if digest != identity.digest:
                    raise UnsupportedData(
                        f"column {names[i]!r} holds a run of rows whose address {identity.address.hex()} belongs to"
                        " other data in this repository: a forged hash collision; it cannot be stored"
                    )
        self._reuse([entry for entry in entries if entry is not None], found)
        return wanted

    def _reuse(self, entries: Sequence[Entry], found: Found) -> None:
        """Remember objects that this commit stands on; ``found`` is the lookup that gave them."""
        files = found.files()
        with self._lock:
            self._reused.update(dict.fromkeys(entries))
            self._reused_index.update(files)

    def reused(self) -> tuple[set[str], dict[str, memoryview]]:
        """The packs in which the objects lie that this commit stands on and those that they stand on in turn; and
        the index files that say so.

        To be asked when everything is written. Raises Corruption where one is gone.
        """
        with self._lock:
            level, self._reused = list(self._reused), {}
        while level:
            self._reused_packs.update(entry.pack for entry in level)
            below: list[Entry] = []
            bases: list[bytes] = []
            wanted: dict[bytes, Entry] = {}
            for entry in level:
                extension = index.unpack_extension(entry.meta)
                if extension is not None:
                    bases.append(extension.base.address)
                    below.append(self.objects.base(entry, extension))
                else:
                    wanted.update(dict.fromkeys(index.below(entry.meta), entry))
            if bases:
                self._reused_index |= self.objects.lookup(b"".join(bases)).files()
            for address in self._standing & wanted.keys():
                del wanted[address]
            self._standing.update(wanted)
            if wanted:
                found = self.objects.find(b"".join(wanted))
                self._reused_index |= found.files()
                below += [
                    self.objects.standing(address, above) if (there := found[i]) is None else there
                    for i, (address, above) in enumerate(wanted.items())
                ]
            level = below
        return self._reused_packs, self._reused_index

    def add(self, identity: Identity, chunk: pages.ChunkPages) -> None:
        """Store a claimed chunk whole."""
        self._packs.add(identity, index.pack_meta(chunk.leaves), chunk.pages)

    def extend(self, identity: Identity, chunk: ExtendedChunk) -> None:
        """Store a claimed chunk as the pages that follow another one's."""
        found = self.objects.lookup(chunk.extension.base.address)
        base = found[0]
        assert base is not None
        self._reuse([base], found)
        self._packs.add(identity, index.pack_extension(chunk.leaves, chunk.extension), chunk.pages)

    def patch(self, identity: Identity, chunk: PatchedChunk) -> None:
        """Store a claimed chunk as what differs from others."""
        found = self.objects.lookup(b"".join(chunk.patch.bases))
        self._reuse(chunk.bases, found)
        self._packs.add(identity, index.pack_patch(chunk.leaves, chunk.patch), [chunk.data])

    def map_rows(self, row_map: bytes) -> None:
        """Store the row map that patches name, unless it is there."""
        identity = map_identity(row_map)
        if self.claim([identity], ["a row map"])[0]:
            self._packs.add(identity, struct.pack("<BH", index.ROW_MAP, 0), [row_map])

    def fetch(self, identity: Identity, field: pa.Field, rows: int) -> pa.Array:
        """Read a chunk back in stored form, new or old."""
        entry = self._packs.entry(identity.address) or self.objects.find(identity.address)[0]
        assert entry is not None
        return Patched(self).array(entry, field, rows)

    def read(self, entry: Entry) -> pages.ChunkPages:
        """Read the pages of an object, new or old."""
        return self.objects.complete(entry, checked(entry, self.stored(entry)))

    def stored(self, entry: Entry) -> bytes:
        """An object's own bytes, not verified yet."""
        return self.objects.stored(entry) if entry.pack else self._packs.stored(entry)

    def standing(self, address: bytes, above: Entry) -> Entry:
        """The object of an address that a patch stands on, new or old."""
        return self._packs.entry(address) or self.objects.standing(address, above)

    def known(self, identities: Sequence[Identity]) -> list[Entry | None]:
        """The stored object of each identity, where there is one."""
        if not identities:
            return []
        found = self.objects.lookup(b"".join(identity.address for identity in identities))
        entries = [found[i] for i in range(len(found))]
        leaving = self.objects.condemned_packs
        return [None if entry is None or entry.pack in leaving else entry for entry in entries]

    @property
    def bytes_added(self) -> int:
        """Bytes of objects that were new so far."""
        return self._packs.bytes_added


class _Encodings:
    """How each column is encoded: as the parent's is, else the best on the first chunk that is new.

    The level of compression is tried on the first new chunk in any case.
    """

    def __init__(self, fields: Sequence[pa.Field], hints: dict[int, Encoding], threads: int) -> None:
        self._fields = fields
        self._threads = threads
        self._encodings = dict(hints)
        self._levels: dict[int, int] = {}
        self._lock = threading.Lock()

    def of(self, columns: Sequence[int], arrays: Sequence[pa.Array]) -> tuple[list[Encoding], list[int]]:
        """The encodings and levels of some columns, of which these are new chunks."""
        with self._lock:
            fresh = [(i, array) for i, array in zip(columns, arrays, strict=True) if i not in self._levels]
            if fresh:
                # Every thread that has a group waits for this, so the trials use all of them.
                parts = [fresh[k :: self._threads] for k in range(min(self._threads, len(fresh)))]
                with ThreadPoolExecutor(len(parts), thread_name_prefix="fsvc-trial") as pool:
                    for found in pool.map(self._tried, parts):
                        for i, encoding, level in found:
                            self._encodings[i], self._levels[i] = encoding, level
            return [self._encodings[i] for i in columns], [self._levels[i] for i in columns]

    def of_rest(self, column: int) -> Encoding:
        """What pages that follow others are encoded with: a chunk has one dictionary, at its start."""
        with self._lock:
            known = self._encodings.get(column, Encoding.PLAIN)
        return Encoding.PLAIN if known is Encoding.DICTIONARY else known

    def _tried(self, given: Sequence[tuple[int, pa.Array]]) -> list[tuple[int, Encoding, int]]:
        """The best encoding and level for each column, by a new chunk of it."""
        unknown = [(i, array) for i, array in given if i not in self._encodings]
        chosen = pages.choose_encodings(
            [array for _, array in unknown], [self._fields[i] for i, _ in unknown]
        )
        encodings = self._encodings | {i: found for (i, _), found in zip(unknown, chosen, strict=True)}
        numbers = [i for i, _ in given]
        levels = pages.choose_levels(
            [array for _, array in given], [self._fields[i] for i in numbers], [encodings[i] for i in numbers]
        )
        return [(i, encodings[i], level) for i, level in zip(numbers, levels, strict=True)]


class _CategoryList:
    """The categories of one dictionary type, over all batches: in order of appearance, none twice."""

    def __init__(self, kind: pa.DictionaryType, path: str) -> None:
        self.values = pa.array([], kind.value_type)
        self._kind = kind
        self._column = path
        self._seen: pa.Array | None = None

    def add(self, values: pa.Array) -> None:
        # By their bits: to Arrow 0.0 and -0.0 are equal.
        bits = comparable(values)
        if self._seen is not None and bits.equals(self._seen):
            return
        if bits.null_count:
            raise UnsupportedData(
                f"column {self._column!r} has a null among its categories",
                hint="make the value null, not the category",
            )
        if len(pc.unique(bits)) != len(bits):
            raise UnsupportedData(f"column {self._column!r} has the same category twice")
        self._seen = bits
        if len(self.values) == 0:
            self.values = values
            return
        fresh = pc.indices_nonzero(pc.invert(pc.is_in(bits, value_set=comparable(self.values))))
        if len(fresh):
            merged = pa.concat_arrays([to_stored(self.values, ""), to_stored(values, "").take(fresh)])
            self.values = from_stored(merged, self._kind.value_type, {}, "")
        width = self._kind.index_type.bit_width - pa.types.is_signed_integer(self._kind.index_type)
        if len(self.values) > 1 << width:
            raise UnsupportedData(
                f"column {self._column!r} has more categories in all than {self._kind.index_type} can number",
                hint="use wider indices",
            )


class _Group:
    """A row group that is being cut off the stream: slices of batches, and the rows' key hashes."""

    def __init__(self, number: int, first_row: int, columns: int) -> None:
        self.number = number
        self.first_row = first_row
        self.rows = 0
        self.columns: list[list[pa.Array]] = [[] for _ in range(columns)]
        self._hashes: list[Words] = []

    def take(self, columns: Sequence[pa.Array], start: int, stop: int) -> None:
        """Add the rows from ``start`` to ``stop`` of a batch."""
        if start == stop:
            return
        for pieces, column in zip(self.columns, columns, strict=True):
            pieces.append(column.slice(start, stop - start))
        self.rows += stop - start

    def hash(self, hashes: Words | None, start: int, stop: int) -> None:
        """Add the hashes of the next rows, from ``start`` to ``stop`` of a piece, where they are kept."""
        if hashes is not None and start < stop:
            self._hashes.append(hashes[start:stop])

    @property
    def hashes(self) -> Words | None:
        """The hashes of the rows, where they were kept."""
        return np.concatenate(self._hashes) if self._hashes else None


class _Grouper:
    """Cuts a stream of record batches into groups, and collects categories on the way."""

    def __init__(self, schema: pa.Schema, key: tuple[str, ...]) -> None:
        self.cut = cut_parameters(schema, key)
        self.categories = {path: _CategoryList(kind, path) for path, kind in dictionary_types(schema).items()}
        self._with_categories = [i for i, field in enumerate(schema) if dictionary_types(pa.schema([field]))]
        self._schema = schema
        self._cut_columns = [schema.get_field_index(name) for name in self.cut.columns]
        self._keep_hashes = bool(key)

    def groups(self, batches: Iterable[pa.RecordBatch]) -> Iterator[_Group]:
        """The groups of a stream, each as soon as it is complete."""
        cutter = Cutter(self.cut)
        group = _Group(0, 0, len(self._schema))
        position = 0
        for batch in batches:
            columns = batch.columns
            self._collect_categories(columns)
            start = 0  # the first row of this batch that the open group has not taken yet
            for first in range(0, batch.num_rows, _PIECE_ROWS):
                piece = [column.slice(first, _PIECE_ROWS) for column in columns]
                rows = len(piece[0]) if piece else min(_PIECE_ROWS, batch.num_rows - first)
                hashes = row_hashes([piece[i] for i in self._cut_columns]) if self._cut_columns else None
                kept = hashes if self._keep_hashes else None
                hashed = 0
                for end in cutter.find(rows, hashes, counted_bytes(piece)):
                    group.hash(kept, hashed, end - position - first)
                    group.take(columns, start, end - position)
                    hashed, start = end - position - first, end - position
                    yield group
                    group = _Group(group.number + 1, end, len(self._schema))
                group.hash(kept, hashed, rows)
            group.take(columns, start, batch.num_rows)
            position += batch.num_rows
        if group.rows:
            yield group

    def _collect_categories(self, columns: Sequence[pa.Array]) -> None:
        for i in self._with_categories:
            for path, values in dictionaries(columns[i], child_path("", self._schema.field(i).name)):
                self.categories[path].add(values)


def write_snapshot(
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    key: Sequence[str] = (),
    sink: NewObjects | None = None,
    parent: Manifest | None = None,
    threads: int | None = None,
    progress: Progress = silent,
    total_rows: int | None = None,
    name: str = "table",
) -> Written:
    """Write a table as a snapshot: its chunks to ``sink``, its manifest to the caller.

    Without a sink only the identity is computed. ``parent`` is the feature set's snapshot in the
    parent commit: its keys need no second check, its encodings are kept. What comes out is a pure
    function of the table and the key.

    Raises UnsupportedData for what cannot be kept, KeyViolation for a key that is none, ErasedError for rows that the
    sink's repository has erased.
    """
    batches = _of_schema(batches, schema)
    schema = schemas.normalise(schema)
    schemas.check(schema)
    key = tuple(key)
    grouper = _Grouper(schema, key)
    workers = threads or default_threads()
    job = _Job(schema, key, grouper.cut.columns, sink, parent, workers, name)
    before = sink.bytes_added if sink is not None else 0
    done = 0
    results: list[_GroupResult] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="fsvc-group") as pool:
        running: deque[Future[_GroupResult]] = deque()

        def settle() -> None:
            nonlocal done
            result = running.popleft().result()
            job.check_key(result)
            # The keys are not kept: they may hold the whole batches that they came in.
            results.append(replace(result, hashes=None, key_columns=()))
            done += result.rows
            progress(name, done, total_rows)

        try:
            for group in grouper.groups(batches):
                while len(running) > workers:
                    settle()
                running.append(pool.submit(job.run, group))
            while running:
                settle()
        except BaseException:
            for future in running:
                future.cancel()
            raise
    categories = [job.store_categories(found.values, path) for path, found in grouper.categories.items()]
    chunks = np.frombuffer(
        b"".join(
            result.identities[column].address + result.identities[column].digest
            for column in range(len(schema))
            for result in results
        ),
        np.uint8,
    ).reshape(len(schema), len(results), 48)
    manifest = Manifest(
        schema, key, grouper.cut, tuple(result.rows for result in results), chunks, tuple(categories)
    )
    job.finish_key_check(manifest)
    return Written(
        manifest,
        chunks=chunks.shape[0] * chunks.shape[1],
        new_chunks=sum(result.new for result in results),
        new_bytes=sink.bytes_added - before if sink is not None else 0,
    )


def write_chunks(
    manifest: Manifest,
    changed: Mapping[int, Sequence[int]],
    make: Callable[[int, int], pa.Array],
    *,
    sink: NewObjects | None,
    threads: int | None = None,
    progress: Progress = silent,
    name: str = "table",
) -> Written:
    """Write a snapshot that is another one but for some chunks: same schema, same rows, same key, same cuts.

    ``changed`` lists, by group, the columns whose chunks are others; ``make(column, group)`` gives their
    cells in stored form. The caller answers for it that the cuts stay: key columns and columns of varying
    width may not be among them. Nothing else is read. What comes out is what :func:`write_snapshot` gives.
    """
    job = _Job(
        manifest.schema, manifest.key, manifest.cut.columns, sink, manifest, threads or default_threads()
    )
    chunks = manifest.chunks.copy()
    before = sink.bytes_added if sink is not None else 0
    groups = [group for group, columns in changed.items() if columns]

    def run(group: int) -> int:
        columns = list(changed[group])
        arrays = [make(column, group) for column in columns]
        identities, new = job.replaced(group, columns, arrays)
        for column, identity in zip(columns, identities, strict=True):
            chunks[column, group] = np.frombuffer(identity.address + identity.digest, np.uint8)
        return new

    new = 0
    with ThreadPoolExecutor(threads or default_threads(), thread_name_prefix="fsvc-group") as pool:
        for done, count in enumerate(pool.map(run, groups)):
            new += count
            progress(name, done + 1, len(groups))
    return Written(
        replace(manifest, chunks=chunks),
        chunks=chunks.shape[0] * chunks.shape[1],
        new_chunks=new,
        new_bytes=sink.bytes_added - before if sink is not None else 0,
    )


def _of_schema(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The batches, checked: nothing is cast in silence.

    Raises UnsupportedData for a batch of other columns than the schema's.
    """
    for batch in batches:
        if not batch.schema.equals(schema):
            found, wanted = schemas.normalise(batch.schema), schemas.normalise(schema)
            if found.names != wanted.names:
                raise UnsupportedData(
                    f"a batch of the source has the columns {found.names}, its schema {wanted.names}"
                )
            for theirs, ours in zip(found, wanted, strict=True):
                if theirs.type != ours.type:
                    raise UnsupportedData(
                        f"column {ours.name!r} is {theirs.type} in a batch of the source, {ours.type} in its schema"
                    )
        yield batch


@dataclass(frozen=True, slots=True)
class _GroupResult:
    number: int
    rows: int
    identities: list[Identity]
    new: int
    hashes: Words | None
    key_columns: tuple[pa.Array, ...]


class _Spill:
    """The key columns of each group in a temporary file without a name, as an Arrow stream apiece."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="fsvc-")  # noqa: SIM115 - lives as long as the check
        self._starts: list[int] = []

    def add(self, columns: Sequence[pa.Array]) -> None:
        self._starts.append(self._file.seek(0, os.SEEK_END))
        batch = pa.RecordBatch.from_arrays(list(columns), [f"c{i}" for i in range(len(columns))])
        with pa.ipc.new_stream(pa.PythonFile(self._file, "w"), batch.schema) as writer:
            writer.write_batch(batch)

    def read(self, group: int) -> list[pa.Array]:
        self._file.seek(self._starts[group])
        with pa.ipc.open_stream(pa.PythonFile(self._file, "r")) as reader:
            columns: list[pa.Array] = reader.read_next_batch().columns
        return columns


class _Job:
    """What the groups of one snapshot share."""

    def __init__(
        self,
        schema: pa.Schema,
        key: tuple[str, ...],
        cut_columns: Sequence[str],
        sink: NewObjects | None,
        parent: Manifest | None,
        threads: int,
        name: str = "table",
    ) -> None:
        self._schema = schema
        self._name = name
        self._erased: Mapping[bytes, Erasure] = {}
        if sink is not None:
            sink.objects.erased.refresh()
            self._erased = sink.objects.erased.groups
        self._fields = [stored_field(field) for field in schema]
        self._sink = sink
        self._parent = parent
        self._key = key
        self._key_columns = [schema.get_field_index(column) for column in key]
        self._encodings = _Encodings(self._fields, self._hints(parent), threads)
        self._check = KeyCheck(key) if key else None
        self._known_keys = self._parent_keys(parent)
        self._known_chunks = self._parent_chunks(parent)
        self._patcher = (
            Patcher(sink, parent, self._fields, [schema.get_field_index(name) for name in cut_columns])
            if sink is not None and parent is not None and sink.patches
            else None
        )
        # Without a sink the key columns cannot be read back, so they are kept aside for the check.
        self._spilled = _Spill() if key and sink is None else None

    def _hints(self, parent: Manifest | None) -> dict[int, Encoding]:
        """The encodings that the parent's columns of the same name were stored with."""
        hints: dict[int, Encoding] = {}
        if self._sink is None or parent is None or not parent.rows:
            return hints
        same = {
            i: theirs
            for i, field in enumerate(self._schema)
            if (theirs := parent.schema.get_field_index(field.name)) >= 0
            and parent.schema.field(theirs).type == field.type
        }
        found = self._sink.known([parent.identity(theirs, 0) for theirs in same.values()])
        for i, entry in zip(same, found, strict=True):
            if entry is not None:
                hints[i] = pages.remembered_encoding(unpack_meta(self._sink.objects.bottom(entry).meta))
        return hints

    def _parent_keys(self, parent: Manifest | None) -> set[bytes]:
        """The key chunks of the parent's groups: rows of one such group are known to be unique."""
        if parent is None or not self._key or parent.key != self._key:
            return set()
        columns = [parent.schema.get_field_index(column) for column in self._key]
        if any(
            parent.schema.field(theirs).type != self._schema.field(ours).type
            for theirs, ours in zip(columns, self._key_columns, strict=True)
        ):
            return set()
        return {
            b"".join(parent.chunks[column, group].tobytes() for column in columns)
            for group in range(len(parent.rows))
        }

    def _parent_chunks(self, parent: Manifest | None) -> dict[str, frozenset[bytes]]:
        """The digests of the parent's chunks, by column, where name and type are the same."""
        found: dict[str, frozenset[bytes]] = {}
        for column, field in enumerate(parent.schema if parent is not None else ()):
            ours = self._schema.get_field_index(field.name)
            if parent is not None and ours >= 0 and self._schema.field(ours).type == field.type:
                digests = (parent.identity(column, group).digest for group in range(len(parent.rows)))
                found[field.name] = frozenset(digests)
        return found

    def run(self, group: _Group) -> _GroupResult:
        arrays = []
        for pieces, field, kept in zip(group.columns, self._schema, self._fields, strict=True):
            parts = [to_stored(piece, field.name) for piece in pieces]
            array = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
            if array.type != kept.type:
                array = array.cast(kept.type)
            arrays.append(array)
        key_columns = tuple(arrays[i] for i in self._key_columns)
        if key_columns:
            null_key(key_columns, self._key, group.first_row)
        identities = [identify(array, field) for array, field in zip(arrays, self._fields, strict=True)]
        for array, identity, field in zip(arrays, identities, self._schema, strict=True):
            # A chunk that is stored already may have been stored for a column of bytes.
            if identity.digest not in self._known_chunks.get(field.name, ()):
                check_text(array, field.name)
        self._refuse_erased(identities)
        new = self._store(group, arrays, identities) if self._sink is not None else 0
        return _GroupResult(group.number, group.rows, identities, new, group.hashes, key_columns)

    def _refuse_erased(self, identities: Sequence[Identity]) -> None:
        """Raise ErasedError for a group that was erased, before anything of it is on the disk again."""
        if self._erased:
            addresses = b"".join(
                identities[column].address for column in self._key_columns or range(len(identities))
            )
            record = self._erased.get(group_name(addresses))
            if record is not None:
                raise refused(record, self._name)

    def _store(self, group: _Group, arrays: list[pa.Array], identities: list[Identity]) -> int:
        """Store the chunks of a group that are new; how many those are."""
        assert self._sink is not None
        wanted = self._sink.claim(identities, self._schema.names)
        columns = [i for i, want in enumerate(wanted) if want]
        bases = self._extendable(group.number, columns, arrays)
        extended = self._extended(group.number, bases, arrays, identities)
        for i, extension in extended.items():
            self._sink.extend(identities[i], extension)
        patched = self._patched(group, [i for i in columns if i not in bases], arrays, identities)
        for i, patch in patched.items():
            self._sink.patch(identities[i], patch)
        whole = [i for i in columns if i not in patched and i not in extended]
        self._store_whole(whole, [arrays[i] for i in whole], [identities[i] for i in whole])
        return len(columns)

    def _store_whole(
        self, columns: Sequence[int], arrays: Sequence[pa.Array], identities: Sequence[Identity]
    ) -> None:
        assert self._sink is not None
        encodings, levels = self._encodings.of(columns, arrays)
        chunks = pages.encode(arrays, [self._fields[i] for i in columns], encodings, levels)
        for identity, chunk in zip(identities, chunks, strict=True):
            self._sink.add(identity, chunk)

    def replaced(
        self, group: int, columns: Sequence[int], arrays: Sequence[pa.Array]
    ) -> tuple[list[Identity], int]:
        """Identify and store chunks that take the place of the parent's; their identities, and how many were new."""
        fields = [self._fields[column] for column in columns]
        identities = [identify(array, field) for array, field in zip(arrays, fields, strict=True)]
        if self._sink is None:
            return identities, 0
        wanted = self._sink.claim(identities, [field.name for field in fields])
        fresh = {
            column: (array, identity)
            for column, array, identity, want in zip(columns, arrays, identities, wanted, strict=True)
            if want
        }
        patched = {} if self._patcher is None else self._patcher.in_place(group, fresh)
        for i, patch in patched.items():
            self._sink.patch(fresh[i][1], patch)
        whole = [i for i in fresh if i not in patched]
        self._store_whole(whole, [fresh[i][0] for i in whole], [fresh[i][1] for i in whole])
        return identities, len(fresh)

    def _patched(
        self, group: _Group, columns: Sequence[int], arrays: list[pa.Array], identities: list[Identity]
    ) -> dict[int, PatchedChunk]:
        """The new chunks, by column, that are worth a patch; the row map that they name is stored."""
        if self._patcher is None or self._sink is None:
            return {}
        known = self._patcher.note(group.first_row, group.rows, identities)
        patched, row_map = self._patcher.patches(group.first_row, arrays, identities, columns, known)
        if row_map is not None:
            self._sink.map_rows(row_map)
        return patched

    def _extendable(self, group: int, columns: Sequence[int], arrays: Sequence[pa.Array]) -> dict[int, Entry]:
        """The new chunks, by column, that the parent's last group begins; the stored object that does."""
        parent, sink = self._parent, self._sink
        if parent is None or sink is None or not columns or group != len(parent.rows) - 1:
            return {}
        shared = parent.rows[group]
        if shared >= len(arrays[columns[0]]):
            return {}
        theirs = {i: parent.schema.get_field_index(self._fields[i].name) for i in columns}
        there = [i for i in columns if theirs[i] >= 0]
        shorter = [parent.identity(theirs[i], group) for i in there]
        return {
            i: entry
            for i, base, entry in zip(there, shorter, sink.known(shorter), strict=True)
            if entry is not None
            and not is_patch(entry)
            and identify(arrays[i].slice(0, shared), self._fields[i]) == base
        }

    def _extended(
        self,
        group: int,
        bases: dict[int, Entry],
        arrays: Sequence[pa.Array],
        identities: Sequence[Identity],
    ) -> dict[int, ExtendedChunk]:
        """The new chunks, by column, that are stored as rows appended to what the parent has."""
        if not bases or self._parent is None:
            return {}
        shared = self._parent.rows[group]
        numbers = list(bases)
        fields = [self._fields[i] for i in numbers]
        rests = pages.encode(
            [arrays[i].slice(shared) for i in numbers], fields, [self._encodings.of_rest(i) for i in numbers]
        )
        wholes = reserved_leaves([arrays[i] for i in numbers], fields)
        found: dict[int, ExtendedChunk] = {}
        for i, rest, whole in zip(numbers, rests, wholes, strict=True):
            entry = bases[i]
            below = index.unpack_extension(entry.meta)
            chunk = extend(
                Identity(entry.address, entry.digest),
                unpack_meta(entry.meta),
                0 if below is None else below.depth,
                rest,
                whole,
            )
            if chunk is not None:
                found[i] = chunk
        return self._reading_back(found, bases, len(arrays[numbers[0]]), identities)

    def _reading_back(
        self,
        chunks: dict[int, ExtendedChunk],
        bases: Mapping[int, Entry],
        rows: int,
        identities: Sequence[Identity],
    ) -> dict[int, ExtendedChunk]:
        """The extensions that decode to the very rows that they stand for; the others are not used."""
        assert self._sink is not None
        fields = [pa.field(f"c{i}", self._fields[i].type, self._fields[i].nullable) for i in chunks]
        footer = pages.parquet_schema(pa.schema(fields))
        try:
            wholes = [chunk.after(self._sink.read(bases[i])) for i, chunk in chunks.items()]
            decoded = pages.decode(footer, [(rows, wholes)], fields)[0]
        except (Corruption, GoneError, StorageError, pa.ArrowException, OSError):
            return {}  # an old object that is damaged must not stand in the way of new data
        return {
            i: chunk
            for (i, chunk), array in zip(chunks.items(), decoded, strict=True)
            if digest(array, self._fields[i]) == identities[i].digest
        }

    def check_key(self, result: _GroupResult) -> None:
        """Take a group's key hashes in. A group that the parent has too is known, the first time."""
        if self._check is None:
            return
        name = b"".join(result.identities[i].address + result.identities[i].digest for i in self._key_columns)
        known = name in self._known_keys
        self._known_keys.discard(name)
        assert result.hashes is not None
        self._check.add(result.hashes, result.number, known)
        if self._spilled is not None:
            self._spilled.add(result.key_columns)

    def finish_key_check(self, manifest: Manifest) -> None:
        if self._check is None:
            return
        fields = [self._fields[i] for i in self._key_columns]

        def fetch(group: int) -> list[pa.Array]:
            if self._spilled is not None:
                return self._spilled.read(group)
            assert self._sink is not None
            stored = [
                self._sink.fetch(manifest.identity(i, group), field, manifest.rows[group])
                for i, field in zip(self._key_columns, fields, strict=True)
            ]
            return [
                from_stored(array, _plain(self._schema.field(i).type), {}, "")
                for array, i in zip(stored, self._key_columns, strict=True)
            ]

        self._check.finish(fetch)

    def store_categories(self, values: pa.Array, path: str) -> Identity:
        """Store the categories of a dictionary type as one object."""
        stored = to_stored(values, path)
        kept = pa.field(path, stored.type, False)
        check_text(stored, path)
        identity = identify(stored, kept)
        if self._sink is not None and self._sink.claim([identity], [path])[0]:
            self._sink.add(identity, pages.encode([stored], [kept], [Encoding.PLAIN])[0])
        return identity


def _plain(t: pa.DataType) -> pa.DataType:
    """A key column's type with dictionaries and extensions taken off."""
    if isinstance(t, pa.BaseExtensionType):
        return _plain(t.storage_type)
    return _plain(t.value_type) if pa.types.is_dictionary(t) else t


def check_text(array: pa.Array, column: str) -> None:
    """Raise UnsupportedData where a text column holds bytes that are not UTF-8: no reader could show them."""
    for leaf in pages.leaf_arrays(array):
        if (pa.types.is_string(leaf.type) or pa.types.is_large_string(leaf.type)) and not _is_ascii(leaf):
            binary = pa.binary() if pa.types.is_string(leaf.type) else pa.large_binary()
            try:
                leaf.view(binary).cast(leaf.type)
            except pa.ArrowInvalid:
                raise UnsupportedData(
                    f"column {column!r} is text but holds bytes that are not UTF-8",
                    hint="cast it to binary, or decode it with its right encoding",
                ) from None


def _is_ascii(text: pa.Array) -> bool:
    """Whether no byte of a text column is above 127, those of null slots included: quicker to see than UTF-8."""
    offsets = ends(text)
    first, last = int(offsets[0]), int(offsets[-1])
    return first == last or int(np.frombuffer(text.buffers()[2], np.int8, last - first, first).min()) >= 0
