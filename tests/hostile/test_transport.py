"""Nothing that a server does on the wire holds a task for ever, fills its memory or takes the key away."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_agentruns.client.calls import KIBIBYTE, MEBIBYTE, Call
from airflow_provider_agentruns.client.exceptions import APIConnectionError, APIError, ResponseFormatError
from airflow_provider_agentruns.client.models import RunStatus
from airflow_provider_agentruns.testing import Send
from tests.hostile.hostile_server import KEY, Asked, HostileServer, head
from tests.hostile.vendor_calls import ALL_CALLS, JSON_CALLS, START_STREAM, VendorCall

OUTCOMES = Path(__file__).parents[2] / "docs" / "outcomes.md"
each_call = pytest.mark.parametrize("vendor_call", ALL_CALLS, ids=lambda call: call.name)
[SNORBE_STATUS] = [call for call in JSON_CALLS if call.name == "snorbe-status"]
[FLOWYBLE_STATUS] = [call for call in JSON_CALLS if call.name == "flowyble-status"]
_OK = b"HTTP/1.1 200 OK\r\n"
_EACH = b"data: {}\n\n" * 1000


def send_refused(
    server: HostileServer, send: Send[Any], vendor_call: VendorCall, **settings: Any
) -> APIError:
    call = vendor_call.call()
    with pytest.raises(APIError) as caught:
        send(server.settings(vendor_call.adapter, **settings), call)
    assert call.request.operation in str(caught.value)
    assert str(caught.value).isprintable()
    assert KEY not in str(caught.value)
    return caught.value


def peak(action: Callable[[], object]) -> int:
    """Return how many bytes of memory Python held at most, besides what it held before."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("vendor_call", [SNORBE_STATUS, START_STREAM], ids=lambda call: call.name)
@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_of_100_megabytes_is_cut_off_at_the_limit(
    is_announced: bool, vendor_call: VendorCall, server: HostileServer, send: Send[Any]
) -> None:
    size = 100 * MEBIBYTE
    limit = vendor_call.call().request.max_bytes
    server.endless(
        head(headers=b"Content-Length: %d\r\n" % size if is_announced else b""),
        _EACH,
        times=size // len(_EACH),
    )
    used = peak(lambda: send_refused(server, send, vendor_call))
    assert used < 6 * limit + MEBIBYTE
    # What the kernel's buffers take comes on top.
    assert server.sent < limit + 16 * MEBIBYTE


@each_call
def test_every_call_has_a_limit_and_keeps_to_it(
    vendor_call: VendorCall, server: HostileServer, send: Send[Any]
) -> None:
    """With a limit of its own, so that what is measured is not the test's patience."""
    call = vendor_call.call()
    assert call.request.max_bytes <= 256 * MEBIBYTE
    small = Call(replace(call.request, max_bytes=64 * KIBIBYTE), call.parse, call.expected)
    server.endless(head(), _EACH, times=10_000)
    with pytest.raises(ResponseFormatError, match="larger than 65,536 bytes"):
        send(server.settings(vendor_call.adapter), small)


def test_the_documented_limits_are_those_of_the_calls() -> None:
    documented = re.findall(r"^\| (.+?) \| (\d+) (KiB|MiB) \|$", OUTCOMES.read_text(), re.MULTILINE)
    sizes = {int(number) * (MEBIBYTE if unit == "MiB" else KIBIBYTE) for _, number, unit in documented}
    assert sizes == {call.call().request.max_bytes for call in ALL_CALLS}


