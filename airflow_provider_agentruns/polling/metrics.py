"""What happens under one API key, told once a minute: in a line of the log and as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum

Emit = Callable[[str, float, dict[str, str]], None]
"""Takes a metric: its name, a value, tags."""

_PERIOD = 60.0


class PollResult(StrEnum):
    """What came of one poll."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"


class PollMetrics:
    """
    Count the polls of a key, and how late ends were seen.

    Times are seconds on one monotonic clock.

    :param key: names the key without showing it.
    :param now: the time of birth.
    :param emit: takes the metrics, None to give them to nobody.
    """

    def __init__(self, key: str, now: float, emit: Emit | None = None) -> None:
        self.key = key
        self.emit = emit
        self._since = now
        self._polls: Counter[PollResult] = Counter()
        self._lateness: list[float] = []

    def polled(self, result: PollResult) -> None:
        """Count a poll."""
        self._polls[result] += 1

    def saw_end(self, lateness: float) -> None:
        """Take note of how many seconds after its end, by the vendor's word, a run was seen to be over."""
        self._lateness.append(lateness)

    def report(self, now: float, *, waiting: int, budget: float, next_poll: float | None) -> str | None:
        """
        Return a line about the last minute and emit its metrics; None before the minute is over.

        :param waiting: runs that wait now.
        :param budget: polls per minute that may go now.
        :param next_poll: seconds until the next poll, None if none is planned.
        """
        seconds = now - self._since
        if seconds < _PERIOD:
            return None
        polls = self._polls.total()
        late = sum(self._lateness) / len(self._lateness) if self._lateness else None
        line = (
            f"{self.key}: {waiting} runs waiting, {polls} polls in {seconds:.0f} s "
            f"({self._polls[PollResult.REFUSED]} refused, {self._polls[PollResult.FAILED]} failed), "
            f"{len(self._lateness)} ends seen"
            + (f", {late:.1f} s late on average" if late is not None else "")
            + (f", next poll in {max(0.0, next_poll):.1f} s" if next_poll is not None else "")
        )
        if self.emit is not None:
            tags = {"key": self.key}
            self.emit("waiting_runs", waiting, tags)
            self.emit("budget_use", polls * _PERIOD / seconds / budget, tags)
            for result in PollResult:
                self.emit("polls", self._polls[result], {**tags, "result": result.value})
            if late is not None:
                self.emit("lateness", late, tags)
        self._since, self._polls, self._lateness = now, Counter(), []
        return line
