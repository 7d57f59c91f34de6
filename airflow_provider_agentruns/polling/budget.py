"""How many polls one API key may send, and when the next one may go."""

from __future__ import annotations

from collections import deque

from airflow_provider_agentruns.client.retry import RATE_LIMIT_WINDOW

_YOUNG_SHARE = 0.7
_BURST_SHARE = 20
# While young, as few at once as keep up with a pace of many polls a second.
_YOUNG_BURST_SHARE = 1000
# After a 429: the level is what the vendor took in the last minute, less a little for the noise of others,
# and not below this share of the level before: a burst of others, or our own idleness, tells little.
_KEPT_SHARE = 0.98
_LEVEL_FLOOR = 2 / 3
_SMALLEST_SHARE = 0.1
# Refused once at a level that was right for so long, we keep it: it was somebody's burst or attempt.
_TRUSTED_SECONDS = 300.0
# From half the rate, the whole budget would be back after so many seconds.
_RECOVERY_SECONDS = 30.0
# Trying for more costs a pause if others are still there: it waits for so many pauses' time.
_HOLD_PAUSES = 20.0
_SHORTEST_HOLD = 180.0
_LONGEST_HOLD = 3600.0
_MOST_DOUBLINGS = 2
# Then the rate grows, slowly at first: by the whole budget in so many seconds.
_GROWTH_SECONDS = 600.0
_MUCH_MORE = 0.2


class PollBudget:
    """
    Tell when the next poll may go, so that no window of 60 seconds holds more than the budget.

    Polls are spaced evenly but for a small burst after a quiet time: a budget that is spent at once would
    leave every run unwatched for the rest of the minute. The first minute is slower, because a process that
    was just restarted does not know what it sent before.

    A 429 halves the rate, which soon comes back to a level: what the vendor last took from us in a minute,
    for others may use the same key. The level is held for a long time, and longer each time that trying for
    more is refused.

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
        self._sent_since_pause = 0
        self._level: float | None = None
        self._halved = 0.0
        self._grows_from = now
        self._doublings = 0

    def rate(self, now: float) -> float:
        """Return polls per minute that may go now."""
        budget = float(self.polls_per_minute)
        most = _YOUNG_SHARE * budget if self._is_young(now) else budget
        if self._level is None:
            return max(1.0, most)
        recovered = self._halved + max(0.0, now - self._paused_until) * budget / _RECOVERY_SECONDS
        grown = budget * (max(0.0, now - self._grows_from) / _GROWTH_SECONDS) ** 3
        return max(1.0, min(most, recovered, self._level + grown))

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
        allowed = self._next_even - saved * spacing
        self._forget(now)
        kept = max(1, self.polls_per_minute - polls + 1)
        if len(self._sent) >= kept:
            window_allows = self._sent[-kept] + RATE_LIMIT_WINDOW
            # Time that the window kept us waiting saves nothing up, or each burst would bring the next.
            self._next_even += max(0.0, window_allows - allowed)
            allowed = max(allowed, window_allows)
        return max(allowed, self._paused_until) - now

    def spend(self, now: float) -> None:
        """Count a poll as sent."""
        _, spacing = self._pace(now)
        self._next_even = max(self._next_even, now) + spacing
        self._sent.append(now)
        self._sent_since_pause += 1

    def refuse(self, now: float, pause: float) -> None:
        """
        Take note of a 429.

        :param pause: seconds in which no poll may go.
        """
        if now >= self._paused_until:
            # Polls that were on their way together are refused together: they count once. So does one long
            # refusal, in which the first poll after each pause is refused again.
            if self._level is None or self._sent_since_pause > 1:
                self._lower(now)
            hold = max(_SHORTEST_HOLD, _HOLD_PAUSES * pause) * 2.0**self._doublings
            self._grows_from = now + pause + min(_LONGEST_HOLD, hold)
            self._sent_since_pause = 0
        self._paused_until = max(self._paused_until, now + pause)

    def sent_lately(self, now: float) -> int:
        """Return how many polls were sent in the last 60 seconds."""
        self._forget(now)
        return len(self._sent)

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing would be lost with this budget."""
        return now > self._paused_until + RATE_LIMIT_WINDOW and not self.sent_lately(now)

    def _lower(self, now: float) -> None:
        rate, before = self.rate(now), self._level or 0.0
        self._halved = rate / 2
        if now <= self._grows_from and now - self._paused_until >= _TRUSTED_SECONDS:
            return
        used = max(rate, before)
        # One of those that were sent is the one refused.
        taken = min(used, max(self.sent_lately(now) - 1, _LEVEL_FLOOR * used))
        self._level = max(_SMALLEST_SHARE * self.polls_per_minute, _KEPT_SHARE * taken)
        if self._level > before + _MUCH_MORE * self.polls_per_minute:
            self._doublings = 0
        elif now > self._grows_from:
            self._doublings = min(_MOST_DOUBLINGS, self._doublings + 1)

    def _is_young(self, now: float) -> bool:
        return now - self._born < RATE_LIMIT_WINDOW

    def _pace(self, now: float) -> tuple[float, float]:
        """Return how many polls may go at once, and the seconds between polls after them."""
        rate = self.rate(now)
        burst = max(1.0, rate // (_YOUNG_BURST_SHARE if self._is_young(now) else _BURST_SHARE))
        return burst, RATE_LIMIT_WINDOW / rate

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0] <= now - RATE_LIMIT_WINDOW:
            self._sent.popleft()
