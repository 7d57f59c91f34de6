"""Stop polling a vendor that does not answer at all, but for single probes."""

from __future__ import annotations

import random

_FAILURES_TO_OPEN = 5
_FIRST_WAIT = 2.0
_LONGEST_WAIT = 30.0


class Circuit:
    """
    Count the failures of a key's polls in a row; after a few, let only one probe at a time through.

    Times are seconds on one monotonic clock.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0
        self._next_probe = 0.0

    @property
    def is_open(self) -> bool:
        """Tell whether only probes go."""
        return self._failures >= _FAILURES_TO_OPEN

    def wait(self, now: float) -> float:
        """Return seconds until the next probe may go; zero or less means now."""
        return self._next_probe - now if self.is_open else 0.0

    def failed(self, now: float) -> bool:
        """Take note of a poll that got no answer, and return whether it begins a time of probes."""
        if self.is_open and now < self._next_probe:
            # It was on its way before the last probe, and tells nothing that is not known.
            return False
        self._failures += 1
        probes = self._failures - _FAILURES_TO_OPEN + 1
        if probes > 0:
            # Half of it is certain: a probe at once after a failure would be no probe.
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(probes - 1, 32))
            self._next_probe = now + self._rng.uniform(wait / 2, wait)
        return probes == 1

    def succeeded(self) -> bool:
        """Take note of an answer, and return whether it ends a time of probes."""
        was_open = self.is_open
        self._failures = 0
        return was_open
