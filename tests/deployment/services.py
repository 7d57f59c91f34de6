"""PostgreSQL and Redis of our own, on free loopback ports, from Debian's packages."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from demo.airflow_environment import LOOPBACK, free_port

_DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")
_POSTGRES_USER = "postgres"
_READY_SECONDS = 30.0
_STOP_SECONDS = 10.0


def find_program(name: str) -> str | None:
    """Return where a program is; Debian keeps PostgreSQL's, but for the clients, out of the PATH."""
    newest_first = sorted(_DEBIAN_POSTGRESQL.glob(f"*/bin/{name}"), key=_major_version, reverse=True)
    return shutil.which(name) or next(map(str, newest_first), None)


class Service:
    """
    A server process that ends with us, whatever ends us; use it in a `with` statement.

    :ivar port: where it listens, also after a restart.
    """

    name = ""
    # The Debian package of each program that it takes.
    packages: ClassVar[dict[str, str]] = {"setpriv": "util-linux"}

    def __init__(self) -> None:
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self._directory = Path(tempfile.mkdtemp(prefix=f"agentruns-{self.name}-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def prepare(self) -> None:
        """Make what the first start needs."""

    def command(self) -> Sequence[str]:
        """Return what starts the server."""
        raise NotImplementedError

    def configuration(self) -> bytes:
        """Return what the server reads from its standard input."""
        return b""

    def start(self) -> None:
        """Start it and return when it takes connections."""
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_its_user(), f"--pdeathsig={self._crash.name}", *self.command()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                # A Ctrl-C in the terminal goes to us alone; we end the others in order.
                start_new_session=True,
            )
        if self._process.stdin:
            self._process.stdin.write(self.configuration())
            self._process.stdin.close()
        deadline = time.monotonic() + _READY_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self._directory / "server.log").read_text(errors="replace")
                raise RuntimeError(f"{self.name} did not start:\n{log_text[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self._crash)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None

    _crash = signal.SIGKILL

    def _as_its_user(self) -> list[str]:
        return [str(find_program("setpriv"))]

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), timeout=1):
            return True
        return False


class Postgres(Service):
    """PostgreSQL. It refuses to run as root, so root runs it as the user that its package made."""

    name = "postgresql"
    packages: ClassVar[dict[str, str]] = {**Service.packages, "postgres": "postgresql"}
    # Its children end with it, nothing is written down: what was committed is in its log. It handles this
    # signal itself, also where a shell has started us in the background, with the signal ignored.
    _crash = signal.SIGQUIT

    @property
    def url(self) -> str:
        """Return the database's URL as SQLAlchemy wants it."""
        return f"postgresql+psycopg2://{self._user}:{self.password}@{LOOPBACK}:{self.port}/postgres"

    @property
    def _user(self) -> str:
        return "agentruns"

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def prepare(self) -> None:
        """Make the cluster."""
        password_file = self._directory / "password"
        password_file.write_text(self.password)
        if os.geteuid() == 0:
            for path in (self._directory, password_file):
                shutil.chown(path, user=_POSTGRES_USER)
        arguments = [
            *self._as_its_user(),
            *(str(find_program("initdb")), "--pgdata", str(self._data), "--username", self._user),
            *("--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--no-locale"),
            "--no-sync",
        ]
        done = subprocess.run(arguments, cwd=self._directory, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")

    def command(self) -> Sequence[str]:
        """Return what starts the server."""
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            # A crash of the server loses nothing so; only one of the machine could.
            "fsync": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(find_program("postgres")), "-D", str(self._data), *options]

    def _as_its_user(self) -> list[str]:
        if os.geteuid() != 0:
            return super()._as_its_user()
        user = f"--reuid={_POSTGRES_USER}", f"--regid={_POSTGRES_USER}"
        return [*super()._as_its_user(), *user, "--clear-groups"]

    def _is_ready(self) -> bool:
        ready = [str(find_program("pg_isready")), "--quiet", "--host", LOOPBACK, "--port", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0


class Redis(Service):
    """Redis that keeps nothing on disk: what it held is lost when it is restarted."""

    name = "redis"
    packages: ClassVar[dict[str, str]] = {**Service.packages, "redis-server": "redis-server"}

    @property
    def url(self) -> str:
        """Return the broker's URL."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def command(self) -> Sequence[str]:
        """Return what starts the server."""
        return [str(find_program("redis-server")), "-"]

    def configuration(self) -> bytes:
        """Return its configuration; on the command line everybody could read the password."""
        lines = (
            f"bind {LOOPBACK}",
            f"port {self.port}",
            f"requirepass {self.password}",
            'save ""',
            "appendonly no",
        )
        return "\n".join((*lines, "")).encode()


def _major_version(program: Path) -> int:
    version = program.parts[-3]
    return int(version) if version.isdigit() else 0
