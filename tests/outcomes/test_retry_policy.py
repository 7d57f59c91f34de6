"""What a retry policy makes of the errors that tasks really fail with."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_agentruns.exceptions import AgentRunRateLimited
from airflow_provider_agentruns.operators import AgentRunOperator
from airflow_provider_agentruns.simulator import Simulator
from tests.features import RETRY_POLICY

from .task_runs import run_task

if not RETRY_POLICY.is_there():
    pytest.skip(RETRY_POLICY.missing, allow_module_level=True)

from airflow.providers.common.compat.sdk import RetryAction, RetryDecision, RetryPolicy

from airflow_provider_agentruns.retry_policy import AgentRunRetryPolicy


def _decide(policy: RetryPolicy, conn_id: str, **kwargs: Any) -> RetryDecision:
    operator = AgentRunOperator(task_id="t", conn_id=conn_id, poll_interval=0.02, **kwargs)
    error = run_task(operator).error
    assert error is not None
    return policy.evaluate(error, try_number=1, max_tries=2)


@pytest.mark.parametrize("reason", ["key", "credits", "input"])
def test_what_the_vendor_refuses_is_not_retried(
    reason: str, simulator: Simulator, connections: dict[str, str]
) -> None:
    key = simulator.flowyble_key
    if reason == "key":
        simulator.revoke_key("flowyble", key)
    if reason == "credits":
        simulator.add_key("flowyble", key, has_credits=False)
    agent_id = "not a uuid" if reason == "input" else "5e1b6f0a-3c5d-4f6e-8a7b-0c1d2e3f4a5b"
    decision = _decide(AgentRunRetryPolicy(), connections["flowyble"], agent_id=agent_id, message="Hello.")
    assert decision.action is RetryAction.FAIL
    assert simulator.starts() == []


def test_a_start_held_back_by_the_rate_limit_is_retried_after_the_time_that_the_vendor_gave(
    simulator: Simulator, connections: dict[str, str]
) -> None:
    """Up to five minutes the worker waits for by itself."""
    simulator.add_fault("rate_limit", operation="snorbe.run.start", retry_after=1200)
    decision = _decide(AgentRunRetryPolicy(), connections["snorbe"], message="Hello.")
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(minutes=20))
    assert simulator.starts() == []


def test_where_the_vendor_gives_no_time_the_tasks_own_delay_counts() -> None:
    error = AgentRunRateLimited("too many")
    decision = AgentRunRetryPolicy().evaluate(error, try_number=1, max_tries=2)
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, None)


@pytest.mark.parametrize("scenario", ["fail", "cancel"])
@pytest.mark.parametrize(
    ("policy", "action"),
    [
        (AgentRunRetryPolicy(), RetryAction.DEFAULT),
        (AgentRunRetryPolicy(retry_failed_runs=False), RetryAction.FAIL),
    ],
)
def test_a_run_that_came_to_nothing_is_retried_as_configured(
    policy: AgentRunRetryPolicy, action: RetryAction, scenario: str, connections: dict[str, str]
) -> None:
    decision = _decide(policy, connections["snorbe"], message=f"[sim: {scenario}, duration=0]")
    assert decision.action is action


def test_a_timeout_is_retried_as_any_error_is(connections: dict[str, str]) -> None:
    policy = AgentRunRetryPolicy(retry_failed_runs=False)
    decision = _decide(policy, connections["snorbe"], message="[sim: never]", timeout=0.1)
    assert decision.action is RetryAction.DEFAULT


def test_a_policy_survives_its_serialization() -> None:
    policy = AgentRunRetryPolicy(retry_failed_runs=False)
    assert AgentRunRetryPolicy.deserialize(policy.serialize()).retry_failed_runs is False
