"""The trigger that waits for one run in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Self

from airflow.providers.common.compat.sdk import AirflowNotFoundException, Stats
from airflow.triggers.base import BaseTrigger, TriggerEvent
from pydantic import BaseModel, ConfigDict

from airflow_provider_agentruns.client.exceptions import AgentRunsError
from airflow_provider_agentruns.client.models import RunStatus
from airflow_provider_agentruns.client.retry import JITTER, backoff
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.connection_cache import CachedConnection, connection_cache
from airflow_provider_agentruns.connections import VendorConnection
from airflow_provider_agentruns.polling.poller import Decision, Note, Outcome, RunPoller
from airflow_provider_agentruns.polling.scheduler_registry import scheduler_for

# A poll that is due at the deadline may take so long; a pause of the key may not hold the task longer.
_LAST_POLL = 30.0
# A connection that was there when the task deferred is looked for so long before it is given up.
_CONNECTION_GRACE = 300.0
_LONGEST_CONNECTION_BACKOFF = 30.0


def _emit(name: str, value: float, tags: dict[str, str]) -> None:
    """Hand a poll scheduler's metric to Airflow's."""
    if name == "polls":
        Stats.incr("agentruns.polls", int(value), tags=tags)
    else:
        Stats.gauge(f"agentruns.{name}", value, tags=tags)


class AgentRunEvent(BaseModel):
    """
    How a wait ended: what the trigger tells the worker, without output or secret.

    Airflow logs every event whole and stores it in its database.

    :param status: the run's status as last seen, None if it was never seen.
    :param end_time: the wait's deadline, seconds since the epoch.
    :param error: why the vendor refused, or what broke; one line.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    outcome: Outcome
    run_id: str
    run_kind: str | None
    status: RunStatus | None = None
    raw_status: str | None = None
    end_time: float
    error: str | None = None

    @classmethod
    def of(cls, decision: Decision, *, run_id: str, run_kind: str | None, end_time: float) -> Self:
        """
        Return the event for the decision that ended a wait.

        :param decision: one with an outcome.
        """
        return cls(
            outcome=decision.outcome or Outcome.BROKEN,
            run_id=run_id,
            run_kind=run_kind,
            status=decision.run.status if decision.run else None,
            raw_status=decision.run.raw_status if decision.run else None,
            end_time=end_time,
            error=one_line(str(decision.error)) if decision.error else None,
        )

    def subject(self, conn_id: str) -> str:
        """Return the beginning of a sentence that says which run, and how it was last seen."""
        status = f"last status {self.status}, vendor {self.raw_status!r}" if self.status else "never seen"
        return f"Run {self.run_id} (connection {conn_id!r}, {status})"


class AgentRunTrigger(BaseTrigger):
    """
    Wait until a run has ended, then fire one event, whose payload is an :class:`AgentRunEvent`.

    It never raises: what goes wrong is told in the event, so that the worker can name the run.

    :param conn_id: the Airflow connection; the trigger looks it up itself, no key is stored with it.
    :param run_id: the run.
    :param run_kind: ``agent`` or ``tool`` where the vendor tells them apart; None for its default.
    :param agent_id: whose run it is, where that is known: how long it lasts can be guessed sooner.
    :param poll_interval: seconds between polls, as far as the key's budget allows.
    :param end_time: when to give up, seconds since the epoch.
    :param poll_from: when to poll first, seconds since the epoch.
    :param not_found_until: until when "no such run" is taken for a run too young to be seen, seconds
        since the epoch.
    """

    def __init__(
        self,
        *,
        conn_id: str,
        run_id: str,
        end_time: float,
        run_kind: str | None = None,
        agent_id: str | None = None,
        poll_interval: float = 5.0,
        poll_from: float = 0.0,
        not_found_until: float = 0.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.conn_id = conn_id
        self.run_id = run_id
        self.run_kind = run_kind
        self.agent_id = agent_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.poll_from = poll_from
        self.not_found_until = not_found_until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, which Airflow stores in its database."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "conn_id": self.conn_id,
                "run_id": self.run_id,
                "run_kind": self.run_kind,
                "agent_id": self.agent_id,
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                "poll_from": self.poll_from,
                "not_found_until": self.not_found_until,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the run and fire one event."""
        try:
            decision = await self._watch()
        except (AgentRunsError, AirflowNotFoundException, PermissionError) as error:
            decision = Decision(Outcome.REFUSED, error=AgentRunsError(str(error)))
        except Exception as error:
            self.log.exception("Run %s: waiting broke off; the run goes on at the vendor", self.run_id)
            decision = Decision(Outcome.BROKEN, error=AgentRunsError(type(error).__name__))
        event = AgentRunEvent.of(decision, run_id=self.run_id, run_kind=self.run_kind, end_time=self.end_time)
        yield TriggerEvent(event.model_dump(mode="json"))

    async def _watch(self) -> Decision:
        poller: RunPoller | None = None
        looked_up_at = float("-inf")
        try:
            async with asyncio.timeout(max(0.0, self.end_time - time.time()) + _LAST_POLL):
                while True:
                    connection, looked_up_at = await self._look_up(newer_than=looked_up_at)
                    poller = poller or self._poller(connection)
                    decision = await scheduler_for(connection.settings, emit=_emit).watch(
                        poller,
                        connection.adapter.status(poller.ref),
                        connection.settings,
                        on_note=self._log_note,
                        delay=max(0.0, self.poll_from - time.time()),
                        bulk=connection.bulk,
                        label=self._label(),
                    )
                    if not decision.resolve_connection:
                        return decision
        except TimeoutError:
            return poller.on_deadline() if poller else Decision(Outcome.TIMED_OUT)

    def _poller(self, connection: VendorConnection) -> RunPoller:
        return RunPoller(
            connection.adapter.ref(self.run_id, self.run_kind),
            interval=self.poll_interval,
            end_time=self.end_time,
            not_found_until=self.not_found_until,
        )

    def _label(self) -> str:
        """Return what runs that last alike have in common, as far as is known before the first answer."""
        if self.agent_id:
            return self.agent_id
        ti = self.task_instance
        return f"{ti.dag_id}.{ti.task_id}" if ti else ""

    def _log_note(self, note: Note) -> None:
        self.log.log(note.level, "Run %s: %s", self.run_id, note.text)

    async def _look_up(self, *, newer_than: float) -> CachedConnection:
        failures = 0
        give_up_at = time.time() + _CONNECTION_GRACE
        while True:
            try:
                return await connection_cache().get(self.conn_id, newer_than=newer_than)
            except (AgentRunsError, PermissionError):
                raise
            except Exception as error:
                # The API server or a secrets backend may be away for a moment; the run is not. Airflow
                # says "not found" for an API server that is away, too.
                failures += 1
                if isinstance(error, AirflowNotFoundException) and time.time() >= give_up_at:
                    raise
                if failures == 1:
                    self.log.warning(
                        "Run %r: cannot look up connection %r (%s); trying again",
                        self.run_id,
                        self.conn_id,
                        type(error).__name__,
                    )
                await asyncio.sleep(backoff(failures, base=2.0, cap=_LONGEST_CONNECTION_BACKOFF, rng=JITTER))
