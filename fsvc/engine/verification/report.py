"""What a verification finds: what is damaged, missing or erased, whom it affects, and how much was looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from fsvc.engine.erased import Unfinished
from fsvc.engine.history import short
from fsvc.errors import FsvcError, KeyAbsent

__all__ = ["Counts", "Damage", "Found", "Notes", "Report", "Snapshots"]


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is damaged, missing, or erased on purpose.

    ``kind`` is ``object``, ``pack``, ``index``, ``manifest``, ``commit``, ``ref``, ``repository``, ``list`` or
    ``erasure``, and ``name`` the thing's own name: an id, an address, a key. ``problem`` is ``missing``, ``damaged`` or
    ``erased``;
    ``detail`` is the rest of a sentence about the thing. ``affects`` names what cannot be read, or may
    not be what it was: snapshots as ``NAME@COMMIT (refs whose newest commit holds it)``, and refs.
    """

    kind: str
    name: str
    problem: str
    detail: str
    affects: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name} is {self.problem}: {self.detail}"


@dataclass(slots=True)
class Counts:
    """How much was verified. What no ref reaches is counted, and is no damage.

    ``bytes`` are those of packs that were read; ``proven`` are chunks that a deep verification decoded. Snapshots
    that have expired are counted and not looked at.
    """

    ref_entries: int = 0
    commits: int = 0
    manifests: int = 0
    index_files: int = 0
    packs: int = 0
    objects: int = 0
    bytes: int = 0
    proven: int = 0
    expired_snapshots: int = 0
    unreferenced_commits: int = 0
    unreferenced_manifests: int = 0
    unreferenced_packs: int = 0
    unreferenced_objects: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a verification. ``erased`` is what is gone on purpose, which is no damage: one for each record.

    ``unfinished`` are purges that did not come to their end: what they were to erase may still be there.
    """

    damages: tuple[Damage, ...]
    counts: Counts
    deep: bool
    erased: tuple[Damage, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not self.damages


@dataclass(slots=True)
class Found:
    """A damage in the making. ``snapshots`` has bit i set where the snapshot number i is affected."""

    damage: Damage
    snapshots: int = 0
    refs: list[str] = field(default_factory=list)


class Notes:
    """What was found so far, and how much was looked at."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.found: list[Found] = []

    def note(self, kind: str, name: str, problem: str, detail: str) -> Found:
        """Note one more thing."""
        found = Found(Damage(kind, name, problem, detail))
        self.found.append(found)
        return found

    def failed(self, kind: str, name: str, error: FsvcError) -> Found:
        """Note that something could not be read; an absent key is something missing."""
        if isinstance(error, KeyAbsent):
            return self.note(kind, name, "missing", "there is nothing in its place")
        return self.note(kind, name, "damaged", error.message.removeprefix("it is damaged: "))


class Snapshots:
    """The snapshots that are looked at: each has a number, and the names by which users know it."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        """Snapshot ids by number, in the order of commits, older ones first where that is known."""
        self._labels: dict[str, dict[tuple[str, str], None]] = {}
        self._tips: dict[tuple[str, str], list[str]] = {}

    def add(self, snapshot: str, name: str, commit: str, *, new: bool = True) -> None:
        """Number a snapshot; under the name that it has in a commit, unless it is old there and has a name."""
        self.numbers.setdefault(snapshot, len(self.numbers))
        labels = self._labels.setdefault(snapshot, {})
        if new or not labels:
            labels[name, commit] = None

    def stands_at(self, snapshot: str, name: str, ref: str) -> None:
        """Note that a ref stands at a commit that holds a snapshot."""
        self._tips.setdefault((name, snapshot), []).append(ref)

    def named(self, snapshot: str) -> Iterator[str]:
        """A snapshot as NAME@COMMIT, and the refs that stand at a commit that holds it."""
        for name, commit in self._labels[snapshot]:
            refs = self._tips.get((name, snapshot))
            yield f"{name}@{short(commit)}" + (f" ({', '.join(refs)})" if refs else "")

    def finished(self, found: Found) -> Damage:
        """A damage with the names of all that it affects."""
        affected = [
            label
            for i, snapshot in enumerate(self.numbers)
            if found.snapshots >> i & 1
            for label in self.named(snapshot)
        ]
        affects = tuple(dict.fromkeys([*found.refs, *affected]))
        return replace(found.damage, affects=affects)
