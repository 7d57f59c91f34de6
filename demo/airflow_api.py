"""Talk to a running Airflow through its REST API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import requests

from demo.airflow_resources import DagRun, Question, TaskInstance

T = TypeVar("T")

COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
_REQUEST_TIMEOUT = 30.0
_LOOK_AGAIN = 0.4


class AirflowApiError(RuntimeError):
    """Airflow refused a request, or what was waited for did not happen in time."""


OnProgress = Callable[[DagRun, Sequence[TaskInstance]], None]


class AirflowApi:
    """Airflow's REST API, as far as the demo and the tests need it."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._session = requests.Session()
        # The machine's proxy settings and .netrc have no business with a server on loopback.
        self._session.trust_env = False
        self._session.headers["Accept"] = "application/json"

    def health(self) -> dict[str, str]:
        """Ask how each component is: `healthy`, `unhealthy`, or what kept us from knowing."""
        try:
            answer = self._session.get(f"{self.base_url}/api/v2/monitor/health", timeout=_REQUEST_TIMEOUT)
            answer.raise_for_status()
            body = answer.json()
        except requests.RequestException as error:
            return {"api_server": f"does not answer ({type(error).__name__})"}
        return {name: str((body.get(name) or {}).get("status")) for name in COMPONENTS}

    def wait_until_healthy(
        self, *, timeout: float = 120, on_progress: Callable[[dict[str, str]], None] | None = None
    ) -> None:
        """Wait until the database, the scheduler, the DAG processor and the triggerer are healthy."""
        seen: dict[str, str] = {}

        def all_healthy() -> bool | None:
            nonlocal seen
            seen = self.health()
            if on_progress:
                on_progress(seen)
            return all(status == "healthy" for status in seen.values()) or None

        self.wait_until(
            all_healthy, lambda: f"Airflow to become healthy; components: {seen}", timeout=timeout
        )

    def wait_for_dags(self, dag_ids: Sequence[str], *, timeout: float = 60) -> None:
        """Wait until the DAG processor has parsed these DAGs, and fail at once on an import error."""
        missing = set(dag_ids)

        def all_parsed() -> bool | None:
            known = {str(dag["dag_id"]) for dag in self._get("/dags", limit=100)["dags"]}
            missing.difference_update(known)
            if missing and (errors := self._get("/importErrors")["import_errors"]):
                details = "\n".join(f"{error['filename']}: {error['stack_trace']}" for error in errors)
                raise AirflowApiError(f"Airflow could not import a DAG file:\n{details}")
            return not missing or None

        self.wait_until(all_parsed, lambda: f"the DAGs {sorted(missing)} to be parsed", timeout=timeout)

    def trigger_dag(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run of a DAG and return its run id."""
        path = f"/dags/{quote(dag_id)}/dagRuns"
        answer = self._request("POST", path, json={"logical_date": None, "conf": conf or {}})
        return str(answer.json()["dag_run_id"])

    def clear_task(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task of a DAG run as the UI does, so that it runs again."""
        body = {
            "dry_run": False,
            "only_failed": False,
            "reset_dag_runs": True,
            "dag_run_id": run_id,
            "task_ids": [task_id],
        }
        self._request("POST", f"/dags/{quote(dag_id)}/clearTaskInstances", json=body)

    def mark_task(self, dag_id: str, run_id: str, task_id: str, *, state: str) -> None:
        """Mark a task as the UI does: `success`, `failed` or `skipped`."""
        self._request("PATCH", _task_path(dag_id, run_id, task_id), json={"new_state": state})

    def mark_dag_run(self, dag_id: str, run_id: str, *, state: str) -> None:
        """Mark a DAG run as the UI does: `success` or `failed`."""
        self._request("PATCH", _run_path(dag_id, run_id), json={"state": state})

    def dag_run(self, dag_id: str, run_id: str) -> DagRun:
        """Ask for one run of a DAG."""
        return DagRun(dag_id, run_id, state=str(self._get(_run_path(dag_id, run_id))["state"]))

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """List the tasks of a DAG run, each mapped instance by itself."""
        found = self._get(f"{_run_path(dag_id, run_id)}/taskInstances", limit=100)["task_instances"]
        return [
            TaskInstance(
                task_id=str(task["task_id"]),
                map_index=int(task["map_index"]),
                state=task["state"],
                try_number=int(task["try_number"]),
                duration=task["duration"],
                id=str(task["id"]),
            )
            for task in found
        ]

    def wait_for_dag_runs(
        self, runs: Sequence[DagRun], *, timeout: float = 120, on_progress: OnProgress | None = None
    ) -> list[DagRun]:
        """Wait until all these DAG runs are finished, whichever way, and return them in the same order."""
        seen = list(runs)
        tasks: dict[DagRun, list[TaskInstance]] = {}

        def all_finished() -> list[DagRun] | None:
            for position, run in enumerate(runs):
                if not seen[position].is_finished:
                    seen[position] = self.dag_run(run.dag_id, run.run_id)
                    tasks[run] = self.task_instances(run.dag_id, run.run_id)
                    if on_progress:
                        on_progress(seen[position], tasks[run])
            return seen if all(run.is_finished for run in seen) else None

        def what() -> str:
            unfinished = [
                f"{run.dag_id} {run.run_id} ({', '.join(f'{task.name} {task.state}' for task in tasks[run])})"
                for run, last_seen in zip(runs, seen, strict=True)
                if not last_seen.is_finished
            ]
            return f"these DAG runs to finish: {'; '.join(unfinished)}"

        return self.wait_until(all_finished, what, timeout=timeout)

    def wait_for_dag_run(
        self, dag_id: str, run_id: str, *, timeout: float = 120, on_progress: OnProgress | None = None
    ) -> DagRun:
        """Wait until a DAG run is finished, whichever way, and return it."""
        run = DagRun(dag_id, run_id, state="queued")
        return self.wait_for_dag_runs([run], timeout=timeout, on_progress=on_progress)[0]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str, *, map_index: int = -1) -> Any:
        """Read an XCom; None when it is None or when there is none."""
        path = f"{_task_path(dag_id, run_id, task_id)}/xcomEntries/{quote(key)}"
        answer = self._request(
            "GET",
            path,
            params={"map_index": map_index, "stringify": "false"},
            accepted=(requests.codes.ok, requests.codes.not_found),
        )
        return answer.json()["value"] if answer.status_code == requests.codes.ok else None

    def questions(self, dag_id: str, run_id: str) -> list[Question]:
        """List what the tasks of a DAG run ask or have asked humans."""
        found = self._get(f"{_run_path(dag_id, run_id)}/hitlDetails")["hitl_details"]
        return [
            Question(
                task_id=str(question["task_instance"]["task_id"]),
                subject=str(question["subject"]),
                body=str(question["body"]),
                options=tuple(question["options"]),
                response=(question["chosen_options"] or [None])[0],
            )
            for question in found
        ]

    def wait_for_question(self, dag_id: str, run_id: str, task_id: str, *, timeout: float = 60) -> Question:
        """Wait until a deferred task asks a human."""

        def open_question() -> Question | None:
            self.wait_for_task(dag_id, run_id, task_id, state="deferred", timeout=timeout)
            asked = self.questions(dag_id, run_id)
            return next((one for one in asked if one.task_id == task_id and one.response is None), None)

        return self.wait_until(open_question, f"{task_id} of {dag_id} to ask a human", timeout=timeout)

    def respond(self, dag_id: str, run_id: str, task_id: str, option: str, **params: str) -> None:
        """Respond to what an unmapped task asks, as the form in the UI does."""
        body = {"chosen_options": [option], "params_input": params}
        self._request("PATCH", f"{_task_path(dag_id, run_id, task_id)}/-1/hitlDetails", json=body)

    def create_connection(self, connection_id: str, conn_type: str, **fields: str) -> None:
        """Create a connection as its form in the UI does; `extra` is a JSON text."""
        body = {"connection_id": connection_id, "conn_type": conn_type, **fields}
        self._request("POST", "/connections", json=body)

    def update_connection(self, connection_id: str, conn_type: str, **fields: str) -> None:
        """Change fields of a connection as its form in the UI does."""
        path = f"/connections/{quote(connection_id)}"
        body = {"connection_id": connection_id, "conn_type": conn_type, **fields}
        self._request("PATCH", path, json=body, params={"update_mask": list(fields)})

    def test_connection(self, connection_id: str, conn_type: str, **fields: str) -> tuple[bool, str]:
        """Test a connection as the button in its form does: whether it works, and what is said."""
        body = {"connection_id": connection_id, "conn_type": conn_type, **fields}
        answer = self._request("POST", "/connections/test", json=body).json()
        return answer["status"], answer["message"]

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1
    ) -> str:
        """Read the log of one try of a task; the triggerer's lines are in it."""
        path = f"{_task_path(dag_id, run_id, task_id)}/logs/{try_number}"
        answer = self._request(
            "GET", path, params={"map_index": map_index}, headers={"Accept": "application/x-ndjson"}
        )
        return answer.text

    def log_tail(self, run: DagRun, task: TaskInstance, *, lines: int = 25) -> str:
        """Read the end of the log of a task's last try, one line an event."""
        log = self.task_log(
            run.dag_id, run.run_id, task.task_id, try_number=task.try_number, map_index=task.map_index
        )
        return "\n".join(_log_line(json.loads(line)) for line in log.splitlines()[-lines:])

    def read(self, path: str, **params: object) -> str:
        """Read what the API answers as it is, also that it does not show this."""
        return self._request("GET", path, params=params, accepted=(requests.codes.forbidden,)).text

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, *, state: str, map_index: int = -1, timeout: float = 60
    ) -> TaskInstance:
        """Wait until a task is in a state; fail when its DAG run finishes without that."""

        def in_state() -> TaskInstance | None:
            run = self.dag_run(dag_id, run_id)
            for task in self.task_instances(dag_id, run_id):
                if (task.task_id, task.map_index) == (task_id, map_index):
                    if task.state == state:
                        return task
                    if run.is_finished:
                        raise AirflowApiError(
                            f"{dag_id} {run_id} is {run.state} and its task {task.name} {task.state}, "
                            f"never seen {state}"
                        )
            return None

        return self.wait_until(in_state, f"the task {task_id} of {dag_id} to be {state}", timeout=timeout)

    def wait_until(
        self, probe: Callable[[], T | None], what: str | Callable[[], str], *, timeout: float = 60
    ) -> T:
        """Look again and again until the probe finds something; for what no other method waits for.

        :param what: what is waited for, for the error.
        """
        deadline = time.monotonic() + timeout
        while (found := probe()) is None:
            self.ensure_running()
            if time.monotonic() > deadline:
                wanted = what if isinstance(what, str) else what()
                raise AirflowApiError(self.explain(f"Waited {timeout:.0f} s in vain for {wanted}"))
            time.sleep(_LOOK_AGAIN)
        return found

    def ensure_running(self) -> None:
        """Raise when it is pointless to wait any longer; who knows the processes overrides this."""

    def explain(self, problem: str) -> str:
        """Add to an error what helps to find its cause; who knows the log files overrides this."""
        return problem

    def _get(self, path: str, **params: object) -> Any:
        return self._request("GET", path, params=params).json()

    def _request(
        self, method: str, path: str, *, accepted: Sequence[int] = (), **options: Any
    ) -> requests.Response:
        if "Authorization" not in self._session.headers:
            token = self._session.get(f"{self.base_url}/auth/token", timeout=_REQUEST_TIMEOUT)
            token.raise_for_status()
            self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        url = f"{self.base_url}/api/v2{path}"
        answer = self._session.request(method, url, timeout=_REQUEST_TIMEOUT, **options)
        if not answer.ok and answer.status_code not in accepted:
            problem = f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:500]}"
            is_airflows_fault = answer.status_code >= requests.codes.server_error
            raise AirflowApiError(self.explain(problem) if is_airflows_fault else problem)
        return answer


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"


def _task_path(dag_id: str, run_id: str, task_id: str) -> str:
    return f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}"


def _log_line(event: dict[str, Any]) -> str:
    parts = [event.get(part) for part in ("timestamp", "level", "event")]
    parts += [f"{error['exc_type']}: {error['exc_value']}" for error in event.get("error_detail") or ()]
    return " ".join(str(part) for part in parts if part)
