"""Retries and clears of a task that starts runs: which of them pay for another run."""

from __future__ import annotations

import json
import time
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_agentruns.client.exceptions import NotFoundError
from airflow_provider_agentruns.client.models import RunRef
from airflow_provider_agentruns.exceptions import (
    AgentRunRefused,
    AgentRunStartUncertain,
    AgentRunTimeout,
    AgentRunUnreadable,
)
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.operators import AgentRunOperator
from airflow_provider_agentruns.reattachment import StartLog, Try
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.vendors.base import AcceptedStart

from .task_runs import MODES, Outcome, TaskInstance, TaskStateStore, run_task

modes = pytest.mark.parametrize("mode", MODES)

AGENT_ID = "5e1b6f0a-3c5d-4f6e-8a7b-0c1d2e3f4a5b"
FIRST = Try(1, 2)
RETRY = Try(2, 2)
# What Airflow counts after a clear: as many tries again as at first, from the last one on.
CLEARED = Try(2, 3)


class Task:
    """One task over its tries."""

    def __init__(self, conn_id: str, mode: str = "inline") -> None:
        self.conn_id = conn_id
        self.mode = mode
        self.kwargs: dict[str, Any] = {
            "message": "Say hello.",
            "poll_interval": 0.02,
            "timeout": 30,
        }
        self.store: TaskStateStore | None = TaskStateStore()

    def run(self, current: Try, **changes: Any) -> Outcome:
        """Run a try; its XComs are new, as Airflow wipes them."""
        operator = AgentRunOperator(
            task_id="t",
            conn_id=self.conn_id,
            deferrable=self.mode == "deferred",
            **{**self.kwargs, **changes},
        )
        carrier = {"traceparent": current.trace} if current.trace else None
        ti = TaskInstance(
            "t", try_number=current.number, max_tries=current.max_tries, context_carrier=carrier
        )
        return run_task(operator, ti, self.store, clear_number=current.clear_number)


@pytest.fixture
def task(connections: dict[str, str]) -> Task:
    return Task(connections["snorbe"])


def _begin(
    task: Task,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    *,
    duration: float,
    current: Try = FIRST,
) -> None:
    """Start a run that takes so many seconds, in a try whose worker dies as soon as it waits."""
    task.kwargs["message"] = f"Say hello. [sim: succeed, duration={duration}]"
    _die_while_waiting(task, monkeypatch, current)
    assert len(simulator.starts()) == 1


def _die_while_waiting(task: Task, monkeypatch: pytest.MonkeyPatch, current: Try = FIRST) -> None:
    """Run a try whose worker dies as soon as it waits."""

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(AgentRunOperator, "wait_for_result", die)
        with pytest.raises(Killed):
            raise task.run(current).error or AssertionError("the try has ended well")


