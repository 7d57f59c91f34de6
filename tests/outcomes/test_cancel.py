"""Killed and late tasks: whose run is cancelled. The simulator's log of cancels is the judge."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred
from airflow.sdk.execution_time.comms import ErrorResponse, GetTaskStates, TaskStatesResult

from airflow_provider_agentruns.cancellation import is_given_up
from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.models import RunRef
from airflow_provider_agentruns.exceptions import AgentRunStalled, AgentRunTimeout, AgentRunUnreadable
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.operators import AgentRunOperator, AgentRunResultOperator
from airflow_provider_agentruns.reattachment import Try
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.triggers import AgentRunTrigger
from airflow_provider_agentruns.vendors.base import VendorAdapter
from airflow_provider_agentruns.vendors.registry import get_adapter
from airflow_provider_agentruns.vendors.snorbe import SnorbeAdapter
from airflow_provider_agentruns.waiting import cancel_if_given_up
from tests.e2e.cancellable.cancellable_vendor import CancellableAdapter

from .task_runs import MODES, TaskInstance, TaskStateStore, run_task

modes = pytest.mark.parametrize("mode", MODES)
NEVER = "[sim: never]"
GIVEN_UP = ["failed", "success", "skipped", "upstream_failed", "removed"]
# A task that waits, was taken over, or goes on after its event or with its next try.
KEPT = ["deferred", "running", "scheduled", "queued", "up_for_retry", "up_for_reschedule", "awaiting_input"]


class CancellingAdapter(SnorbeAdapter):
    """Snorbe, if it had a call that cancels."""

    def cancel(self, ref: RunRef) -> Call[None]:
        return CancellableAdapter().cancel(ref)


@pytest.fixture
def conn_id(connections: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a connection to a vendor that can cancel."""

    def find(conn_type: str) -> VendorAdapter:
        return CancellingAdapter() if conn_type == "snorbe" else get_adapter(conn_type)

    monkeypatch.setattr("airflow_provider_agentruns.connections.get_adapter", find)
    return connections["snorbe"]


@pytest.mark.parametrize("cancel_on_clear", [True, False])
@pytest.mark.parametrize("state", [*GIVEN_UP, *KEPT, None, "restarting"])
def test_only_a_task_that_was_ended_or_cleared_to_start_anew_has_given_its_run_up(
    state: str | None, *, cancel_on_clear: bool
) -> None:
    was_cleared = state in {None, "restarting"}
    expected = cancel_on_clear if was_cleared else state in GIVEN_UP
    assert is_given_up(state, cancel_on_clear=cancel_on_clear) is expected


def _kill(
    trigger: AgentRunTrigger, answer: Any, monkeypatch: pytest.MonkeyPatch, map_index: int = -1
) -> list[Any]:
    """Kill a trigger as a triggerer does, whose supervisor gives this answer about the task."""
    asked = []

    class Supervisor:
        async def asend(self, message: Any) -> Any:
            asked.append(message)
            return answer

    monkeypatch.setattr(
        "airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", Supervisor(), raising=False
    )
    trigger.task_instance = SimpleNamespace(  # type: ignore[assignment]
        dag_id="d", run_id="r", task_id="t", map_index=map_index
    )
    asyncio.run(trigger.on_kill())
    return asked


def _trigger(conn_id: str, run_id: str, **kwargs: Any) -> AgentRunTrigger:
    settings = {"end_time": time.time() + 60, "cancel_on_kill": True, **kwargs}
    return AgentRunTrigger(conn_id=conn_id, run_id=run_id, **settings)


