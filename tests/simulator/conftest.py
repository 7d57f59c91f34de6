"""A simulator whose clock stands still, and a client for each vendor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_agentruns.simulator import Simulator
from tests.simulator.clients import Client, HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def sim(clock: HandClock) -> Iterator[Simulator]:
    """Run a simulator in which every run lasts 10 s, the first of them queued, by the test's clock."""
    with Simulator(median_seconds=10, sigma=0, queued_share=0.1, clock=clock) as running:
        yield running


@pytest.fixture
def flowyble(sim: Simulator) -> Client:
    return Client(sim.url + "/v1", {"X-API-Key": sim.flowyble_key})


@pytest.fixture
def snorbe(sim: Simulator) -> Client:
    return Client(sim.url + "/api/v1", {"Authorization": f"Bearer {sim.snorbe_key}"})


@pytest.fixture
def control(sim: Simulator) -> Client:
    return Client(sim.url + "/simulator", {})
