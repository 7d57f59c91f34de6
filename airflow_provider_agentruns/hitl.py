"""Airflow's human in the loop (3.1 and newer): ask in the UI, read the response, close the question."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from uuid import UUID

from airflow.providers.common.compat.sdk import conf
from airflow.sdk import Param
from airflow.utils.state import TaskInstanceState
from pydantic import BaseModel, ConfigDict

APPROVE, ANSWER, REJECT = "Approve", "Answer", "Reject"
OPTIONS = (APPROVE, ANSWER, REJECT)
ANSWERED_ELSEWHERE = "Answered at the vendor"
RUN_IS_OVER = "The run is over"
NO_RESPONSE = "No response in time"
NOBODY_WAITS = "The task waits no more"
REQUEST_KEY = "human_request"

IS_AVAILABLE = importlib.util.find_spec("airflow.sdk.execution_time.hitl") is not None
# Airflow 3.3 resumes a deferred task as soon as somebody has responded; before, its trigger has to look.
_AIRFLOW_RESUMES = hasattr(TaskInstanceState, "AWAITING_INPUT")
_LOOK_AGAIN = 5.0
# Seconds within which a triggerer ends a trigger whose task has been resumed.
_TRIGGER_ENDS = 5.0

_SUBJECT = "An agent's run asks for a decision"
_TEXT_FIELD = "answer"
_TEXT_HELP = "With Answer: what to change in a draft, a reply, or for secrets NAME=conn:… or NAME=var:…"

log = logging.getLogger(__name__)

T = TypeVar("T")


class HumanResponse(BaseModel):
    """
    What a human chose in Airflow.

    :param option: one of ``OPTIONS``.
    :param text: what was written, None if nothing was.
    :param user: who it was; None for the default that counts when nobody has responded.
    """

    model_config = ConfigDict(frozen=True)

    option: str
    text: str | None = None
    user: str | None = None

    @classmethod
    def of(cls, event: object) -> HumanResponse | None:
        """Return what an event says that Airflow resumes a task with, None if it is another's event."""
        if not isinstance(event, dict) or not event.get("chosen_options"):
            return None
        text = (event.get("params_input") or {}).get(_TEXT_FIELD)
        user = event.get("responded_by_user") or {}
        return cls(
            option=str(event["chosen_options"][0]),
            text=text if isinstance(text, str) and text.strip() else None,
            user=user.get("name") or user.get("id"),
        )


def ask(ti: Any, *, assigned_users: Sequence[Any] | None, default: str | None, request_url: str) -> None:
    """
    Ask under the task's Required Actions; a response to an earlier question is taken away.

    Up to 3.3 Airflow keeps the first question's subject, body, options and fields for good, over retries and
    clears too. So all of it holds for any request; what is asked now stands in the task's log and XCom.

    :param request_url: where the log is shown.
    """
    # Not at the top: Airflow 3.0 has no human in the loop.
    from airflow.sdk.execution_time.hitl import upsert_hitl_detail  # noqa: PLC0415

    field = Param("", type=["string", "null"], format="multiline", title="Answer", description_md=_TEXT_HELP)
    upsert_hitl_detail(
        ti_id=ti.id,
        options=list(OPTIONS),
        subject=_SUBJECT,
        body=(
            f"The agent's run of this task waits. **[Read what it asks]({request_url})**: the task's log "
            f"shows the draft or question as it is now, and the XCom `{REQUEST_KEY}` has it, too.\n\n"
            f"- **{APPROVE}**: take the draft as it is, and let the run go on.\n"
            f"- **{ANSWER}**: send the text below; for a draft it says what to change, and the next draft "
            "comes back here. For secrets name where Airflow has them, as `NAME=conn:…` or `NAME=var:…`; "
            "never write a secret itself, Airflow would store it readably.\n"
            f"- **{REJECT}**: fail the task.\n\n"
            "It may be answered at the vendor as well; whichever comes first counts."
        ),
        defaults=[default] if default else None,
        params={_TEXT_FIELD: field.serialize()},
        assigned_users=list(assigned_users) if assigned_users else None,
    )


