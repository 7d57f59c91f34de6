"""What is done to a task, what must come of it, and the table that tells users so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

DEFERRED, ON_WORKER = "deferred", "on a worker"
CAN_CANCEL, FLOWYBLE, SNORBE = "cancellable", "flowyble", "snorbe"
_VENDORS = {CAN_CANCEL: "one that can cancel", FLOWYBLE: "Flowyble", SNORBE: "Snorbe"}


class Outcome(NamedTuple):
    """
    How a case came out, by the simulator's logs and Airflow's state of the task.

    :param left: runs that go on at the vendor although nobody waits for them any more.
    :param result_of: the start, counted from 1, whose output the task returned.
    """

    starts: int
    cancels: int
    left: int
    task: str | None
    result_of: int | None


class Breakable(Protocol):
    """A task that waits, and what can be done to it."""

    def kill(self, *, with_supervisor: bool) -> None:
        """Kill the task's process, or its supervisor and it."""

    def shut_worker_down(self) -> None:
        """Ask the task's supervisor to end, and kill it and the task when their time is over."""

    def clear(self) -> None: ...

    def mark(self, state: str) -> None: ...

    def wait_for_state(self, state: str) -> None: ...

    def mark_dag_run(self, state: str) -> None: ...

    def fail_at_vendor(self) -> None: ...


@dataclass(frozen=True)
class Case:
    """
    One DAG run, and what happens to it.

    :param happens: what happens, in the table.
    :param dag: the DAG in `dags/faults.py`, without its prefix.
    :param vendor: the connection's type.
    :param break_it: what is done to this task alone, while it waits.
    :param tries: the number of the try that the task ends with.
    :param during_start: break it while its start is accepted and not answered yet.
    :param says: what one of the task's logs must say; it shows that the fault struck where it should.
    """

    happens: str
    dag: str
    vendor: str
    expected: Outcome
    break_it: Callable[[Breakable], None] | None = None
    tries: int = 1
    during_start: bool = False
    says: str = ""

    @property
    def waits(self) -> str:
        """Tell where the task waits, in the table."""
        return DEFERRED if self.dag.startswith("deferred") else ON_WORKER

    @property
    def name(self) -> str:
        """Name the case in messages to the agent, and in test ids."""
        return f"{self.happens}, {self.waits}, {self.vendor}".replace("`", "")


_KEPT = Outcome(starts=1, cancels=0, left=0, task="success", result_of=1)
_STARTED_ANEW = Outcome(starts=2, cancels=1, left=0, task="success", result_of=2)
_STARTED_BESIDE = Outcome(starts=2, cancels=0, left=1, task="success", result_of=2)
_CANCELLED = Outcome(starts=1, cancels=1, left=0, task="failed", result_of=None)
_LEFT = Outcome(starts=1, cancels=0, left=1, task="failed", result_of=None)
_GOES_ON = "which an earlier try started"
_NO_WAY = "documents no way to cancel"


def _kill_task(task: Breakable) -> None:
    task.kill(with_supervisor=False)


def _kill_worker(task: Breakable) -> None:
    task.kill(with_supervisor=True)


def _shut_worker_down(task: Breakable) -> None:
    task.shut_worker_down()


def _fail_run(task: Breakable) -> None:
    task.fail_at_vendor()


def _clear(task: Breakable) -> None:
    task.clear()


def _mark_failed(task: Breakable) -> None:
    task.mark("failed")


def _kill_and_mark_failed(task: Breakable) -> None:
    _kill_task(task)
    task.wait_for_state("up_for_retry")
    task.mark("failed")


def _mark_success(task: Breakable) -> None:
    task.mark("success")


_KILLED = "The task's process is killed (`kill -9`)"
_WORKER_KILLED = "The worker is killed with the task"
_SHUT_DOWN = "The worker is shut down (`SIGTERM`), and killed when its time is over"
_LOST_ANSWER = "The task's process is killed before its start is answered"
_CLEARED = "The task is cleared"
_CLEARED_REATTACH = 'The task is cleared, `on_clear="reattach"`'
_FAILED = "The task is marked failed"
_SUCCESS = "The task is marked success"
_KEEP = "The task is marked failed, `cancel_on_kill=False`"
_DAG_RUN = "The DAG run is marked failed"
_BETWEEN_TRIES = "The task's process is killed, and the task is marked failed before its retry"
_RUN_FAILED = "The run fails, and the task is retried"
_TIMEOUT = "The time is over"
_CANCEL_ON_TIMEOUT = "The time is over, `cancel_on_timeout=True`"

