"""A clock that runs faster than time, shared by the processes of a measurement."""

from __future__ import annotations

import asyncio
import selectors
import time
from selectors import SelectorKey
from typing import NamedTuple

_real_time = time.time


class Clock(NamedTuple):
    """
    Wall time that runs faster from some moment on.

    :param epoch: the moment, seconds since the epoch.
    :param factor: how many seconds go by in one.
    """

    epoch: float
    factor: float

    @classmethod
    def start(cls, factor: float) -> Clock:
        """Return a clock that shows the right time now."""
        return cls(_real_time(), factor)

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self.epoch + (_real_time() - self.epoch) * self.factor

    def sleep(self, seconds: float) -> None:
        """Block for so many seconds of this clock."""
        time.sleep(seconds / self.factor)

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return an event loop that goes by this clock."""
        return _ScaledLoop(self.factor) if self.factor != 1 else asyncio.new_event_loop()

    def replace_time(self) -> None:
        """Let ``time.time`` of this process show this clock. Modules must not have imported it by name."""
        if self.factor != 1:
            time.time = self.now


class _ScaledSelector(selectors.DefaultSelector):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self._factor = factor

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        return super().select(timeout and timeout / self._factor)


class _ScaledLoop(asyncio.SelectorEventLoop):
    def __init__(self, factor: float) -> None:
        super().__init__(_ScaledSelector(factor))
        self._factor = factor

    def time(self) -> float:
        return time.monotonic() * self._factor
