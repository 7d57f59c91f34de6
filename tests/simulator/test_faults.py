from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from airflow_provider_agentruns.simulator import FAULT_KINDS, Simulator
from tests.simulator.clients import AGENT_ID, START_BODY, Client, HandClock, events_of, wait_until

_START = f"/agents/run/{AGENT_ID}"
_MESSAGE = {"userMessage": "hello"}
_SHORT = (10.0, 0.2)  # to wait for an answer that does not come; a connection always does


@pytest.fixture
def status_path(sim: Simulator) -> str:
    return f"/agents/run/{sim.create_run('flowyble')}/status"


def _wait_until_struck(sim: Simulator, kind: str) -> None:
    """A busy machine may see a request after its client has left."""
    wait_until(lambda: any(record.fault == kind for record in sim.requests()))


def test_rate_limit_comes_without_retry_after_or_in_either_form(
    sim: Simulator, flowyble: Client, clock: HandClock, status_path: str
) -> None:
    sim.add_fault("rate_limit", times=1)
    sim.add_fault("rate_limit", times=1, retry_after=7)
    sim.add_fault("rate_limit", times=1, retry_after=90, retry_after_as="date")
    plain, seconds, date = (flowyble.get(status_path) for _ in range(3))
    assert [response.status_code for response in (plain, seconds, date)] == [429] * 3
    assert plain.json()["success"] is False
    assert "Retry-After" not in plain.headers
    assert seconds.headers["Retry-After"] == "7"
    assert parsedate_to_datetime(date.headers["Retry-After"]).timestamp() == clock() + 90
    assert flowyble.get(status_path).status_code == 200


@pytest.mark.parametrize("status", [500, 502, 503])
def test_server_error_has_the_vendors_body(sim: Simulator, snorbe: Client, status: int) -> None:
    sim.add_fault("server_error", status=status)
    response = snorbe.get("/workspace")
    assert response.status_code == status
    assert "error" in response.json()


@pytest.mark.parametrize("status", [200, 502])
def test_html_comes_with_any_status(sim: Simulator, flowyble: Client, status_path: str, status: int) -> None:
    sim.add_fault("html", status=status)
    response = flowyble.get(status_path)
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/html")
    with pytest.raises(requests.JSONDecodeError):
        response.json()


def test_truncated_json_is_a_complete_answer_with_half_a_body(
    sim: Simulator, flowyble: Client, status_path: str
) -> None:
    whole = flowyble.get(status_path).text
    sim.add_fault("truncated_json", times=1)
    response = flowyble.get(status_path)
    assert response.status_code == 200
    assert 0 < len(response.text) < len(whole)
    with pytest.raises(requests.JSONDecodeError):
        response.json()


def test_reset_comes_before_the_answer(sim: Simulator, flowyble: Client, status_path: str) -> None:
    sim.add_fault("reset", times=1)
    with pytest.raises(requests.ConnectionError, match="reset"):
        flowyble.get(status_path)
    assert flowyble.get(status_path).status_code == 200


def test_reset_comes_after_half_of_the_body(sim: Simulator, flowyble: Client, status_path: str) -> None:
    sim.add_fault("reset", times=1, half=True)
    with flowyble.get(status_path, stream=True) as response:
        assert response.status_code == 200
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            assert response.content


def test_latency_answers_late_and_right(sim: Simulator, flowyble: Client, status_path: str) -> None:
    sim.add_fault("latency", times=1, seconds=30)
    with pytest.raises(requests.ReadTimeout):
        flowyble.get(status_path, timeout=_SHORT)
    _wait_until_struck(sim, "latency")
    sim.add_fault("latency", times=1, seconds=0.05)
    assert flowyble.get(status_path).json()["status"] == "Pending"
    assert sim.requests()[-1].fault == "latency"


def test_hang_answers_nothing_until_the_client_leaves(
    sim: Simulator, flowyble: Client, status_path: str
) -> None:
    sim.add_fault("hang", times=1)
    with pytest.raises(requests.ReadTimeout):
        flowyble.get(status_path, timeout=_SHORT)
    _wait_until_struck(sim, "hang")
    (record,) = sim.requests(operation="flowyble.agent.status")
    assert (record.status, record.fault) == (None, "hang")


