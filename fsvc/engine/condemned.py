"""Deleting in two phases: files are condemned first, and deleted when nobody can need them any more.

``condemned/<id>.json`` lists files that are to go, and how long they are left in peace: their *grace*, by the
store's own clock. Readers go on using them, new commits do not. Once the grace is over, whoever deletes looks
once more which of them are needed after all, and writes down the others in ``dead/<id>.json``. This alone
decides, and put-if-absent lets it be decided once: from then on nobody may use what is dead, whatever index
files still say, and it is deleted. What is dead stays listed for another grace, and for a day at least, since index
files that name it may come back: written again by a slow commit, or by a crash that undoes a deletion.

Why nobody loses anything. A reader that has looked at the index since the files were condemned has found other
copies; one that looked before has had the whole grace. A commit looks at the lists after its own index files are
durable and before its ref entry is written. Where a file that it uses was condemned less than half of a grace
ago, it goes on: the last look, which comes when the grace is over, is at least half a grace later, sees the
commit's objects, and keeps what they stand on. Where it was earlier, the commit decides the list itself, that
nothing on it is dead; if somebody else has decided before, it gives up and is made again. What remains is a
writer that stands still for half a grace between its own look and its ref entry.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from fsvc.engine.files import commit_of, manifest_of, pack_of
from fsvc.errors import Corruption, KeyAbsent, KeyExists
from fsvc.format import strictjson
from fsvc.format.names import quoted
from fsvc.storage.contract import Storage

__all__ = ["GRACE_SECONDS", "Lists", "Sentence", "condemn", "forget", "judge", "rely"]

GRACE_SECONDS: Final = 24 * 3600
"""How long condemned files are left in peace, unless told."""

_CONDEMNED: Final = "condemned/"
_DEAD: Final = "dead/"
_MEMBERS: Final = {"grace", "keys", "purpose", "time"}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A list of files that are to be deleted, or of those that are dead.

    ``purpose`` says which operation wrote it (only the same one knows what is needed), ``grace`` is in seconds.
    """

    id: str
    keys: frozenset[str]
    purpose: str
    grace: int
    time: str

    def to_bytes(self) -> bytes:
        """The list as it is stored: sealed JSON."""
        return strictjson.seal(
            {"grace": self.grace, "keys": sorted(self.keys), "purpose": self.purpose, "time": self.time}
        )


def _parse(name: str, data: bytes, what: str) -> Sentence:
    value = strictjson.unseal(data, what=what)
    keys, grace = value.get("keys"), value.get("grace")
    texts = [value.get("purpose"), value.get("time")]
    if (
        set(value) != _MEMBERS
        or type(grace) is not int
        or grace < 0
        or not isinstance(keys, list)
        or not all(isinstance(text, str) for text in [*keys, *texts])
    ):
        raise Corruption(f"{what} is not a list of files to delete")
    # Folders of a repository may be links to anywhere: a list is no leave to delete what lies there.
    strange = next((key for key in keys if not (pack_of(key) or commit_of(key) or manifest_of(key))), None)
    if strange is not None:
        raise Corruption(f"{what} lists {quoted(strange)}, which is never deleted")
    return Sentence(name, frozenset(keys), str(texts[0]), grace, str(texts[1]))


