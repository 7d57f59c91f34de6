"""The parts of the benchmark: who waits for what, at which speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from platform import python_version

from benchmarks.contenders import (
    DBT_CLOUD_PROVIDER,
    HTTP_PROVIDER,
    NO_OP,
    OTHERS,
    OURS,
    PATIENT,
    SHARED_SESSION,
    Contender,
)
from benchmarks.measure import measure_lateness, measure_load
from benchmarks.policies import SEEDS, measure, policies_for, round_robin
from benchmarks.results import Results
from benchmarks.shared_key import LIMIT, POLLS_PER_MINUTE, Case, mean_use
from benchmarks.workloads import ONE_KIND, THREE_KINDS, WaitedRun

SEED = 1
SECONDS = 10.0
_TIMEOUT = 300.0
# How much faster than time: as fast as two cores can do what is left of the polls under a limit.
_FACTORS = {10: 60.0, 99: 60.0, 100: 60.0, 1000: 25.0}
# The others poll as often as they like until they fail.
_FACTORS_OF_OTHERS = {10: 40.0, 100: 10.0, 1000: 10.0}
_MANY_RUNS = 1000
_MOST_RUNS = 10_000

Part = Callable[[Results], Iterator[str]]
"""Measures, adds to the results, and says before each step what is measured next."""


def _limit(count: int, contenders: tuple[Contender, ...], results: Results) -> Iterator[str]:
    name, runs = f"limit-{count}", ONE_KIND[count].runs(SEED)
    results.ideal[name] = [_ideal(runs)]
    results.lateness[name] = []
    for contender in contenders:
        yield contender.title
        factor = (_FACTORS if contender is OURS else _FACTORS_OF_OTHERS)[count]
        results.lateness[name] += measure_lateness(contender, [runs], factor=factor, timeout=_TIMEOUT)


def _three_kinds(results: Results) -> Iterator[str]:
    batches = [THREE_KINDS.runs(SEED), THREE_KINDS.runs(SEED + 1)]
    results.ideal["three-kinds"] = [_ideal(runs) for runs in batches]
    yield OURS.title
    factor = _FACTORS[THREE_KINDS.count]
    results.lateness["three-kinds"] = measure_lateness(OURS, batches, factor=factor, timeout=_TIMEOUT)


def _ideal(runs: Sequence[WaitedRun]) -> list[float]:
    return sorted(round_robin(runs, POLLS_PER_MINUTE).lateness)


def _load(
    count: int, contenders: tuple[Contender, ...], results: Results, *, seconds: float, warms_up: bool = True
) -> Iterator[str]:
    name = f"load-{count}"
    results.loads[name] = []
    for contender in contenders:
        yield contender.title
        # Ten times the runs at a tenth of the pace: as many polls, so that only their number differs.
        interval = 2.0 * count / _MANY_RUNS
        results.loads[name].append(
            measure_load(contender, count, seconds=seconds, interval=interval, warms_up=warms_up)
        )


def _simulated(results: Results) -> Iterator[str]:
    yield "policies"
    for name, workload in {"one kind, 50": ONE_KIND[50], "three kinds, 99": THREE_KINDS}.items():
        for policy, make in policies_for(workload).items():
            figures = measure(make, workload, SEEDS)
            results.simulated[f"{name}: {policy}: mean"] = figures.mean
            results.simulated[f"{name}: {policy}: longest left"] = figures.longest_left
    yield "triggerers that share a key"
    for count in (2, 3):
        there = mean_use(Case(str(count), count), seeds=SEEDS, first=2, last=30)
        results.simulated[f"{count} triggerers: of the limit"] = there.per_minute / LIMIT
        results.simulated[f"{count} triggerers: refused"] = there.refused


PARTS: dict[str, Part] = {
    "limit-10": partial(_limit, 10, (OURS, *OTHERS, PATIENT)),
    "limit-100": partial(_limit, 100, (OURS, *OTHERS, PATIENT)),
    "limit-1000": partial(_limit, 1000, (OURS, *OTHERS)),
    "three-kinds": _three_kinds,
    "load-1000": partial(_load, _MANY_RUNS, (NO_OP, OURS, *OTHERS), seconds=SECONDS),
    "load-10000": partial(_load, _MOST_RUNS, (NO_OP, OURS), seconds=SECONDS),
    "simulated": _simulated,
}
SHORT_PARTS: dict[str, Part] = {
    "limit-100": partial(_limit, 100, (OURS, SHARED_SESSION, HTTP_PROVIDER, DBT_CLOUD_PROVIDER)),
    "load-1000": partial(_load, _MANY_RUNS, (OURS,), seconds=3, warms_up=False),
}


def versions() -> dict[str, str]:
    """Return the versions that the figures depend on."""
    packages = (
        "apache-airflow",
        "aiohttp",
        "apache-airflow-providers-http",
        "apache-airflow-providers-dbt-cloud",
    )
    return {"Python": python_version()} | {package: version(package) for package in packages}
