"""Fixtures of the tests about humans."""

from __future__ import annotations

import pytest
from airflow.sdk.execution_time import task_runner

from airflow_provider_agentruns import draft_acceptance, hitl, human_requests, wait_operator

from .task_runs import HumanInTheLoop


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> HumanInTheLoop:
    """Answer as Airflow's supervisor does."""
    supervisor = HumanInTheLoop()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(human_requests, "_SHORTEST_PAUSE", 0.05)
    monkeypatch.setattr(draft_acceptance, "VENDOR_PAUSE", 0.05)
    monkeypatch.setattr(wait_operator, "VENDOR_PAUSE", 0.05)
    monkeypatch.setattr(hitl, "_TRIGGER_ENDS", 0.05)
