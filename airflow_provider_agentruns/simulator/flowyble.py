"""Flowyble's API: agents, tools, incoming webhooks."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from http import HTTPStatus

from airflow_provider_agentruns.simulator.accounts import Webhook, is_uuid, secret_hash
from airflow_provider_agentruns.simulator.calls import (
    LIMIT_MESSAGE,
    Answer,
    ApiError,
    Call,
    JsonAnswer,
    VendorApi,
)
from airflow_provider_agentruns.simulator.runs import Phase, Run, steps_of
from airflow_provider_agentruns.simulator.statuses import flowyble_status, flowyble_status_number
from airflow_provider_agentruns.simulator.timestamps import iso
from airflow_provider_agentruns.simulator.validation import Field

_CREDITS_PER_STEP = 0.25
_OUTPUT_SCHEMA = {"type": "object", "properties": {"result": {"type": "string"}}}


def _read_key(headers: Mapping[str, str]) -> str | None:
    return headers.get("X-API-Key")


def _error_body(error: ApiError) -> dict[str, object]:
    return {"success": False, "message": error.message}


def _uuid(call: Call, param: str, what: str) -> str:
    if not is_uuid(call.params[param]):
        raise ApiError(HTTPStatus.BAD_REQUEST, f"Invalid {what} id: a uuid is expected")
    return call.params[param].lower()


def _check_can_start(call: Call, kind: str, agent_id: str) -> None:
    agent = call.state.accounts.find_agent("flowyble", kind, agent_id)
    if agent is None:
        raise ApiError(HTTPStatus.NOT_FOUND, f"{kind.capitalize()} not found")
    if agent.status == "inactive":
        raise ApiError(HTTPStatus.BAD_REQUEST, f"{kind.capitalize()} is not active")
    if call.key is not None and not call.key.has_credits:
        raise ApiError(HTTPStatus.BAD_REQUEST, "Insufficient credits")


def _start(call: Call, kind: str, agent_id: str, account: str, run_input: object) -> Run:
    return call.state.runs.create(
        vendor="flowyble",
        kind=kind,
        agent_id=agent_id,
        account=account,
        input_text=run_input if isinstance(run_input, str) else json.dumps(run_input),
        scenario=call.choose_scenario(run_input),
        origin=call.operation.name,
        now=call.now,
    )


def _started(run: Run) -> JsonAnswer:
    message = f"{run.kind.capitalize()} run started"
    body = {"success": True, "id": run.id, "status": "Pending", "message": message}
    return JsonAnswer(body, run_id=run.id)


def _start_agent(call: Call) -> Answer:
    agent_id = _uuid(call, "agentId", "agent")
    body = call.json_object({"userMessage": Field(kind=str, required=True)})
    _check_can_start(call, "agent", agent_id)
    return _started(_start(call, "agent", agent_id, call.account, body["userMessage"]))


def _start_tool(call: Call) -> Answer:
    agent_id = _uuid(call, "agentId", "tool")
    body = call.json_object() if call.raw else {}
    _check_can_start(call, "tool", agent_id)
    return _started(_start(call, "tool", agent_id, call.account, body))


def _run(call: Call, kind: str) -> Run:
    run_id = _uuid(call, "runId", "run")
    run = call.state.runs.find(run_id, call.now, vendor="flowyble", account=call.account)
    if run is None or run.kind != kind:
        raise ApiError(HTTPStatus.NOT_FOUND, f"{kind.capitalize()} run not found")
    return run


def _times(run: Run, now: float) -> dict[str, object]:
    """Write the run's times: one that lies ahead is absent at first and null later, both are documented."""
    times: dict[str, object] = {"createdAt": iso(run.created_at)}
    if run.phase(now) is not Phase.QUEUED:
        times["startedAt"] = iso(min(run.starts_at, run.ended_at or run.starts_at))
        times["finishedAt"] = None if run.ended_at is None else iso(run.ended_at)
    return times


def _usage(run: Run, now: float) -> dict[str, int]:
    steps = steps_of(run, now)
    tokens = sum(step.input_tokens + step.output_tokens for step in steps)
    return {"tokensUsed": tokens, "actionsUsed": len(steps)}


def _ended_by(run: Run, ending: str) -> bool:
    return run.ended_at is not None and run.scenario.ending == ending


