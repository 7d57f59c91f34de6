"""Turn an Airflow connection into what a client needs: the vendor's adapter, its URL, the key, limits."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import BaseHook, Connection
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from airflow_provider_agentruns.client.calls import describe
from airflow_provider_agentruns.client.exceptions import InvalidInputError
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.client.text import one_line, parse_json
from airflow_provider_agentruns.vendors.base import BulkPolling, VendorAdapter
from airflow_provider_agentruns.vendors.registry import get_adapter

# The rest of the vendor's limit is left to starts and results, which workers send.
_POLL_SHARE = 0.8
_PORTS = range(1, 65_536)
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?")
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")


class VendorConnection(NamedTuple):
    """
    An Airflow connection, understood.

    :param bulk: the vendor's call that tells how many runs stand, if it is to be used.
    """

    conn_id: str
    adapter: VendorAdapter
    settings: ClientSettings
    bulk: BulkPolling | None = None


def get_vendor_connection(conn_id: str) -> VendorConnection:
    """
    Look a connection up.

    :raises InvalidInputError: it is not complete, or something in it cannot be right.
    :raises AirflowNotFoundException: there is no such connection.
    """
    return read_connection(conn_id, BaseHook.get_connection(conn_id))


async def aget_vendor_connection(conn_id: str) -> VendorConnection:
    """Look a connection up from an event loop; see :func:`get_vendor_connection`."""
    return read_connection(conn_id, await get_async_connection(conn_id))


def read_connection(conn_id: str, connection: Connection) -> VendorConnection:
    """
    Understand a connection.

    :raises InvalidInputError: it is not complete, or something in it cannot be right. Names the field.
    """
    try:
        adapter = get_adapter(connection.conn_type or "")
        extras = _read_extras(connection.extra)
        api_key = _read_key(connection.password, adapter)
        settings = ClientSettings(
            base_url=_read_base_url(connection, adapter),
            api_key=api_key,
            auth_headers=adapter.auth_headers(api_key),
            timeout=extras.timeout,
            polls_per_minute=extras.polls_per_minute or int(adapter.requests_per_minute * _POLL_SHARE),
            verify=extras.verify,
            proxy=extras.proxy,
        )
        bulk = _choose_bulk_polling(adapter, extras)
    except InvalidInputError as error:
        raise InvalidInputError(f"connection {conn_id!r}: {error}") from None
    return VendorConnection(conn_id, adapter, settings, bulk)


def _empty_as_default(default: Any) -> BeforeValidator:
    # The connection form sends an empty field as "" or null.
    return BeforeValidator(lambda value: default if value is None or value == "" else value)


def _refuse_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed")  # noqa: TRY004 - pydantic turns a ValueError into an error
    return value


_no_flag = BeforeValidator(_refuse_flag)


def _read_verify(value: Any) -> Any:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in {"", "true", "yes", "1"}:
            return True
        if word in {"false", "no", "0"}:
            return False
        try:
            # A pipe or a device would be read for ever.
            is_usable = Path(value).is_file() and ssl.create_default_context(cafile=value)
        except (OSError, ValueError):
            is_usable = False
        if not is_usable:
            raise ValueError("neither true nor false nor the path of a file of certificates")
    return True if value is None else value


def _read_proxy(value: Any) -> Any:
    if not value:
        return None
    try:
        parts = urlsplit(str(value))
        is_url = parts.scheme in {"http", "https"} and bool(_read_name(parts.hostname)) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or parts.path.strip("/") or not (str(value).isascii() and str(value).isprintable()):
        raise ValueError(
            "not a URL such as http://proxy.example.com:3128 (in a password, write / @ : as %2F %40 %3A)"
        )
    return value


def _read_name(hostname: str | None) -> str:
    """
    Return a host's name or address as it is asked for.

    :raises ValueError: no resolver takes it: an empty label, one of over 63 characters, a character that no
        name has.
    """
    name = (hostname or "").encode("idna").decode()
    if not _HOST_NAME.fullmatch(name):
        raise ValueError("not the name of a host")
    return name


class ConnectionExtras(BaseModel):
    """
    What the extra field of a connection may hold.

    :param timeout: seconds to wait for a connection, and for each part of an answer.
    :param polls_per_minute: polls that one triggerer may send in any 60 seconds; None for 80 % of the
        vendor's limit.
    :param verify: whether to check TLS certificates, or the path of a file of trusted certificates.
    :param proxy: URL of an HTTP proxy.
    :param bulk_polling: whether to ask for many runs in one call while polls are scarce; None for the
        vendor's default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout: Annotated[float, Field(ge=1, le=600), _no_flag, _empty_as_default(30.0)] = 30.0
    polls_per_minute: Annotated[int | None, Field(ge=1, le=100_000), _no_flag, _empty_as_default(None)] = None
    verify: Annotated[bool | str, BeforeValidator(_read_verify)] = True
    proxy: Annotated[str | None, BeforeValidator(_read_proxy)] = None
    bulk_polling: Annotated[bool | None, _empty_as_default(None)] = None


