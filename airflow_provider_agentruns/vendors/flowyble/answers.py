"""Read Flowyble's answers."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from pydantic import JsonValue

from airflow_provider_agentruns.client.exceptions import (
    BadRequestError,
    InvalidInputError,
    ResponseFormatError,
)
from airflow_provider_agentruns.client.models import Run, RunRef, RunStatus, RunStep, Usage
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.vendors.base import normalize_status
from airflow_provider_agentruns.vendors.fields import (
    Answer,
    Count,
    Label,
    Lenient,
    Message,
    Number,
    Text,
    Timestamp,
    json_text,
)

CONN_TYPE = "flowyble"
_STATUSES = {
    "pending": RunStatus.QUEUED,
    "running": RunStatus.RUNNING,
    "completed": RunStatus.SUCCEEDED,
    "failed": RunStatus.FAILED,
    "cancelled": RunStatus.CANCELLED,
}


class Started(Answer):
    """The envelope of a start, also by webhook, which names the run and its kind."""

    success: Lenient[bool] = None
    message: Text = None
    id: Text = None
    run_id: Text = None
    type: Text = None
    status: Text = None


class Status(Answer):
    """Fields of agent and tool runs alike; those that one kind lacks stay None."""

    id: Text = None
    status: str
    agent_id: Label = None
    tool_id: Label = None
    tool_name: Label = None
    final_output: JsonValue = None
    output_data: JsonValue = None
    error_message: Message = None
    steps_executed: Count = None
    tokens_used: Count = None
    actions_used: Count = None
    credits_used: Number = None
    created_at: Timestamp = None
    started_at: Timestamp = None
    finished_at: Timestamp = None


class _TokenUsage(Answer):
    input_tokens: Count = None
    output_tokens: Count = None


class _Step(Answer):
    step_number: Count = None
    iteration_number: Count = None
    tool_name: Text = None
    input_data: JsonValue = None
    output_data: JsonValue = None
    reasoning: Text = None
    token_usage: Lenient[_TokenUsage] = None
    duration: Number = None


class Details(Status):
    """An agent run's status with its steps."""

    steps: Lenient[tuple[Lenient[_Step], ...]] = None


def run_of_status(ref: RunRef, answer: Status) -> Run:
    """Return the run that a status or result tells about."""
    status = normalize_status(_STATUSES, answer.status)
    output = answer.final_output if ref.kind == "agent" else json_text(answer.output_data)
    return Run(
        vendor=CONN_TYPE,
        run_id=ref.run_id,
        kind=ref.kind,
        agent_id=answer.agent_id or answer.tool_id,
        agent_name=answer.tool_name,
        status=status,
        raw_status=one_line(answer.status, 80),
        created_at=answer.created_at,
        started_at=answer.started_at,
        finished_at=answer.finished_at,
        usage=Usage(
            steps=answer.steps_executed,
            tokens=answer.tokens_used,
            actions=answer.actions_used,
            credits=answer.credits_used,
        ),
        error_message=answer.error_message,
        output=output if status is RunStatus.SUCCEEDED else None,
    )


def run_of_start(ref_of: Callable[[str, str | None], RunRef], answer: Started, kind: str | None) -> Run:
    """
    Return the run that was just started.

    :param ref_of: checks a run id and kind.
    :param kind: ``agent`` or ``tool``; None to take the answer's word.
    :raises BadRequestError: the vendor refused, though with a success as HTTP status.
    :raises ResponseFormatError: the answer holds no usable run id.
    """
    if answer.success is False:
        reason = f"the vendor says {one_line(answer.message)!r}" if answer.message else "no reason is given"
        raise BadRequestError(reason, status_code=HTTPStatus.OK)
    run_id = answer.id or answer.run_id
    try:
        ref = ref_of(run_id or "", kind or ("tool" if (answer.type or "").lower() == "tool" else "agent"))
    except InvalidInputError as error:
        raise ResponseFormatError(f"the answer names no usable run id: {error}") from None
    raw_status = answer.status or "Pending"
    return Run(
        vendor=CONN_TYPE,
        run_id=ref.run_id,
        kind=ref.kind,
        status=normalize_status(_STATUSES, raw_status),
        raw_status=one_line(raw_status, 80),
    )


def result_of_tool(run: Run, answer: Status) -> Run:
    """
    Return a tool run that has ended, with what only its result tells.

    :raises ResponseFormatError: the result says that the run goes on, as one from a stale replica would.
    """
    result = run_of_status(run.ref, answer)
    if not result.status.is_terminal:
        raise ResponseFormatError(f"the run has ended, but its result says {result.raw_status!r}")
    told = {"output": result.output, "agent_id": result.agent_id, "agent_name": result.agent_name}
    return run.model_copy(update={**told, "error_message": run.error_message or result.error_message})


def run_step(step: _Step) -> RunStep:
    """Return a step of an agent run."""
    usage = step.token_usage or _TokenUsage()
    return RunStep(
        number=step.step_number,
        iteration=step.iteration_number,
        tool_name=step.tool_name,
        input=json_text(step.input_data),
        output=json_text(step.output_data),
        reasoning=step.reasoning,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        duration_ms=step.duration,
    )
