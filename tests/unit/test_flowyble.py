"""Flowyble's adapter without a server: what it sends, and how it reads odd answers."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_agentruns.client.calls import Call, Response
from airflow_provider_agentruns.client.exceptions import (
    BadRequestError,
    InvalidInputError,
    PermissionDeniedError,
    ResponseFormatError,
)
from airflow_provider_agentruns.client.models import Run, RunStatus
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.vendors.base import StartRequest
from airflow_provider_agentruns.vendors.flowyble import FlowybleAdapter

ADAPTER = FlowybleAdapter()
AGENT_ID = "5e1b6f0a-3c5d-4f6e-8a7b-0c1d2e3f4a5b"
RUN_ID = "7d0c5f0e-0000-4000-8000-000000000001"
REF = ADAPTER.ref(RUN_ID)
TOOL_REF = ADAPTER.ref(RUN_ID, "tool")


def answer(call: Call[Any], body: Any, status: int = 200) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return call.finish(Response(status, {}, content), now=0)


def status_of(**body: Any) -> Run:
    run: Run = answer(ADAPTER.status(REF), {"id": RUN_ID, **body})
    return run


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("Pending", RunStatus.QUEUED),
        ("Running", RunStatus.RUNNING),
        ("Completed", RunStatus.SUCCEEDED),
        ("Failed", RunStatus.FAILED),
        ("Cancelled", RunStatus.CANCELLED),
        ("CANCELLED", RunStatus.CANCELLED),
    ],
)
def test_all_five_statuses(word: str, status: RunStatus) -> None:
    run = status_of(status=word)
    assert (run.status, run.raw_status) == (status, word)


@given(st.text())
def test_any_other_word_is_unknown_and_never_success(word: str) -> None:
    if word.strip().lower() in {"pending", "running", "completed", "failed", "cancelled"}:
        return
    assert status_of(status=word).status is RunStatus.UNKNOWN


def test_a_status_tells_usage_times_output_and_agent() -> None:
    run = status_of(
        status="Completed",
        agentId=AGENT_ID,
        finalOutput="done",
        errorMessage=None,
        stepsExecuted=3,
        tokensUsed=1200,
        actionsUsed=4,
        creditsUsed=0.25,
        createdAt="2026-11-22T12:00:00Z",
        startedAt="2026-11-22T12:00:05.123",
        finishedAt="2026-11-22T12:01:00+00:00",
        somethingNew={"a": 1},
    )
    assert run.output == "done"
    assert run.agent_id == AGENT_ID
    assert run.usage.model_dump() == {"steps": 3, "tokens": 1200, "actions": 4, "credits": 0.25}
    summary = run.summary()
    assert summary["started_at"] == "2026-11-22T12:00:05.123000Z"
    assert summary["finished_at"] == "2026-11-22T12:01:00Z"


@pytest.mark.parametrize(
    "fields",
    [
        {"tokensUsed": "many", "creditsUsed": {}, "stepsExecuted": None},
        {"createdAt": "yesterday", "startedAt": 12, "finishedAt": ["x"]},
        {"agentId": 5, "userMessage": None},
    ],
)
def test_fields_that_are_not_needed_never_make_an_answer_unreadable(fields: dict[str, Any]) -> None:
    assert status_of(status="Running", **fields).status is RunStatus.RUNNING


def test_an_output_or_error_of_another_type_is_not_lost() -> None:
    assert status_of(status="Completed", finalOutput={"a": [1]}).output == {"a": [1]}
    assert status_of(status="Failed", errorMessage={"code": 7}).error_message == '{"code": 7}'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"id": RUN_ID}, "status: Field required"),
        ({"id": RUN_ID, "status": None}, "status: Input should be a valid string"),
        ({"id": AGENT_ID, "status": "Completed"}, "the answer is about run"),
        ([], "body: "),
    ],
)
def test_an_answer_without_a_status_or_about_another_run_is_refused(body: Any, said: str) -> None:
    with pytest.raises(ResponseFormatError, match=said):
        answer(ADAPTER.status(REF), body)


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ('{"rows": [1, 2]}', {"rows": [1, 2]}),
        ("plain words", "plain words"),
        ("", ""),
        (None, None),
        ('{"score": NaN}', '{"score": NaN}'),
        ('{"score": 1e999}', '{"score": 1e999}'),
        ("[" * 300 + "]" * 300, "[" * 300 + "]" * 300),
    ],
)
def test_a_tools_output_is_parsed_if_it_is_json(text: str | None, output: object) -> None:
    call = ADAPTER.result(answer(ADAPTER.status(TOOL_REF), {"id": RUN_ID, "status": "Completed"}))
    assert call is not None
    assert call.request.path == f"/v1/tools/run/{RUN_ID}/result"
    run = answer(call, {"id": RUN_ID, "toolId": AGENT_ID, "status": "Completed", "outputData": text})
    assert run.output == output
    assert run.agent_id == AGENT_ID


def test_an_agents_output_needs_no_second_call() -> None:
    assert ADAPTER.result(status_of(status="Completed")) is None


def test_starts_send_what_is_documented() -> None:
    agent = ADAPTER.start(StartRequest(agent_id=AGENT_ID, message="hé")).request
    assert (agent.method, agent.path) == ("POST", f"/v1/agents/run/{AGENT_ID}")
    assert agent.content == '{"userMessage":"hé"}'.encode()
    assert not agent.idempotent
    tool = ADAPTER.start(StartRequest(tool_id=AGENT_ID, inputs={"a": 1})).request
    assert (tool.path, tool.content) == (f"/v1/tools/run/{AGENT_ID}", b'{"a":1}')
    assert ADAPTER.start(StartRequest(tool_id=AGENT_ID)).request.content == b"{}"


def test_a_webhook_is_signed_over_the_bytes_that_are_sent() -> None:
    call = ADAPTER.start_by_webhook("tok/en", {"text": "ü"}, secret="s3cret")
    request = call.request
    assert request.path == "/webhooks/tok%2Fen"
    assert not request.authenticated
    assert request.content is not None
    signature = hmac.new(b"s3cret", request.content, hashlib.sha256).hexdigest()
    assert request.headers["X-Signature"] == signature
    assert "X-Signature" not in ADAPTER.start_by_webhook("token", {}).request.headers
    run = answer(call, {"success": True, "runId": RUN_ID, "type": "tool"})
    assert (run.run_id, run.kind, run.status) == (RUN_ID, "tool", RunStatus.QUEUED)
    with pytest.raises(InvalidInputError):
        ADAPTER.start_by_webhook(" ", {})


def test_a_short_token_or_secret_of_a_webhook_does_not_cost_the_run() -> None:
    """Masked in the answer, it would take parts of the run's id along."""
    call = ADAPTER.start_by_webhook("run", {}, secret="1")
    body = json.dumps({"success": True, "runId": RUN_ID, "type": "agent"}).encode()
    settings = ClientSettings(base_url="https://api", api_key="flw_key_1", auth_headers={})
    assert call.finish(settings.response(call.request, 200, {}, body), now=0.0).run_id == RUN_ID


