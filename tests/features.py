"""
What differs between the versions of Airflow that are supported, and what the Airflow under test has of it.

A feature is looked for, never told from a version's number: the tests that need one are skipped where it is
missing, and the table in ``docs/versions.md`` shows where it is. ``python -m tests.features`` prints what the
environment has, as JSON.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from airflow import __version__ as airflow_version
from airflow.providers_manager import ProvidersManager
from airflow.sdk import Context
from airflow.triggers.base import BaseTrigger

from airflow_provider_agentruns import hitl
from airflow_provider_agentruns.start_from_trigger import can_start_from_trigger


class Feature(NamedTuple):
    """
    Something that only some versions of Airflow let the package do.

    :param title: the head of its column in the documentation.
    :param is_there: looks for it.
    """

    title: str
    is_there: Callable[[], bool]

    @property
    def missing(self) -> str:
        """Say why a test is skipped."""
        return f"Airflow {airflow_version} lacks: {self.title}"

    @property
    def needed(self) -> pytest.MarkDecorator:
        """Skip a test where the feature is missing."""
        return pytest.mark.skipif(not self.is_there(), reason=self.missing)


def _can_import(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


def _can_wait() -> bool:
    modules = ("operators", "sensors", "triggers", "hooks")
    return all(importlib.import_module(f"airflow_provider_agentruns.{module}") for module in modules)


def _shows_forms() -> bool:
    return "snorbe" in ProvidersManager().field_behaviours


WAITS = Feature("starts, waits deferred and on a worker", _can_wait)
FORMS = Feature("connection form with own fields", _shows_forms)
HUMANS = Feature('`on_human_request="ask"`', lambda: hitl.IS_AVAILABLE)
START_RECORD = Feature("retry goes on with the run", lambda: "task_state_store" in Context.__annotations__)
KILLS = Feature("kill of a deferred task cancels the run", lambda: hasattr(BaseTrigger, "on_kill"))
RETRY_POLICY = Feature("retry policy", lambda: _can_import("airflow.sdk.definitions.retry_policy"))
START_IN_TRIGGERER = Feature("`start_from_trigger`", lambda: can_start_from_trigger("run_id"))

FEATURES = (WAITS, FORMS, HUMANS, START_RECORD, KILLS, RETRY_POLICY, START_IN_TRIGGERER)


def environment() -> dict[str, Any]:
    """Return the versions of the environment, and which features are there by their titles."""
    return {
        "airflow": airflow_version,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "features": {feature.title: feature.is_there() for feature in FEATURES},
    }


if __name__ == "__main__":
    print(json.dumps(environment()))  # noqa: T201 - what it is for
