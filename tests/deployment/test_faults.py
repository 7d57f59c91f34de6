"""Nothing is lost, and nothing started twice, when parts of a deployment or vendors break."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deployment import fault_plan
from tests.deployment.deployment import Deployment
from tests.deployment.faults import Faults
from tests.deployment.report import fault_table, publish
from tests.deployment.services import Postgres, Redis
from tests.deployment.vendor_keys import VendorKey
from tests.deployment.waiting_tasks import WaitingTasks

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1500)]

# Recovery is to be seen, not the budget: the load shows that.
WIDE_LIMIT = 6_000
MOST_TRIES = 3


def test_nothing_is_lost_when_things_break(
    deploy: Callable[[list[VendorKey], dict[str, str]], Deployment],
    stack: ExitStack,
    names: Path,
    database: Postgres,
    broker: Redis,
    is_long: bool,
) -> None:
    def key(vendor: str, name: str, *, clock_ahead: float = 0.0) -> VendorKey:
        made = VendorKey(
            vendor,
            name,
            names=names,
            requests_per_minute=WIDE_LIMIT,
            clock_ahead=clock_ahead,
            polls_per_minute=WIDE_LIMIT,
            timeout=fault_plan.REQUEST_TIMEOUT,
        )
        return stack.enter_context(made)

    keys = [key("flowyble", "flowyble_a"), key("flowyble", "flowyble_b"), key("snorbe", "snorbe_c")]
    ahead = key("flowyble", "clock_ahead", clock_ahead=3600.0)
    airflow = deploy([*keys, ahead], fault_plan.ENVIRONMENT)
    tasks = WaitingTasks(airflow)
    for each in [*keys * (11 if is_long else 2), ahead]:
        tasks.start_faults(each)
    tasks.wait_until_all_wait(timeout=180)
    faults = Faults(airflow, tasks, ends=3)

    plan = fault_plan.long_plan if is_long else fault_plan.short_plan
    for batch in plan(airflow, database, broker, keys):
        faults.batch(*batch)
    for number, task in enumerate(tasks.waiting()):
        task.end("succeed" if task.message else ("succeed", "fail", "cancel")[number % 3])
    tasks.wait_until_finished(list(tasks), timeout=240)

    publish(fault_table(faults.done), "faults" if is_long else "")
    assert faults.problems == []
    assert tasks.problems(tries=MOST_TRIES) == []
    assert airflow.triggers() == 0
    assert airflow.lines_that_say("waiting broke off") == []
    unseen = [fault.name for fault in faults.done if not airflow.lines_that_say(fault.says)]
    assert unseen == []
    if is_long:
        assert min(fault.waiting for fault in faults.done) >= 200
    values = [value for each in [*keys, ahead] for value in each.values]
    assert airflow.files_that_hold(values) == []
