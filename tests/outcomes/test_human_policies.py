"""A run that asks a human: what is done by policy, and what is sent and kept."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from pytest_mock import MockerFixture

from airflow_provider_agentruns.exceptions import (
    AgentRunNeedsHuman,
    AgentRunRefused,
    AgentRunTimeout,
    AgentRunUnreadable,
    SensedRunNeedsHuman,
)
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.operators import AgentRunOperator
from airflow_provider_agentruns.sensors import AgentRunSensor
from airflow_provider_agentruns.simulator import Simulator
from tests.features import START_IN_TRIGGERER

from .human_runs import OPTIONS, SECRET, Lost, attach, everything_kept, modes, sent, start
from .task_runs import MODES, HumanInTheLoop, TaskInstance, TaskStateStore, run_task

pytestmark = pytest.mark.usefixtures("airflow", "no_pauses")


@modes
def test_drafts_are_approved_one_after_the_other_and_the_run_goes_on_as_it_was_started(
    mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    outcome = run_task(start("approve", "plan+report+matrix", mode))
    assert outcome.error is None
    assert outcome.value == "Done."
    assert sent(simulator) == [
        "plan.confirm", "run.resume", "report.confirm", "run.resume", "matrix.confirm", "run.resume",
    ]  # fmt: skip
    [run] = simulator.runs()
    as_started = {"modelName": "snorbe-quality", "promptKey": "chat-routing", "locale": "ja"}
    assert [dict(resume) for resume in run.resumes] == [as_started] * 3
    # The events of a run can be large: they are read for its output only.
    assert len(simulator.requests(operation="snorbe.run.get")) == 1


def test_a_run_that_was_started_elsewhere_is_resumed_as_its_own_events_say(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    started = AgentRunHook("snorbe_test").start(
        message="Hello [sim: wait, human=plan, duration=0.05]", options=OPTIONS
    )
    outcome = run_task(attach("approve", started.run_id))
    assert outcome.error is None
    [resume] = simulator.run(started.run_id).resumes
    assert (resume["modelName"], resume["locale"]) == ("snorbe-quality", "ja")


def test_what_the_events_do_not_say_comes_from_the_options(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    run_id = simulator.create_run("snorbe", scenario="wait", human="plan", duration=0.05)
    outcome = run_task(attach("approve", run_id, options={"modelName": "snorbe-medium"}))
    assert outcome.error is None
    [resume] = simulator.run(run_id).resumes
    assert resume["modelName"] == "snorbe-medium"


@modes
def test_a_run_that_asks_fails_the_task_if_nobody_is_to_answer(
    mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    outcome = run_task(start("fail", "plan", mode))
    assert isinstance(outcome.error, AgentRunNeedsHuman)
    [run] = simulator.runs()
    for said in (run.run_id, "snorbe_test", "a plan draft waits for review"):
        assert said in str(outcome.error)
    assert sent(simulator) == []


def test_each_topic_has_its_own_policy_and_the_rest_waits(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    outcome = run_task(start({"plan": "approve", "report": "fail"}, "plan+report"))
    assert isinstance(outcome.error, AgentRunNeedsHuman)
    assert "report" in str(outcome.error)
    assert sent(simulator) == ["plan.confirm", "run.resume"]


@pytest.mark.parametrize("reference", ["conn:patents", "var:patent_key"])
@modes
def test_secrets_come_from_airflow_and_show_nowhere(
    mode: str,
    reference: str,
    simulator: Simulator,
    connections: dict[str, str],
    airflow: HumanInTheLoop,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PATENTS", json.dumps({"conn_type": "generic", "password": SECRET}))
    monkeypatch.setenv("AIRFLOW_VAR_PATENT_KEY", SECRET)
    store = TaskStateStore()
    operator = start(
        "wait", "secret", mode, scenario={"secrets": "PATENT_API_KEY"}, secrets={"PATENT_API_KEY": reference}
    )
    outcome = run_task(operator, store=store)
    assert outcome.error is None
    assert outcome.value == "Done."
    assert sent(simulator) == ["secret.register"]
    out = capsys.readouterr()
    assert SECRET not in out.out + out.err + caplog.text + everything_kept(outcome, airflow, store)
    assert SECRET not in repr(vars(operator))


def test_a_secret_that_nobody_has_fails_the_task_and_is_named(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    operator = start("wait", "secret", scenario={"secrets": "A_KEY+B_KEY"}, secrets={"A_KEY": "var:a"})
    outcome = run_task(operator)
    assert isinstance(outcome.error, AgentRunNeedsHuman)
    assert "No connection or variable is given for B_KEY" in str(outcome.error)


def test_a_reference_to_nothing_fails_the_task_and_is_named(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EMPTY", json.dumps({"conn_type": "generic"}))
    operator = start("wait", "secret", scenario={"secrets": "A_KEY"}, secrets={"A_KEY": "conn:empty"})
    outcome = run_task(operator)
    assert isinstance(outcome.error, AgentRunNeedsHuman)
    assert "conn:empty, which is not there or has no password" in str(outcome.error)


def test_nothing_but_drafts_is_approved_unseen(simulator: Simulator, connections: dict[str, str]) -> None:
    operator = start("approve", "browser")
    operator.timeout = 0.5
    outcome = run_task(operator)
    assert "waiting" in str(outcome.error)
    assert sent(simulator) == []


def test_a_run_that_asks_for_ever_is_given_up(simulator: Simulator, connections: dict[str, str]) -> None:
    outcome = run_task(start("approve", "plan+report+plan+report", max_answers=3))
    assert isinstance(outcome.error, AgentRunNeedsHuman)
    assert "asks again after 3 answers" in str(outcome.error)
    assert sent(simulator, "confirm") == ["plan.confirm", "report.confirm", "plan.confirm"]


@pytest.mark.parametrize("dies_in", ["answer", "resume"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_draft_is_accepted_once_although_the_worker_dies(
    dies_in: str,
    when: str,
    simulator: Simulator,
    connections: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next try resumes a run whose draft was accepted, and accepts one whose was not."""
    store = TaskStateStore()
    original: Callable[..., None] = getattr(AgentRunHook, dies_in)

    def die(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(AgentRunHook, dies_in, original)
        if when == "after":
            original(*args, **kwargs)
        raise Lost

    monkeypatch.setattr(AgentRunHook, dies_in, die)
    operator = start("approve", "plan", retries=1)
    ti = TaskInstance("t", max_tries=1)
    with pytest.raises(Lost):
        run_task(operator, ti, store)
    ti.try_number = 2
    outcome = run_task(operator, ti, store)
    assert outcome.error is None
    assert outcome.value == "Done."
    assert sent(simulator, "confirm") == ["plan.confirm"]
    assert len(simulator.starts()) == 1
    assert "agent_run_answer" not in store.values


def test_a_draft_that_somebody_else_accepts_at_the_same_time_is_no_error(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = AgentRunHook.answer

    def second(self: AgentRunHook, *args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(AgentRunHook, "answer", original)
        original(self, *args, **kwargs)
        original(self, *args, **kwargs)

    monkeypatch.setattr(AgentRunHook, "answer", second)
    outcome = run_task(start("approve", "plan"))
    assert outcome.error is None
    assert outcome.value == "Done."


def test_an_answer_that_cannot_be_recorded_is_not_sent(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TaskStateStore()
    original = AgentRunHook.get_status

    def break_store(*args: Any, **kwargs: Any) -> Any:
        store.fails_to = {"set"}
        return original(*args, **kwargs)

    monkeypatch.setattr(AgentRunHook, "get_status", break_store)
    outcome = run_task(start("approve", "plan"), store=store)
    assert isinstance(outcome.error, AgentRunUnreadable)
    assert "nothing was answered" in str(outcome.error)
    assert sent(simulator) == []


@pytest.mark.parametrize("operation", ["plan.confirm", "run.resume"])
@pytest.mark.parametrize("has_store", [True, False])
def test_a_draft_whose_acceptance_is_not_answered_is_finished_in_the_same_try(
    operation: str,
    has_store: bool,
    simulator: Simulator,
    connections: dict[str, str],
    mocker: MockerFixture,
) -> None:
    """The vendor takes the call and breaks off, and is away for a while."""
    mocker.patch("airflow_provider_agentruns.client.retry.backoff", return_value=0.0)
    simulator.add_fault("reset", operation=f"snorbe.{operation}", times=1, after_effect=True)
    simulator.add_fault("server_error", operation=f"snorbe.{operation}", status=503, times=8)
    simulator.add_fault("server_error", operation="snorbe.run.resume", status=503, times=8)
    outcome = run_task(start("approve", "plan"), store=TaskStateStore() if has_store else None)
    assert outcome.error is None
    assert outcome.value == "Done."
    [run] = simulator.runs()
    assert run.resumes


@modes
def test_a_run_that_cannot_be_resumed_is_given_up_at_the_deadline(
    mode: str, simulator: Simulator, connections: dict[str, str], mocker: MockerFixture
) -> None:
    mocker.patch("airflow_provider_agentruns.client.retry.backoff", return_value=0.0)
    simulator.add_fault("server_error", operation="snorbe.run.resume", status=503)
    operator = start("approve", "plan", mode)
    operator.timeout = 0.5
    outcome = run_task(operator)
    assert isinstance(outcome.error, AgentRunTimeout)
    assert len(outcome.deferrals) < 20


def test_a_retry_does_not_resume_a_run_that_went_on(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker died when all was done but the record of it; the run asks for something else by now."""
    store = TaskStateStore()

    def die(*args: Any) -> None:
        monkeypatch.undo()
        raise Lost

    with monkeypatch.context() as patched:
        patched.setattr("airflow_provider_agentruns.answer_log.AnswerLog.done", die)
        patched.setattr(monkeypatch, "undo", lambda: None)
        operator = start("approve", "plan+report", retries=1)
        ti = TaskInstance("t", max_tries=1)
        with pytest.raises(Lost):
            run_task(operator, ti, store)
    hook = AgentRunHook("snorbe_test")
    [run] = simulator.runs()
    deadline = time.time() + 10
    while not hook.get_status(run.run_id).human_requests and time.time() < deadline:
        time.sleep(0.02)
    ti.try_number = 2
    outcome = run_task(operator, ti, store)
    assert outcome.error is None
    assert sent(simulator, "confirm") == ["plan.confirm", "report.confirm"]
    assert len(sent(simulator, "resume")) == 2


@modes
def test_a_secret_that_a_skill_takes_a_moment_to_notice_is_registered_once(
    mode: str, simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_A", SECRET)
    original = AgentRunHook.answer
    registered_at: list[float] = []

    def register_late(self: AgentRunHook, *args: Any) -> None:
        registered_at.append(time.time())
        threading.Timer(0.4, lambda: original(self, *args)).start()

    monkeypatch.setattr(AgentRunHook, "answer", register_late)
    operator = start("wait", "secret", mode, scenario={"secrets": "A_KEY"}, secrets={"A_KEY": "var:a"})
    outcome = run_task(operator)
    assert outcome.error is None
    assert len(registered_at) == 1


def test_wrong_options_are_found_before_a_draft_is_accepted(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    run_id = simulator.create_run("snorbe", scenario="wait", human="plan", duration=0.05)
    outcome = run_task(attach("approve", run_id, options={"modelNam": "x"}))
    assert isinstance(outcome.error, AgentRunRefused)
    assert "modelNam" in str(outcome.error)
    assert sent(simulator) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"on_human_request": "aprove"}, "'approve'"),
        ({"on_human_request": {"plan": "provide"}}, "is for 'secret'"),
        ({"on_human_request": {"secret": "provide"}}, "needs secrets"),
        ({"on_human_request": {"secret": "wait"}, "secrets": {"A": "var:a"}}, "secrets are given"),
        ({"secrets": {"A": "hunter2"}}, "'A' must name a connection or variable"),
        ({"defaults": "Yes"}, "'Approve' or 'Reject'"),
        ({"response_timeout": 0}, "response_timeout"),
        ({"max_answers": 0}, "max_answers"),
        ({"on_human_request": "approve", "wait_for_completion": False}, "wait_for_completion"),
    ],
)
def test_settings_that_cannot_be_right_are_refused_when_the_dag_is_read(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        AgentRunOperator(task_id="t", conn_id="c", message="m", **settings)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("vendor", ["snorbe", "flowyble"])
def test_a_topic_that_the_vendor_never_asks_is_refused_before_anything_is_sent(
    vendor: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    operator = AgentRunOperator(
        task_id="t", conn_id=connections[vendor], message="m", on_human_request={"plann": "approve"}
    )
    outcome = run_task(operator)
    assert isinstance(outcome.error, AgentRunRefused)
    assert "asks for no 'plann'" in str(outcome.error)
    assert simulator.requests() == []


@pytest.mark.parametrize("mode", [*MODES, "start"])
def test_a_sensor_fails_if_told_to_and_never_answers(
    mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    run_id = simulator.create_run("snorbe", scenario="wait", human="plan", duration=0.01)
    sensor = AgentRunSensor(
        task_id="t",
        conn_id="snorbe_test",
        run_id=run_id,
        poke_interval=0.02,
        timeout=5,
        deferrable=mode == "deferred",
        start_from_trigger=mode == "start",
        on_human_request="fail",
    )
    outcome = run_task(sensor)
    assert isinstance(outcome.error, SensedRunNeedsHuman)
    assert "a plan draft waits for review" in str(outcome.error)
    assert run_id in str(outcome.error)
    assert sent(simulator) == []
    if mode == "start" and START_IN_TRIGGERER.is_there():
        assert sensor.start_trigger_args is not None
        assert sensor.start_trigger_args.trigger_kwargs is not None
        assert sensor.start_trigger_args.trigger_kwargs["human_policies"] == {"*": "fail"}


def test_a_sensor_waits_on_if_what_was_asked_is_answered_by_then(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    run_id = simulator.create_run("snorbe", duration=0.3)
    sensor = AgentRunSensor(
        task_id="t", conn_id="snorbe_test", run_id=run_id, deferrable=True, on_human_request="fail"
    )
    event = {"outcome": "asks", "run_id": run_id, "run_kind": "agent", "end_time": time.time() + 9}
    with pytest.raises(TaskDeferred):
        sensor.execute_complete({"ti": TaskInstance("t")}, event)  # type: ignore[typeddict-item]


def test_a_sensor_takes_no_policy_that_answers() -> None:
    with pytest.raises(ValueError, match="'wait' or 'fail'"):
        AgentRunSensor(task_id="t", conn_id="c", run_id="r", on_human_request="ask")  # type: ignore[arg-type]


def test_a_wait_without_policies_carries_nothing_of_them(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    outcome = run_task(attach("wait", simulator.create_run("snorbe", duration=0.05)))
    assert outcome.error is None
    [deferral] = outcome.deferrals
    assert deferral.kwargs is not None
    assert deferral.kwargs["wait"]["exchange"] == {}
    assert deferral.trigger.serialize()[1]["human_policies"] is None
