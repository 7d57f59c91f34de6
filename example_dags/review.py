"""
### Let a human review what an agent is about to write, in Airflow

A Snorbe run stops for reviews: a plan first, later the structure of a report. Here the plan is approved
unseen, and a human decides about the report under *Required Actions* in Airflow's UI. No worker is held.

- `write` starts the run. When the report's draft is there, the task asks: **Approve** lets the run go on,
  **Answer** sends what to change and brings the next draft, **Reject** fails the task. Whoever answers at the
  vendor first closes the question.
- The draft stands in the log of `write`, which the question links to, and in its XCom `human_request`.
- `publish` gets the text.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag, task

from airflow_provider_agentruns.operators import AgentRunOperator


@dag(
    dag_id="example_agentruns_review",
    schedule=None,
    catchup=False,
    doc_md=__doc__,
    tags=["agentruns", "example"],
    params={
        "conn_id": Param("snorbe_default", type="string", description="A Snorbe connection"),
        "message": Param("Write a report about steel prices.", type="string", minLength=1),
    },
)
def review() -> None:
    write = AgentRunOperator(
        task_id="write",
        conn_id="{{ params.conn_id }}",
        message="{{ params.message }}",
        timeout=timedelta(days=2),
        deferrable=True,
        on_human_request={"plan": "approve", "report": "ask"},
        response_timeout=timedelta(days=1),
    )

    @task
    def publish(text: str) -> str:
        return f"Published: {text}"

    publish(write.output)  # type: ignore[arg-type]  # an XCom stands for the text


review()
