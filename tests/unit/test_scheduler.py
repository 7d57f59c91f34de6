"""The poll scheduler, over real HTTP to the simulator."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_agentruns.client.exceptions import ResponseFormatError, ServerError
from airflow_provider_agentruns.client.models import Run, RunStatus
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.connection_cache import _caches, connection_cache
from airflow_provider_agentruns.polling.clients import Clients
from airflow_provider_agentruns.polling.order import WaitingRuns
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import Decision, Note, RunPoller
from airflow_provider_agentruns.polling.scheduler import PollScheduler
from airflow_provider_agentruns.polling.scheduler_registry import _schedulers, scheduler_for
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.vendors.registry import get_adapter
from tests.simulator.clients import HandClock

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


async def test_a_status_change_is_noted_once_for_its_own_run(client_settings: ClientSettings) -> None:
    """The run stays in each status until it was polled there a few times, however slow the machine is."""
    clock = HandClock()
    notes: list[Note] = []
    with Simulator(requests_per_minute=0, queued_share=0.5, clock=clock) as simulator:
        run_id = simulator.create_run("flowyble", duration=20)
        settings = replace(client_settings, base_url=simulator.url)
        watching = asyncio.create_task(_watch(scheduler_for(settings), run_id, settings, notes))
        for number in (1, 2):
            while len(notes) < number and not watching.done():
                await asyncio.sleep(0.01)
            polls = len(simulator.requests()) + 5
            while len(simulator.requests()) < polls and not watching.done():
                await asyncio.sleep(0.01)
            clock.advance(10)
        decision = await watching
    assert decision.run is not None
    assert decision.run.status is RunStatus.SUCCEEDED
    assert [note.text.split(" (")[0] for note in notes] == [
        "status queued",
        "status running",
        "status succeeded",
    ]


class FakeClient:
    """Answer without a network, as a test says."""

    def __init__(self, answer: Callable[[str], Run | Exception]) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def send(self, call: Any) -> Run:
        run_id = call.request.path.split("/")[-2]
        self.asked.append(run_id)
        await asyncio.sleep(0)
        answer = self.answer(run_id)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        pass


def _going_on(run_id: str) -> Run:
    return Run(vendor="flowyble", run_id=run_id, status=RunStatus.RUNNING, raw_status="Running")


def _ended(run_id: str) -> Run:
    return Run(vendor="flowyble", run_id=run_id, status=RunStatus.SUCCEEDED, raw_status="Completed")


def _fake(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], Run | Exception]
) -> tuple[PollScheduler, FakeClient]:
    client = FakeClient(answer)

    async def get(*_: Any, **__: Any) -> FakeClient:
        return client

    monkeypatch.setattr(Clients, "get", get)
    return PollScheduler(SETTINGS, clock=asyncio.get_running_loop().time), client


SETTINGS = ClientSettings(base_url="", api_key="k", auth_headers={}, polls_per_minute=100_000)
IDS = [str(uuid.UUID(int=number)) for number in range(500)]


async def test_polls_that_are_cancelled_before_they_begin_do_not_count_as_on_their_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clearing a mapped task cancels many triggers at once."""
    scheduler, client = _fake(monkeypatch, _going_on)
    kept = asyncio.create_task(_watch(scheduler, IDS[0], SETTINGS, interval=0.01))
    for _ in range(40):
        crowd = [asyncio.create_task(_watch(scheduler, run_id, SETTINGS)) for run_id in IDS[1:40]]
        for _ in range(random.Random(1).randrange(6)):
            await asyncio.sleep(0)
        for task in crowd:
            task.cancel()
        await asyncio.wait(crowd)
    assert not [task for task in scheduler._polls if task.done()]
    count = client.asked.count(IDS[0])
    await asyncio.sleep(0.2)
    assert client.asked.count(IDS[0]) > count
    kept.cancel()
    await asyncio.wait({kept})
    assert scheduler._polls == set()
    assert _nothing_is_left()


async def test_a_line_of_the_log_is_written_where_its_run_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow sends a trigger's lines to its task by context variables."""
    scheduler, _ = _fake(monkeypatch, _ended)
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")
    written: dict[str, str] = {}

    async def wait(run_id: str) -> None:
        whose.set(run_id)
        poller = _poller(run_id)
        await scheduler.watch(
            poller,
            ADAPTER.status(poller.ref),
            SETTINGS,
            on_note=lambda _: written.update({run_id: whose.get()}),
        )

    await asyncio.gather(*(asyncio.create_task(wait(run_id)) for run_id in IDS[:5]))
    assert written == {run_id: run_id for run_id in IDS[:5]}


