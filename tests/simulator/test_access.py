"""Keys, accounts, limits, and paths that nobody documents."""

from __future__ import annotations

import json

import pytest

from airflow_provider_agentruns.simulator import Simulator
from tests.simulator.clients import AGENT_ID, START_BODY, Client, HandClock


def _client(sim: Simulator, vendor: str, key: str | None) -> Client:
    if vendor == "flowyble":
        return Client(sim.url + "/v1", {"X-API-Key": key} if key is not None else {})
    return Client(sim.url + "/api/v1", {"Authorization": f"Bearer {key}"} if key is not None else {})


_PATHS = {"flowyble": f"/agents/run/{AGENT_ID}/status", "snorbe": "/agent/run/cnobody/status"}


@pytest.mark.parametrize("vendor", _PATHS)
@pytest.mark.parametrize("key", [None, "", "wrong"])
def test_missing_or_wrong_key_is_401(sim: Simulator, vendor: str, key: str | None) -> None:
    response = _client(sim, vendor, key).get(_PATHS[vendor])
    assert response.status_code == 401
    if vendor == "flowyble":
        assert response.json()["success"] is False
    else:
        assert response.json()["error"] == "UNAUTHORIZED"


def test_snorbe_takes_the_key_in_either_header(sim: Simulator) -> None:
    for headers in (
        {"Authorization": f"Bearer {sim.snorbe_key}"},
        {"authorization": f"bearer {sim.snorbe_key}"},
        {"x-api-key": sim.snorbe_key},
    ):
        assert Client(sim.url + "/api/v1", headers).get("/workspace").status_code == 200


def test_key_of_one_vendor_does_not_open_the_other(sim: Simulator) -> None:
    assert _client(sim, "flowyble", sim.snorbe_key).get(_PATHS["flowyble"]).status_code == 401
    assert _client(sim, "snorbe", sim.flowyble_key).get(_PATHS["snorbe"]).status_code == 401


@pytest.mark.parametrize("vendor", _PATHS)
def test_key_whose_plan_has_no_api_access_is_403(sim: Simulator, vendor: str) -> None:
    sim.add_key(vendor, "poor", api_access=False)
    assert _client(sim, vendor, "poor").get(_PATHS[vendor]).status_code == 403


@pytest.mark.parametrize("vendor", _PATHS)
def test_revoked_key_is_401_and_a_second_one_goes_on_working(sim: Simulator, vendor: str) -> None:
    sim.add_key(vendor, "second")
    sim.revoke_key(vendor, sim.flowyble_key if vendor == "flowyble" else sim.snorbe_key)
    old = sim.flowyble_key if vendor == "flowyble" else sim.snorbe_key
    assert _client(sim, vendor, old).get(_PATHS[vendor]).status_code == 401
    assert _client(sim, vendor, "second").get(_PATHS[vendor]).status_code == 404


def test_keys_see_the_runs_of_their_own_account_only(
    sim: Simulator, flowyble: Client, snorbe: Client
) -> None:
    sim.add_key("flowyble", "theirs", account="theirs")
    sim.add_key("snorbe", "theirs", account="theirs")
    flowyble_run = sim.create_run("flowyble", account="theirs")
    snorbe_run = sim.create_run("snorbe", account="theirs")
    assert flowyble.get(f"/agents/run/{flowyble_run}/status").status_code == 404
    assert snorbe.get(f"/agent/run/{snorbe_run}/status").status_code == 404
    assert snorbe.get(f"/agent/run/{snorbe_run}").json() is None
    assert snorbe.read("/turn/list")["turns"] == []
    theirs = _client(sim, "snorbe", "theirs")
    assert theirs.read(f"/agent/run/{snorbe_run}/status")["id"] == snorbe_run
    assert theirs.read("/workspace") != snorbe.read("/workspace")


@pytest.mark.parametrize("vendor", _PATHS)
def test_key_may_send_100_requests_in_any_60_seconds(sim: Simulator, clock: HandClock, vendor: str) -> None:
    sim.add_key(vendor, "busy")
    busy = _client(sim, vendor, "busy")

    def statuses(count: int) -> list[int]:
        return [busy.get(_PATHS[vendor]).status_code for _ in range(count)]

    assert statuses(40) == [404] * 40
    clock.advance(30)
    assert statuses(61) == [404] * 60 + [429]
    clock.advance(29.9)
    assert statuses(1) == [429]
    clock.advance(0.1)
    assert statuses(41) == [404] * 40 + [429]


def test_limit_is_counted_per_key_and_per_vendor(sim: Simulator, flowyble: Client, snorbe: Client) -> None:
    for _ in range(100):
        flowyble.get(_PATHS["flowyble"])
    sim.add_key("flowyble", "second")
    assert flowyble.get(_PATHS["flowyble"]).status_code == 429
    assert _client(sim, "flowyble", "second").get(_PATHS["flowyble"]).status_code == 404
    assert snorbe.get(_PATHS["snorbe"]).status_code == 404


