"""The poll scheduler with a listing call, over real HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from airflow_provider_agentruns.client.calls import Call, Request
from airflow_provider_agentruns.client.models import Run, RunRef, RunStatus
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import Decision, RunPoller
from airflow_provider_agentruns.polling.scheduler import PollScheduler
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.vendors.base import BulkPolling, Listing
from airflow_provider_agentruns.vendors.registry import get_adapter

SNORBE = get_adapter("snorbe")
# Far more polls than this are wanted, and a test does not take long.
SCARCE = 600
# From an end: those on their way, a poll, the listing that shows it, and those on their way by then. On
# average: a process that had to wait for its core sends some more (test_scheduler_for_hours bounds each).
AT_MOST_BETWEEN = 10


def _scheduler(settings: ClientSettings) -> PollScheduler:
    # The first minute, in which the pace is slow, is over.
    born = asyncio.get_running_loop().time() - 100
    clocks = iter([born])
    return PollScheduler(settings, clock=lambda: next(clocks, None) or asyncio.get_running_loop().time())


async def _watch(
    scheduler: PollScheduler, settings: ClientSettings, ref: RunRef, call: Call[Run], bulk: BulkPolling | None
) -> Decision:
    poller = RunPoller(ref, interval=0.1, end_time=time.time() + 60)
    return await scheduler.watch(poller, call, settings, on_note=lambda _: None, bulk=bulk)


@pytest.fixture
def snorbe_settings(simulator: Simulator) -> ClientSettings:
    key = simulator.snorbe_key
    return ClientSettings(
        base_url=simulator.url,
        api_key=key,
        auth_headers=SNORBE.auth_headers(key),
        polls_per_minute=SCARCE,
        timeout=5.0,
    )


def _watch_snorbe(
    scheduler: PollScheduler, settings: ClientSettings, run_id: str, *, lists: bool = True
) -> asyncio.Task[Decision]:
    ref = SNORBE.ref(run_id)
    bulk = SNORBE.bulk_polling() if lists else None
    return asyncio.create_task(_watch(scheduler, settings, ref, SNORBE.status(ref), bulk))


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_run_that_a_listing_shows_is_polled_before_the_others(
    simulator: Simulator, snorbe_settings: ClientSettings
) -> None:
    scheduler = _scheduler(snorbe_settings)
    run_ids = [simulator.create_run("snorbe", scenario="never") for _ in range(40)]
    tasks = [_watch_snorbe(scheduler, snorbe_settings, run_id) for run_id in run_ids]
    await _until(lambda: len(simulator.requests()) >= 20)
    between: list[int] = []
    for number in (7, 17, 27):
        simulator.finish_run(run_ids[number], scenario="succeed")
        at_its_end = len(simulator.requests())
        decision = await tasks[number]
        assert decision.outcome is Outcome.ENDED
        last_poll = simulator.requests(run_id=run_ids[number])[-1].sequence
        later = [request for request in simulator.requests()[at_its_end:] if request.sequence < last_poll]
        between.append(len(later))
    assert sum(between) <= AT_MOST_BETWEEN * len(between)
    await _cancel(tasks)


async def test_without_scarcity_nothing_is_listed(
    simulator: Simulator, snorbe_settings: ClientSettings
) -> None:
    scheduler = _scheduler(snorbe_settings)
    run_id = simulator.create_run("snorbe", duration=1.0)
    await _watch_snorbe(scheduler, snorbe_settings, run_id)
    assert len(simulator.requests(run_id=run_id)) >= 3
    assert simulator.requests(operation="snorbe.turn.list") == []


async def test_a_listing_that_fails_touches_no_run_and_rests(
    simulator: Simulator, snorbe_settings: ClientSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    simulator.add_fault("truncated_json", operation="snorbe.turn.list")
    scheduler = _scheduler(snorbe_settings)
    run_ids = [simulator.create_run("snorbe", duration=0.5) for _ in range(20)]
    tasks = [_watch_snorbe(scheduler, snorbe_settings, run_id) for run_id in run_ids]
    decisions = await asyncio.gather(*tasks)
    assert {decision.outcome for decision in decisions} == {Outcome.ENDED}
    assert len(simulator.requests(operation="snorbe.turn.list")) == 1
    assert "listings of runs rest for 60 s, runs are polled singly" in caplog.text


async def test_a_listing_that_is_refused_pauses_the_key_and_is_asked_again(
    simulator: Simulator, snorbe_settings: ClientSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    simulator.add_fault("rate_limit", operation="snorbe.turn.list", retry_after=1, times=1)
    scheduler = _scheduler(snorbe_settings)
    run_ids = [simulator.create_run("snorbe", scenario="never") for _ in range(20)]
    tasks = [_watch_snorbe(scheduler, snorbe_settings, run_id) for run_id in run_ids]
    await _until(lambda: len(simulator.requests(operation="snorbe.turn.list")) >= 2)
    assert "rest" not in caplog.text
    await _cancel(tasks)


async def test_a_listing_that_hangs_holds_no_run_up_and_ends_with_the_last_one(
    simulator: Simulator, snorbe_settings: ClientSettings
) -> None:
    simulator.add_fault("hang", operation="snorbe.turn.list")
    scheduler = _scheduler(snorbe_settings)
    run_ids = [simulator.create_run("snorbe", duration=0.5) for _ in range(20)]
    tasks = [_watch_snorbe(scheduler, snorbe_settings, run_id) for run_id in run_ids]
    decisions = await asyncio.gather(*tasks)
    assert {decision.outcome for decision in decisions} == {Outcome.ENDED}
    assert len(simulator.requests(operation="snorbe.turn.list")) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


class BulkVendor:
    """A vendor whose one call tells how all the runs named in it stand."""

    def __init__(self) -> None:
        self.ended: set[str] = set()
        self.listed: list[list[str]] = []
        self.since: list[float | None] = []
        self.polled: list[str] = []

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[ClientSettings]:
        """Serve over real HTTP."""
        app = web.Application()
        app.router.add_get("/runs", self._list)
        app.router.add_get("/runs/{run_id}", self._get)
        async with TestServer(app) as server:
            yield ClientSettings(
                base_url=str(server.make_url("")).rstrip("/"),
                api_key="k",
                auth_headers={},
                polls_per_minute=SCARCE,
            )

    async def _list(self, request: web.Request) -> web.Response:
        run_ids = request.query["ids"].split(",")
        self.listed.append(run_ids)
        return web.json_response({run_id: run_id in self.ended for run_id in run_ids})

    async def _get(self, request: web.Request) -> web.Response:
        run_id = request.match_info["run_id"]
        self.polled.append(run_id)
        return web.json_response(run_id in self.ended)

    def status(self, ref: RunRef) -> Call[Run]:
        """Build a status call."""

        def parse(response: Any) -> Run:
            status = RunStatus.SUCCEEDED if response.json() else RunStatus.RUNNING
            return Run(vendor="bulk", run_id=ref.run_id, status=status, raw_status=status.value)

        return Call(Request(operation="poll", method="GET", path=f"/runs/{ref.run_id}"), parse)

    def bulk_polling(self, most_runs: int = 1000) -> BulkPolling:
        """Return the listing call."""

        def call(refs: Sequence[RunRef], since: float | None) -> Call[Listing]:
            self.since.append(since)
            path = "/runs?ids=" + ",".join(ref.run_id for ref in refs)

            def parse(response: Any) -> Listing:
                ended: dict[str, bool] = response.json()
                return Listing(
                    {run_id: "ended" for run_id, is_over in ended.items() if is_over},
                    frozenset(run_id for run_id, is_over in ended.items() if not is_over),
                )

            return Call(Request(operation="list", method="GET", path=path), parse)

        return BulkPolling(call, most_runs)


async def test_a_bulk_status_call_finds_every_end_and_a_status_call_confirms_it() -> None:
    vendor = BulkVendor()
    run_ids = [f"run-{number}" for number in range(30)]
    async with vendor.serve() as settings:
        scheduler = _scheduler(settings)
        tasks = {
            run_id: asyncio.create_task(
                _watch(
                    scheduler,
                    settings,
                    RunRef(run_id=run_id),
                    vendor.status(RunRef(run_id=run_id)),
                    vendor.bulk_polling(),
                )
            )
            for run_id in run_ids
        }
        between: list[int] = []
        for run_id in run_ids[:10]:
            vendor.ended.add(run_id)
            at_its_end = len(vendor.polled)
            decision = await tasks.pop(run_id)
            assert decision.outcome is Outcome.ENDED
            between.append(vendor.polled[at_its_end:].index(run_id))
        assert sum(between) < AT_MOST_BETWEEN * len(between)
        await _cancel(list(tasks.values()))
    assert set(vendor.listed[0]) == set(run_ids)
    assert vendor.since[0] is None
    times = [since for since in vendor.since if since is not None]
    assert times
    assert all(abs(since - time.time()) < 60 for since in times)


async def test_a_call_that_names_few_runs_goes_around() -> None:
    vendor = BulkVendor()
    run_ids = [f"run-{number}" for number in range(12)]
    async with vendor.serve() as settings:
        scheduler = _scheduler(settings)
        tasks = [
            asyncio.create_task(
                _watch(
                    scheduler,
                    settings,
                    RunRef(run_id=run_id),
                    vendor.status(RunRef(run_id=run_id)),
                    vendor.bulk_polling(most_runs=4),
                )
            )
            for run_id in run_ids
        ]
        await _until(lambda: len(vendor.listed) >= 4)
        await _cancel(tasks)
    assert {len(listed) for listed in vendor.listed} == {4}
    assert {run_id for listed in vendor.listed for run_id in listed} | set(vendor.polled) == set(run_ids)
