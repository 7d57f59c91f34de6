"""A task whose first try gives up before its run has ended."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_agentruns.operators import AgentRunOperator

with DAG("e2e_retried", schedule=None, params={"message": ""}):
    AgentRunOperator(
        task_id="answer",
        conn_id="snorbe_default",
        message="{{ params.message }}",
        timeout=8,
        retries=3,
        retry_delay=timedelta(seconds=1),
        deferrable=True,
    )