@pytest.mark.parametrize(
    ("state", "kwargs", "cancels"),
    [
        ("failed", {}, 1),
        ("success", {}, 1),
        (None, {"cancel_on_clear": True}, 1),
        (None, {"cancel_on_clear": False}, 0),
        ("deferred", {}, 0),
        ("scheduled", {"cancel_on_clear": True}, 0),
        ("failed", {"cancel_on_kill": False}, 0),
        ("failed", {"end_time": 1.0}, 0),
    ],
    ids=["failed", "success", "cleared", "cleared, reattaches", "taken over", "resumed", "off", "timed out"],
)
def test_a_trigger_that_is_killed_cancels_the_run_of_a_task_that_was_given_up(
    state: str | None,
    kwargs: dict[str, Any],
    cancels: int,
    simulator: Simulator,
    conn_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = simulator.create_run("snorbe", scenario="never")
    answer = TaskStatesResult(task_states={"r": {"t": state}})
    _kill(_trigger(conn_id, run_id, **kwargs), answer, monkeypatch)
    assert [cancel.run_id for cancel in simulator.cancels()] == [run_id] * cancels


def test_a_mapped_tasks_trigger_asks_for_its_own_state(
    simulator: Simulator, conn_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = simulator.create_run("snorbe", scenario="never")
    answer = TaskStatesResult(task_states={"r": {"t_3": "failed"}})
    sent = _kill(_trigger(conn_id, run_id), answer, monkeypatch, map_index=3)
    [asked] = [message for message in sent if isinstance(message, GetTaskStates)]
    assert (asked.dag_id, asked.run_ids, asked.task_ids, asked.map_index) == ("d", ["r"], ["t"], 3)
    assert len(simulator.cancels()) == 1


@pytest.mark.parametrize(
    "answer",
    [TaskStatesResult(task_states={}), ErrorResponse(), None],
    ids=["no state", "an error", "nothing"],
)
def test_a_run_is_left_alone_where_airflow_does_not_tell_the_tasks_state(
    answer: Any,
    simulator: Simulator,
    conn_id: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_id = simulator.create_run("snorbe", scenario="never")
    _kill(_trigger(conn_id, run_id), answer, monkeypatch)
    assert simulator.cancels() == []
    assert f"Run {run_id} (connection 'snorbe_test') is left alone" in capsys.readouterr().out


def test_a_vendor_without_a_cancel_is_named_in_the_log_with_the_run_that_goes_on(
    simulator: Simulator,
    connections: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_id = simulator.create_run("flowyble", scenario="never")
    answer = TaskStatesResult(task_states={"r": {"t": "failed"}})
    _kill(_trigger(connections["flowyble"], run_id), answer, monkeypatch)
    said = capsys.readouterr().out
    assert f"Run {run_id} (connection 'flowyble_test'): its task was ended." in said
    assert "Flowyble documents no way to cancel a run. It may go on at the vendor" in said


def test_a_cancel_that_fails_is_told_with_its_reason(
    simulator: Simulator, conn_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = TaskStatesResult(task_states={"r": {"t": "failed"}})
    _kill(_trigger(conn_id, "cunknown"), answer, monkeypatch)
    assert simulator.cancels() == []
    assert "It could not be cancelled (cannot cancel run cunknown" in capsys.readouterr().out


class KilledTaskInstance(TaskInstance):
    """A task instance whose state is known to Airflow."""

    state: str | None = "failed"

    def get_task_states(self, **asked: Any) -> dict[str, Any]:
        assert asked == {"dag_id": "d", "run_ids": ["r"], "task_ids": ["t"], "map_index": self.map_index}
        if self.state == "not known":
            raise OSError("the API server is away")
        return {"r": {"t" if self.map_index < 0 else f"t_{self.map_index}": self.state}}


@pytest.mark.parametrize(
    ("state", "kwargs", "cancels"),
    [
        ("failed", {}, 1),
        ("success", {}, 1),
        ("restarting", {}, 1),
        ("restarting", {"on_clear": "reattach"}, 0),
        ("running", {}, 0),
        (None, {}, 0),
        ("not known", {}, 0),
        ("failed", {"cancel_on_kill": False}, 0),
    ],
)
def test_a_worker_that_is_killed_cancels_the_run_of_a_task_that_was_given_up(
    state: str | None,
    kwargs: dict[str, Any],
    cancels: int,
    simulator: Simulator,
    conn_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Airflow calls `on_kill` in a signal's handler, in the middle of the wait.

    A running task has no state when a scheduler that came up anew took its worker for lost, and reset it.
    """
    operator = AgentRunOperator(
        task_id="t", conn_id=conn_id, message=NEVER, poll_interval=0.02, timeout=1, **kwargs
    )
    ti = KilledTaskInstance("t")
    ti.state = state
    poll, is_killed = AgentRunHook.poll, threading.Event()

    def poll_and_be_killed(*args: Any, **kwargs: Any) -> Any:
        if not is_killed.is_set():
            is_killed.set()
            operator.on_kill()
        return poll(*args, **kwargs)

    monkeypatch.setattr(AgentRunHook, "poll", poll_and_be_killed)
    run_task(operator, ti)
    [start] = simulator.starts()
    assert [cancel.run_id for cancel in simulator.cancels()] == [start.run_id] * cancels


def test_a_mapped_task_that_is_killed_on_its_worker_asks_for_its_own_state(
    simulator: Simulator, conn_id: str
) -> None:
    operator = AgentRunResultOperator(task_id="t", conn_id=conn_id, run_id="r1")
    ti = KilledTaskInstance("t", map_index=3)
    run_id = simulator.create_run("snorbe", scenario="never")
    wait = operator.new_wait(RunRef(run_id=run_id))
    cancel_if_given_up(operator.hook, ti, wait)
    assert [cancel.run_id for cancel in simulator.cancels()] == [run_id]


def test_a_worker_that_waits_for_nothing_cancels_nothing(simulator: Simulator, conn_id: str) -> None:
    operator = AgentRunOperator(task_id="t", conn_id=conn_id, message="[sim: succeed, duration=0]")
    operator.on_kill()
    run_task(operator, KilledTaskInstance("t"))
    operator.on_kill()
    assert simulator.cancels() == []


def test_to_ask_about_the_state_never_holds_a_worker_that_is_killed(
    simulator: Simulator, conn_id: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the signal interrupted may hold the lock that asking needs."""
    monkeypatch.setattr("airflow_provider_agentruns.waiting._KILL_GRACE", 0.05)
    lock = threading.Lock()

    class Ti(KilledTaskInstance):
        def get_task_states(self, **asked: Any) -> dict[str, Any]:
            with lock:
                return super().get_task_states(**asked)

    operator = AgentRunOperator(task_id="t", conn_id=conn_id, message=NEVER, poll_interval=0.02, timeout=0.2)
    poll = AgentRunHook.poll

    def poll_and_be_killed(*args: Any, **kwargs: Any) -> Any:
        operator.on_kill()
        return poll(*args, **kwargs)

    monkeypatch.setattr(AgentRunHook, "poll", poll_and_be_killed)
    with lock:
        assert isinstance(run_task(operator, Ti("t")).error, AgentRunTimeout)
        assert simulator.cancels() == []
    assert "no time to cancel it" in caplog.text


@pytest.mark.parametrize(
    ("kwargs", "cleared", "cancels"),
    [
        ({}, True, 1),
        ({}, False, 0),
        ({"on_retry": "new"}, False, 0),
        ({"cancel_on_kill": False}, True, 0),
        ({"on_clear": "reattach", "message": "[sim: succeed, duration=0]"}, True, 0),
        ({"message": "[sim: succeed, duration=0]"}, True, 1),
    ],
    ids=["cleared", "retried", "retried anew", "off", "other inputs, reattaches", "other inputs"],
)
def test_a_task_that_was_cleared_cancels_the_run_of_before_and_starts_anew(
    kwargs: dict[str, Any],
    cleared: bool,
    cancels: int,
    simulator: Simulator,
    conn_id: str,
) -> None:
    """Also where nobody was there to do it when it was cleared."""
    store = TaskStateStore()

    def run(current: Try, **kwargs: Any) -> None:
        settings = {"message": NEVER, "poll_interval": 0.02, "timeout": 0.1, **kwargs}
        operator = AgentRunOperator(task_id="t", conn_id=conn_id, **settings)
        run_task(operator, TaskInstance("t", try_number=current.number, max_tries=current.max_tries), store)

    run(Try(1, 2))
    [first] = simulator.starts()
    run(Try(2, 3) if cleared else Try(2, 2), **kwargs)
    assert [cancel.run_id for cancel in simulator.cancels()] == [first.run_id] * cancels


def test_the_run_of_a_task_that_has_succeeded_is_not_cancelled_by_a_clear(
    simulator: Simulator, conn_id: str
) -> None:
    store = TaskStateStore()
    for current in (Try(1, 2), Try(2, 3)):
        operator = AgentRunOperator(task_id="t", conn_id=conn_id, message="[sim: succeed, duration=0]")
        run_task(operator, TaskInstance("t", try_number=current.number, max_tries=current.max_tries), store)
    assert len(simulator.starts()) == 2
    assert simulator.requests(operation="snorbe.run.status") != []
    assert simulator.cancels() == []


@modes
@pytest.mark.parametrize("ends_by", ["timeout", "execution_timeout", "stall_timeout"])
@pytest.mark.parametrize(("kwargs", "cancels"), [({}, 0), ({"cancel_on_timeout": True}, 1)])
def test_a_run_whose_time_is_over_is_cancelled_if_asked_for(
    kwargs: dict[str, Any], cancels: int, ends_by: str, mode: str, simulator: Simulator, conn_id: str
) -> None:
    times: dict[str, Any] = {"timeout": 30}
    times[ends_by] = timedelta(seconds=0.3) if ends_by == "execution_timeout" else 0.3
    operator = AgentRunOperator(
        task_id="t",
        conn_id=conn_id,
        message=NEVER,
        poll_interval=0.02,
        deferrable=mode == "deferred",
        **times,
        **kwargs,
    )
    error = run_task(operator).error
    [start] = simulator.starts()
    assert type(error) is (AgentRunStalled if ends_by == "stall_timeout" else AgentRunTimeout)
    assert isinstance(error, AgentRunTimeout)
    assert error.run_id == start.run_id
    assert f"Run {start.run_id} (connection 'snorbe_test', last status running, vendor 'running')" in str(
        error
    )
    assert " s" in str(error).partition("had not ended after ")[2][:6]
    assert ("It was cancelled at the vendor." in str(error)) is bool(cancels)
    assert ("It may go on at the vendor" in str(error)) is not bool(cancels)
    assert [cancel.run_id for cancel in simulator.cancels()] == [start.run_id] * cancels


def test_airflows_execution_timeout_on_a_worker_names_the_run(
    simulator: Simulator, conn_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out_of_time(*_: Any, **__: Any) -> Any:
        raise AirflowTaskTimeout

    monkeypatch.setattr(AgentRunHook, "wait", run_out_of_time)
    operator = AgentRunOperator(task_id="t", conn_id=conn_id, message=NEVER, cancel_on_timeout=True)
    error = run_task(operator).error
    [start] = simulator.starts()
    assert isinstance(error, AgentRunTimeout)
    assert error.run_id == start.run_id
    assert len(simulator.cancels()) == 1


@pytest.mark.parametrize(("reason", "cancels"), [("Trigger timeout", 1), ("Trigger failure", 0)])
def test_a_wait_that_airflow_itself_timed_out_is_cleaned_up_as_well(
    reason: str, cancels: int, simulator: Simulator, conn_id: str
) -> None:
    run_id = simulator.create_run("snorbe", scenario="never")
    operator = AgentRunOperator(task_id="t", conn_id=conn_id, message=NEVER, cancel_on_timeout=True)
    ti = TaskInstance("t", xcoms={"run_id": run_id})
    with pytest.raises(AgentRunUnreadable, match=run_id):
        operator.resume_execution("__fail__", {"error": reason}, {"ti": ti})  # type: ignore[typeddict-item]
    assert len(simulator.cancels()) == cancels


@modes
def test_the_operator_that_only_attaches_never_takes_a_clear_for_a_kill(
    mode: str, simulator: Simulator, conn_id: str
) -> None:
    """The task would wait for the same run again. It cancels at all only if asked to."""
    run_id = simulator.create_run("snorbe", scenario="never")
    for is_asked in (False, True):
        operator = AgentRunResultOperator(
            task_id="t",
            conn_id=conn_id,
            run_id=run_id,
            timeout=0.1,
            poll_interval=0.02,
            deferrable=mode == "deferred",
            cancel_on_kill=is_asked,
            cancel_on_timeout=is_asked,
        )
        outcome = run_task(operator)
        assert len(simulator.cancels()) == int(is_asked)
        if mode == "deferred":
            _, stored = outcome.deferrals[0].trigger.serialize()
            assert (stored["cancel_on_kill"], stored["cancel_on_clear"]) == (is_asked, False)


def test_the_deadline_of_a_try_holds_over_all_its_deferrals(simulator: Simulator, conn_id: str) -> None:
    """The second deferral, after a run that was resumed at the vendor, has what is left of the time."""
    run_id = simulator.create_run("snorbe", scenario="never")
    operator = AgentRunResultOperator(
        task_id="t", conn_id=conn_id, run_id=run_id, timeout=500, deferrable=True
    )
    now = time.time()
    event = {
        "outcome": "ended",
        "run_id": run_id,
        "run_kind": "agent",
        "since": now - 400,
        "end_time": now + 100,
    }
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute_complete({"ti": TaskInstance("t")}, event)  # type: ignore[typeddict-item]
    _, stored = deferred.value.trigger.serialize()
    assert (stored["since"], stored["end_time"]) == (now - 400, now + 100)
