"""What all triggers share: the way to the connection and to the poll scheduler of its key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from airflow.providers.common.compat.sdk import AirflowNotFoundException, Stats
from airflow.triggers.base import BaseTrigger

from airflow_provider_agentruns.client.exceptions import AgentRunsError
from airflow_provider_agentruns.client.models import RunRef
from airflow_provider_agentruns.client.retry import JITTER, backoff
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.connection_cache import CachedConnection, connection_cache
from airflow_provider_agentruns.polling.poller import Decision, Outcome, RunPoller
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
    ) -> Decision:
        """
        Wait until a run has ended, and tell how the wait ended. It never raises.

        :param make_poller: makes what decides on each poll.
        :param end_time: when to give up, seconds since the epoch.
        :param poll_from: when to poll first, seconds since the epoch.
        :param label: runs with the same one are expected to last alike.
        """
        subject = f"Run {one_line(str(run_id), 80)}"
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
                        on_note=lambda note: self.log.log(note.level, "%s: %s", subject, note.text),
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
