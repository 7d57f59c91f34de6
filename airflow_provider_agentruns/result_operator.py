"""What both operators share: wait for a run, deferred or on the worker, and surface its result."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    AirflowTaskTimeout,
    BaseOperator,
    Context,
)

from airflow_provider_agentruns.cancellation import GOES_ON
from airflow_provider_agentruns.client.exceptions import AgentRunsError
from airflow_provider_agentruns.client.models import Run, RunRef, RunStatus
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.deadline import bounded
from airflow_provider_agentruns.exceptions import (
    AgentRunCancelled,
    AgentRunFailed,
    AgentRunRefused,
    AgentRunStalled,
    AgentRunTimeout,
    AgentRunUnreadable,
)
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.polling.poller import Decision, Outcome
from airflow_provider_agentruns.triggers import AgentRunEvent
from airflow_provider_agentruns.waiting import (
    ERROR_KEY,
    RUN_ID_KEY,
    RUN_KEY,
    RunWait,
    cancel,
    cancel_if_given_up,
    ended_by_airflow,
    look_again,
    push,
    read_event,
    seconds,
    timed_out_in_airflow,
)


class _Waiting(NamedTuple):
    ti: Any
    wait: RunWait


class RunResultBaseOperator(BaseOperator):
    """Wait for a run and surface its result; who the run is, a subclass says in ``execute``."""

    ui_color: str = "#d9e8f5"

    # A clear makes the task wait for the same run again.
    _cancel_on_clear = False
    _waiting: _Waiting | None = None

    def __init__(
        self,
        *,
        conn_id: str,
        poll_interval: float | timedelta,
        timeout: float | timedelta,
        stall_timeout: float | timedelta | None,
        deferrable: bool,
        fail_on_error: bool,
        cancel_on_kill: bool,
        cancel_on_timeout: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.poll_interval = seconds("poll_interval", poll_interval)
        self.timeout = seconds("timeout", timeout)
        self.stall_timeout = None if stall_timeout is None else seconds("stall_timeout", stall_timeout)
        self.deferrable = deferrable
        self.fail_on_error = fail_on_error
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout

    @property
    def hook(self) -> AgentRunHook:
        """Return a hook for the connection."""
        return AgentRunHook(conn_id=self.conn_id)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Take the wait back from the triggerer and surface the result."""
        return self._conclude(context, *look_again(read_event(event, AgentRunEvent), self.hook))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; where Airflow itself ended the wait, name the run that goes on."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowException as error:
            if not ended_by_airflow(next_method):
                raise
            ti = context["ti"]
            run_id = ti.xcom_pull(task_ids=ti.task_id, key=RUN_ID_KEY, map_indexes=ti.map_index)
            what = GOES_ON
            if run_id and self.cancel_on_timeout and timed_out_in_airflow(next_kwargs):
                what = cancel(self.hook, run_id, self._run_kind)
            raise AgentRunUnreadable(
                f"Airflow ended the wait for run {run_id} (connection {self.conn_id!r}): {error}. {what}",
                run_id=run_id,
            ) from error

    def on_kill(self) -> None:
        """Cancel the run that this worker waits for, if its task was marked or cleared."""
        if self._waiting and self.cancel_on_kill:
            cancel_if_given_up(self.hook, *self._waiting)

    def new_wait(self, ref: RunRef, *, agent_id: str | None = None, not_found_until: float = 0.0) -> RunWait:
        """
        Return the wait for a run that begins now and ends after ``timeout`` or ``execution_timeout``.

        :param not_found_until: until when "no such run" is taken for a run too young to be seen, seconds
            since the epoch.
        """
        now = time.time()
        return RunWait(
            self.conn_id,
            ref,
            interval=self.poll_interval,
            since=now,
            end_time=now + bounded(self.timeout, self.execution_timeout),
            not_found_until=not_found_until,
            stall_timeout=self.stall_timeout,
            agent_id=agent_id,
            cancel_on_kill=self.cancel_on_kill,
            cancel_on_clear=self._cancel_on_clear,
        )

    def wait_for_result(self, context: Context, wait: RunWait) -> Any:
        """Wait, deferred or here, and surface the result."""
        if self.deferrable:
            wait.defer(self)
        self._waiting = _Waiting(context["ti"], wait)
        event, run = wait.on_worker(self.hook)
        self._waiting = None
        return self._conclude(context, event, run)

    def surface(self, context: Context, wait: RunWait, run: Run) -> Any:
        """Surface the result of a run that has ended already."""
        return self._conclude(context, wait.event(Decision(Outcome.ENDED, run=run)), run)

    @property
    def _run_kind(self) -> str | None:
        return None

    def _conclude(self, context: Context, event: AgentRunEvent, run: Run | None = None) -> Any:
        """Surface the result of a run, or fail as it did."""
        if event.outcome is not Outcome.ENDED:
            self._fail(event, run)
        run = self._read_result(event, run)
        if not run.status.is_terminal:
            # Somebody resumed it since its trigger saw the end.
            if time.time() >= event.end_time:
                self._fail(event.model_copy(update={"outcome": Outcome.TIMED_OUT}), run)
            self.log.info("Run %s goes on (status %s); waiting again", run.run_id, run.status)
            wait = self.new_wait(run.ref, agent_id=run.agent_id)
            return self.wait_for_result(
                context, replace(wait, since=event.since or wait.since, end_time=event.end_time)
            )
        push(context, RUN_KEY, run.summary())
        if run.status is RunStatus.SUCCEEDED:
            self.log.info("Run %s succeeded", run.run_id)
            return run.output
        message = run.error_message or f"the run is {run.raw_status!r}; the vendor gives no reason"
        push(context, ERROR_KEY, message)
        error_class = AgentRunCancelled if run.status is RunStatus.CANCELLED else AgentRunFailed
        error = error_class(
            f"Run {run.run_id} (connection {self.conn_id!r}) {run.status}: {one_line(message)}",
            run_id=run.run_id,
            run=run,
        )
        if self.fail_on_error:
            raise error
        self.log.warning("%s", error)
        return None

    def _read_result(self, event: AgentRunEvent, run: Run | None) -> Run:
        hook = self.hook
        try:
            return hook.complete(run or hook.get_status(event.run_id, event.run_kind))
        except (AgentRunsError, AirflowNotFoundException, AirflowTaskTimeout) as error:
            raise AgentRunUnreadable(
                f"{event.subject(self.conn_id)} ended, but its result could not be read: {error}. "
                "AgentRunResultOperator can read it later.",
                run_id=event.run_id,
                run=run,
            ) from error

    def _fail(self, event: AgentRunEvent, run: Run | None) -> NoReturn:
        subject = event.subject(self.conn_id)
        if event.outcome in {Outcome.TIMED_OUT, Outcome.STALLED}:
            raise self._too_late(event, run)
        if event.outcome is Outcome.REFUSED:
            raise AgentRunRefused(f"{subject}: {event.error}", run_id=event.run_id, run=run)
        raise AgentRunUnreadable(
            f"{subject}: waiting broke off ({event.error}); see the trigger's log. {GOES_ON}",
            run_id=event.run_id,
            run=run,
        )

    def _too_late(self, event: AgentRunEvent, run: Run | None) -> AgentRunTimeout:
        what = cancel(self.hook, event.run_id, event.run_kind) if self.cancel_on_timeout else GOES_ON
        text = f"{event.subject(self.conn_id)} had not ended after {event.elapsed(time.time())}"
        if event.outcome is Outcome.TIMED_OUT:
            return AgentRunTimeout(f"{text}. {what}", run_id=event.run_id, run=run)
        return AgentRunStalled(
            f"{text}, and has shown no change at the vendor for {self.stall_timeout:g} s. {what}",
            run_id=event.run_id,
            run=run,
        )
