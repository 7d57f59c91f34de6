"""
What a task fails with. Each error names the run and the connection.

::

    AirflowException
    └── AgentRunException
        ├── AgentRunFailed         the run ended, and not well
        ├── AgentRunCancelled      the run was cancelled
        ├── AgentRunRefused        the vendor does not let us see or start it
        ├── AgentRunNeedsHuman     the run asks something that nobody is to answer, or too often
        │   ├── AgentRunRejected       a human said no; not retried
        │   └── AgentRunUnanswered     no human responded in time
        ├── AgentRunTimeout        the deadline passed
        │   └── AgentRunStalled    the vendor showed no change of the run for too long
        └── AgentRunUnreadable     starting, waiting or reading the result went wrong
            ├── AgentRunRateLimited       the vendor takes no start now, but will later
            └── AgentRunStartUncertain    whether a run was started is not known; not retried

Sensors raise variants of the first three that are also ``AirflowFailException``: a run that has ended
stays so, and retrying would only ask again.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_agentruns.client.models import Run
from airflow_provider_agentruns.client.text import one_line

_LONGEST_MESSAGE = 10_000


class AgentRunException(AirflowException):
    """
    A task could not bring its run to a good end.

    :param run_id: the run, where it is known.
    :param run: the run as last seen, where it was.
    """

    def __init__(self, message: str, *, run_id: str | None = None, run: Run | None = None) -> None:
        # It quotes vendors and Airflow; no part of it may look like another line of the log.
        super().__init__(one_line(message, _LONGEST_MESSAGE))
        self.run_id = run_id
        self.run = run


class AgentRunFailed(AgentRunException):
    """The run failed at the vendor."""


class AgentRunCancelled(AgentRunException):
    """The run was cancelled at the vendor."""


class AgentRunRefused(AgentRunException):
    """The vendor refused a request, or it could not have been right."""


class AgentRunNeedsHuman(AgentRunException):
    """The run asks a human for something that the task has no answer to; it goes on waiting at the vendor."""


class AgentRunRejected(AgentRunNeedsHuman, AirflowFailException):
    """A human rejected in Airflow what the run asks; asking again in a retry would not change that."""


class AgentRunUnanswered(AgentRunNeedsHuman):
    """No human responded in Airflow within the time given, and no default was."""


class AgentRunTimeout(AgentRunException):
    """The run had not ended when the deadline passed."""


class AgentRunStalled(AgentRunTimeout):
    """The vendor showed no change of the run for longer than the stall timeout."""


class AgentRunUnreadable(AgentRunException):
    """Starting or waiting for the run, or reading its result, went wrong; how it stands is not known."""


class AgentRunRateLimited(AgentRunUnreadable):
    """
    The vendor took no start because of its rate limit; nothing was started.

    :param retry_after: seconds after which the vendor wants to be asked again, if it said so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AgentRunStartUncertain(AgentRunUnreadable, AirflowFailException):
    """Whether a run was started is not known: a retry could start, and pay for, a second one."""


class SensedRunFailed(AgentRunFailed, AirflowFailException):
    """The run that a sensor waited on failed."""


class SensedRunsFailed(AgentRunFailed, AirflowFailException):
    """Too few of the runs that a sensor waited on succeeded."""


class SensedRunCancelled(AgentRunCancelled, AirflowFailException):
    """The run that a sensor waited on was cancelled."""


class SensedRunNeedsHuman(AgentRunNeedsHuman, AirflowFailException):
    """The run that a sensor waited on asks a human."""


class SensedRunRefused(AgentRunRefused, AirflowFailException):
    """The vendor does not let a sensor see its run."""
