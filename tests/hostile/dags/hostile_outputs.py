"""A run's output, read in every way that Airflow has for it."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, task

from airflow_provider_agentruns.operators import AgentRunOperator, AgentRunResultOperator
from airflow_provider_agentruns.sensors import AgentRunSensor

AGENT_ID = "a0000000-0000-4000-8000-000000000001"


def give_back(*values: Any, more: Any = None) -> list[Any]:
    return [*values, more] if more else [*values]


with DAG("hostile_outputs", schedule=None, params={"run_id": "", "kind": "tool"}):
    news = AgentRunResultOperator(
        task_id="news",
        conn_id="flowyble_test",
        run_id="{{ params.run_id }}",
        run_kind="tool",
        poll_interval=0.1,
    )

    @task
    def decorated(value: Any, values: list[Any]) -> list[Any]:
        return [value, *values]

    @task
    def mapped(value: Any) -> Any:
        return value

    @task
    def listed(value: Any) -> list[Any]:
        return [value]

    decorated(news.output, [news.output])
    PythonOperator(
        task_id="op_args",
        python_callable=give_back,
        op_args=[news.output],
        op_kwargs={"more": news.output},
    )
    PythonOperator(
        task_id="template",
        python_callable=give_back,
        op_args=["{{ ti.xcom_pull('news') }}", "{{ ti.xcom_pull('news') | string }}"],
    ).set_upstream(news)
    values = listed(news.output)
    mapped.expand(value=values)
    PythonOperator.partial(task_id="mapped_operator", python_callable=give_back).expand(op_args=[values])

with DAG("hostile_messages", schedule=None, params={"run_id": ""}):
    text = AgentRunResultOperator(
        task_id="news", conn_id="flowyble_test", run_id="{{ params.run_id }}", poll_interval=0.1
    )
    start: dict[str, Any] = {"conn_id": "flowyble_test", "agent_id": AGENT_ID, "poll_interval": 0.1}

    @task
    def several(value: Any) -> list[Any]:
        return [value]

    AgentRunOperator(task_id="by_output", message=text.output, **start)  # type: ignore[arg-type]
    AgentRunOperator(task_id="by_template", message="{{ ti.xcom_pull('news') }}", **start).set_upstream(text)
    AgentRunOperator.partial(task_id="mapped", **start).expand(message=several(text.output))
    AgentRunSensor(
        task_id="as_run_id",
        conn_id="flowyble_test",
        run_id=text.output,  # type: ignore[arg-type]
        poke_interval=1,
        timeout=30,
    )
