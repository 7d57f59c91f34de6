"""Wait: what is logged, what survives a replaced key, what leaks nowhere."""

from __future__ import annotations

import asyncio
import json
import re
import time
import traceback
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.comms import ErrorResponse
from pytest_mock import MockerFixture

from airflow_provider_agentruns.connection_cache import ConnectionCache
from airflow_provider_agentruns.connections import (
    VendorConnection,
    aget_vendor_connection,
    get_vendor_connection,
)
from airflow_provider_agentruns.exceptions import AgentRunTimeout
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.operators import AgentRunOperator, AgentRunResultOperator
from airflow_provider_agentruns.polling.poller import Decision, RunPoller
from airflow_provider_agentruns.sensors import AgentRunSensor
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.triggers import AgentRunTrigger
from airflow_provider_agentruns.vendor_trigger import _emit

from .task_runs import MODES, Outcome, TaskInstance, run_task, waits_on_after

modes = pytest.mark.parametrize("mode", MODES)


def _wait(conn_id: str, run_id: str, mode: str, timeout: float = 30.0) -> Outcome:
    return run_task(
        AgentRunResultOperator(
            task_id="t",
            conn_id=conn_id,
            run_id=run_id,
            poll_interval=0.02,
            timeout=timeout,
            deferrable=mode == "deferred",
        )
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"human": "plan"}, "a plan draft waits for review"),
        ({"human": "report"}, "a report draft waits for review"),
        ({"human": "matrix"}, "a matrix draft waits for review"),
        ({"human": "secret", "secrets": "PATENT_API_KEY"}, "needs secrets: PATENT_API_KEY"),
        ({"human": "browser", "question": "Which\naccount?"}, "the browser asks: Which account?"),
    ],
)
@modes
def test_a_run_that_waits_on_a_human_goes_on_waiting_and_says_once_what_is_asked(
    options: dict[str, Any],
    said: str,
    mode: str,
    simulator: Simulator,
    connections: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_id = simulator.create_run("snorbe", scenario="wait", duration=0.01, **options)
    outcome = _wait(connections["snorbe"], run_id, mode, timeout=1.0)
    assert isinstance(outcome.error, AgentRunTimeout)
    assert "waiting" in str(outcome.error)
    lines = [line for line in capsys.readouterr().out.splitlines() if said in line]
    assert len(lines) == 1
    assert run_id in lines[0]
    assert "answer it at the vendor" in lines[0]
    assert len(simulator.requests(run_id=run_id)) > 3


@modes
def test_a_key_that_is_replaced_meanwhile_is_picked_up(
    mode: str, simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 401 while waiting looks the connection up again before it fails the task."""
    run_id = simulator.create_run("flowyble", duration=0.1, output="all done")
    old_key, new_key = simulator.flowyble_key, "flw_key_replaced_0001"
    value = {"conn_type": "flowyble", "host": simulator.url, "password": old_key}
    monkeypatch.setenv("AIRFLOW_CONN_FLOWYBLE_TEST", json.dumps(value))
    simulator.add_key("flowyble", new_key)
    simulator.revoke_key("flowyble", old_key)

    def replace_key() -> None:
        monkeypatch.setenv("AIRFLOW_CONN_FLOWYBLE_TEST", json.dumps({**value, "password": new_key}))

    on_error = RunPoller.on_error

    def replace_key_first(*args: Any) -> Decision:
        replace_key()
        return on_error(*args)

    monkeypatch.setattr(RunPoller, "on_error", replace_key_first)
    outcome = _wait(connections["flowyble"], run_id, mode)
    assert outcome.error is None
    assert outcome.value == "all done"
    assert simulator.requests(run_id=run_id)[0].status == 401


def test_what_airflow_stores_of_a_wait_is_small_and_holds_no_secret(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    output = "the final output " * 100
    run_id = simulator.create_run("snorbe", duration=0.1, output=output)
    outcome = _wait(connections["snorbe"], run_id, "deferred")
    assert outcome.value == output
    [deferral] = outcome.deferrals
    stored = json.dumps([deferral.trigger.serialize(), deferral.kwargs, outcome.events])
    assert simulator.snorbe_key not in stored
    assert "the final output" not in stored
    assert len(stored) < 1100


def test_airflows_own_timeout_comes_after_the_triggers(
    connections: dict[str, str], simulator: Simulator
) -> None:
    run_id = simulator.create_run("snorbe", duration=0.1)
    before = time.time()
    outcome = _wait(connections["snorbe"], run_id, "deferred", timeout=120)
    [deferral] = outcome.deferrals
    assert deferral.timeout is not None
    assert before + 120 <= deferral.trigger.end_time <= time.time() + 120
    assert deferral.timeout.total_seconds() > 120


def test_a_trigger_is_rebuilt_from_what_is_stored_of_it() -> None:
    kwargs = {
        "conn_id": "c",
        "run_id": "r",
        "run_kind": "tool",
        "agent_id": "a",
        "poll_interval": 3.0,
        "end_time": 5.0,
        "poll_from": 2.0,
        "not_found_until": 1.0,
        "since": 0.5,
        "stall_timeout": 4.0,
        "cancel_on_kill": True,
        "cancel_on_clear": True,
        "human_policies": {"plan": "ask"},
        "exchange": {"asked": "plan-draft"},
        "timeout": None,
        "execution_timeout": None,
    }
    trigger = AgentRunTrigger(**kwargs)  # type: ignore[arg-type]
    assert trigger.serialize() == ("airflow_provider_agentruns.triggers.AgentRunTrigger", kwargs)


@pytest.mark.usefixtures("default_connections")
@pytest.mark.parametrize("task_class", [AgentRunResultOperator, AgentRunSensor])
def test_a_run_that_ended_while_its_last_poll_stood_in_line_has_not_timed_out(
    task_class: type[AgentRunResultOperator | AgentRunSensor], simulator: Simulator
) -> None:
    run_id = simulator.create_run("snorbe", duration=0)
    event = {"outcome": "timed_out", "run_id": run_id, "run_kind": "agent", "end_time": time.time() - 1}
    task = task_class(task_id="t", conn_id="snorbe_default", run_id=run_id)
    ti = TaskInstance("t")
    context: Any = {"ti": ti}
    task.execute_complete(context, event)
    if task_class is AgentRunResultOperator:
        assert ti.xcoms["agent_run"]["status"] == "succeeded"


# What Airflow on SQLite may bring: it gives a trigger the id of one that was removed and fires all the same.
FOREIGN = {
    "the end of another run": {"outcome": "ended", "run_id": "r2", "status": "succeeded", "end_time": 9e9},
    "a response about another run": {"chosen_options": ["Approve"], "run_id": "r2"},
    "that many runs have ended": {"outcome": "reached", "digest": "d", "end_time": 9e9},
    "the time, of another provider": datetime(2027, 1, 1, tzinfo=UTC),
}


@pytest.mark.parametrize("event", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("task_class", [AgentRunOperator, AgentRunResultOperator, AgentRunSensor])
def test_an_event_of_something_else_ends_no_wait(
    task_class: Any,
    event: Any,
    simulator: Simulator,
    connections: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_id = simulator.create_run("snorbe", scenario="never")
    what = {"message": "[sim: never]"} if task_class is AgentRunOperator else {"run_id": run_id}
    task = task_class(task_id="t", conn_id=connections["snorbe"], deferrable=True, timeout=500, **what)
    context: Any = {"ti": TaskInstance("t")}
    assert waits_on_after(task, event, context)
    assert context["ti"].xcoms.keys() == {"run_id"}
    assert len(simulator.starts()) == 1 + (task_class is AgentRunOperator), "the run made here counts"
    assert re.search(r"Airflow brought an event of (run r2|another trigger); waiting on", caplog.text)


@pytest.mark.parametrize("refusals", [1, 2, 3])
def test_an_xcom_that_airflow_does_not_take_at_first_is_pushed_again(
    refusals: int, simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the process of an earlier try, which is on its way out, pushes it at the same moment."""
    monkeypatch.setattr("airflow_provider_agentruns.xcom._PAUSES", (0.01, 0.01))
    error = ErrorResponse.model_validate({"error": "API_SERVER_ERROR", "detail": {"status_code": 409}})
    left = [AirflowRuntimeError(error)] * refusals

    class Refusing(TaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            if key == "agent_run" and left:
                raise left.pop()
            super().xcom_push(key, value)

    run_id = simulator.create_run("snorbe", duration=0)
    operator = AgentRunResultOperator(task_id="t", conn_id=connections["snorbe"], run_id=run_id)
    outcome = run_task(operator, Refusing("t"))
    assert isinstance(outcome.error, AirflowRuntimeError) is (refusals == 3)
    assert ("agent_run" in outcome.xcoms) is (refusals < 3)


def test_a_trigger_says_which_runs_last_alike() -> None:
    """The agent if the operator started it, else the task; the vendor's first answer may name the agent."""
    trigger = AgentRunTrigger(conn_id="c", run_id="r", end_time=0)
    assert trigger._label() == ""
    trigger.task_instance = SimpleNamespace(dag_id="d", task_id="t")  # type: ignore[assignment]
    assert trigger._label() == "d.t"
    trigger.agent_id = "a"
    assert trigger._label() == "a"


@pytest.mark.usefixtures("no_connections")
@pytest.mark.parametrize("connection", [None, "not json {"], ids=["missing", "broken"])
def test_a_trigger_never_raises_but_tells_what_is_wrong(
    connection: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_agentruns.vendor_trigger._CONNECTION_GRACE", 0.0)
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_ODD", json.dumps({"conn_type": "snorbe", "extra": connection}))
    payload = _fire(AgentRunTrigger(conn_id="odd", run_id="r1", end_time=time.time() + 5))
    assert payload["outcome"] == "refused"
    assert payload["run_id"] == "r1"
    assert "odd" in payload["error"]


def _fire(trigger: AgentRunTrigger) -> Any:
    async def events() -> Any:
        return [event.payload async for event in trigger.run()]

    [payload] = asyncio.run(events())
    return payload


def test_a_connection_that_cannot_be_looked_up_for_a_moment_does_not_end_the_wait(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow says "not found" also when its API server is away."""
    errors = [AirflowNotFoundException("not defined"), RuntimeError("the API server is away")]

    async def look_up(conn_id: str) -> Any:
        if errors:
            raise errors.pop()
        return await aget_vendor_connection(conn_id)

    monkeypatch.setattr("airflow_provider_agentruns.connection_cache.aget_vendor_connection", look_up)
    monkeypatch.setattr("airflow_provider_agentruns.vendor_trigger._LONGEST_CONNECTION_BACKOFF", 0.01)
    run_id = simulator.create_run("snorbe", duration=0)
    trigger = AgentRunTrigger(conn_id=connections["snorbe"], run_id=run_id, end_time=time.time() + 20)
    assert _fire(trigger)["outcome"] == "ended"
    assert errors == []


def test_a_connection_that_stays_away_ends_the_wait_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_agentruns.vendor_trigger._LAST_POLL", 0.1)
    trigger = AgentRunTrigger(conn_id="no_such", run_id="r1", end_time=time.time() + 0.2)
    assert _fire(trigger)["outcome"] == "timed_out"


def test_a_connection_that_airflow_denies_ends_the_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def deny(conn_id: str) -> Any:
        raise PermissionError(f"{conn_id} is not for this team")

    monkeypatch.setattr("airflow_provider_agentruns.connection_cache.aget_vendor_connection", deny)
    payload = _fire(AgentRunTrigger(conn_id="odd", run_id="r1", end_time=time.time() + 20))
    assert payload["outcome"] == "refused"


def test_the_first_poll_waits_until_the_deferring_process_is_surely_gone(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trigger that fires sooner makes Airflow's scheduler fail the task."""
    monkeypatch.setattr("airflow_provider_agentruns.waiting._RESUMABLE_AFTER", 1.0)
    run_id = simulator.create_run("snorbe", duration=0)
    before = time.time()
    outcome = _wait(connections["snorbe"], run_id, "deferred")
    assert outcome.error is None
    assert simulator.requests(run_id=run_id)[0].time >= before + 0.99


async def test_a_thousand_triggers_look_their_connection_up_once(
    connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []

    async def look_up(conn_id: str) -> Any:
        looked_up.append(conn_id)
        await asyncio.sleep(0.01)
        return await aget_vendor_connection(conn_id)

    monkeypatch.setattr("airflow_provider_agentruns.connection_cache.aget_vendor_connection", look_up)
    cache = ConnectionCache()
    found = await asyncio.gather(*(cache.get(connections["snorbe"]) for _ in range(1000)))
    assert len(looked_up) == 1
    await asyncio.gather(*(cache.get(connections["snorbe"], newer_than=found[0].at) for _ in range(1000)))
    assert len(looked_up) == 2, "a refused key is looked up again, once for all"


async def test_a_look_up_that_fails_for_many_costs_no_more_memory_than_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All are told the same error: its traceback must not grow with each, and keep their frames alive."""

    async def fail(_: str) -> VendorConnection:
        raise OSError("the API server is away")

    monkeypatch.setattr("airflow_provider_agentruns.connection_cache.aget_vendor_connection", fail)
    cache = ConnectionCache()
    errors = await asyncio.gather(*(cache.get("c") for _ in range(500)), return_exceptions=True)
    assert len(set(map(id, errors))) == 1
    assert isinstance(errors[0], OSError)
    assert len(traceback.extract_tb(errors[0].__traceback__)) < 10


def test_metrics_of_the_polls_are_airflows(mocker: MockerFixture) -> None:
    stats = mocker.patch("airflow_provider_agentruns.vendor_trigger.Stats")
    _emit("polls", 38, {"key": "k", "result": "answered"})
    _emit("waiting_runs", 7, {"key": "k"})
    stats.incr.assert_called_once_with("agentruns.polls", 38, tags={"key": "k", "result": "answered"})
    stats.gauge.assert_called_once_with("agentruns.waiting_runs", 7, tags={"key": "k"})


def test_metrics_are_taken_by_airflow_as_it_is() -> None:
    """Also where no metrics backend is set up."""
    _emit("polls", 38, {"key": "k", "result": "answered"})
    _emit("lateness", 1.5, {"key": "k"})


def test_an_error_that_nobody_foresaw_is_told_without_its_text(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text may hold anything; the traceback is in the trigger's log."""

    def broken(*_: Any) -> None:
        raise TypeError("secret inside")

    run_id = simulator.create_run("snorbe")
    monkeypatch.setattr("airflow_provider_agentruns.polling.poller.RunPoller.on_answer", broken)
    outcome = _wait(connections["snorbe"], run_id, "deferred")
    assert outcome.events[0]["outcome"] == "broken"
    assert outcome.events[0]["error"] == "TypeError"
    assert run_id in str(outcome.error)
    assert "secret inside" not in str(outcome.error)


async def test_a_cancelled_trigger_leaves_no_task_and_no_socket(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    run_id = simulator.create_run("snorbe", scenario="never")
    trigger = AgentRunTrigger(
        conn_id=connections["snorbe"], run_id=run_id, poll_interval=0.05, end_time=time.time() + 60
    )

    async def watch() -> None:
        async for _ in trigger.run():
            pass

    watching = asyncio.create_task(watch())
    while len(simulator.requests(run_id=run_id)) < 3:
        await asyncio.sleep(0.02)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    count = len(simulator.requests(run_id=run_id))
    await asyncio.sleep(0.2)
    assert len(simulator.requests(run_id=run_id)) == count


def test_a_pause_of_the_key_does_not_outlast_the_deadline(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_agentruns.vendor_trigger._LAST_POLL", 0.2)
    simulator.add_fault("rate_limit", retry_after=3000)
    outcome = _wait(connections["snorbe"], simulator.create_run("snorbe"), "deferred", timeout=0.5)
    assert isinstance(outcome.error, AgentRunTimeout)


def test_a_sensor_in_reschedule_mode_polls_once_and_goes(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    run_id = simulator.create_run("snorbe", scenario="never")
    sensor = AgentRunSensor(
        task_id="t", conn_id=connections["snorbe"], run_id=run_id, mode="reschedule", deferrable=False
    )
    outcome = run_task(sensor)
    assert isinstance(outcome.error, AirflowRescheduleException)
    assert len(simulator.requests(run_id=run_id)) == 1


def test_a_sensor_in_reschedule_mode_comes_back_after_the_pause(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    run_id = simulator.create_run("snorbe", scenario="never")
    simulator.add_fault("rate_limit", retry_after=60, times=1)
    sensor = AgentRunSensor(
        task_id="t", conn_id=connections["snorbe"], run_id=run_id, mode="reschedule", poke_interval=1
    )
    outcome = run_task(sensor)
    assert isinstance(outcome.error, AirflowRescheduleException)
    assert outcome.error.reschedule_date.timestamp() >= time.time() + 50


def test_a_sensor_looks_its_connection_up_once_for_all_pokes(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []

    def look_up(conn_id: str) -> VendorConnection:
        looked_up.append(conn_id)
        return get_vendor_connection(conn_id)

    monkeypatch.setattr("airflow_provider_agentruns.hooks.agent_run.get_vendor_connection", look_up)
    run_id = simulator.create_run("snorbe", scenario="never")
    poll = AgentRunHook.poll

    def end_after_some_polls(*args: Any) -> Decision:
        if len(simulator.requests(run_id=run_id)) == 4:
            simulator.finish_run(run_id)
        return poll(*args)

    monkeypatch.setattr(AgentRunHook, "poll", end_after_some_polls)
    sensor = AgentRunSensor(task_id="t", conn_id=connections["snorbe"], run_id=run_id, poke_interval=0.02)
    assert run_task(sensor).error is None
    assert len(simulator.requests(run_id=run_id)) > 3
    assert looked_up == [connections["snorbe"]]


def test_a_sensor_pokes_by_itself_too(simulator: Simulator, connections: dict[str, str]) -> None:
    """Poke works without execute, as for classes that derive from the sensor."""
    run_id = simulator.create_run("snorbe", duration=0)
    sensor = AgentRunSensor(task_id="t", conn_id=connections["snorbe"], run_id=run_id)
    assert sensor.poke({}) is True
