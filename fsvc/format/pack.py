"""Packs: files of many objects, written once, each carrying its own index as trailer.

A pack is the magic, the objects' bytes one after the other, the trailer (an object table without
pack names), the trailer's length and the closing magic; docs/format.md, "Pack". Its name is the
BLAKE3 of all of it, so a pack proves itself, and an index can be rebuilt from packs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from blake3 import blake3

from fsvc.errors import Corruption
from fsvc.format.index import Entry, ObjectTable, write_table

__all__ = ["FOOTER_BYTES", "MAGIC", "finish", "read_trailer", "trailer_length"]

MAGIC = b"FSVCPAK1"
_END = b"FSVCEND1"
FOOTER_BYTES = 16
"""The last bytes of a pack: the trailer's length (8) and the closing magic (8)."""


def finish(
    parts: Sequence[bytes | memoryview], entries: Sequence[Entry], *, compress: bool = False
) -> tuple[str, list[bytes | memoryview]]:
    """A whole pack from the objects' bytes: its id, and the buffers to write one after the other.

    The entries' offsets count from the start of the pack, magic included. ``compress`` is for the trailer.
    """
    trailer = write_table((replace(entry, pack="") for entry in entries), compress=compress)
    # A pack that cannot read its own trailer must never be written.
    if len(ObjectTable(trailer, what="a new pack's trailer")) != len(entries):
        raise Corruption("a new pack's trailer does not hold all of its objects")
    buffers: list[bytes | memoryview] = [MAGIC, *parts, trailer, len(trailer).to_bytes(8, "little") + _END]
    name = blake3()
    for buffer in buffers:
        name.update(buffer)
    return name.hexdigest(), buffers


def trailer_length(footer: bytes, *, what: str) -> int:
    """How many bytes the trailer before a pack's last 16 bytes has."""
    if len(footer) != FOOTER_BYTES or footer[8:] != _END:
        raise Corruption(f"{what} is damaged: it does not end as a pack does")
    return int.from_bytes(footer[:8], "little")


def read_trailer(trailer: bytes | memoryview, *, what: str) -> ObjectTable:
    """The objects of a pack, from its trailer."""
    return ObjectTable(trailer, what=f"the trailer of {what}")
