"""What the benchmark must reach, and whether it did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.results import Results


class Target(NamedTuple):
    """
    A figure that must not exceed a limit.

    :param unit: of both, as a format takes them.
    """

    name: str
    reached: float
    limit: float
    unit: str = "{:.2f}"

    @property
    def is_reached(self) -> bool:
        """Tell whether it is within the limit."""
        return self.reached <= self.limit


def targets(results: Results) -> list[Target]:
    """Return the targets of all parts that were measured."""
    return [*_limit(results), *_lateness(results), *_simulated(results), *_load(results)]


def _limit(results: Results) -> Iterator[Target]:
    for count in (10, 100, 1000):
        if ours := results.late(f"limit-{count}", "ours"):
            yield Target(f"{count:,} runs on one key: polls refused", ours.refused, 0, "{:.0f}")
            yield Target(f"{count:,} runs on one key: tasks failed", ours.failed, 0, "{:.0f}")
            yield Target(f"{count:,} runs on one key: sockets", ours.sockets, 4, "{:.0f}")


def _lateness(results: Results) -> Iterator[Target]:
    ideal = "mean lateness, of an ideal round robin's"
    for name, part, batch, limit in (
        ("100 runs of one kind", "limit-100", 0, 1.10),
        ("99 runs of three kinds, nothing known", "three-kinds", 0, 0.60),
        ("99 runs of three kinds, after one batch", "three-kinds", 1, 0.45),
    ):
        if share := results.share_of_ideal(part, batch):
            yield Target(f"{name}: {ideal}", share, limit)


def _simulated(results: Results) -> Iterator[Target]:
    if not (simulated := results.simulated):
        return
    listing, single = (
        simulated[f"one kind, 50: {policy}: mean"] for policy in ("ours, with listings", "ours, cold")
    )
    yield Target(
        "50 runs, with a listing call: mean lateness, of single polling's (simulated)", listing / single, 0.1
    )
    yield Target(
        "99 runs of three kinds: longest time a run is left alone, in round-robin periods (simulated)",
        simulated["three kinds, 99: ours, cold: longest left"],
        3,
    )
    for count in (2, 3):
        use = simulated[f"{count} triggerers: of the limit"]
        name = f"{count} triggerers on one key"
        yield Target(f"{name}: what is left of the limit (simulated)", 1 - use, 0.10, "{:.1%}")
        yield Target(
            f"{name}: polls refused (simulated)", simulated[f"{count} triggerers: refused"], 0.02, "{:.1%}"
        )


def _load(results: Results) -> Iterator[Target]:
    ours = results.load("load-1000", "ours")
    if ours is None:
        return
    for letter, limit in (("c", 1.25), ("d", 0.33)):
        if other := results.load("load-1000", letter):
            ratio = ours.cpu_per_poll / other.cpu_per_poll
            yield Target(f"1,000 waiting: CPU per poll, of ({letter})'s", ratio, limit)
    if no_op := results.load("load-1000", "-"):
        kilobytes = (ours.memory - no_op.memory) / 1000
        yield Target("1,000 waiting: kB per run beyond a no-op trigger", kilobytes, 10, "{:.1f}")
    yield Target("1,000 waiting: sockets", ours.sockets, 32, "{:.0f}")
    yield Target("1,000 waiting: connection look-ups", ours.look_ups, 1, "{:.0f}")
    longest = max(ours.lag_max, ours.lag_max_start)
    yield Target("1,000 waiting: longest block of the loop, s, start included", longest, 0.2, "{:.3f}")
    ours_most, no_op_most = (results.load("load-10000", letter) for letter in ("ours", "-"))
    if ours_most and no_op_most and no_op:
        # What Airflow's own loop takes for waiting triggers, whatever they do, is not ours.
        many = (ours.cpu / ours.seconds - no_op.cpu / no_op.seconds) / (ours.polls / ours.seconds)
        most = (ours_most.cpu / ours_most.seconds - no_op_most.cpu / no_op_most.seconds) / (
            ours_most.polls / ours_most.seconds
        )
        yield Target("10,000 waiting: CPU per poll beyond no-op triggers, of 1,000's", most / many, 1.5)
