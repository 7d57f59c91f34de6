"""A call to a vendor as a value: what to send, and how to read the answer. No I/O here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from airflow_provider_agentruns.client.exceptions import (
    AgentRunsError,
    APIStatusError,
    InvalidInputError,
    ResponseFormatError,
    status_error_class,
)
from airflow_provider_agentruns.client.retry import parse_retry_after
from airflow_provider_agentruns.client.text import one_line, parse_json

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True)
class Request:
    """
    What to send.

    :param operation: what it does in words, for error messages: ``get the status of run r1``.
    :param path: path below the base URL, with a query if need be, quoted already.
    :param content: the body, bytes of ``content_type``; never shown by ``repr``, it may hold a secret.
    :param secrets: what path or body hold and an answer must not show, should the vendor echo it.
    :param idempotent: whether sending it twice does no harm; only such a request is repeated when its
        fate is not known.
    :param authenticated: whether the connection's key goes with it.
    :param enough: tells from the body read so far whether the rest is not needed; the connection is then
        dropped. For event streams.
    :param max_bytes: the largest body to accept, decompressed.
    :param patience: how many times the connection's timeout the whole exchange may take.
    """

    operation: str
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    idempotent: bool = True
    authenticated: bool = True
    enough: Callable[[bytes], bool] | None = None
    max_bytes: int = MEBIBYTE
    patience: float = 2.0


@dataclass(frozen=True, slots=True)
class Response:
    """
    What came back.

    :param headers: header names in lower case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """
        Return the body as JSON.

        :raises ResponseFormatError: it is none, or it is cut short.
        """
        try:
            return parse_json(self.body.decode("utf-8-sig"))
        except ValueError as error:
            kind = self.headers.get("content-type", "no content type")
            raise ResponseFormatError(
                f"the answer is no JSON ({one_line(kind, 80)}, {len(self.body)} bytes, "
                f"begins {one_line(self.body[:60].decode('utf-8', 'replace'))!r})"
            ) from error

    def model(self, model: type[ModelT]) -> ModelT:
        """
        Return the body as a model.

        :raises ResponseFormatError: a field that is needed is missing or of another type; names it.
        """
        try:
            return model.model_validate(self.json())
        except ValidationError as error:
            raise ResponseFormatError(f"the answer is not as documented: {describe(error)}") from None


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """
    A request and how to read its answer.

    :param parse: reads an answer with a status of 2xx or one of ``expected``.
    :param expected: error statuses that mean something to this call.
    """

    request: Request
    parse: Callable[[Response], T]
    expected: frozenset[int] = frozenset()

    def finish(self, response: Response, now: float) -> T:
        """
        Return what the answer means.

        :param now: seconds since the epoch, to read a ``Retry-After`` that is a date.
        :raises APIStatusError: the vendor answered with an error.
        :raises ResponseFormatError: the answer is not what the vendor documents.
        """
        try:
            if response.status in self.expected or response.status in _SUCCESS:
                return self.parse(response)
        except (ResponseFormatError, InvalidInputError) as error:
            # What is refused while an answer is read is the vendor's, such as a run id that cannot be one.
            raise ResponseFormatError(f"cannot {self.request.operation}: {error}") from error.__cause__
        except APIStatusError as error:
            raise type(error)(
                f"cannot {self.request.operation}: {error}",
                status_code=error.status_code,
                retry_after=error.retry_after,
            ) from None
        except AgentRunsError:
            raise
        except Exception as error:
            # Whatever an adapter did not foresee in an answer is the answer's fault, not the task's.
            raise ResponseFormatError(
                f"cannot {self.request.operation}: the answer cannot be understood ({type(error).__name__})"
            ) from error
        raise status_error_class(response.status)(
            f"cannot {self.request.operation}: HTTP {response.status}, {_vendor_message(response)}",
            status_code=response.status,
            retry_after=parse_retry_after(response.headers.get("retry-after"), now),
        )

    def remembering(self) -> Call[T]:
        """
        Return the same call for asking again and again: an answer like the last one is not read anew.

        For calls whose answers stand in their bodies.
        """
        last: tuple[bytes, T] | None = None

        def parse(response: Response) -> T:
            nonlocal last
            # Not the answer itself: thousands of runs may wait.
            digest = hashlib.blake2b(b"%d %b" % (response.status, response.body), digest_size=16).digest()
            if last is None or last[0] != digest:
                last = digest, self.parse(response)
            return last[1]

        return Call(self.request, parse, self.expected)


def json_content(value: object) -> bytes:
    """
    Return a value as the bytes of a JSON body.

    :raises InvalidInputError: it holds something that JSON cannot say.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"not JSON data: {one_line(str(error))}") from None


def describe(error: ValidationError) -> str:
    """Say which fields are wrong and how, without the values: these may be secret or huge."""
    return "; ".join(
        f"{one_line('.'.join(map(str, item['loc'][:10])), 120) or 'body'}: {one_line(item['msg'], 120)}"
        for item in error.errors(include_url=False, include_input=False, include_context=False)[:5]
    )


def _vendor_message(response: Response) -> str:
    if location := response.headers.get("location"):
        # Only the host: a path or query may hold a token.
        host = location.partition("://")[2].partition("/")[0].rpartition("@")[2]
        return f"redirects to {one_line(host or 'another path', 100)!r}, which is not followed"
    try:
        body = response.json()
    except ResponseFormatError as error:
        return str(error)
    if isinstance(body, dict):
        for name in ("message", "error", "detail"):
            value = body.get(name)
            if isinstance(value, dict):
                value = value.get("message")
            if isinstance(value, str) and value.strip():
                return f"the vendor says {one_line(value)!r}"
    return "the vendor gives no reason"
