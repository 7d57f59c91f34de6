"""The control plane, `/simulator/…`: create runs, set faults, read logs. It asks for no key."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from aiohttp import web

from airflow_provider_agentruns.simulator.accounts import DEFAULT_ACCOUNT, Key, Webhook, secret_hash
from airflow_provider_agentruns.simulator.faults import Fault, FaultError
from airflow_provider_agentruns.simulator.scenarios import ScenarioError, ScenarioOptions
from airflow_provider_agentruns.simulator.state import ControlError, RunEndedError, SimulatorState
from airflow_provider_agentruns.simulator.validation import Field, InvalidBodyError, check_body

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TEXT = Field(kind=str)
_NEEDED_TEXT = Field(kind=str, required=True)
_NUMBER = Field(kind=float)
_YES_OR_NO = Field(kind=bool)
_OPTION_KINDS: dict[str, Field] = {
    "duration": _NUMBER,
    "unknown_seconds": _NUMBER,
    "process_bytes": Field(kind=int, low=0),
}
_RUN_FIELDS = {
    "vendor": _NEEDED_TEXT,
    "kind": _TEXT,
    "agent_id": _TEXT,
    "account": _TEXT,
    "input_text": _TEXT,
    "scenario": _TEXT,
    **{name: _OPTION_KINDS.get(name, _TEXT) for name in sorted(ScenarioOptions.__optional_keys__)},
}
_FINISH_FIELDS = {"scenario": _TEXT, "output": _TEXT, "error": _TEXT}
_FAULT_FIELDS = {
    "kind": _NEEDED_TEXT,
    "vendor": _TEXT,
    "operation": _TEXT,
    "run_id": _TEXT,
    "times": Field(kind=int),
    "after_effect": _YES_OR_NO,
    "status": Field(kind=int, low=100, high=599),
    "seconds": _NUMBER,
    "retry_after": _NUMBER,
    "retry_after_as": _TEXT,
    "half": _YES_OR_NO,
}
_KEY_FIELDS = {
    "vendor": _NEEDED_TEXT,
    "key": _NEEDED_TEXT,
    "account": _TEXT,
    "api_access": _YES_OR_NO,
    "has_credits": _YES_OR_NO,
    "revoked": _YES_OR_NO,
}
_AGENT_FIELDS = {
    "vendor": _NEEDED_TEXT,
    "kind": _TEXT,
    "agent_id": _NEEDED_TEXT,
    "name": _TEXT,
    "status": _TEXT,
}
_WEBHOOK_FIELDS = {
    "token": _NEEDED_TEXT,
    "kind": _TEXT,
    "agent_id": _TEXT,
    "secret": _TEXT,
    "misconfigured": _YES_OR_NO,
    "account": _TEXT,
}


def control_routes(state: SimulatorState) -> list[web.RouteDef]:
    """Return the routes of the control plane."""
    plane = _ControlPlane(state)
    return [
        web.get("/simulator/health", _guard(plane.health)),
        web.post("/simulator/runs", _guard(plane.create_run)),
        web.get("/simulator/runs", _guard(plane.list_runs)),
        web.get("/simulator/runs/{runId}", _guard(plane.get_run)),
        web.post("/simulator/runs/{runId}/finish", _guard(plane.finish_run)),
        web.post("/simulator/runs/{runId}/cancel", _guard(plane.cancel_run)),
        web.post("/simulator/faults", _guard(plane.add_fault)),
        web.get("/simulator/faults", _guard(plane.list_faults)),
        web.delete("/simulator/faults", _guard(plane.clear_faults)),
        web.delete("/simulator/faults/{faultId}", _guard(plane.clear_faults)),
        web.get("/simulator/requests", _guard(plane.list_requests)),
        web.get("/simulator/starts", _guard(plane.list_starts)),
        web.get("/simulator/cancels", _guard(plane.list_cancels)),
        web.post("/simulator/keys", _guard(plane.change_key)),
        web.post("/simulator/agents", _guard(plane.add_agent)),
        web.post("/simulator/webhooks", _guard(plane.add_webhook)),
        web.post("/simulator/reset", _guard(plane.reset)),
    ]


def _guard(handler: _Handler) -> _Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RunEndedError as error:
            return web.json_response({"error": str(error)}, status=HTTPStatus.CONFLICT)
        except (ControlError, FaultError, InvalidBodyError, ScenarioError) as error:
            return web.json_response({"error": str(error)}, status=HTTPStatus.BAD_REQUEST)

    return handle


# The body's fields have been checked against a table, so what is passed on as keywords has the right types.
async def _body(request: web.Request, fields: Mapping[str, Field]) -> dict[str, Any]:
    try:
        body = json.loads(await request.read() or b"{}")
    except ValueError:
        raise ControlError("The body is no JSON") from None
    if not isinstance(body, dict):
        raise ControlError("The body must be a JSON object")
    check_body(body, fields, closed=True)
    return {name: value for name, value in body.items() if value is not None}


class _ControlPlane:
    """One method per route."""

    def __init__(self, state: SimulatorState) -> None:
        self._state = state

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def create_run(self, request: web.Request) -> web.Response:
        body = await _body(request, _RUN_FIELDS)
        run_id = self._state.create_run(body.pop("vendor"), **body)
        return web.json_response(asdict(self._state.find_run(run_id)), status=HTTPStatus.CREATED)

    async def list_runs(self, _: web.Request) -> web.Response:
        return web.json_response({"runs": [asdict(run) for run in self._state.list_runs()]})

    async def get_run(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(self._state.find_run(request.match_info["runId"])))

    async def finish_run(self, request: web.Request) -> web.Response:
        body = await _body(request, _FINISH_FIELDS)
        run_id = request.match_info["runId"]
        self._state.finish_run(run_id, **body)
        return web.json_response(asdict(self._state.find_run(run_id)))

    async def cancel_run(self, request: web.Request) -> web.Response:
        await _body(request, {})
        run_id = request.match_info["runId"]
        self._state.cancel_run(run_id)
        return web.json_response(asdict(self._state.find_run(run_id)))

    async def add_fault(self, request: web.Request) -> web.Response:
        fault = Fault(**await _body(request, _FAULT_FIELDS))
        self._state.add_fault(fault)
        return web.json_response(asdict(fault), status=HTTPStatus.CREATED)

    async def list_faults(self, _: web.Request) -> web.Response:
        return web.json_response({"faults": [asdict(fault) for fault in self._state.faults.faults]})

    async def clear_faults(self, request: web.Request) -> web.Response:
        given = request.match_info.get("faultId")
        if given is not None and not given.isdecimal():
            raise ControlError(f"No fault {given!r}")
        removed = self._state.faults.remove(None if given is None else int(given))
        return web.json_response({"removed": removed})

    async def list_requests(self, request: web.Request) -> web.Response:
        names = ("vendor", "operation", "run_id")
        if unknown := sorted(set(request.query) - set(names)):
            raise ControlError(f"Unknown filter {unknown[0]!r}: expected one of {', '.join(names)}")
        records = self._state.journal.read_requests(**request.query)
        return web.json_response({"requests": [asdict(record) for record in records]})

    async def list_starts(self, _: web.Request) -> web.Response:
        return web.json_response({"starts": [asdict(start) for start in self._state.journal.starts]})

    async def list_cancels(self, _: web.Request) -> web.Response:
        return web.json_response({"cancels": [asdict(cancel) for cancel in self._state.journal.cancels]})

    async def change_key(self, request: web.Request) -> web.Response:
        body = await _body(request, _KEY_FIELDS)
        vendor, value, revoked = body.pop("vendor"), body.pop("key"), body.pop("revoked", False)
        if revoked:
            self._state.revoke_key(vendor, value)
        else:
            self._state.add_key(Key(vendor, value, **body))
        return web.json_response({"key_hash": secret_hash(value)})

    async def add_agent(self, request: web.Request) -> web.Response:
        body = await _body(request, _AGENT_FIELDS)
        self._state.add_agent(body.pop("vendor"), **body)
        return web.json_response({"agent_id": body["agent_id"]}, status=HTTPStatus.CREATED)

    async def add_webhook(self, request: web.Request) -> web.Response:
        body = await _body(request, _WEBHOOK_FIELDS)
        kind = body.pop("kind", "agent")
        agent_id = body.pop("agent_id", None) or self._state.webhook_target(kind)
        body.setdefault("account", DEFAULT_ACCOUNT)
        self._state.add_webhook(Webhook(kind=kind, agent_id=agent_id, **body))
        return web.json_response({"kind": kind, "agent_id": agent_id}, status=HTTPStatus.CREATED)

    async def reset(self, _: web.Request) -> web.Response:
        self._state.reset()
        return web.json_response({"status": "ok"})
