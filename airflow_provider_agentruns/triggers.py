"""The trigger that waits for one run in the triggerer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, Self

from airflow.triggers.base import TriggerEvent
from pydantic import BaseModel, ConfigDict

from airflow_provider_agentruns import hitl
from airflow_provider_agentruns.cancellation import is_given_up
from airflow_provider_agentruns.client.models import RunRef, RunStatus
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.deadline import Deadline
from airflow_provider_agentruns.polling.human_watch import HumanExchange, HumanPolicy, human_watch
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import Decision, RunPoller
from airflow_provider_agentruns.vendor_trigger import VendorTrigger


class AgentRunEvent(BaseModel):
    """
    How a wait ended: what the trigger tells the worker, without output or secret.

    Airflow logs every event whole and stores it in its database.

    :param status: the run's status as last seen, None if it was never seen.
    :param since: when the wait began, seconds since the epoch; 0 if that is not known.
    :param end_time: the wait's deadline, seconds since the epoch.
    :param error: why the vendor refused, or what broke; one line.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    outcome: Outcome
    run_id: str
    run_kind: str | None
    status: RunStatus | None = None
    raw_status: str | None = None
    since: float = 0.0
    end_time: float
    error: str | None = None

    @classmethod
    def of(
        cls, decision: Decision, *, run_id: str, run_kind: str | None, since: float, end_time: float
    ) -> Self:
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
            since=since,
            end_time=end_time,
            error=one_line(str(decision.error)) if decision.error else None,
        )

    def subject(self, conn_id: str) -> str:
        """Return the beginning of a sentence that says which run, and how it was last seen."""
        status = f"last status {self.status}, vendor {self.raw_status!r}" if self.status else "never seen"
        return f"Run {self.run_id} (connection {conn_id!r}, {status})"

    def elapsed(self, now: float) -> str:
        """
        Return for how long this try has waited.

        :param now: seconds since the epoch.
        """
        return f"{now - self.since:.0f} s" if self.since else "the time given"


