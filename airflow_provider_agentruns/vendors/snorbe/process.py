"""Find the final text and the error in the events of a Snorbe run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import JsonValue


def final_text(process: JsonValue) -> str | None:
    """
    Return the run's final text, or None if its events hold none.

    The last ``complete`` event has it; after a report that one is empty and ``report-complete`` has it;
    else the deltas make it up, or the last ``responseText`` is it.
    """
    texts: dict[str, str] = {}
    deltas: list[str] = []
    for name, data in events(process):
        if name == "complete":
            texts["complete"] = _text(data, "text")
        elif name == "report-complete":
            texts["report"] = _text(data, "markdown")
        elif name == "delta":
            deltas.append(_text(data, "deltaText"))
        if response_text := _text(data, "responseText"):
            texts["response"] = response_text
    candidates = (texts.get("complete"), texts.get("report"), "".join(deltas), texts.get("response"))
    return next((text for text in candidates if text and text.strip()), texts.get("complete"))


def error_text(process: JsonValue) -> str | None:
    """Return the message of the last ``error`` event, or None if there is none."""
    messages = [_text(data, "message") for name, data in events(process) if name == "error"]
    return next((message for message in reversed(messages) if message), None)


def events(process: JsonValue) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """
    Yield each event's name, with hyphens, and its data.

    Names come with hyphens and with underscores; data stand flat beside the type, or in ``payload``.
    """
    for event in process if isinstance(process, list) else ():
        if isinstance(event, dict) and isinstance(event.get("type"), str):
            payload = event.get("payload")
            data = payload if isinstance(payload, dict) else event
            yield str(event["type"]).replace("_", "-"), data


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
