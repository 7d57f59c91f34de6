"""Every example DAG runs to its end through dag.test(), at both vendors of the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun

from airflow_provider_agentruns.simulator import Simulator
from tests.dag_files import DagBag, DagSerialization, read_dags
from tests.features import HUMANS

PREFIX = "example_agentruns_"

pytestmark = [pytest.mark.dag_test, pytest.mark.usefixtures("default_connections")]


@pytest.fixture
def dag_bag(metadata_database: None, dags_folder: Path) -> DagBag:
    return read_dags(dags_folder / "example_dags", dags_folder)


def _run(dag_bag: DagBag, name: str, **conf: Any) -> tuple[dict[str, str], DagRun]:
    dag_run = dag_bag.dags[PREFIX + name].test(run_conf=conf)
    instances = sorted(dag_run.get_task_instances(), key=lambda ti: (ti.task_id, ti.map_index))
    return {f"{ti.task_id}[{ti.map_index}]".removesuffix("[-1]"): str(ti.state) for ti in instances}, dag_run


def _xcom(dag_run: DagRun, task_id: str, key: str = "return_value") -> Any:
    ti = dag_run.get_task_instance(task_id)
    assert ti is not None
    return ti.xcom_pull(task_ids=task_id, key=key)


def test_all_examples_are_parsed_serialized_and_documented(dag_bag: DagBag) -> None:
    """Only the one that asks a human needs an Airflow that can."""
    names = {"wait_and_chain", "start_and_branch", "fan_out", "two_vendors"}
    names |= {"review"} if HUMANS.is_there() else set()
    assert all("needs Airflow 3.1 or newer" in error for error in dag_bag.import_errors.values())
    assert len(dag_bag.import_errors) == (not HUMANS.is_there())
    assert set(dag_bag.dags) == {f"{PREFIX}{name}" for name in names}
    for dag in dag_bag.dags.values():
        assert dag.doc_md
        again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        assert set(again.task_ids) == set(dag.task_ids)


@pytest.mark.parametrize(
    ("vendor", "kind"), [("flowyble", "agent"), ("flowyble", "tool"), ("snorbe", "agent")]
)
def test_wait_and_chain(vendor: str, kind: str, dag_bag: DagBag, simulator: Simulator) -> None:
    """Downstream gets the output of a run that somebody else started."""
    run_id = simulator.create_run(vendor, kind=kind, duration=0.3, output="all done")
    conf = {"conn_id": f"{vendor}_default", "run_id": run_id, "run_kind": kind}
    states, dag_run = _run(dag_bag, "wait_and_chain", **conf)
    assert states == dict.fromkeys(["result", "summarize", "wait"], "success")
    assert f"{vendor} run {run_id} succeeded: " in _xcom(dag_run, "summarize")
    assert "all done" in _xcom(dag_run, "summarize")
    assert [start.operation for start in simulator.starts()] == ["control"], "nothing was started again"


@pytest.mark.parametrize(
    ("message", "states"),
    [
        ("hello", {"publish": "success", "recover": "skipped"}),
        ('[sim: fail, error="the page is gone"]', {"publish": "skipped", "recover": "success"}),
    ],
)
def test_start_and_branch(
    message: str, states: dict[str, str], dag_bag: DagBag, simulator: Simulator
) -> None:
    """A failed run does not fail the task; downstream reads the error and takes the other branch."""
    actual, dag_run = _run(dag_bag, "start_and_branch", message=message)
    assert actual == {"answer": "success", "choose": "success", **states}
    [start] = simulator.starts()
    assert _xcom(dag_run, "answer", "run_id") == start.run_id
    if states["recover"] == "success":
        assert _xcom(dag_run, "answer", "error_message") == "the page is gone"
        assert _xcom(dag_run, "answer") is None
        assert "failed: the page is gone" in _xcom(dag_run, "recover")


def test_fan_out(dag_bag: DagBag, simulator: Simulator) -> None:
    """One run for each item, and the outputs come in the order of the items."""
    questions = [f'[sim: output="answer {number}"]' for number in range(3)]
    states, dag_run = _run(dag_bag, "fan_out", questions=questions)
    assert set(states.values()) == {"success"}
    assert {"ask[0]", "ask[1]", "ask[2]"} <= set(states)
    assert _xcom(dag_run, "gather") == ["answer 0", "answer 1", "answer 2"]
    assert len(simulator.starts()) == 3


def test_two_vendors(dag_bag: DagBag, simulator: Simulator) -> None:
    """What a Snorbe run found goes to a Flowyble agent and a Flowyble tool."""
    states, dag_run = _run(dag_bag, "two_vendors")
    assert set(states.values()) == {"success"}
    assert [start.vendor for start in simulator.starts()] == ["snorbe", "flowyble", "flowyble"]
    found = _xcom(dag_run, "research")
    assert found
    assert found in simulator.starts()[1].input_text
    assert set(_xcom(dag_run, "join")) == {"post", "facts"}


@HUMANS.needed
def test_review(dag_bag: DagBag, simulator: Simulator) -> None:
    """A plan is approved by policy; there is nobody to ask in ``dag.test()``."""
    states, dag_run = _run(dag_bag, "review", message='[sim: wait, human=plan, output="Steel is dear."]')
    assert states == {"write": "success", "publish": "success"}
    assert _xcom(dag_run, "publish") == "Published: Steel is dear."
