"""Refs: branches, tags and pins, each an append-only log of entries in the store.

``refs/<kind>/<escaped name>/<sequence>.json`` holds one entry; the highest sequence says where
the ref stands. To move a ref is to create the next entry, which put-if-absent lets exactly one
writer do. Entries are never deleted and sequences never start again, so that a slow writer cannot
win a number that was used before; a ref is deleted by an entry without a commit, a tombstone.
"""

from __future__ import annotations

import random
import re
import time as clock
import uuid
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from fsvc.errors import (
    CommitUnknown,
    Conflict,
    Corruption,
    FsvcError,
    InvalidUse,
    KeyAbsent,
    KeyExists,
    StorageError,
)
from fsvc.format import names, strictjson
from fsvc.format.commit import is_id, is_time
from fsvc.storage.contract import Storage

__all__ = ["KINDS", "RefEntry", "Refs"]

KINDS: Final = ("heads", "tags", "pins")
"""Branches, tags, and what keeps the data of models alive."""

_WORDS: Final[dict[str, Literal["branch", "tag", "pin"]]] = {"heads": "branch", "tags": "tag", "pins": "pin"}

_ATTEMPTS: Final = 6  # of a write that left no trace, and of reading it back
_FIRST_PAUSE: Final = 0.02  # seconds; doubles with each attempt, times a random factor
_LAST_SEQUENCE: Final = 9_999_999_999

_FILE: Final = re.compile(r"([0-9]{10})\.json")
_FILES: Final = re.compile(r"(?:(?!0{10})[0-9]{10}\.json)*")
_TRANSACTION: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class RefEntry:
    """One entry of a ref's log: from ``time`` on, the ref stood at ``commit``.

    ``commit`` is a commit id, or None in a tombstone (the ref was deleted). ``sequence`` counts from 1.
    ``transaction`` is random (32 hex digits) and tells a writer its own entry from another's. ``time`` is UTC
    by the writer's clock, as ``2026-11-01T09:30:00.000000Z``. ``reason`` says what was done, for people.
    Making one of other values raises InvalidUse.
    """

    kind: str
    name: str
    sequence: int
    commit: str | None
    transaction: str
    time: str
    author: str
    reason: str

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem is not None:
            raise InvalidUse(f"this cannot be an entry of a ref: {problem}")

    @property
    def key(self) -> str:
        """Where the entry lies in the store."""
        return f"{_directory(self.kind, self.name)}{self.sequence:010d}.json"

    def to_bytes(self) -> bytes:
        """Give the entry as it is stored: sealed JSON."""
        return strictjson.seal(asdict(self))


