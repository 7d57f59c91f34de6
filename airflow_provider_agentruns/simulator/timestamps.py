"""Times as the vendors write them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at: float) -> str:
    """Return seconds since the epoch as ISO 8601, UTC, with milliseconds and a `Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
