"""What both operators do to wait: settings, deferral, deadline, kill, and the human's part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    BaseOperator,
    Context,
)

from airflow_provider_agentruns import hitl
from airflow_provider_agentruns.cancellation import GOES_ON
from airflow_provider_agentruns.client.exceptions import AgentRunsError
from airflow_provider_agentruns.client.models import Run, RunRef
from airflow_provider_agentruns.deadline import bounded
from airflow_provider_agentruns.draft_acceptance import VENDOR_PAUSE, is_passing
from airflow_provider_agentruns.exceptions import AgentRunRefused, AgentRunUnreadable
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.human_requests import HumanRequests
from airflow_provider_agentruns.human_settings import HumanSettings
from airflow_provider_agentruns.polling.human_watch import HumanExchange, HumanPolicies
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import Decision
from airflow_provider_agentruns.triggers import AgentRunEvent
from airflow_provider_agentruns.waiting import (
    RunWait,
    cancel,
    cancel_if_given_up,
    ended_by_airflow,
    look_again,
    read_event,
    seconds,
    timed_out_in_airflow,
)
from airflow_provider_agentruns.xcom import RUN_ID_KEY

if TYPE_CHECKING:
    # Airflow 3.0 has neither.
    from airflow.sdk.bases.notifier import BaseNotifier
    from airflow.sdk.execution_time.hitl import HITLUser

_HUMAN_STEPS = {
    Outcome.ASKS: HumanRequests.on_request,
    Outcome.ANSWERED: HumanRequests.on_answer_elsewhere,
    Outcome.UNANSWERED: HumanRequests.on_silence,
}


class _Waiting(NamedTuple):
    ti: Any
    wait: RunWait


class RunWaitBaseOperator(BaseOperator):
    """
    Wait for a run, deferred or on the worker; a subclass says what to do with its end.

    :param on_human_request: what to do when the run asks a human: ``wait`` for an answer at the vendor,
        ``fail``, ``approve`` drafts unseen, ``ask`` in Airflow (3.1 and newer). One for all, or one for each
        topic or kind, such as ``{"plan": "approve", "report": "ask", "secret": "provide"}``.
    :param secrets: where Airflow has the secrets that a run may ask for: names with ``conn:ID``, for the
        password of a connection, or ``var:KEY``. They are registered at the vendor when they are asked for.
    :param assigned_users: who may respond in Airflow, as Airflow's own human-in-the-loop operators take it.
    :param response_timeout: seconds or timedelta to wait for a response in Airflow.
    :param defaults: ``Approve`` or ``Reject``: what counts when nobody has responded by then. Without it
        the task fails.
    :param notifiers: told whenever somebody is asked in Airflow.
    :param max_answers: answers that one try gives at most.
    """

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
        on_human_request: str | Mapping[str, str] = "wait",
        secrets: Mapping[str, str] | None = None,
        assigned_users: HITLUser | list[HITLUser] | None = None,
        response_timeout: float | timedelta | None = None,
        defaults: str | None = None,
        notifiers: Sequence[BaseNotifier] | BaseNotifier | None = None,
        max_answers: int = 20,
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
        self._human = HumanSettings.of(
            on_human_request,
            secrets=secrets or {},
            assigned_users=assigned_users,
            response_timeout=None
            if response_timeout is None
            else seconds("response_timeout", response_timeout),
            defaults=defaults,
            notifiers=notifiers,
            max_answers=max_answers,
        )

    @property
    def hook(self) -> AgentRunHook:
        """Return a hook for the connection."""
        return AgentRunHook(conn_id=self.conn_id)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, wait: dict[str, Any] | None = None
    ) -> Any:
        """
        Take the wait back from the triggerer, or from a human who responded in Airflow, and go on.

        :param event: how the wait ended, or what the human chose.
        :param wait: what to go on with; ``dag.test()`` does not give it.
        """
        resumed = self._resumed(wait) if wait else None
        if resumed:
            resumed.expect(self, event)
            if response := hitl.HumanResponse.of(event):
                return self.wait_for_result(
                    context, self._step(context, resumed, lambda human: human.on_response(resumed, response))
                )
        ended, run = look_again(read_event(event, AgentRunEvent), self.hook)
        return self._conclude(context, ended, run, resumed or self.wait_after(ended))

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
            policies=self._human.policies if self._human.policies.do_more_than_wait else None,
        )

    @property
    def human_policies(self) -> HumanPolicies:
        """Return what to do about what the run asks."""
        return self._human.policies

    def human_requests(self, context: Context) -> HumanRequests:
        """Return what deals with the requests of this task's run."""
        return HumanRequests(self._human, self.hook, context, self._known_options)

    def finish_answer(self, context: Context, wait: RunWait) -> RunWait | None:
        """
        Finish what a try before began to answer and was lost in.

        :return: the wait to go on with, None if nothing was begun.
        """
        return None if wait.policies is None else self.human_requests(context).finish_answer(wait)

    def check_human_requests(self) -> None:
        """
        Make sure that the vendor's runs ask what the policies are about.

        :raises InvalidInputError: they never ask one of it; names what they ask.
        """
        adapter = self.hook.adapter
        self._human.policies.check_topics(adapter.request_topics, adapter.display_name)

    def wait_for_result(self, context: Context, wait: RunWait) -> Any:
        """Wait, deferred or here, deal with what the run asks meanwhile, and surface the result."""
        going_on: RunWait | None = wait
        while going_on:
            wait = going_on
            # A question in Airflow waits for its response while the task is deferred.
            if self.deferrable or wait.exchange.asked is not None:
                wait.defer(self)
            self._waiting = _Waiting(context["ti"], wait)
            event, run = wait.on_worker(self.hook)
            self._waiting = None
            going_on = self._after(context, event, wait)
        return self._finish(context, event, run, wait)

    @property
    def _run_kind(self) -> str | None:
        return None

    @property
    def _known_options(self) -> dict[str, Any] | None:
        """What the run was started with; None if it was started elsewhere."""
        return None

    def _resumed(self, carried: dict[str, Any]) -> RunWait:
        """Return a wait that was handed over to the triggerer."""
        ref = RunRef(run_id=carried["run_id"], kind=carried["run_kind"])
        return replace(
            self.new_wait(ref, agent_id=carried["agent_id"], not_found_until=carried["not_found_until"]),
            since=carried["since"],
            end_time=carried["end_time"],
            exchange=HumanExchange.model_validate(carried["exchange"]),
        )

    def _conclude(self, context: Context, event: AgentRunEvent, run: Run | None, wait: RunWait) -> Any:
        """Wait on after a deferral if the run only asks something, else finish."""
        going_on = self._after(context, event, wait)
        return (
            self.wait_for_result(context, going_on) if going_on else self._finish(context, event, run, wait)
        )

    def _after(self, context: Context, event: AgentRunEvent, wait: RunWait) -> RunWait | None:
        """Deal with what ended a wait if it is about a human; None if the wait is over for good."""
        step = _HUMAN_STEPS.get(event.outcome)
        return self._step(context, wait, lambda human: step(human, wait)) if step else None

    def _step(self, context: Context, wait: RunWait, step: Callable[[HumanRequests], RunWait]) -> RunWait:
        """Do one step about what the run asks, and return the wait to go on with."""
        try:
            going_on = step(self.human_requests(context))
        except (AgentRunsError, AirflowNotFoundException) as error:
            what = f"{wait.subject}: what it asks cannot be dealt with: {error}"
            if not is_passing(error):
                raise AgentRunRefused(what, run_id=wait.ref.run_id) from error
            self.log.warning("%s; trying again while there is time", what)
            going_on = replace(wait, poll_from=time.time() + VENDOR_PAUSE)
        if going_on.poll_from and time.time() >= wait.end_time:
            self._fail(wait.event(Decision(Outcome.TIMED_OUT)), None)
        return going_on

    def _fail(self, event: AgentRunEvent, run: Run | None) -> NoReturn:
        """Fail as a wait did that has ended without its run."""
        raise NotImplementedError

    def _finish(self, context: Context, event: AgentRunEvent, run: Run | None, wait: RunWait) -> Any:
        """
        Do what is to be done when the wait is over.

        :param run: the run as last seen, if that is known here.
        """
        raise NotImplementedError

    def wait_after(self, event: AgentRunEvent) -> RunWait:
        """Return what to go on with after an event that came alone, as in ``dag.test()``: the try's wait."""
        wait = replace(self.new_wait(self.hook.ref(event.run_id, event.run_kind)), end_time=event.end_time)
        return replace(wait, since=event.since) if event.since else wait
