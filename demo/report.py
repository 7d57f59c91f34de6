"""Collect what came out of every run from Airflow's XComs, judge it, and show it as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from demo.airflow_api import AirflowApi
from demo.airflow_resources import DagRun, TaskInstance
from demo.showcases import SUCCEEDED, Showcase

_LONGEST_TEXT = 60
_UNKNOWN = "-"
_CAPTION = f"{_UNKNOWN}: this vendor's API does not tell it"


@dataclass(frozen=True)
class Row:
    """What one agent run left in Airflow's XComs.

    :param run: the XCom `agent_run`; empty when the task left none.
    """

    title: str
    task_id: str
    run: dict[str, Any]
    output: Any
    error_message: str | None

    @property
    def status(self) -> str:
        """Tell how the run ended."""
        return str(self.run.get("status", "no XCom"))

    @property
    def seconds(self) -> float | None:
        """Tell how long the run took at the vendor, from its start if the vendor tells it."""
        began = self.run.get("started_at") or self.run.get("created_at")
        ended = self.run.get("finished_at")
        if not (began and ended):
            return None
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()

    @property
    def text(self) -> str:
        """Tell the output or the error in one short line."""
        text = " ".join(str(self.error_message if self.output is None else self.output).split())
        return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def collect_rows(
    airflow: AirflowApi, showcase: Showcase, run: DagRun, tasks: Sequence[TaskInstance]
) -> list[Row]:
    """Read what the agent runs of one DAG run left, in the order of the showcase's tasks."""

    def xcom(task: TaskInstance, key: str) -> Any:
        return airflow.xcom(run.dag_id, run.run_id, task.task_id, key, map_index=task.map_index)

    return [
        Row(
            title=showcase.title,
            task_id=task.name,
            run=xcom(task, "agent_run") or {},
            output=xcom(task, "return_value"),
            error_message=xcom(task, "error_message"),
        )
        for task_id in showcase.runs
        for task in sorted(tasks, key=lambda task: task.map_index)
        if task.task_id == task_id
    ]


def find_problems(
    showcase: Showcase, run: DagRun, tasks: Sequence[TaskInstance], rows: Sequence[Row]
) -> list[str]:
    """Say in which ways a DAG run did not come out as expected."""
    problems = []
    states = ", ".join(f"{task.name} {task.state}" for task in tasks)
    if run.state != "success":
        problems.append(f"the DAG run is {run.state}, not success ({states})")
    if not any(task.task_id == showcase.ends_with and task.state == "success" for task in tasks):
        problems.append(f"the task {showcase.ends_with} did not succeed ({states})")
    expected = [status for statuses in showcase.runs.values() for status in statuses]
    if (statuses := [row.status for row in rows]) != expected:
        problems.append(f"the runs ended {statuses}, expected {expected}")
    for row in rows:
        if row.status == SUCCEEDED and row.output is None:
            problems.append(f"{row.task_id} succeeded without an output")
        if row.status != SUCCEEDED and not row.error_message:
            problems.append(f"{row.task_id} has no error message")
    return [f"{showcase.title} ({run.dag_id}): {problem}" for problem in problems]


def make_table(rows: Sequence[Row]) -> Table:
    """Show all rows."""
    table = Table(
        title="What came out of every run, read from Airflow's XComs", title_justify="left", caption=_CAPTION
    )
    table.add_column("example")
    table.add_column("task", no_wrap=True)
    table.add_column("vendor", no_wrap=True)
    table.add_column("run id", no_wrap=True, max_width=14)
    table.add_column("status", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("credits", justify="right", no_wrap=True)
    table.add_column("output or error", overflow="fold")
    title = None
    for row in rows:
        usage = row.run.get("usage") or {}
        table.add_row(
            Text(row.title if row.title != title else ""),
            Text(row.task_id),
            Text(str(row.run.get("vendor", _UNKNOWN))),
            Text(str(row.run.get("run_id", _UNKNOWN))),
            Text(row.status, style="green" if row.status == SUCCEEDED else "red"),
            _UNKNOWN if row.seconds is None else f"{row.seconds:.1f} s",
            _UNKNOWN if usage.get("tokens") is None else str(usage["tokens"]),
            _UNKNOWN if usage.get("credits") is None else f"{usage['credits']:g}",
            Text(row.text),
        )
        title = row.title
    return table
