"""Run a sensor or operator as Airflow does, inline or deferred, without Airflow's processes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent
from pydantic import ImportString, TypeAdapter

from tests.features import HUMANS

if HUMANS.is_there():
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time.comms import (
        CreateHITLDetailPayload,
        ErrorResponse,
        GetHITLDetailResponse,
        GetVariable,
        UpdateHITLDetail,
    )

MODES = ["inline", "deferred"]


@dataclass
class TaskInstance:
    """As much of a task instance as operators use."""

    task_id: str
    dag_id: str = "d"
    run_id: str = "r"
    id: UUID = field(default_factory=uuid4)
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    context_carrier: dict[str, str] | None = None
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


def fire(deferred: TaskDeferred, ti: TaskInstance | None = None) -> dict[str, Any]:
    """Run a trigger as a triggerer does: made anew from what the database holds of it."""
    classpath, kwargs = deferred.trigger.serialize()
    trigger: BaseTrigger = TypeAdapter(ImportString[Any]).validate_python(classpath)(
        **json.loads(json.dumps(kwargs))
    )

    if ti is not None:
        trigger.task_instance = cast("Any", ti)

    async def first_event() -> TriggerEvent:
        events = [event async for event in trigger.run()]
        assert len(events) == 1, "a trigger fires once"
        return events[0]

    payload: dict[str, Any] = json.loads(json.dumps(asyncio.run(first_event()).payload))
    return payload


def waits_on_after(task: Any, event: object, context: Any) -> bool:
    """Defer a task, resume it with an event, and tell whether it then waits on as it did before."""
    with pytest.raises(TaskDeferred) as first:
        task.execute(context)
    with pytest.raises(TaskDeferred) as second:
        task.resume_execution("execute_complete", {"event": event, **(first.value.kwargs or {})}, context)
    before, after = (deferred.value.trigger.serialize()[1] for deferred in (first, second))
    is_same_trigger = {**after, "poll_from": before["poll_from"]} == before
    return bool(is_same_trigger and first.value.kwargs == second.value.kwargs)


@dataclass
class Question:
    """What Airflow keeps of a question to a human, one for each task instance."""

    subject: str
    body: str
    options: list[str]
    params: dict[str, Any]
    defaults: list[str] | None
    assigned_users: list[Any]
    response: dict[str, Any] | None = None


class HumanInTheLoop:
    """
    As much of Airflow's supervisor as questions to a human need, with Airflow 3.3.2's trap: a second question
    of a task instance keeps all of the first and only loses its response.

    :ivar after_first_look: a response that somebody gives once a trigger has looked for one in vain.
    """

    def __init__(self) -> None:
        self.questions: dict[UUID, Question] = {}
        self.asked = 0
        self.read_at: list[float] = []
        self.after_first_look: dict[str, Any] | None = None

    def send(self, msg: Any) -> Any:
        message = msg
        if isinstance(message, GetVariable):
            # There are none but those in the environment.
            return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": message.key})
        if isinstance(message, CreateHITLDetailPayload):
            self.asked += 1
            question = self.questions.setdefault(
                message.ti_id,
                Question(
                    message.subject,
                    message.body or "",
                    message.options,
                    dict(message.params or {}),
                    message.defaults,
                    [user.model_dump() for user in message.assigned_users or []],
                ),
            )
            question.response = None
        else:
            assert not isinstance(message, UpdateHITLDetail), "a worker's supervisor has no such call"
        return None

    async def asend(self, message: Any) -> Any:
        if isinstance(message, UpdateHITLDetail):
            question = self.questions[message.ti_id]
            if question.response is not None:
                raise RuntimeError("409: somebody has responded")
            question.response = chosen(message.chosen_options[0])
            return None
        assert isinstance(message, GetHITLDetailResponse)
        self.read_at.append(time.time())
        question = self.questions[message.ti_id]
        response = question.response or {}
        question.response = question.response or self.after_first_look
        user = response.get("responded_by_user")
        return SimpleNamespace(
            response_received=bool(response),
            chosen_options=response.get("chosen_options"),
            params_input=response.get("params_input"),
            responded_by_user=user and SimpleNamespace(**user),
        )


def chosen(option: str, text: str = "", user: str | None = None) -> dict[str, Any]:
    """Return the event that Airflow resumes a task with once a human has responded."""
    return {
        "chosen_options": [option],
        "params_input": {"answer": text},
        "responded_at": datetime.now(UTC),
        "responded_by_user": {"id": f"id-of-{user}", "name": user} if user else None,
        "timedout": False,
    }


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
    human: Iterable[dict[str, Any] | None] = (),
) -> Outcome:
    """
    Run a task to its end, through as many deferrals as it wants.

    :param human: what Airflow resumes the task with, one for each time that somebody is asked; None to let
        the trigger go on instead.
    """
    responses = iter(human)
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
            is_asked = bool((deferred.kwargs or {}).get("wait", {}).get("exchange", {}).get("asked"))
            event = (next(responses, None) if is_asked else None) or fire(deferred, outcome.ti)
            outcome.events.append(event)
            step = _resumption(operator, deferred, event, context)
            continue
        except Exception as error:  # noqa: BLE001 - a test looks at it
            outcome.error = error
        return outcome


def _resumption(
    operator: BaseOperator, deferred: TaskDeferred, event: dict[str, Any], context: Any
) -> Callable[[], Any]:
    return lambda: operator.resume_execution(
        deferred.method_name, {"event": event, **(deferred.kwargs or {})}, context
    )
