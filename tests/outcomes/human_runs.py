"""Runs that ask a human, and what is sent to the vendor and kept by Airflow because of that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_agentruns.client.models import HumanAnswer
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.operators import AgentRunOperator, AgentRunResultOperator
from airflow_provider_agentruns.simulator import Simulator

from .task_runs import MODES, HumanInTheLoop, Outcome, TaskStateStore

modes = pytest.mark.parametrize("mode", MODES)

OPTIONS = {"modelName": "snorbe-quality", "locale": "ja"}
SECRET = "the-value-of-the-secret-7c1e"


def start(policy: Any, human: str, mode: str = "deferred", **settings: Any) -> AgentRunOperator:
    options = {"duration": 0.05, "question": '"Which year?"', **settings.pop("scenario", {})}
    scenario = ", ".join(f"{name}={value}" for name, value in options.items())
    return AgentRunOperator(
        task_id="t",
        conn_id="snorbe_test",
        message=f'Write it. [sim: wait, human={human}, output="Done.", {scenario}]',
        options=OPTIONS,
        poll_interval=0.02,
        timeout=30,
        deferrable=mode == "deferred",
        on_human_request=policy,
        **settings,
    )


def attach(policy: Any, run_id: str, **settings: Any) -> AgentRunResultOperator:
    return AgentRunResultOperator(
        task_id="t",
        conn_id="snorbe_test",
        run_id=run_id,
        poll_interval=0.02,
        timeout=30,
        deferrable=True,
        on_human_request=policy,
        **settings,
    )


def sent(simulator: Simulator, *actions: str) -> list[str]:
    """Return the answers that the vendor received, in order."""
    wanted = ("confirm", "answer", "resume", "register", "skip")
    operations = [str(request.operation).removeprefix("snorbe.") for request in simulator.requests()]
    return [name for name in operations if name.rpartition(".")[2] in (actions or wanted)]


def everything_kept(outcome: Outcome, airflow: HumanInTheLoop, store: TaskStateStore | None = None) -> str:
    """Return all that Airflow stores of a task, as text."""
    kept = [
        outcome.xcoms,
        [deferral.trigger.serialize() for deferral in outcome.deferrals],
        [deferral.kwargs for deferral in outcome.deferrals],
        [vars(question) for question in airflow.questions.values()],
        store.values if store else {},
        outcome.value,
        repr(outcome.error),
    ]
    return json.dumps(kept, default=str)


def vendor_answers(simulator: Simulator) -> None:
    """Accept the plan at the vendor, as a human does in its own UI."""
    hook = AgentRunHook("snorbe_test")
    [run] = simulator.runs()
    status = hook.get_status(run.run_id)
    [request] = status.human_requests
    in_full = hook.read_request(status.ref, request)
    hook.answer(status.ref, in_full, HumanAnswer())
    hook.resume(status.ref, in_full)


class Lost(BaseException):
    """The worker is killed."""
