"""The table of versions and features tells the truth about the environment that the tests run in."""

from __future__ import annotations

import pytest

from matrix import table
from tests.features import environment


def test_the_documented_features_are_those_of_this_environment() -> None:
    found = environment()
    rows = table.read()
    if found["python"] not in {row.python for row in rows}:
        pytest.skip(f"the documentation tells of no Python {found['python']}")
    its_own = [row for row in rows if (row.airflow, row.python) == (found["airflow"], found["python"])]
    assert its_own, "`UPDATE_DOCS=1 make test-matrix MATRIX=3.3` adds the newest Airflow"
    for row in its_own:
        assert row.features == found["features"]


def test_no_test_failed_in_what_is_documented() -> None:
    assert [row.key for row in table.read() if row.failed or not row.passed] == []
