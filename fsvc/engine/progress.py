"""How long work tells how far it is: a callback, drawn by whoever has a screen."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Called with the name of a phase, how much of it is done, and of how much (None: unknown)."""

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """Take note of it; called from the thread that asked for the work."""


def silent(phase: str, done: int, total: int | None) -> None:
    """Tell nobody."""
