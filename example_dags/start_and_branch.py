"""
### Start a run, wait for it, and branch on how it ended

With `fail_on_error=False` a run that fails or is cancelled does not fail the task. The task then has no
return value; the XCom `error_message` says what the vendor said, and `agent_run` has the rest. So the DAG
decides what a failure means: here `recover` takes over, in another DAG it may be a second vendor.

- `answer` starts the run and waits, deferred. The XCom `run_id` is there from the start on.
- `choose` follows `publish` after a success and `recover` after a failure.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, XComArg, dag, get_current_context, task

from airflow_provider_agentruns.operators import AgentRunOperator


@dag(
    dag_id="example_agentruns_start_and_branch",
    schedule=None,
    catchup=False,
    doc_md=__doc__,
    tags=["agentruns", "example"],
    params={
        "conn_id": Param("flowyble_default", type="string", description="A Flowyble or Snorbe connection"),
        "agent_id": Param(
            "00000000-0000-4000-8000-000000000001",
            type="string",
            description="One of your agents; empty for Snorbe's default agent",
        ),
        "message": Param("Which of our open invoices are overdue?", type="string", minLength=1),
    },
)
def start_and_branch() -> None:
    answer = AgentRunOperator(
        task_id="answer",
        conn_id="{{ params.conn_id }}",
        agent_id="{{ params.agent_id }}",
        message="{{ params.message }}",
        timeout=timedelta(hours=1),
        deferrable=True,
        fail_on_error=False,
    )

    @task.branch
    def choose() -> str:
        error_message = get_current_context()["ti"].xcom_pull(task_ids="answer", key="error_message")
        return "publish" if error_message is None else "recover"

    @task
    def publish(output: Any) -> str:
        return f"Published: {output}"

    @task
    def recover(agent_run: Any) -> str:
        return f"Run {agent_run['run_id']} {agent_run['status']}: {agent_run['error_message']}"

    answer >> choose() >> [publish(answer.output), recover(XComArg(answer, key="agent_run"))]


start_and_branch()
