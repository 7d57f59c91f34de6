"""The HTTP sessions of one key: one for each way to the vendor, from the first poll to the last."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING

from airflow_provider_agentruns.client.settings import ClientSettings

if TYPE_CHECKING:
    from airflow_provider_agentruns.client._async import AsyncClient


class Clients:
    """
    Clients by transport.

    Connections may reach the same key by other ways, and a mended way must not wait for the old.
    """

    def __init__(self) -> None:
        self._clients: dict[tuple[object, ...], AsyncClient] = {}

    async def get(self, settings: ClientSettings, *, connections: int) -> AsyncClient:
        """
        Return the client for a way to the vendor.

        :param connections: sockets at most, if it is new.
        """
        if settings.transport not in self._clients:
            # In a thread: the first import of aiohttp takes a while, in which no trigger could go on.
            sender = await asyncio.to_thread(import_module, "airflow_provider_agentruns.client._async")
            self._clients.setdefault(
                settings.transport, sender.AsyncClient(settings, connections=connections)
            )
        return self._clients[settings.transport]

    async def close(self) -> None:
        """Close all sockets."""
        await asyncio.gather(*(client.close() for client in self._clients.values()), return_exceptions=True)
