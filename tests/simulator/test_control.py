"""The control plane over HTTP; it does what the Python API does, so its own part is tested here."""

from __future__ import annotations

import pytest

from airflow_provider_agentruns.simulator import Simulator
from tests.simulator.clients import AGENT_ID, Client, HandClock


def test_health(control: Client) -> None:
    assert control.read("/health") == {"status": "ok"}


def test_creates_a_run_that_somebody_else_started(
    control: Client, flowyble: Client, clock: HandClock, sim: Simulator
) -> None:
    body = {
        "vendor": "flowyble",
        "kind": "agent",
        "agent_id": AGENT_ID,
        "input_text": "theirs",
        "scenario": "fail",
        "duration": 2,
        "error": "boom",
    }
    response = control.post("/runs", body)
    assert response.status_code == 201
    run_id = response.json()["run_id"]
    clock.advance(2)
    status = flowyble.read(f"/agents/run/{run_id}/status")
    assert (status["status"], status["errorMessage"]) == ("Failed", "boom")
    assert (status["agentId"], status["userMessage"]) == (AGENT_ID, "theirs")
    record = control.read(f"/runs/{run_id}")
    assert (record["scenario"], record["phase"], record["origin"]) == ("fail", "ended", "control")
    assert control.read("/runs")["runs"] == [record]
    assert control.read("/starts")["starts"][0]["operation"] == "control"
    assert sim.run(run_id).status == "Failed"


def test_finishes_a_run(control: Client, snorbe: Client, sim: Simulator, clock: HandClock) -> None:
    run_id = sim.create_run("snorbe", scenario="wait", human="plan")
    clock.advance(100)
    response = control.post(f"/runs/{run_id}/finish", {"scenario": "succeed", "output": "by hand"})
    assert (response.status_code, response.json()["status"]) == (200, "completed")
    status = snorbe.read(f"/agent/run/{run_id}/status")
    assert (status["status"], status["pendingPlanDraft"]) == ("completed", False)
    assert snorbe.read(f"/agent/run/{run_id}")["process"][-1]["text"] == "by hand"


@pytest.mark.parametrize("scenario", ["succeed", "fail", "cancel"])
def test_finishes_a_run_that_would_never_end(
    control: Client, flowyble: Client, sim: Simulator, clock: HandClock, scenario: str
) -> None:
    run_id = sim.create_run("flowyble", scenario="never")
    clock.advance(1_000_000)
    assert flowyble.read(f"/agents/run/{run_id}/status")["status"] == "Running"
    control.post(f"/runs/{run_id}/finish", {"scenario": scenario})
    expected = {"succeed": "Completed", "fail": "Failed", "cancel": "Cancelled"}[scenario]
    assert flowyble.read(f"/agents/run/{run_id}/status")["status"] == expected


def test_cancels_a_run_for_a_client_once(
    control: Client, flowyble: Client, sim: Simulator, clock: HandClock
) -> None:
    run_id = sim.create_run("flowyble", scenario="never", input_text="stop me")
    clock.advance(10)
    assert control.post(f"/runs/{run_id}/cancel").json()["status"] == "Cancelled"
    assert flowyble.read(f"/agents/run/{run_id}/status")["status"] == "Cancelled"
    [logged] = control.read("/cancels")["cancels"]
    assert logged == {
        "time": clock(),
        "vendor": "flowyble",
        "kind": "agent",
        "run_id": run_id,
        "input_text": "stop me",
    }
    again = control.post(f"/runs/{run_id}/cancel")
    assert (again.status_code, "ended already" in again.json()["error"]) == (409, True)
    assert [cancel.run_id for cancel in sim.cancels()] == [run_id]


