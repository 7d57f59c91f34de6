"""
Several triggerers on one key that do not know of each other: ``python -m benchmarks.shared_key``.

No HTTP and a simulated clock. Each triggerer is always busy and drives a real :class:`PollBudget`, as the
scheduler does; the vendor counts.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.table import Table

from airflow_provider_agentruns.client.exceptions import RateLimitError
from airflow_provider_agentruns.client.retry import RATE_LIMIT_WINDOW, rate_limit_pause
from airflow_provider_agentruns.polling.budget import PollBudget

LIMIT = 100
POLLS_PER_MINUTE = 80
_LATENCY = (0.05, 0.3)
_LATEST_START = 30.0
_MINUTE = 60.0


class Vendor(Protocol):
    """One vendor's rate limit for the key."""

    def ask(self, now: float) -> float:
        """Return seconds until a request would be accepted; 0 means that this one was."""
        ...


@dataclass
class SlidingWindow:
    """
    Accept a request if the 60 seconds before it hold less than the limit.

    :param counts_refused: refused requests take a place in the window, too.
    """

    counts_refused: bool = False
    _counted: deque[float] = field(default_factory=deque)

    def ask(self, now: float) -> float:
        """Return seconds until a request would be accepted; 0 means that this one was."""
        while self._counted and self._counted[0] <= now - RATE_LIMIT_WINDOW:
            self._counted.popleft()
        is_accepted = len(self._counted) < LIMIT
        if is_accepted or self.counts_refused:
            self._counted.append(now)
        return 0.0 if is_accepted else self._counted[-LIMIT] + RATE_LIMIT_WINDOW - now


@dataclass
class FixedWindow:
    """Accept so many requests from each full minute to the next."""

    _minute: float = -1.0
    _accepted: int = 0

    def ask(self, now: float) -> float:
        """Return seconds until a request would be accepted; 0 means that this one was."""
        minute = now // RATE_LIMIT_WINDOW
        if minute != self._minute:
            self._minute, self._accepted = minute, 0
        if self._accepted < LIMIT:
            self._accepted += 1
            return 0.0
        return (minute + 1) * RATE_LIMIT_WINDOW - now


@dataclass(frozen=True)
class Case:
    """
    What happens on one key.

    :param together: triggerers that start within the first half minute.
    :param joins: when others start, seconds.
    :param first_leaves: when the first triggerer goes, seconds, or None if it stays.
    :param retry_after: whether the vendor says when to come back.
    """

    name: str
    together: int
    joins: tuple[float, ...] = ()
    first_leaves: float | None = None
    retry_after: bool = False
    vendor: Callable[[], Vendor] = SlidingWindow


class Request(NamedTuple):
    """
    A poll that reached the vendor.

    :param at: seconds since the first triggerer could start.
    """

    at: float
    triggerer: int
    is_accepted: bool


@dataclass
class _Triggerer:
    budget: PollBudget
    leaves: float


def simulate(case: Case, seed: int, *, minutes: float) -> list[Request]:
    """Return what the vendor saw of a case, in its order."""
    rng = random.Random(seed)  # noqa: S311 - draws latencies, guards nothing
    vendor = case.vendor()
    starts = [rng.uniform(0, _LATEST_START) for _ in range(case.together)] + list(case.joins)
    leaves = [case.first_leaves] + [None] * (len(starts) - 1)
    triggerers = [
        _Triggerer(PollBudget(POLLS_PER_MINUTE, start), minutes * _MINUTE if end is None else end)
        for start, end in zip(starts, leaves, strict=True)
    ]
    requests: list[Request] = []
    numbers = itertools.count()
    # What happens next, soonest first: a triggerer looks, a poll arrives, or a refusal comes back.
    events: list[tuple[float, int, int, Callable[[int, float], None]]] = []

    def later(at: float, number: int, event: Callable[[int, float], None]) -> None:
        heapq.heappush(events, (at, next(numbers), number, event))

    def look(number: int, now: float) -> None:
        triggerer = triggerers[number]
        if now >= triggerer.leaves:
            return
        wait = triggerer.budget.wait(now)
        if wait <= 0:
            triggerer.budget.spend(now)
            later(now + rng.uniform(*_LATENCY) / 2, number, arrive)
            wait = triggerer.budget.wait(now)
        later(now + max(wait, 1e-6), number, look)

    def arrive(number: int, now: float) -> None:
        wait = vendor.ask(now)
        requests.append(Request(now, number, wait == 0))
        if wait > 0:
            error = RateLimitError("", status_code=429, retry_after=wait if case.retry_after else None)

            def refuse(number: int, now: float) -> None:
                triggerers[number].budget.refuse(now, rate_limit_pause(error, rng))

            later(now + rng.uniform(*_LATENCY) / 2, number, refuse)

    for number, start in enumerate(starts):
        later(start, number, look)
    while events:
        now, _, number, event = heapq.heappop(events)
        event(number, now)
    return requests


class Use(NamedTuple):
    """
    How the key was used in some time.

    :param per_minute: accepted requests.
    :param refused: share of all requests.
    :param fairness: the smallest triggerer's accepted requests in those of the largest.
    """

    per_minute: float
    refused: float
    fairness: float


def use(requests: Sequence[Request], first: float, last: float) -> Use:
    """Return how the key was used from one minute to another."""
    there = [request for request in requests if first * _MINUTE <= request.at < last * _MINUTE]
    accepted = Counter(request.triggerer for request in there if request.is_accepted)
    shares = accepted.values()
    return Use(
        per_minute=sum(shares) / (last - first),
        refused=1 - sum(shares) / len(there),
        fairness=min(shares) / max(shares),
    )


def mean_use(case: Case, *, seeds: int, first: float, last: float) -> Use:
    """Return how the key is used on average over seeds, from one minute to another."""
    uses = [use(simulate(case, seed, minutes=last), first, last) for seed in range(seeds)]
    return Use(*(fmean(figures) for figures in zip(*uses, strict=True)))


CASES = (
    Case("two", 2),
    Case("three", 3),
    Case("four", 4),
    Case("two, Retry-After", 2, retry_after=True),
    Case("three, Retry-After", 3, retry_after=True),
    Case("two, fixed window", 2, vendor=FixedWindow),
    Case("two, refused ones count", 2, vendor=lambda: SlidingWindow(counts_refused=True)),
    Case("one, joined by one", 1, joins=(600.0,)),
    Case("two, joined by one", 2, joins=(600.0,)),
    Case("two, of which one leaves", 2, first_leaves=600.0),
    Case("two, of which one leaves, Retry-After", 2, first_leaves=600.0, retry_after=True),
)
SPANS = ((2, 30), (15, 45), (30, 120))


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds: int = parser.parse_args().seeds
    title = f"accepted a minute, of {LIMIT} / refused / smallest share in the largest"
    table = Table(
        "triggerers on one key", *(f"minutes {first} to {last}" for first, last in SPANS), title=title
    )
    for case in CASES:
        uses = [mean_use(case, seeds=seeds, first=first, last=last) for first, last in SPANS]
        cells = (f"{there.per_minute:.1f} / {there.refused:.1%} / {there.fairness:.2f}" for there in uses)
        table.add_row(case.name, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    _main()