class Refs:
    """The refs of one repository, in its store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def head(self, kind: str, name: str) -> RefEntry | None:
        """Give the newest entry of a ref, which may be a tombstone; None if there never was one.

        Raises Corruption if that entry is damaged: an older one is never taken in its place.
        """
        sequences = self.sequences(kind, name)
        return self._read(kind, name, max(sequences)) if sequences else None

    def entry(self, kind: str, name: str, sequence: int) -> RefEntry:
        """Give one entry of a ref. Raises Corruption if it is damaged or not there."""
        _check_kind(kind)
        return self._read(kind, name, sequence)

    def log(self, kind: str, name: str) -> list[RefEntry]:
        """Give all entries of a ref, newest first. Raises Corruption if one is damaged."""
        return [
            self._read(kind, name, sequence) for sequence in sorted(self.sequences(kind, name), reverse=True)
        ]

    def names(self, kind: str, *, deleted: bool = False) -> list[str]:
        """Give the names of the refs of a kind, sorted; with ``deleted`` those too that were deleted.

        Raises Corruption if something below ``refs/`` is no entry of a ref.
        """
        return sorted(self._newest(kind)) if deleted else list(self.heads(kind))

    def heads(self, kind: str) -> dict[str, RefEntry]:
        """Give the newest entry of every ref of a kind that was not deleted, sorted by name.

        Raises Corruption as :meth:`head` and :meth:`names` do.
        """
        entries = {
            name: self._read(kind, name, sequence) for name, sequence in sorted(self._newest(kind).items())
        }
        return {name: entry for name, entry in entries.items() if entry.commit is not None}

    def append(
        self,
        kind: str,
        name: str,
        expected: RefEntry | None,
        commit: str | None,
        *,
        author: str,
        reason: str,
        time: str,
    ) -> RefEntry:
        """Move a ref on from the entry ``expected`` (None: there never was one); give the new, durable entry.

        ``commit`` None deletes the ref. Raises Conflict if the ref stands elsewhere or another writer was
        faster; CommitUnknown if the store does not say whether the entry was written; StorageError if
        it was not; InvalidName for a new name that is not allowed.
        """
        _check_kind(kind)
        if expected is not None and (expected.kind, expected.name) != (kind, name):
            raise InvalidUse(
                f"the {_called(kind, name)} cannot follow an entry of {expected.kind}/{expected.name}"
            )
        if expected is None:
            names.check_ref_name(name, _WORDS[kind])
        sequence = expected.sequence + 1 if expected else 1
        entry = RefEntry(kind, name, sequence, commit, uuid.uuid4().hex, time, author, reason)
        # Only the next number decides a race. But where entries were lost from outside, a number in
        # a gap would be free and its entry never seen, so a stale writer is turned away here.
        latest = max(self.sequences(kind, name), default=0)
        if latest != sequence - 1:
            raise Conflict(f"the {_called(kind, name)} is at entry {latest}, not {sequence - 1}", hint=_AGAIN)
        self._write(entry)
        return entry

    def _write(self, entry: RefEntry) -> None:
        """Create the entry, and find out whether it was created if the store does not say."""
        data = entry.to_bytes()
        failure: StorageError | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                _pause(attempt)
            try:
                self._storage.put_if_absent(entry.key, data)
                return
            except CommitUnknown:
                raise  # it is there, but may not outlive a crash: reading it back would prove nothing
            except StorageError as error:
                failure = error
            # "Exists" may mean our own entry: the reply to an earlier attempt, ours or the client
            # library's, may have been lost.
            found = self._read_back(entry, failure)
            if found == data:
                return
            if found is not None:
                raise self._lost(entry, found)
        assert failure is not None
        if isinstance(failure, KeyExists):
            raise _unknown(entry, failure) from failure  # the store says both "exists" and "absent"
        raise failure

    def _read_back(self, entry: RefEntry, failure: StorageError) -> bytes | None:
        """Give what is under the entry's key now, None for nothing."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                _pause(attempt)
            try:
                return self._storage.get(entry.key)
            except KeyAbsent:
                return None
            except (StorageError, Corruption):
                continue
        raise _unknown(entry, failure) from failure

    @staticmethod
    def _lost(entry: RefEntry, found: bytes) -> Conflict:
        """Put into words that the entry's number holds another writer's entry."""
        try:
            winner = _parse(entry.kind, entry.name, entry.sequence, found)
        except Corruption as error:
            raise _unknown(entry, error) from error  # damaged: it may be ours or not
        return Conflict(
            f"another writer moved the {_called(entry.kind, entry.name)} first (entry {winner.sequence}, "
            f"by {names.quoted(winner.author)} at {winner.time})",
            hint=_AGAIN,
        )

    def sequences(self, kind: str, name: str) -> list[int]:
        """The numbers of the entries of a ref, in no order; none of them is read."""
        _check_kind(kind)
        if len(names.escape(name)) > names.MAX_ESCAPED:
            return []  # no ref can be called so; a store would not take the key
        directory = _directory(kind, name)
        names_of_files = [key[len(directory) :] for key in self._storage.keys(directory)]
        # Long logs are looked through at once; what is no entry is found and named one by one.
        if _FILES.fullmatch("".join(names_of_files)) is None:
            for name_of_file in names_of_files:
                _sequence(directory + name_of_file, directory)
        return [int(name_of_file[:10]) for name_of_file in names_of_files]

    def _newest(self, kind: str) -> dict[str, int]:
        """Give the highest sequence of every ref of a kind."""
        _check_kind(kind)
        newest: dict[str, int] = {}
        called: dict[str, str] = {}
        for key in self._storage.keys(f"refs/{kind}/"):
            directory, slash, _ = key.rpartition("/")
            sequence = _sequence(key, directory + slash)
            if directory not in called:
                called[directory] = _name_of(kind, directory, key)
            name = called[directory]
            newest[name] = max(newest.get(name, 0), sequence)
        return newest

    def _read(self, kind: str, name: str, sequence: int) -> RefEntry:
        key = f"{_directory(kind, name)}{sequence:010d}.json"
        try:
            data = self._storage.get(key)
        except KeyAbsent as error:
            raise Corruption(f"{key} is listed by the store, but absent") from error
        return _parse(kind, name, sequence, data)


