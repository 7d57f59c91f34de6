"""Fixtures of all tests. Airflow reads its configuration at import, so it is set before anything else."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings

_AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="agentruns-tests-"))
atexit.register(shutil.rmtree, _AIRFLOW_HOME, ignore_errors=True)
_DAGS = _AIRFLOW_HOME / "dags"
# A copy, so that tests can put DAGs of their own beside the examples.
shutil.copytree(Path(__file__).parents[1] / "example_dags", _DAGS / "example_dags")

os.environ.update(
    {
        "AIRFLOW_HOME": str(_AIRFLOW_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(_DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_AIRFLOW_HOME}/airflow.db",
        # No supervisor stands between these tests and a trigger's first poll.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "0",
        # A proxy of the machine must not stand between the tests and their own servers.
        "NO_PROXY": "127.0.0.1,localhost",
    }
)

pytest.register_assert_rewrite("airflow_provider_agentruns.testing")

# The same examples each time, and none fails for a pause of the machine.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

from airflow_provider_agentruns.simulator import Simulator  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take how long the tests of a deployment may be."""
    parser.addoption(
        "--deployment", choices=("short", "long"), default="short", help="form of tests/deployment"
    )


@pytest.fixture(scope="session")
def is_long(request: pytest.FixtureRequest) -> bool:
    """Tell whether the long form of the tests of a deployment is asked for."""
    return bool(request.config.getoption("--deployment") == "long")


@pytest.fixture(scope="session")
def installed(is_long: bool) -> Callable[..., None]:
    """Return what installs the programs of services that are missing, or skips the test.

    It fails instead where somebody has asked for what the test makes.
    """
    from tests.debian_packages import ProgramsMissingError, ensure_installed  # noqa: PLC0415 - for few tests
    from tests.deployment.services import Service, find_program  # noqa: PLC0415

    def ensure(*services: type[Service]) -> None:
        packages = {program: name for each in services for program, name in each.packages.items()}
        try:
            ensure_installed(packages, find_program)
        except ProgramsMissingError as error:
            if is_long or os.environ.get("UPDATE_DOCS"):
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))

    return ensure


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Run a simulator with a limit that tests do not reach, and runs that end soon."""
    with Simulator(median_seconds=0.1, sigma=0.1, requests_per_minute=100_000, seed=7) as running:
        yield running


@pytest.fixture
def connections(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make a connection to each vendor of the simulator, and return their ids."""
    return _connect(simulator, monkeypatch, "test")


@pytest.fixture
def default_connections(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the connections that the example DAGs and the documentation use."""
    _connect(simulator, monkeypatch, "default")


def _connect(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, suffix: str) -> dict[str, str]:
    keys = {"flowyble": simulator.flowyble_key, "snorbe": simulator.snorbe_key}
    for conn_type, key in keys.items():
        extra = {"polls_per_minute": 100_000}
        value = {"conn_type": conn_type, "host": simulator.url, "password": key, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_type}_{suffix}".upper(), json.dumps(value))
    return {conn_type: f"{conn_type}_{suffix}" for conn_type in keys}


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow's supervisor, which a worker and a triggerer have, answer that it knows no connection."""
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415 - loads Airflow, for few tests
    from airflow.sdk.execution_time.comms import ErrorResponse  # noqa: PLC0415

    answer = ErrorResponse.model_validate({"error": "CONNECTION_NOT_FOUND"})

    async def asend(_: object) -> ErrorResponse:
        return answer

    supervisor = SimpleNamespace(send=lambda _: answer, asend=asend)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)


@pytest.fixture
def dags_folder() -> Path:
    """Return the folder whose DAGs Airflow knows in the tests."""
    return _DAGS


@pytest.fixture(scope="session")
def metadata_database() -> None:
    """Make Airflow's metadata database, once for all tests that need one."""
    from airflow.utils.db import initdb  # noqa: PLC0415 - loads the whole ORM, for few tests

    initdb()
