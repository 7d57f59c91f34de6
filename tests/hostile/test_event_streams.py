"""The event stream that a start at Snorbe answers with, in every way that it can come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_agentruns.client.calls import Response
from airflow_provider_agentruns.client.exceptions import (
    APIError,
    APITimeoutError,
    BadRequestError,
    ResponseFormatError,
)
from airflow_provider_agentruns.testing import Send
from airflow_provider_agentruns.vendors.snorbe.stream import has_run_id
from tests.hostile.hostile_server import KEY, HostileServer, head
from tests.hostile.vendor_calls import SNORBE, SNORBE_ID, START_STREAM

HEAD = head(headers=b"Content-Type: text/event-stream\r\n")
CONFIG = b'data: {"type": "config", "payload": {"runId": "clxyz123"}}\n\n'
ERROR = b'data: {"type": "error", "payload": {"message": "no credits"}}\n\n'


def started(server: HostileServer, send: Send[Any], **changes: Any) -> str:
    return str(send(server.settings(SNORBE, **changes), START_STREAM.call()).run_id)


def refusal(server: HostileServer, send: Send[Any], **changes: Any) -> APIError:
    with pytest.raises(APIError) as caught:
        started(server, send, **changes)
    text = str(caught.value)
    assert "cannot start agent" in text
    assert text.isprintable()
    assert len(text) < 1000
    assert KEY not in text
    return caught.value


STREAMS = {
    "plain": CONFIG,
    "byte-order-mark": b"\xef\xbb\xbf" + CONFIG,
    "carriage-returns": CONFIG.replace(b"\n", b"\r"),
    "both": CONFIG.replace(b"\n", b"\r\n"),
    "mixed": CONFIG.replace(b"\n\n", b"\r\n\n"),
    "no-blank-line": CONFIG.strip(),
    "comments": b": hello\n\n:\n\n: {\n" + CONFIG,
    "other-fields": b"event: config\nid: 1\nretry: 5\n" + CONFIG,
    "no-space": CONFIG.replace(b"data: ", b"data:"),
    "several-lines": b'data: {"type": "config",\ndata: "payload":\ndata: {"runId": "clxyz123"}}\n\n',
    "flat": b'data: {"type": "config", "runId": "clxyz123"}\n\n',
    "after-others": b'data: {"type": "ping"}\n\ndata: 7\n\ndata: null\n\ndata: [DONE]\n\n' + CONFIG,
    "after-garbage": b"data: {\n\ndata: \xff\xfe\n\n\xc3\n\ndata: NaN\n\n" + CONFIG,
    "after-depth": b"data: " + b"[" * 100_000 + b"\n\n" + CONFIG,
    "after-thousands": b'data: {"type": "step", "payload": {"n": 1}}\n\n' * 4000 + CONFIG,
    "odd-ids-first": b'data: {"type": "config", "payload": {"runId": 7}}\n\n'
    b'data: {"type": "config", "payload": {"runId": ""}}\n\ndata: {"type": "config", "payload": []}\n\n'
    + CONFIG,
    "error-after": CONFIG + ERROR,
    "in-four-bytes": 'data: {"type": "config", "payload": {"who": "😀é", "runId": "clxyz123"}}\n\n'.encode(),
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_the_run_id_is_found(stream: bytes, server: HostileServer, send: Send[Any]) -> None:
    server.pieces(HEAD + stream)
    assert started(server, send) == SNORBE_ID


@pytest.mark.parametrize("name", [name for name, stream in STREAMS.items() if len(stream) < 1000])
def test_a_stream_split_at_any_byte_is_read_alike(name: str) -> None:
    """In the middle of a line, of a line's end or of a character, nothing is told too early or twice."""
    stream = STREAMS[name]
    call = START_STREAM.call()
    for end in range(len(stream)):
        if has_run_id(stream[:end]):
            assert call.parse(_response(stream[:end])).run_id == SNORBE_ID
            break
    else:
        assert has_run_id(stream + b"\n\n")


