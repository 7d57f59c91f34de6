"""Look connections up once for all triggers of an event loop, not once for each."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import NamedTuple

from airflow_provider_agentruns.connections import VendorConnection, aget_vendor_connection
from airflow_provider_agentruns.polling.event_loops import OnePerLoop

_SECONDS_KEPT = 60.0
# For those who stand in line behind a look-up that failed.
_SECONDS_FAILED = 1.0


class CachedConnection(NamedTuple):
    """
    A connection, and when it was looked up.

    :param at: seconds on the event loop's clock.
    """

    connection: VendorConnection
    at: float


class ConnectionCache:
    """
    Keep connections for a minute, and look each up for one waiter at a time.

    A look-up goes through the supervisor, takes up to 60 ms, and is served one at a time: a thousand
    triggers that start together must not make a thousand.
    """

    def __init__(self) -> None:
        self._kept: dict[str, CachedConnection] = {}
        self._failed: dict[str, tuple[Exception, float]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get(self, conn_id: str, *, newer_than: float = float("-inf")) -> CachedConnection:
        """
        Return a connection, from memory if it was looked up lately.

        :param newer_than: refuse what was looked up before then: its key was refused.
        :raises InvalidInputError: it is not complete, or something in it cannot be right.
        :raises AirflowNotFoundException: there is no such connection, or the API server is away.
        """
        clock = asyncio.get_running_loop().time
        # A lock, not a shared task: should the one who looks up be cancelled, the next one does it.
        async with self._locks[conn_id]:
            kept = self._kept.get(conn_id)
            if kept is not None and kept.at > newer_than and clock() - kept.at <= _SECONDS_KEPT:
                return kept
            error, failed_at = self._failed.get(conn_id, (None, float("-inf")))
            if error is not None and clock() - failed_at <= _SECONDS_FAILED:
                # One object for all who ask: each would add its frames to the traceback.
                raise error.with_traceback(None)
            try:
                kept = CachedConnection(await aget_vendor_connection(conn_id), clock())
            except Exception as error:
                self._failed[conn_id] = error, clock()
                raise
            self._failed.pop(conn_id, None)
            self._kept[conn_id] = kept
            return kept


_caches = OnePerLoop(ConnectionCache)


def connection_cache() -> ConnectionCache:
    """Return the cache of the running event loop."""
    return _caches.here()
