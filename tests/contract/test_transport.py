"""What both clients do on the wire: paths, redirects, proxies, bodies that are too large or never end."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_agentruns.client._async import AsyncClient
from airflow_provider_agentruns.client._sync import Client
from airflow_provider_agentruns.client.calls import MEBIBYTE, Call, Request
from airflow_provider_agentruns.client.exceptions import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ResponseFormatError,
    ServerError,
)
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.testing import Send, send_in_triggerer, send_on_worker

KEY = "flw_key_transport_0001"
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """A server that answers as a test says, and keeps what it was asked."""

    url: str = ""
    answer: Answer = lambda handler: _send(handler, b"{}")
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def settings(self, **changes: Any) -> ClientSettings:
        values: dict[str, Any] = {"base_url": self.url, **changes}
        return ClientSettings(api_key=KEY, auth_headers={"X-API-Key": KEY}, **values)


def _send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    yield from _serve()


@pytest.fixture
def other_server() -> Iterator[Server]:
    yield from _serve()


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients that leave in the middle are what is tested."""


def _serve() -> Iterator[Server]:
    running = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            running.asked.append((self.path, dict(self.headers)))
            running.answer(self)

        do_POST = do_GET  # noqa: N815 - the name is the library's

        def log_message(self, *_: Any) -> None:
            pass

    http = _QuietServer(("127.0.0.1", 0), Handler)
    running.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield running
    http.shutdown()
    http.server_close()


@pytest.fixture(params=[send_on_worker, send_in_triggerer], ids=["sync", "async"])
def send(request: pytest.FixtureRequest) -> Send[Any]:
    sender: Send[Any] = request.param
    return sender


def _call(**settings: Any) -> Call[Any]:
    request = Request(**{"operation": "ask", "method": "GET", "path": "/run/a%2Fb~c/status", **settings})
    return Call(request, lambda response: response.json())


def test_a_quoted_path_arrives_as_it_is_below_the_prefix(server: Server, send: Send[Any]) -> None:
    send(server.settings(base_url=server.url + "/some/prefix"), _call(path="/run/a%2Fb~c/status?limit=5"))
    [(path, headers)] = server.asked
    assert path == "/some/prefix/run/a%2Fb~c/status?limit=5"
    assert headers["X-API-Key"] == KEY
    assert headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    ("status", "error_class"), [(301, APIStatusError), (302, ServerError), (308, APIStatusError)]
)
def test_a_redirect_never_carries_the_key_to_another_host(
    status: int,
    error_class: type[APIStatusError],
    server: Server,
    other_server: Server,
    send: Send[Any],
) -> None:
    server.answer = lambda handler: _send(handler, b"", status, Location=other_server.url + "/login")
    with pytest.raises(error_class, match="which is not followed"):
        send(server.settings(), _call())
    assert other_server.asked == []


def test_a_proxy_is_used_and_its_password_shown_nowhere(server: Server, send: Send[Any]) -> None:
    proxy = server.url.replace("http://", "http://user:proxy-password@")
    settings = server.settings(base_url="http://vendor.invalid", proxy=proxy)
    assert send(settings, _call()) == {}
    [(path, headers)] = server.asked
    assert path == "http://vendor.invalid/run/a%2Fb~c/status"
    assert headers["Proxy-Authorization"].startswith("Basic ")
    with pytest.raises(APIConnectionError) as caught:
        send(server.settings(proxy="http://user:proxy-password@127.0.0.1:9"), _call())
    assert "proxy-password" not in str(caught.value) + repr(settings)
    assert "through the proxy" in str(caught.value)


