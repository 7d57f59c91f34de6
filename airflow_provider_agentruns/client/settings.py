"""Where a vendor is reached, and how: what both senders need to know."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from airflow_provider_agentruns.client.calls import Request, Response

MIN_MASKED_LENGTH = 8
_MASK = "***"
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """
    Where a vendor is reached, and how.

    :param base_url: scheme, host and path prefix, without a slash at the end.
    :param api_key: the secret; never shown by ``repr``.
    :param auth_headers: the headers that carry the key.
    :param timeout: seconds to wait for a connection, and for each part of an answer.
    :param polls_per_minute: polls that may be sent in any 60 seconds.
    :param verify: whether to check TLS certificates, or the path of a file of trusted certificates.
    :param proxy: URL of an HTTP proxy, which may hold a password; never shown by ``repr``.
    """

    base_url: str
    api_key: str = field(repr=False)
    auth_headers: Mapping[str, str] = field(repr=False)
    timeout: float = 30.0
    polls_per_minute: int = 80
    verify: bool | str = True
    proxy: str | None = field(default=None, repr=False)

    @property
    def credential(self) -> tuple[str, str]:
        """Return what budgets are counted by: the base URL and a digest of the key and the way it is sent."""
        key = "\n".join([self.api_key, *sorted(self.auth_headers)])
        return self.base_url, hashlib.sha256(key.encode()).hexdigest()

    @property
    def transport(self) -> tuple[float, bool | str, str | None]:
        """Return what a session depends on, besides the credential."""
        return self.timeout, self.verify, self.proxy

    @property
    def effective_proxy(self) -> str | None:
        """Return the proxy to use: the one set, else the environment's for this host, else None."""
        if self.proxy:
            return self.proxy
        parts = urlsplit(self.base_url)
        if parts.hostname is None or proxy_bypass(parts.hostname):
            return None
        proxies = getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        return proxy if proxy is None or "://" in proxy else f"http://{proxy}"

    @property
    def trusted_certificates(self) -> str | None:
        """Return the file of trusted certificates, or None to check none."""
        if self.verify is True:
            return next(filter(None, map(os.environ.get, _CA_VARIABLES)), None) or certifi.where()
        return self.verify or None

    def headers(self, request: Request) -> dict[str, str]:
        """Return all headers to send with a request."""
        return {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            **request.headers,
            **(self.auth_headers if request.authenticated else {}),
        }

    def response(self, request: Request, status: int, headers: Mapping[str, str], body: bytes) -> Response:
        """Return an answer in which no secret that was sent stands, should the vendor have echoed it."""
        values = {name.lower(): value for name, value in headers.items()}
        keys = (self.api_key,) if len(self.api_key) >= MIN_MASKED_LENGTH else ()
        for secret in (*keys, *filter(None, request.secrets)):
            for form in _spellings(secret):
                body = body.replace(form.encode(), _MASK.encode())
                values = {name: value.replace(form, _MASK) for name, value in values.items()}
        return Response(status, values, body)


def _spellings(secret: str) -> set[str]:
    """Return how a secret may stand in an answer: as it is, in JSON by either habit, in a URL, in base64."""
    escaped = json.dumps(secret)[1:-1]
    unescaped = json.dumps(secret, ensure_ascii=False)[1:-1]
    in_base64 = base64.b64encode(secret.encode()).decode()
    return {secret, escaped, escaped.replace("/", "\\/"), unescaped, quote(secret, safe=""), in_base64}
