"""A run's question is answered from Airflow, through the REST API as the UI does it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from airflow_provider_agentruns.simulator import Simulator
from demo.standalone import StandaloneAirflow

pytestmark = pytest.mark.e2e

REVIEW = "example_agentruns_review"
MESSAGE = 'Compare suppliers. [sim: wait, human=plan+report, duration=2, output="# Report\n\nSteel is dear."]'


@pytest.fixture(scope="module")
def reviews(airflow: StandaloneAirflow) -> Iterator[str]:
    """Start the DAG runs of all tests at once, one for each to take."""
    return iter([airflow.trigger_dag(REVIEW, {"message": MESSAGE}) for _ in range(3)])


def _answers(simulator: Simulator, agent_run_id: str) -> list[str]:
    operations = [str(request.operation) for request in simulator.requests(run_id=agent_run_id)]
    return [name for name in operations if name.endswith((".answer", ".confirm", ".resume"))]


def _accept_at_the_vendor(simulator: Simulator, agent_run_id: str) -> None:
    """Do what the vendor's own page does when a human accepts a report there."""
    headers = {"Authorization": f"Bearer {simulator.snorbe_key}"}
    run = f"{simulator.url}/api/v1/agent/run"
    accepted = {"runId": agent_run_id}
    as_started = {"modelName": "snorbe-fast", "promptKey": "chat-routing", "locale": "en"}
    requests.post(f"{run}/{agent_run_id}/report/confirm", json=accepted, headers=headers, timeout=10)
    resumed = f"{run}/stream/{agent_run_id}"
    with requests.post(resumed, json=as_started, headers=headers, timeout=10, stream=True) as stream:
        stream.raise_for_status()


def test_a_human_has_a_draft_changed_and_approves_the_next_one(
    airflow: StandaloneAirflow, simulator: Simulator, reviews: Iterator[str]
) -> None:
    run_id = next(reviews)
    first = airflow.wait_for_question(REVIEW, run_id, "write")
    agent_run_id = airflow.xcom(REVIEW, run_id, "write", "run_id")
    assert first.options == ("Approve", "Answer", "Reject")
    assert "1. Findings" in airflow.xcom(REVIEW, run_id, "write", "human_request")["text"]

    airflow.respond(REVIEW, run_id, "write", "Answer", answer="Add a table of prices.")
    airflow.wait_until(
        lambda: (
            "Add a table of prices." in str(airflow.xcom(REVIEW, run_id, "write", "human_request")) or None
        ),
        "the next draft",
    )
    second = airflow.wait_for_question(REVIEW, run_id, "write")
    # Airflow keeps the first question's text, so no draft may be in it.
    assert "Findings" not in first.body + second.body
    assert "/tasks/write)" in second.body

    airflow.respond(REVIEW, run_id, "write", "Approve")
    airflow.wait_for_dag_run(REVIEW, run_id)
    log = airflow.task_log(REVIEW, run_id, "write")
    published = airflow.xcom(REVIEW, run_id, "publish", "return_value")
    assert published == "Published: # Report\n\nSteel is dear.", log
    assert _answers(simulator, agent_run_id) == [
        "snorbe.plan.confirm",
        "snorbe.run.resume",
        "snorbe.report.answer",
        "snorbe.report.confirm",
        "snorbe.run.resume",
    ]
    [task] = [task for task in airflow.task_instances(REVIEW, run_id) if task.task_id == "write"]
    assert task.try_number == 1


def test_an_answer_at_the_vendor_closes_the_question(
    airflow: StandaloneAirflow, simulator: Simulator, reviews: Iterator[str]
) -> None:
    run_id = next(reviews)
    airflow.wait_for_question(REVIEW, run_id, "write")
    agent_run_id = airflow.xcom(REVIEW, run_id, "write", "run_id")
    _accept_at_the_vendor(simulator, agent_run_id)
    airflow.wait_for_dag_run(REVIEW, run_id)
    [question] = airflow.questions(REVIEW, run_id)
    assert question.response in {"Answered at the vendor", "The run is over"}
    assert "Steel is dear." in airflow.xcom(REVIEW, run_id, "publish", "return_value")


def test_a_rejection_fails_the_task_without_a_retry(
    airflow: StandaloneAirflow, reviews: Iterator[str]
) -> None:
    run_id = next(reviews)
    airflow.wait_for_question(REVIEW, run_id, "write")
    airflow.respond(REVIEW, run_id, "write", "Reject")
    airflow.wait_for_dag_run(REVIEW, run_id)
    states = {task.task_id: task.state for task in airflow.task_instances(REVIEW, run_id)}
    assert states == {"write": "failed", "publish": "upstream_failed"}
    # The last lines of a log may come a moment after the task's state.
    airflow.wait_until(
        lambda: "rejected by" in airflow.task_log(REVIEW, run_id, "write") or None, "who rejected it"
    )
