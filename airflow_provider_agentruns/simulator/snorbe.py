"""Snorbe's API: how it reads keys and words errors, what is read from it, and who handles the rest."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from airflow_provider_agentruns.simulator.calls import Answer, ApiError, Call, Handler, JsonAnswer, VendorApi
from airflow_provider_agentruns.simulator.operations import OPERATIONS
from airflow_provider_agentruns.simulator.runs import Gate, Run
from airflow_provider_agentruns.simulator.snorbe_events import SKILL_NAME, events_of, in_process
from airflow_provider_agentruns.simulator.snorbe_humans import (
    answer_browser,
    answer_draft,
    confirm_draft,
    register_secret,
)
from airflow_provider_agentruns.simulator.snorbe_runs import (
    MODELS,
    draft_flags,
    find_run,
    require_run,
    resume,
    resume_blocking,
    start,
    start_blocking,
)
from airflow_provider_agentruns.simulator.snorbe_turns import agent_name, images_of, list_turns
from airflow_provider_agentruns.simulator.statuses import snorbe_status
from airflow_provider_agentruns.simulator.timestamps import iso

_CODES = {
    HTTPStatus.UNAUTHORIZED: "UNAUTHORIZED",
    HTTPStatus.FORBIDDEN: "FORBIDDEN",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED",
    HTTPStatus.CONFLICT: "PRECONDITION_FAILED",
    HTTPStatus.TOO_MANY_REQUESTS: "TOO_MANY_REQUESTS",
    HTTPStatus.INTERNAL_SERVER_ERROR: "INTERNAL_ERROR",
}
_RECOMMENDED_MODELS = ("snorbe-fast", "snorbe-quality")


def _read_key(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key")


def _error_body(error: ApiError) -> dict[str, object]:
    """Word a refusal: a 400 says what is wrong, the others give their code first."""
    code = _CODES.get(error.status)
    if code is None:
        return {"error": error.message, **error.extra}
    return {"error": code, "message": error.message, **error.extra}


def _updated_at(run: Run, now: float) -> str:
    if run.ended_at is not None:
        return iso(run.ended_at)
    gate = run.open_gate
    if gate is not None and gate.opened_at is not None:
        return iso(gate.opened_at)
    # A run that works is touched all the time; one that hangs is not.
    return iso(run.created_at if run.scenario.name == "never" else now)


def _gate_ahead(run: Run) -> Gate | None:
    """Return the gate the run works towards or stands at."""
    index = len(run.part_starts) - 1
    return run.gates[index] if run.ended_at is None and 0 <= index < len(run.gates) else None


def _get_status(call: Call) -> Answer:
    run = require_run(call)
    body: dict[str, object] = {
        "id": run.id,
        "status": snorbe_status(run, call.now),
        "createdAt": iso(run.created_at),
        "updatedAt": _updated_at(run, call.now),
        **draft_flags(run),
    }
    gate = _gate_ahead(run)
    is_open = gate is not None and gate.opened_at is not None
    if gate and gate.kind == "browser":
        asks = {"askHumanQuestion": run.scenario.question} if is_open else {}
        body["browseState"] = {"isBrowsing": True, **asks}
    if gate and gate.kind == "secret":
        known = call.state.accounts.secrets[run.account]
        missing = [name for name in run.scenario.secrets if is_open and name not in known]
        body["skillState"] = {
            "isRunningSkill": True,
            "skillName": SKILL_NAME,
            "pendingSecretKeys": missing,
        }
    return JsonAnswer(body, run_id=run.id)


def _get_run(call: Call) -> Answer:
    run = find_run(call)
    if run is None:
        return JsonAnswer(None)
    source = {"id": f"src_{run.seed}", "url": "https://example.com/article", "title": "Simulated article"}
    body = {
        "id": run.id,
        "status": snorbe_status(run, call.now),
        "process": [in_process(run, event) for event in events_of(run, call.now)],
        "createdAt": iso(run.created_at),
        "updatedAt": _updated_at(run, call.now),
        "agentId": run.agent_id,
        "agentName": agent_name(call, run),
        "linkedSources": [{**source, "sourceType": "public"}],
        "linkedEntityIds": [f"ent_{run.seed}"],
        "linkedEntities": [
            {"id": f"ent_{run.seed}", "label": "Simulation", "category": "topic", "kind": "entity"}
        ],
        "images": images_of(run),
    }
    return JsonAnswer(body, run_id=run.id)


def _list_agents(call: Call) -> Answer:
    agents = [
        {
            "id": agent.id,
            "name": agent.name,
            "isDefault": agent.is_default,
            "createdAt": iso(agent.created_at),
            "updatedAt": iso(agent.created_at),
        }
        for agent in call.state.accounts.agents.values()
        if agent.vendor == "snorbe" and agent.status != "missing"
    ]
    return JsonAnswer(agents)


def _list_models(call: Call) -> Answer:
    models = [
        {
            "id": model,
            "displayName": model,
            "provider": "snorbe",
            "isRecommended": model in _RECOMMENDED_MODELS,
        }
        for model in MODELS
    ]
    return JsonAnswer(
        {"defaultModel": MODELS[0], "recommendedModelIds": list(_RECOMMENDED_MODELS), "models": models}
    )


def _get_workspace(call: Call) -> Answer:
    workspace_id = call.state.workspace_id(call.account)
    return JsonAnswer({"workspaceId": workspace_id, "workspaceName": f"Simulated workspace {call.account}"})


_DRAFT_HANDLERS: dict[str, Handler] = {
    "answer": answer_draft,
    "confirm": confirm_draft,
    "skip": confirm_draft,
}
_HANDLERS: dict[str, Handler] = {
    "snorbe.run.start": start,
    "snorbe.run.start_blocking": start_blocking,
    "snorbe.run.resume": resume,
    "snorbe.run.resume_blocking": resume_blocking,
    "snorbe.run.status": _get_status,
    "snorbe.run.get": _get_run,
    "snorbe.secret.register": register_secret,
    "snorbe.browser.answer": answer_browser,
    "snorbe.turn.list": list_turns,
    "snorbe.agent.list": _list_agents,
    "snorbe.model.list": _list_models,
    "snorbe.workspace.get": _get_workspace,
}
for _name in OPERATIONS:
    _vendor, _what, _action = _name.split(".")
    if _vendor == "snorbe" and _name not in _HANDLERS:
        _HANDLERS[_name] = _DRAFT_HANDLERS[_action]

SNORBE = VendorApi(name="snorbe", read_key=_read_key, error_body=_error_body, handlers=_HANDLERS)
