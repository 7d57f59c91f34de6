"""The object that users' tests hold, and the application it serves."""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest
import requests
from aiohttp.test_utils import TestClient, TestServer

from airflow_provider_agentruns.simulator import (
    OPERATIONS,
    ScenarioError,
    Settings,
    Simulator,
    SimulatorError,
    SimulatorState,
    create_app,
)
from tests.simulator.clients import AGENT_ID, START_BODY, Client, HandClock


def test_starts_on_a_free_port_and_stops() -> None:
    sim = Simulator()
    with pytest.raises(SimulatorError, match="does not run"):
        assert sim.url
    sim.start()
    url = sim.url
    assert requests.get(url + "/simulator/health", timeout=5).ok
    sim.stop()
    sim.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(url + "/simulator/health", timeout=5)


def test_can_be_started_again_and_keeps_its_runs() -> None:
    sim = Simulator()
    with sim:
        run_id = sim.create_run("snorbe", scenario="never")
    assert [run.run_id for run in sim.runs()] == [run_id]
    with sim:
        snorbe = Client(sim.url + "/api/v1", {"x-api-key": sim.snorbe_key})
        assert snorbe.read(f"/agent/run/{run_id}/status")["status"] == "running"


def test_two_of_them_share_nothing() -> None:
    with Simulator() as one, Simulator() as other:
        one.create_run("flowyble")
        assert one.url != other.url
        assert other.runs() == []


def test_port_in_use_is_told_clearly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SimulatorError, match=f"Cannot listen on 127.0.0.1 port {port}"):
            Simulator(port=port).start()


def test_port_that_does_not_exist_is_told_clearly() -> None:
    with pytest.raises(SimulatorError, match=r"Cannot listen on 127\.0\.0\.1 port 99999: .*0-65535"):
        Simulator(port=99_999).start()


def test_start_twice_is_refused() -> None:
    with Simulator() as sim, pytest.raises(SimulatorError, match="runs already"):
        sim.start()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="queued_share"):
        Simulator(queued_share=1.5)
    with pytest.raises(ValueError, match="median_seconds"):
        Simulator(median_seconds=-1)
    with pytest.raises(ScenarioError, match="Unknown scenario 'explode'"):
        Simulator(scenario="explode")


def test_default_scenario_holds_for_runs_that_name_none() -> None:
    with Simulator(scenario="fail, duration=0, error=by default") as sim:
        assert sim.run(sim.create_run("flowyble")).status == "Failed"
        assert sim.run(sim.create_run("snorbe")).status == "failed"
        assert sim.run(sim.create_run("snorbe", scenario="cancel", duration=0)).status == "cancelled"
        assert (
            sim.run(sim.create_run("flowyble", input_text="[sim: succeed, duration=0]")).status == "Completed"
        )


def test_default_wait_is_for_the_vendor_that_has_humans(clock: HandClock) -> None:
    with Simulator(scenario="wait, human=plan", clock=clock) as sim:
        ids = [sim.create_run(vendor) for vendor in ("flowyble", "snorbe")]
        clock.advance(10_000)
        assert [sim.run(run_id).phase for run_id in ids] == ["ended", "waiting"]


def _durations(seed: int) -> list[float]:
    clock = HandClock()
    sim = Simulator(seed=seed, median_seconds=30, sigma=0.6, clock=clock)
    for _ in range(300):
        sim.create_run("flowyble")
    clock.advance(1_000_000)
    return [(run.ended_at or 0) - run.created_at for run in sim.runs()]


def test_durations_are_lognormal_and_repeat_with_the_seed() -> None:
    durations = _durations(seed=1)
    assert durations == _durations(seed=1)
    assert durations != _durations(seed=2)
    assert 25 < statistics.median(durations) < 35
    assert min(durations) > 0
    assert max(durations) > 60


def test_methods_may_be_called_from_many_threads() -> None:
    with Simulator(requests_per_minute=0) as sim, ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: sim.create_run("snorbe"), range(200)))
        assert len(set(ids)) == 200
        assert [len(runs) for runs in pool.map(lambda _: sim.runs(), range(8))] == [200] * 8


def test_errors_reach_the_thread_that_called(sim: Simulator) -> None:
    with pytest.raises(ValueError, match="Unknown vendor"):
        sim.create_run("acme")
    with pytest.raises(ValueError, match="No run"):
        sim.run("nobody")


async def test_application_can_be_served_by_the_users_own_loop() -> None:
    state = SimulatorState(Settings())
    async with TestClient(TestServer(create_app(state))) as client:
        headers = {"X-API-Key": state.settings.flowyble_key}
        url = f"/v1/agents/run/{AGENT_ID}"
        async with client.post(url, json={"userMessage": "hello"}, headers=headers) as response:
            assert response.status == 200
        assert [run.phase for run in state.list_runs()] == ["queued"]


async def test_hundred_streams_at_once(sim: Simulator, clock: HandClock) -> None:
    sim.add_key("snorbe", "second")

    async def follow(session: aiohttp.ClientSession, key: str) -> bytes:
        url, headers = sim.url + "/api/v1/agent/run/stream", {"x-api-key": key}
        async with session.post(url, json=START_BODY, headers=headers) as response:
            return await response.read()

    async with aiohttp.ClientSession() as session:
        following = [
            asyncio.create_task(follow(session, key)) for key in (sim.snorbe_key, "second") for _ in range(50)
        ]
        while len(sim.starts()) < 100:
            await asyncio.sleep(0.01)
        clock.advance(10)
        texts = await asyncio.gather(*following)
    assert all(b'"completed"' in text for text in texts)


def test_every_documented_endpoint_has_a_handler(sim: Simulator) -> None:
    """An endpoint without one would answer 500."""
    everything = Client(sim.url, {"X-API-Key": sim.flowyble_key, "Authorization": f"Bearer {sim.snorbe_key}"})
    assert len(OPERATIONS) == 28
    for operation in OPERATIONS.values():
        path = operation.path.format(runId="cnobody", agentId="nobody", token="nobody")
        assert everything.send(operation.method, path, data=b"{}").status_code < 500
    assert [record.operation for record in sim.requests()] == list(OPERATIONS)


def test_imports_neither_airflow_nor_the_rest_of_the_package() -> None:
    code = (
        "import sys, aiohttp.web\n"
        "of_aiohttp = set(sys.modules)\n"  # some versions load pydantic
        "import airflow_provider_agentruns.simulator.__main__\n"
        "print(*sorted(m for m in set(sys.modules) - of_aiohttp"
        " if m.split('.')[0] in ('airflow', 'requests', 'pydantic')"
        " or m.startswith('airflow_provider_agentruns.') and '.simulator' not in m))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # our own code
    assert done.stdout.strip() == ""
