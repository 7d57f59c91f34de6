"""A real Airflow as it runs on many machines: PostgreSQL, Celery over Redis, two triggerers."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]
from sqlalchemy import create_engine, text

from demo.airflow_api import AirflowApiError
from demo.standalone import StandaloneAirflow
from tests.deployment.services import Postgres, Redis

HERE = Path(__file__).parent
DAGS = HERE / "dags"
TRIGGERERS = ("triggerer", "second-triggerer")
WORKER = "celery-worker"
_MEGABYTE = 1e6
# Airflow's own defaults are for a few tasks in each DAG run; deferred ones cost it little.
_ROOM_FOR_MANY = {
    "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "1000",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "5000",
    "AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP": "20",
    "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "20",
    "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4",
}


class TaskRow(NamedTuple):
    """A task instance, as Airflow's database has it."""

    run_id: str
    task_id: str
    state: str | None
    try_number: int


class Deployment(StandaloneAirflow):
    """
    An Airflow with one scheduler, two triggerers and a Celery worker, each restarted should it end by itself.

    :param home: AIRFLOW_HOME.
    :param names: a file of the names of vendors that resolve.
    :param environment: what else stands in the environment of the processes.
    """

    def __init__(
        self,
        database: Postgres,
        broker: Redis,
        *,
        home: Path,
        names: Path,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(
            DAGS,
            home=home,
            parallelism=32,
            restart=True,
            environment={
                **_ROOM_FOR_MANY,
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url,
                "AIRFLOW__CELERY__BROKER_URL": broker.url,
                "PYTHONPATH": str(HERE / "name_resolution"),
                "AGENTRUNS_TEST_NAMES": str(names),
                **environment,
            },
        )
        self._engine = create_engine(database.url, pool_pre_ping=True)

    def wait_until_complete(self) -> None:
        """Wait until everything runs, the second triggerer and the worker too."""
        self.wait_until_healthy()
        self.start_triggerers(TRIGGERERS[1])
        self.start_worker()
        self.wait_for_dags(["deployment_faults", "deployment_load"])

    def start_worker(self) -> None:
        """Start the Celery worker and wait until it takes tasks."""
        before = self._ready_workers()
        self.start_component(WORKER)
        self.wait_until(lambda: self._ready_workers() > before or None, "the Celery worker to be ready")

    def start_triggerers(self, *names: str) -> None:
        """Start triggerers and wait until each has told Airflow so."""
        jobs = "select count(*) from job where job_type = 'TriggererJob'"
        expected = self._count(jobs) + len(names)
        for name in names:
            self.start_component("triggerer", name=name)
        self.wait_until(lambda: self._count(jobs) >= expected or None, f"{' and '.join(names)} to be alive")

    def kill(self, *names: str) -> None:
        """Kill components with all their processes (`kill -9`)."""
        for name in names:
            processes = self.component_processes(name)
            if not processes:
                raise AirflowApiError(f"{name} does not run")
        for name in names:
            self.signal_component(name, signal.SIGKILL)

    def tasks(self) -> list[TaskRow]:
        """List all task instances."""
        rows = self._rows("select run_id, task_id, state, try_number from task_instance")
        return [TaskRow(*row) for row in rows]

    def states(self) -> Counter[str]:
        """Count the task instances in each state."""
        rows = self._rows("select coalesce(state, 'none'), count(*) from task_instance group by 1")
        return Counter({str(state): int(count) for state, count in rows})

    def xcoms(self, key: str) -> dict[tuple[str, str], object]:
        """Return all XComs of a key by the run id and the task id."""
        rows = self._rows("select run_id, task_id, value from xcom where key = :key", key=key)
        return {(str(run_id), str(task_id)): value for run_id, task_id, value in rows}

    def triggers(self) -> int:
        """Count the triggers that Airflow's database still has."""
        return self._count("select count(*) from trigger")

    def triggers_of_triggerers(self) -> list[int]:
        """Return how many triggers each triggerer has that has some."""
        rows = self._rows("select count(*) from trigger where triggerer_id is not null group by triggerer_id")
        return [int(count) for (count,) in rows]

    def triggerer_megabytes(self) -> float:
        """Return how much memory both triggerers hold together, what they share counted once for each."""
        processes = [process for name in TRIGGERERS for process in self.component_processes(name)]
        return sum(_resident_bytes(process) for process in processes) / _MEGABYTE

    def connections_to(self, ports: set[int]) -> int:
        """Count the open connections of the triggerers to ports of loopback."""
        processes = [process for name in TRIGGERERS for process in self.component_processes(name)]
        return sum(
            connection.status == psutil.CONN_ESTABLISHED and connection.raddr.port in ports
            for process in processes
            for connection in _connections(process)
            if connection.raddr
        )

    def lines_that_say(self, words: str) -> list[str]:
        """List the lines of the components' and the tasks' logs that have these words."""
        files = [*self.log_folder.glob("*.log"), *(self.home / "logs").rglob("*.log")]
        return [
            line for file in files for line in file.read_text(errors="replace").splitlines() if words in line
        ]

    def task_log_text(self, run_id: str, task_id: str) -> str:
        """Read the logs of all tries of a task from the disk."""
        files = (self.home / "logs").glob(f"dag_id=*/run_id={run_id}/task_id={task_id}/*.log")
        return "\n".join(file.read_text(errors="replace") for file in sorted(files))

    def files_that_hold(self, values: Iterable[str]) -> list[str]:
        """List the files below AIRFLOW_HOME, logs included, that hold one of these values."""
        wanted = [value.encode() for value in values]
        contents = ((path, path.read_bytes()) for path in self.home.rglob("*") if path.is_file())
        return [str(path) for path, content in contents for value in wanted if value in content]

    def _ready_workers(self) -> int:
        log = self.log_folder / f"{WORKER}.log"
        return log.read_text(errors="replace").count(" ready.") if log.exists() else 0

    def _count(self, statement: str) -> int:
        return int(self._rows(statement)[0][0])

    def _rows(self, statement: str, **parameters: object) -> list[tuple[Any, ...]]:
        with self._engine.connect() as database:
            return [tuple(row) for row in database.execute(text(statement), parameters)]


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _connections(process: psutil.Process) -> list[psutil._common.pconn]:
    try:
        return list(process.net_connections(kind="tcp"))
    except psutil.Error:
        return []
