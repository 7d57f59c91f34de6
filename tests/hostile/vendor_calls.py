"""Every call of both adapters, each with an answer as its vendor documents it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.models import Run, RunRef, RunStatus
from airflow_provider_agentruns.vendors.base import StartRequest, VendorAdapter
from airflow_provider_agentruns.vendors.flowyble import FlowybleAdapter
from airflow_provider_agentruns.vendors.snorbe import SnorbeAdapter

UUID = "5e1b6f0a-3c5d-4f6e-8a7b-0c1d2e3f4a5b"
SNORBE_ID = "clxyz123"
FLOWYBLE = FlowybleAdapter()
SNORBE = SnorbeAdapter()
_AT = "2026-01-02T03:04:05Z"
_STATUS: dict[str, Any] = {
    "id": UUID,
    "agentId": UUID,
    "status": "Completed",
    "userMessage": "hello",
    "finalOutput": "done",
    "errorMessage": None,
    "stepsExecuted": 3,
    "tokensUsed": 100,
    "actionsUsed": 2,
    "creditsUsed": 0.5,
    "createdAt": _AT,
    "startedAt": _AT,
    "finishedAt": _AT,
}
_STARTED = {"success": True, "id": UUID, "status": "Pending", "message": "Agent run started"}
_STEP = {
    "stepNumber": 1,
    "iterationNumber": 1,
    "toolName": "search",
    "inputData": '{"q": 1}',
    "outputData": "[]",
    "reasoning": "because",
    "tokenUsage": {"inputTokens": 1, "outputTokens": 2},
    "duration": 3,
}
_TURN = {
    "id": "t1",
    "kind": "user",
    "content": "hello",
    "agentRunId": SNORBE_ID,
    "createdAt": _AT,
    "agentRun": {"id": SNORBE_ID, "status": "completed", "process": []},
}


@dataclass(frozen=True)
class VendorCall:
    """
    A call and its documented answer.

    :param run_id: the run that it asks about, None if it asks about none.
    :param tells_run: whether it makes a run of the answer.
    """

    name: str
    adapter: VendorAdapter
    build: Callable[[], Call[Any] | None]
    answer: Any
    run_id: str | None = None
    tells_run: bool = True

    def call(self) -> Call[Any]:
        call = self.build()
        assert call is not None
        return call


def ended(adapter: VendorAdapter, run_id: str, kind: str = "agent") -> Run:
    return Run(
        vendor=adapter.conn_type, run_id=run_id, kind=kind, status=RunStatus.SUCCEEDED, raw_status="completed"
    )


WEBHOOK_TOKEN = "hook/token_0123456789"

_AGENT_RUN = RunRef(run_id=UUID)
_TOOL_RUN = RunRef(run_id=UUID, kind="tool")
_SNORBE_RUN = RunRef(run_id=SNORBE_ID)
_HELLO = StartRequest(agent_id=UUID, message="hello")
JSON_CALLS = (
    VendorCall(
        "flowyble-probe", FLOWYBLE, FLOWYBLE.probe, {"success": False, "message": "no"}, tells_run=False
    ),
    VendorCall("flowyble-start", FLOWYBLE, lambda: FLOWYBLE.start(_HELLO), _STARTED),
    VendorCall(
        "flowyble-start-tool",
        FLOWYBLE,
        lambda: FLOWYBLE.start(StartRequest(tool_id=UUID, inputs={})),
        _STARTED,
    ),
    VendorCall(
        "flowyble-webhook",
        FLOWYBLE,
        lambda: FLOWYBLE.start_by_webhook(WEBHOOK_TOKEN, {}),
        {"success": True, "runId": UUID, "type": "agent"},
    ),
    VendorCall("flowyble-status", FLOWYBLE, lambda: FLOWYBLE.status(_AGENT_RUN), _STATUS, UUID),
    VendorCall("flowyble-status-tool", FLOWYBLE, lambda: FLOWYBLE.status(_TOOL_RUN), _STATUS, UUID),
    VendorCall(
        "flowyble-result",
        FLOWYBLE,
        lambda: FLOWYBLE.result(ended(FLOWYBLE, UUID, "tool")),
        {
            **_STATUS,
            "toolName": "invoices",
            "outputData": '{"a": [1]}',
            "inputData": "{}",
            "outputSchema": "{}",
        },
        UUID,
    ),
    VendorCall(
        "flowyble-details",
        FLOWYBLE,
        lambda: FLOWYBLE.details(_AGENT_RUN),
        {**_STATUS, "steps": [_STEP]},
        UUID,
    ),
    VendorCall(
        "snorbe-probe", SNORBE, SNORBE.probe, {"workspaceId": "w1", "workspaceName": "ours"}, tells_run=False
    ),
    VendorCall(
        "snorbe-agents",
        SNORBE,
        SNORBE.list_agents,
        [{"id": "a1", "name": "one", "isDefault": True, "createdAt": _AT, "updatedAt": _AT}],
        tells_run=False,
    ),
    VendorCall(
        "snorbe-status",
        SNORBE,
        lambda: SNORBE.status(_SNORBE_RUN),
        {
            "id": SNORBE_ID,
            "status": "completed",
            "createdAt": _AT,
            "updatedAt": _AT,
            "pendingPlanDraft": False,
            "pendingReportDraft": False,
            "pendingMatrixDraft": False,
            "browseState": {"isBrowsing": True, "askHumanQuestion": "who?"},
            "skillState": {"isRunningSkill": True, "skillName": "s", "pendingSecretKeys": ["A"]},
        },
        SNORBE_ID,
    ),
    VendorCall(
        "snorbe-turns",
        SNORBE,
        lambda: SNORBE.bulk_polling().call([], None),
        {"turns": [_TURN, {**_TURN, "kind": "assistant"}], "nextCursor": "c"},
        tells_run=False,
    ),
    VendorCall(
        "snorbe-accepted-starts",
        SNORBE,
        lambda: SNORBE.accepted_starts(_HELLO, 0.0),
        {"turns": [_TURN], "nextCursor": "c"},
        tells_run=False,
    ),
    VendorCall(
        "snorbe-result",
        SNORBE,
        lambda: SNORBE.result(ended(SNORBE, SNORBE_ID)),
        {
            "id": SNORBE_ID,
            "status": "completed",
            "process": [{"type": "delta", "deltaText": "a"}, {"type": "complete", "text": "done"}],
            "createdAt": _AT,
            "updatedAt": _AT,
            "agentId": "a1",
            "agentName": "one",
            "linkedSources": [{"id": "s", "url": "https://example.com", "title": "t", "sourceType": "web"}],
            "images": [
                {"imageUrl": "https://example.com/i", "thumbnailUrl": None, "title": "t", "link": None}
            ],
        },
        SNORBE_ID,
    ),
)
START_STREAM = VendorCall(
    "snorbe-start",
    SNORBE,
    lambda: SNORBE.start(_HELLO),
    b'data: {"type": "config", "payload": {"runId": "clxyz123"}}\n\n',
)
ALL_CALLS = (*JSON_CALLS, START_STREAM)
