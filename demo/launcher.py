"""Run Airflow's components as forks of one process that imported Airflow once.

Started as `python -m demo.launcher LOG_FOLDER EXECUTION_PORT [--restart]` by `demo.standalone`, in its own
session.
Importing Airflow takes about five seconds of a core, and `airflow standalone` pays it five times; here it is
paid once, and the worker processes inherit it too. Standard input is a lifeline: when it closes, because the
parent asked for the end or because it died, the whole session ends. It also ends when a component ends
by itself; with `--restart` that one is started again, as a service manager does.

For tests of failures, a line on standard input asks for one. `signal COMPONENT NUMBER alone` sends a signal
to a component's process, with `all` in place of `alone` also to its children; the end of a component that was
terminated or killed so is no reason to end. `start COMPONENT KIND` starts another one, called COMPONENT.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import sys
import traceback
from pathlib import Path

from setproctitle import setproctitle

from demo.processes import end_session, signal_family

GRACE = 2.0
DONE = "done:"
STARTED = "started:"
ENDED_BY_ITSELF = "ended by itself"
RESTART = "--restart"
EVERY_COMPONENT_NEEDS = (
    "airflow.settings",
    "airflow.cli.cli_parser",
    "airflow.utils.db",
)
# The tasks of the LocalExecutor and the parsers are forks as well: what is imported here costs them nothing.
WORKERS_NEED = (
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.dag_processor_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.executors.local_executor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.decorators.branch_python",
    "airflow_provider_agentruns.operators",
    "airflow_provider_agentruns.sensors",
)
# Importing either half of the API server keeps a core busy for about ten seconds, so they are two processes.
API_SERVERS = {
    "api-server": ("api-server", "--apps", "core"),
    "execution-api": ("api-server", "--apps", "execution", "--port", "{execution_port}"),
}
DATABASE_USERS = {
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
ON_DEMAND = {"celery-worker": ("celery", "worker", "--skip-serve-logs")}
KINDS = DATABASE_USERS | ON_DEMAND


def fork_airflow(name: str, arguments: tuple[str, ...], log_folder: Path) -> int:
    """Fork a child that runs `airflow ARGUMENTS` with its output in the component's log file."""
    pid = os.fork()
    if pid:
        return pid
    exit_status = 1
    try:
        log = os.open(log_folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.argv = ["airflow", *arguments]
        setproctitle(f"airflow {name}")
        main = importlib.import_module("airflow.__main__").main
        main()
        exit_status = 0
    except SystemExit as exit_request:
        exit_status = exit_request.code if isinstance(exit_request.code, int) else 1
    except BaseException:  # noqa: BLE001  # a fork must never return into the launcher's own code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_status)


class Lifeline:
    """Standard input: the parent's wishes, a line each, until it closes."""

    def __init__(self) -> None:
        self.is_closed = False
        self._unfinished = b""

    def wishes(self, wait: float) -> list[list[str]]:
        """Wait up to `wait` seconds for the parent to write, and return the words of each whole line."""
        readable, _, _ = select.select([0], [], [], wait)
        if not readable:
            return []
        received = os.read(0, 4096)
        self.is_closed = not received
        *lines, self._unfinished = (self._unfinished + received).split(b"\n")
        return [line.decode().split() for line in lines]


class Components:
    """The running components.

    :param log_folder: where each has its log file.
    """

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self._names: dict[int, str] = {}
        self._arguments: dict[str, tuple[str, ...]] = {}

    def start(self, name: str, arguments: tuple[str, ...]) -> None:
        """Start one, whose end will be missed."""
        pid = fork_airflow(name, arguments, self._log_folder)
        self._names[pid] = name
        self._arguments[name] = arguments
        print(f"{STARTED} {name} {pid}", flush=True)

    def start_again(self, name: str) -> None:
        """Start one that has ended."""
        self.start(name, self._arguments[name])

    def obey(self, wish: list[str]) -> None:
        """Do what a line on standard input asks for; see the module.

        :raises ValueError: it is not understood, or there is no such component.
        """
        match wish:
            case ["start", name, kind] if kind in KINDS:
                self.start(name, KINDS[kind])
            case ["signal", name, number, ("alone" | "all") as whom] if name in self._names.values():
                self._signal(name, signal.Signals(int(number)), with_children=whom == "all")
            case _:
                raise ValueError(f"do not understand {' '.join(wish)!r}")

    def ended_by_itself(self) -> tuple[str, int] | None:
        """Tell which component ended without being asked to, and its exit status; None if there is none."""
        with contextlib.suppress(ChildProcessError):
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
            if name := self._names.pop(pid, None):
                return name, os.waitstatus_to_exitcode(wait_status)
        return None

    def _signal(self, name: str, number: signal.Signals, *, with_children: bool) -> None:
        pid = next(pid for pid, its_name in self._names.items() if its_name == name)
        if number in {signal.SIGTERM, signal.SIGKILL}:
            del self._names[pid]
        signal_family(pid, number, with_children=with_children)


def watch(components: Components, *, restart: bool) -> int:
    """
    Wait until the lifeline closes (0) or a component ends by itself (1).

    :param restart: start that component again instead.
    """
    lifeline = Lifeline()
    while not lifeline.is_closed:
        for wish in lifeline.wishes(0.2):
            components.obey(wish)
            print(f"{DONE} {' '.join(wish)}", flush=True)
        if ended := components.ended_by_itself():
            name, exit_status = ended
            print(f"{name} {ENDED_BY_ITSELF}, exit status {exit_status}", flush=True)
            if not restart:
                return 1
            components.start_again(name)
    return 0


def main(log_folder: Path, execution_port: str, *, restart: bool) -> int:
    """Migrate, start the components, and wait for the end."""
    for module in EVERY_COMPONENT_NEEDS:
        importlib.import_module(module)
    components = Components(log_folder)
    # The API servers have the longest way to go, and need no database before their first request.
    for name, arguments in API_SERVERS.items():
        components.start(name, tuple(part.format(execution_port=execution_port) for part in arguments))
    # A child migrates: this process must not open a database connection that its forks would share.
    migration = fork_airflow("db-migrate", ("db", "migrate"), log_folder)
    for module in WORKERS_NEED:
        importlib.import_module(module)
    _, wait_status = os.waitpid(migration, 0)
    if exit_status := os.waitstatus_to_exitcode(wait_status):
        print(f"db-migrate failed, exit status {exit_status}", flush=True)
        return 1
    for name, arguments in DATABASE_USERS.items():
        components.start(name, arguments)
    return watch(components, restart=restart)


if __name__ == "__main__":
    # The parent's end_session() may reach us too; the session must end in the order given below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        status = main(Path(sys.argv[1]), sys.argv[2], restart=RESTART in sys.argv[3:])
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_session(os.getpid(), grace=GRACE)
    sys.exit(status)
