"""Which columns and rows of two snapshots are the same ones.

Row groups whose key chunks are equal hold the same rows in the same order: the manifests say so, and nothing
of them is read. Only the keys of the groups that are left are read, and matched by value. Without a key a
row is what all its columns say, and the rows of both sides are matched as multisets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from fsvc.engine.reading import SnapshotReader
from fsvc.engine.writing import default_threads
from fsvc.errors import InvalidUse, KeyViolation, NotFound
from fsvc.format import names
from fsvc.format.cells import RowCodes, converts, differing, match, meaning, picked, repeated
from fsvc.format.manifest import Manifest
from fsvc.format.rowvalues import Counts, valid_rows

__all__ = ["ColumnPair", "ColumnPairing", "RowPairing", "pair_columns", "pair_rows"]


@dataclass(frozen=True, slots=True)
class ColumnPair:
    """One column on both sides, by its positions there.

    ``comparable`` is False where no value of the old type can be one of the new type: such a column was
    replaced. ``same_meaning`` says that equal chunks mean equal values.
    """

    before: int
    after: int
    comparable: bool
    same_meaning: bool


@dataclass(frozen=True)
class ColumnPairing:
    """The columns of two schemas: those on both sides in the new order, renamed ones among them."""

    pairs: tuple[ColumnPair, ...]
    dropped: tuple[int, ...]
    added: tuple[int, ...]

    def compared(self, without: Sequence[int] = ()) -> list[ColumnPair]:
        """The pairs whose cells are compared, apart from some columns of the new schema."""
        return [pair for pair in self.pairs if pair.comparable and pair.after not in without]


def pair_columns(before: Manifest, after: Manifest) -> ColumnPairing:
    """Pair columns by name; then dropped and added ones of equal content, which were renamed.

    A column counts as renamed if the types are the same, and so are its chunks in all row groups that both
    snapshots share, of which there has to be one.
    """
    old, new = _numbered(before.schema), _numbered(after.schema)
    found = {theirs: old[name] for name, theirs in new.items() if name in old}
    dropped = [i for name, i in old.items() if name not in new]
    added = [i for name, i in new.items() if name not in old]
    shared = _shared_groups(before, after, found) if dropped and added else []
    for theirs in added if shared else ():
        for ours in dropped:
            if ours not in found.values() and _renamed(before, after, ours, theirs, shared):
                found[theirs] = ours
                break
    pairs = []
    for theirs, ours in sorted(found.items()):
        one, other = before.schema.field(ours).type, after.schema.field(theirs).type
        same = bool(meaning(one) == meaning(other))
        pairs.append(ColumnPair(ours, theirs, same or converts(one, other), same))
    return ColumnPairing(
        tuple(pairs),
        tuple(i for i in dropped if i not in found.values()),
        tuple(i for i in added if i not in found),
    )


def _numbered(schema: pa.Schema) -> dict[tuple[str, int], int]:
    """Positions by name; of several columns of one name each has a number."""
    found: dict[tuple[str, int], int] = {}
    for i, name in enumerate(schema.names):
        again = 0
        while (name, again) in found:
            again += 1
        found[name, again] = i
    return found


def _shared_groups(before: Manifest, after: Manifest, found: dict[int, int]) -> list[tuple[int, int]]:
    """Groups of the same rows: by the key where it stayed, else by all columns of the same name."""
    key = _key_pairs(before, after, found)
    return list(_tied(before, after, key or [(ours, theirs) for theirs, ours in found.items()]))


def _key_pairs(before: Manifest, after: Manifest, found: dict[int, int]) -> list[tuple[int, int]]:
    if not before.key or before.key != after.key:
        return []
    theirs = [after.schema.get_field_index(name) for name in after.key]
    return [(found[i], i) for i in theirs if i in found]


def _renamed(
    before: Manifest, after: Manifest, ours: int, theirs: int, shared: Sequence[tuple[int, int]]
) -> bool:
    if before.schema.field(ours).type != after.schema.field(theirs).type:
        return False
    old, new = before.chunks[ours], after.chunks[theirs]
    one, other = (np.array(groups) for groups in zip(*shared, strict=True))
    return bool((old[one] == new[other]).all())


def _tied(before: Manifest, after: Manifest, columns: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Pairs of groups that are equal in some columns, each group once, in the new order."""
    if not columns:
        return
    waiting: dict[bytes, list[int]] = {}
    for group in reversed(range(len(before.rows))):
        name = b"".join(before.chunks[ours, group].tobytes() for ours, _ in columns)
        waiting.setdefault(name, []).append(group)
    for group in range(len(after.rows)):
        name = b"".join(after.chunks[theirs, group].tobytes() for _, theirs in columns)
        if waiting.get(name):
            yield waiting[name].pop(), group


