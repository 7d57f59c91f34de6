"""What waits: runs whose durations are drawn from a seed, so that every policy meets the same ones."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class WaitedRun(NamedTuple):
    """
    A run that somebody waits for.

    :param duration: seconds from its start to its end.
    """

    agent: str
    duration: float


@dataclass(frozen=True, eq=False)
class Workload:
    """
    Runs that start together.

    :param medians: each kind of agent's median duration, seconds; the runs are shared out evenly.
    :param sigma: of the logarithm of the durations.
    :param count: how many runs.
    """

    name: str
    medians: Mapping[str, float]
    sigma: float
    count: int

    def runs(self, seed: int) -> list[WaitedRun]:
        """Return the runs of a seed, in a random order."""
        rng = random.Random(seed)  # noqa: S311 - draws durations, guards nothing
        agents = list(self.medians)
        runs = []
        for number in range(self.count):
            agent = agents[number % len(agents)]
            runs.append(WaitedRun(agent, rng.lognormvariate(math.log(self.medians[agent]), self.sigma)))
        rng.shuffle(runs)
        return runs


_ONE_KIND = {"steady": 60.0}
ONE_KIND = {count: Workload("one kind of agent", _ONE_KIND, 0.8, count) for count in (10, 50, 100, 1000)}
THREE_KINDS = Workload("three kinds of agents", {"short": 10.0, "middle": 60.0, "long": 600.0}, 0.6, 99)
