"""Snorbe: agents that may stop to ask a human, started over an event stream."""

from __future__ import annotations

from typing import Any, ClassVar

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
from airflow_provider_agentruns.client.models import Agent, Run, RunRef, RunStatus
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
from airflow_provider_agentruns.vendors.snorbe.options import parse_options
from airflow_provider_agentruns.vendors.snorbe.stream import has_run_id, run_id_of

_PROCESS_BYTES = 256 * MEBIBYTE
# Newest first: a few turns show what has just ended, and each carries all events of its run.
_LISTED_TURNS = 5
_SEARCHED_TURNS = 10
_LISTING_BYTES = 2 * MEBIBYTE
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
        request = Request(
            operation=f"start agent {one_line(start_request.agent_id or '(default)', 80)}",
            method="POST",
            path=f"{self.api_path}/agent/run/stream",
            headers={
                "Accept": "text/event-stream",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
            },
            content=json_content(body),
            idempotent=False,
            enough=has_run_id,
            max_bytes=256 * KIBIBYTE,
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
        ref = run.ref

        def parse(response: Response) -> Run:
            answer = self._known(ref, response).model(RunAnswer)
            check_same_run(ref, answer.id)
            return answer.complete(run)

        path = f"/agent/run/{path_segment(ref.run_id)}"
        request = self._get(
            path, f"get the result of run {ref.run_id}", max_bytes=_PROCESS_BYTES, patience=10
        )
        return Call(request, parse)

    def _known(self, ref: RunRef, response: Response) -> Response:
        # Snorbe answers 200 with the JSON value null for a run that it does not know.
        if response.body.strip() == b"null":
            raise NotFoundError("the vendor knows no such run", status_code=404)
        return response

    def _get(self, path: str, operation: str, **settings: Any) -> Request:
        return Request(operation=operation, method="GET", path=self.api_path + path, **settings)
