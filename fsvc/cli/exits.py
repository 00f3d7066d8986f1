"""What the process ends with: stable numbers that scripts may test."""

from __future__ import annotations

from fsvc.errors import Conflict, Corruption, FsvcError, InvalidUse, NotFound

__all__ = [
    "EXIT_CONFLICT",
    "EXIT_CORRUPTION",
    "EXIT_DIFFERENCE",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_FOUND",
    "EXIT_PIPE",
    "EXIT_USAGE",
    "exit_code",
]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DIFFERENCE = 3
EXIT_NOT_FOUND = 4
EXIT_CONFLICT = 5
EXIT_CORRUPTION = 6
EXIT_INTERRUPTED = 128 + 2
"""After Ctrl-C, as shells number signals."""
EXIT_PIPE = 128 + 13
"""After whoever read the output has gone."""


def exit_code(error: FsvcError) -> int:
    """What the process ends with after an error."""
    for kind, code in (
        (InvalidUse, EXIT_USAGE),
        (NotFound, EXIT_NOT_FOUND),
        (Conflict, EXIT_CONFLICT),
        (Corruption, EXIT_CORRUPTION),
    ):
        if isinstance(error, kind):
            return code
    return EXIT_FAILED
