"""A connection can hold anything: each refusal names the field, and none shows the password."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk import Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_agentruns.client.calls import Call, Request
from airflow_provider_agentruns.client.exceptions import APIError, InvalidInputError
from airflow_provider_agentruns.connections import ConnectionExtras, VendorConnection, read_connection
from airflow_provider_agentruns.testing import Send

PASSWORD = "flw_key_of_the_fuzz_0001"
FIELDS = ("password", "host", "port", "extra", "type", *ConnectionExtras.model_fields)
fuzz = settings(max_examples=300)
ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(exclude_categories=())),
        st.sampled_from(
            ["http://u:pw@h:1", "http://h:99999", "http://a b", "//h", "\ud800", "1e999", "0x10", PASSWORD]
        ),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=4,
)


def read(**fields: Any) -> VendorConnection | str:
    """Return a connection, or the text of its refusal."""
    fields = {"conn_type": "flowyble", "password": PASSWORD, **fields}
    try:
        connection = read_connection("c1", Connection(conn_id="c1", **fields))
    except InvalidInputError as error:
        text = str(error)
        assert text.startswith("connection 'c1': ")
        assert any(field in text for field in FIELDS), "a refusal names the field"
        assert text.isprintable()
        assert len(text) < 1500
        assert PASSWORD not in text.replace(repr(PASSWORD), ""), "but where it is the name of an extra"
        return text
    url = urlsplit(connection.settings.base_url)
    assert url.scheme in {"http", "https"}
    assert url.hostname
    assert (url.username, url.password, url.query, url.fragment) == (None, None, "", "")
    assert connection.settings.base_url.isascii()
    assert connection.settings.base_url.isprintable()
    assert PASSWORD not in repr(connection)
    assert 1 <= connection.settings.timeout <= 600
    return connection


@fuzz
@given(
    st.dictionaries(
        st.one_of(st.sampled_from([*ConnectionExtras.model_fields]), st.text()), ANYTHING, max_size=4
    )
)
def test_any_extras(extras: dict[str, Any]) -> None:
    read(extra=json.dumps(extras))


@fuzz
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_as_the_extra_field(extra: str) -> None:
    read(extra=extra)


@fuzz
@given(
    host=st.one_of(
        st.none(), st.text(st.characters(exclude_categories=())), st.text("ab:/@?#[].%\\ \r\n\t0")
    ),
    schema=st.one_of(st.none(), st.text(), st.sampled_from(["http", "https", "ftp", "../x"])),
    port=st.one_of(st.none(), st.integers()),
    password=st.one_of(st.none(), st.text(st.characters(exclude_categories=())), st.just(PASSWORD)),
)
def test_any_fields(host: str | None, schema: str | None, port: int | None, password: str | None) -> None:
    read(host=host, schema=schema, port=port, password=password)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"extra": "[" * 100_000}, "the extra field"),
        ({"extra": '{"timeout": NaN}'}, "the extra field"),
        ({"extra": '{"timeout": 1e999}'}, "the extra field"),
        ({"extra": '{"timeout": 9e99}'}, "extra timeout: "),
        ({"extra": json.dumps({"x\n::group::" * 1000: PASSWORD})}, "unknown extra "),
        ({"extra": json.dumps({"proxy": {"a\nb": PASSWORD}})}, "extra proxy: "),
        ({"extra": json.dumps({"proxy": f"http://{'a' * 64}.example.com:3128"})}, "extra proxy: "),
        ({"extra": json.dumps({"proxy": "http://proxy\r\nHost: x:3128"})}, "extra proxy: "),
        ({"extra": json.dumps({"proxy": "http://a b:3128"})}, "extra proxy: "),
        ({"extra": json.dumps({"proxy": "http://[::1"})}, "extra proxy: "),
        ({"extra": json.dumps({"verify": "/dev/zero"})}, "extra verify: "),
        ({"extra": json.dumps({"verify": "a\0b"})}, "extra verify: "),
        ({"extra": json.dumps({"verify": [PASSWORD]})}, "extra verify.bool: "),
        ({"host": "http://h/a b"}, "the host's path"),
        ({"host": "http://h/../admin"}, "the host's path"),
        ({"host": "http://h/%2E%2e/admin"}, "the host's path"),
        ({"host": "http://h", "schema": "../admin"}, "the host's path"),
        ({"host": "http://h/é"}, "the host's path"),
        ({"host": "http://a b"}, "the host's name"),
        ({"host": "http://<script>"}, "the host's name"),
        ({"host": "http://%0d%0aHost:x"}, "the host"),
        ({"host": "http://h\\@evil.example.com"}, "the host"),
        ({"password": f"{PASSWORD}\r\nX-Admin: 1"}, "the password"),
        ({"password": f"{PASSWORD}\0"}, "the password"),
        ({"password": "é" * 20}, "the password"),
        ({"conn_type": "http\n::group::"}, "type"),
    ],
)
def test_what_is_refused_is_named(fields: dict[str, Any], named: str) -> None:
    text = read(**fields)
    assert isinstance(text, str)
    assert named in text


def test_a_pipe_for_certificates_is_refused_unread(tmp_path: Path) -> None:
    """It would be read for ever, in a triggerer by all that wait there."""
    pipe = tmp_path / "certificates"
    os.mkfifo(pipe)
    text = read(extra=json.dumps({"verify": str(pipe)}))
    assert isinstance(text, str)
    assert "extra verify: " in text


@pytest.mark.parametrize(
    "proxy", ["http://u:pass-word@127.0.0.1:9", "http://u:pass-word@[::1]:9", "http://u:%40@h.invalid"]
)
def test_a_proxy_that_is_taken_and_does_not_work_is_an_error_of_ours(proxy: str, send: Send[Any]) -> None:
    connection = read(host="http://vendor.invalid", extra=json.dumps({"proxy": proxy}))
    assert isinstance(connection, VendorConnection)
    with pytest.raises(APIError) as caught:
        send(connection.settings, Call(Request(operation="ask", method="GET", path="/"), lambda _: None))
    assert "pass-word" not in str(caught.value) + repr(connection)
