"""Poll through one door: an API key's runs in one event loop share a budget, a session and a pause."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_agentruns.client._async import AsyncClient
from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.exceptions import RateLimitError
from airflow_provider_agentruns.client.retry import rate_limit_pause
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.budget import PollBudget

T = TypeVar("T")


class PollScheduler:
    """
    Send the polls of all runs that wait under one API key.

    Get one from :func:`shared_scheduler`.

    :param settings: where the vendor is, and its key.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        clock: Callable[[], float],
        rng: random.Random | None = None,
    ) -> None:
        self._client = AsyncClient(settings)
        self._budget = PollBudget(settings.polls_per_minute)
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads polls, guards nothing
        self._turn = asyncio.Lock()

    async def poll(self, call: Call[T]) -> T:
        """
        Send a call once, as soon as the key's budget allows, and return what the answer means.

        :raises APIError: it went wrong. After a 429 no poll of this key goes before the pause is over.
        """
        async with self._turn:
            # Asked again after each sleep: meanwhile a 429 may have paused the key.
            while (wait := self._budget.wait(self._clock())) > 0:
                await asyncio.sleep(wait)
            self._budget.spend(self._clock())
        try:
            return await self._client.send(call)
        except RateLimitError as error:
            self._budget.pause(self._clock() + rate_limit_pause(error, self._rng))
            raise

    async def close(self) -> None:
        """Close the sockets."""
        await self._client.close()


@dataclass(slots=True)
class _Lent:
    scheduler: PollScheduler
    borrowers: int = 0


_lent: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], _Lent]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_scheduler(settings: ClientSettings) -> AsyncIterator[PollScheduler]:
    """
    Lend the scheduler of a key in the running event loop, made for the first and closed by the last.

    :param settings: two connections with the same URL and key share one scheduler, which keeps the
        settings of the first.
    """
    loop = asyncio.get_running_loop()
    of_loop = _lent.setdefault(loop, {})
    if settings.credential not in of_loop:
        of_loop[settings.credential] = _Lent(PollScheduler(settings, clock=loop.time))
    lent = of_loop[settings.credential]
    lent.borrowers += 1
    try:
        yield lent.scheduler
    finally:
        lent.borrowers -= 1
        if not lent.borrowers:
            del of_loop[settings.credential]
            await lent.scheduler.close()
