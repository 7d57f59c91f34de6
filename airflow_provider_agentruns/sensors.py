"""Sensors: wait until a run, or many, have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowNotFoundException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    Context,
)

from airflow_provider_agentruns.client.exceptions import AgentRunsError, InvalidInputError
from airflow_provider_agentruns.client.models import Run, RunRef, RunStatus
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.deadline import bounded
from airflow_provider_agentruns.exceptions import (
    AgentRunUnreadable,
    SensedRunCancelled,
    SensedRunFailed,
    SensedRunNeedsHuman,
    SensedRunRefused,
)
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.polling.human_watch import HumanPolicies
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import RunPoller
from airflow_provider_agentruns.runs_sensor import AgentRunsSensor
from airflow_provider_agentruns.start_from_trigger import can_start_from_trigger, start_trigger_args
from airflow_provider_agentruns.triggers import AgentRunEvent
from airflow_provider_agentruns.waiting import (
    DEFAULT_DEFERRABLE,
    DEFAULT_INTERVAL,
    RunWait,
    ended_by_airflow,
    look_again,
    read_event,
    seconds,
)
from airflow_provider_agentruns.xcom import RUN_ID_KEY, push

__all__ = ["AgentRunSensor", "AgentRunsSensor"]


class AgentRunSensor(BaseSensorOperator):
    """
    Wait until a run that somebody else started has succeeded; fail as soon as it fails.

    :param conn_id: the Airflow connection, whose type selects the vendor. (templated)
    :param run_id: the run. (templated)
    :param run_kind: ``agent`` or ``tool`` where the vendor tells them apart. (templated)
    :param poke_interval: seconds or timedelta between polls, as far as the key's budget allows.
    :param timeout: seconds or timedelta to wait at most; a shorter ``execution_timeout`` counts as well.
    :param stall_timeout: seconds or timedelta after which to give up a run that shows no change.
    :param deferrable: whether to wait in the triggerer, holding no worker.
    :param soft_fail: whether a failure skips the task instead.
    :param on_human_request: what to do when the run asks a human: ``wait`` for an answer at the vendor, or
        ``fail``. A sensor never answers.
    :param start_from_trigger: whether the scheduler hands the task to the triggerer without starting a
        worker, which implies ``deferrable``. A worker starts for the task's end only. Airflow 3.3 and newer,
        not for mapped tasks; elsewhere a worker defers the task.
    """

    template_fields: Sequence[str] = ("conn_id", "run_id", "run_kind")
    ui_color: str = "#d9e8f5"

    def __init__(
        self,
        *,
        conn_id: str,
        run_id: str,
        run_kind: str | None = None,
        poke_interval: float | timedelta = DEFAULT_INTERVAL,
        stall_timeout: float | timedelta | None = None,
        deferrable: bool = DEFAULT_DEFERRABLE,
        on_human_request: Literal["wait", "fail"] = "wait",
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        if on_human_request not in {"wait", "fail"}:
            raise ValueError(
                f"on_human_request of a sensor must be 'wait' or 'fail', not {on_human_request!r}"
            )
        super().__init__(poke_interval=seconds("poke_interval", poke_interval), **kwargs)
        self.conn_id = conn_id
        self.run_id = run_id
        self.run_kind = run_kind
        self.stall_timeout = None if stall_timeout is None else seconds("stall_timeout", stall_timeout)
        self.deferrable = deferrable or start_from_trigger
        self.on_human_request = on_human_request
        self._policies = HumanPolicies.of(on_human_request) if on_human_request == "fail" else None
        self._needs_no_worker = start_from_trigger
        if start_from_trigger and can_start_from_trigger(conn_id, run_id, run_kind):
            self.start_from_trigger = True
            self.start_trigger_args = start_trigger_args(
                "airflow_provider_agentruns.triggers.AgentRunTrigger",
                self.timeout,
                self.execution_timeout,
                conn_id=conn_id,
                run_id=run_id,
                run_kind=run_kind,
                poll_interval=self.poke_interval,
                stall_timeout=self.stall_timeout,
                human_policies=self._policies.by_name if self._policies else None,
            )
        self._hook: AgentRunHook | None = None
        self._poller: RunPoller | None = None
        self._pause = 0.0
        self._last_event: AgentRunEvent | None = None

    @property
    def hook(self) -> AgentRunHook:
        """Return a hook for the connection, which is looked up once for all pokes."""
        if self._hook is None or self._hook.conn_id != self.conn_id:
            self._hook = AgentRunHook(conn_id=self.conn_id)
        return self._hook

    def execute(self, context: Context) -> Any:
        """Wait for the run."""
        ref = self._ref()
        push(context, RUN_ID_KEY, ref.run_id)
        if self._needs_no_worker:
            self.log.info(
                "start_from_trigger has no effect on a mapped task, in a test of a DAG, with values that are "
                "no texts, or before Airflow 3.3: this worker defers the task"
            )
        self.log.info("Waiting for run %s (connection %r)", ref.run_id, self.conn_id)
        if self.deferrable:
            self._wait(ref).defer(self)
        # The base class keeps the time in these modes, across reschedules too.
        self._poller = self._new_poller(ref)
        try:
            return super().execute(context)
        except AirflowSensorTimeout as error:
            subject = self._last_event.subject(self.conn_id) if self._last_event else f"Run {ref.run_id}"
            raise AirflowSensorTimeout(f"{subject}: {error}") from error

    def poke(self, context: Context) -> bool:
        """Ask once how the run stands."""
        if self._poller is None:
            self._poller = self._new_poller(self._ref())
        decision = self.hook.poll(self._poller)
        if decision.resolve_connection:
            decision = self.hook.poll(self._poller)
        ref = self._poller.ref
        event = AgentRunEvent.of(decision, run_id=ref.run_id, run_kind=ref.kind, since=0.0, end_time=0.0)
        self._last_event = event
        self._pause = decision.wait
        if decision.outcome is None:
            return False
        self._conclude(event, decision.run)
        return True

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        interval = float(super()._get_next_poke_interval(started_at, run_duration, poke_count))
        # After a 429 or failures the vendor is left alone for longer, but not past the deadline.
        return max(interval, min(self._pause, self.timeout - run_duration()))

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, wait: dict[str, Any] | None = None
    ) -> None:
        """
        Take the wait back from the triggerer; fail as the run did.

        :param wait: what was waited for; None if the scheduler has handed the task to the triggerer, or in
            ``dag.test()``.
        """
        if wait:
            self._resumed(wait).expect(self, event)
        ended = read_event(event, AgentRunEvent)
        if wait is None and ended.run_id != self.run_id:
            self._wait(self._ref()).expect(self, event)
        if self._needs_no_worker:
            push(context, RUN_ID_KEY, ended.run_id)
        if ended.outcome is Outcome.ASKS:
            self._wait_on_if_answered(ended)
        self._conclude(*look_again(ended, self.hook))

    def _wait_on_if_answered(self, event: AgentRunEvent) -> None:
        run = self.hook.peek(event.run_id, event.run_kind)
        if run is not None and not run.human_requests:
            since = event.since or time.time()
            replace(self._wait(run.ref), since=since, end_time=event.end_time).defer(self)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; where Airflow itself ended the wait, name the run that goes on."""
        if ended_by_airflow(next_method):
            self.log.error(
                "Airflow ended the wait for run %s (connection %r); the run may go on at the vendor",
                one_line(str(self.run_id), 80),
                self.conn_id,
            )
        return super().resume_execution(next_method, next_kwargs, context)

    def _resumed(self, carried: dict[str, Any]) -> RunWait:
        """Return a wait that was handed over to the triggerer."""
        ref = RunRef(run_id=carried["run_id"], kind=carried["run_kind"])
        return replace(self._wait(ref), since=carried["since"], end_time=carried["end_time"])

    def _wait(self, ref: RunRef) -> RunWait:
        now = time.time()
        return RunWait(
            self.conn_id,
            ref,
            interval=self.poke_interval,
            since=now,
            end_time=now + bounded(self.timeout, self.execution_timeout),
            stall_timeout=self.stall_timeout,
            policies=self._policies,
        )

    def _new_poller(self, ref: RunRef) -> RunPoller:
        # The base class keeps the time.
        return replace(self._wait(ref), end_time=float("inf")).poller()

    def _ref(self) -> RunRef:
        try:
            return self.hook.ref(self.run_id, self.run_kind)
        except (InvalidInputError, AirflowNotFoundException) as error:
            raise SensedRunRefused(f"Cannot wait for a run (connection {self.conn_id!r}): {error}") from error

    def _conclude(self, event: AgentRunEvent, run: Run | None) -> None:
        if event.outcome is Outcome.ENDED and event.status is RunStatus.SUCCEEDED:
            self.log.info("Run %s succeeded", event.run_id)
            return
        self._fail(event, run)

    def _fail(self, event: AgentRunEvent, run: Run | None) -> NoReturn:
        subject = event.subject(self.conn_id)
        if event.outcome is Outcome.ENDED:
            error_class = SensedRunCancelled if event.status is RunStatus.CANCELLED else SensedRunFailed
            raise error_class(
                f"{subject} {event.status}: {self._reason(event, run)}", run_id=event.run_id, run=run
            )
        if event.outcome is Outcome.TIMED_OUT:
            elapsed = event.elapsed(time.time())
            raise AirflowSensorTimeout(f"{subject} had not ended after {elapsed}; it may go on at the vendor")
        if event.outcome is Outcome.STALLED:
            raise AirflowSensorTimeout(
                f"{subject} has shown no change for {self.stall_timeout:g} s; it may go on at the vendor"
            )
        if event.outcome is Outcome.ASKS:
            run = run or self.hook.peek(event.run_id, event.run_kind)
            asked = "; ".join(request.prompt for request in run.human_requests) if run else "not known what"
            raise SensedRunNeedsHuman(
                f"{subject} asks a human: {asked}. It waits at the vendor.", run_id=event.run_id, run=run
            )
        if event.outcome is Outcome.REFUSED:
            raise SensedRunRefused(f"{subject}: {event.error}", run_id=event.run_id, run=run)
        raise AgentRunUnreadable(
            f"{subject}: waiting broke off ({event.error}); see the trigger's log",
            run_id=event.run_id,
            run=run,
        )

    def _reason(self, event: AgentRunEvent, run: Run | None) -> str:
        """Return why the run failed; that it failed is known also when the vendor does not tell now."""
        hook = self.hook
        try:
            run = hook.complete(run or hook.get_status(event.run_id, event.run_kind))
        except (AgentRunsError, AirflowNotFoundException) as error:
            return f"the vendor's reason could not be read ({error})"
        return one_line(run.error_message or "the vendor gives no reason")
