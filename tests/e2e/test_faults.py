"""A task neither pays twice nor leaves a run behind when things break; the simulator's logs are the judge."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from airflow_provider_agentruns.simulator import Simulator
from demo.airflow_environment import connection
from demo.standalone import PROJECT, StandaloneAirflow
from tests.airflow_patience import IMPATIENCE
from tests.deployment.services import Postgres
from tests.e2e import fault_cases
from tests.e2e.fault_cases import CASES, Case, Outcome, make_table
from tests.e2e.fault_runs import FaultRun, see_through

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PAGE = PROJECT / "docs" / "faults.md"
UPDATE_DOCS = "UPDATE_DOCS"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(requests_per_minute=100_000) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def database(installed: Callable[..., None]) -> Iterator[Postgres]:
    """Run PostgreSQL: SQLite gives a trigger the id of one that was removed and may still fire."""
    installed(Postgres)
    with Postgres() as postgres:
        yield postgres


@pytest.fixture(scope="module")
def airflow(
    simulator: Simulator, database: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StandaloneAirflow]:
    keys = {
        "cancellable": simulator.flowyble_key,
        "flowyble": simulator.flowyble_key,
        "snorbe": simulator.snorbe_key,
    }
    connections = {
        f"{conn_type}_default": connection(
            conn_type, host=simulator.url, password=key, polls_per_minute=100_000
        )
        for conn_type, key in keys.items()
    }
    here = Path(__file__).parent
    dags = tmp_path_factory.mktemp("dags")
    (dags / "faults.py").write_text((here / "dags" / "faults.py").read_text())
    with StandaloneAirflow(
        dags,
        connections=connections,
        home=tmp_path_factory.mktemp("airflow"),
        parallelism=20,
        environment={
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url,
            "PYTHONPATH": str(here / "cancellable"),
            **IMPATIENCE,
        },
    ) as airflow:
        airflow.wait_until_healthy()
        airflow.wait_for_dags(sorted({f"e2e_faults_{case.dag}" for case in CASES}))
        yield airflow


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, airflow: StandaloneAirflow, database: Postgres, simulator: Simulator
) -> dict[Case, FaultRun]:
    """Run the cases that are to be tested, those that the same fault breaks at the same time."""
    wanted = [case for case in CASES if _is_wanted(case, request.session)]
    made = {case: FaultRun(case, airflow, simulator) for case in wanted}
    triggerers = ["triggerer"]

    def together(cases: tuple[Case, ...], **breaking: Callable[[], None]) -> None:
        if some := [made[case] for case in cases if case in made]:
            see_through(some, airflow, **breaking)

    def stop_triggerer() -> None:
        def stands_still_outside_of_transactions() -> bool | None:
            # One that stands still within a transaction may hold what the others need.
            airflow.signal_component("triggerer", signal.SIGSTOP)
            if _is_in_transaction(airflow, "triggerer", database):
                airflow.signal_component("triggerer", signal.SIGCONT)
                return None
            return True

        airflow.wait_until(stands_still_outside_of_transactions, "the triggerer to be in no transaction")
        airflow.start_component("triggerer", name="second-triggerer")
        triggerers.append("second-triggerer")
        made[fault_cases.TRIGGERER_STOPPED[0]].wait_for_another_poll()

    def wake_triggerer_up() -> None:
        airflow.signal_component("triggerer", signal.SIGCONT)

    def kill_triggerers() -> None:
        while triggerers:
            airflow.signal_component(triggerers.pop(), signal.SIGKILL)

    def start_triggerer() -> None:
        airflow.start_component("triggerer")
        triggerers.append("triggerer")

    def shut_triggerer_down() -> None:
        airflow.signal_component(triggerers.pop(), signal.SIGTERM, with_children=False)

    def kill_scheduler() -> None:
        airflow.signal_component("scheduler", signal.SIGKILL, with_children=False)

    def kill_scheduler_and_workers() -> None:
        airflow.signal_component("scheduler", signal.SIGKILL)

    def start_scheduler() -> None:
        airflow.start_component("scheduler")

    together(fault_cases.TASK_FAULTS)
    together(fault_cases.TRIGGERER_STOPPED, break_all=stop_triggerer, mend_all=wake_triggerer_up)
    together(fault_cases.TRIGGERER_KILLED, break_all=kill_triggerers, mend_all=start_triggerer)
    together(fault_cases.TRIGGERER_SHUT_DOWN, break_all=shut_triggerer_down, mend_all=start_triggerer)
    together(fault_cases.SCHEDULER_KILLED, break_all=kill_scheduler, mend_all=start_scheduler)
    together(fault_cases.SCHEDULER_LOST, break_all=kill_scheduler_and_workers, mend_all=start_scheduler)
    return made


@pytest.fixture(scope="module")
def outcomes(runs: dict[Case, FaultRun]) -> dict[Case, Outcome]:
    """Read how all came out once all have ended, so that nothing that comes late is missed."""
    return {case: run.outcome() for case, run in runs.items()}


def _is_in_transaction(airflow: StandaloneAirflow, component: str, database: Postgres) -> bool:
    """Tell whether a component that stands still has a transaction open."""
    ports = {
        connection.laddr.port
        for process in airflow.component_processes(component)
        for connection in process.net_connections(kind="tcp")
        if connection.raddr and connection.raddr.port == database.port
    }
    open_transactions = "select client_port from pg_stat_activity where xact_start is not null"
    engine = create_engine(database.url)
    try:
        # What it had sent before is dealt with by then.
        time.sleep(0.3)
        with engine.connect() as connection:
            return not ports.isdisjoint(connection.execute(text(open_transactions)).scalars())
    finally:
        engine.dispose()


def _is_wanted(case: Case, session: pytest.Session) -> bool:
    tests = [item for item in session.items if isinstance(item, pytest.Function)]
    names = {item.name for item in tests}
    return test_the_documentation_shows_how_it_came_out.__name__ in names or any(
        case.name in name for name in names
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_is_paid_twice_or_left_behind(
    case: Case, runs: dict[Case, FaultRun], outcomes: dict[Case, Outcome]
) -> None:
    run = runs[case]
    log = run.log()
    assert outcomes[case] == case.expected, f"{run.problem}\n{log}"
    assert not run.problem, log
    assert case.says in log


def test_the_documentation_shows_how_it_came_out(outcomes: dict[Case, Outcome]) -> None:
    """Written anew with UPDATE_DOCS=1."""
    table = make_table(outcomes)
    page = PAGE.read_text()
    generated = re.compile(r"(?<=<!-- table:begin -->\n).*(?=\n<!-- table:end -->)", re.DOTALL)
    if os.environ.get(UPDATE_DOCS):
        page = generated.sub(lambda _: table, page)
        PAGE.write_text(page)
    assert generated.findall(page) == [table]
