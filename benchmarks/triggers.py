"""Triggers to compare with: how a wait is written without a poll scheduler, and one that does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import aiohttp
from airflow.providers.common.compat.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

_TERMINAL = frozenset({"Completed", "Failed", "Cancelled"})


class NoOpTrigger(BaseTrigger):
    """Wait for ever without asking anybody: what a waiting trigger costs anyway."""

    def __init__(self, *, run_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.run_id = run_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return f"{__name__}.{type(self).__qualname__}", {"run_id": self.run_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait."""
        await asyncio.Event().wait()
        yield TriggerEvent(None)


class PollingTrigger(BaseTrigger):
    """
    Ask for a run's status, sleep, and ask again. A refused poll raises, and Airflow fails the task.

    :param poll_interval: seconds between an answer and the next poll.
    """

    def __init__(self, *, conn_id: str, run_id: str, poll_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.conn_id = conn_id
        self.run_id = run_id
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        kwargs = {"conn_id": self.conn_id, "run_id": self.run_id, "poll_interval": self.poll_interval}
        return f"{__name__}.{type(self).__qualname__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the run and fire one event."""
        connection = await BaseHook.aget_connection(self.conn_id)
        url = f"{connection.host}/v1/agents/run/{self.run_id}/status"
        headers = {"X-API-Key": connection.password or ""}
        async for status in self._statuses(url, headers):
            if status in _TERMINAL:
                yield TriggerEvent({"status": status, "run_id": self.run_id})
                return
            await asyncio.sleep(self.poll_interval)

    async def _statuses(self, url: str, headers: dict[str, str]) -> AsyncIterator[str]:
        raise NotImplementedError
        yield ""

    async def _ask(self, session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> str:
        async with session.get(url, headers=headers) as response:
            response.raise_for_status()
            answer = await response.json()
            return str(answer["status"])


class SessionPerPollTrigger(PollingTrigger):
    """Open a session for each poll."""

    async def _statuses(self, url: str, headers: dict[str, str]) -> AsyncIterator[str]:
        while True:
            async with aiohttp.ClientSession() as session:
                status = await self._ask(session, url, headers)
            yield status


class SessionPerTriggerTrigger(PollingTrigger):
    """Keep a session for each waiting run."""

    async def _statuses(self, url: str, headers: dict[str, str]) -> AsyncIterator[str]:
        async with aiohttp.ClientSession() as session:
            while True:
                yield await self._ask(session, url, headers)


class SharedSessionTrigger(PollingTrigger):
    """Keep one session for all waiting runs."""

    _session: aiohttp.ClientSession | None = None

    async def _statuses(self, url: str, headers: dict[str, str]) -> AsyncIterator[str]:
        if SharedSessionTrigger._session is None:
            SharedSessionTrigger._session = aiohttp.ClientSession()
        while True:
            yield await self._ask(SharedSessionTrigger._session, url, headers)


class PatientTrigger(SharedSessionTrigger):
    """Keep one session for all waiting runs, and take a refused poll for one that told nothing."""

    async def _ask(self, session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> str:
        try:
            return await super()._ask(session, url, headers)
        except aiohttp.ClientResponseError as error:
            if error.status != HTTPStatus.TOO_MANY_REQUESTS:
                raise
            return "refused"
