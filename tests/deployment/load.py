"""A thousand runs that wait at once, and how they end."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.deployment.blocked_loops import BlockedLoop, CoreWaits
from tests.deployment.deployment import Deployment
from tests.deployment.vendor_keys import VendorKey, ports
from tests.deployment.waiting_tasks import WaitingTask, WaitingTasks, duplicate_events

TASKS_IN_A_DAG_RUN = 10
_REFUSED = 429
_SAMPLE_SECONDS = 5.0
# The last triggers are handed to the triggerers after their tasks were deferred.
_SETTLING_SECONDS = 15.0
# As often as real agents fail is not known; this is often enough to be seen.
_ENDINGS = ("succeed",) * 8 + ("fail", "cancel")


@dataclass
class Sample:
    """How the triggerers stood at a moment in which all runs waited."""

    megabytes: float
    connections: int


@dataclass
class LoadResult:
    """What the load showed; times in seconds."""

    runs: int = 0
    seconds_to_defer: float = 0.0
    most_waiting: int = 0
    seconds_ending: float = 0.0
    seconds_to_finish: float = 0.0
    requests: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    most_in_a_minute: dict[str, int] = field(default_factory=dict)
    held: list[Sample] = field(default_factory=list)
    megabytes_in_the_end: float = 0.0
    blocked_at_start: list[BlockedLoop] = field(default_factory=list)
    blocked: list[BlockedLoop] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    restarts: int = 0


class Load:
    """
    Let runs wait under several keys, end them at the pace that the polls allow, and look on.

    :param runs: how many, a multiple of ten.
    :param hold_seconds: how long all of them wait before the first ends.
    :param ends_per_minute: how many runs end in a minute, all keys together.
    """

    def __init__(
        self,
        airflow: Deployment,
        keys: Sequence[VendorKey],
        *,
        runs: int,
        hold_seconds: float,
        ends_per_minute: float,
        seed: int = 1,
    ) -> None:
        self._airflow = airflow
        self._keys = list(keys)
        self._tasks = WaitingTasks(airflow)
        self._runs = runs
        self._hold_seconds = hold_seconds
        self._ends_per_minute = ends_per_minute
        self._rng = random.Random(seed)
        self.result = LoadResult(runs=runs)

    def run(self) -> LoadResult:
        """Carry it out."""
        with CoreWaits(self._airflow) as core_waits:
            all_wait_at = self._run()
        for blocked in core_waits.blocked_loops():
            later = blocked.at > all_wait_at + _SETTLING_SECONDS
            (self.result.blocked if later else self.result.blocked_at_start).append(blocked)
        self._sum_up()
        return self.result

    def _run(self) -> float:
        """Return when all waited, seconds since the epoch."""
        began = time.monotonic()
        for number in range(self._runs // TASKS_IN_A_DAG_RUN):
            self._tasks.start_load(self._keys[number % len(self._keys)])
        self._tasks.wait_until_all_wait(timeout=300)
        self.result.seconds_to_defer = time.monotonic() - began
        all_wait_at = time.time()
        time.sleep(_SETTLING_SECONDS)
        hold_until = time.monotonic() + self._hold_seconds
        while time.monotonic() < hold_until:
            self._look()
            time.sleep(_SAMPLE_SECONDS)
        began = time.monotonic()
        self._end_runs(began)
        self.result.seconds_ending = time.monotonic() - began
        last_end = time.monotonic()
        self._tasks.wait_until_finished(list(self._tasks), timeout=480)
        self.result.seconds_to_finish = time.monotonic() - last_end
        self.result.megabytes_in_the_end = self._airflow.triggerer_megabytes()
        return all_wait_at

    def _end_runs(self, began: float) -> None:
        tasks: list[WaitingTask] = list(self._tasks)
        self._rng.shuffle(tasks)
        for number, task in enumerate(tasks):
            while number / self._ends_per_minute * 60 > time.monotonic() - began:
                time.sleep(0.2)
            task.end(_ENDINGS[number % len(_ENDINGS)])

    def _look(self) -> None:
        self._airflow.ensure_running()
        waiting = self._airflow.states()["deferred"]
        self.result.most_waiting = max(self.result.most_waiting, waiting)
        megabytes = self._airflow.triggerer_megabytes()
        self.result.held.append(Sample(megabytes, self._airflow.connections_to(ports(self._keys))))

    def _sum_up(self) -> None:
        for key in self._keys:
            statuses = key.statuses()
            self.result.requests[key.conn_id] = len(statuses)
            self.result.refused[key.conn_id] = statuses.count(_REFUSED)
            self.result.most_in_a_minute[key.conn_id] = _most_in_a_minute(key)
        self.result.duplicates = duplicate_events(self._airflow, self._tasks)
        self.result.problems = self._tasks.problems()
        self.result.restarts = self._airflow.restarts().total()


def _most_in_a_minute(key: VendorKey) -> int:
    times = [request.time for request in key.simulator.requests() if request.status != _REFUSED]
    return max((sum(start <= other < start + 60 for other in times) for start in times), default=0)
