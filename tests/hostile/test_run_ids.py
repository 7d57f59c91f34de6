"""An id from outside never changes where a request goes, and a refusal names the field."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from airflow.sdk import BaseOperator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.exceptions import InvalidInputError, ResponseFormatError
from airflow_provider_agentruns.client.models import MAX_RUN_ID_LENGTH, RunRef
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.operators import AgentRunOperator, AgentRunResultOperator
from airflow_provider_agentruns.runs_sensor import AgentRunsSensor
from airflow_provider_agentruns.sensors import AgentRunSensor
from airflow_provider_agentruns.testing import Send
from airflow_provider_agentruns.triggers import AgentRunTrigger
from airflow_provider_agentruns.vendors.base import StartRequest, VendorAdapter
from tests.hostile.hostile_server import KEY, HostileServer
from tests.hostile.vendor_calls import FLOWYBLE, SNORBE, ended
from tests.outcomes.task_runs import fire, run_task

HOSTILE = {
    "traversal": "../../admin",
    "dots": "..",
    "dot": ".",
    "slash": "a/b",
    "backslash": "..\\..\\admin",
    "encoded": "%2e%2e%2f",
    "encoded-twice": "%252e%252e%252f",
    "query": "a?limit=1",
    "fragment": "a#b",
    "url": "http://169.254.169.254/latest/meta-data",
    "no-scheme": "//169.254.169.254/",
    "user": "x@169.254.169.254/",
    "header": "a\r\nHost: evil.example.com",
    "encoded-header": "a%0d%0aHost:%20evil.example.com",
    "request": "a HTTP/1.1\r\n\r\nGET /admin",
    "space": "a b",
    "nul": "a\0b",
    "escape": "\x1b[31ma",
    "right-to-left": "a\u202eb",
    "wide-dots": "\uff0e\uff0e\uff0fa",
    "accent": "run-é",
    "digits": "\u0661\u0662",
    "surrogate": "a\ud800",
    "line": "a\u2028::group::b",
    "newline": "clxyz123\n",
    "template": "{{ conn.x.password }}",
    "long": "x" * 10_000,
    "empty": "",
    "blank": "   ",
    "nothing": "None",
}
hostile_ids = pytest.mark.parametrize("run_id", HOSTILE.values(), ids=HOSTILE)
each_vendor = pytest.mark.parametrize("adapter", [FLOWYBLE, SNORBE], ids=lambda adapter: adapter.conn_type)


@pytest.fixture
def conn_id(adapter: VendorAdapter, server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> str:
    server.answers(b'{"status": "completed"}')
    value = {"conn_type": adapter.conn_type, "host": server.url, "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_HOSTILE", json.dumps(value))
    return "hostile"


def is_refusal(text: str) -> bool:
    assert text.isprintable()
    assert len(text) < 1000
    return "run_id" in text


HOOK_METHODS: dict[str, Callable[[AgentRunHook, str], object]] = {
    "ref": lambda hook, run_id: hook.ref(run_id),
    "get_status": lambda hook, run_id: hook.get_status(run_id),
    "get_result": lambda hook, run_id: hook.get_result(run_id),
    "cancel": lambda hook, run_id: hook.cancel(run_id),
}


@each_vendor
@hostile_ids
@pytest.mark.parametrize("method", HOOK_METHODS.values(), ids=HOOK_METHODS)
def test_a_hook_refuses_it_and_sends_nothing(
    method: Callable[[AgentRunHook, str], object], run_id: str, conn_id: str, server: HostileServer
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        method(AgentRunHook(conn_id), run_id)
    assert is_refusal(str(caught.value))
    assert server.asked == []


@each_vendor
@hostile_ids
@pytest.mark.parametrize("deferrable", [False, True], ids=["on-worker", "deferred"])
def test_tasks_refuse_it_and_send_nothing(
    deferrable: bool, run_id: str, conn_id: str, server: HostileServer
) -> None:
    settings: dict[str, Any] = {"conn_id": conn_id, "deferrable": deferrable, "timeout": 5}
    tasks: list[BaseOperator] = [
        AgentRunSensor(task_id="sensor", run_id=run_id, poke_interval=1, **settings),
        AgentRunResultOperator(task_id="result", run_id=run_id, poll_interval=1, **settings),
        AgentRunsSensor(task_id="sensors", run_ids=[run_id], poke_interval=1, **settings),
    ]
    for task in tasks:
        outcome = run_task(task)
        assert is_refusal(str(outcome.error))
        assert outcome.deferrals == []
        assert all(text.isprintable() for text in _texts(outcome.xcoms))
    assert server.asked == []


@each_vendor
@hostile_ids
def test_a_trigger_refuses_it_and_sends_nothing(run_id: str, conn_id: str, server: HostileServer) -> None:
    """One that a task did not check: started without a worker, or from a row that somebody wrote."""
    trigger = AgentRunTrigger(conn_id=conn_id, run_id=run_id, poll_interval=1, end_time=time.time() + 5)
    event = fire(_Deferred(trigger))  # type: ignore[arg-type]
    assert event["outcome"] == "refused"
    assert is_refusal(event["error"])
    assert server.asked == []


@each_vendor
@pytest.mark.parametrize("value", [None, 17, True, ["a"], {"run_id": "a"}, b"a"], ids=repr)
def test_what_is_no_text_is_refused_by_name(value: Any, adapter: VendorAdapter) -> None:
    with pytest.raises(InvalidInputError, match="run_id is "):
        adapter.ref(value)


@each_vendor
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    run_id=st.one_of(
        st.text(), st.from_regex(r"[A-Za-z0-9._~:=+@-]{1,40}", fullmatch=True), st.uuids().map(str)
    )
)
def test_an_id_that_is_taken_stays_one_segment_of_the_path(
    adapter: VendorAdapter, run_id: str, server: HostileServer, send: Send[Any]
) -> None:
    try:
        ref = adapter.ref(run_id)
    except InvalidInputError as error:
        assert is_refusal(str(error))  # noqa: PT017 - either is fine
        return
    assert len(ref.run_id) <= MAX_RUN_ID_LENGTH
    server.answers(json.dumps({"id": ref.run_id, "status": "completed", "process": []}).encode())
    for call in (adapter.status(ref), adapter.result(ended(adapter, ref.run_id, adapter.run_kinds[-1]))):
        assert call is not None
        send(server.settings(adapter, base_url=f"{server.url}/prefix"), call)
    for asked in server.asked:
        parts = urlsplit(asked.target)
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
        segments = parts.path.split("/")
        assert segments[1] == "prefix"
        assert ref.run_id in [unquote(segment) for segment in segments]
        assert not {"", ".", ".."} & set(segments[1:])
        assert dict(asked.headers)["host"] == server.host
        assert len(asked.headers) == len(dict(asked.headers))
    assert len(server.asked) == 2


@pytest.mark.parametrize("target", ["agent_id", "tool_id"])
@hostile_ids
def test_an_agent_of_flowyble_is_refused_by_name(target: str, run_id: str) -> None:
    if not run_id:
        pytest.skip("none is given")
    request = StartRequest(**{target: run_id, **({"message": "hello"} if target == "agent_id" else {})})
    with pytest.raises(InvalidInputError, match=target) as caught:
        FLOWYBLE.start(request)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@hostile_ids
def test_a_token_or_a_cursor_stays_where_it_belongs(
    run_id: str, server: HostileServer, send: Send[Any]
) -> None:
    """A webhook's token is a segment of the path; the cursor of a page comes from the vendor."""
    server.answers(b'{"turns": []}')
    calls: list[Call[Any]] = []
    with suppress(InvalidInputError):
        calls.append(FLOWYBLE.start_by_webhook(run_id, {}))
    if run_id.isprintable():
        turns = SNORBE.accepted_starts(StartRequest(message="m"), 0.0, run_id[:500])
        calls += [turns] if turns else []
    for call in calls:
        with suppress(ResponseFormatError):
            send(server.settings(SNORBE), call)
    assert len(server.asked) == len(calls)
    for asked in server.asked:
        path, _, query = asked.target.partition("?")
        assert path == "/api/v1/turn/list" or re.fullmatch(r"/webhooks/[^/]+", path)
        assert re.fullmatch(r"(limit=10(&cursor=[^&#]+)?)?", query)
        sent = query.rpartition("cursor=")[2] if query else path.rpartition("/")[2]
        assert unquote(sent) in {run_id, run_id[:500], "limit=10"}
        assert dict(asked.headers)["host"] == server.host


