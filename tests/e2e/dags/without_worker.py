"""Sensors that start in the triggerer, beside one that starts on a worker."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_agentruns.sensors import AgentRunSensor, AgentRunsSensor

with DAG("e2e_without_worker", schedule=None, params={"run_ids": ["", ""]}):

    @task
    def give(params: dict[str, Any]) -> list[str]:
        run_ids: list[str] = params["run_ids"]
        return run_ids

    @task
    def give_first(params: dict[str, Any]) -> str:
        return str(params["run_ids"][0])

    @task
    def echo(started: str) -> str:
        return started

    first: Any = give_first()  # type: ignore[call-arg]  # Airflow gives the params
    settings: dict[str, Any] = {"conn_id": "flowyble_default", "poke_interval": 1, "timeout": 120}
    AgentRunSensor(task_id="by_worker", run_id="{{ params.run_ids[0] }}", deferrable=True, **settings)
    AgentRunSensor(task_id="by_param", run_id="{{ params.run_ids[0] }}", start_from_trigger=True, **settings)
    AgentRunSensor(
        task_id="by_conf", run_id="{{ dag_run.conf['run_ids'][0] }}", start_from_trigger=True, **settings
    )
    AgentRunSensor(
        task_id="by_pull",
        run_id="{{ ti.xcom_pull(task_ids='give_first') }}",
        start_from_trigger=True,
        **settings,
    ).set_upstream(first)
    AgentRunSensor(task_id="by_xcom", run_id=first, start_from_trigger=True, **settings)
    AgentRunSensor(
        task_id="by_bad_id", run_id="{{ params.run_ids[0] }}/../x", start_from_trigger=True, **settings
    )
    echoed: Any = echo.expand(started=(run_ids := give()))  # type: ignore[call-arg]  # Airflow gives the params
    AgentRunSensor.partial(task_id="mapped", start_from_trigger=True, **settings).expand(run_id=run_ids)
    AgentRunsSensor(task_id="many", run_ids=echoed, deferrable=True, **settings)
