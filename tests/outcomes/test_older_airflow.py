"""What the package does where Airflow lacks something, which is feigned, so that any Airflow will do."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
from airflow.providers.common.compat.sdk import Context

from airflow_provider_agentruns.sensors import AgentRunSensor


def test_without_retry_policies_the_import_of_ours_says_which_airflow_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = ModuleType("airflow.providers.common.compat.sdk")
    older.Context = Context  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, older.__name__, older)
    monkeypatch.delitem(sys.modules, "airflow_provider_agentruns.retry_policy", raising=False)
    with pytest.raises(
        ImportError, match=r"AgentRunRetryPolicy needs Airflow 3\.3 or newer, and this is 3\."
    ):
        importlib.import_module("airflow_provider_agentruns.retry_policy")


def test_where_a_triggerer_renders_no_templates_a_worker_defers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_agentruns.start_from_trigger._RENDERS_TEMPLATES", False)
    sensor = AgentRunSensor(task_id="t", conn_id="c", run_id="r1", start_from_trigger=True)
    assert (sensor.start_from_trigger, sensor.deferrable) == (False, True)
