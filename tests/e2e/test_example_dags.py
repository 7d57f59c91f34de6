"""The example DAGs in a real Airflow: scheduler, executor, triggerer, XComs, everything but the vendors."""

from __future__ import annotations

import pytest

from airflow_provider_agentruns.simulator import Simulator
from demo.standalone import StandaloneAirflow

pytestmark = pytest.mark.e2e

WAIT_AND_CHAIN = "example_agentruns_wait_and_chain"
START_AND_BRANCH = "example_agentruns_start_and_branch"
FAN_OUT = "example_agentruns_fan_out"
TWO_VENDORS = "example_agentruns_two_vendors"

VENDORS = ("flowyble", "snorbe")
QUESTIONS = [
    f'What is {number}? [sim: succeed, duration=1, output="It is {number}."]' for number in (1, 2, 3)
]

vendors = pytest.mark.parametrize("vendor", VENDORS)


@pytest.fixture(scope="module")
def awaited(airflow: StandaloneAirflow) -> dict[str, str]:
    """Return the DAG runs, by vendor, that start a run and wait until a test lets it end."""
    return {
        vendor: airflow.trigger_dag(START_AND_BRANCH, start_conf(vendor, "Wait for me [sim: never]"))
        for vendor in VENDORS
    }


@pytest.fixture(scope="module")
def somebody_elses(simulator: Simulator) -> dict[str, str]:
    """Return runs, by vendor, that no DAG has started and a test lets end."""
    return {vendor: simulator.create_run(vendor, scenario="never") for vendor in VENDORS}


@pytest.fixture(scope="module")
def chained(airflow: StandaloneAirflow, somebody_elses: dict[str, str]) -> dict[str, str]:
    return {
        vendor: airflow.trigger_dag(WAIT_AND_CHAIN, {"conn_id": f"{vendor}_default", "run_id": agent_run_id})
        for vendor, agent_run_id in somebody_elses.items()
    }


@pytest.fixture(scope="module")
def failed(airflow: StandaloneAirflow) -> dict[str, str]:
    message = 'Pay them all [sim: fail, duration=1, error="The bank is closed"]'
    return {vendor: airflow.trigger_dag(START_AND_BRANCH, start_conf(vendor, message)) for vendor in VENDORS}


@pytest.fixture(scope="module")
def fanned_out(airflow: StandaloneAirflow) -> str:
    return airflow.trigger_dag(FAN_OUT, {"questions": QUESTIONS})


@pytest.fixture(scope="module")
def fed(airflow: StandaloneAirflow) -> str:
    return airflow.trigger_dag(TWO_VENDORS, {"topic": 'Owls [sim: succeed, duration=1, output="Owls hoot."]'})


@pytest.fixture(scope="module", autouse=True)
def all_dags_at_once(
    awaited: dict[str, str], chained: dict[str, str], failed: dict[str, str], fanned_out: str, fed: str
) -> None:
    """Start every DAG before the first test waits for one."""


def start_conf(vendor: str, message: str) -> dict[str, object]:
    conf: dict[str, object] = {"conn_id": f"{vendor}_default", "message": message}
    return conf if vendor == "flowyble" else {**conf, "agent_id": ""}


def wait_for_polls(airflow: StandaloneAirflow, simulator: Simulator, agent_run_id: str, count: int) -> None:
    def enough_polls() -> bool | None:
        polls = [
            request
            for request in simulator.requests(run_id=agent_run_id)
            if str(request.operation).endswith(".status")
        ]
        return len(polls) >= count or None

    airflow.wait_until(enough_polls, f"{count} polls of run {agent_run_id}")


def finished_states(airflow: StandaloneAirflow, dag_id: str, run_id: str) -> dict[str, str | None]:
    airflow.wait_for_dag_run(dag_id, run_id)
    return {task.name: task.state for task in airflow.task_instances(dag_id, run_id)}


