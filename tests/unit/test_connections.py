from __future__ import annotations

import json
from typing import Any

import certifi
import pytest
from airflow.sdk import Connection

from airflow_provider_agentruns.client.exceptions import InvalidInputError
from airflow_provider_agentruns.connections import (
    VendorConnection,
    aget_vendor_connection,
    get_vendor_connection,
    read_connection,
)
from airflow_provider_agentruns.get_provider_info import get_provider_info
from airflow_provider_agentruns.vendors.base import BulkPolling
from airflow_provider_agentruns.vendors.flowyble import FlowybleAdapter

KEY = "flw_key_0123456789"


def read(conn_type: str = "flowyble", *, extra: object = None, **fields: Any) -> VendorConnection:
    text = extra if extra is None or isinstance(extra, str) else json.dumps(extra)
    fields.setdefault("password", KEY)
    return read_connection("c1", Connection(conn_id="c1", conn_type=conn_type, extra=text, **fields))


def test_a_key_is_all_that_is_needed() -> None:
    connection = read()
    assert connection.adapter.display_name == "Flowyble"
    settings = connection.settings
    assert settings.base_url == "https://api.flowyble.com"
    assert settings.api_key == KEY
    assert (settings.timeout, settings.verify, settings.proxy) == (30.0, True, None)
    assert settings.polls_per_minute == 80, "80 % of the vendor's limit"
    assert read("snorbe").settings.base_url == "https://app.snorbe.deskrex.ai"


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({"host": "http://127.0.0.1:8900"}, "http://127.0.0.1:8900"),
        ({"host": "http://127.0.0.1", "port": 8900}, "http://127.0.0.1:8900"),
        ({"host": "proxy.example.com"}, "https://proxy.example.com"),
        ({"host": "proxy.example.com", "schema": "http"}, "http://proxy.example.com"),
        ({"host": "https://proxy.example.com/flow/"}, "https://proxy.example.com/flow"),
        ({"host": "https://proxy.example.com", "schema": "flow"}, "https://proxy.example.com/flow"),
        ({"host": "https://api.flowyble.com/v1"}, "https://api.flowyble.com"),
        ({"host": "https://proxy.example.com/flow/v1/"}, "https://proxy.example.com/flow"),
        ({"host": "http://[::1]:8900"}, "http://[::1]:8900"),
        ({"host": "  "}, "https://api.flowyble.com"),
        ({"host": "http://127.0.0.1:8900", "port": 0}, "http://127.0.0.1:8900"),
    ],
)
def test_a_host_may_name_protocol_port_and_path(fields: dict[str, Any], base_url: str) -> None:
    assert read(**fields).settings.base_url == base_url


@pytest.mark.parametrize(
    ("uri", "base_url", "timeout"),
    [
        (f"flowyble://:{KEY}@", "https://api.flowyble.com", 30.0),
        (f"flowyble://:{KEY}@proxy.example.com:8443", "https://proxy.example.com:8443", 30.0),
        (
            f"flowyble://http://:{KEY}@127.0.0.1:8900/flow?timeout=5&verify=false",
            "http://127.0.0.1:8900/flow",
            5.0,
        ),
    ],
)
def test_a_connection_can_be_a_uri(
    uri: str, base_url: str, timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_C1", uri)
    settings = get_vendor_connection("c1").settings
    assert (settings.base_url, settings.api_key, settings.timeout) == (base_url, KEY, timeout)


async def test_a_connection_can_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"conn_type": "snorbe", "password": "snorbe_0123456789", "extra": {"polls_per_minute": 40}}
    monkeypatch.setenv("AIRFLOW_CONN_C1", json.dumps(value))
    connection = await aget_vendor_connection("c1")
    assert connection.settings.polls_per_minute == 40
    assert connection.settings.auth_headers == {"Authorization": "Bearer snorbe_0123456789"}