@pytest.mark.parametrize("body", [{"id": RUN_ID}, {"id": RUN_ID, "status": None, "success": "yes"}])
def test_a_start_that_names_a_run_is_enough(body: dict[str, Any]) -> None:
    run = answer(ADAPTER.start(StartRequest(agent_id=AGENT_ID, message="m")), body)
    assert (run.run_id, run.status, run.agent_id) == (RUN_ID, RunStatus.QUEUED, AGENT_ID)
    assert answer(ADAPTER.start_by_webhook("token", {}), {"runId": RUN_ID}).kind == "agent"


def test_a_refusal_with_a_success_as_http_status_is_told() -> None:
    body = {"success": False, "message": "Insufficient credits"}
    with pytest.raises(BadRequestError, match="Insufficient credits"):
        answer(ADAPTER.start(StartRequest(agent_id=AGENT_ID, message="m")), body)


def test_an_id_is_taken_in_any_spelling_and_sent_in_the_vendors() -> None:
    assert ADAPTER.ref(RUN_ID.upper().replace("-", "")).run_id == RUN_ID


@pytest.mark.parametrize("status", ["Running", "Hibernating"])
def test_a_result_that_contradicts_the_status_is_asked_for_again(status: str) -> None:
    call = ADAPTER.result(answer(ADAPTER.status(TOOL_REF), {"id": RUN_ID, "status": "Completed"}))
    assert call is not None
    assert call.request.idempotent
    with pytest.raises(ResponseFormatError, match=f"its result says '{status}'"):
        answer(call, {"id": RUN_ID, "status": status})


@pytest.mark.parametrize("body", [{"success": True}, {"id": "../x"}, {"id": 7}, {"id": ""}])
def test_a_start_without_a_usable_run_id_is_not_trusted(body: dict[str, Any]) -> None:
    with pytest.raises(ResponseFormatError):
        answer(ADAPTER.start(StartRequest(agent_id=AGENT_ID, message="m")), body)


def test_a_refused_start_says_why() -> None:
    call = ADAPTER.start(StartRequest(agent_id=AGENT_ID, message="m"))
    with pytest.raises(BadRequestError, match="Insufficient credits"):
        answer(call, {"success": False, "message": "Insufficient credits"}, 400)


def test_the_probe_tells_a_working_key_from_a_page_that_happens_to_be_there() -> None:
    probe = ADAPTER.probe()
    assert probe.request.path.endswith("/status")
    assert "accepts the API key" in answer(probe, {"success": False, "message": "Run not found"}, 404)
    pages: list[Any] = [b"<html>404</html>", {"detail": "no route"}, []]
    for body in pages:
        with pytest.raises(ResponseFormatError):
            answer(probe, body, 404)
    with pytest.raises(PermissionDeniedError):
        answer(probe, {"success": False, "message": "no API access"}, 403)


def test_details_list_the_steps() -> None:
    step = {
        "stepNumber": 1,
        "iterationNumber": 2,
        "toolName": "search",
        "inputData": '{"q": "x"}',
        "outputData": "text",
        "reasoning": "because",
        "tokenUsage": {"inputTokens": 10, "outputTokens": 5},
        "duration": 350,
    }
    run = answer(ADAPTER.details(REF), {"id": RUN_ID, "status": "Completed", "steps": [step, {}, "odd"]})
    assert answer(ADAPTER.details(REF), {"status": "Completed", "steps": None}).steps == ()
    assert run.steps[0].model_dump() == {
        "number": 1,
        "iteration": 2,
        "tool_name": "search",
        "input": {"q": "x"},
        "output": "text",
        "reasoning": "because",
        "input_tokens": 10,
        "output_tokens": 5,
        "duration_ms": 350.0,
    }
    assert len(run.steps) == 2
    with pytest.raises(InvalidInputError, match="agent runs only"):
        ADAPTER.details(TOOL_REF)
