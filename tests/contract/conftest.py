"""The simulator as both vendors' ContractVendor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_agentruns.client.models import RunRef, RunStatus
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.vendors.base import StartRequest, VendorAdapter
from airflow_provider_agentruns.vendors.registry import get_adapter

AGENT_ID = "5e1b6f0a-3c5d-4f6e-8a7b-0c1d2e3f4a5b"


class Clock:
    """A clock that tests move: no run advances unless they say so."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class SimulatedVendor:
    """One of the simulator's vendors, and one kind of its runs."""

    def __init__(self, conn_type: str, kind: str, simulator: Simulator, clock: Clock) -> None:
        self.adapter: VendorAdapter = get_adapter(conn_type)
        self.kind = kind
        self.simulator = simulator
        self.clock = clock
        key = simulator.flowyble_key if conn_type == "flowyble" else simulator.snorbe_key
        self.settings = ClientSettings(
            base_url=simulator.url, api_key=key, auth_headers=self.adapter.auth_headers(key)
        )
        self.unknown_run = RunRef(run_id="7d0c5f0e-0000-4000-8000-00000000dead", kind=kind)
        if kind == "tool":
            self.start_request = StartRequest(tool_id=AGENT_ID, inputs={"query": "hello"})
        else:
            agent_id = AGENT_ID if conn_type == "flowyble" else None
            self.start_request = StartRequest(agent_id=agent_id, message="Say hello.")

    def create_run(self, status: RunStatus, *, output: str | None = None, error: str | None = None) -> RunRef:
        """Make a run that stands at a status now."""
        options: dict[str, Any] = {"scenario": "succeed", "duration": 1000.0}
        if status is RunStatus.WAITING:
            options["scenario"] = "wait"
        elif status is RunStatus.UNKNOWN:
            options["scenario"] = "unknown"
        vendor = self.adapter.conn_type
        if status is RunStatus.WAITING and vendor == "flowyble":
            raise NotImplementedError
        if status is RunStatus.QUEUED and vendor == "snorbe":
            raise NotImplementedError
        run_id = self.simulator.create_run(vendor, kind=self.kind, **options)
        if status is not RunStatus.QUEUED:
            self.clock.now += 999 if status in {RunStatus.WAITING, RunStatus.UNKNOWN} else 500
        endings = {RunStatus.SUCCEEDED: "succeed", RunStatus.FAILED: "fail", RunStatus.CANCELLED: "cancel"}
        if status in endings:
            self.simulator.finish_run(run_id, scenario=endings[status], output=output, error=error)
        return RunRef(run_id=run_id, kind=self.kind)

    def answer_next(self, fault: str, **details: Any) -> None:
        """Answer the next request with a fault."""
        self.simulator.add_fault(fault, times=1, **details)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def simulator(clock: Clock) -> Iterator[Simulator]:
    """Run a simulator whose time only moves when a test moves it."""
    with Simulator(requests_per_minute=0, clock=clock) as running:
        yield running
