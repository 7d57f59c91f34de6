"""Run a sensor or operator as Airflow does, inline or deferred, without Airflow's processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent
from pydantic import ImportString, TypeAdapter

MODES = ["inline", "deferred"]


@dataclass
class TaskInstance:
    """As much of a task instance as operators use."""

    task_id: str
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    xcoms: dict[str, Any] = field(default_factory=dict)
    pushed: list[str] = field(default_factory=list)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))
        self.pushed.append(key)

    def get_first_reschedule_date(self, context: Any) -> None:
        return None

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)


@dataclass
class Outcome:
    """What came of a task."""

    ti: TaskInstance
    value: Any = None
    error: BaseException | None = None
    deferrals: list[TaskDeferred] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def xcoms(self) -> dict[str, Any]:
        return self.ti.xcoms


def fire(deferred: TaskDeferred) -> dict[str, Any]:
    """Run a trigger as a triggerer does: made anew from what the database holds of it."""
    classpath, kwargs = deferred.trigger.serialize()
    trigger: BaseTrigger = TypeAdapter(ImportString[Any]).validate_python(classpath)(
        **json.loads(json.dumps(kwargs))
    )

    async def first_event() -> TriggerEvent:
        events = [event async for event in trigger.run()]
        assert len(events) == 1, "a trigger fires once"
        return events[0]

    payload: dict[str, Any] = json.loads(json.dumps(asyncio.run(first_event()).payload))
    return payload


class TaskStateStore:
    """As much of Airflow's task state store as operators use. It outlives retries and clears."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.fails_to: set[str] = set()
        self.failures = 0

    def get(self, key: str) -> Any:
        self._fail("get")
        value = self.values.get(key)
        return None if value is None else json.loads(value)

    def set(self, key: str, value: Any) -> None:
        self._fail("set")
        self.values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self._fail("delete")
        self.values.pop(key, None)

    def _fail(self, what: str) -> None:
        self.failures -= 1
        if what in self.fails_to or self.failures >= 0:
            raise OSError("the API server is away")


def run_task(
    operator: BaseOperator,
    ti: TaskInstance | None = None,
    store: TaskStateStore | None = None,
    clear_number: int | None = None,
) -> Outcome:
    """Run a task to its end, through as many deferrals as it wants."""
    outcome = Outcome(ti or TaskInstance(operator.task_id))
    context: Any = {"ti": outcome.ti, "dag_run": SimpleNamespace(clear_number=clear_number)}
    if store is not None:
        context["task_state_store"] = store
    step: Callable[[], Any] = lambda: operator.execute(context)  # noqa: E731 - replaced at each deferral
    while True:
        try:
            outcome.value = step()
        except TaskDeferred as deferred:
            outcome.deferrals.append(deferred)
            event = fire(deferred)
            outcome.events.append(event)
            step = _resumption(operator, deferred, event, context)
            continue
        except Exception as error:  # noqa: BLE001 - a test looks at it
            outcome.error = error
        return outcome


def _resumption(
    operator: BaseOperator, deferred: TaskDeferred, event: dict[str, Any], context: Any
) -> Callable[[], Any]:
    return lambda: operator.resume_execution(deferred.method_name, {"event": event}, context)