@pytest.mark.parametrize("proxy", ["{server}", "{host}"], ids=["url", "without-scheme"])
def test_a_proxy_of_the_environment_is_used(
    proxy: str, server: Server, send: Send[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.format(server=server.url, host=server.url[7:]))
    assert send(server.settings(base_url="http://vendor.invalid"), _call()) == {}
    assert server.asked[0][0].startswith("http://vendor.invalid/")
    monkeypatch.setenv("no_proxy", "vendor.invalid")
    with pytest.raises(APIConnectionError, match="no address"):
        send(server.settings(base_url="http://vendor.invalid"), _call())


def test_a_netrc_file_does_not_replace_the_key(
    server: Server, send: Send[Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login mallory password other")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    settings = ClientSettings(
        base_url=server.url, api_key=KEY, auth_headers={"Authorization": f"Bearer {KEY}"}
    )
    send(settings, _call())
    assert server.asked[0][1]["Authorization"] == f"Bearer {KEY}"


def test_a_proxy_for_all_protocols_is_used(
    server: Server, send: Send[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", server.url)
    assert send(server.settings(base_url="http://vendor.invalid"), _call()) == {}


def test_a_long_header_is_taken(server: Server, send: Send[Any]) -> None:
    server.answer = lambda handler: _send(handler, b"{}", Content_Security_Policy="x" * 20_000)
    assert send(server.settings(), _call()) == {}


def test_cookies_are_not_kept(server: Server, send: Send[Any]) -> None:
    server.answer = lambda handler: _send(handler, b"{}", Set_Cookie="session=abc")
    for _ in range(2):
        send(server.settings(), _call())
    assert all("Cookie" not in headers for _, headers in server.asked)


def test_a_body_that_is_too_large_is_not_read_to_its_end(server: Server, send: Send[Any]) -> None:
    written = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(1000 * MEBIBYTE))
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.wfile.write(b"x" * MEBIBYTE)
                written.append(1)
        except OSError:
            handler.close_connection = True

    server.answer = endless
    with pytest.raises(ResponseFormatError, match="larger than 2,097,152 bytes"):
        send(server.settings(), _call(max_bytes=2 * MEBIBYTE))
    assert len(written) < 100


def test_a_compressed_bomb_is_stopped_by_its_size_unpacked(server: Server, send: Send[Any]) -> None:
    bomb = gzip.compress(b" " * (64 * MEBIBYTE))
    server.answer = lambda handler: _send(handler, bomb, Content_Encoding="gzip")
    with pytest.raises(ResponseFormatError, match="larger than"):
        send(server.settings(), _call())


def test_a_compressed_answer_is_read(server: Server, send: Send[Any]) -> None:
    server.answer = lambda handler: _send(handler, gzip.compress(b'{"a": 1}'), Content_Encoding="gzip")
    assert send(server.settings(), _call()) == {"a": 1}


def test_a_body_that_drips_is_given_up(server: Server, send: Send[Any]) -> None:
    """Each byte comes in time, the whole does not."""

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.1)
        except OSError:
            handler.close_connection = True

    server.answer = drip
    with pytest.raises(APITimeoutError):
        send(server.settings(timeout=0.3), _call())


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_stream_is_left_as_soon_as_it_has_told_enough(
    is_chunked: bool, server: Server, send: Send[Any]
) -> None:
    left = threading.Event()

    def stream(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        if is_chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Connection", "close")
        handler.end_headers()
        event = b'{"run": 1}\n'
        try:
            for _ in range(500):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event) if is_chunked else event)
                handler.wfile.flush()
                time.sleep(0.02)
        except OSError:
            left.set()
        handler.close_connection = True

    server.answer = stream
    call = Call(
        Request(
            operation="start", method="POST", path="/", idempotent=False, enough=lambda body: b"\n" in body
        ),
        lambda response: response.body,
    )
    assert send(server.settings(timeout=5), call).startswith(b'{"run": 1}\n')
    assert left.wait(10), "the connection is dropped"


def test_polls_on_a_worker_reuse_one_connection(server: Server) -> None:
    ports = set()

    def remember(handler: BaseHTTPRequestHandler) -> None:
        ports.add(handler.client_address[1])
        _send(handler, b"{}")

    server.answer = remember
    with Client(server.settings()) as client:
        for _ in range(5):
            client.send(_call())
    assert len(ports) == 1


async def test_polls_reuse_one_connection(server: Server) -> None:
    ports = set()

    def remember(handler: BaseHTTPRequestHandler) -> None:
        ports.add(handler.client_address[1])
        _send(handler, b"{}")

    server.answer = remember
    async with AsyncClient(server.settings()) as client:
        for _ in range(5):
            await client.send(_call())
        await asyncio.gather(*(client.send(_call()) for _ in range(50)))
    assert len(ports) <= 4
