"""No key and no proxy's password gets out of the connections that hold them, whatever happens to a run."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from airflow_provider_agentruns.simulator import Simulator
from demo.standalone import StandaloneAirflow
from tests.e2e.conftest import REFUSED_KEY
from tests.e2e.secret_search import Place, command_lines, find, forms, places_of
from tests.hostile.hostile_server import Asked, HostileServer, head

pytestmark = pytest.mark.e2e

DAG_ID = "e2e_secrets"
UUID = "5e1b6f0a-3c5d-4f6e-8a7b-0c1d2e3f4a5b"
PLANTED = f"planted_{secrets.token_hex(16)}"
STORED_KEYS = {
    "flowyble": f"flw_key_stored_{secrets.token_hex(16)}",
    "snorbe": f"snorbe_stored_{secrets.token_hex(16)}",
}
PROXY_PASSWORD = f"proxy_password_{secrets.token_hex(16)}"
SKILL_SECRET = f"skill_{secrets.token_hex(16)}"
ECHOED_KEY = f"flw_key_echoed_{secrets.token_hex(16)}"
# What a vendor does that shows the key to whoever asks, by the path at which it stands.
ECHOES = ("succeeds", "fails", "forbids", "limits", "breaks", "garbles", "redirects")


def _echo(asked: Asked) -> Iterable[bytes]:
    """Answer as a vendor that puts the key into all that it says."""
    what = asked.target.split("/")[1]
    key = dict(asked.headers)["x-api-key"]
    said = f"your key {key}, in base64 {base64.b64encode(key.encode()).decode()}, was sent to {asked.target}"
    body: dict[str, Any] = {"success": True, "id": UUID, "status": "Pending", "message": said, "error": said}
    status = {"forbids": 403, "limits": 429, "breaks": 500, "redirects": 308}.get(what, 200)
    ending = {"succeeds": "Completed", "fails": "Failed"}.get(what)
    if ending and asked.target.endswith("/status"):
        body = {"id": UUID, "agentId": said, "errorMessage": said, "finalOutput": said, "status": ending}
    content = f"<h1>{said}" if what == "garbles" else json.dumps(body)
    headers = f"Retry-After: 1\r\nX-Key: {key}\r\n"
    if what == "redirects":
        headers += f"Location: http://{key}@{key}.example.com/{key}\r\n"
    yield head(status, f"{headers}Content-Length: {len(content)}\r\n".encode()) + content.encode()


@pytest.fixture(scope="module")
def echo() -> Iterator[HostileServer]:
    with HostileServer() as server:
        server.answer = _echo
        yield server


@pytest.fixture(scope="module")
def silent() -> Iterator[HostileServer]:
    with HostileServer() as server:
        server.endless(b"", b"", times=1, pause=10.0)
        yield server


@pytest.fixture(scope="module")
def dag_run_id(
    airflow: StandaloneAirflow, simulator: Simulator, echo: HostileServer, silent: HostileServer
) -> str:
    """Let runs succeed and fail in every way over connections of every kind; return the DAG run's id."""
    for vendor, key in STORED_KEYS.items():
        simulator.add_key(vendor, key)
    stored: dict[str, dict[str, Any]] = {
        "stored_flowyble": {"host": simulator.url, "password": STORED_KEYS["flowyble"]},
        "stored_snorbe": {
            "conn_type": "snorbe",
            "host": simulator.url,
            "password": STORED_KEYS["snorbe"],
            "extra": {"proxy": simulator.url.replace("://", f"://user:{PROXY_PASSWORD}@")},
        },
        "no_proxy": {
            "host": "http://vendor.invalid",
            "password": STORED_KEYS["flowyble"],
            "extra": {"proxy": f"http://user:{PROXY_PASSWORD}@127.0.0.1:9", "timeout": 1},
        },
        "wrong_proxy": {
            "password": STORED_KEYS["flowyble"],
            "extra": {"proxy": f"socks5://user:{PROXY_PASSWORD}@127.0.0.1:9"},
        },
        "skill": {"conn_type": "generic", "password": SKILL_SECRET},
        "silent": {"host": silent.url, "password": ECHOED_KEY, "extra": {"timeout": 1}},
        **{f"echo_{what}": {"host": f"{echo.url}/{what}", "password": ECHOED_KEY} for what in ECHOES},
    }
    for conn_id, fields in stored.items():
        values = {"conn_type": "flowyble", **fields, "extra": json.dumps(fields.get("extra", {}))}
        airflow.create_connection(conn_id, **values)
        airflow.test_connection(conn_id, **values)
    others = {"stored_snorbe", "skill"}
    flowyble = ["flowyble_default", "flowyble_refused", *(name for name in stored if name not in others)]
    runs: list[dict[str, Any]] = [
        {"conn_id": conn_id, "agent_id": UUID, "message": "[sim: duration=1]"} for conn_id in flowyble
    ]
    runs += [
        {"conn_id": name, "message": "[sim: duration=1]"} for name in ("snorbe_default", "stored_snorbe")
    ]
    runs.append({"conn_id": "snorbe_default", "message": f'[sim: fail, duration=1, error="{PLANTED}"]'})
    runs.append(
        {
            "conn_id": "snorbe_default",
            "message": "[sim: wait, human=secret+plan, secrets=SKILL_KEY, duration=1]",
            "on_human_request": {"secret": "provide", "plan": "ask"},
            "secrets": {"SKILL_KEY": "conn:skill"},
            "response_timeout": 1,
            "defaults": "Approve",
        }
    )
    expected = {"flowyble_default", "snorbe_default", "stored_flowyble", "stored_snorbe", "echo_succeeds"}
    for run in runs:
        # A busy machine must not end what is to succeed, and the rest must not last.
        run["timeout"] = 120 if run["conn_id"] in expected else 12
    waits = [
        {"conn_id": conn_id, "run_id": UUID, "timeout": 12}
        for conn_id in ("flowyble_refused", "echo_fails", "no_proxy")
    ]
    run_id = airflow.trigger_dag(DAG_ID, {"runs": runs, "waits": waits})
    airflow.wait_for_dag_run(DAG_ID, run_id, timeout=180)
    states = {
        task.map_index: task.state
        for task in airflow.task_instances(DAG_ID, run_id)
        if task.task_id == "answer"
    }
    succeeded = {runs[index]["conn_id"] for index, state in states.items() if state == "success"}
    assert succeeded == expected, states
    assert states[len(runs) - 1] == "success", "nobody responded, so the default counts"
    [question] = airflow.questions(DAG_ID, run_id)
    assert question.response == "Approve"
    assert len(echo.asked) > len(ECHOES)
    return run_id


