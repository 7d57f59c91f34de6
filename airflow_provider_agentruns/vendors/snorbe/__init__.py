"""Snorbe: agents that may stop to ask a human, started over an event stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import TypeAdapter, ValidationError

from airflow_provider_agentruns.client.calls import (
    KIBIBYTE,
    MEBIBYTE,
    Call,
    Request,
    Response,
    describe,
    json_content,
)
from airflow_provider_agentruns.client.exceptions import (
    InvalidInputError,
    NotFoundError,
    ResponseFormatError,
)
from airflow_provider_agentruns.client.models import (
    Agent,
    HumanAnswer,
    HumanRequest,
    HumanRequestKind,
    Run,
    RunRef,
    RunStatus,
)
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.vendors.base import (
    AcceptedStarts,
    BulkPolling,
    Listing,
    StartRequest,
    VendorAdapter,
    check_same_run,
    path_segment,
)
from airflow_provider_agentruns.vendors.snorbe.answers import (
    CONN_TYPE,
    AgentAnswer,
    RunAnswer,
    StatusAnswer,
    TurnsAnswer,
    Workspace,
)
from airflow_provider_agentruns.vendors.snorbe.humans import (
    browser_body,
    resume_body,
    revision_body,
    secret_values,
)
from airflow_provider_agentruns.vendors.snorbe.options import parse_options
from airflow_provider_agentruns.vendors.snorbe.stream import has_run_id, run_id_of

T = TypeVar("T")

_PROCESS_BYTES = 256 * MEBIBYTE
# Newest first: a few turns show what has just ended, and each carries all events of its run.
_LISTED_TURNS = 5
_SEARCHED_TURNS = 10
_LISTING_BYTES = 2 * MEBIBYTE
_EVENT_BYTES = 256 * KIBIBYTE
_STREAM_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
_AGENTS = TypeAdapter(list[AgentAnswer])


class SnorbeAdapter(VendorAdapter):
    """
    Adapter for Snorbe, https://docs.snorbe.deskrex.ai (en/api-reference).

    A run's status tells neither output nor error: both stand among the run's events, which are read
    once, after the run has ended.
    """

    conn_type: ClassVar[str] = CONN_TYPE
    display_name: ClassVar[str] = "Snorbe"
    default_url: ClassVar[str] = "https://app.snorbe.deskrex.ai"
    api_path: ClassVar[str] = "/api/v1"
    requests_per_minute: ClassVar[int] = 100
    request_topics: ClassVar[tuple[str, ...]] = ("plan", "report", "matrix", "secret", "browser")

    def auth_headers(self, api_key: str) -> dict[str, str]:
        """Return the header that en/api-reference/index recommends."""
        return {"Authorization": f"Bearer {api_key}"}

    def probe(self) -> Call[str]:
        """Build the call that names the key's workspace, en/api-reference/index."""

        def parse(response: Response) -> str:
            name = response.model(Workspace).workspace_name
            return f"Snorbe accepts the API key for the workspace {one_line(name or 'without a name', 80)!r}."

        return Call(self._get("/workspace", "check the API key"), parse)

    def list_agents(self) -> Call[tuple[Agent, ...]]:
        """Build the call that lists the workspace's agents, en/api-reference/list-agents."""

        def parse(response: Response) -> tuple[Agent, ...]:
            try:
                agents = _AGENTS.validate_python(response.json())
            except ValidationError as error:
                raise ResponseFormatError(f"the answer is not as documented: {describe(error)}") from None
            return tuple(
                Agent(id=agent.id, name=agent.name, is_default=bool(agent.is_default)) for agent in agents
            )

        return Call(self._get("/agent/list", "list the agents"), parse)

    def start(self, start_request: StartRequest) -> Call[Run]:
        """
        Build a start over the event stream, en/api-reference/stream-agent-run.

        The first event names the run. The connection is then dropped, and the run goes on at the vendor.
        """
        if start_request.tool_id is not None or start_request.inputs is not None:
            raise InvalidInputError("Snorbe has no tools to start: give message, and agent_id if need be")
        if not start_request.message or not start_request.message.strip():
            raise InvalidInputError("message is empty; Snorbe needs one to start an agent")
        body: dict[str, Any] = {
            **parse_options(start_request.options).body(),
            "inputText": start_request.message,
        }
        if start_request.agent_id:
            body["agentId"] = start_request.agent_id
        request = self._post_request(
            "/agent/run/stream",
            f"start agent {one_line(start_request.agent_id or '(default)', 80)}",
            body,
            headers=_STREAM_HEADERS,
            idempotent=False,
            enough=has_run_id,
        )

        def parse(response: Response) -> Run:
            run_id = run_id_of(response.body)
            try:
                ref = self.ref(run_id)
            except InvalidInputError as error:
                raise ResponseFormatError(f"the answer names no usable run id: {error}") from None
            return Run(
                vendor=self.conn_type,
                run_id=ref.run_id,
                kind=ref.kind,
                agent_id=start_request.agent_id,
                status=RunStatus.RUNNING,
                raw_status="running",
            )

        return Call(request, parse)

    def status(self, ref: RunRef) -> Call[Run]:
        """Build the call of en/api-reference/get-run-status."""

        def parse(response: Response) -> Run:
            answer = self._known(ref, response).model(StatusAnswer)
            check_same_run(ref, answer.id)
            return answer.run(ref)

        path = f"/agent/run/{path_segment(ref.run_id)}/status"
        return Call(self._get(path, f"get the status of run {ref.run_id}"), parse)

    def bulk_polling(self) -> BulkPolling:
        """Return the call of en/api-reference/list-turns: a run that ends leaves a turn with its answer."""

        def parse(response: Response) -> Listing:
            return response.model(TurnsAnswer).listing()

        request = self._get(
            f"/turn/list?limit={_LISTED_TURNS}", "list the newest turns", max_bytes=_LISTING_BYTES
        )
        return BulkPolling(call=lambda _runs, _since: Call(request, parse), is_heavy=True)

    def accepted_starts(
        self, start_request: StartRequest, since: float, cursor: str | None = None
    ) -> Call[AcceptedStarts]:
        """Build the call of en/api-reference/list-turns: a start leaves a turn with its text."""

        def parse(response: Response) -> AcceptedStarts:
            answer = response.model(TurnsAnswer)
            return answer.accepted_starts(start_request.message or "", since, self.ref)

        page = f"&cursor={path_segment(cursor)}" if cursor else ""
        path = f"/turn/list?limit={_SEARCHED_TURNS}{page}"
        return Call(self._get(path, "look for a start", max_bytes=_PROCESS_BYTES, patience=10), parse)

    def result(self, run: Run) -> Call[Run] | None:
        """Build the call of en/api-reference/get-agent-run. Its answer holds every event and can be large."""
        return self._get_run(run.ref, "get the result", lambda answer: answer.complete(run))

    def human_request(self, ref: RunRef, request: HumanRequest) -> Call[HumanRequest]:
        """Build the call of en/api-reference/get-agent-run: a draft stands among the run's events."""
        return self._get_run(ref, "read what is asked", lambda answer: answer.in_full(request))

    def answer(
        self, ref: RunRef, request: HumanRequest, answer: HumanAnswer, options: Mapping[str, Any]
    ) -> tuple[Call[None], ...]:
        """Build the calls of en/api-reference/agent-workflows; a browser's are not documented."""
        if request.kind is HumanRequestKind.SECRET:
            return tuple(
                self._post("/secret", f"register the secret {one_line(name, 80)!r}", body, secrets=(value,))
                for name, value in secret_values(request, answer).items()
                for body in ({"key": name, "value": value},)
            )
        if request.kind is HumanRequestKind.QUESTION:
            body = browser_body(request, answer.text)
            operation = f"answer the browser of run {ref.run_id}"
            return (self._post("/browser/answer-question", operation, body, idempotent=False),)
        path = f"/agent/run/{path_segment(ref.run_id)}/{path_segment(request.topic)}"
        if answer.is_acceptance:
            return (
                self._post(
                    f"{path}/confirm",
                    f"confirm the {request.topic} of run {ref.run_id}",
                    {"runId": ref.run_id},
                ),
            )
        body = revision_body(ref.run_id, answer.text, request.details, options)
        operation = f"have the {request.topic} of run {ref.run_id} revised"
        return (self._post(f"{path}/answer", operation, body, idempotent=False, patience=10),)

    def resume(self, ref: RunRef, request: HumanRequest, options: Mapping[str, Any]) -> Call[None] | None:
        """
        Build a resume over the event stream, en/api-reference/agent-workflows.

        It may be called again. The first event names the run; the connection is then dropped.
        """
        if request.kind is not HumanRequestKind.APPROVAL:
            return None

        def parse(response: Response) -> None:
            check_same_run(ref, run_id_of(response.body))

        request_to_send = self._post_request(
            f"/agent/run/stream/{path_segment(ref.run_id)}",
            f"resume run {ref.run_id}",
            resume_body(request.details, options),
            headers=_STREAM_HEADERS,
            enough=has_run_id,
        )
        return Call(request_to_send, parse)

    def _get_run(self, ref: RunRef, operation: str, read: Callable[[RunAnswer], T]) -> Call[T]:
        def parse(response: Response) -> T:
            answer = self._known(ref, response).model(RunAnswer)
            check_same_run(ref, answer.id)
            return read(answer)

        path = f"/agent/run/{path_segment(ref.run_id)}"
        return Call(
            self._get(path, f"{operation} of run {ref.run_id}", max_bytes=_PROCESS_BYTES, patience=10), parse
        )

    def _known(self, ref: RunRef, response: Response) -> Response:
        # Snorbe answers 200 with the JSON value null for a run that it does not know.
        if response.body.strip() == b"null":
            raise NotFoundError("the vendor knows no such run", status_code=404)
        return response

    def _get(self, path: str, operation: str, **settings: Any) -> Request:
        return Request(operation=operation, method="GET", path=self.api_path + path, **settings)

    def _post(self, path: str, operation: str, body: dict[str, Any], **settings: Any) -> Call[None]:
        return Call(self._post_request(path, operation, body, **settings), lambda _: None)

    def _post_request(self, path: str, operation: str, body: dict[str, Any], **settings: Any) -> Request:
        headers = {"Content-Type": "application/json", **settings.pop("headers", {})}
        return Request(
            operation=operation,
            method="POST",
            path=self.api_path + path,
            headers=headers,
            content=json_content(body),
            max_bytes=_EVENT_BYTES,
            **settings,
        )
