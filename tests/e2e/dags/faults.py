"""Tasks that tests of failures break, one way of waiting each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_agentruns.operators import AgentRunOperator

DEFERRED: dict[str, Any] = {"deferrable": True}
ON_WORKER: dict[str, Any] = {"deferrable": False}
SETTINGS: dict[str, dict[str, Any]] = {
    "deferred": DEFERRED,
    "deferred_reattach": DEFERRED | {"on_clear": "reattach"},
    "deferred_timeout": DEFERRED | {"timeout": 8, "retries": 0},
    "deferred_cancel_on_timeout": DEFERRED | {"timeout": 8, "retries": 0, "cancel_on_timeout": True},
    "deferred_keep_on_kill": DEFERRED | {"cancel_on_kill": False},
    "on_worker": ON_WORKER,
    "on_worker_reattach": ON_WORKER | {"on_clear": "reattach"},
    "on_worker_retry_later": ON_WORKER | {"retry_delay": timedelta(hours=1)},
    "on_worker_no_retries": ON_WORKER | {"retries": 0},
}

for name, settings in SETTINGS.items():
    with DAG(f"e2e_faults_{name}", schedule=None, params={"conn_id": "", "agent_id": "", "message": ""}):
        AgentRunOperator(
            task_id="answer",
            conn_id="{{ params.conn_id }}",
            agent_id="{{ params.agent_id }}",
            message="{{ params.message }}",
            poll_interval=1,
            **{"retries": 2, "retry_delay": timedelta(seconds=1), **settings},
        )