def test_a_run_that_has_ended_is_not_cancelled(control: Client, sim: Simulator) -> None:
    run_id = sim.create_run("snorbe", duration=0)
    assert control.post(f"/runs/{run_id}/cancel").status_code == 409
    assert (sim.run(run_id).status, sim.cancels()) == ("completed", [])


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("/runs", {}, "vendor is required"),
        ("/runs", {"vendor": "acme"}, "Unknown vendor 'acme'"),
        ("/runs", {"vendor": "snorbe", "kind": "tool"}, "Unknown kind 'tool'"),
        ("/runs", {"vendor": "flowyble", "agent_id": "one"}, "uuids"),
        ("/runs", {"vendor": "flowyble", "scenario": "explode"}, "Unknown scenario 'explode'"),
        ("/runs", {"vendor": "flowyble", "scenario": "wait"}, "no human's part"),
        ("/runs", {"vendor": "flowyble", "speed": 1}, "Unknown field 'speed'"),
        ("/runs", {"vendor": "flowyble", "duration": "2"}, "duration must be a number"),
        ("/runs/nobody/finish", {}, "No run 'nobody'"),
        ("/runs/nobody/cancel", {}, "No run 'nobody'"),
        ("/faults", {"kind": "explode"}, "Unknown kind 'explode'"),
        ("/faults", {"kind": "hang", "operation": "x"}, "flowyble.agent.start"),
        ("/keys", {"vendor": "flowyble"}, "key is required"),
        ("/agents", {"vendor": "flowyble", "agent_id": AGENT_ID, "status": "asleep"}, "Unknown status"),
        ("/webhooks", {"token": "t", "kind": "x"}, "Unknown kind 'x'"),
        ("/runs", [], "JSON object"),
    ],
)
def test_request_that_makes_no_sense_is_400_with_a_reason(
    control: Client, sim: Simulator, path: str, body: object, complaint: str
) -> None:
    response = control.post(path, body)
    assert response.status_code == 400
    assert complaint in response.json()["error"]
    assert sim.starts() == []


def test_finish_refuses_what_is_no_end(control: Client, sim: Simulator) -> None:
    run_id = sim.create_run("snorbe")
    response = control.post(f"/runs/{run_id}/finish", {"scenario": "never"})
    assert (response.status_code, sim.run(run_id).phase) == (400, "queued")


def test_sets_lists_and_clears_faults(control: Client, flowyble: Client, sim: Simulator) -> None:
    run_id = sim.create_run("flowyble")
    body = {"kind": "server_error", "operation": "flowyble.agent.status", "times": 3, "status": 503}
    first = control.post("/faults", body)
    assert (first.status_code, first.json()["id"]) == (201, 1)
    control.post("/faults", {"kind": "hang", "vendor": "snorbe"})
    assert flowyble.get(f"/agents/run/{run_id}/status").status_code == 503
    faults = control.read("/faults")["faults"]
    assert [(fault["kind"], fault["struck"]) for fault in faults] == [("server_error", 1), ("hang", 0)]
    assert control.send("DELETE", "/faults/1").json() == {"removed": 1}
    assert control.send("DELETE", "/faults").json() == {"removed": 1}
    assert control.send("DELETE", "/faults/one").status_code == 400
    assert control.read("/faults") == {"faults": []}


def test_changes_keys(control: Client, flowyble: Client, sim: Simulator) -> None:
    path = f"/agents/run/{sim.create_run('flowyble')}/status"
    key = {"vendor": "flowyble", "key": sim.flowyble_key}
    answer = control.post("/keys", {**key, "api_access": False})
    assert sim.flowyble_key not in answer.text
    assert flowyble.get(path).status_code == 403
    control.post("/keys", key)
    assert flowyble.get(path).status_code == 200
    control.post("/keys", {**key, "revoked": True})
    assert flowyble.get(path).status_code == 401


def test_registers_agents_and_webhooks(control: Client, flowyble: Client, sim: Simulator) -> None:
    control.post("/agents", {"vendor": "flowyble", "agent_id": AGENT_ID, "status": "missing"})
    assert flowyble.post(f"/agents/run/{AGENT_ID}", {"userMessage": "x"}).status_code == 404
    assert control.post("/webhooks", {"token": "mine", "kind": "tool"}).status_code == 201
    response = Client(sim.url + "/webhooks", {}).post("/mine", {"a": 1})
    assert response.json()["type"] == "tool"


def test_reset_forgets_everything_but_the_settings(control: Client, flowyble: Client, sim: Simulator) -> None:
    run_id = sim.create_run("flowyble")
    sim.add_fault("hang")
    sim.revoke_key("flowyble", sim.flowyble_key)
    control.post(f"/runs/{run_id}/cancel")
    control.post("/reset")
    assert (sim.runs(), sim.faults(), sim.requests()) == ([], [], [])
    assert (sim.starts(), sim.cancels()) == ([], [])
    assert flowyble.get(f"/agents/run/{run_id}/status").status_code == 404


def test_unknown_filter_of_the_request_log_is_refused(control: Client) -> None:
    assert control.get("/requests?color=red").status_code == 400
