"""``fsvc://NAME@REVISION``: snapshots as files, for every reader that knows fsspec.

pandas, pyarrow, polars and DuckDB read the virtual Parquet file at such an address as an ordinary one.
The repository is the ``repository`` option (a location, or an opened store), else the one of the
current directory; an address that names a whole commit id is also found in any repository that the
process has open, because the id proves itself.

Use the ``to_`` methods of a snapshot instead where all the data is wanted in memory: they are faster,
and prove what they give.
"""

from __future__ import annotations

import io
import threading
import weakref
from dataclasses import dataclass
from datetime import datetime
from glob import has_magic
from typing import Any

from fsspec.spec import AbstractFileSystem

from fsvc.engine import history, locate, reads
from fsvc.engine.forks import Lock
from fsvc.engine.reading import SnapshotReader
from fsvc.engine.store import Store, opened
from fsvc.engine.virtual import VirtualFile, remembered_layout
from fsvc.errors import NotFound
from fsvc.format.commit import CommitRecord, is_id
from fsvc.format.revision import Revision, parse_address

__all__ = ["Served", "SnapshotFile", "SnapshotFileSystem"]

_SUFFIX = ".parquet"


@dataclass(eq=False)
class Served:
    """What a path names while somebody has it open: the file's content, and the commit's time.

    ``origin`` is the commit and the feature set, where opening the path counts as reading them.
    """

    content: VirtualFile
    modified: datetime
    origin: tuple[Store, CommitRecord, str] | None = None


class SnapshotFile(io.RawIOBase):
    """A virtual Parquet file, opened for reading. ``size`` is in bytes of addresses, most of them unused.

    Threads may share it, as DuckDB's do, which seek and then read with others in between: each has an offset of its
    own, and begins where the last one of all has been.
    """

    def __init__(self, path: str, served: Served) -> None:
        super().__init__()
        self.path = path
        self.name = path
        self.mode = "rb"
        self.size = served.content.size
        self._served = served  # held for as long as the file is open: see SnapshotFileSystem
        self._content = served.content
        self._position = 0
        self._own = threading.local()

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The offset of this thread's next read."""
        return getattr(self._own, "position", self._position)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the offset of this thread's next read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("a file has no negative offsets")
        self._position = self._own.position = base + offset
        return base + offset

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to ``size`` bytes, all that are left for a negative one."""
        if self.closed:
            raise ValueError("the file is closed")
        position = self.tell()
        data = self._content.read_at(position, self.size - position if size is None or size < 0 else size)
        self._position = self._own.position = position + len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; gives how many bytes."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


class SnapshotFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The fsspec filesystem of protocol ``fsvc``. Read-only. Safe for threads.

    ``branch`` is meant where an address names no revision: the default branch unless told.
    """

    protocol = "fsvc"
    cachable = False
    root_marker = ""

    def __init__(self, repository: Any = None, branch: str = history.DEFAULT_BRANCH, **options: Any) -> None:
        super().__init__(**options)
        self._given = repository
        self._branch = branch
        self._lock = Lock()
        self._store: Store | None = None
        # A file that somebody holds open must not change when it is opened again: DuckDB opens one
        # file several times in a query. So while a path is open, what it named stays what it names.
        self._open_files: weakref.WeakValueDictionary[str, Served] = weakref.WeakValueDictionary()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return str(path).removeprefix("fsvc://").strip("/")

    def _home(self) -> Store:
        with self._lock:
            if self._store is None:
                given = self._given
                given = getattr(given, "store", given)
                self._store = given if isinstance(given, Store) else locate.open_store(given)
            return self._store

    def _resolve(self, path: str) -> tuple[Store, str, CommitRecord]:
        """The store, the feature set and the commit of a path."""
        name, revision = parse_address(path.removesuffix(_SUFFIX))
        if revision is not None and is_id(revision.base) and not revision.steps and self._given is None:
            for store in [*opened]:
                if store.has_commit(revision.base):
                    return store, name, store.commit(revision.base)
        store = self._home()
        found = history.resolve(store, revision or Revision(), branch=self._branch, feature_set=name)
        return store, name, found.record

    def _resolved(self, path: str) -> tuple[Store, str, CommitRecord]:
        """As :meth:`_resolve`; raises FileNotFoundError, also where the commit lacks the feature set."""
        try:
            store, name, record = self._resolve(path)
            if name not in record.feature_sets:
                raise history.unknown_feature_set(store, name, record.id)
        except NotFound as error:
            raise FileNotFoundError(f"{error}" + (f" ({error.hint})" if error.hint else "")) from error
        return store, name, record

    def _serve(self, path: str) -> Served:
        with self._lock:
            held = self._open_files.get(path)
        if held is not None and not held.content.failed:
            return held
        store, name, record = self._resolved(path)
        # A reader asks for a file's size, and opens it, many times: its layout is made once.
        reader = SnapshotReader(store.objects, store.manifest(record.feature_sets[name].snapshot))
        content = VirtualFile(store.objects, remembered_layout(reader))
        served = Served(content, datetime.fromisoformat(record.time), (store, record, name))
        with self._lock:
            held = self._open_files.setdefault(path, served)
            if held.content.failed:
                held = self._open_files[path] = served
            return held

    def _open(self, path: str, mode: str = "rb", **_: Any) -> SnapshotFile:
        if mode not in ("rb", "r"):
            raise OSError("snapshots are read-only")
        path = self._strip_protocol(path)
        served = self._serve(path)
        if served.origin is not None:
            reads.reading(*served.origin, None)
        return SnapshotFile(path, served)

    def open(self, path: str, mode: str = "rb", **options: Any) -> SnapshotFile:
        """Open a snapshot for reading."""
        return self._open(path, mode, **options)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, type and size of a snapshot's file; a feature set alone is a file too."""
        path = self._strip_protocol(path)
        if path == "":
            return {"name": "", "type": "directory", "size": 0}
        return {"name": path, "type": "file", "size": self._serve(path).content.size}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The feature sets at the head of the branch; for a snapshot, itself."""
        path = self._strip_protocol(path)
        if path:
            info = self.info(path)
            return [info] if detail else [info["name"]]
        store = self._home()
        commit = history.head(store, self._branch)
        names = sorted(store.commit(commit).feature_sets) if commit else []
        return [self.info(name) for name in names] if detail else names

    def glob(self, path: str, **options: Any) -> Any:
        """The files that a pattern matches; of a path that may move, the one that names its commit.

        DuckDB asks this first, and then opens what it is given several times in a query, with nothing
        open in between: a commit that comes meanwhile must not change what it reads.
        """
        path = self._strip_protocol(path)
        if path and not has_magic(path):
            try:
                path = self._fixed(path)
            except FileNotFoundError:
                return {} if options.get("detail") else []
        return super().glob(path, **options)

    def _fixed(self, path: str) -> str:
        """A path of what a path names now, which will always name that."""
        _, name, record = self._resolved(path)
        return f"{name}@{record.id}{_SUFFIX}"

    def modified(self, path: str) -> datetime:
        """The time of the commit that the path names: it changes when a moving path does."""
        return self._serve(self._strip_protocol(path)).modified

    created = modified
