"""One scheduler for each API key in an event loop: it owns order, budget, sessions and backoff."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import TypeVar
from urllib.parse import urlsplit

from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.exceptions import (
    APIConnectionError,
    APIError,
    RateLimitError,
    ServerError,
)
from airflow_provider_agentruns.client.models import Run
from airflow_provider_agentruns.client.retry import JITTER, rate_limit_pause
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.budget import PollBudget
from airflow_provider_agentruns.polling.circuit import Circuit
from airflow_provider_agentruns.polling.clients import Clients
from airflow_provider_agentruns.polling.durations import RunDurations
from airflow_provider_agentruns.polling.event_loops import OnePerLoop
from airflow_provider_agentruns.polling.listings import Listings
from airflow_provider_agentruns.polling.metrics import Emit, PollMetrics, PollResult
from airflow_provider_agentruns.polling.order import WaitingRun, WaitingRuns
from airflow_provider_agentruns.polling.poller import Decision, Note, RunPoller
from airflow_provider_agentruns.polling.wakeup import Wakeup
from airflow_provider_agentruns.vendors.base import BulkPolling

log = logging.getLogger(__name__)

# Under a budget as vendors give it, four polls at a time are plenty; without one, the vendor's latency
# counts.
_LARGE_BUDGET = 600
_CONNECTIONS = 4
_MANY_CONNECTIONS = 32
# Each turn of an event loop has its cost; polls that go together share some.
_SLACK = 0.05
# What is remembered of keys that no run waits under any more is let go beyond so many.
_MOST_KEYS = 64

Clock = Callable[[], float]
T = TypeVar("T")


class PollScheduler:
    """
    Poll all runs that wait under one API key.

    Get one from :func:`scheduler_for`. Tasks and sockets live from the first waiting run to the last; what
    was learned of the key's budget and its agents' durations stays.

    :param clock: monotonic seconds.
    :param wall_clock: seconds since the epoch.
    :param emit: takes metrics, once a minute.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        clock: Clock,
        wall_clock: Clock = time.time,
        rng: random.Random = JITTER,
        emit: Emit | None = None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._rng = rng
        self._budget = PollBudget(settings.polls_per_minute, clock())
        self._circuit = Circuit(self._rng)
        self._durations = RunDurations()
        self._runs = WaitingRuns(self._durations)
        self._listings = Listings()
        base_url, digest = settings.credential
        # Characters that every metrics backend takes in a tag.
        self._metrics = PollMetrics(f"{urlsplit(base_url).hostname}-{digest[:8]}", clock(), emit)
        self._settings = settings
        self._clients = Clients()
        self._wakeup = Wakeup(self._wake)
        self._polls: set[asyncio.Task[None]] = set()
        self._listing: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing would be lost with this scheduler but what it learned."""
        return not self._runs and self._budget.is_idle(self._clock())

    async def watch(
        self,
        poller: RunPoller,
        call: Call[Run],
        settings: ClientSettings,
        *,
        on_note: Callable[[Note], None],
        delay: float = 0.0,
        bulk: BulkPolling | None = None,
    ) -> Decision:
        """
        Poll a run until its poller says that the wait is over or the connection must be looked up again.

        :param call: asks how the run stands.
        :param settings: the newest ``polls_per_minute`` counts for the whole key.
        :param on_note: takes lines for the log of whoever waits.
        :param delay: seconds before the first poll.
        :param bulk: the vendor's call that tells how many runs stand, to be used while the budget is short;
            the newest counts for the whole key.
        """
        now = self._clock()
        self._budget.polls_per_minute = settings.polls_per_minute
        self._listings.bulk, self._settings = bulk, settings
        run = WaitingRun(
            poller=poller,
            call=call.remembering(),
            settings=settings,
            interval=poller.interval,
            on_note=on_note,
            finished=asyncio.get_running_loop().create_future(),
            agent="",
            began=now,
            seen=now,
            asked=now,
            not_before=now + delay,
        )
        self._runs.put(run, run.not_before)
        self._wakeup.within(max(_SLACK, delay))
        try:
            return await run.finished
        finally:
            self._runs.remove(run)
            # A task, and shielded: should we be cancelled once more, it is done all the same.
            closing = asyncio.create_task(self._leave(run))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            await asyncio.shield(closing)

    async def _leave(self, run: WaitingRun) -> None:
        tasks = {run.poll} if run.poll else set()
        clients = None
        if not self._runs:
            self._wakeup.cancel()
            tasks |= self._polls
            # Taken away first: while we wait for their end, another run may come and start anew.
            clients, self._clients = self._clients, Clients()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if clients:
            await clients.close()

    def _wake(self) -> None:
        try:
            wait = self._poll_in_turn()
        except Exception as error:  # noqa: BLE001 - goes to all who wait
            for run in self._runs:
                if not run.finished.done():
                    run.finished.set_exception(error)
        else:
            if wait is not None:
                self._wakeup.within(max(_SLACK, wait))

    def _poll_in_turn(self) -> float | None:
        """Send what may go now; return seconds until more may go, or None if only a change can tell."""
        while True:
            now = self._clock()
            rate = self._budget.rate(now)
            # Probes go around: some runs may fail for reasons of their own.
            is_scarce = self._runs.demand > rate and not self._circuit.is_open
            is_listing = self._listing is not None and not self._listing.done()
            lists = not is_listing and is_scarce and self._listings.is_next(now, self._runs)
            # The poll that confirms what a listing shows is to go right after it.
            wait = self._wait(now, polls=2 if lists or is_listing else 1)
            if line := self._metrics.report(now, waiting=len(self._runs), budget=rate, next_poll=wait):
                log.info(line)
            if wait is None or wait > 0:
                return wait
            self._budget.spend(now)
            if lists and self._listings.bulk:
                self._listing = self._send(self._list(self._listings.bulk))
            elif run := self._runs.take(now, rate=rate, is_scarce=is_scarce):
                self._listings.polled()
                run.poll = self._send(self._poll(run))

    def _send(self, poll: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(poll)
        self._polls.add(task)

        def done(task: asyncio.Task[None]) -> None:
            # Not in the task itself: one that is cancelled before it begins would never get there.
            is_free = len(self._polls) < self._connections
            self._polls.discard(task)
            if self._runs:
                self._wakeup.within(_SLACK if is_free else 0)

        task.add_done_callback(done)
        return task

    def _wait(self, now: float, *, polls: int) -> float | None:
        """Return seconds until a poll may go, or None if only a change can tell."""
        due = self._runs.next_due(now)
        if due is None or len(self._polls) >= self._connections:
            return None
        if self._circuit.is_open and self._polls:
            return None
        return max(due - now, self._budget.wait(now, polls), self._circuit.wait(now))

    @property
    def _connections(self) -> int:
        return _MANY_CONNECTIONS if self._budget.polls_per_minute > _LARGE_BUDGET else _CONNECTIONS

    async def _poll(self, run: WaitingRun) -> None:
        try:
            decision = await self._ask(run)
        except Exception as error:  # noqa: BLE001 - goes to the one who waits for this run
            if not run.finished.done():
                run.finished.set_exception(error)
            return
        finally:
            run.poll = None
        if run.finished.done():
            return
        run.is_hinted = False
        if decision.outcome is None and not decision.resolve_connection:
            self._runs.put(run, self._clock() + decision.wait)
        else:
            run.finished.set_result(decision)
        for note in decision.notes:
            try:
                run.context.run(run.on_note, note)
            except Exception:
                log.exception("Run %s: a line of its log was lost", run.poller.ref.run_id)

    async def _ask(self, run: WaitingRun) -> Decision:
        try:
            answer = await self._answer(run.call, run.settings)
        except APIError as error:
            if isinstance(error, RateLimitError):
                # What was hinted at is not known yet: the next listing may hint at it again.
                run.mark = None
            return run.poller.on_error(error, self._wall_clock())
        now, wall_now = self._clock(), self._wall_clock()
        late = run.learn(answer, self._durations, now, wall_now)
        if late is not None:
            self._metrics.saw_end(late)
        if answer.status.is_terminal and self._listings.saw_end(run, now):
            log.info("Listings of runs rest for an hour: they show few of the ends that polls find")
        return run.poller.on_answer(answer, wall_now)

    async def _list(self, bulk: BulkPolling) -> None:
        sent, since = self._clock(), self._wall_clock()
        try:
            listed = await self._answer(self._listings.send(bulk, self._runs), self._settings)
            self._listings.answered(listed, self._runs, self._clock(), sent=sent, since=since)
        except RateLimitError:
            # The pause is the whole key's; it tells nothing about listings.
            pass
        except Exception as error:  # noqa: BLE001 - a hint that is missing must not touch any run
            rest = self._listings.failed(self._clock())
            reason = error if isinstance(error, APIError) else type(error).__name__
            log.info("Listings of runs rest for %.0f s, runs are polled singly: %s", rest, reason)

    async def _answer(self, call: Call[T], settings: ClientSettings) -> T:
        """
        Send a call and take note of what it tells about the key and the vendor.

        :raises APIError: it went wrong.
        """
        try:
            client = await self._clients.get(settings, connections=self._connections)
            answer = await client.send(call)
        except APIError as error:
            now = self._clock()
            if isinstance(error, RateLimitError):
                self._metrics.polled(PollResult.REFUSED)
                self._budget.refuse(now, rate_limit_pause(error, self._rng))
            else:
                self._metrics.polled(PollResult.FAILED)
            if not isinstance(error, APIConnectionError | ServerError):
                # Whatever it said, the vendor is there.
                self._note_answer()
            elif self._circuit.failed(now):
                log.warning(
                    "%s: %d waiting runs are not polled but for single probes", error, len(self._runs)
                )
            raise
        self._metrics.polled(PollResult.ANSWERED)
        self._note_answer()
        return answer

    def _note_answer(self) -> None:
        if self._circuit.succeeded():
            log.info("The vendor answers again; %d waiting runs are polled as before", len(self._runs))
            self._runs.spread(self._clock(), self._rng)


_schedulers: OnePerLoop[dict[tuple[str, str], PollScheduler]] = OnePerLoop(dict)


def scheduler_for(settings: ClientSettings, *, emit: Emit | None = None) -> PollScheduler:
    """
    Return the scheduler of a key in the running event loop.

    :param settings: connections with the same URL and key share one scheduler.
    :param emit: takes its metrics, if the scheduler is new.
    """
    of_loop = _schedulers.here()
    if settings.credential not in of_loop:
        if len(of_loop) >= _MOST_KEYS:
            for credential in [key for key, scheduler in of_loop.items() if scheduler.is_idle]:
                del of_loop[credential]
        of_loop[settings.credential] = PollScheduler(
            settings, clock=asyncio.get_running_loop().time, emit=emit
        )
    return of_loop[settings.credential]