# Rows ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowPairing:
    """The rows of two snapshots. All numbers are row numbers from 0, ``int64``.

    ``tied`` pairs groups of the same rows in the same order. ``kept_before`` and ``kept_after`` are the rows
    outside of these that are on both sides, in the new order. ``removed`` and ``added`` are in order.
    ``key`` holds the names of the columns by which rows were matched; without any it was by content.
    """

    key: tuple[str, ...]
    tied: list[tuple[int, int]]
    loose_before: list[int]
    loose_after: list[int]
    kept_before: Counts
    kept_after: Counts
    removed: Counts
    added: Counts
    runs: tuple[Counts, Counts, Counts] = field(repr=False)
    """The kept rows as runs in the new order: first row before, first row after, length."""

    @property
    def moved(self) -> int:
        """How many kept rows come after another kept row than before; 0 if none changed places."""
        before, _, lengths = self.runs
        order = np.argsort(before)
        ranks = np.empty(len(before), np.int64)
        ranks[order] = np.cumsum(lengths[order]) - lengths[order]
        ends = np.concatenate([[0], (ranks + lengths)[:-1]]) if len(ranks) else ranks
        return int((ranks != ends).sum())

    def after_of(self, rows: Counts) -> Counts:
        """Where rows of the old side are on the new one; -1 where they are not there any more."""
        before, after, lengths = self.runs
        order = np.argsort(before)
        starts = before[order]
        at = np.searchsorted(starts, rows, "right") - 1
        found = order[np.maximum(at, 0)] if len(order) else np.zeros(len(rows), np.int64)
        if not len(order):
            return np.full(len(rows), -1)
        offset = rows - before[found]
        inside = (at >= 0) & (offset < lengths[found])
        return np.where(inside, after[found] + offset, -1)

    def inverted(self) -> RowPairing:
        """The same pairing seen from the other side."""
        before, after, lengths = self.runs
        order = np.argsort(before)
        kept = np.argsort(self.kept_before)
        return RowPairing(
            self.key,
            [(theirs, ours) for ours, theirs in self.tied],
            self.loose_after,
            self.loose_before,
            self.kept_after[kept],
            self.kept_before[kept],
            self.added,
            self.removed,
            (after[order], before[order], lengths[order]),
        )


def pair_rows(
    before: SnapshotReader,
    after: SnapshotReader,
    columns: ColumnPairing,
    key: Sequence[str] | None = None,
) -> RowPairing:
    """Pair the rows of two snapshots by a key (their common one unless told), else by content.

    Raises NotFound for a key column that is not on both sides, KeyViolation where a key that was asked for
    is null or not unique on a side, InvalidUse where its values cannot be compared.
    """
    one, other = before.manifest, after.manifest
    asked = key is not None and (tuple(key) != one.key or tuple(key) != other.key)
    if key is None:
        key = one.key if one.key == other.key else ()
    by = _by_key(one, other, columns, key) if key else columns.compared()
    exact = [(pair.before, pair.after) for pair in by if pair.same_meaning]
    tied = [] if asked or len(exact) < len(by) else list(_tied(one, other, exact))
    ours, theirs = {a for a, _ in tied}, {b for _, b in tied}
    loose_before = [group for group in range(len(one.rows)) if group not in ours]
    loose_after = [group for group in range(len(other.rows)) if group not in theirs]
    rows_before, rows_after = _rows_of(before, loose_before), _rows_of(after, loose_after)
    if not len(rows_before) or not len(rows_after) or (not by and not key):
        # Rows without a single common column have nothing that tells them apart.
        found = np.full(len(rows_after), -1)
        if not by and not key:
            found[: len(rows_before)] = np.arange(len(rows_after))[: len(rows_before)]
    else:
        found = _matched(before, after, by, loose_before, loose_after, bool(key), asked)
    there = found >= 0
    kept = np.zeros(len(rows_before), np.bool_)
    kept[found[there]] = True
    kept_before, kept_after = rows_before[found[there]], rows_after[there]
    return RowPairing(
        tuple(key),
        tied,
        loose_before,
        loose_after,
        kept_before,
        kept_after,
        rows_before[~kept],
        rows_after[~there],
        _runs(before, after, tied, kept_before, kept_after),
    )


