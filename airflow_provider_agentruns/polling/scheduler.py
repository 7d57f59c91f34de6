"""One scheduler for each API key in an event loop: it owns order, budget, sessions and backoff."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine

from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.exceptions import (
    APIConnectionError,
    APIError,
    AuthenticationError,
)
from airflow_provider_agentruns.client.models import Run, RunStatus
from airflow_provider_agentruns.client.retry import JITTER
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.budget import PollBudget
from airflow_provider_agentruns.polling.clients import Clients
from airflow_provider_agentruns.polling.durations import RunDurations
from airflow_provider_agentruns.polling.listings import Listings
from airflow_provider_agentruns.polling.metrics import Emit, PollMetrics
from airflow_provider_agentruns.polling.order import WaitingRuns
from airflow_provider_agentruns.polling.poller import Decision, Note, RunPoller
from airflow_provider_agentruns.polling.sender import Sender, key_name
from airflow_provider_agentruns.polling.waiting_run import WaitingRun
from airflow_provider_agentruns.polling.wakeup import Wakeup
from airflow_provider_agentruns.vendors.base import BulkPolling

log = logging.getLogger(__name__)

# Each turn of an event loop has its cost; polls that go together share some.
_SLACK = 0.05
# A key that is refused is looked up again for all runs that wait under it, but not more often than that.
_RESOLVED_TOGETHER = 60.0

Clock = Callable[[], float]


class PollScheduler:
    """
    Poll all runs that wait under one API key.

    There is one for each key and event loop, see :mod:`scheduler_registry`. Timers, tasks and sockets live
    from the first waiting run to the last; what was learned of the key's budget and its agents stays.

    :param clock: monotonic seconds.
    :param wall_clock: seconds since the epoch.
    :param emit: takes metrics, once a minute.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        clock: Clock,
        wall_clock: Clock | None = None,
        rng: random.Random = JITTER,
        emit: Emit | None = None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock or time.time
        self._rng = rng
        self._emit = emit
        self._budget = PollBudget(settings.polls_per_minute, clock())
        self._durations = RunDurations()
        self._runs = WaitingRuns(self._durations)
        self._metrics = PollMetrics(key_name(settings), clock())
        self._sender = Sender(self._budget, self._metrics, clock=clock, rng=rng, on_recovery=self._resume)
        self._listings = Listings(self._metrics.key, clock=clock, wall_clock=self._wall_clock)
        self._wakeup = Wakeup(self._wake)
        # Of the runs that wait: their budgets, of which the smallest counts, and those that may be listed.
        self._budgets: Counter[int] = Counter()
        self._listed: dict[WaitingRun, BulkPolling] = {}
        self._polls: set[asyncio.Task[None]] = set()
        self._listing: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._resolved_at = float("-inf")

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
        label: str = "",
    ) -> Decision:
        """
        Poll a run until its poller says that the wait is over or the connection must be looked up again.

        :param call: asks how the run stands.
        :param settings: of all the runs that wait under the key, the smallest ``polls_per_minute`` counts.
        :param on_note: takes lines for the log of whoever waits.
        :param delay: seconds before the first poll.
        :param bulk: the vendor's call that tells how many runs stand, to be used while the budget is short.
        :param label: runs with the same one are expected to last alike, until the vendor names their agent.
        """
        now = self._clock()
        run = WaitingRun(
            poller=poller,
            call=call.remembering(),
            settings=settings,
            interval=poller.interval,
            on_note=on_note,
            finished=asyncio.get_running_loop().create_future(),
            label=label,
            began=now,
            seen=now,
            asked=now,
            polled=now,
            not_before=now + delay,
            deadline=now + poller.end_time - self._wall_clock(),
        )
        self._join(run, bulk)
        try:
            return await run.finished
        finally:
            self._runs.remove(run)
            self._listed.pop(run, None)
            # A task, and shielded: should we be cancelled once more, it is done all the same.
            closing = asyncio.create_task(self._leave(run))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            await asyncio.shield(closing)

    def _join(self, run: WaitingRun, bulk: BulkPolling | None) -> None:
        self._budgets[run.settings.polls_per_minute] += 1
        self._budget.polls_per_minute = min(self._budgets)
        if bulk is not None:
            self._listed[run] = bulk
        self._runs.put(run, run.not_before)
        self._wakeup.within(max(_SLACK, run.not_before - self._clock()))

    async def _leave(self, run: WaitingRun) -> None:
        self._budgets[run.settings.polls_per_minute] -= 1
        self._budgets += Counter()
        if self._budgets:
            self._budget.polls_per_minute = min(self._budgets)
        tasks = {run.poll} if run.poll else set()
        clients = None
        if not self._runs:
            self._wakeup.cancel()
            tasks |= self._polls
            # Taken away first: while we wait for their end, another run may come and start anew.
            clients, self._sender.clients = self._sender.clients, Clients()
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
            is_probe = self._sender.circuit.is_open
            is_scarce = self._runs.demand > rate and not is_probe
            is_listing = self._listing is not None and not self._listing.done()
            lists = (
                is_scarce
                and bool(self._listed)
                and not is_listing
                and self._listings.is_next(now, self._listed, self._runs)
            )
            # The poll that confirms what a listing shows is to go right after it.
            wait = self._wait(now, polls=2 if lists or is_listing else 1)
            self._report(now, rate, wait)
            if wait is None or wait > 0:
                return wait
            self._budget.spend(now)
            if lists:
                self._listing = self._send(self._listings.ask(self._listed, self._runs, self._sender))
                continue
            run = (
                self._runs.take_probe(now, self._rng)
                if is_probe
                else self._runs.take(now, rate=rate, is_scarce=is_scarce)
            )
            if run:
                self._listings.polled()
                run.poll = self._send(self._poll(run))

    def _send(self, poll: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(poll)
        self._polls.add(task)

        def done(task: asyncio.Task[None]) -> None:
            # Not in the task itself: one that is cancelled before it begins would never get there.
            is_free = len(self._polls) < self._sender.connections
            self._polls.discard(task)
            if self._runs:
                self._wakeup.within(_SLACK if is_free else 0)

        task.add_done_callback(done)
        return task

    def _wait(self, now: float, *, polls: int) -> float | None:
        """Return seconds until a poll may go, or None if only a change can tell."""
        due = self._runs.next_due(now)
        circuit = self._sender.circuit
        if due is None or len(self._polls) >= self._sender.connections:
            return None
        if circuit.is_open and self._polls:
            return None
        return max(due - now, self._budget.wait(now, polls), circuit.wait(now))

    def _report(self, now: float, rate: float, wait: float | None) -> None:
        report = self._metrics.report(now, waiting=len(self._runs), budget=rate, next_poll=wait)
        if report is None:
            return
        log.info(report.line)
        if self._emit is None:
            return
        try:
            for name, value, tags in report.values:
                self._emit(name, value, tags)
        except Exception:
            # Whoever takes the metrics may be broken; the waits are not.
            log.exception("%s: the metrics of the last minute were lost", self._metrics.key)

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
            answer = await self._sender.send(run.call, run.settings)
        except APIError as error:
            return self._on_error(run, error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not we are cancelled, but something below broke off.
            return self._on_error(run, APIConnectionError("the poll broke off"))
        now, wall_now = self._clock(), self._wall_clock()
        late = run.learn(answer, self._durations, now, wall_now)
        if answer.status.is_terminal:
            self._metrics.saw_end(late)
            if run in self._listed:
                self._listings.saw_end(run, now)
        if run.is_hinted and answer.status in {RunStatus.QUEUED, RunStatus.RUNNING}:
            run.hint_was_false(now)
        return run.poller.on_answer(answer, wall_now)

    def _on_error(self, run: WaitingRun, error: APIError) -> Decision:
        now = self._clock()
        decision = run.poller.on_error(error, self._wall_clock())
        run.failed(now, decision.wait)
        if isinstance(error, AuthenticationError) and now - self._resolved_at > _RESOLVED_TOGETHER:
            # The key is the same for all who came the same way: each would spend a poll to find that out.
            self._resolved_at = now
            for other in list(self._runs):
                if other.settings == run.settings and other is not run and not other.finished.done():
                    other.finished.set_result(Decision(None, resolve_connection=True))
        return decision

    def _resume(self, failed_since: float) -> None:
        self._runs.resume(failed_since, self._clock(), self._rng)
