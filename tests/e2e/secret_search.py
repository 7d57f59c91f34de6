"""Look for a secret wherever an Airflow keeps or shows something, in every form it could stand there."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]

from demo.processes import session_members
from demo.standalone import StandaloneAirflow

_EVERYTHING = ("/dags/~/dagRuns/~/taskInstances", "/dags/~/dagRuns/~/hitlDetails", "/dags/~/dagRuns")
_SHOWN = (
    "/connections",
    "/variables",
    "/pools",
    "/config",
    "/plugins",
    "/providers",
    "/jobs",
    "/importErrors",
    "/dagWarnings",
    "/assets/events",
    "/dags",
)

Place = tuple[str, bytes]


def forms(secret: str) -> dict[str, bytes]:
    """Return how a secret may stand in a place, by the form's name."""
    plain = secret.encode()
    # Where the secret begins within a text decides which bits of it share a letter with its neighbours.
    shifted = {
        f"base64+{shift}": base64.b64encode(b" " * shift + plain)[4 if shift else 0 : -4]
        for shift in range(3)
    }
    texts = {
        "plain": secret,
        "reversed": secret[::-1],
        "url": quote(secret, safe=""),
        "json": json.dumps(secret)[1:-1],
    }
    return {**{name: text.encode() for name, text in texts.items()}, **shifted, "hex": plain.hex().encode()}


def find(secret: str, places: Iterable[Place]) -> list[str]:
    """Return the places that hold a secret, each with the form in which it stands there."""
    looked_for = forms(secret)
    return [
        f"{name} ({form})"
        for name, content in places
        for form, needle in looked_for.items()
        if needle in content
    ]


def places_of(airflow: StandaloneAirflow, dag_id: str, run_id: str) -> Iterator[Place]:
    """
    Yield all that an Airflow has stored, written and shows.

    :param run_id: the DAG run whose tasks are looked at over the REST API one by one.
    """
    yield from _files(airflow)
    yield from _columns(airflow)
    yield from command_lines(session_members(airflow.session_id or 0))
    yield from _answers(airflow, dag_id, run_id)


def command_lines(processes: Iterable[psutil.Process]) -> Iterator[Place]:
    """Yield the command line of each process that still lives."""
    for process in processes:
        try:
            yield f"process {process.pid}", "\0".join(process.cmdline()).encode()
        except psutil.Error:
            continue


def _files(airflow: StandaloneAirflow) -> Iterator[Place]:
    """Yield every file, those of the database too: what was deleted may still stand in them."""
    for path in airflow.home.rglob("*"):
        if path.is_file():
            yield f"file {path.relative_to(airflow.home)}", path.read_bytes()


def _columns(airflow: StandaloneAirflow) -> Iterator[Place]:
    with closing(
        sqlite3.connect(f"file:{airflow.home / 'airflow.db'}?mode=ro", uri=True, timeout=30)
    ) as database:
        database.text_factory = bytes
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            rows = database.execute(f'SELECT * FROM "{table.decode()}"')  # noqa: S608 - its own names
            names = [column[0] for column in rows.description]
            for row in rows:
                for name, value in zip(names, row, strict=True):
                    content = value if isinstance(value, bytes) else str(value).encode()
                    yield f"column {table.decode()}.{name}", content


def _answers(airflow: StandaloneAirflow, dag_id: str, run_id: str) -> Iterator[Place]:
    for path in (*_SHOWN, *_EVERYTHING, f"/dagSources/{dag_id}"):
        yield f"REST {path}", airflow.read(path, limit=100).encode()
    yield "REST /eventLogs", airflow.read("/eventLogs", limit=100, order_by="-when").encode()
    for connection in json.loads(airflow.read("/connections", limit=100))["connections"]:
        conn_id = connection["connection_id"]
        yield f"REST connection {conn_id}", airflow.read(f"/connections/{conn_id}").encode()
    for task in airflow.task_instances(dag_id, run_id):
        where = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task.task_id}"
        log = airflow.task_log(dag_id, run_id, task.task_id, map_index=task.map_index)
        yield f"REST log {task.name}", log.encode()
        listed: dict[str, Any] = json.loads(airflow.read(f"{where}/xcomEntries", map_index=task.map_index))
        for entry in listed["xcom_entries"]:
            key = quote(entry["key"], safe="")
            value = airflow.read(f"{where}/xcomEntries/{key}", map_index=task.map_index, stringify=False)
            yield f"REST xcom {task.name} {entry['key']}", value.encode()
