"""Let one contender wait for runs in Airflow's trigger runner, and say what that took."""

from __future__ import annotations

import signal
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its stubs are not worth a dependency

from benchmarks.clock import Clock
from benchmarks.contenders import CONN_ID, NO_OP, Contender, Wait
from benchmarks.processes import RunnerProcess, VendorProcess
from benchmarks.results import Lateness, Load, quantile
from benchmarks.supervisor import Supervisor
from benchmarks.workloads import WaitedRun

INTERVAL = 2.0
_SECONDS_TO_START = 120.0
_NO_END = 1e8
_MINUTE = 60.0
# The most that a connection takes.
_NO_LIMIT = 100_000
# Before the others come: what is loaded and opened once is not counted to each waiting run.
_FIRST = 10


class Bench:
    """A contender's triggers in Airflow's runner, and the vendor they ask; see :func:`open_bench`."""

    def __init__(
        self,
        contender: Contender,
        clock: Clock,
        vendor: VendorProcess,
        runner: RunnerProcess,
        supervisor: Supervisor,
    ) -> None:
        self.contender = contender
        self.clock = clock
        self.vendor = vendor
        self.runner = runner
        self.supervisor = supervisor
        self.process = psutil.Process(runner.process.pid)
        self._created = 0

    def start(self, runs: Sequence[WaitedRun], *, interval: float = INTERVAL) -> None:
        """Let runs begin, and a trigger wait for each."""
        now = self.clock.now()
        first = self._created + 1
        self._created += len(runs)
        ids = [self.contender.run_id(number) for number in range(first, self._created + 1)]
        agents = [str(uuid.uuid5(uuid.NAMESPACE_DNS, run.agent)) for run in runs]
        self.vendor.add(
            [
                {
                    "run_id": run_id,
                    "agent": agent,
                    "started": now,
                    "duration": run.duration,
                }
                for run_id, agent, run in zip(ids, agents, runs, strict=True)
            ]
        )
        for number, (run_id, agent) in enumerate(zip(ids, agents, strict=True), first):
            kwargs = self.contender.kwargs(Wait(run_id, interval, now + _NO_END, agent))
            self.supervisor.create(number, self.contender.classpath, kwargs)

    def wait_for_all(self, *, timeout: float) -> None:
        """
        Wait until all triggers have ended.

        :param timeout: in seconds of real time.
        :raises TimeoutError: some have not.
        """
        supervisor = self.supervisor
        with supervisor.changed:
            if not supervisor.changed.wait_for(lambda: self.ended >= self._created, timeout):
                raise TimeoutError(f"{self._created - self.ended} triggers have not ended in {timeout:.0f} s")

    def wait_for_first_polls(self, *, timeout: float) -> None:
        """
        Wait until each run was polled, or is waited for by a trigger that polls nobody.

        :param timeout: in seconds of real time.
        :raises TimeoutError: some were not polled.
        """
        give_up_at = time.monotonic() + timeout
        while not self._has_begun():
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"some of {self._created} runs were not polled in {timeout:.0f} s")
            time.sleep(0.5)

    def _has_begun(self) -> bool:
        if self.contender is NO_OP:
            return self.supervisor.syncs_after_last_creation > 1
        return self.vendor.counts()["polled"] == self._created

    @property
    def ended(self) -> int:
        """How many triggers have ended."""
        return len(self.supervisor.events) + len(self.supervisor.failures)

    @property
    def failed(self) -> int:
        """How many tasks have failed."""
        events = self.supervisor.events.values()
        return len(self.supervisor.failures) + sum(map(self.contender.has_failed, events))


@contextmanager
def open_bench(
    contender: Contender, *, factor: float, enforces_limit: bool, polls_per_minute: int | None = None
) -> Iterator[Bench]:
    """
    Start a vendor and Airflow's runner, and end them.

    :param factor: how much faster than time they run.
    """
    clock = Clock.start(factor)
    with (
        tempfile.TemporaryDirectory(prefix="agentruns-bench-") as folder,
        VendorProcess(clock, enforces_limit=enforces_limit) as vendor,
        RunnerProcess(clock, Path(folder), preload=contender.preload) as runner,
    ):
        connections = {CONN_ID: contender.connection(vendor.url, polls_per_minute)}
        supervisor = Supervisor(runner.supervisor_end, clock, connections)
        supervisor.start()
        if not supervisor.is_ready.wait(_SECONDS_TO_START):
            raise TimeoutError("the trigger runner did not start")
        yield Bench(contender, clock, vendor, runner, supervisor)


