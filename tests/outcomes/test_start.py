"""Start runs: what is sent, what is never sent twice, what is refused before anything is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_agentruns.client._sync import Client
from airflow_provider_agentruns.exceptions import (
    AgentRunRefused,
    AgentRunStartUncertain,
    AgentRunTimeout,
    AgentRunUnreadable,
)
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.operators import AgentRunOperator, AgentRunResultOperator
from airflow_provider_agentruns.simulator import Simulator

from .task_runs import MODES, TaskInstance, run_task

AGENT_ID = "5e1b6f0a-3c5d-4f6e-8a7b-0c1d2e3f4a5b"
START: dict[str, dict[str, Any]] = {
    "flowyble": {"agent_id": AGENT_ID, "message": "Say hello."},
    "snorbe": {"message": "Say hello."},
    "tool": {"tool_id": AGENT_ID, "inputs": {"query": "hello"}},
}
START_OPERATION = {"flowyble": "flowyble.agent.start", "snorbe": "snorbe.run.start"}

modes = pytest.mark.parametrize("mode", MODES)
vendors = pytest.mark.parametrize("vendor", ["flowyble", "snorbe"])


def _operator(conn_id: str, mode: str = "inline", **kwargs: Any) -> AgentRunOperator:
    settings: dict[str, Any] = {"poll_interval": 0.02, "timeout": 30, **kwargs}
    return AgentRunOperator(task_id="t", conn_id=conn_id, deferrable=mode == "deferred", **settings)


@modes
@pytest.mark.parametrize("what", ["flowyble", "snorbe", "tool"])
def test_a_run_is_started_once_and_its_output_returned(
    what: str, mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    conn_id = connections["flowyble" if what == "tool" else what]
    outcome = run_task(_operator(conn_id, mode, **START[what]))
    assert outcome.error is None
    [start] = simulator.starts()
    assert outcome.xcoms["run_id"] == start.run_id
    assert outcome.ti.pushed == ["run_id", "agent_run"]
    assert outcome.value
    assert outcome.xcoms["agent_run"]["kind"] == ("tool" if what == "tool" else "agent")
    if what == "tool":
        assert isinstance(outcome.value, dict), "a tool's output is JSON, read from the result endpoint"
        assert outcome.xcoms["agent_run"]["usage"]["tokens"] > 0
    if what == "flowyble":
        usage = outcome.xcoms["agent_run"]["usage"]
        assert all(usage[name] is not None for name in ("steps", "tokens", "actions", "credits"))


@modes
@vendors
def test_a_run_that_is_not_known_at_once_is_waited_for(
    vendor: str, mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    """A 404 is tolerated for a short grace after a start."""
    status = {"flowyble": "flowyble.agent.status", "snorbe": "snorbe.run.status"}[vendor]
    simulator.add_fault("html", status=404, operation=status, times=3)
    outcome = run_task(_operator(connections[vendor], mode, **START[vendor]))
    assert outcome.error is None
    assert outcome.value


@vendors
def test_without_waiting_the_run_id_is_returned(
    vendor: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    outcome = run_task(_operator(connections[vendor], wait_for_completion=False, **START[vendor]))
    [start] = simulator.starts()
    assert outcome.value == outcome.xcoms["run_id"] == start.run_id
    assert simulator.requests(operation=f"{vendor}.agent.status") == []


@vendors
@pytest.mark.parametrize("fault", ["server_error", "reset", "html"])
@pytest.mark.parametrize("after_effect", [True, False])
def test_a_start_that_may_have_been_accepted_is_not_sent_again(
    fault: str, after_effect: bool, vendor: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    """Nor by Airflow's retries. The error says that the run may go on: we cannot know."""
    simulator.add_fault(fault, operation=START_OPERATION[vendor], after_effect=after_effect)
    outcome = run_task(_operator(connections[vendor], **START[vendor]))
    assert isinstance(outcome.error, AgentRunStartUncertain)
    assert isinstance(outcome.error, AirflowFailException)
    assert "look there first" in str(outcome.error)
    assert len(simulator.requests(operation=START_OPERATION[vendor])) == 1
    assert len(simulator.starts()) == (1 if after_effect else 0)


