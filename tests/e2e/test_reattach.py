"""Retries and clears in a real Airflow: the simulator's log of starts is the judge."""

from __future__ import annotations

import pytest

from airflow_provider_agentruns.simulator import Simulator
from demo.standalone import StandaloneAirflow

pytestmark = pytest.mark.e2e

RETRIED = "e2e_retried"


SLOW = "Take your time. [sim: never]"
QUICK = 'Be quick. [sim: succeed, duration=1, output="Here."]'


@pytest.fixture(scope="module")
def dag_runs(airflow: StandaloneAirflow) -> dict[str, str]:
    """Start the DAG runs of both tests at once."""
    return {message: airflow.trigger_dag(RETRIED, {"message": message}) for message in (SLOW, QUICK)}


def _starts(simulator: Simulator, message: str) -> list[str | None]:
    runs = {run.run_id for run in simulator.runs() if run.input_text == message}
    return [start.run_id for start in simulator.starts() if start.run_id in runs]


def test_a_retry_surfaces_the_run_that_the_first_try_started(
    airflow: StandaloneAirflow, simulator: Simulator, dag_runs: dict[str, str]
) -> None:
    """The first try's time is over before the run's."""
    run_id = dag_runs[SLOW]

    def second_try_waits() -> bool | None:
        [task] = airflow.task_instances(RETRIED, run_id)
        return (task.try_number == 2 and task.state == "deferred") or None

    airflow.wait_until(second_try_waits, "the second try to wait")
    simulator.finish_run(_starts(simulator, SLOW)[0] or "", output="At last.")
    airflow.wait_for_dag_run(RETRIED, run_id)
    [task] = airflow.task_instances(RETRIED, run_id)
    assert task.state == "success"
    assert airflow.xcom(RETRIED, run_id, "answer", "return_value") == "At last."
    [started] = _starts(simulator, SLOW)
    assert airflow.xcom(RETRIED, run_id, "answer", "run_id") == started
    assert "which an earlier try started" in airflow.task_log(RETRIED, run_id, "answer", try_number=2)


def test_a_task_that_was_cleared_starts_anew(
    airflow: StandaloneAirflow, simulator: Simulator, dag_runs: dict[str, str]
) -> None:
    run_id = dag_runs[QUICK]
    airflow.wait_for_dag_run(RETRIED, run_id)
    airflow.clear_task(RETRIED, run_id, "answer")
    airflow.wait_until(lambda: len(_starts(simulator, QUICK)) == 2 or None, "a second start")
    airflow.wait_for_dag_run(RETRIED, run_id)
    assert airflow.xcom(RETRIED, run_id, "answer", "run_id") == _starts(simulator, QUICK)[1]