@vendors
def test_started_run_is_awaited_in_the_triggerer(
    airflow: StandaloneAirflow, simulator: Simulator, vendor: str, awaited: dict[str, str]
) -> None:
    run_id = awaited[vendor]
    airflow.wait_for_task(START_AND_BRANCH, run_id, "answer", state="deferred")
    agent_run_id = airflow.xcom(START_AND_BRANCH, run_id, "answer", "run_id")
    assert simulator.run(agent_run_id).ended_at is None
    assert airflow.xcom(START_AND_BRANCH, run_id, "answer", "agent_run") is None
    # No worker has the task, so it is the triggerer that asks.
    polls_before = len(simulator.requests(run_id=agent_run_id))
    wait_for_polls(airflow, simulator, agent_run_id, polls_before + 1)
    assert [task.state for task in airflow.task_instances(START_AND_BRANCH, run_id)].count("deferred") == 1

    simulator.finish_run(agent_run_id, output="All invoices are paid.")
    states = finished_states(airflow, START_AND_BRANCH, run_id)

    assert states == {"answer": "success", "choose": "success", "publish": "success", "recover": "skipped"}
    published = airflow.xcom(START_AND_BRANCH, run_id, "publish", "return_value")
    assert published == "Published: All invoices are paid."
    assert "AgentRunTrigger" in airflow.task_log(START_AND_BRANCH, run_id, "answer")
    assert [start.run_id for start in simulator.starts()].count(agent_run_id) == 1


@vendors
def test_sensor_defers_until_somebody_elses_run_has_ended(
    airflow: StandaloneAirflow,
    simulator: Simulator,
    vendor: str,
    somebody_elses: dict[str, str],
    chained: dict[str, str],
) -> None:
    agent_run_id, run_id = somebody_elses[vendor], chained[vendor]
    airflow.wait_for_task(WAIT_AND_CHAIN, run_id, "wait", state="deferred")
    wait_for_polls(airflow, simulator, agent_run_id, 1)
    simulator.finish_run(agent_run_id, output="Found it.")
    states = finished_states(airflow, WAIT_AND_CHAIN, run_id)

    assert states == {"wait": "success", "result": "success", "summarize": "success"}
    assert airflow.xcom(WAIT_AND_CHAIN, run_id, "result", "return_value") == "Found it."
    summary = airflow.xcom(WAIT_AND_CHAIN, run_id, "summarize", "return_value")
    assert summary == f"{vendor} run {agent_run_id} succeeded: Found it."


@vendors
def test_failed_run_takes_the_other_branch(
    airflow: StandaloneAirflow, simulator: Simulator, vendor: str, failed: dict[str, str]
) -> None:
    run_id = failed[vendor]
    states = finished_states(airflow, START_AND_BRANCH, run_id)

    assert states == {"answer": "success", "choose": "success", "publish": "skipped", "recover": "success"}
    assert airflow.xcom(START_AND_BRANCH, run_id, "answer", "error_message") == "The bank is closed"
    assert airflow.xcom(START_AND_BRANCH, run_id, "answer", "return_value") is None
    agent_run = airflow.xcom(START_AND_BRANCH, run_id, "answer", "agent_run")
    assert (agent_run["vendor"], agent_run["status"]) == (vendor, "failed")
    assert simulator.run(agent_run["run_id"]).phase == "ended"


def test_fan_out_gathers_every_output_in_order(airflow: StandaloneAirflow, fanned_out: str) -> None:
    run_id = fanned_out
    airflow.wait_for_dag_run(FAN_OUT, run_id)

    gathered = airflow.xcom(FAN_OUT, run_id, "gather", "return_value")
    assert gathered == ["It is 1.", "It is 2.", "It is 3."]
    agent_run_ids = [
        airflow.xcom(FAN_OUT, run_id, "ask", "run_id", map_index=map_index) for map_index in range(3)
    ]
    assert len(set(agent_run_ids) - {None}) == 3
    # One scheduler polls for all three, but each task's log has the lines of its own run.
    for map_index, agent_run_id in enumerate(agent_run_ids):
        log = airflow.task_log(FAN_OUT, run_id, "ask", map_index=map_index)
        assert f"Run {agent_run_id}: status succeeded" in log
        assert not [other for other in agent_run_ids if other != agent_run_id and other in log]


def test_output_of_one_vendor_feeds_the_other(
    airflow: StandaloneAirflow, simulator: Simulator, fed: str
) -> None:
    run_id = fed
    states = finished_states(airflow, TWO_VENDORS, run_id)

    assert set(states.values()) == {"success"}
    writer_run_id = airflow.xcom(TWO_VENDORS, run_id, "write", "run_id")
    assert simulator.run(writer_run_id).input_text == "Write a short post from this: Owls hoot."
    joined = airflow.xcom(TWO_VENDORS, run_id, "join", "return_value")
    assert "Owls hoot." in joined["post"]
    assert "Owls hoot." in joined["facts"]["result"]
    vendors_seen = [
        airflow.xcom(TWO_VENDORS, run_id, task_id, "agent_run")["vendor"]
        for task_id in ("research", "write", "extract")
    ]
    assert vendors_seen == ["snorbe", "flowyble", "flowyble"]
