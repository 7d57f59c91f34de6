"""Start a run, or go on with the one that an earlier try started."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowNotFoundException, AirflowTaskTimeout

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
    AgentRunRateLimited,
    AgentRunRefused,
    AgentRunStartUncertain,
    AgentRunUnreadable,
)
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.reattachment import (
    Earlier,
    OnEarlierRun,
    StartLog,
    StartRecord,
    Try,
    fingerprint_of,
    judge,
)
from airflow_provider_agentruns.waiting import cancel

# A run that was just started may not be known to all of the vendor's servers yet, seconds.
YOUNG = 30.0
# Seconds by which a vendor's clock may be behind ours.
_CLOCK_SKEW = 30.0

log = logging.getLogger(__name__)


class OnEarlier(NamedTuple):
    """
    What becomes of a run that an earlier try started.

    :param on_retry: what a retry does.
    :param on_clear: what a task does that was cleared.
    :param cancel_on_clear: whether a task that was cleared, and starts anew, cancels it.
    """

    on_retry: OnEarlierRun
    on_clear: OnEarlierRun
    cancel_on_clear: bool


class RunStarter:
    """
    Bring one try of a task to its run.

    :param hook: for the connection.
    :param what: what to start, as the hook's ``start`` takes it.
    :param starts: the record of the task's start.
    """

    def __init__(
        self, hook: AgentRunHook, what: dict[str, Any], starts: StartLog, current: Try, policy: OnEarlier
    ) -> None:
        self._hook = hook
        self._what = what
        self._starts = starts
        self._try = current
        self._policy = policy
        self._connection = f"connection {hook.conn_id!r}"
        self._cannot_start = f"Cannot start a run ({self._connection})"

    def bring(self, check: Callable[[], None] = lambda: None) -> Run:
        """
        Return the run to wait for, started now or earlier.

        :param check: raises ``InvalidInputError`` for what must be found out before anything is sent.
        :raises AgentRunRefused: the input cannot be right, the vendor refused, or it does not know the
            earlier run any more.
        :raises AgentRunUnreadable: nothing was started, or whether it was is not known.
        """
        try:
            check()
            fingerprint = fingerprint_of(self._hook.conn_id, self._hook.start_call(**self._what).request)
        except (InvalidInputError, AirflowNotFoundException) as error:
            raise AgentRunRefused(f"{self._cannot_start}: {error}. Nothing was sent.") from error
        run = self._earlier_run(fingerprint)
        if run is None:
            run = self._start_and_record(fingerprint)
            log.info("Started run %s (%s)", run.run_id, self._connection)
        return run

    def _earlier_run(self, fingerprint: str) -> Run | None:
        if not self._starts.is_kept:
            if self._try.number > 1 and self._policy.on_retry == "reattach":
                log.warning("This Airflow keeps no task state: a run of an earlier try is not found")
            return None
        record = self._starts.read()
        if record is None:
            return None
        earlier = judge(
            record, self._try, fingerprint, on_retry=self._policy.on_retry, on_clear=self._policy.on_clear
        )
        if earlier is Earlier.RUN and record.ref:
            return self._stands(record, record.ref)
        if earlier is Earlier.ANSWER_LOST:
            ref = self._search(record)
            return self._stands(record, ref) if ref else None
        self._leave(record, earlier)
        return None

    def _leave(self, record: StartRecord, earlier: Earlier) -> None:
        subject = f"Run {record.run_id or 'of an earlier try'} ({self._connection})"
        is_killed = self._policy.cancel_on_clear and not self._try.is_retry_of(record)
        if is_killed and record.ref and not record.is_surfaced:
            what = cancel(self._hook, record.ref.run_id, record.ref.kind)
            log.warning("%s belongs to the task before it was cleared. %s", subject, what)
        else:
            log.info("%s is left alone: %s", subject, earlier)

    def _search(self, record: StartRecord) -> RunRef | None:
        """Return the run of a start whose answer was lost; None if there is none, or no way to tell."""
        asked_at = datetime.fromtimestamp(record.asked_at, UTC).isoformat(timespec="seconds")
        subject = (
            f"An earlier try sent a start at {asked_at} and was gone before the answer ({self._connection})"
        )
        try:
            found = self._hook.accepted_starts(since=record.asked_at - _CLOCK_SKEW, **self._what)
        except (APIError, InvalidInputError, AirflowNotFoundException) as error:
            raise AgentRunUnreadable(
                f"{subject}. Whether the vendor has taken it cannot be looked up: {error}. "
                "Nothing was started."
            ) from error
        if found is None:
            log.warning("%s: a run may be going on at the vendor, and another is started now", subject)
            return None
        if not found:
            log.info("%s: the vendor has not taken it", subject)
            return None
        refs = {start.ref for start in found}
        ref = refs.pop() if len(refs) == 1 else None
        if ref is None:
            raise AgentRunStartUncertain(
                f"{subject}. The vendor has taken {len(found)} such since and does not tell which run it is. "
                "Nothing was started: look there, and attach to the run with AgentRunResultOperator, or "
                "clear the task to start anew."
            )
        log.info("%s: the vendor has taken it as run %s", subject, ref.run_id)
        return ref

    def _stands(self, record: StartRecord, ref: RunRef) -> Run | None:
        """Return a run as it stands now, None if it came to nothing."""
        subject = f"Run {ref.run_id} ({self._connection}), which an earlier try started,"
        try:
            run = self._hook.get_status(ref.run_id, ref.kind)
        except (APIError, InvalidInputError, AirflowNotFoundException) as error:
            is_young = isinstance(error, NotFoundError) and time.time() < record.asked_at + YOUNG
            is_final = isinstance(error, APIError) and not error.is_transient and not is_young
            error_class = AgentRunRefused if is_final else AgentRunUnreadable
            advice = " Clear the task to start anew." if is_final else ""
            raise error_class(
                f"{subject} cannot be read: {error}. Nothing was started.{advice}", run_id=ref.run_id
            ) from error
        if run.status in {RunStatus.FAILED, RunStatus.CANCELLED}:
            log.info("%s %s; starting anew", subject, run.status)
            return None
        log.info("%s stands at %s; going on with it", subject, run.status)
        if record.run_id is None:
            self._starts.started(record, run)
        return run if run.agent_id else run.model_copy(update={"agent_id": record.agent_id})

    def _start_and_record(self, fingerprint: str) -> Run:
        record = self._starts.intend(self._try, fingerprint)
        try:
            run = self._start()
        except AgentRunStartUncertain:
            raise
        except AgentRunException:
            try:
                self._starts.forget()
            except Exception:
                log.exception("Nothing was started, but the record of the start could not be deleted")
            raise
        self._starts.started(record, run)
        return run

    def _start(self) -> Run:
        try:
            return self._hook.start(**self._what)
        except (InvalidInputError, AirflowNotFoundException) as error:
            raise AgentRunRefused(f"{self._cannot_start}: {error}. Nothing was sent.") from error
        except APIError as error:
            if not error.is_transient:
                raise AgentRunRefused(f"{self._cannot_start}: {error}") from error
            if isinstance(error, RateLimitError):
                raise AgentRunRateLimited(
                    f"{self._cannot_start}: {error}. Nothing was started.", retry_after=error.retry_after
                ) from error
            if isinstance(error, APIConnectionError) and not error.may_have_been_sent:
                raise AgentRunUnreadable(f"{self._cannot_start}: {error}. Nothing was started.") from error
            raise self._uncertain(error) from error
        except AirflowTaskTimeout as error:
            raise self._uncertain(error) from error

    def _uncertain(self, error: BaseException) -> AgentRunStartUncertain:
        return AgentRunStartUncertain(
            f"{self._cannot_start}: {error}. The vendor may have started the run all the same, so the task "
            "is not retried: look there first. AgentRunResultOperator can attach to the run."
        )
