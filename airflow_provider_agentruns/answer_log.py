"""What an earlier try answered to its run, so that a retry neither answers twice nor leaves it half done."""

from __future__ import annotations

import logging

from airflow.providers.common.compat.sdk import Context
from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_provider_agentruns.client.models import HumanRequest
from airflow_provider_agentruns.exceptions import AgentRunUnreadable
from airflow_provider_agentruns.task_state_store import task_state_store

_KEY = "agent_run_answer"

log = logging.getLogger(__name__)


class _AcceptedRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    request: HumanRequest


class AnswerLog:
    """
    The record of an acceptance that is not finished: a draft is accepted in one call, and resumed in another.

    Before Airflow 3.3, which has no store, nothing is recorded.

    :param context: of the running task.
    """

    def __init__(self, context: Context) -> None:
        self._store = task_state_store(context)

    def begin(self, run_id: str, request: HumanRequest) -> None:
        """
        Record that a request is about to be accepted.

        :raises AgentRunUnreadable: it cannot be recorded; nothing must be sent then.
        """
        if self._store is None:
            return
        # The text can be long, and is not needed to resume.
        record = _AcceptedRequest(run_id=run_id, request=request.model_copy(update={"text": None}))
        try:
            self._store.set(_KEY, record.model_dump(mode="json"))
        except Exception as error:
            raise AgentRunUnreadable(
                f"Run {run_id}: nothing was answered: that cannot be recorded in the task state store "
                f"({type(error).__name__}: {error})",
                run_id=run_id,
            ) from error

    def unfinished(self, run_id: str) -> HumanRequest | None:
        """
        Return the request of a run that was, or may have been, accepted and not resumed.

        :raises AgentRunUnreadable: that cannot be told now.
        """
        if self._store is None:
            return None
        try:
            value = self._store.get(_KEY)
            record = None if value is None else _AcceptedRequest.model_validate(value)
        except ValidationError:
            log.warning("The record of an answer is of another version; it is ignored")
            return None
        except Exception as error:
            raise AgentRunUnreadable(
                f"Run {run_id}: what an earlier try answered cannot be read from the task state store "
                f"({type(error).__name__}: {error})",
                run_id=run_id,
            ) from error
        return record.request if record and record.run_id == run_id else None

    def done(self) -> None:
        """Record that nothing is left to do. Errors are logged: to resume twice does no harm."""
        if self._store is None:
            return
        try:
            self._store.delete(_KEY)
        except Exception:
            log.exception("That an answer is finished could not be recorded")
