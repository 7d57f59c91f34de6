"""Operators: start a run, or attach to one, and hand its result to the tasks downstream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, Context

from airflow_provider_agentruns.client.exceptions import InvalidInputError
from airflow_provider_agentruns.client.models import Run, RunRef
from airflow_provider_agentruns.exceptions import AgentRunRefused
from airflow_provider_agentruns.reattachment import OnEarlierRun, StartLog, Try
from airflow_provider_agentruns.result_operator import RunResultBaseOperator
from airflow_provider_agentruns.starting import YOUNG, OnEarlier, RunStarter
from airflow_provider_agentruns.triggers import AgentRunEvent
from airflow_provider_agentruns.waiting import DEFAULT_DEFERRABLE, DEFAULT_INTERVAL, RunWait
from airflow_provider_agentruns.xcom import RUN_ID_KEY, push

__all__ = ["AgentRunOperator", "AgentRunResultOperator"]

_DEFAULT_TIMEOUT = timedelta(hours=24)


class AgentRunResultOperator(RunResultBaseOperator):
    """
    Attach to a run that somebody else started, wait until it has ended, and surface its result.

    XComs: ``return_value`` is the final output; ``agent_run`` the run as a dict without it; ``run_id``;
    after a failure ``error_message``.

    What it does when the run asks a human, and the parameters for that: :class:`RunWaitBaseOperator`.

    :param conn_id: the Airflow connection, whose type selects the vendor. (templated)
    :param run_id: the run. (templated)
    :param run_kind: ``agent`` or ``tool`` where the vendor tells them apart. (templated)
    :param poll_interval: seconds or timedelta between polls, as far as the key's budget allows.
    :param timeout: seconds or timedelta to wait at most; a shorter ``execution_timeout`` counts as well.
    :param stall_timeout: seconds or timedelta after which to give up a run that shows no change.
    :param deferrable: whether to wait in the triggerer, holding no worker.
    :param fail_on_error: whether a run that failed or was cancelled fails the task. If not, the task
        succeeds without a return value, and ``error_message`` tells why.
    :param cancel_on_kill: whether to cancel the run when the task is marked failed or successful, where the
        vendor has a call for it.
    :param cancel_on_timeout: whether to cancel it when the time is over.
    :param options: what the run was started with, by the vendor's names, for when it is to be resumed and
        does not tell itself. (templated)
    """

    template_fields: Sequence[str] = ("conn_id", "run_id", "run_kind", "options")
    template_fields_renderers: ClassVar[dict[str, str]] = {"options": "json"}

    def __init__(
        self,
        *,
        conn_id: str,
        run_id: str,
        run_kind: str | None = None,
        poll_interval: float | timedelta = DEFAULT_INTERVAL,
        timeout: float | timedelta = _DEFAULT_TIMEOUT,
        stall_timeout: float | timedelta | None = None,
        deferrable: bool = DEFAULT_DEFERRABLE,
        fail_on_error: bool = True,
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            conn_id=conn_id,
            poll_interval=poll_interval,
            timeout=timeout,
            stall_timeout=stall_timeout,
            deferrable=deferrable,
            fail_on_error=fail_on_error,
            cancel_on_kill=cancel_on_kill,
            cancel_on_timeout=cancel_on_timeout,
            **kwargs,
        )
        self.run_id = run_id
        self.run_kind = run_kind
        self.options = options

    def execute(self, context: Context) -> Any:
        """Wait for the run and return its output."""
        ref = self._ref()
        push(context, RUN_ID_KEY, ref.run_id)
        self.log.info("Waiting for run %s (connection %r)", ref.run_id, self.conn_id)
        wait = self.new_wait(ref)
        return self.wait_for_result(context, self.finish_answer(context, wait) or wait)

    @property
    def _run_kind(self) -> str | None:
        return self.run_kind

    @property
    def _known_options(self) -> dict[str, Any] | None:
        return self.options

    def _ref(self) -> RunRef:
        try:
            self.check_human_requests()
            return self.hook.ref(self.run_id, self.run_kind)
        except (InvalidInputError, AirflowNotFoundException) as error:
            raise AgentRunRefused(f"Cannot attach to a run (connection {self.conn_id!r}): {error}") from error


class AgentRunOperator(RunResultBaseOperator):
    """
    Start a run, wait until it has ended, and surface its result.

    XComs: ``run_id`` as soon as it is known; ``return_value`` is the final output; ``agent_run`` the run
    as a dict without it; after a failure ``error_message``.

    What it does when the run asks a human, and the parameters for that: :class:`RunWaitBaseOperator`.

    :param conn_id: the Airflow connection, whose type selects the vendor. (templated)
    :param agent_id: the agent; may be left out where the vendor has a default agent. (templated)
    :param message: what to tell the agent. (templated)
    :param tool_id: a tool to run in place of an agent, where the vendor has tools. (templated)
    :param inputs: the tool's parameters, JSON data. (templated)
    :param options: the vendor's own start parameters, by the vendor's names. (templated)
    :param poll_interval: seconds or timedelta between polls, as far as the key's budget allows.
    :param timeout: seconds or timedelta to wait at most; a shorter ``execution_timeout`` counts as well.
    :param stall_timeout: seconds or timedelta after which to give up a run that shows no change.
    :param deferrable: whether to wait in the triggerer, holding no worker.
    :param wait_for_completion: whether to wait at all. If not, the return value is the run id.
    :param on_retry: ``reattach``: a retry waits on the run that the try before started, or surfaces it if it
        has succeeded meanwhile; only a run that failed or was cancelled is started anew. ``new``: each try
        starts a run. Airflow before 3.3 cannot tell a retry what was started, and starts anew.
    :param on_clear: the same for a task that is cleared.
    :param fail_on_error: whether a run that failed or was cancelled fails the task. If not, the task
        succeeds without a return value, and ``error_message`` tells why.
    :param cancel_on_kill: whether to cancel the run when the task is marked failed or successful, or cleared
        to start anew, where the vendor has a call for it.
    :param cancel_on_timeout: whether to cancel it when the time is over.
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
        stall_timeout: float | timedelta | None = None,
        deferrable: bool = DEFAULT_DEFERRABLE,
        wait_for_completion: bool = True,
        on_retry: OnEarlierRun = "reattach",
        on_clear: OnEarlierRun = "new",
        fail_on_error: bool = True,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            conn_id=conn_id,
            poll_interval=poll_interval,
            timeout=timeout,
            stall_timeout=stall_timeout,
            deferrable=deferrable,
            fail_on_error=fail_on_error,
            cancel_on_kill=cancel_on_kill,
            cancel_on_timeout=cancel_on_timeout,
            **kwargs,
        )
        self.agent_id = agent_id
        self.message = message
        self.tool_id = tool_id
        self.inputs = inputs
        self.options = options
        if not wait_for_completion and self.human_policies.do_more_than_wait:
            raise ValueError("on_human_request and secrets have no effect with wait_for_completion=False")
        self.wait_for_completion = wait_for_completion
        for name, value in {"on_retry": on_retry, "on_clear": on_clear}.items():
            if value not in {"reattach", "new"}:
                raise ValueError(f"{name} must be 'reattach' or 'new', not {value!r}")
        self.on_retry = on_retry
        self.on_clear = on_clear
        self._cancel_on_clear = on_clear == "new"

    def execute(self, context: Context) -> Any:
        """Start the run, wait for it and return its output."""
        policy = OnEarlier(self.on_retry, self.on_clear, self.cancel_on_kill and self._cancel_on_clear)
        starter = RunStarter(self.hook, self._what, StartLog(context), Try.of(context), policy)
        run = starter.bring(check=self.check_human_requests)
        push(context, RUN_ID_KEY, run.run_id)
        if not self.wait_for_completion:
            return run.run_id
        wait = self.new_wait(run.ref, agent_id=run.agent_id, not_found_until=time.time() + YOUNG)
        finished = self.finish_answer(context, wait)
        if finished is None and run.status.is_terminal:
            return self.surface(context, wait, run)
        return self.wait_for_result(context, finished or wait)

    def _finish(self, context: Context, event: AgentRunEvent, run: Run | None, wait: RunWait) -> Any:
        is_surfaced = False
        try:
            result = super()._finish(context, event, run, wait)
            is_surfaced = True
            return result
        finally:
            StartLog(context).ended(event.run_id, event.run_kind, is_surfaced=is_surfaced)

    @property
    def _what(self) -> dict[str, Any]:
        return {
            "agent_id": self.agent_id,
            "message": self.message,
            "tool_id": self.tool_id,
            "inputs": self.inputs,
            "options": self.options,
        }

    @property
    def _known_options(self) -> dict[str, Any]:
        return self.options or {}

    @property
    def _run_kind(self) -> str | None:
        return "tool" if self.tool_id else None
