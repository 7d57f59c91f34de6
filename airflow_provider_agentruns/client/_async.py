"""Send calls with aiohttp, in a triggerer."""

from __future__ import annotations

import ssl
import time
from functools import cache
from typing import Self, TypeVar

import aiohttp
from yarl import URL

from airflow_provider_agentruns.client.calls import Call, Request, Response
from airflow_provider_agentruns.client.exchange import CHUNK, Body, Failure, connection_error, too_large
from airflow_provider_agentruns.client.settings import ClientSettings

T = TypeVar("T")

# Longer than any poll interval in use, so that a poll does not open a connection.
_KEEP_ALIVE = 120.0
# As the synchronous client takes; aiohttp's own 8 kB are less than some proxies' security headers.
_LONGEST_HEADER = 65_536


class AsyncClient:
    """
    Send calls to one vendor with one key, each once: who polls decides when to ask again.

    Use it as an asynchronous context manager.

    :param settings: where the vendor is, and how to reach it.
    :param connections: sockets at most; who sends more calls at once waits for one.
    """

    def __init__(self, settings: ClientSettings, *, connections: int = 4) -> None:
        self._settings = settings
        # Once: to look through the environment takes longer than all else about a poll.
        self._proxy = settings.effective_proxy
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the sockets."""
        if self._session is not None:
            await self._session.close()

    async def send(self, call: Call[T]) -> T:
        """
        Send a call once and return what the answer means.

        :raises APIError: it went wrong.
        """
        return call.finish(await self._exchange(call.request), time.time())

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections,
                    keepalive_timeout=_KEEP_ALIVE,
                    ssl=_tls(self._settings.trusted_certificates),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=_LONGEST_HEADER,
                max_field_size=_LONGEST_HEADER,
            )
            # aiohttp sends a GET again when the connection breaks, behind the back of who counts polls.
            self._session._retry_connection = False  # noqa: SLF001 - there is no public switch
        return self._session

    async def _exchange(self, request: Request) -> Response:
        settings = self._settings
        # What is quoted already must stay as it is: a second quoting would change the run id.
        url = URL(settings.base_url + request.path, encoded=True)
        try:
            async with self._open_session().request(
                request.method,
                url,
                data=request.content,
                headers=settings.headers(request),
                timeout=aiohttp.ClientTimeout(
                    total=settings.timeout * request.patience,
                    sock_connect=settings.timeout,
                    sock_read=settings.timeout,
                ),
                proxy=self._proxy,
                allow_redirects=False,
            ) as answer:
                body = Body(request, answer.status, answer.headers)
                async for chunk in answer.content.iter_chunked(CHUNK):
                    if body.add(chunk):
                        # Leaving without closing would make aiohttp read on to reuse the connection.
                        answer.close()
                        break
                return settings.response(request, answer.status, answer.headers, body.read())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Some versions of aiohttp, such as 3.13.5, give up what unpacks to 32 MiB; others lack the class.
            if type(error.__cause__).__name__ == "DecompressSizeError":
                raise too_large(request) from None
            raise connection_error(request, settings, _failure(error)) from None


@cache
def _tls(trusted_certificates: str | None) -> ssl.SSLContext | bool:
    # One context for all keys: each costs 25 ms of a blocked event loop and a megabyte.
    return ssl.create_default_context(cafile=trusted_certificates) if trusted_certificates else False


def _failure(error: Exception) -> Failure:
    for error_class, failure in _FAILURES.items():
        if isinstance(error, error_class):
            return failure
    return Failure.BROKEN_OFF


# In the order they are looked at: many of these are subclasses of later ones.
_FAILURES: dict[type[Exception], Failure] = {
    aiohttp.ConnectionTimeoutError: Failure.NO_CONNECTION_IN_TIME,
    TimeoutError: Failure.NO_ANSWER_IN_TIME,
    aiohttp.ClientConnectorDNSError: Failure.NO_ADDRESS,
    aiohttp.ClientProxyConnectionError: Failure.NO_PROXY,
    aiohttp.ClientHttpProxyError: Failure.NO_PROXY,
    aiohttp.ClientSSLError: Failure.NO_TRUST,
    aiohttp.ClientConnectorError: Failure.REFUSED,
}
