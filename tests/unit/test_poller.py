from __future__ import annotations

import logging
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_agentruns.client.exceptions import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    BadRequestError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
)
from airflow_provider_agentruns.client.models import (
    HumanRequest,
    HumanRequestKind,
    Run,
    RunRef,
    RunStatus,
    Usage,
)
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import Decision, RunPoller

REF = RunRef(run_id="r1")
NOW = 1_000_000.0


def poller(**settings: Any) -> RunPoller:
    return RunPoller(REF, **{"interval": 10.0, "end_time": NOW + 3600, "rng": random.Random(1), **settings})


def run(status: RunStatus, raw_status: str = "word", **fields: Any) -> Run:
    return Run(vendor="v", run_id="r1", status=status, raw_status=raw_status, **fields)


def texts(decision: Decision) -> list[str]:
    return [note.text for note in decision.notes]


def test_an_interval_must_be_positive() -> None:
    with pytest.raises(InvalidInputError, match="positive number of seconds"):
        poller(interval=0.0)


@pytest.mark.parametrize("status", list(RunStatus))
def test_only_a_terminal_status_ends_the_wait(status: RunStatus) -> None:
    decision = poller().on_answer(run(status), NOW)
    assert (decision.outcome is Outcome.ENDED) is status.is_terminal
    assert decision.run is not None
    assert decision.run.status is status


def test_polls_are_an_interval_apart_give_or_take_a_tenth() -> None:
    watched = poller()
    waits = {watched.on_answer(run(RunStatus.RUNNING), NOW).wait for _ in range(50)}
    assert len(waits) > 10
    assert all(9.0 <= wait <= 11.0 for wait in waits)


def test_a_status_is_logged_when_it_changes_and_not_at_each_poll() -> None:
    watched = poller()
    statuses = [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.RUNNING, RunStatus.SUCCEEDED]
    lines = [texts(watched.on_answer(run(status), NOW)) for status in statuses]
    assert [len(line) for line in lines] == [1, 1, 0, 1]
    assert lines[1] == ["status running (vendor: 'word')"]


def test_an_unknown_status_is_logged_once_with_the_vendors_word() -> None:
    watched = poller()
    words = ["Hibernating", "Hibernating", "Dreaming", "Hibernating"]
    lines = [texts(watched.on_answer(run(RunStatus.UNKNOWN, word), NOW)) for word in words]
    assert [len(line) for line in lines] == [1, 0, 1, 0]
    assert "'Hibernating' is not documented" in lines[0][0]


def test_inventive_vendors_fill_neither_log_nor_memory() -> None:
    watched = poller()
    count = sum(len(watched.on_answer(run(RunStatus.UNKNOWN, f"w{n}"), NOW).notes) for n in range(1000))
    assert count == 50


def test_what_a_human_is_asked_is_logged_once_and_says_where_to_answer() -> None:
    watched = poller()
    request = HumanRequest(id="plan-draft", kind=HumanRequestKind.APPROVAL, prompt="a plan draft waits")
    first = watched.on_answer(run(RunStatus.WAITING, human_requests=(request,)), NOW)
    second = watched.on_answer(run(RunStatus.WAITING, human_requests=(request,)), NOW)
    assert any("a plan draft waits; answer it at the vendor" in text for text in texts(first))
    assert second.notes == ()
    assert second.outcome is None


TRANSIENT = [
    ServerError("503", status_code=503),
    APIConnectionError("reset"),
    ResponseFormatError("cut short"),
]


@pytest.mark.parametrize("error", TRANSIENT)
def test_a_passing_failure_warns_once_a_streak_and_says_when_it_is_over(error: APIError) -> None:
    watched = poller()
    levels = [[note.level for note in watched.on_error(error, NOW).notes] for _ in range(4)]
    assert levels == [[logging.WARNING], [], [], []]
    recovered = watched.on_answer(run(RunStatus.RUNNING), NOW)
    assert texts(recovered)[0] == "the vendor answers again, after 4 failed polls"
    assert [note.level for note in watched.on_error(error, NOW).notes] == [logging.WARNING]


def test_failures_back_off_but_never_longer_than_a_minute_and_the_interval() -> None:
    watched = poller()
    waits = [watched.on_error(TRANSIENT[0], NOW).wait for _ in range(200)]
    assert all(10.0 <= wait <= 70.0 for wait in waits)
    assert max(waits[:1]) <= 20.0
    assert max(waits) > 40.0


@pytest.mark.parametrize("error", TRANSIENT)
def test_failures_never_end_the_wait_before_the_deadline(error: APIError) -> None:
    watched = poller(end_time=NOW + 100)
    assert watched.on_error(error, NOW + 99.9).outcome is None
    assert watched.on_error(error, NOW + 100).outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize(
    "error",
    [
        BadRequestError("400", status_code=400),
        PermissionDeniedError("403", status_code=403),
        NotFoundError("404", status_code=404),
    ],
)
def test_a_refusal_ends_the_wait_at_once(error: APIError) -> None:
    decision = poller().on_error(error, NOW)
    assert decision.outcome is Outcome.REFUSED
    assert decision.error is error