@modes
@pytest.mark.parametrize("ending", ["going on", "succeeded"])
def test_a_retry_goes_on_with_the_run_that_the_try_before_started(
    mode: str, ending: str, task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.mode = mode
    _begin(task, simulator, monkeypatch, duration=0.5 if ending == "going on" else 0)
    [start] = simulator.starts()
    outcome = task.run(RETRY)
    assert outcome.error is None
    assert outcome.value
    assert outcome.xcoms["run_id"] == start.run_id
    assert outcome.xcoms["agent_run"]["run_id"] == start.run_id
    assert len(simulator.starts()) == 1


def test_a_retry_of_a_retry_goes_on_with_the_same_run(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _begin(task, simulator, monkeypatch, duration=1)
    _die_while_waiting(task, monkeypatch, RETRY)
    assert task.run(Try(3, 2)).value
    assert len(simulator.starts()) == 1


@pytest.mark.parametrize("scenario", ["fail", "cancel"])
def test_a_retry_starts_anew_after_a_run_that_came_to_nothing(
    scenario: str, task: Task, simulator: Simulator
) -> None:
    task.kwargs["message"] = f"Say hello. [sim: {scenario}, duration=0]"
    assert task.run(FIRST).error is not None
    assert isinstance(task.run(RETRY).error, Exception)
    first, second = simulator.starts()
    assert first.run_id != second.run_id


def test_a_retry_starts_anew_if_told_to(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _begin(task, simulator, monkeypatch, duration=0)
    assert task.run(RETRY, on_retry="new").value
    assert len(simulator.starts()) == 2


@pytest.mark.parametrize(
    ("first", "cleared"),
    [
        (FIRST, CLEARED),
        (Try(1, 0), Try(2, 1)),  # no retries
        (Try(1, 0), Try(2, 0)),  # no retries, cleared while it ran inline: Airflow leaves its count alone
    ],
)
@pytest.mark.parametrize(("on_clear", "starts"), [(None, 2), ("new", 2), ("reattach", 1)])
def test_a_clear_starts_anew_unless_told_otherwise(
    first: Try,
    cleared: Try,
    on_clear: str | None,
    starts: int,
    task: Task,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _begin(task, simulator, monkeypatch, duration=0, current=first)
    assert task.run(cleared, **({"on_clear": on_clear} if on_clear else {})).value
    assert len(simulator.starts()) == starts


def test_a_retry_after_a_clear_goes_on_with_the_run_of_the_cleared_task(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _begin(task, simulator, monkeypatch, duration=0)
    _die_while_waiting(task, monkeypatch, CLEARED)
    outcome = task.run(Try(3, 3))
    assert [start.run_id for start in simulator.starts()][1:] == [outcome.xcoms["run_id"]]


@pytest.mark.parametrize("on", ["on_retry", "on_clear"])
def test_other_inputs_never_reattach(
    on: str, task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _begin(task, simulator, monkeypatch, duration=0)
    task.run(RETRY if on == "on_retry" else CLEARED, message="Say goodbye.", **{on: "reattach"})
    assert len(simulator.starts()) == 2


@pytest.mark.parametrize("on", ["on_retry", "on_clear"])
def test_a_policy_that_does_not_exist_is_refused_when_the_dag_is_read(on: str) -> None:
    with pytest.raises(ValueError, match=f"{on} must be 'reattach' or 'new', not 'again'"):
        AgentRunOperator(task_id="t", conn_id="c", message="m", **{on: "again"})  # type: ignore[arg-type]


def test_not_to_be_able_to_read_the_store_starts_nothing(task: Task, simulator: Simulator) -> None:
    assert task.store
    task.store.fails_to = {"get"}
    error = task.run(RETRY).error
    assert isinstance(error, AgentRunUnreadable)
    assert "Nothing was started" in str(error)
    assert simulator.starts() == []


def test_a_record_that_is_not_understood_starts_nothing(task: Task, simulator: Simulator) -> None:
    assert task.store
    task.store.values["agent_run_start"] = json.dumps({"version": 9})
    error = task.run(RETRY).error
    assert isinstance(error, AgentRunUnreadable)
    assert "Delete the task state 'agent_run_start'" in str(error)
    assert simulator.starts() == []


def test_not_to_be_able_to_record_the_start_starts_nothing(task: Task, simulator: Simulator) -> None:
    assert task.store
    task.store.fails_to = {"set"}
    error = task.run(FIRST).error
    assert isinstance(error, AgentRunUnreadable)
    assert simulator.starts() == []


def test_a_run_that_cannot_be_recorded_after_its_start_is_waited_for_all_the_same(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = AgentRunHook.start

    def start_and_break(hook: AgentRunHook, **kwargs: Any) -> Any:
        assert task.store
        run = start(hook, **kwargs)
        task.store.fails_to = {"set"}
        return run

    monkeypatch.setattr(AgentRunHook, "start", start_and_break)
    outcome = task.run(FIRST)
    assert outcome.value
    assert f"Run {outcome.xcoms['run_id']} could not be recorded" in caplog.text


def test_the_start_is_on_record_before_it_is_sent(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> Any:
        assert task.store
        record = json.loads(task.store.values["agent_run_start"])
        assert "run_id" not in record
        raise KeyboardInterrupt

    monkeypatch.setattr(AgentRunHook, "start", start)
    with pytest.raises(KeyboardInterrupt):
        task.run(FIRST)


def _lose_the_answer(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a try whose worker dies between the vendor's acceptance and the record of it."""
    start = AgentRunHook.start

    class Killed(BaseException):
        pass

    def start_and_die(hook: AgentRunHook, **kwargs: Any) -> Any:
        start(hook, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(AgentRunHook, "start", start_and_die)
        with pytest.raises(Killed):
            task.run(FIRST)


def test_where_no_start_can_be_looked_up_a_retry_starts_anew_and_says_what_may_go_on(
    connections: dict[str, str],
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = Task(connections["flowyble"])
    task.kwargs["agent_id"] = AGENT_ID
    _lose_the_answer(task, monkeypatch)
    assert task.run(RETRY).value
    assert len(simulator.starts()) == 2
    assert "a run may be going on at the vendor" in caplog.text


def test_a_start_that_the_vendor_shows_to_have_taken_is_not_sent_again(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snorbe lists its text; which run it is, the list does not tell as long as the run goes on."""
    _lose_the_answer(task, monkeypatch)
    error = task.run(RETRY).error
    assert isinstance(error, AgentRunStartUncertain)
    assert "The vendor has taken 1 such since" in str(error)
    assert len(simulator.starts()) == 1


def test_a_start_that_the_vendor_does_not_list_is_sent(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of the same text an hour before is another one."""
    _lose_the_answer(task, monkeypatch)
    assert task.store
    record = json.loads(task.store.values["agent_run_start"])
    task.store.values["agent_run_start"] = json.dumps(record | {"asked_at": time.time() + 3600})
    assert task.run(RETRY).value
    assert len(simulator.starts()) == 2


def test_a_start_whose_run_the_vendor_names_is_gone_on_with(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lose_the_answer(task, monkeypatch)
    [start] = simulator.starts()
    found = [AcceptedStart(start.time, RunRef(run_id=start.run_id))]
    monkeypatch.setattr(AgentRunHook, "accepted_starts", lambda *_, **__: found)
    outcome = task.run(RETRY)
    assert outcome.value
    assert outcome.xcoms["run_id"] == start.run_id
    assert len(simulator.starts()) == 1
    assert task.store
    assert json.loads(task.store.values["agent_run_start"])["run_id"] == start.run_id


def test_not_to_be_able_to_look_for_a_start_starts_nothing(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lose_the_answer(task, monkeypatch)
    simulator.revoke_key("snorbe", simulator.snorbe_key)
    error = task.run(RETRY).error
    assert isinstance(error, AgentRunUnreadable)
    assert "Nothing was started" in str(error)
    assert len(simulator.starts()) == 1


def test_airflows_execution_timeout_during_a_start_is_not_retried(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out_of_time(*_: Any, **__: Any) -> Any:
        raise AirflowTaskTimeout

    monkeypatch.setattr(AgentRunHook, "start", run_out_of_time)
    assert isinstance(task.run(FIRST).error, AgentRunStartUncertain)


def test_a_run_that_the_vendor_does_not_know_any_more_is_not_replaced(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key may be another workspace's by now; the record of the run is kept."""
    _begin(task, simulator, monkeypatch, duration=0)
    [start] = simulator.starts()
    simulator.reset()
    monkeypatch.setattr("airflow_provider_agentruns.starting.YOUNG", 0.0)
    error = task.run(RETRY).error
    assert isinstance(error, AgentRunRefused)
    assert start.run_id in str(error)
    assert "Clear the task to start anew" in str(error)
    assert simulator.starts() == []
    assert task.store
    assert start.run_id in task.store.values["agent_run_start"]


def test_a_run_that_is_not_known_yet_is_asked_for_again_by_the_next_retry(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _begin(task, simulator, monkeypatch, duration=0)
    with monkeypatch.context() as patch:
        not_found = NotFoundError("no such run", status_code=404)
        patch.setattr(AgentRunHook, "get_status", Mock(side_effect=not_found))
        error = task.run(RETRY).error
    assert isinstance(error, AgentRunUnreadable)
    assert task.run(Try(3, 2)).value
    assert len(simulator.starts()) == 1


def test_a_record_that_could_not_be_written_is_written_when_the_wait_ends(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the retry after a timeout would pay for another run."""
    task.kwargs |= {"message": "[sim: succeed, duration=1]", "timeout": 0.1}
    monkeypatch.setattr(StartLog, "started", lambda *_: None)
    assert isinstance(task.run(FIRST).error, AgentRunTimeout)
    assert task.run(RETRY, timeout=30).value
    assert len(simulator.starts()) == 1


def test_to_record_a_run_is_tried_more_than_once(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_agentruns.reattachment._PAUSES", (0.0, 0.0))
    start = AgentRunHook.start

    def start_and_break(hook: AgentRunHook, **kwargs: Any) -> Any:
        run = start(hook, **kwargs)
        assert task.store
        task.store.failures = 2
        return run

    monkeypatch.setattr(AgentRunHook, "start", start_and_break)
    monkeypatch.setattr(AgentRunOperator, "wait_for_result", lambda *_: None)
    task.run(FIRST)
    assert task.store
    assert json.loads(task.store.values["agent_run_start"])["run_id"] == simulator.starts()[0].run_id


# What tells a clear where the tries do not: the count of clears of the dag run, and the task's own trace.
traces = pytest.mark.parametrize(
    ("clear_number", "then", "now", "starts"),
    [
        pytest.param(0, None, None, 1, id="nothing was cleared"),
        pytest.param(1, None, None, 2, id="something was cleared"),
        pytest.param(1, "a", "b", 2, id="this was cleared"),
        pytest.param(1, "a", "a", 1, id="another was cleared"),
    ],
)


@traces
def test_a_task_that_had_succeeded_runs_again_only_because_it_was_cleared(
    clear_number: int, then: str | None, now: str | None, starts: int, task: Task, simulator: Simulator
) -> None:
    """Also where fewer retries than before make the clear look like a retry. A crash at the end is none."""
    assert task.run(Try(1, 2, clear_number=0, trace=then)).value
    assert task.run(Try(2, 2, clear_number=clear_number, trace=now)).value
    assert len(simulator.starts()) == starts


@traces
def test_a_try_beyond_the_last_goes_on_with_the_run_unless_it_was_cleared(
    clear_number: int,
    then: str | None,
    now: str | None,
    starts: int,
    task: Task,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scheduler that takes a worker for lost resets a task also when it has no retries left."""
    _die_while_waiting(task, monkeypatch, Try(1, 0, clear_number=0, trace=then))
    assert task.run(Try(2, 0, clear_number=clear_number, trace=now)).value
    assert len(simulator.starts()) == starts


@pytest.mark.parametrize(
    ("current", "starts"),
    [
        pytest.param(Try(2, 2, clear_number=1, trace="b"), 2, id="it was cleared"),
        pytest.param(Try(2, 2, clear_number=1, trace="a"), 1, id="another task was cleared"),
        pytest.param(Try(2, 2, clear_number=1), 1, id="another task was cleared, and no trace is kept"),
        pytest.param(Try(2, 2, clear_number=0, trace="b"), 1, id="each try has a trace of its own"),
    ],
)
def test_a_clear_that_gives_no_more_tries_shows_in_the_trace(
    current: Try, starts: int, task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 3.3 does so with all but one of the running tasks that end together, and by executor."""
    _die_while_waiting(task, monkeypatch, Try(1, 2, clear_number=0, trace="a"))
    assert task.run(current).value
    assert len(simulator.starts()) == starts


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_the_order_of_names_in_the_inputs_makes_no_other_start(
    order: tuple[str, str], connections: dict[str, str], simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(connections["flowyble"])
    task.kwargs |= {"message": None, "tool_id": AGENT_ID, "inputs": {"a": 1, "b": 2}}
    _die_while_waiting(task, monkeypatch)
    assert task.run(RETRY, inputs={name: {"a": 1, "b": 2}[name] for name in order}).error is None
    assert len(simulator.starts()) == 1


def test_a_start_that_was_refused_leaves_no_record(task: Task, simulator: Simulator) -> None:
    """Nothing was started, so a retry has nothing to look for."""
    simulator.revoke_key("snorbe", simulator.snorbe_key)
    assert isinstance(task.run(FIRST).error, AgentRunRefused)
    assert task.store
    assert task.store.values == {}


def test_a_run_that_cannot_be_read_is_not_started_again(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _begin(task, simulator, monkeypatch, duration=0)
    [start] = simulator.starts()
    simulator.revoke_key("snorbe", simulator.snorbe_key)
    error = task.run(RETRY).error
    assert isinstance(error, AgentRunRefused)
    assert error.run_id == start.run_id
    assert "Nothing was started" in str(error)


def test_airflow_without_the_store_starts_anew_and_says_so(
    task: Task, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    task.store = None
    assert task.run(FIRST).value
    assert "keeps no task state" not in caplog.text
    assert task.run(RETRY).value
    assert "This Airflow keeps no task state" in caplog.text
    assert len(simulator.starts()) == 2


def test_the_record_holds_no_secret_and_no_input(
    task: Task, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _begin(task, simulator, monkeypatch, duration=0)
    assert task.store
    text = "".join(task.store.values.values())
    assert "hello" not in text
    assert simulator.snorbe_key not in text


@pytest.mark.parametrize("scenario", ["succeed", "fail"])
def test_without_waiting_a_retry_starts_no_second_run_unless_the_first_came_to_nothing(
    scenario: str, task: Task, simulator: Simulator
) -> None:
    task.kwargs |= {"wait_for_completion": False, "message": f"[sim: {scenario}, duration=0]"}
    first = task.run(FIRST).value
    second = task.run(RETRY).value
    assert (first == second) is (scenario == "succeed")
