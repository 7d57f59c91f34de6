"""
### Fan out: one run for each item of a list

Dynamic task mapping starts as many runs as there are questions, and the list is known only when the DAG
runs. All of them wait deferred, so a hundred runs hold no worker. They share the API key's rate limit: the
triggerer spaces its polls so that the key stays below it.

- `list_questions` makes the list; here it comes from the DAG's params.
- `ask` starts one run for each question and waits.
- `gather` gets all outputs, in the order of the questions.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from airflow_provider_agentruns.operators import AgentRunOperator


@dag(
    dag_id="example_agentruns_fan_out",
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
        "questions": Param(
            ["What changed in Berlin?", "What changed in Osaka?", "What changed in Lima?"],
            type="array",
            items={"type": "string", "minLength": 1},
            minItems=1,
        ),
    },
)
def fan_out() -> None:
    @task
    def list_questions() -> list[str]:
        return [str(question) for question in get_current_context()["params"]["questions"]]

    ask = AgentRunOperator.partial(
        task_id="ask",
        conn_id="{{ params.conn_id }}",
        agent_id="{{ params.agent_id }}",
        timeout=timedelta(hours=1),
        deferrable=True,
    ).expand(message=list_questions())

    @task
    def gather(outputs: Any) -> list[Any]:
        return list(outputs)

    gather(ask.output)


fan_out()