@pytest.fixture(scope="module")
def places(airflow: StandaloneAirflow, dag_run_id: str) -> list[Place]:
    return list(places_of(airflow, DAG_ID, dag_run_id))


def test_the_search_finds_what_was_planted(places: list[Place]) -> None:
    found = " ".join(find(PLANTED, places))
    for kind in (
        "column xcom.value",
        "column dag_run.conf",
        "column rendered_task_instance_fields.rendered_fields",
        "file airflow.db",
        ".log (plain)",
        "REST log answer",
        "REST xcom answer",
        "REST /dags/~/dagRuns/~/taskInstances",
    ):
        assert kind in found, found
    names = {name.split()[0] for name, _ in places}
    assert names == {"file", "column", "process", "REST"}


def test_the_search_finds_every_form_and_every_process() -> None:
    for form, text in forms(PLANTED).items():
        assert f"somewhere ({form})" in find(PLANTED, [("somewhere", b"before " + text + b" after")])
    command = [sys.executable, "-c", "print(flush=True); input()", PLANTED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            # A process has no command line yet while the kernel loads its program.
            assert process.stdout
            process.stdout.readline()
            assert find(PLANTED, command_lines([psutil.Process(process.pid)]))
        finally:
            process.kill()


@pytest.mark.parametrize(
    "whose", ["flowyble", "snorbe", "refused", "stored_flowyble", "stored_snorbe", "echoed", "proxy", "skill"]
)
def test_a_secret_is_nowhere_but_in_its_connection(
    whose: str, places: list[Place], simulator: Simulator
) -> None:
    secret = {
        "flowyble": simulator.flowyble_key,
        "snorbe": simulator.snorbe_key,
        "refused": REFUSED_KEY,
        "stored_flowyble": STORED_KEYS["flowyble"],
        "stored_snorbe": STORED_KEYS["snorbe"],
        "echoed": ECHOED_KEY,
        "proxy": PROXY_PASSWORD,
        "skill": SKILL_SECRET,
    }[whose]
    assert find(secret, places) == []
