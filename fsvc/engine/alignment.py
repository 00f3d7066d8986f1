"""Which rows of an older row group the rows of a newer one are: a guess that patches are made from.

Rows are told by hashes. A guess that is wrong costs bytes and nothing else: what differs at the guessed
place is stored as a changed value.
"""

from __future__ import annotations

import numpy as np

from fsvc.format.patch import Rows
from fsvc.format.rowvalues import Words

__all__ = ["align"]


def align(new: Words, base: Words) -> Rows:
    """For each row of ``new`` the row of ``base`` that it is, or -1 where it seems to be a new one.

    Rows that both begin and end with are the same. Of the rest, those are whose hash comes up once on
    both sides, wherever they stand. A run of rows between two such is paired with the run of base rows
    between them if it is as long: rows there were changed, rather than replaced.
    """
    count, most = len(new), min(len(new), len(base))
    source = np.full(count, -1, np.int64)
    unequal = np.flatnonzero(new[:most] != base[:most])
    head = int(unequal[0]) if len(unequal) else most
    unequal = np.flatnonzero(new[count - most + head :][::-1] != base[len(base) - most + head :][::-1])
    tail = int(unequal[0]) if len(unequal) else most - head
    source[:head] = np.arange(head)
    source[count - tail :] = np.arange(len(base) - tail, len(base))
    mine, where = _single(new[head : count - tail])
    theirs, there = _single(base[head : len(base) - tail])
    if len(mine) and len(theirs):
        at = np.minimum(np.searchsorted(theirs, mine), len(theirs) - 1)
        same = theirs[at] == mine
        source[head + where[same]] = head + there[at[same]]
    return _paired(source, len(base))


def _single(hashes: Words) -> tuple[Words, Rows]:
    """The hashes that come up once, ascending, and where."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    differs = np.ones(len(ordered) + 1, np.bool_)
    differs[1:-1] = ordered[1:] != ordered[:-1]
    once = differs[1:] & differs[:-1]
    return ordered[once], order[once]


def _paired(source: Rows, base_rows: int) -> Rows:
    """Runs of unknown rows take the base rows between their neighbours, where these are as many."""
    unknown = np.concatenate([np.zeros(1, np.bool_), source < 0, np.zeros(1, np.bool_)])
    edges = np.flatnonzero(unknown[1:] != unknown[:-1])
    starts, ends = edges[::2], edges[1::2]
    framed = np.concatenate([np.full(1, -1, np.int64), source, np.full(1, base_rows, np.int64)])
    before, after = framed[starts], framed[ends + 1]
    fits = after - before - 1 == ends - starts
    starts, lengths, before = starts[fits], (ends - starts)[fits], before[fits]
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    source[np.repeat(starts, lengths) + within] = np.repeat(before + 1, lengths) + within
    return source
