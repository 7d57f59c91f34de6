"""One scheduler for each API key in an event loop: it owns order, budget, sessions and backoff."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextvars import Context
from urllib.parse import urlsplit

from airflow_provider_agentruns.client._async import AsyncClient
from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.exceptions import (
    APIConnectionError,
    APIError,
    RateLimitError,
    ServerError,
)
from airflow_provider_agentruns.client.models import Run
from airflow_provider_agentruns.client.retry import rate_limit_pause
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.budget import PollBudget
from airflow_provider_agentruns.polling.circuit import Circuit
from airflow_provider_agentruns.polling.durations import RunDurations
from airflow_provider_agentruns.polling.event_loops import OnePerLoop
from airflow_provider_agentruns.polling.metrics import Emit, PollMetrics, PollResult
from airflow_provider_agentruns.polling.order import WaitingRun, WaitingRuns
from airflow_provider_agentruns.polling.poller import Decision, Note, RunPoller

log = logging.getLogger(__name__)

# Under a budget as vendors give it, four polls at a time are plenty; without one, the vendor's latency
# counts.
_LARGE_BUDGET = 600
_CONNECTIONS = 4
_MANY_CONNECTIONS = 32
# What is remembered of keys that no run waits under any more is let go beyond so many.
_MOST_KEYS = 64

Clock = Callable[[], float]


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
        rng: random.Random | None = None,
        emit: Emit | None = None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads polls, guards nothing
        self._budget = PollBudget(settings.polls_per_minute, clock())
        self._circuit = Circuit(self._rng)
        self._durations = RunDurations()
        self._runs = WaitingRuns(self._durations)
        base_url, digest = settings.credential
        # Characters that every metrics backend takes in a tag.
        self._metrics = PollMetrics(f"{urlsplit(base_url).hostname}-{digest[:8]}", clock(), emit)
        self._clients: dict[tuple[object, ...], AsyncClient] = {}
        self._pump: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._polls: set[asyncio.Task[None]] = set()
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
    ) -> Decision:
        """
        Poll a run until its poller says that the wait is over or the connection must be looked up again.

        :param call: asks how the run stands.
        :param settings: the newest ``polls_per_minute`` counts for the whole key.
        :param on_note: takes lines for the log of whoever waits.
        :param delay: seconds before the first poll.
        """
        now = self._clock()
        self._budget.polls_per_minute = settings.polls_per_minute
        run = WaitingRun(
            poller=poller,
            call=call,
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
        self._changed.set()
        if self._pump is None or self._pump.done():
            # In a context of its own: Airflow sends log lines to the task whose context they come from.
            self._pump = asyncio.create_task(self._keep_polling(), context=Context())
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
        clients: dict[tuple[object, ...], AsyncClient] = {}
        if not self._runs:
            # Taken away first: while we wait for their end, another run may come and start anew.
            tasks |= {self._pump} if self._pump else set()
            clients, self._clients, self._pump = self._clients, {}, None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*(client.close() for client in clients.values()), return_exceptions=True)

    async def _keep_polling(self) -> None:
        try:
            await self._poll_in_turn()
        except Exception as error:  # noqa: BLE001 - goes to all who wait
            for run in self._runs:
                if not run.finished.done():
                    run.finished.set_exception(error)

    async def _poll_in_turn(self) -> None:
        while True:
            self._changed.clear()
            now = self._clock()
            wait, rate = self._wait(now), self._budget.rate(now)
            if line := self._metrics.report(now, waiting=len(self._runs), budget=rate, next_poll=wait):
                log.info(line)
            if wait is None or wait > 0:
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                continue
            # Probes go around: some runs may fail for reasons of their own.
            is_scarce = self._runs.demand > rate and not self._circuit.is_open
            run = self._runs.take(now, rate=rate, is_scarce=is_scarce)
            if run is not None:
                self._budget.spend(now)
                self._send_poll(run)

    def _send_poll(self, run: WaitingRun) -> None:
        task = asyncio.create_task(self._poll(run))
        run.poll = task
        self._polls.add(task)

        def done(task: asyncio.Task[None]) -> None:
            # Not in the task itself: one that is cancelled before it begins would never get there.
            self._polls.discard(task)
            self._changed.set()

        task.add_done_callback(done)

    def _wait(self, now: float) -> float | None:
        """Return seconds until a poll may go, or None if only a change can tell."""
        due = self._runs.next_due(now)
        if due is None or len(self._polls) >= self._connections:
            return None
        if self._circuit.is_open and self._polls:
            return None
        return max(due - now, self._budget.wait(now), self._circuit.wait(now))

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
            answer = await self._client(run.settings).send(run.call)
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
            return run.poller.on_error(error, self._wall_clock())
        self._metrics.polled(PollResult.ANSWERED)
        self._note_answer()
        self._learn(run, answer)
        return run.poller.on_answer(answer, self._wall_clock())

    def _client(self, settings: ClientSettings) -> AsyncClient:
        # Connections may reach the same key by other ways, and a mended way must not wait for the old.
        if settings.transport not in self._clients:
            self._clients[settings.transport] = AsyncClient(settings, connections=self._connections)
        return self._clients[settings.transport]

    def _note_answer(self) -> None:
        if not self._circuit.succeeded():
            return
        log.info("The vendor answers again; %d waiting runs are polled as before", len(self._runs))
        now = self._clock()
        for run in list(self._runs):
            # Within an interval of the recovery, but none later than it was due, or sooner than it may be.
            due = max(run.not_before, now + self._rng.uniform(0, run.interval))
            if run.poll is None and due < run.due:
                self._runs.put(run, due)

    def _learn(self, run: WaitingRun, answer: Run) -> None:
        now = self._clock()
        if answer.agent_id:
            run.agent = answer.agent_id
        if not run.was_seen:
            # How old the run is, the vendor knows; a clock that is ahead of ours does not make it younger.
            started = answer.started_at or answer.created_at
            if started is not None:
                run.began = min(run.began, now - max(0.0, self._wall_clock() - started.timestamp()))
        seen_age, age = run.seen - run.began, now - run.began
        if not answer.status.is_terminal:
            self._durations.saw_running(run.agent, seen_age if run.was_seen else age, age)
            run.seen, run.was_seen = now, True
        elif run.was_seen:
            finished = answer.finished_at
            late = self._wall_clock() - finished.timestamp() if finished else (now - run.seen) / 2
            if finished:
                self._metrics.saw_end(max(0.0, late))
            self._durations.saw_end(run.agent, seen_age, min(age, max(seen_age, age - late)))


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
