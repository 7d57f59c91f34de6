"""What a Snorbe run asks, read from its events, and what is sent as an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr

from airflow_provider_agentruns.client.calls import Response
from airflow_provider_agentruns.client.exceptions import InvalidInputError, ResponseFormatError
from airflow_provider_agentruns.client.models import HumanAnswer, HumanRequest, HumanRequestKind
from airflow_provider_agentruns.vendors.snorbe import SnorbeAdapter

ADAPTER = SnorbeAdapter()
REF = ADAPTER.ref("clxyz123")
AS_STARTED = {"modelName": "m", "promptKey": "chat-routing", "locale": "ja"}
CONFIG = {"type": "config", "runId": "clxyz123", **AS_STARTED}


def asks(topic: str, kind: HumanRequestKind = HumanRequestKind.APPROVAL, **fields: Any) -> HumanRequest:
    return HumanRequest(id=f"{topic}-draft", kind=kind, topic=topic, prompt=f"a {topic} waits", **fields)


def read(request: HumanRequest, *process: dict[str, Any]) -> HumanRequest:
    body = json.dumps({"id": "clxyz123", "process": [CONFIG, *process]}).encode()
    return ADAPTER.human_request(REF, request).finish(Response(200, {}, body), now=0)


@pytest.mark.parametrize("name", ["first-plan", "first_plan", "plan-draft-complete", "plan_draft_complete"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_plan_is_shown_with_goal_steps_and_questions(name: str, wrapped: bool) -> None:
    plan = {
        "goal": "Compare prices",
        "steps": [{"id": "1", "objective": "Collect", "status": "pending"}],
        "questions": ["Which year?"],
    }
    data = {"runId": "clxyz123", "plan": plan}
    event = {"type": name, "payload": data} if wrapped else {"type": name, **data}
    shown = read(asks("plan"), event).text
    assert shown == "**Goal**: Compare prices\n\n**Steps**\n\n1. Collect\n\n**Questions**\n\n1. Which year?"


@pytest.mark.parametrize(
    ("topic", "name", "draft", "said"),
    [
        (
            "report",
            "first_report_structure",
            {"sections": [{"title": "Findings", "notes": "two"}]},
            "Findings",
        ),
        ("report", "report-structure-draft-complete", {"sections": ["Findings"]}, "1. Findings"),
        ("matrix", "first_matrix_structure", {"columns": [{"name": "Price"}, {"label": "Year"}]}, "2. Year"),
        ("matrix", "matrix-structure-draft-complete", {"columns": {"a": 1}}, "Columns"),
    ],
)
def test_reports_and_matrices_are_shown_whatever_their_fields(
    topic: str, name: str, draft: dict[str, Any], said: str
) -> None:
    """The vendor names the events, and not what they hold."""
    assert said in str(read(asks(topic), {"type": name, f"{topic}Structure": draft}).text)


def test_the_last_draft_counts_and_has_a_version_of_its_own() -> None:
    first = {"type": "first-plan", "plan": {"goal": "one"}}
    second = {"type": "plan-draft-complete", "plan": {"goal": "two"}}
    other = {"type": "first_report_structure", "reportStructure": {"title": "no plan"}}
    before, after = read(asks("plan"), first), read(asks("plan"), first, second, other)
    assert after.text == "**Goal**: two"
    assert before.version != after.version
    assert read(asks("plan"), first).version == before.version


def test_a_draft_that_is_not_there_is_said_so() -> None:
    assert "not among the run's events" in str(read(asks("plan")).text)


def test_a_huge_draft_is_cut_and_control_characters_are_gone() -> None:
    text = str(
        read(asks("plan"), {"type": "first-plan", "plan": {"goal": "\x1b[31m" + "x" * 1_000_000}}).text
    )
    assert len(text) < 21_000
    assert "cut; the whole of it is at the vendor" in text
    assert "\x1b" not in text


def test_a_run_is_resumed_as_its_first_event_says_and_else_as_the_options_say() -> None:
    request = read(asks("plan"), {"type": "first-plan", "plan": {}})
    call = ADAPTER.resume(REF, request, {"modelName": "other", "fileUrls": ["https://a.example.com/b"]})
    assert call is not None
    sent = json.loads(call.request.content or b"")
    assert sent == AS_STARTED
    assert call.request.path == "/api/v1/agent/run/stream/clxyz123"
    assert call.request.idempotent
    unread = ADAPTER.resume(REF, asks("plan"), {"modelName": "other"})
    assert unread is not None
    assert json.loads(unread.request.content or b"")["modelName"] == "other"


def test_a_resume_that_is_answered_for_another_run_is_an_error() -> None:
    call = ADAPTER.resume(REF, asks("plan"), {})
    assert call is not None
    body = b'data: {"type": "config", "payload": {"runId": "another"}}\n\n'
    with pytest.raises(ResponseFormatError, match="another"):
        call.finish(Response(200, {}, body), now=0)


@pytest.mark.parametrize("topic", ["plan", "report", "matrix"])
def test_a_draft_is_accepted_or_changed_by_the_documented_calls(topic: str) -> None:
    [accept] = ADAPTER.answer(REF, asks(topic), HumanAnswer(), {})
    assert accept.request.path == f"/api/v1/agent/run/clxyz123/{topic}/confirm"
    assert json.loads(accept.request.content or b"") == {"runId": "clxyz123"}
    [change] = ADAPTER.answer(REF, asks(topic), HumanAnswer(text="Shorter."), {})
    assert change.request.path == f"/api/v1/agent/run/clxyz123/{topic}/answer"
    assert json.loads(change.request.content or b"") == {
        "runId": "clxyz123",
        "answer": "Shorter.",
        "modelName": "snorbe-fast",
    }
    assert not change.request.idempotent, "a change is asked for once"


def test_secrets_are_registered_one_by_one_and_shown_nowhere() -> None:
    answer = HumanAnswer(secrets={"A": SecretStr("s3cr3t-a"), "B": SecretStr("s3cr3t-b")})
    calls = ADAPTER.answer(REF, asks("secret", HumanRequestKind.SECRET), answer, {})
    assert [json.loads(call.request.content or b"") for call in calls] == [
        {"key": "A", "value": "s3cr3t-a"},
        {"key": "B", "value": "s3cr3t-b"},
    ]
    assert "s3cr3t" not in repr(calls) + repr(answer)
    assert all(call.request.path == "/api/v1/secret" for call in calls)
    assert ADAPTER.resume(REF, asks("secret", HumanRequestKind.SECRET), {}) is None


def test_a_browser_is_answered_under_the_session_of_its_last_start() -> None:
    request = read(
        asks("browser", HumanRequestKind.QUESTION),
        {"type": "browse-start", "websocketInfo": {"session_id": "bs_1"}},
        {"type": "browse-start", "websocketInfo": {"session_id": "bs_2"}},
    )
    [call] = ADAPTER.answer(REF, request, HumanAnswer(text="2025"), {})
    assert json.loads(call.request.content or b"") == {"session_id": "bs_2", "answer": "2025"}


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (asks("browser", HumanRequestKind.QUESTION), HumanAnswer()),
        (asks("plan"), HumanAnswer(text=" ")),
        (asks("secret", HumanRequestKind.SECRET), HumanAnswer(text="x")),
    ],
)
def test_an_answer_that_says_nothing_is_refused_before_anything_is_sent(
    request_: HumanRequest, answer: HumanAnswer
) -> None:
    with pytest.raises(InvalidInputError):
        ADAPTER.answer(REF, request_, answer, {})
