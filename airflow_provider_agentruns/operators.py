"""Operators: start a run, or attach to one, and hand its result to the tasks downstream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    BaseOperator,
    Context,
)

from airflow_provider_agentruns.client.exceptions import (
    AgentRunsError,
    APIConnectionError,
    APIError,
    InvalidInputError,
    RateLimitError,
)
from airflow_provider_agentruns.client.models import Run, RunRef, RunStatus
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.exceptions import (
    AgentRunCancelled,
    AgentRunException,
    AgentRunFailed,
    AgentRunRefused,
    AgentRunStartUncertain,
    AgentRunTimeout,
    AgentRunUnreadable,
)
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.polling.poller import Outcome
from airflow_provider_agentruns.triggers import AgentRunEvent
from airflow_provider_agentruns.waiting import (
    DEFAULT_DEFERRABLE,
    DEFAULT_INTERVAL,
    ERROR_KEY,
    RUN_ID_KEY,
    RUN_KEY,
    RunWait,
    ended_by_airflow,
    push,
    read_event,
    seconds,
)

_DEFAULT_TIMEOUT = timedelta(hours=24)
# A run that was just started may not be known to all of the vendor's servers yet.
_YOUNG = 30.0


class _RunOperator(BaseOperator):
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
        return self._conclude(context, read_event(event))

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

    def _wait(self, context: Context, wait: RunWait) -> Any:
        if self.deferrable:
            wait.defer(self)
        event, run = wait.on_worker(self.hook)
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
            wait = RunWait(self.conn_id, run.ref, interval=self.poll_interval, end_time=event.end_time)
            return self._wait(context, wait)
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


class AgentRunResultOperator(_RunOperator):
    """
    Attach to a run that somebody else started, wait until it has ended, and surface its result.

    XComs: ``return_value`` is the final output; ``agent_run`` the run as a dict without it; ``run_id``;
    after a failure ``error_message``.

    :param conn_id: the Airflow connection, whose type selects the vendor. (templated)
    :param run_id: the run. (templated)
    :param run_kind: ``agent`` or ``tool`` where the vendor tells them apart. (templated)
    :param poll_interval: seconds or timedelta between polls, as far as the key's budget allows.
    :param timeout: seconds or timedelta to wait at most.
    :param deferrable: whether to wait in the triggerer, holding no worker.
    :param fail_on_error: whether a run that failed or was cancelled fails the task. If not, the task
        succeeds without a return value, and ``error_message`` tells why.
    """

    template_fields: Sequence[str] = ("conn_id", "run_id", "run_kind")

    def __init__(
        self,
        *,
        conn_id: str,
        run_id: str,
        run_kind: str | None = None,
        poll_interval: float | timedelta = DEFAULT_INTERVAL,
        timeout: float | timedelta = _DEFAULT_TIMEOUT,
        deferrable: bool = DEFAULT_DEFERRABLE,
        fail_on_error: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            conn_id=conn_id,
            poll_interval=poll_interval,
            timeout=timeout,
            deferrable=deferrable,
            fail_on_error=fail_on_error,
            **kwargs,
        )
        self.run_id = run_id
        self.run_kind = run_kind

    def execute(self, context: Context) -> Any:
        """Wait for the run and return its output."""
        ref = self._ref()
        push(context, RUN_ID_KEY, ref.run_id)
        self.log.info("Waiting for run %s (connection %r)", ref.run_id, self.conn_id)
        wait = RunWait(self.conn_id, ref, interval=self.poll_interval, end_time=time.time() + self.timeout)
        return self._wait(context, wait)

    def _ref(self) -> RunRef:
        try:
            return self.hook.ref(self.run_id, self.run_kind)
        except (InvalidInputError, AirflowNotFoundException) as error:
            raise AgentRunRefused(f"Cannot attach to a run (connection {self.conn_id!r}): {error}") from error


class AgentRunOperator(_RunOperator):
    """
    Start a run, wait until it has ended, and surface its result.

    XComs: ``run_id`` as soon as it is known; ``return_value`` is the final output; ``agent_run`` the run
    as a dict without it; after a failure ``error_message``.

    :param conn_id: the Airflow connection, whose type selects the vendor. (templated)
    :param agent_id: the agent; may be left out where the vendor has a default agent. (templated)
    :param message: what to tell the agent. (templated)
    :param tool_id: a tool to run in place of an agent, where the vendor has tools. (templated)
    :param inputs: the tool's parameters, JSON data. (templated)
    :param options: the vendor's own start parameters, by the vendor's names. (templated)
    :param poll_interval: seconds or timedelta between polls, as far as the key's budget allows.
    :param timeout: seconds or timedelta to wait at most.
    :param deferrable: whether to wait in the triggerer, holding no worker.
    :param wait_for_completion: whether to wait at all. If not, the return value is the run id.
    :param fail_on_error: whether a run that failed or was cancelled fails the task. If not, the task
        succeeds without a return value, and ``error_message`` tells why.
    """

    template_fields: Sequence[str] = ("conn_id", "agent_id", "message", "tool_id", "inputs", "options")
    template_fields_renderers: ClassVar[dict[str, str]] = {"inputs": "json", "options": "json"}

    def __init__(
        self,
        *,
        conn_id: str,
        agent_id: str | None = None,
        message: str | None = None,
        tool_id: str | None = None,
        inputs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        poll_interval: float | timedelta = DEFAULT_INTERVAL,
        timeout: float | timedelta = _DEFAULT_TIMEOUT,
        deferrable: bool = DEFAULT_DEFERRABLE,
        wait_for_completion: bool = True,
        fail_on_error: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            conn_id=conn_id,
            poll_interval=poll_interval,
            timeout=timeout,
            deferrable=deferrable,
            fail_on_error=fail_on_error,
            **kwargs,
        )
        self.agent_id = agent_id
        self.message = message
        self.tool_id = tool_id
        self.inputs = inputs
        self.options = options
        self.wait_for_completion = wait_for_completion

    def execute(self, context: Context) -> Any:
        """Start the run, wait for it and return its output."""
        run = self._start()
        self.log.info("Started run %s (connection %r)", run.run_id, self.conn_id)
        push(context, RUN_ID_KEY, run.run_id)
        if not self.wait_for_completion:
            return run.run_id
        now = time.time()
        wait = RunWait(
            self.conn_id,
            run.ref,
            interval=self.poll_interval,
            end_time=now + self.timeout,
            not_found_until=now + _YOUNG,
        )
        return self._wait(context, wait)

    def _start(self) -> Run:
        what = f"Cannot start a run (connection {self.conn_id!r})"
        try:
            return self.hook.start(
                agent_id=self.agent_id,
                message=self.message,
                tool_id=self.tool_id,
                inputs=self.inputs,
                options=self.options,
            )
        except (InvalidInputError, AirflowNotFoundException) as error:
            raise AgentRunRefused(f"{what}: {error}. Nothing was sent.") from error
        except APIError as error:
            if not error.is_transient:
                raise AgentRunRefused(f"{what}: {error}") from error
            never_left = isinstance(error, APIConnectionError) and not error.may_have_been_sent
            if never_left or isinstance(error, RateLimitError):
                raise AgentRunUnreadable(f"{what}: {error}. Nothing was started.") from error
            raise AgentRunStartUncertain(
                f"{what}: {error}. The vendor may have started the run all the same, so the task is not "
                "retried: look there first. AgentRunResultOperator can attach to the run."
            ) from error
