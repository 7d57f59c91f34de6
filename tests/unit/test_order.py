"""Which waiting run is asked next: with a clock that tests move, and without any server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from airflow_provider_agentruns.client.models import RunRef
from airflow_provider_agentruns.polling.durations import RunDurations
from airflow_provider_agentruns.polling.order import WaitingRuns
from airflow_provider_agentruns.polling.poller import RunPoller
from airflow_provider_agentruns.polling.waiting_run import WaitingRun

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
        label=agent,
        began=0.0,
        seen=0.0,
        asked=0.0,
        polled=0.0,
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
    assert durations.likely_ended("short", 5.0, 15.0) > 10 * durations.likely_ended("long", 5.0, 15.0)
    assert durations.likely_ended("short", 5.0, 5.0) == 0.0
