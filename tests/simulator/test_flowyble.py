from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from typing import Any

import pytest
import requests

from airflow_provider_agentruns.simulator import Simulator
from tests.simulator.clients import AGENT_ID, TOOL_ID, Client, HandClock


def _start(flowyble: Client, message: str = "hello") -> str:
    response = flowyble.post(f"/agents/run/{AGENT_ID}", {"userMessage": message})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def _status(flowyble: Client, run_id: str) -> dict[str, Any]:
    status: dict[str, Any] = flowyble.read(f"/agents/run/{run_id}/status")
    return status


def test_start_answers_the_documented_envelope(flowyble: Client) -> None:
    body = flowyble.post(f"/agents/run/{AGENT_ID}", {"userMessage": "hello"}).json()
    assert uuid.UUID(body.pop("id"))
    assert body == {"success": True, "status": "Pending", "message": "Agent run started"}


def test_run_goes_from_pending_over_running_to_completed(flowyble: Client, clock: HandClock) -> None:
    run_id = _start(flowyble)
    pending = _status(flowyble, run_id)
    assert pending["status"] == "Pending"
    assert pending["finalOutput"] is None
    assert "startedAt" not in pending
    clock.advance(5)
    running = _status(flowyble, run_id)
    assert running["status"] == "Running"
    assert running["startedAt"] == "2023-11-14T22:13:21.000Z"
    assert running["finishedAt"] is None
    clock.advance(5)
    completed = _status(flowyble, run_id)
    assert completed["status"] == "Completed"
    assert completed["finalOutput"] == "Simulated answer to: hello"
    assert completed["errorMessage"] is None
    assert completed["finishedAt"] == "2023-11-14T22:13:30.000Z"


def test_counters_grow_with_the_run_and_then_stay(flowyble: Client, clock: HandClock) -> None:
    run_id = _start(flowyble)
    names = ("stepsExecuted", "tokensUsed", "actionsUsed", "creditsUsed")
    seen = []
    for _ in range(25):
        status = _status(flowyble, run_id)
        seen.append([status[name] for name in names])
        clock.advance(0.5)
    assert seen[0] == [0, 0, 0, 0]
    assert seen == sorted(seen)
    assert all(count > 0 for count in seen[-1])
    assert seen[-1] == seen[-4]
    assert 1 <= seen[-1][0] <= 12


def test_details_agree_with_the_status(flowyble: Client, clock: HandClock) -> None:
    run_id = _start(flowyble)
    clock.advance(10)
    details = flowyble.read(f"/agents/run/{run_id}/details")
    steps = details.pop("steps")
    assert details == _status(flowyble, run_id)
    assert [step["stepNumber"] for step in steps] == list(range(1, details["stepsExecuted"] + 1))
    usage = [step["tokenUsage"] for step in steps]
    assert sum(one["inputTokens"] + one["outputTokens"] for one in usage) == details["tokensUsed"]
    for step in steps:
        assert json.loads(step["inputData"])
        assert json.loads(step["outputData"])
        assert step["duration"] > 0


@pytest.mark.parametrize(
    ("directive", "expected"),
    [
        ("fail, error=no credits left", {"status": "Failed", "errorMessage": "no credits left"}),
        ("cancel", {"status": "Cancelled", "errorMessage": None}),
        ('succeed, output="a, \\"quoted\\" ]"', {"status": "Completed", "finalOutput": 'a, "quoted" ]'}),
        ("never", {"status": "Running", "finalOutput": None}),
        ("unknown", {"status": "Hibernating"}),
        ("unknown, status=Reviewing", {"status": "Reviewing"}),
        ("unknown, unknown_seconds=2, then=fail", {"status": "Failed"}),
    ],
)
def test_directive_in_the_message_decides_how_the_run_goes(
    flowyble: Client, clock: HandClock, directive: str, expected: dict[str, object]
) -> None:
    run_id = _start(flowyble, f"please [sim: {directive}]")
    clock.advance(10_000)
    assert expected.items() <= _status(flowyble, run_id).items()


