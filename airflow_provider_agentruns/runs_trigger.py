"""The trigger that waits for many runs of one task."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from functools import partial
from typing import Any

from airflow.triggers.base import TriggerEvent
from pydantic import BaseModel, ConfigDict

from airflow_provider_agentruns.client.exceptions import AuthenticationError, PermissionDeniedError
from airflow_provider_agentruns.client.models import RunRef, RunStatus
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.polling.goal import Verdict, judge
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import Decision, RunPoller
from airflow_provider_agentruns.vendor_trigger import VendorTrigger

# Watches begun in one go; the event loop has other triggers to serve.
_BEGUN_AT_ONCE = 100
_SECONDS_BETWEEN_REPORTS = 60.0
_MOST_REASONS = 20
_LONGEST_REASON = 200


class RunsOutcome(StrEnum):
    """Why a wait for many runs is over."""

    REACHED = "reached"
    OUT_OF_REACH = "out_of_reach"
    TIMED_OUT = "timed_out"
    REFUSED = "refused"
    BROKEN = "broken"


# How a run was last seen, one letter each: events are logged whole, and there may be thousands of runs.
_LETTERS = {
    **{status.value: status.value[0].upper() for status in RunStatus},
    Outcome.REFUSED.value: "X",
    Outcome.BROKEN.value: "B",
    Outcome.STALLED.value: "T",
    "never_seen": "-",
}
_WORDS = {letter: word for word, letter in _LETTERS.items()}


class AgentRunsEvent(BaseModel):
    """
    How a wait for many runs ended: what the trigger tells the worker.

    :param runs: how each run was last seen, a letter each, in the order of their ids.
    :param digest: of these ids.
    :param reasons: why runs were refused, by their place; not all, if there are many.
    :param error: why all were.
    :param since: when the wait began, seconds since the epoch.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    outcome: RunsOutcome
    runs: str
    digest: str
    reasons: dict[int, str] = {}
    error: str | None = None
    since: float

    @property
    def statuses(self) -> list[str]:
        """Return a word for each run: a status, or ``refused``, ``broken``, ``stalled``, ``never_seen``."""
        return [_WORDS.get(letter, RunStatus.UNKNOWN.value) for letter in self.runs]


def digest_of(run_ids: Sequence[str]) -> str:
    """Return a short digest of run ids in their order."""
    return hashlib.sha256("\n".join(run_ids).encode()).hexdigest()[:16]


