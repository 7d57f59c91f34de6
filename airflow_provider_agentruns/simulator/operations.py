"""Every endpoint the vendors document, by the name that faults and the request log use."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_agentruns.simulator.scenarios import DRAFTS

VENDORS = ("flowyble", "snorbe")


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint; `needs_key` is false where the vendor takes no API key."""

    name: str
    method: str
    path: str
    needs_key: bool = True

    @property
    def vendor(self) -> str:
        """Name of the vendor."""
        return self.name.partition(".")[0]


_FLOWYBLE = (
    Operation("flowyble.agent.start", "POST", "/v1/agents/run/{agentId}"),
    Operation("flowyble.agent.status", "GET", "/v1/agents/run/{runId}/status"),
    Operation("flowyble.agent.details", "GET", "/v1/agents/run/{runId}/details"),
    Operation("flowyble.tool.start", "POST", "/v1/tools/run/{agentId}"),
    Operation("flowyble.tool.status", "GET", "/v1/tools/run/{runId}/status"),
    Operation("flowyble.tool.result", "GET", "/v1/tools/run/{runId}/result"),
    Operation("flowyble.webhook.start", "POST", "/webhooks/{token}", needs_key=False),
)
_SNORBE = (
    Operation("snorbe.run.start", "POST", "/api/v1/agent/run/stream"),
    Operation("snorbe.run.start_blocking", "POST", "/api/v1/agent/run"),
    Operation("snorbe.run.resume", "POST", "/api/v1/agent/run/stream/{runId}"),
    Operation("snorbe.run.resume_blocking", "POST", "/api/v1/agent/run/{runId}/resume"),
    Operation("snorbe.run.status", "GET", "/api/v1/agent/run/{runId}/status"),
    Operation("snorbe.run.get", "GET", "/api/v1/agent/run/{runId}"),
    *(
        Operation(f"snorbe.{draft}.{action}", "POST", f"/api/v1/agent/run/{{runId}}/{draft}/{action}")
        for draft in DRAFTS
        for action in (("answer", "confirm", "skip") if draft == "plan" else ("answer", "confirm"))
    ),
    Operation("snorbe.secret.register", "POST", "/api/v1/secret"),
    Operation("snorbe.browser.answer", "POST", "/api/v1/browser/answer-question"),
    Operation("snorbe.turn.list", "GET", "/api/v1/turn/list"),
    Operation("snorbe.agent.list", "GET", "/api/v1/agent/list"),
    Operation("snorbe.model.list", "GET", "/api/v1/agent/models", needs_key=False),
    Operation("snorbe.workspace.get", "GET", "/api/v1/workspace"),
)
OPERATIONS = {operation.name: operation for operation in (*_FLOWYBLE, *_SNORBE)}
