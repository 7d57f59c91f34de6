"""Whether to cancel the run of a task that was killed, and the words for what came of it."""

from __future__ import annotations

from typing import Any

from airflow.utils.state import TaskInstanceState

GOES_ON = "It may go on at the vendor; AgentRunResultOperator can attach to it."
CANCELLED = "It was cancelled at the vendor."

_GIVEN_UP = {
    TaskInstanceState.FAILED,
    TaskInstanceState.SUCCESS,
    TaskInstanceState.SKIPPED,
    TaskInstanceState.UPSTREAM_FAILED,
    TaskInstanceState.REMOVED,
}


def is_given_up(state: str | None, *, cancel_on_clear: bool) -> bool:
    """
    Tell from a task's state whether nobody waits for its run any more.

    Airflow kills a wait also when another triggerer has taken it over, or when a worker is moved: the task's
    state then still is that of a task which waits.

    :param state: None for a task that was cleared and is not scheduled yet.
    :param cancel_on_clear: whether the task, if it was cleared, starts anew.
    """
    if state is None or state == TaskInstanceState.RESTARTING:
        return cancel_on_clear
    return state in _GIVEN_UP


def state_of_task(states: dict[str, Any], *, run_id: str, task_id: str, map_index: int) -> str | None:
    """
    Return a task's state from what Airflow answers when it is asked for the states of tasks.

    :param states: by dag run and task; a mapped task's name ends with its index.
    :raises LookupError: the answer does not tell.
    """
    name = task_id if map_index < 0 else f"{task_id}_{map_index}"
    state: str | None = states[run_id][name]
    return state


def no_way_to_cancel(vendor: str) -> str:
    """Return a sentence for a run that cannot be cancelled."""
    return f"{vendor} documents no way to cancel a run. {GOES_ON}"


def not_cancelled(error: Exception) -> str:
    """Return a sentence for a run that could not be cancelled."""
    return f"It could not be cancelled ({error}). {GOES_ON}"