@pytest.mark.parametrize("name", ["in-four-bytes", "both"])
def test_a_stream_that_comes_byte_by_byte_is_read(name: str, server: HostileServer, send: Send[Any]) -> None:
    stream = STREAMS[name]
    server.pieces(HEAD, *(stream[place : place + 1] for place in range(len(stream))), pause=0.001)
    assert started(server, send) == SNORBE_ID


@pytest.mark.parametrize("name", ["in-four-bytes", "both", "plain"])
def test_a_chunked_stream_is_read_wherever_it_is_split(
    name: str, server: HostileServer, send: Send[Any]
) -> None:
    stream = STREAMS[name]
    beginning = head(headers=b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n")
    for place in range(1, len(stream), 7):
        parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in (stream[:place], stream[place:])]
        server.pieces(beginning, *parts)
        assert started(server, send) == SNORBE_ID


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (b"", "ended before it named the run"),
        (b": only comments\n\n" * 100, "ended before it named the run"),
        (b"data: {}\n\n" * 100, "ended before it named the run"),
        (b'data: {"type": "config", "payload": {"runId": "clx', "ended before it named the run"),
        (
            b'data: {"type": "config", "payload": {"runId": "a/b"}}\n\n',
            "names no usable run id: run_id 'a/b'",
        ),
        (
            b'data: {"type": "config", "payload": {"runId": "\\r\\nHost: x"}}\n\n',
            "names no usable run id: run_id",
        ),
        (json.dumps({"runId": SNORBE_ID}).encode(), "ended before it named the run"),
        (b"<html>" * 100, "ended before it named the run"),
    ],
    ids=["nothing", "comments", "no-ids", "cut-off", "path", "header", "json", "html"],
)
def test_a_stream_without_a_run_id_is_uncertain(
    stream: bytes, says: str, server: HostileServer, send: Send[Any]
) -> None:
    server.pieces(HEAD + stream)
    error = refusal(server, send)
    assert isinstance(error, ResponseFormatError)
    assert says in str(error)


@pytest.mark.parametrize("beginning", [b"data: ", b": ", b"data: {}\n\n", b"", b"data: [", b"\xc3"], ids=repr)
def test_an_endless_first_event_is_cut_off(beginning: bytes, server: HostileServer, send: Send[Any]) -> None:
    server.endless(HEAD + beginning, b"x" * 10_000)
    assert "larger than 262,144 bytes" in str(refusal(server, send))
    assert server.sent < 20_000_000


def test_a_stream_that_never_tells_is_given_up(server: HostileServer, send: Send[Any]) -> None:
    server.endless(HEAD, b": still here\n\n", times=500, pause=0.05)
    error = refusal(server, send, timeout=0.3)
    assert isinstance(error, APITimeoutError)
    assert error.may_have_been_sent, "so it is not started again"


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ('"no credits"', "'no credits'"),
        ('"a\\n::group::b\\u001b[31m\\u202e"', "'a : :group::b"),
        ("null", "'no reason given'"),
        ('{"a": "\\ud800"}', "{'a': '?'}"),
        (f'"key {KEY}"', "'key ***'"),
        ('"' + "x" * 100_000 + '"', "'xxx"),
    ],
    ids=["text", "log-commands", "null", "object", "key", "long"],
)
def test_an_error_in_place_of_the_run_is_told_in_a_line(
    message: str, says: str, server: HostileServer, send: Send[Any]
) -> None:
    server.pieces(
        HEAD + b'data: {"type": "error", "payload": {"message": %b}}\n\n' % message.encode() + CONFIG
    )
    error = refusal(server, send)
    assert isinstance(error, BadRequestError)
    assert says in str(error)


@settings(max_examples=300)
@given(
    st.lists(st.one_of(st.binary(max_size=20), st.sampled_from([b"data:", b"\n\n", b"\r", CONFIG, ERROR])))
)
def test_any_bytes_are_an_id_or_an_error(parts: list[bytes]) -> None:
    stream = b"".join(parts)
    call = START_STREAM.call()
    has_run_id(stream)
    try:
        assert call.finish(_response(stream), 0.0).run_id == SNORBE_ID
    except APIError as error:
        assert str(error).isprintable()  # noqa: PT017 - either is fine


def _response(stream: bytes) -> Response:
    return Response(200, {}, stream)
