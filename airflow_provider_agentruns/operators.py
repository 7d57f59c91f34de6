"""Operators: start a run, or attach to one, and hand its result to the tasks downstream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, Context

from airflow_provider_agentruns.client.exceptions import (
    APIConnectionError,
    APIError,
    InvalidInputError,
    NotFoundError,
    RateLimitError,
)
from airflow_provider_agentruns.client.models import Run, RunRef, RunStatus
from airflow_provider_agentruns.exceptions import (
    AgentRunException,
    AgentRunRefused,
    AgentRunStartUncertain,
    AgentRunUnreadable,
)
from airflow_provider_agentruns.reattachment import (
    Earlier,
    OnEarlierRun,
    StartLog,
    StartRecord,
    Try,
    fingerprint_of,
    judge,
)
from airflow_provider_agentruns.result_operator import RunResultBaseOperator
from airflow_provider_agentruns.waiting import (
    DEFAULT_DEFERRABLE,
    DEFAULT_INTERVAL,
    RUN_ID_KEY,
    RunWait,
    push,
)

__all__ = ["AgentRunOperator", "AgentRunResultOperator"]

_DEFAULT_TIMEOUT = timedelta(hours=24)
# A run that was just started may not be known to all of the vendor's servers yet.
_YOUNG = 30.0


class AgentRunResultOperator(RunResultBaseOperator):
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
        return self.wait_for_result(context, wait)

    def _ref(self) -> RunRef:
        try:
            return self.hook.ref(self.run_id, self.run_kind)
        except (InvalidInputError, AirflowNotFoundException) as error:
            raise AgentRunRefused(f"Cannot attach to a run (connection {self.conn_id!r}): {error}") from error


class AgentRunOperator(RunResultBaseOperator):
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
    :param on_retry: ``reattach``: a retry waits on the run that the try before started, or surfaces it if it
        has succeeded meanwhile; only a run that failed or was cancelled is started anew. ``new``: each try
        starts a run. Airflow before 3.3 cannot tell a retry what was started, and starts anew.
    :param on_clear: the same for a task that is cleared.
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
        on_retry: OnEarlierRun = "reattach",
        on_clear: OnEarlierRun = "new",
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
        for name, value in {"on_retry": on_retry, "on_clear": on_clear}.items():
            if value not in {"reattach", "new"}:
                raise ValueError(f"{name} must be 'reattach' or 'new', not {value!r}")
        self.on_retry = on_retry
        self.on_clear = on_clear

    def execute(self, context: Context) -> Any:
        """Start the run, wait for it and return its output."""
        starts = StartLog(context)
        run = self._earlier_run(context, starts)
        if run is None:
            run = self._start_and_record(context, starts)
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
            agent_id=run.agent_id,
        )
        if run.status.is_terminal:
            return self.surface(context, wait, run)
        return self.wait_for_result(context, wait)

    def _earlier_run(self, context: Context, starts: StartLog) -> Run | None:
        """Return the run that an earlier try started, if this try is to go on with it."""
        if not starts.is_kept:
            if Try.of(context).number > 1 and self.on_retry == "reattach":
                self.log.warning("This Airflow keeps no task state: a run of an earlier try is not found")
            return None
        record = starts.read()
        earlier = judge(
            record,
            Try.of(context),
            self._fingerprint,
            on_retry=self.on_retry,
            on_clear=self.on_clear,
        )
        ref = record.ref if record else None
        if earlier is not Earlier.RUN or record is None or ref is None:
            if record and earlier is Earlier.ANSWER_LOST:
                self.log.warning(
                    "An earlier try sent a start at %s and was gone before the answer: a run may be going on "
                    "at the vendor (connection %r), and another is started now",
                    datetime.fromtimestamp(record.asked_at, UTC).isoformat(timespec="seconds"),
                    self.conn_id,
                )
            elif record:
                self.log.info("Run %s is left alone: %s", record.run_id or "of an earlier try", earlier)
            return None
        return self._stands(record, ref)

    def _stands(self, record: StartRecord, ref: RunRef) -> Run | None:
        """Return a run as it stands now, None if it came to nothing."""
        subject = f"Run {ref.run_id} (connection {self.conn_id!r}), which an earlier try started,"
        try:
            run = self.hook.get_status(ref.run_id, ref.kind)
        except NotFoundError as error:
            if time.time() < record.asked_at + _YOUNG:
                raise AgentRunUnreadable(f"{subject} is not known yet: {error}", run_id=ref.run_id) from error
            self.log.warning("%s is not known to the vendor any more; starting anew", subject)
            return None
        except (APIError, InvalidInputError, AirflowNotFoundException) as error:
            is_final = isinstance(error, APIError) and not error.is_transient
            error_class = AgentRunRefused if is_final else AgentRunUnreadable
            raise error_class(
                f"{subject} cannot be read: {error}. Nothing was started.", run_id=ref.run_id
            ) from error
        if run.status in {RunStatus.FAILED, RunStatus.CANCELLED}:
            self.log.info("%s %s; starting anew", subject, run.status)
            return None
        self.log.info("%s stands at %s; going on with it", subject, run.status)
        return run if run.agent_id else run.model_copy(update={"agent_id": record.agent_id})

    def _start_and_record(self, context: Context, starts: StartLog) -> Run:
        record = starts.intend(Try.of(context), self._fingerprint)
        try:
            run = self._start()
        except AgentRunStartUncertain:
            raise
        except AgentRunException:
            try:
                starts.forget()
            except Exception:
                self.log.exception("Nothing was started, but the record of the start could not be deleted")
            raise
        try:
            starts.started(record, run)
        except Exception:
            # The run is there and paid for: it is waited for all the same.
            self.log.exception("Run %s could not be recorded: a retry would not find it", run.run_id)
        return run

    @property
    def _fingerprint(self) -> str:
        return fingerprint_of(
            conn_id=self.conn_id,
            agent_id=self.agent_id,
            message=self.message,
            tool_id=self.tool_id,
            inputs=self.inputs,
            options=self.options,
        )

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
