"""Read Snorbe's answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic import JsonValue, model_validator

from airflow_provider_agentruns.client.models import (
    HumanRequest,
    HumanRequestKind,
    Image,
    Run,
    RunRef,
    RunStatus,
    Source,
)
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.vendors.base import AcceptedStart, AcceptedStarts, Listing, normalize_status
from airflow_provider_agentruns.vendors.fields import Answer, Label, Lenient, Text, Timestamp, shortened
from airflow_provider_agentruns.vendors.snorbe.humans import read_request
from airflow_provider_agentruns.vendors.snorbe.process import error_text, final_text

CONN_TYPE = "snorbe"

# The status page and the vendor's own notes differ; the words of both are here.
_STATUSES = {
    "running": RunStatus.RUNNING,
    "completed": RunStatus.SUCCEEDED,
    "failed": RunStatus.FAILED,
    "error": RunStatus.FAILED,
    "cancelled": RunStatus.CANCELLED,
}

# Asked for at once. What is left over is asked for next.
_MOST_SECRETS = 20
_DRAFT_FLAG = re.compile(r"pending([A-Za-z]{1,40})Draft")


class _BrowseState(Answer):
    ask_human_question: Text = None


class _SkillState(Answer):
    skill_name: Text = None
    pending_secret_keys: Lenient[list[str]] = None


class StatusAnswer(Answer):
    """How a run stands. It tells no output, no error and no usage."""

    id: Text = None
    status: str
    created_at: Timestamp = None
    updated_at: Timestamp = None
    pending_drafts: tuple[str, ...] = ()
    browse_state: Lenient[_BrowseState] = None
    skill_state: Lenient[_SkillState] = None

    def run(self, ref: RunRef) -> Run:
        """Return the run that this tells about."""
        status = normalize_status(_STATUSES, self.status)
        # A draft waits also while the status says "completed"; a run that failed or was cancelled meanwhile
        # waits for nobody, nor does a browser or skill that has ended with its run.
        is_over = status in {RunStatus.FAILED, RunStatus.CANCELLED}
        requests = () if is_over else self._drafts()
        if not status.is_terminal:
            requests += self._questions()
        return Run(
            vendor=CONN_TYPE,
            run_id=ref.run_id,
            kind=ref.kind,
            status=RunStatus.WAITING if requests else status,
            raw_status=one_line(self.status, 80),
            created_at=self.created_at,
            updated_at=self.updated_at,
            finished_at=self.updated_at if status.is_terminal and not requests else None,
            human_requests=requests,
        )

    @model_validator(mode="before")
    @classmethod
    def _collect_drafts(cls, body: Any) -> Any:
        # Plan, report and matrix are documented. A kind that comes later must not pass for an end.
        if not isinstance(body, dict):
            return body
        flags = [(_DRAFT_FLAG.fullmatch(str(name)), value) for name, value in body.items()]
        return {**body, "pendingDrafts": [flag[1].lower() for flag, value in flags if flag and value is True]}

    def _drafts(self) -> tuple[HumanRequest, ...]:
        return tuple(
            HumanRequest(
                id=f"{draft}-draft",
                kind=HumanRequestKind.APPROVAL,
                topic=draft,
                prompt=f"a {draft} draft waits for review",
            )
            for draft in self.pending_drafts
        )

    def _questions(self) -> tuple[HumanRequest, ...]:
        requests = []
        if self.browse_state and self.browse_state.ask_human_question:
            question = one_line(self.browse_state.ask_human_question)
            requests.append(
                HumanRequest(
                    id=f"browser:{question}",
                    kind=HumanRequestKind.QUESTION,
                    topic="browser",
                    prompt=f"the browser asks: {question}",
                )
            )
        if self.skill_state and self.skill_state.pending_secret_keys:
            asked = self.skill_state.pending_secret_keys[:_MOST_SECRETS]
            names = ", ".join(one_line(name, 80) for name in asked)
            skill = one_line(self.skill_state.skill_name or "a skill", 80)
            requests.append(
                HumanRequest(
                    id=f"secret:{names}",
                    kind=HumanRequestKind.SECRET,
                    topic="secret",
                    prompt=f"{skill} needs secrets: {names}",
                    answer_schema={
                        "type": "object",
                        "properties": {name: {"type": "string", "format": "password"} for name in asked},
                        "required": list(asked),
                    },
                )
            )
        return tuple(requests)


class _LinkedSource(Answer):
    url: Text = None
    title: Text = None
    source_type: Text = None


class _Image(Answer):
    image_url: str
    thumbnail_url: Text = None
    title: Text = None
    link: Text = None


class RunAnswer(Answer):
    """A run with all its events."""

    id: Text = None
    # It may be null, not missing: any answer would pass for a run that succeeded and has nothing to say.
    process: list[JsonValue] | None
    agent_id: Label = None
    agent_name: Label = None
    linked_sources: Lenient[list[Lenient[_LinkedSource]]] = None
    images: Lenient[list[Lenient[_Image]]] = None

    def in_full(self, request: HumanRequest) -> HumanRequest:
        """Return what a run asks with the text to judge, and what an answer needs."""
        return read_request(self.process, request)

    def complete(self, run: Run) -> Run:
        """Return a run that has ended, with its output or error."""
        return run.model_copy(
            update={
                "agent_id": self.agent_id,
                "agent_name": self.agent_name,
                "output": final_text(self.process) if run.status is RunStatus.SUCCEEDED else None,
                "error_message": None if run.status is RunStatus.SUCCEEDED else self._error(),
                "sources": tuple(
                    Source(url=source.url, title=source.title, type=source.source_type)
                    for source in self.linked_sources or ()
                    if source
                ),
                "images": tuple(
                    Image(
                        url=image.image_url,
                        thumbnail_url=image.thumbnail_url,
                        title=image.title,
                        link=image.link,
                    )
                    for image in self.images or ()
                    if image
                ),
            }
        )

    def _error(self) -> str | None:
        message = error_text(self.process)
        return message and shortened(message)


class _TurnRun(Answer):
    id: Text = None
    status: Text = None


class _Turn(Answer):
    id: Text = None
    kind: Text = None
    content: Text = None
    created_at: Timestamp = None
    agent_run_id: Text = None
    agent_run: Lenient[_TurnRun] = None


class TurnsAnswer(Answer):
    """The newest turns. One that belongs to a run says that it has answered, failed, or stopped to ask."""

    turns: list[Lenient[_Turn]]
    next_cursor: Text = None

    def accepted_starts(self, input_text: str, since: float, ref: Callable[[str], RunRef]) -> AcceptedStarts:
        """
        Return the starts that these turns show: a user's turn with the same text.

        :param since: what is older is left out; seconds since the epoch.
        :param ref: makes of a run id what identifies the run.
        """
        starts = []
        is_older = False
        for turn in self.turns:
            if turn is None or turn.created_at is None:
                continue
            at = turn.created_at.timestamp()
            is_older = is_older or at < since
            if at >= since and turn.kind == "user" and turn.content == input_text:
                starts.append(AcceptedStart(at, ref(turn.agent_run_id) if turn.agent_run_id else None))
        return AcceptedStarts(tuple(starts), None if is_older else self.next_cursor)

    def listing(self) -> Listing:
        """Return the runs that these turns are about, marked by turn and status."""
        changed: dict[str, str] = {}
        for turn in self.turns:
            run = (turn and turn.agent_run) or _TurnRun()
            run_id = run.id or (turn and turn.agent_run_id)
            # A user's turn is there when the run begins.
            if turn and run_id and turn.kind != "user":
                # The first is the newest.
                changed.setdefault(run_id, f"{turn.id} {run.status}")
        return Listing(changed)


class Workspace(Answer):
    """The workspace that a key belongs to."""

    workspace_name: Text = None


class AgentAnswer(Answer):
    """An agent of the key's workspace."""

    id: str
    name: Text = None
    is_default: Lenient[bool] = None