def test_unknown_status_can_pass(flowyble: Client, clock: HandClock) -> None:
    run_id = _start(flowyble, "[sim: unknown, unknown_seconds=3]")
    seen = []
    for _ in range(15):
        seen.append(_status(flowyble, run_id)["status"])
        clock.advance(1)
    assert list(dict.fromkeys(seen)) == ["Pending", "Hibernating", "Running", "Completed"]
    assert seen.count("Hibernating") == 3


def test_duration_option_is_the_whole_run(flowyble: Client, clock: HandClock) -> None:
    run_id = _start(flowyble, "[sim: succeed, duration=2]")
    clock.advance(1.99)
    assert _status(flowyble, run_id)["status"] == "Running"
    clock.advance(0.01)
    assert _status(flowyble, run_id)["status"] == "Completed"


@pytest.mark.parametrize(
    ("directive", "complaint"),
    [
        ("[sim: explode]", "Unknown scenario 'explode'"),
        ("[sim: fail, color=red]", "Unknown scenario option 'color'"),
        ("[sim: succeed, duration=soon]", "duration"),
        ("[sim: wait, human=plan]", "Flowyble documents no human's part"),
        ("[sim: fail", "not closed"),
    ],
)
def test_directive_that_makes_no_sense_is_refused(
    flowyble: Client, sim: Simulator, directive: str, complaint: str
) -> None:
    response = flowyble.post(f"/agents/run/{AGENT_ID}", {"userMessage": directive})
    assert response.status_code == 400
    assert complaint in response.json()["message"]
    assert sim.starts() == []


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"userMessage": ""}', b'{"userMessage": " "}', b'{"userMessage": 7}']
)
def test_start_without_a_message_is_refused(flowyble: Client, sim: Simulator, data: bytes) -> None:
    response = flowyble.send("POST", f"/agents/run/{AGENT_ID}", data=data)
    assert response.status_code == 400
    assert response.json()["success"] is False
    assert response.json()["message"]
    assert sim.starts() == []


@pytest.mark.parametrize("run_id", ["nonsense", "1", "{11111111-1111-4111-8111-111111111111}", "1" * 32])
@pytest.mark.parametrize("path", ["agents/run/{}/status", "agents/run/{}/details", "tools/run/{}/result"])
def test_ill_formed_run_id_is_400(flowyble: Client, run_id: str, path: str) -> None:
    assert flowyble.get("/" + path.format(run_id)).status_code == 400


def test_unknown_run_is_404_with_the_documented_body(flowyble: Client) -> None:
    response = flowyble.get(f"/agents/run/{uuid.uuid4()}/status")
    assert response.status_code == 404
    assert response.json() == {"success": False, "message": "Agent run not found"}


def test_tool_run_is_not_found_among_agent_runs(flowyble: Client, sim: Simulator) -> None:
    run_id = sim.create_run("flowyble", kind="tool")
    assert flowyble.get(f"/agents/run/{run_id}/status").status_code == 404


def test_inactive_agent_missing_agent_and_empty_account_are_refused(flowyble: Client, sim: Simulator) -> None:
    sim.add_agent("flowyble", AGENT_ID, status="inactive")
    inactive = flowyble.post(f"/agents/run/{AGENT_ID}", {"userMessage": "hello"})
    sim.add_agent("flowyble", TOOL_ID, kind="tool", status="missing")
    missing = flowyble.post(f"/tools/run/{TOOL_ID}")
    sim.add_key("flowyble", sim.flowyble_key, has_credits=False)
    poor = flowyble.post(f"/agents/run/{uuid.uuid4()}", {"userMessage": "hello"})
    assert [response.status_code for response in (inactive, missing, poor)] == [400, 404, 400]
    assert poor.json() == {"success": False, "message": "Insufficient credits"}
    assert sim.starts() == []


