from __future__ import annotations

import inspect
import json

import pytest
from pydantic import BaseModel

from airflow_provider_agentruns.client import exceptions
from airflow_provider_agentruns.client.calls import Call, Request, Response, json_content
from airflow_provider_agentruns.client.exceptions import (
    AgentRunsError,
    APIStatusError,
    InvalidInputError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
    status_error_class,
)
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.client.text import one_line, parse_json

REQUEST = Request(operation="get the status of run r1", method="GET", path="/")


class Body(BaseModel):
    status: str


def _call() -> Call[Body]:
    return Call(REQUEST, lambda response: response.model(Body))


def _response(status: int, body: object, **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    classes = [
        found
        for _, found in inspect.getmembers(exceptions, inspect.isclass)
        if issubclass(found, AgentRunsError) and found.__module__ == exceptions.__name__
    ]
    assert exceptions.__doc__ is not None
    assert len(classes) == 13
    for found in classes:
        assert found.__name__ in exceptions.__doc__


@pytest.mark.parametrize(
    ("status", "is_transient"),
    [
        (301, False),
        (302, True),
        (307, True),
        (308, False),
        (400, False),
        (401, False),
        (403, False),
        (404, False),
        (405, False),
        (408, True),
        (422, False),
        (425, True),
        (429, True),
        (500, True),
        (503, True),
        (599, True),
    ],
)
def test_a_status_is_transient_if_it_may_pass(status: int, is_transient: bool) -> None:
    assert status_error_class(status).is_transient is is_transient


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"success": False, "message": "Insufficient credits"}, "the vendor says 'Insufficient credits'"),
        ({"error": "Invalid JSON body"}, "the vendor says 'Invalid JSON body'"),
        ({"error": {"message": "deep"}}, "the vendor says 'deep'"),
        ({"error": 5}, "gives no reason"),
        ([], "gives no reason"),
        (b"<html>\n<h1>Bad gateway", "begins '<html> <h1>Bad gateway'"),
        ({"message": "two\nlines\x1b[31m"}, r"two lines�[31m"),
    ],
)
def test_an_error_says_what_was_tried_and_what_the_vendor_says(body: object, said: str) -> None:
    with pytest.raises(APIStatusError) as caught:
        _call().finish(_response(400, body), now=0)
    assert "cannot get the status of run r1: HTTP 400" in str(caught.value)
    assert said in str(caught.value)


def test_a_429_carries_its_retry_after() -> None:
    with pytest.raises(RateLimitError) as caught:
        _call().finish(_response(429, {}, retry_after="12"), now=0)
    assert caught.value.retry_after == 12.0


def test_a_redirect_is_not_followed_and_names_only_the_host() -> None:
    with pytest.raises(ServerError, match=r"redirects to 'login.example.com', which is not followed"):
        _call().finish(_response(302, b"", location="https://login.example.com/?token=abc"), now=0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"status": "Runn', "is no JSON"),
        (b"", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b'{"status": NaN}', "is no JSON"),
        (b'{"status": 1e999}', "is no JSON"),
        (b'{"status": "\xed\xa0\x80"}', "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        ({}, "status: Field required"),
        ({"status": 5}, "status: Input should be a valid string"),
        ([], "body: Input should be"),
        (None, "body: Input should be"),
    ],
)
def test_an_answer_that_is_not_as_documented_is_transient_and_names_the_field(
    body: object, said: str
) -> None:
    with pytest.raises(ResponseFormatError) as caught:
        _call().finish(_response(200, body), now=0)
    assert "cannot get the status of run r1" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("/webhooks/SECRETTOKEN/", "redirects to 'another path'"),
        ("http://[foo", r"redirects to '\[foo'"),
        ("https://user:pw@host/x?token=abc", "redirects to 'host'"),
    ],
)
def test_a_redirect_shows_no_path_and_no_password(location: str, said: str) -> None:
    with pytest.raises(APIStatusError, match=said):
        _call().finish(_response(301, b"", location=location), now=0)


@pytest.mark.parametrize("error_class", [ValueError, KeyError, TypeError, AttributeError])
def test_what_an_adapter_did_not_foresee_is_the_answers_fault(error_class: type[Exception]) -> None:
    def parse(_: Response) -> None:
        raise error_class("secret inside")

    with pytest.raises(ResponseFormatError) as caught:
        Call(REQUEST, parse).finish(_response(200, {}), now=0)
    assert "cannot be understood" in str(caught.value)
    assert "secret inside" not in str(caught.value)


