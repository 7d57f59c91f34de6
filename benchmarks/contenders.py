"""Who is compared: triggers by class path, what each is given, and how each tells of a failure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

CONN_ID = "vendor"
KEY = "flw_key_benchmark"
_DBT_ACCOUNT = 1


def _uuid(number: int) -> str:
    return str(uuid.UUID(int=number, version=4))


def _connection(conn_type: str, host: str, **fields: str | None) -> dict[str, Any]:
    names = ("login", "password", "port", "schema", "extra")
    return {"conn_id": CONN_ID, "conn_type": conn_type, "host": host, **dict.fromkeys(names), **fields}


def _flowyble(url: str, polls_per_minute: int | None) -> dict[str, Any]:
    # Where time runs faster, the default of 30 s would be no longer than a process may stand still.
    extra = {"timeout": 600, **({"polls_per_minute": polls_per_minute} if polls_per_minute else {})}
    return _connection("flowyble", url, password=KEY, extra=json.dumps(extra))


def _http(url: str, _: int | None) -> dict[str, Any]:
    return _connection("http", url, extra=json.dumps({"X-API-Key": KEY}))


def _dbt_cloud(url: str, _: int | None) -> dict[str, Any]:
    return _connection("dbt_cloud", url.removeprefix("http://"), login=str(_DBT_ACCOUNT), password=KEY)


@dataclass(frozen=True)
class Wait:
    """
    What a trigger is to wait for.

    :param interval: seconds between polls.
    :param end_time: the deadline, seconds since the epoch.
    :param agent: whose run it is, as an operator knows it that has started the run.
    """

    run_id: str
    interval: float
    end_time: float
    agent: str


def _ours(wait: Wait) -> dict[str, Any]:
    return {
        "conn_id": CONN_ID,
        "run_id": wait.run_id,
        "agent_id": wait.agent,
        "poll_interval": wait.interval,
        "end_time": wait.end_time,
    }


def _own(wait: Wait) -> dict[str, Any]:
    return {"conn_id": CONN_ID, "run_id": wait.run_id, "poll_interval": wait.interval}


def _event_trigger(wait: Wait) -> dict[str, Any]:
    return {
        "http_conn_id": CONN_ID,
        "endpoint": f"v1/agents/run/{wait.run_id}/status",
        "response_check_path": "benchmarks.http_check.is_over",
        "poll_interval": wait.interval,
    }


def _dbt_trigger(wait: Wait) -> dict[str, Any]:
    return {
        "conn_id": CONN_ID,
        "run_id": int(wait.run_id),
        "account_id": _DBT_ACCOUNT,
        "poll_interval": wait.interval,
        "end_time": wait.end_time,
    }


@dataclass(frozen=True)
class Contender:
    """
    One way to wait for runs.

    :param letter: as the results name it.
    :param run_id: makes the id of a run from its number.
    :param connection: makes what Airflow's supervisor answers, from the vendor's URL and the budget.
    :param kwargs: makes the trigger's arguments.
    :param has_failed: tells from an event whether its task fails.
    :param preload: modules that its triggers need, which would be loaded long before on a real triggerer.
    :param warm_up: seconds after its first poll in which it goes slow.
    """

    letter: str
    title: str
    classpath: str
    kwargs: Callable[[Wait], Mapping[str, Any]]
    connection: Callable[[str, int | None], dict[str, Any]] = _flowyble
    run_id: Callable[[int], str] = _uuid
    has_failed: Callable[[Any], bool] = lambda _: False
    preload: tuple[str, ...] = ("aiohttp",)
    warm_up: float = 0.0


OURS = Contender(
    "ours",
    "this provider",
    "airflow_provider_agentruns.triggers.AgentRunTrigger",
    _ours,
    has_failed=lambda event: event["outcome"] != "ended",
    preload=("airflow_provider_agentruns.client._async",),
    warm_up=65.0,
)
SESSION_PER_POLL = Contender("a", "a session per poll", "benchmarks.triggers.SessionPerPollTrigger", _own)
SESSION_PER_TRIGGER = Contender(
    "b", "a session per trigger", "benchmarks.triggers.SessionPerTriggerTrigger", _own
)
SHARED_SESSION = Contender("c", "one shared session", "benchmarks.triggers.SharedSessionTrigger", _own)
PATIENT = Contender("c+", "the same, sleeps on a 429", "benchmarks.triggers.PatientTrigger", _own)
HTTP_PROVIDER = Contender(
    "d",
    "HTTP provider's event trigger",
    "airflow.providers.http.triggers.http.HttpEventTrigger",
    _event_trigger,
    connection=_http,
)
DBT_CLOUD_PROVIDER = Contender(
    "e",
    "dbt Cloud provider's trigger",
    "benchmarks.dbt_cloud.DbtCloudRunJobTrigger",
    _dbt_trigger,
    connection=_dbt_cloud,
    run_id=str,
    has_failed=lambda event: event["status"] != "success",
)
NO_OP = Contender(
    "-",
    "a trigger that asks nobody",
    "benchmarks.triggers.NoOpTrigger",
    lambda wait: {"run_id": wait.run_id},
)
OTHERS = (SESSION_PER_POLL, SESSION_PER_TRIGGER, SHARED_SESSION, HTTP_PROVIDER, DBT_CLOUD_PROVIDER)
ALL = (
    OURS,
    SESSION_PER_POLL,
    SESSION_PER_TRIGGER,
    SHARED_SESSION,
    PATIENT,
    HTTP_PROVIDER,
    DBT_CLOUD_PROVIDER,
)
