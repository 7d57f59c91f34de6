"""When the poll scheduler is woken up."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from airflow_provider_agentruns.polling.wakeup import Wakeup


async def test_what_is_asked_for_close_together_is_one_call() -> None:
    calls: list[float] = []
    called = asyncio.Event()

    def function() -> None:
        calls.append(asyncio.get_running_loop().time())
        called.set()

    wakeup = Wakeup(function)
    for _ in range(100):
        wakeup.within(0)
    await called.wait()
    await asyncio.sleep(0.05)
    assert len(calls) == 1


async def test_the_earliest_time_counts_and_the_function_may_ask_again() -> None:
    calls: list[str] = []
    called_twice = asyncio.Event()

    def function() -> None:
        calls.append("called")
        if len(calls) == 1:
            wakeup.within(0)
        else:
            called_twice.set()

    wakeup = Wakeup(function)
    wakeup.within(3600)
    wakeup.within(0)
    wakeup.within(60)
    await called_twice.wait()
    assert len(calls) == 2


async def test_a_cancelled_call_does_not_come_and_can_be_asked_for_anew() -> None:
    called = asyncio.Event()
    wakeup = Wakeup(called.set)
    wakeup.within(0)
    wakeup.cancel()
    await asyncio.sleep(0.05)
    assert not called.is_set()
    wakeup.within(0)
    await called.wait()


async def test_the_call_has_nobodys_context() -> None:
    """Airflow would take its log lines for those of the task that happened to ask first."""
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")
    seen: list[str] = []
    called = asyncio.Event()

    def function() -> None:
        seen.append(whose.get())
        called.set()

    whose.set("a task's")
    Wakeup(function).within(0)
    await called.wait()
    assert seen == ["nobody's"]
