from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_agentruns.testing import Send, send_in_triggerer, send_on_worker
from tests.hostile.hostile_server import HostileServer


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


@pytest.fixture(scope="module")
def other_server() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


@pytest.fixture(scope="module", params=[send_on_worker, send_in_triggerer], ids=["sync", "async"])
def send(request: pytest.FixtureRequest) -> Send[Any]:
    sender: Send[Any] = request.param
    return sender