@pytest.mark.parametrize(
    ("extra", "name", "value"),
    [
        ({"timeout": "12.5"}, "timeout", 12.5),
        ({"timeout": ""}, "timeout", 30.0),
        ({"timeout": None, "polls_per_minute": ""}, "polls_per_minute", 80),
        ({"polls_per_minute": "7"}, "polls_per_minute", 7),
        ({"verify": "False"}, "verify", False),
        ({"verify": True}, "verify", True),
        ({"verify": None}, "verify", True),
        ({"verify": certifi.where()}, "verify", certifi.where()),
        (None, "timeout", 30.0),
        ({"proxy": "http://u:p@proxy:3128"}, "proxy", "http://u:p@proxy:3128"),
        ({"proxy": ""}, "proxy", None),
    ],
)
def test_extras_are_read_as_the_form_or_a_uri_writes_them(
    extra: dict[str, Any] | None, name: str, value: object
) -> None:
    assert getattr(read(extra=extra).settings, name) == value


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"conn_type": "http"}, "'http' is no vendor of agent runs; known: flowyble, snorbe"),
        ({"password": ""}, "the password is empty; it must be the Flowyble API key"),
        ({"password": None}, "the password is empty"),
        ({"password": "flw key"}, "characters that an API key cannot have"),
        ({"password": "flw\nkey"}, "characters that an API key cannot have"),
        ({"password": "schlüssel"}, "characters that an API key cannot have"),
        ({"host": "ftp://x"}, "the host is no URL"),
        ({"host": "https://"}, "the host is no URL"),
        ({"host": "https://user:secretpw@h"}, "and nothing else"),
        ({"host": "https://h/?a=b"}, "and nothing else"),
        ({"host": "https://h:port"}, "the host is no URL"),
        ({"host": "https://[::1"}, "the host is no URL"),
        ({"host": "https://a..b"}, "the host's name cannot be one"),
        ({"host": "https://" + "a" * 70}, "the host's name cannot be one"),
        ({"host": "h", "port": 99999}, "the port 99999 is not between"),
        ({"host": "h", "port": -1}, "the port -1 is not between"),
        (
            {"extra": {"timeut": 5}},
            "unknown extra 'timeut'; known: timeout, polls_per_minute, verify, proxy, ",
        ),
        ({"extra": "not json"}, "the extra field is no JSON object"),
        ({"extra": [1]}, "the extra field is no JSON object"),
        ({"extra": {"timeout": "soon"}}, "extra timeout: "),
        ({"extra": {"timeout": 0}}, "extra timeout: "),
        ({"extra": {"polls_per_minute": 0}}, "extra polls_per_minute: "),
        ({"extra": {"timeout": True}}, "extra timeout: "),
        ({"extra": {"verify": "/no/such/file"}}, "extra verify: "),
        ({"extra": {"verify": __file__}}, "extra verify: "),
        ({"extra": {"proxy": "http://user:p/secretpw@proxy:3128"}}, "extra proxy: "),
        ({"extra": {"bulk_polling": "often"}}, "extra bulk_polling: "),
        ({"extra": {"bulk_polling": True}}, "extra bulk_polling: Flowyble documents no call that lists runs"),
        ({"extra": {"proxy": "http://proxy:secretpw"}}, "extra proxy: "),
        ({"extra": {"proxy": "socks5://u:secretpw@h"}}, "extra proxy: "),
    ],
)
def test_what_cannot_be_right_names_connection_and_field_but_no_secret(
    fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(**fields)
    assert str(caught.value).startswith("connection 'c1': ")
    assert said in str(caught.value)
    assert "secretpw" not in str(caught.value)
    if password := fields.get("password"):
        assert password not in str(caught.value)


@pytest.mark.parametrize("value", [None, "", False, "false"])
def test_a_call_whose_answers_are_large_has_to_be_asked_for(value: object) -> None:
    assert read(conn_type="snorbe", extra={"bulk_polling": value}).bulk is None
    assert read(extra={"bulk_polling": value}).bulk is None
    bulk = read(conn_type="snorbe", extra={"bulk_polling": "true"}).bulk
    assert bulk is not None
    assert bulk.is_heavy


def test_a_call_whose_answers_are_small_is_used_unless_it_is_turned_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    light = BulkPolling(call=lambda *_: pytest.fail("nothing is sent"))
    monkeypatch.setattr(FlowybleAdapter, "bulk_polling", lambda _: light)
    assert read().bulk is light
    assert read(extra={"bulk_polling": True}).bulk is light
    assert read(extra={"bulk_polling": False}).bulk is None


def test_spaces_around_a_pasted_key_do_not_matter() -> None:
    assert read(password=f" {KEY}\n").settings.api_key == KEY


def test_the_form_offers_each_extra_and_masks_the_key() -> None:
    for connection_type in get_provider_info()["connection-types"]:
        fields = connection_type["conn-fields"]
        lists_runs = {"bulk_polling"} if connection_type["connection-type"] == "snorbe" else set()
        assert set(fields) == {"timeout", "polls_per_minute", "verify", "proxy"} | lists_runs
        assert all(field["label"] and field["description"] for field in fields.values())
        behaviour = connection_type["ui-field-behaviour"]
        assert behaviour["relabeling"]["password"] == "API key"