def _by_key(one: Manifest, other: Manifest, columns: ColumnPairing, key: Sequence[str]) -> list[ColumnPair]:
    by = []
    for name in key:
        for manifest, side in ((one, "before"), (other, "after")):
            if manifest.schema.get_field_index(name) < 0:
                near = names.nearest(name, manifest.schema.names)
                raise NotFound(
                    f"there is no column {name!r} {side}", hint=f"did you mean {near[0]!r}?" if near else None
                )
        at = other.schema.get_field_index(name)
        pair = next(
            (p for p in columns.pairs if p.after == at and one.schema.field(p.before).name == name), None
        )
        types = [str(manifest.schema.field(name).type) for manifest in (one, other)]
        if pair is None or not pair.comparable:
            raise InvalidUse(
                f"key column {name!r} is {types[0]} before and {types[1]} after: no two keys can be the same",
                hint="compare by another key, or by content with an empty one",
            )
        by.append(pair)
    return by


def _rows_of(reader: SnapshotReader, groups: Sequence[int]) -> Counts:
    """The numbers of all rows of some groups, in order."""
    starts = reader.starts
    parts = [np.arange(starts[group], starts[group + 1]) for group in groups]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _matched(
    before: SnapshotReader,
    after: SnapshotReader,
    by: Sequence[ColumnPair],
    loose_before: Sequence[int],
    loose_after: Sequence[int],
    by_key: bool,
    asked: bool,
) -> Counts:
    """For each loose row of the new side, which of the loose rows of the old side it is; -1 for none."""

    def read(pair: ColumnPair) -> tuple[pa.Array, pa.Array]:
        return before.chunks(pair.before, loose_before), after.chunks(pair.after, loose_after)

    with ThreadPoolExecutor(default_threads(), thread_name_prefix="fsvc-keys") as pool:
        if by_key:
            sides = list(pool.map(read, by))
            old, new = [side[0] for side in sides], [side[1] for side in sides]
            if asked:
                names_ = [after.manifest.schema.field(pair.after).name for pair in by]
                _check_key(old, names_, "before")
                _check_key(new, names_, "after")
            old = [_converted(one, other, pair) for one, other, pair in zip(old, new, by, strict=True)]
            return match(new, old)
        numbers = RowCodes(
            int(sum(before.manifest.rows[group] for group in loose_before)),
            int(sum(after.manifest.rows[group] for group in loose_after)),
        )
        # One column at a time: all of a wide table need not fit into memory.
        for pair in by:
            one, other = read(pair)
            numbers.add(_converted(one, other, pair), other)
        ours, theirs = numbers.finish()
        return match([pa.array(theirs)], [pa.array(ours)])


def _converted(one: pa.Array, other: pa.Array, pair: ColumnPair) -> pa.Array:
    """The old side's values in the type of the new one, where types differ; values without one are null."""
    if pair.same_meaning:
        return one
    try:
        there = one.cast(other.type, safe=False)
        back = there.cast(one.type, safe=False)
    except pa.ArrowException:
        return pa.nulls(len(one), other.type)
    lost = differing(back, one)
    if not lost.any():
        return there
    places = np.where(lost, -1, np.arange(len(there)))
    return picked(there, places)


def _check_key(columns: Sequence[pa.Array], names_: Sequence[str], side: str) -> None:
    for column, name in zip(columns, names_, strict=True):
        valid = valid_rows(column)
        if valid is not None:
            raise KeyViolation(
                f"key column {name!r} is null in row {int(np.argmin(valid)):,} {side}",
                hint="Rows are counted from 0.",
            )
    again = repeated(columns)
    if again is not None:
        shown = ", ".join(str(column[again[0]]) for column in columns)
        raise KeyViolation(
            f"key ({', '.join(names_)}) = ({shown}) appears twice {side} (rows {again[0]:,} and {again[1]:,})",
            hint="Rows are counted from 0. Compare by a key that is unique on both sides.",
        )


def _runs(
    before: SnapshotReader,
    after: SnapshotReader,
    tied: Sequence[tuple[int, int]],
    kept_before: Counts,
    kept_after: Counts,
) -> tuple[Counts, Counts, Counts]:
    """Kept rows as runs of rows that are neighbours on both sides, in the new order."""
    breaks = np.ones(len(kept_after), np.bool_)
    breaks[1:] = (np.diff(kept_before) != 1) | (np.diff(kept_after) != 1)
    first = np.flatnonzero(breaks)
    lengths = np.diff(np.append(first, len(kept_after)))
    ours, theirs = (np.array([pair[i] for pair in tied], np.int64) for i in (0, 1))
    starts = np.concatenate([kept_before[first], before.starts[ours]])
    ends = np.concatenate([kept_after[first], after.starts[theirs]])
    long = np.concatenate([lengths, np.array(before.manifest.rows, np.int64)[ours]])
    order = np.argsort(ends)
    return starts[order], ends[order], long[order]
