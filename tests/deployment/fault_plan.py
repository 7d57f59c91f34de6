"""Which faults a deployment must survive, and what each recovery may take by the settings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from tests.airflow_patience import IMPATIENCE
from tests.deployment.deployment import TRIGGERERS, WORKER, Deployment
from tests.deployment.faults import Fault
from tests.deployment.services import Postgres, Redis
from tests.deployment.vendor_keys import VendorKey

# Seconds, all of them.
REQUEST_TIMEOUT = 10
TRIGGERER_THRESHOLD = 10
SCHEDULER_THRESHOLD = 15
QUEUED_TIMEOUT = 15
QUEUED_CHECK = 5
HEARTBEAT_TIMEOUT = 12
# Polls of all runs that wait: each at its interval of 10 s, give or take a tenth.
ROUND = 11
LONGEST_PROBE_WAIT = 30
LONGEST_BACKOFF = 60
PAUSE_AFTER_429 = 60
# What two busy cores take to start a component and to run some tasks is no setting.
MACHINE = 45

ENVIRONMENT = {
    **IMPATIENCE,
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": str(SCHEDULER_THRESHOLD),
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT),
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": str(QUEUED_TIMEOUT),
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": str(QUEUED_CHECK),
    # A few at a time, so that both triggerers get some.
    "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": "10",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(TRIGGERER_THRESHOLD),
}

Batch = tuple[Fault, ...]


def short_plan(
    airflow: Deployment, database: Postgres, broker: Redis, keys: Sequence[VendorKey]
) -> Iterable[Batch]:
    """Return the few faults that every run of the tests carries out."""
    return (
        (triggerer_killed(airflow, keys), server_errors(keys[1], seconds=15)),
        (worker_killed(airflow, keys),),
        (broker_restarted(airflow, broker, keys), database_restarted(database, keys)),
    )


def long_plan(
    airflow: Deployment, database: Postgres, broker: Redis, keys: Sequence[VendorKey]
) -> Iterable[Batch]:
    """Return all faults, those of different keys at the same time."""
    a, b, c = keys
    return (
        (triggerer_killed(airflow, keys),),
        (both_triggerers_killed(airflow, keys),),
        (scheduler_killed(airflow, keys),),
        (worker_killed(airflow, keys),),
        (database_restarted(database, keys),),
        (broker_restarted(airflow, broker, keys),),
        (away(a, seconds=120), server_errors(b, seconds=60), rate_limit(c, seconds=60)),
        (hanging(a, seconds=40), garbage(b, seconds=40), no_such_name(c, seconds=40)),
        (key_replaced(airflow, a), key_replaced(airflow, c)),
    )


def triggerer_killed(airflow: Deployment, keys: Sequence[VendorKey]) -> Fault:
    """Kill one triggerer; the other must take over."""

    def kill() -> None:
        if len(airflow.triggers_of_triggerers()) != len(TRIGGERERS):
            raise AssertionError("one triggerer has all triggers, so nothing would be lost with the other")
        airflow.kill(TRIGGERERS[0])

    return Fault(
        "one triggerer is killed (`kill -9`); the other takes over",
        keys,
        break_it=kill,
        # Those that it held are polled again once it is missed, not once it is back.
        allowed=TRIGGERER_THRESHOLD + ROUND + MACHINE,
        why="triggerer health check, a round of polls",
        after_recovery=lambda: airflow.start_triggerers(TRIGGERERS[0]),
    )


def both_triggerers_killed(airflow: Deployment, keys: Sequence[VendorKey]) -> Fault:
    """Kill both triggerers, and start them again."""
    return Fault(
        "both triggerers are killed, and started again",
        keys,
        break_it=lambda: airflow.kill(*TRIGGERERS),
        mend=lambda: airflow.start_triggerers(*TRIGGERERS),
        seconds=5,
        allowed=TRIGGERER_THRESHOLD + ROUND + MACHINE,
        why="triggerer health check, a round of polls",
    )


def scheduler_killed(airflow: Deployment, keys: Sequence[VendorKey]) -> Fault:
    """Kill the scheduler, and start it again."""
    return Fault(
        "the scheduler is killed, and started again",
        keys,
        break_it=lambda: airflow.kill("scheduler"),
        mend=lambda: airflow.start_component("scheduler"),
        seconds=10,
        starts=True,
        allowed=SCHEDULER_THRESHOLD + QUEUED_TIMEOUT + QUEUED_CHECK + ROUND + MACHINE,
        why="scheduler health check, queued timeout, a round of polls",
    )


def worker_killed(airflow: Deployment, keys: Sequence[VendorKey]) -> Fault:
    """Kill the worker while it runs tasks, and start another."""

    def kill() -> None:
        _wait_until_some_are(airflow, "running")
        airflow.kill(WORKER)

    return Fault(
        "the Celery worker is killed with its tasks, and started again",
        keys,
        break_it=kill,
        mend=airflow.start_worker,
        after_ends=True,
        allowed=HEARTBEAT_TIMEOUT + 2 * (QUEUED_TIMEOUT + QUEUED_CHECK) + ROUND + MACHINE,
        why="task heartbeat timeout, queued timeout twice, a round of polls",
    )


def database_restarted(database: Postgres, keys: Sequence[VendorKey]) -> Fault:
    """Let PostgreSQL crash, and start it again."""
    return Fault(
        "PostgreSQL crashes, and is started again",
        keys,
        break_it=database.kill,
        mend=database.start,
        seconds=3,
        allowed=2 * TRIGGERER_THRESHOLD + SCHEDULER_THRESHOLD + ROUND + MACHINE,
        why="health checks of triggerers and scheduler, a round of polls",
    )


def broker_restarted(airflow: Deployment, broker: Redis, keys: Sequence[VendorKey]) -> Fault:
    """Let Redis crash with messages in it, all of which are lost, and start it again."""

    def kill() -> None:
        _wait_until_some_are(airflow, "queued")
        broker.kill()

    return Fault(
        "Redis crashes, loses all messages, and is started again",
        keys,
        break_it=kill,
        mend=broker.start,
        seconds=3,
        after_ends=True,
        starts=True,
        allowed=2 * (QUEUED_TIMEOUT + QUEUED_CHECK) + ROUND + MACHINE,
        why="queued timeout twice, a round of polls",
    )


def away(key: VendorKey, *, seconds: float) -> Fault:
    """Let the vendor refuse connections."""
    return Fault(
        f"a vendor refuses connections for {seconds:.0f} s",
        [key],
        break_it=key.simulator.stop,
        mend=key.simulator.start,
        seconds=seconds,
        says="refuses connections",
        allowed=LONGEST_PROBE_WAIT + ROUND + MACHINE,
        why="the longest wait between probes, a round of polls",
    )


def server_errors(key: VendorKey, *, seconds: float) -> Fault:
    """Let the vendor answer 500."""
    return _answers(f"a vendor answers 500 for {seconds:.0f} s", key, seconds, "server_error", "HTTP 500")


def garbage(key: VendorKey, *, seconds: float) -> Fault:
    """Let the vendor answer half of its JSON."""
    name = f"a vendor answers half of its JSON for {seconds:.0f} s"
    fault = _answers(name, key, seconds, "truncated_json", "the answer is no JSON")
    # It does answer, so the key goes on, and each run backs off by itself.
    fault.allowed = ROUND + LONGEST_BACKOFF + MACHINE
    fault.why = "a run's interval and its longest backoff"
    return fault


def hanging(key: VendorKey, *, seconds: float) -> Fault:
    """Let the vendor take requests and answer none."""
    name = f"a vendor takes requests and answers none for {seconds:.0f} s"
    fault = _answers(name, key, seconds, "hang", "did not answer in time")
    fault.allowed += REQUEST_TIMEOUT
    fault.why = f"the request timeout, {fault.why}"
    return fault


def rate_limit(key: VendorKey, *, seconds: float) -> Fault:
    """Let the vendor refuse all requests as too many, without saying for how long."""
    return Fault(
        f"a vendor answers 429 for {seconds:.0f} s, and names no time",
        [key],
        break_it=lambda: key.simulator.add_fault("rate_limit"),
        mend=key.simulator.clear_faults,
        seconds=seconds,
        # A run that was refused last waits for a pause of its own, and its poll for the key's.
        says="rate limit reached, polls pause",
        allowed=PAUSE_AFTER_429 * 1.2 + ROUND + MACHINE,
        why="the pause after a 429, a round of polls",
    )


def no_such_name(key: VendorKey, *, seconds: float) -> Fault:
    """Let the vendor's name no longer resolve; who had a connection loses it."""

    def hide() -> None:
        key.resolve(does=False)
        key.cut_connections()

    return Fault(
        f"a vendor's name does not resolve for {seconds:.0f} s",
        [key],
        break_it=hide,
        mend=key.resolve,
        seconds=seconds,
        says="has no address (DNS)",
        allowed=LONGEST_PROBE_WAIT + ROUND + MACHINE,
        why="the longest wait between probes, a round of polls",
    )


def key_replaced(airflow: Deployment, key: VendorKey) -> Fault:
    """Put a new key into the connection, and revoke the old one."""
    return Fault(
        f"a key of {key.vendor} is replaced in the connection, and revoked",
        [key],
        break_it=lambda: key.replace_value(airflow),
        allowed=2 * ROUND + MACHINE,
        why="two rounds of polls",
    )


def _answers(name: str, key: VendorKey, seconds: float, kind: str, says: str) -> Fault:
    return Fault(
        name,
        [key],
        break_it=lambda: key.simulator.add_fault(kind),
        mend=key.simulator.clear_faults,
        seconds=seconds,
        says=says,
        allowed=LONGEST_PROBE_WAIT + ROUND + MACHINE,
        why="the longest wait between probes, a round of polls",
    )


def _wait_until_some_are(airflow: Deployment, state: str) -> None:
    deadline = time.monotonic() + 60
    while not airflow.states()[state]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no task was ever {state}: {airflow.states()}")
        time.sleep(0.02)