class AgentRunsTrigger(VendorTrigger):
    """
    Wait until enough of many runs have succeeded, or cannot any more, then fire one :class:`AgentRunsEvent`.

    :param conn_id: the Airflow connection.
    :param run_ids: the runs, each once.
    :param run_kind: ``agent`` or ``tool`` where the vendor tells them apart; None for its default.
    :param needed: how many have to succeed.
    :param poll_interval: seconds between polls of a run, as far as the key's budget allows.
    :param since: when the wait began, seconds since the epoch.
    :param end_time: when to give up, seconds since the epoch.
    :param poll_from: when to poll first, seconds since the epoch.
    :param stall_timeout: seconds without a change at the vendor after which a run counts as failed.
    """

    def __init__(
        self,
        *,
        conn_id: str,
        run_ids: Sequence[str],
        needed: int,
        since: float,
        end_time: float,
        run_kind: str | None = None,
        poll_interval: float = 5.0,
        poll_from: float = 0.0,
        stall_timeout: float | None = None,
    ) -> None:
        super().__init__(conn_id=conn_id)
        self.run_ids = list(run_ids)
        self.needed = needed
        self.since = since
        self.end_time = end_time
        self.run_kind = run_kind
        self.poll_interval = poll_interval
        self.poll_from = poll_from
        self.stall_timeout = stall_timeout
        self._pollers: dict[int, RunPoller] = {}
        self._ended: dict[int, Decision] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, which Airflow stores in its database."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "conn_id": self.conn_id,
                "run_ids": self.run_ids,
                "needed": self.needed,
                "since": self.since,
                "end_time": self.end_time,
                "run_kind": self.run_kind,
                "poll_interval": self.poll_interval,
                "poll_from": self.poll_from,
                "stall_timeout": self.stall_timeout,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the runs and fire one event."""
        ended: asyncio.Queue[tuple[int, Decision]] = asyncio.Queue()
        watches = asyncio.create_task(self._watch_all(ended))
        try:
            outcome, error = await self._decide(ended)
        except Exception as broken:
            self.log.exception("Waiting for %d runs broke off; they go on at the vendor", len(self.run_ids))
            outcome, error = RunsOutcome.BROKEN, type(broken).__name__
        finally:
            watches.cancel()
            await asyncio.gather(watches, return_exceptions=True)
        event = AgentRunsEvent(
            outcome=outcome,
            runs="".join(self._letter(place) for place in range(len(self.run_ids))),
            digest=digest_of(self.run_ids),
            reasons=self._reasons(),
            error=error,
            since=self.since,
        )
        yield TriggerEvent(event.model_dump(mode="json"))

    async def _watch_all(self, ended: asyncio.Queue[tuple[int, Decision]]) -> None:
        async with asyncio.TaskGroup() as group:
            for place in range(len(self.run_ids)):
                group.create_task(self._watch(place, ended))
                if place % _BEGUN_AT_ONCE == _BEGUN_AT_ONCE - 1:
                    await asyncio.sleep(0)

    async def _watch(self, place: int, ended: asyncio.Queue[tuple[int, Decision]]) -> None:
        decision = await self.watch(
            self.run_ids[place],
            self.run_kind,
            partial(self._poller, place),
            end_time=self.end_time,
            poll_from=self.poll_from,
            label=self.task_label(),
            log_level=logging.WARNING,
        )
        ended.put_nowait((place, decision))

    def _poller(self, place: int, ref: RunRef) -> RunPoller:
        self._pollers[place] = RunPoller(
            ref, interval=self.poll_interval, end_time=self.end_time, stall_timeout=self.stall_timeout
        )
        return self._pollers[place]

    async def _decide(self, ended: asyncio.Queue[tuple[int, Decision]]) -> tuple[RunsOutcome, str | None]:
        counts: Counter[str] = Counter()
        reported_at = time.monotonic()
        late = 0
        while True:
            succeeded = counts[RunStatus.SUCCEEDED]
            open_runs = len(self.run_ids) - counts.total()
            verdict = judge(needed=self.needed, succeeded=succeeded, can_succeed=open_runs)
            if verdict is not None:
                return (RunsOutcome.REACHED if verdict is Verdict.REACHED else RunsOutcome.OUT_OF_REACH), None
            # Their last polls stand in line; one of them may still bring the end.
            if late == open_runs:
                return RunsOutcome.TIMED_OUT, None
            place, decision = await ended.get()
            self._ended[place] = decision
            if isinstance(decision.error, AuthenticationError | PermissionDeniedError):
                return RunsOutcome.REFUSED, one_line(str(decision.error))
            if decision.outcome is Outcome.TIMED_OUT:
                late += 1
                continue
            counts[self._word(place)] += 1
            if time.monotonic() - reported_at >= _SECONDS_BETWEEN_REPORTS:
                reported_at = time.monotonic()
                self.log.info(
                    "%d of %d runs have ended, %d succeeded",
                    counts.total(),
                    len(self.run_ids),
                    counts[RunStatus.SUCCEEDED],
                )

    def _word(self, place: int) -> str:
        decision = self._ended.get(place)
        if decision is None:
            poller = self._pollers.get(place)
            decision = poller.on_deadline() if poller else Decision(Outcome.TIMED_OUT)
        if decision.outcome in {Outcome.REFUSED, Outcome.BROKEN, Outcome.STALLED}:
            return str(decision.outcome)
        return str(decision.run.status) if decision.run else "never_seen"

    def _letter(self, place: int) -> str:
        return _LETTERS[self._word(place)]

    def _reasons(self) -> dict[int, str]:
        told = [(place, decision.error) for place, decision in self._ended.items() if decision.error]
        return {place: one_line(str(error), _LONGEST_REASON) for place, error in sorted(told)[:_MOST_REASONS]}
