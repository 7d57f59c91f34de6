"""Which waiting run is asked next: with a clock that tests move, and without any server."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator
from typing import Any, cast

import pytest

from airflow_provider_agentruns.client.models import RunRef
from airflow_provider_agentruns.polling.durations import RunDurations
from airflow_provider_agentruns.polling.order import WaitingRun, WaitingRuns
from airflow_provider_agentruns.polling.poller import RunPoller

RATE = 100.0


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def _run(loop: asyncio.AbstractEventLoop, agent: str = "", interval: float = 2.0) -> WaitingRun:
    return WaitingRun(
        poller=RunPoller(RunRef(run_id="r"), interval=interval, end_time=9e9),
        call=cast("Any", None),
        settings=cast("Any", None),
        interval=interval,
        on_note=lambda _: None,
        finished=loop.create_future(),
        agent=agent,
        began=0.0,
        seen=0.0,
        asked=0.0,
        not_before=0.0,
    )


def test_without_scarcity_the_one_left_longest_goes_first(loop: asyncio.AbstractEventLoop) -> None:
    runs = WaitingRuns(RunDurations())
    waiting = [_run(loop) for _ in range(3)]
    for seen, run in zip([1.0, 2.0, 3.0], waiting, strict=True):
        run.asked = seen
        runs.put(run, 5.0)
    assert runs.take(4.9, rate=RATE, is_scarce=False) is None
    assert runs.next_due(4.9) == 5.0
    assert [runs.take(6.0, rate=RATE, is_scarce=False) for _ in range(3)] == waiting


def test_a_run_that_is_put_again_keeps_only_the_new_time(loop: asyncio.AbstractEventLoop) -> None:
    runs = WaitingRuns(RunDurations())
    run = _run(loop)
    for due in (5.0, 1.0, 9.0):
        runs.put(run, due)
    assert runs.take(8.0, rate=RATE, is_scarce=False) is None
    assert runs.take(9.0, rate=RATE, is_scarce=False) is run
    assert runs.take(9.0, rate=RATE, is_scarce=False) is None
    assert len(runs) == 1


def test_runs_whose_polls_fail_do_not_come_before_all_others(loop: asyncio.AbstractEventLoop) -> None:
    """They are never seen going on, but they were asked."""
    runs = WaitingRuns(RunDurations())
    failing, fine = [_run(loop) for _ in range(60)], [_run(loop) for _ in range(60)]
    for run in (*failing, *fine):
        runs.put(run, 0.0)
    now, polls = 0.0, {True: 0, False: 0}
    for _ in range(2400):
        now += 60.0 / RATE
        taken = runs.take(now, rate=RATE, is_scarce=True)
        if taken is not None:
            polls[taken in failing] += 1
            if taken not in failing:
                taken.seen = now
            runs.put(taken, now + taken.interval)
    assert polls[False] >= 0.4 * (polls[True] + polls[False])


def test_removed_runs_leave_nothing(loop: asyncio.AbstractEventLoop) -> None:
    runs = WaitingRuns(RunDurations())
    waiting = [_run(loop) for _ in range(500)]
    for run in waiting:
        runs.put(run, 100.0)
    for run in waiting:
        runs.remove(run)
    assert len(runs) == 0
    assert runs.next_due(0.0) is None
    assert runs.demand == pytest.approx(0.0)
    assert len(runs._sleeping) < 20


def _simulate(
    loop: asyncio.AbstractEventLoop,
    work: list[tuple[str, float]],
    durations: RunDurations,
    *,
    is_scarce: bool,
) -> tuple[float, float]:
    """Poll runs that began together under a budget; return mean lateness and the longest time left alone."""
    runs = WaitingRuns(durations)
    ends: dict[WaitingRun, float] = {}
    for agent, duration in work:
        run = _run(loop, agent)
        ends[run] = duration
        runs.put(run, 0.0)
    now, late, longest_left = 0.0, [], 0.0
    while ends:
        now += 60.0 / RATE
        period = max(len(ends) * 60.0 / RATE, 2.0)
        run_or_none = runs.take(now, rate=RATE, is_scarce=is_scarce)
        if run_or_none is None:
            continue
        run = run_or_none
        longest_left = max(longest_left, (now - run.seen) / period)
        if ends[run] <= now:
            late.append(now - ends.pop(run))
            runs.remove(run)
            durations.saw_end(run.agent, run.seen, now - late[-1])
        else:
            durations.saw_running(run.agent, run.seen, now)
            run.seen = now
            runs.put(run, now + run.interval)
    return sum(late) / len(late), longest_left


def _work(kinds: dict[str, float], sigma: float, count: int, seed: int) -> list[tuple[str, float]]:
    rng = random.Random(seed)
    names = list(kinds)
    work = [(names[n % len(names)], 0.0) for n in range(count)]
    work = [(name, rng.lognormvariate(math.log(kinds[name]), sigma)) for name, _ in work]
    rng.shuffle(work)
    return work


SEEDS = range(4)


def test_with_one_kind_of_agent_the_order_is_no_worse_than_round_robin(
    loop: asyncio.AbstractEventLoop,
) -> None:
    ratios = []
    for seed in SEEDS:
        work = _work({"a": 60.0}, 0.8, 100, seed)
        learned, _ = _simulate(loop, work, RunDurations(), is_scarce=True)
        round_robin, _ = _simulate(loop, work, RunDurations(), is_scarce=False)
        ratios.append(learned / round_robin)
    assert sum(ratios) / len(ratios) <= 1.10


def test_with_mixed_agents_the_order_more_than_halves_lateness_and_starves_none(
    loop: asyncio.AbstractEventLoop,
) -> None:
    kinds = {"short": 10.0, "middle": 60.0, "long": 600.0}
    cold, warm, round_robin, longest = 0.0, 0.0, 0.0, 0.0
    for seed in SEEDS:
        durations = RunDurations()
        cold_mean, left = _simulate(loop, _work(kinds, 0.6, 99, seed + 100), durations, is_scarce=True)
        again = _work(kinds, 0.6, 99, seed)
        warm_mean, left_again = _simulate(loop, again, durations, is_scarce=True)
        cold += _simulate(loop, again, RunDurations(), is_scarce=True)[0]
        warm += warm_mean
        round_robin += _simulate(loop, again, RunDurations(), is_scarce=False)[0]
        longest = max(longest, left, left_again)
        assert cold_mean > 0
    assert cold / round_robin <= 0.60
    assert warm / round_robin <= 0.47
    assert longest <= 4.0


def test_what_is_learned_is_bounded() -> None:
    durations = RunDurations()
    for number in range(5000):
        durations.saw_end(f"agent {number}", 0.0, 1e9)
    assert len(durations._agents) <= 1000


def test_a_run_that_outlived_others_of_its_agent_is_expected_to_go_on() -> None:
    durations = RunDurations()
    for _ in range(30):
        durations.saw_end("short", 0.0, 10.0)
        durations.saw_end("long", 0.0, 600.0)
    assert durations.expected_lateness("short", 5.0, 15.0) > 10 * durations.expected_lateness(
        "long", 5.0, 15.0
    )
    assert durations.expected_lateness("short", 5.0, 5.0) == 0.0
