"""What a task does with each way a run or a poll can turn out: one table, both modes, both classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)
from airflow.sdk import BaseOperator

from airflow_provider_agentruns.exceptions import (
    AgentRunCancelled,
    AgentRunException,
    AgentRunFailed,
    AgentRunRefused,
    AgentRunTimeout,
)
from airflow_provider_agentruns.operators import AgentRunResultOperator
from airflow_provider_agentruns.sensors import AgentRunSensor
from airflow_provider_agentruns.simulator import Simulator

from .task_runs import MODES, Outcome, run_task

POLL = 0.02
NO_SUCH_RUN = {"flowyble": "7d0c5f0e-0000-4000-8000-00000000dead", "snorbe": "clnosuchrun"}
STATUS = {"flowyble": "flowyble.agent.status", "snorbe": "snorbe.run.status"}


@dataclass(frozen=True)
class Row:
    """
    One row of the table.

    :param arrange: makes the run at a vendor, sets faults, and returns its id.
    :param error: what an operator fails with, None if it succeeds.
    :param sensor_error: what a sensor fails with.
    :param said: what the error says.
    """

    name: str
    arrange: Callable[[Simulator, str], str]
    error: type[Exception] | None = None
    sensor_error: type[Exception] | None = None
    said: str = ""
    timeout: float = 30.0

    def __str__(self) -> str:
        return self.name


def _run(**scenario: Any) -> Callable[[Simulator, str], str]:
    return lambda simulator, vendor: simulator.create_run(vendor, **{"duration": 0.1, **scenario})


def _fault(kind: str, **details: Any) -> Callable[[Simulator, str], str]:
    def arrange(simulator: Simulator, vendor: str) -> str:
        simulator.add_fault(kind, operation=STATUS[vendor], **{"times": 3, **details})
        return simulator.create_run(vendor, scenario="succeed", duration=0.1, output="all done")

    return arrange


def _revoked_key(simulator: Simulator, vendor: str) -> str:
    run_id = simulator.create_run(vendor)
    simulator.revoke_key(vendor, simulator.flowyble_key if vendor == "flowyble" else simulator.snorbe_key)
    return run_id


TABLE = [
    Row("succeeded", _run(scenario="succeed", output="all done")),
    Row(
        "failed",
        _run(scenario="fail", error="the page is gone"),
        AgentRunFailed,
        AgentRunFailed,
        "the page is gone",
    ),
    Row("cancelled", _run(scenario="cancel"), AgentRunCancelled, AgentRunCancelled, "cancelled"),
    Row(
        "unknown status until the deadline",
        _run(scenario="unknown", status="Hibernating"),
        AgentRunTimeout,
        AirflowSensorTimeout,
        "'Hibernating'",
        timeout=0.6,
    ),
    Row(
        "deadline passed",
        _run(scenario="never"),
        AgentRunTimeout,
        AirflowSensorTimeout,
        "running",
        timeout=0.4,
    ),
    Row("key refused", _revoked_key, AgentRunRefused, AgentRunRefused, "HTTP 401"),
    Row("no access", _fault("html", status=403), AgentRunRefused, AgentRunRefused, "HTTP 403"),
    Row(
        "no such run",
        lambda _, vendor: NO_SUCH_RUN[vendor],
        AgentRunRefused,
        AgentRunRefused,
        "HTTP 404",
    ),
    Row("run id refused by the vendor", _fault("html", status=400), AgentRunRefused, AgentRunRefused, "400"),
    Row("429 with Retry-After", _fault("rate_limit", retry_after=0.1, times=1)),
    Row("429 with a date", _fault("rate_limit", retry_after=0, retry_after_as="date", times=1)),
    Row("500", _fault("server_error", status=500)),
    Row("503", _fault("server_error", status=503)),
    Row("HTML page of a proxy", _fault("html", status=502)),
    Row("HTML page with 200", _fault("html", status=200)),
    Row("truncated JSON", _fault("truncated_json")),
    Row("connection reset", _fault("reset")),
    Row("connection reset in the middle", _fault("reset", half=True)),
]
TERMINAL = {"failed", "cancelled"}

table = pytest.mark.parametrize("row", TABLE, ids=str)
modes = pytest.mark.parametrize("mode", MODES)
vendors = pytest.mark.parametrize("vendor", ["flowyble", "snorbe"])


def _operator(conn_id: str, run_id: str, mode: str, row: Row | None = None, **kwargs: Any) -> BaseOperator:
    return AgentRunResultOperator(
        task_id="t",
        conn_id=conn_id,
        run_id=run_id,
        poll_interval=POLL,
        timeout=row.timeout if row else 30,
        deferrable=mode == "deferred",
        **kwargs,
    )


def _sensor(conn_id: str, run_id: str, mode: str, row: Row | None = None, **kwargs: Any) -> BaseOperator:
    return AgentRunSensor(
        task_id="t",
        conn_id=conn_id,
        run_id=run_id,
        poke_interval=POLL,
        timeout=row.timeout if row else 30,
        deferrable=mode == "deferred",
        **kwargs,
    )


def _check_waited_in(outcome: Outcome, mode: str) -> None:
    assert len(outcome.deferrals) == (1 if mode == "deferred" else 0)


@vendors
@modes
@table
def test_operator(
    row: Row, mode: str, vendor: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    """The operator surfaces an output, or pushes the error and fails naming run and connection."""
    run_id = row.arrange(simulator, vendor)
    outcome = run_task(_operator(connections[vendor], run_id, mode, row))
    _check_waited_in(outcome, mode)
    assert outcome.ti.pushed[0] == "run_id", "the run id is pushed before waiting"
    assert outcome.xcoms["run_id"] == run_id
    if row.error is None:
        assert outcome.error is None
        assert outcome.value == "all done"
        assert "error_message" not in outcome.xcoms
    else:
        assert type(outcome.error) is row.error
        assert isinstance(outcome.error, AgentRunException)
        assert outcome.error.run_id == run_id
        for text in (run_id, connections[vendor], row.said):
            assert text in str(outcome.error)
    if row.error is None or row.name in TERMINAL:
        summary = outcome.xcoms["agent_run"]
        assert (summary["vendor"], summary["run_id"]) == (vendor, run_id)
        assert summary["status"] == (row.name if row.error else "succeeded")
        assert "output" not in summary
        assert "process" not in summary
    if row.name in TERMINAL:
        assert row.said in outcome.xcoms["error_message"].lower()


@vendors
@modes
@table
def test_sensor(row: Row, mode: str, vendor: str, simulator: Simulator, connections: dict[str, str]) -> None:
    """The sensor succeeds with the run, or fails naming run and connection."""
    run_id = row.arrange(simulator, vendor)
    outcome = run_task(_sensor(connections[vendor], run_id, mode, row))
    _check_waited_in(outcome, mode)
    assert outcome.xcoms == {"run_id": run_id}
    if row.sensor_error is None:
        assert outcome.error is None
        return
    assert isinstance(outcome.error, row.sensor_error)
    for text in (run_id, connections[vendor], row.said):
        assert text in str(outcome.error)
    if row.sensor_error is not AirflowSensorTimeout:
        assert isinstance(outcome.error, AirflowFailException), "asking again would not help"


@modes
@table
def test_soft_fail_skips_what_would_fail(
    row: Row, mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    """With soft_fail a sensor skips in both modes, whatever it would have failed with."""
    run_id = row.arrange(simulator, "flowyble")
    outcome = run_task(_sensor(connections["flowyble"], run_id, mode, row, soft_fail=True))
    if row.sensor_error is None:
        assert outcome.error is None
    else:
        assert isinstance(outcome.error, AirflowSkipException)


@vendors
@modes
@pytest.mark.parametrize("scenario", ["fail", "cancel"])
def test_without_fail_on_error_downstream_reads_the_error(
    scenario: str, mode: str, vendor: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    """With fail_on_error=False the task succeeds without a value, and error_message tells why."""
    run_id = simulator.create_run(vendor, scenario=scenario, duration=0.1)
    outcome = run_task(_operator(connections[vendor], run_id, mode, fail_on_error=False))
    assert outcome.error is None
    assert outcome.value is None
    assert outcome.xcoms["error_message"]
    assert outcome.xcoms["agent_run"]["status"] in {"failed", "cancelled"}
