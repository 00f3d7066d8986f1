"""The files of a repository: from an id to the key under which it lies in the store, and back."""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "commit_key",
    "commit_of",
    "index_key",
    "index_of",
    "manifest_key",
    "manifest_of",
    "pack_key",
    "pack_of",
]

_COMMIT: Final = re.compile(r"commits/([0-9a-f]{64})\.json")
_MANIFEST: Final = re.compile(r"manifests/([0-9a-f]{64})(?:/[0-9a-f]{32})?\.man")
_INDEX: Final = re.compile(r"index/([0-9a-f]{64})\.idx")
_PACK: Final = re.compile(r"packs/([0-9a-f]{64})\.pack")


def commit_key(commit: str) -> str:
    """Where a commit lies in the store."""
    return f"commits/{commit}.json"


def manifest_key(snapshot: str, copy: str = "") -> str:
    """Where a stored manifest lies in the store, or another copy of it, under a random name."""
    return f"manifests/{snapshot}/{copy}.man" if copy else f"manifests/{snapshot}.man"


def index_key(name: str) -> str:
    """Where an index file lies in the store."""
    return f"index/{name}.idx"


def pack_key(name: str) -> str:
    """Where a pack lies in the store."""
    return f"packs/{name}.pack"


def commit_of(key: str) -> str | None:
    """The id of the commit that lies under a key; None for other files."""
    return _id(_COMMIT, key)


def manifest_of(key: str) -> str | None:
    """The id of the snapshot whose manifest lies under a key; None for other files."""
    return _id(_MANIFEST, key)


def index_of(key: str) -> str | None:
    """The id of the index file that lies under a key; None for other files."""
    return _id(_INDEX, key)


def pack_of(key: str) -> str | None:
    """The id of the pack that lies under a key; None for other files."""
    return _id(_PACK, key)


def _id(form: re.Pattern[str], key: str) -> str | None:
    match = form.fullmatch(key)
    return None if match is None else match[1]
