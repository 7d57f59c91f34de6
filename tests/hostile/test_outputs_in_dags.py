"""A vendor's output arrives downstream as it is: nobody renders it, and nobody makes objects of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun

from airflow_provider_agentruns.simulator import Simulator
from tests.dag_files import DagBag, read_dags

pytestmark = [pytest.mark.dag_test, pytest.mark.usefixtures("connections")]

TEMPLATES = "{{ 7*7 }} {{ conn.flowyble_test.password }} {% raw %} {{ var.value.get('x') }} a.sh"


@pytest.fixture
def dag_bag(metadata_database: None, dags_folder: Path) -> DagBag:
    folder = dags_folder / "hostile"
    shutil.copytree(Path(__file__).parent / "dags", folder, dirs_exist_ok=True)
    return read_dags(folder, dags_folder)


def _run(dag_bag: DagBag, dag_id: str, run_id: str) -> DagRun:
    assert dag_bag.import_errors == {}
    dag_run: DagRun = dag_bag.dags[dag_id].test(run_conf={"run_id": run_id})
    return dag_run


def _states(dag_run: DagRun) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}


def _returned(dag_run: DagRun, task_id: str, map_index: int = -1) -> Any:
    ti = dag_run.get_task_instance(task_id, map_index=map_index)
    assert ti is not None
    return ti.xcom_pull(task_ids=task_id, map_indexes=map_index)


@pytest.mark.parametrize(
    ("output", "arrives"),
    [
        (TEMPLATES, {"result": TEMPLATES}),
        (json.dumps({"a": [TEMPLATES], TEMPLATES: 1}), {"a": [TEMPLATES], TEMPLATES: 1}),
    ],
    ids=["text", "json"],
)
def test_templates_in_an_output_are_never_rendered(
    output: str, arrives: Any, dag_bag: DagBag, simulator: Simulator
) -> None:
    run_id = simulator.create_run("flowyble", kind="tool", scenario="never")
    simulator.finish_run(run_id, output=output)
    dag_run = _run(dag_bag, "hostile_outputs", run_id)
    assert set(_states(dag_run).values()) == {"success"}
    assert _returned(dag_run, "news") == arrives
    assert _returned(dag_run, "decorated") == [arrives, arrives]
    assert _returned(dag_run, "op_args") == [arrives, arrives]
    assert _returned(dag_run, "template") == [str(arrives), str(arrives)]
    assert _returned(dag_run, "mapped", 0) == arrives
    assert _returned(dag_run, "mapped_operator", 0) == [arrives]


def test_templates_in_an_output_reach_the_next_agent_as_they_are(
    dag_bag: DagBag, simulator: Simulator
) -> None:
    run_id = simulator.create_run("flowyble", scenario="never")
    simulator.finish_run(run_id, output=TEMPLATES)
    dag_run = _run(dag_bag, "hostile_messages", run_id)
    states = _states(dag_run)
    assert states.pop("as_run_id") == "failed", "an output is no run id"
    assert set(states.values()) == {"success"}
    told = [start.input_text for start in simulator.starts() if start.run_id != run_id]
    assert told == [TEMPLATES] * 3


@pytest.mark.parametrize(
    "output",
    [
        {"__classname__": "airflow.sdk.definitions.connection.Connection", "__version__": 1, "__data__": {}},
        {"__type": "airflow.sdk.definitions.asset.Asset", "__var": {"name": "a", "uri": "s3://a"}},
        {"rows": [{"__id__": "x"}]},
        {"id": 2**64},
        {"id": [-(2**63) - 1]},
        json.loads("[" * 240 + "]" * 240),
    ],
    ids=["class", "old-class", "schema-id", "big", "small", "deep"],
)
def test_an_output_that_no_xcom_gives_back_arrives_as_json_text(
    output: Any, dag_bag: DagBag, simulator: Simulator
) -> None:
    """Airflow would fail the task after a run that was paid for, or make an object that the vendor names."""
    run_id = simulator.create_run("flowyble", kind="tool", scenario="never")
    simulator.finish_run(run_id, output=json.dumps(output))
    dag_run = _run(dag_bag, "hostile_outputs", run_id)
    assert set(_states(dag_run).values()) == {"success"}
    for task_id in ("decorated", "op_args"):
        first = _returned(dag_run, task_id)[0]
        assert isinstance(first, str)
        assert json.loads(first) == output