def test_a_hostile_agent_of_snorbe_stays_in_the_body(server: HostileServer, send: Send[Any]) -> None:
    server.pieces(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    for agent_id in HOSTILE.values():
        if agent_id.strip() and "\ud800" not in agent_id:
            call = SNORBE.start(StartRequest(agent_id=agent_id, message="hello"))
            assert call.request.operation.isprintable()
            assert call.request.path == "/api/v1/agent/run/stream"
            assert json.loads(call.request.content or b"")["agentId"] == agent_id


@pytest.mark.parametrize("name", ["agent_id", "message", "tool_id", "options"])
@each_vendor
def test_a_start_that_cannot_be_text_is_refused_and_nothing_sent(
    name: str, conn_id: str, server: HostileServer
) -> None:
    what: dict[str, Any] = {"message": "hello", "agent_id": "a", name: "\ud800"}
    if name == "options":
        what[name] = {"mode\nlName": 1, "\x1b[31m": 2}
    outcome = run_task(AgentRunOperator(task_id="start", conn_id=conn_id, deferrable=False, **what))
    assert str(outcome.error).isprintable()
    assert "Nothing was sent" in str(outcome.error)
    assert server.asked == []


def test_a_ref_is_checked_however_it_is_made() -> None:
    for run_id in HOSTILE.values():
        with pytest.raises(ValueError, match="run_id"):
            RunRef(run_id=run_id)
    assert quote("a:b@c", safe="") == "a%3Ab%40c"


class _Deferred:
    def __init__(self, trigger: AgentRunTrigger) -> None:
        self.trigger = trigger


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []
