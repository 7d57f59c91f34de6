"""
What policies of polling reach under a budget: ``python -m benchmarks.policies [--seeds N]``.

No HTTP and a simulated clock; answers take no time. All runs of a workload begin together, at 0. Ours is the
real order, durations, listings and budget, the budget past its first minute.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import fmean, quantiles
from typing import Any, NamedTuple, cast

from rich.console import Console
from rich.table import Table

from airflow_provider_agentruns.client.calls import Call, Request, Response
from airflow_provider_agentruns.client.models import Run, RunRef, RunStatus
from airflow_provider_agentruns.client.retry import RATE_LIMIT_WINDOW
from airflow_provider_agentruns.polling.budget import PollBudget
from airflow_provider_agentruns.polling.durations import RunDurations
from airflow_provider_agentruns.polling.listings import Listings
from airflow_provider_agentruns.polling.order import WaitingRuns
from airflow_provider_agentruns.polling.poller import RunPoller
from airflow_provider_agentruns.polling.waiting_run import WaitingRun
from airflow_provider_agentruns.vendors.base import BulkPolling, Listing
from benchmarks.workloads import ONE_KIND, THREE_KINDS, WaitedRun, Workload

POLLS_PER_MINUTE = 100
INTERVAL = 2.0
SEEDS = 20
# A thousand runs take a hundred times as long to simulate as ten, and vary far less.
_MANY_RUNS = 1000
_SEEDS_OF_MANY = 10
_EPOCH = datetime.fromtimestamp(0, UTC)


class Watched(NamedTuple):
    """
    How some runs were watched.

    :param lateness: seconds from each run's end to the poll that saw it.
    :param longest_left: the longest time that a run was left alone, in periods of a round robin of the runs
        that waited when that time began.
    """

    lateness: list[float]
    longest_left: float


Policy = Callable[[Sequence[WaitedRun], int], Watched]
"""Watches runs that begin at 0, under a budget of so many polls per minute."""


class _Watch:
    """Polls runs and keeps the record, by their numbers."""

    def __init__(self, runs: Sequence[WaitedRun], polls_per_minute: int) -> None:
        self._runs = runs
        self._spacing = RATE_LIMIT_WINDOW / polls_per_minute
        self._waiting = len(runs)
        self._last = [(0.0, self._period)] * len(runs)
        self._lateness: list[float] = []
        self._longest_left = 0.0

    @property
    def _period(self) -> float:
        return max(self._waiting * self._spacing, INTERVAL)

    def poll(self, number: int, now: float) -> bool:
        """Poll a run, and return whether it has ended."""
        asked, period = self._last[number]
        self._longest_left = max(self._longest_left, (now - asked) / period)
        self._last[number] = (now, self._period)
        late = now - self._runs[number].duration
        if late < 0:
            return False
        self._lateness.append(late)
        self._waiting -= 1
        return True

    def record(self) -> Watched:
        """Return how the runs were watched."""
        return Watched(self._lateness, self._longest_left)


def clairvoyant(runs: Sequence[WaitedRun], polls_per_minute: int) -> Watched:
    """Poll at an even pace those runs only that have ended: the bound for any policy that polls singly."""
    watch, now = _Watch(runs, polls_per_minute), 0.0
    spacing = RATE_LIMIT_WINDOW / polls_per_minute
    for duration, number in sorted((run.duration, number) for number, run in enumerate(runs)):
        while (now := now + spacing) < duration:
            pass
        watch.poll(number, now)
    return watch.record()


def round_robin(runs: Sequence[WaitedRun], polls_per_minute: int) -> Watched:
    """Poll at an even pace whichever was left alone longest: an ideal round robin."""
    watch, now = _Watch(runs, polls_per_minute), 0.0
    spacing = RATE_LIMIT_WINDOW / polls_per_minute
    circle = [(0.0, number) for number in range(len(runs))]
    while circle:
        due, number = heapq.heappop(circle)
        now = max(now + spacing, due)
        if not watch.poll(number, now):
            heapq.heappush(circle, (now + INTERVAL, number))
    return watch.record()


class Ours:
    """
    The scheduler's policy.

    :param durations: what is known of the agents.
    :param lists: whether the vendor has a call that names every run's status.
    :param knows_agents: whether a run's agent is known before the run's first answer.
    """

    def __init__(
        self, durations: RunDurations | None = None, *, lists: bool = False, knows_agents: bool = True
    ) -> None:
        self._durations = durations or RunDurations()
        self._lists = lists
        self._knows_agents = knows_agents

    def __call__(self, runs: Sequence[WaitedRun], polls_per_minute: int) -> Watched:
        """Poll as the scheduler does."""
        watch, now = _Watch(runs, polls_per_minute), 0.0
        budget = PollBudget(polls_per_minute, -RATE_LIMIT_WINDOW)
        waiting, listings = WaitingRuns(self._durations), Listings("simulated", clock=lambda: now)
        bulk = BulkPolling(lambda _refs, _since: _listing(runs, now))
        agents = [run.agent if self._knows_agents else "" for run in runs]
        numbers = {_waiting_run(number, agent): number for number, agent in enumerate(agents)}
        for run in numbers:
            waiting.put(run, 0.0)
        while (due := waiting.next_due(now)) is not None:
            rate = budget.rate(now)
            is_scarce = waiting.demand > rate
            lists = self._lists and is_scarce and listings.is_next(now, waiting, waiting)
            wait = max(due - now, budget.wait(now, polls=2 if lists else 1))
            if wait > 0:
                now += wait
            elif lists:
                budget.spend(now)
                answer = listings.call(bulk, waiting).parse(Response(200, {}, b""))
                listings.answered(answer, waiting, waiting, now, sent=now, since=now)
            elif run_or_none := waiting.take(now, rate=rate, is_scarce=is_scarce):
                run = run_or_none
                budget.spend(now)
                listings.polled()
                has_ended = watch.poll(numbers[run], now)
                run.learn(_answer(runs[numbers[run]], has_ended=has_ended), self._durations, now, now)
                if has_ended:
                    waiting.remove(run)
                else:
                    run.is_hinted = False
                    waiting.put(run, now + INTERVAL)
        return watch.record()


def warm(workload: Workload, seed: int) -> Ours:
    """Return the scheduler's policy after one batch of the same agents."""
    durations = RunDurations()
    Ours(durations)(workload.runs(seed), POLLS_PER_MINUTE)
    return Ours(durations)


