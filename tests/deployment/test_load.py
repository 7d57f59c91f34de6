"""A thousand runs wait at once under the vendors' documented limit, and each task ends as it must."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deployment.deployment import Deployment
from tests.deployment.load import Load
from tests.deployment.report import load_table, publish
from tests.deployment.vendor_keys import VendorKey

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1500)]

DOCUMENTED_LIMIT = 100
# What the documentation tells two triggerers to set, 80 / 2. One key is left as it comes.
SHARE_OF_TWO = 40
CONNECTIONS_OF_A_KEY = 4
TRIGGERERS = 2
# What Python keeps for itself comes and goes by less than a tenth.
FLAT = 1.1
# Airflow finds a loop blocked that does not turn for so many seconds.
LONGEST_TURN = 0.2


def test_a_thousand_runs_wait_and_end(
    deploy: Callable[[list[VendorKey], dict[str, str]], Deployment], stack: ExitStack, names: Path
) -> None:
    keys = [
        stack.enter_context(
            VendorKey(vendor, name, names=names, requests_per_minute=DOCUMENTED_LIMIT, **extra)
        )
        for vendor, name, extra in (
            ("flowyble", "flowyble_a", {"polls_per_minute": SHARE_OF_TWO}),
            ("flowyble", "flowyble_b", {}),
            ("snorbe", "snorbe_c", {"polls_per_minute": SHARE_OF_TWO}),
        )
    ]
    airflow = deploy(keys, {})

    result = Load(airflow, keys, runs=1000, hold_seconds=90, ends_per_minute=220).run()

    publish(load_table(result), "load")
    assert result.problems == []
    assert result.duplicates == []
    assert [blocked for blocked in result.blocked if blocked.worked > LONGEST_TURN] == []
    assert result.most_waiting == result.runs
    assert result.restarts == 0
    assert airflow.triggers() == 0
    assert max(result.most_in_a_minute.values()) <= DOCUMENTED_LIMIT
    assert sum(result.refused.values()) <= 0.02 * sum(result.requests.values())
    most = CONNECTIONS_OF_A_KEY * TRIGGERERS * len(keys)
    assert max(sample.connections for sample in result.held) <= most
    for megabytes in (result.held[-1].megabytes, result.megabytes_in_the_end):
        assert megabytes <= FLAT * result.held[0].megabytes
    assert airflow.files_that_hold(value for key in keys for value in key.values) == []
