"""How likely a run is to have ended since it was last seen: learned from the runs seen so far."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

# Before anything is known: runs last a minute or so, and one half-seen run says as much as this belief.
_PRIOR_ENDS = 0.5
_PRIOR_SECONDS = 30.0
# Of an agent's own average, so much is believed in each age class before that class has been seen.
_CLASS_PRIOR_ENDS = 0.5
_MOST_AGENTS = 1000
_OLDEST_CLASS = 22


@dataclass(slots=True)
class _Seen:
    """Ends of an agent's runs, and the seconds they were watched, in all and by age class."""

    ends: float = 0.0
    seconds: float = 0.0
    ends_by_class: dict[int, float] = field(default_factory=dict)
    seconds_by_class: dict[int, float] = field(default_factory=dict)

    def hazard(self, age_class: int) -> float:
        """Return ends per second among runs of an age class."""
        overall = (self.ends + _PRIOR_ENDS) / (self.seconds + _PRIOR_SECONDS)
        ends = self.ends_by_class.get(age_class, 0.0) + _CLASS_PRIOR_ENDS
        return ends / (self.seconds_by_class.get(age_class, 0.0) + _CLASS_PRIOR_ENDS / overall)


class RunDurations:
    """
    Learn how long the runs of each agent last, also from those that have not ended yet.

    Ages are seconds since the run began. They fall into classes that double: a run of 600 s tells little
    about the first ten seconds of another.
    """

    def __init__(self) -> None:
        self._agents: OrderedDict[str, _Seen] = OrderedDict()

    def saw_running(self, agent: str, from_age: float, to_age: float) -> None:
        """Learn that a run went on from one age to another."""
        seen = self._of(agent)
        for age_class, low, high in _classes(from_age, to_age):
            seen.seconds += high - low
            seen.seconds_by_class[age_class] = seen.seconds_by_class.get(age_class, 0.0) + high - low

    def saw_end(self, agent: str, from_age: float, end_age: float) -> None:
        """Learn that a run that was last seen at one age ended at another."""
        self.saw_running(agent, from_age, end_age)
        seen = self._of(agent)
        age_class = _age_class(end_age)
        seen.ends += 1
        seen.ends_by_class[age_class] = seen.ends_by_class.get(age_class, 0.0) + 1

    def likely_ended(self, agent: str, seen_age: float, age: float) -> float:
        """
        Return how likely the run is to have ended by now.

        :param seen_age: its age when it was last seen going on.
        :param age: its age now.
        """
        seen = self._of(agent)
        parts = _classes(seen_age, age)
        return -math.expm1(-sum(seen.hazard(age_class) * (high - low) for age_class, low, high in parts))

    def _of(self, agent: str) -> _Seen:
        if agent not in self._agents:
            if len(self._agents) >= _MOST_AGENTS:
                self._agents.popitem(last=False)
            self._agents[agent] = _Seen()
        self._agents.move_to_end(agent)
        return self._agents[agent]


def _age_class(age: float) -> int:
    return min(_OLDEST_CLASS, max(0, math.frexp(age)[1])) if age > 0 else 0


def _classes(low: float, high: float) -> Iterator[tuple[int, float, float]]:
    """Yield the parts of a span of ages that fall into one class each: below 1 s, below 2 s, below 4 s …."""
    while low < high:
        age_class = _age_class(low)
        end = high if age_class == _OLDEST_CLASS else min(high, math.ldexp(1.0, age_class))
        yield age_class, low, end
        low = end
