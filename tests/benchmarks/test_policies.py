"""The order of polls and the listings against an ideal round robin on the same runs, by means over seeds."""

from __future__ import annotations

from functools import cache

import pytest

from benchmarks.policies import Figures, Ours, Policy, clairvoyant, measure, round_robin, warm
from benchmarks.workloads import ONE_KIND, THREE_KINDS, Workload

SEEDS = 20
LONGEST_LEFT = 3.0


@cache
def _round_robin(workload: Workload) -> float:
    return measure(lambda _: round_robin, workload, SEEDS).mean


def _after_a_batch(seed: int) -> Policy:
    return warm(THREE_KINDS, seed + SEEDS)


@cache
def _mixed(*, is_warm: bool) -> Figures:
    return measure(_after_a_batch if is_warm else lambda _: Ours(), THREE_KINDS, SEEDS)


@pytest.mark.parametrize("policy", [clairvoyant, round_robin, Ours(), Ours(lists=True)])
def test_every_run_is_seen_to_end_once_and_not_before(policy: Policy) -> None:
    runs = THREE_KINDS.runs(0)
    lateness = policy(runs, 100).lateness
    assert len(lateness) == len(runs)
    assert min(lateness) >= 0


def test_nobody_is_earlier_than_who_knows_every_end() -> None:
    best = measure(lambda _: clairvoyant, ONE_KIND[50], SEEDS).mean
    assert best < measure(lambda _: Ours(lists=True), ONE_KIND[50], SEEDS).mean


def test_with_one_kind_of_agent_the_order_is_no_worse_than_round_robin() -> None:
    figures = measure(lambda _: Ours(), ONE_KIND[100], SEEDS)
    assert figures.mean <= 1.10 * _round_robin(ONE_KIND[100])
    assert figures.longest_left <= LONGEST_LEFT


@pytest.mark.parametrize(("is_warm", "share"), [(False, 0.60), (True, 0.45)], ids=["cold", "after a batch"])
def test_with_mixed_agents_the_order_saves_much_of_the_lateness(is_warm: bool, share: float) -> None:
    assert _mixed(is_warm=is_warm).mean <= share * _round_robin(THREE_KINDS)


@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "after a batch"])
def test_with_mixed_agents_no_run_is_left_for_more_than_three_rounds(is_warm: bool) -> None:
    assert _mixed(is_warm=is_warm).longest_left <= LONGEST_LEFT


def test_a_listing_call_saves_nine_tenths_of_the_lateness_of_single_polls() -> None:
    single = measure(lambda _: Ours(), ONE_KIND[50], SEEDS).mean
    assert measure(lambda _: Ours(lists=True), ONE_KIND[50], SEEDS).mean <= 0.1 * single
