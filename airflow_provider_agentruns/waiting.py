"""What the sensor and the operators share: one wait for one run, deferred or on the worker."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    AirflowTaskTimeout,
    BaseOperator,
    conf,
)
from pydantic import BaseModel

from airflow_provider_agentruns import hitl
from airflow_provider_agentruns.cancellation import (
    CANCELLED,
    is_given_up,
    no_way_to_cancel,
    not_cancelled,
    state_of_task,
)
from airflow_provider_agentruns.client.exceptions import AgentRunsError
from airflow_provider_agentruns.client.models import Run, RunRef
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.deadline import backstop
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.polling.human_watch import HumanExchange, HumanPolicies, HumanWatch
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import Decision, RunPoller
from airflow_provider_agentruns.triggers import AgentRunEvent, AgentRunTrigger

DEFAULT_INTERVAL = 5.0
DEFAULT_DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)

_HEARTBEAT_INTERVAL: float = conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)
# When a supervisor has noticed that its process is gone, and the scheduler has been told; where nothing beats
# there is neither.
_RESUMABLE_AFTER = _HEARTBEAT_INTERVAL + 1.5 if _HEARTBEAT_INTERVAL else 0.0
_LONGEST_DURATION = 10 * 365 * 24 * 3600.0
_AIRFLOW_FAILS_TASK = "__fail__"
_AIRFLOW_TIMED_OUT = "Trigger timeout"
# Airflow kills a process that has not ended five seconds after it was asked to.
_KILL_GRACE = 4.5

log = logging.getLogger(__name__)

EventT = TypeVar("EventT", bound=BaseModel)


def seconds(name: str, value: float | timedelta) -> float:
    """
    Return a duration in seconds.

    :param name: the parameter, for the error.
    :raises ValueError: it is not positive, or too large for Airflow.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= _LONGEST_DURATION:
        raise ValueError(
            f"{name} must be a positive number of seconds, at most ten years, or a timedelta, not {value!r}"
        )
    return float(number)


def first_poll_at(now: float) -> float:
    """
    Return when a task that defers now may be polled for first. Both are seconds since the epoch.

    A task whose trigger fires before the scheduler knows that the deferring process is gone is queued too
    soon, and failed ("state changed externally").
    """
    return now + _RESUMABLE_AFTER


@dataclass(frozen=True, slots=True)
class RunWait:
    """
    One wait for one run.

    :param interval: seconds between polls.
    :param since: when this try began to wait, seconds since the epoch.
    :param end_time: the deadline, seconds since the epoch.
    :param not_found_until: until when "no such run" is taken for a run too young to be seen, seconds
        since the epoch.
    :param stall_timeout: seconds without a change at the vendor after which to give up.
    :param agent_id: whose run it is, where that is known.
    :param cancel_on_kill: whether to cancel the run when the task is killed.
    :param cancel_on_clear: whether a clear counts as a kill: the task will not go on with this run.
    :param policies: what to do about what the run asks of a human; None to go on waiting.
    :param exchange: how far the exchange with the run has got.
    :param poll_from: when to poll first, seconds since the epoch.
    """

    conn_id: str
    ref: RunRef
    interval: float
    since: float
    end_time: float
    not_found_until: float = 0.0
    stall_timeout: float | None = None
    agent_id: str | None = None
    cancel_on_kill: bool = False
    cancel_on_clear: bool = False
    policies: HumanPolicies | None = None
    exchange: HumanExchange = field(default_factory=HumanExchange)
    poll_from: float = 0.0

    @property
    def subject(self) -> str:
        """Return the beginning of a sentence that says which run."""
        return f"Run {self.ref.run_id} (connection {self.conn_id!r})"

    def poller(self) -> RunPoller:
        """Return what decides on each poll."""
        return RunPoller(
            self.ref,
            interval=self.interval,
            end_time=self.end_time,
            not_found_until=self.not_found_until,
            stall_timeout=self.stall_timeout,
            human=HumanWatch(self.policies, self.exchange) if self.policies else None,
        )

    def on_worker(self, hook: AgentRunHook) -> tuple[AgentRunEvent, Run | None]:
        """Wait here, holding the worker, and return how the wait ended and the run as last seen."""
        poller = self.poller()
        try:
            time.sleep(max(0.0, min(self.poll_from, self.end_time) - time.time()))
            decision = hook.wait(poller)
        except AirflowTaskTimeout:
            # Airflow's execution timeout. It would not name the run.
            decision = poller.on_deadline()
        return self.event(decision), decision.run

    def event(self, decision: Decision) -> AgentRunEvent:
        """Return what a trigger would tell of the decision that ended the wait."""
        return AgentRunEvent.of(
            decision,
            run_id=self.ref.run_id,
            run_kind=self.ref.kind,
            since=self.since,
            end_time=self.end_time,
        )

    def carried(self) -> dict[str, Any]:
        """Return what the task is resumed with: a human's response in Airflow tells of no run."""
        return {
            "run_id": self.ref.run_id,
            "run_kind": self.ref.kind,
            "agent_id": self.agent_id,
            "since": self.since,
            "end_time": self.end_time,
            "not_found_until": self.not_found_until,
            "exchange": self.exchange.model_dump(mode="json", exclude_defaults=True),
        }

    def defer(self, operator: BaseOperator) -> NoReturn:
        """
        Hand the wait to the triggerer; ``execute_complete`` takes it back.

        :raises TaskDeferred: always.
        """
        operator.defer(
            trigger=AgentRunTrigger(
                conn_id=self.conn_id,
                run_id=self.ref.run_id,
                run_kind=self.ref.kind,
                agent_id=self.agent_id,
                poll_interval=self.interval,
                since=self.since,
                end_time=self.end_time,
                poll_from=max(self.poll_from, first_poll_at(time.time())),
                not_found_until=self.not_found_until,
                stall_timeout=self.stall_timeout,
                cancel_on_kill=self.cancel_on_kill,
                cancel_on_clear=self.cancel_on_clear,
                human_policies=self.policies.by_name if self.policies else None,
                exchange=self.exchange.model_dump(mode="json") if self.policies else None,
            ),
            method_name="execute_complete",
            kwargs={"wait": self.carried()},
            timeout=backstop(self.end_time),
        )

    def expect(self, operator: BaseOperator, event: object) -> None:
        """
        Wait on if an event is not of this wait.

        On SQLite, Airflow gives the id of a trigger that was removed, and may still fire, to the next one,
        and brings that one's task the event of the first.

        :param event: what the task is resumed with. A response that Airflow itself brings names no run.
        :raises TaskDeferred: it is of another run, or of something else.
        """
        told = event if isinstance(event, dict) else {}
        run_id = told.get("run_id", self.ref.run_id if hitl.HumanResponse.of(told) else None)
        if run_id != self.ref.run_id:
            whose = f"run {one_line(str(run_id), 80)}" if run_id else "another trigger"
            log.warning("%s: Airflow brought an event of %s; waiting on", self.subject, whose)
            self.defer(operator)


