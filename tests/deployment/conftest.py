"""Services, vendors and Airflow of a deployment; `--deployment=long` is the long form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deployment.deployment import Deployment
from tests.deployment.services import Postgres, Redis
from tests.deployment.vendor_keys import VendorKey


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the load out of the short form: it has none."""
    is_short = config.getoption("--deployment") == "short"
    return True if is_short and collection_path.name == "test_load.py" else None


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Return what ends the vendors with the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def database(installed: Callable[..., None]) -> Iterator[Postgres]:
    installed(Postgres, Redis)
    with Postgres() as postgres:
        yield postgres


@pytest.fixture
def broker(installed: Callable[..., None]) -> Iterator[Redis]:
    installed(Redis)
    with Redis() as redis:
        yield redis


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """Return the file of the names that resolve."""
    path = tmp_path / "names"
    path.write_text("")
    return path


@pytest.fixture
def deploy(
    database: Postgres, broker: Redis, names: Path, tmp_path: Path
) -> Iterator[Callable[..., Deployment]]:
    """Return what starts an Airflow with these settings and these keys, and ends it with the test."""
    started: list[Deployment] = []

    def start(keys: list[VendorKey], environment: dict[str, str]) -> Deployment:
        airflow = Deployment(
            database, broker, home=tmp_path / "airflow", names=names, environment=environment
        )
        started.append(airflow)
        airflow.start()
        airflow.wait_until_complete()
        for key in keys:
            key.connect(airflow)
        return airflow

    try:
        yield start
    finally:
        for airflow in started:
            airflow.stop()