def _bomb(wbits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    block = b" " * MEBIBYTE
    return b"".join(packer.compress(block) for _ in range(256)) + packer.flush()


BOMBS = {
    "gzip": (b"gzip", _bomb(31)),
    "deflate": (b"deflate", _bomb(15)),
    "raw-deflate": (b"deflate", _bomb(-15)),
    "gzip-upper-case": (b"GZIP", _bomb(31)),
    "nested": (b"gzip, gzip", gzip.compress(_bomb(31))),
    "nested-deflate": (b"deflate, gzip", gzip.compress(_bomb(15))),
    "nested-often": (b", ".join([b"gzip"] * 50), _bomb(31)),
    "brotli": (b"br", b"\x5b\xff\xff\x03\x00" + bytes(1000)),
    "zstd": (b"zstd", b"\x28\xb5\x2f\xfd" + bytes(1000)),
    "no-gzip": (b"gzip", b'{"status": "completed"}'),
    "cut-off": (b"gzip", gzip.compress(b'{"status": "completed"}')[:-20]),
    "unknown": (b"secret\xff", b"{}"),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_compressed_bomb_is_defused(
    bomb: tuple[bytes, bytes], server: HostileServer, send: Send[Any]
) -> None:
    encoding, body = bomb
    server.answers(body, headers=b"Content-Encoding: %b\r\n" % encoding)
    used = peak(lambda: send_refused(server, send, SNORBE_STATUS))
    assert used < 8 * SNORBE_STATUS.call().request.max_bytes


@pytest.mark.parametrize(
    ("encoding", "wbits"), [(b"gzip", 31), (b"deflate", 15), (b"Deflate", -15), (b"", 0)]
)
def test_an_answer_compressed_as_asked_is_read(
    encoding: bytes, wbits: int, server: HostileServer, send: Send[Any]
) -> None:
    body = b'{"id": "clxyz123", "status": "completed"}'
    if wbits:
        packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
        body = packer.compress(body) + packer.flush()
    server.answers(body, headers=b"Content-Encoding: %b\r\n" % encoding)
    run = send(server.settings(SNORBE_STATUS.adapter), SNORBE_STATUS.call())
    assert run.status is RunStatus.SUCCEEDED
    [asked] = server.asked
    assert dict(asked.headers)["accept-encoding"] == "gzip, deflate"


DRIPS = {
    "status-line": (b"HTTP/1.1 2", b"0"),
    "header": (_OK + b"X-A: ", b"a"),
    "headers": (_OK, b"X-A: a\r\n"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (_OK + b"Content-Length: 100000\r\n\r\n", b" "),
    "body-to-the-end": (_OK + b"\r\n", b" "),
    "chunk-size": (_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "chunks": (_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "trailers": (_OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: a\r\n"),
    "error-body": (b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n", b" "),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_a_byte_now_and_then_does_not_hold_a_task(
    drip: tuple[bytes, bytes], server: HostileServer, send: Send[Any]
) -> None:
    """Each comes well within the timeout; they would go on for a minute."""
    beginning, piece = drip
    server.endless(beginning, piece, times=1200, pause=0.05)
    call = SNORBE_STATUS.call()
    hasty = Call(replace(call.request, patience=0.3), call.parse, call.expected)
    begun = time.monotonic()
    with pytest.raises(APIError):
        send(server.settings(SNORBE_STATUS.adapter, timeout=1.0), hasty)
    assert time.monotonic() - begun < 20, "far from the minute that it would have lasted"


@each_call
def test_every_call_ends_on_a_server_that_says_nothing(
    vendor_call: VendorCall, server: HostileServer, send: Send[Any]
) -> None:
    is_over = threading.Event()

    def say_nothing(_: Asked) -> Iterable[bytes]:
        is_over.wait(60)
        return ()

    server.pieces()
    server.answer = say_nothing
    try:
        # The timeout is one for the connection, too, which a busy machine is to make in time.
        error = send_refused(server, send, vendor_call, timeout=0.4)
    finally:
        is_over.set()
    assert isinstance(error, APIConnectionError)
    assert error.may_have_been_sent
    assert "did not answer in time" in str(error)


ODD_HEADS = {
    "huge-header": _OK + b"X-A: " + b"a" * 200_000 + b"\r\n\r\n{}",
    "endless-header": _OK + b"X-A: " + b"a" * 20_000_000,
    "many-headers": _OK + b"X-A: a\r\n" * 200_000 + b"\r\n{}",
    "huge-status-line": b"HTTP/1.1 200 " + b"a" * 200_000 + b"\r\n\r\n{}",
    "huge-chunk-extension": _OK
    + b"Transfer-Encoding: chunked\r\n\r\n2;"
    + b"a" * 20_000_000
    + b"\r\n{}\r\n0\r\n\r\n",
    "huge-chunk": _OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
    "negative-chunk": _OK + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}",
    "negative-length": _OK + b"Content-Length: -2\r\n\r\n",
    "two-lengths": _OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "huge-length": _OK + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "no-http": b"SSH-2.0-OpenSSH_9.6\r\n",
    "nothing": b"",
    "no-status": b"HTTP/1.1 abc\r\n\r\n",
    "status-1000": b"HTTP/1.1 1000 No\r\n\r\n{}",
    "nul-in-header": _OK + b"X-A: a\0b\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n{}",
    "no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not-modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "bare-newlines": b"HTTP/1.1 200 OK\n\n",
}


@pytest.mark.parametrize("answer", ODD_HEADS.values(), ids=ODD_HEADS)
def test_an_odd_head_is_refused_in_little_memory(
    answer: bytes, server: HostileServer, send: Send[Any]
) -> None:
    server.pieces(answer)
    used = peak(lambda: send_refused(server, send, FLOWYBLE_STATUS, timeout=1.0))
    assert used < 8 * MEBIBYTE


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 200, 401, 429, 503])
@pytest.mark.parametrize(
    "location",
    [
        "{other}/login?key={key}",
        "//{host}/login",
        "\\\\{host}\\login",
        "/elsewhere",
        "http://[::1",
        "javascript:x",
        "",
    ],
)
def test_a_redirect_is_never_followed(
    status: int, location: str, server: HostileServer, other_server: HostileServer, send: Send[Any]
) -> None:
    other_server.answers(b"{}")
    target = location.format(other=other_server.url, host=other_server.host, key=KEY)
    server.answers(b'{"no": "status"}', status=status, headers=f"Location: {target}\r\n".encode())
    send_refused(server, send, SNORBE_STATUS)
    assert len(server.asked) == 1
    assert other_server.asked == []


@pytest.mark.parametrize("status", [302, 308, 401, 503])
def test_the_body_of_a_refusal_is_cut_off_as_well(
    status: int, server: HostileServer, send: Send[Any]
) -> None:
    server.endless(head(status, b"Location: /login\r\n"), b" " * 100_000, times=1000)
    used = peak(lambda: send_refused(server, send, SNORBE_STATUS))
    assert used < 6 * SNORBE_STATUS.call().request.max_bytes
    assert server.sent < 32 * MEBIBYTE


@pytest.mark.parametrize(
    "retry_after", ["9" * 400, "-1", "1e9", "nan", "\xff", "Mon, 99 Xxx 0000", "0", ";" * 9999]
)
def test_an_odd_retry_after_is_bounded(retry_after: str, server: HostileServer, send: Send[Any]) -> None:
    server.answers(b"{}", status=429, headers=b"Retry-After: %b\r\n" % retry_after.encode("latin-1"))
    error = send_refused(server, send, SNORBE_STATUS)
    seconds = getattr(error, "retry_after", None)
    assert seconds is None or 0 <= seconds <= 3600


def test_a_cookie_or_a_header_of_an_answer_is_not_sent_back(server: HostileServer, send: Send[Any]) -> None:
    server.answers(
        json.dumps(SNORBE_STATUS.answer).encode(),
        headers=b"Set-Cookie: a=b\r\nX-Evil: 1\r\nAlt-Svc: h2=other\r\n",
    )
    for _ in range(2):
        send(server.settings(SNORBE_STATUS.adapter), SNORBE_STATUS.call())
    names = {name for asked in server.asked for name, _ in asked.headers}
    assert names <= {"host", "user-agent", "accept", "accept-encoding", "connection", "authorization"}
