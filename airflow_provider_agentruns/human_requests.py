"""What an operator does about what its run asks: fail, accept, provide secrets, or ask a human in Airflow."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, Context

from airflow_provider_agentruns import hitl
from airflow_provider_agentruns.answer_log import AnswerLog
from airflow_provider_agentruns.client.exceptions import (
    AgentRunsError,
    APIError,
    APIStatusError,
    InvalidInputError,
)
from airflow_provider_agentruns.client.models import (
    HumanAnswer,
    HumanRequest,
    HumanRequestKind,
    Run,
    RunStatus,
)
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.exceptions import (
    AgentRunNeedsHuman,
    AgentRunRefused,
    AgentRunRejected,
    AgentRunUnanswered,
    AgentRunUnreadable,
)
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.human_settings import HumanSettings
from airflow_provider_agentruns.polling.human_watch import (
    HumanExchange,
    HumanPolicy,
    next_request,
)
from airflow_provider_agentruns.secret_references import parse_references, resolve
from airflow_provider_agentruns.waiting import RunWait, push

# A draft that is being revised is looked at again after so many seconds, and taken as it is after the second.
_REVISION_PAUSE = 15.0
_LONGEST_REVISION = 600.0
# Characters of a draft's line in the log.
_LONGEST_LINE = 2_000

log = logging.getLogger(__name__)


class HumanRequests:
    """
    Deal with what one run asks. Each step returns the wait to go on with, or fails the task.

    :param options: what the run was started with; None if it was started elsewhere.
    """

    def __init__(
        self, settings: HumanSettings, hook: AgentRunHook, context: Context, options: dict[str, Any] | None
    ) -> None:
        self._settings = settings
        self._hook = hook
        self._context = context
        self._ti: Any = context["ti"]
        self._options = options
        self._answers = AnswerLog(context)

    def on_request(self, wait: RunWait) -> RunWait:
        """Deal with the next thing that the run asks, if it still asks any."""
        run = self._run(wait)
        request = next_request(run, self._settings.policies, wait.exchange)
        if request is None:
            return wait
        policy = self._settings.policies.policy_for(request)
        if policy is HumanPolicy.FAIL:
            raise AgentRunNeedsHuman(
                f"{wait.subject} asks a human: {request.prompt}", run_id=run.run_id, run=run
            )
        if wait.exchange.answers >= self._settings.max_answers:
            raise AgentRunNeedsHuman(
                f"{wait.subject} asks again after {wait.exchange.answers} answers: {request.prompt}. "
                "It waits at the vendor; max_answers allows more.",
                run_id=run.run_id,
                run=run,
            )
        if request.kind is HumanRequestKind.SECRET:
            return self._provide(wait, request, self._settings.secrets)
        if policy is HumanPolicy.APPROVE:
            in_full = request if self._options is not None else self._read(wait, request)
            return self._answer(wait, in_full, HumanAnswer())
        return self._ask(wait, request)

    def on_response(self, wait: RunWait, response: hitl.HumanResponse) -> RunWait:
        """Do what a human chose in Airflow, unless the vendor had an answer first."""
        who = response.user or "nobody, so the default counts"
        run = self._run(wait)
        request = next((asked for asked in run.human_requests if asked.id == wait.exchange.asked), None)
        if request is None:
            log.warning(
                "%s was answered at the vendor before %s chose %s", wait.subject, who, response.option
            )
            return replace(wait, exchange=wait.exchange.over())
        log.info("%s: %s was chosen in Airflow (%s)", wait.subject, response.option, who)
        if response.option == hitl.REJECT:
            raise AgentRunRejected(
                f"{wait.subject}: rejected by {response.user or 'default'}: {request.prompt}. "
                "It waits at the vendor.",
                run_id=run.run_id,
                run=run,
            )
        in_full = self._read(wait, request)
        if in_full.version != wait.exchange.version:
            return self._ask(
                wait, in_full, "The draft has changed since. This is the new one; nothing was sent."
            )
        try:
            return self._do(wait, in_full, response)
        except InvalidInputError as error:
            return self._ask(wait, in_full, f"Nothing was sent: {error}.")

    def on_answer_elsewhere(self, wait: RunWait) -> RunWait:
        """Go on: the vendor has an answer."""
        log.info("%s was answered at the vendor", wait.subject)
        return replace(wait, exchange=wait.exchange.over())

    def on_silence(self, wait: RunWait) -> RunWait:
        """Take the default when nobody has responded in time, or fail."""
        default = self._settings.default
        if default is None:
            raise AgentRunUnanswered(
                f"{wait.subject}: nobody has responded in Airflow within "
                f"{self._settings.response_timeout or 0:g} s. It waits at the vendor.",
                run_id=wait.ref.run_id,
            )
        return self.on_response(wait, hitl.HumanResponse(option=default))

    def finish_answer(self, wait: RunWait, run: Run | None = None) -> bool:
        """
        Resume a run whose draft was accepted by a try that was lost before it could do so.

        :param run: as it stands, if that is known.
        :return: whether it was resumed.
        """
        request = self._answers.unfinished(wait.ref.run_id)
        if request is None:
            return False
        run = run or self._run(wait)
        is_pending = request.id in {asked.id for asked in run.human_requests}
        is_resumed = not is_pending and not self._has_ended(run)
        if is_resumed:
            log.info("%s: an earlier try accepted its %s and was lost", wait.subject, request.topic)
            self._resume(wait, self._read(wait, request))
        self._answers.done()
        return is_resumed

    def _has_ended(self, run: Run) -> bool:
        # Without an output, "completed" is how a run looks that stopped for a review.
        return run.status.is_terminal and (
            run.status is not RunStatus.SUCCEEDED or bool(self._hook.complete(run).output)
        )

    def _do(self, wait: RunWait, request: HumanRequest, response: hitl.HumanResponse) -> RunWait:
        if request.kind is HumanRequestKind.SECRET:
            if response.option == hitl.APPROVE:
                # Registered at the vendor, they say. The next poll tells.
                return replace(wait, exchange=wait.exchange.over(answers=1))
            references = parse_references(response.text or "", request.secret_names)
            return self._provide(wait, request, {**self._settings.secrets, **references})
        is_approval = request.kind is HumanRequestKind.APPROVAL
        if response.option == hitl.APPROVE and is_approval:
            if response.text:
                log.warning("%s: the text written with Approve is not sent", wait.subject)
            return self._answer(wait, request, HumanAnswer())
        if response.text is None:
            raise InvalidInputError("an answer needs a text")
        return self._answer(wait, request, HumanAnswer(text=response.text))

    def _provide(self, wait: RunWait, request: HumanRequest, references: Mapping[str, str]) -> RunWait:
        names = request.secret_names
        known = {name: references[name] for name in names if name in references}
        missing = [name for name in names if name not in known]
        if missing and self._settings.policies.policy_for(request) is not HumanPolicy.ASK:
            raise AgentRunNeedsHuman(
                f"{wait.subject}: {request.prompt}. No connection or variable is given for "
                f"{', '.join(missing)}: add them to the operator's secrets, or register them at the vendor.",
                run_id=wait.ref.run_id,
            )
        if not known:
            return self._ask(wait, request)
        try:
            answer = HumanAnswer(secrets=resolve(known))
        except InvalidInputError as error:
            raise AgentRunNeedsHuman(f"{wait.subject}: {error}", run_id=wait.ref.run_id) from error
        log.info("%s: registering %s at the vendor", wait.subject, ", ".join(known))
        # What is missing still is asked for next, as a request of its own.
        return self._answer(wait, request, answer)

    def _ask(self, wait: RunWait, request: HumanRequest, note: str = "") -> RunWait:
        in_full = request if request.version else self._read(wait, request)
        exchange = wait.exchange
        is_same = exchange.asked is None and exchange.version == in_full.version and in_full.version
        if is_same and time.time() < exchange.answered_at + _LONGEST_REVISION:
            return replace(wait, poll_from=time.time() + _REVISION_PAUSE)
        shown: dict[str, Any] = {
            "asks": in_full.prompt,
            "note": note,
            # By the line: the UI shows a long text of an XCom without its line breaks.
            "text": (in_full.text or "").splitlines(),
            "run_id": wait.ref.run_id,
            "number": exchange.answers + 1,
        }
        push(self._context, hitl.REQUEST_KEY, {name: value for name, value in shown.items() if value})
        settings = self._settings
        hitl.ask(
            self._ti,
            assigned_users=settings.assigned_users,
            default=settings.default,
            request_url=hitl.task_url(self._ti),
        )
        # Each line marked as the vendor's: none may pass for a line of the log.
        text = "".join(f"\n  | {one_line(line, _LONGEST_LINE)}" for line in shown["text"])
        log.info("%s asks, see Required Actions: %s. %s%s", wait.subject, in_full.prompt, note, text)
        for notify in settings.notifiers:
            notify(self._context)
        timeout = settings.response_timeout
        asked = HumanExchange(
            answers=exchange.answers,
            asked=in_full.id,
            version=in_full.version,
            answer_by=None if timeout is None else time.time() + timeout,
            default=settings.default,
            left=exchange.left,
        )
        return replace(wait, exchange=asked, poll_from=0.0)

    def _answer(self, wait: RunWait, request: HumanRequest, answer: HumanAnswer) -> RunWait:
        """Send an answer once, and resume the run if that is what it needs."""
        if answer.is_acceptance:
            self._answers.begin(wait.ref.run_id, request)
        try:
            self._hook.answer(wait.ref, request, answer, self._options)
        except InvalidInputError:
            raise
        except (APIError, AirflowNotFoundException) as error:
            if (
                request.kind is HumanRequestKind.QUESTION
                and isinstance(error, APIStatusError)
                and not error.is_transient
            ):
                log.warning(
                    "%s: the vendor does not take this answer (%s): answer it there: %s",
                    wait.subject,
                    error,
                    request.prompt,
                )
                return replace(wait, exchange=wait.exchange.over(left=request.id))
            self._check_accepted(wait, request, answer, error)
        if answer.is_acceptance:
            self._resume(wait, request)
            self._answers.done()
        exchange = wait.exchange.over(answers=1)
        if answer.text is not None:
            exchange = exchange.model_copy(update={"version": request.version, "answered_at": time.time()})
        return replace(wait, exchange=exchange, poll_from=0.0)

    def _check_accepted(
        self, wait: RunWait, request: HumanRequest, answer: HumanAnswer, error: Exception
    ) -> None:
        """Raise if an acceptance that went wrong did not arrive; somebody else may have accepted, too."""
        if answer.is_acceptance and request.id not in {asked.id for asked in self._run(wait).human_requests}:
            return
        is_final = isinstance(error, APIStatusError) and not error.is_transient
        error_class = AgentRunRefused if is_final else AgentRunUnreadable
        raise error_class(
            f"{wait.subject}: the answer to {request.prompt!r} could not be sent: {error}. "
            "The run waits at the vendor.",
            run_id=wait.ref.run_id,
        ) from error

    def _resume(self, wait: RunWait, request: HumanRequest) -> None:
        try:
            self._hook.resume(wait.ref, request, self._options)
        except (AgentRunsError, AirflowNotFoundException) as error:
            raise AgentRunUnreadable(
                f"{wait.subject}: its {request.topic} is accepted, but it could not be resumed: {error}. "
                "A retry resumes it.",
                run_id=wait.ref.run_id,
            ) from error
        log.info("%s: %s accepted, the run goes on", wait.subject, request.topic or request.kind)

    def _run(self, wait: RunWait) -> Run:
        return self._hook.get_status(wait.ref.run_id, wait.ref.kind)

    def _read(self, wait: RunWait, request: HumanRequest) -> HumanRequest:
        return self._hook.read_request(wait.ref, request)