async def test_a_log_that_breaks_does_not_lose_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, _ = _fake(monkeypatch, _ended)
    poller = _poller(IDS[0])

    def broken(_: Note) -> None:
        raise BrokenPipeError

    decision = await scheduler.watch(poller, ADAPTER.status(poller.ref), SETTINGS, on_note=broken)
    assert decision.outcome is Outcome.ENDED


async def test_runs_that_come_after_the_scheduler_broke_are_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, _ = _fake(monkeypatch, _ended)
    take = WaitingRuns.take

    def break_once(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(WaitingRuns, "take", take)
        raise TypeError("nobody foresaw this")

    monkeypatch.setattr(WaitingRuns, "take", break_once)
    broken = asyncio.create_task(_watch(scheduler, IDS[0], SETTINGS))
    while not broken.done():
        await asyncio.sleep(0)
    assert isinstance(broken.exception(), TypeError)
    assert (await _watch(scheduler, IDS[1], SETTINGS)).outcome is Outcome.ENDED


async def test_a_recovery_polls_no_run_before_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger that fires too early makes Airflow's scheduler fail the task."""
    failures = [ServerError("503", status_code=503) for _ in range(8)]
    scheduler, client = _fake(monkeypatch, lambda run_id: failures.pop() if failures else _going_on(run_id))
    monkeypatch.setattr("airflow_provider_agentruns.polling.circuit._FIRST_WAIT", 0.01)
    monkeypatch.setattr("airflow_provider_agentruns.polling.circuit._LONGEST_WAIT", 0.01)
    late = _poller(IDS[9])
    tasks = [asyncio.create_task(_watch(scheduler, run_id, SETTINGS)) for run_id in IDS[:8]]
    tasks.append(
        asyncio.create_task(
            scheduler.watch(late, ADAPTER.status(late.ref), SETTINGS, on_note=lambda _: None, delay=30)
        )
    )
    while failures or len(client.asked) < 40:
        await asyncio.sleep(0.01)
    assert IDS[9] not in client.asked
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert _nothing_is_left()


async def test_a_vendor_that_refuses_some_runs_is_there_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Answers that are not JSON, or refusals, do not stop the polls of the whole key."""
    odd = ResponseFormatError("not JSON")
    scheduler, client = _fake(monkeypatch, lambda run_id: odd if run_id in IDS[:10] else _going_on(run_id))
    tasks = [asyncio.create_task(_watch(scheduler, run_id, SETTINGS)) for run_id in IDS[:20]]
    while min(client.asked.count(run_id) for run_id in IDS[10:20]) < 5:
        await asyncio.sleep(0.01)
    assert not scheduler._sender.circuit.is_open
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_closed_event_loops_are_let_go(client_settings: ClientSettings) -> None:
    async def use() -> None:
        scheduler_for(client_settings)
        connection_cache()

    for _ in range(3):
        asyncio.run(use())
    assert len([loop for loop in _schedulers if loop.is_closed()]) <= 1
    assert len([loop for loop in _caches if loop.is_closed()]) <= 1


async def test_the_scheduler_counts_its_polls_and_how_late_it_saw_an_end(
    simulator: Simulator, client_settings: ClientSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_agentruns.polling.metrics._PERIOD", 2.0)
    emitted: dict[str, float] = {}
    scheduler = PollScheduler(
        client_settings,
        clock=asyncio.get_running_loop().time,
        emit=lambda name, value, tags: emitted.update({name + tags.get("result", ""): value}),
    )
    ending = [simulator.create_run("flowyble", duration=0.5) for _ in range(3)]
    going_on = asyncio.create_task(
        _watch(scheduler, simulator.create_run("flowyble", scenario="never"), client_settings)
    )
    await asyncio.gather(*(_watch(scheduler, run_id, client_settings) for run_id in ending))
    while not emitted:
        await asyncio.sleep(0.02)
    going_on.cancel()
    await asyncio.wait({going_on})
    assert emitted["waiting_runs"] == 1
    assert emitted["pollsanswered"] >= 4
    assert emitted["pollsrefused"] == 0
    assert 0 <= emitted["lateness"] < 60
