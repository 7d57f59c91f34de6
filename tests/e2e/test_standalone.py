"""What `StandaloneAirflow` does when something goes wrong while it starts."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from demo.airflow_api import AirflowApiError
from demo.processes import session_members
from demo.standalone import StandaloneAirflow

pytestmark = pytest.mark.e2e


def test_component_that_dies_is_named_with_its_log(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    with StandaloneAirflow(dags, home=tmp_path / "home") as airflow:
        session_id = airflow.session_id
        assert session_id is not None
        deadline = time.monotonic() + 60
        while not (schedulers := airflow.component_processes("scheduler")):
            airflow.ensure_running()
            assert time.monotonic() < deadline, "no scheduler was started"
            time.sleep(0.1)
        schedulers[0].kill()

        with pytest.raises(AirflowApiError, match=r"scheduler ended by itself, exit status -9") as caught:
            airflow.wait_until_healthy()

    assert str(airflow.log_folder / "api-server.log") in str(caught.value)
    assert session_members(session_id) == []


def test_asking_before_the_start_says_so(tmp_path: Path) -> None:
    airflow = StandaloneAirflow(tmp_path, home=tmp_path)
    with pytest.raises(AirflowApiError, match="was not started"):
        airflow.wait_until_healthy()
    airflow.stop()
    airflow.stop()


def test_component_is_killed_and_started_again_when_asked(tmp_path: Path) -> None:
    """Another of its kind takes its place, and nothing else ends."""
    dags = tmp_path / "dags"
    dags.mkdir()
    with StandaloneAirflow(dags, home=tmp_path / "home") as airflow:
        session_id = airflow.session_id
        assert session_id is not None

        def scheduler() -> psutil.Process | None:
            return next(iter(airflow.component_processes("scheduler")), None)

        first = airflow.wait_until(scheduler, "a scheduler")
        airflow.signal_component("scheduler", signal.SIGKILL)
        airflow.wait_until(lambda: not first.is_running() or None, "the scheduler to be gone")
        airflow.start_component("scheduler")
        second = airflow.wait_until(scheduler, "another scheduler")
        assert second != first
        airflow.wait_until_healthy()
    assert session_members(session_id) == []
