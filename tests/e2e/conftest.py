"""One simulator and one real Airflow for all tests of this folder; starting it takes some twenty seconds."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_agentruns.simulator import Simulator
from demo.airflow_environment import connection
from demo.standalone import PROJECT, StandaloneAirflow

REFUSED_KEY = f"flw_key_refused_{secrets.token_hex(16)}"


@pytest.fixture(scope="package")
def simulator() -> Iterator[Simulator]:
    # Random keys: one that is found in a log or in the database was leaked by this very session.
    with Simulator(
        median_seconds=3,
        flowyble_key=f"flw_key_{secrets.token_hex(16)}",
        snorbe_key=f"snorbe_{secrets.token_hex(16)}",
    ) as simulator:
        yield simulator


@pytest.fixture(scope="package")
def airflow(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneAirflow]:
    connections = {
        "flowyble_default": connection("flowyble", host=simulator.url, password=simulator.flowyble_key),
        "snorbe_default": connection("snorbe", host=simulator.url, password=simulator.snorbe_key),
        "flowyble_refused": connection("flowyble", host=simulator.url, password=REFUSED_KEY),
    }
    dags = tmp_path_factory.mktemp("dags")
    for source in (PROJECT / "example_dags", Path(__file__).parent / "dags"):
        shutil.copytree(source, dags, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    with StandaloneAirflow(dags, connections=connections, home=tmp_path_factory.mktemp("airflow")) as airflow:
        airflow.wait_until_healthy()
        airflow.wait_for_dags(
            [
                "e2e_retried",
                "e2e_secrets",
                "e2e_without_worker",
                "example_agentruns_fan_out",
                "example_agentruns_review",
                "example_agentruns_start_and_branch",
                "example_agentruns_two_vendors",
                "example_agentruns_wait_and_chain",
            ]
        )
        yield airflow
