"""Triggerers on one key that do not know of each other: what the vendor sees."""

from __future__ import annotations

import pytest

from benchmarks.shared_key import LIMIT, POLLS_PER_MINUTE, Case, mean_use, simulate, use

SEEDS = 12
MINUTES = 30


@pytest.mark.parametrize("retry_after", [False, True])
@pytest.mark.parametrize("triggerers", [2, 3])
def test_triggerers_on_one_key_use_most_of_its_limit_and_are_rarely_refused(
    triggerers: int, retry_after: bool
) -> None:
    case = Case("together", triggerers, retry_after=retry_after)
    there = mean_use(case, seeds=SEEDS, first=2, last=MINUTES)
    assert 0.9 * LIMIT <= there.per_minute <= LIMIT
    assert there.refused <= 0.02
    assert there.fairness >= 0.5


def test_triggerers_stay_there_for_hours() -> None:
    there = mean_use(Case("together", 2), seeds=3, first=30, last=240)
    assert there.per_minute >= 0.9 * LIMIT
    assert there.refused <= 0.02


def test_one_that_joins_gets_a_share() -> None:
    there = mean_use(Case("joined", 1, joins=(600.0,)), seeds=SEEDS, first=15, last=MINUTES)
    assert there.per_minute >= 0.85 * LIMIT
    assert there.fairness >= 0.5


def test_who_is_left_alone_has_the_whole_budget_after_half_an_hour() -> None:
    case = Case("left", 2, first_leaves=600.0)
    assert mean_use(case, seeds=SEEDS, first=40, last=45).per_minute >= 0.95 * POLLS_PER_MINUTE


def test_a_triggerer_alone_is_never_refused_and_gets_its_whole_budget() -> None:
    requests = simulate(Case("alone", 1), 0, minutes=MINUTES)
    assert all(request.is_accepted for request in requests)
    assert use(requests, 2, MINUTES).per_minute >= 0.99 * POLLS_PER_MINUTE
