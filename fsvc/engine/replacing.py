"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fsvc.errors import StorageError

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new name beside ``path`` to write to; it takes the place of ``path`` when the block is left well.

    Raises StorageError where the file system refuses.
    """
    target = Path(path)
    partial = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield partial
        partial.replace(target)
    except OSError as error:
        # What pyarrow raises names the unfinished file in its text; the number alone says enough.
        reason = os.strerror(error.errno) if error.errno else error
        raise StorageError(
            f"{target} cannot be written: {reason}",
            hint="check who may write to that directory, and that there is space; nothing was replaced",
        ) from error
    finally:
        with suppress(OSError):  # what kept it from being written may keep it from being removed
            partial.unlink(missing_ok=True)
