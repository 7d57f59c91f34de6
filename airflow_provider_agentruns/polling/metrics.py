"""What happens under one API key, told once a minute: in a line of the log and as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

Emit = Callable[[str, float, dict[str, str]], None]
"""Takes a metric: its name, a value, tags."""

_PERIOD = 60.0


class Report(NamedTuple):
    """
    What happened in a minute.

    :param line: for the log.
    :param values: metrics, each with its tags.
    """

    line: str
    values: list[tuple[str, float, dict[str, str]]]


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
    """

    def __init__(self, key: str, now: float) -> None:
        self.key = key
        self._since = now
        self._polls: Counter[PollResult] = Counter()
        self._ends = 0
        self._lateness: list[float] = []

    def polled(self, result: PollResult) -> None:
        """Count a poll."""
        self._polls[result] += 1

    def saw_end(self, lateness: float | None) -> None:
        """
        Take note that a run was seen to be over.

        :param lateness: seconds since its end, by the vendor's word; None if that says nothing of our polls.
        """
        self._ends += 1
        if lateness is not None:
            self._lateness.append(lateness)

    def report(self, now: float, *, waiting: int, budget: float, next_poll: float | None) -> Report | None:
        """
        Return what happened in the last minute; None before it is over.

        :param waiting: runs that wait now.
        :param budget: polls per minute that may go now.
        :param next_poll: seconds until the next poll, None if none is planned.
        """
        seconds = now - self._since
        if seconds < _PERIOD:
            return None
        polls, ends, lateness = self._polls, self._ends, self._lateness
        self._since, self._polls, self._ends, self._lateness = now, Counter(), 0, []
        late = sum(lateness) / len(lateness) if lateness else None
        line = (
            f"{self.key}: {waiting} runs waiting, {polls.total()} polls in {seconds:.0f} s "
            f"({polls[PollResult.REFUSED]} refused, {polls[PollResult.FAILED]} failed), "
            f"{ends} ends seen"
            + (f", {late:.1f} s late on average" if late is not None else "")
            + (f", next poll in {max(0.0, next_poll):.1f} s" if next_poll is not None else "")
        )
        tags = {"key": self.key}
        values = [
            ("waiting_runs", waiting, tags),
            ("budget_use", polls.total() * _PERIOD / seconds / budget, tags),
            *(("polls", polls[result], {**tags, "result": result.value}) for result in PollResult),
        ]
        if late is not None:
            values.append(("lateness", late, tags))
        return Report(line, values)
