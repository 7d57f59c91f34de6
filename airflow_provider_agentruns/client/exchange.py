"""The parts of an exchange that do no I/O, for both senders: collecting a body, naming a failure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus

from airflow_provider_agentruns.client.calls import KIBIBYTE, Request
from airflow_provider_agentruns.client.exceptions import (
    APIConnectionError,
    APITimeoutError,
    ResponseFormatError,
)
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.client.text import one_line

CHUNK = 64 * KIBIBYTE
# What both senders unpack piece by piece. Packed twice or otherwise, an answer could unpack to any size.
_ENCODINGS = {"", "identity", "gzip", "deflate"}


class Body:
    """
    Collect a body in chunks.

    :param status: the HTTP status of the answer; an event stream is cut short only on a success.
    :param headers: the answer's headers.
    :raises ResponseFormatError: the answer is compressed in a way that was not asked for.
    """

    def __init__(self, request: Request, status: int, headers: Mapping[str, str]) -> None:
        encoding = headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            raise ResponseFormatError(
                f"cannot {request.operation}: the answer's Content-Encoding is {one_line(encoding, 80)!r}, "
                "which was not asked for"
            )
        self._request = request
        self._enough = request.enough if status == HTTPStatus.OK else None
        self._data = bytearray()

    def add(self, chunk: bytes) -> bool:
        """
        Take the next chunk and tell whether enough has been read.

        :raises ResponseFormatError: the body is larger than the request allows.
        """
        self._data += chunk
        if len(self._data) > self._request.max_bytes:
            raise too_large(self._request)
        return self._enough is not None and self._enough(bytes(self._data))

    def read(self) -> bytes:
        """Return what has been collected."""
        return bytes(self._data)


def too_large(request: Request) -> ResponseFormatError:
    """Return the error for an answer that is larger than its request allows."""
    return ResponseFormatError(
        f"cannot {request.operation}: the answer is larger than {request.max_bytes:,} bytes"
    )


class Failure(Enum):
    """Why no answer came, and whether the request may have reached the vendor all the same."""

    NO_CONNECTION_IN_TIME = ("did not accept a connection within {timeout:g} s", False)
    NO_ANSWER_IN_TIME = ("did not answer in time (timeout {timeout:g} s)", True)
    NO_ADDRESS = ("has no address (DNS)", False)
    NO_PROXY = ("cannot be reached through the proxy", False)
    NO_TRUST = ("has no TLS certificate that is trusted", False)
    REFUSED = ("refuses connections", False)
    BROKEN_OFF = ("broke off the connection", True)


_TIMEOUTS = {Failure.NO_CONNECTION_IN_TIME, Failure.NO_ANSWER_IN_TIME}


def connection_error(request: Request, settings: ClientSettings, failure: Failure) -> APIConnectionError:
    """Say what happened in our own words: a library's may hold a proxy's password."""
    text, may_have_been_sent = failure.value
    error_class = APITimeoutError if failure in _TIMEOUTS else APIConnectionError
    return error_class(
        f"cannot {request.operation}: {settings.base_url} {text.format(timeout=settings.timeout)}",
        may_have_been_sent=may_have_been_sent,
    )