class AgentRunTrigger(VendorTrigger):
    """
    Wait until a run has ended, then fire one event, whose payload is an :class:`AgentRunEvent`.

    It never raises: what goes wrong is told in the event, so that the worker can name the run.

    :param conn_id: the Airflow connection; the trigger looks it up itself, no key is stored with it.
    :param run_id: the run.
    :param run_kind: ``agent`` or ``tool`` where the vendor tells them apart; None for its default.
    :param agent_id: whose run it is, where that is known: how long it lasts can be guessed sooner.
    :param poll_interval: seconds between polls, as far as the key's budget allows.
    :param end_time: when to give up, seconds since the epoch; told from ``timeout`` if it is not given.
    :param poll_from: when to poll first, seconds since the epoch.
    :param not_found_until: until when "no such run" is taken for a run too young to be seen, seconds
        since the epoch.
    :param since: when the wait began, seconds since the epoch.
    :param stall_timeout: seconds without a change at the vendor after which to give up.
    :param cancel_on_kill: whether to cancel the run when the task is killed.
    :param cancel_on_clear: whether a clear counts as a kill: the task will not go on with this run.
    :param human_policies: what to do about what the run asks of a human, by topic; None to go on waiting.
    :param exchange: how far the exchange with the run has got.
    :param timeout: seconds to wait, for a task that went to the triggerer without a worker.
    :param execution_timeout: the task's, in seconds, for the same.
    """

    def __init__(
        self,
        *,
        conn_id: str,
        run_id: str,
        end_time: float | None = None,
        run_kind: str | None = None,
        agent_id: str | None = None,
        poll_interval: float = 5.0,
        poll_from: float = 0.0,
        not_found_until: float = 0.0,
        since: float = 0.0,
        stall_timeout: float | None = None,
        cancel_on_kill: bool = False,
        cancel_on_clear: bool = False,
        human_policies: dict[str, str] | None = None,
        exchange: dict[str, Any] | None = None,
        timeout: float | None = None,
        execution_timeout: float | None = None,
    ) -> None:
        super().__init__(conn_id=conn_id)
        self.run_id = run_id
        self.run_kind = run_kind
        self.agent_id = agent_id
        self.poll_interval = poll_interval
        self.end_time = end_time or 0.0
        self.poll_from = poll_from
        self.not_found_until = not_found_until
        self.since = since
        self.stall_timeout = stall_timeout
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_clear = cancel_on_clear
        self.human_policies = human_policies
        self.exchange = exchange
        self.timeout = timeout
        self.execution_timeout = execution_timeout

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
                "since": self.since,
                "stall_timeout": self.stall_timeout,
                "cancel_on_kill": self.cancel_on_kill,
                "cancel_on_clear": self.cancel_on_clear,
                "human_policies": self.human_policies,
                "exchange": self.exchange,
                "timeout": self.timeout,
                "execution_timeout": self.execution_timeout,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the run and fire one event."""
        if self.timeout is not None:
            timeout_after = getattr(self, "timeout_after", None)
            self.since, self.end_time = Deadline.of(timeout_after, self.timeout, self.execution_timeout)
        watching = self.watch(
            self.run_id,
            self.run_kind,
            self._poller,
            end_time=self.end_time,
            poll_from=self.poll_from,
            label=self._label(),
        )
        ti = self.task_instance
        if self._exchange.asked is None or ti is None:
            may_ask = HumanPolicy.ASK in (self.human_policies or {}).values()
            if ti is not None and ti.try_number > 1 and may_ask:
                # What an earlier try asked: a response to it would resume this one.
                await hitl.close(ti.id, hitl.NOBODY_WAITS)
            yield self._event(await watching)
            return
        looking = hitl.response_in_airflow(ti.id, look_from=self.poll_from)
        response, decision = await hitl.first_of(looking, watching)
        if decision is not None:
            asks_on = decision.outcome is Outcome.ASKS
            is_closed = not asks_on and await hitl.close(ti.id, self._why_closed(decision))
            if not is_closed and (late := await hitl.read_response(ti.id)):
                await hitl.leave_to_airflow()
                response = late if decision.outcome is Outcome.UNANSWERED else None
        if response or decision is None:
            yield TriggerEvent({**(response or {}), "run_id": self.run_id})
        else:
            yield self._event(decision)

    async def on_kill(self) -> None:
        """
        Cancel the run if its task was marked failed or successful, or cleared to start anew.

        Airflow calls this also when another triggerer has taken the wait over, so the task's state decides.
        Where that cannot be told, the run is left alone.
        """
        if not self.cancel_on_kill or time.time() >= self.end_time:
            return
        subject = f"Run {self.run_id} (connection {self.conn_id!r})"
        try:
            if not is_given_up(await self.task_state(), cancel_on_clear=self.cancel_on_clear):
                self.log.info("%s is left alone: its task still waits for it", subject)
                return
        except Exception:
            self.log.exception("%s is left alone: whether its task still waits for it is not known", subject)
            return
        self.log.warning("%s: its task was ended. %s", subject, await self.cancel(self.run_id, self.run_kind))

    def _event(self, decision: Decision) -> TriggerEvent:
        event = AgentRunEvent.of(
            decision, run_id=self.run_id, run_kind=self.run_kind, since=self.since, end_time=self.end_time
        )
        return TriggerEvent(event.model_dump(mode="json"))

    def _why_closed(self, decision: Decision) -> str:
        if decision.outcome is Outcome.ANSWERED:
            return hitl.ANSWERED_ELSEWHERE
        if decision.outcome is Outcome.UNANSWERED:
            return self._exchange.default or hitl.NO_RESPONSE
        return hitl.RUN_IS_OVER if decision.outcome is Outcome.ENDED else hitl.NOBODY_WAITS

    @property
    def _exchange(self) -> HumanExchange:
        return HumanExchange.model_validate(self.exchange or {})

    def _poller(self, ref: RunRef) -> RunPoller:
        return RunPoller(
            ref,
            interval=self.poll_interval,
            end_time=self.end_time,
            not_found_until=self.not_found_until,
            stall_timeout=self.stall_timeout,
            human=human_watch(self.human_policies, self._exchange),
        )

    def _label(self) -> str:
        return self.agent_id or self.task_label()