def _agent_status(run: Run, now: float) -> dict[str, object]:
    return {
        "id": run.id,
        "agentId": run.agent_id,
        "status": flowyble_status(run, now),
        "userMessage": run.input_text,
        "finalOutput": run.output if _ended_by(run, "succeed") else None,
        "errorMessage": run.error if _ended_by(run, "fail") else None,
        "stepsExecuted": run.steps_executed(now),
        "creditsUsed": run.steps_executed(now) * _CREDITS_PER_STEP,
        **_usage(run, now),
        **_times(run, now),
    }


def _get_agent_status(call: Call) -> Answer:
    run = _run(call, "agent")
    return JsonAnswer(_agent_status(run, call.now), run_id=run.id)


def _get_agent_details(call: Call) -> Answer:
    run = _run(call, "agent")
    steps = [
        {
            "stepNumber": step.number,
            "iterationNumber": step.number,
            "toolName": step.tool,
            "inputData": json.dumps({"query": f"step {step.number}"}),
            "outputData": json.dumps({"found": step.number}),
            "reasoning": f"I need {step.tool} to go on.",
            "tokenUsage": {"inputTokens": step.input_tokens, "outputTokens": step.output_tokens},
            "duration": step.milliseconds,
        }
        for step in steps_of(run, call.now)
    ]
    return JsonAnswer({**_agent_status(run, call.now), "steps": steps}, run_id=run.id)


def _tool_status(run: Run, now: float) -> dict[str, object]:
    until = now if run.ended_at is None else run.ended_at
    return {
        "id": run.id,
        "toolId": run.agent_id,
        "status": flowyble_status(run, now),
        "statusInt": flowyble_status_number(run, now),
        "errorMessage": run.error if _ended_by(run, "fail") else None,
        "duration": round(max(until - run.starts_at, 0) * 1000),
        **_usage(run, now),
        **_times(run, now),
    }


def _get_tool_status(call: Call) -> Answer:
    run = _run(call, "tool")
    return JsonAnswer(_tool_status(run, call.now), run_id=run.id)


def _as_json_text(output: str) -> str:
    try:
        json.loads(output)
    except ValueError:
        return json.dumps({"result": output})
    return output


def _get_tool_result(call: Call) -> Answer:
    run = _run(call, "tool")
    agent = call.state.accounts.find_agent("flowyble", "tool", run.agent_id)
    result = {
        **_tool_status(run, call.now),
        "toolName": agent.name if agent else "deleted tool",
        "inputData": run.input_text,
        "outputData": _as_json_text(run.output) if _ended_by(run, "succeed") else None,
        "outputSchema": json.dumps(_OUTPUT_SCHEMA),
    }
    return JsonAnswer(result, run_id=run.id)


def _webhook(call: Call) -> Webhook:
    webhook = call.state.accounts.webhooks.get(call.params["token"])
    if webhook is None:
        raise ApiError(HTTPStatus.NOT_FOUND, "Webhook not found")
    if not call.state.webhook_limits.allow(secret_hash(webhook.token), call.now):
        raise ApiError(HTTPStatus.TOO_MANY_REQUESTS, LIMIT_MESSAGE)
    if webhook.secret is not None:
        expected = hmac.new(webhook.secret.encode(), call.raw, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), call.headers.get("X-Signature", "").encode()):
            raise ApiError(HTTPStatus.UNAUTHORIZED, "Invalid signature")
    if webhook.misconfigured:
        raise ApiError(HTTPStatus.BAD_REQUEST, "The webhook is misconfigured")
    return webhook


def _start_by_webhook(call: Call) -> Answer:
    webhook = _webhook(call)
    run_input = call.json()
    _check_can_start(call, webhook.kind, webhook.agent_id)
    run = _start(call, webhook.kind, webhook.agent_id, webhook.account, run_input)
    return JsonAnswer({"success": True, "runId": run.id, "type": run.kind}, run_id=run.id)


FLOWYBLE = VendorApi(
    name="flowyble",
    read_key=_read_key,
    error_body=_error_body,
    handlers={
        "flowyble.agent.start": _start_agent,
        "flowyble.agent.status": _get_agent_status,
        "flowyble.agent.details": _get_agent_details,
        "flowyble.tool.start": _start_tool,
        "flowyble.tool.status": _get_tool_status,
        "flowyble.tool.result": _get_tool_result,
        "flowyble.webhook.start": _start_by_webhook,
    },
)
