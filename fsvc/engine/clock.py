"""The clock: times as commits and refs write them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from fsvc.errors import InvalidUse

__all__ = ["given_time", "teller", "timestamp"]


def timestamp(now: datetime | None = None) -> str:
    """A time as commits and refs write it: RFC 3339, UTC, microseconds. Now, unless given."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def given_time(time: str) -> str:
    """A time given by the caller, in the form that commits have. Raises InvalidUse."""
    try:
        moment = datetime.fromisoformat(time)
    except (TypeError, ValueError):
        raise InvalidUse(f"{time!r} is not a time", hint="write it like 2026-11-01T00:00:00Z") from None
    if moment.tzinfo is None:
        raise InvalidUse(f"the time {time!r} has no zone", hint="end it with Z or +02:00")
    return timestamp(moment)


def teller(time: str | None) -> Callable[[], str]:
    """Who is asked for the time of a commit: tells the one given by the caller, else what it is then."""
    if time is None:
        return timestamp
    stamp = given_time(time)
    return lambda: stamp
