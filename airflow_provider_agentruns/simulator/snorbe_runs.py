"""Snorbe: start a run, resume it, find it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

from airflow_provider_agentruns.simulator.calls import Answer, ApiError, Call, JsonAnswer
from airflow_provider_agentruns.simulator.runs import Run
from airflow_provider_agentruns.simulator.scenarios import DRAFTS
from airflow_provider_agentruns.simulator.snorbe_events import events_of
from airflow_provider_agentruns.simulator.snorbe_streams import (
    EVENT_STREAM,
    BlockingAnswer,
    StreamAnswer,
    as_line,
)
from airflow_provider_agentruns.simulator.validation import Field

# The vendor knows more than 150; these are the ones its own pages use.
MODELS = (
    "snorbe-fast",
    "snorbe-medium",
    "snorbe-quality",
    "gpt-5-mini-2025-08-07",
    "claude-sonnet-4-6",
    "gemini-3.1-pro",
)
MODEL_FIELD = Field(kind=str, required=True, choices=MODELS)
FILE_URLS_FIELD = Field(kind=list, high=10, items=Field(kind=str))
_RESUME_FIELDS = {
    "modelName": MODEL_FIELD,
    "promptKey": Field(kind=str, required=True, choices=("chat-routing",)),
    "locale": Field(kind=str, required=True, choices=("ja", "en")),
}
_MENTION_TYPES = ("agent", "agent-run", "entity", "public-source", "private-source")
_START_FIELDS = {
    **_RESUME_FIELDS,
    "inputText": Field(kind=str, required=True),
    "fileUrls": FILE_URLS_FIELD,
    "agentId": Field(kind=str),
    "mentions": Field(
        kind=list,
        items={
            "id": Field(kind=str, required=True),
            "type": Field(kind=str, required=True, choices=_MENTION_TYPES),
            "label": Field(kind=str, required=True),
        },
    ),
    "maxBrowsingSteps": Field(kind=int, low=1, high=100),
    "maxChainSteps": Field(kind=int, low=1, high=50),
    "maxRetries": Field(kind=int, low=0, high=5),
    "retryDelayMs": Field(kind=int, low=0, high=10_000),
    "includeOthersEntities": Field(kind=bool),
    "extendedContextEnabled": Field(kind=bool),
}
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def find_run(call: Call) -> Run | None:
    """Return the run the path names, or None.

    :raises ApiError: 400, it is no run id.
    """
    run_id = call.params["runId"]
    if not _RUN_ID.fullmatch(run_id):
        raise ApiError(HTTPStatus.BAD_REQUEST, "Invalid runId")
    return call.state.runs.find(run_id, call.now, vendor="snorbe", account=call.account)


def require_run(call: Call) -> Run:
    """Return the run the path names.

    :raises ApiError: 400, it is no run id; 404, there is no such run.
    """
    run = find_run(call)
    if run is None:
        raise ApiError(HTTPStatus.NOT_FOUND, "Agent run not found")
    return run


def draft_flag(draft: str) -> str:
    """Return the name of the flag that says this draft waits for a review."""
    return f"pending{draft.title().replace('-', '')}Draft"


def draft_flags(run: Run) -> dict[str, bool]:
    """Return all the flags."""
    pending = run.pending_draft
    return {draft_flag(draft): pending is not None and pending.kind == draft for draft in DRAFTS}


def start(call: Call) -> Answer:
    """Start a run and stream its events."""
    run = _start(call)
    return _NoCreditsAnswer() if run is None else StreamAnswer(call, run)


def start_blocking(call: Call) -> Answer:
    """Start a run and answer when it is done."""
    run = _start(call)
    if run is None:
        raise ApiError(HTTPStatus.BAD_REQUEST, _NO_CREDITS)
    return BlockingAnswer(call, run)


def resume(call: Call) -> Answer:
    """Resume a run and stream what happens from now on."""
    run = _check_resume(call)
    told = len(events_of(run, call.now))
    _resume(call, run)
    return StreamAnswer(call, run, is_resume=True, already_told=told)


def resume_blocking(call: Call) -> Answer:
    """Resume a run and answer when it is done, or stands at the next draft."""
    run = _check_resume(call)
    _resume(call, run)
    return BlockingAnswer(call, run, is_resume=True)


def _start(call: Call) -> Run | None:
    body = call.json_object(_START_FIELDS)
    accounts = call.state.accounts
    agent_id = body.get("agentId") or accounts.default_agent("snorbe", "agent").id
    agent = accounts.find_agent("snorbe", "agent", str(agent_id))
    if agent is None:
        raise ApiError(HTTPStatus.NOT_FOUND, "Agent not found")
    if agent.status == "inactive":
        raise ApiError(HTTPStatus.BAD_REQUEST, "Agent is not active")
    scenario = call.choose_scenario(body["inputText"])
    if call.key is not None and not call.key.has_credits:
        return None
    return call.state.runs.create(
        vendor="snorbe",
        kind="agent",
        agent_id=agent.id,
        account=call.account,
        input_text=str(body["inputText"]),
        scenario=scenario,
        origin=call.operation.name,
        now=call.now,
        body=body,
    )


def _check_resume(call: Call) -> Run:
    body = call.json_object(_RESUME_FIELDS)
    run = require_run(call)
    run.resumes.append({name: body[name] for name in _RESUME_FIELDS})
    if pending := run.pending_draft:
        kind = pending.kind
        raise ApiError(
            HTTPStatus.CONFLICT,
            f"Pending {kind} draft exists. Call POST /agent/run/{{runId}}/{kind}/confirm before resuming.",
            {"reason": f"pending_{kind.replace('-', '_')}_draft", **draft_flags(run)},
        )
    return run


def _resume(call: Call, run: Run) -> None:
    run.resume(call.now)
    call.state.runs.find(run.id, call.now)


_NO_CREDITS = "INSUFFICIENT_CREDITS"


@dataclass
class _NoCreditsAnswer(JsonAnswer):
    """Refuse a stream for want of credits: 200, no `config`, no run, one `error` event."""

    body: object = None
    content_type: str = EVENT_STREAM

    async def first_bytes(self) -> bytes:
        """Return the one event."""
        return as_line({"type": "error", "payload": {"message": _NO_CREDITS}})
