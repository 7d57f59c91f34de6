"""The HTTP server: both vendors' endpoints and the control plane in one aiohttp application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Middleware

from airflow_provider_agentruns.simulator.accounts import secret_hash
from airflow_provider_agentruns.simulator.calls import (
    LIMIT_MESSAGE,
    Answer,
    ApiError,
    Call,
    JsonAnswer,
    VendorApi,
)
from airflow_provider_agentruns.simulator.control import control_routes
from airflow_provider_agentruns.simulator.faults import Fault
from airflow_provider_agentruns.simulator.flowyble import FLOWYBLE
from airflow_provider_agentruns.simulator.journal import RequestRecord
from airflow_provider_agentruns.simulator.operations import OPERATIONS, Operation
from airflow_provider_agentruns.simulator.snorbe import SNORBE
from airflow_provider_agentruns.simulator.state import SimulatorState
from airflow_provider_agentruns.simulator.strikes import strike

_APIS = {api.name: api for api in (FLOWYBLE, SNORBE)}
_PREFIXES = {"/v1/": FLOWYBLE, "/webhooks/": FLOWYBLE, "/api/v1/": SNORBE}
_AiohttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_UNLIMITED = 0


def create_app(state: SimulatorState) -> web.Application:
    """Build the application; run it on the event loop that `state` is to belong to."""
    middlewares = [_Undocumented(state).middleware]
    app = web.Application(client_max_size=_UNLIMITED, middlewares=middlewares)
    for operation in OPERATIONS.values():
        endpoint = _Endpoint(operation, _APIS[operation.vendor], state)
        any_text = operation.path.replace("}", ":[^/]+}")  # aiohttp's own pattern takes no braces
        app.router.add_route(operation.method, any_text, endpoint.handle)
    app.add_routes(control_routes(state))

    async def close(_: web.Application) -> None:
        state.closing.set()

    app.on_shutdown.append(close)
    return app


@dataclass(frozen=True)
class _Endpoint:
    """Take a request of one operation through its key, its limit, its effect and its faults."""

    operation: Operation
    api: VendorApi
    state: SimulatorState

    async def handle(self, request: web.Request) -> web.StreamResponse:
        key = self._presented_key(request)
        record = self.state.journal.open_request(
            time=self.state.now,
            vendor=self.api.name,
            operation=self.operation.name,
            method=request.method,
            path=_loggable_path(request),
        )
        record.run_id = request.match_info.get("runId")
        record.key_hash = secret_hash(key) if key else None
        call = Call(
            state=self.state,
            operation=self.operation,
            headers=request.headers,
            params=request.match_info,
            query=request.query,
            raw=await request.read(),
            now=self.state.now,
        )
        fault = self.state.faults.find(
            operation=self.operation.name, vendor=self.api.name, run_id=record.run_id
        )
        if fault is not None and not fault.after_effect:
            struck = await self._strike(fault, record, request, None)
            if struck is not None:
                return struck
            call.now = self.state.now
        answer = self._answer(call, key)
        record.run_id = answer.run_id or record.run_id
        record.status = int(answer.status)
        if fault is not None and fault.after_effect and answer.status < HTTPStatus.BAD_REQUEST:
            struck = await self._strike(fault, record, request, answer)
            if struck is not None:
                return struck
        return await answer.send(request)

    def _presented_key(self, request: web.Request) -> str | None:
        if self.operation.needs_key:
            return self.api.read_key(request.headers)
        return request.match_info.get("token")

    async def _strike(
        self, fault: Fault, record: RequestRecord, request: web.Request, answer: Answer | None
    ) -> web.StreamResponse | None:
        fault.struck += 1
        record.fault = fault.kind
        record.status = None
        response = await strike(fault, request, self.api, self.state, answer)
        if response is None:
            record.status = None if answer is None else int(answer.status)
        elif fault.kind not in ("hang", "reset"):
            record.status = response.status
        return response

    def _answer(self, call: Call, key: str | None) -> Answer:
        try:
            if self.operation.needs_key:
                self._authorize(call, key)
            return self.api.handlers[self.operation.name](call)
        except ApiError as error:
            return JsonAnswer(self.api.error_body(error), status=error.status)

    def _authorize(self, call: Call, value: str | None) -> None:
        call.key = self.state.accounts.find_key(self.api.name, value)
        if call.key is None:
            raise ApiError(HTTPStatus.UNAUTHORIZED, "API key missing or invalid")
        if not self.state.key_limits.allow(f"{self.api.name}:{secret_hash(call.key.value)}", call.now):
            raise ApiError(HTTPStatus.TOO_MANY_REQUESTS, LIMIT_MESSAGE)
        if not call.key.api_access:
            raise ApiError(HTTPStatus.FORBIDDEN, "Your plan has no API access")


@dataclass(frozen=True)
class _Undocumented:
    """Give a path or method that nobody documents the vendor's error body, and write it down."""

    state: SimulatorState

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def refuse(request: web.Request, handler: _AiohttpHandler) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPException as error:
                api = next(
                    (api for prefix, api in _PREFIXES.items() if request.path.startswith(prefix)), None
                )
                if api is None:
                    raise
                return self._refuse(request, api, error)

        return refuse

    def _refuse(self, request: web.Request, api: VendorApi, error: web.HTTPException) -> web.Response:
        record = self.state.journal.open_request(
            time=self.state.now,
            vendor=api.name,
            operation=None,
            method=request.method,
            path=_loggable_path(request),
        )
        record.status = error.status
        body = api.error_body(ApiError(HTTPStatus(error.status), error.reason))
        return web.json_response(body, status=error.status)


def _loggable_path(request: web.Request) -> str:
    """Return the path without a webhook's token: whoever knows it can start runs."""
    _, first, *rest = request.path.split("/")
    return "/".join(["", first, secret_hash("/".join(rest))]) if first == "webhooks" else request.raw_path
