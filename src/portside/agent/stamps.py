"""Times as the API writes them, to and from seconds."""

from __future__ import annotations

from datetime import UTC, datetime


def seconds(stamp: str) -> float:
    """RFC 3339 as seconds since the epoch."""
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def stamp(nanoseconds: int | float) -> str:
    """RFC 3339 with whole seconds, of nanoseconds since the epoch."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