def test_429_has_the_documented_body_and_no_retry_after() -> None:
    with Simulator(requests_per_minute=1) as sim:
        for vendor, expected in (
            ("flowyble", {"success": False}),
            ("snorbe", {"error": "TOO_MANY_REQUESTS"}),
        ):
            client = _client(sim, vendor, sim.flowyble_key if vendor == "flowyble" else sim.snorbe_key)
            client.get(_PATHS[vendor])
            response = client.get(_PATHS[vendor])
            assert response.status_code == 429
            assert "Retry-After" not in response.headers
            assert expected.items() <= response.json().items()


def test_limit_can_be_lifted() -> None:
    with Simulator(requests_per_minute=0) as sim:
        client = _client(sim, "flowyble", sim.flowyble_key)
        assert {client.get(_PATHS["flowyble"]).status_code for _ in range(150)} == {404}


def test_only_registered_agents_exist_when_told_so() -> None:
    with Simulator(registered_agents_only=True) as sim:
        flowyble = _client(sim, "flowyble", sim.flowyble_key)
        assert flowyble.post(f"/agents/run/{AGENT_ID}", {"userMessage": "x"}).status_code == 404
        sim.add_agent("flowyble", AGENT_ID)
        assert flowyble.post(f"/agents/run/{AGENT_ID}", {"userMessage": "x"}).status_code == 200
        snorbe = _client(sim, "snorbe", sim.snorbe_key)
        assert snorbe.post("/agent/run/stream", {**START_BODY, "agentId": "cx"}).status_code == 404


@pytest.mark.parametrize(
    ("vendor", "method", "path", "status"),
    [
        ("flowyble", "GET", "/agents", 404),
        ("flowyble", "DELETE", "/agents/run/5e1b6f0a-3c5d-4f6e-8a7b-0c1d2e3f4a5b/status", 405),
        ("snorbe", "POST", "/agent/run/cx/cancel", 404),
        ("snorbe", "PUT", "/workspace", 405),
    ],
)
def test_undocumented_request_is_refused_in_the_vendors_words_and_logged(
    sim: Simulator, vendor: str, method: str, path: str, status: int
) -> None:
    key = sim.flowyble_key if vendor == "flowyble" else sim.snorbe_key
    response = _client(sim, vendor, key).send(method, path)
    assert response.status_code == status
    assert ("success" if vendor == "flowyble" else "error") in response.json()
    (record,) = sim.requests(vendor=vendor)
    assert (record.operation, record.method, record.status) == (None, method, status)
    assert record.path.endswith(path)


def test_request_log_names_operation_run_and_key_hash(
    sim: Simulator, flowyble: Client, snorbe: Client, control: Client
) -> None:
    run_id = flowyble.post(f"/agents/run/{AGENT_ID}", {"userMessage": "hello"}).json()["id"]
    flowyble.get(f"/agents/run/{run_id}/status")
    snorbe.get("/workspace")
    start, status, workspace = sim.requests()
    assert [start.sequence, status.sequence, workspace.sequence] == [1, 2, 3]
    assert (start.operation, start.run_id, start.status) == ("flowyble.agent.start", run_id, 200)
    assert (status.operation, status.run_id) == ("flowyble.agent.status", run_id)
    assert status.key_hash == start.key_hash != workspace.key_hash
    assert sim.requests(operation="snorbe.workspace.get") == [workspace]
    assert sim.requests(run_id=run_id, vendor="flowyble") == [start, status]
    assert control.read("/requests?operation=snorbe.workspace.get")["requests"][0]["sequence"] == 3


def test_keys_and_tokens_are_in_no_log(
    sim: Simulator, control: Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    secrets = ["flw_key_LEAKED", "snorbe_LEAKED", "token_LEAKED", "value_LEAKED"]
    sim.add_key("flowyble", secrets[0])
    sim.add_key("snorbe", secrets[1])
    sim.add_webhook(secrets[2], secret="sign_LEAKED")
    # The test's own client writes the paths it asks for; Airflow before 3.1 prints them.
    with caplog.at_level("DEBUG"), caplog.at_level("INFO", logger="urllib3"):
        _client(sim, "flowyble", secrets[0]).get(_PATHS["flowyble"])
        _client(sim, "flowyble", "unknown_LEAKED").get(_PATHS["flowyble"])
        _client(sim, "snorbe", secrets[1]).post("/secret", {"key": "A", "value": secrets[3]})
        Client(sim.url + "/webhooks", {}).post(f"/{secrets[2]}", {})
        Client(sim.url + "/webhooks", {}).get(f"/{secrets[2]}")
        Client(sim.url + "/webhooks", {}).post(f"/{secrets[2]}/more", {})
    written = json.dumps([control.read("/requests"), control.read("/starts"), control.read("/runs")])
    own_logs = [record.getMessage() for record in caplog.records]
    out, err = capfd.readouterr()
    for place in (written, repr(sim), repr(sim.requests()), str(own_logs), out, err):
        assert "LEAKED" not in place
