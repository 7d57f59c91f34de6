"""The servers of a deployment end with whoever started them, and what is missing is named."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil  # type: ignore[import-untyped]
import pytest

from demo.standalone import PROJECT
from tests.deployment.services import Postgres, Redis

pytestmark = pytest.mark.deploy

START = """
import signal
import time
from tests.deployment.services import Postgres, Redis
signal.signal(signal.SIGINT, signal.default_int_handler)
# What a shell starts in the background ignores this signal, and so does what is started there.
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
with Postgres() as postgres, Redis() as redis:
    print(postgres._process.pid, redis._process.pid, flush=True)
    print(postgres._directory, redis._directory, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_servers_end_with_who_started_them(number: signal.Signals, installed: Callable[..., None]) -> None:
    installed(Postgres, Redis)
    with subprocess.Popen(
        [sys.executable, "-c", START],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as starter:
        assert starter.stdout
        servers = [psutil.Process(int(pid)) for pid in starter.stdout.readline().split()]
        directories = starter.stdout.readline().split()
        starter.send_signal(number)

    _, alive = psutil.wait_procs(servers, timeout=20)

    assert len(servers) == 2
    assert alive == []
    if number is signal.SIGINT:
        assert [path for path in directories if os.path.lexists(path)] == []
    else:
        for path in directories:
            shutil.rmtree(path)