def test_tool_run_gives_its_output_by_a_second_request(flowyble: Client, clock: HandClock) -> None:
    body = {"order": {"notes": ['[sim: succeed, duration=4, output="{\\"total\\": 3}"]']}}
    started = flowyble.post(f"/tools/run/{TOOL_ID}", body).json()
    assert started["status"] == "Pending"
    path = f"/tools/run/{started['id']}"
    assert flowyble.read(path + "/status")["statusInt"] == 0
    clock.advance(1)
    running = flowyble.read(path + "/status")
    assert (running["status"], running["statusInt"]) == ("Running", 1)
    assert flowyble.read(path + "/result")["outputData"] is None
    clock.advance(3)
    done = flowyble.read(path + "/status")
    assert (done["status"], done["statusInt"], done["duration"]) == ("Completed", 2, 3600)
    assert "outputData" not in done
    result = flowyble.read(path + "/result")
    assert done.items() <= result.items()
    assert json.loads(result["outputData"]) == {"total": 3}
    assert json.loads(result["inputData"]) == body
    assert json.loads(result["outputSchema"])["type"] == "object"
    assert result["toolName"]


@pytest.mark.parametrize(
    ("scenario", "word"),
    [
        ("succeed", ("Completed", 2)),
        ("fail", ("Failed", 3)),
        ("cancel", ("Cancelled", 4)),
        ("unknown", ("Hibernating", 99)),
    ],
)
def test_tool_status_numbers(
    flowyble: Client, sim: Simulator, clock: HandClock, scenario: str, word: tuple[str, int]
) -> None:
    run_id = sim.create_run("flowyble", kind="tool", scenario=scenario)
    clock.advance(11)
    answer = flowyble.read(f"/tools/run/{run_id}/status")
    assert (answer["status"], answer["statusInt"]) == word


def test_tool_takes_no_body_at_all_but_no_list(flowyble: Client) -> None:
    assert flowyble.post(f"/tools/run/{TOOL_ID}").status_code == 200
    assert flowyble.post(f"/tools/run/{TOOL_ID}", [1]).status_code == 400


class TestWebhook:
    @pytest.mark.parametrize("kind", ["agent", "tool"])
    def test_starts_its_agent_or_tool_without_a_key(
        self, sim: Simulator, flowyble: Client, clock: HandClock, kind: str
    ) -> None:
        response = requests.post(
            f"{sim.url}/webhooks/{kind}-webhook", json={"any": ["[sim: fail]"]}, timeout=5
        )
        body = response.json()
        run_id = body.pop("runId")
        assert body == {"success": True, "type": kind}
        clock.advance(10)
        assert flowyble.read(f"/{kind}s/run/{run_id}/status")["status"] == "Failed"

    def test_wants_a_signature_when_it_has_a_secret(self, sim: Simulator) -> None:
        sim.add_webhook("signed", secret="s3cret")
        url, data = f"{sim.url}/webhooks/signed", b'{"a": 1}'
        signature = hmac.new(b"s3cret", data, hashlib.sha256).hexdigest()
        assert requests.post(url, data=data, timeout=5).status_code == 401
        wrong = requests.post(url, data=data + b" ", headers={"X-Signature": signature}, timeout=5)
        assert wrong.status_code == 401
        right = requests.post(url, data=data, headers={"X-Signature": signature}, timeout=5)
        assert right.status_code == 200

    def test_unknown_token_misconfigured_webhook_and_bad_body(self, sim: Simulator) -> None:
        sim.add_webhook("broken", misconfigured=True)
        base = sim.url + "/webhooks"
        assert requests.post(f"{base}/nobody", json={}, timeout=5).status_code == 404
        assert requests.post(f"{base}/broken", json={}, timeout=5).status_code == 400
        assert requests.post(f"{base}/agent-webhook", data=b"{", timeout=5).status_code == 400

    def test_takes_30_requests_in_any_60_seconds(self, sim: Simulator, clock: HandClock) -> None:
        url = f"{sim.url}/webhooks/agent-webhook"
        with requests.Session() as session:
            statuses = [session.post(url, json={}, timeout=5).status_code for _ in range(31)]
            assert statuses == [200] * 30 + [429]
            clock.advance(60)
            assert session.post(url, json={}, timeout=5).status_code == 200
        assert requests.post(f"{sim.url}/webhooks/tool-webhook", json={}, timeout=5).status_code == 200
