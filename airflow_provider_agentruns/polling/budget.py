"""How many polls one API key may send, and when the next one may go."""

from __future__ import annotations

from airflow_provider_agentruns.client.retry import RATE_LIMIT_WINDOW

_BURST_SHARE = 8


class PollBudget:
    """
    Tell when the next poll may go, so that no window of 60 seconds holds more than the budget.

    Polls are spaced evenly after a small burst: a budget that is spent at once would leave every run
    unwatched for the rest of the minute.

    :param polls_per_minute: polls in any 60 seconds.
    """

    def __init__(self, polls_per_minute: int) -> None:
        burst = max(1, polls_per_minute // _BURST_SHARE)
        # In a window fall the burst and as many evenly spaced polls as make up the rest.
        self._spacing = RATE_LIMIT_WINDOW / max(1, polls_per_minute - burst)
        self._tolerance = (burst - 1) * self._spacing
        self._next_even = float("-inf")
        self._paused_until = float("-inf")

    def wait(self, now: float) -> float:
        """
        Return seconds until a poll may go; zero or less means now.

        :param now: seconds on a monotonic clock, here and below.
        """
        return max(self._next_even - self._tolerance, self._paused_until) - now

    def spend(self, now: float) -> None:
        """Count a poll as sent."""
        self._next_even = max(self._next_even, now) + self._spacing

    def pause(self, until: float) -> None:
        """Let no poll go before a time."""
        self._paused_until = max(self._paused_until, until)
