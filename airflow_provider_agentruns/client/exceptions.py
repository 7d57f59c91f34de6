"""
The errors of the client.

::

    AgentRunsError
    ├── InvalidInputError           refused by us, nothing was sent
    └── APIError                    a request went wrong
        ├── APIConnectionError      no answer: DNS, refused, reset, TLS, proxy
        │   └── APITimeoutError     no answer in time
        ├── ResponseFormatError     an answer that is not what the vendor documents
        └── APIStatusError          the vendor answered with an error
            ├── BadRequestError           400
            ├── AuthenticationError       401
            ├── PermissionDeniedError     403
            ├── NotFoundError             404
            ├── RateLimitError            429
            └── ServerError               408, 425, 5xx, temporary redirects
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar


class AgentRunsError(Exception):
    """Base of all errors that this package raises of its own."""


class InvalidInputError(AgentRunsError, ValueError):
    """Raised before anything is sent, because the input cannot be right."""


class APIError(AgentRunsError):
    """
    A request went wrong.

    :cvar is_transient: whether the same request may succeed later.
    """

    is_transient: ClassVar[bool] = False


class APIConnectionError(APIError):
    """
    No answer came from the vendor.

    :param may_have_been_sent: False if the request certainly never left, for example because the
        host has no address.
    """

    is_transient = True

    def __init__(self, message: str, *, may_have_been_sent: bool = True) -> None:
        super().__init__(message)
        self.may_have_been_sent = may_have_been_sent


class APITimeoutError(APIConnectionError):
    """No answer came in time."""


class ResponseFormatError(APIError):
    """An answer came that is not what the vendor documents: no JSON, cut short, a field missing."""

    is_transient = True


class APIStatusError(APIError):
    """
    The vendor answered with an error.

    :param status_code: the HTTP status.
    :param retry_after: seconds that the vendor asked us to wait, where it did.
    """

    def __init__(self, message: str, *, status_code: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.retry_after = retry_after


class BadRequestError(APIStatusError):
    """The vendor refused the request as invalid (400)."""


class AuthenticationError(APIStatusError):
    """The API key is missing, wrong or expired (401)."""


class PermissionDeniedError(APIStatusError):
    """The API key is known but may not do this (403)."""


class NotFoundError(APIStatusError):
    """There is no such thing for this API key (404)."""


class RateLimitError(APIStatusError):
    """Too many requests with this API key (429)."""

    is_transient = True


class ServerError(APIStatusError):
    """The vendor, or a proxy before it, cannot answer now."""

    is_transient = True


_BY_STATUS: dict[int, type[APIStatusError]] = {
    HTTPStatus.BAD_REQUEST: BadRequestError,
    HTTPStatus.UNAUTHORIZED: AuthenticationError,
    HTTPStatus.FORBIDDEN: PermissionDeniedError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimitError,
    HTTPStatus.REQUEST_TIMEOUT: ServerError,
    HTTPStatus.TOO_EARLY: ServerError,
    # Maintenance pages and log-in walls redirect for a while; a permanent redirect is a wrong host.
    HTTPStatus.FOUND: ServerError,
    HTTPStatus.SEE_OTHER: ServerError,
    HTTPStatus.TEMPORARY_REDIRECT: ServerError,
}


def status_error_class(status_code: int) -> type[APIStatusError]:
    """Return the error class for an HTTP status that is not a success."""
    if status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError
    return _BY_STATUS.get(status_code, APIStatusError)
