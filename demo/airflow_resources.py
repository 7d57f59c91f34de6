"""DAG runs, task instances and questions to humans, as Airflow's API shows them."""

from __future__ import annotations

from dataclasses import dataclass

FINISHED_DAG_RUN = frozenset({"success", "failed"})


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG, as Airflow's API shows it."""

    dag_id: str
    run_id: str
    state: str

    @property
    def is_finished(self) -> bool:
        """Tell whether no task will run any more."""
        return self.state in FINISHED_DAG_RUN


@dataclass(frozen=True)
class TaskInstance:
    """One task of a DAG run, as Airflow's API shows it."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    duration: float | None
    id: str = ""

    @property
    def name(self) -> str:
        """Name the task as the UI does."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


@dataclass(frozen=True)
class Question:
    """What a task asks a human, as Airflow's API shows it.

    :param response: the option that was chosen, None as long as nobody has responded.
    """

    task_id: str
    subject: str
    body: str
    options: tuple[str, ...]
    response: str | None
