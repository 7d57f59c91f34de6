"""The poll scheduler, over real HTTP to the simulator."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_agentruns.client.models import Run, RunStatus
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.poller import Decision, Note, Outcome, RunPoller
from airflow_provider_agentruns.polling.scheduler import PollScheduler, scheduler_for
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
        timeout=5.0,
    )


def _poller(run_id: str, *, interval: float = 0.02, end_in: float = 60.0) -> RunPoller:
    return RunPoller(ADAPTER.ref(run_id), interval=interval, end_time=time.time() + end_in)


async def _watch(
    scheduler: PollScheduler,
    run_id: str,
    settings: ClientSettings,
    notes: list[Note] | None = None,
    **changes: Any,
) -> Decision:
    poller = _poller(run_id, **changes)
    lines: list[Note] = [] if notes is None else notes
    return await scheduler.watch(poller, ADAPTER.status(poller.ref), settings, on_note=lines.append)


def _nothing_is_left() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


async def test_many_runs_end_each_with_its_own_answer_over_few_sockets(
    simulator: Simulator, client_settings: ClientSettings
) -> None:
    run_ids = [simulator.create_run("flowyble", duration=0.05 + n * 0.01) for n in range(40)]
    scheduler = scheduler_for(client_settings)
    decisions = await asyncio.gather(*(_watch(scheduler, run_id, client_settings) for run_id in run_ids))
    assert [decision.outcome for decision in decisions] == [Outcome.ENDED] * 40
    assert [decision.run.run_id for decision in decisions if decision.run] == run_ids
    assert _nothing_is_left()


async def test_one_scheduler_serves_all_connections_with_one_key(client_settings: ClientSettings) -> None:
    scheduler = scheduler_for(client_settings)
    assert scheduler_for(replace(client_settings, timeout=9.0, verify=False)) is scheduler
    other = replace(client_settings, api_key="other")
    assert scheduler_for(other) is not scheduler


async def test_a_mended_way_to_the_vendor_is_used_at_once(
    simulator: Simulator, client_settings: ClientSettings
) -> None:
    """A run that waits over a wrong proxy does not keep the others on it."""
    run_id = simulator.create_run("flowyble", duration=0)
    scheduler = scheduler_for(client_settings)
    wrong = replace(client_settings, proxy="http://127.0.0.1:9")
    stuck = asyncio.create_task(_watch(scheduler, run_id, wrong))
    await asyncio.sleep(0.05)
    assert (await _watch(scheduler, run_id, client_settings)).outcome is Outcome.ENDED
    stuck.cancel()
    await asyncio.wait({stuck})
    assert _nothing_is_left()


async def test_a_429_pauses_every_run_of_the_key_and_fails_none(
    simulator: Simulator, client_settings: ClientSettings
) -> None:
    run_ids = [simulator.create_run("flowyble", duration=0.1) for _ in range(20)]
    simulator.add_fault("rate_limit", retry_after=1, times=1)
    scheduler = scheduler_for(client_settings)
    decisions = await asyncio.gather(*(_watch(scheduler, run_id, client_settings) for run_id in run_ids))
    assert {decision.outcome for decision in decisions} == {Outcome.ENDED}
    times = [request.time for request in simulator.requests()]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(pauses) >= 0.9
    before = pauses.index(max(pauses)) + 1
    assert before <= 40, "what was on its way when the 429 came, and no more"


async def test_the_budget_and_a_pause_outlast_the_last_run(
    simulator: Simulator, client_settings: ClientSettings
) -> None:
    """One run after the other, each alone, must not get around the budget."""
    scarce = replace(client_settings, polls_per_minute=60)
    run_id = simulator.create_run("flowyble", duration=0)
    await _watch(scheduler_for(scarce), run_id, scarce)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await _watch(scheduler_for(scarce), run_id, scarce)
    assert len(simulator.requests()) == 1
    assert _nothing_is_left()


async def test_a_cancelled_wait_leaves_the_others_alone_and_nothing_behind(
    simulator: Simulator, client_settings: ClientSettings
) -> None:
    hanging_id, ending_id = (simulator.create_run("flowyble", duration=0.2) for _ in range(2))
    simulator.add_fault("hang", run_id=hanging_id)
    scheduler = scheduler_for(client_settings)
    hanging = asyncio.create_task(_watch(scheduler, hanging_id, client_settings))
    ending = asyncio.create_task(_watch(scheduler, ending_id, client_settings))
    while not simulator.requests(run_id=hanging_id):
        await asyncio.sleep(0.01)
    hanging.cancel()
    assert (await ending).outcome is Outcome.ENDED
    await asyncio.wait({hanging})
    assert hanging.cancelled()
    assert _nothing_is_left()


async def test_an_error_in_one_runs_handling_touches_no_other(
    simulator: Simulator, client_settings: ClientSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_id, fine_id = (simulator.create_run("flowyble", duration=0.1) for _ in range(2))
    on_answer = RunPoller.on_answer

    def break_one(poller: RunPoller, run: Run, now: float) -> Decision:
        if run.run_id == broken_id:
            raise TypeError("nobody foresaw this")
        return on_answer(poller, run, now)

    monkeypatch.setattr(RunPoller, "on_answer", break_one)
    scheduler = scheduler_for(client_settings)
    broken, fine = await asyncio.gather(
        _watch(scheduler, broken_id, client_settings),
        _watch(scheduler, fine_id, client_settings),
        return_exceptions=True,
    )
    assert isinstance(broken, TypeError)
    assert isinstance(fine, Decision)
    assert fine.outcome is Outcome.ENDED
    assert _nothing_is_left()


async def test_a_vendor_that_is_away_gets_a_handful_of_probes_and_then_all_runs_go_on(
    simulator: Simulator, client_settings: ClientSettings
) -> None:
    run_ids = [simulator.create_run("flowyble", scenario="never") for _ in range(200)]
    fault = simulator.add_fault("server_error", status=503)
    scheduler = scheduler_for(client_settings)
    notes: list[Note] = []
    waits = [
        asyncio.create_task(_watch(scheduler, run_id, client_settings, notes, interval=0.5))
        for run_id in run_ids
    ]
    await asyncio.sleep(2.5)
    assert len(simulator.requests()) <= 45, "those on their way when it went, and single probes since"
    simulator.clear_faults(fault)
    deadline = time.monotonic() + 20
    while len({request.run_id for request in simulator.requests()}) < 200 and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    assert {request.run_id for request in simulator.requests()} == set(run_ids)
    assert not any(wait.done() for wait in waits)
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
    assert _nothing_is_left()


async def test_a_status_change_is_noted_once_for_its_own_run(
    simulator: Simulator, client_settings: ClientSettings
) -> None:
    run_id = simulator.create_run("flowyble", duration=0.3)
    notes: list[Note] = []
    decision = await _watch(scheduler_for(client_settings), run_id, client_settings, notes)
    assert decision.run is not None
    assert decision.run.status is RunStatus.SUCCEEDED
    assert [note.text.split(" (")[0] for note in notes] == [
        "status queued",
        "status running",
        "status succeeded",
    ]
