"""When a task that failed is worth another try; for Airflow 3.3 and newer, which has retry policies."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import Context

try:
    from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy
except ImportError as error:
    raise ImportError(
        f"AgentRunRetryPolicy needs Airflow 3.3 or newer, and this is {airflow_version}: leave it out, and "
        "tasks are retried as their retries say"
    ) from error

from airflow_provider_agentruns.exceptions import (
    AgentRunCancelled,
    AgentRunFailed,
    AgentRunRateLimited,
    AgentRunRefused,
)

__all__ = ["AgentRunRetryPolicy"]


class AgentRunRetryPolicy(RetryPolicy):
    """
    Retry what another try can mend, within the task's ``retries``.

    - Refused by the vendor (a bad key, no credits, bad input): not retried.
    - Not started because of the rate limit: retried after the time that the vendor gave.
    - The run failed or was cancelled: retried, which starts another run, unless told not to.
    - All else, such as a timeout: as the task is configured.

    :param retry_failed_runs: whether another run is worth its price when one failed or was cancelled.
    """

    def __init__(self, *, retry_failed_runs: bool = True) -> None:
        self.retry_failed_runs = retry_failed_runs

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """
        Decide what follows from a task's failure.

        :param exception: what the task failed with.
        """
        if isinstance(exception, AgentRunRateLimited):
            wait = exception.retry_after
            delay = None if wait is None else timedelta(seconds=wait)
            return RetryDecision.retry(delay, "the vendor's rate limit held the start back")
        if isinstance(exception, AgentRunRefused):
            return RetryDecision.fail("the vendor would refuse it again")
        if isinstance(exception, AgentRunFailed | AgentRunCancelled) and not self.retry_failed_runs:
            return RetryDecision.fail("another run is not wanted after one that came to nothing")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Return the arguments as JSON data."""
        return {"retry_failed_runs": self.retry_failed_runs}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> AgentRunRetryPolicy:
        """Return the policy with these arguments."""
        return cls(**data)
