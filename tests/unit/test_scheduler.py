from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_agentruns.client.exceptions import RateLimitError
from airflow_provider_agentruns.client.models import RunRef
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.budget import PollBudget
from airflow_provider_agentruns.polling.scheduler import shared_scheduler
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.vendors.registry import get_adapter

ADAPTER = get_adapter("flowyble")


@pytest.fixture
def client_settings(simulator: Simulator) -> ClientSettings:
    key = simulator.flowyble_key
    return ClientSettings(
        base_url=simulator.url,
        api_key=key,
        auth_headers=ADAPTER.auth_headers(key),
        polls_per_minute=100_000,
    )


@settings(max_examples=60)
@given(st.integers(min_value=1, max_value=200), st.integers())
def test_no_minute_holds_more_polls_than_the_budget(polls_per_minute: int, seed: int) -> None:
    rng = random.Random(seed)
    budget = PollBudget(polls_per_minute)
    now = 0.0
    sent: list[float] = []
    while now < 400:
        now += max(0.0, budget.wait(now))
        budget.spend(now)
        sent.append(now)
        # Idle times let a burst build up, which must not break the budget either.
        now += rng.choice([0.0, 0.0, 0.0, rng.uniform(0, 30)])
    for first, later in zip(sent, sent[polls_per_minute:], strict=False):
        assert later - first >= 60.0 - 1e-6


@pytest.mark.parametrize("polls_per_minute", [8, 80, 1000])
def test_a_busy_key_uses_nearly_its_whole_budget(polls_per_minute: int) -> None:
    budget = PollBudget(polls_per_minute)
    now, count = 0.0, 0
    while now < 600:
        now += max(0.0, budget.wait(now))
        budget.spend(now)
        count += 1
    assert count >= 10 * polls_per_minute * 0.85


def test_a_pause_holds_all_polls_and_does_not_shorten_another() -> None:
    budget = PollBudget(80)
    budget.pause(100.0)
    budget.pause(50.0)
    assert budget.wait(10.0) == 90.0
    assert budget.wait(100.0) <= 0


async def test_connections_with_one_key_share_a_scheduler_until_the_last_is_done(
    client_settings: ClientSettings,
) -> None:
    other = replace(client_settings, api_key="other")
    async with shared_scheduler(client_settings) as first:
        async with (
            shared_scheduler(replace(client_settings, timeout=5)) as second,
            shared_scheduler(other) as third,
        ):
            assert first is second
            assert first is not third
        async with shared_scheduler(client_settings) as again:
            assert first is again
    async with shared_scheduler(client_settings) as anew:
        assert anew is not first


async def test_a_429_pauses_every_run_of_the_key(
    simulator: Simulator, client_settings: ClientSettings
) -> None:
    refs = [RunRef(run_id=simulator.create_run("flowyble", duration=100)) for _ in range(5)]
    simulator.add_fault("rate_limit", retry_after=1, times=1)
    async with shared_scheduler(client_settings) as scheduler:
        refused = time.monotonic()
        with pytest.raises(RateLimitError):
            await scheduler.poll(ADAPTER.status(refs[0]))
        await asyncio.gather(*(scheduler.poll(ADAPTER.status(ref)) for ref in refs))
    assert time.monotonic() - refused >= 1.0
    assert [request.status for request in simulator.requests()] == [429, 200, 200, 200, 200, 200]


async def test_a_cancelled_poll_leaves_the_others_alone(
    simulator: Simulator, client_settings: ClientSettings
) -> None:
    ref = RunRef(run_id=simulator.create_run("flowyble", duration=100))
    simulator.add_fault("hang", times=1)
    async with shared_scheduler(client_settings) as scheduler:
        hanging = asyncio.create_task(scheduler.poll(ADAPTER.status(ref)))
        while not simulator.requests():
            await asyncio.sleep(0.01)
        hanging.cancel()
        run = await scheduler.poll(ADAPTER.status(ref))
    assert run.run_id == ref.run_id
    with pytest.raises(asyncio.CancelledError):
        await hanging
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
