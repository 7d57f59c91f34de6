"""A run that asks a human: every policy, every kind of request, and what is sent and shown."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import CreateHITLDetailPayload
from pytest_mock import MockerFixture

from airflow_provider_agentruns import draft_acceptance, human_requests, wait_operator, waiting
from airflow_provider_agentruns.client.models import HumanAnswer, HumanRequest, HumanRequestKind
from airflow_provider_agentruns.exceptions import (
    AgentRunNeedsHuman,
    AgentRunRefused,
    AgentRunRejected,
    AgentRunTimeout,
    AgentRunUnanswered,
    AgentRunUnreadable,
    SensedRunNeedsHuman,
)
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.operators import AgentRunOperator, AgentRunResultOperator
from airflow_provider_agentruns.sensors import AgentRunSensor
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.triggers import AgentRunTrigger
from airflow_provider_agentruns.vendors.snorbe.answers import StatusAnswer

from .task_runs import (
    MODES,
    HumanInTheLoop,
    Outcome,
    TaskInstance,
    TaskStateStore,
    chosen,
    fire,
    run_task,
)

modes = pytest.mark.parametrize("mode", MODES)

OPTIONS = {"modelName": "snorbe-quality", "locale": "ja"}
SECRET = "the-value-of-the-secret-7c1e"


@pytest.fixture(autouse=True)
def airflow(monkeypatch: pytest.MonkeyPatch) -> HumanInTheLoop:
    """Answer as Airflow's supervisor does."""
    supervisor = HumanInTheLoop()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(human_requests, "_SHORTEST_PAUSE", 0.05)
    monkeypatch.setattr(draft_acceptance, "VENDOR_PAUSE", 0.05)
    monkeypatch.setattr(wait_operator, "VENDOR_PAUSE", 0.05)


def start(policy: Any, human: str, mode: str = "deferred", **settings: Any) -> AgentRunOperator:
    options = {"duration": 0.05, "question": '"Which year?"', **settings.pop("scenario", {})}
    scenario = ", ".join(f"{name}={value}" for name, value in options.items())
    return AgentRunOperator(
        task_id="t",
        conn_id="snorbe_test",
        message=f'Write it. [sim: wait, human={human}, output="Done.", {scenario}]',
        options=OPTIONS,
        poll_interval=0.02,
        timeout=30,
        deferrable=mode == "deferred",
        on_human_request=policy,
        **settings,
    )


def attach(policy: Any, run_id: str, **settings: Any) -> AgentRunResultOperator:
    return AgentRunResultOperator(
        task_id="t",
        conn_id="snorbe_test",
        run_id=run_id,
        poll_interval=0.02,
        timeout=30,
        deferrable=True,
        on_human_request=policy,
        **settings,
    )


def sent(simulator: Simulator, *actions: str) -> list[str]:
    """Return the answers that the vendor received, in order."""
    wanted = ("confirm", "answer", "resume", "register", "skip")
    operations = [str(request.operation).removeprefix("snorbe.") for request in simulator.requests()]
    return [name for name in operations if name.rpartition(".")[2] in (actions or wanted)]


def everything_kept(outcome: Outcome, airflow: HumanInTheLoop, store: TaskStateStore | None = None) -> str:
    """Return all that Airflow stores of a task, as text."""
    kept = [
        outcome.xcoms,
        [deferral.trigger.serialize() for deferral in outcome.deferrals],
        [deferral.kwargs for deferral in outcome.deferrals],
        [vars(question) for question in airflow.questions.values()],
        store.values if store else {},
        outcome.value,
        repr(outcome.error),
    ]
    return json.dumps(kept, default=str)


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


