"""What a simulator can be told before it starts; the command line offers the same fields."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

Clock = Callable[[], float]

_BOOT = time.time() - time.monotonic()


def system_clock() -> float:
    """Return the time as seconds since the epoch; it never steps back, even when the host's clock does."""
    return _BOOT + time.monotonic()


_T = TypeVar("_T")


def _setting(default: _T, help_text: str, *, secret: bool = False) -> _T:
    made: _T = field(default=default, repr=not secret, metadata={"help": help_text})
    return made


@dataclass(kw_only=True, eq=False)
class Settings:
    """Everything that shapes the simulator, with its defaults.

    :raises ValueError: when a number is out of its range or the default scenario does not parse.
    """

    host: str = _setting("127.0.0.1", "address to listen on; the control plane asks for no key")
    port: int = _setting(0, "port to listen on; 0 takes a free one")
    flowyble_key: str = _setting("flw_key_simulator", "API key that works at Flowyble", secret=True)
    snorbe_key: str = _setting("snorbe_simulator", "API key that works at Snorbe", secret=True)
    scenario: str = _setting("succeed", "what runs do unless told otherwise, e.g. 'fail, duration=2'")
    seed: int = _setting(0, "seed of the run durations and counters")
    median_seconds: float = _setting(20.0, "median of the lognormal run duration, in seconds")
    sigma: float = _setting(0.5, "sigma of the lognormal run duration; 0 makes all runs equally long")
    queued_share: float = _setting(0.1, "share of a run's duration that it spends queued, 0 to 1")
    requests_per_minute: int = _setting(100, "requests a key may send in any 60 s; 0 lifts the limit")
    webhook_requests_per_minute: int = _setting(30, "as above, for one webhook token")
    registered_agents_only: bool = _setting(
        default=False, help_text="answer 404 for agents and tools that were not registered"
    )
    resume_needs_listener: bool = _setting(
        default=False, help_text="abort what a Snorbe resume does as soon as its client leaves"
    )
    clock: Clock = field(default=system_clock, repr=False)

    def __post_init__(self) -> None:
        for name in ("median_seconds", "requests_per_minute", "sigma", "webhook_requests_per_minute"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative: {getattr(self, name)!r}")
        if not 0 <= self.queued_share <= 1:
            raise ValueError(f"queued_share must be between 0 and 1: {self.queued_share!r}")
