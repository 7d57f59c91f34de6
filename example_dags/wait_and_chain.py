"""
### Wait for a run that somebody else started, and use its result

The run may come from the vendor's dashboard, a webhook or another system; all that is needed is its id.
Trigger this DAG with the id, for example from the system that started the run.

- `wait` succeeds when the run has succeeded, and fails as soon as the run fails. While it waits it is
  *deferred*: it holds no worker.
- `result` surfaces the run: the final output is its return value, and the XCom `agent_run` has the status,
  the timestamps and the usage.
- `summarize` is an ordinary task that uses both.

`result` can wait by itself too. The sensor is for DAGs that only need to know *when* a run is over.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, XComArg, dag, task

from airflow_provider_agentruns.operators import AgentRunResultOperator
from airflow_provider_agentruns.sensors import AgentRunSensor


@dag(
    dag_id="example_agentruns_wait_and_chain",
    schedule=None,
    catchup=False,
    doc_md=__doc__,
    tags=["agentruns", "example"],
    params={
        "conn_id": Param("flowyble_default", type="string", description="A Flowyble or Snorbe connection"),
        "run_id": Param(
            type="string", minLength=1, description="The run to wait for, as the vendor names it"
        ),
        "run_kind": Param("agent", type="string", enum=["agent", "tool"], description="What is running"),
    },
)
def wait_and_chain() -> None:
    wait = AgentRunSensor(
        task_id="wait",
        conn_id="{{ params.conn_id }}",
        run_id="{{ params.run_id }}",
        run_kind="{{ params.run_kind }}",
        timeout=timedelta(hours=1),
        deferrable=True,
    )

    result = AgentRunResultOperator(
        task_id="result",
        conn_id="{{ params.conn_id }}",
        run_id="{{ params.run_id }}",
        run_kind="{{ params.run_kind }}",
        deferrable=True,
    )

    @task
    def summarize(output: Any, agent_run: Any) -> str:
        return f"{agent_run['vendor']} run {agent_run['run_id']} {agent_run['status']}: {output}"

    wait >> result
    summarize(output=result.output, agent_run=XComArg(result, key="agent_run"))


wait_and_chain()