class Lists:
    """The lists of a store as they were last looked at. Files never change, so each is read once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.condemned: Mapping[str, Sentence] = {}
        self.dead: Mapping[str, Sentence] = {}

    def refresh(self) -> None:
        """Look at the lists again. Raises Corruption where one is damaged."""
        # The dead last: what was condemned when it was looked for may be dead by now, but not the other way round.
        self.condemned = self._read(_CONDEMNED, self.condemned)
        self.dead = self._read(_DEAD, self.dead)

    def _read(self, prefix: str, known: Mapping[str, Sentence]) -> Mapping[str, Sentence]:
        found = {}
        for key in self._storage.keys(prefix):
            name = key[len(prefix) : -len(".json")]
            try:
                found[name] = known.get(name) or _parse(name, self._storage.get(key), key)
            except KeyAbsent:
                continue  # done with meanwhile
        return found

    @property
    def dead_keys(self) -> frozenset[str]:
        """The files that nobody may use any more."""
        return frozenset(key for one in self.dead.values() for key in one.keys)

    @property
    def condemned_keys(self) -> frozenset[str]:
        """The files that are to go and are not dead."""
        waiting = (one for name, one in self.condemned.items() if name not in self.dead)
        return frozenset(key for one in waiting for key in one.keys) - self.dead_keys

    @property
    def dead_packs(self) -> frozenset[str]:
        """The packs that nobody may use any more."""
        return frozenset(_packs(self.dead.values()))

    @property
    def condemned_packs(self) -> frozenset[str]:
        """The packs that new commits leave alone, those that are dead not counted."""
        waiting = (one for name, one in self.condemned.items() if name not in self.dead)
        return frozenset(_packs(waiting)) - self.dead_packs


def _packs(sentences: Collection[Sentence] | Iterator[Sentence]) -> Iterator[str]:
    return (pack for one in sentences for key in one.keys if (pack := pack_of(key)) is not None)


def condemn(storage: Storage, keys: Collection[str], *, purpose: str, grace: int, time: str) -> Sentence:
    """Condemn files; durable on return. Nothing is deleted before ``grace`` seconds have passed."""
    sentence = Sentence(uuid.uuid4().hex, frozenset(keys), purpose, grace, time)
    storage.put_if_absent(f"{_CONDEMNED}{sentence.id}.json", sentence.to_bytes())
    return sentence


def rely(storage: Storage, keys: Collection[str], *, time: str) -> str | None:
    """Make sure that files may be relied on; give one that may not, because it is dead.

    Lists that were written lately are no danger: they are looked through again before anything is deleted. One
    that is older than half of its grace is called off.
    """
    lists = Lists(storage)
    lists.refresh()
    for name, sentence in dict(lists.condemned).items():
        if (
            name not in lists.dead
            and sentence.keys.intersection(keys)
            and 2 * _age(storage, f"{_CONDEMNED}{name}.json") >= sentence.grace
        ):
            _decide(storage, Sentence(name, frozenset(), sentence.purpose, sentence.grace, time))
            lists.refresh()
    return min((key for one in lists.dead.values() for key in one.keys.intersection(keys)), default=None)


def _decide(storage: Storage, verdict: Sentence) -> None:
    """Write down what is dead, unless somebody else has decided: then what they wrote counts."""
    with suppress(KeyExists):
        storage.put_if_absent(f"{_DEAD}{verdict.id}.json", verdict.to_bytes())


def judge(
    storage: Storage, purpose: str, needed: Callable[[frozenset[str]], Collection[str]], *, time: str
) -> list[Sentence]:
    """Write down what of the condemned is dead, where the grace is over; give all lists of the dead.

    ``needed`` looks at the store anew and gives those of some files that have to stay.
    """
    lists = Lists(storage)
    lists.refresh()
    for name, sentence in lists.condemned.items():
        if sentence.purpose != purpose or name in lists.dead:
            continue
        if _age(storage, f"{_CONDEMNED}{name}.json") < sentence.grace:
            continue
        dying = sentence.keys - frozenset(needed(sentence.keys))
        _decide(storage, Sentence(name, dying, purpose, sentence.grace, time))
    lists.refresh()
    return [one for one in lists.dead.values() if one.purpose == purpose]


def forget(storage: Storage, sentence: Sentence, named: Callable[[frozenset[str]], bool]) -> None:
    """Take a list off once what is dead on it was deleted; that of the dead when another grace and a day are over.

    ``named`` says whether an index file still names one of some files.
    """
    storage.delete(f"{_CONDEMNED}{sentence.id}.json")
    key = f"{_DEAD}{sentence.id}.json"
    least = max(sentence.grace, GRACE_SECONDS)
    if not sentence.keys or (_age(storage, key) >= least and not named(sentence.keys)):
        storage.delete(key)


def _age(storage: Storage, key: str) -> float:
    """The age of a list in seconds; none where it is gone."""
    try:
        return storage.age(key)
    except KeyAbsent:
        return 0.0
