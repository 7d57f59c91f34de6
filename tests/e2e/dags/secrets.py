"""A run over each of many connections."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Context, get_current_context, task

from airflow_provider_agentruns.operators import AgentRunOperator
from airflow_provider_agentruns.sensors import AgentRunSensor

with DAG("e2e_secrets", schedule=None, params={"runs": [], "waits": []}):

    @task
    def given(name: str) -> list[dict[str, Any]]:
        context: Context = get_current_context()
        listed: list[dict[str, Any]] = context["params"][name]
        return listed

    settings: dict[str, Any] = {"deferrable": True, "retries": 0}
    AgentRunOperator.partial(task_id="answer", poll_interval=1, **settings).expand_kwargs(given("runs"))
    AgentRunSensor.partial(task_id="wait", poke_interval=1, **settings).expand_kwargs(given("waits"))
