"""What an earlier try of this task started, so that a retry does not pay for a second run."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from airflow.providers.common.compat.sdk import Context
from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_provider_agentruns.client.calls import Request
from airflow_provider_agentruns.client.models import Run, RunRef
from airflow_provider_agentruns.exceptions import AgentRunUnreadable
from airflow_provider_agentruns.task_state_store import task_state_store

OnEarlierRun = Literal["reattach", "new"]

_KEY = "agent_run_start"
# Seconds between attempts to record a run. To lose it may cost another one.
_PAUSES = (0.5, 2.0)

log = logging.getLogger(__name__)


class StartRecord(BaseModel):
    """
    What is kept of a start in Airflow's task state store, which outlives retries and clears.

    :param fingerprint: of what was to be started.
    :param try_number: the try that started it.
    :param max_tries: the task's bookkeeping at that time; a clear changes it, a retry does not.
    :param clear_number: how often tasks of the dag run had been cleared by then, if Airflow told.
    :param trace: the task's place in a trace by then, if Airflow told; a clear moves it, a retry does not.
    :param asked_at: when the start was sent, seconds since the epoch.
    :param run_id: the run, None as long as the vendor's answer was not there.
    :param is_surfaced: whether the task has succeeded with the run's result.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    fingerprint: str
    try_number: int
    max_tries: int
    clear_number: int | None = None
    trace: str | None = None
    asked_at: float
    run_id: str | None = None
    run_kind: str | None = None
    agent_id: str | None = None
    is_surfaced: bool = False

    @property
    def ref(self) -> RunRef | None:
        """Return what identifies the run at its vendor, if that is known."""
        return RunRef(run_id=self.run_id, kind=self.run_kind or "agent") if self.run_id else None


class Try(NamedTuple):
    """
    Which try of a task this is.

    :param max_tries: the last try's number but one, as Airflow counts it.
    :param clear_number: how often tasks of the dag run have been cleared, if Airflow tells.
    :param trace: the task's place in a trace, if Airflow tells.
    """

    number: int
    max_tries: int
    clear_number: int | None = None
    trace: str | None = None

    @classmethod
    def of(cls, context: Context) -> Try:
        """Return the try that runs now."""
        ti: Any = context["ti"]
        carrier = getattr(ti, "context_carrier", None) or {}
        return cls(
            number=ti.try_number,
            max_tries=ti.max_tries,
            clear_number=getattr(context.get("dag_run"), "clear_number", None),
            trace=carrier.get("traceparent"),
        )

    def is_retry_of(self, record: StartRecord) -> bool:
        """
        Tell a retry, or the same try begun anew, from a clear.

        A clear lets the task have as many tries as at first, counted from the last one. But of the running
        tasks that are cleared together, Airflow 3.3 gives just one more tries. Where neither that nor the
        trace tells, the number of a try beyond the last shows a clear, or that the task had succeeded. But a
        scheduler that takes a worker for lost begins a try beyond the last without a clear.
        """
        was_cleared = self._was_cleared_since(record)
        if was_cleared is None and record.is_surfaced:
            was_cleared = self.clear_number != record.clear_number
        same_round = self.max_tries == record.max_tries and self.number >= record.try_number
        return not was_cleared and same_round and (was_cleared is False or self.number <= self.max_tries + 1)

    def _was_cleared_since(self, record: StartRecord) -> bool | None:
        """Tell whether a clear was of this task; None if it cannot be told."""
        if None in {record.clear_number, self.clear_number}:
            return None
        if record.clear_number == self.clear_number:
            return False
        # Tasks of the dag run were cleared. Those have new traces.
        return None if None in {record.trace, self.trace} else record.trace != self.trace


class Earlier(StrEnum):
    """What is known of a start by an earlier try."""

    NOTHING = "nothing was started"
    OTHER_INPUTS = "an earlier try started something else: its inputs were others"
    NOT_WANTED = "an earlier try's run is not wanted"
    ANSWER_LOST = "an earlier try sent a start whose answer is not known"
    RUN = "an earlier try started a run"


