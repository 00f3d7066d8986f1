"""History drawn with characters: a column per line of descent, ``*`` for a commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

__all__ = ["draw"]


def draw(
    commits: Sequence[str], parents: Mapping[str, Sequence[str]], texts: Sequence[Sequence[str]]
) -> Iterator[str]:
    """Lines of a graph with the commits' texts beside it, in the order given: children before parents.

    Each lane is a column that waits for a commit. Lanes that wait for the same one meet above it; a
    merge opens a lane for each further parent. Parents that are not among the commits end a lane.
    """
    known = set(commits)
    lanes: list[str] = []
    for commit, text in zip(commits, texts, strict=True):
        if commit not in lanes:
            lanes.append(commit)
        own = lanes.index(commit)
        while (other := _last(lanes, commit)) != own:
            yield _joined(len(lanes), own, other)
            del lanes[other]
        marks = ["*" if lane == own else "|" for lane in range(len(lanes))]
        yield f"{' '.join(marks)} {text[0]}".rstrip()
        following = [parent for parent in parents.get(commit, ()) if parent in known]
        if following:
            lanes[own] = following[0]
            for parent in following[:0:-1]:
                yield _opened(len(lanes), own)
                lanes.insert(own + 1, parent)
        rest = text[1:]
        for line in rest:
            bars = [" " if not following and lane == own else "|" for lane in range(len(lanes))]
            yield f"{' '.join(bars)} {line}".rstrip()
        if not following:
            if own < len(lanes) - 1:
                yield _ended(len(lanes), own)
            del lanes[own]


def _last(lanes: Sequence[str], commit: str) -> int:
    return len(lanes) - 1 - lanes[::-1].index(commit)


def _joined(count: int, left: int, right: int) -> str:
    """The lane ``right`` runs into the lane ``left``, below the others; those beyond move over."""
    cells = [" "] * (2 * count)
    for lane in range(count):
        if lane < right:
            cells[2 * lane] = "|"
        else:
            cells[2 * lane - 1] = "/"
    for gap in range(left, right - 1):
        cells[2 * gap + 1] = "_"
    return "".join(cells).rstrip()


def _opened(count: int, own: int) -> str:
    """A new lane leaves the lane ``own`` to its right; those beyond move over."""
    cells = [" "] * (2 * count)
    for lane in range(count):
        if lane <= own:
            cells[2 * lane] = "|"
        if lane >= own:
            cells[2 * lane + 1] = "\\"
    return "".join(cells).rstrip()


def _ended(count: int, own: int) -> str:
    """The lane ``own`` has ended; those beyond move over."""
    cells = [" "] * (2 * count)
    for lane in range(count):
        if lane < own:
            cells[2 * lane] = "|"
        elif lane > own:
            cells[2 * lane - 1] = "/"
    return "".join(cells).rstrip()
