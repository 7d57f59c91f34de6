from __future__ import annotations

import pytest

from airflow_provider_agentruns.simulator import Simulator
from tests.simulator.clients import START_BODY, Client, HandClock, events_of, wait_until


def test_status_carries_flags_and_no_output(snorbe: Client, sim: Simulator, clock: HandClock) -> None:
    run_id = sim.create_run("snorbe")
    clock.advance(4)
    assert snorbe.read(f"/agent/run/{run_id}/status") == {
        "id": run_id,
        "status": "running",
        "createdAt": "2023-11-14T22:13:20.000Z",
        "updatedAt": "2023-11-14T22:13:24.000Z",
        "pendingPlanDraft": False,
        "pendingReportDraft": False,
        "pendingMatrixDraft": False,
        "pendingVisualMapDraft": False,
    }


@pytest.mark.parametrize(
    ("directive", "status"),
    [
        ("succeed", "completed"),
        ("fail", "failed"),
        ("fail, failed_status=error", "error"),
        ("cancel", "cancelled"),
        ("never", "running"),
        ("unknown, status=dreaming", "dreaming"),
    ],
)
def test_scenarios_end_as_the_vendor_words_it(
    snorbe: Client, sim: Simulator, clock: HandClock, directive: str, status: str
) -> None:
    run_id = sim.create_run("snorbe", input_text=f"[sim: {directive}]")
    assert snorbe.read(f"/agent/run/{run_id}/status")["status"] == "running"
    clock.advance(100)
    assert snorbe.read(f"/agent/run/{run_id}/status")["status"] == status
    assert snorbe.read(f"/agent/run/{run_id}")["status"] == status


def test_unknown_run_is_null_but_its_status_is_404(snorbe: Client) -> None:
    run = snorbe.get("/agent/run/clxyz123")
    assert (run.status_code, run.json()) == (200, None)
    status = snorbe.get("/agent/run/clxyz123/status")
    assert status.status_code == 404
    assert status.json()["error"] == "NOT_FOUND"


@pytest.mark.parametrize("run_id", ["a.b", "a%20b", "x" * 65])
def test_ill_formed_run_id_is_400(snorbe: Client, run_id: str) -> None:
    for path in (f"/agent/run/{run_id}", f"/agent/run/{run_id}/status"):
        assert snorbe.get(path).status_code == 400


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"modelName": None}, "Invalid option: expected one of snorbe-fast|"),
        ({"modelName": "gpt-0"}, "Invalid option: expected one of snorbe-fast|"),
        ({"inputText": None}, "inputText"),
        ({"inputText": ""}, "inputText"),
        ({"promptKey": "other"}, "promptKey"),
        ({"locale": "de"}, "Invalid option: expected one of ja|en"),
        ({"fileUrls": ["x"] * 11}, "fileUrls"),
        ({"fileUrls": [1]}, "fileUrls[0]"),
        ({"agentId": 5}, "agentId"),
        ({"mentions": [{"id": "a", "type": "agent"}]}, "mentions[0]: label"),
        ({"maxBrowsingSteps": 0}, "maxBrowsingSteps"),
        ({"maxBrowsingSteps": 101}, "maxBrowsingSteps"),
        ({"maxChainSteps": 51}, "maxChainSteps"),
        ({"maxRetries": 6}, "maxRetries"),
        ({"retryDelayMs": 10_001}, "retryDelayMs"),
        ({"retryDelayMs": 1.5}, "retryDelayMs"),
        ({"includeOthersEntities": "yes"}, "includeOthersEntities"),
        ({"inputText": "[sim: sleep]"}, "Unknown scenario 'sleep'"),
    ],
)
@pytest.mark.parametrize("path", ["/agent/run/stream", "/agent/run"])
def test_start_body_is_checked(
    snorbe: Client, sim: Simulator, path: str, change: dict[str, object], complaint: str
) -> None:
    body = {name: value for name, value in {**START_BODY, **change}.items() if value is not None}
    response = snorbe.post(path, body)
    assert response.status_code == 400
    assert complaint in response.json()["error"]
    assert sim.starts() == []


def test_start_without_a_body_is_refused_in_the_documented_words(snorbe: Client) -> None:
    response = snorbe.send("POST", "/agent/run/stream", data=b"")
    assert (response.status_code, response.json()) == (400, {"error": "Invalid JSON body"})


def test_start_takes_everything_that_is_documented_and_fields_that_are_not(
    snorbe: Client, sim: Simulator
) -> None:
    body = {
        **START_BODY,
        "inputText": "all [sim: succeed, duration=0]",
        "fileUrls": ["https://example.com/a.pdf"],
        "agentId": "cagent1",
        "mentions": [{"id": "e1", "type": "entity", "label": "E"}],
        "maxBrowsingSteps": 100,
        "maxChainSteps": 1,
        "maxRetries": 0,
        "retryDelayMs": 0,
        "includeOthersEntities": False,
        "extendedContextEnabled": True,
        "somethingNew": 1,
    }
    assert snorbe.post("/agent/run", body).status_code == 200
    assert sim.starts()[0].agent_id == "cagent1"


