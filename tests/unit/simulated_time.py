"""An event loop whose time jumps to what is due next, and a vendor in it: hours of polling in a moment."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from selectors import SelectorKey
from typing import Any, TypeVar

import pytest

from airflow_provider_agentruns.client.calls import Call, Request, Response
from airflow_provider_agentruns.client.models import Run, RunRef, RunStatus
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.clients import Clients
from airflow_provider_agentruns.polling.metrics import Emit
from airflow_provider_agentruns.polling.poller import Decision, RunPoller
from airflow_provider_agentruns.polling.scheduler import PollScheduler
from airflow_provider_agentruns.vendors.base import BulkPolling, Listing

EPOCH = 1_800_000_000.0
LISTING = "the listing"
SETTINGS = ClientSettings(base_url="https://api", api_key="k", auth_headers={}, polls_per_minute=80)

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, f"nothing is due after {self.now} s: the scheduler has stalled"
            self.now += timeout
        return events


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits."""

    def __init__(self) -> None:
        self.jumping = _JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class SimulatedVendor:
    """
    Answers of a vendor.

    :param answer: says how a run stands, or what goes wrong, by its id.
    :param listing: says what a listing tells of these runs, changed since a time.
    """

    answer: Callable[[str], Run | BaseException]
    listing: Callable[[Sequence[str], float | None], Listing | BaseException] = lambda _ids, _since: Listing(
        {}
    )
    latency: float = 0.1
    sent: list[tuple[float, str]] = field(default_factory=list)
    settings: list[ClientSettings] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let all clients of the scheduler reach this vendor."""
        vendor = self

        @dataclass
        class Client:
            settings: ClientSettings

            async def send(self, call: Call[Any]) -> Any:
                vendor.sent.append((now(), call.request.operation))
                vendor.settings.append(self.settings)
                await asyncio.sleep(vendor.latency)
                # Of another body each time: what was answered before is not read again.
                return call.parse(Response(200, {}, str(len(vendor.sent)).encode()))

            async def close(self) -> None:
                pass

        async def get(_: Clients, settings: ClientSettings, **__: object) -> Client:
            return Client(settings)

        monkeypatch.setattr(Clients, "get", get)

    def status(self, run_id: str) -> Call[Any]:
        def parse(_: Response) -> Run:
            answer = self.answer(run_id)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return Call(Request(operation=run_id, method="GET", path="/"), parse)

    def bulk(self, **details: Any) -> BulkPolling:
        """Return the listing call, of which answers have no size."""

        def call(refs: Sequence[RunRef], since: float | None) -> Call[Any]:
            ids = [ref.run_id for ref in refs]

            def parse(_: Response) -> Listing:
                answer = self.listing(ids, since)
                if isinstance(answer, BaseException):
                    raise answer
                return answer

            return Call(Request(operation=LISTING, method="GET", path="/"), parse)

        return BulkPolling(call, **details)

    def polls(self, since: float = 0.0) -> Counter[str]:
        """Return how often each run was polled singly."""
        return Counter(operation for at, operation in self.sent if at >= since and operation != LISTING)

    def longest_gap(self, run_id: str, until: float) -> float:
        """Return for how long a run was left alone, seconds."""
        times = [0.0, *(at for at, operation in self.sent if operation == run_id), until]
        return max(later - earlier for earlier, later in pairwise(times))


class Bench:
    """A scheduler that is a minute old, and the runs that wait in it."""

    def __init__(self, vendor: SimulatedVendor, emit: Emit | None = None) -> None:
        self.vendor = vendor
        # Without the slow first minute, so that figures are those of a triggerer that has run for long.
        clocks = iter([-100.0])
        # Seeded, so that the figures are the same each time.
        self._rng = random.Random(1)
        self.scheduler = PollScheduler(
            SETTINGS,
            clock=lambda: next(clocks, now()),
            wall_clock=lambda: EPOCH + now(),
            rng=self._rng,
            emit=emit,
        )
        self.tasks: dict[str, asyncio.Task[Decision]] = {}

    def watch(
        self,
        run_id: str,
        *,
        settings: ClientSettings = SETTINGS,
        interval: float = 5.0,
        end_in: float = 1e6,
        **kwargs: Any,
    ) -> asyncio.Task[Decision]:
        poller = RunPoller(
            RunRef(run_id=run_id), interval=interval, end_time=EPOCH + now() + end_in, rng=self._rng
        )
        wait = self.scheduler.watch(
            poller, self.vendor.status(run_id), settings, on_note=lambda _: None, **kwargs
        )
        self.tasks[run_id] = asyncio.create_task(wait)
        return self.tasks[run_id]

    async def close(self) -> None:
        """End all waits, and check that nothing of them is left."""
        for task in self.tasks.values():
            task.cancel()
        await asyncio.wait(self.tasks.values())
        assert asyncio.all_tasks() == {asyncio.current_task()}


def going_on(run_id: str, **fields: Any) -> Run:
    return Run(vendor="simulated", run_id=run_id, status=RunStatus.RUNNING, raw_status="running", **fields)


def ended(run_id: str, at: float | None = None) -> Run:
    finished = None if at is None else datetime.fromtimestamp(EPOCH + at, UTC)
    return Run(
        vendor="simulated",
        run_id=run_id,
        status=RunStatus.SUCCEEDED,
        raw_status="done",
        finished_at=finished,
    )
