"""Snorbe: what a human does for a run that waits: drafts, secrets, questions of the browser."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from airflow_provider_agentruns.simulator.calls import Answer, ApiError, Call, JsonAnswer
from airflow_provider_agentruns.simulator.runs import Gate, Run
from airflow_provider_agentruns.simulator.snorbe_runs import FILE_URLS_FIELD, MODEL_FIELD, require_run
from airflow_provider_agentruns.simulator.validation import Field

_RUN_ID_FIELDS = {"runId": Field(kind=str, required=True)}
_ANSWER_FIELDS = {
    **_RUN_ID_FIELDS,
    "answer": Field(kind=str, required=True),
    "modelName": MODEL_FIELD,
    "fileUrls": FILE_URLS_FIELD,
}
_SECRET_FIELDS = {"key": Field(kind=str, required=True), "value": Field(kind=str, required=True)}


def answer_draft(call: Call) -> Answer:
    """Revise a draft as the human says; the new one waits for a review again."""
    run, gate, body = _open_draft(call, _ANSWER_FIELDS)
    gate.answers.append((call.now, str(body["answer"])))
    revision = len(gate.answers)
    reply = {
        "status": "drafting",
        "message": f"The {gate.kind} was revised (revision {revision}).",
        "nextAction": "call_answer_again",
        "newQuestion": run.scenario.question,
        "regenerationCount": revision,
    }
    return JsonAnswer(reply, run_id=run.id)


def confirm_draft(call: Call) -> Answer:
    """Accept a draft, by `confirm` or `skip`; the run goes on once it is resumed."""
    run, gate, _ = _open_draft(call, _RUN_ID_FIELDS)
    gate.confirmed_at = call.now
    reply = {
        "status": "confirmed",
        "message": f"The {gate.kind} was confirmed.",
        "nextAction": "call_resume_stream",
    }
    return JsonAnswer(reply, run_id=run.id)


def register_secret(call: Call) -> Answer:
    """Take a secret; the runs that wait for it go on. Its value is not kept."""
    body = call.json_object(_SECRET_FIELDS)
    name = str(body["key"])
    call.state.accounts.secrets[call.account].setdefault(name, call.now)
    return JsonAnswer({"success": True, "key": name})


def answer_browser(call: Call) -> Answer:
    """Take the answer to a browser's question.

    The vendor does not document the fields, so any will do: one value is the session id, another the text.
    """
    body = call.json_object()
    texts = list(_texts(body))
    for run in call.state.runs.all(call.now, vendor="snorbe", account=call.account):
        gate = run.open_gate
        if gate is None or gate.kind != "browser" or run.browser_session_id not in texts:
            continue
        texts.remove(run.browser_session_id)
        answers = [text for text in texts if text.strip()]
        if not answers:
            raise ApiError(HTTPStatus.BAD_REQUEST, "An answer is required")
        gate.answers.append((call.now, max(answers, key=len)))
        gate.passed_at = call.now
        return JsonAnswer({"success": True}, run_id=run.id)
    raise ApiError(HTTPStatus.BAD_REQUEST, "No browser session with this session_id asks a question")


def _open_draft(call: Call, fields: dict[str, Field]) -> tuple[Run, Gate, dict[str, object]]:
    kind = call.operation.name.split(".")[1]
    body = call.json_object(fields)
    run = require_run(call)
    if body["runId"] != run.id:
        raise ApiError(HTTPStatus.BAD_REQUEST, "runId must be the run of the path")
    gate = run.pending_draft
    if gate is None or gate.kind != kind:
        raise ApiError(HTTPStatus.BAD_REQUEST, f"No pending {kind} draft")
    return run, gate, body


def _texts(body: object) -> Iterator[str]:
    if isinstance(body, str):
        yield body
    elif isinstance(body, dict):
        for value in body.values():
            yield from _texts(value)
    elif isinstance(body, list):
        for value in body:
            yield from _texts(value)
