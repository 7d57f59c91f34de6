"""What all triggers share: the way to the connection and to the poll scheduler of its key."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from airflow.providers.common.compat.sdk import AirflowNotFoundException, Stats
from airflow.triggers.base import BaseTrigger

from airflow_provider_agentruns.cancellation import (
    CANCELLED,
    no_way_to_cancel,
    not_cancelled,
    state_of_task,
)
from airflow_provider_agentruns.client.exceptions import AgentRunsError
from airflow_provider_agentruns.client.models import RunRef
from airflow_provider_agentruns.client.retry import JITTER, backoff
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.connection_cache import CachedConnection, connection_cache
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import Decision, Note, RunPoller
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


class VendorTrigger(BaseTrigger):
    """
    A trigger that waits for runs of one connection.

    :param conn_id: the Airflow connection; the trigger looks it up itself, no key is stored with it.
    """

    def __init__(self, *, conn_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.conn_id = conn_id

    async def watch(
        self,
        run_id: str,
        run_kind: str | None,
        make_poller: Callable[[RunRef], RunPoller],
        *,
        end_time: float,
        poll_from: float = 0.0,
        label: str = "",
        log_level: int = logging.INFO,
    ) -> Decision:
        """
        Wait until a run has ended, and tell how the wait ended. It never raises.

        :param make_poller: makes what decides on each poll.
        :param end_time: when to give up, seconds since the epoch.
        :param poll_from: when to poll first, seconds since the epoch.
        :param label: runs with the same one are expected to last alike.
        :param log_level: what is less worth knowing is not logged.
        """
        subject = f"Run {one_line(str(run_id), 80)}"

        def log_note(note: Note) -> None:
            if note.level >= log_level:
                self.log.log(note.level, "%s: %s", subject, note.text)

        poller: RunPoller | None = None
        looked_up_at = float("-inf")
        try:
            async with asyncio.timeout(max(0.0, end_time - time.time()) + _LAST_POLL):
                while True:
                    connection, looked_up_at = await self._look_up(subject, newer_than=looked_up_at)
                    poller = poller or make_poller(connection.adapter.ref(run_id, run_kind))
                    decision = await scheduler_for(connection.settings, emit=_emit).watch(
                        poller,
                        connection.adapter.status(poller.ref),
                        connection.settings,
                        on_note=log_note,
                        delay=max(0.0, poll_from - time.time()),
                        bulk=connection.bulk,
                        label=label,
                    )
                    if not decision.resolve_connection:
                        return decision
        except TimeoutError:
            return poller.on_deadline() if poller else Decision(Outcome.TIMED_OUT)
        except (AgentRunsError, AirflowNotFoundException, PermissionError) as error:
            return Decision(Outcome.REFUSED, error=AgentRunsError(str(error)))
        except Exception as error:
            self.log.exception("%s: waiting broke off; the run goes on at the vendor", subject)
            return Decision(Outcome.BROKEN, error=AgentRunsError(type(error).__name__))

    async def cancel(self, run_id: str, run_kind: str | None) -> str:
        """Cancel a run and return a sentence about what came of it. It does not raise what vendors cause."""
        # Not at the top: aiohttp is imported in a triggerer only, and once a run is to be polled.
        from airflow_provider_agentruns.client._async import AsyncClient  # noqa: PLC0415

        try:
            connection = (await connection_cache().get(self.conn_id)).connection
            call = connection.adapter.cancel(connection.adapter.ref(run_id, run_kind))
            if call is None:
                return no_way_to_cancel(connection.adapter.display_name)
            async with AsyncClient(connection.settings) as client:
                await client.send(call)
        except (AgentRunsError, AirflowNotFoundException) as error:
            return not_cancelled(error)
        return CANCELLED

    async def task_state(self) -> str | None:
        """
        Ask Airflow for the state of the task that waits.

        :raises LookupError: it does not tell.
        """
        # Not at the top: Airflow before 3.3, which never asks this, has it elsewhere.
        from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult  # noqa: PLC0415
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # noqa: PLC0415

        ti = self.task_instance
        if ti is None:
            raise LookupError("the trigger belongs to no task")
        answer = await SUPERVISOR_COMMS.asend(
            GetTaskStates(
                dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=[ti.task_id], map_index=ti.map_index
            )
        )
        if not isinstance(answer, TaskStatesResult):
            raise LookupError(f"Airflow answers {answer!r}")  # noqa: TRY004 - an answer, no argument
        return state_of_task(answer.task_states, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index)

    def task_label(self) -> str:
        """Return what a task's runs are expected to have in common: how long they last."""
        ti = self.task_instance
        return f"{ti.dag_id}.{ti.task_id}" if ti else ""

    async def _look_up(self, subject: str, *, newer_than: float) -> CachedConnection:
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
                        "%s: cannot look up connection %r (%s); trying again",
                        subject,
                        self.conn_id,
                        type(error).__name__,
                    )
                await asyncio.sleep(backoff(failures, base=2.0, cap=_LONGEST_CONNECTION_BACKOFF, rng=JITTER))
