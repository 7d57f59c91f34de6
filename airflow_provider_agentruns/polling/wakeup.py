"""Wake the poll scheduler up, once, at the earliest time asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context


class Wakeup:
    """
    Call a function in the event loop, outside of the context of whoever asked for it.

    :param function: must not raise.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> None:
        """Call it so many seconds from now, unless it is called sooner anyway."""
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        if self._timer is None or when < self._timer.when():
            self.cancel()
            # Airflow sends log lines to the task whose context they come from.
            self._timer = loop.call_at(when, self._call, context=Context())

    def cancel(self) -> None:
        """Call it no more, until it is asked for again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _call(self) -> None:
        self._timer = None
        self._function()