def _read_extras(extra: str | None) -> ConnectionExtras:
    if not extra:
        return ConnectionExtras()
    # Not `extra_dejson`: it calls the supervisor to mask values, which blocks an event loop.
    try:
        values = parse_json(extra)
    except ValueError:
        raise InvalidInputError("the extra field is no JSON object") from None
    if values in (None, ""):
        return ConnectionExtras()
    if not isinstance(values, dict):
        raise InvalidInputError("the extra field is no JSON object")
    if unknown := sorted(values.keys() - ConnectionExtras.model_fields.keys()):
        raise InvalidInputError(
            f"unknown extra {one_line(', '.join(map(repr, unknown)))}; "
            f"known: {', '.join(ConnectionExtras.model_fields)}"
        )
    try:
        return ConnectionExtras.model_validate(values)
    except ValidationError as error:
        raise InvalidInputError(f"extra {describe(error)}") from None


def _choose_bulk_polling(adapter: VendorAdapter, extras: ConnectionExtras) -> BulkPolling | None:
    bulk, wanted = adapter.bulk_polling(), extras.bulk_polling
    if wanted and bulk is None:
        raise InvalidInputError(
            f"extra bulk_polling: {adapter.display_name} documents no call that lists runs; leave it out"
        )
    is_used = bulk is not None and (not bulk.is_heavy if wanted is None else wanted)
    return bulk if is_used else None


def _read_key(password: str | None, adapter: VendorAdapter) -> str:
    key = (password or "").strip()
    if not key:
        raise InvalidInputError(f"the password is empty; it must be the {adapter.display_name} API key")
    # Said here, without the value: an HTTP library would put the whole header into its error.
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidInputError("the password holds characters that an API key cannot have")
    return key


def _read_base_url(connection: Connection, adapter: VendorAdapter) -> str:
    host = (connection.host or "").strip()
    if not host:
        return adapter.default_url
    # As Airflow's HTTP connections have it, the schema may name the protocol; in a URI it is the path.
    schema = (connection.schema or "").strip().strip("/")
    protocol, path = (schema, "") if schema in {"http", "https"} else ("https", schema)
    try:
        parts = urlsplit(host if "://" in host else f"{protocol}://{host}")
        # The connection form sends 0 for a port that is not set.
        port = parts.port or connection.port or None
    except ValueError as error:
        raise InvalidInputError(f"the host is no URL ({one_line(str(error), 80)})") from None
    if port is not None and port not in _PORTS:
        raise InvalidInputError(f"the port {port} is not between 1 and {_PORTS[-1]}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInputError("the host is no URL such as https://api.example.com")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidInputError("the host may hold a protocol, a name, a port and a path, and nothing else")
    try:
        name = _read_name(parts.hostname)
    except ValueError:
        raise InvalidInputError("the host's name cannot be one") from None
    name = f"[{name}]" if ":" in name else name
    prefix = "/".join(part for part in (parts.path.strip("/"), path) if part)
    if not _PATH.fullmatch(prefix) or {".", ".."} & set(prefix.lower().replace("%2e", ".").split("/")):
        raise InvalidInputError("the host's path holds what a path cannot have, or leads upwards")
    url = f"{parts.scheme}://{name}{f':{port}' if port else ''}{f'/{prefix}' if prefix else ''}"
    # The vendors' documentation gives the base URL with the API's path.
    return url.removesuffix(adapter.api_path)
