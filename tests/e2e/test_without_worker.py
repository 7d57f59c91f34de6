"""Sensors that the scheduler hands to the triggerer without starting a worker."""

from __future__ import annotations

import pytest

from airflow_provider_agentruns.simulator import Simulator
from demo.standalone import StandaloneAirflow

pytestmark = pytest.mark.e2e

DAG = "e2e_without_worker"
# What each process that Airflow starts for a task logs first.
WORKER_STARTED = "DAG bundles loaded"


@pytest.fixture(scope="module")
def dag_run(airflow: StandaloneAirflow, simulator: Simulator) -> tuple[str, list[str]]:
    """Run the DAG on two runs that go on for some seconds; return its run id and theirs.

    No worker asks how they stand before it defers, so it makes no difference if they have ended by then.
    """
    runs = [simulator.create_run("flowyble", duration=4) for _ in range(2)]
    run_id = airflow.trigger_dag(DAG, {"run_ids": runs})
    airflow.wait_for_dag_run(DAG, run_id)
    return run_id, runs


@pytest.mark.parametrize(
    ("task_id", "workers"),
    [("by_worker", 2), ("by_param", 1), ("by_conf", 1), ("by_xcom", 1), ("by_pull", 2)],
)
def test_a_sensor_that_starts_in_the_triggerer_takes_one_worker_instead_of_two(
    task_id: str, workers: int, airflow: StandaloneAirflow, dag_run: tuple[str, list[str]]
) -> None:
    """A template that a triggerer cannot render is left to a worker."""
    run_id, runs = dag_run
    states = {task.task_id: task.state for task in airflow.task_instances(DAG, run_id)}
    log = airflow.task_log(DAG, run_id, task_id, try_number=1)
    assert states[task_id] == "success", log
    assert log.count(WORKER_STARTED) == workers, log
    assert ("start_from_trigger has no effect" in log) is (task_id == "by_pull")
    assert airflow.xcom(DAG, run_id, task_id, "run_id") == runs[0]


def test_a_mapped_sensor_says_that_it_needs_a_worker(
    airflow: StandaloneAirflow, dag_run: tuple[str, list[str]]
) -> None:
    run_id, runs = dag_run
    for map_index, expected in enumerate(runs):
        log = airflow.task_log(DAG, run_id, "mapped", try_number=1, map_index=map_index)
        assert "start_from_trigger has no effect on a mapped task" in log
        assert airflow.xcom(DAG, run_id, "mapped", "run_id", map_index=map_index) == expected


def test_a_bad_run_id_rendered_in_the_triggerer_fails_the_task_with_its_reason(
    airflow: StandaloneAirflow, dag_run: tuple[str, list[str]]
) -> None:
    run_id, _ = dag_run
    states = {task.task_id: task.state for task in airflow.task_instances(DAG, run_id)}
    log = airflow.task_log(DAG, run_id, "by_bad_id", try_number=1)
    assert states["by_bad_id"] == "failed"
    assert log.count(WORKER_STARTED) == 1
    assert "holds characters that a run id cannot have" in log


def test_a_sensor_for_many_takes_the_output_of_a_mapped_task(
    airflow: StandaloneAirflow, dag_run: tuple[str, list[str]]
) -> None:
    run_id, runs = dag_run
    assert airflow.xcom(DAG, run_id, "many", "return_value") == runs
    table = [{"run_id": each, "status": "succeeded"} for each in runs]
    assert airflow.xcom(DAG, run_id, "many", "agent_runs") == table
