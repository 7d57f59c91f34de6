"""
### Two vendors in one DAG

A Snorbe agent researches a topic. What it found goes to Flowyble twice, at the same time: an agent writes a
text from it, and a *tool*, one of Flowyble's fixed workflows, takes it as an input. A last task joins them.

- The connection decides which vendor an operator talks to; the operator is the same.
- `agent_id` may be left out at Snorbe, whose workspaces have a default agent.
- `options` are the vendor's own start parameters. They are checked before anything is sent.
- A tool is started with `tool_id` and `inputs` instead of `agent_id` and `message`. Its output is JSON.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_provider_agentruns.operators import AgentRunOperator


@dag(
    dag_id="example_agentruns_two_vendors",
    schedule=None,
    catchup=False,
    doc_md=__doc__,
    tags=["agentruns", "example"],
    default_args={"timeout": timedelta(hours=1), "deferrable": True},
    params={
        "topic": Param("Heat pumps in old buildings", type="string", minLength=1),
        "writer_id": Param(
            "00000000-0000-4000-8000-000000000001", type="string", description="A Flowyble agent"
        ),
        "tool_id": Param(
            "00000000-0000-4000-8000-000000000002", type="string", description="A Flowyble tool"
        ),
    },
)
def two_vendors() -> None:
    research = AgentRunOperator(
        task_id="research",
        conn_id="snorbe_default",
        message="Find the three most important facts about: {{ params.topic }}",
        options={"modelName": "snorbe-fast", "locale": "en", "maxBrowsingSteps": 10},
    )

    write = AgentRunOperator(
        task_id="write",
        conn_id="flowyble_default",
        agent_id="{{ params.writer_id }}",
        message="Write a short post from this: {{ ti.xcom_pull(task_ids='research') }}",
    )

    extract = AgentRunOperator(
        task_id="extract",
        conn_id="flowyble_default",
        tool_id="{{ params.tool_id }}",
        inputs={"text": "{{ ti.xcom_pull(task_ids='research') }}", "language": "en"},
    )

    @task
    def join(post: Any, facts: Any) -> dict[str, Any]:
        return {"post": post, "facts": facts}

    research >> [write, extract]
    join(post=write.output, facts=extract.output)


two_vendors()
