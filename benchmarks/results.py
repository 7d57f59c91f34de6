"""What is measured of a contender."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Self

from pydantic import TypeAdapter


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that a share of all values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True)
class Lateness:
    """
    How a contender saw the ends of runs on one key with the vendors' limit.

    :param contender: its letter.
    :param failed: tasks that failed.
    :param refused_later: requests refused after the first minute.
    :param most_in_a_minute: requests in any 60 seconds, at most.
    :param seconds: from the start to the last end.
    :param sockets: open at once.
    :param look_ups: of the connection, through Airflow's supervisor.
    :param lateness: seconds from each end that was seen to the poll that saw it, sorted.
    """

    contender: str
    count: int
    failed: int
    requests: int
    refused: int
    refused_later: int
    most_in_a_minute: int
    seconds: float
    sockets: int
    look_ups: int
    lateness: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Mean lateness of the ends that were seen, seconds."""
        return fmean(self.lateness) if self.lateness else math.nan


@dataclass(frozen=True)
class Load:
    """
    What a contender takes for runs that wait on without a limit.

    :param polls: while it was measured.
    :param seconds: for how long it was measured.
    :param cpu: seconds of processor time in that time.
    :param memory: bytes for each waiting run, the trigger itself included.
    :param sockets: open at once.
    :param look_ups: of the connection, through Airflow's supervisor.
    :param seconds_to_first_polls: from the start of the triggers until each run had been polled.
    :param lag_p99: of how late the loop was, seconds, without the time of Python's garbage collector.
    :param lag_max_start: the same while the triggers started, at most.
    :param collection_max: seconds of garbage collection at once, at most.
    """

    contender: str
    count: int
    failed: int
    polls: int
    seconds: float
    cpu: float
    memory: float
    sockets: int
    sockets_opened: int
    look_ups: int
    seconds_to_first_polls: float
    lag_p99: float
    lag_max: float
    lag_max_start: float
    collection_max: float

    @property
    def cpu_per_poll(self) -> float:
        """Seconds of processor time for each poll."""
        return self.cpu / self.polls if self.polls else math.nan


@dataclass
class Results:
    """
    What was measured, by part of the benchmark.

    :param lateness: under the vendors' limit.
    :param ideal: lateness of an ideal round robin simulated on the same runs, sorted, for each batch of runs.
    :param loads: without a limit.
    :param simulated: what the simulators of policies and of shared keys say.
    :param versions: of what was measured with.
    """

    lateness: dict[str, list[Lateness]] = field(default_factory=dict)
    ideal: dict[str, list[list[float]]] = field(default_factory=dict)
    loads: dict[str, list[Load]] = field(default_factory=dict)
    simulated: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what was written."""
        return TypeAdapter(cls).validate_json(path.read_bytes())

    def write(self, path: Path) -> None:
        """Write all as JSON."""
        path.write_text(json.dumps(_rounded(asdict(self)), indent=1) + "\n")

    def late(self, part: str, contender: str, batch: int = 0) -> Lateness | None:
        """Return what was measured of a contender, or None if it was not."""
        found = [each for each in self.lateness.get(part, ()) if each.contender == contender]
        return found[batch] if len(found) > batch else None

    def share_of_ideal(self, part: str, batch: int = 0) -> float | None:
        """Return our mean lateness as a share of an ideal round robin's, or None if it was not measured."""
        ours = self.late(part, "ours", batch)
        return ours.mean / fmean(self.ideal[part][batch]) if ours else None

    def load(self, part: str, contender: str) -> Load | None:
        """Return what was measured of a contender, or None if it was not."""
        return next((each for each in self.loads.get(part, ()) if each.contender == contender), None)


def _rounded(value: object) -> object:
    match value:
        case float():
            return float(f"{value:.4g}")
        case list():
            return [_rounded(each) for each in value]
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
        case _:
            return value
