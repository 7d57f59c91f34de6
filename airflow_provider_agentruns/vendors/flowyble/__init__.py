"""Flowyble: agents and tools, started and polled by id."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from airflow_provider_agentruns.client.calls import MEBIBYTE, Call, Request, Response, json_content
from airflow_provider_agentruns.client.exceptions import InvalidInputError, ResponseFormatError
from airflow_provider_agentruns.client.models import Run, RunRef, check_run_id
from airflow_provider_agentruns.client.settings import MIN_MASKED_LENGTH
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.vendors.base import StartRequest, VendorAdapter, check_same_run, path_segment
from airflow_provider_agentruns.vendors.flowyble.answers import (
    CONN_TYPE,
    Details,
    Started,
    Status,
    result_of_tool,
    run_of_start,
    run_of_status,
    run_step,
)

_JSON = {"Content-Type": "application/json"}
_NO_SUCH_RUN = "00000000-0000-4000-8000-000000000000"
_RESULT_BYTES = 64 * MEBIBYTE


StatusT = TypeVar("StatusT", bound=Status)


class FlowybleAdapter(VendorAdapter):
    """
    Adapter for Flowyble, https://docs.flowyble.com (API reference).

    An agent's output comes with its status. A tool's output needs a second call.
    """

    conn_type: ClassVar[str] = CONN_TYPE
    display_name: ClassVar[str] = "Flowyble"
    default_url: ClassVar[str] = "https://api.flowyble.com"
    api_path: ClassVar[str] = "/v1"
    requests_per_minute: ClassVar[int] = 100
    run_kinds: ClassVar[tuple[str, ...]] = ("agent", "tool")

    def auth_headers(self, api_key: str) -> dict[str, str]:
        """Return the header of docs.flowyble.com, api-reference/authentication."""
        return {"X-API-Key": api_key}

    def probe(self) -> Call[str]:
        """
        Build a status call for a run that cannot exist.

        Flowyble documents no call for checking a key. A key that works gets a 404 here, a wrong one a
        401, a plan without API access a 403 (docs.flowyble.com, api-reference/agents/get-run-status).
        """

        def parse(response: Response) -> str:
            body = response.json()
            if not (isinstance(body, dict) and body.get("success") is False):
                raise ResponseFormatError("the answer is not one of Flowyble's API")
            return "Flowyble accepts the API key (asked for a run that cannot exist)."

        status = self._status(RunRef(run_id=_NO_SUCH_RUN), "check the API key")
        return Call(status.request, parse, expected=frozenset({404}))

    def start(self, start_request: StartRequest) -> Call[Run]:
        """Build the start of docs.flowyble.com, api-reference/agents/run-agent or tools/run-tool."""
        if start_request.options:
            given = one_line(", ".join(map(repr, sorted(start_request.options))))
            raise InvalidInputError(f"Flowyble takes no options, but got {given}")
        if start_request.tool_id is not None:
            if start_request.agent_id is not None or start_request.message is not None:
                raise InvalidInputError("give agent_id and message, or tool_id and inputs, not both")
            return self._start("tool", start_request.tool_id, start_request.inputs or {})
        if not start_request.agent_id:
            raise InvalidInputError("Flowyble has no default agent: agent_id is needed (or tool_id)")
        if not start_request.message or not start_request.message.strip():
            raise InvalidInputError("message is empty; Flowyble needs one to start an agent")
        if start_request.inputs is not None:
            raise InvalidInputError("inputs belong to tool_id; an agent takes a message")
        return self._start("agent", start_request.agent_id, {"userMessage": start_request.message})

    def status(self, ref: RunRef) -> Call[Run]:
        """Build the call of docs.flowyble.com, api-reference/agents/get-run-status (tools alike)."""
        return self._status(ref, f"get the status of {ref.kind} run {ref.run_id}")

    def result(self, run: Run) -> Call[Run] | None:
        """Build the call of docs.flowyble.com, api-reference/tools/get-run-result, for tools."""
        if run.kind != "tool":
            return None
        operation = f"get the result of tool run {run.run_id}"
        return self._read(run.ref, "result", operation, Status, lambda _, answer: result_of_tool(run, answer))

    def details(self, ref: RunRef) -> Call[Run]:
        """
        Build the call that lists an agent run's steps.

        See docs.flowyble.com, api-reference/agents/get-run-details.

        :raises InvalidInputError: the run is a tool run, which has no details.
        """
        if ref.kind != "agent":
            raise InvalidInputError("Flowyble has details of agent runs only")

        def run_with_steps(ref: RunRef, answer: Details) -> Run:
            steps = tuple(run_step(step) for step in answer.steps or () if step)
            return run_of_status(ref, answer).model_copy(update={"steps": steps})

        return self._read(ref, "details", f"get the details of run {ref.run_id}", Details, run_with_steps)

    def start_by_webhook(self, token: str, body: dict[str, Any], secret: str | None = None) -> Call[Run]:
        """
        Build a start through an incoming webhook, docs.flowyble.com, api-reference/webhooks/incoming.

        The token is the credential: the connection's key is not sent.

        :param token: the token at the end of the webhook's URL.
        :param body: JSON data, which becomes the run's input.
        :param secret: signs the body, where the webhook asks for it.
        :raises InvalidInputError: the token is empty or cannot be one, or the body is no JSON data.
        """
        if not token.strip():
            raise InvalidInputError("the webhook's token is empty")
        # Dots alone would lead to another path, quoted or not.
        if not (token.isascii() and token.isprintable() and token.strip(".")):
            raise InvalidInputError("the webhook's token holds what no token can have")
        content = json_content(body)
        headers = dict(_JSON)
        if secret:
            headers["X-Signature"] = hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
        request = Request(
            operation="start a run by webhook",
            method="POST",
            path=f"/webhooks/{path_segment(token)}",
            headers=headers,
            content=content,
            secrets=(token,) if len(token) >= MIN_MASKED_LENGTH else (),
            idempotent=False,
            authenticated=False,
        )

        return Call(request, lambda response: run_of_start(self.ref, response.model(Started), None))

    def ref(self, run_id: object, kind: str | None = None) -> RunRef:
        """
        Return what identifies a run of Flowyble.

        :raises InvalidInputError: the id is no UUID, or the kind is unknown.
        """
        return super().ref(_uuid("run_id", check_run_id(run_id)), kind)

    def _start(self, kind: str, target_id: str, body: dict[str, Any]) -> Call[Run]:
        target_id = _uuid(f"{kind}_id", target_id)
        request = Request(
            operation=f"start {kind} {target_id}",
            method="POST",
            path=f"{self.api_path}/{kind}s/run/{path_segment(target_id)}",
            headers=_JSON,
            content=json_content(body),
            idempotent=False,
        )

        def parse(response: Response) -> Run:
            run = run_of_start(self.ref, response.model(Started), kind)
            return run.model_copy(update={"agent_id": target_id})

        return Call(request, parse)

    def _status(self, ref: RunRef, operation: str) -> Call[Run]:
        return self._read(ref, "status", operation, Status, run_of_status)

    def _read(
        self,
        ref: RunRef,
        what: str,
        operation: str,
        model: type[StatusT],
        run_of: Callable[[RunRef, StatusT], Run],
    ) -> Call[Run]:
        request = Request(
            operation=operation,
            method="GET",
            path=f"{self.api_path}/{ref.kind}s/run/{path_segment(ref.run_id)}/{what}",
            max_bytes=_RESULT_BYTES,
        )

        def parse(response: Response) -> Run:
            answer = response.model(model)
            check_same_run(ref, answer.id)
            return run_of(ref, answer)

        return Call(request, parse)


def _uuid(name: str, value: str) -> str:
    """Return an id in the spelling that Flowyble answers with."""
    try:
        return str(UUID(value))
    except ValueError:
        raise InvalidInputError(f"{name} {one_line(value, 80)!r} is no UUID, as Flowyble's ids are") from None
