"""A request as a vendor's handler sees it, and the answers a handler gives.

A handler lets the request take effect and returns an answer, a value; only then is anything sent. So a fault
can strike between the two: the vendor accepted the start, and the answer is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from airflow_provider_agentruns.simulator.accounts import Key
from airflow_provider_agentruns.simulator.operations import Operation
from airflow_provider_agentruns.simulator.scenarios import Scenario, ScenarioError
from airflow_provider_agentruns.simulator.state import SimulatorState
from airflow_provider_agentruns.simulator.validation import Field, InvalidBodyError, check_body

LIMIT_MESSAGE = "Rate limit exceeded: wait until the window resets"


class ApiError(Exception):
    """Refuse a request, in the vendor's own words.

    :param extra: further fields of the error body, where the vendor documents some.
    """

    def __init__(self, status: HTTPStatus, message: str, extra: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.extra = extra or {}


class Answer(Protocol):
    """What a handler returns once the request has taken effect."""

    status: int
    content_type: str

    @property
    def run_id(self) -> str | None:
        """Id of the run the answer is about, if it is about one."""

    async def first_bytes(self) -> bytes:
        """Return what the body is, or begins with; a fault may show a part of it."""

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Answer the request."""


@dataclass
class JsonAnswer:
    """Answer with a JSON body, at once."""

    body: object
    status: int = HTTPStatus.OK
    run_id: str | None = None
    content_type: str = "application/json"

    async def first_bytes(self) -> bytes:
        """Return the body."""
        return json.dumps(self.body).encode()

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Answer the request."""
        return web.Response(body=await self.first_bytes(), status=self.status, content_type=self.content_type)


@dataclass(kw_only=True)
class Call:
    """One request to a vendor.

    :param params: the path's parameters, unquoted.
    :param raw: the body.
    :param now: when it arrived, seconds since the epoch.
    """

    state: SimulatorState
    operation: Operation
    headers: Mapping[str, str]
    params: Mapping[str, str]
    query: Mapping[str, str]
    raw: bytes
    now: float
    key: Key | None = field(default=None, repr=False)

    @property
    def account(self) -> str:
        """The account of the request's key; call only where the operation needs a key."""
        if self.key is None:
            raise TypeError(f"{self.operation.name} takes no key")
        return self.key.account

    def json(self) -> object:
        """Return the body as a JSON value.

        :raises ApiError: 400, the body is none.
        """
        try:
            value: object = json.loads(self.raw)
        except ValueError:
            raise ApiError(HTTPStatus.BAD_REQUEST, "Invalid JSON body") from None
        return value

    def json_object(self, fields: Mapping[str, Field] | None = None) -> dict[str, object]:
        """Return the body as a JSON object that has the fields wanted.

        :raises ApiError: 400, the body is none, or a field is wrong.
        """
        body = self.json()
        if not isinstance(body, dict):
            raise ApiError(HTTPStatus.BAD_REQUEST, "The body must be a JSON object")
        try:
            check_body(body, fields or {})
        except InvalidBodyError as error:
            raise ApiError(HTTPStatus.BAD_REQUEST, str(error)) from error
        return body

    def choose_scenario(self, run_input: object) -> Scenario:
        """Return the scenario for a run with this input.

        :raises ApiError: 400, its directive does not parse.
        """
        try:
            return self.state.runs.choose_scenario(self.operation.vendor, run_input)
        except ScenarioError as error:
            raise ApiError(HTTPStatus.BAD_REQUEST, f"simulator: {error}") from error


Handler = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class VendorApi:
    """One vendor's side of the wire.

    :param read_key: find the API key in the request's headers.
    :param error_body: put a refusal in the vendor's words.
    :param handlers: what answers each operation.
    """

    name: str
    read_key: Callable[[Mapping[str, str]], str | None]
    error_body: Callable[[ApiError], dict[str, object]]
    handlers: Mapping[str, Handler]
