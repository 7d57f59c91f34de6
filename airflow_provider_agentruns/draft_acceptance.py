"""Accept a draft: one call accepts it, another resumes its run, and a worker may be lost between the two."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_agentruns.answer_log import AnswerLog
from airflow_provider_agentruns.client.exceptions import AgentRunsError
from airflow_provider_agentruns.client.models import HumanAnswer, HumanRequest, Run, RunStatus
from airflow_provider_agentruns.exceptions import AgentRunRefused
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.waiting import RunWait

VENDOR_PAUSE = 60.0
"""Seconds to leave the vendor alone after it could not be reached for what a run asks."""

log = logging.getLogger(__name__)

Failure = AgentRunsError | AirflowNotFoundException


def is_passing(error: Failure) -> bool:
    """Tell whether the same may succeed later."""
    return bool(getattr(error, "is_transient", False))


def asked_by(run: Run) -> set[str]:
    """Return the ids of what a run asks."""
    return {request.id for request in run.human_requests}


def refused(wait: RunWait, what: str) -> AgentRunRefused:
    """Return the error for an answer that the vendor does not take."""
    return AgentRunRefused(f"{wait.subject}: {what}", run_id=wait.ref.run_id)


class DraftAcceptance:
    """
    Accept the drafts of one run.

    :param answers: the record of what was begun.
    :param options: what the run was started with; None if it was started elsewhere.
    """

    def __init__(self, hook: AgentRunHook, answers: AnswerLog, options: dict[str, Any] | None) -> None:
        self._hook = hook
        self._answers = answers
        self._options = options

    def accept(self, wait: RunWait, request: HumanRequest) -> RunWait:
        """
        Accept a draft and let its run go on.

        :return: the wait to go on with; where not all could be done now, it says what is left to do.
        """
        if self._options is None and request.version is None:
            # How the run was started, its events tell.
            request = self._hook.read_request(wait.ref, request)
        # What would be wrong with the resume must show before the draft is accepted.
        self._hook.adapter.resume(wait.ref, request, self._options or {})
        self._answers.begin(wait.ref.run_id, request)
        # Small: Airflow stores it. The text is not needed any more.
        unfinished = request.model_copy(update={"text": None})
        exchange = wait.exchange.answer(request, time.time()).model_copy(update={"unfinished": unfinished})
        wait = replace(wait, exchange=exchange)
        try:
            self._hook.answer(wait.ref, request, HumanAnswer(), self._options)
        except (AgentRunsError, AirflowNotFoundException) as error:
            return self.finish(wait, error)
        try:
            self._hook.resume(wait.ref, request, self._options)
        except (AgentRunsError, AirflowNotFoundException) as error:
            if is_passing(error):
                return self._later(wait, error)
            raise refused(wait, f"its {request.topic} is accepted, but it is not resumed: {error}") from error
        return self._finished(wait)

    def finish_earlier(self, wait: RunWait) -> RunWait | None:
        """Finish what a try before was lost in; None if it had begun nothing."""
        request = self._answers.unfinished(wait.ref.run_id)
        if request is None:
            return None
        return self.finish(replace(wait, exchange=wait.exchange.model_copy(update={"unfinished": request})))

    def finish(self, wait: RunWait, error: Failure | None = None) -> RunWait:
        """
        Resume a run whose draft is, or may be, accepted.

        :param error: what the acceptance came to, if it went wrong just now.
        """
        request = wait.exchange.unfinished
        if request is None:
            return wait
        try:
            run = self._hook.get_status(wait.ref.run_id, wait.ref.kind)
            if request.id in asked_by(run):
                return self._not_accepted(wait, request, error)
            # One that asks for something else was resumed, too.
            if not run.human_requests and not self._has_ended(run):
                in_full = request if self._options is not None else self._hook.read_request(wait.ref, request)
                self._hook.resume(wait.ref, in_full, self._options)
        except (AgentRunsError, AirflowNotFoundException) as failure:
            if is_passing(failure):
                return self._later(wait, failure)
            log.warning("%s is not resumed again: %s", wait.subject, failure)
        return self._finished(wait)

    def _not_accepted(self, wait: RunWait, request: HumanRequest, error: Failure | None) -> RunWait:
        self._answers.done()
        if error is not None and not is_passing(error):
            raise refused(wait, f"{request.prompt}; to accept it is refused: {error}") from error
        exchange = wait.exchange.model_copy(update={"unfinished": None, "answered": None})
        return replace(wait, exchange=exchange, poll_from=0.0)

    def _has_ended(self, run: Run) -> bool:
        # Without an output, "completed" is how a run looks that stopped for a review.
        return run.status.is_terminal and (
            run.status is not RunStatus.SUCCEEDED or bool(self._hook.complete(run).output)
        )

    def _finished(self, wait: RunWait) -> RunWait:
        self._answers.done()
        log.info("%s: accepted, the run goes on", wait.subject)
        return replace(wait, exchange=wait.exchange.model_copy(update={"unfinished": None}), poll_from=0.0)

    def _later(self, wait: RunWait, error: Failure) -> RunWait:
        log.warning("%s: what was accepted cannot be resumed now, but later: %s", wait.subject, error)
        return replace(wait, poll_from=time.time() + VENDOR_PAUSE)
