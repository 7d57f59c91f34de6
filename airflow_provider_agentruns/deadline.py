"""When a wait ends: one wall-clock deadline for each try, however often it is deferred or moved."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import NamedTuple

BACKSTOP = timedelta(minutes=10)
# Airflow ends a task that is deferred at its execution timeout, and asks nobody. Our deadline comes before.
_LONGEST_HEAD_START = 10.0


def bounded(timeout: float, execution_timeout: timedelta | None) -> float:
    """
    Return the shorter of both, in seconds. Airflow does not keep the second while a task is deferred.

    :param timeout: seconds.
    """
    return min(timeout, execution_timeout.total_seconds()) if execution_timeout else timeout


def backstop(end_time: float) -> timedelta:
    """
    Return the timeout to defer with. The trigger keeps the deadline.

    Airflow's own timeout, which ends a task without asking us, comes later: for a triggerer that is away.

    :param end_time: the deadline, seconds since the epoch.
    """
    return timedelta(seconds=max(0.0, end_time - time.time())) + BACKSTOP


class Deadline(NamedTuple):
    """
    A wait that began without a worker.

    :param since: when it began, seconds since the epoch.
    :param end_time: when to give up, seconds since the epoch.
    """

    since: float
    end_time: float

    @classmethod
    def of(cls, timeout_after: datetime | None, timeout: float, execution_timeout: float | None) -> Deadline:
        """
        Tell from when Airflow would end a task's deferral when it began, and when we are to give up.

        The arguments of the trigger are as old as the DAG's last change, so they cannot tell. This gives the
        same after a triggerer was restarted.

        :param timeout_after: when Airflow would end it; the wait begins now, if that is not known.
        :param timeout: of the sensor, seconds.
        :param execution_timeout: of the task, seconds.
        """
        lasts = timeout + BACKSTOP.total_seconds()
        if execution_timeout is not None and execution_timeout < lasts:
            lasts = execution_timeout
            timeout = min(timeout, execution_timeout - min(_LONGEST_HEAD_START, execution_timeout / 10))
        since = timeout_after.timestamp() - lasts if timeout_after else time.time()
        return cls(since, since + timeout)
