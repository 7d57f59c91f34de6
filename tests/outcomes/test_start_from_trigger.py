"""Sensors that start in the triggerer: what the scheduler is given, and when a worker is needed after all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import DAG, BaseOperator

from airflow_provider_agentruns.deadline import BACKSTOP, Deadline
from airflow_provider_agentruns.sensors import AgentRunSensor
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.triggers import AgentRunTrigger
from tests.features import START_IN_TRIGGERER

from .task_runs import TaskInstance, run_task

NOW = 1_800_000_000.0


def _sensor(run_id: Any, **kwargs: Any) -> AgentRunSensor:
    return AgentRunSensor(
        task_id="t", conn_id="snorbe_test", run_id=run_id, start_from_trigger=True, **kwargs
    )


@START_IN_TRIGGERER.needed
@pytest.mark.parametrize(
    "run_id", ["r1", "{{ params.run_id }}", "{{ dag_run.conf['id'] }}", "{{ params.x if run_id else 'y' }}"]
)
def test_what_a_triggerer_can_render_starts_there(run_id: str) -> None:
    sensor = _sensor(run_id, timeout=60, poke_interval=3)
    assert sensor.start_from_trigger is True
    args = sensor.start_trigger_args
    assert args is not None
    assert args.trigger_kwargs == {
        "conn_id": "snorbe_test",
        "run_id": run_id,
        "run_kind": None,
        "poll_interval": 3.0,
        "stall_timeout": None,
        "human_policies": None,
        "timeout": 60.0,
        "execution_timeout": None,
    }
    assert (args.next_method, args.timeout) == ("execute_complete", timedelta(seconds=60) + BACKSTOP)
    AgentRunTrigger(**args.trigger_kwargs)


@pytest.mark.parametrize(
    "run_id",
    ["{{ ti.xcom_pull('a') }}", "{{ prev_start_date_success }}", "{{ var.value.x }}", "{{ broken", 7],
)
def test_what_a_triggerer_cannot_render_needs_a_worker(run_id: Any) -> None:
    sensor = _sensor(run_id)
    assert sensor.start_from_trigger is False
    assert sensor.deferrable is True


@START_IN_TRIGGERER.needed
def test_a_tasks_output_is_pulled_by_its_map_index() -> None:
    """Without one Airflow 3.3.2 asks what a triggerer's supervisor does not understand."""
    with DAG("d", schedule=None):
        upstream = BaseOperator(task_id="up")
        output: Any = upstream.output
        sensor = _sensor(output["id"])
        mapped: Any = BaseOperator.partial(task_id="mapped").expand(doc=["a", "b"])
        after_mapped = AgentRunSensor(
            task_id="m",
            conn_id="c",
            run_id=mapped.output,
            start_from_trigger=True,
        )
    args = sensor.start_trigger_args
    assert args is not None
    assert args.trigger_kwargs is not None
    template = "{{ task_instance.xcom_pull('up', key='id', map_indexes=-1) }}"
    assert args.trigger_kwargs["run_id"] == template
    assert sensor.upstream_task_ids == {"up"}
    assert after_mapped.start_from_trigger is False


def test_it_is_off_unless_asked_for() -> None:
    sensor = AgentRunSensor(task_id="t", conn_id="c", run_id="r1", deferrable=True)
    assert sensor.start_from_trigger is False
    assert sensor.start_trigger_args is None


def test_a_worker_that_runs_it_all_the_same_says_so_and_defers(
    simulator: Simulator, connections: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = simulator.create_run("snorbe", duration=0)
    outcome = run_task(_sensor(run_id))
    assert outcome.error is None
    assert len(outcome.deferrals) == 1
    assert "start_from_trigger has no effect" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("scenario", "outcome", "left"), [("succeed", "ended", 30.0), ("never", "timed_out", 0.3)]
)
def test_the_trigger_keeps_the_deadline_that_the_database_gives(
    scenario: str,
    outcome: str,
    left: float,
    simulator: Simulator,
    connections: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_agentruns.vendor_trigger._LAST_POLL", 0.2)
    run_id = simulator.create_run("snorbe", scenario=scenario, duration=0.1)
    trigger = AgentRunTrigger(conn_id=connections["snorbe"], run_id=run_id, timeout=60, poll_interval=0.02)
    began = datetime.now(UTC) - timedelta(seconds=60 - left)
    trigger.timeout_after = began + timedelta(seconds=60) + BACKSTOP  # type: ignore[attr-defined]

    async def payload() -> Any:
        return [event.payload async for event in trigger.run()]

    [event] = asyncio.run(payload())
    assert event["outcome"] == outcome
    assert event["since"] == pytest.approx(began.timestamp(), abs=0.01)
    assert event["end_time"] == pytest.approx(began.timestamp() + 60, abs=0.01)
    ti = TaskInstance("t")
    sensor = _sensor(run_id)
    if outcome == "ended":
        sensor.execute_complete({"ti": ti}, event)  # type: ignore[typeddict-item]
        assert ti.xcoms["run_id"] == run_id


def test_an_event_of_another_run_ends_no_wait(simulator: Simulator, connections: dict[str, str]) -> None:
    run_id = simulator.create_run("snorbe", scenario="never")
    event = {"outcome": "ended", "run_id": "r2", "run_kind": None, "status": "succeeded", "end_time": 9e9}
    ti = TaskInstance("t")
    with pytest.raises(TaskDeferred) as deferred:
        _sensor(run_id).execute_complete({"ti": ti}, event)  # type: ignore[typeddict-item]
    assert deferred.value.trigger.serialize()[1]["run_id"] == run_id
    assert ti.xcoms == {}


@pytest.mark.parametrize(
    ("execution_timeout", "lasts", "ends"),
    [
        (None, 660.0, 60.0),
        (3600.0, 660.0, 60.0),
        (30.0, 30.0, 27.0),
        (200.0, 200.0, 60.0),
        (61.0, 61.0, 54.9),
    ],
)
def test_the_deadline_comes_before_the_time_at_which_airflow_ends_the_task(
    execution_timeout: float | None, lasts: float, ends: float
) -> None:
    """Airflow would ask nobody, and nothing would name the run."""
    timeout_after = datetime.fromtimestamp(NOW + lasts, UTC)
    deadline = Deadline.of(timeout_after, 60.0, execution_timeout)
    assert deadline == pytest.approx((NOW, NOW + ends))
