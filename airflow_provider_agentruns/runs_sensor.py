"""A sensor that waits for many runs in one task."""

from __future__ import annotations

import ast
import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowNotFoundException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    Context,
)

from airflow_provider_agentruns.client.exceptions import AgentRunsError, InvalidInputError
from airflow_provider_agentruns.client.models import RunStatus
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.deadline import backstop, bounded
from airflow_provider_agentruns.exceptions import AgentRunUnreadable, SensedRunRefused, SensedRunsFailed
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.polling.goal import Mode, check_goal, judge, successes_needed
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.runs_trigger import AgentRunsEvent, AgentRunsTrigger, RunsOutcome, digest_of
from airflow_provider_agentruns.vendors.base import VendorAdapter
from airflow_provider_agentruns.waiting import (
    DEFAULT_DEFERRABLE,
    DEFAULT_INTERVAL,
    first_poll_at,
    read_event,
    seconds,
)
from airflow_provider_agentruns.xcom import RUNS_KEY, push

_MOST_RUNS = 10_000
_MOST_NAMED = 20
_LONGEST_REASON = 200
_CAME_TO_NOTHING = {RunStatus.FAILED.value, RunStatus.CANCELLED.value}
_GOES_ON = {RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.UNKNOWN}


class AgentRunsSensor(BaseSensorOperator):
    """
    Wait until enough of many runs have succeeded; fail as soon as not enough can any more.

    XComs: ``agent_runs`` has a dict for each run, in their order, with ``run_id``, ``status`` and, where it
    is known, ``error``; ``return_value`` the ids of those that succeeded.

    :param conn_id: the Airflow connection, whose type selects the vendor. (templated)
    :param run_ids: the runs: a list, or what gives one, as the output of a mapped task does. (templated)
    :param run_kind: ``agent`` or ``tool`` where the vendor tells them apart. (templated)
    :param mode: ``all`` have to succeed, ``any`` one of them, or a ``quorum``.
    :param min_success: how many have to succeed in mode ``quorum``.
    :param poke_interval: seconds or timedelta between polls of a run, as far as the key's budget allows.
    :param timeout: seconds or timedelta to wait at most; a shorter ``execution_timeout`` counts as well.
    :param stall_timeout: seconds or timedelta after which a run that shows no change counts as failed.
    :param deferrable: whether to wait in the triggerer, holding no worker.
    :param soft_fail: whether a failure skips the task instead.
    :param start_from_trigger: taken for the sake of default arguments; it implies ``deferrable``, but which
        runs to wait for is found out on a worker, which then defers the task.
    """

    template_fields: Sequence[str] = ("conn_id", "run_ids", "run_kind")
    ui_color: str = "#d9e8f5"

    def __init__(
        self,
        *,
        conn_id: str,
        run_ids: Sequence[str] | str,
        run_kind: str | None = None,
        mode: Mode = "all",
        min_success: int | None = None,
        poke_interval: float | timedelta = DEFAULT_INTERVAL,
        stall_timeout: float | timedelta | None = None,
        deferrable: bool = DEFAULT_DEFERRABLE,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        # Airflow's sensors have a mode, too: how they wait on a worker.
        super().__init__(poke_interval=seconds("poke_interval", poke_interval), mode="poke", **kwargs)
        check_goal(mode, min_success)
        self.conn_id = conn_id
        self.run_ids = run_ids
        self.run_kind = run_kind
        self.mode: Mode = mode
        self.min_success = min_success
        self.stall_timeout = None if stall_timeout is None else seconds("stall_timeout", stall_timeout)
        self.deferrable = deferrable or start_from_trigger
        self._wants_no_worker = start_from_trigger

    def execute(self, context: Context) -> Any:
        """Wait for the runs."""
        if self._wants_no_worker:
            self.log.info("start_from_trigger has no effect on a sensor for many runs: this worker defers it")
        runs = self._read_run_ids()
        since = time.time()
        trigger = self._trigger(runs, since, since + bounded(self.timeout, self.execution_timeout))
        self.log.info("Waiting for %d runs (connection %r): %s", len(runs), self.conn_id, _enumerate([*runs]))
        is_open = judge(needed=trigger.needed, succeeded=0, can_succeed=len(trigger.run_ids)) is None
        if self.deferrable and is_open:
            self._defer(trigger)
        event = asyncio.run(_fire(trigger))
        # As after a deferral: there the base class knows what a soft failure is.
        return self.resume_execution("execute_complete", {"event": event}, context)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, wait: dict[str, Any] | None = None
    ) -> list[str]:
        """
        Take the wait back from the triggerer; push the table, and fail if too few have succeeded.

        :param wait: what was waited for; None if this was on a worker, or in ``dag.test()``.
        """
        runs = self._read_run_ids()
        digest = digest_of(_askable(runs))
        told = event.get("digest") if isinstance(event, dict) else None
        if wait and wait["digest"] == digest != told:
            # RunWait.expect tells how that can be.
            self.log.warning("Airflow brought an event that is not of these runs; waiting on")
            self._defer(self._trigger(runs, wait["since"], wait["end_time"]))
        ended = read_event(event, AgentRunsEvent)
        if ended.digest != digest:
            raise AgentRunUnreadable(
                "run_ids gives other runs now than when the wait began: what it is made from has changed. "
                "Clear the task to wait for the new ones."
            )
        table = self._table(runs, ended)
        push(context, RUNS_KEY, table)
        succeeded = [row["run_id"] for row in table if row["status"] == RunStatus.SUCCEEDED]
        if ended.outcome is not RunsOutcome.REACHED:
            self._fail(ended, table, len(succeeded))
        self.log.info("%d of %d runs have succeeded", len(succeeded), len(table))
        return succeeded

    def _trigger(self, runs: dict[str, str | None], since: float, end_time: float) -> AgentRunsTrigger:
        return AgentRunsTrigger(
            conn_id=self.conn_id,
            run_ids=_askable(runs),
            run_kind=self.run_kind,
            needed=successes_needed(self.mode, self.min_success, len(runs)),
            poll_interval=self.poke_interval,
            since=since,
            end_time=end_time,
            poll_from=first_poll_at(time.time()) if self.deferrable else 0.0,
            stall_timeout=self.stall_timeout,
        )

    def _defer(self, trigger: AgentRunsTrigger) -> NoReturn:
        waited_for = {
            "digest": digest_of(trigger.run_ids),
            "since": trigger.since,
            "end_time": trigger.end_time,
        }
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs={"wait": waited_for},
            timeout=backstop(trigger.end_time),
        )

    def _read_run_ids(self) -> dict[str, str | None]:
        """Return the runs, each with why no run can have this id, None if one can."""
        try:
            adapter = AgentRunHook(conn_id=self.conn_id).adapter
            items = _as_list(self.run_ids)
        except (InvalidInputError, AirflowNotFoundException) as error:
            raise SensedRunRefused(f"Cannot wait for runs (connection {self.conn_id!r}): {error}") from error
        runs: dict[str, str | None] = {}
        for item in items:
            run_id = item if isinstance(item, str) else one_line(repr(item), 80)
            runs[run_id] = _refusal(adapter, item, self.run_kind)
        if len(runs) < len(items):
            self.log.info("%d runs are named more than once, and count once", len(items) - len(runs))
        return runs

    def _table(self, runs: dict[str, str | None], event: AgentRunsEvent) -> list[dict[str, str]]:
        asked = _askable(runs)
        statuses = dict(zip(asked, event.statuses, strict=True))
        reasons = runs | {asked[place]: reason for place, reason in event.reasons.items()}
        table = []
        for run_id in runs:
            row = {"run_id": one_line(run_id), "status": statuses.get(run_id, Outcome.REFUSED.value)}
            if reason := reasons[run_id]:
                row["error"] = one_line(reason, _LONGEST_REASON)
            table.append(row)
        self._add_vendors_reasons(table)
        return table

    def _add_vendors_reasons(self, table: list[dict[str, str]]) -> None:
        hook = AgentRunHook(conn_id=self.conn_id)
        for row in [row for row in table if row["status"] in _CAME_TO_NOTHING][:_MOST_NAMED]:
            try:
                run = hook.get_result(row["run_id"], self.run_kind)
            except (AgentRunsError, AirflowNotFoundException) as error:
                # That they failed is known; a vendor that is away must not hold the task for each of them.
                self.log.warning("Why runs failed could not be read: %s", error)
                return
            if run.error_message:
                row["error"] = one_line(run.error_message, _LONGEST_REASON)

    def _fail(self, event: AgentRunsEvent, table: list[dict[str, str]], succeeded: int) -> NoReturn:
        needed = successes_needed(self.mode, self.min_success, len(table))
        subject = (
            f"{succeeded} of {len(table)} runs (connection {self.conn_id!r}) succeeded, {needed} have to"
        )
        going_on = [row["run_id"] for row in table if row["status"] in _GOES_ON]
        lost = [
            f"{row['run_id']} {row['status']}" + (f" ({row['error']})" if "error" in row else "")
            for row in table
            if row["run_id"] not in going_on and row["status"] not in {RunStatus.SUCCEEDED, "never_seen"}
        ]
        if lost:
            subject += f". Not succeeded: {_enumerate(lost)}"
        if event.outcome is RunsOutcome.TIMED_OUT:
            elapsed = time.time() - event.since
            raise AirflowSensorTimeout(
                f"{subject}. After {elapsed:.0f} s these go on at the vendor: {_enumerate(going_on)}"
            )
        if event.outcome is RunsOutcome.REFUSED:
            raise SensedRunRefused(f"{subject}. {event.error}")
        if event.outcome is RunsOutcome.BROKEN:
            raise AgentRunUnreadable(f"{subject}. Waiting broke off ({event.error}); see the trigger's log")
        counts = Counter(row["status"] for row in table)
        raise SensedRunsFailed(f"{subject}. {', '.join(f'{n} {status}' for status, n in counts.items())}")