@modes
def test_a_human_approves_in_airflow(
    mode: str,
    simulator: Simulator,
    connections: dict[str, str],
    airflow: HumanInTheLoop,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    outcome = run_task(start("ask", "plan", mode), human=[chosen("Approve", user="Ada")])
    assert outcome.error is None
    assert outcome.value == "Done."
    assert sent(simulator) == ["plan.confirm", "run.resume"]
    shown = outcome.xcoms["human_request"]
    [run] = simulator.runs()
    assert (shown["run_id"], shown["number"], "note" in shown) == (run.run_id, 1, False)
    assert shown["asks"] == "a plan draft waits for review"
    for said in ("**Goal**: Simulated plan", "1. Collect sources", "1. Which year?"):
        assert said in "\n".join(shown["text"])
        assert f"  | {said}" in caplog.text, "no line of the vendor passes for one of the log"
    [question] = airflow.questions.values()
    assert question.options == ["Approve", "Answer", "Reject"]
    assert list(question.params) == ["answer"]


def test_a_draft_forges_no_group_of_log_lines(
    simulator: Simulator, connections: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    operator = start("ask", "plan", scenario={"question": '"a\\n::group::b"'})
    outcome = run_task(operator, human=[chosen("Approve", user="Ada")])
    assert outcome.error is None
    assert "group::b" in caplog.text
    assert "::group::b" not in caplog.text


@pytest.mark.parametrize(("human", "said"), [("report", "1. Findings"), ("matrix", "1. Findings")])
def test_drafts_of_other_kinds_are_shown_too(
    human: str, said: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    outcome = run_task(start("ask", human), human=[chosen("Approve", user="Ada")])
    assert outcome.error is None
    assert said in outcome.xcoms["human_request"]["text"]


def test_a_human_has_a_draft_changed_and_gets_the_next_one(
    simulator: Simulator, connections: dict[str, str], airflow: HumanInTheLoop
) -> None:
    """Airflow keeps the first question's text for good, so no draft may stand in it."""
    shown: list[str] = []
    ti = TaskInstance("t")

    def human() -> Any:
        shown.append(str(ti.xcoms["human_request"]))
        yield chosen("Answer", "Add the prices of steel.", user="Ada")
        shown.append(str(ti.xcoms["human_request"]))
        yield chosen("Approve", user="Ada")

    outcome = run_task(start("ask", "plan"), ti, human=human())
    assert outcome.error is None
    assert sent(simulator) == ["plan.answer", "plan.confirm", "run.resume"]
    assert "Add the prices of steel." not in shown[0]
    assert "Add the prices of steel." in shown[1]
    assert airflow.asked == 2
    [question] = airflow.questions.values()
    assert "Simulated plan" not in question.body + question.subject
    assert "(/dags/d/runs/r/tasks/t)" in question.body


def test_a_rejection_fails_the_task_for_good_and_names_who_it_was(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    outcome = run_task(start("ask", "plan"), human=[chosen("Reject", user="Ada Lovelace")])
    assert isinstance(outcome.error, AgentRunRejected)
    assert isinstance(outcome.error, AirflowFailException)
    assert "rejected by Ada Lovelace" in str(outcome.error)
    assert sent(simulator) == []


def vendor_answers(simulator: Simulator) -> None:
    """Accept the plan at the vendor, as a human does in its own UI."""
    hook = AgentRunHook("snorbe_test")
    [run] = simulator.runs()
    status = hook.get_status(run.run_id)
    [request] = status.human_requests
    in_full = hook.read_request(status.ref, request)
    hook.answer(status.ref, in_full, HumanAnswer())
    hook.resume(status.ref, in_full)


def test_an_answer_at_the_vendor_closes_the_question_in_airflow(
    simulator: Simulator, connections: dict[str, str], airflow: HumanInTheLoop
) -> None:
    def human() -> Any:
        vendor_answers(simulator)
        yield None

    outcome = run_task(start("ask", "plan", scenario={"duration": 1}), human=human())
    assert outcome.error is None
    assert outcome.value == "Done."
    [question] = airflow.questions.values()
    assert question.response is not None
    assert question.response["chosen_options"][0] in {"Answered at the vendor", "The run is over"}
    assert sent(simulator).count("plan.confirm") == 1


def test_a_response_that_comes_after_the_vendors_answer_is_not_sent(
    simulator: Simulator, connections: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    def human() -> Any:
        vendor_answers(simulator)
        yield chosen("Answer", "Too late.", user="Ada")

    outcome = run_task(start("ask", "plan"), human=human())
    assert outcome.error is None
    assert "plan.answer" not in sent(simulator)
    assert "was answered at the vendor before Answer was chosen (Ada)" in caplog.text


def test_a_draft_that_was_changed_at_the_vendor_is_not_approved_unseen(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    ti = TaskInstance("t")

    def human() -> Any:
        hook = AgentRunHook("snorbe_test")
        [run] = simulator.runs()
        status = hook.get_status(run.run_id)
        request = hook.read_request(status.ref, status.human_requests[0])
        hook.answer(status.ref, request, HumanAnswer(text="Changed at the vendor."))
        yield chosen("Approve", user="Ada")
        assert "plan.confirm" not in sent(simulator)
        assert "The draft has changed since" in str(ti.xcoms["human_request"])
        assert "Changed at the vendor." in str(ti.xcoms["human_request"])
        yield chosen("Approve", user="Ada")

    outcome = run_task(start("ask", "plan"), ti, human=human())
    assert outcome.error is None
    assert sent(simulator)[-2:] == ["plan.confirm", "run.resume"]


def test_a_response_from_before_the_task_deferred_is_found_by_its_trigger(
    simulator: Simulator, connections: dict[str, str], airflow: HumanInTheLoop
) -> None:
    ti = TaskInstance("t")

    def human() -> Any:
        airflow.questions[ti.id].response = chosen("Approve", user="Ada")
        yield None

    outcome = run_task(start("ask", "plan"), ti, human=human())
    assert outcome.error is None
    assert outcome.value == "Done."


def test_nobody_responds_and_the_default_counts(
    simulator: Simulator, connections: dict[str, str], airflow: HumanInTheLoop
) -> None:
    outcome = run_task(start("ask", "plan", response_timeout=0.1, defaults="Approve"))
    assert outcome.error is None
    assert outcome.value == "Done."
    [question] = airflow.questions.values()
    assert question.defaults == ["Approve"]
    assert question.response is not None
    assert question.response["chosen_options"] == ["Approve"]


def test_nobody_responds_and_the_task_fails(
    simulator: Simulator, connections: dict[str, str], airflow: HumanInTheLoop
) -> None:
    outcome = run_task(start("ask", "plan", response_timeout=0.1))
    assert isinstance(outcome.error, AgentRunUnanswered)
    assert "0.1 s" in str(outcome.error)
    [question] = airflow.questions.values()
    assert question.response is not None
    assert question.response["chosen_options"] == ["No response in time"]


def test_a_question_without_a_text_is_asked_again(simulator: Simulator, connections: dict[str, str]) -> None:
    ti = TaskInstance("t")

    def human() -> Any:
        yield chosen("Answer", "  ", user="Ada")
        assert "Nothing was sent: an answer needs a text" in str(ti.xcoms["human_request"])
        yield chosen("Approve", user="Ada")

    outcome = run_task(start("ask", "plan"), ti, human=human())
    assert outcome.error is None
    assert "plan.answer" not in sent(simulator)


def test_notifiers_are_told_and_users_assigned(
    simulator: Simulator, connections: dict[str, str], airflow: HumanInTheLoop
) -> None:
    told: list[Any] = []
    operator = start(
        "ask",
        "plan",
        notifiers=lambda context: told.append(context["ti"].task_id),
        assigned_users={"id": "1", "name": "Ada"},
    )
    outcome = run_task(operator, human=[chosen("Approve", user="Ada")])
    assert outcome.error is None
    assert told == ["t"]
    [question] = airflow.questions.values()
    assert question.assigned_users == [{"id": "1", "name": "Ada"}]


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


def test_a_human_says_where_airflow_has_a_secret_and_a_value_is_not_taken(
    simulator: Simulator,
    connections: dict[str, str],
    airflow: HumanInTheLoop,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_A", SECRET)
    monkeypatch.setenv("AIRFLOW_VAR_B", SECRET + "-b")
    ti = TaskInstance("t")

    def human() -> Any:
        assert "B_KEY" in str(ti.xcoms["human_request"])
        yield chosen("Answer", SECRET + "-typed", user="Ada")
        assert "does not name a connection or variable" in str(ti.xcoms["human_request"])
        yield chosen("Answer", "B_KEY=var:b", user="Ada")

    operator = start("ask", "secret", scenario={"secrets": "A_KEY+B_KEY"}, secrets={"A_KEY": "var:a"})
    outcome = run_task(operator, ti, human=human())
    assert outcome.error is None
    assert outcome.value == "Done."
    assert SECRET not in capsys.readouterr().out + everything_kept(outcome, airflow)


@modes
def test_a_question_of_the_browser_is_answered_in_airflow(
    mode: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    outcome = run_task(start("ask", "browser", mode), human=[chosen("Answer", "2025", user="Ada")])
    assert outcome.error is None
    assert outcome.value == "Done."
    assert sent(simulator) == ["browser.answer"]


def test_an_answer_that_the_vendor_does_not_take_is_left_to_the_vendor(
    simulator: Simulator, connections: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    simulator.add_fault("html", operation="snorbe.browser.answer", status=400, times=1)
    operator = start("ask", "browser")
    operator.timeout = 1.0
    outcome = run_task(operator, human=[chosen("Answer", "2025", user="Ada")])
    assert "the vendor does not take this answer" in caplog.text
    assert "waiting" in str(outcome.error)
    assert sent(simulator) == ["browser.answer"]


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


def test_a_vendor_that_is_away_when_the_run_asks_does_not_fail_the_task(
    simulator: Simulator, connections: dict[str, str], mocker: MockerFixture
) -> None:
    mocker.patch("airflow_provider_agentruns.client.retry.backoff", return_value=0.0)
    simulator.add_fault("server_error", operation="snorbe.run.get", status=503, times=8)
    outcome = run_task(start("ask", "plan"), human=[chosen("Approve", user="Ada")])
    assert outcome.error is None
    assert outcome.value == "Done."


class _Lost(BaseException):
    """The worker is killed."""


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
        raise _Lost

    monkeypatch.setattr(AgentRunHook, dies_in, die)
    operator = start("approve", "plan", retries=1)
    ti = TaskInstance("t", max_tries=1)
    with pytest.raises(_Lost):
        run_task(operator, ti, store)
    ti.try_number = 2
    outcome = run_task(operator, ti, store)
    assert outcome.error is None
    assert outcome.value == "Done."
    assert sent(simulator, "confirm") == ["plan.confirm"]
    assert len(simulator.starts()) == 1
    assert "agent_run_answer" not in store.values


def test_a_revision_is_asked_for_once_although_the_worker_dies(
    simulator: Simulator,
    connections: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = TaskStateStore()
    original = AgentRunHook.answer

    def die(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(AgentRunHook, "answer", original)
        original(*args, **kwargs)
        raise _Lost

    monkeypatch.setattr(AgentRunHook, "answer", die)
    operator = start("ask", "plan", retries=1)
    ti = TaskInstance("t", max_tries=1)
    with pytest.raises(_Lost):
        run_task(operator, ti, store, human=[chosen("Answer", "Shorter.", user="Ada")])
    ti = TaskInstance("t", max_tries=1, try_number=2)

    def human() -> Any:
        assert "Shorter." in str(ti.xcoms["human_request"])
        yield chosen("Approve", user="Ada")

    outcome = run_task(operator, ti, store, human=human())
    assert outcome.error is None
    assert sent(simulator) == ["plan.answer", "plan.confirm", "run.resume"]


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


def test_a_retry_does_not_resume_a_run_that_went_on(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker died when all was done but the record of it; the run asks for something else by now."""
    store = TaskStateStore()

    def die(*args: Any) -> None:
        monkeypatch.undo()
        raise _Lost

    with monkeypatch.context() as patched:
        patched.setattr("airflow_provider_agentruns.answer_log.AnswerLog.done", die)
        patched.setattr(monkeypatch, "undo", lambda: None)
        operator = start("approve", "plan+report", retries=1)
        ti = TaskInstance("t", max_tries=1)
        with pytest.raises(_Lost):
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


def test_a_vendor_that_is_away_when_a_human_responds_is_asked_again_until_the_time_is_over(
    simulator: Simulator, connections: dict[str, str], airflow: HumanInTheLoop, mocker: MockerFixture
) -> None:
    """The response is kept by Airflow: the trigger finds it, not before the pause is over."""
    mocker.patch("airflow_provider_agentruns.client.retry.backoff", return_value=0.0)
    ti = TaskInstance("t")

    def human() -> Any:
        airflow.questions[ti.id].response = response = chosen("Approve", user="Ada")
        simulator.add_fault("server_error", operation="snorbe.run.status", status=503, times=8)
        yield response

    outcome = run_task(start("ask", "plan"), ti, human=human())
    assert outcome.error is None
    assert sent(simulator) == ["plan.confirm", "run.resume"]
    assert airflow.asked == 1

    simulator.add_fault("server_error", operation="snorbe.run.get", status=503)
    operator = start("ask", "plan")
    operator.timeout = 0.5
    late = run_task(operator, TaskInstance("t"))
    assert isinstance(late.error, AgentRunTimeout)
    assert len(late.deferrals) < 15


def test_a_stored_response_fires_no_trigger_before_the_task_may_be_resumed(
    simulator: Simulator, connections: dict[str, str], airflow: HumanInTheLoop, mocker: MockerFixture
) -> None:
    ti = TaskInstance("t")
    mocker.patch.object(waiting, "_SUPERVISOR_NOTICES_EXIT", 0.5)

    def human() -> Any:
        airflow.questions[ti.id].response = chosen("Approve", user="Ada")
        yield None

    outcome = run_task(start("ask", "plan"), ti, human=human())
    assert outcome.error is None
    asked = outcome.deferrals[1].trigger
    assert isinstance(asked, AgentRunTrigger)
    assert airflow.read_at[0] >= asked.poll_from


def test_a_question_of_an_earlier_try_is_closed_and_a_response_to_it_changes_nothing(
    simulator: Simulator,
    connections: dict[str, str],
    airflow: HumanInTheLoop,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_id = simulator.create_run("snorbe", duration=0.3)
    ti = TaskInstance("t", try_number=2)
    airflow.send(CreateHITLDetailPayload(ti_id=ti.id, options=["Approve"], subject="s", assigned_users=[]))
    operator = attach("ask", run_id)
    context: Any = {"ti": ti}
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    fire(deferred.value, ti)
    response = airflow.questions[ti.id].response
    assert response is not None
    assert response["chosen_options"] == ["The task waits no more"]
    kwargs = {"event": chosen("Approve", "typed-by-somebody", user="Ada"), **(deferred.value.kwargs or {})}
    with pytest.raises(TaskDeferred):
        operator.resume_execution("execute_complete", kwargs, context)
    assert "asks nothing, but Approve was chosen (Ada)" in caplog.text
    assert "typed-by-somebody" not in caplog.text


def test_a_rejection_at_the_last_moment_beats_the_default(
    simulator: Simulator,
    connections: dict[str, str],
    airflow: HumanInTheLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before Airflow 3.3 the trigger looks for a response now and then only."""
    monkeypatch.setattr("airflow_provider_agentruns.hitl._AIRFLOW_RESUMES", False)
    ti = TaskInstance("t")

    def respond() -> None:
        airflow.questions[ti.id].response = chosen("Reject", user="Ada")

    def human() -> Any:
        threading.Timer(0.2, respond).start()
        yield None

    outcome = run_task(start("ask", "plan", response_timeout=0.5, defaults="Approve"), ti, human=human())
    assert isinstance(outcome.error, AgentRunRejected)
    assert sent(simulator) == []


def test_before_airflow_3_3_the_trigger_finds_a_response_that_comes_later(
    simulator: Simulator,
    connections: dict[str, str],
    airflow: HumanInTheLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_agentruns.hitl._AIRFLOW_RESUMES", False)
    monkeypatch.setattr("airflow_provider_agentruns.hitl._LOOK_AGAIN", 0.05)
    ti = TaskInstance("t")

    def respond() -> None:
        airflow.questions[ti.id].response = chosen("Approve", user="Ada")

    def human() -> Any:
        threading.Timer(0.2, respond).start()
        yield None

    outcome = run_task(start("ask", "plan"), ti, human=human())
    assert outcome.error is None
    assert outcome.value == "Done."


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


def test_a_human_and_the_vendor_answer_at_the_same_moment(
    simulator: Simulator,
    connections: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    original = AgentRunHook.answer

    def second(self: AgentRunHook, *args: Any) -> None:
        monkeypatch.setattr(AgentRunHook, "answer", original)
        vendor_answers(simulator)
        original(self, *args)

    monkeypatch.setattr(AgentRunHook, "answer", second)
    outcome = run_task(start("ask", "plan"), human=[chosen("Answer", "Shorter.", user="Ada")])
    assert outcome.error is None
    assert outcome.value == "Done."
    assert "was answered at the vendor in this moment; ours is not taken" in caplog.text


def test_a_reference_that_a_human_mistypes_is_asked_for_again(
    simulator: Simulator, connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_B", SECRET)
    ti = TaskInstance("t")

    def human() -> Any:
        yield chosen("Answer", "var:bb", user="Ada")
        assert "var:bb, which is not there" in str(ti.xcoms["human_request"])
        yield chosen("Approve", "var:b", user="Ada")

    outcome = run_task(start("ask", "secret", scenario={"secrets": "B_KEY"}), ti, human=human())
    assert outcome.error is None
    assert outcome.value == "Done."


def test_wrong_options_are_found_before_a_draft_is_accepted(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    run_id = simulator.create_run("snorbe", scenario="wait", human="plan", duration=0.05)
    outcome = run_task(attach("approve", run_id, options={"modelNam": "x"}))
    assert isinstance(outcome.error, AgentRunRefused)
    assert "modelNam" in str(outcome.error)
    assert sent(simulator) == []


@pytest.mark.parametrize("human", ["browser", "secret"])
def test_a_default_approves_drafts_and_nothing_else(
    human: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    outcome = run_task(start("ask", human, response_timeout=0.1, defaults="Approve"))
    assert isinstance(outcome.error, AgentRunUnanswered)


def test_secrets_are_provided_while_a_human_is_asked_about_something_else(
    simulator: Simulator,
    connections: dict[str, str],
    airflow: HumanInTheLoop,
    mocker: MockerFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The vendor's runs stop for one thing after the other; here its status shows two at once."""
    monkeypatch.setenv("AIRFLOW_VAR_A", SECRET)
    secret = HumanRequest(
        id="secret:A",
        kind=HumanRequestKind.SECRET,
        topic="secret",
        prompt="a skill needs A",
        answer_schema={"properties": {"A": {}}},
    )
    original = StatusAnswer.run
    is_registered = False

    def with_secret(self: StatusAnswer, ref: Any) -> Any:
        run = original(self, ref)
        both = () if is_registered or not run.human_requests else (secret,)
        return run.model_copy(update={"human_requests": (*run.human_requests, *both)})

    def answer(self: AgentRunHook, ref: Any, request: HumanRequest, *args: Any) -> None:
        nonlocal is_registered
        is_registered = is_registered or request.id == "secret:A"

    monkeypatch.setattr(StatusAnswer, "run", with_secret)
    monkeypatch.setattr(AgentRunHook, "answer", answer)
    outcome = run_task(
        start({"plan": "ask"}, "plan", secrets={"A": "var:a"}, response_timeout=1), TaskInstance("t")
    )
    assert is_registered
    assert isinstance(outcome.error, AgentRunUnanswered), "the question stayed open"
    assert airflow.asked == 1


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
        ({"on_human_request": "ask", "wait_for_completion": False}, "wait_for_completion"),
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
    if mode == "start":
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
    assert deferral.kwargs is None
    assert deferral.trigger.serialize()[1]["human_policies"] is None
