"""Expiry: which versions of a feature set a policy keeps, and writing down the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from fsvc.engine import history
from fsvc.engine.clock import timestamp
from fsvc.engine.condemned import rely
from fsvc.engine.expired import Expired, Expiry, standing_commits
from fsvc.engine.progress import Progress, silent
from fsvc.engine.reachability import reached_commits
from fsvc.engine.store import Store
from fsvc.errors import Corruption, GoneError, InvalidUse, NotFound
from fsvc.format import names
from fsvc.format.commit import CommitRecord

__all__ = ["ExpiredVersion", "Expiring", "Policy", "expire", "hold", "let_go", "take_back"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Which versions of a feature set are kept; at least one rule has to be given, and each keeps what it says.

    ``last`` are the newest versions, ``within`` those of so many days before now. Of the newest ``daily`` days that
    have any version the last one is kept, and so for ISO weeks, months and years; days are those of UTC, by the
    times of commits.
    """

    last: int = 0
    within: float = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    def __post_init__(self) -> None:
        numbers = [getattr(self, field.name) for field in fields(self)]
        if any(number < 0 for number in numbers):
            raise InvalidUse("a policy keeps 0 or more of each")
        if not any(numbers):
            raise InvalidUse("a policy has to keep something", hint="say how many versions: --keep-last 10")

    def __str__(self) -> str:
        given = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return "keep " + ", ".join(f"{name} {number:g}" for name, number in given if number)

    def kept(self, times: Iterable[str], now: datetime) -> set[int]:
        """The places of the versions to keep, of versions with these times (RFC 3339 in UTC), newest first."""
        moments = [datetime.fromisoformat(time) for time in times]
        found = set(range(min(self.last, len(moments))))
        if self.within:
            found.update(i for i, when in enumerate(moments) if when >= now - timedelta(days=self.within))
        periods: list[tuple[int, Callable[[datetime], object]]] = [
            (self.daily, datetime.date),
            (self.weekly, lambda when: when.isocalendar()[:2]),
            (self.monthly, lambda when: (when.year, when.month)),
            (self.yearly, lambda when: when.year),
        ]
        for number, period in periods:
            newest: dict[object, int] = {}
            for i, when in enumerate(moments):
                newest.setdefault(period(when), i)
            found.update(list(newest.values())[:number])
        return found


@dataclass(frozen=True, slots=True)
class ExpiredVersion:
    """A version whose data are let go: the first commit that has it, its number there, and that commit's time."""

    feature_set: str
    commit: str
    version: int
    time: str
    snapshot: str


@dataclass(frozen=True, slots=True)
class Expiring:
    """What expired, or would.

    ``kept`` is how many versions stay, by feature set. ``record`` is the id by which it can be taken back.
    """

    deleted: bool
    policy: str
    versions: tuple[ExpiredVersion, ...]
    kept: dict[str, int]
    record: str | None = None


def expire(
    store: Store,
    policy: Policy,
    feature_sets: Collection[str] = (),
    *,
    snapshots: Iterable[str] = (),
    delete: bool = False,
    author: str = "",
    now: datetime | None = None,
    progress: Progress = silent,
) -> Expiring:
    """Find the versions of some feature sets, or of all, that a policy does not keep; with ``delete`` let them expire.

    The newest commits of branches, and the commits of tags and pins, keep all of their data, and so do ``snapshots``,
    ids such as those of working files. Nothing is freed here: that is what collecting garbage does.

    Raises NotFound for an unknown feature set, Corruption where refs or commits are damaged.
    """
    stamp = timestamp(now)
    records = dict(sorted(reached_commits(store, progress).items(), key=lambda item: (item[1].time, item[0])))
    known = {name for record in records.values() for name in record.feature_sets}
    for name in feature_sets:
        if name not in known:
            near = names.nearest(name, sorted(known))
            raise NotFound(
                f"there never was a feature set {name!r}", hint=f"did you mean {near[0]!r}?" if near else None
            )
    standing = standing_commits(store.refs)
    store.expired.refresh()
    besides = set(snapshots)
    let_go: list[ExpiredVersion] = []
    kept: dict[str, int] = {}
    named: dict[str, dict[str, tuple[str, ...]]] = {}
    for name in sorted(feature_sets or known):
        versions, holders = _versions(records, name, store.expired, standing)
        chosen = policy.kept([version.time for version in versions], datetime.fromisoformat(stamp))
        needed = besides | {versions[i].snapshot for i in chosen}
        needed |= {
            value.snapshot
            for commit in standing
            if (value := (records.get(commit) or store.commit(commit)).feature_sets.get(name)) is not None
        }
        going = [version for version in versions if version.snapshot not in needed]
        let_go += going
        kept[name] = len(versions) - len(going)
        if going:
            named[name] = {version.snapshot: tuple(holders[version.snapshot]) for version in going}
    if not delete or not named:
        return Expiring(delete, str(policy), tuple(let_go), kept)
    record = Expiry.new(named, author=author, policy=str(policy), time=stamp)
    store.storage.put_if_absent(record.key, record.to_bytes())
    return Expiring(True, str(policy), tuple(let_go), kept, record.id)


