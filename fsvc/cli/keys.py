"""Keys on the command line: ``VALUE``, ``VALUE,VALUE`` for a key of several columns, ``LOW..HIGH``."""

from __future__ import annotations

from typing import Any

__all__ = ["KEY_HELP", "key_options"]

KEY_HELP = "A row by its key: VALUE, or VALUE,VALUE for a key of several columns; or LOW..HIGH for a range."


def key_options(text: str) -> dict[str, Any]:
    """What a key on the command line means, as ``Repository.blame`` takes it.

    Either end of a range may be left out. Two commas stand for one in a value.
    """
    low, dots, high = text.partition("..")
    if dots:
        return {"between": (low or None, high or None)}
    held = "\0"
    return {"key": tuple(part.replace(held, ",") for part in text.replace(",,", held).split(","))}
