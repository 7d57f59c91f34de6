"""The vendors' limit: so many requests in any window of so many seconds, counted per key."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

WINDOW_SECONDS = 60.0


@dataclass
class SlidingWindow:
    """Count accepted requests per name.

    A refused request is not counted, so a client that hammers gets through as soon as the window allows.

    :param limit: requests in any window; 0 lifts the limit.
    """

    limit: int
    window_seconds: float = WINDOW_SECONDS
    _accepted: defaultdict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def allow(self, name: str, now: float) -> bool:
        """Count a request of `name` at `now` (seconds) and say whether it is within the limit."""
        if not self.limit:
            return True
        accepted = self._accepted[name]
        while accepted and accepted[0] <= now - self.window_seconds:
            accepted.popleft()
        if len(accepted) >= self.limit:
            return False
        accepted.append(now)
        return True
