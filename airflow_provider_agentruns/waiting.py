"""What the sensor and the operators share: one wait for one run, deferred or on the worker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    BaseOperator,
    Context,
    conf,
)

from airflow_provider_agentruns.client.exceptions import AgentRunsError
from airflow_provider_agentruns.client.models import Run, RunRef
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.polling.poller import Outcome, RunPoller
from airflow_provider_agentruns.triggers import AgentRunEvent, AgentRunTrigger

DEFAULT_INTERVAL = 5.0
DEFAULT_DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)
RUN_ID_KEY = "run_id"
RUN_KEY = "agent_run"
ERROR_KEY = "error_message"

# The trigger keeps the deadline. Airflow's own timeout, which ends a task without asking us, comes later:
# for a triggerer that is away.
_BACKSTOP = timedelta(minutes=10)
# A task whose trigger fires before its supervisor has noticed that the deferring process is gone is queued
# too soon, and failed by the scheduler ("state changed externally"). It notices after this many seconds.
_SUPERVISOR_NOTICES_EXIT = conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)
_LONGEST_DURATION = 10 * 365 * 24 * 3600.0
_AIRFLOW_FAILS_TASK = "__fail__"


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


@dataclass(frozen=True, slots=True)
class RunWait:
    """
    One wait for one run.

    :param interval: seconds between polls.
    :param agent_id: whose run it is, where that is known.
    :param end_time: the deadline, seconds since the epoch.
    :param not_found_until: until when "no such run" is taken for a run too young to be seen, seconds
        since the epoch.
    """

    conn_id: str
    ref: RunRef
    interval: float
    end_time: float
    not_found_until: float = 0.0
    agent_id: str | None = None

    def poller(self) -> RunPoller:
        """Return what decides on each poll."""
        return RunPoller(
            self.ref,
            interval=self.interval,
            end_time=self.end_time,
            not_found_until=self.not_found_until,
        )

    def on_worker(self, hook: AgentRunHook) -> tuple[AgentRunEvent, Run | None]:
        """Wait here, holding the worker, and return how the wait ended and the run as last seen."""
        decision = hook.wait(self.poller())
        event = AgentRunEvent.of(
            decision, run_id=self.ref.run_id, run_kind=self.ref.kind, end_time=self.end_time
        )
        return event, decision.run

    def defer(self, operator: BaseOperator) -> NoReturn:
        """
        Hand the wait to the triggerer; ``execute_complete`` takes it back.

        :raises TaskDeferred: always.
        """
        now = time.time()
        left = timedelta(seconds=max(0.0, self.end_time - now))
        operator.defer(
            trigger=AgentRunTrigger(
                conn_id=self.conn_id,
                run_id=self.ref.run_id,
                run_kind=self.ref.kind,
                agent_id=self.agent_id,
                poll_interval=self.interval,
                end_time=self.end_time,
                poll_from=now + _SUPERVISOR_NOTICES_EXIT,
                not_found_until=self.not_found_until,
            ),
            method_name="execute_complete",
            timeout=left + _BACKSTOP,
        )


def read_event(event: dict[str, Any] | None) -> AgentRunEvent:
    """
    Return what a trigger told.

    :raises AirflowException: nothing of ours, as after an upgrade in the middle of a wait.
    """
    try:
        return AgentRunEvent.model_validate(event)
    except ValueError:
        raise AirflowException(
            f"the trigger sent an event that this version does not understand: {event!r}"
        ) from None


def look_again(event: AgentRunEvent, hook: AgentRunHook) -> tuple[AgentRunEvent, Run | None]:
    """
    Ask once more about a run whose deadline passed in the triggerer: its last poll may have stood in line.

    :param event: how the wait ended there.
    :return: how it ended by now, and the run as last seen, if it was seen.
    """
    if event.outcome is not Outcome.TIMED_OUT:
        return event, None
    try:
        run = hook.get_status(event.run_id, event.run_kind)
    except (AgentRunsError, AirflowNotFoundException):
        return event, None
    outcome = Outcome.ENDED if run.status.is_terminal else event.outcome
    newer = {"outcome": outcome, "status": run.status, "raw_status": run.raw_status}
    return event.model_copy(update=newer), run


def ended_by_airflow(next_method: str) -> bool:
    """Tell whether a task is resumed only to fail: its trigger was lost, or ran past every timeout."""
    return next_method == _AIRFLOW_FAILS_TASK


def push(context: Context, key: str, value: Any) -> None:
    """Push an XCom of the running task."""
    context["ti"].xcom_push(key=key, value=value)
