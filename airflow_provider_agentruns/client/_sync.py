"""Send calls with requests, on a worker."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Self, TypeVar

import requests
import urllib3.exceptions

from airflow_provider_agentruns.client._sync_deadline import DeadlineAdapter, one_deadline
from airflow_provider_agentruns.client.calls import Call, Request, Response
from airflow_provider_agentruns.client.exceptions import APIError
from airflow_provider_agentruns.client.exchange import CHUNK, Body, Failure, connection_error
from airflow_provider_agentruns.client.retry import JITTER, ON_WORKER, RetryPolicy
from airflow_provider_agentruns.client.settings import ClientSettings

T = TypeVar("T")


class Client:
    """
    Send calls to one vendor with one key, and send again what the policy allows.

    :param settings: where the vendor is, and how to reach it.
    :param retry: how often to send.
    :param sleep: waits for seconds.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        retry: RetryPolicy = ON_WORKER,
        sleep: Callable[[float], object] = time.sleep,
        rng: random.Random = JITTER,
    ) -> None:
        self._settings = settings
        self._retry = retry
        self._sleep = sleep
        self._rng = rng
        self._session = _Session()
        # Proxies and certificates come from the settings, which look at the environment for both clients.
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, DeadlineAdapter())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._session.close()

    def send(self, call: Call[T]) -> T:
        """
        Send a call and return what the answer means.

        :raises APIError: it went wrong, and may not or need not be sent again.
        """
        attempt = 1
        while True:
            try:
                return call.finish(self._exchange(call.request), time.time())
            except APIError as error:
                wait = self._retry.wait(error, attempt, self._rng, is_idempotent=call.request.idempotent)
                if wait is None:
                    raise
            attempt += 1
            self._sleep(wait)

    def _exchange(self, request: Request) -> Response:
        settings = self._settings
        proxy = settings.effective_proxy
        try:
            with (
                one_deadline(settings.timeout * request.patience),
                self._session.request(
                    request.method,
                    settings.base_url + request.path,
                    data=request.content,
                    headers=settings.headers(request),
                    timeout=settings.timeout,
                    verify=settings.trusted_certificates or False,
                    proxies={"http": proxy, "https": proxy} if proxy else None,
                    allow_redirects=False,
                    stream=True,
                ) as answer,
            ):
                body = Body(request, answer.status_code, answer.headers)
                # read1, not iter_content: an event stream must be seen as it comes, however it is framed.
                while chunk := answer.raw.read1(CHUNK, decode_content=True):
                    if body.add(chunk):
                        break
                return settings.response(request, answer.status_code, answer.headers, body.read())
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise connection_error(request, settings, _failure(error)) from None


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        # Also when it shall follow none, requests reads the whole body of a redirect and where it leads.
        return None


def _failure(error: Exception) -> Failure:
    # requests puts urllib3's error into its own, which is often about retries and has a reason in turn.
    inner = error.args[0] if error.args else None
    cause = getattr(inner, "reason", inner)
    if isinstance(error, requests.ConnectTimeout):
        return Failure.NO_CONNECTION_IN_TIME
    timeouts = (TimeoutError, urllib3.exceptions.ReadTimeoutError)
    if isinstance(error, (requests.Timeout, *timeouts)) or isinstance(cause, timeouts):
        return Failure.NO_ANSWER_IN_TIME
    if isinstance(error, requests.exceptions.ProxyError):
        return Failure.NO_PROXY
    if isinstance(error, requests.exceptions.SSLError):
        return Failure.NO_TRUST
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return Failure.NO_ADDRESS
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return Failure.REFUSED
    return Failure.BROKEN_OFF
