"""Ten tasks in a DAG run that wait; which runs they wait for, its conf says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_agentruns.operators import AgentRunOperator, AgentRunResultOperator
from airflow_provider_agentruns.sensors import AgentRunSensor

settings: dict[str, Any] = {
    "conn_id": "{{ dag_run.conf['conn_id'] }}",
    "timeout": 3600,
}
retries: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=1)}


def sensors(count: int, poke_interval: float, **others: Any) -> None:
    # The scheduler hands these to the triggerers, so that a thousand wait within minutes on a small machine.
    for number in range(count):
        AgentRunSensor(
            task_id=f"sensor_{number}",
            run_id=f"{{{{ dag_run.conf['run_ids'][{number}] }}}}",
            poke_interval=poke_interval,
            start_from_trigger=True,
            **settings,
            **others,
        )


with DAG("deployment_load", schedule=None):
    sensors(9, poke_interval=5)
    AgentRunResultOperator(
        task_id="result_0",
        run_id="{{ dag_run.conf['run_ids'][9] }}",
        poll_interval=5,
        deferrable=True,
        **settings,
    )

with DAG("deployment_faults", schedule=None):
    sensors(8, poke_interval=10, **retries)
    for number in range(2):
        AgentRunOperator(
            task_id=f"operator_{number}",
            agent_id="{{ dag_run.conf['agent_id'] }}",
            message=f"{{{{ dag_run.conf['messages'][{number}] }}}}",
            poll_interval=10,
            deferrable=True,
            **settings,
            **retries,
        )
