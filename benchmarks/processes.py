"""Start the vendor and Airflow's trigger runner as processes, and end them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from cryptography.fernet import Fernet

from benchmarks.clock import Clock

_REPOSITORY = Path(__file__).parents[1]
_SECONDS_TO_END = 30.0
FERNET_KEY = Fernet.generate_key()


def _arguments(module: str, clock: Clock, *more: object) -> list[str]:
    command = [sys.executable, "-m", module, "--epoch", repr(clock.epoch), "--factor", clock.factor, *more]
    return [str(word) for word in command]


class Seen(NamedTuple):
    """
    What the vendor saw.

    :param runs: each with when it started, its duration, and when a poll was first told of its end.
    :param requests: when each came, seconds since the epoch, and whether it was accepted.
    """

    runs: list[dict[str, Any]]
    requests: list[tuple[float, bool]]
    sockets_opened: int
    sockets_at_once: int


class VendorProcess:
    """
    The vendor, from entering to leaving the context.

    :param enforces_limit: whether it refuses what exceeds 100 requests in 60 seconds.
    """

    def __init__(self, clock: Clock, *, enforces_limit: bool) -> None:
        limit = ("--limit",) if enforces_limit else ()
        self._arguments = _arguments("benchmarks.vendor", clock, *limit)
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - this project's own module
            self._arguments, stdout=subprocess.PIPE, text=True, cwd=_REPOSITORY
        )
        if self._process.stdout is None or not (ports := self._process.stdout.readline().split()):
            raise RuntimeError("the vendor did not start")
        self.url, self._told = (f"http://127.0.0.1:{port}" for port in ports)
        return self

    def __exit__(self, *exc_info: object) -> None:
        _end(self._process)

    def add(self, runs: Sequence[dict[str, Any]]) -> None:
        """Let runs be known."""
        self._call("/runs", runs)

    def counts(self) -> dict[str, int]:
        """Return how many requests came so far, and how many runs were polled."""
        counts: dict[str, int] = self._call("/counts")
        return counts

    def seen(self) -> Seen:
        """Return what the vendor saw so far."""
        return Seen(**self._call("/seen"))

    def _call(self, path: str, body: object = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        # A proxy of the machine has no part in this.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self._told + path, content, timeout=60) as answer:
            return json.load(answer)


class RunnerProcess:
    """
    Airflow's trigger runner, from entering to leaving the context.

    :param folder: for its log and its measurements.
    :param preload: modules that are loaded before the first trigger starts.
    :ivar supervisor_end: the socket on which Airflow's supervisor would talk to it.
    :ivar log: what it and its triggers logged, once it has ended.
    :ivar lags: when its loop was looked at (monotonic seconds), how late it was, and how much of that was
        Python's garbage collector; once it has ended.
    """

    def __init__(self, clock: Clock, folder: Path, *, preload: Sequence[str]) -> None:
        self._clock = clock
        self._preload = preload
        self._log = folder / "runner.log"
        self._lags = folder / "lags.json"
        self._home = folder / "airflow"
        self.log = ""
        self.lags: list[tuple[float, float, float]] = []

    def __enter__(self) -> Self:
        self.supervisor_end, runner_end = socket.socketpair()
        with runner_end, self._log.open("wb") as log:
            arguments = _arguments(
                "benchmarks.runner",
                self._clock,
                "--log-fd",
                log.fileno(),
                "--lags",
                self._lags,
                *(word for module in self._preload for word in ("--preload", module)),
            )
            self.process = subprocess.Popen(  # noqa: S603 - this project's own module
                arguments,
                stdin=runner_end.fileno(),
                stdout=log,
                stderr=log,
                pass_fds=(log.fileno(),),
                cwd=_REPOSITORY,
                env=self._environment(),
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _end(self.process)
        self.supervisor_end.close()
        self.log = self._log.read_text(errors="replace")
        if error is not None:
            error.add_note(f"the trigger runner's log ends:\n{self.log[-4000:]}")
        elif self._lags.exists():
            self.lags = json.loads(self._lags.read_text())

    def _environment(self) -> dict[str, str]:
        # Whatever the caller's own Airflow is told must not reach this one.
        environment = {name: value for name, value in os.environ.items() if "AIRFLOW_" not in name}
        # Without byte code on disk every process compiles Airflow anew.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return environment | {
            "AIRFLOW_HOME": str(self._home),
            "AIRFLOW__CORE__FERNET_KEY": FERNET_KEY.decode(),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # As Airflow's supervisor has it: connections come from there.
            "_AIRFLOW_PROCESS_CONTEXT": "client",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
