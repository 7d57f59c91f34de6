"""What both operators do with a run's end: surface its result, or fail as it did."""

from __future__ import annotations

import time
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowNotFoundException, AirflowTaskTimeout, Context

from airflow_provider_agentruns.cancellation import GOES_ON
from airflow_provider_agentruns.client.exceptions import AgentRunsError
from airflow_provider_agentruns.client.models import Run, RunStatus
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.exceptions import (
    AgentRunCancelled,
    AgentRunFailed,
    AgentRunRefused,
    AgentRunStalled,
    AgentRunTimeout,
    AgentRunUnreadable,
)
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import Decision
from airflow_provider_agentruns.triggers import AgentRunEvent
from airflow_provider_agentruns.wait_operator import RunWaitBaseOperator
from airflow_provider_agentruns.waiting import RunWait, cancel
from airflow_provider_agentruns.xcom import ERROR_KEY, RUN_KEY, push


class RunResultBaseOperator(RunWaitBaseOperator):
    """Wait for a run and surface its result; who the run is, a subclass says in ``execute``."""

    def surface(self, context: Context, wait: RunWait, run: Run) -> Any:
        """Surface the result of a run that has ended already."""
        return self._finish(context, wait.event(Decision(Outcome.ENDED, run=run)), run, wait)

    def _finish(self, context: Context, event: AgentRunEvent, run: Run | None, wait: RunWait) -> Any:
        """Surface the result of a run, or fail as it did."""
        if event.outcome is not Outcome.ENDED:
            self._fail(event, run)
        run = self._read_result(event, run)
        if not run.status.is_terminal:
            # Somebody resumed it since its trigger saw the end.
            if time.time() >= event.end_time:
                self._fail(event.model_copy(update={"outcome": Outcome.TIMED_OUT}), run)
            self.log.info("Run %s goes on (status %s); waiting again", run.run_id, run.status)
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
        except (AgentRunsError, AirflowNotFoundException, AirflowTaskTimeout) as error:
            raise AgentRunUnreadable(
                f"{event.subject(self.conn_id)} ended, but its result could not be read: {error}. "
                "AgentRunResultOperator can read it later.",
                run_id=event.run_id,
                run=run,
            ) from error

    def _fail(self, event: AgentRunEvent, run: Run | None) -> NoReturn:
        subject = event.subject(self.conn_id)
        if event.outcome in {Outcome.TIMED_OUT, Outcome.STALLED}:
            raise self._too_late(event, run)
        if event.outcome is Outcome.REFUSED:
            raise AgentRunRefused(f"{subject}: {event.error}", run_id=event.run_id, run=run)
        raise AgentRunUnreadable(
            f"{subject}: waiting broke off ({event.error}); see the trigger's log. {GOES_ON}",
            run_id=event.run_id,
            run=run,
        )

    def _too_late(self, event: AgentRunEvent, run: Run | None) -> AgentRunTimeout:
        what = cancel(self.hook, event.run_id, event.run_kind) if self.cancel_on_timeout else GOES_ON
        text = f"{event.subject(self.conn_id)} had not ended after {event.elapsed(time.time())}"
        if event.outcome is Outcome.TIMED_OUT:
            return AgentRunTimeout(f"{text}. {what}", run_id=event.run_id, run=run)
        return AgentRunStalled(
            f"{text}, and has shown no change at the vendor for {self.stall_timeout:g} s. {what}",
            run_id=event.run_id,
            run=run,
        )
