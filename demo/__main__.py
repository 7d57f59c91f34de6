"""Run the example DAGs for both vendors in a real Airflow, against the simulator: `python -m demo`.

`KEEP=1` leaves Airflow's UI up at the end, until Ctrl-C. Exit status: 0 when everything came out as expected,
1 when something did not, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import types
from collections.abc import Sequence

from rich.console import Console

from airflow_provider_agentruns.simulator import Simulator
from demo.airflow_api import AirflowApiError
from demo.airflow_environment import connection
from demo.airflow_resources import DagRun, TaskInstance
from demo.progress import Progress, make_console
from demo.report import Row, collect_rows, find_problems, make_table
from demo.showcases import Showcase, plan
from demo.standalone import PROJECT, StandaloneAirflow

INTERRUPTED = 130
MEDIAN_SECONDS = 6.0


class DemoError(RuntimeError):
    """Something did not come out as expected."""


def run_showcases(
    airflow: StandaloneAirflow, showcases: list[Showcase], progress: Progress
) -> tuple[list[Row], list[str]]:
    """Run all showcases at the same time; return what came out and what is wrong with it."""
    runs: dict[DagRun, Showcase] = {}
    last_seen: dict[str, Sequence[TaskInstance]] = {}
    for showcase in showcases:
        run_id = airflow.trigger_dag(showcase.dag_id, dict(showcase.conf))
        runs[DagRun(showcase.dag_id, run_id, state="queued")] = showcase
    labels = {run.run_id: showcase.title for run, showcase in runs.items()}

    def show(run: DagRun, tasks: Sequence[TaskInstance]) -> None:
        last_seen[run.run_id] = tasks
        progress.tasks(labels[run.run_id], tasks)

    finished = airflow.wait_for_dag_runs(list(runs), timeout=180, on_progress=show)
    progress.begin("Reading the XComs")
    rows, problems = [], []
    for run, showcase in zip(finished, runs.values(), strict=True):
        tasks = last_seen[run.run_id]
        its_rows = collect_rows(airflow, showcase, run, tasks)
        rows += its_rows
        problems += find_problems(showcase, run, tasks, its_rows)
        problems += [
            f"log of {run.dag_id}.{task.name}:\n{airflow.log_tail(run, task)}"
            for task in tasks
            if task.state == "failed"
        ]
    return rows, problems


def run_demo(console: Console, *, keep: bool) -> None:
    """Start everything, show it, and stop it again."""
    with Simulator(median_seconds=MEDIAN_SECONDS, sigma=0.3) as simulator:
        connections = {
            "flowyble_default": connection("flowyble", host=simulator.url, password=simulator.flowyble_key),
            "snorbe_default": connection("snorbe", host=simulator.url, password=simulator.snorbe_key),
        }
        with StandaloneAirflow(PROJECT / "example_dags", connections=connections) as airflow:
            with Progress(console) as progress:
                progress.begin("Starting Airflow (API server, scheduler, DAG processor, triggerer)")
                airflow.wait_until_healthy(on_progress=lambda health: progress.detail(_waiting_for(health)))
                progress.begin("Parsing the example DAGs")
                showcases = plan(simulator)
                airflow.wait_for_dags(sorted({showcase.dag_id for showcase in showcases}))
                progress.begin("Running the example DAGs")
                rows, problems = run_showcases(airflow, showcases, progress)
            console.print(make_table(rows))
            if keep:
                keep_running(console, airflow)
            if problems:
                raise DemoError("\n".join(problems))
            console.print(f"{len(rows)} runs in {len(showcases)} DAG runs came out as expected.")


def keep_running(console: Console, airflow: StandaloneAirflow) -> None:
    """Leave everything up until Ctrl-C."""
    console.print(f"Airflow's UI: {airflow.base_url} (no login needed). Ctrl-C ends it.")
    try:
        while True:
            airflow.ensure_running()
            time.sleep(1)
    except KeyboardInterrupt:
        console.print("Stopping.")


def main() -> int:
    """Run the demo; return its exit status."""
    signal.signal(signal.SIGINT, _stop_once)
    signal.signal(signal.SIGTERM, _stop_once)
    console = make_console()
    try:
        run_demo(console, keep=os.environ.get("KEEP", "") not in {"", "0"})
    except KeyboardInterrupt:
        console.print("Interrupted; everything is stopped.")
        return INTERRUPTED
    except (AirflowApiError, DemoError) as error:
        lines = ["The demo failed.", str(error), *getattr(error, "__notes__", [])]
        console.print("\n".join(lines), style="red", soft_wrap=True)
        return 1
    return 0


def _stop_once(signal_number: int, _: types.FrameType | None) -> None:
    # The clean-up takes seconds; a second, impatient Ctrl-C must not cut it short.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if signal_number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + signal_number)


def _waiting_for(health: dict[str, str]) -> str:
    waiting = [name for name, status in health.items() if status != "healthy"]
    return f"waiting for {', '.join(waiting)}" if waiting else "all healthy"


if __name__ == "__main__":
    sys.exit(main())
