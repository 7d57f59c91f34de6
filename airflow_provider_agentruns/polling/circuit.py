"""Stop polling a vendor that does not answer at all, but for single probes."""

from __future__ import annotations

import random
from typing import NamedTuple

_FAILURES_TO_OPEN = 8
_FIRST_WAIT = 2.0
_LONGEST_WAIT = 30.0
# A few failures in a row may be of runs that fail for reasons of their own; the first probe then shows it.
_FAILED_PROBES_TO_TELL = 2


class Outage(NamedTuple):
    """
    A time in which no poll was answered.

    :param began: when the first poll failed, seconds on the circuit's clock.
    :param was_told: whether it lasted long enough to be worth a line of the log.
    """

    began: float
    was_told: bool


class Circuit:
    """
    Count the failures of a key's polls in a row; after a few, let only one probe at a time through.

    Times are seconds on one monotonic clock.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0
        self._began = 0.0
        self._next_probe = 0.0

    @property
    def is_open(self) -> bool:
        """Tell whether only probes go."""
        return self._failures >= _FAILURES_TO_OPEN

    @property
    def _failed_probes(self) -> int:
        return self._failures - _FAILURES_TO_OPEN

    def wait(self, now: float) -> float:
        """Return seconds until the next probe may go; zero or less means now."""
        return self._next_probe - now if self.is_open else 0.0

    def failed(self, now: float) -> bool:
        """Take note of a poll that got no answer, and return whether that is worth a line of the log."""
        if self.is_open and now < self._next_probe:
            # It was on its way before the last probe, and tells nothing that is not known.
            return False
        if not self._failures:
            self._began = now
        self._failures += 1
        if self.is_open:
            # Half of it is certain: a probe at once after a failure would be no probe.
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(self._failed_probes, 32))
            self._next_probe = now + self._rng.uniform(wait / 2, wait)
        return self._failed_probes == _FAILED_PROBES_TO_TELL

    def succeeded(self) -> Outage | None:
        """Take note of an answer, and return the time of probes that it ends, if it ends one."""
        outage = Outage(self._began, self._failed_probes >= _FAILED_PROBES_TO_TELL) if self.is_open else None
        self._failures = 0
        return outage
