from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_agentruns.polling.budget import PollBudget


def _poll(budget: PollBudget, now: float) -> float:
    """Send a poll as soon as it may go, and return when."""
    while (wait := budget.wait(now)) > 0:
        now += wait
    budget.spend(now)
    return now


def _spend_until(budget: PollBudget, now: float, end: float) -> list[float]:
    sent = []
    while (now := _poll(budget, now)) < end:
        sent.append(now)
    return sent


@settings(max_examples=60)
@given(st.integers(min_value=1, max_value=200), st.integers())
def test_no_minute_holds_more_polls_than_the_budget(polls_per_minute: int, seed: int) -> None:
    rng = random.Random(seed)
    budget = PollBudget(polls_per_minute, 0.0)
    now = 0.0
    sent: list[float] = []
    while now < 500:
        sent.append(now := _poll(budget, now))
        # Idle times let a burst build up, which must not break the budget either.
        now += rng.choice([0.0, 0.0, 0.0, rng.uniform(0, 30)])
        if rng.random() < 0.01:
            budget.refuse(now, rng.uniform(0, 20))
    for first, later in zip(sent, sent[polls_per_minute:], strict=False):
        assert later - first >= 60.0 - 1e-6


@settings(max_examples=60)
@given(st.integers(min_value=2, max_value=200), st.integers())
def test_no_minute_holds_more_polls_than_the_budget_when_some_go_in_pairs(
    polls_per_minute: int, seed: int
) -> None:
    rng = random.Random(seed)
    budget = PollBudget(polls_per_minute, 0.0)
    now = 0.0
    sent: list[float] = []
    while now < 500:
        polls = rng.choice([1, 2])
        while (wait := budget.wait(now, polls=polls)) > 0:
            now += wait
        # The second is sent right after the first if the budget still says so.
        while polls and budget.wait(now) <= 0:
            budget.spend(now)
            sent.append(now)
            polls -= 1
        now += rng.choice([0.0, 0.0, 0.0, rng.uniform(0, 30)])
    for first, later in zip(sent, sent[polls_per_minute:], strict=False):
        assert later - first >= 60.0 - 1e-6


def test_a_pair_goes_at_once_when_the_burst_has_room_for_it() -> None:
    budget = PollBudget(80, 0.0)
    _spend_until(budget, 0.0, 120.0)
    now = 120.0 + budget.wait(120.0, polls=2)
    budget.spend(now)
    assert budget.wait(now) <= 0


@pytest.mark.parametrize("polls_per_minute", [8, 80, 1000])
def test_no_minute_across_a_restart_holds_more_polls_than_the_budget(polls_per_minute: int) -> None:
    """The new process knows nothing of what the old one sent."""
    sent = _spend_until(PollBudget(polls_per_minute, 0.0), 0.0, 200.0)
    sent += _spend_until(PollBudget(polls_per_minute, 200.0), 200.0, 400.0)
    for first, later in zip(sent, sent[polls_per_minute:], strict=False):
        assert later - first >= 60.0 - 1e-6


@pytest.mark.parametrize("polls_per_minute", [2, 8, 80, 1000])
def test_a_busy_key_uses_its_whole_budget_after_the_first_minute(polls_per_minute: int) -> None:
    sent = _spend_until(PollBudget(polls_per_minute, 0.0), 0.0, 660.0)
    assert len([at for at in sent if at >= 60]) >= 10 * polls_per_minute * 0.99


def test_a_refusal_halves_the_rate_and_it_comes_back() -> None:
    budget = PollBudget(80, 0.0)
    sent = _spend_until(budget, 0.0, 300.0)
    before = budget.rate(300.0)
    budget.refuse(300.0, 10.0)
    assert budget.wait(300.0) == pytest.approx(10.0)
    halved = budget.rate(310.0)
    assert halved <= before / 2
    recovered = [budget.rate(310.0 + seconds) for seconds in (0, 15, 30, 45, 60)]
    assert recovered == sorted(recovered)
    held = len([at for at in sent if at > 240.0])
    assert held * 0.85 <= budget.rate(400.0) <= held
    assert budget.rate(20_000.0) == 80.0, "others may have gone meanwhile"


@pytest.mark.parametrize(("refusals", "pause"), [(7, 60.0), (7, 300.0), (60, 1.0)])
def test_a_long_time_of_refusals_is_forgotten_within_ten_minutes(refusals: int, pause: float) -> None:
    """A vendor's incident, or a quota that somebody else used up."""
    budget = PollBudget(80, 0.0)
    _spend_until(budget, 0.0, 300.0)
    now = 300.0
    for _ in range(refusals):
        now = _poll(budget, now)
        budget.refuse(now, pause)
    assert budget.rate(now + pause) >= 1.0
    assert budget.rate(now + pause + 600.0) >= 70.0


def _use(budget: PollBudget, start: float, seconds: float) -> float:
    """Keep the budget busy and return when that ends."""
    _spend_until(budget, start, start + seconds)
    return start + seconds


def test_the_level_is_what_the_vendor_took_and_is_held_for_longer_each_time_more_is_refused() -> None:
    budget = PollBudget(80, 0.0)
    now, holds = 200.0, []
    _use(budget, 0.0, now)
    for _ in range(3):
        budget.refuse(now, 60.0)
        level = budget.rate(now + 180.0)
        back = now
        while budget.rate(back + 180.0) <= level + 1.0:
            back += 10.0
        holds.append(back - now)
        now = _use(budget, now, back + 180.0 - now)
        assert 0.9 * level <= budget.sent_lately(now) <= level + 3.0
    assert holds[1] > 1.5 * holds[0]
    assert holds[2] > 1.3 * holds[1]


def test_a_single_refusal_after_a_quiet_time_leaves_the_level_as_it_is() -> None:
    budget = PollBudget(80, 0.0)
    _use(budget, 0.0, 200.0)
    budget.refuse(200.0, 60.0)
    now = _use(budget, 200.0, 600.0)
    level = budget.rate(now)
    budget.refuse(now, 60.0)
    assert budget.rate(now + 120.0) == pytest.approx(level)


def test_a_refusal_of_who_sends_little_tells_little() -> None:
    budget = PollBudget(80, 0.0)
    budget.spend(100.0)
    budget.spend(101.0)
    budget.refuse(101.0, 60.0)
    assert budget.rate(200.0) >= 50.0


def test_polls_refused_together_count_once() -> None:
    budget = PollBudget(80, 0.0)
    _spend_until(budget, 0.0, 300.0)
    for _ in range(4):
        budget.refuse(300.0, 10.0)
    assert budget.rate(310.0) >= 20.0


def test_a_pause_is_not_shortened_by_another() -> None:
    budget = PollBudget(80, 0.0)
    budget.refuse(10.0, 90.0)
    budget.refuse(10.0, 40.0)
    assert budget.wait(10.0) == pytest.approx(90.0)


def test_an_idle_budget_has_nothing_to_lose() -> None:
    budget = PollBudget(80, 0.0)
    budget.spend(0.0)
    assert not budget.is_idle(30.0)
    budget.refuse(30.0, 60.0)
    assert not budget.is_idle(100.0)
    assert budget.is_idle(200.0)
