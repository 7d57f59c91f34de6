"""`python -m demo` leaves nothing behind, however it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from demo.processes import end_session, session_members
from demo.standalone import PROJECT

pytestmark = pytest.mark.e2e

# Enough to have got through its imports and to have forked Airflow's components.
_FORKED = 3


def wait_until(happened: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)


def is_gone(process: psutil.Process) -> bool:
    # A zombie is gone too: an orphan is reaped by the machine's first process, if that does such things.
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("signals", "exit_status"),
    [
        pytest.param([signal.SIGINT], 130, id="ctrl-c"),
        pytest.param([signal.SIGINT, signal.SIGINT], 130, id="ctrl-c twice"),
        pytest.param([signal.SIGTERM], 143, id="terminated"),
        pytest.param([signal.SIGKILL], -signal.SIGKILL, id="killed"),
    ],
)
def test_interrupted_demo_leaves_no_process(
    tmp_path: Path, signals: list[signal.Signals], exit_status: int
) -> None:
    output = tmp_path / "output.txt"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with output.open("wb") as file:
        demo = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=PROJECT,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    launcher: psutil.Process | None = None
    try:

        def airflow_is_starting() -> bool:
            nonlocal launcher
            assert demo.poll() is None, output.read_text()
            children = psutil.Process(demo.pid).children()
            launcher = children[0] if children else None
            return launcher is not None and len(session_members(launcher.pid)) >= _FORKED

        wait_until(airflow_is_starting, "Airflow to start")
        assert launcher is not None
        for number in signals:
            demo.send_signal(number)

        assert demo.wait(timeout=60) == exit_status, output.read_text()
        wait_until(lambda: is_gone(launcher), "the launcher to end")
        assert session_members(launcher.pid) == []
        # Only a demo that was killed outright cannot remove its temporary files.
        assert exit_status < 0 or not list(temporary.glob("agentruns-*"))
    finally:
        demo.kill()
        demo.wait()
        if launcher is not None:
            end_session(launcher.pid, grace=0)
