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
from fsvc.format.index import MAX_EXTENSIONS, Entry, Extension, unpack_extension, unpack_meta
from fsvc.format.pages import ChunkPages

__all__ = ["ExtendedChunk", "extend", "fits"]


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
    base: Identity, leaves: Sequence[LeafMeta], depth: int, rest: ChunkPages, whole: Sequence[LeafMeta]
) -> ExtendedChunk | None:
    """A chunk as the pages ``rest`` after the stored chunk ``base``, if that is worth it.

    ``leaves`` and ``depth`` are the base's metadata and how many objects it stands on itself; ``whole``
    tells the statistics of the whole chunk. None where the pages do not fit together, where it would stand
    on too many objects, or where more than half of the bytes are new.
    """
    if depth >= MAX_EXTENSIONS or len(leaves) != len(rest.leaves):
        return None
    if sum(leaf.length for leaf in rest.leaves) > sum(leaf.length for leaf in leaves):
        return None
    joined = []
    for first, second, all_of_it in zip(leaves, rest.leaves, whole, strict=True):
        leaf = joined_leaf(first, second, all_of_it)
        if leaf is None:
            return None
        joined.append(leaf)
    lengths = tuple(leaf.length for leaf in rest.leaves)
    return ExtendedChunk(tuple(joined), Extension(base, depth + 1, lengths), rest.pages)


def fits(base: Entry, leaves: Sequence[LeafMeta], extension: Extension) -> bool:
    """Whether a stored object is the one that an extension was laid behind; ``leaves`` are the whole chunk's.

    Writers that do not know of each other may store one chunk in several forms, all of one identity.
    Pages say themselves how they are encoded, so lengths and places that agree make the chunk whole.
    """
    below = unpack_extension(base.meta)
    theirs = unpack_meta(base.meta)
    return (
        base.digest == extension.base.digest
        and (0 if below is None else below.depth) < extension.depth
        and len(theirs) == len(leaves) == len(extension.lengths)
        and all(
            first.length + own == whole.length
            and first.num_values <= whole.num_values
            and (first.dictionary_page, first.data_page) == (whole.dictionary_page, whole.data_page)
            for first, whole, own in zip(theirs, leaves, extension.lengths, strict=True)
        )
    )
