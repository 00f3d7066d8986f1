"""The clock: times as commits and refs write them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["timestamp"]


def timestamp(now: datetime | None = None) -> str:
    """A time as commits and refs write it: RFC 3339, UTC, microseconds. Now, unless given."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
