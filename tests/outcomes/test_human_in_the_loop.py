"""A run that asks a human in Airflow: what is shown, who answers first, and what breaks in between."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from pytest_mock import MockerFixture

from airflow_provider_agentruns import hitl, waiting
from airflow_provider_agentruns.client.models import HumanAnswer, HumanRequest, HumanRequestKind
from airflow_provider_agentruns.exceptions import (
    AgentRunRejected,
    AgentRunTimeout,
    AgentRunUnanswered,
)
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.triggers import AgentRunTrigger
from airflow_provider_agentruns.vendors.snorbe.answers import StatusAnswer
from tests.features import HUMANS

from .human_runs import SECRET, Lost, attach, everything_kept, modes, sent, start, vendor_answers
from .task_runs import HumanInTheLoop, TaskInstance, TaskStateStore, chosen, fire, run_task

pytestmark = [HUMANS.needed, pytest.mark.usefixtures("airflow", "no_pauses")]


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


def test_a_vendor_that_is_away_when_the_run_asks_does_not_fail_the_task(
    simulator: Simulator, connections: dict[str, str], mocker: MockerFixture
) -> None:
    mocker.patch("airflow_provider_agentruns.client.retry.backoff", return_value=0.0)
    simulator.add_fault("server_error", operation="snorbe.run.get", status=503, times=8)
    outcome = run_task(start("ask", "plan"), human=[chosen("Approve", user="Ada")])
    assert outcome.error is None
    assert outcome.value == "Done."


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
        raise Lost

    monkeypatch.setattr(AgentRunHook, "answer", die)
    operator = start("ask", "plan", retries=1)
    ti = TaskInstance("t", max_tries=1)
    with pytest.raises(Lost):
        run_task(operator, ti, store, human=[chosen("Answer", "Shorter.", user="Ada")])
    ti = TaskInstance("t", max_tries=1, try_number=2)

    def human() -> Any:
        assert "Shorter." in str(ti.xcoms["human_request"])
        yield chosen("Approve", user="Ada")

    outcome = run_task(operator, ti, store, human=human())
    assert outcome.error is None
    assert sent(simulator) == ["plan.answer", "plan.confirm", "run.resume"]


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
    mocker.patch.object(waiting, "_RESUMABLE_AFTER", 0.5)

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
    hitl.ask(ti, assigned_users=None, default=None, request_url="/")
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
    monkeypatch.setattr("airflow_provider_agentruns.hitl._LOOK_AGAIN", 3600)
    airflow.after_first_look = chosen("Reject", user="Ada")
    outcome = run_task(start("ask", "plan", response_timeout=0.5, defaults="Approve"))
    assert isinstance(outcome.error, AgentRunRejected)
    assert sent(simulator) == []
    assert len(airflow.read_at) == 2, "once before the response, once when nobody may respond any more"


def test_before_airflow_3_3_the_trigger_finds_a_response_that_comes_later(
    simulator: Simulator,
    connections: dict[str, str],
    airflow: HumanInTheLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_agentruns.hitl._AIRFLOW_RESUMES", False)
    monkeypatch.setattr("airflow_provider_agentruns.hitl._LOOK_AGAIN", 0.05)
    airflow.after_first_look = chosen("Approve", user="Ada")
    outcome = run_task(start("ask", "plan"))
    assert outcome.error is None
    assert outcome.value == "Done."
    assert len(airflow.read_at) == 2


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


@pytest.mark.skipif(not hitl._AIRFLOW_RESUMES, reason="here the trigger resumes the task")
@pytest.mark.parametrize("responded", ["before the first look", "later", "never"])
def test_a_trigger_fires_nothing_while_airflow_resumes_its_task_with_a_response(
    responded: str,
    simulator: Simulator,
    connections: dict[str, str],
    airflow: HumanInTheLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its event could reach the task's next trigger, which may have the same id on SQLite."""
    ti = TaskInstance("t")
    asked = run_task(start("ask", "plan"), ti, human=[chosen("Approve", user="Ada")]).deferrals[1].trigger
    airflow.questions[ti.id].response = None if responded == "never" else chosen("Approve", user="Ada")

    async def came_later(*_: Any, **__: Any) -> None:
        return None

    if responded == "later":
        monkeypatch.setattr(hitl, "response_in_airflow", came_later)
    monkeypatch.setattr(hitl, "_TRIGGER_ENDS", 600.0)
    trigger = AgentRunTrigger(**asked.serialize()[1])
    trigger.task_instance = cast("Any", ti)

    async def fire_within(seconds: float) -> Any:
        async with asyncio.timeout(seconds):
            return [event.payload["outcome"] async for event in trigger.run()]

    if responded == "never":
        assert asyncio.run(fire_within(20.0)) == ["ended"]
    else:
        with pytest.raises(TimeoutError):
            asyncio.run(fire_within(1.0))