def task_url(ti: Any) -> str:
    """Return where the UI shows a task's log; a path, since the UI's host may have many names."""
    prefix = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    mapped = f"/mapped/{ti.map_index}" if ti.map_index >= 0 else ""
    run = f"/dags/{quote(ti.dag_id, safe='')}/runs/{quote(ti.run_id, safe='')}"
    return f"{prefix}{run}/tasks/{quote(ti.task_id, safe='')}{mapped}"


async def close(ti_id: UUID, reason: str) -> bool:
    """
    Close the question from a triggerer: nobody need respond any more. A worker's supervisor has no such call.

    :param reason: what the UI shows in place of a choice.
    :return: whether it was open.
    """
    from airflow.sdk.execution_time.comms import UpdateHITLDetail  # noqa: PLC0415
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # noqa: PLC0415

    try:
        await SUPERVISOR_COMMS.asend(UpdateHITLDetail(ti_id=ti_id, chosen_options=[reason], params_input={}))
    except Exception as error:  # noqa: BLE001 - whatever it is, the run matters more
        # As when somebody has responded in this very moment, or there is no question.
        log.info("No question in Airflow was closed (%s): %s", reason, type(error).__name__)
        return False
    return True


async def read_response(ti_id: UUID) -> dict[str, Any] | None:
    """Return the response to a question as the event that resumes its task, None if there is none yet."""
    from airflow.sdk.execution_time.comms import GetHITLDetailResponse  # noqa: PLC0415
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # noqa: PLC0415

    try:
        detail: Any = await SUPERVISOR_COMMS.asend(GetHITLDetailResponse(ti_id=ti_id))
    except Exception:
        log.exception("Whether somebody has responded in Airflow cannot be read now")
        return None
    if not detail.response_received:
        return None
    user = detail.responded_by_user
    return {
        "chosen_options": list(detail.chosen_options or []),
        "params_input": dict(detail.params_input or {}),
        "responded_by_user": {"id": user.id, "name": user.name} if user else None,
    }


async def response_in_airflow(ti_id: UUID, *, look_from: float) -> dict[str, Any] | None:
    """
    Return a response that Airflow itself does not resume a deferred task with.

    Airflow 3.3 resumes it, but for a response that came before the task was deferred: that one is returned
    when Airflow has had the time to end this trigger.

    :param look_from: when to look first, seconds since the epoch.
    :return: None if there is none, and Airflow will resume the task when there is.
    """
    await asyncio.sleep(max(0.0, look_from - time.time()))
    while True:
        response = await read_response(ti_id)
        if response:
            # It may have come since the task was deferred.
            await leave_to_airflow()
        if response or _AIRFLOW_RESUMES:
            return response
        await asyncio.sleep(_LOOK_AGAIN)


async def leave_to_airflow() -> None:
    """
    Wait for the end of a trigger whose task Airflow has resumed with a response.

    An event that it fired yet could reach the trigger that the task has by then: on SQLite it may have the
    same id.
    """
    if _AIRFLOW_RESUMES:
        await asyncio.sleep(_TRIGGER_ENDS)


async def first_of(
    response: Coroutine[Any, Any, dict[str, Any] | None], watching: Coroutine[Any, Any, T]
) -> tuple[dict[str, Any] | None, T | None]:
    """Return a response in Airflow or what the watching of the run came to, whichever is first."""
    responding, watch = asyncio.ensure_future(response), asyncio.ensure_future(watching)
    try:
        await asyncio.wait({responding, watch}, return_when=asyncio.FIRST_COMPLETED)
        if responding.done() and (event := responding.result()):
            return event, None
        return None, await watch
    finally:
        for task in (responding, watch):
            task.cancel()
        await asyncio.gather(responding, watch, return_exceptions=True)
