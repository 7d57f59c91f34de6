"""Find, signal and end processes of a session, whatever process groups its members moved to."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil  # type: ignore[import-untyped]

_KILL_WAIT = 5.0


def session_members(session_id: int) -> list[psutil.Process]:
    """List the living processes of a session, without its leader.

    A process group is not enough: Airflow puts each task and each parser into a group of its own, but all
    of them stay in the session that they were started in.
    """
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if (
                process.pid != session_id
                and os.getsid(process.pid) == session_id
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                members.append(process)
    return members


def end_session(session_id: int, *, grace: float) -> None:
    """Ask the members of a session to end, and after `grace` seconds kill those that did not."""
    members = session_members(session_id)
    _signal(members, signal.SIGTERM)
    psutil.wait_procs(members, timeout=grace)
    deadline = time.monotonic() + _KILL_WAIT
    # A member may fork between the look and the kill, so look again until nobody is left.
    while (members := session_members(session_id)) and time.monotonic() < deadline:
        _signal(members, signal.SIGKILL)
        psutil.wait_procs(members, timeout=0.5)


def signal_family(pid: int, number: signal.Signals, *, with_children: bool) -> None:
    """Send a signal to a process and, if asked, to all its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        _signal([process, *(process.children(recursive=True) if with_children else ())], number)


def _signal(processes: list[psutil.Process], signal_number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal_number)
