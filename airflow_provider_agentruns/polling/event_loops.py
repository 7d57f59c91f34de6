"""Keep one object for each event loop: what holds locks or tasks must not be shared between loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class OnePerLoop(dict[asyncio.AbstractEventLoop, T]):
    """
    Objects by event loop, each made when its loop first asks for it.

    :param make: makes the object, in the loop that it is for.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        super().__init__()
        self._make = make

    def here(self) -> T:
        """Return the object of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self:
            # Not a weak dictionary: what is kept for a loop often holds the loop.
            for closed in [other for other in self if other.is_closed()]:
                del self[closed]
            self[loop] = self._make()
        return self[loop]