@vendors
def test_a_start_that_was_refused_for_its_rate_is_sent_again(
    vendor: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    simulator.add_fault("rate_limit", operation=START_OPERATION[vendor], retry_after=0.1, times=1)
    outcome = run_task(_operator(connections[vendor], **START[vendor]))
    assert outcome.error is None
    assert len(simulator.requests(operation=START_OPERATION[vendor])) == 2
    assert len(simulator.starts()) == 1


@pytest.mark.parametrize(
    ("vendor", "arguments", "said"),
    [
        ("flowyble", {"message": "hello"}, "agent_id is needed"),
        ("flowyble", {"agent_id": "../admin", "message": "hello"}, "agent_id '../admin' is no UUID"),
        ("flowyble", {"agent_id": AGENT_ID}, "message is empty"),
        ("flowyble", {"agent_id": AGENT_ID, "message": " "}, "message is empty"),
        ("flowyble", {**START["flowyble"], "options": {"locale": "en"}}, "takes no options"),
        ("flowyble", {**START["flowyble"], "tool_id": AGENT_ID}, "not both"),
        ("flowyble", {**START["flowyble"], "inputs": {}}, "inputs belong to tool_id"),
        ("flowyble", {"tool_id": "t1"}, "tool_id 't1' is no UUID"),
        ("flowyble", {"tool_id": AGENT_ID, "inputs": {"x": float("nan")}}, "not JSON data"),
        ("snorbe", {}, "message is empty"),
        ("snorbe", {"tool_id": AGENT_ID}, "no tools"),
        ("snorbe", {"message": "m", "options": {"model": "x"}}, "knows no option 'model'; it knows"),
        ("snorbe", {"message": "m", "options": {"locale": "fr"}}, "locale: Input should be 'ja' or 'en'"),
        ("snorbe", {"message": "m", "options": {"maxBrowsingSteps": 101}}, "maxBrowsingSteps: "),
        ("snorbe", {"message": "m", "options": {"fileUrls": ["http://x"] * 11}}, "fileUrls: "),
        ("snorbe", {"message": "m", "options": {"fileUrls": ["file:///etc/passwd"]}}, "fileUrls.0: "),
        ("snorbe", {"message": "m", "options": {"mentions": [{"id": "a"}]}}, "mentions.0.type: "),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    vendor: str, arguments: dict[str, Any], said: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    outcome = run_task(_operator(connections[vendor], **arguments))
    assert isinstance(outcome.error, AgentRunRefused)
    assert said in str(outcome.error)
    assert connections[vendor] in str(outcome.error)
    assert "Nothing was sent" in str(outcome.error)
    assert simulator.requests() == []


@pytest.mark.parametrize(
    "arguments", [{"message": ["a"]}, {"message": "m", "options": "{}"}, {"agent_id": 5}]
)
def test_input_of_the_wrong_type_is_refused_without_showing_it(
    arguments: dict[str, Any], simulator: Simulator, connections: dict[str, str]
) -> None:
    outcome = run_task(_operator(connections["snorbe"], **arguments))
    assert isinstance(outcome.error, AgentRunRefused)
    assert "Input should be" in str(outcome.error)
    assert "input_value" not in str(outcome.error)


def test_a_start_that_cannot_have_arrived_says_that_nothing_was_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = {"conn_type": "snorbe", "host": "http://127.0.0.1:9", "password": "snorbe_key_0001"}
    monkeypatch.setenv("AIRFLOW_CONN_AWAY", json.dumps(value))
    monkeypatch.setattr(AgentRunHook, "get_conn", _impatient_client)
    outcome = run_task(_operator("away", message="hello"))
    assert type(outcome.error) is AgentRunUnreadable
    assert "Nothing was started" in str(outcome.error)


@pytest.mark.usefixtures("no_connections")
def test_a_connection_that_is_not_there_is_named(simulator: Simulator) -> None:
    outcome = run_task(_operator("no_such_connection", message="hello"))
    assert isinstance(outcome.error, AgentRunRefused)
    assert "no_such_connection" in str(outcome.error)


def _impatient_client(hook: AgentRunHook) -> Client:
    return Client(hook.vendor_connection.settings, sleep=lambda _: None)


def test_a_vendors_refusal_of_a_start_is_told(simulator: Simulator, connections: dict[str, str]) -> None:
    simulator.revoke_key("flowyble", simulator.flowyble_key)
    outcome = run_task(_operator(connections["flowyble"], **START["flowyble"]))
    assert isinstance(outcome.error, AgentRunRefused)
    assert "HTTP 401" in str(outcome.error)


def test_a_run_that_goes_on_after_all_is_waited_for_again(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    """A trigger that saw an end is not the last word: somebody may have resumed the run since."""
    run_id = simulator.create_run("snorbe", scenario="never")
    operator = AgentRunResultOperator(
        task_id="t", conn_id=connections["snorbe"], run_id=run_id, poll_interval=0.02, deferrable=True
    )
    context: Any = {"ti": TaskInstance("t")}
    event = {
        "outcome": "ended",
        "run_id": run_id,
        "run_kind": "agent",
        "status": "succeeded",
        "end_time": 9e9,
    }
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute_complete(context, event)
    assert deferred.value.trigger.end_time == 9e9, "the deadline stays"
    with pytest.raises(AgentRunTimeout):
        operator.execute_complete(context, {**event, "end_time": 1.0})


@vendors
def test_a_result_that_cannot_be_read_names_the_run(
    vendor: str, simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AgentRunHook, "get_conn", _impatient_client)
    run_id = simulator.create_run(vendor, duration=0)
    operation = {"flowyble": "flowyble.agent.status", "snorbe": "snorbe.run.get"}[vendor]
    simulator.add_fault("server_error", operation=operation)
    operator = AgentRunResultOperator(task_id="t", conn_id=connections[vendor], run_id=run_id)
    event = {
        "outcome": "ended",
        "run_id": run_id,
        "run_kind": "agent",
        "status": "succeeded",
        "end_time": 9e9,
    }
    with pytest.raises(AgentRunUnreadable, match=run_id):
        operator.execute_complete({"ti": TaskInstance("t")}, event)  # type: ignore[typeddict-item]


def test_when_airflow_ends_the_wait_the_error_names_the_run(connections: dict[str, str]) -> None:
    """Airflow fails a deferred task without asking us when a trigger is lost or much too late."""
    ti = TaskInstance("t", xcoms={"run_id": "r-17"})
    operator = _operator(connections["snorbe"], message="hello")
    with pytest.raises(AgentRunUnreadable, match=r"r-17.*AgentRunResultOperator"):
        operator.resume_execution("__fail__", {"error": "Trigger timeout"}, {"ti": ti})  # type: ignore[typeddict-item]


def test_an_event_of_another_version_is_refused_clearly(connections: dict[str, str]) -> None:
    operator = _operator(connections["snorbe"], message="hello")
    with pytest.raises(AirflowException, match="does not understand"):
        operator.execute_complete({"ti": TaskInstance("t")}, {"status": "success"})  # type: ignore[typeddict-item]


@pytest.mark.parametrize("name", ["poll_interval", "timeout"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), True, "5"])
def test_a_duration_must_be_positive(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive number of seconds"):
        _operator("c", message="hello", **{name: value})


def test_templated_fields_are_those_documented() -> None:
    assert set(AgentRunOperator.template_fields) == {
        "conn_id",
        "agent_id",
        "message",
        "tool_id",
        "inputs",
        "options",
    }
    assert set(AgentRunResultOperator.template_fields) == {"conn_id", "run_id", "run_kind", "options"}
    assert json.dumps(AgentRunOperator.template_fields_renderers)