def test_what_postgresql_cannot_store_is_replaced() -> None:
    body = json.dumps({"status": "a\0b\ud800c", "\0": ["\0"]}).encode()
    assert Response(200, {}, body).json() == {"status": "a\ufffdb?c", "\ufffd": ["\ufffd"]}
    assert parse_json('{"n": 1, "t": true, "z": null}') == {"n": 1, "t": True, "z": None}
    assert parse_json('"\\\\u0000"') == "\\u0000", "an escaped backslash is no escape"


@pytest.mark.parametrize("value", [float("nan"), object(), {"x": {1, 2}}, "\ud800"])
def test_what_json_cannot_say_is_refused_before_anything_is_sent(value: object) -> None:
    with pytest.raises(InvalidInputError, match="not JSON data"):
        json_content(value)


def test_one_line_bounds_and_cleans_a_vendors_text() -> None:
    assert one_line("a\r\n::error::b\t c\x00") == "a ::error::b c�"
    assert one_line("x" * 1000, 20) == "x" * 19 + "…"
    assert len(one_line("\n" * 10_000 + "x")) <= 500


def test_a_key_that_the_vendor_echoes_is_masked() -> None:
    key = "flw_key_secret_123"
    settings = ClientSettings(
        base_url="https://api.example.com", api_key=key, auth_headers={"X-API-Key": key}, proxy="http://u:p@h"
    )
    assert key.encode() not in settings.response(REQUEST, 401, {}, f"bad key {key}".encode()).body
    assert key not in repr(settings)
    assert "u:p" not in repr(settings)
    assert key not in str(settings.credential)


@pytest.mark.parametrize("secret", ["s3cr3t", 'with "quotes" \\ and ü', "§"])
def test_a_secret_that_was_sent_is_masked_in_the_answer_however_json_writes_it(secret: str) -> None:
    settings = ClientSettings(base_url="", api_key="", auth_headers={})
    request = Request("register", "POST", "/secret", content=json_content({"v": secret}), secrets=(secret,))
    assert secret not in repr(request)
    for body in (secret.encode(), json.dumps({"m": secret}).encode(), json_content({"m": secret})):
        shown = settings.response(request, 400, {}, body).body.decode()
        assert secret not in shown
        assert json.dumps(secret)[1:-1] not in shown


def test_only_an_authenticated_request_carries_the_key() -> None:
    settings = ClientSettings(base_url="", api_key="k", auth_headers={"X-API-Key": "k"})
    assert settings.headers(REQUEST)["X-API-Key"] == "k"
    open_request = Request(operation="", method="POST", path="/", authenticated=False)
    assert "X-API-Key" not in settings.headers(open_request)


def test_a_call_that_remembers_reads_only_answers_that_differ_from_the_last() -> None:
    read: list[bytes] = []

    def parse(response: Response) -> int:
        read.append(response.body)
        return int(response.json())

    call = Call(Request(operation="count", method="GET", path="/"), parse).remembering()
    bodies = [b"1", b"1", b"2", b"1"]
    assert [call.finish(Response(200, {}, body), now=0) for body in bodies] == [1, 1, 2, 1]
    assert read == [b"1", b"2", b"1"]


def test_a_call_that_remembers_tells_apart_statuses_with_one_body() -> None:
    def parse(response: Response) -> int:
        return response.status

    call = Call(Request(operation="ask", method="GET", path="/"), parse, frozenset({404})).remembering()
    assert [call.finish(Response(status, {}, b"{}"), now=0) for status in (200, 404, 202)] == [200, 404, 202]


def test_a_call_that_remembers_still_tells_errors() -> None:
    call = Call(Request(operation="count", method="GET", path="/"), Response.json).remembering()
    assert call.finish(Response(200, {}, b"1"), now=0) == 1
    with pytest.raises(ServerError):
        call.finish(Response(503, {}, b"1"), now=0)
    with pytest.raises(ResponseFormatError):
        call.finish(Response(200, {}, b"?"), now=0)
    assert call.finish(Response(200, {}, b"1"), now=0) == 1