class TestFilters:
    def test_times_counts_strikes_and_then_the_next_fault_comes(
        self, sim: Simulator, flowyble: Client, status_path: str
    ) -> None:
        sim.add_fault("server_error", status=502, times=2)
        sim.add_fault("server_error", status=503, times=1)
        assert [flowyble.get(status_path).status_code for _ in range(4)] == [502, 502, 503, 200]
        assert [fault.struck for fault in sim.faults()] == [2, 1]

    @pytest.mark.parametrize("kind", ["server_error", "rate_limit", "hang", "reset", "latency"])
    def test_faults_that_are_set_are_listed(self, kind: str, sim: Simulator) -> None:
        sim.add_fault(kind, operation="flowyble.agent.status", times=2)
        [listed] = sim.faults()
        assert (listed.kind, listed.operation, listed.struck) == (kind, "flowyble.agent.status", 0)
        listed.struck = 7
        assert sim.faults()[0].struck == 0, "a copy"

    def test_operation_vendor_and_run_narrow_it(
        self, sim: Simulator, flowyble: Client, snorbe: Client
    ) -> None:
        one, other = sim.create_run("flowyble"), sim.create_run("flowyble")
        sim.add_fault("server_error", operation="flowyble.agent.status", run_id=one)
        sim.add_fault("server_error", vendor="snorbe", status=502)
        paths = [f"/agents/run/{one}/status", f"/agents/run/{other}/status", f"/agents/run/{one}/details"]
        assert [flowyble.get(path).status_code for path in paths] == [500, 200, 200]
        assert snorbe.get("/workspace").status_code == 502

    def test_clear_removes_one_or_all(self, sim: Simulator, flowyble: Client, status_path: str) -> None:
        first = sim.add_fault("server_error", status=502)
        sim.add_fault("server_error", status=503)
        assert sim.clear_faults(first) == 1
        assert flowyble.get(status_path).status_code == 503
        assert sim.clear_faults() == 1
        assert flowyble.get(status_path).status_code == 200


@pytest.mark.parametrize("kind", ["server_error", "html", "rate_limit", "reset", "hang"])
@pytest.mark.parametrize("after_effect", [False, True])
def test_start_is_accepted_only_if_the_fault_strikes_after_its_effect(
    sim: Simulator, flowyble: Client, kind: str, after_effect: bool
) -> None:
    sim.add_fault(kind, operation="flowyble.agent.start", after_effect=after_effect)
    try:
        flowyble.post(_START, _MESSAGE, timeout=_SHORT if kind == "hang" else 10)
    except requests.RequestException:
        assert kind in ("reset", "hang")
    _wait_until_struck(sim, kind)
    assert len(sim.starts()) == (1 if after_effect else 0)
    (record,) = sim.requests(operation="flowyble.agent.start")
    assert record.fault == kind
    assert (record.run_id is not None) is after_effect


@pytest.mark.parametrize("options", [{"kind": "truncated_json"}, {"kind": "reset", "half": True}])
def test_start_whose_answer_is_cut_was_accepted(
    sim: Simulator, flowyble: Client, snorbe: Client, options: dict[str, Any]
) -> None:
    sim.add_fault(**options)
    for client, path, body in ((flowyble, _START, _MESSAGE), (snorbe, "/agent/run/stream", START_BODY)):
        try:
            client.post(path, body)
        except requests.RequestException:
            assert options["kind"] == "reset"
    assert [start.operation for start in sim.starts()] == ["flowyble.agent.start", "snorbe.run.start"]


def test_refused_request_uses_up_no_fault_meant_for_an_accepted_one(sim: Simulator, flowyble: Client) -> None:
    sim.add_fault("server_error", after_effect=True, times=1)
    assert flowyble.post(_START, {}).status_code == 400
    assert flowyble.post(_START, _MESSAGE).status_code == 500


def test_stream_and_blocking_start_lose_their_answers_too(sim: Simulator, snorbe: Client) -> None:
    sim.add_fault("server_error", status=502, vendor="snorbe", after_effect=True)
    assert snorbe.post("/agent/run/stream", START_BODY).status_code == 502
    assert snorbe.post("/agent/run", START_BODY).status_code == 502
    assert len(sim.starts()) == 2
    sim.clear_faults()
    sim.add_fault("latency", seconds=0.01, after_effect=True)
    body = {**START_BODY, "inputText": "[sim: succeed, duration=0]"}
    assert events_of(snorbe.post("/agent/run/stream", body))[-1]["type"] == "complete"


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "explode"},
        {"kind": "hang", "operation": "flowyble.agent.dance"},
        {"kind": "hang", "vendor": "acme"},
        {"kind": "server_error", "status": 404},
        {"kind": "latency", "status": 500},
        {"kind": "latency", "seconds": -1},
        {"kind": "hang", "times": 0},
        {"kind": "truncated_json", "after_effect": False},
        {"kind": "rate_limit", "retry_after": 1, "retry_after_as": "weeks"},
    ],
)
def test_fault_that_makes_no_sense_is_refused(sim: Simulator, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        sim.add_fault(**options)
    assert sim.faults() == []


def test_every_kind_is_tested_here() -> None:
    assert set(FAULT_KINDS) == {
        "rate_limit", "server_error", "latency", "reset", "truncated_json", "html", "hang",
    }  # fmt: skip


def test_stop_cuts_off_what_hangs_and_what_streams(clock: HandClock) -> None:
    with Simulator(clock=clock) as sim:
        snorbe = Client(sim.url + "/api/v1", {"x-api-key": sim.snorbe_key})
        sim.add_fault("hang", operation="snorbe.workspace.get")
        sim.add_fault("latency", operation="snorbe.agent.list", seconds=3600)
        response = snorbe.post("/agent/run/stream", START_BODY, stream=True)
        for path in ("/workspace", "/agent/list"):
            with pytest.raises(requests.ReadTimeout):
                snorbe.get(path, timeout=0.05)
        wait_until(lambda: len(sim.requests()) == 3)
        began = time.monotonic()
    # Not a measurement: an hour of latency or a hang would show.
    assert time.monotonic() - began < 30
    response.close()
    assert len(sim.requests()) == 3