_AGAIN: Final = "read it again and decide whether the change still holds"


def _parse(kind: str, name: str, sequence: int, data: bytes) -> RefEntry:
    what = f"entry {sequence} of the {_called(kind, name)}"
    values: dict[str, Any] = strictjson.unseal(data, what=what)
    if set(values) != set(RefEntry.__dataclass_fields__):
        raise Corruption(f"{what} does not have the fields of an entry")
    try:
        entry = RefEntry(**values)
    except InvalidUse as error:
        raise Corruption(f"{what} is damaged: {error.message}") from error
    if (entry.kind, entry.name, entry.sequence) != (kind, name, sequence):
        raise Corruption(
            f"{what} is not what lies there, but entry {entry.sequence} of {entry.kind}/{entry.name}"
        )
    return entry


def _problem(entry: RefEntry) -> str | None:
    """Say what is wrong with the values of an entry, which may come from anywhere."""
    texts = (entry.kind, entry.name, entry.transaction, entry.time, entry.author, entry.reason)
    if not all(type(text) is str for text in texts):
        return "kind, name, transaction, time, author and reason are texts"
    if entry.kind not in KINDS or not entry.name:
        return f"there is no kind of ref {entry.kind!r}" if entry.name else "it has no name"
    if type(entry.sequence) is not int or not 1 <= entry.sequence <= _LAST_SEQUENCE:
        return f"{entry.sequence!r} is not a sequence"
    if entry.commit is not None and (type(entry.commit) is not str or not is_id(entry.commit)):
        return f"{names.quoted(entry.commit)} is not a commit id"
    if not _TRANSACTION.fullmatch(entry.transaction):
        return f"{names.quoted(entry.transaction)} is not a transaction id"
    if not is_time(entry.time):
        return f"{names.quoted(entry.time)} is not a time in UTC with microseconds"
    return None


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InvalidUse(f"there is no kind of ref {kind!r}, only {', '.join(KINDS)}")


def _directory(kind: str, name: str) -> str:
    return f"refs/{kind}/{names.escape(name)}/"


def _name_of(kind: str, directory: str, key: str) -> str:
    """The name of the ref whose entries, one of them ``key``, lie in a directory."""
    try:
        return names.unescape(directory.removeprefix(f"refs/{kind}").removeprefix("/"))
    except Corruption:
        raise Corruption(f"{key} does not belong to any ref") from None


def _called(kind: str, name: str) -> str:
    return f"{_WORDS[kind]} {names.quoted(name)}"


def _sequence(key: str, directory: str) -> int:
    """Give the sequence of the entry under ``key``, which a store listed below ``directory``."""
    match = _FILE.fullmatch(key.removeprefix(directory))
    if match is None or int(match[1]) == 0:
        raise Corruption(f"{key} is not an entry of a ref")
    return int(match[1])


def _unknown(entry: RefEntry, cause: FsvcError) -> CommitUnknown:
    return CommitUnknown(
        f"it cannot be known whether the {_called(entry.kind, entry.name)} was moved: {cause.message}",
        hint="nothing was deleted: look at its log, and do it again if it is not there",
    )


def _pause(attempt: int) -> None:
    """Wait a little longer each time, and never as long as another writer does."""
    clock.sleep(_FIRST_PAUSE * 2 ** (attempt - 1) * (0.5 + random.random()))  # noqa: S311
