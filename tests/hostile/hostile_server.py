"""A server that answers with any bytes it is told to, at any pace, and keeps what it was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NamedTuple, Self

from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.vendors.base import VendorAdapter

KEY = "key_of_the_hostile_tests_0001"
_PATIENCE = 20.0


class Asked(NamedTuple):
    """A request as it came in, byte for byte."""

    target: str
    headers: list[tuple[str, str]]
    body: bytes


class HostileServer:
    """
    Serve on a loopback port, a connection for each request.

    :ivar answer: gives the bytes to answer a request with, in the pieces in which they are sent.
    :ivar pause: seconds between the pieces.
    :ivar sent: bytes of answers that clients took.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Asked], Iterable[bytes]] = lambda _: ()
        self.pause = 0.0
        self.asked: list[Asked] = []
        self.sent = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def settings(self, adapter: VendorAdapter, **changes: Any) -> ClientSettings:
        """Return how an adapter's calls reach this server."""
        values: dict[str, Any] = {"base_url": self.url, "timeout": 5.0, **changes}
        return ClientSettings(api_key=KEY, auth_headers=adapter.auth_headers(KEY), **values)

    def answers(self, body: bytes, *, status: int = 200, headers: bytes = b"", pause: float = 0.0) -> None:
        """Answer each request from now on with a body."""
        whole = head(status, headers + b"Content-Length: %d\r\n" % len(body)) + body
        self.pieces(whole, pause=pause)

    def pieces(self, *pieces: bytes, pause: float = 0.0) -> None:
        """Answer each request from now on with these pieces."""
        self.asked, self.sent, self.pause = [], 0, pause
        self.answer = lambda _: pieces

    def endless(self, beginning: bytes, piece: bytes, *, times: int = 100_000, pause: float = 0.0) -> None:
        """Answer each request from now on with the same piece again and again."""
        self.pieces(pause=pause)

        def answer(asked: Asked) -> Iterable[bytes]:
            yield beginning
            for _ in range(times):
                yield piece

        self.answer = answer

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(_PATIENCE)
            # As it comes: a pause is the test's affair, not the kernel's.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = connection.makefile("rb")
            target = reader.readline().decode().split(" ", 1)[1].rsplit(" ", 1)[0]
            headers = []
            while line := reader.readline().strip():
                name, _, value = line.decode().partition(":")
                headers.append((name.lower(), value.strip()))
            body = reader.read(int(dict(headers).get("content-length", "0")))
            asked = Asked(target, headers, body)
            self.asked.append(asked)
            for piece in self.answer(asked):
                connection.sendall(piece)
                self.sent += len(piece)
                if self.pause:
                    time.sleep(self.pause)
            # Closing with unread input would reset the connection and take the answer with it.
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)


def head(status: int = 200, headers: bytes = b"") -> bytes:
    """Return an answer's status line and headers."""
    return b"HTTP/1.1 %d Whatever\r\nContent-Type: application/json\r\nConnection: close\r\n%b\r\n" % (
        status,
        headers,
    )
