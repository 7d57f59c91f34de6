"""When to send a request again: pure decisions, no clock and no sleep."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from airflow_provider_agentruns.client.exceptions import APIConnectionError, APIError, RateLimitError

MAX_RETRY_AFTER = 3600.0
_SHORTEST_PAUSE = 1.0
RATE_LIMIT_WINDOW = 60.0
"""Seconds over which vendors count requests."""
JITTER = random.Random()  # noqa: S311 - spreads, guards nothing
"""Spreads retries and polls. One for all, since each takes 2.5 kB."""
# Forks of a process must not wait alike. Not where there are no forks.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=JITTER.seed)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """
    Return the seconds to wait that a ``Retry-After`` header asks for, or None if it says nothing usable.

    :param value: seconds, or an HTTP date.
    :param now: seconds since the epoch.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        seconds = float(text)
    else:
        try:
            date = parsedate_to_datetime(text)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError):
            return None
    # One wrong header must not stop an API key for days.
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def backoff(attempt: int, *, base: float, cap: float, rng: random.Random) -> float:
    """
    Return seconds to wait after a failure: exponential, with full jitter.

    :param attempt: failures so far in a row, from 1.
    :param base: upper end of the first wait, seconds.
    :param cap: upper end of every wait, seconds.
    """
    return rng.uniform(0, min(cap, base * 2.0 ** min(attempt - 1, 32)))


def rate_limit_pause(error: RateLimitError, rng: random.Random) -> float:
    """
    Return seconds to leave an API key alone after a 429: as asked, else until its window must be over.

    Never less than a second: a ``Retry-After`` of 0, or a date that has passed, asks for no storm.
    """
    wait = RATE_LIMIT_WINDOW if error.retry_after is None else max(error.retry_after, _SHORTEST_PAUSE)
    return wait * rng.uniform(1.0, 1.1)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    How often a request is sent, and how long to wait in between.

    :param attempts: sends at most, the first included.
    :param base: upper end of the first wait, seconds.
    :param cap: upper end of every wait, seconds.
    :param rate_limited_attempts: sends at most when the vendor refuses because of its rate limit.
    :param longest_retry_after: a ``Retry-After`` of more seconds is not waited for.
    """

    attempts: int
    base: float = 1.0
    cap: float = 30.0
    rate_limited_attempts: int = 1
    longest_retry_after: float = 300.0

    def wait(self, error: APIError, attempt: int, rng: random.Random, *, is_idempotent: bool) -> float | None:
        """
        Return seconds to wait before sending again, or None to give up.

        :param attempt: sends so far.
        :param is_idempotent: whether sending twice does no harm.
        """
        if isinstance(error, RateLimitError):
            # Refused before it was accepted: safe to repeat, whatever it starts.
            wait = rate_limit_pause(error, rng)
            give_up = attempt >= self.rate_limited_attempts or wait > self.longest_retry_after
            return None if give_up else wait
        if attempt >= self.attempts or not error.is_transient:
            return None
        never_left = isinstance(error, APIConnectionError) and not error.may_have_been_sent
        if not (is_idempotent or never_left):
            return None
        return backoff(attempt, base=self.base, cap=self.cap, rng=rng)


ONCE = RetryPolicy(attempts=1)
"""For polls: the scheduler decides when to ask again, for all runs of a key."""

ON_WORKER = RetryPolicy(attempts=6, rate_limited_attempts=10)
"""For starts and results, which a task waits for."""