def test_a_refused_key_is_looked_up_again_once() -> None:
    error = AuthenticationError("401", status_code=401)
    watched = poller()
    first = watched.on_error(error, NOW)
    assert (first.outcome, first.resolve_connection, first.wait) == (None, True, 0.0)
    assert watched.on_error(error, NOW).outcome is Outcome.REFUSED
    watched = poller()
    watched.on_error(error, NOW)
    watched.on_answer(run(RunStatus.RUNNING), NOW)
    assert watched.on_error(error, NOW).resolve_connection, "the key may be replaced a second time"


def test_a_run_that_was_just_started_may_be_unknown_for_a_moment() -> None:
    error = NotFoundError("404", status_code=404)
    watched = poller(not_found_until=NOW + 30)
    assert watched.on_error(error, NOW + 29).outcome is None
    assert watched.on_error(error, NOW + 30).outcome is Outcome.REFUSED


def test_a_429_never_ends_the_wait_and_is_no_failure() -> None:
    watched = poller()
    asked = watched.on_error(RateLimitError("429", status_code=429, retry_after=17.0), NOW)
    assert asked.outcome is None
    assert 17.0 <= asked.wait <= 18.7
    unasked = watched.on_error(RateLimitError("429", status_code=429), NOW)
    assert unasked.wait >= 60.0
    at_once = watched.on_error(RateLimitError("429", status_code=429, retry_after=0.0), NOW)
    assert at_once.wait >= 10.0, "never sooner than without a 429"
    assert [note.level for note in asked.notes] == [logging.INFO]
    assert unasked.notes == ()
    assert "answers again" not in "".join(texts(watched.on_answer(run(RunStatus.RUNNING), NOW)))


def test_the_last_poll_is_at_the_deadline_and_an_end_seen_there_counts() -> None:
    watched = poller(end_time=NOW + 3)
    assert watched.on_answer(run(RunStatus.RUNNING), NOW).wait == 3.0
    assert watched.on_answer(run(RunStatus.SUCCEEDED), NOW + 3).outcome is Outcome.ENDED
    late = poller(end_time=NOW + 3).on_answer(run(RunStatus.UNKNOWN, "Odd"), NOW + 4)
    assert late.outcome is Outcome.TIMED_OUT
    assert late.run is not None
    assert late.run.raw_status == "Odd"


def test_a_run_that_shows_no_change_for_too_long_has_stalled() -> None:
    watched = poller(stall_timeout=60.0)
    assert watched.on_answer(run(RunStatus.RUNNING), NOW).outcome is None
    assert watched.on_answer(run(RunStatus.RUNNING), NOW + 59).outcome is None
    moved = run(RunStatus.RUNNING, usage=Usage(steps=1))
    assert watched.on_answer(moved, NOW + 61).outcome is None
    assert watched.on_answer(moved, NOW + 120).outcome is None
    decision = watched.on_answer(moved, NOW + 121)
    assert (decision.outcome, decision.run) == (Outcome.STALLED, moved)


def test_a_run_that_has_ended_has_not_stalled() -> None:
    watched = poller(stall_timeout=60.0)
    watched.on_answer(run(RunStatus.RUNNING), NOW)
    assert watched.on_answer(run(RunStatus.SUCCEEDED), NOW + 600).outcome is Outcome.ENDED


def test_a_run_that_waits_for_a_human_may_take_its_time() -> None:
    watched = poller(stall_timeout=60.0)
    for seconds in (0, 600, 1200):
        assert watched.on_answer(run(RunStatus.WAITING), NOW + seconds).outcome is None
    assert watched.on_answer(run(RunStatus.RUNNING), NOW + 1300).outcome is None
    assert watched.on_answer(run(RunStatus.RUNNING), NOW + 1360).outcome is Outcome.STALLED


@pytest.mark.parametrize(("age", "outcome"), [(59, None), (60, Outcome.STALLED), (-3600, None)])
def test_since_when_nothing_moved_before_the_wait_the_vendor_tells(age: int, outcome: Outcome | None) -> None:
    """A triggerer that is restarted does not begin to count anew. A time in the future counts as now."""
    changed = datetime.fromtimestamp(NOW - age, UTC)
    decision = poller(stall_timeout=60.0).on_answer(run(RunStatus.RUNNING, updated_at=changed), NOW)
    assert decision.outcome is outcome


def test_a_vendor_that_does_not_answer_has_shown_no_stall() -> None:
    watched = poller(stall_timeout=60.0)
    watched.on_answer(run(RunStatus.RUNNING), NOW)
    assert watched.on_error(ServerError("down", status_code=503), NOW + 600).outcome is None
