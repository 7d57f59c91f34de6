"""What the documentation says works: each Python example runs, each connection is understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_agentruns.client.calls import Response
from airflow_provider_agentruns.client.models import RunStatus
from airflow_provider_agentruns.connections import ConnectionExtras, read_connection
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.vendors.snorbe.options import StartOptions
from tests.dag_files import read_dags
from tests.features import HUMANS, RETRY_POLICY

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def _is_dag(block: str) -> bool:
    return "DAG(" in block or "@dag(" in block


DAGS = [(page, block) for page in PAGES for block in _blocks(page, "python") if _is_dag(block)]
PLAIN = [page for page in PAGES if any(not _is_dag(block) for block in _blocks(page, "python"))]


def test_there_are_examples_to_run() -> None:
    assert {page.name for page, _ in DAGS} == {"README.md", "human.md", "operators.md", "sensor.md"}
    assert {page.name for page in PLAIN} == {"hooks.md", "adding_a_vendor.md", "simulator.md"}


NEEDED = {"AgentRunRetryPolicy": RETRY_POLICY, '"ask"': HUMANS}


@pytest.mark.dag_test
@pytest.mark.usefixtures("metadata_database", "default_connections")
@pytest.mark.parametrize(
    ("page", "block"),
    [
        pytest.param(
            page,
            block,
            id=f"{page.stem}-{number}",
            marks=[feature.needed for word, feature in NEEDED.items() if word in block],
        )
        for number, (page, block) in enumerate(DAGS)
    ],
)
def test_a_dag_runs(page: Path, block: str, simulator: Simulator, dags_folder: Path) -> None:
    path = dags_folder / "documented.py"
    path.write_text(block)
    try:
        dag_bag = read_dags(path, dags_folder)
        assert dag_bag.import_errors == {}
        [dag] = dag_bag.dags.values()
        conf = {"run_id": simulator.create_run("snorbe", duration=0.1)} if "run_id" in dag.params else None
        dag_run = dag.test(run_conf=conf)
    finally:
        path.unlink()
    assert {str(ti.state) for ti in dag_run.get_task_instances()} == {"success"}


@pytest.mark.usefixtures("default_connections")
@pytest.mark.parametrize("page", PLAIN, ids=lambda page: page.stem)
def test_other_python_runs(page: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after the other, as a reader would paste them."""
    monkeypatch.setenv("AIRFLOW_CONN_FLOWYBLE_SIMULATED", "")  # undone afterwards, whatever the page sets
    # What a page starts goes on until it has shown the status: how soon that is depends on the machine.
    simulator.scenario = "never"
    lines: list[str] = []

    def show(*values: object) -> None:
        if not lines:
            for run in simulator.runs():
                simulator.finish_run(run.run_id, output="Nothing to do.")
        lines.append(" ".join(map(str, values)))

    namespace: dict[str, Any] = {"__name__": "documented", "print": show}
    for block in _blocks(page, "python"):
        code = compile(block, page.name, "exec", dont_inherit=True)
        exec(code, namespace)  # noqa: S102 - the documentation is ours
    if page.stem == "adding_a_vendor":
        adapter = namespace["EchoAdapter"]()
        call = adapter.status(adapter.ref("r1"))
        run = call.finish(Response(200, {}, b'{"id": "r1", "status": "done", "text": "hi"}'), now=0)
        assert (run.status, run.output) == (RunStatus.SUCCEEDED, "hi")
        bulk = namespace["BulkEchoAdapter"]().bulk_polling()
        runs = b'{"runs": [{"id": "r1", "status": "done"}, {"id": "r2", "status": "open"}]}'
        listing = bulk.call([adapter.ref("r1"), adapter.ref("r2")], None).finish(
            Response(200, {}, runs), now=0
        )
        assert (listing.changed, listing.going_on) == ({"r1": "done"}, {"r2"})
    if page.stem == "hooks":
        assert lines[0].startswith("running ")
        assert lines[1].startswith("Nothing to do. ")


def test_the_connections_page_shows_connections_that_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "connections.md"
    [block] = _blocks(page, "bash")
    values = [shlex.split(line)[0].partition("=")[2] for line in block.splitlines()]
    assert len(values) == 3
    for value in values:
        monkeypatch.setenv("AIRFLOW_CONN_C", value)
        assert read_connection("c", BaseHook.get_connection("c")).settings.api_key


def test_the_connections_page_names_each_extra() -> None:
    page = (ROOT / "docs" / "connections.md").read_text()
    for name in ConnectionExtras.model_fields:
        assert f"| `{name}` |" in page


def test_the_operators_page_names_each_option_of_snorbe() -> None:
    page = (ROOT / "docs" / "operators.md").read_text()
    for field in StartOptions.model_fields.values():
        assert f"`{field.alias}`" in page


def test_the_readmes_commands_are_targets_of_make() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        used = re.findall(r"`?make ([a-z-]+)", page.read_text())
        assert used
        assert set(used) - {"and"} <= set(targets)
