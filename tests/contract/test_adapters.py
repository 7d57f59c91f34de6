"""The vendors keep the adapter contract, over real HTTP, through both clients."""

from __future__ import annotations

import pytest

from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.testing import AdapterContract
from tests.e2e.cancellable.cancellable_vendor import CancellableAdapter

from .conftest import Clock, SimulatedVendor


class TestFlowybleAgents(AdapterContract):
    @pytest.fixture
    def vendor(self, simulator: Simulator, clock: Clock) -> SimulatedVendor:
        return SimulatedVendor("flowyble", "agent", simulator, clock)


class TestFlowybleTools(AdapterContract):
    @pytest.fixture
    def vendor(self, simulator: Simulator, clock: Clock) -> SimulatedVendor:
        return SimulatedVendor("flowyble", "tool", simulator, clock)


class TestSnorbe(AdapterContract):
    @pytest.fixture
    def vendor(self, simulator: Simulator, clock: Clock) -> SimulatedVendor:
        return SimulatedVendor("snorbe", "agent", simulator, clock)


class FlowybleThatCancels(CancellableAdapter):
    conn_type = "flowyble"
    display_name = "Flowyble"


class TestVendorThatCancels(AdapterContract):
    @pytest.fixture
    def vendor(self, simulator: Simulator, clock: Clock) -> SimulatedVendor:
        vendor = SimulatedVendor("flowyble", "agent", simulator, clock)
        vendor.adapter = FlowybleThatCancels()
        return vendor