def test_stream_opens_with_the_run_id_and_closes_with_the_output(snorbe: Client, sim: Simulator) -> None:
    body = {**START_BODY, "inputText": "hi [sim: succeed, duration=0, output=one two three]"}
    response = snorbe.post("/agent/run/stream", body, headers={"Accept": "text/event-stream"})
    assert response.headers["Content-Type"].startswith("text/event-stream")
    events = events_of(response)
    run_id = sim.starts()[0].run_id
    assert events[0]["type"] == "config"
    assert all(event["payload"]["runId"] == run_id for event in events)
    deltas = [event["payload"]["deltaText"] for event in events if event["type"] == "delta"]
    assert "".join(deltas) == "one two three"
    assert events[-1] == {
        "type": "complete",
        "payload": {"runId": run_id, "text": "one two three", "finishReason": "stop", "status": "completed"},
    }


def test_stream_of_a_run_that_fails_closes_with_its_error(snorbe: Client) -> None:
    body = {**START_BODY, "inputText": '[sim: fail, duration=0, error="no luck"]'}
    last = events_of(snorbe.post("/agent/run/stream", body))[-1]
    assert (last["type"], last["payload"]["message"]) == ("error", "no luck")


def test_run_goes_on_when_its_client_leaves(snorbe: Client, sim: Simulator, clock: HandClock) -> None:
    with snorbe.post("/agent/run/stream", START_BODY, stream=True) as response:
        assert b'"config"' in next(response.iter_lines())
    run_id = sim.starts()[0].run_id
    clock.advance(10)
    assert snorbe.read(f"/agent/run/{run_id}/status")["status"] == "completed"


def test_stream_sends_what_happens_while_it_is_open(snorbe: Client, sim: Simulator, clock: HandClock) -> None:
    with snorbe.post("/agent/run/stream", START_BODY, stream=True) as response:
        lines = response.iter_lines()
        next(lines)
        clock.advance(10)
        rest = b"".join(lines).decode()
    assert '"delta"' in rest
    assert '"completed"' in rest


def test_quiet_stream_pings(snorbe: Client, clock: HandClock) -> None:
    body = {**START_BODY, "inputText": "[sim: wait, human=secret, duration=0]"}
    with snorbe.post("/agent/run/stream", body, stream=True) as response:
        lines = (line for line in response.iter_lines() if line)
        assert b"config" in next(lines)
        assert b"step" in next(lines)
        clock.advance(15)
        assert next(lines) == b'data: {"type": "ping", "payload": {}}'


def test_blocking_start_answers_the_result(snorbe: Client, sim: Simulator) -> None:
    body = {**START_BODY, "inputText": "[sim: succeed, duration=0, output=done]"}
    result = snorbe.post("/agent/run", body).json()
    agent = snorbe.read("/agent/list")[0]
    assistant_turn = snorbe.read("/turn/list")["turns"][0]
    assert result == {
        "text": "done",
        "finishReason": "stop",
        "model": {"name": "snorbe-fast"},
        "runId": sim.starts()[0].run_id,
        "status": "completed",
        "assistantTurnId": assistant_turn["id"],
        "agentId": agent["id"],
        "agentName": agent["name"],
    }


def test_blocking_start_holds_the_connection_until_the_run_ends(sim: Simulator, snorbe: Client) -> None:
    body = {**START_BODY, "inputText": "[sim: never]"}
    with pytest.raises(OSError, match="timed out"):
        snorbe.post("/agent/run", body, timeout=0.2)
    wait_until(lambda: len(sim.starts()) == 1)  # a busy machine may see it after the client has left
    assert sim.starts()[0].operation == "snorbe.run.start_blocking"


def test_missing_and_inactive_agents_start_nothing(snorbe: Client, sim: Simulator) -> None:
    for status, code in (("missing", 404), ("inactive", 400)):
        sim.add_agent("snorbe", "cagent", status=status)
        response = snorbe.post("/agent/run/stream", {**START_BODY, "agentId": "cagent"})
        assert response.status_code == code
    assert sim.starts() == []


def test_stream_without_credits_is_one_error_and_no_run(snorbe: Client, sim: Simulator) -> None:
    sim.add_key("snorbe", sim.snorbe_key, has_credits=False)
    response = snorbe.post("/agent/run/stream", START_BODY)
    assert response.status_code == 200
    assert events_of(response) == [{"type": "error", "payload": {"message": "INSUFFICIENT_CREDITS"}}]
    assert snorbe.post("/agent/run", START_BODY).status_code == 400
    assert sim.starts() == []


def test_mentioned_agents_start_their_own_runs_when_the_run_is_done(
    snorbe: Client, sim: Simulator, clock: HandClock
) -> None:
    mention = {"id": "cbeta", "type": "agent", "label": "beta"}
    other = {"id": "e1", "type": "entity", "label": "entity"}
    body = {**START_BODY, "mentions": [mention, other]}
    with snorbe.post("/agent/run/stream", body, stream=True):
        wait_until(lambda: len(sim.starts()) == 1)
    parent = sim.starts()[0].run_id
    clock.advance(10)
    child = sim.runs()[1]
    assert (child.parent_run_id, child.agent_id, child.origin) == (parent, "cbeta", "delegation")
    assert child.input_text == "Simulated answer to: compare batteries"
    clock.advance(10)
    assert snorbe.read(f"/agent/run/{child.run_id}/status")["status"] == "completed"
    assert len(sim.runs()) == 2