def read_event(event: dict[str, Any] | None, model: type[EventT]) -> EventT:
    """
    Return what a trigger told.

    :param model: what it tells.
    :raises AirflowException: nothing of ours, as after an upgrade in the middle of a wait.
    """
    try:
        return model.model_validate(event)
    except ValueError:
        raise AirflowException(
            f"the trigger sent an event that this version does not understand; it has {sorted(event or {})}"
        ) from None


def look_again(event: AgentRunEvent, hook: AgentRunHook) -> tuple[AgentRunEvent, Run | None]:
    """
    Ask once more about a run whose deadline passed in the triggerer: its last poll may have stood in line.

    :param event: how the wait ended there.
    :return: how it ended by now, and the run as last seen, if it was seen.
    """
    if event.outcome is not Outcome.TIMED_OUT:
        return event, None
    # Once: who has waited that long must not wait again for a key that is over its limit.
    run = hook.peek(event.run_id, event.run_kind)
    if run is None:
        return event, None
    outcome = Outcome.ENDED if run.status.is_terminal else event.outcome
    newer = {"outcome": outcome, "status": run.status, "raw_status": run.raw_status}
    return event.model_copy(update=newer), run


def cancel(hook: AgentRunHook, run_id: str, run_kind: str | None) -> str:
    """Cancel a run and return a sentence about what came of it. It does not raise what vendors cause."""
    try:
        is_cancelled = hook.cancel(run_id, run_kind)
    except (AgentRunsError, AirflowNotFoundException) as error:
        return not_cancelled(error)
    return CANCELLED if is_cancelled else no_way_to_cancel(hook.adapter.display_name)


def cancel_if_given_up(hook: AgentRunHook, ti: Any, wait: RunWait) -> None:
    """
    Cancel the run of a task that is killed on its worker, if the task's state says that it was given up.

    A worker that is moved or shut down, or that lost touch with Airflow, gets the same signal: then a retry
    goes on with the run.

    :param ti: the running task instance.
    """
    # This runs in a signal's handler. A thread, and not for longer than Airflow takes to kill the process:
    # what was interrupted may hold a lock that asking Airflow needs.
    thread = threading.Thread(target=_cancel_if_given_up, args=(hook, ti, wait), daemon=True)
    thread.start()
    thread.join(_KILL_GRACE)
    if thread.is_alive():
        log.warning("%s may go on: no time to cancel it", wait.subject)


def _cancel_if_given_up(hook: AgentRunHook, ti: Any, wait: RunWait) -> None:
    subject = wait.subject
    try:
        states = ti.get_task_states(
            dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=[ti.task_id], map_index=ti.map_index
        )
        state = state_of_task(states, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index)
    except Exception:
        log.exception("%s is left alone: whether its task was given up is not known", subject)
        return
    # A running task that is cleared is "restarting". One without a state was reset by a scheduler that took
    # its worker for lost: it begins anew, as a retry does.
    if state is not None and is_given_up(state, cancel_on_clear=wait.cancel_on_clear):
        log.warning("%s: its task was ended. %s", subject, cancel(hook, wait.ref.run_id, wait.ref.kind))
    else:
        log.warning(
            "%s is left alone: its task is %s, and a retry goes on with the run", subject, state or "reset"
        )


def ended_by_airflow(next_method: str) -> bool:
    """Tell whether a task is resumed only to fail: its trigger was lost, or ran past every timeout."""
    return next_method == _AIRFLOW_FAILS_TASK


def timed_out_in_airflow(next_kwargs: dict[str, Any] | None) -> bool:
    """Tell whether a task is resumed to fail because its time was over, not because its trigger broke."""
    return (next_kwargs or {}).get("error") == _AIRFLOW_TIMED_OUT
