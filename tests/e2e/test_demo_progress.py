"""The demo's display, in a terminal and without one; these tests need no Airflow."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from demo.airflow_resources import DagRun, TaskInstance
from demo.progress import Progress
from demo.report import Row, find_problems, make_table
from demo.showcases import Showcase


def task(name: str, state: str | None, map_index: int = -1) -> TaskInstance:
    return TaskInstance(name, map_index, state, try_number=1, duration=None)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_shows_phases_and_task_states(is_terminal: bool) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_terminal, width=120, markup=False)
    with Progress(console) as progress:
        progress.begin("Starting")
        progress.detail("waiting for the scheduler")
        progress.begin("Running")
        progress.tasks("an example", [task("ask", "deferred", 0), task("gather", None)])
        progress.tasks("an example", [task("ask", "success", 0), task("gather", "failed")])

    shown = output.getvalue()
    assert "Starting: done in" in shown
    assert "ask[0]" in shown
    assert "gather" in shown
    if not is_terminal:
        assert "an example: ask[0] deferred\n" in shown
        assert "an example: ask[0] success, gather failed\n" in shown
        assert "\x1b" not in shown


SHOWCASE = Showcase(title="A", dag_id="a", runs={"ask": ("succeeded",)}, ends_with="gather")
RUN = {"vendor": "flowyble", "run_id": "r1", "status": "succeeded", "usage": {"tokens": 12}}


def test_expected_outcome_is_no_problem() -> None:
    rows = [Row("A", "ask", RUN, output="It is.", error_message=None)]
    tasks = [task("ask", "success"), task("gather", "success")]
    assert find_problems(SHOWCASE, DagRun("a", "1", "success"), tasks, rows) == []


@pytest.mark.parametrize(
    ("dag_state", "gather_state", "rows", "problem"),
    [
        ("failed", "success", [Row("A", "ask", RUN, "It is.", None)], "the DAG run is failed"),
        ("success", "skipped", [Row("A", "ask", RUN, "It is.", None)], "gather did not succeed"),
        ("success", "success", [], "the runs ended []"),
        ("success", "success", [Row("A", "ask", RUN, None, None)], "succeeded without an output"),
        ("success", "success", [Row("A", "ask", {}, None, None)], "['no XCom']"),
    ],
)
def test_unexpected_outcome_is_a_problem(
    dag_state: str, gather_state: str, rows: list[Row], problem: str
) -> None:
    tasks = [task("ask", "success"), task("gather", gather_state)]
    problems = find_problems(SHOWCASE, DagRun("a", "1", dag_state), tasks, rows)
    assert any(problem in each for each in problems)


def test_table_shows_what_is_unknown_as_such() -> None:
    output = io.StringIO()
    row = Row("A", "ask", {**RUN, "usage": {}}, output={"answer": 42}, error_message=None)
    Console(file=output, width=150).print(make_table([row]))
    assert "{'answer': 42}" in output.getvalue()
    assert "tell" in output.getvalue()
