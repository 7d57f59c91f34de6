"""Run a real Airflow (API server, scheduler, DAG processor, triggerer) and end it for certain."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]
import requests

from demo.airflow_api import AirflowApi, AirflowApiError
from demo.airflow_environment import LOOPBACK, airflow_environment, free_port
from demo.airflow_resources import Question, TaskInstance
from demo.launcher import DONE, ENDED_BY_ITSELF, GRACE, RESTART, STARTED
from demo.processes import end_session, session_members

PROJECT = Path(__file__).resolve().parent.parent
_TAIL_LINES = 15
_PROBE_TIMEOUT = 1.0
_SCHEDULER_NOTICES = 2.0


class StandaloneAirflow(AirflowApi):
    """A real Airflow in its own home on free loopback ports; use it in a `with` statement.

    Nobody has to log in. Connections come from the environment, so no secret is in the metadata database.

        with StandaloneAirflow(dags, connections={"flowyble_default": "…"}) as airflow:
            airflow.wait_until_healthy()
            run_id = airflow.trigger_dag("example", {"message": "Hello"})
            airflow.wait_for_dag_run("example", run_id)

    :param dags_folder: where the DAG files are.
    :param connections: Airflow connections by id, as URI or JSON.
    :param home: AIRFLOW_HOME; a temporary one, removed at the end, when it is not given.
    :param parallelism: how many tasks may run at the same time.
    :param environment: what else stands in the environment of the processes.
    :param restart: whether a component that ends by itself is started again, as a service manager does.
    """

    def __init__(
        self,
        dags_folder: Path,
        *,
        connections: Mapping[str, str] | None = None,
        home: Path | None = None,
        parallelism: int = 6,
        environment: Mapping[str, str] | None = None,
        restart: bool = False,
    ) -> None:
        super().__init__(f"http://{LOOPBACK}:{free_port()}")
        self._execution_port = free_port()
        self.dags_folder = dags_folder.resolve()
        self.home = (home or Path(tempfile.mkdtemp(prefix="agentruns-airflow-"))).resolve()
        self._home_is_temporary = home is None
        self._connections = dict(connections or {})
        self._parallelism = parallelism
        self._environment = dict(environment or {})
        self._restart = restart
        self._launcher: subprocess.Popen[bytes] | None = None

    @property
    def log_folder(self) -> Path:
        """Tell where the components' own logs are; the tasks' logs are in `home/logs`."""
        return self.home / "components"

    @property
    def session_id(self) -> int | None:
        """Tell the id of the session that all processes belong to, when they were started."""
        return self._launcher.pid if self._launcher else None

    @property
    def _execution_api_url(self) -> str:
        return f"http://{LOOPBACK}:{self._execution_port}/execution/"

    def health(self) -> dict[str, str]:
        """Ask how each component is, also the API that the tasks and the triggerer use."""
        # Its first request takes seconds, so it is also warmed up here, while the others are starting.
        return {**super().health(), "execution_api": self._answers(f"{self._execution_api_url}health")}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        # After a failure the logs that the error names must still be there; a Ctrl-C is none.
        failed = isinstance(error, Exception)
        self.stop(keep_home=failed)
        if error is not None and failed:
            error.add_note(f"Airflow's files are kept in {self.home}")

    def start(self) -> None:
        """Start the processes and return at once; `wait_until_healthy` waits for them."""
        self.log_folder.mkdir(parents=True, exist_ok=True)
        with (self.log_folder / "launcher.log").open("wb") as log:
            self._launcher = subprocess.Popen(  # noqa: S603  # our own interpreter, our own module
                [
                    *(sys.executable, "-m", "demo.launcher", str(self.log_folder), str(self._execution_port)),
                    *([RESTART] if self._restart else []),
                ],
                cwd=PROJECT,
                env=airflow_environment(
                    self.home,
                    self.dags_folder,
                    api_url=self.base_url,
                    execution_api_url=self._execution_api_url,
                    connections=self._connections,
                    parallelism=self._parallelism,
                )
                | self._environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal goes to us alone; we end the others in order.
                start_new_session=True,
            )

    def signal_component(self, name: str, number: signal.Signals, *, with_children: bool = True) -> None:
        """Send a signal to a component, for tests of failures; if it ends, it is not missed.

        :param name: `scheduler`, `triggerer`, `dag-processor`, or what `start_component` called it.
        :param with_children: also to its children, as when its machine or container is lost.
        """
        self._ask(f"signal {name} {number.value} {'all' if with_children else 'alone'}")

    def start_component(self, kind: str, *, name: str | None = None) -> None:
        """Start another component, or one that was killed; `wait_until_healthy` waits for it.

        :param kind: `scheduler`, `triggerer`, `dag-processor` or `celery-worker`.
        :param name: what to call it, if there is one of its kind.
        """
        self._ask(f"start {name or kind} {kind}")

    def component_processes(self, name: str) -> list[psutil.Process]:
        """List a component's process and all its descendants; empty when it has ended."""
        pids = [line[2] for line in self._launcher_lines() if line[:2] == [STARTED, name]]
        try:
            process = psutil.Process(int(pids[-1]))
            return [process, *process.children(recursive=True)]
        except (IndexError, psutil.NoSuchProcess):
            return []

    def restarts(self) -> Counter[str]:
        """Count how often each component ended by itself."""
        return Counter(line[0] for line in self._launcher_lines() if ENDED_BY_ITSELF in " ".join(line))

    def task_processes(self, task: TaskInstance) -> list[psutil.Process]:
        """List the processes of a task that runs on a worker: its supervisor and its own."""
        if self.session_id is None:
            return []
        # Each is titled with the id.
        return [process for process in session_members(self.session_id) if task.id in _title(process)]

    def wait_for_question(self, dag_id: str, run_id: str, task_id: str, *, timeout: float = 60) -> Question:
        """Wait until a deferred task asks a human, and may be responded to.

        Who responds before the scheduler has noticed that the worker which asked is gone makes Airflow 3.3.2
        take the resumed task for failed: "state changed externally".
        """
        question = super().wait_for_question(dag_id, run_id, task_id, timeout=timeout)
        [task] = [task for task in self.task_instances(dag_id, run_id) if task.task_id == task_id]
        self.wait_until(lambda: not self.task_processes(task) or None, "the worker that asked to be gone")
        time.sleep(_SCHEDULER_NOTICES)
        return question

    def stop(self, *, keep_home: bool = False) -> None:
        """End every process, then remove a temporary home unless it is to be kept. May be called again."""
        if self._launcher:
            if self._launcher.stdin:
                self._launcher.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                self._launcher.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._launcher.wait(timeout=GRACE + 6)
            self._launcher.kill()
            self._launcher.wait()
            # The launcher ends its session by itself; this is for a launcher that was killed.
            end_session(self._launcher.pid, grace=0)
        if self._home_is_temporary and not keep_home:
            shutil.rmtree(self.home, ignore_errors=True)

    def ensure_running(self) -> None:
        """Raise when a component ended by itself."""
        if self._launcher is None:
            raise AirflowApiError("Airflow was not started: use `with StandaloneAirflow(…)` or call start()")
        if self._launcher.poll() is not None:
            last_words = (self.log_folder / "launcher.log").read_text(errors="replace").splitlines()
            reason = last_words[-1] if last_words else f"exit status {self._launcher.returncode}"
            raise AirflowApiError(self.explain(f"Airflow is not running any more: {reason}"))

    def explain(self, problem: str) -> str:
        """Add the end of each component's log, and where the whole of it is."""
        parts = [problem]
        for log in sorted(self.log_folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            if not lines:
                continue
            parts.append(f"--- {log} (last {min(len(lines), _TAIL_LINES)} of {len(lines)} lines)")
            parts.extend(lines[-_TAIL_LINES:])
        return "\n".join(parts)

    def _ask(self, wish: str) -> None:
        """Ask the launcher for something and wait until it is done."""
        self.ensure_running()
        already_done = self._done()
        if self._launcher and self._launcher.stdin:
            self._launcher.stdin.write(f"{wish}\n".encode())
            self._launcher.stdin.flush()
        self.wait_until(lambda: self._done() > already_done or None, f"the launcher to {wish}")

    def _done(self) -> int:
        return sum(line[:1] == [DONE] for line in self._launcher_lines())

    def _launcher_lines(self) -> list[list[str]]:
        text = (self.log_folder / "launcher.log").read_text(errors="replace")
        return [line.split() for line in text.splitlines()]

    def _answers(self, url: str) -> str:
        try:
            self._session.get(url, timeout=_PROBE_TIMEOUT).raise_for_status()
        except requests.RequestException as error:
            return f"does not answer ({type(error).__name__})"
        return "healthy"


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
