"""What both operators share: wait for a run, deferred or on the worker, and surface its result."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    BaseOperator,
    Context,
)

from airflow_provider_agentruns.client.exceptions import AgentRunsError
from airflow_provider_agentruns.client.models import Run, RunStatus
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.exceptions import (
    AgentRunCancelled,
    AgentRunException,
    AgentRunFailed,
    AgentRunRefused,
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
    ended_by_airflow,
    look_again,
    push,
    read_event,
    seconds,
)


class RunResultBaseOperator(BaseOperator):
    """Wait for a run and surface its result; who the run is, a subclass says in ``execute``."""

    ui_color: str = "#d9e8f5"

    def __init__(
        self,
        *,
        conn_id: str,
        poll_interval: float | timedelta,
        timeout: float | timedelta,
        deferrable: bool,
        fail_on_error: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.poll_interval = seconds("poll_interval", poll_interval)
        self.timeout = seconds("timeout", timeout)
        self.deferrable = deferrable
        self.fail_on_error = fail_on_error

    @property
    def hook(self) -> AgentRunHook:
        """Return a hook for the connection."""
        return AgentRunHook(conn_id=self.conn_id)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Take the wait back from the triggerer and surface the result."""
        return self._conclude(context, *look_again(read_event(event), self.hook))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; where Airflow itself ended the wait, name the run that goes on."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowException as error:
            if not ended_by_airflow(next_method):
                raise
            ti = context["ti"]
            run_id = ti.xcom_pull(task_ids=ti.task_id, key=RUN_ID_KEY, map_indexes=ti.map_index)
            raise AgentRunUnreadable(
                f"Airflow ended the wait for run {run_id} (connection {self.conn_id!r}): {error}. "
                "The run may go on at the vendor; AgentRunResultOperator can attach to it.",
                run_id=run_id,
            ) from error

    def wait_for_result(self, context: Context, wait: RunWait) -> Any:
        """Wait, deferred or here, and surface the result."""
        if self.deferrable:
            wait.defer(self)
        event, run = wait.on_worker(self.hook)
        return self._conclude(context, event, run)

    def surface(self, context: Context, wait: RunWait, run: Run) -> Any:
        """Surface the result of a run that has ended already."""
        decision = Decision(Outcome.ENDED, run=run)
        event = AgentRunEvent.of(decision, run_id=run.run_id, run_kind=run.kind, end_time=wait.end_time)
        return self._conclude(context, event, run)

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
            wait = RunWait(
                self.conn_id,
                run.ref,
                interval=self.poll_interval,
                end_time=event.end_time,
                agent_id=run.agent_id,
            )
            return self.wait_for_result(context, wait)
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
        except (AgentRunsError, AirflowNotFoundException) as error:
            raise AgentRunUnreadable(
                f"{event.subject(self.conn_id)} ended, but its result could not be read: {error}. "
                "AgentRunResultOperator can read it later.",
                run_id=event.run_id,
                run=run,
            ) from error

    def _fail(self, event: AgentRunEvent, run: Run | None) -> NoReturn:
        subject = event.subject(self.conn_id)
        error: AgentRunException
        if event.outcome is Outcome.TIMED_OUT:
            error = AgentRunTimeout(
                f"{subject} had not ended after {self.timeout:g} s. It may go on at the vendor; "
                "AgentRunResultOperator can attach to it.",
                run_id=event.run_id,
                run=run,
            )
        elif event.outcome is Outcome.REFUSED:
            error = AgentRunRefused(f"{subject}: {event.error}", run_id=event.run_id, run=run)
        else:
            error = AgentRunUnreadable(
                f"{subject}: waiting broke off ({event.error}); see the trigger's log. "
                "The run may go on at the vendor; AgentRunResultOperator can attach to it.",
                run_id=event.run_id,
                run=run,
            )
        raise error
