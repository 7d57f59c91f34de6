"""When a triggerer's event loop was blocked, and how much of that time it stood in line for a core."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from tests.deployment.deployment import TRIGGERERS, Deployment

_SAMPLE_SECONDS = 0.2
_LINE = re.compile(r"^(\S+Z) .*async thread was blocked for ([\d.]+) seconds")


@dataclass(frozen=True)
class BlockedLoop:
    """
    One time that Airflow itself found an event loop blocked.

    :param at: when it was told, seconds since the epoch.
    :param seconds: between two turns of the loop that should be 0.1 s apart.
    :param waited_for_core: seconds of them in which the kernel had no core for the thread.
    """

    triggerer: str
    at: float
    seconds: float
    waited_for_core: float

    @property
    def worked(self) -> float:
        """Return the seconds in which something in the process kept the loop."""
        return self.seconds - self.waited_for_core


class CoreWaits:
    """Note all the time how long the triggerers' event loops have waited for a core; a context manager."""

    def __init__(self, airflow: Deployment) -> None:
        self._airflow = airflow
        self._samples: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._note, name="core-waits", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def blocked_loops(self) -> list[BlockedLoop]:
        """List the times that Airflow found a loop blocked."""
        found = []
        for name in TRIGGERERS:
            log = (self._airflow.log_folder / f"{name}.log").read_text(errors="replace")
            for line in log.splitlines():
                if match := _LINE.match(line):
                    at, seconds = datetime.fromisoformat(match[1]).timestamp(), float(match[2])
                    found.append(BlockedLoop(name, at, seconds, self._waited(name, at - seconds, at)))
        return found

    def _waited(self, name: str, begin: float, end: float) -> float:
        samples = self._samples[name]
        before = max((waited for at, waited in samples if at <= begin), default=0.0)
        after = min((waited for at, waited in samples if at >= end), default=before)
        return min(end - begin, after - before)

    def _note(self) -> None:
        # Airflow runs the loop in the main thread of the only child.
        pids = {name: self._airflow.component_processes(name)[1].pid for name in TRIGGERERS}
        while not self._over.wait(_SAMPLE_SECONDS):
            for name, pid in pids.items():
                _, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
                self._samples[name].append((time.time(), int(waited_ns) / 1e9))