def measure_lateness(
    contender: Contender, batches: Sequence[Sequence[WaitedRun]], *, factor: float, timeout: float
) -> list[Lateness]:
    """
    Let a contender wait for runs on one key with the vendors' limit, and return how late it saw their ends.

    :param batches: each starts when the one before has ended.
    :param timeout: for all, in seconds of real time.
    """
    told = []
    with open_bench(contender, factor=factor, enforces_limit=True) as bench:
        if contender.warm_up:
            bench.start([WaitedRun("warm-up", contender.warm_up)])
            bench.wait_for_all(timeout=timeout)
        for runs in batches:
            began = bench.clock.now()
            ended, failed = bench.ended, bench.failed
            bench.start(runs)
            bench.wait_for_all(timeout=timeout)
            seen = bench.vendor.seen()
            requests = [request for request in seen.requests if request[0] >= began]
            told.append(
                Lateness(
                    contender=contender.letter,
                    count=bench.ended - ended,
                    failed=bench.failed - failed,
                    requests=len(requests),
                    refused=sum(not is_accepted for _, is_accepted in requests),
                    refused_later=sum(
                        not is_accepted for at, is_accepted in requests if at >= began + _MINUTE
                    ),
                    most_in_a_minute=_most_in_a_minute([at for at, _ in requests]),
                    seconds=bench.clock.now() - began,
                    sockets=seen.sockets_at_once,
                    look_ups=bench.supervisor.calls["GetConnection"],
                    lateness=sorted(
                        run["told"] - run["started"] - run["duration"]
                        for run in seen.runs[-len(runs) :]
                        if run["told"] is not None
                    ),
                )
            )
    return told


def _most_in_a_minute(times: Sequence[float]) -> int:
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - _MINUTE:
            first += 1
        most = max(most, last - first + 1)
    return most


def measure_load(
    contender: Contender, count: int, *, seconds: float, interval: float = INTERVAL, warms_up: bool = True
) -> Load:
    """
    Let runs wait that never end, without a limit, and return what they cost.

    :param seconds: for how long it is measured, once all run.
    :param interval: seconds between polls of a run.
    :param warms_up: whether a contender that begins gently is measured only after that.
    """
    endless = [WaitedRun("endless", _NO_END)] * count
    with open_bench(contender, factor=1, enforces_limit=False, polls_per_minute=_NO_LIMIT) as bench:
        began = time.monotonic()
        bench.start(endless[:_FIRST], interval=interval)
        bench.wait_for_first_polls(timeout=60)
        time.sleep(2 * INTERVAL)
        memory = _memory(bench.process)
        started = time.monotonic()
        bench.start(endless[_FIRST:], interval=interval)
        bench.wait_for_first_polls(timeout=120 + interval)
        all_polled = time.monotonic()
        look_ups = bench.supervisor.calls["GetConnection"]
        # Until then our budget is gentle, as it does not know what was sent before it was born.
        warm_up = began + contender.warm_up - all_polled if warms_up else 0
        time.sleep(max(2 * INTERVAL, warm_up))
        settled, polls, cpu = time.monotonic(), bench.vendor.counts()["requests"], _cpu(bench.process)
        time.sleep(seconds)
        cpu = _cpu(bench.process) - cpu
        polls = bench.vendor.counts()["requests"] - polls
        measured = time.monotonic()
        memory = _memory(bench.process) - memory
        seen = bench.vendor.seen()
        failed = bench.failed
    # Without the collector, which goes through Airflow's objects and not only through those of a trigger.
    lags = [(at, max(0.0, lag - collecting)) for at, lag, collecting in bench.runner.lags]
    starting = [lag for at, lag in lags if started < at <= settled]
    steady = [lag for at, lag in lags if settled < at <= measured]
    return Load(
        contender=contender.letter,
        count=count,
        failed=failed,
        polls=polls,
        seconds=measured - settled,
        cpu=cpu,
        memory=memory / (count - _FIRST),
        sockets=seen.sockets_at_once,
        sockets_opened=seen.sockets_opened,
        look_ups=look_ups,
        seconds_to_first_polls=all_polled - started,
        lag_p99=quantile(steady, 0.99),
        lag_max=max(steady),
        lag_max_start=max(starting),
        collection_max=max(collected for at, _, collected in bench.runner.lags if started < at <= measured),
    )


def _memory(process: psutil.Process) -> int:
    process.send_signal(signal.SIGUSR1)
    time.sleep(1)
    return int(process.memory_full_info().uss)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
