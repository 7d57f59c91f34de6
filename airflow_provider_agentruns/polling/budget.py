"""How many polls one API key may send, and when the next one may go."""

from __future__ import annotations

from collections import deque

from airflow_provider_agentruns.client.retry import RATE_LIMIT_WINDOW

_BURST_SHARE = 20
# While young, as few at once as keep up with a pace of many polls a second.
_YOUNG_BURST_SHARE = 3000
# After a 429: what others leave us is what we had when it came, less a little for their changes.
_KEPT_SHARE = 0.95
_RECOVERY_SECONDS = 60.0
# Beyond that the rate grows slowly at first, so that the next 429 is minutes away, and ever faster, since
# others may have gone: the whole budget is back after so many seconds without a 429.
_PROBING_SECONDS = 600.0
# Refused again within a minute, we still took too much; but a long refusal must not leave us with nothing.
_CUT = 0.85
_SMALLEST_SHARE = 0.1


class PollBudget:
    """
    Tell when the next poll may go, so that no window of 60 seconds holds more than the budget.

    Polls are spaced evenly after a small burst: a budget that is spent at once would leave every run
    unwatched for the rest of the minute. The first minute is slow, because a process that was just
    restarted does not know what it sent before. A 429 halves the rate; it recovers steadily to what was
    held when the vendor refused, and slowly beyond, since another process may be using the same key.

    Times are seconds on one monotonic clock.

    :param polls_per_minute: polls in any 60 seconds, at most.
    :param now: the time of birth.
    """

    def __init__(self, polls_per_minute: int, now: float) -> None:
        self.polls_per_minute = polls_per_minute
        self._born = now
        self._sent: deque[float] = deque()
        # The first poll keeps its distance from the last one of a process before.
        self._next_even = now + RATE_LIMIT_WINDOW / polls_per_minute
        self._paused_until = now
        self._rate_after_refusal: float | None = None
        self._remembered: float | None = None

    def rate(self, now: float) -> float:
        """Return polls per minute that may go now."""
        limit = float(self.polls_per_minute)
        if self._is_young(now):
            limit = max(1.0, limit / 2)
        if self._rate_after_refusal is None or self._remembered is None:
            return limit
        elapsed = max(0.0, now - self._paused_until)
        recovered = self._rate_after_refusal + elapsed * limit / _RECOVERY_SECONDS
        if recovered > self._remembered:
            seconds_to_remembered = (self._remembered - self._rate_after_refusal) * _RECOVERY_SECONDS / limit
            probing = (elapsed - max(0.0, seconds_to_remembered)) / _PROBING_SECONDS
            recovered = max(self._remembered, self._rate_after_refusal) + limit * probing**2
        return max(1.0, min(limit, recovered))

    def wait(self, now: float, polls: int = 1) -> float:
        """
        Return seconds until a poll may go; zero or less means now.

        :param polls: how many are to go one right after the other, such as a listing and the poll that
            confirms it. More than the pace has at once go when the first may; the next then waits longer.
        """
        burst, spacing = self._pace(now)
        saved = burst - polls
        if not self._is_young(now):
            saved = max(0.0, saved)
        allowed = max(self._next_even - saved * spacing, self._paused_until)
        self._forget(now)
        kept = max(1, self.polls_per_minute - polls + 1)
        if len(self._sent) >= kept:
            allowed = max(allowed, self._sent[-kept] + RATE_LIMIT_WINDOW)
        return allowed - now

    def spend(self, now: float) -> None:
        """Count a poll as sent."""
        _, spacing = self._pace(now)
        self._next_even = max(self._next_even, now) + spacing
        self._sent.append(now)

    def refuse(self, now: float, pause: float) -> None:
        """
        Take note of a 429.

        :param pause: seconds in which no poll may go.
        """
        if now >= self._paused_until:
            # Polls that were on their way together are refused together: they count once.
            rate = self.rate(now)
            self._rate_after_refusal = max(1.0, rate / 2)
            # Who used most of its rate for a whole minute knows from the refusal what others leave of it.
            # Else it was somebody's burst, or one long refusal, and we come back to what we knew.
            held = self.sent_lately(now) - 1
            if held > rate / 2 and now - self._paused_until >= RATE_LIMIT_WINDOW:
                self._remembered = _KEPT_SHARE * held
            elif self._remembered is None:
                self._remembered = _KEPT_SHARE * rate
            else:
                smallest = _SMALLEST_SHARE * self.polls_per_minute
                self._remembered = max(smallest, _CUT * self._remembered)
        self._paused_until = max(self._paused_until, now + pause)

    def sent_lately(self, now: float) -> int:
        """Return how many polls were sent in the last 60 seconds."""
        self._forget(now)
        return len(self._sent)

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing would be lost with this budget."""
        return now > self._paused_until + RATE_LIMIT_WINDOW and not self.sent_lately(now)

    def _is_young(self, now: float) -> bool:
        return now - self._born < RATE_LIMIT_WINDOW

    def _pace(self, now: float) -> tuple[float, float]:
        """Return how many polls may go at once, and the seconds between polls after them."""
        rate = self.rate(now)
        burst = max(1.0, rate // (_YOUNG_BURST_SHARE if self._is_young(now) else _BURST_SHARE))
        # After a burst the next window begins with its first poll, so one space more makes up the rest.
        return burst, RATE_LIMIT_WINDOW / (rate - burst + 1)

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0] <= now - RATE_LIMIT_WINDOW:
            self._sent.popleft()