def let_go(store: Store) -> frozenset[str]:
    """The snapshots that have expired and that nothing else keeps, whether their data were freed or not yet.

    By the records as they were last looked at.
    """
    records = reached_commits(store)
    every = {value.snapshot for record in records.values() for value in record.feature_sets.values()}
    return frozenset(every - store.expired.kept(records.items(), standing_commits(store.refs)))


def _versions(
    records: dict[str, CommitRecord], name: str, expired: Expired, standing: frozenset[str]
) -> tuple[list[ExpiredVersion], dict[str, list[str]]]:
    """The versions of a feature set that have not expired, newest first; and the commits that name each snapshot."""
    found: dict[str, ExpiredVersion] = {}
    holders: dict[str, list[str]] = {}
    for commit, record in records.items():
        value = record.feature_sets.get(name)
        if value is None or (commit not in standing and expired.of(commit, name) is not None):
            continue
        holders.setdefault(value.snapshot, []).append(commit)
        version = ExpiredVersion(name, commit, value.version, record.time, value.snapshot)
        if value.snapshot not in found:
            found[value.snapshot] = version
        elif name in record.changes:
            # A table that came back is as young as when it did.
            del found[value.snapshot]
            found[value.snapshot] = version
    return list(reversed(found.values())), holders


def take_back(store: Store, record: str, *, author: str = "") -> Expiring:
    """Take an expiry back, for all versions whose data are still there. ``record`` is its id, or the beginning of it.

    Raises NotFound where there is no such record, GoneError where nothing of it is there any more.
    """
    store.expired.refresh()
    matches = [r for name, r in store.expired.records.items() if name.startswith(record) and not r.undoes]
    if len(matches) != 1 or len(record) < 4:
        raise NotFound(
            f"{record!r} is no record of what expired" if not matches else f"{record!r} is several records",
            hint="'fsvc expire' tells the id when it writes one",
        )
    (expiry,) = matches
    time = timestamp()
    named: dict[str, dict[str, tuple[str, ...]]] = {}
    back: list[ExpiredVersion] = []
    for name, found in expiry.snapshots.items():
        for snapshot, commits in found.items():
            if not hold(store, snapshot, time=time):
                continue
            named.setdefault(name, {})[snapshot] = commits
            first = min(commits, key=lambda commit: (store.commit(commit).time, commit))
            made = store.commit(first)
            version = made.feature_sets[name].version
            back.append(ExpiredVersion(name, first, version, made.time, snapshot))
    if not named:
        raise GoneError(f"all that expired by {history.short(expiry.id)} was freed")
    undo = Expiry.new(named, author=author, policy=expiry.policy, time=time, undoes=expiry.id)
    store.storage.put_if_absent(undo.key, undo.to_bytes())
    return Expiring(True, expiry.policy, tuple(back), {}, undo.id)


def hold(store: Store, snapshot: str, *, time: str) -> bool:
    """Have the data of a snapshot stay that may have expired; whether all of it is there.

    Lists of files to be deleted that name its manifest, or packs of its objects, are called off where they are old;
    younger ones are looked through again when it has come to be needed.
    """
    try:
        keys = list(store.manifest_keys(snapshot))
        rely(store.storage, set(keys), time=time)
        manifest = Store(store.storage).manifest(snapshot)
        store.objects.refresh()
        addresses = manifest.addresses() + b"".join(identity.address for identity in manifest.categories)
        found = store.objects.find(addresses)
        packs = {entry.pack for i in range(len(found)) if (entry := found[i]) is not None}
        return (
            found.complete
            and rely(store.storage, {f"packs/{pack}.pack" for pack in packs}, time=time) is None
        )
    except (GoneError, Corruption):
        return False
