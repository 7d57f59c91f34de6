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
from airflow_provider_agentruns.client.exceptions import AgentRunsError, APIStatusError, InvalidInputError
from airflow_provider_agentruns.client.models import HumanAnswer, HumanRequest, HumanRequestKind, Run
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.draft_acceptance import (
    DraftAcceptance,
    Failure,
    asked_by,
    is_passing,
    refused,
)
from airflow_provider_agentruns.exceptions import (
    AgentRunNeedsHuman,
    AgentRunRejected,
    AgentRunUnanswered,
)
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.human_settings import HumanSettings
from airflow_provider_agentruns.polling.human_watch import HumanPolicy, next_request
from airflow_provider_agentruns.secret_references import parse_references, resolve
from airflow_provider_agentruns.waiting import RunWait
from airflow_provider_agentruns.xcom import push

# What was answered may still be shown as asked for so many seconds, a draft that is revised for longer.
_STATUS_LAG = 30.0
_LONGEST_REVISION = 600.0
_SHORTEST_PAUSE = 15.0
# Characters of a draft's line in the log.
_LONGEST_LINE = 2_000

log = logging.getLogger(__name__)


class HumanRequests:
    """
    Deal with what one run asks. Each step returns the wait to go on with, or fails the task.

    A step raises what the vendor's client raises only if nothing was sent: it can be taken again later.

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
        self._drafts = DraftAcceptance(hook, AnswerLog(context), options)

    def on_request(self, wait: RunWait) -> RunWait:
        """Deal with the next thing that the run asks, if it still asks any."""
        if wait.exchange.unfinished is not None:
            return self._drafts.finish(wait)
        run = self._run(wait)
        request = next_request(run, self._settings.policies, wait.exchange)
        if request is None:
            return replace(wait, poll_from=0.0)
        policy = self._settings.policies.policy_for(request)
        if policy is HumanPolicy.FAIL:
            raise AgentRunNeedsHuman(
                f"{wait.subject} asks a human: {request.prompt}. It waits at the vendor.",
                run_id=run.run_id,
                run=run,
            )
        if pause := self._pause(wait, request):
            return replace(wait, poll_from=time.time() + pause)
        if wait.exchange.answers >= self._settings.max_answers:
            raise AgentRunNeedsHuman(
                f"{wait.subject} asks again after {wait.exchange.answers} answers: {request.prompt}. "
                "It waits at the vendor; max_answers allows more.",
                run_id=run.run_id,
                run=run,
            )
        if request.kind is HumanRequestKind.SECRET:
            try:
                return self._provide(wait, request, self._settings.secrets)
            except InvalidInputError as error:
                raise AgentRunNeedsHuman(f"{wait.subject}: {error}", run_id=run.run_id, run=run) from error
        if policy is HumanPolicy.APPROVE:
            return self._drafts.accept(wait, request)
        return self._ask(wait, request)

    def on_response(self, wait: RunWait, response: hitl.HumanResponse) -> RunWait:
        """Do what a human chose in Airflow, unless the vendor had an answer first."""
        who = response.user or "nobody, so the default counts"
        if wait.exchange.asked is None:
            log.warning("%s asks nothing, but %s was chosen (%s)", wait.subject, response.option, who)
            return wait
        run = self._run(wait)
        request = next((asked for asked in run.human_requests if asked.id == wait.exchange.asked), None)
        if request is None:
            log.warning(
                "%s was answered at the vendor before %s was chosen (%s)", wait.subject, response.option, who
            )
            return replace(wait, exchange=wait.exchange.over(wait.exchange.asked))
        log.info("%s: %s was chosen in Airflow (%s)", wait.subject, response.option, who)
        if response.option == hitl.REJECT:
            raise AgentRunRejected(
                f"{wait.subject}: rejected by {response.user or 'default'}: {request.prompt}. "
                "It waits at the vendor.",
                run_id=run.run_id,
                run=run,
            )
        if response.user is None and request.kind is not HumanRequestKind.APPROVAL:
            raise self._unanswered(wait)
        in_full = self._read(wait, request)
        if in_full.version != wait.exchange.shown:
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
        return replace(wait, exchange=wait.exchange.over(wait.exchange.asked))

    def on_silence(self, wait: RunWait) -> RunWait:
        """Take the default when nobody has responded in time, or fail."""
        if self._settings.default is None:
            raise self._unanswered(wait)
        return self.on_response(wait, hitl.HumanResponse(option=self._settings.default))

    def finish_answer(self, wait: RunWait) -> RunWait | None:
        """
        Finish what a try before began and was lost in: to accept a draft takes a resume as well.

        :return: the wait to go on with, None if nothing was begun.
        """
        return self._drafts.finish_earlier(wait)

    def _do(self, wait: RunWait, request: HumanRequest, response: hitl.HumanResponse) -> RunWait:
        if request.kind is HumanRequestKind.SECRET:
            if response.option == hitl.APPROVE and response.text is None:
                # Registered at the vendor, they say. The next poll tells.
                return replace(wait, exchange=wait.exchange.answer(request, time.time()))
            references = parse_references(response.text or "", request.secret_names)
            return self._provide(wait, request, {**self._settings.secrets, **references})
        if response.option == hitl.APPROVE and request.kind is HumanRequestKind.APPROVAL:
            if response.text:
                log.warning("%s: the text written with Approve is not sent", wait.subject)
            return self._drafts.accept(wait, request)
        if response.text is None:
            raise InvalidInputError("an answer needs a text")
        return self._send(wait, request, HumanAnswer(text=response.text))

    def _provide(self, wait: RunWait, request: HumanRequest, references: Mapping[str, str]) -> RunWait:
        known = {name: references[name] for name in request.secret_names if name in references}
        missing = [name for name in request.secret_names if name not in known]
        if missing and self._settings.policies.policy_for(request) is not HumanPolicy.ASK:
            raise InvalidInputError(
                f"{request.prompt}. No connection or variable is given for {', '.join(missing)}: add them to "
                "the operator's secrets, or register them at the vendor"
            )
        was_registered = missing and wait.exchange.answered == request.id
        if not known or was_registered:
            return self._ask(wait, request, f"Given already: {', '.join(known)}." if known else "")
        answer = HumanAnswer(secrets=resolve(known))
        log.info("%s: registering %s at the vendor", wait.subject, ", ".join(known))
        # What is missing still is asked for next, mostly as a request of its own.
        return self._send(wait, request, answer)

    def _ask(self, wait: RunWait, request: HumanRequest, note: str = "") -> RunWait:
        in_full = request if request.version else self._read(wait, request)
        shown: dict[str, Any] = {
            "asks": in_full.prompt,
            "note": note,
            # By the line: the UI shows a long text of an XCom without its line breaks.
            "text": (in_full.text or "").splitlines(),
            "run_id": wait.ref.run_id,
            "number": wait.exchange.answers + 1,
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
        answer_by = None if timeout is None else time.time() + timeout
        asked = wait.exchange.asking(in_full, answer_by=answer_by, default=settings.default)
        return replace(wait, exchange=asked, poll_from=0.0)

    def _pause(self, wait: RunWait, request: HumanRequest) -> float | None:
        """Return seconds to leave a request alone that was answered and is still shown; None if it is new."""
        exchange = wait.exchange
        if request.id != exchange.answered:
            return None
        limit = _STATUS_LAG
        if request.kind is HumanRequestKind.APPROVAL and exchange.answered_version is not None:
            if self._read(wait, request).version != exchange.answered_version:
                return None
            limit = _LONGEST_REVISION
        elif request.kind is HumanRequestKind.SECRET and set(request.secret_names) <= set(
            self._settings.secrets
        ):
            limit = _LONGEST_REVISION
        elapsed = time.time() - exchange.answered_at
        return min(max(_SHORTEST_PAUSE, elapsed / 2), limit - elapsed) if elapsed < limit else None

    def _send(self, wait: RunWait, request: HumanRequest, answer: HumanAnswer) -> RunWait:
        """Send an answer other than an acceptance, once."""
        try:
            self._hook.answer(wait.ref, request, answer, self._options)
        except InvalidInputError:
            raise
        except (AgentRunsError, AirflowNotFoundException) as error:
            return self._not_sent(wait, request, error)
        return replace(wait, exchange=wait.exchange.answer(request, time.time()), poll_from=0.0)

    def _not_sent(self, wait: RunWait, request: HumanRequest, error: Failure) -> RunWait:
        if is_passing(error):
            log.warning("%s: whether the answer has arrived is not known: %s", wait.subject, error)
            # As if it had: should the run go on asking, somebody is asked again.
            return replace(wait, exchange=wait.exchange.answer(request, time.time()), poll_from=0.0)
        if request.kind is HumanRequestKind.QUESTION and isinstance(error, APIStatusError):
            log.warning(
                "%s: the vendor does not take this answer (%s): answer it there: %s",
                wait.subject,
                error,
                request.prompt,
            )
            return replace(wait, exchange=wait.exchange.leave(request))
        if request.id not in asked_by(self._run(wait)):
            log.warning("%s was answered at the vendor in this moment; ours is not taken", wait.subject)
            return replace(wait, exchange=wait.exchange.over(request.id))
        raise refused(wait, f"the answer to {request.prompt!r} is not taken: {error}") from error

    def _unanswered(self, wait: RunWait) -> AgentRunUnanswered:
        return AgentRunUnanswered(
            f"{wait.subject}: nobody has responded in Airflow within "
            f"{self._settings.response_timeout or 0:g} s. It waits at the vendor.",
            run_id=wait.ref.run_id,
        )

    def _run(self, wait: RunWait) -> Run:
        return self._hook.get_status(wait.ref.run_id, wait.ref.kind)

    def _read(self, wait: RunWait, request: HumanRequest) -> HumanRequest:
        return self._hook.read_request(wait.ref, request)
