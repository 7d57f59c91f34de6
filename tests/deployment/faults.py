"""Break a deployment while hundreds of runs wait, mend it, and measure how long it takes to recover."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.deployment.deployment import Deployment
from tests.deployment.vendor_keys import VendorKey
from tests.deployment.waiting_tasks import WaitingTask, WaitingTasks

_LOOK_SECONDS = 0.3


def _do_nothing() -> None:
    """Mend what mends itself."""


@dataclass(eq=False)
class Fault:
    """
    Something that goes wrong.

    :param name: for the documentation.
    :param keys: whose runs are polled no longer, or wrongly.
    :param seconds: how long it lasts.
    :param allowed: in how many seconds after it was mended all must be as before.
    :param why: which settings that is the sum of.
    :param after_recovery: puts back what recovery did without.
    :param after_ends: whether some runs end before it, not during it, so that workers have something to do.
    :param starts: whether more tasks are started at the same time as those runs end.
    :param says: words that the logs of tasks must have, to show that it struck.
    :ivar waiting: how many tasks waited when it began.
    :ivar recovered_after: seconds from its mending until each waiting run of its keys was polled again, and
        each task whose run ended meanwhile had ended as it must; None if that never came.
    """

    name: str
    keys: Sequence[VendorKey]
    break_it: Callable[[], object]
    allowed: float
    why: str
    mend: Callable[[], object] = _do_nothing
    after_recovery: Callable[[], object] = _do_nothing
    seconds: float = 0.0
    after_ends: bool = False
    starts: bool = False
    says: str = ""
    waiting: int = field(init=False, default=0)
    recovered_after: float | None = field(init=False, default=None)
    _mended_at: float = field(init=False, default=0.0)
    _mended_at_vendor: dict[VendorKey, float] = field(init=False, default_factory=dict)
    _ended: list[WaitingTask] = field(init=False, default_factory=list)

    @property
    def is_mended(self) -> bool:
        """Tell whether it was mended."""
        return self._mended_at > 0

    @property
    def is_late(self) -> bool:
        """Tell whether it should have been recovered from by now."""
        return time.monotonic() - self._mended_at > self.allowed

    def note_ends(self, tasks: Iterable[WaitingTask]) -> None:
        """Remember the tasks whose runs end meanwhile."""
        self._ended += [task for task in tasks if task.key in self.keys]

    def mend_it(self) -> None:
        """Mend it, and begin to count."""
        self.mend()
        self._mended_at = time.monotonic()
        self._mended_at_vendor = {key: key.now() for key in self.keys}

    def missing(self, tasks: WaitingTasks) -> list[str]:
        """Say what is not yet as before."""
        unpolled = [
            f"{task.key.conn_id} run {task.run_id} not polled"
            for key, since in self._mended_at_vendor.items()
            for polled in [key.polled_since(since)]
            for task in tasks.waiting(key)
            if task.run_id not in polled
        ]
        return unpolled or tasks.unfinished(self._ended)

    def recovered(self) -> None:
        """Note that all is as before."""
        self.recovered_after = time.monotonic() - self._mended_at


class Faults:
    """
    Carry faults out, those of a batch at the same time.

    :param ends: how many runs of each key end with each batch.
    """

    def __init__(self, airflow: Deployment, tasks: WaitingTasks, *, ends: int) -> None:
        self._airflow = airflow
        self._tasks = tasks
        self._ends = ends
        self.done: list[Fault] = []
        self.problems: list[str] = []

    def batch(self, *faults: Fault) -> None:
        """Break, let some runs end, mend each when its time has come, and wait until all is as before."""
        keys = {key for fault in faults for key in fault.keys}
        waiting = self._airflow.states()["deferred"]
        for fault in faults:
            fault.waiting = waiting
        if any(fault.after_ends for fault in faults):
            self._end_some(faults, keys)
        began = time.monotonic()
        for fault in faults:
            fault.break_it()
        if not any(fault.after_ends for fault in faults):
            self._end_some(faults, keys)
        left = sorted(faults, key=lambda fault: fault.seconds)
        while left:
            self._airflow.ensure_running()
            for fault in left:
                if not fault.is_mended and time.monotonic() - began >= fault.seconds:
                    fault.mend_it()
            left = [fault for fault in left if not (fault.is_mended and self._is_over(fault))]
            time.sleep(_LOOK_SECONDS)
        for fault in faults:
            fault.after_recovery()
        self.done += faults

    def _is_over(self, fault: Fault) -> bool:
        missing = fault.missing(self._tasks)
        if not missing:
            fault.recovered()
        elif fault.is_late:
            self.problems.append(f"{fault.name}: after {fault.allowed:.0f} s {'; '.join(missing[:10])}")
        return not missing or fault.is_late

    def _end_some(self, faults: Sequence[Fault], keys: set[VendorKey]) -> None:
        for key in keys:
            if any(fault.starts for fault in faults):
                self._tasks.start_faults(key)
            waiting = [task for task in self._tasks.waiting(key) if task.run_id]
            # Those that started their runs first, and each with its own ending; theirs would be started anew.
            tasks = sorted(waiting, key=lambda task: not task.message)
            chosen = [*tasks[:1], *tasks[-self._ends + 1 :]] if self._ends > 1 else tasks[:1]
            for number, task in enumerate(chosen):
                task.end("succeed" if task.message else ("fail", "succeed", "cancel")[number % 3])
            for fault in faults:
                fault.note_ends(chosen)
