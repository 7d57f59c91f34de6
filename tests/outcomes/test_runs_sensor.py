"""Wait for many runs in one task, deferred and on a worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any, overload

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_provider_agentruns.exceptions import AgentRunUnreadable, SensedRunRefused, SensedRunsFailed
from airflow_provider_agentruns.runs_trigger import AgentRunsTrigger
from airflow_provider_agentruns.sensors import AgentRunsSensor
from airflow_provider_agentruns.simulator import Simulator

from .task_runs import MODES, Outcome, TaskInstance, run_task, waits_on_after

modes = pytest.mark.parametrize("mode", MODES)
UNKNOWN = "cunknownunknownunknown0"


def _sense(conn_id: str, run_ids: Any, mode: str, goal: str = "all", **kwargs: Any) -> Outcome:
    settings: dict[str, Any] = {"poke_interval": 0.02, "timeout": 30, **kwargs}
    sensor = AgentRunsSensor(
        task_id="t",
        conn_id=conn_id,
        run_ids=run_ids,
        mode=goal,  # type: ignore[arg-type]
        deferrable=mode == "deferred",
        **settings,
    )
    return run_task(sensor)


def _runs(simulator: Simulator, *scenarios: str) -> list[str]:
    return [simulator.create_run("snorbe", scenario=name, duration=0.05) for name in scenarios]


def _statuses(outcome: Outcome) -> list[str]:
    return [row["status"] for row in outcome.xcoms["agent_runs"]]


@modes
def test_all_have_to_succeed(mode: str, simulator: Simulator, connections: dict[str, str]) -> None:
    runs = _runs(simulator, "succeed", "succeed", "succeed")
    outcome = _sense(connections["snorbe"], runs, mode)
    assert outcome.error is None
    assert outcome.value == runs
    assert outcome.xcoms["agent_runs"] == [{"run_id": run_id, "status": "succeeded"} for run_id in runs]
    assert len(outcome.deferrals) == (1 if mode == "deferred" else 0)


@modes
@pytest.mark.parametrize("goal", ["any", "quorum"])
def test_it_is_enough_when_enough_have_succeeded(
    goal: str, mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    """The others may go on: the table says how they were last seen."""
    runs = _runs(simulator, "never", "succeed", "fail", "succeed", "never")
    kwargs = {"min_success": 2} if goal == "quorum" else {}
    outcome = _sense(connections["snorbe"], runs, mode, goal, **kwargs)
    assert outcome.error is None
    assert set(outcome.value) <= {runs[1], runs[3]}
    assert len(outcome.value) >= (2 if goal == "quorum" else 1)
    assert {_statuses(outcome)[0], _statuses(outcome)[4]} <= {"running", "never_seen"}


@modes
@pytest.mark.parametrize(
    ("goal", "kwargs", "scenarios"),
    [
        ("all", {}, ["never", "fail"]),
        ("all", {}, ["never", "cancel"]),
        ("any", {}, ["fail", "cancel"]),
        ("quorum", {"min_success": 2}, ["never", "fail", "fail"]),
    ],
)
def test_it_fails_as_soon_as_not_enough_can_succeed(
    goal: str,
    kwargs: dict[str, Any],
    scenarios: list[str],
    mode: str,
    simulator: Simulator,
    connections: dict[str, str],
) -> None:
    runs = _runs(simulator, *scenarios)
    outcome = _sense(connections["snorbe"], runs, mode, goal, **kwargs)
    assert isinstance(outcome.error, SensedRunsFailed)
    assert isinstance(outcome.error, AirflowFailException), "a retry would only ask again"
    text = str(outcome.error)
    assert f"0 of {len(runs)} runs (connection 'snorbe_test') succeeded" in text
    for run_id, scenario, row in zip(runs, scenarios, outcome.xcoms["agent_runs"], strict=True):
        assert row["run_id"] == run_id
        if scenario == "fail":
            assert f"{run_id} failed ({row['error']})" in text
            assert row["error"], "the vendor's message"
        if scenario == "cancel":
            assert f"{run_id} cancelled" in text


@modes
def test_the_time_over_tells_which_runs_go_on(
    mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    runs = _runs(simulator, "never", "succeed", "never")
    outcome = _sense(connections["snorbe"], runs, mode, timeout=0.4)
    assert isinstance(outcome.error, AirflowSensorTimeout)
    assert f"go on at the vendor: {runs[0]}, {runs[2]}" in str(outcome.error)
    assert "1 of 3 runs" in str(outcome.error)
    assert _statuses(outcome) == ["running", "succeeded", "running"]


@modes
def test_a_run_that_stalls_counts_as_failed(
    mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    runs = _runs(simulator, "never", "succeed")
    outcome = _sense(connections["snorbe"], runs, mode, stall_timeout=0.3)
    assert isinstance(outcome.error, SensedRunsFailed)
    assert _statuses(outcome)[0] == "stalled"


@modes
@pytest.mark.parametrize("bad_id", [UNKNOWN, "../../workspace", "", 7, None], ids=repr)
def test_a_bad_id_among_good_ones_counts_as_not_succeeded_and_is_told(
    bad_id: Any, mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    good = _runs(simulator, "succeed")
    outcome = _sense(connections["snorbe"], [bad_id, *good], mode, "any")
    assert outcome.error is None
    assert outcome.value == good
    refused = _sense(connections["snorbe"], [bad_id, *good], mode)
    assert isinstance(refused.error, SensedRunsFailed)
    row = refused.xcoms["agent_runs"][0]
    assert row["status"] == "refused"
    assert row["error"]
    assert f"{row['run_id']} refused ({row['error']})" in str(refused.error)


@modes
def test_an_empty_list_has_all_of_its_runs_but_not_any(mode: str, connections: dict[str, str]) -> None:
    every = _sense(connections["snorbe"], [], mode)
    assert (every.error, every.value, every.xcoms["agent_runs"]) == (None, [], [])
    for goal, kwargs in (("any", {}), ("quorum", {"min_success": 1})):
        assert isinstance(_sense(connections["snorbe"], [], mode, goal, **kwargs).error, SensedRunsFailed)


@modes
def test_a_quorum_of_more_runs_than_there_are_fails_at_once_and_asks_nothing(
    mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    runs = _runs(simulator, "succeed")
    outcome = _sense(connections["snorbe"], runs, mode, "quorum", min_success=2)
    assert isinstance(outcome.error, SensedRunsFailed)
    assert "0 of 1 runs (connection 'snorbe_test') succeeded, 2 have to" in str(outcome.error)
    assert simulator.requests(run_id=runs[0]) == []
    assert outcome.deferrals == []


@modes
def test_a_run_that_is_named_twice_counts_once(
    mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    [first, second] = _runs(simulator, "succeed", "fail")
    outcome = _sense(connections["snorbe"], [first, second, first, first], mode, "quorum", min_success=2)
    assert isinstance(outcome.error, SensedRunsFailed)
    assert [row["run_id"] for row in outcome.xcoms["agent_runs"]] == [first, second]


@modes
def test_a_key_that_is_refused_fails_the_task_at_once(
    mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    runs = _runs(simulator, "never", "never", "never")
    simulator.revoke_key("snorbe", simulator.snorbe_key)
    outcome = _sense(connections["snorbe"], runs, mode)
    assert isinstance(outcome.error, SensedRunRefused)
    assert "snorbe_test" in str(outcome.error)
    assert set(_statuses(outcome)) <= {"never_seen", "refused"}


@modes
@pytest.mark.parametrize("why", ["failed", "late", "out of reach"])
def test_a_soft_failure_skips(why: str, mode: str, simulator: Simulator, connections: dict[str, str]) -> None:
    runs = _runs(simulator, "fail" if why == "failed" else "never")
    kwargs: dict[str, Any] = {"goal": "quorum", "min_success": 2} if why == "out of reach" else {}
    outcome = _sense(connections["snorbe"], runs, mode, soft_fail=True, timeout=0.3, **kwargs)
    assert isinstance(outcome.error, AirflowSkipException)


class Lazy(Sequence[str]):
    """What the output of a mapped task is."""

    def __init__(self, items: list[str]) -> None:
        self._items = items

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)


@pytest.mark.parametrize("as_given", [list, tuple, Lazy, json.dumps, repr])
def test_run_ids_are_whatever_gives_a_list(
    as_given: Any, simulator: Simulator, connections: dict[str, str]
) -> None:
    """A rendered template gives the text of one."""
    runs = _runs(simulator, "succeed", "succeed")
    assert _sense(connections["snorbe"], as_given(runs), "inline").value == runs


@pytest.mark.parametrize(
    "run_ids", ["r1", "r1,r2", '{"r1": 1}', {"r1": 1}, {"r1"}, 7, None, "7", b"r1"], ids=repr
)
def test_what_is_no_list_is_refused_before_anything_is_asked(
    run_ids: Any, simulator: Simulator, connections: dict[str, str]
) -> None:
    error = _sense(connections["snorbe"], run_ids, "deferred").error
    assert isinstance(error, SensedRunRefused)
    assert "run_ids must be a list of run ids" in str(error)
    assert simulator.requests() == []


def test_more_runs_than_a_trigger_can_carry_are_refused(connections: dict[str, str]) -> None:
    error = _sense(connections["snorbe"], [f"c{number}" for number in range(10_001)], "deferred").error
    assert isinstance(error, SensedRunRefused)
    assert "10000 at most" in str(error)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"mode": "most"}, "mode must be 'all', 'any' or 'quorum'"),
        ({"mode": "poke"}, "mode must be 'all', 'any' or 'quorum'"),
        ({"mode": "quorum"}, "needs min_success"),
        ({"mode": "quorum", "min_success": 0}, "needs min_success"),
        ({"mode": "quorum", "min_success": True}, "needs min_success"),
        ({"min_success": 1}, "min_success belongs to mode 'quorum'"),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused_when_the_dag_is_read(
    kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        AgentRunsSensor(task_id="t", conn_id="c", run_ids=["r1"], **kwargs)


def test_other_runs_after_the_wait_than_before_are_told(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    """The task upstream was cleared meanwhile: what was waited for is not what is wanted."""
    runs = _runs(simulator, "succeed", "succeed")
    deferred = _sense(connections["snorbe"], runs, "deferred")
    sensor = AgentRunsSensor(task_id="t", conn_id=connections["snorbe"], run_ids=runs[:1])
    with pytest.raises(AgentRunUnreadable, match="other runs now"):
        sensor.execute_complete({"ti": TaskInstance("t")}, deferred.events[0])  # type: ignore[typeddict-item]


@pytest.mark.parametrize("event", [{"digest": "of others", "end_time": 9e9}, {"run_id": "r2"}, "text", None])
def test_an_event_of_other_runs_ends_no_wait(
    event: Any, simulator: Simulator, connections: dict[str, str]
) -> None:
    """Airflow on SQLite gives a trigger the id of one that was removed and fires all the same."""
    runs = _runs(simulator, "never", "never")
    sensor = AgentRunsSensor(task_id="t", conn_id=connections["snorbe"], run_ids=runs, deferrable=True)
    context: Any = {"ti": TaskInstance("t")}
    assert waits_on_after(sensor, event, context)
    assert context["ti"].xcoms == {}


def test_an_event_of_another_version_is_told(connections: dict[str, str]) -> None:
    sensor = AgentRunsSensor(task_id="t", conn_id=connections["snorbe"], run_ids=["r1"])
    with pytest.raises(AirflowException, match="does not understand"):
        sensor.execute_complete({"ti": TaskInstance("t")}, {"odd": 1})  # type: ignore[typeddict-item]


def test_reasons_of_failed_runs_are_read_for_some_and_not_while_the_vendor_is_away(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_agentruns.runs_sensor._MOST_NAMED", 3)
    runs = _runs(simulator, *["fail"] * 8)
    outcome = _sense(connections["snorbe"], runs, "deferred", "any")
    table = outcome.xcoms["agent_runs"]
    assert sum("error" in row for row in table) == 3
    assert "and 5 more" in str(outcome.error)
    simulator.revoke_key("snorbe", simulator.snorbe_key)
    sensor = AgentRunsSensor(task_id="t", conn_id=connections["snorbe"], run_ids=runs, mode="any")
    ti = TaskInstance("t")
    with pytest.raises(SensedRunsFailed):
        sensor.execute_complete({"ti": ti}, outcome.events[0])  # type: ignore[typeddict-item]
    assert not any("error" in row for row in ti.xcoms["agent_runs"])


def test_two_thousand_runs_take_one_trigger_and_one_small_event(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    runs = [
        simulator.create_run("snorbe", scenario="fail" if number == 1234 else "succeed", duration=0)
        for number in range(2000)
    ]
    outcome = _sense(connections["snorbe"], runs, "deferred", "quorum", min_success=1999, timeout=200)
    assert outcome.error is None
    assert len(outcome.deferrals) == 1
    assert len(outcome.value) == 1999
    assert runs[1234] not in outcome.value
    assert len(json.dumps(outcome.events[0])) < 2500


def test_a_trigger_that_is_cancelled_leaves_nothing_running(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    runs = _runs(simulator, *["never"] * 5)

    async def cancel() -> set[str]:
        trigger = AgentRunsTrigger(
            conn_id=connections["snorbe"], run_ids=runs, needed=5, since=0.0, end_time=4e9, poll_interval=0.02
        )
        wait = asyncio.ensure_future(anext(aiter(trigger.run())))
        while len(simulator.requests()) < 10:
            await asyncio.sleep(0.02)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    assert asyncio.run(cancel()) == set()


def test_the_trigger_is_rebuilt_from_what_is_stored_of_it() -> None:
    kwargs: dict[str, Any] = {
        "conn_id": "c",
        "run_ids": ["r1", "r2"],
        "needed": 1,
        "since": 0.5,
        "end_time": 5.0,
        "run_kind": "tool",
        "poll_interval": 3.0,
        "poll_from": 2.0,
        "stall_timeout": 4.0,
    }
    trigger = AgentRunsTrigger(**kwargs)
    assert trigger.serialize() == ("airflow_provider_agentruns.runs_trigger.AgentRunsTrigger", kwargs)


def test_many_runs_are_not_waited_for_without_a_worker_and_the_log_says_so(
    simulator: Simulator, connections: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = _sense(connections["snorbe"], _runs(simulator, "succeed"), "inline", start_from_trigger=True)
    assert outcome.error is None
    assert len(outcome.deferrals) == 1
    assert "start_from_trigger has no effect on a sensor for many runs" in capsys.readouterr().out
