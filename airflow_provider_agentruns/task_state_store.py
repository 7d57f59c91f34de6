"""Airflow's store of task states (3.3 and newer), which outlives retries and clears."""

from __future__ import annotations

from typing import Any, Protocol

from airflow.providers.common.compat.sdk import Context


class TaskStateStore(Protocol):
    """As much of it as is used here."""

    def get(self, key: str) -> Any:
        """Return a value, None if there is none."""

    def set(self, key: str, value: Any) -> None:
        """Keep a value, JSON data."""

    def delete(self, key: str) -> None:
        """Forget a value."""


def task_state_store(context: Context) -> TaskStateStore | None:
    """Return the store of the running task, None where Airflow has none."""
    store: TaskStateStore | None = context.get("task_state_store")
    return store
