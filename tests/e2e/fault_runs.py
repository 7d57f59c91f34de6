"""Run cases of failure: start them together, break them together, and read how they came out."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence

import psutil  # type: ignore[import-untyped]
import requests

from airflow_provider_agentruns.simulator import Simulator
from demo.airflow_api import AirflowApiError
from demo.airflow_resources import TaskInstance
from demo.standalone import StandaloneAirflow
from tests.e2e.fault_cases import SNORBE, Case, Outcome

TASK = "answer"
AGENT_ID = "a0000000-0000-4000-8000-000000000001"
_START_OPERATIONS = {SNORBE: "snorbe.run.start"}
_WAITING = {"deferred", "running"}
_FINISHED = {"success", "failed"}

log = logging.getLogger(__name__)


class FaultRun:
    """
    The DAG run of one case.

    :ivar problem: why the case could not be seen through, empty if it was.
    """

    def __init__(self, case: Case, airflow: StandaloneAirflow, simulator: Simulator) -> None:
        self.case = case
        self.problem = ""
        self._airflow = airflow
        self._simulator = simulator
        self._dag_id = f"e2e_faults_{case.dag}"
        self._message = f"{case.name} [sim: never]"
        self._dag_run_id = ""
        self._first: TaskInstance | None = None
        self._polls_before: Counter[str] = Counter()

    @property
    def started(self) -> list[str]:
        """List the runs that the vendor has started for this case, oldest first."""
        return [start.run_id for start in self._simulator.starts() if start.input_text == self._message]

    def start(self) -> None:
        """Trigger the DAG run; the answer to a start that is to be broken is held back."""
        if self.case.during_start:
            operation = _START_OPERATIONS.get(self.case.vendor, "flowyble.agent.start")
            self._simulator.add_fault("latency", operation=operation, times=1, seconds=60, after_effect=True)
        conf = {
            "conn_id": f"{self.case.vendor}_default",
            "agent_id": "" if self.case.vendor == SNORBE else AGENT_ID,
            "message": self._message,
        }
        self._dag_run_id = self._airflow.trigger_dag(self._dag_id, conf)

    def is_ready(self) -> bool:
        """Tell whether the task waits for its run, or for the answer to its start."""
        is_ready = bool(self.started) and (self.case.during_start or self._polls()[self.started[0]] > 0)
        self._first = self.task() if is_ready else None
        return is_ready

    def break_it(self) -> None:
        """Do to this task what its case says, and note if it could not be done."""
        try:
            if self.case.break_it:
                self.case.break_it(self)
        except AirflowApiError as error:
            self._airflow.ensure_running()
            self.problem = str(error)
        self._polls_before = self._polls()

    def wait_for_another_poll(self) -> None:
        """Wait until somebody asks the vendor about the run again."""
        before = self._polls()
        self._airflow.wait_until(lambda: self._polls() != before or None, "another poll")

    def is_settled(self) -> bool:
        """Tell whether the fault has been dealt with: the run is waited for anew, or the task has ended."""
        expected = self.case.expected
        if expected.result_of is None:
            return self._cancels() >= expected.cancels and self.task().state == expected.task
        if len(started := self.started) < expected.starts:
            return False
        polls = self._polls()[started[-1]]
        if polls <= self._polls_before[started[-1]]:
            return False
        task = self.task()
        return task.try_number >= self.case.tries and task.state in _WAITING and self.case.says in self.log()

    def is_alone(self) -> bool:
        """Tell whether the processes of the first try are gone, if another try has taken over."""
        return self.case.tries == 1 or self._first is None or not self._airflow.task_processes(self._first)

    def answer(self) -> None:
        """Let the run that was started last succeed, if the task is to have a result."""
        if self.case.expected.result_of is not None and self.started:
            self._simulator.finish_run(self.started[-1], output=_output(self.started[-1]))

    def is_finished(self) -> bool:
        """Tell whether the task has ended."""
        return self.task().state in _FINISHED

    def outcome(self) -> Outcome:
        """Tell how the case came out."""
        started, task = self.started, self.task()
        result = self._airflow.xcom(self._dag_id, self._dag_run_id, TASK, "return_value")
        outputs = [_output(run_id) for run_id in started]
        return Outcome(
            starts=len(started),
            cancels=self._cancels(),
            left=sum(self._simulator.run(run_id).phase != "ended" for run_id in started),
            task=task.state,
            result_of=outputs.index(result) + 1 if result in outputs else None,
        )

    def log(self) -> str:
        """Read the logs of all tries."""
        return "\n".join(self._log_of(number) for number in range(1, self.task().try_number + 1))

    def _log_of(self, try_number: int) -> str:
        try:
            return self._airflow.task_log(self._dag_id, self._dag_run_id, TASK, try_number=try_number)
        except AirflowApiError as error:
            # Of a try that its scheduler has failed in the queue, Airflow knows nothing.
            return f"(no log of try {try_number}: {error})"

    def task(self) -> TaskInstance:
        """Ask Airflow for the task."""
        [task] = self._airflow.task_instances(self._dag_id, self._dag_run_id)
        return task

    def kill(self, *, with_supervisor: bool) -> None:
        """Kill the task's process, or its supervisor and it."""
        for process in self._processes() if with_supervisor else self._processes()[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def shut_worker_down(self) -> None:
        """Ask the task's supervisor to end, and kill it and the task when their time is over."""
        self._processes()[0].terminate()
        said = "is left alone: its task is running"
        self._airflow.wait_until(lambda: said in self.log() or None, f"the log to say {said!r}")
        self.kill(with_supervisor=True)

    def clear(self) -> None:
        """Clear the task."""
        self._airflow.clear_task(self._dag_id, self._dag_run_id, TASK)

    def mark(self, state: str) -> None:
        """Mark the task."""
        self._airflow.mark_task(self._dag_id, self._dag_run_id, TASK, state=state)

    def wait_for_state(self, state: str) -> None:
        """Wait until the task is in a state."""
        self._airflow.wait_for_task(self._dag_id, self._dag_run_id, TASK, state=state)

    def mark_dag_run(self, state: str) -> None:
        """Mark the DAG run."""
        self._airflow.mark_dag_run(self._dag_id, self._dag_run_id, state=state)

    def fail_at_vendor(self) -> None:
        """Let the run fail."""
        self._simulator.finish_run(self.started[-1], scenario="fail")

    def _processes(self) -> list[psutil.Process]:
        """List the supervisor, then the task."""
        processes = self._airflow.task_processes(self.task())
        pids = {process.pid for process in processes}
        return sorted(processes, key=lambda process: _parent(process) in pids)

    def _cancels(self) -> int:
        return sum(cancel.input_text == self._message for cancel in self._simulator.cancels())

    def _polls(self) -> Counter[str]:
        return Counter(
            {
                run_id: sum(
                    (request.operation or "").endswith(".status")
                    for request in self._simulator.requests(run_id=run_id)
                )
                for run_id in self.started
            }
        )


def see_through(
    runs: Sequence[FaultRun],
    airflow: StandaloneAirflow,
    break_all: Callable[[], None] = lambda: None,
    mend_all: Callable[[], None] = lambda: None,
) -> None:
    """
    Start tasks, break them while they wait, and bring them to their ends.

    :param break_all: breaks what all of them need.
    :param mend_all: mends it, after each was broken by itself.
    """
    during_start = [run for run in runs if run.case.during_start]
    while_waiting = [run for run in runs if not run.case.during_start]
    # The delayed answer must be that of the right start.
    for some in (while_waiting, during_start):
        for run in some:
            run.start()
        _await_all(some, FaultRun.is_ready, airflow, "never waited for its run", timeout=90)
    break_all()
    for run in (*during_start, *while_waiting):
        run.break_it()
    mend_all()
    _await_all(runs, FaultRun.is_settled, airflow, "was not dealt with", timeout=90)
    # Two processes that see the end of their run at the same moment push the same XCom.
    _await_all(runs, FaultRun.is_alone, airflow, "was not alone", timeout=60)
    for run in runs:
        run.answer()
    _await_all(runs, FaultRun.is_finished, airflow, "did not end", timeout=60)


def _await_all(
    runs: Sequence[FaultRun],
    has_come: Callable[[FaultRun], bool],
    airflow: StandaloneAirflow,
    problem: str,
    *,
    timeout: float,
) -> None:
    """Wait until something has come for all; of the others, note that it has not, and go on."""
    missing = list(runs)

    def has_come_now(run: FaultRun) -> bool:
        try:
            return has_come(run)
        except (AirflowApiError, requests.RequestException) as error:
            # In the middle of what is done to Airflow it may not answer; others must not pay for that.
            log.warning("%s: cannot be told now: %s", run.case.name, error)
            return False

    def all_there() -> bool | None:
        missing[:] = [run for run in missing if not has_come_now(run)]
        return not missing or None

    try:
        airflow.wait_until(all_there, problem, timeout=timeout)
    except AirflowApiError as error:
        airflow.ensure_running()
        for run in missing:
            run.problem = run.problem or f"{problem}: {error}"


def _parent(process: psutil.Process) -> int | None:
    try:
        return int(process.ppid())
    except psutil.NoSuchProcess:
        return None


def _output(run_id: str) -> str:
    return f"The answer of run {run_id}"