def _waiting_run(number: int, agent: str) -> WaitingRun:
    return WaitingRun(
        poller=RunPoller(RunRef(run_id=str(number)), interval=INTERVAL, end_time=float("inf")),
        call=cast("Any", None),
        settings=cast("Any", None),
        interval=INTERVAL,
        on_note=lambda _: None,
        finished=cast("Any", None),
        label=agent,
        began=0.0,
        seen=0.0,
        asked=0.0,
        polled=0.0,
        not_before=0.0,
    )


def _answer(run: WaitedRun, *, has_ended: bool) -> Run:
    status = RunStatus.SUCCEEDED if has_ended else RunStatus.RUNNING
    # Not validated: that would take as long as all the rest.
    return Run.model_construct(
        vendor="simulated",
        run_id="",
        status=status,
        raw_status=status,
        agent_id=run.agent,
        started_at=_EPOCH,
        finished_at=_EPOCH + timedelta(seconds=run.duration) if has_ended else None,
    )


def _listing(runs: Sequence[WaitedRun], now: float) -> Call[Listing]:
    ended = {str(number): "ended" for number, run in enumerate(runs) if run.duration <= now}
    going_on = frozenset(str(number) for number in range(len(runs))) - ended.keys()
    return Call(Request("list runs", "GET", "/"), lambda _: Listing(ended, going_on))


@dataclass(frozen=True)
class Figures:
    """
    What a policy reached over some seeds; lateness in seconds.

    :param longest_left: as in :class:`Watched`.
    """

    mean: float
    p95: float
    longest: float
    longest_left: float


def measure(policy: Callable[[int], Policy], workload: Workload, seeds: int) -> Figures:
    """
    Return what a policy reaches on a workload.

    :param policy: makes it anew for each seed.
    """
    watched = [policy(seed)(workload.runs(seed), POLLS_PER_MINUTE) for seed in range(seeds)]
    lateness = [late for each in watched for late in each.lateness]
    return Figures(
        fmean(lateness),
        quantiles(lateness, n=20)[-1],
        max(lateness),
        max(each.longest_left for each in watched),
    )


def policies_for(workload: Workload) -> dict[str, Callable[[int], Policy]]:
    """Return the policies by name, each as what makes it for a seed."""
    return {
        "clairvoyant": lambda _: clairvoyant,
        "round robin": lambda _: round_robin,
        "ours, cold": lambda _: Ours(),
        "ours, after one batch": lambda seed: warm(workload, seed + 1_000_000),
        "ours, cold, agents not known at first": lambda _: Ours(knows_agents=False),
        "ours, with listings": lambda _: Ours(lists=True),
    }


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds: int = parser.parse_args().seeds
    columns = ("mean", "of round robin", "p95", "max", "longest left, periods")
    for workload in (*ONE_KIND.values(), THREE_KINDS):
        table = Table("lateness, s", title=f"{workload.count} at once, {workload.name}", title_justify="left")
        for column in columns:
            table.add_column(column, justify="right")
        tries = seeds if workload.count < _MANY_RUNS else max(1, seeds // _SEEDS_OF_MANY)
        reached = {name: measure(policy, workload, tries) for name, policy in policies_for(workload).items()}
        for name, figures in reached.items():
            ratio = figures.mean / reached["round robin"].mean
            row = (figures.mean, ratio, figures.p95, figures.longest, figures.longest_left)
            table.add_row(name, *(f"{cell:.2f}" for cell in row))
        Console().print(table)


if __name__ == "__main__":
    _main()
