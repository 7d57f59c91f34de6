"""What every vendor's run looks like to the rest of the package."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, JsonValue, SecretStr

from airflow_provider_agentruns.client.exceptions import InvalidInputError
from airflow_provider_agentruns.client.text import one_line

MAX_RUN_ID_LENGTH = 200
_RUN_ID = re.compile(r"[A-Za-z0-9._~:=+@-]+", re.ASCII)


class RunStatus(StrEnum):
    """The vendor's word for how a run stands, normalized. The raw word is kept beside it."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        """Tell whether the run has ended for good."""
        return self in {RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}


def check_run_id(value: object) -> str:
    """
    Return a run id that is safe to put into a URL path.

    :param value: the run id as it came from outside, for example from an XCom.
    :raises InvalidInputError: it is empty, too long, or holds a character that no vendor's id has.
    """
    if value is None or value in ("", "None", "null"):
        raise InvalidInputError(f"run_id is {value!r}: the task or template that should give it gave nothing")
    if not isinstance(value, str):
        raise InvalidInputError(f"run_id is of type {type(value).__name__}, not a string")
    if len(value) > MAX_RUN_ID_LENGTH:
        raise InvalidInputError(f"run_id has {len(value)} characters; at most {MAX_RUN_ID_LENGTH} are taken")
    if not _RUN_ID.fullmatch(value) or not value.strip("."):
        raise InvalidInputError(f"run_id {one_line(value)!r} holds characters that a run id cannot have")
    return value


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunRef(_Frozen):
    """
    What identifies a run at its vendor.

    :param run_id: the vendor's id of the run.
    :param kind: what was run, where a vendor tells kinds apart: ``agent`` or ``tool``.
    """

    run_id: Annotated[str, AfterValidator(check_run_id)]
    kind: str = "agent"


class Usage(_Frozen):
    """What a run has used, as far as the vendor tells."""

    steps: int | None = None
    tokens: int | None = None
    actions: int | None = None
    credits: float | None = None


class HumanRequestKind(StrEnum):
    """What sort of answer a waiting run needs."""

    APPROVAL = "approval"
    QUESTION = "question"
    SECRET = "secret"  # noqa: S105 - the kind of request, not a secret
    AUTH = "auth"


class HumanRequest(_Frozen):
    """
    What a waiting run asks of a human.

    The last three are known once the request has been read in full.

    :param id: tells requests of one run apart, so that each is logged once.
    :param topic: the vendor's word for what is asked, such as ``plan``; the kind, if it has none.
    :param prompt: one line that says what is asked.
    :param answer_schema: JSON schema of an answer that is more than a text; its properties are the names of
        the secrets that are asked for.
    :param text: what is to be judged or answered, Markdown.
    :param version: tells a draft from the next one under the same id.
    :param details: what the adapter needs for an answer.
    """

    id: str
    kind: HumanRequestKind
    topic: str = ""
    prompt: str
    answer_schema: dict[str, JsonValue] = {}
    text: str | None = None
    version: str | None = None
    details: dict[str, JsonValue] = {}

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Return the names of the secrets that are asked for."""
        properties = self.answer_schema.get("properties")
        if self.kind is not HumanRequestKind.SECRET or not isinstance(properties, dict):
            return ()
        return tuple(properties)


class HumanAnswer(_Frozen):
    """
    What a human, or a policy in a human's place, says to a request; without text and secrets: accepted.

    :param text: an answer, or what to change.
    :param secrets: values by name; never shown by ``repr``.
    """

    text: str | None = None
    secrets: dict[str, SecretStr] = {}

    @property
    def is_acceptance(self) -> bool:
        """Tell whether a draft is taken as it is."""
        return self.text is None and not self.secrets


class RunStep(_Frozen):
    """One step of a run, as a vendor's details list it."""

    number: int | None = None
    iteration: int | None = None
    tool_name: str | None = None
    input: JsonValue = None
    output: JsonValue = None
    reasoning: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    duration_ms: float | None = None


class Source(_Frozen):
    """A page or document that a run's answer rests on."""

    url: str | None = None
    title: str | None = None
    type: str | None = None


class Image(_Frozen):
    """An image that a run found."""

    url: str
    thumbnail_url: str | None = None
    title: str | None = None
    link: str | None = None


class Agent(_Frozen):
    """An agent that a key may start."""

    id: str
    name: str | None = None
    is_default: bool = False


class Run(_Frozen):
    """
    One execution of an agent or tool at a vendor, as far as one answer tells.

    :param status: the normalized status; ``raw_status`` is the vendor's own word.
    :param output: the final output, present once it has been read; JSON where the vendor gives JSON.
    :param human_requests: what a run in status ``WAITING`` asks for.
    """

    vendor: str
    run_id: str
    kind: str = "agent"
    agent_id: str | None = None
    agent_name: str | None = None
    status: RunStatus
    raw_status: str
    created_at: AwareDatetime | None = None
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    usage: Usage = Usage()
    url: str | None = None
    error_message: str | None = None
    output: JsonValue = None
    human_requests: tuple[HumanRequest, ...] = ()
    sources: tuple[Source, ...] = ()
    images: tuple[Image, ...] = ()
    steps: tuple[RunStep, ...] = ()

    @property
    def ref(self) -> RunRef:
        """Return what identifies this run."""
        return RunRef(run_id=self.run_id, kind=self.kind)

    def summary(self) -> dict[str, Any]:
        """Return the run as JSON data without its output, small enough for an XCom."""
        return self.model_dump(
            mode="json",
            exclude={"output", "human_requests", "sources", "images", "steps"},
        )
