"""What a wait does about what its run asks: pure decisions."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_agentruns.client.exceptions import InvalidInputError
from airflow_provider_agentruns.client.models import HumanRequest, HumanRequestKind, Run, RunRef, RunStatus
from airflow_provider_agentruns.polling.human_watch import (
    HumanExchange,
    HumanPolicies,
    HumanPolicy,
    HumanWatch,
)
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import RunPoller

NOW = 1_000_000.0
PLAN = HumanRequest(id="plan-draft", kind=HumanRequestKind.APPROVAL, topic="plan", prompt="a plan waits")
QUESTION = HumanRequest(id="q", kind=HumanRequestKind.QUESTION, topic="browser", prompt="which?")
SECRET = HumanRequest(
    id="s",
    kind=HumanRequestKind.SECRET,
    topic="secret",
    prompt="a key",
    answer_schema={"properties": {"A": {}, "B": {}}},
)


def run(*requests: HumanRequest, status: RunStatus = RunStatus.WAITING) -> Run:
    return Run(vendor="v", run_id="r1", status=status, raw_status="word", human_requests=requests)


def poller(policies: Any, end_time: float = NOW + 3600, **exchange: Any) -> RunPoller:
    watch = HumanWatch(HumanPolicies(policies), HumanExchange(**exchange))
    return RunPoller(RunRef(run_id="r1"), interval=10.0, end_time=end_time, human=watch)


@pytest.mark.parametrize(
    ("policies", "request_", "policy"),
    [
        ("wait", PLAN, HumanPolicy.WAIT),
        ("approve", PLAN, HumanPolicy.APPROVE),
        ("approve", QUESTION, HumanPolicy.WAIT),
        ("ask", SECRET, HumanPolicy.ASK),
        ({"approval": "ask", "plan": "approve"}, PLAN, HumanPolicy.APPROVE),
        ({"approval": "ask", "report": "approve"}, PLAN, HumanPolicy.ASK),
        ({"question": "fail"}, QUESTION, HumanPolicy.FAIL),
        ({"question": "fail"}, PLAN, HumanPolicy.WAIT),
    ],
)
def test_a_topic_counts_before_its_kind_and_that_before_the_rest(
    policies: Any, request_: HumanRequest, policy: HumanPolicy
) -> None:
    chosen = HumanPolicies.of(policies)
    assert chosen.policy_for(request_) is policy
    assert HumanPolicies(chosen.by_name).policy_for(request_) is policy


@pytest.mark.parametrize(
    ("policies", "policy"),
    [
        ("wait", HumanPolicy.PROVIDE),
        ("approve", HumanPolicy.PROVIDE),
        ({"plan": "ask"}, HumanPolicy.PROVIDE),
        ("ask", HumanPolicy.ASK),
        ({"secret": "ask"}, HumanPolicy.ASK),
        ("fail", HumanPolicy.PROVIDE),
    ],
)
def test_secrets_that_are_there_are_provided(policies: Any, policy: HumanPolicy) -> None:
    assert HumanPolicies.of(policies, has_secrets=True).policy_for(SECRET) is policy
    assert SECRET.secret_names == ("A", "B")


def test_a_topic_that_the_vendor_does_not_have_is_named_with_those_it_has() -> None:
    policies = HumanPolicies.of({"plann": "ask"})
    with pytest.raises(InvalidInputError, match=r"no 'plann'; known: plan, secret, approval, auth, question"):
        policies.check_topics(("plan", "secret"), "Snorbe")
    HumanPolicies.of({"plan": "ask", "approval": "wait"}).check_topics(("plan",), "Snorbe")


def test_a_request_ends_the_wait_unless_it_is_left_to_the_vendor() -> None:
    assert poller({"plan": "ask"}).on_answer(run(PLAN), NOW).outcome is Outcome.ASKS
    assert poller({"plan": "ask"}).on_answer(run(QUESTION), NOW).outcome is None
    assert poller({"plan": "ask"}).on_answer(run(QUESTION, PLAN), NOW).outcome is Outcome.ASKS
    assert poller({"plan": "ask"}, left=["plan-draft"]).on_answer(run(PLAN), NOW).outcome is None


def test_while_a_human_is_asked_the_wait_goes_on_until_the_vendor_has_an_answer() -> None:
    asked = poller({"*": "ask"}, asked="plan-draft")
    assert asked.on_answer(run(PLAN, QUESTION), NOW).outcome is None
    assert asked.on_answer(run(status=RunStatus.UNKNOWN), NOW).outcome is None
    assert asked.on_answer(run(status=RunStatus.RUNNING), NOW).outcome is Outcome.ANSWERED
    assert poller({"*": "ask"}, asked="plan-draft").on_answer(run(QUESTION), NOW).outcome is Outcome.ANSWERED
    ended = poller({"*": "ask"}, asked="plan-draft").on_answer(run(status=RunStatus.SUCCEEDED), NOW)
    assert ended.outcome is Outcome.ENDED


def test_a_human_has_time_until_the_response_is_due() -> None:
    asked = poller({"*": "ask"}, asked="plan-draft", answer_by=NOW + 3)
    early = asked.on_answer(run(PLAN), NOW)
    assert early.outcome is None
    assert early.wait == 3, "the poll at the end of the time is not an interval late"
    assert asked.on_answer(run(PLAN), NOW + 3).outcome is Outcome.UNANSWERED


@pytest.mark.parametrize(
    ("policies", "exchange", "where"),
    [
        ({"*": "ask"}, {"asked": "plan-draft"}, "in Airflow, under Required Actions, or at the vendor"),
        ({"plan": "wait"}, {}, "answer it at the vendor"),
        ({"plan": "ask"}, {"left": ["plan-draft"]}, "answer it at the vendor"),
    ],
)
def test_the_log_says_where_to_answer(policies: Any, exchange: Any, where: str) -> None:
    decision = poller(policies, **exchange).on_answer(run(PLAN), NOW)
    assert any(where in note.text for note in decision.notes)


def test_a_run_whose_draft_is_accepted_and_not_resumed_is_dealt_with_whatever_it_says() -> None:
    for status in (RunStatus.RUNNING, RunStatus.SUCCEEDED, RunStatus.UNKNOWN):
        assert (
            poller({"*": "ask"}, unfinished=PLAN).on_answer(run(status=status), NOW).outcome is Outcome.ASKS
        )
    failed = poller({"*": "ask"}, unfinished=PLAN).on_answer(run(status=RunStatus.FAILED), NOW)
    assert failed.outcome is Outcome.ENDED


def test_while_a_human_is_asked_only_what_needs_no_other_question_is_dealt_with() -> None:
    policies = {"plan": "ask", "browser": "ask", "secret": "provide"}
    assert poller(policies, asked="plan-draft").on_answer(run(PLAN, QUESTION), NOW).outcome is None
    assert poller(policies, asked="plan-draft").on_answer(run(PLAN, SECRET), NOW).outcome is Outcome.ASKS


def test_an_exchange_is_small_and_ends_what_was_asked_only() -> None:
    asked = HumanExchange().asking(PLAN.model_copy(update={"version": "v"}), answer_by=1.0, default="Approve")
    assert (asked.asked, asked.shown) == ("plan-draft", "v")
    provided = asked.answer(SECRET, NOW)
    assert (provided.answers, provided.answered, provided.asked) == (1, "s", "plan-draft")
    assert asked.answer(PLAN, NOW).asked is None
    assert asked.leave(PLAN).left == ("plan-draft",)
    assert asked.over("plan-draft") == HumanExchange()
    assert asked.over("another") == asked
    assert len(provided.model_dump_json()) < 300