def judge(
    record: StartRecord | None,
    current: Try,
    fingerprint: str,
    *,
    on_retry: OnEarlierRun,
    on_clear: OnEarlierRun,
) -> Earlier:
    """
    Decide what a record means for the try that runs now.

    :param fingerprint: of what is to be started now.
    :param on_retry: what a retry does with the run of the try before.
    :param on_clear: what a task that was cleared does with the run of before.
    """
    if record is None:
        return Earlier.NOTHING
    if record.fingerprint != fingerprint:
        return Earlier.OTHER_INPUTS
    if (on_retry if current.is_retry_of(record) else on_clear) == "new":
        return Earlier.NOT_WANTED
    return Earlier.RUN if record.run_id else Earlier.ANSWER_LOST


def fingerprint_of(conn_id: str, request: Request) -> str:
    """
    Return a digest of what is to be sent to a vendor; the order of a JSON object's names makes no difference.

    :param request: of a start.
    """
    content = request.content or b""
    try:
        body = json.loads(content)
    except ValueError:
        body = content.hex()
    text = json.dumps([conn_id, request.method, request.path, body], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class StartLog:
    """
    The record of one task's start.

    :param context: of the running task.
    """

    def __init__(self, context: Context) -> None:
        self._store = task_state_store(context)

    @property
    def is_kept(self) -> bool:
        """Tell whether Airflow has a store; versions before 3.3 do not."""
        return self._store is not None

    def read(self) -> StartRecord | None:
        """
        Return what was recorded last, None if nothing was.

        :raises AgentRunUnreadable: that cannot be told now.
        """
        if self._store is None:
            return None
        try:
            value = self._store.get(_KEY)
            return None if value is None else StartRecord.model_validate(value)
        except ValidationError:
            # Of another version. Not to know what it says is not to know that nothing was started.
            raise AgentRunUnreadable(
                "Nothing was started: the record of an earlier try's start is of a version that is not "
                f"understood. Delete the task state {_KEY!r} to start anew."
            ) from None
        except Exception as error:
            raise AgentRunUnreadable(
                "Nothing was started: whether an earlier try has started a run cannot be read from the task "
                f"state store ({type(error).__name__}: {error})"
            ) from error

    def intend(self, current: Try, fingerprint: str) -> StartRecord:
        """
        Record that a start is about to be sent.

        :raises AgentRunUnreadable: it cannot be recorded; nothing must be sent then.
        """
        record = StartRecord(
            fingerprint=fingerprint,
            try_number=current.number,
            max_tries=current.max_tries,
            clear_number=current.clear_number,
            trace=current.trace,
            asked_at=time.time(),
        )
        try:
            self._write(record)
        except Exception as error:
            raise AgentRunUnreadable(
                "Nothing was started: the start cannot be recorded in the task state store, and a retry "
                f"would not find the run ({type(error).__name__}: {error})"
            ) from error
        return record

    def started(self, record: StartRecord, run: Run) -> None:
        """
        Record what the vendor answered to the start.

        Not to be able to is logged: the run is there and paid for, so it is waited for all the same.
        """
        found = {"run_id": run.run_id, "run_kind": run.kind, "agent_id": run.agent_id}
        for pause in (*_PAUSES, None):
            try:
                self._write(record.model_copy(update=found))
            except Exception:
                if pause is None:
                    log.exception("Run %s could not be recorded: a retry would not find it", run.run_id)
                else:
                    time.sleep(pause)
            else:
                return

    def ended(self, run_id: str, run_kind: str | None, *, is_surfaced: bool) -> None:
        """
        Record how a wait ended, and the run if that could not be recorded when it began. Errors are logged.

        :param is_surfaced: whether the task succeeds with the run's result.
        """
        try:
            record = self.read()
            if record is None or record.run_id not in {None, run_id}:
                return
            found = {"run_id": run_id, "run_kind": run_kind, "is_surfaced": is_surfaced}
            newer = record.model_copy(update=found)
            if newer != record:
                self._write(newer)
        except Exception:
            log.exception("How the wait for run %s ended could not be recorded", run_id)

    def forget(self) -> None:
        """Record that certainly nothing was started. Raises whatever the store does."""
        if self._store is not None:
            self._store.delete(_KEY)

    def _write(self, record: StartRecord) -> None:
        if self._store is not None:
            self._store.set(_KEY, record.model_dump(mode="json", exclude_none=True))