TASK_FAULTS = (
    Case(_KILLED, "on_worker", CAN_CANCEL, _KEPT, _kill_task, tries=2, says=_GOES_ON),
    Case(_WORKER_KILLED, "on_worker", CAN_CANCEL, _KEPT, _kill_worker, tries=2, says=_GOES_ON),
    Case(_SHUT_DOWN, "on_worker", CAN_CANCEL, _KEPT, _shut_worker_down, tries=2, says=_GOES_ON),
    Case(
        _LOST_ANSWER,
        "on_worker",
        FLOWYBLE,
        _STARTED_BESIDE,
        _kill_task,
        tries=2,
        during_start=True,
        says="was gone before the answer",
    ),
    Case(
        _LOST_ANSWER,
        "on_worker",
        SNORBE,
        _LEFT,
        _kill_task,
        tries=2,
        during_start=True,
        says="Nothing was started: look there",
    ),
    Case(_RUN_FAILED, "deferred", CAN_CANCEL, Outcome(2, 0, 0, "success", 2), _fail_run, 2),
    Case(_CLEARED, "deferred", CAN_CANCEL, _STARTED_ANEW, _clear, tries=2),
    Case(_CLEARED, "deferred", FLOWYBLE, _STARTED_BESIDE, _clear, tries=2, says=_NO_WAY),
    Case(_CLEARED, "on_worker", CAN_CANCEL, _STARTED_ANEW, _clear, tries=2),
    Case(_CLEARED, "on_worker", FLOWYBLE, _STARTED_BESIDE, _clear, tries=2, says=_NO_WAY),
    Case(_CLEARED_REATTACH, "deferred_reattach", CAN_CANCEL, _KEPT, _clear, tries=2, says=_GOES_ON),
    Case(_CLEARED_REATTACH, "on_worker_reattach", CAN_CANCEL, _KEPT, _clear, tries=2, says=_GOES_ON),
    Case(_FAILED, "deferred", CAN_CANCEL, _CANCELLED, _mark_failed),
    Case(_FAILED, "deferred", FLOWYBLE, _LEFT, _mark_failed, says=_NO_WAY),
    Case(_FAILED, "on_worker", CAN_CANCEL, _CANCELLED, _mark_failed),
    Case(_FAILED, "on_worker", FLOWYBLE, _LEFT, _mark_failed, says=_NO_WAY),
    Case(_KEEP, "deferred_keep_on_kill", CAN_CANCEL, _LEFT, _mark_failed),
    Case(_SUCCESS, "deferred", CAN_CANCEL, _CANCELLED._replace(task="success"), _mark_success),
    Case(_SUCCESS, "on_worker", CAN_CANCEL, _CANCELLED._replace(task="success"), _mark_success),
    Case(_DAG_RUN, "deferred", CAN_CANCEL, _CANCELLED, lambda task: task.mark_dag_run("failed")),
    Case(_DAG_RUN, "on_worker", CAN_CANCEL, _CANCELLED, lambda task: task.mark_dag_run("failed")),
    Case(_BETWEEN_TRIES, "on_worker_retry_later", CAN_CANCEL, _LEFT, _kill_and_mark_failed),
    Case(_TIMEOUT, "deferred_timeout", CAN_CANCEL, _LEFT, says="had not ended after"),
    Case(_CANCEL_ON_TIMEOUT, "deferred_cancel_on_timeout", CAN_CANCEL, _CANCELLED),
    Case(_CANCEL_ON_TIMEOUT, "deferred_cancel_on_timeout", FLOWYBLE, _LEFT, says=_NO_WAY),
)
TRIGGERER_STOPPED = (
    Case(
        "The triggerer stands still, another takes over, it wakes up",
        "deferred",
        CAN_CANCEL,
        _KEPT,
        says="its task still waits for it",
    ),
)
TRIGGERER_KILLED = (
    Case("The triggerer is killed, and restarted", "deferred", CAN_CANCEL, _KEPT),
    Case("The task is cleared while no triggerer runs", "deferred", CAN_CANCEL, _STARTED_ANEW, _clear, 2),
    Case("The task is marked failed while no triggerer runs", "deferred", CAN_CANCEL, _LEFT, _mark_failed),
)
TRIGGERER_SHUT_DOWN = (Case("The triggerer is shut down, and restarted", "deferred", CAN_CANCEL, _KEPT),)
_SCHEDULER_KILLED = "The scheduler is killed, and restarted"
SCHEDULER_KILLED = (
    Case(_SCHEDULER_KILLED, "deferred", CAN_CANCEL, _KEPT),
    Case(_SCHEDULER_KILLED, "on_worker", CAN_CANCEL, _KEPT, tries=2, says=_GOES_ON),
    Case(
        f"{_SCHEDULER_KILLED}; the task has no retries",
        "on_worker_no_retries",
        CAN_CANCEL,
        _KEPT,
        tries=2,
        says=_GOES_ON,
    ),
)
SCHEDULER_LOST = (
    Case(
        "The scheduler is killed with its workers, and restarted",
        "on_worker",
        CAN_CANCEL,
        _KEPT,
        tries=2,
        says=_GOES_ON,
    ),
)
CASES = (
    *TASK_FAULTS,
    *TRIGGERER_STOPPED,
    *TRIGGERER_KILLED,
    *TRIGGERER_SHUT_DOWN,
    *SCHEDULER_KILLED,
    *SCHEDULER_LOST,
)


def make_table(outcomes: Mapping[Case, Outcome]) -> str:
    """Return the table of the documentation, a line each case."""
    rows = [
        (
            case.happens,
            case.waits,
            _VENDORS[case.vendor],
            outcome.starts,
            outcome.cancels,
            outcome.left,
            outcome.task,
            "nothing" if outcome.result_of is None else f"run {outcome.result_of}",
        )
        for case, outcome in outcomes.items()
    ]
    header = ("what happens", "the task waits", "vendor", "starts", "cancels", "left", "task", "returns")
    return "\n".join(_line(row) for row in (header, ("---",) * len(header), *rows))


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
