"""Tasks that wait for runs by the hundred, and what must have become of each in the end."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.deployment.deployment import Deployment
from tests.deployment.vendor_keys import VendorKey

LOAD = "deployment_load"
FAULTS = "deployment_faults"
_AGENT_ID = "a0000000-0000-4000-8000-000000000001"
_ENDINGS = {"succeed": "success", "fail": "failed", "cancel": "failed"}


@dataclass(eq=False)
class WaitingTask:
    """
    A task and the run that it waits for.

    :ivar run_id: empty before it was started.
    :ivar message: what its run is started with; empty if somebody else has started it.
    :ivar ending: how the run was ended: `succeed`, `fail` or `cancel`; empty while it goes on.
    """

    key: VendorKey
    dag_run_id: str
    task_id: str
    run_id: str = ""
    message: str = ""
    ending: str = ""

    @property
    def returns(self) -> bool:
        """Tell whether the task returns the output of its run."""
        return not self.task_id.startswith("sensor")

    @property
    def name(self) -> tuple[str, str]:
        """Return what Airflow knows it by."""
        return self.dag_run_id, self.task_id

    def end(self, ending: str) -> None:
        """End its run, with an output or an error that no other has."""
        self.key.simulator.finish_run(
            self.run_id,
            scenario=ending,
            output=self.output if ending == "succeed" else None,
            error=self.error if ending == "fail" else None,
        )
        self.ending = ending

    @property
    def state(self) -> str:
        """Return the state that the task must have in the end."""
        return _ENDINGS[self.ending]

    @property
    def output(self) -> str:
        """Return what the run answers if it succeeds."""
        return f"The answer of run {self.run_id}"

    @property
    def error(self) -> str:
        """Return what the run says if it fails."""
        return f"Run {self.run_id} has lost its way"


class WaitingTasks:
    """All tasks of one test, in the order in which they were started."""

    def __init__(self, airflow: Deployment) -> None:
        self._airflow = airflow
        self.tasks: list[WaitingTask] = []
        self._numbers = itertools.count()

    def __iter__(self) -> Iterator[WaitingTask]:
        return iter(self.tasks)

    def start_load(self, key: VendorKey) -> None:
        """Start ten tasks that wait for runs that others have started."""
        self._start(LOAD, key, [*(f"sensor_{number}" for number in range(9)), "result_0"])

    def start_faults(self, key: VendorKey) -> None:
        """Start eight such tasks, and two that start their runs by themselves."""
        self._start(FAULTS, key, [f"sensor_{number}" for number in range(8)], operators=2)

    def wait_until_all_wait(self, timeout: float) -> None:
        """Wait until all are deferred, and those that start their runs have done so."""

        def all_wait() -> bool | None:
            return self._airflow.states()["deferred"] == len(self.tasks) or None

        self._airflow.wait_until(
            all_wait, lambda: f"all tasks to wait: {self._airflow.states()}", timeout=timeout
        )

    def waiting(self, key: VendorKey | None = None) -> list[WaitingTask]:
        """List those whose runs go on, or have yet to be started."""
        tasks = [task for task in self.tasks if not task.ending and key in (None, task.key)]
        for task in tasks:
            if not task.run_id:
                task.run_id = next(iter(_starts(task)), "")
        return tasks

    def unfinished(self, tasks: Sequence[WaitingTask]) -> list[str]:
        """Say of those of these tasks that have not ended as they must how they stand."""
        states = {(row.run_id, row.task_id): row.state for row in self._airflow.tasks()}
        return [
            f"{task.dag_run_id} {task.task_id} ({task.ending} {task.run_id}): {states.get(task.name)}"
            for task in tasks
            if states.get(task.name) != task.state
        ]

    def wait_until_finished(self, tasks: Sequence[WaitingTask], timeout: float) -> None:
        """Wait until these tasks have ended as they must."""
        self._airflow.wait_until(
            lambda: not self.unfinished(tasks) or None,
            lambda: f"tasks to end: {self.unfinished(tasks)[:20]}",
            timeout=timeout,
        )

    def problems(self, *, tries: int = 1) -> list[str]:
        """
        Say what did not come out as it must, now that all have ended.

        :param tries: how many tries a task may have had.
        """
        found = self.unfinished(self.tasks)
        rows = {(row.run_id, row.task_id): row for row in self._airflow.tasks()}
        run_ids, outputs = self._airflow.xcoms("run_id"), self._airflow.xcoms("return_value")
        for task in self.tasks:
            log = self._airflow.task_log_text(*task.name)
            found += [
                f"{task.dag_run_id} {task.task_id}, run {task.run_id}: {problem}\n{log[-2000:]}"
                for problem in (
                    *_wrong_xcoms(task, run_ids.get(task.name), outputs.get(task.name)),
                    *_wrong_log(task, log, self),
                    *([] if rows[task.name].try_number <= tries else ["too many tries"]),
                    *([] if not task.message or len(_starts(task)) == 1 else ["was not started once"]),
                )
            ]
        return found

    def others(self, task: WaitingTask, log: str) -> list[str]:
        """List the run ids in a log that belong to other tasks."""
        known = {other.run_id for other in self.tasks}
        words = set(re.findall(r"[\w-]{20,}", log))
        return sorted(words & (known - {task.run_id}))

    def _start(self, dag_id: str, key: VendorKey, task_ids: list[str], *, operators: int = 0) -> None:
        run_ids = [key.simulator.create_run(key.vendor, scenario="never") for _ in task_ids]
        messages = [f"Question {next(self._numbers)} [sim: never]" for _ in range(operators)]
        conf = {
            "conn_id": key.conn_id,
            "run_ids": run_ids,
            "messages": messages,
            "agent_id": _AGENT_ID if key.vendor == "flowyble" else "",
        }
        dag_run_id = self._airflow.trigger_dag(dag_id, conf)
        self.tasks += [
            WaitingTask(key, dag_run_id, task_id, run_id=run_id)
            for task_id, run_id in zip(task_ids, run_ids, strict=True)
        ]
        self.tasks += [
            WaitingTask(key, dag_run_id, f"operator_{number}", message=message)
            for number, message in enumerate(messages)
        ]


def duplicate_events(airflow: Deployment, tasks: WaitingTasks) -> list[str]:
    """List the tasks whose end was told to Airflow more than once."""
    fired: Counter[tuple[str, str]] = Counter()
    for task in tasks:
        log = airflow.task_log_text(*task.name)
        fired[task.name] = log.count("Trigger fired event")
    return [f"{name}: {count} events" for name, count in fired.items() if count > 1]


def _starts(task: WaitingTask) -> list[str]:
    return [start.run_id for start in task.key.simulator.starts() if start.input_text == task.message]


def _wrong_xcoms(task: WaitingTask, run_id: object, output: object) -> list[str]:
    problems = []
    if _plain(run_id) != task.run_id:
        problems.append(f"the XCom run_id is {run_id!r}")
    if task.returns and task.ending == "succeed" and _plain(output) != task.output:
        problems.append(f"returned {output!r}")
    if (not task.returns or task.ending != "succeed") and output is not None:
        problems.append(f"returned {output!r}, not nothing")
    return problems


def _wrong_log(task: WaitingTask, log: str, tasks: WaitingTasks) -> list[str]:
    problems = [f"its log names another run, {other}" for other in tasks.others(task, log)]
    if task.ending == "fail" and task.error not in log:
        problems.append("its log does not say why the run failed")
    if task.ending == "cancel" and "cancelled" not in log:
        problems.append("its log does not say that the run was cancelled")
    return problems


def _plain(value: object) -> object:
    return json.loads(value) if isinstance(value, str) and value.startswith('"') else value
