"""Which module may import what: the contracts of pyproject.toml, and what an import really loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_imports_keep_the_layers() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import airflow_provider_agentruns", {"airflow", "requests", "aiohttp", "pydantic"}),
        (
            "import airflow_provider_agentruns.get_provider_info",
            {"airflow", "requests", "aiohttp", "pydantic"},
        ),
        ("import airflow_provider_agentruns.client._sync", {"airflow", "aiohttp"}),
        ("import airflow_provider_agentruns.client._async", {"airflow", "requests"}),
        ("import airflow_provider_agentruns.vendors.flowyble", {"airflow", "aiohttp", "requests"}),
        ("import airflow_provider_agentruns.vendors.snorbe", {"airflow", "aiohttp", "requests"}),
        ("import airflow_provider_agentruns.polling.scheduler", {"airflow", "requests", "aiohttp"}),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement: str, absent: set[str]) -> None:
    assert _modules_after(statement) & absent == set()


@pytest.mark.parametrize(
    ("statement", "of_others", "absent"),
    [
        # Airflow imports a trigger's module in the triggerer's loop, where this would block all triggers.
        (
            "import airflow_provider_agentruns.triggers",
            "import airflow.triggers.base",
            {"requests", "aiohttp"},
        ),
        (
            "import airflow_provider_agentruns.simulator",
            "import aiohttp.web",
            {"airflow", "requests", "pydantic"},
        ),
    ],
)
def test_an_import_adds_no_more_than_it_needs(statement: str, of_others: str, absent: set[str]) -> None:
    """Some versions of Airflow load requests by themselves, some of aiohttp pydantic."""
    assert (_modules_after(statement) - _modules_after(of_others)) & absent == set()
