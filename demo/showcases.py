"""Say what the demo runs: the example DAGs for both vendors, and how each is expected to come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_provider_agentruns.simulator import Simulator

SUCCEEDED = "succeeded"
FAILED = "failed"


@dataclass(frozen=True)
class Showcase:
    """One run of one example DAG.

    :param title: what it shows, in a few words.
    :param conf: what the DAG is triggered with.
    :param runs: by task id, how the agent run of each task (or of each mapped instance) must end.
    :param ends_with: the task downstream that must have run.
    """

    title: str
    dag_id: str
    runs: Mapping[str, tuple[str, ...]]
    ends_with: str
    conf: Mapping[str, object] = field(default_factory=dict)


def plan(simulator: Simulator) -> list[Showcase]:
    """List what to show; the runs that somebody else starts are started here."""
    return [
        Showcase(
            title="Flowyble: somebody else's run",
            dag_id="example_agentruns_wait_and_chain",
            conf={
                "conn_id": "flowyble_default",
                "run_id": simulator.create_run(
                    "flowyble", duration=8, output="Three invoices are overdue, 4 210 EUR in all."
                ),
            },
            runs={"result": (SUCCEEDED,)},
            ends_with="summarize",
        ),
        Showcase(
            title="Snorbe: somebody else's run",
            dag_id="example_agentruns_wait_and_chain",
            conf={
                "conn_id": "snorbe_default",
                "run_id": simulator.create_run(
                    "snorbe", duration=8, output_in="report", output="# Market report\n\nTwo new suppliers."
                ),
            },
            runs={"result": (SUCCEEDED,)},
            ends_with="summarize",
        ),
        Showcase(
            title="Flowyble: a run that succeeds",
            dag_id="example_agentruns_start_and_branch",
            runs={"answer": (SUCCEEDED,)},
            ends_with="publish",
        ),
        Showcase(
            title="Flowyble: a run that fails",
            dag_id="example_agentruns_start_and_branch",
            conf={"message": 'Pay the invoices [sim: fail, duration=5, error="The bank refused the login"]'},
            runs={"answer": (FAILED,)},
            ends_with="recover",
        ),
        Showcase(
            title="Snorbe: a run that fails",
            dag_id="example_agentruns_start_and_branch",
            conf={
                "conn_id": "snorbe_default",
                "agent_id": "",
                "message": 'Read the site [sim: fail, duration=5, error="The browser could not be started"]',
            },
            runs={"answer": (FAILED,)},
            ends_with="recover",
        ),
        Showcase(
            title="Snorbe: a plan is approved",
            dag_id="example_agentruns_review",
            conf={"message": "Write a report about steel prices. [sim: wait, human=plan, duration=5]"},
            runs={"write": (SUCCEEDED,)},
            ends_with="publish",
        ),
        Showcase(
            title="Flowyble: fan-out",
            dag_id="example_agentruns_fan_out",
            runs={"ask": (SUCCEEDED,) * 3},
            ends_with="gather",
        ),
        Showcase(
            title="Snorbe, then Flowyble twice",
            dag_id="example_agentruns_two_vendors",
            runs={"research": (SUCCEEDED,), "write": (SUCCEEDED,), "extract": (SUCCEEDED,)},
            ends_with="join",
        ),
    ]
