"""Extension objects: a chunk stored as the pages that follow the pages of another chunk.

Rows that are appended to a table make its last group longer. Pages of one column chunk may be laid
one after the other, whatever each one's encoding, so the longer chunk is the stored pages of the
shorter one and the pages of the new rows alone: readers see an ordinary chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fsvc.format.canonical import Identity
from fsvc.format.footer import LeafMeta, joined_leaf
from fsvc.format.index import MAX_EXTENSIONS, Extension
from fsvc.format.pages import ChunkPages

__all__ = ["ExtendedChunk", "extend"]


@dataclass(frozen=True, slots=True)
class ExtendedChunk:
    """A chunk as an extension object: metadata of the whole, what it extends, and its own pages."""

    leaves: tuple[LeafMeta, ...]
    extension: Extension
    pages: tuple[memoryview | bytes, ...]

    def after(self, base: ChunkPages) -> ChunkPages:
        """The whole chunk, given that of the base."""
        return ChunkPages(
            self.leaves, tuple(b"".join(pair) for pair in zip(base.pages, self.pages, strict=True))
        )


def extend(
    base: Identity, leaves: Sequence[LeafMeta], depth: int, rest: ChunkPages, whole: ChunkPages
) -> ExtendedChunk | None:
    """The chunk ``whole`` as ``rest`` after the stored chunk ``base``, if that is worth it.

    ``leaves`` and ``depth`` are the base's metadata and how many objects it stands on itself. None
    where the pages do not fit together, where it would stand on too many objects, or where it saves
    less than half.
    """
    if depth >= MAX_EXTENSIONS or len(leaves) != len(rest.leaves):
        return None
    if 2 * sum(leaf.length for leaf in rest.leaves) > sum(leaf.length for leaf in whole.leaves):
        return None
    joined = []
    for first, second, all_of_it in zip(leaves, rest.leaves, whole.leaves, strict=True):
        leaf = joined_leaf(first, second, all_of_it)
        if leaf is None:
            return None
        joined.append(leaf)
    lengths = tuple(leaf.length for leaf in rest.leaves)
    return ExtendedChunk(tuple(joined), Extension(base, depth + 1, lengths), rest.pages)
