"""A progress bar on stderr, for work that takes longer than a moment."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from fsvc.cli.output import clean, is_terminal

if TYPE_CHECKING:
    from fsvc.engine.progress import Progress

__all__ = ["bar"]

_PATIENCE = 0.4
"""Seconds that work may take before a bar is drawn: a bar that only flashes tells nothing."""


@contextmanager
def bar(verb: str) -> Iterator[Progress]:
    """The engine's progress callback, drawn while the block runs; silent where stderr is no terminal."""
    if not is_terminal(sys.stderr):
        yield _silent
        return
    with ExitStack() as stack:
        yield _Bar(verb, stack)


def _silent(phase: str, done: int, total: int | None) -> None:
    """Tell nobody."""


class _Bar:
    """Draws one bar per phase; the library that draws is imported with the first one."""

    def __init__(self, verb: str, stack: ExitStack) -> None:
        self._verb = verb
        self._stack = stack
        self._began = time.monotonic()
        self._drawn: Any = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        if self._drawn is None:
            if time.monotonic() - self._began < _PATIENCE:
                return
            self._drawn = self._start()
        if phase not in self._tasks:
            self._tasks[phase] = self._drawn.add_task(f"{self._verb} {clean(phase)}", total=total)
        self._drawn.update(self._tasks[phase], completed=done, total=total)

    def _start(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        return self._stack.enter_context(
            Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
        )