async def _fire(trigger: AgentRunsTrigger) -> dict[str, Any]:
    events = [event async for event in trigger.run()]
    payload: dict[str, Any] = events[0].payload
    return payload


def _refusal(adapter: VendorAdapter, run_id: object, run_kind: str | None) -> str | None:
    try:
        adapter.ref(run_id, run_kind)
    except InvalidInputError as error:
        return str(error)
    return None


def _askable(runs: dict[str, str | None]) -> list[str]:
    return [run_id for run_id, refusal in runs.items() if refusal is None]


def _as_list(run_ids: object) -> list[Any]:
    """
    Return run ids as a list; a rendered template gives the text of one.

    :raises InvalidInputError: it is no list, or too long a one.
    """
    value = run_ids
    if isinstance(value, str):
        text = value
        for parse in (json.loads, ast.literal_eval):
            try:
                value = parse(text)
                break
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise InvalidInputError(f"run_ids must be a list of run ids, not {one_line(repr(value), 80)}")
    items = list(value)
    if len(items) > _MOST_RUNS:
        raise InvalidInputError(f"run_ids gives {len(items)} runs; one task waits for {_MOST_RUNS} at most")
    return items


def _enumerate(items: Sequence[str]) -> str:
    more = len(items) - _MOST_NAMED
    return ", ".join(items[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "") or "none"
