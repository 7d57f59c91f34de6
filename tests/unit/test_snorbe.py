"""Snorbe's adapter without a server: statuses, drafts, output in all its shapes, event streams."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_agentruns.client.calls import Call, Response
from airflow_provider_agentruns.client.exceptions import (
    BadRequestError,
    NotFoundError,
    ResponseFormatError,
)
from airflow_provider_agentruns.client.models import HumanRequestKind, Run, RunRef, RunStatus
from airflow_provider_agentruns.vendors.base import AcceptedStart, AcceptedStarts, Listing, StartRequest
from airflow_provider_agentruns.vendors.registry import get_adapter
from airflow_provider_agentruns.vendors.snorbe import SnorbeAdapter

ADAPTER = SnorbeAdapter()
REF = ADAPTER.ref("clxyz123")


def answer(call: Call[Any], body: Any) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return call.finish(Response(200, {}, content), now=0)


def status_of(**body: Any) -> Run:
    run: Run = answer(ADAPTER.status(REF), {"id": REF.run_id, **body})
    return run


def result_of(status: str, process: Any, **body: Any) -> Run:
    call = ADAPTER.result(status_of(status=status))
    assert call is not None
    run: Run = answer(call, {"id": REF.run_id, "status": status, "process": process, **body})
    return run


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("running", RunStatus.RUNNING),
        ("completed", RunStatus.SUCCEEDED),
        ("failed", RunStatus.FAILED),
        ("error", RunStatus.FAILED),
        ("cancelled", RunStatus.CANCELLED),
        ("Completed ", RunStatus.SUCCEEDED),
    ],
)
def test_both_vocabularies_of_status(word: str, status: RunStatus) -> None:
    assert status_of(status=word).status is status


@given(st.text())
def test_any_other_word_is_unknown_and_never_success(word: str) -> None:
    if word.strip().lower() in {"running", "completed", "failed", "error", "cancelled"}:
        return
    assert status_of(status=word).status is RunStatus.UNKNOWN


@pytest.mark.parametrize("draft", ["Plan", "Report", "Matrix", "VisualMap"])
@pytest.mark.parametrize("word", ["completed", "running", "pending", "unheard-of"])
def test_a_pending_draft_beats_the_status(draft: str, word: str) -> None:
    run = status_of(status=word, **{f"pending{draft}Draft": True})
    assert (run.status, run.raw_status) == (RunStatus.WAITING, word)
    [request] = run.human_requests
    assert request.kind is HumanRequestKind.APPROVAL
    assert draft.lower() in request.prompt
    assert run.finished_at is None


@pytest.mark.parametrize("word", ["failed", "error", "cancelled"])
def test_a_draft_left_over_from_a_run_that_failed_is_nobodys(word: str) -> None:
    """Cancelling a run at its review must end the wait."""
    assert status_of(status=word, pendingPlanDraft=True).status.is_terminal


def test_a_question_and_missing_secrets_make_a_run_wait() -> None:
    run = status_of(
        status="running",
        browseState={"isBrowsing": True, "askHumanQuestion": "Which account?"},
        skillState={"isRunningSkill": True, "skillName": "patents", "pendingSecretKeys": ["A_KEY", "B_KEY"]},
    )
    assert run.status is RunStatus.WAITING
    assert [request.kind for request in run.human_requests] == [
        HumanRequestKind.QUESTION,
        HumanRequestKind.SECRET,
    ]
    assert "patents needs secrets: A_KEY, B_KEY" in run.human_requests[1].prompt


@pytest.mark.parametrize(
    "body",
    [
        {"status": "running", "browseState": {"isBrowsing": True}},
        {"status": "running", "browseState": {"askHumanQuestion": None}},
        {"status": "running", "skillState": {"pendingSecretKeys": []}},
        {"status": "running", "browseState": "odd", "skillState": 5, "pendingPlanDraft": "perhaps"},
        {"status": "running", "pendingPlanDraft": None},
    ],
)
def test_nothing_asked_is_no_waiting(body: dict[str, Any]) -> None:
    assert status_of(**body).status is RunStatus.RUNNING


def test_a_question_left_over_from_an_ended_run_is_nobodys() -> None:
    assert status_of(status="completed", browseState={"askHumanQuestion": "?"}).status is RunStatus.SUCCEEDED


COMPLETE = {"type": "complete", "text": "the answer", "finishReason": "stop"}


@pytest.mark.parametrize(
    ("process", "output"),
    [
        ([COMPLETE], "the answer"),
        ([{"type": "complete", "text": "first"}, COMPLETE], "the answer"),
        ([{"type": "complete", "payload": {"text": "the answer"}}], "the answer"),
        ([{"type": "report_complete", "markdown": "# R"}, {"type": "complete", "text": ""}], "# R"),
        ([{"type": "report-complete", "payload": {"markdown": "# R"}}], "# R"),
        ([{"type": "delta", "deltaText": "a "}, {"type": "delta", "payload": {"deltaText": "b"}}], "a b"),
        ([{"type": "step", "responseText": "one"}, {"type": "step", "responseText": "two"}], "two"),
        ([{"type": "delta", "deltaText": "partial"}, COMPLETE], "the answer"),
        ([{"type": "complete", "text": ""}], ""),
        ([], None),
        (None, None),
        (
            [5, None, {"type": 7}, {"no": "type"}, {"type": "complete", "text": {"a": 1}}, COMPLETE],
            "the answer",
        ),
    ],
)
def test_the_final_text_is_found_in_every_shape(process: Any, output: str | None) -> None:
    assert result_of("completed", process).output == output


@pytest.mark.parametrize(
    "event", [{"type": "error", "message": "boom"}, {"type": "error", "payload": {"message": "boom"}}]
)
def test_the_error_is_found(event: dict[str, Any]) -> None:
    run = result_of("failed", [{"type": "error", "message": "first"}, event])
    assert (run.error_message, run.output) == ("boom", None)
    assert result_of("error", []).error_message is None


def test_sources_and_images_are_in_the_result_and_the_process_is_not() -> None:
    run = result_of(
        "completed",
        [COMPLETE],
        agentId="a1",
        agentName="Scout",
        linkedSources=[{"id": "s1", "url": "https://x.org", "title": "X", "sourceType": "web"}, "odd"],
        images=[{"imageUrl": "https://x.org/i.png", "title": None}, {"no": "url"}],
    )
    assert [source.model_dump() for source in run.sources] == [
        {"url": "https://x.org", "title": "X", "type": "web"}
    ]
    assert [image.url for image in run.images] == ["https://x.org/i.png"]
    assert (run.agent_id, run.agent_name) == ("a1", "Scout")
    assert "finishReason" not in run.model_dump_json()
    assert set(run.summary()) & {"sources", "images", "process", "output"} == set()


def test_null_with_200_is_an_unknown_run() -> None:
    for call in (ADAPTER.status(REF), ADAPTER.result(status_of(status="completed"))):
        assert call is not None
        with pytest.raises(NotFoundError, match="no such run"):
            answer(call, b" null\n")


def _stream(*events: dict[str, Any], end: str = "\n\n") -> bytes:
    return "".join(f"data: {json.dumps(event)}{end}" for event in events).encode()


CONFIG = {"type": "config", "payload": {"runId": "clxyz123", "modelName": "snorbe-fast"}}
START = ADAPTER.start(StartRequest(message="hello"))


@pytest.mark.parametrize(
    "body",
    [
        _stream(CONFIG),
        _stream(CONFIG, end="\r\n\r\n"),
        _stream({"type": "config", "runId": "clxyz123"}),
        b": keep-alive\n\n" + _stream(CONFIG),
        b"event: config\nid: 1\n" + _stream(CONFIG),
        b'data: {"type": "config",\ndata: "payload": {"runId": "clxyz123"}}\n\n',
        b"data: not json\n\n" + _stream(CONFIG, COMPLETE),
    ],
)
def test_the_first_event_names_the_run(body: bytes) -> None:
    assert START.request.enough is not None
    assert START.request.enough(body)
    run = answer(START, body)
    assert (run.run_id, run.status) == ("clxyz123", RunStatus.RUNNING)


def test_nothing_is_concluded_from_half_an_event() -> None:
    enough = START.request.enough
    assert enough is not None
    body = _stream({"type": "config", "payload": {"runId": "clxyz123", "note": "四十二"}})
    assert not any(enough(body[:size]) for size in range(len(body)))
    assert enough(body)


def test_an_error_in_place_of_a_run_is_told() -> None:
    body = _stream({"type": "error", "payload": {"message": "no such agent"}})
    assert START.request.enough is not None
    assert START.request.enough(body)
    with pytest.raises(BadRequestError, match="no such agent"):
        answer(START, body)


@pytest.mark.parametrize(
    "body", [b"", b"data: \n\n", _stream({"type": "ping"}), b"<html>", b'{"runId": "x"}']
)
def test_a_stream_that_names_no_run_says_that_it_may_go_on(body: bytes) -> None:
    with pytest.raises(ResponseFormatError, match="may have been started all the same"):
        answer(START, body)


@pytest.mark.parametrize("run_id", ["../x", "", 5, None])
def test_a_run_id_from_the_vendor_is_not_trusted(run_id: Any) -> None:
    with pytest.raises(ResponseFormatError):
        answer(START, _stream({"type": "config", "payload": {"runId": run_id}}))


def test_a_start_sends_defaults_and_options_by_the_vendors_names() -> None:
    assert START.request.content is not None
    assert json.loads(START.request.content) == {
        "modelName": "snorbe-fast",
        "promptKey": "chat-routing",
        "locale": "en",
        "inputText": "hello",
    }
    options = {
        "modelName": "snorbe-quality",
        "maxBrowsingSteps": "12",
        "fileUrls": ["https://x.org/a?b=%2F"],
        "mentions": [{"id": "a1", "type": "agent", "label": "Scout"}],
        "includeOthersEntities": False,
    }
    content = ADAPTER.start(StartRequest(message="hello", agent_id="a1", options=options)).request.content
    assert content is not None
    body = json.loads(content)
    assert body["maxBrowsingSteps"] == 12, "a template gives text"
    assert body["fileUrls"] == ["https://x.org/a?b=%2F"], "a signed URL stays as it is"
    assert body["mentions"] == options["mentions"]
    assert body["includeOthersEntities"] is False
    assert body["agentId"] == "a1"


def test_agents_are_listed() -> None:
    agents = answer(ADAPTER.list_agents(), [{"id": "a1", "name": "Scout", "isDefault": True}, {"id": "a2"}])
    assert [(agent.id, agent.name, agent.is_default) for agent in agents] == [
        ("a1", "Scout", True),
        ("a2", None, False),
    ]
    with pytest.raises(ResponseFormatError, match="not as documented"):
        answer(ADAPTER.list_agents(), {"agents": []})


def test_a_list_of_turns_hints_at_the_runs_that_have_said_something_but_not_at_those_just_begun() -> None:
    turns = [
        {"id": "t5", "kind": "user", "agentRunId": "r3", "agentRun": None},
        {
            "id": "t4",
            "kind": "assistant",
            "agentRunId": "r1",
            "agentRun": {"id": "r1", "status": "completed"},
        },
        {"id": "t3", "kind": "error", "agentRunId": "r2", "agentRun": None},
        {"id": "t2", "kind": "assistant", "agentRunId": "r1", "agentRun": {"id": "r1", "status": "running"}},
        {"id": "t1", "kind": "assistant"},
        {"id": "t0", "agentRun": "odd"},
        7,
    ]
    bulk = get_adapter("snorbe").bulk_polling()
    assert bulk
    call = bulk.call([], None)
    listing = call.finish(Response(200, {}, json.dumps({"turns": turns}).encode()), now=0)
    assert listing == Listing({"r1": "t4 completed", "r2": "t3 None"})


def _turn(text: str, at: str, kind: str = "user", **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "content": text, "createdAt": at, **fields}


SINCE = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def _accepted(turns: list[Any], cursor: str | None = "c9") -> AcceptedStarts:
    call = ADAPTER.accepted_starts(StartRequest(message="Say hello."), SINCE.timestamp())
    found: AcceptedStarts = answer(call, {"turns": turns, "nextCursor": cursor})
    return found


def test_an_accepted_start_is_a_users_turn_with_the_same_text_since_then() -> None:
    found = _accepted(
        [
            _turn("Say hello.", "2026-11-24T12:00:09Z", agentRunId="r1"),
            _turn("Say hello.", "2026-11-24T12:00:08Z", "assistant", agentRunId="r2"),
            _turn("Say goodbye.", "2026-11-24T12:00:07Z", agentRunId="r3"),
            "odd",
            {"kind": "user", "content": "Say hello."},
            _turn("Say hello.", "2026-11-24T12:00:00Z"),
        ]
    )
    named = AcceptedStart(SINCE.timestamp() + 9, RunRef(run_id="r1"))
    assert found == AcceptedStarts((named, AcceptedStart(SINCE.timestamp(), None)), "c9")


def test_turns_are_looked_through_until_they_are_older() -> None:
    found = _accepted([_turn("Say hello.", "2026-11-24T11:59:59Z")])
    assert found == AcceptedStarts((), None)


def test_the_next_page_of_turns_is_asked_for_by_its_cursor() -> None:
    call = ADAPTER.accepted_starts(StartRequest(message="m"), 0.0, "a/b&limit=1")
    assert call.request.path == "/api/v1/turn/list?limit=10&cursor=a%2Fb%26limit%3D1"
