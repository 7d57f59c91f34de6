"""What a Snorbe run asks of a human, read from its events, and the bodies of the answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from airflow_provider_agentruns.client.exceptions import InvalidInputError
from airflow_provider_agentruns.client.models import HumanAnswer, HumanRequest, HumanRequestKind
from airflow_provider_agentruns.client.text import bounded_text
from airflow_provider_agentruns.vendors.snorbe.options import parse_options
from airflow_provider_agentruns.vendors.snorbe.process import events

_LONGEST_TEXT = 20_000
# An entry of a draft says what it is under one of these names.
_TITLES = ("objective", "title", "name", "label", "heading", "question", "text", "goal", "id")
# Beside the draft itself, in its event.
_NO_DRAFT = {"type", "runId", "payload"}
# The parameters of a start that a resume takes as well.
_RESUME_OPTIONS = ("modelName", "promptKey", "locale")


def read_request(process: JsonValue, request: HumanRequest) -> HumanRequest:
    """
    Return a request in full.

    :param process: the run's events.
    :param request: as the run's status tells it.
    """
    draft: Mapping[str, Any] | None = None
    details: dict[str, JsonValue] = {}
    for name, data in events(process):
        if name == "config":
            details |= {key: data[key] for key in _RESUME_OPTIONS if isinstance(data.get(key), str)}
        elif name == "browse-start" and isinstance(info := data.get("websocketInfo"), dict):
            details["session_id"] = str(info.get("session_id") or "")
        elif name in _draft_events(request.topic):
            draft = data
    is_draft = request.kind is HumanRequestKind.APPROVAL
    content = {key: value for key, value in (draft or {}).items() if key not in _NO_DRAFT}
    text = _markdown(content) if is_draft else request.prompt
    return request.model_copy(
        update={
            "text": bounded_text(text, _LONGEST_TEXT) if text else "The draft is not among the run's events.",
            "version": _digest(content) if is_draft else request.id,
            "details": details,
        }
    )


def resume_body(details: Mapping[str, JsonValue], options: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what resumes a run as it was started.

    :param details: of the request that was answered: what the run's own events say.
    :param options: the start's, for what they do not say.
    :raises InvalidInputError: the options cannot be right.
    """
    known = {key: value for key, value in details.items() if key in _RESUME_OPTIONS}
    body = parse_options({**options, **known}).body()
    return {key: body[key] for key in _RESUME_OPTIONS}


def revision_body(
    run_id: str, text: str | None, details: Mapping[str, JsonValue], options: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Return what asks for another draft.

    :raises InvalidInputError: there is no text, or the options cannot be right.
    """
    model = resume_body(details, options)["modelName"]
    return {"runId": run_id, "answer": _needed(text), "modelName": model}


def browser_body(request: HumanRequest, text: str | None) -> dict[str, Any]:
    """
    Return the answer to a question of the browser.

    The vendor says that it needs the session id and documents no other field's name; this is the one place
    that guesses.

    :raises InvalidInputError: there is no text.
    """
    return {"session_id": request.details.get("session_id", ""), "answer": _needed(text)}


def secret_values(request: HumanRequest, answer: HumanAnswer) -> dict[str, str]:
    """
    Return the secrets to register.

    :raises InvalidInputError: there are none.
    """
    if not answer.secrets:
        raise InvalidInputError(f"no value is given for {', '.join(request.secret_names)}")
    return {name: value.get_secret_value() for name, value in answer.secrets.items()}


def _needed(text: str | None) -> str:
    if not text or not text.strip():
        raise InvalidInputError("the answer is empty")
    return text


def _draft_events(topic: str) -> set[str]:
    # The plan's first draft is named otherwise than those of reports and matrices.
    return {
        f"first-{topic}",
        f"{topic}-draft-complete",
        f"first-{topic}-structure",
        f"{topic}-structure-draft-complete",
    }


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _markdown(content: Mapping[str, Any]) -> str:
    """Lay a draft out: its documented parts (goal, steps, questions) and what else it holds, by name."""
    # The draft stands under its own name in the event.
    inner = [value for value in content.values() if isinstance(value, dict)]
    if len(inner) == len(content) == 1:
        content = inner[0]
    blocks: list[str] = []
    for name, value in content.items():
        if isinstance(value, list):
            items = [_item(item) for item in value]
            blocks.append(
                "\n".join([f"**{_words(name)}**", "", *(f"{n}. {item}" for n, item in enumerate(items, 1))])
            )
        elif isinstance(value, dict):
            blocks.append(f"**{_words(name)}**: {_item(value)}")
        elif value not in (None, ""):
            blocks.append(f"**{_words(name)}**: {value}")
    return "\n\n".join(blocks)


def _item(item: object) -> str:
    if not isinstance(item, dict):
        return str(item)
    title = next((name for name in _TITLES if isinstance(item.get(name), str)), None)
    rest = {key: value for key, value in item.items() if key not in {title, "id", "status"} and value}
    said = str(item[title]) if title else ""
    return said if not rest else f"{said} {json.dumps(rest, ensure_ascii=False, default=str)}".strip()


def _words(name: str) -> str:
    """Write a camel-case name as words."""
    spaced = "".join(f" {char.lower()}" if char.isupper() else char for char in name)
    return spaced.replace("_", " ").strip().capitalize()
