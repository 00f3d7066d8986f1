"""The clock on the wall as a test sets it: what commits and refs write as the time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import pytest


class Clock:
    """A clock that stands still unless told; as a function it gives seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


START = datetime(2026, 11, 1, tzinfo=UTC)


class Wall(datetime):
    """What ``datetime`` is to the program, with a clock of the test's.

    ``tick`` is how many microseconds pass whenever somebody looks: with 1 no two commits have the same time, and
    a sequence of operations gives the same ids whenever it is run again.
    """

    clock = Clock()
    tick = 0
    _ticks = 0

    @classmethod
    def show(cls, clock: Clock, *, tick: int = 0) -> None:
        """Go by this clock from now on."""
        cls.clock, cls.tick, cls._ticks = clock, tick, 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        cls._ticks += cls.tick
        return (START + timedelta(seconds=cls.clock.now, microseconds=cls._ticks)).astimezone(tz)


def hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the program go by the clock on this wall."""
    Wall.show(Clock())
    monkeypatch.setattr("fsvc.engine.clock.datetime", Wall)
