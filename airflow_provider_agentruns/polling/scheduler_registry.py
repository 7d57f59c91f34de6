"""Find the poll scheduler of an API key: all who wait under one key in one event loop share it."""

from __future__ import annotations

import asyncio

from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.event_loops import OnePerLoop
from airflow_provider_agentruns.polling.metrics import Emit
from airflow_provider_agentruns.polling.scheduler import PollScheduler

# What is remembered of keys that no run waits under any more is let go beyond so many.
_MOST_KEYS = 64

_schedulers: OnePerLoop[dict[tuple[str, str], PollScheduler]] = OnePerLoop(dict)


def scheduler_for(settings: ClientSettings, *, emit: Emit | None = None) -> PollScheduler:
    """
    Return the scheduler of a key in the running event loop.

    :param settings: connections with the same URL and key share one scheduler.
    :param emit: takes its metrics, if the scheduler is new.
    """
    of_loop = _schedulers.here()
    if settings.credential not in of_loop:
        if len(of_loop) >= _MOST_KEYS:
            for credential in [key for key, scheduler in of_loop.items() if scheduler.is_idle]:
                del of_loop[credential]
        of_loop[settings.credential] = PollScheduler(
            settings, clock=asyncio.get_running_loop().time, emit=emit
        )
    return of_loop[settings.credential]
