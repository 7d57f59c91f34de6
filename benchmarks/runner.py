"""
Airflow's own trigger runner, in a process of its own: ``python -m benchmarks.runner``.

Its standard input is the socket to a supervisor, as Airflow has it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import signal
import time
from importlib import import_module
from pathlib import Path

from benchmarks.clock import Clock

# Seconds between two looks at how late the loop is.
_LOOK = 0.02


class LoopWatch:
    """
    See how late the event loop is, and how much of that is Python's collection of garbage.

    A full collection goes through all objects of Airflow, whatever the triggers do.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._collecting = 0.0
        self._began = 0.0
        self.looks: list[tuple[float, float, float]] = []
        gc.callbacks.append(self._saw_collector)

    async def look(self) -> None:
        """Look until cancelled."""
        while True:
            began, collecting = time.monotonic(), self._collecting
            await asyncio.sleep(_LOOK * self._clock.factor)
            now = time.monotonic()
            self.looks.append((now, max(0.0, now - began - _LOOK), self._collecting - collecting))

    def _saw_collector(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.monotonic()
        else:
            self._collecting += time.monotonic() - self._began


def main() -> None:
    """Run triggers until SIGTERM, then write how late the loop was."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epoch", type=float, required=True)
    parser.add_argument("--factor", type=float, required=True)
    parser.add_argument("--log-fd", type=int, required=True)
    parser.add_argument("--lags", type=Path, required=True)
    parser.add_argument("--preload", action="append", default=[])
    arguments = parser.parse_args()
    clock = Clock(arguments.epoch, arguments.factor)
    # Before Airflow and our package are loaded: some keep the function as they find it.
    clock.replace_time()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))

    from airflow.jobs.triggerer_job_runner import TriggerRunner  # noqa: PLC0415 - see above
    from airflow.sdk.log import configure_logging, reset_logging  # noqa: PLC0415 - see above

    for module in arguments.preload:
        import_module(module)
    reset_logging()
    configure_logging(
        json_output=True, output=os.fdopen(arguments.log_fd, "wb", buffering=0), sending_to_supervisor=True
    )
    watch = LoopWatch(clock)
    # So that memory is measured without garbage.
    signal.signal(signal.SIGUSR1, lambda *_: gc.collect())

    class MeasuredRunner(TriggerRunner):
        """Airflow's runner on the clock of the measurement."""

        def run(self) -> None:
            signal.signal(signal.SIGTERM, self._handle_signal)
            with asyncio.Runner(loop_factory=clock.new_event_loop) as runner:
                runner.run(self.arun())  # type: ignore[no-untyped-call]  # Airflow's has no annotations

        async def init_comms(self) -> None:
            await super().init_comms()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
            self._watch = asyncio.create_task(watch.look())

    try:
        MeasuredRunner().run()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
    finally:
        arguments.lags.write_text(json.dumps(watch.looks))


if __name__ == "__main__":
    main()
